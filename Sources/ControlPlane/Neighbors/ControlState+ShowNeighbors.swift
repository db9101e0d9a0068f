// What `pe-dp show neighbors` prints.

import Tables
import Wire

extension ControlState {
    /// Neighbours that have a MAC, the gateways' own addresses left out.
    var neighborCount: Int {
        neighborRows().count { $0.mac != nil && $0.type != "gateway" }
    }

    /// - Parameter now: for ages; nil leaves them out.
    public func neighborRows(at now: Instant? = nil) -> [NeighborRow] {
        var rows: [NeighborRow] = []
        for (id, entry) in ipNeighbors.entries {
            if case .domain(let domain) = id.scope, let row = row(id, domain, entry, now) { rows.append(row) }
        }
        for (index, l2vni) in configuration.l2vnis.enumerated() {
            for gateway in l2vni.gatewayIPs {
                rows.append(
                    NeighborRow(
                        vni: l2vni.vni.rawValue, vrf: l2vni.vrf, ip: gateway.address.description,
                        mac: domains[index].gatewayMAC?.description, type: "gateway", state: "permanent",
                        source: "configuration"))
            }
        }
        return ShowAnswer.neighbors(rows + portRows()).sortedNeighbors
    }

    private func row(_ id: NeighborID, _ domain: UInt16, _ entry: Neighbor, _ now: Instant?) -> NeighborRow? {
        let index = Int(domain) - 1
        guard domains.indices.contains(index) else { return nil }
        let known = place(of: entry, domain)
        let mac = known?.mac ?? entry.remote
        var row = NeighborRow(
            vni: domains[index].vni.rawValue, vrf: configuration.l2vnis[index].vrf, ip: id.address.description,
            mac: mac?.description, type: "unknown", state: "reachable", source: "dataplane")
        if entry.fixed != nil {
            (row.type, row.state, row.source) = ("static", "permanent", "configuration")
        } else if let local = entry.local {
            row.type = local.isElsewhere ? "remote" : "local"
            row.state = local.probes > 0 ? "probing" : "reachable"
            row.lastSeenSeconds = now.map { $0.seconds(since: local.lastSeen) }
            if !local.isElsewhere { row.exported = local.exportedAt != nil }
            if known == nil { row.state = "waiting" }
        } else if entry.remote != nil {
            (row.type, row.source) = ("remote", "kernel")
            if known == nil { row.state = "waiting" }
        } else if entry.foreign != nil {
            (row.type, row.source) = (known?.isRemote == true ? "remote" : "local", "kernel")
        } else if let known {
            (row.type, row.state) = (known.isRemote ? "remote" : "local", "stale")
        } else {
            row.state = entry.resolution?.hasFailed == true ? "failed" : "resolving"
        }
        if entry.fixed == nil {
            row.ageSeconds = now.map { $0.seconds(since: entry.local?.since ?? entry.since) }
        }
        if let mac { locate(mac, index, &row) }
        return row
    }
    private func locate(_ mac: MACAddress, _ index: Int, _ row: inout NeighborRow) {
        switch domains[index].macs[mac.rawValue]?.placement {
        case .circuit(let number)?:
            guard let circuit = numbering.circuit(number) else { return }
            row.port = numbering.name(of: circuit.port)
            row.vlan = circuit.vlan == 0 ? nil : Int(circuit.vlan)
        case .remote(let target, _)?: row.vtep = addresses(of: target).first?.description
        case .gateway?, nil: break
        }
    }

    /// What the kernel resolved on ports, and what it is asked for.
    private func portRows() -> [NeighborRow] {
        var rows: [NeighborRow] = []
        for (key, entry) in neighbors {
            guard let port = portOfInterface[key.interface] else { continue }
            let id = NeighborID(port: port, key.address)
            let state = entry.isUsable
                ? entry.state.contains(.stale) ? "stale" : "reachable"
                : portAnswer(id)?.state == .failed || entry.state.contains(.failed) ? "failed" : "resolving"
            rows.append(portRow(id, port, entry.isUsable ? entry.mac : nil, state))
        }
        for id in neighborProgress.ports.keys {
            guard case .port(let port) = id.scope else { continue }
            let row = interfaceOfPort[port].flatMap { neighbors[NeighborKey(interface: $0, address: id.address)] }
            if row != nil { continue }
            rows.append(portRow(id, port, nil, portAnswer(id)?.state == .failed ? "failed" : "resolving"))
        }
        return rows
    }
    private func portRow(_ id: NeighborID, _ port: UInt16, _ mac: MACAddress?, _ state: String) -> NeighborRow {
        let isRouted = Int(port) < numbering.isRouted.count && numbering.isRouted[Int(port)]
        return NeighborRow(
            vrf: numbering.name(ofVRF: numbering.vrf(ofPort: port)), interface: numbering.name(of: port),
            ip: id.address.description, mac: mac?.description, type: isRouted ? "routed" : "underlay", state: state,
            source: "kernel")
    }
}
