// What the configuration file means.

import Testing
import Wire

@testable import ControlPlane

/// The example of the contract, as a user would write it.
let contractExample = """
    dataplane:
      lcores: {main: 0, workers: [1]}
      memory: {hugepages: auto, mbufs: 16384}        # auto: huge pages when there are any
      idle: {policy: adaptive}                       # poll | adaptive
      limits: {macs: 262144}
      eal: []                                        # extra EAL arguments
      adminSocket: /run/pe-dp/admin.sock
    ports:
      - {name: up0,  driver: af_packet, device: eth-up0, mtu: 1600, exception: {addresses: [10.0.1.1/31]}}
      - {name: host1, driver: af_packet, device: veth-h1}
      - {name: host2, driver: af_packet, device: veth-h2}
    underlays:
      - {interfaces: [up0], tunnelEndpoint: {addresses: [100.65.0.1, "fd00:65::1"]}}
    l3vnis:
      - {vrf: red, vni: 100, underlayAddressFamily: IPv4, routerMAC: auto}
    l2vnis:
      - {name: layer2, vni: 110, vxlanPort: 4789, routingDomain: {type: L3VNI, l3vni: {name: red}},
         gatewayIPs: [192.170.1.1/24, "2001:db8:1::1/64"], gatewayMAC: "00:f3:00:00:00:6f", neighborSuppression: true,
         ports: [{port: host1}, {port: host2, vlan: 20}]}
    control:
      netns: perouter
      fpm: {listen: "127.0.0.1:2620"}
      routes: fpm
      shadow: true
      staleHoldSeconds: 120
    static:
      vteps:     [{vni: 110, address: 100.65.0.2}]
      macs:      [{vni: 110, mac: "02:00:00:00:00:02", vtep: 100.65.0.2}]
      neighbors: [{vni: 110, ip: 192.170.1.20, mac: "02:00:00:00:00:02"}]
      routes:    [{vrf: red, prefix: 10.9.0.0/16, nexthops: [{vtep: 100.65.0.2, routerMAC: "02:00:00:00:64:02"}]}]
      underlay:  [{prefix: 100.65.0.2/32, nexthops: [{port: up0, mac: "02:00:00:00:00:fe"}]}]
    """

@Suite("Configuration") struct ConfigurationTests {
    @Test("the example of the contract is read as written") func contract() throws {
        let reading = Configuration.read(yaml: contractExample)
        #expect(reading.faults == [])
        #expect(reading.notes == [])
        let configuration = reading.configuration
        #expect(configuration.dataplane == Configuration.Dataplane())
        #expect(configuration.ports.map(\.name) == ["up0", "host1", "host2"])
        let up0 = try #require(configuration.ports.first)
        #expect(up0.driver == .afPacket && up0.device == "eth-up0" && up0.mtu == 1600)
        #expect(up0.exception?.addresses.map(\.description) == ["10.0.1.1/31"])
        #expect(up0.location == SourceLocation(line: 9, column: 12))
        let underlay = try #require(configuration.underlays.first)
        #expect(underlay.interfaces == ["up0"])
        #expect(underlay.tunnelEndpoints.map(\.description) == ["100.65.0.1", "fd00:65::1"])
        let l3vni = try #require(configuration.l3vnis.first)
        #expect(
            l3vni.vrf == "red" && l3vni.vni == VNI(100) && l3vni.routerMAC == nil
                && !l3vni.underlayIsIPv6
        )
        let l2vni = try #require(configuration.l2vnis.first)
        #expect(l2vni.name == "layer2" && l2vni.vni == VNI(110) && l2vni.vrf == "red")
        #expect(l2vni.vxlanPort == 4789 && l2vni.neighborSuppression && !l2vni.acceptUnknownVTEP)
        #expect(l2vni.gatewayIPs.map(\.description) == ["192.170.1.1/24", "2001:db8:1::1/64"])
        #expect(l2vni.gatewayMAC == MACAddress("00:f3:00:00:00:6f"))
        #expect(l2vni.circuits.map(\.port) == ["host1", "host2"])
        #expect(l2vni.circuits.map(\.vlan) == [nil, 20])
        var control = Configuration.Control()
        control.netns = "perouter"
        #expect(configuration.control == control)
        let state = configuration.static
        let vni = try #require(VNI(110))
        let vtep = try #require(IPAddress("100.65.0.2"))
        let mac = try #require(MACAddress("02:00:00:00:00:02"))
        let ip = try #require(IPAddress("192.170.1.20"))
        #expect(state.vteps == [.init(vni: vni, address: vtep)])
        #expect(state.macs == [.init(vni: vni, mac: mac, vtep: vtep)])
        #expect(state.neighbors == [.init(vni: vni, ip: ip, mac: mac)])
        #expect(
            state.routes.first?.nextHops == [
                .init(.vtep(vtep, routerMAC: MACAddress("02:00:00:00:64:02")))
            ]
        )
        #expect(
            state.underlay.first?.nextHops
                == [.init(port: "up0", mac: MACAddress("02:00:00:00:00:fe"), address: nil)]
        )
    }

    @Test("OpenPERouter's own fields are accepted, its endpoint comes from the node's index")
    func openPERouter() throws {
        let configuration = try Configuration(
            yaml: """
                dataplane: {nodeIndex: 3}
                ports: [{name: toswitch1, driver: af_packet, device: toswitch1, mtu: 9100}]
                underlays:
                  - asn: 64514
                    routerIDCIDR: 10.0.0.0/24
                    interfaces: [{type: NetworkDevice, networkDevice: {interfaceName: toswitch1}}]
                    tunnelEndpoint: {cidrs: ["100.65.0.0/24", "fd00:65::fffe/120"]}
                    neighbors: [{asn: 64512, address: 192.168.11.2}]
                l3vnis: [{vrf: red, vni: 100, hostSession: {asn: 64514}}]
                l2vnis: [{vni: 110, hostMaster: {type: LinuxBridge}}]
                """
        )
        let underlay = try #require(configuration.underlays.first)
        #expect(underlay.interfaces == ["toswitch1"])
        #expect(underlay.tunnelEndpoints.map(\.description) == ["100.65.0.3", "fd00:65::ff03"])
        #expect(configuration.l2vnis.first?.name == "vni110")
    }

    @Test("an underlay with IPv6 alone makes IPv6 the default family") func family() throws {
        let configuration = try Configuration(
            yaml: """
                ports: [{name: up0, driver: "null"}]
                underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: ["fd00::1"]}, udp6ZeroChecksumTx: true}]
                l2vnis: [{vni: 1}]
                """
        )
        #expect(configuration.l2vnis.first?.underlayIsIPv6 == true)
        #expect(configuration.underlays.first?.udp6ZeroChecksumTx == true)
    }

    @Test("a key without a value takes the default") func absent() throws {
        let configuration = try Configuration(
            yaml: "dataplane:\nports:\nl2vnis: ~\ncontrol: {netns: null, routes: none, fpm: none}\n"
        )
        #expect(configuration.dataplane == Configuration.Dataplane())
        #expect(configuration.ports.isEmpty)
        #expect(configuration.control.netns == nil && configuration.control.fpmListen == nil)
    }

    @Test("workers are a list or ranges of CPUs") func workers() throws {
        let text =
            "dataplane: {lcores: {workers: \"2-4,8\"}, adminSocketMode: 0660, macAgeingSeconds: 0}"
        let configuration = try Configuration(yaml: text)
        #expect(configuration.dataplane.workerLcores == [2, 3, 4, 8])
        #expect(configuration.dataplane.adminSocketMode == 0o660)
        #expect(configuration.dataplane.macAgeingSeconds == 0)
    }

    @Test("devices are as their drivers want them") func devices() throws {
        let configuration = try Configuration(
            yaml: """
                ports:
                  - {name: a, driver: pci, device: "3b:00.0"}
                  - {name: b, driver: tap}
                  - {name: c, driver: tap, device: tap9, netns: host}
                  - {name: d, driver: memif, device: /run/m.sock}
                  - {name: e, driver: vdev, device: "net_null7,size=64"}
                  - {name: f, driver: null}
                  - {name: g, driver: "null"}
                """
        )
        #expect(
            configuration.ports.map(\.device)
                == [
                    "0000:3b:00.0", "b", "tap9", "role=server,socket=/run/m.sock,socket-abstract=no",
                    "net_null7,size=64", "", "",
                ]
        )
        #expect(configuration.ports.last?.driver == .null)
        #expect(configuration.ports[2].netns == "host")
    }

    @Test("what is probably not meant is noted, and no fault") func notes() {
        let reading = Configuration.read(
            yaml: """
                ports:
                  - {name: up0, driver: af_packet, device: eth0}
                  - {name: h1, driver: af_packet, device: eth1}
                  - {name: h2, driver: af_packet, device: eth2}
                underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [100.65.0.1]}}]
                l2vnis: [{vni: 110, ports: [{port: h1}]}]
                """
        )
        #expect(reading.faults == [])
        #expect(reading.notes.map(\.location.line) == [3, 4])
        #expect(
            reading.notes.first?.message
                == "packets of 1500 bytes do not fit into the underlay's 1500"
        )
    }
}
