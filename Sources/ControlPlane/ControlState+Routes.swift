// Routes of any source: stored, counted against their next hops, told overlay from underlay.

import Wire

extension ControlState {
    /// Takes in one route message. `metric` nil: the source has one row per prefix (FPM).
    mutating func setRoute(_ message: RouteMessage, origin: Origin, metric: UInt32?, dump: UInt32) {
        let prefix = message.prefix.network
        if message.isDelete {
            removeRoute(origin, table: message.table, prefix: prefix, metric: metric)
            return
        }
        let row = RouteIntent.Row(
            origin: origin,
            metric: message.metric,
            routeProtocol: message.routeProtocol,
            kind: message.kind,
            nextHopID: message.nextHopID ?? 0,
            nextHops: message.nextHopID == nil ? message.nextHops : [],
            dump: dump
        )
        let change = routes.set(row, table: message.table, prefix: prefix, metric: metric)
        if let added = change.added { retainNextHop(added) }
        for old in change.dropped { releaseNextHop(old) }
        noteRoute(message.table, prefix)
    }
    mutating func removeRoute(_ origin: Origin, table: UInt32, prefix: IPPrefix, metric: UInt32?) {
        guard let change = routes.remove(origin, table: table, prefix: prefix, metric: metric) else { return }
        for old in change.dropped { releaseNextHop(old) }
        noteRoute(table, prefix)
    }

    /// Whether a VTEP's way may have changed. A host route concerns one address; shorter prefixes
    /// are few, so that they are not looked at one by one.
    private mutating func noteRoute(_ table: UInt32, _ prefix: IPPrefix) {
        changes.routes.append(RouteKey(table: table, prefix: prefix))
        guard table == RouteIntent.mainTable, !changes.underlay else { return }
        if !prefix.isHost || vteps.known(prefix.address) != nil || isGateway(prefix.address) {
            changes.underlay = true
        }
    }
    /// Whether resolution looked for this address as a next hop beyond an interface.
    private func isGateway(_ address: IPAddress) -> Bool { recursiveGateways.contains(address) }

    private mutating func retainNextHop(_ row: RouteIntent.Row) {
        guard row.nextHopID != 0 else { return }
        if row.origin == .kernel {
            kernelNextHops.retain(row.nextHopID)
        } else if let number = connectionNumber(row.origin) {
            connections[number]?.nextHops.retain(row.nextHopID)
        }
    }
    mutating func releaseNextHop(_ row: RouteIntent.Row) {
        guard row.nextHopID != 0 else { return }
        if row.origin == .kernel {
            let hops = kernelNextHops.hops(of: row.nextHopID)
            if kernelNextHops.release(row.nextHopID) {
                routes.released += hops.compactMap(\.gateway)
            }
        } else if let number = connectionNumber(row.origin),
            let count = connections[number]?.nextHops[row.nextHopID]?.routeCount
        {
            // The gateways matter only when the last route goes.
            let gateways =
                count == 1
                ? connections[number]?.nextHops.hops(of: row.nextHopID).compactMap(\.gateway) ?? []
                : []
            _ = connections[number]?.nextHops.release(row.nextHopID)
            routes.released += gateways
        }
    }
    func connectionNumber(_ origin: Origin) -> Int? {
        origin == .kernel ? nil : Int(origin.rawValue &- 1)
    }

    /// The next hops of a row, groups taken apart; empty while they are missing.
    func hops(of row: RouteIntent.Row) -> [NextHopTable.Hop] {
        if row.nextHopID != 0 {
            if row.origin == .kernel { return kernelNextHops.hops(of: row.nextHopID) }
            guard let number = connectionNumber(row.origin) else { return [] }
            return connections[number]?.nextHops.hops(of: row.nextHopID) ?? []
        }
        return row.nextHops.map {
            NextHopTable.Hop(
                gateway: $0.gateway?.normalized,
                interface: $0.interface,
                weight: $0.weight,
                isOnlink: $0.isOnlink,
                encapVNI: $0.encapVNI
            )
        }
    }
    /// The L3VNI of a next hop: of the SVI it leaves through, never of RTA_ENCAP where that is known.
    func overlayVNI(of hop: NextHopTable.Hop) -> VNI? {
        if let vni = links.vni(ofSVI: hop.interface) { return vni }
        if links.link(hop.interface) == nil, let hint = hop.encapVNI { return VNI(hint) }
        return nil
    }
    /// Overlay and underlay may share the main table: what leaves through an SVI is overlay.
    func isOverlay(_ hops: [NextHopTable.Hop]) -> Bool {
        !hops.isEmpty && hops.allSatisfy { overlayVNI(of: $0) != nil }
    }

    /// The table of a VRF; nil while its kernel device is not there.
    func table(ofVRF name: String) -> UInt32? {
        if name == Configuration.defaultVRF { return RouteIntent.mainTable }
        return links.table(ofVRF: name) ?? vrfTables[name]
            ?? numbering.vrf(named: name).flatMap(l3vni(ofVRF:))?.table
    }
    /// The L3VNI of a VRF.
    func l3vni(ofVRF vrf: UInt16) -> Configuration.L3VNI? {
        numbering.l3vni(ofVRF: vrf).map { configuration.l3vnis[$0] }
    }
}
