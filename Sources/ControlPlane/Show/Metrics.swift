// The Prometheus text format (version 0.0.4) of status, counters, ports, lcores and control plane.

/// Builds one scrape; every family is announced once, before its samples.
public struct MetricsText: Sendable {
    public private(set) var text = ""
    public init() {}

    /// One sample line's labels and value.
    public typealias Sample = (labels: [(String, String)], value: Double)

    /// Appends a family; one without samples is left out.
    public mutating func family(
        _ name: String,
        type: String,
        help: String,
        _ samples: [Sample]
    ) {
        guard !samples.isEmpty else { return }
        text += "# HELP pedp_\(name) \(help)\n# TYPE pedp_\(name) \(type)\n"
        for sample in samples {
            let labels = sample.labels.map { "\($0.0)=\"\(Self.escape($0.1))\"" }
            text += "pedp_\(name)"
            if !labels.isEmpty { text += "{\(labels.joined(separator: ","))}" }
            text += " \(Self.number(sample.value))\n"
        }
    }

    private static func escape(_ value: String) -> String {
        var result = ""
        for character in value {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.append(character)
            }
        }
        return result
    }

    private static func number(_ value: Double) -> String {
        value.isFinite && value.rounded() == value && abs(value) < 9e15
            ? String(Int64(value)) : value.isNaN ? "NaN" : value.isInfinite ? "+Inf" : String(value)
    }
}

extension MetricsText {
    /// Appends health, table use and buffers.
    public mutating func add(_ status: StatusReport) {
        family(
            "build_info",
            type: "gauge",
            help: "Always 1; the version is a label.",
            [([("version", status.version)], 1)]
        )
        family(
            "up_seconds",
            type: "gauge",
            help: "Seconds since the daemon started.",
            [([], status.uptimeSeconds)]
        )
        family(
            "degraded",
            type: "gauge",
            help: "1 when something configured does not work.",
            [([], status.state == .degraded ? 1 : 0)]
        )
        family(
            "table_entries",
            type: "gauge",
            help: "Entries in use by table.",
            status.tables.map { ([("table", $0.name)], Double($0.used)) }
        )
        family(
            "table_capacity",
            type: "gauge",
            help: "Entries that fit, by table.",
            status.tables.map { ([("table", $0.name)], Double($0.capacity)) }
        )
        family(
            "port_up",
            type: "gauge",
            help: "1 when the port is up.",
            status.ports.map { ([("port", $0.name)], $0.state == "up" ? 1 : 0) }
        )
        guard let buffers = status.buffers else { return }
        family("mbufs", type: "gauge", help: "Packet buffers.", [([], Double(buffers.total))])
        family(
            "mbufs_free",
            type: "gauge",
            help: "Free packet buffers.",
            [([], Double(buffers.free))]
        )
    }

    /// Appends what `pe-dp show` of this topic prints; topics without figures append nothing.
    public mutating func add(_ answer: ShowAnswer) {
        switch answer.sorted() {
        case .counters(let counters): add(counters)
        case .ports(let rows): add(rows)
        case .lcores(let rows): add(rows)
        case .control(let row): add(row)
        default: break
        }
    }

    private mutating func add(_ counters: CounterReport) {
        let totals = [
            ("received", counters.received), ("replicated", counters.replicated),
            ("sent", counters.sent), ("punted", counters.punted),
        ]
        for (name, value) in totals {
            family(
                "packets_\(name)_total",
                type: "counter",
                help: "Packets \(name).",
                [([], Double(value))]
            )
        }
        family(
            "services_total",
            type: "counter",
            help: "What gateways and suppression did: requests answered, errors and probes sent.",
            counters.services.filter { $0.key != "waiting" }.sorted { $0.key < $1.key }.map {
                ([("what", $0.key)], Double($0.value))
            }
        )
        family(
            "drops_total",
            type: "counter",
            help: "Packets dropped, by the one reason of each.",
            counters.dropped.sorted { $0.key < $1.key }.map {
                ([("reason", $0.key)], Double($0.value))
            }
        )
        let fields: [(String, String, KeyPath<CounterReport.Domain, UInt64>)] = [
            ("circuit_in_packets", "Packets from circuits.", \.circuitInPackets),
            ("circuit_in_bytes", "Bytes from circuits.", \.circuitInBytes),
            ("tunnel_in_packets", "Packets from tunnels.", \.tunnelInPackets),
            ("tunnel_in_bytes", "Bytes from tunnels.", \.tunnelInBytes),
            ("circuit_out_packets", "Packets to circuits.", \.circuitOutPackets),
            ("circuit_out_bytes", "Bytes to circuits.", \.circuitOutBytes),
            ("tunnel_out_packets", "Packets to tunnels.", \.tunnelOutPackets),
            ("tunnel_out_bytes", "Bytes to tunnels.", \.tunnelOutBytes),
        ]
        for (name, help, path) in fields {
            family(
                "vni_\(name)_total",
                type: "counter",
                help: help,
                counters.domains.map { ([("vni", String($0.vni))], Double($0[keyPath: path])) }
            )
        }
    }

    private mutating func add(_ rows: [PortRow]) {
        let fields: [(String, String, KeyPath<PortRow, UInt64>)] = [
            ("rx_packets", "Packets received.", \.rxPackets),
            ("rx_bytes", "Bytes received.", \.rxBytes),
            ("tx_packets", "Packets sent.", \.txPackets),
            ("tx_bytes", "Bytes sent.", \.txBytes),
            ("rx_dropped", "Packets that the port lost on receipt.", \.rxDropped),
            ("tx_dropped", "Packets that the port lost on transmit.", \.txDropped),
        ]
        for (name, help, path) in fields {
            family(
                "port_\(name)_total",
                type: "counter",
                help: help,
                rows.map { ([("port", $0.name)], Double($0[keyPath: path])) }
            )
        }
    }

    private mutating func add(_ rows: [LcoreRow]) {
        let label = { (row: LcoreRow) in [("lcore", String(row.lcore)), ("role", row.role)] }
        family(
            "lcore_busy_ratio",
            type: "gauge",
            help: "Share of time spent on packets.",
            rows.map { (label($0), $0.busy) }
        )
        family(
            "lcore_packets_total",
            type: "counter",
            help: "Packets handled by the lcore.",
            rows.map { (label($0), Double($0.packets)) }
        )
    }

    private mutating func add(_ row: ControlRow) {
        family(
            "fpm_connections",
            type: "gauge",
            help: "Connections of zebra's FPM module.",
            [([], Double(row.fpm.count))]
        )
        family(
            "fpm_messages_total",
            type: "counter",
            help: "Netlink messages received over FPM.",
            [([], Double(row.messages))]
        )
        family(
            "control_errors_total",
            type: "counter",
            help: "Control messages that were refused.",
            [([], Double(row.errorCount))]
        )
        family(
            "control_stale_entries",
            type: "gauge",
            help: "Entries that wait for a sweep.",
            [([], Double(row.stale))]
        )
        family(
            "kernel_overruns_total",
            type: "counter",
            help: "Times that the kernel lost notifications.",
            [([], Double(row.kernel.overruns))]
        )
    }
}
