// What belongs to each VRF: its kernel table, its own addresses and subnets, configured routes.

import Tables
import Wire

/// A route of a kernel table whose rows changed.
struct RouteKey: Hashable {
    var table: UInt32
    var prefix: IPPrefix
}
/// A next-hop object of one source.
struct NextHopKey: Hashable {
    var origin: Origin
    var id: UInt32
}
/// A prefix in a VRF.
struct VRFPrefix: Hashable {
    var vrf: UInt16
    var prefix: IPPrefix
}

/// The part of the state that says what a VRF consists of. Derived from configuration, links and
/// addresses by ``ControlState/remapRouting()``.
struct RoutingMap {
    /// An L3VNI of the configuration.
    struct L3VNI: Hashable {
        var vrf: UInt16
        var vxlanPort: UInt16
        /// What FRR advertises: configured, else the SVI's, else made from VNI and tunnel endpoint.
        var routerMAC: MACAddress
        var isConfigured: Bool
    }
    private(set) var l3vnis: [VNI: L3VNI] = [:]
    /// Own addresses (hosts) and connected subnets by VRF.
    private(set) var own: [UInt16: PrefixTable<RouteValue>] = [:]
    /// The same by index.
    private var ownByVRF: [PrefixTable<RouteValue>] = []
    let fixed: [UInt16: PrefixTable<FixedRoute>]
    private var tables: [UInt16: UInt32] = [:]
    private var vrfs: [UInt32: [UInt16]] = [:]

    init(_ configuration: Configuration, _ numbering: PortNumbering) {
        for l3vni in configuration.l3vnis where l3vnis[l3vni.vni] == nil {
            l3vnis[l3vni.vni] = L3VNI(
                vrf: numbering.vrf(named: l3vni.vrf) ?? 0, vxlanPort: l3vni.vxlanPort,
                routerMAC: configuration.routerMAC(of: l3vni), isConfigured: l3vni.routerMAC != nil)
        }
        var fixed: [UInt16: PrefixTable<FixedRoute>] = [:]
        for route in configuration.static.routes {
            guard let vrf = numbering.vrf(named: route.vrf) else { continue }
            let vni = numbering.l3vni(ofVRF: vrf).map { configuration.l3vnis[$0].vni }
            let ways = route.nextHops.compactMap { Self.way(of: $0, vni, numbering) }
            fixed[vrf, default: PrefixTable()][route.prefix.network] = FixedRoute(kind: route.kind, ways: ways)
        }
        self.fixed = fixed
    }
    private static func way(
        of hop: Configuration.Static.NextHop, _ vni: VNI?, _ numbering: PortNumbering
    ) -> WeightedWay? {
        let way: RouteWay?
        switch hop.target {
        case .vtep(let vtep, let mac): way = vni.map { .vtep($0, vtep.normalized, routerMAC: mac) }
        case .port(let name, let address):
            way = numbering.port(named: name).map { .port($0, address.normalized) }
        case .host(let address): way = .gateway(address.normalized)
        case .vrf(let name): way = numbering.vrf(named: name).map { .vrf($0) }
        }
        return way.map { WeightedWay(way: $0, weight: hop.weight) }
    }

    /// Whether a prefix is an own address or a connected subnet of a VRF.
    func isOwn(_ vrf: UInt16, _ prefix: IPPrefix) -> Bool {
        Int(vrf) < ownByVRF.count && ownByVRF[Int(vrf)].contains(prefix)
    }

    /// The kernel table of a VRF; nil while it has none.
    func table(of vrf: UInt16) -> UInt32? { tables[vrf] }
    /// The VRFs of a kernel table, nearly always one or none.
    func vrfs(ofTable table: UInt32) -> [UInt16] { vrfs[table] ?? [] }

    /// Returns the VRFs whose table changed, with the table before.
    mutating func setTables(_ next: [UInt16: UInt32]) -> [(vrf: UInt16, before: UInt32?)] {
        if next == tables { return [] }
        let changed = Set(next.keys).union(tables.keys).filter { next[$0] != tables[$0] }.sorted()
        let result = changed.map { (vrf: $0, before: tables[$0]) }
        tables = next
        vrfs = [:]
        for (vrf, table) in next.sorted(by: { $0.key < $1.key }) { vrfs[table, default: []].append(vrf) }
        return result
    }
    /// Returns the prefixes whose own route changed.
    mutating func setOwn(_ next: [UInt16: PrefixTable<RouteValue>]) -> [VRFPrefix] {
        var changed: [VRFPrefix] = []
        for vrf in Set(next.keys).union(own.keys).sorted() {
            let before = own[vrf]?.entries ?? [:]
            let after = next[vrf]?.entries ?? [:]
            for (prefix, value) in after where before[prefix] != value {
                changed.append(VRFPrefix(vrf: vrf, prefix: prefix))
            }
            for prefix in before.keys where after[prefix] == nil {
                changed.append(VRFPrefix(vrf: vrf, prefix: prefix))
            }
        }
        own = next
        ownByVRF = Array(repeating: PrefixTable(), count: Int(next.keys.max() ?? 0) + 1)
        for (vrf, table) in next { ownByVRF[Int(vrf)] = table }
        return changed
    }
    /// Returns whether it changed.
    mutating func setRouterMAC(_ vni: VNI, _ mac: MACAddress) -> Bool {
        guard let known = l3vnis[vni], !known.isConfigured, known.routerMAC != mac, !mac.isZero else { return false }
        l3vnis[vni]?.routerMAC = mac
        return true
    }
}

extension ControlState {
    /// What a look at links and addresses changed.
    struct RoutingChanges {
        var tables: [(vrf: UInt16, before: UInt32?)] = []
        var own: [VRFPrefix] = []
        /// L3VNIs whose own router MAC changed.
        var routerMACs: [VNI] = []
    }

    /// Derives ``routing`` anew from links, addresses and ports.
    mutating func remapRouting() -> RoutingChanges {
        var changes = RoutingChanges()
        var tables: [UInt16: UInt32] = [:]
        for (index, name) in numbering.vrfNames.enumerated() {
            tables[UInt16(truncatingIfNeeded: index + 1)] = table(ofVRF: name)
        }
        changes.tables = routing.setTables(tables)
        for vni in routing.l3vnis.keys.sorted() {
            guard let svi = links.svi(of: vni), let mac = links.link(svi)?.mac else { continue }
            if routing.setRouterMAC(vni, mac) { changes.routerMACs.append(vni) }
        }
        changes.own = routing.setOwn(ownRoutes())
        return changes
    }

    /// Own addresses and connected subnets: configured ones, and those of the kernel's interfaces.
    private func ownRoutes() -> [UInt16: PrefixTable<RouteValue>] {
        var found: [UInt16: PrefixTable<RouteValue>] = [:]
        func add(_ vrf: UInt16, _ prefix: IPPrefix, subnet: RouteValue?, address: RouteValue) {
            guard vrf != 0, !prefix.address.isLinkLocalIPv6, !prefix.address.isMulticast else { return }
            if let subnet, !prefix.isHost, found[vrf]?[prefix.network]?.kind != .subnet {
                found[vrf, default: PrefixTable()][prefix.network] = subnet
            }
            guard let host = IPPrefix(prefix.address, length: prefix.address.bitCount) else { return }
            if found[vrf]?[host]?.kind != .local { found[vrf, default: PrefixTable()][host] = address }
        }
        for (position, l2vni) in configuration.l2vnis.enumerated() {
            let domain = UInt16(truncatingIfNeeded: position + 1)
            for gateway in l2vni.gatewayIPs {
                add(
                    numbering.vrf(ofDomain: domain), gateway, subnet: .subnet(domain: domain),
                    address: .local(domain: domain))
            }
        }
        for (index, port) in configuration.ports.enumerated() {
            let number = UInt16(truncatingIfNeeded: index)
            for prefix in port.exception?.addresses ?? [] {
                add(vrf(ofPort: number), prefix, subnet: .port(number), address: .host(port: number))
            }
        }
        for key in addresses.keys.sorted(by: { ($0.interface, $0.prefix) < ($1.interface, $1.prefix) }) {
            let vrf = vrf(ofInterface: key.interface)
            switch meaning(of: key.interface) {
            case .domain(let domain):
                add(
                    numbering.vrf(ofDomain: domain), key.prefix, subnet: .subnet(domain: domain),
                    address: .local(domain: domain))
            case .port(let port):
                add(self.vrf(ofPort: port), key.prefix, subnet: .port(port), address: .host(port: port))
            case .overlay, .vrf, .absent, .unknown, .foreign:
                add(vrf, key.prefix, subnet: nil, address: namespaceAddress(vrf))
            }
        }
        if let vrf = numbering.vrf(named: Configuration.defaultVRF) {
            for endpoint in configuration.underlays.flatMap(\.tunnelEndpoints) {
                guard let prefix = IPPrefix(endpoint, length: endpoint.bitCount) else { continue }
                add(vrf, prefix, subnet: nil, address: namespaceAddress(vrf))
            }
        }
        return found
    }
    /// The VRF of a port that packets are routed out of: its own, or for an underlay port the default.
    func vrf(ofPort port: UInt16) -> UInt16 {
        if Int(port) < numbering.isUnderlay.count, numbering.isUnderlay[Int(port)] {
            return numbering.vrf(named: Configuration.defaultVRF) ?? 0
        }
        return numbering.vrf(ofPort: port)
    }
    /// How packets get to an address of FRR's namespace that is on no port: through the first
    /// exception TAP of the VRF, or they are answered here.
    func namespaceAddress(_ vrf: UInt16) -> RouteValue {
        let first = configuration.ports.indices.first {
            numbering.hasException[$0] && self.vrf(ofPort: UInt16(truncatingIfNeeded: $0)) == vrf
        }
        return first.map { .host(port: UInt16(truncatingIfNeeded: $0)) } ?? .local(domain: 0)
    }

    // MARK: Marks

    /// A next-hop object changed: so did the groups that it is in.
    mutating func markNextHop(_ origin: Origin, _ id: UInt32, in table: NextHopTable) {
        var pending = [id]
        while let next = pending.popLast() {
            guard changes.nextHops.insert(NextHopKey(origin: origin, id: next)).inserted else { continue }
            pending += table[next]?.groups ?? []
        }
    }
}

extension IPAddress {
    /// fe80::/10: never routed (RFC 4291 section 2.5.6).
    var isLinkLocalIPv6: Bool { if case .v6(let address) = self { address.isLinkLocal } else { false } }
}
