// What bench-control measures, one function for each command.

import CLinux
import ControlPlane
import Glibc
import Tables
import Wire

struct Measurements {
    let options: Options
    var fabric: Fabric { options.fabric }

    init(_ options: Options) { self.options = options }

    /// Streams of the run: what is there before, the installation, and each generation.
    func phases() -> [(name: String, stream: StreamWriter)] {
        let streams = Streams(fabric)
        var phases = [(name: "base", stream: streams.base()), (name: "install", stream: streams.install())]
        for generation in 0..<options.generations {
            phases.append((name: "change", stream: streams.generation(generation + 1)))
        }
        phases.append((name: "withdraw", stream: streams.withdrawal(after: options.generations)))
        return phases
    }
    func checkErrors(_ plane: Plane) {
        if let first = plane.takeErrors().first { fail("the stream was not taken in: \(first)") }
    }
    private func expect(_ plane: Plane, generation: Int) {
        let routes = (0..<fabric.routes).reduce(0) {
            $0 + (fabric.vtep(ofRoute: $1, touch: fabric.touches($1, through: generation)) == nil ? 0 : 1)
        }
        let macs = (0..<fabric.macs).reduce(0) {
            $0 + (fabric.vtep(ofMAC: $1, touch: fabric.touches($1, through: generation)) == nil ? 0 : 1)
        }
        var found = 0
        plane.tables.forEachRoute { _, _, value in if value.isHop || value.isGroup { found += 1 } }
        // The routes to VTEPs are in the main table, which no VRF is; each domain has its gateway's MAC.
        let gateways = fabric.domains
        if found != routes + fabric.prefixes || plane.tables.macCount != macs + gateways {
            fail(
                "the tables have \(found) routes and \(plane.tables.macCount) MACs instead of "
                    + "\(routes + fabric.prefixes) and \(macs + gateways)")
        }
    }

    // MARK: Rates

    func rates() -> [String: Any] {
        pin(options.cpu)
        let phases = phases()
        var found: [[String: Any]] = []
        for _ in 0..<options.repetitions {
            let plane = Plane(Streams(fabric))
            var sums: [String: FeedTotals] = [:]
            for phase in phases {
                let totals = plane.feed(phase.stream)
                checkErrors(plane)
                var sum = sums[phase.name] ?? FeedTotals()
                sum.messages += totals.messages
                sum.seconds += totals.seconds
                sum.cpuSeconds += totals.cpuSeconds
                sum.longestTurn = max(sum.longestTurn, totals.longestTurn)
                sums[phase.name] = sum
                if phase.name == "install" { expect(plane, generation: 0) }
            }
            if plane.tables.routeCount > fabric.domains * 2 + fabric.vrfs * 4 + 16 {
                fail("\(plane.tables.routeCount) routes are left after the withdrawal")
            }
            found.append(
                sums.mapValues {
                    ["messages": $0.messages, "seconds": $0.seconds, "perSecond": $0.perSecond,
                        "perCPUSecond": $0.perCPUSecond, "longestTurnMilliseconds": $0.longestTurn * 1e3]
                })
        }
        return ["runs": found, "style": fabric.style.rawValue]
    }

    // MARK: Memory

    /// Resident memory before and after the installation, and after everything was withdrawn.
    func memory() -> [String: Any] {
        let streams = Streams(fabric)
        let directory = temporaryDirectory()
        streams.install().write(to: "\(directory)/install.bin")
        streams.withdrawal(after: 0).write(to: "\(directory)/withdraw.bin")
        defer {
            unlink("\(directory)/install.bin")
            unlink("\(directory)/withdraw.bin")
            rmdir(directory)
        }
        let install = MappedStream("\(directory)/install.bin")
        let withdraw = MappedStream("\(directory)/withdraw.bin")
        let plane = Plane(streams)
        _ = plane.feed(streams.base())
        Self.trim()
        let before = residentBytes()
        _ = plane.feed(install.bytes)
        checkErrors(plane)
        expect(plane, generation: 0)
        let raw = residentBytes()
        Self.trim()
        let after = residentBytes()
        let entries = fabric.routes + fabric.prefixes + fabric.macs
        _ = plane.feed(withdraw.bytes)
        Self.trim()
        return [
            "entries": entries, "before": before, "after": raw, "trimmed": after, "withdrawn": residentBytes(),
        ]
    }
    /// Gives free memory of the heap back, as far as glibc can: what is left is in use.
    private static func trim() {
        typealias Trim = @convention(c) (Int) -> Int32
        guard let symbol = dlsym(nil, "malloc_trim") else { return }
        _ = unsafeBitCast(symbol, to: Trim.self)(0)
    }
    private func temporaryDirectory() -> String {
        var template = Array("/tmp/bench-control-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { fail("no directory in /tmp") }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    // MARK: Exactness

    func exact() -> [String: Any] {
        pin(options.cpu)
        let phases = phases()
        let plane = Plane(Streams(fabric))
        let shared = Shared()
        let reader = Reader(fabric, plane.tables, shared)
        let cpu = options.readerCPU
        _ = plane.feed(phases[0].stream)
        let thread = BenchThread {
            pin(cpu)
            reader.check()
        }
        while !shared.runs { usleep(100) }
        let begin = seconds()
        var messages = 0
        for (generation, phase) in phases[1...].dropLast().enumerated() {
            shared.started = generation
            messages += plane.feed(phase.stream).messages
            shared.finished = generation
        }
        let length = seconds() - begin
        // And at rest: nothing but the last generation counts.
        usleep(200_000)
        shared.stops = true
        thread.join()
        checkErrors(plane)
        expect(plane, generation: options.generations)
        return [
            "checks": reader.checks, "contended": reader.contended, "wrong": reader.wrongCount,
            "examples": reader.wrong, "messages": messages, "perSecond": Double(messages) / length,
            "generations": options.generations,
        ]
    }
}
