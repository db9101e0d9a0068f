// Which addresses are one host's, and how multicast groups are mapped to Ethernet (RFC 1112, RFC 2464, RFC 4291).

/// An IPv6 address as it lies in a packet: its halves as loaded from memory.
@frozen public struct RawIPv6: Hashable, Sendable, BitwiseCopyable {
    public var first: UInt64
    public var second: UInt64
    @inlinable @inline(__always)
    public init(_ first: UInt64, _ second: UInt64) {
        self.first = first
        self.second = second
    }
    @inlinable @inline(__always)
    public init(at base: UnsafeMutableRawPointer) { self.init(base[raw64: 0], base[raw64: 8]) }
    @inlinable public init(_ address: IPv6Address) {
        self.init(address.high.bigEndian, address.low.bigEndian)
    }
    @inlinable public var address: IPv6Address {
        IPv6Address(high: UInt64(bigEndian: first), low: UInt64(bigEndian: second))
    }
    @inlinable @inline(__always)
    public func store(at base: UnsafeMutableRawPointer) {
        base[raw64: 0] = first
        base[raw64: 8] = second
    }

    @inlinable @inline(__always) public var isUnspecified: Bool { first | second == 0 }
    @inlinable @inline(__always) public var isLoopback: Bool {
        first == 0 && second == UInt64(1).bigEndian
    }
    @inlinable @inline(__always) public var isMulticast: Bool { first & 0xFF == 0xFF }
    /// fe80::/10
    @inlinable @inline(__always) public var isLinkLocal: Bool { first & 0xC0FF == 0x80FE }
    /// Whether it can be the source of a host's packet that somebody may answer.
    @inlinable public var isHost: Bool { !isUnspecified && !isLoopback && !isMulticast }

    /// ff02::1:ffXX:XXXX (RFC 4291 section 2.7.1).
    @inlinable public var solicitedNode: RawIPv6 {
        RawIPv6(UInt64(0x02FF), second & 0xFFFF_FF00_0000_0000 | 0x0000_00FF_0100_0000)
    }
    @inlinable public var isSolicitedNode: Bool {
        first == 0x02FF && second & 0x0000_00FF_FFFF_FFFF == 0x0000_00FF_0100_0000
    }
    /// 33:33 and the last four bytes (RFC 2464 section 7).
    @inlinable public var multicastMAC: MACAddress {
        MACAddress(rawValue: 0x3333 | (second &>> 32) &<< 16)
    }
    /// ff02::1, all nodes of the link.
    @inlinable public static var allNodes: RawIPv6 { RawIPv6(UInt64(0x02FF), UInt64(1).bigEndian) }
    @inlinable public static var unspecified: RawIPv6 { RawIPv6(0, 0) }
}

/// What kind of IPv4 address it is; addresses as loaded from memory.
public enum IPv4Scope {
    @inlinable @inline(__always)
    public static func isMulticast(raw: UInt32) -> Bool { raw & 0xF0 == 0xE0 }
    /// 127.0.0.0/8
    @inlinable @inline(__always)
    public static func isLoopback(raw: UInt32) -> Bool { raw & 0xFF == 127 }
    /// 169.254.0.0/16 (RFC 3927)
    @inlinable @inline(__always)
    public static func isLinkLocal(raw: UInt32) -> Bool { raw & 0xFFFF == 0xFEA9 }
    /// Whether it can be one host's: not 0/8, 127/8, multicast, class E or broadcast (RFC 1122
    /// section 3.2.1.3). A directed broadcast is not known without its subnet.
    @inlinable @inline(__always)
    public static func isHost(raw: UInt32) -> Bool {
        let first = raw & 0xFF
        return first != 0 && first != 127 && first < 224
    }
    /// 01:00:5e and the last 23 bits (RFC 1112 section 6.4).
    @inlinable
    public static func multicastMAC(raw: UInt32) -> MACAddress {
        MACAddress(rawValue: 0x5E_0001 | UInt64(raw & 0xFFFF_7F00) &<< 16)
    }
}
