// How workers are timed: threads on cores of their own, slices, poll gaps, and the core's clock.

import CBench
import CLinux
import FastPath
import Glibc
import Synchronization

/// What one worker did in one measured run.
struct Run {
    var packets = 0
    var seconds = 0.0
    /// TSC ticks a packet, one for each slice.
    var slices: [Double] = []
}

/// Where threads wait until all of them are there.
final class StartLine: Sendable {
    private let arrived = Atomic<Int>(0)
    private let wanted: Int
    init(_ wanted: Int) { self.wanted = wanted }
    func wait() {
        arrived.add(1, ordering: .acquiringAndReleasing)
        while arrived.load(ordering: .acquiring) < wanted { sched_yield() }
    }
}

/// Polls with one worker on one CPU until told to stop; everything it touches is its own.
final class Poller: @unchecked Sendable {
    private let worker: Worker
    private let cpu: Int
    private let deadline: Double
    private let start: StartLine
    private(set) var run = Run()
    private var thread = pthread_t()
    static let slice = 20_000

    init(_ worker: Worker, cpu: Int, seconds: Double, start: StartLine) {
        self.worker = worker
        self.cpu = cpu
        deadline = seconds
        self.start = start
    }
    func begin() {
        pthread_create(&thread, nil, { raw in
            guard let raw else { return nil }
            Unmanaged<Poller>.fromOpaque(raw).takeRetainedValue().poll()
            return nil
        }, Unmanaged.passRetained(self).toOpaque())
    }
    func join() { pthread_join(thread, nil) }

    private func poll() {
        _ = bench_pin(Int32(cpu))
        _ = worker.poll(packets: Self.slice * 2)
        start.wait()
        let begun = now()
        var end = begun
        repeat {
            let before = pe_tsc()
            let count = worker.poll(packets: Self.slice)
            run.slices.append(Double(pe_tsc() &- before) / Double(count))
            run.packets += count
            end = now()
        } while end - begun < deadline
        run.seconds = end - begun
    }
}

/// Seconds since some start.
func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Runs the first `count` workers of a scene for `seconds`, each on a CPU of its own, while this thread
/// sleeps.
func measure(_ scene: LaneScene, workers count: Int, cpus: [Int], seconds: Double) -> [Run] {
    let start = StartLine(count)
    let pollers = (0..<count).map {
        Poller(scene.workers[$0], cpu: cpus[$0 % cpus.count], seconds: seconds, start: start)
    }
    for poller in pollers { poller.begin() }
    for poller in pollers { poller.join() }
    return pollers.map(\.run)
}

func quantile(_ values: [Double], _ part: Double) -> Double {
    let sorted = values.sorted()
    return sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(Double(sorted.count) * part))]
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

/// TSC ticks in a second.
func tscFrequency() -> Double {
    let (start, ticks) = (now(), pe_tsc())
    usleep(50_000)
    return Double(pe_tsc() &- ticks) / (now() - start)
}

/// Gaps between two polls of a queue, in microseconds.
struct Gaps {
    let longest: Double
    let p999: Double
    let median: Double
    let overMillisecond: Int

    init(port: UInt16, queue: UInt16, frequency: Double) {
        let counts = bench_queue_read(port, queue)
        let microsecond = frequency / 1e6
        longest = Double(counts.pointee.longest_gap) / microsecond
        let histogram = Array(UnsafeBufferPointer(start: bench_queue_gaps(port, queue), count: Int(BENCH_GAPS)))
        let total = histogram.reduce(0) { $0 + Int($1) }
        func gap(_ part: Double) -> Double {
            var left = Int(Double(total) * part)
            for (slot, count) in histogram.enumerated() {
                left -= Int(count)
                if left < 0 { return Double(slot * 64 + 64) / microsecond }
            }
            return Double(counts.pointee.longest_gap) / microsecond
        }
        p999 = gap(0.999)
        median = gap(0.5)
        let limit = min(histogram.count, Int(1000 * microsecond / 64))
        overMillisecond = histogram[limit...].reduce(0) { $0 + Int($1) }
    }
}
