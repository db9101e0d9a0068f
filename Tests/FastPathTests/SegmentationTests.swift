// Checksums are completed and large frames cut as the virtio-net header asks: against scapy, and by
// property.

import CLinux
import TestSupport
import Testing

@testable import FastPath

@Suite("Segmentation of large frames (virtio-net header, linux/virtio_net.h)")
struct SegmentationTests {
    @Test(
        "a large frame becomes the frames that scapy builds one by one",
        arguments: SegmentationVector.all
    )
    func matchesScapy(_ vector: SegmentationVector) throws {
        let frame = Hex.bytes(vector.frame)
        let segments = try cut(
            frame,
            virtio(
                type: vector.gsoType,
                size: vector.gsoSize,
                start: vector.checksumStart,
                offset: vector.checksumOffset
            )
        )
        #expect(segments.map(Hex.text) == vector.segments)
    }

    @Test(
        "segments together hold the payload, and every checksum verifies",
        arguments: 0..<200 as Range<UInt64>
    )
    func segmentsReassemble(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let made = LargeFrame(using: &random)
        let segments = try cut(made.bytes, made.header)
        #expect(
            segments.count == max(1, (made.payload.count + made.size - 1) / made.size),
            "seed \(seed)"
        )
        var payload: [UInt8] = []
        for (index, segment) in segments.enumerated() {
            let parsed = try #require(ParsedSegment(segment), "seed \(seed), segment \(index)")
            #expect(parsed.checksumsAreRight, "seed \(seed), segment \(index)")
            if let sequence = parsed.sequence {
                #expect(sequence == made.sequence &+ UInt32(payload.count), "seed \(seed)")
            }
            payload += parsed.payload
        }
        #expect(payload == made.payload, "seed \(seed)")
    }

    @Test("FIN and PSH end the data, CWR begins it")
    func flagsAreOnTheirSegments() throws {
        var random = SeededRandom(seed: 5)
        var made = LargeFrame(
            using: &random,
            isTCP: true,
            isIPv6: false,
            tags: 0,
            payload: 100,
            size: 30
        )
        made.bytes[34 + 13] = 0xff
        let flags = try cut(made.bytes, made.header).map { $0[34 + 13] }
        #expect(flags == [0xf6, 0x76, 0x76, 0x7f])
    }

    @Test(
        "headers that contradict the frame are faults, never crashes",
        arguments: 0..<300 as Range<UInt64>
    )
    func anyHeaderIsSafe(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var made = LargeFrame(using: &random)
        for _ in 0..<Int.random(in: 0...6, using: &random) {
            let place = Int.random(in: 0..<min(90, made.bytes.count), using: &random)
            made.bytes[place] = UInt8.random(in: 0...255, using: &random)
        }
        if Bool.random(using: &random) {
            made.bytes.removeLast(Int.random(in: 0..<made.bytes.count, using: &random))
        }
        made.header.csum_start = UInt16.random(in: 0...200, using: &random)
        made.header.gso_type = UInt8.random(in: 0...8, using: &random)
        guard let segments = try? cut(made.bytes, made.header) else { return }
        #expect(segments.reduce(0) { $0 + $1.count } >= made.bytes.count, "seed \(seed)")
    }

    @Test("every truncation of a large frame's headers is a fault or a plan inside it")
    func truncationsAreFaults() throws {
        for vector in SegmentationVector.all {
            let frame = Hex.bytes(vector.frame)
            let header = virtio(
                type: vector.gsoType,
                size: vector.gsoSize,
                start: vector.checksumStart,
                offset: vector.checksumOffset
            )
            let transport = Int(vector.checksumStart) + (vector.gsoType == 5 ? 8 : 20)
            for count in 0..<transport {
                #expect(throws: OffloadFault.badHeader, "\(vector.name) at \(count)") {
                    try cut(Array(frame.prefix(count)), header)
                }
            }
        }
    }

    @Test("fragments, unknown tunnels and unknown kinds are refused")
    func unsupportedIsNamed() throws {
        var random = SeededRandom(seed: 1)
        var made = LargeFrame(
            using: &random,
            isTCP: true,
            isIPv6: false,
            tags: 0,
            payload: 100,
            size: 30
        )
        made.header.gso_type = 3
        #expect(throws: OffloadFault.unsupported) { try cut(made.bytes, made.header) }
        made.header.gso_type = 7
        #expect(throws: OffloadFault.badHeader) { try cut(made.bytes, made.header) }
        made.header.gso_type = 1
        made.header.gso_size = 0
        #expect(throws: OffloadFault.badHeader) { try cut(made.bytes, made.header) }
        made.header.gso_size = 30
        made.bytes[20] = 0x20
        #expect(throws: OffloadFault.badHeader) { try cut(made.bytes, made.header) }
        made.bytes[20] = 0
        made.bytes[12] = 0x88
        made.bytes[13] = 0x47
        #expect(throws: OffloadFault.unsupported) { try cut(made.bytes, made.header) }
    }
}

@Suite("Completing checksums")
struct ChecksumCompletionTests {
    @Test(
        "a partial checksum is completed over the rest of the frame",
        arguments: 0..<100 as Range<UInt64>
    )
    func completes(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let payload = Int.random(in: 0...1400, using: &random)
        var made = LargeFrame(using: &random, payload: payload, size: 1460)
        let start = Int(made.header.csum_start)
        let offset = Int(made.header.csum_offset)
        made.storePseudoHeader()
        try made.bytes.withUnsafeMutableBytes {
            try completeChecksum($0, start: start, offset: offset)
        }
        let parsed = try #require(ParsedSegment(made.bytes))
        #expect(parsed.checksumsAreRight, "seed \(seed)")
    }

    @Test("SCTP gets CRC32C (RFC 9260), told by its field's offset")
    func completesSCTP() throws {
        // Bytes 1 ... 9 have CRC32C 0xe3069283 (RFC 3720 B.4 lists its relatives): "123456789".
        #expect(
            "123456789".utf8.withContiguousStorageIfAvailable {
                pe_crc32c_bytes($0.baseAddress!, 9)
            } == 0xe306_9283
        )
        var frame = [UInt8](repeating: 7, count: 14 + 20 + 12 + 16)
        try frame.withUnsafeMutableBytes { try completeChecksum($0, start: 34, offset: 8) }
        var zeroed = Array(frame[34...])
        zeroed.replaceSubrange(8..<12, with: [0, 0, 0, 0])
        let crc = pe_crc32c_bytes(zeroed, zeroed.count)
        #expect(Array(frame[42..<46]) == withUnsafeBytes(of: crc.littleEndian) { Array($0) })
    }

    @Test("offsets beyond the frame are a fault")
    func boundsAreChecked() {
        var frame = [UInt8](repeating: 0, count: 60)
        for (start, offset) in [
            (13, 0), (59, 0), (58, 1), (40, 19), (60, 16), (34, 65535), (50, 8),
        ] {
            #expect(throws: OffloadFault.badHeader, "\(start) \(offset)") {
                try frame.withUnsafeMutableBytes {
                    try completeChecksum($0, start: start, offset: offset)
                }
            }
        }
    }

    @Test("a tag goes behind the addresses and leaves the rest alone")
    func insertsTag() {
        var bytes = [UInt8](repeating: 0xa5, count: 4) + (0..<20).map { UInt8($0) }
        bytes.withUnsafeMutableBytes { buffer in
            let start = insertTag(buffer.baseAddress! + 4, protocolID: 0x8100, control: 0x6014)
            #expect(start == buffer.baseAddress!)
        }
        #expect(
            bytes == (0..<12).map { UInt8($0) } + [0x81, 0x00, 0x60, 0x14]
                + (12..<20).map { UInt8($0) }
        )
    }

    @Test("the folded sum agrees with adding word by word", arguments: 0..<100 as Range<UInt64>)
    func sumsAgree(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let bytes = random.bytes(Int.random(in: 0...3000, using: &random))
        #expect(
            UInt16(bigEndian: ~pe_sum_fold(pe_sum16(bytes, bytes.count, 0)))
                == naiveChecksum(bytes),
            "seed \(seed)"
        )
    }
}

/// Cuts a frame the way the host-I/O thread does, but out of arrays.
func cut(_ frame: [UInt8], _ header: pe_vnet_header) throws -> [[UInt8]] {
    let request = try OffloadRequest(header)
    let plan = try frame.withUnsafeBytes {
        try SegmentPlan(headers: $0, byteCount: frame.count, request: request)
    }
    return (0..<plan.count).map { index in
        let range = plan.payloadRange(index)
        var segment = Array(frame[..<plan.headerByteCount])
        segment +=
            frame[
                (plan.headerByteCount + range.lowerBound)..<(plan.headerByteCount + range.upperBound)
            ]
        segment.withUnsafeMutableBytes { plan.finish($0, index: index) }
        return segment
    }
}

func virtio(type: UInt8, size: UInt16, start: UInt16, offset: UInt16) -> pe_vnet_header {
    pe_vnet_header(
        flags: 1,
        gso_type: type,
        hdr_len: 0,
        gso_size: size,
        csum_start: start,
        csum_offset: offset
    )
}
