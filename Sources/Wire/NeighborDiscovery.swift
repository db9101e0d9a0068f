// Neighbour discovery: solicitations and advertisements, checked as a receiver must (RFC 4861, RFC 9131).

/// A neighbour solicitation or advertisement that has passed every check of RFC 4861 section 7.1.
@frozen public struct NDMessage: Equatable, Sendable {
    @frozen public enum Kind: Equatable, Sendable {
        case solicitation
        /// `isSolicited` false: it tells of itself, at start or after a change (RFC 4861 section
        /// 7.2.6, RFC 9131).
        case advertisement(isSolicited: Bool, isOverride: Bool, isRouter: Bool)
    }
    public var kind: Kind
    public var source: RawIPv6
    public var destination: RawIPv6
    public var target: RawIPv6
    /// Source (solicitation) or target (advertisement) link-layer address; zero when there is none.
    public var linkLayer: MACAddress
    @inlinable public init(
        kind: Kind, source: RawIPv6, destination: RawIPv6, target: RawIPv6, linkLayer: MACAddress
    ) {
        self.kind = kind
        self.source = source
        self.destination = destination
        self.target = target
        self.linkLayer = linkLayer
    }

    /// A solicitation from `::`: duplicate address detection (RFC 4862 section 5.4.2).
    @inlinable public var isDuplicateDetection: Bool { kind == .solicitation && source.isUnspecified }
}

/// Reads and writes neighbour discovery packets.
public enum NeighborDiscovery {
    /// What a packet is to a bridge that snoops and answers.
    @frozen public enum Reading: Equatable, Sendable {
        case message(NDMessage)
        /// Router solicitation, router advertisement or redirect: forwarded as it is.
        case other
        /// No neighbour discovery.
        case none
        /// Fails a check that receivers must make: hop limit 255, checksum, code, lengths, addresses.
        case malformed
    }

    /// Hop limit of every neighbour discovery packet: a router would have made it less.
    @inlinable public static var hopLimit: UInt8 { 255 }
    /// Type, code, checksum, flags and target.
    @inlinable static var messageByteCount: Int { 24 }
    /// Most options that are looked at.
    @inlinable static var maximumOptionCount: Int { 16 }
    @inlinable static var sourceLinkLayer: UInt8 { 1 }
    @inlinable static var targetLinkLayer: UInt8 { 2 }

    /// Reads the packet whose IPv6 header is at `ip`, of which `available` bytes can be read.
    @inlinable
    public static func parse(at ip: UnsafeMutableRawPointer, available: Int) -> Reading {
        guard available >= IPv6Header.byteCount else { return .none }
        let header = IPv6Header(at: ip)
        guard header.version == 6 else { return .none }
        let end = IPv6Header.byteCount &+ Int(header.payloadLength)
        switch IPv6Walk(at: ip, available: min(end, available)) {
        case .upperLayer(let number, let offset):
            guard number == IPProtocol.icmpv6, offset < min(end, available) else { return .none }
            let type = ip[byte: offset]
            guard type >= ICMPv6.routerSolicitation, type <= ICMPv6.redirect else { return .none }
            guard end <= available else { return .malformed }
            return message(ip, header, start: offset, end: end)
        // Neighbour discovery is never fragmented (RFC 6980).
        case .fragment, .truncated, .tooLong: return .none
        }
    }

    /// The checks of RFC 4861 sections 6.1 and 7.1; bytes `start..<end` are ICMPv6.
    @inlinable
    static func message(
        _ ip: UnsafeMutableRawPointer, _ header: IPv6Header, start: Int, end: Int
    ) -> Reading {
        let icmp = ip + start
        let length = end &- start
        guard header.hopLimit == hopLimit, length >= ICMPv6.headerByteCount, icmp[byte: 1] == 0,
            ICMPv6.isChecksumValid(ip: ip, icmp: icmp, length: length)
        else { return .malformed }
        let type = icmp[byte: 0]
        let isSolicitation = type == ICMPv6.neighborSolicitation
        guard isSolicitation || type == ICMPv6.neighborAdvertisement else { return .other }
        guard length >= messageByteCount else { return .malformed }
        let source = RawIPv6(at: ip + 8)
        let destination = RawIPv6(at: ip + 24)
        let target = RawIPv6(at: icmp + 8)
        if target.isMulticast || target.isUnspecified || source.isMulticast { return .malformed }
        var linkLayer: UInt64 = 0
        guard walkOptions(
            icmp, length: length, wanted: isSolicitation ? sourceLinkLayer : targetLinkLayer,
            &linkLayer)
        else { return .malformed }
        let mac = MACAddress(rawValue: linkLayer)
        if mac.isMulticast { return .malformed }
        let kind: NDMessage.Kind
        if isSolicitation {
            if source.isUnspecified, !destination.isSolicitedNode || linkLayer != 0 { return .malformed }
            kind = .solicitation
        } else {
            let flags = icmp[byte: 4]
            if destination.isMulticast, flags & 0x40 != 0 { return .malformed }
            kind = .advertisement(
                isSolicited: flags & 0x40 != 0, isOverride: flags & 0x20 != 0, isRouter: flags & 0x80 != 0)
        }
        return .message(
            NDMessage(
                kind: kind, source: source, destination: destination, target: target, linkLayer: mac))
    }

    /// Walks the options behind the target; false when one has no length or leaves the packet.
    @inlinable
    static func walkOptions(
        _ icmp: UnsafeMutableRawPointer, length: Int, wanted: UInt8, _ linkLayer: inout UInt64
    ) -> Bool {
        var offset = messageByteCount
        var count = 0
        while offset < length {
            guard offset &+ 8 <= length, count < maximumOptionCount else { return false }
            let size = Int(icmp[byte: offset &+ 1]) &* 8
            if size == 0 || offset &+ size > length { return false }
            // Type and length, then the address: the upper six of these eight bytes.
            if icmp[byte: offset] == wanted { linkLayer = icmp[raw64: offset] &>> 16 }
            offset = offset &+ size
            count = count &+ 1
        }
        return true
    }

    /// Bytes of a solicitation or advertisement with one link-layer address, from the IPv6 header on.
    @inlinable public static var packetByteCount: Int { IPv6Header.byteCount &+ messageByteCount &+ 8 }

    /// Writes an advertisement of `target` at `mac`, ``packetByteCount`` bytes from its IPv6 header on.
    @inlinable
    public static func writeAdvertisement(
        at base: UnsafeMutableRawPointer, from source: RawIPv6, to destination: RawIPv6, target: RawIPv6,
        mac: MACAddress, isSolicited: Bool, isOverride: Bool, isRouter: Bool
    ) {
        let flags: UInt8 = (isRouter ? 0x80 : 0) | (isSolicited ? 0x40 : 0) | (isOverride ? 0x20 : 0)
        write(
            at: base, from: source, to: destination, type: ICMPv6.neighborAdvertisement, flags: flags,
            target: target, option: targetLinkLayer, mac: mac)
    }
    /// Writes a solicitation for `target` by `mac`, ``packetByteCount`` bytes from its IPv6 header on.
    /// `source` is not `::`.
    @inlinable
    public static func writeSolicitation(
        at base: UnsafeMutableRawPointer, from source: RawIPv6, to destination: RawIPv6, target: RawIPv6,
        mac: MACAddress
    ) {
        write(
            at: base, from: source, to: destination, type: ICMPv6.neighborSolicitation, flags: 0,
            target: target, option: sourceLinkLayer, mac: mac)
    }
    @inlinable
    static func write(
        at base: UnsafeMutableRawPointer, from source: RawIPv6, to destination: RawIPv6, type: UInt8,
        flags: UInt8, target: RawIPv6, option: UInt8, mac: MACAddress
    ) {
        let length = messageByteCount &+ 8
        ICMPv6.writeHeader(at: base, payload: length, hopLimit: hopLimit)
        source.store(at: base + 8)
        destination.store(at: base + 24)
        let icmp = base + IPv6Header.byteCount
        icmp[raw32: 0] = UInt32(type)
        icmp[raw32: 4] = UInt32(flags)
        target.store(at: icmp + 8)
        icmp[raw64: 24] = UInt64(option) | 1 &<< 8 | mac.rawValue &<< 16
        ICMPv6.setChecksum(ip: base, icmp: icmp, length: length)
    }
}
