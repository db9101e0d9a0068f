// The rows that `pe-dp show` prints: plain values, filled by whoever owns the state.

/// A circuit by its names.
public struct CircuitRow: Codable, Hashable, Sendable {
    public var port: String
    /// Nil for untagged frames.
    public var vlan: Int?
    public init(port: String, vlan: Int? = nil) {
        self.port = port
        self.vlan = vlan
    }
}

/// One port.
public struct PortRow: Codable, Hashable, Sendable {
    public var name: String
    public var driver: String
    public var device: String
    /// `underlay`, `circuit` or `unused`.
    public var role: String
    /// `up` or `down`.
    public var state: String
    public var mac: String?
    /// Layer 3 MTU, bytes.
    public var mtu: Int
    public var rxPackets: UInt64 = 0
    public var rxBytes: UInt64 = 0
    public var txPackets: UInt64 = 0
    public var txBytes: UInt64 = 0
    /// Frames that the port itself lost: no buffer on receipt, ring full on transmit.
    public var rxDropped: UInt64 = 0
    public var txDropped: UInt64 = 0
    /// The interface name of its exception TAP.
    public var exception: String?
    public init(
        name: String,
        driver: String,
        device: String,
        role: String,
        state: String,
        mac: String? = nil,
        mtu: Int,
        exception: String? = nil
    ) {
        self.name = name
        self.driver = driver
        self.device = device
        self.role = role
        self.state = state
        self.mac = mac
        self.mtu = mtu
        self.exception = exception
    }
}

/// One L2VNI or L3VNI.
public struct VNIRow: Codable, Hashable, Sendable {
    public var vni: UInt32
    /// `L2` or `L3`.
    public var type: String
    public var name: String
    public var vrf: String?
    public var vxlanPort: Int
    /// The own tunnel end point that it sends from.
    public var localVTEP: String?
    public var circuits: [CircuitRow] = []
    public var localMACs: Int = 0
    public var remoteMACs: Int = 0
    public var vteps: Int = 0
    /// The kernel devices that stand for it in FRR's namespace.
    public var bridge: String?
    public var vxlan: String?
    public init(
        vni: UInt32,
        type: String,
        name: String,
        vrf: String? = nil,
        vxlanPort: Int = 4789,
        localVTEP: String? = nil
    ) {
        self.vni = vni
        self.type = type
        self.name = name
        self.vrf = vrf
        self.vxlanPort = vxlanPort
        self.localVTEP = localVTEP
    }
}

/// One VRF.
public struct VRFRow: Codable, Hashable, Sendable {
    public var vrf: String
    /// Kernel table; nil while no VRF device of that name exists.
    public var table: UInt32?
    public var vni: UInt32?
    public var routerMAC: String?
    public var l2vnis: [UInt32] = []
    /// Its routed ports.
    public var ports: [String] = []
    /// Its own addresses: gateways, routed ports, other interfaces of FRR's namespace.
    public var addresses: [String] = []
    /// Connected subnets.
    public var subnets: [String] = []
    /// Routes that FRR and the configuration have for it.
    public var routes: Int = 0
    /// Entries of the tables: those that are used, own addresses, subnets and local hosts.
    public var installed: Int?
    /// VTEPs that its routes go to and whose router MAC is not known.
    public var missingRouterMACs: Int = 0
    /// What keeps it from use.
    public var reason: String?
    public init(vrf: String, table: UInt32? = nil, vni: UInt32? = nil, routerMAC: String? = nil) {
        self.vrf = vrf
        self.table = table
        self.vni = vni
        self.routerMAC = routerMAC
    }
}

/// One MAC of one VNI.
public struct FDBRow: Codable, Hashable, Sendable {
    /// Where a MAC lives, and who says so.
    public enum Kind: String, Codable, Hashable, Sendable { case local, remote, `static` }
    public var vni: UInt32
    public var mac: String
    public var type: Kind
    public var port: String?
    public var vlan: Int?
    public var vtep: String?
    /// The multihoming group (NDA_NH_ID) whose members `vtep` lists.
    public var group: UInt32?
    public var sticky: Bool
    /// Seconds since a worker last saw it; nil for MACs that do not age.
    public var ageSeconds: Double?
    /// `dataplane`, `fpm`, `kernel` or `configuration`.
    public var source: String
    public init(
        vni: UInt32,
        mac: String,
        type: Kind,
        port: String? = nil,
        vlan: Int? = nil,
        vtep: String? = nil,
        group: UInt32? = nil,
        sticky: Bool = false,
        ageSeconds: Double? = nil,
        source: String
    ) {
        self.vni = vni
        self.mac = mac
        self.type = type
        self.port = port
        self.vlan = vlan
        self.vtep = vtep
        self.group = group
        self.sticky = sticky
        self.ageSeconds = ageSeconds
        self.source = source
    }
}

/// Whom a VNI floods to.
public struct FloodRow: Codable, Hashable, Sendable {
    public var vni: UInt32
    public var vteps: [String]
    public var circuits: [CircuitRow]
    public init(vni: UInt32, vteps: [String], circuits: [CircuitRow]) {
        self.vni = vni
        self.vteps = vteps
        self.circuits = circuits
    }
}

/// One remote tunnel end point.
public struct VTEPRow: Codable, Hashable, Sendable {
    /// Whether packets to it can leave.
    public enum State: String, Codable, Hashable, Sendable { case resolved, unresolved }
    /// One underlay path.
    public struct Path: Codable, Hashable, Sendable {
        public var port: String
        /// Nil while the neighbour is unresolved.
        public var mac: String?
        public var address: String?
        public init(port: String, mac: String?, address: String?) {
            self.port = port
            self.mac = mac
            self.address = address
        }
    }
    public var address: String
    public var vnis: [UInt32]
    public var state: State
    public var nextHops: [Path]
    public init(address: String, vnis: [UInt32], state: State, nextHops: [Path]) {
        self.address = address
        self.vnis = vnis
        self.state = state
        self.nextHops = nextHops
    }
}

/// One route.
public struct RouteRow: Codable, Hashable, Sendable {
    /// One path of a route.
    public struct NextHop: Codable, Hashable, Sendable {
        public var gateway: String?
        public var interface: String?
        public var vtep: String?
        public var vni: UInt32?
        public var routerMAC: String?
        /// The VRF in which it goes on.
        public var vrf: String?
        public var weight: Int
        /// Slots of the route's group that lead here; nil for a route without a group.
        public var slots: Int?
        /// Why packets cannot go this way; nil when they can.
        public var reason: String?
        /// What it is in the tables.
        var key: HopKey?
        private enum CodingKeys: String, CodingKey {
            case gateway, interface, vtep, vni, routerMAC, vrf, weight, slots, reason
        }
        public init(
            gateway: String? = nil,
            interface: String? = nil,
            vtep: String? = nil,
            vni: UInt32? = nil,
            routerMAC: String? = nil,
            vrf: String? = nil,
            weight: Int = 1
        ) {
            self.gateway = gateway
            self.interface = interface
            self.vtep = vtep
            self.vni = vni
            self.routerMAC = routerMAC
            self.vrf = vrf
            self.weight = weight
        }
    }
    public var vrf: String
    public var table: UInt32?
    public var prefix: String
    /// `bgp`, `kernel`, `static` and so on.
    public var `protocol`: String
    /// `unicast`, `blackhole`, `unreachable`, `prohibit` or `local`.
    public var kind: String
    public var nextHops: [NextHop]
    public var metric: UInt32?
    /// The next-hop object that it refers to.
    public var nextHopID: UInt32?
    /// Of a route in a VRF: what became of it.
    public enum State: String, Codable, Hashable, Sendable {
        case installed
        /// In the tables, but packets are dropped: no next hop can be used.
        case waiting
        /// Something better has the prefix.
        case hidden
        /// Of no VRF of the configuration, or of no kind that is forwarded.
        case ignored
        /// The tables are full.
        case refused
    }
    /// Nil for a route that only the underlay uses.
    public var state: State?
    /// Why it is not used.
    public var reason: String?
    public init(
        vrf: String,
        table: UInt32?,
        prefix: String,
        protocol: String,
        kind: String,
        nextHops: [NextHop]
    ) {
        self.vrf = vrf
        self.table = table
        self.prefix = prefix
        self.protocol = `protocol`
        self.kind = kind
        self.nextHops = nextHops
    }
}

/// One IP–MAC binding, of a VNI or of a port.
public struct NeighborRow: Codable, Hashable, Sendable {
    public var vni: UInt32?
    public var vrf: String?
    public var interface: String?
    public var ip: String
    /// Nil while unresolved.
    public var mac: String?
    /// In a VNI `local`, `remote`, `static`, `gateway`, or `unknown` while it is asked for; behind a port
    /// `underlay` or `routed`.
    public var type: String
    /// `permanent`, `reachable`, `probing` (silent, being asked), `stale`, `waiting` (its MAC has no place
    /// yet), `resolving` or `failed`.
    public var state: String
    public var vtep: String?
    /// Where its MAC is, when that is a circuit.
    public var port: String?
    public var vlan: Int?
    /// Seconds since it, or its MAC, became this.
    public var ageSeconds: Double?
    /// Seconds since the host last said so; nil for what is not seen here.
    public var lastSeenSeconds: Double?
    /// Whether the kernel, and with it zebra, has it from here; nil for what is not to be given.
    public var exported: Bool?
    public var source: String
    public init(
        vni: UInt32? = nil,
        vrf: String? = nil,
        interface: String? = nil,
        ip: String,
        mac: String?,
        type: String,
        state: String = "reachable",
        vtep: String? = nil,
        source: String
    ) {
        self.state = state
        self.vni = vni
        self.vrf = vrf
        self.interface = interface
        self.ip = ip
        self.mac = mac
        self.type = type
        self.vtep = vtep
        self.source = source
    }
}

/// One next hop or next hop group, by zebra's or the kernel's identifier.
public struct NextHopRow: Codable, Hashable, Sendable {
    /// One member of a group.
    public struct Member: Codable, Hashable, Sendable {
        public var id: UInt32
        public var weight: Int
        /// Slots that lead to it; nil for a group that no route uses.
        public var slots: Int?
        public init(id: UInt32, weight: Int) {
            self.id = id
            self.weight = weight
        }
    }
    public var id: UInt32
    public var gateway: String?
    public var interface: String?
    public var vtep: String?
    /// `unicast`, `blackhole`, `group` or `fdb`.
    public var kind: String
    public var members: [Member]
    /// Whether every member is known.
    public var isComplete: Bool
    public var source: String
    /// The L3VNI that it goes through, and the VTEP's router MAC there.
    public var vni: UInt32?
    public var routerMAC: String?
    /// Routes that refer to it.
    public var routes: Int = 0
    /// Why packets cannot go this way.
    public var reason: String?
    public init(
        id: UInt32,
        gateway: String? = nil,
        interface: String? = nil,
        vtep: String? = nil,
        kind: String,
        members: [Member] = [],
        isComplete: Bool = true,
        source: String
    ) {
        self.id = id
        self.gateway = gateway
        self.interface = interface
        self.vtep = vtep
        self.kind = kind
        self.members = members
        self.isComplete = isComplete
        self.source = source
    }
}

/// One reason for drops.
public struct DropRow: Codable, Hashable, Sendable {
    public var reason: String
    public var packets: UInt64
    /// What the reason means, one sentence.
    public var meaning: String
    public init(reason: String, packets: UInt64, meaning: String) {
        self.reason = reason
        self.packets = packets
        self.meaning = meaning
    }
}

/// One lcore.
public struct LcoreRow: Codable, Hashable, Sendable {
    public var lcore: Int
    /// `main`, `worker` or `host-io`.
    public var role: String
    /// CPU that it is pinned to.
    public var cpu: Int?
    /// NUMA node of that CPU, and the one that its buffers, rings and state come from, on a machine of
    /// several.
    public var node: Int?
    public var memoryNode: Int?
    /// Share of the time spent on packets, 0 to 1.
    public var busy: Double
    public var polls: UInt64
    public var packets: UInt64
    /// Packets a burst that was not empty.
    public var burstSize: Double
    /// Core or TSC cycles a packet, where they are measured.
    public var cyclesPerPacket: Double?
    public var sleeps: UInt64
    public init(
        lcore: Int,
        role: String,
        cpu: Int? = nil,
        busy: Double = 0,
        polls: UInt64 = 0,
        packets: UInt64 = 0,
        burstSize: Double = 0,
        cyclesPerPacket: Double? = nil,
        sleeps: UInt64 = 0
    ) {
        self.lcore = lcore
        self.role = role
        self.cpu = cpu
        self.busy = busy
        self.polls = polls
        self.packets = packets
        self.burstSize = burstSize
        self.cyclesPerPacket = cyclesPerPacket
        self.sleeps = sleeps
    }
}
