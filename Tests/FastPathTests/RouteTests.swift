// Routed packets on every way: what leaves, through which port, with which headers.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Routing") struct RouteTests {
    @Test("between subnets of one node: new addresses, TTL less one", arguments: Family.allCases, [0, 30] as [UInt16])
    func local(family: Family, vlan: UInt16) throws {
        let routed = try Routed(vlan: vlan)
        let frame = routed.up(family.host(2, 20))
        let sent = routed.world.run(2, frame)
        #expect(sent.count == 1)
        let expected = hopped(frame, to: otherMAC, from: gatewayMAC)
        expectFrame(sent.first, port: 3, vlan == 0 ? expected : Frame.tagged(vlan, expected))
        expectBalanced(routed.world)
    }

    @Test("to a host of the subnet that it came from a packet is routed, too", arguments: Family.allCases)
    func hairpin(family: Family) throws {
        let routed = try Routed()
        let frame = routed.up(family.host(1, 10))
        expectFrame(routed.world.run(2, frame).first, port: 2, hopped(frame, to: hostMAC, from: gatewayMAC))
        expectBalanced(routed.world)
    }

    @Test("into the fabric: the L3VNI, the remote router MAC, the own router MAC as source",
        arguments: Family.pairs, [2, 9] as [UInt32])
    func out(families: (inner: Family, outer: Family), subnet: UInt32) throws {
        let routed = try Routed(outer: families.outer)
        let frame = routed.up(families.inner.host(subnet, 99))
        let sent = routed.world.run(2, frame)
        #expect(sent.count == 1)
        let outer = try #require(sent.first.flatMap { OuterHeaders($0.bytes) })
        #expect(outer.vni == 100)
        #expect(outer.port == 4789)
        #expect(outer.destination == families.outer.remote())
        #expect(outer.timeToLive == 64)
        #expect((outer.checksum == 0) == (families.outer == .v4))
        let expected = hopped(frame, to: remoteRouterMAC, from: routerMAC)
        #expect(FrameMatcher.difference(outer.inner, expected) == nil)
        expectBalanced(routed.world)
    }

    @Test("over IPv6 the outer checksum is right for TCP and UDP of every length, with their own checksum or without")
    func outerChecksum() throws {
        let routed = try Routed(outer: .v6)
        for count in [0, 1, 22, 137, 138, 139, 140, 180, 181, 700, 1300, 1301] {
            let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 11) }
            let (from, to) = (Family.v4.host(1, 10), Family.v4.host(2, 99))
            let packets: [(UInt8, [UInt8])] = [
                (6, Frame.tcp(from: from, 1, to: to, 2, payload)), (17, Frame.udp(from: from, 1, to: to, 2, payload)),
                (17, Frame.udp(from: from, 1, to: to, 2, payload, hasChecksum: false)),
            ]
            for (number, packet) in packets {
                let frame = Frame.ip(to: gatewayMAC, from: hostMAC, from, to, number: number, packet)
                let sent = routed.world.run(2, frame)
                // Nil when the sum is wrong.
                let outer = try #require(sent.first.flatMap { OuterHeaders($0.bytes) }, "\(number), \(count) bytes")
                #expect(outer.checksum != 0)
                #expect(outer.inner == hopped(frame, to: remoteRouterMAC, from: routerMAC))
            }
        }
        expectBalanced(routed.world)
    }

    @Test("out of the fabric: TTL less one again, gateway MAC as source", arguments: Family.pairs)
    func into(families: (inner: Family, outer: Family)) throws {
        let routed = try Routed(outer: families.outer)
        let inner = routed.inner(families.inner.host(1, 10))
        let sent = routed.world.run(0, routed.down(inner))
        #expect(sent.count == 1)
        expectFrame(sent.first, port: 2, hopped(inner, to: hostMAC, from: gatewayMAC))
        #expect(routed.world.learned.isEmpty)
        expectBalanced(routed.world)
    }

    @Test("an L3VNI with a VXLAN port of its own is not reached through another one", arguments: Family.allCases)
    func vxlanPort(outer: Family) throws {
        let routed = try Routed(outer: outer) { $0.vxlanPort = 4790 }
        let whole = routed.inner(Family.v4.host(1, 10))
        var vxlan = outer.vxlan(vni: 100)
        vxlan.port = 4790
        routed.expectDrop(.wrongVXLANPort, port: 0, vxlan.frame(whole))
        routed.tables.updateVRF(routed.vrf) { $0.vxlanPortRaw = UInt16(4790).bigEndian }
        routed.tables.publish()
        #expect(routed.forwarded([(0, vxlan.frame(whole))]).count == 1)
        routed.expectDrop(.wrongVXLANPort, port: 0, routed.down(whole))
        expectBalanced(routed.world)
    }

    @Test("an L3VNI packet is accepted for the own router MAC alone, from members, on its port")
    func routerMACs() throws {
        let routed = try Routed()
        let good = routed.inner(Family.v4.host(1, 10))
        for mac in [gatewayMAC, remoteRouterMAC, .broadcast, MACAddress(1, 0, 0x5E, 0, 0, 1), .zero] {
            routed.expectDrop(.wrongRouterMAC, port: 0, routed.down(mac.bytes + good[6...]))
        }
        routed.expectDrop(.multicastSource, port: 0, routed.down(routerMAC.bytes + [1] + good[7...]))
        routed.expectDrop(.truncatedInnerFrame, port: 0, routed.down(Array(good.prefix(13))))
        routed.expectDrop(.unknownVNI, port: 0, routed.down(good, vni: 101))
        var vxlan = Family.v4.vxlan(vni: 100)
        vxlan.port = 8472
        try routed.tables.setEndpoints([World.local4], vxlanPorts: [4789, 8472])
        routed.tables.publish()
        routed.expectDrop(.wrongVXLANPort, port: 0, vxlan.frame(good))
        routed.expectDrop(.unknownVTEP, port: 0, Family.v4.vxlan(vni: 100, from: 7).frame(good))
        routed.expectDrop(.ownVTEPSource, port: 0, Family.v4.vxlan(vni: 100, from: 1).frame(good))
        routed.tables.updateVRF(routed.vrf) { $0.acceptUnknownVTEP = true }
        routed.tables.publish()
        #expect(routed.world.run(0, Family.v4.vxlan(vni: 100, from: 7).frame(good)).count == 1)
        routed.tables.setMember(vrf: routed.vrf, tunnel: routed.tunnel, false)
        routed.tables.updateVRF(routed.vrf) { $0.acceptUnknownVTEP = false }
        routed.tables.publish()
        routed.expectDrop(.unknownVTEP, port: 0, routed.down(good))
        expectBalanced(routed.world)
    }

    @Test("a frame from the fabric to the gateway in an L2VNI is routed", arguments: Family.allCases)
    func asymmetricIn(family: Family) throws {
        let routed = try Routed()
        let inner = Frame.host(to: gatewayMAC, from: remoteMAC, family.host(1, 77), family.host(2, 20))
        let sent = routed.world.run(0, routed.down(inner, vni: 210))
        expectFrame(sent.first, port: 3, hopped(inner, to: otherMAC, from: gatewayMAC))
        #expect(routed.world.learned.isEmpty)
        expectBalanced(routed.world)
    }

    @Test("a host behind another VTEP in a local subnet is reached through its L2VNI", arguments: Family.pairs)
    func asymmetricOut(families: (inner: Family, outer: Family)) throws {
        let routed = try Routed(outer: families.outer)
        try routed.world.addMAC(remoteMAC, .tunnel(routed.tunnel), domain: routed.second)
        let hop = try routed.tables.addHop(RouteHop(
            way: .bridge(domain: routed.second), mac: remoteMAC, sourceMAC: gatewayMAC, isRemote: true))
        let destination = families.inner.host(2, 77)
        try routed.set(families.inner.single(destination), .hop(hop))
        let frame = routed.up(destination)
        let outer = try #require(routed.world.run(2, frame).first.flatMap { OuterHeaders($0.bytes) })
        #expect(outer.vni == 211)
        #expect(outer.inner == hopped(frame, to: remoteMAC, from: gatewayMAC))
        expectBalanced(routed.world)
    }

    @Test("a neighbour whose MAC the FDB does not know is flooded to from the gateway")
    func unknownMAC() throws {
        let routed = try Routed()
        routed.tables.removeMAC(domain: routed.second, otherMAC)
        let frame = routed.up(Family.v4.host(2, 20))
        let expected = hopped(frame, to: otherMAC, from: gatewayMAC)
        let sent = routed.world.run(2, frame)
        #expect(sent.count == 2)
        #expect(sent.contains(Sent(port: 3, bytes: expected)))
        let outer = sent.first { $0.port == 0 }.flatMap { OuterHeaders($0.bytes) }
        #expect(outer?.vni == 211)
        #expect(outer?.inner == expected)
        // A circuit that is gone: the FDB may say so for a moment longer.
        try routed.world.addMAC(otherMAC, .circuit(routed.circuits[0]), domain: routed.second)
        #expect(routed.world.run(2, frame).count == 2)
        expectBalanced(routed.world)
    }

    @Test("packets follow their host: to another circuit, behind a VTEP, back", arguments: Family.allCases)
    func movedHost(family: Family) throws {
        let routed = try Routed()
        let circuit = try routed.world.addCircuit(port: 2, vlan: 9, domain: routed.second)
        routed.tables.publish()
        let frame = routed.up(family.host(2, 20))
        let expected = hopped(frame, to: otherMAC, from: gatewayMAC)
        expectFrame(routed.world.run(2, frame).first, port: 3, expected)
        try routed.world.addMAC(otherMAC, .circuit(circuit), domain: routed.second)
        expectFrame(routed.world.run(2, frame).first, port: 2, Frame.tagged(9, expected))
        try routed.world.addMAC(otherMAC, .tunnel(routed.tunnel), domain: routed.second)
        let outer = try #require(routed.world.run(2, frame).first.flatMap { OuterHeaders($0.bytes) })
        #expect(outer.vni == 211)
        #expect(outer.inner == expected)
        try routed.world.addMAC(otherMAC, .circuit(routed.circuits[1]), domain: routed.second)
        expectFrame(routed.world.run(2, frame).first, port: 3, expected)
        // Its neighbour entry now names another MAC.
        try routed.world.addMAC(remoteMAC, .circuit(circuit), domain: routed.second)
        routed.tables.updateHop(routed.far, mac: remoteMAC, state: .usable)
        expectFrame(
            routed.world.run(2, frame).first, port: 2,
            Frame.tagged(9, hopped(frame, to: remoteMAC, from: gatewayMAC)))
        expectBalanced(routed.world)
    }

    @Test("a hop that became the gateway's own MAC is no way out")
    func gatewayAsHop() throws {
        let routed = try Routed()
        try routed.world.addMAC(otherMAC, .gateway, domain: routed.second)
        routed.expectDrop(.noRouting, routed.up(Family.v4.host(2, 20)))
        expectBalanced(routed.world)
    }

    @Test("the longest prefix wins, from the host route to the default route", arguments: Family.allCases)
    func longest(family: Family) throws {
        let routed = try Routed()
        try routed.set(family.any, .hop(routed.near))
        try routed.set(family.single(family.host(9, 5)), .hop(routed.far))
        func port(_ address: IPAddress) -> UInt16? { routed.world.run(2, routed.up(address)).first?.port }
        #expect(port(family.host(9, 5)) == 3)
        #expect(port(family.host(9, 6)) == World.underlayPort)
        #expect(port(family.host(200, 6)) == 2)
        routed.tables.removeRoute(vrf: routed.vrf, family.single(family.host(9, 5)))
        #expect(port(family.host(9, 5)) == World.underlayPort)
        routed.tables.removeRoute(vrf: routed.vrf, family.subnet(9))
        #expect(port(family.host(9, 5)) == 2)
        expectBalanced(routed.world)
    }

    @Test("two VRFs with the same addresses never meet", arguments: Family.allCases)
    func isolation(family: Family) throws {
        let routed = try Routed()
        let blue = try routed.tables.addVRF(VRFEntry(vni: VNI(101), routerMAC: routerMAC))
        let domain = try routed.tables.addDomain(BridgeDomain(
            vni: try #require(VNI(212)), vxlanPort: 4789, gatewayMAC: gatewayMAC, vrf: blue))
        let circuit = try routed.world.addCircuit(port: 4, domain: domain)
        try routed.world.addMAC(hostMAC, .circuit(circuit), domain: domain)
        routed.tables.setMember(vrf: blue, tunnel: routed.tunnel, true)
        let hop = try routed.tables.addHop(
            RouteHop(way: .bridge(domain: domain), mac: hostMAC, sourceMAC: gatewayMAC))
        try routed.set(family.single(family.host(1, 10)), .hop(hop), vrf: blue)
        routed.tables.publish()
        let inner = routed.inner(family.host(1, 10))
        #expect(routed.world.run(0, routed.down(inner)).first?.port == 2)
        #expect(routed.world.run(0, routed.down(inner, vni: 101)).first?.port == 4)
        // What only red has, blue has not.
        routed.expectDrop(.noRoute, port: 4, routed.up(family.host(2, 20)))
        routed.expectDrop(.noRoute, port: 4, routed.up(family.host(9, 1)))
        expectBalanced(routed.world)
    }

    @Test("the source of a routed frame is learned, its gateway never")
    func learning() throws {
        let routed = try Routed()
        let stranger = MACAddress(2, 0xCC, 0, 0, 0, 9)
        let frame = changed(routed.up(Family.v4.host(2, 20))) { $0.replaceSubrange(6..<12, with: stranger.bytes) }
        #expect(routed.world.run([(2, frame), (2, frame)]).count == 2)
        #expect(routed.world.learned
            == [LearnEvent(mac: stranger, domain: routed.first, circuit: routed.circuits[0])])
        let slot = try #require(routed.tables.slot(domain: routed.first, hostMAC))
        let period = routed.tables.learning.currentPeriod
        #expect(!routed.tables.learning.wasSeen(slot: slot, inPeriod: period))
        _ = routed.world.run(2, routed.up(Family.v4.host(2, 20)))
        #expect(routed.tables.learning.wasSeen(slot: slot, inPeriod: period))
        let fake = changed(frame) { $0.replaceSubrange(6..<12, with: gatewayMAC.bytes) }
        routed.expectDrop(.gatewaySourceMAC, fake)
        #expect(routed.world.learned.isEmpty)
        expectBalanced(routed.world)
    }

    @Test("a VRF counts what came and went, locally and through the fabric")
    func counters() throws {
        let routed = try Routed()
        let up = routed.up(Family.v4.host(2, 20)), out = routed.up(Family.v4.host(2, 99))
        let inner = routed.inner(Family.v4.host(1, 10))
        _ = routed.world.run([(2, up), (2, out), (0, routed.down(inner))])
        let counters = routed.tables.counters
        func total(_ counter: VRFCounter) -> UInt64 { counters.total(vrf: routed.vrf, counter) }
        #expect(total(.localInPackets) == 2)
        #expect(total(.localInBytes) == UInt64(up.count + out.count))
        #expect(total(.tunnelInPackets) == 1)
        #expect(total(.tunnelInBytes) == UInt64(inner.count))
        #expect(total(.localOutPackets) == 2)
        #expect(total(.localOutBytes) == UInt64(up.count + inner.count))
        #expect(total(.tunnelOutPackets) == 1)
        #expect(total(.tunnelOutBytes) == UInt64(out.count))
        #expect(counters.total(domain: routed.first, .circuitInPackets) == 2)
        #expect(counters.total(domain: routed.second, .circuitOutPackets) == 1)
        #expect(counters.total(domain: routed.first, .tunnelInPackets) == 0)
        expectBalanced(routed.world)
    }

    @Test("full bursts of mixed traffic: each packet its own way")
    func mixture() throws {
        let routed = try Routed()
        let kinds: [(UInt16, [UInt8])] = [
            (2, routed.up(Family.v4.host(2, 20))), (0, routed.down(Family.v6.host(1, 10))),
            (2, Frame.host(to: remoteMAC, from: hostMAC)), (2, routed.up(Family.v6.host(9, 1))),
            (2, routed.up(Family.v4.host(77, 1))), (3, routed.up(Family.v4.host(1, 10))),
        ]
        try routed.world.addMAC(remoteMAC, .tunnel(routed.tunnel), domain: routed.first)
        for count in [1, 31, 32, 33, 64, 200] {
            let before = routed.world.drops[.noRoute] ?? 0
            let sent = routed.forwarded((0..<count).map { kinds[$0 % kinds.count] })
            let lost = Int((routed.world.drops[.noRoute] ?? 0) - before)
            #expect(lost == (count + 1) / 6)
            #expect(sent.count == count - lost)
            #expect(routed.world.imbalance == nil)
        }
    }
}
