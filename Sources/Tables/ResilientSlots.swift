// Spreading flows over paths so that a lost path moves only its own flows.

/// Assigns slots to weighted members, keeping as many assignments as the weights allow.
public enum ResilientSlots {
    /// A power of two that gives every one of `memberCount` members several slots.
    public static func slotCount(memberCount: Int) -> Int {
        guard memberCount > 1 else { return 1 }
        var count = 1
        while count < memberCount * TableLimits.slotsPerPath { count *= 2 }
        return count
    }

    /// The member of each slot, as an index into `members`.
    ///
    /// A member that left moves its own slots alone. A member that came, or whose weight changed,
    /// gets its share from those that have the most beyond theirs.
    ///
    /// - Parameters:
    ///   - previous: the member identity of each slot before, or empty.
    ///   - members: identities and weights (at least 1); not empty.
    ///   - count: slots, a power of two, at least the number of members.
    public static func assign<ID: Hashable>(
        previous: [ID], members: [(id: ID, weight: Int)], count: Int
    ) -> [Int] {
        assign(home: [ID](), previous: previous, members: members, count: count)
    }

    /// The same for members that come and go: a slot belongs to its home member while that is there,
    /// so that a member that returns finds exactly its flows again.
    ///
    /// - Parameter home: the member identity of each slot when all were there, or empty.
    public static func assign<ID: Hashable>(
        home: [ID], previous: [ID], members: [(id: ID, weight: Int)], count: Int
    ) -> [Int] {
        let index = Dictionary(members.enumerated().map { ($1.id, $0) }, uniquingKeysWith: { a, _ in a })
        var slots = [Int](repeating: -1, count: count)
        var isAtHome = [Bool](repeating: false, count: count)
        for slot in 0..<count {
            if !home.isEmpty, let member = index[home[slot % home.count]] {
                slots[slot] = member
                isAtHome[slot] = true
            } else if !previous.isEmpty {
                slots[slot] = index[previous[slot % previous.count]] ?? -1
            }
        }
        var held = [Int](repeating: 0, count: members.count)
        for member in slots where member >= 0 { held[member] += 1 }
        var left = shares(weights: members.map { max(1, $0.weight) }, held: held, count: count)
        if !home.isEmpty { keep(held, Set(previous.compactMap { index[$0] }), &left) }
        for first in [true, false] {
            for slot in 0..<count where slots[slot] >= 0 && isAtHome[slot] == first {
                if left[slots[slot]] > 0 { left[slots[slot]] -= 1 } else { slots[slot] = -1 }
            }
        }
        var next = 0
        for slot in 0..<count where slots[slot] < 0 {
            while left[next % members.count] == 0 { next += 1 }
            slots[slot] = next % members.count
            left[next % members.count] -= 1
            next += 1
        }
        return slots
    }

    /// Takes back what members that stay would get from each other: balance among them is not worth
    /// moving a flow for; what others left is theirs.
    private static func keep(_ held: [Int], _ staying: Set<Int>, _ share: inout [Int]) {
        let members = share.indices.filter { staying.contains($0) }
        let free = share.reduce(0, +) - held.reduce(0, +)
        var excess = members.reduce(0) { $0 + max(0, share[$1] - held[$1]) } - free
        while excess > 0 {
            guard let gaining = members.max(by: { share[$0] - held[$0] < share[$1] - held[$1] }),
                let losing = members.max(by: { held[$0] - share[$0] < held[$1] - share[$1] }),
                share[gaining] > held[gaining], share[losing] < held[losing]
            else { return }
            share[gaining] -= 1
            share[losing] += 1
            excess -= 1
        }
    }

    /// How many slots each member gets, at least one: near `count * weight / total`, and near what
    /// it holds.
    private static func shares(weights: [Int], held: [Int], count: Int) -> [Int] {
        let total = weights.reduce(0, +)
        // What a member has, rounded down to the next whole share above its due.
        var share = weights.indices.map { min(held[$0], (count * weights[$0] + total - 1) / total) }
        // What a member lacks, in parts of a slot; more than anybody's while it has none.
        func lack(_ member: Int) -> Int {
            count * weights[member] - share[member] * total + (share[member] == 0 ? count * total : 0)
        }
        func neediest() -> Int { weights.indices.max { (lack($0), $1) < (lack($1), $0) } ?? 0 }
        func richest() -> Int? {
            weights.indices.filter { share[$0] > 1 }.min { (lack($0), $0) < (lack($1), $1) }
        }
        var spare = count - share.reduce(0, +)
        // Whoever is below the whole part of its due, or has none, gets that first in any case.
        let floors = weights.indices.map { max(share[$0], count * weights[$0] / total, 1) }
        let missing = floors.reduce(0, +) - share.reduce(0, +)
        if missing <= spare {
            share = floors
            spare -= missing
        }
        while spare > 0 {
            share[neediest()] += 1
            spare -= 1
        }
        let onlyLosses = !held.contains(0)
        while true {
            let poor = neediest()
            guard lack(poor) >= total, share[poor] == 0 || !onlyLosses, let rich = richest(), lack(rich) < 0
            else { break }
            share[rich] -= 1
            share[poor] += 1
        }
        return share
    }
}
