// The hash of a flow: what spreads flows over underlay paths and gives VXLAN its source port.

public import CLinux

/// CRC32C over what identifies the flow of an Ethernet frame.
///
/// TCP, UDP and SCTP: addresses, protocol and ports. Other IP: addresses and protocol. Fragments:
/// addresses only, so that all parts of a packet stay together. Anything else: the MAC addresses
/// and the EtherType. Up to two VLAN tags are looked through.
public enum FlowHash {
    /// - Parameter available: bytes that can be read at `frame`, at least 14.
    @inlinable @inline(__always)
    public static func of(frame: UnsafeMutableRawPointer, available: Int) -> UInt32 {
        isPlain(frame, available) ? plain(frame) : general(frame, available)
    }

    /// Whether a frame is Ethernet, IPv4 without options and fragmentation, TCP or UDP, as nearly every
    /// packet is; its ports are then at byte 34.
    @inlinable @inline(__always)
    public static func isPlain(_ frame: UnsafeMutableRawPointer, _ available: Int) -> Bool {
        guard available >= 38, frame[raw16: 12] == EtherType.ipv4.bigEndian, frame[byte: 14] == 0x45,
            frame[raw16: 20] & UInt16(0x3FFF).bigEndian == 0
        else { return false }
        let number = frame[byte: 23]
        return number == IPProtocol.tcp || number == IPProtocol.udp
    }
    /// The hash of a plain frame.
    @inlinable @inline(__always)
    public static func plain(_ frame: UnsafeMutableRawPointer) -> UInt32 {
        mix(UInt32(frame[byte: 23]), frame[raw64: 26], UInt64(frame[raw32: 34]))
    }

    /// The UDP source port of RFC 7348 section 5: the dynamic range, 49152 to 65535.
    @inlinable @inline(__always)
    public static func sourcePort(_ hash: UInt32) -> UInt16 {
        0xC000 | UInt16(truncatingIfNeeded: hash & 0x3FFF)
    }
    /// The part of the hash that selects among paths: bits that the source port does not show, or
    /// the routers behind would see only a part of the ports on each path.
    @inlinable @inline(__always)
    public static func pathSelector(_ hash: UInt32) -> UInt32 { hash &>> 14 }

    /// The part that selects among members of a next-hop group, whatever the underlay path shows of it.
    @inlinable @inline(__always)
    public static func groupSelector(_ hash: UInt32) -> UInt32 { (hash &* 0x9E37_79B1) &>> 12 }

    @inlinable @inline(__always)
    static func mix(_ seed: UInt32, _ first: UInt64, _ second: UInt64) -> UInt32 {
        pe_crc32c(pe_crc32c(seed, first), second)
    }

    @inlinable static func hasPorts(_ number: UInt8) -> Bool {
        number == IPProtocol.tcp || number == IPProtocol.udp || number == IPProtocol.sctp
    }

    @inlinable @inline(never)
    static func general(_ frame: UnsafeMutableRawPointer, _ available: Int) -> UInt32 {
        var offset = 12
        var tags = 0
        while tags < 2, offset &+ 6 <= available, VLANTag.isTag(raw: frame[raw16: offset]) {
            offset = offset &+ 4
            tags = tags &+ 1
        }
        let type = frame[raw16: offset]
        let start = offset &+ 2
        let left = available &- start
        if type == EtherType.ipv4.bigEndian, left >= IPv4Header.byteCount,
            IPv4Header(at: frame + start).version == 4
        {
            return ipv4(frame + start, left)
        }
        if type == EtherType.ipv6.bigEndian, left >= IPv6Header.byteCount,
            IPv6Header(at: frame + start).version == 6
        {
            return ipv6(frame + start, left)
        }
        let header = EthernetHeader(at: frame)
        return mix(UInt32(type), header.destination.rawValue, header.source.rawValue)
    }

    @inlinable static func ipv4(_ packet: UnsafeMutableRawPointer, _ left: Int) -> UInt32 {
        let header = IPv4Header(at: packet)
        let addresses = packet[raw64: 12]
        if header.isFragment { return mix(0, addresses, 0) }
        let number = header.protocolNumber
        let ports = header.headerByteCount
        if hasPorts(number), ports >= IPv4Header.byteCount, ports &+ 4 <= left {
            return mix(UInt32(number), addresses, UInt64(packet[raw32: ports]))
        }
        return mix(UInt32(number), addresses, 0)
    }

    @inlinable static func ipv6(_ packet: UnsafeMutableRawPointer, _ left: Int) -> UInt32 {
        let header = IPv6Header(at: packet)
        let (source, destination) = (header.sourceRaw, header.destinationRaw)
        var number: UInt8 = 0
        var ports: UInt64 = 0
        switch IPv6Walk(at: packet, available: left) {
        case .upperLayer(let upper, let offset):
            number = upper
            if hasPorts(upper), offset &+ 4 <= left { ports = UInt64(packet[raw32: offset]) }
        case .fragment, .truncated, .tooLong: break
        }
        let first = mix(UInt32(number), source.0, source.1)
        return mix(mix(first, destination.0, destination.1), ports, 0)
    }
}
