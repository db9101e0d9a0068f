// ICMP for IPv4: types, errors and echo (RFC 792, RFC 1191, RFC 1812 section 4.3).

public import CLinux

/// Types and codes.
public enum ICMPv4 {
    @inlinable public static var echoReply: UInt8 { 0 }
    @inlinable public static var unreachable: UInt8 { 3 }
    @inlinable public static var echoRequest: UInt8 { 8 }
    @inlinable public static var timeExceeded: UInt8 { 11 }

    /// Bytes of the ICMP header: type, code, checksum and four that depend on the type.
    @inlinable public static var headerByteCount: Int { 8 }
    /// Longest packet with an error (RFC 1812 section 4.3.2.3).
    @inlinable public static var maximumErrorByteCount: Int { 576 }

    /// Whether an ICMP packet of this type is a query or an answer to one, by a list: what is unknown
    /// may be an error.
    @inlinable
    public static func isQuery(type: UInt8) -> Bool {
        switch type {
        // Echo, router discovery, timestamp, information, address mask, extended echo.
        case 0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 42, 43: true
        default: false
        }
    }
}

/// An ICMP error for IPv4.
@frozen public enum ICMPv4Error: Equatable, Sendable {
    /// No route (RFC 1812 section 5.2.7.1).
    case networkUnreachable
    /// A connected host does not answer ARP.
    case hostUnreachable
    case protocolUnreachable
    case portUnreachable
    /// Does not fit, and DF is set; the MTU of the next hop (RFC 1191 section 4).
    case fragmentationNeeded(mtu: UInt16)
    /// A `prohibit` route: communication administratively prohibited.
    case prohibited
    /// TTL exceeded in transit.
    case timeExceeded

    @inlinable public var type: UInt8 { self == .timeExceeded ? ICMPv4.timeExceeded : ICMPv4.unreachable }
    @inlinable public var code: UInt8 {
        switch self {
        case .networkUnreachable, .timeExceeded: 0
        case .hostUnreachable: 1
        case .protocolUnreachable: 2
        case .portUnreachable: 3
        case .fragmentationNeeded: 4
        case .prohibited: 13
        }
    }
    @inlinable var mtu: UInt16 {
        if case .fragmentationNeeded(let mtu) = self { return mtu }
        return 0
    }

    /// Bytes of the packet that quotes as much of `quoted` bytes as an error may.
    @inlinable
    public static func byteCount(quoting quoted: Int) -> Int {
        min(IPv4Header.byteCount &+ ICMPv4.headerByteCount &+ quoted, ICMPv4.maximumErrorByteCount)
    }

    /// Writes a packet with this error from its IPv4 header on; returns its size,
    /// ``byteCount(quoting:)``, for which `base` has room.
    ///
    /// - Parameters:
    ///   - sourceRaw: the router's address as it lies in memory; it goes to the source of `packet`.
    ///   - packet: the packet that could not be forwarded, of which `available` bytes can be read, at
    ///     least 20; its TTL as it came.
    ///   - identification: for reassembly, any number.
    @inlinable
    public func write(
        at base: UnsafeMutableRawPointer, from sourceRaw: UInt32, quoting packet: UnsafeMutableRawPointer,
        available: Int, identification: UInt16
    ) -> Int {
        let total = ICMPv4Error.byteCount(quoting: available)
        // Internetwork control (RFC 1812 section 4.3.2.5).
        base[be32: 0] = 0x45C0_0000 | UInt32(truncatingIfNeeded: total)
        base[be16: 4] = identification
        base[raw16: 6] = 0
        base[byte: 8] = 64
        base[byte: 9] = IPProtocol.icmp
        base[raw32: 12] = sourceRaw
        base[raw32: 16] = packet[raw32: 12]
        IPv4Header(at: base).setChecksum(headerByteCount: IPv4Header.byteCount)
        let icmp = base + IPv4Header.byteCount
        icmp[byte: 0] = type
        icmp[byte: 1] = code
        icmp[raw16: 2] = 0
        icmp[be32: 4] = UInt32(mtu)
        let quote = total &- IPv4Header.byteCount &- ICMPv4.headerByteCount
        pe_copy(icmp + ICMPv4.headerByteCount, packet, quote)
        icmp[raw16: 2] = Checksum.field(Checksum.sum(icmp, ICMPv4.headerByteCount &+ quote))
        return total
    }
}

extension ICMPv4 {
    /// Turns the echo request in the packet at `base` into its reply, in place; `start` is where ICMP
    /// begins. The data and its share of the checksum stay (RFC 792).
    @inlinable
    public static func answerEcho(at base: UnsafeMutableRawPointer, icmp start: Int) {
        let header = IPv4Header(at: base)
        header.swapAddresses()
        header.setTimeToLive(64)
        let old = base[raw16: start]
        base[byte: start] = echoReply
        base[raw16: start &+ 2] = Checksum.update(base[raw16: start &+ 2], from: old, to: base[raw16: start])
    }
}
