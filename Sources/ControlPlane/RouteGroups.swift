// The groups that routes with several next hops refer to.

import Tables
import Wire

/// Where a group's members come from.
struct RouteSource: Hashable {
    enum Ways: Hashable {
        case object(NextHopKey)
        case inline([WeightedWay])
    }
    var ways: Ways
    /// The VRF in which gateways without an interface are looked up; 0 when there are none.
    var vrf: UInt16
}

/// Groups by source and layout.
///
/// Routes with the same source share a group, and a change of its members is one update. A route that
/// comes from other members may need slots of its own, so that its flows stay: then the source has
/// a second group, up to ``layoutsPerSource``.
final class RouteGroups {
    struct Group {
        var source: RouteSource
        var layout: GroupLayout
        /// Hops of the layout's members, each counted once.
        var hops: [UInt32]
        var count: Int32 = 0
    }
    private let tables: ForwardingTables
    private let hops: RouteHops
    private(set) var groups: [UInt32: Group] = [:]
    private(set) var bySource: [RouteSource: [UInt32]] = [:]
    private var numbers: [HopKey: UInt32] = [:]
    private var memory = LayoutMemory()
    private var unused: [UInt32] = []
    /// The group for a route that had another group, in this batch.
    private var successors: [Step: UInt32] = [:]
    private struct Step: Hashable {
        var before: UInt32
        var source: RouteSource
    }
    private(set) var refusal: String?
    /// Members beyond `limits.ecmpPaths`, since they were last taken.
    private var cutCount: UInt64 = 0
    var hasRoom = false
    static let layoutsPerSource = 8
    static let numberLimit = 1 << 20

    init(_ tables: ForwardingTables, _ hops: RouteHops) {
        self.tables = tables
        self.hops = hops
    }

    func takeRefusal() -> String? {
        defer { refusal = nil }
        return refusal
    }
    func takeCutCount() -> UInt64 {
        defer { cutCount = 0 }
        return cutCount
    }
    func source(of group: UInt32) -> RouteSource? { groups[group]?.source }

    // MARK: Use

    /// The group for a route of `source` that leads to `before` now; nil when it does not fit.
    func group(
        for source: RouteSource, _ resolution: RouteResolution, before: RouteValue?,
        _ state: inout ControlState
    ) -> UInt32? {
        if let before, before.isGroup, groups[before.index]?.source == source { return before.index }
        let known = bySource[source] ?? []
        if known.count >= Self.layoutsPerSource { return known[0] }
        guard let before, before.isGroup || before.isHop else {
            if let first = known.first { return first }
            return make(source, layout(for: members(resolution, &state).list, after: nil), resolution, &state)
        }
        let step = Step(before: before.rawValue, source: source)
        if let known = successors[step] { return known }
        var previous: GroupLayout?
        if before.isGroup {
            previous = groups[before.index]?.layout
        } else if let key = hops.key(before.index) {
            previous = GroupLayout(single: number(of: key))
        }
        let wanted = layout(for: members(resolution, &state).list, after: previous)
        let index = known.first { groups[$0]?.layout == wanted } ?? make(source, wanted, resolution, &state)
        if let index { successors[step] = index }
        return index
    }
    @inline(__always) func retain(_ index: UInt32) { groups[index]?.count += 1 }
    func release(_ index: UInt32) {
        guard let count = groups[index]?.count else { return }
        groups[index]?.count = count - 1
        if count == 1 { unused.append(index) }
    }

    /// The members of `source` changed: each of its groups changes at once for all routes. Returns
    /// false when something did not fit.
    func update(_ source: RouteSource, _ resolution: RouteResolution, _ state: inout ControlState) -> Bool {
        guard let indexes = bySource[source] else { return true }
        successors.removeAll()
        let members = members(resolution, &state)
        var isComplete = members.list.count >= min(resolution.members.count, tables.limits.paths)
        for index in indexes {
            guard let group = groups[index] else { continue }
            let next = layout(for: members.list, after: group.layout)
            if next != group.layout, !set(index, next, members.hops) { isComplete = false }
        }
        return isComplete
    }

    /// Removes the groups that no route uses any more. Returns whether there were some.
    func dropUnused() -> Bool {
        successors.removeAll(keepingCapacity: true)
        if unused.isEmpty { return false }
        var hasDropped = false
        for index in unused {
            guard let group = groups[index], group.count == 0 else { continue }
            groups[index] = nil
            bySource[group.source]?.removeAll { $0 == index }
            if bySource[group.source]?.isEmpty ?? false { bySource[group.source] = nil }
            for hop in group.hops { hops.release(hop) }
            tables.removeGroup(index)
            hasRoom = true
            hasDropped = true
        }
        unused.removeAll(keepingCapacity: true)
        return hasDropped
    }

    // MARK: Members

    private func number(of key: HopKey) -> UInt32 {
        if let known = numbers[key] { return known }
        let number = UInt32(truncatingIfNeeded: numbers.count)
        numbers[key] = number
        return number
    }
    /// The members that have a hop, and their hops by number.
    private func members(_ resolution: RouteResolution, _ state: inout ControlState) -> (
        list: [GroupLayout.Member], hops: [UInt32: UInt32]
    ) {
        if numbers.count > Self.numberLimit {
            // Only flows may move by it: numbers mean nothing else.
            numbers.removeAll()
            memory = LayoutMemory()
        }
        var list: [GroupLayout.Member] = []
        var found: [UInt32: UInt32] = [:]
        let limit = tables.limits.paths
        if resolution.members.count > limit { cutCount += UInt64(resolution.members.count - limit) }
        for member in resolution.members.prefix(limit) {
            guard let hop = hops.index(of: member.key, &state) else { continue }
            let number = number(of: member.key)
            list.append(.init(id: number, weight: min(member.weight, 1 << 16)))
            found[number] = hop
        }
        return (list.sorted { $0.id < $1.id }, found)
    }

    private func layout(for members: [GroupLayout.Member], after previous: GroupLayout?) -> GroupLayout {
        let isScarce = tables.groupSlotsInUse > TableLimits.groupSlots / 4 * 3
        let perMember = isScarce ? TableLimits.slotsPerPath : GroupLayout.slotsPerMember
        guard let previous else {
            return memory.layout(of: members) ?? GroupLayout(members, slotsPerMember: perMember)
        }
        if !previous.isHome(of: members), let known = memory.layout(of: members), known.keepsFlows(of: previous) {
            return known
        }
        return previous.following(members, slotsPerMember: perMember)
    }

    private func make(
        _ source: RouteSource, _ layout: GroupLayout, _ resolution: RouteResolution, _ state: inout ControlState
    ) -> UInt32? {
        do {
            let index = try tables.addGroup()
            groups[index] = Group(
                source: source, layout: GroupLayout([], slotsPerMember: 1), hops: [])
            bySource[source, default: []].append(index)
            unused.append(index)
            if !set(index, layout, members(resolution, &state).hops) { return nil }
            return index
        } catch {
            refusal = "\(error)"
            return nil
        }
    }
    private func set(_ index: UInt32, _ layout: GroupLayout, _ hopOfNumber: [UInt32: UInt32]) -> Bool {
        guard let before = groups[index] else { return false }
        do {
            try tables.setGroup(index, slots: layout.slots.map { hopOfNumber[$0] ?? 0 })
        } catch {
            refusal = "\(error)"
            return false
        }
        let used = layout.members.compactMap { hopOfNumber[$0.id] }
        for hop in used { hops.retain(hop) }
        for hop in before.hops { hops.release(hop) }
        groups[index]?.layout = layout
        groups[index]?.hops = used
        memory.remember(layout)
        return true
    }
}
