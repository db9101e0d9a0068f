// Shadow devices of what routes: VRFs, L3VNIs, gateways; and what a real FRR makes of them.

import CLinux
import Foundation
import Testing
import Wire

@testable import ControlPlane

private func vni(_ number: UInt32) throws -> VNI { try #require(VNI(number)) }
private func mac(_ text: String) throws -> MACAddress { try #require(MACAddress(text)) }
private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

private let gatewayMAC = "00:f3:00:00:00:6f"

/// A gateway in VRF red, its L3VNI, and the VRF.
private func tenant(vrf: String? = "red") throws -> (vnis: [ShadowVNI], vrfs: [ShadowVRF]) {
    let local = try #require(IPAddress("192.0.2.1"))
    return (
        [
            ShadowVNI(vni: try vni(900), local: local, mac: try mac("02:00:00:09:00:01"), isL3: true, vrf: vrf),
            ShadowVNI(
                vni: try vni(110), local: local, mac: try mac(gatewayMAC), vrf: vrf,
                addresses: [try prefix("10.1.0.1/24"), try prefix("2001:db8:1::1/64")]),
        ], vrf.map { [ShadowVRF(name: $0, table: 1001)] } ?? []
    )
}

@Suite("Shadow devices of VRFs: the plan") struct ShadowVRFPlanTests {
    private let vrfLink = LinkMessage(
        isDelete: false, interface: 20, name: "red", kind: .vrf(table: 1001), group: ShadowPlan.group)

    private func links(_ vni: ShadowVNI, from index: UInt32, master: UInt32?) -> [LinkMessage] {
        var links = [
            LinkMessage(
                isDelete: false, interface: index, name: vni.bridgeName, mac: vni.mac, master: master,
                kind: .bridge(vlanFiltering: false), addressGenerationMode: 1, group: ShadowPlan.group),
            LinkMessage(
                isDelete: false, interface: index + 1, name: vni.vxlanName, mac: vni.mac, master: index,
                kind: .vxlan(vni: vni.vni.rawValue, local: vni.local, port: 14789, collectMetadata: false),
                bridgePort: [], vxlanLearning: false, addressGenerationMode: 1, group: ShadowPlan.group),
        ]
        if !vni.isL3 {
            links.append(
                LinkMessage(
                    isDelete: false, interface: index + 2, name: vni.attachmentName, mac: vni.mac, master: index,
                    kind: .other("tun"), bridgePort: [], addressGenerationMode: 1, group: ShadowPlan.group))
        }
        return links
    }
    private func plan(
        _ wanted: (vnis: [ShadowVNI], vrfs: [ShadowVRF]), _ links: [LinkMessage], _ addresses: [(UInt32, IPPrefix)] = []
    ) -> ShadowPlan {
        ShadowPlan(
            ShadowWanted(vnis: wanted.vnis, vrfs: wanted.vrfs), port: 14789,
            ShadowView(
                links: links,
                addresses: addresses.map { AddressMessage(isDelete: false, interface: $0, prefix: $1) }))
    }
    private func right() throws -> [LinkMessage] {
        let wanted = try tenant()
        return [vrfLink] + links(wanted.vnis[0], from: 30, master: 20) + links(wanted.vnis[1], from: 40, master: 20)
    }
    private func addresses() throws -> [(UInt32, IPPrefix)] {
        [(40, try prefix("10.1.0.1/24")), (40, try prefix("2001:db8:1::1/64"))]
    }

    @Test("the VRF comes first, and bridges are born in it") func order() throws {
        let wanted = try tenant()
        let first = plan(wanted, [])
        #expect(first.requests.map(\.request) == [.createVRF(name: "red", table: 1001, group: ShadowPlan.group)])
        #expect(first.taps.isEmpty && !first.isDone)
        let second = plan(wanted, [vrfLink])
        #expect(
            second.requests.map(\.request) == [
                .createBridge(
                    name: "pebr900", mac: try mac("02:00:00:09:00:01"), group: ShadowPlan.group, master: 20),
                .createBridge(name: "pebr110", mac: try mac(gatewayMAC), group: ShadowPlan.group, master: 20),
            ])
        #expect(second.taps.map(\.device) == ["peac110"])
    }

    @Test("what is right is not touched") func untouched() throws {
        let plan = plan(try tenant(), try right(), try addresses())
        #expect(plan.isDone, "\(plan.requests) \(plan.conflicts)")
        #expect(
            plan.ready == [
                ShadowAttachment(vni: try vni(900), bridge: 30, vxlan: 31, attachment: 0),
                ShadowAttachment(vni: try vni(110), bridge: 40, vxlan: 41, attachment: 42),
            ])
        #expect(plan.readyVRFs == [ShadowVRFDevice(name: "red", interface: 20, table: 1001)])
    }

    @Test("missing and superfluous addresses are repaired, link-local ones left") func repaired() throws {
        var present = try addresses()
        present[0].1 = try prefix("10.1.0.2/24")
        present.append((40, try prefix("fe80::1/64")))
        let plan = plan(try tenant(), try right(), present)
        #expect(
            plan.requests.map(\.request) == [
                .addAddress(interface: 40, try prefix("10.1.0.1/24")),
                .deleteAddress(interface: 40, try prefix("10.1.0.2/24")),
            ])
    }

    @Test("a bridge in the wrong VRF moves, and only then gets its addresses") func moved() throws {
        var links = try right()
        links[3].master = nil
        let plan = plan(try tenant(), links)
        #expect(plan.requests.map(\.request) == [.setMaster(interface: 40, bridge: 20)])
        // Out of a VRF again, when the configuration has it in the default one.
        let out = self.plan(try tenant(vrf: nil), try right(), try addresses())
        #expect(
            out.requests.map(\.request) == [
                .setMaster(interface: 30, bridge: 0), .setMaster(interface: 40, bridge: 0),
            ])
        #expect(out.leftovers.map(\.device) == ["red"])
    }

    @Test("a VRF device of the user's is used as it is, never changed") func usersVRF() throws {
        var link = vrfLink
        link.group = 0
        link.kind = .vrf(table: 77)
        var wanted = try tenant()
        #expect(plan(wanted, [link]).conflicts.map(\.owner) == [.vrf("red")])
        wanted.vrfs[0].table = nil
        let found = plan(wanted, [link])
        #expect(found.readyVRFs == [ShadowVRFDevice(name: "red", interface: 20, table: 77)])
        link.isUp = false
        let down = plan(wanted, [link])
        #expect(down.requests.isEmpty && down.conflicts.first?.text.contains("ip link set red up") == true)
        link.kind = .other("dummy")
        #expect(plan(wanted, [link]).conflicts.count == 1)
    }

    @Test("an own VRF device with another table is made anew") func otherTable() throws {
        var link = vrfLink
        link.kind = .vrf(table: 5)
        #expect(plan(try tenant(), [link]).requests.map(\.request) == [.deleteLink(interface: 20)])
    }

    @Test("without the VRF an L2VNI stays, without its gateway; an L3VNI has no use") func dropped() throws {
        let both = try tenant()
        var wanted = ShadowWanted(vnis: both.vnis, vrfs: both.vrfs)
        wanted.drop(vrf: "red")
        #expect(wanted.vrfs.isEmpty)
        #expect(wanted.vnis.map(\.vni.rawValue) == [110])
        #expect(wanted.vnis[0].vrf == nil && wanted.vnis[0].addresses.isEmpty)
    }

    @Test("the configuration says what FRR has to see") func configuration() throws {
        let configuration = try Configuration(
            yaml: """
                ports:
                  - {name: up0, driver: "null"}
                  - {name: leg, driver: "null", vrf: green}
                underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [192.0.2.1, "2001:db8::1"]}}]
                l3vnis:
                  - {vrf: red, vni: 900, table: 1001, routerMAC: "02:00:00:09:00:01"}
                  - {vrf: default, vni: 901, underlayAddressFamily: IPv6}
                l2vnis:
                  - {vni: 110, gatewayIPs: [10.1.0.1/24, "2001:db8:1::1/64"], routingDomain: {type: L3VNI, l3vni: {name: red}}}
                  - {vni: 111, gatewayIPs: [10.2.0.1/24], routingDomain: {type: L3VNI, l3vni: {name: default}}}
                  - {vni: 112, gatewayIPs: [10.3.0.1/24]}
                """
        )
        let wanted = configuration.shadowDevices
        #expect(wanted.vrfs == [ShadowVRF(name: "red", table: 1001), ShadowVRF(name: "green")])
        let byVNI = Dictionary(wanted.vnis.map { ($0.vni.rawValue, $0) }) { a, _ in a }
        #expect(byVNI[900] == (try tenant().vnis[0]))
        #expect(byVNI[901]?.vrf == nil && byVNI[901]?.isL3 == true)
        #expect(byVNI[901]?.local.description == "2001:db8::1")
        #expect(byVNI[901]?.mac == configuration.routerMAC(of: configuration.l3vnis[1]))
        #expect(byVNI[110] == (try tenant().vnis[1]))
        #expect(byVNI[111]?.vrf == nil && byVNI[111]?.addresses.count == 1)
        #expect(byVNI[112]?.addresses == [])
    }
}

@Suite("Shadow devices that route, in the kernel", .serialized) struct ShadowRoutingKernelTests {
    /// Whether this kernel has VRF devices.
    private func hasVRFs(_ test: TestNamespace) -> Bool {
        test.shell("ip link add k3-probe type vrf table 99 && ip link del k3-probe && echo yes").contains("yes")
    }

    @Test("in the default VRF: addresses, router MAC, up; nothing of it is sent or answered") func defaultVRF() throws {
        guard let test = TestNamespace("k3shadow") else { return }
        let wanted = try tenant(vrf: nil)
        let namespace = try NetworkNamespace(test.name)
        let shadow = try ShadowDevices(in: namespace)
        let outcome = try shadow.ensure(wanted.vnis, vrfs: wanted.vrfs)
        #expect(outcome.problems == [])
        #expect(outcome.attachments.map(\.vni.rawValue) == [900, 110] && outcome.attachments[0].attachment == 0)
        for (device, words) in [
            ("pebr900", ["02:00:00:09:00:01", "LOWER_UP", "addrgenmode none"]), ("pebr110", [gatewayMAC, "LOWER_UP"]),
            ("pevx900", ["vxlan id 900", "master pebr900", "nolearning"]),
        ] {
            let text = test.shell("ip -d -o link show \(device)")
            for word in words { #expect(text.contains(word), "\(word): \(text)") }
        }
        #expect(!test.shell("ip -o link").contains("peac900"))
        let addresses = test.shell("ip -o addr show pebr110")
        #expect(addresses.contains("10.1.0.1/24") && addresses.contains("2001:db8:1::1/64"))
        #expect(!addresses.contains("tentative") && !addresses.contains("fe80"), "\(addresses)")
        #expect(test.shell("ip route").contains("10.1.0.0/24 dev pebr110"))
        // What the bridges send of themselves ends at their ports.
        Thread.sleep(forTimeInterval: 2)
        for device in ["pevx900", "pevx110", "peac110"] {
            #expect(test.shell("cat /sys/class/net/\(device)/statistics/tx_packets") == "0\n")
        }
        // A second look changes nothing.
        let log = EventLog()
        let feed = try KernelFeed(in: namespace) { log.add($0) }
        defer { feed.stop() }
        let again = try ShadowDevices(in: namespace).ensure(wanted.vnis, vrfs: wanted.vrfs)
        Thread.sleep(forTimeInterval: 0.2)
        #expect(again.problems == [] && again.attachments == outcome.attachments && log.events.isEmpty)
        #expect(try shadow.remove() == [])
        #expect(!test.shell("ip -o link; ip addr; ip route").contains("pebr"))
    }

    @Test("without IPv6 the IPv4 gateway and the VNI stay") func withoutIPv6() throws {
        guard let test = TestNamespace("k3nov6") else { return }
        test.shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
        let wanted = try tenant(vrf: nil)
        let outcome = try ShadowDevices(in: NetworkNamespace(test.name)).ensure(wanted.vnis)
        #expect(outcome.problems.count == 1 && outcome.problems[0].contains("2001:db8:1::1/64"), "\(outcome.problems)")
        #expect(outcome.attachments.count == 2)
        #expect(test.shell("ip -o addr show pebr110").contains("10.1.0.1/24"))
    }

    @Test("VRFs where the kernel has them; where not, the problem says what is lost and L2 stays") func vrf() throws {
        guard let test = TestNamespace("k3vrf") else { return }
        var wanted = try tenant()
        wanted.vrfs = [ShadowVRF(name: "red"), ShadowVRF(name: "blue", table: 1001)]
        let shadow = try ShadowDevices(in: NetworkNamespace(test.name))
        let outcome = try shadow.ensure(wanted.vnis, vrfs: wanted.vrfs)
        guard hasVRFs(test) else {
            #expect(outcome.attachments.map(\.vni.rawValue) == [110] && outcome.vrfs == [])
            let text = outcome.problems.joined(separator: "\n")
            #expect(text.contains("VRF red: cannot create VRF device red (table 1002)"), "\(text)")
            #expect(text.contains("modprobe vrf") && text.contains("FRR does not see L3VNI 900"), "\(text)")
            #expect(text.contains("does not see the gateways of VNI 110"), "\(text)")
            #expect(!test.shell("ip addr").contains("10.1.0.1") && !test.shell("ip -o link").contains("pebr900"))
            return
        }
        #expect(outcome.problems == [])
        #expect(outcome.vrfs.map(\.table) == [1002, 1001])
        #expect(test.shell("ip -o link show master red").contains("pebr110"))
        #expect(test.shell("ip route show vrf red").contains("10.1.0.0/24"))
        #expect(test.shell("ip -6 route show vrf red").contains("2001:db8:1::/64"))
        #expect(!test.shell("ip route").contains("10.1.0.0/24"))
        let again = try shadow.ensure(wanted.vnis, vrfs: wanted.vrfs)
        #expect(again.vrfs == outcome.vrfs && again.attachments == outcome.attachments)
        #expect(try shadow.remove() == [])
        #expect(!test.shell("ip -o link").contains("red"))
    }
}
