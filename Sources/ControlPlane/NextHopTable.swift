// Next-hop objects and groups by id, as one source numbers them.

import Wire

/// The next hops of one FPM connection, or of the kernel.
///
/// Ids belong to their source: a restarted zebra gives them anew, so that routes of the old
/// connection must keep finding the old objects until they are swept. Groups may come before their
/// members, routes before their next hop: a missing id is a placeholder until it is defined.
struct NextHopTable {
    struct Entry: Hashable {
        var isDefined = false
        /// `::ffff:a.b.c.d` is already the IPv4 address.
        var gateway: IPAddress?
        var interface: UInt32 = 0
        var isOnlink = false
        var isBlackhole = false
        var isFDB = false
        var nextHopProtocol: UInt8 = 0
        var members: [NextHopMessage.Member] = []
        /// Contents of routes (``RouteRows``) that refer to it directly.
        var routeCount = 0
        /// Groups that have it as a member.
        var groups: Set<UInt32> = []
        var dump: UInt32 = 0
    }
    /// One way out, after groups are taken apart.
    struct Hop: Hashable {
        var gateway: IPAddress?
        var interface: UInt32
        var weight: UInt32
        var isOnlink: Bool
        var encapVNI: UInt32?
    }

    private(set) var entries: [UInt32: Entry] = [:]
    private var byGateway: [IPAddress: Set<UInt32>] = [:]
    /// Depth to which groups of groups are followed; the kernel allows one, zebra's own are one.
    static let maximumDepth = 4
    static let maximumHops = 512
    /// Objects looked at for one id: a group of groups of missing objects ends too.
    static let maximumVisits = 4096

    subscript(id: UInt32) -> Entry? { entries[id] }
    var definedCount: Int { entries.reduce(0) { $0 + ($1.value.isDefined ? 1 : 0) } }

    /// Defines, replaces or deletes. Returns whether anything changed.
    mutating func apply(_ message: NextHopMessage, dump: UInt32) -> Bool {
        if message.isDelete { return remove(message.id) }
        let before = entries[message.id] ?? Entry()
        var entry = before
        entry.isDefined = true
        entry.gateway = message.gateway?.normalized
        entry.interface = message.interface
        entry.isOnlink = message.isOnlink
        entry.isBlackhole = message.isBlackhole
        entry.isFDB = message.isFDB
        entry.nextHopProtocol = message.nextHopProtocol
        entry.members = message.members
        entry.dump = dump
        if before != entry {
            unlink(message.id, before)
            entries[message.id] = entry
            link(message.id, entry)
        }
        var same = before
        same.dump = dump
        return same != entry
    }
    mutating func remove(_ id: UInt32) -> Bool {
        guard let before = entries[id], before.isDefined else { return false }
        unlink(id, before)
        var placeholder = Entry()
        placeholder.routeCount = before.routeCount
        placeholder.groups = before.groups
        entries[id] = placeholder
        dropIfUnused(id)
        return true
    }
    func missing(from dump: UInt32) -> [UInt32] {
        entries.filter { $0.value.isDefined && $0.value.dump != dump }.map(\.key).sorted()
    }

    private mutating func link(_ id: UInt32, _ entry: Entry) {
        if let gateway = entry.gateway { byGateway[gateway, default: []].insert(id) }
        for member in entry.members where member.id != id {
            entries[member.id, default: Entry()].groups.insert(id)
        }
    }
    private mutating func unlink(_ id: UInt32, _ entry: Entry) {
        if let gateway = entry.gateway {
            byGateway[gateway]?.remove(id)
            if byGateway[gateway]?.isEmpty ?? false { byGateway[gateway] = nil }
        }
        for member in entry.members {
            entries[member.id]?.groups.remove(id)
            dropIfUnused(member.id)
        }
    }
    private mutating func dropIfUnused(_ id: UInt32) {
        if let entry = entries[id], !entry.isDefined, entry.routeCount == 0, entry.groups.isEmpty {
            entries[id] = nil
        }
    }

    mutating func retain(_ id: UInt32) { entries[id, default: Entry()].routeCount += 1 }
    /// Returns whether it was the last route of this id.
    mutating func release(_ id: UInt32) -> Bool {
        guard let count = entries[id]?.routeCount, count > 0 else { return false }
        entries[id]?.routeCount = count - 1
        if count == 1 { dropIfUnused(id) }
        return count == 1
    }

    /// The single next hops behind an id; empty while it or all its members are missing.
    func hops(of id: UInt32) -> [Hop] {
        var found: [Hop] = []
        var visits = 0
        expand(id, weight: 1, depth: 0, into: &found, visits: &visits)
        return found
    }
    private func expand(
        _ id: UInt32, weight: UInt32, depth: Int, into found: inout [Hop], visits: inout Int
    ) {
        visits += 1
        guard visits <= Self.maximumVisits, depth <= Self.maximumDepth, found.count < Self.maximumHops,
            let entry = entries[id],
            entry.isDefined, !entry.isBlackhole
        else { return }
        if entry.members.isEmpty {
            found.append(
                Hop(
                    gateway: entry.gateway,
                    interface: entry.interface,
                    weight: weight,
                    isOnlink: entry.isOnlink
                )
            )
        }
        for member in entry.members where visits <= Self.maximumVisits {
            let product = weight.multipliedReportingOverflow(by: max(1, member.weight))
            expand(
                member.id, weight: product.overflow ? weight : product.partialValue, depth: depth + 1,
                into: &found, visits: &visits)
        }
    }
    func isBlackhole(_ id: UInt32) -> Bool {
        entries[id].map { $0.isDefined && $0.isBlackhole } ?? false
    }

    /// The interfaces through which a route reaches `gateway`.
    func usedInterfaces(towards gateway: IPAddress) -> Set<UInt32> {
        var found: Set<UInt32> = []
        for id in byGateway[gateway] ?? [] {
            var visits = 0
            if let entry = entries[id], isUsed(id, depth: 0, &visits) { found.insert(entry.interface) }
        }
        return found
    }
    /// Beyond the bound it counts as used: a router MAC too many harms nobody.
    private func isUsed(_ id: UInt32, depth: Int, _ visits: inout Int) -> Bool {
        visits += 1
        if visits > Self.maximumVisits { return true }
        guard depth <= Self.maximumDepth, let entry = entries[id] else { return false }
        if entry.routeCount > 0 { return true }
        for group in entry.groups where isUsed(group, depth: depth + 1, &visits) { return true }
        return false
    }
}
