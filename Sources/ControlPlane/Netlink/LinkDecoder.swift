// RTM_NEWLINK and RTM_DELLINK (struct ifinfomsg, include/uapi/linux/if_link.h and if_bridge.h).

import Wire

/// Decodes devices, and with family AF_BRIDGE the VLANs of bridge ports.
enum LinkDecoder {
    private static let headerSize = 16
    // IFF_* flags.
    private static let up: UInt32 = 1, lowerUp: UInt32 = 0x1_0000
    // IFLA_* types.
    private static let address: UInt16 = 1, name: UInt16 = 3, mtu: UInt16 = 4, lower: UInt16 = 5
    private static let master: UInt16 = 10, protocolInfo: UInt16 = 12, linkInfo: UInt16 = 18
    private static let familySpecific: UInt16 = 26, group: UInt16 = 27

    static func decode(
        _ body: ByteReader, isDelete: Bool, _ header: NetlinkHeader
    ) throws(DecodeError) -> NetlinkMessage {
        let family: UInt8 = try body.load(0, "ifi_family")
        guard family == AddressFamily.unspecified || family == AddressFamily.bridge else {
            return .ignored(type: header.type)
        }
        let flags: UInt32 = try body.load(8, "ifi_flags")
        let isBridge = family == AddressFamily.bridge
        var link = LinkMessage(
            isDelete: isDelete, isBridgeFamily: isBridge, interface: try body.load(4, "ifi_index"),
            isUp: flags & up != 0, hasCarrier: flags & lowerUp != 0)
        guard body.count >= headerSize else {
            throw DecodeError(
                .short, "ifinfomsg", offset: body.start, needed: headerSize, available: body.count)
        }
        var attributes = try NetlinkAttributes(body.rest(after: headerSize))
        while let attribute = try attributes.next("IFLA_* length") {
            switch attribute.type {
            case address: link.mac = attribute.mac
            case name: link.name = attribute.string
            case mtu: link.mtu = try attribute.u32("IFLA_MTU")
            case lower: link.lower = try attribute.u32("IFLA_LINK")
            case master: link.master = try attribute.u32("IFLA_MASTER")
            case group: link.group = try attribute.u32("IFLA_GROUP")
            case linkInfo: try LinkInfoDecoder.read(attribute, into: &link)
            case protocolInfo where isBridge:
                link.bridgePort = try LinkInfoDecoder.bridgePort(attribute, "IFLA_PROTINFO")
            case familySpecific where isBridge: try BridgeVLANDecoder.read(attribute, into: &link)
            case familySpecific: try readInet6(attribute, into: &link)
            default: try attribute.skip("IFLA_\(attribute.type)")
            }
        }
        return .link(link)
    }

    /// IFLA_AF_SPEC of an ordinary link: one nest for each address family, of which AF_INET6
    /// counts.
    private static func readInet6(
        _ attribute: NetlinkAttribute, into link: inout LinkMessage
    ) throws(DecodeError) {
        let generationMode: UInt16 = 8  // IFLA_INET6_ADDR_GEN_MODE
        var families = try attribute.nested("IFLA_AF_SPEC")
        while let family = try families.next("IFLA_AF_SPEC length") {
            guard family.type == UInt16(AddressFamily.ipv6) else {
                try family.skip("IFLA_AF_SPEC")
                continue
            }
            var inner = try family.nested("AF_INET6")
            while let attribute = try inner.next("IFLA_INET6_* length") {
                if attribute.type == generationMode {
                    link.addressGenerationMode = try attribute.u8("IFLA_INET6_ADDR_GEN_MODE")
                } else {
                    try attribute.skip("IFLA_INET6_\(attribute.type)")
                }
            }
        }
    }
}

/// IFLA_LINKINFO: the kind of a device and what is particular to that kind.
private enum LinkInfoDecoder {
    // IFLA_INFO_* types.
    private static let kind: UInt16 = 1, data: UInt16 = 2, portKind: UInt16 = 4, portData: UInt16 = 5

    static func read(
        _ attribute: NetlinkAttribute, into link: inout LinkMessage
    ) throws(DecodeError) {
        var name = ""
        var slaveOf = ""
        var details: NetlinkAttribute?
        var slaveDetails: NetlinkAttribute?
        var inner = try attribute.nested("IFLA_LINKINFO")
        while let attribute = try inner.next("IFLA_INFO_* length") {
            switch attribute.type {
            case kind: name = attribute.string
            case data: details = attribute
            case portKind: slaveOf = attribute.string
            case portData: slaveDetails = attribute
            default: try attribute.skip("IFLA_INFO_\(attribute.type)")
            }
        }
        if slaveOf == "bridge", let slaveDetails {
            link.bridgePort = try bridgePort(slaveDetails, "IFLA_INFO_SLAVE_DATA")
        } else {
            try slaveDetails?.skip("IFLA_INFO_SLAVE_DATA")
        }
        switch name {
        case "": break
        case "vxlan": try readVXLAN(details, into: &link)
        case "bridge":
            link.kind = .bridge(vlanFiltering: try find(7, in: details, "IFLA_BR_VLAN_FILTERING") ?? 0 != 0)
        case "vrf": link.kind = .vrf(table: try find32(1, in: details, "IFLA_VRF_TABLE") ?? 0)
        case "vlan": link.kind = .vlan(id: try find16(1, in: details, "IFLA_VLAN_ID") ?? 0)
        default:
            try details?.skip("IFLA_INFO_DATA")
            link.kind = .other(name)
        }
    }

    private static func readVXLAN(
        _ details: NetlinkAttribute?, into link: inout LinkMessage
    ) throws(DecodeError) {
        // IFLA_VXLAN_* types.
        let id: UInt16 = 1, local: UInt16 = 4, learning: UInt16 = 7, port: UInt16 = 15
        let local6: UInt16 = 17, collectMetadata: UInt16 = 25
        var vni: UInt32?
        var address: IPAddress?
        var udpPort: UInt16 = 0
        var isExternal = false
        var isLearning = false
        if let details {
            var inner = try details.nested("IFLA_INFO_DATA")
            while let attribute = try inner.next("IFLA_VXLAN_* length") {
                switch attribute.type {
                case id: vni = try attribute.u32("IFLA_VXLAN_ID")
                case local: address = try attribute.address(isV4: true, "IFLA_VXLAN_LOCAL")
                case local6: address = try attribute.address(isV4: false, "IFLA_VXLAN_LOCAL6")
                case learning: isLearning = try attribute.u8("IFLA_VXLAN_LEARNING") != 0
                case port: udpPort = UInt16(bigEndian: try attribute.u16("IFLA_VXLAN_PORT"))
                case collectMetadata:
                    isExternal = try attribute.u8("IFLA_VXLAN_COLLECT_METADATA") != 0
                default: try attribute.skip("IFLA_VXLAN_\(attribute.type)")
                }
            }
        }
        // A device that serves all VNIs reports the VNI 0.
        link.kind = .vxlan(
            vni: isExternal ? nil : vni, local: address, port: udpPort, collectMetadata: isExternal)
        link.vxlanLearning = isLearning
    }

    /// IFLA_BRPORT_* flags.
    static func bridgePort(
        _ attribute: NetlinkAttribute, _ what: @autoclosure () -> String
    ) throws(DecodeError) -> LinkMessage.BridgePort {
        var result: LinkMessage.BridgePort = []
        var inner = try attribute.nested(what())
        while let attribute = try inner.next("IFLA_BRPORT_* length") {
            let flag: LinkMessage.BridgePort
            switch attribute.type {
            case 8: flag = .learning
            case 9: flag = .flood
            case 27: flag = .multicastFlood
            case 30: flag = .broadcastFlood
            default:
                try attribute.skip("IFLA_BRPORT_\(attribute.type)")
                continue
            }
            if try attribute.u8("IFLA_BRPORT_\(attribute.type)") != 0 { result.insert(flag) }
        }
        return result
    }

    private static func find(
        _ type: UInt16, in nest: NetlinkAttribute?, _ what: @autoclosure () -> String
    ) throws(DecodeError) -> UInt8? {
        try attribute(type, in: nest, what())?.u8(what())
    }
    private static func find16(
        _ type: UInt16, in nest: NetlinkAttribute?, _ what: @autoclosure () -> String
    ) throws(DecodeError) -> UInt16? {
        try attribute(type, in: nest, what())?.u16(what())
    }
    private static func find32(
        _ type: UInt16, in nest: NetlinkAttribute?, _ what: @autoclosure () -> String
    ) throws(DecodeError) -> UInt32? {
        try attribute(type, in: nest, what())?.u32(what())
    }
    /// The last attribute of `type` in the nest; the rest of the nest must be well-formed too.
    private static func attribute(
        _ type: UInt16, in nest: NetlinkAttribute?, _ what: @autoclosure () -> String
    ) throws(DecodeError) -> NetlinkAttribute? {
        guard let nest else { return nil }
        var found: NetlinkAttribute?
        var inner = try nest.nested("IFLA_INFO_DATA")
        while let attribute = try inner.next("IFLA_INFO_DATA length") {
            if attribute.type == type { found = attribute } else { try attribute.skip("IFLA_INFO_DATA") }
        }
        return found
    }
}

/// IFLA_AF_SPEC of family AF_BRIDGE: a port's VLANs, and their VNIs on a single VXLAN device.
private enum BridgeVLANDecoder {
    // IFLA_BRIDGE_* and IFLA_BRIDGE_VLAN_TUNNEL_* types.
    private static let vlanInfo: UInt16 = 2, tunnelInfo: UInt16 = 3
    private static let tunnelID: UInt16 = 1, tunnelVLAN: UInt16 = 2, tunnelFlags: UInt16 = 3
    // BRIDGE_VLAN_INFO_* flags.
    private static let pvid: UInt16 = 2, rangeBegin: UInt16 = 8, rangeEnd: UInt16 = 16
    private static let highestVLAN: UInt16 = 4095

    static func read(
        _ attribute: NetlinkAttribute, into link: inout LinkMessage
    ) throws(DecodeError) {
        var vlanStart: UInt16?
        var tunnelStart: LinkMessage.BridgeTunnel?
        var inner = try attribute.nested("IFLA_AF_SPEC")
        while let attribute = try inner.next("IFLA_BRIDGE_* length") {
            switch attribute.type {
            case vlanInfo: try readVLAN(attribute, &vlanStart, into: &link)
            case tunnelInfo: try readTunnel(attribute, &tunnelStart, into: &link)
            default: try attribute.skip("IFLA_BRIDGE_\(attribute.type)")
            }
        }
    }

    /// struct bridge_vlan_info; a range is two of them, the first marked as its begin.
    private static func readVLAN(
        _ attribute: NetlinkAttribute, _ start: inout UInt16?, into link: inout LinkMessage
    ) throws(DecodeError) {
        let flags: UInt16 = try attribute.value.load(0, "IFLA_BRIDGE_VLAN_INFO")
        let vlan = try checked(
            attribute.value.load(2, "IFLA_BRIDGE_VLAN_INFO"), "IFLA_BRIDGE_VLAN_INFO", attribute)
        if flags & rangeBegin != 0 {
            start = vlan
            return
        }
        var first = vlan
        if flags & rangeEnd != 0 {
            first = try begin(start, upTo: vlan, "IFLA_BRIDGE_VLAN_INFO", attribute)
            start = nil
        }
        try bounded(link.bridgeVLANs.count, first, vlan, "IFLA_BRIDGE_VLAN_INFO", attribute)
        for id in first...vlan {
            link.bridgeVLANs.append(.init(id: id, isPVID: flags & pvid != 0))
        }
    }

    /// A VLAN and its VNI; in a range both count up together.
    private static func readTunnel(
        _ attribute: NetlinkAttribute, _ start: inout LinkMessage.BridgeTunnel?,
        into link: inout LinkMessage
    ) throws(DecodeError) {
        var vni: UInt32?
        var vlan: UInt16?
        var flags: UInt16 = 0
        var inner = try attribute.nested("IFLA_BRIDGE_VLAN_TUNNEL_INFO")
        while let field = try inner.next("IFLA_BRIDGE_VLAN_TUNNEL_* length") {
            switch field.type {
            case tunnelID: vni = try field.u32("IFLA_BRIDGE_VLAN_TUNNEL_ID")
            case tunnelVLAN:
                vlan = try checked(
                    field.u16("IFLA_BRIDGE_VLAN_TUNNEL_VID"), "IFLA_BRIDGE_VLAN_TUNNEL_VID", field)
            case tunnelFlags: flags = try field.u16("IFLA_BRIDGE_VLAN_TUNNEL_FLAGS")
            default: try field.skip("IFLA_BRIDGE_VLAN_TUNNEL_\(field.type)")
            }
        }
        guard let vni, let vlan else {
            throw DecodeError(
                .missing, "IFLA_BRIDGE_VLAN_TUNNEL_\(vni == nil ? "ID" : "VID")",
                offset: attribute.value.start)
        }
        let row = LinkMessage.BridgeTunnel(vlan: vlan, vni: vni)
        if flags & rangeBegin != 0 {
            start = row
            return
        }
        guard flags & rangeEnd != 0 else {
            try bounded(link.bridgeTunnels.count, vlan, vlan, "IFLA_BRIDGE_VLAN_TUNNEL_INFO", attribute)
            link.bridgeTunnels.append(row)
            return
        }
        let first = try begin(
            start?.vlan, upTo: vlan, "IFLA_BRIDGE_VLAN_TUNNEL_INFO", attribute)
        let firstVNI = start?.vni ?? vni
        start = nil
        try bounded(link.bridgeTunnels.count, first, vlan, "IFLA_BRIDGE_VLAN_TUNNEL_INFO", attribute)
        for id in first...vlan {
            link.bridgeTunnels.append(.init(vlan: id, vni: firstVNI &+ UInt32(id - first)))
        }
    }

    private static func checked(
        _ vlan: UInt16, _ what: String, _ attribute: NetlinkAttribute
    ) throws(DecodeError) -> UInt16 {
        guard vlan <= highestVLAN else {
            throw DecodeError(
                .invalidValue, what, offset: attribute.value.start, needed: Int(vlan),
                available: Int(highestVLAN))
        }
        return vlan
    }

    /// A port has each VLAN once; overlapping ranges must not make few bytes grow into many rows.
    private static func bounded(
        _ count: Int, _ first: UInt16, _ last: UInt16, _ what: String, _ attribute: NetlinkAttribute
    ) throws(DecodeError) {
        let total = count + Int(last - first) + 1
        guard total <= Int(highestVLAN) + 1 else {
            throw DecodeError(
                .invalidValue, "\(what) rows", offset: attribute.value.start, needed: total,
                available: Int(highestVLAN) + 1)
        }
    }

    /// The first VLAN of a range that ends at `last`.
    private static func begin(
        _ start: UInt16?, upTo last: UInt16, _ what: String, _ attribute: NetlinkAttribute
    ) throws(DecodeError) -> UInt16 {
        guard let start else {
            throw DecodeError(.missing, "\(what) range begin", offset: attribute.value.start)
        }
        guard start <= last else {
            throw DecodeError(
                .invalidValue, "\(what) range", offset: attribute.value.start, needed: Int(start),
                available: Int(last))
        }
        return start
    }
}
