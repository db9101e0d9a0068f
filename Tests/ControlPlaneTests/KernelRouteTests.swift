// Routes from rtnetlink instead of FPM: the rules, and the real kernel's messages.

import Foundation
import Testing
import Wire

@testable import ControlPlane

private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

/// `gateway@interface` of each next hop that counts; nil without a route.
private func hops(_ state: ControlState, _ text: String, table: UInt32 = 254) throws -> [String]? {
    guard let entry = state.routes.table(table)?[try prefix(text)] else { return nil }
    return state.hops(of: entry.best).map { "\($0.gateway.map { "\($0)" } ?? "-")@\($0.interface)" }.sorted()
}

@Suite("Routes from rtnetlink") struct KernelRouteTests {
    private func rig() throws -> ControlRig {
        let rig = try makeRig { $0.control.routes = .netlink }
        _ = rig.apply(.tick)
        return rig
    }
    private func route(
        _ text: String, _ hops: [RouteNextHop], isDelete: Bool = false, kind: RouteMessage.Kind = .unicast,
        metric: UInt32 = 0, isReplace: Bool = false, isAppend: Bool = false, id: UInt32? = nil, table: UInt32 = 254
    ) throws -> NetlinkMessage {
        .route(
            RouteMessage(
                isDelete: isDelete, prefix: try prefix(text), table: table, routeProtocol: 186, kind: kind,
                metric: metric, nextHopID: id, nextHops: hops, isReplace: isReplace, isAppend: isAppend))
    }
    private func asksForDump(_ effects: [ControlEffect]) -> Bool { effects.contains(.dumpKernel) }

    @Test("a delete of one IPv6 next hop leaves the others") func siblings() throws {
        let rig = try rig()
        let (a, b, c) = (Message.hop("fe80::a", 2), Message.hop("fe80::b", 2), Message.hop("fe80::c", 3))
        rig.kernel(try route("2001:db8::/32", [a, b, c]))
        rig.kernel(try route("2001:db8::/32", [b], isDelete: true))
        #expect(try hops(rig.state, "2001:db8::/32") == ["fe80::a@2", "fe80::c@3"])
        rig.kernel(try route("2001:db8::/32", [a, c], isDelete: true))
        #expect(try hops(rig.state, "2001:db8::/32") == nil)
    }

    @Test("of two connected routes the first counts; when it goes, the kernel is asked") func duplicates() throws {
        let rig = try rig()
        rig.kernel(try route("192.0.2.0/24", [Message.hop(nil, 2)], isAppend: true))
        rig.kernel(try route("192.0.2.0/24", [Message.hop(nil, 3)], isAppend: true))
        #expect(try hops(rig.state, "192.0.2.0/24") == ["-@2"])
        // The second goes and comes again: nothing changes.
        rig.kernel(try route("192.0.2.0/24", [Message.hop(nil, 3)], isDelete: true))
        #expect(try hops(rig.state, "192.0.2.0/24") == ["-@2"])
        rig.kernel(try route("192.0.2.0/24", [Message.hop(nil, 3)], isAppend: true))
        let effects = rig.apply(
            .kernelNotified([try route("192.0.2.0/24", [Message.hop(nil, 2)], isDelete: true)]))
        #expect(try hops(rig.state, "192.0.2.0/24") == nil && asksForDump(effects))
        rig.dump(Message.links + [try route("192.0.2.0/24", [Message.hop(nil, 3)])])
        #expect(try hops(rig.state, "192.0.2.0/24") == ["-@3"])
        // In a dump the first of two comes first.
        rig.dump(
            Message.links + [
                try route("192.0.2.0/24", [Message.hop(nil, 2)]), try route("192.0.2.0/24", [Message.hop(nil, 3)]),
            ])
        #expect(try hops(rig.state, "192.0.2.0/24") == ["-@2"])
    }

    @Test("a replacement replaces, and only the route of its metric") func replaced() throws {
        let rig = try rig()
        rig.kernel(try route("10.9.0.0/16", [Message.hop("10.0.0.9", 2)], metric: 20))
        rig.kernel(try route("10.9.0.0/16", [Message.hop("10.0.0.8", 2)], metric: 20, isReplace: true))
        rig.kernel(try route("10.9.0.0/16", [Message.hop("10.0.0.7", 2)], metric: 50))
        #expect(try hops(rig.state, "10.9.0.0/16") == ["10.0.0.8@2"])
        rig.kernel(try route("10.9.0.0/16", [Message.hop("10.0.0.8", 2)], isDelete: true, metric: 20))
        #expect(try hops(rig.state, "10.9.0.0/16") == ["10.0.0.7@2"])
    }

    @Test("own addresses, broadcasts and their deletes touch no route") func local() throws {
        let rig = try rig()
        rig.kernel(try route("10.9.0.1/32", [Message.hop("10.0.0.9", 2)], table: 1001))
        for kind in [RouteMessage.Kind.local, .other(3), .other(4)] {
            rig.kernel(try route("10.9.0.1/32", [Message.hop(nil, 2)], kind: kind, table: 1001))
            rig.kernel(try route("10.9.0.1/32", [Message.hop(nil, 2)], isDelete: true, kind: kind, table: 1001))
        }
        #expect(try hops(rig.state, "10.9.0.1/32", table: 1001) == ["10.0.0.9@2"])
    }

    @Test("a delete of another next-hop object or kind is old news") func otherObject() throws {
        let rig = try rig()
        rig.kernel(Message.nextHop(7, "10.0.0.9", 2), Message.nextHop(8, "10.0.0.8", 2))
        rig.kernel(try route("10.9.0.0/16", [Message.hop("10.0.0.9", 2)], id: 7))
        rig.kernel(try route("10.9.0.0/16", [Message.hop("10.0.0.8", 2)], isDelete: true, id: 8))
        rig.kernel(try route("10.9.0.0/16", [], isDelete: true, kind: .blackhole))
        #expect(try hops(rig.state, "10.9.0.0/16") == ["10.0.0.9@2"])
        rig.kernel(try route("10.9.0.0/16", [Message.hop("10.0.0.9", 2)], isDelete: true, id: 7))
        #expect(try hops(rig.state, "10.9.0.0/16") == nil)
    }

    @Test("what the kernel drops without a word is asked for: link down, address gone, used next hop gone")
    func silentLosses() throws {
        for change in [
            NetlinkMessage.link(LinkMessage(isDelete: false, interface: 2, name: "u0", isUp: false)),
            .link(LinkMessage(isDelete: true, interface: 2, name: "u0")),
            .address(AddressMessage(isDelete: true, interface: 2, prefix: try prefix("10.0.0.1/31"))),
            Message.nextHop(7, nil, 0, isDelete: true),
        ] {
            let rig = try rig()
            rig.kernel(Message.nextHop(7, "10.0.0.9", 2), try route("10.9.0.0/16", [Message.hop("10.0.0.9", 2)], id: 7))
            #expect(asksForDump(rig.apply(.kernelNotified([change]))), "\(change)")
        }
        // With FPM, zebra tells.
        let fpm = try makeRig()
        let down = NetlinkMessage.link(LinkMessage(isDelete: false, interface: 2, name: "u0", isUp: false))
        #expect(!asksForDump(fpm.apply(.kernelNotified([down]))))
    }
}

/// A state that follows a real kernel, on the test's own thread.
private final class KernelFollower {
    var state: ControlState
    private let feed: KernelFeed
    private let log = EventLog()
    private var taken = 0

    init(_ configuration: Configuration, _ namespace: NetworkNamespace) throws {
        state = ControlState(configuration: configuration)
        let log = self.log
        feed = try KernelFeed(in: namespace, includeRoutes: true) { log.add($0) }
        feed.perform([.dumpKernel])
    }
    deinit { feed.stop() }

    /// Takes in what comes until `isRight`, at most a few seconds; what it was last.
    func follow(_ what: (ControlState) throws -> [String]?, until wanted: [String]?) throws -> [String]? {
        let deadline = Date(timeIntervalSinceNow: 5)
        while true {
            let events = log.events
            for event in events[taken...] { feed.perform(state.apply(event, at: ControlLoop.monotonic())) }
            taken = events.count
            let now = try what(state)
            if now == wanted && taken > 0 || Date() > deadline { return now }
            Thread.sleep(forTimeInterval: 0.02)
        }
    }
}

@Suite("Routes of the real kernel", .serialized) struct KernelRouteFeedTests {
    @Test("next hops, groups, siblings, silent losses and duplicates are as the kernel has them")
    func routes() throws {
        guard let test = TestNamespace("k3routes") else { return }
        test.shell("ip link add k0 type veth peer name k0x; ip link add k1 type veth peer name k1x; sysctl -qw net.ipv6.conf.default.accept_dad=0")
        test.shell("for d in k0 k1 k0x k1x; do ip link set $d up; done")
        test.shell("ip addr add 192.0.2.1/24 dev k0; ip addr add 198.51.100.1/24 dev k1; ip addr add 2001:db8:a::1/64 dev k0 nodad; ip addr add 2001:db8:b::1/64 dev k1 nodad")
        let configuration = try Configuration(
            yaml: """
                ports: [{name: a, driver: "null"}]
                underlays: [{interfaces: [a], tunnelEndpoint: {addresses: [192.0.2.1]}}]
                l3vnis: [{vrf: default, vni: 900}]
                control: {routes: netlink}
                """)
        let follower = try KernelFollower(configuration, NetworkNamespace(test.name))
        func index(_ device: String) -> String {
            test.shell("cat /sys/class/net/\(device)/ifindex").trimmingCharacters(in: .whitespacesAndNewlines)
        }
        let (a, b) = (index("k0"), index("k1"))
        func check(_ command: String, _ text: String, _ wanted: [String]?) throws {
            let output = test.shell(command)
            let found = try follower.follow({ try hops($0, text) }, until: wanted)
            #expect(found == wanted, "\(command): \(output)\(test.shell("ip route; ip -6 route"))")
        }
        try check("true", "192.0.2.0/24", ["-@\(a)"])
        try check(
            "ip route add 10.1.0.0/16 nexthop via 192.0.2.2 weight 3 nexthop via 198.51.100.2", "10.1.0.0/16",
            ["192.0.2.2@\(a)", "198.51.100.2@\(b)"])
        #expect(follower.state.routes.table(254)?[try prefix("10.1.0.0/16")]?.best.nextHops.map(\.weight) == [3, 1])
        test.shell("ip nexthop add id 7 via 192.0.2.3 dev k0; ip nexthop add id 8 via 198.51.100.3 dev k1; ip nexthop add id 9 group 7/8")
        try check("ip route add 10.2.0.0/16 nhid 9", "10.2.0.0/16", ["192.0.2.3@\(a)", "198.51.100.3@\(b)"])
        try check("ip nexthop replace id 9 group 8", "10.2.0.0/16", ["198.51.100.3@\(b)"])
        try check("ip -6 route add 2001:db8:1::/48 via 2001:db8:a::2", "2001:db8:1::/48", ["2001:db8:a::2@\(a)"])
        try check(
            "ip -6 route append 2001:db8:1::/48 via 2001:db8:b::2", "2001:db8:1::/48",
            ["2001:db8:a::2@\(a)", "2001:db8:b::2@\(b)"])
        try check("ip -6 route del 2001:db8:1::/48 via 2001:db8:a::2", "2001:db8:1::/48", ["2001:db8:b::2@\(b)"])
        try check("ip route add blackhole 10.3.0.0/16", "10.3.0.0/16", [])
        #expect(follower.state.routes.table(254)?[try prefix("10.3.0.0/16")]?.best.kind == .blackhole)
        try check("ip route add 10.4.0.0/16 via 198.51.100.2 table 77; ip route add 10.4.0.0/16 tos 8 via 198.51.100.2", "10.4.0.0/16", nil)
        #expect(try follower.follow({ try hops($0, "10.4.0.0/16", table: 77) }, until: ["198.51.100.2@\(b)"]) == ["198.51.100.2@\(b)"])
        // A second device in the subnet of the first.
        try check("ip addr add 192.0.2.9/24 dev k1", "192.0.2.0/24", ["-@\(a)"])
        try check("ip addr del 192.0.2.1/24 dev k0", "192.0.2.0/24", ["-@\(b)"])
        // The kernel drops these without a notification.
        try check("ip nexthop del id 8", "10.2.0.0/16", nil)
        try check("ip addr add 192.0.2.1/24 dev k0; ip addr del 192.0.2.9/24 dev k1; ip link set k1 down", "198.51.100.0/24", nil)
        try check("true", "10.4.0.0/16", nil)
        #expect(try follower.follow({ try hops($0, "10.4.0.0/16", table: 77) }, until: nil) == nil)
        try check("true", "2001:db8:1::/48", nil)
    }
}
