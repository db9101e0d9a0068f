// Broadcast, unknown unicast and multicast: every target once, never back, never tunnel to tunnel.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

/// A domain with untagged circuits on ports 2 and 3, tagged ones on port 4 (VLAN 20 and 30), and
/// three VTEPs.
struct Segment {
    let world: World
    let circuits: [UInt32]
    let tunnels: [UInt32]
    init(_ family: Family = .v4, _ options: World.Options = World.Options()) throws {
        let world = try World(options)
        self.world = world
        circuits = [
            try world.addCircuit(port: 2), try world.addCircuit(port: 3),
            try world.addCircuit(port: 4, vlan: 20), try world.addCircuit(port: 4, vlan: 30),
        ]
        tunnels = try (2...4).map { try world.addVTEP(family.remote($0)) }
        try world.setFlood(circuits: circuits, tunnels: tunnels)
    }
}

@Suite("Flooding, RFC 8365") struct FloodTests {
    static let destinations = [
        MACAddress.broadcast, MACAddress(0x01, 0, 0x5E, 0, 0, 5), MACAddress(2, 9, 9, 9, 9, 9),
    ]

    @Test("a BUM frame from a circuit reaches every other circuit and every VTEP once",
        arguments: Family.allCases, destinations)
    func fromCircuit(family: Family, destination: MACAddress) throws {
        let segment = try Segment(family)
        let frame = Frame.host(to: destination, from: hostMAC)
        let sent = segment.world.run(2, frame)
        #expect(sent.count == 6)
        expectFrame(sent.first { $0.port == 3 }, port: 3, frame)
        let tagged = sent.filter { $0.port == 4 }.map(\.bytes)
        #expect(tagged == [Frame.tagged(20, frame), Frame.tagged(30, frame)])
        let outer = sent.filter { $0.port == 0 }.compactMap { OuterHeaders($0.bytes) }
        #expect(outer.map(\.destination) == (2...4).map { family.remote($0) })
        #expect(outer.allSatisfy { $0.inner == frame && $0.vni == 110 })
        #expect(Set(outer.map(\.sourcePort)).count == 1)
        #expect(segment.world.total(.received) == 1)
        #expect(segment.world.total(.replicated) == 5)
        #expect(segment.world.total(.sent) == 6)
        expectBalanced(segment.world)
    }

    @Test("a BUM frame from a tunnel reaches every circuit and no tunnel", arguments: Family.allCases)
    func fromTunnel(family: Family) throws {
        let segment = try Segment(family)
        let frame = Frame.host(to: .broadcast, from: remoteMAC)
        let sent = segment.world.run(0, family.vxlan().frame(frame))
        #expect(sent.map(\.port).sorted() == [2, 3, 4, 4])
        for one in sent where one.port != 4 { #expect(one.bytes == frame) }
        #expect(sent.filter { $0.port == 4 }.map(\.bytes)
            == [Frame.tagged(20, frame), Frame.tagged(30, frame)])
        expectBalanced(segment.world)
    }

    @Test("a frame from one VLAN of a port reaches the other VLAN of the same port, not its own")
    func samePort() throws {
        let segment = try Segment()
        let frame = Frame.host(to: .broadcast, from: hostMAC)
        let sent = segment.world.run(4, Frame.tagged(20, frame))
        #expect(sent.filter { $0.port == 4 }.map(\.bytes) == [Frame.tagged(30, frame)])
        #expect(sent.count == 6)
        expectBalanced(segment.world)
    }

    @Test("with nobody to flood to, the frame is dropped for that reason")
    func noTarget() throws {
        let world = try World()
        let circuit = try world.addCircuit(port: 2)
        let frame = Frame.host(to: .broadcast, from: hostMAC)
        #expect(world.run(2, frame).isEmpty)
        try world.setFlood(circuits: [circuit], tunnels: [])
        #expect(world.run(2, frame).isEmpty)
        let tunnel = try world.addVTEP(Family.v4.remote())
        try world.setFlood(circuits: [], tunnels: [tunnel])
        #expect(world.run(0, Family.v4.vxlan().frame(frame)).isEmpty)
        #expect(world.drops == [.noFloodTarget: 3])
        #expect(world.total(.replicated) == 0)
        expectBalanced(world)
    }

    @Test("one target gets the packet itself: no copy is made")
    func oneTarget() throws {
        let pair = try Pair()
        let frame = Frame.host(to: .broadcast, from: hostMAC)
        let mbuf = try #require(PacketBytes.make(frame, port: 2, pool: pair.world.packets.pointer))
        pair.world.worker.process([mbuf])
        let sent = pair.world.ports.takeSent()
        #expect(sent == [mbuf])
        #expect(pair.world.headers.isFull)
        pair.world.ports.free(sent)
        expectBalanced(pair.world)
    }

    @Test("a flood list as long as its limit is drained in chunks, in order, every copy whole",
        arguments: Family.allCases)
    func longList(family: Family) throws {
        let world = try World()
        let circuit = try world.addCircuit(port: 2)
        let tunnels = try (0..<700).map { try world.addVTEP(family.remote(UInt32(1000 + $0))) }
        try world.setFlood(circuits: [circuit], tunnels: tunnels)
        let frame = Frame.host(to: .broadcast, from: hostMAC, payload: [UInt8](repeating: 7, count: 60))
        let outer = world.run(2, frame).map { OuterHeaders($0.bytes) }
        #expect(outer.count == 700)
        #expect(outer.map { $0?.destination } == (0..<700).map { family.remote(UInt32(1000 + $0)) })
        #expect(outer.allSatisfy { $0?.inner == frame })
        #expect(world.total(.replicated) == 699)
        expectBalanced(world)
    }

    @Test("targets that cannot be reached are drops of their copies, the others are served")
    func partial() throws {
        let segment = try Segment()
        let world = segment.world
        world.tables.setPaths(tunnel: segment.tunnels[0], [], unusable: .unresolvedNextHop)
        // The last target of the list: the packet itself is dropped, copies are on their way.
        world.tables.setPaths(tunnel: segment.tunnels[2], [], unusable: .noUnderlayRoute)
        world.tables.publish()
        world.ports.removePort(3)
        let frame = Frame.host(to: .broadcast, from: hostMAC)
        let sent = world.run(2, frame)
        #expect(sent.map(\.port).sorted() == [0, 4, 4])
        #expect(world.drops == [.unresolvedNextHop: 1, .noUnderlayRoute: 1, .transmitFailed: 1])
        #expect(world.total(.replicated) == 5)
        expectBalanced(world)
    }

    @Test("too big for some targets: those copies are dropped, the others are served")
    func oversized() throws {
        var options = World.Options()
        options.underlayMTU = 1500
        let segment = try Segment(.v4, options)
        let payload = [UInt8](repeating: 1, count: 1472)
        let frame = Frame.host(to: .broadcast, from: hostMAC, payload: payload)
        let sent = segment.world.run(2, frame)
        #expect(sent.map(\.port).sorted() == [3, 4, 4])
        #expect(segment.world.drops == [.oversized: 3])
        expectBalanced(segment.world)
    }

    @Test("too big for a circuit's port: that copy is dropped, wherever it is in the list, the others are served")
    func oversizedCircuits() throws {
        let world = try World()
        let circuits = try [(5, 1000), (2, 1500), (6, 1500), (7, 1000)].map { port, mtu in
            try world.addCircuit(port: UInt16(port), mtu: UInt16(mtu))
        }
        try world.setFlood(circuits: circuits, tunnels: [])
        let frame = Frame.host(to: .broadcast, from: hostMAC, payload: [UInt8](repeating: 1, count: 1200))
        #expect(world.run(2, frame).map(\.port) == [6])
        #expect(world.drops == [.oversized: 2])
        expectBalanced(world)
    }

    @Test("without buffers for copies the copies are dropped and nothing leaks")
    func noBuffers() throws {
        var options = World.Options()
        options.headerCount = 7
        let segment = try Segment(.v4, options)
        let frames = (0..<20).map { _ in (port: UInt16(2), bytes: Frame.host(to: .broadcast, from: hostMAC)) }
        let sent = segment.world.run(frames)
        // The last target needs no buffer.
        #expect(sent.count >= 20)
        #expect((segment.world.drops[.noBuffer] ?? 0) > 0)
        expectBalanced(segment.world)
    }

    @Test("a port that takes no chains gets each copy in one piece", arguments: Family.allCases)
    func linear(family: Family) throws {
        var options = World.Options()
        options.features = []
        let segment = try Segment(family, options)
        let frame = Frame.host(to: .broadcast, from: hostMAC)
        let mbuf = try #require(
            PacketBytes.make(frame, port: 2, pool: segment.world.packets.pointer))
        segment.world.worker.process([mbuf])
        let sent = segment.world.ports.takeSent()
        #expect(sent.count == 6)
        #expect(sent.allSatisfy { $0.pointee.nb_segs == 1 })
        let outer = sent.filter { $0.pointee.port == 0 }.map { OuterHeaders(PacketBytes.of($0)) }
        #expect(outer.count == 3)
        #expect(outer.allSatisfy { $0?.inner == frame })
        segment.world.ports.free(sent)
        expectBalanced(segment.world)
    }

    @Test("a burst of floods: every frame reaches every target")
    func burst() throws {
        let segment = try Segment()
        let frames = (0..<32).map { number in
            (port: UInt16(2),
                bytes: Frame.host(to: .broadcast, from: hostMAC, sourcePort: UInt16(number)))
        }
        let sent = segment.world.run(frames)
        #expect(sent.count == 32 * 6)
        let expected = Set(frames.map(\.bytes))
        #expect(Set(sent.filter { $0.port == 3 }.map(\.bytes)) == expected)
        let inner = sent.filter { $0.port == 0 }.compactMap { OuterHeaders($0.bytes)?.inner }
        #expect(inner.count == 96)
        #expect(Set(inner) == expected)
        expectBalanced(segment.world)
    }
}
