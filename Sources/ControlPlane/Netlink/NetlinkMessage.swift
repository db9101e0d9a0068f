// What a netlink message says, as values. Both FPM and rtnetlink are decoded into these.

public import Wire

/// One decoded message.
public enum NetlinkMessage: Hashable, Sendable {
    case route(RouteMessage)
    case nextHop(NextHopMessage)
    /// Bridge FDB rows (family AF_BRIDGE) and IP neighbours.
    case neighbor(NeighborMessage)
    /// Rare, and several times as large as the others.
    indirect case link(LinkMessage)
    case address(AddressMessage)
    /// NLMSG_DONE: a dump's end.
    case done
    /// NLMSG_ERROR; 0 acknowledges.
    case error(errno: Int32, sequence: UInt32)
    /// A well-formed message of a type that nothing here needs.
    case ignored(type: UInt16)
}

/// RTM_NEWROUTE or RTM_DELROUTE (FRR zebra/rt_netlink.c, kernel include/uapi/linux/rtnetlink.h).
public struct RouteMessage: Hashable, Sendable {
    /// rtm_type.
    public enum Kind: Hashable, Sendable {
        case unicast, local, blackhole, unreachable, prohibit
        /// Broadcast, multicast, anycast and whatever the kernel adds: never forwarded by pe-dp.
        case other(UInt8)
    }
    public var isDelete: Bool
    public var prefix: IPPrefix
    /// RTA_TABLE, or rtm_table when there is none.
    public var table: UInt32
    /// rtm_protocol: 2 kernel, 11 zebra, 186 bgp, 196 static (FRR lib/zebra.h).
    public var routeProtocol: UInt8
    public var kind: Kind
    /// RTA_PRIORITY.
    public var metric: UInt32
    /// RTA_NH_ID.
    public var nextHopID: UInt32?
    /// RTA_GATEWAY/RTA_VIA/RTA_OIF, or each member of RTA_MULTIPATH.
    public var nextHops: [RouteNextHop]
    /// nlmsg_pid: zebra's socket; a change tells a restarted zebra.
    public var portID: UInt32
    /// NLM_F_REPLACE.
    public var isReplace: Bool
    /// NLM_F_APPEND: behind a route of the same prefix and metric, if there is one.
    public var isAppend: Bool
    public init(
        isDelete: Bool, prefix: IPPrefix, table: UInt32, routeProtocol: UInt8 = 0, kind: Kind = .unicast,
        metric: UInt32 = 0, nextHopID: UInt32? = nil, nextHops: [RouteNextHop] = [], portID: UInt32 = 0,
        isReplace: Bool = true, isAppend: Bool = false
    ) {
        self.isDelete = isDelete
        self.prefix = prefix
        self.table = table
        self.routeProtocol = routeProtocol
        self.kind = kind
        self.metric = metric
        self.nextHopID = nextHopID
        self.nextHops = nextHops
        self.portID = portID
        self.isReplace = isReplace
        self.isAppend = isAppend
    }
}

/// One next hop written inside a route.
public struct RouteNextHop: Hashable, Sendable {
    /// As sent; `::ffff:a.b.c.d` is not normalised here.
    public var gateway: IPAddress?
    public var interface: UInt32
    /// rtnh_hops + 1.
    public var weight: UInt32
    /// RTNH_F_ONLINK.
    public var isOnlink: Bool
    /// The VNI of RTA_ENCAP when RTA_ENCAP_TYPE is 100 (NET_VXLAN, FRR-private): a hint only.
    public var encapVNI: UInt32?
    public init(
        gateway: IPAddress? = nil, interface: UInt32 = 0, weight: UInt32 = 1, isOnlink: Bool = false,
        encapVNI: UInt32? = nil
    ) {
        self.gateway = gateway
        self.interface = interface
        self.weight = weight
        self.isOnlink = isOnlink
        self.encapVNI = encapVNI
    }
}

/// RTM_NEWNEXTHOP or RTM_DELNEXTHOP (kernel include/uapi/linux/nexthop.h).
public struct NextHopMessage: Hashable, Sendable {
    public struct Member: Hashable, Sendable {
        public var id: UInt32
        /// nexthop_grp.weight + 1.
        public var weight: UInt32
        public init(id: UInt32, weight: UInt32) {
            self.id = id
            self.weight = weight
        }
    }
    public var isDelete: Bool
    public var id: UInt32
    public var gateway: IPAddress?
    public var interface: UInt32
    public var isOnlink: Bool
    public var isBlackhole: Bool
    /// NHA_GROUP; empty for a single next hop.
    public var members: [Member]
    /// NHA_FDB: an EVPN multihoming group, seen on rtnetlink only.
    public var isFDB: Bool
    public var nextHopProtocol: UInt8
    public init(
        isDelete: Bool, id: UInt32, gateway: IPAddress? = nil, interface: UInt32 = 0, isOnlink: Bool = false,
        isBlackhole: Bool = false, members: [Member] = [], isFDB: Bool = false, nextHopProtocol: UInt8 = 0
    ) {
        self.isDelete = isDelete
        self.id = id
        self.gateway = gateway
        self.interface = interface
        self.isOnlink = isOnlink
        self.isBlackhole = isBlackhole
        self.members = members
        self.isFDB = isFDB
        self.nextHopProtocol = nextHopProtocol
    }
}

/// RTM_NEWNEIGH or RTM_DELNEIGH (kernel include/uapi/linux/neighbour.h).
public struct NeighborMessage: Hashable, Sendable {
    public enum Family: Hashable, Sendable { case bridge, ipv4, ipv6 }
    public struct State: OptionSet, Hashable, Sendable {
        public let rawValue: UInt16
        public init(rawValue: UInt16) { self.rawValue = rawValue }
        public static let incomplete = State(rawValue: 0x01), reachable = State(rawValue: 0x02)
        public static let stale = State(rawValue: 0x04), delay = State(rawValue: 0x08)
        public static let probe = State(rawValue: 0x10), failed = State(rawValue: 0x20)
        public static let noARP = State(rawValue: 0x40), permanent = State(rawValue: 0x80)
        /// NUD_VALID of the kernel's include/net/neighbour.h.
        public static let valid: State = [.permanent, .noARP, .reachable, .probe, .stale, .delay]
    }
    public struct Flags: OptionSet, Hashable, Sendable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        public static let use = Flags(rawValue: 0x01), `self` = Flags(rawValue: 0x02)
        public static let master = Flags(rawValue: 0x04), proxy = Flags(rawValue: 0x08)
        public static let externallyLearned = Flags(rawValue: 0x10), offloaded = Flags(rawValue: 0x20)
        public static let sticky = Flags(rawValue: 0x40), router = Flags(rawValue: 0x80)
    }
    public var isDelete: Bool
    public var family: Family
    public var interface: UInt32
    public var state: State
    public var flags: Flags
    /// NDA_DST: the VTEP of an FDB row, the address of a neighbour.
    public var destination: IPAddress?
    /// NDA_LLADDR.
    public var mac: MACAddress?
    /// NDA_VLAN.
    public var vlan: UInt16?
    /// NDA_SRC_VNI (FRR >= 9.0), or NDA_VNI (the old `fpm` module).
    public var vni: UInt32?
    /// NDA_MASTER: the bridge.
    public var master: UInt32?
    /// NDA_NH_ID: an EVPN multihoming group instead of NDA_DST.
    public var nextHopID: UInt32?
    /// NDA_PROTOCOL: 11 is zebra.
    public var neighborProtocol: UInt8?
    /// NDA_CACHEINFO of a bridge row: hundredths of a second since somebody last wrote it, with or
    /// without a change.
    public var writtenAge: UInt32?
    public init(
        isDelete: Bool, family: Family, interface: UInt32, state: State = [], flags: Flags = [],
        destination: IPAddress? = nil, mac: MACAddress? = nil, vlan: UInt16? = nil, vni: UInt32? = nil,
        master: UInt32? = nil, nextHopID: UInt32? = nil, neighborProtocol: UInt8? = nil
    ) {
        self.isDelete = isDelete
        self.family = family
        self.interface = interface
        self.state = state
        self.flags = flags
        self.destination = destination
        self.mac = mac
        self.vlan = vlan
        self.vni = vni
        self.master = master
        self.nextHopID = nextHopID
        self.neighborProtocol = neighborProtocol
    }
}

/// RTM_NEWLINK or RTM_DELLINK (kernel include/uapi/linux/if_link.h).
public struct LinkMessage: Hashable, Sendable {
    /// IFLA_INFO_KIND and what pe-dp needs of its data.
    public enum Kind: Hashable, Sendable {
        case vxlan(vni: UInt32?, local: IPAddress?, port: UInt16, collectMetadata: Bool)
        case bridge(vlanFiltering: Bool)
        case vrf(table: UInt32)
        case vlan(id: UInt16)
        case other(String)
        /// No IFLA_LINKINFO: a physical device or loopback.
        case none
    }
    /// One row of IFLA_AF_SPEC / IFLA_BRIDGE_VLAN_INFO or _TUNNEL_INFO (family AF_BRIDGE).
    public struct BridgeVLAN: Hashable, Sendable {
        public var id: UInt16
        public var isPVID: Bool
        public init(id: UInt16, isPVID: Bool) {
            self.id = id
            self.isPVID = isPVID
        }
    }
    public struct BridgeTunnel: Hashable, Sendable {
        public var vlan: UInt16
        public var vni: UInt32
        public init(vlan: UInt16, vni: UInt32) {
            self.vlan = vlan
            self.vni = vni
        }
    }
    /// How a bridge treats one of its ports (IFLA_BRPORT_*).
    public struct BridgePort: OptionSet, Hashable, Sendable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        public static let learning = BridgePort(rawValue: 1), flood = BridgePort(rawValue: 2)
        public static let multicastFlood = BridgePort(rawValue: 4)
        public static let broadcastFlood = BridgePort(rawValue: 8)
    }
    public var isDelete: Bool
    /// ifi_family is AF_BRIDGE: only the bridge port attributes are complete.
    public var isBridgeFamily: Bool
    public var interface: UInt32
    public var name: String
    public var mac: MACAddress?
    public var mtu: UInt32
    /// IFF_UP.
    public var isUp: Bool
    /// IFF_LOWER_UP.
    public var hasCarrier: Bool
    /// IFLA_MASTER.
    public var master: UInt32?
    /// IFLA_LINK: the lower device of a VLAN device.
    public var lower: UInt32?
    public var kind: Kind
    public var bridgeVLANs: [BridgeVLAN]
    public var bridgeTunnels: [BridgeTunnel]
    /// IFLA_INFO_SLAVE_DATA or IFLA_PROTINFO; nil when the device is no bridge's port.
    public var bridgePort: BridgePort?
    /// IFLA_VXLAN_LEARNING; nil when the device is no vxlan.
    public var vxlanLearning: Bool?
    /// IFLA_INET6_ADDR_GEN_MODE: 0 EUI-64, 1 none.
    public var addressGenerationMode: UInt8?
    /// IFLA_GROUP: devices that were made together.
    public var group: UInt32
    public init(
        isDelete: Bool, isBridgeFamily: Bool = false, interface: UInt32, name: String = "",
        mac: MACAddress? = nil, mtu: UInt32 = 0, isUp: Bool = true, hasCarrier: Bool = true,
        master: UInt32? = nil, lower: UInt32? = nil, kind: Kind = .none, bridgeVLANs: [BridgeVLAN] = [],
        bridgeTunnels: [BridgeTunnel] = [], bridgePort: BridgePort? = nil, vxlanLearning: Bool? = nil,
        addressGenerationMode: UInt8? = nil, group: UInt32 = 0
    ) {
        self.isDelete = isDelete
        self.isBridgeFamily = isBridgeFamily
        self.interface = interface
        self.name = name
        self.mac = mac
        self.mtu = mtu
        self.isUp = isUp
        self.hasCarrier = hasCarrier
        self.master = master
        self.lower = lower
        self.kind = kind
        self.bridgeVLANs = bridgeVLANs
        self.bridgeTunnels = bridgeTunnels
        self.bridgePort = bridgePort
        self.vxlanLearning = vxlanLearning
        self.addressGenerationMode = addressGenerationMode
        self.group = group
    }
}

/// RTM_NEWADDR or RTM_DELADDR.
public struct AddressMessage: Hashable, Sendable {
    public var isDelete: Bool
    public var interface: UInt32
    public var prefix: IPPrefix
    public init(isDelete: Bool, interface: UInt32, prefix: IPPrefix) {
        self.isDelete = isDelete
        self.interface = interface
        self.prefix = prefix
    }
}
