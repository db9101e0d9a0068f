// Routes by table and prefix, each source's own row beside the others'.

import Wire

/// Who said something: the kernel, or one FPM connection.
struct Origin: Hashable, Comparable {
    let rawValue: UInt32
    static let kernel = Origin(rawValue: 0)
    static func connection(_ connection: Int) -> Origin {
        Origin(rawValue: UInt32(truncatingIfNeeded: connection) &+ 1)
    }
    static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// All routes.
struct RouteIntent {
    /// What one source says about one prefix.
    struct Row: Hashable {
        var origin: Origin
        var metric: UInt32
        var routeProtocol: UInt8
        var kind: RouteMessage.Kind
        /// 0 for none.
        var nextHopID: UInt32
        var nextHops: [RouteNextHop]
        var dump: UInt32
    }
    /// The rows of one prefix; nearly always one. The newest is last.
    struct Entry {
        private var first: Row
        private var rest: [Row] = []
        init(_ row: Row) { first = row }
        var rows: [Row] { [first] + rest }
        /// The row that counts: the lowest metric of the source that spoke last.
        var best: Row {
            guard let newest = rest.last else { return first }
            var best = newest
            for row in rows where row.origin == newest.origin && row.metric < best.metric {
                best = row
            }
            return best
        }
        func row(_ origin: Origin, metric: UInt32?) -> Row? {
            if first.origin == origin, metric == nil || first.metric == metric { return first }
            return rest.first { $0.origin == origin && (metric == nil || $0.metric == metric) }
        }
        /// Puts `row` in the place of the same source's; `metric` nil means that a source has one row.
        mutating func set(_ row: Row, metric: UInt32?) {
            if rest.isEmpty, first.origin == row.origin, metric == nil || first.metric == metric {
                first = row
                return
            }
            var all = rows.filter {
                !($0.origin == row.origin && (metric == nil || $0.metric == metric))
            }
            all.append(row)
            self = Entry(all)
        }
        private init(_ rows: [Row]) {
            first = rows[0]
            rest = Array(rows.dropFirst())
        }
        /// Nil when no row is left.
        func filtered(_ keep: (Row) -> Bool) -> Entry? {
            if rest.isEmpty { return keep(first) ? self : nil }
            let kept = rows.filter(keep)
            return kept.isEmpty ? nil : Entry(kept)
        }
    }

    /// The kernel's main table: RT_TABLE_MAIN.
    static let mainTable: UInt32 = 254
    private(set) var tables: [UInt32: PrefixTable<Entry>] = [:]
    /// How many inline next hops lead to a gateway, by interface.
    private var inlineUse: [IPAddress: [UInt32: Int]] = [:]
    /// Gateways that lost a user since this was last emptied.
    var released: [IPAddress] = []

    var count: Int { tables.values.reduce(0) { $0 + $1.count } }
    func table(_ number: UInt32) -> PrefixTable<Entry>? { tables[number] }

    /// Sets a row; returns the row that it replaced.
    mutating func set(_ row: Row, table: UInt32, prefix: IPPrefix, metric: UInt32?) -> Row? {
        retainInline(row)
        var replaced: Row?
        if var entry = tables[table]?[prefix] {
            replaced = entry.row(row.origin, metric: metric)
            entry.set(row, metric: metric)
            tables[table]?[prefix] = entry
        } else {
            tables[table, default: PrefixTable()][prefix] = Entry(row)
        }
        if let replaced { releaseInline(replaced) }
        return replaced
    }
    /// Removes a source's row; nil when there was none.
    mutating func remove(_ origin: Origin, table: UInt32, prefix: IPPrefix, metric: UInt32?) -> Row?
    {
        guard let entry = tables[table]?[prefix], let row = entry.row(origin, metric: metric) else {
            return nil
        }
        tables[table]?[prefix] = entry.filtered {
            !($0.origin == origin && (metric == nil || $0.metric == metric))
        }
        if tables[table]?.isEmpty ?? false { tables[table] = nil }
        releaseInline(row)
        return row
    }
    /// Removes every row that `drop` names; `body` gets each.
    mutating func removeAll(
        where drop: (Row) -> Bool,
        _ body: (UInt32, IPPrefix, Row) -> Void
    ) {
        for number in Array(tables.keys) {
            var dropped: [(IPPrefix, Row)] = []
            tables[number]?.updateAll { prefix, entry in
                for row in entry.rows where drop(row) { dropped.append((prefix, row)) }
                guard let kept = entry.filtered({ !drop($0) }) else { return false }
                entry = kept
                return true
            }
            if tables[number]?.isEmpty ?? false { tables[number] = nil }
            for (prefix, row) in dropped {
                releaseInline(row)
                body(number, prefix, row)
            }
        }
    }

    private mutating func retainInline(_ row: Row) {
        for hop in row.nextHops {
            if let gateway = hop.gateway?.normalized {
                inlineUse[gateway, default: [:]][hop.interface, default: 0] += 1
            }
        }
    }
    private mutating func releaseInline(_ row: Row) {
        for hop in row.nextHops {
            guard let gateway = hop.gateway?.normalized,
                let count = inlineUse[gateway]?[hop.interface]
            else { continue }
            inlineUse[gateway]?[hop.interface] = count > 1 ? count - 1 : nil
            if inlineUse[gateway]?.isEmpty ?? false { inlineUse[gateway] = nil }
            if count == 1 { released.append(gateway) }
        }
    }
    /// Gateways of inline next hops, with the interfaces towards them.
    var inlineGateways: [IPAddress: [UInt32]] { inlineUse.mapValues { Array($0.keys) } }
    /// The interfaces through which inline next hops reach `gateway`.
    func usedInterfaces(towards gateway: IPAddress) -> Set<UInt32> {
        Set(inlineUse[gateway].map { Array($0.keys) } ?? [])
    }
}
