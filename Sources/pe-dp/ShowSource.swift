// What `pe-dp show` answers: rows from the control state, the tables and the ports.

import CDPDK
import ControlPlane
import FastPath
import Glibc
import Tables
import Wire

/// A moment's view of everything that can be shown; made and used on the control thread.
struct ShowSource {
    let state: ControlState
    let compiler: TableCompiler
    var tables: ForwardingTables { compiler.tables }
    let numbering: PortNumbering
    /// What the ports themselves say; empty in a replay.
    let statuses: [UInt16: PortStatus]
    let shadow: ShadowCounts
    let now: Instant
    /// Where workers and their memory are; nil in a replay.
    var placement: Placement?

    func answer(_ topic: ShowTopic, filter: ShowFilter = ShowFilter()) -> ShowAnswer {
        switch topic {
        case .ports: .ports(portRows())
        case .counters: .counters(counters())
        case .drops: .drops(dropRows())
        case .lcores: .lcores(lcoreRows())
        case .control: .control(controlRow())
        case .vnis: .vnis(state.vniRows())
        case .vrfs: .vrfs(state.vrfRows(compiler))
        case .fdb: .fdb(state.fdbRows(at: now))
        case .routes: .routes(state.routeRows(compiler, filter: filter))
        case .neighbors: .neighbors(state.neighborRows(at: now))
        case .nexthops: .nexthops(state.nextHopRows(compiler))
        case .vteps: .vteps(state.vtepRows())
        case .flood: .flood(state.floodRows())
        }
    }

    private func portRows() -> [PortRow] {
        state.configuration.ports.enumerated().map { index, port in
            let number = UInt16(truncatingIfNeeded: index)
            let entry = tables.port(number)
            let status = statuses[number]
            let mac = status?.mac ?? entry.map { MACAddress(rawValue: $0.mac) } ?? .zero
            var row = PortRow(
                name: port.name, driver: port.driver.rawValue, device: port.device,
                role: role(entry), state: (status?.isUp ?? entry?.isUp ?? false) ? "up" : "down",
                mac: mac.isZero ? nil : mac.description, mtu: status?.mtu ?? port.mtu,
                exception: port.exception.map { $0.name ?? port.name })
            let counters = tables.counters
            row.rxPackets = counters.total(port: number, .rxPackets)
            row.rxBytes = counters.total(port: number, .rxBytes)
            row.txPackets = counters.total(port: number, .txPackets)
            row.txBytes = counters.total(port: number, .txBytes)
            if let own = status?.counters {
                row.rxDropped = own.rxDropped + own[.rxDropKernel]
                row.txDropped = own[.txDropBusy] + own[.txDropTooBig] + own[.txDropDown] + own[.txDropError]
            }
            return row
        }
    }

    private func role(_ entry: PortEntry?) -> String {
        switch entry?.role {
        case .underlay: "underlay"
        case .circuits: "circuit"
        case .exception: "exception"
        case .routed: "routed"
        case .unused, nil: "unused"
        }
    }

    private func counters() -> CounterReport {
        let source = tables.counters
        var result = CounterReport()
        result.received = source.total(.received)
        result.replicated = source.total(.replicated)
        result.sent = source.total(.sent)
        result.punted = source.total(.punted)
        for reason in DropReason.allCases where source.total(reason) > 0 {
            result.dropped[reason.name] = source.total(reason)
        }
        for counter in TotalCounter.services { result.services["\(counter)"] = source.total(counter) }
        for (index, name) in numbering.vrfNames.enumerated() {
            let vrf = UInt16(truncatingIfNeeded: index + 1)
            var row = CounterReport.VRF(vrf: name)
            row.localInPackets = source.total(vrf: vrf, .localInPackets)
            row.localInBytes = source.total(vrf: vrf, .localInBytes)
            row.tunnelInPackets = source.total(vrf: vrf, .tunnelInPackets)
            row.tunnelInBytes = source.total(vrf: vrf, .tunnelInBytes)
            row.localOutPackets = source.total(vrf: vrf, .localOutPackets)
            row.localOutBytes = source.total(vrf: vrf, .localOutBytes)
            row.tunnelOutPackets = source.total(vrf: vrf, .tunnelOutPackets)
            row.tunnelOutBytes = source.total(vrf: vrf, .tunnelOutBytes)
            result.vrfs.append(row)
        }
        for (index, vni) in numbering.domainVNIs.enumerated() {
            let domain = UInt16(truncatingIfNeeded: index + 1)
            var row = CounterReport.Domain(vni: vni.rawValue)
            row.circuitInPackets = source.total(domain: domain, .circuitInPackets)
            row.circuitInBytes = source.total(domain: domain, .circuitInBytes)
            row.tunnelInPackets = source.total(domain: domain, .tunnelInPackets)
            row.tunnelInBytes = source.total(domain: domain, .tunnelInBytes)
            row.circuitOutPackets = source.total(domain: domain, .circuitOutPackets)
            row.circuitOutBytes = source.total(domain: domain, .circuitOutBytes)
            row.tunnelOutPackets = source.total(domain: domain, .tunnelOutPackets)
            row.tunnelOutBytes = source.total(domain: domain, .tunnelOutBytes)
            result.domains.append(row)
        }
        for index in 0..<tables.portCount {
            let port = UInt16(truncatingIfNeeded: index)
            guard let entry = tables.port(port), entry.role != .unused else { continue }
            var row = CounterReport.Port(port: numbering.name(of: port))
            row.rxPackets = source.total(port: port, .rxPackets)
            row.rxBytes = source.total(port: port, .rxBytes)
            row.txPackets = source.total(port: port, .txPackets)
            row.txBytes = source.total(port: port, .txBytes)
            row.punted = source.total(port: port, .punted)
            row.dropped = source.total(port: port, .dropped)
            row.fromHost = source.total(port: port, .fromHost)
            result.ports.append(row)
        }
        return result
    }

    private func dropRows() -> [DropRow] {
        DropReason.allCases.compactMap { reason in
            let packets = tables.counters.total(reason)
            return packets == 0 ? nil : DropRow(reason: reason.name, packets: packets, meaning: reason.meaning)
        }
    }

    private func lcoreRows() -> [LcoreRow] {
        let dataplane = state.configuration.dataplane
        var rows = [LcoreRow(lcore: 0, role: "main", cpu: dataplane.mainLcore)]
        for (index, view) in tables.counters.workers.enumerated() {
            let busy = view.value(.busyPolls), idle = view.value(.idlePolls)
            let packets = view.value(.received)
            var row = LcoreRow(
                lcore: index + 1, role: "worker",
                cpu: index < dataplane.workerLcores.count ? dataplane.workerLcores[index] : nil,
                busy: busy + idle == 0 ? 0 : Double(busy) / Double(busy + idle), polls: busy &+ idle,
                packets: packets, burstSize: busy == 0 ? 0 : Double(packets) / Double(busy))
            if let placement, index < placement.workerNodes.count {
                row.node = placement.workerNodes[index] >= 0 ? placement.workerNodes[index] : nil
                row.memoryNode = placement.workerMemory[index] >= 0 ? placement.workerMemory[index] : nil
            }
            rows.append(row)
        }
        return rows
    }

    private func controlRow() -> ControlRow {
        var row = state.controlRow(at: now)
        row.routes = state.configuration.control.routes.rawValue
        row.listen = state.configuration.control.fpmListen
        row.kernel.netns = state.configuration.control.netns
        row.shadow = ControlRow.Shadow(
            isEnabled: state.configuration.control.shadow, bridges: shadow.vnis, vxlans: shadow.vnis,
            vrfs: shadow.vrfs, taps: shadow.taps)
        row.learnOverflows = tables.counters.total(.learnRingFull)
        return row
    }
}

/// Answers the admin socket from the running daemon.
struct DaemonShow: ShowProvider {
    let daemon: Daemon

    func show(_ topic: ShowTopic, filter: ShowFilter, reply: @escaping @Sendable (ShowAnswer) -> Void) {
        let daemon = daemon
        let asked = daemon.loop?.ask { state, compiler in
            let source = ShowSource(
                state: state, compiler: compiler, numbering: daemon.numbering,
                statuses: daemon.registry?.allStatus() ?? [:], shadow: daemon.shadowCounts,
                now: ControlLoop.monotonic(), placement: daemon.placement)
            reply(source.answer(topic, filter: filter))
        }
        if asked != true { reply(.empty(topic)) }
    }

    func status(reply: @escaping @Sendable (StatusReport) -> Void) {
        let daemon = daemon
        let asked = daemon.loop?.ask { state, compiler in reply(report(state, compiler)) }
        if asked != true { reply(blank(.starting)) }
    }

    private func blank(_ state: StatusReport.State) -> StatusReport {
        StatusReport(
            version: pedpVersion, state: state,
            uptimeSeconds: ControlLoop.monotonic().seconds(since: daemon.started), pid: getpid(),
            configuration: daemon.path)
    }

    private func report(_ state: ControlState, _ compiler: TableCompiler) -> StatusReport {
        let tables = compiler.tables
        var report = blank(.healthy)
        let statuses = daemon.registry?.allStatus() ?? [:]
        report.alerts = daemon.alerts.all
        for (index, port) in daemon.configuration.ports.enumerated() {
            let number = UInt16(truncatingIfNeeded: index)
            let isUp = statuses[number]?.isUp ?? false
            let entry = tables.port(number)
            report.ports.append(
                StatusReport.Port(
                    name: port.name, driver: port.driver.rawValue,
                    role: daemon.numbering.isUnderlay[index]
                        ? "underlay" : entry?.role == .circuits ? "circuit" : "unused",
                    state: isUp ? "up" : "down", mtu: statuses[number]?.mtu ?? port.mtu))
            if !isUp { report.alerts.append("port \(port.name) is down: check \(port.device) and its peer") }
        }
        let control = state.controlRow(at: ControlLoop.monotonic())
        let configured = daemon.configuration.control
        report.fpmConnections = control.fpm.count
        report.routes = configured.routes.rawValue
        if configured.routes == .fpm, control.fpm.isEmpty {
            report.alerts.append(
                "zebra is not connected to FPM at \(configured.fpmListen ?? "-"): is it running with "
                    + "-M dplane_fpm_nl and \"fpm address\"?")
        }
        let unresolved = state.vtepRows().filter { $0.state == .unresolved }
        for vtep in unresolved.prefix(8) {
            report.alerts.append("VTEP \(vtep.address) is unresolved: no underlay route or neighbour")
        }
        addRouting(&report, state, compiler)
        report.workers = daemon.workers.count
        report.tables = [
            StatusReport.Table(name: "fdb", used: tables.macCount, capacity: tables.limits.macs),
            StatusReport.Table(name: "vteps", used: tables.tunnelCount, capacity: tables.limits.vteps),
            StatusReport.Table(name: "vrfs", used: state.numbering.vrfNames.count, capacity: tables.limits.vrfs - 1),
            StatusReport.Table(name: "routes", used: tables.routeCount, capacity: tables.limits.routes),
            StatusReport.Table(name: "groups", used: tables.groupCount, capacity: TableLimits.groups),
        ]
        if let environment = daemon.environment {
            report.buffers = StatusReport.Buffers(
                total: environment.options.bufferCount, free: Int(pe_pool_available(environment.packets)),
                hugePages: environment.usesHugepages, memory: environment.memory.text)
        }
        report.received = tables.counters.total(.received)
        report.sent = tables.counters.total(.sent)
        report.dropped = tables.counters.dropped
        if !report.alerts.isEmpty { report.state = .degraded }
        return report
    }

    /// What keeps routes from being used.
    private func addRouting(_ report: inout StatusReport, _ state: ControlState, _ compiler: TableCompiler) {
        for (vni, count) in state.routerMACsMissing.sorted(by: { $0.key < $1.key }) {
            report.alerts.append(
                "VNI \(vni): \(count) VTEPs that routes go to have no router MAC: see pe-dp show routes --vni \(vni)")
        }
        let needsTables = state.configuration.control.routes != .none
        for row in state.vrfRows() where needsTables && row.table == nil && row.vni != nil {
            report.alerts.append("VRF \(row.vrf) has no kernel table: there is no VRF device of that name")
        }
        if compiler.isRefusingRoutes {
            report.alerts.append(
                "routes do not fit (\(compiler.alarms.routesRefused) refused so far): raise dataplane.limits.routes")
        }
    }
}

extension ShowAnswer {
    /// The answer before anything is known.
    static func empty(_ topic: ShowTopic) -> ShowAnswer {
        switch topic {
        case .ports: .ports([])
        case .vnis: .vnis([])
        case .vrfs: .vrfs([])
        case .fdb: .fdb([])
        case .routes: .routes([])
        case .neighbors: .neighbors([])
        case .nexthops: .nexthops([])
        case .vteps: .vteps([])
        case .flood: .flood([])
        case .counters: .counters(CounterReport())
        case .drops: .drops([])
        case .control: .control(ControlRow())
        case .lcores: .lcores([])
        }
    }
}
