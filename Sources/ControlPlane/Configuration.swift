// The configuration as values: what the YAML file says after defaults and validation.

public import Wire

/// Where in the configuration file something stands.
public struct SourceLocation: Hashable, Sendable {
    public var line: Int
    public var column: Int
    public init(line: Int = 0, column: Int = 0) {
        self.line = line
        self.column = column
    }
}

/// A fault in the configuration: where, what, and what to do.
public struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
    public var file: String
    public var location: SourceLocation
    /// Such as `ports[2].driver`.
    public var path: String
    public var message: String
    public var remedy: String
    public init(file: String, location: SourceLocation, path: String, message: String, remedy: String) {
        self.file = file
        self.location = location
        self.path = path
        self.message = message
        self.remedy = remedy
    }
    public var description: String {
        "\(file):\(location.line):\(location.column): \(path): \(message); \(remedy)"
    }
}

/// The whole file.
public struct Configuration: Hashable, Sendable {
    public var dataplane = Dataplane()
    public var ports: [Port] = []
    public var underlays: [Underlay] = []
    public var l3vnis: [L3VNI] = []
    public var l2vnis: [L2VNI] = []
    public var control = Control()
    public var `static` = Static()
    public init() {}

    public struct Dataplane: Hashable, Sendable {
        public enum Hugepages: String, Hashable, Sendable, CaseIterable { case auto, always, never }
        public enum IdlePolicy: String, Hashable, Sendable, CaseIterable { case poll, adaptive }
        /// Where memory lies on a machine of several NUMA nodes: see FastPath's Placement.
        public enum NUMA: String, Hashable, Sendable, CaseIterable { case auto, interleave, local, off }
        public var mainLcore: Int = 0
        public var workerLcores: [Int] = [1]
        public var hugepages: Hugepages = .auto
        /// Megabytes that EAL reserves; nil computes them from the buffers.
        public var memoryMegabytes: Int?
        public var mbufs: Int = 16384
        public var numa: NUMA = .auto
        public var idle: IdlePolicy = .adaptive
        public var limits = Limits()
        /// Extra EAL arguments.
        public var eal: [String] = []
        public var adminSocket: String = "/run/pe-dp/admin.sock"
        /// Octal permission bits of the admin socket.
        public var adminSocketMode: UInt32 = 0o600
        /// Seconds after which a silent local MAC is removed; 0 keeps it.
        public var macAgeingSeconds: Int = 300
        /// Seconds after which a silent local neighbour's binding is removed; it is probed before.
        public var neighborTimeoutSeconds: Int = 240
        /// This node's index in `tunnelEndpoint.cidrs`, as OpenPERouter's node label gives it.
        public var nodeIndex: Int?
        public init() {}
    }
    /// Capacities; defaults and bounds are in Tables/Limits.swift.
    public struct Limits: Hashable, Sendable {
        public var macs: Int = 262_144
        public var l2vnis: Int = 4096
        public var vrfs: Int = 1024
        public var neighbors: Int = 131_072
        public var routes: Int = 1_048_576
        public var vteps: Int = 1024
        public var ports: Int = 1024
        public var floodTargets: Int = 512
        public var ecmpPaths: Int = 64
        public init() {}
    }
    public struct Port: Hashable, Sendable {
        public enum Driver: String, Hashable, Sendable, CaseIterable {
            case afPacket = "af_packet", afXDP = "af_xdp", tap, memif, vhostUser = "vhost_user", null, pcap
            case ring, pci, vdev
        }
        public var name: String
        public var driver: Driver
        /// The driver's own: an interface, a PCI address, a path, or `key=value` arguments.
        public var device: String
        /// Network namespace of a kernel port's device; nil is the own one.
        public var netns: String?
        /// Layer 3 MTU: the largest IP packet.
        public var mtu: Int = 1500
        /// The port's own Ethernet address; nil takes the device's.
        public var mac: MACAddress?
        public var exception: Exception?
        /// The VRF that a routed port (host leg) belongs to; nil for an underlay port or one with
        /// circuits.
        public var vrf: String?
        public var location = SourceLocation()
        public init(name: String, driver: Driver, device: String) {
            self.name = name
            self.driver = driver
            self.device = device
        }
    }
    /// The TAP in FRR's namespace through which everything that is not forwarded passes.
    public struct Exception: Hashable, Sendable {
        /// Nil takes the port's name.
        public var name: String?
        public var mac: MACAddress?
        public var mtu: Int?
        public var addresses: [IPPrefix] = []
        public init() {}
    }
    /// How a field of the outer header gets its value.
    public enum OuterField: Hashable, Sendable {
        /// From the inner header.
        case copy
        case fixed(UInt8)
    }
    public struct Underlay: Hashable, Sendable {
        public var interfaces: [String] = []
        public var tunnelEndpoints: [IPAddress] = []
        /// Send a zero UDP checksum over IPv6 (RFC 6935); receivers must accept it.
        public var udp6ZeroChecksumTx = false
        /// The outer header's DSCP, 0 to 63; ECN follows RFC 6040 always.
        public var dscp = OuterField.fixed(0)
        /// The outer header's TTL or hop limit, 1 to 255.
        public var ttl = OuterField.fixed(64)
        public var location = SourceLocation()
        public init() {}
    }
    public struct L3VNI: Hashable, Sendable {
        /// What `routingDomain` refers to; the VRF's name unless given.
        public var name: String
        public var vrf: String
        public var vni: VNI
        public var vxlanPort: UInt16 = 4789
        public var underlayIsIPv6 = false
        public var routerMAC: MACAddress?
        public var table: UInt32?
        public var location = SourceLocation()
        public init(vrf: String, vni: VNI) {
            self.name = vrf
            self.vrf = vrf
            self.vni = vni
        }
    }
    public struct L2VNI: Hashable, Sendable {
        public struct Circuit: Hashable, Sendable {
            public var port: String
            public var vlan: UInt16?
            public var location = SourceLocation()
            public init(port: String, vlan: UInt16? = nil) {
                self.port = port
                self.vlan = vlan
            }
        }
        public var name: String
        public var vni: VNI
        public var vxlanPort: UInt16 = 4789
        public var underlayIsIPv6 = false
        /// The VRF it routes in (`routingDomain.l3vni.name`); nil is pure L2.
        public var vrf: String?
        public var gatewayIPs: [IPPrefix] = []
        /// Nil takes `00:f3:` and VNI + 1.
        public var gatewayMAC: MACAddress?
        public var neighborSuppression = false
        public var acceptUnknownVTEP = false
        public var circuits: [Circuit] = []
        public var location = SourceLocation()
        public init(name: String, vni: VNI) {
            self.name = name
            self.vni = vni
        }
    }
    public struct Control: Hashable, Sendable {
        public enum Routes: String, Hashable, Sendable, CaseIterable { case fpm, netlink, none }
        public var netns: String?
        /// `host:port`, or nil for no FPM listener.
        public var fpmListen: String? = "127.0.0.1:2620"
        public var routes: Routes = .fpm
        public var shadow = true
        /// A clean stop leaves the shadow devices for the next start.
        public var keepShadow = false
        public var staleHoldSeconds: Double = 120
        /// Seconds without a frame after which a resynchronisation is swept.
        public var quietSeconds: Double = 5
        public init() {}
    }
    /// Forwarding state without FRR.
    public struct Static: Hashable, Sendable {
        public struct VTEP: Hashable, Sendable {
            public var vni: VNI
            public var address: IPAddress
            public init(vni: VNI, address: IPAddress) {
                self.vni = vni
                self.address = address
            }
        }
        public struct MAC: Hashable, Sendable {
            public var vni: VNI
            public var mac: MACAddress
            public var vtep: IPAddress
            public init(vni: VNI, mac: MACAddress, vtep: IPAddress) {
                self.vni = vni
                self.mac = mac
                self.vtep = vtep
            }
        }
        public struct Neighbor: Hashable, Sendable {
            public var vni: VNI
            public var ip: IPAddress
            public var mac: MACAddress
            public init(vni: VNI, ip: IPAddress, mac: MACAddress) {
                self.vni = vni
                self.ip = ip
                self.mac = mac
            }
        }
        /// One way out of a VRF.
        public struct NextHop: Hashable, Sendable {
            public enum Target: Hashable, Sendable {
                /// Through the VRF's L3VNI; without a router MAC the route waits for one.
                case vtep(IPAddress, routerMAC: MACAddress?)
                /// A neighbour behind a routed port of the VRF.
                case port(String, address: IPAddress)
                /// A host in a connected subnet of the VRF.
                case host(IPAddress)
                /// Looked up again in another VRF.
                case vrf(String)
            }
            public var target: Target
            /// Its share among the route's next hops, 1 to 256.
            public var weight: Int
            public init(_ target: Target, weight: Int = 1) {
                self.target = target
                self.weight = weight
            }
        }
        public struct Route: Hashable, Sendable {
            public enum Kind: String, Hashable, Sendable, CaseIterable {
                case unicast, blackhole, unreachable, prohibit
            }
            public var vrf: String
            public var prefix: IPPrefix
            public var kind: Kind
            /// Empty for every kind but unicast.
            public var nextHops: [NextHop]
            public init(vrf: String, prefix: IPPrefix, kind: Kind = .unicast, nextHops: [NextHop] = []) {
                self.vrf = vrf
                self.prefix = prefix
                self.kind = kind
                self.nextHops = nextHops
            }
        }
        public struct UnderlayNextHop: Hashable, Sendable {
            public var port: String
            /// Nil: resolved by the kernel on the port's exception TAP, through `address`.
            public var mac: MACAddress?
            public var address: IPAddress?
            public init(port: String, mac: MACAddress?, address: IPAddress?) {
                self.port = port
                self.mac = mac
                self.address = address
            }
        }
        public struct UnderlayRoute: Hashable, Sendable {
            public var prefix: IPPrefix
            public var nextHops: [UnderlayNextHop]
            public init(prefix: IPPrefix, nextHops: [UnderlayNextHop]) {
                self.prefix = prefix
                self.nextHops = nextHops
            }
        }
        public var vteps: [VTEP] = []
        public var macs: [MAC] = []
        public var neighbors: [Neighbor] = []
        public var routes: [Route] = []
        public var underlay: [UnderlayRoute] = []
        public init() {}
    }
}
