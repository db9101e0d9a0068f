// Reads frames from kernel devices, completes and cuts them, and hands them to a worker's ring.

import CDPDK
import CLinux
import Glibc

/// Receive side of the host-I/O thread: buffers waiting to be filled, and a batch on its way out.
struct HostReceiver {
    enum Result {
        case received, empty
        /// The worker is behind; frames stay in the kernel.
        case ringFull
        /// -errno of the descriptor.
        case failed(Int32)
    }

    private let pool: OpaquePointer
    private let batch: OpaquePointer
    private let frames: UnsafeMutablePointer<pe_rx_frame>
    /// Buffers to receive into; nil where the last one was handed on.
    private let buffers: UnsafeMutablePointer<UnsafeMutablePointer<pe_mbuf>?>
    private let out: UnsafeMutablePointer<UnsafeMutablePointer<pe_mbuf>>
    private var outCount = 0
    /// Where frames go that no buffer could be had for.
    private let scratch: UnsafeMutablePointer<UInt8>

    private static let batchSize = Int(PE_IO_BATCH)
    /// A 64 KB frame in segments of TCP's smallest size (48 bytes) has 1366.
    private static let outCapacity = 2048
    /// What the ring must have room for to read one frame: that frame cut into MTU-sized ones.
    private static let ringRoomPerFrame: UInt32 = 64

    init(pool: OpaquePointer, batch: OpaquePointer) {
        self.pool = pool
        self.batch = batch
        frames = .allocate(capacity: Self.batchSize)
        memset(frames, 0, Self.batchSize * MemoryLayout<pe_rx_frame>.stride)
        buffers = .allocate(capacity: Self.batchSize)
        buffers.initialize(repeating: nil, count: Self.batchSize)
        out = .allocate(capacity: Self.outCapacity)
        scratch = .allocate(capacity: 64)
    }

    func freeBuffers() {
        for slot in 0..<Self.batchSize {
            if let buffer = buffers[slot] { pe_mbuf_free(buffer) }
            buffers[slot] = nil
        }
    }

    /// Reads up to a batch from a port and enqueues it on the worker's ring, in order.
    mutating func receive(_ port: UnsafeMutablePointer<KernelPortState>, into ring: OpaquePointer)
        -> Result
    {
        let room = pe_ring_free_count(ring) / Self.ringRoomPerFrame
        guard room > 0 else { return .ringFull }
        let ready = prepare(min(Self.batchSize, Int(room)))
        let got = ready == 0 ? readWithoutBuffers(port) : read(port, ready)
        guard got > 0 else { return got == -EAGAIN || got == -EINTR ? .empty : fault(port, got) }
        if ready == 0 { return .received }
        for slot in 0..<Int(got) { process(slot, port, ring) }
        flush(port, ring)
        return .received
    }

    /// An error that costs one frame, not the port.
    private func fault(_ port: UnsafeMutablePointer<KernelPortState>, _ error: Int32) -> Result {
        guard error == -EINVAL else { return .failed(error) }
        // Kernels before 6.2 cannot describe UDP segmentation to a packet socket.
        port.count(.rxFrames)
        port.count(.rxDropUnsupportedOffload)
        return .received
    }

    /// Fills the first `count` slots with buffers; how many there are.
    private func prepare(_ count: Int) -> Int {
        for slot in 0..<count {
            let buffer: UnsafeMutablePointer<pe_mbuf>
            if let old = buffers[slot] {
                buffer = old
            } else {
                guard let new = pe_mbuf_alloc(pool) else { return slot }
                buffers[slot] = new
                buffer = new
            }
            let offset = Int(buffer.pointee.data_off)
            frames[slot].head = buffer.pointee.buf_addr + offset
            frames[slot].head_room = UInt32(Int(buffer.pointee.buf_len) - offset)
        }
        return count
    }

    private func read(_ port: UnsafeMutablePointer<KernelPortState>, _ count: Int) -> Int32 {
        let fd = port.pointee.fd
        guard port.pointee.isTAP else { return pe_packet_receive(fd, batch, frames, UInt32(count)) }
        for slot in 0..<count {
            let rc = pe_tap_receive(fd, batch, frames + slot, UInt32(slot))
            if rc < 0 { return slot > 0 ? Int32(slot) : rc }
        }
        return Int32(count)
    }

    /// Takes frames off the kernel and drops them: the pool is empty.
    private func readWithoutBuffers(_ port: UnsafeMutablePointer<KernelPortState>) -> Int32 {
        for slot in 0..<Self.batchSize {
            frames[slot].head = scratch
            frames[slot].head_room = 64
        }
        let got = read(port, Self.batchSize)
        if got > 0 {
            port.count(.rxFrames, UInt64(got))
            port.count(.rxDropNoBuffer, UInt64(got))
        }
        return got
    }

    /// Turns one received frame into frames for the worker, or drops it for a counted reason.
    private mutating func process(
        _ slot: Int,
        _ port: UnsafeMutablePointer<KernelPortState>,
        _ ring: OpaquePointer
    ) {
        guard let buffer = buffers[slot] else { return }
        let frame = frames[slot]
        port.count(.rxFrames)
        port.count(.rxBytes, UInt64(frame.length))
        guard frame.truncated == 0 else { return port.count(.rxDropTruncated) }
        guard frame.length >= 14 else { return port.count(.rxDropBadHeader) }
        do throws(OffloadFault) {
            var request = try OffloadRequest(frame.vnet)
            if request.segmentation == .none {
                try deliver(slot, buffer, frame, &request, port, ring)
            } else {
                try cut(slot, buffer, frame, &request, port, ring)
            }
        } catch {
            switch error {
            case .badHeader: port.count(.rxDropBadHeader)
            case .unsupported: port.count(.rxDropUnsupportedOffload)
            }
        }
    }

    private mutating func deliver(
        _ slot: Int,
        _ buffer: UnsafeMutablePointer<pe_mbuf>,
        _ frame: pe_rx_frame,
        _ request: inout OffloadRequest,
        _ port: UnsafeMutablePointer<KernelPortState>,
        _ ring: OpaquePointer
    ) throws(OffloadFault) {
        guard frame.length <= frame.head_room else { return port.count(.rxDropOversized) }
        var start = UnsafeMutableRawPointer(frame.head)
        var length = Int(frame.length)
        if let sum = request.checksum {
            try completeChecksum(
                UnsafeMutableRawBufferPointer(start: start, count: length),
                start: sum.start,
                offset: sum.offset
            )
        }
        if frame.has_vlan != 0 {
            start = insertTag(start, protocolID: frame.vlan_tpid, control: frame.vlan_tci)
            length += 4
            buffer.pointee.data_off &-= 4
        }
        buffers[slot] = nil
        buffer.pointee.data_len = UInt16(truncatingIfNeeded: length)
        buffer.pointee.pkt_len = UInt32(truncatingIfNeeded: length)
        push(buffer, port, ring)
    }

    private mutating func push(
        _ buffer: UnsafeMutablePointer<pe_mbuf>,
        _ port: UnsafeMutablePointer<KernelPortState>,
        _ ring: OpaquePointer
    ) {
        buffer.pointee.port = port.pointee.index
        out[outCount] = buffer
        outCount += 1
        if outCount == Self.outCapacity { flush(port, ring) }
    }

    private mutating func flush(
        _ port: UnsafeMutablePointer<KernelPortState>,
        _ ring: OpaquePointer
    ) {
        let taken = Int(pe_ring_enqueue_burst(ring, out, UInt32(outCount)))
        port.count(.rxDelivered, UInt64(taken))
        if taken < outCount {
            port.count(.rxDropWorkerBusy, UInt64(outCount - taken))
            pe_mbuf_free_bulk(out + taken, UInt32(outCount - taken))
        }
        outCount = 0
    }
}

// MARK: - Cutting

extension HostReceiver {
    /// Cuts a large frame into buffers of their own; the received one is used again.
    private mutating func cut(
        _ slot: Int,
        _ buffer: UnsafeMutablePointer<pe_mbuf>,
        _ frame: pe_rx_frame,
        _ request: inout OffloadRequest,
        _ port: UnsafeMutablePointer<KernelPortState>,
        _ ring: OpaquePointer
    ) throws(OffloadFault) {
        var start = UnsafeMutableRawPointer(frame.head)
        var total = Int(frame.length)
        var headCount = min(total, Int(frame.head_room))
        if frame.has_vlan != 0 {
            start = insertTag(start, protocolID: frame.vlan_tpid, control: frame.vlan_tci)
            total += 4
            headCount += 4
            request.shift(by: 4)
        }
        let plan = try SegmentPlan(
            headers: UnsafeRawBufferPointer(start: start, count: headCount),
            byteCount: total,
            request: request
        )
        guard plan.count <= Self.outCapacity else { throw .badHeader }
        let room = Int(buffer.pointee.buf_len) - Int(buffer.pointee.data_off)
        guard plan.largestSegmentByteCount <= room else { return port.count(.rxDropOversized) }
        if outCount + plan.count > Self.outCapacity { flush(port, ring) }
        guard pe_mbuf_alloc_bulk(pool, out + outCount, UInt32(plan.count)) == 0 else {
            return port.count(.rxDropNoBuffer)
        }
        port.count(.rxLarge)
        port.count(.rxSegments, UInt64(plan.count))
        let source = SplitBytes(
            head: start,
            headCount: headCount,
            tail: UnsafeRawPointer(pe_io_batch_overflow(batch, UInt32(slot)))
        )
        for index in 0..<plan.count {
            let segment = out[outCount + index]
            fill(segment, plan, index, source)
            segment.pointee.port = port.pointee.index
        }
        outCount += plan.count
    }

    private func fill(
        _ segment: UnsafeMutablePointer<pe_mbuf>,
        _ plan: SegmentPlan,
        _ index: Int,
        _ source: SplitBytes
    ) {
        let payload = plan.payloadRange(index)
        let length = plan.headerByteCount + payload.count
        let start = UnsafeMutableRawPointer(
            segment.pointee.buf_addr + Int(segment.pointee.data_off)
        )
        start.copyMemory(from: source.head, byteCount: plan.headerByteCount)
        source.copy(
            from: plan.headerByteCount + payload.lowerBound,
            count: payload.count,
            to: start + plan.headerByteCount
        )
        plan.finish(UnsafeMutableRawBufferPointer(start: start, count: length), index: index)
        segment.pointee.data_len = UInt16(truncatingIfNeeded: length)
        segment.pointee.pkt_len = UInt32(truncatingIfNeeded: length)
    }
}

/// A frame whose beginning and rest lie apart.
struct SplitBytes {
    let head: UnsafeRawPointer
    let headCount: Int
    let tail: UnsafeRawPointer

    /// Copies `count` bytes from `offset` on; the caller keeps them inside the frame.
    func copy(from offset: Int, count: Int, to destination: UnsafeMutableRawPointer) {
        let fromHead = max(0, min(count, headCount - offset))
        if fromHead > 0 { destination.copyMemory(from: head + offset, byteCount: fromHead) }
        guard fromHead < count else { return }
        (destination + fromHead).copyMemory(
            from: tail + (offset + fromHead - headCount),
            byteCount: count - fromHead
        )
    }
}
