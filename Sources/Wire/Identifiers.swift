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
    public static let ipv4: UInt16 = 0x0800
    public static let arp: UInt16 = 0x0806
    public static let rarp: UInt16 = 0x8035
    public static let vlan: UInt16 = 0x8100
    public static let serviceVLAN: UInt16 = 0x88A8
    public static let ipv6: UInt16 = 0x86DD
}

/// IP protocol numbers (IANA protocol-numbers).
public enum IPProtocol {
    public static let icmp: UInt8 = 1
    public static let tcp: UInt8 = 6
    public static let udp: UInt8 = 17
    public static let icmpv6: UInt8 = 58
}
