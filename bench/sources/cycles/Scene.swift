// The tables and the worker of a row: all that a daemon with two ethdev ports would have.

import CBench
import FastPath
import Tables
import Wire

/// Tables with every feature on, an underlay port and an access port on two ethdevs.
final class Scene {
    let row: Row
    let tables: ForwardingTables
    let ports: MemoryPorts
    let worker: Worker

    /// - Parameters:
    ///   - row: what of it ``Row/tables`` keeps.
    ///   - name: unique in the process.
    init(_ row: Row, name: String, environment: Environment) throws {
        self.row = row
        tables = try ForwardingTables(limits: Scene.limits(row))
        guard let ports = MemoryPorts(name: name) else {
            throw TableError.outOfMemory(table: "rings", byteCount: 0)
        }
        self.ports = ports
        worker = Worker(
            index: 0, io: ports.io, tables: tables, packets: environment.packets,
            headers: environment.headers, idle: .poll)
        try fillPorts()
        if row.journey.isRouted { try fillRouted() } else { try fillBridged() }
        tables.publish()
    }

    /// The daemon's own, or what the row needs more.
    private static func limits(_ row: Row) -> TableLimits {
        func atLeast(_ usual: Int, _ needed: Int) -> Int {
            var result = usual
            while result < needed { result *= 2 }
            return result
        }
        let usual = TableLimits()
        var limits = usual
        let entries = row.journey == .floodCopy ? 1 : row.entries
        limits.macs = atLeast(usual.macs, entries + Site.sources)
        limits.routes = atLeast(usual.routes, entries)
        limits.neighbors = atLeast(usual.neighbors, entries)
        if row.journey == .floodCopy {
            limits.floodTargets = max(usual.floodTargets, row.entries + 1)
            limits.vteps = atLeast(usual.vteps, row.entries)
        }
        return limits
    }

    private func fillPorts() throws {
        for port in [Site.underlay, Site.access] {
            var features: PortIO.Features = [.multiSegment]
            if row.isOffloaded, port == Site.underlay { features.insert(.txUDPChecksum) }
            ports.setEthdev(port, ethdev: port, mtu: 9000, features: features)
        }
        ports.setPort(Site.host, mtu: 9000)
        try tables.setPort(
            Site.underlay, PortEntry(role: .underlay, mtu: 9000, mac: Site.underlayMAC, partner: Site.host))
        try tables.setPort(Site.access, PortEntry(role: .circuits, mtu: 9000))
        try tables.setPort(Site.host, PortEntry(role: .exception, mtu: 9000, partner: Site.underlay))
        try tables.setEndpoints([.v4(Site.local4), .v6(Site.local6)], vxlanPorts: [4789])
    }
    func addTunnels(_ count: Int = Site.vteps) throws -> [UInt32] {
        try (0..<count).map { index in
            let tunnel = try tables.tunnel(to: Site.remote(index, isIPv6: row.isIPv6))
            let path = TunnelPath(
                port: Site.underlay, sourceMAC: Site.underlayMAC, nextHopMAC: Site.nextHop, mtu: 9000)
            tables.setPaths(tunnel: tunnel, [path], unusable: nil)
            return tunnel
        }
    }
    /// Local hosts that send: each in every domain in which its flows are.
    func addSources(_ subnets: [Subnet]) throws {
        for source in 0..<row.sources {
            let mac = MACAddress(rawValue: bench_source(UInt32(source)))
            for number in stride(from: source % subnets.count, to: subnets.count, by: row.sources) {
                try tables.setMAC(domain: subnets[number].domain, mac, .circuit(subnets[number].circuit))
            }
        }
    }
    /// A bridge domain with one circuit on the access port.
    struct Subnet {
        let domain: UInt16
        let circuit: UInt32
    }
    func addSubnet(_ number: Int, vlan: Int, vrf: UInt16 = 0, flags: BridgeDomain.Flags = []) throws -> Subnet {
        let vni = VNI(Site.firstVNI + UInt32(number)) ?? VNI(word: 0)
        let domain = try tables.addDomain(
            BridgeDomain(vni: vni, vxlanPort: 4789, gatewayMAC: Site.gatewayMAC, flags: flags, vrf: vrf))
        return Subnet(
            domain: domain,
            circuit: try tables.addCircuit(port: Site.access, vlan: UInt16(vlan), domain: domain))
    }

    /// Copies of one flooded frame that go to circuits; the others go to VTEPs.
    static func localCopies(_ row: Row) -> Int { min(16, row.entries / 4) }

    private func fillBridged() throws {
        let subnets = try (0..<row.domains).map {
            try addSubnet($0, vlan: row.domains == 1 ? 0 : 1 + $0, flags: .neighborSuppression)
        }
        let tunnels = try addTunnels(
            row.journey == .floodCopy ? row.entries - Scene.localCopies(row) : Site.vteps)
        for tunnel in tunnels {
            for subnet in subnets { tables.setMember(domain: subnet.domain, tunnel: tunnel, true) }
        }
        tables.publish()
        switch row.journey {
        case .l2Encap, .l2Decap:
            for flow in 0..<row.entries {
                let subnet = subnets[flow % subnets.count]
                let mac = MACAddress(rawValue: bench_destination(UInt32(flow)))
                try tables.setMAC(
                    domain: subnet.domain, mac,
                    row.journey == .l2Encap ? .tunnel(tunnels[flow % tunnels.count]) : .circuit(subnet.circuit))
            }
        case .floodCopy: try fillFlood(subnets[0], tunnels)
        case .arpReply: try fillNeighbors(subnets[0])
        default: break
        }
        if row.journey != .l2Decap { try addSources(subnets) }
    }
    private func fillFlood(_ subnet: Subnet, _ tunnels: [UInt32]) throws {
        var circuits = [subnet.circuit]
        for number in 0..<Scene.localCopies(row) {
            circuits.append(
                try tables.addCircuit(port: Site.access, vlan: UInt16(1 + number), domain: subnet.domain))
        }
        try tables.setFlood(domain: subnet.domain, circuits: circuits, tunnels: tunnels)
    }
    /// Remote hosts that are asked for, and the gateway's address.
    private func fillNeighbors(_ subnet: Subnet) throws {
        if let gateway = IPPrefix(.v4(Site.gatewayAddress), length: 10) {
            tables.setGateways(domain: subnet.domain, [gateway])
        }
        for flow in 0..<row.entries {
            let mac = MACAddress(rawValue: bench_destination(UInt32(flow)))
            let hop = try tables.addHop(RouteHop(
                way: .bridge(domain: subnet.domain), mac: mac, sourceMAC: Site.gatewayMAC, isRemote: true))
            try tables.setNeighbor(domain: subnet.domain, .v4(row.target(flow)), hop: hop)
        }
    }
}

// Routing: VRFs with two subnets each, host routes and prefixes.
extension Scene {
    /// Prefixes beside those that are measured, of all VRFs together.
    static let otherPrefixes = 10_000

    /// The VTEP behind which a routed flow's destination is: those of a VRF take turns.
    static func vtep(_ row: Row, _ flow: Int) -> Int { flow / row.domains % Site.vteps }

    /// Each VRF: a subnet of hosts that send, another of hosts that receive, and an L3VNI.
    private func fillRouted() throws {
        let tunnels = try addTunnels()
        var vrfs: [UInt16] = []
        var first: [Subnet] = [], second: [Subnet] = []
        for number in 0..<row.domains {
            let vrf = try tables.addVRF(
                VRFEntry(vni: VNI(Site.firstVNI + UInt32(number)), routerMAC: Site.routerMAC))
            vrfs.append(vrf)
            for tunnel in tunnels { tables.setMember(vrf: vrf, tunnel: tunnel, true) }
            first.append(try addSubnet(0x1000 + number, vlan: row.domains == 1 ? 0 : 1 + number, vrf: vrf))
            second.append(try addSubnet(0x2000 + number, vlan: 2048 + number, vrf: vrf))
        }
        tables.publish()
        try addSources(first)
        let hops = Hops(scene: self, tunnels: tunnels)
        if row.journey.isToFabric {
            for flow in 0..<row.entries {
                let number = flow % row.domains
                let hop = RouteValue.hop(try hops.hop(number, Scene.vtep(row, flow)))
                let host = IPv4Address(rawValue: Site.hosts + UInt32(flow))
                if let prefix = IPPrefix(.v4(host), length: 32) { try tables.setRoute(vrf: vrfs[number], prefix, hop) }
                guard row.journey == .l3Prefix else { continue }
                if let prefix = IPPrefix(.v4(row.target(flow)), length: Site.prefixLength) {
                    try tables.setRoute(vrf: vrfs[number], prefix, hop)
                }
            }
        } else {
            try addLocal(vrfs, second)
        }
        try addOtherPrefixes(vrfs, hops)
    }

    /// The hops into the fabric, made when they are needed: one for each VRF and VTEP.
    private final class Hops {
        let scene: Scene
        let tunnels: [UInt32]
        private var known: [Int: UInt32] = [:]
        init(scene: Scene, tunnels: [UInt32]) {
            self.scene = scene
            self.tunnels = tunnels
        }
        func hop(_ number: Int, _ vtep: Int) throws -> UInt32 {
            let place = number * Site.vteps + vtep
            if let hop = known[place] { return hop }
            let vni = VNI(Site.firstVNI + UInt32(number)) ?? VNI(word: 0)
            let hop = try scene.tables.addHop(RouteHop(
                way: .tunnel(tunnels[vtep], l3vni: vni, vxlanPort: 4789), mac: Site.remoteRouterMAC(vtep),
                sourceMAC: Site.routerMAC))
            known[place] = hop
            return hop
        }
    }

    private func addLocal(_ vrfs: [UInt16], _ subnets: [Subnet]) throws {
        for flow in 0..<row.entries {
            let number = flow % row.domains
            let subnet = subnets[number]
            let mac = MACAddress(rawValue: bench_destination(UInt32(flow)))
            try tables.setMAC(domain: subnet.domain, mac, .circuit(subnet.circuit))
            let hop = try tables.addHop(RouteHop(
                way: .bridge(domain: subnet.domain), mac: mac, sourceMAC: Site.gatewayMAC))
            if let prefix = IPPrefix(.v4(row.target(flow)), length: 32) {
                try tables.setRoute(vrf: vrfs[number], prefix, .hop(hop))
            }
        }
    }

    /// What else a VRF's prefix table holds: a default route and prefixes of 32.0.0.0 and up.
    private func addOtherPrefixes(_ vrfs: [UInt16], _ hops: Hops) throws {
        let share = Scene.otherPrefixes / vrfs.count
        for (number, vrf) in vrfs.enumerated() {
            let hop = try hops.hop(number, 0)
            if let all = IPPrefix("0.0.0.0/0") { try tables.setRoute(vrf: vrf, all, .hop(hop)) }
            for index in 0..<share {
                let address = IPv4Address(rawValue: 0x2000_0000 + UInt32(index) << 8)
                if let prefix = IPPrefix(.v4(address), length: 24) { try tables.setRoute(vrf: vrf, prefix, .hop(hop)) }
            }
        }
    }
}
