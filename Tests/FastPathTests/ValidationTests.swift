// Broken packets on the underlay: each has one named end, and nothing else happens.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Validation of received VXLAN packets") struct ValidationTests {
    static let inner = Frame.host(to: hostMAC, from: remoteMAC)

    /// Runs one packet and returns the reason for which it was dropped; nil if it was not.
    func reason(
        _ pair: Pair, _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
    ) -> DropReason? {
        let before = pair.world.drops
        let sent = pair.world.run(0, bytes)
        expectBalanced(pair.world, sourceLocation: sourceLocation)
        let after = pair.world.drops
        let reasons = after.filter { before[$0.key] != $0.value }
        #expect(reasons.count <= 1, sourceLocation: sourceLocation)
        #expect(sent.isEmpty == (reasons.count == 1), sourceLocation: sourceLocation)
        return reasons.first?.key
    }

    @Test("every truncation of a valid packet is dropped with a reason", arguments: Family.allCases,
        [false, true])
    func truncations(family: Family, hasChecksum: Bool) throws {
        let pair = try Pair(family)
        var vxlan = family.vxlan()
        vxlan.hasChecksum = hasChecksum
        let whole = vxlan.frame(Self.inner)
        let ip = family == .v4 ? 34 : 54
        for count in 0..<whole.count {
            let expected: DropReason = count < ip
                ? .truncatedFrame : family == .v4 ? .outerIPv4TotalLength : .outerIPv6PayloadLength
            #expect(reason(pair, Array(whole[0..<count])) == expected, "\(count) bytes")
        }
        #expect(reason(pair, whole) == nil)
    }

    @Test("every shorter inner frame: lengths agree, but something is missing", arguments: Family.allCases)
    func shortInside(family: Family) throws {
        let pair = try Pair(family)
        for count in 0..<14 {
            let bytes = family.vxlan().frame(Array(Self.inner[0..<count]))
            #expect(reason(pair, bytes) == .truncatedInnerFrame, "\(count) bytes")
        }
        // Padding behind the IP packet, as on any short Ethernet frame, is not the inner frame's.
        for count in 0..<14 {
            let bytes = family.vxlan().frame(Array(Self.inner[0..<count])) + [UInt8](repeating: 8, count: 40)
            #expect(reason(pair, bytes) == .truncatedInnerFrame, "\(count) bytes and padding")
        }
        for count in 14..<Self.inner.count {
            #expect(reason(pair, family.vxlan().frame(Array(Self.inner[0..<count]))) == nil)
        }
        // No whole VXLAN header: 0 to 7 bytes behind UDP.
        let (source, destination) = (family.remote(), family.local)
        for count in 0..<8 {
            let payload = [UInt8](repeating: 8, count: count)
            let udp = Frame.udp(from: source, 50_000, to: destination, 4789, payload, hasChecksum: false)
            let bytes = Frame.ip(
                to: World.underlayMAC, from: World.nextHopMAC, source, destination, number: 17, udp)
            #expect(reason(pair, bytes) == .truncatedVXLAN, "\(count) bytes")
        }
        // No whole UDP header.
        for count in 0..<8 {
            let bytes = Frame.ip(
                to: World.underlayMAC, from: World.nextHopMAC, source, destination, number: 17,
                [UInt8](repeating: 0, count: count))
            #expect(reason(pair, bytes) == .outerUDPLength, "\(count) bytes")
        }
    }

    @Test("IPv4: version, IHL, total length, header checksum")
    func ipv4Header() throws {
        let pair = try Pair()
        let whole = Family.v4.vxlan().frame(Self.inner)
        func changed(_ offset: Int, _ value: UInt8) -> [UInt8] {
            var bytes = whole
            bytes[offset] = value
            return bytes
        }
        /// With the checksum of a header of 20 bytes.
        func resummed(_ bytes: [UInt8]) -> [UInt8] {
            var bytes = bytes
            bytes.replaceSubrange(24..<26, with: [0, 0])
            bytes.replaceSubrange(24..<26, with: Frame.be16(Frame.checksum(Array(bytes[14..<34]))))
            return bytes
        }
        for version in UInt8(0)..<16 where version != 4 {
            #expect(reason(pair, changed(14, version << 4 | 5)) == .outerIPv4Version)
        }
        for length in UInt8(0)..<5 {
            #expect(reason(pair, changed(14, 0x40 | length)) == .outerIPv4HeaderLength)
        }
        // The same with a checksum that is right for what is there.
        for version in UInt8(0)..<16 where version != 4 {
            let bytes = resummed(changed(14, version << 4 | 5))
            #expect(reason(pair, bytes) == .outerIPv4Version)
        }
        for length in UInt8(0)..<16 where length != 5 {
            let bytes = resummed(changed(14, 0x40 | length))
            #expect(reason(pair, bytes) == (length < 5 ? .outerIPv4HeaderLength : .outerIPv4Checksum))
        }
        // Options that are not there: the checksum, over more bytes now, does not fit.
        for length in UInt8(6)..<16 {
            #expect(reason(pair, changed(14, 0x40 | length)) == .outerIPv4Checksum)
        }
        for total in 0..<20 {
            var bytes = changed(16, 0)
            bytes[17] = UInt8(total)
            #expect(reason(pair, bytes) == .outerIPv4TotalLength)
        }
        var long = whole
        long.replaceSubrange(16..<18, with: Frame.be16(whole.count - 14 + 1))
        #expect(reason(pair, long) == .outerIPv4TotalLength)
        long.replaceSubrange(16..<18, with: [0xFF, 0xFF])
        #expect(reason(pair, long) == .outerIPv4TotalLength)
        for offset in [15, 18, 22, 24, 25, 26, 29] {
            #expect(reason(pair, changed(offset, whole[offset] ^ 0x10)) == .outerIPv4Checksum)
        }
        #expect(reason(pair, whole) == nil)
    }

    @Test("IPv6: version and payload length")
    func ipv6Header() throws {
        let pair = try Pair(.v6)
        let whole = Family.v6.vxlan().frame(Self.inner)
        for version in UInt8(0)..<16 where version != 6 {
            var bytes = whole
            bytes[14] = version << 4
            #expect(reason(pair, bytes) == .outerIPv6Version)
        }
        for length in [whole.count - 54 + 1, 0xFFFF] {
            var bytes = whole
            bytes.replaceSubrange(18..<20, with: Frame.be16(length))
            #expect(reason(pair, bytes) == .outerIPv6PayloadLength)
        }
        var bytes = whole
        bytes.replaceSubrange(18..<20, with: [0, 0])
        #expect(reason(pair, bytes) == .outerUDPLength)
        // An extension header that is longer than the packet.
        var vxlan = Family.v6.vxlan()
        vxlan.extensions = (0, [17, 255, 0, 0, 0, 0, 0, 0])
        #expect(reason(pair, vxlan.frame(Self.inner)) == .outerIPv6PayloadLength)
    }

    @Test("fragments of UDP to an endpoint are dropped (RFC 7348 section 4.3)")
    func fragments() throws {
        let pair = try Pair()
        for word: UInt16 in [0x2000, 0x0001, 0x2010, 0x1FFF] {
            var vxlan = Family.v4.vxlan()
            vxlan.ipv4.fragment = word
            #expect(reason(pair, vxlan.frame(Self.inner)) == .outerFragment)
        }
        let pair6 = try Pair(.v6)
        for word: UInt16 in [0x0001, 0x0008, 0xFFF9] {
            var vxlan = Family.v6.vxlan()
            vxlan.extensions = (44, [17, 0] + Frame.be16(word) + [0, 0, 0, 1])
            #expect(reason(pair6, vxlan.frame(Self.inner)) == .outerFragment)
        }
    }

    @Test("UDP length: shorter than a header, longer than the packet", arguments: Family.allCases)
    func udpLength(family: Family) throws {
        let pair = try Pair(family)
        let whole = family.vxlan().frame(Self.inner)
        let udp = family == .v4 ? 34 : 54
        for length in [0, 1, 7, whole.count - udp + 1, 0xFFFF] {
            var bytes = whole
            bytes.replaceSubrange((udp + 4)..<(udp + 6), with: Frame.be16(length))
            #expect(reason(pair, bytes) == .outerUDPLength, "length \(length)")
        }
        for length in 8..<16 {
            var bytes = whole
            bytes.replaceSubrange((udp + 4)..<(udp + 6), with: Frame.be16(length))
            #expect(reason(pair, bytes) == .truncatedVXLAN, "length \(length)")
        }
        // Shorter than IP says: what UDP covers counts.
        var bytes = whole
        bytes.replaceSubrange((udp + 4)..<(udp + 6), with: Frame.be16(whole.count - udp - 3))
        expectFrame(pair.world.run(0, bytes).first, port: 2, Array(Self.inner.dropLast(3)))
    }

    @Test("a UDP checksum that is not zero is verified, over any number of segments",
        arguments: Family.allCases)
    func udpChecksum(family: Family) throws {
        let pair = try Pair(family)
        var vxlan = family.vxlan()
        vxlan.hasChecksum = true
        for count in [22, 23, 800, 801] {
            let inner = Frame.host(to: hostMAC, from: remoteMAC, payload: [UInt8](repeating: 0xA7, count: count))
            let whole = vxlan.frame(inner)
            #expect(reason(pair, whole) == nil)
            let udp = family == .v4 ? 34 : 54
            for offset in stride(from: udp + 9, to: whole.count, by: 37) {
                var bytes = whole
                bytes[offset] ^= 0x04
                #expect(reason(pair, bytes) == .outerUDPChecksum, "byte \(offset)")
            }
            for cut in [200, 333, 500] where cut < whole.count {
                let mbuf = try #require(segmented(whole, [cut, 17], pair))
                expectFrame(pair.world.run([mbuf]).first, port: 2, inner)
                var bytes = whole
                bytes[whole.count - 1] ^= 1
                let broken = try #require(segmented(bytes, [cut, 17], pair))
                #expect(pair.world.run([broken]).isEmpty)
            }
        }
    }

    @Test("the NIC's word on the checksum is believed")
    func nicVerdict() throws {
        let pair = try Pair()
        var vxlan = Family.v4.vxlan()
        vxlan.hasChecksum = true
        var bytes = vxlan.frame(Self.inner)
        let good = try #require(PacketBytes.make(bytes, port: 0, pool: pair.world.packets.pointer))
        good.pointee.ol_flags = 1 << 3
        #expect(pair.world.run([good]).isEmpty)
        #expect(pair.world.drops == [.outerUDPChecksum: 1])
        bytes[41] ^= 1
        let bad = try #require(PacketBytes.make(bytes, port: 0, pool: pair.world.packets.pointer))
        bad.pointee.ol_flags = 1 << 8
        #expect(pair.world.run([bad]).count == 1)
        expectBalanced(pair.world)
    }

    @Test("without the I flag there is no VNI (RFC 7348 section 5)", arguments: Family.allCases)
    func flags(family: Family) throws {
        let pair = try Pair(family)
        for flags in UInt8(0)...255 {
            var vxlan = family.vxlan()
            vxlan.flags = flags
            let expected: DropReason? = flags & 8 == 0 ? .vxlanFlags : nil
            #expect(reason(pair, vxlan.frame(Self.inner)) == expected)
        }
    }

    @Test("an unknown VNI, at both ends of the range and beside the known one",
        arguments: [0, 1, 109, 111, 0xFFFFFF] as [UInt32])
    func unknownVNI(vni: UInt32) throws {
        let pair = try Pair()
        #expect(reason(pair, Family.v4.vxlan(vni: vni).frame(Self.inner)) == .unknownVNI)
    }

    @Test("a removed domain's VNI is unknown from then on")
    func removedDomain() throws {
        let pair = try Pair()
        let vni = try #require(VNI(111))
        let domain = try pair.world.tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789))
        pair.world.tables.setMember(domain: domain, tunnel: pair.tunnel, true)
        pair.world.tables.publish()
        #expect(reason(pair, Family.v4.vxlan(vni: 111).frame(Self.inner)) == .noFloodTarget)
        pair.world.tables.removeDomain(domain)
        pair.world.tables.publish()
        #expect(reason(pair, Family.v4.vxlan(vni: 111).frame(Self.inner)) == .unknownVNI)
    }

    @Test("packets from a VTEP that is unknown, or known in another domain only", arguments: Family.allCases)
    func unknownVTEP(family: Family) throws {
        let pair = try Pair(family)
        try pair.world.addVTEP(family.remote(3), isMember: false)
        #expect(reason(pair, family.vxlan(from: 3).frame(Self.inner)) == .unknownVTEP)
        #expect(reason(pair, family.vxlan(from: 77).frame(Self.inner)) == .unknownVTEP)
        var own = family.vxlan()
        own.source = family.local
        #expect(reason(pair, own.frame(Self.inner)) == .ownVTEPSource)
        #expect(reason(pair, family.vxlan().frame(Self.inner)) == nil)
    }

    @Test("acceptUnknownVTEP lets them in, but never our own address", arguments: Family.allCases)
    func acceptUnknownVTEP(family: Family) throws {
        var options = World.Options()
        options.flags = .acceptUnknownVTEP
        let pair = try Pair(family, options)
        #expect(reason(pair, family.vxlan(from: 77).frame(Self.inner)) == nil)
        var own = family.vxlan()
        own.source = family.local
        #expect(reason(pair, own.frame(Self.inner)) == .ownVTEPSource)
    }

    @Test("outer sources that no neighbour may have")
    func outerSources() throws {
        let pair = try Pair()
        func reasonFrom(_ mac: MACAddress) -> DropReason? {
            var vxlan = Family.v4.vxlan()
            vxlan.sourceMAC = mac
            return reason(pair, vxlan.frame(Self.inner))
        }
        #expect(reasonFrom(World.underlayMAC) == .ownSourceMAC)
        #expect(reasonFrom(.broadcast) == .multicastSource)
        #expect(reasonFrom(MACAddress(1, 2, 3, 4, 5, 6)) == .multicastSource)
    }

    @Test("inner sources with the group bit, and reserved inner destinations")
    func innerAddresses() throws {
        let pair = try Pair()
        func reasonOf(_ frame: [UInt8]) -> DropReason? { reason(pair, Family.v4.vxlan().frame(frame)) }
        #expect(reasonOf(Frame.host(to: hostMAC, from: .broadcast)) == .multicastSource)
        for last in UInt8(0)..<16 {
            let reserved = MACAddress(0x01, 0x80, 0xC2, 0, 0, last)
            #expect(reasonOf(Frame.host(to: reserved, from: remoteMAC)) == .reservedMulticast)
        }
        #expect(reasonOf(Frame.host(to: MACAddress(0x01, 0x80, 0xC2, 0, 0, 0x10), from: remoteMAC)) == nil)
    }

    @Test("truncated frames on a circuit")
    func circuitTruncations() throws {
        let world = try World()
        try world.addCircuit(port: 2, vlan: 20)
        let whole = Frame.tagged(20, Frame.host(to: otherMAC, from: hostMAC))
        for count in 0..<18 { #expect(world.run(2, Array(whole[0..<count])).isEmpty) }
        #expect(world.drops == [.truncatedFrame: 18])
        expectBalanced(world)
    }
}

/// The bytes as a chain of buffers, cut at these lengths; the last takes the rest.
func segmented(_ bytes: [UInt8], _ lengths: [Int], _ pair: Pair, port: UInt16 = 0) -> MBuf? {
    var parts: [[UInt8]] = []
    var rest = bytes[...]
    for length in lengths where rest.count > length {
        parts.append(Array(rest.prefix(length)))
        rest = rest.dropFirst(length)
    }
    parts.append(Array(rest))
    return PacketBytes.chain(parts, port: port, pool: pair.world.packets.pointer)
}
