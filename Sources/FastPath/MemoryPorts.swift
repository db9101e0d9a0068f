// Ports without devices: packets are handed in and taken out by the caller. For replay and tests.

public import CDPDK
import CLinux
import Tables

/// Everything a ``Worker`` needs of ports, in memory. All ports are kernel ports to the worker: what
/// it sends comes out of ``takeSent()`` with its port, in the order in which it left.
///
/// Needs a started ``Environment``. One worker; one thread, beside the worker's own while its loop
/// runs.
public final class MemoryPorts {
    public let io: WorkerIO
    private let words: UnsafeMutablePointer<UInt64>
    private let polled: UnsafeMutablePointer<PollSlot>
    private let queues: UnsafeMutablePointer<PolledQueue>
    private let doorbells: UnsafeMutablePointer<pe_doorbell>
    private let rings: [OpaquePointer]
    private let peers: UnsafeMutablePointer<WorkerPeer>
    private static let peerCapacity = 64

    /// - Parameters:
    ///   - name: unique among the process's rings, at most 20 characters.
    ///   - portCapacity: port indexes are below it.
    ///   - txCapacity: frames that can wait to be taken, a power of two; beyond, they are dropped.
    ///   - worker: the worker that they are for, of `workers`; see ``join(_:)``.
    /// - Returns: nil when there is no memory for the rings.
    public init?(
        name: String, portCapacity: Int = 64, txCapacity: UInt32 = 4096, worker: Int = 0, workers: Int = 1
    ) {
        precondition(worker < workers && workers <= Self.peerCapacity)
        func ring(_ suffix: String, _ count: UInt32) -> OpaquePointer? {
            pe_ring_create("\(name)_\(suffix)", count, 1, -1)
        }
        let made = [ring("rx", 1024), ring("ex", 1024), ring("tx", txCapacity), ring("ho", 1024)]
        rings = made.compactMap { $0 }
        guard rings.count == 4 else {
            for ring in rings { pe_ring_free(ring) }
            return nil
        }
        words = .allocate(capacity: portCapacity)
        words.initialize(repeating: 0, count: portCapacity)
        queues = .allocate(capacity: 2 * PollSlot.queueCapacity)
        polled = .allocate(capacity: 1)
        polled.initialize(to: PollSlot(banks: queues))
        doorbells = .allocate(capacity: 2)
        doorbells.initialize(repeating: pe_doorbell(), count: 2)
        _ = pe_doorbell_open(doorbells)
        _ = pe_doorbell_open(doorbells + 1)
        peers = .allocate(capacity: workers)
        peers.initialize(repeating: WorkerPeer(ring: rings[3], doorbell: doorbells), count: workers)
        io = WorkerIO(
            worker: UInt16(worker), rxRing: rings[0], exceptionRing: rings[1], txRing: rings[2], doorbell: doorbells,
            hostDoorbell: doorbells + 1, portCapacity: UInt32(truncatingIfNeeded: portCapacity),
            ports: words, polled: polled, peers: peers, peerCount: UInt16(workers))
    }
    deinit {
        for ring in rings {
            free(Self.drain(ring))
            pe_ring_free(ring)
        }
        pe_doorbell_close(doorbells)
        pe_doorbell_close(doorbells + 1)
        doorbells.deallocate()
        peers.deallocate()
        polled.deallocate()
        queues.deallocate()
        words.deallocate()
    }

    /// Lets the workers of these ports, by index, hand frames to each other; before any of them runs. They
    /// must live as long as any of them is used.
    public static func join(_ all: [MemoryPorts]) {
        for one in all {
            for (index, other) in all.enumerated() where index < Int(one.io.peerCount) {
                one.peers[index] = WorkerPeer(ring: other.rings[3], doorbell: other.doorbells)
            }
        }
    }

    /// Makes a port able to send, or changes its MTU. Its record in the tables is the caller's.
    public func setPort(
        _ index: UInt16, mtu: UInt16, features: PortIO.Features = [.multiSegment]
    ) {
        guard UInt32(index) < io.portCapacity else { return }
        let port = PortIO(kind: .kernel, features: features, ethdev: 0, txQueueCount: 1, mtu: mtu)
        pe_store64(words + Int(index), port.word)
    }
    /// Makes port `index` stand for an ethdev: the worker polls `queue` of it, and sends on the queue of
    /// its own index.
    public func setEthdev(
        _ index: UInt16, ethdev: UInt16, queue: UInt16 = 0, mtu: UInt16,
        features: PortIO.Features = [.multiSegment]
    ) {
        let count = Int(polled.pointee.count0)
        guard UInt32(index) < io.portCapacity, count < PollSlot.queueCapacity else { return }
        let port = PortIO(kind: .ethdev, features: features, ethdev: ethdev, txQueueCount: 1, mtu: mtu)
        pe_store64(words + Int(index), port.word)
        queues[count] = PolledQueue(ethdev: ethdev, queue: queue, port: index, features: features)
        polled.pointee.count0 = UInt32(count + 1)
    }
    /// Takes a port away: what is sent to it is dropped.
    public func removePort(_ index: UInt16) {
        guard UInt32(index) < io.portCapacity else { return }
        pe_store64(words + Int(index), PortIO.none.word)
    }

    /// What the worker sent, oldest first; `mbuf.port` is the port it left through. The caller frees
    /// the buffers.
    public func takeSent() -> [MBuf] { Self.drain(io.txRing) }

    /// Puts a frame where the worker's loop finds frames of kernel ports, or of the host; false when
    /// the ring is full and the buffer still the caller's.
    public func receive(_ packet: MBuf, fromHost: Bool = false) -> Bool {
        var packet = packet
        let ring = fromHost ? io.exceptionRing : io.rxRing
        guard pe_ring_enqueue_burst(ring, &packet, 1) == 1 else { return false }
        pe_doorbell_ring(io.doorbell)
        return true
    }

    public func free(_ packets: [MBuf]) { for packet in packets { pe_mbuf_free(packet) } }

    private static func drain(_ ring: OpaquePointer) -> [MBuf] {
        var result: [MBuf] = []
        withUnsafeTemporaryAllocation(of: MBuf.self, capacity: 64) { buffer in
            guard let base = buffer.baseAddress else { return }
            while true {
                let count = Int(pe_ring_dequeue_burst(ring, base, 64))
                if count == 0 { return }
                result.append(contentsOf: buffer[0..<count])
            }
        }
        return result
    }
}

/// Copies between byte arrays and packet buffers.
public enum PacketBytes {
    /// A buffer that holds `bytes` and came from `port`; nil when the pool is empty or the bytes do
    /// not fit one buffer. `headroom` other than the pool's own leaves that many bytes in front.
    public static func make(
        _ bytes: [UInt8], port: UInt16, pool: OpaquePointer, headroom: Int? = nil
    ) -> MBuf? {
        guard let mbuf = pe_mbuf_alloc(pool) else { return nil }
        let start = headroom ?? Int(mbuf.pointee.data_off)
        guard start >= 0, bytes.count <= Int(mbuf.pointee.buf_len) - start else {
            pe_mbuf_free(mbuf)
            return nil
        }
        mbuf.pointee.data_off = UInt16(truncatingIfNeeded: start)
        bytes.withUnsafeBytes { source in
            if let base = source.baseAddress {
                Packet(mbuf).frame.copyMemory(from: base, byteCount: source.count)
            }
        }
        mbuf.pointee.data_len = UInt16(truncatingIfNeeded: bytes.count)
        mbuf.pointee.pkt_len = UInt32(truncatingIfNeeded: bytes.count)
        mbuf.pointee.port = port
        return mbuf
    }
    /// One frame in several buffers; nil when the pool is empty, a part does not fit or there is none.
    public static func chain(_ parts: [[UInt8]], port: UInt16, pool: OpaquePointer) -> MBuf? {
        var head: MBuf?
        for part in parts {
            let next = make(part, port: port, pool: pool)
            if let first = head, let next {
                if pe_mbuf_chain(first, next) == 0 { continue }
                pe_mbuf_free(next)
            } else if head == nil, let next {
                head = next
                continue
            }
            if let first = head { pe_mbuf_free(first) }
            return nil
        }
        return head
    }
    /// The whole frame, over all segments.
    public static func of(_ packet: MBuf) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(Int(packet.pointee.pkt_len))
        var segment: MBuf? = packet
        while let current = segment {
            let view = Packet(current)
            result.append(
                contentsOf: UnsafeRawBufferPointer(start: view.frame, count: view.contiguous))
            segment = current.pointee.next
        }
        return result
    }
}
