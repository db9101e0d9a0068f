// The FDB and the host-route table under the benchmark, through the calls of the control plane.

import CLinux
import Tables
import Wire

/// MACs of 64 bridge domains, or hosts of 1000 VRFs, in random order.
final class HashTable: Subject {
    enum Kind: String {
        case fdb, hostsIPv4 = "hosts/ipv4", hostsIPv6 = "hosts/ipv6"
    }
    /// What is looked up.
    struct Query {
        var key: UInt64
        var high: UInt64
        var low: UInt64
    }
    static var makers: [Maker] {
        [Kind.fdb, .hostsIPv4, .hostsIPv6].flatMap { kind in
            [1000, 100_000, 1_000_000].map { entries in
                let id = "\(kind.rawValue)/\(entries)"
                return Maker(id: id, entries: entries) { try HashTable(kind, id: id, entries: entries) }
            }
        }
    }

    let id: String
    let entries: Int
    private let kind: Kind
    private let tables: ForwardingTables
    private let scopes: [UInt16]
    private let order: [Int]
    private let queries: UnsafeMutablePointer<Query>
    private var value: UInt32 = 0

    init(_ kind: Kind, id: String, entries: Int) throws {
        self.kind = kind
        self.id = id
        self.entries = entries
        var limits = TableLimits(vrfs: 1025)
        while limits.macs < entries { limits.macs *= 2 }
        tables = try ForwardingTables(limits: limits)
        var scopes: [UInt16] = []
        for number in 0..<(kind == .fdb ? 64 : 1000) {
            if kind == .fdb, let vni = VNI(UInt32(1 + number)) {
                scopes.append(try tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789)))
            } else {
                scopes.append(try tables.addVRF(VRFEntry(vni: nil)))
            }
        }
        self.scopes = scopes
        var random = Generator()
        order = (0..<entries).shuffled(using: &random)
        queries = .allocate(capacity: lookupCount)
        tables.publish()
        for index in 0..<lookupCount {
            let entry = Int.random(in: 0..<entries, using: &random)
            let scope = scopes[entry % scopes.count]
            switch kind {
            case .fdb:
                queries[index] = Query(key: FDBKey.make(domain: scope, mac: mac(entry).rawValue), high: 0, low: 0)
            case .hostsIPv4, .hostsIPv6:
                var query = Query(key: HostKey.make(scope, address(entry)), high: 0, low: 0)
                if case .v6(let six) = address(entry) { (query.high, query.low) = (six.high, six.low) }
                queries[index] = query
            }
        }
    }
    deinit { queries.deallocate() }

    // Odd factors permute 32 bits: every entry has an address of its own, and neighbours share no bucket.
    private func mac(_ entry: Int) -> MACAddress {
        MACAddress(rawValue: UInt64(UInt32(truncatingIfNeeded: entry) &* 2_654_435_761) << 16 | 0x02)
    }
    private func address(_ entry: Int) -> IPAddress {
        kind == .hostsIPv4
            ? .v4(IPv4Address(rawValue: 0x0A00_0000 + UInt32(entry)))
            : .v6(IPv6Address(high: 0x2001_0DB8_0000_0000 + UInt64(entry % 4096), low: UInt64(entry)))
    }

    // MARK: Changes

    private func visit(_ body: (Int, UInt16) throws -> Void) rethrows {
        var count = 0
        for entry in order {
            try body(entry, scopes[entry % scopes.count])
            count += 1
            // As often as the control loop ends a batch.
            if count % 1024 == 0 { tables.publish() }
        }
        tables.publish()
    }
    private func set(_ index: UInt32) throws {
        value = kind == .fdb ? FDBValue.tunnel(index).rawValue : RouteValue.hop(index).rawValue
        try visit { entry, scope in
            if kind == .fdb {
                try tables.setMAC(domain: scope, mac(entry), .tunnel(index))
            } else {
                try tables.setRoute(vrf: scope, IPPrefix(host: address(entry)), .hop(index))
            }
        }
    }
    func install() throws { try set(7) }
    func replace() throws { try set(9) }
    func remove() throws {
        visit { entry, scope in
            if kind == .fdb {
                tables.removeMAC(domain: scope, mac(entry))
            } else {
                tables.removeRoute(vrf: scope, IPPrefix(host: address(entry)))
            }
        }
    }
    var bytesPerEntry: Double? { nil }
    func changeDefault(_ turn: Int) throws -> Bool? { nil }

    // MARK: Lookups

    private func time(
        _ slice: Int, _ run: (UnsafePointer<ForwardingState>, UnsafePointer<Query>) -> UInt64
    ) -> (ticks: UInt64, isRight: Bool) {
        let reader = tables.reader(worker: 0)
        reader.quiescent()
        defer { reader.offline() }
        let state = reader.current.assumingMemoryBound(to: ForwardingState.self)
        let start = pe_tsc()
        let sum = run(state, queries + slice * sliceCount)
        return (pe_tsc() &- start, sum == UInt64(sliceCount) &* UInt64(value))
    }
    func bursts(_ slice: Int) -> (ticks: UInt64, isRight: Bool) {
        switch kind {
        case .fdb: time(slice, fdbBursts)
        case .hostsIPv4: time(slice, ipv4Bursts)
        case .hostsIPv6: time(slice, ipv6Bursts)
        }
    }
    func chain(_ slice: Int) -> (ticks: UInt64, isRight: Bool) {
        let expected = UInt64(value)
        return switch kind {
        case .fdb: time(slice) { fdbChain($0, $1, expected) }
        case .hostsIPv4: time(slice) { ipv4Chain($0, $1, expected) }
        case .hostsIPv6: time(slice) { ipv6Chain($0, $1, expected) }
        }
    }
}

/// Fetches the places of 32 queries, then looks them up; the sum of what it found.
@inline(__always) private func inBursts(
    _ table: BucketView, _ queries: UnsafePointer<HashTable.Query>,
    _ value: (HashTable.Query, UnsafeRawPointer) -> UInt32
) -> UInt64 {
    withUnsafeTemporaryAllocation(of: UnsafeRawPointer.self, capacity: 32) { buckets in
        guard let buckets = buckets.baseAddress else { return 0 }
        var sum: UInt64 = 0
        var first = 0
        while first < sliceCount {
            var index = 0
            while index < 32 {
                buckets[index] = table.bucket(of: queries[first &+ index].key)
                pe_prefetch(buckets[index])
                index &+= 1
            }
            index = 0
            while index < 32 {
                sum &+= UInt64(value(queries[first &+ index], buckets[index]))
                index &+= 1
            }
            first &+= 32
        }
        return sum
    }
}
/// Each query waits for the answer before it, which is `expected`: the bursts have shown that none is missing.
@inline(__always) private func inChain(
    _ queries: UnsafePointer<HashTable.Query>, _ expected: UInt64, _ value: (HashTable.Query) -> UInt32
) -> UInt64 {
    var last = expected
    var sum: UInt64 = 0
    var index = 0
    while index < sliceCount {
        last = UInt64(value(queries[index &+ Int(truncatingIfNeeded: last &- expected)]))
        sum &+= last
        index &+= 1
    }
    return sum
}

private typealias State = UnsafePointer<ForwardingState>
@inline(never) private func fdbBursts(_ state: State, _ queries: UnsafePointer<HashTable.Query>) -> UInt64 {
    let fdb = state.pointee.fdb
    return inBursts(fdb, queries) { fdb.value(of: $0.key, in: $1) }
}
@inline(never) private func ipv4Bursts(_ state: State, _ queries: UnsafePointer<HashTable.Query>) -> UInt64 {
    let hosts = state.pointee.hosts
    return inBursts(hosts.table, queries) { hosts.value(ipv4: $0.key, in: $1) }
}
@inline(never) private func ipv6Bursts(_ state: State, _ queries: UnsafePointer<HashTable.Query>) -> UInt64 {
    let hosts = state.pointee.hosts
    return inBursts(hosts.table, queries) { hosts.value(ipv6: $0.key, $0.high, $0.low, in: $1) }
}
@inline(never)
private func fdbChain(_ state: State, _ queries: UnsafePointer<HashTable.Query>, _ expected: UInt64) -> UInt64 {
    let fdb = state.pointee.fdb
    return inChain(queries, expected) { fdb.value(of: $0.key, in: fdb.bucket(of: $0.key)) }
}
@inline(never)
private func ipv4Chain(_ state: State, _ queries: UnsafePointer<HashTable.Query>, _ expected: UInt64) -> UInt64 {
    let hosts = state.pointee.hosts
    return inChain(queries, expected) { hosts.value(ipv4: $0.key, in: hosts.table.bucket(of: $0.key)) }
}
@inline(never)
private func ipv6Chain(_ state: State, _ queries: UnsafePointer<HashTable.Query>, _ expected: UInt64) -> UInt64 {
    let hosts = state.pointee.hosts
    return inChain(queries, expected) {
        hosts.value(ipv6: $0.key, $0.high, $0.low, in: hosts.table.bucket(of: $0.key))
    }
}
