// Small checked identifiers: VNI, VLAN ID, EtherType, IP protocol.

/// VXLAN network identifier: 24 bits (RFC 7348 section 5).
public struct VNI: Hashable, Sendable, BitwiseCopyable, Comparable, CustomStringConvertible {
    /// The identifier, below 2^24.
    public let rawValue: UInt32
    /// Fails for values above 2^24 - 1.
    @inlinable public init?(_ value: UInt32) {
        guard value <= 0xFF_FFFF else { return nil }
        rawValue = value
    }
    /// Takes the upper 24 bits of the header's second word.
    @inlinable @inline(__always) public init(word: UInt32) { rawValue = word >> 8 }
    public var description: String { String(rawValue) }
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// EtherType values (IANA ieee-802-numbers).
public enum EtherType {
    @inlinable public static var ipv4: UInt16 { 0x0800 }
    @inlinable public static var arp: UInt16 { 0x0806 }
    @inlinable public static var rarp: UInt16 { 0x8035 }
    @inlinable public static var vlan: UInt16 { 0x8100 }
    @inlinable public static var serviceVLAN: UInt16 { 0x88A8 }
    @inlinable public static var ipv6: UInt16 { 0x86DD }
}

/// IP protocol numbers (IANA protocol-numbers).
public enum IPProtocol {
    @inlinable public static var icmp: UInt8 { 1 }
    @inlinable public static var tcp: UInt8 { 6 }
    @inlinable public static var udp: UInt8 { 17 }
    @inlinable public static var icmpv6: UInt8 { 58 }
    @inlinable public static var sctp: UInt8 { 132 }
}
