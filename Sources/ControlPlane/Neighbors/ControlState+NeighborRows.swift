// IP neighbours in the kernel: zebra's rows on the SVIs, our own rows for zebra, rows on ports.

import Tables
import Wire

/// Whose a row on an SVI is.
enum NeighborOwner: Hashable {
    /// zebra's: the host is behind another VTEP.
    case zebra(MACAddress)
    /// ``KernelRequest/ownProtocol``.
    case own(MACAddress)
    case other(MACAddress)
}

extension NeighborEntry {
    /// zebra marks its rows NTF_EXT_LEARNED and with its protocol (FRR zebra/rt_netlink.c,
    /// netlink_neigh_update_af_bridge and netlink_neigh_update). Nil for a row without a usable MAC.
    var owner: NeighborOwner? {
        guard isUsable, let mac, !mac.isZero, !mac.isMulticast else { return nil }
        if neighborProtocol == KernelRequest.ownProtocol { return .own(mac) }
        if flags.contains(.externallyLearned) || neighborProtocol == 11 { return .zebra(mac) }
        return .other(mac)
    }
}

extension ControlState {
    /// How long a row of ours that nobody wants is left for zebra to replace.
    static var orphanSeconds: Double { 0.2 }

    // MARK: Rows

    /// The kernel's word about an IP neighbour: `neighbors` has it already.
    mutating func neighborRowChanged(
        _ key: NeighborKey, isDumped: Bool, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        if neighbors[key] == nil {
            neighborProgress.rows[key.interface]?.remove(key.address)
            if neighborProgress.rows[key.interface]?.isEmpty ?? false {
                neighborProgress.rows[key.interface] = nil
            }
        } else {
            neighborProgress.rows[key.interface, default: []].insert(key.address)
        }
        if let port = portOfInterface[key.interface] {
            markPortNeighbor(port, key.address)
            return
        }
        let domain: UInt16
        if let known = neighborProgress.domainOfInterface[key.interface] {
            domain = known
        } else {
            domain = domainOfSVI(key.interface)
            neighborProgress.domainOfInterface[key.interface] = domain
        }
        if domain != 0 { placeRow(key, domain, isDumped: isDumped, now, &effects) }
    }
    /// The domain whose SVI an interface is; 0 for none.
    private func domainOfSVI(_ interface: UInt32) -> UInt16 {
        if let index = bridges[interface] { return UInt16(truncatingIfNeeded: index + 1) }
        return links.vni(ofSVI: interface).flatMap { numbering.domain(of: $0) } ?? 0
    }

    private mutating func placeRow(
        _ key: NeighborKey, _ domain: UInt16, isDumped: Bool, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        let id = NeighborID(domain: domain, key.address)
        switch neighbors[key]?.owner {
        case .zebra(let mac)?:
            guard subnets.isHost(domain, key.address), !subnets.isGateway(domain, key.address) else { return }
            takeRemote(id, mac, isDumped: isDumped, now, &effects)
        case .own(let mac)?: ownRow(id, key, mac, now)
        case .other(let mac)?:
            guard subnets.isHost(domain, key.address), !subnets.isGateway(domain, key.address),
                makeRoom(for: id, now, &effects)
            else { return }
            if ipNeighbors[id]?.foreign == mac && ipNeighbors[id]?.remote == nil { return }
            edit(id, now) {
                $0.remote = nil
                $0.foreign = mac
            }
        case nil: rowGone(id, isDumped: isDumped, now, &effects)
        }
    }

    /// zebra says that the host is behind another VTEP: we let go of it at once, and zebra's row stays.
    private mutating func takeRemote(
        _ id: NeighborID, _ mac: MACAddress, isDumped: Bool, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        let known = ipNeighbors[id]
        if let local = known?.local {
            if isDumped, !isSettled(local) { return }
            if !local.isElsewhere { neighborCounters.yielded += 1 }
            // It crossed our own addition: the host is asked whether it is still here.
            if !local.isConfirmed, local.exportedAt.map({ now.seconds(since: $0) < 1 }) ?? false {
                probe(id, local.mac, &effects)
            }
        } else if known?.remote == mac && known?.foreign == nil && known?.carried == nil {
            return
        }
        guard makeRoom(for: id, now, &effects) else {
            neighborProgress.hasRefusedRows = true
            return
        }
        neighborProgress.retries.remove(id)
        edit(id, now) {
            $0.local = nil
            $0.foreign = nil
            $0.carried = nil
            $0.remote = mac
        }
    }
    /// Whether a dump that shows another row is newer than ours.
    private func isSettled(_ local: Neighbor.Local) -> Bool {
        guard let exported = local.exportedAt, exported < dump.beganAt else { return false }
        return local.isConfirmed || dump.beganAt.seconds(since: exported) >= 1
    }
    private mutating func ownRow(_ id: NeighborID, _ key: NeighborKey, _ mac: MACAddress, _ now: Instant) {
        if ipNeighbors[id]?.remote != nil || ipNeighbors[id]?.foreign != nil {
            // Our row replaced the other one.
            edit(id, now) {
                $0.remote = nil
                $0.foreign = nil
            }
        }
        guard let local = ipNeighbors[id]?.local else {
            // Late, or an earlier run's: zebra would keep the host for local.
            if neighborProgress.orphans[key] == nil {
                neighborProgress.orphans[key] = now + Self.orphanSeconds
            }
            return
        }
        if local.mac == mac, local.exportedAt != nil { ipNeighbors.touch(id) { $0.local?.isConfirmed = true } }
    }
    private mutating func rowGone(
        _ id: NeighborID, isDumped: Bool, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        guard let entry = ipNeighbors[id] else { return }
        if entry.remote != nil || entry.foreign != nil {
            edit(id, now) {
                $0.remote = nil
                $0.foreign = nil
            }
        }
        guard let local = entry.local, let exported = local.exportedAt else { return }
        if isDumped && !isSettled(local) { return }
        if now.seconds(since: exported) >= 1 {
            exportNeighbor(id, now, &effects)
        } else {
            // Perhaps the echo of a deletion before it; if not, it is put back.
            ipNeighbors.touch(id) { $0.local?.isConfirmed = false }
            neighborProgress.retries.insert(id)
        }
    }
    /// What refers to a row that a dump no longer shows.
    mutating func sweepNeighborRow(_ key: NeighborKey, _ now: Instant, _ effects: inout [ControlEffect]) {
        neighbors[key] = nil
        neighborChanged(key)
        neighborRowChanged(key, isDumped: true, now, &effects)
    }
    /// At a dump's end: our rows that the kernel should show by now, and has not.
    mutating func settleNeighborExports(_ now: Instant, _ effects: inout [ControlEffect]) {
        for id in ipNeighbors.entries.filter({ $0.value.local?.exportedAt != nil }).keys.sorted() {
            guard let local = ipNeighbors[id]?.local, isSettled(local) else { continue }
            let key = NeighborKey(interface: local.exportedTo, address: id.address)
            if neighbors[key]?.owner == .own(local.mac) { continue }
            if isTouched(.neighbor(key)) { continue }
            exportNeighbor(id, now, &effects)
        }
    }

    /// Interfaces stand for other domains than before, or for some at last.
    mutating func remapNeighborRows(_ now: Instant, _ effects: inout [ControlEffect]) {
        guard neighborProgress.hasChangedLinks, !dump.isRunning else { return }
        neighborProgress.hasChangedLinks = false
        for (interface, before) in neighborProgress.domainOfInterface.sorted(by: { $0.key < $1.key }) {
            let addresses = neighborProgress.rows[interface] ?? []
            let domain = portOfInterface[interface] == nil ? domainOfSVI(interface) : 0
            if domain == before { continue }
            neighborProgress.domainOfInterface[interface] = addresses.isEmpty ? nil : domain
            for address in addresses.sorted() {
                if before != 0 {
                    let id = NeighborID(domain: before, address)
                    if ipNeighbors[id]?.remote != nil || ipNeighbors[id]?.foreign != nil {
                        edit(id, now) {
                            $0.remote = nil
                            $0.foreign = nil
                        }
                    }
                }
                guard domain != 0 else { continue }
                let key = NeighborKey(interface: interface, address: address)
                placeRow(key, domain, isDumped: false, now, &effects)
            }
        }
        for id in neighborProgress.ports.keys { changes.neighbors.insert(id) }
        for interface in routedPorts.values.joined().compactMap({ interfaceOfPort[$0] }) {
            guard let port = portOfInterface[interface] else { continue }
            for address in neighborProgress.rows[interface] ?? [] { markPortNeighbor(port, address) }
        }
    }

    // MARK: The way to zebra

    /// The interface on which zebra looks for the hosts of a domain; nil without shadow devices.
    private func exportInterface(_ index: Int) -> UInt32? {
        guard let shadow = domains[index].shadow else { return nil }
        let vni = domains[index].vni
        if links.vni(ofSVI: shadow.bridge) == vni { return shadow.bridge }
        return links.svi(of: vni) ?? shadow.bridge
    }
    /// Gives a local binding to zebra: a row on the SVI. Its MAC was given before.
    mutating func exportNeighbor(_ id: NeighborID, _ now: Instant, _ effects: inout [ControlEffect]) {
        guard case .domain(let domain) = id.scope, let local = ipNeighbors[id]?.local, !local.isElsewhere,
            let interface = exportInterface(Int(domain) - 1)
        else { return }
        if local.exportedAt != nil && local.exportedTo != interface {
            effects.append(.deleteLocalNeighbor(interface: local.exportedTo, address: id.address))
        }
        neighborProgress.orphans[NeighborKey(interface: interface, address: id.address)] = nil
        neighborProgress.retries.remove(id)
        ipNeighbors.touch(id) {
            $0.local?.exportedAt = now
            $0.local?.exportedTo = interface
            $0.local?.isConfirmed = false
        }
        effects.append(.addLocalNeighbor(interface: interface, address: id.address, mac: local.mac))
    }
    /// Every local binding again: zebra or the shadow is new.
    mutating func exportNeighbors(
        _ now: Instant, _ effects: inout [ControlEffect], only domain: Int? = nil
    ) {
        let wanted = domain.map { UInt16(truncatingIfNeeded: $0 + 1) }
        let ids = ipNeighbors.entries.filter { $0.value.local != nil }.keys
        for id in ids.sorted() where wanted == nil || id.scope == wanted.map(NeighborID.Scope.domain) {
            exportNeighbor(id, now, &effects)
        }
    }
    /// Takes a binding's row back, now or after a look whether zebra has replaced it.
    mutating func withdraw(_ id: NeighborID, atOnce: Bool, _ effects: inout [ControlEffect]) {
        neighborProgress.retries.remove(id)
        guard let local = ipNeighbors[id]?.local, local.exportedAt != nil else { return }
        if atOnce {
            effects.append(.deleteLocalNeighbor(interface: local.exportedTo, address: id.address))
        } else {
            let key = NeighborKey(interface: local.exportedTo, address: id.address)
            neighborProgress.orphans[key] = eventTime + Self.orphanSeconds
        }
    }
    mutating func neighborExportFailed(_ interface: UInt32, _ address: IPAddress) {
        let id = NeighborID(domain: domainOfSVI(interface), address)
        guard ipNeighbors[id]?.local?.exportedTo == interface else { return }
        ipNeighbors.touch(id) { $0.local?.exportedAt = nil }
        neighborProgress.retries.insert(id)
    }
    mutating func retryNeighborExports(_ now: Instant, _ effects: inout [ControlEffect]) {
        guard !neighborProgress.retries.isEmpty, now >= neighborProgress.nextRetry else { return }
        neighborProgress.nextRetry = now + 1
        for id in neighborProgress.retries.sorted().prefix(1024) {
            neighborProgress.retries.remove(id)
            guard let local = ipNeighbors[id]?.local, !(local.isConfirmed && local.exportedAt != nil) else { continue }
            exportNeighbor(id, now, &effects)
        }
    }
    /// Deletes rows of ours that nobody wants and zebra has not replaced.
    mutating func buryOrphans(_ now: Instant, _ effects: inout [ControlEffect]) {
        guard !neighborProgress.orphans.isEmpty else { return }
        for (key, due) in neighborProgress.orphans.sorted(by: {
            ($0.key.interface, $0.key.address) < ($1.key.interface, $1.key.address)
        }) {
            guard due <= now else { continue }
            neighborProgress.orphans[key] = nil
            let id = NeighborID(domain: domainOfSVI(key.interface), key.address)
            if ipNeighbors[id]?.local != nil { continue }
            switch neighbors[key]?.owner {
            case .zebra?, .other?: continue
            case .own?, nil: effects.append(.deleteLocalNeighbor(interface: key.interface, address: key.address))
            }
        }
    }
}
