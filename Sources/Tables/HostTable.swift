// The writer's side of the host-route and the neighbour table.

import Wire

/// A ``BucketTable`` of (scope, address): an IPv4 address has one slot, an IPv6 address two.
final class HostTable {
    let table: BucketTable
    var view: HostView { HostView(table: table.view) }

    init(name: String, capacity: Int) throws(TableError) {
        table = try BucketTable(name: name, capacity: capacity, hasPairs: true)
    }

    var count: Int { table.count }

    /// Inserts or replaces; false when it cannot be here: another IPv6 address of the scope has the same key,
    /// or the address is of those without a second word.
    func set(_ scope: UInt16, _ address: IPAddress, _ value: UInt32) throws(TableError) -> Bool {
        let key = HostKey.make(scope, address)
        guard case .v6(let ipv6) = address else {
            try table.set(key, value)
            return true
        }
        let more = HostKey.more(ipv6.high, ipv6.low)
        if let slot = table.slot(of: key) {
            guard table.content(Int(slot) + 1) == more else { return false }
            try table.set(key, value)
            return true
        }
        guard HostKey.isStorable(more.word) else { return false }
        try table.insertPair(key, value, more: more)
        return true
    }
    /// Returns whether it was there.
    func remove(_ scope: UInt16, _ address: IPAddress, epoch: UInt64) -> Bool {
        guard value(scope, address) != nil else { return false }
        return table.remove(HostKey.make(scope, address), isPair: !address.isV4, epoch: epoch)
    }
    func value(_ scope: UInt16, _ address: IPAddress) -> UInt32? {
        let found = view.value(scope, address)
        return found == BucketView.miss ? nil : found
    }

    /// Visits every entry.
    func forEach(_ body: (UInt16, IPAddress, UInt32) -> Void) {
        table.forEachSlot { slot, key, value in
            let address: IPAddress
            if HostKey.isIPv6(key) {
                let (high, low) = HostKey.address(key, more: table.content(slot + 1))
                address = .v6(IPv6Address(high: high, low: low))
            } else {
                address = .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: key)))
            }
            body(UInt16(truncatingIfNeeded: key >> 48), address, value)
        }
    }
}
