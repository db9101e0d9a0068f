// One next hop of routed packets: what replaces their Ethernet header, and where they go.

public import CLinux
public import Wire

/// A next hop as the writer gives it.
public struct RouteHop: Hashable, Sendable {
    /// Where packets go.
    public enum Way: Hashable, Sendable {
        /// Into the fabric (symmetric IRB, RFC 9135 section 6): encapsulated with an L3VNI.
        case tunnel(UInt32, l3vni: VNI, vxlanPort: UInt16)
        /// To a host in a bridge domain, wherever its MAC is.
        case bridge(domain: UInt16)
        /// To a host behind a routed or an underlay port.
        case port(UInt16)
    }
    /// Whether packets can be sent.
    public enum State: UInt8, Hashable, Sendable, BitwiseCopyable {
        case usable = 0
        /// Being asked for: packets wait.
        case resolving = 1
        /// It did not answer: packets are dropped with ICMP host unreachable.
        case failed = 2
        /// The router MAC of this (L3VNI, VTEP) is not known.
        case noRouterMAC = 3
    }
    public var way: Way
    /// Router MAC or host MAC; of no meaning unless usable.
    public var mac: MACAddress
    /// Own router MAC, or the gateway's; a port's own MAC is taken from the port.
    public var sourceMAC: MACAddress
    public var state: State
    /// A neighbour behind another VTEP: ARP and ND for it are answered here (RFC 9161).
    public var isRemote: Bool
    public init(
        way: Way, mac: MACAddress = .zero, sourceMAC: MACAddress = .zero, state: State = .usable,
        isRemote: Bool = false
    ) {
        self.way = way
        self.mac = mac
        self.sourceMAC = sourceMAC
        self.state = state
        self.isRemote = isRemote
    }
}

/// One hop as workers see it: 32 bytes, two in a cache line.
///
///     word 0  47..0 destination MAC, 51..48 kind (0 none, 1 tunnel, 2 bridge, 3 port),
///             55..52 state, 56 remote
///     word 1  63..32 VNI word (VNI in the upper 24 bits), 31..0 tunnel, domain or port
///     word 2  47..0 source MAC, 63..48 VXLAN port in network order
///     word 3  of a bridge hop: 23..0 circuit on which the FDB has the destination MAC, all ones when
///             that is not on a circuit; 63..24 last five bytes of the MAC that this is about
///
/// Words 0, 2 and 3 change in place; word 1 is written once, before anything refers to the hop.
public struct HopView: BitwiseCopyable, @unchecked Sendable {
    @usableFromInline let words: UnsafePointer<UInt64>
    @inlinable @inline(__always) public init(at words: UnsafePointer<UInt64>) { self.words = words }
    public static let wordCount = 4

    /// MAC, kind and state, read once: they belong together.
    @inlinable @inline(__always) public var head: HopHead {
        HopHead(rawValue: pe_load64_relaxed(words))
    }
    /// Tunnel, bridge domain or port, by ``HopHead/kind``.
    @inlinable @inline(__always) public var target: UInt32 { UInt32(truncatingIfNeeded: words[1]) }
    /// As ``BridgeDomain/vniWord``.
    @inlinable @inline(__always) public var vniWord: UInt32 { UInt32(truncatingIfNeeded: words[1] &>> 32) }
    @inlinable @inline(__always) public var sourceMAC: UInt64 { pe_load64_relaxed(words + 2) & 0xFFFF_FFFF_FFFF }
    @inlinable @inline(__always) public var vxlanPortRaw: UInt16 {
        UInt16(truncatingIfNeeded: pe_load64_relaxed(words + 2) &>> 48)
    }
    /// The circuit of a bridge hop's host, as the FDB has it; ``noCircuit`` when the FDB must be asked: the
    /// host is not on a circuit, or the hop is about to be another host's.
    @inlinable @inline(__always) public func circuit(_ head: HopHead) -> UInt32 {
        let place = pe_load64_relaxed(words + 3)
        if (place ^ head.rawValue &<< 16) &>> 24 != 0 { return HopView.noCircuit }
        return UInt32(truncatingIfNeeded: place) & HopView.noCircuit
    }
    @inlinable public static var noCircuit: UInt32 { 0xFF_FFFF }

    /// Word 3 of a hop to `mac`, of which the FDB says `value`.
    static func place(of mac: MACAddress, _ value: FDBValue?) -> UInt64 {
        let circuit = value.map { $0.isCircuit ? $0.index : noCircuit } ?? noCircuit
        return (mac.rawValue >> 8) << 24 | UInt64(circuit)
    }
}

/// Word 0 of a hop.
public struct HopHead: BitwiseCopyable, Sendable, Hashable {
    public let rawValue: UInt64
    @inlinable @inline(__always) public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable @inline(__always) public var mac: UInt64 { rawValue & 0xFFFF_FFFF_FFFF }
    @inlinable @inline(__always) public var isTunnel: Bool { rawValue &>> 48 & 15 == 1 }
    @inlinable @inline(__always) public var isBridge: Bool { rawValue &>> 48 & 15 == 2 }
    @inlinable @inline(__always) public var isPort: Bool { rawValue &>> 48 & 15 == 3 }
    @inlinable @inline(__always) public var isUsable: Bool { rawValue &>> 52 & 15 == 0 }
    @inlinable @inline(__always) public var isUsableTunnel: Bool { rawValue &>> 48 & 0xFF == 1 }
    @inlinable @inline(__always) public var isUsableBridge: Bool { rawValue &>> 48 & 0xFF == 2 }
    @inlinable @inline(__always) public var isResolving: Bool { rawValue &>> 52 & 15 == 1 }
    @inlinable @inline(__always) public var isFailed: Bool { rawValue &>> 52 & 15 == 2 }
    @inlinable @inline(__always) public var lacksRouterMAC: Bool { rawValue &>> 52 & 15 == 3 }
    @inlinable @inline(__always) public var isRemote: Bool { rawValue &>> 56 & 1 != 0 }

    init(_ hop: RouteHop) {
        let kind: UInt64
        switch hop.way {
        case .tunnel: kind = 1
        case .bridge: kind = 2
        case .port: kind = 3
        }
        rawValue = hop.mac.rawValue | kind << 48 | UInt64(hop.state.rawValue) << 52 | (hop.isRemote ? 1 << 56 : 0)
    }
}

/// The hops of all VRFs and domains, and groups of them. One writer.
final class HopTable {
    let words: UnsafeMutablePointer<UInt64>
    let groups: UnsafeMutablePointer<UInt64>
    let slots: UnsafeMutablePointer<UInt32>
    private let limits: TableLimits
    private let fdb: BucketTable
    private var hosts = HopHosts()
    private var hops: IndexPool
    private var groupIndexes: IndexPool
    private var regions = SlotRegions(limit: TableLimits.groupSlots)
    private var used: Set<UInt32> = []
    private(set) var usedGroups: [UInt32: (first: Int, count: Int)] = [:]
    private(set) var slotsInUse = 0

    var count: Int { used.count }

    /// - Parameter fdb: which says on which circuits hosts are; see ``moved(_:_:)``.
    init(limits: TableLimits, fdb: BucketTable) throws(TableError) {
        self.limits = limits
        self.fdb = fdb
        hops = IndexPool(name: "next hops (limits.neighbors)", first: 0, limit: limits.hops)
        groupIndexes = IndexPool(name: "next-hop groups", first: 0, limit: TableLimits.groups)
        func pages(_ name: String, _ bytes: Int) throws(TableError) -> UnsafeMutableRawPointer {
            guard let memory = pe_pages(bytes) else { throw .outOfMemory(table: name, byteCount: bytes) }
            return memory
        }
        words = try pages("next hops", limits.hops * 32).assumingMemoryBound(to: UInt64.self)
        groups = try pages("next-hop groups", TableLimits.groups * 8).assumingMemoryBound(to: UInt64.self)
        slots = try pages("next-hop group slots", TableLimits.groupSlots * 4)
            .assumingMemoryBound(to: UInt32.self)
    }
    deinit {
        pe_pages_free(words, limits.hops * 32)
        pe_pages_free(groups, TableLimits.groups * 8)
        pe_pages_free(slots, TableLimits.groupSlots * 4)
    }

    func add(_ hop: RouteHop) throws(TableError) -> UInt32 {
        let index = try hops.take()
        let at = words + index * HopView.wordCount
        switch hop.way {
        case .tunnel(let tunnel, let vni, let port):
            at[1] = UInt64(tunnel) | UInt64(vni.rawValue) << 40
            at[2] = hop.sourceMAC.rawValue | UInt64(port.bigEndian) << 48
        case .bridge(let domain):
            at[1] = UInt64(domain)
            at[2] = hop.sourceMAC.rawValue
            settle(UInt32(index), hop.mac)
        case .port(let port):
            at[1] = UInt64(port)
            at[2] = hop.sourceMAC.rawValue
        }
        pe_store64(at, HopHead(hop).rawValue)
        used.insert(UInt32(index))
        return UInt32(index)
    }
    /// Changes MAC, state and remoteness, in one word.
    func update(_ index: UInt32, mac: MACAddress, state: RouteHop.State, isRemote: Bool) {
        guard used.contains(index) else { return }
        let at = words + Int(index) * HopView.wordCount
        let kind = at[0] & 15 << 48
        let isOtherHost = kind == 2 << 48 && MACAddress(rawValue: at[0]) != mac
        if isOtherHost { hosts.remove(index, from: host(index)) }
        pe_store64(
            at, mac.rawValue | kind | UInt64(state.rawValue) << 52 | (isRemote ? 1 << 56 : 0))
        if isOtherHost { settle(index, mac) }
    }
    /// The FDB key of a bridge hop's host.
    private func host(_ index: UInt32) -> UInt64 {
        let view = HopView(at: words + Int(index) * HopView.wordCount)
        return FDBKey.make(domain: UInt16(truncatingIfNeeded: view.target), mac: view.head.mac)
    }
    /// From now on a bridge hop follows the host `mac` of its domain.
    private func settle(_ index: UInt32, _ mac: MACAddress) {
        let at = words + Int(index) * HopView.wordCount
        let key = FDBKey.make(domain: UInt16(truncatingIfNeeded: at[1]), mac: mac.rawValue)
        pe_store64(at + 3, HopView.place(of: mac, fdb.value(of: key).map(FDBValue.init(rawValue:))))
        hosts.add(index, to: key)
    }
    /// The FDB says something else of a MAC; nil when it was removed.
    func moved(_ key: UInt64, _ value: FDBValue?) {
        let place = HopView.place(of: FDBKey.mac(key), value)
        hosts.forEach(of: key) { pe_store64(words + Int($0) * HopView.wordCount + 3, place) }
    }
    /// Changes the source MAC, in one word.
    func update(_ index: UInt32, sourceMAC: MACAddress) {
        guard used.contains(index) else { return }
        let at = words + Int(index) * HopView.wordCount + 2
        pe_store64(at, at.pointee & 0xFFFF << 48 | sourceMAC.rawValue)
    }
    func remove(_ index: UInt32, epoch: UInt64) {
        guard used.remove(index) != nil else { return }
        if (words + Int(index) * HopView.wordCount)[0] >> 48 & 15 == 2 { hosts.remove(index, from: host(index)) }
        hops.release(Int(index), epoch: epoch)
    }
    func hop(_ index: UInt32) -> RouteHop? {
        guard used.contains(index) else { return nil }
        let view = HopView(at: words + Int(index) * HopView.wordCount)
        let head = view.head
        let way: RouteHop.Way
        if head.isTunnel {
            way = .tunnel(view.target, l3vni: VNI(word: view.vniWord), vxlanPort: UInt16(bigEndian: view.vxlanPortRaw))
        } else if head.isBridge {
            way = .bridge(domain: UInt16(truncatingIfNeeded: view.target))
        } else {
            way = .port(UInt16(truncatingIfNeeded: view.target))
        }
        return RouteHop(
            way: way, mac: MACAddress(rawValue: head.mac), sourceMAC: MACAddress(rawValue: view.sourceMAC),
            state: RouteHop.State(rawValue: UInt8(truncatingIfNeeded: head.rawValue >> 52 & 15)) ?? .failed,
            isRemote: head.isRemote)
    }

    // MARK: Groups

    /// A group without members: packets are dropped (`noNextHop`) until it has slots.
    func addGroup() throws(TableError) -> UInt32 {
        let index = try groupIndexes.take()
        pe_store64(groups + index, 0)
        usedGroups[UInt32(index)] = (0, 0)
        return UInt32(index)
    }
    /// Replaces a group's slots at once: hop indexes, a power of two of them, or none.
    func setGroup(_ index: UInt32, slots wanted: [UInt32], epoch: UInt64) throws(TableError) {
        guard let old = usedGroups[index] else { return }
        precondition(wanted.count & (wanted.count - 1) == 0, "the slots of a group are a power of two")
        let first = try regions.take(wanted.count)
        for (offset, hop) in wanted.enumerated() { pe_store32(slots + first + offset, hop) }
        // Count in the upper half: 0 has no member.
        pe_store64(groups + Int(index), UInt64(wanted.count) << 32 | UInt64(first))
        usedGroups[index] = (first, wanted.count)
        slotsInUse += wanted.count - old.count
        regions.release(old.first, old.count, epoch: epoch)
    }
    func removeGroup(_ index: UInt32, epoch: UInt64) {
        guard let old = usedGroups.removeValue(forKey: index) else { return }
        slotsInUse -= old.count
        regions.release(old.first, old.count, epoch: epoch)
        groupIndexes.release(Int(index), epoch: epoch)
    }
    func slots(ofGroup index: UInt32) -> [UInt32] {
        guard let group = usedGroups[index] else { return [] }
        return (0..<group.count).map { slots[group.first + $0] }
    }

    func reclaim(through epoch: UInt64) {
        hops.reclaim(through: epoch)
        groupIndexes.reclaim(through: epoch)
        regions.reclaim(through: epoch)
    }
}

/// Runs of slots, each a power of two long, handed out again when no worker reads them any more.
struct SlotRegions {
    let limit: Int
    private var next = 0
    private var free: [Int: [Int]] = [:]
    private var resting: [(first: Int, count: Int, epoch: UInt64)] = []
    init(limit: Int) { self.limit = limit }

    mutating func take(_ count: Int) throws(TableError) -> Int {
        if count == 0 { return 0 }
        if let first = free[count]?.popLast() { return first }
        // A larger run is split before new slots are used up.
        var size = count * 2
        while size <= limit, next + count > limit {
            if let first = free[size]?.popLast() {
                free[count, default: []] += stride(from: first + count, to: first + size, by: count)
                return first
            }
            size *= 2
        }
        guard next + count <= limit else { throw .full(table: "next-hop group slots", limit: limit) }
        next += count
        return next - count
    }
    mutating func release(_ first: Int, _ count: Int, epoch: UInt64) {
        if count > 0 { resting.append((first, count, epoch)) }
    }
    mutating func reclaim(through epoch: UInt64) {
        guard let oldest = resting.first, oldest.epoch <= epoch else { return }
        for run in resting where run.epoch <= epoch { free[run.count, default: []].append(run.first) }
        resting.removeAll { $0.epoch <= epoch }
    }
}
