// Builds frames byte by byte from the fields that a test cares about, with right checksums.

public import Wire

/// Everything in network order, as it lies on the wire.
public enum Frame {
    public static func be16(_ value: some BinaryInteger) -> [UInt8] {
        [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)]
    }
    public static func be32(_ value: some BinaryInteger) -> [UInt8] {
        be16(value >> 16) + be16(value)
    }

    /// The checksum field for `bytes`, computed word by word as RFC 1071 describes it.
    public static func checksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += UInt32(bytes[index]) << 8 | (index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0)
        }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + sum >> 16 }
        return ~UInt16(sum)
    }

    public static func ethernet(
        to destination: MACAddress, from source: MACAddress, type: UInt16, _ payload: [UInt8]
    ) -> [UInt8] {
        destination.bytes + source.bytes + be16(type) + payload
    }
    /// `frame` with a tag behind its addresses.
    public static func tagged(
        _ vlan: UInt16, priority: UInt8 = 0, tpid: UInt16 = 0x8100, _ frame: [UInt8]
    ) -> [UInt8] {
        frame[0..<12] + be16(tpid) + be16(UInt16(priority) << 13 | vlan) + frame[12...]
    }

    /// What an IPv4 header says beside its addresses.
    public struct IPv4Options: Sendable {
        public var timeToLive: UInt8 = 64
        public var trafficClass: UInt8 = 0
        public var identification: UInt16 = 0
        /// Flags and fragment offset.
        public var fragment: UInt16 = 0
        /// A multiple of four bytes.
        public var options: [UInt8] = []
        public init() {}
    }
    public static func ipv4(
        from source: IPv4Address, to destination: IPv4Address, number: UInt8, _ payload: [UInt8],
        _ options: IPv4Options = IPv4Options()
    ) -> [UInt8] {
        let size = 20 + options.options.count
        var header: [UInt8] = [0x40 | UInt8(size / 4), options.trafficClass]
        header += be16(size + payload.count) + be16(options.identification) + be16(options.fragment)
        header += [options.timeToLive, number, 0, 0] + source.bytes + destination.bytes
        header += options.options
        let sum = be16(checksum(header))
        header[10] = sum[0]
        header[11] = sum[1]
        return header + payload
    }
    public static func ipv6(
        from source: IPv6Address, to destination: IPv6Address, next: UInt8, _ payload: [UInt8],
        hopLimit: UInt8 = 64, trafficClass: UInt8 = 0
    ) -> [UInt8] {
        let first = be32(6 << 28 | UInt32(trafficClass) << 20)
        let head = first + be16(payload.count) + [next, hopLimit]
        return head + source.bytes + destination.bytes + payload
    }
    static func pseudoHeader(
        _ source: IPAddress, _ destination: IPAddress, _ number: UInt8, _ length: Int
    ) -> [UInt8] {
        let addresses = source.bytes + destination.bytes
        return source.isV4
            ? addresses + [0, number] + be16(length) : addresses + be32(length) + [0, 0, 0, number]
    }
    /// A UDP packet; `hasChecksum` false leaves the field zero.
    public static func udp(
        from source: IPAddress, _ sourcePort: UInt16, to destination: IPAddress,
        _ destinationPort: UInt16, _ payload: [UInt8], hasChecksum: Bool = true
    ) -> [UInt8] {
        let length = 8 + payload.count
        var packet = be16(sourcePort) + be16(destinationPort) + be16(length) + [0, 0] + payload
        if hasChecksum {
            let sum = checksum(pseudoHeader(source, destination, 17, length) + packet)
            packet.replaceSubrange(6..<8, with: be16(sum == 0 ? 0xFFFF : sum))
        }
        return packet
    }
    public static func tcp(
        from source: IPAddress, _ sourcePort: UInt16, to destination: IPAddress,
        _ destinationPort: UInt16, _ payload: [UInt8]
    ) -> [UInt8] {
        var packet = be16(sourcePort) + be16(destinationPort) + be32(1) + be32(2)
        packet += [0x50, 0x18, 0xFF, 0xFF, 0, 0, 0, 0] + payload
        let sum = checksum(pseudoHeader(source, destination, 6, packet.count) + packet)
        packet.replaceSubrange(16..<18, with: be16(sum))
        return packet
    }
    /// An Ethernet frame with a UDP packet over IPv4 or IPv6.
    public static func host(
        to destination: MACAddress, from source: MACAddress, _ sourceIP: IPAddress = .v4(hostA),
        _ destinationIP: IPAddress = .v4(hostB), sourcePort: UInt16 = 1000,
        destinationPort: UInt16 = 2000, payload: [UInt8] = Array(0..<22)
    ) -> [UInt8] {
        let packet = udp(from: sourceIP, sourcePort, to: destinationIP, destinationPort, payload)
        return ip(to: destination, from: source, sourceIP, destinationIP, number: 17, packet)
    }
    public static func ip(
        to destination: MACAddress, from source: MACAddress, _ sourceIP: IPAddress,
        _ destinationIP: IPAddress, number: UInt8, _ payload: [UInt8]
    ) -> [UInt8] {
        switch (sourceIP, destinationIP) {
        case (.v4(let from), .v4(let to)):
            let packet = ipv4(from: from, to: to, number: number, payload)
            return ethernet(to: destination, from: source, type: 0x0800, packet)
        case (.v6(let from), .v6(let to)):
            let packet = ipv6(from: from, to: to, next: number, payload)
            return ethernet(to: destination, from: source, type: 0x86DD, packet)
        default: preconditionFailure("addresses of two families")
        }
    }
    public static let hostA = IPv4Address(rawValue: 0xC0A8_0001)
    public static let hostB = IPv4Address(rawValue: 0xC0A8_0002)

    /// The fields of a VXLAN packet that tests vary.
    public struct VXLAN: Sendable {
        public var sourceMAC = MACAddress(2, 0, 0, 0, 0, 0xFE)
        public var destinationMAC = MACAddress(2, 0, 0, 0, 0, 0x01)
        public var source: IPAddress
        public var destination: IPAddress
        public var sourcePort: UInt16 = 50_000
        public var port: UInt16 = 4789
        public var flags: UInt8 = 0x08
        public var vni: UInt32
        public var hasChecksum = false
        public var ipv4 = IPv4Options()
        /// DSCP and ECN of either family.
        public var trafficClass: UInt8 = 0
        /// IPv6 extension headers before UDP, and the number of the first.
        public var extensions: (first: UInt8, bytes: [UInt8])?
        public init(from source: IPAddress, to destination: IPAddress, vni: UInt32) {
            self.source = source
            self.destination = destination
            self.vni = vni
        }
        public func frame(_ inner: [UInt8]) -> [UInt8] {
            let payload = [flags, 0, 0, 0] + be32(vni << 8) + inner
            let packet = udp(
                from: source, sourcePort, to: destination, port, payload, hasChecksum: hasChecksum)
            switch (source, destination) {
            case (.v4(let from), .v4(let to)):
                var options = ipv4
                if trafficClass != 0 { options.trafficClass = trafficClass }
                let ip = Frame.ipv4(from: from, to: to, number: 17, packet, options)
                return ethernet(to: destinationMAC, from: sourceMAC, type: 0x0800, ip)
            case (.v6(let from), .v6(let to)):
                let ip = Frame.ipv6(
                    from: from, to: to, next: extensions?.first ?? 17,
                    (extensions?.bytes ?? []) + packet, trafficClass: trafficClass)
                return ethernet(to: destinationMAC, from: sourceMAC, type: 0x86DD, ip)
            default: preconditionFailure("addresses of two families")
            }
        }
    }
}
