// Pass 1: what each received frame is, and which tables it will need.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Classifies `count` received packets; returns how many contexts pass 2 has to resolve.
    ///
    /// Packets of one port come together: each run of them is one short loop with its role's code alone.
    @inline(__always)
    func classify(_ count: Int) -> Int {
        let received = memory.pointee.received
        let state = self.state
        memory.pointee.side.bridged = 0
        var index = 0
        while index < count {
            let port = received[index].pointee.port
            guard port < state.pointee.portCount else {
                drop(Packet(received[index]), .unknownPort)
                index = index &+ 1
                continue
            }
            let entry = state.pointee.ports + Int(port)
            // Two comparisons and not a switch: that becomes an indirect jump.
            let role = entry.pointee.role
            if role == .underlay {
                index = terminateRun(from: index, count, port, entry)
            } else if role == .circuits {
                index = admitRun(from: index, count, port, entry)
            } else {
                classifyRare(received[index], entry)
                index = index &+ 1
            }
        }
        return memory.pointee.side.bridged
    }

    /// Classifies packets of underlay port `port` from `start` on; returns the first of another port.
    ///
    /// Those of one family come together, too.
    @inline(never)
    private func terminateRun(
        from start: Int, _ count: Int, _ port: UInt16, _ entry: UnsafePointer<PortEntry>
    ) -> Int {
        let received = memory.pointee.received
        var index = start
        while index < count, received[index].pointee.port == port {
            index = isOverIPv6(Packet(received[index]))
                ? terminateRunIPv6(from: index, count, port, entry)
                : terminateRunIPv4(from: index, count, port, entry)
        }
        return index
    }
    @inline(__always)
    private func isOverIPv6(_ packet: Packet) -> Bool {
        packet.contiguous >= EthernetHeader.byteCount && packet.frame[raw16: 12] == EtherType.ipv6.bigEndian
    }
    @inline(never)
    private func terminateRunIPv4(
        from start: Int, _ count: Int, _ port: UInt16, _ entry: UnsafePointer<PortEntry>
    ) -> Int {
        terminateRun(from: start, count, port, entry, isIPv6: false)
    }
    @inline(never)
    private func terminateRunIPv6(
        from start: Int, _ count: Int, _ port: UInt16, _ entry: UnsafePointer<PortEntry>
    ) -> Int {
        terminateRun(from: start, count, port, entry, isIPv6: true)
    }
    /// Returns the first of another port or of the other family.
    @inline(__always)
    private func terminateRun(
        from start: Int, _ count: Int, _ port: UInt16, _ entry: UnsafePointer<PortEntry>, isIPv6: Bool
    ) -> Int {
        let received = memory.pointee.received
        let contexts = memory.pointee.contexts
        var kept = memory.pointee.side.bridged
        var index = start
        while index < count, received[index].pointee.port == port {
            let packet = Packet(received[index])
            if index &+ 4 < count { prefetch(received[index &+ 4]) }
            switch terminatePlain(packet, entry, isIPv6: isIPv6, contexts + kept) {
            case .kept: kept = kept &+ 1
            case .ended: break
            case .other:
                if isOverIPv6(packet) != isIPv6 {
                    memory.pointee.side.bridged = kept
                    return index
                }
                if terminate(packet, entry, contexts + kept) { kept = kept &+ 1 }
            }
            index = index &+ 1
        }
        memory.pointee.side.bridged = kept
        return index
    }
    /// The same for a circuit port.
    @inline(never)
    private func admitRun(
        from start: Int, _ count: Int, _ port: UInt16, _ entry: UnsafePointer<PortEntry>
    ) -> Int {
        let received = memory.pointee.received
        let contexts = memory.pointee.contexts
        var kept = memory.pointee.side.bridged
        var index = start
        while index < count, received[index].pointee.port == port {
            let packet = Packet(received[index])
            index = index &+ 1
            if index &+ 3 < count { prefetch(received[index &+ 3]) }
            switch admitPlain(packet, entry, contexts + kept) {
            case .kept: kept = kept &+ 1
            case .ended: break
            case .other: if admit(packet, entry, contexts + kept) { kept = kept &+ 1 }
            }
        }
        memory.pointee.side.bridged = kept
        return index
    }

    @inline(never)
    private func classifyRare(_ mbuf: MBuf, _ entry: UnsafePointer<PortEntry>) {
        guard let packet = whole(Packet(mbuf)) else { return }
        switch entry.pointee.role {
        case .exception: fromHost(packet, partner: entry.pointee.partner)
        case .routed: admitRouted(packet, entry)
        case .unused, .underlay, .circuits: drop(packet, .unknownPort)
        }
    }

    /// The first bytes of a received frame, while the packets before it are worked on.
    @inline(__always) private func prefetch(_ mbuf: MBuf) {
        pe_prefetch(mbuf.pointee.buf_addr + Int(mbuf.pointee.data_off))
    }

    /// Bytes that must lie together, so that no header is cut by a segment's end: Ethernet, IPv4
    /// with options, UDP, VXLAN, inner Ethernet with two tags, IPv6, ports; rounded up.
    static var neededContiguous: Int { 192 }

    /// The packet with all headers in its first segment; nil when it was dropped.
    @inline(__always) private func whole(_ packet: Packet) -> Packet? {
        if packet.isSegmented, packet.contiguous < Pipeline.neededContiguous { return gather(packet) }
        return packet
    }

    /// A segmented packet whose first segment is short, as one segment; nil when it was dropped.
    @inline(never)
    private func gather(_ packet: Packet) -> Packet? {
        if packet.contiguous == packet.byteCount { return packet }
        guard let copy = pe_mbuf_linear_copy(packet.mbuf, memory.pointee.packets) else {
            drop(packet, .noBuffer)
            return nil
        }
        copy.pointee.port = packet.port
        pe_mbuf_free(packet.mbuf)
        return Packet(copy)
    }

    /// A frame on an underlay port: decapsulates it into `context` if it is for a domain.
    @inline(never)
    private func terminate(
        _ received: Packet, _ entry: UnsafePointer<PortEntry>, _ context: UnsafeMutablePointer<PacketContext>
    ) -> Bool {
        guard let packet = whole(received) else { return false }
        switch termination(of: packet, on: entry, state) {
        case .bridge(let domain, let offset, let end):
            guard decapsulate(packet, offset: offset, end: end) else { return false }
            return bridgeFromTunnel(
                packet, packet.frame, byteCount: packet.byteCount,
                EthernetHeader(at: packet.frame).destination.rawValue, domain,
                state.pointee.domains + Int(domain), context)
        case .route(let vrf, let offset, let end):
            guard decapsulate(packet, offset: offset, end: end) else { return false }
            startRouting(
                packet, RouteOrigin(ingress: PacketContext.fromTunnel, domain: 0, vrf: vrf), sourceKey: 0,
                .none)
            return false
        case .punt:
            passThrough(packet, entry)
            return false
        case .drop(let reason):
            drop(packet, reason)
            return false
        }
    }

    /// Leaves bytes `offset..<end`, the inner frame, with the ECN mark that the outer header says;
    /// false when that mark is a drop.
    @inline(__always)
    private func decapsulate(_ packet: Packet, offset: Int, end: Int) -> Bool {
        let ecn = outerECN(packet.frame)
        packet.trim(to: end)
        packet.removeFront(offset)
        if ecn != ECN.notECT,
            !combineECN(outer: ecn, inner: packet.frame, available: packet.contiguous)
        {
            drop(packet, .ecnCongestion)
            return false
        }
        return true
    }

    /// A frame on a circuit port: finds its circuit and domain into `context`.
    @inline(never)
    private func admit(
        _ received: Packet, _ entry: UnsafePointer<PortEntry>, _ context: UnsafeMutablePointer<PacketContext>
    ) -> Bool {
        guard let packet = whole(received) else { return false }
        switch admission(of: packet, on: entry, state) {
        case .bridge(let circuit, let domain, let isTagged):
            if isTagged {
                VLANTag.pop(packet.frame)
                packet.removeFront(VLANTag.byteCount)
            }
            let ethernet = EthernetHeader(at: packet.frame)
            return bridgeFromCircuit(
                packet, packet.frame, byteCount: packet.byteCount, ethernet.destination.rawValue,
                ethernet.source.rawValue, circuit, domain, state.pointee.domains + Int(domain), context)
        case .punt:
            punt(packet)
            return false
        case .drop(let reason):
            drop(packet, reason)
            return false
        }
    }

    /// A frame that the host sent through an exception port: leaves through the port behind it.
    @inline(never)
    private func fromHost(_ packet: Packet, partner: UInt16) {
        guard packet.contiguous >= EthernetHeader.byteCount else {
            drop(packet, .truncatedFrame)
            return
        }
        guard partner < state.pointee.portCount else {
            drop(packet, .unknownPort)
            return
        }
        memory.pointee.counters.add(port: partner, .fromHost, 1)
        sendFromHost(packet, to: partner, memory.pointee.io.port(partner))
    }
}
