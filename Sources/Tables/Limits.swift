// Every capacity: its unit, why it is what it is, and what happens at the limit.

/// Capacities of the tables. All memory is reserved at start; at a limit the new entry is rejected
/// with a ``TableError``, which the control plane counts and logs, and what is there stays.
public struct TableLimits: Hashable, Sendable {
    /// FDB entries, local and remote: 256 k MACs is the scale of a large fabric's leaf.
    public var macs: Int
    /// Bridge domains. Index 0 is never used, so that a zeroed table points nowhere.
    public var domains: Int
    /// Remote VTEPs of both families; a multiple of 64 (membership is a bitmap).
    public var vteps: Int
    /// Attachment circuits (port, VLAN). A FDB value has 24 bits for their index.
    public var circuits: Int
    /// pe-dp ports, exception TAPs included; `rte_mbuf.port` has 16 bits.
    public var ports: Int
    /// Circuits and VTEPs of one flood list.
    public var floodTargets: Int
    /// Underlay paths of one VTEP; a tunnel's slots are the next power of two times
    /// ``slotsPerPath``.
    public var paths: Int
    /// Workers.
    public var workers: Int
    /// IP-VRFs. Index 0 is never used.
    public var vrfs: Int
    /// Host routes (/32, /128) of all VRFs, and as many shorter prefixes.
    public var routes: Int
    /// IP neighbours of all domains and routed ports.
    public var neighbors: Int

    public init(
        macs: Int = 262_144, domains: Int = 4097, vteps: Int = 1024, circuits: Int = 16_384, ports: Int = 2048,
        floodTargets: Int = 512, paths: Int = 64, workers: Int = 1, vrfs: Int = 1025, routes: Int = 1_048_576,
        neighbors: Int = 131_072
    ) {
        self.macs = max(16, macs)
        self.domains = min(max(2, domains), Self.maximumDomains)
        self.vteps = min((max(1, vteps) + 63) / 64 * 64, Self.maximumVTEPs)
        self.circuits = min(max(1, circuits), Self.maximumCircuits)
        self.ports = min(max(1, ports), Self.maximumPorts)
        self.floodTargets = max(1, floodTargets)
        self.paths = max(1, paths)
        self.workers = min(max(1, workers), Self.maximumWorkers)
        self.vrfs = min(max(2, vrfs), Self.maximumVRFs)
        self.routes = min(max(16, routes), Self.maximumRoutes)
        self.neighbors = min(max(16, neighbors), Self.maximumRoutes)
    }

    /// A domain index is the upper 16 bits of a FDB key; the last one is kept for tombstones.
    public static let maximumDomains = 65_535
    public static let maximumVTEPs = 65_536
    public static let maximumCircuits = 1 << 24
    public static let maximumPorts = 65_535
    /// A VRF index is the upper 16 bits of a host-route key; the last one is kept for tombstones.
    public static let maximumVRFs = 65_535
    /// A route's value has 28 bits for an index.
    public static let maximumRoutes = 1 << 27
    /// Next hops into the fabric: one for each (L3VNI, VTEP) in use.
    public static let overlayHops = 65_536
    /// Groups of next hops in use at a time.
    public static let groups = 65_536
    /// Slots of all groups: 4 MiB; a group has the next power of two times ``slotsPerPath``.
    public static let groupSlots = 1 << 20
    /// Events of one worker that may wait for the control plane, and requests to a worker.
    public static let neighborRing = 4096
    /// VRFs that one packet may be looked up in (route leaking): beyond, it is a loop.
    public static let routeDepth = 4
    public static let maximumWorkers = 64
    /// Packets handled between two quiescent points (measured best: bench, 16 to 256).
    public static let burst = 32
    /// Learn events that a worker may have waiting; beyond, an event is counted and lost, and the
    /// MAC's next packet brings it again.
    public static let learnRing = 4096
    /// Slots per path of an ECMP tunnel: with four, the share of a path is right to 25 %/paths.
    public static let slotsPerPath = 4
    /// UDP ports on which VXLAN is received.
    public static let vxlanPorts = 8
    /// Local tunnel endpoints of each family.
    public static let localVTEPs = 4
    /// Largest outer headers: Ethernet 14, IPv6 40, UDP 8, VXLAN 8.
    public static let outerHeaderByteCount = 70
    /// Ethernet header with two VLAN tags: what a frame may have beyond its port's MTU.
    public static let linkHeaderByteCount = 22
}

// What a worker keeps for later, and how much of it one turn does. Beyond, packets are dropped with the
// reason that is named.
extension TableLimits {
    /// Packets that may wait for their flood copies (`floodQueueFull`); each holds a packet buffer.
    @inlinable public static var floodQueue: Int { 256 }
    /// Flood copies in one turn: about 15 000 cycles, as long as some five bursts of unicast take.
    @inlinable public static var floodCopiesPerTurn: Int { 256 }
    /// Packets that may wait for neighbours, those of one target, and targets (`neighborQueueFull`). A host
    /// that does not answer keeps no more than its share from the others.
    @inlinable public static var waitingPackets: Int { 256 }
    @inlinable public static var waitingPerTarget: UInt16 { 16 }
    @inlinable public static var waitingTargets: Int { 64 }
    /// ICMP errors a second, and at once (RFC 1812 section 4.3.2.8); beyond, none is sent.
    @inlinable public static var icmpPerSecond: UInt64 { 1000 }
    @inlinable public static var icmpBurst: UInt64 { 256 }
}

extension TableLimits {
    /// Next hops: neighbours and those into the fabric.
    public var hops: Int { neighbors + Self.overlayHops }
}

/// Why a table refused an entry.
public enum TableError: Error, Hashable, Sendable {
    /// The table holds as many entries as its limit allows.
    case full(table: String, limit: Int)
    /// There was no memory for the tables.
    case outOfMemory(table: String, byteCount: Int)
}

extension TableError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .full(let table, let limit):
            "\(table) is full (\(limit)); raise its entry under dataplane.limits"
        case .outOfMemory(let table, let byteCount):
            "no memory for \(table) (\(byteCount) bytes); lower dataplane.limits or free memory"
        }
    }
}
