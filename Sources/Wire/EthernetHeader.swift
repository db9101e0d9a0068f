// Ethernet and 802.1Q headers (IEEE 802.3 clause 3, IEEE 802.1Q clause 9).

/// View of the 14-byte Ethernet header.
public struct EthernetHeader: HeaderView {
    @inlinable public static var byteCount: Int { 14 }
    @usableFromInline let base: UnsafeMutableRawPointer
    @inlinable @inline(__always) public init(at base: UnsafeMutableRawPointer) { self.base = base }

    /// Reads two bytes beyond the address, which the header has.
    @inlinable @inline(__always)
    public var destination: MACAddress { MACAddress(rawValue: base[raw64: 0]) }
    /// Reads no byte beyond the header: the address is the upper part of bytes 4 to 11.
    @inlinable @inline(__always)
    public var source: MACAddress { MACAddress(rawValue: base[raw64: 4] &>> 16) }
    @inlinable @inline(__always) public var etherType: UInt16 { base[be16: 12] }
    /// Writes both addresses.
    @inlinable @inline(__always)
    public static func writeAddresses(
        at frame: UnsafeMutableRawPointer, destination: MACAddress, source: MACAddress
    ) {
        frame[raw64: 0] = destination.rawValue | source.rawValue &<< 48
        frame[raw32: 8] = UInt32(truncatingIfNeeded: source.rawValue &>> 16)
    }
    /// The EtherType as it lies in memory: for comparison with a constant's `bigEndian`.
    @inlinable @inline(__always) public var etherTypeRaw: UInt16 { base[raw16: 12] }
}

/// View of a 4-byte 802.1Q tag at its TPID, which is the EtherType field of the untagged header.
public struct VLANTag: HeaderView {
    @inlinable public static var byteCount: Int { 4 }
    @usableFromInline let base: UnsafeMutableRawPointer
    @inlinable @inline(__always) public init(at base: UnsafeMutableRawPointer) { self.base = base }

    /// 0 is a priority tag: no VLAN.
    @inlinable @inline(__always) public var vlanID: UInt16 { base[be16: 2] & 0xFFF }
    @inlinable @inline(__always) public var priority: UInt8 { base[byte: 2] &>> 5 }

    /// The tag's four bytes as a word to be stored into a frame.
    @inlinable @inline(__always)
    public static func word(vlanID: UInt16) -> UInt32 { (0x8100 &<< 16 | UInt32(vlanID)).bigEndian }

    /// Whether `raw`, an EtherType as it lies in memory, announces a tag (802.1Q or 802.1ad).
    @inlinable @inline(__always)
    public static func isTag(raw: UInt16) -> Bool {
        raw == EtherType.vlan.bigEndian || raw == EtherType.serviceVLAN.bigEndian
    }

    /// Moves the addresses of the frame at `frame` over the tag behind them; the frame then starts
    /// four bytes later.
    @inlinable @inline(__always)
    public static func pop(_ frame: UnsafeMutableRawPointer) {
        let first = frame[raw64: 0]
        let last = frame[raw32: 8]
        frame[raw64: 4] = first
        frame[raw32: 12] = last
    }
    /// Moves the addresses four bytes forward and writes a tag behind them; the frame then starts
    /// four bytes earlier.
    @inlinable @inline(__always)
    public static func push(_ frame: UnsafeMutableRawPointer, vlanID: UInt16) {
        let first = frame[raw64: 0]
        let last = frame[raw32: 8]
        frame[raw64: -4] = first
        frame[raw32: 4] = last
        frame[raw32: 8] = word(vlanID: vlanID)
    }
}
