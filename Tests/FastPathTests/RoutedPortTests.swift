// Ports in a VRF without a bridge domain, and underlay ports whose default VRF is routed, too.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

/// A routed port (6, its TAP 7) in the VRF of ``Routed``, with a speaker behind it and prefix 70.
private struct Leg {
    static let port: UInt16 = 6, tap: UInt16 = 7
    let routed: Routed
    let speaker: UInt32
    var world: World { routed.world }

    init() throws {
        routed = try Routed()
        var entry = PortEntry(role: .routed, mtu: 1500, mac: legMAC, partner: Leg.tap)
        entry.vrf = routed.vrf
        try routed.world.addPort(Leg.port, role: .routed)
        try routed.tables.setPort(Leg.port, entry)
        try routed.world.addPort(Leg.tap, role: .exception, partner: Leg.port)
        speaker = try routed.tables.addHop(RouteHop(way: .port(Leg.port), mac: speakerMAC))
        for family in Family.allCases {
            try routed.set(family.subnet(3), .port(Leg.port))
            try routed.set(family.single(family.host(3, 1)), .host(port: Leg.port))
            try routed.set(family.single(family.host(3, 2)), .hop(speaker))
            try routed.set(family.subnet(70), .hop(speaker))
        }
        routed.tables.publish()
    }
    func frame(to mac: MACAddress = legMAC, _ source: IPAddress, _ destination: IPAddress) -> [UInt8] {
        Frame.host(to: mac, from: speakerMAC, source, destination)
    }
}

@Suite("Routed ports") struct RoutedPortTests {
    @Test("a packet for the port's MAC is routed to a host and into the fabric", arguments: Family.allCases)
    func into(family: Family) throws {
        let leg = try Leg()
        let local = leg.frame(family.host(70, 1), family.host(1, 10))
        expectFrame(leg.world.run(Leg.port, local).first, port: 2, hopped(local, to: hostMAC, from: gatewayMAC))
        let far = leg.frame(family.host(70, 1), family.host(9, 1))
        let outer = leg.world.run(Leg.port, far).first.flatMap { OuterHeaders($0.bytes) }
        #expect(outer?.inner == hopped(far, to: remoteRouterMAC, from: routerMAC))
        #expect(leg.world.learned.isEmpty)
        expectBalanced(leg.world)
    }

    @Test("packets leave by the port's own MAC", arguments: Family.allCases)
    func out(family: Family) throws {
        let leg = try Leg()
        for destination in [family.host(70, 1), family.host(3, 2)] {
            let frame = leg.routed.up(destination)
            expectFrame(
                leg.world.run(2, frame).first, port: Leg.port, hopped(frame, to: speakerMAC, from: legMAC))
        }
        let inner = leg.routed.inner(family.host(70, 5))
        expectFrame(
            leg.world.run(0, leg.routed.down(inner)).first, port: Leg.port,
            hopped(inner, to: speakerMAC, from: legMAC))
        expectBalanced(leg.world)
    }

    @Test("ARP, groups, link-local and own addresses go to the host as they came")
    func punts() throws {
        let leg = try Leg()
        let v4 = Family.v4, v6 = Family.v6
        let linkLocal = try #require(IPAddress("fe80::1")), group = try #require(IPAddress("ff02::5"))
        let autoconf = try #require(IPAddress("169.254.7.7"))
        let arp = [UInt8](repeating: 0, count: 28)
        let frames: [[UInt8]] = [
            Frame.ethernet(to: .broadcast, from: speakerMAC, type: 0x0806, arp),
            Frame.ethernet(to: legMAC, from: speakerMAC, type: 0x0806, arp),
            leg.frame(v4.host(3, 2), v4.host(3, 1)), leg.frame(v6.host(3, 2), v6.host(3, 1)),
            leg.frame(linkLocal, linkLocal), leg.frame(linkLocal, v6.host(3, 1)),
            leg.frame(autoconf, v4.host(3, 1)), leg.frame(v4.host(3, 2), autoconf),
            leg.frame(to: MACAddress(0x33, 0x33, 0, 0, 0, 5), linkLocal, group),
            leg.frame(to: .broadcast, v4.host(3, 2), v4.host(3, 0xFFFF)),
            Frame.ethernet(to: MACAddress(1, 0x80, 0xC2, 0, 0, 0x0E), from: speakerMAC, type: 0x88CC, arp),
            Frame.tagged(5, leg.frame(v4.host(3, 2), v4.host(3, 1))),
        ]
        let sent = leg.world.run(frames.map { (Leg.port, $0) })
        #expect(sent.map(\.port) == frames.map { _ in Leg.tap })
        #expect(sent.map(\.bytes) == frames)
        #expect(leg.world.total(.punted) == UInt64(frames.count))
        expectBalanced(leg.world)
    }

    @Test("an own address is reached from everywhere, at the port's MAC", arguments: Family.allCases)
    func ownAddress(family: Family) throws {
        let leg = try Leg()
        let frame = leg.routed.up(family.host(3, 1))
        expectFrame(leg.world.run(2, frame).first, port: Leg.tap, legMAC.bytes + frame[6...])
        // A connected address that nobody resolved yet is the host's to resolve.
        let unknown = leg.routed.up(family.host(3, 9))
        expectFrame(leg.world.run(2, unknown).first, port: Leg.tap, legMAC.bytes + unknown[6...])
        #expect(leg.world.total(.punted) == 2)
        expectBalanced(leg.world)
    }

    @Test("another's MAC, a broken source and a broken header are dropped")
    func refusals() throws {
        let leg = try Leg()
        let good = leg.frame(Family.v4.host(70, 1), Family.v4.host(1, 10))
        func drop(_ reason: DropReason, _ frame: [UInt8]) {
            leg.routed.expectDrop(reason, port: Leg.port, frame)
        }
        drop(.otherDestinationMAC, gatewayMAC.bytes + good[6...])
        drop(.multicastSource, legMAC.bytes + [1] + good[7...])
        drop(.zeroSource, legMAC.bytes + MACAddress.zero.bytes + good[12...])
        drop(.ownSourceMAC, legMAC.bytes + legMAC.bytes + good[12...])
        drop(.truncatedFrame, Array(good.prefix(13)))
        drop(.innerIPv4Header, Array(good.prefix(30)))
        drop(.noRoute, leg.frame(Family.v4.host(70, 1), Family.v4.host(99, 1)))
        let small = changed(good) { $0 = withTimeToLive(1, $0) }
        drop(.ttlExpired, small)
        expectBalanced(leg.world)
    }

    @Test("the port's MTU counts", arguments: Family.allCases)
    func size(family: Family) throws {
        let leg = try Leg()
        let headers = family == .v4 ? 28 : 48
        func frame(_ count: Int) -> [UInt8] {
            changed(leg.routed.up(family.host(70, 1), payload: Array(repeating: 1, count: count - headers))) {
                if $0[12] == 0x08 { $0[20] = 0x40 }
            }
        }
        #expect(leg.world.run(2, frame(1500)).first?.port == Leg.port)
        leg.routed.expectDrop(.fragmentationNeeded, frame(1501))
        expectBalanced(leg.world)
    }

    @Test("a port that is gone drops, a hop without one as well")
    func gone() throws {
        let leg = try Leg()
        leg.world.ports.removePort(Leg.port)
        leg.routed.expectDrop(.transmitFailed, leg.routed.up(Family.v4.host(70, 1)))
        let nowhere = try leg.routed.tables.addHop(RouteHop(way: .port(900), mac: speakerMAC))
        try leg.routed.set(Family.v4.subnet(71), .hop(nowhere))
        leg.routed.expectDrop(.noNextHop, leg.routed.up(Family.v4.host(71, 1)))
        expectBalanced(leg.world)
    }
}

@Suite("Routing in the underlay's VRF") struct PassThroughTests {
    private func make() throws -> (routed: Routed, port: UInt16) {
        let routed = try Routed()
        var entry = PortEntry(role: .underlay, mtu: 1600, mac: World.underlayMAC, partner: World.tap)
        entry.vrf = routed.vrf
        try routed.tables.setPort(World.underlayPort, entry)
        try routed.set(Family.v4.subnet(100), .host(port: World.underlayPort))
        routed.tables.publish()
        return (routed, World.underlayPort)
    }
    private func frame(_ destination: IPAddress, to mac: MACAddress = World.underlayMAC) -> [UInt8] {
        let source = (destination.isV4 ? Family.v4 : .v6).host(80, 1)
        return Frame.host(to: mac, from: World.nextHopMAC, source, destination)
    }

    @Test("a packet of the default VRF is routed to a host behind the node", arguments: Family.allCases)
    func through(family: Family) throws {
        let (routed, port) = try make()
        let packet = frame(family.host(1, 10))
        expectFrame(routed.world.run(port, packet).first, port: 2, hopped(packet, to: hostMAC, from: gatewayMAC))
        // And back out of the underlay port, without a tunnel.
        let hop = try routed.tables.addHop(RouteHop(way: .port(port), mac: World.nextHopMAC))
        try routed.set(family.subnet(80), .hop(hop))
        let back = routed.up(family.host(80, 1))
        expectFrame(
            routed.world.run(2, back).first, port: port, hopped(back, to: World.nextHopMAC, from: World.underlayMAC))
        expectBalanced(routed.world)
    }

    @Test("the host keeps its own: addresses, endpoints, groups, what no route knows")
    func host() throws {
        let (routed, port) = try make()
        let linkLocal = try #require(IPAddress("fe80::9"))
        let frames = [
            frame(Family.v4.host(100, 1)), frame(World.local4), frame(World.local6), frame(linkLocal),
            frame(Family.v4.host(99, 1)), frame(Family.v6.host(99, 1)),
            frame(Family.v4.host(1, 10), to: .broadcast),
            Frame.ethernet(to: World.underlayMAC, from: World.nextHopMAC, type: 0x0806, Array(repeating: 0, count: 28)),
        ]
        let sent = routed.world.run(frames.map { (port, $0) })
        #expect(sent.map(\.port) == frames.map { _ in World.tap })
        #expect(sent.map(\.bytes) == frames)
        #expect(routed.world.drops.isEmpty)
        expectBalanced(routed.world)
    }

    @Test("VXLAN is terminated as before, and without a VRF everything is the host's")
    func others() throws {
        let (routed, port) = try make()
        let inner = routed.inner(Family.v4.host(1, 10))
        expectFrame(routed.world.run(port, routed.down(inner)).first, port: 2, hopped(inner, to: hostMAC, from: gatewayMAC))
        let plain = try Routed()
        let packet = frame(Family.v4.host(1, 10))
        expectFrame(plain.world.run(0, packet).first, port: World.tap, packet)
        expectBalanced(routed.world)
        expectBalanced(plain.world)
    }
}
