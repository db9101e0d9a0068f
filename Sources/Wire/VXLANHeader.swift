// The VXLAN header (RFC 7348 section 5).

/// View of the 8-byte VXLAN header.
///
///     |R|R|R|R|I|R|R|R|            Reserved                           |
///     |                VNI                            |   Reserved    |
public struct VXLANHeader: HeaderView {
    @inlinable public static var byteCount: Int { 8 }
    /// The assigned UDP port (RFC 7348 section 5).
    public static let defaultPort: UInt16 = 4789
    @usableFromInline let base: UnsafeMutableRawPointer
    @inlinable @inline(__always) public init(at base: UnsafeMutableRawPointer) { self.base = base }

    /// Whether the I flag says that the VNI is valid; other flags are ignored on receipt.
    @inlinable @inline(__always) public var hasVNI: Bool { base[byte: 0] & 0x08 != 0 }
    @inlinable @inline(__always) public var vni: VNI { VNI(word: base[be32: 4]) }
}
