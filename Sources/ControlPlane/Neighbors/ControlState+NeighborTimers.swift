// The clock of IP neighbours: probes before a binding expires, requests that nobody answers.

import Tables
import Wire

/// A neighbour behind a routed or underlay port. The kernel behind the port's exception TAP resolves it.
struct PortNeighbor: Hashable {
    var isRequired = false
    /// Until when a packet's wish counts.
    var until: Instant?
    var lastAsked: Instant?
    /// Requests since the kernel last had an answer.
    var requests = 0
}

extension ControlState {
    /// Requests for an address before it counts as failed, one a second.
    static var resolutionProbes: Int { 3 }
    /// Seconds for which packets to an address that did not answer are dropped at once.
    static var failureSeconds: Double { 5 }
    /// Unicast probes of a binding, before one to all.
    static var refreshProbes: Int { 3 }
    /// Timers run in one tick, so that thousands of bindings of one age do not flood the fabric at
    /// once: 25 600 a second.
    static var timersPerTick: Int { 256 }
    /// Addresses behind ports that packets made us ask for, and for how long.
    static var portGleanLimit: Int { 1024 }
    static var portGleanSeconds: Double { 10 }

    mutating func tickNeighbors(_ now: Instant, _ effects: inout [ControlEffect]) {
        var left = Self.timersPerTick
        while left > 0, let id = ipNeighbors.takeDue(now, timeout: neighborTimeout) {
            runTimer(id, now, &effects)
            left -= 1
        }
        if neighborProgress.hasRefusedRows, now >= neighborProgress.nextRetry,
            ipNeighbors.count < ipNeighbors.limits.total
        {
            takeRefusedRows(now, &effects)
        }
        retryNeighborExports(now, &effects)
        buryOrphans(now, &effects)
        askForPortNeighbors(now, &effects)
    }
    private mutating func takeRefusedRows(_ now: Instant, _ effects: inout [ControlEffect]) {
        neighborProgress.hasRefusedRows = false
        for key in neighbors.keys.sorted(by: { ($0.interface, $0.address) < ($1.interface, $1.address) }) {
            guard case .zebra? = neighbors[key]?.owner else { continue }
            neighborRowChanged(key, isDumped: true, now, &effects)
            if neighborProgress.hasRefusedRows { return }
        }
    }

    private mutating func runTimer(_ id: NeighborID, _ now: Instant, _ effects: inout [ControlEffect]) {
        guard let entry = ipNeighbors[id] else { return }
        if let resolution = entry.resolution {
            askAgain(id, resolution, entry.isRequired, now, &effects)
        } else if entry.carried != nil {
            edit(id, now) { $0.carried = nil }
        } else if let local = entry.local {
            refresh(id, local, now, &effects)
        }
        schedule(id)
    }
    private mutating func askAgain(
        _ id: NeighborID, _ resolution: Neighbor.Resolution, _ isRequired: Bool, _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        if resolution.hasFailed {
            if isRequired {
                ipNeighbors.touch(id) { $0.resolution?.nextAt = now + Self.failureSeconds }
                probe(id, nil, &effects)
            } else {
                edit(id, now) { $0.resolution = nil }
            }
        } else if resolution.probes < Self.resolutionProbes {
            ipNeighbors.touch(id) {
                $0.resolution?.probes += 1
                $0.resolution?.nextAt = now + 1
            }
            probe(id, nil, &effects)
        } else {
            neighborCounters.failed += 1
            edit(id, now) {
                $0.resolution?.hasFailed = true
                $0.resolution?.nextAt = now + Self.failureSeconds
            }
        }
    }
    /// Whether the gateway can ask for an address: it has one of the family to ask from. Where it has
    /// none, bindings live as long as their MACs.
    func canProbe(_ domain: UInt16, _ address: IPAddress) -> Bool {
        subnets.gateways(domain).contains { $0.address.isV4 == address.isV4 }
    }
    /// Whether bindings that are asked for keep a MAC from ageing.
    func isHeld(_ domain: UInt16, _ mac: MACAddress) -> Bool {
        neighborTimeout > 0 && ipNeighbors.hasLocal(domain, mac) { canProbe(domain, $0) }
    }
    mutating func schedule(_ id: NeighborID) {
        guard canProbe(domain(of: id), id.address) else { return }
        ipNeighbors.schedule(id, timeout: neighborTimeout)
    }
    /// Asks a silent host whether it is still there: alone, at last all of the domain; then lets go.
    private mutating func refresh(
        _ id: NeighborID, _ local: Neighbor.Local, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        if local.probes > Self.refreshProbes {
            neighborCounters.expired += 1
            withdraw(id, atOnce: true, &effects)
            edit(id, now) { $0.local = nil }
            return
        }
        let step = Neighbor.lead(neighborTimeout) / Double(Self.refreshProbes + 1)
        ipNeighbors.touch(id) {
            $0.local?.probes += 1
            $0.local?.nextProbe = now + step
        }
        probe(id, local.probes < Self.refreshProbes ? local.mac : nil, &effects)
    }

    // MARK: What routes need

    /// A route needs the neighbour: it is asked for until it answers.
    mutating func requireNeighbor(_ id: NeighborID) {
        switch id.scope {
        case .domain: edit(id, eventTime) { $0.isRequired = true }
        case .port:
            neighborProgress.ports[id, default: PortNeighbor()].isRequired = true
            changes.neighbors.insert(id)
        }
    }
    mutating func releaseNeighbor(_ id: NeighborID) {
        switch id.scope {
        case .domain(let domain):
            guard ipNeighbors[id]?.isRequired == true else { return }
            let isKnown = ipNeighbors[id].flatMap { place(of: $0, domain) } != nil
            edit(id, eventTime) {
                $0.isRequired = false
                if !isKnown { $0.resolution = nil }
            }
        case .port:
            neighborProgress.ports[id]?.isRequired = false
            if neighborProgress.ports[id]?.until == nil { neighborProgress.ports[id] = nil }
            changes.neighbors.insert(id)
        }
    }
    /// Before tables are compiled: links that changed, and what became known.
    mutating func settleNeighbors(_ now: Instant) -> [ControlEffect] {
        var effects: [ControlEffect] = []
        remapNeighborRows(now, &effects)
        for id in changes.neighbors.sorted() {
            guard case .domain(let domain) = id.scope, let entry = ipNeighbors[id], entry.resolution != nil,
                place(of: entry, domain) != nil
            else { continue }
            edit(id, now) { $0.resolution = nil }
            schedule(id)
        }
        return effects
    }
    /// After routes were compiled: asks for those of `ids` that routes need and nobody knows.
    mutating func settleNeighbors(_ ids: Set<NeighborID>, _ now: Instant) -> [ControlEffect] {
        var effects: [ControlEffect] = []
        for id in ids.sorted() {
            guard case .domain(let domain) = id.scope else {
                askForPortNeighbor(id, now, &effects)
                continue
            }
            guard let entry = ipNeighbors[id], entry.isRequired, entry.resolution == nil,
                place(of: entry, domain) == nil
            else { continue }
            beginResolution(id, now, &effects)
        }
        return effects
    }

    // MARK: Neighbours behind ports

    mutating func markPortNeighbor(_ port: UInt16, _ address: IPAddress) {
        changes.neighbors.insert(NeighborID(port: port, address))
        let vrf = numbering.vrf(ofPort: port)
        if vrf != 0 { changes.hosts.insert(VRFPrefix(vrf: vrf, host: address)) }
    }
    func portAnswer(_ id: NeighborID) -> NeighborAnswer? {
        guard case .port(let port) = id.scope else { return nil }
        if let row = portRow(port, id.address), row.isUsable, let mac = row.mac {
            return NeighborAnswer(mac: mac, state: .usable, isRemote: false)
        }
        guard let known = neighborProgress.ports[id] else { return nil }
        return known.requests > Self.resolutionProbes ? .failed : .resolving
    }
    private func portRow(_ port: UInt16, _ address: IPAddress) -> NeighborEntry? {
        interfaceOfPort[port].flatMap { neighbors[NeighborKey(interface: $0, address: address)] }
    }
    mutating func unresolvedBehindPort(
        _ event: NeighborEvent, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        guard let port = UInt16(exactly: event.circuit), Int(port) < ports.count,
            let interface = interfaceOfPort[port], subnets.isHost(0, event.address),
            connected.longestMatch(event.address, where: { $0.contains(interface) }) != nil
        else {
            neighborCounters.invalid += 1
            return
        }
        let id = NeighborID(port: port, event.address)
        if neighborProgress.ports[id] == nil {
            let gleans = neighborProgress.ports.filter { $0.value.until != nil }
            if gleans.count >= Self.portGleanLimit,
                let oldest = gleans.min(by: { ($0.value.until ?? now, $0.key) < ($1.value.until ?? now, $1.key) })
            {
                neighborCounters.evicted += 1
                forgetGlean(oldest.key)
            }
            neighborCounters.unresolved += 1
        }
        neighborProgress.ports[id, default: PortNeighbor()].until = now + Self.portGleanSeconds
        changes.neighbors.insert(id)
        askForPortNeighbor(id, now, &effects)
    }
    private mutating func forgetGlean(_ id: NeighborID) {
        neighborProgress.ports[id]?.until = nil
        if neighborProgress.ports[id]?.isRequired == false { neighborProgress.ports[id] = nil }
        changes.neighbors.insert(id)
    }
    private mutating func askForPortNeighbors(_ now: Instant, _ effects: inout [ControlEffect]) {
        guard !neighborProgress.ports.isEmpty, now >= neighborProgress.nextPortCheck else { return }
        neighborProgress.nextPortCheck = now + 0.1
        for id in neighborProgress.ports.keys.sorted() {
            if let until = neighborProgress.ports[id]?.until, until <= now { forgetGlean(id) }
            askForPortNeighbor(id, now, &effects)
        }
    }
    /// Asks the kernel when it has no answer, or one that it would let go stale: at once, each second,
    /// then every few seconds.
    private mutating func askForPortNeighbor(
        _ id: NeighborID, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        guard case .port(let port) = id.scope, let known = neighborProgress.ports[id],
            let interface = interfaceOfPort[port]
        else { return }
        let row = portRow(port, id.address)
        let isUsable = row?.isUsable ?? false
        if isUsable {
            if known.requests > 0 { neighborProgress.ports[id]?.requests = 0 }
            guard row?.state.contains(.stale) ?? false else { return }
        }
        let pause = isUsable ? 10 : known.requests < Self.resolutionProbes ? 1 : Self.failureSeconds
        if let asked = known.lastAsked {
            // The last one has a second to answer, too.
            if !isUsable, known.requests == Self.resolutionProbes, now.seconds(since: asked) >= 1 {
                neighborProgress.ports[id]?.requests += 1
                neighborCounters.failed += 1
                changes.neighbors.insert(id)
            }
            if now.seconds(since: asked) < pause { return }
        }
        neighborProgress.ports[id]?.lastAsked = now
        if !isUsable, known.requests < Self.resolutionProbes { neighborProgress.ports[id]?.requests += 1 }
        // Of the underlay's own next hops the kernel is asked already.
        if needed[NeighborKey(interface: interface, address: id.address)] == nil {
            effects.append(.resolveNeighbor(interface: interface, address: id.address))
        }
    }

    // MARK: Host routes

    /// The neighbour that has an address of a VRF: in the subnet of a gateway, or behind a routed port.
    ///
    /// Only addresses within a subnet count, so that no host attracts traffic that is not its own;
    /// link-local ones are never routed (RFC 4291 section 2.5.6).
    func hostBinding(vrf: UInt16, _ address: IPAddress) -> HostBinding? {
        if case .v6(let v6) = address, v6.isLinkLocal { return nil }
        if let domain = subnets.domain(vrf: vrf, address) {
            let id = NeighborID(domain: domain, address)
            if let answer = answer(id), answer.state == .usable {
                return HostBinding(neighbor: id, isRemote: isRemote(domain, answer.mac) == true)
            }
        }
        for port in routedPorts[vrf] ?? [] {
            let id = NeighborID(port: port, address)
            guard let interface = interfaceOfPort[port],
                connected.longestMatch(address, where: { $0.contains(interface) }) != nil,
                portAnswer(id)?.state == .usable
            else { continue }
            return HostBinding(neighbor: id, isRemote: false)
        }
        return nil
    }
}
