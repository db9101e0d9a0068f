// The host's side: what is punted to a port's exception TAP, and what comes back from it.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Exception path") struct HostTests {
    static let peer = IPAddress.v4(IPv4Address(rawValue: 0x0A00_0100))
    static let own = IPAddress.v4(IPv4Address(rawValue: 0x0A00_0101))
    static let link6 = IPAddress.v6(IPv6Address(high: 0xFE80 << 48, low: 1))

    /// Frames on an underlay port that are not VXLAN for us.
    static var others: [(name: String, bytes: [UInt8])] {
        func ip(_ from: IPAddress, _ to: IPAddress, _ number: UInt8, _ payload: [UInt8]) -> [UInt8] {
            Frame.ip(to: World.underlayMAC, from: World.nextHopMAC, from, to, number: number, payload)
        }
        func group(_ last: UInt8, type: UInt16) -> [UInt8] {
            let mac = MACAddress(1, 0x80, 0xC2, 0, 0, last)
            return Frame.ethernet(to: mac, from: World.nextHopMAC, type: type, [0xFE, 0xFE, 3])
        }
        let inner = Frame.host(to: hostMAC, from: remoteMAC)
        let vxlan = Family.v4.vxlan().frame(inner)
        var elsewhere = Family.v4.vxlan()
        elsewhere.destination = .v4(IPv4Address(rawValue: 0x6441_0063))
        var elsewhere6 = Family.v6.vxlan()
        elsewhere6.destination = Family.v6.remote(0x63)
        var otherPort = Family.v4.vxlan()
        otherPort.port = 4790
        let arp = Frame.ethernet(
            to: .broadcast, from: World.nextHopMAC, type: 0x0806, [UInt8](repeating: 0, count: 46))
        return [
            ("ARP", arp), ("BGP", ip(peer, own, 6, Frame.tcp(from: peer, 179, to: own, 4000, [1]))),
            ("BFD", ip(peer, own, 17, Frame.udp(from: peer, 49_152, to: own, 3784, [1, 2]))),
            ("ICMP", ip(peer, own, 1, [8, 0, 0, 0])),
            ("ND", ip(link6, link6, 58, [135, 0, 0, 0])),
            ("IS-IS", group(0x14, type: 40)),
            ("BGP to the endpoint",
                ip(peer, World.local4, 6, Frame.tcp(from: peer, 179, to: World.local4, 4000, []))),
            ("other UDP to the endpoint",
                ip(peer, World.local4, 17, Frame.udp(from: peer, 1, to: World.local4, 53, [1]))),
            ("VXLAN to another address", elsewhere.frame(inner)),
            ("VXLAN over IPv6 to another address", elsewhere6.frame(inner)),
            ("another UDP port", otherPort.frame(inner)),
            ("a tagged VXLAN packet", Frame.tagged(5, vxlan)),
            ("LLDP", group(0x0E, type: 0x88CC)),
        ]
    }

    @Test("what is not VXLAN for us goes to the port's exception TAP, unchanged and in order")
    func punts() throws {
        let pair = try Pair()
        let sent = pair.world.run(Self.others.map { (0, $0.bytes) })
        #expect(sent.count == Self.others.count)
        for (got, expected) in zip(sent, Self.others) {
            #expect(got.port == World.tap, "\(expected.name)")
            #expect(got.bytes == expected.bytes, "\(expected.name)")
        }
        #expect(pair.world.total(.punted) == UInt64(Self.others.count))
        #expect(pair.world.total(.sent) == 0)
        #expect(pair.world.tables.counters.total(port: 0, .punted) == UInt64(Self.others.count))
        #expect(pair.world.tables.counters.total(port: World.tap, .txPackets) == UInt64(Self.others.count))
        expectBalanced(pair.world)
    }

    @Test("what the host sends through a TAP leaves through the TAP's port, whatever it is")
    func fromHost() throws {
        let pair = try Pair()
        let sent = pair.world.run(Self.others.map { (World.tap, $0.bytes) })
        #expect(sent.map(\.bytes) == Self.others.map(\.bytes))
        #expect(sent.allSatisfy { $0.port == World.underlayPort })
        #expect(pair.world.tables.counters.total(port: 0, .fromHost) == UInt64(Self.others.count))
        #expect(pair.world.total(.sent) == UInt64(Self.others.count))
        expectBalanced(pair.world)
    }

    @Test("frames for the host leave a burst before data does")
    func ahead() throws {
        let pair = try Pair()
        let data = Frame.host(to: remoteMAC, from: hostMAC)
        let arp = Self.others[0].bytes
        let frames = (0..<30).map { $0 % 2 == 0 ? (port: UInt16(2), bytes: data) : (0, arp) }
        let ports = pair.world.run(frames).map(\.port)
        #expect(ports == [UInt16](repeating: World.tap, count: 15) + [UInt16](repeating: 0, count: 15))
        expectBalanced(pair.world)
    }

    @Test("reserved multicast on a circuit is the port's own host's, or dropped where it has none")
    func reserved() throws {
        let world = try World()
        try world.addPort(9, role: .exception, partner: 2)
        try world.addPort(2, role: .circuits, partner: 9)
        try world.addCircuit(port: 2)
        try world.addCircuit(port: 3)
        for last in UInt8(0)..<16 {
            let frame = Frame.ethernet(
                to: MACAddress(1, 0x80, 0xC2, 0, 0, last), from: hostMAC, type: 0x88CC, [UInt8](repeating: 1, count: last % 2 == 0 ? 2 : 46))
            expectFrame(world.run(2, frame).first, port: 9, frame)
            #expect(world.run(3, frame).isEmpty)
        }
        #expect(world.drops == [.reservedMulticast: 16])
        expectBalanced(world)
    }

    @Test("an underlay port without a TAP drops what is for the host")
    func noTAP() throws {
        let world = try World()
        try world.addPort(7, role: .underlay, mac: MACAddress(2, 0, 0, 0, 0, 7))
        world.tables.publish()
        #expect(world.run(7, Self.others[0].bytes).isEmpty)
        #expect(world.drops == [.noExceptionPort: 1])
        expectBalanced(world)
    }

    @Test("a TAP that is gone, and a TAP whose port is gone")
    func gone() throws {
        let pair = try Pair()
        pair.world.ports.removePort(World.tap)
        #expect(pair.world.run(0, Self.others[0].bytes).isEmpty)
        pair.world.ports.removePort(World.underlayPort)
        #expect(pair.world.run(World.tap, Self.others[0].bytes).isEmpty)
        #expect(pair.world.run(2, Frame.host(to: remoteMAC, from: hostMAC)).isEmpty)
        try pair.world.tables.setPort(World.tap, PortEntry(role: .exception))
        pair.world.tables.publish()
        #expect(pair.world.run(World.tap, Self.others[0].bytes).isEmpty)
        #expect(pair.world.drops == [.puntFailed: 1, .transmitFailed: 2, .unknownPort: 1])
        expectBalanced(pair.world)
    }

    @Test("a truncated frame of the host is dropped")
    func truncated() throws {
        let pair = try Pair()
        for count in 0..<14 {
            #expect(pair.world.run(World.tap, Array(Self.others[0].bytes[0..<count])).isEmpty)
        }
        #expect(pair.world.drops == [.truncatedFrame: 14])
        expectBalanced(pair.world)
    }

    @Test("when the host-I/O thread does not keep up, data and punts are dropped and counted apart")
    func fullRing() throws {
        var options = World.Options()
        options.txCapacity = 64
        let pair = try Pair(.v4, options)
        let data = (0..<100).map { _ in (port: UInt16(2), bytes: Frame.host(to: remoteMAC, from: hostMAC)) }
        let punts = (0..<10).map { _ in (port: UInt16(0), bytes: Self.others[0].bytes) }
        // Of 63 places data leaves an eighth to the host.
        #expect(pair.world.run(data + punts).count == 63)
        #expect(pair.world.drops == [.transmitFailed: 44, .puntFailed: 3])
        #expect(pair.world.tables.counters.total(port: 0, .txPackets) == 56)
        #expect(pair.world.tables.counters.total(port: World.tap, .txPackets) == 7)
        #expect(pair.world.tables.counters.total(port: 0, .dropped) == 44)
        expectBalanced(pair.world)
    }

    @Test("data that the host-I/O thread cannot keep up with leaves room for both of the host's ways")
    func hostHasRoom() throws {
        var options = World.Options()
        options.txCapacity = 64
        let pair = try Pair(.v4, options)
        let data = (0..<96).map { _ in (port: UInt16(2), bytes: Frame.host(to: remoteMAC, from: hostMAC)) }
        let session = Self.others[1].bytes
        let sent = pair.world.run(data + [(World.tap, session), (0, session), (World.tap, session)])
        #expect(sent.suffix(3).map(\.port) == [World.tap, 0, 0])
        #expect(sent.suffix(3).allSatisfy { $0.bytes == session })
        #expect(pair.world.drops == [.transmitFailed: 40])
        #expect(pair.world.total(.punted) == 1)
        expectBalanced(pair.world)
    }
}
