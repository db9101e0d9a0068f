// Reading of `l3vnis` and `l2vnis`.

import Tables
import Wire

/// The words of OpenPERouter's `underlayAddressFamily`.
private enum UnderlayFamily: String, CaseIterable { case ipv4 = "IPv4", ipv6 = "IPv6" }
/// The words of OpenPERouter's `routingDomain.type`.
private enum RoutingDomain: String, CaseIterable { case l3vni = "L3VNI", l3vpn = "L3VPN" }

extension ConfigurationParser {
    mutating func parseL3VNI(_ value: ConfigurationValue) {
        let keys = [
            "name", "vrf", "vni", "vxlanPort", "underlayAddressFamily", "routerMAC", "table",
        ]
        // Of OpenPERouter's L3VNI, what concerns FRR and the host's session alone.
        let foreign: Set = ["hostSession", "exportRTs", "importRTs", "nodeSelector"]
        guard let section = value.section(keys, foreign: foreign) else { return }
        let vrfValue = section.required("vrf", "name the VRF")
        let vrf = vrfValue?.interfaceName()
        let vni = section.required("vni", "set vni to a number of your own")
            .flatMap { claimVNI($0, value) }
        let port = parseVXLANPort(section)
        let isIPv6 = parseFamily(section)
        let routerMAC = section["routerMAC"].flatMap { $0.string() == "auto" ? nil : $0.mac() }
        let table = section["table"]?.integer(in: 1...Int(UInt32.max)).map { UInt32($0) }
        guard let vrf, let vrfValue, let vni else { return }
        if let other = vrfs[vrf] ?? nil {
            vrfValue.fault(
                "VRF \"\(vrf)\" already has L3VNI \(other.vni) (line \(other.location.line))",
                "a VRF has one L3VNI"
            )
            return
        }
        var result = Configuration.L3VNI(vrf: vrf, vni: vni)
        if let name = section["name"]?.label() { result.name = name }
        result.vxlanPort = port
        result.underlayIsIPv6 = isIPv6
        result.routerMAC = routerMAC
        result.table = table
        result.location = value.location
        if let table = section["table"], vrf == "default", result.table != 254 {
            table.fault("the VRF default is the main table, 254", "remove table")
        } else if let table = section["table"], vrf != "default",
            result.table.map({ (253...255).contains($0) }) == true
        {
            table.fault(
                "table \(table.shown) is one of the kernel's own (default, main, local)",
                "choose another, such as \(1000 &+ vni.rawValue)"
            )
        } else if let table = section["table"],
            let other = result.table.flatMap({ tableOwners[$0] })
        {
            table.fault(
                "table \(table.shown) already belongs to VRF \"\(other)\"",
                "choose another"
            )
        }
        configuration.l3vnis.append(result)
        vrfs[vrf] = result
        if vrfOfL3VNI[result.name] == nil { vrfOfL3VNI[result.name] = vrf }
        if let table = result.table, tableOwners[table] == nil { tableOwners[table] = vrf }
    }

    mutating func parseL2VNI(_ value: ConfigurationValue) {
        let keys = [
            "name", "vni", "vxlanPort", "underlayAddressFamily", "routingDomain", "gatewayIPs",
            "gatewayMAC", "neighborSuppression", "acceptUnknownVTEP", "ports",
        ]
        let foreign: Set = ["hostMaster", "nodeSelector", "exportRTs", "importRTs"]
        guard let section = value.section(keys, foreign: foreign) else { return }
        let vni = section.required("vni", "set vni to a number of your own")
            .flatMap { claimVNI($0, value) }
        // Read even when the VNI is wrong, so that all faults show at once.
        var result = Configuration.L2VNI(name: "", vni: vni ?? VNI(word: 0))
        result.name = section["name"]?.label() ?? vni.map { "vni\($0)" } ?? ""
        result.location = value.location
        if let first = l2vniMentions[result.name] {
            (section["name"] ?? value).fault(
                "L2VNI \"\(result.name)\" is already defined at \(first.text)",
                "choose another name"
            )
        } else if !result.name.isEmpty {
            l2vniMentions[result.name] = Mention(path: value.path, line: value.location.line)
        }
        result.vxlanPort = parseVXLANPort(section)
        result.underlayIsIPv6 = parseFamily(section)
        if let domain = section["routingDomain"] { result.vrf = parseRoutingDomain(domain) }
        result.gatewayIPs = parseGateways(section, vrf: result.vrf)
        result.gatewayMAC = section["gatewayMAC"]?.mac()
        if let value = section["neighborSuppression"]?.boolean() {
            result.neighborSuppression = value
        }
        if let value = section["acceptUnknownVTEP"]?.boolean() { result.acceptUnknownVTEP = value }
        for item in section.items("ports") {
            if let circuit = parseCircuit(item) { result.circuits.append(circuit) }
        }
        guard let vni else { return }
        l2vniIndexes[vni] = configuration.l2vnis.count
        configuration.l2vnis.append(result)
    }

    /// A VNI that no other L2VNI or L3VNI has.
    private mutating func claimVNI(_ value: ConfigurationValue, _ owner: ConfigurationValue) -> VNI?
    {
        guard let vni = value.vni() else { return nil }
        if let first = vniMentions[vni] {
            value.fault(
                "VNI \(vni) is already used by \(first.text)",
                "give each VNI to one of them"
            )
            return nil
        }
        vniMentions[vni] = Mention(path: owner.path, line: value.location.line)
        return vni
    }

    private mutating func parseVXLANPort(_ section: ConfigurationSection) -> UInt16 {
        guard let value = section["vxlanPort"] else {
            vxlanPorts.insert(4789)
            return 4789
        }
        guard let port = value.udpPort() else { return 4789 }
        if vxlanPorts.insert(port).inserted, vxlanPorts.count == TableLimits.vxlanPorts + 1 {
            value.fault(
                "vxlanPort \(port) is one more than the \(TableLimits.vxlanPorts) different ones "
                    + "that are received",
                "use fewer UDP ports"
            )
        }
        return port
    }

    /// Without a word: IPv4, unless the underlay has IPv6 only.
    private func parseFamily(_ section: ConfigurationSection) -> Bool {
        let endpoints = configuration.underlays.flatMap(\.tunnelEndpoints)
        let given = section["underlayAddressFamily"]
        guard let given else { return !endpoints.isEmpty && !endpoints.contains(where: \.isV4) }
        guard let family = given.choice(UnderlayFamily.self) else { return false }
        let isIPv6 = family == .ipv6
        if !endpoints.isEmpty, !endpoints.contains(where: { $0.isV4 != isIPv6 }) {
            given.fault(
                "no underlay has an \(family.rawValue) tunnel endpoint",
                "add one under underlays, tunnelEndpoint.addresses"
            )
        }
        return isIPv6
    }

    /// The VRF behind `{type: L3VNI, l3vni: {name: red}}`.
    private func parseRoutingDomain(_ value: ConfigurationValue) -> String? {
        guard let section = value.section(["type", "l3vni", "l3vpn"]) else { return nil }
        if let type = section["type"], type.choice(RoutingDomain.self) == .l3vpn {
            type.fault("L3VPN (SRv6) is not supported", "use an L3VNI")
            return nil
        }
        let name = section.required("l3vni", "write l3vni: {name: …}")?
            .section(["name"])?.required("name", "name an L3VNI")
        guard let name, let text = name.string() else { return nil }
        if let vrf = vrfOfL3VNI[text] { return vrf }
        let near = reader.suggestion(
            for: text,
            among: configuration.l3vnis.map(\.name)
        )
        name.fault("there is no L3VNI \"\(name.shown)\"\(near)", "define it under l3vnis")
        return nil
    }

    private mutating func parseGateways(_ section: ConfigurationSection, vrf: String?) -> [IPPrefix] {
        var result: [IPPrefix] = []
        for item in section.items("gatewayIPs") {
            guard let prefix = item.interfaceAddress() else { continue }
            if let other = result.first(where: { $0.address.isV4 == prefix.address.isV4 }) {
                item.fault(
                    "\(prefix) is a second gateway of its family beside \(other)",
                    "keep one IPv4 and one IPv6 gateway"
                )
                continue
            }
            if prefix.network == prefix, !prefix.isHost, prefix.length < prefix.address.bitCount - 1
            {
                item.fault(
                    "\(prefix) is a network, not the address of a gateway in it",
                    "write the gateway's address, such as \(prefix.network.firstHost)"
                )
                continue
            }
            if let vrf, !claimSubnet(prefix, item, vrf: vrf, owner: section.path) { continue }
            result.append(prefix)
        }
        if let value = section["gatewayIPs"], !result.isEmpty, section["routingDomain"] == nil {
            reader.note(
                value.location,
                value.path,
                "a pure L2 VNI has no use for a gateway",
                "add a routingDomain, or remove gatewayIPs"
            )
        }
        return result
    }

    private mutating func parseCircuit(_ value: ConfigurationValue) -> Configuration.L2VNI.Circuit?
    {
        guard let section = value.section(["port", "vlan"]) else { return nil }
        let port = section.required("port", "name the port")
        let name = port?.string()
        var vlan: UInt16?
        if let value = section["vlan"] {
            guard let number = value.vlan() else { return nil }
            vlan = number
        }
        guard let port, let name else { return nil }
        guard portMentions[name] != nil else {
            unknownPort(port, name)
            return nil
        }
        if let underlay = underlayPorts[name] {
            port.fault(
                "port \"\(name)\" belongs to the underlay at \(underlay.text)",
                "a port is either underlay or circuit"
            )
            return nil
        }
        if let routed = routedPorts[name] {
            port.fault(
                "port \"\(name)\" is routed: it has a VRF at \(routed.text)",
                "a port is underlay, circuit or routed: remove its vrf, or name another port"
            )
            return nil
        }
        let key = "\(name)/\(vlan.map { String($0) } ?? "untagged")"
        if let first = circuitMentions[key] {
            value.fault(
                "port \"\(name)\" \(vlan.map { "VLAN \($0)" } ?? "untagged") is already at \(first.text)",
                "a port and VLAN belong to one L2VNI"
            )
            return nil
        }
        circuitMentions[key] = Mention(path: value.path, line: value.location.line)
        var circuit = Configuration.L2VNI.Circuit(port: name, vlan: vlan)
        circuit.location = value.location
        return circuit
    }
}

extension IPPrefix {
    /// The network's first address behind its own, with the same length.
    fileprivate var firstHost: String {
        switch network.address {
        case .v4(let v4): "\(IPv4Address(rawValue: v4.rawValue | 1))/\(length)"
        case .v6(let v6): "\(IPv6Address(high: v6.high, low: v6.low | 1))/\(length)"
        }
    }
}
