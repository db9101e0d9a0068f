// What a prefix trie does at its limits, and the memory that it takes.

import Testing
import TestSupport
import Wire

@testable import Tables

@Suite("Prefix trie at its limits")
struct PrefixTrieLimitTests {
    @Test("a full trie refuses a new prefix, takes changes and keeps what is there")
    func capacity() throws {
        var world = try TrieWorld(capacity: 16)
        while world.trie.count < 16 { try world.set(1, world.prefix(), 5) }
        let present = world.model[1]!.keys.first!
        let used = world.trie.nodes.used
        var refused = world.prefix()
        while world.model[1]?[refused] != nil { refused = world.prefix() }
        #expect(throws: TableError.full(table: "prefixes (limits.routes)", limit: 16)) { try world.set(1, refused, 6) }
        #expect(world.trie.nodes.used == used)
        world.expectEqual("after the refusal")
        try world.set(1, present, 7)
        world.remove(1, present)
        try world.set(1, refused, 6)
        world.expectEqual("after a removal made room")
    }

    @Test("nodes that rest may leave no room: then nothing changes, and reclaiming gives it back")
    func exhaustion() throws {
        var world = try TrieWorld(capacity: 64, spareGranules: 64)
        let pool = (0..<60).map { _ in world.prefix() }
        var refusals = 0
        for round in 0..<6 {
            // No reader passes: every node that is replaced goes on resting.
            var steps = 0
            while refusals == round && steps < 100_000 {
                let prefix = pool.randomElement(using: &world.random)!
                steps += 1
                if world.number(0...2) == 0 {
                    world.remove(1, prefix)
                    continue
                }
                let used = world.trie.nodes.used
                do {
                    try world.set(1, prefix, UInt32(world.number(0...3)))
                } catch {
                    #expect(error as? TableError == .full(table: "prefixes (limits.routes)", limit: 64))
                    #expect(world.trie.nodes.used == used)
                    #expect(world.trie.value(vrf: 1, prefix) == nil)
                    refusals += 1
                }
            }
            #expect(refusals == round + 1, "the limit was met")
            world.expectEqual("at the limit, round \(round)")
            // Removals need no room, whatever shape they leave.
            for prefix in pool.prefix(30) { world.remove(1, prefix) }
            world.expectEqual("after removals, round \(round)")
            world.trie.reclaim(through: world.epoch)
            for prefix in pool { try world.set(1, prefix, 1) }
            world.expectEqual("after reclaiming, round \(round)")
            world.trie.reclaim(through: world.epoch)
        }
        for prefix in pool { world.remove(1, prefix) }
        world.trie.reclaim(through: world.epoch)
        #expect(world.trie.nodes.used == 0)
    }

    @Test("a replaced node rests until its epoch has passed")
    func grace() throws {
        let trie = try PrefixTrie(vrfs: 2, capacity: 100, spareGranules: 4096, wide: 0, freeWide: 0)
        for third in 0..<10 { try trie.set(vrf: 1, IPPrefix("10.0.\(third).0/24")!, 1, epoch: 5) }
        let resting = trie.nodes.restingCount
        #expect(resting > 5)
        trie.reclaim(through: 4)
        #expect(trie.nodes.restingCount == resting)
        try trie.set(vrf: 1, IPPrefix("10.0.10.0/24")!, 1, epoch: 6)
        #expect(trie.nodes.restingCount == resting + 1)
        trie.reclaim(through: 5)
        #expect(trie.nodes.restingCount == 1)
        trie.reclaim(through: 6)
        #expect(trie.nodes.restingCount == 0)
    }

    @Test("churn does not use the memory up")
    func churn() throws {
        var world = try TrieWorld(capacity: 1000)
        var live: [IPPrefix] = []
        var early = 0
        for step in 0..<60_000 {
            if live.count == 500 {
                let index = world.number(0...499)
                world.trie.remove(vrf: 1, live[index], epoch: UInt64(step))
                live.swapAt(index, 499)
                live.removeLast()
                world.trie.reclaim(through: UInt64(max(0, step - 20)))
            }
            let prefix = world.prefix()
            if world.trie.value(vrf: 1, prefix) == nil { live.append(prefix) }
            try world.trie.set(vrf: 1, prefix, 1, epoch: UInt64(step))
            if step == 20_000 { early = world.trie.nodes.touchedByteCount }
        }
        #expect(world.trie.count == live.count)
        #expect(world.trie.nodes.touchedByteCount < early * 3 / 2)
    }

    /// Prefixes as they are met, by name; each is to cost at most 150 bytes on both sides.
    static let shapes = ["IPv4 /24 at random", "IPv4 /24 in a row", "IPv6 /48 at random", "IPv6 /64 of one /32", "all lengths"]
    static func prefix(_ shape: String, _ number: Int, _ world: inout TrieWorld) -> IPPrefix {
        let bits = UInt64.random(in: 0...UInt64.max, using: &world.random)
        let four = { (value: UInt32, length: Int) in IPPrefix(.v4(IPv4Address(rawValue: value)), length: length)!.network }
        let six = { (high: UInt64, length: Int) in
            IPPrefix(.v6(IPv6Address(high: high, low: bits &* 0x9E37_79B9_7F4A_7C15)), length: length)!.network
        }
        switch shape {
        case shapes[0]: return four(UInt32(truncatingIfNeeded: bits), 24)
        case shapes[1]: return four(0x0A00_0000 + UInt32(number) << 8, 24)
        case shapes[2]: return six(bits, 48)
        case shapes[3]: return six(0x2001_0DB8 << 32 | bits >> 32, 64)
        default: return number % 2 == 0 ? four(UInt32(truncatingIfNeeded: bits), 8 + number % 25) : six(bits, 16 + number % 113)
        }
    }

    @Test("a prefix costs at most 150 bytes, both sides and what is kept free included", arguments: shapes)
    func memory(shape: String) throws {
        let count = 100_000
        var world = try TrieWorld(capacity: count)
        for number in 0..<count {
            try world.trie.set(vrf: 1, Self.prefix(shape, number, &world), UInt32(number), epoch: UInt64(number))
            // As the control thread does it: now and then, readers some changes behind.
            if number % 64 == 0 { world.trie.reclaim(through: UInt64(max(0, number - 100))) }
        }
        let each = Double(world.trie.byteCount) / Double(world.trie.count)
        #expect(world.trie.count > count * 3 / 4)
        #expect(each <= 150, "\(each) bytes")
    }
}
