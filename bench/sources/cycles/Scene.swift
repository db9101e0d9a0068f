// One case of the benchmark: its tables, its worker and its traffic.

import CBench
import CDPDK
import FastPath
import Tables
import Wire

enum Direction: String, CaseIterable {
    /// Bridged: from a circuit into a tunnel, and back.
    case encap, decap
    /// Routed: from a circuit into the fabric by host route and by prefix, from the fabric to a host,
    /// between two subnets of the node.
    case out, prefix, into, local

    var isRouted: Bool { self != .encap && self != .decap }
    var isFromFabric: Bool { self == .decap || self == .into }
    /// Frames that leave are encapsulated.
    var isToFabric: Bool { self == .encap || self == .out || self == .prefix }
    /// The port that receives.
    var port: UInt16 { isFromFabric ? Scene.underlay : Scene.access }
}

/// What a case measures.
struct Case: Hashable {
    var direction: Direction
    var macs: Int
    var isIPv6 = false
    /// Bridge domains, routed: VRFs; with more than one, access frames carry a tag that is popped and
    /// pushed.
    var vnis = 1
    var vteps = 64
    /// Inner frame in memory, without FCS.
    var frame = 60
}

/// Tables with every feature on, an underlay port and an access port on two ethdevs.
final class Scene {
    static let underlay: UInt16 = 0, access: UInt16 = 1
    static let firstVNI: UInt32 = 0x1000
    static let local4 = IPv4Address(rawValue: 0x6441_0001)
    static let local6 = IPv6Address(high: 0xFD00_0065 << 32, low: 1)
    /// Remote VTEPs end in 0x0200 and what follows.
    static let firstVTEP: UInt32 = 0x0200
    static let sources = 1024
    static let underlayMAC = MACAddress(2, 0, 0, 0, 0, 1), nextHop = MACAddress(2, 0, 0, 0, 0, 2)

    let shape: Case
    let tables: ForwardingTables
    let ports: MemoryPorts
    let worker: Worker
    var traffic = bench_traffic()

    init(_ shape: Case, name: String, environment: Environment) throws {
        self.shape = shape
        let limits = TableLimits(
            macs: max(262_144, shape.macs * 2 + Scene.sources), domains: 4097, vteps: 1024,
            circuits: 4096, routes: max(262_144, shape.macs * 2))
        tables = try ForwardingTables(limits: limits)
        guard let ports = MemoryPorts(name: name) else {
            throw TableError.outOfMemory(table: "rings", byteCount: 0)
        }
        self.ports = ports
        worker = Worker(
            index: 0, io: ports.io, tables: tables, packets: environment.packets,
            headers: environment.headers, idle: .poll)
        if shape.direction.isRouted { try fillRouted() } else { try fill() }
        traffic = makeTraffic()
    }

    func remote(_ index: Int) -> IPAddress {
        let low = UInt32(Scene.firstVTEP) + UInt32(index)
        return shape.isIPv6
            ? .v6(IPv6Address(high: 0xFD00_0065 << 32, low: UInt64(low)))
            : .v4(IPv4Address(rawValue: 0x6441_0000 + low))
    }

    func fillPorts() throws {
        for port in [Scene.underlay, Scene.access] {
            ports.setEthdev(port, ethdev: port, mtu: 9000)
        }
        try tables.setPort(
            Scene.underlay, PortEntry(role: .underlay, mtu: 9000, mac: Scene.underlayMAC))
        try tables.setPort(Scene.access, PortEntry(role: .circuits, mtu: 9000))
        try tables.setEndpoints([.v4(Scene.local4), .v6(Scene.local6)], vxlanPorts: [4789])
    }

    private func fill() throws {
        try fillPorts()
        var domains: [UInt16] = []
        var circuits: [UInt32] = []
        for number in 0..<shape.vnis {
            guard let vni = VNI(Scene.firstVNI + UInt32(number)) else { continue }
            let domain = try tables.addDomain(
                BridgeDomain(vni: vni, vxlanPort: 4789, gatewayMAC: MACAddress(0, 0xF3, 0, 0, 0, 1)))
            domains.append(domain)
            let vlan = shape.vnis == 1 ? 0 : UInt16(1 + number)
            circuits.append(try tables.addCircuit(port: Scene.access, vlan: vlan, domain: domain))
        }
        var tunnels: [UInt32] = []
        for index in 0..<shape.vteps {
            let tunnel = try tables.tunnel(to: remote(index))
            let path = TunnelPath(
                port: Scene.underlay, sourceMAC: Scene.underlayMAC, nextHopMAC: Scene.nextHop, mtu: 9000)
            tables.setPaths(tunnel: tunnel, [path], unusable: nil)
            for domain in domains { tables.setMember(domain: domain, tunnel: tunnel, true) }
            tunnels.append(tunnel)
        }
        tables.publish()
        for flow in 0..<shape.macs {
            let mac = MACAddress(rawValue: bench_destination(UInt32(flow)))
            let value = shape.direction == .encap
                ? FDBValue.tunnel(tunnels[flow % shape.vteps])
                : FDBValue.circuit(circuits[flow % shape.vnis])
            try tables.setMAC(domain: domains[flow % shape.vnis], mac, value)
        }
        // Local hosts that send: each in every domain in which its flows are.
        for source in 0..<min(Scene.sources, shape.macs) where shape.direction == .encap {
            let mac = MACAddress(rawValue: bench_source(UInt32(source)))
            for number in stride(from: source % min(shape.vnis, Scene.sources), to: shape.vnis, by: Scene.sources)
            {
                try tables.setMAC(domain: domains[number], mac, .circuit(circuits[number]))
            }
        }
        tables.publish()
    }

    private func makeTraffic() -> bench_traffic {
        var result = bench_traffic()
        let tagged = shape.vnis > 1
        let fromFabric = shape.direction.isFromFabric
        let plain = Self.inner(count: shape.frame, isRouted: shape.direction.isRouted)
        var bytes = tagged && !fromFabric ? Self.tagged(plain) : plain
        if fromFabric {
            bytes = Self.outer(count: plain.count, isIPv6: shape.isIPv6) + plain
            result.outer = shape.isIPv6 ? 70 : 50
        }
        result.length = UInt32(bytes.count)
        withUnsafeMutableBytes(of: &result.header) { target in
            for (index, byte) in bytes.prefix(128).enumerated() { target[index] = byte }
        }
        result.flows = UInt32(shape.macs)
        result.sources = UInt32(Self.powerOfTwo(min(Scene.sources, shape.macs)))
        result.vteps = UInt32(shape.vteps)
        result.vnis = UInt32(shape.vnis)
        result.tagged = tagged && !fromFabric ? 1 : 0
        if shape.direction.isRouted {
            result.destinations = 1
            result.router = (fromFabric ? Scene.routerMAC : Scene.gatewayMAC).rawValue
        }
        result.vni = Scene.firstVNI
        result.vtep = Scene.firstVTEP
        return result
    }

    static func powerOfTwo(_ value: Int) -> Int {
        var result = 1
        while result * 2 <= value { result *= 2 }
        return result
    }
    static func be16(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }

    /// Ethernet, IPv4, UDP without checksum, `count` bytes; addresses are the source's to write. What is
    /// routed has a right header checksum.
    static func inner(count: Int, isRouted: Bool) -> [UInt8] {
        var ip = [0x45, 0] + be16(count - 14) + [0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 0, 10, 1, 0, 1]
        if isRouted {
            ip.replaceSubrange(16..<20, with: [10, 128, 0, 0])
            ip.replaceSubrange(10..<12, with: be16(~sum(ip[...]) & 0xFFFF))
        }
        let udp = [0, 0, 0, 9] + be16(count - 34) + [0, 0]
        let head = [UInt8](repeating: 0, count: 12) + [8, 0] + ip + udp
        return head + [UInt8](repeating: 0x5A, count: max(0, count - head.count))
    }
    static func tagged(_ frame: [UInt8]) -> [UInt8] { frame[0..<12] + [0x81, 0, 0, 1] + frame[12...] }

    /// Outer headers of a received packet; the source ends in 0.0, which the sender overwrites.
    static func outer(count: Int, isIPv6: Bool) -> [UInt8] {
        let ethernet = underlayMAC.bytes + nextHop.bytes
        let udp = be16(0xC000) + be16(4789) + be16(count + 16) + [0, 0]
        let vxlan: [UInt8] = [8, 0, 0, 0, 0, 0, 0, 0]
        if isIPv6 {
            let source = IPv6Address(high: 0xFD00_0065 << 32, low: 0)
            let head: [UInt8] = [0x60, 0, 0, 0] + be16(count + 16) + [17, 64]
            return ethernet + [0x86, 0xDD] + head + source.bytes + local6.bytes + udp + vxlan
        }
        var ip: [UInt8] = [0x45, 0] + be16(count + 36) + [0, 0, 0x40, 0, 64, 17, 0, 0]
        ip += IPv4Address(rawValue: 0x6441_0000).bytes + local4.bytes
        var sum = 0
        for index in stride(from: 0, to: 20, by: 2) { sum += Int(ip[index]) << 8 | Int(ip[index + 1]) }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + sum >> 16 }
        ip.replaceSubrange(10..<12, with: be16(~sum & 0xFFFF))
        return ethernet + [8, 0] + ip + udp + vxlan
    }
}
