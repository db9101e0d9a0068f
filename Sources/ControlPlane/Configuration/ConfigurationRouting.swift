// Reading of what routes: routed ports, outer header fields, subnets of VRFs, and static routes.

import Wire

/// The word that has a field copied from the inner header.
private let copyWord = "copy"

extension ConfigurationValue {
    /// A number, or `copy`.
    func outerField(in range: ClosedRange<Int>) -> Configuration.OuterField? {
        if case .scalar(let scalar) = node, scalar.string == copyWord { return .copy }
        guard case .scalar(let scalar) = node, scalar.string.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            wrongType(
                "a number or \(copyWord)",
                "write a number from \(range.lowerBound) to \(range.upperBound), or \(copyWord)"
            )
            return nil
        }
        return integer(in: range).map { .fixed(UInt8(clamping: $0)) }
    }
}

// MARK: Routed ports

extension ConfigurationParser {
    /// `vrf` of a port. The routing protocols of a routed port run behind its exception TAP, so
    /// there is one always.
    mutating func parseRoutedPort(_ section: ConfigurationSection, _ port: inout Configuration.Port) {
        guard let value = section["vrf"] else { return }
        let mention = Mention(path: value.path, line: value.location.line)
        routedPorts[port.name] = mention
        guard let vrf = value.interfaceName() else { return }
        port.vrf = vrf
        vrfPlaces.append((vrf, value))
        if port.exception == nil {
            port.exception = Configuration.Exception()
            if section["exception"] != nil { return }
            if let first = exceptionMentions[port.name] {
                value.fault(
                    "the exception TAP \"\(port.name)\" is already at \(first.text)",
                    "set exception: {name: …} to a name of its own"
                )
            } else {
                exceptionMentions[port.name] = mention
            }
            return
        }
        guard case .mapping(let exception)? = section["exception"]?.node,
            let addresses = exception["addresses"]
        else { return }
        let list = reader.value(addresses, "\(section.path).exception.addresses").list() ?? []
        for item in list {
            guard let prefix = item.node.scalar.flatMap({ IPPrefix($0.string) }) else { continue }
            _ = claimSubnet(prefix, item, vrf: vrf, owner: section.path)
        }
    }

    /// VRFs that only ports name are right, but may be typing errors; a VRF device and an exception
    /// TAP cannot have the same name.
    func checkRoutedPorts() {
        checkVRFNames()
        let l3vnis = configuration.l3vnis.map(\.vrf)
        for (vrf, value) in vrfPlaces where vrf != Configuration.defaultVRF && (vrfs[vrf] ?? nil) == nil {
            let near = reader.suggestion(for: vrf, among: l3vnis)
            reader.note(
                value.location,
                value.path,
                "VRF \"\(value.shown)\" has no L3VNI\(near)",
                "its routes stay on this node; add it to l3vnis if they are to leave it"
            )
        }
    }

    private func checkVRFNames() {
        let hasControl = configuration.control.routes != .none
        let taken = { (vrf: String) -> Mention? in
            if vrf == Configuration.defaultVRF { return nil }
            if let mention = exceptionMentions[vrf] { return mention }
            // The TAP that an underlay port gets by itself.
            guard hasControl, let mention = underlayPorts[vrf],
                port(named: vrf)?.exception == nil
            else { return nil }
            return mention
        }
        let remedy = "give the TAP another name (exception: {name: …}), or the VRF"
        for (index, l3vni) in configuration.l3vnis.enumerated() {
            guard let tap = taken(l3vni.vrf) else { continue }
            let text = "VRF \"\(l3vni.vrf)\" has the name of the exception TAP at \(tap.text)"
            reader.fault(l3vni.location, "l3vnis[\(index)]", text, remedy)
        }
        var said = Set(configuration.l3vnis.map(\.vrf))
        for (vrf, value) in vrfPlaces where said.insert(vrf).inserted {
            guard let tap = taken(vrf) else { continue }
            value.fault("VRF \"\(vrf)\" has the name of the exception TAP at \(tap.text)", remedy)
        }
    }

    /// A connected subnet; false, with a fault, when it overlaps with one of another owner in the
    /// VRF. One host address may be on several ports, which then are unnumbered.
    mutating func claimSubnet(
        _ prefix: IPPrefix,
        _ place: ConfigurationValue,
        vrf: String,
        owner: String
    ) -> Bool {
        let other = subnets[vrf]?.first {
            $0.owner != owner && $0.prefix.overlaps(prefix) && !($0.prefix.isHost && prefix.isHost)
        }
        if let other {
            place.fault(
                "\(prefix) overlaps with \(other.prefix) of \(other.mention.text) in VRF \"\(vrf)\"",
                "give each subnet to one L2VNI or routed port of a VRF"
            )
            return false
        }
        let mention = Mention(path: place.path, line: place.location.line)
        subnets[vrf, default: []].append((prefix, owner, mention))
        return true
    }

    /// The subnets of an underlay port are in the default VRF; several ports may share one.
    mutating func noteUnderlaySubnets(_ name: String, _ place: ConfigurationValue) {
        let mention = Mention(path: place.path, line: place.location.line)
        for prefix in port(named: name)?.exception?.addresses ?? [] {
            subnets[Configuration.defaultVRF, default: []].append((prefix, place.path, mention))
        }
    }

    /// A port of the configuration; nil for one with faults.
    func port(named name: String) -> Configuration.Port? { portIndexes[name].map { configuration.ports[$0] } }

    /// A neighbour cannot have the gateway's address.
    func isNoGateway(_ address: IPAddress, of vni: VNI, _ entry: ConfigurationSection) -> Bool {
        guard let index = l2vniIndexes[vni],
            configuration.l2vnis[index].gatewayIPs.contains(where: { $0.address == address })
        else { return true }
        (entry["ip"] ?? entry.value).fault(
            "\(address) is the gateway's own address",
            "write the address of a host"
        )
        return false
    }
}

extension IPPrefix {
    fileprivate func overlaps(_ other: IPPrefix) -> Bool {
        length <= other.length ? contains(other.address) : other.contains(address)
    }
}

// MARK: Static routes

extension ConfigurationParser {
    typealias NextHop = Configuration.Static.NextHop

    mutating func parseRoute(
        _ item: ConfigurationValue,
        _ result: inout Configuration.Static,
        _ seen: inout [String: Mention]
    ) {
        guard let entry = item.section(["vrf", "prefix", "nexthops", "type"]) else { return }
        let vrf = entry.required("vrf", "name a VRF").flatMap(vrfName)
        let prefix = entry.required("prefix", "write the prefix")?.prefix()
        let kind = entry["type"].map { $0.choice(Configuration.Static.Route.Kind.self) } ?? .unicast
        var hops: [NextHop] = []
        if kind == .unicast {
            for hop in nextHops(entry) {
                guard let parsed = parseNextHop(hop, vrf: vrf, prefix: prefix) else { continue }
                if hops.contains(where: { $0.target == parsed.target }) {
                    hop.fault("the next hop is there twice", "keep one; weight gives it a larger share")
                    continue
                }
                hops.append(parsed)
            }
            checkLeak(entry, hops)
        } else if let value = entry["nexthops"], let kind {
            value.fault("a route of type \(kind.rawValue) has no next hops", "remove nexthops or type")
        }
        guard let vrf, let prefix, let kind, isFirst("route \(prefix) of VRF \(vrf)", item, &seen)
        else { return }
        result.routes.append(.init(vrf: vrf, prefix: prefix, kind: kind, nextHops: hops))
    }

    /// The name of a VRF of this file.
    private func vrfName(_ value: ConfigurationValue) -> String? {
        guard let text = value.string() else { return nil }
        if vrfs[text] != nil { return text }
        let near = reader.suggestion(for: text, among: PortNumbering.vrfNames(configuration))
        value.fault(
            "there is no VRF \"\(value.shown)\"\(near)",
            "define it under l3vnis, or as the vrf of a port"
        )
        return nil
    }

    /// `{vtep, routerMAC}`, `{address, port}`, `{address}` or `{vrf}`, each with a weight.
    private func parseNextHop(
        _ value: ConfigurationValue,
        vrf: String?,
        prefix: IPPrefix?
    ) -> NextHop? {
        guard let section = value.section(["vtep", "routerMAC", "address", "port", "vrf", "weight"]) else {
            return nil
        }
        let forms = ["vtep", "address", "vrf"].filter { section[$0] != nil }
        guard let form = forms.first, forms.count == 1 else {
            value.fault(
                forms.isEmpty
                    ? "the next hop has neither vtep nor address nor vrf"
                    : "the next hop has \(forms.joined(separator: " and "))",
                "write {vtep, routerMAC}, {address, port}, {address} or {vrf}"
            )
            return nil
        }
        for (key, owner) in [("routerMAC", "vtep"), ("port", "address")] where owner != form {
            section[key]?.fault("\(key) goes with \(owner)", "remove \(key), or write \(owner)")
        }
        let weight = section["weight"].map { $0.integer(in: 1...256) } ?? 1
        let target: NextHop.Target? =
            switch form {
            case "vtep": parseVTEPHop(section, vrf: vrf)
            case "vrf": section["vrf"].flatMap { parseLeak($0, vrf: vrf) }
            default: parseAddressHop(section, vrf: vrf, prefix: prefix)
            }
        guard let target, let weight else { return nil }
        return NextHop(target, weight: weight)
    }

    private func parseVTEPHop(_ section: ConfigurationSection, vrf: String?) -> NextHop.Target? {
        let routerMAC = section["routerMAC"].map { $0.mac() }
        guard let vtep = remoteVTEP(section, "vtep", vni: nil) else { return nil }
        if let routerMAC, routerMAC == nil { return nil }
        guard let vrf else { return .vtep(vtep, routerMAC: routerMAC ?? nil) }
        guard let l3vni = vrfs[vrf] ?? nil else {
            section["vtep"]?.fault(
                "VRF \"\(vrf)\" has no L3VNI to reach \(vtep) through",
                "define one under l3vnis"
            )
            return nil
        }
        guard l3vni.underlayIsIPv6 != vtep.isV4 else {
            section["vtep"]?.fault(
                "\(vtep) is not of the L3VNI's family, \(vtep.isV4 ? "IPv6" : "IPv4")",
                "set underlayAddressFamily of the L3VNI, or name another address"
            )
            return nil
        }
        return .vtep(vtep, routerMAC: routerMAC ?? nil)
    }

    private func parseLeak(_ value: ConfigurationValue, vrf: String?) -> NextHop.Target? {
        guard let other = vrfName(value) else { return nil }
        guard other != vrf else {
            value.fault("a route of VRF \"\(other)\" into itself is a loop", "name another VRF")
            return nil
        }
        return .vrf(other)
    }

    private func parseAddressHop(
        _ section: ConfigurationSection,
        vrf: String?,
        prefix: IPPrefix?
    ) -> NextHop.Target? {
        guard let value = section["address"], let address = value.hostAddress() else { return nil }
        if let prefix, prefix.address.isV4 != address.isV4 {
            value.fault(
                "\(address) is not of the prefix's family, \(prefix.address.isV4 ? "IPv4" : "IPv6")",
                "write an address of that family"
            )
            return nil
        }
        if let port = section["port"] {
            guard let name = port.string() else { return nil }
            guard portMentions[name] != nil else {
                unknownPort(port, name)
                return nil
            }
            // A port whose VRF is wrong has its fault already.
            guard let known = self.port(named: name), let vrf else {
                return nil
            }
            guard known.vrf == vrf else {
                port.fault(
                    "port \"\(name)\" is not routed in VRF \"\(vrf)\"",
                    "name a port with vrf: \(vrf)"
                )
                return nil
            }
            return .port(name, address: address)
        }
        guard let vrf else { return nil }
        guard subnets[vrf]?.contains(where: { $0.prefix.contains(address) }) == true else {
            value.fault(
                "\(address) is in no subnet of VRF \"\(vrf)\"",
                "name a host behind one of its gatewayIPs, or write its port"
            )
            return nil
        }
        return .host(address)
    }

    /// Another VRF's lookup gives one answer: it cannot be one of several.
    private func checkLeak(_ entry: ConfigurationSection, _ hops: [NextHop]) {
        guard hops.count > 1, hops.contains(where: { if case .vrf = $0.target { true } else { false } })
        else { return }
        entry["nexthops"]?.fault(
            "a next hop in another VRF cannot share a route with others",
            "make it the only one"
        )
    }
}
