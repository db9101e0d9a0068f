// Where memory and workers belong on a machine of several NUMA nodes: decided from topology and configuration alone.

/// The machine as far as placement goes; a machine without nodes has one, 0, with all CPUs.
public struct Topology: Equatable, Sendable {
    public struct Node: Equatable, Sendable {
        public var id: Int
        public var cpus: Set<Int>
        /// 0: a node with processors and no memory of its own.
        public var megabytes: Int
        /// To other nodes by id, 10 being the own one (ACPI SLIT); what is missing counts as far.
        public var distances: [Int: Int]
        public init(id: Int, cpus: Set<Int>, megabytes: Int, distances: [Int: Int] = [:]) {
            self.id = id
            self.cpus = cpus
            self.megabytes = megabytes
            self.distances = distances
        }
    }
    public var nodes: [Node]
    /// CPUs that the process may use (its cpuset and affinity).
    public var allowed: Set<Int>
    public init(nodes: [Node], allowed: Set<Int>) {
        self.nodes = nodes.sorted { $0.id < $1.id }
        self.allowed = allowed
    }

    /// The node of a CPU; -1 when no node has it.
    public func node(ofCPU cpu: Int) -> Int { nodes.first { $0.cpus.contains(cpu) }?.id ?? -1 }

    /// The node nearest to `id`, itself first, of those that `isFit`; the lowest of equal ones.
    func nearest(to id: Int, where isFit: (Node) -> Bool) -> Node? {
        guard let own = nodes.first(where: { $0.id == id }) else { return nil }
        func distance(_ node: Node) -> Int { node.id == id ? 0 : own.distances[node.id] ?? Int.max }
        return nodes.filter(isFit).min { (distance($0), $0.id) < (distance($1), $1.id) }
    }
}

/// `dataplane.memory.numa`.
public enum MemoryPlacement: String, Hashable, Sendable, CaseIterable {
    /// Tables on the workers' node; interleaved over their nodes when they are on several.
    case auto
    /// Tables interleaved over all nodes with memory.
    case interleave
    /// Tables on the first worker's node.
    case local
    /// Nothing is placed; the kernel decides.
    case off
}

/// What is to be placed.
public struct PlacementRequest: Sendable {
    public struct Port: Equatable, Sendable {
        public var name: String
        /// The device's node; -1: unknown, as for everything that is no PCI device.
        public var node: Int
        public init(name: String, node: Int) {
            self.name = name
            self.node = node
        }
    }
    public var mode = MemoryPlacement.auto
    public var mainCPU: Int
    public var workerCPUs: [Int]
    public var ports: [Port]
    public init(mode: MemoryPlacement = .auto, mainCPU: Int, workerCPUs: [Int], ports: [Port] = []) {
        self.mode = mode
        self.mainCPU = mainCPU
        self.workerCPUs = workerCPUs
        self.ports = ports
    }
}

/// Nodes for everything that is allocated, and what should be configured otherwise. -1 is "anywhere".
public struct Placement: Equatable, Sendable {
    public struct Warning: Equatable, Sendable {
        public var message: String
        public var remedy: String
    }
    public enum Tables: Equatable, Sendable {
        case anywhere
        case node(Int)
        case interleaved([Int])
    }
    /// Per worker: the node of its CPU, and the one that its rings, header buffers and state come from.
    public private(set) var workerNodes: [Int] = []
    public private(set) var workerMemory: [Int] = []
    /// Per port: the node whose packet buffers it receives into.
    public private(set) var portMemory: [Int] = []
    /// Nodes that get pools of packet and header buffers; empty: one pool anywhere.
    public private(set) var poolNodes: [Int] = []
    public private(set) var tables = Tables.anywhere
    public private(set) var warnings: [Warning] = []

    public init(_ request: PlacementRequest, on topology: Topology) {
        workerNodes = request.workerCPUs.map(topology.node(ofCPU:))
        let withMemory = topology.nodes.filter { $0.megabytes > 0 }
        guard topology.nodes.count > 1, !withMemory.isEmpty else {
            workerMemory = workerNodes.map { _ in -1 }
            portMemory = request.ports.map { _ in -1 }
            return
        }
        func memory(near node: Int) -> Int { topology.nearest(to: node) { $0.megabytes > 0 }?.id ?? -1 }
        let isPlaced = request.mode != .off
        workerMemory = workerNodes.map { isPlaced ? memory(near: $0) : -1 }
        // A port of unknown node: its packets are read by a worker, so they lie near the first one.
        let fallback = workerMemory.first { $0 >= 0 } ?? -1
        portMemory = request.ports.map { port in
            guard isPlaced else { return -1 }
            let near = memory(near: port.node)
            return near >= 0 ? near : fallback
        }
        poolNodes = Set(workerMemory + portMemory).filter { $0 >= 0 }.sorted()
        let nodes = Set(workerMemory).filter { $0 >= 0 }.sorted()
        switch request.mode {
        case .off: tables = .anywhere
        case .interleave: tables = withMemory.count > 1 ? .interleaved(withMemory.map(\.id)) : .node(withMemory[0].id)
        case .local: tables = fallback >= 0 ? .node(fallback) : .anywhere
        case .auto: tables = nodes.count > 1 ? .interleaved(nodes) : nodes.first.map { .node($0) } ?? .anywhere
        }
        warnings = Self.warnings(request, topology, workerNodes, workerMemory)
    }
}

extension Placement {
    private static func warnings(
        _ request: PlacementRequest, _ topology: Topology, _ workerNodes: [Int], _ workerMemory: [Int]
    ) -> [Warning] {
        var result: [Warning] = []
        let known = Set(workerNodes.filter { $0 >= 0 })
        let portNodes = Set(request.ports.map(\.node).filter { node in topology.nodes.contains { $0.id == node } })
        for node in portNodes.sorted() where !known.contains(node) && !known.isEmpty {
            let names = request.ports.filter { $0.node == node }.map(\.name)
            result.append(Warning(
                message: "port \(names.joined(separator: ", ")) is on NUMA node \(node), and all workers are on "
                    + "node \(list(known)): every packet crosses between them",
                remedy: remedy(for: node, portNodes, request, topology, workerNodes)))
        }
        // Where no worker is near a port at all, this has been said of the ports.
        if !known.isDisjoint(with: portNodes) {
            for (cpu, node) in zip(request.workerCPUs, workerNodes) where node >= 0 && !portNodes.contains(node) {
                guard let near = portNodes.min() else { continue }
                result.append(Warning(
                    message: "the worker on CPU \(cpu) is on NUMA node \(node), where no port is",
                    remedy: remedy(for: near, portNodes, request, topology, workerNodes)))
            }
        }
        for (index, node) in workerNodes.enumerated() where node >= 0 {
            guard let own = topology.nodes.first(where: { $0.id == node }), own.megabytes == 0 else { continue }
            let others = topology.nodes.filter { $0.megabytes > 0 }.map(\.id)
            let cpus = candidates(on: workerMemory[index] >= 0 ? workerMemory[index] : others[0], request, topology)
            result.append(Warning(
                message: "the worker on CPU \(request.workerCPUs[index]) is on NUMA node \(node), which has no memory: "
                    + "its packets and tables are on node \(list(Set(others)))",
                remedy: cpus.isEmpty
                    ? "put memory into that node, or give the process CPUs of node \(list(Set(others)))"
                    : "use another CPU in dataplane.lcores.workers, such as \(cpus[0])"))
        }
        return result
    }

    /// CPUs on a node that are free for a worker.
    private static func candidates(on node: Int, _ request: PlacementRequest, _ topology: Topology) -> [Int] {
        let cpus = topology.nodes.first { $0.id == node }?.cpus ?? []
        return cpus.intersection(topology.allowed).subtracting(request.workerCPUs + [request.mainCPU]).sorted()
    }

    /// The workers as they should be: those that are near no port go to free CPUs of `node`.
    private static func remedy(
        for node: Int, _ portNodes: Set<Int>, _ request: PlacementRequest, _ topology: Topology, _ workerNodes: [Int]
    ) -> String {
        var free = candidates(on: node, request, topology)[...]
        let cpus = topology.nodes.first { $0.id == node }?.cpus ?? []
        if cpus.isEmpty {
            let near = topology.nearest(to: node) { !$0.cpus.isDisjoint(with: topology.allowed) }
            let which = near.map { "; the nearest node with CPUs is \($0.id)" } ?? ""
            return "node \(node) has no CPUs\(which)"
        }
        if free.isEmpty {
            let forbidden = cpus.subtracting(topology.allowed)
            return forbidden.isEmpty
                ? "free one of node \(node)'s CPUs (\(list(cpus))) for a worker"
                : "the process may not use CPUs \(list(forbidden)) of node \(node): allow them (the cpuset of the "
                    + "container, or AllowedCPUs= of the service) and name them in dataplane.lcores.workers"
        }
        var proposal = request.workerCPUs
        for (index, own) in workerNodes.enumerated() where !portNodes.contains(own) {
            if let cpu = free.popFirst() { proposal[index] = cpu }
        }
        if proposal == request.workerCPUs, let cpu = free.first { proposal.append(cpu) }
        return "dataplane.lcores.workers: [\(proposal.map(String.init).joined(separator: ", "))]"
    }

    private static func list(_ numbers: Set<Int>) -> String {
        numbers.sorted().map(String.init).joined(separator: ", ")
    }
}
