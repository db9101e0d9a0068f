// The writer's tables against a model, and what each of them does when it is full.

import Testing
import TestSupport
import Wire

@testable import Tables

@Suite("Forwarding tables")
struct ForwardingTablesTests {
    static func tables(_ change: (inout TableLimits) -> Void = { _ in }) throws -> ForwardingTables {
        var limits = TableLimits(
            macs: 64, domains: 6, vteps: 64, circuits: 12, ports: 16, floodTargets: 20, paths: 4, workers: 1)
        change(&limits)
        return try ForwardingTables(limits: limits)
    }
    static func state(_ tables: ForwardingTables) -> ForwardingState {
        let reader = tables.reader(worker: 0)
        reader.quiescent()
        return reader.current.assumingMemoryBound(to: ForwardingState.self).pointee
    }
    private static func path(_ hop: UInt8, port: UInt16 = 0) -> TunnelPath {
        TunnelPath(
            port: port, sourceMAC: MACAddress(2, 0, 0, 0, 0, 1), nextHopMAC: MACAddress(2, 0, 0, 0, 1, hop), mtu: 1600)
    }

    @Test("random changes, published, are what a worker sees", arguments: 0..<12 as Range<UInt64>)
    func model(seed: UInt64) throws {
        let tables = try Self.tables()
        let reader = tables.reader(worker: 0)
        var churn = try TableChurn(tables: tables, seed: seed)
        for round in 0..<60 {
            for _ in 0..<40 { try churn.step() }
            tables.publish()
            reader.quiescent()
            tables.collect()
            let state = reader.current.assumingMemoryBound(to: ForwardingState.self).pointee
            churn.expectEqual(state, "seed \(seed) round \(round)")
        }
        #expect(churn.refusals > 0, "limits were reached")
    }

    @Test("nothing is visible before it is published, but for MACs")
    func publication() throws {
        let tables = try Self.tables()
        let vni = try #require(VNI(100))
        let domain = try tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789))
        #expect(Self.state(tables).vnis[100] == 0)
        #expect(!Self.state(tables).domains[Int(domain)].isUsed)
        tables.publish()
        #expect(VNITarget.domain(of: Self.state(tables).vnis[100]) == domain)
        #expect(Self.state(tables).domains[Int(domain)].isUsed)
        let mac = MACAddress(2, 0, 0, 0, 0, 9)
        try tables.setMAC(domain: domain, mac, .circuit(3))
        let state = Self.state(tables), key = FDBKey.make(domain: domain, mac: mac.rawValue)
        #expect(state.fdb.value(of: key, in: state.fdb.bucket(of: key)) == 3)
    }

    @Test("an index is handed out again only when every worker was quiescent after its removal")
    func indexReuse() throws {
        let tables = try Self.tables { $0.domains = 2 }
        let reader = tables.reader(worker: 0)
        reader.quiescent()
        let vni = try #require(VNI(1)), other = try #require(VNI(2))
        let domain = try tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789))
        tables.publish()
        reader.quiescent()
        tables.removeDomain(domain)
        tables.publish()
        #expect(throws: TableError.self) { try tables.addDomain(BridgeDomain(vni: other, vxlanPort: 4789)) }
        reader.quiescent()
        tables.collect()
        #expect(try tables.addDomain(BridgeDomain(vni: other, vxlanPort: 4789)) == domain)
    }

    @Test("a domain that takes over a VNI keeps it when the old one goes")
    func replacedDomain() throws {
        let tables = try Self.tables()
        let vni = try #require(VNI(100))
        let old = try tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789))
        tables.publish()
        let new = try tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789))
        tables.publish()
        tables.removeDomain(old)
        tables.publish()
        #expect(VNITarget.domain(of: Self.state(tables).vnis[100]) == new)
    }

    @Test("changing a domain's record leaves its VNI and flood list")
    func updateDomain() throws {
        let tables = try Self.tables()
        let vni = try #require(VNI(100))
        let domain = try tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789))
        try tables.setFlood(domain: domain, circuits: [1], tunnels: [2, 3])
        tables.updateDomain(domain) {
            $0 = BridgeDomain()
            $0.flags = .acceptUnknownVTEP
        }
        tables.publish()
        let record = Self.state(tables).domains[Int(domain)]
        #expect(record.isUsed && record.vni == vni && record.flags == .acceptUnknownVTEP)
        #expect(record.flood?.tunnelCount == 2 && record.flood?.circuitCount == 1)
    }

    @Test("a new MAC in a used slot starts unmarked")
    func marks() throws {
        let tables = try Self.tables()
        let reader = tables.reader(worker: 0), ring = tables.learning.workers[0]
        reader.quiescent()
        let mac = MACAddress(2, 0, 0, 0, 0, 9)
        try tables.setMAC(domain: 1, mac, .circuit(0))
        let slot = try #require(tables.slot(domain: 1, mac))
        ring.mark(slot, ring.currentPeriod)
        try tables.setMAC(domain: 1, mac, .circuit(1))
        #expect(ring.mark(of: slot) == 1, "a change of place is not a new MAC")
        tables.removeMAC(domain: 1, mac)
        tables.publish()
        reader.quiescent()
        tables.collect()
        try tables.setMAC(domain: 1, mac, .circuit(0))
        #expect(tables.slot(domain: 1, mac) == slot)
        #expect(ring.mark(of: slot) == 0)
    }

    @Test("keys outside the domains are refused without a trap")
    func badDomain() throws {
        let tables = try Self.tables()
        for domain in [0, 6, 0xFFFF] as [UInt16] {
            for mac in [MACAddress.zero, .broadcast] {
                try tables.setMAC(domain: domain, mac, .circuit(0))
                tables.removeMAC(domain: domain, mac)
                #expect(tables.mac(domain: domain, mac) == nil)
            }
            tables.removeDomain(domain)
            tables.setMember(domain: domain, tunnel: 64, true)
            try tables.setFlood(domain: domain, circuits: [1], tunnels: [])
        }
        tables.removeCircuit(99)
        tables.removeTunnel(99)
        tables.setPaths(tunnel: 99, [], unusable: nil)
        #expect(tables.macCount == 0)
    }

    @Test("every port that a circuit, a path or a partner names is inside the published block")
    func portBlock() throws {
        let tables = try Self.tables()
        _ = try tables.addCircuit(port: 9, vlan: 0, domain: 1)
        tables.publish()
        #expect(Self.state(tables).portCount >= 10)
        #expect(Self.state(tables).ports[9].untaggedCircuit == 0)
        try tables.setPort(1, PortEntry(role: .underlay, partner: 11))
        tables.publish()
        #expect(Self.state(tables).portCount >= 12)
        let remote = try #require(IPAddress("10.0.0.2"))
        let tunnel = try tables.tunnel(to: remote)
        tables.setPaths(tunnel: tunnel, [Self.path(1, port: 13), Self.path(2, port: 16)], unusable: nil)
        tables.publish()
        #expect(Self.state(tables).portCount >= 14)
        #expect(tables.paths(of: tunnel).paths == [Self.path(1, port: 13)], "port 16 is beyond the limit")
        #expect(throws: TableError.self) { try tables.addCircuit(port: 16, vlan: 0, domain: 1) }
        #expect(throws: TableError.self) { try tables.setPort(16, PortEntry()) }
        #expect(throws: TableError.self) { try tables.setPort(2, PortEntry(partner: 16)) }
        #expect(tables.portCount <= 16)
    }
}

@Suite("Limits: a full table says so and keeps what is there")
struct LimitTests {
    @Test("MACs") func macs() throws {
        let tables = try ForwardingTablesTests.tables()
        for index in 0..<64 as Range<UInt64> {
            try tables.setMAC(domain: 1, MACAddress(rawValue: index << 40 | 2), .circuit(UInt32(index)))
        }
        let extra = MACAddress(2, 0, 0, 0, 1, 1)
        #expect(throws: TableError.full(table: "fdb (limits.macs)", limit: 64)) {
            try tables.setMAC(domain: 1, extra, .circuit(1))
        }
        #expect(tables.macCount == 64 && tables.mac(domain: 1, extra) == nil)
        for index in 0..<64 as Range<UInt64> {
            #expect(tables.mac(domain: 1, MACAddress(rawValue: index << 40 | 2)) == .circuit(UInt32(index)))
        }
    }

    @Test("domains, circuits and VTEPs") func indexes() throws {
        let tables = try ForwardingTablesTests.tables()
        for number in 1...5 as ClosedRange<UInt32> {
            let vni = try #require(VNI(number))
            _ = try tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789))
        }
        let sixth = try #require(VNI(6))
        #expect(throws: TableError.full(table: "bridge domains (limits.l2vnis)", limit: 6)) {
            try tables.addDomain(BridgeDomain(vni: sixth, vxlanPort: 4789))
        }
        for vlan in 1...12 as ClosedRange<UInt16> { _ = try tables.addCircuit(port: 1, vlan: vlan, domain: 1) }
        #expect(throws: TableError.full(table: "circuits (limits.circuits)", limit: 12)) {
            try tables.addCircuit(port: 1, vlan: 13, domain: 1)
        }
        for number in 0..<64 as Range<UInt32> { _ = try tables.tunnel(to: .v4(IPv4Address(rawValue: number + 1))) }
        #expect(throws: TableError.full(table: "vteps (limits.vteps)", limit: 64)) {
            try tables.tunnel(to: .v4(IPv4Address(rawValue: 100)))
        }
        #expect(tables.tunnelCount == 64)
        tables.publish()
        let state = ForwardingTablesTests.state(tables)
        for vni in 1...5 { #expect(VNITarget.domain(of: state.vnis[vni]) == UInt16(vni)) }
        #expect(state.vnis[6] == 0)
        #expect((1...12).allSatisfy { state.ports[1].vlanCircuits?[$0] == UInt32($0 - 1) })
        #expect(state.ports[1].vlanCircuits?[13] == PortEntry.noCircuit)
        #expect(state.vtep(ipv4: IPv4Address(rawValue: 100).networkOrder) == BucketView.miss)
        #expect((1...64).allSatisfy { state.vtep(ipv4: IPv4Address(rawValue: $0).networkOrder) == $0 - 1 })
    }

    @Test("flood lists, endpoints and UDP ports") func lists() throws {
        let tables = try ForwardingTablesTests.tables()
        let vni = try #require(VNI(1))
        let domain = try tables.addDomain(BridgeDomain(vni: vni, vxlanPort: 4789))
        try tables.setFlood(domain: domain, circuits: [1], tunnels: Array(0..<19))
        #expect(throws: TableError.full(table: "flood list (limits.floodTargets)", limit: 20)) {
            try tables.setFlood(domain: domain, circuits: [1, 2], tunnels: Array(0..<19))
        }
        let v4 = (1...5).map { IPAddress.v4(IPv4Address(rawValue: $0)) }
        let v6 = (1...5).map { IPAddress.v6(IPv6Address(high: 0xFD00 << 48, low: $0)) }
        try tables.setEndpoints(Array(v4.prefix(4) + v6.prefix(4)), vxlanPorts: Array(1...8))
        #expect(throws: TableError.self) { try tables.setEndpoints(v4, vxlanPorts: []) }
        #expect(throws: TableError.self) { try tables.setEndpoints(v6, vxlanPorts: []) }
        #expect(throws: TableError.self) { try tables.setEndpoints([], vxlanPorts: Array(1...9)) }
        tables.publish()
        let state = ForwardingTablesTests.state(tables)
        #expect(state.domains[Int(domain)].flood?.circuitCount == 1)
        #expect(state.domains[Int(domain)].flood?.tunnelCount == 19)
        #expect((1...4).allSatisfy { state.isLocal(ipv4: IPv4Address(rawValue: $0).networkOrder) })
        #expect(!state.isLocal(ipv4: IPv4Address(rawValue: 5).networkOrder) && !state.isLocal(ipv4: 0))
        #expect((1...4).allSatisfy { state.isLocal(ipv6: (UInt64(0xFD00) << 48).bigEndian, UInt64($0).bigEndian) })
        #expect(!state.isLocal(ipv6: (UInt64(0xFD00) << 48).bigEndian, UInt64(5).bigEndian))
        #expect((1...8).allSatisfy { state.isVXLAN(port: UInt16($0).bigEndian) })
        #expect(!state.isVXLAN(port: UInt16(9).bigEndian) && !state.isVXLAN(port: 0))
    }

    @Test("each error says which limit to raise") func text() {
        #expect(
            TableError.full(table: "fdb (limits.macs)", limit: 64).description
                == "fdb (limits.macs) is full (64); raise its entry under dataplane.limits")
        #expect(TableError.outOfMemory(table: "counters", byteCount: 9).description.contains("9 bytes"))
    }
}
