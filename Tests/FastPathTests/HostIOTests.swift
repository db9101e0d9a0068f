// The host-I/O thread against a device that says anything: a socket pair in place of a TAP.

import CDPDK
import CLinux
import Glibc
import TestSupport
import Testing

@testable import FastPath

/// A kernel port whose device is the other end of a socket pair, so that a test writes virtio
/// headers itself.
struct FakeTAP {
    let bench: PortBench
    let device: Int32
    private let port: Int32
    let index: UInt16

    init(index: UInt16 = 1) throws {
        bench = try PortBench(capacity: 16)
        var ends: [Int32] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0)
        (device, port) = (ends[0], ends[1])
        var size: Int32 = 4 << 20
        for end in ends {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            setsockopt(end, SOL_SOCKET, SO_SNDBUF, &size, 4)
        }
        self.index = index
        let word = PortIO(kind: .kernel, features: [], ethdev: 0, txQueueCount: 0, mtu: 1500)
        pe_store64(bench.registry.words + Int(index), word.word)
        bench.hostIO.perform([
            .attach(index: index, fd: port, worker: 0, isTAP: true, isException: false)
        ])
    }
    func close() {
        bench.hostIO.perform([.detach(index: index)])
        bench.close()
        Glibc.close(device)
        Glibc.close(port)
    }

    func write(_ header: pe_vnet_header, _ frame: [UInt8]) throws {
        var header = header
        let bytes = withUnsafeBytes(of: &header) { Array($0) } + frame
        for _ in 0..<1000 {
            if Glibc.write(device, bytes, bytes.count) == bytes.count { return }
            usleep(1000)
        }
        Issue.record("the device's queue stays full")
    }
    /// Raw bytes in place of header and frame.
    func write(raw: [UInt8]) { _ = Glibc.write(device, raw, raw.count) }

    var counters: PortCounters {
        var result = PortCounters()
        for counter in PortCounter.allCases {
            result[counter] = pe_load64_relaxed(
                bench.hostIO.ports[Int(index)].counters + counter.rawValue
            )
        }
        return result
    }
    /// Everything that the worker would get, within a while.
    func delivered(_ count: Int) -> [[UInt8]] {
        var result: [[UInt8]] = []
        guard var frame = pe_mbuf_alloc(bench.environment.packets) else { return [] }
        pe_mbuf_free(frame)
        _ = eventually {
            while pe_ring_dequeue_burst(bench.io.rxRing, &frame, 1) == 1 {
                result.append(contents(frame))
                pe_mbuf_free(frame)
            }
            return result.count >= count
        }
        return result
    }
}

extension KernelAndDevicePorts {
    @Suite("Host I/O")
    struct HostIOTests {
        private static let plain = pe_vnet_header()

        @Test("a large frame becomes its segments, in order, on the ring")
        func segments() throws {
            let tap = try FakeTAP()
            defer { tap.close() }
            for vector in SegmentationVector.all {
                try tap.write(
                    virtio(
                        type: vector.gsoType,
                        size: vector.gsoSize,
                        start: vector.checksumStart,
                        offset: vector.checksumOffset
                    ),
                    Hex.bytes(vector.frame)
                )
                #expect(
                    tap.delivered(vector.segments.count).map(Hex.text) == vector.segments,
                    "\(vector.name)"
                )
            }
            #expect(tap.counters[.rxLarge] == UInt64(SegmentationVector.all.count))
            #expect(isAccounted(tap.counters))
        }

        @Test("64 KB in segments of one size beyond the buffer, and back together")
        func largest() throws {
            let tap = try FakeTAP()
            defer { tap.close() }
            var random = SeededRandom(seed: 3)
            let made = LargeFrame(
                using: &random,
                isTCP: true,
                isIPv6: true,
                tags: 1,
                payload: 65_000,
                size: 1428
            )
            try tap.write(made.header, made.bytes)
            let segments = tap.delivered(46)
            #expect(segments.count == 46)
            let parsed = segments.compactMap(ParsedSegment.init)
            #expect(parsed.allSatisfy { $0.checksumsAreRight })
            #expect(parsed.flatMap { $0.payload } == made.payload)
        }

        @Test("what cannot be is dropped for its reason, and the next frame passes")
        func reasons() throws {
            let tap = try FakeTAP()
            defer { tap.close() }
            let frame = [UInt8](repeating: 9, count: 60)
            var random = SeededRandom(seed: 3)
            let large = LargeFrame(
                using: &random,
                isTCP: true,
                isIPv6: false,
                tags: 0,
                payload: 9500,
                size: 1448
            )
            let cases: [(PortCounter, pe_vnet_header, [UInt8])] = [
                (.rxDropBadHeader, virtio(type: 0, size: 0, start: 59, offset: 0), frame),
                (.rxDropBadHeader, virtio(type: 0, size: 0, start: 2, offset: 0), frame),
                (.rxDropBadHeader, virtio(type: 2, size: 100, start: 34, offset: 16), frame),
                (.rxDropBadHeader, virtio(type: 1, size: 0, start: 34, offset: 16), frame),
                (.rxDropBadHeader, virtio(type: 1, size: 1448, start: 33, offset: 16), large.bytes),
                (.rxDropBadHeader, Self.plain, [1, 2, 3]),
                (
                    .rxDropUnsupportedOffload, virtio(type: 3, size: 100, start: 34, offset: 6),
                    frame
                ),
                (
                    .rxDropUnsupportedOffload, virtio(type: 1, size: 100, start: 34, offset: 16),
                    frame
                ),
                (.rxDropOversized, Self.plain, [UInt8](repeating: 9, count: 9300)),
                (.rxDropOversized, virtio(type: 1, size: 9400, start: 34, offset: 16), large.bytes),
            ]
            for (reason, header, bytes) in cases {
                let before = tap.counters[reason]
                try tap.write(header, bytes)
                #expect(eventually { tap.counters[reason] == before + 1 }, "\(reason) \(header)")
                try tap.write(Self.plain, frame)
                #expect(tap.delivered(1) == [frame], "\(reason)")
            }
            tap.write(raw: [1, 2, 3])
            #expect(eventually { tap.counters[.rxDropTruncated] == 1 })
            #expect(isAccounted(tap.counters), "\(tap.counters)")
        }

        @Test("a tiny segment size cannot exhaust the thread")
        func tinySegments() throws {
            let tap = try FakeTAP()
            defer { tap.close() }
            var random = SeededRandom(seed: 9)
            for size in [1, 16, 47, 48] {
                let made = LargeFrame(
                    using: &random,
                    isTCP: true,
                    isIPv6: false,
                    tags: 0,
                    payload: 60_000,
                    size: size
                )
                try tap.write(made.header, made.bytes)
            }
            // 60,000 bytes make 1277 and 1250 segments of the two larger sizes.
            #expect(tap.delivered(2527).count == 2527)
            #expect(eventually { tap.counters[.rxFrames] == 4 })
            #expect(tap.counters[.rxDropBadHeader] == 2, "\(tap.counters)")
            #expect(isAccounted(tap.counters))
        }

        @Test(
            "arbitrary headers and frames are all accounted for",
            arguments: 0..<8 as Range<UInt64>
        )
        func arbitrary(seed: UInt64) throws {
            let tap = try FakeTAP()
            let free = pe_pool_available(tap.bench.environment.packets)
            let worker = TestForwarder(tap.bench.io)
            var random = SeededRandom(seed: seed)
            for _ in 0..<200 {
                var made = LargeFrame(using: &random)
                for _ in 0..<Int.random(in: 0...4, using: &random) {
                    made.bytes[Int.random(in: 0..<min(80, made.bytes.count), using: &random)] =
                        UInt8.random(in: 0...255, using: &random)
                }
                var header = made.header
                if Bool.random(using: &random) {
                    withUnsafeMutableBytes(of: &header) { bytes in
                        let place = Int.random(in: 0..<bytes.count, using: &random)
                        bytes[place] = UInt8.random(in: 0...255, using: &random)
                    }
                }
                try tap.write(header, made.bytes)
            }
            #expect(eventually { tap.counters[.rxFrames] == 200 }, "seed \(seed)")
            #expect(eventually { isAccounted(tap.counters) }, "seed \(seed): \(tap.counters)")
            worker.stop()
            tap.close()
            // Other tests borrow from this pool meanwhile.
            #expect(eventually(30) { pe_pool_available(TestEnvironment.shared.packets) + 64 >= free })
        }

        @Test("a frame of many segments goes out whole")
        func manySegments() throws {
            let tap = try FakeTAP()
            defer { tap.close() }
            let pool = tap.bench.environment.packets
            for parts in [1, 2, 15, 16, 40] {
                var head = try #require(pe_mbuf_alloc(pool))
                fill(head, [UInt8](repeating: 1, count: 30))
                for part in 1..<max(parts, 1) {
                    let tail = try #require(pe_mbuf_alloc(pool))
                    fill(tail, [UInt8](repeating: UInt8(part + 1), count: 30))
                    #expect(pe_mbuf_chain(head, tail) == 0)
                }
                head.pointee.port = tap.index
                #expect(pe_ring_enqueue_burst(tap.bench.io.txRing, &head, 1) == 1)
                pe_doorbell_ring(tap.bench.io.hostDoorbell)
                var bytes = [UInt8](repeating: 0, count: 4096)
                var count = -1
                let isThere = eventually {
                    count = read(tap.device, &bytes, 4096)
                    return count > 0
                }
                #expect(isThere)
                let expected = (1...parts).flatMap { [UInt8](repeating: UInt8($0), count: 30) }
                #expect(
                    Array(bytes[..<max(0, count)]) == [UInt8](repeating: 0, count: 10) + expected
                )
            }
        }

        @Test("frames of one port keep their order both ways, and none is lost")
        func order() throws {
            let tap = try FakeTAP()
            defer { tap.close() }
            let worker = TestForwarder(tap.bench.io, peers: [(1, 1)])
            defer { worker.stop() }
            var random = SeededRandom(seed: 1)
            var next = 0
            var got = 0
            var bytes = [UInt8](repeating: 0, count: 4096)
            let start = ContinuousClock.now
            while got < 5000, ContinuousClock.now - start < .seconds(20) {
                // Fewer under way than the socket's buffer holds: a TAP's queue would be as short.
                if next < 5000, next - got < 100 {
                    let frame =
                        [
                            2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 0x88, 0xb5, UInt8(next >> 8),
                            UInt8(next & 255),
                        ]
                        + random.bytes(Int.random(in: 0...100, using: &random))
                    try tap.write(Self.plain, frame)
                    next += 1
                }
                while true {
                    let count = read(tap.device, &bytes, 4096)
                    guard count > 0 else { break }
                    try #require(count >= 26)
                    try #require(Int(bytes[24]) << 8 | Int(bytes[25]) == got)
                    got += 1
                }
            }
            #expect(got == 5000, "\(tap.counters)")
            #expect(tap.counters[.txFrames] == 5000)
        }
    }
}
