// Neighbours that packets or routes need: asked for, answered, given up; behind ports by the kernel.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite("Resolution of IP neighbours")
struct NeighborResolutionTests {
    @Test("an unresolved address is asked for at once, then each second, three times; then it failed; then forgotten")
    func unanswered() throws {
        let rig = try makeGatewayRig()
        #expect(rig.wants(hostB) == [asked(hostB)])
        #expect(rig.hop(hostB) == "resolving" && rig.row(hostB)?.state == "resolving")
        // Other packets for it change nothing.
        #expect(rig.wants(hostB) == [])
        var times: [Double] = []
        let start = rig.now
        for _ in 0..<295 where !rig.wait(0.01, step: 0.01).filter(\.isProbe).isEmpty {
            times.append(rig.now.seconds(since: start))
        }
        #expect(times.map { ($0 * 100).rounded() / 100 } == [1, 2] && rig.hop(hostB) == "resolving")
        rig.wait(0.1, step: 0.05)
        #expect(rig.hop(hostB) == "failed" && rig.claims.failed == 1)
        #expect(rig.wants(hostB) == [])
        rig.wait(5, step: 0.1)
        #expect(rig.hop(hostB) == nil && rig.state.ipNeighbors.count == 0 && rig.tables.hopCount == 0)
        #expect(rig.wants(hostB) == [asked(hostB)])
    }
    @Test("an answer makes the hop usable in its own batch, also after a failure")
    func answered() throws {
        let rig = try makeGatewayRig()
        rig.wants(hostB)
        let address = try #require(IPAddress(hostB))
        let index = try #require(rig.tables.neighbor(domain: 1, address))
        rig.see(.binding, hostB, macB)
        #expect(rig.hop(hostB) == macB && rig.tables.neighbor(domain: 1, address) == index)
        #expect(rig.wait(100, step: 0.5).filter(\.isProbe) == [])
        rig.wants(hostA)
        rig.wait(3.2, step: 0.1)
        #expect(rig.hop(hostA) == "failed")
        rig.see(.binding, hostA, macA)
        #expect(rig.hop(hostA) == macA)
        rig.wait(20, step: 0.5)
        #expect(rig.hop(hostA) == macA)
        // zebra's row is an answer, too.
        rig.wants(hostSix)
        rig.frame(Message.mac("02:aa:00:00:00:03", "10.0.0.2"))
        rig.kernel(Message.binding(hostSix, "02:aa:00:00:00:03", isZebra: true))
        #expect(rig.hop(hostSix) == "02:aa:00:00:00:03 remote")
    }
    @Test("a host that answers from behind a VTEP which announces MACs alone is reached, not answered for")
    func elsewhere() throws {
        let rig = try makeGatewayRig { $0.dataplane.neighborTimeoutSeconds = 20 }
        rig.frame(Message.mac(macB, "10.0.0.2"))
        // Unasked, nobody from the fabric binds anything.
        rig.see(.binding, hostB, macB, circuit: NeighborEvent.fromTunnel)
        #expect(rig.hop(hostB) == nil)
        rig.wants(hostB)
        rig.see(.announcement, hostB, macB, circuit: NeighborEvent.fromTunnel)
        #expect(rig.hop(hostB) == "resolving")
        rig.see(.binding, hostB, macB, circuit: NeighborEvent.fromTunnel)
        #expect(rig.hop(hostB) == macB && rig.row(hostB)?.type == "remote" && rig.row(hostB)?.vtep == "10.0.0.2")
        rig.effects = []
        rig.wait(16.5, step: 0.1)
        #expect(rig.requests == [asked(hostB, macB)])
        // It comes here.
        #expect(rig.see(.announcement, hostB, macB).contains(bound(hostB, macB)))
        #expect(rig.row(hostB)?.type == "local")
    }
    @Test("a scan of the subnet is bounded: rate, room, and the other domains' share")
    func scan() throws {
        let rig = try makeGatewayRig {
            $0.dataplane.limits.neighbors = 800
            $0.l2vnis[0].gatewayIPs = [IPPrefix("10.0.0.1/8")].compactMap { $0 }
            guard let vni = VNI(10200) else { return }
            var other = Configuration.L2VNI(name: "other", vni: vni)
            other.gatewayIPs = [IPPrefix("198.51.100.1/24")].compactMap { $0 }
            other.vrf = "red"
            $0.l2vnis.append(other)
        }
        for number in 10..<20 { rig.wants("198.51.100.\(number)", domain: 2) }
        func scan(_ start: Int, _ count: Int) {
            rig.batch((start..<(start + count)).map {
                .neighborSeen(NeighborEvent(
                    kind: .unresolved, domain: 1, circuit: 0, mac: .zero,
                    address: .v4(IPv4Address(rawValue: 0x0A01_0000 + UInt32($0)))))
            })
        }
        scan(0, 1000)
        #expect(rig.claims.rateLimited == 750 && rig.effects.count { $0.isProbe } == 260)
        let limit = rig.state.ipNeighbors.limits.transient
        #expect(rig.state.ipNeighbors.transientCount == limit && rig.tables.neighborCount == limit)
        #expect(rig.claims.evicted == UInt64(260 - limit))
        for number in 10..<20 { #expect(rig.hop("198.51.100.\(number)", domain: 2) == "resolving") }
        // A host's binding comes before any of them.
        rig.wait(1, step: 0.1)
        scan(5000, 200)
        rig.see(.binding, "10.9.9.9", macA)
        #expect(rig.hop("10.9.9.9") == macA)
        rig.wait(15, step: 0.1)
        #expect(rig.tables.neighborCount == 1 && rig.tables.hopCount == 1)
    }

    // MARK: What routes need

    @Test("a next hop that a route needs is asked for until it answers, and given up with the route")
    func required() throws {
        let rig = try makeGatewayRig()
        let address = try #require(IPAddress(hostB))
        let id = NeighborID(domain: 1, address)
        let hop = try rig.compiler.neighbors.require(id, &rig.state)
        _ = try rig.compiler.neighbors.require(id, &rig.state)
        let effects = rig.apply(.tick)
        #expect(effects == [asked(hostB)])
        #expect(rig.describe(try #require(rig.tables.hop(hop))) == "resolving")
        let probes = rig.wait(60, step: 0.1).count { $0.isProbe }
        #expect((12...15).contains(probes))
        #expect(rig.describe(try #require(rig.tables.hop(hop))) == "failed")
        rig.see(.binding, hostB, macB)
        #expect(rig.describe(try #require(rig.tables.hop(hop))) == macB)
        // It goes away: asked for again, under the same index.
        rig.frame(Message.mac(macB, "10.0.0.2"))
        rig.frame(Message.mac(macB, "10.0.0.2", isDelete: true))
        rig.effects = []
        rig.wait(3, step: 0.1)
        #expect(rig.effects.contains(asked(hostB)) && rig.compiler.neighbors.hop(of: id) == hop)
        rig.compiler.neighbors.release(id, &rig.state)
        rig.apply(.tick)
        #expect(rig.compiler.neighbors.hop(of: id) == hop)
        rig.compiler.neighbors.release(id, &rig.state)
        rig.apply(.tick)
        #expect(rig.compiler.neighbors.hop(of: id) == nil && rig.tables.hopCount == 0)
        #expect(rig.wait(20, step: 0.5).filter(\.isProbe) == [])
    }
    @Test("local and remote bindings within a subnet are host routes; others, and link-local ones, are not")
    func hostRoutes() throws {
        let rig = try makeGatewayRig()
        func route(_ address: String) -> String? {
            guard let ip = IPAddress(address), let value = rig.tables.route(vrf: 1, IPPrefix(host: ip)), value.isHop,
                let hop = rig.tables.hop(value.index)
            else { return nil }
            return rig.describe(hop)
        }
        rig.see(.binding, hostA, macA)
        rig.see(.binding, "203.0.113.5", macA)
        rig.frame(Message.mac(macB, "10.0.0.2"))
        rig.kernel(Message.binding(hostSix, macB, isZebra: true), Message.binding("fe80::5", macB, isZebra: true))
        #expect(route(hostA) == macA && route(hostSix) == "\(macB) remote")
        #expect(rig.hop("203.0.113.5") == macA && route("203.0.113.5") == nil)
        #expect(rig.hop("fe80::5") == "\(macB) remote" && route("fe80::5") == nil)
        rig.frame(Message.mac(macA, "10.0.0.2"))
        rig.wait(3, step: 0.1)
        #expect(route(hostA) == nil && rig.hop(hostA) == nil)
        #expect(rig.effects.filter { $0 == asked(hostA) } == [])
    }

    // MARK: Behind ports

    /// A routed port "leg" (index 4) with its exception TAP as interface 40, 203.0.113.0/24.
    static func legRig() throws -> ControlRig {
        let rig = try makeGatewayRig {
            var leg = Configuration.Port(name: "leg", driver: .afPacket, device: "veth-leg")
            leg.vrf = "red"
            leg.exception = Configuration.Exception()
            $0.ports.append(leg)
        }
        let prefix = try #require(IPPrefix("203.0.113.1/24"))
        rig.dump(Message.links + [Message.link(40, "leg"), .address(AddressMessage(isDelete: false, interface: 40, prefix: prefix))])
        rig.apply(.exceptionAttached(port: 4, interface: 40, name: "leg"))
        rig.effects = []
        return rig
    }
    @Test("what the kernel resolved on a routed port is a hop of it, and a host route of its VRF")
    func routedPort() throws {
        let rig = try Self.legRig()
        let address = try #require(IPAddress("203.0.113.7"))
        let ask = ControlEffect.resolveNeighbor(interface: 40, address: address)
        let id = NeighborID(port: 4, address)
        let hop = try rig.compiler.neighbors.require(id, &rig.state)
        #expect(rig.apply(.tick) == [ask])
        #expect(rig.describe(try #require(rig.tables.hop(hop))) == "resolving")
        #expect(rig.wait(2.5, step: 0.05) == [ask, ask])
        rig.wait(1, step: 0.05)
        #expect(rig.describe(try #require(rig.tables.hop(hop))) == "failed")
        rig.kernel(Message.neighbor("203.0.113.7", macB, interface: 40))
        let known = try #require(rig.tables.hop(hop))
        #expect(rig.describe(known) == macB && known.way == .port(4))
        #expect(rig.state.hostBinding(vrf: 1, address) == HostBinding(neighbor: id, isRemote: false))
        #expect(rig.tables.route(vrf: 1, IPPrefix(host: address)) == .hop(hop))
        #expect(rig.row("203.0.113.7")?.type == "routed" && rig.row("203.0.113.7")?.vrf == "red")
        // Stale: the kernel is asked to look, and its answer is used meanwhile.
        rig.effects = []
        rig.kernel(Message.neighbor("203.0.113.7", macB, interface: 40, state: .stale))
        rig.wait(11, step: 0.1)
        #expect(rig.requests == [ask])
        #expect(rig.describe(try #require(rig.tables.hop(hop))) == macB)
        rig.kernel(Message.neighbor("203.0.113.7", nil, interface: 40, state: .failed))
        #expect(rig.describe(try #require(rig.tables.hop(hop))) == "resolving")
        #expect(rig.tables.route(vrf: 1, IPPrefix(host: address)) == nil)
        rig.compiler.neighbors.release(id, &rig.state)
        rig.apply(.tick)
        #expect(rig.tables.hopCount == 0)
    }
    @Test("a packet for a host behind a routed port has the kernel asked for it, within its subnet alone")
    func portGlean() throws {
        let rig = try Self.legRig()
        let address = try #require(IPAddress("203.0.113.9"))
        #expect(rig.see(.unresolved, "203.0.113.9", "00:00:00:00:00:00", circuit: 4, domain: 0)
            == [.resolveNeighbor(interface: 40, address: address)])
        #expect(rig.row("203.0.113.9")?.state == "resolving")
        rig.see(.unresolved, "198.51.100.9", "00:00:00:00:00:00", circuit: 4, domain: 0)
        rig.see(.unresolved, "203.0.113.9", "00:00:00:00:00:00", circuit: 1, domain: 0)
        #expect(rig.claims.invalid == 2)
        rig.wait(12, step: 0.1)
        #expect(rig.row("203.0.113.9") == nil)
        for number in 0..<3000 { rig.see(.unresolved, "203.0.113.\(number % 250 + 2)", "00:00:00:00:00:00", circuit: 4, domain: 0) }
        #expect(rig.state.neighborProgress.ports.count == 250)
    }
}
