// The C twin of a scene's worker: made on the same tables, compared frame by frame, timed in turns.

import CBench
import CTwin
import FastPath
import Tables

/// A C worker over the tables, counters, learn ring and ports of a Swift one, which does not run
/// meanwhile.
final class Twin {
    private let worker: OpaquePointer

    /// Bursts whose frames are compared.
    static let comparedBursts = 64

    init(tables: ForwardingTables, io: WorkerIO) throws {
        if let fault = Twin.layoutFault() { throw TwinFault(fault) }
        var tunnel = Tunnel()
        tunnel.unusable = nil
        let offset = MemoryLayout<Tunnel>.offset(of: \.unusable) ?? 0
        let usable = withUnsafeBytes(of: &tunnel) { $0[offset] }
        var reader = tables.reader(worker: 0)
        var counters = tables.counters.workers[0]
        var learning = tables.learning.workers[0]
        var io = io
        let made = withUnsafePointer(to: &reader) { reader in
            withUnsafePointer(to: &counters) { counters in
                withUnsafePointer(to: &learning) { learning in
                    withUnsafePointer(to: &io) { io in
                        var views = twin_views(
                            reader: reader, counters: counters, learning: learning, io: io, usable: usable)
                        return twin_worker_create(&views)
                    }
                }
            }
        }
        guard let made else { throw TableError.outOfMemory(table: "the C twin", byteCount: 0) }
        worker = made
    }
    deinit { twin_worker_free(worker) }

    /// Polls until at least `packets` packets came; returns how many did.
    func poll(packets: Int) -> Int { Int(twin_worker_poll(worker, UInt64(packets))) }

    /// What it could not handle; nil when it handled every packet.
    var fault: String? {
        var why: UnsafePointer<CChar>?
        let count = twin_worker_unsupported(worker, &why)
        if count == 0 { return nil }
        let reason = why.map { String(cString: $0) } ?? "requests between bursts"
        return "the C twin does not support \(count) packets, the first because of \(reason); it knows known "
            + "unicast alone (bench/sources/twin/twin.c)"
    }

    /// Where the tables do not lie in memory as the twin's header says; nil when they do.
    static func layoutFault() -> String? {
        let known = TableLayout.fields.merging(PortLayout.fields) { first, _ in first }
        var faults: [String] = []
        var at = twin_fields()
        while let name = at.pointee.name {
            let name = String(cString: name)
            let offset = Int(at.pointee.offset)
            if known[name] != offset {
                faults.append("\(name) at \(known[name].map(String.init) ?? "no known offset"), not \(offset)")
            }
            at += 1
        }
        if faults.isEmpty { return nil }
        return "the tables are not laid out as the C twin reads them: \(faults.joined(separator: "; ")). Bring "
            + "bench/sources/twin/tables.h in line with Sources/Tables and Sources/FastPath/Port.swift"
    }

    /// What differs between the frames that the Swift and the C worker send for the same traffic; nil when
    /// every byte, length and port of the first bursts is the same.
    func difference(from worker: Worker, port: UInt16, _ traffic: bench_traffic) -> String? {
        var traffic = traffic
        let packets = Twin.comparedBursts * TableLimits.burst
        func digest(_ run: (Int) -> Int) -> (value: UInt64, frames: Int) {
            bench_traffic_set(port, &traffic)
            bench_digest_start(UInt32(packets))
            _ = bench_take_sent()
            _ = run(packets)
            _ = bench_take_sent()
            var frames: UInt32 = 0
            return (bench_digest_take(&frames), Int(frames))
        }
        let swift = digest(worker.poll(packets:))
        let twin = digest(poll(packets:))
        if let fault { return fault }
        if swift.frames != packets || twin.frames != packets {
            return "of \(packets) packets Swift sent \(swift.frames), C \(twin.frames)"
        }
        if swift.value == twin.value { return nil }
        return "Swift and C send different frames: digests \(String(swift.value, radix: 16)) and "
            + String(twin.value, radix: 16)
    }
}

struct TwinFault: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
