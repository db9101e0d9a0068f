// RTM_NEWROUTE and RTM_DELROUTE (struct rtmsg, include/uapi/linux/rtnetlink.h; FRR
// zebra/rt_netlink.c).

import Wire

/// Decodes routes in all the forms that FRR 8.4 to 10.7 and the kernel use.
enum RouteDecoder {
    private static let headerSize = 12
    /// RTM_F_CLONED: a cached exception, not a route.
    private static let clonedFlag: UInt32 = 0x200
    /// RTNH_F_DEAD: the device of the route's only next hop is down.
    static let deadFlag: UInt32 = 1

    static func decode(
        _ body: ByteReader, isDelete: Bool, _ header: NetlinkHeader
    ) throws(DecodeError) -> NetlinkMessage {
        let family: UInt8 = try body.load(0, "rtm_family")
        let flags: UInt32 = try body.load(8, "rtm_flags")
        guard family == AddressFamily.ipv4 || family == AddressFamily.ipv6, flags & clonedFlag == 0 else {
            return .ignored(type: header.type)
        }
        // Routes for some sources or types of service alone are none for all packets.
        let sourceLength: UInt8 = try body.load(2, "rtm_src_len")
        let typeOfService: UInt8 = try body.load(3, "rtm_tos")
        if sourceLength != 0 || family == AddressFamily.ipv4 && typeOfService != 0 {
            return .ignored(type: header.type)
        }
        if !isDelete, flags & deadFlag != 0 { return .ignored(type: header.type) }
        let isV4 = family == AddressFamily.ipv4
        var fields = RouteFields(isOnlink: flags & RouteFields.onlinkFlag != 0)
        var attributes = try NetlinkAttributes(body.rest(after: headerSize))
        while let attribute = try attributes.next("RTA_* length") {
            try fields.read(attribute, isV4: isV4)
        }
        let length = Int(try body.load(1, "rtm_dst_len", as: UInt8.self))
        let any: IPAddress = isV4 ? .v4(IPv4Address(rawValue: 0)) : .v6(IPv6Address(high: 0, low: 0))
        guard fields.destination != nil || length == 0 else {
            throw DecodeError(.missing, "RTA_DST", offset: body.start)
        }
        guard let prefix = IPPrefix(fields.destination ?? any, length: length) else {
            throw DecodeError(
                .invalidValue, "rtm_dst_len", offset: body.start + 1, needed: length,
                available: any.bitCount)
        }
        let table = UInt32(try body.load(4, "rtm_table", as: UInt8.self))
        return .route(
            RouteMessage(
                isDelete: isDelete, prefix: prefix, table: fields.table ?? table,
                routeProtocol: try body.load(5, "rtm_protocol"),
                kind: kind(try body.load(7, "rtm_type")), metric: fields.metric,
                nextHopID: fields.nextHopID, nextHops: try fields.nextHops(), portID: header.portID,
                isReplace: header.flags & NetlinkHeader.replaceFlag != 0,
                isAppend: header.flags & NetlinkHeader.appendFlag != 0))
    }

    private static func kind(_ type: UInt8) -> RouteMessage.Kind {
        switch type {
        case 1: .unicast
        case 2: .local
        case 6: .blackhole
        case 7: .unreachable
        case 8: .prohibit
        default: .other(type)
        }
    }
}

/// RTA_* types.
private enum RouteAttribute {
    static let destination: UInt16 = 1, interface: UInt16 = 4, gateway: UInt16 = 5
    static let priority: UInt16 = 6, multipath: UInt16 = 9, table: UInt16 = 15, via: UInt16 = 18
    static let encapType: UInt16 = 21, encap: UInt16 = 22, nextHopID: UInt16 = 30
}

/// The attributes of a route, collected before they are put together.
private struct RouteFields {
    /// RTNH_F_ONLINK, in rtm_flags and in rtnh_flags.
    static let onlinkFlag: UInt32 = 4

    var isOnlink: Bool
    var destination: IPAddress?
    var table: UInt32?
    var metric: UInt32 = 0
    var nextHopID: UInt32?
    private var gateway: IPAddress?
    private var interface: UInt32?
    private var encap = EncapAttributes()
    private var members: [RouteNextHop]?

    init(isOnlink: Bool) { self.isOnlink = isOnlink }

    mutating func read(_ attribute: NetlinkAttribute, isV4: Bool) throws(DecodeError) {
        switch attribute.type {
        case RouteAttribute.destination:
            destination = try attribute.address(isV4: isV4, "RTA_DST")
        case RouteAttribute.interface: interface = try attribute.u32("RTA_OIF")
        case RouteAttribute.gateway: gateway = try attribute.address("RTA_GATEWAY")
        case RouteAttribute.via: gateway = try via(attribute)
        case RouteAttribute.priority: metric = try attribute.u32("RTA_PRIORITY")
        case RouteAttribute.table: table = try attribute.u32("RTA_TABLE")
        case RouteAttribute.nextHopID: nextHopID = try attribute.u32("RTA_NH_ID")
        case RouteAttribute.multipath: members = try multipath(attribute)
        case RouteAttribute.encapType, RouteAttribute.encap: try encap.read(attribute)
        default: try attribute.skip("RTA_\(attribute.type)")
        }
    }

    /// The next hops written in the route. FRR 8.4.4 writes the encapsulations of a multipath route
    /// behind RTA_MULTIPATH, one for each member in order.
    func nextHops() throws(DecodeError) -> [RouteNextHop] {
        let vnis = try encap.vnis()
        guard var members else {
            guard gateway != nil || interface != nil else { return [] }
            return [
                RouteNextHop(
                    gateway: gateway, interface: interface ?? 0, isOnlink: isOnlink,
                    encapVNI: vnis.first ?? nil)
            ]
        }
        if vnis.count == members.count {
            for index in members.indices where members[index].encapVNI == nil {
                members[index].encapVNI = vnis[index]
            }
        }
        return members
    }

    /// RTA_MULTIPATH: struct rtnexthop, each followed by its attributes. FRR 8.5.7, 9.0.5, 9.1.3
    /// and 10.0.5 put the encapsulation between two of them, where only an attribute of that length
    /// can be meant: no rtnexthop has fewer than 8 bytes.
    private func multipath(_ attribute: NetlinkAttribute) throws(DecodeError) -> [RouteNextHop] {
        let headerSize = 8
        var rest = attribute.value
        var result: [RouteNextHop] = []
        while rest.count > 0 {
            let length = Int(try rest.load(0, "rtnh_len", as: UInt16.self))
            if length < headerSize, let last = result.indices.last,
                try rest.load(2, "rtnh_flags", as: UInt16.self) & NetlinkAttribute.typeMask
                    == RouteAttribute.encapType
            {
                let stray = try strayEncap(rest)
                result[last].encapVNI = stray.vni
                rest = stray.rest
                continue
            }
            guard length >= headerSize else {
                throw DecodeError(
                    .short, "rtnh_len", offset: rest.start, needed: headerSize, available: length)
            }
            let whole = try rest.slice(0, length, "rtnh_len")
            let flags: UInt8 = try rest.load(2, "rtnh_flags")
            rest = rest.rest(after: aligned(length))
            let hop = try nextHop(
                whole,
                NetlinkAttributes(whole.rest(after: headerSize), depth: attribute.depth + 1, "RTA_MULTIPATH"))
            // The kernel keeps the next hops of a device that is down, and does not use them.
            if UInt32(flags) & RouteDecoder.deadFlag == 0 { result.append(hop) }
        }
        return result
    }

    private func nextHop(
        _ reader: ByteReader, _ attributes: NetlinkAttributes
    ) throws(DecodeError) -> RouteNextHop {
        let flags: UInt8 = try reader.load(2, "rtnh_flags")
        let hops: UInt8 = try reader.load(3, "rtnh_hops")
        var result = RouteNextHop(
            interface: try reader.load(4, "rtnh_ifindex"), weight: UInt32(hops) + 1,
            isOnlink: UInt32(flags) & Self.onlinkFlag != 0)
        var encap = EncapAttributes()
        var attributes = attributes
        while let attribute = try attributes.next("rtnexthop attribute length") {
            switch attribute.type {
            case RouteAttribute.gateway: result.gateway = try attribute.address("RTA_GATEWAY")
            case RouteAttribute.via: result.gateway = try via(attribute)
            case RouteAttribute.encapType, RouteAttribute.encap: try encap.read(attribute)
            default: try attribute.skip("RTA_\(attribute.type)")
            }
        }
        result.encapVNI = try encap.vnis().first ?? nil
        return result
    }

    /// RTA_ENCAP_TYPE and RTA_ENCAP between two rtnexthops.
    private func strayEncap(
        _ reader: ByteReader
    ) throws(DecodeError) -> (vni: UInt32?, rest: ByteReader) {
        var encap = EncapAttributes()
        var rest = reader
        for _ in 0..<2 where rest.count > 0 {
            var attributes = try NetlinkAttributes(rest, depth: 2, "RTA_MULTIPATH")
            guard let attribute = try attributes.next("RTA_ENCAP length") else { break }
            guard attribute.type == RouteAttribute.encapType || attribute.type == RouteAttribute.encap
            else { break }
            try encap.read(attribute)
            rest = rest.rest(after: aligned(attribute.value.count + NetlinkAttribute.headerSize))
        }
        return (try encap.vnis().first ?? nil, rest)
    }

    /// RTA_VIA: struct rtvia, a family (16 bit) and an address of it.
    private func via(_ attribute: NetlinkAttribute) throws(DecodeError) -> IPAddress {
        let family: UInt16 = try attribute.value.load(0, "RTA_VIA family")
        switch family {
        case UInt16(AddressFamily.ipv4): return .v4(try ipv4(attribute.value, 2, "RTA_VIA"))
        case UInt16(AddressFamily.ipv6): return .v6(try ipv6(attribute.value, 2, "RTA_VIA"))
        default:
            throw DecodeError(
                .invalidValue, "RTA_VIA family", offset: attribute.value.start, needed: Int(family),
                available: Int(AddressFamily.ipv6))
        }
    }
}

/// RTA_ENCAP_TYPE and RTA_ENCAP pairs; FRR writes the type first, the kernel last.
private struct EncapAttributes {
    /// NET_VXLAN, known to FRR alone (zebra/rt_netlink.h); the VNI is attribute 0 of the nest.
    private static let vxlan: UInt16 = 100
    private static let vni: UInt16 = 0
    private var types: [UInt16] = []
    private var nests: [NetlinkAttribute] = []

    mutating func read(_ attribute: NetlinkAttribute) throws(DecodeError) {
        if attribute.type == RouteAttribute.encapType {
            types.append(try attribute.u16("RTA_ENCAP_TYPE"))
        } else {
            nests.append(attribute)
        }
    }

    /// The VNI of each RTA_ENCAP in order; nil for another kind of encapsulation.
    func vnis() throws(DecodeError) -> [UInt32?] {
        var result: [UInt32?] = []
        for (index, nest) in nests.enumerated() {
            guard index < types.count, types[index] == Self.vxlan else {
                try nest.skip("RTA_ENCAP")
                result.append(nil)
                continue
            }
            var vni: UInt32?
            var attributes = try nest.nested("RTA_ENCAP")
            while let attribute = try attributes.next("RTA_ENCAP attribute length") {
                if attribute.type == Self.vni {
                    vni = try attribute.u32("VXLAN_VNI")
                } else {
                    try attribute.skip("RTA_ENCAP")
                }
            }
            result.append(vni)
        }
        return result
    }
}
