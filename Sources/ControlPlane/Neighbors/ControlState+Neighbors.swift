// What workers report of IP neighbours: bindings, claims, addresses that packets wait for.

import Tables
import Wire

/// What the control plane keeps of IP neighbours beside the table of them.
struct NeighborProgress {
    /// Rows of ours that nobody wants any more, and when to delete them.
    var orphans: [NeighborKey: Instant] = [:]
    var retries: Set<NeighborID> = []
    var nextRetry = Instant(nanoseconds: 0)
    /// Addresses and domain of each interface with rows; 0 is an interface of no domain.
    var rows: [UInt32: Set<IPAddress>] = [:]
    var domainOfInterface: [UInt32: UInt16] = [:]
    /// Links changed: interfaces may stand for other domains.
    var hasChangedLinks = false
    /// zebra's rows were refused for lack of room.
    var hasRefusedRows = false
    var floodBudgets: [UInt16: TokenBucket] = [:]
    /// Neighbours behind ports that routes need (how many), or packets asked for (until when).
    var ports: [NeighborID: PortNeighbor] = [:]
    var nextPortCheck = Instant(nanoseconds: 0)
}

extension ControlState {
    /// Seconds within which another MAC's ordinary ARP or ND is not believed (as the kernel's
    /// `locktime`), and its announcement.
    static var lockSeconds: Double { 1 }
    static var announcementLockSeconds: Double { 0.1 }
    /// How long an address is believed to have moved with its MAC.
    static var carrySeconds: Double { 2 }
    /// Requests to all of a domain that packets may cause: a second, and at once.
    static var floodRate: Double { 250 }
    static var floodBurst: Double { 250 }

    mutating func neighborSeen(_ event: NeighborEvent, _ now: Instant, _ effects: inout [ControlEffect]) {
        if event.kind == .unresolved {
            unresolved(event, now, &effects)
            return
        }
        guard event.domain > 0, Int(event.domain) <= domains.count else {
            neighborCounters.invalid += 1
            return
        }
        if event.kind == .gatewayClaim || subnets.isGateway(event.domain, event.address) {
            refuseClaim(event, now, &effects)
            return
        }
        // Link-local addresses are not announced, so that they cost nobody an entry; when zebra has those
        // of hosts elsewhere, it is answered for them.
        if event.kind != .macAnnouncement, case .v6(let v6) = event.address, v6.isLinkLocal { return }
        if event.circuit == NeighborEvent.fromTunnel {
            bindElsewhere(event, now)
            return
        }
        guard let circuit = numbering.circuit(event.circuit), circuit.domain == event.domain, !event.mac.isZero,
            !event.mac.isMulticast
        else {
            neighborCounters.invalid += 1
            return
        }
        let index = Int(event.domain) - 1
        if domains[index].gatewayMAC == event.mac { return }
        let known = domains[index].macs[event.mac.rawValue]
        if known?.local == nil {
            // Its learn event is still to come, or was lost.
            learned(LearnEvent(mac: event.mac, domain: event.domain, circuit: event.circuit), now, &effects)
        }
        guard domains[index].macs[event.mac.rawValue]?.local != nil else { return }
        if event.kind == .macAnnouncement {
            verifyBindings(index, event.mac, now, &effects)
        } else {
            bind(event, now, &effects)
        }
    }

    private mutating func refuseClaim(
        _ event: NeighborEvent, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        // Another PE's announcement of the same anycast gateway is no claim.
        if domains[Int(event.domain) - 1].gatewayMAC == event.mac { return }
        neighborCounters.gatewayClaims += 1
        let origin = numbering.circuit(event.circuit).map { "port \(numbering.name(of: $0.port))" } ?? "the fabric"
        log(
            .warning, "gateway claim",
            "VNI \(domains[Int(event.domain) - 1].vni): \(event.mac) behind \(origin) claims the gateway's address "
                + "\(event.address); refused", now, &effects)
    }

    // MARK: Bindings

    /// A host here says that it has an address.
    private mutating func bind(_ event: NeighborEvent, _ now: Instant, _ effects: inout [ControlEffect]) {
        let id = NeighborID(domain: event.domain, event.address)
        guard subnets.isHost(event.domain, event.address) else {
            neighborCounters.invalid += 1
            return
        }
        let known = ipNeighbors[id]
        if known?.fixed != nil { return }
        if let local = known?.local, !local.isElsewhere {
            if local.mac == event.mac {
                confirm(id, event.mac, now)
                return
            }
            let lock = event.kind == .announcement ? Self.announcementLockSeconds : Self.lockSeconds
            if now.seconds(since: local.since) < lock {
                neighborCounters.damped += 1
                return
            }
        }
        guard admitsLocal(id, event, now, &effects) else { return }
        if known?.remote != nil { neighborCounters.takenOver += 1 }
        neighborCounters.learned += 1
        edit(id, now) {
            $0.local = Neighbor.Local(mac: event.mac, since: now, lastSeen: now)
            $0.carried = nil
        }
        schedule(id)
        exportNeighbor(id, now, &effects)
    }
    /// Of hosts behind other VTEPs zebra tells. Where such a VTEP announces MACs alone, the host's own answer
    /// to our question has to do.
    private mutating func bindElsewhere(_ event: NeighborEvent, _ now: Instant) {
        let id = NeighborID(domain: event.domain, event.address)
        guard event.kind == .binding, let entry = ipNeighbors[id], isRemote(event.domain, event.mac) == true
        else { return }
        if let local = entry.local {
            if local.isElsewhere && local.mac == event.mac { confirm(id, event.mac, now) }
            return
        }
        guard entry.resolution != nil, place(of: entry, event.domain) == nil else { return }
        neighborCounters.learned += 1
        edit(id, now) {
            $0.local = Neighbor.Local(mac: event.mac, since: now, lastSeen: now)
            $0.local?.isElsewhere = true
        }
    }
    /// The host is there: its MAC, too.
    private mutating func confirm(_ id: NeighborID, _ mac: MACAddress, _ now: Instant) {
        ipNeighbors.touch(id) {
            $0.local?.lastSeen = now
            $0.local?.probes = 0
            $0.local?.nextProbe = nil
        }
        if case .domain(let domain) = id.scope {
            domains[Int(domain) - 1].macs[mac.rawValue]?.local?.lastSeen = now
        }
    }

    private mutating func admitsLocal(
        _ id: NeighborID, _ event: NeighborEvent, _ now: Instant, _ effects: inout [ControlEffect]
    ) -> Bool {
        let limits = ipNeighbors.limits
        let vni = domains[Int(event.domain) - 1].vni
        let key = FDBKey.make(domain: event.domain, mac: event.mac.rawValue)
        let addresses = ipNeighbors.addresses(ofMAC: key)
        if addresses.count >= limits.mac, !addresses.contains(event.address) {
            neighborCounters.refusedByMAC += 1
            log(
                .warning, "neighbors of a MAC",
                "VNI \(vni): \(event.mac) claims more than \(limits.mac) addresses; \(event.address) was not taken",
                now, &effects)
            return false
        }
        if ipNeighbors[id]?.local == nil, ipNeighbors.localCount(event.domain) >= limits.domain {
            neighborCounters.refusedByDomain += 1
            log(
                .error, "neighbors of a domain",
                "VNI \(vni) has \(limits.domain) local neighbors, its share of dataplane.limits.neighbors; "
                    + "raise it", now, &effects)
            return false
        }
        return makeRoom(for: id, now, &effects)
    }
    /// Whether there is room for an entry; a transient one of another address may have to go.
    mutating func makeRoom(for id: NeighborID, _ now: Instant, _ effects: inout [ControlEffect]) -> Bool {
        if ipNeighbors[id] != nil || ipNeighbors.count < ipNeighbors.limits.total { return true }
        if evict(now) { return true }
        neighborCounters.refusedByLimit += 1
        log(
            .error, "neighbors",
            "there are \(ipNeighbors.limits.total) neighbors; \(id.address) was not taken; raise "
                + "dataplane.limits.neighbors", now, &effects)
        return false
    }
    private mutating func evict(_ now: Instant) -> Bool {
        guard let victim = ipNeighbors.victim() else { return false }
        neighborCounters.evicted += 1
        edit(victim.id, now) { $0.resolution = nil }
        return true
    }

    // MARK: MACs that come and go

    /// A MAC came to a local circuit, or announced itself: the hosts that zebra has elsewhere, and
    /// those that nobody has confirmed since, may have come with it.
    mutating func verifyBindings(
        _ index: Int, _ mac: MACAddress, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        let domain = UInt16(truncatingIfNeeded: index + 1)
        let known = ipNeighbors.addresses(ofMAC: FDBKey.make(domain: domain, mac: mac.rawValue))
        guard !known.isEmpty else { return }
        for address in known.sorted().prefix(64) {
            let id = NeighborID(domain: domain, address)
            guard let entry = ipNeighbors[id], entry.fixed == nil,
                entry.verifiedAt.map({ now.seconds(since: $0) >= Self.lockSeconds }) ?? true
            else { continue }
            ipNeighbors.touch(id) { $0.verifiedAt = now }
            probe(id, mac, &effects)
        }
    }
    /// A MAC is no longer local: what was bound to it is not here.
    ///
    /// When it moved, zebra replaces our rows, or does not; they are looked at after a moment, for a
    /// deletion that comes late would take zebra's row.
    mutating func dropBindings(_ index: Int, _ mac: MACAddress, isMoved: Bool, _ effects: inout [ControlEffect]) {
        let domain = UInt16(truncatingIfNeeded: index + 1)
        let key = FDBKey.make(domain: domain, mac: mac.rawValue)
        for address in ipNeighbors.addresses(ofMAC: key).sorted() {
            let id = NeighborID(domain: domain, address)
            guard let local = ipNeighbors[id]?.local, local.mac == mac, !local.isElsewhere else { continue }
            if isMoved { neighborCounters.yielded += 1 }
            withdraw(id, atOnce: !isMoved, &effects)
            let carried = isMoved ? Neighbor.Carried(mac: mac, until: eventTime + Self.carrySeconds) : nil
            edit(id, eventTime) {
                $0.local = nil
                $0.carried = carried
            }
            schedule(id)
        }
    }

    // MARK: Packets that wait

    /// A packet waits for an address of a connected subnet.
    private mutating func unresolved(
        _ event: NeighborEvent, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        if event.domain == 0 {
            unresolvedBehindPort(event, now, &effects)
            return
        }
        guard Int(event.domain) <= domains.count, subnets.prefix(event.domain, event.address) != nil,
            !subnets.isGateway(event.domain, event.address), subnets.isHost(event.domain, event.address)
        else {
            neighborCounters.invalid += 1
            return
        }
        let id = NeighborID(domain: event.domain, event.address)
        if let entry = ipNeighbors[id] {
            // Known already, or asked for: the table says so, or will.
            if place(of: entry, event.domain) != nil || entry.resolution != nil { return }
        }
        var budget = neighborProgress.floodBudgets[event.domain]
            ?? TokenBucket(rate: Self.floodRate, burst: Self.floodBurst)
        let mayAsk = budget.take(now)
        neighborProgress.floodBudgets[event.domain] = budget
        guard mayAsk else {
            neighborCounters.rateLimited += 1
            return
        }
        if ipNeighbors.transientCount >= ipNeighbors.limits.transient, !evict(now) { return }
        guard makeRoom(for: id, now, &effects) else { return }
        neighborCounters.unresolved += 1
        beginResolution(id, now, &effects)
    }
    /// Asks all of the domain, now and again.
    mutating func beginResolution(_ id: NeighborID, _ now: Instant, _ effects: inout [ControlEffect]) {
        edit(id, now) { $0.resolution = Neighbor.Resolution(probes: 1, nextAt: now + 1) }
        schedule(id)
        probe(id, nil, &effects)
    }
    mutating func probe(_ id: NeighborID, _ mac: MACAddress?, _ effects: inout [ControlEffect]) {
        guard case .domain(let domain) = id.scope else { return }
        neighborCounters.probes += 1
        effects.append(.probeNeighbor(domain: domain, address: id.address, mac: mac))
    }

    // MARK: Answers

    /// The MAC of a neighbour, and whether it is behind another VTEP; nil while nobody knows it.
    func place(of entry: Neighbor, _ domain: UInt16) -> (mac: MACAddress, isRemote: Bool)? {
        if let mac = entry.fixed { return (mac, isRemote(domain, mac) == true) }
        if let local = entry.local {
            // Nobody is answered for a host of which EVPN says nothing.
            if !local.isElsewhere || isRemote(domain, local.mac) != nil { return (local.mac, false) }
        }
        // zebra's rows outlive zebra; they count as long as their MACs do.
        if let mac = entry.remote, let isRemote = isRemote(domain, mac) { return (mac, isRemote) }
        if let mac = entry.foreign { return (mac, isRemote(domain, mac) == true) }
        // A MAC that went is no help.
        if let mac = entry.carried?.mac, let isRemote = isRemote(domain, mac) { return (mac, isRemote) }
        return nil
    }
    /// Nil for a MAC that has no place.
    func isRemote(_ domain: UInt16, _ mac: MACAddress) -> Bool? {
        switch placement(FDBKey.make(domain: domain, mac: mac.rawValue)) {
        case nil: nil
        case .gateway?, .circuit?: false
        case .remote?: true
        }
    }
    /// What the hop of a neighbour has to say; nil for one that needs none.
    func answer(_ id: NeighborID) -> NeighborAnswer? {
        guard case .domain(let domain) = id.scope else { return portAnswer(id) }
        guard let entry = ipNeighbors[id] else { return nil }
        if let (mac, isRemote) = place(of: entry, domain) {
            return NeighborAnswer(mac: mac, state: .usable, isRemote: isRemote)
        }
        return entry.resolution.map { $0.hasFailed ? .failed : .resolving }
    }

    /// Seconds; 0 keeps bindings for ever.
    var neighborTimeout: Double { Double(configuration.dataplane.neighborTimeoutSeconds) }

    /// Changes a neighbour of a domain and marks it.
    mutating func edit(_ id: NeighborID, _ now: Instant, _ body: (inout Neighbor) -> Void) {
        guard case .domain(let domain) = id.scope else { return }
        ipNeighbors.edit(id, domain, now, body)
        markNeighbor(id, domain)
    }
    func domain(of id: NeighborID) -> UInt16 { if case .domain(let domain) = id.scope { domain } else { 0 } }
    mutating func markNeighbor(_ id: NeighborID, _ domain: UInt16) {
        changes.neighbors.insert(id)
        let vrf = numbering.vrf(ofDomain: domain)
        if vrf != 0 { changes.hosts.insert(VRFPrefix(vrf: vrf, host: id.address)) }
    }
    /// A MAC's place changed: so did where its addresses are.
    mutating func markNeighbors(ofMAC key: UInt64) {
        let domain = FDBKey.domain(key)
        for address in ipNeighbors.addresses(ofMAC: key) {
            markNeighbor(NeighborID(domain: domain, address), domain)
        }
    }
}
