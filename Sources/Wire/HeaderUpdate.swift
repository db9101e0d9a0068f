// Changes to IP headers in place, with their checksums: TTL, DSCP and ECN (RFC 1624, RFC 2474, RFC 6040).

extension IPv4Header {
    /// Takes one off the TTL, which is not 0, and adds it to the checksum (RFC 1141; RFC 1624).
    @inlinable @inline(__always)
    public func decrementTimeToLive() {
        base[byte: 8] = base[byte: 8] &- 1
        // The TTL is its word's upper byte: 0x0100 on the wire, 1 as loaded by a little-endian machine.
        let sum = UInt32(base[raw16: 10]) &+ UInt32(UInt16(0x0100).bigEndian)
        base[raw16: 10] = UInt16(truncatingIfNeeded: sum &+ (sum >= 0xFFFF ? 1 : 0))
    }
    @inlinable
    public func setTimeToLive(_ value: UInt8) {
        let old = base[raw16: 8]
        base[byte: 8] = value
        base[raw16: 10] = Checksum.update(base[raw16: 10], from: old, to: base[raw16: 8])
    }
    /// DSCP and ECN.
    @inlinable @inline(__always)
    public func setTrafficClass(_ value: UInt8) {
        let old = base[raw16: 0]
        base[byte: 1] = value
        base[raw16: 10] = Checksum.update(base[raw16: 10], from: old, to: base[raw16: 0])
    }
    /// Writes the checksum of a header of `headerByteCount` bytes.
    @inlinable
    public func setChecksum(headerByteCount: Int) {
        base[raw16: 10] = 0
        base[raw16: 10] = Checksum.field(Checksum.sum(base, headerByteCount))
    }
    /// Exchanges source and destination, which leaves the checksum right.
    @inlinable
    public func swapAddresses() {
        let source = base[raw32: 12]
        base[raw32: 12] = base[raw32: 16]
        base[raw32: 16] = source
    }
}

extension IPv6Header {
    @inlinable @inline(__always)
    public func decrementHopLimit() { base[byte: 7] = base[byte: 7] &- 1 }
    @inlinable @inline(__always) public func setHopLimit(_ value: UInt8) { base[byte: 7] = value }
    /// DSCP and ECN; the flow label stays.
    @inlinable @inline(__always)
    public func setTrafficClass(_ value: UInt8) {
        base[be16: 0] = base[be16: 0] & 0xF00F | UInt16(value) &<< 4
    }
    @inlinable
    public func swapAddresses() {
        let source = RawIPv6(at: base + 8)
        RawIPv6(at: base + 24).store(at: base + 8)
        source.store(at: base + 24)
    }
}

/// The two low bits of the traffic class (RFC 3168 section 5).
public enum ECN {
    @inlinable public static var notECT: UInt8 { 0 }
    @inlinable public static var ect1: UInt8 { 1 }
    @inlinable public static var ect0: UInt8 { 2 }
    @inlinable public static var congestion: UInt8 { 3 }

    /// What leaves a tunnel, by RFC 6040 figure 4: two bits for each pair, the inner field above the
    /// outer one in the index. ECT(1) outside wins over ECT(0) inside; congestion outside marks every
    /// packet that can be marked.
    @inlinable static var table: UInt32 { 0b11_11_11_11__11_10_01_10__11_01_01_01__00_00_00_00 }

    /// The ECN field with which a packet leaves a tunnel; nil when it must be dropped: congestion was
    /// experienced on the way, and the inner packet cannot say so (RFC 6040 section 4.2).
    @inlinable @inline(__always)
    public static func decapsulated(inner: UInt8, outer: UInt8) -> UInt8? {
        let index = UInt32(inner & 3) &<< 2 | UInt32(outer & 3)
        if index == 3 { return nil }
        return UInt8(truncatingIfNeeded: table &>> (index &<< 1) & 3)
    }
}
