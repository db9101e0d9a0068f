// What is measured: tables, and workers that have a queue each of an underlay and of an access port.

import CBench
import FastPath
import Tables
import Wire

enum Journey: String, CaseIterable {
    /// Bridged: from a circuit into a tunnel, and back. Routed: from a circuit into the fabric.
    case l2Encap = "l2-encap"
    case l2Decap = "l2-decap"
    case l3Encap = "l3-encap"
    /// Broadcasts of one host to all VTEPs.
    case flood
    var isFromFabric: Bool { self == .l2Decap }
}

/// One bridge domain, its gateway and VRF, VTEPs with one or more paths, and hosts on both sides.
final class LaneScene {
    static let underlay: UInt16 = 0, access: UInt16 = 1, other: UInt16 = 2
    static let sources = 1024
    static let local = IPv4Address(rawValue: 0x6441_0001)
    static let firstVTEP: UInt32 = 0x0200
    static let underlayMAC = MACAddress(2, 0, 0, 0, 0, 1), routerMAC = MACAddress(2, 0, 0, 0, 0x64, 1)
    static let gatewayMAC = MACAddress(0, 0xF3, 0, 0, 0, 1)
    static let frame = 60

    let journey: Journey
    let flows: Int
    let vteps: Int
    let tables: ForwardingTables
    let ports: [MemoryPorts]
    let workers: [Worker]
    private let environment: Environment

    init(
        _ journey: Journey, flows: Int, vteps: Int = 64, paths: Int = 1, workers count: Int = 2, name: String,
        environment: Environment
    ) throws {
        self.journey = journey
        self.flows = flows
        self.vteps = vteps
        self.environment = environment
        let tables = try ForwardingTables(limits: TableLimits(
            macs: max(262_144, flows * 2), domains: 64, vteps: 1024, circuits: 1024, floodTargets: 1024,
            workers: count, routes: max(262_144, flows * 2)))
        self.tables = tables
        ports = try (0..<count).map { number in
            guard let ports = MemoryPorts(name: "\(name)\(number)") else {
                throw TableError.outOfMemory(table: "rings", byteCount: 0)
            }
            for port in [Self.underlay, Self.access] {
                ports.setEthdev(port, ethdev: port, queue: UInt16(number), mtu: 9000)
            }
            return ports
        }
        workers = ports.enumerated().map { number, ports in
            Worker(
                index: number, io: ports.io, tables: tables, packets: environment.packets,
                headers: environment.headers, idle: .poll)
        }
        try fill(paths: paths)
    }

    private func fill(paths: Int) throws {
        try tables.setPort(Self.underlay, PortEntry(role: .underlay, mtu: 9000, mac: Self.underlayMAC))
        try tables.setPort(Self.access, PortEntry(role: .circuits, mtu: 9000))
        try tables.setEndpoints([.v4(Self.local)], vxlanPorts: [4789])
        guard let l2 = VNI(0x1000), let l3 = VNI(0x1001) else { return }
        let vrf = try tables.addVRF(VRFEntry(vni: l3, routerMAC: Self.routerMAC))
        let domain = try tables.addDomain(
            BridgeDomain(vni: l2, vxlanPort: 4789, gatewayMAC: Self.gatewayMAC, vrf: vrf))
        let circuit = try tables.addCircuit(port: Self.access, vlan: 0, domain: domain)
        let tunnels = try (0..<vteps).map { index in
            let tunnel = try tables.tunnel(to: .v4(IPv4Address(rawValue: 0x6441_0000 + Self.firstVTEP + UInt32(index))))
            let ways = (0..<paths).map { path in
                TunnelPath(
                    port: Self.underlay, sourceMAC: Self.underlayMAC,
                    nextHopMAC: MACAddress(2, 0, 0, 0, UInt8(path), 2), mtu: 9000)
            }
            tables.setPaths(tunnel: tunnel, ways, unusable: nil)
            tables.setMember(domain: domain, tunnel: tunnel, true)
            tables.setMember(vrf: vrf, tunnel: tunnel, true)
            return tunnel
        }
        try tables.setFlood(domain: domain, circuits: [circuit], tunnels: tunnels)
        tables.publish()
        for source in 0..<min(Self.sources, flows) {
            try tables.setMAC(domain: domain, MACAddress(rawValue: bench_source(UInt32(source))), .circuit(circuit))
        }
        let hops = try tunnels.enumerated().map { index, tunnel in
            try tables.addHop(RouteHop(
                way: .tunnel(tunnel, l3vni: l3, vxlanPort: 4789),
                mac: MACAddress(2, 0, 0, 0x65, UInt8(index >> 8), UInt8(index & 255)), sourceMAC: Self.routerMAC))
        }
        for flow in 0..<flows {
            let mac = MACAddress(rawValue: bench_destination(UInt32(flow)))
            switch journey {
            case .l2Encap: try tables.setMAC(domain: domain, mac, .tunnel(tunnels[flow % vteps]))
            case .l2Decap: try tables.setMAC(domain: domain, mac, .circuit(circuit))
            case .l3Encap:
                let address = IPv4Address(rawValue: 0x0A80_0000 + UInt32(flow))
                guard let prefix = IPPrefix(.v4(address), length: 32) else { continue }
                try tables.setRoute(vrf: vrf, prefix, .hop(hops[flow % vteps]))
            case .flood: break
            }
        }
        tables.publish()
    }

    /// Gives the first `count` workers their share of the flows; the others get nothing.
    func supply(workers count: Int, buffers: UInt32 = 1024, period: UInt32 = 1) -> Bool {
        let port = journey.isFromFabric ? Self.underlay : Self.access
        for worker in workers.indices {
            for each in [Self.underlay, Self.access] {
                var source = self.source
                source.first = UInt32(worker)
                source.step = UInt32(count)
                if each == port, worker < count {
                    source.buffers = buffers
                    source.period = period
                }
                let pool = UnsafeMutableRawPointer(environment.packets)
                guard bench_queue_set(each, UInt16(worker), &source, pool) == 0 else { return false }
                bench_queue_clear(each, UInt16(worker))
            }
        }
        return true
    }

    func counts(_ port: UInt16, worker: Int) -> UnsafePointer<bench_queue_counts> {
        bench_queue_read(port, UInt16(worker))
    }
    /// The port through which this journey's frames leave.
    var exit: UInt16 { journey.isFromFabric ? Self.access : Self.underlay }

    private var source: bench_queue_source {
        var result = bench_queue_source()
        var inner = Self.inner(isRouted: journey == .l3Encap)
        if journey == .flood {
            inner.replaceSubrange(0..<6, with: [UInt8](repeating: 0xFF, count: 6))
            result.destination = 0xFFFF_FFFF_FFFF
        }
        if journey.isFromFabric {
            inner = Self.outer(count: inner.count) + inner
            result.outer = 50
        }
        result.length = UInt32(inner.count)
        withUnsafeMutableBytes(of: &result.header) { target in
            for (index, byte) in inner.prefix(128).enumerated() { target[index] = byte }
        }
        result.flows = UInt32(flows)
        result.sources = UInt32(min(Self.sources, flows))
        result.vteps = UInt32(vteps)
        if journey == .l3Encap {
            result.is_routed = 1
            result.destination = Self.gatewayMAC.rawValue
        }
        result.vtep = Self.firstVTEP
        return result
    }

    private static func be16(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }
    private static func checksum(_ bytes: [UInt8]) -> Int {
        var sum = 0
        for (index, byte) in bytes.enumerated() { sum += index % 2 == 0 ? Int(byte) << 8 : Int(byte) }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + sum >> 16 }
        return ~sum & 0xFFFF
    }
    /// Ethernet, IPv4, UDP; addresses are the source's to write, a routed header's checksum is right for
    /// 10.0.0.0 to 10.128.0.0.
    private static func inner(isRouted: Bool) -> [UInt8] {
        var ip = [0x45, 0] + be16(frame - 14) + [0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 0, 10, 128, 0, 0]
        if isRouted { ip.replaceSubrange(10..<12, with: be16(checksum(ip))) }
        let udp = [0, 0, 0, 9] + be16(frame - 34) + [0, 0]
        let head = [UInt8](repeating: 0, count: 12) + [8, 0] + ip + udp
        return head + [UInt8](repeating: 0x5A, count: frame - head.count)
    }
    /// Outer headers of a received packet; the source ends in 0.0, which the sender overwrites.
    private static func outer(count: Int) -> [UInt8] {
        var ip: [UInt8] = [0x45, 0] + be16(count + 36) + [0, 0, 0x40, 0, 64, 17, 0, 0]
        ip += [0x64, 0x41, 0, 0] + local.bytes
        ip.replaceSubrange(10..<12, with: be16(checksum(ip)))
        let udp = be16(0xC000) + be16(4789) + be16(count + 16) + [0, 0]
        return underlayMAC.bytes + [2, 0, 0, 0, 0, 2, 8, 0] + ip + udp + [8, 0, 0, 0, 0, 0x10, 0, 0]
    }
}
