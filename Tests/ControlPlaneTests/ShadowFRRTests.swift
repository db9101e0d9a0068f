// What a stock FRR makes of the shadow devices that route, seen at a second FRR.

import Foundation
import Testing
import Wire

@testable import ControlPlane

/// A PE: its namespace, its configuration, and its number, which is in all its addresses.
private struct TestPE {
    let number: Int
    let test: TestNamespace
    let configuration: Configuration

    init?(_ number: Int, _ purpose: String) throws {
        guard let test = TestNamespace("k3frr\(purpose)\(number)") else { return nil }
        self.number = number
        self.test = test
        // PE 2 has a subnet of its own.
        let own = number == 2 ? "\n  - {vni: 120, gatewayIPs: [10.2.0.1/24, \"2001:db8:2::1/64\"], \(Self.domain)}" : ""
        configuration = try Configuration(
            yaml: """
                ports: [{name: up0, driver: "null"}]
                underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [100.65.0.\(number)]}}]
                l3vnis: [{vrf: default, vni: 900}]
                l2vnis:
                  - {vni: 110, gatewayIPs: [10.1.0.1/24, "2001:db8:1::1/64"], \(Self.domain)}\(own)
                """)
    }
    static let domain = "routingDomain: {type: L3VNI, l3vni: {name: default}}"
    var routerMAC: String { "\(configuration.routerMAC(of: configuration.l3vnis[0]))" }

    /// Overlay and underlay share the main table: route maps keep them apart.
    var frr: String {
        """
        vni 900
        router bgp 6500\(number)
         bgp router-id 100.65.0.\(number)
         no bgp default ipv4-unicast
         no bgp ebgp-requires-policy
         neighbor 10.0.1.\(3 - number) remote-as 6500\(3 - number)
         neighbor 10.0.1.\(3 - number) timers 1 3
         neighbor 10.0.1.\(3 - number) timers connect 1
         neighbor 10.0.1.\(3 - number) advertisement-interval 0
         address-family ipv4 unicast
          redistribute connected route-map overlay
         exit-address-family
         address-family ipv6 unicast
          redistribute connected
         exit-address-family
         address-family l2vpn evpn
          neighbor 10.0.1.\(3 - number) activate
          advertise-all-vni
          advertise ipv4 unicast
          advertise ipv6 unicast
         exit-address-family
        exit
        ip route 100.65.0.\(3 - number)/32 10.0.1.\(3 - number)
        ip prefix-list underlay seq 5 permit 10.0.1.0/24 le 32
        ip prefix-list underlay seq 6 permit 100.65.0.0/24 le 32
        route-map overlay deny 5
         match ip address prefix-list underlay
        route-map overlay permit 10

        """
    }

    /// Makes the devices, and puts a local host with one address of each family into a VNI, as the
    /// control plane's effects do.
    func makeShadow() throws -> ShadowDevices {
        let shadow = try ShadowDevices(in: NetworkNamespace(test.name))
        let wanted = configuration.shadowDevices
        let outcome = try shadow.ensure(wanted.vnis, vrfs: wanted.vrfs)
        #expect(outcome.problems == [])
        let vni = UInt32(number == 1 ? 110 : 120)
        let attachment = try #require(outcome.attachments.first { $0.vni.rawValue == vni })
        let mac = try #require(MACAddress("02:00:00:00:00:\(number)0"))
        let effects = [
            ControlEffect.addLocalMAC(interface: attachment.attachment, mac: mac),
            .addLocalNeighbor(
                interface: attachment.bridge, address: try #require(IPAddress("10.\(number).0.10")), mac: mac),
            .addLocalNeighbor(
                interface: attachment.bridge, address: try #require(IPAddress("2001:db8:\(number)::10")), mac: mac),
        ]
        let results = try KernelSocket(in: NetworkNamespace(test.name)).perform(effects.compactMap { KernelRequest($0) })
        #expect(results.allSatisfy { $0 == nil }, "\(results)")
        return shadow
    }
}

@Suite("FRR and the shadow devices that route", .serialized) struct ShadowFRRTests {
    /// Two PEs with a wire between them.
    private func pair(_ purpose: String) throws -> (TestPE, TestPE)? {
        guard TestFRR.isInstalled else {
            print("SKIPPED: FRR is not installed")
            return nil
        }
        guard let one = try TestPE(1, purpose), let two = try TestPE(2, purpose) else { return nil }
        one.test.shell("ip link add up0 type veth peer name up0 netns \(two.test.name)")
        for pe in [one, two] {
            pe.test.shell("ip addr add 10.0.1.\(pe.number)/24 dev up0; ip link set up0 up; ip addr add 100.65.0.\(pe.number)/32 dev lo")
        }
        return (one, two)
    }

    @Test(
        "in the default VRF the L3VNI comes up, subnets and hosts are announced with the router MAC, in every order",
        arguments: [[true, true], [false, true], [false, false]])
    func defaultVRF(devicesFirst: [Bool]) throws {
        guard let (one, two) = try pair("\(devicesFirst.map { $0 ? "d" : "f" }.joined())") else { return }
        var shadows: [ShadowDevices] = []
        var frrs: [TestFRR] = []
        for (pe, devicesFirst) in zip([one, two], devicesFirst) {
            if devicesFirst { shadows.append(try pe.makeShadow()) }
            frrs.append(try TestFRR(in: pe.test, configuration: pe.frr))
            if !devicesFirst {
                Thread.sleep(forTimeInterval: 1)
                shadows.append(try pe.makeShadow())
            }
        }
        let (a, b) = (frrs[0], frrs[1])
        for (frr, pe) in [(a, one), (b, two)] {
            let vni = frr.wait("show evpn vni 900", ["State: Up", "Router MAC: \(pe.routerMAC)", "SVI-If: pebr900"])
            #expect(vni.isThere, "\(vni.text)")
        }
        for (frr, pe) in [(b, one), (a, two)] {
            let number = pe.number
            let path = "100.65.0.\(number)"
            for (route, subnet) in [
                ("[2]:[0]:[48]:[02:00:00:00:00:\(number)0]:[32]:[10.\(number).0.10]", true),
                ("[2]:[0]:[48]:[02:00:00:00:00:\(number)0]:[128]:[2001:db8:\(number)::10]", true),
                ("[5]:[0]:[24]:[10.\(number).0.0]", false), ("[5]:[0]:[64]:[2001:db8:\(number)::]", false),
            ] {
                let type = subnet ? "2" : "5"
                let seen = frr.communities("show bgp l2vpn evpn route type \(type)", route, from: path)
                #expect(seen.contains("Rmac:\(pe.routerMAC)") && seen.contains("RT:6500\(number):900"), "\(route): \(seen)")
            }
            #expect(frr.wait("show evpn rmac vni 900", [pe.routerMAC, path]).isThere)
        }
        // The routes lead through the SVI of the L3VNI, where the control plane finds the VNI again.
        let host = b.wait("show ip route 10.1.0.10/32", ["via pebr900", "100.65.0.1"].suffix(1).map { $0 })
        #expect(host.isThere && host.text.contains("pebr900"), "\(host.text)")
        #expect(a.wait("show ipv6 route 2001:db8:2::/64", ["pebr900"]).isThere)
        try withdraw(one, a, b)
        for shadow in shadows { #expect(try shadow.remove() == []) }
        #expect(!one.test.shell("ip -o link").contains("pebr"))
        #expect(a.wait("show evpn vni", []).text.contains("900") == false || a.wait("show evpn vni 900", ["Down"]).isThere)
    }

    /// A host that is gone is withdrawn; a restart of pe-dp alone changes nothing.
    private func withdraw(_ pe: TestPE, _ near: TestFRR, _ far: TestFRR) throws {
        let namespace = try NetworkNamespace(pe.test.name)
        let wanted = pe.configuration.shadowDevices
        let outcome = try ShadowDevices(in: namespace).ensure(wanted.vnis)
        let attachment = try #require(outcome.attachments.first { $0.vni.rawValue == 110 })
        let gone = ControlEffect.deleteLocalNeighbor(
            interface: attachment.bridge, address: try #require(IPAddress("2001:db8:1::10")))
        let results = try KernelSocket(in: namespace).perform([gone].compactMap { KernelRequest($0) })
        #expect(results.allSatisfy { $0 == nil })
        let deadline = Date(timeIntervalSinceNow: 10)
        while far.show("show bgp l2vpn evpn route type 2").contains("[2001:db8:1::10]"), Date() < deadline {
            Thread.sleep(forTimeInterval: 0.1)
        }
        let text = far.show("show bgp l2vpn evpn route type 2")
        #expect(!text.contains("[2001:db8:1::10]") && text.contains("[10.1.0.10]"), "\(text)")
    }
}
