// The UDP header (RFC 768).

/// View of the 8-byte UDP header.
public struct UDPHeader: HeaderView {
    @inlinable public static var byteCount: Int { 8 }
    @usableFromInline let base: UnsafeMutableRawPointer
    @inlinable @inline(__always) public init(at base: UnsafeMutableRawPointer) { self.base = base }

    @inlinable @inline(__always) public var sourcePort: UInt16 { base[be16: 0] }
    @inlinable @inline(__always) public var destinationPort: UInt16 { base[be16: 2] }
    /// As loaded from memory.
    @inlinable @inline(__always) public var destinationPortRaw: UInt16 { base[raw16: 2] }
    /// Header and payload, in bytes.
    @inlinable @inline(__always) public var length: UInt16 { base[be16: 4] }
    /// As loaded from memory; 0 when the sender computed none.
    @inlinable @inline(__always) public var checksumRaw: UInt16 { base[raw16: 6] }
}
