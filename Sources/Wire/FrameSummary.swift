// A frame in words: one line per header, for traces and failing tests.

/// Describes frames; never traps, whatever the bytes are.
public enum FrameSummary {
    /// One line per header, outermost first; the last line says what is left or what is missing.
    public static func lines(of bytes: [UInt8]) -> [String] {
        // The views take mutable pointers; they only read here.
        var copy = bytes
        return copy.withUnsafeMutableBytes { buffer in
            guard let base = buffer.baseAddress else { return ["no bytes"] }
            var lines: [String] = []
            ethernet(base, buffer.count, &lines)
            return lines
        }
    }
    public static func text(of bytes: [UInt8]) -> String {
        lines(of: bytes).joined(separator: "\n")
    }

    private static func short(_ name: String, _ count: Int, _ needed: Int) -> String {
        "\(name): \(count) bytes of \(needed)"
    }
    private static func hex(_ value: some BinaryInteger, _ digits: Int) -> String {
        let text = String(value, radix: 16)
        return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
    }
    private static func rest(_ at: UnsafeMutableRawPointer, _ count: Int) -> String {
        let shown = min(count, 16)
        let bytes = (0..<shown).map { hex(at[byte: $0], 2).dropFirst(2) }.joined(separator: " ")
        return "data \(count) bytes" + (shown > 0 ? ": " + bytes : "") + (shown < count ? " …" : "")
    }

    private static func ethernet(
        _ at: UnsafeMutableRawPointer, _ count: Int, _ lines: inout [String]
    ) {
        guard count >= EthernetHeader.byteCount else {
            lines.append(short("Ethernet", count, EthernetHeader.byteCount))
            return
        }
        let header = EthernetHeader(at: at)
        lines.append("Ethernet \(header.source) > \(header.destination) \(hex(header.etherType, 4))")
        var offset = 12
        while VLANTag.isTag(raw: at[raw16: offset]), offset < 12 + 4 * 4 {
            guard offset + 6 <= count else {
                lines.append(short("VLAN", count - offset - 2, 4))
                return
            }
            let tag = VLANTag(at: at + offset)
            lines.append("VLAN \(tag.vlanID) priority \(tag.priority) \(hex(at[be16: offset + 4], 4))")
            offset += 4
        }
        let type = at[be16: offset]
        let start = at + offset + 2
        let left = count - offset - 2
        if type == EtherType.ipv4 {
            ipv4(start, left, &lines)
        } else if type == EtherType.ipv6 {
            ipv6(start, left, &lines)
        } else if type == EtherType.arp {
            lines.append(arp(start, left))
        } else {
            lines.append(rest(start, left))
        }
    }

    private static func ipv4(_ at: UnsafeMutableRawPointer, _ count: Int, _ lines: inout [String]) {
        guard count >= IPv4Header.byteCount else {
            lines.append(short("IPv4", count, IPv4Header.byteCount))
            return
        }
        let header = IPv4Header(at: at)
        let size = header.headerByteCount
        var line = "IPv4 \(header.source) > \(header.destination) protocol \(header.protocolNumber)"
            + " length \(header.totalLength) ttl \(header.timeToLive)"
        if header.version != 4 { line += " VERSION \(header.version)" }
        if size != 20 { line += " header \(size)" }
        if header.trafficClass != 0 { line += " tos \(hex(header.trafficClass, 2))" }
        if header.dontFragment { line += " DF" }
        if header.isFragment { line += " fragment" }
        if size >= 20, size <= count, !header.isChecksumValid(headerByteCount: size) {
            line += " BAD CHECKSUM"
        }
        lines.append(line)
        guard size >= 20, size <= count else { return }
        let end = min(count, max(size, Int(header.totalLength)))
        if header.isFragment {
            lines.append(rest(at + size, end - size))
        } else {
            upper(header.protocolNumber, at + size, end - size, &lines)
        }
        if end < count { lines.append("padding \(count - end) bytes") }
    }

    private static func ipv6(_ at: UnsafeMutableRawPointer, _ count: Int, _ lines: inout [String]) {
        guard count >= IPv6Header.byteCount else {
            lines.append(short("IPv6", count, IPv6Header.byteCount))
            return
        }
        let header = IPv6Header(at: at)
        var line = "IPv6 \(header.source) > \(header.destination) next \(header.nextHeader)"
            + " length \(header.payloadLength) hops \(header.hopLimit)"
        if header.version != 6 { line += " VERSION \(header.version)" }
        lines.append(line)
        let end = min(count, IPv6Header.byteCount + Int(header.payloadLength))
        switch IPv6Walk(at: at, available: end) {
        case .upperLayer(let number, let offset):
            if offset > IPv6Header.byteCount { lines.append("IPv6 extensions \(offset - 40) bytes") }
            upper(number, at + offset, end - offset, &lines)
        case .fragment(let number): lines.append("IPv6 fragment of protocol \(number)")
        case .truncated: lines.append("IPv6 extensions truncated")
        case .tooLong: lines.append("IPv6 extensions: more than \(IPv6Walk.maximumHeaderCount)")
        }
        if end < count { lines.append("padding \(count - end) bytes") }
    }

    private static func upper(
        _ number: UInt8, _ at: UnsafeMutableRawPointer, _ count: Int, _ lines: inout [String]
    ) {
        if number == IPProtocol.tcp, count >= 20 {
            lines.append("TCP \(at[be16: 0]) > \(at[be16: 2]) checksum \(hex(at[be16: 16], 4))")
            return
        }
        guard number == IPProtocol.udp else {
            lines.append(rest(at, count))
            return
        }
        guard count >= UDPHeader.byteCount else {
            lines.append(short("UDP", count, UDPHeader.byteCount))
            return
        }
        let header = UDPHeader(at: at)
        lines.append(
            "UDP \(header.sourcePort) > \(header.destinationPort) length \(header.length)"
                + " checksum \(hex(UInt16(bigEndian: header.checksumRaw), 4))")
        let isVXLAN = header.destinationPort == VXLANHeader.defaultPort
        if isVXLAN, count >= UDPHeader.byteCount + VXLANHeader.byteCount {
            let vxlan = VXLANHeader(at: at + UDPHeader.byteCount)
            lines.append(
                "VXLAN vni \(vxlan.vni) flags \(hex(at[byte: 8], 2))" + (vxlan.hasVNI ? "" : " NO I FLAG"))
            ethernet(at + 16, count - 16, &lines)
        } else {
            lines.append(rest(at + UDPHeader.byteCount, count - UDPHeader.byteCount))
        }
    }

    private static func arp(_ at: UnsafeMutableRawPointer, _ count: Int) -> String {
        guard count >= 28 else { return short("ARP", count, 28) }
        let sender = IPv4Address(rawValue: at[be32: 14])
        let target = IPv4Address(rawValue: at[be32: 24])
        let mac = MACAddress(bytes: (8..<14).map { at[byte: $0] })
        return "ARP operation \(at[be16: 6]) \(sender) at \(mac) for \(target)"
    }
}
