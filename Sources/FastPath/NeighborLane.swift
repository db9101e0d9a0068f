// ARP, neighbour discovery and DHCP of bridge domains: snooped, answered for gateways and remote hosts, or bridged.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Looks at the neighbour frames of this burst: answers them, ends them, or lets them go on to
    /// pass 2, which has `kept` contexts so far. Returns how many it has then.
    @inline(never)
    func drainNeighbors(_ kept: Int) -> Int {
        var kept = kept
        var index = 0
        while index < memory.pointee.side.neighbors {
            let context = memory.pointee.neighbors + index
            index = index &+ 1
            guard let whole = wholeFrame(context.pointee) else { continue }
            context.pointee = whole
            let passes: Bool
            switch whole.frame[be16: 12] {
            case EtherType.arp: passes = receiveARP(context, isReverse: false)
            case EtherType.rarp: passes = receiveARP(context, isReverse: true)
            case EtherType.ipv6: passes = receiveND(context)
            default: passes = receiveDHCP(context)
            }
            if passes { kept = proceed(context, at: kept) }
        }
        memory.pointee.side.neighbors = 0
        return kept
    }

    /// The same frame in one buffer, since checksums and options reach to its end; nil when it was
    /// dropped.
    private func wholeFrame(_ context: PacketContext) -> PacketContext? {
        let packet = context.packet
        if packet.contiguous == packet.byteCount { return context }
        guard let copy = pe_mbuf_linear_copy(packet.mbuf, memory.pointee.packets) else {
            drop(packet, .noBuffer)
            return nil
        }
        copy.pointee.port = packet.port
        pe_mbuf_free(packet.mbuf)
        return bridged(Packet(copy), domain: context.domain, ingress: context.ingress)
    }

    @inline(__always)
    private func domain(of context: UnsafePointer<PacketContext>) -> UnsafePointer<BridgeDomain> {
        state.pointee.domains + Int(context.pointee.domain)
    }
    /// Whether the frame is for the gateway itself.
    private func isToGateway(_ context: UnsafePointer<PacketContext>) -> Bool {
        let gateway = domain(of: context).pointee.gatewayMAC
        return gateway != 0 && EthernetHeader(at: context.pointee.frame).destination.rawValue == gateway
    }

    /// Ends a frame that was for the control plane, which has its event: it counts as punted. False:
    /// it does not go on.
    private func consume(_ context: UnsafePointer<PacketContext>) -> Bool {
        learnSource(context)
        let packet = context.pointee.packet
        memory.pointee.counters.add(.punted, 1)
        if packet.port < state.pointee.portCount {
            memory.pointee.counters.add(port: packet.port, .punted, 1)
        }
        pe_mbuf_free(packet.mbuf)
        return false
    }
    /// Ends a frame for a reason; false: it does not go on.
    private func refuse(_ context: UnsafePointer<PacketContext>, _ reason: DropReason) -> Bool {
        drop(context.pointee.packet, reason)
        return false
    }
    /// Pass 2 learns from what goes on; this is for what ends here.
    private func learnSource(_ context: UnsafePointer<PacketContext>) {
        if context.pointee.isFromTunnel { return }
        learn(
            context.pointee.sourceKey, context.pointee.sourceBucket, circuit: context.pointee.ingress,
            memory.pointee.learning.currentPeriod)
    }

    // MARK: ARP

    /// Whether the frame goes on to be bridged.
    private func receiveARP(_ context: UnsafePointer<PacketContext>, isReverse: Bool) -> Bool {
        let frame = context.pointee.frame
        let start = EthernetHeader.byteCount
        let arp = ARPPacket(at: frame + start)
        let reading = ARPPacket.parse(
            at: frame + start, available: context.pointee.packet.contiguous &- start, isReverse: isReverse)
        if reading == .malformed { return refuse(context, .malformedARP) }
        let sender = HostAddress(ipv4: arp.senderRaw)
        if reading != .reverse, reading != .probe,
            isClaimed(context, isGateway(context, ipv4: arp.senderRaw), mac: arp.senderMAC, sender)
        {
            return refuse(context, .gatewayAddressClaimed)
        }
        switch reading {
        case .request, .reply: snoop(context, .binding, mac: arp.senderMAC, sender)
        case .announcement: snoop(context, .announcement, mac: arp.senderMAC, sender)
        case .reverse: snoop(context, .macAnnouncement, mac: arp.senderMAC, HostAddress(ipv4: 0))
        case .probe, .malformed: break
        }
        if reading == .request || reading == .probe {
            return answerARP(context, arp, isProbe: reading == .probe)
        }
        return isToGateway(context) ? consume(context) : true
    }

    /// A request: for the gateway's address, a remote host's, or another's: then it goes on.
    private func answerARP(
        _ context: UnsafePointer<PacketContext>, _ arp: ARPPacket, isProbe: Bool
    ) -> Bool {
        let record = domain(of: context)
        if isGateway(context, ipv4: arp.targetRaw) {
            let mac = MACAddress(rawValue: record.pointee.gatewayMAC)
            memory.pointee.counters.add(.arpAnswered, 1)
            return replyARP(context, arp, with: mac)
        }
        if isToGateway(context) { return refuse(context, .noGatewayService) }
        // A probe asks whether the address is in use: its owner answers.
        if !isProbe, isSuppressing(context) {
            let address = UInt32(bigEndian: arp.targetRaw)
            let index = state.pointee.neighbor(domain: context.pointee.domain, ipv4: address)
            if let mac = remoteMAC(index, requester: arp.senderMAC) {
                memory.pointee.counters.add(.arpSuppressed, 1)
                return replyARP(context, arp, with: mac)
            }
        }
        return true
    }

    private func replyARP(
        _ context: UnsafePointer<PacketContext>, _ arp: ARPPacket, with mac: MACAddress
    ) -> Bool {
        arp.answer(with: mac)
        let frame = context.pointee.frame
        learnSource(context)
        EthernetHeader.writeAddresses(
            at: frame, destination: EthernetHeader(at: frame).source, source: mac)
        return sendBack(context)
    }

    // MARK: Neighbour discovery

    /// Whether the frame goes on to be bridged.
    private func receiveND(_ context: UnsafePointer<PacketContext>) -> Bool {
        let packet = context.pointee.packet
        let start = EthernetHeader.byteCount
        let reading = NeighborDiscovery.parse(
            at: context.pointee.frame + start, available: packet.contiguous &- start)
        switch reading {
        case .message(let message): return receiveND(context, message)
        case .malformed: return refuse(context, .malformedND)
        case .other: return isToGateway(context) ? refuse(context, .noGatewayService) : true
        case .none: return true
        }
    }

    private func receiveND(_ context: UnsafePointer<PacketContext>, _ message: NDMessage) -> Bool {
        switch message.kind {
        case .solicitation:
            let source = HostAddress(ipv6: message.source)
            if !message.isDuplicateDetection {
                let isOwn = isGateway(context, ipv6: message.source)
                if isClaimed(context, isOwn, mac: message.linkLayer, source) {
                    return refuse(context, .gatewayAddressClaimed)
                }
                if !message.linkLayer.isZero { snoop(context, .binding, mac: message.linkLayer, source) }
            }
            return answerND(context, message)
        case .advertisement(let isSolicited, _, _):
            let target = HostAddress(ipv6: message.target)
            // Without the option it speaks of the frame's source (RFC 4861 section 7.2.4).
            let mac = message.linkLayer.isZero
                ? EthernetHeader(at: context.pointee.frame).source : message.linkLayer
            if isClaimed(context, isGateway(context, ipv6: message.target), mac: mac, target) {
                return refuse(context, .gatewayAddressClaimed)
            }
            snoop(context, isSolicited ? .binding : .announcement, mac: mac, target)
            return isToGateway(context) ? consume(context) : true
        }
    }

    private func answerND(_ context: UnsafePointer<PacketContext>, _ message: NDMessage) -> Bool {
        let record = domain(of: context)
        if isGateway(context, ipv6: message.target) {
            memory.pointee.counters.add(.ndAnswered, 1)
            return replyND(
                context, message, with: MACAddress(rawValue: record.pointee.gatewayMAC), isRouter: true)
        }
        if isToGateway(context) { return refuse(context, .noGatewayService) }
        // Duplicate address detection is for the address's owner to answer.
        if !message.isDuplicateDetection, message.source != message.target, isSuppressing(context) {
            let target = message.target.address
            let index = state.pointee.neighbor(
                domain: context.pointee.domain, ipv6: target.high, target.low)
            let requester = EthernetHeader(at: context.pointee.frame).source
            if let mac = remoteMAC(index, requester: requester) {
                memory.pointee.counters.add(.ndSuppressed, 1)
                return replyND(context, message, with: mac, isRouter: false)
            }
        }
        return true
    }

    /// Turns a solicitation into the advertisement that answers it (RFC 4861 section 7.2.4): to the
    /// solicitor, or to all nodes, unsolicited, when it has no address yet.
    private func replyND(
        _ context: UnsafePointer<PacketContext>, _ message: NDMessage, with mac: MACAddress, isRouter: Bool
    ) -> Bool {
        let packet = context.pointee.packet
        let frame = context.pointee.frame
        let size = EthernetHeader.byteCount &+ NeighborDiscovery.packetByteCount
        learnSource(context)
        guard packet.resize(to: size) else { return refuse(context, .noBuffer) }
        let requester = EthernetHeader(at: frame).source
        let toAll = message.isDuplicateDetection
        let destination = toAll ? RawIPv6.allNodes : message.source
        NeighborDiscovery.writeAdvertisement(
            at: frame + EthernetHeader.byteCount, from: message.target, to: destination,
            target: message.target, mac: mac, isSolicited: !toAll, isOverride: true, isRouter: isRouter)
        EthernetHeader.writeAddresses(
            at: frame, destination: toAll ? destination.multicastMAC : requester, source: mac)
        return sendBack(context)
    }

    // MARK: DHCP

    /// The client that an acknowledgement names is bound where its MAC is; the frame goes on.
    private func receiveDHCP(_ context: UnsafePointer<PacketContext>) -> Bool {
        let frame = context.pointee.frame
        let start = 42
        let isPlain = context.pointee.packet.contiguous > start && frame[byte: 14] == 0x45
            && frame[byte: 23] == IPProtocol.udp && DHCPMessage.isToClient(udp: frame + 34)
            && frame[raw16: 20] & UInt16(0x3FFF).bigEndian == 0
        if !isPlain { return true }
        let available = min(
            context.pointee.packet.contiguous &- start,
            Int(UDPHeader(at: frame + 34).length) &- UDPHeader.byteCount)
        if let lease = DHCPMessage.acknowledgement(at: frame + start, available: available),
            !isGateway(context, ipv4: lease.addressRaw)
        {
            let key = FDBKey.make(domain: context.pointee.domain, mac: lease.mac.rawValue)
            let found = state.pointee.fdb.value(of: key, in: state.pointee.fdb.bucket(of: key))
            let value = FDBValue(rawValue: found)
            if found != BucketView.miss, value.isCircuit {
                report(
                    .binding, domain: context.pointee.domain, circuit: value.index, mac: lease.mac,
                    HostAddress(ipv4: lease.addressRaw))
            }
        }
        return true
    }

    // MARK: What decides

    private func isGateway(_ context: UnsafePointer<PacketContext>, ipv4 raw: UInt32) -> Bool {
        domain(of: context).pointee.gateways?.contains(ipv4: raw) ?? false
    }
    private func isGateway(_ context: UnsafePointer<PacketContext>, ipv6 address: RawIPv6) -> Bool {
        domain(of: context).pointee.gateways?.contains(ipv6: address.first, address.second) ?? false
    }
    /// Whether a frame claims the gateway's address, and is not the gateway's own on another node;
    /// reports it.
    private func isClaimed(
        _ context: UnsafePointer<PacketContext>, _ isGatewayAddress: Bool, mac: MACAddress,
        _ address: HostAddress
    ) -> Bool {
        guard isGatewayAddress else { return false }
        let gateway = domain(of: context).pointee.gatewayMAC
        if context.pointee.isFromTunnel, mac.rawValue == gateway || mac.isZero { return false }
        report(
            .gatewayClaim, domain: context.pointee.domain, circuit: context.pointee.ingress, mac: mac, address)
        return true
    }
    /// Whether requests in this frame's way may be answered for others: local broadcasts, where the
    /// domain says so. Unicast ones ask a host whether it is still there.
    private func isSuppressing(_ context: UnsafePointer<PacketContext>) -> Bool {
        !context.pointee.isFromTunnel && context.pointee.isMulticast
            && domain(of: context).pointee.flags.contains(.neighborSuppression)
    }
    /// The MAC of a hop if it is a remote host's, and not the requester's own.
    private func remoteMAC(_ hop: UInt32, requester: MACAddress) -> MACAddress? {
        if hop == BucketView.miss { return nil }
        let head = state.pointee.hop(hop).head
        guard head.isRemote, head.isUsable, head.mac != 0, head.mac != requester.rawValue else { return nil }
        return MACAddress(rawValue: head.mac)
    }

    /// Reports what a frame says about its sender. From the fabric only answers to this gateway's own
    /// questions count: everything else comes from EVPN.
    private func snoop(
        _ context: UnsafePointer<PacketContext>, _ kind: NeighborEvent.Kind, mac: MACAddress,
        _ address: HostAddress
    ) {
        // Whoever speaks for another's MAC is not where that MAC is.
        guard mac == EthernetHeader(at: context.pointee.frame).source,
            mac.rawValue != domain(of: context).pointee.gatewayMAC
        else { return }
        if context.pointee.isFromTunnel, kind != .binding || !isToGateway(context) { return }
        report(
            kind, domain: context.pointee.domain, circuit: context.pointee.ingress, mac: mac, address)
    }

    // MARK: Where it goes

    /// Sends a frame that was turned around to where it came from. False: it does not go on.
    private func sendBack(_ context: UnsafePointer<PacketContext>) -> Bool {
        var answer = bridged(
            context.pointee.packet, domain: context.pointee.domain, ingress: PacketContext.fromGateway)
        if context.pointee.isFromTunnel {
            bridge(&answer)
        } else {
            sendToCircuit(&answer, context.pointee.ingress)
        }
        return false
    }

    /// Bridges a frame that this node made by its destination, as pass 2 does.
    func bridge(_ context: UnsafePointer<PacketContext>) {
        switch forwarding(of: context, state) {
        case .circuit(let circuit): sendToCircuit(context, circuit)
        case .tunnel(let tunnel): sendToTunnel(context, tunnel)
        case .flood: flood(context)
        case .drop(let reason): drop(context.pointee.packet, reason)
        }
    }
}
