// Two workers at a time: on the same tables, on ports with a queue for each, and on ports with one queue.

import CDPDK
import Glibc
import Tables
import TestSupport
import TestThreads
import Testing
import Wire

@testable import FastPath

@Suite("Two workers on the same tables", .serialized) struct TwoWorkerTests {
    static func options() -> World.Options {
        var options = World.Options()
        options.workers = 2
        options.packetCount = 4095
        options.headerCount = 4095
        options.idle = .adaptive
        return options
    }
    /// A source of its own for each flow.
    static func host(_ number: Int) -> MACAddress { MACAddress(2, 0x10, 0, 0, UInt8(number >> 8), UInt8(number & 255)) }

    func receive(_ world: World, _ worker: Int, _ port: UInt16, _ bytes: [UInt8]) throws {
        let mbuf = try #require(PacketBytes.make(bytes, port: port, pool: world.packets.pointer))
        var tries = 0
        while !world.workerPorts[worker].receive(mbuf), tries < 10_000 {
            usleep(100)
            tries += 1
        }
    }
    /// What left through one worker's ports, once `count` frames did or ten seconds are over.
    func sent(_ world: World, _ worker: Int, _ count: Int) -> [Sent] {
        var result: [Sent] = []
        for _ in 0..<50_000 where result.count < count {
            let packets = world.workerPorts[worker].takeSent()
            result += packets.map { Sent(port: $0.pointee.port, bytes: PacketBytes.of($0)) }
            world.workerPorts[worker].free(packets)
            if packets.isEmpty { usleep(200) }
        }
        return result
    }

    @Test("both forward in order, learn into rings of their own, and flood; the sum balances")
    func both() throws {
        let pair = try Pair(.v4, Self.options())
        let world = pair.world
        let flood = try world.addCircuit(port: 3)
        try world.setFlood(circuits: [pair.circuit, flood], tunnels: [pair.tunnel])
        let running = try world.workers.map { try RunningWorker($0) }
        let count = 200
        for number in 0..<count {
            for worker in 0..<2 {
                let source = Self.host(worker * 1000 + number)
                let payload = [UInt8(worker), UInt8(number >> 8), UInt8(number & 255)]
                try receive(world, worker, 2, Frame.host(to: remoteMAC, from: source, payload: payload))
            }
        }
        for worker in 0..<2 {
            let payloads = sent(world, worker, count).map { Array($0.bytes.suffix(3)) }
            #expect(payloads == (0..<count).map { [UInt8(worker), UInt8($0 >> 8), UInt8($0 & 255)] })
            try receive(world, worker, 2, Frame.host(to: .broadcast, from: Self.host(worker * 1000)))
            #expect(sent(world, worker, 2).map(\.port).sorted() == [0, 3])
        }
        for one in running { one.stop() }
        for worker in 0..<2 {
            var learned: Set<MACAddress> = []
            while let event = world.tables.learning.workers[worker].pop() { learned.insert(event.mac) }
            #expect(learned == Set((0..<count).map { Self.host(worker * 1000 + $0) }))
            let view = world.tables.counters.workers[worker]
            #expect(view.value(.received) == UInt64(count + 1))
            #expect(view.value(.replicated) == 1)
            #expect(view.value(.sent) == UInt64(count + 2))
        }
        #expect(world.total(.received) == UInt64(2 * count + 2))
        expectBalanced(world)
    }

    @Test("a source that either worker sees is alive: marks are merged")
    func marks() throws {
        let pair = try Pair(.v4, Self.options())
        let learning = pair.world.tables.learning
        for worker in 0..<2 {
            let ended = learning.advancePeriod()
            #expect(learning.slotsSeen(inPeriod: ended &+ 1).isEmpty)
            let mbuf = try #require(PacketBytes.make(
                Frame.host(to: remoteMAC, from: hostMAC), port: 2, pool: pair.world.packets.pointer))
            pair.world.workers[worker].process([mbuf])
            pair.world.workerPorts[worker].free(pair.world.workerPorts[worker].takeSent())
            #expect(learning.slotsSeen(inPeriod: learning.currentPeriod).count == 1)
        }
        expectBalanced(pair.world)
    }

    @Test("a MAC moves, and flood lists change, while both forward: each frame ends once; old tables are freed")
    func moves() throws {
        let pair = try Pair(.v4, Self.options())
        let world = pair.world
        let other = try world.addCircuit(port: 3)
        try world.addMAC(hostMAC, .circuit(pair.circuit))
        let running = try world.workers.map { try RunningWorker($0) }
        var count = [0, 0]
        for round in 0..<100 {
            for worker in 0..<2 {
                for number in UInt8(0)..<4 {
                    try receive(world, worker, 2, Frame.host(to: remoteMAC, from: hostMAC, payload: [number]))
                }
            }
            try world.addMAC(remoteMAC, round % 2 == 0 ? .circuit(other) : .tunnel(pair.tunnel))
            try world.setFlood(circuits: [pair.circuit, other], tunnels: round % 3 == 0 ? [] : [pair.tunnel])
            for worker in 0..<2 {
                let out = sent(world, worker, 4)
                count[worker] += out.count
                #expect(out.allSatisfy { $0.port == 0 || $0.port == 3 })
            }
        }
        for one in running { one.stop() }
        world.tables.publish()
        #expect(count == [400, 400])
        #expect(world.tables.publication.retiredCount == 0)
        expectBalanced(world)
    }

    @Test("the writer waits for the slower of two readers, and for none that sleeps")
    func readers() throws {
        let pair = try Pair(.v4, Self.options())
        let tables = pair.world.tables
        let readers = (0..<2).map { tables.reader(worker: $0) }
        for reader in readers { reader.quiescent() }
        try pair.world.setFlood(circuits: [pair.circuit], tunnels: [])
        readers[0].quiescent()
        tables.publish()
        #expect(tables.publication.retiredCount > 0)
        readers[1].quiescent()
        readers[0].quiescent()
        tables.publish()
        #expect(tables.publication.retiredCount == 0)
        readers[0].quiescent()
        readers[1].offline()
        try pair.world.setFlood(circuits: [pair.circuit], tunnels: [pair.tunnel])
        readers[0].quiescent()
        tables.publish()
        #expect(tables.publication.retiredCount == 0)
        readers[0].offline()
    }

    @Test("who sends where there are fewer queues than workers")
    func senders() {
        func port(_ queues: UInt8, first: UInt8, shared: Bool = true) -> PortIO {
            PortIO(
                kind: .ethdev, features: shared ? [.sharedQueue] : [], ethdev: 3, txQueueCount: queues,
                firstWorker: first, mtu: 1500)
        }
        func ways(_ port: PortIO, _ count: UInt16) -> [PortIO.TxQueue] {
            (0..<count).map { port.txQueue(worker: $0, of: count) }
        }
        #expect(ways(port(4, first: 0, shared: false), 4) == [.own(0), .own(1), .own(2), .own(3)])
        #expect(ways(port(1, first: 0), 3) == [.own(0), .of(worker: 0), .of(worker: 0)])
        #expect(ways(port(1, first: 2), 3) == [.of(worker: 2), .of(worker: 2), .own(0)])
        #expect(ways(port(2, first: 3), 4) == [.own(1), .of(worker: 3), .of(worker: 0), .own(0)])
        for first in UInt8(0)..<5 {
            for queues in UInt8(1)..<5 {
                let all = ways(port(queues, first: first), 5)
                var owners: Set<UInt16> = []
                for (worker, way) in all.enumerated() {
                    if case .own(let queue) = way {
                        #expect(queue < UInt16(queues))
                        owners.insert(UInt16(worker))
                    }
                }
                #expect(owners.count == Int(queues), "each queue has one worker")
                for case .of(let owner) in all { #expect(owners.contains(owner)) }
            }
        }
    }
}

/// Two workers of the pipeline over a registry's ports: circuits of one domain on ports 0 and 1.
struct TwoWorkerBench {
    let hostIO: HostIO
    let registry: PortRegistry
    let tables: ForwardingTables
    let workers: [Worker]
    let circuits: [UInt32]
    let environment = TestEnvironment.shared
    static let hosts = [MACAddress(2, 0, 0, 0, 0, 10), MACAddress(2, 0, 0, 0, 0, 11)]

    init() throws {
        let environment = TestEnvironment.shared
        hostIO = try HostIO(environment: environment, portCapacity: 64, workers: 2)
        let registry = PortRegistry(environment: environment, hostIO: hostIO)
        self.registry = registry
        let tables = try ForwardingTables(limits: TableLimits(macs: 1024, domains: 8, vteps: 64, ports: 64, workers: 2))
        self.tables = tables
        let vni = try #require(VNI(110))
        let domain = try tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789))
        circuits = try (0..<2).map { index in
            try tables.setPort(UInt16(index), PortEntry(role: .circuits, mtu: 1500))
            let circuit = try tables.addCircuit(port: UInt16(index), vlan: 0, domain: domain)
            try tables.setMAC(domain: domain, Self.hosts[index], .circuit(circuit))
            return circuit
        }
        tables.publish()
        workers = (0..<2).map { index in
            Worker(
                index: index, io: registry.workerIO(index), tables: tables, packets: environment.packets,
                headers: environment.headers)
        }
    }
    func close() {
        registry.close()
        hostIO.stop()
    }
}

extension KernelAndDevicePorts {
    @Suite("Ports of two workers")
    struct TwoWorkerPortTests {
        /// Ports 0 and 1 over rings of their own: worker n polls port n, and alone sends through it.
        private func open(_ bench: TwoWorkerBench, _ name: String) throws -> [(rx: OpaquePointer, tx: OpaquePointer)] {
            try (0..<2).map { index in
                let rings = (
                    rx: try #require(pe_ring_create("\(name)_rx\(index)", 1024, 1, -1)),
                    tx: try #require(pe_ring_create("\(name)_tx\(index)", 4096, 1, -1)))
                try bench.registry.add(
                    PortDefinition(
                        name: "two\(index)", source: .rings(receive: rings.rx, transmit: rings.tx)),
                    at: UInt16(index))
                return rings
            }
        }
        /// Worker 0 receives frames for port 1, which it has to hand over; worker 1 takes nothing.
        private func handOver(_ count: Int, _ bench: TwoWorkerBench, _ rx: OpaquePointer) throws {
            for number in 0..<count {
                try put(rx, from: 0, number, bench.environment)
                #expect(bench.workers[0].pollOnce() == 1)
            }
        }
        private func put(_ ring: OpaquePointer, from source: Int, _ number: Int, _ environment: Environment) throws {
            let frame = Frame.host(
                to: TwoWorkerBench.hosts[1 - source], from: TwoWorkerBench.hosts[source],
                payload: [UInt8(number >> 8), UInt8(number & 255)])
            var mbuf = try #require(PacketBytes.make(frame, port: 0, pool: environment.packets))
            try #require(pe_ring_enqueue_burst(ring, &mbuf, 1) == 1)
        }
        private func take(_ ring: OpaquePointer, _ count: Int) -> [Int] {
            var result: [Int] = []
            for _ in 0..<20_000 where result.count < count {
                withUnsafeTemporaryAllocation(of: MBuf.self, capacity: 64) { buffer in
                    guard let base = buffer.baseAddress else { return }
                    for index in 0..<Int(pe_ring_dequeue_burst(ring, base, 64)) {
                        let tail = PacketBytes.of(base[index]).suffix(2)
                        result.append(Int(tail[tail.startIndex]) << 8 | Int(tail[tail.startIndex + 1]))
                        pe_mbuf_free(base[index])
                    }
                }
                if result.count < count { usleep(200) }
            }
            return result
        }

        @Test("with one queue each, each worker polls one port and sends for the other; a port goes while both run")
        func handover() throws {
            let bench = try TwoWorkerBench()
            defer { bench.close() }
            let rings = try open(bench, "running")
            for index in 0..<2 {
                let io = bench.registry.workerIO(0).port(UInt16(index))
                #expect(io.features.contains(.sharedQueue))
                #expect(io.firstWorker == UInt16(index))
                #expect(bench.registry.workerIO(index).pollList().count == 1)
                bench.registry.workerIO(index).offline()
            }
            let running = try bench.workers.map { try RunningWorker($0) }
            let counters = bench.tables.counters
            for number in 0..<300 {
                for source in 0..<2 { try put(rings[source].rx, from: source, number, bench.environment) }
            }
            for source in 0..<2 { #expect(take(rings[1 - source].tx, 300) == Array(0..<300)) }
            // All of it crossed: what a worker polls leaves through the other's port.
            #expect(counters.total(.handedOver) == 600)
            #expect(counters.workers.map { $0.value(.takenOver) } == [300, 300])

            for number in 0..<200 {
                try put(rings[0].rx, from: 0, number, bench.environment)
                if number == 100 { try bench.registry.remove(1) }
            }
            let some = take(rings[1].tx, 200 - Int(counters.total(.transmitFailed)))
            for one in running { one.stop() }
            let rest = take(rings[1].tx, 0)
            #expect(some + rest == (some + rest).sorted())
            #expect(counters.total(.received) == 800)
            #expect(Int(counters.total(.sent)) == 600 + (some + rest).count)
            #expect(counters.isBalanced)
            #expect(counters.total(.waiting) == 0)
        }

        @Test("what was handed over to a worker that ends is sent all the same")
        func handedOverAtTheEnd() throws {
            let bench = try TwoWorkerBench()
            defer { bench.close() }
            let rings = try open(bench, "ending")
            try handOver(100, bench, rings[0].rx)
            let counters = bench.tables.counters
            #expect(counters.total(.waiting) == 100)
            #expect(counters.isBalanced)
            bench.workers[1].stop()
            #expect(Worker.entry(bench.workers[1].argument) == 0)
            #expect(take(rings[1].tx, 100) == Array(0..<100))
            #expect(counters.total(.waiting) == 0)
            #expect(counters.total(.sent) == 100)
            #expect(counters.isBalanced)
        }

        @Test("what a worker's handover ring has no room for is dropped for that reason; the rest is sent in order")
        func fullHandoverRing() throws {
            let bench = try TwoWorkerBench()
            defer { bench.close() }
            let rings = try open(bench, "full")
            let capacity = Int(pe_ring_capacity(bench.hostIO.rings[1].handover))
            try handOver(capacity + 50, bench, rings[0].rx)
            let counters = bench.tables.counters
            #expect(counters.total(.transmitFailed) == 50)
            #expect(counters.total(.waiting) == UInt64(capacity))
            #expect(counters.isBalanced)
            bench.workers[1].finish()
            #expect(take(rings[1].tx, capacity) == Array(0..<capacity))
            #expect(counters.total(.waiting) == 0)
            #expect(counters.isBalanced)
        }

        @Test("a port goes only when the worker that sends for it has taken all that was handed over")
        func removalWaits() throws {
            let bench = try TwoWorkerBench()
            defer { bench.close() }
            let rings = try open(bench, "going")
            try handOver(100, bench, rings[0].rx)
            // Worker 1 as the registry sees it: it follows what is published, and takes what is handed over later.
            let io = bench.registry.workerIO(1)
            io.online()
            _ = io.pollList()
            let isTaken = Flag()
            let taker = TestThread {
                for _ in 0..<20 {
                    usleep(5000)
                    _ = io.pollList()
                }
                isTaken.set()
                withUnsafeTemporaryAllocation(of: MBuf.self, capacity: 128) { buffer in
                    guard let base = buffer.baseAddress else { return }
                    pe_mbuf_free_bulk(base, pe_ring_dequeue_burst(io.handoverRing, base, 128))
                }
                io.offline()
            }
            try bench.registry.remove(1)
            #expect(isTaken.isSet)
            #expect(pe_ring_count(io.handoverRing) == 0)
            taker.join()
        }

        @Test("a device that spreads flows has a queue for each worker in both directions")
        func ownQueues() throws {
            let bench = try TwoWorkerBench()
            defer { bench.close() }
            try bench.registry.add(PortDefinition(name: "spread", source: .device("net_null_pe41")), at: 3)
            let io = bench.registry.workerIO(0).port(3)
            #expect(!io.features.contains(.sharedQueue))
            #expect(io.txQueueCount == 2)
            let queues = (0..<2).map { worker in
                let io = bench.registry.workerIO(worker)
                let list = io.pollList()
                io.offline()
                return (0..<list.count).map { list[$0].queue }
            }
            // Port 3 begins with worker 1.
            #expect(queues == [[1], [0]])
        }

        @Test("receive queues that were asked for are all polled, and divided among the workers")
        func namedQueues() throws {
            let bench = try TwoWorkerBench()
            defer { bench.close() }
            let paths = (0..<3).map { "/tmp/pe-dp-test-\(getpid())-two\($0).pcap" }
            defer { for path in paths { unlink(path) } }
            for path in paths {
                var error = [CChar](repeating: 0, count: 256)
                let writer = try #require(pe_pcap_create(path, &error))
                #expect(pe_pcap_finish(writer) == 0)
            }
            let text = "net_pcap_pe42," + paths.map { "rx_pcap=\($0)" }.joined(separator: ",")
            try bench.registry.add(PortDefinition(name: "files", source: .device(text)), at: 2)
            let counts = (0..<2).map { worker in
                let io = bench.registry.workerIO(worker)
                defer { io.offline() }
                return io.pollList().count
            }
            #expect(counts == [2, 1])
        }

        @Test("kernel ports are divided among the workers, an exception TAP goes with its port")
        func kernelPorts() throws {
            let bench = try TwoWorkerBench()
            defer { bench.close() }
            func worker(_ index: UInt16, exceptionOf parent: UInt16? = nil) -> Int {
                var definition = PortDefinition(name: "k\(index)", source: .tap(name: "k\(index)"))
                definition.exceptionOf = parent
                return bench.registry.worker(of: PortRegistry.Port(index: index, definition: definition))
            }
            #expect((0..<4).map { worker(UInt16($0)) } == [0, 1, 0, 1])
            #expect(worker(9, exceptionOf: 4) == 0)
            #expect(worker(8, exceptionOf: 3) == 1)
        }
    }
}
