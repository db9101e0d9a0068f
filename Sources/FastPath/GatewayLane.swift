// Packets to the gateway's own addresses: echo is answered, anything else refused.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Ends the packets of this burst that are for addresses of gateways.
    @inline(never)
    func drainLocal() {
        var index = 0
        while index < memory.pointee.side.local {
            let context = memory.pointee.local + index
            index = index &+ 1
            if let start = echoRequest(in: context) {
                answerEcho(context, icmp: start)
            } else {
                routedDrop(context, .noGatewayService)
            }
        }
        memory.pointee.side.local = 0
    }

    /// Where, from the IP header on, the whole and right echo request in a packet begins; nil for
    /// anything else.
    private func echoRequest(in context: UnsafePointer<RoutedContext>) -> Int? {
        if context.pointee.isOwn { return nil }
        let ip = context.pointee.ip
        let packet = context.pointee.packet
        let available = packet.contiguous &- EthernetHeader.byteCount
        let length = packet.byteCount &- EthernetHeader.byteCount
        if context.pointee.isIPv6 {
            guard case .upperLayer(let number, let start) = IPv6Walk(at: ip, available: available),
                number == IPProtocol.icmpv6, start &+ ICMPv6.headerByteCount <= available,
                ip[be16: start] == UInt16(ICMPv6.echoRequest) &<< 8
            else { return nil }
            let size = length &- start
            let pseudo = Checksum.pseudoHeader(
                ipv6: ip, protocolNumber: IPProtocol.icmpv6, length: size)
            let sum = packet.sum(from: EthernetHeader.byteCount &+ start, count: size)
            return Checksum.fold(pseudo &+ sum) == 0xFFFF ? start : nil
        }
        let header = IPv4Header(at: ip)
        let start = header.headerByteCount
        guard header.protocolNumber == IPProtocol.icmp, !header.isFragment,
            start &+ ICMPv4.headerByteCount <= available,
            ip[be16: start] == UInt16(ICMPv4.echoRequest) &<< 8
        else { return nil }
        let sum = packet.sum(from: EthernetHeader.byteCount &+ start, count: length &- start)
        return Checksum.fold(sum) == 0xFFFF ? start : nil
    }

    /// Turns a request into its reply, and sends it as its source's address says: routed in the VRF in
    /// which it came, or on the link where only that can be.
    private func answerEcho(_ context: UnsafeMutablePointer<RoutedContext>, icmp start: Int) {
        let packet = context.pointee.packet
        let ip = context.pointee.ip
        let isOnLink: Bool
        if context.pointee.isIPv6 {
            ICMPv6.answerEcho(at: ip, icmp: start)
            isOnLink = RawIPv6(at: ip + 24).isLinkLocal
        } else {
            ICMPv4.answerEcho(at: ip, icmp: start)
            isOnLink = IPv4Scope.isLinkLocal(raw: ip[raw32: 16])
        }
        memory.pointee.counters.add(.echoAnswered, 1)
        if context.pointee.vrf != 0, !isOnLink {
            originate(packet, vrf: context.pointee.vrf, domain: context.pointee.domain)
            return
        }
        let frame = context.pointee.frame
        let gateway = state.pointee.domains[Int(context.pointee.domain)].gatewayMAC
        EthernetHeader.writeAddresses(
            at: frame, destination: EthernetHeader(at: frame).source, source: MACAddress(rawValue: gateway))
        var answer = bridged(
            packet, domain: context.pointee.domain, ingress: PacketContext.fromGateway)
        bridge(&answer)
    }
}
