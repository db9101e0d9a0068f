// Learn rings and ageing marks on one thread, and counters.

import CLinux
import Testing
import Wire

@testable import Tables

@Suite("Learn ring")
struct LearnRingTests {
    private let rings: LearnRings
    /// The rings own its memory.
    private var ring: LearnRing { rings.workers[0] }
    init() throws { rings = try LearnRings(limits: TableLimits(workers: 2), slotCount: 100) }

    private static func event(_ number: UInt32) -> LearnEvent {
        LearnEvent(mac: MACAddress(rawValue: UInt64(number) << 8 | 2), domain: 7, circuit: number)
    }

    @Test("takes its capacity, refuses the next, and goes on when one was taken out")
    func full() {
        #expect(ring.pop() == nil)
        for round in 0..<3 as Range<UInt32> {
            let base = round * 10_000
            for number in 0..<UInt32(TableLimits.learnRing) { #expect(ring.push(Self.event(base + number))) }
            #expect(!ring.push(Self.event(1)))
            #expect(ring.pop() == Self.event(base))
            #expect(ring.push(Self.event(base + 4096)))
            #expect(!ring.push(Self.event(1)))
            for number in 1...4096 as ClosedRange<UInt32> { #expect(ring.pop() == Self.event(base + number)) }
            #expect(ring.pop() == nil)
        }
    }

    @Test("an event's fields survive the ring at their extremes")
    func extremes() {
        let event = LearnEvent(mac: .broadcast, domain: UInt16.max, circuit: UInt32.max)
        #expect(ring.push(event) && ring.pop() == event)
    }

    @Test("a MAC on a circuit is news once per stamp, on each circuit and after it was forgotten")
    func news() {
        let key = FDBKey.make(domain: 3, mac: 0x0200_0000_0001)
        #expect(ring.isNews(key: key, circuit: 1, stamp: 1))
        #expect(!ring.isNews(key: key, circuit: 1, stamp: 1))
        #expect(ring.isNews(key: key, circuit: 2, stamp: 1), "it moved")
        #expect(ring.isNews(key: key, circuit: 2, stamp: 2), "another round")
        #expect(!ring.isNews(key: key, circuit: 2, stamp: 2))
        ring.forget(key: key, circuit: 2)
        #expect(ring.isNews(key: key, circuit: 2, stamp: 2), "the ring was full")
    }

    @Test("many MACs: each is reported at least once a stamp, and repeats are rare")
    func dedupe() {
        var reported = 0
        for round in 0..<100 {
            for mac in 0..<64 as Range<UInt64> {
                let isNews = ring.isNews(key: FDBKey.make(domain: 1, mac: mac << 40 | 2), circuit: 1, stamp: 1)
                if round == 0 { #expect(isNews) }
                if isNews { reported += 1 }
            }
        }
        #expect(reported < 64 * 100 / 2)
    }

    @Test("a mark is of its period, its slot and its worker")
    func marks() {
        let first = rings.workers[0], second = rings.workers[1]
        let period = first.currentPeriod
        #expect(period == 1 && rings.currentPeriod == 1)
        first.mark(10, period)
        second.mark(99, period)
        #expect(rings.slotsSeen(inPeriod: period) == [10, 99])
        #expect(rings.advancePeriod() == period)
        #expect(second.currentPeriod == period + 1)
        second.mark(10, second.currentPeriod)
        #expect(rings.slotsSeen(inPeriod: period + 1) == [10])
        #expect(rings.wasSeen(slot: 10, inPeriod: period), "the first worker saw it in the period before")
        rings.clearMarks(slot: 10)
        #expect(!rings.wasSeen(slot: 10, inPeriod: period) && !rings.wasSeen(slot: 10, inPeriod: period + 1))
    }

    @Test("periods run from 1 to 255 and never reach 0, which is never")
    func periods() {
        for expected in 1...255 as ClosedRange<UInt8> { #expect(rings.advancePeriod() == expected) }
        #expect(rings.currentPeriod == 1)
    }
}

@Suite("Counters")
struct CounterTests {
    @Test("every counter has words of its own in every worker")
    func distinct() throws {
        let limits = TableLimits(domains: 3, ports: 3, workers: 2)
        let counters = try Counters(limits: limits)
        var next: UInt64 = 1
        for worker in counters.workers {
            for counter in TotalCounter.allCases { worker.add(counter, next); next += 1 }
            for reason in DropReason.allCases { worker.add(reason, next); next += 1 }
            for port in 0..<3 as Range<UInt16> {
                for counter in PortCounter.allCases { worker.add(port: port, counter, next); next += 1 }
            }
        }
        next = 1
        for worker in counters.workers {
            for counter in TotalCounter.allCases { #expect(worker.value(counter) == next); next += 1 }
            for reason in DropReason.allCases { #expect(worker.value(reason) == next); next += 1 }
            for port in 0..<3 as Range<UInt16> {
                for counter in PortCounter.allCases { #expect(worker.value(port: port, counter) == next); next += 1 }
            }
            for domain in 0..<3 as Range<UInt16> {
                for counter in DomainCounter.allCases { #expect(worker.value(domain: domain, counter) == 0) }
            }
        }
    }

    @Test("packets and bytes are counted together, summed over workers and cleared by index")
    func pairs() throws {
        let counters = try Counters(limits: TableLimits(domains: 3, ports: 3, workers: 2))
        for worker in counters.workers {
            worker.add(port: 1, .rxPackets, packets: 3, bytes: 300)
            worker.add(domain: 2, .tunnelOutPackets, bytes: 64)
            worker.add(domain: 1, .circuitInPackets, bytes: 10)
        }
        #expect(counters.total(port: 1, .rxPackets) == 6 && counters.total(port: 1, .rxBytes) == 600)
        #expect(counters.total(domain: 2, .tunnelOutPackets) == 2 && counters.total(domain: 2, .tunnelOutBytes) == 128)
        counters.clear(domain: 2)
        counters.clear(port: 1)
        #expect(counters.total(domain: 2, .tunnelOutPackets) == 0 && counters.total(domain: 2, .tunnelOutBytes) == 0)
        #expect(counters.total(port: 1, .rxPackets) == 0)
        #expect(counters.total(domain: 1, .circuitInBytes) == 20)
    }

    @Test("balanced when every packet has ended once: sent, punted or dropped")
    func balance() throws {
        let counters = try Counters(limits: TableLimits(domains: 2, ports: 1))
        let worker = counters.workers[0]
        #expect(counters.isBalanced)
        worker.add(.received, 5)
        worker.add(.replicated, 2)
        #expect(!counters.isBalanced)
        worker.add(.sent, 3)
        worker.add(.punted, 1)
        worker.add(DropReason.unknownVNI, 2)
        #expect(!counters.isBalanced)
        worker.add(DropReason.noBuffer, 1)
        #expect(counters.isBalanced && counters.dropped == 3)
    }
}
