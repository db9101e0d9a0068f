// The circuit that a hop to a host names is the one that the FDB has the host's MAC on.

import TestSupport
import Testing
import Wire

@testable import Tables

@Suite("Hosts of next hops") struct HopHostTests {
    /// What the FDB says of a hop's MAC, as far as a hop says it.
    private static func expected(_ hop: RouteHop, _ tables: ForwardingTables) -> UInt32 {
        guard case .bridge(let domain) = hop.way, let value = tables.mac(domain: domain, hop.mac), value.isCircuit
        else { return HopView.noCircuit }
        return value.index
    }

    @Test("whatever changes, hops or MACs, each hop names its host's circuit", arguments: 0..<12 as Range<UInt64>)
    func model(seed: UInt64) throws {
        let tables = try ForwardingTablesTests.tables()
        var random = SeededRandom(seed: seed)
        // Differing in the first byte alone, in the last alone, and none at all.
        let macs = [
            MACAddress(2, 0, 0, 0, 0, 1), MACAddress(6, 0, 0, 0, 0, 1), MACAddress(2, 0, 0, 0, 0, 2), .zero,
        ]
        let domains: [UInt16] = [1, 2]
        var hops: [UInt32] = []
        var named = 0
        for step in 0..<2000 {
            let mac = macs.randomElement(using: &random) ?? .zero
            let domain = domains.randomElement(using: &random) ?? 1
            switch Int.random(in: 0..<8, using: &random) {
            case 0, 1:
                if hops.count == 12 { continue }
                hops.append(try tables.addHop(RouteHop(way: .bridge(domain: domain), mac: mac)))
            case 2:
                if hops.count == 12 { continue }
                hops.append(try tables.addHop(RouteHop(way: .port(3), mac: mac)))
            case 3:
                guard let hop = hops.randomElement(using: &random) else { continue }
                tables.removeHop(hop)
                hops.removeAll { $0 == hop }
                tables.publish()
                tables.reader(worker: 0).quiescent()
                tables.collect()
            case 4:
                guard let hop = hops.randomElement(using: &random) else { continue }
                tables.updateHop(hop, mac: mac, state: Bool.random(using: &random) ? .usable : .failed)
            case 5: tables.removeMAC(domain: domain, mac)
            case 6: try tables.setMAC(domain: domain, mac, .tunnel(UInt32.random(in: 0..<4, using: &random)))
            default:
                try tables.setMAC(
                    domain: domain, mac, .circuit(UInt32.random(in: 0..<12, using: &random), sticky: step % 2 == 0))
            }
            let state = ForwardingTablesTests.state(tables)
            for index in hops {
                let hop = try #require(tables.hop(index))
                guard case .bridge = hop.way else { continue }
                let view = state.hop(index)
                let circuit = view.circuit(view.head)
                #expect(circuit == Self.expected(hop, tables), "seed \(seed) step \(step) hop \(index)")
                if circuit != HopView.noCircuit { named += 1 }
            }
        }
        #expect(named > 100, "circuits were named")
    }

    @Test("while a hop becomes another host's, nobody takes the circuit of one for the other's")
    func torn() throws {
        let tables = try ForwardingTablesTests.tables()
        let macs = [MACAddress(2, 0, 0, 0, 0, 1), MACAddress(2, 0, 0, 0, 0, 2)]
        for (number, mac) in macs.enumerated() { try tables.setMAC(domain: 1, mac, .circuit(UInt32(number))) }
        let hop = try tables.addHop(RouteHop(way: .bridge(domain: 1), mac: macs[0]))
        let view = ForwardingTablesTests.state(tables).hop(hop)
        let old = view.head
        #expect(view.circuit(old) == 0)
        tables.updateHop(hop, mac: macs[1], state: .usable)
        #expect(view.circuit(old) == HopView.noCircuit, "the head was read before the change, the circuit after it")
        #expect(view.circuit(view.head) == 1)
    }
}
