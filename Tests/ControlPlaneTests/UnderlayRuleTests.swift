// Rules of the way to a VTEP, and of what the compiler installs, one test each.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite struct UnderlayRules {
    static let fabric = "02:00:00:00:fe:01"
    static let fabric2 = "02:00:00:00:fe:02"
    func rig(_ change: (inout Configuration) -> Void = { _ in }) throws -> ControlRig {
        let rig = try makeRig(change)
        rig.connectFPM()
        rig.kernel(Message.flood("10.0.0.2"))
        return rig
    }
    @Test func withoutARouteTheTunnelSaysSo() throws {
        #expect(try rig().paths("10.0.0.2") == "noUnderlayRoute")
    }
    @Test func unresolvedNextHopIsAskedForUntilItIsThere() throws {
        let rig = try rig()
        rig.frame(Message.nextHop(20, "10.1.0.1", 2), Message.route("10.0.0.2/32", id: 20))
        #expect(rig.paths("10.0.0.2") == "unresolvedNextHop")
        let asked = ControlEffect.resolveNeighbor(
            interface: 2,
            address: try #require(IPAddress("10.1.0.1"))
        )
        #expect(rig.wait(3, step: 0.1).filter { $0 == asked }.count == 3)
        rig.kernel(Message.neighbor("10.1.0.1", Self.fabric, interface: 2))
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric)")
        #expect(!rig.wait(30).contains(asked))
        // Stale: kept alive every ten seconds, not lost.
        rig.kernel(Message.neighbor("10.1.0.1", Self.fabric, interface: 2, state: .stale))
        #expect(rig.wait(31, step: 0.1).filter { $0 == asked }.count == 4)
        rig.kernel(Message.neighbor("10.1.0.1", nil, interface: 2, state: .failed))
        #expect(rig.paths("10.0.0.2") == "unresolvedNextHop")
    }
    @Test func linkLocalAndIPv4LinkLocalNextHops() throws {
        let rig = try rig()
        rig.frame(Message.nextHop(20, "fe80::1", 2), Message.route("10.0.0.2/32", id: 20))
        rig.apply(
            .kernelNotified([
                .neighbor(
                    NeighborMessage(
                        isDelete: false,
                        family: .ipv6,
                        interface: 2,
                        state: .reachable,
                        destination: IPAddress("fe80::1"),
                        mac: MACAddress(Self.fabric)
                    )
                )
            ])
        )
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric)")
        rig.frame(Message.route("10.0.0.2/32", hops: [Message.hop("169.254.0.1", 2)]))
        rig.kernel(Message.neighbor("169.254.0.1", Self.fabric2, interface: 2, state: .permanent))
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric2)")
    }
    @Test func groupsBecomeWeightedPathsWhateverTheOrder() throws {
        let rig = try rig()
        rig.kernel(
            Message.neighbor("10.1.0.1", Self.fabric, interface: 2),
            Message.neighbor("10.2.0.1", Self.fabric2, interface: 3)
        )
        rig.frame(Message.route("10.0.0.2/32", id: 33))
        rig.frame(Message.group(33, [(24, 1), (34, 3)]))
        #expect(rig.paths("10.0.0.2") == "noUnderlayRoute")
        rig.frame(Message.nextHop(34, "10.2.0.1", 3))
        #expect(rig.paths("10.0.0.2") == "u1 \(Self.fabric2) x3")
        rig.frame(Message.nextHop(24, "10.1.0.1", 2))
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric), u1 \(Self.fabric2) x3")
        rig.frame(Message.group(33, [(34, 1)]))
        #expect(rig.paths("10.0.0.2") == "u1 \(Self.fabric2)")
    }
    @Test func longestPrefixWinsAndOverlayRoutesDoNotCount() throws {
        let rig = try rig()
        rig.kernel(
            Message.neighbor("10.1.0.1", Self.fabric, interface: 2),
            Message.neighbor("10.2.0.1", Self.fabric2, interface: 3)
        )
        rig.frame(Message.route("10.0.0.0/8", hops: [Message.hop("10.1.0.1", 2)]))
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric)")
        rig.frame(Message.route("10.0.0.0/24", hops: [Message.hop("10.2.0.1", 3)]))
        #expect(rig.paths("10.0.0.2") == "u1 \(Self.fabric2)")
        // Through the SVI of a vxlan bridge: overlay, although it is longer.
        rig.frame(Message.route("10.0.0.2/32", hops: [Message.hop("10.0.0.3", 7, isOnlink: true)]))
        #expect(rig.paths("10.0.0.2") == "u1 \(Self.fabric2)")
        rig.frame(
            Message.route("10.0.0.2/32", isDelete: true),
            Message.route("10.0.0.0/24", isDelete: true)
        )
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric)")
    }
    @Test func recursiveNextHopIsFollowedToABound() throws {
        let rig = try rig()
        rig.kernel(Message.neighbor("10.1.0.1", Self.fabric, interface: 2))
        rig.frame(
            Message.route("10.0.0.2/32", hops: [Message.hop("10.9.0.1", 0)]),
            Message.route("10.9.0.0/16", hops: [Message.hop("10.1.0.1", 2)])
        )
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric)")
        rig.frame(
            Message.route("10.9.0.0/16", hops: [Message.hop("10.8.0.1", 0)]),
            Message.route("10.8.0.0/16", hops: [Message.hop("10.9.0.1", 0)])
        )
        #expect(rig.paths("10.0.0.2") == "noUnderlayRoute")
    }
    @Test func portThatGoesDownLosesItsPaths() throws {
        let rig = try rig()
        rig.kernel(
            Message.neighbor("10.1.0.1", Self.fabric, interface: 2),
            Message.neighbor("10.2.0.1", Self.fabric2, interface: 3)
        )
        rig.frame(
            Message.route(
                "10.0.0.2/32",
                hops: [Message.hop("10.1.0.1", 2), Message.hop("10.2.0.1", 3)]
            )
        )
        rig.apply(.portChanged(port: 0, isUp: false, mac: .zero, mtu: 0))
        #expect(rig.paths("10.0.0.2") == "u1 \(Self.fabric2)")
        rig.apply(.portChanged(port: 0, isUp: true, mac: .zero, mtu: 0))
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric), u1 \(Self.fabric2)")
    }
    @Test func connectedPrefixOfAnExceptionTAPNeedsNoRoute() throws {
        let rig = try rig { $0.control.routes = .none }
        let prefix = try #require(IPPrefix("10.0.0.9/24"))
        rig.apply(
            .kernelNotified([
                .address(AddressMessage(isDelete: false, interface: 2, prefix: prefix))
            ])
        )
        rig.kernel(Message.neighbor("10.0.0.2", Self.fabric, interface: 2))
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric)")
        rig.apply(
            .kernelNotified([.address(AddressMessage(isDelete: true, interface: 2, prefix: prefix))]
            )
        )
        #expect(rig.paths("10.0.0.2") == "noUnderlayRoute")
    }
    @Test func kernelRoutesServeAloneAndTheLowestMetricCounts() throws {
        let rig = try rig { $0.control.routes = .netlink }
        rig.kernel(
            Message.neighbor("10.1.0.1", Self.fabric, interface: 2),
            Message.neighbor("10.2.0.1", Self.fabric2, interface: 3)
        )
        rig.kernel(
            Message.route("10.0.0.2/32", hops: [Message.hop("10.1.0.1", 2)], metric: 20),
            Message.route("10.0.0.2/32", hops: [Message.hop("10.2.0.1", 3)], metric: 100)
        )
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric)")
        rig.kernel(Message.route("10.0.0.2/32", metric: 20, isDelete: true))
        #expect(rig.paths("10.0.0.2") == "u1 \(Self.fabric2)")
        // FPM's routes are not asked.
        rig.frame(Message.route("10.0.0.2/32", hops: [Message.hop("10.1.0.1", 2)]))
        #expect(rig.paths("10.0.0.2") == "u1 \(Self.fabric2)")
    }
    @Test func configuredUnderlayRouteHasAFixedMAC() throws {
        let rig = try rig {
            let prefix = IPPrefix("10.0.0.2/32")
            $0.static.underlay = [prefix].compactMap { $0 }.map {
                .init(
                    prefix: $0,
                    nextHops: [.init(port: "u0", mac: MACAddress(Self.fabric), address: nil)]
                )
            }
        }
        #expect(rig.paths("10.0.0.2") == "u0 \(Self.fabric)")
    }
    @Test func blackholeIsNoWay() throws {
        let rig = try rig()
        rig.kernel(Message.neighbor("10.1.0.1", Self.fabric, interface: 2))
        rig.frame(
            Message.route("10.0.0.0/8", hops: [Message.hop("10.1.0.1", 2)]),
            Message.route("10.0.0.2/32", kind: .blackhole)
        )
        #expect(rig.paths("10.0.0.2") == "noUnderlayRoute")
    }
    @Test func encapsulationUsesTheTAPsMAC() throws {
        let rig = try rig()
        rig.kernel(Message.neighbor("10.1.0.1", Self.fabric, interface: 2))
        rig.frame(Message.route("10.0.0.2/32", hops: [Message.hop("10.1.0.1", 2)]))
        let address = try #require(IPAddress("10.0.0.2"))
        let tunnel = try rig.tables.tunnel(to: address)
        #expect(
            rig.tables.paths(of: tunnel).paths.first?.sourceMAC == MACAddress("02:00:00:00:aa:01")
        )
        rig.apply(.portChanged(port: 4, isUp: true, mac: MACAddress(rawValue: 0x0A0B02), mtu: 1500))
        #expect(
            rig.tables.paths(of: tunnel).paths.first?.sourceMAC == MACAddress(rawValue: 0x0A0B02)
        )
    }
}

@Suite struct CompilerRules {
    @Test func tunnelGoesWhenNothingRefersToIt() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, "10.0.0.2"), Message.mac(macB, "10.0.0.2"))
        #expect(rig.tables.tunnelCount == 1)
        rig.frame(Message.mac(macA, "10.0.0.2", isDelete: true))
        #expect(rig.members(10100) == ["10.0.0.2"])
        rig.frame(Message.mac(macB, "10.0.0.2", isDelete: true))
        #expect(rig.tables.tunnelCount == 0)
        #expect(rig.members(10100).isEmpty)
    }
    @Test func staticStateIsThereFromTheStart() throws {
        let rig = try makeRig {
            guard let vni = VNI(10100), let vtep = IPAddress("10.0.0.2"), let mac = MACAddress(macA)
            else { return }
            $0.static.vteps = [.init(vni: vni, address: vtep)]
            $0.static.macs = [.init(vni: vni, mac: mac, vtep: vtep)]
        }
        #expect(rig.flood(10100) == ["host", "host2", "10.0.0.2"])
        #expect(rig.place(10100, macA) == "10.0.0.2 sticky")
        #expect(rig.learn(macA).isEmpty)
        #expect(rig.place(10100, macA) == "10.0.0.2 sticky")
        #expect(rig.state.fdbRows(at: rig.now).map(\.type) == [.static])
    }
    @Test func fullFDBRefusesAndTakesInWhenThereIsRoom() throws {
        let rig = try makeRig { $0.dataplane.limits.macs = 16 }
        rig.connectFPM()
        func mac(_ index: Int) -> String {
            "02:00:00:00:02:" + (index < 16 ? "0" : "") + String(index, radix: 16)
        }
        for index in 0..<20 { rig.frame(Message.mac(mac(index), "10.0.0.2")) }
        #expect(rig.tables.macCount == 16)
        #expect(rig.compiler.alarms.macsRefused == 4)
        #expect(rig.place(10100, mac(0)) == "10.0.0.2")
        for index in 0..<6 { rig.frame(Message.mac(mac(index), "10.0.0.2", isDelete: true)) }
        rig.wait(1)
        #expect(rig.tables.macCount == 14)
        #expect(rig.place(10100, mac(19)) == "10.0.0.2")
    }
    @Test func fullVTEPTableRefusesOnlyTheNewOnes() throws {
        let rig = try makeRig { $0.dataplane.limits.vteps = 64 }
        rig.connectFPM()
        for index in 1...70 {
            rig.frame(
                Message.mac(
                    "02:00:00:00:03:" + (index < 16 ? "0" : "") + String(index, radix: 16),
                    "10.0.1.\(index)"
                )
            )
        }
        #expect(rig.tables.tunnelCount == 64)
        #expect(rig.compiler.alarms.vtepsRefused >= 6)
        #expect(rig.place(10100, "02:00:00:00:03:01") == "10.0.1.1")
        rig.frame(Message.mac("02:00:00:00:03:01", "10.0.1.1", isDelete: true))
        rig.wait(1)
        #expect(rig.tables.tunnelCount == 64)
    }
    @Test func longFloodListIsCutAtTheLimit() throws {
        let rig = try makeRig { $0.dataplane.limits.floodTargets = 5 }
        for index in 1...9 { rig.kernel(Message.flood("10.0.1.\(index)")) }
        #expect(rig.flood(10100) == ["host", "host2", "10.0.1.1", "10.0.1.2", "10.0.1.3"])
        #expect(rig.compiler.alarms.floodTargetsRefused == 1)
    }
    @Test func multihomedMACFollowsItsGroup() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macA, nil, group: 900))
        #expect(rig.place(10100, macA) == nil)
        rig.kernel(
            Message.group(900, [(901, 1), (902, 1)], isFDB: true),
            Message.nextHop(901, "10.0.0.2", 0),
            Message.nextHop(902, "10.0.0.3", 0)
        )
        #expect(rig.members(10100) == ["10.0.0.2", "10.0.0.3"])
        rig.kernel(Message.group(900, [(902, 1)], isFDB: true))
        #expect(rig.place(10100, macA) == "10.0.0.3")
        #expect(rig.members(10100) == ["10.0.0.3"])
    }
    @Test func outerHeadersTakeDSCPAndTTLFromTheConfigurationOrThePacket() throws {
        let fixed = try makeRig {
            $0.underlays[0].dscp = .fixed(46)
            $0.underlays[0].ttl = .fixed(7)
        }
        #expect(fixed.tables.outerHeader.trafficClass == 46 << 2 && fixed.tables.outerHeader.ttl == 7)
        #expect(!fixed.tables.outerHeader.copiesDSCP && !fixed.tables.outerHeader.copiesTTL)
        let copied = try makeRig {
            $0.underlays[0].dscp = .copy
            $0.underlays[0].ttl = .copy
        }
        #expect(copied.tables.outerHeader.copiesDSCP && copied.tables.outerHeader.copiesTTL)
        #expect(copied.tables.outerHeader.trafficClass == 0 && copied.tables.outerHeader.ttl == 64)
    }
    @Test func showIsInAStableOrder() throws {
        let rig = try makeRig()
        rig.connectFPM()
        rig.frame(Message.mac(macB, "10.0.0.3"), Message.mac(macA, "10.0.0.2"))
        rig.kernel(Message.neighbor("192.168.100.7", macB, interface: 5))
        #expect(rig.state.fdbRows(at: rig.now).map(\.mac) == [macA, macB])
        #expect(rig.state.vtepRows().map(\.address) == ["10.0.0.2", "10.0.0.3"])
        let row = try #require(rig.state.neighborRows().first)
        #expect(row.vni == 10100 && row.vtep == "10.0.0.3" && row.ip == "192.168.100.7")
        #expect(rig.state.tableCounts == TableCounts(fdb: 2, routes: 1, neighbors: 1, vteps: 2))
    }
}
