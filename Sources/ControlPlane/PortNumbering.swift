// How configured things are numbered: ports, exception TAPs, bridge domains, circuits.

public import Tables
public import Wire

/// The one convention that the daemon, the control state and the table compiler share.
///
/// A port's index is its place in `ports`; the exception TAP of port *i* is port
/// `portCount + i`, whether or not it exists. A bridge domain's index is its place in `l2vnis`
/// plus one (index 0 is never used); circuits are counted through all of `l2vnis` from 0. A VRF's
/// index is its place among the distinct VRF names plus one: first those of `l3vnis` in order, then
/// those that only routed ports name; 0 stands for no VRF. The
/// tables hand out indexes in the same order, which ``TableCompiler`` checks when it starts.
public struct PortNumbering: Hashable, Sendable {
    /// One attachment circuit of the configuration.
    public struct Circuit: Hashable, Sendable {
        public var port: UInt16
        /// 0 is untagged.
        public var vlan: UInt16
        public var domain: UInt16
    }
    public let names: [String]
    public let circuits: [Circuit]
    /// The VNI of each domain; index 0 is domain 1.
    public let domainVNIs: [VNI]
    /// Whether a port has an exception TAP.
    public let hasException: [Bool]
    /// Whether a port is an underlay port.
    public let isUnderlay: [Bool]
    /// Whether a port is a routed port (host leg) of a VRF.
    public let isRouted: [Bool]
    /// The VRFs by index; index 0 is VRF 1.
    public let vrfNames: [String]
    private let vrfs: [String: UInt16]
    private let vrfOfPort: [UInt16]
    private let vrfOfDomain: [UInt16]
    private let circuitsOfDomain: [[UInt32]]
    /// Whether a port has circuits.
    public let hasCircuits: [Bool]
    private let domainsOfVRF: [[UInt16]]
    private let portsOfVRF: [[UInt16]]
    private let l3vniOfVRF: [Int?]
    private let ports: [String: UInt16]
    private let domains: [VNI: UInt16]

    public init(_ configuration: Configuration) {
        names = configuration.ports.map(\.name)
        ports = Dictionary(
            names.enumerated().map { ($1, UInt16(truncatingIfNeeded: $0)) },
            uniquingKeysWith: { a, _ in a }
        )
        let underlays = Set(configuration.underlays.flatMap(\.interfaces))
        isUnderlay = names.map { underlays.contains($0) }
        // The routing protocols of a routed port run behind its exception TAP.
        hasException = configuration.ports.map { $0.exception != nil || $0.vrf != nil }
        isRouted = configuration.ports.map { $0.vrf != nil }
        vrfNames = Self.vrfNames(configuration)
        let vrfs = Dictionary(
            vrfNames.enumerated().map { ($1, UInt16(truncatingIfNeeded: $0 + 1)) },
            uniquingKeysWith: { a, _ in a }
        )
        vrfOfPort = configuration.ports.map { $0.vrf.flatMap { vrfs[$0] } ?? 0 }
        vrfOfDomain = configuration.l2vnis.map { $0.vrf.flatMap { vrfs[$0] } ?? 0 }
        self.vrfs = vrfs
        domainVNIs = configuration.l2vnis.map(\.vni)
        domains = Dictionary(
            domainVNIs.enumerated().map { ($1, UInt16(truncatingIfNeeded: $0 + 1)) },
            uniquingKeysWith: { a, _ in a }
        )
        var circuits: [Circuit] = []
        for (index, l2vni) in configuration.l2vnis.enumerated() {
            for circuit in l2vni.circuits {
                guard let port = ports[circuit.port] else { continue }
                circuits.append(
                    Circuit(
                        port: port,
                        vlan: circuit.vlan ?? 0,
                        domain: UInt16(truncatingIfNeeded: index + 1)
                    )
                )
            }
        }
        self.circuits = circuits
        var byDomain = [[UInt32]](repeating: [], count: configuration.l2vnis.count)
        for (index, circuit) in circuits.enumerated() {
            byDomain[Int(circuit.domain) - 1].append(UInt32(truncatingIfNeeded: index))
        }
        circuitsOfDomain = byDomain
        var hasCircuits = [Bool](repeating: false, count: names.count)
        for circuit in circuits { hasCircuits[Int(circuit.port)] = true }
        self.hasCircuits = hasCircuits
        domainsOfVRF = Self.members(of: vrfOfDomain, first: 1, vrfCount: vrfNames.count)
        portsOfVRF = Self.members(of: vrfOfPort, first: 0, vrfCount: vrfNames.count)
        var l3vnis = [Int?](repeating: nil, count: vrfNames.count + 1)
        for (position, l3vni) in configuration.l3vnis.enumerated() {
            guard let vrf = vrfs[l3vni.vrf], l3vnis[Int(vrf)] == nil else { continue }
            l3vnis[Int(vrf)] = position
        }
        l3vniOfVRF = l3vnis
    }

    /// The numbers, from `first` on, by the VRF of each; 0 is no VRF and has none.
    private static func members(of vrfs: [UInt16], first: Int, vrfCount: Int) -> [[UInt16]] {
        var result = [[UInt16]](repeating: [], count: vrfCount + 1)
        for (position, vrf) in vrfs.enumerated() where vrf != 0 {
            result[Int(vrf)].append(UInt16(truncatingIfNeeded: position + first))
        }
        return result
    }

    /// Configured ports, exception TAPs not counted.
    public var portCount: Int { names.count }
    public func port(named name: String) -> UInt16? { ports[name] }
    /// The index of the exception TAP of `port`.
    public func exception(of port: UInt16) -> UInt16 {
        UInt16(truncatingIfNeeded: names.count) &+ port
    }
    /// The port whose exception TAP has index `index`; nil when `index` is no TAP.
    public func port(ofException index: UInt16) -> UInt16? {
        Int(index) >= names.count && Int(index) < names.count * 2
            ? index - UInt16(names.count) : nil
    }
    /// A port's name; of a TAP, its port's name with `.host`.
    public func name(of index: UInt16) -> String {
        if Int(index) < names.count { return names[Int(index)] }
        if let port = port(ofException: index) { return names[Int(port)] + ".host" }
        return "port\(index)"
    }
    /// The distinct VRF names of a configuration in the order of their indexes.
    public static func vrfNames(_ configuration: Configuration) -> [String] {
        var seen: Set<String> = []
        let names = configuration.l3vnis.map(\.vrf) + configuration.ports.compactMap(\.vrf)
        return names.filter { seen.insert($0).inserted }
    }
    public func vrf(named name: String) -> UInt16? { vrfs[name] }
    /// The name of a VRF; nil for 0 and what is not configured.
    public func name(ofVRF vrf: UInt16) -> String? {
        vrf > 0 && Int(vrf) <= vrfNames.count ? vrfNames[Int(vrf) - 1] : nil
    }
    /// The VRF that a domain's gateway routes in; 0 for pure L2.
    public func vrf(ofDomain domain: UInt16) -> UInt16 {
        domain > 0 && Int(domain) <= vrfOfDomain.count ? vrfOfDomain[Int(domain) - 1] : 0
    }
    /// The VRF of a routed port; 0 for every other port.
    public func vrf(ofPort port: UInt16) -> UInt16 {
        Int(port) < vrfOfPort.count ? vrfOfPort[Int(port)] : 0
    }
    /// The domains whose gateways route in a VRF, in the configuration's order.
    public func domains(ofVRF vrf: UInt16) -> [UInt16] {
        Int(vrf) < domainsOfVRF.count ? domainsOfVRF[Int(vrf)] : []
    }
    /// The routed ports of a VRF, in the configuration's order.
    public func ports(ofVRF vrf: UInt16) -> [UInt16] { Int(vrf) < portsOfVRF.count ? portsOfVRF[Int(vrf)] : [] }
    /// The place in `l3vnis` of a VRF's L3VNI; nil for a VRF that stays on the node.
    public func l3vni(ofVRF vrf: UInt16) -> Int? { Int(vrf) < l3vniOfVRF.count ? l3vniOfVRF[Int(vrf)] : nil }
    public func domain(of vni: VNI) -> UInt16? { domains[vni] }
    public func vni(ofDomain domain: UInt16) -> VNI? {
        domain > 0 && Int(domain) <= domainVNIs.count ? domainVNIs[Int(domain) - 1] : nil
    }
    /// The circuits of a domain, in the configuration's order.
    public func circuits(ofDomain domain: UInt16) -> [UInt32] {
        domain > 0 && Int(domain) <= circuitsOfDomain.count ? circuitsOfDomain[Int(domain) - 1] : []
    }
    public func circuit(_ index: UInt32) -> Circuit? {
        Int(index) < circuits.count ? circuits[Int(index)] : nil
    }
}

extension TableLimits {
    /// The capacities that a configuration asks for.
    public init(_ configuration: Configuration) {
        let limits = configuration.dataplane.limits
        let circuits = configuration.l2vnis.reduce(0) { $0 + $1.circuits.count }
        self.init(
            macs: limits.macs,
            domains: max(limits.l2vnis, configuration.l2vnis.count) + 1,
            vteps: limits.vteps,
            circuits: max(16_384, circuits),
            ports: max(limits.ports, configuration.ports.count) * 2,
            floodTargets: limits.floodTargets,
            paths: limits.ecmpPaths,
            workers: max(1, configuration.dataplane.workerLcores.count),
            vrfs: max(limits.vrfs, configuration.l3vnis.count + 1) + 1,
            routes: limits.routes,
            neighbors: limits.neighbors
        )
    }
}

extension Configuration.L2VNI {
    /// `00:f3:` and VNI + 1 in four bytes, as OpenPERouter sets it.
    public var defaultGatewayMAC: MACAddress {
        let value = vni.rawValue + 1
        return MACAddress(
            0x00,
            0xF3,
            UInt8(truncatingIfNeeded: value >> 24),
            UInt8(truncatingIfNeeded: value >> 16),
            UInt8(truncatingIfNeeded: value >> 8),
            UInt8(truncatingIfNeeded: value)
        )
    }
    /// The gateway's MAC; nil for a domain without a gateway.
    public var effectiveGatewayMAC: MACAddress? {
        gatewayMAC ?? (gatewayIPs.isEmpty ? nil : defaultGatewayMAC)
    }
}

extension Configuration {
    /// The VRF that is the kernel's main table, where underlay and overlay share one.
    public static let defaultVRF = "default"

    /// This node's tunnel endpoint of a family; of the other one when there is no such.
    public func tunnelEndpoint(isIPv6: Bool) -> IPAddress? {
        let endpoints = underlays.flatMap(\.tunnelEndpoints)
        return endpoints.first { $0.isV4 != isIPv6 } ?? endpoints.first
    }

    /// This node's router MAC in an L3VNI: as configured, else locally administered and the same
    /// after every start, from the tunnel endpoint and the VNI (FNV-1a, 64 bit).
    public func routerMAC(of l3vni: L3VNI) -> MACAddress {
        if let mac = l3vni.routerMAC { return mac }
        let endpoint = tunnelEndpoint(isIPv6: l3vni.underlayIsIPv6)?.bytes ?? []
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in endpoint + (0..<4).map({ UInt8(truncatingIfNeeded: l3vni.vni.rawValue >> (8 * $0)) }) {
            hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3
        }
        let byte = { UInt8(truncatingIfNeeded: hash >> (8 * $0)) }
        return MACAddress(0x02, byte(6), byte(5), byte(4), byte(3), byte(2))
    }
}
