// The event's whole way: what the control plane knows, and what each event does to it.

import Tables
import Wire

/// All that the control plane knows. Pure: no clock, socket, randomness or global.
///
/// Nothing here decides what a packet sees: it marks in ``changes`` what became different, and
/// ``TableCompiler`` brings the tables in line, once per batch of events.
public struct ControlState {
    public let configuration: Configuration
    public let numbering: PortNumbering

    // What the sources said.
    var links = LinkMap()
    var addresses: [AddressKey: UInt32] = [:]
    /// The same by interface.
    var interfacePrefixes: [UInt32: [IPPrefix]] = [:]
    var neighbors: [NeighborKey: NeighborEntry] = [:]
    var routes = RouteIntent()
    /// The kernel's next hops; those of FPM are with their connection.
    var kernelNextHops = NextHopTable()
    var domains: [DomainState]
    var routerMACs = RouterMACs()
    /// Router MACs to look at when the event is over.
    var rmacChecks: Set<RouterMACs.Key> = []
    var vteps = VTEPRegistry()
    /// IP neighbours of the bridge domains; rows of the kernel are in `neighbors`.
    var ipNeighbors: NeighborTable
    var neighborProgress = NeighborProgress()
    /// That of the event under way.
    var eventTime = Instant(nanoseconds: 0)
    public internal(set) var neighborCounters = NeighborCounters()
    let subnets: Subnets
    /// Routed ports by VRF.
    let routedPorts: [UInt16: [UInt16]]
    /// Domain positions by their shadow bridge.
    var bridges: [UInt32: Int] = [:]
    var connections: [Int: FPMConnection] = [:]
    /// Rows whose vxlan device is not known yet, in the order they came.
    var waiting: [UInt32: [WaitingRow]] = [:]
    var waitingCount = 0

    /// SVI and vxlan device of each L3VNI that pe-dp made devices for.
    var l3Shadows: [VNI: (bridge: UInt32, vxlan: UInt32)] = [:]
    /// Tables of the VRF devices that were there at the start, before the first dump shows them.
    var vrfTables: [String: UInt32] = [:]

    // Local MACs, as FDB keys.
    var localKeys: Set<UInt64> = []
    var exportRetry: Set<UInt64> = []
    var nextExportRetry = Instant(nanoseconds: 0)
    /// Domain positions by the interface of their attachment port.
    var attachments: [UInt32: Int] = [:]
    /// MACs that point to a multihoming group, by group.
    var groupUsers: [UInt32: Set<UInt64>] = [:]
    /// All entries of all domains.
    var macEntryCount = 0

    // The underlay.
    var ports: [PortState]
    /// What exception TAPs are called in the kernel.
    let exceptionNames: Set<String>
    var portOfInterface: [UInt32: UInt16] = [:]
    var interfaceOfPort: [UInt16: UInt32] = [:]
    var attachedPorts: Set<UInt16> = []
    var fixedUnderlay = PrefixTable<[Configuration.Static.UnderlayNextHop]>()
    var connected = PrefixTable<Set<UInt32>>()
    var needed: [NeighborKey: Need] = [:]
    var nextNeighborCheck = Instant(nanoseconds: 0)
    var freshNeeds: Set<NeighborKey> = []
    /// Next hops without an interface, which routes were looked up for.
    var recursiveGateways: Set<IPAddress> = []

    // VRFs.
    var routing: RoutingMap

    // Progress.
    var dump = DumpProgress()
    /// Raised by each connect and dump: tells what is newer.
    var epoch: UInt32 = 1
    /// zebra's sockets as the last connections showed them.
    var zebraPorts: Set<UInt32> = []
    /// ``epoch`` from which on kernel rows can be of the zebra that runs now: that of the first dump
    /// after its first connect. 0 while only one zebra was seen.
    var zebraEpoch: UInt32 = 0
    /// The number of that dump.
    var zebraDump: UInt32 = 0
    /// When the last connection was lost, and the last one of the zebra before the one that runs now.
    var lastClosedAt = Instant(nanoseconds: 0)
    var zebraClosedAt = Instant(nanoseconds: 0)
    /// When the first row that is held may have to go.
    var nextHeldCheck: Instant?
    /// An FPM connection sends L2 MACs: it decides over local and remote.
    var isFPMLive = false
    /// FRR has been away for longer than the hold time.
    var hasExpired = false
    /// Some kernel rows are in doubt for that reason.
    var hasExpiredRows = false
    var nextAgeing = Instant(nanoseconds: 0)
    var changes = Changes()
    public internal(set) var counters = ControlCounters()
    var logLimits: [String: Instant] = [:]

    /// Takes everything from the configuration: domains, circuits, static state.
    public init(configuration: Configuration) {
        self.configuration = configuration
        let numbering = PortNumbering(configuration)
        self.numbering = numbering
        subnets = Subnets(configuration, numbering)
        ipNeighbors = NeighborTable(
            limits: .init(
                neighbors: configuration.dataplane.limits.neighbors, domains: configuration.l2vnis.count))
        routedPorts = Dictionary(
            grouping: (0..<numbering.portCount).map { UInt16(truncatingIfNeeded: $0) }) {
                numbering.vrf(ofPort: $0)
            }.filter { $0.key != 0 }
        routing = RoutingMap(configuration, numbering)
        domains = configuration.l2vnis.map {
            DomainState(vni: $0.vni, gatewayMAC: $0.effectiveGatewayMAC)
        }
        ports = configuration.ports.map { PortState($0) }
        exceptionNames = Set(configuration.ports.map { $0.exception?.name ?? $0.name })
        loadStatic()
    }

    /// Takes in one event and returns what it asks of the world, in order.
    public mutating func apply(_ event: ControlEvent, at now: Instant) -> [ControlEffect] {
        var effects: [ControlEffect] = []
        eventTime = now
        switch event {
        case .fpmConnected(let connection): connect(connection, now, &effects)
        case .fpmFrame(let connection, let messages): frames(connection, messages, count: 1, now, &effects)
        case .fpmFrames(let connection, let messages, let count):
            frames(connection, messages, count: count, now, &effects)
        case .fpmError(let connection, let text): fpmError(connection, text, now, &effects)
        case .fpmDisconnected(let connection): disconnect(connection, now, &effects)
        case .kernelDumpBegan: beginDump(now)
        case .kernelDumped(let messages):
            for message in messages { kernelMessage(message, isDumped: true, now, &effects) }
        case .kernelDumpEnded: endDump(now, &effects)
        case .kernelNotified(let messages):
            for message in messages { kernelMessage(message, isDumped: false, now, &effects) }
        case .kernelOverrun: overrun(now, &effects)
        case .kernelRequestFailed(let effect, let errno):
            requestFailed(effect, errno, now, &effects)
        case .learned(let event): learned(event, now, &effects)
        case .neighborSeen(let event): neighborSeen(event, now, &effects)
        case .seen(let keys): seen(keys, now)
        case .portChanged(let port, let isUp, let mac, let mtu): portChanged(port, isUp, mac, mtu)
        case .exceptionAttached(let port, let interface, _): attachException(port, interface)
        case .shadowAttached(let vni, let bridge, let vxlan, let attachment):
            attachShadow(vni, bridge, vxlan, attachment, now, &effects)
        case .shadowL3Attached(let vni, let bridge, let vxlan):
            attachL3Shadow(vni, bridge, vxlan, now, &effects)
        case .vrfAttached(let name, _, let table): attachVRF(name, table, now, &effects)
        case .tick: tick(now, &effects)
        }
        buryRouterMACs()
        for effect in effects where effect.isKernelRequest { counters.kernelRequests += 1 }
        return effects
    }

    private mutating func tick(_ now: Instant, _ effects: inout [ControlEffect]) {
        sweepConnections(now, &effects)
        dropHeldRows(now)
        retryDump(now, &effects)
        retryExports(now, &effects)
        age(now, &effects)
        requestNeighbors(now, &effects)
        tickNeighbors(now, &effects)
    }

    private mutating func loadStatic() {
        for vtep in configuration.static.vteps {
            guard let index = domainIndex(vtep.vni) else { continue }
            let id = vteps.id(of: vtep.address.normalized)
            if !domains[index].fixedFlood.contains(id) { domains[index].fixedFlood.append(id) }
        }
        for mac in configuration.static.macs {
            guard let index = domainIndex(mac.vni) else { continue }
            let id = vteps.id(of: mac.vtep.normalized)
            edit(index, mac.mac) { $0.fixed = .vtep(id) }
        }
        for neighbor in configuration.static.neighbors {
            guard let domain = numbering.domain(of: neighbor.vni), !subnets.isGateway(domain, neighbor.ip)
            else { continue }
            edit(NeighborID(domain: domain, neighbor.ip), Instant(nanoseconds: 0)) { $0.fixed = neighbor.mac }
        }
        for route in configuration.static.underlay {
            fixedUnderlay[route.prefix.network, default: []] += route.nextHops
        }
        for (index, port) in configuration.ports.enumerated() {
            for prefix in port.exception?.addresses ?? [] {
                // Stands for an interface that is not known yet: see `underlayHops`.
                connected[prefix.network, default: []].insert(
                    Self.configured(UInt16(truncatingIfNeeded: index))
                )
            }
        }
        for index in domains.indices {
            changes.flood.insert(UInt16(truncatingIfNeeded: index + 1))
            if let mac = domains[index].gatewayMAC { mark(index, mac.rawValue) }
        }
    }

    // MARK: Marks for the compiler

    /// What became different since the compiler last looked.
    struct Changes {
        /// FDB keys; the same one may be there more than once.
        var macs: [UInt64] = []
        /// Domain indexes whose flood list changed.
        var flood: Set<UInt16> = []
        var ports: Set<UInt16> = []
        /// Neighbours whose hop may have to say something else.
        var neighbors: Set<NeighborID> = []
        /// Routes, next hops, neighbours or ports on the way to some VTEP may have changed.
        var underlay = true
        /// Prefixes of kernel tables whose rows changed; the same one may be there more than once.
        var routes: [RouteKey] = []
        /// Next-hop objects that changed, and the groups that they are in.
        var nextHops: Set<NextHopKey> = []
        var routerMACs: Set<RouterMACs.Key> = []
        /// Host prefixes whose neighbour binding changed.
        var hosts: Set<VRFPrefix> = []
        /// Links, addresses or the ports behind them changed: what VRFs and interfaces are may have.
        var interfaces = true
        /// FPM connections whose state was swept.
        var goneOrigins: Set<Origin> = []
    }
    mutating func takeChanges() -> Changes {
        var taken = changes
        changes = Changes()
        changes.underlay = false
        changes.interfaces = false
        taken.routerMACs = routerMACs.takeChanged()
        return taken
    }

    /// Position in `domains`; the domain's table index is one more.
    func domainIndex(_ vni: VNI) -> Int? { numbering.domain(of: vni).map { Int($0) - 1 } }

    mutating func mark(_ index: Int, _ mac: UInt64) {
        let key = FDBKey.make(domain: UInt16(truncatingIfNeeded: index + 1), mac: mac)
        changes.macs.append(key)
        markNeighbors(ofMAC: key)
    }
    /// Changes a MAC's entry, drops it when nothing is left, and marks it when its place changed.
    mutating func edit(_ index: Int, _ mac: MACAddress, _ body: (inout MACEntry) -> Void) {
        let had = domains[index].macs[mac.rawValue]
        var entry = had ?? MACEntry()
        let before = entry.placement
        body(&entry)
        trackGroups(index, mac, had?.groups ?? [], entry.groups)
        if entry.isEmpty {
            if had != nil {
                domains[index].macs[mac.rawValue] = nil
                macEntryCount -= 1
            }
        } else {
            domains[index].macs[mac.rawValue] = entry
            if had == nil { macEntryCount += 1 }
        }
        if entry.placement != before { mark(index, mac.rawValue) }
    }
    private mutating func trackGroups(
        _ index: Int,
        _ mac: MACAddress,
        _ before: [UInt32],
        _ after: [UInt32]
    ) {
        if before == after { return }
        let key = FDBKey.make(domain: UInt16(truncatingIfNeeded: index + 1), mac: mac.rawValue)
        for group in before where !after.contains(group) {
            groupUsers[group]?.remove(key)
            if groupUsers[group]?.isEmpty ?? false { groupUsers[group] = nil }
        }
        for group in after { groupUsers[group, default: []].insert(key) }
    }

    /// Position and MAC of a FDB key; nil for a domain that is not configured.
    func locate(_ key: UInt64) -> (index: Int, mac: MACAddress)? {
        let index = Int(FDBKey.domain(key)) - 1
        return domains.indices.contains(index) ? (index, FDBKey.mac(key)) : nil
    }

    /// A log line, at most one of its kind in ten seconds.
    mutating func log(
        _ level: LogLevel,
        _ kind: String,
        _ text: String,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        if let last = logLimits[kind], now.seconds(since: last) < 10 { return }
        logLimits[kind] = now
        effects.append(.log(level: level, text))
    }
}

extension MACEntry {
    /// The multihoming groups it refers to.
    var groups: [UInt32] {
        var found: [UInt32] = []
        if case .group(let id)? = fpm?.target { found.append(id) }
        if case .group(let id)? = kernel?.target, !found.contains(id) { found.append(id) }
        return found
    }
}

/// Totals of the control plane, for `show control` and `summary.json`.
public struct ControlCounters: Hashable, Sendable {
    public var frames: UInt64 = 0
    public var messages: UInt64 = 0
    public var kernelMessages: UInt64 = 0
    public var kernelDumps: UInt64 = 0
    public var kernelOverruns: UInt64 = 0
    /// Changes and resolutions asked of the kernel, dumps left out, and those of them that failed.
    public var kernelRequests: UInt64 = 0
    public var kernelRequestsFailed: UInt64 = 0
    public var connects: UInt64 = 0
    public var sweeps: UInt64 = 0
    public var learned: UInt64 = 0
    public var aged: UInt64 = 0
    /// Learned MACs refused because the table is full.
    public var learnRejected: UInt64 = 0
    /// Rows that waited too long for their vxlan device.
    public var waitingRejected: UInt64 = 0
    public var errorCount: UInt64 = 0
    /// The newest faults, oldest first; at most ``keptErrors``.
    public var errors: [String] = []
    public static let keptErrors = 64
    mutating func note(_ error: String) {
        errorCount += 1
        if errors.count == Self.keptErrors { errors.removeFirst() }
        errors.append(error)
    }
}
