// What `pe-dp show nexthops` and `pe-dp show vrfs` print.

import Tables
import Wire

extension ControlState {
    /// - Parameter compiler: adds the groups' slots.
    public func nextHopRows(_ compiler: TableCompiler? = nil) -> [NextHopRow] {
        var rows: [NextHopRow] = []
        var shown: Set<UInt32> = []
        var report = RouteReport(self, compiler, ShowFilter())
        var users: [NextHopKey: Int] = [:]
        routes.rows.forEach { row, count in
            if row.nextHopID != 0 { users[NextHopKey(origin: row.origin, id: row.nextHopID), default: 0] += count }
        }
        // Of two connections the newer one's numbering counts.
        for (_, connection) in connections.sorted(by: {
            ($0.value.isOpen ? 1 : 0, $0.key) > ($1.value.isOpen ? 1 : 0, $1.key)
        }) {
            for (id, entry) in connection.nextHops.entries
            where entry.isDefined && shown.insert(id).inserted {
                rows.append(row(id, entry, connection.nextHops, connection.origin, &report))
                rows[rows.count - 1].routes = users[NextHopKey(origin: connection.origin, id: id)] ?? 0
            }
        }
        for (id, entry) in kernelNextHops.entries
        where entry.isDefined && (entry.isFDB || configuration.control.routes == .netlink) {
            rows.append(row(id, entry, kernelNextHops, .kernel, &report))
            rows[rows.count - 1].routes = users[NextHopKey(origin: .kernel, id: id)] ?? 0
        }
        return rows.sorted { ($0.id, $0.source) < ($1.id, $1.source) }
    }
    private func row(
        _ id: UInt32, _ entry: NextHopTable.Entry, _ table: NextHopTable, _ origin: Origin, _ report: inout RouteReport
    ) -> NextHopRow {
        let kind =
            entry.isFDB
            ? "fdb" : entry.isBlackhole ? "blackhole" : entry.members.isEmpty ? "unicast" : "group"
        let isOverlay = links.vni(ofSVI: entry.interface) != nil && entry.gateway != nil
        var row = NextHopRow(
            id: id,
            gateway: entry.gateway?.description,
            interface: entry.interface == 0 ? nil : name(ofInterface: entry.interface),
            vtep: isOverlay || entry.isFDB ? entry.gateway?.description : nil,
            kind: kind,
            members: entry.members.map { .init(id: $0.id, weight: Int($0.weight)) },
            isComplete: entry.members.allSatisfy { table[$0.id]?.isDefined ?? false },
            source: origin == .kernel ? "kernel" : "fpm"
        )
        if kind == "unicast" {
            let way = NextHopTable.Hop(
                gateway: entry.gateway, interface: entry.interface, weight: 1, isOnlink: entry.isOnlink)
            // A VRF only tells that packets are routed through it.
            let found = report.nextHop(Self.way(of: way), 0)
            row.vni = found.vni
            row.routerMAC = found.routerMAC
            row.reason = found.reason
        } else if kind == "group",
            let counts = report.compiler?.routes.slotCounts(of: NextHopKey(origin: origin, id: id))
        {
            for (index, member) in entry.members.enumerated() {
                let keys = table.hops(of: member.id).flatMap {
                    resolve([Self.way(of: $0)], vrf: 0).members.map(\.key)
                }
                row.members[index].slots = keys.reduce(0) { $0 + (counts[$1] ?? 0) }
            }
        }
        return row
    }

    // MARK: VRFs

    /// - Parameter compiler: adds how many routes the tables have.
    public func vrfRows(_ compiler: TableCompiler? = nil) -> [VRFRow] {
        let lacking = routerMACsMissing
        return numbering.vrfNames.enumerated().map { position, name in
            let vrf = UInt16(truncatingIfNeeded: position + 1)
            let table = routing.table(of: vrf)
            let l3vni = l3vni(ofVRF: vrf)
            var row = VRFRow(
                vrf: name, table: table, vni: l3vni?.vni.rawValue,
                routerMAC: l3vni.flatMap { routing.l3vnis[$0.vni]?.routerMAC.description })
            row.l2vnis = numbering.domains(ofVRF: vrf).compactMap { numbering.vni(ofDomain: $0)?.rawValue }.sorted()
            row.ports = numbering.ports(ofVRF: vrf).map { numbering.name(of: $0) }
            row.routes = routing.fixed[vrf]?.count ?? 0
            if let table { row.routes += routes.table(table)?.count ?? 0 }
            let own = (routing.own[vrf]?.entries ?? [:]).sorted { $0.key < $1.key }
            row.subnets = own.filter { [.subnet, .port].contains($0.value.kind) }.map(\.key.description)
            row.addresses = own.filter { [.local, .host].contains($0.value.kind) }.map(\.key.address.description)
            row.installed = compiler.map { $0.routes.counts[Int(vrf)] }
            row.missingRouterMACs = l3vni.flatMap { lacking[$0.vni] } ?? 0
            if table == nil { row.reason = "there is no VRF device \(name), so that only configured routes count" }
            return row
        }.sorted { $0.vrf < $1.vrf }
    }
    /// How many VTEPs that routes go to have no router MAC, by L3VNI.
    public var routerMACsMissing: [VNI: Int] {
        var found: [VNI: Set<IPAddress>] = [:]
        func look(_ table: NextHopTable) {
            for entry in table.entries.values where entry.isDefined && !entry.isFDB {
                guard let gateway = entry.gateway, case .overlay(let vni) = meaning(of: entry.interface),
                    routerMACs.mac(vni, gateway) == nil, entry.routeCount > 0 || !entry.groups.isEmpty
                else { continue }
                found[vni, default: []].insert(gateway)
            }
        }
        look(kernelNextHops)
        for connection in connections.values { look(connection.nextHops) }
        for (gateway, interfaces) in routes.inlineGateways {
            for case .overlay(let vni) in interfaces.map({ meaning(of: $0) })
            where routerMACs.mac(vni, gateway) == nil { found[vni, default: []].insert(gateway) }
        }
        for case .vtep(let vni, let vtep, nil) in routing.fixed.values.flatMap({ $0.entries.values.flatMap(\.ways) })
            .map(\.way) where routerMACs.mac(vni, vtep) == nil { found[vni, default: []].insert(vtep) }
        return found.mapValues(\.count)
    }
}
