// One underlay path to a VTEP, and the outer header that it becomes (RFC 7348 section 5).

public import Wire

/// How packets for one VTEP leave on one underlay next hop.
public struct TunnelPath: Hashable, Sendable {
    /// pe-dp port.
    public var port: UInt16
    public var sourceMAC: MACAddress
    public var nextHopMAC: MACAddress
    /// Layer 3 MTU of the port.
    public var mtu: UInt16
    public var weight: Int
    public init(port: UInt16, sourceMAC: MACAddress, nextHopMAC: MACAddress, mtu: UInt16, weight: Int = 1) {
        self.port = port
        self.sourceMAC = sourceMAC
        self.nextHopMAC = nextHopMAC
        self.mtu = mtu
        self.weight = weight
    }
    /// What makes it the same path when weights or MTU change.
    struct Identity: Hashable {
        var port: UInt16
        var nextHopMAC: MACAddress
    }
    var identity: Identity { Identity(port: port, nextHopMAC: nextHopMAC) }
}

/// What the outer header says beside addresses.
public struct OuterHeaderOptions: Hashable, Sendable {
    public var ttl: UInt8 = 64
    /// DSCP in the upper six bits; ECN is the inner packet's (RFC 6040).
    public var trafficClass: UInt8 = 0
    /// The inner packet's DSCP and TTL instead, where it is IP; else the values above.
    public var copiesDSCP = false
    public var copiesTTL = false
    /// IPv6: send UDP checksum 0 (RFC 6935); Linux VTEPs refuse it by default.
    public var zeroChecksumIPv6 = false
    public init() {}
}

extension Adjacency {
    /// Writes the record of `path` from `local` to `remote`, which are of one family.
    static func write(
        at base: UnsafeMutableRawPointer, path: TunnelPath, local: IPAddress, remote: IPAddress,
        options: OuterHeaderOptions
    ) {
        for index in 0..<byteCount { base.storeBytes(of: 0, toByteOffset: index, as: UInt8.self) }
        let header = base + headerOffset
        for (index, byte) in (path.nextHopMAC.bytes + path.sourceMAC.bytes).enumerated() {
            header[byte: index] = byte
        }
        var sum: UInt32 = 0
        let udp: Int
        switch (local, remote) {
        case (.v4(let source), .v4(let destination)):
            header[be16: 12] = EtherType.ipv4
            header[byte: 14] = 0x45
            header[byte: 15] = options.trafficClass
            header[be16: 20] = 0x4000  // DF
            header[byte: 22] = options.ttl
            header[byte: 23] = IPProtocol.udp
            header[raw32: 26] = source.networkOrder
            header[raw32: 30] = destination.networkOrder
            for word in 0..<10 { sum += UInt32(header[raw16: 14 + word * 2]) }
            udp = 34
        default:
            header[be16: 12] = EtherType.ipv6
            header[be32: 14] = 6 << 28 | UInt32(options.trafficClass) << 20
            header[byte: 20] = IPProtocol.udp
            header[byte: 21] = options.ttl
            for (index, byte) in (local.bytes + remote.bytes).enumerated() { header[byte: 22 + index] = byte }
            for word in 0..<16 { sum += UInt32(header[raw16: 22 + word * 2]) }
            sum += UInt32(UInt16(IPProtocol.udp).bigEndian)
            udp = 54
        }
        header[be16: udp + 2] = VXLANHeader.defaultPort
        header[byte: udp + 8] = 0x08
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + sum >> 16 }
        base.storeBytes(of: path.port, toByteOffset: 0, as: UInt16.self)
        base[byte: 2] = UInt8(udp + 16)
        base[byte: 3] = (remote.isV4 ? 0 : 1) | (options.zeroChecksumIPv6 ? 2 : 0)
            | (options.copiesDSCP ? 4 : 0) | (options.copiesTTL ? 8 : 0)
        base.storeBytes(of: path.mtu, toByteOffset: 4, as: UInt16.self)
        base.storeBytes(of: UInt16(truncatingIfNeeded: sum), toByteOffset: 6, as: UInt16.self)
    }
}
