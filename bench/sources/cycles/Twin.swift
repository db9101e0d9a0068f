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
}

/// The C twin in turns with the worker on whose tables it runs.
final class TwinSubject: Subject {
    private let twin: Twin
    private let worker: WorkerSubject

    /// - Parameter worker: of the same row; the ratio is its cycles over the twin's.
    init(row: Row, worker: WorkerSubject) throws {
        twin = try Twin(tables: worker.scene.tables, io: worker.scene.ports.io)
        self.worker = worker
        super.init(id: row.id, row: row, punts: worker.scene.ports.io.txRing)
        reference = worker
    }
    override func begin() {
        super.begin()
        worker.mark()
    }
    override func run(_ packets: Int) -> Int { twin.poll(packets: packets) }
    override func fault() -> String? { twin.fault ?? worker.fault() }

    /// Whether every byte, length and port of the first bursts is the same as the worker's.
    override func difference() -> String? {
        let packets = Twin.comparedBursts * TableLimits.burst
        let swift = worker.digest(packets), twin = digest(packets)
        if let fault = fault() { return fault }
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
