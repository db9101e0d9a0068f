// ICMP errors of routed packets, echo, refusals and IPv4 fragments.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

/// Packets of host A to be routed, and the errors that are to answer them.
private extension GatewayWorld {
    /// UDP from host A; `size` bytes of payload.
    func packet(
        _ destination: IPAddress, ttl: UInt8 = 64, size: Int = 64, from source: IPAddress? = nil, number: UInt8 = 17,
        fragment: UInt16 = 0, trafficClass: UInt8 = 0
    ) -> [UInt8] {
        let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0) }
        switch destination {
        case .v4(let to):
            guard case .v4(let from) = source ?? addressA else { preconditionFailure("IPv4") }
            var options = Frame.IPv4Options()
            options.timeToLive = ttl
            options.fragment = fragment
            options.trafficClass = trafficClass
            options.identification = 0x4242
            let body = number == 17 ? Frame.udp(from: .v4(from), 40000, to: .v4(to), 33434, payload) : payload
            return Frame.ethernet(
                to: anycastMAC, from: hostA, type: 0x0800,
                Frame.ipv4(from: from, to: to, number: number, body, options))
        case .v6(let to):
            guard case .v6(let from) = source ?? address6A else { preconditionFailure("IPv6") }
            let body = number == 17 ? Frame.udp(from: .v6(from), 40000, to: .v6(to), 33434, payload) : payload
            return Frame.ethernet(
                to: anycastMAC, from: hostA, type: 0x86DD,
                Frame.ipv6(from: from, to: to, next: number, body, hopLimit: ttl, trafficClass: trafficClass))
        }
    }
    /// The error about `packet` that host A must get; identification is the pipeline's own.
    func error(
        about packet: [UInt8], type: UInt8, code: UInt8, word: UInt32 = 0, from source: IPAddress? = nil,
        identification: UInt16 = 2
    ) -> [UInt8] {
        let ip = Array(packet[14...])
        if ip[0] >> 4 == 4 {
            let quote = Array(ip.prefix(548))
            var message = [type, code, 0, 0] + Frame.be32(word) + quote
            message.replaceSubrange(2..<4, with: Frame.be16(Frame.checksum(message)))
            var options = Frame.IPv4Options()
            options.trafficClass = 0xC0
            options.identification = identification
            guard case .v4(let from) = source ?? gateway, case .v4(let to) = addressA else { return [] }
            return Frame.ethernet(
                to: hostA, from: anycastMAC, type: 0x0800,
                Frame.ipv4(from: from, to: to, number: 1, message, options))
        }
        return Frame.icmp6(
            to: hostA, from: anycastMAC, source ?? gateway6, address6A, hopLimit: 64, trafficClass: 0xC0,
            [type, code, 0, 0] + Frame.be32(word) + ip.prefix(1232))
    }
    func destination(_ isIPv6: Bool, _ last: Int = 1) -> IPAddress {
        isIPv6 ? v6("2001:db8:9::\(last)") : v4("10.9.0.\(last)")
    }
    func route(_ isIPv6: Bool, _ value: RouteValue) throws {
        try world.tables.setRoute(vrf: vrf, prefix(isIPv6 ? "2001:db8:9::/48" : "10.9.0.0/16"), value)
        world.tables.publish()
    }
    /// Into the fabric through L3VNI 100.
    func overlayHop() throws -> UInt32 {
        guard let vni = VNI(100) else { preconditionFailure("a VNI has 24 bits") }
        return try world.tables.addHop(RouteHop(
            way: .tunnel(tunnel, l3vni: vni, vxlanPort: 4789), mac: farRouterMAC, sourceMAC: ownRouterMAC))
    }
}

@Suite("ICMP errors") struct ICMPErrorTests {
    @Test("TTL and hop limit 1 and 0: time exceeded from the gateway, the packet quoted as it came",
        arguments: [false, true])
    func timeExceeded(isIPv6: Bool) throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        let destination = isIPv6 ? it.address6C : it.addressC
        for (index, ttl) in [UInt8(1), 0].enumerated() {
            let packet = it.packet(destination, ttl: ttl)
            let sent = it.world.run(2, packet)
            #expect(sent.count == 1)
            expectFrame(sent.first, port: 2, it.error(
                about: packet, type: isIPv6 ? 3 : 11, code: 0, identification: UInt16(2 + index)))
        }
        #expect(it.world.drops == [.ttlExpired: 2])
        #expect(it.total(.icmpErrors) == 2)
        #expect(it.total(.replicated) == 2)
        // One more is enough.
        #expect(it.world.run(2, it.packet(destination, ttl: 2)).map(\.port) == [4])
        expectBalanced(it.world)
    }

    @Test("each kind of no way has its code, from a miss and from routes that say so", arguments: [false, true])
    func unreachable(isIPv6: Bool) throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        let destination = it.destination(isIPv6)
        let group = try it.world.tables.addGroup()
        let cases: [(route: RouteValue?, reason: DropReason, type: UInt8, code: UInt8)] = [
            (nil, .noRoute, isIPv6 ? 1 : 3, 0),
            (.unreachable, .unreachableRoute, isIPv6 ? 1 : 3, isIPv6 ? 3 : 1),
            (.prohibit, .prohibitRoute, isIPv6 ? 1 : 3, isIPv6 ? 1 : 13),
            (.group(group), .noNextHop, isIPv6 ? 1 : 3, 0),
        ]
        var expected: [DropReason: UInt64] = [:]
        for (index, entry) in cases.enumerated() {
            if let route = entry.route { try it.route(isIPv6, route) }
            let packet = it.packet(destination)
            let sent = it.world.run(2, packet)
            #expect(sent.count == 1, "\(entry.reason)")
            expectFrame(sent.first, port: 2, it.error(
                about: packet, type: entry.type, code: entry.code, identification: UInt16(2 + index)))
            expected[entry.reason] = 1
        }
        try it.route(isIPv6, .blackhole)
        #expect(it.world.run(2, it.packet(destination)).isEmpty, "a blackhole says nothing")
        expected[.blackholeRoute] = 1
        #expect(it.world.drops == expected)
        expectBalanced(it.world)
    }

    @Test("an underlay that has no way to the VTEP is no route", arguments: [false, true])
    func underlay(isIPv6: Bool) throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        try it.route(isIPv6, .hop(it.overlayHop()))
        it.world.tables.setPaths(tunnel: it.tunnel, [], unusable: .noUnderlayRoute)
        it.world.tables.publish()
        let packet = it.packet(it.destination(isIPv6))
        expectFrame(it.world.run(2, packet).first, port: 2, it.error(about: packet, type: isIPv6 ? 1 : 3, code: 0))
        #expect(it.world.drops == [.noUnderlayRoute: 1])
        expectBalanced(it.world)
    }

    @Test("too big for the fabric: the MTU of the underlay less 50 bytes over IPv4, 70 over IPv6",
        arguments: [(false, Family.v4), (true, .v4), (false, .v6), (true, .v6)])
    func tooBig(isIPv6: Bool, family: Family) throws {
        var options = World.Options()
        options.underlayMTU = 1450
        let it = try GatewayWorld([], options)
        try it.bindHosts()
        let tunnel = try it.world.addVTEP(family.remote(7))
        let vni = try #require(VNI(100))
        let hop = try it.world.tables.addHop(RouteHop(
            way: .tunnel(tunnel, l3vni: vni, vxlanPort: 4789), mac: farRouterMAC, sourceMAC: ownRouterMAC))
        try it.route(isIPv6, .hop(hop))
        let mtu = 1450 - family.headerByteCount
        let headers = isIPv6 ? 48 : 28
        let fits = it.packet(it.destination(isIPv6), size: mtu - headers, fragment: 0x4000)
        let sent = it.world.run(2, fits)
        #expect(sent.map(\.port) == [0])
        #expect(sent.first?.bytes.count == 1450 + 14)
        let packet = it.packet(it.destination(isIPv6), size: mtu - headers + 1, fragment: 0x4000)
        expectFrame(it.world.run(2, packet).first, port: 2, it.error(
            about: packet, type: isIPv6 ? 2 : 3, code: isIPv6 ? 0 : 4, word: UInt32(mtu)))
        #expect(it.world.drops == [.fragmentationNeeded: 1])
        expectBalanced(it.world)
    }

    @Test("too big for a circuit: its MTU is told", arguments: [false, true])
    func tooBigLocally(isIPv6: Bool) throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        it.world.ports.setPort(4, mtu: 1300)
        let packet = it.packet(isIPv6 ? it.address6C : it.addressC, size: 1400, fragment: 0x4000)
        expectFrame(it.world.run(2, packet).first, port: 2, it.error(
            about: packet, type: isIPv6 ? 2 : 3, code: isIPv6 ? 0 : 4, word: 1300))
        expectBalanced(it.world)
    }

    @Test("packets from the fabric are answered through the fabric, from the VRF's own address")
    func fromFabric() throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        try it.route(false, .hop(it.overlayHop()))
        let inner = Frame.ethernet(
            to: ownRouterMAC, from: farRouterMAC, type: 0x0800, Array(it.packet(
                v4("192.170.3.3"), from: v4("10.9.0.7"))[14...]))
        let sent = it.world.run(0, Family.v4.vxlan(vni: 100).frame(inner))
        let outer = try #require(OuterHeaders(sent.first?.bytes ?? []))
        #expect(outer.vni == 100)
        #expect(Array(outer.inner[0..<14]) == farRouterMAC.bytes + ownRouterMAC.bytes + [8, 0])
        #expect(Array(outer.inner[26..<34]) == it.gateway.bytes + v4("10.9.0.7").bytes)
        #expect(outer.inner[34] == 3 && outer.inner[35] == 0)
        #expect(it.world.drops == [.noRoute: 1])
        expectBalanced(it.world)
    }

    @Test("no error for errors, later fragments and unknown ICMP, and none about errors that are lost themselves")
    func silent() throws {
        let it = try GatewayWorld()
        // Host A is not bound: answers to it have to wait, and are given up at the end.
        var error = it.packet(it.destination(false), number: 1)
        error[34] = 3
        let frames = [
            error, it.packet(it.destination(false), fragment: 9),
            it.packet(it.destination(true), number: 58),
        ]
        for frame in frames { #expect(it.world.run(2, frame).isEmpty) }
        #expect(it.total(.icmpErrors) == 0)
        #expect(it.world.run(2, it.packet(it.destination(false))).isEmpty)
        #expect(it.total(.icmpErrors) == 1)
        it.world.worker.finish()
        #expect(it.world.ports.takeSent().isEmpty)
        #expect(it.total(.icmpErrors) == 1)
        #expect(it.world.drops == [.noRoute: 4, .neighborUnreachable: 1])
        expectBalanced(it.world)
    }

    @Test("errors are limited: 256 at once, then one a millisecond")
    func rateLimit() throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        let packet = it.packet(it.destination(false))
        func errors(_ count: Int) -> Int { it.world.run((0..<count).map { _ in (2, packet) }).count }
        #expect(errors(300) == 256)
        #expect(it.total(.icmpLimited) == 44)
        #expect(errors(1) == 0)
        it.world.worker.advanceClock(nanoseconds: 3_000_000)
        #expect(errors(10) == 3)
        it.world.worker.advanceClock(nanoseconds: 60_000_000_000)
        #expect(errors(300) == 256)
        expectBalanced(it.world)
    }

    @Test("without a buffer for the error the packet is dropped all the same")
    func noBuffer() throws {
        var options = World.Options()
        options.packetCount = 1
        let it = try GatewayWorld([], options)
        try it.bindHosts()
        #expect(it.world.run(2, it.packet(it.destination(false))).isEmpty)
        #expect(it.world.drops == [.noRoute: 1])
        #expect(it.total(.icmpErrors) == 0)
        expectBalanced(it.world)
    }
}

@Suite("Gateway addresses") struct GatewayServiceTests {
    private func echo(_ it: GatewayWorld, _ destination: IPAddress, from source: IPAddress, count: Int = 40) -> [UInt8] {
        let data = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
        switch (source, destination) {
        case (.v4(let from), .v4(let to)):
            var message: [UInt8] = [8, 0, 0, 0, 0, 7, 0, 9] + data
            message.replaceSubrange(2..<4, with: Frame.be16(Frame.checksum(message)))
            var options = Frame.IPv4Options()
            options.timeToLive = 1
            return Frame.ethernet(
                to: anycastMAC, from: it.hostA, type: 0x0800, Frame.ipv4(from: from, to: to, number: 1, message, options))
        default:
            return Frame.icmp6(
                to: anycastMAC, from: it.hostA, source, destination, hopLimit: 1, [128, 0, 0, 0, 0, 7, 0, 9] + data)
        }
    }
    private func reply(_ it: GatewayWorld, _ source: IPAddress, to destination: IPAddress, count: Int = 40) -> [UInt8] {
        let data = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
        switch (source, destination) {
        case (.v4(let from), .v4(let to)):
            var message: [UInt8] = [0, 0, 0, 0, 0, 7, 0, 9] + data
            message.replaceSubrange(2..<4, with: Frame.be16(Frame.checksum(message)))
            return Frame.ethernet(
                to: it.hostA, from: anycastMAC, type: 0x0800, Frame.ipv4(from: from, to: to, number: 1, message))
        default:
            return Frame.icmp6(
                to: it.hostA, from: anycastMAC, source, destination, hopLimit: 64, [129, 0, 0, 0, 0, 7, 0, 9] + data)
        }
    }

    @Test("echo is answered, with TTL 1 too, by the own gateway and by that of another subnet; odd sizes and padding")
    func answered() throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        for count in [0, 39, 40, 1400] {
            for (gateway, source) in [
                (it.gateway, it.addressA), (v4("192.170.2.1"), it.addressA), (it.gateway6, it.address6A),
                (v6("2001:db8:2::1"), it.address6A),
            ] {
                let sent = it.world.run(2, echo(it, gateway, from: source, count: count) + [0, 0, 0])
                #expect(sent.count == 1)
                expectFrame(sent.first, port: 2, reply(it, gateway, to: source, count: count))
            }
        }
        #expect(it.total(.echoAnswered) == 16)
        #expect(it.total(.replicated) == 0)
        expectBalanced(it.world)
    }

    @Test("echo from the fabric is answered through the L3VNI")
    func fabric() throws {
        let it = try GatewayWorld()
        let vni = try #require(VNI(100))
        let hop = try it.world.tables.addHop(RouteHop(
            way: .tunnel(it.tunnel, l3vni: vni, vxlanPort: 4789), mac: farRouterMAC, sourceMAC: ownRouterMAC))
        try it.world.tables.setRoute(vrf: it.vrf, prefix("10.9.0.0/16"), .hop(hop))
        it.world.tables.publish()
        let request = echo(it, it.gateway, from: v4("10.9.0.7"))
        let inner = ownRouterMAC.bytes + farRouterMAC.bytes + request[12...]
        let sent = it.world.run(0, Family.v4.vxlan(vni: 100).frame(inner))
        let outer = try #require(OuterHeaders(sent.first?.bytes ?? []))
        #expect(outer.vni == 100)
        let expected = reply(it, it.gateway, to: v4("10.9.0.7"))
        #expect(Array(outer.inner[12...]) == Array(expected[12...]))
        expectBalanced(it.world)
    }

    @Test("a link-local source is answered on its link, without a route")
    func linkLocal() throws {
        let it = try GatewayWorld()
        expectFrame(
            it.world.run(2, echo(it, it.gateway6, from: v6("fe80::a"))).first, port: 2,
            reply(it, it.gateway6, to: v6("fe80::a")))
        expectBalanced(it.world)
    }

    @Test("UDP and TCP get port unreachable from the address they were for, other protocols theirs, ICMP nothing",
        arguments: [false, true])
    func refused(isIPv6: Bool) throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        let gateway = isIPv6 ? v6("2001:db8:2::1") : v4("192.170.2.1")
        let udp = it.packet(gateway)
        let other = it.packet(gateway, number: 89)
        let icmp = it.packet(gateway, number: isIPv6 ? 58 : 1)
        let sent = it.world.run([(2, udp), (2, other), (2, icmp)])
        #expect(sent.count == 2)
        expectFrame(sent.first, port: 2, it.error(
            about: udp, type: isIPv6 ? 1 : 3, code: isIPv6 ? 4 : 3, from: gateway))
        expectFrame(sent.last, port: 2, it.error(
            about: other, type: isIPv6 ? 4 : 3, code: isIPv6 ? 1 : 2, word: isIPv6 ? 6 : 0, from: gateway,
            identification: 3))
        #expect(it.world.drops == [.noGatewayService: 3])
        expectBalanced(it.world)
    }

    @Test("echo with a wrong checksum, a wrong code, in fragments or from the gateway's own address is not answered")
    func wrong() throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        for address in [it.addressA, it.address6A] {
            let gateway = address.isV4 ? it.gateway : it.gateway6
            let start = address.isV4 ? 34 : 54
            var sum = echo(it, gateway, from: address)
            sum[start + 20] ^= 1
            var code = echo(it, gateway, from: address)
            code[start + 1] = 1
            #expect(it.world.run([(2, sum), (2, code)]).isEmpty)
            #expect(it.world.run(2, echo(it, gateway, from: gateway)).isEmpty)
        }
        #expect(it.world.run(2, it.packet(it.gateway, number: 1, fragment: 0x2000)).isEmpty)
        #expect(it.world.drops == [.noGatewayService: 7])
        expectBalanced(it.world)
    }
}

@Suite("IPv4 fragments of routed packets, RFC 791") struct FragmentTests {
    /// The payload of fragments in order, and whether offsets and flags fit together.
    private func joined(_ frames: [[UInt8]], first: Int = 0, more: Bool = false) -> [UInt8]? {
        var payload: [UInt8] = []
        for (index, frame) in frames.enumerated() {
            let size = Int(frame[14] & 15) * 4
            let word = Int(frame[20]) << 8 | Int(frame[21])
            let total = Int(frame[16]) << 8 | Int(frame[17])
            guard Frame.checksum(Array(frame[14..<14 + size])) == 0, total == frame.count - 14,
                (word & 0x1FFF) * 8 == first + payload.count,
                (word & 0x2000 != 0) == (index + 1 < frames.count || more)
            else { return nil }
            payload += frame[(14 + size)...]
        }
        return payload
    }

    @Test("without DF a packet that is too big leaves in fragments that fit, TTL counted once")
    func fragments() throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        it.world.ports.setPort(4, mtu: 576)
        for (size, count) in [(548, 1), (549, 2), (1100, 2), (1101, 3), (1399, 3)] {
            let packet = it.packet(it.addressC, ttl: 9, size: size, trafficClass: 0xB8)
            let sent = it.world.run(2, packet)
            #expect(sent.count == count)
            #expect(sent.allSatisfy { $0.port == 4 && $0.bytes.count <= 590 && $0.bytes[22] == 8 && $0.bytes[15] == 0xB8 })
            #expect(sent.allSatisfy { Array($0.bytes[18..<20]) == [0x42, 0x42] })
            #expect(sent.allSatisfy { Array($0.bytes[0..<12]) == it.hostC.bytes + anycastMAC2.bytes })
            #expect(joined(sent.map(\.bytes)) == Array(packet[34...]))
        }
        #expect(it.total(.fragmented) == 2 + 2 + 3 + 3)
        #expect(it.world.drops == [:])
        expectBalanced(it.world)
    }

    @Test("a fragment is cut further: offsets go on, and the last one still says that more follow")
    func again() throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        it.world.ports.setPort(4, mtu: 576)
        let packet = it.packet(it.addressC, size: 1200, number: 99, fragment: 0x2000 | 100)
        let sent = it.world.run(2, packet)
        #expect(sent.count == 3)
        #expect(joined(sent.map(\.bytes), first: 800, more: true) == Array(packet[34...]))
        expectBalanced(it.world)
    }

    @Test("fragments go into the fabric, too, and out of packets in several buffers")
    func fabric() throws {
        var options = World.Options()
        options.underlayMTU = 650
        let it = try GatewayWorld([], options)
        try it.route(false, .hop(it.overlayHop()))
        let packet = it.packet(it.destination(false), size: 1300)
        let parts = [Array(packet[0..<200]), Array(packet[200..<777]), Array(packet[777...])]
        let chain = try #require(PacketBytes.chain(parts, port: 2, pool: it.world.packets.pointer))
        let outer = it.world.run([chain]).compactMap { OuterHeaders($0.bytes) }
        #expect(outer.count == 3)
        #expect(joined(outer.map(\.inner)) == Array(packet[34...]))
        #expect(Set(outer.map(\.sourcePort)).count == 1, "fragments keep together")
        expectBalanced(it.world)
    }

    @Test("the first fragment has all options, the others those that are to be copied")
    func options() throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        it.world.ports.setPort(4, mtu: 576)
        guard case .v4(let from) = it.addressA, case .v4(let to) = it.addressC else { return }
        var options = Frame.IPv4Options()
        // Record route (not copied), then router alert (copied), then the end.
        options.options = [7, 7, 4, 0, 0, 0, 0] + [0x94, 4, 0, 0] + [0]
        let payload = (0..<1000).map { UInt8(truncatingIfNeeded: $0) }
        let packet = Frame.ethernet(
            to: anycastMAC, from: it.hostA, type: 0x0800, Frame.ipv4(from: from, to: to, number: 99, payload, options))
        let sent = it.world.run(2, packet).map(\.bytes)
        #expect(sent.map { $0[14] & 15 } == [8, 6])
        #expect(sent.first.map { Array($0[34..<46]) } == options.options)
        #expect(sent.last.map { Array($0[34..<38]) } == [0x94, 4, 0, 0])
        #expect(joined(sent) == payload)
        expectBalanced(it.world)
    }

    @Test("without buffers the rest of the packet is dropped, and the books agree")
    func noBuffer() throws {
        var options = World.Options()
        options.packetCount = 3
        let it = try GatewayWorld([], options)
        try it.bindHosts()
        it.world.ports.setPort(4, mtu: 300)
        #expect(it.world.run(2, it.packet(it.addressC, size: 1400)).count == 2)
        #expect(it.world.drops == [.noBuffer: 1])
        expectBalanced(it.world)
    }
}
