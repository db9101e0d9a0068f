// ARP, neighbour discovery and DHCP against packets made by scapy, and against broken ones.

import TestSupport
import Testing
import Wire

/// The bytes of a hexadecimal text.
func bytes(hex text: String) -> [UInt8] {
    let digits = text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}
/// The address as a packet loads it.
func raw4(_ text: String) -> UInt32 { IPv4Address(text)?.networkOrder ?? 0 }
func raw6(_ text: String) -> RawIPv6 { IPv6Address(text).map { RawIPv6($0) } ?? .unspecified }

private let macHost = MACAddress(2, 0xAA, 0, 0, 0, 1)
private let macOther = MACAddress(2, 0xAA, 0, 0, 0, 2)
private let macGateway = MACAddress(0, 0xF3, 0, 0, 0, 0x6F)

@Suite("ARP, RFC 826 and RFC 5227") struct ARPTests {
    private func reading(_ bytes: [UInt8], isReverse: Bool = false, available: Int? = nil) -> ARPPacket.Reading {
        withBytes(bytes) {
            ARPPacket.parse(at: $0, available: available ?? bytes.count, isReverse: isReverse)
        }
    }

    @Test("request, reply, probe, announcement and RARP are told apart", arguments: [
        (NeighborVector.arpRequest, false, ARPPacket.Reading.request), (NeighborVector.arpReply, false, .reply),
        (NeighborVector.arpProbe, false, .probe), (NeighborVector.arpAnnouncement, false, .announcement),
        (NeighborVector.arpGratuitousReply, false, .announcement), (NeighborVector.rarpRequest, true, .reverse),
        (NeighborVector.rarpRequest, false, .malformed), (NeighborVector.arpRequest, true, .malformed),
    ])
    func kinds(hex: String, isReverse: Bool, expected: ARPPacket.Reading) {
        #expect(reading(bytes(hex: hex), isReverse: isReverse) == expected)
    }

    @Test("every field is where RFC 826 has it")
    func fields() {
        withBytes(bytes(hex: NeighborVector.arpReply)) { base in
            let packet = ARPPacket(at: base)
            #expect(packet.isEthernetIPv4)
            #expect(packet.operation == 2)
            #expect(packet.senderMAC == macOther)
            #expect(packet.senderRaw == raw4("192.170.1.20"))
            #expect(packet.targetMAC == macHost)
            #expect(packet.targetRaw == raw4("192.170.1.10"))
            #expect(packet.sender == IPv4Address("192.170.1.20"))
            #expect(packet.target == IPv4Address("192.170.1.10"))
        }
    }

    @Test("a request is turned around into the reply that scapy makes; a probe's goes to 0.0.0.0")
    func answer() {
        let request = bytes(hex: NeighborVector.arpRequest)
        let answered = withBytes(request) { base in
            ARPPacket(at: base).answer(with: macOther)
            return Array(UnsafeRawBufferPointer(start: base, count: 28))
        }
        #expect(answered == bytes(hex: NeighborVector.arpReply))
        withBytes(bytes(hex: NeighborVector.arpProbe)) { base in
            let packet = ARPPacket(at: base)
            packet.answer(with: macGateway)
            #expect(packet.senderMAC == macGateway)
            #expect(packet.senderRaw == raw4("192.170.1.10"))
            #expect(packet.targetRaw == 0)
            #expect(packet.targetMAC == macHost)
        }
    }

    @Test("writing fills all 28 bytes and no byte more")
    func write() {
        let written = withBytes([UInt8](repeating: 0xA5, count: 32)) { base in
            ARPPacket.write(
                at: base, operation: 1, senderMAC: macHost, senderRaw: raw4("192.170.1.10"), targetMAC: .zero,
                targetRaw: raw4("192.170.1.20"))
            return Array(UnsafeRawBufferPointer(start: base, count: 32))
        }
        #expect(written == bytes(hex: NeighborVector.arpRequest) + [0xA5, 0xA5, 0xA5, 0xA5])
    }

    @Test("truncated, of other hardware or protocol, with unknown operations or senders that are no host: malformed")
    func malformed() {
        let request = bytes(hex: NeighborVector.arpRequest)
        for count in 0..<28 { #expect(reading(request, available: count) == .malformed) }
        for (offset, value) in [(0, 1), (1, 6), (2, 0x86), (3, 6), (4, 8), (5, 16), (6, 1), (7, 0), (7, 3), (7, 9)] {
            var packet = request
            packet[offset] = UInt8(value)
            #expect(reading(packet) == .malformed, "byte \(offset) = \(value)")
        }
        let senders: [[UInt8]] = [[127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255], [0, 1, 2, 3]]
        for sender in senders {
            var packet = request
            packet.replaceSubrange(14..<18, with: sender)
            #expect(reading(packet) == .malformed, "\(sender)")
        }
        for mac in [[UInt8](repeating: 0, count: 6), [UInt8](repeating: 255, count: 6), [1, 0, 0x5E, 0, 0, 1]] {
            var packet = request
            packet.replaceSubrange(8..<14, with: mac)
            #expect(reading(packet) == .malformed)
        }
        // A reply from nowhere answers nothing.
        var reply = bytes(hex: NeighborVector.arpReply)
        reply.replaceSubrange(14..<18, with: [0, 0, 0, 0])
        #expect(reading(reply) == .malformed)
    }
}

@Suite("Neighbour discovery, RFC 4861") struct NeighborDiscoveryTests {
    private func reading(_ bytes: [UInt8], available: Int? = nil) -> NeighborDiscovery.Reading {
        withBytes(bytes) { NeighborDiscovery.parse(at: $0, available: available ?? bytes.count) }
    }
    private func message(_ hex: String) throws -> NDMessage {
        guard case .message(let message) = reading(bytes(hex: hex)) else {
            Issue.record("not a message: \(reading(bytes(hex: hex)))")
            throw CancellationError()
        }
        return message
    }

    @Test("solicitations: target, addresses and the source's link-layer address, whatever options come before it",
        arguments: [NeighborVector.solicitation, NeighborVector.solicitationNonce, NeighborVector.solicitationExtension])
    func solicitation(hex: String) throws {
        let message = try message(hex)
        #expect(message.kind == .solicitation)
        #expect(message.source == raw6("2001:db8:1::10"))
        #expect(message.destination == raw6("ff02::1:ff00:20"))
        #expect(message.target == raw6("2001:db8:1::20"))
        #expect(message.linkLayer == macHost)
        #expect(!message.isDuplicateDetection)
    }

    @Test("duplicate address detection comes from :: and has no link-layer address")
    func duplicateDetection() throws {
        let message = try message(NeighborVector.duplicateDetection)
        #expect(message.isDuplicateDetection)
        #expect(message.linkLayer.isZero)
        #expect(message.target == raw6("2001:db8:1::20"))
    }

    @Test("advertisements: flags, and the target's link-layer address")
    func advertisement() throws {
        let solicited = try message(NeighborVector.advertisement)
        #expect(solicited.kind == .advertisement(isSolicited: true, isOverride: true, isRouter: false))
        #expect(solicited.linkLayer == macOther)
        let router = try message(NeighborVector.advertisementRouter)
        #expect(router.kind == .advertisement(isSolicited: true, isOverride: false, isRouter: true))
        let unsolicited = try message(NeighborVector.advertisementUnsolicited)
        #expect(unsolicited.kind == .advertisement(isSolicited: false, isOverride: true, isRouter: false))
        #expect(unsolicited.destination == .allNodes)
    }

    @Test("router solicitations, router advertisements and redirects are another's affair", arguments: [
        NeighborVector.routerSolicitation, NeighborVector.routerAdvertisement, NeighborVector.redirect,
    ])
    func other(hex: String) { #expect(reading(bytes(hex: hex)) == .other) }

    @Test("what is no neighbour discovery is said to be none", arguments: [
        NeighborVector.echo6, NeighborVector.echo, NeighborVector.solicitationFragment, ICMPErrorVector.udp6,
    ])
    func none(hex: String) { #expect(reading(bytes(hex: hex)) == .none) }

    @Test("a failed check of RFC 4861 section 7.1 is malformed", arguments: [
        NeighborVector.badHopLimit, NeighborVector.badChecksum, NeighborVector.badCode,
        NeighborVector.badTargetMulticast, NeighborVector.badOptionZero, NeighborVector.badOptionLong,
        NeighborVector.badOptionCut, NeighborVector.badSourceUnspecifiedUnicast,
        NeighborVector.badSourceUnspecifiedOption, NeighborVector.badSolicitedMulticast,
        NeighborVector.badLinkLayerMulticast,
    ])
    func malformed(hex: String) { #expect(reading(bytes(hex: hex)) == .malformed) }

    @Test("at every length a packet is refused or read as it is, and no byte behind it is read")
    func truncated() {
        for hex in [NeighborVector.solicitation, NeighborVector.advertisement, NeighborVector.solicitationNonce] {
            let packet = bytes(hex: hex)
            for count in 0..<packet.count {
                // Memory of exactly that size: a sanitizer sees a byte too many.
                let got = reading(Array(packet[0..<count]))
                #expect(got == .none || got == .malformed, "\(count) bytes")
            }
            // Padding behind the packet, as Ethernet adds it, is not the packet's.
            if case .message = reading(packet + [1, 2, 3]) {} else { Issue.record("padding is in the way") }
        }
    }

    @Test("a changed bit anywhere but in what no checksum covers is malformed, or no such packet any more")
    func bits() {
        let packet = bytes(hex: NeighborVector.advertisement)
        for bit in 0..<(packet.count * 8) where ![0, 1, 2, 3].contains(bit / 8) {
            var changed = packet
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            let got = reading(changed)
            #expect(got == .malformed || got == .none, "byte \(bit / 8) bit \(bit % 8)")
        }
    }

    @Test("what is written equals what scapy makes")
    func write() {
        func written(_ body: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
            withBytes([UInt8](repeating: 0xA5, count: NeighborDiscovery.packetByteCount + 4)) { base in
                body(base)
                return Array(UnsafeRawBufferPointer(start: base, count: NeighborDiscovery.packetByteCount + 4))
            }
        }
        let tail: [UInt8] = [0xA5, 0xA5, 0xA5, 0xA5]
        let (a, b, g) = (raw6("2001:db8:1::10"), raw6("2001:db8:1::20"), raw6("2001:db8:1::1"))
        #expect(written {
            NeighborDiscovery.writeSolicitation(at: $0, from: a, to: b.solicitedNode, target: b, mac: macHost)
        } == bytes(hex: NeighborVector.solicitation) + tail)
        #expect(written {
            NeighborDiscovery.writeAdvertisement(
                at: $0, from: b, to: a, target: b, mac: macOther, isSolicited: true, isOverride: true, isRouter: false)
        } == bytes(hex: NeighborVector.advertisement) + tail)
        #expect(written {
            NeighborDiscovery.writeAdvertisement(
                at: $0, from: g, to: a, target: g, mac: macGateway, isSolicited: true, isOverride: false, isRouter: true)
        } == bytes(hex: NeighborVector.advertisementRouter) + tail)
    }

    @Test("groups: solicited-node addresses and multicast MACs")
    func groups() {
        #expect(raw6("2001:db8::12:3456").solicitedNode == raw6("ff02::1:ff12:3456"))
        #expect(raw6("ff02::1:ff12:3456").isSolicitedNode)
        #expect(!raw6("ff02::1:fe12:3456").isSolicitedNode)
        #expect(raw6("ff02::1:ff12:3456").multicastMAC == MACAddress(0x33, 0x33, 0xFF, 0x12, 0x34, 0x56))
        #expect(RawIPv6.allNodes == raw6("ff02::1"))
        #expect(IPv4Scope.multicastMAC(raw: raw4("239.129.2.3")) == MACAddress(1, 0, 0x5E, 1, 2, 3))
        #expect(raw6("::").isUnspecified && raw6("::1").isLoopback && raw6("ff02::1").isMulticast)
        #expect(raw6("fe80::1").isLinkLocal && raw6("febf::1").isLinkLocal && !raw6("fec0::1").isLinkLocal)
        #expect(raw6("2001:db8::1").isHost && raw6("fe80::1").isHost && !raw6("::1").isHost)
        #expect(raw6("2001:db8::1").address == IPv6Address("2001:db8::1"))
        #expect(IPv4Scope.isLinkLocal(raw: raw4("169.254.3.4")) && !IPv4Scope.isLinkLocal(raw: raw4("169.253.3.4")))
    }
}

@Suite("DHCP, RFC 2131") struct DHCPTests {
    private func lease(_ bytes: [UInt8]) -> DHCPMessage.Acknowledgement? {
        withBytes(bytes) { DHCPMessage.acknowledgement(at: $0, available: bytes.count) }
    }

    @Test("an acknowledgement names MAC and address, wherever the message type is",
        arguments: [DHCPVector.ack, DHCPVector.ackLater])
    func ack(hex: String) {
        let lease = lease(bytes(hex: hex))
        #expect(lease?.mac == macHost)
        #expect(lease?.addressRaw == raw4("192.170.1.10"))
    }

    @Test("anything else binds nothing", arguments: [
        DHCPVector.offer, DHCPVector.nak, DHCPVector.inform, DHCPVector.request, DHCPVector.afterEnd,
        DHCPVector.hardware,
    ])
    func others(hex: String) { #expect(lease(bytes(hex: hex)) == nil) }

    @Test("options that leave the message, or of the wrong length, end the walk")
    func malformed() {
        let packet = bytes(hex: DHCPVector.ackLater)
        for count in 0..<packet.count {
            let got = lease(Array(packet[0..<count]))
            // The message type's option ends one byte before the end option.
            #expect(got == nil || count == packet.count - 1, "\(count) bytes")
        }
        var long = bytes(hex: DHCPVector.ack)
        long[241] = 2
        #expect(lease(long) == nil)
        var away = bytes(hex: DHCPVector.ackLater)
        away[241] = 255
        #expect(lease(away) == nil)
        var cookie = bytes(hex: DHCPVector.ack)
        cookie[236] = 0
        #expect(lease(cookie) == nil)
        var group = bytes(hex: DHCPVector.ack)
        group[28] = 1
        #expect(lease(group) == nil)
        let pads = Array(bytes(hex: DHCPVector.ack)[0..<240]) + [UInt8](repeating: 0, count: 2000)
        #expect(lease(pads) == nil)
    }

    @Test("only a server's message to a client counts")
    func ports() {
        withBytes([0, 67, 0, 68]) { #expect(DHCPMessage.isToClient(udp: $0)) }
        withBytes([0, 68, 0, 67]) { #expect(!DHCPMessage.isToClient(udp: $0)) }
        withBytes([0, 67, 0, 67]) { #expect(!DHCPMessage.isToClient(udp: $0)) }
    }
}
