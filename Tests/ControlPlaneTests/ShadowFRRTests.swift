// What a stock FRR makes of the shadow devices that route, seen at a second FRR.

import Foundation
import Testing
import Wire

@testable import ControlPlane

/// A PE: its namespace, its configuration, and its number, which is in all its addresses.
///
/// All tenants have the same subnets, hosts and MACs; the VNIs of tenant *t* end in *t*.
private struct TestPE {
    let number: Int
    let tenants: [String]
    let test: TestNamespace
    let configuration: Configuration

    init?(_ number: Int, _ tenants: [String], _ purpose: String) throws {
        guard let test = TestNamespace("k3frr\(purpose)\(number)") else { return nil }
        self.number = number
        self.tenants = tenants
        self.test = test
        var l2vnis = ""
        for (index, tenant) in tenants.enumerated() {
            let domain = "routingDomain: {type: L3VNI, l3vni: {name: \(tenant)}}"
            l2vnis += "\n  - {vni: 11\(index), gatewayIPs: [10.1.0.1/24, \"2001:db8:1::1/64\"], \(domain)}"
            // PE 2 has a subnet of its own.
            if number == 2 {
                l2vnis += "\n  - {vni: 12\(index), gatewayIPs: [10.2.0.1/24, \"2001:db8:2::1/64\"], \(domain)}"
            }
        }
        configuration = try Configuration(
            yaml: """
                ports: [{name: up0, driver: "null"}]
                underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [100.65.0.\(number)]}}]
                l3vnis: [\(tenants.enumerated().map { "{vrf: \($1), vni: 90\($0)}" }.joined(separator: ", "))]
                l2vnis:\(l2vnis)
                """)
    }
    func routerMAC(_ tenant: Int) -> String { "\(configuration.routerMAC(of: configuration.l3vnis[tenant]))" }

    private static let advertise = """
         address-family l2vpn evpn
          advertise ipv4 unicast
          advertise ipv6 unicast
         exit-address-family
        """
    private static let connected = """
         address-family ipv4 unicast
          redistribute connected route-map overlay
         exit-address-family
         address-family ipv6 unicast
          redistribute connected
         exit-address-family
        """

    /// In the default VRF overlay and underlay share the main table: a route map keeps them apart.
    var frr: String {
        let isDefault = tenants == ["default"]
        var text = isDefault ? "vni 900\n" : ""
        for (index, tenant) in tenants.enumerated() where !isDefault {
            text += "vrf \(tenant)\n vni 90\(index)\nexit-vrf\n"
        }
        text += """
            router bgp 6500\(number)
             bgp router-id 100.65.0.\(number)
             no bgp default ipv4-unicast
             no bgp ebgp-requires-policy
             neighbor 10.0.1.\(3 - number) remote-as 6500\(3 - number)
             neighbor 10.0.1.\(3 - number) timers 1 3
             neighbor 10.0.1.\(3 - number) timers connect 1
             neighbor 10.0.1.\(3 - number) advertisement-interval 0
             address-family l2vpn evpn
              neighbor 10.0.1.\(3 - number) activate
              advertise-all-vni
             exit-address-family
            \(isDefault ? Self.connected + "\n" + Self.advertise : "")
            exit

            """
        for tenant in tenants where !isDefault {
            text += "router bgp 6500\(number) vrf \(tenant)\n\(Self.connected)\n\(Self.advertise)\nexit\n"
        }
        return text + """
            ip route 100.65.0.\(3 - number)/32 10.0.1.\(3 - number)
            ip prefix-list underlay seq 5 permit 10.0.1.0/24 le 32
            ip prefix-list underlay seq 6 permit 100.65.0.0/24 le 32
            route-map overlay deny 5
             match ip address prefix-list underlay
            route-map overlay permit 10

            """
    }

    /// Makes the devices, and puts a local host with one address of each family into a VNI of each
    /// tenant, as the control plane's effects do.
    func makeShadow() throws -> ShadowDevices {
        let shadow = try ShadowDevices(in: NetworkNamespace(test.name))
        let wanted = configuration.shadowDevices
        let outcome = try shadow.ensure(wanted.vnis, vrfs: wanted.vrfs)
        #expect(outcome.problems == [])
        let mac = try #require(MACAddress("02:00:00:00:00:\(number)0"))
        for index in tenants.indices {
            let attachment = try #require(outcome.attachments.first { "\($0.vni)" == "1\(number)\(index)" })
            let effects = [
                ControlEffect.addLocalMAC(interface: attachment.attachment, mac: mac),
                .addLocalNeighbor(
                    interface: attachment.bridge, address: try #require(IPAddress("10.\(number).0.10")), mac: mac),
                .addLocalNeighbor(
                    interface: attachment.bridge, address: try #require(IPAddress("2001:db8:\(number)::10")), mac: mac),
            ]
            let socket = try KernelSocket(in: NetworkNamespace(test.name))
            let results = socket.perform(effects.compactMap { KernelRequest($0) })
            #expect(results.allSatisfy { $0 == nil }, "\(results)")
        }
        return shadow
    }
}

@Suite("FRR and the shadow devices that route", .serialized) struct ShadowFRRTests {
    /// Two PEs with a wire between them.
    private func pair(_ tenants: [String], _ purpose: String) throws -> (TestPE, TestPE)? {
        guard TestFRR.isInstalled else {
            print("SKIPPED: FRR is not installed")
            return nil
        }
        guard let one = try TestPE(1, tenants, purpose), let two = try TestPE(2, tenants, purpose) else { return nil }
        one.test.shell("ip link add up0 type veth peer name up0 netns \(two.test.name)")
        for pe in [one, two] {
            pe.test.shell("ip addr add 10.0.1.\(pe.number)/24 dev up0; ip link set up0 up; ip addr add 100.65.0.\(pe.number)/32 dev lo")
        }
        return (one, two)
    }

    /// Starts FRR and the devices of both in the given order.
    private func start(_ pair: (TestPE, TestPE), devicesFirst: [Bool]) throws -> ([TestFRR], [ShadowDevices]) {
        var shadows: [ShadowDevices] = []
        var frrs: [TestFRR] = []
        for (pe, devicesFirst) in zip([pair.0, pair.1], devicesFirst) {
            if devicesFirst { shadows.append(try pe.makeShadow()) }
            frrs.append(try TestFRR(in: pe.test, configuration: pe.frr))
            if !devicesFirst {
                Thread.sleep(forTimeInterval: 1)
                shadows.append(try pe.makeShadow())
            }
        }
        return (frrs, shadows)
    }

    /// A tenant's L3VNI is up at both, and each has the other's subnets and hosts with its router MAC.
    private func checkTenant(_ index: Int, _ frrs: [TestFRR], _ pes: [TestPE]) {
        let l3vni = "90\(index)"
        for (frr, pe) in zip(frrs, pes) {
            let words = [
                "State: Up", "Router MAC: \(pe.routerMAC(index))", "SVI-If: pebr\(l3vni)",
                "Tenant VRF: \(pe.tenants[index])",
            ]
            let vni = frr.wait("show evpn vni \(l3vni)", words)
            #expect(vni.isThere, "\(vni.text)")
        }
        for (frr, pe) in zip(frrs.reversed(), pes) {
            let number = pe.number
            let path = "100.65.0.\(number)"
            for (route, type) in [
                ("[2]:[0]:[48]:[02:00:00:00:00:\(number)0]:[32]:[10.\(number).0.10]", 2),
                ("[2]:[0]:[48]:[02:00:00:00:00:\(number)0]:[128]:[2001:db8:\(number)::10]", 2),
                ("[5]:[0]:[24]:[10.\(number).0.0]", 5), ("[5]:[0]:[64]:[2001:db8:\(number)::]", 5),
            ] {
                let seen = frr.communities(
                    "show bgp l2vpn evpn route type \(type)", route, from: path, with: "RT:6500\(number):\(l3vni)")
                #expect(seen.contains("Rmac:\(pe.routerMAC(index))"), "\(route): \(seen)")
            }
            #expect(frr.wait("show evpn rmac vni \(l3vni)", [pe.routerMAC(index), path]).isThere)
        }
    }

    @Test(
        "in the default VRF the L3VNI comes up, subnets and hosts are announced with the router MAC, in every order",
        arguments: [[true, true], [false, true], [false, false]])
    func defaultVRF(devicesFirst: [Bool]) throws {
        guard let pair = try pair(["default"], "\(devicesFirst.map { $0 ? "d" : "f" }.joined())") else { return }
        let (frrs, shadows) = try start(pair, devicesFirst: devicesFirst)
        checkTenant(0, frrs, [pair.0, pair.1])
        // The routes lead through the SVI of the L3VNI, where the control plane finds the VNI again.
        let host = frrs[1].wait("show ip route 10.1.0.10/32", ["100.65.0.1", "via pebr900"])
        #expect(host.isThere, "\(host.text)")
        #expect(frrs[0].wait("show ipv6 route 2001:db8:2::/64", ["pebr900"]).isThere)
        try withdraw(pair.0, frrs[0], frrs[1])
        for shadow in shadows { #expect(try shadow.remove() == []) }
        #expect(!pair.0.test.shell("ip -o link").contains("pebr"))
    }

    @Test(
        "two tenants with the same subnets and hosts are told apart, where the kernel has VRFs",
        arguments: [[true, true], [false, false]])
    func tenants(devicesFirst: [Bool]) throws {
        guard let pair = try pair(["red", "blue"], "v\(devicesFirst[0] ? "d" : "f")") else { return }
        let probe = pair.0.test.shell("ip link add k3-probe type vrf table 99 && ip link del k3-probe && echo yes")
        guard probe.contains("yes") else {
            print("SKIPPED: this kernel has no VRF devices; scripts/guest has")
            return
        }
        let (frrs, shadows) = try start(pair, devicesFirst: devicesFirst)
        for index in 0..<2 { checkTenant(index, frrs, [pair.0, pair.1]) }
        for (index, tenant) in ["red", "blue"].enumerated() {
            let route = frrs[0].wait("show ip route vrf \(tenant) 10.2.0.10/32", ["100.65.0.2", "via pebr90\(index)"])
            #expect(route.isThere, "\(route.text)")
            #expect(frrs[0].wait("show ipv6 route vrf \(tenant) 2001:db8:2::/64", ["pebr90\(index)"]).isThere)
            let kernel = pair.0.test.shell("ip route show vrf \(tenant) 10.2.0.10")
            #expect(kernel.contains("dev pebr90\(index)"), "\(kernel)")
        }
        #expect(!frrs[0].show("show ip route").contains("10.2.0"))
        for shadow in shadows { #expect(try shadow.remove() == []) }
        #expect(!pair.0.test.shell("ip -o link").contains("red"))
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
