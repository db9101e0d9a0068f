// What `pe-dp show routes` prints: every source's routes, what they lead to, and why not.

import Tables
import Wire

/// Gathers rows; keeps what many routes have in common.
struct RouteReport {
    let state: ControlState
    let compiler: TableCompiler?
    let filter: ShowFilter
    private var rows: [RouteRow] = []
    private var tableNames: [UInt32: String] = [:]
    /// Whether packets can leave for a VTEP.
    private var reachable: [IPAddress: Bool] = [:]
    /// Resolution notes what it needs; a copy keeps that out of the state.
    private var scratch: ControlState

    init(_ state: ControlState, _ compiler: TableCompiler?, _ filter: ShowFilter) {
        self.state = state
        self.compiler = compiler
        self.filter = filter
        scratch = state
    }

    mutating func make() -> [RouteRow] {
        for (table, content) in state.routes.tables {
            let name = state.name(ofTable: table)
            guard filter.matches(vrf: name) else { continue }
            content.forEach { prefix, entry in
                if filter.matches(prefix: prefix) { add(table, name, prefix, entry.best) }
            }
        }
        for (vrf, content) in state.routing.fixed {
            for (prefix, route) in content.entries where filter.matches(prefix: prefix) { add(vrf, prefix, route) }
        }
        addUnderlay()
        for row in rows.indices {
            for hop in rows[row].nextHops.indices { rows[row].nextHops[hop].key = nil }
        }
        return ShowAnswer.routes(rows).sortedRoutes
    }

    // MARK: Rows

    private mutating func add(_ table: UInt32, _ name: String, _ prefix: IPPrefix, _ best: RouteIntent.Row) {
        let vrf = state.routing.vrfs(ofTable: table).first
        var row = RouteRow(
            vrf: name, table: table, prefix: prefix.description,
            protocol: ControlState.name(ofProtocol: best.routeProtocol), kind: ControlState.name(of: best.kind),
            nextHops: state.hops(of: best).map { nextHop($0, vrf) })
        row.metric = best.metric
        row.nextHopID = best.nextHopID == 0 ? nil : best.nextHopID
        guard let vrf else {
            if table != RouteIntent.mainTable {
                row.state = .ignored
                row.reason = "no configured VRF has table \(table)"
            }
            rows.append(row)
            return
        }
        switch state.decide(vrf: vrf, prefix) {
        case .row(let used) where used == best: judge(&row, vrf, prefix, isUnicast: best.kind == .unicast)
        case .value:
            row.state = .hidden
            row.reason = "an own address or subnet"
        case .host:
            row.state = .hidden
            row.reason = "the host is local"
        case .fixed:
            row.state = .hidden
            row.reason = "a configured route has the prefix"
        case .none, .row:
            row.state = .ignored
            row.reason = "pe-dp does not forward this kind of route"
        }
        rows.append(row)
    }
    private mutating func add(_ vrf: UInt16, _ prefix: IPPrefix, _ route: FixedRoute) {
        let name = state.numbering.name(ofVRF: vrf) ?? "-"
        var row = RouteRow(
            vrf: name, table: state.routing.table(of: vrf), prefix: prefix.description, protocol: "static",
            kind: route.kind.rawValue, nextHops: route.ways.map { nextHop($0, vrf) })
        if case .fixed = state.decide(vrf: vrf, prefix) {
            judge(&row, vrf, prefix, isUnicast: route.kind == .unicast)
        } else {
            row.state = .hidden
            row.reason = "an own address or subnet, or a local host"
        }
        rows.append(row)
    }
    private mutating func addUnderlay() {
        for (prefix, hops) in state.fixedUnderlay.entries where filter.matches(prefix: prefix) {
            rows.append(
                RouteRow(
                    vrf: Configuration.defaultVRF, table: RouteIntent.mainTable, prefix: prefix.description,
                    protocol: "static", kind: "unicast",
                    nextHops: hops.map { .init(gateway: $0.address?.description, interface: $0.port) }))
        }
    }

    /// What the tables have of a route that counts.
    private func judge(_ row: inout RouteRow, _ vrf: UInt16, _ prefix: IPPrefix, isUnicast: Bool) {
        let isExempt = prefix.address.isLinkLocalIPv6 || prefix.address.isMulticast
        if isExempt {
            row.state = .ignored
            row.reason = "link-local and multicast addresses are not routed"
            return
        }
        let installed = compiler?.tables.route(vrf: vrf, prefix)
        if let compiler, installed == nil {
            row.state = .refused
            row.reason = "the tables are full (\(compiler.tables.routeCount) routes)"
            return
        }
        if let installed, installed.isGroup, let compiler {
            count(&row, compiler.tables.slots(ofGroup: installed.index))
        }
        let unusable = row.nextHops.compactMap(\.reason)
        if isUnicast && unusable.count == row.nextHops.count {
            row.state = .waiting
            row.reason = unusable.first ?? "its next hop is not known"
        } else {
            row.state = .installed
        }
    }
    /// How many slots of the group each next hop has.
    private func count(_ row: inout RouteRow, _ slots: [UInt32]) {
        guard let compiler else { return }
        let counts = compiler.routes.slotCounts(slots)
        for index in row.nextHops.indices {
            guard let key = row.nextHops[index].key else { continue }
            row.nextHops[index].slots = counts[key] ?? 0
        }
    }

    // MARK: Next hops

    private mutating func nextHop(_ hop: NextHopTable.Hop, _ vrf: UInt16?) -> RouteRow.NextHop {
        var row = nextHop(ControlState.way(of: hop), vrf)
        row.gateway = hop.gateway?.description
        row.interface = hop.interface == 0 ? nil : state.name(ofInterface: hop.interface)
        return row
    }
    mutating func nextHop(_ way: WeightedWay, _ vrf: UInt16?) -> RouteRow.NextHop {
        var row = RouteRow.NextHop(weight: way.weight)
        switch way.way {
        case .gateway(let address): row.gateway = address.description
        case .port(let port, let address):
            row.gateway = address.description
            row.interface = state.numbering.name(of: port)
        case .vrf(let other): row.vrf = state.numbering.name(ofVRF: other)
        case .interface(let interface, _, _):
            if case .vrf(let other) = state.meaning(of: interface) { row.vrf = state.numbering.name(ofVRF: other) }
        case .vtep: break
        }
        let found = state.resolve([way], vrf: vrf ?? 0)
        if case .tunnel(let vni, let vtep, let mac)? = found.members.first?.key {
            row.vtep = vtep.description
            row.vni = vni.rawValue
            row.routerMAC = (mac ?? state.routerMACs.mac(vni, vtep)?.mac)?.description
        }
        if vrf != nil {
            row.key = found.members.first?.key
            row.reason = reason(way, found)
        }
        return row
    }

    /// Why packets cannot use a next hop; nil when they can.
    private mutating func reason(_ way: WeightedWay, _ found: RouteResolution) -> String? {
        switch found.members.first?.key {
        case .tunnel(let vni, let vtep, let mac)?:
            if mac == nil && state.routerMACs.mac(vni, vtep) == nil {
                return "no router MAC of \(vtep) in VNI \(vni)"
            }
            if !isReachable(vtep) { return "no resolved underlay path to \(vtep)" }
            return nil
        case .neighbor?, .port?:
            guard let key = found.members.first?.key, let hop = compiler?.routes.hop(of: key) else { return nil }
            switch hop.state {
            case .usable: return nil
            case .resolving, .noRouterMAC: return "the neighbour is not resolved yet"
            case .failed: return "the neighbour does not answer"
            }
        case nil:
            if found.terminal != nil { return nil }
            switch way.way {
            case .gateway(let gateway): return "no route to \(gateway)"
            case .interface(let interface, _, _): return reason(interface)
            case .vtep, .port, .vrf: return nil
            }
        }
    }
    private func reason(_ interface: UInt32) -> String {
        let name = state.name(ofInterface: interface)
        switch state.meaning(of: interface) {
        case .absent: return "interface \(interface) is not known"
        case .unknown: return "\(name) has no VNI"
        case .overlay: return "\(name) is an L3VNI's, and the next hop names no remote VTEP"
        case .domain, .port, .vrf, .foreign: return "\(name) is none that pe-dp routes through"
        }
    }
    private mutating func isReachable(_ vtep: IPAddress) -> Bool {
        if let known = reachable[vtep] { return known }
        let found = !scratch.resolve(vtep).paths.isEmpty
        reachable[vtep] = found
        return found
    }
}

extension ControlState {
    /// - Parameter compiler: adds what the tables have: slots, neighbours' states, refusals.
    public func routeRows(_ compiler: TableCompiler? = nil, filter: ShowFilter = ShowFilter()) -> [RouteRow] {
        var report = RouteReport(self, compiler, filter)
        return report.make()
    }
    /// Routes of all sources; own addresses and subnets are VRFs' (``vrfRows(_:)``).
    public var routeCount: Int {
        routes.count + routing.fixed.values.reduce(0) { $0 + $1.count } + fixedUnderlay.count
    }

    // MARK: Names

    func name(ofInterface interface: UInt32) -> String {
        links.link(interface).flatMap { $0.name.isEmpty ? nil : $0.name } ?? "if\(interface)"
    }
    func name(ofTable table: UInt32) -> String {
        if let vrf = routing.vrfs(ofTable: table).first, let name = numbering.name(ofVRF: vrf) { return name }
        if table == RouteIntent.mainTable { return Configuration.defaultVRF }
        return links.nameOfVRF(table: table) ?? "table \(table)"
    }
    /// rtm_protocol: kernel include/uapi/linux/rtnetlink.h, FRR lib/route_types.txt.
    static func name(ofProtocol number: UInt8) -> String {
        switch number {
        case 2: "kernel"
        case 3: "boot"
        case 4, 196: "static"
        case 11: "zebra"
        case 16: "dhcp"
        case 186: "bgp"
        case 187: "isis"
        case 188: "ospf"
        case 189: "rip"
        case 192: "eigrp"
        default: "proto \(number)"
        }
    }
    static func name(of kind: RouteMessage.Kind) -> String {
        switch kind {
        case .unicast: "unicast"
        case .local: "local"
        case .blackhole: "blackhole"
        case .unreachable: "unreachable"
        case .prohibit: "prohibit"
        case .other(let value): "type \(value)"
        }
    }
}
