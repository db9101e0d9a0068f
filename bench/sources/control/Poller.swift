// A worker's side of the stall measurement: polls without pause, and notes each long turn with what can explain it.

import CGaps
import CLinux
import Glibc
import Tables
import Wire

/// Who writes just now; in memory that the writer, its twin and the poller share.
struct Phase {
    static let none = 0, twin = 1, writer = 2, count = 3
    static let names = ["handover", "dummy", "busy"]
}

/// A turn that took longer than ``PollLog/noteMicroseconds``.
struct LongTurn {
    var begin: UInt64
    var ticks: UInt64
    /// A ``Phase``, at its begin.
    var phase: UInt8
    /// The kernel was entered by an interrupt or a fault.
    var isInterrupted: Bool
    var switches: UInt32
    var faults: UInt32
    /// Interrupts from other CPUs since the long turn before this, and the kernel's count could be read.
    var sent: UInt32?
}

/// How long turns took, by phase: buckets of 100 ns up to 100 µs, and one for what is longer.
struct PollLog {
    static let bucketCount = 1001
    /// From here on a turn is a stall.
    static let stallMicroseconds = 10.0
    /// From here on it is noted: the machine's clocks show in the shorter ones, too.
    static let noteMicroseconds = 4.0
    static let longTurnLimit = 1 << 18
    private(set) var buckets = [[UInt64]](
        repeating: [UInt64](repeating: 0, count: PollLog.bucketCount), count: Phase.count)
    private(set) var ticks = [UInt64](repeating: 0, count: Phase.count)
    private(set) var polls = [UInt64](repeating: 0, count: Phase.count)
    private(set) var longTurns: [LongTurn] = []
    /// Long turns that there was no room for.
    private(set) var lost = 0
    let ticksPerMicrosecond: Double

    init(ticksPerMicrosecond: Double) {
        self.ticksPerMicrosecond = ticksPerMicrosecond
        // Touched now: a page fault while a turn is noted would look like one of the turn.
        let empty = LongTurn(
            begin: 0, ticks: 0, phase: 0, isInterrupted: false, switches: 0, faults: 0, sent: nil)
        longTurns = [LongTurn](repeating: empty, count: Self.longTurnLimit)
        longTurns.removeAll(keepingCapacity: true)
    }
    @inline(__always) mutating func add(_ turn: UInt64, _ phase: Int) {
        let bucket = Int(Double(turn) * (10 / ticksPerMicrosecond))
        buckets[phase][min(bucket, Self.bucketCount - 1)] += 1
        ticks[phase] += turn
        polls[phase] += 1
    }
    mutating func note(_ turn: LongTurn) {
        if longTurns.count < Self.longTurnLimit { longTurns.append(turn) } else { lost += 1 }
    }
    func percentile(_ phase: Int, _ part: Double) -> Double {
        let wanted = UInt64((Double(polls[phase]) * part).rounded(.up))
        var sum: UInt64 = 0
        for (index, bucket) in buckets[phase].enumerated() {
            sum += bucket
            if sum >= wanted { return Double(index + 1) / 10 }
        }
        return Double(Self.bucketCount) / 10
    }
}

/// What lookups read, at most, in turns that counted it.
struct StepLimits {
    var turns = 0
    /// Cache lines of a hash table for one lookup.
    var buckets = 0
    /// Words of the prefix trie for one lookup.
    var words = 0
    /// Both for all lookups of a turn.
    var turn = 0
}

/// One run of polling: each turn looks up a burst of MACs, host routes and prefixes, to the outer header.
final class Poller: @unchecked Sendable {
    private let fabric: Fabric
    private let shared: Shared
    private let phase: UnsafeMutablePointer<UInt64>
    private let reader: PublicationReader
    private let tunnelLimit: Int
    /// Entries that are looked up; the first ones of the fabric.
    private let reach: (routes: Int, macs: Int, prefixes: Int)
    private let keys = UnsafeMutablePointer<Key>.allocate(capacity: Poller.burst)
    private var random: UInt64 = 0x9E37_79B9_7F4A_7C15
    private(set) var log: PollLog
    private(set) var steps = StepLimits()
    private var sum: UInt64 = 0
    static let burst = 32
    /// One turn in so many counts its steps.
    private static let countedEvery: UInt64 = 16

    private struct Key {
        var vrf: UInt16 = 0
        var host = IPAddress.v4(IPv4Address(rawValue: 0))
        var mac: UInt64 = 0
        var prefixVRF: UInt16 = 0
        var prefix: UInt32 = 0
        var hash: UInt32 = 0
    }

    /// - Parameter reach: entries of each kind that are looked up; nil for all.
    init(
        _ fabric: Fabric, _ tables: ForwardingTables, _ shared: Shared, phase: UnsafeMutablePointer<UInt64>,
        reach: Int?, ticksPerMicrosecond: Double
    ) {
        self.fabric = fabric
        self.shared = shared
        self.phase = phase
        let most = reach ?? Int.max
        self.reach = (min(fabric.routes, most), min(fabric.macs, most), min(fabric.prefixes, most))
        reader = tables.reader(worker: 0)
        tunnelLimit = tables.limits.vteps
        log = PollLog(ticksPerMicrosecond: ticksPerMicrosecond)
        keys.initialize(repeating: Key(), count: Self.burst)
    }
    deinit { keys.deallocate() }

    /// Polls until ``Shared/stops``.
    func poll(cpu: Int) {
        let noted = UInt64(PollLog.noteMicroseconds * log.ticksPerMicrosecond)
        var known = Known(cpu: cpu)
        var now = Int(pe_load64(phase))
        var turn: UInt64 = 0
        gap_arm()
        shared.runs = true
        var last = pe_tsc()
        while !shared.stops {
            if turn % Self.countedEvery == 0 { countedTurn() } else { lookUp() }
            turn &+= 1
            let end = pe_tsc()
            let isInterrupted = gap_interrupted() != 0
            log.add(end &- last, now)
            let begin = last
            last = end
            if end &- begin > noted {
                log.note(known.explain(begin, end &- begin, now, isInterrupted, stall: log.ticksPerMicrosecond * 10))
                known.forget()
                gap_arm()
                last = pe_tsc()
            } else if isInterrupted {
                gap_arm()
            }
            now = Int(pe_load64(phase))
        }
        reader.offline()
        known.close()
        pe_store64(phase + 8, sum)
    }

    private func pick(_ state: UnsafePointer<ForwardingState>) {
        for index in 0..<Self.burst {
            random ^= random << 13
            random ^= random >> 7
            random ^= random << 17
            let number = Int(truncatingIfNeeded: random >> 2)
            var key = Key()
            key.hash = UInt32(truncatingIfNeeded: random >> 8)
            if reach.routes > 0 {
                let route = number % reach.routes
                key.vrf = UInt16(fabric.vrf(ofRoute: route) + 1)
                key.host = fabric.host(route)
            }
            if reach.macs > 0 {
                let mac = number % reach.macs
                key.mac = FDBKey.make(domain: UInt16(fabric.domain(ofMAC: mac) + 1), mac: fabric.mac(mac).rawValue)
            }
            if reach.prefixes > 0 {
                let prefix = number % reach.prefixes
                key.prefixVRF = UInt16(prefix % fabric.vrfs + 1)
                key.prefix = 0x1400_0001 + UInt32(prefix / fabric.vrfs) << 8
            }
            pe_prefetch(state.pointee.fdb.bucket(of: key.mac))
            pe_prefetch(state.pointee.hosts.table.bucket(of: HostKey.make(key.vrf, key.host)))
            state.pointee.prefixes.prefetch(vrf: key.prefixVRF)
            keys[index] = key
        }
    }
    private func lookUp() {
        reader.quiescent()
        let state = UnsafePointer(reader.current.assumingMemoryBound(to: ForwardingState.self))
        pick(state)
        for index in 0..<Self.burst {
            let key = keys[index]
            let mac = state.pointee.fdb.value(of: key.mac, in: state.pointee.fdb.bucket(of: key.mac))
            follow(mac, state.pointee.hosts.value(key.vrf, key.host), key, state)
            follow(state.pointee.prefixes.lookup(vrf: key.prefixVRF, ipv4: key.prefix), key, state)
        }
    }
    /// The same, and how much was read for it.
    private func countedTurn() {
        reader.quiescent()
        let state = UnsafePointer(reader.current.assumingMemoryBound(to: ForwardingState.self))
        pick(state)
        var total = 0
        for index in 0..<Self.burst {
            let key = keys[index]
            let mac = state.pointee.fdb.countedValue(of: key.mac)
            let host = state.pointee.hosts.table.countedValue(of: HostKey.make(key.vrf, key.host))
            let prefix = state.pointee.prefixes.countedLookup(vrf: key.prefixVRF, ipv4: key.prefix)
            follow(mac.value, host.value, key, state)
            follow(prefix.value, key, state)
            steps.buckets = max(steps.buckets, mac.buckets, host.buckets)
            steps.words = max(steps.words, prefix.words)
            total += mac.buckets + host.buckets + prefix.words
        }
        steps.turn = max(steps.turn, total)
        steps.turns += 1
    }

    /// Reads what an answer leads to, as a packet would.
    @inline(__always)
    private func follow(_ mac: UInt32, _ route: UInt32, _ key: Key, _ state: UnsafePointer<ForwardingState>) {
        if mac != BucketView.miss {
            let value = FDBValue(rawValue: mac)
            if value.isTunnel { touch(value.index, key.hash, state) }
        }
        follow(route, key, state)
    }
    @inline(__always)
    private func follow(_ route: UInt32, _ key: Key, _ state: UnsafePointer<ForwardingState>) {
        let found = RouteValue(rawValue: route)
        if found.isMiss || !(found.isHop || found.isGroup) { return }
        let index = found.isGroup ? state.pointee.hop(ofGroup: found.index, hash: key.hash) : found.index
        let hop = state.pointee.hop(index)
        let head = hop.head
        sum &+= head.rawValue
        if head.isTunnel { touch(hop.target, key.hash, state) }
    }
    @inline(__always)
    private func touch(_ tunnel: UInt32, _ hash: UInt32, _ state: UnsafePointer<ForwardingState>) {
        guard Int(tunnel) < tunnelLimit else { return }
        let record = state.pointee.tunnels + Int(tunnel)
        if record.pointee.unusable != nil { return }
        sum &+= UInt64(state.pointee.adjacency(of: record, hash: hash).header.load(as: UInt8.self))
    }
}

/// What the kernel had counted when it was last asked.
private struct Known {
    private var thread = gap_thread_now()
    private var interrupts = gap_interrupts()
    private let file = gap_interrupts_open()
    private let cpu: Int
    private var isReadable = false

    init(cpu: Int) {
        self.cpu = cpu
        isReadable = file >= 0 && gap_interrupts_read(file, Int32(cpu), &interrupts) == 0
    }
    /// What happened while a turn was noted is none of the next one's.
    mutating func forget() { thread = gap_thread_now() }
    func close() { if file >= 0 { _ = Glibc.close(file) } }

    /// A long turn, with what happened in it. The kernel's counts are asked for stalls alone, of which they
    /// take longer than the stall did.
    mutating func explain(
        _ begin: UInt64, _ ticks: UInt64, _ phase: Int, _ isInterrupted: Bool, stall: Double
    ) -> LongTurn {
        let now = gap_thread_now()
        var turn = LongTurn(
            begin: begin, ticks: ticks, phase: UInt8(phase), isInterrupted: isInterrupted,
            switches: UInt32(truncatingIfNeeded: now.switches &- thread.switches),
            faults: UInt32(truncatingIfNeeded: now.faults &- thread.faults), sent: nil)
        var counts = gap_interrupts()
        if isReadable, Double(ticks) > stall, gap_interrupts_read(file, Int32(cpu), &counts) == 0 {
            turn.sent = UInt32(truncatingIfNeeded: counts.sent &- interrupts.sent)
            interrupts = counts
        }
        return turn
    }
}
