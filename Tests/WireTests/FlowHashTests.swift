// What the flow hash depends on, and what it must not depend on.

import TestSupport
import Testing
import Wire

@Suite("Flow hash") struct FlowHashTests {
    func hash(_ frame: [UInt8]) -> UInt32 {
        withBytes(frame) { FlowHash.of(frame: $0, available: frame.count) }
    }
    func flow(_ port: UInt16, payload: [UInt8] = [1, 2, 3]) -> [UInt8] {
        Frame.host(to: macB, from: macA, sourcePort: port, payload: payload)
    }

    @Test("it depends on the 5-tuple and on nothing else")
    func fiveTuple() {
        #expect(hash(flow(1)) == hash(flow(1, payload: Array(0..<99))))
        #expect(hash(flow(1)) == hash(Frame.host(to: macA, from: macB, sourcePort: 1)))
        #expect(hash(flow(1)) != hash(flow(2)))
        let (a, b) = (IPAddress.v4(Frame.hostA), IPAddress.v4(Frame.hostB))
        let forth = hash(Frame.host(to: macB, from: macA, a, b))
        let back = hash(Frame.host(to: macB, from: macA, b, a))
        #expect(forth != back)
        let segment = Frame.tcp(from: a, 1000, to: b, 2000, [])
        #expect(hash(Frame.ip(to: macB, from: macA, a, b, number: 6, segment)) != forth)
    }

    @Test("tags and IPv4 options are looked through")
    func lookedThrough() {
        let plain = flow(7)
        #expect(hash(Frame.tagged(5, plain)) == hash(plain))
        #expect(hash(Frame.tagged(9, tpid: 0x88A8, Frame.tagged(5, plain))) == hash(plain))
        let (a, b) = (Frame.hostA, Frame.hostB)
        let udp = Frame.udp(from: .v4(a), 7, to: .v4(b), 2000, [1, 2, 3])
        var options = Frame.IPv4Options()
        options.options = [1, 1, 1, 1]
        let packet = Frame.ipv4(from: a, to: b, number: 17, udp, options)
        #expect(hash(Frame.ethernet(to: macB, from: macA, type: 0x0800, packet)) == hash(plain))
    }

    @Test("all fragments of a packet have one hash, whatever their bytes are")
    func fragments() {
        func fragment(_ word: UInt16, _ payload: [UInt8]) -> UInt32 {
            var options = Frame.IPv4Options()
            options.fragment = word
            let packet = Frame.ipv4(
                from: Frame.hostA, to: Frame.hostB, number: 17, payload, options)
            return hash(Frame.ethernet(to: macB, from: macA, type: 0x0800, packet))
        }
        let first = fragment(0x2000, [0, 1, 0, 2, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
        #expect(first == fragment(0x2002, Array(0..<16)))
        #expect(first == fragment(0x0004, [9]))
        func fragment6(_ word: UInt16, _ payload: [UInt8]) -> UInt32 {
            let header: [UInt8] = [17, 0] + Frame.be16(word) + [0, 0, 0, 9]
            let packet = Frame.ipv6(from: v6A, to: v6B, next: 44, header + payload)
            return hash(Frame.ethernet(to: macB, from: macA, type: 0x86DD, packet))
        }
        #expect(fragment6(1, [0, 1, 0, 2, 0, 16, 0, 0]) == fragment6(0x10, Array(10..<30)))
    }

    @Test("IPv6 extension headers are walked to the ports")
    func ipv6() {
        func frame(_ port: UInt16, extensions: [UInt8], first: UInt8) -> [UInt8] {
            let udp = Frame.udp(from: .v6(v6A), port, to: .v6(v6B), 2000, [1])
            let packet = Frame.ipv6(from: v6A, to: v6B, next: first, extensions + udp)
            return Frame.ethernet(to: macB, from: macA, type: 0x86DD, packet)
        }
        let plain = frame(1, extensions: [], first: 17)
        #expect(hash(plain) != hash(frame(2, extensions: [], first: 17)))
        #expect(hash(plain) == hash(frame(1, extensions: [17, 0, 1, 4, 0, 0, 0, 0], first: 60)))
    }

    @Test("frames that are not IP hash on their MACs")
    func notIP() {
        let arp = { (to: MACAddress, from: MACAddress, byte: UInt8) in
            hash(Frame.ethernet(to: to, from: from, type: 0x0806, [UInt8](repeating: byte, count: 46)))
        }
        #expect(arp(macB, macA, 1) == arp(macB, macA, 2))
        #expect(arp(macB, macA, 1) != arp(macA, macB, 1))
    }

    @Test("any bytes of any length can be hashed and described")
    func anyBytes() {
        var random = SeededRandom(seed: 11)
        for _ in 0..<20_000 {
            var bytes = random.bytes(Int.random(in: 14...80, using: &random))
            let types: [[UInt8]] = [[8, 0], [0x86, 0xDD], [0x81, 0], [0x88, 0xA8]]
            if let type = types.randomElement(using: &random) {
                bytes.replaceSubrange(12..<14, with: type)
            }
            if bytes.count > 14, Bool.random(using: &random) { bytes[14] = bytes[12] == 8 ? 0x45 : 0x60 }
            _ = hash(bytes)
            if FrameSummary.lines(of: bytes).isEmpty { Issue.record("no summary") }
        }
        for count in 0..<14 { #expect(!FrameSummary.lines(of: random.bytes(count)).isEmpty) }
    }

    @Test("a thousand flows use at least 90 % of as many source ports, all of them dynamic")
    func spread() {
        var ports: Set<UInt16> = []
        for number in 0..<1000 {
            let port = FlowHash.sourcePort(hash(flow(UInt16(1024 + number))))
            #expect(port >= 49_152)
            ports.insert(port)
        }
        #expect(ports.count >= 900)
    }
}
