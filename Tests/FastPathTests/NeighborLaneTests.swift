// ARP, ND, RARP and DHCP of bridge domains: gateway answers, suppression, snooping, claims, broken frames.

import CDPDK
import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Gateway answers ARP and ND") struct GatewayAnswerTests {
    @Test("an ARP request for the gateway's address, to all or to the gateway alone, is answered where it came from",
        arguments: [MACAddress.broadcast, anycastMAC])
    func arp(destination: MACAddress) throws {
        let it = try GatewayWorld()
        let request = Frame.arp(
            to: destination, from: it.hostA, operation: 1, sender: it.addressA, target: it.gateway)
        let reply = Frame.arp(
            to: it.hostA, from: anycastMAC, operation: 2, sender: it.gateway, targetMAC: it.hostA, target: it.addressA)
        let sent = it.world.run(2, request)
        #expect(sent.count == 1)
        expectFrame(sent.first, port: 2, reply)
        #expect(it.total(.arpAnswered) == 1)
        #expect(it.events == [NeighborEvent(
            kind: .binding, domain: it.domain, circuit: it.circuits[0], mac: it.hostA, address: it.addressA)])
        expectBalanced(it.world)
    }

    @Test("the answer leaves a tagged circuit with its tag; padding stays")
    func tagged() throws {
        let it = try GatewayWorld()
        let padding = [UInt8](repeating: 0, count: 18)
        let request = Frame.arp(to: .broadcast, from: it.hostB, operation: 1, sender: it.addressB, target: it.gateway)
        let reply = Frame.arp(
            to: it.hostB, from: anycastMAC, operation: 2, sender: it.gateway, targetMAC: it.hostB, target: it.addressB)
        expectFrame(
            it.world.run(3, Frame.tagged(20, request + padding)).first, port: 3, Frame.tagged(20, reply + padding))
        expectBalanced(it.world)
    }

    @Test("an ARP probe for the gateway's address is answered, and says nothing about the prober")
    func probe() throws {
        let it = try GatewayWorld()
        let request = Frame.arp(
            to: .broadcast, from: it.hostA, operation: 1, sender: v4("0.0.0.0"), target: it.gateway)
        let reply = Frame.arp(
            to: it.hostA, from: anycastMAC, operation: 2, sender: it.gateway, targetMAC: it.hostA,
            target: v4("0.0.0.0"))
        expectFrame(it.world.run(2, request).first, port: 2, reply)
        #expect(it.events == [])
        expectBalanced(it.world)
    }

    @Test("a solicitation, by group or unicast, is answered as router, solicited, override",
        arguments: [nil, anycastMAC])
    func nd(destination: MACAddress?) throws {
        let it = try GatewayWorld()
        let request = Frame.solicitation(
            to: destination, from: it.hostA, it.address6A, destination == nil ? nil : it.gateway6,
            target: it.gateway6, linkLayer: it.hostA)
        let reply = Frame.advertisement(
            to: it.hostA, from: anycastMAC, it.gateway6, it.address6A, flags: 0xE0, target: it.gateway6,
            linkLayer: anycastMAC)
        let sent = it.world.run(2, request)
        #expect(sent.count == 1)
        expectFrame(sent.first, port: 2, reply)
        #expect(it.total(.ndAnswered) == 1)
        #expect(it.events.map(\.address) == [it.address6A])
        expectBalanced(it.world)
    }

    @Test("a unicast solicitation without options, in up to three buffers, is answered with the option")
    func shortND() throws {
        let it = try GatewayWorld()
        let request = Frame.solicitation(
            to: anycastMAC, from: it.hostA, it.address6A, it.gateway6, target: it.gateway6, linkLayer: nil)
        let reply = Frame.advertisement(
            to: it.hostA, from: anycastMAC, it.gateway6, it.address6A, flags: 0xE0, target: it.gateway6,
            linkLayer: anycastMAC)
        expectFrame(it.world.run(2, request).first, port: 2, reply)
        let parts = [Array(request[0..<20]), Array(request[20..<60]), Array(request[60...])]
        let chain = try #require(PacketBytes.chain(parts, port: 2, pool: it.world.packets.pointer))
        expectFrame(it.world.run([chain]).first, port: 2, reply)
        expectBalanced(it.world)
    }

    @Test("duplicate address detection of the gateway's address is answered to all nodes, unsolicited")
    func duplicateDetection() throws {
        let it = try GatewayWorld()
        let request = Frame.solicitation(from: it.hostA, v6("::"), target: it.gateway6, linkLayer: nil)
        let reply = Frame.advertisement(
            to: MACAddress(0x33, 0x33, 0, 0, 0, 1), from: anycastMAC, it.gateway6, v6("ff02::1"), flags: 0xA0,
            target: it.gateway6, linkLayer: anycastMAC)
        let sent = it.world.run(2, request)
        #expect(sent.count == 1)
        expectFrame(sent.first, port: 2, reply)
        #expect(it.events == [])
        expectBalanced(it.world)
    }

    @Test("requests from the fabric are answered through the tunnel that leads to the requester")
    func fabric() throws {
        let it = try GatewayWorld()
        let request = Frame.arp(
            to: .broadcast, from: remoteMAC, operation: 1, sender: it.remote, target: it.gateway)
        let reply = Frame.arp(
            to: remoteMAC, from: anycastMAC, operation: 2, sender: it.gateway, targetMAC: remoteMAC, target: it.remote)
        let sent = it.world.run(0, Family.v4.vxlan().frame(request))
        #expect(sent.map(\.port) == [0])
        let outer = OuterHeaders(sent.first?.bytes ?? [])
        #expect(outer?.inner == reply)
        #expect(outer?.vni == 110)
        #expect(it.events == [])
        expectBalanced(it.world)
    }

    @Test("whoever asks the gateway for the first time is learned")
    func learns() throws {
        let it = try GatewayWorld()
        let stranger = MACAddress(2, 0xAA, 0, 0, 0, 9)
        _ = it.world.run(2, Frame.arp(
            to: .broadcast, from: stranger, operation: 1, sender: v4("192.170.1.99"), target: it.gateway))
        _ = it.world.run(2, Frame.solicitation(
            from: MACAddress(2, 0xAA, 0, 0, 0, 8), v6("2001:db8:1::99"), target: it.gateway6, linkLayer: nil))
        #expect(it.world.learned.map(\.mac) == [stranger, MACAddress(2, 0xAA, 0, 0, 0, 8)])
        expectBalanced(it.world)
    }

    @Test("what is for the gateway's MAC and for no address of it is refused; answers to it are the control plane's")
    func toGateway() throws {
        let it = try GatewayWorld()
        let other = Frame.arp(to: anycastMAC, from: it.hostA, operation: 1, sender: it.addressA, target: it.addressB)
        let other6 = Frame.solicitation(
            to: anycastMAC, from: it.hostA, it.address6A, it.gateway6, target: it.address6B, linkLayer: it.hostA)
        #expect(it.world.run([(2, other), (2, other6)]).isEmpty)
        #expect(it.world.drops == [.noGatewayService: 2])
        _ = it.events
        let reply = Frame.arp(
            to: anycastMAC, from: it.hostA, operation: 2, sender: it.addressA, targetMAC: anycastMAC, target: it.gateway)
        let reply6 = Frame.advertisement(
            to: anycastMAC, from: it.hostA, it.address6A, it.gateway6, flags: 0x60, target: it.address6A,
            linkLayer: it.hostA)
        it.world.worker.advanceStamp()
        #expect(it.world.run([(2, reply), (2, reply6)]).isEmpty)
        #expect(it.total(.punted) == 2)
        #expect(it.events.map(\.kind) == [.binding, .binding])
        // From the fabric: the answer to this gateway's own question.
        let far = Frame.arp(
            to: anycastMAC, from: remoteMAC, operation: 2, sender: it.remote, targetMAC: anycastMAC, target: it.gateway)
        #expect(it.world.run(0, Family.v4.vxlan().frame(far)).isEmpty)
        #expect(it.events == [NeighborEvent(
            kind: .binding, domain: it.domain, circuit: NeighborEvent.fromTunnel, mac: remoteMAC, address: it.remote)])
        expectBalanced(it.world)
    }

    @Test("a domain without a gateway bridges requests as before")
    func noGateway() throws {
        let pair = try Pair()
        let request = Frame.arp(
            to: .broadcast, from: hostMAC, operation: 1, sender: v4("192.170.1.10"), target: v4("192.170.1.1"))
        let sent = pair.world.run(2, request)
        #expect(sent.map(\.port) == [0])
        #expect(OuterHeaders(sent.first?.bytes ?? [])?.inner == request)
        expectBalanced(pair.world)
    }
}

@Suite("Claims of the gateway's address") struct GatewayClaimTests {
    @Test("GARP, replies, requests, advertisements and solicitations that claim it are dropped and never learned")
    func claims() throws {
        let it = try GatewayWorld()
        let all = MACAddress(0x33, 0x33, 0, 0, 0, 1)
        let frames = [
            Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: it.gateway, target: it.gateway),
            Frame.arp(to: .broadcast, from: it.hostA, operation: 2, sender: it.gateway, target: it.gateway),
            Frame.arp(to: it.hostB, from: it.hostA, operation: 2, sender: it.gateway, target: it.addressB),
            Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: it.gateway, target: it.addressB),
            Frame.advertisement(
                to: all, from: it.hostA, it.gateway6, v6("ff02::1"), flags: 0x20, target: it.gateway6,
                linkLayer: it.hostA),
            Frame.advertisement(
                to: it.hostB, from: it.hostA, it.address6A, it.address6B, flags: 0x60, target: it.gateway6,
                linkLayer: nil),
            Frame.solicitation(from: it.hostA, it.gateway6, target: it.address6B, linkLayer: it.hostA),
        ]
        for (index, frame) in frames.enumerated() {
            it.world.worker.advanceStamp()
            #expect(it.world.run(2, frame).isEmpty, "frame \(index)")
            let events = it.events
            #expect(events.map(\.kind) == [.gatewayClaim], "frame \(index)")
            #expect(events.first?.mac == it.hostA)
            #expect(events.first?.address == (index < 4 ? it.gateway : it.gateway6))
        }
        #expect(it.world.drops == [.gatewayAddressClaimed: 7])
        expectBalanced(it.world)
    }

    @Test("the same gateway on another node may speak; another MAC from the fabric may not")
    func sibling() throws {
        let it = try GatewayWorld()
        let own = Frame.arp(to: .broadcast, from: anycastMAC, operation: 1, sender: it.gateway, target: it.addressA)
        #expect(it.world.run(0, Family.v4.vxlan().frame(own)).map(\.port).sorted() == [2, 3])
        #expect(it.events == [])
        let other = Frame.arp(to: .broadcast, from: remoteMAC, operation: 1, sender: it.gateway, target: it.addressA)
        #expect(it.world.run(0, Family.v4.vxlan().frame(other)).isEmpty)
        #expect(it.events.map(\.kind) == [.gatewayClaim])
        #expect(it.world.drops == [.gatewayAddressClaimed: 1])
        expectBalanced(it.world)
    }
}

@Suite("ARP and ND suppression, RFC 9161") struct SuppressionTests {
    private static func request(_ it: GatewayWorld, _ target: IPAddress, to destination: MACAddress = .broadcast) -> [UInt8] {
        Frame.arp(to: destination, from: it.hostA, operation: 1, sender: it.addressA, target: target)
    }
    private static func solicitation(_ it: GatewayWorld, _ target: IPAddress) -> [UInt8] {
        Frame.solicitation(from: it.hostA, it.address6A, target: target, linkLayer: it.hostA)
    }

    @Test("a broadcast request for a known remote host is answered with its MAC and causes no VXLAN packet")
    func known() throws {
        let it = try GatewayWorld()
        try it.bind(it.remote, remoteMAC, isRemote: true)
        try it.bind(it.remote6, remoteMAC, isRemote: true)
        let sent = it.world.run([(2, Self.request(it, it.remote)), (2, Self.solicitation(it, it.remote6))])
        #expect(sent.count == 2)
        expectFrame(sent.first, port: 2, Frame.arp(
            to: it.hostA, from: remoteMAC, operation: 2, sender: it.remote, targetMAC: it.hostA, target: it.addressA))
        expectFrame(sent.last, port: 2, Frame.advertisement(
            to: it.hostA, from: remoteMAC, it.remote6, it.address6A, flags: 0x60, target: it.remote6,
            linkLayer: remoteMAC))
        #expect(it.total(.arpSuppressed) == 1 && it.total(.ndSuppressed) == 1)
        #expect(it.events.map(\.kind) == [.binding, .binding])
        expectBalanced(it.world)
    }

    @Test("an unknown target floods once to every other circuit and VTEP")
    func unknown() throws {
        let it = try GatewayWorld()
        let sent = it.world.run([(2, Self.request(it, it.remote)), (2, Self.solicitation(it, it.remote6))])
        #expect(sent.map(\.port).sorted() == [0, 0, 3, 3])
        #expect(it.total(.arpSuppressed) == 0 && it.total(.ndSuppressed) == 0)
        expectBalanced(it.world)
    }

    @Test("no answer for local hosts, failed or unresolved ones, the requester itself, and without the flag")
    func refused() throws {
        let it = try GatewayWorld()
        try it.bind(it.addressB, it.hostB)
        try it.bind(it.remote, remoteMAC, isRemote: true, state: .failed)
        try it.bind(v4("192.170.1.31"), .zero, isRemote: true)
        try it.bind(v4("192.170.1.32"), it.hostA, isRemote: true)
        for target in [it.addressB, it.remote, v4("192.170.1.31"), v4("192.170.1.32")] {
            #expect(it.world.run(2, Self.request(it, target)).map(\.port).sorted() == [0, 3], "\(target)")
        }
        expectBalanced(it.world)
        let plain = try GatewayWorld([])
        try plain.bind(plain.remote, remoteMAC, isRemote: true)
        #expect(plain.world.run(2, Self.request(plain, plain.remote)).map(\.port).sorted() == [0, 3])
        expectBalanced(plain.world)
    }

    @Test("gratuitous ARP, probes, unsolicited advertisements and duplicate detection of a remote address pass")
    func announcements() throws {
        let it = try GatewayWorld()
        try it.bind(it.remote, remoteMAC, isRemote: true)
        try it.bind(it.remote6, remoteMAC, isRemote: true)
        let frames: [(frame: [UInt8], kind: NeighborEvent.Kind?)] = [
            (Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: it.remote, target: it.remote), .announcement),
            (Frame.arp(to: .broadcast, from: it.hostA, operation: 2, sender: it.remote, target: it.remote), .announcement),
            (Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: v4("0.0.0.0"), target: it.remote), nil),
            (Frame.advertisement(
                to: MACAddress(0x33, 0x33, 0, 0, 0, 1), from: it.hostA, it.remote6, v6("ff02::1"), flags: 0x20,
                target: it.remote6, linkLayer: it.hostA), .announcement),
            (Frame.solicitation(from: it.hostA, v6("::"), target: it.remote6, linkLayer: nil), nil),
        ]
        for (index, entry) in frames.enumerated() {
            it.world.worker.advanceStamp()
            let sent = it.world.run(2, entry.frame)
            #expect(sent.map(\.port).sorted() == [0, 3], "frame \(index)")
            #expect(OuterHeaders(sent.first { $0.port == 0 }?.bytes ?? [])?.inner == entry.frame, "frame \(index)")
            #expect(it.events.map(\.kind) == (entry.kind.map { [$0] } ?? []), "frame \(index)")
        }
        #expect(it.total(.arpSuppressed) == 0 && it.total(.ndSuppressed) == 0)
        expectBalanced(it.world)
    }

    @Test("a unicast request asks the host itself; requests from the fabric are not answered for others")
    func unicast() throws {
        let it = try GatewayWorld()
        try it.bind(it.remote, remoteMAC, isRemote: true)
        let sent = it.world.run(2, Self.request(it, it.remote, to: remoteMAC))
        #expect(sent.map(\.port) == [0])
        let far = Frame.arp(
            to: .broadcast, from: MACAddress(2, 0xBB, 0, 0, 0, 9), operation: 1, sender: v4("192.170.1.40"),
            target: it.remote)
        #expect(it.world.run(0, Family.v4.vxlan().frame(far)).map(\.port).sorted() == [2, 3])
        #expect(it.total(.arpSuppressed) == 0)
        expectBalanced(it.world)
    }
}

@Suite("Snooping of bindings") struct SnoopingTests {
    @Test("requests, replies, solicitations and advertisements bind their sender; RARP tells of a MAC")
    func kinds() throws {
        let it = try GatewayWorld()
        let all = MACAddress(0x33, 0x33, 0, 0, 0, 1)
        let frames: [(frame: [UInt8], kind: NeighborEvent.Kind, address: IPAddress)] = [
            (Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: it.addressA, target: it.addressB),
                .binding, it.addressA),
            (Frame.arp(to: it.hostB, from: it.hostA, operation: 2, sender: it.addressA, target: it.addressB),
                .binding, it.addressA),
            (Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: it.addressA, target: it.addressA),
                .announcement, it.addressA),
            (Frame.arp(
                to: .broadcast, from: it.hostA, operation: 3, sender: v4("0.0.0.0"), targetMAC: it.hostA,
                target: v4("0.0.0.0"), type: 0x8035), .macAnnouncement, v4("0.0.0.0")),
            (Frame.solicitation(from: it.hostA, it.address6A, target: it.address6B, linkLayer: it.hostA),
                .binding, it.address6A),
            (Frame.advertisement(
                to: it.hostB, from: it.hostA, it.address6A, it.address6B, flags: 0x60, target: it.address6A,
                linkLayer: it.hostA), .binding, it.address6A),
            (Frame.advertisement(
                to: all, from: it.hostA, it.address6A, v6("ff02::1"), flags: 0x20, target: it.address6A,
                linkLayer: it.hostA), .announcement, it.address6A),
        ]
        for (index, entry) in frames.enumerated() {
            it.world.worker.advanceStamp()
            #expect(!it.world.run(2, entry.frame).isEmpty, "frame \(index)")
            #expect(it.events == [NeighborEvent(
                kind: entry.kind, domain: it.domain, circuit: it.circuits[0], mac: it.hostA, address: entry.address)],
                "frame \(index)")
        }
        #expect(it.total(.neighborEvents) == 7)
        expectBalanced(it.world)
    }

    @Test("a DHCP acknowledgement binds the client where its MAC is, and is bridged; nothing else does")
    func dhcp() throws {
        let it = try GatewayWorld()
        func ack(_ type: UInt8, _ client: MACAddress, _ address: IPAddress) -> [UInt8] {
            Frame.dhcp(
                to: client, from: it.hostB, v4("192.170.1.2"), type: type, client: client, address: address)
        }
        expectFrame(
            it.world.run(3, Frame.tagged(20, ack(5, it.hostA, it.addressA))).first, port: 2, ack(5, it.hostA, it.addressA))
        #expect(it.events == [NeighborEvent(
            kind: .binding, domain: it.domain, circuit: it.circuits[0], mac: it.hostA, address: it.addressA)])
        // An offer; a lease for a remote or unknown client; the gateway's own address.
        let others = [
            ack(2, it.hostA, it.addressA), ack(5, remoteMAC, it.remote), ack(5, MACAddress(2, 9, 9, 9, 9, 9), it.addressA),
            ack(5, it.hostA, it.gateway),
        ]
        for (index, frame) in others.enumerated() {
            it.world.worker.advanceStamp()
            #expect(!it.world.run(3, Frame.tagged(20, frame)).isEmpty, "frame \(index)")
            #expect(it.events == [], "frame \(index)")
        }
        // From a server behind the fabric, too.
        let far = Frame.dhcp(
            to: it.hostA, from: remoteMAC, v4("192.170.1.2"), type: 5, client: it.hostA, address: it.addressA)
        expectFrame(it.world.run(0, Family.v4.vxlan().frame(far)).first, port: 2, far)
        #expect(it.events.map(\.circuit) == [it.circuits[0]])
        expectBalanced(it.world)
    }

    @Test("nothing is believed about others: foreign sender MACs, frames of the fabric, link-local addresses")
    func disbelief() throws {
        let it = try GatewayWorld()
        let frames: [(port: UInt16, bytes: [UInt8])] = [
            (2, Frame.arp(
                to: .broadcast, from: it.hostA, operation: 1, senderMAC: it.hostB, sender: it.addressB, target: it.addressA)),
            (2, Frame.solicitation(from: it.hostA, it.address6A, target: it.address6B, linkLayer: it.hostB)),
            (0, Family.v4.vxlan().frame(Frame.arp(
                to: .broadcast, from: remoteMAC, operation: 1, sender: it.remote, target: it.addressA))),
            (0, Family.v4.vxlan().frame(Frame.arp(
                to: .broadcast, from: remoteMAC, operation: 1, sender: it.remote, target: it.remote))),
            (2, Frame.solicitation(from: it.hostA, v6("fe80::1"), target: it.address6B, linkLayer: it.hostA)),
        ]
        for frame in frames {
            #expect(!it.world.run(frame.port, frame.bytes).isEmpty)
            #expect(it.events == [])
        }
        expectBalanced(it.world)
    }

    @Test("the same is reported once a round; a move at once; a full ring is counted and tried again")
    func rateLimit() throws {
        let it = try GatewayWorld()
        let garp = Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: it.addressA, target: it.addressA)
        for _ in 0..<5 { _ = it.world.run(2, garp) }
        #expect(it.events.count == 1)
        // It moves to the tagged circuit and back.
        _ = it.world.run(3, Frame.tagged(20, garp))
        _ = it.world.run(2, garp)
        #expect(it.events.map(\.circuit) == [it.circuits[1], it.circuits[0]])
        it.world.worker.advanceStamp()
        _ = it.world.run(2, garp)
        #expect(it.events.count == 1)
        // Fill the ring with other hosts' announcements.
        for number in 0..<(TableLimits.neighborRing + 10) {
            let address = IPAddress.v4(IPv4Address(rawValue: 0x0A00_0000 + UInt32(number)))
            _ = it.world.run(2, Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: address, target: address))
        }
        #expect(it.total(.neighborRingFull) == 10)
        _ = it.events
        it.world.worker.advanceStamp()
        _ = it.world.run(2, garp)
        #expect(it.events.map(\.address) == [it.addressA])
        expectBalanced(it.world)
    }
}

@Suite("Broken neighbour frames") struct BrokenNeighborTests {
    @Test("malformed ARP and ND are dropped by name, wherever they come from, and teach nothing")
    func malformed() throws {
        let it = try GatewayWorld()
        var arp = Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: it.addressA, target: it.gateway)
        arp[18] = 8
        var reverse = Frame.arp(to: .broadcast, from: it.hostA, operation: 9, sender: it.addressA, target: it.gateway)
        reverse[12] = 0x80
        reverse[13] = 0x35
        let low = Frame.solicitation(
            from: it.hostA, it.address6A, target: it.gateway6, linkLayer: it.hostA, hopLimit: 254)
        var sum = Frame.solicitation(from: it.hostA, it.address6A, target: it.gateway6, linkLayer: it.hostA)
        sum[57] ^= 1
        let advertised = Frame.advertisement(
            to: it.hostB, from: it.hostA, it.address6A, it.address6B, flags: 0x60, target: it.address6A,
            linkLayer: it.hostA, hopLimit: 64)
        let frames = [arp, reverse, low, sum, advertised]
        for frame in frames {
            #expect(it.world.run(2, frame).isEmpty)
            #expect(it.world.run(0, Family.v4.vxlan().frame(frame)).isEmpty)
        }
        #expect(it.world.drops == [.malformedARP: 4, .malformedND: 6])
        #expect(it.events == [])
        expectBalanced(it.world)
    }

    @Test("router solicitations, router advertisements and redirects are bridged as they are")
    func others() throws {
        let it = try GatewayWorld()
        for type in [133, 134, 137] as [UInt8] {
            let frame = Frame.icmp6(
                to: MACAddress(0x33, 0x33, 0, 0, 0, 2), from: it.hostA, v6("fe80::1"), v6("ff02::2"),
                [type, 0, 0, 0] + [UInt8](repeating: 0, count: 36))
            let sent = it.world.run(2, frame)
            #expect(sent.map(\.port).sorted() == [0, 3])
            #expect(OuterHeaders(sent.first { $0.port == 0 }?.bytes ?? [])?.inner == frame)
        }
        #expect(it.events == [])
        expectBalanced(it.world)
    }

    @Test("frames with another tag inside are nobody's to look into")
    func tagged() throws {
        let it = try GatewayWorld()
        let arp = Frame.tagged(7, Frame.arp(
            to: .broadcast, from: it.hostA, operation: 1, sender: it.addressA, target: it.gateway))
        let sent = it.world.run(2, arp)
        #expect(sent.map(\.port).sorted() == [0, 3])
        #expect(OuterHeaders(sent.first { $0.port == 0 }?.bytes ?? [])?.inner == arp)
        #expect(it.events == [])
        expectBalanced(it.world)
    }

    @Test("cut anywhere, or with any byte changed, a neighbour frame ends once and no buffer is lost")
    func mutations() throws {
        let it = try GatewayWorld()
        try it.bind(it.remote, remoteMAC, isRemote: true)
        try it.bind(it.remote6, remoteMAC, isRemote: true)
        let frames = [
            Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: it.addressA, target: it.gateway),
            Frame.arp(to: .broadcast, from: it.hostA, operation: 1, sender: it.addressA, target: it.remote),
            Frame.solicitation(from: it.hostA, it.address6A, target: it.gateway6, linkLayer: it.hostA),
            Frame.solicitation(from: it.hostA, it.address6A, target: it.remote6, linkLayer: it.hostA),
            Frame.dhcp(
                to: it.hostA, from: it.hostB, v4("192.170.1.2"), type: 5, client: it.hostA, address: it.addressA),
        ]
        var random = SeededRandom(seed: 5)
        for frame in frames {
            for count in 0..<frame.count {
                let part = Array(frame[0..<count])
                _ = it.world.run([(2, part), (0, Family.v4.vxlan().frame(part))])
            }
            for _ in 0..<1000 {
                var changed = frame
                let at = Int.random(in: 12..<frame.count, using: &random)
                changed[at] = UInt8.random(in: 0...255, using: &random)
                _ = it.world.run([(2, changed), (0, Family.v4.vxlan().frame(changed))])
            }
            _ = it.events
        }
        it.world.worker.finish()
        it.world.ports.free(it.world.ports.takeSent())
        expectBalanced(it.world)
    }
}
