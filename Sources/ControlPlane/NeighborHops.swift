// Hops to hosts that routes go through, as the route compiler asks for them.

import Tables
import Wire

/// A host that packets are handed to.
enum NeighborHopKey: Hashable {
    case domain(UInt16, IPAddress)
    /// Behind a routed or an underlay port.
    case port(UInt16, IPAddress)
}

/// One hop for each host in use.
final class NeighborHops {
    private let tables: ForwardingTables
    private var hops: [NeighborHopKey: UInt32] = [:]
    init(_ tables: ForwardingTables) { self.tables = tables }

    /// The hop of a host, kept until ``release(_:_:)`` is called as often.
    func require(_ key: NeighborHopKey, _ state: inout ControlState) throws(TableError) -> UInt32 {
        if let known = hops[key] { return known }
        let way: RouteHop.Way =
            switch key {
            case .domain(let domain, _): .bridge(domain: domain)
            case .port(let port, _): .port(port)
            }
        let index = try tables.addHop(RouteHop(way: way, state: .resolving))
        hops[key] = index
        return index
    }
    func release(_ key: NeighborHopKey, _ state: inout ControlState) {
        if let index = hops.removeValue(forKey: key) { tables.removeHop(index) }
    }
}

/// Where a host address is bound.
struct HostBinding: Hashable {
    var domain: UInt16
    /// Behind another VTEP.
    var isRemote: Bool
}

extension ControlState {
    /// The neighbour binding of a host in a VRF.
    func hostBinding(vrf: UInt16, _ address: IPAddress) -> HostBinding? { nil }
}
