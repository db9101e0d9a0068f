// Netlink attributes: type, length and value, one after the other, 4-byte aligned (struct nlattr).

import Wire

/// One attribute of a message or of a nest.
struct NetlinkAttribute {
    /// Without NLA_F_NESTED and NLA_F_NET_BYTEORDER: FRR sets the former even where the kernel does
    /// not.
    let type: UInt16
    let isMarkedNested: Bool
    /// The payload; exactly nla_len - 4 bytes. Padding after it is whatever lay on the sender's
    /// stack.
    let value: ByteReader
    /// Levels of attributes around this one.
    let depth: Int

    static let headerSize = 4
    static let typeMask: UInt16 = 0x3FFF
    static let nestedFlag: UInt16 = 0x8000

    func u8(_ what: @autoclosure () -> String) throws(DecodeError) -> UInt8 { try value.load(0, what()) }
    func u16(_ what: @autoclosure () -> String) throws(DecodeError) -> UInt16 { try value.load(0, what()) }
    func u32(_ what: @autoclosure () -> String) throws(DecodeError) -> UInt32 { try value.load(0, what()) }

    /// An address whose family its length tells: 4 or 16 bytes.
    func address(_ what: @autoclosure () -> String) throws(DecodeError) -> IPAddress {
        switch value.count {
        case 4: return .v4(try ipv4(value, 0, what()))
        case 16: return .v6(try ipv6(value, 0, what()))
        default:
            let needed = value.count < 4 ? 4 : 16
            if value.count < 16 {
                throw DecodeError(
                    .short, what(), offset: value.start, needed: needed, available: value.count)
            }
            throw DecodeError(
                .invalidValue, what(), offset: value.start, needed: value.count, available: 16)
        }
    }

    /// An address of the message's family, which fixes its length.
    func address(
        isV4: Bool, _ what: @autoclosure () -> String
    ) throws(DecodeError) -> IPAddress {
        guard value.count <= (isV4 ? 4 : 16) else {
            throw DecodeError(
                .invalidValue, what(), offset: value.start, needed: value.count,
                available: isV4 ? 4 : 16)
        }
        return isV4 ? .v4(try ipv4(value, 0, what())) : .v6(try ipv6(value, 0, what()))
    }

    /// A device's address when it has six bytes; nil for other link layers.
    var mac: MACAddress? { value.count == 6 ? MACAddress(bytes: value.bytes) : nil }

    /// Text up to the first NUL or the end; bytes that are not UTF-8 become U+FFFD.
    var string: String { String(decoding: value.bytes.prefix { $0 != 0 }, as: UTF8.self) }

    /// The attributes inside this one.
    func nested(_ what: @autoclosure () -> String) throws(DecodeError) -> NetlinkAttributes {
        try NetlinkAttributes(value, depth: depth + 1, what())
    }

    /// Ignores an attribute that nothing here knows. What is inside a nest is not judged, except
    /// that it may not be nested deeper than anything real is.
    func skip(_ what: @autoclosure () -> String) throws(DecodeError) {
        guard isMarkedNested else { return }
        var inner = try nested(what())
        while true {
            let attribute: NetlinkAttribute?
            do { attribute = try inner.next(what()) } catch { return }
            guard let attribute else { return }
            try attribute.skip(what())
        }
    }
}

/// The IPv4 address at `offset`, in network order.
func ipv4(
    _ reader: ByteReader, _ offset: Int, _ what: @autoclosure () -> String
) throws(DecodeError) -> IPv4Address {
    IPv4Address(rawValue: UInt32(bigEndian: try reader.load(offset, what())))
}

/// The IPv6 address at `offset`, in network order.
func ipv6(
    _ reader: ByteReader, _ offset: Int, _ what: @autoclosure () -> String
) throws(DecodeError) -> IPv6Address {
    let bytes = try reader.slice(offset, 16, what())
    return IPv6Address(
        high: UInt64(bigEndian: try bytes.load(0, what())),
        low: UInt64(bigEndian: try bytes.load(8, what())))
}

/// Attributes one after the other.
struct NetlinkAttributes {
    /// Levels of nesting, the message's own attributes being the first. The deepest that FRR or the
    /// kernel sends of what is decoded here has three.
    static let maximumDepth = 8

    private var rest: ByteReader
    private let depth: Int

    init(
        _ reader: ByteReader, depth: Int = 1, _ what: @autoclosure () -> String = "attributes"
    ) throws(DecodeError) {
        guard depth <= Self.maximumDepth else {
            throw DecodeError(
                .nestedTooDeep, what(), offset: reader.start, needed: depth,
                available: Self.maximumDepth)
        }
        rest = reader
        self.depth = depth
    }

    /// The next attribute; nil at the end. Throws when its length is below the header's or goes
    /// beyond what is there.
    mutating func next(
        _ what: @autoclosure () -> String = "nla_len"
    ) throws(DecodeError) -> NetlinkAttribute? {
        guard rest.count > 0 else { return nil }
        let length = Int(try rest.load(0, what(), as: UInt16.self))
        let type = try rest.load(2, what(), as: UInt16.self)
        guard length >= NetlinkAttribute.headerSize else {
            throw DecodeError(
                .short, what(), offset: rest.start, needed: NetlinkAttribute.headerSize,
                available: length)
        }
        let header = NetlinkAttribute.headerSize
        let whole = try rest.slice(0, length, what())
        rest = rest.rest(after: aligned(length))
        return NetlinkAttribute(
            type: type & NetlinkAttribute.typeMask,
            isMarkedNested: type & NetlinkAttribute.nestedFlag != 0,
            value: whole.rest(after: header), depth: depth)
    }
}

/// `length` rounded up to netlink's alignment of 4 bytes (NLMSG_ALIGN, NLA_ALIGN).
func aligned(_ length: Int) -> Int { (length &+ 3) & ~3 }
