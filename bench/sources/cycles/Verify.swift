// Whether the packets that were timed are the packets that should have left.

import CBench
import FastPath
import Tables
import Wire

extension Scene {
    /// Sends a few hundred flows and compares each frame; nil when all are right.
    func fault() -> String? {
        bench_traffic_set(shape.direction.port, &traffic)
        let samples = UInt32(256)
        bench_capture(samples)
        _ = bench_take_sent()
        let received = worker.poll(packets: Int(samples))
        let sent = Int(bench_take_sent())
        guard sent == received else {
            let counters = tables.counters
            let drops = DropReason.allCases.filter { counters.total($0) != 0 }
                .map { "\($0.name) \(counters.total($0))" }
            return "\(received) received, \(sent) sent, dropped: \(drops.joined(separator: ", "))"
        }
        for index in 0..<samples {
            var length: UInt32 = 0
            var leaving: UInt16 = 0
            guard let bytes = bench_captured(index, &length, &leaving) else { return "frame \(index) missing" }
            let flow = Int(index) % shape.macs
            let frame = Array(UnsafeBufferPointer(start: bytes, count: Int(min(length, 128))))
            if let fault = fault(of: frame, length: Int(length), port: leaving, flow: flow) {
                return "flow \(flow): \(fault)\n" + FrameSummary.text(of: frame)
            }
        }
        return tables.counters.isBalanced ? nil : "the counters do not balance"
    }

    private func fault(of frame: [UInt8], length: Int, port: UInt16, flow: Int) -> String? {
        if shape.direction.isRouted { return routedFault(of: frame, length: length, port: port, flow: flow) }
        var destination = Array(MACAddress(rawValue: bench_destination(UInt32(flow))).bytes)
        let source = UInt32(flow) & (traffic.sources - 1)
        destination += MACAddress(rawValue: bench_source(source)).bytes
        let address = Array(IPv4Address(rawValue: 0x0A00_0000 + UInt32(flow)).bytes)
        let vni = Int(Scene.firstVNI) + flow % shape.vnis
        switch shape.direction {
        case .decap:
            let tag = shape.vnis > 1 ? 4 : 0
            guard port == Scene.access, length == shape.frame + tag else { return "length \(length)" }
            guard frame[0..<12].elementsEqual(destination) else { return "addresses" }
            if tag != 0, !frame[12..<16].elementsEqual([0x81, 0] + Scene.be16(1 + flow % shape.vnis)) {
                return "tag"
            }
            return frame[(26 + tag)..<(30 + tag)].elementsEqual(address) ? nil : "inner packet"
        default:
            let udp = shape.isIPv6 ? 54 : 34
            let inner = udp + 16
            guard port == Scene.underlay, length == shape.frame + inner else { return "length \(length)" }
            if let fault = outerFault(of: frame, length: length, vtep: flow % shape.vteps, vni: vni) { return fault }
            guard frame[inner..<(inner + 12)].elementsEqual(destination) else { return "addresses" }
            return frame[(inner + 26)..<(inner + 30)].elementsEqual(address) ? nil : "inner packet"
        }
    }

    /// The outer headers of a frame that leaves for a VTEP.
    func outerFault(of frame: [UInt8], length: Int, vtep: Int, vni: Int) -> String? {
        let udp = shape.isIPv6 ? 54 : 34
        guard frame[0..<6].elementsEqual(Scene.nextHop.bytes) else { return "next hop" }
        guard frame[(udp - 2)..<udp].elementsEqual(Scene.be16(Int(Scene.firstVTEP) + vtep)) else { return "VTEP" }
        let lengths = shape.isIPv6
            ? frame[18..<20].elementsEqual(Scene.be16(length - 54))
            : frame[16..<18].elementsEqual(Scene.be16(length - 14))
        guard lengths, frame[(udp + 4)..<(udp + 6)].elementsEqual(Scene.be16(length - udp)) else {
            return "lengths"
        }
        let ports = frame[udp] >= 0xC0 && frame[(udp + 2)..<(udp + 4)].elementsEqual(Scene.be16(4789))
        guard ports else { return "ports" }
        let vxlan = [8, 0, 0, 0, UInt8(vni >> 16)] + Scene.be16(vni & 0xFFFF) + [0]
        guard frame[(udp + 8)..<(udp + 16)].elementsEqual(vxlan) else { return "VXLAN header" }
        if !shape.isIPv6, Self.sum(frame[14..<34]) != 0xFFFF { return "IPv4 checksum" }
        if shape.isIPv6, length <= frame.count, !isChecksumRight(frame) { return "UDP checksum" }
        return nil
    }

    private func isChecksumRight(_ frame: [UInt8]) -> Bool {
        let pseudo = Array(frame[22..<54]) + Scene.be16(0) + Scene.be16(frame.count - 54) + [0, 0, 0, 17]
        return frame[60] | frame[61] != 0 && Self.sum((pseudo + Array(frame[54...]))[...]) == 0xFFFF
    }
    static func sum(_ bytes: ArraySlice<UInt8>) -> Int {
        var sum = 0
        for (index, byte) in bytes.enumerated() { sum += index % 2 == 0 ? Int(byte) << 8 : Int(byte) }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + sum >> 16 }
        return sum
    }
}
