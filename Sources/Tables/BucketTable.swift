// The hash table behind the FDB and the VTEP index: 64-byte buckets, one writer, many readers.

public import CLinux

/// What readers need of a ``BucketTable``: two pointers and a mask, copied into a worker's locals.
///
/// A bucket is one cache line: five 8-byte keys, five 4-byte values, the number of the bucket that
/// continues it. Key 0 is empty, ``BucketTable/tombstone`` was deleted; neither is ever looked up.
public struct BucketView: BitwiseCopyable, @unchecked Sendable {
    @usableFromInline let buckets: UnsafeRawPointer
    @usableFromInline let mask: UInt64
    @usableFromInline let primaryCount: UInt32

    /// The value of a missing key.
    public static var miss: UInt32 { @inlinable @inline(__always) get { UInt32.max } }

    @inlinable init(buckets: UnsafeRawPointer, mask: UInt64) {
        self.buckets = buckets
        self.mask = mask
        primaryCount = UInt32(truncatingIfNeeded: mask &+ 1)
    }

    /// The hash of a key, of which the low bits number its first bucket.
    ///
    /// CRC32C alone is linear: MACs and domains that count up together would share few buckets, and a
    /// table be full at a fraction of its capacity. The multiplication is not.
    @inlinable @inline(__always)
    static func hash(_ key: UInt64) -> UInt64 {
        UInt64(pe_crc32c(0xDEAD_BEEF, key &* 0x9E37_79B9_7F4A_7C15))
    }

    /// The bucket of `key`, to be prefetched.
    @inlinable @inline(__always)
    public func bucket(of key: UInt64) -> UnsafeRawPointer {
        buckets + Int(truncatingIfNeeded: (BucketView.hash(key) & mask) &<< 6)
    }

    /// The first slot of a bucket; see ``entry(of:in:)``.
    @inlinable @inline(__always)
    public func firstSlot(of bucket: UnsafeRawPointer) -> UInt32 {
        UInt32(truncatingIfNeeded: ((bucket - buckets) &>> 6) &* 5)
    }

    /// The value of `key`, or ``miss``.
    @inlinable @inline(__always)
    public func value(of key: UInt64, in first: UnsafeRawPointer) -> UInt32 {
        var bucket = first
        while true {
            let found = pe_match5(bucket, key)
            if found != 0 {
                let offset = 40 &+ found.trailingZeroBitCount &* 4
                return pe_load32((bucket + offset).assumingMemoryBound(to: UInt32.self))
            }
            let next = pe_load32((bucket + 60).assumingMemoryBound(to: UInt32.self))
            if next == 0 { return BucketView.miss }
            bucket = buckets + Int(next) &<< 6
        }
    }

    /// The value and the slot (a number that stays the entry's own while it exists) of `key`.
    @inlinable @inline(__always)
    public func entry(of key: UInt64, in first: UnsafeRawPointer) -> (value: UInt32, slot: UInt32) {
        var bucket = first
        while true {
            let found = pe_match5(bucket, key)
            if found != 0 {
                let index = found.trailingZeroBitCount
                let value = pe_load32((bucket + (40 &+ index &* 4)).assumingMemoryBound(to: UInt32.self))
                let number = (bucket - buckets) &>> 6
                return (value, UInt32(truncatingIfNeeded: number &* 5 &+ index))
            }
            let next = pe_load32((bucket + 60).assumingMemoryBound(to: UInt32.self))
            if next == 0 { return (BucketView.miss, 0) }
            bucket = buckets + Int(next) &<< 6
        }
    }
}

/// The writer's side of a table. One thread writes; any number of workers read through ``view``.
///
/// An insertion stores the value, then the key; a change stores one word; a deletion turns the key
/// into a tombstone, and the slot is not used again before every reader was quiescent. So a reader
/// sees for a key its old value, its new value or a miss, never another key's value. An overflow
/// bucket without a key left is unlinked, and rests as long before another chain gets it.
public final class BucketTable {
    public let view: BucketView
    public let capacity: Int
    public private(set) var count = 0
    /// Slots: every index that ``BucketView/entry(of:in:)`` can return is below this.
    public let slotCount: Int
    private let memory: UnsafeMutableRawPointer
    private let byteCount: Int
    private let name: String
    private let bucketCount: Int
    private var nextOverflow: Int
    /// Overflow buckets that no chain holds and no reader can be in.
    private var freeOverflow: [Int] = []
    /// Deleted slots and the epoch at which they were deleted.
    private var limbo: [(slot: UInt32, epoch: UInt64)] = []
    private var limboHead = 0
    /// Unlinked overflow buckets; their own slots entered ``limbo`` before them.
    private var unlinked: [(bucket: Int, epoch: UInt64)] = []

    /// What a deleted key becomes; no key has this value (domain 0xFFFF is never used).
    public static let tombstone = UInt64.max

    /// Room for `capacity` entries at no more than half load, plus overflow buckets.
    public init(name: String, capacity: Int) throws(TableError) {
        var primary = 16
        while primary * 5 < capacity * 2 { primary *= 2 }
        let overflow = max(64, primary / 4)
        let bytes = (primary + overflow) * 64
        guard let memory = pe_pages(bytes) else { throw .outOfMemory(table: name, byteCount: bytes) }
        self.name = name
        self.capacity = capacity
        self.memory = memory
        byteCount = bytes
        bucketCount = primary + overflow
        slotCount = bucketCount * 5
        nextOverflow = primary
        view = BucketView(buckets: UnsafeRawPointer(memory), mask: UInt64(primary - 1))
    }
    deinit { pe_pages_free(memory, byteCount) }

    private func key(_ slot: Int) -> UnsafeMutablePointer<UInt64> {
        (memory + (slot / 5 * 64 + slot % 5 * 8)).assumingMemoryBound(to: UInt64.self)
    }
    private func value(_ slot: Int) -> UnsafeMutablePointer<UInt32> {
        (memory + (slot / 5 * 64 + 40 + slot % 5 * 4)).assumingMemoryBound(to: UInt32.self)
    }
    private func next(_ bucket: Int) -> UnsafeMutablePointer<UInt32> {
        (memory + (bucket * 64 + 60)).assumingMemoryBound(to: UInt32.self)
    }
    private func firstBucket(_ key: UInt64) -> Int {
        Int(BucketView.hash(key) & view.mask)
    }

    /// The value of `key`; nil when it is not there.
    public func value(of key: UInt64) -> UInt32? {
        guard key != 0 && key != Self.tombstone else { return nil }
        let found = view.value(of: key, in: view.bucket(of: key))
        return found == BucketView.miss ? nil : found
    }
    /// The entry in a slot; nil when the slot is empty.
    public func entry(at slot: UInt32) -> (key: UInt64, value: UInt32)? {
        guard Int(slot) < slotCount else { return nil }
        let found = key(Int(slot)).pointee
        return found == 0 || found == Self.tombstone ? nil : (found, value(Int(slot)).pointee)
    }
    /// The slot of `key`.
    public func slot(of key: UInt64) -> UInt32? {
        guard key != 0 && key != Self.tombstone else { return nil }
        let found = view.entry(of: key, in: view.bucket(of: key))
        return found.value == BucketView.miss ? nil : found.slot
    }

    /// Inserts or replaces.
    ///
    /// - Parameter prepare: called with the slot of a new key before readers can see the key there.
    /// - Precondition: `key` is neither 0 nor ``tombstone``; `newValue` is not ``BucketView/miss``.
    public func set(
        _ newKey: UInt64, _ newValue: UInt32, prepare: ((Int) -> Void)? = nil
    ) throws(TableError) {
        precondition(newKey != 0 && newKey != Self.tombstone && newValue != BucketView.miss)
        var bucket = firstBucket(newKey)
        var empty: Int?
        while true {
            for index in 0..<5 {
                let slot = bucket * 5 + index
                let found = key(slot).pointee
                if found == newKey {
                    pe_store32(value(slot), newValue)
                    return
                }
                if found == 0 && empty == nil { empty = slot }
            }
            let following = Int(next(bucket).pointee)
            if following == 0 { break }
            bucket = following
        }
        guard count < capacity else { throw .full(table: name, limit: capacity) }
        if let empty {
            prepare?(empty)
            pe_store32(value(empty), newValue)
            pe_store64(key(empty), newKey)
        } else {
            let fresh: Int
            if let free = freeOverflow.popLast() {
                fresh = free
            } else {
                guard nextOverflow < bucketCount else { throw .full(table: name, limit: capacity) }
                fresh = nextOverflow
                nextOverflow += 1
            }
            prepare?(fresh * 5)
            pe_store32(value(fresh * 5), newValue)
            pe_store64(key(fresh * 5), newKey)
            pe_store32(next(bucket), UInt32(fresh))
        }
        count += 1
    }

    /// Deletes `key`; its slot rests until `reclaim` is called with an epoch that is not below
    /// `epoch`. Returns whether the key was there.
    @discardableResult
    public func remove(_ oldKey: UInt64, epoch: UInt64) -> Bool {
        guard let slot = slot(of: oldKey) else { return false }
        pe_store64(key(Int(slot)), Self.tombstone)
        limbo.append((slot, epoch))
        count -= 1
        unlinkIfEmpty(Int(slot) / 5, of: oldKey, epoch: epoch)
        return true
    }

    /// Takes an overflow bucket without keys out of its chain. Readers that are in it go on to the
    /// rest of the chain: its link stays until they have passed.
    private func unlinkIfEmpty(_ bucket: Int, of oldKey: UInt64, epoch: UInt64) {
        let head = firstBucket(oldKey)
        guard bucket != head else { return }
        for slot in bucket * 5..<bucket * 5 + 5 {
            let found = key(slot).pointee
            if found != 0 && found != Self.tombstone { return }
        }
        var previous = head
        while Int(next(previous).pointee) != bucket { previous = Int(next(previous).pointee) }
        pe_store32(next(previous), next(bucket).pointee)
        unlinked.append((bucket, epoch))
    }

    /// Frees the slots of entries that were deleted at or before `epoch`, which every reader has
    /// passed.
    public func reclaim(through epoch: UInt64) {
        defer { reclaimBuckets(through: epoch) }
        while limboHead < limbo.count, limbo[limboHead].epoch <= epoch {
            pe_store64(key(Int(limbo[limboHead].slot)), 0)
            limboHead += 1
        }
        if limboHead == limbo.count {
            limbo.removeAll(keepingCapacity: true)
            limboHead = 0
        } else if limboHead > 4096 {
            limbo.removeFirst(limboHead)
            limboHead = 0
        }
    }

    private func reclaimBuckets(through epoch: UInt64) {
        guard let first = unlinked.first, first.epoch <= epoch else { return }
        for entry in unlinked where entry.epoch <= epoch {
            pe_store32(next(entry.bucket), 0)
            freeOverflow.append(entry.bucket)
        }
        unlinked.removeAll { $0.epoch <= epoch }
    }

    /// Overflow buckets in chains or resting; for tests.
    var overflowInUse: Int { nextOverflow - Int(view.primaryCount) - freeOverflow.count }

    /// Visits every entry.
    public func forEach(_ body: (UInt64, UInt32) -> Void) {
        for slot in 0..<(nextOverflow * 5) {
            let found = key(slot).pointee
            if found != 0 && found != Self.tombstone { body(found, value(slot).pointee) }
        }
    }
}
