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
    @inline(never)
    private func terminateRun(
        from start: Int, _ count: Int, _ port: UInt16, _ entry: UnsafePointer<PortEntry>
    ) -> Int {
        let received = memory.pointee.received
        var kept = memory.pointee.side.bridged
        var index = start
        while index < count, received[index].pointee.port == port {
            let packet = Packet(received[index])
            index = index &+ 1
            if index &+ 3 < count { prefetch(received[index &+ 3]) }
            guard let whole = whole(packet) else { continue }
            if terminate(whole, entry, at: kept) { kept = kept &+ 1 }
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
        var kept = memory.pointee.side.bridged
        var index = start
        while index < count, received[index].pointee.port == port {
            let packet = Packet(received[index])
            index = index &+ 1
            if index &+ 3 < count { prefetch(received[index &+ 3]) }
            guard let whole = whole(packet) else { continue }
            if admit(whole, entry, at: kept) { kept = kept &+ 1 }
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

    /// A frame on an underlay port: decapsulates it into context `index` if it is for a domain.
    @inline(__always)
    private func terminate(
        _ packet: Packet, _ entry: UnsafePointer<PortEntry>, at index: Int
    ) -> Bool {
        switch termination(of: packet, on: entry, state) {
        case .bridge(let domain, let offset, let end):
            guard decapsulate(packet, offset: offset, end: end) else { return false }
            let frame = packet.frame
            let bytes = packet.byteCount
            memory.pointee.counters.add(domain: domain, .tunnelInPackets, bytes: UInt64(bytes))
            let record = state.pointee.domains + Int(domain)
            if isForGateway(frame, record) {
                startRouting(
                    packet,
                    RouteOrigin(ingress: PacketContext.fromTunnel, domain: domain, vrf: record.pointee.vrf),
                    sourceKey: 0, .none)
                return false
            }
            if ServiceMark.of(frame, packet.contiguous) == ServiceMark.neighbor {
                handToNeighbors(packet, domain: domain, ingress: PacketContext.fromTunnel)
                return false
            }
            let key = FDBKey.make(domain: domain, mac: EthernetHeader(at: frame).destination.rawValue)
            let bucket = state.pointee.fdb.bucket(of: key)
            pe_prefetch(bucket)
            memory.pointee.contexts[index] = PacketContext(
                packet: packet, frame: frame, destinationKey: key, destinationBucket: bucket,
                sourceKey: 0, sourceBucket: bucket, hash: 0, ingress: PacketContext.fromTunnel,
                domain: domain, marks: 0)
            return true
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

    /// A frame on a circuit port: finds its circuit and domain into context `index`.
    @inline(__always)
    private func admit(
        _ packet: Packet, _ entry: UnsafePointer<PortEntry>, at index: Int
    ) -> Bool {
        switch admission(of: packet, on: entry, state) {
        case .bridge(let circuit, let domain, let isTagged):
            if isTagged {
                VLANTag.pop(packet.frame)
                packet.removeFront(VLANTag.byteCount)
            }
            let frame = packet.frame
            let bytes = packet.byteCount
            memory.pointee.counters.add(domain: domain, .circuitInPackets, bytes: UInt64(bytes))
            let record = state.pointee.domains + Int(domain)
            if isForGateway(frame, record) {
                admitToGateway(packet, RouteOrigin(ingress: circuit, domain: domain, vrf: record.pointee.vrf))
                return false
            }
            // Stored as it comes: what waits in registers is spilled at the first rare call.
            let context = memory.pointee.contexts + index
            context.pointee.packet = packet
            context.pointee.frame = frame
            context.pointee.ingress = circuit
            context.pointee.domain = domain
            let available = packet.contiguous
            let isPlain = FlowHash.isPlain(frame, available)
            let marks = isPlain ? ServiceMark.ofPlain(frame) : ServiceMark.of(frame, available)
            if marks == ServiceMark.neighbor {
                handToNeighbors(packet, domain: domain, ingress: circuit)
                return false
            }
            context.pointee.marks = marks
            context.pointee.hash = isPlain
                ? FlowHash.plain(frame) : FlowHash.of(frame: frame, available: available)
            let fdb = state.pointee.fdb
            let ethernet = EthernetHeader(at: frame)
            let key = FDBKey.make(domain: domain, mac: ethernet.destination.rawValue)
            let bucket = fdb.bucket(of: key)
            pe_prefetch(bucket)
            context.pointee.destinationKey = key
            context.pointee.destinationBucket = bucket
            let sourceKey = FDBKey.make(domain: domain, mac: ethernet.source.rawValue)
            let sourceBucket = fdb.bucket(of: sourceKey)
            pe_prefetch(sourceBucket)
            context.pointee.sourceKey = sourceKey
            context.pointee.sourceBucket = sourceBucket
            memory.pointee.learning.prefetchMark(fdb.firstSlot(of: sourceBucket))
            return true
        case .punt:
            punt(packet)
            return false
        case .drop(let reason):
            drop(packet, reason)
            return false
        }
    }

    /// A frame of a circuit for its gateway: its source is learned like any other's.
    @inline(__always)
    private func admitToGateway(_ packet: Packet, _ origin: RouteOrigin) {
        let fdb = state.pointee.fdb
        let source = EthernetHeader(at: packet.frame).source.rawValue
        let sourceKey = FDBKey.make(domain: origin.domain, mac: source)
        let sourceBucket = fdb.bucket(of: sourceKey)
        pe_prefetch(sourceBucket)
        memory.pointee.learning.prefetchMark(fdb.firstSlot(of: sourceBucket))
        startRouting(packet, origin, sourceKey: sourceKey, .none)
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
