// Control streams of any bytes: FPM framing, netlink decoding, the control state, the compiled tables.

import ControlPlane
import Tables
import Wire

/// An input is a byte that chooses the configuration, then steps: kind, length (two bytes), payload.
public enum ControlFuzz {
    enum Step: UInt8, CaseIterable {
        case fpm, otherFPM, reconnect, dump, notification, overrun, tick, learned, portChanged
        case exceptionAttached, shadowAttached, requestFailed, flush, neighbor
    }

    public static func run(_ bytes: UnsafeRawBufferPointer) {
        var input = FuzzInput(bytes)
        guard let world = ControlWorld(choice: input.byte()) else { fatalError("the fuzzer's configuration is wrong") }
        while !input.isAtEnd {
            let kind = input.byte()
            let payload = input.take(input.be16())
            world.take(Step.allCases[Int(kind) % Step.allCases.count], payload)
        }
        world.finish()
    }

    /// One step as bytes.
    static func step(_ kind: Step, _ payload: [UInt8]) -> [UInt8] {
        [kind.rawValue, UInt8(truncatingIfNeeded: payload.count >> 8), UInt8(truncatingIfNeeded: payload.count)]
            + payload.prefix(65_535)
    }

    /// A host that binds addresses, one that claims the gateway's, and addresses that packets wait for.
    private static func neighbors(_ local: [UInt8]) -> [UInt8] {
        let attach = step(.exceptionAttached, [0, 0, 2]) + step(.shadowAttached, [0, 0, 5, 0, 6, 0, 9])
        let mac: [UInt8] = [2, 0, 9]
        return [0] + attach + local
            + step(.neighbor, [1, 1, 0] + mac + [0, 192, 0, 2, 9])
            + step(.neighbor, [2, 1, 1] + mac + [0, 192, 0, 2, 9])
            + step(.neighbor, [1, 1, 0] + mac + [0, 192, 0, 2, 1]) + step(.neighbor, [4, 1, 0] + mac + [0])
            + step(.neighbor, [1, 1, 0] + mac + [1, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9])
            + step(.neighbor, [3, 1, 255, 0, 0, 0, 0, 192, 0, 2, 77]) + step(.flush, []) + step(.tick, [8])
            + step(.notification, []) + step(.tick, [250])
    }

    /// Inputs made from recorded streams: each alone, after the kernel's dump, and with what else happens.
    public static func seeds(fpm: [[UInt8]], dumps: [[UInt8]]) -> [[UInt8]] {
        var seeds: [[UInt8]] = []
        let attach = step(.exceptionAttached, [0, 0, 2]) + step(.shadowAttached, [0, 0, 10, 0, 11, 0, 12])
        for stream in fpm { seeds.append([0] + step(.fpm, stream)) }
        for (number, dump) in dumps.enumerated() {
            seeds.append([UInt8(number)] + step(.dump, dump))
            for stream in fpm {
                seeds.append([UInt8(number)] + attach + step(.dump, dump) + step(.fpm, stream) + step(.tick, [20]))
            }
        }
        if let stream = fpm.first, let dump = dumps.first {
            let local = step(.learned, [2, 0, 0, 0, 0, 9, 0]) + step(.portChanged, [0, 1, 2, 0, 0, 0, 0, 1])
            seeds.append(neighbors(local) + step(.dump, dump) + step(.tick, [250]) + step(.tick, [250]))
            seeds.append(
                [3] + local + step(.fpm, stream) + step(.reconnect, []) + step(.tick, [40]) + step(.otherFPM, stream)
                    + step(.overrun, []) + step(.notification, dump) + step(.requestFailed, [17]) + step(.tick, [250]))
        }
        return seeds
    }
}

/// A control state with small tables, driven as the daemon drives it.
private final class ControlWorld {
    private var state: ControlState
    private let tables: ForwardingTables
    private let compiler: TableCompiler
    private var now = Instant.seconds(1)
    private var deframers = [FPMDeframer(), FPMDeframer()]
    /// The present connection of each stream; odd and even numbers.
    private var connections = [1, 2]
    private var asked: [ControlEffect] = []

    private static let yaml = """
        ports:
          - {name: u0, driver: af_packet, device: eth-u0, mtu: 1600, exception: {addresses: [10.0.12.0/31]}}
          - {name: host, driver: af_packet, device: veth-h}
        underlays:
          - {interfaces: [u0], tunnelEndpoint: {addresses: [10.0.0.1, "fd00::1"]}}
        l3vnis:
          - {vrf: "@VRF@", vni: 50000}
        l2vnis:
          - {name: l2, vni: 10100, ports: [{port: host}, {port: host, vlan: 20}], neighborSuppression: true,
             routingDomain: {type: L3VNI, l3vni: {name: "@VRF@"}}, gatewayIPs: [192.0.2.1/24, "2001:db8::1/64"]}
          - {name: other, vni: 10200, vxlanPort: 4790, acceptUnknownVTEP: true, ports: [{port: host, vlan: 30}]}
        control: {routes: "@ROUTES@", staleHoldSeconds: 30}
        static:
          vteps: [{vni: 10200, address: 10.0.0.9}]
          macs: [{vni: 10200, mac: "02:00:00:00:00:02", vtep: 10.0.0.9}]
          underlay: [{prefix: 10.0.0.9/32, nexthops: [{port: u0, mac: "02:00:00:00:00:fe"}]}]
        """
    private static let configurations: [Configuration] = (0..<4).compactMap { number in
        let vrf = number & 1 == 0 ? "default" : "vrf1"
        let routes = number & 2 == 0 ? "fpm" : "netlink"
        return try? Configuration(yaml: yaml.replacing("@VRF@", with: vrf).replacing("@ROUTES@", with: routes))
    }

    init?(choice: UInt8) {
        let configurations = Self.configurations
        guard configurations.count == 4 else { return nil }
        state = ControlState(configuration: configurations[Int(choice) % 4])
        let limits = TableLimits(
            macs: 64, domains: 8, vteps: 64, circuits: 64, ports: 64, floodTargets: 32, paths: 8, workers: 1,
            vrfs: 8, routes: 256, neighbors: 32)
        guard let tables = try? ForwardingTables(limits: limits),
            let compiler = try? TableCompiler(&state, tables: tables, at: now)
        else { return nil }
        self.tables = tables
        self.compiler = compiler
        apply(.fpmConnected(connection: 1))
    }

    private func apply(_ event: ControlEvent) {
        asked += state.apply(event, at: now)
        if asked.count > 256 { asked.removeFirst(asked.count - 256) }
        now = Instant(nanoseconds: now.nanoseconds + 1_000_000)
    }

    func take(_ step: ControlFuzz.Step, _ payload: [UInt8]) {
        var input = payload[...]
        func next() -> UInt8 { input.popFirst() ?? 0 }
        func number() -> UInt32 { UInt32(next()) << 8 | UInt32(next()) }
        switch step {
        case .fpm: feed(0, payload)
        case .otherFPM: feed(1, payload)
        case .reconnect:
            let stream = Int(next() & 1)
            apply(.fpmDisconnected(connection: connections[stream]))
            connections[stream] += 2
            deframers[stream] = FPMDeframer()
            apply(.fpmConnected(connection: connections[stream]))
        case .dump:
            apply(.kernelDumpBegan)
            apply(.kernelDumped(decode(payload)))
            apply(.kernelDumpEnded)
        case .notification: apply(.kernelNotified(decode(payload)))
        case .overrun: apply(.kernelOverrun)
        case .tick:
            now = Instant(nanoseconds: now.nanoseconds + UInt64(next()) * 500_000_000)
            apply(.tick)
        case .learned:
            let mac = MACAddress(next(), next(), next(), next(), next(), next())
            let index = UInt32(next()) % UInt32(max(1, state.numbering.circuits.count))
            guard let circuit = state.numbering.circuit(index) else { return }
            apply(.learned(LearnEvent(mac: mac, domain: circuit.domain, circuit: index)))
            apply(.seen([FDBKey.make(domain: circuit.domain, mac: mac.rawValue)]))
        case .portChanged:
            let port = UInt16(next()), isUp = next() & 1 == 1
            let mac = MACAddress(next(), next(), next(), next(), next(), next())
            apply(.portChanged(port: port, isUp: isUp, mac: mac, mtu: UInt16(truncatingIfNeeded: number())))
        case .exceptionAttached:
            apply(.exceptionAttached(port: UInt16(next()), interface: number(), name: "tap"))
        case .shadowAttached:
            let vnis = state.configuration.l2vnis.map(\.vni)
            apply(.shadowAttached(
                vni: vnis[Int(next()) % vnis.count], bridge: number(), vxlan: number(), attachment: number()))
        case .requestFailed:
            if let effect = asked.popLast() { apply(.kernelRequestFailed(effect, errno: Int32(next()))) }
        case .flush: flush()
        case .neighbor: neighbor(payload)
        }
    }

    /// What a worker may report, and what it never should: any domain, circuit, MAC and address.
    private func neighbor(_ payload: [UInt8]) {
        var input = payload[...]
        func next() -> UInt8 { input.popFirst() ?? 0 }
        let kind = NeighborEvent.Kind(rawValue: next() % 6) ?? .binding
        let domain = UInt16(next() % 4)
        let circuit = next()
        let mac = MACAddress(next() & 3, 0, 0, 0, next() & 1, next())
        let isIPv6 = next() & 1 == 1
        let rest = Array(input)
        let address = IPAddress(bytes: (0..<(isIPv6 ? 16 : 4)).map { $0 < rest.count ? rest[$0] : 0 })
        guard let address else { return }
        apply(.neighborSeen(NeighborEvent(
            kind: kind, domain: domain, circuit: circuit == 255 ? NeighborEvent.fromTunnel : UInt32(circuit) % 5,
            mac: mac, address: address)))
    }

    private func decode(_ bytes: [UInt8]) -> [NetlinkMessage] {
        bytes.withUnsafeBytes { NetlinkDecoder.decode($0).messages }
    }

    /// Whatever the cuts, the same frames come out.
    private func feed(_ stream: Int, _ bytes: [UInt8]) {
        var whole: [ControlEvent] = []
        var frames: [[NetlinkMessage]] = [], cutFrames: [[NetlinkMessage]] = []
        var cut = deframers[stream]
        let connection = connections[stream]
        let decode = self.decode
        bytes.withUnsafeBytes { chunk in
            deframers[stream].feed(chunk) { event in
                switch event {
                case .frame(let frame):
                    let messages = decode([UInt8](frame))
                    frames.append(messages)
                    whole.append(.fpmFrame(connection: connection, messages))
                case .fault(let fault, let offset):
                    whole.append(.fpmError(connection: connection, "\(fault) at \(offset)"))
                }
            }
        }
        var position = 0, length = 1
        while position < bytes.count {
            let end = min(bytes.count, position + length)
            let piece = [UInt8](bytes[position..<end])
            piece.withUnsafeBytes { chunk in
                cut.feed(chunk) { if case .frame(let frame) = $0 { cutFrames.append(decode([UInt8](frame))) } }
            }
            position = end
            length = length % 97 * 3 + 1
        }
        fuzzRequire(frames == cutFrames, "\(frames.count) frames whole, \(cutFrames.count) cut")
        fuzzRequire(cut.isBroken == deframers[stream].isBroken, "a cut changes whether a stream is broken")
        for event in whole { apply(event) }
        if deframers[stream].isBroken { take(.reconnect, [UInt8(stream)]) }
    }

    private func flush() {
        asked += compiler.flush(&state, at: now)
        fuzzRequire(tables.macCount <= tables.limits.macs, "more MACs than the limit")
        // What the tables point to exists.
        for row in state.fdbRows(at: now).prefix(64) {
            guard let vni = VNI(row.vni), let mac = MACAddress(row.mac), let domain = state.numbering.domain(of: vni),
                let value = tables.mac(domain: domain, mac)
            else { continue }
            if value.isTunnel { fuzzRequire(tables.remote(of: value.index) != nil, "\(mac) leads to a dead tunnel") }
            if value.isCircuit { fuzzRequire(tables.circuit(value.index) != nil, "\(mac) leads to a dead circuit") }
        }
        checkNeighbors()
        let faults = compiler.routeFaults(state)
        fuzzRequire(faults.isEmpty, "routes: \(faults.joined(separator: "; "))")
        fuzzRequire(tables.routeCount <= tables.limits.routes * 2, "more routes than the limit")
    }

    /// Each neighbour in the table has a hop that says what is known of it, and of the others none has.
    private func checkNeighbors() {
        var known = 0
        for row in state.neighborRows(at: now) {
            guard row.type != "gateway", let vni = row.vni.flatMap({ VNI($0) }), let address = IPAddress(row.ip),
                let domain = state.numbering.domain(of: vni),
                let index = tables.neighbor(domain: domain, address)
            else { continue }
            known += 1
            guard let hop = tables.hop(index) else {
                fuzzRequire(false, "\(address) leads to a dead hop")
                return
            }
            let isKnown = row.mac != nil && row.state != "waiting"
            fuzzRequire((hop.state == .usable) == isKnown, "\(address) is \(row.state), its hop \(hop.state)")
            if isKnown { fuzzRequire(hop.mac.description == row.mac, "\(address) has another MAC in its hop") }
        }
        fuzzRequire(known == tables.neighborCount, "\(tables.neighborCount) in the table, \(known) of them known")
    }

    /// The last batch, and everything that `show` prints.
    func finish() {
        flush()
        let rows = state.floodRows().count + state.vtepRows().count + state.vniRows().count + state.vrfRows().count
            + state.routeRows().count + state.nextHopRows().count + state.neighborRows().count
        _ = state.controlRow(at: now)
        fuzzRequire(rows >= 0, "")
        take(.tick, [200])
        flush()
    }
}
