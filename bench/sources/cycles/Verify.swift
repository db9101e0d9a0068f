// Whether what leaves for a flow is what should leave, field by field.

import CBench
import FastPath
import Tables
import Wire

extension Row {
    /// What one received packet becomes.
    enum End {
        /// So many frames sent.
        case sent(Int)
        case punted
        case dropped(DropReason)
    }
    var end: End {
        switch journey {
        case .punt: .punted
        case .drop: .dropped(special == "unknown-vni" ? .unknownVNI : .unknownVTEP)
        case .floodCopy: .sent(entries)
        default: .sent(1)
        }
    }
    /// What a row's cost is divided by, for each received packet.
    var copies: Int { journey == .floodCopy ? entries : 1 }

    /// What is wrong with a frame that left; nil when nothing is.
    ///
    /// - Parameters:
    ///   - size: of the frame that was received, without outer headers, tag and FCS.
    ///   - index: of a flooded frame's copies, the number among those that left through the port.
    func fault(of frame: [UInt8], port: UInt16, flow: Int, size: Int, copy index: Int = 0) -> String? {
        switch journey {
        case .null, .drop: "nothing should have left"
        case .punt: port == Site.host && frame == Array(punted(size)) ? nil : "not as it came, or not to the host"
        case .arpReply: arpFault(of: frame, port: port, flow: flow)
        case .floodCopy: floodFault(of: frame, port: port, flow: flow, size: size, copy: index)
        case .l2Encap, .l2Decap: bridgedFault(of: frame, port: port, flow: flow, size: size)
        case .l3Encap, .l3Prefix, .l3Decap, .interSubnet:
            routedFault(of: frame, port: port, flow: flow, size: size)
        }
    }
    private func punted(_ size: Int) -> [UInt8] { Frames.toHost(count: size, isIPv6: isIPv6) }

    private func bridgedFault(of frame: [UInt8], port: UInt16, flow: Int, size: Int) -> String? {
        let destination = MACAddress(rawValue: bench_destination(UInt32(flow)))
        if journey == .l2Encap {
            guard port == Site.underlay else { return "port" }
            let vni = Int(Site.firstVNI) + flow % domains
            if let fault = outerFault(of: frame, vtep: flow % Site.vteps, vni: vni, size: size) { return fault }
            return hostFault(of: frame[(isIPv6 ? 70 : 50)...], to: destination, flow: flow, size: size)
        }
        guard port == Site.access else { return "port" }
        return hostFault(
            of: frame[...], to: destination, flow: flow, size: size, vlan: domains > 1 ? 1 + flow % domains : 0)
    }

    private func floodFault(of frame: [UInt8], port: UInt16, flow: Int, size: Int, copy index: Int) -> String? {
        if port == Site.access {
            return hostFault(of: frame[...], to: .broadcast, flow: flow, size: size, vlan: 1 + index)
        }
        let vni = Int(Site.firstVNI)
        if let fault = outerFault(of: frame, vtep: index, vni: vni, size: size) { return fault }
        return hostFault(of: frame[(isIPv6 ? 70 : 50)...], to: .broadcast, flow: flow, size: size)
    }

    /// A frame as its host sent it, but for a VLAN tag.
    private func hostFault(
        of frame: ArraySlice<UInt8>, to destination: MACAddress, flow: Int, size: Int, vlan: Int = 0
    ) -> String? {
        var bytes = Array(frame)
        if vlan != 0 {
            guard bytes.count > 16, bytes[12..<16].elementsEqual([0x81, 0] + Frames.be16(vlan)) else { return "tag" }
            bytes.removeSubrange(12..<16)
        }
        guard bytes.count == size else { return "length \(bytes.count)" }
        let source = MACAddress(rawValue: bench_source(UInt32(flow & (sources - 1))))
        guard bytes[0..<12].elementsEqual(Array(destination.bytes) + Array(source.bytes)) else { return "addresses" }
        let address = IPv4Address(rawValue: 0x0A00_0000 + UInt32(flow))
        guard bytes[26..<30].elementsEqual(address.bytes) else { return "inner source" }
        return payloadFault(of: bytes, flow: flow)
    }

    /// From the UDP header on.
    private func payloadFault(of bytes: [UInt8], flow: Int) -> String? {
        guard bytes[34..<38].elementsEqual(Frames.be16(flow & 0xFFFF) + [0, 9]) else { return "inner ports" }
        guard bytes[42...].allSatisfy({ $0 == Frames.payload }) else { return "payload" }
        if !hasChecksum { return bytes[40] | bytes[41] == 0 ? nil : "inner checksum" }
        let pseudo = bytes[26..<34] + [0, 17] + bytes[38..<40]
        return Frames.sum(pseudo + bytes[34...]) == 0xFFFF ? nil : "inner checksum"
    }

    private func routedFault(of frame: [UInt8], port: UInt16, flow: Int, size: Int) -> String? {
        let number = flow % domains
        var bytes = frame
        let addresses: [UInt8]
        if journey.isToFabric {
            guard port == Site.underlay else { return "port" }
            let vtep = Scene.vtep(self, flow)
            let vni = Int(Site.firstVNI) + number
            if let fault = outerFault(of: frame, vtep: vtep, vni: vni, size: size) { return fault }
            bytes.removeFirst(isIPv6 ? 70 : 50)
            addresses = Array(Site.remoteRouterMAC(vtep).bytes) + Array(Site.routerMAC.bytes)
        } else {
            guard port == Site.access, bytes.count == size + 4 else { return "length \(bytes.count)" }
            guard bytes[12..<16].elementsEqual([0x81, 0] + Frames.be16(2048 + number)) else { return "tag" }
            bytes.removeSubrange(12..<16)
            let host = MACAddress(rawValue: bench_destination(UInt32(flow)))
            addresses = Array(host.bytes) + Array(Site.gatewayMAC.bytes)
        }
        guard bytes[0..<12].elementsEqual(addresses) else { return "addresses" }
        guard bytes[22] == 63, Frames.sum(bytes[14..<34]) == 0xFFFF else { return "TTL or its checksum" }
        let ends = Array(IPv4Address(rawValue: 0x0A00_0000 + UInt32(flow)).bytes) + Array(target(flow).bytes)
        guard bytes[26..<34].elementsEqual(ends) else { return "inner addresses" }
        return payloadFault(of: bytes, flow: flow)
    }

    private func arpFault(of frame: [UInt8], port: UInt16, flow: Int) -> String? {
        guard port == Site.access, frame.count == 60 else { return "length \(frame.count)" }
        let host = flow & (sources - 1)
        let asker = Array(MACAddress(rawValue: bench_source(UInt32(host))).bytes)
        let isGateway = special == "gateway"
        let answer = isGateway ? Site.gatewayMAC : MACAddress(rawValue: bench_destination(UInt32(flow)))
        guard frame[0..<14].elementsEqual(asker + Array(answer.bytes) + [8, 6]) else { return "Ethernet header" }
        let asked = Array((isGateway ? Site.gatewayAddress : target(flow)).bytes)
        let own = Array(IPv4Address(rawValue: 0x0A00_0000 + UInt32(host)).bytes)
        let reply = [0, 1, 8, 0, 6, 4, 0, 2] + Array(answer.bytes) + asked + asker + own
        return frame[14..<42].elementsEqual(reply) ? nil : "reply"
    }

    /// The outer headers of a frame that leaves for a VTEP.
    private func outerFault(of frame: [UInt8], vtep: Int, vni: Int, size: Int) -> String? {
        let udp = isIPv6 ? 54 : 34
        let length = size + udp + 16
        guard frame.count == length else { return "length \(frame.count)" }
        let ethernet = Array(Site.nextHop.bytes) + Array(Site.underlayMAC.bytes)
        guard frame[0..<12].elementsEqual(ethernet) else { return "next hop" }
        let ends: [UInt8]
        switch Site.remote(vtep, isIPv6: isIPv6) {
        case .v4(let remote): ends = Array(Site.local4.bytes) + Array(remote.bytes)
        case .v6(let remote): ends = Array(Site.local6.bytes) + Array(remote.bytes)
        }
        guard frame[(udp - ends.count)..<udp].elementsEqual(ends) else { return "VTEP" }
        let lengths = isIPv6
            ? frame[18..<20].elementsEqual(Frames.be16(length - 54))
            : frame[16..<18].elementsEqual(Frames.be16(length - 14))
        guard lengths, frame[(udp + 4)..<(udp + 6)].elementsEqual(Frames.be16(length - udp)) else {
            return "lengths"
        }
        guard frame[udp] >= 0xC0, frame[(udp + 2)..<(udp + 4)].elementsEqual(Frames.be16(4789)) else {
            return "ports"
        }
        let vxlan = [8, 0, 0, 0, UInt8(vni >> 16)] + Frames.be16(vni & 0xFFFF) + [0]
        guard frame[(udp + 8)..<(udp + 16)].elementsEqual(vxlan) else { return "VXLAN header" }
        if !isIPv6 { return Frames.sum(frame[14..<34]) == 0xFFFF ? nil : "IPv4 checksum" }
        let pseudo = frame[22..<54] + Frames.be16(length - 54) + [0, 17]
        guard frame[60] | frame[61] != 0, Frames.sum(pseudo + frame[54...]) == 0xFFFF else { return "UDP checksum" }
        return nil
    }
}
