// Which parts of a VRF have host routes, as workers are told.

import Testing
import TestSupport
import Wire

@testable import Tables

@Suite("Parts of VRFs with host routes")
struct HostBlockTests {
    private func mayHold(_ tables: ForwardingTables, _ vrf: UInt16, _ address: String) -> Bool {
        tables.root.pointee.hostBlocks.mayHold(HostKey.make(vrf, IPAddress(address)!))
    }

    @Test("a part is named while it has a host route, and no longer")
    func life() throws {
        let tables = try ForwardingTables(limits: TableLimits(macs: 16, routes: 64, neighbors: 16))
        let first = IPPrefix("10.1.2.3/32")!, second = IPPrefix("10.1.200.9/32")!
        #expect(!mayHold(tables, 1, "10.1.2.3"))
        try tables.setRoute(vrf: 1, first, .blackhole)
        try tables.setRoute(vrf: 1, first, .unreachable)
        try tables.setRoute(vrf: 1, second, .blackhole)
        #expect(mayHold(tables, 1, "10.1.2.3") && mayHold(tables, 1, "10.1.255.255"))
        #expect(!mayHold(tables, 1, "10.2.2.3") && !mayHold(tables, 2, "10.1.2.3"))
        tables.removeRoute(vrf: 1, first)
        tables.removeRoute(vrf: 1, first)
        #expect(mayHold(tables, 1, "10.1.2.3"))
        tables.removeRoute(vrf: 1, second)
        #expect(!mayHold(tables, 1, "10.1.2.3"))
        try tables.setRoute(vrf: 1, IPPrefix("10.1.0.0/16")!, .blackhole)
        #expect(!mayHold(tables, 1, "10.1.2.3"), "a shorter prefix is no host route")
    }

    @Test("IPv6 hosts are always looked for, and what is in no VRF")
    func others() throws {
        let tables = try ForwardingTables(limits: TableLimits(macs: 16, routes: 64, neighbors: 16))
        #expect(mayHold(tables, 1, "2001:db8::1") && mayHold(tables, 0, "10.1.2.3"))
        try tables.setRoute(vrf: 1, IPPrefix("2001:db8::1/128")!, .blackhole)
        tables.removeRoute(vrf: 1, IPPrefix("2001:db8::1/128")!)
        #expect(mayHold(tables, 1, "2001:db8::1"))
    }

    @Test("a route that finds no room leaves its part as it was")
    func full() throws {
        let tables = try ForwardingTables(limits: TableLimits(macs: 16, routes: 16, neighbors: 16))
        for number in 0..<16 { try tables.setRoute(vrf: 1, IPPrefix("10.1.0.\(number)/32")!, .blackhole) }
        #expect(throws: TableError.self) { try tables.setRoute(vrf: 1, IPPrefix("10.2.0.1/32")!, .blackhole) }
        #expect(!mayHold(tables, 1, "10.2.0.1") && mayHold(tables, 1, "10.1.0.1"))
    }

    @Test("random changes: no host route is ever in a part of which it is said that it has none")
    func model() throws {
        var random = SeededRandom(seed: 5)
        let tables = try ForwardingTables(limits: TableLimits(macs: 16, routes: 16_384, neighbors: 16))
        var model: [UInt16: Set<UInt32>] = [:]
        for _ in 0..<8000 {
            let vrf = UInt16.random(in: 1...3, using: &random)
            let high = UInt32.random(in: 0..<200, using: &random)
            let address = high << 16 &+ high << 24 | UInt32.random(in: 0..<3, using: &random)
            let prefix = IPPrefix(host: .v4(IPv4Address(rawValue: address)))
            if Bool.random(using: &random) {
                try tables.setRoute(vrf: vrf, prefix, .blackhole)
                model[vrf, default: []].insert(address)
            } else {
                tables.removeRoute(vrf: vrf, prefix)
                model[vrf]?.remove(address)
            }
        }
        let view = tables.root.pointee.hostBlocks
        for vrf in 1...3 as ClosedRange<UInt16> {
            let parts = Set(model[vrf, default: []].map { HostBlockView.number($0) & 63 })
            for address in (0..<65_536 as Range<UInt32>).map({ $0 << 16 | 9 }) {
                let isNamed = view.mayHold(HostKey.make(vrf, ipv4: address))
                #expect(isNamed == parts.contains(HostBlockView.number(address) & 63))
            }
        }
    }
}
