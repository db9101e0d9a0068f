// Per-worker counters: one writer each, read by anybody at any time.

public import CLinux

/// Totals of one worker. The words lie in this order in memory; a packet's own in the first line.
///
/// `received + replicated == sent + punted + dropped` after every burst, while no packet waits for a
/// neighbour or for copies that are still to be made (``waiting``).
public enum TotalCounter: Int, CaseIterable, Sendable {
    case received, replicated, sent, punted
    /// Learn events reported, and lost because the ring was full.
    case learned, learnRingFull
    /// Main loop: polls that found packets, polls that found none.
    case busyPolls, idlePolls
    /// ARP requests and neighbour solicitations for remote hosts, answered here (RFC 9161).
    case arpSuppressed, ndSuppressed
    /// Those for the gateway, answered; and its echo replies.
    case arpAnswered, ndAnswered, echoAnswered
    /// ICMP errors sent, and left out because of the rate limit.
    case icmpErrors, icmpLimited
    /// Neighbour events reported, and lost because the ring was full.
    case neighborEvents, neighborRingFull
    /// ARP requests and neighbour solicitations sent from gateways.
    case probesSent
    /// Packets that waited for a neighbour; IPv4 fragments made of routed packets.
    case waited, fragmented
    /// Packets that wait now: for a neighbour, or for the rest of their flood copies.
    case waiting
    /// Flooded packets that had copies left when their turn's budget was used up.
    case floodsContinued
    /// Packets handed to another worker, which has a queue of their port, and packets taken from others.
    case handedOver, takenOver

    /// What gateways, suppression and the lanes behind them count.
    public static let services: [TotalCounter] = [
        .arpSuppressed, .ndSuppressed, .arpAnswered, .ndAnswered, .echoAnswered, .icmpErrors,
        .icmpLimited, .neighborEvents, .neighborRingFull, .probesSent, .waited, .fragmented, .waiting,
        .floodsContinued, .handedOver, .takenOver,
    ]

    /// Words kept for totals in memory.
    static let stride = 32
}

/// Per VRF, eight words: routed packets by where they came from and went to.
public enum VRFCounter: Int, CaseIterable, Sendable {
    case localInPackets, localInBytes, tunnelInPackets, tunnelInBytes
    case localOutPackets, localOutBytes, tunnelOutPackets, tunnelOutBytes
}

/// Per port, eight words.
public enum PortCounter: Int, CaseIterable, Sendable {
    case rxPackets, rxBytes, txPackets, txBytes, dropped, punted, fromHost, reserved
}

/// Per bridge domain, eight words.
public enum DomainCounter: Int, CaseIterable, Sendable {
    /// In from circuits and tunnels; out to circuits and tunnels.
    case circuitInPackets, circuitInBytes, tunnelInPackets, tunnelInBytes
    case circuitOutPackets, circuitOutBytes, tunnelOutPackets, tunnelOutBytes
}

/// One worker's counters in raw memory; the worker adds, others read.
public struct CounterView: BitwiseCopyable, @unchecked Sendable {
    @usableFromInline let totals: UnsafeMutablePointer<UInt64>
    @usableFromInline let drops: UnsafeMutablePointer<UInt64>
    @usableFromInline let ports: UnsafeMutablePointer<UInt64>
    @usableFromInline let domains: UnsafeMutablePointer<UInt64>
    @usableFromInline let vrfs: UnsafeMutablePointer<UInt64>

    @inlinable @inline(__always)
    public func add(_ counter: TotalCounter, _ by: UInt64) { pe_count(totals + counter.rawValue, by) }
    /// For what is a level and no count.
    @inlinable public func set(_ counter: TotalCounter, _ value: UInt64) {
        pe_store64_relaxed(totals + counter.rawValue, value)
    }
    @inlinable @inline(__always)
    public func add(_ reason: DropReason, _ by: UInt64) { pe_count(drops + Int(reason.rawValue), by) }
    /// Counts `packets` in `counter` and `bytes` in the counter after it.
    @inlinable @inline(__always)
    public func add(port: UInt16, _ counter: PortCounter, packets: UInt64, bytes: UInt64) {
        let base = ports + (Int(port) &* 8 &+ counter.rawValue)
        pe_count(base, packets)
        pe_count(base + 1, bytes)
    }
    @inlinable @inline(__always)
    public func add(port: UInt16, _ counter: PortCounter, _ by: UInt64) {
        pe_count(ports + (Int(port) &* 8 &+ counter.rawValue), by)
    }
    /// Counts one packet in `counter` and `bytes` in the counter after it.
    @inlinable @inline(__always)
    public func add(domain: UInt16, _ counter: DomainCounter, bytes: UInt64) {
        let base = domains + (Int(domain) &* 8 &+ counter.rawValue)
        pe_count(base, 1)
        pe_count(base + 1, bytes)
    }
    /// Counts `packets` in `counter` and `bytes` in the counter after it.
    @inlinable @inline(__always)
    public func add(domain: UInt16, _ counter: DomainCounter, packets: UInt64, bytes: UInt64) {
        let base = domains + (Int(domain) &* 8 &+ counter.rawValue)
        pe_count(base, packets)
        pe_count(base + 1, bytes)
    }
    /// Counts one packet in `counter` and `bytes` in the counter after it.
    @inlinable @inline(__always)
    public func add(vrf: UInt16, _ counter: VRFCounter, bytes: UInt64) {
        let base = vrfs + (Int(vrf) &* 8 &+ counter.rawValue)
        pe_count(base, 1)
        pe_count(base + 1, bytes)
    }
    @inlinable @inline(__always)
    public func prefetch(domain: UInt16) { pe_prefetch_write(domains + Int(domain) &* 8) }
    @inlinable @inline(__always)
    public func prefetch(vrf: UInt16) { pe_prefetch_write(vrfs + Int(vrf) &* 8) }

    public func value(_ counter: TotalCounter) -> UInt64 { pe_load64_relaxed(totals + counter.rawValue) }
    public func value(_ reason: DropReason) -> UInt64 { pe_load64_relaxed(drops + Int(reason.rawValue)) }
    public func value(port: UInt16, _ counter: PortCounter) -> UInt64 {
        pe_load64_relaxed(ports + (Int(port) * 8 + counter.rawValue))
    }
    public func value(domain: UInt16, _ counter: DomainCounter) -> UInt64 {
        pe_load64_relaxed(domains + (Int(domain) * 8 + counter.rawValue))
    }
    public func value(vrf: UInt16, _ counter: VRFCounter) -> UInt64 {
        pe_load64_relaxed(vrfs + (Int(vrf) * 8 + counter.rawValue))
    }
}

/// Owns the counters of all workers.
public final class Counters {
    public let workers: [CounterView]
    private let memory: UnsafeMutableRawPointer
    private let byteCount: Int

    public init(limits: TableLimits) throws(TableError) {
        let dropWords = (DropReason.count + 7) / 8 * 8
        let totalWords = TotalCounter.stride
        let words = totalWords + dropWords + (limits.ports + limits.domains + limits.vrfs) * 8
        let perWorker = (words * 8 + 127) / 128 * 128
        byteCount = perWorker * limits.workers
        guard let memory = pe_pages(byteCount) else { throw .outOfMemory(table: "counters", byteCount: byteCount) }
        self.memory = memory
        workers = (0..<limits.workers).map { index in
            let base = (memory + index * perWorker).assumingMemoryBound(to: UInt64.self)
            return CounterView(
                totals: base, drops: base + totalWords, ports: base + totalWords + dropWords,
                domains: base + totalWords + dropWords + limits.ports * 8,
                vrfs: base + totalWords + dropWords + (limits.ports + limits.domains) * 8)
        }
    }
    deinit { pe_pages_free(memory, byteCount) }

    /// Over all workers. What waits (``TotalCounter/waiting``) is also what is on its way from one worker to
    /// another.
    public func total(_ counter: TotalCounter) -> UInt64 {
        let sum = workers.reduce(0) { $0 &+ $1.value(counter) }
        if counter != .waiting { return sum }
        // In this order, since both rise meanwhile.
        let taken = total(.takenOver)
        return sum &+ total(.handedOver) &- taken
    }
    public func total(_ reason: DropReason) -> UInt64 { workers.reduce(0) { $0 &+ $1.value(reason) } }
    public func total(port: UInt16, _ counter: PortCounter) -> UInt64 {
        workers.reduce(0) { $0 &+ $1.value(port: port, counter) }
    }
    public func total(domain: UInt16, _ counter: DomainCounter) -> UInt64 {
        workers.reduce(0) { $0 &+ $1.value(domain: domain, counter) }
    }
    public func total(vrf: UInt16, _ counter: VRFCounter) -> UInt64 {
        workers.reduce(0) { $0 &+ $1.value(vrf: vrf, counter) }
    }
    public var dropped: UInt64 { DropReason.allCases.reduce(0) { $0 &+ total($1) } }
    /// Whether every packet has ended exactly once. True only while no burst is under way.
    public var isBalanced: Bool {
        total(.received) &+ total(.replicated)
            == total(.sent) &+ total(.punted) &+ dropped &+ total(.waiting)
    }
    /// Clears a port's or a domain's counters before its index is used again. One worker at most
    /// may still add to them: a lost addition is acceptable there.
    public func clear(domain: UInt16) {
        for view in workers {
            for counter in DomainCounter.allCases {
                pe_store64_relaxed(view.domains + (Int(domain) * 8 + counter.rawValue), 0)
            }
        }
    }
    public func clear(port: UInt16) {
        for view in workers {
            for counter in PortCounter.allCases {
                pe_store64_relaxed(view.ports + (Int(port) * 8 + counter.rawValue), 0)
            }
        }
    }
}
