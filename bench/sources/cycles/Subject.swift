// What is timed, in turns with others: a worker on its tables, or the source and the sink alone.

import CBench
import CDPDK
import FastPath
import Tables
import Wire

/// Anything that takes a row's packets from the source and gives what becomes of them to the sink.
///
/// A turn is ``begin()``, any number of ``run(_:)``, ``end()``. A subclass says what ``run(_:)`` does.
class Subject {
    let id: String
    let row: Row
    private var traffic: bench_traffic
    /// Where the worker puts frames for kernel ports.
    private let punts: OpaquePointer?
    /// Where it gets metric `ratio`: this subject's cycles over those of the other, turn by turn.
    var reference: Subject?

    init(id: String, row: Row, punts: OpaquePointer?) {
        self.id = id
        self.row = row
        self.punts = punts
        traffic = row.traffic
    }

    /// Receives at least `packets` packets, in bursts, to their ends; returns how many.
    func run(_ packets: Int) -> Int { preconditionFailure("a subject says how it runs") }

    /// What is wrong after a turn, beside what the sink saw; nil when nothing is.
    func fault() -> String? { nil }

    /// From here on the source gives this subject's packets: those after the last turn's.
    func begin() {
        bench_traffic_set(row.port, &traffic, punts.map { UnsafeMutableRawPointer($0) })
        _ = bench_take_ends()
    }
    final func end() { bench_traffic_end(&traffic) }

    /// Whether `received` packets came to the ends that they should have come to.
    final func fault(_ received: Int, _ ends: bench_ends) -> String? {
        let expected: (sent: Int, punted: Int)
        switch row.end {
        case .sent(let copies): expected = (received * copies, 0)
        case .punted: expected = (0, received)
        case .dropped: expected = (0, 0)
        }
        if Int(ends.sent) == expected.sent, Int(ends.punted) == expected.punted {
            let missing = bench_missing()
            return missing == 0 ? fault() : "\(missing) buffers were lost, or freed twice where it is below 0"
        }
        let reason = fault().map { "; \($0)" } ?? ""
        return "\(received) received, \(ends.sent) sent, \(ends.punted) punted\(reason)"
    }

    // MARK: Samples

    /// Sends some flows of each part of the table and compares each frame; nil when all are right.
    final func check() -> String? {
        let parts = row.journey == .floodCopy ? 2 : 4
        let samples = row.journey == .floodCopy ? 1 : 64
        for part in 0..<parts {
            traffic.flow_next = UInt32(row.flows / parts * part)
            traffic.pattern_next = 0
            let first = Int(traffic.flow_next)
            if row.journey == .floodCopy { traffic.burst = 1 }
            begin()
            bench_capture(UInt32(min(1024, samples * row.copies)))
            let received = run(samples)
            end()
            defer { bench_capture(0) }
            if let fault = fault(received, bench_take_ends()) { return fault }
            if let fault = sampleFault(samples, from: first) { return fault }
        }
        rewind()
        return difference()
    }
    /// What differs from a reference; nil when nothing does.
    func difference() -> String? { nil }

    /// A digest of what the first packets become, and of how many frames it is.
    final func digest(_ packets: Int) -> (value: UInt64, frames: Int) {
        rewind()
        begin()
        bench_digest_start(UInt32(packets))
        _ = run(packets)
        end()
        _ = bench_take_ends()
        rewind()
        var frames: UInt32 = 0
        return (bench_digest_take(&frames), Int(frames))
    }
    private func rewind() {
        traffic.burst = UInt32(row.burst)
        traffic.flow_next = 0
        traffic.pattern_next = 0
    }

    private func sampleFault(_ samples: Int, from first: Int) -> String? {
        if case .dropped = row.end { return nil }
        if row.journey == .null { return nil }
        var copies: [UInt16: Int] = [:]
        for index in 0..<min(1024, samples * row.copies) {
            guard let (sent, port) = captured(index) else { return "frame \(index) is missing" }
            guard let frame = completed(sent, index) else { return "frame \(index): wrong requests to the driver" }
            let packet = index / row.copies
            let flow = (first + packet) % row.flows
            let pattern = row.frame.pattern
            let size = row.frame.lengths[pattern[packet % pattern.count]]
            let copy = copies[port, default: 0]
            copies[port] = copy + 1
            if let fault = row.fault(of: frame, port: port, flow: flow, size: size, copy: copy) {
                return "flow \(flow): \(fault)\n" + FrameSummary.text(of: frame)
            }
        }
        return nil
    }
    /// A frame as it leaves a NIC that does what the driver is asked for; nil when that is not what should be
    /// asked for: the outer UDP checksum over IPv6 of rows with `/offload`, of others nothing.
    private func completed(_ frame: [UInt8], _ index: Int) -> [UInt8]? {
        var lengths: UInt64 = 0
        let requests = bench_captured_requests(UInt32(index), &lengths)
        guard row.isOffloaded else { return requests == 0 ? frame : nil }
        guard requests == PE_TX_UDP_IPV6, lengths == PE_TX_UDP_IPV6_LENGTHS, frame.count > 62 else { return nil }
        // The field holds what is not in the bytes from the UDP header on.
        let checksum = ~Frames.sum(frame[54...]) & 0xFFFF
        return frame[..<60] + Frames.be16(checksum == 0 ? 0xFFFF : checksum) + frame[62...]
    }
    private func captured(_ index: Int) -> ([UInt8], UInt16)? {
        var length: UInt32 = 0
        var port: UInt16 = 0
        guard let bytes = bench_captured(UInt32(index), &length, &port) else { return nil }
        return (Array(UnsafeBufferPointer(start: bytes, count: Int(min(length, 2048)))), port)
    }
}

/// A worker of the daemon, polling both ports.
final class WorkerSubject: Subject {
    let scene: Scene
    /// Of all reasons, and of all packets, at the turn's begin: rows with the same tables count together.
    private var drops: [UInt64] = []
    private var received: UInt64 = 0
    init(row: Row, scene: Scene) {
        self.scene = scene
        super.init(id: row.id, row: row, punts: scene.ports.io.txRing)
    }
    override func run(_ packets: Int) -> Int {
        let received = scene.worker.poll(packets: packets)
        // A flood is spread over turns of the worker; more of them than this and copies are missing.
        var polls = 0
        while bench_owed() != 0, polls < 100_000 {
            scene.worker.pollOnce()
            polls += 1
        }
        return received
    }

    override func begin() {
        super.begin()
        mark()
    }
    /// What was dropped before is not of this turn.
    func mark() {
        drops = DropReason.allCases.map { scene.tables.counters.total($0) }
        received = scene.tables.counters.total(.received)
    }

    override func fault() -> String? {
        let counters = scene.tables.counters
        // What a control plane would have taken.
        while scene.tables.neighborRings.workers[0].pop() != nil {}
        guard counters.isBalanced else { return "the counters do not balance" }
        var expected: DropReason?
        if case .dropped(let reason) = row.end { expected = reason }
        let dropped = zip(DropReason.allCases, drops).map { ($0, counters.total($0) &- $1) }
        let others = dropped.filter { $0.0 != expected && $0.1 != 0 }
        if !others.isEmpty {
            return "dropped: " + others.map { "\($0.0.name) \($0.1)" }.joined(separator: ", ")
        }
        guard let expected else { return nil }
        let isDropped = dropped.contains { $0 == (expected, counters.total(.received) &- received) }
        return isDropped ? nil : "not every packet was dropped for its reason"
    }
}

/// The source and the sink alone.
final class NullSubject: Subject {
    init(row: Row) { super.init(id: row.id, row: row, punts: nil) }

    override func run(_ packets: Int) -> Int {
        let port = row.port
        return withUnsafeTemporaryAllocation(of: MBuf.self, capacity: 64) { buffer in
            guard let base = buffer.baseAddress else { return 0 }
            var total = 0
            while total < packets {
                let count = pe_eth_rx_burst(port, 0, base, UInt16(TableLimits.burst))
                total += Int(pe_eth_tx_burst(1 - port, 0, base, count))
            }
            return total
        }
    }
}
