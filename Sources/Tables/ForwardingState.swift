// The published root and the records it points to: all that a worker can see.

public import CLinux
public import Wire

/// One broadcast domain, one cache line.
public struct BridgeDomain: BitwiseCopyable, Sendable {
    /// VNI in the upper 24 bits, as the second word of a VXLAN header, host order.
    public var vniWord: UInt32
    /// UDP destination port, network order.
    public var vxlanPortRaw: UInt16
    public var flags: Flags
    /// The gateway's MAC; 0 for none.
    public var gatewayMAC: UInt64
    /// Where BUM goes; nil until there is somebody.
    public var flood: FloodList?
    /// The IP-VRF that its gateway routes in; 0 for none.
    public var vrf: UInt16
    /// 0 while the index is free.
    public var isUsed: Bool
    /// The gateway's addresses; nil without any.
    public var gateways: GatewayList?

    public struct Flags: OptionSet, BitwiseCopyable, Sendable {
        public let rawValue: UInt8
        @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
        @inlinable public static var acceptUnknownVTEP: Flags { Flags(rawValue: 1) }
        @inlinable public static var neighborSuppression: Flags { Flags(rawValue: 2) }
    }
    public init(
        vni: VNI, vxlanPort: UInt16, gatewayMAC: MACAddress? = nil, flags: Flags = [], vrf: UInt16 = 0
    ) {
        vniWord = vni.rawValue << 8
        vxlanPortRaw = vxlanPort.bigEndian
        self.gatewayMAC = gatewayMAC?.rawValue ?? 0
        self.flags = flags
        self.vrf = vrf
        flood = nil
        isUsed = true
        gateways = nil
    }
    public init() {
        vniWord = 0
        vxlanPortRaw = 0
        gatewayMAC = 0
        flags = []
        vrf = 0
        flood = nil
        isUsed = false
        gateways = nil
    }
    public var vni: VNI { VNI(word: vniWord) }
}

/// An immutable list of flood targets: circuits, then tunnels, each by rising index.
public struct FloodList: BitwiseCopyable, @unchecked Sendable {
    /// Circuit count, tunnel count, generation, then the indexes.
    @usableFromInline let words: UnsafePointer<UInt32>
    @usableFromInline init(words: UnsafePointer<UInt32>) { self.words = words }
    @inlinable @inline(__always) public var circuitCount: Int { Int(words[0]) }
    @inlinable @inline(__always) public var tunnelCount: Int { Int(words[1]) }
    /// No other list has had this number for a long time: 2^32 changes of lists.
    @inlinable @inline(__always) public var generation: UInt32 { words[2] }
    @inlinable @inline(__always) public func circuit(_ index: Int) -> UInt32 { words[3 &+ index] }
    @inlinable @inline(__always)
    public func tunnel(_ index: Int) -> UInt32 { words[3 &+ Int(words[0]) &+ index] }

    /// What stands for a target in ``position(behind:)``: circuits come before tunnels.
    @inlinable public static func mark(circuit index: UInt32) -> UInt32 { index }
    @inlinable public static func mark(tunnel index: UInt32) -> UInt32 { index | 1 &<< 31 }
    /// The first target, counted over circuits and tunnels, whose mark is above `mark`: where somebody
    /// goes on who was served from another list up to that mark.
    @inlinable public func position(behind mark: UInt32) -> Int {
        var low = 0
        var high = circuitCount &+ tunnelCount
        while low < high {
            let middle = (low &+ high) / 2
            let here = words[3 &+ middle] | (middle < circuitCount ? 0 : 1 &<< 31)
            if here <= mark { low = middle &+ 1 } else { high = middle }
        }
        return low
    }
}

/// One attachment circuit: a port and what VLAN its frames carry there.
public struct Circuit: BitwiseCopyable, Hashable, Sendable {
    public var port: UInt16
    /// VLAN ID; 0 is untagged.
    public var vlan: UInt16
    public var domain: UInt16
    public var isUsed: Bool
    public init(port: UInt16, vlan: UInt16, domain: UInt16) {
        self.port = port
        self.vlan = vlan
        self.domain = domain
        isUsed = true
    }
    public init() {
        port = 0
        vlan = 0
        domain = 0
        isUsed = false
    }
}

/// What a port is for.
public enum PortRole: UInt8, BitwiseCopyable, Sendable {
    case unused, underlay, circuits
    /// An exception TAP: the host's side of another port.
    case exception
    /// In a VRF, without a bridge domain: a host leg.
    case routed
}

/// One port as the pipeline sees it.
public struct PortEntry: BitwiseCopyable, @unchecked Sendable {
    public var role: PortRole
    public var isUp: Bool
    /// Layer 3 MTU.
    public var mtu: UInt16
    /// Of an underlay or circuit port its exception TAP, of a TAP its port; ``none`` without.
    public var partner: UInt16
    /// The circuit of untagged frames; ``noCircuit`` without.
    public var untaggedCircuit: UInt32
    /// 4096 circuit indexes by VLAN ID, or nil when only untagged frames have a circuit.
    public var vlanCircuits: UnsafePointer<UInt32>?
    /// The port's own MAC; 0 when it has none.
    public var mac: UInt64
    /// The VRF that a routed port is in; of an underlay port the default VRF where pe-dp routes in
    /// that too (passthrough); else 0.
    public var vrf: UInt16 = 0
    @inlinable public static var none: UInt16 { UInt16.max }
    @inlinable public static var noCircuit: UInt32 { UInt32.max }
    public init(role: PortRole = .unused, mtu: UInt16 = 1500, mac: MACAddress = .zero, partner: UInt16 = UInt16.max) {
        self.role = role
        isUp = true
        self.mtu = mtu
        self.partner = partner
        untaggedCircuit = Self.noCircuit
        vlanCircuits = nil
        self.mac = mac.rawValue
    }
}

/// One remote VTEP: how to get there.
///
/// With one path `slotMask` is 0 and `first` is the adjacency; else `first` is the tunnel's first
/// slot and a flow takes slot `first + (hash & slotMask)`.
public struct Tunnel: BitwiseCopyable, Sendable {
    public var first: UInt32
    public var slotMask: UInt32
    /// No route, or no resolved next hop: packets are dropped with this reason.
    public var unusable: DropReason?
    public init() {
        first = 0
        slotMask = 0
        unusable = .noUnderlayRoute
    }
}

/// One underlay path of one VTEP: the outer header with the next hop in it.
///
/// 128 bytes of raw memory; with IPv4 all of it that is read lies in the first cache line.
///
///     0 port  2 header length  3 flags  4 MTU of the port  6 checksum base  8 header (50 or 70 bytes)
///
/// The checksum base is the folded one's complement sum, in memory order, of: the IPv4 header
/// without total length and checksum; or the IPv6 pseudo-header (addresses and next header 17)
/// without length.
public struct Adjacency: BitwiseCopyable, @unchecked Sendable {
    @usableFromInline let base: UnsafeMutableRawPointer
    @inlinable @inline(__always) public init(at base: UnsafeMutableRawPointer) { self.base = base }
    public static let byteCount = 128
    @inlinable public static var headerOffset: Int { 8 }

    @inlinable @inline(__always) public var port: UInt16 { base[raw16: 0] }
    @inlinable @inline(__always) public var headerByteCount: Int { Int(base[byte: 2]) }
    @inlinable @inline(__always) public var isIPv6: Bool { base[byte: 3] & 1 != 0 }
    /// Over IPv4, and the outer header takes nothing but ECN over.
    @inlinable @inline(__always) public var isPlainIPv4: Bool { base[byte: 3] & 13 == 0 }
    /// The same over IPv6.
    @inlinable @inline(__always) public var isPlainIPv6: Bool { base[byte: 3] & 13 == 1 }
    /// Bytes of outer headers.
    @inlinable public static var ipv4ByteCount: Int { 50 }
    @inlinable public static var ipv6ByteCount: Int { 70 }
    /// IPv6 only: send UDP checksum 0 (RFC 6935).
    @inlinable @inline(__always) public var hasZeroChecksum: Bool { base[byte: 3] & 2 != 0 }
    /// The outer header takes DSCP or TTL over from the inner packet.
    @inlinable @inline(__always) public var copiesInner: Bool { copyFlags != 0 }
    @inlinable @inline(__always) public var copyFlags: UInt8 { base[byte: 3] & 12 }
    @inlinable public var copiesDSCP: Bool { base[byte: 3] & 4 != 0 }
    @inlinable public var copiesTTL: Bool { base[byte: 3] & 8 != 0 }
    /// Largest outer IP packet.
    @inlinable @inline(__always) public var mtu: UInt16 { base[raw16: 4] }
    @inlinable @inline(__always) public var checksumBase: UInt16 { base[raw16: 6] }
    @inlinable @inline(__always) public var header: UnsafeRawPointer { UnsafeRawPointer(base + 8) }
}

/// Everything a worker can see. Copied into locals once per burst; the pointers stay valid until
/// the worker's next quiescent point.
public struct ForwardingState: BitwiseCopyable, @unchecked Sendable {
    /// Bridge domain and MAC to ``FDBValue``.
    public var fdb: BucketView
    /// VNI to ``VNITarget``; 2^24 words.
    public var vnis: UnsafePointer<UInt32>
    public var domains: UnsafePointer<BridgeDomain>
    public var circuits: UnsafePointer<Circuit>
    public var ports: UnsafePointer<PortEntry>
    public var portCount: UInt16
    public var tunnels: UnsafePointer<Tunnel>
    /// ECMP slots: adjacency indexes.
    public var slots: UnsafePointer<UInt32>
    public var adjacencies: UnsafeMutableRawPointer
    /// VTEP address key to tunnel index.
    public var vteps: BucketView
    /// Tunnel index to the VTEP's IPv6 address (two words as in a packet); zero for IPv4.
    public var vtepAddresses: UnsafePointer<UInt64>
    /// Which VTEPs belong to which domain or VRF: `vtepWords` words of 64 bits for each domain, then
    /// for each VRF.
    public var members: UnsafePointer<UInt64>
    public var vtepWords: Int
    /// Local tunnel endpoints as loaded from a packet; unused lanes are 0.
    public var localIPv4: SIMD4<UInt32>
    /// Local IPv6 tunnel endpoints, two words each.
    public var localIPv6: UnsafePointer<UInt64>
    public var localIPv6Count: Int
    /// UDP ports of VXLAN as loaded from a packet; unused lanes are 0.
    public var vxlanPorts: SIMD8<UInt16>

    public var vrfs: UnsafePointer<VRFEntry>
    /// VRF and host address to ``RouteValue``.
    public var hosts: HostView
    /// Where ``hosts`` has IPv4 addresses.
    public var hostBlocks: HostBlockView
    /// VRF and prefix to ``RouteValue``.
    public var prefixes: TrieView
    /// Bridge domain and address to a hop (``HopView``) with the neighbour's MAC.
    public var neighbors: HostView
    public var hops: UnsafePointer<UInt64>
    /// Slot count in the upper half, first slot in the lower.
    public var groups: UnsafePointer<UInt64>
    public var groupSlots: UnsafePointer<UInt32>
    /// Row of the first VRF in ``members``.
    public var vrfMemberBase: Int
    /// How nearly all packets from VTEPs look: over IPv4, over IPv6.
    public var plainOuters: UnsafePointer<PlainOuter>

    @inlinable @inline(__always)
    public func adjacency(_ index: UInt32) -> Adjacency { Adjacency(at: adjacencies + Int(index) &<< 7) }

    /// The path that a flow takes through a tunnel.
    @inlinable @inline(__always)
    public func adjacency(of tunnel: UnsafePointer<Tunnel>, hash: UInt32) -> Adjacency {
        let mask = tunnel.pointee.slotMask
        if mask == 0 { return adjacency(tunnel.pointee.first) }
        return adjacency(slots[Int(tunnel.pointee.first &+ (hash & mask))])
    }

    @inlinable @inline(__always)
    public func hop(_ index: UInt32) -> HopView { HopView(at: hops + Int(index) &* HopView.wordCount) }

    /// The hop of a group that a flow takes; ``BucketView/miss`` when it has no member.
    @inlinable @inline(__always)
    public func hop(ofGroup index: UInt32, hash: UInt32) -> UInt32 {
        let group = pe_load64(groups + Int(index))
        let count = UInt32(truncatingIfNeeded: group &>> 32)
        if count == 0 { return BucketView.miss }
        let slot = UInt32(truncatingIfNeeded: group) &+ (hash & (count &- 1))
        return pe_load32_relaxed(groupSlots + Int(slot))
    }

    /// The route to a host-order IPv4 address in a VRF, given its host key's bucket.
    @inlinable @inline(__always)
    public func route(vrf: UInt16, ipv4 address: UInt32, key: UInt64, in bucket: UnsafeRawPointer) -> RouteValue {
        let host = hosts.value(ipv4: key, in: bucket)
        if host != BucketView.miss { return RouteValue(rawValue: host) }
        return RouteValue(rawValue: prefixes.lookup(vrf: vrf, ipv4: address))
    }
    @inlinable @inline(__always)
    public func route(
        vrf: UInt16, ipv6 high: UInt64, _ low: UInt64, key: UInt64, in bucket: UnsafeRawPointer
    ) -> RouteValue {
        let host = hosts.value(ipv6: key, high, low, in: bucket)
        if host != BucketView.miss { return RouteValue(rawValue: host) }
        return RouteValue(rawValue: prefixes.lookup(vrf: vrf, ipv6: high, low))
    }
    /// The hop of a neighbour in a bridge domain, ``BucketView/miss`` when it is not known.
    @inlinable
    public func neighbor(domain: UInt16, ipv4 address: UInt32) -> UInt32 {
        let key = HostKey.make(domain, ipv4: address)
        return neighbors.value(ipv4: key, in: neighbors.table.bucket(of: key))
    }
    @inlinable
    public func neighbor(domain: UInt16, ipv6 high: UInt64, _ low: UInt64) -> UInt32 {
        let key = HostKey.make(domain, ipv6: high, low)
        return neighbors.value(ipv6: key, high, low, in: neighbors.table.bucket(of: key))
    }
    /// Whether packets from a VTEP are accepted in a VRF.
    @inlinable @inline(__always)
    public func isMember(vrf: UInt16, tunnel: UInt32) -> Bool {
        let word = pe_load64_relaxed(members + ((vrfMemberBase &+ Int(vrf)) &* vtepWords &+ Int(tunnel &>> 6)))
        return word &>> UInt64(tunnel & 63) & 1 != 0
    }

    @inlinable @inline(__always)
    public func isMember(domain: UInt16, tunnel: UInt32) -> Bool {
        let word = pe_load64_relaxed(members + (Int(domain) &* vtepWords &+ Int(tunnel &>> 6)))
        return word &>> UInt64(tunnel & 63) & 1 != 0
    }

    // Swift's `.==` on vectors becomes a loop over lanes; the shims are one comparison.

    /// Whether `raw`, as loaded from a packet, is a local IPv4 tunnel endpoint.
    @inlinable @inline(__always)
    public func isLocal(ipv4 raw: UInt32) -> Bool {
        let words = unsafeBitCast(localIPv4, to: SIMD2<UInt64>.self)
        return pe_any32(words[0], words[1], raw) != 0 && raw != 0
    }

    @inlinable @inline(__always)
    public func isLocal(ipv6 first: UInt64, _ second: UInt64) -> Bool {
        var index = 0
        while index < localIPv6Count {
            if localIPv6[index &* 2] == first && localIPv6[index &* 2 &+ 1] == second { return true }
            index &+= 1
        }
        return false
    }
    @inlinable @inline(__always)
    public func isVXLAN(port raw: UInt16) -> Bool {
        let words = unsafeBitCast(vxlanPorts, to: SIMD2<UInt64>.self)
        return pe_any16(words[0], words[1], raw) != 0 && raw != 0
    }

    /// The tunnel index of an IPv4 VTEP, as loaded from a packet; ``BucketView/miss`` if unknown.
    @inlinable @inline(__always)
    public func vtep(ipv4 raw: UInt32) -> UInt32 {
        let key = VTEPKey.make(ipv4: raw)
        return vteps.value(of: key, in: vteps.bucket(of: key))
    }
    /// The tunnel index of an IPv6 VTEP; two addresses with the same key are told apart.
    @inlinable @inline(__always)
    public func vtep(ipv6 first: UInt64, _ second: UInt64) -> UInt32 {
        let key = VTEPKey.make(ipv6: first, second)
        let found = vteps.value(of: key, in: vteps.bucket(of: key))
        if found == BucketView.miss { return found }
        let address = vtepAddresses + Int(found) &* 2
        return address[0] == first && address[1] == second ? found : BucketView.miss
    }
}

/// Keys of the VTEP index. An IPv6 address is hashed to 62 bits; the writer refuses a second
/// address with the same hash.
public enum VTEPKey {
    @inlinable @inline(__always)
    public static func make(ipv4 raw: UInt32) -> UInt64 { UInt64(raw) | 1 &<< 62 }
    @inlinable @inline(__always)
    public static func make(ipv6 first: UInt64, _ second: UInt64) -> UInt64 {
        let low = UInt64(pe_crc32c(pe_crc32c(1, first), second))
        let high = UInt64(pe_crc32c(pe_crc32c(0x8000_0001, second), first))
        return (high &<< 32 | low) & 0x3FFF_FFFF_FFFF_FFFF | 1
    }
}

/// What a VNI leads to: 0 unknown, else kind in the top bits and an index.
public enum VNITarget {
    @inlinable @inline(__always)
    public static func domain(_ index: UInt16) -> UInt32 { 1 &<< 24 | UInt32(index) }
    /// An L3VNI.
    @inlinable @inline(__always)
    public static func vrf(_ index: UInt16) -> UInt32 { 2 &<< 24 | UInt32(index) }
    /// The VRF of a VNI word; 0 for anything else.
    @inlinable @inline(__always)
    public static func vrf(of word: UInt32) -> UInt16 {
        word &>> 24 == 2 ? UInt16(truncatingIfNeeded: word) : 0
    }
    /// The domain of a VNI word; 0, which is no domain, for anything else.
    @inlinable @inline(__always)
    public static func domain(of word: UInt32) -> UInt16 {
        word &>> 24 == 1 ? UInt16(truncatingIfNeeded: word) : 0
    }
}
