// The routed part of the zoo: a VRF with every kind of route, gateways, neighbours in every state, and their frames.

import FastPath
import Tables
import TestSupport
import Wire

struct RoutedZoo {
    private let tables: ForwardingTables
    private let domain: UInt16
    /// Hops whose MAC and state an input may change, and what they are at its start.
    private let hops: [(index: UInt32, hop: RouteHop)]

    static let gateway = MACAddress(0, 0xF3, 0, 0, 0, 0x6F)
    private static let router = MACAddress(2, 0, 0, 0, 0x64, 1)
    private static let farRouter = MACAddress(2, 0, 0, 0, 0x64, 2)
    private static let host = MACAddress(2, 0xAA, 0, 0, 0, 1)
    private static let remote = MACAddress(2, 0xBB, 0, 0, 0, 1)

    private static func v4(_ text: String) -> IPAddress { IPAddress(text) ?? .v4(Frame.hostA) }
    private static func prefix(_ text: String) -> IPPrefix {
        guard let prefix = IPPrefix(text) else { fatalError("\(text) is no prefix") }
        return prefix
    }

    /// Makes the world's domain route: 192.168.0.0/24 and fd01::/64 are its subnets.
    init(_ world: World, tunnels: [UInt32]) throws {
        tables = world.tables
        domain = world.domain
        let tables = world.tables
        let domain = world.domain
        guard let l3vni = VNI(100) else { fatalError("a VNI has 24 bits") }
        let vrf = try tables.addVRF(VRFEntry(
            vni: l3vni, routerMAC: Self.router, icmpSourceIPv4: IPv4Address(rawValue: 0xC0A8_00FE),
            icmpSourceIPv6: IPv6Address(high: 0xFD01 << 48, low: 0xFE)))
        let second = try tables.addVRF(VRFEntry(vni: nil))
        tables.updateDomain(domain) {
            $0.vrf = vrf
            $0.flags.insert(.neighborSuppression)
        }
        tables.setGateways(domain: domain, [Self.prefix("192.168.0.254/24"), Self.prefix("fd01::fe/64")])
        try world.addPort(6, role: .routed, mac: MACAddress(2, 0, 0, 0, 0, 6), partner: 10)
        try world.addPort(10, role: .exception, partner: 6)
        var leg = tables.port(6) ?? PortEntry(role: .routed)
        leg.vrf = vrf
        try tables.setPort(6, leg)
        for tunnel in tunnels { tables.setMember(vrf: vrf, tunnel: tunnel, true) }

        var hops: [(index: UInt32, hop: RouteHop)] = []
        func add(_ hop: RouteHop) throws -> UInt32 {
            let index = try tables.addHop(hop)
            hops.append((index, hop))
            return index
        }
        func neighbor(
            _ addresses: [String], _ mac: MACAddress, _ state: RouteHop.State, isRemote: Bool = false
        ) throws {
            for address in addresses.map(Self.v4) {
                let hop = try add(RouteHop(
                    way: .bridge(domain: domain), mac: mac, sourceMAC: Self.gateway, state: state, isRemote: isRemote))
                try tables.setNeighbor(domain: domain, address, hop: hop)
                if let prefix = IPPrefix(address, length: address.bitCount), !isRemote {
                    try tables.setRoute(vrf: vrf, prefix, .hop(hop))
                }
            }
        }
        try neighbor(["192.168.0.1", "fd01::1"], Self.host, .usable)
        try neighbor(["192.168.0.2", "fd01::2"], Self.remote, .usable, isRemote: true)
        try neighbor(["192.168.0.3", "fd01::3"], .zero, .resolving)
        try neighbor(["192.168.0.4", "fd01::4"], .zero, .failed)
        let fabric = try tunnels.prefix(3).map { tunnel in
            try add(RouteHop(
                way: .tunnel(tunnel, l3vni: l3vni, vxlanPort: 4789), mac: Self.farRouter, sourceMAC: Self.router))
        }
        let nameless = try add(RouteHop(
            way: .tunnel(tunnels[0], l3vni: l3vni, vxlanPort: 4789), sourceMAC: Self.router, state: .noRouterMAC))
        let leghop = try add(RouteHop(way: .port(6), mac: MACAddress(2, 0, 0, 0, 0, 7)))
        let group = try tables.addGroup()
        try tables.setGroup(group, slots: [fabric[0], fabric[1], fabric[0], fabric[2]])
        let empty = try tables.addGroup()
        let routes: [(String, RouteValue)] = [
            ("192.168.0.0/24", .subnet(domain: domain)), ("192.168.0.254/32", .local(domain: domain)),
            ("fd01::/64", .subnet(domain: domain)), ("fd01::fe/128", .local(domain: domain)),
            ("10.0.0.0/16", .hop(fabric[0])), ("10.1.0.0/16", .group(group)), ("10.2.0.0/16", .blackhole),
            ("10.3.0.0/16", .unreachable), ("10.4.0.0/16", .prohibit), ("10.5.0.0/16", .vrf(second)),
            ("10.6.0.0/16", .hop(nameless)), ("10.7.0.0/16", .hop(leghop)), ("10.8.0.0/16", .group(empty)),
            ("10.9.0.0/16", .port(6)), ("10.10.0.1/32", .host(port: 6)), ("10.11.0.0/16", .hop(fabric[1])),
            ("fd10::/16", .hop(fabric[1])), ("fd11::/16", .group(group)), ("fd12::/16", .unreachable),
            ("fd13::/16", .hop(leghop)),
        ]
        for (text, value) in routes { try tables.setRoute(vrf: vrf, Self.prefix(text), value) }
        try tables.setRoute(vrf: second, Self.prefix("10.5.0.0/17"), .hop(fabric[0]))
        try tables.setRoute(vrf: second, Self.prefix("10.5.128.0/17"), .vrf(vrf))
        self.hops = hops
    }

    /// Every hop as it was.
    func reset() {
        for (index, hop) in hops {
            tables.updateHop(index, mac: hop.mac, state: hop.state, isRemote: hop.isRemote)
        }
    }
    /// What the control plane may do between bursts, chosen by a byte of the input.
    func act(_ choice: UInt8) {
        let (index, hop) = hops[Int(choice >> 2) % hops.count]
        switch choice & 3 {
        case 0: tables.updateHop(index, mac: Self.host, state: .usable, isRemote: hop.isRemote)
        case 1: tables.updateHop(index, mac: .zero, state: .failed, isRemote: hop.isRemote)
        case 2: tables.updateHop(index, mac: .zero, state: .resolving, isRemote: hop.isRemote)
        default:
            let isIPv6 = choice & 4 != 0
            let address = Self.v4(isIPv6 ? "fd01::\(choice >> 4)" : "192.168.0.\(choice >> 4)")
            _ = tables.probes.push(ProbeRequest(
                domain: choice & 8 != 0 ? domain : UInt16(choice), address: address,
                mac: choice & 16 != 0 ? Self.host : nil))
        }
    }

    /// Valid frames for each way through the neighbour, routing, ICMP and waiting lanes.
    static var frames: [(port: UInt8, bytes: [UInt8])] {
        let a4 = v4("192.168.0.1"), a6 = v4("fd01::1"), g4 = v4("192.168.0.254"), g6 = v4("fd01::fe")
        let all = MACAddress.broadcast
        var frames: [[UInt8]] = []
        for target in ["192.168.0.254", "192.168.0.2", "192.168.0.77"] {
            frames.append(Frame.arp(to: all, from: host, operation: 1, sender: a4, target: v4(target)))
        }
        frames.append(Frame.arp(to: all, from: host, operation: 1, sender: a4, target: a4))
        frames.append(Frame.arp(to: all, from: host, operation: 2, sender: g4, target: g4))
        frames.append(Frame.arp(
            to: all, from: host, operation: 3, sender: v4("0.0.0.0"), targetMAC: host, target: v4("0.0.0.0"),
            type: 0x8035))
        for target in ["fd01::fe", "fd01::2", "fd01::77"] {
            frames.append(Frame.solicitation(from: host, a6, target: v4(target), linkLayer: host))
        }
        frames.append(Frame.solicitation(from: host, v4("::"), target: g6, linkLayer: nil))
        frames.append(Frame.advertisement(
            to: gateway, from: host, a6, g6, flags: 0x60, target: a6, linkLayer: host))
        frames.append(Frame.dhcp(to: host, from: host, v4("192.168.0.9"), type: 5, client: host, address: a4))
        frames.append(Frame.icmp6(to: gateway, from: host, a6, g6, hopLimit: 9, [128, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3]))
        frames.append(Frame.ip(to: gateway, from: host, a4, g4, number: 1, [8, 0, 0xF7, 0xFD, 0, 1, 0, 1]))
        frames.append(Frame.host(to: gateway, from: host, a4, g4))
        let targets4 = [
            "192.168.0.1", "192.168.0.2", "192.168.0.3", "192.168.0.4", "192.168.0.77", "192.168.0.255", "10.0.0.1",
            "10.1.0.1", "10.1.0.2", "10.2.0.1", "10.3.0.1", "10.4.0.1", "10.5.0.1", "10.5.200.1", "10.6.0.1",
            "10.7.0.1", "10.8.0.1", "10.9.0.1", "10.10.0.1", "10.11.0.1", "11.0.0.1", "127.0.0.1", "224.0.0.1",
        ]
        let targets6 = [
            "fd01::1", "fd01::2", "fd01::3", "fd01::4", "fd01::77", "fd10::1", "fd11::1", "fd12::1", "fd13::1",
            "fd99::1", "fe80::1", "ff02::1",
        ]
        for target in targets4 { frames.append(Frame.host(to: gateway, from: host, a4, v4(target))) }
        for target in targets6 { frames.append(Frame.host(to: gateway, from: host, a6, v4(target))) }
        // TTL 1, and what is too big for the ways out, with DF and without.
        for (ttl, fragment) in [(UInt8(1), UInt16(0)), (64, 0x4000), (64, 0)] {
            var options = Frame.IPv4Options()
            options.timeToLive = ttl
            options.fragment = fragment
            options.options = [0x94, 4, 0, 0]
            let payload = [UInt8](repeating: 1, count: 1560)
            frames.append(Frame.ethernet(
                to: gateway, from: host, type: 0x0800,
                Frame.ipv4(
                    from: Frame.hostA, to: IPv4Address(rawValue: 0x0A0B_0001), number: 17, payload, options)))
        }
        var result: [(port: UInt8, bytes: [UInt8])] = frames.map { (2, $0) }
        var l2 = Frame.VXLAN(from: .v4(IPv4Address(rawValue: 0x6441_0002)), to: World.local4, vni: 110)
        result += frames.prefix(14).map { (0, l2.frame($0)) }
        l2.vni = 100
        for target in ["192.168.0.1", "192.168.0.3", "192.168.0.77", "192.168.0.254", "10.1.0.1", "11.0.0.1"] {
            result.append((0, l2.frame(Frame.host(to: router, from: farRouter, v4("10.0.0.9"), v4(target)))))
        }
        result.append((0, l2.frame(Frame.host(to: host, from: farRouter, v4("10.0.0.9"), a4))))
        let leg = MACAddress(2, 0, 0, 0, 0, 6), speaker = MACAddress(2, 0, 0, 0, 0, 7)
        for target in ["192.168.0.1", "10.0.0.1", "10.10.0.1"] {
            result.append((6, Frame.host(to: leg, from: speaker, v4("10.7.0.1"), v4(target))))
        }
        result.append((6, Frame.arp(
            to: all, from: speaker, operation: 1, sender: v4("10.7.0.1"), target: v4("10.10.0.1"))))
        return result
    }
}
