// Frames in one buffer take the ways for plain ones, frames in two the general ones: nothing else may differ.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Ways for plain frames") struct PlainPathTests {
    /// The same frame in one buffer and, cut anywhere, in two.
    private struct Twins {
        let worlds: (one: World, two: World)
        var random: SeededRandom

        /// Runs a frame through both worlds; what is different between them.
        mutating func difference(_ port: UInt16, _ bytes: [UInt8]) -> String? {
            guard bytes.count > 1 else { return nil }
            let cut = Int.random(in: 1..<bytes.count, using: &random)
            guard
                let whole = PacketBytes.chain([bytes], port: port, pool: worlds.one.packets.pointer),
                let parts = PacketBytes.chain(
                    [Array(bytes[..<cut]), Array(bytes[cut...])], port: port, pool: worlds.two.packets.pointer)
            else { return "no buffers" }
            let sent = (worlds.one.run([whole]), worlds.two.run([parts]))
            if sent.0 != sent.1 { return "\(sent.0.map(\.port)) sent, in two buffers \(sent.1.map(\.port))" }
            if worlds.one.drops != worlds.two.drops { return "\(worlds.one.drops), in two \(worlds.two.drops)" }
            let counters = (worlds.one.tables.counters, worlds.two.tables.counters)
            for domain in 0..<UInt16(4) {
                for counter in DomainCounter.allCases
                where counters.0.total(domain: domain, counter) != counters.1.total(domain: domain, counter) {
                    return "domain \(domain): \(counter)"
                }
                for counter in VRFCounter.allCases
                where counters.0.total(vrf: domain, counter) != counters.1.total(vrf: domain, counter) {
                    return "VRF \(domain): \(counter)"
                }
            }
            return worlds.one.learned == worlds.two.learned ? nil : "what was learned"
        }
    }

    @Test("a bridged frame ends as the same frame in two buffers, whatever its bytes are", arguments: UInt64(1)...8)
    func bridged(seed: UInt64) throws {
        let (one, two) = (try MutationTests.Zoo(), try MutationTests.Zoo())
        var twins = Twins(worlds: (one.world, two.world), random: SeededRandom(seed: seed))
        var random = SeededRandom(seed: seed + 100)
        for _ in 0..<400 {
            guard let original = one.frames.randomElement(using: &random) else { continue }
            let bytes = MutationTests.mutate(original.bytes, &random)
            if let difference = twins.difference(original.port, bytes) {
                Issue.record("seed \(seed): \(difference)\n\(FrameSummary.text(of: bytes))")
                return
            }
        }
        #expect(one.world.total(.sent) > 100)
    }

    @Test("a routed packet ends as the same packet in two buffers, whatever its bytes are", arguments: UInt64(1)...8)
    func routed(seed: UInt64) throws {
        let outer: Family = seed % 2 == 0 ? .v4 : .v6
        let (one, two) = (try Routed(outer: outer, vlan: 7), try Routed(outer: outer, vlan: 7))
        let frames: [(port: UInt16, bytes: [UInt8])] = [
            (2, one.up(Family.v4.host(2, 20))), (2, one.up(Family.v4.host(2, 99))), (2, one.up(Family.v4.host(9, 1))),
            (2, one.up(Family.v6.host(2, 99))), (2, one.up(Family.v4.host(9, 1), payload: Array(0..<200))),
            (0, one.down(Family.v4.host(1, 10))), (0, one.down(Family.v4.host(2, 20))),
            (0, one.down(Family.v6.host(1, 10))), (0, one.down(Family.v4.host(7, 7))),
        ]
        var twins = Twins(worlds: (one.world, two.world), random: SeededRandom(seed: seed))
        var random = SeededRandom(seed: seed + 200)
        for _ in 0..<400 {
            guard let original = frames.randomElement(using: &random) else { continue }
            // Most mutations of routed packets end at the header checksum: some frames stay right.
            let bytes = Bool.random(using: &random) ? original.bytes : MutationTests.mutate(original.bytes, &random)
            if let difference = twins.difference(original.port, bytes) {
                Issue.record("seed \(seed): \(difference)\n\(FrameSummary.text(of: bytes))")
                return
            }
        }
        #expect(one.world.total(.sent) > 100)
    }

    @Test("what has ECN marks, options, fragments or no ports is routed like what has not")
    func unusual() throws {
        for outer in Family.allCases {
            let routed = try Routed(outer: outer)
            let plain = routed.up(Family.v4.host(2, 99))
            let unusual = [
                plain, changed(plain) { $0[15] = 1 }, changed(plain) { $0[15] = 0xB8 },
                changed(plain) { $0[20] = 0x20 }, changed(plain) { $0[23] = 47 }, changed(plain) { $0[22] = 2 },
            ]
            for frame in unusual {
                let sent = routed.world.run([(2, frame)])
                #expect(sent.count == 1)
                guard let bytes = sent.first?.bytes else { continue }
                let expected = hopped(frame, to: remoteRouterMAC, from: routerMAC)
                #expect(Array(bytes.dropFirst(outer.headerByteCount)) == expected)
                #expect(OuterHeaders(bytes) != nil, "\(FrameSummary.text(of: bytes))")
            }
            expectBalanced(routed.world)
        }
    }

    @Test("frames to VTEPs of both families in one burst keep their order, bridged and routed")
    func mixedTunnels() throws {
        let routed = try Routed()
        let world = routed.world
        let tunnel = try world.addVTEP(Family.v6.remote(), domain: routed.first)
        try world.addMAC(remoteMAC, .tunnel(routed.tunnel), domain: routed.first)
        try world.addMAC(MACAddress(2, 0xBB, 0, 0, 0, 6), .tunnel(tunnel), domain: routed.first)
        let hop = try routed.tables.addHop(RouteHop(
            way: .tunnel(tunnel, l3vni: try #require(VNI(100)), vxlanPort: 4789), mac: remoteRouterMAC,
            sourceMAC: routerMAC))
        let host = Family.v4.host(2, 66)
        try routed.tables.setRoute(vrf: routed.vrf, Family.v4.single(host), .hop(hop))
        routed.tables.publish()
        var frames: [(port: UInt16, bytes: [UInt8])] = []
        let isOverIPv6 = (0..<120).map { $0 % 7 == 0 || $0 / 20 % 2 == 1 }
        for number in 0..<120 {
            let payload = Array(repeating: UInt8(number), count: 30)
            let mac = isOverIPv6[number] ? MACAddress(2, 0xBB, 0, 0, 0, 6) : remoteMAC
            frames.append((2, number < 60
                ? Frame.host(to: mac, from: hostMAC, payload: payload)
                : routed.up(isOverIPv6[number] ? host : Family.v4.host(2, 99), payload: payload)))
        }
        let sent = world.run(frames)
        #expect(sent.map { $0.bytes.last } == (0..<120).map { UInt8($0) })
        #expect(sent.map { OuterHeaders($0.bytes)?.destination.isV4 } == isOverIPv6.map { !$0 })
        expectBalanced(world)
    }

    @Test("frames of both families in one burst keep their order")
    func mixedFamilies() throws {
        let pair = try Pair()
        _ = try pair.world.addVTEP(Family.v6.remote())
        var frames: [(port: UInt16, bytes: [UInt8])] = []
        for number in 0..<40 {
            let family: Family = number % 3 == 0 ? .v6 : .v4
            let inner = Frame.host(to: hostMAC, from: remoteMAC, payload: Array(repeating: UInt8(number), count: 30))
            frames.append((0, family.vxlan().frame(inner)))
        }
        let sent = pair.world.run(frames)
        #expect(sent.map { $0.bytes.last } == (0..<40).map { UInt8($0) })
        expectBalanced(pair.world)
    }
}
