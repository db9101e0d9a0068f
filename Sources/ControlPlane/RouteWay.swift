// What the next hops of a route mean: through the fabric, to a neighbour, into another VRF.

import Tables
import Wire

/// What a kernel interface is to routing.
enum InterfaceMeaning: Hashable {
    /// Not seen yet.
    case absent
    /// Not yet complete.
    case unknown
    /// The SVI of an L3VNI.
    case overlay(VNI)
    /// The SVI of an L2VNI that is in a VRF: its bridge domain.
    case domain(UInt16)
    /// The exception TAP of a routed or an underlay port.
    case port(UInt16)
    /// A VRF device; the loopback is the default VRF's.
    case vrf(UInt16)
    /// Nothing that pe-dp forwards through.
    case foreign
}

/// One way out of a route, as its source wrote it.
enum RouteWay: Hashable {
    /// `encap` is zebra's hint, for an interface that is not known.
    case interface(UInt32, gateway: IPAddress?, encap: VNI?)
    /// A gateway without an interface: looked up in the route's VRF.
    case gateway(IPAddress)
    /// Configured, with its router MAC or without.
    case vtep(VNI, IPAddress, routerMAC: MACAddress?)
    case port(UInt16, IPAddress)
    case vrf(UInt16)
}
struct WeightedWay: Hashable {
    var way: RouteWay
    var weight: Int
}

/// What a hop in the tables stands for; it keeps its index while it is used.
enum HopKey: Hashable {
    /// A VTEP through an L3VNI; with the configured router MAC, or the one zebra told.
    case tunnel(VNI, IPAddress, MACAddress?)
    /// A host in a bridge domain.
    case neighbor(domain: UInt16, IPAddress)
    /// A host behind a routed or an underlay port.
    case port(UInt16, IPAddress)

    init(_ id: NeighborID) {
        switch id.scope {
        case .domain(let domain): self = .neighbor(domain: domain, id.address)
        case .port(let port): self = .port(port, id.address)
        }
    }
}

/// What becomes of all ways of a route.
struct RouteResolution: Hashable {
    struct Member: Hashable {
        var key: HopKey
        var weight: Int
    }
    /// Each key once, in the order of the ways.
    var members: [Member] = []
    /// Without members: what else the route leads to.
    var terminal: RouteValue?
    /// Ways that lead nowhere, as far as is known.
    var unresolvedCount = 0
    /// A gateway had to be looked up: the answer depends on other routes.
    var isRecursive = false

    mutating func add(_ key: HopKey, weight: Int) {
        let weight = max(1, weight)
        if let known = members.firstIndex(where: { $0.key == key }) {
            let sum = members[known].weight.addingReportingOverflow(weight)
            members[known].weight = sum.overflow ? Int.max : sum.partialValue
        } else {
            members.append(Member(key: key, weight: weight))
        }
    }
    /// The only way, when nothing can come beside it.
    var only: HopKey? { members.count == 1 && unresolvedCount == 0 && !isRecursive ? members[0].key : nil }
}

/// A route of the configuration.
struct FixedRoute: Hashable {
    var kind: Configuration.Static.Route.Kind
    var ways: [WeightedWay]
}

/// What a prefix in a VRF leads to, before it has indexes in tables.
enum RouteDecision: Hashable {
    case none
    case value(RouteValue)
    /// A binding of the neighbour table.
    case host(NeighborID)
    case fixed(FixedRoute)
    case row(RouteIntent.Row)
}

extension ControlState {
    // MARK: Interfaces

    func meaning(of interface: UInt32) -> InterfaceMeaning {
        if let port = portOfInterface[interface] { return .port(port) }
        if let vni = links.vni(ofSVI: interface) {
            if let domain = numbering.domain(of: vni) {
                return numbering.vrf(ofDomain: domain) == 0 ? .foreign : .domain(domain)
            }
            return routing.l3vnis[vni] == nil ? .foreign : .overlay(vni)
        }
        guard let link = links.link(interface) else { return .absent }
        guard link.isComplete else { return .unknown }
        switch link.kind {
        case .vrf: return numbering.vrf(named: link.name).map { .vrf($0) } ?? .foreign
        // Its vxlan port may come yet.
        case .bridge, .vlan: return .unknown
        case .none where link.name == "lo":
            return numbering.vrf(named: Configuration.defaultVRF).map { .vrf($0) } ?? .foreign
        default: return .foreign
        }
    }
    /// The VRF that an interface of FRR's namespace is in; 0 for one that is not configured.
    func vrf(ofInterface interface: UInt32) -> UInt16 {
        if case .vrf? = links.link(interface)?.kind {
            return links.link(interface).flatMap { numbering.vrf(named: $0.name) } ?? 0
        }
        if let (name, _) = links.vrf(of: interface) { return numbering.vrf(named: name) ?? 0 }
        return numbering.vrf(named: Configuration.defaultVRF) ?? 0
    }

    // MARK: Rows

    /// The ways of a row, groups taken apart; empty while they are missing.
    func ways(of row: RouteIntent.Row) -> [WeightedWay] {
        hops(of: row).map { Self.way(of: $0) }
    }
    static func way(of hop: NextHopTable.Hop) -> WeightedWay {
        let weight = Int(hop.weight)
        if hop.interface == 0, let gateway = hop.gateway { return .init(way: .gateway(gateway), weight: weight) }
        let encap = hop.encapVNI.flatMap { VNI($0) }
        return .init(way: .interface(hop.interface, gateway: hop.gateway, encap: encap), weight: weight)
    }
    /// Whether a row's next hop, or the object it refers to, drops everything.
    func isBlackhole(_ row: RouteIntent.Row) -> Bool {
        if row.nextHopID == 0 { return false }
        if row.origin == .kernel { return kernelNextHops.isBlackhole(row.nextHopID) }
        return connectionNumber(row.origin).flatMap { connections[$0]?.nextHops.isBlackhole(row.nextHopID) } ?? false
    }

    /// The next-hop object of a source; nil for inline next hops, and for one that nobody refers to.
    func nextHop(_ source: RouteSource) -> NextHopTable.Entry? {
        guard case .object(let key) = source.ways else { return nil }
        if key.origin == .kernel { return kernelNextHops[key.id] }
        return connectionNumber(key.origin).flatMap { connections[$0]?.nextHops[key.id] }
    }

    // MARK: Resolution

    /// What ways lead to in a VRF.
    func resolve(_ ways: [WeightedWay], vrf: UInt16) -> RouteResolution {
        var found = RouteResolution()
        var visited: Set<IPAddress> = []
        resolve(ways, vrf: vrf, weight: 1, destination: nil, visited: &visited, into: &found)
        if !found.members.isEmpty { found.terminal = nil }
        return found
    }

    /// - Parameter destination: a gateway that is looked up; it is the neighbour where a route has no
    ///   gateway of its own.
    private func resolve(
        _ ways: [WeightedWay], vrf: UInt16, weight: Int, destination: IPAddress?,
        visited: inout Set<IPAddress>, into found: inout RouteResolution
    ) {
        for way in ways {
            let product = way.weight.multipliedReportingOverflow(by: weight)
            let weight = product.overflow ? Int.max : product.partialValue
            switch way.way {
            case .vtep(let vni, let vtep, let mac): found.add(.tunnel(vni, vtep, mac), weight: weight)
            case .port(let port, let address): found.add(.port(port, address), weight: weight)
            case .vrf(let other):
                if destination == nil { end(.vrf(other), &found) } else { found.unresolvedCount += 1 }
            case .gateway(let gateway):
                lookUp(gateway, vrf: vrf, weight: weight, visited: &visited, into: &found)
            case .interface(let interface, let gateway, let encap):
                var meaning = meaning(of: interface)
                if meaning == .absent, let encap, routing.l3vnis[encap] != nil {
                    meaning = .overlay(encap)
                }
                if case .vrf(let other) = meaning, let gateway {
                    lookUp(gateway, vrf: other, weight: weight, visited: &visited, into: &found)
                } else {
                    leave(meaning, gateway ?? destination, weight: weight, into: &found)
                }
            }
        }
    }
    private func end(_ value: RouteValue, _ found: inout RouteResolution) {
        if found.terminal == nil { found.terminal = value }
    }
    /// Out of an interface, to a neighbour or, without one, into its subnet.
    private func leave(
        _ meaning: InterfaceMeaning, _ gateway: IPAddress?, weight: Int, into found: inout RouteResolution
    ) {
        switch (meaning, gateway) {
        case (.overlay(let vni), let vtep?):
            if isOwn(vtep) { found.unresolvedCount += 1 } else { found.add(.tunnel(vni, vtep, nil), weight: weight) }
        case (.domain(let domain), let host?): found.add(.neighbor(domain: domain, host), weight: weight)
        case (.domain(let domain), nil): end(.subnet(domain: domain), &found)
        case (.port(let port), let host?): found.add(.port(port, host), weight: weight)
        case (.port(let port), nil): end(.port(port), &found)
        case (.vrf(let vrf), nil): end(.vrf(vrf), &found)
        case (.overlay, nil), (.vrf, _?), (.absent, _), (.unknown, _), (.foreign, _): found.unresolvedCount += 1
        }
    }
    /// A gateway without an interface (RFC 4271 section 9.1.2.1): the route to it in its VRF.
    private func lookUp(
        _ gateway: IPAddress, vrf: UInt16, weight: Int, visited: inout Set<IPAddress>,
        into found: inout RouteResolution
    ) {
        found.isRecursive = true
        guard visited.count < Self.maximumRecursion, visited.insert(gateway).inserted else {
            found.unresolvedCount += 1
            return
        }
        defer { visited.remove(gateway) }
        let before = found.members.count
        switch longestMatch(gateway, vrf: vrf) {
        case .value(let value) where value.kind == .subnet:
            found.add(.neighbor(domain: UInt16(truncatingIfNeeded: value.index), gateway), weight: weight)
        case .value(let value) where value.kind == .port:
            found.add(.port(UInt16(truncatingIfNeeded: value.index), gateway), weight: weight)
        case .host(let id): found.add(HopKey(id), weight: weight)
        case .fixed(let route) where route.kind == .unicast:
            resolve(
                route.ways, vrf: vrf, weight: weight, destination: gateway, visited: &visited, into: &found)
        case .row(let row) where row.kind == .unicast:
            resolve(
                ways(of: row), vrf: vrf, weight: weight, destination: gateway, visited: &visited, into: &found)
        case .none, .value, .fixed, .row: break
        }
        if found.members.count == before { found.unresolvedCount += 1 }
    }

    // MARK: Decisions

    /// What a prefix leads to: own address or subnet, then a local binding, then configured and
    /// received routes, then a binding behind another VTEP.
    func decide(vrf: UInt16, _ prefix: IPPrefix) -> RouteDecision {
        if let own = routing.own[vrf]?[prefix] { return .value(own) }
        let binding = prefix.isHost ? hostBinding(vrf: vrf, prefix.address) : nil
        if let binding, !binding.isRemote { return .host(binding.neighbor) }
        if let fixed = routing.fixed[vrf]?[prefix] { return .fixed(fixed) }
        if let table = routing.table(of: vrf), let best = routes.best(table, prefix), !best.isIgnored {
            return .row(best)
        }
        if let binding { return .host(binding.neighbor) }
        return .none
    }
    /// The number of the content (``RouteRows``) that decides a prefix, when that is all there is to it:
    /// one received row, no own address, binding or configured route. Nil: ask ``decide(vrf:_:)``.
    func plainRow(vrf: UInt16, _ prefix: IPPrefix) -> UInt32? {
        if routing.isOwn(vrf, prefix) || !routing.fixed.isEmpty && routing.fixed[vrf]?[prefix] != nil { return nil }
        if prefix.isHost, hostBinding(vrf: vrf, prefix.address) != nil { return nil }
        guard let table = routing.table(of: vrf), let number = routes.single(table, prefix) else { return nil }
        return routes.rows[number].isIgnored ? nil : number
    }
    /// The decision of the longest prefix around an address.
    func longestMatch(_ address: IPAddress, vrf: UInt16) -> RouteDecision {
        var lengths: Set<Int> = [address.bitCount]
        if let match = routing.own[vrf]?.longestMatch(address, where: { _ in true }) {
            lengths.insert(match.prefix.length)
        }
        if let match = routing.fixed[vrf]?.longestMatch(address, where: { _ in true }) {
            lengths.insert(match.prefix.length)
        }
        if let table = routing.table(of: vrf),
            let match = routes.table(table)?.longestMatch(address, where: { !$0.isIgnored })
        {
            lengths.insert(match.prefix.length)
        }
        for length in lengths.sorted(by: >) {
            guard let prefix = IPPrefix(address, length: length)?.network else { continue }
            let decision = decide(vrf: vrf, prefix)
            if decision != .none { return decision }
        }
        return .none
    }
}

extension RouteIntent.Row {
    /// Broadcast, multicast and what else the kernel keeps beside unicast: not forwarded.
    var isIgnored: Bool { if case .other = kind { true } else { false } }
}
