// Cycles per packet of the fast path, with a source and a sink in memory.

import CBench
import CDPDK
import CLinux
import FastPath
import Glibc
import Tables

let usage = """
    usage: bench-cycles [--macs 1,1000,100000] [--vnis N] [--vteps N] [--frame BYTES] [--ipv6]
                        [--l3] [--packets N] [--repetitions N] [--cpu N] [--hugepages] [--json]

    Measures L2 encapsulation and decapsulation, every feature on: FDB lookup, learning check and
    ageing marks, counters, VTEP check, outer checksum. With --l3 it routes instead: out of a circuit
    into the fabric by host route (out) and by prefix (prefix), out of the fabric to a host (into), and
    between two subnets (local); --macs is then the number of hosts and of their routes, --vnis that of
    VRFs, which have 10,000 prefixes together. The cases take turns; each turn is cut into
    slices of 20000 packets. Core cycles in user mode come from perf_event_open: the median slice.
    Where the machine has no such counter they are the TSC ticks of the slice at the first decile,
    times the core's clock over the TSC's, which is measured in between. `null` is the source and
    the sink alone, which every other line includes.
    """

struct Options {
    var macs = [1, 1000, 100_000]
    var vnis = 1
    var vteps = 64
    var frame = 60
    var isIPv6 = false
    var isRouted = false
    var packets = 1_000_000
    var repetitions = 9
    var cpu = -1
    var hugepages = false
    var json = false

    init() {
        var arguments = CommandLine.arguments.dropFirst()
        while let argument = arguments.popFirst() {
            func number() -> Int {
                guard let text = arguments.popFirst(), let value = Int(text), value > 0 || argument == "--cpu"
                else { fail("\(argument) needs a positive number") }
                return value
            }
            switch argument {
            case "--macs":
                macs = (arguments.popFirst() ?? "").split(separator: ",").compactMap { Int($0) }
                if macs.isEmpty || macs.contains(where: { $0 < 1 }) { fail("--macs needs numbers") }
            case "--vnis": vnis = Scene.powerOfTwo(number())
            case "--vteps": vteps = Scene.powerOfTwo(min(number(), 512))
            case "--frame": frame = max(60, min(number(), 1500))
            case "--ipv6": isIPv6 = true
            case "--l3": isRouted = true
            case "--packets": packets = number()
            case "--repetitions": repetitions = number()
            case "--cpu": cpu = number()
            case "--hugepages": hugepages = true
            case "--json": json = true
            case "--help", "-h":
                print(usage)
                exit(0)
            default: fail("unknown argument \(argument)")
            }
        }
        vnis = min(vnis, isRouted ? 1024 : 2048)
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

/// One measured run.
struct Sample {
    var cycles: Double
    var tsc: Double
    var instructions: Double
}

/// What is timed: a scene, or the source and the sink alone.
struct Subject {
    let name: String
    let direction: String
    let macs: Int
    let scene: Scene
    let isNull: Bool
    var samples: [Sample] = []

    static let slice = 20_000

    /// One turn; a sample for each slice.
    func measure(_ packets: Int) -> [Sample] {
        let port = scene.shape.direction.port
        var traffic = scene.traffic
        bench_traffic_set(port, &traffic)
        _ = run(max(packets / 10, min(macs, 200_000)))
        _ = bench_take_sent()
        var samples: [Sample] = []
        var before = bench_counts()
        var after = bench_counts()
        for _ in 0..<max(1, packets / Subject.slice) {
            bench_counters_read(&before)
            let received = run(Subject.slice)
            bench_counters_read(&after)
            let sent = bench_take_sent()
            if Int(sent) != received { fail("\(name): \(received) received, \(sent) sent") }
            let count = Double(received)
            samples.append(
                Sample(
                    cycles: Double(after.cycles &- before.cycles) / count,
                    tsc: Double(after.tsc &- before.tsc) / count,
                    instructions: Double(after.instructions &- before.instructions) / count))
        }
        return samples
    }

    private func run(_ packets: Int) -> Int {
        isNull ? sourceAndSink(packets) : scene.worker.poll(packets: packets)
    }

    private func sourceAndSink(_ packets: Int) -> Int {
        let port = scene.shape.direction.port
        return withUnsafeTemporaryAllocation(of: MBuf.self, capacity: 32) { buffer in
            guard let base = buffer.baseAddress else { return 0 }
            var total = 0
            while total < packets {
                let count = pe_eth_rx_burst(port, 0, base, 32)
                total += Int(pe_eth_tx_burst(1 - port, 0, base, count))
            }
            return total
        }
    }
}

func quantile(_ values: [Double], _ part: Double) -> Double {
    let sorted = values.sorted()
    return sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(Double(sorted.count) * part))]
}

/// What is reported of a subject.
struct Figures {
    var cycles: Double
    var least: Double
    var tsc: Double
    var instructions: Double?

    init(_ samples: [Sample], hasCounters: Bool, clockRatio: Double) {
        tsc = quantile(samples.map(\.tsc), 0.1)
        if hasCounters {
            cycles = quantile(samples.map(\.cycles), 0.5)
            least = quantile(samples.map(\.cycles), 0)
            instructions = quantile(samples.map(\.instructions), 0.5)
        } else {
            cycles = tsc * clockRatio
            least = quantile(samples.map(\.tsc), 0) * clockRatio
            instructions = nil
        }
    }
}

/// The core's clock over the TSC's, now: the quickest of a few chains of known length.
func clockRatio() -> Double {
    var best = Double.infinity
    for _ in 0..<20 {
        let start = pe_tsc()
        bench_spin(30)
        best = min(best, Double(pe_tsc() &- start))
    }
    return 90_000 / best
}
func fixed(_ value: Double) -> String {
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)"
}

@main struct Bench {
    static func main() throws {
        let options = Options()
        let counters = bench_counters_open()
        if counters < 0 {
            complain(
                "no cycle counter (perf_event_open: errno \(-counters)), TSC only; "
                    + "see /proc/sys/kernel/perf_event_paranoid")
        }
        var environmentOptions = EnvironmentOptions()
        environmentOptions.workerCPUs = [options.cpu]
        environmentOptions.mainCPU = options.cpu
        environmentOptions.hugepages = options.hugepages ? .always : .auto
        environmentOptions.bufferCount = 4096
        environmentOptions.filePrefix = "bench-\(getpid())"
        environmentOptions.extraArguments = ["--vdev=net_null0", "--vdev=net_null1"]
        let environment = try Environment.start(environmentOptions)
        _ = bench_pin(Int32(options.cpu))
        guard bench_attach(0, 1, UnsafeMutableRawPointer(environment.packets), 1024) == 0 else {
            fail("no buffers")
        }
        var subjects = try makeSubjects(options, environment)
        var ratios: [Double] = []
        for _ in 0..<options.repetitions {
            for index in subjects.indices {
                subjects[index].samples += subjects[index].measure(options.packets)
                ratios.append(clockRatio())
            }
        }
        let report = Report(
            options: options, hugepages: environment.usesHugepages, hasCounters: counters == 0,
            clockRatio: quantile(ratios, 0.5), subjects: subjects)
        print(options.json ? report.json : report.table)
    }

    static func makeSubjects(_ options: Options, _ environment: Environment) throws -> [Subject] {
        var subjects: [Subject] = []
        for direction in Direction.allCases where direction.isRouted == options.isRouted {
            for macs in options.macs {
                let shape = Case(
                    direction: direction, macs: macs, isIPv6: options.isIPv6, vnis: options.vnis,
                    vteps: options.vteps, frame: options.frame)
                let name = "\(direction.rawValue) \(macs)"
                let scene = try Scene(
                    shape, name: "b\(subjects.count)", environment: environment)
                if let fault = scene.fault() { fail("\(name): \(fault)") }
                if macs == options.macs[0] {
                    subjects.append(Subject(
                        name: "null (\(direction.rawValue) frames)", direction: direction.rawValue,
                        macs: macs, scene: scene, isNull: true))
                }
                subjects.append(Subject(
                    name: name, direction: direction.rawValue, macs: macs, scene: scene, isNull: false))
            }
        }
        return subjects
    }
}
