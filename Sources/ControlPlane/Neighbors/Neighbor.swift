// One IP neighbour: who says where it is, since when, and what is still to be asked.

import Tables
public import Wire

/// An address in a bridge domain, or behind a routed or underlay port.
public struct NeighborID: Hashable, Sendable, Comparable {
    public enum Scope: Hashable, Sendable, Comparable {
        /// ``BridgeDomain`` index.
        case domain(UInt16)
        /// ``PortNumbering`` index.
        case port(UInt16)
    }
    public var scope: Scope
    public var address: IPAddress
    public static func domain(_ domain: UInt16, _ address: IPAddress) -> NeighborID {
        NeighborID(domain: domain, address)
    }
    public static func port(_ port: UInt16, _ address: IPAddress) -> NeighborID {
        NeighborID(port: port, address)
    }
    public init(domain: UInt16, _ address: IPAddress) {
        scope = .domain(domain)
        self.address = address
    }
    public init(port: UInt16, _ address: IPAddress) {
        scope = .port(port)
        self.address = address
    }
    public static func < (a: Self, b: Self) -> Bool {
        a.scope == b.scope ? a.address < b.address : a.scope < b.scope
    }
}

extension VRFPrefix {
    init(vrf: UInt16, host: IPAddress) {
        self.init(vrf: vrf, prefix: IPPrefix(host: host))
    }
}

/// Where a host address of a VRF is bound.
struct HostBinding: Hashable {
    var neighbor: NeighborID
    /// Behind another VTEP.
    var isRemote: Bool
}

/// All that is known of one address of a bridge domain.
///
/// Local and remote exclude each other as with MACs: what comes last wins, a host that speaks here or
/// zebra that says it is elsewhere.
struct Neighbor {
    /// A host that spoke to us: behind one of our circuits, and its MAC is local as long as this is here.
    struct Local: Hashable {
        var mac: MACAddress
        /// When it, or its MAC, became this.
        var since: Instant
        var lastSeen: Instant
        /// Probes sent since it was last seen.
        var probes = 0
        /// When to send the next one; nil before the first.
        var nextProbe: Instant?
        /// When it was last given to the kernel, and on which interface; nil while it is not there.
        var exportedAt: Instant?
        var exportedTo: UInt32 = 0
        /// The kernel showed our row.
        var isConfirmed = false
        /// It answered from behind another VTEP, which does not announce its address: nothing for zebra.
        var isElsewhere = false
    }
    /// Its MAC moved away, and zebra has not said yet that the address went with it: until then it counts
    /// for there, so that packets follow the host.
    struct Carried: Hashable {
        var mac: MACAddress
        var until: Instant
    }
    /// Nobody says where it is, and it is being asked for (RFC 4861 section 7.2.2, RFC 1122 section
    /// 2.3.2).
    struct Resolution: Hashable {
        var probes: Int
        var nextAt: Instant
        var hasFailed = false
    }
    /// `static.neighbors`.
    var fixed: MACAddress?
    /// zebra's row on the SVI; it counts while the MAC has a place.
    var remote: MACAddress?
    var local: Local?
    /// A row on the SVI that is neither zebra's nor ours: an administrator's, or the kernel's own.
    var foreign: MACAddress?
    var carried: Carried?
    var resolution: Resolution?
    /// A route needs it: it is asked for again and again.
    var isRequired = false
    var since: Instant
    /// When it was last asked at a MAC that has just moved here.
    var verifiedAt: Instant?
    /// The earliest place in the timer queue.
    var queuedAt: Instant?

    var isEmpty: Bool {
        fixed == nil && remote == nil && local == nil && foreign == nil && carried == nil && resolution == nil
            && !isRequired
    }
    /// Asked for because of a packet alone: the first to go when room is needed.
    var isTransient: Bool {
        resolution != nil && !isRequired && macs.isEmpty
    }
    /// Every MAC that somebody gives for it.
    var macs: [MACAddress] {
        var found: [MACAddress] = []
        for case let mac? in [fixed, remote, local?.mac, foreign, carried?.mac] where !found.contains(mac) {
            found.append(mac)
        }
        return found
    }
    /// When its timer has to run; nil for never.
    func due(timeout: Double) -> Instant? {
        if let resolution { return resolution.nextAt }
        if let carried { return carried.until }
        guard let local, timeout > 0 else { return nil }
        return local.nextProbe ?? local.lastSeen + (timeout - Self.lead(timeout))
    }
    /// Seconds before the timeout at which probing begins: room for three unicast probes and one to
    /// all, a second apart; with very short timeouts half of it.
    static func lead(_ timeout: Double) -> Double { min(4, timeout / 2) }
}

extension Instant {
    static func + (a: Instant, seconds: Double) -> Instant {
        Instant(nanoseconds: a.nanoseconds &+ UInt64(max(0, seconds) * 1e9))
    }
}

/// What a neighbour's hop has to say.
struct NeighborAnswer: Hashable {
    var mac: MACAddress
    var state: RouteHop.State
    var isRemote: Bool
    static let resolving = NeighborAnswer(mac: .zero, state: .resolving, isRemote: false)
    static let failed = NeighborAnswer(mac: .zero, state: .failed, isRemote: false)
}

/// Totals, for `show control`.
public struct NeighborCounters: Codable, Hashable, Sendable {
    /// Claims of a gateway's address.
    public var gatewayClaims: UInt64 = 0
    /// Addresses that are no host's (multicast, broadcast, loopback), or from nowhere.
    public var invalid: UInt64 = 0
    /// Bindings refused because one MAC has too many.
    public var refusedByMAC: UInt64 = 0
    /// Bindings refused because their domain has too many.
    public var refusedByDomain: UInt64 = 0
    /// Bindings refused because of `limits.neighbors`.
    public var refusedByLimit: UInt64 = 0
    /// Changes of a MAC that came too soon after the last one.
    public var damped: UInt64 = 0
    /// Bindings that became local, and those of them that were remote before.
    public var learned: UInt64 = 0
    public var takenOver: UInt64 = 0
    /// Local bindings given up because zebra said that they are elsewhere.
    public var yielded: UInt64 = 0
    /// Local bindings whose host answered no probe.
    public var expired: UInt64 = 0
    /// ARP requests and neighbour solicitations asked for.
    public var probes: UInt64 = 0
    /// Addresses that packets had to wait for, those that never answered, those given up for others,
    /// and those not asked for because too many were.
    public var unresolved: UInt64 = 0
    public var failed: UInt64 = 0
    public var evicted: UInt64 = 0
    public var rateLimited: UInt64 = 0
    public init() {}
}
