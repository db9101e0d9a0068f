// RTM_NEWADDR and RTM_DELADDR (struct ifaddrmsg, include/uapi/linux/if_addr.h).

import Wire

/// Decodes the addresses of devices.
enum AddressDecoder {
    private static let headerSize = 8
    // IFA_* types. On a point-to-point device IFA_ADDRESS is the far end, IFA_LOCAL the own
    // address.
    private static let address: UInt16 = 1, local: UInt16 = 2

    static func decode(
        _ body: ByteReader, isDelete: Bool, _ header: NetlinkHeader
    ) throws(DecodeError) -> NetlinkMessage {
        let family: UInt8 = try body.load(0, "ifa_family")
        guard family == AddressFamily.ipv4 || family == AddressFamily.ipv6 else {
            return .ignored(type: header.type)
        }
        let isV4 = family == AddressFamily.ipv4
        let interface: UInt32 = try body.load(4, "ifa_index")
        var far: IPAddress?
        var own: IPAddress?
        var attributes = try NetlinkAttributes(body.rest(after: headerSize))
        while let attribute = try attributes.next("IFA_* length") {
            switch attribute.type {
            case address: far = try attribute.address(isV4: isV4, "IFA_ADDRESS")
            case local: own = try attribute.address(isV4: isV4, "IFA_LOCAL")
            default: try attribute.skip("IFA_\(attribute.type)")
            }
        }
        guard let found = own ?? far else {
            throw DecodeError(.missing, "IFA_ADDRESS", offset: body.start)
        }
        let length = Int(try body.load(1, "ifa_prefixlen", as: UInt8.self))
        guard let prefix = IPPrefix(found, length: length) else {
            throw DecodeError(
                .invalidValue, "ifa_prefixlen", offset: body.start + 1, needed: length,
                available: found.bitCount)
        }
        return .address(AddressMessage(isDelete: isDelete, interface: interface, prefix: prefix))
    }
}
