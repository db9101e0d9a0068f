// The frames of a row as templates for the source, which writes what differs from flow to flow.

import CBench
import Wire

/// Addresses and numbers that tables and frames agree on.
enum Site {
    static let underlay: UInt16 = 0, access: UInt16 = 1
    /// The exception port of the underlay port.
    static let host: UInt16 = 2
    static let firstVNI: UInt32 = 0x1000, unknownVNI: UInt32 = 0xF000
    static let local4 = IPv4Address(rawValue: 0x6441_0001)
    static let local6 = IPv6Address(high: 0xFD00_0065 << 32, low: 1)
    /// Remote VTEPs end in this and what follows; others are unknown.
    static let firstVTEP: UInt32 = 0x0200, unknownVTEP: UInt32 = 0xF000
    static let vteps = 64
    static let sources = 1024
    static let underlayMAC = MACAddress(2, 0, 0, 0, 0, 1), nextHop = MACAddress(2, 0, 0, 0, 0, 2)
    static let routerMAC = MACAddress(2, 0, 0, 0, 0x64, 1)
    static let gatewayMAC = MACAddress(0, 0xF3, 0, 0, 0, 1)
    static let gatewayAddress = IPv4Address(rawValue: 0x0AC0_0001)
    /// Destinations of flows: hosts, and, one to a prefix, prefixes of this length.
    static let hosts: UInt32 = 0x0A80_0000, prefixes: UInt32 = 0x1000_0000
    static let prefixLength = 24

    static func remoteRouterMAC(_ vtep: Int) -> MACAddress {
        MACAddress(2, 0, 0, 0x65, UInt8(vtep >> 8 & 255), UInt8(vtep & 255))
    }
    static func remote(_ index: Int, isIPv6: Bool) -> IPAddress {
        let low = firstVTEP + UInt32(index)
        return isIPv6
            ? .v6(IPv6Address(high: 0xFD00_0065 << 32, low: UInt64(low)))
            : .v4(IPv4Address(rawValue: 0x6441_0000 + low))
    }
}

extension Row {
    /// How many flows there are: as many as entries, or enough for many sources.
    var flows: Int {
        switch journey {
        case .floodCopy, .punt, .drop: Site.sources
        default: entries
        }
    }
    var sources: Int { 1 << (Int.bitWidth - 1 - min(Site.sources, flows).leadingZeroBitCount) }
    var isTagged: Bool { domains > 1 && !isFromFabric }
    var isFromFabric: Bool { journey == .null ? special == "outer" : journey.isFromFabric }
    /// The port that receives.
    var port: UInt16 { isFromFabric || journey == .punt ? Site.underlay : Site.access }
    /// Flow `flow`'s destination.
    func target(_ flow: Int) -> IPv4Address {
        IPv4Address(rawValue: journey == .l3Prefix
            ? Site.prefixes + UInt32(flow) << UInt32(32 - Site.prefixLength) : Site.hosts + UInt32(flow))
    }

    /// What the source gives, from flow 0 on.
    var traffic: bench_traffic {
        var result = bench_traffic()
        let frames = frame.lengths.map { template($0) }
        withUnsafeMutableBytes(of: &result.frames) { bytes in
            let records = bytes.bindMemory(to: bench_frame.self)
            for (record, frame) in zip(records.indices, frames) {
                records[record].length = UInt32(frame.count)
                let size = Int(BENCH_HEADER)
                let head = frame + [UInt8](repeating: Frames.payload, count: max(0, size - frame.count))
                withUnsafeMutableBytes(of: &records[record].header) { $0.copyBytes(from: head.prefix(size)) }
            }
        }
        withUnsafeMutableBytes(of: &result.pattern) { $0.copyBytes(from: frame.pattern.map(UInt8.init)) }
        result.pattern_length = UInt32(frame.pattern.count)
        result.kind = journey == .arpReply ? BENCH_ARP : journey == .punt ? BENCH_FIXED : BENCH_FLOWS
        result.buffers = journey == .drop || special == "pool"
            ? BENCH_ALLOCATED : journey == .floodCopy ? BENCH_REPLICATED : BENCH_RECYCLED
        result.copies = journey == .floodCopy ? UInt32(entries) : 0
        result.burst = UInt32(burst)
        result.outer = isFromFabric ? (isIPv6 ? 70 : 50) : 0
        result.flows = UInt32(flows)
        result.sources = UInt32(sources)
        result.vteps = UInt32(Site.vteps)
        result.vnis = UInt32(domains)
        result.tagged = isTagged ? 1 : 0
        result.checksum = hasChecksum ? 1 : 0
        result.outer_checksum = hasOuterChecksum ? 1 : 0
        result.vni = special == "unknown-vni" ? Site.unknownVNI : Site.firstVNI
        result.vtep = special == "unknown-vtep" ? Site.unknownVTEP : Site.firstVTEP
        if journey.isRouted || journey == .arpReply && special.isEmpty { result.destinations = target(0).rawValue }
        if journey == .l3Prefix { result.destination_shift = UInt32(32 - Site.prefixLength) }
        switch journey {
        case .l3Decap: result.router = Site.routerMAC.rawValue
        case .l3Encap, .l3Prefix, .interSubnet: result.router = Site.gatewayMAC.rawValue
        case .floodCopy: result.router = MACAddress.broadcast.rawValue
        default: result.router = 0
        }
        return result
    }

    /// Flow 0's frame, `count` bytes without FCS and outer headers.
    private func template(_ count: Int) -> [UInt8] {
        switch journey {
        case .arpReply: return Frames.arpRequest(for: special == "gateway" ? Site.gatewayAddress : target(0))
        case .punt: return Frames.toHost(count: count, isIPv6: isIPv6)
        default: break
        }
        let destination = journey.isRouted ? target(0) : IPv4Address(rawValue: 0x0A01_0001)
        let plain = Frames.udp(count: count, to: destination, hasChecksum: hasChecksum)
        if isFromFabric {
            let frame = Frames.outer(count: plain.count, isIPv6: isIPv6) + plain
            return hasOuterChecksum ? Frames.withOuterChecksum(frame) : frame
        }
        return isTagged ? plain[0..<12] + [0x81, 0, 0, 1] + plain[12...] : plain
    }
}

/// Frames byte by byte.
enum Frames {
    static let payload: UInt8 = 0x5A
    static func be16(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }
    /// The one's complement sum of big-endian words.
    static func sum(_ bytes: some Sequence<UInt8>) -> Int {
        var sum = 0, isHigh = true
        for byte in bytes {
            sum += isHigh ? Int(byte) << 8 : Int(byte)
            isHigh.toggle()
        }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + sum >> 16 }
        return sum
    }
    private static func ipv4(count: Int, number: UInt8, from: IPv4Address, to: IPv4Address) -> [UInt8] {
        var header = [0x45, 0] + be16(count) + [0, 0, 0x40, 0, 64, number, 0, 0]
        header += Array(from.bytes) + Array(to.bytes)
        header.replaceSubrange(10..<12, with: be16(~sum(header) & 0xFFFF))
        return header
    }
    /// Ethernet without addresses, IPv4 from 10.0.0.0, UDP from port 0 to 9.
    static func udp(count: Int, to: IPv4Address, hasChecksum: Bool) -> [UInt8] {
        let from = IPv4Address(rawValue: 0x0A00_0000)
        let length = be16(count - 34)
        let body = [UInt8](repeating: payload, count: count - 42)
        var checksum: [UInt8] = [0, 0]
        if hasChecksum {
            let pseudo = Array(from.bytes) + Array(to.bytes) + [0, 17] + length
            checksum = be16(~sum(pseudo + [0, 0, 0, 9] + length + [0, 0] + body) & 0xFFFF)
        }
        let head = [UInt8](repeating: 0, count: 12) + [8, 0] + ipv4(count: count - 14, number: 17, from: from, to: to)
        return head + [0, 0, 0, 9] + length + checksum + body
    }
    /// Outer headers of a received packet; the source's address ends in 0.0, which the sender overwrites.
    static func outer(count: Int, isIPv6: Bool) -> [UInt8] {
        let ethernet = Array(Site.underlayMAC.bytes) + Array(Site.nextHop.bytes)
        let udp = be16(0xC000) + be16(4789) + be16(count + 16) + [0, 0]
        let vxlan: [UInt8] = [8, 0, 0, 0, 0, 0, 0, 0]
        if isIPv6 {
            let source = IPv6Address(high: 0xFD00_0065 << 32, low: 0)
            let head: [UInt8] = [0x60, 0, 0, 0] + be16(count + 16) + [17, 64]
            return ethernet + [0x86, 0xDD] + head + Array(source.bytes) + Array(Site.local6.bytes) + udp + vxlan
        }
        let source = IPv4Address(rawValue: 0x6441_0000)
        return ethernet + [8, 0] + ipv4(count: count + 36, number: 17, from: source, to: Site.local4) + udp + vxlan
    }
    /// An IPv6 packet with its UDP checksum.
    static func withOuterChecksum(_ frame: [UInt8]) -> [UInt8] {
        let pseudo = frame[22..<54] + be16(frame.count - 54) + [0, 17]
        return frame[0..<60] + be16(~sum(pseudo + frame[54...]) & 0xFFFF) + frame[62...]
    }
    /// A host's broadcast request; its own addresses are the source's to write.
    static func arpRequest(for target: IPv4Address) -> [UInt8] {
        let ethernet = [UInt8](repeating: 0xFF, count: 6) + [UInt8](repeating: 0, count: 6) + [8, 6]
        let arp: [UInt8] = [0, 1, 8, 0, 6, 4, 0, 1] + [UInt8](repeating: 0, count: 16) + Array(target.bytes)
        return ethernet + arp + [UInt8](repeating: 0, count: 18)
    }
    /// A routing session's packet to the node's own address: TCP port 179.
    static func toHost(count: Int, isIPv6: Bool) -> [UInt8] {
        let ethernet = Array(Site.underlayMAC.bytes) + Array(Site.nextHop.bytes)
        let tcp: [UInt8] = [0xC0, 0, 0, 179, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]
        var frame: [UInt8]
        if isIPv6 {
            let source = IPv6Address(high: 0xFD00_0065 << 32, low: 0x100)
            frame = ethernet + [0x86, 0xDD, 0x60, 0, 0, 0] + be16(max(count, 74) - 54) + [6, 64]
            frame += Array(source.bytes) + Array(Site.local6.bytes) + tcp
        } else {
            let source = IPv4Address(rawValue: 0x6441_0100)
            frame = ethernet + [8, 0] + ipv4(count: count - 14, number: 6, from: source, to: Site.local4) + tcp
        }
        return frame + [UInt8](repeating: payload, count: max(0, count - frame.count))
    }
}
