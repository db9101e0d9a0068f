// Thousands of VNIs and VRFs: within the default limits, found by number, refused by the limit's name.

import Tables
import Testing
import Wire

@testable import ControlPlane

/// The configuration of `l2` L2VNIs, dealt to `l3` VRFs in turn.
private func fabric(l2: Int, l3: Int, more: String = "") -> String {
    var lines = [
        "ports: [{name: up0, driver: \"null\"}, {name: t0, driver: \"null\"},",
        "        {name: t1, driver: \"null\"}, {name: leg, driver: \"null\", vrf: v1}]",
        "underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [192.0.2.1]}}]", "l3vnis:",
    ]
    lines += (0..<l3).map { "  - {vrf: v\($0), vni: \(100_001 + $0), table: \(2000 + $0)}" }
    lines.append("l2vnis:")
    lines += (0..<l2).map { index in
        "  - {vni: \(index + 1), gatewayIPs: [10.\(index >> 8).\(index & 255).1/24], "
            + "routingDomain: {type: L3VNI, l3vni: {name: v\(index % l3)}}, "
            + "ports: [{port: t\(index & 1), vlan: \(2 + index / 2)}]}"
    }
    return lines.joined(separator: "\n") + "\n" + more
}

@Suite struct ScaleTests {
    @Test func fourThousandVNIsInAThousandVRFsFitTheDefaultLimits() throws {
        let reading = Configuration.read(yaml: fabric(l2: 4096, l3: 1024))
        #expect(reading.faults == [])
        let configuration = reading.configuration
        #expect(configuration.dataplane.limits == Configuration.Limits())
        let rig = try ControlRig(configuration)
        for index in [0, 1, 1023, 1024, 4095] {
            let vni = try #require(VNI(UInt32(index + 1)))
            #expect(rig.state.numbering.domain(of: vni) == UInt16(index + 1))
            let mac = configuration.l2vnis[index].effectiveGatewayMAC
            #expect(rig.place(vni.rawValue, "\(try #require(mac))") == "gateway")
        }
        for vrf in [UInt16(1), 512, 1024] {
            let entry = try #require(rig.tables.vrf(vrf))
            #expect(entry.vni?.rawValue == 100_000 + UInt32(vrf))
            // The gateway of its first L2VNI.
            let first = Int(vrf) - 1
            #expect(entry.icmpSourceIPv4 != 0)
            #expect(rig.state.icmpSources(vrf: vrf).v4.map { "\($0)" } == "10.\(first >> 8).\(first & 255).1")
        }
        #expect(rig.state.vrfRows().count == 1024)
        #expect(rig.state.vrfRows().first { $0.vrf == "v7" }?.l2vnis == [8, 1032, 2056, 3080])
    }

    @Test func oneMoreThanALimitNamesItsKey() {
        let vnis = Configuration.read(yaml: fabric(l2: 4097, l3: 1)).faults
        #expect(vnis.map(\.remedy) == ["raise dataplane.limits.l2vnis, or configure fewer"])
        #expect(vnis.first?.message == "4097 are more than the limit of 4096 l2vnis")
        let vrfs = Configuration.read(yaml: fabric(l2: 1, l3: 1025)).faults
        #expect(vrfs.map(\.remedy) == ["raise dataplane.limits.vrfs, or configure fewer"])
        let raised = "dataplane: {limits: {l2vnis: 4097, vrfs: 1025}}\n" + fabric(l2: 4097, l3: 1025)
        #expect(Configuration.read(yaml: raised).faults == [])
    }

    @Test func numbersLeadFromAVRFToWhatIsInIt() throws {
        let numbering = PortNumbering(try Configuration(yaml: fabric(l2: 5, l3: 2)))
        #expect(numbering.domains(ofVRF: 1) == [1, 3, 5])
        #expect(numbering.domains(ofVRF: 2) == [2, 4])
        #expect(numbering.ports(ofVRF: 1) == [] && numbering.ports(ofVRF: 2) == [3])
        #expect(numbering.l3vni(ofVRF: 1) == 0 && numbering.l3vni(ofVRF: 2) == 1)
        #expect(numbering.hasCircuits == [false, true, true, false])
        // No VRF, and one that is not there.
        for vrf in [UInt16(0), 3, .max] {
            #expect(numbering.domains(ofVRF: vrf) == [] && numbering.ports(ofVRF: vrf) == [])
            #expect(numbering.l3vni(ofVRF: vrf) == nil)
        }
    }

    @Test func aVRFOfAPortAloneHasNoL3VNIAndTakesNoVTEP() throws {
        let port = "ports: [{name: up0, driver: \"null\"}, {name: leg, driver: \"null\", vrf: far}]\n"
        let rest = """
            underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [192.0.2.1]}}]
            static:
              routes:
                - {vrf: far, prefix: 10.0.0.0/8, nexthops: [{address: 10.1.1.1, port: leg}]}
                - {vrf: far, prefix: 11.0.0.0/8, nexthops: [{vtep: 192.0.2.9}]}
                - {vrf: fra, prefix: 12.0.0.0/8, type: blackhole}
            """
        let faults = Configuration.read(yaml: port + rest).faults.map(\.message)
        #expect(
            faults == [
                "VRF \"far\" has no L3VNI to reach 192.0.2.9 through",
                "there is no VRF \"fra\" (did you mean \"far\"?)",
            ])
    }

    @Test func tablesAndVRFsAreGivenOnce() {
        let yaml = """
            ports: [{name: up0, driver: "null"}]
            underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [192.0.2.1]}}]
            l3vnis:
              - {vrf: a, vni: 1, table: 2000}
              - {vrf: b, vni: 2, table: 2000}
              - {vrf: a, vni: 3}
            """
        let faults = Configuration.read(yaml: yaml).faults
        #expect(
            faults.map(\.message) == [
                "table 2000 already belongs to VRF \"a\"", "VRF \"a\" already has L3VNI 1 (line 4)",
            ])
    }

    @Test func shadowDevicesAreKeptOnlyWhenAsked() throws {
        let kept = try Configuration(yaml: fabric(l2: 1, l3: 1, more: "control: {keepShadow: true}\n"))
        #expect(kept.control.keepShadow)
        #expect(try !Configuration(yaml: fabric(l2: 1, l3: 1)).control.keepShadow)
        let fault = Configuration.read(yaml: fabric(l2: 1, l3: 1, more: "control: {keepShadow: maybe}\n")).faults
        #expect(fault.map(\.path) == ["control.keepShadow"])
    }

    @Test func anAddressOfASharedSubnetTakesItAlongOnlyWithTheLastOne() throws {
        let rig = try ControlRig(Configuration(yaml: fabric(l2: 1, l3: 1)))
        func address(_ text: String, isDelete: Bool = false) throws -> NetlinkMessage {
            .address(
                AddressMessage(isDelete: isDelete, interface: 7, prefix: try #require(IPPrefix(text))))
        }
        let network = try #require(IPPrefix("198.51.100.0/24"))
        rig.apply(.kernelNotified([try address("198.51.100.1/24"), try address("198.51.100.2/24")]))
        rig.apply(.kernelNotified([try address("198.51.100.1/24", isDelete: true)]))
        #expect(rig.state.connected[network] == [7])
        rig.apply(.kernelNotified([try address("198.51.100.2/24", isDelete: true)]))
        #expect(rig.state.connected[network] == nil && rig.state.interfacePrefixes.isEmpty)
    }
}
