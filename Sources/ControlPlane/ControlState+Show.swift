// What `pe-dp show` prints of the control state. Order is ShowAnswer.sorted()'s.

import Tables
import Wire

/// How many entries there are, for `summary.json` and `pe-dp status`.
public struct TableCounts: Codable, Hashable, Sendable {
    public var fdb = 0
    public var routes = 0
    public var neighbors = 0
    public var vteps = 0
}

extension ControlState {
    public var tableCounts: TableCounts {
        TableCounts(
            fdb: domains.reduce(0) {
                $0 + $1.macs.reduce(0) { $0 + ($1.value.placement == nil ? 0 : 1) }
            },
            routes: routeCount,
            neighbors: neighborCount,
            vteps: vtepRows().count
        )
    }

    // MARK: MACs, flood lists, VTEPs

    public func fdbRows(at now: Instant) -> [FDBRow] {
        var rows: [FDBRow] = []
        for domain in domains {
            for (raw, entry) in domain.macs {
                guard let row = fdbRow(domain, MACAddress(rawValue: raw), entry, now) else {
                    continue
                }
                rows.append(row)
            }
        }
        return rows.sorted { ($0.vni, $0.mac) < ($1.vni, $1.mac) }
    }
    private func fdbRow(_ domain: DomainState, _ mac: MACAddress, _ entry: MACEntry, _ now: Instant)
        -> FDBRow?
    {
        if domain.gatewayMAC == mac { return nil }
        let vni = domain.vni.rawValue
        let text = mac.description
        switch entry.placement {
        case nil, .gateway: return nil
        case .circuit(let index):
            let circuit = numbering.circuit(index)
            return FDBRow(
                vni: vni,
                mac: text,
                type: .local,
                port: circuit.map { numbering.name(of: $0.port) },
                vlan: circuit.flatMap { $0.vlan == 0 ? nil : Int($0.vlan) },
                ageSeconds: entry.local.map { now.seconds(since: $0.lastSeen) },
                source: "dataplane"
            )
        case .remote(let target, let isSticky):
            let vteps = addresses(of: target).map(\.description).joined(separator: ",")
            let group: UInt32? = if case .group(let id) = target { id } else { nil }
            return FDBRow(
                vni: vni,
                mac: text,
                type: entry.fixed == nil ? .remote : .static,
                vtep: vteps.isEmpty ? nil : vteps,
                group: group,
                sticky: entry.fixed == nil && isSticky,
                source: entry.fixed != nil ? "configuration" : entry.fpm != nil ? "fpm" : "kernel"
            )
        }
    }
    func addresses(of target: RemoteTarget) -> [IPAddress] {
        switch target {
        case .vtep(let id): vteps.address(id).map { [$0] } ?? []
        case .group(let id): Set(kernelNextHops.hops(of: id).compactMap(\.gateway)).sorted()
        }
    }

    public func floodRows() -> [FloodRow] {
        domains.enumerated().map { index, domain in
            let number = UInt16(truncatingIfNeeded: index + 1)
            return FloodRow(
                vni: domain.vni.rawValue,
                vteps: flood(ofDomain: number).compactMap { vteps.address($0)?.description },
                circuits: circuitRows(number)
            )
        }.sorted { $0.vni < $1.vni }
    }
    private func circuitRows(_ domain: UInt16) -> [CircuitRow] {
        numbering.circuits(ofDomain: domain).compactMap { numbering.circuit($0) }.map {
            CircuitRow(port: numbering.name(of: $0.port), vlan: $0.vlan == 0 ? nil : Int($0.vlan))
        }
    }

    /// The VNIs that refer to each VTEP.
    private func vniUse() -> [IPAddress: Set<UInt32>] {
        var use: [IPAddress: Set<UInt32>] = [:]
        for (index, domain) in domains.enumerated() {
            var targets: Set<RemoteTarget> = []
            for entry in domain.macs.values {
                if case .remote(let target, _)? = entry.placement { targets.insert(target) }
            }
            var found = Set(targets.flatMap { addresses(of: $0) })
            for id in flood(ofDomain: UInt16(truncatingIfNeeded: index + 1)) {
                if let address = vteps.address(id) { found.insert(address) }
            }
            for address in found { use[address, default: []].insert(domain.vni.rawValue) }
        }
        let l3vnis = Set(configuration.l3vnis.map(\.vni))
        for key in routerMACs.rows.keys where l3vnis.contains(key.vni) {
            use[key.vtep, default: []].insert(key.vni.rawValue)
        }
        for route in configuration.static.routes {
            guard let vni = numbering.vrf(named: route.vrf).flatMap(l3vni(ofVRF:))?.vni else { continue }
            for case .vtep(let vtep, _) in route.nextHops.map(\.target) {
                use[vtep.normalized, default: []].insert(vni.rawValue)
            }
        }
        return use
    }
    public func vtepRows() -> [VTEPRow] {
        // Resolution notes what it needs; a copy keeps that out of the state.
        var copy = self
        return vniUse().sorted { $0.key < $1.key }.map { address, vnis in
            let found = copy.resolve(address)
            return VTEPRow(
                address: address.description,
                vnis: vnis.sorted(),
                state: found.paths.isEmpty ? .unresolved : .resolved,
                nextHops: found.hops.map {
                    VTEPRow.Path(
                        port: numbering.name(of: $0.port),
                        mac: $0.mac?.description,
                        address: $0.address?.description
                    )
                }
            )
        }
    }

    // MARK: VNIs and VRFs

    public func vniRows() -> [VNIRow] {
        let endpoints = configuration.underlays.flatMap(\.tunnelEndpoints)
        let use = vniUse()
        var rows: [VNIRow] = []
        for (index, l2vni) in configuration.l2vnis.enumerated() {
            var row = VNIRow(
                vni: l2vni.vni.rawValue,
                type: "L2",
                name: l2vni.name,
                vrf: l2vni.vrf,
                vxlanPort: Int(l2vni.vxlanPort),
                localVTEP: endpoints.first { $0.isV4 != l2vni.underlayIsIPv6 }?.description
            )
            row.circuits = circuitRows(UInt16(truncatingIfNeeded: index + 1))
            for entry in domains[index].macs.values {
                switch entry.placement {
                case .circuit?: row.localMACs += 1
                case .remote?: row.remoteMACs += 1
                default: break
                }
            }
            rows.append(row)
        }
        for l3vni in configuration.l3vnis {
            rows.append(
                VNIRow(
                    vni: l3vni.vni.rawValue,
                    type: "L3",
                    name: l3vni.vrf,
                    vrf: l3vni.vrf,
                    vxlanPort: Int(l3vni.vxlanPort),
                    localVTEP: endpoints.first { $0.isV4 != l3vni.underlayIsIPv6 }?.description
                )
            )
        }
        var vtepCounts: [UInt32: Int] = [:]
        for vni in use.values.joined() { vtepCounts[vni, default: 0] += 1 }
        for index in rows.indices {
            rows[index].vteps = vtepCounts[rows[index].vni] ?? 0
            if let vni = VNI(rows[index].vni), let device = links.attachment(of: vni)?.interface {
                rows[index].vxlan = name(ofInterface: device)
                rows[index].bridge = links.link(device)?.master.map { name(ofInterface: $0) }
            }
        }
        return rows.sorted { ($0.vni, $0.name) < ($1.vni, $1.name) }
    }


    // MARK: Control

    /// What the state itself knows; the daemon adds peers, requests, shadow devices.
    public func controlRow(at now: Instant) -> ControlRow {
        var row = ControlRow()
        row.routes = configuration.control.routes.rawValue
        row.listen = configuration.control.fpmListen
        row.fpm = connections.filter(\.value.isOpen).sorted { $0.key < $1.key }.map {
            number,
            connection in
            ControlRow.FPM(
                connection: number,
                peer: "",
                frames: connection.frames,
                messages: connection.messages,
                errors: connection.errors,
                ageSeconds: now.seconds(since: connection.openedAt)
            )
        }
        row.frames = counters.frames
        row.messages = counters.messages
        row.errors = counters.errors
        row.errorCount = counters.errorCount
        row.generations = ["fpm": counters.connects, "kernel": UInt64(dump.number)]
        row.kernel.netns = configuration.control.netns
        row.kernel.dumps = counters.kernelDumps
        row.kernel.notifications = counters.kernelMessages
        row.kernel.overruns = counters.kernelOverruns
        row.kernel.requests = counters.kernelRequests
        row.kernel.requestsFailed = counters.kernelRequestsFailed
        row.shadow.isEnabled = configuration.control.shadow
        row.stale = staleCount
        row.neighbors = neighborCounters
        return row
    }
    /// Entries of connections that are closed.
    private var staleCount: Int {
        let closed = Set(connections.values.filter { !$0.isOpen }.map(\.origin))
        if closed.isEmpty { return 0 }
        var count = 0
        for (_, content) in routes.tables {
            content.forEach { _, entry in if closed.contains(entry.best.origin) { count += 1 } }
        }
        for domain in domains {
            for entry in domain.macs.values {
                if let fpm = entry.fpm, closed.contains(fpm.origin) || fpm.isUnconfirmed {
                    count += 1
                }
            }
        }
        return count
    }
}

extension ShowAnswer {
    var sortedRoutes: [RouteRow] {
        if case .routes(let rows) = sorted() { rows } else { [] }
    }
    var sortedNeighbors: [NeighborRow] {
        if case .neighbors(let rows) = sorted() { rows } else { [] }
    }
}
