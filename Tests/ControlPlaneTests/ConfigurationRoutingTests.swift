// What the configuration says of routing: VRFs, routed ports, outer headers, static routes.

import Testing
import Wire

@testable import ControlPlane

private typealias Place = ControlPlane.SourceLocation

/// A text in which « stands before what is wrong.
private struct MarkedFault: CustomTestStringConvertible, Sendable {
    var name: String
    var yaml: String
    var path: String
    var message: String
    var testDescription: String { name }
    init(_ name: String, _ yaml: String, _ path: String, _ message: String) {
        self.name = name
        self.yaml = Self.base + yaml
        self.path = path
        self.message = message
    }
    static let base = """
        ports:
        - {name: up0, driver: "null", exception: {addresses: [10.0.1.1/31]}}
        - {name: h1, driver: "null"}
        - {name: leg, driver: "null", vrf: red, exception: {addresses: [10.7.0.1/24]}}
        underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [10.0.0.1]}}]
        l3vnis: [{vrf: red, vni: 900}, {vrf: blue, vni: 901}]

        """
    var location: Place? {
        for (index, line) in yaml.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if let mark = line.firstIndex(of: "«") {
                return Place(line: index + 1, column: line.distance(from: line.startIndex, to: mark) + 1)
            }
        }
        return nil
    }
    var text: String { yaml.replacing("«", with: "") }

    static let red = "routingDomain: {type: L3VNI, l3vni: {name: red}}"
    static func route(_ hops: String) -> String {
        "static: {routes: [{vrf: red, prefix: 10.9.0.0/16, nexthops: [\(hops)]}]}"
    }

    static let subnets: [MarkedFault] = [
        MarkedFault(
            "subnets overlap", "l2vnis:\n- {vni: 1, \(red), gatewayIPs: [10.1.0.1/16]}\n- {vni: 2, \(red), gatewayIPs: [«10.1.5.1/24]}",
            "l2vnis[1].gatewayIPs[0]", "10.1.5.1/24 overlaps with 10.1.0.1/16 of l2vnis[0].gatewayIPs[0] (line 8) in VRF \"red\""),
        MarkedFault(
            "subnet of a routed port", "l2vnis: [{vni: 1, \(red), gatewayIPs: [«10.7.0.129/25]}]",
            "l2vnis[0].gatewayIPs[0]", "overlaps with 10.7.0.1/24 of ports[2].exception.addresses[0] (line 4)"),
        MarkedFault(
            "IPv6 subnets overlap", "l2vnis:\n- {vni: 1, \(red), gatewayIPs: [\"fd00::1/48\"]}\n- {vni: 2, \(red), gatewayIPs: [«\"fd00::2/64\"]}",
            "l2vnis[1].gatewayIPs[0]", "fd00::2/64 overlaps with fd00::1/48"),
        MarkedFault(
            "the gateway as neighbour", "l2vnis: [{vni: 1, \(red), gatewayIPs: [10.1.0.1/16]}]\nstatic: {neighbors: [{vni: 1, ip: «10.1.0.1, mac: \"02:00:00:00:00:01\"}]}",
            "static.neighbors[0].ip", "10.1.0.1 is the gateway's own address"),
    ]

    static let ports: [MarkedFault] = [
        MarkedFault(
            "routed port as circuit", "l2vnis: [{vni: 1, ports: [{port: «leg}]}]", "l2vnis[0].ports[0].port",
            "port \"leg\" is routed: it has a VRF at ports[2].vrf (line 4)"),
        MarkedFault(
            "routed port with a VLAN circuit", "l2vnis: [{vni: 1, ports: [{port: «leg, vlan: 7}]}]",
            "l2vnis[0].ports[0].port", "port \"leg\" is routed"),
    ]

    static let routes: [MarkedFault] = [
        MarkedFault("no form", route("«{weight: 2}"), "static.routes[0].nexthops[0]", "neither vtep nor address nor vrf"),
        MarkedFault(
            "two forms", route("«{vtep: 10.0.0.2, address: 10.7.0.9}"), "static.routes[0].nexthops[0]",
            "the next hop has vtep and address"),
        MarkedFault(
            "address and VRF", route("«{address: 10.7.0.9, vrf: blue}"), "static.routes[0].nexthops[0]",
            "the next hop has address and vrf"),
        MarkedFault(
            "port of a VTEP", route("{vtep: 10.0.0.2, port: «leg}"), "static.routes[0].nexthops[0].port",
            "port goes with address"),
        MarkedFault(
            "router MAC of a host", route("{address: 10.7.0.9, routerMAC: «\"02:00:00:00:00:01\"}"),
            "static.routes[0].nexthops[0].routerMAC", "routerMAC goes with vtep"),
        MarkedFault(
            "unknown VRF to leak to", route("{vrf: «bleu}"), "static.routes[0].nexthops[0].vrf",
            "there is no VRF \"bleu\" (did you mean \"blue\"?)"),
        MarkedFault("leak to itself", route("{vrf: «red}"), "static.routes[0].nexthops[0].vrf", "is a loop"),
        MarkedFault(
            "leak beside another", "static: {routes: [{vrf: red, prefix: 10.9.0.0/16, nexthops: «[{vrf: blue}, {vtep: 10.0.0.2}]}]}",
            "static.routes[0].nexthops", "cannot share a route with others"),
        MarkedFault("host of no subnet", route("{address: «10.8.0.9}"), "static.routes[0].nexthops[0].address", "is in no subnet of VRF \"red\""),
        MarkedFault("other family", route("{address: «\"fd00::9\", port: leg}"), "static.routes[0].nexthops[0].address", "is not of the prefix's family, IPv4"),
        MarkedFault("port that is not routed", route("{address: 10.7.0.9, port: «h1}"), "static.routes[0].nexthops[0].port", "port \"h1\" is not routed in VRF \"red\""),
        MarkedFault("unknown port", route("{address: 10.7.0.9, port: «lag}"), "static.routes[0].nexthops[0].port", "there is no port \"lag\" (did you mean \"leg\"?)"),
        MarkedFault("IPv6 VTEP of an IPv4 L3VNI", route("{vtep: «\"fd00::2\"}"), "static.routes[0].nexthops[0].vtep", "is not of the L3VNI's family, IPv4"),
        MarkedFault("weight 0", route("{vtep: 10.0.0.2, weight: «0}"), "static.routes[0].nexthops[0].weight", "0 is out of range"),
        MarkedFault("weight 257", route("{vtep: 10.0.0.2, weight: «257}"), "static.routes[0].nexthops[0].weight", "257 is out of range"),
        MarkedFault("the same next hop twice", route("{vtep: 10.0.0.2}, «{vtep: 10.0.0.2, weight: 2}"), "static.routes[0].nexthops[1]", "the next hop is there twice"),
        MarkedFault("unknown type", "static: {routes: [{vrf: red, prefix: 10.9.0.0/16, type: «balckhole}]}", "static.routes[0].type", "\"balckhole\" is unknown (did you mean \"blackhole\"?)"),
        MarkedFault("blackhole with a next hop", "static: {routes: [{vrf: red, prefix: 10.9.0.0/16, type: blackhole, nexthops: «[{vtep: 10.0.0.2}]}]}", "static.routes[0].nexthops", "a route of type blackhole has no next hops"),
        MarkedFault("unicast without a next hop", "static: {routes: [«{vrf: red, prefix: 10.9.0.0/16, type: unicast}]}", "static.routes[0]", "nexthops is missing"),
        MarkedFault("route twice", "static: {routes: [{vrf: red, prefix: 0.0.0.0/0, type: blackhole}, «{vrf: red, prefix: 0.0.0.0/0, type: prohibit}]}", "static.routes[1]", "route 0.0.0.0/0 of VRF red is already at static.routes[0] (line 7)"),
    ]
}

@Suite("Configuration of routing") struct ConfigurationRoutingTests {
    @Test(
        "each fault names its place and a remedy, and brings no second one",
        arguments: MarkedFault.subnets + MarkedFault.ports + MarkedFault.routes)
    private func fault(_ wanted: MarkedFault) throws {
        try check(wanted.text, at: wanted.location, path: wanted.path, wanted.message)
    }

    private func check(_ text: String, at location: Place?, path: String, _ message: String) throws {
        let faults = Configuration.read(yaml: text, file: "pe.yaml").faults
        let fault = try #require(faults.first, "no fault")
        #expect(faults.count == 1, "\(faults)")
        #expect(fault.location == location, "\(fault)")
        #expect(fault.path == path)
        #expect(fault.message.contains(message), "\(fault)")
        #expect(!fault.remedy.isEmpty)
    }

    @Test("DSCP, TTL, tables, names and timeouts have bounds") func bounds() throws {
        let up = "ports: [{name: up0, driver: \"null\"}]\n"
        let underlay = { (extra: String) -> String in
            up + "underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [10.0.0.1]}, \(extra)}]"
        }
        let cases: [(String, Int, Int, String, String)] = [
            (underlay("dscp: 64"), 2, 80, "underlays[0].dscp", "64 is out of range"),
            (underlay("dscp: coppy"), 2, 80, "underlays[0].dscp", "must be a number or copy"),
            (underlay("dscp: -1"), 2, 80, "underlays[0].dscp", "must be a number or copy"),
            (underlay("ttl: 0"), 2, 79, "underlays[0].ttl", "0 is out of range"),
            (underlay("ttl: 256"), 2, 79, "underlays[0].ttl", "256 is out of range"),
            (underlay("ttl: [1]"), 2, 79, "underlays[0].ttl", "must be a number or copy, not a list"),
            ("dataplane: {neighborTimeoutSeconds: 2}", 1, 37, "dataplane.neighborTimeoutSeconds", "2 is out of range"),
            ("l3vnis: [{vrf: red, vni: 9, table: 254}]", 1, 36, "l3vnis[0].table", "table 254 is one of the kernel's own"),
            ("l3vnis: [{vrf: default, vni: 9, table: 100}]", 1, 40, "l3vnis[0].table", "the VRF default is the main table"),
            ("l3vnis: [{vrf: a, vni: 8, table: 7}, {vrf: b, vni: 9, table: 7}]", 1, 62, "l3vnis[1].table", "table 7 already belongs to VRF \"a\""),
            ("ports: [{name: a, driver: \"null\", vrf: a/b}]", 1, 40, "ports[0].vrf", "cannot be a Linux interface name"),
            (
                "ports:\n- {name: a, driver: \"null\", exception: {name: b}}\n- {name: b, driver: \"null\", vrf: red}", 3, 34,
                "ports[1].vrf", "the exception TAP \"b\" is already at ports[0].exception.name (line 2)"
            ),
            (
                "ports: [{name: a, driver: \"null\", vrf: red}]\nunderlays: [{interfaces: [a], tunnelEndpoint: {addresses: [10.0.0.1]}}]", 2, 27,
                "underlays[0].interfaces[0]", "port \"a\" is routed"
            ),
            (
                "ports: [{name: a, driver: \"null\", vrf: red}]\nstatic: {routes: [{vrf: red, prefix: 0.0.0.0/0, nexthops: [{vtep: 10.0.0.2}]}]}",
                2, 67, "static.routes[0].nexthops[0].vtep", "VRF \"red\" has no L3VNI"
            ),
        ]
        let names: [(String, Int, Int, String, String)] = [
            (
                "ports: [{name: red, driver: \"null\", vrf: red}]", 1, 42, "ports[0].vrf",
                "VRF \"red\" has the name of the exception TAP at ports[0].vrf"
            ),
            (
                "ports: [{name: red, driver: \"null\", exception: {}}]\nl3vnis: [{vrf: red, vni: 9}]", 2, 10,
                "l3vnis[0]", "VRF \"red\" has the name of the exception TAP at ports[0].exception"
            ),
            (
                "ports: [{name: red, driver: \"null\"}]\nunderlays: [{interfaces: [red], tunnelEndpoint: "
                    + "{addresses: [10.0.0.1]}}]\nl3vnis: [{vrf: red, vni: 9}]", 3, 10, "l3vnis[0]",
                "VRF \"red\" has the name of the exception TAP at underlays[0].interfaces[0]"
            ),
        ]
        for (text, line, column, path, message) in cases + names {
            try check(text, at: Place(line: line, column: column), path: path, message)
        }
    }

    @Test("next hops of every form, weights and types are read as written") func routes() throws {
        let configuration = try Configuration(
            yaml: MarkedFault.base + """
                l2vnis: [{vni: 1, \(MarkedFault.red), gatewayIPs: [10.1.0.1/16]}]
                static:
                  routes:
                    - {vrf: red, prefix: 10.2.0.0/16, nexthops: [{vtep: 10.0.0.2, weight: 3}, {vtep: 10.0.0.3, routerMAC: "02:00:00:00:00:03"}]}
                    - {vrf: red, prefix: 10.3.0.0/16, nexthops: [{address: 10.7.0.9, port: leg}, {address: 10.1.0.9}]}
                    - {vrf: red, prefix: 10.4.0.0/16, nexthops: [{vrf: blue}]}
                    - {vrf: blue, prefix: 10.5.0.0/16, type: blackhole}
                    - {vrf: blue, prefix: "2001:db8::/32", type: prohibit}
                """
        )
        let address = { (text: String) in try #require(IPAddress(text)) }
        let routes = configuration.static.routes
        #expect(
            routes.map(\.nextHops) == [
                [
                    .init(.vtep(try address("10.0.0.2"), routerMAC: nil), weight: 3),
                    .init(.vtep(try address("10.0.0.3"), routerMAC: MACAddress("02:00:00:00:00:03"))),
                ],
                [.init(.port("leg", address: try address("10.7.0.9"))), .init(.host(try address("10.1.0.9")))],
                [.init(.vrf("blue"))], [], [],
            ])
        #expect(routes.map(\.kind) == [.unicast, .unicast, .unicast, .blackhole, .prohibit])
    }

    @Test("outer DSCP and TTL are fixed numbers or copied; 0 and 64 by default") func outer() throws {
        let read = { (extra: String) in
            try Configuration(
                yaml: "ports: [{name: up0, driver: \"null\"}]\nunderlays: [{interfaces: [up0], "
                    + "tunnelEndpoint: {addresses: [10.0.0.1]}\(extra)}]"
            ).underlays[0]
        }
        #expect(try read("").dscp == .fixed(0) && read("").ttl == .fixed(64))
        #expect(try read(", dscp: copy, ttl: copy").dscp == .copy)
        #expect(try read(", dscp: copy, ttl: copy").ttl == .copy)
        #expect(try read(", dscp: 46, ttl: 255").dscp == .fixed(46))
        #expect(try read(", dscp: 46, ttl: 255").ttl == .fixed(255))
    }

    @Test("VRFs are numbered by l3vnis first, then by what only ports name") func numbering() throws {
        let configuration = try Configuration(
            yaml: """
                ports:
                  - {name: up0, driver: "null"}
                  - {name: a, driver: "null", vrf: green}
                  - {name: b, driver: "null", vrf: blue, exception: {name: bhost}}
                  - {name: c, driver: "null"}
                underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [10.0.0.1]}}]
                l3vnis: [{vrf: red, vni: 900}, {vrf: blue, vni: 901}]
                l2vnis:
                  - {vni: 1, routingDomain: {type: L3VNI, l3vni: {name: blue}}}
                  - {vni: 2, ports: [{port: c}]}
                """
        )
        let numbering = PortNumbering(configuration)
        #expect(numbering.vrfNames == ["red", "blue", "green"])
        #expect(numbering.vrf(named: "blue") == 2 && numbering.vrf(named: "grey") == nil)
        #expect((0...3).map { numbering.vrf(ofPort: $0) } == [0, 3, 2, 0])
        #expect((0...3).map { numbering.vrf(ofDomain: $0) } == [0, 2, 0, 0])
        #expect(numbering.isRouted == [false, true, true, false])
        #expect(numbering.hasException == [false, true, true, false])
        #expect((0...4).map { numbering.name(ofVRF: $0) } == [nil, "red", "blue", "green", nil])
        #expect(configuration.ports[1].exception == Configuration.Exception())
        let reading = Configuration.read(yaml: "ports: [{name: a, driver: \"null\", vrf: green}]")
        #expect(reading.faults == [])
        #expect(reading.notes.map(\.message) == ["VRF \"green\" has no L3VNI"])
    }

    @Test("subnets may repeat in different VRFs, host addresses on unnumbered ports of one") func repeated() {
        let reading = Configuration.read(
            yaml: """
                ports:
                  - {name: up0, driver: "null"}
                  - {name: a, driver: "null", vrf: red, exception: {addresses: [10.9.9.9/32, 10.8.0.1/24, 10.8.0.2/24]}}
                  - {name: b, driver: "null", vrf: red, exception: {addresses: [10.9.9.9/32]}}
                underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [10.0.0.1]}}]
                l3vnis: [{vrf: red, vni: 900}, {vrf: blue, vni: 901}]
                l2vnis:
                  - {vni: 1, gatewayIPs: [10.1.0.1/16], \(MarkedFault.red)}
                  - {vni: 2, gatewayIPs: [10.1.0.1/16], routingDomain: {type: L3VNI, l3vni: {name: blue}}}
                """
        )
        #expect(reading.faults == [] && reading.notes == [])
    }

    @Test("the gateway's subnet cannot be an underlay's when both are in the default VRF") func defaultVRF() throws {
        try check(
            """
            ports: [{name: up0, driver: "null", exception: {addresses: [10.0.1.1/31]}}]
            underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [10.0.0.1]}}]
            l3vnis: [{vrf: default, vni: 900}]
            l2vnis: [{vni: 1, gatewayIPs: [10.0.0.1/16], routingDomain: {type: L3VNI, l3vni: {name: default}}}]
            """,
            at: Place(line: 4, column: 32), path: "l2vnis[0].gatewayIPs[0]",
            "10.0.0.1/16 overlaps with 10.0.1.1/31 of underlays[0].interfaces[0]")
    }

    @Test("an own router MAC is configured or derived: stable, of one interface, one for each VNI and node")
    func routerMAC() throws {
        let read = { (endpoint: String, vni: Int, extra: String) -> MACAddress in
            let configuration = try Configuration(
                yaml: "ports: [{name: up0, driver: \"null\"}]\nunderlays: [{interfaces: [up0], "
                    + "tunnelEndpoint: {addresses: [\"\(endpoint)\"]}}]\nl3vnis: [{vrf: red, vni: \(vni)\(extra)}]"
            )
            return configuration.routerMAC(of: configuration.l3vnis[0])
        }
        let first = try read("10.0.0.1", 900, "")
        #expect(try read("10.0.0.1", 900, ", routerMAC: auto") == first)
        #expect(first.bytes[0] == 2)
        #expect(try read("10.0.0.2", 900, "") != first && read("10.0.0.1", 901, "") != first)
        #expect(try read("fd00::1", 900, "") != first)
        #expect(try read("10.0.0.1", 900, ", routerMAC: \"02:00:00:00:00:07\"") == MACAddress("02:00:00:00:00:07"))
    }
}
