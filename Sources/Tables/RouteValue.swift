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
///     63..48 VRF or domain (never 0) | 47 IPv6 | IPv4: 31..0 address; IPv6: 46..0 hash
///
/// An IPv6 address is verified against the one that is stored for the slot.
public enum HostKey {
    /// - Parameter ipv4: in host order.
    @inlinable @inline(__always)
    public static func make(_ scope: UInt16, ipv4: UInt32) -> UInt64 {
        UInt64(scope) &<< 48 | UInt64(ipv4)
    }
    /// - Parameters: the two halves of the address in host order.
    @inlinable @inline(__always)
    public static func make(_ scope: UInt16, ipv6 high: UInt64, _ low: UInt64) -> UInt64 {
        let first = UInt64(pe_crc32c(pe_crc32c(0x5EED_0006, high), low))
        let second = UInt64(pe_crc32c(pe_crc32c(0x6000_5EED, low), high)) & 0x7FFF
        return UInt64(scope) &<< 48 | 1 &<< 47 | second &<< 32 | first
    }
    public static func make(_ scope: UInt16, _ address: IPAddress) -> UInt64 {
        switch address {
        case .v4(let address): make(scope, ipv4: address.rawValue)
        case .v6(let address): make(scope, ipv6: address.high, address.low)
        }
    }
}

/// Hosts by scope (VRF or bridge domain) and address; what readers need.
public struct HostView: BitwiseCopyable, @unchecked Sendable {
    public let table: BucketView
    /// Two words by slot: the IPv6 address there, in host order.
    @usableFromInline let addresses: UnsafePointer<UInt64>
    @usableFromInline init(table: BucketView, addresses: UnsafePointer<UInt64>) {
        self.table = table
        self.addresses = addresses
    }

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
        let found = table.entry(of: key, in: bucket)
        if found.value == BucketView.miss { return found.value }
        let address = addresses + Int(found.slot) &* 2
        return address[0] == high && address[1] == low ? found.value : BucketView.miss
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
