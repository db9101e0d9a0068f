// Gaps between a worker's polls while the writer works, beside those while a twin of the writer does.
//
// Gaps come from the machine, too, and a writer changes how many: an idle core makes a hypervisor noisier. So the
// writer is compared with a twin that loads the same core in the same way: the same program with the same
// streams, but a process of its own, whose memory the worker does not share. They take turns in windows of some
// tens of milliseconds. What both have is the machine's; what the writer's windows have more is the writer's.

import CGaps
import CLinux
import ControlPlane
import Glibc
import Tables
import Wire

/// Words that this process and its twin share, by index.
private enum Word {
    static let phase = 0, length = 16, begin = 24, end = 32, messages = 40
    static let byteCount = 4096
}

struct StallRun {
    let options: Options
    /// Time stamp counter ticks of a window: both of a pair have the same length, which varies from pair to
    /// pair, so that nothing periodic falls into one of them alone.
    static let windowMicroseconds = 20_000..<60_000

    init(_ options: Options) { self.options = options }

    private struct Window {
        var phase: Int
        var begin: UInt64
        var end: UInt64
        var messages: Int
        /// Interrupts of the worker's CPU meanwhile.
        var interrupts: gap_interrupts?
    }

    // MARK: The twin

    /// Works in its own tables whenever it is told so, until its input ends.
    func serveAsTwin() -> Never {
        pin(options.cpu)
        guard let words = Self.map(3) else { fail("the twin was not started by bench-control stall") }
        let (plane, load) = prepare()
        var byte: UInt8 = 0
        guard write(1, &byte, 1) == 1 else { exit(1) }
        while read(0, &byte, 1) == 1 {
            Self.run(load, as: Phase.twin, words)
            if let first = plane.takeErrors().first { fail("the stream was not taken in: \(first)") }
            guard write(1, &byte, 1) == 1 else { exit(1) }
        }
        exit(0)
    }

    /// One window's work: the phase stands in the shared words as long as it lasts.
    private static func run(_ load: WriterLoad, as phase: Int, _ words: UnsafeMutablePointer<UInt64>) {
        let begin = pe_tsc()
        pe_store64(words + Word.phase, UInt64(phase))
        let messages = load.run(until: begin &+ words[Word.length])
        pe_store64(words + Word.phase, UInt64(Phase.none))
        words[Word.begin] = begin
        words[Word.end] = pe_tsc()
        words[Word.messages] = UInt64(messages)
    }

    private static func map(_ file: Int32) -> UnsafeMutablePointer<UInt64>? {
        let memory = mmap(nil, Word.byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
        guard let memory, memory != MAP_FAILED else { return nil }
        return memory.assumingMemoryBound(to: UInt64.self)
    }

    /// Tables with everything installed, and what the writer does with them.
    private func prepare() -> (Plane, WriterLoad) {
        let streams = Streams(options.fabric)
        let plane = Plane(streams)
        _ = plane.feed(streams.base())
        let install = streams.install()
        _ = plane.feed(install)
        if let first = plane.takeErrors().first { fail("the stream was not taken in: \(first)") }
        switch options.load {
        case .feed:
            let changes = (0..<max(1, options.generations)).map { streams.generation($0 + 1) }
            return (plane, FeedLoad(plane, changes + [install]))
        case .hammer: return (plane, HammerLoad(options.fabric, plane.tables))
        }
    }

    // MARK: The measurement

    func measure() -> [String: Any] {
        // A worker that takes turns with the writer on one core waits for it all the time.
        guard options.cpu != options.readerCPU, pin(options.readerCPU), pin(options.cpu) else {
            fail("stall needs CPUs \(options.cpu) and \(options.readerCPU) for itself; see --cpu and --reader-cpu")
        }
        let file = gap_shared_memory(UInt64(Word.byteCount))
        guard file >= 0, let words = Self.map(file) else {
            fail("no memory to share with a twin: \(String(cString: strerror(errno)))")
        }
        let twin = TwinProcess(sharing: file)
        let (plane, load) = prepare()
        twin.waitUntilDone()
        let ticks = ticksPerMicrosecond()
        let seesInterrupts = Self.seesInterrupts(cpu: options.readerCPU)
        let shared = Shared()
        let poller = Poller(
            options.fabric, plane.tables, shared, phase: words + Word.phase,
            reach: options.load == .hammer ? HammerLoad.reach : nil, ticksPerMicrosecond: ticks)
        let cpu = options.readerCPU
        let thread = BenchThread {
            pin(cpu)
            poller.poll(cpu: cpu)
        }
        while !shared.runs { usleep(100) }
        let windows = takeTurns(load, twin, words, ticks)
        shared.stops = true
        thread.join()
        twin.end()
        if let first = plane.takeErrors().first { fail("the stream was not taken in: \(first)") }
        var result = report(poller, windows, ticks)
        result["seesInterrupts"] = seesInterrupts
        result["refused"] = (load as? HammerLoad)?.refused ?? 0
        return result
    }

    /// Pairs of windows, in random order, until each side had its seconds.
    private func takeTurns(
        _ load: WriterLoad, _ twin: TwinProcess, _ words: UnsafeMutablePointer<UInt64>, _ ticks: Double
    ) -> [Window] {
        var windows: [Window] = []
        let file = gap_interrupts_open()
        defer { if file >= 0 { close(file) } }
        func interrupts() -> gap_interrupts? {
            var found = gap_interrupts()
            return file >= 0 && gap_interrupts_read(file, Int32(options.readerCPU), &found) == 0 ? found : nil
        }
        var random = SystemRandomNumberGenerator()
        var left = options.seconds * 1e6
        while left > 0 {
            let length = Int.random(in: Self.windowMicroseconds, using: &random)
            left -= Double(length)
            words[Word.length] = UInt64(Double(length) * ticks)
            let first = Bool.random(using: &random) ? Phase.writer : Phase.twin
            for phase in [first, Phase.twin + Phase.writer - first] {
                let before = interrupts()
                if phase == Phase.writer { Self.run(load, as: phase, words) } else { twin.runWindow() }
                var window = Window(
                    phase: phase, begin: words[Word.begin], end: words[Word.end], messages: Int(words[Word.messages]))
                if let before, let after = interrupts() {
                    window.interrupts = gap_interrupts(all: after.all &- before.all, sent: after.sent &- before.sent)
                }
                windows.append(window)
            }
        }
        return windows
    }

    /// Whether ``gap_interrupted()`` works on this machine: the clock's interrupts must show.
    private static func seesInterrupts(cpu: Int) -> Bool {
        nonisolated(unsafe) var found = 0
        let thread = BenchThread {
            pin(cpu)
            let end = seconds() + 0.2
            gap_arm()
            while seconds() < end {
                if gap_interrupted() != 0 {
                    found += 1
                    gap_arm()
                }
            }
        }
        thread.join()
        // The slowest clock in use has 100 a second.
        return found >= 10
    }

    // MARK: The report

    private func report(_ poller: Poller, _ windows: [Window], _ ticks: Double) -> [String: Any] {
        let origin = windows.first?.begin ?? 0
        func time(_ tick: UInt64) -> Double { Double(Int64(bitPattern: tick &- origin)) / ticks }
        let log = poller.log
        var result: [String: Any] = [
            "lost": log.lost, "ticksPerMicrosecond": ticks,
            "steps": [
                "turns": poller.steps.turns, "buckets": poller.steps.buckets, "words": poller.steps.words,
                "turn": poller.steps.turn, "lookups": Poller.burst * 3,
            ],
            "windows": windows.map { [Double($0.phase), time($0.begin), time($0.end), Double($0.messages)] },
            "turns": log.longTurns.map { turn in
                [
                    Double(turn.phase), time(turn.begin), Double(turn.ticks) / ticks, turn.isInterrupted ? 1 : 0,
                    Double(turn.switches), Double(turn.faults), turn.sent.map(Double.init) ?? -1,
                ]
            },
        ]
        for phase in 0..<Phase.count {
            let counts = windows.filter { $0.phase == phase }.compactMap(\.interrupts)
            let length = Double(log.ticks[phase]) / ticks / 1e6
            result[Phase.names[phase]] = [
                "seconds": length, "polls": log.polls[phase],
                "p50": log.percentile(phase, 0.5), "p99": log.percentile(phase, 0.99),
                "p99.9": log.percentile(phase, 0.999), "p99.99": log.percentile(phase, 0.9999),
                "p99.999": log.percentile(phase, 0.99999),
                "histogram": Self.coarse(log.buckets[phase]),
                "interrupts": counts.reduce(0) { $0 + $1.all }, "sent": counts.reduce(0) { $0 + $1.sent },
            ]
        }
        return result
    }
    /// Lower ends in microseconds, and how many turns took from there to the next.
    private static func coarse(_ buckets: [UInt64]) -> [[Double]] {
        let ends = [0.1, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100]
        return zip(ends, ends.dropFirst() + [200]).map { begin, end in
            let first = begin == 0.1 ? 0 : Int(begin * 10)
            let last = min(Int(end * 10), PollLog.bucketCount)
            return [begin, Double(buckets[min(first, PollLog.bucketCount - 1)..<last].reduce(0, +))]
        }
    }
    private func ticksPerMicrosecond() -> Double {
        let begin = (seconds(), pe_tsc())
        while seconds() - begin.0 < 0.2 {}
        return Double(pe_tsc() &- begin.1) / (seconds() - begin.0) / 1e6
    }
}

/// The process that is the writer's twin.
private final class TwinProcess {
    private var process: pid_t = 0
    private var input: Int32 = -1
    private var output: Int32 = -1

    /// Starts this program once more, with the same options; `file` becomes its descriptor 3.
    init(sharing file: Int32) {
        var toTwin: [Int32] = [0, 0]
        var fromTwin: [Int32] = [0, 0]
        guard pipe(&toTwin) == 0, pipe(&fromTwin) == 0 else { fail("no pipes: \(String(cString: strerror(errno)))") }
        for end in [toTwin[1], fromTwin[0]] { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, toTwin[0], 0)
        posix_spawn_file_actions_adddup2(&actions, fromTwin[1], 1)
        posix_spawn_file_actions_adddup2(&actions, file, 3)
        let words = ["bench-control", "twin"] + CommandLine.arguments.dropFirst().filter { $0 != "stall" }
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        defer { for word in arguments { free(word) } }
        arguments.append(nil)
        let result = posix_spawn(&process, "/proc/self/exe", &actions, nil, arguments, environ)
        guard result == 0 else { fail("no twin: \(String(cString: strerror(result)))") }
        close(toTwin[0])
        close(fromTwin[1])
        (input, output) = (toTwin[1], fromTwin[0])
        signal(SIGPIPE, SIG_IGN)
    }
    func runWindow() {
        var byte: UInt8 = 1
        guard write(input, &byte, 1) == 1 else { fail("the twin has ended") }
        waitUntilDone()
    }
    func waitUntilDone() {
        var byte: UInt8 = 0
        guard read(output, &byte, 1) == 1 else { fail("the twin has ended") }
    }
    func end() {
        close(input)
        close(output)
        var status: Int32 = 0
        waitpid(process, &status, 0)
        guard status == 0 else { fail("the twin failed") }
    }
}
