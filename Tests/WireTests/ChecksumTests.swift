// The internet checksum against its definition.

import TestSupport
import Testing
import Wire

@Suite("Checksum, RFC 1071") struct ChecksumTests {
    @Test("the sum equals the word-by-word definition for every length and start")
    func lengths() {
        var random = SeededRandom(seed: 7)
        let bytes = random.bytes(300)
        withBytes(bytes) { base in
            for start in 0..<9 {
                for count in 0..<(300 - start) {
                    let field = Checksum.field(Checksum.sum(base + start, count))
                    let expected = Frame.checksum(Array(bytes[start..<(start + count)]))
                    if field.bigEndian != expected { Issue.record("start \(start) count \(count)") }
                }
            }
        }
    }

    @Test("the inline sum equals the definition for every length that it may be asked for")
    func inlineSum() {
        var random = SeededRandom(seed: 11)
        let bytes = random.bytes(260)
        withBytes(bytes) { base in
            for start in 0..<9 {
                for count in 32..<250 {
                    let field = Checksum.field(Checksum.shortSum(base + start, count))
                    let expected = Frame.checksum(Array(bytes[start..<(start + count)]))
                    if field.bigEndian != expected { Issue.record("start \(start) count \(count)") }
                }
            }
        }
    }

    @Test("a header without options is judged as by the sum of all its words")
    func plainHeader() {
        var random = SeededRandom(seed: 12)
        for number in 0..<4000 {
            var bytes = random.bytes(20)
            // Long carries, and sums of zero.
            if number % 4 == 0 { bytes = bytes.map { $0 < 128 ? 0 : 0xFF } }
            bytes[0] = 0x45
            if number % 2 == 0 {
                (bytes[10], bytes[11]) = (0, 0)
                bytes.replaceSubrange(10..<12, with: Frame.be16(Frame.checksum(bytes)))
            }
            withBytes(bytes) { base in
                let header = IPv4Header(at: base)
                #expect(header.isPlainChecksumValid == header.isChecksumValid(headerByteCount: 20))
                if number % 2 == 0 { #expect(header.isPlainChecksumValid) }
            }
        }
    }

    @Test("parts that are appended at odd and even positions sum like the whole")
    func parts() {
        var random = SeededRandom(seed: 8)
        for _ in 0..<200 {
            let bytes = random.bytes(Int.random(in: 3...300, using: &random))
            let cut = Int.random(in: 0...bytes.count, using: &random)
            withBytes(bytes) { base in
                let first = Checksum.append(0, Checksum.sum(base, cut), position: 0)
                let whole = Checksum.append(
                    first, Checksum.sum(base + cut, bytes.count - cut), position: cut)
                #expect(Checksum.fold(whole) == Checksum.fold(Checksum.sum(base, bytes.count)))
            }
        }
    }

    @Test("folding keeps every carry")
    func fold() {
        #expect(Checksum.fold(0) == 0)
        #expect(Checksum.fold(0xFFFF) == 0xFFFF)
        #expect(Checksum.fold(0x1_0000) == 1)
        #expect(Checksum.fold(UInt64.max) == 0xFFFF)
        var random = SeededRandom(seed: 9)
        for _ in 0..<1000 {
            let value = random.next()
            #expect(value % 0xFFFF == UInt64(Checksum.fold(value)) % 0xFFFF)
        }
    }

    @Test("an incremental update equals a new sum (RFC 1624)")
    func update() {
        var random = SeededRandom(seed: 10)
        for _ in 0..<500 {
            var bytes = random.bytes(20)
            let before = withBytes(bytes) { Checksum.field(Checksum.sum($0, 20)) }
            let old = UInt16(bytes[6]) << 8 | UInt16(bytes[7])
            let new = UInt16.random(in: 0...UInt16.max, using: &random)
            bytes[6] = UInt8(new >> 8)
            bytes[7] = UInt8(new & 255)
            let after = withBytes(bytes) { Checksum.field(Checksum.sum($0, 20)) }
            let updated = Checksum.update(before, from: old.bigEndian, to: new.bigEndian)
            #expect(updated == after || (updated ^ after) == 0xFFFF)
        }
    }
}
