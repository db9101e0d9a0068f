// ARP, neighbour discovery and DHCP frames, byte by byte from the fields that a test cares about.

public import Wire

extension Frame {
    public static func arp(
        to destination: MACAddress, from source: MACAddress, operation: UInt16, senderMAC: MACAddress? = nil,
        sender: IPAddress, targetMAC: MACAddress = .zero, target: IPAddress, type: UInt16 = 0x0806
    ) -> [UInt8] {
        let head: [UInt8] = [0, 1, 8, 0, 6, 4] + be16(operation)
        let body = (senderMAC ?? source).bytes + sender.bytes + targetMAC.bytes + target.bytes
        return ethernet(to: destination, from: source, type: type, head + body)
    }
    /// An ICMPv6 packet with a right checksum.
    public static func icmp6(
        to destination: MACAddress, from source: MACAddress, _ sourceIP: IPAddress, _ destinationIP: IPAddress,
        hopLimit: UInt8 = 255, trafficClass: UInt8 = 0, _ message: [UInt8]
    ) -> [UInt8] {
        guard case .v6(let from) = sourceIP, case .v6(let to) = destinationIP else { preconditionFailure("IPv6") }
        var message = message
        let pseudo = from.bytes + to.bytes + be32(message.count) + [0, 0, 0, 58]
        let sum = be16(checksum(pseudo + message))
        message[2] = sum[0]
        message[3] = sum[1]
        let packet = ipv6(
            from: from, to: to, next: 58, message, hopLimit: hopLimit, trafficClass: trafficClass)
        return ethernet(to: destination, from: source, type: 0x86DD, packet)
    }
    /// `linkLayer` nil: without the option.
    public static func solicitation(
        to destination: MACAddress? = nil, from source: MACAddress, _ sourceIP: IPAddress,
        _ destinationIP: IPAddress? = nil, target: IPAddress, linkLayer: MACAddress?, hopLimit: UInt8 = 255
    ) -> [UInt8] {
        let last = Array(target.bytes[13...])
        let group = MACAddress(bytes: [0x33, 0x33, 0xFF] + last)
        let solicited = IPAddress.v6(IPv6Address(bytes: [0xFF, 2] + [UInt8](repeating: 0, count: 9) + [1, 0xFF] + last))
        let option = linkLayer.map { [1, 1] + $0.bytes } ?? []
        return icmp6(
            to: destination ?? group, from: source, sourceIP, destinationIP ?? solicited, hopLimit: hopLimit,
            [135, 0, 0, 0, 0, 0, 0, 0] + target.bytes + option)
    }
    public static func advertisement(
        to destination: MACAddress, from source: MACAddress, _ sourceIP: IPAddress, _ destinationIP: IPAddress,
        flags: UInt8, target: IPAddress, linkLayer: MACAddress?, hopLimit: UInt8 = 255
    ) -> [UInt8] {
        let option = linkLayer.map { [2, 1] + $0.bytes } ?? []
        return icmp6(
            to: destination, from: source, sourceIP, destinationIP, hopLimit: hopLimit,
            [136, 0, 0, 0, flags, 0, 0, 0] + target.bytes + option)
    }
    /// A DHCP server's message with its type as the only option.
    public static func dhcp(
        to destination: MACAddress, from source: MACAddress, _ server: IPAddress, type: UInt8, client: MACAddress,
        address: IPAddress
    ) -> [UInt8] {
        var message = [UInt8](repeating: 0, count: 240)
        message.replaceSubrange(0..<3, with: [2, 1, 6])
        message.replaceSubrange(16..<20, with: address.bytes)
        message.replaceSubrange(28..<34, with: client.bytes)
        message.replaceSubrange(236..<240, with: [0x63, 0x82, 0x53, 0x63])
        message += [53, 1, type, 255]
        let packet = udp(from: server, 67, to: address, 68, message)
        return ip(to: destination, from: source, server, address, number: 17, packet)
    }
}
