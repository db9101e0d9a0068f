// Local MACs: learned, moved, aged, given to zebra through the shadow bridge, yielded.

import Tables
import Wire

extension ControlState {
    // MARK: Learning

    /// A local frame's source MAC that the FDB did not place on its circuit.
    mutating func learned(_ event: LearnEvent, _ now: Instant, _ effects: inout [ControlEffect]) {
        counters.learned += 1
        guard let circuit = numbering.circuit(event.circuit), circuit.domain == event.domain,
            event.domain > 0, Int(event.domain) <= domains.count, !event.mac.isZero,
            !event.mac.isMulticast
        else { return }
        let index = Int(event.domain) - 1
        let known = domains[index].macs[event.mac.rawValue]
        if domains[index].gatewayMAC == event.mac || known?.fixed != nil { return }
        if known?.local == nil {
            if case .remote(_, isSticky: true)? = known?.placement { return }
            if known == nil && macEntryCount >= configuration.dataplane.limits.macs {
                counters.learnRejected += 1
                log(
                    .error,
                    "learn rejected",
                    "the FDB is full (\(configuration.dataplane.limits.macs)); a local MAC was not learned; "
                        + "raise dataplane.limits.macs",
                    now,
                    &effects
                )
                return
            }
        }
        let isNew = known?.local == nil
        edit(index, event.mac) { entry in
            var local = entry.local ?? MACEntry.LocalRow(circuit: event.circuit, lastSeen: now)
            local.circuit = event.circuit
            local.lastSeen = now
            entry.local = local
            // zebra forgets the remote MAC without a word, and the kernel keeps a stale row.
            entry.fpm = nil
            entry.kernel?.doubt = .superseded
        }
        let key = FDBKey.make(domain: event.domain, mac: event.mac.rawValue)
        localKeys.insert(key)
        // A move between circuits of one domain is nothing to zebra: one port stands for all.
        if isNew {
            export(index, event.mac, now, &effects)
            verifyBindings(index, event.mac, now, &effects)
        }
    }

    /// Forgets that a MAC is local, after its entry said so.
    mutating func dropLocal(_ index: Int, _ mac: MACAddress) {
        if localKeys.isEmpty { return }
        let key = FDBKey.make(domain: UInt16(truncatingIfNeeded: index + 1), mac: mac.rawValue)
        if localKeys.remove(key) != nil { exportRetry.remove(key) }
    }

    // MARK: Ageing

    mutating func seen(_ keys: [UInt64], _ now: Instant) {
        for key in keys {
            guard localKeys.contains(key), let (index, mac) = locate(key) else { continue }
            domains[index].macs[mac.rawValue]?.local?.lastSeen = now
        }
    }
    mutating func age(_ now: Instant, _ effects: inout [ControlEffect]) {
        let limit = Double(configuration.dataplane.macAgeingSeconds)
        guard limit > 0, now >= nextAgeing else { return }
        let pause = min(10, max(1, limit / 10))
        nextAgeing = Instant(nanoseconds: now.nanoseconds + UInt64(pause * 1e9))
        for key in localKeys.sorted() {
            guard let (index, mac) = locate(key),
                let local = domains[index].macs[mac.rawValue]?.local,
                now.seconds(since: local.lastSeen) >= limit,
                // A host that answers for an address is there; its binding expires first.
                !isHeld(FDBKey.domain(key), mac)
            else { continue }
            counters.aged += 1
            dropBindings(index, mac, isMoved: false, &effects)
            if local.exportedAt != nil, let shadow = domains[index].shadow {
                effects.append(.deleteLocalMAC(interface: shadow.attachment, mac: mac))
            }
            edit(index, mac) { $0.local = nil }
            dropLocal(index, mac)
        }
    }

    // MARK: The way to zebra

    /// Gives a local MAC to zebra: a static row on the VNI's attachment port.
    private mutating func export(
        _ index: Int,
        _ mac: MACAddress,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        guard let shadow = domains[index].shadow else { return }
        domains[index].macs[mac.rawValue]?.local?.exportedAt = now
        domains[index].macs[mac.rawValue]?.local?.isConfirmed = false
        effects.append(.addLocalMAC(interface: shadow.attachment, mac: mac))
    }
    /// Every local MAC again: zebra or the shadow is new. In order, so that runs can be compared.
    mutating func exportAll(
        _ now: Instant,
        _ effects: inout [ControlEffect],
        only domain: Int? = nil
    ) {
        for key in localKeys.sorted() {
            guard let (index, mac) = locate(key), domain == nil || domain == index else { continue }
            export(index, mac, now, &effects)
        }
        exportNeighbors(now, &effects, only: domain)
    }
    mutating func attachShadow(
        _ vni: VNI,
        _ bridge: UInt32,
        _ vxlan: UInt32,
        _ attachment: UInt32,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        guard let index = domainIndex(vni) else { return }
        let shadow = DomainState.Shadow(bridge: bridge, vxlan: vxlan, attachment: attachment)
        domains[index].shadow = shadow
        attachments[attachment] = index
        bridges[bridge] = index
        neighborProgress.hasChangedLinks = true
        exportAll(now, &effects, only: index)
    }
    mutating func exportFailed(_ interface: UInt32, _ mac: MACAddress) {
        guard let index = attachments[interface], domains[index].shadow?.attachment == interface,
            domains[index].macs[mac.rawValue]?.local != nil
        else { return }
        domains[index].macs[mac.rawValue]?.local?.exportedAt = nil
        exportRetry.insert(
            FDBKey.make(domain: UInt16(truncatingIfNeeded: index + 1), mac: mac.rawValue)
        )
    }
    mutating func retryExports(_ now: Instant, _ effects: inout [ControlEffect]) {
        guard !exportRetry.isEmpty, now >= nextExportRetry else { return }
        nextExportRetry = Instant(nanoseconds: now.nanoseconds + 1_000_000_000)
        for key in exportRetry.sorted().prefix(1024) {
            exportRetry.remove(key)
            guard let (index, mac) = locate(key),
                domains[index].macs[mac.rawValue]?.local?.exportedAt == nil,
                domains[index].macs[mac.rawValue]?.local != nil
            else { continue }
            export(index, mac, now, &effects)
        }
    }

    /// The kernel's word about a row on one of our attachment ports.
    ///
    /// One that is not ours any more came late: zebra had taken the MAC over when the kernel added
    /// our row. It is deleted, or zebra would keep the MAC for local; and as zebra drops a remote MAC
    /// without a word when it sees a local one, what was known of it before is void.
    mutating func isOwnEcho(
        _ row: NeighborMessage,
        isDumped: Bool,
        _ effects: inout [ControlEffect]
    ) -> Bool {
        guard let index = attachments[row.interface],
            domains[index].shadow?.attachment == row.interface,
            let mac = row.mac
        else { return false }
        let key = FDBKey.make(domain: UInt16(truncatingIfNeeded: index + 1), mac: mac.rawValue)
        // The port's own address.
        if row.state.contains(.permanent) { return true }
        guard admits(.bridged(key), isDumped: isDumped) else { return true }
        if isDumped { dump.attached.insert(key) }
        if domains[index].macs[mac.rawValue]?.local != nil {
            domains[index].macs[mac.rawValue]?.local?.isConfirmed = !row.isDelete
            return true
        }
        if !row.isDelete { effects.append(.deleteLocalMAC(interface: row.interface, mac: mac)) }
        if case .remote(_, isSticky: true)? = domains[index].macs[mac.rawValue]?.placement {
            return true
        }
        guard domains[index].macs[mac.rawValue] != nil else { return true }
        edit(index, mac) { entry in
            entry.fpm = nil
            entry.kernel?.doubt = .superseded
        }
        return true
    }
    /// zebra took a MAC over: it is not put back (duplicate detection). Deleting our row is harmless
    /// when zebra has replaced it, and undoes an addition that the kernel did after zebra's.
    mutating func yield(_ index: Int, _ mac: MACAddress, _ effects: inout [ControlEffect]) {
        guard let local = domains[index].macs[mac.rawValue]?.local else { return }
        if local.exportedAt != nil, let shadow = domains[index].shadow {
            effects.append(.deleteLocalMAC(interface: shadow.attachment, mac: mac))
        }
        dropBindings(index, mac, isMoved: true, &effects)
        edit(index, mac) { $0.local = nil }
        dropLocal(index, mac)
    }

    /// At a dump's end: is what we gave to the kernel still ours?
    ///
    /// The bridge has one row per MAC, on our port or on the vxlan port, so it tells who had the last
    /// word; the vxlan driver's row alone does not, because it outlives a move to local.
    mutating func settleLocals(_ now: Instant, _ effects: inout [ControlEffect]) {
        for key in localKeys.sorted() {
            guard let (index, mac) = locate(key), let shadow = domains[index].shadow,
                let local = domains[index].macs[mac.rawValue]?.local,
                let exported = local.exportedAt
            else { continue }
            if dump.attached.contains(key) || isTouched(.bridged(key)) { continue }
            // Given to the kernel, perhaps not before the dump read it.
            if !local.isConfirmed && exported >= dump.beganAt { continue }
            let isSettled = local.isConfirmed || dump.beganAt.seconds(since: exported) >= 1
            if isSettled, let rival = dump.rivals[key] {
                dropBindings(index, mac, isMoved: true, &effects)
                edit(index, mac) { entry in
                    entry.local = nil
                    entry.kernel = rival
                    entry.kernel?.doubt = nil
                }
                dropLocal(index, mac)
            } else {
                domains[index].macs[mac.rawValue]?.local?.exportedAt = now
                domains[index].macs[mac.rawValue]?.local?.isConfirmed = false
                effects.append(.addLocalMAC(interface: shadow.attachment, mac: mac))
            }
        }
    }
}
