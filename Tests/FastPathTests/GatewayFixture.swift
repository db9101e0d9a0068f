// A PE whose two domains have gateways in one VRF, and the neighbour frames of its hosts.

import CDPDK
import FastPath
import Tables
import TestSupport
import Testing
import Wire

let anycastMAC = MACAddress(0, 0xF3, 0, 0, 0, 0x6F)
let anycastMAC2 = MACAddress(0, 0xF3, 0, 0, 0, 0x79)
let ownRouterMAC = MACAddress(2, 0, 0, 0, 0x64, 1)
let farRouterMAC = MACAddress(2, 0, 0, 0, 0x64, 2)

func v4(_ text: String) -> IPAddress { .v4(IPv4Address(text) ?? IPv4Address(rawValue: 0)) }
func v6(_ text: String) -> IPAddress { .v6(IPv6Address(text) ?? IPv6Address(high: 0, low: 0)) }
func prefix(_ text: String) -> IPPrefix {
    guard let prefix = IPPrefix(text) else { preconditionFailure("\(text) is no prefix") }
    return prefix
}

/// VRF `red` (L3VNI 100) with domain 110 (192.170.1.0/24, circuits on port 2 and, tagged 20, port 3) and
/// domain 120 (192.170.2.0/24, a circuit on port 4); host A on port 2, host B tagged on port 3, host C on port 4.
final class GatewayWorld {
    let world: World
    let vrf: UInt16
    let domain: UInt16
    let domain2: UInt16
    let circuits: [UInt32]
    let tunnel: UInt32
    let hostA = hostMAC, hostB = otherMAC, hostC = MACAddress(2, 0xAA, 0, 0, 0, 3)
    let addressA = v4("192.170.1.10"), addressB = v4("192.170.1.20"), addressC = v4("192.170.2.10")
    let address6A = v6("2001:db8:1::10"), address6B = v6("2001:db8:1::20"), address6C = v6("2001:db8:2::10")
    /// Behind the VTEP, in domain 110.
    let remote = v4("192.170.1.30"), remote6 = v6("2001:db8:1::30")
    let gateway = v4("192.170.1.1"), gateway6 = v6("2001:db8:1::1")

    init(_ flags: BridgeDomain.Flags = [.neighborSuppression], _ options: World.Options = World.Options()) throws {
        var options = options
        options.gateway = anycastMAC
        options.flags = flags
        world = try World(options)
        let tables = world.tables
        domain = world.domain
        guard let l3vni = VNI(100), let vni2 = VNI(120) else { preconditionFailure("VNIs have 24 bits") }
        vrf = try tables.addVRF(VRFEntry(
            vni: l3vni, routerMAC: ownRouterMAC, icmpSourceIPv4: IPv4Address("192.170.1.1"),
            icmpSourceIPv6: IPv6Address("2001:db8:1::1")))
        domain2 = try tables.addDomain(BridgeDomain(
            vni: vni2, vxlanPort: 4789, gatewayMAC: anycastMAC2, flags: flags, vrf: vrf))
        let vrf = vrf
        tables.updateDomain(domain) { $0.vrf = vrf }
        circuits = [
            try world.addCircuit(port: 2), try world.addCircuit(port: 3, vlan: 20),
            try world.addCircuit(port: 4, domain: domain2),
        ]
        tunnel = try world.addVTEP(Family.v4.remote())
        tables.setMember(vrf: vrf, tunnel: tunnel, true)
        for (domain, mac, gateways) in [
            (domain, anycastMAC, ["192.170.1.1/24", "2001:db8:1::1/64"]),
            (domain2, anycastMAC2, ["192.170.2.1/24", "2001:db8:2::1/64"]),
        ] {
            tables.setGateways(domain: domain, gateways.map(prefix))
            try world.addMAC(mac, .gateway, domain: domain)
            for gateway in gateways.map(prefix) {
                try tables.setRoute(vrf: vrf, gateway.network, .subnet(domain: domain))
                let host = IPPrefix(gateway.address, length: gateway.address.bitCount)
                if let host { try tables.setRoute(vrf: vrf, host, .local(domain: domain)) }
            }
        }
        try world.addMAC(hostA, .circuit(circuits[0]))
        try world.addMAC(hostB, .circuit(circuits[1]))
        try world.addMAC(hostC, .circuit(circuits[2]), domain: domain2)
        try world.addMAC(remoteMAC, .tunnel(tunnel))
        try world.setFlood(circuits: [circuits[0], circuits[1]], tunnels: [tunnel])
        try world.setFlood(circuits: [circuits[2]], tunnels: [], domain: domain2)
    }

    /// Makes an address of a domain known, and routes to it.
    @discardableResult
    func bind(
        _ address: IPAddress, _ mac: MACAddress, domain wanted: UInt16? = nil, isRemote: Bool = false,
        state: RouteHop.State = .usable
    ) throws -> UInt32 {
        let domain = wanted ?? self.domain
        let hop = try world.tables.addHop(RouteHop(
            way: .bridge(domain: domain), mac: mac, sourceMAC: domain == self.domain ? anycastMAC : anycastMAC2,
            state: state, isRemote: isRemote))
        try world.tables.setNeighbor(domain: domain, address, hop: hop)
        if let host = IPPrefix(address, length: address.bitCount) {
            try world.tables.setRoute(vrf: vrf, host, .hop(hop))
        }
        world.tables.publish()
        return hop
    }
    func bindHosts() throws {
        try bind(addressA, hostA)
        try bind(address6A, hostA)
        try bind(addressB, hostB)
        try bind(address6B, hostB)
        try bind(addressC, hostC, domain: domain2)
        try bind(address6C, hostC, domain: domain2)
    }

    /// Neighbour events since the last call.
    var events: [NeighborEvent] {
        var events: [NeighborEvent] = []
        while let event = world.tables.neighborRings.workers[0].pop() { events.append(event) }
        return events
    }
    func total(_ counter: TotalCounter) -> UInt64 { world.total(counter) }
}
