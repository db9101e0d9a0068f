// Random large frames, and a parser of their segments that shares no code with what it checks.

import CLinux
import TestSupport

enum Hex {
    static func bytes(_ text: String) -> [UInt8] {
        let digits = text.compactMap { $0.hexDigitValue }
        return stride(from: 0, to: digits.count - 1, by: 2).map {
            UInt8(digits[$0] * 16 + digits[$0 + 1])
        }
    }
    static func text(_ bytes: [UInt8]) -> String {
        bytes.map { byte in
            let text = String(byte, radix: 16)
            return byte < 16 ? "0" + text : text
        }.joined()
    }
}

/// RFC 1071, word by word in network order.
func naiveChecksum(_ bytes: [UInt8]) -> UInt16 {
    var sum: UInt32 = 0
    for position in stride(from: 0, to: bytes.count, by: 2) {
        sum += UInt32(bytes[position]) << 8
        if position + 1 < bytes.count { sum += UInt32(bytes[position + 1]) }
        if sum > 0xffff { sum = (sum & 0xffff) + 1 }
    }
    return ~UInt16(sum)
}

/// A frame as the kernel hands it over before segmentation.
struct LargeFrame {
    var bytes: [UInt8] = []
    var payload: [UInt8]
    var size: Int
    var header: pe_vnet_header
    var sequence: UInt32
    private let isTCP: Bool
    private let isIPv6: Bool
    private let ip: Int

    init(
        using random: inout SeededRandom,
        isTCP: Bool? = nil,
        isIPv6: Bool? = nil,
        tags: Int? = nil,
        payload count: Int? = nil,
        size: Int? = nil
    ) {
        self.isTCP = isTCP ?? Bool.random(using: &random)
        self.isIPv6 = isIPv6 ?? Bool.random(using: &random)
        let tagCount = tags ?? Int.random(in: 0...2, using: &random)
        let isLong = UInt8.random(in: 0...7, using: &random) == 0
        payload = random.bytes(
            count ?? Int.random(in: 0...(isLong ? 60_000 : 3000), using: &random)
        )
        self.size = size ?? Int.random(in: isLong ? 500...1460 : 1...1460, using: &random)
        sequence = UInt32.random(in: 0 ... .max, using: &random)
        ip = 14 + tagCount * 4
        let transport = ip + (self.isIPv6 ? 40 : 20)
        header = virtio(
            type: self.isTCP ? (self.isIPv6 ? 4 : 1) : 5,
            size: UInt16(self.size),
            start: UInt16(transport),
            offset: self.isTCP ? 16 : 6
        )
        let transportLength = (self.isTCP ? 20 : 8) + payload.count
        bytes = random.bytes(12)
        for _ in 0..<tagCount { bytes += [0x81, 0x00, 0x00, 0x14] }
        bytes += self.isIPv6 ? [0x86, 0xdd] : [0x08, 0x00]
        bytes += networkHeader(transportLength, &random)
        bytes += self.isTCP ? tcpHeader() : udpHeader(transportLength)
        bytes += payload
    }

    private func networkHeader(_ length: Int, _ random: inout SeededRandom) -> [UInt8] {
        let number: UInt8 = isTCP ? 6 : 17
        guard !isIPv6 else {
            return [0x60, 0, 0, 0] + big(length) + [number, 64] + random.bytes(32)
        }
        return [0x45, 0] + big(length + 20) + random.bytes(2) + [0x40, 0, 64, number, 0, 0]
            + random.bytes(8)
    }
    private func tcpHeader() -> [UInt8] {
        [0x9c, 0x40, 0x01, 0xbb] + big(Int(sequence >> 16)) + big(Int(sequence & 0xffff))
            + [0, 0, 0, 9, 0x50, 0x18, 2, 0, 0x12, 0x34, 0, 0]
    }
    private func udpHeader(_ length: Int) -> [UInt8] {
        [0x9c, 0x40, 0, 53] + big(length) + [0x12, 0x34]
    }

    private func big(_ value: Int) -> [UInt8] {
        [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)]
    }

    /// What the kernel leaves in a frame that needs no cutting: a complete IPv4 header checksum,
    /// and in the transport's field the pseudo-header's sum, not complemented.
    mutating func storePseudoHeader() {
        let start = Int(header.csum_start)
        if !isIPv6 {
            let sum = naiveChecksum(Array(bytes[ip..<start]))
            bytes[ip + 10] = UInt8(sum >> 8)
            bytes[ip + 11] = UInt8(sum & 0xff)
        }
        let field = start + Int(header.csum_offset)
        let sum = ~naiveChecksum(
            pseudoHeader(bytes, ip: ip, isIPv6: isIPv6, transport: start, isTCP ? 6 : 17)
        )
        bytes[field] = UInt8(sum >> 8)
        bytes[field + 1] = UInt8(sum & 0xff)
    }
}

func pseudoHeader(_ bytes: [UInt8], ip: Int, isIPv6: Bool, transport: Int, _ number: UInt8)
    -> [UInt8]
{
    let length = bytes.count - transport
    let addresses = isIPv6 ? bytes[(ip + 8)..<(ip + 40)] : bytes[(ip + 12)..<(ip + 20)]
    return addresses + [0, number, UInt8(length >> 8 & 0xff), UInt8(length & 0xff)]
}

/// One segment taken apart; nil when its lengths do not agree.
struct ParsedSegment {
    var payload: [UInt8]
    var sequence: UInt32?
    var checksumsAreRight: Bool

    init?(_ bytes: [UInt8]) {
        func word(_ at: Int) -> Int { Int(bytes[at]) << 8 | Int(bytes[at + 1]) }
        var ip = 14
        while word(ip - 2) == 0x8100 { ip += 4 }
        let isIPv6 = word(ip - 2) == 0x86dd
        let transport = ip + (isIPv6 ? 40 : 20)
        let length = isIPv6 ? word(ip + 4) + 40 : word(ip + 2)
        guard length == bytes.count - ip else { return nil }
        let number = bytes[ip + (isIPv6 ? 6 : 9)]
        checksumsAreRight = isIPv6 || naiveChecksum(Array(bytes[ip..<transport])) == 0
        let sum = naiveChecksum(
            pseudoHeader(bytes, ip: ip, isIPv6: isIPv6, transport: transport, number)
                + bytes[transport...]
        )
        checksumsAreRight = checksumsAreRight && sum == 0
        if number == 6 {
            sequence = UInt32(word(transport + 4)) << 16 | UInt32(word(transport + 6))
            payload = Array(bytes[(transport + 20)...])
        } else {
            guard word(transport + 4) == bytes.count - transport else { return nil }
            checksumsAreRight = checksumsAreRight && word(transport + 6) != 0
            payload = Array(bytes[(transport + 8)...])
        }
    }
}
