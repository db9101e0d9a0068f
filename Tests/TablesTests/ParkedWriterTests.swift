// That a worker never waits for the writer: it answers while the writer stands still in the middle of a change.

import CLinux
import Glibc
import Testing
import TestThreads
import Wire

@testable import Tables

/// Words of the handler that parks a writer: wanted parking, reached, released, and whether the writer is
/// in a change.
private nonisolated(unsafe) let gate: UnsafeMutablePointer<UInt64> = {
    let words = UnsafeMutablePointer<UInt64>.allocate(capacity: 64)
    words.initialize(repeating: 0, count: 64)
    return words
}()
private enum Gate { static let wanted = 0, reached = 8, released = 16, inChange = 24, go = 32, done = 40 }

/// On the writer's thread, wherever it is: stays until it is released. No call that takes a lock.
private func park(_: Int32) {
    let wanted = pe_load64(gate + Gate.wanted)
    pe_store64(gate + Gate.reached, wanted)
    while pe_load64(gate + Gate.released) < wanted { sched_yield() }
}

/// One lookup and what may come of it.
private struct Probe {
    enum Table { case fdb, host, prefix }
    var table: Table
    var mac = MACAddress.zero
    var address = IPAddress.v4(IPv4Address(rawValue: 0))
    /// Numbers in the answer's index above the generation; the other one is that of a longer prefix.
    var number: UInt32
    var other: UInt32?
    /// Its entry is changed, but never removed: there is always an answer.
    var isKept: Bool
    static let missing: UInt64 = 1 << 32

    func isRight(_ state: UnsafePointer<ForwardingState>) -> Bool {
        let found: UInt32
        switch table {
        case .fdb:
            let key = FDBKey.make(domain: 1, mac: mac.rawValue)
            found = state.pointee.fdb.value(of: key, in: state.pointee.fdb.bucket(of: key))
        case .host: found = state.pointee.hosts.value(1, address)
        case .prefix:
            switch address {
            case .v4(let v4): found = state.pointee.prefixes.lookup(vrf: 1, ipv4: v4.rawValue)
            case .v6(let v6): found = state.pointee.prefixes.lookup(vrf: 1, ipv6: v6.high, v6.low)
            }
        }
        if found == BucketView.miss { return !isKept }
        let answer = (found & 0xFF_FFFF) >> 8
        return answer == number || answer == other
    }
}

@Suite("A writer that stands still", .serialized)
struct ParkedWriterTests {
    private static let count = 48
    private static let limits = TableLimits(
        macs: 4096, domains: 8, vteps: 64, circuits: 32, ports: 8, workers: 1)
    /// How often the writer is stopped, each time somewhere else.
    private static let parkings: UInt64 = 400

    private static func mac(_ number: Int) -> MACAddress { MACAddress(rawValue: 0x0200_0000_0000 | UInt64(number)) }
    private static func host(_ number: Int) -> IPAddress {
        number % 2 == 0
            ? .v4(IPv4Address(rawValue: 0x0A00_0001 + UInt32(number)))
            : .v6(IPv6Address(high: 0x2001_0DB8 << 32, low: UInt64(number)))
    }
    /// A prefix for each number, and one inside it that comes and goes.
    private static func prefix(_ number: Int, inner: Bool) -> IPPrefix {
        let address: IPAddress =
            number % 2 == 0
            ? .v4(IPv4Address(rawValue: 0x1400_0000 + UInt32(number) << 8))
            : .v6(IPv6Address(high: 0x2001_0DB8_0000_0000 | UInt64(number), low: 0))
        return IPPrefix(address, length: (number % 2 == 0 ? 24 : 64) + (inner ? 3 : 0))!
    }

    /// Even thirds: entries up to half of ``count`` are kept, the others come and go.
    private static func probes() -> [Probe] {
        (0..<count).flatMap { number in
            let isKept = number < count / 2
            let value = UInt32(number + 1)
            return [
                Probe(table: .fdb, mac: mac(number), number: value, isKept: isKept),
                Probe(table: .host, address: host(number), number: value, isKept: isKept),
                Probe(
                    table: .prefix, address: prefix(number, inner: true).address, number: value,
                    other: value + 1000, isKept: isKept),
            ]
        }
    }

    /// One pass over all entries; what is kept never fails to find room.
    private static func change(_ tables: ForwardingTables, _ generation: Int, tunnel: UInt32) throws(TableError) {
        for number in 0..<count {
            pe_store64(gate + Gate.inChange, 1)
            let index = UInt32(number + 1) << 8 | UInt32(generation & 0xFF)
            let inner = prefix(number, inner: true)
            if number >= count / 2 && generation % 2 == 1 {
                tables.removeMAC(domain: 1, mac(number))
                tables.removeRoute(vrf: 1, IPPrefix(host: host(number)))
                tables.removeRoute(vrf: 1, prefix(number, inner: false))
            } else {
                do {
                    try tables.setMAC(domain: 1, mac(number), .tunnel(index))
                    try tables.setRoute(vrf: 1, IPPrefix(host: host(number)), .hop(index))
                    try tables.setRoute(vrf: 1, prefix(number, inner: false), .hop(index))
                } catch where number >= count / 2 {
                    // What comes and goes may find no room, as long as the reader has not passed.
                }
            }
            if generation % 3 == 0 {
                tables.removeRoute(vrf: 1, inner)
            } else {
                try? tables.setRoute(vrf: 1, inner, .hop(index + 1000 << 8))
            }
            pe_store64(gate + Gate.inChange, 0)
        }
        pe_store64(gate + Gate.inChange, 1)
        tables.setPaths(tunnel: tunnel, [], unusable: generation % 2 == 0 ? .noUnderlayRoute : nil)
        tables.publish()
        pe_store64(gate + Gate.inChange, 0)
    }

    private static func reader(_ reader: PublicationReader, until done: Flag, wrong: Tally) -> TestThread {
        let probes = probes()
        return TestThread {
            var last: UInt64 = 0
            while !done.isSet {
                let wanted = pe_load64(gate + Gate.go)
                if wanted == last {
                    reader.quiescent()
                    sched_yield()
                    continue
                }
                reader.quiescent()
                let state = UnsafePointer(reader.current.assumingMemoryBound(to: ForwardingState.self))
                var faults = 0
                for index in probes.indices where !probes[index].isRight(state) { faults += 1 }
                if faults > 0 { wrong.add(faults) }
                last = wanted
                pe_store64(gate + Gate.done, wanted)
            }
            reader.offline()
        }
    }

    /// Waits for a word without allocating: who is parked may hold the allocator's lock. False after half a minute or so.
    private static func wait(_ word: Int, _ value: UInt64) -> Bool {
        for _ in 0..<400_000 {
            if pe_load64(gate + word) == value { return true }
            usleep(50)
        }
        return false
    }

    // ThreadSanitizer delivers signals at calls of its own choice, not where the writer is.
    @Test(
        "lookups are answered, rightly, while it is parked in a change",
        .enabled(if: getenv("PE_EXPECT_SCALAR_MATCH") == nil))
    func parked() throws {
        let tables = try ForwardingTables(limits: Self.limits)
        _ = try tables.addDomain(BridgeDomain(vni: try #require(VNI(100)), vxlanPort: 4789))
        let tunnel = try tables.tunnel(to: .v4(IPv4Address(rawValue: 0x6441_0002)))
        try Self.change(tables, 0, tunnel: tunnel)
        var action = sigaction()
        var before = sigaction()
        action.__sigaction_handler.sa_handler = park
        action.sa_flags = SA_RESTART
        #expect(sigaction(SIGURG, &action, &before) == 0)
        defer { sigaction(SIGURG, &before, nil) }
        let done = Flag()
        let ready = Flag()
        let wrong = Tally()
        let refused = Tally()
        let identity = Tally()
        let box = UncheckedBox(tables)
        let writer = TestThread {
            // Tests run on threads that block signals, and this one inherits that.
            var signals = sigset_t()
            sigemptyset(&signals)
            sigaddset(&signals, SIGURG)
            pthread_sigmask(SIG_UNBLOCK, &signals, nil)
            identity.set(Int(bitPattern: UInt(pthread_self())))
            ready.set()
            var generation = 1
            while !done.isSet {
                do { try Self.change(box.value, generation, tunnel: tunnel) } catch { refused.add() }
                generation += 1
            }
        }
        let reader = Self.reader(tables.reader(worker: 0), until: done, wrong: wrong)
        while !ready.isSet { usleep(50) }
        let thread = pthread_t(UInt(bitPattern: identity.count))
        var answered: UInt64 = 0
        var inChange = 0
        for parking in 1...Self.parkings {
            pe_store64(gate + Gate.wanted, parking)
            pthread_kill(thread, SIGURG)
            guard Self.wait(Gate.reached, parking) else { break }
            inChange += Int(pe_load64(gate + Gate.inChange))
            pe_store64(gate + Gate.go, parking)
            let isDone = Self.wait(Gate.done, parking)
            pe_store64(gate + Gate.released, parking)
            guard isDone else { break }
            answered = parking
        }
        done.set()
        pe_store64(gate + Gate.released, UInt64.max)
        writer.join()
        reader.join()
        #expect(answered == Self.parkings, "the reader waits for the writer")
        #expect(wrong.count == 0)
        #expect(refused.count == 0)
        #expect(inChange > Int(Self.parkings) / 4, "too seldom parked in a change to show anything")
    }

    @Test("counted lookups give the same answers, and read a bounded number of words")
    func counted() throws {
        let tables = try ForwardingTables(limits: Self.limits)
        let tunnel = try tables.tunnel(to: .v4(IPv4Address(rawValue: 0x6441_0002)))
        for generation in 0..<6 { try Self.change(tables, generation, tunnel: tunnel) }
        let reader = tables.reader(worker: 0)
        reader.quiescent()
        let state = UnsafePointer(reader.current.assumingMemoryBound(to: ForwardingState.self)).pointee
        for number in 0..<Self.count + 16 {
            let key = FDBKey.make(domain: 1, mac: Self.mac(number).rawValue)
            let counted = state.fdb.countedValue(of: key)
            #expect(counted.value == state.fdb.value(of: key, in: state.fdb.bucket(of: key)))
            #expect((1...3).contains(counted.buckets))
            switch Self.prefix(number, inner: true).address {
            case .v4(let v4):
                let found = state.prefixes.countedLookup(vrf: 1, ipv4: v4.rawValue)
                #expect(found.value == state.prefixes.lookup(vrf: 1, ipv4: v4.rawValue))
                #expect((1...9).contains(found.words))
            case .v6(let v6):
                let found = state.prefixes.countedLookup(vrf: 1, ipv6: v6.high, v6.low)
                #expect(found.value == state.prefixes.lookup(vrf: 1, ipv6: v6.high, v6.low))
                #expect((1...33).contains(found.words))
            }
        }
        reader.offline()
    }
}

/// Tables that one thread changes and another set up.
private struct UncheckedBox<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}
