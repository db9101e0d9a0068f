// One IP-VRF as workers see it, and the addresses of a gateway.

public import Wire

/// One IP-VRF, 48 bytes.
public struct VRFEntry: BitwiseCopyable, Sendable {
    /// Own router MAC: the only inner destination that is accepted (RFC 9135 section 6); 0 for none.
    public var routerMAC: UInt64
    /// As ``BridgeDomain/vniWord``; 0 for a VRF without an L3VNI.
    public var vniWord: UInt32
    /// UDP destination port, network order.
    public var vxlanPortRaw: UInt16
    public var acceptUnknownVTEP: Bool
    public var isUsed: Bool
    /// Where ICMP errors come from when the packet did not enter through a gateway: a gateway
    /// address or another of the VRF's own, as loaded from a packet; 0 for none.
    public var icmpSourceIPv4: UInt32
    public var icmpSourceIPv6: (UInt64, UInt64)
    public init() {
        routerMAC = 0
        vniWord = 0
        vxlanPortRaw = 0
        acceptUnknownVTEP = false
        isUsed = false
        icmpSourceIPv4 = 0
        icmpSourceIPv6 = (0, 0)
    }
    public init(
        vni: VNI?, vxlanPort: UInt16 = 4789, routerMAC: MACAddress = .zero, icmpSourceIPv4: IPv4Address? = nil,
        icmpSourceIPv6: IPv6Address? = nil
    ) {
        self.init()
        self.routerMAC = routerMAC.rawValue
        vniWord = (vni?.rawValue ?? 0) << 8
        vxlanPortRaw = vxlanPort.bigEndian
        isUsed = true
        self.icmpSourceIPv4 = icmpSourceIPv4?.networkOrder ?? 0
        self.icmpSourceIPv6 = icmpSourceIPv6.map { ($0.high.bigEndian, $0.low.bigEndian) } ?? (0, 0)
    }
    public var vni: VNI? { vniWord == 0 ? nil : VNI(word: vniWord) }
}

/// An immutable list of a domain's gateway addresses.
public struct GatewayList: BitwiseCopyable, @unchecked Sendable {
    /// IPv4 count, IPv6 count; IPv4: address as in a packet, prefix length above 32; IPv6: two words
    /// as in a packet, then the prefix length.
    @usableFromInline let words: UnsafePointer<UInt64>
    @usableFromInline init(words: UnsafePointer<UInt64>) { self.words = words }
    @inlinable public var ipv4Count: Int { Int(truncatingIfNeeded: words[0]) }
    @inlinable public var ipv6Count: Int { Int(truncatingIfNeeded: words[1]) }
    /// As loaded from a packet.
    @inlinable public func ipv4(_ index: Int) -> UInt32 { UInt32(truncatingIfNeeded: words[2 &+ index]) }
    @inlinable public func ipv4PrefixLength(_ index: Int) -> Int {
        Int(truncatingIfNeeded: words[2 &+ index] &>> 32)
    }
    /// As loaded from a packet.
    @inlinable public func ipv6(_ index: Int) -> (UInt64, UInt64) {
        let base = 2 &+ ipv4Count &+ index &* 3
        return (words[base], words[base &+ 1])
    }
    @inlinable public func ipv6PrefixLength(_ index: Int) -> Int {
        Int(truncatingIfNeeded: words[2 &+ ipv4Count &+ index &* 3 &+ 2])
    }
    @inlinable public func contains(ipv4 raw: UInt32) -> Bool {
        var index = 0
        while index < ipv4Count {
            if ipv4(index) == raw { return true }
            index &+= 1
        }
        return false
    }
    @inlinable public func contains(ipv6 first: UInt64, _ second: UInt64) -> Bool {
        var index = 0
        while index < ipv6Count {
            let found = ipv6(index)
            if found.0 == first && found.1 == second { return true }
            index &+= 1
        }
        return false
    }
    static func words(_ prefixes: [IPPrefix]) -> [UInt64] {
        var ipv4: [UInt64] = []
        var ipv6: [UInt64] = []
        for prefix in prefixes {
            switch prefix.address {
            case .v4(let address): ipv4.append(UInt64(address.networkOrder) | UInt64(prefix.length) << 32)
            case .v6(let address): ipv6 += [address.high.bigEndian, address.low.bigEndian, UInt64(prefix.length)]
            }
        }
        return [UInt64(ipv4.count), UInt64(ipv6.count / 3)] + ipv4 + ipv6
    }
}
