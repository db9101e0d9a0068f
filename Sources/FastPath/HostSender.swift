// Sends what workers queued for kernel ports, each port's frames together and in order.

import CDPDK
import CLinux
import Glibc

/// Send side of the host-I/O thread.
struct HostSender {
    private let host: HostIO
    private let batch: OpaquePointer
    private let burst: UnsafeMutablePointer<UnsafeMutablePointer<pe_mbuf>>
    /// Per frame of the burst, the next one to the same port, or -1.
    private let next: UnsafeMutablePointer<Int16>
    /// Ports that the burst has frames for.
    private let touched: UnsafeMutablePointer<UInt16>

    private static let burstSize = 64
    /// Bursts that a full ring holds.
    static let burstsPerRing = Int(HostIO.txRingCapacity) / burstSize + 1
    /// How often a device that takes nothing is asked again, 20 us apart, before its frames are
    /// dropped; a device that let it come to that is not waited for until it takes all again, since
    /// every other port waits, too.
    static let attempts = 8

    init(host: HostIO, batch: OpaquePointer) {
        self.host = host
        self.batch = batch
        burst = .allocate(capacity: Self.burstSize)
        next = .allocate(capacity: Self.burstSize)
        touched = .allocate(capacity: Self.burstSize)
    }

    /// Sends one burst of a worker's ring; false when the ring was empty.
    func drain(_ ring: OpaquePointer) -> Bool {
        let count = Int(pe_ring_dequeue_burst(ring, burst, UInt32(Self.burstSize)))
        guard count > 0 else { return false }
        var touchedCount = 0
        for position in 0..<count {
            let index = burst[position].pointee.port
            next[position] = -1
            guard Int(index) < host.portCapacity else {
                pe_count(host.strays, 1)
                pe_mbuf_free(burst[position])
                continue
            }
            let port = host.ports + Int(index)
            if port.pointee.txFirst < 0 {
                port.pointee.txFirst = Int16(truncatingIfNeeded: position)
                touched[touchedCount] = index
                touchedCount += 1
            } else {
                next[Int(port.pointee.txLast)] = Int16(truncatingIfNeeded: position)
            }
            port.pointee.txLast = Int16(truncatingIfNeeded: position)
        }
        for position in 0..<touchedCount { send(host.ports + Int(touched[position])) }
        return true
    }

    /// Sends the frames chained at `port` and frees them.
    private func send(_ port: UnsafeMutablePointer<KernelPortState>) {
        var position = Int(port.pointee.txFirst)
        port.pointee.txFirst = -1
        while position >= 0 {
            var count = 0
            let first = position
            while position >= 0, count < Int(PE_IO_BATCH) {
                prepare(burst[position], UInt32(count))
                position = Int(next[position])
                count += 1
            }
            transmit(port, first, UInt32(count))
            var done = first
            for _ in 0..<count {
                let following = Int(next[done])
                pe_mbuf_free(burst[done])
                done = following
            }
        }
    }

    /// Describes a frame's segments to the kernel; more than fit in the vector are copied together.
    private func prepare(_ frame: UnsafeMutablePointer<pe_mbuf>, _ slot: UInt32) {
        let vector = pe_io_batch_vector(batch, slot)
        var segment: UnsafeMutablePointer<pe_mbuf>? = frame
        var used = 1
        while let part = segment, used < Int(PE_IO_SEGMENTS) {
            vector[used] = iovec(
                iov_base: part.pointee.buf_addr + Int(part.pointee.data_off),
                iov_len: Int(part.pointee.data_len)
            )
            used += 1
            segment = part.pointee.next
        }
        if segment != nil {
            let copy = pe_io_batch_overflow(batch, slot)
            vector[1] = iovec(iov_base: copy, iov_len: linearise(frame, into: copy))
            used = 2
        }
        pe_io_batch_set_count(batch, slot, UInt32(used - 1))
    }

    private func linearise(
        _ frame: UnsafeMutablePointer<pe_mbuf>,
        into copy: UnsafeMutablePointer<UInt8>
    ) -> Int {
        var length = 0
        var segment: UnsafeMutablePointer<pe_mbuf>? = frame
        while let part = segment {
            let count = Int(part.pointee.data_len)
            guard length + count <= Int(PE_IO_OVERFLOW) else { break }
            UnsafeMutableRawPointer(copy + length).copyMemory(
                from: part.pointee.buf_addr + Int(part.pointee.data_off),
                byteCount: count
            )
            length += count
            segment = part.pointee.next
        }
        return length
    }

    /// Sends prepared frames; whatever does not go is counted.
    ///
    /// `first` is the first one's place in the burst.
    private func transmit(
        _ port: UnsafeMutablePointer<KernelPortState>,
        _ first: Int,
        _ count: UInt32
    ) {
        let fd = port.pointee.fd
        guard fd >= 0 else { return port.count(.txDropDown, UInt64(count)) }
        var done: UInt32 = 0
        var position = first
        var attempts = 0
        while done < count {
            let rc =
                port.pointee.isTAP
                ? pe_tap_send(fd, batch, done) : pe_packet_send(fd, batch, done, count)
            if rc > 0 {
                for _ in 0..<rc {
                    port.count(.txBytes, UInt64(burst[position].pointee.pkt_len))
                    position = Int(next[position])
                }
                port.count(.txFrames, UInt64(rc))
                done += UInt32(rc)
                attempts = 0
                continue
            }
            switch -rc {
            case EINTR: continue
            case EAGAIN, ENOBUFS, ENOMEM:
                attempts += 1
                guard attempts < port.pointee.txPatience else {
                    port.pointee.txPatience = 1
                    return port.count(.txDropBusy, UInt64(count - done))
                }
                usleep(20)
                continue
            case ENETDOWN, ENODEV, ENXIO, EBADFD, EIO:
                return port.count(.txDropDown, UInt64(count - done))
            case EMSGSIZE: port.count(.txDropTooBig)
            default: port.count(.txDropError)
            }
            // The first frame is at fault: the others go on without it.
            position = Int(next[position])
            done += 1
        }
        if port.pointee.txPatience < Self.attempts { port.pointee.txPatience += 1 }
    }
}
