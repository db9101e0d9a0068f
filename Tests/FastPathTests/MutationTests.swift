// Frames that were right and then were not: whatever the bytes are, every packet ends once.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Random mutations") struct MutationTests {
    /// A world with everything in it, and valid frames for each way through it.
    struct Zoo {
        let world: World
        let frames: [(port: UInt16, bytes: [UInt8])]

        init() throws {
            world = try World()
            let circuits = [
                try world.addCircuit(port: 2, partner: 9), try world.addCircuit(port: 3, vlan: 20),
                try world.addCircuit(port: 3, vlan: 30, mtu: 1500),
            ]
            try world.addPort(9, role: .exception, partner: 2)
            let tunnels = [
                try world.addVTEP(Family.v4.remote(), paths: 2), try world.addVTEP(Family.v6.remote()),
                try world.addVTEP(Family.v4.remote(9)),
            ]
            world.tables.setPaths(tunnel: tunnels[2], [], unusable: .unresolvedNextHop)
            try world.setFlood(circuits: circuits, tunnels: tunnels)
            try world.addMAC(hostMAC, .circuit(circuits[0]))
            try world.addMAC(otherMAC, .circuit(circuits[1]))
            try world.addMAC(remoteMAC, .tunnel(tunnels[0]))
            let far = MACAddress(2, 0xBB, 0, 0, 0, 2)
            try world.addMAC(far, .tunnel(tunnels[1]))
            var checked = Family.v4.vxlan()
            checked.hasChecksum = true
            var options = Family.v4.vxlan()
            options.ipv4.options = [1, 1, 1, 1, 1, 1, 1, 1]
            var extended = Family.v6.vxlan()
            extended.extensions = (0, [60, 0, 1, 4, 0, 0, 0, 0] + [17, 1] + [UInt8](repeating: 0, count: 14))
            let down = Frame.host(to: hostMAC, from: remoteMAC)
            let downTagged = Frame.host(to: otherMAC, from: remoteMAC, payload: Array(0..<200))
            frames = [
                (0, Family.v4.vxlan().frame(down)), (0, Family.v6.vxlan().frame(downTagged)),
                (0, checked.frame(downTagged)), (0, options.frame(down)), (0, extended.frame(down)),
                (0, Family.v4.vxlan().frame(Frame.host(to: .broadcast, from: far))),
                (0, HostTests.others[1].bytes), (World.tap, HostTests.others[0].bytes),
                (2, Frame.host(to: remoteMAC, from: hostMAC)),
                (2, Frame.host(to: far, from: hostMAC, payload: Array(0..<99))),
                (2, Frame.host(to: .broadcast, from: hostMAC)),
                (3, Frame.tagged(20, Frame.host(to: hostMAC, from: otherMAC))),
                (3, Frame.tagged(30, Frame.tagged(7, Frame.host(to: far, from: otherMAC)))),
            ]
        }
    }

    static func mutate(_ bytes: [UInt8], _ random: inout SeededRandom) -> [UInt8] {
        var result = bytes
        for _ in 0..<Int.random(in: 0...3, using: &random) where !result.isEmpty {
            let at = Int.random(in: 0..<result.count, using: &random)
            switch Int.random(in: 0..<6, using: &random) {
            case 0: result[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: result[at] = [0, 0xFF, 0x7F, 0x80].randomElement(using: &random) ?? 0
            case 2: result.removeLast(Int.random(in: 0..<min(80, result.count), using: &random))
            case 3: result += random.bytes(Int.random(in: 0..<40, using: &random))
            case 4: result.insert(contentsOf: random.bytes(4), at: at)
            default: result.removeSubrange(at..<min(result.count, at + 4))
            }
        }
        return result
    }

    @Test("no mutated frame is lost, leaks a buffer or stops the worker", arguments: UInt64(1)...24)
    func mutations(seed: UInt64) throws {
        let zoo = try Zoo()
        var random = SeededRandom(seed: seed)
        for _ in 0..<40 {
            var burst: [MBuf] = []
            for _ in 0..<Int.random(in: 1...40, using: &random) {
                guard let original = zoo.frames.randomElement(using: &random) else { continue }
                let bytes = Self.mutate(original.bytes, &random)
                let port = Int.random(in: 0..<20, using: &random) == 0
                    ? UInt16.random(in: 0..<12, using: &random) : original.port
                var parts: [[UInt8]] = []
                var rest = bytes[...]
                while Int.random(in: 0..<4, using: &random) == 0 {
                    let count = Int.random(in: 0...rest.count, using: &random)
                    parts.append(Array(rest.prefix(count)))
                    rest = rest.dropFirst(count)
                }
                parts.append(Array(rest))
                let pool = zoo.world.packets.pointer
                if let mbuf = PacketBytes.chain(parts, port: port, pool: pool) { burst.append(mbuf) }
            }
            for sent in zoo.world.run(burst) where sent.port == 0 && sent.bytes.count > 70 {
                // What leaves encapsulated is well formed, whatever is inside.
                let isOurs = sent.bytes[6..<12].elementsEqual(World.underlayMAC.bytes)
                if isOurs, OuterHeaders(sent.bytes) == nil {
                    // A wrong inner checksum makes the outer one wrong (local checksum offload).
                    if sent.bytes[12] == 0x86 { continue }
                    Issue.record("seed \(seed): \(FrameSummary.text(of: sent.bytes))")
                }
            }
            if let fault = zoo.world.imbalance {
                Issue.record("seed \(seed): \(fault)")
                return
            }
        }
        #expect(zoo.world.total(.sent) > 100)
        #expect(zoo.world.drops.count > 5)
    }

    @Test("frames of random bytes on every port", arguments: UInt64(100)...103)
    func noise(seed: UInt64) throws {
        let zoo = try Zoo()
        var random = SeededRandom(seed: seed)
        for _ in 0..<50 {
            let frames = (0..<32).map { _ in
                (port: UInt16.random(in: 0..<10, using: &random),
                    bytes: random.bytes(Int.random(in: 0..<200, using: &random)))
            }
            _ = zoo.world.run(frames)
            if let fault = zoo.world.imbalance {
                Issue.record("seed \(seed): \(fault)")
                return
            }
        }
    }
}
