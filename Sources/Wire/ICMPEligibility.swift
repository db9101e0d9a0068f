// Which packets may cause an ICMP error (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7, RFC 4443 section 2.4).

extension IPv4Header {
    /// Whether an ICMP error may answer this packet, of which `available` bytes can be read (at least
    /// 20).
    ///
    /// Not those to a group or to everybody, from what is no host's address, fragments but the first,
    /// and ICMP that is no query (unknown types count as errors). The frame's own destination is the
    /// caller's to judge, and directed broadcasts of subnets that he knows.
    @inlinable
    public func mayCauseError(available: Int) -> Bool {
        let destination = destinationRaw
        if IPv4Scope.isMulticast(raw: destination) || destination == UInt32.max { return false }
        if !IPv4Scope.isHost(raw: sourceRaw) { return false }
        if base[raw16: 6] & UInt16(0x1FFF).bigEndian != 0 { return false }
        if protocolNumber == IPProtocol.icmp {
            let start = headerByteCount
            guard start >= IPv4Header.byteCount, start < available else { return false }
            return ICMPv4.isQuery(type: base[byte: start])
        }
        return true
    }
}

extension IPv6Header {
    /// Whether an ICMPv6 error may answer this packet, of which `available` bytes can be read (at
    /// least 40).
    ///
    /// "Packet too big" alone may also answer multicast, for path MTU discovery.
    @inlinable
    public func mayCauseError(available: Int, isPacketTooBig: Bool = false) -> Bool {
        if !RawIPv6(at: base + 8).isHost { return false }
        if RawIPv6(at: base + 24).isMulticast && !isPacketTooBig { return false }
        switch IPv6Walk(at: base, available: available) {
        case .upperLayer(let number, let offset):
            if number != IPProtocol.icmpv6 { return true }
            guard offset < available else { return false }
            let type = base[byte: offset]
            return type >= 128 && type != ICMPv6.redirect
        case .fragment(let number): return number != IPProtocol.icmpv6
        case .truncated, .tooLong: return false
        }
    }
}
