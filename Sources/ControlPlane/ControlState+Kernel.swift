// What the kernel tells: dumps by mark and sweep, notifications, overruns.

import Tables
import Wire

struct AddressKey: Hashable {
    var interface: UInt32
    var prefix: IPPrefix
}

/// A dump under way, and what is known of the last ones.
struct DumpProgress {
    /// One row of the kernel, whatever it is.
    enum Key: Hashable {
        case link(UInt32), address(AddressKey), neighbor(NeighborKey), nextHop(UInt32)
        case mac(UInt64), flood(UInt16, UInt32), routerMAC(RouterMACs.Key)
        case route(UInt32, IPPrefix, UInt32)
        /// The bridge's one row of a MAC, on our port or on the vxlan port.
        case bridged(UInt64)
    }
    /// Number of the dump that is under way or was the last.
    var number: UInt32 = 0
    var isRunning = false
    /// Number of the last complete dump.
    var completed: UInt32 = 0
    var beganAt = Instant(nanoseconds: 0)
    var requestedAt: Instant?
    var isNeededAgain = false
    /// What a notification changed while the dump runs: its rows may be older.
    var touched: Set<Key> = []
    /// Our own MACs that the dump shows on their attachment port.
    var attached: Set<UInt64> = []
    /// MACs that the dump shows on their VNI's vxlan port of the bridge, and the domains of these.
    /// When each was last written, 0 for not known.
    var twins: [UInt64: Instant] = [:]
    var twinDomains: Set<Int> = []
    /// Rows of the vxlan FDB for MACs that are local here.
    var rivals: [UInt64: MACEntry.KernelRow] = [:]
    /// Routes behind which the kernel has another one of the same table, prefix and metric.
    var duplicates: Set<Key> = []
    /// Some MACs of a lost FPM connection wait for a dump's word.
    var hasUnconfirmed = false
}

extension ControlState {
    // MARK: Dumps

    mutating func requestDump(_ now: Instant, _ effects: inout [ControlEffect]) {
        if dump.isRunning || dump.requestedAt != nil {
            // What is under way may have been read before the need arose.
            dump.isNeededAgain = true
        } else {
            dump.requestedAt = now
            effects.append(.dumpKernel)
        }
    }
    mutating func retryDump(_ now: Instant, _ effects: inout [ControlEffect]) {
        guard !dump.isRunning, let asked = dump.requestedAt, now.seconds(since: asked) >= 5 else {
            return
        }
        dump.requestedAt = now
        effects.append(.dumpKernel)
    }
    mutating func overrun(_ now: Instant, _ effects: inout [ControlEffect]) {
        counters.kernelOverruns += 1
        log(
            .warning,
            "overrun",
            "the kernel dropped notifications; its state is read again",
            now,
            &effects
        )
        requestDump(now, &effects)
    }
    mutating func beginDump(_ now: Instant) {
        epoch &+= 1
        dump.number &+= 1
        dump.isRunning = true
        if dump.number == zebraDump { zebraEpoch = epoch }
        dump.beganAt = now
        dump.duplicates.removeAll()
        dump.requestedAt = nil
        dump.touched.removeAll()
        dump.attached.removeAll()
        dump.twins.removeAll()
        dump.twinDomains.removeAll()
        dump.rivals.removeAll()
    }

    mutating func endDump(_ now: Instant, _ effects: inout [ControlEffect]) {
        guard dump.isRunning else { return }
        counters.kernelDumps += 1
        let number = dump.number
        for interface in links.missing(from: number) where !isTouched(.link(interface)) {
            follow(links.remove(interface), now, &effects)
        }
        for (key, shown) in addresses where shown != number && !isTouched(.address(key)) {
            removeAddress(key)
        }
        for (key, row) in neighbors where row.dump != number && !isTouched(.neighbor(key)) {
            sweepNeighborRow(key, now, &effects)
        }
        for id in kernelNextHops.missing(from: number) where !isTouched(.nextHop(id)) {
            if kernelNextHops.remove(id) { nextHopChanged(id) }
        }
        sweepWaiting(number)
        sweepOverlay(number)
        sweepKernelRoutes(number)
        settleLocals(now, &effects)
        settleNeighborExports(now, &effects)
        dump.isRunning = false
        dump.completed = number
        dump.touched.removeAll()
        dump.attached.removeAll()
        dump.twins.removeAll()
        dump.twinDomains.removeAll()
        dump.rivals.removeAll()
        confirmAgainstKernel()
        if dump.isNeededAgain {
            dump.isNeededAgain = false
            requestDump(now, &effects)
        }
    }

    func isTouched(_ key: DumpProgress.Key) -> Bool { dump.touched.contains(key) }
    /// Whether a row may be taken in: a dumped one is older than a notification about the same.
    mutating func admits(_ key: @autoclosure () -> DumpProgress.Key, isDumped: Bool) -> Bool {
        guard dump.isRunning else { return true }
        if isDumped { return !dump.touched.contains(key()) }
        dump.touched.insert(key())
        return true
    }

    private mutating func sweepOverlay(_ number: UInt32) {
        for index in domains.indices {
            let domain = UInt16(truncatingIfNeeded: index + 1)
            for (raw, entry) in domains[index].macs {
                let key = FDBKey.make(domain: domain, mac: raw)
                guard let row = entry.kernel else { continue }
                if row.dump != number && !isTouched(.mac(key)) {
                    edit(index, MACAddress(rawValue: raw)) { $0.kernel = nil }
                } else if row.doubt == nil && !row.isPermanent && dump.twinDomains.contains(index)
                    && dump.twins[key] == nil && !isTouched(.bridged(key)) && !isTouched(.mac(key))
                {
                    // zebra's rows come in pairs; without the bridge's, it has let go of the MAC.
                    edit(index, MACAddress(rawValue: raw)) { $0.kernel?.doubt = .superseded }
                }
            }
            for (vtep, row) in domains[index].flood
            where row.dump != number && !isTouched(.flood(domain, vtep)) {
                domains[index].flood[vtep] = nil
                changes.flood.insert(domain)
            }
        }
        let gone = routerMACs.rows.filter { key, rows in
            rows.contains { $0.origin == .kernel && $0.dump != number }
                && !isTouched(.routerMAC(key))
        }
        for key in gone.keys { routerMACs.condemn(key, origin: .kernel, mac: nil) }
        for key in gone.keys { buryRouterMAC(key) }
    }
    // MARK: Messages

    mutating func kernelMessage(
        _ message: NetlinkMessage,
        isDumped: Bool,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        counters.kernelMessages += 1
        switch message {
        case .link(let link):
            // A bridge-family message says too little to prove or outdate a link.
            if link.isBridgeFamily || admits(.link(link.interface), isDumped: isDumped) {
                let wasUp = links.link(link.interface)?.isUp ?? false
                follow(links.apply(link, dump: dump.number), now, &effects)
                if wasUp, links.link(link.interface)?.isUp != true { losesRoutes(now, &effects) }
            }
        case .address(let address):
            kernelAddress(address, isDumped: isDumped)
            if address.isDelete { losesRoutes(now, &effects) }
        case .neighbor(let row) where row.family == .bridge:
            if isOwnEcho(row, isDumped: isDumped, &effects) { return }
            place(row, from: .kernel(isDumped: isDumped), now, &effects)
        case .neighbor(let row): kernelNeighbor(row, isDumped: isDumped, now, &effects)
        case .nextHop(let nextHop):
            guard admits(.nextHop(nextHop.id), isDumped: isDumped) else { return }
            if nextHop.isDelete, kernelNextHops[nextHop.id]?.routeCount ?? 0 > 0 { losesRoutes(now, &effects) }
            if kernelNextHops.apply(nextHop, dump: dump.number) { nextHopChanged(nextHop.id) }
        case .route(let route): kernelRoute(route, isDumped: isDumped, now, &effects)
        case .error(let errno, _) where errno != 0: counters.note("kernel: netlink error \(errno)")
        case .done, .error, .ignored: break
        }
    }

    private mutating func kernelAddress(_ message: AddressMessage, isDumped: Bool) {
        let key = AddressKey(interface: message.interface, prefix: message.prefix)
        guard admits(.address(key), isDumped: isDumped) else { return }
        if message.isDelete {
            removeAddress(key)
        } else {
            let isNew = addresses.updateValue(dump.number, forKey: key) == nil
            if isNew {
                interfacePrefixes[key.interface, default: []].append(key.prefix)
                connected[key.prefix.network, default: []].insert(key.interface)
                changes.underlay = true
                changes.interfaces = true
            }
        }
    }
    private mutating func removeAddress(_ key: AddressKey) {
        guard addresses.removeValue(forKey: key) != nil else { return }
        let network = key.prefix.network
        interfacePrefixes[key.interface]?.removeAll { $0 == key.prefix }
        if interfacePrefixes[key.interface]?.isEmpty ?? false { interfacePrefixes[key.interface] = nil }
        let isShared = interfacePrefixes[key.interface]?.contains { $0.network == network } ?? false
        if !isShared {
            connected[network]?.remove(key.interface)
            if connected[network]?.isEmpty ?? false { connected[network] = nil }
        }
        changes.underlay = true
        changes.interfaces = true
    }

    private mutating func nextHopChanged(_ id: UInt32) {
        changes.underlay = true
        markNextHop(.kernel, id, in: kernelNextHops)
        changes.macs += groupUsers[id].map { Array($0) } ?? []
        for group in kernelNextHops[id]?.groups ?? [] {
            changes.macs += groupUsers[group].map { Array($0) } ?? []
        }
    }

    // MARK: Shadow devices

    mutating func attachL3Shadow(
        _ vni: VNI,
        _ bridge: UInt32,
        _ vxlan: UInt32,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        guard routing.l3vnis[vni] != nil else { return }
        l3Shadows[vni] = (bridge, vxlan)
        changes.underlay = true
    }
    mutating func attachVRF(
        _ name: String,
        _ table: UInt32,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        guard numbering.vrf(named: name) != nil else { return }
        vrfTables[name] = table
        changes.underlay = true
    }

    // MARK: Links

    mutating func follow(
        _ consequence: LinkMap.Consequence,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        guard consequence.changed else { return }
        for (interface, vni) in consequence.vanished {
            flush(interface: interface, vni: vni, now, &effects)
        }
        for interface in consequence.appeared { placeWaiting(interface, now, &effects) }
        // zebra fills the kernel again when its device is back; FPM repeats the MACs too, but its
        // messages may have come before this notification.
        if consequence.cameUp { requestDump(now, &effects) }
        // One of thousands of links; only few are, or are to be, a port's exception TAP.
        if portOfInterface[consequence.interface] != nil || consequence.names.contains(where: exceptionNames.contains) {
            mapExceptions()
        }
        neighborProgress.hasChangedLinks = true
        changes.underlay = true
        changes.interfaces = true
    }

    /// zebra forgets a VNI's MACs and router MACs without a word when its device goes.
    private mutating func flush(
        interface: UInt32,
        vni: VNI?,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        waitingCount -= waiting.removeValue(forKey: interface)?.count ?? 0
        let affected = vni.map { [$0] } ?? singleDeviceVNIs(interface)
        for vni in affected {
            routerMACs.removeAll { key, _ in key.vni == vni }
            guard let index = domainIndex(vni) else { continue }
            for (raw, entry) in domains[index].macs where entry.fpm != nil || entry.kernel != nil {
                edit(index, MACAddress(rawValue: raw)) {
                    $0.fpm = nil
                    $0.kernel = nil
                }
            }
            if !domains[index].flood.isEmpty {
                domains[index].flood = [:]
                changes.flood.insert(UInt16(truncatingIfNeeded: index + 1))
            }
        }
    }
    /// VNIs of the single vxlan device `interface`, which is down, or has gone with its VLANs.
    private func singleDeviceVNIs(_ interface: UInt32) -> [VNI] {
        let known = Set(numbering.domainVNIs).union(configuration.l3vnis.map(\.vni))
        return known.filter { links.attachment(of: $0).map { $0.interface == interface } ?? true }.sorted()
    }

    // MARK: Requests

    mutating func requestFailed(
        _ effect: ControlEffect,
        _ errno: Int32,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        if effect.isKernelRequest { counters.kernelRequestsFailed += 1 }
        switch effect {
        case .dumpKernel:
            dump.isRunning = false
            dump.requestedAt = now
            counters.note("kernel dump failed: errno \(errno)")
            log(
                .warning,
                "dump failed",
                "reading the kernel's state failed (errno \(errno)); again in 5 s",
                now,
                &effects
            )
        case .addLocalMAC(let interface, let mac):
            counters.note("adding local MAC \(mac) on interface \(interface): errno \(errno)")
            exportFailed(interface, mac)
        case .resolveNeighbor, .probeNeighbor, .deleteLocalMAC, .deleteLocalNeighbor, .log: break
        case .addLocalNeighbor(let interface, let address, _):
            counters.note("adding neighbour \(address) on interface \(interface): errno \(errno)")
            neighborExportFailed(interface, address)
        }
    }
}
