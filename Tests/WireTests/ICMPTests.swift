// ICMP errors and echo against packets made by scapy; who may be answered; header updates in place.

import TestSupport
import Testing
import Wire

@Suite("ICMP") struct ICMPTests {
    private static let gateway4 = raw4("192.170.1.1"), gateway6 = raw6("2001:db8:1::1")

    @Test("IPv4 errors equal scapy's: type, code, MTU, quote of at most 576 bytes, checksums", arguments: [
        (ICMPErrorVector.udp4, ICMPErrorVector.timeExceeded4, ICMPv4Error.timeExceeded),
        (ICMPErrorVector.udp4, ICMPErrorVector.network4, .networkUnreachable),
        (ICMPErrorVector.udp4, ICMPErrorVector.host4, .hostUnreachable),
        (ICMPErrorVector.udp4, ICMPErrorVector.protocol4, .protocolUnreachable),
        (ICMPErrorVector.udp4, ICMPErrorVector.port4, .portUnreachable),
        (ICMPErrorVector.udp4, ICMPErrorVector.prohibited4, .prohibited),
        (ICMPErrorVector.big4, ICMPErrorVector.tooBig4, .fragmentationNeeded(mtu: 1350)),
    ])
    func errors4(packet: String, expected: String, error: ICMPv4Error) {
        var offending = bytes(hex: packet)
        let size = ICMPv4Error.byteCount(quoting: offending.count)
        let written = withBytes([UInt8](repeating: 0xA5, count: size)) { base in
            let count = offending.withUnsafeMutableBytes { buffer in
                buffer.baseAddress.map {
                    error.write(
                        at: base, from: Self.gateway4, quoting: $0, available: buffer.count, identification: 0x1234)
                }
            }
            #expect(count == size)
            return Array(UnsafeRawBufferPointer(start: base, count: size))
        }
        #expect(written == bytes(hex: expected))
    }

    @Test("IPv6 errors equal scapy's: type, code, word, quote of at most 1280 bytes, checksum", arguments: [
        (ICMPErrorVector.udp6, ICMPErrorVector.timeExceeded6, ICMPv6Error.timeExceeded),
        (ICMPErrorVector.udp6, ICMPErrorVector.noRoute6, .noRoute),
        (ICMPErrorVector.udp6, ICMPErrorVector.prohibited6, .prohibited),
        (ICMPErrorVector.udp6, ICMPErrorVector.address6, .addressUnreachable),
        (ICMPErrorVector.udp6, ICMPErrorVector.port6, .portUnreachable),
        (ICMPErrorVector.udp6, ICMPErrorVector.nextHeader6, .unknownNextHeader(offset: 6)),
        (ICMPErrorVector.big6, ICMPErrorVector.tooBig6, .packetTooBig(mtu: 1430)),
    ])
    func errors6(packet: String, expected: String, error: ICMPv6Error) {
        var offending = bytes(hex: packet)
        let size = ICMPv6Error.byteCount(quoting: offending.count)
        let written = withBytes([UInt8](repeating: 0xA5, count: size)) { base in
            let count = offending.withUnsafeMutableBytes { buffer in
                buffer.baseAddress.map {
                    error.write(at: base, from: Self.gateway6, quoting: $0, available: buffer.count)
                }
            }
            #expect(count == size)
            return Array(UnsafeRawBufferPointer(start: base, count: size))
        }
        #expect(written == bytes(hex: expected))
    }

    @Test("an echo request becomes the reply that scapy makes, in place")
    func echo() {
        let reply = withBytes(bytes(hex: NeighborVector.echo)) { base in
            ICMPv4.answerEcho(at: base, icmp: 20)
            return Array(UnsafeRawBufferPointer(start: base, count: bytes(hex: NeighborVector.echo).count))
        }
        #expect(reply == bytes(hex: NeighborVector.echoReply))
        let reply6 = withBytes(bytes(hex: NeighborVector.echo6)) { base in
            ICMPv6.answerEcho(at: base, icmp: 40)
            return Array(UnsafeRawBufferPointer(start: base, count: bytes(hex: NeighborVector.echo6).count))
        }
        #expect(reply6 == bytes(hex: NeighborVector.echoReply6))
    }

    private func may4(_ packet: [UInt8], available: Int? = nil) -> Bool {
        withBytes(packet) { IPv4Header(at: $0).mayCauseError(available: available ?? packet.count) }
    }
    private func packet4(
        _ source: String, _ destination: String, number: UInt8 = 17, fragment: UInt16 = 0, _ payload: [UInt8] = [8, 0]
    ) -> [UInt8] {
        var options = Frame.IPv4Options()
        options.fragment = fragment
        return Frame.ipv4(
            from: IPv4Address(rawValue: UInt32(bigEndian: raw4(source))),
            to: IPv4Address(rawValue: UInt32(bigEndian: raw4(destination))), number: number, payload, options)
    }

    @Test("no error for groups, broadcasts, sources that are no host, later fragments, and ICMP but queries")
    func eligible4() {
        #expect(may4(packet4("10.0.0.1", "10.9.0.1")))
        #expect(may4(packet4("10.0.0.1", "10.9.0.1", fragment: 0x2000)), "a first fragment")
        for destination in ["224.0.0.5", "239.1.1.1", "255.255.255.255"] {
            #expect(!may4(packet4("10.0.0.1", destination)), "\(destination)")
        }
        for source in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
            #expect(!may4(packet4(source, "10.9.0.1")), "\(source)")
        }
        #expect(!may4(packet4("10.0.0.1", "10.9.0.1", fragment: 1)))
        #expect(!may4(packet4("10.0.0.1", "10.9.0.1", fragment: 0x2001)))
        for type in UInt8(0)...255 {
            let expected = [0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 42, 43].contains(type)
            #expect(may4(packet4("10.0.0.1", "10.9.0.1", number: 1, [type, 0])) == expected, "type \(type)")
        }
        #expect(!may4(packet4("10.0.0.1", "10.9.0.1", number: 1, [])), "ICMP without a type")
        #expect(!may4(packet4("10.0.0.1", "10.9.0.1", number: 1), available: 20))
    }

    @Test("no ICMPv6 error for groups, sources that are no host, errors, redirects, and what cannot be told")
    func eligible6() {
        func may(
            _ source: String, _ destination: String, next: UInt8 = 17, _ payload: [UInt8] = [128, 0], tooBig: Bool = false
        ) -> Bool {
            let packet = Frame.ipv6(
                from: raw6(source).address, to: raw6(destination).address, next: next, payload)
            return withBytes(packet) {
                IPv6Header(at: $0).mayCauseError(available: packet.count, isPacketTooBig: tooBig)
            }
        }
        #expect(may("2001:db8::1", "2001:db8::2"))
        #expect(!may("2001:db8::1", "ff0e::1"))
        #expect(may("2001:db8::1", "ff0e::1", tooBig: true))
        for source in ["::", "::1", "ff02::1"] {
            #expect(!may(source, "2001:db8::2"), "\(source)")
            #expect(!may(source, "2001:db8::2", tooBig: true), "\(source)")
        }
        for type in UInt8(0)...255 {
            #expect(may("2001:db8::1", "2001:db8::2", next: 58, [type, 0]) == (type >= 128 && type != 137), "type \(type)")
        }
        #expect(!may("2001:db8::1", "2001:db8::2", next: 58, []))
        #expect(!may("2001:db8::1", "2001:db8::2", next: 44, [58, 0, 0, 9, 0, 0, 0, 1]))
        #expect(may("2001:db8::1", "2001:db8::2", next: 44, [17, 0, 0, 9, 0, 0, 0, 1]))
        #expect(!may("2001:db8::1", "2001:db8::2", next: 0, [58, 9]))
    }
}

@Suite("Header updates") struct HeaderUpdateTests {
    @Test("TTL and traffic class of IPv4 change with their checksum, for every value (RFC 1624)")
    func ipv4() {
        var random = SeededRandom(seed: 11)
        for value in UInt8(1)...255 {
            var options = Frame.IPv4Options()
            options.timeToLive = value
            options.trafficClass = UInt8.random(in: 0...255, using: &random)
            options.identification = UInt16.random(in: 0...UInt16.max, using: &random)
            let packet = Frame.ipv4(from: Frame.hostA, to: Frame.hostB, number: 17, [], options)
            withBytes(packet) { base in
                let header = IPv4Header(at: base)
                header.decrementTimeToLive()
                #expect(header.timeToLive == value - 1)
                #expect(header.isChecksumValid(headerByteCount: 20))
                header.setTrafficClass(value)
                #expect(header.trafficClass == value)
                #expect(header.isChecksumValid(headerByteCount: 20))
                header.setTimeToLive(64)
                header.swapAddresses()
                #expect(header.source == Frame.hostB && header.destination == Frame.hostA)
                #expect(header.isChecksumValid(headerByteCount: 20))
            }
        }
    }

    @Test("a TTL whose decrement carries in the checksum keeps it right")
    func carry() {
        // Identifications that bring the checksum to both ends of its range.
        for identification in UInt16(0)...UInt16.max where identification % 7 == 0 || identification > 0xFF00 {
            var options = Frame.IPv4Options()
            options.identification = identification
            withBytes(Frame.ipv4(from: Frame.hostA, to: Frame.hostB, number: 6, [], options)) { base in
                IPv4Header(at: base).decrementTimeToLive()
                if !IPv4Header(at: base).isChecksumValid(headerByteCount: 20) {
                    Issue.record("identification \(identification)")
                }
            }
        }
    }

    @Test("hop limit and traffic class of IPv6 change alone")
    func ipv6() {
        for value in UInt8(0)...255 {
            var packet = Frame.ipv6(from: v6A, to: v6B, next: 17, [], hopLimit: 9, trafficClass: 0x5A)
            packet[1] |= 0x0A
            packet[2] = 0xBC
            packet[3] = 0xDE
            withBytes(packet) { base in
                let header = IPv6Header(at: base)
                header.setTrafficClass(value)
                header.decrementHopLimit()
                #expect(header.trafficClass == value)
                #expect(header.hopLimit == 8)
                #expect(base[be32: 0] == 6 << 28 | UInt32(value) << 20 | 0xABCDE)
                header.swapAddresses()
                #expect(header.source == v6B && header.destination == v6A)
            }
        }
    }

    @Test("ECN leaves a tunnel as figure 4 of RFC 6040 says, all sixteen pairs")
    func ecn() {
        let (not, one, zero, marked) = (ECN.notECT, ECN.ect1, ECN.ect0, ECN.congestion)
        let figure: [(inner: UInt8, outer: UInt8, result: UInt8?)] = [
            (not, not, not), (not, zero, not), (not, one, not), (not, marked, nil),
            (zero, not, zero), (zero, zero, zero), (zero, one, one), (zero, marked, marked),
            (one, not, one), (one, zero, one), (one, one, one), (one, marked, marked),
            (marked, not, marked), (marked, zero, marked), (marked, one, marked), (marked, marked, marked),
        ]
        #expect(Set(figure.map { $0.inner << 2 | $0.outer }).count == 16)
        for (inner, outer, result) in figure {
            #expect(ECN.decapsulated(inner: inner, outer: outer) == result, "inner \(inner) outer \(outer)")
            #expect(ECN.decapsulated(inner: 0xA8 | inner, outer: 0x54 | outer) == result, "DSCP is no part of it")
        }
    }
}
