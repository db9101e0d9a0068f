// Pass 1 of routing: which packets a gateway takes, and whether their headers are fit to be routed.

import CDPDK
import CLinux
import Tables
import Wire

/// Where a packet to be routed came in.
struct RouteOrigin {
    /// As ``RoutedContext/ingress``.
    let ingress: UInt32
    /// As ``RoutedContext/domain``.
    let domain: UInt16
    let vrf: UInt16
}

/// What pass 1 sees at a glance in an untagged frame of a bridge domain.
enum ServiceMark {
    /// ARP, ND or DHCP: the neighbour lane looks at it first.
    @inline(__always) static var neighbor: UInt8 { 0xFE }
    /// Not looked at closely: it may have an ECN mark.
    @inline(__always) static var unknown: UInt8 { 0xFF }

    /// ``neighbor``, ``unknown``, or the ECN field where it lies in the header: 0 without a mark.
    /// `available` bytes can be read, at least 14.
    @inline(__always)
    static func of(_ frame: UnsafeMutableRawPointer, _ available: Int) -> UInt8 {
        let type = frame[raw16: 12]
        if type == EtherType.ipv4.bigEndian, available >= 38 { return ofPlain(frame) }
        if type == EtherType.ipv6.bigEndian, available >= 54, frame[byte: 20] != IPProtocol.icmpv6 {
            return frame[byte: 15] & 0x30
        }
        return rare(frame, available)
    }

    /// Of an IPv4 packet that has ports where one without options has them.
    @inline(__always)
    static func ofPlain(_ frame: UnsafeMutableRawPointer) -> UInt8 {
        // What looks like a DHCP server's answer is looked at closely.
        frame[raw32: 34] == DHCPPorts.toClient ? neighbor : frame[byte: 15] & 3
    }

    @inline(never)
    private static func rare(_ frame: UnsafeMutableRawPointer, _ available: Int) -> UInt8 {
        let type = frame[raw16: 12]
        if type == EtherType.arp.bigEndian || type == EtherType.rarp.bigEndian { return neighbor }
        if type == EtherType.ipv6.bigEndian, available >= 55, frame[byte: 20] == IPProtocol.icmpv6 {
            // Router and neighbour solicitations and advertisements, redirects (RFC 4861 section 4).
            let message = frame[byte: 54]
            if message >= 133, message <= 137 { return neighbor }
        }
        return unknown
    }
}

/// Whether a frame for MAC `destination` is addressed to the gateway of its domain.
@inline(__always)
func isForGateway(_ destination: UInt64, _ domain: UnsafePointer<BridgeDomain>) -> Bool {
    let gateway = domain.pointee.gatewayMAC
    return destination == gateway && gateway != 0
}

/// The ports of DHCP as they lie in a packet (RFC 2131 section 4.1).
enum DHCPPorts {
    /// From 67 to 68.
    @inline(__always) static var toClient: UInt32 { UInt32(67 &<< 16 | 68).bigEndian }
}

extension Pipeline {
    /// A frame for the neighbour lane, which hands it on to pass 2 or keeps it.
    @inline(never)
    func handToNeighbors(_ packet: Packet, domain: UInt16, ingress: UInt32) {
        let end = memory.pointee.side.neighbors
        memory.pointee.neighbors[end] = bridged(packet, domain: domain, ingress: ingress)
        memory.pointee.side.neighbors = end &+ 1
    }

    /// The context of a frame in a bridge domain, as pass 1 makes it.
    func bridged(_ packet: Packet, domain: UInt16, ingress: UInt32) -> PacketContext {
        let fdb = state.pointee.fdb
        let frame = packet.frame
        let ethernet = EthernetHeader(at: frame)
        let key = FDBKey.make(domain: domain, mac: ethernet.destination.rawValue)
        let isLearned = ingress < PacketContext.fromGateway
        let sourceKey = isLearned ? FDBKey.make(domain: domain, mac: ethernet.source.rawValue) : 0
        return PacketContext(
            packet: packet, frame: frame, destinationKey: key, destinationBucket: fdb.bucket(of: key),
            sourceKey: sourceKey, sourceBucket: fdb.bucket(of: sourceKey),
            hash: FlowHash.of(frame: frame, available: packet.contiguous), ingress: ingress, domain: domain,
            marks: ServiceMark.unknown)
    }

    /// A packet for a gateway, a router MAC or a routed port: checks its IP header, finds its
    /// host-route bucket. It goes to the routing passes, to a side lane, or is dropped.
    @inline(never)
    func startRouting(
        _ packet: Packet, _ origin: RouteOrigin, sourceKey: UInt64, _ flags: RoutedContext.Flags
    ) {
        let frame = packet.frame
        if origin.vrf == 0 || !appendPlain(packet, frame, byteCount: packet.byteCount, origin, sourceKey, flags) {
            startRare(packet, origin, sourceKey: sourceKey, flags)
        }
    }

    /// The same for loops in which nearly every packet is plain; it has `byteCount` bytes from `frame`
    /// on, and lies in one buffer.
    @inline(__always)
    func beginRouting(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, byteCount: Int, _ origin: RouteOrigin,
        sourceKey: UInt64
    ) {
        if origin.vrf == 0 || !appendPlain(packet, frame, byteCount: byteCount, origin, sourceKey, .none) {
            startRare(packet, origin, sourceKey: sourceKey, .none)
        }
    }

    /// Puts a plain packet aside for the routing passes; false when it is not plain.
    ///
    /// Plain is what nearly all are: IPv4 without options, right in all that ``routability(of:)`` asks
    /// for, between addresses of hosts, not for a DHCP client.
    @inline(__always)
    private func appendPlain(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, byteCount: Int, _ origin: RouteOrigin,
        _ sourceKey: UInt64, _ given: RoutedContext.Flags
    ) -> Bool {
        // EtherType 0x0800, then 0x45.
        guard packet.contiguous >= 38, frame[raw32: 12] & 0xFF_FFFF == 0x45_0008 else { return false }
        let ip = IPv4Header(at: frame + EthernetHeader.byteCount)
        let total = Int(ip.totalLength)
        let end = EthernetHeader.byteCount &+ total
        guard total >= IPv4Header.byteCount, end <= byteCount, ip.isPlainChecksumValid,
            pe_ipv4_are_plain(ip.sourceRaw, ip.destinationRaw) != 0,
            frame[raw32: 34] != DHCPPorts.toClient
        else { return false }
        if end != byteCount { packet.trim(to: end) }
        var flags = given
        flags.insert(.isPlain)
        append(
            packet, frame, byteCount: end, origin, sourceKey: sourceKey, flags,
            key: HostKey.make(origin.vrf, ipv4: frame[be32: 30]))
        return true
    }

    /// A packet for the routing passes: its lookup begins with a host route, or with the prefixes where there
    /// can be no host route.
    @inline(__always)
    private func append(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, byteCount: Int, _ origin: RouteOrigin,
        sourceKey: UInt64, _ given: RoutedContext.Flags, key hostKey: UInt64
    ) {
        var key = hostKey
        var flags = given
        let bucket: UnsafeRawPointer
        // What comes from the fabric is nearly always for a host.
        if origin.ingress != PacketContext.fromTunnel, memory.pointee.expectsPrefixes,
            !state.pointee.hostBlocks.mayHold(hostKey)
        {
            let prefixes = state.pointee.prefixes
            let address = HostKey.ipv4(hostKey)
            key = prefixes.start(vrf: origin.vrf, ipv4: address)
            bucket = prefixes.place(key, ipv4: address)
            flags.insert(.isHostless)
        } else {
            bucket = state.pointee.hosts.table.bucket(of: hostKey)
        }
        let end = memory.pointee.side.routed
        let context = memory.pointee.routed + end
        // Field by field: what is built elsewhere and copied cannot be read before it has arrived.
        context.pointee.packet = packet
        context.pointee.frame = frame
        context.pointee.key = key
        context.pointee.bucket = bucket
        context.pointee.sourceKey = sourceKey
        context.pointee.ingress = origin.ingress
        context.pointee.domain = origin.domain
        context.pointee.vrf = origin.vrf
        context.pointee.egressVRF = origin.vrf
        context.pointee.flags = flags
        memory.pointee.side.routed = end &+ 1
        if origin.ingress == PacketContext.fromTunnel {
            pe_prefetch(bucket)
        } else if end & (Pipeline.bucketGroup &- 1) == Pipeline.bucketGroup &- 1 {
            prefetchBuckets(from: end &+ 1 &- Pipeline.bucketGroup, to: end &+ 1)
        }
        memory.pointee.counters.add(
            vrf: origin.vrf,
            origin.ingress == PacketContext.fromTunnel ? .tunnelInPackets : .localInPackets,
            bytes: UInt64(byteCount))
    }

    /// Starts to load what the lookups of packets read first, several at once: a prefetch holds up what
    /// follows until its page is found, and a processor looks for several pages at the same time.
    @inline(__always)
    func prefetchBuckets(from start: Int, to end: Int) {
        let contexts = memory.pointee.routed
        var index = start
        while index < end {
            pe_prefetch(contexts[index].bucket)
            index = index &+ 1
        }
    }
    /// Packets whose buckets are prefetched together, a power of two.
    static var bucketGroup: Int { 8 }

    /// Whatever is no plain IPv4 packet of a domain or port that routes.
    @inline(never)
    private func startRare(
        _ packet: Packet, _ origin: RouteOrigin, sourceKey: UInt64, _ given: RoutedContext.Flags
    ) {
        let frame = packet.frame
        var flags = given
        if origin.domain != 0, !flags.contains(.wasSeen),
            ServiceMark.of(frame, packet.contiguous) == ServiceMark.neighbor
        {
            handToNeighbors(packet, domain: origin.domain, ingress: origin.ingress)
            return
        }
        let key: UInt64
        switch routability(of: packet) {
        case .ipv4(let byteCount):
            packet.trim(to: EthernetHeader.byteCount &+ byteCount)
            key = HostKey.make(origin.vrf, ipv4: frame[be32: 30])
        case .ipv6(let byteCount):
            packet.trim(to: EthernetHeader.byteCount &+ byteCount)
            flags.insert(.isIPv6)
            key = HostKey.make(
                origin.vrf, ipv6: UInt64(bigEndian: frame[raw64: 38]), UInt64(bigEndian: frame[raw64: 46]))
        case .linkLocal(let byteCount, let isIPv6):
            packet.trim(to: EthernetHeader.byteCount &+ byteCount)
            if isIPv6 { flags.insert(.isIPv6) }
            key = 0
        case .drop(let reason):
            refuse(packet, origin, sourceKey: sourceKey, reason)
            return
        }
        // Link-local addresses, and gateways of domains that do not route.
        if key &>> 48 == 0 {
            onLink(RoutedContext(
                packet: packet, frame: frame, key: key, bucket: state.pointee.hosts.table.bucket(of: 0),
                sourceKey: sourceKey, hash: 0, ingress: origin.ingress, route: .miss, domain: origin.domain,
                vrf: origin.vrf, egressVRF: origin.vrf, mtu: 0, flags: flags, reason: .noRoute))
        } else {
            append(
                packet, frame, byteCount: packet.byteCount, origin, sourceKey: sourceKey, flags, key: key)
        }
    }

    /// A packet that no route leads any further: for an address of the gateway that it reached, or
    /// for the host behind the port.
    @inline(never)
    private func onLink(_ context: RoutedContext) {
        var context = context
        learnSource(of: context)
        if context.ingress == RoutedContext.fromPort {
            puntInOrder(context.packet)
        } else if isGateway(context) {
            context.route = RouteValue(.local, UInt32(context.domain))
            appendLocal(&context)
        } else {
            drop(context.packet, context.vrf == 0 ? .noRouting : .martianAddress)
        }
    }
    /// Whether the destination is an address of the gateway through which the packet came.
    private func isGateway(_ context: RoutedContext) -> Bool {
        guard context.domain != 0,
            let gateways = state.pointee.domains[Int(context.domain)].gateways
        else { return false }
        return context.isIPv6
            ? gateways.contains(ipv6: context.frame[raw64: 38], context.frame[raw64: 46])
            : gateways.contains(ipv4: context.frame[raw32: 30])
    }

    @inline(never)
    private func refuse(
        _ packet: Packet, _ origin: RouteOrigin, sourceKey: UInt64, _ reason: DropReason
    ) {
        if sourceKey != 0 {
            learn(
                sourceKey, state.pointee.fdb.bucket(of: sourceKey), circuit: origin.ingress,
                memory.pointee.learning.currentPeriod)
        }
        // A domain that does not route says so of everything that its gateway does not take.
        drop(packet, origin.vrf == 0 && reason == .notRoutable ? .noRouting : reason)
    }
    @inline(never)
    private func learnSource(of context: RoutedContext) {
        if context.sourceKey == 0 { return }
        learn(
            context.sourceKey, state.pointee.fdb.bucket(of: context.sourceKey), circuit: context.ingress,
            memory.pointee.learning.currentPeriod)
    }

    /// A frame on a routed port: routed when it is for the port's own MAC and IP, else the host's.
    @inline(never)
    func admitRouted(_ packet: Packet, _ entry: UnsafePointer<PortEntry>) {
        switch portAdmission(of: packet, on: entry) {
        case .route:
            startRouting(
                packet, RouteOrigin(ingress: RoutedContext.fromPort, domain: 0, vrf: entry.pointee.vrf),
                sourceKey: 0, .none)
        case .punt: puntInOrder(packet)
        case .drop(let reason): drop(packet, reason)
        }
    }
    /// A frame for the host, among those that a lookup will find to be the host's.
    private func puntInOrder(_ packet: Packet) {
        var flags = RoutedContext.Flags.isDecided
        flags.insert(.isOwn)
        let end = memory.pointee.side.routed
        memory.pointee.routed[end] = RoutedContext(
            packet: packet, frame: packet.frame, key: 0, bucket: state.pointee.hosts.table.bucket(of: 0),
            sourceKey: 0, hash: 0, ingress: RoutedContext.fromPort, route: .host(port: packet.port), domain: 0,
            vrf: 0, egressVRF: 0, mtu: 0, flags: flags, reason: .noRoute)
        memory.pointee.side.routed = end &+ 1
    }

    /// A packet on an underlay port that is not VXLAN for this node: the host's, or routed where the
    /// default VRF has host legs.
    @inline(never)
    func passThrough(_ packet: Packet, _ entry: UnsafePointer<PortEntry>) {
        let vrf = entry.pointee.vrf
        if vrf == 0 {
            punt(packet)
            return
        }
        guard case .route = portAdmission(of: packet, on: entry),
            !isForTunnelEndpoint(packet)
        else {
            puntInOrder(packet)
            return
        }
        startRouting(
            packet, RouteOrigin(ingress: RoutedContext.fromPort, domain: 0, vrf: vrf), sourceKey: 0,
            .puntsMiss)
    }
    private func isForTunnelEndpoint(_ packet: Packet) -> Bool {
        let frame = packet.frame
        if frame[raw16: 12] == EtherType.ipv4.bigEndian {
            return packet.contiguous >= 34 && state.pointee.isLocal(ipv4: frame[raw32: 30])
        }
        return packet.contiguous >= 54 && state.pointee.isLocal(ipv6: frame[raw64: 38], frame[raw64: 46])
    }
}

/// What becomes of a frame on a routed port.
enum PortAdmission: Equatable {
    case route
    /// ARP, ND, routing protocols, whatever is not IP: the host's.
    case punt
    case drop(DropReason)
}

/// Decides about a frame on a routed port, changing nothing.
func portAdmission(of packet: Packet, on entry: UnsafePointer<PortEntry>) -> PortAdmission {
    guard packet.contiguous >= EthernetHeader.byteCount else { return .drop(.truncatedFrame) }
    let ethernet = EthernetHeader(at: packet.frame)
    let source = ethernet.source
    if source.isMulticast { return .drop(.multicastSource) }
    if source.isZero { return .drop(.zeroSource) }
    if source.rawValue == entry.pointee.mac { return .drop(.ownSourceMAC) }
    if ethernet.destination.isMulticast { return .punt }
    if ethernet.destination.rawValue != entry.pointee.mac { return .drop(.otherDestinationMAC) }
    let type = ethernet.etherTypeRaw
    return type == EtherType.ipv4.bigEndian || type == EtherType.ipv6.bigEndian ? .route : .punt
}

/// Whether a packet may be routed.
enum Routability: Equatable {
    /// Bytes of the IP packet.
    case ipv4(byteCount: Int)
    case ipv6(byteCount: Int)
    /// Right, but source or destination is of this link alone.
    case linkLocal(byteCount: Int, isIPv6: Bool)
    case drop(DropReason)
}

/// Decides about the IP packet behind an Ethernet header, changing nothing (RFC 1812 section 5.2.2 and
/// 5.3.7, RFC 8200 section 3). The frame has at least 14 bytes.
@inline(never)
func routability(of packet: Packet) -> Routability {
    let frame = packet.frame
    let start = EthernetHeader.byteCount
    let type = frame[raw16: 12]
    guard type == EtherType.ipv4.bigEndian else { return rareRoutability(of: packet, type) }
    guard packet.contiguous >= start &+ IPv4Header.byteCount else { return .drop(.innerIPv4Header) }
    let ip = IPv4Header(at: frame + start)
    var headerByteCount = IPv4Header.byteCount
    if frame[byte: start] != 0x45 {
        headerByteCount = ip.headerByteCount
        guard ip.version == 4, headerByteCount >= IPv4Header.byteCount,
            packet.contiguous >= start &+ headerByteCount
        else { return .drop(.innerIPv4Header) }
    }
    let total = Int(ip.totalLength)
    guard total >= headerByteCount, start &+ total <= packet.byteCount,
        ip.isChecksumValid(headerByteCount: headerByteCount)
    else { return .drop(.innerIPv4Header) }
    let source = ip.sourceRaw
    let destination = ip.destinationRaw
    guard IPv4Scope.isHost(raw: source), IPv4Scope.isHost(raw: destination) else {
        return .drop(.martianAddress)
    }
    if IPv4Scope.isLinkLocal(raw: source) || IPv4Scope.isLinkLocal(raw: destination) {
        return .linkLocal(byteCount: total, isIPv6: false)
    }
    return .ipv4(byteCount: total)
}

@inline(never)
private func rareRoutability(of packet: Packet, _ type: UInt16) -> Routability {
    guard type == EtherType.ipv6.bigEndian else { return .drop(.notRoutable) }
    let frame = packet.frame
    let start = EthernetHeader.byteCount
    guard packet.contiguous >= start &+ IPv6Header.byteCount else { return .drop(.innerIPv6Header) }
    let ip = IPv6Header(at: frame + start)
    let total = IPv6Header.byteCount &+ Int(ip.payloadLength)
    guard ip.version == 6, start &+ total <= packet.byteCount else { return .drop(.innerIPv6Header) }
    let source = RawIPv6(at: frame + (start &+ 8))
    let destination = RawIPv6(at: frame + (start &+ 24))
    guard source.isHost, destination.isHost else { return .drop(.martianAddress) }
    if source.isLinkLocal || destination.isLinkLocal { return .linkLocal(byteCount: total, isIPv6: true) }
    return .ipv6(byteCount: total)
}
