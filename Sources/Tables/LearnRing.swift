// What workers tell the control plane about source MACs: a ring of learn events and activity marks.

public import CLinux
public import Wire

/// One worker's ring of learn events and its marks of the FDB slots that it has seen.
///
/// Single producer (the worker), single consumer (the control thread); 16 bytes an event.
public struct LearnRing: BitwiseCopyable, @unchecked Sendable {
    @usableFromInline let head: UnsafeMutablePointer<UInt64>
    @usableFromInline let tail: UnsafeMutablePointer<UInt64>
    @usableFromInline let events: UnsafeMutablePointer<UInt64>
    @usableFromInline let mask: UInt64
    /// Keys reported lately, so that one new MAC's packets do not fill the ring.
    @usableFromInline let recent: UnsafeMutablePointer<UInt64>
    /// One byte per FDB slot: the ageing period in which the worker last saw the entry.
    @usableFromInline let marks: UnsafeMutablePointer<UInt8>
    @usableFromInline let period: UnsafeMutablePointer<UInt8>
    public static let recentCount = 256

    @usableFromInline
    init(
        head: UnsafeMutablePointer<UInt64>, tail: UnsafeMutablePointer<UInt64>,
        events: UnsafeMutablePointer<UInt64>, mask: UInt64, recent: UnsafeMutablePointer<UInt64>,
        marks: UnsafeMutablePointer<UInt8>, period: UnsafeMutablePointer<UInt8>
    ) {
        self.head = head
        self.tail = tail
        self.events = events
        self.mask = mask
        self.recent = recent
        self.marks = marks
        self.period = period
    }

    /// Worker: the current ageing period; read once per burst.
    @inlinable @inline(__always) public var currentPeriod: UInt8 { pe_load8_relaxed(period) }

    /// Worker: marks a slot as seen in `now`; writes only when the mark changes.
    @inlinable @inline(__always)
    public func mark(_ slot: UInt32, _ now: UInt8) {
        let mark = marks + Int(slot)
        if pe_load8_relaxed(mark) != now { pe_store8_relaxed(mark, now) }
    }

    /// Worker: brings the mark of `slot` near, before it is needed.
    @inlinable @inline(__always)
    public func prefetchMark(_ slot: UInt32) { pe_prefetch(marks + Int(slot)) }

    /// Worker: whether this key on this circuit was not reported in this ageing round yet. A
    /// collision in the small cache only means that it is reported again.
    @inlinable @inline(__always)
    public func isNews(key: UInt64, circuit: UInt32, stamp: UInt32) -> Bool {
        let index = recentIndex(key, circuit)
        let seal = key &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(circuit) &<< 32 ^ UInt64(stamp)
        if recent[index] == seal { return false }
        recent[index] = seal
        return true
    }

    /// Worker: takes back what ``isNews(key:circuit:stamp:)`` noted, when the event did not get into
    /// the ring, so that the MAC's next packet brings it again.
    @inlinable @inline(__always)
    public func forget(key: UInt64, circuit: UInt32) {
        recent[recentIndex(key, circuit)] = 0
    }

    /// The upper bits of a product, since the MACs of one vendor differ in the key's upper ones.
    @inlinable @inline(__always)
    func recentIndex(_ key: UInt64, _ circuit: UInt32) -> Int {
        Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) &>> 56 ^ UInt64(circuit) & 255)
    }

    /// Worker: reports an event; false when the ring is full.
    @inlinable @inline(__always)
    public func push(_ event: LearnEvent) -> Bool {
        let position = pe_load64_relaxed(head)
        if position &- pe_load64(tail) > mask { return false }
        let cell = events + Int(truncatingIfNeeded: (position & mask) &* 2)
        cell[0] = UInt64(event.domain) &<< 48 | event.mac.rawValue
        cell[1] = UInt64(event.circuit)
        pe_store64(head, position &+ 1)
        return true
    }

    /// Control thread: the oldest event.
    public func pop() -> LearnEvent? {
        let position = pe_load64_relaxed(tail)
        if position == pe_load64(head) { return nil }
        let cell = events + Int(truncatingIfNeeded: (position & mask) &* 2)
        let event = LearnEvent(
            mac: MACAddress(rawValue: cell[0]), domain: UInt16(truncatingIfNeeded: cell[0] >> 48),
            circuit: UInt32(truncatingIfNeeded: cell[1]))
        pe_store64(tail, position &+ 1)
        return event
    }
    public func mark(of slot: UInt32) -> UInt8 { pe_load8_relaxed(marks + Int(slot)) }
}

/// Owns the learn rings of all workers, and the ageing period that they share.
public final class LearnRings {
    public let workers: [LearnRing]
    private let memory: UnsafeMutableRawPointer
    private let byteCount: Int
    private let period: UnsafeMutablePointer<UInt8>
    let slotCount: Int

    public init(limits: TableLimits, slotCount: Int) throws(TableError) {
        let ringBytes = TableLimits.learnRing * 16
        let recentBytes = LearnRing.recentCount * 8
        let perWorker = (256 + ringBytes + recentBytes + slotCount + 127) / 128 * 128
        byteCount = perWorker * limits.workers + 128
        guard let memory = pe_pages(byteCount) else { throw .outOfMemory(table: "learn rings", byteCount: byteCount) }
        self.memory = memory
        self.slotCount = slotCount
        let period = memory.assumingMemoryBound(to: UInt8.self)
        period.pointee = 1
        self.period = period
        workers = (0..<limits.workers).map { index in
            let base = memory + 128 + index * perWorker
            return LearnRing(
                head: base.assumingMemoryBound(to: UInt64.self),
                tail: (base + 128).assumingMemoryBound(to: UInt64.self),
                events: (base + 256).assumingMemoryBound(to: UInt64.self),
                mask: UInt64(TableLimits.learnRing - 1),
                recent: (base + 256 + ringBytes).assumingMemoryBound(to: UInt64.self),
                marks: (base + 256 + ringBytes + recentBytes).assumingMemoryBound(to: UInt8.self),
                period: period)
        }
    }
    deinit { pe_pages_free(memory, byteCount) }

    /// Whether a worker marked `slot` in period `wanted`.
    public func wasSeen(slot: UInt32, inPeriod wanted: UInt8) -> Bool {
        workers.contains { $0.mark(of: slot) == wanted }
    }
    /// The current period: 1 to 255, 0 is "never".
    public var currentPeriod: UInt8 { pe_load8_relaxed(period) }
    /// Starts the next period and returns the one that ended.
    @discardableResult
    public func advancePeriod() -> UInt8 {
        let ended = currentPeriod
        pe_store8_relaxed(period, ended == 255 ? 1 : ended + 1)
        return ended
    }
    /// Forgets what workers marked for a slot, before another entry gets it.
    public func clearMarks(slot: UInt32) { for ring in workers { pe_store8_relaxed(ring.marks + Int(slot), 0) } }
}

extension LearnRings {
    /// The slots that any worker marked in `wanted`; one pass over the marks.
    public func slotsSeen(inPeriod wanted: UInt8) -> [UInt32] {
        var found: [UInt32] = []
        for slot in 0..<slotCount where wasSeen(slot: UInt32(slot), inPeriod: wanted) {
            found.append(UInt32(slot))
        }
        return found
    }
}
