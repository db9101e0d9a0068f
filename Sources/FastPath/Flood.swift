// Broadcast, unknown unicast and multicast: one copy for every target but the one it came from.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// Takes the flooded packets of this burst into the backlog, and makes the copies that this turn has
    /// budget for.
    @inline(never)
    func drainFlood() {
        let kept = memory.pointee.kept
        kept.pointee.flood.isActive = true
        var index = 0
        while index < memory.pointee.side.flooded {
            admit(memory.pointee.flooded + index)
            index = index &+ 1
        }
        memory.pointee.side.flooded = 0
        serveFlood()
    }

    private func admit(_ context: UnsafePointer<PacketContext>) {
        let domain = state.pointee.domains + Int(context.pointee.domain)
        guard let list = domain.pointee.flood else {
            drop(context.pointee.packet, .noFloodTarget)
            return
        }
        let isAdmitted = memory.pointee.kept.pointee.flood.append(
            context.pointee, vniWord: domain.pointee.vniWord, generation: list.generation)
        if !isAdmitted { drop(context.pointee.packet, .floodQueueFull) }
    }

    /// Makes copies, oldest packet first, while the turn's budget lasts.
    private func serveFlood() {
        let kept = memory.pointee.kept
        while kept.pointee.flood.count != 0, kept.pointee.flood.budget > 0 {
            let job = kept.pointee.flood.first
            if replicate(job, &kept.pointee.flood.budget) {
                if let shared = job.pointee.shared { pe_mbuf_free(shared) }
                kept.pointee.flood.removeFirst()
            } else {
                memory.pointee.counters.add(.floodsContinued, 1)
            }
        }
        noteWaiting()
    }

    /// The end of a turn: what is left of its budget is used, and the next one gets a new one.
    @inline(never)
    func endFloodTurn() {
        let kept = memory.pointee.kept
        serveFlood()
        kept.pointee.flood.budget = FloodBacklog.copiesPerTurn
        kept.pointee.flood.isActive = kept.pointee.flood.count != 0
        // What could not be copied may be among what is freed.
        if memory.pointee.side.discarded != 0 { drainDiscarded() }
    }

    /// Makes all copies that are still to be made: as many turns as that takes, with nothing between them.
    func finishFlood() {
        while memory.pointee.kept.pointee.flood.isActive {
            endFloodTurn()
            sendLanes()
        }
    }
    @inline(never) private func sendLanes() { transmit() }

    /// Copies a packet to its targets: the domain's circuits and, for frames that did not come through a
    /// tunnel, its remote VTEPs (ingress replication and split horizon, RFC 8365). True when it is done;
    /// false when the budget is used up.
    ///
    /// The last target gets the packet itself. When the list has changed since the last turn, each target
    /// still gets the packet at most once, and each that was there all the time exactly once.
    private func replicate(_ job: UnsafeMutablePointer<FloodJob>, _ budget: inout Int) -> Bool {
        let domain = state.pointee.domains + Int(job.pointee.context.domain)
        guard domain.pointee.vniWord == job.pointee.vniWord, let list = domain.pointee.flood else {
            drop(job.pointee.context.packet, .noFloodTarget)
            return true
        }
        var position = Int(job.pointee.position)
        if list.generation != job.pointee.generation {
            job.pointee.generation = list.generation
            position = job.pointee.hasStarted ? list.position(behind: job.pointee.last) : 0
        }
        let circuitCount = list.circuitCount
        let end = circuitCount &+ (job.pointee.context.isFromTunnel ? 0 : list.tunnelCount)
        let ingress = job.pointee.context.ingress
        if position < circuitCount, list.circuit(position) == ingress { position = position &+ 1 }
        while position < end, budget > 0 {
            let isCircuit = position < circuitCount
            var next = position &+ 1
            if next < circuitCount, list.circuit(next) == ingress { next = next &+ 1 }
            if next >= end {
                if isCircuit {
                    copyToCircuit(job, list.circuit(position), isLast: true)
                } else {
                    sendToTunnel(&job.pointee.context, list.tunnel(position &- circuitCount))
                }
                budget = budget &- 1
                return true
            }
            if isCircuit {
                copyToCircuit(job, list.circuit(position), isLast: false)
                job.pointee.last = FloodList.mark(circuit: list.circuit(position))
            } else {
                // All but the last one.
                next = min(position &+ min(FloodBacklog.chunk, budget), end &- 1)
                copyToTunnels(job, list, position &- circuitCount, next &- position)
                job.pointee.last = FloodList.mark(tunnel: list.tunnel(next &- 1 &- circuitCount))
            }
            let made = isCircuit ? 1 : next &- position
            memory.pointee.counters.add(.replicated, UInt64(truncatingIfNeeded: made))
            budget = budget &- made
            job.pointee.hasStarted = true
            position = next
        }
        job.pointee.position = UInt32(truncatingIfNeeded: position)
        if position < end { return false }
        // Nobody but the circuit it came from; or the targets that were left are gone.
        drop(job.pointee.context.packet, .noFloodTarget)
        return true
    }

    /// A copy for a circuit: a clone; with a tag, addresses and tag in a header of their own before a
    /// clone of the rest.
    ///
    /// The last one is the packet itself. Others may still hold a reference to its bytes, so nothing
    /// behind the frame's start may change: outer headers lie before it, a tag does not.
    private func copyToCircuit(_ job: UnsafeMutablePointer<FloodJob>, _ index: UInt32, isLast: Bool) {
        let packet = job.pointee.context.packet
        let circuit = state.pointee.circuits + Int(index)
        let port = circuit.pointee.port
        let io = memory.pointee.io.port(port)
        let byteCount = packet.byteCount
        let reason: DropReason?
        if circuit.pointee.domain != job.pointee.context.domain {
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
            domain: job.pointee.context.domain, .circuitOutPackets, bytes: UInt64(byteCount))
        let vlan = circuit.pointee.vlan
        if vlan == 0 {
            if isLast {
                send(packet, to: port, io)
            } else if let clone = clone(packet) {
                send(Packet(clone), to: port, io)
            } else {
                count(.noBuffer, port: packet.port)
            }
            return
        }
        // Twelve bytes of addresses and the tag; what is chained goes on with the EtherType.
        guard let header = headerBuffer() else {
            if isLast { drop(packet, .noBuffer) } else { count(.noBuffer, port: packet.port) }
            return
        }
        guard let rest = isLast ? packet.mbuf : clone(packet) else {
            pe_mbuf_free(header)
            count(.noBuffer, port: packet.port)
            return
        }
        let front = Packet(header)
        let frame = job.pointee.context.frame
        header.pointee.data_len = 16
        header.pointee.pkt_len = 16
        front.frame[raw64: 0] = frame[raw64: 0]
        front.frame[raw32: 8] = frame[raw32: 8]
        front.frame[raw32: 12] = VLANTag.word(vlanID: vlan)
        Packet(rest).removeFront(12)
        join(front, Packet(rest), to: port, io)
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

    // What lies in the lanes may be all that is missing: it is sent, and the pool asked once more.
    private func clone(_ packet: Packet) -> MBuf? {
        if let clone = pe_mbuf_clone(packet.mbuf, memory.pointee.headers) { return clone }
        sendLanes()
        return pe_mbuf_clone(packet.mbuf, memory.pointee.headers)
    }
    private func headerBuffer() -> MBuf? {
        if let header = pe_mbuf_alloc(memory.pointee.headers) { return header }
        sendLanes()
        return pe_mbuf_alloc(memory.pointee.headers)
    }
}

// Copies for VTEPs: outer headers in buffers of their own, before a payload that all of them share.
extension Pipeline {
    /// Copies for `number` VTEPs of the list from `first` on, at most ``FloodBacklog/chunk``.
    @inline(never)
    private func copyToTunnels(
        _ job: UnsafeMutablePointer<FloodJob>, _ list: FloodList, _ first: Int, _ number: Int
    ) {
        let packet = job.pointee.context.packet
        let fronts = memory.pointee.fronts
        let available = takeFronts(job, number)
        let hash = job.pointee.context.hash
        let domain = job.pointee.context.domain
        let vni = OuterVNI(state.pointee.domains + Int(domain))
        let byteCount = packet.byteCount
        var port = PortEntry.none
        var io = PortIO.none
        var used = 0
        var index = 0
        while index < number {
            let tunnel = list.tunnel(first &+ index)
            index = index &+ 1
            let adjacency: Adjacency
            switch underlay(of: tunnel, hash: hash, byteCount: byteCount, state) {
            case .path(let found): adjacency = found
            case .drop(let reason):
                count(reason, port: packet.port)
                continue
            }
            if used == available {
                count(.noBuffer, port: packet.port)
                continue
            }
            let front = Packet(fronts[used])
            used = used &+ 1
            // The same for every target: computed once.
            if adjacency.needsInnerSum, !job.pointee.hasInnerSum {
                job.pointee.innerSum = innerSum(of: packet)
                job.pointee.hasInnerSum = true
            }
            let header = adjacency.headerByteCount
            front.mbuf.pointee.data_len = UInt16(truncatingIfNeeded: header)
            front.mbuf.pointee.pkt_len = UInt32(truncatingIfNeeded: header &+ byteCount)
            encapsulate(
                at: front.frame, adjacency, vni, hash: hash, innerByteCount: byteCount,
                innerSum: job.pointee.innerSum)
            if job.pointee.context.marks != 0 || adjacency.copiesInner {
                markOuter(
                    front.frame, adjacency, inner: job.pointee.context.frame, available: packet.contiguous)
            }
            if adjacency.port != port {
                port = adjacency.port
                io = memory.pointee.io.port(port)
            }
            send(front, to: port, io)
        }
        memory.pointee.counters.add(
            domain: domain, .tunnelOutPackets, packets: UInt64(truncatingIfNeeded: used),
            bytes: UInt64(truncatingIfNeeded: used &* byteCount))
        while used < available {
            fronts[used].pointee.data_len = 0
            pe_mbuf_free(fronts[used])
            used = used &+ 1
        }
    }

    /// Fills `memory.fronts` with header buffers before the packet's shared clone; returns how many.
    private func takeFronts(_ job: UnsafeMutablePointer<FloodJob>, _ number: Int) -> Int {
        if job.pointee.shared == nil { job.pointee.shared = clone(job.pointee.context.packet) }
        guard let shared = job.pointee.shared else { return 0 }
        let fronts = memory.pointee.fronts
        let wanted = UInt32(truncatingIfNeeded: number)
        var count = pe_mbuf_fronts(shared, memory.pointee.headers, fronts, wanted)
        if count < wanted {
            sendLanes()
            count &+= pe_mbuf_fronts(
                shared, memory.pointee.headers, fronts + Int(count), wanted &- count)
        }
        return Int(count)
    }
}
