// The writer's side of all tables: what the control plane changes, and how workers get to see it.

import CLinux
public import Wire

/// Owns every table. All calls come from the control thread.
///
/// The FDB, the VNI map and the VTEP membership change in place, one word at a time. Everything
/// else is edited in a private copy; ``publish()`` makes new blocks of what changed and swaps the
/// root, and the old blocks are freed when every worker has been quiescent.
public final class ForwardingTables {
    public let limits: TableLimits
    public let counters: Counters
    public let learning: LearnRings
    public let publication: Publication

    let fdb: BucketTable
    let vteps: BucketTable
    let hosts: HostTable
    let hostBlocks: HostBlocks
    let neighborTable: HostTable
    let prefixes: PrefixTrie
    let hops: HopTable
    public let neighborRings: NeighborRings
    let vnis: UnsafeMutablePointer<UInt32>
    let members: UnsafeMutablePointer<UInt64>
    let vtepAddresses: UnsafeMutablePointer<UInt64>
    let vtepWords: Int

    var domains: [BridgeDomain]
    var circuits: [Circuit]
    var ports: [PortEntry]
    var tunnels: [TunnelRecord]
    var vrfs: [VRFEntry]
    var freeVRFs: IndexPool
    var freeDomains: IndexPool
    var freeCircuits: IndexPool
    var freeTunnels: IndexPool
    var localEndpoints: [IPAddress] = []
    var vxlanPorts: [UInt16] = []
    public var outerHeader = OuterHeaderOptions() { didSet { dirty.formUnion([.tunnels]) } }

    var dirty: Dirty = [.all]
    var hasDeletions = false
    /// What was removed at or before this epoch is free again; see ``deletionEpoch``.
    public internal(set) var passedEpoch: UInt64 = 0
    var root: UnsafeMutablePointer<ForwardingState>

    /// What ``publish()`` has to make anew.
    struct Dirty: OptionSet {
        let rawValue: Int
        static let domains = Dirty(rawValue: 1), circuits = Dirty(rawValue: 2), ports = Dirty(rawValue: 4)
        static let tunnels = Dirty(rawValue: 8), endpoints = Dirty(rawValue: 16), vrfs = Dirty(rawValue: 32)
        static let all = Dirty(rawValue: 63)
    }

    /// A tunnel as the writer keeps it.
    struct TunnelRecord {
        var remote: IPAddress?
        var paths: [TunnelPath] = []
        var unusable: DropReason? = .noUnderlayRoute
        /// The path of each slot, so that the next change moves as few flows as it can.
        var slots: [TunnelPath.Identity] = []
    }

    public init(limits: TableLimits) throws(TableError) {
        self.limits = limits
        fdb = try BucketTable(name: "fdb (limits.macs)", capacity: limits.macs)
        vteps = try BucketTable(name: "vteps (limits.vteps)", capacity: limits.vteps)
        hosts = try HostTable(name: "host routes (limits.routes)", capacity: limits.routes)
        hostBlocks = try HostBlocks(vrfs: limits.vrfs)
        neighborTable = try HostTable(name: "neighbors (limits.neighbors)", capacity: limits.neighbors)
        prefixes = try PrefixTrie(vrfs: limits.vrfs, capacity: limits.routes)
        hops = try HopTable(limits: limits, fdb: fdb)
        neighborRings = try NeighborRings(workers: limits.workers)
        counters = try Counters(limits: limits)
        learning = try LearnRings(limits: limits, slotCount: fdb.slotCount)
        vtepWords = limits.vteps / 64
        func pages(_ name: String, _ bytes: Int) throws(TableError) -> UnsafeMutableRawPointer {
            guard let memory = pe_pages(bytes) else { throw .outOfMemory(table: name, byteCount: bytes) }
            return memory
        }
        vnis = try pages("VNI map", 4 << 24).assumingMemoryBound(to: UInt32.self)
        members = try pages("VTEP membership", (limits.domains + limits.vrfs) * vtepWords * 8)
            .assumingMemoryBound(to: UInt64.self)
        vtepAddresses = try pages("VTEP addresses", limits.vteps * 16).assumingMemoryBound(to: UInt64.self)
        // Blocks have their full capacity from the start: an index that a worker reads from a table
        // that changes in place is inside every block, also one published before the index was used.
        domains = [BridgeDomain](repeating: BridgeDomain(), count: limits.domains)
        circuits = [Circuit](repeating: Circuit(), count: limits.circuits)
        ports = []
        tunnels = [TunnelRecord](repeating: TunnelRecord(), count: limits.vteps)
        vrfs = [VRFEntry](repeating: VRFEntry(), count: limits.vrfs)
        freeVRFs = IndexPool(name: "IP-VRFs (limits.vrfs)", first: 1, limit: limits.vrfs)
        freeDomains = IndexPool(name: "bridge domains (limits.l2vnis)", first: 1, limit: limits.domains)
        freeCircuits = IndexPool(name: "circuits (limits.circuits)", first: 0, limit: limits.circuits)
        freeTunnels = IndexPool(name: "vteps (limits.vteps)", first: 0, limit: limits.vteps)
        root = .allocate(capacity: 1)
        root.initialize(to: ForwardingState(
            fdb: fdb.view, vnis: UnsafePointer(vnis), domains: UnsafePointer(Self.block(domains)),
            circuits: UnsafePointer(Self.block(circuits)), ports: UnsafePointer(Self.block([PortEntry()])),
            portCount: 0, tunnels: UnsafePointer(Self.block([Tunnel](repeating: Tunnel(), count: limits.vteps))),
            slots: UnsafePointer(Self.block([UInt32(0)])), adjacencies: Self.rawBlock(128), vteps: vteps.view,
            vtepAddresses: UnsafePointer(vtepAddresses), members: UnsafePointer(members), vtepWords: vtepWords,
            localIPv4: SIMD4(repeating: 0), localIPv6: UnsafePointer(Self.block([UInt64(0)])), localIPv6Count: 0,
            vxlanPorts: SIMD8(repeating: 0), vrfs: UnsafePointer(Self.block(vrfs)), hosts: hosts.view,
            hostBlocks: hostBlocks.view, prefixes: prefixes.view, neighbors: neighborTable.view,
            hops: UnsafePointer(hops.words), groups: UnsafePointer(hops.groups),
            groupSlots: UnsafePointer(hops.slots), vrfMemberBase: limits.domains,
            plainOuters: UnsafePointer(Self.block([PlainOuter(), PlainOuter()]))))
        publication = Publication(UnsafeRawPointer(root), readerCount: limits.workers)
    }

    deinit {
        // Workers have ended; nobody reads any more.
        var blocks = retiredFloods
        blocks += domains.compactMap { $0.flood.map { UnsafeRawPointer($0.words) } }
        blocks += domains.compactMap { $0.gateways.map { UnsafeRawPointer($0.words) } }
        for port in 0..<Int(root.pointee.portCount) {
            if let table = root.pointee.ports[port].vlanCircuits { blocks.append(UnsafeRawPointer(table)) }
        }
        blocks += [
            UnsafeRawPointer(root.pointee.domains), UnsafeRawPointer(root.pointee.circuits),
            UnsafeRawPointer(root.pointee.ports), UnsafeRawPointer(root.pointee.tunnels),
            UnsafeRawPointer(root.pointee.slots), UnsafeRawPointer(root.pointee.localIPv6),
            UnsafeRawPointer(root.pointee.adjacencies), UnsafeRawPointer(root.pointee.vrfs),
            UnsafeRawPointer(root.pointee.plainOuters), UnsafeRawPointer(root),
        ]
        for block in blocks { UnsafeMutableRawPointer(mutating: block).deallocate() }
        pe_pages_free(vnis, 4 << 24)
        pe_pages_free(members, (limits.domains + limits.vrfs) * vtepWords * 8)
        pe_pages_free(vtepAddresses, limits.vteps * 16)
    }

    /// A block that readers get: the elements' bytes on a cache line of their own.
    static func block<Element: BitwiseCopyable>(_ elements: [Element]) -> UnsafeMutablePointer<Element> {
        let raw = UnsafeMutableRawPointer.allocate(
            byteCount: max(1, elements.count) * MemoryLayout<Element>.stride, alignment: 64)
        let typed = raw.bindMemory(to: Element.self, capacity: max(1, elements.count))
        elements.withUnsafeBufferPointer { source in
            if let start = source.baseAddress { typed.initialize(from: start, count: source.count) }
        }
        return typed
    }
    static func rawBlock(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let raw = UnsafeMutableRawPointer.allocate(byteCount: max(64, byteCount), alignment: 64)
        raw.initializeMemory(as: UInt8.self, repeating: 0, count: max(64, byteCount))
        return raw
    }

    // MARK: Ports and circuits

    /// Sets a port's record; its circuits stay.
    public func setPort(_ index: UInt16, _ entry: PortEntry) throws(TableError) {
        if entry.partner != PortEntry.none { try makeRoom(port: entry.partner) }
        try makeRoom(port: index)
        ports[Int(index)] = entry
        dirty.formUnion([.ports])
    }
    /// Workers index ports by what circuits, paths and partners say, without a check of their own.
    private func makeRoom(port index: UInt16) throws(TableError) {
        guard Int(index) < limits.ports else { throw .full(table: "ports (limits.ports)", limit: limits.ports) }
        while ports.count <= Int(index) {
            ports.append(PortEntry())
            dirty.formUnion([.ports])
        }
    }
    public func port(_ index: UInt16) -> PortEntry? { Int(index) < ports.count ? ports[Int(index)] : nil }
    public var portCount: Int { ports.count }

    /// Adds an attachment circuit; `vlan` 0 is untagged. Returns its index.
    public func addCircuit(port: UInt16, vlan: UInt16, domain: UInt16) throws(TableError) -> UInt32 {
        try makeRoom(port: port)
        let index = try freeCircuits.take()
        circuits[index] = Circuit(port: port, vlan: vlan, domain: domain)
        dirty.formUnion([.circuits, .ports])
        return UInt32(index)
    }
    public func removeCircuit(_ index: UInt32) {
        guard Int(index) < circuits.count, circuits[Int(index)].isUsed else { return }
        circuits[Int(index)] = Circuit()
        freeCircuits.release(Int(index), epoch: publication.epoch)
        hasDeletions = true
        dirty.formUnion([.circuits, .ports])
    }
    public func circuit(_ index: UInt32) -> Circuit? {
        Int(index) < circuits.count && circuits[Int(index)].isUsed ? circuits[Int(index)] : nil
    }

    // MARK: Bridge domains

    /// Adds a domain and makes its VNI lead to it. Returns its index.
    public func addDomain(_ domain: BridgeDomain) throws(TableError) -> UInt16 {
        let index = try freeDomains.take()
        domains[index] = domain
        domains[index].flood = nil
        domains[index].gateways = nil
        counters.clear(domain: UInt16(index))
        dirty.formUnion([.domains])
        pendingVNIs.append((domain.vni, VNITarget.domain(UInt16(index))))
        return UInt16(index)
    }
    /// VNIs that start to lead somewhere when the records they lead to are published.
    var pendingVNIs: [(VNI, UInt32)] = []

    /// Changes a domain's record, not its VNI and not its flood list.
    public func updateDomain(_ index: UInt16, _ body: (inout BridgeDomain) -> Void) {
        guard Int(index) < domains.count, domains[Int(index)].isUsed else { return }
        var changed = domains[Int(index)]
        body(&changed)
        changed.flood = domains[Int(index)].flood
        changed.gateways = domains[Int(index)].gateways
        changed.vniWord = domains[Int(index)].vniWord
        changed.isUsed = true
        domains[Int(index)] = changed
        dirty.formUnion([.domains])
    }
    /// Removes a domain. Its MACs, circuits and members are removed by the caller first.
    public func removeDomain(_ index: UInt16) {
        guard Int(index) < domains.count, domains[Int(index)].isUsed else { return }
        // The VNI may lead to the domain that replaces this one already.
        let target = vnis + Int(domains[Int(index)].vni.rawValue)
        if target.pointee == VNITarget.domain(index) { pe_store32(target, 0) }
        pendingVNIs.removeAll { $0.1 == VNITarget.domain(index) }
        retireFlood(domains[Int(index)].flood)
        retireGateways(domains[Int(index)].gateways)
        domains[Int(index)] = BridgeDomain()
        for word in 0..<vtepWords { pe_store64(members + (Int(index) * vtepWords + word), 0) }
        freeDomains.release(Int(index), epoch: publication.epoch)
        hasDeletions = true
        dirty.formUnion([.domains])
    }
    public func domain(_ index: UInt16) -> BridgeDomain? {
        Int(index) < domains.count && domains[Int(index)].isUsed ? domains[Int(index)] : nil
    }

    /// Sets where a domain's BUM goes; replaces the list as a whole.
    public func setFlood(domain index: UInt16, circuits: [UInt32], tunnels: [UInt32]) throws(TableError) {
        guard Int(index) < domains.count, domains[Int(index)].isUsed else { return }
        guard circuits.count + tunnels.count <= limits.floodTargets else {
            throw .full(table: "flood list (limits.floodTargets)", limit: limits.floodTargets)
        }
        retireFlood(domains[Int(index)].flood)
        floodGeneration &+= 1
        // By index: tunnels and paths are then read in the order of memory, and a packet whose copies
        // are made in several turns goes on behind its last target when the list has changed.
        let counts = [UInt32(circuits.count), UInt32(tunnels.count), floodGeneration]
        let words = counts + circuits.sorted() + tunnels.sorted()
        domains[Int(index)].flood = circuits.isEmpty && tunnels.isEmpty
            ? nil : FloodList(words: UnsafePointer(Self.block(words)))
        dirty.formUnion([.domains])
    }
    private var floodGeneration: UInt32 = 0
    var retiredFloods: [UnsafeRawPointer] = []
    private func retireFlood(_ flood: FloodList?) {
        if let flood { retiredFloods.append(UnsafeRawPointer(flood.words)) }
    }

    /// Sets the addresses of a domain's gateway; replaces the list as a whole.
    public func setGateways(domain index: UInt16, _ addresses: [IPPrefix]) {
        guard Int(index) < domains.count, domains[Int(index)].isUsed else { return }
        retireGateways(domains[Int(index)].gateways)
        domains[Int(index)].gateways = addresses.isEmpty
            ? nil : GatewayList(words: UnsafePointer(Self.block(GatewayList.words(addresses))))
        dirty.formUnion([.domains])
    }
    private func retireGateways(_ list: GatewayList?) {
        if let list { retiredFloods.append(UnsafeRawPointer(list.words)) }
    }

    // MARK: Tunnels

    /// The tunnel to `remote`, made when it is new. It is unusable until ``setPaths(tunnel:_:unusable:)``.
    public func tunnel(to remote: IPAddress) throws(TableError) -> UInt32 {
        let key: UInt64
        var words: (UInt64, UInt64) = (0, 0)
        switch remote {
        case .v4(let address): key = VTEPKey.make(ipv4: address.networkOrder)
        case .v6(let address):
            words = (address.high.bigEndian, address.low.bigEndian)
            key = VTEPKey.make(ipv6: words.0, words.1)
        }
        if let known = vteps.value(of: key) {
            guard tunnels[Int(known)].remote == remote else {
                throw .full(table: "vteps: \(remote) has the same hash as another VTEP", limit: limits.vteps)
            }
            return known
        }
        let index = try freeTunnels.take()
        tunnels[index] = TunnelRecord(remote: remote)
        vtepAddresses[index * 2] = words.0
        vtepAddresses[index * 2 + 1] = words.1
        dirty.formUnion([.tunnels])
        do { try vteps.set(key, UInt32(index)) } catch {
            tunnels[index] = TunnelRecord()
            hasDeletions = true
            freeTunnels.release(index, epoch: publication.epoch)
            throw error
        }
        return UInt32(index)
    }

    /// The paths to a tunnel's VTEP, the first `limits.paths` of them, or why there are none.
    public func setPaths(tunnel index: UInt32, _ paths: [TunnelPath], unusable: DropReason?) {
        guard Int(index) < tunnels.count, tunnels[Int(index)].remote != nil else { return }
        let known = paths.filter { (try? makeRoom(port: $0.port)) != nil }
        let kept = Array(known.prefix(limits.paths))
        let reason = kept.isEmpty ? unusable ?? .noUnderlayRoute : nil
        if tunnels[Int(index)].paths == kept && tunnels[Int(index)].unusable == reason { return }
        tunnels[Int(index)].paths = kept
        tunnels[Int(index)].unusable = reason
        dirty.formUnion([.tunnels])
    }
    /// Removes a tunnel to which no MAC, flood list or domain refers any more.
    public func removeTunnel(_ index: UInt32) {
        guard Int(index) < tunnels.count, let remote = tunnels[Int(index)].remote else { return }
        switch remote {
        case .v4(let address): vteps.remove(VTEPKey.make(ipv4: address.networkOrder), epoch: publication.epoch)
        case .v6(let address):
            vteps.remove(
                VTEPKey.make(ipv6: address.high.bigEndian, address.low.bigEndian), epoch: publication.epoch)
        }
        tunnels[Int(index)] = TunnelRecord()
        freeTunnels.release(Int(index), epoch: publication.epoch)
        hasDeletions = true
        dirty.formUnion([.tunnels])
    }
    public func remote(of tunnel: UInt32) -> IPAddress? {
        Int(tunnel) < tunnels.count ? tunnels[Int(tunnel)].remote : nil
    }
    public func paths(of tunnel: UInt32) -> (paths: [TunnelPath], unusable: DropReason?) {
        guard Int(tunnel) < tunnels.count else { return ([], .noUnderlayRoute) }
        return (tunnels[Int(tunnel)].paths, tunnels[Int(tunnel)].unusable)
    }

    /// Whether packets from a VTEP are accepted in a domain.
    public func setMember(domain: UInt16, tunnel: UInt32, _ isMember: Bool) {
        guard Int(domain) < limits.domains, Int(tunnel) < limits.vteps else { return }
        setMember(row: Int(domain), tunnel: tunnel, isMember)
    }
    func setMember(row: Int, tunnel: UInt32, _ isMember: Bool) {
        let word = members + (row * vtepWords + Int(tunnel >> 6))
        let bit = UInt64(1) << UInt64(tunnel & 63)
        pe_store64(word, isMember ? word.pointee | bit : word.pointee & ~bit)
    }

    /// Fetches what a look-up or change of a FDB key will need.
    public func prefetchMAC(_ key: UInt64) { pe_prefetch(fdb.view.bucket(of: key)) }
    /// The addresses that VXLAN packets come to and from, and the UDP ports they come to.
    public func setEndpoints(_ addresses: [IPAddress], vxlanPorts ports: [UInt16]) throws(TableError) {
        guard addresses.filter(\.isV4).count <= TableLimits.localVTEPs,
            addresses.filter({ !$0.isV4 }).count <= TableLimits.localVTEPs
        else { throw .full(table: "local tunnel endpoints of a family", limit: TableLimits.localVTEPs) }
        guard ports.count <= TableLimits.vxlanPorts else {
            throw .full(table: "VXLAN UDP ports", limit: TableLimits.vxlanPorts)
        }
        localEndpoints = addresses
        vxlanPorts = ports
        dirty.formUnion([.endpoints, .tunnels])
    }

    // MARK: FDB

    public var macCount: Int { fdb.count }
    public var tunnelCount: Int { tunnels.count { $0.remote != nil } }

    public func setMAC(domain: UInt16, _ mac: MACAddress, _ value: FDBValue) throws(TableError) {
        // Domain 0 does not exist; with the check no key is 0 or a tombstone.
        guard domain != 0, Int(domain) < limits.domains else { return }
        let key = FDBKey.make(domain: domain, mac: mac.rawValue)
        let isNew = fdb.value(of: key) == nil
        // A slot that another MAC had keeps no mark of it.
        try fdb.set(key, value.rawValue)
        if isNew, let slot = fdb.slot(of: key) { learning.clearMarks(slot: slot) }
        hops.moved(key, value)
    }
    public func removeMAC(domain: UInt16, _ mac: MACAddress) {
        guard domain != 0, Int(domain) < limits.domains else { return }
        let key = FDBKey.make(domain: domain, mac: mac.rawValue)
        if fdb.remove(key, epoch: publication.epoch) {
            hasDeletions = true
            hops.moved(key, nil)
        }
    }
    public func mac(domain: UInt16, _ mac: MACAddress) -> FDBValue? {
        fdb.value(of: FDBKey.make(domain: domain, mac: mac.rawValue)).map(FDBValue.init(rawValue:))
    }
    /// The FDB key (``FDBKey``) in a slot; nil when there is none.
    public func key(ofSlot slot: UInt32) -> UInt64? { fdb.entry(at: slot)?.key }
    /// The FDB slot of a MAC: what ``LearnRings`` marks.
    public func slot(domain: UInt16, _ mac: MACAddress) -> UInt32? {
        fdb.slot(of: FDBKey.make(domain: domain, mac: mac.rawValue))
    }
}
