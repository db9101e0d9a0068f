// The last step of routing for what nearly all packets are: IPv4, to a VTEP or to a host behind a circuit.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Sends a plain packet by a usable hop into the fabric or to a host behind a circuit; false when it
    /// is anything else: then nothing was changed, and ``follow(_:)`` decides. All that ``forward(_:hop:)``
    /// asks for is asked for here.
    @inline(__always)
    func sendPlain(_ context: UnsafeMutablePointer<RoutedContext>) -> Bool {
        let route = context.pointee.route
        let frame = context.pointee.frame
        // A TTL to be counted down to 0 is for others.
        guard route.isHop, context.pointee.flags.contains(.isPlain), frame[byte: 22] > 1 else { return false }
        let hop = state.pointee.hop(route.index)
        let head = hop.head
        if head.isUsableTunnel { return sendPlainToTunnel(context, frame, hop, head) }
        if head.isUsableBridge { return sendPlainToHost(context, frame, hop, head) }
        return false
    }

    @inline(__always)
    private func sendPlainToTunnel(
        _ context: UnsafeMutablePointer<RoutedContext>, _ frame: UnsafeMutableRawPointer, _ hop: HopView,
        _ head: HopHead
    ) -> Bool {
        let tunnel = state.pointee.tunnels + Int(hop.target)
        // ``FlowHash/isPlain(_:_:)``, as far as it is not known yet.
        let number = frame[byte: 23]
        guard tunnel.pointee.unusable == nil, frame[raw16: 20] & UInt16(0x3FFF).bigEndian == 0,
            number == IPProtocol.tcp || number == IPProtocol.udp
        else { return false }
        let packet = context.pointee.packet
        let hash = FlowHash.plain(frame)
        let adjacency = state.pointee.adjacency(of: tunnel, hash: FlowHash.pathSelector(hash))
        let headers = adjacency.headerByteCount
        let byteCount = packet.byteCount
        // Nothing to be taken over into the outer header, ECN neither.
        guard byteCount &+ headers &- EthernetHeader.byteCount <= Int(adjacency.mtu),
            packet.headroom >= headers, adjacency.copyFlags | frame[byte: 15] & 3 == 0
        else { return false }
        memory.pointee.counters.add(
            vrf: context.pointee.egressVRF, .tunnelOutPackets, bytes: UInt64(byteCount))
        if adjacency.isIPv6 {
            sendPlainOverIPv6(packet, frame, hop, head, adjacency, hash: hash)
            return true
        }
        rewritePlain(frame, at: frame, to: head.mac, from: hop.sourceMAC)
        _ = packet.addFront(Adjacency.ipv4ByteCount)
        encapsulateIPv4(
            at: frame - Adjacency.ipv4ByteCount, adjacency, OuterVNI(hop), hash: hash,
            innerByteCount: byteCount)
        let port = adjacency.port
        send(packet, to: port, memory.pointee.io.port(port))
        return true
    }

    /// Sums the frame before its header is rewritten: wide loads of what has just been stored would wait
    /// for it. The addresses are added as they will be; TTL and header checksum change by the same amount.
    @inline(never)
    private func sendPlainOverIPv6(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, _ hop: HopView, _ head: HopHead,
        _ adjacency: Adjacency, hash: UInt32
    ) {
        let (destination, source) = (head.mac, hop.sourceMAC)
        let byteCount = packet.byteCount
        let io = memory.pointee.io.port(adjacency.port)
        let outer = OuterUDP(OuterVNI(hop), hash: hash, innerByteCount: byteCount)
        let checksum = outer.checksum(of: packet, adjacency, io) {
            let rest = isShortFrame(packet, byteCount)
                ? Checksum.shortSum(frame + 12, byteCount &- 12) : longRest(packet, frame)
            // Three words of two bytes each lie in an address.
            return rest &+ halves(destination) &+ halves(source)
        }
        rewritePlain(frame, at: frame, to: destination, from: source)
        packet.addFront(Adjacency.ipv6ByteCount, to: byteCount)
        encapsulateIPv6(at: frame - Adjacency.ipv6ByteCount, adjacency, outer, checksum: checksum)
        send(packet, byteCount: byteCount &+ Adjacency.ipv6ByteCount, to: adjacency.port, io)
    }
    /// The sum of a frame without its addresses.
    @inline(__always)
    private func longRest(_ packet: Packet, _ frame: UnsafeMutableRawPointer) -> UInt64 {
        coveredSum(packet, frame) ?? packet.sum(from: 12, count: packet.byteCount &- 12)
    }

    @inline(__always)
    private func sendPlainToHost(
        _ context: UnsafeMutablePointer<RoutedContext>, _ frame: UnsafeMutableRawPointer, _ hop: HopView,
        _ head: HopHead
    ) -> Bool {
        let domain = UInt16(truncatingIfNeeded: hop.target)
        let index = hop.circuit(head)
        guard index != HopView.noCircuit else { return false }
        let circuit = state.pointee.circuits + Int(index)
        // The hop changes in place: its circuit may be younger than this snapshot's circuits.
        guard circuit.pointee.domain == domain else { return false }
        let packet = context.pointee.packet
        let port = circuit.pointee.port
        let io = memory.pointee.io.port(port)
        let byteCount = packet.byteCount
        let vlan = circuit.pointee.vlan
        guard byteCount &- EthernetHeader.byteCount <= Int(io.mtu), packet.headroom >= VLANTag.byteCount
        else { return false }
        memory.pointee.counters.add(
            vrf: context.pointee.egressVRF, .localOutPackets, bytes: UInt64(byteCount))
        memory.pointee.counters.add(domain: domain, .circuitOutPackets, bytes: UInt64(byteCount))
        var front = frame
        if vlan != 0 {
            front = packet.addFront(VLANTag.byteCount)
            front[raw32: 12] = VLANTag.word(vlanID: vlan)
        }
        rewritePlain(frame, at: front, to: head.mac, from: hop.sourceMAC)
        send(packet, to: port, io)
        return true
    }

    /// Counts the TTL down, checksum included, and writes the next Ethernet addresses to `front`, which is
    /// before `frame` where a tag was added.
    @inline(__always)
    private func rewritePlain(
        _ frame: UnsafeMutableRawPointer, at front: UnsafeMutableRawPointer, to destination: UInt64,
        from source: UInt64
    ) {
        IPv4Header(at: frame + EthernetHeader.byteCount).decrementTimeToLive()
        front[raw64: 0] = destination | source &<< 48
        front[raw32: 8] = UInt32(truncatingIfNeeded: source &>> 16)
    }
}
