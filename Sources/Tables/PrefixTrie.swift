// Longest-prefix match of both families in many VRFs: one writer, many readers.

public import CLinux
public import Wire

/// What readers need of a ``PrefixTrie``: the roots and the nodes (see ``TrieWord``).
public struct TrieView: BitwiseCopyable, @unchecked Sendable {
    /// Two words by VRF: IPv4 and IPv6.
    @usableFromInline let roots: UnsafePointer<UInt64>
    @usableFromInline let nodes: UnsafeRawPointer

    init(roots: UnsafePointer<UInt64>, nodes: UnsafeRawPointer) {
        self.roots = roots
        self.nodes = nodes
    }

    /// Fetches a VRF's roots for a lookup that follows some packets later.
    @inlinable @inline(__always)
    public func prefetch(vrf: UInt16) { pe_prefetch(roots + Int(vrf) &* 2) }

    /// The value of the longest prefix around a host-order address, or ``BucketView/miss``.
    @inlinable @inline(__always)
    public func lookup(vrf: UInt16, ipv4 address: UInt32) -> UInt32 {
        TrieView.answer(finish(start(vrf: vrf, ipv4: address), ipv4: address))
    }
    /// The same for an IPv6 address, given as two host-order halves.
    @inlinable @inline(__always)
    public func lookup(vrf: UInt16, ipv6 high: UInt64, _ low: UInt64) -> UInt32 {
        TrieView.answer(finish(startIPv6(vrf: vrf), ipv6: high, low))
    }

    // A lookup in steps, so that those of a burst wait for memory together: start, perhaps one step, and
    // the rest, with ``prefetch(_:)`` of each word that is left for later. Within one quiescent period.

    /// The word with which a lookup starts: behind a wide root, in which there is nothing to be searched.
    @inlinable @inline(__always)
    public func start(vrf: UInt16, ipv4 address: UInt32) -> UInt64 {
        let root = pe_load64(roots + Int(vrf) &* 2)
        if !TrieWord.isWide(root) { return root }
        return pe_load64(TrieWord.node(root, in: nodes) + Int(address &>> 16))
    }
    @inlinable @inline(__always)
    public func startIPv6(vrf: UInt16) -> UInt64 { pe_load64(roots + (Int(vrf) &* 2 &+ 1)) }
    /// Fetches what the next step reads, in so far as it lies in two cache lines.
    @inlinable @inline(__always)
    public func prefetch(_ word: UInt64) {
        let node = TrieWord.node(word, in: nodes)
        pe_prefetch(node)
        pe_prefetch(node + 8)
    }
    /// What the next step for an address reads first.
    @inlinable @inline(__always)
    public func place(_ word: UInt64, ipv4 address: UInt32) -> UnsafeRawPointer {
        if !TrieWord.isNode(word) { return UnsafeRawPointer(roots) }
        let node = TrieWord.node(word, in: nodes)
        return UnsafeRawPointer(
            TrieWord.isDirect(word) ? node + TrieWord.byte(word, UInt64(address) &<< 32) : node)
    }
    /// Fetches what the next step for an address reads. `word` is no answer.
    @inlinable @inline(__always)
    public func prefetch(_ word: UInt64, ipv4 address: UInt32) {
        let node = TrieWord.node(word, in: nodes)
        if TrieWord.isDirect(word) {
            pe_prefetch(node + TrieWord.byte(word, UInt64(address) &<< 32))
        } else {
            pe_prefetch(node)
            pe_prefetch(node + 8)
        }
    }
    @inlinable @inline(__always)
    public static func isAnswer(_ word: UInt64) -> Bool { !TrieWord.isNode(word) }
    /// What a word says that is an answer.
    @inlinable @inline(__always)
    public static func answer(_ word: UInt64) -> UInt32 { TrieWord.value(word) }
    /// The word after `word`; an answer stays.
    @inlinable @inline(__always)
    public func step(_ word: UInt64, ipv4 address: UInt32) -> UInt64 {
        TrieWord.isNode(word) ? next(word, UInt64(address) &<< 32) : word
    }
    @inlinable @inline(__always)
    public func finish(_ first: UInt64, ipv4 address: UInt32) -> UInt64 {
        let key = UInt64(address) &<< 32
        var word = first
        while TrieWord.isNode(word) { word = next(word, key) }
        return word
    }
    @inlinable @inline(__always)
    public func step(_ word: UInt64, ipv6 high: UInt64, _ low: UInt64) -> UInt64 {
        TrieWord.isNode(word) ? next(word, high, low) : word
    }
    @inlinable @inline(__always)
    public func finish(_ first: UInt64, ipv6 high: UInt64, _ low: UInt64) -> UInt64 {
        var word = first
        while TrieWord.isNode(word) { word = next(word, high, low) }
        return word
    }

    /// The word that a node has for an address in the upper half of a key.
    @inlinable @inline(__always)
    func next(_ word: UInt64, _ key: UInt64) -> UInt64 {
        let node = TrieWord.node(word, in: nodes)
        if TrieWord.isTest(word) {
            let isOther = (key ^ pe_load64_relaxed(node)) &>> (64 &- TrieWord.length(word)) != 0
            return pe_load64(node + (isOther ? 3 : 2))
        }
        return pe_load64(TrieWord.entry(word, node, TrieWord.byte(word, key)))
    }
    @inlinable @inline(__always)
    func next(_ word: UInt64, _ high: UInt64, _ low: UInt64) -> UInt64 {
        let node = TrieWord.node(word, in: nodes)
        if TrieWord.isTest(word) {
            let length = TrieWord.length(word)
            let first = high ^ pe_load64_relaxed(node)
            // A mask shift of 64 or more counts as one modulo 64: each half has its own case.
            let isOther =
                length <= 64
                ? first &>> (64 &- length) != 0
                : first | (low ^ pe_load64_relaxed(node + 1)) &>> (128 &- length) != 0
            return pe_load64(node + (isOther ? 3 : 2))
        }
        let half = TrieWord.isLow(word) ? low : high
        return pe_load64(TrieWord.entry(word, node, TrieWord.byte(word, half)))
    }
}

/// The writer's side. One thread writes; any number of workers read through ``view``.
///
/// The answer for an address stands in exactly one word, a leaf, that a chain of node words leads to.
/// A change of the answer is one store: of a leaf in place, or of a node's word by that of its
/// successor. Nothing else of a node changes, and a node that is replaced rests until every reader has
/// been quiescent. So a reader sees for each address what the table said at some moment of its lookup:
/// no gap, and no shorter match, while a prefix is replaced. (Several addresses of one prefix change one
/// after the other.)
///
/// Every leaf belongs to one prefix and names its length, so that a prefix that goes finds its words.
public final class PrefixTrie {
    public let view: TrieView
    public let capacity: Int
    /// Prefixes of both families in all VRFs.
    public var count: Int { records.count }

    let vrfCount: Int
    let roots: UnsafeMutablePointer<UInt64>
    let nodes: TrieNodes
    let records: PrefixRecords
    /// A node's 256 words while it is made.
    let slots: UnsafeMutablePointer<UInt64>
    /// The nodes that the last ``repaint(_:_:)`` went through: where their words stand, and the byte
    /// of the address that each of them looks at or before.
    var path: [(slot: UnsafeMutablePointer<UInt64>, depth: Int)] = []

    static let name = "prefixes (limits.routes)"
    /// This many VRFs have a wide root (512 KiB) with their first IPv4 prefix, others with so many prefixes.
    static let freeWide = 16, wideWorth = 16_384
    private let freeWide: Int

    /// Reserves room for `capacity` prefixes; memory is used as they come.
    ///
    /// - Parameter vrfs: VRF indexes are below this.
    public convenience init(vrfs: Int, capacity: Int) throws(TableError) {
        try self.init(
            vrfs: vrfs, capacity: capacity, spareGranules: TrieNodes.spareGranules,
            wide: Self.freeWide + capacity / Self.wideWorth, freeWide: Self.freeWide)
    }
    /// - Parameters:
    ///   - wide: how many roots may be wide.
    ///   - freeWide: how many of them need not be worth it.
    init(vrfs: Int, capacity: Int, spareGranules: Int, wide: Int, freeWide: Int) throws(TableError) {
        self.freeWide = freeWide
        vrfCount = min(max(1, vrfs), 65_536)
        self.capacity = max(1, capacity)
        nodes = try TrieNodes(
            name: Self.name, prefixes: self.capacity, spareGranules: spareGranules, wide: wide)
        records = try PrefixRecords(name: Self.name, vrfs: vrfCount, capacity: self.capacity)
        // Every index that a reader may hold has a root: a word of 0 is a miss.
        guard let words = pe_pages(Self.rootByteCount) else {
            throw .outOfMemory(table: Self.name, byteCount: Self.rootByteCount)
        }
        roots = words.bindMemory(to: UInt64.self, capacity: Self.rootByteCount / 8)
        slots = .allocate(capacity: 256)
        slots.initialize(repeating: 0, count: 256)
        path.reserveCapacity(40)
        view = TrieView(roots: UnsafePointer(roots), nodes: UnsafeRawPointer(nodes.memory))
    }
    deinit {
        pe_pages_free(roots, Self.rootByteCount)
        slots.deallocate()
    }
    private static let rootByteCount = 65_536 * 16

    /// Inserts or replaces a prefix; host bits do not count.
    ///
    /// - Precondition: `value` is not ``BucketView/miss``.
    /// - Throws: `full` at the capacity, or when nodes that still rest leave no room; nothing changed then.
    public func set(vrf: UInt16, _ prefix: IPPrefix, _ value: UInt32, epoch: UInt64) throws(TableError) {
        precondition(value != BucketView.miss)
        guard Int(vrf) < vrfCount else { throw .full(table: "VRFs (limits.vrfs)", limit: vrfCount) }
        let key = PrefixKey(vrf: vrf, prefix)
        let leaf = TrieWord.leaf(value, length: key.length)
        if let number = records.find(key) {
            records.setValue(number, value)
            repaint(key, leaf)
            return
        }
        guard count < capacity else { throw .full(table: Self.name, limit: capacity) }
        if !key.isIPv6, isWideWorth(vrf) { widen(root(key), epoch: epoch) }
        guard place(key, leaf, epoch: epoch) else { throw .full(table: Self.name, limit: capacity) }
        records.insert(key, value)
    }

    private func isWideWorth(_ vrf: UInt16) -> Bool {
        nodes.wideInUse < freeWide || records.count(vrf: vrf, isIPv6: false) >= Self.wideWorth
    }

    /// Removes a prefix: its addresses fall back to the next shorter one. Returns whether it was there.
    @discardableResult
    public func remove(vrf: UInt16, _ prefix: IPPrefix, epoch: UInt64) -> Bool {
        guard Int(vrf) < vrfCount else { return false }
        let key = PrefixKey(vrf: vrf, prefix)
        guard let number = records.find(key) else { return false }
        records.remove(number)
        if records.count(vrf: vrf, isIPv6: key.isIPv6) == 0 {
            clear(root(key), epoch: epoch)
            return true
        }
        let cover = records.cover(of: key)
        repaint(key, cover.map { TrieWord.leaf($0.value, length: $0.length) } ?? TrieWord.miss)
        collapse(key, epoch: epoch)
        return true
    }

    /// Removes every prefix of a VRF, each family at once.
    public func removeAll(vrf: UInt16, epoch: UInt64) {
        guard Int(vrf) < vrfCount else { return }
        records.removeAll(vrf: vrf)
        clear(roots + Int(vrf) * 2, epoch: epoch)
        clear(roots + Int(vrf) * 2 + 1, epoch: epoch)
    }

    /// The value of exactly this prefix.
    public func value(vrf: UInt16, _ prefix: IPPrefix) -> UInt32? {
        guard Int(vrf) < vrfCount else { return nil }
        return records.find(PrefixKey(vrf: vrf, prefix)).map(records.value)
    }

    /// Frees the nodes that were replaced at or before `epoch`, which every reader has passed.
    public func reclaim(through epoch: UInt64) { nodes.reclaim(through: epoch) }

    /// Visits every prefix, in no order.
    public func forEach(_ body: (_ vrf: UInt16, _ prefix: IPPrefix, _ value: UInt32) -> Void) {
        for vrf in 0..<UInt32(vrfCount) { forEach(vrf: UInt16(vrf)) { body(UInt16(vrf), $0, $1) } }
    }
    /// Visits every prefix of a VRF, in no order. `body` must not change the trie.
    public func forEach(vrf: UInt16, _ body: (_ prefix: IPPrefix, _ value: UInt32) -> Void) {
        guard Int(vrf) < vrfCount else { return }
        records.forEach(vrf: vrf) { key, value in
            if let prefix = key.prefix { body(prefix, value) }
        }
    }

    /// Bytes in use on both sides, with what rests or was freed and waits to be used again.
    public var byteCount: Int { nodes.touchedByteCount + records.touchedByteCount }

    func root(_ key: PrefixKey) -> UnsafeMutablePointer<UInt64> {
        roots + (Int(key.vrf) * 2 + (key.isIPv6 ? 1 : 0))
    }
}
