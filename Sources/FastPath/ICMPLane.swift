// ICMP errors for routed packets that were dropped, and IPv4 fragments of those that are too big.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Answers the packets that ``routedDrop(_:_:)`` put aside, and ends them.
    @inline(never)
    func drainErrors() {
        var index = 0
        while index < memory.pointee.side.errors {
            let context = memory.pointee.errors + index
            index = index &+ 1
            if context.pointee.reason == .fragmentationNeeded, isFragmentable(context) {
                fragment(context)
                continue
            }
            if mayAnswer(context) { answer(context) }
            if context.pointee.reason == .neighborUnreachable { askAgain(context) }
            drop(context.pointee.packet, context.pointee.reason)
        }
        memory.pointee.side.errors = 0
        // An error may be for an address of the gateway, from which somebody pretended to send.
        if memory.pointee.side.local != 0 { drainLocal() }
    }

    /// Whether an error may be sent for this packet, the rate limit included.
    private func mayAnswer(_ context: UnsafePointer<RoutedContext>) -> Bool {
        guard context.pointee.vrf != 0, !context.pointee.isOwn else { return false }
        let available = readable(context)
        if context.pointee.isIPv6 {
            guard available >= IPv6Header.byteCount, let error = icmpv6Error(of: context) else { return false }
            guard IPv6Header(at: context.pointee.ip)
                .mayCauseError(available: available, isPacketTooBig: error.isPacketTooBig)
            else { return false }
        } else {
            guard available >= IPv4Header.byteCount, icmpv4Error(of: context) != nil,
                IPv4Header(at: context.pointee.ip).mayCauseError(available: available)
            else { return false }
        }
        if memory.pointee.kept.pointee.errorBudget.take(at: now) { return true }
        memory.pointee.counters.add(.icmpLimited, 1)
        return false
    }
    /// Bytes of the IP packet that lie together.
    private func readable(_ context: UnsafePointer<RoutedContext>) -> Int {
        context.pointee.packet.contiguous &- EthernetHeader.byteCount
    }

    /// Sends an error to the packet's source, routed in the VRF in which the packet came.
    private func answer(_ context: UnsafePointer<RoutedContext>) {
        let size = EthernetHeader.byteCount
            &+ (context.pointee.isIPv6
                ? ICMPv6Error.byteCount(quoting: readable(context))
                : ICMPv4Error.byteCount(quoting: readable(context)))
        guard let packet = makePacket(size) else { return }
        guard write(packet.frame, context) else {
            pe_mbuf_free(packet.mbuf)
            return
        }
        memory.pointee.counters.add(.replicated, 1)
        memory.pointee.counters.add(.icmpErrors, 1)
        originate(packet, vrf: context.pointee.vrf, domain: context.pointee.domain)
    }

    /// Writes the error into a frame of the right size; false when there is no address to send from.
    private func write(
        _ frame: UnsafeMutableRawPointer, _ context: UnsafePointer<RoutedContext>
    ) -> Bool {
        let ip = context.pointee.ip
        let target = frame + EthernetHeader.byteCount
        EthernetHeader.writeAddresses(at: frame, destination: .zero, source: .zero)
        if context.pointee.isIPv6 {
            guard let error = icmpv6Error(of: context) else { return false }
            let source = sourceIPv6(of: context)
            if source.isUnspecified { return false }
            frame[be16: 12] = EtherType.ipv6
            _ = error.write(at: target, from: source, quoting: ip, available: readable(context))
            return true
        }
        guard let error = icmpv4Error(of: context) else { return false }
        let source = sourceIPv4(of: context)
        if source == 0 { return false }
        frame[be16: 12] = EtherType.ipv4
        _ = error.write(
            at: target, from: source, quoting: ip, available: readable(context),
            identification: nextIdentification())
        return true
    }
    func nextIdentification() -> UInt16 {
        let kept = memory.pointee.kept
        kept.pointee.identification &+= 1
        return kept.pointee.identification
    }

    /// The gateway's address in the subnet of the packet's source; else one of the VRF's; 0 for none.
    /// What was sent to an address of ours is answered from it (RFC 1122 section 3.2.2).
    private func sourceIPv4(of context: UnsafePointer<RoutedContext>) -> UInt32 {
        let ip = context.pointee.ip
        if context.pointee.reason == .noGatewayService { return ip[raw32: 16] }
        if context.pointee.domain != 0,
            let gateways = state.pointee.domains[Int(context.pointee.domain)].gateways, gateways.ipv4Count != 0
        {
            return gateways.source(ipv4: ip[raw32: 12])
        }
        return state.pointee.vrfs[Int(context.pointee.vrf)].icmpSourceIPv4
    }
    private func sourceIPv6(of context: UnsafePointer<RoutedContext>) -> RawIPv6 {
        let ip = context.pointee.ip
        if context.pointee.reason == .noGatewayService { return RawIPv6(at: ip + 24) }
        if context.pointee.domain != 0,
            let gateways = state.pointee.domains[Int(context.pointee.domain)].gateways, gateways.ipv6Count != 0
        {
            return gateways.source(ipv6: HostAddress(ipv6: RawIPv6(at: ip + 8)))
        }
        let (first, second) = state.pointee.vrfs[Int(context.pointee.vrf)].icmpSourceIPv6
        return RawIPv6(first, second)
    }

    /// A failed neighbour is needed again: the control plane decides whether it is asked once more.
    private func askAgain(_ context: UnsafePointer<RoutedContext>) {
        guard context.pointee.route.isHop else { return }
        let hop = state.pointee.hop(context.pointee.route.index)
        guard hop.head.isBridge, hop.head.isFailed else { return }
        let domain = UInt16(truncatingIfNeeded: hop.target)
        let address = HostAddress(destinationOf: context.pointee.ip, isIPv6: context.pointee.isIPv6)
        let known = address.isIPv6
            ? state.pointee.neighbor(domain: domain, ipv6: address.high, address.low)
            : state.pointee.neighbor(domain: domain, ipv4: UInt32(truncatingIfNeeded: address.low))
        // Not where the hop is another router's.
        guard known == context.pointee.route.index else { return }
        reportUnresolved(domain: domain, circuit: context.pointee.ingress, address)
    }

    // MARK: IPv4 fragmentation

    /// Whether a packet that is too big may be cut (RFC 791 section 3.2).
    private func isFragmentable(_ context: UnsafePointer<RoutedContext>) -> Bool {
        guard !context.pointee.isIPv6, !context.pointee.isOwn else { return false }
        let header = IPv4Header(at: context.pointee.ip)
        return !header.dontFragment
            && Int(context.pointee.mtu) >= header.headerByteCount &+ IPv4Fragment.unit
    }

    /// Sends a packet as fragments, each routed as the packet was; its TTL is counted down here. The
    /// packet ends as its first fragment: the others count as replicated.
    private func fragment(_ context: UnsafePointer<RoutedContext>) {
        let packet = context.pointee.packet
        let ip = context.pointee.ip
        IPv4Header(at: ip).decrementTimeToLive()
        var cut = IPv4Fragment(
            of: ip, byteCount: packet.byteCount &- EthernetHeader.byteCount, mtu: Int(context.pointee.mtu))
        var made: UInt64 = 0
        while !cut.isAtEnd {
            guard let part = makePacket(EthernetHeader.byteCount &+ cut.byteCount) else {
                memory.pointee.counters.add(.replicated, made)
                drop(packet, .noBuffer)
                return
            }
            part.mbuf.pointee.port = packet.port
            let frame = part.frame
            frame[raw64: 0] = context.pointee.frame[raw64: 0]
            frame[raw64: 6] = context.pointee.frame[raw64: 6]
            let size = cut.writeHeader(at: frame + EthernetHeader.byteCount, from: ip)
            packet.copy(
                from: EthernetHeader.byteCount &+ cut.payloadStart, count: cut.payloadByteCount,
                to: frame + (EthernetHeader.byteCount &+ size))
            cut.advance()
            made = made &+ 1
            memory.pointee.counters.add(.fragmented, 1)
            originate(part, vrf: context.pointee.vrf, domain: context.pointee.domain)
        }
        memory.pointee.counters.add(.replicated, made &- 1)
        pe_mbuf_free(packet.mbuf)
    }

    // MARK: Which error

    private func icmpv4Error(of context: UnsafePointer<RoutedContext>) -> ICMPv4Error? {
        switch context.pointee.reason {
        case .ttlExpired: .timeExceeded
        case .noRoute, .noNextHop, .noUnderlayRoute, .unresolvedNextHop: .networkUnreachable
        case .unreachableRoute, .neighborUnreachable: .hostUnreachable
        case .prohibitRoute: .prohibited
        case .fragmentationNeeded: .fragmentationNeeded(mtu: context.pointee.mtu)
        case .noGatewayService: serviceError4(context.pointee.ip[byte: 9])
        default: nil
        }
    }
    private func serviceError4(_ number: UInt8) -> ICMPv4Error? {
        if number == IPProtocol.icmp { return nil }
        return number == IPProtocol.udp || number == IPProtocol.tcp ? .portUnreachable : .protocolUnreachable
    }
    private func icmpv6Error(of context: UnsafePointer<RoutedContext>) -> ICMPv6Error? {
        switch context.pointee.reason {
        case .ttlExpired: .timeExceeded
        case .noRoute, .noNextHop, .noUnderlayRoute, .unresolvedNextHop: .noRoute
        case .unreachableRoute, .neighborUnreachable: .addressUnreachable
        case .prohibitRoute: .prohibited
        case .fragmentationNeeded: .packetTooBig(mtu: UInt32(context.pointee.mtu))
        case .noGatewayService: serviceError6(context)
        default: nil
        }
    }
    private func serviceError6(_ context: UnsafePointer<RoutedContext>) -> ICMPv6Error? {
        let ip = context.pointee.ip
        guard case .upperLayer(let number, let offset) = IPv6Walk(at: ip, available: readable(context)) else {
            return nil
        }
        if number == IPProtocol.icmpv6 { return nil }
        if number == IPProtocol.udp || number == IPProtocol.tcp { return .portUnreachable }
        // The pointer is for the field that names it: known without extension headers.
        return offset == IPv6Header.byteCount ? .unknownNextHeader(offset: 6) : nil
    }
}
