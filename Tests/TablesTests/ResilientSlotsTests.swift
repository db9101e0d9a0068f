// Spreading flows over paths: who moves when a member leaves, comes back or changes weight.

import Testing
import TestSupport

@testable import Tables

@Suite("Resilient slots")
struct ResilientSlotsTests {
    typealias Member = (id: Int, weight: Int)

    private static func assign(_ previous: [Int], _ members: [Member], _ count: Int) -> [Int] {
        ResilientSlots.assign(previous: previous, members: members, count: count).map { members[$0].id }
    }
    private static func shares(_ slots: [Int]) -> [Int: Int] { slots.reduce(into: [:]) { $0[$1, default: 0] += 1 } }

    @Test("slots are a power of two, four or more for each member; one member needs one")
    func slotCount() {
        #expect(ResilientSlots.slotCount(memberCount: 0) == 1 && ResilientSlots.slotCount(memberCount: 1) == 1)
        for members in 2...64 {
            let count = ResilientSlots.slotCount(memberCount: members)
            #expect(count & (count - 1) == 0 && count >= members * 4 && count < members * 8)
        }
    }

    @Test("equal weights differ by one slot at most, whatever came and went", arguments: 0..<40 as Range<UInt64>)
    func equalWeights(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let count = ResilientSlots.slotCount(memberCount: 16)
        var members: [Member] = [(1, 1)]
        var slots = Self.assign([], members, count)
        for step in 0..<60 {
            let before = slots, held = Self.shares(slots)
            if members.count > 1, members.count == 16 || Bool.random(using: &random) {
                let gone = members.remove(at: Int.random(in: 0..<members.count, using: &random)).id
                slots = Self.assign(before, members, count)
                for slot in 0..<count where before[slot] != gone { #expect(slots[slot] == before[slot]) }
            } else {
                let new = (1...16).first { id in !members.contains { $0.id == id } }!
                members.insert((new, 1), at: Int.random(in: 0...members.count, using: &random))
                slots = Self.assign(before, members, count)
                let moved = (0..<count).filter { slots[$0] != before[$0] }
                #expect(moved.allSatisfy { slots[$0] == new }, "only the newcomer takes slots")
                #expect(moved.count == Self.shares(slots)[new], "and no more than its share")
            }
            let now = Self.shares(slots).values
            #expect(now.count == members.count, "seed \(seed) step \(step): everybody has a slot, \(held)")
            #expect(now.max()! - now.min()! <= 1, "seed \(seed) step \(step)")
        }
    }

    @Test("with weights: everybody has a slot, shares stay near their due, a loss moves nobody else",
        arguments: 0..<40 as Range<UInt64>)
    func weights(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let count = ResilientSlots.slotCount(memberCount: 8)
        var members: [Member] = (1...8).map { ($0, Int.random(in: 1...5, using: &random)) }
        var slots = Self.assign([], members, count)
        Self.expectNearDue(slots, members, within: 1)
        while members.count > 1 {
            let before = slots
            let gone = members.remove(at: Int.random(in: 0..<members.count, using: &random)).id
            slots = Self.assign(before, members, count)
            for slot in 0..<count where before[slot] != gone { #expect(slots[slot] == before[slot]) }
            Self.expectNearDue(slots, members, within: 2)
        }
        for id in 1...8 where !members.contains(where: { $0.id == id }) {
            members.append((id, Int.random(in: 1...5, using: &random)))
            slots = Self.assign(slots, members, count)
            Self.expectNearDue(slots, members, within: 2)
        }
    }
    private static func expectNearDue(_ slots: [Int], _ members: [Member], within bound: Double) {
        let total = members.reduce(0) { $0 + $1.weight }
        let shares = shares(slots)
        for member in members {
            let due = Double(slots.count * member.weight) / Double(total)
            let share = Double(shares[member.id] ?? 0)
            #expect(share >= 1)
            #expect(abs(share - due) <= bound || share == 1, "\(share) for \(due)")
        }
    }

    @Test("a returning member gets its share back, and only it takes slots")
    func returning() {
        let all: [Member] = [(1, 1), (2, 1), (3, 1)]
        let first = Self.assign([], all, 16)
        let without = Self.assign(first, [(1, 1), (3, 1)], 16)
        let back = Self.assign(without, all, 16)
        #expect(Self.shares(back)[2] == Self.shares(first)[2])
        for slot in 0..<16 where back[slot] != without[slot] { #expect(back[slot] == 2) }
    }

    @Test("a changed weight moves flows towards it")
    func changedWeight() {
        let first = Self.assign([], [(1, 1), (2, 1)], 8)
        let heavy = Self.assign(first, [(1, 1), (2, 3)], 8)
        #expect(Self.shares(heavy) == [1: 2, 2: 6])
        for slot in 0..<8 where heavy[slot] != first[slot] { #expect(heavy[slot] == 2) }
    }

    @Test("more slots than before keep each flow's member where the weights allow")
    func growth() {
        let first = Self.assign([], [(1, 1), (2, 1)], 8)
        let grown = Self.assign(first, [(1, 1), (2, 1)], 32)
        for slot in 0..<32 { #expect(grown[slot] == first[slot % 8]) }
    }

    @Test("weights of zero and below count as one, and huge ones leave every other member a slot")
    func oddWeights() {
        #expect(Self.shares(Self.assign([], [(1, 0), (2, -5)], 8)) == [1: 4, 2: 4])
        let shares = Self.shares(Self.assign([], [(1, 1_000_000), (2, 1), (3, 1)], 16))
        #expect(shares == [1: 14, 2: 1, 3: 1])
    }

    @Test("the same path twice is two members")
    func duplicate() {
        let members: [Member] = [(1, 1), (1, 1), (2, 1)]
        let slots = ResilientSlots.assign(previous: [], members: members, count: 16)
        #expect(Set(slots) == [0, 1, 2])
        _ = Self.assign(Self.assign([], members, 16), members, 16)
    }
}
