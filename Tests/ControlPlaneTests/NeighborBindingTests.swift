// Bindings of local hosts: taken from what they say, given to zebra, refreshed, refused.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite("Local IP neighbours")
struct NeighborBindingTests {
    @Test("a host's ARP makes a binding: MAC first, then the neighbour, to zebra, and a hop")
    func binding() throws {
        let rig = try makeGatewayRig()
        let effects = rig.see(.binding, hostA, macA)
        #expect(effects == [added(macA), bound(hostA, macA)])
        #expect(rig.hop(hostA) == macA)
        let row = try #require(rig.row(hostA))
        #expect(row.type == "local" && row.state == "reachable" && row.port == "host" && row.exported == true)
        #expect(row.vrf == "red" && row.vni == 10100)
        // Again: nothing new to say.
        #expect(rig.see(.binding, hostA, macA) == [])
        rig.see(.binding, hostSix, macA)
        #expect(rig.hop(hostSix) == macA)
    }
    @Test("a hop's source is the gateway's MAC")
    func source() throws {
        let rig = try makeGatewayRig()
        rig.see(.binding, hostA, macA)
        let address = try #require(IPAddress(hostA))
        let index = try #require(rig.tables.neighbor(domain: 1, address))
        let hop = try #require(rig.tables.hop(index))
        #expect(hop.sourceMAC == rig.state.domains[0].gatewayMAC && hop.way == .bridge(domain: 1))
    }
    @Test("a claim of the gateway's address is refused and counted, and the log says who")
    func gatewayClaims() throws {
        let rig = try makeGatewayRig()
        for (kind, address) in [(NeighborEvent.Kind.binding, "192.0.2.1"), (.announcement, "2001:db8::1"), (.gatewayClaim, hostA)] {
            rig.see(kind, address, macA)
        }
        #expect(rig.claims.gatewayClaims == 3)
        #expect(rig.hop("192.0.2.1") == nil && rig.hop("2001:db8::1") == nil && rig.hop(hostA) == nil)
        #expect(rig.effects.contains {
            if case .log(.warning, let text) = $0 { text.contains(macA) && text.contains("port host") } else { false }
        })
        // The same anycast gateway on another node is no claim.
        let own = try #require(rig.state.domains[0].gatewayMAC)
        rig.see(.gatewayClaim, "192.0.2.1", own.description, circuit: NeighborEvent.fromTunnel)
        #expect(rig.claims.gatewayClaims == 3)
        rig.see(.gatewayClaim, "192.0.2.1", macB, circuit: NeighborEvent.fromTunnel)
        #expect(rig.claims.gatewayClaims == 4)
    }
    @Test("addresses that are no host's are never bound", arguments: [
        "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.0", "192.0.2.255", "240.0.0.1",
        "::", "::1", "ff02::1", "::ffff:192.0.2.7",
    ])
    func invalid(_ address: String) throws {
        let rig = try makeGatewayRig()
        rig.see(.binding, address, macA)
        #expect(rig.claims.invalid == 1 && rig.hop(address) == nil)
        #expect(!rig.effects.contains { if case .addLocalNeighbor = $0 { true } else { false } })
    }
    @Test("link-local addresses of hosts here are not announced")
    func linkLocal() throws {
        let rig = try makeGatewayRig()
        rig.see(.binding, "fe80::1", macA)
        #expect(rig.hop("fe80::1") == nil && rig.state.ipNeighbors.count == 0)
    }
    @Test("events that no worker should send change nothing")
    func hostile() throws {
        let rig = try makeGatewayRig()
        rig.see(.binding, hostA, macA, circuit: 99)
        rig.see(.binding, hostA, macA, domain: 0)
        rig.see(.binding, hostA, macA, domain: 9)
        rig.see(.binding, hostA, "00:00:00:00:00:00")
        rig.see(.binding, hostA, "01:00:5e:00:00:01")
        rig.see(.binding, hostA, macA, circuit: NeighborEvent.fromTunnel)
        rig.wants(hostA, domain: 9)
        rig.wants("198.51.100.1")
        rig.wants("192.0.2.1")
        rig.wants("192.0.2.255")
        rig.see(.unresolved, hostA, "00:00:00:00:00:00", circuit: 70_000, domain: 0)
        #expect(rig.state.ipNeighbors.count == 0 && rig.tables.neighborCount == 0 && rig.claims.invalid == 10)
    }
    @Test("one MAC cannot have thousands of addresses; others still get theirs")
    func boundedByMAC() throws {
        let rig = try makeGatewayRig { $0.l2vnis[0].gatewayIPs = [IPPrefix("192.0.0.1/16")].compactMap { $0 } }
        for number in 0..<2000 { rig.see(.binding, "192.0.\(number / 200 + 1).\(number % 200 + 1)", macA) }
        let limit = rig.state.ipNeighbors.limits.mac
        #expect(rig.tables.neighborCount == limit && rig.claims.refusedByMAC == UInt64(2000 - limit))
        rig.see(.binding, "192.0.200.1", macB, circuit: 1)
        #expect(rig.hop("192.0.200.1") == macB)
    }
    @Test("the table's limit holds for all of them together, and room that comes is used")
    func boundedInAll() throws {
        let rig = try makeGatewayRig {
            $0.dataplane.limits.neighbors = 20
            $0.dataplane.neighborTimeoutSeconds = 20
        }
        for number in 10..<40 { rig.see(.binding, "192.0.2.\(number)", "02:aa:00:00:01:\(number)") }
        #expect(rig.tables.neighborCount == 20 && rig.claims.refusedByLimit + rig.claims.refusedByDomain == 10)
        rig.wait(30, step: 0.1)
        #expect(rig.tables.neighborCount == 0 && rig.claims.expired == 20)
        rig.see(.binding, hostA, macA)
        #expect(rig.hop(hostA) == macA)
    }
    @Test("an address that goes to another MAC here takes effect at once when announced, else after a second")
    func moveBetweenMACs() throws {
        let rig = try makeGatewayRig()
        rig.see(.binding, hostA, macA)
        rig.wait(0.2, step: 0.1)
        // Two hosts that fight for one address do not keep zebra busy.
        rig.see(.binding, hostA, macB, circuit: 1)
        #expect(rig.hop(hostA) == macA && rig.claims.damped == 1)
        #expect(rig.see(.announcement, hostA, macB, circuit: 1) == [bound(hostA, macB)])
        #expect(rig.hop(hostA) == macB)
        rig.see(.announcement, hostA, macA)
        #expect(rig.hop(hostA) == macB && rig.claims.damped == 2)
        rig.wait(1, step: 0.1)
        #expect(rig.see(.binding, hostA, macA) == [bound(hostA, macA)])
    }
    @Test("without a gateway bindings serve suppression elsewhere, and live as long as their MAC")
    func pureL2() throws {
        let rig = try makeRig { $0.dataplane.macAgeingSeconds = 20 }
        #expect(rig.see(.binding, hostA, macA) == [added(macA), bound(hostA, macA)])
        #expect(rig.hop(hostA) == macA)
        let effects = rig.wait(25, step: 0.1)
        #expect(!effects.contains { $0.isProbe })
        #expect(effects == [unbound(hostA), deleted(macA)])
        #expect(rig.hop(hostA) == nil)
    }

    // MARK: Refresh

    @Test("a silent host is asked three times at its MAC, then all are, before its binding expires")
    func refresh() throws {
        let rig = try makeGatewayRig { $0.dataplane.neighborTimeoutSeconds = 240 }
        rig.see(.binding, hostA, macA)
        let start = rig.now
        var seen: [(Double, ControlEffect)] = []
        for _ in 0..<25_000 {
            for effect in rig.wait(0.01, step: 0.01) { seen.append((rig.now.seconds(since: start), effect)) }
        }
        let effects = seen.map(\.1)
        #expect(effects == [asked(hostA, macA), asked(hostA, macA), asked(hostA, macA), asked(hostA), unbound(hostA)])
        for (index, due) in [236.0, 237, 238, 239, 240].enumerated() where index < seen.count {
            #expect(seen[index].0 >= due - 0.001 && seen[index].0 < due + 0.05, "\(seen[index])")
        }
        #expect(rig.hop(hostA) == nil && rig.claims.expired == 1)
    }
    @Test("a silent host that answers stays, and its MAC with it")
    func answers() throws {
        let rig = try makeGatewayRig {
            $0.dataplane.neighborTimeoutSeconds = 10
            $0.dataplane.macAgeingSeconds = 12
        }
        rig.see(.binding, hostA, macA)
        rig.see(.binding, hostSix, macA)
        rig.effects = []
        for _ in 0..<600 {
            for effect in rig.wait(0.1, step: 0.1) where effect.isProbe {
                guard case .probeNeighbor(_, let address, _) = effect else { continue }
                rig.see(.binding, "\(address)", macA)
            }
        }
        #expect(rig.hop(hostA) == macA && rig.hop(hostSix) == macA && rig.place(10100, macA) == "host")
        #expect(!rig.effects.contains { $0.isKernelRequest })
        // One probe for each six seconds of silence and address.
        #expect((18...20).contains(rig.effects.count { $0.isProbe }))
    }
    @Test("a timeout of zero keeps bindings, and asks nobody")
    func noTimeout() throws {
        let rig = try makeGatewayRig {
            $0.dataplane.neighborTimeoutSeconds = 0
            $0.dataplane.macAgeingSeconds = 0
        }
        rig.see(.binding, hostA, macA)
        #expect(rig.wait(2000, step: 1) == [] && rig.hop(hostA) == macA)
    }
    @Test("thousands of bindings of one age are asked for over many ticks")
    func paced() throws {
        let rig = try makeGatewayRig {
            $0.l2vnis[0].gatewayIPs = [IPPrefix("10.0.0.1/8")].compactMap { $0 }
            $0.dataplane.neighborTimeoutSeconds = 20
        }
        var events: [ControlEvent] = []
        for number in 1...3000 {
            let mac = MACAddress(rawValue: 0x0200_0000_0002 | UInt64(number) << 24)
            events.append(.neighborSeen(NeighborEvent(
                kind: .binding, domain: 1, circuit: 0, mac: mac,
                address: .v4(IPv4Address(rawValue: 0x0A01_0000 + UInt32(number))))))
        }
        rig.batch(events)
        #expect(rig.tables.neighborCount == 3000)
        rig.wait(15.95, step: 0.05)
        rig.now = rig.now + 0.1
        var counts: [Int] = []
        for _ in 0..<20 { counts.append(rig.wait(0.01, step: 0.01).count { $0.isProbe }) }
        #expect(counts.allSatisfy { $0 <= ControlState.timersPerTick } && counts.reduce(0, +) == 3000)
    }
}
