// Workers look prefixes up while the control thread replaces, removes and adds them.

import CLinux
import Testing
import TestThreads
import TestSupport
import Wire

@testable import Tables

@Suite("Prefix trie: one writer, many readers")
struct ConcurrentTrieTests {
    /// An address that always has a prefix of at least `length` bits in the tables.
    struct Guarded {
        let high: UInt64, low: UInt64
        let isIPv6: Bool
        let length: Int
        var bits: Int { isIPv6 ? 128 : 32 }

        func prefix(_ length: Int) -> IPPrefix {
            let address: IPAddress =
                isIPv6 ? .v6(IPv6Address(high: high, low: low)) : .v4(IPv4Address(rawValue: UInt32(high >> 32)))
            return IPPrefix(address, length: length)!.network
        }
    }

    /// A value that tells which prefix it belongs to: length, a checksum of the bits, a generation.
    static func value(_ prefix: IPPrefix, generation: UInt32) -> UInt32 {
        switch prefix.address {
        case .v4(let v4): value(UInt64(v4.rawValue) << 32, 0, prefix.length, generation)
        case .v6(let v6): value(v6.high, v6.low, prefix.length, generation)
        }
    }
    static func value(_ high: UInt64, _ low: UInt64, _ length: Int, _ generation: UInt32) -> UInt32 {
        let first = high & ~(UInt64.max >> UInt64(length))
        let second = length <= 64 ? 0 : low & ~(UInt64.max >> UInt64(length - 64))
        return UInt32(length) << 24 | (pe_crc32c(pe_crc32c(1, first), second) & 0xFFFF) << 8 | generation & 0xFF
    }

    /// Why an answer cannot be one of the tables' before, between or after the changes.
    enum Fault { case none, gap, short, foreign }
    static func fault(_ found: UInt32, _ address: Guarded) -> Fault {
        if found == BucketView.miss { return .gap }
        let length = Int(found >> 24)
        if length > address.bits { return .foreign }
        if length < address.length { return .short }
        return found == value(address.high, address.low, length, found) ? .none : .foreign
    }

    private static func guarded(_ random: inout SeededRandom) -> [Guarded] {
        // Two clusters for each family, so that the guarded prefixes share nodes with each other and
        // with what comes and goes; guards end within bytes and between them.
        let four = (0..<24 as Range<UInt64>).map { number in
            let low = UInt64.random(in: 0..<65_536, using: &random)
            let address = (number % 2 == 0 ? 0x0A01_0000 : 0xC0A8_0000) | low
            return Guarded(high: address << 32, low: 0, isIPv6: false, length: [0, 8, 12, 16, 19, 24][Int(number) % 6])
        }
        let six = (0..<24 as Range<UInt64>).map { number in
            let high = 0x2001_0DB8_0000_0000 | UInt64.random(in: 0..<4, using: &random) << 16 | number % 3
            let low = UInt64.random(in: 0..<65_536, using: &random)
            return Guarded(high: high, low: low, isIPv6: true, length: [0, 16, 32, 45, 64, 100][Int(number) % 6])
        }
        return four + six
    }

    /// Looks every guarded address up; returns how many.
    private static func lookUp(_ addresses: [Guarded], in view: TrieView, faults: [Tally]) -> Int {
        for address in addresses {
            let found =
                address.isIPv6
                ? view.lookup(vrf: 1, ipv6: address.high, address.low)
                : view.lookup(vrf: 1, ipv4: UInt32(truncatingIfNeeded: address.high >> 32))
            switch fault(found, address) {
            case .none: break
            case .gap: faults[0].add()
            case .short: faults[1].add()
            case .foreign: faults[2].add()
            }
        }
        return addresses.count
    }

    @Test("no gap and no shorter match while prefixes are replaced, removed and added around an address")
    func readersDuringChurn() throws {
        let trie = try PrefixTrie(vrfs: 2, capacity: 4096)
        let publication = Publication(UnsafeRawPointer(bitPattern: 64)!, readerCount: 2)
        var random = SeededRandom(seed: 3)
        let addresses = Self.guarded(&random)
        var present: Set<IPPrefix> = [], strangers: [IPPrefix] = []
        /// The guards' lengths in use by address: one at least stays.
        var lengths: [Set<Int>] = addresses.map { [$0.length] }
        for address in addresses {
            let prefix = address.prefix(address.length)
            try trie.set(vrf: 1, prefix, Self.value(prefix, generation: 0), epoch: publication.epoch)
            present.insert(prefix)
        }
        let done = Flag()
        let faults = [Tally(), Tally(), Tally()], lookups = Tally()
        let view = trie.view
        let readers = tableReaders(of: publication, until: done, lookups: lookups) {
            Self.lookUp(addresses, in: view, faults: faults)
        }
        var changes = 0, refused = 0, mistakes = 0
        let end = ContinuousClock.now + soak
        func set(_ prefix: IPPrefix) -> Bool {
            let value = Self.value(prefix, generation: UInt32.random(in: 0..<256, using: &random))
            do {
                try trie.set(vrf: 1, prefix, value, epoch: publication.epoch)
                present.insert(prefix)
                return true
            } catch {
                refused += 1
                return false
            }
        }
        /// Whether other guarded addresses count on a prefix.
        func isNeeded(_ prefix: IPPrefix) -> Bool {
            addresses.indices.contains { index in
                lengths[index].contains(prefix.length) && addresses[index].prefix(prefix.length) == prefix
            }
        }
        func remove(_ prefix: IPPrefix) {
            guard present.contains(prefix), !isNeeded(prefix) else { return }
            if !trie.remove(vrf: 1, prefix, epoch: publication.epoch) { mistakes += 1 }
            present.remove(prefix)
        }
        while ContinuousClock.now < end || changes <= 1000 {
            for _ in 0..<64 {
                let index = Int.random(in: 0..<addresses.count, using: &random)
                let address = addresses[index]
                // One length takes another's place at once: first the new prefix, then the old one goes.
                let length = Int.random(in: address.length...address.bits, using: &random)
                if set(address.prefix(length)), let old = lengths[index].randomElement(using: &random), old != length {
                    lengths[index] = [length]
                    remove(address.prefix(old))
                }
                // Strangers beside it make its nodes be replaced, grow and collapse.
                let bit = Int.random(in: 0..<address.bits, using: &random)
                let stranger = Guarded(
                    high: address.high ^ (bit < 64 ? 1 << UInt64(63 - bit) : 0),
                    low: address.low ^ (bit < 64 ? 0 : 1 << UInt64(127 - bit)), isIPv6: address.isIPv6, length: 0)
                let other = stranger.prefix(Int.random(in: bit + 1...address.bits, using: &random))
                if present.contains(other) {
                    remove(other)
                } else if set(other) {
                    strangers.append(other)
                }
                if strangers.count > 1000 {
                    strangers.swapAt(Int.random(in: 0..<strangers.count, using: &random), strangers.count - 1)
                    remove(strangers.removeLast())
                }
                changes += 2
            }
            publication.advance()
            trie.reclaim(through: publication.reclaim())
        }
        done.set()
        for reader in readers { reader.join() }
        #expect(faults.map(\.count) == [0, 0, 0], "gaps, shorter matches, answers of other prefixes")
        #expect(mistakes == 0)
        #expect(lookups.count > 10_000 && changes > 1000 && refused * 10 < changes, "both sides ran")
        #expect(trie.count == present.count)
        trie.removeAll(vrf: 1, epoch: publication.epoch)
        trie.reclaim(through: publication.epoch)
        #expect(trie.nodes.used == 0)
    }

    @Test("a prefix that is only replaced never shows another value, also when its VRF's others all go")
    func replacementAlone() throws {
        let trie = try PrefixTrie(vrfs: 3, capacity: 1024)
        let publication = Publication(UnsafeRawPointer(bitPattern: 64)!, readerCount: 2)
        let kept = IPPrefix("10.1.2.0/24")!
        try trie.set(vrf: 1, kept, 1, epoch: publication.epoch)
        let done = Flag()
        let wrong = Tally(), lookups = Tally()
        let view = trie.view
        let readers = tableReaders(of: publication, until: done, lookups: lookups) {
            for host in 0..<64 as Range<UInt32> {
                let found = view.lookup(vrf: 1, ipv4: 0x0A01_0200 + host)
                if found != 1 && found != 2 { wrong.add() }
                // Of the other VRF: before, after, or gone as a whole.
                let other = view.lookup(vrf: 2, ipv4: 0x0A01_0200 + host)
                if other != BucketView.miss && other & 0xFFFF != 7 { wrong.add() }
            }
            return 128
        }
        var random = SeededRandom(seed: 5)
        let end = ContinuousClock.now + soak
        var round: UInt32 = 0
        while ContinuousClock.now < end || round <= 10 {
            round += 1
            for _ in 0..<40 {
                let prefix = IPPrefix(.v4(IPv4Address(rawValue: UInt32.random(in: 0x0A01_0000...0x0A01_FFFF, using: &random))),
                    length: Int.random(in: 15...32, using: &random))!.network
                try trie.set(vrf: 2, prefix, round << 16 | 7, epoch: publication.epoch)
                if !kept.contains(prefix.address) && !prefix.contains(kept.address) {
                    try trie.set(vrf: 1, prefix, 9, epoch: publication.epoch)
                    try trie.set(vrf: 1, kept, 1 + round & 1, epoch: publication.epoch)
                    trie.remove(vrf: 1, prefix, epoch: publication.epoch)
                }
            }
            if round % 8 == 0 { trie.removeAll(vrf: 2, epoch: publication.epoch) }
            publication.advance()
            trie.reclaim(through: publication.reclaim())
        }
        done.set()
        for reader in readers { reader.join() }
        #expect(wrong.count == 0)
        #expect(lookups.count > 10_000 && round > 10)
    }

    /// Two lengths that take turns around one address, and how many prefixes stand beside it.
    static let turns: [(shorter: Int, longer: Int, neighbours: Int)] = [
        (9, 30, 0), (16, 24, 0), (24, 25, 0), (20, 24, 3), (18, 23, 3), (16, 32, 3), (20, 24, 200), (17, 21, 200),
    ]

    @Test("a longer and a shorter prefix take turns, and no reader sees the default route", arguments: turns)
    func turn(shorter: Int, longer: Int, neighbours: Int) throws {
        let trie = try PrefixTrie(vrfs: 2, capacity: 1024)
        let publication = Publication(UnsafeRawPointer(bitPattern: 64)!, readerCount: 1)
        let address: UInt32 = 0x0A63_6363
        let prefixes = [shorter, longer].map { IPPrefix(.v4(IPv4Address(rawValue: address)), length: $0)!.network }
        try trie.set(vrf: 1, IPPrefix("0.0.0.0/0")!, 99, epoch: 1)
        for number in 0..<neighbours as Range<Int> where number != 0x63 {
            try trie.set(vrf: 1, IPPrefix("10.99.\(number).0/24")!, 98, epoch: 1)
        }
        try trie.set(vrf: 1, prefixes[0], 1, epoch: 1)
        let done = Flag()
        let wrong = Tally(), lookups = Tally()
        let view = trie.view, reader = publication.reader(0)
        let worker = TestThread {
            var count = 0
            while !done.isSet {
                reader.quiescent()
                for _ in 0..<32 {
                    let found = view.lookup(vrf: 1, ipv4: address)
                    if !(1...4).contains(found) { wrong.add() }
                }
                count += 32
            }
            reader.offline()
            lookups.add(count)
        }
        let end = ContinuousClock.now + soak / 4
        var round = 0
        while ContinuousClock.now < end || round <= 100 {
            for index in [1, 0] {
                try trie.set(vrf: 1, prefixes[index], UInt32(1 + index), epoch: publication.epoch)
                try trie.set(vrf: 1, prefixes[index], UInt32(3 + index), epoch: publication.epoch)
                trie.remove(vrf: 1, prefixes[1 - index], epoch: publication.epoch)
            }
            round += 1
            publication.advance()
            trie.reclaim(through: publication.reclaim())
        }
        done.set()
        worker.join()
        #expect(wrong.count == 0)
        #expect(lookups.count > 1000 && round > 100)
    }
}
