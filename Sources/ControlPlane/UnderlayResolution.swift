// The way to a VTEP: longest prefix, next hops, their MACs, the ports they are behind.

import Tables
import Wire

struct NeighborKey: Hashable {
    var interface: UInt32
    var address: IPAddress
}
/// An ARP or ND entry of the kernel.
struct NeighborEntry: Hashable {
    var mac: MACAddress?
    var state: NeighborMessage.State
    var flags: NeighborMessage.Flags
    var neighborProtocol: UInt8
    var dump: UInt32
    /// The kernel would send to it (NUD_VALID).
    var isUsable: Bool { mac != nil && !state.isDisjoint(with: .valid) && !state.contains(.failed) }
}
/// A neighbour that some VTEP's way needs, and when the kernel was last asked for it.
struct Need: Hashable {
    var lastAsked: Instant?
}

/// A pe-dp port as the control plane knows it.
struct PortState: Hashable {
    var isUp = true
    var mac: MACAddress
    var mtu: UInt16
    /// MAC of the exception TAP, when the daemon or the kernel told it.
    var exceptionMAC: MACAddress?
    init(_ port: Configuration.Port) {
        mac = port.mac ?? port.exception?.mac ?? .zero
        mtu = UInt16(clamping: port.mtu)
        exceptionMAC = port.exception?.mac
    }
    /// What the fabric knows the port by: the kernel answers ARP and ND with its TAP's MAC.
    var sourceMAC: MACAddress { exceptionMAC ?? mac }
}

/// The ways to one VTEP.
public struct UnderlayResolution: Hashable, Sendable {
    /// One next hop, resolved or not.
    public struct Hop: Hashable, Sendable {
        public var port: UInt16
        public var mac: MACAddress?
        public var address: IPAddress?
    }
    public var hops: [Hop] = []
    public var paths: [TunnelPath] = []
    /// Why there is no path.
    public var unusable: DropReason?
    /// The prefix that matched.
    public var prefix: IPPrefix?
}

extension ControlState {
    /// Depth to which next hops without an interface are looked up again.
    static var maximumRecursion: Int { 4 }
    /// Stands for the exception TAP of a port whose interface is not known yet.
    static func configured(_ port: UInt16) -> UInt32 { 0xFFFF_0000 | UInt32(port) }

    // MARK: Resolution

    /// The paths to `vtep`, and the neighbours that they need.
    mutating func resolve(_ vtep: IPAddress) -> UnderlayResolution {
        var found = UnderlayResolution()
        var hasHop = false
        var visited: Set<IPAddress> = []
        walk(vtep, weight: 1, depth: 0, visited: &visited, into: &found, hasHop: &hasHop)
        if found.paths.isEmpty { found.unusable = hasHop ? .unresolvedNextHop : .noUnderlayRoute }
        return found
    }

    private mutating func walk(
        _ address: IPAddress,
        weight: UInt32,
        depth: Int,
        visited: inout Set<IPAddress>,
        into found: inout UnderlayResolution,
        hasHop: inout Bool
    ) {
        guard depth <= Self.maximumRecursion, visited.insert(address).inserted else { return }
        defer { visited.remove(address) }
        if depth > 0 { recursiveGateways.insert(address) }
        let route = bestRoute(address)
        if depth == 0 { found.prefix = route?.prefix }
        switch route?.way {
        case nil: return
        case .fixed(let hops):
            for hop in hops {
                guard let port = numbering.port(named: hop.port) else { continue }
                hasHop = true
                if let mac = hop.mac {
                    found.hops.append(.init(port: port, mac: mac, address: hop.address))
                    add(port, mac, weight, to: &found)
                } else if let interface = interfaceOfPort[port] {
                    addNeighbor(
                        NeighborKey(interface: interface, address: hop.address ?? address),
                        port,
                        weight,
                        to: &found
                    )
                } else {
                    found.hops.append(.init(port: port, mac: nil, address: hop.address ?? address))
                }
            }
        case .hops(let hops):
            for hop in hops {
                let product = UInt32(clamping: UInt64(weight) * UInt64(max(1, hop.weight)))
                if hop.interface == 0, let gateway = hop.gateway {
                    walk(
                        gateway,
                        weight: product,
                        depth: depth + 1,
                        visited: &visited,
                        into: &found,
                        hasHop: &hasHop
                    )
                } else if let port = portOfInterface[hop.interface], isOfUnderlay(port) {
                    hasHop = true
                    addNeighbor(
                        NeighborKey(interface: hop.interface, address: hop.gateway ?? address),
                        port,
                        product,
                        to: &found
                    )
                }
            }
        case .connected(let interfaces):
            for interface in interfaces.sorted() {
                guard let port = portOfInterface[interface], isOfUnderlay(port) else { continue }
                hasHop = true
                addNeighbor(
                    NeighborKey(interface: interface, address: address),
                    port,
                    weight,
                    to: &found
                )
            }
        }
    }

    private enum Way {
        case fixed([Configuration.Static.UnderlayNextHop])
        case hops([NextHopTable.Hop])
        case connected(Set<UInt32>)
    }
    /// The longest of all matches; of equal ones the configured, then the routed, then the connected.
    private func bestRoute(_ address: IPAddress) -> (prefix: IPPrefix, way: Way)? {
        var best: (prefix: IPPrefix, way: Way)?
        if let match = fixedUnderlay.longestMatch(address, where: { _ in true }) {
            best = (match.prefix, .fixed(match.value))
        }
        let table = routes.table(RouteIntent.mainTable)
        if let match = table?.longestMatch(address, where: { !isOverlay(hops(of: $0)) }),
            match.prefix.length > best?.prefix.length ?? -1
        {
            best = (match.prefix, .hops(match.row.kind == .unicast ? hops(of: match.row) : []))
        }
        if let match = connected.longestMatch(
            address,
            where: { $0.contains { portOfInterface[$0].map { isOfUnderlay($0) } ?? false } }
        ),
            match.prefix.length > best?.prefix.length ?? -1
        {
            best = (match.prefix, .connected(match.value))
        }
        return best
    }

    /// Whether VTEPs may be behind a port: an underlay port, or a routed port of the default VRF.
    private func isOfUnderlay(_ port: UInt16) -> Bool {
        let vrf = numbering.vrf(ofPort: port)
        return vrf == 0 || vrf == numbering.vrf(named: Configuration.defaultVRF)
    }
    private mutating func addNeighbor(
        _ key: NeighborKey,
        _ port: UInt16,
        _ weight: UInt32,
        to found: inout UnderlayResolution
    ) {
        if needed[key] == nil { needed[key] = Need() }
        freshNeeds.insert(key)
        guard let row = neighbors[key], row.isUsable, let mac = row.mac else {
            found.hops.append(.init(port: port, mac: nil, address: key.address))
            return
        }
        found.hops.append(.init(port: port, mac: mac, address: key.address))
        add(port, mac, weight, to: &found)
    }
    private func add(
        _ port: UInt16,
        _ mac: MACAddress,
        _ weight: UInt32,
        to found: inout UnderlayResolution
    ) {
        guard Int(port) < ports.count, ports[Int(port)].isUp else { return }
        if let known = found.paths.firstIndex(where: { $0.port == port && $0.nextHopMAC == mac }) {
            found.paths[known].weight += Int(weight)
        } else {
            found.paths.append(
                TunnelPath(
                    port: port,
                    sourceMAC: ports[Int(port)].sourceMAC,
                    nextHopMAC: mac,
                    mtu: ports[Int(port)].mtu,
                    weight: Int(weight)
                )
            )
        }
    }

    /// Begins and ends a pass over all VTEPs: what none of them needs is asked for no more.
    mutating func beginResolution() {
        freshNeeds.removeAll(keepingCapacity: true)
        recursiveGateways.removeAll(keepingCapacity: true)
    }
    mutating func endResolution() {
        if needed.count != freshNeeds.count {
            needed = needed.filter { freshNeeds.contains($0.key) }
        }
    }

    // MARK: Neighbours

    mutating func kernelNeighbor(
        _ message: NeighborMessage, isDumped: Bool, _ now: Instant, _ effects: inout [ControlEffect]
    ) {
        guard let address = message.destination, !address.isMulticast else { return }
        let key = NeighborKey(interface: message.interface, address: address)
        guard admits(.neighbor(key), isDumped: isDumped) else { return }
        let before = neighbors[key]
        if message.isDelete {
            neighbors[key] = nil
        } else {
            neighbors[key] = NeighborEntry(
                mac: message.mac,
                state: message.state,
                flags: message.flags,
                neighborProtocol: message.neighborProtocol ?? 0,
                dump: dump.number
            )
        }
        let after = neighbors[key]
        if before?.mac != after?.mac || before?.isUsable != after?.isUsable { neighborChanged(key) }
        neighborRowChanged(key, isDumped: isDumped, now, &effects)
    }
    mutating func neighborChanged(_ key: NeighborKey) {
        if needed[key] != nil { changes.underlay = true }
    }

    /// Asks the kernel for missing neighbours, at most once a second each, and keeps those alive
    /// that it would let go stale.
    mutating func requestNeighbors(_ now: Instant, _ effects: inout [ControlEffect]) {
        guard !needed.isEmpty, now >= nextNeighborCheck else { return }
        nextNeighborCheck = Instant(nanoseconds: now.nanoseconds + 100_000_000)
        for key in needed.keys.sorted(by: {
            ($0.interface, $0.address) < ($1.interface, $1.address)
        }) {
            let row = neighbors[key]
            let isUsable = row?.isUsable ?? false
            if isUsable && !(row?.state.contains(.stale) ?? false) { continue }
            if let asked = needed[key]?.lastAsked, now.seconds(since: asked) < (isUsable ? 10 : 1) {
                continue
            }
            needed[key]?.lastAsked = now
            effects.append(.resolveNeighbor(interface: key.interface, address: key.address))
        }
    }

    // MARK: Ports

    mutating func portChanged(_ port: UInt16, _ isUp: Bool, _ mac: MACAddress, _ mtu: UInt16) {
        if let owner = numbering.port(ofException: port) {
            let known = mac.isZero ? ports[Int(owner)].exceptionMAC : mac
            if known != ports[Int(owner)].exceptionMAC {
                ports[Int(owner)].exceptionMAC = known
                changes.ports.formUnion([owner, port])
                changes.underlay = true
            }
            return
        }
        guard Int(port) < ports.count else { return }
        var next = ports[Int(port)]
        next.isUp = isUp
        if !mac.isZero { next.mac = mac }
        if mtu > 0 { next.mtu = mtu }
        if next == ports[Int(port)] { return }
        ports[Int(port)] = next
        changes.ports.insert(port)
        changes.underlay = true
    }
    mutating func attachException(_ port: UInt16, _ interface: UInt32) {
        guard Int(port) < ports.count else { return }
        attachedPorts.insert(port)
        map(port, to: interface)
    }
    private mutating func map(_ port: UInt16, to interface: UInt32?) {
        if interfaceOfPort[port] == interface { return }
        if let old = interfaceOfPort[port] { portOfInterface[old] = nil }
        interfaceOfPort[port] = interface
        neighborProgress.hasChangedLinks = true
        if let interface { portOfInterface[interface] = port }
        if let configured = configuration.ports[Int(port)].exception?.addresses, let interface {
            for prefix in configured {
                connected[prefix.network]?.remove(Self.configured(port))
                connected[prefix.network, default: []].insert(interface)
            }
        }
        changes.underlay = true
        changes.interfaces = true
    }
    /// Finds exception TAPs by name where the daemon did not say which interface they are, and
    /// takes over their MACs.
    mutating func mapExceptions() {
        for (index, port) in configuration.ports.enumerated() {
            let number = UInt16(truncatingIfNeeded: index)
            // The TAP that the daemon told of may have been made anew since.
            let isLost = interfaceOfPort[number].map { links.link($0) == nil } ?? true
            let named = links.interface(named: port.exception?.name ?? port.name)
            if !attachedPorts.contains(number) || isLost && named != nil,
                numbering.isUnderlay[index] || numbering.hasException[index]
            {
                map(number, to: named)
            }
            guard let interface = interfaceOfPort[number], let mac = links.link(interface)?.mac,
                !mac.isZero,
                ports[index].exceptionMAC != mac
            else { continue }
            ports[index].exceptionMAC = mac
            changes.ports.insert(number)
        }
    }
}
