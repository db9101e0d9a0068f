// Turns what the control state wants into tables, a batch of events at a time.

public import Tables
import Wire

/// Entries that the tables refused.
public struct Alarms: Hashable, Sendable {
    public var macsRefused: UInt64 = 0
    public var vtepsRefused: UInt64 = 0
    public var floodTargetsRefused: UInt64 = 0
    public var portsRefused: UInt64 = 0
    public var routesRefused: UInt64 = 0
    public var neighborsRefused: UInt64 = 0
    public var isRaised: Bool { self != Alarms() }
}

/// Keeps ``ForwardingTables`` equal to what a ``ControlState`` wants.
///
/// It holds only what the tables do not; what is installed is read back from the tables themselves.
public final class TableCompiler {
    public let tables: ForwardingTables
    /// Hops of IP neighbours, for routes too.
    public var neighbors: NeighborHops { routes.hops.neighbors }
    public private(set) var alarms = Alarms()
    private let ageingSeconds: Double

    private let tunnels: TunnelReferences
    let routes: RouteCompiler
    private var floodTunnels: [UInt16: [UInt32]] = [:]
    /// All members of the group of a MAC that is behind one.
    private var groupTunnels: [UInt64: [UInt32]] = [:]
    /// MACs and flood lists that did not fit; they are tried again when something was removed.
    private var refusedMACs: Set<UInt64> = []
    private var refusedFlood: Set<UInt16> = []
    private var room = RoomSignal()
    private var pendingLog: [(kind: String, text: String)] = []
    static let retriesPerFlush = 4096
    static let refusedLimit = 1 << 20

    /// Makes domains, circuits, ports and static state, and publishes them. `tables` is fresh.
    public init(_ state: inout ControlState, tables: ForwardingTables, at now: Instant)
        throws(TableError)
    {
        self.tables = tables
        ageingSeconds = Double(state.configuration.dataplane.macAgeingSeconds)
        tunnels = TunnelReferences(tables)
        routes = RouteCompiler(tables, tunnels, vrfCount: state.numbering.vrfNames.count)
        let configuration = state.configuration
        let endpoints = configuration.underlays.flatMap(\.tunnelEndpoints)
        var vxlanPorts: [UInt16] = []
        for port in configuration.l2vnis.map(\.vxlanPort) + configuration.l3vnis.map(\.vxlanPort)
        where !vxlanPorts.contains(port) { vxlanPorts.append(port) }
        try tables.setEndpoints(endpoints, vxlanPorts: vxlanPorts)
        setOuterHeader(configuration)
        try addVRFs(state)
        for port in 0..<state.numbering.portCount { try setPort(UInt16(port), state) }
        for (position, l2vni) in configuration.l2vnis.enumerated() {
            var flags: BridgeDomain.Flags = []
            if l2vni.acceptUnknownVTEP { flags.insert(.acceptUnknownVTEP) }
            if l2vni.neighborSuppression { flags.insert(.neighborSuppression) }
            let index = try tables.addDomain(
                BridgeDomain(
                    vni: l2vni.vni,
                    vxlanPort: l2vni.vxlanPort,
                    gatewayMAC: l2vni.effectiveGatewayMAC,
                    flags: flags,
                    vrf: state.numbering.vrf(ofDomain: UInt16(truncatingIfNeeded: position + 1))
                )
            )
            precondition(Int(index) == position + 1, "tables must be fresh")
            tables.setGateways(domain: index, l2vni.gatewayIPs)
        }
        for (position, circuit) in state.numbering.circuits.enumerated() {
            let index = try tables.addCircuit(
                port: circuit.port,
                vlan: circuit.vlan,
                domain: circuit.domain
            )
            precondition(Int(index) == position, "tables must be fresh")
        }
        routes.loadFixed(&state)
        _ = flush(&state, at: now)
    }

    /// Routes wait for room in the tables.
    public var isRefusingRoutes: Bool { routes.isRefusing }

    // MARK: A batch

    /// Applies all that changed since the last call and publishes once. Call it after a batch of
    /// events, and after each tick; the effects are alarms to log.
    public func flush(_ state: inout ControlState, at now: Instant) -> [ControlEffect] {
        var effects = state.settleNeighbors(now)
        let changes = state.takeChanges()
        for port in changes.ports.sorted() {
            do { try setPort(port, state) } catch {
                alarms.portsRefused += 1
                pendingLog.append(("ports", "\(error)"))
            }
        }
        for domain in changes.flood.sorted() { compileFlood(domain, &state) }
        for (index, key) in changes.macs.enumerated() {
            if index + 8 < changes.macs.count { tables.prefetchMAC(changes.macs[index + 8]) }
            compileMAC(key, &state)
        }
        neighbors.compile(changes.neighbors, &state)
        routes.flush(changes, &state)
        updateVRFs(routes.changedVRFs, state)
        alarms.routesRefused = routes.refusedCount
        pendingLog += routes.takeLog()
        effects += neighbors.finish(&state, at: now)
        alarms.neighborsRefused = neighbors.refusals
        if let error = neighbors.takeError() { pendingLog.append(("neighbors", error)) }
        retryRefused(&state)
        for text in tunnels.takeRefusals() {
            alarms.vtepsRefused += 1
            pendingLog.append(("vteps", text))
        }
        if tunnels.dropUnused() {
            room.note(tables)
            routes.hasTunnelRoom(&state)
        }
        tunnels.resolve(&state, all: changes.underlay)
        tables.publish()
        for line in pendingLog { state.log(.error, line.kind, line.text, now, &effects) }
        pendingLog.removeAll()
        return effects
    }

    // MARK: MACs

    private func compileMAC(_ key: UInt64, _ state: inout ControlState) {
        let domain = FDBKey.domain(key)
        let mac = FDBKey.mac(key)
        let old = tables.mac(domain: domain, mac)
        let wanted = value(of: state.placement(key), key, &state)
        compileGroup(key, wanted.members)
        if old == wanted.value { return }
        if let value = wanted.value {
            // References first: a packet that finds the MAC finds its tunnel and is accepted back.
            if value.isTunnel { tunnels.retain(.domain(domain), value.index) }
            do {
                try tables.setMAC(domain: domain, mac, value)
                refusedMACs.remove(key)
            } catch {
                if value.isTunnel { tunnels.release(.domain(domain), value.index) }
                refuse(key, "\(error)")
                return
            }
        } else {
            tables.removeMAC(domain: domain, mac)
            room.note(tables)
        }
        if let old, old.isTunnel { tunnels.release(.domain(domain), old.index) }
    }

    private func value(
        of placement: MACPlacement?,
        _ key: UInt64,
        _ state: inout ControlState
    ) -> (value: FDBValue?, members: [UInt32]) {
        switch placement {
        case nil:
            refusedMACs.remove(key)
            return (nil, [])
        case .gateway: return (.gateway, [])
        case .circuit(let circuit): return (.circuit(circuit), [])
        case .remote(.vtep(let vtep), let isSticky):
            guard let tunnel = tunnels.tunnel(of: vtep, state) else {
                refuse(key, nil)
                return (nil, [])
            }
            return (.tunnel(tunnel, sticky: isSticky), [])
        case .remote(.group(let group), let isSticky):
            let members = state.members(ofGroup: group).compactMap { tunnels.tunnel(of: $0, state) }
            guard !members.isEmpty else { return (nil, []) }
            // One VTEP per MAC, the MACs spread over all of them.
            let mixed = (key ^ key >> 32) &* 0x9E37_79B9_7F4A_7C15
            return (.tunnel(members[Int(mixed >> 33) % members.count], sticky: isSticky), members)
        }
    }
    /// Every PE of a multihomed segment may send for the MAC, so all are members of the domain.
    private func compileGroup(_ key: UInt64, _ members: [UInt32]) {
        let before = groupTunnels[key] ?? []
        if before == members { return }
        groupTunnels[key] = members.isEmpty ? nil : members
        for tunnel in members { tunnels.retain(.domain(FDBKey.domain(key)), tunnel) }
        for tunnel in before { tunnels.release(.domain(FDBKey.domain(key)), tunnel) }
    }

    private func refuse(_ key: UInt64, _ reason: String?) {
        room.wait(tables)
        guard refusedMACs.count < Self.refusedLimit else { return }
        if refusedMACs.insert(key).inserted {
            alarms.macsRefused += 1
            if let reason { pendingLog.append(("macs refused", reason)) }
        }
    }
    private func retryRefused(_ state: inout ControlState) {
        guard !(refusedMACs.isEmpty && refusedFlood.isEmpty), room.take(tables) else { return }
        for domain in refusedFlood.sorted() { compileFlood(domain, &state) }
        var tried = 0
        for key in Array(refusedMACs.prefix(Self.retriesPerFlush)) {
            if tables.macCount >= tables.limits.macs { break }
            compileMAC(key, &state)
            tried += 1
        }
        if tried == Self.retriesPerFlush { room.note(tables) }
    }

    // MARK: Flood lists

    private func compileFlood(_ domain: UInt16, _ state: inout ControlState) {
        let circuits = state.numbering.circuits(ofDomain: domain)
        let wanted = state.flood(ofDomain: domain)
        var targets = wanted.compactMap { tunnels.tunnel(of: $0, state) }
        let room = max(0, tables.limits.floodTargets - circuits.count)
        if targets.count > room || targets.count < wanted.count {
            self.room.wait(tables)
            if refusedFlood.insert(domain).inserted { alarms.floodTargetsRefused += 1 }
            if targets.count > room {
                pendingLog.append(
                    (
                        "flood",
                        "the flood list of VNI \(state.numbering.vni(ofDomain: domain)?.rawValue ?? 0) has "
                            + "\(circuits.count + targets.count) targets, \(tables.limits.floodTargets) fit; "
                            + "raise dataplane.limits.floodTargets"
                    )
                )
                targets = Array(targets.prefix(room))
            }
        } else {
            refusedFlood.remove(domain)
        }
        let before = floodTunnels[domain] ?? []
        for tunnel in targets { tunnels.retain(.domain(domain), tunnel) }
        do {
            try tables.setFlood(
                domain: domain,
                circuits: Array(circuits.prefix(tables.limits.floodTargets)),
                tunnels: targets
            )
        } catch {
            for tunnel in targets { tunnels.release(.domain(domain), tunnel) }
            pendingLog.append(("flood", "\(error)"))
            return
        }
        floodTunnels[domain] = targets
        for tunnel in before { tunnels.release(.domain(domain), tunnel) }
    }

    // MARK: Ageing

    /// Ends the ageing period of the learn rings and tells what workers saw in it: an event for
    /// ``ControlState/apply(_:at:)``. Call it every ``ageingPeriodSeconds``.
    public func endAgeingPeriod() -> ControlEvent {
        let ended = tables.learning.advancePeriod()
        return .seen(
            tables.learning.slotsSeen(inPeriod: ended).compactMap { tables.key(ofSlot: $0) }
        )
    }
    /// A tenth of `dataplane.macAgeingSeconds`, at most 10 seconds, at least 1.
    public var ageingPeriodSeconds: Double { min(10, max(1, ageingSeconds / 10)) }
}

extension ControlState {
    /// Where the FDB has to place a MAC.
    func placement(_ key: UInt64) -> MACPlacement? {
        guard let (index, mac) = locate(key) else { return nil }
        if domains[index].gatewayMAC == mac { return .gateway }
        return domains[index].macs[mac.rawValue]?.placement
    }
    /// The VTEPs of a domain's flood list, by address.
    func flood(ofDomain domain: UInt16) -> [UInt32] {
        guard domains.indices.contains(Int(domain) - 1) else { return [] }
        let state = domains[Int(domain) - 1]
        return Set(state.fixedFlood).union(state.flood.keys)
            .compactMap { id in vteps.address(id).map { (id: id, address: $0) } }
            .filter { !isOwn($0.address) }.sorted { $0.address < $1.address }.map(\.id)
    }
    /// The VTEPs of a multihoming group, by address.
    mutating func members(ofGroup group: UInt32) -> [UInt32] {
        Set(kernelNextHops.hops(of: group).compactMap(\.gateway)).sorted().map { vteps.id(of: $0) }
    }
    /// Whether a VTEP is this node.
    func isOwn(_ address: IPAddress) -> Bool {
        configuration.underlays.contains { $0.tunnelEndpoints.contains(address) }
    }
}
