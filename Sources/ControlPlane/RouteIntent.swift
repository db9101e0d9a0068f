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
        let rows: [Row]
        /// The row that counts: the lowest metric of the source that spoke last.
        var best: Row { rows[RouteIntent.best(rows)] }
        func row(_ origin: Origin, metric: UInt32?) -> Row? {
            rows.first { $0.origin == origin && (metric == nil || $0.metric == metric) }
        }
    }
    /// What a change did to contents: see ``RouteRows``.
    struct Change {
        /// A content that no route had before.
        var added: Row?
        /// Contents that no route has any more.
        var dropped: [Row] = []
    }

    /// The kernel's main table: RT_TABLE_MAIN.
    static let mainTable: UInt32 = 254
    /// Prefixes by position: the number of the row's content, or of a list with ``isList`` set.
    private var content: [PrefixMap] = []
    private var positions: [UInt32: Int] = [:]
    private var freePositions: [Int] = []
    private(set) var rows = RouteRows()
    /// Contents of prefixes with several rows, the newest last.
    private var lists: [[UInt32]] = []
    private var freeLists: [UInt32] = []
    private static let isList: UInt32 = 1 << 31
    private(set) var count = 0
    /// How many contents have an inline next hop to a gateway, by interface.
    private var inlineUse: [IPAddress: [UInt32: Int]] = [:]
    /// Gateways that lost a user since this was last emptied.
    var released: [IPAddress] = []

    private static func best(_ rows: [Row]) -> Int {
        var best = rows.count - 1
        for index in rows.indices
        where rows[index].origin == rows[rows.count - 1].origin && rows[index].metric < rows[best].metric {
            best = index
        }
        return best
    }
    private func numbers(_ value: UInt32) -> [UInt32] {
        value & Self.isList == 0 ? [value] : lists[Int(value & ~Self.isList)]
    }
    private func entry(_ value: UInt32) -> Entry { Entry(rows: numbers(value).map { rows[$0] }) }

    // MARK: Reading

    /// All routes of a kernel table; nil when there are none.
    func table(_ number: UInt32) -> Table? {
        positions[number].map { Table(intent: self, position: $0) }
    }
    /// The kernel tables with routes, in order.
    var tables: [(key: UInt32, value: Table)] {
        positions.sorted { $0.key < $1.key }.map { ($0.key, Table(intent: self, position: $0.value)) }
    }
    /// A look at one table.
    struct Table {
        fileprivate let intent: RouteIntent
        fileprivate let position: Int
        var count: Int { intent.content[position].count }
        subscript(prefix: IPPrefix) -> Entry? { intent.content[position].value(prefix).map { intent.entry($0) } }
        func forEach(_ body: (IPPrefix, Entry) -> Void) {
            intent.content[position].forEach { body($0, intent.entry($1)) }
        }
        /// The row of each prefix that counts.
        func forEachBest(_ body: (IPPrefix, Row) -> Void) {
            intent.content[position].forEach { prefix, value in
                body(prefix, value & RouteIntent.isList == 0 ? intent.rows[value] : intent.entry(value).best)
            }
        }
        /// In the same order in every run.
        var prefixes: [IPPrefix] {
            var found: [IPPrefix] = []
            intent.content[position].forEach { prefix, _ in found.append(prefix) }
            return found
        }
        func longestMatch(_ address: IPAddress, where accept: (Row) -> Bool) -> (prefix: IPPrefix, row: Row)? {
            intent.content[position].longestMatch(address) { accept(intent.entry($0).best) }
                .map { ($0.prefix, intent.entry($0.value).best) }
        }
    }
    /// The row that counts for a prefix.
    func best(_ table: UInt32, _ prefix: IPPrefix) -> Row? {
        guard let position = positions[table], let value = content[position].value(prefix) else { return nil }
        return value & Self.isList == 0 ? rows[value] : entry(value).best
    }
    /// The content's number of a prefix with one row.
    func single(_ table: UInt32, _ prefix: IPPrefix) -> UInt32? {
        guard let position = positions[table], let value = content[position].value(prefix), value & Self.isList == 0
        else { return nil }
        return value
    }

    // MARK: Changes

    /// Sets a row in the place of the same source's; `metric` nil means that a source has one row.
    mutating func set(_ row: Row, table: UInt32, prefix: IPPrefix, metric: UInt32?) -> Change {
        var change = Change()
        let (number, isFirst) = rows.retain(row)
        if isFirst {
            change.added = row
            retainInline(row)
        }
        let position = position(table)
        guard let value = content[position].value(prefix) else {
            content[position].set(prefix, number)
            count += 1
            return change
        }
        if value & Self.isList == 0, replaces(value, row.origin, metric) {
            if value != number { content[position].set(prefix, number) }
            release(value, &change)
            return change
        }
        var kept: [UInt32] = []
        for old in numbers(value) {
            if replaces(old, row.origin, metric) { release(old, &change) } else { kept.append(old) }
        }
        store(kept + [number], position, prefix, before: value)
        return change
    }
    /// Removes a source's row; nil when there was none.
    mutating func remove(_ origin: Origin, table: UInt32, prefix: IPPrefix, metric: UInt32?) -> Change? {
        guard let position = positions[table], let value = content[position].value(prefix) else { return nil }
        var change = Change()
        var kept: [UInt32] = []
        let all = numbers(value)
        for old in all where !replaces(old, origin, metric) { kept.append(old) }
        if kept.count == all.count { return nil }
        for old in all where replaces(old, origin, metric) { release(old, &change) }
        store(kept, position, prefix, before: value)
        if content[position].isEmpty { close(table) }
        return change
    }
    /// Removes every row that `drop` names; `body` gets the prefix of each. Returns the contents that
    /// no route has any more.
    mutating func removeAll(where drop: (Row) -> Bool, _ body: (UInt32, IPPrefix) -> Void) -> [Row] {
        var change = Change()
        for (number, position) in positions.sorted(by: { $0.key < $1.key }) {
            var affected: [(IPPrefix, UInt32)] = []
            content[position].forEach { prefix, value in
                if numbers(value).contains(where: { drop(rows[$0]) }) { affected.append((prefix, value)) }
            }
            for (prefix, value) in affected {
                let all = numbers(value)
                let kept = all.filter { !drop(rows[$0]) }
                let gone = all.filter { drop(rows[$0]) }
                store(kept, position, prefix, before: value)
                for old in gone {
                    release(old, &change)
                    body(number, prefix)
                }
            }
            if content[position].isEmpty { close(number) }
        }
        return change.dropped
    }

    private func replaces(_ number: UInt32, _ origin: Origin, _ metric: UInt32?) -> Bool {
        rows[number].origin == origin && (metric == nil || rows[number].metric == metric)
    }
    private mutating func release(_ number: UInt32, _ change: inout Change) {
        guard let row = rows.release(number) else { return }
        releaseInline(row)
        change.dropped.append(row)
    }
    private mutating func position(_ table: UInt32) -> Int {
        if let known = positions[table] { return known }
        let position = freePositions.popLast() ?? content.count
        if position == content.count { content.append(PrefixMap()) }
        positions[table] = position
        return position
    }
    private mutating func close(_ table: UInt32) {
        guard let position = positions.removeValue(forKey: table) else { return }
        content[position] = PrefixMap()
        freePositions.append(position)
    }
    private mutating func store(_ numbers: [UInt32], _ position: Int, _ prefix: IPPrefix, before: UInt32) {
        if before & Self.isList != 0 {
            lists[Int(before & ~Self.isList)] = []
            freeLists.append(before & ~Self.isList)
        }
        switch numbers.count {
        case 0:
            content[position].remove(prefix)
            count -= 1
        case 1: content[position].set(prefix, numbers[0])
        default:
            let list = freeLists.popLast() ?? UInt32(truncatingIfNeeded: lists.count)
            if Int(list) == lists.count { lists.append([]) }
            lists[Int(list)] = numbers
            content[position].set(prefix, list | Self.isList)
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
