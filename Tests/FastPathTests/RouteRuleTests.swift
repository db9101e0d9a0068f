// What may be routed and what may not, and where each kind of route leads.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Rules of routing") struct RouteRuleTests {
    @Test("packets are dropped by what their route says", arguments: Family.allCases)
    func dispositions(family: Family) throws {
        let routed = try Routed()
        let routes: [(RouteValue?, DropReason)] = [
            (nil, .noRoute), (.blackhole, .blackholeRoute), (.unreachable, .unreachableRoute),
            (.prohibit, .prohibitRoute), (.host(port: 4000), .noExceptionPort),
            (.host(port: 2), .noExceptionPort), (.group(try routed.tables.addGroup()), .noNextHop),
        ]
        for (value, reason) in routes {
            if let value { try routed.set(family.subnet(50), value) }
            routed.expectDrop(reason, routed.up(family.host(50, 1)))
            routed.expectDrop(reason, port: 0, routed.down(family.host(50, 1)))
        }
        expectBalanced(routed.world)
    }

    @Test("a hop's state decides: no router MAC, failed, usable again", arguments: Family.allCases)
    func states(family: Family) throws {
        let routed = try Routed()
        let frame = routed.up(family.host(9, 1))
        routed.tables.updateHop(routed.fabric, mac: .zero, state: .noRouterMAC)
        routed.expectDrop(.noRouterMAC, frame)
        routed.tables.updateHop(routed.fabric, mac: .zero, state: .failed)
        routed.expectDrop(.neighborUnreachable, frame)
        let other = MACAddress(2, 0, 0, 0, 0x64, 9)
        routed.tables.updateHop(routed.fabric, mac: other, state: .usable)
        let outer = try #require(routed.world.run(2, frame).first.flatMap { OuterHeaders($0.bytes) })
        #expect(outer.inner == hopped(frame, to: other, from: routerMAC))
        routed.tables.setPaths(tunnel: routed.tunnel, [], unusable: .unresolvedNextHop)
        routed.tables.publish()
        routed.expectDrop(.unresolvedNextHop, frame)
        expectBalanced(routed.world)
    }

    @Test("TTL 2 leaves as 1, 1 and 0 do not leave", arguments: Family.allCases)
    func timeToLive(family: Family) throws {
        let routed = try Routed()
        for destination in [family.host(2, 20), family.host(9, 1), family.host(2, 200)] {
            for value in [0, 1] as [UInt8] {
                routed.expectDrop(.ttlExpired, withFixedChecksum(routed.up(destination), value))
            }
        }
        let two = withFixedChecksum(routed.up(family.host(2, 20)), 2)
        expectFrame(routed.world.run(2, two).first, port: 3, hopped(two, to: otherMAC, from: gatewayMAC))
        let down = withFixedChecksum(routed.inner(family.host(1, 10)), 1)
        routed.expectDrop(.ttlExpired, port: 0, routed.down(down))
        expectBalanced(routed.world)
    }
    private func withFixedChecksum(_ frame: [UInt8], _ value: UInt8) -> [UInt8] {
        changed(frame) { $0 = withTimeToLive(value, $0) }
    }

    @Test("the checksum of every header follows its TTL (RFC 1624)")
    func checksums() throws {
        let routed = try Routed()
        // Every value that the sum can have, the two zeros among them.
        for start in stride(from: 0, to: 65_536, by: 256) {
            let frames = (start..<start + 256).map { number in
                changed(routed.up(Family.v4.host(2, 20), payload: [])) {
                    $0.replaceSubrange(18..<20, with: Frame.be16(number))
                }
            }
            let sent = routed.world.run(frames.map { (2, $0) })
            #expect(sent.map(\.bytes) == frames.map { hopped($0, to: otherMAC, from: gatewayMAC) })
        }
        expectBalanced(routed.world)
    }

    @Test("a broken IPv4 header is not routed")
    func brokenIPv4() throws {
        let routed = try Routed()
        let good = routed.up(Family.v4.host(2, 20))
        func bad(_ body: @escaping (inout [UInt8]) -> Void) -> [UInt8] { changed(good, body) }
        var wrong = good
        wrong[25] ^= 1
        let faults: [[UInt8]] = [
            bad { $0[14] = 0x55 }, bad { $0[14] = 0x65 }, bad { $0[14] = 0x44 }, bad { $0[14] = 0x40 },
            bad { $0[14] = 0x4F; $0[17] = 59 }, bad { $0[16] = 1 }, bad { $0[17] = 19 },
            bad { $0[17] = UInt8($0.count - 13) }, wrong, Array(good.prefix(33)), Array(good.prefix(14)),
            Array(good.prefix(34)),
        ]
        for (index, fault) in faults.enumerated() {
            routed.expectDrop(.innerIPv4Header, fault)
            let inner = routerMAC.bytes + fault[6...]
            if inner.count >= 14 { routed.expectDrop(.innerIPv4Header, port: 0, routed.down(inner)) }
            #expect(routed.world.imbalance == nil, "fault \(index)")
        }
    }

    @Test("a broken IPv6 header is not routed")
    func brokenIPv6() throws {
        let routed = try Routed()
        let good = routed.up(Family.v6.host(2, 20))
        var version = good, long = good
        version[14] = 0x45
        long[19] += 1
        for fault in [version, long, Array(good.prefix(53)), Array(good.prefix(14)), Array(good.prefix(15))] {
            routed.expectDrop(.innerIPv6Header, fault)
        }
        expectBalanced(routed.world)
    }

    @Test("addresses that no router forwards (RFC 1812 section 5.3.7, RFC 4291, RFC 3927)")
    func martians() throws {
        let routed = try Routed()
        for family in Family.allCases { try routed.set(family.any, .hop(routed.fabric)) }
        let bad4 = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.5", "239.1.1.1", "240.0.0.1", "255.255.255.255",
            "169.254.1.1"]
        let bad6 = ["::", "::1", "ff02::1", "ff05::2", "fe80::1", "febf::1"]
        let good: [IPAddress] = [Family.v4.host(9, 1), Family.v6.host(9, 1)]
        for text in bad4 + bad6 {
            let address = try #require(IPAddress(text))
            let other = address.isV4 ? good[0] : good[1]
            for (source, destination) in [(address, other), (other, address)] {
                routed.expectDrop(
                    .martianAddress, Frame.host(to: gatewayMAC, from: hostMAC, source, destination))
                routed.expectDrop(.martianAddress, port: 0, routed.down(
                    Frame.host(to: routerMAC, from: remoteRouterMAC, source, destination)))
            }
        }
        for text in ["1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255", "169.253.1.1", "172.16.0.1",
            "::2", "fec0::1", "fd00::1", "2000::", "64:ff9b::1"]
        {
            let address = try #require(IPAddress(text))
            #expect(routed.world.run(2, routed.up(address)).count == 1, "\(text)")
        }
        expectBalanced(routed.world)
    }

    @Test("what is no untagged IP is not routed")
    func notRoutable() throws {
        let routed = try Routed()
        let frame = routed.up(Family.v4.host(2, 20))
        routed.expectDrop(.notRoutable, Frame.tagged(7, frame))
        routed.expectDrop(.notRoutable, Frame.ethernet(to: gatewayMAC, from: hostMAC, type: 0x8847, Array(0..<60)))
        routed.expectDrop(.notRoutable, port: 0, routed.down(Frame.tagged(7, routed.inner(Family.v4.host(1, 10)))))
        let arp = Frame.ethernet(to: routerMAC, from: remoteRouterMAC, type: 0x0806, Array(repeating: 0, count: 28))
        routed.expectDrop(.notRoutable, port: 0, routed.down(arp))
        expectBalanced(routed.world)
    }

    @Test("the gateway of a domain without a VRF routes nothing", arguments: Family.allCases)
    func noVRF(family: Family) throws {
        let routed = try Routed()
        try routed.world.addCircuit(port: 5)
        for destination in [family.host(2, 20), family.host(9, 1)] {
            routed.expectDrop(.noRouting, port: 5, routed.up(destination))
        }
        routed.expectDrop(.noRouting, port: 5, Frame.tagged(9, routed.up(family.host(2, 20))))
        expectBalanced(routed.world)
    }

    @Test("padding behind the IP packet goes", arguments: Family.pairs)
    func padding(families: (inner: Family, outer: Family)) throws {
        let routed = try Routed(outer: families.outer)
        let frame = routed.up(families.inner.host(2, 20), payload: [1])
        let padded = frame + [UInt8](repeating: 0xA5, count: 15)
        expectFrame(routed.world.run(2, padded).first, port: 3, hopped(frame, to: otherMAC, from: gatewayMAC))
        let out = routed.up(families.inner.host(9, 1), payload: [1])
        let outer = routed.world.run(2, out + [UInt8](repeating: 0xA5, count: 15)).first
            .flatMap { OuterHeaders($0.bytes) }
        #expect(outer?.inner == hopped(out, to: remoteRouterMAC, from: routerMAC))
        expectBalanced(routed.world)
    }

    @Test("IPv4 options and IPv6 extension headers pass untouched")
    func options() throws {
        let routed = try Routed()
        var options = Frame.IPv4Options()
        options.options = [0x94, 4, 0, 0, 1, 1, 1, 0]
        guard case .v4(let a) = Family.v4.host(1, 10), case .v4(let b) = Family.v4.host(2, 20),
            case .v6(let c) = Family.v6.host(1, 10), case .v6(let d) = Family.v6.host(2, 20)
        else { return }
        let first = Frame.ethernet(
            to: gatewayMAC, from: hostMAC, type: 0x0800,
            Frame.ipv4(from: a, to: b, number: 17, Array(0..<40), options))
        options.options = [UInt8](repeating: 1, count: 40)
        let full = Frame.ethernet(
            to: gatewayMAC, from: hostMAC, type: 0x0800,
            Frame.ipv4(from: a, to: b, number: 1, Array(0..<40), options))
        let hopByHop: [UInt8] = [43, 0, 5, 2, 0, 0, 1, 0], routing: [UInt8] = [44, 0, 253, 0, 0, 0, 0, 0]
        let fragment: [UInt8] = [17, 0, 0x10, 0x01, 0, 0, 0, 9]
        let third = Frame.ethernet(
            to: gatewayMAC, from: hostMAC, type: 0x86DD,
            Frame.ipv6(from: c, to: d, next: 0, hopByHop + routing + fragment + Array(0..<40)))
        let bare = Frame.ethernet(
            to: gatewayMAC, from: hostMAC, type: 0x86DD, Frame.ipv6(from: c, to: d, next: 59, []))
        for frame in [first, full, third, bare] {
            expectFrame(routed.world.run(2, frame).first, port: 3, hopped(frame, to: otherMAC, from: gatewayMAC))
        }
        expectBalanced(routed.world)
    }

    @Test("a packet in several buffers is routed", arguments: Family.pairs)
    func segmented(families: (inner: Family, outer: Family)) throws {
        let routed = try Routed(outer: families.outer)
        for destination in [families.inner.host(2, 20), families.inner.host(9, 1)] {
            let frame = routed.up(destination, payload: Array(repeating: 7, count: 700))
            for cut in [10, 40, 192, 500] {
                let mbuf = try #require(PacketBytes.chain(
                    [Array(frame[..<cut]), Array(frame[cut...])], port: 2, pool: routed.world.packets.pointer))
                let sent = routed.world.run([mbuf])
                let isLocal = destination == families.inner.host(2, 20)
                let got = isLocal ? sent.first?.bytes : sent.first.flatMap { OuterHeaders($0.bytes) }?.inner
                #expect(got == (isLocal
                    ? hopped(frame, to: otherMAC, from: gatewayMAC)
                    : hopped(frame, to: remoteRouterMAC, from: routerMAC)), "cut \(cut)")
            }
        }
        expectBalanced(routed.world)
    }

    @Test("the largest packet passes, one byte more is too big", arguments: Family.pairs)
    func size(families: (inner: Family, outer: Family)) throws {
        let routed = try Routed(outer: families.outer)
        let headers = families.inner == .v4 ? 28 : 48
        // Underlay of 1600 bytes less the tunnel; a circuit's port has 1500.
        for (subnet, number, mtu) in [
            (9, 1, 1600 - families.outer.tunnelOverhead), (2, 20, 1500),
        ] as [(UInt32, UInt32, Int)] {
            let destination = families.inner.host(subnet, number)
            let largest = dontFragment(routed.up(destination, payload: Array(repeating: 5, count: mtu - headers)))
            #expect(largest.count == mtu + 14)
            #expect(routed.world.run(2, largest).count == 1)
            let larger = dontFragment(
                routed.up(destination, payload: Array(repeating: 5, count: mtu - headers + 1)))
            routed.expectDrop(.fragmentationNeeded, larger)
        }
        expectBalanced(routed.world)
    }
    private func dontFragment(_ frame: [UInt8]) -> [UInt8] {
        changed(frame) { if $0[12] == 0x08 { $0[20] = 0x40 } }
    }

    @Test("a packet without headroom for its new headers is dropped and counted")
    func headroom() throws {
        for (vlan, destination) in [(0, Family.v4.host(9, 1)), (30, Family.v4.host(2, 20))] as [(UInt16, IPAddress)] {
            let routed = try Routed(vlan: vlan)
            let mbuf = try #require(PacketBytes.make(
                routed.up(destination), port: 2, pool: routed.world.packets.pointer, headroom: 2))
            #expect(routed.world.run([mbuf]).isEmpty)
            #expect(routed.world.drops == [.noHeadroom: 1])
            expectBalanced(routed.world)
        }
    }

    @Test("a leaked route is looked up again, four tables deep, and a loop ends", arguments: Family.allCases)
    func leaking(family: Family) throws {
        let routed = try Routed()
        let others = try (0..<4).map { _ in try routed.tables.addVRF(VRFEntry(vni: nil)) }
        let target = family.single(family.host(40, 1))
        // red -> 0 -> 1 -> 2 has the route: four tables.
        try routed.set(family.subnet(40), .vrf(others[0]))
        try routed.set(family.any, .vrf(others[1]), vrf: others[0])
        try routed.set(family.subnet(40), .vrf(others[2]), vrf: others[1])
        try routed.set(target, .hop(routed.far), vrf: others[2])
        routed.tables.publish()
        let frame = routed.up(family.host(40, 1))
        expectFrame(routed.world.run(2, frame).first, port: 3, hopped(frame, to: otherMAC, from: gatewayMAC))
        #expect(routed.tables.counters.total(vrf: others[2], .localOutPackets) == 1)
        #expect(routed.tables.counters.total(vrf: routed.vrf, .localInPackets) == 1)
        // What the last table does not have is no route, not another table's.
        routed.expectDrop(.noRoute, routed.up(family.host(40, 2)))
        try routed.set(target, .vrf(others[3]), vrf: others[2])
        try routed.set(target, .hop(routed.far), vrf: others[3])
        routed.expectDrop(.routingLoop, frame)
        try routed.set(family.subnet(40), .vrf(routed.vrf))
        routed.expectDrop(.routingLoop, frame)
        expectBalanced(routed.world)
    }

    @Test("flows spread over the members of a group, each keeps its own", arguments: Family.pairs)
    func groups(families: (inner: Family, outer: Family)) throws {
        let routed = try Routed(outer: families.outer)
        let hops = try (0..<4).map { number -> UInt32 in
            let tunnel = try routed.world.addVTEP(families.outer.remote(10 + UInt32(number)), domain: routed.first)
            return try routed.tables.addHop(RouteHop(
                way: .tunnel(tunnel, l3vni: try #require(VNI(100)), vxlanPort: 4789), mac: remoteRouterMAC,
                sourceMAC: routerMAC))
        }
        let group = try routed.tables.addGroup()
        try routed.set(families.inner.subnet(60), .group(group))
        func spread() -> [IPAddress?] {
            var result: [IPAddress?] = []
            for burst in 0..<8 {
                let frames: [(port: UInt16, bytes: [UInt8])] = (0..<125).map { number in
                    let port = UInt16(2000 + burst * 125 + number)
                    return (2, routed.up(families.inner.host(60, 1), port: port))
                }
                result += routed.world.run(frames).map { OuterHeaders($0.bytes)?.destination }
            }
            return result
        }
        try routed.tables.setGroup(group, slots: (0..<16).map { hops[$0 % 4] })
        let before = spread()
        let shares = Dictionary(grouping: before.compactMap { $0 }, by: { $0 })
        #expect(shares.count == 4)
        #expect(shares.values.allSatisfy { (190...310).contains($0.count) }, "\(shares.mapValues(\.count))")
        #expect(spread() == before)
        // One leaves: its flows move, nobody else's do.
        try routed.tables.setGroup(group, slots: (0..<16).map { $0 % 4 == 1 ? hops[$0 / 4 % 2 * 2] : hops[$0 % 4] })
        let lost = families.outer.remote(11)
        for (old, new) in zip(before, spread()) { #expect(old == lost ? new != lost : new == old) }
        try routed.tables.setGroup(group, slots: [])
        routed.expectDrop(.noNextHop, routed.up(families.inner.host(60, 1)))
        expectBalanced(routed.world)
    }

    @Test("a known neighbour without a host route is reached; broadcast addresses are not")
    func connected() throws {
        let routed = try Routed()
        for family in Family.allCases {
            try routed.tables.setNeighbor(domain: routed.second, family.host(2, 77), hop: routed.far)
            let frame = routed.up(family.host(2, 77))
            expectFrame(routed.world.run(2, frame).first, port: 3, hopped(frame, to: otherMAC, from: gatewayMAC))
        }
        for number in [0, 0xFFFF] as [UInt32] {
            routed.expectDrop(.martianAddress, routed.up(Family.v4.host(2, number)))
        }
        expectBalanced(routed.world)
    }
}
