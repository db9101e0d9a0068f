// ICMP for IPv6: types, errors and echo (RFC 4443).

public import CLinux

/// Types and codes.
public enum ICMPv6 {
    @inlinable public static var unreachable: UInt8 { 1 }
    @inlinable public static var packetTooBig: UInt8 { 2 }
    @inlinable public static var timeExceeded: UInt8 { 3 }
    @inlinable public static var parameterProblem: UInt8 { 4 }
    @inlinable public static var echoRequest: UInt8 { 128 }
    @inlinable public static var echoReply: UInt8 { 129 }
    @inlinable public static var routerSolicitation: UInt8 { 133 }
    @inlinable public static var routerAdvertisement: UInt8 { 134 }
    @inlinable public static var neighborSolicitation: UInt8 { 135 }
    @inlinable public static var neighborAdvertisement: UInt8 { 136 }
    @inlinable public static var redirect: UInt8 { 137 }

    /// Bytes of the ICMP header: type, code, checksum and four that depend on the type.
    @inlinable public static var headerByteCount: Int { 8 }
    /// Longest packet with an error: the least MTU of IPv6 (RFC 4443 section 2.4 (c)).
    @inlinable public static var maximumErrorByteCount: Int { 1280 }

    /// Whether `length` bytes of ICMPv6 at `icmp`, of the packet whose IPv6 header is at `ip`, sum to
    /// all ones with the pseudo-header (RFC 4443 section 2.3).
    @inlinable
    public static func isChecksumValid(
        ip: UnsafeMutableRawPointer, icmp: UnsafeMutableRawPointer, length: Int
    ) -> Bool {
        let pseudo = Checksum.pseudoHeader(ipv6: ip, protocolNumber: IPProtocol.icmpv6, length: length)
        return Checksum.fold(pseudo &+ Checksum.sum(icmp, length)) == 0xFFFF
    }
    /// Writes the checksum of `length` bytes of ICMPv6 at `icmp`.
    @inlinable
    public static func setChecksum(
        ip: UnsafeMutableRawPointer, icmp: UnsafeMutableRawPointer, length: Int
    ) {
        icmp[raw16: 2] = 0
        let pseudo = Checksum.pseudoHeader(ipv6: ip, protocolNumber: IPProtocol.icmpv6, length: length)
        icmp[raw16: 2] = Checksum.field(pseudo &+ Checksum.sum(icmp, length))
    }
    /// Writes an IPv6 header without extension headers.
    @inlinable
    static func writeHeader(
        at base: UnsafeMutableRawPointer, payload: Int, hopLimit: UInt8, trafficClass: UInt8 = 0
    ) {
        base[be32: 0] = 6 &<< 28 | UInt32(trafficClass) &<< 20
        base[be16: 4] = UInt16(truncatingIfNeeded: payload)
        base[byte: 6] = IPProtocol.icmpv6
        base[byte: 7] = hopLimit
    }

    /// Turns the echo request in the packet at `base` into its reply, in place; `start` is where ICMP
    /// begins. Exchanged addresses leave the pseudo-header's sum as it is.
    @inlinable
    public static func answerEcho(at base: UnsafeMutableRawPointer, icmp start: Int) {
        let header = IPv6Header(at: base)
        header.swapAddresses()
        header.setHopLimit(64)
        let old = base[raw16: start]
        base[byte: start] = echoReply
        base[raw16: start &+ 2] = Checksum.update(base[raw16: start &+ 2], from: old, to: base[raw16: start])
    }
}

/// An ICMPv6 error.
@frozen public enum ICMPv6Error: Equatable, Sendable {
    case noRoute
    /// A `prohibit` route.
    case prohibited
    /// A connected host does not answer neighbour solicitations.
    case addressUnreachable
    case portUnreachable
    /// Larger than the MTU of the next hop.
    case packetTooBig(mtu: UInt32)
    /// Hop limit exceeded in transit.
    case timeExceeded
    /// Next header not known here; its offset from the IPv6 header.
    case unknownNextHeader(offset: UInt32)

    @inlinable public var type: UInt8 {
        switch self {
        case .noRoute, .prohibited, .addressUnreachable, .portUnreachable: ICMPv6.unreachable
        case .packetTooBig: ICMPv6.packetTooBig
        case .timeExceeded: ICMPv6.timeExceeded
        case .unknownNextHeader: ICMPv6.parameterProblem
        }
    }
    @inlinable public var code: UInt8 {
        switch self {
        case .noRoute, .packetTooBig, .timeExceeded: 0
        case .prohibited, .unknownNextHeader: 1
        case .addressUnreachable: 3
        case .portUnreachable: 4
        }
    }
    /// The word behind the checksum: MTU or pointer.
    @inlinable var word: UInt32 {
        switch self {
        case .packetTooBig(let mtu): mtu
        case .unknownNextHeader(let offset): offset
        case .noRoute, .prohibited, .addressUnreachable, .portUnreachable, .timeExceeded: 0
        }
    }
    @inlinable public var isPacketTooBig: Bool { type == ICMPv6.packetTooBig }

    /// Bytes of the packet that quotes as much of `quoted` bytes as an error may.
    @inlinable
    public static func byteCount(quoting quoted: Int) -> Int {
        min(IPv6Header.byteCount &+ ICMPv6.headerByteCount &+ quoted, ICMPv6.maximumErrorByteCount)
    }

    /// Writes a packet with this error from its IPv6 header on; returns its size,
    /// ``byteCount(quoting:)``, for which `base` has room.
    ///
    /// - Parameters:
    ///   - source: the router's address; it goes to the source of `packet`.
    ///   - packet: the packet that could not be forwarded, of which `available` bytes can be read, at
    ///     least 40; its hop limit as it came.
    @inlinable
    public func write(
        at base: UnsafeMutableRawPointer, from source: RawIPv6, quoting packet: UnsafeMutableRawPointer,
        available: Int
    ) -> Int {
        let total = ICMPv6Error.byteCount(quoting: available)
        let length = total &- IPv6Header.byteCount
        ICMPv6.writeHeader(at: base, payload: length, hopLimit: 64, trafficClass: 0xC0)
        source.store(at: base + 8)
        RawIPv6(at: packet + 8).store(at: base + 24)
        let icmp = base + IPv6Header.byteCount
        icmp[byte: 0] = type
        icmp[byte: 1] = code
        icmp[be32: 4] = word
        pe_copy(icmp + ICMPv6.headerByteCount, packet, length &- ICMPv6.headerByteCount)
        ICMPv6.setChecksum(ip: base, icmp: icmp, length: length)
        return total
    }
}
