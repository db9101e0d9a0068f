// Random changes to the forwarding tables, and what they must look like afterwards.

import Testing
import TestSupport
import Wire

@testable import Tables

/// Applies random operations to tables and to a plain model of them.
struct TableChurn {
    let tables: ForwardingTables
    private var random: SeededRandom
    private(set) var domains: [UInt16: VNI] = [:]
    private(set) var circuits: [UInt32: Circuit] = [:]
    private(set) var tunnels: [UInt32: IPAddress] = [:]
    private(set) var paths: [UInt32: [TunnelPath]] = [:]
    private(set) var floods: [UInt16: (circuits: [UInt32], tunnels: [UInt32])] = [:]
    private(set) var members: Set<[UInt32]> = []
    private(set) var macs: [UInt64: FDBValue] = [:]
    /// How often a table said that it is full.
    private(set) var refusals = 0

    init(tables: ForwardingTables, seed: UInt64) throws {
        self.tables = tables
        random = SeededRandom(seed: seed)
        for port in 0..<UInt16(min(8, tables.limits.ports)) {
            try tables.setPort(port, PortEntry(role: port == 0 ? .underlay : .circuits))
        }
        let local = try #require(IPAddress("100.64.0.1"))
        let other = try #require(IPAddress("fd00::1"))
        try tables.setEndpoints([local, other], vxlanPorts: [4789])
    }

    private mutating func number(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }
    private func mac(_ index: Int) -> MACAddress { MACAddress(rawValue: UInt64(index) << 40 | 2) }

    /// Counts a refusal; anything else is a fault of the test.
    private mutating func unlessFull(_ body: (inout Self) throws(TableError) -> Void) throws {
        do throws(TableError) { try body(&self) } catch {
            guard case .full = error else { throw error }
            refusals += 1
        }
    }

    mutating func step() throws {
        let domain = domains.keys.sorted().randomElement(using: &random)
        let tunnel = tunnels.keys.sorted().randomElement(using: &random)
        let circuit = circuits.keys.sorted().randomElement(using: &random)
        switch number(0..<24) {
        case 0, 1: try addDomain()
        case 2: if let domain { removeDomain(domain) }
        case 3, 4: if let domain { try addCircuit(to: domain) }
        case 5: if let circuit { removeCircuit(circuit) }
        case 6, 7: try addTunnel()
        case 8: if let tunnel { removeTunnel(tunnel) }
        case 9, 10: if let tunnel { setPaths(tunnel) }
        case 11, 12: if let domain { try setFlood(domain) }
        case 13: if let domain, let tunnel { setMember(domain, tunnel) }
        case 14..<18: if let domain { try setMAC(domain) }
        case 18..<20: removeMAC()
        case 20: tables.collect()
        default: tables.publish()
        }
    }

    private mutating func addDomain() throws {
        let vni = VNI(UInt32(number(1..<40)))!
        guard !domains.values.contains(vni) else { return }
        try unlessFull { (me) throws(TableError) in
            me.domains[try me.tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789))] = vni
        }
    }
    private mutating func removeDomain(_ domain: UInt16) {
        for key in macs.keys where FDBKey.domain(key) == domain {
            tables.removeMAC(domain: domain, FDBKey.mac(key))
            macs[key] = nil
        }
        for (index, circuit) in circuits where circuit.domain == domain { removeCircuit(index) }
        members = members.filter { $0[0] != UInt32(domain) }
        floods[domain] = nil
        domains[domain] = nil
        tables.removeDomain(domain)
    }
    private mutating func addCircuit(to domain: UInt16) throws {
        let port = UInt16(number(1..<8)), vlan = UInt16(number(0..<6))
        guard !circuits.values.contains(where: { $0.port == port && $0.vlan == vlan }) else { return }
        try unlessFull { (me) throws(TableError) in
            let index = try me.tables.addCircuit(port: port, vlan: vlan, domain: domain)
            #expect(me.circuits[index] == nil)
            me.circuits[index] = Circuit(port: port, vlan: vlan, domain: domain)
        }
    }
    private mutating func removeCircuit(_ index: UInt32) {
        for (key, value) in macs where value.isCircuit && value.index == index {
            tables.removeMAC(domain: FDBKey.domain(key), FDBKey.mac(key))
            macs[key] = nil
        }
        for (domain, flood) in floods where flood.circuits.contains(index) {
            let rest = flood.circuits.filter { $0 != index }
            try? tables.setFlood(domain: domain, circuits: rest, tunnels: flood.tunnels)
            floods[domain] = (rest, flood.tunnels)
        }
        circuits[index] = nil
        tables.removeCircuit(index)
    }
    private mutating func addTunnel() throws {
        let remote: IPAddress = .v4(IPv4Address(rawValue: 0x6440_0100 + UInt32(number(0..<100))))
        try unlessFull { (me) throws(TableError) in
            let index = try me.tables.tunnel(to: remote)
            #expect(me.tunnels[index] == nil || me.tunnels[index] == remote)
            if me.tunnels[index] == nil { me.paths[index] = [] }
            me.tunnels[index] = remote
        }
    }
    private mutating func removeTunnel(_ index: UInt32) {
        for (key, value) in macs where value.isTunnel && value.index == index {
            tables.removeMAC(domain: FDBKey.domain(key), FDBKey.mac(key))
            macs[key] = nil
        }
        for (domain, flood) in floods where flood.tunnels.contains(index) {
            let rest = flood.tunnels.filter { $0 != index }
            try? tables.setFlood(domain: domain, circuits: flood.circuits, tunnels: rest)
            floods[domain] = (flood.circuits, rest)
        }
        for domain in domains.keys { tables.setMember(domain: domain, tunnel: index, false) }
        members = members.filter { $0[1] != index }
        tunnels[index] = nil
        paths[index] = nil
        tables.removeTunnel(index)
    }
    private mutating func setPaths(_ tunnel: UInt32) {
        let count = number(0..<5)
        let chosen = (0..<count).map { index in
            TunnelPath(port: 0, sourceMAC: mac(200), nextHopMAC: mac(100 + index), mtu: 1600, weight: number(1..<4))
        }
        paths[tunnel] = chosen
        tables.setPaths(tunnel: tunnel, chosen, unusable: count == 0 ? .unresolvedNextHop : nil)
    }
    private mutating func setFlood(_ domain: UInt16) throws {
        let chosenCircuits = circuits.keys.sorted().filter { circuits[$0]?.domain == domain }
        let chosenTunnels = tunnels.keys.sorted().filter { _ in Bool.random(using: &random) }
        try unlessFull { (me) throws(TableError) in
            try me.tables.setFlood(domain: domain, circuits: chosenCircuits, tunnels: chosenTunnels)
            me.floods[domain] = (chosenCircuits, chosenTunnels)
        }
    }
    private mutating func setMember(_ domain: UInt16, _ tunnel: UInt32) {
        if Bool.random(using: &random) {
            members.insert([UInt32(domain), tunnel])
            tables.setMember(domain: domain, tunnel: tunnel, true)
        } else {
            members.remove([UInt32(domain), tunnel])
            tables.setMember(domain: domain, tunnel: tunnel, false)
        }
    }
    private mutating func setMAC(_ domain: UInt16) throws {
        let mac = mac(number(0..<100))
        let value: FDBValue
        if let circuit = circuits.keys.sorted().randomElement(using: &random), Bool.random(using: &random) {
            value = .circuit(circuit)
        } else if let tunnel = tunnels.keys.sorted().randomElement(using: &random) {
            value = .tunnel(tunnel, sticky: Bool.random(using: &random))
        } else {
            return
        }
        try unlessFull { (me) throws(TableError) in
            try me.tables.setMAC(domain: domain, mac, value)
            me.macs[FDBKey.make(domain: domain, mac: mac.rawValue)] = value
        }
    }
    private mutating func removeMAC() {
        guard let key = macs.keys.sorted().randomElement(using: &random) else { return }
        macs[key] = nil
        tables.removeMAC(domain: FDBKey.domain(key), FDBKey.mac(key))
    }
}

extension TableChurn {
    /// Compares everything that a worker can see after a publication with the model.
    func expectEqual(_ state: ForwardingState, _ note: Comment) {
        expectDomains(state, note)
        expectCircuits(state, note)
        expectTunnels(state, note)
        #expect(tables.macCount == macs.count, note)
        var wrong: [UInt64] = []
        for domain in UInt16(1)..<UInt16(tables.limits.domains) {
            for index in 0..<100 {
                let key = FDBKey.make(domain: domain, mac: mac(index).rawValue)
                let found = state.fdb.value(of: key, in: state.fdb.bucket(of: key))
                if found != macs[key]?.rawValue ?? BucketView.miss { wrong.append(key) }
            }
        }
        #expect(wrong.isEmpty, note)
    }

    private func expectDomains(_ state: ForwardingState, _ note: Comment) {
        var mapped: [UInt16: VNI] = [:]
        for vni in 0..<41 as Range<UInt32> {
            let index = VNITarget.domain(of: state.vnis[Int(vni)])
            if index != 0 { mapped[index] = VNI(vni) }
        }
        #expect(mapped == domains, note)
        for index in UInt16(1)..<UInt16(tables.limits.domains) {
            let record = state.domains[Int(index)]
            #expect(record.isUsed == (domains[index] != nil), note)
            guard record.isUsed else { continue }
            #expect(record.vni == domains[index], note)
            let flood = floods[index] ?? ([], [])
            let seen = record.flood.map { list in
                ((0..<list.circuitCount).map(list.circuit), (0..<list.tunnelCount).map(list.tunnel))
            } ?? ([], [])
            #expect(seen.0 == flood.circuits && seen.1 == flood.tunnels, note)
            let joined = (0..<UInt32(tables.limits.vteps)).filter { state.isMember(domain: index, tunnel: $0) }
            #expect(joined == members.filter { $0[0] == UInt32(index) }.map { $0[1] }.sorted(), note)
        }
    }

    private func expectCircuits(_ state: ForwardingState, _ note: Comment) {
        var seen: Set<UInt32> = []
        for port in 0..<Int(state.portCount) {
            let entry = state.ports[port]
            var found = entry.untaggedCircuit == PortEntry.noCircuit ? [] : [(0, entry.untaggedCircuit)]
            if let table = entry.vlanCircuits {
                found += (0..<4096).filter { table[$0] != PortEntry.noCircuit }.map { ($0, table[$0]) }
            }
            for (vlan, index) in found {
                #expect(circuits[index] == state.circuits[Int(index)], note)
                #expect(circuits[index]?.port == UInt16(port) && circuits[index]?.vlan == UInt16(vlan), note)
                seen.insert(index)
            }
        }
        #expect(seen == Set(circuits.keys), note)
    }

    private func expectTunnels(_ state: ForwardingState, _ note: Comment) {
        #expect(tables.tunnelCount == tunnels.count, note)
        var seen: [UInt32: IPAddress] = [:]
        for offset in 0..<100 as Range<UInt32> {
            let address = IPv4Address(rawValue: 0x6440_0100 + offset)
            let index = state.vtep(ipv4: address.networkOrder)
            if index != BucketView.miss { seen[index] = .v4(address) }
        }
        #expect(seen == tunnels, note)
        for (index, remote) in tunnels {
            let record = state.tunnels + Int(index)
            let expected = paths[index] ?? []
            #expect((record.pointee.unusable == nil) == !expected.isEmpty, note)
            guard !expected.isEmpty else { continue }
            var hops: Set<MACAddress> = [], strays = 0
            for hash in 0..<64 as Range<UInt32> {
                let header = state.adjacency(of: record, hash: hash).header
                hops.insert(MACAddress(bytes: (0..<6).map { header.load(fromByteOffset: $0, as: UInt8.self) }))
                if (30..<34).map({ header.load(fromByteOffset: $0, as: UInt8.self) }) != remote.bytes { strays += 1 }
            }
            #expect(strays == 0, note)
            #expect(hops == Set(expected.map(\.nextHopMAC)), note)
        }
    }
}
