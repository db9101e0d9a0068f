// Broadcast, unknown unicast and multicast: one copy for every target but the one it came from.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Replicates the flooded packets of this burst.
    @inline(never)
    func drainFlood() {
        var index = 0
        while index < memory.pointee.side.flooded {
            replicate(memory.pointee.flooded + index)
            index = index &+ 1
        }
        memory.pointee.side.flooded = 0
    }

    /// Copies a packet to every target: the domain's circuits and, for frames that did not come
    /// through a tunnel, its remote VTEPs (ingress replication and split horizon, RFC 8365).
    ///
    /// The last target gets the packet itself; full lanes are sent on the way, so the list may be as
    /// long as its limit allows.
    private func replicate(_ context: UnsafePointer<PacketContext>) {
        let packet = context.pointee.packet
        guard let list = state.pointee.domains[Int(context.pointee.domain)].flood else {
            drop(packet, .noFloodTarget)
            return
        }
        let isFromTunnel = context.pointee.isFromTunnel
        let targetCount = list.circuitCount &+ (isFromTunnel ? 0 : list.tunnelCount)
        var flood = FloodedPacket(context: context)
        var waiting: FDBValue?
        var index = 0
        while index < targetCount {
            let isCircuit = index < list.circuitCount
            let target = isCircuit
                ? FDBValue(rawValue: list.circuit(index))
                : FDBValue(rawValue: 1 &<< 30 | list.tunnel(index &- list.circuitCount))
            index = index &+ 1
            if isCircuit, target.index == context.pointee.ingress { continue }
            if let waiting { copy(&flood, to: waiting) }
            waiting = target
        }
        if let waiting {
            last(&flood, to: waiting)
        } else {
            drop(packet, .noFloodTarget)
        }
        memory.pointee.counters.add(.replicated, UInt64(truncatingIfNeeded: flood.copyCount))
    }

    private func copy(_ flood: inout FloodedPacket, to target: FDBValue) {
        flood.copyCount = flood.copyCount &+ 1
        if target.isCircuit {
            copyToCircuit(flood, target.index, isLast: false)
        } else {
            copyToTunnel(&flood, target.index)
        }
    }

    /// The packet itself goes to the last target. Others may still hold a reference to its bytes, so
    /// nothing behind the frame's start may change: outer headers lie before it, a tag does not.
    private func last(_ flood: inout FloodedPacket, to target: FDBValue) {
        if target.isTunnel {
            sendToTunnel(flood.context, target.index)
        } else {
            copyToCircuit(flood, target.index, isLast: true)
        }
    }

    /// A copy for a circuit: a clone; with a tag, addresses and tag in a header of their own before a
    /// clone of the rest.
    private func copyToCircuit(_ flood: FloodedPacket, _ index: UInt32, isLast: Bool) {
        let packet = flood.context.pointee.packet
        let circuit = state.pointee.circuits + Int(index)
        let port = circuit.pointee.port
        let io = memory.pointee.io.port(port)
        let byteCount = packet.byteCount
        let reason: DropReason?
        if circuit.pointee.domain != flood.context.pointee.domain {
            reason = .unknownPort
        } else if byteCount &- EthernetHeader.byteCount > Int(io.mtu), isOversized(packet, io) {
            reason = .oversized
        } else {
            reason = nil
        }
        if let reason {
            if isLast { drop(packet, reason) } else { count(reason, port: packet.port) }
            return
        }
        memory.pointee.counters.add(
            domain: flood.context.pointee.domain, .circuitOutPackets, bytes: UInt64(byteCount))
        let vlan = circuit.pointee.vlan
        if vlan == 0 {
            if isLast {
                send(packet, to: port, io)
            } else if let clone = pe_mbuf_clone(packet.mbuf, memory.pointee.headers) {
                send(Packet(clone), to: port, io)
            } else {
                count(.noBuffer, port: packet.port)
            }
            return
        }
        // Twelve bytes of addresses and the tag; what is chained goes on with the EtherType.
        guard let header = pe_mbuf_alloc(memory.pointee.headers) else {
            if isLast { drop(packet, .noBuffer) } else { count(.noBuffer, port: packet.port) }
            return
        }
        guard let rest = isLast ? packet.mbuf : pe_mbuf_clone(packet.mbuf, memory.pointee.headers)
        else {
            pe_mbuf_free(header)
            count(.noBuffer, port: packet.port)
            return
        }
        let front = Packet(header)
        let frame = flood.context.pointee.frame
        header.pointee.data_len = 16
        header.pointee.pkt_len = 16
        front.frame[raw64: 0] = frame[raw64: 0]
        front.frame[raw32: 8] = frame[raw32: 8]
        front.frame[raw32: 12] = VLANTag.word(vlanID: vlan)
        Packet(rest).removeFront(12)
        join(front, Packet(rest), to: port, io)
    }

    /// A copy for a VTEP: outer headers of its own before a clone.
    private func copyToTunnel(_ flood: inout FloodedPacket, _ index: UInt32) {
        let packet = flood.context.pointee.packet
        let hash = flood.context.pointee.hash
        let byteCount = packet.byteCount
        let adjacency: Adjacency
        switch underlay(of: index, hash: hash, byteCount: byteCount, state) {
        case .path(let found): adjacency = found
        case .drop(let reason):
            count(reason, port: packet.port)
            return
        }
        guard let header = pe_mbuf_alloc(memory.pointee.headers) else {
            count(.noBuffer, port: packet.port)
            return
        }
        guard let clone = pe_mbuf_clone(packet.mbuf, memory.pointee.headers) else {
            pe_mbuf_free(header)
            count(.noBuffer, port: packet.port)
            return
        }
        let domain = flood.context.pointee.domain
        memory.pointee.counters.add(domain: domain, .tunnelOutPackets, bytes: UInt64(byteCount))
        // The same for every target: computed once.
        if adjacency.needsInnerSum, !flood.hasInnerSum {
            flood.innerSum = innerSum(of: packet)
            flood.hasInnerSum = true
        }
        header.pointee.data_len = UInt16(truncatingIfNeeded: adjacency.headerByteCount)
        header.pointee.pkt_len = UInt32(truncatingIfNeeded: adjacency.headerByteCount)
        let front = Packet(header)
        encapsulate(
            at: front.frame, adjacency, OuterVNI(state.pointee.domains + Int(domain)), hash: hash,
            innerByteCount: byteCount, innerSum: flood.innerSum)
        if flood.context.pointee.marks != 0 || adjacency.copiesInner {
            markOuter(
                front.frame, adjacency, inner: flood.context.pointee.frame, available: packet.contiguous)
        }
        let port = adjacency.port
        join(front, Packet(clone), to: port, memory.pointee.io.port(port))
    }

    private func join(_ front: Packet, _ rest: Packet, to port: UInt16, _ io: PortIO) {
        guard pe_mbuf_chain(front.mbuf, rest.mbuf) == 0 else {
            count(.noBuffer, port: port)
            pe_mbuf_free(front.mbuf)
            pe_mbuf_free(rest.mbuf)
            return
        }
        send(front, to: port, io)
    }
}

/// A packet that is being flooded.
struct FloodedPacket {
    let context: UnsafePointer<PacketContext>
    /// The frame's one's complement sum, once a path needed it.
    var innerSum: UInt64 = 0
    var hasInnerSum = false
    /// Copies made, or tried, beyond the packet that was received.
    var copyCount = 0
}
