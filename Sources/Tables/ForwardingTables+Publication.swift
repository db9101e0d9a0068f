// How changes become visible to workers: new blocks for what changed, one swap of the root.

import CLinux
import Wire

extension ForwardingTables {
    /// A worker's view of the tables.
    public func reader(worker: Int) -> PublicationReader { publication.reader(worker) }

    /// Makes all changes visible to workers, and frees what they no longer hold.
    public func publish() {
        if !dirty.isEmpty || !retiredFloods.isEmpty { publishRoot() }
        for (vni, target) in pendingVNIs { pe_store32(vnis + Int(vni.rawValue), target) }
        pendingVNIs.removeAll()
        if hasDeletions {
            publication.advance()
            hasDeletions = false
        }
        collect()
    }

    /// What workers must pass before all that was removed so far can be used again.
    public var deletionEpoch: UInt64 {
        hasDeletions || !dirty.isEmpty ? publication.epoch : publication.epoch - 1
    }

    /// Frees what workers no longer hold; called from the control thread's clock too.
    public func collect() {
        let passed = publication.reclaim()
        passedEpoch = passed
        fdb.reclaim(through: passed)
        vteps.reclaim(through: passed)
        freeDomains.reclaim(through: passed)
        freeCircuits.reclaim(through: passed)
        freeTunnels.reclaim(through: passed)
        collectRoutes(through: passed)
    }

    private func publishRoot() {
        var next = root.pointee
        var old: [UnsafeRawPointer] = retiredFloods
        retiredFloods.removeAll()
        if dirty.contains(.domains) {
            old.append(UnsafeRawPointer(next.domains))
            next.domains = UnsafePointer(Self.block(domains))
        }
        if dirty.contains(.circuits) {
            old.append(UnsafeRawPointer(next.circuits))
            next.circuits = UnsafePointer(Self.block(circuits))
        }
        if dirty.contains(.ports) { old += replacePorts(&next) }
        if dirty.contains(.vrfs) {
            old.append(UnsafeRawPointer(next.vrfs))
            next.vrfs = UnsafePointer(Self.block(vrfs))
        }
        if dirty.contains(.endpoints) { old += replaceEndpoints(&next) }
        if dirty.contains(.tunnels) { old += replaceTunnels(&next) }
        dirty = []
        let fresh = UnsafeMutablePointer<ForwardingState>.allocate(capacity: 1)
        fresh.initialize(to: next)
        let previous = root
        root = fresh
        let retired = old
        publication.publish(UnsafeRawPointer(fresh)) {
            for block in retired { UnsafeMutableRawPointer(mutating: block).deallocate() }
            previous.deallocate()
        }
    }

    private func replacePorts(_ next: inout ForwardingState) -> [UnsafeRawPointer] {
        var old: [UnsafeRawPointer] = [UnsafeRawPointer(next.ports)]
        for index in 0..<Int(next.portCount) {
            if let table = next.ports[index].vlanCircuits { old.append(UnsafeRawPointer(table)) }
        }
        var entries = ports
        var tables: [Int: [UInt32]] = [:]
        for index in entries.indices { entries[index].untaggedCircuit = PortEntry.noCircuit }
        for (index, circuit) in circuits.enumerated() where circuit.isUsed && Int(circuit.port) < entries.count {
            let port = Int(circuit.port)
            if circuit.vlan == 0 {
                entries[port].untaggedCircuit = UInt32(index)
            } else {
                tables[port, default: [UInt32](repeating: PortEntry.noCircuit, count: 4096)][
                    Int(circuit.vlan & 0xFFF)] = UInt32(index)
            }
        }
        for (port, table) in tables { entries[port].vlanCircuits = UnsafePointer(Self.block(table)) }
        next.ports = UnsafePointer(Self.block(entries))
        next.portCount = UInt16(entries.count)
        return old
    }

    private func replaceEndpoints(_ next: inout ForwardingState) -> [UnsafeRawPointer] {
        let old = [UnsafeRawPointer(next.localIPv6), UnsafeRawPointer(next.plainOuters)]
        next.localIPv4 = SIMD4(repeating: 0)
        next.vxlanPorts = SIMD8(repeating: 0)
        var words: [UInt64] = []
        var lane = 0
        for endpoint in localEndpoints {
            switch endpoint {
            case .v4(let address):
                next.localIPv4[lane] = address.networkOrder
                lane += 1
            case .v6(let address): words += [address.high.bigEndian, address.low.bigEndian]
            }
        }
        for (index, port) in vxlanPorts.enumerated() { next.vxlanPorts[index] = port.bigEndian }
        next.plainOuters = UnsafePointer(Self.block([
            PlainOuter(endpoint: localEndpoints.first { $0.isV4 }, port: vxlanPorts.first),
            PlainOuter(endpoint: localEndpoints.first { !$0.isV4 }, port: vxlanPorts.first),
        ]))
        next.localIPv6 = UnsafePointer(Self.block(words))
        next.localIPv6Count = words.count / 2
        return old
    }

    private func replaceTunnels(_ next: inout ForwardingState) -> [UnsafeRawPointer] {
        let old = [UnsafeRawPointer(next.tunnels), UnsafeRawPointer(next.slots), UnsafeRawPointer(next.adjacencies)]
        let pathCount = tunnels.reduce(0) { $0 + $1.paths.count }
        let adjacencies = Self.rawBlock(pathCount * Adjacency.byteCount)
        var records: [Tunnel] = []
        var slots: [UInt32] = []
        var used = 0
        for index in tunnels.indices {
            var record = Tunnel()
            record.unusable = tunnels[index].unusable
            let local = tunnels[index].remote.flatMap { remote in
                localEndpoints.first { $0.isV4 == remote.isV4 }
            }
            if let remote = tunnels[index].remote, let local, !tunnels[index].paths.isEmpty {
                let first = used
                for path in tunnels[index].paths {
                    Adjacency.write(
                        at: adjacencies + used * Adjacency.byteCount, path: path, local: local, remote: remote,
                        options: outerHeader)
                    used += 1
                }
                record.unusable = nil
                record.first = UInt32(first)
                if tunnels[index].paths.count > 1 {
                    let assigned = assignSlots(&tunnels[index])
                    record.first = UInt32(slots.count)
                    record.slotMask = UInt32(assigned.count - 1)
                    slots += assigned.map { UInt32(first + $0) }
                } else {
                    tunnels[index].slots = tunnels[index].paths.map(\.identity)
                }
            } else if record.unusable == nil {
                record.unusable = .noUnderlayRoute
            }
            records.append(record)
        }
        next.tunnels = UnsafePointer(Self.block(records))
        next.slots = UnsafePointer(Self.block(slots))
        next.adjacencies = adjacencies
        return old
    }

    private func assignSlots(_ tunnel: inout TunnelRecord) -> [Int] {
        let members = tunnel.paths.map { (id: $0.identity, weight: $0.weight) }
        // Never fewer slots than before, so that a path that returns finds its flows again.
        let count = max(ResilientSlots.slotCount(memberCount: members.count), tunnel.slots.count)
        let assigned = ResilientSlots.assign(previous: tunnel.slots, members: members, count: count)
        tunnel.slots = assigned.map { members[$0].id }
        return assigned
    }
}
