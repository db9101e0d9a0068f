// A PE with something of everything, and a valid frame for each way through it.

import FastPath
import Tables
import TestSupport
import Wire

struct Zoo {
    let world: World
    let routing: RoutedZoo
    private static let host = MACAddress(2, 0xAA, 0, 0, 0, 1)
    private static let other = MACAddress(2, 0xAA, 0, 0, 0, 2)
    private static let remote = MACAddress(2, 0xBB, 0, 0, 0, 1)
    private static let far = MACAddress(2, 0xBB, 0, 0, 0, 2)
    private static let gateway = MACAddress(0, 0xF3, 0, 0, 0, 0x6F)

    private static func vtep4(_ number: UInt32) -> IPAddress { .v4(IPv4Address(rawValue: 0x6441_0000 + number)) }
    private static func vtep6(_ number: UInt64) -> IPAddress { .v6(IPv6Address(high: 0xFD00_0065 << 32, low: number)) }

    init() throws {
        var options = World.Options()
        options.gateway = Self.gateway
        options.packetCount = 1023
        world = try World(options)
        let circuits = [
            try world.addCircuit(port: 2, partner: 9), try world.addCircuit(port: 3, vlan: 20),
            try world.addCircuit(port: 3, vlan: 30, mtu: 1500), try world.addCircuit(port: 4, mtu: 100),
        ]
        try world.addPort(9, role: .exception, partner: 2)
        let tunnels = [
            try world.addVTEP(Self.vtep4(2), paths: 2), try world.addVTEP(Self.vtep6(2)),
            try world.addVTEP(Self.vtep4(9)), try world.addVTEP(Self.vtep4(10), isMember: false),
        ]
        world.tables.setPaths(tunnel: tunnels[2], [], unusable: .unresolvedNextHop)
        try world.setFlood(circuits: circuits, tunnels: Array(tunnels[0..<3]))
        try world.addMAC(Self.host, .circuit(circuits[0]))
        try world.addMAC(Self.other, .circuit(circuits[1]))
        try world.addMAC(MACAddress(2, 0xAA, 0, 0, 0, 3), .circuit(circuits[3]))
        try world.addMAC(Self.remote, .tunnel(tunnels[0]))
        try world.addMAC(Self.far, .tunnel(tunnels[1]))
        try world.addMAC(MACAddress(2, 0xBB, 0, 0, 0, 3), .tunnel(tunnels[2], sticky: true))
        try world.addMAC(Self.gateway, .gateway)
        // A second domain, on another UDP port, that takes any VTEP's packets.
        if let vni = VNI(111) {
            let domain = try world.tables.addDomain(
                BridgeDomain(vni: vni, vxlanPort: 4790, flags: .acceptUnknownVTEP))
            let circuit = try world.addCircuit(port: 5, domain: domain)
            try world.setFlood(circuits: [circuit], tunnels: [tunnels[0]], domain: domain)
        }
        routing = try RoutedZoo(world, tunnels: tunnels)
        world.tables.publish()
    }

    /// Frames of which parts may lie in other buffers.
    static var longFrames: [(port: UInt8, bytes: [UInt8])] {
        let payload = [UInt8](repeating: 0xA5, count: 900)
        var v4 = Frame.VXLAN(from: vtep4(2), to: World.local4, vni: 110)
        let v6 = Frame.VXLAN(from: vtep6(2), to: World.local6, vni: 110)
        v4.hasChecksum = true
        return [
            (0, v4.frame(Frame.host(to: host, from: remote, payload: payload))),
            (0, v6.frame(Frame.host(to: .broadcast, from: remote, payload: payload))),
            (2, Frame.host(to: far, from: host, payload: payload)),
            (2, Frame.host(to: .broadcast, from: host, payload: payload)),
            (3, Frame.tagged(20, Frame.host(to: remote, from: other, payload: payload))),
            (1, Frame.host(to: World.nextHopMAC, from: World.underlayMAC, payload: payload)),
        ]
    }

    /// Valid frames and the port that each arrives on.
    static var frames: [(port: UInt8, bytes: [UInt8])] {
        let v4 = Frame.VXLAN(from: vtep4(2), to: World.local4, vni: 110)
        let v6 = Frame.VXLAN(from: vtep6(2), to: World.local6, vni: 110)
        var checked = v4, options = v4, extended = v6, second = v4, stranger = v4
        checked.hasChecksum = true
        options.ipv4.options = [1, 1, 1, 1, 1, 1, 1, 1]
        extended.extensions = (0, [60, 0, 1, 4, 0, 0, 0, 0] + [17, 1] + [UInt8](repeating: 0, count: 14))
        second.vni = 111
        second.port = 4790
        stranger.source = vtep4(77)
        let down = Frame.host(to: host, from: remote)
        let tagged = Frame.host(to: other, from: remote, payload: Array(0..<200))
        let host4 = IPAddress.v4(Frame.hostA), host4b = IPAddress.v4(Frame.hostB)
        let host6 = IPAddress.v6(IPv6Address(high: 0xFD01 << 48, low: 1))
        let host6b = IPAddress.v6(IPv6Address(high: 0xFD01 << 48, low: 2))
        let tcp4 = Frame.ip(
            to: remote, from: host, host4, host4b, number: 6,
            Frame.tcp(from: host4, 1, to: host4b, 2, Array(0..<100)))
        let tcp6 = Frame.ip(
            to: far, from: host, host6, host6b, number: 6,
            Frame.tcp(from: host6, 1, to: host6b, 2, Array(0..<100)))
        return [
            (0, v4.frame(down)), (0, v6.frame(tagged)), (0, checked.frame(tagged)), (0, options.frame(down)),
            (0, extended.frame(down)), (0, v4.frame(Frame.host(to: .broadcast, from: far))), (0, second.frame(down)),
            (0, stranger.frame(down)), (0, v4.frame(Frame.host(to: gateway, from: remote))), (2, tcp4), (2, tcp6),
            (2, Frame.host(to: far, from: host, payload: Array(0..<99))), (2, Frame.host(to: .broadcast, from: host)),
            (2, Frame.host(to: MACAddress(2, 0xBB, 0, 0, 0, 3), from: host)),
            (2, Frame.host(to: MACAddress(2, 0xAA, 0, 0, 0, 3), from: host)),
            (2, Frame.host(to: gateway, from: host)),
            (2, Frame.host(to: MACAddress(1, 0x80, 0xC2, 0, 0, 0), from: host)),
            (3, Frame.tagged(20, Frame.host(to: host, from: other))),
            (3, Frame.tagged(30, Frame.tagged(7, Frame.host(to: far, from: other)))),
            (5, Frame.host(to: .broadcast, from: MACAddress(2, 0xCC, 0, 0, 0, 1))),
            (0, Frame.host(to: World.underlayMAC, from: World.nextHopMAC)),
            (1, Frame.host(to: World.nextHopMAC, from: World.underlayMAC)),
        ] + RoutedZoo.frames
    }
}

extension PipelineFuzz {
    /// Inputs: each valid frame alone, all in one burst, cut into buffers, and as large frames.
    public static var seeds: [[UInt8]] {
        func record(_ port: UInt8, _ flags: UInt8, _ header: [UInt8], _ bytes: [UInt8]) -> [UInt8] {
            [port, flags] + Frame.be16(bytes.count) + header + bytes
        }
        let frames = Zoo.frames
        var seeds = frames.map { record($0.port, 0, [], $0.bytes) }
        seeds += frames.map { record($0.port, 2, [], $0.bytes) }
        // Longer than what must lie together, with padding behind the packet, in up to four buffers.
        for frame in Zoo.longFrames {
            for flags in [0x11, 0x12, 0x13] as [UInt8] {
                seeds.append(record(frame.port, flags, [], frame.bytes))
                seeds.append(record(frame.port, flags, [], frame.bytes + [UInt8](repeating: 0x55, count: 300)))
            }
        }
        seeds.append(frames.flatMap { record($0.port, 0, [], $0.bytes) })
        seeds.append(frames.flatMap { record($0.port, 0x0D, [], $0.bytes) })
        // The control plane acts between bursts: packets wait, and are sent or refused.
        let waiting = frames.filter { $0.port == 2 }.suffix(48)
        for choice in stride(from: UInt8(0), to: 255, by: 5) {
            seeds.append(waiting.flatMap { record($0.port, 0, [], $0.bytes) } + record(choice, 0x24, [], []))
        }
        // Segments of 40 bytes from TCP over IPv4 and IPv6, and checksums to complete.
        for frame in frames where frame.port == 2 {
            for type in [1, 4, 5] as [UInt8] {
                seeds.append(record(2, 0x80, [1, type, 0, 54, 0, 40, 0, 34, 0, 16], frame.bytes))
            }
            seeds.append(record(2, 0x80, [1, 0, 0, 0, 0, 0, 0, 34, 0, 6], frame.bytes))
        }
        for frame in frames where frame.port == 0 {
            seeds.append(record(0, 0x80, [0, 5, 0, 92, 0, 10, 0, 0, 0, 0], frame.bytes))
        }
        return seeds
    }
}
