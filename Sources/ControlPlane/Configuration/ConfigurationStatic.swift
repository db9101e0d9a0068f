// Reading of `static`, and the checks that need the whole file.

import Wire

extension ConfigurationParser {
    mutating func parseStatic(_ file: ConfigurationSection) {
        let keys = ["vteps", "macs", "neighbors", "routes", "underlay"]
        guard let section = file.section("static", keys) else { return }
        var result = Configuration.Static()
        var seen: [String: Mention] = [:]
        for item in section.items("vteps") {
            guard let entry = item.section(["vni", "address"]),
                let vni = l2vni(entry), let address = remoteVTEP(entry, "address", vni: vni),
                isFirst("VTEP \(address) of VNI \(vni)", item, &seen)
            else { continue }
            result.vteps.append(.init(vni: vni, address: address))
        }
        for item in section.items("macs") {
            guard let entry = item.section(["vni", "mac", "vtep"]) else { continue }
            let mac = entry.required("mac", "write the MAC")?.mac()
            guard let vni = l2vni(entry), let vtep = remoteVTEP(entry, "vtep", vni: vni), let mac,
                isFirst("MAC \(mac) of VNI \(vni)", item, &seen)
            else { continue }
            result.macs.append(.init(vni: vni, mac: mac, vtep: vtep))
        }
        for item in section.items("neighbors") {
            guard let entry = item.section(["vni", "ip", "mac"]) else { continue }
            let ip = entry.required("ip", "write the address")?.hostAddress()
            let mac = entry.required("mac", "write the MAC")?.mac()
            guard let vni = l2vni(entry), let ip, let mac,
                isFirst("neighbor \(ip) of VNI \(vni)", item, &seen), isNoGateway(ip, of: vni, entry)
            else { continue }
            result.neighbors.append(.init(vni: vni, ip: ip, mac: mac))
        }
        for item in section.items("routes") { parseRoute(item, &result, &seen) }
        for item in section.items("underlay") { parseUnderlayRoute(item, &result, &seen) }
        configuration.static = result
    }

    func isFirst(
        _ what: String,
        _ item: ConfigurationValue,
        _ seen: inout [String: Mention]
    ) -> Bool {
        if let first = seen[what] {
            item.fault("\(what) is already at \(first.text)", "keep one of them")
            return false
        }
        seen[what] = Mention(path: item.path, line: item.location.line)
        return true
    }

    /// The VNI of an entry, which must be an L2VNI of this file.
    private func l2vni(_ entry: ConfigurationSection) -> VNI? {
        guard let value = entry.required("vni", "name an L2VNI"), let vni = value.vni() else {
            return nil
        }
        if l2vniIndexes[vni] != nil { return vni }
        if vniMentions[vni] == nil {
            value.fault("there is no L2VNI \(vni)", "define it under l2vnis")
        } else if configuration.l3vnis.contains(where: { $0.vni == vni }) {
            value.fault("VNI \(vni) is an L3VNI", "name an L2VNI")
        }
        return nil
    }

    func remoteVTEP(_ entry: ConfigurationSection, _ key: String, vni: VNI?) -> IPAddress? {
        guard let value = entry.required(key, "write the VTEP's address"),
            let address = value.hostAddress()
        else { return nil }
        if configuration.underlays.contains(where: { $0.tunnelEndpoints.contains(address) }) {
            value.fault("\(address) is this node's own tunnel endpoint", "name a remote VTEP")
            return nil
        }
        if let index = vni.flatMap({ l2vniIndexes[$0] }),
            configuration.l2vnis[index].underlayIsIPv6 == address.isV4
        {
            value.fault(
                "\(address) is not of the VNI's family, \(address.isV4 ? "IPv6" : "IPv4")",
                "set underlayAddressFamily of the VNI, or name another address"
            )
            return nil
        }
        return address
    }

    private func parseUnderlayRoute(
        _ item: ConfigurationValue,
        _ result: inout Configuration.Static,
        _ seen: inout [String: Mention]
    ) {
        guard let entry = item.section(["prefix", "nexthops"]) else { return }
        let prefix = entry.required("prefix", "write the prefix")?.prefix()
        var hops: [Configuration.Static.UnderlayNextHop] = []
        for hop in nextHops(entry) {
            guard let section = hop.section(["port", "mac", "address"]) else { continue }
            let mac = section["mac"]?.mac()
            let address = section["address"]?.hostAddress()
            if section["mac"] == nil && section["address"] == nil {
                hop.fault(
                    "the next hop has neither mac nor address",
                    "write its mac, or an address that the kernel resolves"
                )
            }
            guard let port = section.required("port", "name an underlay port"),
                let name = port.string()
            else { continue }
            guard underlayPorts[name] != nil else {
                if portMentions[name] == nil {
                    unknownPort(port, name)
                } else {
                    port.fault(
                        "port \"\(name)\" is not in an underlay",
                        "add it to underlays, interfaces"
                    )
                }
                continue
            }
            hops.append(.init(port: name, mac: mac, address: address))
        }
        guard let prefix, isFirst("underlay route \(prefix)", item, &seen) else { return }
        result.underlay.append(.init(prefix: prefix, nextHops: hops))
    }

    func nextHops(_ entry: ConfigurationSection) -> [ConfigurationValue] {
        guard let value = entry.required("nexthops", "list at least one next hop"),
            let items = value.list()
        else { return [] }
        let limit = configuration.dataplane.limits.ecmpPaths
        if items.isEmpty {
            value.fault("there is no next hop", "list at least one")
        } else if items.count > limit {
            value.fault(
                "\(items.count) next hops are more than \(limit)",
                "list fewer, or raise dataplane.limits.ecmpPaths"
            )
        }
        return items
    }

    /// What the file asks for must fit into the limits that it sets.
    func checkLimits(_ file: ConfigurationSection) {
        let limits = configuration.dataplane.limits
        let targets = Dictionary(grouping: configuration.static.vteps, by: \.vni).mapValues(\.count)
        let widest =
            configuration.l2vnis.map { $0.circuits.count + (targets[$0.vni] ?? 0) }.max() ?? 0
        let vteps = Set(configuration.static.vteps.map(\.address)).count
        let uses: [(String, String, Int, Int)] = [
            ("ports", "ports", configuration.ports.count, limits.ports),
            ("l2vnis", "l2vnis", configuration.l2vnis.count, limits.l2vnis),
            ("l3vnis", "vrfs", PortNumbering.vrfNames(configuration).count, limits.vrfs),
            ("l2vnis", "floodTargets", widest, limits.floodTargets),
            ("static", "macs", configuration.static.macs.count, limits.macs),
            ("static", "neighbors", configuration.static.neighbors.count, limits.neighbors),
            ("static", "routes", configuration.static.routes.count, limits.routes),
            ("static", "vteps", vteps, limits.vteps),
        ]
        for (section, limit, used, allowed) in uses where used > allowed {
            let place = file[section] ?? file.value
            place.fault(
                "\(used) are more than the limit of \(allowed) \(limit)",
                "raise dataplane.limits.\(limit), or configure fewer"
            )
        }
    }

    /// Notes on what is allowed but probably not meant.
    func checkUse() {
        let used = Set(configuration.l2vnis.flatMap { $0.circuits.map(\.port) })
        let overhead = configuration.l2vnis.contains(where: \.underlayIsIPv6) ? 70 : 50
        let underlayMTU = configuration.ports.filter { underlayPorts[$0.name] != nil }.map(\.mtu)
            .min()
        let untagged = Set(
            configuration.l2vnis.flatMap { $0.circuits.filter { $0.vlan == nil }.map(\.port) }
        )
        for port in configuration.ports {
            guard underlayPorts[port.name] == nil, port.vrf == nil else { continue }
            if !used.contains(port.name) {
                reader.note(
                    port.location,
                    port.name,
                    "the port is neither underlay nor circuit nor routed",
                    "list it under underlays or l2vnis, give it a vrf, or remove it"
                )
            } else if let underlayMTU, untagged.contains(port.name),
                port.mtu + overhead > underlayMTU
            {
                reader.note(
                    port.location,
                    port.name,
                    "packets of \(port.mtu) bytes do not fit into the underlay's \(underlayMTU)",
                    "set the underlay's mtu to \(port.mtu + overhead), or this one to "
                        + "\(underlayMTU - overhead)"
                )
            }
        }
        if !configuration.l2vnis.isEmpty && configuration.underlays.isEmpty {
            reader.note(
                SourceLocation(line: 1, column: 1),
                "underlays",
                "there is no underlay",
                "only hosts on this node will reach each other"
            )
        }
        let lcores = configuration.dataplane
        if lcores.workerLcores.contains(lcores.mainLcore)
            || Set(lcores.workerLcores).count < lcores.workerLcores.count
        {
            reader.note(
                SourceLocation(line: 1, column: 1),
                "dataplane.lcores",
                "lcores share a CPU",
                "give each a CPU of its own where speed matters"
            )
        }
    }
}
