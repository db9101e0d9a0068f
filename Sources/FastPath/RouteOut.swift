// The last step of routing: checks TTL and size, rewrites the Ethernet header, sends by the next hop.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Sends a routed packet by a hop, or does what the hop's state demands.
    @inline(__always)
    func forward(_ context: UnsafeMutablePointer<RoutedContext>, hop index: UInt32) {
        let hop = state.pointee.hop(index)
        let head = hop.head
        if isExpiring(context) {
            routedDrop(context, .ttlExpired)
        } else if !head.isUsable {
            hold(context, head)
        } else if head.isTunnel {
            routeToTunnel(context, hop, head)
        } else if head.isBridge {
            routeToHost(context, hop, head)
        } else {
            routeToPort(context, hop, head)
        }
    }

    /// Whether a router may not send the packet on (RFC 1812 section 5.3.1, RFC 8200 section 3).
    @inline(__always)
    func isExpiring(_ context: UnsafePointer<RoutedContext>) -> Bool {
        let ip = context.pointee.ip
        return (context.pointee.isIPv6 ? ip[byte: 7] : ip[byte: 8]) <= 1 && !context.pointee.isOwn
    }

    /// A hop that takes no packets now.
    @inline(never)
    private func hold(_ context: UnsafeMutablePointer<RoutedContext>, _ head: HopHead) {
        if head.isResolving {
            appendWaiting(context)
        } else if head.lacksRouterMAC {
            drop(context.pointee.packet, .noRouterMAC)
        } else {
            routedDrop(context, .neighborUnreachable)
        }
    }

    /// Into the fabric: symmetric IRB and type 5 routes (RFC 9135 section 6, RFC 9136 section 4.4).
    @inline(__always)
    private func routeToTunnel(
        _ context: UnsafeMutablePointer<RoutedContext>, _ hop: HopView, _ head: HopHead
    ) {
        let packet = context.pointee.packet
        let tunnel = state.pointee.tunnels + Int(hop.target)
        if let reason = tunnel.pointee.unusable {
            routedDrop(context, reason)
            return
        }
        let hash = flowHash(context)
        let adjacency = state.pointee.adjacency(of: tunnel, hash: FlowHash.pathSelector(hash))
        let headers = adjacency.headerByteCount
        let byteCount = packet.byteCount
        if byteCount &+ headers &- EthernetHeader.byteCount > Int(adjacency.mtu) {
            exceed(context, Int(adjacency.mtu) &- headers)
            return
        }
        guard packet.headroom >= headers else {
            drop(packet, .noHeadroom)
            return
        }
        memory.pointee.counters.add(
            vrf: context.pointee.egressVRF, .tunnelOutPackets, bytes: UInt64(byteCount))
        rewrite(context, to: head.mac, from: hop.sourceMAC)
        // ECN where it lies in either header.
        let marks = context.pointee.frame[byte: 15] & (context.pointee.isIPv6 ? 0x30 : 3)
        sendEncapsulated(
            packet, byteCount: byteCount, context.pointee.frame, adjacency, OuterVNI(hop), hash: hash, marks: marks)
    }

    /// To a host in a bridge domain: out of its circuit, or wherever its MAC is.
    @inline(__always)
    private func routeToHost(
        _ context: UnsafeMutablePointer<RoutedContext>, _ hop: HopView, _ head: HopHead
    ) {
        let domain = UInt16(truncatingIfNeeded: hop.target)
        let known = hop.circuit(head)
        let found = known != HopView.noCircuit ? FDBValue(rawValue: known) : place(of: head.mac, in: domain)
        guard found.isCircuit else {
            routeToBridge(context, hop, head, found)
            return
        }
        let circuit = state.pointee.circuits + Int(found.index)
        // The FDB changes in place: its entry may be younger than this snapshot's circuits.
        guard circuit.pointee.domain == domain else {
            routeToBridge(context, hop, head, FDBValue(rawValue: BucketView.miss))
            return
        }
        let packet = context.pointee.packet
        let port = circuit.pointee.port
        let io = memory.pointee.io.port(port)
        let byteCount = packet.byteCount
        if isTooBig(context, io) {
            exceed(context, Int(io.mtu))
            return
        }
        let vlan = circuit.pointee.vlan
        if vlan != 0, packet.headroom < VLANTag.byteCount {
            drop(packet, .noHeadroom)
            return
        }
        memory.pointee.counters.add(
            vrf: context.pointee.egressVRF, .localOutPackets, bytes: UInt64(byteCount))
        memory.pointee.counters.add(
            domain: domain, .circuitOutPackets, bytes: UInt64(byteCount))
        rewrite(context, to: head.mac, from: hop.sourceMAC)
        if vlan != 0 {
            VLANTag.push(context.pointee.frame, vlanID: vlan)
            _ = packet.addFront(VLANTag.byteCount)
        }
        send(packet, to: port, io)
    }

    /// What the FDB says of a MAC.
    private func place(of mac: UInt64, in domain: UInt16) -> FDBValue {
        let fdb = state.pointee.fdb
        let key = FDBKey.make(domain: domain, mac: mac)
        return FDBValue(rawValue: fdb.value(of: key, in: fdb.bucket(of: key)))
    }

    /// To a host that is not behind a circuit: through its L2VNI (asymmetric IRB), or flooded from the
    /// gateway while the FDB does not know its MAC.
    @inline(never)
    private func routeToBridge(
        _ context: UnsafeMutablePointer<RoutedContext>, _ hop: HopView, _ head: HopHead,
        _ found: FDBValue
    ) {
        let packet = context.pointee.packet
        let domain = UInt16(truncatingIfNeeded: hop.target)
        if found.isTunnel {
            let tunnel = state.pointee.tunnels + Int(found.index)
            if let reason = tunnel.pointee.unusable {
                routedDrop(context, reason)
                return
            }
            let adjacency = state.pointee.adjacency(
                of: tunnel, hash: FlowHash.pathSelector(flowHash(context)))
            let headers = adjacency.headerByteCount
            if packet.byteCount &+ headers &- EthernetHeader.byteCount > Int(adjacency.mtu) {
                exceed(context, Int(adjacency.mtu) &- headers)
                return
            }
        } else if found.isGateway {
            drop(packet, .noRouting)
            return
        }
        let bytes = UInt64(packet.byteCount)
        rewrite(context, to: head.mac, from: hop.sourceMAC)
        var frame = bridged(packet, domain: domain, ingress: PacketContext.fromGateway)
        if found.isTunnel {
            memory.pointee.counters.add(vrf: context.pointee.egressVRF, .tunnelOutPackets, bytes: bytes)
            sendToTunnel(&frame, found.index)
        } else {
            memory.pointee.counters.add(vrf: context.pointee.egressVRF, .localOutPackets, bytes: bytes)
            flood(&frame)
        }
    }

    /// To a host behind a routed or an underlay port.
    @inline(never)
    private func routeToPort(
        _ context: UnsafeMutablePointer<RoutedContext>, _ hop: HopView, _ head: HopHead
    ) {
        let packet = context.pointee.packet
        let port = UInt16(truncatingIfNeeded: hop.target)
        guard head.isPort, port < state.pointee.portCount else {
            routedDrop(context, .noNextHop)
            return
        }
        let io = memory.pointee.io.port(port)
        if isTooBig(context, io) {
            exceed(context, Int(io.mtu))
            return
        }
        memory.pointee.counters.add(
            vrf: context.pointee.egressVRF, .localOutPackets, bytes: UInt64(packet.byteCount))
        rewrite(context, to: head.mac, from: state.pointee.ports[Int(port)].mac)
        send(packet, to: port, io)
    }

    /// Whether the IP packet is larger than the port's MTU. A port that is gone has none; sending
    /// says so.
    @inline(__always)
    private func isTooBig(_ context: UnsafePointer<RoutedContext>, _ io: PortIO) -> Bool {
        context.pointee.packet.byteCount &- EthernetHeader.byteCount > Int(io.mtu)
            && (io.isEthdev || io.isKernel)
    }

    /// A packet larger than the way out takes, at most `mtu` bytes: cut into fragments if it may be,
    /// else dropped with ICMP (RFC 1191, RFC 8201).
    @inline(never)
    private func exceed(_ context: UnsafeMutablePointer<RoutedContext>, _ mtu: Int) {
        context.pointee.mtu = UInt16(truncatingIfNeeded: max(0, min(mtu, 0xFFFF)))
        routedDrop(context, .fragmentationNeeded)
    }

    /// Counts the TTL down, checksum included, and gives the packet its next Ethernet header.
    @inline(__always)
    private func rewrite(
        _ context: UnsafePointer<RoutedContext>, to destination: UInt64, from source: UInt64
    ) {
        let frame = context.pointee.frame
        if !context.pointee.isOwn {
            if context.pointee.isIPv6 {
                IPv6Header(at: context.pointee.ip).decrementHopLimit()
            } else {
                IPv4Header(at: context.pointee.ip).decrementTimeToLive()
            }
        }
        frame[raw64: 0] = destination | source &<< 48
        frame[raw32: 8] = UInt32(truncatingIfNeeded: source &>> 16)
    }
}
