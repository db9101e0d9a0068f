// The prefixes that a trie was given, found by their bits or by VRF: the writer's own memory.

import CLinux
import Wire

/// A prefix in a VRF, host bits clear. IPv4 addresses are the upper bits of `high`.
struct PrefixKey: Equatable {
    var high: UInt64
    var low: UInt64
    var length: Int
    var vrf: UInt16
    var isIPv6: Bool

    init(high: UInt64, low: UInt64, length: Int, vrf: UInt16, isIPv6: Bool) {
        (self.high, self.low, self.length, self.vrf, self.isIPv6) = (high, low, length, vrf, isIPv6)
    }
    init(vrf: UInt16, _ prefix: IPPrefix) {
        switch prefix.address {
        case .v4(let v4): (high, low, isIPv6) = (UInt64(v4.rawValue) << 32, 0, false)
        case .v6(let v6): (high, low, isIPv6) = (v6.high, v6.low, true)
        }
        self.vrf = vrf
        length = prefix.length
        (high, low) = masked(length)
    }

    var prefix: IPPrefix? {
        let address: IPAddress =
            isIPv6
            ? .v6(IPv6Address(high: high, low: low))
            : .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: high >> 32)))
        return IPPrefix(address, length: length)
    }
    /// The first `count` bits. Smart shifts: by 64 and more they yield 0.
    func masked(_ count: Int) -> (high: UInt64, low: UInt64) {
        (high & ~(UInt64.max >> count), low & ~(count > 64 ? UInt64.max >> (count - 64) : .max))
    }
    func shortened(to count: Int) -> PrefixKey {
        var key = self
        key.length = count
        (key.high, key.low) = masked(count)
        return key
    }
    /// The byte at `depth`, 0 being the first.
    func byte(_ depth: Int) -> Int {
        Int(truncatingIfNeeded: (depth < 8 ? high : low) >> UInt64(56 - 8 * (depth & 7)) & 0xFF)
    }
    /// The first `depth` bytes, then `value`, then zeros.
    func replacing(byte depth: Int, by value: Int) -> PrefixKey {
        var key = shortened(to: 8 * depth)
        let bits = UInt64(value) << UInt64(56 - 8 * (depth & 7))
        if depth < 8 { key.high |= bits } else { key.low |= bits }
        key.length = 8 * depth + 8
        return key
    }
    /// Leading bits that are equal.
    func common(_ otherHigh: UInt64, _ otherLow: UInt64) -> Int {
        let first = high ^ otherHigh
        return first != 0 ? first.leadingZeroBitCount : 64 + (low ^ otherLow).leadingZeroBitCount
    }
}

/// A dense array of prefixes, an open-addressing index over it, and a list through it for each VRF.
final class PrefixRecords {
    private struct Record {
        var high: UInt64
        var low: UInt64
        var value: UInt32
        /// Of the VRF and family, or of the free ones; 0 ends a list.
        var next: UInt32
        var previous: UInt32
        var vrf: UInt16
        var length: UInt8
        var isIPv6: Bool
    }
    /// What a VRF has of one family.
    private struct Family {
        var first: UInt32 = 0
        var count = 0
        /// Lengths that there may be, 0 to 127.
        var lengths: (UInt64, UInt64) = (0, 0)
    }

    private(set) var count = 0
    /// Number 0 is none.
    private let records: UnsafeMutablePointer<Record>
    private let index: UnsafeMutablePointer<UInt32>
    private let mask: Int
    private let recordBytes: Int, indexBytes: Int
    private var families: [Family]
    private var firstFree: UInt32 = 0
    /// Records that were ever used.
    private var used: UInt32 = 0

    init(name: String, vrfs: Int, capacity: Int) throws(TableError) {
        var size = 16
        while size < capacity + capacity / 2 { size *= 2 }
        mask = size - 1
        indexBytes = size * 4
        recordBytes = (capacity + 1) * MemoryLayout<Record>.stride
        guard let records = pe_pages(recordBytes) else { throw .outOfMemory(table: name, byteCount: recordBytes) }
        guard let index = pe_pages(indexBytes) else {
            pe_pages_free(records, recordBytes)
            throw .outOfMemory(table: name, byteCount: indexBytes)
        }
        self.records = records.bindMemory(to: Record.self, capacity: capacity + 1)
        self.index = index.bindMemory(to: UInt32.self, capacity: size)
        families = Array(repeating: Family(), count: vrfs * 2)
    }
    deinit {
        pe_pages_free(records, recordBytes)
        pe_pages_free(index, indexBytes)
    }

    var touchedByteCount: Int { Int(used) * MemoryLayout<Record>.stride + (count == 0 ? 0 : indexBytes) }

    private func hash(_ high: UInt64, _ low: UInt64, _ vrf: UInt16, _ length: UInt8, _ isIPv6: Bool) -> Int {
        let seed = UInt32(vrf) << 16 | UInt32(length) << 1 | (isIPv6 ? 1 : 0)
        return Int(pe_crc32c(pe_crc32c(seed, high), low)) & mask
    }
    private func home(_ record: UnsafeMutablePointer<Record>) -> Int {
        hash(record.pointee.high, record.pointee.low, record.pointee.vrf, record.pointee.length, record.pointee.isIPv6)
    }
    private func family(_ vrf: UInt16, _ isIPv6: Bool) -> Int { Int(vrf) * 2 + (isIPv6 ? 1 : 0) }

    func count(vrf: UInt16, isIPv6: Bool) -> Int { families[family(vrf, isIPv6)].count }
    func value(_ number: UInt32) -> UInt32 { records[Int(number)].value }
    func setValue(_ number: UInt32, _ value: UInt32) { records[Int(number)].value = value }

    func find(_ key: PrefixKey) -> UInt32? {
        let length = UInt8(key.length)
        var slot = hash(key.high, key.low, key.vrf, length, key.isIPv6)
        while index[slot] != 0 {
            let record = records + Int(index[slot])
            if record.pointee.high == key.high, record.pointee.low == key.low, record.pointee.vrf == key.vrf,
                record.pointee.length == length, record.pointee.isIPv6 == key.isIPv6 {
                return index[slot]
            }
            slot = (slot + 1) & mask
        }
        return nil
    }

    /// - Precondition: the key is new, and fewer than the capacity are there.
    func insert(_ key: PrefixKey, _ value: UInt32) {
        var number = firstFree
        if number != 0 {
            firstFree = records[Int(number)].next
        } else {
            used += 1
            number = used
        }
        let place = family(key.vrf, key.isIPv6)
        let following = families[place].first
        records[Int(number)] = Record(
            high: key.high, low: key.low, value: value, next: following, previous: 0, vrf: key.vrf,
            length: UInt8(key.length), isIPv6: key.isIPv6)
        if following != 0 { records[Int(following)].previous = number }
        families[place].first = number
        families[place].count += 1
        // A mask of smart shifts: length 128 sets none, for nothing is longer that it could cover.
        if key.length < 64 {
            families[place].lengths.0 |= 1 << UInt64(key.length)
        } else {
            families[place].lengths.1 |= 1 << UInt64(key.length - 64)
        }
        var slot = home(records + Int(number))
        while index[slot] != 0 { slot = (slot + 1) & mask }
        index[slot] = number
        count += 1
    }

    func remove(_ number: UInt32) {
        let record = records[Int(number)]
        let place = family(record.vrf, record.isIPv6)
        unindex(number)
        if record.next != 0 { records[Int(record.next)].previous = record.previous }
        if record.previous != 0 {
            records[Int(record.previous)].next = record.next
        } else {
            families[place].first = record.next
        }
        families[place].count -= 1
        if families[place].count == 0 { families[place].lengths = (0, 0) }
        records[Int(number)].next = firstFree
        firstFree = number
        count -= 1
    }
    /// Empties a slot and moves up those behind it that would no longer be found.
    private func unindex(_ number: UInt32) {
        var hole = home(records + Int(number))
        while index[hole] != number { hole = (hole + 1) & mask }
        var slot = hole
        while true {
            slot = (slot + 1) & mask
            if index[slot] == 0 { break }
            let distance = (slot - home(records + Int(index[slot]))) & mask
            if distance < (slot - hole) & mask { continue }
            index[hole] = index[slot]
            hole = slot
        }
        index[hole] = 0
    }
    func removeAll(vrf: UInt16) {
        for place in [family(vrf, false), family(vrf, true)] {
            while families[place].first != 0 { remove(families[place].first) }
        }
    }

    /// The longest prefix around `key` that is shorter than it.
    func cover(of key: PrefixKey) -> (value: UInt32, length: Int)? {
        let lengths = families[family(key.vrf, key.isIPv6)].lengths
        var left = (
            key.length >= 64 ? lengths.0 : lengths.0 & (1 << UInt64(key.length) - 1),
            key.length <= 64 ? 0 : key.length == 128 ? lengths.1 : lengths.1 & (1 << UInt64(key.length - 64) - 1)
        )
        while left != (0, 0) {
            let length = left.1 != 0 ? 127 - left.1.leadingZeroBitCount : 63 - left.0.leadingZeroBitCount
            if length >= 64 { left.1 &= ~(1 << UInt64(length - 64)) } else { left.0 &= ~(1 << UInt64(length)) }
            if let number = find(key.shortened(to: length)) { return (value(number), length) }
        }
        return nil
    }

    func forEach(vrf: UInt16, _ body: (PrefixKey, UInt32) -> Void) {
        for place in [family(vrf, false), family(vrf, true)] {
            var number = families[place].first
            while number != 0 {
                let record = records[Int(number)]
                let key = PrefixKey(
                    high: record.high, low: record.low, length: Int(record.length), vrf: record.vrf,
                    isIPv6: record.isIPv6)
                body(key, record.value)
                number = record.next
            }
        }
    }
}
