// Which tunnel stands for a VTEP, who refers to it, and from which VTEPs packets are accepted.

import Tables
import Wire

/// What refers to a tunnel: a bridge domain or a VRF.
enum TunnelScope: Hashable {
    case domain(UInt16)
    case vrf(UInt16)
    fileprivate var number: UInt64 {
        switch self {
        case .domain(let index): UInt64(index)
        case .vrf(let index): 1 << 16 | UInt64(index)
        }
    }
}

/// Tunnels by VTEP, kept while something refers to them. A VTEP is a member of every scope that
/// refers to it.
final class TunnelReferences {
    private let tables: ForwardingTables
    /// Tunnel of a ``VTEPRegistry`` number, plus one; 0 is none.
    private var tunnelOfVTEP: [UInt32] = []
    private var vtepOfTunnel: [UInt32: UInt32] = [:]
    /// References to a tunnel from one scope. Key: scope, tunnel.
    private var references: [UInt64: Int] = [:]
    /// Scopes that refer to a tunnel.
    private var scopeCount: [UInt32: Int] = [:]
    private var unused: Set<UInt32> = []
    private var fresh: [UInt32] = []
    private var isFull = false
    /// Tunnels that did not fit, and why, since they were last taken.
    private(set) var refusals: [String] = []

    init(_ tables: ForwardingTables) { self.tables = tables }

    func takeRefusals() -> [String] {
        defer { refusals.removeAll() }
        return refusals
    }

    /// The tunnel to a VTEP, made when there is none; nil when the table is full.
    func tunnel(of vtep: UInt32, _ state: ControlState) -> UInt32? {
        while tunnelOfVTEP.count <= Int(vtep) { tunnelOfVTEP.append(0) }
        if tunnelOfVTEP[Int(vtep)] != 0 { return tunnelOfVTEP[Int(vtep)] - 1 }
        guard let address = state.vteps.address(vtep) else { return nil }
        do {
            let tunnel = try tables.tunnel(to: address)
            tunnelOfVTEP[Int(vtep)] = tunnel + 1
            vtepOfTunnel[tunnel] = vtep
            unused.insert(tunnel)
            fresh.append(tunnel)
            return tunnel
        } catch {
            isFull = true
            refusals.append("\(error)")
            return nil
        }
    }

    func retain(_ scope: TunnelScope, _ tunnel: UInt32) {
        let key = scope.number << 32 | UInt64(tunnel)
        let count = references[key] ?? 0
        references[key] = count + 1
        if count > 0 { return }
        setMember(scope, tunnel, true)
        scopeCount[tunnel, default: 0] += 1
        unused.remove(tunnel)
    }
    func release(_ scope: TunnelScope, _ tunnel: UInt32) {
        let key = scope.number << 32 | UInt64(tunnel)
        guard let count = references[key] else { return }
        if count > 1 {
            references[key] = count - 1
            return
        }
        references[key] = nil
        setMember(scope, tunnel, false)
        let scopes = scopeCount[tunnel] ?? 1
        scopeCount[tunnel] = scopes > 1 ? scopes - 1 : nil
        if scopes <= 1 { unused.insert(tunnel) }
    }
    private func setMember(_ scope: TunnelScope, _ tunnel: UInt32, _ isMember: Bool) {
        switch scope {
        case .domain(let domain): tables.setMember(domain: domain, tunnel: tunnel, isMember)
        case .vrf(let vrf): tables.setMember(vrf: vrf, tunnel: tunnel, isMember)
        }
    }

    /// Removes tunnels that nothing refers to; returns whether there is room again after a refusal.
    func dropUnused() -> Bool {
        guard !unused.isEmpty else { return false }
        for tunnel in unused.sorted() {
            guard let vtep = vtepOfTunnel.removeValue(forKey: tunnel) else { continue }
            tunnelOfVTEP[Int(vtep)] = 0
            tables.removeTunnel(tunnel)
        }
        unused.removeAll(keepingCapacity: true)
        defer { isFull = false }
        return isFull
    }

    /// Resolves the ways to all VTEPs, or to the new ones.
    func resolve(_ state: inout ControlState, all: Bool) {
        let tunnels = all ? Array(vtepOfTunnel.keys) : fresh
        fresh.removeAll(keepingCapacity: true)
        if tunnels.isEmpty && !all { return }
        if all { state.beginResolution() }
        for tunnel in tunnels.sorted() {
            guard let address = tables.remote(of: tunnel) else { continue }
            let found = state.resolve(address)
            tables.setPaths(tunnel: tunnel, found.paths, unusable: found.unusable)
        }
        if all { state.endResolution() }
    }
}
