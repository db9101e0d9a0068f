// The words that a prefix trie consists of: leaves, and numbers of nodes with what a reader needs first.

public import CLinux

/// A word of a ``PrefixTrie``: the root of a family, or an entry of a node.
///
/// | kind (bits 63, 62) | bits 0-31 | further bits |
/// |---|---|---|
/// | 0 leaf | the value's complement: a word of zeros is a miss | 32-39: 1 + the length of the prefix, 0 for none |
/// | 1 test | node number | 32-39: length compared |
/// | 2 branch | node number | 32-55: entries before the 2nd, 3rd, 4th 64 values; 56-59: byte |
/// | 3 direct | node number | 56-59: byte; 60: wide |
///
/// A node's number counts granules of 32 bytes. The byte is 7 minus its place in its half of the
/// address, plus 8 in the low half. IPv4 addresses are the upper bits of the high half.
///
/// A *test* is one granule: the compared bits (two words), the word for addresses that have them, the
/// word for the others. Tests stand for what has no branches: a prefix alone, and bytes that all have.
/// A *branch* has 256 bits that say at which values of the byte a run of equal entries begins, then
/// the runs' words. With ``directCount`` runs it is *direct*: 256 words, one by value.
/// The root of an IPv4 family may be *wide*: 65536 words, one by value of the first two bytes.
@usableFromInline
enum TrieWord {
    static let miss: UInt64 = 0
    /// Runs from which on a node has a word for every value (2 KiB against 32 + 8 bytes a run).
    static let directCount = 64
    static let granule = 32
    /// Words of a wide node.
    static let wideCount = 65_536

    // MARK: What readers use

    @inlinable @inline(__always)
    static func isNode(_ word: UInt64) -> Bool { word >> 62 != 0 }
    @inlinable @inline(__always)
    static func isTest(_ word: UInt64) -> Bool { word >> 62 == 1 }
    @inlinable @inline(__always)
    static func isDirect(_ word: UInt64) -> Bool { word >> 62 == 3 }
    @inlinable @inline(__always)
    static func isWide(_ word: UInt64) -> Bool { word & 1 << 60 != 0 }

    @inlinable @inline(__always)
    static func node(_ word: UInt64, in nodes: UnsafeRawPointer) -> UnsafePointer<UInt64> {
        (nodes + Int(truncatingIfNeeded: word & 0xFFFF_FFFF) &<< 5).assumingMemoryBound(to: UInt64.self)
    }
    @inlinable @inline(__always)
    static func value(_ word: UInt64) -> UInt32 { ~UInt32(truncatingIfNeeded: word) }
    @inlinable @inline(__always)
    static func length(_ word: UInt64) -> UInt64 { word >> 32 & 0xFF }
    @inlinable @inline(__always)
    static func isLow(_ word: UInt64) -> Bool { word & 1 << 59 != 0 }
    /// The byte of `half` that a branch looks at.
    @inlinable @inline(__always)
    static func byte(_ word: UInt64, _ half: UInt64) -> Int {
        Int(truncatingIfNeeded: half &>> (word >> 53 & 56) & 0xFF)
    }
    /// The entry of a branch, direct or not, for a byte.
    @inlinable @inline(__always)
    static func entry(_ word: UInt64, _ node: UnsafePointer<UInt64>, _ byte: Int) -> UnsafePointer<UInt64> {
        isDirect(word) ? node + byte : node + (3 &+ rank(word, node, byte))
    }
    /// Runs that begin at or before `byte`.
    @inlinable @inline(__always)
    static func rank(_ word: UInt64, _ node: UnsafePointer<UInt64>, _ byte: Int) -> Int {
        let quarter = byte &>> 6
        let before = (word >> 24 & 0xFFFF_FF00) &>> UInt64(truncatingIfNeeded: quarter &<< 3) & 0xFF
        let begun = pe_load64_relaxed(node + quarter) &<< UInt64(truncatingIfNeeded: ~byte & 63)
        return Int(truncatingIfNeeded: before) &+ begun.nonzeroBitCount
    }

    // MARK: What the writer adds

    static func leaf(_ value: UInt32, length: Int) -> UInt64 { UInt64(length + 1) << 32 | UInt64(~value) }
    /// 1 + the length of a leaf's prefix; 0 for a miss.
    static func owner(_ leaf: UInt64) -> UInt64 { leaf >> 32 & 0xFF }
    static func number(_ word: UInt64) -> Int { Int(word & 0xFFFF_FFFF) }
    static func test(_ number: Int, length: Int) -> UInt64 { 1 << 62 | UInt64(length) << 32 | UInt64(number) }
    static func direct(_ number: Int, depth: Int) -> UInt64 { 3 << 62 | place(depth) | UInt64(number) }
    static func wide(_ number: Int) -> UInt64 { 3 << 62 | 1 << 60 | UInt64(number) }
    /// - Parameter bits: the four words that say where runs begin.
    static func branch(_ number: Int, depth: Int, bits: UnsafePointer<UInt64>) -> UInt64 {
        let first = UInt64(bits[0].nonzeroBitCount)
        let second = first + UInt64(bits[1].nonzeroBitCount)
        let third = second + UInt64(bits[2].nonzeroBitCount)
        return 2 << 62 | place(depth) | third << 48 | second << 40 | first << 32 | UInt64(number)
    }
    private static func place(_ depth: Int) -> UInt64 { UInt64(depth & 8 | 7 - depth & 7) << 56 }
    /// Runs of a branch that is not direct.
    static func runCount(_ word: UInt64, _ node: UnsafePointer<UInt64>) -> Int {
        Int(word >> 48 & 0xFF) + node[3].nonzeroBitCount
    }

    /// Whether the entries of two neighbouring values of the byte at `depth` must stay apart: they
    /// differ, or belong to two prefixes of the same length and value.
    static func isRunStart(_ word: UInt64, after previous: UInt64, at value: Int, depth: Int) -> Bool {
        if word != previous || isNode(word) { return true }
        let length = Int(owner(word)) - 1
        guard length > 8 * depth else { return false }
        let free = 8 * depth + 8 - length
        return value >> free != (value - 1) >> free
    }
}
