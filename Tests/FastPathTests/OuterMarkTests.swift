// ECN, DSCP and TTL between inner and outer headers, bridged and routed, for every pair of families.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

/// One way for a packet through a tunnel: bridged or routed, inner and outer family.
struct Way: Sendable, CustomTestStringConvertible {
    var isRouted: Bool
    var inner: Family
    var outer: Family
    var testDescription: String { "\(isRouted ? "routed" : "bridged"), \(inner) in \(outer)" }
    static let all = [false, true].flatMap { isRouted in
        Family.pairs.map { Way(isRouted: isRouted, inner: $0.inner, outer: $0.outer) }
    }
    /// A world in which MAC `remoteMAC` is behind the tunnel in subnet 1's L2VNI.
    func world(_ change: (inout OuterHeaderOptions) -> Void = { _ in }) throws -> Routed {
        let routed = try Routed(outer: outer)
        try routed.world.addMAC(remoteMAC, .tunnel(routed.tunnel), domain: routed.first)
        change(&routed.tables.outerHeader)
        routed.tables.publish()
        return routed
    }
    /// A frame of a local host for the fabric.
    func up(_ trafficClass: UInt8, timeToLive: UInt8 = 64) -> [UInt8] {
        marked(Frame.host(
            to: isRouted ? gatewayMAC : remoteMAC, from: hostMAC, inner.host(1, 10),
            isRouted ? inner.host(9, 1) : inner.host(1, 77)), trafficClass, timeToLive)
    }
    /// What is inside of the tunnel then.
    func inside(_ frame: [UInt8]) -> [UInt8] {
        isRouted ? hopped(frame, to: remoteRouterMAC, from: routerMAC) : frame
    }
    /// A frame of the fabric for a local host, and what the host gets.
    func down(_ trafficClass: UInt8) -> [UInt8] {
        marked(Frame.host(
            to: isRouted ? routerMAC : hostMAC, from: isRouted ? remoteRouterMAC : remoteMAC,
            isRouted ? inner.host(2, 99) : inner.host(1, 77), inner.host(1, 10)), trafficClass)
    }
    func received(_ trafficClass: UInt8) -> [UInt8] {
        isRouted ? hopped(down(trafficClass), to: hostMAC, from: gatewayMAC) : down(trafficClass)
    }
    var vni: UInt32 { isRouted ? 100 : 210 }
}

/// An untagged IP frame with another traffic class and TTL, and its checksum.
func marked(_ frame: [UInt8], _ trafficClass: UInt8, _ timeToLive: UInt8 = 64) -> [UInt8] {
    changed(frame) {
        if $0[12] == 0x08 {
            $0[15] = trafficClass
            $0[22] = timeToLive
        } else {
            $0[14] = 0x60 | trafficClass >> 4
            $0[15] = trafficClass << 4 | 0x05
            $0[21] = timeToLive
        }
    }
}

@Suite("ECN, DSCP and TTL of outer headers, RFC 6040") struct OuterMarkTests {
    /// RFC 6040 figure 4: rows are the inner field, columns the outer; nil is a drop.
    /// Not-ECT is 0, ECT(1) 1, ECT(0) 2, CE 3.
    static let decapsulation: [[UInt8?]] = [[0, 0, 0, nil], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]]

    @Test("the outer header gets the inner ECN field, DSCP 0 and TTL 64", arguments: Way.all, 0..<4 as Range<UInt8>)
    func out(way: Way, ecn: UInt8) throws {
        let routed = try way.world()
        for dscp in [0, 46, 63] as [UInt8] {
            let frame = way.up(dscp << 2 | ecn)
            let outer = try #require(routed.world.run(2, frame).first.flatMap { OuterHeaders($0.bytes) })
            #expect(outer.trafficClass == ecn)
            #expect(outer.timeToLive == 64)
            #expect(outer.inner == way.inside(frame))
        }
        expectBalanced(routed.world)
    }

    @Test("all sixteen pairs of fields combine as figure 4 says", arguments: Way.all, 0..<16 as Range<UInt8>)
    func into(way: Way, pair: UInt8) throws {
        let routed = try way.world()
        let (inner, outer) = (pair >> 2, pair & 3)
        for dscp in [0, 0xB8, 0xFC] as [UInt8] {
            var vxlan = way.outer.vxlan(vni: way.vni)
            vxlan.trafficClass = 0x48 | outer
            let sent = routed.world.run(0, vxlan.frame(way.down(dscp | inner)))
            if let ecn = Self.decapsulation[Int(inner)][Int(outer)] {
                expectFrame(sent.first, port: 2, way.received(dscp | ecn))
            } else {
                #expect(sent.isEmpty)
                #expect(routed.world.drops.keys.elementsEqual([.ecnCongestion]))
            }
        }
        expectBalanced(routed.world)
    }

    @Test("IP behind one or two tags counts, what is no IP has no mark", arguments: Family.allCases)
    func tags(outer: Family) throws {
        let way = Way(isRouted: false, inner: .v4, outer: outer)
        let routed = try way.world()
        for inner in Family.allCases {
            let up = Way(isRouted: false, inner: inner, outer: outer).up(3)
            let down = Way(isRouted: false, inner: inner, outer: outer).down(2)
            for depth in 1...3 {
                func tagged(_ frame: [UInt8]) -> [UInt8] {
                    (0..<depth).reduce(frame) { result, tag in Frame.tagged(UInt16(700 + tag), result) }
                }
                let sent = routed.world.run(2, tagged(up)).first.flatMap { OuterHeaders($0.bytes) }
                #expect(sent?.trafficClass == (depth < 3 ? 3 : 0))
                #expect(sent?.inner == tagged(up))
                var vxlan = outer.vxlan(vni: 210)
                vxlan.trafficClass = 3
                let got = routed.world.run(0, vxlan.frame(tagged(down))).first?.bytes
                #expect(got == (depth < 3 ? tagged(marked(down, 3)) : nil))
            }
        }
        #expect(routed.world.drops == [.ecnCongestion: 2])
        let other = Frame.ethernet(to: remoteMAC, from: hostMAC, type: 0x8847, Array(repeating: 0xFF, count: 60))
        #expect(routed.world.run(2, other).first.flatMap { OuterHeaders($0.bytes) }?.trafficClass == 0)
        // Headers that only begin: nothing is read behind them.
        for type in [0x0800, 0x86DD] as [UInt16] {
            for count in [0, 1, 2, 9, 19] {
                let short = Frame.ethernet(
                    to: remoteMAC, from: hostMAC, type: type, Array(repeating: 0x4F, count: count))
                let sent = routed.world.run(2, short).first.flatMap { OuterHeaders($0.bytes) }
                #expect(sent?.trafficClass == 0)
                #expect(sent?.inner == short)
            }
        }
        expectBalanced(routed.world)
    }

    @Test("DSCP and TTL are fixed, or the inner packet's", arguments: Way.all)
    func policies(way: Way) throws {
        for (copiesDSCP, copiesTTL) in [(false, false), (true, false), (false, true), (true, true)] {
            let routed = try way.world {
                $0.trafficClass = 10 << 2
                $0.ttl = 200
                $0.copiesDSCP = copiesDSCP
                $0.copiesTTL = copiesTTL
            }
            for (trafficClass, timeToLive) in [(0, 9), (0xBB, 9), (0x28, 255), (0x01, 2)] as [(UInt8, UInt8)] {
                let frame = way.up(trafficClass, timeToLive: timeToLive)
                let outer = try #require(routed.world.run(2, frame).first.flatMap { OuterHeaders($0.bytes) })
                #expect(outer.trafficClass == (copiesDSCP ? trafficClass : 0x28 | trafficClass & 3))
                #expect(outer.timeToLive == (copiesTTL ? timeToLive - (way.isRouted ? 1 : 0) : 200))
                #expect(outer.inner == way.inside(frame))
            }
            let other = Frame.ethernet(to: remoteMAC, from: hostMAC, type: 0x8847, Array(repeating: 1, count: 60))
            let outer = routed.world.run(2, other).first.flatMap { OuterHeaders($0.bytes) }
            #expect(outer?.trafficClass == 0x28)
            #expect(outer?.timeToLive == 200)
            expectBalanced(routed.world)
        }
    }

    @Test("copies of a flood carry the marks, too, and an inner TTL of 0 is no outer one", arguments: Family.pairs)
    func floods(families: (inner: Family, outer: Family)) throws {
        let way = Way(isRouted: false, inner: families.inner, outer: families.outer)
        let routed = try way.world { $0.copiesTTL = true }
        let second = try routed.world.addVTEP(families.outer.remote(3), domain: routed.first)
        try routed.world.setFlood(
            circuits: [routed.circuits[0]], tunnels: [routed.tunnel, second], domain: routed.first)
        let frame = marked(
            Frame.host(to: .broadcast, from: hostMAC, families.inner.host(1, 10), families.inner.host(1, 11)), 3, 0)
        let sent = routed.world.run(2, frame).compactMap { OuterHeaders($0.bytes) }
        #expect(sent.map(\.trafficClass) == [3, 3])
        #expect(sent.map(\.timeToLive) == [1, 1])
        #expect(sent.map(\.inner) == [frame, frame])
        expectBalanced(routed.world)
    }
}
