// A worker reads while the control thread inserts, deletes and re-adds as fast as it can.

import CLinux
import Glibc
import Synchronization
import Testing
import TestSupport
import TestThreads
import Wire

@testable import Tables

let soak: Duration = .seconds(2)

@Suite("One writer, many readers")
struct ConcurrentTableTests {
    /// A value that only `key` may have: its lower half mixed, in `generation`.
    static func value(_ key: UInt64, _ generation: UInt32) -> UInt32 {
        UInt32(truncatingIfNeeded: key) << 8 | generation & 0xFF
    }
    static func belongs(_ value: UInt32, to key: UInt64) -> Bool {
        value >> 8 == UInt32(truncatingIfNeeded: key) & 0xFF_FFFF
    }

    @Test("a key never yields another's value, and a key that stays never misses")
    func readersDuringChurn() throws {
        let table = try BucketTable(name: "test", capacity: 400)
        let publication = Publication(UnsafeRawPointer(bitPattern: 64)!, readerCount: 2)
        // Few buckets, so that slots and overflow buckets are used over and over again.
        let stable = (1...100).map(UInt64.init), moving = (1001...1300).map(UInt64.init)
        for key in stable { try table.set(key, Self.value(key, 0)) }
        let done = Flag()
        let view = table.view
        let wrong = Tally(), missed = Tally(), hits = Tally()
        let readers = tableReaders(of: publication, until: done, lookups: hits) {
            var seen = 0
            for key in stable {
                let found = view.value(of: key, in: view.bucket(of: key))
                if found == BucketView.miss { missed.add() }
                else if !Self.belongs(found, to: key) { wrong.add() }
            }
            for key in moving {
                let found = view.entry(of: key, in: view.bucket(of: key))
                if found.value == BucketView.miss { continue }
                if !Self.belongs(found.value, to: key) { wrong.add() }
                seen += 1
            }
            return seen
        }
        var random = SeededRandom(seed: 7)
        var refused = 0, operations = 0
        let end = ContinuousClock.now + soak
        while ContinuousClock.now < end {
            for _ in 0..<100 {
                let key = moving.randomElement(using: &random)!
                let generation = UInt32.random(in: 0..<256, using: &random)
                if Bool.random(using: &random) {
                    do { try table.set(key, Self.value(key, generation)) } catch { refused += 1 }
                } else {
                    table.remove(key, epoch: publication.epoch)
                }
                let kept = stable.randomElement(using: &random)!
                try table.set(kept, Self.value(kept, generation))
                operations += 2
            }
            publication.advance()
            table.reclaim(through: publication.reclaim())
        }
        done.set()
        for reader in readers { reader.join() }
        withExtendedLifetime(table) {}
        #expect(wrong.count == 0)
        #expect(missed.count == 0)
        #expect(hits.count > 1000 && operations > 1000, "both sides ran")
        _ = refused  // While readers lag, resting slots may leave no room; that is allowed.
    }

    /// A snapshot whose words all say the same, until it is freed.
    private static func snapshot(_ generation: UInt64) -> UnsafeMutablePointer<UInt64> {
        let words = UnsafeMutablePointer<UInt64>.allocate(capacity: 64)
        words.initialize(repeating: generation, count: 64)
        return words
    }

    @Test("no reader sees a torn or freed snapshot, and every retired one is freed")
    func publication() {
        let first = Self.snapshot(1)
        let publication = Publication(UnsafeRawPointer(first), readerCount: 2)
        let done = Flag()
        let bad = Tally(), reads = Tally(), freed = Tally()
        let readers = (0..<2).map { index in
            let reader = publication.reader(index)
            return TestThread {
                var last: UInt64 = 0, count = 0
                while !done.isSet {
                    reader.quiescent()
                    let words = reader.current.assumingMemoryBound(to: UInt64.self)
                    let generation = words[0]
                    if generation < last || generation == 0 { bad.add() }
                    for word in 1..<64 where words[word] != generation { bad.add() }
                    last = generation
                    count += 1
                    if index == 1 && count % 64 == 0 { reader.offline() }
                }
                reader.offline()
                reads.add(count)
            }
        }
        var current = first
        var generation: UInt64 = 1
        let end = ContinuousClock.now + soak
        while ContinuousClock.now < end {
            generation += 1
            let next = Self.snapshot(generation)
            let old = current
            publication.publish(UnsafeRawPointer(next)) {
                old.update(repeating: 0, count: 64)
                old.deallocate()
                freed.add()
            }
            current = next
            publication.reclaim()
        }
        done.set()
        for reader in readers { reader.join() }
        publication.reclaim()
        #expect(bad.count == 0)
        #expect(reads.count > 1000 && generation > 1000)
        #expect(publication.retiredCount == 0)
        #expect(freed.count == Int(generation) - 1)
        current.deallocate()
    }

    @Test("one consumer gets a worker's learn events in order, and each lost one was refused")
    func learnRing() throws {
        let rings = try LearnRings(limits: TableLimits(), slotCount: 64)
        let ring = rings.workers[0]
        let total: UInt32 = 300_000
        let refused = Tally()
        let finished = Flag()
        let worker = TestThread {
            var lost = 0
            for number in 1...total {
                let event = LearnEvent(mac: MACAddress(rawValue: UInt64(number)), domain: 9, circuit: number)
                if !ring.push(event) { lost += 1 }
            }
            refused.add(lost)
            finished.set()
        }
        var received = 0, disordered = 0, torn = 0, last: UInt32 = 0
        while true {
            let wasFinished = finished.isSet
            guard let event = ring.pop() else {
                if wasFinished { break }
                continue
            }
            if event.circuit <= last { disordered += 1 }
            if event.mac.rawValue != UInt64(event.circuit) || event.domain != 9 { torn += 1 }
            last = event.circuit
            received += 1
        }
        worker.join()
        withExtendedLifetime(rings) {}
        #expect(received + refused.count == Int(total))
        #expect(disordered == 0 && torn == 0)
        #expect(received >= 4096)
    }

    @Test("the whole tables: a worker's snapshot is consistent while everything changes")
    func forwardingTables() throws {
        var limits = TableLimits(macs: 64, domains: 8, vteps: 64, circuits: 32, ports: 8)
        limits.workers = 1
        let tables = try ForwardingTables(limits: limits)
        let reader = tables.reader(worker: 0)
        let done = Flag()
        let bad = Tally(), rounds = Tally()
        let worker = TestThread {
            var count = 0
            while !done.isSet {
                reader.quiescent()
                let state = reader.current.assumingMemoryBound(to: ForwardingState.self).pointee
                for port in 0..<Int(state.portCount) {
                    let entry = state.ports[port]
                    guard let table = entry.vlanCircuits else { continue }
                    for vlan in 0..<4096 where table[vlan] != PortEntry.noCircuit {
                        let circuit = state.circuits[Int(table[vlan])]
                        if !circuit.isUsed || Int(circuit.vlan) != vlan || Int(circuit.port) != port { bad.add() }
                    }
                }
                for domain in 1..<8 where state.domains[domain].isUsed {
                    guard let flood = state.domains[domain].flood else { continue }
                    for index in 0..<flood.circuitCount where flood.circuit(index) >= 32 { bad.add() }
                    for index in 0..<flood.tunnelCount {
                        let tunnel = state.tunnels[Int(flood.tunnel(index))]
                        if tunnel.unusable != nil { continue }
                        withUnsafePointer(to: tunnel) {
                            let adjacency = state.adjacency(of: $0, hash: UInt32(truncatingIfNeeded: count))
                            if adjacency.headerByteCount != 50 || adjacency.port > 7 { bad.add() }
                        }
                    }
                }
                count += 1
            }
            reader.offline()
            rounds.add(count)
        }
        var churn = try TableChurn(tables: tables, seed: 11)
        let end = ContinuousClock.now + soak
        while ContinuousClock.now < end { try churn.step() }
        done.set()
        worker.join()
        #expect(bad.count == 0)
        #expect(rounds.count > 10)
        tables.publish()
        #expect(tables.publication.retiredCount == 0)
    }
}
