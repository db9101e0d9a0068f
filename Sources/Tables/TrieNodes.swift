// Memory of the prefix tries' nodes: granules of 32 bytes, given back when readers have passed.

import CLinux

/// Nodes by their granules. A node that readers may be in rests unchanged; then it is used again.
final class TrieNodes {
    let memory: UnsafeMutableRawPointer
    private let byteCount: Int
    /// Granules that insertions may use; what lies behind is for nodes that get smaller.
    private let limit: Int
    private let hardLimit: Int
    /// The first granule that was never used.
    private var next = directGranules
    /// First free node by its granules; a free node's first word is the next one.
    private var free = [UInt32](repeating: 0, count: directGranules + 1)
    /// Nodes that were replaced and the epoch at which they were.
    private var resting: [(number: UInt32, granules: UInt32, epoch: UInt64)] = []
    private var restingHead = 0
    /// Nodes made for the change that is under way.
    private var fresh: [(number: Int, granules: Int)] = []
    private var isExhausted = false
    /// Granules of nodes that are part of a trie.
    private(set) var used = 0

    /// First number, size and count of wide nodes: they have room of their own behind all others.
    private let firstWide: Int
    private static let wideGranules = TrieWord.wideCount * 8 / TrieWord.granule
    private let wideLimit: Int
    /// Wide nodes that were ever used; those of them that are free.
    private var wideNext = 0
    private var freeWide: [UInt32] = []
    /// Wide nodes that were not given back yet.
    var wideInUse: Int { wideNext - freeWide.count }

    private static let directGranules = 64
    /// Granules for each prefix that may be there: five on average in the worst shape known (IPv6
    /// prefixes at random), and the rest for nodes that rest while many prefixes come at once.
    private static let granulesPerPrefix = 32
    /// Granules for nodes that rest in small tables while a worker's thread is not running (16 MiB).
    static let spareGranules = 1 << 19

    /// - Parameter wide: how many wide nodes there may be.
    init(name: String, prefixes: Int, spareGranules: Int, wide: Int) throws(TableError) {
        limit = min(Self.directGranules + spareGranules + prefixes * Self.granulesPerPrefix, 1 << 32 - 1 << 30)
        hardLimit = limit + 1024 + prefixes
        wideLimit = wide
        firstWide = (hardLimit + Self.wideGranules - 1) / Self.wideGranules * Self.wideGranules
        let bytes = (firstWide + wide * Self.wideGranules) * TrieWord.granule
        guard let memory = pe_pages(bytes) else { throw .outOfMemory(table: name, byteCount: bytes) }
        self.memory = memory
        byteCount = bytes
        fresh.reserveCapacity(8)
    }
    deinit { pe_pages_free(memory, byteCount) }

    var touchedByteCount: Int { (next + wideNext * Self.wideGranules) * TrieWord.granule }
    var restingCount: Int { resting.count - restingHead }

    func node(_ word: UInt64) -> UnsafeMutablePointer<UInt64> { node(number: TrieWord.number(word)) }
    func node(number: Int) -> UnsafeMutablePointer<UInt64> {
        (memory + number * TrieWord.granule).assumingMemoryBound(to: UInt64.self)
    }

    // MARK: Making nodes

    /// Ends a change's making of nodes. False when there was no room: then none of them is kept, and
    /// their words must not be published.
    func commit() -> Bool {
        defer { fresh.removeAll(keepingCapacity: true) }
        guard isExhausted else { return true }
        isExhausted = false
        for entry in fresh { release(entry.number, entry.granules) }
        return false
    }

    /// A node's number. Without room that of a scratch node which no reader reaches, so that a change
    /// can be written down to its end: see ``commit()``.
    private func take(_ granules: Int, isShrinking: Bool) -> Int {
        var number = Int(free[granules])
        if number != 0 {
            free[granules] = UInt32(truncatingIfNeeded: node(number: number)[0])
        } else if next + granules <= (isShrinking ? hardLimit : limit) {
            number = next
            next += granules
        } else if let larger = (granules + 1..<free.count).first(where: { free[$0] != 0 }) {
            number = Int(free[larger])
            free[larger] = UInt32(truncatingIfNeeded: node(number: number)[0])
            used += larger - granules
            release(number + granules, larger - granules)
        } else {
            isExhausted = true
            return 0
        }
        used += granules
        fresh.append((number, granules))
        return number
    }
    private func release(_ number: Int, _ granules: Int) {
        if granules == Self.wideGranules {
            freeWide.append(UInt32(number))
            return
        }
        node(number: number)[0] = UInt64(free[granules])
        free[granules] = UInt32(number)
        used -= granules
    }

    /// The number of a wide node, its words still to be written; nil when there is none left.
    func wide() -> Int? {
        if let number = freeWide.popLast() { return Int(number) }
        guard wideNext < wideLimit else { return nil }
        wideNext += 1
        return firstWide + (wideNext - 1) * Self.wideGranules
    }

    /// A test of the first `length` bits; see ``TrieWord``.
    func test(_ key: PrefixKey, length: Int, hit: UInt64, miss: UInt64, isShrinking: Bool = false) -> UInt64 {
        let number = take(1, isShrinking: isShrinking)
        let node = node(number: number)
        let masked = key.masked(length)
        node[0] = masked.high
        node[1] = masked.low
        node[2] = hit
        node[3] = miss
        return TrieWord.test(number, length: length)
    }

    /// A branch at the byte `depth`, from 256 words and the bits where their runs begin.
    func branch(
        _ slots: UnsafePointer<UInt64>, runs: TrieRuns, depth: Int, isShrinking: Bool = false
    ) -> UInt64 {
        if runs.count >= TrieWord.directCount {
            let number = take(Self.directGranules, isShrinking: isShrinking)
            node(number: number).update(from: slots, count: 256)
            return TrieWord.direct(number, depth: depth)
        }
        let number = take(Self.granules(runs.count), isShrinking: isShrinking)
        let node = node(number: number)
        var entry = 4
        for quarter in 0..<4 {
            var left = runs.bits[quarter]
            node[quarter] = left
            while left != 0 {
                node[entry] = slots[quarter * 64 + left.trailingZeroBitCount]
                left &= left - 1
                entry += 1
            }
        }
        return TrieWord.branch(number, depth: depth, bits: node)
    }
    private static func granules(_ runCount: Int) -> Int { (4 + runCount + 3) / 4 }

    // MARK: Giving nodes back

    /// A node that no new reader reaches; 0 granules for a leaf.
    func retire(_ word: UInt64, epoch: UInt64) {
        guard TrieWord.isNode(word) else { return }
        let granules =
            TrieWord.isTest(word)
            ? 1 : TrieWord.isWide(word)
            ? Self.wideGranules : TrieWord.isDirect(word)
            ? Self.directGranules : Self.granules(TrieWord.runCount(word, node(word)))
        // Epochs only grow; what comes late rests as long as its predecessor.
        let last = restingHead < resting.count ? resting[resting.count - 1].epoch : 0
        resting.append((UInt32(TrieWord.number(word)), UInt32(granules), max(epoch, last)))
    }

    /// The entries of a branch: all 256 or 65536, or one by run.
    func entries(_ word: UInt64) -> UnsafeMutableBufferPointer<UInt64> {
        let node = node(word)
        return TrieWord.isDirect(word)
            ? UnsafeMutableBufferPointer(start: node, count: TrieWord.isWide(word) ? TrieWord.wideCount : 256)
            : UnsafeMutableBufferPointer(start: node + 4, count: TrieWord.runCount(word, node))
    }

    /// Retires a node and all below it.
    func retireAll(_ word: UInt64, epoch: UInt64) {
        guard TrieWord.isNode(word) else { return }
        if TrieWord.isTest(word) {
            retireAll(node(word)[2], epoch: epoch)
        } else {
            for entry in entries(word) { retireAll(entry, epoch: epoch) }
        }
        retire(word, epoch: epoch)
    }

    func reclaim(through epoch: UInt64) {
        while restingHead < resting.count, resting[restingHead].epoch <= epoch {
            let entry = resting[restingHead]
            release(Int(entry.number), Int(entry.granules))
            restingHead += 1
        }
        if restingHead == resting.count {
            resting.removeAll(keepingCapacity: true)
            restingHead = 0
        } else if restingHead > 4096, restingHead * 2 > resting.count {
            resting.removeFirst(restingHead)
            restingHead = 0
        }
    }
}

/// Where the runs of a branch's 256 words begin.
struct TrieRuns {
    var bits: InlineArray<4, UInt64> = .init(repeating: 0)
    var count = 0

    init(_ slots: UnsafePointer<UInt64>, depth: Int) {
        var previous = slots[0]
        bits[0] = 1
        count = 1
        for value in 1..<256 {
            let word = slots[value]
            if word == previous && word >> 32 <= 8 * UInt64(depth) + 1 { continue }
            if TrieWord.isRunStart(word, after: previous, at: value, depth: depth) {
                bits[value >> 6] |= 1 << UInt64(value & 63)
                count += 1
            }
            previous = word
        }
    }
    /// The first value of each run.
    var starts: [Int] { (0..<256).filter { bits[$0 >> 6] >> UInt64($0 & 63) & 1 == 1 } }
}
