// Turns routes into table entries, prefix by prefix as they change.

import Tables
import Wire

/// Keeps the routes of all VRFs in ``ForwardingTables`` equal to what a ``ControlState`` wants.
///
/// What is installed is read back from the tables. A route's next hops are looked at once for each
/// next-hop object, not for each route; a change of a group's members is one update of the group.
final class RouteCompiler {
    private let tables: ForwardingTables
    let hops: RouteHops
    let groups: RouteGroups
    /// What each next-hop object leads to, and the kernel tables whose routes got that as their value.
    private var objects: [RouteSource: Object] = [:]
    private struct Object {
        var resolution: RouteResolution
        var isBlackhole: Bool
        var tables: Set<UInt32> = []
        var lastTable: UInt32?
    }
    /// What each interface means, and the kernel tables with inline next hops out of it.
    private var interfaces: [UInt32: Interface] = [:]
    private struct Interface {
        var meaning: InterfaceMeaning
        var tables: Set<UInt32> = []
        var lastTable: UInt32?
    }
    /// Sources whose members depend on other routes: by VRF, with the gateways that they look up.
    private var recursive: [UInt16: Set<RouteSource>] = [:]
    private var recursiveDirty: Set<UInt16> = []
    /// Routes and sources that did not fit; they are tried again when something was removed.
    private var refused: Set<VRFPrefix> = []
    private var refusedSources: Set<RouteSource> = []
    private var room = RoomSignal()
    private var memory = RouteMemory()
    private var pending: [VRFPrefix] = []
    /// VRFs that had a table until this batch.
    private var unmapped: [UInt32: [UInt16]] = [:]
    /// Installed routes by VRF.
    private(set) var counts: [Int]
    private(set) var refusedCount: UInt64 = 0
    /// VRFs whose own addresses or router MAC changed in the last batch.
    private(set) var changedVRFs: Set<UInt16> = []
    private(set) var log: [(kind: String, text: String)] = []
    static let retriesPerFlush = 4096
    static let refusedLimit = 1 << 20
    /// Look-ups whose cache lines are fetched together.
    private static let blockSize = 16

    init(_ tables: ForwardingTables, _ tunnels: TunnelReferences, vrfCount: Int) {
        self.tables = tables
        hops = RouteHops(tables, tunnels)
        groups = RouteGroups(tables, hops)
        counts = [Int](repeating: 0, count: vrfCount + 1)
    }

    func takeLog() -> [(kind: String, text: String)] {
        defer { log.removeAll() }
        return log
    }
    var isRefusing: Bool { !refused.isEmpty || !refusedSources.isEmpty }

    // MARK: What is there

    func hop(of key: HopKey) -> RouteHop? { hops.known(key).flatMap { tables.hop($0) } }
    func slotCounts(_ slots: [UInt32]) -> [HopKey: Int] {
        var counts: [HopKey: Int] = [:]
        for slot in slots {
            if let key = hops.key(slot) { counts[key, default: 0] += 1 }
        }
        return counts
    }
    /// Slots of an object's group; nil when no route uses it as one.
    func slotCounts(of object: NextHopKey) -> [HopKey: Int]? {
        groups.bySource[RouteSource(ways: .object(object), vrf: 0)]?.first.map {
            slotCounts(tables.slots(ofGroup: $0))
        }
    }

    // MARK: A batch

    /// Brings the tables in line with all that changed. Nothing that a packet can still find is
    /// removed before its replacement is there.
    func flush(_ changes: ControlState.Changes, _ state: inout ControlState) {
        changedVRFs = []
        if changes.interfaces || !changes.goneOrigins.isEmpty { memory.forgetAll() }
        if changes.interfaces { remap(&state) }
        if !changes.goneOrigins.isEmpty { forget(changes.goneOrigins) }
        for key in changes.routerMACs { hops.updateRouterMAC(key, &state) }
        if !changes.nextHops.isEmpty { refresh(changes.nextHops, &state) }
        compile(changes.routes, &state)
        for host in changes.hosts { compile(host.vrf, host.prefix, &state) }
        unmapped = [:]
        drainPending(&state)
        retryRefused(&state)
        let dropsGroups = groups.dropUnused()
        if hops.dropUnused(&state) || dropsGroups { memory.forgetAll() }
        if groups.hasRoom || hops.hasRoom { room.note(tables) }
        groups.hasRoom = false
        hops.hasRoom = false
        if let text = hops.takeRefusal() { log.append(("next hops", text)) }
        if let text = groups.takeRefusal() { log.append(("next-hop groups", text)) }
        let cut = groups.takeCutCount()
        if cut > 0 {
            log.append(
                ("next-hop group members", "\(cut) next hops beyond \(tables.limits.paths) of a route are not used; "
                    + "raise dataplane.limits.ecmpPaths"))
        }
    }

    /// Configured routes, once.
    func loadFixed(_ state: inout ControlState) {
        for (vrf, table) in state.routing.fixed.sorted(by: { $0.key < $1.key }) {
            for prefix in table.entries.keys.sorted() { pending.append(VRFPrefix(vrf: vrf, prefix: prefix)) }
        }
    }

    /// A VTEP fits again.
    func hasTunnelRoom(_ state: inout ControlState) {
        room.note(tables)
        hops.retryRouterMACs(&state)
    }

    private func drainPending(_ state: inout ControlState) {
        // Recursive sources are groups: what they get changes no prefix, so that this ends.
        while !pending.isEmpty || !recursiveDirty.isEmpty {
            let prefixes = pending
            pending = []
            for next in prefixes { compile(next.vrf, next.prefix, &state) }
            let vrfs = recursiveDirty
            recursiveDirty = []
            for vrf in vrfs.sorted() { refreshRecursive(vrf, &state) }
        }
    }

    // MARK: One prefix

    /// Compiles prefixes in their order, a few at a time: their buckets are fetched beforehand.
    private func compile(_ routes: [RouteKey], _ state: inout ControlState) {
        var block: [VRFPrefix] = []
        block.reserveCapacity(Self.blockSize + 8)
        for route in routes {
            for vrf in state.routing.vrfs(ofTable: route.table) {
                tables.prefetchRoute(vrf: vrf, route.prefix)
                block.append(VRFPrefix(vrf: vrf, prefix: route.prefix))
            }
            if !unmapped.isEmpty {
                for vrf in unmapped[route.table] ?? [] { block.append(VRFPrefix(vrf: vrf, prefix: route.prefix)) }
            }
            guard block.count >= Self.blockSize else { continue }
            for next in block { compile(next.vrf, next.prefix, &state) }
            block.removeAll(keepingCapacity: true)
        }
        for next in block { compile(next.vrf, next.prefix, &state) }
    }
    private func compile(_ vrf: UInt16, _ prefix: IPPrefix, _ state: inout ControlState) {
        if prefix.address.isLinkLocalIPv6 || prefix.address.isMulticast { return }
        if !recursive.isEmpty, recursive[vrf] != nil { recursiveDirty.insert(vrf) }
        let old = tables.route(vrf: vrf, prefix)
        let row = state.plainRow(vrf: vrf, prefix)
        if let row, let known = memory.value(row, state.routes.rows.serial(row), vrf, old: old) {
            install(vrf, prefix, known, old)
            return
        }
        let decision = state.decide(vrf: vrf, prefix)
        let wanted = value(of: decision, vrf, prefix, old: old, &state)
        if let row, let wanted { memory.note(row, state.routes.rows.serial(row), vrf, wanted, old: old) }
        guard let wanted else {
            if decision == .none {
                refused.remove(VRFPrefix(vrf: vrf, prefix: prefix))
                remove(vrf, prefix, old)
            } else {
                refuse(vrf, prefix)
            }
            return
        }
        install(vrf, prefix, wanted, old)
    }
    private func install(_ vrf: UInt16, _ prefix: IPPrefix, _ wanted: RouteValue, _ old: RouteValue?) {
        if wanted == old {
            if !refused.isEmpty { refused.remove(VRFPrefix(vrf: vrf, prefix: prefix)) }
            return
        }
        retain(wanted)
        do {
            try tables.setRoute(vrf: vrf, prefix, wanted)
        } catch {
            release(wanted)
            refuse(vrf, prefix)
            log.append(("routes refused", "\(error)"))
            return
        }
        if let old { release(old) } else { counts[Int(vrf)] += 1 }
        if !refused.isEmpty { refused.remove(VRFPrefix(vrf: vrf, prefix: prefix)) }
    }
    private func remove(_ vrf: UInt16, _ prefix: IPPrefix, _ old: RouteValue?) {
        guard let old else { return }
        tables.removeRoute(vrf: vrf, prefix)
        release(old)
        counts[Int(vrf)] -= 1
        room.note(tables)
    }
    /// The tables keep what they have; a route that leads elsewhere now is better than none.
    private func refuse(_ vrf: UInt16, _ prefix: IPPrefix) {
        room.wait(tables)
        guard refused.count < Self.refusedLimit else { return }
        if refused.insert(VRFPrefix(vrf: vrf, prefix: prefix)).inserted { refusedCount += 1 }
    }
    private func retain(_ value: RouteValue) {
        if value.isHop { hops.retain(value.index) } else if value.isGroup { groups.retain(value.index) }
    }
    private func release(_ value: RouteValue) {
        if value.isHop { hops.release(value.index) } else if value.isGroup { groups.release(value.index) }
    }

    private func value(
        of decision: RouteDecision, _ vrf: UInt16, _ prefix: IPPrefix, old: RouteValue?, _ state: inout ControlState
    ) -> RouteValue? {
        switch decision {
        case .none: return nil
        case .value(let value): return value
        case .host(let id): return hops.index(of: HopKey(id), &state).map { .hop($0) }
        case .fixed(let route):
            switch route.kind {
            case .blackhole: return .blackhole
            case .unreachable: return .unreachable
            case .prohibit: return .prohibit
            case .unicast: return inline(route.ways, vrf, table: nil, old: old, &state)
            }
        case .row(let row):
            let value = value(of: row, vrf, old: old, &state)
            // An address of the VRF's own device.
            return value == .vrf(vrf) && prefix.isHost ? state.namespaceAddress(vrf) : value
        }
    }
    private func value(
        of row: RouteIntent.Row, _ vrf: UInt16, old: RouteValue?, _ state: inout ControlState
    ) -> RouteValue? {
        switch row.kind {
        case .blackhole: return .blackhole
        case .unreachable: return .unreachable
        case .prohibit: return .prohibit
        case .local: return state.namespaceAddress(vrf)
        case .other: return nil
        case .unicast: break
        }
        let table = state.routing.table(of: vrf)
        guard row.nextHopID != 0 else { return inline(state.ways(of: row), vrf, table: table, old: old, &state) }
        let key = NextHopKey(origin: row.origin, id: row.nextHopID)
        let source = RouteSource(ways: .object(key), vrf: 0)
        if objects[source] == nil { objects[source] = look(source, &state) }
        guard let object = objects[source] else { return nil }
        if let table, object.lastTable != table {
            objects[source]?.tables.insert(table)
            objects[source]?.lastTable = table
        }
        if object.isBlackhole { return .blackhole }
        if object.resolution.isRecursive {
            let source = RouteSource(ways: .object(key), vrf: vrf)
            return group(source, state.resolve(ways(of: source, state), vrf: vrf), old: old, &state)
        }
        return value(of: object.resolution, source, old: old, &state)
    }
    /// The value of next hops that are written in the route itself.
    private func inline(
        _ ways: [WeightedWay], _ vrf: UInt16, table: UInt32?, old: RouteValue?, _ state: inout ControlState
    ) -> RouteValue? {
        if let table { for way in ways { note(way, table, state) } }
        let resolution = state.resolve(ways, vrf: vrf)
        let source = RouteSource(ways: .inline(ways), vrf: resolution.isRecursive ? vrf : 0)
        return value(of: resolution, source, old: old, &state)
    }
    private func note(_ way: WeightedWay, _ table: UInt32, _ state: ControlState) {
        guard case .interface(let interface, _, _) = way.way else { return }
        if let known = interfaces[interface] {
            if known.lastTable == table { return }
        } else {
            interfaces[interface] = Interface(meaning: state.meaning(of: interface))
        }
        interfaces[interface]?.tables.insert(table)
        interfaces[interface]?.lastTable = table
    }
    private func value(
        of resolution: RouteResolution, _ source: RouteSource, old: RouteValue?, _ state: inout ControlState
    ) -> RouteValue? {
        if let only = resolution.only { return hops.index(of: only, &state).map { .hop($0) } }
        if let terminal = resolution.terminal, !resolution.isRecursive { return terminal }
        return group(source, resolution, old: old, &state)
    }
    private func group(
        _ source: RouteSource, _ resolution: RouteResolution, old: RouteValue?, _ state: inout ControlState
    ) -> RouteValue? {
        if source.vrf != 0 { recursive[source.vrf, default: []].insert(source) }
        return groups.group(for: source, resolution, before: old, &state).map { .group($0) }
    }

    // MARK: Next hops

    private func ways(of source: RouteSource, _ state: ControlState) -> [WeightedWay] {
        switch source.ways {
        case .inline(let ways): return ways
        case .object(let key):
            let hops =
                key.origin == .kernel
                ? state.kernelNextHops.hops(of: key.id)
                : state.connectionNumber(key.origin).flatMap { state.connections[$0]?.nextHops.hops(of: key.id) } ?? []
            return hops.map { ControlState.way(of: $0) }
        }
    }
    private func look(_ source: RouteSource, _ state: inout ControlState) -> Object {
        let isBlackhole = state.nextHop(source).map { $0.isDefined && $0.isBlackhole } ?? false
        let ways = ways(of: source, state)
        for case .interface(let interface, _, _) in ways.map(\.way) where interfaces[interface] == nil {
            interfaces[interface] = Interface(meaning: state.meaning(of: interface))
        }
        var resolution = state.resolve(ways, vrf: source.vrf)
        // Members that are not known yet may come: such a group is one from the start.
        let isGroup = state.nextHop(source)?.members.count ?? 0 > 1
        if resolution.members.isEmpty && resolution.terminal == nil || isGroup && resolution.members.count == 1 {
            resolution.unresolvedCount += 1
        }
        return Object(resolution: resolution, isBlackhole: isBlackhole)
    }

    /// Next-hop objects changed: their groups change, and where that is not enough their routes.
    private func refresh(_ keys: Set<NextHopKey>, _ state: inout ControlState) {
        var rescan: [UInt32: Set<NextHopKey>] = [:]
        for key in keys.sorted(by: { ($0.origin, $0.id) < ($1.origin, $1.id) }) {
            for (vrf, sources) in recursive where sources.contains(RouteSource(ways: .object(key), vrf: vrf)) {
                recursiveDirty.insert(vrf)
            }
            refresh(key, &rescan, &state)
        }
        scan(rescan, [:], state)
    }
    private func refresh(
        _ key: NextHopKey, _ rescan: inout [UInt32: Set<NextHopKey>], _ state: inout ControlState
    ) {
        let source = RouteSource(ways: .object(key), vrf: 0)
        guard let before = objects[source] else { return }
        memory.forgetAll()
        var after = look(source, &state)
        let isGone = state.nextHop(source) == nil
        after.tables = before.tables
        after.lastTable = before.lastTable
        objects[source] = isGone ? nil : after
        // Groups whose routes are about to lead elsewhere stay until then.
        let becomesDirect = after.resolution.terminal != nil || after.isBlackhole
        if !becomesDirect { updateGroups(source, after.resolution, &state) }
        if before.resolution == after.resolution && before.isBlackhole == after.isBlackhole { return }
        let isDirect = before.resolution.only != nil || before.resolution.terminal != nil || before.isBlackhole
        if isDirect || becomesDirect || before.resolution.isRecursive != after.resolution.isRecursive {
            for table in before.tables { rescan[table, default: []].insert(key) }
        }
    }
    private func updateGroups(_ source: RouteSource, _ resolution: RouteResolution, _ state: inout ControlState) {
        if groups.update(source, resolution, &state) {
            if !refusedSources.isEmpty { refusedSources.remove(source) }
        } else {
            room.wait(tables)
            refusedSources.insert(source)
        }
    }
    private func refreshRecursive(_ vrf: UInt16, _ state: inout ControlState) {
        for source in recursive[vrf] ?? [] {
            guard groups.bySource[source] != nil else {
                recursive[vrf]?.remove(source)
                continue
            }
            updateGroups(source, state.resolve(ways(of: source, state), vrf: vrf), &state)
        }
        if recursive[vrf]?.isEmpty ?? false { recursive[vrf] = nil }
    }

    /// Has every route of a table compiled that uses one of the objects or interfaces.
    private func scan(
        _ objects: [UInt32: Set<NextHopKey>], _ interfaces: [UInt32: Set<UInt32>], _ state: ControlState
    ) {
        for table in Set(objects.keys).union(interfaces.keys).sorted() {
            let vrfs = state.routing.vrfs(ofTable: table)
            guard !vrfs.isEmpty, let content = state.routes.table(table) else { continue }
            let keys = objects[table] ?? []
            let used = interfaces[table] ?? []
            content.forEachBest { prefix, row in
                let isAffected =
                    row.nextHopID != 0
                    ? keys.contains(NextHopKey(origin: row.origin, id: row.nextHopID))
                    : row.nextHops.contains { used.contains($0.interface) }
                if isAffected { for vrf in vrfs { pending.append(VRFPrefix(vrf: vrf, prefix: prefix)) } }
            }
        }
    }

    // MARK: Interfaces and tables

    /// Links, addresses or ports changed: VRFs get their tables, own routes and interfaces their
    /// meaning, and only what that concerns is compiled.
    private func remap(_ state: inout ControlState) {
        let changes = state.remapRouting()
        for vni in changes.routerMACs {
            guard let l3vni = state.routing.l3vnis[vni] else { continue }
            hops.updateSource(of: vni, l3vni.routerMAC)
            changedVRFs.insert(l3vni.vrf)
        }
        pending += changes.own
        changedVRFs.formUnion(changes.own.map(\.vrf))
        for (vrf, before) in changes.tables {
            if let before { unmapped[before, default: []].append(vrf) }
            for table in [before, state.routing.table(of: vrf)].compactMap({ $0 }) {
                for prefix in state.routes.table(table)?.prefixes ?? [] {
                    pending.append(VRFPrefix(vrf: vrf, prefix: prefix))
                }
            }
        }
        var changed: Set<UInt32> = []
        var scanned: [UInt32: Set<UInt32>] = [:]
        for (interface, known) in interfaces {
            let meaning = state.meaning(of: interface)
            if meaning == known.meaning { continue }
            interfaces[interface]?.meaning = meaning
            changed.insert(interface)
            for table in known.tables { scanned[table, default: []].insert(interface) }
        }
        if !changed.isEmpty { reinterpret(changed, &state) }
        if !scanned.isEmpty { scan([:], scanned, state) }
        recursiveDirty.formUnion(recursive.keys)
    }
    private func reinterpret(_ changed: Set<UInt32>, _ state: inout ControlState) {
        var rescan: [UInt32: Set<NextHopKey>] = [:]
        for source in Array(objects.keys) {
            guard case .object(let key) = source.ways, Self.uses(ways(of: source, state), changed) else { continue }
            refresh(key, &rescan, &state)
        }
        for source in Array(groups.bySource.keys) {
            guard case .inline(let ways) = source.ways, source.vrf == 0, Self.uses(ways, changed) else { continue }
            updateGroups(source, state.resolve(ways, vrf: 0), &state)
        }
        scan(rescan, [:], state)
    }

    private static func uses(_ ways: [WeightedWay], _ changed: Set<UInt32>) -> Bool {
        ways.contains {
            if case .interface(let interface, _, _) = $0.way { changed.contains(interface) } else { false }
        }
    }
    /// Sources whose state was swept.
    private func forget(_ origins: Set<Origin>) {
        objects = objects.filter {
            if case .object(let key) = $0.key.ways { !origins.contains(key.origin) } else { true }
        }
    }

    /// Whether the table of a prefix's kind holds as many as its limit allows.
    private func isFull(_ prefix: IPPrefix) -> Bool {
        (prefix.isHost ? tables.hostRouteCount : tables.prefixCount) >= tables.limits.routes
    }
    private func retryRefused(_ state: inout ControlState) {
        guard isRefusing || hops.isRefusing, room.take(tables) else { return }
        hops.retryRouterMACs(&state)
        if hops.isRefusing { room.wait(tables) }
        for source in Array(refusedSources) {
            updateGroups(source, state.resolve(ways(of: source, state), vrf: source.vrf), &state)
        }
        var tried = 0
        for next in Array(refused.prefix(Self.retriesPerFlush)) {
            if isFull(next.prefix) { continue }
            compile(next.vrf, next.prefix, &state)
            tried += 1
        }
        if tried == Self.retriesPerFlush { room.note(tables) }
    }
}
