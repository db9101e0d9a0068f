// Routing by prefix: in the order in which workers look, burst by burst, while host routes come and go.

import FastPath
import Tables
import TestSupport
import Testing
import Wire

@Suite("Routing by prefix") struct PrefixRouteTests {
    /// Where a packet to an address of no subnet of the node leaves: near is port 2, far is port 3.
    private func port(_ routed: Routed, _ address: String) -> UInt16? {
        routed.world.run(2, routed.up(IPAddress(address)!)).first?.port
    }

    @Test("a burst of prefixes does not hide a host route that comes, goes, or was always there",
        arguments: ["203.0.113.", "2001:db8:77::"])
    func hosts(network: String) throws {
        let routed = try Routed()
        let isV4 = IPAddress(network + "1")!.isV4
        let family: Family = isV4 ? .v4 : .v6
        let host = IPPrefix(host: IPAddress(network + "9")!)
        try routed.set(family.any, .hop(routed.near))
        for _ in 0..<3 {
            #expect(port(routed, network + "9") == 2)
            try routed.set(host, .hop(routed.far))
            #expect(port(routed, network + "9") == 3)
            #expect(port(routed, network + "8") == 2)
            #expect(port(routed, isV4 ? "198.51.100.9" : "2001:db8:78::9") == 2)
            #expect(port(routed, network + "9") == 3)
            routed.tables.removeRoute(vrf: routed.vrf, host)
            #expect(port(routed, network + "9") == 2)
        }
        expectBalanced(routed.world)
    }

    @Test("hosts and prefixes of all lengths mixed in one burst: each packet has its own", arguments: 0..<2)
    func mixture(round: Int) throws {
        let routed = try Routed()
        let routes = [
            ("192.0.0.0/4", "200.1.1.1"), ("203.0.0.0/15", "203.1.1.1"), ("203.0.113.0/24", "203.0.113.1"),
            ("203.0.113.64/28", "203.0.113.65"), ("198.51.100.7/32", "198.51.100.7"), ("203.0.113.66/32", "203.0.113.66"),
        ]
        // Even ones near, odd ones far.
        for (number, route) in routes.enumerated() {
            try routed.set(IPPrefix(route.0)!, .hop(number % 2 == 0 ? routed.near : routed.far))
        }
        for count in [1, 7, 8, 9, 31, 32] {
            let wanted = (0..<count).map { ($0 &* 7 &+ round) % routes.count }
            let frames = wanted.enumerated().map { index, number in
                (port: 2 as UInt16, bytes: routed.up(IPAddress(routes[number].1)!, payload: [UInt8(index)] + Array(1..<22)))
            }
            let sent = routed.world.run(frames)
            #expect(sent.count == count)
            for (index, number) in wanted.enumerated() {
                let found = sent.first { $0.bytes[$0.bytes.count - 22] == UInt8(index) }
                #expect(found?.port == (number % 2 == 0 ? 2 : 3), "\(count): \(routes[number])")
            }
        }
        expectBalanced(routed.world)
    }

    @Test("what a prefix says is carried out in the second burst as in the first")
    func kinds() throws {
        let routed = try Routed()
        let other = try routed.tables.addVRF(VRFEntry(vni: nil))
        let group = try routed.tables.addGroup()
        try routed.tables.setGroup(group, slots: [routed.far])
        try routed.set(IPPrefix("203.0.113.0/24")!, .vrf(other))
        try routed.set(IPPrefix("203.0.113.0/28")!, .hop(routed.far), vrf: other)
        try routed.set(IPPrefix("203.0.113.200/32")!, .hop(routed.near), vrf: other)
        try routed.set(IPPrefix("198.51.100.0/24")!, RouteValue(.group, group))
        try routed.set(IPPrefix("198.51.0.0/16")!, .blackhole)
        try routed.set(IPPrefix("192.0.2.0/25")!, .unreachable)
        for _ in 0..<3 {
            #expect(port(routed, "203.0.113.1") == 3)
            #expect(port(routed, "203.0.113.200") == 2)
            #expect(port(routed, "198.51.100.1") == 3)
            routed.expectDrop(.blackholeRoute, routed.up(IPAddress("198.51.7.1")!))
            routed.expectDrop(.unreachableRoute, routed.up(IPAddress("192.0.2.1")!))
            routed.expectDrop(.noRoute, routed.up(IPAddress("192.0.2.129")!))
            routed.expectDrop(.noRoute, routed.up(IPAddress("203.0.113.77")!))
        }
        expectBalanced(routed.world)
    }
}
