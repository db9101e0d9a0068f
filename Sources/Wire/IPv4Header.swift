// The IPv4 header (RFC 791 section 3.1).

public import CLinux

/// View of an IPv4 header.
public struct IPv4Header: HeaderView {
    /// Without options.
    @inlinable public static var byteCount: Int { 20 }
    @usableFromInline let base: UnsafeMutableRawPointer
    @inlinable @inline(__always) public init(at base: UnsafeMutableRawPointer) { self.base = base }

    @inlinable @inline(__always) public var version: UInt8 { base[byte: 0] &>> 4 }
    /// With options, in bytes; below 20 when the field is wrong.
    @inlinable @inline(__always)
    public var headerByteCount: Int { Int(base[byte: 0] & 0xF) &<< 2 }
    @inlinable @inline(__always) public var trafficClass: UInt8 { base[byte: 1] }
    @inlinable @inline(__always) public var totalLength: UInt16 { base[be16: 2] }
    @inlinable @inline(__always) public var identification: UInt16 { base[be16: 4] }
    @inlinable @inline(__always) public var dontFragment: Bool { base[byte: 6] & 0x40 != 0 }
    /// Whether it is a part of a packet: more fragments follow, or this is not the first.
    @inlinable @inline(__always)
    public var isFragment: Bool { base[raw16: 6] & UInt16(0x3FFF).bigEndian != 0 }
    @inlinable @inline(__always) public var timeToLive: UInt8 { base[byte: 8] }
    @inlinable @inline(__always) public var protocolNumber: UInt8 { base[byte: 9] }
    @inlinable @inline(__always) public var checksum: UInt16 { base[be16: 10] }
    /// As loaded from memory.
    @inlinable @inline(__always) public var sourceRaw: UInt32 { base[raw32: 12] }
    @inlinable @inline(__always) public var destinationRaw: UInt32 { base[raw32: 16] }
    @inlinable public var source: IPv4Address { IPv4Address(rawValue: base[be32: 12]) }
    @inlinable public var destination: IPv4Address { IPv4Address(rawValue: base[be32: 16]) }

    /// Whether a header without options sums to all ones (RFC 1071).
    @inlinable @inline(__always)
    public var isPlainChecksumValid: Bool {
        Checksum.fold(pe_ipv4_sum(base)) == 0xFFFF
    }
    /// Whether the header, of `headerByteCount` bytes, sums to all ones (RFC 1071).
    @inlinable @inline(__always)
    public func isChecksumValid(headerByteCount: Int) -> Bool {
        var sum = UInt64(base[raw32: 0]) &+ UInt64(base[raw32: 4]) &+ UInt64(base[raw32: 8])
            &+ UInt64(base[raw32: 12]) &+ UInt64(base[raw32: 16])
        var offset = 20
        while offset < headerByteCount {
            sum = sum &+ UInt64(base[raw32: offset])
            offset = offset &+ 4
        }
        return Checksum.fold(sum) == 0xFFFF
    }
}
