// The simplest worker there can be: what comes from one port goes to its peer. Exercises ports
// without the pipeline.

import CDPDK
import CLinux
import FastPath
import Glibc
import Synchronization

/// Forwards between pairs of ports on a thread of its own, until ``stop()``.
public final class TestForwarder: @unchecked Sendable {
    private let io: WorkerIO
    private let stopping = Atomic<Bool>(false)
    /// The port that a port's frames go to; 0xffff: free them.
    private let peers: UnsafeMutablePointer<UInt16>
    private var thread = pthread_t()
    private let received = Atomic<UInt64>(0)
    private let dropped = Atomic<UInt64>(0)
    private let sleeps: Bool

    public var receivedCount: UInt64 { received.load(ordering: .relaxed) }
    /// Frames that nobody took.
    public var droppedCount: UInt64 { dropped.load(ordering: .relaxed) }

    public init(_ io: WorkerIO, sleeps: Bool = true, peers pairs: [(UInt16, UInt16)] = []) {
        self.io = io
        self.sleeps = sleeps
        peers = .allocate(capacity: 65536)
        peers.initialize(repeating: 0xffff, count: 65536)
        for (a, b) in pairs { connect(a, b) }
        let body = Unmanaged.passRetained(self)
        pthread_create(
            &thread,
            nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<TestForwarder>.fromOpaque(argument).takeRetainedValue().loop()
                return nil
            },
            body.toOpaque()
        )
    }

    public func connect(_ a: UInt16, _ b: UInt16) {
        peers[Int(a)] = b
        peers[Int(b)] = a
    }

    /// Ends the loop; buffers left in rings are freed.
    public func stop() {
        stopping.store(true, ordering: .releasing)
        pe_doorbell_ring(io.doorbell)
        pthread_join(thread, nil)
    }

    private func loop() {
        let burst = UnsafeMutablePointer<UnsafeMutablePointer<pe_mbuf>>.allocate(capacity: 32)
        defer { burst.deallocate() }
        io.online()
        while !stopping.load(ordering: .acquiring) {
            let queues = io.pollList()
            var count = 0
            count += forward(burst, Int(pe_ring_dequeue_burst(io.exceptionRing, burst, 32)))
            count += forward(burst, Int(pe_ring_dequeue_burst(io.rxRing, burst, 32)))
            for position in 0..<queues.count {
                let queue = queues[position]
                let got = Int(pe_eth_rx_burst(queue.ethdev, queue.queue, burst, 32))
                for index in 0..<got { burst[index].pointee.port = queue.port }
                count += forward(burst, got)
            }
            if count == 0, sleeps { pe_worker_wait(io.doorbell, io.rxRing, io.exceptionRing, io.handoverRing, 1000) }
        }
        while true {
            let count =
                pe_ring_dequeue_burst(io.rxRing, burst, 32)
                + pe_ring_dequeue_burst(io.exceptionRing, burst, 0)
            if count == 0 { break }
            pe_mbuf_free_bulk(burst, count)
        }
        io.offline()
    }

    private func forward(_ burst: UnsafeMutablePointer<UnsafeMutablePointer<pe_mbuf>>, _ count: Int)
        -> Int
    {
        guard count > 0 else { return 0 }
        received.add(UInt64(count), ordering: .relaxed)
        for index in 0..<count {
            let frame = burst[index]
            let peer = peers[Int(frame.pointee.port)]
            let port = io.port(peer)
            frame.pointee.port = peer
            let sent: UInt32 =
                if port.isKernel {
                    pe_ring_enqueue_burst(io.txRing, burst + index, 1)
                } else if port.isEthdev {
                    UInt32(
                        pe_eth_tx_burst(
                            port.ethdev,
                            port.features.contains(.sharedQueue) ? 0 : io.worker,
                            burst + index,
                            1
                        )
                    )
                } else {
                    0
                }
            if sent == 0 {
                dropped.add(1, ordering: .relaxed)
                pe_mbuf_free(frame)
            }
        }
        pe_doorbell_ring(io.hostDoorbell)
        return count
    }
}
