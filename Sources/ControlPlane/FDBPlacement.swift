// FDB rows of zebra and the kernel: whose VNI, which VTEP, what they change.

import Tables
import Wire

/// Where a FDB row came from.
enum RowSource: Hashable {
    case fpm(Int)
    case kernel(isDumped: Bool)
}

/// A row whose vxlan device is not known yet.
struct WaitingRow {
    var source: RowSource
    var message: NeighborMessage
    var dump: UInt32
}

extension ControlState {
    /// Rows that may wait for their links; beyond, they are refused and a dump brings them again.
    static var waitingLimit: Int { 262_144 }

    /// Takes in one AF_BRIDGE row.
    mutating func place(
        _ row: NeighborMessage,
        from source: RowSource,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        guard let mac = row.mac else { return }
        if case .kernel(let isDumped) = source, row.destination == nil, row.nextHopID == nil {
            bridgeTwin(row, mac, isDumped: isDumped, now, &effects)
            return
        }
        guard let vni = links.vni(interface: row.interface, vlan: row.vlan, hint: row.vni) else {
            wait(row, source, now, &effects)
            return
        }
        if mac.isZero {
            if case .kernel(let isDumped) = source { floodRow(vni, row, isDumped: isDumped) }
        } else if mac.isMulticast {
            return
        } else if let index = domainIndex(vni) {
            switch source {
            case .fpm(let connection): fpmMAC(index, mac, row, connection, &effects)
            case .kernel(let isDumped): kernelMAC(index, mac, row, isDumped: isDumped, &effects)
            }
        } else {
            routerMAC(vni, mac, row, source)
        }
    }

    private mutating func wait(
        _ row: NeighborMessage,
        _ source: RowSource,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        // Known, and no vxlan device: a row of some other bridge port.
        if links.isKnown(row.interface) && !links.isVXLAN(row.interface) { return }
        guard waitingCount < Self.waitingLimit else {
            counters.waitingRejected += 1
            log(.warning, "waiting", "too many FDB rows for links that do not exist", now, &effects)
            return
        }
        waiting[row.interface, default: []].append(
            WaitingRow(source: source, message: row, dump: dump.number)
        )
        waitingCount += 1
    }
    /// The device of `interface` is known now: what waited for it takes effect in its order.
    mutating func placeWaiting(
        _ interface: UInt32,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        guard let rows = waiting.removeValue(forKey: interface) else { return }
        waitingCount -= rows.count
        for row in rows {
            if case .fpm(let connection) = row.source, connections[connection] == nil { continue }
            place(row.message, from: row.source, now, &effects)
        }
    }

    /// A complete dump is the kernel's whole word: what it said before and waited is void.
    mutating func sweepWaiting(_ number: UInt32) {
        for interface in Array(waiting.keys) {
            waiting[interface]?.removeAll {
                if case .kernel = $0.source { $0.dump != number } else { false }
            }
            if waiting[interface]?.isEmpty ?? false { waiting[interface] = nil }
        }
        waitingCount = waiting.values.reduce(0) { $0 + $1.count }
    }

    /// The VTEP or group of a row; nil when it has none (as in a delete of a group's row).
    private mutating func target(of row: NeighborMessage) -> RemoteTarget? {
        if let group = row.nextHopID { return .group(group) }
        guard let destination = row.destination?.normalized, !destination.isUnspecified,
            !destination.isMulticast
        else { return nil }
        return .vtep(vteps.id(of: destination))
    }

    // MARK: MACs of L2VNIs

    /// FPM decides: NEWNEIGH makes a MAC remote whatever it was, and replaces its VTEP.
    private mutating func fpmMAC(
        _ index: Int,
        _ mac: MACAddress,
        _ row: NeighborMessage,
        _ connection: Int,
        _ effects: inout [ControlEffect]
    ) {
        guard let origin = connections[connection]?.origin else { return }
        if !row.isDelete && connections[connection]?.providesMACs == false {
            connections[connection]?.providesMACs = true
            updateFPMLive()
        }
        let target = target(of: row)
        if row.isDelete {
            edit(index, mac) { entry in
                guard let known = entry.fpm, target == nil || target == known.target else { return }
                entry.fpm = nil
            }
            return
        }
        guard let target else { return }
        let isSticky = row.flags.contains(.sticky) || row.state.contains(.noARP)
        yield(index, mac, &effects)
        edit(index, mac) { entry in
            entry.fpm = MACEntry.FPMRow(target: target, isSticky: isSticky, origin: origin)
            if entry.kernel?.target == target { entry.kernel?.confirm() }
        }
    }

    /// The vxlan driver's row. With FPM live it never touches a local MAC; without, a notification
    /// moves it, and a dump is weighed in ``settleLocals(_:_:)``.
    private mutating func kernelMAC(
        _ index: Int,
        _ mac: MACAddress,
        _ row: NeighborMessage,
        isDumped: Bool,
        _ effects: inout [ControlEffect]
    ) {
        let key = FDBKey.make(domain: UInt16(truncatingIfNeeded: index + 1), mac: mac.rawValue)
        guard admits(.mac(key), isDumped: isDumped) else { return }
        let target = target(of: row)
        let isOutdated =
            !isDumped && domains[index].macs[mac.rawValue]?.fpm.map { isStale($0) } ?? false
        if row.isDelete {
            edit(index, mac) { entry in
                // FPM cannot say it any more.
                if isOutdated && (target == nil || entry.fpm?.target == target) { entry.fpm = nil }
                guard let known = entry.kernel, target == nil || target == known.target else {
                    return
                }
                entry.kernel = nil
            }
            return
        }
        guard let target, !(hasExpired && isDumped) else { return }
        var fresh = MACEntry.KernelRow(
            target: target,
            isSticky: row.flags.contains(.sticky) || row.state.contains(.noARP),
            isPermanent: row.state.contains(.permanent),
            dump: dump.number,
            since: epoch
        )
        if isDumped, let old = domains[index].macs[mac.rawValue]?.kernel, old.target == target {
            fresh.since = old.since
            fresh.doubt = old.doubt
            fresh.heldUntil = old.heldUntil
            fresh.writtenAt = old.writtenAt
            // The bridge's rows of a port come before the vxlan driver's.
            if let twin = dump.twins[key] { note(writtenAt: twin, &fresh) }
        } else if isDumped, let twin = dump.twins[key] {
            fresh.writtenAt = twin
        }
        if domains[index].macs[mac.rawValue]?.local != nil && (isDumped || isFPMLive) {
            if isDumped { dump.rivals[key] = fresh }
            fresh.doubt = .superseded
        }
        if fresh.doubt != .superseded { yield(index, mac, &effects) }
        edit(index, mac) { entry in
            entry.kernel = fresh
            if isOutdated { entry.fpm = nil }
        }
    }

    /// The bridge's own row of a MAC on the vxlan port: zebra had the last word over it. The vxlan
    /// driver says nothing when its row was there all the time with the same VTEP.
    private mutating func bridgeTwin(
        _ row: NeighborMessage, _ mac: MACAddress, isDumped: Bool, _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        guard !row.isDelete, !row.state.contains(.permanent), links.isVXLAN(row.interface),
            let vni = links.vni(interface: row.interface, vlan: row.vlan, hint: nil),
            let index = domainIndex(vni)
        else { return }
        let key = FDBKey.make(domain: UInt16(truncatingIfNeeded: index + 1), mac: mac.rawValue)
        let age = row.writtenAge.map { UInt64($0) * 10_000_000 }
        let writtenAt = Instant(nanoseconds: age.map { $0 < now.nanoseconds ? now.nanoseconds - $0 : 1 } ?? 0)
        if isDumped {
            dump.twins[key] = writtenAt
            dump.twinDomains.insert(index)
        }
        guard admits(.bridged(key), isDumped: isDumped), let entry = domains[index].macs[mac.rawValue],
            var kernel = entry.kernel
        else { return }
        note(writtenAt: writtenAt, &kernel)
        if entry.local != nil && (isDumped || isFPMLive) { return }
        if !isDumped {
            kernel.confirm()
            kernel.since = epoch
        } else if kernel.doubt == .superseded {
            kernel.doubt = nil
        }
        if kernel == entry.kernel { return }
        if kernel.doubt == nil { yield(index, mac, &effects) }
        edit(index, mac) { $0.kernel = kernel }
    }
    /// The bridge's row was written at `time`: since zebra's restart, it is no leftover.
    private func note(writtenAt time: Instant, _ row: inout MACEntry.KernelRow) {
        if time > row.writtenAt { row.writtenAt = time }
        guard isOfRunningZebra(row) else { return }
        row.heldUntil = Instant(nanoseconds: 0)
        if row.doubt == .leftover { row.doubt = nil }
    }

    // MARK: Flood lists

    private mutating func floodRow(_ vni: VNI, _ row: NeighborMessage, isDumped: Bool) {
        guard let index = domainIndex(vni), let destination = row.destination?.normalized,
            !destination.isUnspecified, !destination.isMulticast
        else { return }
        let domain = UInt16(truncatingIfNeeded: index + 1)
        let vtep = vteps.id(of: destination)
        guard admits(.flood(domain, vtep), isDumped: isDumped) else { return }
        if row.isDelete {
            if domains[index].flood.removeValue(forKey: vtep) != nil {
                changes.flood.insert(domain)
            }
        } else if !(hasExpired && isDumped) {
            let fresh = DomainState.FloodRow(dump: dump.number)
            if domains[index].flood.updateValue(fresh, forKey: vtep) == nil {
                changes.flood.insert(domain)
            }
        }
    }

    // MARK: Router MACs

    /// A row of a VNI that is no bridge domain here: the router MAC of a VTEP in an L3VNI.
    private mutating func routerMAC(
        _ vni: VNI,
        _ mac: MACAddress,
        _ row: NeighborMessage,
        _ source: RowSource
    ) {
        guard let vtep = row.destination?.normalized, !vtep.isUnspecified else { return }
        let key = RouterMACs.Key(vni: vni, vtep: vtep)
        let origin: Origin
        var isWeak = false
        switch source {
        case .fpm(let connection):
            guard let known = connections[connection] else { return }
            origin = known.origin
            isWeak = !known.providesMACs
        case .kernel(let isDumped):
            guard admits(.routerMAC(key), isDumped: isDumped) else { return }
            if hasExpired && isDumped { return }
            origin = .kernel
        }
        if row.isDelete {
            routerMACs.condemn(key, origin: origin, mac: mac)
            rmacChecks.insert(key)
        } else {
            routerMACs.set(
                key,
                RouterMACs.Row(mac: mac, origin: origin, isWeak: isWeak, dump: dump.number)
            )
        }
    }

    /// Lets go of condemned router MACs whose VTEP lost its last route in this event.
    mutating func buryRouterMACs() {
        if !routes.released.isEmpty {
            let gateways = Set(routes.released)
            routes.released.removeAll(keepingCapacity: true)
            if !routerMACs.condemned.isEmpty {
                for key in routerMACs.condemned where gateways.contains(key.vtep) {
                    rmacChecks.insert(key)
                }
            }
        }
        if rmacChecks.isEmpty { return }
        for key in rmacChecks { buryRouterMAC(key) }
        rmacChecks.removeAll(keepingCapacity: true)
    }
    mutating func buryRouterMAC(_ key: RouterMACs.Key) {
        if !isUsed(vtep: key.vtep, inL3VNI: key.vni) { routerMACs.bury(key) }
    }
    /// Whether some route goes to `vtep` through the SVI of `vni`.
    func isUsed(vtep: IPAddress, inL3VNI vni: VNI) -> Bool {
        var interfaces = routes.usedInterfaces(towards: vtep)
        interfaces.formUnion(kernelNextHops.usedInterfaces(towards: vtep))
        for connection in connections.values {
            interfaces.formUnion(connection.nextHops.usedInterfaces(towards: vtep))
        }
        return interfaces.contains { links.vni(ofSVI: $0) == vni || links.link($0) == nil }
    }
}
