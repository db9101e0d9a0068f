// Longest-prefix match by one probe for each prefix length that a VRF has.

public import CLinux
public import Wire

/// What readers need of a ``PrefixTrie``.
public struct TrieView: BitwiseCopyable, @unchecked Sendable {
    @usableFromInline let table: BucketView
    /// Four words by VRF: bit by prefix length, IPv4 in the first, IPv6 in the others.
    @usableFromInline let lengths: UnsafePointer<UInt64>

    /// The value of the longest prefix around a host-order address, or ``BucketView/miss``.
    @inlinable @inline(__always)
    public func lookup(vrf: UInt16, ipv4 address: UInt32) -> UInt32 {
        var left = pe_load64_relaxed(lengths + Int(vrf) &* 4)
        while left != 0 {
            let length = 63 &- left.leadingZeroBitCount
            left &= ~(1 &<< UInt64(length))
            let masked = length == 0 ? 0 : address & (UInt32.max &<< UInt32(32 &- length))
            let key = UInt64(vrf) &<< 48 | UInt64(length) &<< 32 | UInt64(masked)
            let found = table.value(of: key, in: table.bucket(of: key))
            if found != BucketView.miss { return found }
        }
        return BucketView.miss
    }
    @inlinable @inline(never)
    public func lookup(vrf: UInt16, ipv6 high: UInt64, _ low: UInt64) -> UInt32 {
        if pe_load64_relaxed(lengths + (Int(vrf) &* 4 &+ 1)) == 0 { return BucketView.miss }
        var length = 128
        while length >= 0 {
            let key = TrieView.key(vrf, high, low, length)
            let found = table.value(of: key, in: table.bucket(of: key))
            if found != BucketView.miss { return found }
            length &-= 1
        }
        return BucketView.miss
    }
    @inlinable
    static func key(_ vrf: UInt16, _ high: UInt64, _ low: UInt64, _ length: Int) -> UInt64 {
        let first = length >= 64 ? high : length == 0 ? 0 : high & (UInt64.max &<< UInt64(64 &- length))
        let second = length <= 64 ? 0 : length == 128 ? low : low & (UInt64.max &<< UInt64(128 &- length))
        return UInt64(vrf) &<< 48 | 1 &<< 47 | UInt64(pe_crc32c(pe_crc32c(UInt32(length), first), second))
    }
}

/// The writer's side.
public final class PrefixTrie {
    public let view: TrieView
    private let table: BucketTable
    private let lengths: UnsafeMutablePointer<UInt64>
    private var known: [UInt64: Int] = [:]
    public var count: Int { table.count }

    public init(vrfs: Int, capacity: Int) throws(TableError) {
        table = try BucketTable(name: "prefixes (limits.routes)", capacity: capacity)
        lengths = .allocate(capacity: vrfs * 4)
        lengths.initialize(repeating: 0, count: vrfs * 4)
        view = TrieView(table: table.view, lengths: UnsafePointer(lengths))
    }
    deinit { lengths.deallocate() }

    private func key(_ vrf: UInt16, _ prefix: IPPrefix) -> UInt64 {
        switch prefix.address {
        case .v4(let address): UInt64(vrf) << 48 | UInt64(prefix.length) << 32 | UInt64(address.rawValue)
        case .v6(let address): TrieView.key(vrf, address.high, address.low, prefix.length)
        }
    }
    public func set(vrf: UInt16, _ prefix: IPPrefix, _ value: UInt32, epoch: UInt64) throws(TableError) {
        try table.set(key(vrf, prefix), value)
        if prefix.address.isV4 {
            lengths[Int(vrf) * 4] |= 1 << UInt64(prefix.length)
        } else {
            lengths[Int(vrf) * 4 + 1] = 1
        }
    }
    public func remove(vrf: UInt16, _ prefix: IPPrefix, epoch: UInt64) -> Bool {
        table.remove(key(vrf, prefix), epoch: epoch)
    }
    public func value(vrf: UInt16, _ prefix: IPPrefix) -> UInt32? { table.value(of: key(vrf, prefix)) }
    public func reclaim(through epoch: UInt64) { table.reclaim(through: epoch) }
}
