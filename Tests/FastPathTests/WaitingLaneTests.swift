// Packets that wait for a neighbour, and the probes that gateways send.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

private extension GatewayWorld {
    /// A packet of host A to host number `last` of domain 120.
    func packet(to last: Int, isIPv6: Bool = false, number: UInt8 = 1) -> [UInt8] {
        Frame.host(
            to: anycastMAC, from: hostA, isIPv6 ? address6A : addressA,
            isIPv6 ? v6("2001:db8:2::\(last)") : v4("192.170.2.\(last)"), payload: [UInt8](repeating: number, count: 30))
    }
    func waiting() -> UInt64 { world.tables.counters.total(.waiting) }
    func sent() -> [Sent] {
        let packets = world.ports.takeSent()
        defer { world.ports.free(packets) }
        return packets.map { Sent(port: $0.pointee.port, bytes: PacketBytes.of($0)) }
    }
}

@Suite("Packets that wait for a neighbour") struct WaitingTests {
    @Test("they wait, the control plane is told once, and they leave in order when the neighbour is known",
        arguments: [false, true])
    func resolved(isIPv6: Bool) throws {
        let it = try GatewayWorld()
        for number in 1...5 {
            #expect(it.world.run(2, it.packet(to: 10, isIPv6: isIPv6, number: UInt8(number))).isEmpty)
        }
        let address = isIPv6 ? it.address6C : it.addressC
        #expect(it.events == [NeighborEvent(
            kind: .unresolved, domain: it.domain2, circuit: it.circuits[0], mac: .zero, address: address)])
        #expect(it.waiting() == 5)
        #expect(it.total(.waited) == 5)
        #expect(it.world.tables.counters.isBalanced, "what waits is accounted for")
        // Asked for, not answered yet.
        let hop = try it.bind(address, .zero, domain: it.domain2, state: .resolving)
        it.world.worker.serve()
        #expect(it.sent().isEmpty)
        it.world.tables.updateHop(hop, mac: it.hostC, state: .usable)
        it.world.worker.serve()
        let sent = it.sent()
        #expect(sent.map(\.port) == [4, 4, 4, 4, 4])
        let place = isIPv6 ? 62 : 42
        #expect(sent.map { $0.bytes[place] } == [1, 2, 3, 4, 5])
        #expect(sent.allSatisfy { Array($0.bytes[0..<12]) == it.hostC.bytes + anycastMAC2.bytes })
        #expect(it.waiting() == 0)
        expectBalanced(it.world)
    }

    @Test("a neighbour that does not answer: host unreachable for each, and the drops counted", arguments: [false, true])
    func failed(isIPv6: Bool) throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        let address = isIPv6 ? v6("2001:db8:2::77") : v4("192.170.2.77")
        for _ in 0..<3 { #expect(it.world.run(2, it.packet(to: 77, isIPv6: isIPv6)).isEmpty) }
        let hop = try it.bind(address, .zero, domain: it.domain2, state: .resolving)
        _ = it.events
        it.world.worker.advanceStamp()
        it.world.tables.updateHop(hop, mac: .zero, state: .failed)
        it.world.worker.serve()
        let errors = it.sent()
        #expect(errors.count == 3)
        let icmp = isIPv6 ? 54 : 34
        #expect(errors.allSatisfy { $0.port == 2 && $0.bytes[icmp] == (isIPv6 ? 1 : 3) && $0.bytes[icmp + 1] == (isIPv6 ? 3 : 1) })
        #expect(it.world.drops == [.neighborUnreachable: 3])
        // Asked for again: its packets may bring it back.
        #expect(it.events.map(\.kind) == [.unresolved])
        it.world.worker.advanceStamp()
        #expect(it.world.run(2, it.packet(to: 77, isIPv6: isIPv6)).count == 1)
        #expect(it.events.map(\.address) == [address])
        expectBalanced(it.world)
    }

    @Test("nobody decides: after five seconds they are given up")
    func timeout() throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        #expect(it.world.run(2, it.packet(to: 77)).isEmpty)
        it.world.worker.advanceClock(nanoseconds: 4_900_000_000)
        it.world.worker.serve()
        #expect(it.waiting() == 1)
        it.world.worker.advanceClock(nanoseconds: 200_000_000)
        it.world.worker.serve()
        #expect(it.waiting() == 0)
        #expect(it.sent().count == 1)
        #expect(it.world.drops == [.neighborUnreachable: 1])
        expectBalanced(it.world)
    }

    @Test("the control plane is told again, once a second, while packets come")
    func again() throws {
        let it = try GatewayWorld()
        for _ in 0..<8 {
            _ = it.world.run(2, it.packet(to: 77))
            it.world.worker.advanceStamp()
            it.world.worker.advanceClock(nanoseconds: 300_000_000)
        }
        #expect(it.events.count == 2)
        it.world.worker.finish()
        _ = it.sent()
        expectBalanced(it.world)
    }

    @Test("a queue has bounds: sixteen for a neighbour, 64 neighbours, 256 in all")
    func bounds() throws {
        let it = try GatewayWorld()
        for _ in 0..<20 { _ = it.world.run(2, it.packet(to: 77)) }
        #expect(it.waiting() == 16)
        #expect(it.world.drops == [.neighborQueueFull: 4])
        for last in 100..<170 { _ = it.world.run(2, it.packet(to: last)) }
        #expect(it.waiting() == 16 + 63)
        #expect(it.world.drops == [.neighborQueueFull: 4 + 7])
        for _ in 0..<10 { for last in 100..<163 { _ = it.world.run(2, it.packet(to: last)) } }
        #expect(it.waiting() == 256)
        it.world.worker.finish()
        let sent = it.sent()
        // Host A is not known either: the errors cannot reach it.
        #expect(sent.isEmpty)
        #expect(it.waiting() == 0)
        expectBalanced(it.world)
    }

    @Test("a next hop that is being resolved holds the packets of its routes; a removed route is looked up anew")
    func nextHop() throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        let hop = try it.bind(v4("192.170.2.50"), .zero, domain: it.domain2, state: .resolving)
        try it.world.tables.setRoute(vrf: it.vrf, prefix("10.5.0.0/16"), .hop(hop))
        try it.world.tables.setRoute(vrf: it.vrf, prefix("10.6.0.0/16"), .hop(hop))
        it.world.tables.publish()
        for address in ["10.5.0.1", "10.6.0.1"] {
            let frame = Frame.host(to: anycastMAC, from: it.hostA, it.addressA, v4(address))
            #expect(it.world.run(2, frame).isEmpty)
        }
        #expect(it.events == [], "the control plane knows what it is resolving")
        it.world.tables.removeRoute(vrf: it.vrf, prefix("10.6.0.0/16"))
        it.world.tables.publish()
        it.world.tables.updateHop(hop, mac: it.hostC, state: .usable)
        it.world.worker.serve()
        #expect(it.sent().map(\.port).sorted() == [2, 4])
        #expect(it.world.drops == [.noRoute: 1])
        expectBalanced(it.world)
    }

    @Test("at the end of a replay everything that waits is decided")
    func end() throws {
        let it = try GatewayWorld()
        try it.bindHosts()
        for last in [77, 78] { _ = it.world.run(2, it.packet(to: last)) }
        it.world.worker.finish()
        #expect(it.sent().count == 2)
        #expect(it.world.drops == [.neighborUnreachable: 2])
        expectBalanced(it.world)
    }
}

@Suite("Probes of gateways") struct ProbeTests {
    private func probe(_ it: GatewayWorld, _ address: IPAddress, _ mac: MACAddress? = nil, domain: UInt16? = nil) -> [Sent] {
        #expect(it.world.tables.probes.push(ProbeRequest(domain: domain ?? it.domain, address: address, mac: mac)))
        it.world.worker.serve()
        return it.sent()
    }

    @Test("without a MAC: an ARP request from the gateway to every circuit and VTEP of the domain")
    func arp() throws {
        let it = try GatewayWorld()
        let sent = probe(it, it.addressB)
        let request = Frame.arp(
            to: .broadcast, from: anycastMAC, operation: 1, sender: it.gateway, target: it.addressB)
        #expect(sent.map(\.port).sorted() == [0, 2, 3])
        expectFrame(sent.first { $0.port == 2 }, port: 2, request)
        expectFrame(sent.first { $0.port == 3 }, port: 3, Frame.tagged(20, request))
        #expect(OuterHeaders(sent.first { $0.port == 0 }?.bytes ?? [])?.inner == request)
        #expect(it.total(.probesSent) == 1)
        expectBalanced(it.world)
    }

    @Test("a neighbour solicitation goes to the solicited-node group")
    func nd() throws {
        let it = try GatewayWorld()
        let sent = probe(it, it.address6B)
        #expect(sent.map(\.port).sorted() == [0, 2, 3])
        expectFrame(sent.first { $0.port == 2 }, port: 2, Frame.solicitation(
            from: anycastMAC, it.gateway6, target: it.address6B, linkLayer: anycastMAC))
        expectBalanced(it.world)
    }

    @Test("with a MAC it goes to that host alone: a circuit's, or one behind a VTEP")
    func unicast() throws {
        let it = try GatewayWorld()
        expectFrame(probe(it, it.addressA, it.hostA).first, port: 2, Frame.arp(
            to: it.hostA, from: anycastMAC, operation: 1, sender: it.gateway, targetMAC: it.hostA,
            target: it.addressA))
        expectFrame(probe(it, it.address6A, it.hostA).first, port: 2, Frame.solicitation(
            to: it.hostA, from: anycastMAC, it.gateway6, it.address6A, target: it.address6A, linkLayer: anycastMAC))
        let far = probe(it, it.remote, remoteMAC)
        #expect(far.map(\.port) == [0])
        #expect(OuterHeaders(far.first?.bytes ?? [])?.vni == 110)
        expectBalanced(it.world)
    }

    @Test("the gateway speaks from its address in the target's subnet")
    func source() throws {
        let it = try GatewayWorld()
        it.world.tables.setGateways(domain: it.domain, [
            prefix("10.1.0.1/16"), prefix("192.170.1.1/24"), prefix("2001:db8:7::1/64"), prefix("2001:db8:1::1/64"),
        ])
        it.world.tables.publish()
        #expect(probe(it, it.addressA, it.hostA).first.map { Array($0.bytes[28..<32]) } == it.gateway.bytes)
        #expect(probe(it, v4("10.1.3.4"), it.hostA).first.map { Array($0.bytes[28..<32]) } == [10, 1, 0, 1])
        #expect(probe(it, v4("172.16.0.1"), it.hostA).first.map { Array($0.bytes[28..<32]) } == [10, 1, 0, 1])
        #expect(probe(it, it.address6A, it.hostA).first.map { Array($0.bytes[22..<38]) } == it.gateway6.bytes)
        expectBalanced(it.world)
    }

    @Test("for a domain that is gone, unknown or without a gateway of the family nothing is sent")
    func nothing() throws {
        let it = try GatewayWorld()
        it.world.tables.setGateways(domain: it.domain2, [prefix("2001:db8:2::1/64")])
        it.world.tables.publish()
        #expect(probe(it, it.addressC, domain: it.domain2).isEmpty)
        for domain in [0, 63, 5000, UInt16.max] as [UInt16] { #expect(probe(it, it.addressC, domain: domain).isEmpty) }
        #expect(it.total(.probesSent) == 0)
        expectBalanced(it.world)
    }

    @Test("many requests are served over several rounds")
    func many() throws {
        let it = try GatewayWorld()
        for number in 0..<100 {
            _ = it.world.tables.probes.push(ProbeRequest(
                domain: it.domain, address: .v4(IPv4Address(rawValue: 0xC0AA_0100 + UInt32(number))), mac: nil))
        }
        for _ in 0..<4 { it.world.worker.serve() }
        #expect(it.sent().count == 300)
        #expect(it.total(.probesSent) == 100)
        expectBalanced(it.world)
    }
}
