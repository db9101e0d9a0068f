// Every recorded stream decodes to what an independent decoder saw in it.

import Testing
import Wire

@testable import ControlPlane

@Suite struct RecordedStreamTests {
    /// One line of decoded.txt against the message: both are brought into one form.
    @Test(arguments: Recording.names)
    func everyMessageHasTheFieldsOfTheIndependentDecoder(name: String) throws {
        let lines = try Recording.text("\(name)/decoded.txt").split(separator: "\n")
        for (number, stream) in try Recording.connections(name) {
            let expected = lines.filter { $0.contains(" c\(number) @") }.map(ExpectedMessage.init)
            let decoded = NetlinkDecoder.decode(Recording.payloads(stream).flatMap { $0 })
            #expect(decoded.errors == [])
            #expect(!expected.isEmpty)
            #expect(decoded.messages.count == expected.count)
            for (message, expected) in zip(decoded.messages, expected) {
                #expect(ExpectedMessage(message) == expected)
            }
        }
    }

    @Test func everyFrameIsOneTransactionAndDeletesComeBeforeTheirReplacement() throws {
        let (_, stream) = try #require(try Recording.connections("D-844-default-nonhg").first)
        let payloads = Recording.payloads(stream)
        let updates = payloads.map { NetlinkDecoder.decode($0).messages }.filter { $0.count == 2 }
        #expect(!updates.isEmpty)
        for update in updates {
            guard case .route(let old) = update[0], case .route(let new) = update[1] else {
                Issue.record("an update is not two routes: \(update)")
                continue
            }
            #expect(old.isDelete && !new.isDelete && old.prefix == new.prefix)
        }
    }

    @Test(arguments: Recording.names)
    func deframingDoesNotDependOnHowTheStreamIsCut(name: String) throws {
        for (number, stream) in try Recording.connections(name) {
            let whole = Deframed([stream[...]])
            #expect(whole.frames == Recording.payloads(stream))
            #expect(whole.faults == [])
            #expect(Deframed(stream.indices.map { stream[$0...$0] }) == whole)
            for seed in UInt64(1)...8 {
                var generator = SeededGenerator(seed: seed &* 1000 &+ UInt64(number))
                var chunks: [ArraySlice<UInt8>] = []
                var start = 0
                while start < stream.count {
                    let size = Int.random(in: 1...200, using: &generator)
                    chunks.append(stream[start..<min(start + size, stream.count)])
                    start += size
                }
                #expect(Deframed(chunks) == whole)
            }
        }
    }

    /// Devices of the four lab modes, as documented beside the recordings.
    @Test func linkDumpsNameTheDevicesOfEachMode() throws {
        let plain = try LinkDump("links-default")
        #expect(plain.errors == [])
        #expect(plain.kinds["vx100"] == .vxlan(vni: 10100, local: IPAddress("10.0.0.1"), port: 4789, collectMetadata: false))
        #expect(plain.kinds["vx500"] == .vxlan(vni: 50000, local: IPAddress("10.0.0.1"), port: 4789, collectMetadata: false))
        #expect(plain.kinds["br100"] == .bridge(vlanFiltering: false))
        #expect(plain.links["vx100"]?.interface == 6 && plain.links["vx100"]?.master == 5)
        #expect(plain.links["br500"]?.interface == 7 && plain.links["vx500"]?.interface == 8)
        #expect(plain.links["br500"]?.mac == MACAddress("02:00:00:50:00:01"))
        #expect(plain.addresses.contains(IPPrefix("192.168.100.11/24")))
        #expect(plain.addresses.contains(IPPrefix("fd00:100::11/64")))

        let vrf = try LinkDump("links-vrf")
        #expect(vrf.errors == [])
        #expect(vrf.kinds["red"] == .vrf(table: 1001))
        #expect(vrf.links["br500"]?.master == vrf.links["red"]?.interface)

        let vlan = try LinkDump("links-vlan")
        #expect(vlan.errors == [])
        #expect(vlan.kinds["br0"] == .bridge(vlanFiltering: true))
        #expect(vlan.kinds["vlan100"] == .vlan(id: 100))
        #expect(vlan.links["vlan100"]?.lower == vlan.links["br0"]?.interface)
        #expect(vlan.ports["vx100"]?.bridgeVLANs.contains(.init(id: 100, isPVID: true)) == true)

        let svd = try LinkDump("links-svd")
        #expect(svd.errors == [])
        #expect(svd.kinds["vx0"] == .vxlan(vni: nil, local: IPAddress("10.0.0.1"), port: 4789, collectMetadata: true))
        #expect(svd.ports["vx0"]?.bridgeTunnels == [.init(vlan: 100, vni: 10100), .init(vlan: 500, vni: 50000)])
    }
}

/// A recorded dump, by device name.
private struct LinkDump {
    var errors: [DecodeError]
    var links: [String: LinkMessage] = [:]
    /// The same devices as AF_BRIDGE sees them.
    var ports: [String: LinkMessage] = [:]
    var addresses: [IPPrefix?] = []
    var kinds: [String: LinkMessage.Kind] { links.mapValues(\.kind) }

    init(_ name: String) throws {
        let decoded = NetlinkDecoder.decode(try Recording.bytes("\(name).bin"))
        errors = decoded.errors
        for message in decoded.messages {
            switch message {
            case .link(let link) where link.isBridgeFamily: ports[link.name] = link
            case .link(let link): links[link.name] = link
            case .address(let address): addresses.append(address.prefix)
            default: break
            }
        }
    }
}

/// The fields of a message in the form of decoded.txt: `GATEWAY` of a member is `0.GATEWAY`.
private struct ExpectedMessage: Equatable {
    var type: String
    var fields: [String: String] = [:]

    init(_ line: Substring) {
        let words = line.split(separator: " ")
        let start = words.firstIndex { $0.hasPrefix("RTM_") } ?? 0
        type = String(words[start])
        let isNeighbor = type.hasSuffix("NEIGH")
        if type.hasPrefix("RTM_NEW") { fields["replace"] = "\(words[start + 1].contains("REPLACE"))" }
        var member = -1
        var isInside = false
        var strays = 0
        var isVia = false
        for raw in words[(start + 2)...] {
            var word = raw.trimmingStart { "{[".contains($0) }
            if raw.hasPrefix("rtm{") || raw.hasPrefix("ndm{") || raw.hasPrefix("nhm{") {
                readHead(raw.dropFirst(4))
                continue
            }
            for opening in ["MULTIPATH=[", "GROUP=["] where word.hasPrefix(opening) {
                word = word.dropFirst(opening.count)
            }
            // A member of a route begins with its flags, one of a group with its id.
            if raw.contains("[flags=") || word.hasPrefix("id=") {
                member += 1
                isInside = true
            }
            let isLast = raw.hasSuffix("]")
            word = word.trimmingEnd { "}]".contains($0) }
            defer { if isLast { isInside = false } }
            let parts = word.split(separator: "=", omittingEmptySubsequences: false)
            let value = (parts.last ?? "").prefix { $0 != "(" }
            let place = isInside ? member : -1
            if isVia {
                isVia = false
                set("GATEWAY", word, place)
                continue
            }
            switch parts.first ?? "" {
            case "VIA": isVia = true
            case "ENCAP":
                // FRR 8.4.4 writes them behind the members, one for each in order.
                set("ENCAP", value, isInside || member < 0 ? place : strays)
                if !isInside { strays += 1 }
            case "flags" where isNeighbor: set("flags", value, -1)
            case "flags": set("ONLINK", value == "0x4" ? "1" : "0", place)
            case "ifindex" where isInside: set("OIF", value, place)
            case "w", "hops": set("weight", value, place)
            case "BLACKHOLE": set("BLACKHOLE", "1", -1)
            case "ENCAP_TYPE", "tos", "scope", "FDB_EXT_ATTRS": break
            case "TABLE": set("table", value, -1)
            case "type" where isNeighbor: break
            case "SRC_VNI", "VNI": set("VNI", value, -1)
            default: set(String(parts.first ?? ""), value, place)
            }
        }
        finish()
    }

    /// `INET/24`, `BRIDGE`, `UNSPEC`.
    private mutating func readHead(_ text: Substring) {
        let parts = text.split(separator: "/")
        if parts.count == 2 { fields["length"] = String(parts[1]) }
        if !type.hasSuffix("NEXTHOP") { fields["family"] = String(parts[0]) }
    }
    private mutating func set(_ key: String, _ value: some StringProtocol, _ member: Int) {
        fields[member >= 0 ? "\(member).\(key)" : key] = String(value)
    }

    private mutating func finish() {
        if type.hasSuffix("ROUTE") {
            if fields["DST"] == nil { fields["DST"] = fields["family"] == "INET" ? "0.0.0.0" : "::" }
            fields["family"] = nil
            if fields["PRIORITY"] == nil { fields["PRIORITY"] = "0" }
            // Without a next hop in the route, nothing is onlink.
            if fields["OIF"] == nil, fields["GATEWAY"] == nil { fields["ONLINK"] = nil }
        }
        for (key, value) in fields where key.hasSuffix("ONLINK") && value == "0" { fields[key] = nil }
    }

    init(_ message: NetlinkMessage) {
        type = ""
        switch message {
        case .route(let route): read(route)
        case .nextHop(let hop): read(hop)
        case .neighbor(let neighbor): read(neighbor)
        default: type = "\(message)"
        }
    }

    private mutating func read(_ route: RouteMessage) {
        type = route.isDelete ? "RTM_DELROUTE" : "RTM_NEWROUTE"
        fields["replace"] = route.isDelete ? nil : "\(route.isReplace)"
        fields["DST"] = "\(route.prefix.address)"
        fields["length"] = "\(route.prefix.length)"
        fields["table"] = "\(route.table)"
        fields["proto"] = "\(route.routeProtocol)"
        fields["PRIORITY"] = "\(route.metric)"
        fields["NH_ID"] = route.nextHopID.map { "\($0)" }
        fields["type"] =
            switch route.kind {
            case .unicast: "UNICAST"
            case .local: "LOCAL"
            case .blackhole: "BLACKHOLE"
            case .unreachable: "UNREACHABLE"
            case .prohibit: "PROHIBIT"
            case .other(let type): type == 0 ? "UNSPEC" : "\(type)"
            }
        let isMultipath = route.nextHops.count > 1
        for (index, hop) in route.nextHops.enumerated() {
            let member = isMultipath ? index : -1
            if let gateway = hop.gateway { set("GATEWAY", "\(gateway)", member) }
            set("OIF", "\(hop.interface)", member)
            if hop.isOnlink { set("ONLINK", "1", member) }
            if isMultipath { set("weight", "\(hop.weight - 1)", member) }
            if let vni = hop.encapVNI { set("ENCAP", "\(vni)", member) }
        }
    }

    private mutating func read(_ hop: NextHopMessage) {
        type = hop.isDelete ? "RTM_DELNEXTHOP" : "RTM_NEWNEXTHOP"
        fields["replace"] = hop.isDelete ? nil : "true"
        fields["ID"] = "\(hop.id)"
        fields["proto"] = "\(hop.nextHopProtocol)"
        fields["GATEWAY"] = hop.gateway.map { "\($0)" }
        if hop.interface != 0 { fields["OIF"] = "\(hop.interface)" }
        if hop.isOnlink { fields["ONLINK"] = "1" }
        if hop.isBlackhole { fields["BLACKHOLE"] = "1" }
        for (index, member) in hop.members.enumerated() {
            set("id", "\(member.id)", index)
            set("weight", "\(member.weight - 1)", index)
        }
    }

    private mutating func read(_ neighbor: NeighborMessage) {
        type = neighbor.isDelete ? "RTM_DELNEIGH" : "RTM_NEWNEIGH"
        fields["replace"] = neighbor.isDelete ? nil : "true"
        fields["family"] = neighbor.family == .bridge ? "BRIDGE" : neighbor.family == .ipv4 ? "INET" : "INET6"
        fields["ifindex"] = "\(neighbor.interface)"
        let states: [(NeighborMessage.State, String)] = [
            (.reachable, "REACHABLE"), (.stale, "STALE"), (.noARP, "NOARP"), (.permanent, "PERMANENT"),
        ]
        fields["state"] = states.filter { neighbor.state.contains($0.0) }.map(\.1).joined(separator: "|")
        let flags: [(NeighborMessage.Flags, String)] = [
            (.`self`, "SELF"), (.master, "MASTER"), (.externallyLearned, "EXT_LEARNED"), (.sticky, "STICKY"),
        ]
        fields["flags"] = flags.filter { neighbor.flags.contains($0.0) }.map(\.1).joined(separator: "|")
        fields["DST"] = neighbor.destination.map { "\($0)" }
        fields["LLADDR"] = neighbor.mac.map { "\($0)" }
        fields["VLAN"] = neighbor.vlan.map { "\($0)" }
        fields["VNI"] = neighbor.vni.map { "\($0)" }
        fields["MASTER"] = neighbor.master.map { "\($0)" }
        fields["NH_ID"] = neighbor.nextHopID.map { "\($0)" }
        fields["PROTOCOL"] = neighbor.neighborProtocol.map { "\($0)" }
    }
}

extension Substring {
    fileprivate func trimmingStart(_ isCut: (Character) -> Bool) -> Substring { drop(while: isCut) }
    fileprivate func trimmingEnd(_ isCut: (Character) -> Bool) -> Substring {
        var result = self
        while let last = result.last, isCut(last) { result = result.dropLast() }
        return result
    }
}
