// The IP neighbours of all bridge domains, by address and by MAC, within their limits.

import Tables
import Wire

/// Holds ``Neighbor`` entries, and what is derived from them: the MACs' addresses, counts, timers.
struct NeighborTable {
    /// Bounds; see `dataplane.limits.neighbors`.
    struct Limits: Hashable {
        /// Entries of all domains, of whatever kind.
        var total: Int
        /// Local bindings of one domain: one domain's hosts do not fill the table for all.
        var domain: Int
        /// Addresses of one MAC: a node with many service addresses, but no scan.
        var mac = 256
        /// Addresses that packets made us ask for, and that have not answered.
        var transient: Int

        init(neighbors: Int, domains: Int) {
            total = max(16, neighbors)
            domain = max(total / 4, total / max(1, domains))
            transient = min(4096, max(8, total / 8))
        }
    }

    let limits: Limits
    private(set) var entries: [NeighborID: Neighbor] = [:]
    /// Addresses by FDB key of their MACs.
    private var addresses: [UInt64: Set<IPAddress>] = [:]
    private var localCounts: [UInt16: Int] = [:]
    private var transientCounts: [UInt16: Int] = [:]
    private(set) var transientCount = 0
    /// Transient entries in the order in which they came, by domain; some may be gone.
    private var transients: [UInt16: [NeighborID]] = [:]
    private var timers = TimerQueue<NeighborID>()

    init(limits: Limits) { self.limits = limits }

    subscript(id: NeighborID) -> Neighbor? { entries[id] }
    var count: Int { entries.count }
    func localCount(_ domain: UInt16) -> Int { localCounts[domain] ?? 0 }

    /// The addresses that somebody gives for a MAC.
    func addresses(ofMAC key: UInt64) -> Set<IPAddress> { addresses[key] ?? [] }

    /// Whether the MAC has a local binding to one of the addresses that are asked for.
    func hasLocal(_ domain: UInt16, _ mac: MACAddress, where isProbed: (IPAddress) -> Bool) -> Bool {
        guard let known = addresses[FDBKey.make(domain: domain, mac: mac.rawValue)] else { return false }
        return known.contains { address in
            guard let local = entries[NeighborID(domain: domain, address)]?.local else { return false }
            return local.mac == mac && !local.isElsewhere && isProbed(address)
        }
    }

    // MARK: Changes

    /// Changes an entry, which is made when there is none and dropped when nothing is left of it.
    /// - Parameter domain: that of `id`.
    mutating func edit(_ id: NeighborID, _ domain: UInt16, _ now: Instant, _ body: (inout Neighbor) -> Void) {
        let before = entries[id]
        var entry = before ?? Neighbor(since: now)
        body(&entry)
        let after = entry.isEmpty ? nil : entry
        index(id, domain, before?.macs ?? [], after?.macs ?? [])
        let locals = (after?.local == nil ? 0 : 1) - (before?.local == nil ? 0 : 1)
        if locals != 0 { localCounts[domain, default: 0] += locals }
        let wasTransient = before?.isTransient ?? false
        let isTransient = after?.isTransient ?? false
        if wasTransient != isTransient { noteTransient(id, domain, isTransient) }
        entries[id] = after
    }
    private mutating func index(
        _ id: NeighborID, _ domain: UInt16, _ before: [MACAddress], _ after: [MACAddress]
    ) {
        if before == after { return }
        for mac in before where !after.contains(mac) {
            let key = FDBKey.make(domain: domain, mac: mac.rawValue)
            addresses[key]?.remove(id.address)
            if addresses[key]?.isEmpty ?? false { addresses[key] = nil }
        }
        for mac in after where !before.contains(mac) {
            addresses[FDBKey.make(domain: domain, mac: mac.rawValue), default: []].insert(id.address)
        }
    }

    // MARK: Room

    private mutating func noteTransient(_ id: NeighborID, _ domain: UInt16, _ isTransient: Bool) {
        transientCount += isTransient ? 1 : -1
        transientCounts[domain, default: 0] += isTransient ? 1 : -1
        guard isTransient else { return }
        transients[domain, default: []].append(id)
        // Those that were answered stay in the list until it has twice the length it needs.
        if let list = transients[domain], list.count > 2 * limits.transient {
            var seen: Set<NeighborID> = []
            transients[domain] = list.filter { entries[$0]?.isTransient ?? false && seen.insert($0).inserted }
        }
    }
    /// The oldest transient entry of the domain that has most of them; nil when there is none.
    mutating func victim() -> (id: NeighborID, domain: UInt16)? {
        guard transientCount > 0,
            let domain = transientCounts.max(by: { ($0.value, $1.key) < ($1.value, $0.key) })?.key
        else { return nil }
        guard let list = transients[domain] else { return nil }
        let position = list.firstIndex { entries[$0]?.isTransient ?? false }
        transients[domain]?.removeFirst(position.map { $0 + 1 } ?? list.count)
        return position.map { (list[$0], domain) }
    }

    // MARK: Timers

    /// Has the entry looked at when its timer is due.
    mutating func schedule(_ id: NeighborID, timeout: Double) {
        guard let entry = entries[id], let due = entry.due(timeout: timeout) else { return }
        if let queued = entry.queuedAt, queued <= due { return }
        entries[id]?.queuedAt = due
        timers.add(id, at: due)
    }
    /// The next entry whose timer is due.
    mutating func takeDue(_ now: Instant, timeout: Double) -> NeighborID? {
        while let (at, id) = timers.take(by: now) {
            guard entries[id]?.queuedAt == at else { continue }
            entries[id]?.queuedAt = nil
            guard let due = entries[id]?.due(timeout: timeout) else { continue }
            if due <= now { return id }
            schedule(id, timeout: timeout)
        }
        return nil
    }
    /// Marks that are no part of what an entry says, so that nothing has to be indexed.
    mutating func touch(_ id: NeighborID, _ body: (inout Neighbor) -> Void) {
        guard let position = entries.index(forKey: id) else { return }
        body(&entries.values[position])
    }
}
