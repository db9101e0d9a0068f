// Routes with several next hops: who gets which flows, and that they keep them.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite struct RouteGroupTests {
    static func vtep(_ number: Int) -> String { "10.0.0.\(number + 2)" }
    /// Objects 1...count, each the next hop to one VTEP.
    static func objects(_ count: Int) -> [NetlinkMessage] {
        (0..<count).map { Message.nextHop(UInt32($0 + 1), vtep($0), 7) }
    }
    static func route(_ prefix: String = "10.9.0.0/16", id: UInt32, isDelete: Bool = false) -> NetlinkMessage {
        Message.route(prefix, table: 1001, id: isDelete ? nil : id, isDelete: isDelete)
    }
    static func makeRig(_ count: Int = 4) throws -> ControlRig {
        let rig = try makeRoutedRig()
        rig.connectFPM()
        rig.batch([.fpmFrame(connection: 1, objects(count))])
        return rig
    }
    /// How many of 1024 flows changed, of those that were not on a lost member.
    static func moved(_ before: [String], _ after: [String], lost: Set<String> = []) -> Int {
        zip(before, after).filter { $0 != $1 && !lost.contains($0) }.count
    }
    static func way(_ number: Int) -> String { "\(vtep(number)) 50000 noRouterMAC" }

    @Test func equalMembersHaveEqualShares() throws {
        for count in [2, 3, 5, 7, 64] {
            let rig = try Self.makeRig(64)
            rig.frame(Message.group(100, (1...UInt32(count)).map { ($0, 1) }), Self.route(id: 100))
            let slots = rig.slots("red", "10.9.0.0/16")
            let shares = Dictionary(grouping: slots, by: { $0 }).mapValues(\.count)
            #expect(shares.count == count)
            #expect((shares.values.max() ?? 0) - (shares.values.min() ?? 0) <= 1)
            // Within 4 % of the due.
            #expect(Double(shares.values.max() ?? 0) * Double(count) / Double(slots.count) < 1.04)
        }
    }
    @Test func weightsAreShares() throws {
        let rig = try Self.makeRig(64)
        rig.frame(Message.group(100, [(1, 3), (2, 1)]), Self.route(id: 100))
        #expect(rig.route("red", "10.9.0.0/16")
            == "group of 64: \(Self.way(0)) x48 + \(Self.way(1)) x16")
        rig.frame(Message.group(101, (1...64).map { ($0, $0) }), Self.route(id: 101))
        let slots = rig.slots("red", "10.9.0.0/16")
        #expect(slots.count == 2048)
        let shares = Dictionary(grouping: slots.map { rig.hopText($0) }, by: { $0 }).mapValues(\.count)
        #expect(shares.count == 64)
        for number in 0..<64 {
            let due = 2048 * Double(number + 1) / 2080
            #expect(abs(Double(shares[Self.way(number)] ?? 0) - due) <= max(2, due * 0.1))
        }
    }
    @Test func aMemberThatLeavesMovesOnlyItsFlowsAndGetsThemBack() throws {
        let rig = try Self.makeRig()
        rig.frame(Message.group(100, [(1, 1), (2, 1), (3, 1)]), Self.route(id: 100))
        let whole = rig.flows("red", "10.9.0.0/16")
        rig.frame(Message.group(100, [(1, 1), (3, 1)]))
        let less = rig.flows("red", "10.9.0.0/16")
        #expect(Self.moved(whole, less, lost: [Self.way(1)]) == 0)
        #expect(!less.contains(Self.way(1)))
        rig.frame(Message.group(100, [(1, 1), (2, 1), (3, 1)]))
        #expect(rig.flows("red", "10.9.0.0/16") == whole)
    }
    /// zebra gives each set of members an id of its own, and a single one no group.
    @Test func theSameAcrossIdsOfZebraAndSingleNextHops() throws {
        let rig = try Self.makeRig()
        rig.frame(Message.group(100, [(1, 1), (2, 1), (3, 1)]), Self.route(id: 100))
        let whole = rig.flows("red", "10.9.0.0/16")
        rig.frame(Message.group(101, [(1, 1), (3, 1)]), Self.route(id: 101, isDelete: true), Self.route(id: 101))
        let less = rig.flows("red", "10.9.0.0/16")
        #expect(Self.moved(whole, less, lost: [Self.way(1)]) == 0)
        rig.frame(Self.route(id: 3, isDelete: true), Self.route(id: 3))
        #expect(rig.route("red", "10.9.0.0/16") == Self.way(2))
        rig.frame(Self.route(id: 101))
        #expect(Self.moved(less, rig.flows("red", "10.9.0.0/16")) == 0)
        rig.frame(Message.group(102, [(3, 1), (2, 1), (1, 1)]), Self.route(id: 102))
        #expect(rig.flows("red", "10.9.0.0/16") == whole)
        rig.frame(Self.route(id: 102, isDelete: true))
        #expect(rig.tables.groupCount == 0 && rig.tables.hopCount == 0)
    }
    @Test func otherRoutesOfTheSmallerGroupKeepTheirFlowsToo() throws {
        let rig = try Self.makeRig()
        rig.frame(
            Message.group(100, [(1, 1), (2, 1), (3, 1)]), Message.group(101, [(1, 1), (2, 1)]), Self.route(id: 100),
            Self.route("10.8.0.0/16", id: 101))
        let other = rig.flows("red", "10.8.0.0/16")
        let whole = rig.flows("red", "10.9.0.0/16")
        rig.frame(Self.route(id: 101))
        #expect(Self.moved(whole, rig.flows("red", "10.9.0.0/16"), lost: [Self.way(2)]) == 0)
        #expect(rig.flows("red", "10.8.0.0/16") == other)
    }
    @Test func twoLossesAndTheirReturnInEitherOrder() throws {
        for order in [[3, 2], [2, 3]] {
            let rig = try Self.makeRig()
            func set(_ ids: [UInt32]) { rig.frame(Message.group(100, ids.map { ($0, 1) })) }
            set([1, 2, 3, 4])
            rig.frame(Self.route(id: 100))
            let whole = rig.flows("red", "10.9.0.0/16")
            set([1, 2, 4])
            set([1, 4])
            var present: [UInt32] = [1, 4]
            for back in order {
                present.append(UInt32(back))
                set(present.sorted())
                let now = rig.flows("red", "10.9.0.0/16")
                // Everything of the one that is back is back.
                #expect(zip(whole, now).filter { $0 == Self.way(back - 1) && $1 != $0 }.isEmpty)
            }
            #expect(rig.flows("red", "10.9.0.0/16") == whole)
        }
    }
    @Test func aZebraThatNumbersAnewMovesNoFlow() throws {
        let rig = try Self.makeRig()
        rig.frame(Message.group(100, [(1, 1), (2, 1), (3, 1)]), Self.route(id: 100))
        let whole = rig.flows("red", "10.9.0.0/16")
        rig.apply(.fpmDisconnected(connection: 1))
        rig.wait(1)
        #expect(rig.flows("red", "10.9.0.0/16") == whole)
        rig.apply(.fpmConnected(connection: 2))
        rig.frame(
            Message.nextHop(51, Self.vtep(2), 7), Message.nextHop(52, Self.vtep(0), 7),
            Message.nextHop(53, Self.vtep(1), 7), Message.group(54, [(51, 1), (52, 1), (53, 1)]),
            Message.route("10.9.0.0/16", table: 1001, id: 54, port: 200), connection: 2)
        #expect(rig.flows("red", "10.9.0.0/16") == whole)
        rig.wait(20)
        #expect(rig.flows("red", "10.9.0.0/16") == whole)
        #expect(rig.tables.groupCount == 1 && rig.tables.hopCount == 3)
    }
    @Test func inlineMultipathSharesOneGroup() throws {
        let rig = try Self.makeRig()
        let hops = [Message.hop("10.0.0.2", 7), Message.hop("10.0.0.3", 7, weight: 3)]
        for number in 0..<20 { rig.frame(Message.route("10.\(number).0.0/16", table: 1001, hops: hops)) }
        #expect(rig.tables.groupCount == 1)
        #expect(rig.route("red", "10.7.0.0/16") == "group of 64: \(Self.way(0)) x16 + \(Self.way(1)) x48")
        for number in 0..<20 { rig.frame(Message.route("10.\(number).0.0/16", table: 1001, isDelete: true)) }
        #expect(rig.tables.groupCount == 0 && rig.tables.hopCount == 0)
    }
    @Test func unknownMembersAreLeftOutUntilTheyCome() throws {
        let rig = try Self.makeRig(1)
        rig.frame(Message.group(100, [(1, 1), (77, 1)]), Self.route(id: 100))
        #expect(Set(rig.flows("red", "10.9.0.0/16")) == [Self.way(0)])
        let value = rig.value("red", "10.9.0.0/16")
        rig.frame(Message.nextHop(77, "10.0.0.9", 7))
        #expect(Set(rig.flows("red", "10.9.0.0/16")) == [Self.way(0), "10.0.0.9 50000 noRouterMAC"])
        #expect(rig.value("red", "10.9.0.0/16") == value)
    }
    @Test func groupsAndRoutesMayComeBeforeTheirMembers() throws {
        let rig = try Self.makeRig(0)
        rig.frame(Self.route(id: 100))
        #expect(rig.route("red", "10.9.0.0/16") == "group of 0: none")
        rig.frame(Message.group(100, [(1, 1), (2, 1)]))
        #expect(rig.route("red", "10.9.0.0/16") == "group of 0: none")
        rig.batch([.fpmFrame(connection: 1, Self.objects(2))])
        #expect(Set(rig.flows("red", "10.9.0.0/16")) == [Self.way(0), Self.way(1)])
    }
    @Test func aGroupMayLoseAllMembersAndGetThemBack() throws {
        let rig = try Self.makeRig()
        rig.frame(Message.group(100, [(1, 1), (2, 1)]), Self.route(id: 100))
        let whole = rig.flows("red", "10.9.0.0/16")
        for id in [UInt32(1), 2] { rig.frame(Message.nextHop(id, nil, 0, isDelete: true)) }
        #expect(rig.route("red", "10.9.0.0/16") == "group of 0: none")
        rig.batch([.fpmFrame(connection: 1, Self.objects(2))])
        #expect(rig.flows("red", "10.9.0.0/16") == whole)
    }
    @Test func membersBeyondTheLimitAreLeftOutAndCounted() throws {
        let rig = try Self.makeRig(70)
        let effects = rig.apply(.fpmFrame(connection: 1, [
            Message.group(100, (1...70).map { ($0, 1) }), Self.route(id: 100),
        ]))
        #expect(Set(rig.slots("red", "10.9.0.0/16")).count == 64)
        #expect(effects.contains { if case .log(.error, let text) = $0 { text.contains("ecmpPaths") } else { false } })
    }
    @Test func groupsWithoutEndEndSomewhere() throws {
        let rig = try Self.makeRig(1)
        rig.frame(
            Message.group(100, [(101, 1), (1, 1)]), Message.group(101, [(100, 1), (101, 1)]), Self.route(id: 100))
        #expect(Set(rig.flows("red", "10.9.0.0/16")) == [Self.way(0)])
    }
}

@Suite struct GroupLayoutTests {
    typealias Member = GroupLayout.Member
    static func members(_ ids: [UInt32]) -> [Member] { ids.map { Member(id: $0, weight: 1) } }

    /// Any history: nobody's flows move but those of members that left, and the share of new ones.
    @Test(arguments: 1...40) func flowsMoveOnlyForAReason(seed: Int) {
        var random = SplitMix(state: UInt64(seed))
        var present: Set<UInt32> = [0, 1, 2]
        var layout = GroupLayout(Self.members(present.sorted()), slotsPerMember: 32)
        for _ in 0..<60 {
            var next = present
            let id = UInt32.random(in: 0..<8, using: &random)
            if next.contains(id) { next.remove(id) } else { next.insert(id) }
            if next.isEmpty { continue }
            let after = layout.following(Self.members(next.sorted()), slotsPerMember: 32)
            #expect(Set(after.slots) == next)
            for slot in 0..<after.slots.count {
                let owner = layout.slots[slot % layout.slots.count]
                let isMoved = next.contains(owner) && after.slots[slot] != owner
                // With a member that was never there before, shares are made even again.
                if isMoved && !after.isHome { #expect(after.slots[slot] == id && !present.contains(id)) }
            }
            layout = after
            present = next
        }
    }
    @Test func theMemoryIsBounded() {
        var memory = LayoutMemory()
        for number in 0..<2000 {
            let ids = (0..<64).map { UInt32($0 == 63 ? 1000 + number : $0) }
            memory.remember(GroupLayout(Self.members(ids), slotsPerMember: 32))
        }
        #expect(memory.slotCount <= LayoutMemory.slotLimit)
        #expect(memory.layout(of: Self.members((0..<64).map { UInt32($0 == 63 ? 2999 : $0) })) != nil)
        #expect(memory.layout(of: Self.members((0..<64).map { UInt32($0 == 63 ? 1000 : $0) })) == nil)
    }
}
