// Reading of `ports` and `underlays`.

import Tables
import Wire

extension ConfigurationParser {
    mutating func parsePort(_ value: ConfigurationValue) {
        let keys = ["name", "driver", "device", "netns", "mtu", "mac", "exception", "vrf"]
        guard let section = value.section(keys) else { return }
        let names = section.required("name", "give every port a name")
        let name = names?.interfaceName()
        let driver = parseDriver(section)
        if let name, let names {
            if let first = portMentions[name] {
                names.fault(
                    "port \"\(name)\" is already defined at \(first.text)",
                    "choose another name"
                )
                return
            }
            portMentions[name] = Mention(path: value.path, line: names.location.line)
        } else if let text = names?.node.scalar?.string {
            // Known all the same, so that what refers to it is no second fault.
            portMentions[text] = Mention(path: value.path, line: value.location.line)
        }
        guard let name, let driver else {
            _ = parseException(section, portName: name)
            return
        }
        var port = Configuration.Port(name: name, driver: driver, device: "")
        port.location = names?.location ?? value.location
        port.device = parseDevice(section, driver: driver, name: name) ?? ""
        if let netns = section["netns"] {
            if driver == .afPacket || driver == .tap {
                port.netns = parseNamespace(netns)
            } else {
                netns.fault("only af_packet and tap have a netns", "remove it")
            }
        }
        if let mtu = section["mtu"]?.integer(in: Self.mtuRange) { port.mtu = mtu }
        port.mac = section["mac"]?.mac()
        port.exception = parseException(section, portName: name)
        parseRoutedPort(section, &port)
        checkDevice(of: port, section)
        configuration.ports.append(port)
    }
    typealias Driver = Configuration.Port.Driver

    /// The driver `null` is a word here, though YAML's plain null is nothing elsewhere.
    private func parseDriver(_ section: ConfigurationSection) -> Driver? {
        if section.isWord("null", at: "driver") { return .null }
        let known = Driver.allCases.map(\.rawValue).joined(separator: ", ")
        return section.required("driver", "set driver to one of \(known)")?.choice(Driver.self)
    }

    private func parseDevice(_ section: ConfigurationSection, driver: Driver, name: String)
        -> String?
    {
        switch driver {
        case .afPacket, .afXDP:
            return section.required("device", "name the Linux interface, such as device: eth1")?
                .interfaceName()
        case .pci:
            return section.required(
                "device",
                "write its PCI address, such as device: \"0000:3b:00.0\""
            )?
            .pciAddress()
        case .vdev:
            return section.required(
                "device",
                "write an EAL device string, such as device: \"net_null0\""
            )?.deviceString()
        case .memif:
            let text = section.required(
                "device",
                "write its arguments, such as device: "
                    + "\"role=server,id=0,socket=/run/pe-dp/memif.sock,socket-abstract=no\""
            )?
            .deviceString()
            // The driver's own defaults, client and an abstract socket, would want a server with both.
            return text.map { $0.hasPrefix("/") ? "role=server,socket=\($0),socket-abstract=no" : $0 }
        case .vhostUser:
            return section.required("device", "write the path of its socket")?.deviceString()
        case .pcap:
            return section.required(
                "device",
                "write its arguments, such as device: \"rx_pcap=in.pcap,tx_pcap=out.pcap\""
            )?
            .deviceString()
        case .tap:
            return section["device"].map { $0.interfaceName() ?? "" } ?? name
        case .null, .ring:
            return section["device"]?.deviceString() ?? ""
        }
    }

    private mutating func parseException(_ section: ConfigurationSection, portName: String?)
        -> Configuration.Exception?
    {
        guard let value = section["exception"],
            let entry = value.section(["name", "mac", "mtu", "addresses"])
        else { return nil }
        var result = Configuration.Exception()
        result.name = entry["name"]?.interfaceName()
        result.mac = entry["mac"]?.mac()
        result.mtu = entry["mtu"]?.integer(in: Self.mtuRange)
        result.addresses = entry.items("addresses").compactMap { $0.interfaceAddress() }
        if let name = result.name ?? portName {
            let place = entry["name"] ?? value
            if let first = exceptionMentions[name] {
                place.fault(
                    "the exception TAP \"\(name)\" is already at \(first.text)",
                    "set exception: {name: …} to a name of its own"
                )
            } else {
                exceptionMentions[name] = Mention(path: place.path, line: place.location.line)
            }
        }
        return result
    }

    /// Two ports on one device would steal each other's packets.
    private func checkDevice(of port: Configuration.Port, _ section: ConfigurationSection) {
        guard !port.device.isEmpty, port.driver != .null, port.driver != .pcap,
            port.driver != .ring,
            let other = configuration.ports.first(where: {
                $0.driver == port.driver && $0.device == port.device && $0.netns == port.netns
            })
        else { return }
        (section["device"] ?? section.value).fault(
            "\(port.driver.rawValue) device \"\(port.device)\" is already port \"\(other.name)\" "
                + "(line \(other.location.line))",
            "a device belongs to one port; use VLAN circuits to share it"
        )
    }

    mutating func parseUnderlay(_ value: ConfigurationValue) {
        let keys = ["interfaces", "tunnelEndpoint", "udp6ZeroChecksumTx", "dscp", "ttl"]
        // Of OpenPERouter's Underlay, what concerns FRR alone.
        let foreign: Set = [
            "asn", "routerIDCIDR", "neighbors", "gracefulRestart", "isis", "srv6", "routeReflector",
            "nodeSelector",
        ]
        guard let section = value.section(keys, foreign: foreign) else { return }
        var underlay = Configuration.Underlay()
        underlay.location = value.location
        if let zero = section["udp6ZeroChecksumTx"]?.boolean() {
            underlay.udp6ZeroChecksumTx = zero
        }
        if let dscp = section["dscp"]?.outerField(in: 0...63) { underlay.dscp = dscp }
        if let ttl = section["ttl"]?.outerField(in: 1...255) { underlay.ttl = ttl }
        for item in section.required("interfaces", "list the ports of the underlay")?.list() ?? [] {
            guard let (name, place) = parseInterface(item) else { continue }
            guard portMentions[name] != nil else {
                unknownPort(place, name)
                continue
            }
            if let first = underlayPorts[name] {
                place.fault("port \"\(name)\" is already at \(first.text)", "list it once")
                continue
            }
            if let routed = routedPorts[name] {
                place.fault(
                    "port \"\(name)\" is routed: it has a VRF at \(routed.text)",
                    "a port is underlay, circuit or routed: remove its vrf, or name another port"
                )
                continue
            }
            underlayPorts[name] = Mention(path: place.path, line: place.location.line)
            underlay.interfaces.append(name)
            noteUnderlaySubnets(name, place)
        }
        if let endpoint = section.required(
            "tunnelEndpoint",
            "write tunnelEndpoint: {addresses: [100.65.0.1]}"
        ) {
            underlay.tunnelEndpoints = parseEndpoints(endpoint)
        }
        configuration.underlays.append(underlay)
    }

    /// A name, or OpenPERouter's `{type: NetworkDevice, networkDevice: {interfaceName: …}}`.
    private func parseInterface(_ value: ConfigurationValue) -> (String, ConfigurationValue)? {
        guard case .mapping = value.node else { return value.string().map { ($0, value) } }
        guard let section = value.section(["type", "networkDevice"]) else { return nil }
        if let type = section["type"], let text = type.string(), text != "NetworkDevice" {
            type.fault(
                "interfaces of type \"\(type.shown)\" are not supported",
                "use NetworkDevice"
            )
            return nil
        }
        let device = section.required("networkDevice", "write networkDevice: {interfaceName: up0}")
        let name = device?.section(["interfaceName"])?.required("interfaceName", "name the port")
        guard let name, let text = name.string() else { return nil }
        return (text, name)
    }

    private func parseEndpoints(_ value: ConfigurationValue) -> [IPAddress] {
        guard let section = value.section(["addresses", "cidrs"]) else { return [] }
        var result: [IPAddress] = []
        for item in section.items("addresses") {
            guard let address = item.hostAddress() else { continue }
            append(address, from: item, to: &result)
        }
        for item in section.items("cidrs") {
            guard let prefix = item.prefix(allowsHostBits: true) else { continue }
            guard let index = configuration.dataplane.nodeIndex else {
                item.fault(
                    "cidrs need this node's index",
                    "set dataplane.nodeIndex, or write addresses"
                )
                continue
            }
            // OpenPERouter: the network's address plus the index (internal/ipam/ipam.go).
            guard let address = prefix.network.address(at: index) else {
                item.fault("\(prefix) has no address number \(index)", "use a larger prefix")
                continue
            }
            append(address, from: item, to: &result)
        }
        if result.isEmpty && section.items("addresses").isEmpty && section.items("cidrs").isEmpty {
            value.fault("there is no address", "write tunnelEndpoint: {addresses: [100.65.0.1]}")
        }
        return result
    }

    private func append(
        _ address: IPAddress,
        from item: ConfigurationValue,
        to list: inout [IPAddress]
    ) {
        let others = configuration.underlays.flatMap(\.tunnelEndpoints) + list
        if let other = others.first(where: { $0.isV4 == address.isV4 }) {
            item.fault(
                "\(address) is a second \(address.isV4 ? "IPv4" : "IPv6") tunnel endpoint beside \(other)",
                "keep one of each family"
            )
            return
        }
        list.append(address)
    }

    /// An underlay without ports could send nothing.
    func checkUnderlays() {
        guard let underlay = configuration.underlays.first(where: { $0.interfaces.isEmpty }),
            reader.faults.isEmpty
        else { return }
        reader.fault(
            underlay.location,
            "underlays",
            "an underlay has no interfaces",
            "list its ports"
        )
    }

    func unknownPort(_ value: ConfigurationValue, _ name: String) {
        let near = reader.suggestion(for: name, among: portMentions.keys.sorted())
        value.fault("there is no port \"\(value.shown)\"\(near)", "define it under ports")
    }
}

extension ConfigurationValue {
    /// Arguments of an EAL device.
    fileprivate func deviceString() -> String? {
        guard let text = string() else { return nil }
        guard !text.isEmpty, text.utf8.count <= 1024,
            text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F })
        else {
            fault("\"\(shown)\" cannot be a device", "write it without spaces")
            return nil
        }
        return text
    }
}

extension IPPrefix {
    /// The address with this number, counted from the network's own; nil beyond the end.
    fileprivate func address(at index: Int) -> IPAddress? {
        let bits = address.bitCount - length
        guard index >= 0, bits >= 62 || index < 1 << bits else { return nil }
        switch address {
        case .v4(let v4):
            return .v4(IPv4Address(rawValue: v4.rawValue &+ UInt32(truncatingIfNeeded: index)))
        case .v6(let v6):
            let (low, carry) = v6.low.addingReportingOverflow(UInt64(index))
            return .v6(IPv6Address(high: v6.high &+ (carry ? 1 : 0), low: low))
        }
    }
}
