// Which member of a group has which slots, so that flows stay where they are.

import Tables

/// The slots of a group, and those it had when all of its members were there.
///
/// Members have numbers that stay the same while they come and go. A set of members that was seen
/// whole is a home: when some of them leave, only their slots are given to others, and when they
/// return they get exactly these back.
struct GroupLayout: Hashable {
    struct Member: Hashable {
        var id: UInt32
        var weight: Int
    }
    /// Sorted by number.
    private(set) var members: [Member]
    /// A member's number by slot; a power of two of them.
    private(set) var slots: [UInt32]
    private var homeMembers: [Member]
    private var homeSlots: [UInt32]
    /// Slots per member: with 32 the share of a member is right to 3 %.
    static let slotsPerMember = 32
    static let maximumSlots = 4096

    /// One member with all flows: a route's only next hop before it has more.
    init(single id: UInt32) {
        members = [Member(id: id, weight: 1)]
        slots = [id]
        homeMembers = []
        homeSlots = []
    }
    /// Balanced slots for members that follow nothing.
    init(_ members: [Member], slotsPerMember: Int) {
        self.init(members, previous: [], home: nil, slotsPerMember: slotsPerMember)
    }
    private init(
        _ wanted: [Member], previous: [UInt32], home: (members: [Member], slots: [UInt32])?, slotsPerMember: Int
    ) {
        let members = wanted.sorted { $0.id < $1.id }
        self.members = members
        guard !members.isEmpty else {
            slots = []
            homeMembers = home?.members ?? []
            homeSlots = home?.slots ?? []
            return
        }
        if let home, home.members == members {
            slots = home.slots
            homeMembers = members
            homeSlots = home.slots
            return
        }
        var count = 1
        while count < min(members.count * slotsPerMember, Self.maximumSlots) { count *= 2 }
        count = max(count, previous.count, home?.slots.count ?? 0)
        let assigned = ResilientSlots.assign(
            home: home?.slots ?? [], previous: previous, members: members.map { ($0.id, $0.weight) }, count: count)
        slots = assigned.map { members[$0].id }
        homeMembers = home?.members ?? members
        homeSlots = home?.slots ?? slots
    }

    /// The layout for other members of a route that had this one: only flows of members that left
    /// move, but for the share of those that are new.
    func following(_ wanted: [Member], slotsPerMember: Int) -> GroupLayout {
        GroupLayout(
            wanted, previous: slots, home: isHome(of: wanted) ? (homeMembers, homeSlots) : nil,
            slotsPerMember: slotsPerMember)
    }
    /// Whether it is nobody's remainder.
    var isHome: Bool { members == homeMembers }
    /// Whether every flow of a member that is still there stays, or goes to a member that is new.
    func keepsFlows(of previous: GroupLayout) -> Bool {
        guard !slots.isEmpty, !previous.slots.isEmpty else { return true }
        let known = Set(members.map(\.id))
        let old = Set(previous.members.map(\.id))
        return (0..<max(slots.count, previous.slots.count)).allSatisfy { slot in
            let before = previous.slots[slot % previous.slots.count]
            let after = slots[slot % slots.count]
            return before == after || !known.contains(before) || !old.contains(after)
        }
    }
    /// Whether all of `wanted` were members, with these weights, when the layout was whole.
    func isHome(of wanted: [Member]) -> Bool {
        if homeMembers.isEmpty { return false }
        let weights = Dictionary(homeMembers.map { ($0.id, $0.weight) }, uniquingKeysWith: { a, _ in a })
        return wanted.allSatisfy { weights[$0.id] == $0.weight }
    }
}

/// Layouts of sets of members, for when the same set comes back. Bounded; the oldest is forgotten.
struct LayoutMemory {
    static let slotLimit = 1 << 20
    private var known: [[GroupLayout.Member]: (layout: GroupLayout, stamp: UInt64)] = [:]
    private(set) var slotCount = 0
    private var stamp: UInt64 = 0

    /// - Parameter members: sorted by number.
    mutating func layout(of members: [GroupLayout.Member]) -> GroupLayout? {
        guard let found = known[members] else { return nil }
        stamp += 1
        known[members]?.stamp = stamp
        return found.layout
    }
    mutating func remember(_ layout: GroupLayout) {
        guard !layout.members.isEmpty else { return }
        // A remainder, too: its route may have had a single next hop in between.
        let before = known[layout.members]
        if let before, before.layout.isHome || !layout.isHome { return }
        stamp += 1
        known[layout.members] = (layout, stamp)
        slotCount += layout.slots.count - (before?.layout.slots.count ?? 0)
        guard slotCount > Self.slotLimit else { return }
        // The older half.
        let stamps = known.values.map(\.stamp).sorted()
        let limit = stamps[stamps.count / 2]
        known = known.filter { $0.value.stamp >= limit }
        slotCount = known.values.reduce(0) { $0 + $1.layout.slots.count }
    }
}
