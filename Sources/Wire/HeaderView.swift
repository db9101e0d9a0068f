// The view protocol and big-endian field access: how every header in this module reads bytes.

/// A typed window onto one protocol header inside a packet.
///
/// One pointer wide; copies and owns nothing. Fields are network byte order on the wire and host
/// byte order in Swift. The length is checked once, when the view is made.
public protocol HeaderView {
    /// Header size in bytes, without options.
    static var byteCount: Int { get }
    /// - Precondition: `base` has ``byteCount`` accessible bytes for the view's life.
    init(at base: UnsafeMutableRawPointer)
}

extension UnsafeMutableRawPointer {
    /// The big-endian 16-bit field at `offset`, as a host integer.
    @inlinable @inline(__always)
    public subscript(be16 offset: Int) -> UInt16 {
        get { UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self)) }
        nonmutating set { storeBytes(of: newValue.bigEndian, toByteOffset: offset, as: UInt16.self) }
    }
    /// The big-endian 32-bit field at `offset`, as a host integer.
    @inlinable @inline(__always)
    public subscript(be32 offset: Int) -> UInt32 {
        get { UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
        nonmutating set { storeBytes(of: newValue.bigEndian, toByteOffset: offset, as: UInt32.self) }
    }
    /// The byte at `offset`.
    @inlinable @inline(__always)
    public subscript(byte offset: Int) -> UInt8 {
        get { load(fromByteOffset: offset, as: UInt8.self) }
        nonmutating set { storeBytes(of: newValue, toByteOffset: offset, as: UInt8.self) }
    }
    /// The 16 bits at `offset` as they lie in memory.
    @inlinable @inline(__always)
    public subscript(raw16 offset: Int) -> UInt16 {
        get { loadUnaligned(fromByteOffset: offset, as: UInt16.self) }
        nonmutating set { storeBytes(of: newValue, toByteOffset: offset, as: UInt16.self) }
    }
    /// The 32 bits at `offset` as they lie in memory.
    @inlinable @inline(__always)
    public subscript(raw32 offset: Int) -> UInt32 {
        get { loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
        nonmutating set { storeBytes(of: newValue, toByteOffset: offset, as: UInt32.self) }
    }
    /// The 64 bits at `offset` as they lie in memory.
    @inlinable @inline(__always)
    public subscript(raw64 offset: Int) -> UInt64 {
        get { loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
        nonmutating set { storeBytes(of: newValue, toByteOffset: offset, as: UInt64.self) }
    }
}
