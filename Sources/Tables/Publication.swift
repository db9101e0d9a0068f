// Handing immutable snapshots from one writer to many workers (quiescent-state-based reclamation).

public import CLinux

/// The words that the writer and the readers share; each on cache lines of its own.
///
/// A reader announces, once per burst and holding nothing, the epoch it has seen; 0 means offline.
/// The writer swaps the pointer, then raises the epoch, then frees what every online reader's
/// announced epoch has passed. (RCU's QSBR; DPDK's rte_rcu_qsbr has the same order.)
public struct PublicationReader: BitwiseCopyable, @unchecked Sendable {
    @usableFromInline let shared: UnsafeMutablePointer<UInt64>
    @usableFromInline let slot: UnsafeMutablePointer<UInt64>
    @usableFromInline init(shared: UnsafeMutablePointer<UInt64>, slot: UnsafeMutablePointer<UInt64>) {
        self.shared = shared
        self.slot = slot
    }

    /// Once per burst, holding nothing from before. Afterwards read ``current``.
    @inlinable @inline(__always)
    public func quiescent() {
        let now = pe_load64(shared + 1)
        if pe_load64_relaxed(slot) != now {
            pe_store64(slot, now)
            pe_fence()
        }
    }
    /// Before blocking: the writer no longer waits for this reader.
    @inlinable @inline(__always)
    public func offline() { pe_store64(slot, 0) }

    /// The newest snapshot's address; valid until the next quiescent point.
    @inlinable @inline(__always)
    public var current: UnsafeRawPointer {
        UnsafeRawPointer(bitPattern: UInt(pe_load64(shared))).unsafelyUnwrapped
    }
}

/// The writer's side. All calls come from one thread, except that readers are handed out before.
public final class Publication {
    private let words: UnsafeMutablePointer<UInt64>
    private let readerCount: Int
    private var retired: [(epoch: UInt64, free: () -> Void)] = []
    private static let stride = 16

    public init(_ first: UnsafeRawPointer, readerCount: Int) {
        self.readerCount = readerCount
        let count = (readerCount + 1) * Self.stride
        words = UnsafeMutableRawPointer.allocate(byteCount: count * 8, alignment: 128)
            .bindMemory(to: UInt64.self, capacity: count)
        words.initialize(repeating: 0, count: count)
        words[0] = UInt64(UInt(bitPattern: first))
        words[1] = 1
    }
    deinit {
        for entry in retired { entry.free() }
        words.deallocate()
    }

    public func reader(_ index: Int) -> PublicationReader {
        precondition(index < readerCount)
        return PublicationReader(shared: words, slot: words + (index + 1) * Self.stride)
    }

    /// What a deletion made now must wait for.
    public var epoch: UInt64 { words[1] }

    /// Makes `next` visible; `retire` runs on this thread once no reader can hold what it frees.
    public func publish(_ next: UnsafeRawPointer, retire: @escaping () -> Void) {
        pe_store64(words, UInt64(UInt(bitPattern: next)))
        retired.append((words[1], retire))
        advance()
    }

    /// Raises the epoch: after it, readers that announce it hold nothing of before.
    public func advance() {
        pe_fence()
        pe_store64(words + 1, words[1] + 1)
        pe_fence()
    }

    /// Frees what no reader can hold any more; returns the newest epoch that all have passed.
    @discardableResult
    public func reclaim() -> UInt64 {
        pe_fence()
        var oldest = words[1]
        for index in 0..<readerCount {
            let seen = pe_load64(words + (index + 1) * Self.stride)
            if seen != 0 { oldest = min(oldest, seen) }
        }
        let passed = oldest - 1
        var freed = 0
        while freed < retired.count, retired[freed].epoch <= passed {
            retired[freed].free()
            freed += 1
        }
        if freed > 0 { retired.removeFirst(freed) }
        return passed
    }
    /// Snapshots that still wait for a reader.
    public var retiredCount: Int { retired.count }
}
