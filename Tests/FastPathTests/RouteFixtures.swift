// A PE that routes: one VRF with two subnets, a remote PE behind its L3VNI, and what tests vary.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

let routerMAC = MACAddress(2, 0, 0, 0, 0x64, 1)
let remoteRouterMAC = MACAddress(2, 0, 0, 0, 0x64, 2)
let gatewayMAC = MACAddress(0, 0xF3, 0, 0, 0, 0x6F)
let legMAC = MACAddress(2, 0, 0, 0, 0x77, 1)
let speakerMAC = MACAddress(2, 0, 0, 0, 0x77, 2)

extension Family {
    /// Address `number` of subnet `subnet`: 10.subnet.0.number or 2001:db8:subnet::number.
    func host(_ subnet: UInt32, _ number: UInt32) -> IPAddress {
        self == .v4
            ? .v4(IPv4Address(rawValue: 10 << 24 | subnet << 16 | number))
            : .v6(IPv6Address(high: 0x2001_0DB8 << 32 | UInt64(subnet) << 16, low: UInt64(number)))
    }
    func prefix(_ address: IPAddress, _ length: Int) -> IPPrefix {
        guard let prefix = IPPrefix(address, length: length) else { preconditionFailure("no such length") }
        return prefix
    }
    func subnet(_ subnet: UInt32) -> IPPrefix { prefix(host(subnet, 0), self == .v4 ? 16 : 48) }
    /// 0.0.0.0/0 or ::/0.
    var any: IPPrefix { prefix(host(0, 0), 0).network }
    func single(_ address: IPAddress) -> IPPrefix { prefix(address, self == .v4 ? 32 : 128) }
    /// Bytes that a VXLAN tunnel takes from the MTU of a routed packet.
    var tunnelOverhead: Int { headerByteCount }
    static let pairs: [(inner: Family, outer: Family)] = [(.v4, .v4), (.v4, .v6), (.v6, .v4), (.v6, .v6)]
}

/// Subnet 1 (`world.domain`, VNI 110, host 1.10 on port 2) and subnet 2 (VNI 111, host 2.20 on port 3) in
/// VRF red (L3VNI 100); host 2.99 and prefix 9 behind the remote PE.
struct Routed {
    let world: World
    let vrf: UInt16
    let first: UInt16
    let second: UInt16
    let circuits: [UInt32]
    let tunnel: UInt32
    /// Hops: hosts 1.10 and 2.20, and the remote PE.
    let near: UInt32
    let far: UInt32
    let fabric: UInt32
    let outer: Family
    var tables: ForwardingTables { world.tables }

    init(outer: Family = .v4, vlan: UInt16 = 0, _ change: (inout World.Options) -> Void = { _ in }) throws {
        var options = World.Options()
        options.gateway = gatewayMAC
        options.limits.vrfs = 64
        change(&options)
        world = try World(options)
        self.outer = outer
        let tables = world.tables
        vrf = try tables.addVRF(VRFEntry(vni: VNI(100), routerMAC: routerMAC))
        // The domain of the world has no VRF; these two do.
        func domain(_ vni: UInt32, _ vrf: UInt16) throws -> UInt16 {
            try tables.addDomain(BridgeDomain(
                vni: try #require(VNI(vni)), vxlanPort: 4789, gatewayMAC: gatewayMAC, vrf: vrf))
        }
        first = try domain(210, vrf)
        second = try domain(211, vrf)
        circuits = [
            try world.addCircuit(port: 2, domain: first), try world.addCircuit(port: 3, vlan: vlan, domain: second),
        ]
        tunnel = try world.addVTEP(outer.remote(), domain: first)
        tables.setMember(domain: second, tunnel: tunnel, true)
        tables.setMember(vrf: vrf, tunnel: tunnel, true)
        near = try tables.addHop(RouteHop(way: .bridge(domain: first), mac: hostMAC, sourceMAC: gatewayMAC))
        far = try tables.addHop(RouteHop(way: .bridge(domain: second), mac: otherMAC, sourceMAC: gatewayMAC))
        fabric = try tables.addHop(RouteHop(
            way: .tunnel(tunnel, l3vni: try #require(VNI(100)), vxlanPort: 4789), mac: remoteRouterMAC,
            sourceMAC: routerMAC))
        try world.addMAC(hostMAC, .circuit(circuits[0]), domain: first)
        try world.addMAC(otherMAC, .circuit(circuits[1]), domain: second)
        for family in Family.allCases {
            for (subnet, domain) in [(1, first), (2, second)] as [(UInt32, UInt16)] {
                try set(family.subnet(subnet), .subnet(domain: domain))
                try set(family.single(family.host(subnet, 1)), .local(domain: domain))
            }
            try set(family.single(family.host(1, 10)), .hop(near))
            try set(family.single(family.host(2, 20)), .hop(far))
            try set(family.single(family.host(2, 99)), .hop(fabric))
            try set(family.subnet(9), .hop(fabric))
        }
        for (subnet, domain) in [(1, first), (2, second)] as [(UInt32, UInt16)] {
            tables.setGateways(domain: domain, Family.allCases.map {
                $0.prefix($0.host(subnet, 1), $0 == .v4 ? 16 : 48)
            })
        }
        try world.setFlood(circuits: [circuits[0]], tunnels: [tunnel], domain: first)
        try world.setFlood(circuits: [circuits[1]], tunnels: [tunnel], domain: second)
        tables.publish()
    }

    func set(_ prefix: IPPrefix, _ value: RouteValue, vrf: UInt16? = nil) throws {
        try tables.setRoute(vrf: vrf ?? self.vrf, prefix, value)
    }
    /// A frame of host 1.10 to the gateway.
    func up(_ destination: IPAddress, port: UInt16 = 1000, payload: [UInt8] = Array(0..<22)) -> [UInt8] {
        Frame.host(
            to: gatewayMAC, from: hostMAC, (destination.isV4 ? Family.v4 : .v6).host(1, 10), destination,
            sourcePort: port, payload: payload)
    }
    /// An L3VNI packet of the remote PE, from its host 2.99.
    func down(_ destination: IPAddress, vni: UInt32 = 100) -> [UInt8] { down(inner(destination), vni: vni) }
    func down(_ inner: [UInt8], vni: UInt32 = 100) -> [UInt8] { outer.vxlan(vni: vni).frame(inner) }
    func inner(_ destination: IPAddress) -> [UInt8] {
        Frame.host(
            to: routerMAC, from: remoteRouterMAC, (destination.isV4 ? Family.v4 : .v6).host(2, 99), destination)
    }
    /// What was sent that is not an ICMP error or a probe of this node.
    func forwarded(_ frames: [(port: UInt16, bytes: [UInt8])], _ marker: [UInt8] = Array(0..<22)) -> [Sent] {
        world.run(frames).filter { $0.bytes.suffix(marker.count).elementsEqual(marker) && !isError($0.bytes) }
    }
    private func isError(_ frame: [UInt8]) -> Bool {
        frame.count > 23 && (frame[12] == 8 ? frame[23] == 1 : frame[20] == 58)
    }
    /// Runs one frame whose packet must end with `reason`; nothing of it is forwarded.
    func expectDrop(
        _ reason: DropReason, port: UInt16 = 2, _ frame: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let before = world.drops[reason] ?? 0
        let sent = forwarded([(port, frame)])
        #expect(sent.isEmpty, sourceLocation: sourceLocation)
        #expect((world.drops[reason] ?? 0) - before == 1, "\(world.drops)", sourceLocation: sourceLocation)
    }
}

/// An untagged IP frame one hop on: other addresses, TTL counted down, the checksum computed anew.
func hopped(_ frame: [UInt8], to destination: MACAddress, from source: MACAddress) -> [UInt8] {
    var result = destination.bytes + source.bytes + frame[12...]
    if result[12] == 0x08 {
        result[22] -= 1
        let end = 14 + Int(result[14] & 15) * 4
        result[24] = 0
        result[25] = 0
        result.replaceSubrange(24..<26, with: Frame.be16(Frame.checksum(Array(result[14..<end]))))
    } else {
        result[21] -= 1
    }
    return result
}
/// Sets the TTL of an untagged IP frame.
func withTimeToLive(_ value: UInt8, _ frame: [UInt8]) -> [UInt8] {
    changed(frame) { if $0[12] == 0x08 { $0[22] = value } else { $0[21] = value } }
}
/// Changes an untagged IP frame; an IPv4 header gets its checksum anew.
func changed(_ frame: [UInt8], _ body: (inout [UInt8]) -> Void) -> [UInt8] {
    var result = frame
    body(&result)
    if result[12] == 0x08, result[13] == 0, result.count >= 34 {
        let end = min(14 + Int(result[14] & 15) * 4, result.count)
        result[24] = 0
        result[25] = 0
        result.replaceSubrange(24..<26, with: Frame.be16(Frame.checksum(Array(result[14..<end]))))
    }
    return result
}
