// Cycles of a prefix lookup, and the cost of installing and removing prefixes.

import CLinux
import Tables
import Wire

/// SplitMix64, so that every run looks the same addresses up.
struct Generator: RandomNumberGenerator {
    var state: UInt64 = 1
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// What is looked up: VRF and address, IPv4 in the upper bits of `high`.
struct Query {
    var vrf: UInt16
    var high: UInt64
    var low: UInt64
}

/// Bursts of 32, as a worker has them: first the roots of all are fetched, then the lookups.
@inline(never)
func lookupBursts(
    _ view: UnsafePointer<TrieView>, _ queries: UnsafePointer<Query>, _ count: Int, _ isIPv6: Bool
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
    _ view: UnsafePointer<TrieView>, _ queries: UnsafePointer<Query>, _ count: Int, _ isIPv6: Bool,
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

@main struct TrieBench {
    struct Shape: Sendable {
        let name: String
        let vrfs: Int
        let prefixes: Int
        let isIPv6: Bool
        let prefix: @Sendable (inout Generator) -> IPPrefix
    }

    static func four(_ value: UInt64, _ length: Int) -> IPPrefix? {
        IPPrefix(.v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: value))), length: length)?.network
    }
    static func six(_ high: UInt64, _ low: UInt64, _ length: Int) -> IPPrefix? {
        IPPrefix(.v6(IPv6Address(high: high, low: low)), length: length)?.network
    }
    static let any = IPPrefix("0.0.0.0/0").unsafelyUnwrapped

    static let shapes: [Shape] = [
        Shape(name: "IPv4, 1000 VRFs x 10, /24 of 10/8", vrfs: 1000, prefixes: 10, isIPv6: false) {
            four(0x0A00_0000 | $0.next() & 0xFF_FFFF, 24) ?? any
        },
        Shape(name: "IPv4, 1000 VRFs x 10, /24 of one /16", vrfs: 1000, prefixes: 10, isIPv6: false) {
            four(0x0A01_0000 | $0.next() & 0xFFFF, 24) ?? any
        },
        Shape(name: "IPv4, 1 VRF x 10000, /24 of 10/8", vrfs: 1, prefixes: 10_000, isIPv6: false) {
            four(0x0A00_0000 | $0.next() & 0xFF_FFFF, 24) ?? any
        },
        Shape(name: "IPv4, 1 VRF x 10000, /16 to /28", vrfs: 1, prefixes: 10_000, isIPv6: false) {
            four($0.next(), 16 + Int($0.next() % 13)) ?? any
        },
        Shape(name: "IPv4, 1 VRF x 1000000, /24", vrfs: 1, prefixes: 1_000_000, isIPv6: false) {
            four($0.next(), 24) ?? any
        },
        Shape(name: "IPv6, 1000 VRFs x 10, /64 of one /48", vrfs: 1000, prefixes: 10, isIPv6: true) {
            six(0x2001_0DB8_0001_0000 | $0.next() & 0xFFFF, 0, 64) ?? any
        },
        Shape(name: "IPv6, 1 VRF x 10000, /64 of one /32", vrfs: 1, prefixes: 10_000, isIPv6: true) {
            six(0x2001_0DB8 << 32 | $0.next() & 0xFFFF_FFFF, 0, 64) ?? any
        },
        Shape(name: "IPv6, 1 VRF x 1000000, /48", vrfs: 1, prefixes: 1_000_000, isIPv6: true) {
            six($0.next(), 0, 48) ?? any
        },
    ]

    static func main() throws(TableError) {
        print("TSC ticks for each lookup; installations and removals for each second; bytes for each prefix;")
        print("microseconds to add, change or remove the default route of the first VRF")
        print("bursts of 32   one by one   install/s    remove/s   replace/s   bytes   default us   table")
        for shape in shapes { try run(shape) }
    }

    static func seconds(_ body: () throws(TableError) -> Void) throws(TableError) -> Double {
        let start = ContinuousClock.now
        try body()
        let time = (ContinuousClock.now - start).components
        return Double(time.seconds) + Double(time.attoseconds) * 1e-18
    }

    static func run(_ shape: Shape) throws(TableError) {
        let trie = try PrefixTrie(vrfs: 1001, capacity: 1_100_000)
        var random = Generator()
        var installed: [(UInt16, IPPrefix)] = []
        for vrf in 1...shape.vrfs {
            for _ in 0..<shape.prefixes { installed.append((UInt16(vrf), shape.prefix(&random))) }
        }
        installed.shuffle(using: &random)
        let all = installed
        var epoch: UInt64 = 1
        func change(_ body: (UInt16, IPPrefix) throws(TableError) -> Void) throws(TableError) -> Double {
            let time = try seconds { () throws(TableError) in
                for (vrf, prefix) in all {
                    epoch += 1
                    try body(vrf, prefix)
                    if epoch & 63 == 0 { trie.reclaim(through: epoch - 64) }
                }
            }
            return Double(all.count) / time
        }
        let installs = try change { (vrf, prefix) throws(TableError) in
            try trie.set(vrf: vrf, prefix, 7, epoch: epoch)
        }
        let bytes = Double(trie.byteCount) / Double(trie.count)
        let replaces = try change { (vrf, prefix) throws(TableError) in
            try trie.set(vrf: vrf, prefix, 9, epoch: epoch)
        }
        let root: IPPrefix = shape.isIPv6 ? six(0, 0, 0) ?? any : any
        let cover = try seconds { () throws(TableError) in
            for value in 0..<10 as Range<UInt32> {
                try trie.set(vrf: 1, root, value, epoch: epoch)
                if value % 2 == 1 { trie.remove(vrf: 1, root, epoch: epoch) }
            }
        }
        let (bursts, chain) = lookups(shape, trie, all, &random)
        let removes = try change { (vrf, prefix) throws(TableError) in
            trie.remove(vrf: vrf, prefix, epoch: epoch)
        }
        let values = [bursts, chain, installs, removes, replaces, bytes, cover / 15 * 1e6]
        let columns = values.enumerated().map { index, value in
            let text = index < 2 ? "\((value * 10).rounded() / 10)" : "\(Int(value))"
            return String(repeating: " ", count: max(0, [12, 12, 11, 11, 11, 7, 12][index] - text.count)) + text
        }
        print(columns.joined(separator: " "), " ", shape.name)
    }

    /// The best of several runs, in TSC ticks: in bursts, and one by one.
    static func lookups(
        _ shape: Shape, _ trie: PrefixTrie, _ installed: [(UInt16, IPPrefix)], _ random: inout Generator
    ) -> (Double, Double) {
        let count = 1 << 16
        let queries = UnsafeMutablePointer<Query>.allocate(capacity: count)
        defer { queries.deallocate() }
        for index in 0..<count {
            let (vrf, prefix) = installed[Int.random(in: 0..<installed.count, using: &random)]
            let host = random.next()
            switch prefix.address {
            case .v4(let v4):
                let bits = UInt64(v4.rawValue) << 32 | host & (UInt64.max >> UInt64(prefix.length))
                queries[index] = Query(vrf: vrf, high: bits, low: 0)
            case .v6(let v6):
                let high = v6.high | host & (UInt64.max >> UInt64(prefix.length))
                queries[index] = Query(vrf: vrf, high: high, low: host)
            }
        }
        var view = trie.view
        // Read from the table, so that the compiler cannot know it.
        let expected = trie.value(vrf: installed[0].0, installed[0].1) ?? BucketView.miss
        var best = (Double.infinity, Double.infinity)
        for _ in 0..<15 {
            let start = pe_tsc()
            let sum = lookupBursts(&view, queries, count, shape.isIPv6)
            let middle = pe_tsc()
            let last = lookupChain(&view, queries, count, shape.isIPv6, expected: UInt64(expected))
            let end = pe_tsc()
            precondition(sum == UInt64(count) * UInt64(expected) && last == UInt64(expected), "a lookup missed")
            best.0 = min(best.0, Double(middle - start) / Double(count))
            best.1 = min(best.1, Double(end - middle) / Double(count))
        }
        return best
    }
}
