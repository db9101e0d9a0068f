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
        if tunnel.pointee.unusable != nil { return false }
        let packet = context.pointee.packet
        let hash = plainHash(context, frame)
        let adjacency = state.pointee.adjacency(of: tunnel, hash: FlowHash.pathSelector(hash))
        let headers = adjacency.headerByteCount
        let byteCount = packet.byteCount
        guard byteCount &+ headers &- EthernetHeader.byteCount <= Int(adjacency.mtu), packet.headroom >= headers
        else { return false }
        memory.pointee.counters.add(
            vrf: context.pointee.egressVRF, .tunnelOutPackets, bytes: UInt64(byteCount))
        rewritePlain(frame, to: head.mac, from: hop.sourceMAC)
        sendEncapsulated(
            packet, frame, adjacency, OuterVNI(hop), hash: hash, marks: frame[byte: 15] & 3)
        return true
    }

    @inline(__always)
    private func sendPlainToHost(
        _ context: UnsafeMutablePointer<RoutedContext>, _ frame: UnsafeMutableRawPointer, _ hop: HopView,
        _ head: HopHead
    ) -> Bool {
        let domain = UInt16(truncatingIfNeeded: hop.target)
        let fdb = state.pointee.fdb
        let key = FDBKey.make(domain: domain, mac: head.mac)
        let found = FDBValue(rawValue: fdb.value(of: key, in: fdb.bucket(of: key)))
        guard found.isCircuit else { return false }
        let circuit = state.pointee.circuits + Int(found.index)
        // The FDB changes in place: its entry may be younger than this snapshot's circuits.
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

    /// The flow hash of a packet with ``RoutedContext/Flags/isPlain``.
    @inline(__always)
    private func plainHash(
        _ context: UnsafeMutablePointer<RoutedContext>, _ frame: UnsafeMutableRawPointer
    ) -> UInt32 {
        let number = frame[byte: 23]
        let isFragment = frame[raw16: 20] & UInt16(0x3FFF).bigEndian != 0
        if !isFragment, number == IPProtocol.tcp || number == IPProtocol.udp { return FlowHash.plain(frame) }
        return flowHash(context)
    }

    /// Counts the TTL down, checksum included, and writes the next Ethernet addresses.
    @inline(__always)
    private func rewritePlain(
        _ frame: UnsafeMutableRawPointer, to destination: UInt64, from source: UInt64
    ) {
        rewritePlain(frame, at: frame, to: destination, from: source)
    }
    /// - Parameter front: where the addresses go: before a tag that was added.
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
