// What a worker needs of ports: where to read, where to send, how to wake the host-I/O thread.

public import CDPDK
public import CLinux

/// How frames leave through a port: one word, so that it changes in place under running workers.
@frozen public struct PortIO: Equatable, Sendable {
    public enum Kind: UInt8, Sendable {
        /// No such port: a frame for it is dropped and counted.
        case none = 0
        /// `pe_eth_tx_burst(ethdev, …)`.
        case ethdev = 1
        /// Set `mbuf.port` to the port's index and enqueue on ``WorkerIO/txRing``.
        case kernel = 2
    }
    /// What the driver can do for us.
    @frozen public struct Features: OptionSet, Sendable {
        public let rawValue: UInt8
        @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
        /// Takes chained buffers; without it the pipeline must linearise.
        public static let multiSegment = Features(rawValue: 1)
        /// It has fewer tx queues than there are workers: those without one hand their frames to a
        /// worker that has one, see ``WorkerIO/way(to:)``.
        public static let sharedQueue = Features(rawValue: 2)
        /// Marks received checksums good or bad in `ol_flags`.
        public static let rxChecksum = Features(rawValue: 4)
        /// Fills in the IPv4 header checksum on request (`RTE_MBUF_F_TX_IP_CKSUM`).
        public static let txIPv4Checksum = Features(rawValue: 8)
        /// Fills in the UDP checksum on request (`RTE_MBUF_F_TX_UDP_CKSUM`).
        public static let txUDPChecksum = Features(rawValue: 16)
        /// Frames arrive in the buffers in which they were sent, which others may still hold.
        public static let sharesBuffers = Features(rawValue: 32)
    }

    public let word: UInt64

    @inlinable public init(word: UInt64) { self.word = word }
    @inlinable public init(
        kind: Kind,
        features: Features,
        ethdev: UInt16,
        txQueueCount: UInt8,
        firstWorker: UInt8 = 0,
        mtu: UInt16
    ) {
        word =
            UInt64(kind.rawValue) | UInt64(features.rawValue) << 8 | UInt64(ethdev) << 16
            | UInt64(txQueueCount) << 32 | UInt64(firstWorker) << 40 | UInt64(mtu) << 48
    }
    @inlinable public static var none: PortIO { PortIO(word: 0) }
    @inlinable public var isKernel: Bool { word & 0xff == 2 }
    @inlinable public var isEthdev: Bool { word & 0xff == 1 }
    /// A DPDK port with an id below 64.
    @inlinable @inline(__always) public var isLowEthdev: Bool { word & 0xFFC0_00FF == 1 }
    @inlinable public var features: Features {
        Features(rawValue: UInt8(truncatingIfNeeded: word &>> 8))
    }
    @inlinable public var supportsMultiSegment: Bool { features.contains(.multiSegment) }
    /// DPDK's port id.
    @inlinable public var ethdev: UInt16 { UInt16(truncatingIfNeeded: word &>> 16) }
    @inlinable public var txQueueCount: UInt16 { UInt16(truncatingIfNeeded: word &>> 32 & 0xff) }
    /// The worker that polls its first queue, and sends on its first where workers share queues.
    @inlinable public var firstWorker: UInt16 { UInt16(truncatingIfNeeded: word &>> 40 & 0xff) }
    /// How worker `worker` of `workerCount` sends: on a queue of its own, or through the worker that has
    /// one for it. Workers take turns from ``firstWorker`` on.
    @inlinable public func txQueue(worker: UInt16, of workerCount: UInt16) -> TxQueue {
        if !features.contains(.sharedQueue) { return .own(worker) }
        let rank = worker >= firstWorker
            ? worker &- firstWorker : worker &+ workerCount &- firstWorker
        let queues = max(1, txQueueCount)
        if rank < queues { return .own(rank) }
        let owner = firstWorker &+ rank % queues
        return .of(worker: owner < workerCount ? owner : owner &- workerCount)
    }
    public enum TxQueue: Equatable {
        case own(UInt16)
        /// Hand the frames to this worker.
        case of(worker: UInt16)
    }
    /// Largest layer 3 packet in bytes.
    @inlinable public var mtu: UInt16 { UInt16(truncatingIfNeeded: word &>> 48) }
}

/// One ethdev queue that a worker polls.
@frozen public struct PolledQueue: Sendable {
    public var ethdev: UInt16
    public var queue: UInt16
    /// The pe-dp port index; the driver puts its own id into `mbuf.port`.
    public var port: UInt16
    public var features: PortIO.Features
    public init(ethdev: UInt16, queue: UInt16, port: UInt16, features: PortIO.Features) {
        self.ethdev = ethdev
        self.queue = queue
        self.port = port
        self.features = features
    }
}

/// The ethdev queues of one worker, unchanged until the worker asks again.
@frozen public struct PollList: Sendable {
    @usableFromInline nonisolated(unsafe) let base: UnsafePointer<PolledQueue>
    public let count: Int
    @inlinable init(base: UnsafePointer<PolledQueue>, count: Int) {
        self.base = base
        self.count = count
    }
    /// - Precondition: `index` is in `0..<count`.
    @inlinable public subscript(index: Int) -> PolledQueue { base[index] }
}

/// How another worker is reached: the ring in which it takes frames to send for others (`mbuf.port` is the
/// port), and what wakes it.
public struct WorkerPeer: @unchecked Sendable {
    public let ring: OpaquePointer
    public let doorbell: UnsafeMutablePointer<pe_doorbell>
}

/// One worker's way to all ports; raw memory owned by ``PortRegistry``, which outlives the workers.
///
/// ``online()`` once; per loop ``pollList()`` first (it also tells the registry that frames of
/// older ports are gone), then `exceptionRing`, `rxRing` and the polled queues;
/// `pe_doorbell_ring(hostDoorbell)` after enqueueing on `txRing`. An idle worker calls
/// `pe_worker_wait(doorbell, rxRing, exceptionRing, handoverRing, microseconds)`; a worker that stops calls
/// ``offline()``.
@frozen public struct WorkerIO: @unchecked Sendable {
    public let worker: UInt16
    /// Data frames of kernel ports; `mbuf.port` is the pe-dp port index.
    public let rxRing: OpaquePointer
    /// Frames that the host sent through exception TAPs; `mbuf.port` is the TAP's own index.
    public let exceptionRing: OpaquePointer
    /// Frames to any kernel port; `mbuf.port` is the destination's index.
    public let txRing: OpaquePointer
    /// This worker's own, rung by the host-I/O thread and by workers that hand frames over.
    public let doorbell: UnsafeMutablePointer<pe_doorbell>
    /// The host-I/O thread's, to ring after filling `txRing`.
    public let hostDoorbell: UnsafeMutablePointer<pe_doorbell>
    public let portCapacity: UInt32
    @usableFromInline let ports: UnsafeMutablePointer<UInt64>
    @usableFromInline let polled: UnsafeMutablePointer<PollSlot>
    /// All workers, this one at its own place.
    public let peers: UnsafePointer<WorkerPeer>
    public let peerCount: UInt16
    /// Frames that other workers hand to this one, because it has a tx queue of the port in `mbuf.port`.
    public var handoverRing: OpaquePointer { peers[Int(worker)].ring }

    /// What the port is now; ``PortIO/none`` for an index out of range.
    @inlinable public func port(_ index: UInt16) -> PortIO {
        UInt32(index) < portCapacity ? PortIO(word: pe_load64(ports + Int(index))) : .none
    }
    /// The queues to poll in this loop.
    @inlinable public func pollList() -> PollList {
        let slot = polled
        let generation = pe_load64(&slot.pointee.generation)
        pe_store64(&slot.pointee.seen, generation)
        let index = Int(truncatingIfNeeded: generation & 1)
        let bank = slot.pointee.banks + index &* PollSlot.queueCapacity
        let count = index == 0 ? slot.pointee.count0 : slot.pointee.count1
        return PollList(base: UnsafePointer(bank), count: Int(count))
    }
    /// Says that this worker is about to poll; once, before its first ``pollList()``.
    @inlinable public func online() {
        pe_store64(&polled.pointee.seen, 0)
        pe_fence()
    }
    /// Says that this worker polls nothing any more, so that nobody waits for it.
    @inlinable public func offline() { pe_store64(&polled.pointee.seen, .max) }
}

/// Two banks of queues: the registry fills the one that no worker reads, then flips `generation`.
@usableFromInline struct PollSlot {
    /// DPDK's port limit times the queues one worker may serve of each.
    @usableFromInline static var queueCapacity: Int { 64 }
    /// Its lowest bit says which bank is valid.
    ///
    /// Written by the registry.
    @usableFromInline var generation: UInt64 = 0
    @usableFromInline var count0: UInt32 = 0
    @usableFromInline var count1: UInt32 = 0
    @usableFromInline let banks: UnsafeMutablePointer<PolledQueue>
    /// The generation that the worker saw last; `.max` while it is not running.
    ///
    /// On a line of its own.
    var padding: (UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0)
    @usableFromInline var seen: UInt64 = .max
    init(banks: UnsafeMutablePointer<PolledQueue>) { self.banks = banks }
}
