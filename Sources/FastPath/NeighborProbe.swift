// ARP requests and neighbour solicitations that a gateway sends: what the control plane asks a worker for.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Most requests served between two bursts.
    private static var probesAtOnce: Int { 32 }

    /// Sends what the control plane asked for.
    @inline(never)
    func sendProbes() {
        var left = Pipeline.probesAtOnce
        while left > 0, let request = memory.pointee.kept.pointee.probes.pop() {
            left = left &- 1
            let domain = UInt16(truncatingIfNeeded: request.macAndDomain &>> 48)
            sendProbe(
                domain: domain, mac: MACAddress(rawValue: request.macAndDomain),
                HostAddress(isIPv6: request.isIPv6, high: request.high, low: request.low))
            if memory.pointee.side.flooded == WorkerMemory.burst { drainSideLanes() }
        }
    }

    private func sendProbe(domain index: UInt16, mac: MACAddress, _ address: HostAddress) {
        guard index != 0, Int(index) < state.pointee.vrfMemberBase else { return }
        let record = state.pointee.domains + Int(index)
        // The domain may be gone, or its gateway, since the request was made.
        guard record.pointee.isUsed, record.pointee.gatewayMAC != 0, let gateways = record.pointee.gateways
        else { return }
        let gateway = MACAddress(rawValue: record.pointee.gatewayMAC)
        let frame: PacketContext?
        if address.isIPv6 {
            guard gateways.ipv6Count != 0 else { return }
            frame = solicitation(index, gateway, gateways.source(ipv6: address), mac: mac, address)
        } else {
            guard gateways.ipv4Count != 0 else { return }
            let target = UInt32(truncatingIfNeeded: address.low).bigEndian
            frame = request(index, gateway, gateways.source(ipv4: target), mac: mac, target)
        }
        guard var context = frame else { return }
        memory.pointee.counters.add(.replicated, 1)
        memory.pointee.counters.add(.probesSent, 1)
        bridge(&context)
    }

    /// RFC 826; `mac` zero: to all.
    private func request(
        _ domain: UInt16, _ gateway: MACAddress, _ source: UInt32, mac: MACAddress, _ target: UInt32
    ) -> PacketContext? {
        guard let packet = makePacket(EthernetHeader.byteCount &+ ARPPacket.byteCount) else { return nil }
        let frame = packet.frame
        EthernetHeader.writeAddresses(at: frame, destination: mac.isZero ? .broadcast : mac, source: gateway)
        frame[be16: 12] = EtherType.arp
        ARPPacket.write(
            at: frame + EthernetHeader.byteCount, operation: ARPPacket.Operation.request, senderMAC: gateway,
            senderRaw: source, targetMAC: mac, targetRaw: target)
        return bridged(packet, domain: domain, ingress: PacketContext.fromGateway)
    }
    /// RFC 4861 section 7.2.2; `mac` zero: to the solicited-node group.
    private func solicitation(
        _ domain: UInt16, _ gateway: MACAddress, _ source: RawIPv6, mac: MACAddress, _ address: HostAddress
    ) -> PacketContext? {
        let size = EthernetHeader.byteCount &+ NeighborDiscovery.packetByteCount
        guard let packet = makePacket(size) else { return nil }
        let frame = packet.frame
        let target = RawIPv6(IPv6Address(high: address.high, low: address.low))
        let destination = mac.isZero ? target.solicitedNode : target
        EthernetHeader.writeAddresses(
            at: frame, destination: mac.isZero ? destination.multicastMAC : mac, source: gateway)
        frame[be16: 12] = EtherType.ipv6
        NeighborDiscovery.writeSolicitation(
            at: frame + EthernetHeader.byteCount, from: source, to: destination, target: target, mac: gateway)
        return bridged(packet, domain: domain, ingress: PacketContext.fromGateway)
    }

    /// A new buffer of `size` bytes, at most 1500; nil when there is none. It came from no port.
    func makePacket(_ size: Int) -> Packet? {
        guard let mbuf = pe_mbuf_alloc(memory.pointee.packets) else { return nil }
        guard size <= Int(mbuf.pointee.buf_len) &- Int(mbuf.pointee.data_off) else {
            pe_mbuf_free(mbuf)
            return nil
        }
        mbuf.pointee.data_len = UInt16(truncatingIfNeeded: size)
        mbuf.pointee.pkt_len = UInt32(truncatingIfNeeded: size)
        mbuf.pointee.port = PortEntry.none
        return Packet(mbuf)
    }
}

extension GatewayList {
    /// The gateway's address in the subnet of an address as loaded from a packet; the first one when
    /// it is in none. There is at least one.
    func source(ipv4 target: UInt32) -> UInt32 {
        var index = 0
        while index < ipv4Count {
            let length = ipv4PrefixLength(index)
            let mask = length == 0 ? 0 : UInt32.max &<< UInt32(truncatingIfNeeded: 32 &- length)
            if (UInt32(bigEndian: target) ^ UInt32(bigEndian: ipv4(index))) & mask == 0 { return ipv4(index) }
            index = index &+ 1
        }
        return ipv4(0)
    }
    /// Likewise for IPv6.
    func source(ipv6 target: HostAddress) -> RawIPv6 {
        var index = 0
        while index < ipv6Count {
            let (first, second) = ipv6(index)
            let length = ipv6PrefixLength(index)
            let high = (UInt64(bigEndian: first) ^ target.high) & mask(bits: length)
            let low = (UInt64(bigEndian: second) ^ target.low) & mask(bits: length &- 64)
            if high | low == 0 { return RawIPv6(first, second) }
            index = index &+ 1
        }
        let (first, second) = ipv6(0)
        return RawIPv6(first, second)
    }
    /// The upper `bits` of 64.
    private func mask(bits: Int) -> UInt64 {
        bits <= 0 ? 0 : bits >= 64 ? UInt64.max : UInt64.max &<< UInt64(truncatingIfNeeded: 64 &- bits)
    }
}
