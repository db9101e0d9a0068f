// A packet's whole journey through one worker, in the order in which it happens.

import CDPDK
import CLinux
import Tables
import Wire

/// One burst's way from reception to transmission. Two pointers; valid until the worker's next
/// quiescent point.
struct Pipeline {
    let memory: UnsafeMutablePointer<WorkerMemory>
    let state: UnsafePointer<ForwardingState>

    /// Takes `count` packets in `memory.received` to their ends: each is sent, punted or dropped.
    ///
    /// `mbuf.port` is the pe-dp port that a packet came from.
    @inline(__always)
    func run(_ count: Int) {
        memory.pointee.counters.add(.received, UInt64(truncatingIfNeeded: count))

        // PASS 1: parse, validate, decapsulate in place; find domain or VRF; prefetch buckets.
        var classified = classify(count)
        if memory.pointee.side.neighbors != 0 { classified = drainNeighbors(classified) }

        // PASS 2: learn check, FDB lookup, encapsulate or tag, append to a tx lane.
        resolve(classified)
        if memory.pointee.side.routed != 0 { route() }

        // SIDE LANES: usually empty; they only lead forward.
        drainSideLanes()

        transmit()
    }

    @inline(__always)
    func drainSideLanes() {
        if memory.pointee.side.local != 0 { drainLocal() }
        if memory.pointee.side.errors != 0 { drainErrors() }
        if memory.pointee.side.waiting != 0 { drainWaiting() }
        if memory.pointee.side.flooded != 0 { drainFlood() }
        if memory.pointee.side.punted != 0 { drainPunt() }
        if memory.pointee.side.discarded != 0 { drainDiscarded() }
    }
}

// Side lanes: how a packet gets into one, and what happens at its end.
extension Pipeline {
    /// Ends a packet: counts the reason, on the port it came from too.
    @inline(never)
    func drop(_ packet: Packet, _ reason: DropReason) {
        count(reason, port: packet.port)
        let end = memory.pointee.side.discarded
        memory.pointee.discarded[end] = packet.mbuf
        memory.pointee.side.discarded = end &+ 1
        if end &+ 1 == WorkerMemory.burst { drainDiscarded() }
    }
    @inline(never)
    func count(_ reason: DropReason, port: UInt16) {
        memory.pointee.counters.add(reason, 1)
        if port < state.pointee.portCount { memory.pointee.counters.add(port: port, .dropped, 1) }
    }
    func drainDiscarded() {
        let count = memory.pointee.side.discarded
        pe_mbuf_free_bulk(memory.pointee.discarded, UInt32(truncatingIfNeeded: count))
        memory.pointee.side.discarded = 0
    }

    /// Gives a frame to the host, through the exception port of the port that it came from.
    @inline(never)
    func punt(_ packet: Packet) {
        if memory.pointee.side.punted == WorkerMemory.sideLane { drainPunt() }
        memory.pointee.punted[memory.pointee.side.punted] = packet.mbuf
        memory.pointee.side.punted = memory.pointee.side.punted &+ 1
    }
    func drainPunt() {
        var index = 0
        while index < memory.pointee.side.punted {
            let packet = Packet(memory.pointee.punted[index])
            index = index &+ 1
            let port = packet.port
            let partner = state.pointee.ports[Int(port)].partner
            if partner == PortEntry.none {
                drop(packet, .noExceptionPort)
            } else if !memory.pointee.io.port(partner).isKernel {
                drop(packet, .puntFailed)
            } else {
                memory.pointee.counters.add(port: port, .punted, 1)
                appendToHost(packet, partner)
            }
        }
        memory.pointee.side.punted = 0
    }
}
