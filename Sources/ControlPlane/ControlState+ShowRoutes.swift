// What `pe-dp show routes` and `show nexthops` print, and the names of links, tables and protocols.

import Tables
import Wire

extension ControlState {
    public func routeRows() -> [RouteRow] {
        var rows: [RouteRow] = []
        for (table, content) in routes.tables {
            let vrf = name(ofTable: table)
            for (prefix, entry) in content.entries {
                let row = entry.best
                rows.append(
                    RouteRow(
                        vrf: vrf,
                        table: table,
                        prefix: prefix.description,
                        protocol: Self.name(ofProtocol: row.routeProtocol),
                        kind: Self.name(of: row.kind),
                        nextHops: hops(of: row).map { nextHop($0) }
                    )
                )
            }
        }
        for route in configuration.static.routes {
            let vni = configuration.l3vnis.first { $0.vrf == route.vrf }?.vni
            rows.append(
                RouteRow(
                    vrf: route.vrf,
                    table: table(ofVRF: route.vrf),
                    prefix: route.prefix.network.description,
                    protocol: "static",
                    kind: route.kind.rawValue,
                    nextHops: route.nextHops.map { fixedNextHop($0, vni: vni) }
                )
            )
        }
        for (prefix, hops) in fixedUnderlay.entries {
            rows.append(
                RouteRow(
                    vrf: "default",
                    table: RouteIntent.mainTable,
                    prefix: prefix.description,
                    protocol: "static",
                    kind: "unicast",
                    nextHops: hops.map {
                        .init(gateway: $0.address?.description, interface: $0.port)
                    }
                )
            )
        }
        return ShowAnswer.routes(rows).sortedRoutes
    }
    private func nextHop(_ hop: NextHopTable.Hop) -> RouteRow.NextHop {
        var row = RouteRow.NextHop(
            gateway: hop.gateway?.description,
            interface: hop.interface == 0 ? nil : name(ofInterface: hop.interface),
            weight: Int(hop.weight)
        )
        if let vni = overlayVNI(of: hop), let vtep = hop.gateway {
            row.vtep = vtep.description
            row.vni = vni.rawValue
            row.routerMAC = routerMACs.mac(vni, vtep)?.mac.description
        }
        return row
    }

    public func nextHopRows() -> [NextHopRow] {
        var rows: [NextHopRow] = []
        var shown: Set<UInt32> = []
        // Of two connections the newer one's numbering counts.
        for (_, connection) in connections.sorted(by: {
            ($0.value.isOpen ? 1 : 0, $0.key) > ($1.value.isOpen ? 1 : 0, $1.key)
        }) {
            for (id, entry) in connection.nextHops.entries
            where entry.isDefined && shown.insert(id).inserted {
                rows.append(nextHopRow(id, entry, connection.nextHops, source: "fpm"))
            }
        }
        for (id, entry) in kernelNextHops.entries
        where entry.isDefined && (entry.isFDB || configuration.control.routes == .netlink) {
            rows.append(nextHopRow(id, entry, kernelNextHops, source: "kernel"))
        }
        return rows.sorted { ($0.id, $0.source) < ($1.id, $1.source) }
    }
    private func fixedNextHop(
        _ hop: Configuration.Static.NextHop,
        vni: VNI?
    ) -> RouteRow.NextHop {
        var row = RouteRow.NextHop(weight: hop.weight)
        switch hop.target {
        case .vtep(let address, let routerMAC):
            let vtep = address.normalized
            row.vtep = vtep.description
            row.vni = vni?.rawValue
            row.routerMAC =
                (routerMAC ?? vni.flatMap { routerMACs.mac($0, vtep)?.mac })?.description
        case .port(let port, let address):
            row.gateway = address.description
            row.interface = port
        case .host(let address): row.gateway = address.description
        case .vrf(let name): row.vrf = name
        }
        return row
    }

    private func nextHopRow(
        _ id: UInt32,
        _ entry: NextHopTable.Entry,
        _ table: NextHopTable,
        source: String
    ) -> NextHopRow {
        let kind =
            entry.isFDB
            ? "fdb" : entry.isBlackhole ? "blackhole" : entry.members.isEmpty ? "unicast" : "group"
        let isOverlay = links.vni(ofSVI: entry.interface) != nil && entry.gateway != nil
        return NextHopRow(
            id: id,
            gateway: entry.gateway?.description,
            interface: entry.interface == 0 ? nil : name(ofInterface: entry.interface),
            vtep: isOverlay || entry.isFDB ? entry.gateway?.description : nil,
            kind: kind,
            members: entry.members.map { .init(id: $0.id, weight: Int($0.weight)) },
            isComplete: entry.members.allSatisfy { table[$0.id]?.isDefined ?? false },
            source: source
        )
    }

    // MARK: Names

    func name(ofInterface interface: UInt32) -> String {
        links.link(interface).flatMap { $0.name.isEmpty ? nil : $0.name } ?? "if\(interface)"
    }
    private func name(ofTable table: UInt32) -> String {
        for l3vni in configuration.l3vnis where self.table(ofVRF: l3vni.vrf) == table {
            return l3vni.vrf
        }
        if table == RouteIntent.mainTable { return "default" }
        return links.nameOfVRF(table: table) ?? "table \(table)"
    }
    /// rtm_protocol: kernel include/uapi/linux/rtnetlink.h, FRR lib/route_types.txt.
    private static func name(ofProtocol number: UInt8) -> String {
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
    private static func name(of kind: RouteMessage.Kind) -> String {
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
