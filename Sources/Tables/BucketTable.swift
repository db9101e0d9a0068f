// The hash table behind the FDB, the VTEP index and hosts: 64-byte buckets, one writer, many readers.

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

    /// The value of an entry of two slots, or ``miss``. Both are there when the first one's key is.
    @inlinable @inline(__always)
    func value(
        ofPair key: UInt64, more: (word: UInt64, value: UInt32), in first: UnsafeRawPointer
    ) -> UInt32 {
        var bucket = first
        while true {
            let found = pe_match5(bucket, key)
            if found != 0 {
                let index = found.trailingZeroBitCount
                let values = (bucket + 40).assumingMemoryBound(to: UInt32.self)
                let word = pe_load64(bucket.assumingMemoryBound(to: UInt64.self) + (index &+ 1))
                let isSame = word == more.word && pe_load32(values + (index &+ 1)) == more.value
                return isSame ? pe_load32(values + index) : BucketView.miss
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
///
/// A table of *pairs* also has entries of two slots, 2i and 2i + 1 of one bucket, for keys of more bits than
/// one word: the odd slot's word and value are more of the key. They are stored first, and stay until readers
/// of the key are gone.
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
    private let hasPairs: Bool
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

    /// Room for `capacity` entries of one slot at no more than half load, plus overflow buckets.
    ///
    /// - Parameter hasPairs: entries may have two slots. As many buckets overflow then as 0.58 of the primary
    ///   ones when all do, 2.5 to a bucket; memory of buckets that are not used is only reserved.
    public init(name: String, capacity: Int, hasPairs: Bool = false) throws(TableError) {
        var primary = 16
        while primary * 5 < capacity * 2 { primary *= 2 }
        let overflow = max(64, hasPairs ? primary : primary / 4)
        let bytes = (primary + overflow) * 64
        guard let memory = pe_pages(bytes) else { throw .outOfMemory(table: name, byteCount: bytes) }
        self.name = name
        self.capacity = capacity
        self.memory = memory
        self.hasPairs = hasPairs
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
    /// - Precondition: `key` is neither 0 nor ``tombstone``; `newValue` is not ``BucketView/miss``.
    public func set(_ newKey: UInt64, _ newValue: UInt32) throws(TableError) {
        precondition(newKey != 0 && newKey != Self.tombstone && newValue != BucketView.miss)
        var bucket = firstBucket(newKey)
        var empty: Int?
        while true {
            let found = pe_match5(memory + bucket * 64, newKey)
            if found != 0 {
                pe_store32(value(bucket * 5 + found.trailingZeroBitCount), newValue)
                return
            }
            if empty == nil { empty = emptySlot(of: bucket) }
            let following = Int(next(bucket).pointee)
            if following == 0 { break }
            bucket = following
        }
        guard count < capacity else { throw .full(table: name, limit: capacity) }
        let slot = if let empty { empty } else { try freshBucket() * 5 + 4 }
        pe_store32(value(slot), newValue)
        pe_store64(key(slot), newKey)
        if empty == nil { pe_store32(next(bucket), UInt32(slot / 5)) }
        count += 1
    }
    /// Inserts an entry of two slots.
    ///
    /// - Precondition: the key is not there; `more`'s word is none of a key's, of 0 or ``tombstone``.
    func insertPair(_ newKey: UInt64, _ newValue: UInt32, more: (word: UInt64, value: UInt32)) throws(TableError) {
        precondition(hasPairs && isKey(newKey) && more.word != 0 && !isKey(more.word) && newValue != BucketView.miss)
        guard count < capacity else { throw .full(table: name, limit: capacity) }
        var bucket = firstBucket(newKey)
        var empty: Int?
        while true {
            empty = emptyPair(of: bucket)
            let following = Int(next(bucket).pointee)
            if empty != nil || following == 0 { break }
            bucket = following
        }
        let slot = if let empty { empty } else { try freshBucket() * 5 }
        pe_store32(value(slot + 1), more.value)
        pe_store64(key(slot + 1), more.word)
        pe_store32(value(slot), newValue)
        pe_store64(key(slot), newKey)
        if empty == nil { pe_store32(next(bucket), UInt32(slot / 5)) }
        count += 1
    }
    /// The last slot first: pairs are put at the beginning, so that both find room longer.
    private func emptySlot(of bucket: Int) -> Int? {
        let found = pe_match5(memory + bucket * 64, 0)
        return found == 0 ? nil : bucket * 5 + (UInt32.bitWidth - 1 - found.leadingZeroBitCount)
    }
    private func emptyPair(of bucket: Int) -> Int? {
        let found = pe_match5(memory + bucket * 64, 0)
        let pairs = found & found >> 1 & 0b101
        return pairs == 0 ? nil : bucket * 5 + pairs.trailingZeroBitCount
    }
    /// An overflow bucket without entries, in no chain yet.
    private func freshBucket() throws(TableError) -> Int {
        if let free = freeOverflow.popLast() { return free }
        guard nextOverflow < bucketCount else { throw .full(table: name, limit: capacity) }
        nextOverflow += 1
        return nextOverflow - 1
    }
    /// Whether a slot's word is a key that may be looked up: with pairs, those whose upper 16 bits are neither
    /// all clear nor all set.
    private func isKey(_ word: UInt64) -> Bool {
        hasPairs ? word >> 48 != 0 && word >> 48 != 0xFFFF : word != 0 && word != Self.tombstone
    }

    /// Deletes `key`; its slot rests until `reclaim` is called with an epoch that is not below
    /// `epoch`. Returns whether the key was there.
    ///
    /// - Parameter isPair: the entry has two slots.
    @discardableResult
    public func remove(_ oldKey: UInt64, isPair: Bool = false, epoch: UInt64) -> Bool {
        guard let slot = slot(of: oldKey) else { return false }
        pe_store64(key(Int(slot)), Self.tombstone)
        limbo.append((slot, epoch))
        if isPair { limbo.append((slot + 1, epoch)) }
        count -= 1
        unlinkIfEmpty(Int(slot) / 5, of: oldKey, epoch: epoch)
        return true
    }

    /// Takes an overflow bucket without keys out of its chain. Readers that are in it go on to the
    /// rest of the chain: its link stays until they have passed.
    private func unlinkIfEmpty(_ bucket: Int, of oldKey: UInt64, epoch: UInt64) {
        let head = firstBucket(oldKey)
        guard bucket != head else { return }
        for slot in bucket * 5..<bucket * 5 + 5 where isKey(key(slot).pointee) { return }
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

    /// Visits every entry; of a pair the first slot, with its number.
    func forEachSlot(_ body: (_ slot: Int, _ key: UInt64, _ value: UInt32) -> Void) {
        for slot in 0..<(nextOverflow * 5) {
            let found = key(slot).pointee
            if isKey(found) { body(slot, found, value(slot).pointee) }
        }
    }
    /// Visits every entry.
    public func forEach(_ body: (UInt64, UInt32) -> Void) { forEachSlot { body($1, $2) } }
    /// A slot's word and value, whatever they are.
    func content(_ slot: Int) -> (word: UInt64, value: UInt32) { (key(slot).pointee, value(slot).pointee) }
}
