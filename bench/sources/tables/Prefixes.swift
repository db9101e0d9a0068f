// The prefix trie under the benchmark: random prefixes of several shapes.

import CLinux
import Tables
import Wire

/// What is looked up: VRF and address, IPv4 in the upper bits of `high`.
struct PrefixQuery {
    var vrf: UInt16
    var high: UInt64
    var low: UInt64
}

/// Bursts of 32, as a worker has them: first the roots of all are fetched, then the lookups.
@inline(never)
func lookupBursts(
    _ view: UnsafePointer<TrieView>, _ queries: UnsafePointer<PrefixQuery>, _ count: Int, _ isIPv6: Bool
) -> UInt64 {
    let view = view.pointee
    var sum: UInt64 = 0
    var first = 0
    while first &+ 32 <= count {
        let burst = queries + first
        var index = 0
        while index < 32 {
            view.prefetch(vrf: burst[index].vrf)
            index &+= 1
        }
        index = 0
        while index < 32 {
            let query = burst[index]
            let found =
                isIPv6
                ? view.lookup(vrf: query.vrf, ipv6: query.high, query.low)
                : view.lookup(vrf: query.vrf, ipv4: UInt32(truncatingIfNeeded: query.high &>> 32))
            sum &+= UInt64(found)
            index &+= 1
        }
        first &+= 32
    }
    return sum
}

/// One lookup after the other: each address waits for the answer before it, which is `expected`.
@inline(never)
func lookupChain(
    _ view: UnsafePointer<TrieView>, _ queries: UnsafePointer<PrefixQuery>, _ count: Int, _ isIPv6: Bool,
    expected: UInt64
) -> UInt64 {
    let view = view.pointee
    var last = expected
    var index = 0
    while index < count {
        let query = queries[index &+ Int(truncatingIfNeeded: last &- expected)]
        let found =
            isIPv6
            ? view.lookup(vrf: query.vrf, ipv6: query.high, query.low)
            : view.lookup(vrf: query.vrf, ipv4: UInt32(truncatingIfNeeded: query.high &>> 32))
        last = UInt64(found)
        index &+= 1
    }
    return last
}

/// Prefixes of one length or of many, in one VRF or in a thousand.
final class Prefixes: Subject {
    struct Shape: Sendable {
        let lengths: String
        let vrfs: Int
        /// In each VRF.
        let prefixes: Int
        let isIPv6: Bool
        let prefix: @Sendable (inout Generator) -> IPPrefix

        var entries: Int { vrfs * prefixes }
        var id: String {
            "prefixes/\(isIPv6 ? "ipv6" : "ipv4")/\(entries)/\(lengths)" + (vrfs > 1 ? "/vrfs=\(vrfs)" : "")
        }
    }

    static func four(_ value: UInt64, _ length: Int) -> IPPrefix? {
        IPPrefix(.v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: value))), length: length)?.network
    }
    static func six(_ high: UInt64, _ low: UInt64, _ length: Int) -> IPPrefix? {
        IPPrefix(.v6(IPv6Address(high: high, low: low)), length: length)?.network
    }
    static let any = IPPrefix("0.0.0.0/0").unsafelyUnwrapped

    static let shapes: [Shape] = [
        Shape(lengths: "24-of-8", vrfs: 1000, prefixes: 10, isIPv6: false) {
            four(0x0A00_0000 | $0.next() & 0xFF_FFFF, 24) ?? any
        },
        Shape(lengths: "24-of-16", vrfs: 1000, prefixes: 10, isIPv6: false) {
            four(0x0A01_0000 | $0.next() & 0xFFFF, 24) ?? any
        },
        Shape(lengths: "24-of-8", vrfs: 1, prefixes: 10_000, isIPv6: false) {
            four(0x0A00_0000 | $0.next() & 0xFF_FFFF, 24) ?? any
        },
        Shape(lengths: "16-28", vrfs: 1, prefixes: 10_000, isIPv6: false) {
            four($0.next(), 16 + Int($0.next() % 13)) ?? any
        },
        Shape(lengths: "24", vrfs: 1, prefixes: 1_000_000, isIPv6: false) {
            four($0.next(), 24) ?? any
        },
        Shape(lengths: "64-of-48", vrfs: 1000, prefixes: 10, isIPv6: true) {
            six(0x2001_0DB8_0001_0000 | $0.next() & 0xFFFF, 0, 64) ?? any
        },
        Shape(lengths: "64-of-32", vrfs: 1, prefixes: 10_000, isIPv6: true) {
            six(0x2001_0DB8 << 32 | $0.next() & 0xFFFF_FFFF, 0, 64) ?? any
        },
        Shape(lengths: "48", vrfs: 1, prefixes: 1_000_000, isIPv6: true) {
            six($0.next(), 0, 48) ?? any
        },
    ]
    static var makers: [Maker] {
        shapes.map { shape in Maker(id: shape.id, entries: shape.entries) { try Prefixes(shape) } }
    }

    let id: String
    let entries: Int
    private let isIPv6: Bool
    private let trie: PrefixTrie
    private let all: [(UInt16, IPPrefix)]
    private let queries: UnsafeMutablePointer<PrefixQuery>
    private var epoch: UInt64 = 1
    private var value: UInt32 = 0

    init(_ shape: Shape) throws {
        id = shape.id
        entries = shape.entries
        isIPv6 = shape.isIPv6
        trie = try PrefixTrie(vrfs: 1001, capacity: 1_100_000)
        var random = Generator()
        var prefixes: [(UInt16, IPPrefix)] = []
        for vrf in 1...shape.vrfs {
            for _ in 0..<shape.prefixes { prefixes.append((UInt16(vrf), shape.prefix(&random))) }
        }
        prefixes.shuffle(using: &random)
        all = prefixes
        queries = .allocate(capacity: lookupCount)
        for index in 0..<lookupCount {
            let (vrf, prefix) = all[Int.random(in: 0..<all.count, using: &random)]
            let host = random.next()
            switch prefix.address {
            case .v4(let v4):
                let bits = UInt64(v4.rawValue) << 32 | host & (UInt64.max >> UInt64(prefix.length))
                queries[index] = PrefixQuery(vrf: vrf, high: bits, low: 0)
            case .v6(let v6):
                let high = v6.high | host & (UInt64.max >> UInt64(prefix.length))
                queries[index] = PrefixQuery(vrf: vrf, high: high, low: host)
            }
        }
    }
    deinit { queries.deallocate() }

    /// Readers are 64 changes behind.
    private func visit(_ body: (UInt16, IPPrefix) throws(TableError) -> Void) throws(TableError) {
        for (vrf, prefix) in all {
            epoch += 1
            try body(vrf, prefix)
            if epoch & 63 == 0 { trie.reclaim(through: epoch - 64) }
        }
    }
    private func set(_ value: UInt32) throws {
        self.value = value
        try visit { (vrf, prefix) throws(TableError) in try trie.set(vrf: vrf, prefix, value, epoch: epoch) }
    }
    func install() throws { try set(7) }
    func replace() throws { try set(9) }
    func remove() throws {
        try visit { (vrf, prefix) throws(TableError) in _ = trie.remove(vrf: vrf, prefix, epoch: epoch) }
    }
    /// Of few entries it would tell the size of pages.
    var bytesPerEntry: Double? { entries < 100_000 ? nil : Double(trie.byteCount) / Double(max(1, trie.count)) }

    func changeDefault(_ turn: Int) throws -> Bool? {
        let root: IPPrefix = isIPv6 ? Self.six(0, 0, 0) ?? Self.any : Self.any
        epoch += 1
        if turn % 3 == 2 { return trie.remove(vrf: 1, root, epoch: epoch) }
        try trie.set(vrf: 1, root, UInt32(turn), epoch: epoch)
        return true
    }

    func bursts(_ slice: Int) -> (ticks: UInt64, isRight: Bool) {
        var view = trie.view
        let start = pe_tsc()
        let sum = lookupBursts(&view, queries + slice * sliceCount, sliceCount, isIPv6)
        return (pe_tsc() &- start, sum == UInt64(sliceCount) &* UInt64(value))
    }
    func chain(_ slice: Int) -> (ticks: UInt64, isRight: Bool) {
        var view = trie.view
        // Read from the table, so that the compiler cannot know it.
        let expected = UInt64(trie.value(vrf: all[0].0, all[0].1) ?? BucketView.miss)
        let start = pe_tsc()
        let last = lookupChain(&view, queries + slice * sliceCount, sliceCount, isIPv6, expected: expected)
        return (pe_tsc() &- start, last == expected && expected == UInt64(value))
    }
}
