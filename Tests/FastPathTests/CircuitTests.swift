// Attachment circuits: VLAN tags, source checks, split horizon, size.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Circuits") struct CircuitTests {
    @Test("a circuit's tag is popped on the way in and pushed on the way out")
    func popAndPush() throws {
        let world = try World()
        let tagged = try world.addCircuit(port: 2, vlan: 20)
        let other = try world.addCircuit(port: 3, vlan: 4094)
        let plain = try world.addCircuit(port: 4)
        try world.addMAC(hostMAC, .circuit(tagged))
        try world.addMAC(otherMAC, .circuit(other))
        try world.addMAC(remoteMAC, .circuit(plain))
        let frame = Frame.host(to: otherMAC, from: hostMAC)
        expectFrame(
            world.run(2, Frame.tagged(20, priority: 5, frame)).first, port: 3, Frame.tagged(4094, frame))
        let toPlain = Frame.host(to: remoteMAC, from: hostMAC)
        expectFrame(world.run(2, Frame.tagged(20, toPlain)).first, port: 4, toPlain)
        let toTagged = Frame.host(to: hostMAC, from: remoteMAC)
        expectFrame(world.run(4, toTagged).first, port: 2, Frame.tagged(20, toTagged))
        expectBalanced(world)
    }

    @Test("a tag goes over the tunnel's ends: popped before, pushed behind", arguments: Family.allCases)
    func overTunnel(family: Family) throws {
        let world = try World()
        let circuit = try world.addCircuit(port: 2, vlan: 20)
        let tunnel = try world.addVTEP(family.remote())
        try world.addMAC(hostMAC, .circuit(circuit))
        try world.addMAC(remoteMAC, .tunnel(tunnel))
        let out = Frame.host(to: remoteMAC, from: hostMAC)
        let sent = world.run(2, Frame.tagged(20, out)).first
        #expect(sent.flatMap { OuterHeaders($0.bytes) }?.inner == out)
        let back = Frame.host(to: hostMAC, from: remoteMAC)
        expectFrame(world.run(0, family.vxlan().frame(back)).first, port: 2, Frame.tagged(20, back))
        expectBalanced(world)
    }

    @Test("VID 0 is a priority tag: the frame belongs to the untagged circuit, without the tag")
    func priorityTag() throws {
        let pair = try Pair()
        let frame = Frame.host(to: remoteMAC, from: hostMAC)
        let sent = pair.world.run(2, Frame.tagged(0, priority: 6, frame)).first
        #expect(sent.flatMap { OuterHeaders($0.bytes) }?.inner == frame)
        expectBalanced(pair.world)
    }

    @Test("other tags are kept: a second 802.1Q tag, and 802.1ad")
    func otherTags() throws {
        let world = try World()
        let tagged = try world.addCircuit(port: 2, vlan: 20)
        let plain = try world.addCircuit(port: 3)
        try world.addMAC(hostMAC, .circuit(tagged))
        try world.addMAC(otherMAC, .circuit(plain))
        let inner = Frame.tagged(77, Frame.host(to: otherMAC, from: hostMAC))
        expectFrame(world.run(2, Frame.tagged(20, inner)).first, port: 3, inner)
        let service = Frame.tagged(20, tpid: 0x88A8, Frame.host(to: hostMAC, from: otherMAC))
        expectFrame(world.run(3, service).first, port: 2, Frame.tagged(20, service))
        expectBalanced(world)
    }

    @Test("where no circuit is untagged, untagged frames and other VLANs are dropped")
    func unknownVLAN() throws {
        let world = try World()
        try world.addCircuit(port: 2, vlan: 20)
        try world.addCircuit(port: 3)
        let frame = Frame.host(to: otherMAC, from: hostMAC)
        #expect(world.run(2, Frame.tagged(21, frame)).isEmpty)
        #expect(world.run(2, frame).isEmpty)
        #expect(world.drops == [.unknownVLAN: 2])
        expectBalanced(world)
    }

    @Test("an untagged circuit carries tags that no circuit of its port claims, and keeps them")
    func unclaimedTags() throws {
        let world = try World()
        let plain = try world.addCircuit(port: 3)
        try world.addCircuit(port: 3, vlan: 40)
        let tagged = try world.addCircuit(port: 2, vlan: 20)
        try world.addMAC(hostMAC, .circuit(plain))
        try world.addMAC(otherMAC, .circuit(tagged))
        let there = Frame.tagged(30, Frame.host(to: otherMAC, from: hostMAC))
        expectFrame(world.run(3, there).first, port: 2, Frame.tagged(20, there))
        let back = Frame.tagged(30, Frame.host(to: hostMAC, from: otherMAC))
        expectFrame(world.run(2, Frame.tagged(20, back)).first, port: 3, back)
        expectBalanced(world)
    }

    @Test("a port without a role, and one that does not exist, drop what they receive")
    func unknownPort() throws {
        let world = try World()
        try world.addPort(5, role: .unused)
        let frame = Frame.host(to: otherMAC, from: hostMAC)
        #expect(world.run([(5, frame), (900, frame), (65_000, frame)]).isEmpty)
        #expect(world.drops == [.unknownPort: 3])
        expectBalanced(world)
    }

    @Test("sources that no host may have are dropped and not learned")
    func sources() throws {
        var options = World.Options()
        options.gateway = MACAddress(0, 0xF3, 0, 0, 0, 0x6F)
        let pair = try Pair(.v4, options)
        let world = pair.world
        #expect(world.run(2, Frame.host(to: remoteMAC, from: .broadcast)).isEmpty)
        #expect(world.run(2, Frame.host(to: remoteMAC, from: MACAddress(3, 0, 0, 0, 0, 1))).isEmpty)
        #expect(world.run(2, Frame.host(to: remoteMAC, from: .zero)).isEmpty)
        #expect(world.run(2, Frame.host(to: remoteMAC, from: MACAddress(0, 0xF3, 0, 0, 0, 0x6F))).isEmpty)
        #expect(world.drops == [.multicastSource: 2, .zeroSource: 1, .gatewaySourceMAC: 1])
        #expect(world.learned.isEmpty)
        expectBalanced(world)
    }

    @Test("a frame for the MAC's own circuit is dropped")
    func sameCircuit() throws {
        let pair = try Pair()
        try pair.world.addMAC(otherMAC, .circuit(pair.circuit))
        #expect(pair.world.run(2, Frame.host(to: otherMAC, from: hostMAC)).isEmpty)
        #expect(pair.world.drops == [.sameCircuit: 1])
        expectBalanced(pair.world)
    }

    @Test("a frame from a tunnel to a MAC behind a tunnel is dropped (split horizon)",
        arguments: Family.allCases)
    func splitHorizon(family: Family) throws {
        let pair = try Pair(family)
        let frame = Frame.host(to: remoteMAC, from: MACAddress(2, 0xBB, 0, 0, 0, 9))
        #expect(pair.world.run(0, family.vxlan().frame(frame)).isEmpty)
        #expect(pair.world.drops == [.splitHorizon: 1])
        expectBalanced(pair.world)
    }

    @Test("a frame for the gateway is dropped where the domain does not route")
    func noRouting() throws {
        let gateway = MACAddress(0, 0xF3, 0, 0, 0, 0x6F)
        var options = World.Options()
        options.gateway = gateway
        let pair = try Pair(.v4, options)
        try pair.world.addMAC(gateway, .gateway)
        #expect(pair.world.run(2, Frame.host(to: gateway, from: hostMAC)).isEmpty)
        #expect(pair.world.drops == [.noRouting: 1])
        expectBalanced(pair.world)
    }

    @Test("the MTU counts the layer 3 packet: two tags may come on top, a byte more may not")
    func size() throws {
        let world = try World()
        let big = try world.addCircuit(port: 2, mtu: 9000)
        let small = try world.addCircuit(port: 3, vlan: 7, mtu: 1500)
        try world.addMAC(hostMAC, .circuit(big))
        try world.addMAC(otherMAC, .circuit(small))
        let ok = Frame.ethernet(
            to: otherMAC, from: hostMAC, type: 0x1234, [UInt8](repeating: 1, count: 1500))
        expectFrame(world.run(2, ok).first, port: 3, Frame.tagged(7, ok))
        let tagged = Frame.tagged(5, tpid: 0x88A8, ok)
        expectFrame(world.run(2, tagged).first, port: 3, Frame.tagged(7, tagged))
        #expect(world.run(2, ok + [0]).isEmpty)
        #expect(world.run(2, tagged + [0]).isEmpty)
        #expect(world.drops == [.oversized: 2])
        expectBalanced(world)
    }

    @Test("learning: a new or moved source is reported once a round, a known one is marked")
    func learning() throws {
        let pair = try Pair()
        let world = pair.world
        let new = MACAddress(2, 0xAA, 0, 0, 0, 9)
        let frames = [UInt16](repeating: 2, count: 40).map { ($0, Frame.host(to: remoteMAC, from: new)) }
        _ = world.run(frames)
        let event = LearnEvent(mac: new, domain: world.domain, circuit: pair.circuit)
        #expect(world.learned == [event])
        _ = world.run(frames)
        #expect(world.learned.isEmpty)
        world.worker.advanceStamp()
        _ = world.run(frames)
        #expect(world.learned == [event])
        #expect(world.total(.learned) == 2)
        // Moved from a tunnel; moved from another circuit.
        world.worker.advanceStamp()
        _ = world.run(2, Frame.host(to: remoteMAC, from: remoteMAC))
        #expect(world.learned.map(\.mac) == [remoteMAC])
        try world.addCircuit(port: 3)
        _ = world.run(3, Frame.host(to: remoteMAC, from: hostMAC))
        #expect(world.learned.map(\.mac) == [hostMAC])
        // Known: marked in this period, no report.
        let slot = try #require(world.tables.slot(domain: world.domain, hostMAC))
        let period = world.tables.learning.currentPeriod
        #expect(!world.tables.learning.wasSeen(slot: slot, inPeriod: period))
        _ = world.run(2, Frame.host(to: remoteMAC, from: hostMAC))
        #expect(world.tables.learning.wasSeen(slot: slot, inPeriod: period))
        #expect(world.learned.isEmpty)
        expectBalanced(world)
    }

    @Test("a sticky MAC that shows up elsewhere is not reported, its frames pass")
    func sticky() throws {
        let pair = try Pair()
        let sticky = MACAddress(2, 0xAA, 0, 0, 0, 9)
        try pair.world.addMAC(sticky, .tunnel(pair.tunnel, sticky: true))
        let sent = pair.world.run(2, Frame.host(to: remoteMAC, from: sticky))
        #expect(sent.count == 1)
        #expect(pair.world.learned.isEmpty)
        expectBalanced(pair.world)
    }

    @Test("a full learn ring loses reports, counts them, and the next round brings them again")
    func learnRingFull() throws {
        let pair = try Pair()
        let world = pair.world
        var frames: [(port: UInt16, bytes: [UInt8])] = []
        for number in 0..<(TableLimits.learnRing + 10) {
            let mac = MACAddress(2, 0xCC, 0, UInt8(number >> 16), UInt8(number >> 8 & 255), UInt8(number & 255))
            frames.append((2, Frame.host(to: remoteMAC, from: mac)))
        }
        for start in stride(from: 0, to: frames.count, by: 256) {
            _ = world.run(Array(frames[start..<min(start + 256, frames.count)]))
        }
        #expect(world.total(.learned) == UInt64(TableLimits.learnRing))
        #expect(world.total(.learnRingFull) == 10)
        #expect(world.learned.count == TableLimits.learnRing)
        world.worker.advanceStamp()
        _ = world.run(frames.suffix(10))
        #expect(world.learned.count == 10)
        expectBalanced(world)
    }

    @Test("an entry that is younger than the snapshot's circuits floods instead of going astray")
    func youngEntry() throws {
        let pair = try Pair()
        // The domain of another VNI: its circuit's index must not lead our frame there.
        let foreign = try pair.world.tables.addDomain(
            BridgeDomain(vni: try #require(VNI(111)), vxlanPort: 4789))
        let circuit = try pair.world.addCircuit(port: 5, domain: foreign)
        try pair.world.addMAC(otherMAC, .circuit(circuit))
        let sent = pair.world.run(2, Frame.host(to: otherMAC, from: hostMAC))
        #expect(sent.map(\.port) == [World.underlayPort])
        expectBalanced(pair.world)
    }
}
