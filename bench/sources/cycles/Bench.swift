// Cycles per packet of the fast path, with a source and a sink in memory.

import CBench
import CDPDK
import CLinux
import FastPath
import Glibc
import Tables

let usage = """
    usage: bench-cycles [--packets N] [--repetitions N] [--cpu N] [--hugepages auto|always|never]
                        [--check] [--quiet] ROW...

    Measures what a packet costs a worker, everything on: learning check and ageing marks, counters, VTEP
    check, checksums. bench/cycles runs sets of rows and is meant for people; this prints a line of JSON
    for each row when it is done.

    A ROW is journey/underlay/entries/frame/burst and what is unusual:
      l2-encap/ipv4/100000/64/32    journeys: \(Journey.allCases.map(\.rawValue).joined(separator: ", "))
      l3-encap/ipv6/100000/imix/32/vrfs=1024    vnis=N, vrfs=N: bridge domains or VRFs, powers of two
      l2-encap/ipv6/1000/1500/8/checksum        checksum: the inner UDP packets have one
      l2-decap/ipv6/1000/64/32/outer-checksum   what comes over IPv6 has an outer UDP checksum
      null/ipv4/1/64/32/outer, null/.../pool    frames with outer headers; buffers from the pool
      l2-encap/ipv6/1000/64/32/offload          the underlay port computes the outer UDP checksum
      arp-reply/ipv4/1/64/32/gateway            drop/.../unknown-vni, drop/.../unknown-vtep
      twin/l2-encap/ipv4/100000/64/32           the same in C on the same tables; "ratio" is Swift over C
    Sizes are of inner frames, with FCS, without tag; imix is 7:4:1 of 64, 570 and 1518 bytes.

    Before rows are timed, frames of each are compared with what should leave, field by field; what is
    wrong is printed as "fault", and the exit code is 1. Rows beside each other take turns, --repetitions
    times; a turn is cut into slices of 20000 packets (--packets of them) or copies. Core cycles in user mode
    come from perf_event_open: the median slice. Where the machine has no such counter they are the TSC
    ticks of the slice at the first decile, times the core's clock over the TSC's, measured in between.
    --check says whether the ids are right, and measures nothing.
    """

struct Options {
    var packets = 400_000
    var repetitions = 9
    var cpu = -1
    var hugepages = EnvironmentOptions.Hugepages.auto
    var isCheck = false
    /// Says nothing of its progress: what is printed depends on the time, and costs instructions.
    var quiet = false
    var rows: [Row] = []

    init() {
        var arguments = CommandLine.arguments.dropFirst()
        while let argument = arguments.popFirst() {
            func number(_ range: ClosedRange<Int>) -> Int {
                guard let text = arguments.popFirst(), let value = Int(text), range.contains(value) else {
                    fail("\(argument) needs a number, \(range.lowerBound)...\(range.upperBound)")
                }
                return value
            }
            switch argument {
            case "--packets": packets = number(1...1_000_000_000)
            case "--repetitions": repetitions = number(1...1000)
            case "--quiet": quiet = true
            case "--cpu": cpu = number(0...1023)
            case "--hugepages":
                guard let value = EnvironmentOptions.Hugepages(rawValue: arguments.popFirst() ?? "") else {
                    fail("--hugepages is auto, always or never")
                }
                hugepages = value
            case "--check": isCheck = true
            case "--help", "-h":
                print(usage)
                exit(0)
            default:
                if argument.hasPrefix("-") { fail("unknown option \(argument); see --help") }
                do { rows.append(try Row(argument, largestBurst: TableLimits.burst)) } catch { fail("\(error)") }
            }
        }
        if rows.isEmpty { fail("name the rows to measure; see --help") }
        if isCheck { exit(0) }
        if cpu < 0 { cpu = (0..<1024).last { pe_cpu_allowed(Int32($0)) != 0 } ?? 0 }
    }
}

func complain(_ message: String) {
    let text = Array("bench-cycles: \(message)\n".utf8)
    _ = write(2, text, text.count)
}
func fail(_ message: String) -> Never {
    complain(message)
    exit(2)
}

/// Says what is going on, at most every other second.
struct Progress {
    let quiet: Bool
    private var last = ContinuousClock.now
    init(quiet: Bool) { self.quiet = quiet }
    mutating func say(_ text: @autoclosure () -> String) {
        if quiet || ContinuousClock.now - last < .seconds(2) { return }
        last = .now
        complain(text())
    }
}

@main struct Bench {
    let options: Options
    let environment: Environment
    let meter: Meter
    var progress: Progress
    var sceneCount = 0
    var isFaulty = false

    static func main() throws {
        let options = Options()
        let counters = bench_counters_open()
        var environmentOptions = EnvironmentOptions()
        environmentOptions.workerCPUs = [options.cpu]
        environmentOptions.mainCPU = options.cpu
        environmentOptions.hugepages = options.hugepages
        environmentOptions.bufferCount = 4096
        environmentOptions.filePrefix = "bench-\(getpid())"
        environmentOptions.extraArguments = ["--vdev=net_null0", "--vdev=net_null1"]
        let environment: Environment
        do { environment = try Environment.start(environmentOptions) } catch { fail("\(error)") }
        _ = bench_pin(Int32(options.cpu))
        let packets = UnsafeMutableRawPointer(environment.packets)
        let headers = UnsafeMutableRawPointer(environment.headers)
        guard bench_attach(Site.underlay, Site.access, packets, headers, 1024) == 0 else {
            fail("the pool has too few buffers")
        }
        var bench = Bench(
            options: options, environment: environment,
            meter: Meter(counters: max(0, counters), packets: options.packets),
            progress: Progress(quiet: options.quiet))
        for group in groups(options.rows) { try bench.run(group) }
        exit(bench.isFaulty ? 1 : 0)
    }

    /// Rows that take turns: those of one journey that stand together, as long as their tables are few
    /// enough for the machine's memory.
    static func groups(_ rows: [Row]) -> [[Row]] {
        var result: [[Row]] = []
        var tables: Set<Row> = []
        for row in rows {
            tables.insert(row.tables)
            if let last = result.last?.first, last.journey == row.journey, tables.count <= 12 {
                result[result.count - 1].append(row)
            } else {
                result.append([row])
                tables = [row.tables]
            }
        }
        return result
    }

    mutating func run(_ rows: [Row]) throws {
        var records = try subjects(rows).map { Record(subject: $0) }
        for index in records.indices { records[index].fault = records[index].subject.check() }
        // Turn 0 does not count: it pays for pages that nobody has touched before.
        for turn in 0...options.repetitions {
            let turns = options.repetitions
            progress.say("\(rows[0].journey.rawValue), \(rows.count) rows: turn \(turn) of \(turns)")
            for index in records.indices where records[index].fault == nil {
                do {
                    let (figures, ratio) = try meter.turn(records[index].subject)
                    if turn == 0 { continue }
                    records[index].turns.append(figures)
                    records[index].clockRatios.append(ratio)
                } catch {
                    records[index].fault = error.description
                }
            }
        }
        for record in records where rows.contains(record.subject.row) {
            if record.fault != nil { isFaulty = true }
            let reference = records.first { $0.subject === record.subject.reference }
            print(record.json(meter, pages: environment.memory.pages, reference: reference))
            fflush(nil)
        }
    }

    /// The subjects of a group; rows with the same tables share them. A twin's worker takes turns with it,
    /// whether it was named or not.
    mutating func subjects(_ rows: [Row]) throws -> [Subject] {
        var scenes: [Row: Scene] = [:]
        var workers: [Row: WorkerSubject] = [:]
        var subjects: [Subject] = []
        for row in rows {
            if row.journey == .null {
                subjects.append(NullSubject(row: row))
                continue
            }
            progress.say("\(row.journey.rawValue): filling the tables of \(row.id)")
            let scene = try scenes[row.tables] ?? makeScene(row.tables)
            scenes[row.tables] = scene
            let worker = workers[row.swift] ?? WorkerSubject(row: row.swift, scene: scene)
            if workers.updateValue(worker, forKey: row.swift) == nil { subjects.append(worker) }
            if row.isTwin { subjects.append(try TwinSubject(row: row, worker: worker)) }
        }
        return subjects
    }
    mutating func makeScene(_ row: Row) throws -> Scene {
        sceneCount += 1
        return try Scene(row, name: "b\(sceneCount)", environment: environment)
    }
}
