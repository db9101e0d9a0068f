// Next hops in other VRFs, gateways without interface, routed ports, configured routes.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite struct RouteLeakTests {
    /// Two VRFs, red (1001, device 20) and blue (1002, device 21) with L3VNI 50001 on bridge 11; routed
    /// port leg (interface 4) in blue.
    static func makeRig(_ change: (inout Configuration) -> Void = { _ in }) throws -> ControlRig {
        let rig = try makeRoutedRig {
            if let vni = VNI(50001) { $0.l3vnis.append(.init(vrf: "blue", vni: vni)) }
            var leg = Configuration.Port(name: "leg", driver: .afPacket, device: "veth-leg")
            leg.vrf = "blue"
            leg.exception = Configuration.Exception()
            leg.exception?.addresses = [IPPrefix("10.50.0.1/24")].compactMap { $0 }
            $0.ports.append(leg)
            change(&$0)
        }
        rig.kernel(
            RoutedMessage.vrf(21, "blue", table: 1002), RoutedMessage.bridge(11, master: 21),
            Message.vxlan(12, 50001, master: 11), Message.link(4, "leg"))
        rig.connectFPM()
        return rig
    }
    static func route(_ prefix: String, _ table: UInt32, _ gateway: String?, _ interface: UInt32) -> NetlinkMessage {
        Message.route(prefix, table: table, hops: [Message.hop(gateway, interface)])
    }

    @Test func samePrefixesInTwoVRFsAreTwoRoutes() throws {
        let rig = try Self.makeRig()
        rig.frame(Self.route("10.9.0.0/16", 1001, "10.0.0.2", 7), Self.route("10.9.0.0/16", 1002, "10.0.0.2", 11))
        #expect(rig.route("red", "10.9.0.0/16") == "10.0.0.2 50000 noRouterMAC")
        #expect(rig.route("blue", "10.9.0.0/16") == "10.0.0.2 50001 noRouterMAC")
        rig.frame(RoutedMessage.rmac("10.0.0.2", rmac2))
        #expect(rig.route("red", "10.9.0.0/16") == "10.0.0.2 50000 \(rmac2)")
        #expect(rig.route("blue", "10.9.0.0/16") == "10.0.0.2 50001 noRouterMAC")
    }
    @Test func aRoutedPortHasItsSubnetItsAddressAndNeighbors() throws {
        let rig = try Self.makeRig()
        #expect(rig.route("blue", "10.50.0.0/24") == "port leg")
        #expect(rig.route("blue", "10.50.0.1/32") == "host leg")
        #expect(rig.route("red", "10.50.0.0/24") == nil)
        rig.frame(Self.route("10.60.0.0/16", 1002, "10.50.0.9", 4))
        #expect(rig.route("blue", "10.60.0.0/16") == "neighbor on leg 10.50.0.9")
        let port = rig.state.numbering.port(named: "leg") ?? 0
        #expect(rig.tables.port(port)?.role == .routed && rig.tables.port(port)?.vrf == rig.vrf("blue"))
    }
    @Test func anInterfaceOfAnotherVRFIsResolvedThere() throws {
        let rig = try Self.makeRig()
        rig.frame(Self.route("10.60.0.0/16", 1001, "10.50.0.9", 4), Self.route("10.9.0.0/16", 1001, "10.0.0.2", 11))
        #expect(rig.route("red", "10.60.0.0/16") == "neighbor on leg 10.50.0.9")
        #expect(rig.route("red", "10.9.0.0/16") == "10.0.0.2 50001 noRouterMAC")
        #expect(rig.members(ofVRF: "blue") == ["10.0.0.2"] && rig.members(ofVRF: "red") == [])
    }
    @Test func theVRFDeviceWithoutGatewayIsALookUpThere() throws {
        let rig = try Self.makeRig()
        rig.frame(Self.route("10.60.0.0/16", 1001, nil, 21), Self.route("10.61.0.0/16", 1001, "10.50.0.9", 21))
        #expect(rig.route("red", "10.60.0.0/16") == "vrf blue")
        // With a gateway, that is looked up in the other VRF.
        #expect(Set(rig.flows("red", "10.61.0.0/16")) == ["neighbor on leg 10.50.0.9"])
    }
    @Test func aLeakToItselfStaysALeak() throws {
        let rig = try Self.makeRig()
        rig.frame(Self.route("10.60.0.0/16", 1001, nil, 20), Self.route("10.61.0.1/32", 1001, nil, 20))
        // Workers end such loops after ``TableLimits/routeDepth`` look-ups.
        #expect(rig.route("red", "10.60.0.0/16") == "vrf red")
        #expect(rig.route("red", "10.61.0.1/32") == "local 0")
    }
    @Test func gatewaysWithoutInterfaceFollowTheirRoute() throws {
        let rig = try Self.makeRig()
        rig.frame(Message.route("10.70.0.0/16", table: 1002, hops: [Message.hop("10.80.0.1", 0)]))
        #expect(rig.route("blue", "10.70.0.0/16") == "group of 0: none")
        let value = rig.value("blue", "10.70.0.0/16")
        rig.frame(Self.route("10.80.0.0/16", 1002, "10.0.0.2", 11))
        #expect(Set(rig.flows("blue", "10.70.0.0/16")) == ["10.0.0.2 50001 noRouterMAC"])
        rig.frame(Self.route("10.80.0.0/24", 1002, "10.50.0.7", 4))
        #expect(Set(rig.flows("blue", "10.70.0.0/16")) == ["neighbor on leg 10.50.0.7"])
        rig.frame(Message.route("10.80.0.0/24", table: 1002, isDelete: true))
        #expect(Set(rig.flows("blue", "10.70.0.0/16")) == ["10.0.0.2 50001 noRouterMAC"])
        #expect(rig.value("blue", "10.70.0.0/16") == value)
        rig.frame(Message.route("10.70.0.0/16", table: 1002, isDelete: true))
        #expect(rig.tables.groupCount == 0)
    }
    @Test func gatewaysThatNeedEachOtherLeadNowhere() throws {
        let rig = try Self.makeRig()
        rig.frame(
            Message.route("10.70.0.0/16", table: 1002, hops: [Message.hop("10.80.0.1", 0)]),
            Message.route("10.80.0.0/16", table: 1002, hops: [Message.hop("10.70.0.1", 0)]))
        #expect(rig.route("blue", "10.70.0.0/16") == "group of 0: none")
        #expect(rig.route("blue", "10.80.0.0/16") == "group of 0: none")
    }
    @Test func configuredRoutesOfEveryForm() throws {
        let vtep = try #require(IPAddress("10.0.0.2"))
        let other = try #require(IPAddress("10.0.0.3"))
        let host = try #require(IPAddress("10.50.0.9"))
        let prefixes = try (1...7).map { try #require(IPPrefix("10.9\($0).0.0/16")) }
        let rig = try Self.makeRig {
            $0.control.routes = .none
            $0.static.routes = [
                .init(vrf: "red", prefix: prefixes[0], nextHops: [.init(.vtep(vtep, routerMAC: MACAddress(rmac3)))]),
                .init(vrf: "red", prefix: prefixes[1], nextHops: [.init(.vtep(vtep, routerMAC: nil))]),
                .init(
                    vrf: "red", prefix: prefixes[2],
                    nextHops: [.init(.vtep(vtep, routerMAC: nil), weight: 3), .init(.vtep(other, routerMAC: nil))]),
                .init(vrf: "blue", prefix: prefixes[3], nextHops: [.init(.port("leg", address: host))]),
                .init(vrf: "blue", prefix: prefixes[4], nextHops: [.init(.host(host))]),
                .init(vrf: "red", prefix: prefixes[5], nextHops: [.init(.vrf("blue"))]),
                .init(vrf: "red", prefix: prefixes[6], kind: .prohibit),
            ]
        }
        #expect(rig.route("red", "10.91.0.0/16") == "10.0.0.2 50000 \(rmac3)")
        #expect(rig.route("red", "10.92.0.0/16") == "10.0.0.2 50000 noRouterMAC")
        rig.frame(RoutedMessage.rmac("10.0.0.2", rmac2))
        #expect(rig.route("red", "10.91.0.0/16") == "10.0.0.2 50000 \(rmac3)")
        #expect(rig.route("red", "10.92.0.0/16") == "10.0.0.2 50000 \(rmac2)")
        #expect(rig.route("red", "10.93.0.0/16")
            == "group of 64: 10.0.0.2 50000 \(rmac2) x48 + 10.0.0.3 50000 noRouterMAC x16")
        #expect(rig.route("blue", "10.94.0.0/16") == "neighbor on leg 10.50.0.9")
        #expect(Set(rig.flows("blue", "10.95.0.0/16")) == ["neighbor on leg 10.50.0.9"])
        #expect(rig.route("red", "10.96.0.0/16") == "vrf blue")
        #expect(rig.route("red", "10.97.0.0/16") == "prohibit")
    }
    @Test func inTheDefaultVRFOverlayAndUnderlayShareATable() throws {
        let rig = try ControlPlaneTests.makeRig()
        rig.connectFPM()
        rig.frame(
            Message.route("10.9.0.0/16", hops: [Message.hop("10.0.0.2", 7, isOnlink: true)]),
            Message.route("10.0.0.2/32", hops: [Message.hop("10.1.0.1", 2)]),
            RoutedMessage.rmac("10.0.0.2", rmac2))
        #expect(rig.route("default", "10.9.0.0/16") == "10.0.0.2 50000 \(rmac2)")
        #expect(rig.route("default", "10.0.0.2/32") == "neighbor on u0 10.1.0.1")
        rig.kernel(Message.neighbor("10.1.0.1", "02:00:00:00:00:01", interface: 2))
        #expect(rig.paths("10.0.0.2") == "u0 02:00:00:00:00:01")
        // The underlay changes: tunnels do, routes do not.
        let value = rig.value("default", "10.9.0.0/16")
        rig.frame(Message.route("10.0.0.2/32", hops: [Message.hop("10.2.0.1", 3)]))
        rig.kernel(Message.neighbor("10.2.0.1", "02:00:00:00:00:02", interface: 3))
        #expect(rig.paths("10.0.0.2") == "u1 02:00:00:00:00:02")
        #expect(rig.value("default", "10.9.0.0/16") == value)
    }
    @Test func aRoutedPortIsNoWayToAVTEP() throws {
        let rig = try Self.makeRig()
        rig.frame(RoutedMessage.rmac("10.50.0.9", rmac2))
        rig.kernel(RoutedMessage.address("10.50.0.1/24", 4), Message.neighbor("10.50.0.9", macA, interface: 4))
        #expect(rig.members(ofVRF: "red") == ["10.50.0.9"])
        #expect(rig.paths("10.50.0.9") == "noUnderlayRoute")
    }
}
