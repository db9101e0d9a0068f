// One answer of `pe-dp show`: its topic, the filter it obeys, its order, its JSON.

public import Foundation
import Wire

/// What can be shown; the raw value is the word after `pe-dp show`.
public enum ShowTopic: String, CaseIterable, Codable, Sendable {
    case ports, vnis, vrfs, fdb, routes, neighbors, nexthops, vteps, flood, counters, drops
    case control, lcores

    /// The filters that this topic obeys, as query names.
    public var filters: [String] {
        switch self {
        case .ports: ["port"]
        case .vnis: ["vni", "vrf"]
        case .vrfs: ["vrf", "vni"]
        case .fdb: ["vni", "mac", "port"]
        case .routes: ["vrf", "vni", "prefix"]
        case .neighbors: ["vni", "vrf", "mac"]
        case .nexthops, .drops, .control, .lcores: []
        case .vteps, .flood: ["vni"]
        case .counters: ["vni", "port"]
        }
    }
}

/// Which rows are wanted; nil matches all.
public struct ShowFilter: Hashable, Sendable {
    public var vni: UInt32?
    public var vrf: String?
    public var mac: MACAddress?
    public var port: String?
    /// Routes of this prefix; of an address those that contain it.
    public var prefix: IPPrefix?
    public init(
        vni: UInt32? = nil, vrf: String? = nil, mac: MACAddress? = nil, port: String? = nil, prefix: IPPrefix? = nil
    ) {
        self.prefix = prefix
        self.vni = vni
        self.vrf = vrf
        self.mac = mac
        self.port = port
    }
    public var isEmpty: Bool { self == ShowFilter() }

    /// Reads a query; the error is a sentence for the caller.
    public init(query: [String: String], for topic: ShowTopic) throws(ShowFilterError) {
        self.init()
        for (name, value) in query.sorted(by: { $0.key < $1.key }) {
            guard topic.filters.contains(name) else {
                throw ShowFilterError(unknown: name, topic: topic)
            }
            switch name {
            case "vni":
                guard let number = UInt32(value), VNI(number) != nil else {
                    throw ShowFilterError(message: "vni=\(value) is not a number below 16777216")
                }
                vni = number
            case "mac":
                guard let address = MACAddress(value) else {
                    throw ShowFilterError(message: "mac=\(value) is not an Ethernet address")
                }
                mac = address
            case "prefix":
                guard let known = IPPrefix(value) else {
                    throw ShowFilterError(message: "prefix=\(value) is neither a prefix nor an address")
                }
                prefix = known
            case "vrf": vrf = value
            default: port = value
            }
        }
    }

    func matches(vni other: UInt32?) -> Bool { vni == nil || vni == other }
    /// A prefix is wanted exactly; of a host prefix, all that contain it.
    func matches(prefix other: IPPrefix?) -> Bool {
        guard let prefix else { return true }
        guard let other else { return false }
        return other.network == prefix.network || prefix.isHost && other.contains(prefix.address)
    }
    func matches(vrf other: String?) -> Bool { vrf == nil || vrf == other }
    func matches(port other: String?) -> Bool { port == nil || port == other }
    func matches(mac other: String?) -> Bool {
        guard let mac else { return true }
        return other.flatMap { MACAddress($0) } == mac
    }
}

/// A filter that cannot be obeyed.
public struct ShowFilterError: Error, Hashable, Sendable, CustomStringConvertible {
    public var message: String
    init(message: String) { self.message = message }
    init(unknown name: String, topic: ShowTopic) {
        let known = topic.filters.isEmpty ? "it has none" : topic.filters.joined(separator: ", ")
        message = "\(topic.rawValue) has no filter \"\(name)\"; filters: \(known)"
    }
    public var description: String { message }
}

/// The rows of one topic.
public enum ShowAnswer: Hashable, Sendable {
    case ports([PortRow])
    case vnis([VNIRow])
    case vrfs([VRFRow])
    case fdb([FDBRow])
    case routes([RouteRow])
    case neighbors([NeighborRow])
    case nexthops([NextHopRow])
    case vteps([VTEPRow])
    case flood([FloodRow])
    case counters(CounterReport)
    case drops([DropRow])
    case control(ControlRow)
    case lcores([LcoreRow])

    public var topic: ShowTopic {
        switch self {
        case .ports: .ports
        case .vnis: .vnis
        case .vrfs: .vrfs
        case .fdb: .fdb
        case .routes: .routes
        case .neighbors: .neighbors
        case .nexthops: .nexthops
        case .vteps: .vteps
        case .flood: .flood
        case .counters: .counters
        case .drops: .drops
        case .control: .control
        case .lcores: .lcores
        }
    }

    /// Whether nothing is left to show.
    public var isEmpty: Bool {
        switch self {
        case .ports(let rows): rows.isEmpty
        case .vnis(let rows): rows.isEmpty
        case .vrfs(let rows): rows.isEmpty
        case .fdb(let rows): rows.isEmpty
        case .routes(let rows): rows.isEmpty
        case .neighbors(let rows): rows.isEmpty
        case .nexthops(let rows): rows.isEmpty
        case .vteps(let rows): rows.isEmpty
        case .flood(let rows): rows.isEmpty
        case .drops(let rows): rows.isEmpty
        case .lcores(let rows): rows.isEmpty
        case .counters(let counters): counters.domains.isEmpty && counters.ports.isEmpty
        case .control: false
        }
    }

    /// The rows that `filter` wants.
    ///
    /// Of the counters it picks the VNIs and ports, not the totals.
    public func filtered(by filter: ShowFilter) -> ShowAnswer {
        if filter.isEmpty { return self }
        switch self {
        case .ports(let rows): return .ports(rows.filter { filter.matches(port: $0.name) })
        case .vnis(let rows):
            return .vnis(rows.filter { filter.matches(vni: $0.vni) && filter.matches(vrf: $0.vrf) })
        case .vrfs(let rows):
            return .vrfs(
                rows.filter {
                    filter.matches(vrf: $0.vrf)
                        && (filter.matches(vni: $0.vni)
                            || $0.l2vnis.contains { filter.matches(vni: $0) })
                }
            )
        case .fdb(let rows):
            return .fdb(
                rows.filter {
                    filter.matches(vni: $0.vni) && filter.matches(mac: $0.mac)
                        && filter.matches(port: $0.port)
                }
            )
        case .routes(let rows):
            return .routes(
                rows.filter {
                    filter.matches(vrf: $0.vrf) && filter.matches(prefix: IPPrefix($0.prefix))
                        && (filter.vni == nil
                            || $0.nextHops.contains { filter.matches(vni: $0.vni) })
                }
            )
        case .neighbors(let rows):
            return .neighbors(
                rows.filter {
                    filter.matches(vni: $0.vni) && filter.matches(vrf: $0.vrf)
                        && filter.matches(mac: $0.mac)
                }
            )
        case .vteps(let rows):
            return .vteps(
                rows.filter { row in
                    filter.vni == nil || row.vnis.contains { filter.matches(vni: $0) }
                }
            )
        case .flood(let rows): return .flood(rows.filter { filter.matches(vni: $0.vni) })
        case .counters(var counters):
            counters.domains = counters.domains.filter {
                filter.port == nil && filter.matches(vni: $0.vni)
            }
            counters.ports = counters.ports.filter {
                filter.vni == nil && filter.matches(port: $0.port)
            }
            if filter.vni != nil || filter.port != nil { counters.vrfs = [] }
            return .counters(counters)
        case .nexthops, .drops, .control, .lcores: return self
        }
    }

    /// The same rows in their one order, so that two answers about equal states are equal.
    public func sorted() -> ShowAnswer {
        switch self {
        case .ports(let rows): return .ports(rows.sorted { $0.name < $1.name })
        case .vnis(let rows): return .vnis(rows.sorted { ($0.vni, $0.name) < ($1.vni, $1.name) })
        case .vrfs(let rows): return .vrfs(rows.sorted { $0.vrf < $1.vrf })
        case .fdb(let rows): return .fdb(rows.sorted { ($0.vni, $0.mac) < ($1.vni, $1.mac) })
        case .routes(let rows):
            return .routes(
                Self.sort(rows) { ($0.vrf, Self.key($0.prefix), UInt64($0.table ?? 0)) }
            )
        case .neighbors(let rows):
            return .neighbors(
                Self.sort(rows) {
                    ($0.vrf ?? $0.interface ?? "", Self.key($0.ip), UInt64($0.vni ?? 0))
                }
            )
        case .nexthops(let rows):
            return .nexthops(rows.sorted { ($0.id, $0.source) < ($1.id, $1.source) })
        case .vteps(let rows):
            let ordered = Self.sort(rows) { ("", Self.key($0.address), 0) }
            return .vteps(
                ordered.map { row in
                    var row = row
                    row.vnis.sort()
                    return row
                }
            )
        case .flood(let rows):
            return .flood(
                rows.sorted { $0.vni < $1.vni }.map { row in
                    FloodRow(
                        vni: row.vni,
                        vteps: Self.sort(row.vteps) { ("", Self.key($0), 0) },
                        circuits: row.circuits.sorted {
                            ($0.port, $0.vlan ?? 0) < ($1.port, $1.vlan ?? 0)
                        }
                    )
                }
            )
        case .counters(var counters):
            counters.domains.sort { $0.vni < $1.vni }
            counters.vrfs.sort { $0.vrf < $1.vrf }
            counters.ports.sort { $0.port < $1.port }
            return .counters(counters)
        case .drops(let rows): return .drops(rows.sorted { $0.reason < $1.reason })
        case .control(var row):
            row.fpm.sort { $0.connection < $1.connection }
            return .control(row)
        case .lcores(let rows):
            return .lcores(rows.sorted { ($0.lcore, $0.role) < ($1.lcore, $1.role) })
        }
    }

    /// An address or prefix as text that sorts as its number does.
    private static func key(_ text: String) -> String {
        guard let prefix = IPPrefix(text) else { return text }
        let bytes = prefix.address.bytes + [UInt8(truncatingIfNeeded: prefix.length)]
        return (prefix.address.isV4 ? "4" : "6")
            + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    private static func sort<Row>(_ rows: [Row], by key: (Row) -> (String, String, UInt64)) -> [Row]
    {
        rows.map { (key($0), $0) }.sorted { $0.0 < $1.0 }.map(\.1)
    }
}

extension ShowAnswer {
    /// Sorted rows as JSON with sorted keys, one line, no trailing newline.
    public func json() throws -> Data {
        switch sorted() {
        case .ports(let rows): try JSON.encode(rows)
        case .vnis(let rows): try JSON.encode(rows)
        case .vrfs(let rows): try JSON.encode(rows)
        case .fdb(let rows): try JSON.encode(rows)
        case .routes(let rows): try JSON.encode(rows)
        case .neighbors(let rows): try JSON.encode(rows)
        case .nexthops(let rows): try JSON.encode(rows)
        case .vteps(let rows): try JSON.encode(rows)
        case .flood(let rows): try JSON.encode(rows)
        case .counters(let counters): try JSON.encode(counters)
        case .drops(let rows): try JSON.encode(rows)
        case .control(let row): try JSON.encode(row)
        case .lcores(let rows): try JSON.encode(rows)
        }
    }

    /// Reads what ``json()`` wrote.
    public init(json: Data, topic: ShowTopic) throws {
        let decoder = JSONDecoder()
        switch topic {
        case .ports: self = .ports(try decoder.decode([PortRow].self, from: json))
        case .vnis: self = .vnis(try decoder.decode([VNIRow].self, from: json))
        case .vrfs: self = .vrfs(try decoder.decode([VRFRow].self, from: json))
        case .fdb: self = .fdb(try decoder.decode([FDBRow].self, from: json))
        case .routes: self = .routes(try decoder.decode([RouteRow].self, from: json))
        case .neighbors: self = .neighbors(try decoder.decode([NeighborRow].self, from: json))
        case .nexthops: self = .nexthops(try decoder.decode([NextHopRow].self, from: json))
        case .vteps: self = .vteps(try decoder.decode([VTEPRow].self, from: json))
        case .flood: self = .flood(try decoder.decode([FloodRow].self, from: json))
        case .counters: self = .counters(try decoder.decode(CounterReport.self, from: json))
        case .drops: self = .drops(try decoder.decode([DropRow].self, from: json))
        case .control: self = .control(try decoder.decode(ControlRow.self, from: json))
        case .lcores: self = .lcores(try decoder.decode([LcoreRow].self, from: json))
        }
    }
}

/// The one way that JSON is written: sorted keys, slashes as they are.
public enum JSON {
    public static func encode(_ value: some Encodable, pretty: Bool = false) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if pretty { encoder.outputFormatting.insert(.prettyPrinted) }
        return try encoder.encode(value)
    }
}
