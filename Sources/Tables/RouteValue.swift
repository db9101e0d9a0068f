// What a route leads to, in one word, and the keys under which hosts and neighbours are found.

public import CLinux
public import Wire

/// The answer of a route lookup: four bits of kind above an index.
///
/// It is one word, so that a route changes in place and a worker sees the old answer or the new one.
public struct RouteValue: Hashable, Sendable, BitwiseCopyable {
    public let rawValue: UInt32
    @inlinable @inline(__always) public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// What the index means.
    public enum Kind: UInt8, BitwiseCopyable, Sendable, CaseIterable {
        /// ``RouteHop`` index.
        case hop = 0
        /// Group index: several hops, one per flow.
        case group = 1
        /// A connected subnet of this bridge domain: the neighbour has to be resolved.
        case subnet = 2
        /// A connected subnet of this routed port: the host behind its exception TAP resolves.
        case port = 3
        /// An address of the gateway; index of its bridge domain, 0 for a VRF without one.
        case local = 4
        /// An address of FRR's namespace: punted to the exception TAP of this port.
        case host = 5
        /// To be looked up again in this VRF (route leaking).
        case vrf = 6
        /// Dropped silently.
        case blackhole = 7
        /// Dropped with ICMP host unreachable.
        case unreachable = 8
        /// Dropped with ICMP administratively prohibited.
        case prohibit = 9
    }
    @inlinable @inline(__always)
    public init(_ kind: Kind, _ index: UInt32 = 0) {
        rawValue = UInt32(kind.rawValue) &<< 28 | index & 0x0FFF_FFFF
    }
    public static func hop(_ index: UInt32) -> RouteValue { RouteValue(.hop, index) }
    public static func group(_ index: UInt32) -> RouteValue { RouteValue(.group, index) }
    public static func subnet(domain: UInt16) -> RouteValue { RouteValue(.subnet, UInt32(domain)) }
    public static func port(_ port: UInt16) -> RouteValue { RouteValue(.port, UInt32(port)) }
    public static func local(domain: UInt16) -> RouteValue { RouteValue(.local, UInt32(domain)) }
    public static func host(port: UInt16) -> RouteValue { RouteValue(.host, UInt32(port)) }
    public static func vrf(_ index: UInt16) -> RouteValue { RouteValue(.vrf, UInt32(index)) }
    public static let blackhole = RouteValue(.blackhole)
    public static let unreachable = RouteValue(.unreachable)
    public static let prohibit = RouteValue(.prohibit)
    /// No route: what a lookup returns, never stored.
    @inlinable public static var miss: RouteValue {
        @inline(__always) get { RouteValue(rawValue: BucketView.miss) }
    }

    @inlinable @inline(__always) public var isMiss: Bool { rawValue == BucketView.miss }
    @inlinable @inline(__always) public var index: UInt32 { rawValue & 0x0FFF_FFFF }
    @inlinable @inline(__always) public var isHop: Bool { rawValue &>> 28 == 0 }
    @inlinable @inline(__always) public var isGroup: Bool { rawValue &>> 28 == 1 }
    /// Nil for ``miss``.
    @inlinable public var kind: Kind? { Kind(rawValue: UInt8(truncatingIfNeeded: rawValue &>> 28)) }
}

/// Keys of the host-route and the neighbour table: a VRF or a bridge domain above an address.
///
///     63..48 VRF or domain (never 0 or 65535) | 47 IPv6 | IPv4: 31..0 address; IPv6: 46..0 mixed bits
///
/// The mixed bits of an IPv6 address are its lower 47, exclusive-or a hash of its upper 81. These 81 are in
/// ``more(_:_:)``, which the table keeps beside the key in the same bucket: so a match is exact, and costs no
/// other cache line.
public enum HostKey {
    /// - Parameter ipv4: in host order.
    @inlinable @inline(__always)
    public static func make(_ scope: UInt16, ipv4: UInt32) -> UInt64 {
        UInt64(scope) &<< 48 | UInt64(ipv4)
    }
    /// - Parameters: the two halves of the address in host order.
    @inlinable @inline(__always)
    public static func make(_ scope: UInt16, ipv6 high: UInt64, _ low: UInt64) -> UInt64 {
        UInt64(scope) &<< 48 | 1 &<< 47 | (low & mixedBits) ^ hash(high, low)
    }
    @inlinable @inline(__always)
    public static func scope(_ key: UInt64) -> UInt16 { UInt16(truncatingIfNeeded: key &>> 48) }
    /// The address of an IPv4 key, in host order.
    @inlinable @inline(__always)
    public static func ipv4(_ key: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: key) }
    public static func make(_ scope: UInt16, _ address: IPAddress) -> UInt64 {
        switch address {
        case .v4(let address): make(scope, ipv4: address.rawValue)
        case .v6(let address): make(scope, ipv6: address.high, address.low)
        }
    }

    @inlinable static var mixedBits: UInt64 { 1 &<< 47 &- 1 }
    /// 00aa::, of the space that the IETF reserves (RFC 4291 section 2.4).
    @inlinable static var unused: UInt64 { 0x00AA &<< 48 }
    /// 47 bits, of all but the lower 47 of an address. Prefixes that count up get values far apart.
    @inlinable @inline(__always)
    static func hash(_ high: UInt64, _ low: UInt64) -> UInt64 {
        ((high &+ (low &>> 47) &* 0xBF58_476D_1CE4_E5B9) &* 0x9E37_79B9_7F4A_7C15) &>> 17
    }
    /// The upper 81 bits of an IPv6 address: 49 as a word, the other 32 as a value.
    ///
    /// The word's upper 16 bits are all clear or all set, as of no key.
    @inlinable @inline(__always)
    static func more(_ high: UInt64, _ low: UInt64) -> (word: UInt64, value: UInt32) {
        (
            UInt64(bitPattern: Int64(bitPattern: high ^ unused) &>> 15),
            UInt32(truncatingIfNeeded: high &<< 17 | low &>> 47)
        )
    }
    /// Whether a word of ``more(_:_:)`` cannot be taken for an empty slot, for a deleted one, or for an IPv4
    /// key of scope 0. What can is of 00aa::/17 and of ff55:ffff:ffff:8000::/49, which no host has.
    static func isStorable(_ word: UInt64) -> Bool { word >> 32 != 0 && word != UInt64.max }
    @inlinable @inline(__always)
    static func isIPv6(_ key: UInt64) -> Bool { key >> 47 & 1 != 0 }
    /// The IPv6 address of a key.
    static func address(_ key: UInt64, more: (word: UInt64, value: UInt32)) -> (high: UInt64, low: UInt64) {
        let high = (more.word << 15) ^ unused | UInt64(more.value) >> 17
        let rest = UInt64(more.value) << 47
        return (high, rest | (key & mixedBits) ^ hash(high, rest))
    }
}

/// Hosts by scope (VRF or bridge domain) and address; what readers need.
public struct HostView: BitwiseCopyable, @unchecked Sendable {
    public let table: BucketView
    @usableFromInline init(table: BucketView) { self.table = table }

    /// The value of an IPv4 key in its bucket, or ``BucketView/miss``.
    @inlinable @inline(__always)
    public func value(ipv4 key: UInt64, in bucket: UnsafeRawPointer) -> UInt32 {
        table.value(of: key, in: bucket)
    }
    /// The value of an IPv6 key in its bucket, or ``BucketView/miss``.
    @inlinable @inline(__always)
    public func value(
        ipv6 key: UInt64, _ high: UInt64, _ low: UInt64, in bucket: UnsafeRawPointer
    ) -> UInt32 {
        table.value(ofPair: key, more: HostKey.more(high, low), in: bucket)
    }
    public func value(_ scope: UInt16, _ address: IPAddress) -> UInt32 {
        let key = HostKey.make(scope, address)
        let bucket = table.bucket(of: key)
        switch address {
        case .v4: return value(ipv4: key, in: bucket)
        case .v6(let address): return value(ipv6: key, address.high, address.low, in: bucket)
        }
    }
}
