// Routes of a VRF: where they come from, what they lead to in the tables, what keeps them from use.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite struct RouteRuleTests {
    static func red(_ prefix: String, _ hops: RouteNextHop..., isDelete: Bool = false) -> NetlinkMessage {
        Message.route(prefix, table: 1001, hops: hops, isDelete: isDelete)
    }

    @Test func ownAddressesAndSubnetsAreRoutes() throws {
        let rig = try makeRoutedRig()
        #expect(rig.tableLines == [
            "red 192.168.100.0/24 subnet 1", "red 192.168.100.1/32 local 1", "red fd00:100::/64 subnet 1",
            "red fd00:100::1/128 local 1",
        ])
        let entry = try #require(rig.tables.vrf(1))
        #expect(entry.vni == VNI(50000) && MACAddress(rawValue: entry.routerMAC) == MACAddress("02:00:00:50:00:01"))
        #expect(entry.icmpSourceIPv4 == IPv4Address("192.168.100.1")?.networkOrder)
        #expect(rig.tables.domain(1)?.vrf == 1)
    }
    @Test func aRouteOutOfTheL3SVIGoesToTheVTEPWithItsRouterMAC() throws {
        let rig = try makeRoutedRig()
        rig.connectFPM()
        rig.frame(Self.red("10.9.0.0/16", Message.hop("10.0.0.2", 7, isOnlink: true)))
        #expect(rig.route("red", "10.9.0.0/16") == "10.0.0.2 50000 noRouterMAC")
        #expect(rig.members(ofVRF: "red") == ["10.0.0.2"])
        rig.frame(RoutedMessage.rmac("10.0.0.2", rmac2))
        #expect(rig.route("red", "10.9.0.0/16") == "10.0.0.2 50000 \(rmac2)")
        rig.frame(RoutedMessage.rmac("10.0.0.2", rmac3))
        #expect(rig.route("red", "10.9.0.0/16") == "10.0.0.2 50000 \(rmac3)")
        #expect(rig.lookUp("red", "10.9.1.1") == "10.0.0.2 50000 \(rmac3)")
        rig.frame(Self.red("10.9.0.0/16", isDelete: true), RoutedMessage.rmac("10.0.0.2", rmac3, isDelete: true))
        #expect(rig.route("red", "10.9.0.0/16") == nil)
        #expect(rig.members(ofVRF: "red") == [])
        #expect(rig.tables.hopCount == 0)
    }
    @Test func whereSourcesDisagreeOnARouterMACTheLiveFPMConnectionCounts() throws {
        let rig = try makeRoutedRig()
        rig.connectFPM()
        rig.kernel(RoutedMessage.rmac("10.0.0.2", rmac3))
        rig.frame(Self.red("10.9.0.0/16", Message.hop("10.0.0.2", 7, isOnlink: true)))
        #expect(rig.lookUp("red", "10.9.1.1") == "10.0.0.2 50000 \(rmac3)")
        rig.frame(RoutedMessage.rmac("10.0.0.2", rmac2))
        #expect(rig.lookUp("red", "10.9.1.1") == "10.0.0.2 50000 \(rmac2)")
        rig.kernel(RoutedMessage.rmac("10.0.0.2", rmac3))
        #expect(rig.lookUp("red", "10.9.1.1") == "10.0.0.2 50000 \(rmac2)")
    }
    @Test func twoVTEPsMayHaveOneRouterMAC() throws {
        let rig = try makeRoutedRig()
        rig.connectFPM()
        rig.frame(
            RoutedMessage.rmac("10.0.0.2", rmac2), RoutedMessage.rmac("10.0.0.3", rmac2),
            Self.red("10.8.0.0/16", Message.hop("10.0.0.2", 7, isOnlink: true)),
            Self.red("10.9.0.0/16", Message.hop("10.0.0.3", 7, isOnlink: true)))
        #expect(rig.lookUp("red", "10.8.1.1") == "10.0.0.2 50000 \(rmac2)")
        #expect(rig.lookUp("red", "10.9.1.1") == "10.0.0.3 50000 \(rmac2)")
        rig.frame(RoutedMessage.rmac("10.0.0.2", rmac3))
        #expect(rig.lookUp("red", "10.8.1.1") == "10.0.0.2 50000 \(rmac3)")
        #expect(rig.lookUp("red", "10.9.1.1") == "10.0.0.3 50000 \(rmac2)")
    }
    @Test func aRouterMACAloneMakesItsVTEPAMember() throws {
        let rig = try makeRoutedRig()
        rig.connectFPM()
        rig.frame(RoutedMessage.rmac("10.0.0.2", rmac2))
        #expect(rig.members(ofVRF: "red") == ["10.0.0.2"])
        rig.frame(RoutedMessage.rmac("10.0.0.2", rmac2, isDelete: true))
        #expect(rig.members(ofVRF: "red") == [])
    }
    @Test func mappedGatewaysAreTheIPv4VTEP() throws {
        let rig = try makeRoutedRig()
        rig.connectFPM()
        rig.frame(
            RoutedMessage.rmac("10.0.0.2", rmac2), Self.red("fd09::/32", Message.hop("::ffff:10.0.0.2", 7)),
            Self.red("10.9.0.0/16", Message.hop("10.0.0.2", 7)))
        #expect(rig.route("red", "fd09::/32") == "10.0.0.2 50000 \(rmac2)")
        #expect(rig.value("red", "fd09::/32") == rig.value("red", "10.9.0.0/16"))
    }
    @Test func unknownTablesNeverMakeVRFs() throws {
        let rig = try makeRoutedRig()
        rig.connectFPM()
        let before = rig.routingCounts
        rig.frame(Message.route("10.9.0.0/16", table: 1002, hops: [Message.hop("10.0.0.2", 7)]))
        #expect(rig.routingCounts == before)
    }
    @Test func aVRFDeviceThatComesLateOrIsRenumberedBringsItsRoutes() throws {
        let rig = try makeRoutedRig(links: false)
        rig.connectFPM()
        rig.frame(
            Message.route("10.9.0.0/16", table: 1001, hops: [Message.hop("10.0.0.2", 7)]),
            Message.route("10.8.0.0/16", table: 1005, hops: [Message.hop("10.0.0.3", 7)]))
        #expect(rig.lookUp("red", "10.9.0.1") == nil)
        rig.dump(RoutedMessage.links)
        #expect(rig.lookUp("red", "10.9.0.1") == "10.0.0.2 50000 noRouterMAC")
        #expect(rig.lookUp("red", "10.8.0.1") == nil)
        rig.kernel(RoutedMessage.vrf(20, "red", table: 1005))
        #expect(rig.lookUp("red", "10.9.0.1") == nil)
        #expect(rig.lookUp("red", "10.8.0.1") == "10.0.0.3 50000 noRouterMAC")
        rig.kernel(RoutedMessage.vrf(20, "red", table: 1005, isDelete: true))
        #expect(rig.lookUp("red", "10.8.0.1") == nil)
        #expect(rig.tables.hopCount == 0)
    }
    @Test func theDeviceAndTheLastRouteMayGoInOneBatch() throws {
        let rig = try makeRoutedRig()
        rig.connectFPM()
        rig.frame(Self.red("10.9.0.0/16", Message.hop("10.0.0.2", 7)))
        rig.batch([
            .kernelNotified([RoutedMessage.vrf(20, "red", table: 1001, isDelete: true)]),
            .fpmFrame(connection: 1, [Self.red("10.9.0.0/16", isDelete: true)]),
        ])
        #expect(rig.lookUp("red", "10.9.0.1") == nil)
    }
    @Test func routesWaitForTheirInterface() throws {
        let rig = try makeRoutedRig(links: false) { $0.l3vnis[0].table = 1001 }
        rig.connectFPM()
        rig.frame(
            RoutedMessage.rmac("10.0.0.2", rmac2), Message.nextHop(23, "10.0.0.2", 7),
            Message.route("10.9.0.0/16", table: 1001, id: 23), Self.red("10.8.0.0/16", Message.hop("10.0.0.2", 7)))
        #expect(rig.route("red", "10.9.0.0/16") == "group of 0: none")
        #expect(rig.route("red", "10.8.0.0/16") == "group of 0: none")
        rig.dump(RoutedMessage.links)
        #expect(rig.flows("red", "10.9.0.0/16").first == "10.0.0.2 50000 \(rmac2)")
        #expect(rig.flows("red", "10.8.0.0/16").first == "10.0.0.2 50000 \(rmac2)")
    }
    @Test func kindsWithoutNextHop() throws {
        let rig = try makeRoutedRig()
        rig.connectFPM()
        let kinds: [(RouteMessage.Kind, String)] = [
            (.blackhole, "blackhole"), (.unreachable, "unreachable"), (.prohibit, "prohibit"),
        ]
        for (index, (kind, text)) in kinds.enumerated() {
            rig.frame(Message.route("10.\(index).0.0/16", table: 1001, kind: kind))
            #expect(rig.route("red", "10.\(index).0.0/16") == text)
        }
        rig.frame(
            .nextHop(NextHopMessage(isDelete: false, id: 9, isBlackhole: true)),
            Message.route("10.7.0.0/16", table: 1001, id: 9), Message.route("10.6.0.0/16", table: 1001, kind: .other(3)))
        #expect(rig.route("red", "10.7.0.0/16") == "blackhole")
        #expect(rig.route("red", "10.6.0.0/16") == nil)
    }
    @Test func aDefaultRouteAndAHostRouteDoNotHideEachOther() throws {
        let rig = try makeRoutedRig()
        rig.connectFPM()
        rig.frame(
            Self.red("0.0.0.0/0", Message.hop("10.0.0.2", 7)), Self.red("10.9.1.1/32", Message.hop("10.0.0.3", 7)),
            Self.red("::/0", Message.hop("::ffff:10.0.0.2", 7)))
        #expect(rig.lookUp("red", "10.9.1.1") == "10.0.0.3 50000 noRouterMAC")
        #expect(rig.lookUp("red", "10.9.1.2") == "10.0.0.2 50000 noRouterMAC")
        #expect(rig.lookUp("red", "192.168.100.7") == "subnet 1")
        #expect(rig.lookUp("red", "2001:db8::1") == "10.0.0.2 50000 noRouterMAC")
        rig.frame(Self.red("10.9.1.1/32", isDelete: true))
        #expect(rig.lookUp("red", "10.9.1.1") == "10.0.0.2 50000 noRouterMAC")
    }
}
