// The internet checksum (RFC 1071) over scattered bytes.

public import CLinux

/// One's complement sums in memory order: on any machine, storing a folded sum with `storeBytes`
/// gives the bytes that belong on the wire (RFC 1071 section 2(B)).
public enum Checksum {
    /// Sixteen bits with the carries added back in.
    ///
    /// A number plus itself with its halves exchanged has in its upper half the sum of the halves,
    /// the carry of the lower half included.
    @inlinable @inline(__always)
    public static func fold(_ sum: UInt64) -> UInt16 {
        let wide = sum &+ (sum &<< 32 | sum &>> 32)
        let word = UInt32(truncatingIfNeeded: wide &>> 32)
        let folded = word &+ (word &<< 16 | word &>> 16)
        return UInt16(truncatingIfNeeded: folded &>> 16)
    }

    /// The unfolded sum of `byteCount` bytes, an odd last one padded with zero.
    @inlinable @inline(__always)
    public static func sum(_ bytes: UnsafeRawPointer, _ byteCount: Int) -> UInt64 {
        pe_checksum_sum(bytes, byteCount)
    }

    /// The same of 32 bytes and up to some hundreds, inline.
    @inlinable @inline(__always)
    public static func shortSum(_ bytes: UnsafeRawPointer, _ byteCount: Int) -> UInt64 {
        pe_checksum_short(bytes, byteCount)
    }

    /// Adds to `sum`, which covers `position` bytes so far, a folded sum of what follows: at an odd
    /// position the bytes of the words are swapped.
    @inlinable @inline(__always)
    public static func append(_ sum: UInt64, _ next: UInt64, position: Int) -> UInt64 {
        let folded = fold(next)
        return sum &+ UInt64(position & 1 == 0 ? folded : folded.byteSwapped)
    }

    /// The sum of an IPv4 pseudo-header (RFC 768); `header` is the IPv4 header.
    @inlinable @inline(__always)
    public static func pseudoHeader(
        ipv4 header: UnsafeRawPointer, protocolNumber: UInt8, length: Int
    ) -> UInt64 {
        UInt64(header.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
            &+ UInt64(header.loadUnaligned(fromByteOffset: 16, as: UInt32.self))
            &+ tail(protocolNumber, length)
    }
    /// The sum of an IPv6 pseudo-header (RFC 8200 section 8.1); `header` is the IPv6 header.
    @inlinable @inline(__always)
    public static func pseudoHeader(
        ipv6 header: UnsafeRawPointer, protocolNumber: UInt8, length: Int
    ) -> UInt64 {
        pe_checksum_sum(header + 8, 32) &+ tail(protocolNumber, length)
    }
    @inlinable @inline(__always)
    static func tail(_ protocolNumber: UInt8, _ length: Int) -> UInt64 {
        UInt64(UInt16(protocolNumber).bigEndian)
            &+ UInt64(UInt16(truncatingIfNeeded: length).bigEndian)
    }

    /// The checksum field for data that sums to `sum` without it.
    @inlinable @inline(__always)
    public static func field(_ sum: UInt64) -> UInt16 { ~fold(sum) }

    /// The new checksum field when a 16-bit word changes (RFC 1624, equation 3); all three and the
    /// result in memory order.
    @inlinable @inline(__always)
    public static func update(_ field: UInt16, from old: UInt16, to new: UInt16) -> UInt16 {
        ~fold(UInt64(~field) &+ UInt64(~old) &+ UInt64(new))
    }
}
