// Whether the tables route exactly what the state wants: for tests and the fuzzer.

public import Tables
import Wire

extension TableCompiler {
    /// What differs between the tables and what the whole of `state` alone would give; empty when all
    /// is well. Call it after ``flush(_:at:)``. Slow: it looks at everything.
    public func routeFaults(_ state: ControlState) -> [String] {
        var audit = RouteAudit(compiler: routes, tables: tables, state: state)
        return audit.run()
    }
}

private struct RouteAudit {
    let compiler: RouteCompiler
    let tables: ForwardingTables
    let state: ControlState
    private var faults: [String] = []
    /// References to hops and groups, counted anew.
    private var hopUse: [UInt32: Int32] = [:]
    private var groupUse: [UInt32: Int32] = [:]
    private var routeCounts: [UInt16: Int] = [:]

    init(compiler: RouteCompiler, tables: ForwardingTables, state: ControlState) {
        self.compiler = compiler
        self.tables = tables
        self.state = state
    }

    mutating func run() -> [String] {
        var installed: [VRFPrefix: RouteValue] = [:]
        tables.forEachRoute { installed[VRFPrefix(vrf: $0, prefix: $1)] = $2 }
        for (key, value) in installed {
            routeCounts[key.vrf, default: 0] += 1
            if value.isHop { hopUse[value.index, default: 0] += 1 }
            if value.isGroup { groupUse[value.index, default: 0] += 1 }
            let decision = state.decide(vrf: key.vrf, key.prefix)
            if decision == .none { fault(key, "is in the tables, and nobody wants it") }
        }
        // Of tables that were full, what is there is right, but not all is there.
        let isComplete = !compiler.isRefusing
        for key in wanted() {
            guard let value = installed[key] else {
                if isComplete { fault(key, "is not in the tables") }
                continue
            }
            if isComplete { check(key, value, state.decide(vrf: key.vrf, key.prefix)) }
        }
        checkGroups(isComplete)
        checkCounts()
        return faults
    }
    private mutating func fault(_ key: VRFPrefix, _ text: String) {
        if faults.count < 16 {
            faults.append("\(state.numbering.name(ofVRF: key.vrf) ?? "?") \(key.prefix) \(text)")
        }
    }

    private func wanted() -> Set<VRFPrefix> {
        var found: Set<VRFPrefix> = []
        for position in state.numbering.vrfNames.indices {
            let vrf = UInt16(truncatingIfNeeded: position + 1)
            var prefixes = Set((state.routing.own[vrf]?.entries ?? [:]).keys)
            prefixes.formUnion((state.routing.fixed[vrf]?.entries ?? [:]).keys)
            if let table = state.table(ofVRF: state.numbering.vrfNames[position]) {
                prefixes.formUnion(state.routes.table(table)?.prefixes ?? [])
            }
            for prefix in prefixes where !prefix.address.isLinkLocalIPv6 && !prefix.address.isMulticast {
                if state.decide(vrf: vrf, prefix) != .none { found.insert(VRFPrefix(vrf: vrf, prefix: prefix)) }
            }
        }
        return found
    }

    private mutating func check(_ key: VRFPrefix, _ value: RouteValue, _ decision: RouteDecision) {
        let ways: [WeightedWay]
        switch decision {
        case .none: return
        case .value(let wanted):
            if value != wanted { fault(key, "is \(value), not \(wanted)") }
            return
        case .host(let id):
            let isRight = value.isHop && compiler.hops.key(value.index) == HopKey(id)
            if !isRight { fault(key, "is no host route to \(id)") }
            return
        case .fixed(let route):
            if route.kind != .unicast { return }
            ways = route.ways
        case .row(let row):
            if row.kind != .unicast || state.isBlackhole(row) { return }
            ways = state.ways(of: row)
        }
        let found = state.resolve(ways, vrf: key.vrf)
        if let terminal = found.terminal {
            let isRight = value == terminal || terminal == .vrf(key.vrf) && key.prefix.isHost
            if !isRight && !found.isRecursive { fault(key, "is \(value), not \(terminal)") }
            return
        }
        let members = Set(found.members.prefix(tables.limits.paths).map(\.key))
        let actual: Set<HopKey> =
            if value.isHop {
                Set([compiler.hops.key(value.index)].compactMap { $0 })
            } else if value.isGroup {
                Set(tables.slots(ofGroup: value.index).compactMap { compiler.hops.key($0) })
            } else {
                []
            }
        if !(value.isHop || value.isGroup) || actual != members {
            fault(key, "leads to \(actual), not to \(members)")
        }
    }

    private mutating func checkGroups(_ isComplete: Bool) {
        for (index, group) in compiler.groups.groups {
            let slots = tables.slots(ofGroup: index)
            if slots.count & (slots.count - 1) != 0 { faults.append("group \(index) has \(slots.count) slots") }
            for hop in group.hops { hopUse[hop, default: 0] += 1 }
            if Set(slots) != Set(group.hops) { faults.append("group \(index) has other hops than it refers to") }
            if group.count != groupUse[index] ?? 0 {
                faults.append("group \(index) counts \(group.count) routes, \(groupUse[index] ?? 0) lead to it")
            }
        }
        if tables.groupCount != compiler.groups.groups.count {
            faults.append("\(tables.groupCount) groups in the tables, \(compiler.groups.groups.count) known")
        }
    }
    private mutating func checkCounts() {
        for (hop, count) in hopUse {
            if tables.hop(hop) == nil { faults.append("hop \(hop) is in use and gone") }
            if compiler.hops.count(of: hop) != count {
                faults.append("hop \(hop) counts \(compiler.hops.count(of: hop)) uses, \(count) there are")
            }
        }
        for index in compiler.hops.used where hopUse[index] == nil {
            faults.append("hop \(index) is kept without use")
        }
        for position in state.numbering.vrfNames.indices {
            let vrf = UInt16(truncatingIfNeeded: position + 1)
            if compiler.counts[Int(vrf)] != routeCounts[vrf] ?? 0 {
                faults.append("VRF \(vrf) counts \(compiler.counts[Int(vrf)]) routes, has \(routeCounts[vrf] ?? 0)")
            }
        }
    }
}
