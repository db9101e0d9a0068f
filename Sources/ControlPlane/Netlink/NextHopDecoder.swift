// RTM_NEWNEXTHOP and RTM_DELNEXTHOP (struct nhmsg, include/uapi/linux/nexthop.h).

/// Decodes next-hop objects and groups.
enum NextHopDecoder {
    private static let headerSize = 8
    private static let onlinkFlag: UInt32 = 4
    // NHA_* types.
    private static let id: UInt16 = 1, group: UInt16 = 2, blackhole: UInt16 = 4, interface: UInt16 = 5
    private static let gateway: UInt16 = 6, fdb: UInt16 = 11

    static func decode(
        _ body: ByteReader, isDelete: Bool, _ header: NetlinkHeader
    ) throws(DecodeError) -> NetlinkMessage {
        let flags: UInt32 = try body.load(4, "nh_flags")
        var message = NextHopMessage(
            isDelete: isDelete, id: 0, interface: 0, isOnlink: flags & onlinkFlag != 0,
            nextHopProtocol: try body.load(2, "nh_protocol"))
        var attributes = try NetlinkAttributes(body.rest(after: headerSize))
        while let attribute = try attributes.next("NHA_* length") {
            switch attribute.type {
            case id: message.id = try attribute.u32("NHA_ID")
            case group: message.members = try members(attribute.value)
            case blackhole: message.isBlackhole = true
            case interface: message.interface = try attribute.u32("NHA_OIF")
            case gateway: message.gateway = try attribute.address("NHA_GATEWAY")
            case fdb: message.isFDB = true
            default: try attribute.skip("NHA_\(attribute.type)")
            }
        }
        guard message.id != 0 else { throw DecodeError(.missing, "NHA_ID", offset: body.start) }
        return .nextHop(message)
    }

    /// NHA_GROUP: struct nexthop_grp, 8 bytes each. The byte behind the weight extends it since
    /// kernel 6.12 only, and is not always initialised by FRR: it is ignored.
    private static func members(_ value: ByteReader) throws(DecodeError) -> [NextHopMessage.Member] {
        var result: [NextHopMessage.Member] = []
        result.reserveCapacity(value.count / 8)
        var rest = value
        while rest.count > 0 {
            let member = try rest.slice(0, 8, "NHA_GROUP")
            let weight: UInt8 = try member.load(4, "NHA_GROUP")
            result.append(.init(id: try member.load(0, "NHA_GROUP"), weight: UInt32(weight) + 1))
            rest = rest.rest(after: 8)
        }
        return result
    }
}
