// Several workers, floods and ECMP: packets a second, cycles per packet, and what other traffic notices.

import CBench
import CDPDK
import CLinux
import FastPath
import Glibc
import Tables

let usage = """
    usage: bench-scaling [--part scaling|flood|ecmp] [--flows N] [--seconds S] [--repetitions N]
                         [--workers N] [--hugepages]

    Prints one JSON object: {"rows": [{"id", "metrics": {name: {"unit", "values": [one a repetition]}}}],
    "clockRatio", "hugepages"}; `bench/scaling` makes medians and a table of it.

      scaling  each journey with 1 to N workers, each with its own queue of both ports on a CPU of its own
      flood    copies of broadcasts to 512 VTEPs: cycles of one, and how long other traffic waits meanwhile
      ecmp     one VTEP over 1 and 64 paths: cycles, and how evenly the flows spread

    Core cycles are TSC ticks of the slice of 20000 packets at the first decile times the clock's ratio.
    """

struct Options {
    var part = ""
    var flows = 100_000
    var seconds = 0.4
    var repetitions = 7
    var workers = 2
    var hugepages = false

    init() {
        var arguments = CommandLine.arguments.dropFirst()
        while let argument = arguments.popFirst() {
            func number(_ range: ClosedRange<Int>) -> Int {
                guard let text = arguments.popFirst(), let value = Int(text), range.contains(value) else {
                    fail("\(argument) needs a number, \(range.lowerBound) to \(range.upperBound)")
                }
                return value
            }
            switch argument {
            case "--part":
                part = arguments.popFirst() ?? ""
                if !["scaling", "flood", "ecmp"].contains(part) { fail("--part is scaling, flood or ecmp") }
            case "--flows": flows = number(1024...1_000_000)
            case "--seconds":
                guard let text = arguments.popFirst(), let value = Double(text), (0.001...60).contains(value) else {
                    fail("--seconds needs a number, 0.001 to 60")
                }
                seconds = value
            case "--repetitions": repetitions = number(1...1000)
            case "--workers": workers = number(1...Int(BENCH_QUEUES))
            case "--hugepages": hugepages = true
            case "--help", "-h":
                print(usage)
                exit(0)
            default: fail("unknown argument \(argument)")
            }
        }
    }
    func wants(_ name: String) -> Bool { part.isEmpty || part == name }
}

func fail(_ message: String) -> Never {
    let text = Array("bench-scaling: \(message)\n".utf8)
    _ = write(2, text, text.count)
    exit(2)
}

/// Values of each repetition, by row and metric.
struct Rows {
    private var order: [String] = []
    private var values: [String: [(name: String, unit: String, values: [Double])]] = [:]

    mutating func add(_ id: String, _ name: String, _ unit: String, _ value: Double) {
        if values[id] == nil {
            order.append(id)
            values[id] = []
        }
        guard var metrics = values[id] else { return }
        if let index = metrics.firstIndex(where: { $0.name == name }) {
            metrics[index].values.append(value)
        } else {
            metrics.append((name, unit, [value]))
        }
        values[id] = metrics
    }
    var json: String {
        let rows = order.map { id in
            let metrics = (values[id] ?? []).map { metric in
                "\"\(metric.name)\": {\"unit\": \"\(metric.unit)\", \"values\": \(metric.values)}"
            }
            return "{\"id\": \"\(id)\", \"metrics\": {\(metrics.joined(separator: ", "))}}"
        }
        return "[" + rows.joined(separator: ",\n ") + "]"
    }
}

@main struct Bench {
    static func main() throws {
        let options = Options()
        let cpus = (0..<1024).filter { pe_cpu_allowed(Int32($0)) != 0 }
        var settings = EnvironmentOptions()
        settings.mainCPU = cpus.first ?? 0
        settings.workerCPUs = (0..<options.workers).map { cpus[(cpus.count - 1 + $0) % cpus.count] }
        settings.hugepages = options.hugepages ? .always : .auto
        settings.bufferCount = 16_384
        settings.filePrefix = "bench-\(getpid())"
        settings.extraArguments = ["--vdev=net_null0", "--vdev=net_null1"]
        let environment = try Environment.start(settings)
        for port in UInt16(0)..<2 {
            guard bench_queues_attach(port, UInt16(BENCH_QUEUES)) == 0 else { fail("no ports") }
        }
        var bench = Measurement(options: options, environment: environment, cpus: settings.workerCPUs)
        if options.wants("scaling") { try bench.scaling() }
        if options.wants("flood") { try bench.flood() }
        if options.wants("ecmp") { try bench.ecmp() }
        print("{\"rows\": \(bench.rows.json),")
        print(" \"clockRatio\": \(quantile(bench.ratios, 0.5)), \"hugepages\": \(environment.usesHugepages),"
            + " \"pages\": \"\(environment.memory.pages.rawValue)\"}")
    }
}

struct Measurement {
    let options: Options
    let environment: Environment
    let cpus: [Int]
    var rows = Rows()
    var ratios: [Double] = []

    private func check(_ scene: LaneScene, _ what: String) {
        guard scene.tables.counters.isBalanced else { fail("\(what): the counters do not balance") }
    }
    private mutating func ratio() -> Double {
        ratios.append(clockRatio())
        return quantile(ratios, 0.5)
    }

    mutating func scaling() throws {
        let scenes = try [Journey.l2Encap, .l2Decap, .l3Encap].map {
            try LaneScene(
                $0, flows: options.flows, workers: options.workers, name: $0.rawValue, environment: environment)
        }
        bench_queues_free_sent(0)
        for _ in 0..<options.repetitions {
            for scene in scenes {
                for count in 1...options.workers {
                    guard scene.supply(workers: count) else { fail("no buffers") }
                    let runs = measure(scene, workers: count, cpus: cpus, seconds: options.seconds)
                    let id = "scaling/\(scene.journey.rawValue)/workers=\(count)"
                    let rate = runs.reduce(0) { $0 + Double($1.packets) / $1.seconds }
                    rows.add(id, "mpps", "Mpps", rate / 1e6)
                    let ticks = quantile(runs.map { quantile($0.slices, 0.1) }, 1)
                    rows.add(id, "cycles", "cycles", ticks * ratio())
                    rows.add(id, "tsc", "ticks", ticks)
                    verify(scene, count)
                }
            }
        }
        for scene in scenes { check(scene, scene.journey.rawValue) }
        for scene in scenes where !scene.supply(workers: 0) { fail("no buffers") }
    }

    /// All that came has left, through the right port, on the queue of the worker that received it.
    private func verify(_ scene: LaneScene, _ count: Int) {
        for worker in 0..<count {
            let entry = scene.exit == LaneScene.underlay ? LaneScene.access : LaneScene.underlay
            let received = scene.counts(entry, worker: worker).pointee.received
            let sent = scene.counts(scene.exit, worker: worker).pointee.sent
            if received == 0 || received != sent {
                let drops = DropReason.allCases.filter { scene.tables.counters.total($0) != 0 }
                fail("\(scene.journey.rawValue): worker \(worker) received \(received), sent \(sent), \(drops)")
            }
        }
    }

    /// Broadcasts to 512 VTEPs, as fast as they are taken, beside a queue that carries nothing else.
    mutating func flood() throws {
        let frequency = tscFrequency()
        let scene = try LaneScene(
            .flood, flows: 1024, vteps: 512, workers: 1, name: "flood", environment: environment)
        bench_queues_free_sent(1)
        _ = bench_pin(Int32(cpus[0]))
        let worker = scene.workers[0]
        for _ in 0..<options.repetitions {
            for (id, period) in [("flood/512/stall", UInt32(1)), ("flood/none/stall", 0)] {
                guard scene.supply(workers: 1, buffers: 0, period: period) else { fail("no buffers") }
                let dropped = scene.tables.counters.total(.floodQueueFull)
                let end = now() + options.seconds
                // The fabric's queue is polled once a turn: it sees how long each turn is.
                while now() < end { for _ in 0..<64 { worker.pollOnce() } }
                let gaps = Gaps(port: LaneScene.underlay, queue: 0, frequency: frequency)
                rows.add(id, "microsecondsMax", "µs", gaps.longest)
                rows.add(id, "microseconds", "µs", gaps.p999)
                rows.add(id, "microsecondsMedian", "µs", gaps.median)
                rows.add(id, "overMillisecond", "gaps", Double(gaps.overMillisecond))
                if period > 0 {
                    let lost = scene.tables.counters.total(.floodQueueFull) - dropped
                    rows.add(id, "floodQueueFull", "packets", Double(lost))
                }
                worker.finish()
                check(scene, id)
            }
            try floodCopies(scene)
        }
    }

    /// A burst of 32 broadcasts at a time, whose copies are all made before the next one.
    private mutating func floodCopies(_ scene: LaneScene) throws {
        let worker = scene.workers[0]
        let period = UInt32(32 * 512 / 256)
        guard scene.supply(workers: 1, buffers: 0, period: period) else { fail("no buffers") }
        let dropped = scene.tables.counters.dropped
        var slices: [Double] = []
        for round in 0..<Int(options.seconds * 1000) {
            let before = pe_tsc()
            let start = scene.counts(LaneScene.underlay, worker: 0).pointee.sent
            for _ in 0..<period { worker.pollOnce() }
            let copies = scene.counts(LaneScene.underlay, worker: 0).pointee.sent - start
            if round > 2, copies > 0 { slices.append(Double(pe_tsc() &- before) / Double(copies)) }
        }
        worker.finish()
        if scene.tables.counters.dropped != dropped { fail("flood: copies were dropped") }
        check(scene, "flood/512/copy")
        let ticks = quantile(slices, 0.1)
        rows.add("flood/512/copy", "cycles", "cycles", ticks * ratio())
        rows.add("flood/512/copy", "tsc", "ticks", ticks)
    }

    mutating func ecmp() throws {
        let scenes = try [1, 64].map {
            try LaneScene(
                .l2Encap, flows: 65_536, vteps: 1, paths: $0, workers: 1, name: "ecmp\($0)", environment: environment)
        }
        bench_queues_free_sent(0)
        for _ in 0..<options.repetitions {
            for (scene, paths) in zip(scenes, [1, 64]) {
                guard scene.supply(workers: 1) else { fail("no buffers") }
                let runs = measure(scene, workers: 1, cpus: cpus, seconds: options.seconds)
                let ticks = quantile(runs[0].slices, 0.1)
                let id = "ecmp/\(paths)"
                rows.add(id, "cycles", "cycles", ticks * ratio())
                rows.add(id, "tsc", "ticks", ticks)
                let shares = self.shares(scene, paths)
                rows.add(id, "members", "paths", Double(shares.count { $0 > 0 }))
                rows.add(id, "leastShare", "of mean", shares.min() ?? 0)
                rows.add(id, "largestShare", "of mean", shares.max() ?? 0)
                verify(scene, 1)
            }
        }
        for scene in scenes { check(scene, "ecmp") }
        for scene in scenes where !scene.supply(workers: 0) { fail("no buffers") }
    }

    /// Frames by path, as parts of the mean.
    private func shares(_ scene: LaneScene, _ paths: Int) -> [Double] {
        let counts = scene.counts(LaneScene.underlay, worker: 0)
        let sent = withUnsafeBytes(of: counts.pointee.paths) { Array($0.bindMemory(to: UInt64.self)[..<paths]) }
        let mean = Double(sent.reduce(0, +)) / Double(paths)
        return sent.map { Double($0) / max(1, mean) }
    }
}
