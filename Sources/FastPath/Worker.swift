// One worker: its memory, the loop that an lcore runs, and single bursts for replay and tests.

import CDPDK
import CLinux
public import Tables

/// Polls ports, rings and the host, and takes every packet through the ``Pipeline``.
///
/// The object is the control side's handle; the lcore touches only raw memory. Make it, run
/// ``entry`` with ``argument`` on an lcore, ``stop()``, wait for the lcore, let it go.
public final class Worker: @unchecked Sendable {
    public let index: Int
    private let memory: UnsafeMutablePointer<WorkerMemory>
    private let scratch: UnsafeMutableRawPointer
    /// Keeps what the raw memory points into.
    private let tables: ForwardingTables

    /// - Parameters:
    ///   - index: below `tables.limits.workers`; also the tx queue that it uses.
    ///   - packets: pool whose buffers hold a whole frame.
    ///   - headers: pool of small buffers, for flood headers and clones.
    ///   - usesClock: false makes runs repeatable: a MAC is reported once per ``advanceStamp()``.
    public init(
        index: Int, io: WorkerIO, tables: ForwardingTables, packets: OpaquePointer,
        headers: OpaquePointer, idle: IdlePolicy = .adaptive, usesClock: Bool = true
    ) {
        precondition(index < tables.limits.workers, "worker \(index) is not within limits.workers")
        self.index = index
        self.tables = tables
        var layout = ScratchLayout()
        let received = layout.add(MBuf.self, WorkerMemory.burst)
        let punted = layout.add(MBuf.self, WorkerMemory.sideLane)
        let discarded = layout.add(MBuf.self, WorkerMemory.burst)
        let fronts = layout.add(MBuf.self, FloodBacklog.chunk)
        let contexts = layout.add(PacketContext.self, WorkerMemory.burst)
        let neighbors = layout.add(PacketContext.self, WorkerMemory.burst)
        let flooded = layout.add(PacketContext.self, WorkerMemory.sideLane)
        let routed = layout.add(RoutedContext.self, WorkerMemory.burst)
        let hostless = layout.add(HostlessContext.self, WorkerMemory.burst)
        let local = layout.add(RoutedContext.self, WorkerMemory.sideLane)
        let waiting = layout.add(RoutedContext.self, WorkerMemory.sideLane)
        let errors = layout.add(RoutedContext.self, WorkerMemory.sideLane)
        let lanes = layout.add(bytes: Lane.laneCount * Lane.stride)
        let scratch = layout.allocate()
        self.scratch = scratch
        memory = .allocate(capacity: 1)
        memory.initialize(to: WorkerMemory(
            io: io, reader: tables.reader(worker: index), counters: tables.counters.workers[index],
            learning: tables.learning.workers[index], packets: packets, headers: headers,
            index: UInt16(truncatingIfNeeded: index), received: received.pointer(in: scratch),
            contexts: contexts.pointer(in: scratch), neighbors: neighbors.pointer(in: scratch),
            routed: routed.pointer(in: scratch), hostless: hostless.pointer(in: scratch),
            local: local.pointer(in: scratch), waiting: waiting.pointer(in: scratch),
            errors: errors.pointer(in: scratch),
            flooded: flooded.pointer(in: scratch), punted: punted.pointer(in: scratch),
            discarded: discarded.pointer(in: scratch), fronts: fronts.pointer(in: scratch), lanes: scratch + lanes,
            kept: KeptState.make(tables: tables, worker: index), usesClock: usesClock, idle: idle))
    }
    deinit {
        precondition(!isRunning, "stop a worker and wait for its lcore before letting it go")
        KeptState.free(memory.pointee.kept)
        memory.deallocate()
        scratch.deallocate()
    }

    /// What ``entry`` needs.
    public var argument: UnsafeMutableRawPointer { UnsafeMutableRawPointer(memory) }
    /// The function for an lcore: polls until ``stop()``; returns 0.
    public static var entry: @convention(c) (UnsafeMutableRawPointer?) -> Int32 { pe_worker_main }

    /// Wakes the worker when it sleeps: something waits for it that rings no bell.
    public func wake() { pe_doorbell_ring(memory.pointee.io.doorbell) }

    /// Tells the worker to return after its present loop; it may sleep up to 100 ms before.
    public func stop() {
        pe_store32(&memory.pointee.stop, 1)
        pe_doorbell_ring(memory.pointee.io.doorbell)
    }
    /// Whether its loop runs.
    public var isRunning: Bool { pe_load32(&memory.pointee.isRunning) != 0 }

    /// One loop over all sources, on the calling thread; returns how many packets came. For replay
    /// and tests, while no lcore runs this worker.
    @discardableResult
    public func pollOnce() -> Int {
        memory.pointee.io.online()
        let count = memory.poll()
        memory.pointee.reader.offline()
        memory.pointee.io.offline()
        return count
    }

    /// Polls on the calling thread until at least `packets` packets came, or it is told to ``stop()``;
    /// returns how many did. For benchmarks, with sources that never end: what ``entry`` does, but that
    /// all copies of a flood are made before the next poll.
    public func poll(packets: Int) -> Int {
        memory.pointee.io.online()
        var total = 0
        while total < packets, pe_load32(&memory.pointee.stop) == 0 {
            let count = memory.poll()
            memory.pointee.counters.add(count != 0 ? .busyPolls : .idlePolls, 1)
            if memory.pointee.kept.pointee.flood.count != 0 { memory.pipeline.finishFlood() }
            total = total &+ count
        }
        memory.pointee.reader.offline()
        memory.pointee.io.offline()
        return total
    }

    /// Takes packets through the pipeline as bursts of at most 32, in order. `mbuf.port` is the
    /// pe-dp port that each came from; the buffers are the worker's afterwards. For replay and
    /// tests, while no lcore runs this worker.
    public func process(_ packets: [MBuf]) {
        let burst = WorkerMemory.burst
        for start in stride(from: 0, to: packets.count, by: burst) {
            let part = packets[start..<min(start + burst, packets.count)]
            for (offset, packet) in part.enumerated() { memory.pointee.received[offset] = packet }
            memory.pointee.reader.quiescent()
            memory.countReceived(part.count)
            memory.pipeline.run(part.count)
            memory.pipeline.finishFlood()
        }
        serve()
    }

    /// What the worker does beside packets that come: sends the probes that the control plane asked
    /// for, looks again at packets that wait for a neighbour. For replay and tests, as ``process(_:)``.
    public func serve() {
        memory.pointee.reader.quiescent()
        memory.pipeline.background()
        memory.pipeline.finishFlood()
        memory.pointee.reader.offline()
    }

    /// Decides about the packets that still wait: nothing more will happen. For replay and tests, and
    /// when a worker's loop has ended.
    public func finish() {
        memory.pointee.reader.quiescent()
        memory.pipeline.finish()
        memory.takeHandedOver()
        memory.pointee.reader.offline()
    }

    /// Moves the time of a worker without a clock on, which starts at 0.
    public func advanceClock(nanoseconds: UInt64) { memory.pointee.kept.pointee.clock &+= nanoseconds }

    /// Lets sources be reported again that were reported before, where no clock does it.
    public func advanceStamp() { memory.pointee.stamp &+= 1 }
}

/// Where the arrays of a worker's scratch memory lie, each on cache lines of its own.
private struct ScratchLayout {
    struct Part<Element> {
        let offset: Int
        func pointer(in scratch: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Element> {
            (scratch + offset).assumingMemoryBound(to: Element.self)
        }
    }
    private var byteCount = 0

    mutating func add(bytes: Int) -> Int {
        defer { byteCount += (bytes + 63) / 64 * 64 }
        return byteCount
    }
    mutating func add<Element>(_ type: Element.Type, _ count: Int) -> Part<Element> {
        Part(offset: add(bytes: count * MemoryLayout<Element>.stride))
    }
    /// Zeroed.
    func allocate() -> UnsafeMutableRawPointer {
        let scratch = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
        scratch.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        return scratch
    }
}

/// An lcore's function; `argument` is ``Worker/argument``.
@c(pe_worker_main)
public func pe_worker_main(_ argument: UnsafeMutableRawPointer?) -> Int32 {
    guard let argument else { return -1 }
    argument.assumingMemoryBound(to: WorkerMemory.self).loop()
    return 0
}

extension UnsafeMutablePointer<WorkerMemory> {
    /// The pipeline over the newest tables; valid until the next quiescent point.
    @inline(__always) var pipeline: Pipeline {
        Pipeline(
            memory: self,
            state: pointee.reader.current.assumingMemoryBound(to: ForwardingState.self))
    }

    /// Polls until told to stop.
    func loop() {
        pe_store32(&pointee.isRunning, 1)
        pointee.io.online()
        var idle = IdleWait()
        while pe_load32(&pointee.stop) == 0 {
            if poll() != 0 || pointee.kept.pointee.flood.count != 0 {
                idle = IdleWait()
                pointee.counters.add(.busyPolls, 1)
            } else {
                pointee.counters.add(.idlePolls, 1)
                if pointee.idle == .adaptive { rest(&idle) }
            }
        }
        pipeline.finish()
        takeHandedOver()
        pointee.reader.offline()
        pointee.io.offline()
        pe_store32(&pointee.isRunning, 0)
    }

    /// One loop: the host's frames, kernel ports, what other workers hand over, ethdevs. Returns how many
    /// packets came.
    @inline(__always)
    func poll() -> Int {
        let io = pointee.io
        let list = io.pollList()
        pointee.reader.quiescent()
        let pipeline = self.pipeline
        let burst = UInt32(truncatingIfNeeded: WorkerMemory.burst)
        let fromHost = Int(pe_ring_dequeue_burst(io.exceptionRing, pointee.received, burst))
        if fromHost != 0 {
            countReceived(fromHost)
            pipeline.run(fromHost)
        }
        let fromKernel = Int(pe_ring_dequeue_burst(io.rxRing, pointee.received, burst))
        if fromKernel != 0 {
            countReceived(fromKernel)
            pipeline.run(fromKernel)
        }
        let handedOver = Int(pe_ring_dequeue_burst(io.handoverRing, pointee.received, burst))
        if handedOver != 0 { pipeline.sendHandedOver(handedOver) }
        var total = fromHost &+ fromKernel &+ handedOver
        var index = 0
        while index < list.count {
            total = total &+ pollEthdev(list[index], pipeline)
            index = index &+ 1
        }
        pipeline.background()
        return total
    }

    /// Sends what was handed over until now: at the end, nobody comes for it any more.
    @inline(never)
    func takeHandedOver() {
        let burst = UInt32(truncatingIfNeeded: WorkerMemory.burst)
        while true {
            let count = Int(pe_ring_dequeue_burst(pointee.io.handoverRing, pointee.received, burst))
            if count == 0 { return }
            pipeline.sendHandedOver(count)
        }
    }

    @inline(never)
    func pollEthdev(_ queue: PolledQueue, _ pipeline: Pipeline) -> Int {
        let received = pointee.received
        let count = Int(
            pe_eth_rx_burst(
                queue.ethdev, queue.queue, received, UInt16(truncatingIfNeeded: WorkerMemory.burst)))
        if count == 0 { return 0 }
        var byteCount: UInt64 = 0
        var index = 0
        while index < count {
            byteCount &+= UInt64(received[index].pointee.pkt_len)
            received[index].pointee.port = queue.port
            index = index &+ 1
        }
        if queue.port < pipeline.state.pointee.portCount {
            pointee.counters.add(
                port: queue.port, .rxPackets, packets: UInt64(truncatingIfNeeded: count),
                bytes: byteCount)
        }
        pipeline.run(queue.features.contains(.sharesBuffers) ? unshare(count, pipeline) : count)
        return count
    }

    /// Copies frames whose buffers somebody else holds, too: flood clones, or what they were made
    /// of. Returns how many of `count` are left.
    @inline(never)
    func unshare(_ count: Int, _ pipeline: Pipeline) -> Int {
        let received = pointee.received
        var kept = 0
        var index = 0
        while index < count {
            var mbuf = received[index]
            index = index &+ 1
            // RTE_MBUF_F_INDIRECT (rte_mbuf_core.h).
            if mbuf.pointee.refcnt != 1 || mbuf.pointee.nb_segs != 1
                || mbuf.pointee.ol_flags & 1 &<< 62 != 0
            {
                guard let copy = pe_mbuf_linear_copy(mbuf, pointee.packets) else {
                    pointee.counters.add(.received, 1)
                    pipeline.drop(Packet(mbuf), .noBuffer)
                    continue
                }
                copy.pointee.port = mbuf.pointee.port
                pe_mbuf_free(mbuf)
                mbuf = copy
            }
            received[kept] = mbuf
            kept = kept &+ 1
        }
        return kept
    }

    /// Counts packets that know their port, one by one.
    @inline(never)
    func countReceived(_ count: Int) {
        let received = pointee.received
        let portCount = pipeline.state.pointee.portCount
        var index = 0
        while index < count {
            let packet = Packet(received[index])
            if packet.port < portCount {
                pointee.counters.add(
                    port: packet.port, .rxPackets, packets: 1, bytes: UInt64(packet.byteCount))
            }
            index = index &+ 1
        }
    }

    /// Nothing came: sleeps, longer each time, until a frame, a doorbell or the time is up.
    @inline(never)
    func rest(_ idle: inout IdleWait) {
        // Nobody rings when a neighbour is resolved: packets that wait for one are looked at as often.
        let hasEthdevs = pointee.io.pollList().count != 0 || pointee.kept.pointee.waiting.targetCount != 0
        let wait = idle.next(hasEthdevs: hasEthdevs)
        if wait == 0 { return }
        let io = pointee.io
        pointee.reader.offline()
        pe_worker_wait(io.doorbell, io.rxRing, io.exceptionRing, io.handoverRing, wait)
    }
}

/// How long an idle worker sleeps: not at all for a while, then doubling up to a limit.
struct IdleWait {
    private var emptyLoops: UInt32 = 0
    private var microseconds: UInt32 = 0

    /// Loops without a packet before the first sleep: some 20 to 100 µs.
    static var patience: UInt32 { 1000 }
    /// First sleep. Ethdevs ring no doorbell: they set the limit.
    static var shortest: UInt32 { 10 }
    static var longestWithEthdevs: UInt32 { 1000 }
    static var longest: UInt32 { 100_000 }

    /// Microseconds to sleep now; 0 is not at all.
    mutating func next(hasEthdevs: Bool) -> UInt32 {
        if emptyLoops < IdleWait.patience {
            emptyLoops &+= 1
            return 0
        }
        let limit = hasEthdevs ? IdleWait.longestWithEthdevs : IdleWait.longest
        microseconds = microseconds == 0 ? IdleWait.shortest : min(microseconds &* 2, limit)
        return microseconds
    }
}
