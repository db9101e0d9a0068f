// What a worker's side lanes keep between bursts: waiting packets, floods under way, recent events, budgets.

import CDPDK
import CLinux
import Tables

/// State of the neighbour, ICMP, waiting and flood lanes. Lives at a fixed address; only its worker uses it.
struct KeptState {
    let neighborRing: NeighborRing
    let probes: ProbeRing
    /// Whether this worker serves ``probes``.
    let servesProbes: Bool
    /// Seals of neighbour events that were reported lately.
    let recent: UnsafeMutablePointer<UInt64>
    var waiting: WaitingStore
    var flood: FloodBacklog
    var errorBudget = TokenBucket()
    /// Nanoseconds where ``WorkerMemory/usesClock`` is false; moved by replay and tests.
    var clock: UInt64 = 0
    /// Of the next IPv4 packet that this node makes.
    var identification: UInt16 = 1

    static var recentCount: Int { 256 }

    static func make(tables: ForwardingTables, worker: Int) -> UnsafeMutablePointer<KeptState> {
        let recent = UnsafeMutablePointer<UInt64>.allocate(capacity: recentCount)
        recent.initialize(repeating: 0, count: recentCount)
        let pointer = UnsafeMutablePointer<KeptState>.allocate(capacity: 1)
        pointer.initialize(to: KeptState(
            neighborRing: tables.neighborRings.workers[worker], probes: tables.probes,
            servesProbes: worker == 0, recent: recent, waiting: WaitingStore(),
            flood: FloodBacklog()))
        return pointer
    }
    /// Frees the memory, and packets that still wait.
    static func free(_ pointer: UnsafeMutablePointer<KeptState>) {
        pointer.pointee.waiting.free()
        pointer.pointee.flood.free()
        pointer.pointee.recent.deallocate()
        pointer.deallocate()
    }
}

/// A rate limit with a burst (a token bucket), in nanoseconds.
struct TokenBucket {
    /// ICMP errors per second, and how many may come at once, of each worker.
    static var perSecond: UInt64 { TableLimits.icmpPerSecond }
    static var burst: UInt64 { TableLimits.icmpBurst }
    private static var cost: UInt64 { 1_000_000_000 / perSecond }
    private var credit = burst &* cost
    private var last: UInt64 = 0

    /// Takes one; false when there is none left.
    mutating func take(at now: UInt64) -> Bool {
        if now > last {
            credit = min(credit &+ (now &- last), TokenBucket.burst &* TokenBucket.cost)
            last = now
        }
        guard credit >= TokenBucket.cost else { return false }
        credit = credit &- TokenBucket.cost
        return true
    }
}

extension Pipeline {
    /// Nanoseconds since some start.
    var now: UInt64 {
        memory.pointee.usesClock ? pe_clock_nanoseconds() : memory.pointee.kept.pointee.clock
    }
}
