// Known unicast in every direction: what leaves, through which port, with which headers.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Known unicast") struct UnicastTests {
    @Test("a frame from a circuit to a remote MAC is encapsulated", arguments: Family.allCases)
    func encapsulates(family: Family) throws {
        let pair = try Pair(family)
        let frame = Frame.host(to: remoteMAC, from: hostMAC)
        let sent = pair.world.run(2, frame)
        #expect(sent.count == 1)
        #expect(sent.first?.port == World.underlayPort)
        let outer = try #require(sent.first.flatMap { OuterHeaders($0.bytes) })
        #expect(outer.destinationMAC == World.nextHopMAC)
        #expect(outer.sourceMAC == World.underlayMAC)
        #expect(outer.source == family.local)
        #expect(outer.destination == family.remote())
        #expect(outer.port == 4789)
        #expect(outer.vni == 110)
        #expect(outer.timeToLive == 64)
        #expect(outer.sourcePort >= 49_152)
        #expect((outer.checksum == 0) == (family == .v4))
        #expect(outer.inner == frame)
        expectBalanced(pair.world)
    }

    @Test("a frame from a tunnel to a local MAC is decapsulated", arguments: Family.allCases)
    func decapsulates(family: Family) throws {
        let pair = try Pair(family)
        let frame = Frame.host(to: hostMAC, from: remoteMAC)
        let sent = pair.world.run(0, family.vxlan().frame(frame))
        #expect(sent.count == 1)
        expectFrame(sent.first, port: 2, frame)
        #expect(pair.world.learned.isEmpty)
        expectBalanced(pair.world)
    }

    @Test("a frame from a circuit to another circuit's MAC stays as it is")
    func bridges() throws {
        let pair = try Pair()
        let second = try pair.world.addCircuit(port: 3)
        try pair.world.addMAC(otherMAC, .circuit(second))
        let frame = Frame.host(to: otherMAC, from: hostMAC)
        let sent = pair.world.run(2, frame)
        #expect(sent.count == 1)
        expectFrame(sent.first, port: 3, frame)
        expectBalanced(pair.world)
    }

    @Test("reserved bits and other flags are ignored on receipt (RFC 7348 section 5)")
    func reservedBits() throws {
        let pair = try Pair()
        let frame = Frame.host(to: hostMAC, from: remoteMAC)
        var vxlan = Family.v4.vxlan()
        vxlan.flags = 0xFF
        var bytes = vxlan.frame(frame)
        for offset in [43, 44, 45, 49] { bytes[offset] = 0xFF }
        expectFrame(pair.world.run(0, bytes).first, port: 2, frame)
        expectBalanced(pair.world)
    }

    @Test("another VXLAN port is used when it is configured, both ways")
    func otherPort() throws {
        var options = World.Options()
        options.vxlanPort = 8472
        let pair = try Pair(.v4, options)
        let outer = pair.world.run(2, Frame.host(to: remoteMAC, from: hostMAC)).first
            .flatMap { OuterHeaders($0.bytes) }
        #expect(outer?.port == 8472)
        var vxlan = Family.v4.vxlan()
        vxlan.port = 8472
        let frame = Frame.host(to: hostMAC, from: remoteMAC)
        expectFrame(pair.world.run(0, vxlan.frame(frame)).first, port: 2, frame)
        vxlan.port = 4789
        #expect(pair.world.run(0, vxlan.frame(frame)).isEmpty)
        #expect(pair.world.drops == [.wrongVXLANPort: 1])
        expectBalanced(pair.world)
    }

    @Test("IPv4 options and IPv6 extension headers before UDP are walked over")
    func options() throws {
        let frame = Frame.host(to: hostMAC, from: remoteMAC)
        let v4 = try Pair(.v4)
        for count in [4, 8, 40] {
            var vxlan = Family.v4.vxlan()
            vxlan.ipv4.options = [UInt8](repeating: 1, count: count)
            expectFrame(v4.world.run(0, vxlan.frame(frame)).first, port: 2, frame)
        }
        expectBalanced(v4.world)
        let v6 = try Pair(.v6)
        var vxlan = Family.v6.vxlan()
        // Hop-by-hop of 8 bytes, destination options of 16.
        let hopByHop: [UInt8] = [60, 0, 1, 4, 0, 0, 0, 0]
        let destination: [UInt8] = [17, 1, 1, 12] + [UInt8](repeating: 0, count: 12)
        vxlan.extensions = (0, hopByHop + destination)
        expectFrame(v6.world.run(0, vxlan.frame(frame)).first, port: 2, frame)
        // An atomic fragment (RFC 6946) is a whole packet.
        vxlan.extensions = (44, [17, 0, 0, 0, 0, 0, 0, 1])
        expectFrame(v6.world.run(0, vxlan.frame(frame)).first, port: 2, frame)
        expectBalanced(v6.world)
    }

    @Test("bytes behind the IP packet are not part of the inner frame", arguments: Family.allCases)
    func padding(family: Family) throws {
        let pair = try Pair(family)
        let frame = Frame.host(to: hostMAC, from: remoteMAC)
        for count in [1, 7, 64] {
            let padded = family.vxlan().frame(frame) + [UInt8](repeating: 0xEE, count: count)
            expectFrame(pair.world.run(0, padded).first, port: 2, frame)
        }
        expectBalanced(pair.world)
    }

    @Test("a burst of mixed packets goes where each belongs, in order within a port")
    func mixed() throws {
        let pair = try Pair()
        let second = try pair.world.addCircuit(port: 3)
        try pair.world.addMAC(otherMAC, .circuit(second))
        var frames: [(port: UInt16, bytes: [UInt8])] = []
        for number in 0..<100 {
            let payload = [UInt8](repeating: UInt8(number), count: 20)
            switch number % 3 {
            case 0: frames.append((2, Frame.host(to: remoteMAC, from: hostMAC, payload: payload)))
            case 1:
                let inner = Frame.host(to: hostMAC, from: remoteMAC, payload: payload)
                frames.append((0, Family.v4.vxlan().frame(inner)))
            default: frames.append((2, Frame.host(to: otherMAC, from: hostMAC, payload: payload)))
            }
        }
        let sent = pair.world.run(frames)
        #expect(sent.count == 100)
        for (port, first) in [(UInt16(0), 0), (2, 1), (3, 2)] {
            let numbers = sent.filter { $0.port == port }.map { Int($0.bytes.last ?? 0) }
            #expect(numbers == Array(stride(from: first, to: 100, by: 3)))
        }
        expectBalanced(pair.world)
    }

    @Test("counters: ports, domain and totals say what happened")
    func counters() throws {
        let pair = try Pair()
        let counters = pair.world.tables.counters
        let out = Frame.host(to: remoteMAC, from: hostMAC)
        let back = Frame.host(to: hostMAC, from: remoteMAC, payload: Array(0..<100))
        _ = pair.world.run([(2, out), (2, out), (0, Family.v4.vxlan().frame(back))])
        let domain = pair.world.domain
        #expect(counters.total(domain: domain, .circuitInPackets) == 2)
        #expect(counters.total(domain: domain, .circuitInBytes) == UInt64(2 * out.count))
        #expect(counters.total(domain: domain, .tunnelOutPackets) == 2)
        #expect(counters.total(domain: domain, .tunnelOutBytes) == UInt64(2 * out.count))
        #expect(counters.total(domain: domain, .tunnelInPackets) == 1)
        #expect(counters.total(domain: domain, .tunnelInBytes) == UInt64(back.count))
        #expect(counters.total(domain: domain, .circuitOutPackets) == 1)
        #expect(counters.total(domain: domain, .circuitOutBytes) == UInt64(back.count))
        #expect(counters.total(port: 2, .rxPackets) == 2)
        #expect(counters.total(port: 2, .rxBytes) == UInt64(2 * out.count))
        #expect(counters.total(port: 2, .txPackets) == 1)
        #expect(counters.total(port: 2, .txBytes) == UInt64(back.count))
        #expect(counters.total(port: 0, .rxPackets) == 1)
        #expect(counters.total(port: 0, .rxBytes) == UInt64(back.count + 50))
        #expect(counters.total(port: 0, .txPackets) == 2)
        #expect(counters.total(port: 0, .txBytes) == UInt64(2 * (out.count + 50)))
        #expect(pair.world.total(.received) == 3)
        #expect(pair.world.total(.sent) == 3)
        expectBalanced(pair.world)
    }

    @Test("the worker's own loop takes frames from its rings, the host's first")
    func loop() throws {
        let pair = try Pair()
        let frame = Frame.host(to: remoteMAC, from: hostMAC)
        let bgp = Frame.ethernet(
            to: World.nextHopMAC, from: World.underlayMAC, type: 0x0806, [UInt8](repeating: 1, count: 46))
        let data = try #require(
            PacketBytes.make(frame, port: 2, pool: pair.world.packets.pointer))
        let host = try #require(
            PacketBytes.make(bgp, port: World.tap, pool: pair.world.packets.pointer))
        #expect(pair.world.ports.receive(data))
        #expect(pair.world.ports.receive(host, fromHost: true))
        #expect(pair.world.worker.pollOnce() == 2)
        let sent = pair.world.run([MBuf]())
        #expect(sent.map(\.port) == [0, 0])
        expectFrame(sent.first, port: 0, bgp)
        #expect(sent.last.flatMap { OuterHeaders($0.bytes) }?.inner == frame)
        expectBalanced(pair.world)
    }
}
