// A small network around one worker: tables, ports in memory, and what came out of them.

import CDPDK
public import FastPath
import Synchronization
public import Tables
public import Wire

/// A frame that left, and the port through which it did.
public struct Sent: Equatable, Sendable {
    public var port: UInt16
    public var bytes: [UInt8]
    /// The driver is asked for the UDP checksum behind an IPv6 header.
    public var requestsChecksum = false
    public init(port: UInt16, bytes: [UInt8]) {
        self.port = port
        self.bytes = bytes
    }
    init(_ mbuf: MBuf) {
        port = mbuf.pointee.port
        bytes = PacketBytes.of(mbuf)
        requestsChecksum = mbuf.pointee.ol_flags & PE_TX_UDP_IPV6 == PE_TX_UDP_IPV6
            && mbuf.pointee.tx_offload == PE_TX_UDP_IPV6_LENGTHS
    }

    /// What a NIC makes of it.
    public var completed: Sent {
        guard requestsChecksum, bytes.count > 62 else { return self }
        var sum = 0
        for (index, byte) in bytes[54...].enumerated() { sum += index % 2 == 0 ? Int(byte) << 8 : Int(byte) }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + sum >> 16 }
        let field = sum == 0xFFFF ? 0xFFFF : ~sum & 0xFFFF
        return Sent(port: port, bytes: bytes[..<60] + [UInt8(field >> 8), UInt8(field & 255)] + bytes[62...])
    }
}

/// One PE: underlay port 0 with exception TAP 1, local endpoints of both families, domain of VNI 110
/// with circuits as a test adds them, and VTEPs likewise.
public final class World {
    public static let underlayPort: UInt16 = 0
    public static let tap: UInt16 = 1
    public static let underlayMAC = MACAddress(2, 0, 0, 0, 0, 0x01)
    public static let nextHopMAC = MACAddress(2, 0, 0, 0, 0, 0xFE)
    public static let local4 = IPAddress.v4(IPv4Address(rawValue: 0x6441_0001))
    public static let local6 = IPAddress.v6(IPv6Address(high: 0xFD00_0065 << 32, low: 1))

    public let tables: ForwardingTables
    public let ports: MemoryPorts
    public let worker: Worker
    /// Worker ``worker`` and, with ``Options/workers``, others; each with ports of its own.
    public let workers: [Worker]
    public let workerPorts: [MemoryPorts]
    public let packets: Pool
    public let headers: Pool
    /// Domain of VNI 110.
    public let domain: UInt16
    private var sendablePorts: Set<UInt16> = []

    public struct Options: Sendable {
        public var vni: UInt32 = 110
        public var vxlanPort: UInt16 = 4789
        public var gateway: MACAddress?
        public var flags: BridgeDomain.Flags = []
        public var underlayMTU: UInt16 = 1600
        public var zeroChecksumIPv6 = false
        public var features: PortIO.Features = [.multiSegment]
        public var packetCount = 511
        public var headerCount = 2047
        public var txCapacity: UInt32 = 4096
        public var idle = IdlePolicy.poll
        public var workers = 1
        public var limits = TableLimits(
            macs: 1024, domains: 64, vteps: 1024, circuits: 1024, ports: 1024, floodTargets: 1024)
        public init() {}
    }

    public init(_ options: Options = Options()) throws {
        packets = Pool(count: options.packetCount)
        headers = Pool(count: options.headerCount, dataRoom: 256)
        var limits = options.limits
        limits.workers = options.workers
        let tables = try ForwardingTables(limits: limits)
        self.tables = tables
        let name = "world\(World.number())"
        let ports = try (0..<options.workers).map { index in
            guard let ports = MemoryPorts(
                name: index == 0 ? name : "\(name)_\(index)", portCapacity: limits.ports,
                txCapacity: options.txCapacity, worker: index, workers: options.workers)
            else { throw TableError.outOfMemory(table: "rings", byteCount: 0) }
            return ports
        }
        MemoryPorts.join(ports)
        let (packets, headers) = (self.packets, self.headers)
        let workers = ports.enumerated().map { index, ports in
            Worker(
                index: index, io: ports.io, tables: tables, packets: packets.pointer,
                headers: headers.pointer, idle: options.idle, usesClock: false)
        }
        workerPorts = ports
        self.workers = workers
        self.ports = ports[0]
        worker = workers[0]
        tables.outerHeader.zeroChecksumIPv6 = options.zeroChecksumIPv6
        try tables.setEndpoints([World.local4, World.local6], vxlanPorts: [4789, options.vxlanPort])
        guard let vni = VNI(options.vni) else { preconditionFailure("a VNI has 24 bits") }
        domain = try tables.addDomain(BridgeDomain(
            vni: vni, vxlanPort: options.vxlanPort, gatewayMAC: options.gateway, flags: options.flags))
        self.features = options.features
        self.underlayMTU = options.underlayMTU
        try addPort(
            World.underlayPort, role: .underlay, mtu: options.underlayMTU, mac: World.underlayMAC,
            partner: World.tap)
        try addPort(World.tap, role: .exception, mtu: options.underlayMTU, partner: World.underlayPort)
        tables.publish()
    }
    private let features: PortIO.Features
    private let underlayMTU: UInt16
    private static let made = Atomic<Int>(0)
    private static func number() -> Int { made.wrappingAdd(1, ordering: .relaxed).newValue }

    public func addPort(
        _ index: UInt16, role: PortRole, mtu: UInt16 = 1500, mac: MACAddress = .zero,
        partner: UInt16 = PortEntry.none
    ) throws {
        try tables.setPort(index, PortEntry(role: role, mtu: mtu, mac: mac, partner: partner))
        for ports in workerPorts { ports.setPort(index, mtu: mtu, features: features) }
    }
    /// A circuit on a port that is made on first use.
    @discardableResult
    public func addCircuit(
        port: UInt16, vlan: UInt16 = 0, domain: UInt16? = nil, mtu: UInt16 = 1500,
        partner: UInt16 = PortEntry.none
    ) throws -> UInt32 {
        if tables.port(port) == nil || tables.port(port)?.role == .unused {
            try addPort(port, role: .circuits, mtu: mtu, partner: partner)
        }
        let index = try tables.addCircuit(port: port, vlan: vlan, domain: domain ?? self.domain)
        tables.publish()
        return index
    }
    /// A remote VTEP that belongs to the domain, reached by `paths` next hops.
    @discardableResult
    public func addVTEP(
        _ address: IPAddress, paths: Int = 1, isMember: Bool = true, domain: UInt16? = nil
    ) throws -> UInt32 {
        let tunnel = try tables.tunnel(to: address)
        tables.setPaths(
            tunnel: tunnel,
            (0..<paths).map {
                TunnelPath(
                    port: World.underlayPort, sourceMAC: World.underlayMAC,
                    nextHopMAC: MACAddress(2, 0, 0, 0, UInt8($0), 0xFE), mtu: underlayMTU)
            }, unusable: nil)
        tables.setMember(domain: domain ?? self.domain, tunnel: tunnel, isMember)
        tables.publish()
        return tunnel
    }
    public func addMAC(_ mac: MACAddress, _ value: FDBValue, domain: UInt16? = nil) throws {
        try tables.setMAC(domain: domain ?? self.domain, mac, value)
    }
    public func setFlood(circuits: [UInt32], tunnels: [UInt32], domain: UInt16? = nil) throws {
        try tables.setFlood(domain: domain ?? self.domain, circuits: circuits, tunnels: tunnels)
        tables.publish()
    }

    /// Takes frames through the worker; what left, in order.
    public func run(_ frames: [(port: UInt16, bytes: [UInt8])]) -> [Sent] {
        var mbufs: [MBuf] = []
        for frame in frames {
            guard let mbuf = PacketBytes.make(frame.bytes, port: frame.port, pool: packets.pointer)
            else { preconditionFailure("the pool is too small for this test") }
            mbufs.append(mbuf)
        }
        return run(mbufs)
    }
    public func run(_ mbufs: [MBuf]) -> [Sent] {
        worker.process(mbufs)
        let sent = ports.takeSent()
        defer { ports.free(sent) }
        return sent.map { Sent($0) }
    }
    public func run(_ port: UInt16, _ bytes: [UInt8]) -> [Sent] { run([(port, bytes)]) }

    /// The drops so far, by name.
    public var drops: [DropReason: UInt64] {
        var result: [DropReason: UInt64] = [:]
        for reason in DropReason.allCases where tables.counters.total(reason) != 0 {
            result[reason] = tables.counters.total(reason)
        }
        return result
    }
    /// What is wrong with the books; nil when every packet ended once and every buffer is back.
    public var imbalance: String? {
        let counters = tables.counters
        var faults: [String] = []
        if !counters.isBalanced {
            let totals = TotalCounter.allCases.map { "\($0) \(counters.total($0))" }
            faults.append("not balanced: \(totals.joined(separator: ", ")), dropped \(drops)")
        }
        if !packets.isFull { faults.append("\(packets.capacity - packets.available) packets lost") }
        if !headers.isFull { faults.append("\(headers.capacity - headers.available) headers lost") }
        return faults.isEmpty ? nil : faults.joined(separator: "; ")
    }
    public func total(_ counter: TotalCounter) -> UInt64 { tables.counters.total(counter) }
    public var learned: [LearnEvent] {
        var events: [LearnEvent] = []
        while let event = tables.learning.workers[0].pop() { events.append(event) }
        return events
    }
}
