// Pass 2: where each classified frame goes.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Resolves `count` contexts: each ends in a tx lane or in a side lane.
    ///
    /// Tunnels of one family follow each other nearly always: each family has a loop, in which sending over
    /// it is inline. One loop with both would keep fewer of its values in registers.
    @inline(__always)
    func resolve(_ count: Int) {
        var index = 0
        while index < count {
            index = resolveOverIPv4(from: index, to: count)
            if index < count { index = resolveOverIPv6(from: index, to: count) }
        }
    }

    @inline(never)
    private func resolveOverIPv4(from start: Int, to end: Int) -> Int {
        resolve(from: start, to: end, overIPv6: false)
    }
    @inline(never)
    private func resolveOverIPv6(from start: Int, to end: Int) -> Int {
        resolve(from: start, to: end, overIPv6: true)
    }
    /// Resolves contexts up to `end` or behind the first for a tunnel of the other family; returns where the
    /// next is.
    @inline(__always)
    private func resolve(from start: Int, to end: Int, overIPv6: Bool) -> Int {
        let period = memory.pointee.learning.currentPeriod
        let last = memory.pointee.contexts + end
        var next = memory.pointee.contexts + start
        while next < last {
            let context = next
            next += 1
            switch resolve(context, period) {
            case .circuit(let circuit): sendToCircuit(context, circuit)
            case .tunnel(let tunnel):
                let isOfFamily = overIPv6 ? sendToIPv6Tunnel(context, tunnel) : sendToTunnel(context, tunnel)
                if !isOfFamily { return next - memory.pointee.contexts }
            case .flood: flood(context)
            case .drop(let reason): drop(context.pointee.packet, reason)
            }
        }
        return end
    }
    @inline(__always)
    private func resolve(_ context: UnsafePointer<PacketContext>, _ period: UInt8) -> Forwarding {
        if !context.pointee.isFromTunnel {
            learn(context.pointee.sourceKey, context.pointee.sourceBucket, circuit: context.pointee.ingress, period)
        }
        return forwarding(of: context, state)
    }

    /// Tells the control plane about a source that is new here; else marks it as alive.
    @inline(__always)
    func learn(_ key: UInt64, _ bucket: UnsafeRawPointer, circuit: UInt32, _ period: UInt8) {
        switch learning(of: key, in: bucket, circuit: circuit, state) {
        case .known(let slot): memory.pointee.learning.mark(slot, period)
        case .report: report(key, circuit: circuit)
        case .ignore: break
        }
    }

    @inline(never)
    private func report(_ key: UInt64, circuit: UInt32) {
        if memory.pointee.usesClock {
            memory.pointee.stamp = UInt32(truncatingIfNeeded: pe_tsc() &>> WorkerMemory.stampShift)
        }
        let ring = memory.pointee.learning
        guard ring.isNews(key: key, circuit: circuit, stamp: memory.pointee.stamp) else { return }
        let event = LearnEvent(
            mac: MACAddress(rawValue: key), domain: FDBKey.domain(key), circuit: circuit)
        if ring.push(event) {
            memory.pointee.counters.add(.learned, 1)
        } else {
            ring.forget(key: key, circuit: circuit)
            memory.pointee.counters.add(.learnRingFull, 1)
        }
    }

    @inline(never)
    func flood(_ context: UnsafePointer<PacketContext>) {
        if memory.pointee.side.flooded == WorkerMemory.sideLane { drainFlood() }
        memory.pointee.flooded[memory.pointee.side.flooded] = context.pointee
        memory.pointee.side.flooded = memory.pointee.side.flooded &+ 1
    }

    /// Sends a frame out of an attachment circuit, with the circuit's tag.
    @inline(__always)
    func sendToCircuit(_ context: UnsafePointer<PacketContext>, _ index: UInt32) {
        let circuit = state.pointee.circuits + Int(index)
        // The FDB changes in place: its entry may be younger than this snapshot's circuits.
        guard circuit.pointee.domain == context.pointee.domain else {
            flood(context)
            return
        }
        let packet = context.pointee.packet
        let port = circuit.pointee.port
        let io = memory.pointee.io.port(port)
        let byteCount = packet.byteCount
        if byteCount &- EthernetHeader.byteCount > Int(io.mtu), isOversized(packet, io) {
            drop(packet, .oversized)
            return
        }
        let vlan = circuit.pointee.vlan
        if vlan != 0 {
            guard packet.headroom >= VLANTag.byteCount else {
                drop(packet, .noHeadroom)
                return
            }
            VLANTag.push(context.pointee.frame, vlanID: vlan)
            _ = packet.addFront(VLANTag.byteCount)
        }
        memory.pointee.counters.add(
            domain: context.pointee.domain, .circuitOutPackets, bytes: UInt64(byteCount))
        send(packet, to: port, io)
    }

    /// Encapsulates a frame for a VTEP and sends it on the flow's underlay path; false when that is over IPv6.
    @inline(__always)
    @discardableResult
    func sendToTunnel(_ context: UnsafePointer<PacketContext>, _ index: UInt32) -> Bool {
        let packet = context.pointee.packet
        let byteCount = packet.byteCount, domain = context.pointee.domain
        guard let adjacency = path(packet, byteCount, domain, context.pointee.hash, index) else { return true }
        return sendEncapsulated(
            packet, byteCount: byteCount, context.pointee.frame, adjacency,
            OuterVNI(state.pointee.domains + Int(domain)), hash: context.pointee.hash, marks: context.pointee.marks)
    }
    /// The same, quickest over IPv6; false when it was over IPv4.
    @inline(__always)
    private func sendToIPv6Tunnel(_ context: UnsafePointer<PacketContext>, _ index: UInt32) -> Bool {
        let packet = context.pointee.packet
        let byteCount = packet.byteCount, domain = context.pointee.domain
        guard let adjacency = path(packet, byteCount, domain, context.pointee.hash, index) else { return true }
        let vni = OuterVNI(state.pointee.domains + Int(domain))
        guard adjacency.isPlainIPv6, context.pointee.marks == 0 else {
            return sendOtherwise(
                packet, context.pointee.frame, adjacency, vni, hash: context.pointee.hash,
                marks: context.pointee.marks)
        }
        sendOverIPv6(
            packet, byteCount: byteCount, context.pointee.frame, adjacency, vni, hash: context.pointee.hash)
        return true
    }
    /// The path that a frame takes, counted; nil when it was dropped.
    @inline(__always)
    private func path(
        _ packet: Packet, _ byteCount: Int, _ domain: UInt16, _ hash: UInt32, _ tunnel: UInt32
    ) -> Adjacency? {
        switch underlay(of: tunnel, hash: hash, byteCount: byteCount, state) {
        case .path(let adjacency):
            guard packet.headroom >= adjacency.headerByteCount else {
                drop(packet, .noHeadroom)
                return nil
            }
            memory.pointee.counters.add(
                domain: domain, .tunnelOutPackets, bytes: UInt64(truncatingIfNeeded: byteCount))
            return adjacency
        case .drop(let reason):
            drop(packet, reason)
            return nil
        }
    }

    /// Puts outer headers before the frame of a packet, which has the headroom, and sends it; false when that
    /// was over IPv6.
    @inline(__always)
    @discardableResult
    func sendEncapsulated(
        _ packet: Packet, byteCount: Int, _ frame: UnsafeMutableRawPointer, _ adjacency: Adjacency,
        _ vni: OuterVNI, hash: UInt32, marks: UInt8
    ) -> Bool {
        guard adjacency.isPlainIPv4, marks == 0 else {
            return !sendOtherwise(packet, frame, adjacency, vni, hash: hash, marks: marks)
        }
        packet.addFront(Adjacency.ipv4ByteCount, to: byteCount)
        encapsulateIPv4(
            at: frame - Adjacency.ipv4ByteCount, adjacency, vni, hash: hash, innerByteCount: byteCount)
        let port = adjacency.port
        send(packet, byteCount: byteCount &+ Adjacency.ipv4ByteCount, to: port, memory.pointee.io.port(port))
        return true
    }

    /// The same of whatever it is; returns whether it was over IPv6.
    @inline(never)
    private func sendOtherwise(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, _ adjacency: Adjacency, _ vni: OuterVNI,
        hash: UInt32, marks: UInt8
    ) -> Bool {
        if adjacency.isPlainIPv6, marks == 0 {
            sendOverIPv6(packet, byteCount: packet.byteCount, frame, adjacency, vni, hash: hash)
            return true
        }
        sendMarked(packet, frame, adjacency, vni, hash: hash, marks: marks)
        return adjacency.isIPv6
    }

    @inline(__always)
    private func sendOverIPv6(
        _ packet: Packet, byteCount: Int, _ frame: UnsafeMutableRawPointer, _ adjacency: Adjacency,
        _ vni: OuterVNI, hash: UInt32
    ) {
        let io = memory.pointee.io.port(adjacency.port)
        let outer = OuterUDP(vni, hash: hash, innerByteCount: byteCount)
        let checksum = outer.checksum(of: packet, adjacency, io) {
            isShortFrame(packet, byteCount) ? Checksum.shortSum(frame, byteCount) : longSum(packet, frame)
        }
        packet.addFront(Adjacency.ipv6ByteCount, to: byteCount)
        encapsulateIPv6(at: frame - Adjacency.ipv6ByteCount, adjacency, outer, checksum: checksum)
        send(packet, byteCount: byteCount &+ Adjacency.ipv6ByteCount, to: adjacency.port, io)
    }
    @inline(never)
    private func longSum(_ packet: Packet, _ frame: UnsafeMutableRawPointer) -> UInt64 {
        guard let covered = coveredSum(packet, frame) else { return innerSum(of: packet) }
        return covered &+ halves(frame[raw64: 0]) &+ UInt64(frame[raw32: 8])
    }

    /// The same with outer headers that take something over from the inner ones.
    @inline(never)
    private func sendMarked(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, _ adjacency: Adjacency, _ vni: OuterVNI,
        hash: UInt32, marks: UInt8
    ) {
        let byteCount = packet.byteCount
        let port = adjacency.port
        let io = memory.pointee.io.port(port)
        let isOffloaded = adjacency.needsInnerSum && io.features.contains(.txUDPChecksum)
        let sum = adjacency.needsInnerSum && !isOffloaded ? innerSum(of: packet) : 0
        let header = packet.addFront(adjacency.headerByteCount)
        if isOffloaded {
            packet.requestUDPChecksum()
            let outer = OuterUDP(vni, hash: hash, innerByteCount: byteCount)
            encapsulateIPv6(at: header, adjacency, outer, checksum: outer.pseudoHeader(adjacency))
        } else {
            encapsulate(at: header, adjacency, vni, hash: hash, innerByteCount: byteCount, innerSum: sum)
        }
        if marks | adjacency.copyFlags != 0 {
            markOuter(
                header, adjacency, inner: frame,
                available: packet.contiguous &- adjacency.headerByteCount)
        }
        send(packet, to: port, io)
    }
}

/// What the source of a frame means for learning.
enum Learning: Equatable {
    /// The FDB has it on this circuit, in this slot.
    case known(slot: UInt32)
    /// New, or it was elsewhere: the control plane decides.
    case report
    /// It may not move.
    case ignore
}

/// Decides about a frame's source, changing nothing.
@inline(__always)
func learning(
    of key: UInt64, in bucket: UnsafeRawPointer, circuit: UInt32, _ state: UnsafePointer<ForwardingState>
) -> Learning {
    let entry = state.pointee.fdb.entry(of: key, in: bucket)
    let value = FDBValue(rawValue: entry.value)
    if value.isCircuit(circuit) { return .known(slot: entry.slot) }
    if entry.value != BucketView.miss, value.isSticky { return .ignore }
    return .report
}

/// Where a frame goes.
enum Forwarding: Equatable {
    case circuit(UInt32)
    case tunnel(UInt32)
    /// Broadcast, unknown unicast, multicast.
    case flood
    case drop(DropReason)
}

/// Decides by the destination, changing nothing.
@inline(__always)
func forwarding(
    of context: UnsafePointer<PacketContext>, _ state: UnsafePointer<ForwardingState>
) -> Forwarding {
    if context.pointee.isMulticast { return .flood }
    let found = state.pointee.fdb.value(
        of: context.pointee.destinationKey, in: context.pointee.destinationBucket)
    let value = FDBValue(rawValue: found)
    // A miss is neither.
    if value.isCircuit {
        return value.index == context.pointee.ingress ? .drop(.sameCircuit) : .circuit(value.index)
    }
    if value.isTunnel {
        return context.pointee.isFromTunnel ? .drop(.splitHorizon) : .tunnel(value.index)
    }
    return found == BucketView.miss ? .flood : .drop(.noRouting)
}

/// How a frame reaches a VTEP.
enum Underlay {
    case path(Adjacency)
    case drop(DropReason)
}

/// Decides by flow and size, changing nothing. `byteCount` is the inner frame's.
@inline(__always)
func underlay(
    of index: UInt32, hash: UInt32, byteCount: Int, _ state: UnsafePointer<ForwardingState>
) -> Underlay {
    let tunnel = state.pointee.tunnels + Int(index)
    if let reason = tunnel.pointee.unusable { return .drop(reason) }
    let adjacency = state.pointee.adjacency(of: tunnel, hash: FlowHash.pathSelector(hash))
    let packet = byteCount &+ adjacency.headerByteCount &- EthernetHeader.byteCount
    return packet > Int(adjacency.mtu) ? .drop(.oversized) : .path(adjacency)
}

/// Whether the layer 3 packet inside, up to two tags put aside, is larger than the port's MTU.
@inline(never)
func isOversized(_ packet: Packet, _ io: PortIO) -> Bool {
    // A port that is gone has no MTU; sending says so.
    if !io.isEthdev, !io.isKernel { return false }
    var byteCount = packet.byteCount &- EthernetHeader.byteCount
    var offset = 12
    while offset < 20, offset &+ 6 <= packet.contiguous,
        VLANTag.isTag(raw: packet.frame[raw16: offset])
    {
        offset = offset &+ 4
        byteCount = byteCount &- 4
    }
    return byteCount > Int(io.mtu)
}
