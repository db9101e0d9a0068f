// What a virtio-net header asks for: completing a checksum, or cutting a large frame into segments.

public import CLinux

/// Why a frame from the kernel cannot be used; each is counted by the port.
public enum OffloadFault: Error, Equatable, Sendable {
    /// The virtio header contradicts the frame: offsets or sizes beyond it.
    case badHeader
    /// Segmentation of something that is not TCP or UDP, or inside a tunnel that is not understood.
    case unsupported
}

/// A virtio-net header (linux/virtio_net.h), checked as far as that is possible without the frame.
public struct OffloadRequest: Equatable, Sendable {
    public enum Segmentation: Equatable, Sendable { case none, tcp4, tcp6, udp }
    public var segmentation: Segmentation
    /// Payload bytes per segment; 0 without segmentation.
    public var segmentSize: Int
    /// Where the sum begins and where it goes, from there; nil: the checksum is complete.
    public var checksum: (start: Int, offset: Int)? {
        needsChecksum ? (start, offset) : nil
    }
    private var needsChecksum: Bool
    private var start: Int
    private var offset: Int

    /// - Throws: ``OffloadFault`` for an unknown kind of segmentation or an empty segment size.
    public init(_ header: pe_vnet_header) throws(OffloadFault) {
        needsChecksum = header.flags & UInt8(PE_VNET_NEEDS_CSUM) != 0
        start = Int(header.csum_start)
        offset = Int(header.csum_offset)
        segmentSize = 0
        segmentation = .none
        switch Int(header.gso_type) & ~PE_VNET_GSO_ECN {
        case PE_VNET_GSO_NONE: return
        case PE_VNET_GSO_TCPV4: segmentation = .tcp4
        case PE_VNET_GSO_TCPV6: segmentation = .tcp6
        case PE_VNET_GSO_UDP_L4: segmentation = .udp
        case PE_VNET_GSO_UDP: throw .unsupported
        default: throw .badHeader
        }
        guard header.gso_size > 0 else { throw .badHeader }
        segmentSize = Int(header.gso_size)
    }

    /// Moves the offsets after `byteCount` bytes were put in front of the network header.
    public mutating func shift(by byteCount: Int) { start += byteCount }

    /// True when the frame can go on as it is.
    public var isNothing: Bool { segmentation == .none && !needsChecksum }

    public static func == (a: Self, b: Self) -> Bool {
        a.segmentation == b.segmentation && a.segmentSize == b.segmentSize
            && a.needsChecksum == b.needsChecksum && a.start == b.start && a.offset == b.offset
    }
}

/// Internet checksums (RFC 1071) over raw bytes, in the byte order they lie in memory.
enum InternetChecksum {
    /// The complemented sum, as a header carries it.
    static func complete(_ sum: UInt64) -> UInt16 { ~pe_sum_fold(sum) }
    /// The same for UDP and TCP, where 0 would mean "none" (as the kernel's CSUM_MANGLED_0).
    static func completeTransport(_ sum: UInt64) -> UInt16 {
        let value = ~pe_sum_fold(sum)
        return value == 0 ? 0xffff : value
    }
    /// The pseudo-header's sum of the IP header at `ip` for a segment of `length` bytes.
    static func pseudoHeader(
        ip: UnsafeRawPointer,
        isIPv6: Bool,
        protocolNumber: UInt8,
        length: Int
    ) -> UInt64 {
        let tail =
            UInt64(UInt32(protocolNumber).bigEndian)
            + UInt64(UInt32(truncatingIfNeeded: length).bigEndian)
        return isIPv6 ? pe_sum16(ip + 8, 32, tail) : pe_sum16(ip + 12, 8, tail)
    }
}

/// Completes the checksum that a frame's virtio header left open.
///
/// The field already holds the pseudo-header's sum
/// (Documentation/networking/checksum-offloads.rst). SCTP is told by its field's offset, 8, which
/// no protocol with an Internet checksum has; it wants CRC32C.
public func completeChecksum(
    _ frame: UnsafeMutableRawBufferPointer,
    start: Int,
    offset: Int
) throws(OffloadFault) {
    let isSCTP = offset == 8
    guard let base = frame.baseAddress, start >= 14, offset >= 0,
        start + offset + (isSCTP ? 4 : 2) <= frame.count
    else { throw .badHeader }
    if isSCTP {
        (base + start + offset).storeBytes(of: UInt32(0), as: UInt32.self)
        let crc = pe_crc32c_bytes(base + start, frame.count - start)
        (base + start + offset).storeBytes(of: crc.littleEndian, as: UInt32.self)
        return
    }
    let sum = pe_sum16(base + start, frame.count - start, 0)
    (base + start + offset).storeBytes(
        of: InternetChecksum.completeTransport(sum),
        as: UInt16.self
    )
}

/// Puts a VLAN tag, which the kernel took off, behind the two MAC addresses.
///
/// - Precondition: `frame` has 4 writable bytes in front of it.
/// - Returns: where the frame begins now.
func insertTag(
    _ frame: UnsafeMutableRawPointer,
    protocolID: UInt16,
    control: UInt16
) -> UnsafeMutableRawPointer {
    let start = frame - 4
    start.copyMemory(from: frame, byteCount: 12)
    (start + 12).storeBytes(of: protocolID.bigEndian, as: UInt16.self)
    (start + 14).storeBytes(of: control.bigEndian, as: UInt16.self)
    return start
}
