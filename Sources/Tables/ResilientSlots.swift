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
    /// - Parameters:
    ///   - previous: the member identity of each slot before, or empty.
    ///   - members: identities and weights (at least 1); not empty.
    ///   - count: slots, a power of two, at least the number of members.
    public static func assign<ID: Hashable>(
        previous: [ID], members: [(id: ID, weight: Int)], count: Int
    ) -> [Int] {
        let total = members.reduce(0) { $0 + max(1, $1.weight) }
        // Largest remainders: shares add up to `count`, every member gets at least one slot.
        var share = members.map { max(1, count * max(1, $0.weight) / total) }
        var spare = count - share.reduce(0, +)
        let order = members.indices.sorted {
            (count * max(1, members[$0].weight) % total, $1) > (count * max(1, members[$1].weight) % total, $0)
        }
        var turn = 0
        while spare > 0 {
            share[order[turn % order.count]] += 1
            spare -= 1
            turn += 1
        }
        while spare < 0 {
            guard let largest = share.indices.max(by: { share[$0] < share[$1] }) else { break }
            share[largest] -= 1
            spare += 1
        }
        let index = Dictionary(members.enumerated().map { ($1.id, $0) }, uniquingKeysWith: { a, _ in a })
        var slots = [Int](repeating: -1, count: count)
        var left = share
        if !previous.isEmpty {
            for slot in 0..<count {
                guard let member = index[previous[slot % previous.count]], left[member] > 0 else { continue }
                slots[slot] = member
                left[member] -= 1
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
}
