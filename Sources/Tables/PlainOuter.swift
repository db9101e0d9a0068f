// How the outer headers of nearly all packets from VTEPs look, made for one wide comparison.

public import CLinux
public import Wire

/// What the outer headers of nearly all packets from VTEPs have in common, to be recognised by one
/// comparison from the EtherType on: IP without options, to the first local tunnel endpoint and VXLAN
/// port, no fragment, UDP without a checksum, the I flag.
public struct PlainOuter: BitwiseCopyable, Sendable {
    /// Which bits count, and what they are then. Of IPv4 32 bytes are used.
    public var mask = SIMD8<UInt64>(repeating: 0)
    /// Bits outside of the mask: nothing is like this.
    public var wanted = SIMD8<UInt64>(repeating: .max)

    /// Like nothing.
    init() {}
    /// - Parameters:
    ///   - endpoint: local; nil without any of the family.
    ///   - port: the VXLAN port, host order; nil without any.
    init(endpoint: IPAddress?, port: UInt16?) {
        guard let endpoint, let port else { return }
        var bytes = [(mask: UInt8, wanted: UInt8)](repeating: (0, 0), count: 64)
        func want(_ offset: Int, _ values: [UInt8], mask: UInt8 = 0xFF) {
            for (index, value) in values.enumerated() { bytes[offset - 12 + index] = (mask, value & mask) }
        }
        let udp: Int
        if case .v4(let address) = endpoint {
            udp = 34
            want(12, [0x08, 0x00, 0x45])
            want(20, [0], mask: 0x3F)
            want(21, [0])
            want(23, [IPProtocol.udp])
            want(30, address.bytes)
        } else if case .v6(let address) = endpoint {
            udp = 54
            want(12, [0x86, 0xDD])
            want(14, [0x60], mask: 0xF0)
            want(20, [IPProtocol.udp])
            want(38, address.bytes)
        } else {
            return
        }
        want(udp + 2, [UInt8(port >> 8), UInt8(port & 0xFF), 0, 0, 0, 0])
        bytes[udp + 4 - 12] = (0, 0)
        bytes[udp + 5 - 12] = (0, 0)
        want(udp + 8, [8], mask: 8)
        for (index, byte) in bytes.enumerated() {
            if index % 8 == 0 { (mask[index / 8], wanted[index / 8]) = (0, 0) }
            mask[index / 8] |= UInt64(byte.mask) << UInt64(index % 8 * 8)
            wanted[index / 8] |= UInt64(byte.wanted) << UInt64(index % 8 * 8)
        }
    }

    /// Whether the headers of a frame are like this, from the EtherType at byte 12 on; 32 bytes of it can
    /// be read, with IPv6 64.
    @inlinable @inline(__always)
    public static func matches(
        _ frame: UnsafeMutableRawPointer, _ plain: UnsafePointer<PlainOuter>, isIPv6: Bool
    ) -> Bool {
        let mask = UnsafeRawPointer(plain)
        let wanted = mask + 64
        if pe_matches32(frame + 12, mask, wanted) == 0 { return false }
        return !isIPv6 || pe_matches32(frame + 44, mask + 32, wanted + 32) != 0
    }
}
