// Compares frames and says in words where they differ.

public import Wire

public enum FrameMatcher {
    /// Nil when the frames are equal; else both in words, with the first byte that differs.
    public static func difference(_ got: [UInt8], _ expected: [UInt8]) -> String? {
        if got == expected { return nil }
        let common = zip(got, expected).enumerated().first { $1.0 != $1.1 }?.offset
        let place = common.map { "first difference at byte \($0)" } ?? "one is a part of the other"
        return """
            \(place) (\(got.count) bytes, expected \(expected.count))
            got:      \(FrameSummary.lines(of: got).joined(separator: "\n          "))
            expected: \(FrameSummary.lines(of: expected).joined(separator: "\n          "))
            """
    }
}

/// A received VXLAN packet taken apart, independently of the code under test.
public struct OuterHeaders: Equatable, Sendable {
    public var destinationMAC: MACAddress
    public var sourceMAC: MACAddress
    public var source: IPAddress
    public var destination: IPAddress
    public var sourcePort: UInt16
    public var port: UInt16
    public var vni: UInt32
    public var timeToLive: UInt8
    /// DSCP and ECN.
    public var trafficClass: UInt8
    public var checksum: UInt16
    public var inner: [UInt8]

    /// Nil unless every length agrees, the I flag alone is set and every checksum is right or, in
    /// UDP, zero.
    public init?(_ frame: [UInt8]) {
        func be16(_ at: Int) -> Int { Int(frame[at]) << 8 | Int(frame[at + 1]) }
        guard frame.count >= 50 else { return nil }
        let isV4 = be16(12) == 0x0800
        guard isV4 || (be16(12) == 0x86DD && frame.count >= 70) else { return nil }
        let udp = isV4 ? 34 : 54
        let sourceBytes = frame[(isV4 ? 26 : 22)..<(isV4 ? 30 : 38)]
        let destinationBytes = frame[(isV4 ? 30 : 38)..<(isV4 ? 34 : 54)]
        guard let source = IPAddress(bytes: sourceBytes),
            let destination = IPAddress(bytes: destinationBytes)
        else { return nil }
        if isV4 {
            guard frame[14] == 0x45, be16(16) == frame.count - 14, frame[23] == 17,
                be16(20) == 0x4000, Frame.checksum(Array(frame[14..<34])) == 0
            else { return nil }
            timeToLive = frame[22]
            trafficClass = frame[15]
        } else {
            guard frame[14] >> 4 == 6, be16(18) == frame.count - 54, frame[20] == 17 else {
                return nil
            }
            timeToLive = frame[21]
            trafficClass = UInt8(truncatingIfNeeded: be16(14) >> 4)
        }
        guard be16(udp + 4) == frame.count - udp,
            frame[(udp + 8)..<(udp + 12)].elementsEqual([8, 0, 0, 0]), frame[udp + 15] == 0
        else { return nil }
        checksum = UInt16(be16(udp + 6))
        if checksum != 0 {
            let packet = Array(frame[udp...])
            let pseudo = Frame.pseudoHeader(source, destination, 17, packet.count)
            guard Frame.checksum(pseudo + packet) == 0 else { return nil }
        }
        destinationMAC = MACAddress(bytes: frame[0..<6])
        sourceMAC = MACAddress(bytes: frame[6..<12])
        self.source = source
        self.destination = destination
        sourcePort = UInt16(be16(udp))
        port = UInt16(be16(udp + 2))
        vni = UInt32(be16(udp + 12)) << 8 | UInt32(frame[udp + 14])
        inner = Array(frame[(udp + 16)...])
    }
}
