// FPM connections: each one a generation of its own, replayed, compared and swept.

import Tables
import Wire

/// One FPM connection. A reconnect is a new connection; the old one's state stays until the new
/// one's replay is complete (there is no end mark: it is a quiet period) or the hold time is over.
struct FPMConnection {
    let origin: Origin
    var isOpen = true
    var openedAt: Instant
    var lastFrame: Instant
    var closedAt: Instant?
    var nextHops = NextHopTable()
    /// zebra's sockets (nlmsg_pid of routes).
    var portIDs: Set<UInt32> = []
    /// The replay is over and older generations were swept.
    var isSwept = false
    /// It is `dplane_fpm_nl`: it sends next hops, a metric and L2 MACs. The old `fpm` module does not.
    var providesMACs = false
    /// The routing protocols whose routes came, 2 (kernel) left out: which daemons are back.
    var protocols: Set<UInt8> = []
    /// Its zebra is gone, and another one was seen since: what that does not say again is void.
    var isOfGoneZebra = false
    /// The number of the first kernel dump that begins after the connect.
    var firstDump: UInt32
    /// ``ControlState/epoch`` at the connect.
    var epoch: UInt32
    var frames: UInt64 = 0
    var messages: UInt64 = 0
    var errors: UInt64 = 0
    /// Of the last route that told something of its sender.
    private var lastPort: UInt32 = 0
    private var lastProtocol: UInt8 = 0

    init(origin: Origin, openedAt: Instant, lastFrame: Instant, firstDump: UInt32, epoch: UInt32) {
        self.origin = origin
        self.openedAt = openedAt
        self.lastFrame = lastFrame
        self.firstDump = firstDump
        self.epoch = epoch
    }
    /// Whether a route tells nothing new of its sender; nearly always.
    func knows(_ message: RouteMessage) -> Bool {
        (message.metric == 0 || providesMACs) && (message.portID == 0 || message.portID == lastPort)
            && (message.isDelete || message.routeProtocol == lastProtocol)
    }
    mutating func remember(_ message: RouteMessage) {
        if message.portID != 0 { lastPort = message.portID }
        if !message.isDelete { lastProtocol = message.routeProtocol }
    }
}

extension ControlState {
    mutating func connect(_ connection: Int, _ now: Instant, _ effects: inout [ControlEffect]) {
        epoch &+= 1
        counters.connects += 1
        hasExpired = false
        connections[connection] = FPMConnection(
            origin: .connection(connection),
            openedAt: now,
            lastFrame: now,
            firstDump: dump.number &+ 1,
            epoch: epoch
        )
        effects.append(.log(level: .notice, "FPM connection \(connection) opened"))
        // L2 MACs are not replayed: only the kernel knows which of them are left.
        requestDump(now, &effects)
    }

    mutating func disconnect(_ connection: Int, _ now: Instant, _ effects: inout [ControlEffect]) {
        guard connections[connection]?.isOpen == true else { return }
        connections[connection]?.isOpen = false
        connections[connection]?.closedAt = now
        lastClosedAt = now
        updateFPMLive()
        effects.append(
            .log(
                level: .warning,
                "FPM connection \(connection) closed; its state is kept for "
                    + "\(Int(configuration.control.staleHoldSeconds)) s"
            )
        )
        // From here on the kernel's rows decide.
        requestDump(now, &effects)
    }

    mutating func fpmError(
        _ connection: Int,
        _ text: String,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        connections[connection]?.errors += 1
        counters.note("fpm connection \(connection): \(text)")
        log(.warning, "fpm error", "FPM connection \(connection): \(text)", now, &effects)
    }

    /// One frame is one transaction: nothing is published before its end, nor between these frames.
    mutating func frames(
        _ connection: Int,
        _ messages: [NetlinkMessage],
        count: Int,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        if connections[connection]?.isOpen != true { connect(connection, now, &effects) }
        guard let origin = connections[connection]?.origin else { return }
        counters.frames += UInt64(count)
        counters.messages += UInt64(messages.count)
        connections[connection]?.frames += UInt64(count)
        connections[connection]?.messages += UInt64(messages.count)
        connections[connection]?.lastFrame = now
        for message in messages {
            switch message {
            case .route(let route): fpmRoute(connection, origin, route, now, &effects)
            case .nextHop(let nextHop):
                markMACProvider(connection)
                if connections[connection]?.nextHops.apply(nextHop, dump: 0) ?? false,
                    let table = connections[connection]?.nextHops
                {
                    changes.underlay = true
                    markNextHop(origin, nextHop.id, in: table)
                }
            case .neighbor(let row) where row.family == .bridge:
                place(row, from: .fpm(connection), now, &effects)
            case .error(let errno, _) where errno != 0: counters.note("fpm: netlink error \(errno)")
            default: break
            }
        }
    }

    private mutating func fpmRoute(
        _ connection: Int,
        _ origin: Origin,
        _ message: RouteMessage,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        if connections[connection]?.knows(message) != true { noteSource(connection, message, now, &effects) }
        if configuration.control.routes == .fpm {
            setRoute(message, origin: origin, metric: nil, dump: 0)
        }
    }
    /// What a route tells of its sender.
    private mutating func noteSource(
        _ connection: Int, _ message: RouteMessage, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        if message.metric != 0 { markMACProvider(connection) }
        if message.portID != 0 { notePort(connection, message.portID, now, &effects) }
        if !message.isDelete && message.routeProtocol != 2 {
            // The old module says zebra (11) for all that bgpd (186) gave.
            let source: UInt8 = message.routeProtocol == 11 ? 186 : message.routeProtocol
            if connections[connection]?.protocols.contains(source) == false {
                connections[connection]?.protocols.insert(source)
            }
        }
        connections[connection]?.remember(message)
    }

    private mutating func markMACProvider(_ connection: Int) {
        if connections[connection]?.providesMACs == false {
            connections[connection]?.providesMACs = true
            updateFPMLive()
        }
    }
    mutating func updateFPMLive() {
        isFPMLive = connections.values.contains { $0.isOpen && $0.providesMACs }
    }

    /// zebra's socket number changes with its process (and differs per namespace).
    private mutating func notePort(
        _ connection: Int,
        _ port: UInt32,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        guard connections[connection]?.portIDs.contains(port) == false else { return }
        let isFirst = connections[connection]?.portIDs.isEmpty ?? true
        connections[connection]?.portIDs.insert(port)
        if zebraPorts.contains(port) {
            reviveExpired(as: nil)
            return
        }
        let isNew = isFirst && !zebraPorts.isEmpty
        let others = connections.filter {
            $0.key != connection && $0.value.isOpen && !$0.value.portIDs.isEmpty
        }
        if isNew && others.isEmpty {
            for other in connections.keys
            where other != connection && connections[other]?.isOpen == false {
                connections[other]?.isOfGoneZebra = true
            }
            zebraEpoch = connections[connection]?.epoch ?? epoch
            zebraDump = connections[connection]?.firstDump ?? 0
            if dump.number >= zebraDump { zebraEpoch = epoch }
            zebraClosedAt = lastClosedAt
            zebraPorts = []
            reviveExpired(as: .leftover)
            effects.append(
                .log(level: .notice, "zebra was restarted; local MACs are published again")
            )
            exportAll(now, &effects)
        }
        zebraPorts.insert(port)
    }

    /// FRR is back after the hold time: what its rows are depends on whether it is the same one.
    private mutating func reviveExpired(as doubt: MACEntry.KernelRow.Doubt?) {
        guard hasExpiredRows else { return }
        hasExpiredRows = false
        for index in domains.indices {
            for (raw, entry) in domains[index].macs where entry.kernel?.doubt == .expired {
                let isWritten = entry.kernel.map { isOfRunningZebra($0) } ?? false
                edit(index, MACAddress(rawValue: raw)) { $0.kernel?.doubt = isWritten ? nil : doubt }
            }
        }
    }

    // MARK: Sweeping

    mutating func sweepConnections(_ now: Instant, _ effects: inout [ControlEffect]) {
        let closed = connections.filter { !$0.value.isOpen }
        let hold = configuration.control.staleHoldSeconds
        for (number, connection) in connections.sorted(by: { $0.key < $1.key })
        where connection.isOpen && !connection.isSwept
            && isComplete(connection, closed: closed, now)
        {
            connections[number]?.isSwept = true
            if connection.portIDs.isEmpty { reviveExpired(as: nil) }
            let stale = connections.filter { !$0.value.isOpen }
            if !stale.isEmpty {
                sweep(Set(stale.values.map(\.origin)), successor: number, now, &effects)
                for old in stale.keys { connections[old] = nil }
                effects.append(
                    .log(
                        level: .info,
                        "FPM connection \(number) is complete; older state was swept"
                    )
                )
            }
        }
        let expired = connections.filter {
            !$0.value.isOpen && now.seconds(since: $0.value.closedAt ?? now) >= hold
        }
        guard !expired.isEmpty else { return }
        sweep(Set(expired.values.map(\.origin)), successor: nil, now, &effects)
        for old in expired.keys { connections[old] = nil }
        if !connections.values.contains(where: \.isOpen) { expireKernelRows() }
        effects.append(
            .log(level: .warning, "FRR has been away for \(Int(hold)) s; its state was removed")
        )
    }

    /// Whether a connection's replay is over: quiet, and, after a restart of zebra, with routes of
    /// every protocol that had some before, unless that takes longer than the hold time.
    private func isComplete(
        _ connection: FPMConnection,
        closed: [Int: FPMConnection],
        _ now: Instant
    ) -> Bool {
        guard connection.frames > 0,
            now.seconds(since: connection.lastFrame) >= configuration.control.quietSeconds
        else { return false }
        return closed.values.allSatisfy {
            !($0.isOfGoneZebra || $0.portIDs.isEmpty)
                || $0.protocols.isSubset(of: connection.protocols)
                || now.seconds(since: $0.closedAt ?? now) >= configuration.control.staleHoldSeconds
        }
    }

    /// Removes what only `origins` said.
    private mutating func sweep(
        _ origins: Set<Origin>, successor: Int?, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        counters.sweeps += 1
        var touchesUnderlay = false
        changes.goneOrigins.formUnion(origins)
        var marks: [RouteKey] = []
        let dropped = routes.removeAll(where: { origins.contains($0.origin) }) { table, prefix in
            marks.append(RouteKey(table: table, prefix: prefix))
            if table == RouteIntent.mainTable { touchesUnderlay = true }
        }
        changes.routes += marks
        if touchesUnderlay { changes.underlay = true }
        for row in dropped { releaseNextHop(row) }
        routerMACs.removeAll { _, row in origins.contains(row.origin) }
        for interface in Array(waiting.keys) {
            waiting[interface]?.removeAll {
                if case .fpm(let number) = $0.source {
                    origins.contains(.connection(number))
                } else {
                    false
                }
            }
            if waiting[interface]?.isEmpty ?? false { waiting[interface] = nil }
        }
        waitingCount = waiting.values.reduce(0) { $0 + $1.count }
        sweepMACs(origins, successor: successor.flatMap { connections[$0] }, now, &effects)
    }

    /// A lost connection's L2 MACs: they are not replayed, so zebra is asked through the kernel.
    ///
    /// A zebra that was restarted writes its MACs into the kernel again, often before it connects, so
    /// that nothing comes over FPM and, of an unchanged row, no notification either. Such a row counts
    /// when it was written since, else it is held: losing a live MAC is worse than keeping a stale one.
    private mutating func sweepMACs(
        _ origins: Set<Origin>, successor: FPMConnection?, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        let held = Instant(nanoseconds: now.nanoseconds + UInt64(configuration.control.staleHoldSeconds * 1e9))
        var hasHeld = false
        let gone = Set(connections.values.filter { $0.isOfGoneZebra || successor == nil }.map(\.origin))
        var hasUnconfirmed = false
        for index in domains.indices {
            for (raw, entry) in domains[index].macs {
                let isStale = entry.fpm.map { origins.contains($0.origin) } ?? false
                let isGone = isStale && (entry.fpm.map { gone.contains($0.origin) } ?? false)
                let isLeftover = entry.kernel.map {
                    $0.doubt == nil && !$0.isPermanent && !$0.isHeld && $0.since < zebraEpoch && !isOfRunningZebra($0)
                } ?? false && (entry.fpm == nil || isGone)
                guard isStale || isLeftover else { continue }
                if isLeftover { hasHeld = true }
                edit(index, MACAddress(rawValue: raw)) { entry in
                    if isLeftover { entry.kernel?.heldUntil = held }
                    if isGone {
                        entry.fpm = nil
                    } else if isStale, let successor {
                        entry.fpm?.origin = successor.origin
                        entry.fpm?.isUnconfirmed = true
                        hasUnconfirmed = true
                    }
                }
            }
        }
        if hasHeld { nextHeldCheck = min(nextHeldCheck ?? held, held) }
        // What the new zebra wrote after the last dump read it, and did not say over FPM.
        if hasHeld || (successor != nil && !gone.isEmpty) { requestDump(now, &effects) }
        guard hasUnconfirmed else { return }
        dump.hasUnconfirmed = true
        if let successor, dump.completed >= successor.firstDump { confirmAgainstKernel() }
    }

    /// Whether the zebra that runs now wrote the row. Ages come in hundredths of a second, cut off:
    /// what its predecessor wrote last seems up to two of them younger.
    func isOfRunningZebra(_ row: MACEntry.KernelRow) -> Bool {
        row.writtenAt.seconds(since: zebraClosedAt) > 0.02
    }
    /// Nobody confirmed them for the hold time: a zebra that is gone left them behind.
    mutating func dropHeldRows(_ now: Instant) {
        guard let due = nextHeldCheck, now >= due else { return }
        nextHeldCheck = nil
        for index in domains.indices {
            for (raw, entry) in domains[index].macs {
                guard let row = entry.kernel, row.isHeld else { continue }
                if row.heldUntil > now {
                    nextHeldCheck = min(nextHeldCheck ?? row.heldUntil, row.heldUntil)
                    continue
                }
                edit(index, MACAddress(rawValue: raw)) { entry in
                    if row.doubt == nil { entry.kernel?.doubt = .leftover }
                    entry.kernel?.heldUntil = Instant(nanoseconds: 0)
                }
            }
        }
    }

    /// Whether a row's connection cannot take it back any more: then the kernel decides.
    func isStale(_ row: MACEntry.FPMRow) -> Bool {
        row.isUnconfirmed
            || connectionNumber(row.origin).map { connections[$0]?.isOpen != true } ?? true
    }

    /// After a dump: of what a lost connection said, only what the kernel has too is left.
    mutating func confirmAgainstKernel() {
        let closed = connections.values.contains {
            !$0.isOpen && ($0.closedAt ?? dump.beganAt) <= dump.beganAt
        }
        guard dump.hasUnconfirmed || closed else { return }
        dump.hasUnconfirmed = false
        for index in domains.indices {
            for (raw, entry) in domains[index].macs {
                guard let row = entry.fpm, isStale(row) else { continue }
                edit(index, MACAddress(rawValue: raw)) { entry in
                    if let kernel = entry.kernel, kernel.doubt == nil, kernel.target == row.target,
                        kernel.isSticky == row.isSticky
                    {
                        entry.fpm?.isUnconfirmed = false
                    } else {
                        entry.fpm = nil
                    }
                }
            }
        }
    }

    /// FRR is gone for good: what it left in the kernel is nobody's word.
    private mutating func expireKernelRows() {
        hasExpired = true
        hasExpiredRows = true
        for index in domains.indices {
            for (raw, entry) in domains[index].macs
            where entry.kernel.map({ $0.doubt == nil }) ?? false {
                edit(index, MACAddress(rawValue: raw)) { $0.kernel?.doubt = .expired }
            }
            if !domains[index].flood.isEmpty {
                domains[index].flood = [:]
                changes.flood.insert(UInt16(truncatingIfNeeded: index + 1))
            }
        }
        routerMACs.removeAll { _, row in row.origin == .kernel }
    }
}
