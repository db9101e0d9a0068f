// Every fault of a configuration names its file, line, column, path and remedy.

import Foundation
import Glibc
import Testing

@testable import ControlPlane

/// A text, and where and how it is wrong.
struct FaultCase: CustomTestStringConvertible, Sendable {
    var name: String
    var yaml: String
    var line: Int
    var column: Int
    var path: String
    var message: String
    var testDescription: String { name }
    init(_ name: String, _ yaml: String, _ line: Int, _ column: Int, _ path: String, _ message: String) {
        self.name = name
        self.yaml = yaml
        self.line = line
        self.column = column
        self.path = path
        self.message = message
    }

    static let up = "ports: [{name: up0, driver: \"null\"}, {name: h1, driver: \"null\"}]\n"
    static let underlay = "underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [10.0.0.1]}}]\n"
    static let base = up + underlay

    static let files: [FaultCase] = [
        FaultCase("empty", "", 1, 1, "yaml", "the file is empty"),
        FaultCase("comment only", "# nothing\n", 1, 1, "yaml", "the file is empty"),
        FaultCase("a scalar", "hello", 1, 1, "", "must be a mapping, not \"hello\""),
        FaultCase("a list", "- a", 1, 1, "", "must be a mapping, not a list"),
        FaultCase("tab", "ports:\n\t- x", 2, 1, "yaml", "not valid YAML: found character that cannot start any token"),
        FaultCase("open bracket", "ports: [{name: a\n", 2, 1, "yaml", "not valid YAML"),
        FaultCase("open quote", "ports: \"a\n", 2, 1, "yaml", "not valid YAML"),
        FaultCase("two documents", "ports: []\n---\nports: []\n", 2, 1, "yaml", "a second YAML document begins"),
        FaultCase("control character", "ports: \u{1}\n", 1, 8, "yaml", "not valid YAML: control characters are not allowed"),
        FaultCase("key twice", "control: {}\nports: []\ncontrol: {}\n", 3, 1, "yaml", "the key \"control\" occurs twice in one mapping, first at line 1"),
        FaultCase("key twice in a line", "control: {routes: none, shadow: true, routes: fpm}", 1, 39, "yaml", "the key \"routes\" occurs twice"),
        FaultCase("quoted key twice", "control:\n  'routes': none\n  fpm: {listen: \"[::1]:5\"}\n  'routes': fpm\n", 4, 3, "yaml", "the key \"routes\" occurs twice"),
        FaultCase("key twice beside its like", "ports:\n- name: a\n  driver: null\n  name: b\n- name: c\n  driver: null\n", 4, 3, "yaml", "the key \"name\" occurs twice in one mapping, first at line 2"),
        FaultCase("nested key is not the same", "control: {routes: none, fpm: {listen: none}, fpm: none}", 1, 46, "yaml", "the key \"fpm\" occurs twice"),
        FaultCase("alias", "ports: &a []\nl2vnis: *a\n", 1, 8, "yaml", "YAML anchors and aliases"),
        FaultCase("unknown section", "prots: []", 1, 1, "file", "unknown key \"prots\" (did you mean \"ports\"?)"),
        FaultCase("unknown key", "dataplane:\n  lcores: {main: 0}\n  limit: {}\n", 3, 3, "dataplane", "unknown key \"limit\" (did you mean \"limits\"?)"),
        FaultCase("unknown key, nothing near", "control:\n  colour: red\n", 2, 3, "control", "unknown key \"colour\""),
        FaultCase("key is a list", "[a]: 1", 1, 1, "", "a key must be text"),
    ]

    static let dataplane: [FaultCase] = [
        FaultCase("text for a number", "dataplane: {memory: {mbufs: many}}", 1, 29, "dataplane.memory.mbufs", "must be a whole number, not \"many\""),
        FaultCase("quoted number", "dataplane: {memory: {mbufs: \"4096\"}}", 1, 29, "dataplane.memory.mbufs", "must be a whole number, not \"4096\""),
        FaultCase("octal-looking number", "dataplane: {memory: {mbufs: 04096}}", 1, 29, "dataplane.memory.mbufs", "must be a whole number"),
        FaultCase("list for a number", "dataplane: {memory: {mbufs: [1]}}", 1, 29, "dataplane.memory.mbufs", "must be a whole number, not a list"),
        FaultCase("huge number", "dataplane: {memory: {mbufs: 99999999999999999999999}}", 1, 29, "dataplane.memory.mbufs", "is out of range"),
        FaultCase("limit out of bounds", "dataplane: {limits: {macs: 1}}", 1, 28, "dataplane.limits.macs", "1 is out of range"),
        FaultCase("limit too large", "dataplane: {limits: {vteps: 100000}}", 1, 29, "dataplane.limits.vteps", "100000 is out of range"),
        FaultCase("unknown word", "dataplane: {idle: {policy: adaptve}}", 1, 28, "dataplane.idle.policy", "\"adaptve\" is unknown (did you mean \"adaptive\"?)"),
        FaultCase("relative socket", "dataplane: {adminSocket: admin.sock}", 1, 26, "dataplane.adminSocket", "cannot be the path of a unix socket"),
        FaultCase("long socket", "dataplane: {adminSocket: /\(String(repeating: "x", count: 110))}", 1, 26, "dataplane.adminSocket", "cannot be the path of a unix socket"),
        FaultCase("socket mode", "dataplane: {adminSocketMode: 0777}", 1, 30, "dataplane.adminSocketMode", "\"0777\" is no mode"),
        FaultCase("no workers", "dataplane: {lcores: {workers: []}}", 1, 31, "dataplane.lcores.workers", "there must be a worker"),
        FaultCase("bad range", "dataplane: {lcores: {workers: \"5-2\"}}", 1, 31, "dataplane.lcores.workers", "is no list of CPUs"),
        FaultCase("section is a list", "dataplane: []", 1, 12, "dataplane", "must be a mapping, not a list"),
        FaultCase("listen without port", "control: {fpm: {listen: 127.0.0.1}}", 1, 25, "control.fpm.listen", "is not host:port"),
        FaultCase("listen port signed", "control: {fpm: {listen: \"127.0.0.1:+5\"}}", 1, 25, "control.fpm.listen", "is not host:port"),
        FaultCase("listen port 0", "control: {fpm: {listen: \"127.0.0.1:0\"}}", 1, 25, "control.fpm.listen", "is not host:port"),
        FaultCase("listen on a name", "control: {fpm: {listen: \"example.org:2620\"}}", 1, 25, "control.fpm.listen", "names no local address"),
        FaultCase("listen on bare IPv6", "control: {fpm: {listen: \"::1:2620\"}}", 1, 25, "control.fpm.listen", "names no local address"),
        FaultCase("namespace", "control: {netns: a/b}", 1, 18, "control.netns", "cannot be a network namespace"),
        FaultCase("yes for true", "control: {shadow: yes}", 1, 19, "control.shadow", "must be true or false, not \"yes\""),
        FaultCase("negative hold", "control: {staleHoldSeconds: -1}", 1, 29, "control.staleHoldSeconds", "-1 is out of range"),
        FaultCase("hold is not finite", "control: {staleHoldSeconds: inf}", 1, 29, "control.staleHoldSeconds", "must be a number"),
        FaultCase("no listener for routes", "control: {fpm: none}", 1, 10, "control", "routes come from FPM, but fpm.listen is none"),
    ]

    static let ports: [FaultCase] = [
        FaultCase("no name", "ports:\n  - {driver: \"null\"}", 2, 5, "ports[0]", "name is missing"),
        FaultCase("no driver", "ports:\n  - {name: a}", 2, 5, "ports[0]", "driver is missing"),
        FaultCase("driver is nothing", "ports: [{name: a, driver: ~}]", 1, 27, "ports[0]", "driver is missing"),
        FaultCase("underlay without ports", up + "underlays: [{interfaces: [], tunnelEndpoint: {addresses: [10.0.0.1]}}]", 2, 13, "underlays", "an underlay has no interfaces"),
        FaultCase("unknown driver", "ports: [{name: a, driver: af_paket, device: x}]", 1, 27, "ports[0].driver", "\"af_paket\" is unknown (did you mean \"af_packet\"?)"),
        FaultCase("missing device", "ports:\n  - name: a\n    driver: af_packet\n", 2, 5, "ports[0]", "device is missing"),
        FaultCase("missing PCI device", "ports: [{name: a, driver: pci, device: ~}]", 1, 40, "ports[0]", "device is missing"),
        FaultCase("bad PCI address", "ports: [{name: a, driver: pci, device: eth0}]", 1, 40, "ports[0].device", "\"eth0\" is not a PCI address"),
        FaultCase("duplicate name", "ports:\n  - {name: a, driver: \"null\"}\n  - {name: a, driver: \"null\"}", 3, 12, "ports[1].name", "port \"a\" is already defined at ports[0] (line 2)"),
        FaultCase("duplicate device", "ports:\n  - {name: a, driver: af_packet, device: e}\n  - {name: b, driver: af_packet, device: e}", 3, 42, "ports[1].device", "af_packet device \"e\" is already port \"a\" (line 2)"),
        FaultCase("long name", "ports: [{name: a123456789012345, driver: \"null\"}]", 1, 16, "ports[0].name", "has 16 bytes; a Linux interface name has 1 to 15"),
        FaultCase("slash in a name", "ports: [{name: a/b, driver: \"null\"}]", 1, 16, "ports[0].name", "cannot be a Linux interface name"),
        FaultCase("space in a device", "ports: [{name: a, driver: af_packet, device: \"a b\"}]", 1, 46, "ports[0].device", "cannot be a Linux interface name"),
        FaultCase("small MTU", "ports: [{name: a, driver: \"null\", mtu: 67}]", 1, 40, "ports[0].mtu", "67 is out of range"),
        FaultCase("large MTU", "ports: [{name: a, driver: \"null\", mtu: 9703}]", 1, 40, "ports[0].mtu", "9703 is out of range"),
        FaultCase("bad MAC", "ports: [{name: a, driver: \"null\", mac: \"02:00\"}]", 1, 40, "ports[0].mac", "\"02:00\" is not a MAC address"),
        FaultCase("multicast MAC", "ports: [{name: a, driver: \"null\", mac: \"03:00:00:00:00:01\"}]", 1, 40, "ports[0].mac", "is not the address of one interface"),
        FaultCase("exception address", "ports: [{name: a, driver: \"null\", exception: {addresses: [10.0.0.1]}}]", 1, 59, "ports[0].exception.addresses[0]", "is not an address with a prefix length"),
        FaultCase("exception twice", "ports:\n- {name: a, driver: \"null\", exception: {}}\n- {name: b, driver: \"null\", exception: {name: a}}", 3, 47, "ports[1].exception.name", "the exception TAP \"a\" is already at ports[0].exception (line 2)"),
        FaultCase("netns of a NIC", "ports: [{name: a, driver: \"null\", netns: x}]", 1, 42, "ports[0].netns", "only af_packet and tap have a netns"),
        FaultCase("port is a word", "ports: [up0]", 1, 9, "ports[0]", "must be a mapping, not \"up0\""),
    ]

    static let overlay: [FaultCase] = [
        FaultCase("unknown interface", up + "underlays: [{interfaces: [up1], tunnelEndpoint: {addresses: [10.0.0.1]}}]", 2, 27, "underlays[0].interfaces[0]", "there is no port \"up1\" (did you mean \"up0\"?)"),
        FaultCase("bad endpoint", up + "underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [10.0.0.300]}}]", 2, 62, "underlays[0].tunnelEndpoint.addresses[0]", "\"10.0.0.300\" is not an IP address"),
        FaultCase("endpoint with length", up + "underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [10.0.0.3/32]}}]", 2, 62, "underlays[0].tunnelEndpoint.addresses[0]", "is not an IP address"),
        FaultCase("multicast endpoint", up + "underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [239.0.0.1]}}]", 2, 62, "underlays[0].tunnelEndpoint.addresses[0]", "239.0.0.1 is not a unicast address"),
        FaultCase("two endpoints", up + "underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [10.0.0.1, 10.0.0.2]}}]", 2, 72, "underlays[0].tunnelEndpoint.addresses[1]", "10.0.0.2 is a second IPv4 tunnel endpoint beside 10.0.0.1"),
        FaultCase("no endpoint", up + "underlays: [{interfaces: [up0]}]", 2, 13, "underlays[0]", "tunnelEndpoint is missing"),
        FaultCase("cidrs without index", up + "underlays: [{interfaces: [up0], tunnelEndpoint: {cidrs: [10.0.0.0/24]}}]", 2, 58, "underlays[0].tunnelEndpoint.cidrs[0]", "cidrs need this node's index"),
        FaultCase("overlapping L2VNIs", base + "l2vnis:\n- {vni: 110}\n- {vni: 110}", 5, 9, "l2vnis[1].vni", "VNI 110 is already used by l2vnis[0] (line 4)"),
        FaultCase("L2VNI and L3VNI overlap", base + "l3vnis: [{vrf: red, vni: 110}]\nl2vnis:\n- {vni: 110}", 5, 9, "l2vnis[0].vni", "VNI 110 is already used by l3vnis[0] (line 3)"),
        FaultCase("VNI 0", base + "l2vnis: [{vni: 0}]", 3, 16, "l2vnis[0].vni", "0 is out of range"),
        FaultCase("VNI too large", base + "l2vnis: [{vni: 16777216}]", 3, 16, "l2vnis[0].vni", "16777216 is out of range"),
        FaultCase("VNI missing", base + "l2vnis: [{name: a}]", 3, 10, "l2vnis[0]", "vni is missing"),
        FaultCase("VRF twice", base + "l3vnis: [{vrf: red, vni: 1}, {vrf: red, vni: 2}]", 3, 36, "l3vnis[1].vrf", "VRF \"red\" already has L3VNI 1 (line 3)"),
        FaultCase("VRF name", base + "l3vnis: [{vrf: a-very-long-vrf-name, vni: 1}]", 3, 16, "l3vnis[0].vrf", "a Linux interface name has 1 to 15"),
        FaultCase("family without endpoint", base + "l2vnis: [{vni: 1, underlayAddressFamily: IPv6}]", 3, 42, "l2vnis[0].underlayAddressFamily", "no underlay has an IPv6 tunnel endpoint"),
        FaultCase("unknown L3VNI", base + "l2vnis: [{vni: 1, routingDomain: {type: L3VNI, l3vni: {name: red}}}]", 3, 62, "l2vnis[0].routingDomain.l3vni.name", "there is no L3VNI \"red\""),
        FaultCase("L3VPN", base + "l2vnis: [{vni: 1, routingDomain: {type: L3VPN, l3vpn: {name: red}}}]", 3, 41, "l2vnis[0].routingDomain.type", "L3VPN (SRv6) is not supported"),
        FaultCase("gateway is a network", base + "l2vnis: [{vni: 1, gatewayIPs: [10.1.0.0/24]}]", 3, 32, "l2vnis[0].gatewayIPs[0]", "10.1.0.0/24 is a network"),
        FaultCase("two gateways", base + "l2vnis: [{vni: 1, gatewayIPs: [10.1.0.1/24, 10.1.0.2/24]}]", 3, 45, "l2vnis[0].gatewayIPs[1]", "10.1.0.2/24 is a second gateway of its family"),
        FaultCase("gateway MAC", base + "l2vnis: [{vni: 1, gatewayMAC: \"zz\"}]", 3, 31, "l2vnis[0].gatewayMAC", "\"zz\" is not a MAC address"),
        FaultCase("unknown circuit port", base + "l2vnis: [{vni: 1, ports: [{port: h2}]}]", 3, 34, "l2vnis[0].ports[0].port", "there is no port \"h2\" (did you mean \"h1\"?)"),
        FaultCase("underlay port as circuit", base + "l2vnis: [{vni: 1, ports: [{port: up0}]}]", 3, 34, "l2vnis[0].ports[0].port", "port \"up0\" belongs to the underlay at underlays[0].interfaces[0] (line 2)"),
        FaultCase("circuit in two VNIs", base + "l2vnis:\n- {vni: 1, ports: [{port: h1, vlan: 5}]}\n- {vni: 2, ports: [{port: h1, vlan: 5}]}", 5, 20, "l2vnis[1].ports[0]", "port \"h1\" VLAN 5 is already at l2vnis[0].ports[0] (line 4)"),
        FaultCase("untagged in two VNIs", base + "l2vnis:\n- {vni: 1, ports: [{port: h1}]}\n- {vni: 2, ports: [{port: h1}]}", 5, 20, "l2vnis[1].ports[0]", "port \"h1\" untagged is already at"),
        FaultCase("VLAN 0", base + "l2vnis: [{vni: 1, ports: [{port: h1, vlan: 0}]}]", 3, 44, "l2vnis[0].ports[0].vlan", "0 is out of range"),
        FaultCase("VLAN 4095", base + "l2vnis: [{vni: 1, ports: [{port: h1, vlan: 4095}]}]", 3, 44, "l2vnis[0].ports[0].vlan", "4095 is out of range"),
        FaultCase("nine UDP ports", base + "l2vnis:\n" + (1...9).map { "- {vni: \($0), vxlanPort: \(4788 + $0)}\n" }.joined(), 12, 23, "l2vnis[8].vxlanPort", "vxlanPort 4797 is one more than the 8"),
        FaultCase("name twice", base + "l2vnis: [{vni: 1, name: a}, {vni: 2, name: a}]", 3, 44, "l2vnis[1].name", "L2VNI \"a\" is already defined at l2vnis[0] (line 3)"),
        FaultCase("more than the limit", "dataplane: {limits: {l2vnis: 1}}\nl2vnis: [{vni: 1}, {vni: 2}]", 2, 9, "l2vnis", "2 are more than the limit of 1 l2vnis"),
    ]

    static let one = base + "l3vnis: [{vrf: red, vni: 9}]\nl2vnis: [{vni: 1}]\n"
    static let statics: [FaultCase] = [
        FaultCase("unknown VNI", one + "static: {vteps: [{vni: 2, address: 10.0.0.2}]}", 5, 24, "static.vteps[0].vni", "there is no L2VNI 2"),
        FaultCase("L3VNI", one + "static: {vteps: [{vni: 9, address: 10.0.0.2}]}", 5, 24, "static.vteps[0].vni", "VNI 9 is an L3VNI"),
        FaultCase("own VTEP", one + "static: {vteps: [{vni: 1, address: 10.0.0.1}]}", 5, 36, "static.vteps[0].address", "10.0.0.1 is this node's own tunnel endpoint"),
        FaultCase("other family", one + "static: {vteps: [{vni: 1, address: \"fd00::2\"}]}", 5, 36, "static.vteps[0].address", "fd00::2 is not of the VNI's family, IPv4"),
        FaultCase("VTEP twice", one + "static: {vteps: [{vni: 1, address: 10.0.0.2}, {vni: 1, address: 10.0.0.2}]}", 5, 47, "static.vteps[1]", "VTEP 10.0.0.2 of VNI 1 is already at static.vteps[0] (line 5)"),
        FaultCase("MAC without VTEP", one + "static: {macs: [{vni: 1, mac: \"02:00:00:00:00:01\"}]}", 5, 17, "static.macs[0]", "vtep is missing"),
        FaultCase("broadcast neighbor", one + "static: {neighbors: [{vni: 1, ip: 255.255.255.255, mac: \"02:00:00:00:00:01\"}]}", 5, 35, "static.neighbors[0].ip", "is not a unicast address"),
        FaultCase("unknown VRF", one + "static: {routes: [{vrf: rde, prefix: 10.0.0.0/8, nexthops: [{vtep: 10.0.0.2}]}]}", 5, 25, "static.routes[0].vrf", "there is no VRF \"rde\" (did you mean \"red\"?)"),
        FaultCase("host bits", one + "static: {routes: [{vrf: red, prefix: 10.9.1.0/16, nexthops: [{vtep: 10.0.0.2}]}]}", 5, 38, "static.routes[0].prefix", "10.9.1.0/16 has bits beyond its length"),
        FaultCase("no next hop", one + "static: {routes: [{vrf: red, prefix: 10.9.0.0/16, nexthops: []}]}", 5, 61, "static.routes[0].nexthops", "there is no next hop"),
        FaultCase("underlay over a circuit", one + "static: {underlay: [{prefix: 0.0.0.0/0, nexthops: [{port: h1, mac: \"02:00:00:00:00:01\"}]}]}", 5, 59, "static.underlay[0].nexthops[0].port", "port \"h1\" is not in an underlay"),
        FaultCase("next hop to nowhere", one + "static: {underlay: [{prefix: 0.0.0.0/0, nexthops: [{port: up0}]}]}", 5, 52, "static.underlay[0].nexthops[0]", "neither mac nor address"),
        FaultCase("prefix length", one + "static: {underlay: [{prefix: 10.0.0.0/33, nexthops: [{port: up0, mac: \"02:00:00:00:00:01\"}]}]}", 5, 30, "static.underlay[0].prefix", "\"10.0.0.0/33\" is not an address with a prefix length"),
    ]
}

@Suite("Configuration faults") struct ConfigurationFaultTests {
    @Test(
        "each fault names file, line, column, path and remedy, and brings no second one",
        arguments: FaultCase.files + FaultCase.dataplane + FaultCase.ports + FaultCase.overlay
            + FaultCase.statics)
    func fault(_ wanted: FaultCase) throws {
        let faults = Configuration.read(yaml: wanted.yaml, file: "pe.yaml").faults
        let fault = try #require(faults.first)
        #expect(faults.count == 1, "\(faults)")
        #expect(fault.file == "pe.yaml")
        #expect(fault.location == SourceLocation(line: wanted.line, column: wanted.column), "\(fault)")
        #expect(fault.path == wanted.path)
        #expect(fault.message.contains(wanted.message), "\(fault)")
        #expect(!fault.remedy.isEmpty)
        #expect(fault.description.hasPrefix("pe.yaml:\(wanted.line):\(wanted.column): "))
    }

    @Test("all faults are reported at once, in the order of the file") func all() {
        let faults = Configuration.read(
            yaml: """
                control: {routes: bgp}
                l2vnis:
                  - {vni: 110, ports: [{port: nowhere}]}
                  - {vni: 110, ports: [{port: a, vlan: 5000}]}
                ports:
                  - {name: a, driver: af_packet, mtu: big}
                  - {name: a, driver: "null"}
                colour: red
                colour: blue
                """
        ).faults
        #expect(faults.map(\.location.line) == [1, 3, 4, 4, 6, 6, 7, 8, 9])
        #expect(Set(faults.map(\.description)).count == 9)
    }

    @Test("a bomb of aliases is refused without being lit") func bomb() {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        for level in 1..<40 {
            let inner = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
            text += "a\(level): &a\(level) [\(inner)]\n"
        }
        text += "? *a39\n: boom\n"
        let start = ContinuousClock.now
        let faults = Configuration.read(yaml: text).faults
        #expect(faults.first?.message.contains("aliases") == true)
        // The same behind a quote that only a lenient scanner takes for one.
        let hidden = Configuration.read(yaml: "x: foo 'bar\n" + text).faults
        #expect(hidden.first?.message.contains("aliases") == true)
        #expect(ContinuousClock.now - start < .seconds(2))
    }

    @Test("text in quotes and comments may hold marks of aliases")
    func quotedMarks() {
        let text = "# see &a and *b\ncontrol: {routes: \"*none\"} # *x\n"
        #expect(Configuration.read(yaml: text).faults.map(\.path) == ["control.routes"])
    }

    @Test("deep nesting ends in a fault") func nesting() {
        for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
            let text = String(repeating: open, count: 100_000) + String(repeating: close, count: 100_000)
            #expect(!Configuration.read(yaml: text).faults.isEmpty)
        }
    }

    @Test("many faults and many duplicate keys take little time") func manyFaults() {
        var text = "ports:\n"
        for index in 0..<1000 { text += "  - {name: p\(index), driver: null}\n" }
        text += "l2vnis:\n"
        for index in 1..<2000 { text += "  - {vni: \(index), ports: [{port: q\(index)}]}\n" }
        for _ in 0..<50 { text += "control: {}\n" }
        let start = ContinuousClock.now
        #expect(Configuration.read(yaml: text).faults.count > 50)
        #expect(ContinuousClock.now - start < .seconds(60))
    }

    @Test("faults are bounded") func bounded() {
        let text = "ports:\n" + String(repeating: "  - 1\n", count: 10_000)
        #expect(Configuration.read(yaml: text).faults.count == ConfigurationReader.faultLimit)
    }

    @Test("every cut and every changed byte of a valid file gives a value or faults") func mutations() {
        let bytes = Array(contractExample.utf8)
        for end in stride(from: 0, to: bytes.count, by: 7) {
            _ = Configuration.read(yaml: String(decoding: bytes[..<end], as: UTF8.self))
        }
        var state: UInt64 = 0x9E37_79B9_7F4A_7C15
        for _ in 0..<400 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            var changed = bytes
            changed[Int(state >> 33) % bytes.count] = UInt8(truncatingIfNeeded: state >> 20)
            let reading = Configuration.read(yaml: String(decoding: changed, as: UTF8.self))
            #expect(reading.faults.allSatisfy { !$0.remedy.isEmpty && $0.location.line >= 1 })
        }
    }

    @Test("a file that is none is refused") func files() throws {
        let folder = Folder()
        let missing = Configuration.read(file: folder.path + "/none.yaml").faults
        #expect(missing.first?.message == "cannot be opened: No such file or directory")
        #expect(missing.first?.file == folder.path + "/none.yaml")
        #expect(Configuration.read(file: folder.path).faults.first?.message == "is not a regular file")
        mkfifo(folder.path + "/fifo", 0o600)
        #expect(Configuration.read(file: folder.path + "/fifo").faults.first?.message == "is not a regular file")
        let huge = folder.path + "/huge.yaml"
        FileManager.default.createFile(atPath: huge, contents: Data())
        truncate(huge, 64 << 20)
        #expect(Configuration.read(file: huge).faults.first?.message.contains("more than") == true)
        let binary = folder.path + "/binary.yaml"
        FileManager.default.createFile(atPath: binary, contents: Data([0x61, 0xFF, 0xFE]))
        #expect(Configuration.read(file: binary).faults.first?.message == "is not UTF-8 text")
        let good = folder.path + "/good.yaml"
        FileManager.default.createFile(atPath: good, contents: Data(contractExample.utf8))
        #expect(try Configuration.load(file: good) == Configuration(yaml: contractExample))
        do {
            _ = try Configuration.load(file: binary)
            Issue.record("a binary was taken for a configuration")
        } catch {
            #expect(error.description == "\(binary):0:0: file: is not UTF-8 text; save it as UTF-8")
        }
    }
}
