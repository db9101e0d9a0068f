// The host's NUMA nodes and where its ports' devices are, read from sysfs.

import ControlPlane
import FastPath

extension HostView {
    /// Nodes, their CPUs, memory and distances (Documentation/ABI/stable/sysfs-devices-node), and the CPUs
    /// that this process may use.
    var topology: Topology {
        let folder = "/sys/devices/system/node"
        let online = HostCheck.cpus(text("\(folder)/online") ?? "").sorted()
        let nodes = online.map { id in
            let own = "\(folder)/node\(id)"
            let distances = (text("\(own)/distance") ?? "").split(whereSeparator: \.isWhitespace).map { Int($0) }
            return Topology.Node(
                id: id, cpus: HostCheck.cpus(text("\(own)/cpulist") ?? ""), megabytes: megabytes(ofNode: own),
                // One number for each node that is online, in their order.
                distances: Dictionary(
                    zip(online, distances).compactMap { node, distance in distance.map { (node, $0) } },
                    uniquingKeysWith: { first, _ in first }))
        }
        let allowed = HostCheck.cpus(field("Cpus_allowed_list", in: "/proc/self/status") ?? "")
        return Topology(nodes: nodes, allowed: allowed)
    }

    /// `Node 0 MemTotal:  24612345 kB`
    private func megabytes(ofNode folder: String) -> Int {
        for line in (text("\(folder)/meminfo") ?? "").split(separator: "\n") where line.contains("MemTotal:") {
            guard let number = line.split(separator: ":").last?.split(separator: " ").first else { continue }
            // A node of less than a megabyte has none to give.
            return (Int(number) ?? 0) / 1024
        }
        return 0
    }

    /// The node of a port's device; -1 where there is none or it does not say.
    func numaNode(of port: Configuration.Port) -> Int {
        switch port.driver {
        case .pci: return number("/sys/bus/pci/devices/\(port.device)/numa_node") ?? -1
        case .afPacket, .afXDP:
            // In another namespace the name would be another device's.
            guard port.netns == nil else { return -1 }
            let name = port.device.split(separator: ",").first ?? ""
            let device = name.hasPrefix("iface=") ? name.dropFirst(6) : name
            guard !device.isEmpty, !device.contains("/"), !device.contains("..") else { return -1 }
            return number("/sys/class/net/\(device)/device/numa_node") ?? -1
        default: return -1
        }
    }

    /// Where the configured workers, ports and tables belong on this host.
    func placement(for configuration: Configuration) -> Placement {
        let dataplane = configuration.dataplane
        return Placement(
            PlacementRequest(
                mode: MemoryPlacement(rawValue: dataplane.numa.rawValue) ?? .auto,
                mainCPU: dataplane.mainLcore, workerCPUs: dataplane.workerLcores,
                ports: configuration.ports.map { PlacementRequest.Port(name: $0.name, node: numaNode(of: $0)) }),
            on: topology)
    }
}

extension HostCheck {
    /// Whether workers are where their ports are; silent on a machine that tells of no nodes.
    mutating func checkPlacement() {
        guard let configuration else { return }
        let topology = host.topology
        guard !topology.nodes.isEmpty else { return }
        let placement = host.placement(for: configuration)
        for warning in placement.warnings { add("numa", .warning, warning.message, warning.remedy) }
        guard placement.warnings.isEmpty else { return }
        let count = topology.nodes.count
        add("numa", .ok, count == 1 ? "one node" : "\(count) nodes, workers and ports agree")
    }
}
