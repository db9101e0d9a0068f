// Header views and the IPv6 walk against bytes and rules of the RFCs.

import TestSupport
import Testing
import Wire

/// Runs `body` on a copy of `bytes` in memory of exactly that size.
func withBytes<T>(_ bytes: [UInt8], _ body: (UnsafeMutableRawPointer) throws -> T) rethrows -> T {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: max(1, bytes.count), alignment: 16)
    defer { memory.deallocate() }
    memory.copyMemory(from: bytes, byteCount: bytes.count)
    return try body(memory)
}
let macA = MACAddress(2, 0, 0, 0, 0, 0xA)
let macB = MACAddress(2, 0, 0, 0, 0, 0xB)
let v6A = IPv6Address(high: 0x2001_0DB8 << 32, low: 1)
let v6B = IPv6Address(high: 0x2001_0DB8 << 32, low: 2)

@Suite("Headers") struct HeaderTests {
    @Test("Ethernet and 802.1Q fields are read from where they lie")
    func ethernet() {
        let frame = Frame.ethernet(to: macB, from: macA, type: 0x0800, [1, 2, 3, 4])
        withBytes(frame) { base in
            let header = EthernetHeader(at: base)
            #expect(header.destination == macB)
            #expect(header.source == macA)
            #expect(header.etherType == 0x0800)
        }
        withBytes(Frame.tagged(0xABC, priority: 5, frame)) { base in
            let tag = VLANTag(at: base + 12)
            #expect(EthernetHeader(at: base).etherType == EtherType.vlan)
            #expect(tag.vlanID == 0xABC)
            #expect(tag.priority == 5)
        }
    }

    @Test("popping a tag and pushing it again give the frame back")
    func tags() {
        let frame = Frame.ethernet(to: macB, from: macA, type: 0x0800, [1, 2, 3, 4])
        let tagged = Frame.tagged(20, frame)
        withBytes(tagged) { base in
            VLANTag.pop(base)
            #expect(Array(UnsafeRawBufferPointer(start: base + 4, count: frame.count)) == frame)
            VLANTag.push(base + 4, vlanID: 20)
            #expect(Array(UnsafeRawBufferPointer(start: base, count: tagged.count)) == tagged)
        }
    }

    @Test("IPv4 fields, with and without options, and the header checksum")
    func ipv4() {
        var options = Frame.IPv4Options()
        for count in [0, 4, 40] {
            options.options = [UInt8](repeating: 1, count: count)
            let packet = Frame.ipv4(
                from: Frame.hostA, to: Frame.hostB, number: 17, [1, 2, 3], options)
            withBytes(packet) { base in
                let header = IPv4Header(at: base)
                #expect(header.version == 4)
                #expect(header.headerByteCount == 20 + count)
                #expect(Int(header.totalLength) == packet.count)
                #expect(header.source == Frame.hostA)
                #expect(header.destination == Frame.hostB)
                #expect(header.protocolNumber == 17)
                #expect(!header.isFragment)
                #expect(header.isChecksumValid(headerByteCount: 20 + count))
                for bit in 0..<(8 * (20 + count)) {
                    base[byte: bit / 8] ^= 1 << UInt8(bit % 8)
                    #expect(!header.isChecksumValid(headerByteCount: 20 + count), "bit \(bit)")
                    base[byte: bit / 8] ^= 1 << UInt8(bit % 8)
                }
            }
        }
    }

    @Test("a fragment is any packet with MF or an offset; DF is none",
        arguments: [
            (UInt16(0), false), (0x4000, false), (0x2000, true), (1, true), (0x1FFF, true), (0x8000, false),
        ])
    func fragments(word: UInt16, isFragment: Bool) {
        var options = Frame.IPv4Options()
        options.fragment = word
        withBytes(Frame.ipv4(from: Frame.hostA, to: Frame.hostB, number: 17, [], options)) {
            #expect(IPv4Header(at: $0).isFragment == isFragment)
        }
    }

    @Test("IPv6 extension headers are walked to the upper layer, a fragment, an end or the bound")
    func walk() {
        func result(_ first: UInt8, _ bytes: [UInt8], available: Int? = nil) -> IPv6Walk {
            let packet = Frame.ipv6(from: v6A, to: v6B, next: first, bytes)
            return withBytes(packet) { IPv6Walk(at: $0, available: available ?? packet.count) }
        }
        let udp = [UInt8](repeating: 0, count: 8)
        #expect(result(17, udp) == .upperLayer(protocolNumber: 17, offset: 40))
        #expect(result(58, udp) == .upperLayer(protocolNumber: 58, offset: 40))
        #expect(result(59, []) == .upperLayer(protocolNumber: 59, offset: 40))
        let hop: [UInt8] = [17, 0, 1, 4, 0, 0, 0, 0]
        #expect(result(0, hop + udp) == .upperLayer(protocolNumber: 17, offset: 48))
        #expect(result(0, hop, available: 47) == .truncated)
        // Longer than what is there.
        #expect(result(0, [17, 200, 0, 0, 0, 0, 0, 0]) == .truncated)
        // Authentication header: length in 4-byte units, less two.
        let authentication: [UInt8] = [17, 4] + [UInt8](repeating: 0, count: 22)
        #expect(result(51, authentication + udp) == .upperLayer(protocolNumber: 17, offset: 64))
        #expect(result(44, [17, 0, 0, 1, 0, 0, 0, 1] + udp) == .fragment(protocolNumber: 17))
        #expect(result(44, [17, 0, 0xFF, 0xF8, 0, 0, 0, 1] + udp) == .fragment(protocolNumber: 17))
        #expect(
            result(44, [17, 0, 0, 0, 0, 0, 0, 1] + udp) == .upperLayer(protocolNumber: 17, offset: 48))
        let loop: [UInt8] = [0, 0, 1, 4, 0, 0, 0, 0]
        let chain = (0..<20).flatMap { _ in loop }
        #expect(result(0, chain) == .tooLong)
    }
}

@Suite("Frame summary") struct FrameSummaryTests {
    @Test("every header of a VXLAN packet has its line")
    func vxlan() {
        let inner = Frame.tagged(20, Frame.host(to: macB, from: macA))
        let vxlan = Frame.VXLAN(from: .v4(Frame.hostA), to: .v4(Frame.hostB), vni: 110)
        let lines = FrameSummary.lines(of: vxlan.frame(inner))
        let names = lines.map { $0.prefix { $0 != " " } }
        #expect(names == ["Ethernet", "IPv4", "UDP", "VXLAN", "Ethernet", "VLAN", "IPv4", "UDP", "data"])
        guard lines.count == 9 else { return }
        #expect(lines[3] == "VXLAN vni 110 flags 0x08")
        #expect(
            lines[1] == "IPv4 192.168.0.1 > 192.168.0.2 protocol 17 length \(36 + inner.count) ttl 64")
        #expect(lines[5] == "VLAN 20 priority 0 0x0800")
    }
}
