// The IPv6 header and the walk over its extension headers (RFC 8200 sections 3 and 4).

/// View of the 40-byte IPv6 header.
public struct IPv6Header: HeaderView {
    @inlinable public static var byteCount: Int { 40 }
    @usableFromInline let base: UnsafeMutableRawPointer
    @inlinable @inline(__always) public init(at base: UnsafeMutableRawPointer) { self.base = base }

    @inlinable @inline(__always) public var version: UInt8 { base[byte: 0] &>> 4 }
    @inlinable public var trafficClass: UInt8 { UInt8(truncatingIfNeeded: base[be16: 0] &>> 4) }
    /// Bytes after this header, extension headers included.
    @inlinable @inline(__always) public var payloadLength: UInt16 { base[be16: 4] }
    @inlinable @inline(__always) public var nextHeader: UInt8 { base[byte: 6] }
    @inlinable @inline(__always) public var hopLimit: UInt8 { base[byte: 7] }
    /// As loaded from memory: the first and the last eight bytes.
    @inlinable @inline(__always)
    public var sourceRaw: (UInt64, UInt64) { (base[raw64: 8], base[raw64: 16]) }
    @inlinable @inline(__always)
    public var destinationRaw: (UInt64, UInt64) { (base[raw64: 24], base[raw64: 32]) }
    @inlinable public var source: IPv6Address {
        IPv6Address(high: UInt64(bigEndian: base[raw64: 8]), low: UInt64(bigEndian: base[raw64: 16]))
    }
    @inlinable public var destination: IPv6Address {
        IPv6Address(high: UInt64(bigEndian: base[raw64: 24]), low: UInt64(bigEndian: base[raw64: 32]))
    }
}

/// Where the extension headers of an IPv6 packet end.
@frozen public enum IPv6Walk: Equatable, Sendable {
    /// The upper-layer protocol and its offset from the start of the IPv6 header.
    case upperLayer(protocolNumber: UInt8, offset: Int)
    /// A fragment header was found; the protocol behind it, and whether it is a real fragment
    /// (an atomic one, RFC 6946, is walked over).
    case fragment(protocolNumber: UInt8)
    /// A header lies beyond the bytes that are there.
    case truncated
    /// More headers than ``maximumHeaderCount``.
    case tooLong

    /// How many extension headers are walked; real packets have one or two.
    @inlinable public static var maximumHeaderCount: Int { 6 }

    @inlinable @inline(__always)
    static func isExtension(_ header: UInt8) -> Bool {
        // Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, shim6.
        header == 0 || header == 43 || header == 44 || header == 51 || header == 60 || header == 135
            || header == 139 || header == 140
    }

    /// Walks from the IPv6 header at `base`, of whose packet `available` bytes can be read (at
    /// least 40).
    @inlinable @inline(__always)
    public init(at base: UnsafeMutableRawPointer, available: Int) {
        let first = base[byte: 6]
        if first == IPProtocol.udp || first == IPProtocol.tcp {
            self = .upperLayer(protocolNumber: first, offset: IPv6Header.byteCount)
        } else {
            self = IPv6Walk.walk(base, available)
        }
    }

    @inlinable @inline(never)
    static func walk(_ base: UnsafeMutableRawPointer, _ available: Int) -> IPv6Walk {
        var header = base[byte: 6]
        var offset = IPv6Header.byteCount
        var walked = 0
        while isExtension(header) {
            if walked == maximumHeaderCount { return .tooLong }
            if offset &+ 8 > available { return .truncated }
            let next = base[byte: offset]
            if header == 44 {
                // Offset and M flag; the two reserved bits between them are ignored.
                if base[be16: offset &+ 2] & 0xFFF9 != 0 { return .fragment(protocolNumber: next) }
                offset = offset &+ 8
            } else if header == 51 {
                offset = offset &+ (Int(base[byte: offset &+ 1]) &+ 2) &* 4
            } else {
                offset = offset &+ (Int(base[byte: offset &+ 1]) &+ 1) &* 8
            }
            header = next
            walked = walked &+ 1
        }
        return offset > available ? .truncated : .upperLayer(protocolNumber: header, offset: offset)
    }
}
