// Replays control streams and captures through the real code, offline and repeatably.

import CDPDK
import CLinux
import ControlPlane
import FastPath
import Foundation
import Tables
import Wire

/// What to replay.
struct ReplayInput {
    var configuration: Configuration
    var configurationPath: String
    /// FPM streams, each one connection of zebra's, one after the other.
    var fpm: [String] = []
    /// Dumps of netlink messages, each 4-byte aligned.
    var netlink: [String] = []
    /// Captures by port name, in the order in which they are sent.
    var captures: [(port: String, path: String)] = []
    var output: String
}

/// `summary.json`.
struct ReplaySummary: Codable {
    struct TableCounts: Codable {
        var fdb = 0, routes = 0, neighbors = 0, vteps = 0
    }
    struct ControlCounts: Codable {
        var frames: UInt64 = 0, messages: UInt64 = 0
        var errors: [String] = []
    }
    var received: UInt64 = 0
    var replicated: UInt64 = 0
    var sent: UInt64 = 0
    var punted: UInt64 = 0
    var dropped: [String: UInt64] = [:]
    var tables = TableCounts()
    var control = ControlCounts()
}

/// One replay: control streams first, then packets, one burst at a time.
///
/// Time is virtual: it starts at 1 s and moves by 1 ms a burst, and by more than the quiet period
/// after the control streams, so that resynchronisation is complete before the first packet.
final class Replay {
    private let input: ReplayInput
    private let numbering: PortNumbering
    private let tables: ForwardingTables
    private var state: ControlState
    private let compiler: TableCompiler
    private let ports: MemoryPorts
    private let worker: Worker
    private let environment: Environment
    private var now = Instant.seconds(1)
    private var outputs: [UInt16: OpaquePointer] = [:]
    private var summary = ReplaySummary()

    /// Starts DPDK without huge pages or privileges.
    init(_ input: ReplayInput) throws {
        self.input = input
        let configuration = Daemon.withExceptions(input.configuration)
        numbering = PortNumbering(configuration)
        var options = EnvironmentOptions()
        let cpu = Self.ownCPU()
        options.mainCPU = cpu
        options.workerCPUs = [cpu]
        options.hugepages = .never
        options.bufferCount = 4096
        options.headerCount = Self.copies(configuration) * 2 + 1024
        options.largestMTU = max(9000, configuration.ports.map(\.mtu).max() ?? 1500)
        options.filePrefix = "pe-dp-replay-\(getpid())"
        environment = try Environment.start(options)
        var limits = TableLimits(configuration)
        limits.workers = 1
        tables = try ForwardingTables(limits: limits)
        state = ControlState(configuration: configuration)
        compiler = try TableCompiler(&state, tables: tables, at: now)
        // Twice as many, rounded down, since part of the ring is the host's.
        let places = UInt32(1) << (64 - (Self.copies(configuration) | 32_767).leadingZeroBitCount + 1)
        guard let ports = MemoryPorts(name: "replay", portCapacity: limits.ports, txCapacity: places) else {
            throw DaemonError(description: "no memory for the replay's rings; free memory and try again")
        }
        self.ports = ports
        worker = Worker(
            index: 0, io: ports.io, tables: tables, packets: environment.packets,
            headers: environment.headers, usesClock: false)
        for (index, port) in configuration.ports.enumerated() {
            let number = UInt16(truncatingIfNeeded: index)
            let mac = port.mac ?? port.exception?.mac ?? Self.defaultMAC(number)
            ports.setPort(number, mtu: UInt16(clamping: port.mtu))
            apply(.portChanged(port: number, isUp: true, mac: mac, mtu: UInt16(clamping: port.mtu)))
            guard let exception = port.exception else { continue }
            let host = numbering.exception(of: number)
            let mtu = UInt16(clamping: exception.mtu ?? port.mtu)
            ports.setPort(host, mtu: mtu)
            apply(.portChanged(port: host, isUp: true, mac: exception.mac ?? mac, mtu: mtu))
        }
        flush()
    }

    /// Most copies that the floods of one burst make; a header buffer and a clone each. The bound is
    /// 128 MB of buffers.
    private static func copies(_ configuration: Configuration) -> Int {
        min(TableLimits.burst * configuration.dataplane.limits.floodTargets, 1 << 17)
    }

    /// A CPU that this process may use.
    private static func ownCPU() -> Int { (0..<1024).first { pe_cpu_allowed(Int32($0)) == 1 } ?? 0 }

    /// What a port's MAC is where the configuration names none: locally administered, `pe` and the index.
    static func defaultMAC(_ index: UInt16) -> MACAddress {
        MACAddress(0x02, 0x70, 0x65, 0x00, UInt8(index >> 8), UInt8(truncatingIfNeeded: index))
    }

    func run() throws -> ReplaySummary {
        try FileManager.default.createDirectory(
            atPath: input.output, withIntermediateDirectories: true)
        try openOutputs()
        if !input.netlink.isEmpty { try replayDump(input.netlink) }
        for (index, path) in input.fpm.enumerated() { try replayFPM(path, connection: index + 1) }
        settle()
        for capture in input.captures { try replayCapture(capture.port, capture.path) }
        settle()
        worker.finish()
        collect()
        for (index, writer) in outputs.sorted(by: { $0.key < $1.key }) {
            guard pe_pcap_finish(writer) == 0 else {
                throw DaemonError(description: "\(outputPath(index)): could not be written; is the disk full?")
            }
        }
        outputs = [:]
        try writeResults()
        return summary
    }

    // MARK: Control streams

    private func apply(_ event: ControlEvent) { tables.push(probes: state.apply(event, at: now)) }

    private func flush() { tables.push(probes: compiler.flush(&state, at: now)) }

    private func advance(seconds: Double) {
        let nanoseconds = UInt64(seconds * 1e9)
        now = Instant(nanoseconds: now.nanoseconds + nanoseconds)
        worker.advanceClock(nanoseconds: nanoseconds)
    }

    /// Lets quiet periods pass, in steps of at most a second, so that sweeps that wait for each other
    /// all happen, neighbours are asked again, and packets that wait for them are decided.
    private func settle() {
        let total = 2 * input.configuration.control.quietSeconds + 0.04
        let steps = max(4, Int(total.rounded(.up)))
        for _ in 0..<steps {
            advance(seconds: total / Double(steps))
            apply(.tick)
            flush()
            worker.serve()
            collect()
        }
    }

    private func read(_ path: String) throws -> [UInt8] {
        do {
            return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw DaemonError(description: "\(path): cannot be read: \(error.localizedDescription)")
        }
    }

    /// All streams are one dump: what one of them does not show is not gone.
    private func replayDump(_ paths: [String]) throws {
        apply(.kernelDumpBegan)
        for path in paths {
            let bytes = try read(path)
            let decoded = bytes.withUnsafeBytes { NetlinkDecoder.decode($0) }
            note(decoded.errors.map { "\(path): \($0)" })
            summary.control.messages += UInt64(decoded.messages.count)
            apply(.kernelDumped(decoded.messages))
        }
        apply(.kernelDumpEnded)
        flush()
    }

    private func replayFPM(_ path: String, connection: Int) throws {
        let bytes = try read(path)
        apply(.fpmConnected(connection: connection))
        var deframer = FPMDeframer()
        var events: [ControlEvent] = []
        bytes.withUnsafeBytes { raw in
            deframer.feed(raw) { event in
                switch event {
                case .frame(let payload):
                    let decoded = NetlinkDecoder.decode(payload)
                    summary.control.frames += 1
                    summary.control.messages += UInt64(decoded.messages.count)
                    events.append(.fpmFrame(connection: connection, decoded.messages))
                    for error in decoded.errors {
                        note(["\(path): \(error)"])
                        events.append(.fpmError(connection: connection, "\(error)"))
                    }
                case .fault(let fault, let offset):
                    note(["\(path): byte \(offset): \(fault)"])
                    events.append(.fpmError(connection: connection, "byte \(offset): \(fault)"))
                }
            }
        }
        if deframer.pendingCount > 0 {
            note(["\(path): ends within a frame, \(deframer.pendingCount) bytes left over"])
        }
        for event in events {
            apply(event)
            advance(seconds: 0.000_01)
        }
        flush()
        // The next stream is zebra's next connection.
        if connection < input.fpm.count || deframer.isBroken {
            apply(.fpmDisconnected(connection: connection))
            flush()
        }
    }

    private func note(_ errors: [String]) {
        for error in errors where summary.control.errors.count < 1000 { summary.control.errors.append(error) }
    }

    // MARK: Packets

    private func outputPath(_ index: UInt16) -> String { "\(input.output)/\(numbering.name(of: index)).pcap" }

    private func openOutputs() throws {
        for (index, _) in numbering.names.enumerated() {
            let number = UInt16(truncatingIfNeeded: index)
            outputs[number] = try create(outputPath(number))
            if numbering.hasException[index] {
                let host = numbering.exception(of: number)
                outputs[host] = try create(outputPath(host))
            }
        }
    }

    private func create(_ path: String) throws -> OpaquePointer {
        var text = [CChar](repeating: 0, count: 256)
        guard let writer = pe_pcap_create(path, &text) else {
            throw DaemonError(description: "\(path): cannot be created: \(Self.string(text))")
        }
        return writer
    }

    private static func string(_ text: [CChar]) -> String {
        String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private func replayCapture(_ name: String, _ path: String) throws {
        let port: UInt16
        if let found = numbering.port(named: name) {
            port = found
        } else if name.hasSuffix(".host"), let parent = numbering.port(named: String(name.dropLast(5))),
            numbering.hasException[Int(parent)]
        {
            port = numbering.exception(of: parent)
        } else {
            throw DaemonError(
                description: "--in \(name)=\(path): no port \(name) in \(input.configurationPath); ports: "
                    + numbering.names.joined(separator: ", "))
        }
        var text = [CChar](repeating: 0, count: 256)
        guard let reader = pe_pcap_open(path, &text) else {
            throw DaemonError(description: "--in \(name)=\(path): \(Self.string(text))")
        }
        defer { pe_pcap_close(reader) }
        var burst: [MBuf] = []
        while true {
            var bytes: UnsafePointer<UInt8>?
            var captured: UInt32 = 0
            var length: UInt32 = 0
            var time: UInt64 = 0
            let result = pe_pcap_next(reader, &bytes, &captured, &length, &time, &text)
            if result < 0 { throw DaemonError(description: "--in \(name)=\(path): \(Self.string(text))") }
            if result == 0 { break }
            let frame = [UInt8](UnsafeBufferPointer(start: bytes, count: Int(captured)))
            guard let packet = PacketBytes.make(frame, port: port, pool: environment.packets) else {
                throw DaemonError(
                    description: "--in \(name)=\(path): a frame of \(captured) bytes does not fit a buffer; "
                        + "cut it or raise the mtu of a port")
            }
            burst.append(packet)
            if burst.count == TableLimits.burst { runBurst(&burst) }
        }
        runBurst(&burst)
    }

    /// One burst through the worker.
    private func runBurst(_ burst: inout [MBuf]) {
        guard !burst.isEmpty else { return }
        worker.process(burst)
        burst.removeAll(keepingCapacity: true)
        collect()
        advance(seconds: 0.001)
        // What the control plane decided about these packets happens before the next burst.
        worker.serve()
        collect()
    }

    /// What the worker sent into the captures, what it saw into the control plane.
    private func collect() {
        worker.advanceStamp()
        for packet in ports.takeSent() {
            let bytes = PacketBytes.of(packet)
            if let writer = outputs[packet.pointee.port] {
                pe_pcap_write(writer, bytes, UInt32(bytes.count), now.nanoseconds)
            }
            pe_mbuf_free(packet)
        }
        for ring in tables.learning.workers {
            while let event = ring.pop() { apply(.learned(event)) }
        }
        for ring in tables.neighborRings.workers {
            while let event = ring.pop() { apply(.neighborSeen(event)) }
        }
        flush()
    }

    // MARK: Results

    private func writeResults() throws {
        let counters = tables.counters
        summary.received = counters.total(.received)
        summary.replicated = counters.total(.replicated)
        summary.sent = counters.total(.sent)
        summary.punted = counters.total(.punted)
        for reason in DropReason.allCases where counters.total(reason) > 0 {
            summary.dropped[reason.name] = counters.total(reason)
        }
        let show = ShowSource(
            state: state, compiler: compiler, numbering: numbering,
            statuses: [:], shadow: ShadowCounts(), now: now)
        var everything: [String: Any] = [:]
        for topic in ShowTopic.allCases {
            let json = try show.answer(topic).json()
            everything[topic.rawValue] = try JSONSerialization.jsonObject(with: json)
        }
        summary.tables.fdb = (everything["fdb"] as? [Any])?.count ?? 0
        summary.tables.routes = state.routeCount
        summary.tables.neighbors = state.tableCounts.neighbors
        summary.tables.vteps = (everything["vteps"] as? [Any])?.count ?? 0
        let stateJSON = try JSONSerialization.data(
            withJSONObject: everything, options: [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes])
        try stateJSON.write(to: URL(fileURLWithPath: "\(input.output)/state.json"))
        try JSON.encode(summary, pretty: true).write(
            to: URL(fileURLWithPath: "\(input.output)/summary.json"))
    }
}
