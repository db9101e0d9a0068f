// A borrowed view of one DPDK packet buffer: where its frame lies and how long it is.

public import CDPDK
import CLinux
import Wire

/// A packet buffer as C sees it.
public typealias MBuf = UnsafeMutablePointer<pe_mbuf>

/// One packet. Copies and owns nothing: whoever holds the buffer must send or free it.
struct Packet {
    let mbuf: MBuf
    @inline(__always) init(_ mbuf: MBuf) { self.mbuf = mbuf }

    /// The first byte of the frame.
    @inline(__always) var frame: UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(mbuf.pointee.buf_addr) + Int(mbuf.pointee.data_off)
    }
    /// Bytes of the whole frame, over all segments.
    @inline(__always) var byteCount: Int { Int(mbuf.pointee.pkt_len) }
    /// Bytes that lie together at ``frame``.
    @inline(__always) var contiguous: Int { Int(mbuf.pointee.data_len) }
    @inline(__always) var isSegmented: Bool { mbuf.pointee.nb_segs != 1 }
    /// Free bytes before ``frame``.
    @inline(__always) var headroom: Int { Int(mbuf.pointee.data_off) }
    /// pe-dp index of the port it came from, later of the one it goes to.
    @inline(__always) var port: UInt16 { mbuf.pointee.port }

    /// Takes `count` bytes off the front.
    ///
    /// - Precondition: they lie in the first segment.
    @inline(__always) func removeFront(_ count: Int) {
        mbuf.pointee.data_off &+= UInt16(truncatingIfNeeded: count)
        mbuf.pointee.data_len &-= UInt16(truncatingIfNeeded: count)
        mbuf.pointee.pkt_len &-= UInt32(truncatingIfNeeded: count)
    }
    /// Puts `count` bytes before the front; returns the new front.
    ///
    /// - Precondition: ``headroom`` has them.
    @inline(__always) func addFront(_ count: Int) -> UnsafeMutableRawPointer {
        mbuf.pointee.data_off &-= UInt16(truncatingIfNeeded: count)
        mbuf.pointee.data_len &+= UInt16(truncatingIfNeeded: count)
        mbuf.pointee.pkt_len &+= UInt32(truncatingIfNeeded: count)
        return frame
    }

    /// Puts `count` bytes before the front of a frame of `old` bytes, which has the headroom.
    @inline(__always) func addFront(_ count: Int, to old: Int) {
        mbuf.pointee.data_off &-= UInt16(truncatingIfNeeded: count)
        mbuf.pointee.data_len &+= UInt16(truncatingIfNeeded: count)
        mbuf.pointee.pkt_len = UInt32(truncatingIfNeeded: old &+ count)
    }

    /// Asks the driver for the UDP checksum behind an Ethernet and an IPv6 header at the front.
    @inline(__always) func requestUDPChecksum() {
        mbuf.pointee.ol_flags |= PE_TX_UDP_IPV6
        mbuf.pointee.tx_offload = PE_TX_UDP_IPV6_LENGTHS
    }

    /// Leaves `count` bytes from `offset` on of a packet in one buffer, which has them.
    @inline(__always) func cut(to offset: Int, _ count: Int) {
        mbuf.pointee.data_off &+= UInt16(truncatingIfNeeded: offset)
        mbuf.pointee.data_len = UInt16(truncatingIfNeeded: count)
        mbuf.pointee.pkt_len = UInt32(truncatingIfNeeded: count)
    }

    /// Cuts the frame off behind `count` bytes, which it has.
    @inline(__always) func trim(to count: Int) {
        if count == byteCount { return }
        if isSegmented {
            trimSegments(to: count)
        } else {
            mbuf.pointee.pkt_len = UInt32(truncatingIfNeeded: count)
            mbuf.pointee.data_len = UInt16(truncatingIfNeeded: count)
        }
    }
    /// Segments behind the end are freed: NICs stop at a send descriptor without bytes.
    @inline(never) private func trimSegments(to count: Int) {
        mbuf.pointee.pkt_len = UInt32(truncatingIfNeeded: count)
        var left = count
        var kept: UInt16 = 1
        var current = mbuf
        while left > Int(current.pointee.data_len), let next = current.pointee.next {
            left = left &- Int(current.pointee.data_len)
            kept &+= 1
            current = next
        }
        current.pointee.data_len = UInt16(truncatingIfNeeded: left)
        guard let rest = current.pointee.next else { return }
        current.pointee.next = nil
        mbuf.pointee.nb_segs = kept
        pe_mbuf_free(rest)
    }

    /// Makes a packet in one buffer `count` bytes long; false when the buffer has no room.
    func resize(to count: Int) -> Bool {
        guard !isSegmented, count <= Int(mbuf.pointee.buf_len) &- headroom else { return false }
        pe_mbuf_resize(mbuf, UInt16(truncatingIfNeeded: count))
        return true
    }

    /// Copies `count` bytes from `offset`, which the frame has, over all segments.
    func copy(from offset: Int, count: Int, to target: UnsafeMutableRawPointer) {
        var skip = offset
        var done = 0
        var segment: MBuf? = mbuf
        while let current = segment, done < count {
            let here = Int(current.pointee.data_len)
            if skip < here {
                let part = min(count &- done, here &- skip)
                let start = UnsafeRawPointer(current.pointee.buf_addr)
                    + (Int(current.pointee.data_off) &+ skip)
                pe_copy(target + done, start, part)
                done = done &+ part
                skip = 0
            } else {
                skip = skip &- here
            }
            segment = current.pointee.next
        }
    }

    /// The unfolded one's complement sum of `count` bytes from `offset`, which the frame has.
    @inline(__always) func sum(from offset: Int, count: Int) -> UInt64 {
        isSegmented ? sumSegments(from: offset, count: count) : Checksum.sum(frame + offset, count)
    }
    @inline(never) private func sumSegments(from offset: Int, count: Int) -> UInt64 {
        var skip = offset
        var left = count
        var position = 0
        var total: UInt64 = 0
        var segment: MBuf? = mbuf
        while let current = segment, left > 0 {
            let here = Int(current.pointee.data_len)
            if skip < here {
                let part = min(left, here &- skip)
                let start = UnsafeRawPointer(current.pointee.buf_addr)
                    + (Int(current.pointee.data_off) &+ skip)
                total = Checksum.append(total, Checksum.sum(start, part), position: position)
                position = position &+ part
                left = left &- part
                skip = 0
            } else {
                skip = skip &- here
            }
            segment = current.pointee.next
        }
        return total
    }
}
