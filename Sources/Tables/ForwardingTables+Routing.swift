// The writer's side of routing: VRFs, next hops, groups, routes and neighbours.

import CLinux
public import Wire

extension ForwardingTables {
    // MARK: VRFs

    /// Adds a VRF and makes its L3VNI, if it has one, lead to it. Returns its index.
    public func addVRF(_ entry: VRFEntry) throws(TableError) -> UInt16 {
        let index = try freeVRFs.take()
        vrfs[index] = entry
        vrfs[index].isUsed = true
        dirty.formUnion([.vrfs])
        if let vni = entry.vni { pendingVNIs.append((vni, VNITarget.vrf(UInt16(index)))) }
        return UInt16(index)
    }
    /// Changes a VRF's record, not its L3VNI.
    public func updateVRF(_ index: UInt16, _ body: (inout VRFEntry) -> Void) {
        guard Int(index) < vrfs.count, vrfs[Int(index)].isUsed else { return }
        var changed = vrfs[Int(index)]
        body(&changed)
        changed.vniWord = vrfs[Int(index)].vniWord
        changed.isUsed = true
        vrfs[Int(index)] = changed
        dirty.formUnion([.vrfs])
    }
    public func vrf(_ index: UInt16) -> VRFEntry? {
        Int(index) < vrfs.count && vrfs[Int(index)].isUsed ? vrfs[Int(index)] : nil
    }
    /// Whether packets from a VTEP are accepted in a VRF.
    public func setMember(vrf: UInt16, tunnel: UInt32, _ isMember: Bool) {
        guard Int(vrf) < limits.vrfs, Int(tunnel) < limits.vteps else { return }
        setMember(row: limits.domains + Int(vrf), tunnel: tunnel, isMember)
    }

    // MARK: Next hops

    /// Adds a hop; its way never changes. Returns its index.
    public func addHop(_ hop: RouteHop) throws(TableError) -> UInt32 { try hops.add(hop) }
    /// Changes a hop in place, at once for every packet.
    public func updateHop(_ index: UInt32, mac: MACAddress, state: RouteHop.State, isRemote: Bool = false) {
        hops.update(index, mac: mac, state: state, isRemote: isRemote)
    }
    /// Changes the source MAC of a hop in place: the own router MAC or the gateway's changed.
    public func updateHop(_ index: UInt32, sourceMAC: MACAddress) { hops.update(index, sourceMAC: sourceMAC) }
    /// Removes a hop to which no route, group or neighbour refers any more.
    public func removeHop(_ index: UInt32) {
        hops.remove(index, epoch: publication.epoch)
        hasDeletions = true
    }
    public func hop(_ index: UInt32) -> RouteHop? { hops.hop(index) }
    public var hopCount: Int { hops.count }

    /// Adds a group without members: its packets are dropped until it has some.
    public func addGroup() throws(TableError) -> UInt32 { try hops.addGroup() }
    /// Replaces a group's slots at once: hop indexes, a power of two of them, or none.
    public func setGroup(_ index: UInt32, slots: [UInt32]) throws(TableError) {
        try hops.setGroup(index, slots: slots, epoch: publication.epoch)
        hasDeletions = true
    }
    /// Removes a group to which no route refers any more.
    public func removeGroup(_ index: UInt32) {
        hops.removeGroup(index, epoch: publication.epoch)
        hasDeletions = true
    }
    public func slots(ofGroup index: UInt32) -> [UInt32] { hops.slots(ofGroup: index) }
    public var groupCount: Int { hops.usedGroups.count }
    /// Of ``TableLimits/groupSlots``.
    public var groupSlotsInUse: Int { hops.slotsInUse }

    // MARK: Routes

    /// Inserts or replaces a route; a packet sees the old answer or the new one.
    ///
    /// - Parameter prefix: host bits clear.
    public func setRoute(vrf: UInt16, _ prefix: IPPrefix, _ value: RouteValue) throws(TableError) {
        guard vrf != 0, Int(vrf) < limits.vrfs, !value.isMiss else { return }
        if prefix.isHost, try setHost(vrf, prefix.address, value.rawValue) { return }
        // Shorter prefixes, and the rare IPv6 host whose hash another one has.
        try prefixes.set(vrf: vrf, prefix, value.rawValue, epoch: publication.epoch)
        hasDeletions = true
    }
    public func removeRoute(vrf: UInt16, _ prefix: IPPrefix) {
        guard vrf != 0, Int(vrf) < limits.vrfs else { return }
        hasDeletions = true
        if prefix.isHost, hosts.remove(vrf, prefix.address, epoch: publication.epoch) {
            if case .v4(let ipv4) = prefix.address { hostBlocks.settle(vrf, ipv4, by: -1) }
            return
        }
        _ = prefixes.remove(vrf: vrf, prefix, epoch: publication.epoch)
    }
    /// Inserts or replaces a host route; false when another IPv6 address of the VRF has the same hash.
    private func setHost(_ vrf: UInt16, _ address: IPAddress, _ value: UInt32) throws(TableError) -> Bool {
        guard case .v4(let ipv4) = address else { return try hosts.set(vrf, address, value) }
        let count = hosts.count
        hostBlocks.expect(vrf, ipv4)
        defer { hostBlocks.settle(vrf, ipv4, by: hosts.count - count) }
        return try hosts.set(vrf, address, value)
    }
    /// Fetches what a look-up or change of a host route will need; of other prefixes nothing.
    public func prefetchRoute(vrf: UInt16, _ prefix: IPPrefix) {
        if prefix.isHost { pe_prefetch(hosts.view.table.bucket(of: HostKey.make(vrf, prefix.address))) }
    }
    /// The route of exactly this prefix.
    public func route(vrf: UInt16, _ prefix: IPPrefix) -> RouteValue? {
        if prefix.isHost, let found = hosts.value(vrf, prefix.address) { return RouteValue(rawValue: found) }
        return prefixes.value(vrf: vrf, prefix).map(RouteValue.init(rawValue:))
    }
    /// Visits every route of every VRF.
    public func forEachRoute(_ body: (_ vrf: UInt16, _ prefix: IPPrefix, _ value: RouteValue) -> Void) {
        hosts.forEach { vrf, address, value in body(vrf, IPPrefix(host: address), RouteValue(rawValue: value)) }
        prefixes.forEach { vrf, prefix, value in body(vrf, prefix, RouteValue(rawValue: value)) }
    }
    public var hostRouteCount: Int { hosts.count }
    public var prefixCount: Int { prefixes.count }
    public var routeCount: Int { hosts.count + prefixes.count }

    // MARK: Neighbours

    /// Sets the hop of an IP neighbour in a bridge domain.
    public func setNeighbor(domain: UInt16, _ address: IPAddress, hop: UInt32) throws(TableError) {
        guard domain != 0, Int(domain) < limits.domains else { return }
        guard try neighborTable.set(domain, address, hop) else {
            throw .full(table: "neighbors: \(address) has the same hash as another", limit: limits.neighbors)
        }
    }
    public func removeNeighbor(domain: UInt16, _ address: IPAddress) {
        if neighborTable.remove(domain, address, epoch: publication.epoch) { hasDeletions = true }
    }
    /// The hop of a neighbour.
    public func neighbor(domain: UInt16, _ address: IPAddress) -> UInt32? {
        neighborTable.value(domain, address)
    }
    public var neighborCount: Int { neighborTable.count }

    /// Requests to a worker: see ``ProbeRing``.
    public var probes: ProbeRing { neighborRings.probes }

    func collectRoutes(through epoch: UInt64) {
        hosts.table.reclaim(through: epoch)
        neighborTable.table.reclaim(through: epoch)
        prefixes.reclaim(through: epoch)
        hops.reclaim(through: epoch)
        freeVRFs.reclaim(through: epoch)
    }
}
