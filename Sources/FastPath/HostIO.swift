// The host-I/O thread's owner: rings to the workers, and ports coming and going while it runs.

import CDPDK
import CLinux
import Glibc
import Synchronization

/// What one worker and the host-I/O thread share.
struct WorkerRings {
    let rx: OpaquePointer
    let exception: OpaquePointer
    let tx: OpaquePointer
    /// Frames that other workers hand to this one to send.
    let handover: OpaquePointer
    let doorbell: UnsafeMutablePointer<pe_doorbell>
}

/// One kernel port as the host-I/O thread sees it.
///
/// Raw memory, one per port index.
struct KernelPortState {
    /// -1: the device is away, or there is no port.
    var fd: Int32 = -1
    var index: UInt16 = 0
    var worker: UInt16 = 0
    var isTAP = false
    var isException = false
    /// Frames of the current burst for this port, linked through the burst's `next`.
    var txFirst: Int16 = -1
    var txLast: Int16 = -1
    /// How often the device may be asked again when it takes nothing.
    var txPatience = HostSender.attempts
    /// One per ``PortCounter``; written by the host-I/O thread only.
    let counters: UnsafeMutablePointer<UInt64>
}

/// Serves all kernel ports on one thread: it sleeps in epoll and exchanges frames with the workers.
///
/// All of its memory lives as long as the process, as the workers' does.
public final class HostIO: @unchecked Sendable {
    enum Command: Sendable {
        case attach(index: UInt16, fd: Int32, worker: UInt16, isTAP: Bool, isException: Bool)
        /// The descriptor may be closed, and no frame of the port is held, once this is done.
        case detach(index: UInt16)
    }
    private struct Queue {
        var commands: [Command] = []
        /// How many were ever queued, and how many the thread has carried out.
        var queued = 0
        var done = 0
        var lost: [UInt16] = []
        var isStopping = false
    }

    static let rxRingCapacity: UInt32 = 4096
    static let exceptionRingCapacity: UInt32 = 1024
    static let txRingCapacity: UInt32 = 4096
    static let handoverRingCapacity: UInt32 = 2048

    let environment: Environment
    let portCapacity: Int
    let rings: UnsafeMutableBufferPointer<WorkerRings>
    /// How workers reach each other.
    let peers: UnsafeMutablePointer<WorkerPeer>
    var workerCount: Int { rings.count }
    let ports: UnsafeMutablePointer<KernelPortState>
    let doorbell: UnsafeMutablePointer<pe_doorbell>
    /// Set when there are commands, so that the thread looks at the queue only then.
    let hasCommands: UnsafeMutablePointer<UInt32>
    /// Frames that a worker sent to an index where there is no kernel port.
    let strays: UnsafeMutablePointer<UInt64>
    /// Readable when a port lost its device.
    let lostEvent: Int32
    private let queue = Mutex(Queue())
    private var thread: pthread_t?

    /// Creates the rings for the environment's workers and starts the thread.
    ///
    /// - Parameters:
    ///   - environment: whose workers and buffers it serves.
    ///   - portCapacity: port indices are below this.
    ///   - workers: how many workers there are; nil is the environment's.
    /// - Throws: ``EnvironmentError`` without memory, descriptors or threads.
    public init(
        environment: Environment, portCapacity: Int, workers: Int? = nil
    ) throws(EnvironmentError) {
        self.environment = environment
        self.portCapacity = min(max(1, portCapacity), 65_535)
        doorbell = .allocate(capacity: 1)
        hasCommands = .allocate(capacity: 1)
        hasCommands.initialize(to: 0)
        strays = .allocate(capacity: 1)
        strays.initialize(to: 0)
        lostEvent = pe_event_create()
        guard pe_doorbell_open(doorbell) == 0, lostEvent >= 0 else {
            throw Self.noMemory("an event")
        }
        let workerCount = workers ?? environment.workerCount
        rings = .allocate(capacity: workerCount)
        peers = .allocate(capacity: workerCount)
        for worker in 0..<workerCount {
            let made = try Self.makeRings(worker, environment)
            rings.initializeElement(at: worker, to: made)
            (peers + worker).initialize(to: WorkerPeer(ring: made.handover, doorbell: made.doorbell))
        }
        let counterCount = PortCounter.allCases.count
        let counters = UnsafeMutablePointer<UInt64>.allocate(
            capacity: self.portCapacity * counterCount
        )
        counters.initialize(repeating: 0, count: self.portCapacity * counterCount)
        ports = .allocate(capacity: self.portCapacity)
        for index in 0..<self.portCapacity {
            (ports + index).initialize(
                to: KernelPortState(counters: counters + index * counterCount)
            )
        }
        guard let loop = HostIOLoop(self) else { throw Self.noMemory("the host-I/O thread") }
        thread = startThread("pe-host-io") { loop.run() }
        guard thread != nil else { throw Self.noMemory("the host-I/O thread") }
    }

    private static func makeRings(
        _ worker: Int,
        _ environment: Environment
    ) throws(EnvironmentError) -> WorkerRings {
        let node = worker < environment.workerCount ? environment.numaNode(worker: worker) : -1
        let id = instances.withLock { count in
            count += 1
            return count
        }
        let doorbell = UnsafeMutablePointer<pe_doorbell>.allocate(capacity: 1)
        guard let rx = pe_ring_create("pe_rx_\(id)", rxRingCapacity, 0, node),
            let exception = pe_ring_create("pe_exception_\(id)", exceptionRingCapacity, 0, node),
            let tx = pe_ring_create("pe_tx_\(id)", txRingCapacity, 0, node),
            let handover = pe_ring_create("pe_handover_\(id)", handoverRingCapacity, 1, node),
            pe_doorbell_open(doorbell) == 0
        else { throw noMemory("worker \(worker)'s rings") }
        return WorkerRings(rx: rx, exception: exception, tx: tx, handover: handover, doorbell: doorbell)
    }
    private static let instances = Mutex(0)

    private static func noMemory(_ what: String) -> EnvironmentError {
        EnvironmentError(
            kind: .outOfMemory,
            message: "no memory or descriptors for \(what)",
            remedy: "lower dataplane.memory.mbufs, or raise the limit of open files"
        )
    }

    /// Ends the thread; frames that wait in rings stay there.
    ///
    /// Called once, before the process ends.
    public func stop() {
        queue.withLock { $0.isStopping = true }
        wake()
        if let thread { pthread_join(thread, nil) }
        thread = nil
    }

    /// Frames that workers sent to an index where there is no kernel port; they were dropped.
    public var strayFrames: UInt64 { pe_load64_relaxed(strays) }

    private func wake() {
        pe_store32(hasCommands, 1)
        pe_doorbell_ring(doorbell)
    }
}

// MARK: - Between the control thread and the host-I/O thread

extension HostIO {
    /// Queues commands for the thread and waits until it has carried them out.
    func perform(_ commands: [Command]) {
        guard thread != nil else { return }
        let target = queue.withLock { queue in
            queue.commands += commands
            queue.queued += commands.count
            return queue.queued
        }
        wake()
        while queue.withLock({ $0.done < target && !$0.isStopping }) { usleep(50) }
    }

    /// Takes what is queued; nil when the thread shall end.
    func takeCommands() -> [Command]? {
        pe_store32(hasCommands, 0)
        return queue.withLock { queue in
            guard !queue.isStopping else { return nil }
            defer { queue.commands = [] }
            return queue.commands
        }
    }
    func commandsDone(_ count: Int) { queue.withLock { $0.done += count } }

    /// Tells the registry that a port's descriptor no longer works.
    func reportLost(_ index: UInt16) {
        queue.withLock { $0.lost.append(index) }
        pe_event_signal(lostEvent)
    }
    func takeLost() -> [UInt16] {
        pe_event_clear(lostEvent)
        return queue.withLock { queue in
            defer { queue.lost = [] }
            return queue.lost
        }
    }
}
