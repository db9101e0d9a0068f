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

/// Neighbour frames, written byte by byte.
extension Frame {
    static func arp(
        to destination: MACAddress, from source: MACAddress, operation: UInt16, senderMAC: MACAddress? = nil,
        sender: IPAddress, targetMAC: MACAddress = .zero, target: IPAddress, type: UInt16 = 0x0806
    ) -> [UInt8] {
        let head: [UInt8] = [0, 1, 8, 0, 6, 4] + be16(operation)
        let body = (senderMAC ?? source).bytes + sender.bytes + targetMAC.bytes + target.bytes
        return ethernet(to: destination, from: source, type: type, head + body)
    }
    /// An ICMPv6 packet with a right checksum.
    static func icmp6(
        to destination: MACAddress, from source: MACAddress, _ sourceIP: IPAddress, _ destinationIP: IPAddress,
        hopLimit: UInt8 = 255, trafficClass: UInt8 = 0, _ message: [UInt8]
    ) -> [UInt8] {
        guard case .v6(let from) = sourceIP, case .v6(let to) = destinationIP else { preconditionFailure("IPv6") }
        var message = message
        let pseudo = from.bytes + to.bytes + be32(message.count) + [0, 0, 0, 58]
        let sum = be16(checksum(pseudo + message))
        message[2] = sum[0]
        message[3] = sum[1]
        let packet = ipv6(
            from: from, to: to, next: 58, message, hopLimit: hopLimit, trafficClass: trafficClass)
        return ethernet(to: destination, from: source, type: 0x86DD, packet)
    }
    /// `linkLayer` nil: without the option.
    static func solicitation(
        to destination: MACAddress? = nil, from source: MACAddress, _ sourceIP: IPAddress,
        _ destinationIP: IPAddress? = nil, target: IPAddress, linkLayer: MACAddress?, hopLimit: UInt8 = 255
    ) -> [UInt8] {
        let last = Array(target.bytes[13...])
        let group = MACAddress(bytes: [0x33, 0x33, 0xFF] + last)
        let solicited = IPAddress.v6(IPv6Address(bytes: [0xFF, 2] + [UInt8](repeating: 0, count: 9) + [1, 0xFF] + last))
        let option = linkLayer.map { [1, 1] + $0.bytes } ?? []
        return icmp6(
            to: destination ?? group, from: source, sourceIP, destinationIP ?? solicited, hopLimit: hopLimit,
            [135, 0, 0, 0, 0, 0, 0, 0] + target.bytes + option)
    }
    static func advertisement(
        to destination: MACAddress, from source: MACAddress, _ sourceIP: IPAddress, _ destinationIP: IPAddress,
        flags: UInt8, target: IPAddress, linkLayer: MACAddress?, hopLimit: UInt8 = 255
    ) -> [UInt8] {
        let option = linkLayer.map { [2, 1] + $0.bytes } ?? []
        return icmp6(
            to: destination, from: source, sourceIP, destinationIP, hopLimit: hopLimit,
            [136, 0, 0, 0, flags, 0, 0, 0] + target.bytes + option)
    }
    /// A DHCP server's message with its type as the only option.
    static func dhcp(
        to destination: MACAddress, from source: MACAddress, _ server: IPAddress, type: UInt8, client: MACAddress,
        address: IPAddress
    ) -> [UInt8] {
        var message = [UInt8](repeating: 0, count: 240)
        message.replaceSubrange(0..<3, with: [2, 1, 6])
        message.replaceSubrange(16..<20, with: address.bytes)
        message.replaceSubrange(28..<34, with: client.bytes)
        message.replaceSubrange(236..<240, with: [0x63, 0x82, 0x53, 0x63])
        message += [53, 1, type, 255]
        let packet = udp(from: server, 67, to: address, 68, message)
        return ip(to: destination, from: source, server, address, number: 17, packet)
    }
}
