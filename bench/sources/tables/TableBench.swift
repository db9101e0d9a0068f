// Cycles of lookups, and rates of changes, in each table alone: what is measured, and how it is printed.

import CLinux
import Glibc
import Tables

let usage = """
    usage: bench-tables [--smoke] [--repetitions N] [--only TEXT]

    Looks addresses up in tables that hold them, in bursts of 32 as a worker does (first the places of all
    are fetched, then the lookups) and one by one (each address waits for the answer before it), and installs,
    replaces and removes entries as the control thread does. Prints a line of JSON for each row; bench/tables
    is meant for people. --only leaves out tables whose id does not hold TEXT.
    """

/// SplitMix64, so that every run looks the same addresses up.
struct Generator: RandomNumberGenerator {
    var state: UInt64 = 1
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// A table with its entries.
protocol Subject: AnyObject {
    /// `table/…/entries/…`, the first part of its rows' ids.
    var id: String { get }
    var entries: Int { get }
    /// Entries one by one, in random order; each call visits all of them.
    func install() throws
    func replace() throws
    func remove() throws
    /// Bytes of memory for each entry; nil when all of it is reserved at start.
    var bytesPerEntry: Double? { get }
    /// Adds, changes or removes the default route of one VRF; nil without such a thing.
    func changeDefault(_ turn: Int) throws -> Bool?
    /// Ticks of a slice of lookups, and whether all found what they should.
    func bursts(_ slice: Int) -> (ticks: UInt64, isRight: Bool)
    func chain(_ slice: Int) -> (ticks: UInt64, isRight: Bool)
}
/// Addresses are drawn from all entries, enough to reach beyond the second cache; a slice of them is timed at a time.
let lookupCount = 1 << 17, sliceCount = 1 << 13

/// All turns of one subject.
struct Record {
    let subject: any Subject
    var rates: [String: [Double]] = [:]
    var defaults: [Double] = []
    var bytes: Double?
    var bursts: [(cycles: Double, tsc: Double)] = []
    var chains: [(cycles: Double, tsc: Double)] = []

    /// Install, replace and remove everything, then install it again.
    mutating func change(_ repetitions: Int) throws {
        for _ in 0..<repetitions {
            try rate("install", subject.install)
            bytes = subject.bytesPerEntry
            try rate("replace", subject.replace)
            try rate("remove", subject.remove)
        }
        try subject.install()
        for turn in 0..<15 {
            let start = ContinuousClock.now
            if try subject.changeDefault(turn) == nil { break }
            defaults.append(seconds(since: start) * 1e6)
        }
    }
    private mutating func rate(_ name: String, _ body: () throws -> Void) rethrows {
        let start = ContinuousClock.now
        try body()
        rates[name, default: []].append(Double(subject.entries) / seconds(since: start))
    }
    private func seconds(since start: ContinuousClock.Instant) -> Double {
        let time = (ContinuousClock.now - start).components
        return Double(time.seconds) + Double(time.attoseconds) * 1e-18
    }

    /// The first decile of slices: one with an interruption says nothing.
    mutating func lookUp() {
        let ratio = clockRatio()
        func decile(_ run: (Int) -> (ticks: UInt64, isRight: Bool)) -> (cycles: Double, tsc: Double) {
            var ticks: [UInt64] = []
            for slice in 0..<(2 * lookupCount / sliceCount) {
                let (time, isRight) = run(slice % (lookupCount / sliceCount))
                if !isRight { fail("\(subject.id): a lookup missed, or found something else") }
                // The first time around brings into the caches what fits.
                if slice >= lookupCount / sliceCount { ticks.append(time) }
            }
            let tsc = Double(ticks.sorted()[ticks.count / 10]) / Double(sliceCount)
            return (tsc * ratio, tsc)
        }
        bursts.append(decile(subject.bursts))
        chains.append(decile(subject.chain))
    }

    func printRows() {
        for (name, turns) in [("lookup", bursts), ("lookup-chained", chains)] {
            row(name, [("cycles", turns.map(\.cycles), "cycles/lookup"), ("tsc", turns.map(\.tsc), "ticks/lookup")])
        }
        for name in ["install", "replace", "remove"] {
            var metrics = [("perSecond", rates[name] ?? [], "entries/s")]
            if name == "install", let bytes { metrics.append(("bytesPerEntry", [bytes], "bytes")) }
            row(name, metrics)
        }
        if !defaults.isEmpty { row("default-route", [("microseconds", defaults, "µs")]) }
        fflush(nil)
    }
    private func row(_ name: String, _ metrics: [(name: String, values: [Double], unit: String)]) {
        let texts = metrics.filter { !$0.values.isEmpty }.map { metric in
            let sorted = metric.values.sorted()
            let median = (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
            return "\"\(metric.name)\":{\"median\":\(decimal(median)),\"min\":\(decimal(sorted[0])),"
                + "\"max\":\(decimal(sorted[sorted.count - 1])),\"unit\":\"\(metric.unit)\"}"
        }
        print("{\"id\":\"\(subject.id)/\(name)\",\"table\":\"\(subject.id)\",\"operation\":\"\(name)\","
            + "\"entries\":\(subject.entries),\"metrics\":{\(texts.joined(separator: ","))}}")
    }
}

/// The core's clock over the TSC's: the quickest of a few chains of multiplications, three cycles each.
func clockRatio() -> Double {
    var best = UInt64.max
    var value = pe_tsc() | 3
    for _ in 0..<20 {
        let start = pe_tsc()
        value = multiply(value)
        best = min(best, pe_tsc() &- start)
    }
    return value == 0 ? 0 : 90_000 / Double(best)
}
@inline(never) func multiply(_ start: UInt64) -> UInt64 {
    var value = start
    var index = 0
    while index < 30_000 {
        value = value &* value
        index &+= 1
    }
    return value
}
/// With two places.
func decimal(_ value: Double) -> String {
    let scaled = Int((value * 100).rounded())
    return "\(scaled / 100).\(String(100 + scaled % 100).dropFirst())"
}
func complain(_ text: String) {
    let bytes = Array("bench-tables: \(text)\n".utf8)
    _ = write(2, bytes, bytes.count)
}
func fail(_ text: String) -> Never {
    complain(text)
    exit(1)
}

@main struct TableBench {
    static func main() throws {
        var isSmoke = false, repetitions = 5, only = ""
        var arguments = CommandLine.arguments.dropFirst()
        while let argument = arguments.popFirst() {
            switch argument {
            case "--smoke": isSmoke = true
            case "--only": only = arguments.popFirst() ?? ""
            case "--repetitions":
                guard let value = Int(arguments.popFirst() ?? ""), 1...1000 ~= value else {
                    fail("--repetitions needs a number, 1...1000")
                }
                repetitions = value
            case "--help", "-h":
                print(usage)
                return
            default: fail("unknown argument \(argument); see --help")
            }
        }
        let limit = isSmoke ? 20_000 : Int.max
        let makers = HashTable.makers.filter { $0.entries <= limit } + Prefixes.makers.filter { $0.entries <= limit }
        var records: [Record] = []
        for maker in makers where only.isEmpty || maker.id.contains(only) {
            complain("\(maker.id): installing, replacing, removing")
            var record = Record(subject: try maker.make())
            try record.change(isSmoke ? 1 : min(3, repetitions))
            records.append(record)
        }
        if records.isEmpty { fail("no table's id holds \(only)") }
        for _ in 0..<(isSmoke ? 2 : repetitions) {
            for index in records.indices { records[index].lookUp() }
        }
        for record in records { record.printRows() }
    }
}

/// A subject that is yet to be made.
struct Maker {
    let id: String
    let entries: Int
    let make: () throws -> any Subject
}
