// Counters of VRFs, and of packets that wait, as `show counters` tells them.

import ControlPlane
import Foundation
import Testing

@Suite("Counters of VRFs") struct VRFCounterTests {
    private var report: CounterReport {
        var report = CounterReport()
        report.received = 10
        report.replicated = 2
        report.sent = 8
        report.punted = 1
        report.dropped = ["ttlExpired": 1]
        report.services = ["waiting": 2, "waited": 9]
        var red = CounterReport.VRF(vrf: "red")
        red.localInPackets = 5
        red.tunnelOutPackets = 4
        report.vrfs = [red]
        return report
    }

    @Test("what waits for a neighbour is no imbalance; a packet without an end is")
    func balance() {
        #expect(report.imbalance == 0)
        var lost = report
        lost.received = 11
        #expect(lost.imbalance == 1)
    }

    @Test("the table has a line for every VRF, and JSON reads back as it was")
    func rows() throws {
        let lines = ShowAnswer.counters(report).table.split(separator: "\n").map { $0.split(separator: " ") }
        #expect(lines.contains(["red", "5", "0", "0", "0", "0", "0", "4", "0"]))
        let data = try JSONEncoder().encode(report)
        #expect(try JSONDecoder().decode(CounterReport.self, from: data) == report)
    }
}
