// The writer's side of the host-route and the neighbour table.

import CLinux
import Wire

/// A ``BucketTable`` of (scope, address) with the IPv6 addresses beside it.
final class HostTable {
    let table: BucketTable
    let view: HostView
    private let addresses: UnsafeMutablePointer<UInt64>
    private let byteCount: Int

    init(name: String, capacity: Int) throws(TableError) {
        table = try BucketTable(name: name, capacity: capacity)
        byteCount = table.slotCount * 16
        guard let memory = pe_pages(byteCount) else {
            throw .outOfMemory(table: "\(name): IPv6 addresses", byteCount: byteCount)
        }
        addresses = memory.assumingMemoryBound(to: UInt64.self)
        view = HostView(table: table.view, addresses: UnsafePointer(addresses))
    }
    deinit { pe_pages_free(addresses, byteCount) }

    var count: Int { table.count }

    /// Inserts or replaces; false when another IPv6 address of the scope has the same hash.
    func set(_ scope: UInt16, _ address: IPAddress, _ value: UInt32) throws(TableError) -> Bool {
        let key = HostKey.make(scope, address)
        guard case .v6(let ipv6) = address else {
            try table.set(key, value)
            return true
        }
        if let slot = table.slot(of: key), !holds(slot, ipv6) { return false }
        try table.set(key, value) { slot in
            self.addresses[slot * 2] = ipv6.high
            self.addresses[slot * 2 + 1] = ipv6.low
        }
        return true
    }
    /// Returns whether it was there.
    func remove(_ scope: UInt16, _ address: IPAddress, epoch: UInt64) -> Bool {
        guard value(scope, address) != nil else { return false }
        return table.remove(HostKey.make(scope, address), epoch: epoch)
    }
    func value(_ scope: UInt16, _ address: IPAddress) -> UInt32? {
        let found = view.value(scope, address)
        return found == BucketView.miss ? nil : found
    }
    private func holds(_ slot: UInt32, _ address: IPv6Address) -> Bool {
        addresses[Int(slot) * 2] == address.high && addresses[Int(slot) * 2 + 1] == address.low
    }

    /// Visits every entry.
    func forEach(_ body: (UInt16, IPAddress, UInt32) -> Void) {
        for slot in 0..<table.slotCount {
            guard let entry = table.entry(at: UInt32(slot)) else { continue }
            let scope = UInt16(truncatingIfNeeded: entry.key >> 48)
            let address: IPAddress = entry.key & 1 << 47 == 0
                ? .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: entry.key)))
                : .v6(IPv6Address(high: addresses[slot * 2], low: addresses[slot * 2 + 1]))
            body(scope, address, entry.value)
        }
    }
}
