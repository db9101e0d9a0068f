// What becomes of a received frame: pure decisions for underlay and circuit ports.

import CDPDK
import CLinux
import Tables
import Wire

/// What becomes of a frame on an underlay port.
enum Termination: Equatable {
    /// Bytes `offset..<end` are an Ethernet frame of `domain`.
    case bridge(domain: UInt16, offset: Int, end: Int)
    /// Bytes `offset..<end` are an Ethernet frame for the router MAC of `vrf`.
    case route(vrf: UInt16, offset: Int, end: Int)
    /// Not a VXLAN packet for us: the host's, or routed.
    case punt
    case drop(DropReason)
}

/// Decides about a frame on an underlay port, changing nothing. RFC 7348 sections 4 and 5.
@inline(__always)
func termination(
    of packet: Packet, on entry: UnsafePointer<PortEntry>, _ state: UnsafePointer<ForwardingState>
) -> Termination {
    guard packet.contiguous >= EthernetHeader.byteCount else { return .drop(.truncatedFrame) }
    let ethernet = EthernetHeader(at: packet.frame)
    let source = ethernet.source
    if source.isMulticast || source.rawValue == entry.pointee.mac {
        return .drop(source.isMulticast ? .multicastSource : source.isZero ? .zeroSource : .ownSourceMAC)
    }
    let type = ethernet.etherTypeRaw
    if type == EtherType.ipv4.bigEndian { return terminationIPv4(of: packet, state) }
    if type == EtherType.ipv6.bigEndian { return terminationIPv6(of: packet, state) }
    return .punt
}

@inline(__always)
private func terminationIPv4(
    of packet: Packet, _ state: UnsafePointer<ForwardingState>
) -> Termination {
    let start = EthernetHeader.byteCount
    guard packet.contiguous >= start &+ IPv4Header.byteCount else { return .drop(.truncatedFrame) }
    let ip = IPv4Header(at: packet.frame + start)
    // Nearly every header is without options: its fields then lie at constant places.
    if packet.frame[byte: start] == 0x45 {
        return terminationIPv4(of: packet, ip, headerByteCount: IPv4Header.byteCount, state)
    }
    return terminationIPv4WithOptions(of: packet, ip, state)
}

@inline(never)
private func terminationIPv4WithOptions(
    of packet: Packet, _ ip: IPv4Header, _ state: UnsafePointer<ForwardingState>
) -> Termination {
    guard ip.version == 4 else { return .drop(.outerIPv4Version) }
    let headerByteCount = ip.headerByteCount
    guard headerByteCount >= IPv4Header.byteCount else { return .drop(.outerIPv4HeaderLength) }
    return terminationIPv4(of: packet, ip, headerByteCount: headerByteCount, state)
}

@inline(__always)
private func terminationIPv4(
    of packet: Packet, _ ip: IPv4Header, headerByteCount: Int,
    _ state: UnsafePointer<ForwardingState>
) -> Termination {
    guard ip.protocolNumber == IPProtocol.udp, state.pointee.isLocal(ipv4: ip.destinationRaw) else {
        return .punt
    }
    let start = EthernetHeader.byteCount
    let total = Int(ip.totalLength)
    guard start &+ total <= packet.byteCount, total >= headerByteCount else {
        return .drop(.outerIPv4TotalLength)
    }
    guard start &+ headerByteCount <= packet.contiguous else { return .drop(.truncatedFrame) }
    guard ip.isChecksumValid(headerByteCount: headerByteCount) else { return .drop(.outerIPv4Checksum) }
    guard !ip.isFragment else { return .drop(.outerFragment) }
    return terminationUDP(
        of: packet, at: start &+ headerByteCount, end: start &+ total, isIPv6: false, state)
}

@inline(__always)
private func terminationIPv6(
    of packet: Packet, _ state: UnsafePointer<ForwardingState>
) -> Termination {
    let start = EthernetHeader.byteCount
    guard packet.contiguous >= start &+ IPv6Header.byteCount else { return .drop(.truncatedFrame) }
    let ip = IPv6Header(at: packet.frame + start)
    guard ip.version == 6 else { return .drop(.outerIPv6Version) }
    let destination = ip.destinationRaw
    guard state.pointee.isLocal(ipv6: destination.0, destination.1) else { return .punt }
    let total = IPv6Header.byteCount &+ Int(ip.payloadLength)
    guard start &+ total <= packet.byteCount else { return .drop(.outerIPv6PayloadLength) }
    let offset: Int
    switch IPv6Walk(at: packet.frame + start, available: min(total, packet.contiguous &- start)) {
    case .upperLayer(let number, let at):
        if number != IPProtocol.udp { return .punt }
        offset = at
    case .fragment(let number):
        return number == IPProtocol.udp ? .drop(.outerFragment) : .punt
    case .truncated: return .drop(.outerIPv6PayloadLength)
    case .tooLong: return .punt
    }
    return terminationUDP(
        of: packet, at: start &+ offset, end: start &+ total, isIPv6: true, state)
}

/// From the UDP header at `offset` on; the IP packet ends at `end`, which the frame has.
@inline(__always)
private func terminationUDP(
    of packet: Packet, at offset: Int, end: Int, isIPv6: Bool,
    _ state: UnsafePointer<ForwardingState>
) -> Termination {
    guard offset &+ UDPHeader.byteCount <= min(end, packet.contiguous) else {
        return .drop(.outerUDPLength)
    }
    let base = packet.frame + offset
    let udp = UDPHeader(at: base)
    let port = udp.destinationPortRaw
    guard state.pointee.isVXLAN(port: port) else { return .punt }
    let length = Int(udp.length)
    guard length >= UDPHeader.byteCount, offset &+ length <= end else { return .drop(.outerUDPLength) }
    guard length >= UDPHeader.byteCount &+ VXLANHeader.byteCount else { return .drop(.truncatedVXLAN) }
    let inner = offset &+ UDPHeader.byteCount &+ VXLANHeader.byteCount
    guard inner <= packet.contiguous else { return .drop(.truncatedVXLAN) }
    if udp.checksumRaw != 0,
        !isUDPChecksumValid(packet, offset: offset, length: length, isIPv6: isIPv6)
    {
        return .drop(.outerUDPChecksum)
    }
    let vxlan = VXLANHeader(at: base + UDPHeader.byteCount)
    guard vxlan.hasVNI else { return .drop(.vxlanFlags) }
    let vni = vxlan.vni.rawValue
    let target = pe_load32_relaxed(state.pointee.vnis + Int(vni))
    let domain = VNITarget.domain(of: target)
    let record = state.pointee.domains + Int(domain)
    guard domain != 0, record.pointee.vniWord == vni &<< 8 else {
        return terminationVRF(
            of: packet, VNITarget.vrf(of: target), vni: vni, port: port, inner: inner,
            end: offset &+ length, state)
    }
    guard record.pointee.vxlanPortRaw == port else { return .drop(.wrongVXLANPort) }
    let source = sourceTunnel(packet, isIPv6: isIPv6, state)
    if source == BucketView.miss || !state.pointee.isMember(domain: domain, tunnel: source),
        let reason = strangerReason(
            packet, isIPv6: isIPv6, record.pointee.flags.contains(.acceptUnknownVTEP), state)
    {
        return .drop(reason)
    }
    return innerCheck(packet, inner: inner, end: offset &+ length, domain)
}

/// The last check: the inner Ethernet header.
@inline(__always)
private func innerCheck(
    _ packet: Packet, inner: Int, end: Int, _ domain: UInt16
) -> Termination {
    guard inner &+ EthernetHeader.byteCount <= min(end, packet.contiguous) else {
        return .drop(.truncatedInnerFrame)
    }
    let ethernet = EthernetHeader(at: packet.frame + inner)
    if ethernet.source.isMulticast { return .drop(.multicastSource) }
    if isReserved(ethernet.destination.rawValue) { return .drop(.reservedMulticast) }
    return .bridge(domain: domain, offset: inner, end: end)
}

/// A VNI that is no bridge domain's: an L3VNI, or unknown (RFC 9135 section 6.2).
@inline(__always)
private func terminationVRF(
    of packet: Packet, _ vrf: UInt16, vni: UInt32, port: UInt16, inner: Int, end: Int,
    _ state: UnsafePointer<ForwardingState>
) -> Termination {
    let record = state.pointee.vrfs + Int(vrf)
    guard vrf != 0, record.pointee.vniWord == vni &<< 8 else { return .drop(.unknownVNI) }
    guard record.pointee.vxlanPortRaw == port else { return .drop(.wrongVXLANPort) }
    let isIPv6 = packet.frame[raw16: 12] == EtherType.ipv6.bigEndian
    let source = sourceTunnel(packet, isIPv6: isIPv6, state)
    if source == BucketView.miss || !state.pointee.isMember(vrf: vrf, tunnel: source),
        let reason = strangerReason(packet, isIPv6: isIPv6, record.pointee.acceptUnknownVTEP, state)
    {
        return .drop(reason)
    }
    guard inner &+ EthernetHeader.byteCount <= min(end, packet.contiguous) else {
        return .drop(.truncatedInnerFrame)
    }
    let ethernet = EthernetHeader(at: packet.frame + inner)
    if ethernet.source.isMulticast { return .drop(.multicastSource) }
    let routerMAC = record.pointee.routerMAC
    guard ethernet.destination.rawValue == routerMAC, routerMAC != 0 else { return .drop(.wrongRouterMAC) }
    return .route(vrf: vrf, offset: inner, end: end)
}

/// The tunnel to the outer source, or ``BucketView/miss``.
@inline(__always)
private func sourceTunnel(
    _ packet: Packet, isIPv6: Bool, _ state: UnsafePointer<ForwardingState>
) -> UInt32 {
    let ip = packet.frame + EthernetHeader.byteCount
    if isIPv6 {
        let source = IPv6Header(at: ip).sourceRaw
        return state.pointee.vtep(ipv6: source.0, source.1)
    }
    return state.pointee.vtep(ipv4: IPv4Header(at: ip).sourceRaw)
}
/// Why a packet from an address that is no VTEP of the network is dropped; nil when it is not.
@inline(never)
private func strangerReason(
    _ packet: Packet, isIPv6: Bool, _ acceptsUnknown: Bool, _ state: UnsafePointer<ForwardingState>
) -> DropReason? {
    let ip = packet.frame + EthernetHeader.byteCount
    let isOwn: Bool
    if isIPv6 {
        let source = IPv6Header(at: ip).sourceRaw
        isOwn = state.pointee.isLocal(ipv6: source.0, source.1)
    } else {
        isOwn = state.pointee.isLocal(ipv4: IPv4Header(at: ip).sourceRaw)
    }
    if isOwn { return .ownVTEPSource }
    return acceptsUnknown ? nil : .unknownVTEP
}

/// Verifies a UDP checksum that is not zero: by the NIC's word, else in software.
@inline(never)
private func isUDPChecksumValid(
    _ packet: Packet, offset: Int, length: Int, isIPv6: Bool
) -> Bool {
    // RTE_MBUF_F_RX_L4_CKSUM_BAD and _GOOD (rte_mbuf_core.h); both or neither: not known.
    let verdict = packet.mbuf.pointee.ol_flags & (1 &<< 3 | 1 &<< 8)
    if verdict == 1 &<< 8 { return true }
    if verdict == 1 &<< 3 { return false }
    let ip = UnsafeRawPointer(packet.frame + EthernetHeader.byteCount)
    let pseudo = isIPv6
        ? Checksum.pseudoHeader(ipv6: ip, protocolNumber: IPProtocol.udp, length: length)
        : Checksum.pseudoHeader(ipv4: ip, protocolNumber: IPProtocol.udp, length: length)
    return Checksum.fold(pseudo &+ packet.sum(from: offset, count: length)) == 0xFFFF
}

/// 01:80:C2:00:00:00 to 0F (IEEE 802.1Q table 8-1), as loaded from a frame.
@inline(__always)
func isReserved(_ mac: UInt64) -> Bool { mac & 0xF0FF_FFFF_FFFF == 0xC2_8001 }

/// What becomes of a frame on a circuit port.
enum Admission: Equatable {
    /// `isTagged`: the tag after the addresses is the circuit's, or a priority tag, and goes.
    case bridge(circuit: UInt32, domain: UInt16, isTagged: Bool)
    /// For this port's own host, such as LLDP.
    case punt
    case drop(DropReason)
}

/// Decides about a frame on a circuit port, changing nothing.
@inline(__always)
func admission(
    of packet: Packet, on entry: UnsafePointer<PortEntry>, _ state: UnsafePointer<ForwardingState>
) -> Admission {
    guard packet.contiguous >= EthernetHeader.byteCount else { return .drop(.truncatedFrame) }
    let ethernet = EthernetHeader(at: packet.frame)
    let source = ethernet.source
    if source.isMulticast { return .drop(.multicastSource) }
    if source.isZero { return .drop(.zeroSource) }
    if isReserved(ethernet.destination.rawValue) {
        return entry.pointee.partner == PortEntry.none ? .drop(.reservedMulticast) : .punt
    }
    var circuit = entry.pointee.untaggedCircuit
    var isTagged = false
    if ethernet.etherTypeRaw == EtherType.vlan.bigEndian {
        // The tag, and the EtherType that it leaves behind.
        guard packet.contiguous >= EthernetHeader.byteCount &+ VLANTag.byteCount else {
            return .drop(.truncatedFrame)
        }
        let vlan = VLANTag(at: packet.frame + 12).vlanID
        if vlan == 0 {
            isTagged = true
        } else if let circuits = entry.pointee.vlanCircuits,
            circuits[Int(vlan)] != PortEntry.noCircuit
        {
            circuit = circuits[Int(vlan)]
            isTagged = true
        }
        // A tag that no circuit claims is the frame's own: the untagged circuit carries it, as a
        // Linux bridge port does, or hosts could not answer tagged frames that it delivers.
    }
    if circuit == PortEntry.noCircuit { return .drop(.unknownVLAN) }
    let domain = state.pointee.circuits[Int(circuit)].domain
    if domain == 0 { return .drop(.unknownVLAN) }
    if state.pointee.domains[Int(domain)].gatewayMAC == source.rawValue {
        return .drop(.gatewaySourceMAC)
    }
    return .bridge(circuit: circuit, domain: domain, isTagged: isTagged)
}
