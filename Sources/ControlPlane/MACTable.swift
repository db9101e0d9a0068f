// The MACs of one bridge domain: most are one row of zebra's, kept in one word.

import Wire

/// ``MACEntry`` by MAC.
///
/// A MAC that zebra alone told is a number in the map: its VTEP, its marks and its connection. Any other
/// entry is in a list beside it.
struct MACTable: Sequence {
    private var map = CompactMap<UInt64>()
    private var entries: [MACEntry] = []
    private var free: [UInt32] = []
    /// Connections of rows that are numbers.
    private var origins: [Origin] = []

    // 31: in `entries` | 30: sticky | 29: unconfirmed | 28..22: place in `origins` | 21..0: VTEP
    private static let isListed: UInt32 = 1 << 31
    private static let isSticky: UInt32 = 1 << 30
    private static let isUnconfirmed: UInt32 = 1 << 29
    private static let originLimit = 126
    private static let vtepLimit: UInt32 = 1 << 22

    var count: Int { map.count }
    var isEmpty: Bool { map.isEmpty }

    private func entry(_ value: UInt32) -> MACEntry {
        if value & Self.isListed != 0 { return entries[Int(value & ~Self.isListed)] }
        var entry = MACEntry()
        entry.fpm = MACEntry.FPMRow(
            target: .vtep(value & (Self.vtepLimit - 1)), isSticky: value & Self.isSticky != 0,
            isUnconfirmed: value & Self.isUnconfirmed != 0, origin: origins[Int(value >> 22 & 127)])
        return entry
    }
    /// The number of an entry that zebra alone told; nil for others, which go into the list.
    private mutating func number(_ entry: MACEntry) -> UInt32? {
        guard entry.fixed == nil, entry.kernel == nil, entry.local == nil, let row = entry.fpm,
            case .vtep(let vtep) = row.target, vtep < Self.vtepLimit
        else { return nil }
        var place = origins.lastIndex(of: row.origin)
        if place == nil {
            if origins.count >= Self.originLimit { forgetOrigins() }
            guard origins.count < Self.originLimit else { return nil }
            place = origins.count
            origins.append(row.origin)
        }
        guard let place else { return nil }
        return vtep | UInt32(place) << 22 | (row.isSticky ? Self.isSticky : 0)
            | (row.isUnconfirmed ? Self.isUnconfirmed : 0)
    }
    /// After very many connections: the places of those without a row are free again.
    private mutating func forgetOrigins() {
        var places = [UInt32](repeating: 0, count: 128)
        var kept: [Origin] = []
        var changed: [(UInt64, UInt32)] = []
        map.forEach { key, value in
            guard value & Self.isListed == 0 else { return }
            let place = Int(value >> 22 & 127)
            if places[place] == 0 {
                kept.append(origins[place])
                places[place] = UInt32(kept.count)
            }
            changed.append((key, value & ~(127 << 22) | (places[place] - 1) << 22))
        }
        for (key, value) in changed { map.set(key, value) }
        origins = kept
    }

    subscript(mac: UInt64) -> MACEntry? {
        get { map.value(mac).map { entry($0) } }
        set { store(mac, newValue) }
    }
    private mutating func store(_ mac: UInt64, _ entry: MACEntry?) {
        let before = map.value(mac)
        let listed = before.flatMap { $0 & Self.isListed != 0 ? $0 & ~Self.isListed : nil }
        guard let entry else {
            if let listed { release(listed) }
            map.remove(mac)
            return
        }
        if let number = number(entry) {
            if let listed { release(listed) }
            map.set(mac, number)
        } else if let listed {
            entries[Int(listed)] = entry
        } else {
            let place = free.popLast() ?? UInt32(truncatingIfNeeded: entries.count)
            if Int(place) == entries.count { entries.append(entry) } else { entries[Int(place)] = entry }
            map.set(mac, place | Self.isListed)
        }
    }
    private mutating func release(_ place: UInt32) {
        entries[Int(place)] = MACEntry()
        free.append(place)
        if free.count == entries.count {
            entries = []
            free = []
        }
    }

    // MARK: Visiting, in the same order in every run

    struct Iterator: IteratorProtocol {
        fileprivate let table: MACTable
        fileprivate var slot = 0
        mutating func next() -> (key: UInt64, value: MACEntry)? {
            while slot < table.map.slotCount {
                defer { slot += 1 }
                if let found = table.map.entry(at: slot) { return (found.key, table.entry(found.value)) }
            }
            return nil
        }
    }
    func makeIterator() -> Iterator { Iterator(table: self) }
    var values: some Sequence<MACEntry> { lazy.map(\.value) }
}
