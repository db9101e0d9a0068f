// The outer headers: one copy of the path's template, then the fields that differ by packet.

import CLinux
import Tables
import Wire

extension Adjacency {
    /// Whether the outer UDP checksum must cover the inner frame.
    @inline(__always) var needsInnerSum: Bool { isIPv6 && !hasZeroChecksum }
}

/// Writes Ethernet, IP, UDP and VXLAN headers at `header` (RFC 7348 section 5).
///
/// - Parameters:
///   - vni: the bridge domain's, or the VRF's L3VNI.
///   - innerSum: the inner frame's one's complement sum; used when the path needs it.
@inline(__always)
func encapsulate(
    at header: UnsafeMutableRawPointer, _ adjacency: Adjacency, _ vni: OuterVNI, hash: UInt32,
    innerByteCount: Int, innerSum: UInt64
) {
    if adjacency.isIPv6 {
        let outer = OuterUDP(vni, hash: hash, innerByteCount: innerByteCount)
        encapsulateIPv6(
            at: header, adjacency, outer,
            checksum: adjacency.hasZeroChecksum ? 0 : outer.checksum(adjacency, innerSum: innerSum))
    } else {
        encapsulateIPv4(at: header, adjacency, vni, hash: hash, innerByteCount: innerByteCount)
    }
}

/// What the outer headers say of the network inside.
struct OuterVNI {
    /// As ``BridgeDomain/vniWord``, network order.
    let raw: UInt32
    /// UDP destination port, network order.
    let portRaw: UInt16
    @inline(__always) init(word: UInt32, portRaw: UInt16) {
        raw = word.bigEndian
        self.portRaw = portRaw
    }
    @inline(__always) init(_ domain: UnsafePointer<BridgeDomain>) {
        self.init(word: domain.pointee.vniWord, portRaw: domain.pointee.vxlanPortRaw)
    }
    @inline(__always) init(_ hop: HopView) {
        self.init(word: hop.vniWord, portRaw: hop.vxlanPortRaw)
    }
}

@inline(__always)
func encapsulateIPv4(
    at header: UnsafeMutableRawPointer, _ adjacency: Adjacency, _ vni: OuterVNI, hash: UInt32,
    innerByteCount: Int
) {
    pe_copy48(header, adjacency.header)
    // UDP 8 and VXLAN 8, then IPv4 20.
    let udpLength = UInt16(truncatingIfNeeded: innerByteCount &+ 16)
    let totalLength = (udpLength &+ 20).bigEndian
    header[raw16: 16] = totalLength
    header[raw16: 24] = ~foldCarry(UInt32(adjacency.checksumBase) &+ UInt32(totalLength))
    header[raw64: 34] = udpWord(hash, vni.portRaw, udpLength, checksum: 0)
    header[raw64: 42] = vxlanWord(vni.raw)
}

/// The same over IPv6, with this UDP checksum; 0 is none.
@inline(__always)
func encapsulateIPv6(
    at header: UnsafeMutableRawPointer, _ adjacency: Adjacency, _ outer: OuterUDP, checksum: UInt16
) {
    pe_copy48(header, adjacency.header)
    copy(from: adjacency.header, to: header, 46)
    header[raw16: 18] = outer.lengthRaw
    header[raw64: 54] = outer.udp | UInt64(checksum) &<< 48
    header[raw64: 62] = outer.vxlan
}

/// The headers behind IPv6 as they lie in memory, without the UDP checksum.
struct OuterUDP {
    let udp: UInt64
    let vxlan: UInt64
    @inline(__always) var lengthRaw: UInt16 { UInt16(truncatingIfNeeded: udp &>> 32) }

    @inline(__always) init(_ vni: OuterVNI, hash: UInt32, innerByteCount: Int) {
        let length = UInt16(truncatingIfNeeded: innerByteCount &+ 16)
        udp = udpWord(hash, vni.portRaw, length, checksum: 0)
        vxlan = vxlanWord(vni.raw)
    }

    /// The checksum field, given the inner frame's sum.
    @inline(__always) func checksum(_ adjacency: Adjacency, innerSum: UInt64) -> UInt16 {
        // One word and its carry: the parts of both need not be kept.
        let (words, carry) = udp.addingReportingOverflow(vxlan)
        let field = Checksum.field(
            UInt64(adjacency.checksumBase) &+ UInt64(lengthRaw) &+ halves(words) &+ (carry ? 1 : 0) &+ innerSum)
        // Zero means "none": its other form is sent (RFC 768).
        return field == 0 ? 0xFFFF : field
    }
    /// What the field holds when the port adds the rest up.
    @inline(__always) func pseudoHeader(_ adjacency: Adjacency) -> UInt16 {
        foldCarry(UInt32(adjacency.checksumBase) &+ UInt32(lengthRaw))
    }
    /// What the field of a packet holds: nothing on a path without checksums, a start where the port computes
    /// it, else the checksum, for which alone the inner frame is summed.
    @inline(__always) func checksum(
        of packet: Packet, _ adjacency: Adjacency, _ io: PortIO, innerSum: () -> UInt64
    ) -> UInt16 {
        if adjacency.hasZeroChecksum { return 0 }
        if io.features.contains(.txUDPChecksum) {
            packet.requestUDPChecksum()
            return pseudoHeader(adjacency)
        }
        return checksum(adjacency, innerSum: innerSum())
    }
}

@inline(__always)
private func copy(
    from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ offset: Int
) {
    target.storeBytes(
        of: source.loadUnaligned(fromByteOffset: offset, as: SIMD16<UInt8>.self),
        toByteOffset: offset, as: SIMD16<UInt8>.self)
}
/// Adds the carries of a sum of two 16-bit words back in.
@inline(__always)
private func foldCarry(_ sum: UInt32) -> UInt16 {
    UInt16(truncatingIfNeeded: (sum & 0xFFFF) &+ sum &>> 16)
}
/// The UDP header as it lies in memory.
@inline(__always)
private func udpWord(_ hash: UInt32, _ portRaw: UInt16, _ length: UInt16, checksum: UInt16) -> UInt64 {
    UInt64(FlowHash.sourcePort(hash).bigEndian) | UInt64(portRaw) &<< 16
        | UInt64(length.bigEndian) &<< 32 | UInt64(checksum) &<< 48
}
/// The VXLAN header as it lies in memory: the I flag, the VNI, reserved bits zero.
@inline(__always)
private func vxlanWord(_ vniRaw: UInt32) -> UInt64 { 0x08 | UInt64(vniRaw) &<< 32 }
@inline(__always)
func halves(_ word: UInt64) -> UInt64 { (word & 0xFFFF_FFFF) &+ word &>> 32 }

/// The one's complement sum of an Ethernet frame.
///
/// When it carries a whole TCP or UDP packet with a checksum, the packet's own sum is known without
/// reading it: the complement of its pseudo-header's (local checksum offload, as Linux calls it in
/// Documentation/networking/checksum-offloads.rst). Then only headers are read.
@inline(never)
func innerSum(of packet: Packet) -> UInt64 {
    let total = packet.byteCount
    guard let layer4 = Layer4(in: packet) else { return packet.sum(from: 0, count: total) }
    let headers = Checksum.sum(packet.frame, layer4.offset)
    let known = headers &+ UInt64(~Checksum.fold(layer4.pseudoHeader))
    let padding = total &- layer4.end
    if padding == 0 { return known }
    return Checksum.append(
        known, packet.sum(from: layer4.end, count: padding), position: layer4.end)
}

/// The sum of a frame from its EtherType on when a TCP or UDP packet with a checksum over IPv4 fills it,
/// nil for all others: the case of ``innerSum(of:)`` that nearly all long frames are. The addresses are in
/// the IP header and, complemented, in what is known of the rest, so neither is read.
@inline(__always)
func coveredSum(_ packet: Packet, _ frame: UnsafeMutableRawPointer) -> UInt64? {
    let shape = frame[raw32: 12], word = frame[raw64: 16]
    let total = UInt16(truncatingIfNeeded: word).bigEndian
    // IPv4 without options, not a fragment, without padding behind it; both headers in one piece.
    let unlike = UInt64(shape & 0x00FF_FFFF ^ 0x0045_0008) | word & 0xFF3F_0000_0000
        | UInt64(truncatingIfNeeded: Int(total) &+ EthernetHeader.byteCount &- packet.byteCount)
    if unlike != 0 || packet.contiguous < 54 { return nil }
    let number = UInt8(truncatingIfNeeded: word &>> 56)
    let length = (total &- 20).bigEndian
    if number == IPProtocol.udp {
        let words = frame[raw32: 38]
        if UInt16(truncatingIfNeeded: words) != length || words &>> 16 == 0 { return nil }
    } else if number != IPProtocol.tcp {
        return nil
    }
    return UInt64(shape) &+ halves(word) &+ UInt64(frame[raw16: 24])
        &+ UInt64(~UInt16(number).bigEndian) &+ UInt64(~length)
}

/// Whether the bytes of a frame are summed sooner than looked through.
@inline(__always)
func isShortFrame(_ packet: Packet, _ byteCount: Int) -> Bool {
    UInt(bitPattern: byteCount &- 48) <= 192 &- 48 && !packet.isSegmented
}

/// Where the TCP or UDP packet in a frame lies, if its checksum covers it wholly.
struct Layer4 {
    /// First byte of the TCP or UDP header, and first byte behind its payload; from the frame's start.
    let offset: Int
    let end: Int
    let pseudoHeader: UInt64

    init?(in packet: Packet) {
        let frame = packet.frame
        let available = packet.contiguous
        guard available >= EthernetHeader.byteCount else { return nil }
        var start = EthernetHeader.byteCount
        while start < 22, start &+ 4 <= available, VLANTag.isTag(raw: frame[raw16: start &- 2]) {
            start = start &+ VLANTag.byteCount
        }
        let type = frame[raw16: start &- 2]
        let ip = frame + start
        let number: UInt8
        if type == EtherType.ipv4.bigEndian, available >= start &+ IPv4Header.byteCount {
            let header = IPv4Header(at: ip)
            guard header.version == 4, header.headerByteCount >= IPv4Header.byteCount,
                !header.isFragment
            else { return nil }
            number = header.protocolNumber
            offset = start &+ header.headerByteCount
            end = start &+ Int(header.totalLength)
            guard end >= offset else { return nil }
            pseudoHeader = Checksum.pseudoHeader(
                ipv4: ip, protocolNumber: number, length: end &- offset)
        } else if type == EtherType.ipv6.bigEndian, available >= start &+ IPv6Header.byteCount {
            let header = IPv6Header(at: ip)
            // Extension headers are rare, and a routing header changes the pseudo-header.
            guard header.version == 6 else { return nil }
            number = header.nextHeader
            offset = start &+ IPv6Header.byteCount
            end = offset &+ Int(header.payloadLength)
            pseudoHeader = Checksum.pseudoHeader(
                ipv6: ip, protocolNumber: number, length: end &- offset)
        } else {
            return nil
        }
        guard end <= packet.byteCount else { return nil }
        let length = end &- offset
        if number == IPProtocol.tcp {
            guard length >= 20, offset &+ 20 <= available else { return nil }
        } else if number == IPProtocol.udp {
            guard length >= UDPHeader.byteCount, offset &+ UDPHeader.byteCount <= available else {
                return nil
            }
            let header = UDPHeader(at: frame + offset)
            guard header.checksumRaw != 0, Int(header.length) == length else { return nil }
        } else {
            return nil
        }
    }
}
