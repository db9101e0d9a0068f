// Which node gets what, and what is warned of, on machines of one, two and four nodes.

import CLinux
import FastPath
import Glibc
import Testing

@Suite("NUMA placement") struct PlacementTests {
    /// Nodes of four CPUs each: node n has 4n to 4n + 3.
    func machine(
        _ count: Int, without memoryless: Set<Int> = [], allowed: Set<Int>? = nil, distances: [[Int]] = []
    ) -> Topology {
        let nodes = (0..<count).map { id in
            Topology.Node(
                id: id, cpus: Set(id * 4..<id * 4 + 4), megabytes: memoryless.contains(id) ? 0 : 65_536,
                distances: distances.isEmpty
                    ? Dictionary(uniqueKeysWithValues: (0..<count).map { ($0, $0 == id ? 10 : 20) })
                    : Dictionary(uniqueKeysWithValues: distances[id].enumerated().map { ($0.offset, $0.element) }))
        }
        return Topology(nodes: nodes, allowed: allowed ?? Set(0..<count * 4))
    }
    func place(
        _ topology: Topology, _ workers: [Int], ports: [Int] = [], main: Int = 0, mode: MemoryPlacement = .auto
    ) -> Placement {
        let ports = ports.enumerated().map { PlacementRequest.Port(name: "p\($0.offset)", node: $0.element) }
        return Placement(
            PlacementRequest(mode: mode, mainCPU: main, workerCPUs: workers, ports: ports), on: topology)
    }

    @Test("one node: nothing is placed and nothing is warned of", arguments: MemoryPlacement.allCases)
    func oneNode(mode: MemoryPlacement) {
        let placement = place(machine(1), [1, 2], ports: [0, -1], mode: mode)
        #expect(placement.workerNodes == [0, 0])
        #expect(placement.workerMemory == [-1, -1])
        #expect(placement.portMemory == [-1, -1])
        #expect(placement.poolNodes.isEmpty)
        #expect(placement.tables == .anywhere)
        #expect(placement.warnings.isEmpty)
    }

    @Test("workers and ports on one node of two: everything is there")
    func together() {
        let placement = place(machine(2), [5, 6], ports: [1, 1], main: 4)
        #expect(placement.workerMemory == [1, 1])
        #expect(placement.portMemory == [1, 1])
        #expect(placement.poolNodes == [1])
        #expect(placement.tables == .node(1))
        #expect(placement.warnings.isEmpty)
    }

    @Test("a port on another node than all workers: a warning with the workers as they should be")
    func apart() {
        let placement = place(machine(2), [1, 2], ports: [1])
        #expect(placement.portMemory == [1], "the NIC writes into memory of its own node")
        #expect(placement.workerMemory == [0, 0])
        #expect(placement.poolNodes == [0, 1])
        #expect(placement.warnings.count == 1)
        #expect(placement.warnings.first?.message.contains("port p0 is on NUMA node 1") == true)
        #expect(placement.warnings.first?.remedy == "dataplane.lcores.workers: [4, 5]")
    }

    @Test("the main CPU is not proposed")
    func mainCPU() {
        let placement = place(machine(2), [0], ports: [1], main: 4)
        #expect(placement.warnings.map(\.remedy) == ["dataplane.lcores.workers: [5]"])
    }

    @Test("ports on two nodes and a worker on each: tables are interleaved, each port has its own buffers")
    func both() {
        let placement = place(machine(2), [1, 5], ports: [0, 1])
        #expect(placement.portMemory == [0, 1])
        #expect(placement.workerMemory == [0, 1])
        #expect(placement.poolNodes == [0, 1])
        #expect(placement.tables == .interleaved([0, 1]))
        #expect(placement.warnings.isEmpty)
    }

    @Test("a port on a second node without a worker, beside one that has: a worker more is proposed")
    func oneMore() {
        let placement = place(machine(2), [1], ports: [0, 1])
        #expect(placement.warnings.map(\.remedy) == ["dataplane.lcores.workers: [1, 4]"])
    }

    @Test("a worker where no port is, beside one that is right: that one is to move")
    func strayWorker() {
        let placement = place(machine(4), [1, 9], ports: [0])
        #expect(placement.workerMemory == [0, 2])
        #expect(placement.tables == .interleaved([0, 2]))
        #expect(placement.warnings.count == 1)
        #expect(placement.warnings.first?.message.contains("the worker on CPU 9 is on NUMA node 2") == true)
        #expect(placement.warnings.first?.remedy == "dataplane.lcores.workers: [1, 2]")
    }

    @Test("an unknown node (-1), or one that the machine does not have, is near the first worker, without a warning",
        arguments: [-1, 7])
    func unknown(node: Int) {
        let placement = place(machine(2), [6], ports: [node])
        #expect(placement.portMemory == [1])
        #expect(placement.warnings.isEmpty)
    }

    @Test("a node without memory: the nearest one serves, and the worker's owner hears of it")
    func memoryless() {
        let far = [[10, 20, 30, 30], [20, 10, 30, 30], [30, 30, 10, 12], [30, 30, 12, 10]]
        let placement = place(machine(4, without: [2], distances: far), [8], ports: [2])
        #expect(placement.workerNodes == [2])
        #expect(placement.workerMemory == [3])
        #expect(placement.portMemory == [3])
        #expect(placement.tables == .node(3))
        #expect(placement.warnings.count == 1)
        #expect(placement.warnings.first?.message.contains("no memory") == true)
        #expect(placement.warnings.first?.remedy.contains("such as 12") == true)
    }

    @Test("a cpuset that forbids the port's node: the remedy names the CPUs to allow")
    func cpuset() {
        let placement = place(machine(2, allowed: [0, 1, 2, 3]), [1], ports: [1])
        #expect(placement.warnings.count == 1)
        #expect(placement.warnings.first?.remedy.contains("may not use CPUs 4, 5, 6, 7 of node 1") == true)
    }

    @Test("a cpuset that allows part of the port's node: that part is proposed")
    func partialCpuset() {
        let placement = place(machine(2, allowed: [0, 1, 6]), [1], ports: [1])
        #expect(placement.warnings.map(\.remedy) == ["dataplane.lcores.workers: [6]"])
    }

    @Test("a port on a node without CPUs: the nearest node with some is named")
    func noCPUs() {
        var topology = machine(2)
        topology.nodes[1].cpus = []
        let placement = place(topology, [1], ports: [1])
        #expect(placement.portMemory == [1])
        #expect(placement.warnings.map(\.remedy) == ["node 1 has no CPUs; the nearest node with CPUs is 0"])
    }

    @Test("what the configuration asks for: interleave, local, off")
    func modes() {
        #expect(place(machine(4), [1], ports: [0], mode: .interleave).tables == .interleaved([0, 1, 2, 3]))
        #expect(place(machine(2, without: [0]), [1], mode: .interleave).tables == .node(1))
        #expect(place(machine(2), [1, 5], mode: .local).tables == .node(0))
        let off = place(machine(2), [1], ports: [1], mode: .off)
        #expect(off.tables == .anywhere && off.poolNodes.isEmpty && off.workerMemory == [-1] && off.portMemory == [-1])
        #expect(off.warnings.count == 1, "the packets cross all the same")
    }

    @Test("a CPU that no node has, and a machine that tells of no node")
    func strange() {
        #expect(place(machine(2), [99], ports: [0]).workerNodes == [-1])
        let none = place(Topology(nodes: [], allowed: [0, 1]), [1], ports: [0])
        #expect(none.tables == .anywhere && none.warnings.isEmpty && none.workerNodes == [-1])
    }

    @Test("no arrangement of workers and ports makes it trap, and all nodes it names have memory")
    func everything() {
        for memoryless in [Set<Int>(), [0], [1], [0, 1], [0, 1, 2, 3]] {
            for first in [-1, 0, 3, 4, 9, 15, 40] {
                for port in [-1, 0, 1, 3, 9] {
                    for mode in MemoryPlacement.allCases {
                        let topology = machine(4, without: memoryless, allowed: [0, 1, 4, 9])
                        let placement = place(topology, [first, 1], ports: [port, 0], mode: mode)
                        for node in placement.workerMemory + placement.portMemory + placement.poolNodes where node >= 0 {
                            #expect(!memoryless.contains(node))
                        }
                        #expect(placement.warnings.allSatisfy { !$0.remedy.isEmpty })
                    }
                }
            }
        }
    }

    @Test("pages for tables come from the node that was asked for; a node that there is not is refused")
    func pages() throws {
        defer { _ = pe_pages_place(nil, 0) }
        #expect(pe_pages_place([4096], 1) < 0)
        let placed = pe_pages_place([0], 1)
        try #require(placed == 0 || placed == -ENOSYS)
        let byteCount = 4 << 20
        let memory = try #require(pe_pages(byteCount))
        defer { pe_pages_free(memory, byteCount) }
        memory.storeBytes(of: 1, as: UInt8.self)
        let node = pe_pages_node(memory)
        // Without NUMA, or where a container forbids the question, there is nothing to compare.
        if placed == 0, node != -EPERM, node != -ENOSYS { #expect(node == 0) }
    }
}
