// A hash map from small keys to 32-bit numbers, for the many entries of routes and MACs.

import Wire

/// A key of a ``CompactMap``.
protocol CompactKey: Equatable {
    /// What an unused slot holds; any value.
    static var unused: Self { get }
    /// All bits of the key, mixed into the upper ones.
    var mixed: UInt64 { get }
}

/// Open addressing in two arrays: a key and a number for each slot, and nothing else.
///
/// At most 13 of 16 slots are used. A removal moves what follows back, so that there are no marks of
/// deleted entries and the slots depend on what was done alone: the order of a visit is the same in
/// every run.
struct CompactMap<Key: CompactKey> {
    private var keys: [Key] = []
    /// ``none`` where the slot is unused.
    private var values: [UInt32] = []
    private(set) var count = 0
    /// 64 less the bits of a slot's number.
    private var shift: UInt64 = 64

    /// No value.
    static var none: UInt32 { UInt32.max }
    private static var leastSlots: Int { 8 }

    var isEmpty: Bool { count == 0 }
    /// The next size. Few steps below 512: of many maps that grow together, each step leaves its memory
    /// behind in pieces that nothing else fits into.
    private var grown: Int { keys.count < 8 ? 8 : keys.count < 64 ? 64 : keys.count < 512 ? 512 : keys.count * 2 }
    /// Slots, used or not: positions of ``entry(at:)``.
    var slotCount: Int { keys.count }

    private func home(_ key: Key) -> Int { Int(truncatingIfNeeded: key.mixed &>> shift) }

    /// The slot of `key`, or the one in which it would be; nil without memory.
    private func slot(of key: Key) -> Int? {
        if keys.isEmpty { return nil }
        let mask = keys.count &- 1
        var slot = home(key)
        while values[slot] != Self.none && keys[slot] != key { slot = (slot &+ 1) & mask }
        return slot
    }
    func value(_ key: Key) -> UInt32? {
        guard let slot = slot(of: key) else { return nil }
        let found = values[slot]
        return found == Self.none ? nil : found
    }
    /// Inserts or replaces; returns the value before.
    ///
    /// - Precondition: `value` is not ``none``.
    @discardableResult
    mutating func set(_ key: Key, _ value: UInt32) -> UInt32? {
        precondition(value != Self.none)
        if count &* 16 >= keys.count &* 13 { resize(grown) }
        guard let slot = slot(of: key) else { return nil }
        let before = values[slot]
        keys[slot] = key
        values[slot] = value
        if before != Self.none { return before }
        count += 1
        return nil
    }
    /// Returns the value before.
    @discardableResult
    mutating func remove(_ key: Key) -> UInt32? {
        guard let found = slot(of: key), values[found] != Self.none else { return nil }
        let before = values[found]
        let mask = keys.count &- 1
        var hole = found
        var next = (hole &+ 1) & mask
        while values[next] != Self.none {
            // It may move when its home is not between the hole and itself.
            if (next &- home(keys[next])) & mask >= (next &- hole) & mask {
                keys[hole] = keys[next]
                values[hole] = values[next]
                hole = next
            }
            next = (next &+ 1) & mask
        }
        keys[hole] = .unused
        values[hole] = Self.none
        count -= 1
        if count &* 8 < keys.count, keys.count > Self.leastSlots { resize(keys.count / 4) }
        return before
    }
    private mutating func resize(_ wanted: Int) {
        if count == 0 && wanted < Self.leastSlots {
            self = CompactMap()
            return
        }
        var size = Self.leastSlots
        while size < wanted { size *= 2 }
        let before = (keys: keys, values: values)
        keys = Array(repeating: .unused, count: size)
        values = Array(repeating: Self.none, count: size)
        shift = UInt64(64 - size.trailingZeroBitCount)
        let mask = size &- 1
        for slot in before.values.indices where before.values[slot] != Self.none {
            var place = home(before.keys[slot])
            while values[place] != Self.none { place = (place &+ 1) & mask }
            keys[place] = before.keys[slot]
            values[place] = before.values[slot]
        }
    }
    /// The entry in a slot; nil when it is unused.
    func entry(at slot: Int) -> (key: Key, value: UInt32)? {
        values[slot] == Self.none ? nil : (keys[slot], values[slot])
    }
    func forEach(_ body: (Key, UInt32) -> Void) {
        for slot in values.indices where values[slot] != Self.none { body(keys[slot], values[slot]) }
    }
}

/// Mixes a word so that the upper bits of the result depend on all of it (SplitMix64's first steps).
func mixedWord(_ word: UInt64) -> UInt64 {
    var mixed = (word ^ (word &>> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed &>> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed
}

extension UInt64: CompactKey {
    static var unused: UInt64 { 0 }
    var mixed: UInt64 { mixedWord(self) }
}

/// An IPv6 address as a key.
struct IPv6HostKey: CompactKey {
    var high: UInt64
    var low: UInt64
    static var unused: IPv6HostKey { IPv6HostKey(high: 0, low: 0) }
    var mixed: UInt64 { mixedWord(high ^ mixedWord(low)) }
}

/// An IPv6 prefix as a key.
struct IPv6Key: CompactKey {
    var high: UInt64
    var low: UInt64
    var length: UInt8
    static var unused: IPv6Key { IPv6Key(high: 0, low: 0, length: 0) }
    var mixed: UInt64 { mixedWord(high ^ mixedWord(low &+ UInt64(length))) }
}

/// Numbers by prefix, for both families.
struct PrefixMap {
    private var v4 = CompactMap<UInt64>()
    private var v6 = CompactMap<IPv6Key>()
    /// /128: a third smaller, and most of all.
    private var v6Hosts = CompactMap<IPv6HostKey>()
    private var v4Lengths = [UInt32](repeating: 0, count: 33)
    private var v6Lengths = [UInt32](repeating: 0, count: 129)

    var count: Int { v4.count + v6.count + v6Hosts.count }
    var isEmpty: Bool { count == 0 }

    private static func key(_ address: IPv4Address, _ length: Int) -> UInt64 {
        UInt64(address.rawValue) &<< 8 | UInt64(length)
    }
    private static func key(_ address: IPv6Address, _ length: Int) -> IPv6Key {
        IPv6Key(high: address.high, low: address.low, length: UInt8(truncatingIfNeeded: length))
    }
    /// The number of exactly `prefix`, whose host bits are clear.
    func value(_ prefix: IPPrefix) -> UInt32? {
        switch prefix.address {
        case .v4(let address): v4.value(Self.key(address, prefix.length))
        case .v6(let address):
            prefix.length == 128
                ? v6Hosts.value(IPv6HostKey(high: address.high, low: address.low))
                : v6.value(Self.key(address, prefix.length))
        }
    }
    mutating func set(_ prefix: IPPrefix, _ value: UInt32) {
        switch prefix.address {
        case .v4(let address):
            if v4.set(Self.key(address, prefix.length), value) == nil { v4Lengths[prefix.length] += 1 }
        case .v6(let address):
            let before =
                prefix.length == 128
                ? v6Hosts.set(IPv6HostKey(high: address.high, low: address.low), value)
                : v6.set(Self.key(address, prefix.length), value)
            if before == nil { v6Lengths[prefix.length] += 1 }
        }
    }
    mutating func remove(_ prefix: IPPrefix) {
        switch prefix.address {
        case .v4(let address):
            if v4.remove(Self.key(address, prefix.length)) != nil { v4Lengths[prefix.length] -= 1 }
        case .v6(let address):
            let before =
                prefix.length == 128
                ? v6Hosts.remove(IPv6HostKey(high: address.high, low: address.low))
                : v6.remove(Self.key(address, prefix.length))
            if before != nil { v6Lengths[prefix.length] -= 1 }
        }
    }
    /// The longest prefix around `address` whose number `accept`s.
    func longestMatch(_ address: IPAddress, where accept: (UInt32) -> Bool) -> (prefix: IPPrefix, value: UInt32)? {
        for length in stride(from: address.bitCount, through: 0, by: -1)
        where (address.isV4 ? v4Lengths[length] : v6Lengths[length]) > 0 {
            guard let prefix = IPPrefix(address, length: length)?.network, let found = value(prefix), accept(found)
            else { continue }
            return (prefix, found)
        }
        return nil
    }
    func forEach(_ body: (IPPrefix, UInt32) -> Void) {
        v4.forEach { key, value in
            let address = IPAddress.v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: key >> 8)))
            if let prefix = IPPrefix(address, length: Int(key & 0xFF)) { body(prefix, value) }
        }
        v6Hosts.forEach { key, value in
            body(IPPrefix(host: .v6(IPv6Address(high: key.high, low: key.low))), value)
        }
        v6.forEach { key, value in
            let address = IPAddress.v6(IPv6Address(high: key.high, low: key.low))
            if let prefix = IPPrefix(address, length: Int(key.length)) { body(prefix, value) }
        }
    }
}
