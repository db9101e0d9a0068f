// Tx lanes: packets that leave through one ethdev, or to the host-I/O thread, in one call.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    @inline(__always)
    private func lane(_ index: Int) -> UnsafeMutablePointer<Lane> {
        (memory.pointee.lanes + index &* Lane.stride).assumingMemoryBound(to: Lane.self)
    }
    @inline(__always)
    private func packets(of lane: UnsafeMutablePointer<Lane>) -> UnsafeMutablePointer<MBuf> {
        (UnsafeMutableRawPointer(lane) + Lane.headerByteCount).assumingMemoryBound(to: MBuf.self)
    }

    /// Appends a finished packet to the lane of `port`, whose way out is `io`.
    @inline(__always)
    func send(_ packet: Packet, to port: UInt16, _ io: PortIO) {
        send(packet, byteCount: packet.byteCount, to: port, io)
    }
    /// The same of a packet whose size is at hand.
    @inline(__always)
    func send(_ packet: Packet, byteCount: Int, to port: UInt16, _ io: PortIO) {
        // As many as there are lanes.
        guard io.isLowEthdev else {
            sendToKernel(packet, to: port, io)
            return
        }
        if packet.isSegmented, !io.supportsMultiSegment {
            sendLinear(packet, to: port, io)
            return
        }
        let index = Int(io.ethdev)
        let lane = lane(index)
        let end = lane.pointee.count
        packets(of: lane)[end] = packet.mbuf
        lane.pointee.count = end &+ 1
        lane.pointee.byteCount &+= UInt64(truncatingIfNeeded: byteCount)
        if end == 0 {
            lane.pointee.io = io
            lane.pointee.port = port
            memory.pointee.dirtyEthdevs |= 1 &<< UInt64(truncatingIfNeeded: index)
        } else if end &+ 1 == Lane.capacity {
            flushEthdev(index)
        }
    }

    @inline(never)
    private func sendToKernel(_ packet: Packet, to port: UInt16, _ io: PortIO) {
        packet.mbuf.pointee.port = port
        if !io.isKernel {
            drop(packet, .transmitFailed)
        } else if packet.isSegmented, !io.supportsMultiSegment {
            sendLinear(packet, to: port, io)
        } else {
            append(packet, Lane.kernel)
        }
    }
    /// For a driver that takes no chains.
    @inline(never)
    private func sendLinear(_ packet: Packet, to port: UInt16, _ io: PortIO) {
        guard let copy = pe_mbuf_linear_copy(packet.mbuf, memory.pointee.packets) else {
            packet.mbuf.pointee.port = port
            drop(packet, .noBuffer)
            return
        }
        pe_mbuf_free(packet.mbuf)
        send(Packet(copy), to: port, io)
    }
    func appendToHost(_ packet: Packet, _ port: UInt16) {
        packet.mbuf.pointee.port = port
        append(packet, Lane.host)
    }
    /// A frame of the host's own: to a kernel port it goes ahead of data.
    func sendFromHost(_ packet: Packet, to port: UInt16, _ io: PortIO) {
        guard io.isKernel, !packet.isSegmented else {
            send(packet, to: port, io)
            return
        }
        packet.mbuf.pointee.port = port
        append(packet, Lane.fromHost)
    }
    @inline(__always)
    private func append(_ packet: Packet, _ index: Int) {
        let lane = lane(index)
        let end = lane.pointee.count
        packets(of: lane)[end] = packet.mbuf
        lane.pointee.count = end &+ 1
        if end &+ 1 == Lane.capacity { flushKernel(index) }
    }

    /// Sends what is in the lanes: frames for the host and of the host first.
    @inline(__always)
    func transmit() {
        if lane(Lane.host).pointee.count != 0 { flushKernel(Lane.host) }
        if lane(Lane.fromHost).pointee.count != 0 { flushKernel(Lane.fromHost) }
        if lane(Lane.kernel).pointee.count != 0 { flushKernel(Lane.kernel) }
        while memory.pointee.dirtyEthdevs != 0 {
            flushEthdev(memory.pointee.dirtyEthdevs.trailingZeroBitCount)
        }
    }

    @inline(never)
    private func flushEthdev(_ index: Int) {
        let lane = lane(index)
        let packets = packets(of: lane)
        let count = lane.pointee.count
        let io = lane.pointee.io
        var queue = memory.pointee.index
        if io.features.contains(.sharedQueue) {
            switch io.txQueue(worker: queue, of: memory.pointee.io.peerCount) {
            case .own(let own): queue = own
            case .of(let owner):
                handOver(index, to: owner)
                return
            }
        }
        var wanted = UInt16(truncatingIfNeeded: count)
        if io.features.contains(.txUDPChecksum) { wanted = pe_eth_tx_prepare(io.ethdev, queue, packets, wanted) }
        let sent = Int(pe_eth_tx_burst(io.ethdev, queue, packets, wanted))
        var byteCount = lane.pointee.byteCount
        if sent < count {
            var index = sent
            while index < count {
                byteCount = byteCount &- UInt64(Packet(packets[index]).byteCount)
                packets[index].pointee.port = lane.pointee.port
                index = index &+ 1
            }
            reject(packets + sent, count &- sent, .transmitFailed)
        }
        memory.pointee.counters.add(.sent, UInt64(truncatingIfNeeded: sent))
        if lane.pointee.port < state.pointee.portCount {
            memory.pointee.counters.add(
                port: lane.pointee.port, .txPackets, packets: UInt64(truncatingIfNeeded: sent),
                bytes: byteCount)
        }
        lane.pointee.count = 0
        lane.pointee.byteCount = 0
        memory.pointee.dirtyEthdevs &= ~(1 &<< UInt64(truncatingIfNeeded: index))
    }

    /// Gives an ethdev's lane to the worker that has a queue for it. One ring for each worker that takes: a
    /// flow, which has one worker, keeps its order.
    @inline(never)
    private func handOver(_ index: Int, to worker: UInt16) {
        let lane = lane(index)
        let packets = packets(of: lane)
        let count = lane.pointee.count
        var position = 0
        while position < count {
            packets[position].pointee.port = lane.pointee.port
            position = position &+ 1
        }
        let peer = memory.pointee.io.peers[Int(worker)]
        // Counted before the other can count it as taken.
        memory.pointee.counters.add(.handedOver, UInt64(truncatingIfNeeded: count))
        let given = Int(pe_ring_enqueue_burst(peer.ring, packets, UInt32(truncatingIfNeeded: count)))
        if given != 0 { pe_doorbell_ring(peer.doorbell) }
        if given < count {
            memory.pointee.counters.add(.takenOver, UInt64(truncatingIfNeeded: count &- given))
            reject(packets + given, count &- given, .transmitFailed)
        }
        lane.pointee.count = 0
        lane.pointee.byteCount = 0
        memory.pointee.dirtyEthdevs &= ~(1 &<< UInt64(truncatingIfNeeded: index))
    }

    /// Sends what other workers handed over, `count` packets in `memory.received`.
    @inline(never)
    func sendHandedOver(_ count: Int) {
        memory.pointee.counters.add(.takenOver, UInt64(truncatingIfNeeded: count))
        var index = 0
        while index < count {
            let packet = Packet(memory.pointee.received[index])
            index = index &+ 1
            let port = packet.port
            send(packet, to: port, memory.pointee.io.port(port))
        }
        transmit()
        if memory.pointee.side.discarded != 0 { drainDiscarded() }
    }

    /// Hands a lane to the host-I/O thread. This worker is the ring's only producer, so what is free
    /// now stays free; what is counted is counted before the packets are out of our hands.
    @inline(never)
    private func flushKernel(_ index: Int) {
        let lane = lane(index)
        let packets = packets(of: lane)
        let count = lane.pointee.count
        let io = memory.pointee.io
        var room = Int(pe_ring_free_count(io.txRing))
        if index == Lane.kernel {
            room = max(0, room &- Int(pe_ring_capacity(io.txRing)) / Lane.hostShare)
        }
        room = min(count, room)
        var counted = 0
        while counted < room {
            let packet = Packet(packets[counted])
            if packet.port < state.pointee.portCount {
                memory.pointee.counters.add(
                    port: packet.port, .txPackets, packets: 1, bytes: UInt64(packet.byteCount))
            }
            counted = counted &+ 1
        }
        let sent = Int(
            pe_ring_enqueue_burst(io.txRing, packets, UInt32(truncatingIfNeeded: room)))
        if sent != 0 { pe_doorbell_ring(io.hostDoorbell) }
        memory.pointee.counters.add(
            index == Lane.host ? .punted : .sent, UInt64(truncatingIfNeeded: sent))
        if sent < count {
            reject(packets + sent, count &- sent, index == Lane.host ? .puntFailed : .transmitFailed)
        }
        lane.pointee.count = 0
    }

    /// Ends packets that their port did not take.
    @inline(never)
    private func reject(_ packets: UnsafeMutablePointer<MBuf>, _ number: Int, _ reason: DropReason) {
        var index = 0
        while index < number {
            count(reason, port: packets[index].pointee.port)
            index = index &+ 1
        }
        pe_mbuf_free_bulk(packets, UInt32(truncatingIfNeeded: number))
    }
}
