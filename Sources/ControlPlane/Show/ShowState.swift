// The whole-daemon answers of `pe-dp show` and `pe-dp status`: counters, control plane, health.

/// Where packets went.
///
/// `received + replicated = sent + punted + sum of dropped`, plus what waits for a neighbour now.
public struct CounterReport: Codable, Hashable, Sendable {
    /// Packets of one VNI: in from circuits and tunnels, out to circuits and tunnels.
    public struct Domain: Codable, Hashable, Sendable {
        public var vni: UInt32
        public var circuitInPackets: UInt64 = 0
        public var circuitInBytes: UInt64 = 0
        public var tunnelInPackets: UInt64 = 0
        public var tunnelInBytes: UInt64 = 0
        public var circuitOutPackets: UInt64 = 0
        public var circuitOutBytes: UInt64 = 0
        public var tunnelOutPackets: UInt64 = 0
        public var tunnelOutBytes: UInt64 = 0
        public init(vni: UInt32) { self.vni = vni }
    }
    /// Routed packets of one VRF: in from hosts and tunnels, out to hosts and tunnels.
    public struct VRF: Codable, Hashable, Sendable {
        public var vrf: String
        public var localInPackets: UInt64 = 0
        public var localInBytes: UInt64 = 0
        public var tunnelInPackets: UInt64 = 0
        public var tunnelInBytes: UInt64 = 0
        public var localOutPackets: UInt64 = 0
        public var localOutBytes: UInt64 = 0
        public var tunnelOutPackets: UInt64 = 0
        public var tunnelOutBytes: UInt64 = 0
        public init(vrf: String) { self.vrf = vrf }
    }
    /// Packets of one port.
    public struct Port: Codable, Hashable, Sendable {
        public var port: String
        public var rxPackets: UInt64 = 0
        public var rxBytes: UInt64 = 0
        public var txPackets: UInt64 = 0
        public var txBytes: UInt64 = 0
        public var dropped: UInt64 = 0
        /// To the exception TAP, and from it.
        public var punted: UInt64 = 0
        public var fromHost: UInt64 = 0
        public init(port: String) { self.port = port }
    }
    public var received: UInt64 = 0
    public var replicated: UInt64 = 0
    public var sent: UInt64 = 0
    public var punted: UInt64 = 0
    /// Packets by the name of the reason; reasons that never occurred may be absent.
    public var dropped: [String: UInt64] = [:]
    /// What gateways and suppression did, by the name of the counter: requests answered, ICMP errors
    /// and probes sent, packets that waited for a neighbour.
    public var services: [String: UInt64] = [:]
    public var domains: [Domain] = []
    public var vrfs: [VRF] = []
    public var ports: [Port] = []
    public init() {}

    /// What came in less what has an end: zero but for packets in flight.
    public var imbalance: Int64 {
        let entered = received &+ replicated
        let ended = dropped.values.reduce(sent &+ punted &+ (services["waiting"] ?? 0), &+)
        return Int64(bitPattern: entered &- ended)
    }
}

/// What the control plane is fed by, and how it keeps up.
public struct ControlRow: Codable, Hashable, Sendable {
    /// One connection of zebra's FPM module.
    public struct FPM: Codable, Hashable, Sendable {
        public var connection: Int
        public var peer: String
        public var frames: UInt64
        public var messages: UInt64
        public var errors: UInt64
        /// Seconds since it was accepted.
        public var ageSeconds: Double
        public init(
            connection: Int,
            peer: String,
            frames: UInt64 = 0,
            messages: UInt64 = 0,
            errors: UInt64 = 0,
            ageSeconds: Double = 0
        ) {
            self.connection = connection
            self.peer = peer
            self.frames = frames
            self.messages = messages
            self.errors = errors
            self.ageSeconds = ageSeconds
        }
    }
    /// The rtnetlink side.
    public struct Kernel: Codable, Hashable, Sendable {
        /// The network namespace it listens in; nil is the own one.
        public var netns: String?
        public var dumps: UInt64 = 0
        public var notifications: UInt64 = 0
        /// Times that the kernel lost notifications (ENOBUFS).
        public var overruns: UInt64 = 0
        public var requests: UInt64 = 0
        public var requestsFailed: UInt64 = 0
        public init() {}
    }
    /// The kernel devices made for FRR.
    public struct Shadow: Codable, Hashable, Sendable {
        public var isEnabled: Bool
        public var bridges: Int
        public var vxlans: Int
        public var vrfs: Int
        public var taps: Int
        public init(
            isEnabled: Bool = false,
            bridges: Int = 0,
            vxlans: Int = 0,
            vrfs: Int = 0,
            taps: Int = 0
        ) {
            self.isEnabled = isEnabled
            self.bridges = bridges
            self.vxlans = vxlans
            self.vrfs = vrfs
            self.taps = taps
        }
    }
    /// `fpm`, `netlink` or `none`.
    public var routes: String = "none"
    /// The address that the FPM server listens on.
    public var listen: String?
    public var fpm: [FPM] = []
    /// Totals over all connections that ever were.
    public var frames: UInt64 = 0
    public var messages: UInt64 = 0
    /// The most recent errors, oldest first, bounded.
    public var errors: [String] = []
    public var errorCount: UInt64 = 0
    /// The current generation of each source; what kept an older one is swept.
    public var generations: [String: UInt64] = [:]
    /// Entries that wait for a sweep.
    public var stale: Int = 0
    public var kernel = Kernel()
    public var neighbors = NeighborCounters()
    public var shadow = Shadow()
    /// Worker reports that were lost because a learn ring was full.
    public var learnOverflows: UInt64 = 0
    public init() {}
}

/// Health in one screen.
public struct StatusReport: Codable, Hashable, Sendable {
    /// `degraded` when something that the configuration asks for does not work.
    public enum State: String, Codable, Hashable, Sendable { case starting, healthy, degraded }
    /// A port at a glance.
    public struct Port: Codable, Hashable, Sendable {
        public var name: String
        public var driver: String
        public var role: String
        public var state: String
        public var mtu: Int
        public init(name: String, driver: String, role: String, state: String, mtu: Int) {
            self.name = name
            self.driver = driver
            self.role = role
            self.state = state
            self.mtu = mtu
        }
    }
    /// How full a table is.
    public struct Table: Codable, Hashable, Sendable {
        public var name: String
        public var used: Int
        public var capacity: Int
        public init(name: String, used: Int, capacity: Int) {
            self.name = name
            self.used = used
            self.capacity = capacity
        }
    }
    /// Buffers of the packet pool.
    public struct Buffers: Codable, Hashable, Sendable {
        public var total: Int
        public var free: Int
        /// Whether they lie in reserved huge pages.
        public var hugePages: Bool
        /// The pages they lie in, in words.
        public var memory: String
        public init(total: Int, free: Int, hugePages: Bool, memory: String) {
            self.total = total
            self.free = free
            self.hugePages = hugePages
            self.memory = memory
        }
    }
    public var version: String
    public var state: State
    public var uptimeSeconds: Double
    public var pid: Int32
    public var configuration: String
    /// Why it is degraded, each with what to do.
    public var alerts: [String] = []
    public var workers: Int = 0
    public var ports: [Port] = []
    public var tables: [Table] = []
    public var buffers: Buffers?
    public var received: UInt64 = 0
    public var sent: UInt64 = 0
    public var dropped: UInt64 = 0
    public var fpmConnections: Int = 0
    public var routes: String = "none"
    public init(
        version: String,
        state: State,
        uptimeSeconds: Double,
        pid: Int32,
        configuration: String
    ) {
        self.version = version
        self.state = state
        self.uptimeSeconds = uptimeSeconds
        self.pid = pid
        self.configuration = configuration
    }
}
