// How packets leave for VTEPs: paths, sizes, checksums, buffers.

import CDPDK
import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Underlay") struct UnderlayTests {
    func flow(_ port: UInt16, payload: Int = 22) -> [UInt8] {
        Frame.host(
            to: remoteMAC, from: hostMAC, sourcePort: port,
            payload: [UInt8](repeating: 3, count: payload))
    }
    func outer(_ sent: [Sent]) -> [OuterHeaders?] { sent.map { OuterHeaders($0.bytes) } }

    @Test("a thousand flows spread over all paths and 90 % of as many source ports",
        arguments: Family.allCases)
    func spread(family: Family) throws {
        let pair = try Pair(family)
        try pair.world.addVTEP(family.remote(), paths: 4)
        let frames = (0..<1000).map { (port: UInt16(2), bytes: flow(UInt16(2000 + $0))) }
        var packets: [OuterHeaders?] = []
        for start in stride(from: 0, to: 1000, by: 250) {
            packets += outer(pair.world.run(Array(frames[start..<(start + 250)])))
        }
        #expect(packets.count == 1000)
        let shares = Dictionary(grouping: packets.compactMap { $0?.destinationMAC }, by: { $0 })
        #expect(shares.count == 4)
        #expect(shares.values.allSatisfy { (150...350).contains($0.count) })
        #expect(Set(packets.compactMap { $0?.sourcePort }).count >= 900)
        // Each path sees many ports of its own: the choice of path does not use up the entropy.
        let first = packets.compactMap { $0 }.filter { $0.destinationMAC == packets[0]?.destinationMAC }
        #expect(Set(first.map { $0.sourcePort & 3 }).count == 4)
        // A flow keeps its port and its path.
        let again = outer(pair.world.run(Array(frames[0..<250])))
        #expect(again == Array(packets[0..<250]))
        expectBalanced(pair.world)
    }

    @Test("when a path is lost only its own flows move", arguments: Family.allCases)
    func sticky(family: Family) throws {
        let pair = try Pair(family)
        let world = pair.world
        let tunnel = try world.addVTEP(family.remote(), paths: 4)
        let frames = (0..<250).map { (port: UInt16(2), bytes: flow(UInt16(2000 + $0))) }
        let before = outer(world.run(frames)).map { $0?.destinationMAC }
        let paths = world.tables.paths(of: tunnel).paths
        let lost = paths[1].nextHopMAC
        world.tables.setPaths(tunnel: tunnel, [paths[0], paths[2], paths[3]], unusable: nil)
        world.tables.publish()
        let after = outer(world.run(frames)).map { $0?.destinationMAC }
        for (old, new) in zip(before, after) {
            #expect(old == lost ? new != lost : new == old)
        }
        expectBalanced(world)
    }

    @Test("the largest frame that the underlay's MTU allows passes, one byte more does not",
        arguments: Family.allCases)
    func size(family: Family) throws {
        var options = World.Options()
        options.underlayMTU = 1600
        let pair = try Pair(family, options)
        // Outer IP packet: headers without Ethernet, and the whole inner frame.
        let largest = 1600 - (family.headerByteCount - 14)
        let frame = flow(1, payload: largest - 42)
        #expect(frame.count == largest)
        #expect(outer(pair.world.run(2, frame)).first??.inner == frame)
        #expect(pair.world.run(2, flow(1, payload: largest - 41)).isEmpty)
        #expect(pair.world.drops == [.oversized: 1])
        expectBalanced(pair.world)
    }

    @Test("a tunnel without a route, or without a resolved next hop, says which")
    func unusable() throws {
        let pair = try Pair()
        for reason in [DropReason.noUnderlayRoute, .unresolvedNextHop] {
            pair.world.tables.setPaths(tunnel: pair.tunnel, [], unusable: reason)
            pair.world.tables.publish()
            #expect(pair.world.run(2, flow(1)).isEmpty)
        }
        #expect(pair.world.drops == [.noUnderlayRoute: 1, .unresolvedNextHop: 1])
        expectBalanced(pair.world)
    }

    @Test("without headroom for the outer headers, or a tag, the packet is dropped")
    func headroom() throws {
        let pair = try Pair()
        let tagged = try pair.world.addCircuit(port: 3, vlan: 7)
        try pair.world.addMAC(otherMAC, .circuit(tagged))
        for (mac, needed) in [(remoteMAC, 50), (otherMAC, 4)] {
            for headroom in [needed - 1, needed] {
                let bytes = Frame.host(to: mac, from: hostMAC)
                let mbuf = try #require(
                    PacketBytes.make(bytes, port: 2, pool: pair.world.packets.pointer, headroom: headroom))
                #expect(pair.world.run([mbuf]).count == (headroom == needed ? 1 : 0))
            }
        }
        #expect(pair.world.drops == [.noHeadroom: 2])
        expectBalanced(pair.world)
    }

    @Test("IPv6: the UDP checksum is right for every inner packet and length")
    func checksumIPv6() throws {
        let pair = try Pair(.v6)
        let (a, b) = (IPAddress.v4(Frame.hostA), IPAddress.v4(Frame.hostB))
        let v6a = IPAddress.v6(IPv6Address(high: 0xFD01 << 48, low: 1))
        let v6b = IPAddress.v6(IPv6Address(high: 0xFD01 << 48, low: 2))
        var frames: [[UInt8]] = []
        for count in [0, 1, 2, 3, 7, 64, 501, 1200] {
            let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7) }
            for (from, to) in [(a, b), (v6a, v6b)] {
                let udp = Frame.udp(from: from, 1, to: to, 2, payload)
                let bare = Frame.udp(from: from, 1, to: to, 2, payload, hasChecksum: false)
                let tcp = Frame.tcp(from: from, 1, to: to, 2, payload)
                for (number, packet) in [(UInt8(17), udp), (17, bare), (6, tcp), (89, payload)] {
                    let frame = Frame.ip(to: remoteMAC, from: hostMAC, from, to, number: number, packet)
                    frames += [frame, frame + [1, 2, 3], Frame.tagged(5, tpid: 0x88A8, frame)]
                }
            }
            frames.append(Frame.ethernet(to: remoteMAC, from: hostMAC, type: 0x1234, payload))
        }
        var options = Frame.IPv4Options()
        options.fragment = 0x2000
        let piece = Frame.ipv4(from: Frame.hostA, to: Frame.hostB, number: 17, Array(0..<40), options)
        frames.append(Frame.ethernet(to: remoteMAC, from: hostMAC, type: 0x0800, piece))
        // Long enough to be looked through for a checksum: the first fragment has a header, not its packet.
        let whole = Frame.udp(from: a, 1, to: b, 2, (0..<700).map { UInt8(truncatingIfNeeded: $0) })
        for start in [0x2000, 0x2010, 0x0010] {
            options.fragment = UInt16(start)
            let part = Frame.ipv4(from: Frame.hostA, to: Frame.hostB, number: 17, whole, options)
            frames.append(Frame.ethernet(to: remoteMAC, from: hostMAC, type: 0x0800, part))
        }
        for frame in frames {
            let sent = pair.world.run(2, frame)
            let packet = sent.first.flatMap { OuterHeaders($0.bytes) }
            #expect(packet?.inner == frame)
            #expect(packet?.checksum != 0)
            if packet == nil { Issue.record("\(FrameSummary.text(of: frame))") }
        }
        expectBalanced(pair.world)
    }

    @Test("IPv6: a sum of zero is sent as its other form (RFC 768)")
    func checksumNeverZero() throws {
        let pair = try Pair(.v6)
        // One of the 65536 values of a word makes the sum zero: exactly one field must be 0xFFFF.
        var extremes = 0
        for low in 0..<0x10000 {
            let frame = Frame.ethernet(
                to: remoteMAC, from: hostMAC, type: 0x1234, Frame.be16(low) + [0, 0])
            let bytes = pair.world.run(2, frame).first?.bytes ?? []
            guard bytes.count > 62 else {
                Issue.record("nothing was sent")
                return
            }
            let field = UInt16(bytes[60]) << 8 | UInt16(bytes[61])
            if field == 0 { Issue.record("zero for \(low)") }
            if field == 0xFFFF {
                extremes += 1
                #expect(OuterHeaders(bytes) != nil)
            }
        }
        #expect((1...2).contains(extremes))
        expectBalanced(pair.world)
    }

    @Test("IPv6: the checksum is zero where it is configured so (RFC 6935)")
    func zeroChecksum() throws {
        var options = World.Options()
        options.zeroChecksumIPv6 = true
        let pair = try Pair(.v6, options)
        let packet = outer(pair.world.run(2, flow(1))).first
        #expect(packet??.checksum == 0)
        #expect(packet??.inner == flow(1))
        expectBalanced(pair.world)
    }

    @Test("chained buffers are forwarded both ways, however they are cut", arguments: Family.allCases)
    func chains(family: Family) throws {
        let pair = try Pair(family)
        let out = Frame.host(to: remoteMAC, from: hostMAC, payload: [UInt8](repeating: 9, count: 900))
        let back = Frame.host(to: hostMAC, from: remoteMAC, payload: [UInt8](repeating: 9, count: 900))
        for lengths in [[1, 1], [13], [14, 3], [60, 20], [191], [192], [500, 200], [200, 1, 1, 1]] {
            let plain = try #require(segmented(out, lengths, pair, port: 2))
            #expect(outer(pair.world.run([plain])).first??.inner == out)
            let received = try #require(segmented(family.vxlan().frame(back), lengths, pair))
            expectFrame(pair.world.run([received]).first, port: 2, back)
            // Padding behind the IP packet, in a segment of its own.
            let padded = family.vxlan().frame(back) + [UInt8](repeating: 0, count: 30)
            let trimmed = try #require(segmented(padded, [padded.count - 30, 10], pair))
            expectFrame(pair.world.run([trimmed]).first, port: 2, back)
        }
        expectBalanced(pair.world)
    }

    @Test("no segment without bytes is sent: NICs stop at such a descriptor", arguments: Family.allCases)
    func noEmptySegments(family: Family) throws {
        let pair = try Pair(family)
        let back = Frame.host(to: hostMAC, from: remoteMAC, payload: [UInt8](repeating: 9, count: 900))
        let frame = family.vxlan().frame(back)
        let padded = frame + [UInt8](repeating: 0, count: 30)
        for lengths in [[frame.count], [frame.count, 10, 10], [300, frame.count - 300, 30], [300, frame.count - 295]] {
            let received = try #require(segmented(padded, lengths, pair))
            pair.world.worker.process([received])
            let sent = pair.world.ports.takeSent()
            let packet = try #require(sent.first)
            #expect(PacketBytes.of(packet) == back)
            var count: UInt16 = 0
            var segment: MBuf? = packet
            while let current = segment {
                #expect(current.pointee.data_len > 0)
                count += 1
                segment = current.pointee.next
            }
            #expect(packet.pointee.nb_segs == count)
            pair.world.ports.free(sent)
        }
        expectBalanced(pair.world)
    }
}
