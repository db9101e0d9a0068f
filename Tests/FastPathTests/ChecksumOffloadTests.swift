// Frames over IPv6 to a port that computes UDP checksums: what it is asked for, and what it makes of them.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Checksum offload") struct ChecksumOffloadTests {
    static func offloading(_ options: inout World.Options) { options.features.insert(.txUDPChecksum) }
    private func pair(_ family: Family = .v6, _ change: (inout World.Options) -> Void = offloading) throws -> Pair {
        var options = World.Options()
        change(&options)
        return try Pair(family, options)
    }

    /// Bridged frames of many kinds and sizes.
    private var frames: [[UInt8]] {
        var frames: [[UInt8]] = []
        for count in [0, 1, 22, 150, 151, 501, 1400] {
            let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7) }
            let plain = Frame.host(to: remoteMAC, from: hostMAC, payload: payload)
            // With ECN the outer header takes it over: another way.
            frames += [plain, changed(plain) { $0[15] = 1 }, Frame.tagged(5, tpid: 0x88A8, plain)]
            frames.append(Frame.ethernet(to: remoteMAC, from: hostMAC, type: 0x1234, payload))
        }
        return frames
    }

    @Test("the port's checksum is the one that software computes")
    func bridged() throws {
        let (soft, hard) = (try pair { _ in }, try pair())
        for frame in frames {
            let (expected, sent) = (soft.world.run(2, frame), hard.world.run(2, frame))
            #expect(sent.count == 1 && sent.allSatisfy(\.requestsChecksum))
            #expect(expected.allSatisfy { !$0.requestsChecksum })
            #expect(sent.map(\.completed) == expected, "\(FrameSummary.text(of: frame))")
        }
        expectBalanced(hard.world)
    }

    @Test("so it is of routed packets", arguments: Family.allCases)
    func routed(inner: Family) throws {
        let (soft, hard) = (try Routed(outer: .v6), try Routed(outer: .v6, Self.offloading))
        for count in [1, 22, 150, 900] {
            for ecn in [UInt8(0), 0x10] {
                let payload = [UInt8](repeating: 7, count: count)
                var frame = soft.up(inner.host(2, 99), payload: payload)
                if inner == .v6 { frame[15] |= ecn << 1 }
                let (expected, sent) = (soft.world.run(2, frame), hard.world.run(2, frame))
                #expect(sent.count == 1 && sent.allSatisfy(\.requestsChecksum))
                #expect(sent.map(\.completed) == expected)
            }
        }
        expectBalanced(hard.world)
    }

    @Test("a chain of buffers asks once, in its first")
    func chains() throws {
        let (soft, hard) = (try pair { _ in }, try pair())
        let frame = Frame.host(to: remoteMAC, from: hostMAC, payload: [UInt8](repeating: 9, count: 900))
        let chain = try #require(PacketBytes.chain(
            [Array(frame[..<300]), Array(frame[300...])], port: 2, pool: hard.world.packets.pointer))
        let sent = hard.world.run([chain])
        #expect(sent.count == 1 && sent.allSatisfy(\.requestsChecksum))
        #expect(sent.map(\.completed) == soft.world.run(2, frame))
        expectBalanced(hard.world)
    }

    @Test("nothing is asked for over IPv4, or where the checksum is zero")
    func nothing() throws {
        let zero = try pair { options in
            Self.offloading(&options)
            options.zeroChecksumIPv6 = true
        }
        for pair in [try pair(.v4), zero] {
            for frame in frames {
                let sent = pair.world.run(2, frame)
                #expect(sent.count == 1 && !sent.contains(where: \.requestsChecksum))
                #expect(sent.first.flatMap { OuterHeaders($0.bytes) }?.checksum == 0)
            }
            expectBalanced(pair.world)
        }
    }

    @Test("flooded copies have right checksums, the last one too")
    func flooded() throws {
        let pair = try pair()
        let other = try pair.world.addVTEP(Family.v6.remote(3))
        try pair.world.setFlood(circuits: [pair.circuit], tunnels: [pair.tunnel, other])
        let frame = Frame.host(to: .broadcast, from: hostMAC)
        let sent = pair.world.run(2, frame)
        #expect(sent.count == 2)
        for copy in sent {
            #expect(OuterHeaders(copy.completed.bytes)?.inner == frame)
        }
        expectBalanced(pair.world)
    }
}
