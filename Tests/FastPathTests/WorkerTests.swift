// The worker's loop on a thread of its own: work, sleep, waking, publication and stopping.

import FastPath
import Glibc
import Tables
import TestSupport
import Testing
import Wire

/// Runs a worker's loop on a new thread until ``stop()``.
final class RunningWorker {
    private let worker: Worker
    private var thread = pthread_t()
    init(_ worker: Worker) throws {
        self.worker = worker
        let made = pthread_create(
            &thread, nil, { argument in
                _ = Worker.entry(argument)
                return nil
            }, worker.argument)
        try #require(made == 0)
        while !worker.isRunning { usleep(100) }
    }
    func stop() {
        worker.stop()
        pthread_join(thread, nil)
    }
    /// CPU time that the thread has used, in seconds.
    var processorSeconds: Double {
        var clock = clockid_t()
        var time = timespec()
        guard pthread_getcpuclockid(thread, &clock) == 0, clock_gettime(clock, &time) == 0 else {
            return -1
        }
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

@Suite("The worker's loop", .serialized) struct WorkerTests {
    func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
    func send(_ world: World, _ number: UInt8) throws {
        let frame = Frame.host(to: remoteMAC, from: hostMAC, payload: [number])
        let mbuf = try #require(PacketBytes.make(frame, port: 2, pool: world.packets.pointer))
        #expect(world.ports.receive(mbuf))
    }
    /// What left, once `count` frames did; fewer after five seconds.
    func sent(_ world: World, _ count: Int) -> [[UInt8]] {
        var result: [[UInt8]] = []
        let end = seconds() + 5
        while result.count < count, seconds() < end {
            let packets = world.ports.takeSent()
            result += packets.map { PacketBytes.of($0) }
            world.ports.free(packets)
            if packets.isEmpty { usleep(200) }
        }
        return result
    }

    @Test("frames pass while it polls, and after it went to sleep", arguments: [IdlePolicy.poll, .adaptive])
    func forwards(idle: IdlePolicy) throws {
        var options = World.Options()
        options.idle = idle
        let pair = try Pair(.v4, options)
        let running = try RunningWorker(pair.world.worker)
        for number in UInt8(0)..<100 { try send(pair.world, number) }
        #expect(sent(pair.world, 100).map { $0.last } == (UInt8(0)..<100).map { $0 })
        usleep(300_000)
        try send(pair.world, 7)
        #expect(sent(pair.world, 1).count == 1)
        running.stop()
        #expect(!pair.world.worker.isRunning)
        expectBalanced(pair.world)
    }

    @Test("an idle adaptive worker uses less than 5 % of a core")
    func sleeps() throws {
        var options = World.Options()
        options.idle = .adaptive
        let pair = try Pair(.v4, options)
        let running = try RunningWorker(pair.world.worker)
        usleep(200_000)
        let (before, start) = (running.processorSeconds, seconds())
        usleep(1_000_000)
        let share = (running.processorSeconds - before) / (seconds() - start)
        #expect(share >= 0 && share < 0.05)
        running.stop()
    }

    @Test("a sleeping worker holds no tables: changes are reclaimed and seen when it wakes")
    func publishes() throws {
        var options = World.Options()
        options.idle = .adaptive
        let pair = try Pair(.v4, options)
        let running = try RunningWorker(pair.world.worker)
        usleep(300_000)
        let path = try #require(pair.world.tables.paths(of: pair.tunnel).paths.first)
        var changed = path
        changed.nextHopMAC = MACAddress(2, 7, 7, 7, 7, 7)
        pair.world.tables.setPaths(tunnel: pair.tunnel, [changed], unusable: nil)
        pair.world.tables.publish()
        #expect(pair.world.tables.publication.retiredCount == 0)
        try send(pair.world, 1)
        #expect(sent(pair.world, 1).first.map { Array($0[0..<6]) } == [2, 7, 7, 7, 7, 7])
        running.stop()
        expectBalanced(pair.world)
    }

    @Test("tables change under a busy worker: every frame ends once, old tables are freed")
    func busy() throws {
        var options = World.Options()
        options.idle = .adaptive
        let pair = try Pair(.v4, options)
        let world = pair.world
        let running = try RunningWorker(world.worker)
        var count = 0
        for round in 0..<200 {
            for number in UInt8(0)..<8 { try send(world, number) }
            if round % 2 == 0 {
                world.tables.removeMAC(domain: world.domain, remoteMAC)
            } else {
                try world.addMAC(remoteMAC, .tunnel(pair.tunnel))
            }
            try world.setFlood(circuits: [pair.circuit], tunnels: [pair.tunnel])
            count += sent(world, 8).count
        }
        running.stop()
        world.tables.publish()
        #expect(count == 1600)
        #expect(world.tables.publication.retiredCount == 0)
        expectBalanced(world)
    }

    @Test("stop ends the loop soon, asleep or awake", arguments: [IdlePolicy.poll, .adaptive])
    func stops(idle: IdlePolicy) throws {
        var options = World.Options()
        options.idle = idle
        let pair = try Pair(.v4, options)
        let running = try RunningWorker(pair.world.worker)
        usleep(300_000)
        let start = seconds()
        running.stop()
        #expect(seconds() - start < 1)
    }
}
