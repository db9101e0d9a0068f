// Pass 1 for what nearly all packets from VTEPs are: recognised by a few comparisons, then decapsulated.

import CDPDK
import CLinux
import Tables
import Wire

/// What pass 1 did with a frame on the way for plain ones.
enum PlainEnd {
    /// Nothing: it is not plain, or may not be accepted. ``termination(of:on:_:)`` decides.
    case other
    /// It is a context of pass 2.
    case kept
    /// It ended, or goes on elsewhere.
    case ended
}

/// Where things lie in a plain VXLAN packet.
private struct OuterShape {
    /// First byte of the inner frame: Ethernet, IP, UDP 8, VXLAN 8.
    let inner: Int
    /// Bits of the byte at 15 above which the ECN field lies.
    let ecnShift: UInt8
    @inline(__always) static var ipv4: OuterShape { OuterShape(inner: 50, ecnShift: 0) }
    @inline(__always) static var ipv6: OuterShape { OuterShape(inner: 70, ecnShift: 4) }
    /// Bytes up to the end of the inner Ethernet header.
    @inline(__always) var least: Int { inner &+ EthernetHeader.byteCount }
}

extension Pipeline {
    /// A frame on an underlay port: decapsulates it into `context` if it is a plain VXLAN packet
    /// over IPv4, or IPv6, that may be accepted. All that ``termination(of:on:_:)`` asks for is asked for
    /// here.
    @inline(__always)
    func terminatePlain(
        _ packet: Packet, _ entry: UnsafePointer<PortEntry>, isIPv6: Bool,
        _ context: UnsafeMutablePointer<PacketContext>
    ) -> PlainEnd {
        let shape = isIPv6 ? OuterShape.ipv6 : OuterShape.ipv4
        let frame = packet.frame
        guard packet.contiguous >= shape.least, !packet.isSegmented else { return .other }
        let source = EthernetHeader(at: frame).source
        if source.isMulticast || source.rawValue == entry.pointee.mac { return .other }
        guard PlainOuter.matches(frame, state.pointee.plainOuters + (isIPv6 ? 1 : 0), isIPv6: isIPv6) else {
            return .other
        }
        let outer = frame + EthernetHeader.byteCount
        if isIPv6 {
            let ip = IPv6Header(at: outer)
            let address = ip.sourceRaw
            return terminatePlain(
                packet, frame, shape,
                end: EthernetHeader.byteCount &+ IPv6Header.byteCount &+ Int(ip.payloadLength),
                from: state.pointee.vtep(ipv6: address.0, address.1), context)
        }
        let ip = IPv4Header(at: outer)
        guard ip.isPlainChecksumValid else { return .other }
        return terminatePlain(
            packet, frame, shape, end: EthernetHeader.byteCount &+ Int(ip.totalLength),
            from: state.pointee.vtep(ipv4: ip.sourceRaw), context)
    }

    /// - Parameters:
    ///   - end: byte behind the outer IP packet.
    ///   - tunnel: to the outer source, or ``BucketView/miss``.
    @inline(__always)
    private func terminatePlain(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, _ shape: OuterShape, end: Int,
        from tunnel: UInt32, _ context: UnsafeMutablePointer<PacketContext>
    ) -> PlainEnd {
        let inner = shape.inner
        // UDP fills the IP packet, and that is within the frame.
        guard end >= shape.least, end <= packet.contiguous,
            Int(frame[be16: inner &- 12]) &+ inner &- 16 == end, tunnel != BucketView.miss
        else { return .other }
        let vniWord = frame[be32: inner &- 4] & 0xFFFF_FF00
        let target = pe_load32_relaxed(state.pointee.vnis + Int(vniWord &>> 8))
        let portRaw = frame[raw16: inner &- 14]
        let ethernet = EthernetHeader(at: frame + inner)
        let destination = ethernet.destination.rawValue
        if ethernet.source.isMulticast { return .other }
        let domain = VNITarget.domain(of: target)
        if domain != 0 {
            let record = state.pointee.domains + Int(domain)
            guard record.pointee.vniWord == vniWord, record.pointee.vxlanPortRaw == portRaw,
                state.pointee.isMember(domain: domain, tunnel: tunnel), !isReserved(destination)
            else { return .other }
            if !openPlain(packet, frame, shape, end: end) { return .ended }
            return bridgeFromTunnel(
                packet, frame + inner, byteCount: end &- inner, destination, domain, record, context)
                ? .kept : .ended
        }
        let vrf = VNITarget.vrf(of: target)
        let record = state.pointee.vrfs + Int(vrf)
        guard vrf != 0, record.pointee.vniWord == vniWord, record.pointee.vxlanPortRaw == portRaw,
            state.pointee.isMember(vrf: vrf, tunnel: tunnel), destination == record.pointee.routerMAC,
            destination != 0
        else { return .other }
        if !openPlain(packet, frame, shape, end: end) { return .ended }
        beginRouting(
            packet, frame + inner, byteCount: end &- inner,
            RouteOrigin(ingress: PacketContext.fromTunnel, domain: 0, vrf: vrf), sourceKey: 0)
        return .ended
    }

    /// Takes the outer headers off a packet in one buffer, whose inner frame ends at `end`, and combines
    /// the ECN fields; false when that is a drop.
    @inline(__always)
    private func openPlain(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, _ shape: OuterShape, end: Int
    ) -> Bool {
        let ecn = frame[byte: 15] &>> shape.ecnShift & 3
        packet.cut(to: shape.inner, end &- shape.inner)
        if ecn != ECN.notECT, !combineECN(outer: ecn, inner: packet.frame, available: packet.contiguous) {
            drop(packet, .ecnCongestion)
            return false
        }
        return true
    }

    /// A frame from the fabric, without its outer headers, in a bridge domain: into `context`; false when
    /// it goes elsewhere.
    @inline(__always)
    func bridgeFromTunnel(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, byteCount: Int, _ destination: UInt64,
        _ domain: UInt16, _ record: UnsafePointer<BridgeDomain>, _ context: UnsafeMutablePointer<PacketContext>
    ) -> Bool {
        memory.pointee.counters.add(domain: domain, .tunnelInPackets, bytes: UInt64(byteCount))
        if isForGateway(destination, record) {
            startRouting(
                packet,
                RouteOrigin(ingress: PacketContext.fromTunnel, domain: domain, vrf: record.pointee.vrf),
                sourceKey: 0, .none)
            return false
        }
        // IPv4, and not for a DHCP client: no other service has it.
        guard byteCount >= 38, frame[raw16: 12] == EtherType.ipv4.bigEndian,
            frame[raw32: 34] != DHCPPorts.toClient
        else { return bridgeOther(packet, domain, context) }
        place(packet, frame, destination, domain, context)
        return true
    }

    /// The same of a frame that is not IPv4, or for a DHCP client.
    @inline(never)
    private func bridgeOther(
        _ packet: Packet, _ domain: UInt16, _ context: UnsafeMutablePointer<PacketContext>
    ) -> Bool {
        let frame = packet.frame
        if ServiceMark.of(frame, packet.contiguous) == ServiceMark.neighbor {
            handToNeighbors(packet, domain: domain, ingress: PacketContext.fromTunnel)
            return false
        }
        place(packet, frame, EthernetHeader(at: frame).destination.rawValue, domain, context)
        return true
    }
    @inline(__always)
    private func place(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, _ destination: UInt64, _ domain: UInt16,
        _ context: UnsafeMutablePointer<PacketContext>
    ) {
        let key = FDBKey.make(domain: domain, mac: destination)
        let bucket = state.pointee.fdb.bucket(of: key)
        pe_prefetch(bucket)
        context.pointee.packet = packet
        context.pointee.frame = frame
        context.pointee.destinationKey = key
        context.pointee.destinationBucket = bucket
        context.pointee.sourceKey = 0
        context.pointee.sourceBucket = bucket
        context.pointee.hash = 0
        context.pointee.ingress = PacketContext.fromTunnel
        context.pointee.domain = domain
        context.pointee.marks = 0
    }
}
