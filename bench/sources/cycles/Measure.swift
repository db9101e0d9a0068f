// How a subject is timed: slices of a turn, figures of a turn, figures of all turns.

import CBench
import CLinux
import FastPath

/// One subject's cost in one turn, for each packet or copy.
struct Turn {
    var cycles: Double
    var tsc: Double
    var instructions: Double?
    var misses: Double?
}

/// Which counters this machine has, and how many packets a turn takes.
struct Meter {
    /// Bit 0 core cycles, bit 1 instructions, bit 2 cache misses.
    let counters: Int32
    let packets: Int
    var hasCycles: Bool { counters & 1 != 0 }

    /// Copies or packets that are timed together: long against the reading of counters, short against
    /// the time between interruptions.
    static let slice = 20_000

    /// One turn of `subject`; throws what is wrong with it.
    func turn(_ subject: Subject) throws(MeasureFault) -> (figures: Turn, clockRatio: Double) {
        let copies = subject.row.copies
        let slice = max(32, Meter.slice / copies)
        subject.begin()
        // The first flows of the turn push what other subjects left out of the caches.
        let warm = subject.run(max(slice, min(subject.row.flows, 200_000) / copies))
        try check(subject, warm)
        var samples: [Turn] = []
        let ratioBefore = Meter.clockRatio()
        for _ in 0..<max(1, packets / (slice * copies)) {
            samples.append(try self.slice(subject, slice))
        }
        let ratio = (ratioBefore + Meter.clockRatio()) / 2
        subject.end()
        return (figures(samples, ratio), ratio)
    }

    private func slice(_ subject: Subject, _ packets: Int) throws(MeasureFault) -> Turn {
        var before = bench_counts(), after = bench_counts()
        bench_counters_read(&before)
        let received = subject.run(packets)
        bench_counters_read(&after)
        try check(subject, received)
        let count = Double(received * subject.row.copies)
        return Turn(
            cycles: Double(after.cycles &- before.cycles) / count, tsc: Double(after.tsc &- before.tsc) / count,
            instructions: counters & 2 == 0 ? nil : Double(after.instructions &- before.instructions) / count,
            misses: counters & 4 == 0 ? nil : Double(after.misses &- before.misses) / count)
    }

    private func check(_ subject: Subject, _ received: Int) throws(MeasureFault) {
        if let fault = subject.fault(received, bench_take_ends()) {
            throw MeasureFault(description: "\(subject.id): \(fault)")
        }
    }

    /// With a counter of core cycles the median slice; else the first decile of the time stamp counter,
    /// because a slice with an interruption says nothing.
    private func figures(_ samples: [Turn], _ clockRatio: Double) -> Turn {
        let part = hasCycles ? 0.5 : 0.1
        let tsc = Meter.quantile(samples.map(\.tsc), part)
        func median(_ values: [Double?]) -> Double? {
            let known = values.compactMap { $0 }
            return known.isEmpty ? nil : Meter.quantile(known, 0.5)
        }
        return Turn(
            cycles: hasCycles ? Meter.quantile(samples.map(\.cycles), 0.5) : tsc * clockRatio, tsc: tsc,
            instructions: median(samples.map(\.instructions)), misses: median(samples.map(\.misses)))
    }

    static func quantile(_ values: [Double], _ part: Double) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(Double(sorted.count) * part))]
    }

    /// The core's clock over the TSC's, now: the quickest of a few chains of known length.
    static func clockRatio() -> Double {
        var best = Double.infinity
        for _ in 0..<20 {
            let start = pe_tsc()
            bench_spin(30)
            best = min(best, Double(pe_tsc() &- start))
        }
        return 90_000 / best
    }
}

/// Packets did not come to the ends that they should have.
struct MeasureFault: Error, CustomStringConvertible {
    let description: String
}

/// All turns of one subject.
struct Record {
    let subject: Subject
    var turns: [Turn] = []
    var clockRatios: [Double] = []
    var fault: String?

    /// One line of JSON: see docs/benchmarks.md.
    func json(_ meter: Meter, pages: PacketMemory.Pages, reference: Record?) -> String {
        let row = subject.row
        if let fault { return "{\"id\":\(quoted(subject.id)),\"fault\":\(quoted(fault))}" }
        let unit = row.copies > 1 || row.journey == .floodCopy ? "copy" : "packet"
        var metrics = [
            metric("cycles", turns.map(\.cycles), "cycles/\(unit)"), metric("tsc", turns.map(\.tsc), "ticks/\(unit)"),
        ]
        let instructions = turns.compactMap(\.instructions)
        if !instructions.isEmpty { metrics.append(metric("instructions", instructions, "instructions/\(unit)")) }
        let misses = turns.compactMap(\.misses)
        if !misses.isEmpty { metrics.append(metric("cacheMisses", misses, "misses/\(unit)")) }
        if let reference {
            metrics.append(metric("ratio", zip(reference.turns, turns).map { $0.cycles / $1.cycles }, "ratio"))
        }
        return "{\"id\":\(quoted(subject.id)),\"journey\":\"\(row.journey.rawValue)\","
            + "\"underlay\":\"\(row.isIPv6 ? "ipv6" : "ipv4")\",\"entries\":\(row.entries),"
            + "\"frame\":\"\(row.frame.name)\",\"burst\":\(row.burst),\"domains\":\(row.domains),"
            + "\"checksum\":\(row.hasChecksum),\"outerChecksum\":\(row.hasOuterChecksum),"
            + "\"variant\":\"\(row.special)\",\"copies\":\(row.copies),"
            + "\"packets\":\(meter.packets),\"repetitions\":\(turns.count),\"hugepages\":\(pages == .reserved),"
            + "\"pages\":\"\(pages.rawValue)\","
            + "\"counter\":\"\(meter.hasCycles ? "perf" : "tsc")\","
            + "\"clockRatio\":\(decimal(Meter.quantile(clockRatios, 0.5))),\"verified\":true,"
            + "\"given\":\(bench_given()),"
            + "\"metrics\":{\(metrics.joined(separator: ","))}}"
    }

    private func metric(_ name: String, _ values: [Double], _ unit: String) -> String {
        let sorted = values.sorted()
        let middle = (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
        return "\"\(name)\":{\"median\":\(decimal(middle)),\"min\":\(decimal(values.min() ?? 0)),"
            + "\"max\":\(decimal(values.max() ?? 0)),\"unit\":\"\(unit)\"}"
    }
}

/// With three places.
func decimal(_ value: Double) -> String {
    let scaled = Int((value * 1000).rounded())
    let places = String(1000 + scaled.magnitude % 1000).dropFirst()
    return "\(scaled < 0 ? "-" : "")\(scaled.magnitude / 1000).\(places)"
}
/// As a JSON string.
func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case _ where scalar.value < 32: result += " "
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
