// The one decoder of netlink bytes: what FRR sends by FPM and what the kernel sends by rtnetlink.

/// Turns netlink bytes into ``NetlinkMessage`` values.
///
/// Integers are in host byte order, addresses in network order. A fault inside a message costs that
/// message only; a message whose own length is unusable ends the buffer, because nothing tells
/// where the next one begins.
public enum NetlinkDecoder {
    /// - Returns: the messages in the order they came, and one error for each that was given up.
    public static func decode(
        _ bytes: UnsafeRawBufferPointer
    ) -> (messages: [NetlinkMessage], errors: [DecodeError]) {
        var messages: [NetlinkMessage] = []
        var errors: [DecodeError] = []
        decode(bytes, into: &messages, &errors)
        return (messages, errors)
    }
    /// Appends the messages of a buffer, and an error for each that was given up.
    public static func decode(
        _ bytes: UnsafeRawBufferPointer, into messages: inout [NetlinkMessage], _ errors: inout [DecodeError]
    ) {
        var rest = ByteReader(bytes)
        while rest.count > 0 {
            let header: NetlinkHeader
            do { header = try NetlinkHeader(rest) } catch {
                errors.append(error)
                break
            }
            do {
                messages.append(try decode(header))
            } catch {
                var error = error
                error.messageType = header.type
                errors.append(error)
            }
            rest = rest.rest(after: aligned(header.length))
        }
    }

    /// The same for bytes of a collection, such as an array or a slice of one.
    public static func decode(
        _ bytes: some Collection<UInt8>
    ) -> (messages: [NetlinkMessage], errors: [DecodeError]) {
        let decoded = bytes.withContiguousStorageIfAvailable { decode(UnsafeRawBufferPointer($0)) }
        return decoded ?? Array(bytes).withUnsafeBytes { decode($0) }
    }

    private static func decode(_ header: NetlinkHeader) throws(DecodeError) -> NetlinkMessage {
        let body = header.body
        switch header.type {
        case 16: return try LinkDecoder.decode(body, isDelete: false, header)
        case 17: return try LinkDecoder.decode(body, isDelete: true, header)
        case 20: return try AddressDecoder.decode(body, isDelete: false, header)
        case 21: return try AddressDecoder.decode(body, isDelete: true, header)
        case 24: return try RouteDecoder.decode(body, isDelete: false, header)
        case 25: return try RouteDecoder.decode(body, isDelete: true, header)
        case 28: return try NeighborDecoder.decode(body, isDelete: false, header)
        case 29: return try NeighborDecoder.decode(body, isDelete: true, header)
        case 104: return try NextHopDecoder.decode(body, isDelete: false, header)
        case 105: return try NextHopDecoder.decode(body, isDelete: true, header)
        case NetlinkHeader.done: return try decodeDone(header)
        case NetlinkHeader.error:
            let code: Int32 = try body.load(0, "nlmsgerr.error")
            return .error(errno: 0 &- code, sequence: header.sequence)
        default: return .ignored(type: header.type)
        }
    }

    /// NLMSG_DONE ends a dump, and carries an error when the kernel had to give the dump up.
    private static func decodeDone(_ header: NetlinkHeader) throws(DecodeError) -> NetlinkMessage {
        guard header.body.count >= 4 else { return .done }
        let code: Int32 = try header.body.load(0, "NLMSG_DONE")
        return code < 0 ? .error(errno: 0 &- code, sequence: header.sequence) : .done
    }
}

/// struct nlmsghdr, its length checked against the buffer.
struct NetlinkHeader {
    static let size = 16
    static let error: UInt16 = 2, done: UInt16 = 3
    /// NLM_F_REPLACE of a request; NLM_F_DUMP_INTR of a reply.
    static let replaceFlag: UInt16 = 0x100, appendFlag: UInt16 = 0x800, dumpInterruptedFlag: UInt16 = 0x10

    let length: Int
    let type: UInt16
    let flags: UInt16
    let sequence: UInt32
    let portID: UInt32
    let body: ByteReader

    init(_ reader: ByteReader) throws(DecodeError) {
        length = Int(try reader.load(0, "nlmsg_len", as: UInt32.self))
        guard length >= Self.size else {
            throw DecodeError(
                .short, "nlmsg_len", offset: reader.start, needed: Self.size, available: length)
        }
        let message = try reader.slice(0, length, "nlmsg_len")
        type = try message.load(4, "nlmsg_type")
        flags = try message.load(6, "nlmsg_flags")
        sequence = try message.load(8, "nlmsg_seq")
        portID = try message.load(12, "nlmsg_pid")
        body = message.rest(after: Self.size)
    }
}

/// Address families as netlink headers name them (include/linux/socket.h).
enum AddressFamily {
    static let unspecified: UInt8 = 0, ipv4: UInt8 = 2, bridge: UInt8 = 7, ipv6: UInt8 = 10
}
