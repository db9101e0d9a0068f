// Fixtures of the control-state tests: configurations, recordings, states as lines of text.

import CLinux
import Glibc
import Tables
import Wire

@testable import ControlPlane

/// A control state with its tables, driven like the daemon drives them.
final class ControlRig {
    var state: ControlState
    let compiler: TableCompiler
    let tables: ForwardingTables
    var now = Instant.seconds(1000)
    var effects: [ControlEffect] = []

    init(_ configuration: Configuration, limits: TableLimits? = nil) throws {
        state = ControlState(configuration: configuration)
        tables = try ForwardingTables(limits: limits ?? TableLimits(configuration))
        compiler = try TableCompiler(&state, tables: tables, at: Instant.seconds(1000))
    }
    /// Applies events as one batch.
    @discardableResult
    func apply(_ events: ControlEvent...) -> [ControlEffect] { batch(events) }
    @discardableResult
    func batch(_ events: [ControlEvent]) -> [ControlEffect] {
        var found: [ControlEffect] = []
        for event in events { found += state.apply(event, at: now) }
        found += compiler.flush(&state, at: now)
        effects += found
        return found
    }
    /// Lets time pass in steps, with ticks as the daemon gives them.
    @discardableResult
    func wait(_ seconds: Double, step: Double = 0.5) -> [ControlEffect] {
        var found: [ControlEffect] = []
        var left = seconds
        while left > 0 {
            now = Instant(nanoseconds: now.nanoseconds + UInt64(min(step, left) * 1e9))
            found += batch([.tick])
            left -= step
        }
        return found
    }
    func dump(_ messages: [NetlinkMessage]) {
        apply(.kernelDumpBegan, .kernelDumped(messages), .kernelDumpEnded)
    }
    /// Where the tables place a MAC, as text.
    func place(_ vni: UInt32, _ mac: String) -> String? {
        guard let vni = VNI(vni), let domain = state.numbering.domain(of: vni),
            let mac = MACAddress(mac),
            let value = tables.mac(domain: domain, mac)
        else { return nil }
        if value.isGateway { return "gateway" }
        if value.isCircuit {
            let circuit = state.numbering.circuit(value.index)
            return "\(state.numbering.name(of: circuit?.port ?? 999))"
                + (circuit.map { $0.vlan == 0 ? "" : ".\($0.vlan)" } ?? "")
        }
        return (tables.remote(of: value.index)?.description ?? "?")
            + (value.isSticky ? " sticky" : "")
    }
    /// The VTEPs that packets of a VNI are accepted from.
    func members(_ vni: UInt32) -> [String] {
        guard let vni = VNI(vni), let domain = state.numbering.domain(of: vni) else { return [] }
        let view = tables.reader(worker: 0).current.assumingMemoryBound(to: ForwardingState.self)
            .pointee
        return (0..<UInt32(tables.limits.vteps)).filter {
            view.isMember(domain: domain, tunnel: $0)
        }
        .compactMap { tables.remote(of: $0)?.description }.sorted()
    }
    /// The flood list of a VNI as the workers have it.
    func flood(_ vni: UInt32) -> [String] {
        guard let vni = VNI(vni), let domain = state.numbering.domain(of: vni) else { return [] }
        let view = tables.reader(worker: 0).current.assumingMemoryBound(to: ForwardingState.self)
            .pointee
        guard let list = view.domains[Int(domain)].flood else { return [] }
        return (0..<list.circuitCount).map {
            state.numbering.name(of: state.numbering.circuit(list.circuit($0))?.port ?? 999)
        }
            // Tables order them by index, which is the order in which tunnels came.
            + (0..<list.tunnelCount).compactMap { tables.remote(of: list.tunnel($0)) }.sorted().map(\.description)
    }
    func paths(_ vtep: String) -> String {
        guard let address = IPAddress(vtep),
            let tunnel = (0..<UInt32(tables.limits.vteps)).first(where: {
                tables.remote(of: $0) == address
            })
        else { return "none" }
        let found = tables.paths(of: tunnel)
        if found.paths.isEmpty { return found.unusable.map(\.name) ?? "?" }
        return found.paths.map {
            "\(state.numbering.name(of: $0.port)) \($0.nextHopMAC)"
                + ($0.weight == 1 ? "" : " x\($0.weight)")
        }.joined(separator: ", ")
    }
}

extension ControlState {
    /// `VNI MAC VTEP` of every remote MAC, `VNI MAC port` of every local one.
    func macLines(at now: Instant) -> [String] {
        fdbRows(at: now).map {
            "\($0.vni) \($0.mac) \($0.vtep ?? $0.port ?? "?")" + ($0.sticky ? " sticky" : "")
        }
    }
    var routerMACLines: [String] {
        routerMACs.rows.keys.compactMap { key in
            routerMACs.mac(key.vni, key.vtep).map { "\(key.vni) \(key.vtep) \($0.mac)" }
        }.sorted()
    }
    var routeLines: [String] {
        routeRows().map { row in
            let hops = row.nextHops.map { hop in
                if let vtep = hop.vtep {
                    return "vtep \(vtep) \(hop.vni ?? 0) \(hop.routerMAC ?? "no-rmac")"
                }
                return (hop.gateway.map { "via \($0) " } ?? "") + "dev \(hop.interface ?? "?")"
            }
            return "\(row.vrf) \(row.prefix) \(row.protocol) " + hops.joined(separator: " + ")
        }
    }
    var groupLines: [String] {
        nextHopRows().filter { !$0.members.isEmpty }.map { row in
            "\(row.id) " + row.members.map { "\($0.id)" }.joined(separator: "/")
                + (row.isComplete ? "" : " incomplete")
        }
    }
}

enum FPMRecording {
    /// How a stream is cut before it is fed.
    enum Cut: Hashable, CustomStringConvertible {
        case whole, bytes, random(UInt64)
        var description: String {
            switch self {
            case .whole: "whole"
            case .bytes: "byte by byte"
            case .random(let seed): "cut at random, seed \(seed)"
            }
        }
    }
    static let cuts: [Cut] = [.whole, .bytes] + (1...8).map { .random($0) }

    static func read(_ name: String) throws -> [UInt8] {
        let path =
            (#filePath as String).split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }
            + "/Recordings/" + name
        guard let file = fopen(path, "rb") else { throw Missing(path: path) }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = fread(&chunk, 1, chunk.count, file)
            if count == 0 { return bytes }
            bytes += chunk[0..<count]
        }
    }
    struct Missing: Error { var path: String }

    /// The kernel's dump of a mode.
    static func links(_ mode: String) throws -> [NetlinkMessage] {
        NetlinkDecoder.decode(try read("links-\(mode).bin")).messages
    }

    /// Feeds one connection's bytes through deframer and decoder.
    static func feed(_ bytes: [UInt8], cut: Cut, connection: Int, into rig: ControlRig) {
        var deframer = FPMDeframer()
        var random = SplitMix(state: 0)
        if case .random(let seed) = cut { random = SplitMix(state: seed) }
        var position = 0
        while position < bytes.count {
            let length: Int
            switch cut {
            case .whole: length = bytes.count
            case .bytes: length = 1
            case .random: length = Int.random(in: 1...200, using: &random)
            }
            let end = min(bytes.count, position + length)
            var events: [ControlEvent] = []
            bytes[position..<end].withUnsafeBytes { chunk in
                deframer.feed(chunk) { event in
                    switch event {
                    case .frame(let frame):
                        let decoded = NetlinkDecoder.decode(frame)
                        events.append(.fpmFrame(connection: connection, decoded.messages))
                        for error in decoded.errors {
                            events.append(.fpmError(connection: connection, "\(error)"))
                        }
                    case .fault(let fault, let offset):
                        events.append(.fpmError(connection: connection, "\(fault) at \(offset)"))
                    }
                }
            }
            if !events.isEmpty { rig.batch(events) }
            position = end
        }
    }

    /// pe1 of the recordings' topology.
    static func configuration(vrf: String) -> Configuration {
        var configuration = Configuration()
        var underlay = Configuration.Port(name: "u0", driver: .afPacket, device: "eth-u0")
        underlay.exception = Configuration.Exception()
        configuration.ports = [
            underlay, Configuration.Port(name: "host", driver: .afPacket, device: "veth-h"),
        ]
        var local = Configuration.Underlay()
        local.interfaces = ["u0"]
        local.tunnelEndpoints = [IPAddress("10.0.0.1")].compactMap { $0 }
        configuration.underlays = [local]
        if let l2 = VNI(10100), let l3 = VNI(50000) {
            var l2vni = Configuration.L2VNI(name: "l2", vni: l2)
            l2vni.circuits = [.init(port: "host")]
            configuration.l2vnis = [l2vni]
            configuration.l3vnis = [Configuration.L3VNI(vrf: vrf, vni: l3)]
        }
        return configuration
    }
}

/// SplitMix64: a seeded generator.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
