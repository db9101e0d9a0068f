// The answers of `pe-dp show` and `pe-dp status` as text for people.

extension ShowAnswer {
    /// The rows as a table, in the order of ``sorted()``.
    public var table: String {
        switch sorted() {
        case .ports(let rows): Self.table(rows)
        case .vnis(let rows): Self.table(rows)
        case .vrfs(let rows): Self.table(rows)
        case .fdb(let rows): Self.table(rows)
        case .routes(let rows): Self.table(rows)
        case .neighbors(let rows): Self.table(rows)
        case .nexthops(let rows): Self.table(rows)
        case .vteps(let rows): Self.table(rows)
        case .flood(let rows): Self.table(rows)
        case .counters(let counters): Self.table(counters)
        case .drops(let rows): Self.table(rows)
        case .control(let row): Self.table(row)
        case .lcores(let rows): Self.table(rows)
        }
    }

    private static func table(_ rows: [PortRow]) -> String {
        var table = TextTable(
            "PORT",
            "DRIVER",
            "DEVICE",
            "ROLE",
            "STATE",
            "MAC",
            ">MTU",
            ">RX",
            ">TX",
            ">RX-DROP",
            ">TX-DROP",
            "EXCEPTION"
        )
        for row in rows {
            table.add(
                row.name,
                row.driver,
                Human.text(row.device.isEmpty ? nil : row.device),
                row.role,
                row.state,
                Human.text(row.mac),
                String(row.mtu),
                String(row.rxPackets),
                String(row.txPackets),
                String(row.rxDropped),
                String(row.txDropped),
                Human.text(row.exception)
            )
        }
        return table.text
    }

    private static func table(_ rows: [VNIRow]) -> String {
        var table = TextTable(
            ">VNI",
            "TYPE",
            "NAME",
            "VRF",
            "LOCAL-VTEP",
            ">UDP",
            ">MACS",
            ">REMOTE",
            ">VTEPS",
            "CIRCUITS"
        )
        for row in rows {
            table.add(
                String(row.vni),
                row.type,
                row.name,
                Human.text(row.vrf),
                Human.text(row.localVTEP),
                String(row.vxlanPort),
                String(row.localMACs),
                String(row.remoteMACs),
                String(row.vteps),
                Human.circuits(row.circuits)
            )
        }
        return table.text
    }

    private static func table(_ rows: [VRFRow]) -> String {
        var table = TextTable(
            "VRF", ">TABLE", ">VNI", "ROUTER-MAC", ">ROUTES", ">INSTALLED", "L2VNIS", "PORTS", "REMARK")
        for row in rows {
            table.add(
                row.vrf,
                Human.text(row.table),
                Human.text(row.vni),
                Human.text(row.routerMAC),
                String(row.routes),
                Human.text(row.installed),
                Human.list(row.l2vnis.map { String($0) }),
                Human.list(row.ports),
                row.reason
                    ?? (row.missingRouterMACs == 0 ? "-" : "\(row.missingRouterMACs) VTEPs without router MAC")
            )
        }
        return table.text
    }

    private static func table(_ rows: [FDBRow]) -> String {
        var table = TextTable(">VNI", "MAC", "TYPE", "WHERE", "STICKY", ">AGE", "SOURCE")
        for row in rows {
            let place =
                row.group.map { "group \($0): \(row.vtep ?? "no member")" } ?? row.vtep
                ?? row.port.map { port in row.vlan.map { "\(port).\($0)" } ?? port }
            table.add(
                String(row.vni),
                row.mac,
                row.type.rawValue,
                Human.text(place),
                row.sticky ? "yes" : "no",
                Human.duration(row.ageSeconds),
                row.source
            )
        }
        return table.text
    }

    private static func table(_ rows: [RouteRow]) -> String {
        var table = TextTable("VRF", "PREFIX", "PROTOCOL", "KIND", "STATE", "NEXT HOPS")
        for row in rows {
            let hops = row.nextHops.map { hop in
                [
                    hop.vtep.map { "vtep \($0)" }, hop.vni.map { "vni \($0)" },
                    hop.routerMAC.map { "rmac \($0)" }, hop.gateway.map { "via \($0)" },
                    hop.interface.map { "dev \($0)" }, hop.vrf.map { "vrf \($0)" },
                    hop.weight == 1 ? nil : "weight \(hop.weight)", hop.slots.map { "slots \($0)" },
                    hop.reason.map { "(\($0))" },
                ].compactMap { $0 }.joined(separator: " ")
            }
            table.add(
                row.vrf,
                row.prefix,
                row.protocol,
                row.kind,
                state(row),
                hops.isEmpty ? "-" : hops.joined(separator: ", ")
            )
        }
        return table.text
    }

    /// A next hop says itself why it cannot be used.
    private static func state(_ row: RouteRow) -> String {
        guard let state = row.state?.rawValue else { return "-" }
        guard let reason = row.reason, row.state != .waiting || row.nextHops.isEmpty else { return state }
        return "\(state): \(reason)"
    }

    private static func table(_ rows: [NeighborRow]) -> String {
        var table = TextTable(
            ">VNI", "VRF", "INTERFACE", "IP", "MAC", "TYPE", "STATE", ">SEEN", "AT", "EXPORTED", "SOURCE")
        for row in rows {
            table.add(
                Human.text(row.vni),
                Human.text(row.vrf),
                Human.text(row.interface),
                row.ip,
                Human.text(row.mac),
                row.type,
                row.state,
                Human.text(row.lastSeenSeconds.map { "\(Int($0))s" }),
                Human.text(row.vtep ?? row.port.map { $0 + (row.vlan.map { ".\($0)" } ?? "") }),
                Human.text(row.exported.map { $0 ? "yes" : "no" }),
                row.source
            )
        }
        return table.text
    }

    private static func table(_ rows: [NextHopRow]) -> String {
        var table = TextTable(
            ">ID", "KIND", "GATEWAY", "INTERFACE", ">VNI", "ROUTER-MAC", ">ROUTES", "MEMBERS", "SOURCE", "REMARK")
        for row in rows {
            let members = Human.list(
                row.members.map { member in
                    "\(member.id)x\(member.weight)" + (member.slots.map { " (\($0) slots)" } ?? "")
                })
            table.add(
                String(row.id),
                row.kind,
                Human.text(row.gateway),
                Human.text(row.interface),
                Human.text(row.vni),
                Human.text(row.routerMAC),
                String(row.routes),
                row.isComplete ? members : "\(members) (incomplete)",
                row.source,
                Human.text(row.reason)
            )
        }
        return table.text
    }

    private static func table(_ rows: [VTEPRow]) -> String {
        var table = TextTable("VTEP", "STATE", "PATHS", "VNIS")
        for row in rows {
            let paths = row.nextHops.map { path in
                "\(path.port) \(path.mac ?? "?")\(path.address.map { " via \($0)" } ?? "")"
            }
            table.add(
                row.address,
                row.state.rawValue,
                paths.isEmpty ? "-" : paths.joined(separator: ", "),
                Human.list(row.vnis.map { String($0) })
            )
        }
        return table.text
    }

    private static func table(_ rows: [FloodRow]) -> String {
        var table = TextTable(">VNI", "CIRCUITS", "VTEPS")
        for row in rows {
            table.add(String(row.vni), Human.circuits(row.circuits), Human.list(row.vteps))
        }
        return table.text
    }

    private static func table(_ counters: CounterReport) -> String {
        var totals = TextTable("COUNTER", ">PACKETS")
        totals.add("received", String(counters.received))
        totals.add("replicated", String(counters.replicated))
        totals.add("sent", String(counters.sent))
        totals.add("punted", String(counters.punted))
        for (reason, count) in counters.dropped.sorted(by: { $0.key < $1.key }) where count > 0 {
            totals.add("dropped: \(reason)", String(count))
        }
        for (name, count) in counters.services.sorted(by: { $0.key < $1.key }) where count > 0 {
            totals.add(name, String(count))
        }
        var text = totals.text
        if !counters.domains.isEmpty {
            var table = TextTable(
                ">VNI",
                ">CIRCUIT-IN",
                ">BYTES",
                ">TUNNEL-IN",
                ">BYTES",
                ">CIRCUIT-OUT",
                ">BYTES",
                ">TUNNEL-OUT",
                ">BYTES"
            )
            for row in counters.domains {
                table.add(
                    String(row.vni),
                    String(row.circuitInPackets),
                    String(row.circuitInBytes),
                    String(row.tunnelInPackets),
                    String(row.tunnelInBytes),
                    String(row.circuitOutPackets),
                    String(row.circuitOutBytes),
                    String(row.tunnelOutPackets),
                    String(row.tunnelOutBytes)
                )
            }
            text += "\n" + table.text
        }
        if !counters.vrfs.isEmpty {
            var table = TextTable(
                "VRF", ">LOCAL-IN", ">BYTES", ">TUNNEL-IN", ">BYTES", ">LOCAL-OUT", ">BYTES", ">TUNNEL-OUT", ">BYTES")
            for row in counters.vrfs {
                table.add(
                    row.vrf, String(row.localInPackets), String(row.localInBytes), String(row.tunnelInPackets),
                    String(row.tunnelInBytes), String(row.localOutPackets), String(row.localOutBytes),
                    String(row.tunnelOutPackets), String(row.tunnelOutBytes))
            }
            text += "\n" + table.text
        }
        if !counters.ports.isEmpty {
            var table = TextTable(
                "PORT",
                ">RX",
                ">RX-BYTES",
                ">TX",
                ">TX-BYTES",
                ">DROPPED",
                ">PUNTED",
                ">FROM-HOST"
            )
            for row in counters.ports {
                table.add(
                    row.port,
                    String(row.rxPackets),
                    String(row.rxBytes),
                    String(row.txPackets),
                    String(row.txBytes),
                    String(row.dropped),
                    String(row.punted),
                    String(row.fromHost)
                )
            }
            text += "\n" + table.text
        }
        return text
    }

    private static func table(_ rows: [DropRow]) -> String {
        var table = TextTable("REASON", ">PACKETS", "MEANING")
        for row in rows { table.add(row.reason, String(row.packets), row.meaning) }
        return table.text
    }

    private static func table(_ row: ControlRow) -> String {
        var table = TextTable("CONTROL", "VALUE")
        table.add("routes from", row.routes)
        table.add("fpm listens on", Human.text(row.listen))
        table.add("fpm frames", String(row.frames))
        table.add("fpm messages", String(row.messages))
        table.add("errors", String(row.errorCount))
        table.add("stale entries", String(row.stale))
        for (source, generation) in row.generations.sorted(by: { $0.key < $1.key }) {
            table.add("generation of \(source)", String(generation))
        }
        table.add("kernel netns", row.kernel.netns ?? "(own)")
        table.add("kernel dumps", String(row.kernel.dumps))
        table.add("kernel notifications", String(row.kernel.notifications))
        table.add("kernel overruns", String(row.kernel.overruns))
        table.add("kernel requests", "\(row.kernel.requests) (\(row.kernel.requestsFailed) failed)")
        let shadow = row.shadow
        table.add(
            "shadow devices",
            shadow.isEnabled
                ? "\(shadow.bridges) bridges, \(shadow.vxlans) vxlans, \(shadow.vrfs) vrfs, "
                    + "\(shadow.taps) taps" : "off"
        )
        let neighbors = row.neighbors
        table.add("gateway claims refused", String(neighbors.gatewayClaims))
        table.add(
            "neighbors refused",
            "\(neighbors.refusedByMAC) per MAC, \(neighbors.refusedByDomain) per VNI, "
                + "\(neighbors.refusedByLimit) in all, \(neighbors.invalid) invalid"
        )
        table.add(
            "neighbors learned",
            "\(neighbors.learned) (\(neighbors.takenOver) taken over, \(neighbors.yielded) yielded, "
                + "\(neighbors.expired) expired)"
        )
        table.add(
            "neighbors resolved",
            "\(neighbors.unresolved) asked for (\(neighbors.failed) failed, \(neighbors.evicted) evicted, "
                + "\(neighbors.rateLimited) rate-limited), \(neighbors.probes) probes"
        )
        table.add("learn overflows", String(row.learnOverflows))
        var text = table.text
        if !row.fpm.isEmpty {
            var table = TextTable(">FPM", "PEER", ">FRAMES", ">MESSAGES", ">ERRORS", ">AGE")
            for fpm in row.fpm {
                table.add(
                    String(fpm.connection),
                    fpm.peer,
                    String(fpm.frames),
                    String(fpm.messages),
                    String(fpm.errors),
                    Human.duration(fpm.ageSeconds)
                )
            }
            text += "\n" + table.text
        }
        if !row.errors.isEmpty {
            text += "\nRecent errors:\n" + row.errors.map { "  \($0)\n" }.joined()
        }
        return text
    }

    private static func table(_ rows: [LcoreRow]) -> String {
        var table = TextTable(
            ">LCORE",
            "ROLE",
            ">CPU",
            ">NODE",
            "MEMORY",
            ">BUSY",
            ">POLLS",
            ">PACKETS",
            ">BURST",
            ">CYCLES/PKT",
            ">SLEEPS"
        )
        for row in rows {
            table.add(
                String(row.lcore),
                row.role,
                Human.text(row.cpu),
                Human.text(row.node),
                row.memoryNode.map { "node \($0)" } ?? "anywhere",
                Human.percent(row.busy),
                String(row.polls),
                String(row.packets),
                Human.decimal(row.burstSize),
                Human.decimal(row.cyclesPerPacket),
                String(row.sleeps)
            )
        }
        return table.text
    }
}

extension StatusReport {
    /// One screen.
    public var screen: String {
        var text =
            "pe-dp \(version)  pid \(pid)  up \(Human.duration(uptimeSeconds))  "
            + "workers \(workers)  state \(state.rawValue.uppercased())\n"
            + "configuration \(configuration)\n\n"
        var table = TextTable("PORT", "DRIVER", "ROLE", "STATE", ">MTU")
        for port in ports {
            table.add(port.name, port.driver, port.role, port.state, String(port.mtu))
        }
        text += table.text
        var usage = TextTable("TABLE", ">USED", ">CAPACITY", ">FULL")
        for row in tables {
            let share = row.capacity > 0 ? Double(row.used) / Double(row.capacity) : 0
            usage.add(row.name, String(row.used), String(row.capacity), Human.percent(share))
        }
        text += "\n" + usage.text
        text +=
            "\nPACKETS   received \(received)  sent \(sent)  dropped \(dropped)\n"
            + "CONTROL   routes from \(routes)  fpm connections \(fpmConnections)\n"
        if let buffers {
            text += "BUFFERS   \(buffers.free) of \(buffers.total) free; \(buffers.memory)\n"
        }
        if alerts.isEmpty { return text + "ALERTS    none\n" }
        return text + "ALERTS\n" + alerts.map { "  \($0)\n" }.joined()
    }
}
