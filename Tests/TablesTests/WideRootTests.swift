// Wide roots: when a VRF gets one, and that lookups, changes and memory are right with it.

import Testing
import TestSupport
import Wire

@testable import Tables

@Suite("Wide roots of prefix tries")
struct WideRootTests {
    private func isWide(_ trie: PrefixTrie, _ vrf: Int) -> Bool { TrieWord.isWide(trie.roots[2 * vrf]) }

    @Test("a root of any shape may become wide, and changes go on as before", arguments: 0..<24 as Range<UInt64>)
    func later(seed: UInt64) throws {
        var world = try TrieWorld(seed: seed, wide: 1, isWide: false)
        let pool = (0..<[1, 2, 3, 8, 60, 300][Int(seed % 6)]).map { _ in world.prefix() }
        // One that stays: a family without prefixes gives its wide root back.
        try world.set(3, IPPrefix("9.9.9.9/32")!, 5)
        for prefix in pool { try world.set(3, prefix, UInt32(world.number(0...3))) }
        #expect(!isWide(world.trie, 3))
        world.trie.widen(world.trie.roots + 6, epoch: world.epoch)
        #expect(isWide(world.trie, 3))
        world.expectEqual("seed \(seed), wide")
        try world.expectShape("seed \(seed), wide")
        for step in 0..<300 {
            let prefix = world.number(0...1) == 0 ? pool.randomElement(using: &world.random)! : world.prefix()
            if world.number(0...1) == 0 { try world.set(3, prefix, UInt32(step)) } else { world.remove(3, prefix) }
        }
        world.expectEqual("seed \(seed), changed")
        try world.expectShape("seed \(seed), changed")
        world.trie.removeAll(vrf: 3, epoch: world.epoch)
        world.trie.reclaim(through: world.epoch)
        #expect(world.trie.nodes.used == 0 && world.trie.nodes.wideInUse == 0)
    }

    @Test("the first VRFs with IPv4 prefixes have wide roots, then only those with many; never IPv6")
    func choice() throws {
        let worth = PrefixTrie.wideWorth
        let trie = try PrefixTrie(
            vrfs: 8, capacity: 2 * worth, spareGranules: 4096, wide: 3, freeWide: 2)
        for vrf in 1...4 as ClosedRange<UInt16> {
            try trie.set(vrf: vrf, IPPrefix("2001:db8::/32")!, 1, epoch: 1)
            try trie.set(vrf: vrf, IPPrefix("10.0.0.0/8")!, 1, epoch: 1)
        }
        #expect((1...4).map { isWide(trie, $0) } == [true, true, false, false])
        #expect(!(1...4).contains { TrieWord.isWide(trie.roots[2 * $0 + 1]) })
        for number in 0..<UInt32(worth) {
            let address = IPv4Address(rawValue: 0x1400_0000 + number << 8)
            try trie.set(vrf: 4, IPPrefix(.v4(address), length: 24)!, 2, epoch: 1)
        }
        #expect(isWide(trie, 4))
        #expect(trie.view.lookup(vrf: 4, ipv4: 0x1400_0001) == 2 && trie.view.lookup(vrf: 4, ipv4: 0x0A00_0001) == 1)
        // There is no room for a fourth; a VRF that goes makes some once its readers have passed.
        try trie.set(vrf: 3, IPPrefix("10.1.0.0/16")!, 1, epoch: 1)
        #expect(!isWide(trie, 3))
        trie.remove(vrf: 1, IPPrefix("10.0.0.0/8")!, epoch: 2)
        #expect(trie.nodes.wideInUse == 3, "it rests")
        trie.reclaim(through: 2)
        #expect(trie.nodes.wideInUse == 2)
        #expect(trie.view.lookup(vrf: 1, ipv4: 0x0A00_0001) == BucketView.miss)
        #expect(trie.view.lookup(vrf: 2, ipv4: 0x0A00_0001) == 1)
    }

    @Test("a prefix of at most 16 bits has its addresses and no others, whatever lies within it")
    func short() throws {
        var world = try TrieWorld(wide: 1)
        for length in [0, 1, 7, 8, 9, 15, 16] {
            try world.set(1, IPPrefix(IPAddress("172.31.0.0")!, length: length)!.network, UInt32(100 + length))
        }
        for text in ["172.31.0.0/17", "172.31.255.0/24", "172.30.0.0/24", "128.0.0.0/9"] {
            try world.set(1, IPPrefix(text)!, 7)
        }
        world.expectEqual("all")
        for length in [8, 16, 0, 15, 1] {
            world.remove(1, IPPrefix(IPAddress("172.31.0.0")!, length: length)!.network)
            world.expectEqual("without /\(length)")
        }
    }
}
