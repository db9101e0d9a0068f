// Reading of the values that networks are made of: addresses, prefixes, MACs, names, VNIs.

import Wire

extension ConfigurationValue {
    /// An address without a length.
    func address() -> IPAddress? {
        guard let text = string() else { return nil }
        if let address = IPAddress(text) { return address }
        let hint = IPPrefix(text) == nil ? "" : " without the length"
        fault(
            "\"\(shown)\" is not an IP address",
            "write an IPv4 or IPv6 address\(hint), such as 10.0.0.1 or 2001:db8::1"
        )
        return nil
    }

    /// An address that one host can have.
    func hostAddress() -> IPAddress? {
        guard let address = address() else { return nil }
        return checkUnicast(address) ? address : nil
    }

    private func checkUnicast(_ address: IPAddress) -> Bool {
        let isBroadcast = address == .v4(IPv4Address(rawValue: .max))
        guard !address.isMulticast, !address.isUnspecified, !isBroadcast else {
            fault("\(address) is not a unicast address", "write the address of one host")
            return false
        }
        return true
    }

    /// An interface's address with the length of its subnet.
    func interfaceAddress() -> IPPrefix? {
        guard let prefix = prefix(allowsHostBits: true), checkUnicast(prefix.address) else {
            return nil
        }
        return prefix
    }

    /// A prefix; without host bits unless they are allowed.
    func prefix(allowsHostBits: Bool = false) -> IPPrefix? {
        guard let text = string() else { return nil }
        guard text.contains("/"), let prefix = IPPrefix(text) else {
            fault(
                "\"\(shown)\" is not an address with a prefix length",
                "write for example 10.0.0.0/24 or 2001:db8::/64"
            )
            return nil
        }
        guard allowsHostBits || prefix.network == prefix else {
            fault("\(prefix) has bits beyond its length", "write \(prefix.network)")
            return nil
        }
        return prefix
    }

    /// A MAC that one interface can have.
    func mac() -> MACAddress? {
        guard let text = string() else { return nil }
        guard let mac = MACAddress(text) else {
            fault("\"\(shown)\" is not a MAC address", "write for example \"02:00:00:00:00:01\"")
            return nil
        }
        guard !mac.isMulticast, !mac.isZero else {
            fault(
                "\(mac) is not the address of one interface",
                "clear the lowest bit of the first byte, such as in 02:00:00:00:00:01"
            )
            return nil
        }
        return mac
    }

    /// RFC 7348 allows 0; kernel, FRR and OpenPERouter do not offer it.
    func vni() -> VNI? {
        integer(in: 1...0xFF_FFFF).flatMap { VNI(UInt32($0)) }
    }

    func udpPort() -> UInt16? { integer(in: 1...65535).map { UInt16($0) } }

    /// A VLAN ID of IEEE 802.1Q; 0 and 4095 are reserved.
    func vlan() -> UInt16? { integer(in: 1...4094).map { UInt16($0) } }

    /// A name that becomes a Linux interface: IFNAMSIZ with its zero is 16 (dev_valid_name).
    func interfaceName() -> String? {
        guard let text = string() else { return nil }
        guard !text.isEmpty, text.utf8.count <= 15 else {
            fault(
                "\"\(shown)\" has \(text.utf8.count) bytes; a Linux interface name has 1 to 15",
                "choose a shorter name"
            )
            return nil
        }
        guard text != ".", text != "..",
            text.utf8.allSatisfy({
                $0 > 0x20 && $0 < 0x7F && $0 != 0x2F && $0 != 0x3A && $0 != 0x25
            })
        else {
            fault(
                "\"\(shown)\" cannot be a Linux interface name",
                "use letters, digits, - _ and . (no spaces, no / : or %)"
            )
            return nil
        }
        return text
    }

    /// A name that is only a label.
    func label() -> String? {
        guard let text = string() else { return nil }
        guard (1...63).contains(text.utf8.count), text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
        else {
            fault("\"\(shown)\" cannot be a name", "use 1 to 63 letters, digits, - _ and .")
            return nil
        }
        return text
    }

    /// A path from the root, one that a `sockaddr_un` holds.
    func socketPath() -> String? {
        guard let text = string() else { return nil }
        guard text.hasPrefix("/"), !text.hasSuffix("/"), !text.utf8.contains(0),
            text.utf8.count <= AdminSocket.pathByteLimit
        else {
            fault(
                "\"\(shown)\" cannot be the path of a unix socket",
                "write an absolute path of at most \(AdminSocket.pathByteLimit) bytes"
            )
            return nil
        }
        return text
    }

    /// `127.0.0.1:2620`, `[::1]:2620`.
    func listenAddress() -> String? {
        guard let text = string() else { return nil }
        guard let split = text.lastIndex(of: ":"),
            text[text.index(after: split)...].utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let port = UInt16(text[text.index(after: split)...]), port > 0
        else {
            fault(
                "\"\(shown)\" is not host:port",
                "write for example 127.0.0.1:2620 or \"[::1]:2620\""
            )
            return nil
        }
        let host = text[..<split]
        let isBracketed = host.hasPrefix("[") && host.hasSuffix("]") && host.utf8.count > 2
        let isValid =
            isBracketed
            ? IPv6Address(host.dropFirst().dropLast()) != nil
            : host == "localhost" || IPv4Address(host) != nil
        guard isValid else {
            fault(
                "\"\(shown)\" names no local address to listen on",
                "write for example 127.0.0.1:2620 or \"[::1]:2620\""
            )
            return nil
        }
        return text
    }

    /// `0000:3b:00.0`, or without the domain.
    func pciAddress() -> String? {
        guard let text = string() else { return nil }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        let last = parts.last?.split(separator: ".", omittingEmptySubsequences: false) ?? []
        let isHex = { (part: Substring, count: Int) in
            part.utf8.count == count && part.allSatisfy { $0.isASCII && $0.isHexDigit }
        }
        let groups = parts.dropLast()
        guard (1...2).contains(groups.count), last.count == 2, isHex(last[0], 2),
            let function = UInt8(last[1]), function < 8, groups.last.map({ isHex($0, 2) }) == true,
            groups.count == 1 || isHex(groups[0], 4)
        else {
            fault(
                "\"\(shown)\" is not a PCI address",
                "write for example \"0000:3b:00.0\"; see lspci -D"
            )
            return nil
        }
        return groups.count == 1 ? "0000:" + text : text
    }
}
