// The bucket table against a dictionary: random operations, full tables, overflow and long churn.

import CLinux
import Testing
import TestSupport

@testable import Tables

@Suite("Bucket table")
struct BucketTableTests {
    /// The table, its model, and the steps so far in case they disagree.
    struct World {
        var table: BucketTable
        var model: [UInt64: UInt32] = [:]
        var epoch: UInt64 = 1

        init(capacity: Int) throws { table = try BucketTable(name: "test", capacity: capacity) }

        func expectEqual(_ note: Comment) {
            var seen: [UInt64: UInt32] = [:]
            table.forEach { key, value in
                #expect(seen[key] == nil, "\(key) is there twice")
                seen[key] = value
            }
            #expect(seen == model, note)
            #expect(table.count == model.count, note)
            for (key, value) in model {
                let found = table.view.entry(of: key, in: table.view.bucket(of: key))
                #expect(found.value == value, note)
                #expect(Int(found.slot) < table.slotCount)
                #expect(table.entry(at: found.slot).map { $0 == (key, value) } == true, note)
            }
        }
    }

    @Test("random insertions, changes and deletions agree with a dictionary", arguments: 0..<24 as Range<UInt64>)
    func model(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let capacity = [16, 16, 40, 300].randomElement(using: &random)!
        var world = try World(capacity: capacity)
        // A small key space makes deletions and re-additions meet; capacity is exceeded on purpose.
        let keys = (0..<capacity * 2).map { _ in UInt64.random(in: 1..<UInt64.max, using: &random) }
        for step in 0..<4000 {
            let key = keys.randomElement(using: &random)!
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let value = UInt32.random(in: 0..<UInt32.max, using: &random)
                do throws(TableError) {
                    try world.table.set(key, value)
                    world.model[key] = value
                } catch {
                    #expect(world.model[key] == nil, "a change needs no room")
                    guard case .full(_, capacity) = error else { throw error }
                    #expect(world.table.value(of: key) == nil)
                }
            case 5..<8:
                #expect(world.table.remove(key, epoch: world.epoch) == (world.model.removeValue(forKey: key) != nil))
            case 8: world.epoch += 1
            default: world.table.reclaim(through: world.epoch - 1)
            }
            if world.table.value(of: key) != world.model[key] { Issue.record("seed \(seed) step \(step)") }
            if step % 200 == 0 { world.expectEqual("seed \(seed) step \(step)") }
        }
        world.expectEqual("seed \(seed) end")
    }

    @Test("a full table refuses a new key, takes changes and keeps what is there")
    func full() throws {
        var world = try World(capacity: 16)
        for key in 1...16 as ClosedRange<UInt64> {
            try world.table.set(key, UInt32(key))
            world.model[key] = UInt32(key)
        }
        #expect(throws: TableError.full(table: "test", limit: 16)) { try world.table.set(17, 17) }
        world.expectEqual("after the refusal")
        try world.table.set(3, 33)
        world.model[3] = 33
        world.expectEqual("after a change")
        world.table.remove(4, epoch: 1)
        try world.table.set(17, 17)
        world.model[4] = nil
        world.model[17] = 17
        world.expectEqual("after a deletion made room")
    }

    /// Keys that hash to one bucket of `table`.
    private func colliding(in table: BucketTable, count: Int) -> [UInt64] {
        let bucket = table.view.bucket(of: 1)
        return Array((1...).lazy.map(UInt64.init).filter { table.view.bucket(of: $0) == bucket }.prefix(count))
    }

    @Test("keys of one bucket chain through overflow buckets, and empty ones are given back")
    func overflow() throws {
        var world = try World(capacity: 200)
        let keys = colliding(in: world.table, count: 60)
        for key in keys {
            try world.table.set(key, UInt32(key))
            world.model[key] = UInt32(key)
        }
        #expect(world.table.overflowInUse == 11)
        world.expectEqual("a chain of twelve buckets")
        // Every other bucket's worth of keys, from the middle of the chain.
        for (index, key) in keys.enumerated() where index / 5 % 2 == 1 {
            world.table.remove(key, epoch: 1)
            world.model[key] = nil
            world.expectEqual("keys behind an emptied bucket are found")
        }
        #expect(world.table.overflowInUse == 11, "unlinked buckets rest until readers have passed")
        world.table.reclaim(through: 1)
        #expect(world.table.overflowInUse == 5)
        for key in keys where world.model[key] == nil {
            try world.table.set(key, 7)
            world.model[key] = 7
        }
        #expect(world.table.overflowInUse == 11)
        world.expectEqual("given back and used again")
    }

    @Test("churn of keys that never repeat does not use overflow buckets up")
    func churn() throws {
        let table = try BucketTable(name: "test", capacity: 1000)
        var random = SeededRandom(seed: 1)
        var live: [UInt64] = []
        for step in 0..<400_000 {
            if live.count == 1000 {
                let index = Int.random(in: 0..<live.count, using: &random)
                table.remove(live[index], epoch: UInt64(step))
                live.swapAt(index, live.count - 1)
                live.removeLast()
                // Readers are some steps behind.
                table.reclaim(through: UInt64(max(0, step - 20)))
            }
            let key = UInt64.random(in: 1..<UInt64.max, using: &random)
            try table.set(key, 1)
            live.append(key)
        }
        #expect(table.count == 1000)
    }

    @Test(
        "MACs and domains that count up together fill a table to its capacity",
        arguments: [(5000, 16), (4096, 64), (20_000, 1), (20_000, 100), (65_536, 256)])
    func structuredKeys(count: Int, domains: Int) throws {
        let table = try BucketTable(name: "test", capacity: count)
        for number in 0..<count {
            // Counted in the last bytes of the MAC, which are the upper ones of the key's word.
            let mac = UInt64(0x02AA_0000_0000 | number).byteSwapped >> 16
            try table.set(FDBKey.make(domain: UInt16(number % domains + 1), mac: mac), UInt32(number))
        }
        #expect(table.count == count)
        // At half load few chains: keys spread as if at random.
        #expect(table.overflowInUse < Int(table.view.primaryCount) / 16)
    }

    @Test("a deleted key's slot is not used again before its epoch has passed")
    func grace() throws {
        let table = try BucketTable(name: "test", capacity: 100)
        let keys = colliding(in: table, count: 7)
        for key in keys[0..<5] { try table.set(key, 1) }
        let slot = try #require(table.slot(of: keys[2]))
        table.remove(keys[2], epoch: 9)
        #expect(table.entry(at: slot) == nil)
        try table.set(keys[5], 2)
        #expect(table.slot(of: keys[5]) != slot)
        table.reclaim(through: 8)
        try table.set(keys[6], 3)
        #expect(table.slot(of: keys[6]) != slot)
        table.reclaim(through: 9)
        table.remove(keys[6], epoch: 10)
        try table.set(keys[6], 3)
        #expect(table.slot(of: keys[6]) == slot)
    }

    @Test("keys that mean empty or deleted are never found")
    func reservedKeys() throws {
        let table = try BucketTable(name: "test", capacity: 16)
        try table.set(5, 1)
        table.remove(5, epoch: 1)
        for key in [0, BucketTable.tombstone] {
            #expect(table.value(of: key) == nil)
            #expect(table.slot(of: key) == nil)
            #expect(!table.remove(key, epoch: 1))
        }
        #expect(table.entry(at: UInt32(table.slotCount)) == nil)
    }

    @Test("the key match finds exactly the equal keys of a bucket")
    func match() {
        let bucket = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
        defer { bucket.deallocate() }
        for pattern in 0..<32 as Range<UInt32> {
            for word in 0..<8 { bucket.storeBytes(of: 0, toByteOffset: word * 8, as: UInt64.self) }
            for index in 0..<5 {
                // The others differ in the highest or the lowest bit only.
                let key: UInt64 = pattern >> index & 1 == 1 ? 77 : index % 2 == 0 ? 76 : 77 | 1 << 63
                bucket.storeBytes(of: key, toByteOffset: index * 8, as: UInt64.self)
            }
            #expect(pe_match5(bucket, 77) == pattern)
        }
    }
}
