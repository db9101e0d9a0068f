// Frames of any bytes on any port, through segmentation and the whole pipeline, with real packet buffers.

import CDPDK
import CLinux
import FastPath
import Glibc
import Tables
import TestSupport
import Wire

/// An input is records: port, flags, length (two bytes), frame.
///
/// Flags: bits 0 and 1, into how many buffers the frame is cut beyond one; bit 2, it ends its burst;
/// bit 3, a new learning round begins; bit 4, the cuts are long; bit 5, no frame: the control plane acts
/// (the port says how) and half a second passes; bit 7, a virtio-net header (10 bytes) precedes the frame.
///
/// Invariants: every packet ends once, every buffer comes back, every outer header that leaves is well
/// formed. The tail room of a buffer is poisoned, so that AddressSanitizer sees a read past a frame.
public final class PipelineFuzz {
    private let zoo: Zoo
    private var burst: [MBuf] = []
    private let poison = TailPoison()

    public init() throws { zoo = try Zoo() }

    public func run(_ bytes: UnsafeRawBufferPointer) {
        var input = FuzzInput(bytes)
        var count = 0
        while !input.isAtEnd, count < 64 {
            let port = UInt16(input.byte()), flags = input.byte()
            let length = min(input.be16(), 2000)
            if flags & 0x08 != 0 { zoo.world.worker.advanceStamp() }
            if flags & 0x20 != 0 {
                flush()
                zoo.routing.act(UInt8(truncatingIfNeeded: port))
                zoo.world.worker.advanceClock(nanoseconds: 500_000_000)
                zoo.world.worker.serve()
                takeSent()
            } else if flags & 0x80 != 0 {
                let header = Self.virtioHeader(&input)
                for frame in Self.segments(header, input.take(length)) { add(frame, port, flags) }
            } else {
                add(input.take(length), port, flags)
            }
            count += 1
            if flags & 0x04 != 0 || burst.count >= 32 { flush() }
        }
        flush()
        zoo.world.worker.finish()
        takeSent()
        if let fault = zoo.world.imbalance { fatalError(fault) }
        // The next input finds everything as this one did.
        zoo.routing.reset()
        zoo.world.worker.advanceClock(nanoseconds: 1_000_000_000)
        _ = zoo.world.learned
        while zoo.world.tables.neighborRings.workers[0].pop() != nil {}
    }

    /// Reads one byte past a frame, as a faulty parser would: AddressSanitizer must end the process.
    public func readPastFrame() {
        guard let mbuf = PacketBytes.make([1, 2, 3], port: 2, pool: zoo.world.packets.pointer) else { return }
        poison.cover(mbuf)
        let end = UnsafeRawPointer(mbuf.pointee.buf_addr + Int(mbuf.pointee.data_off))
        print("not found: byte past the frame is \(end.load(fromByteOffset: 3, as: UInt8.self))")
    }

    private func add(_ bytes: [UInt8], _ port: UInt16, _ flags: UInt8) {
        if bytes.count <= 256 { fuzzRequire(!FrameSummary.lines(of: bytes).isEmpty, "a frame without a summary") }
        var parts: [[UInt8]] = []
        var rest = bytes[...]
        for part in 0..<Int(flags & 3) {
            // Cuts fall into headers (0 to 63 bytes) or, by flag, behind what must lie together.
            let size = Int(bytes.dropFirst(part).first ?? 0)
            let cut = min(rest.count, flags & 0x10 != 0 ? 192 + size : size & 63)
            if cut > 0 { parts.append(Array(rest.prefix(cut))) }
            rest = rest.dropFirst(cut)
        }
        if !rest.isEmpty || parts.isEmpty { parts.append(Array(rest)) }
        guard let mbuf = PacketBytes.chain(parts, port: port, pool: zoo.world.packets.pointer) else { return }
        poison.cover(mbuf)
        burst.append(mbuf)
    }

    private func flush() {
        guard !burst.isEmpty else { return }
        zoo.world.worker.process(burst)
        burst.removeAll(keepingCapacity: true)
        takeSent()
        poison.uncover()
    }

    /// Checks and frees what left, and the books: what waits for a neighbour is accounted for.
    private func takeSent() {
        let sent = zoo.world.ports.takeSent()
        for packet in sent {
            Self.checkBuffers(packet)
            Self.check(PacketBytes.of(packet), port: packet.pointee.port)
        }
        zoo.world.ports.free(sent)
        fuzzRequire(zoo.world.tables.counters.isBalanced, "the counters do not balance: \(zoo.world.drops)")
    }

    /// What drivers rely on: counts that agree with the chain, and no empty buffer in it.
    private static func checkBuffers(_ packet: MBuf) {
        var count = 0, byteCount = 0, empty = 0
        var segment: MBuf? = packet
        while let current = segment {
            count += 1
            byteCount += Int(current.pointee.data_len)
            if current.pointee.data_len == 0 { empty += 1 }
            fuzzRequire(
                Int(current.pointee.data_off) + Int(current.pointee.data_len) <= Int(current.pointee.buf_len),
                "a buffer's data ends behind the buffer")
            segment = current.pointee.next
        }
        fuzzRequire(count == Int(packet.pointee.nb_segs), "\(count) buffers, nb_segs \(packet.pointee.nb_segs)")
        fuzzRequire(byteCount == Int(packet.pointee.pkt_len), "\(byteCount) bytes, pkt_len \(packet.pointee.pkt_len)")
        fuzzRequire(empty == 0, "an empty buffer in a packet that leaves")
    }

    /// What leaves from our own MAC through the underlay is VXLAN with a right outer header.
    private static func check(_ bytes: [UInt8], port: UInt16) {
        guard port == World.underlayPort, bytes.count >= 50, Array(bytes[6..<12]) == World.underlayMAC.bytes,
            bytes[12] == 0x08, bytes[13] == 0, bytes[23] == 17, bytes[36] == 0x12, bytes[37] == 0xB5
        else { return }
        // From the host's TAP anything may come; what has a local source is ours.
        guard Array(bytes[26..<30]) == World.local4.bytes, bytes[14] == 0x45, bytes[42] == 0x08 else { return }
        let total = Int(bytes[16]) << 8 | Int(bytes[17])
        guard total == bytes.count - 14 else { return }
        fuzzRequire(Frame.checksum(Array(bytes[14..<34])) == 0, "outer IPv4 checksum")
        fuzzRequire(Int(bytes[38]) << 8 | Int(bytes[39]) == bytes.count - 34, "outer UDP length")
    }

    private static func virtioHeader(_ input: inout FuzzInput) -> pe_vnet_header {
        let flags = input.byte(), type = input.byte()
        func word() -> UInt16 { UInt16(truncatingIfNeeded: input.be16()) }
        let sizes = (word(), word(), word(), word())
        return pe_vnet_header(
            flags: flags, gso_type: type, hdr_len: sizes.0, gso_size: sizes.1, csum_start: sizes.2,
            csum_offset: sizes.3)
    }

    /// The frames that a kernel port makes of one with a virtio-net header.
    private static func segments(_ header: pe_vnet_header, _ bytes: [UInt8]) -> [[UInt8]] {
        guard bytes.count >= 14, let request = try? OffloadRequest(header) else { return [] }
        var frame = bytes
        if request.segmentation == .none {
            guard let sum = request.checksum else { return [frame] }
            let isDone = frame.withUnsafeMutableBytes {
                (try? completeChecksum($0, start: sum.start, offset: sum.offset)) != nil
            }
            return isDone ? [frame] : []
        }
        let plan = frame.withUnsafeBytes { buffer in
            try? SegmentPlan(headers: buffer, byteCount: buffer.count, request: request)
        }
        guard let plan, plan.count <= 64 else { return [] }
        return (0..<min(plan.count, 8)).map { index in
            let payload = plan.payloadRange(index)
            let start = plan.headerByteCount
            var segment = Array(frame[0..<start] + frame[start + payload.lowerBound..<start + payload.upperBound])
            segment.withUnsafeMutableBytes { plan.finish($0, index: index) }
            return segment
        }
    }
}

/// Poisons what lies behind the data of packet buffers, when AddressSanitizer is there.
private final class TailPoison {
    private typealias Region = @convention(c) (UnsafeRawPointer, Int) -> Void
    private let poison: Region?
    private let unpoison: Region?
    private var covered: [(start: UnsafeRawPointer, count: Int)] = []

    init() {
        poison = dlsym(nil, "__asan_poison_memory_region").map { unsafeBitCast($0, to: Region.self) }
        unpoison = dlsym(nil, "__asan_unpoison_memory_region").map { unsafeBitCast($0, to: Region.self) }
    }
    func cover(_ packet: MBuf) {
        guard let poison else { return }
        var segment: MBuf? = packet
        while let current = segment {
            let used = Int(current.pointee.data_off) + Int(current.pointee.data_len)
            let start = UnsafeRawPointer(current.pointee.buf_addr + used)
            let count = Int(current.pointee.buf_len) - used
            poison(start, count)
            covered.append((start, count))
            segment = current.pointee.next
        }
    }
    func uncover() {
        for region in covered { unpoison?(region.start, region.count) }
        covered.removeAll(keepingCapacity: true)
    }
}
