// The hops that routes and groups refer to: made when first needed, dropped when nothing does.

import Tables
import Wire

/// Hops by what they stand for, with the number of routes and group slots sets that use each.
///
/// Hops into the fabric are owned here; those of neighbours belong to ``NeighborHops``.
final class RouteHops {
    private let tables: ForwardingTables
    private let tunnels: TunnelReferences
    let neighbors: NeighborHops
    private var indexes: [HopKey: UInt32] = [:]
    /// By hop index.
    private var keys: [HopKey?] = []
    private var counts: [Int32] = []
    private var tunnelOfHop: [UInt32: UInt32] = [:]
    private var unused: [UInt32] = []
    /// Tunnels of known router MACs.
    private var tunnelOfRouterMAC: [RouterMACs.Key: UInt32] = [:]
    private var refusedRouterMACs: Set<RouterMACs.Key> = []
    /// Something was removed since a hop was refused.
    var hasRoom = false
    private(set) var refusal: String?

    init(_ tables: ForwardingTables, _ tunnels: TunnelReferences) {
        self.tables = tables
        self.tunnels = tunnels
        neighbors = NeighborHops(tables)
    }

    func key(_ index: UInt32) -> HopKey? { Int(index) < keys.count ? keys[Int(index)] : nil }
    /// The hop that stands for a key, if something uses it.
    func known(_ key: HopKey) -> UInt32? { indexes[key] }
    /// Hops that routes or groups refer to, and how many do.
    var used: [UInt32] { indexes.values.sorted() }
    func count(of index: UInt32) -> Int32 { Int(index) < counts.count ? counts[Int(index)] : 0 }
    func takeRefusal() -> String? {
        defer { refusal = nil }
        return refusal
    }

    /// The hop's index, made when there is none; nil when it does not fit.
    func index(of key: HopKey, _ state: inout ControlState) -> UInt32? {
        if let known = indexes[key] { return known }
        guard let index = make(key, &state) else { return nil }
        while keys.count <= Int(index) {
            keys.append(nil)
            counts.append(0)
        }
        indexes[key] = index
        keys[Int(index)] = key
        counts[Int(index)] = 0
        unused.append(index)
        return index
    }
    private func make(_ key: HopKey, _ state: inout ControlState) -> UInt32? {
        do {
            switch key {
            case .tunnel(let vni, let vtep, let mac):
                guard let l3vni = state.routing.l3vnis[vni],
                    let tunnel = tunnels.tunnel(of: state.vteps.id(of: vtep), state)
                else { return nil }
                let known = mac ?? state.routerMACs.mac(vni, vtep)?.mac
                let index = try tables.addHop(
                    RouteHop(
                        way: .tunnel(tunnel, l3vni: vni, vxlanPort: l3vni.vxlanPort), mac: known ?? .zero,
                        sourceMAC: l3vni.routerMAC, state: known == nil ? .noRouterMAC : .usable))
                tunnels.retain(.vrf(l3vni.vrf), tunnel)
                tunnelOfHop[index] = tunnel
                return index
            case .neighbor(let domain, let address):
                return try neighbors.require(.domain(domain, address), &state)
            case .port(let port, let address): return try neighbors.require(.port(port, address), &state)
            }
        } catch {
            refusal = "\(error)"
            return nil
        }
    }

    @inline(__always) func retain(_ index: UInt32) {
        if Int(index) < counts.count { counts[Int(index)] += 1 }
    }
    @inline(__always) func release(_ index: UInt32) {
        guard Int(index) < counts.count else { return }
        counts[Int(index)] -= 1
        if counts[Int(index)] == 0 { unused.append(index) }
    }

    /// Removes the hops that nothing uses any more. Returns whether there were some.
    func dropUnused(_ state: inout ControlState) -> Bool {
        if unused.isEmpty { return false }
        var hasDropped = false
        for index in unused {
            guard counts[Int(index)] == 0, let key = keys[Int(index)] else { continue }
            keys[Int(index)] = nil
            indexes[key] = nil
            hasRoom = true
            hasDropped = true
            switch key {
            case .tunnel(let vni, _, _):
                tables.removeHop(index)
                if let tunnel = tunnelOfHop.removeValue(forKey: index), let l3vni = state.routing.l3vnis[vni] {
                    tunnels.release(.vrf(l3vni.vrf), tunnel)
                }
            case .neighbor(let domain, let address): neighbors.release(.domain(domain, address), &state)
            case .port(let port, let address): neighbors.release(.port(port, address), &state)
            }
        }
        unused.removeAll(keepingCapacity: true)
        return hasDropped
    }

    // MARK: Router MACs

    /// A router MAC came, changed or went: the hop changes in place, and its VTEP is a member of the
    /// VRF while it is known.
    func updateRouterMAC(_ key: RouterMACs.Key, _ state: inout ControlState) {
        let known = state.routerMACs.mac(key.vni, key.vtep)?.mac
        if let index = indexes[.tunnel(key.vni, key.vtep, nil)] {
            tables.updateHop(index, mac: known ?? .zero, state: known == nil ? .noRouterMAC : .usable)
        }
        guard let l3vni = state.routing.l3vnis[key.vni] else { return }
        if known == nil {
            refusedRouterMACs.remove(key)
            if let tunnel = tunnelOfRouterMAC.removeValue(forKey: key) { tunnels.release(.vrf(l3vni.vrf), tunnel) }
        } else if tunnelOfRouterMAC[key] == nil {
            guard let tunnel = tunnels.tunnel(of: state.vteps.id(of: key.vtep), state) else {
                refusedRouterMACs.insert(key)
                return
            }
            refusedRouterMACs.remove(key)
            tunnels.retain(.vrf(l3vni.vrf), tunnel)
            tunnelOfRouterMAC[key] = tunnel
        }
    }
    var isRefusing: Bool { !refusedRouterMACs.isEmpty }
    func retryRouterMACs(_ state: inout ControlState) {
        for key in Array(refusedRouterMACs) { updateRouterMAC(key, &state) }
    }
    /// The own router MAC of an L3VNI changed.
    func updateSource(of vni: VNI, _ mac: MACAddress) {
        for (key, index) in indexes {
            if case .tunnel(vni, _, _) = key { tables.updateHop(index, sourceMAC: mac) }
        }
    }
}
