// RTM_NEWNEIGH and RTM_DELNEIGH (struct ndmsg, include/uapi/linux/neighbour.h).

/// Decodes bridge and vxlan FDB rows and IP neighbours.
enum NeighborDecoder {
    private static let headerSize = 12
    // NDA_* types.
    private static let destination: UInt16 = 1, linkAddress: UInt16 = 2, cacheInfo: UInt16 = 3, vlan: UInt16 = 5
    private static let vni: UInt16 = 7, master: UInt16 = 9, sourceVNI: UInt16 = 11
    private static let originator: UInt16 = 12, nextHopID: UInt16 = 13

    static func decode(
        _ body: ByteReader, isDelete: Bool, _ header: NetlinkHeader
    ) throws(DecodeError) -> NetlinkMessage {
        let family: NeighborMessage.Family
        switch try body.load(0, "ndm_family", as: UInt8.self) {
        case AddressFamily.bridge: family = .bridge
        case AddressFamily.ipv4: family = .ipv4
        case AddressFamily.ipv6: family = .ipv6
        default: return .ignored(type: header.type)
        }
        var message = NeighborMessage(
            isDelete: isDelete, family: family, interface: try body.load(4, "ndm_ifindex"),
            state: .init(rawValue: try body.load(8, "ndm_state")),
            flags: .init(rawValue: try body.load(10, "ndm_flags")))
        guard body.count >= headerSize else {
            throw DecodeError(
                .short, "ndmsg", offset: body.start, needed: headerSize, available: body.count)
        }
        var vniOfOldModule: UInt32?
        var attributes = try NetlinkAttributes(body.rest(after: headerSize))
        while let attribute = try attributes.next("NDA_* length") {
            switch attribute.type {
            case destination:
                message.destination =
                    family == .bridge
                    ? try attribute.address("NDA_DST")
                    : try attribute.address(isV4: family == .ipv4, "NDA_DST")
            case linkAddress:
                // Tunnels and raw devices have neighbours with other link layers; bridges do not.
                if family == .bridge { _ = try attribute.value.slice(0, 6, "NDA_LLADDR") }
                message.mac = attribute.mac
            case cacheInfo:
                if family == .bridge {
                    message.writtenAge = try writtenAge(attribute.value, message.flags)
                }
            case vlan: message.vlan = try attribute.u16("NDA_VLAN")
            case vni: vniOfOldModule = try attribute.u32("NDA_VNI")
            case sourceVNI: message.vni = try attribute.u32("NDA_SRC_VNI")
            case master: message.master = try attribute.u32("NDA_MASTER")
            case nextHopID: message.nextHopID = try attribute.u32("NDA_NH_ID")
            case originator: message.neighborProtocol = try attribute.u8("NDA_PROTOCOL")
            default: try attribute.skip("NDA_\(attribute.type)")
            }
        }
        if message.vni == nil { message.vni = vniOfOldModule }
        return .neighbor(message)
    }

    /// struct nda_cacheinfo: confirmed, used, updated, references; ages in hundredths of a second.
    ///
    /// An addition without a change sets `updated` of an externally learned row and `used` of any
    /// other (br_fdb_external_learn_add and fdb_add_entry of net/bridge/br_fdb.c). The first is not
    /// taken from `used`, which traffic sets too.
    private static func writtenAge(
        _ value: ByteReader, _ flags: NeighborMessage.Flags
    ) throws(DecodeError) -> UInt32 {
        let used = try value.load(4, "ndm_used", as: UInt32.self)
        let updated = try value.load(8, "ndm_updated", as: UInt32.self)
        return flags.contains(.externallyLearned) ? updated : min(used, updated)
    }
}
