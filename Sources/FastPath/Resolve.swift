// Pass 2: where each classified frame goes.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Resolves `count` contexts: each ends in a tx lane or in a side lane.
    @inline(never)
    func resolve(_ count: Int) {
        let contexts = memory.pointee.contexts
        let period = memory.pointee.learning.currentPeriod
        var index = 0
        while index < count {
            let context = contexts + index
            index = index &+ 1
            if !context.pointee.isFromTunnel {
                learn(
                    context.pointee.sourceKey, context.pointee.sourceBucket, circuit: context.pointee.ingress,
                    period)
            }
            switch forwarding(of: context, state) {
            case .circuit(let circuit): sendToCircuit(context, circuit)
            case .tunnel(let tunnel): sendToTunnel(context, tunnel)
            case .flood: flood(context)
            case .drop(let reason): drop(context.pointee.packet, reason)
            }
        }
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

    /// Encapsulates a frame for a VTEP and sends it on the flow's underlay path.
    @inline(__always)
    func sendToTunnel(_ context: UnsafePointer<PacketContext>, _ index: UInt32) {
        let packet = context.pointee.packet
        switch underlay(of: index, hash: context.pointee.hash, byteCount: packet.byteCount, state) {
        case .path(let adjacency):
            guard packet.headroom >= adjacency.headerByteCount else {
                drop(packet, .noHeadroom)
                return
            }
            let domain = context.pointee.domain
            memory.pointee.counters.add(
                domain: domain, .tunnelOutPackets, bytes: UInt64(packet.byteCount))
            sendEncapsulated(
                packet, context.pointee.frame, adjacency, OuterVNI(state.pointee.domains + Int(domain)),
                hash: context.pointee.hash, marks: context.pointee.marks)
        case .drop(let reason):
            drop(packet, reason)
        }
    }

    /// Puts outer headers before the frame of a packet, which has the headroom, and sends it.
    @inline(__always)
    func sendEncapsulated(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, _ adjacency: Adjacency, _ vni: OuterVNI,
        hash: UInt32, marks: UInt8
    ) {
        if !adjacency.isPlainIPv4 || marks != 0 {
            if adjacency.isPlainIPv6, marks == 0 {
                sendOverIPv6(packet, frame, adjacency, vni, hash: hash)
            } else {
                sendMarked(packet, frame, adjacency, vni, hash: hash, marks: marks)
            }
            return
        }
        let byteCount = packet.byteCount
        _ = packet.addFront(Adjacency.ipv4ByteCount)
        encapsulateIPv4(
            at: frame - Adjacency.ipv4ByteCount, adjacency, vni, hash: hash, innerByteCount: byteCount)
        let port = adjacency.port
        send(packet, to: port, memory.pointee.io.port(port))
    }

    /// The same over IPv6.
    @inline(never)
    private func sendOverIPv6(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, _ adjacency: Adjacency, _ vni: OuterVNI, hash: UInt32
    ) {
        var sum: UInt64 = 0
        if !adjacency.needsInnerSum {
            // A path without checksums.
        } else if isShortFrame(packet) {
            sum = Checksum.shortSum(frame, packet.byteCount)
        } else if let covered = coveredSum(packet, frame) {
            sum = covered &+ halves(frame[raw64: 0]) &+ UInt64(frame[raw32: 8])
        } else {
            sum = innerSum(of: packet)
        }
        prependIPv6(packet, frame, adjacency, vni, hash: hash, sum: sum)
    }
    /// - Parameter sum: of the inner frame; used when the path needs it.
    @inline(__always)
    func prependIPv6(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, _ adjacency: Adjacency, _ vni: OuterVNI,
        hash: UInt32, sum: UInt64
    ) {
        let byteCount = packet.byteCount
        _ = packet.addFront(Adjacency.ipv6ByteCount)
        encapsulateIPv6(
            at: frame - Adjacency.ipv6ByteCount, adjacency, vni, hash: hash, innerByteCount: byteCount,
            innerSum: sum)
        let port = adjacency.port
        send(packet, to: port, memory.pointee.io.port(port))
    }

    /// The same with outer headers that take something over from the inner ones.
    @inline(never)
    private func sendMarked(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, _ adjacency: Adjacency, _ vni: OuterVNI,
        hash: UInt32, marks: UInt8
    ) {
        let byteCount = packet.byteCount
        let sum = adjacency.needsInnerSum ? innerSum(of: packet) : 0
        let header = packet.addFront(adjacency.headerByteCount)
        encapsulate(at: header, adjacency, vni, hash: hash, innerByteCount: byteCount, innerSum: sum)
        if marks | adjacency.copyFlags != 0 {
            markOuter(
                header, adjacency, inner: frame,
                available: packet.contiguous &- adjacency.headerByteCount)
        }
        let port = adjacency.port
        send(packet, to: port, memory.pointee.io.port(port))
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
    if found == BucketView.miss { return .flood }
    let value = FDBValue(rawValue: found)
    if value.isCircuit {
        return value.index == context.pointee.ingress ? .drop(.sameCircuit) : .circuit(value.index)
    }
    if value.isTunnel {
        return context.pointee.isFromTunnel ? .drop(.splitHorizon) : .tunnel(value.index)
    }
    return .drop(.noRouting)
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
