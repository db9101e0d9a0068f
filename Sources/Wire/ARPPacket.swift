// ARP and RARP for IPv4 over Ethernet (RFC 826, RFC 903, RFC 5227).

/// View of the 28 bytes of an ARP or RARP packet for IPv4 over Ethernet.
///
///     0 hardware type  2 protocol type  4 hardware length  5 protocol length  6 operation
///     8 sender MAC  14 sender address  18 target MAC  24 target address
public struct ARPPacket: HeaderView {
    @inlinable public static var byteCount: Int { 28 }
    @usableFromInline let base: UnsafeMutableRawPointer
    @inlinable @inline(__always) public init(at base: UnsafeMutableRawPointer) { self.base = base }

    /// Operations (IANA arp-parameters).
    public enum Operation {
        @inlinable public static var request: UInt16 { 1 }
        @inlinable public static var reply: UInt16 { 2 }
        @inlinable public static var reverseRequest: UInt16 { 3 }
        @inlinable public static var reverseReply: UInt16 { 4 }
    }

    /// Ethernet (1), IPv4, six and four bytes: the first six bytes as they lie in memory.
    @inlinable static var ethernetIPv4: UInt64 { 0x0406_0008_0100 }

    @inlinable @inline(__always)
    public var isEthernetIPv4: Bool { base[raw64: 0] & 0xFFFF_FFFF_FFFF == ARPPacket.ethernetIPv4 }
    @inlinable @inline(__always) public var operation: UInt16 { base[be16: 6] }
    @inlinable @inline(__always)
    public var senderMAC: MACAddress { MACAddress(rawValue: base[raw64: 8]) }
    /// As loaded from memory.
    @inlinable @inline(__always) public var senderRaw: UInt32 { base[raw32: 14] }
    @inlinable @inline(__always)
    public var targetMAC: MACAddress { MACAddress(rawValue: base[raw64: 18]) }
    /// As loaded from memory.
    @inlinable @inline(__always) public var targetRaw: UInt32 { base[raw32: 24] }
    @inlinable public var sender: IPv4Address { IPv4Address(rawValue: base[be32: 14]) }
    @inlinable public var target: IPv4Address { IPv4Address(rawValue: base[be32: 24]) }

    /// What the packet of which `available` bytes can be read at `base` says, if it is well formed.
    @inlinable
    public static func parse(
        at base: UnsafeMutableRawPointer, available: Int, isReverse: Bool
    ) -> Reading {
        guard available >= byteCount else { return .malformed }
        let packet = ARPPacket(at: base)
        guard packet.isEthernetIPv4 else { return .malformed }
        let sender = packet.senderMAC
        if sender.isMulticast || sender.isZero { return .malformed }
        let operation = packet.operation
        if isReverse {
            if operation == Operation.reverseRequest || operation == Operation.reverseReply {
                return .reverse
            }
            return .malformed
        }
        guard operation == Operation.request || operation == Operation.reply else { return .malformed }
        let raw = packet.senderRaw
        if raw == 0 { return operation == Operation.request ? .probe : .malformed }
        if !IPv4Scope.isHost(raw: raw) { return .malformed }
        if raw == packet.targetRaw { return .announcement }
        return operation == Operation.request ? .request : .reply
    }

    /// What an ARP packet means to a bridge that snoops and answers.
    @frozen public enum Reading: Equatable, Sendable {
        /// Asks who has the target address; the sender has its own.
        case request
        case reply
        /// The sender's address is 0: it asks whether the target is in use (RFC 5227 section 2.1.1).
        case probe
        /// Sender and target address are the same, as request or reply: gratuitous ARP, or an
        /// announcement (RFC 5227 section 2.3).
        case announcement
        /// RARP: only the sender's MAC says something.
        case reverse
        /// Too short, not IPv4 over Ethernet, an operation that is not the EtherType's, or a sender
        /// that cannot be a host.
        case malformed
    }

    /// Writes all 28 bytes; addresses as they lie in memory.
    @inlinable
    public static func write(
        at base: UnsafeMutableRawPointer, operation: UInt16, senderMAC: MACAddress, senderRaw: UInt32,
        targetMAC: MACAddress, targetRaw: UInt32
    ) {
        base[raw64: 0] = ethernetIPv4 | UInt64(operation.bigEndian) &<< 48
        base[raw64: 8] = senderMAC.rawValue | UInt64(senderRaw & 0xFFFF) &<< 48
        base[raw16: 16] = UInt16(truncatingIfNeeded: senderRaw &>> 16)
        // Two bytes too many, which the address behind it overwrites.
        base[raw64: 18] = targetMAC.rawValue
        base[raw32: 24] = targetRaw
    }

    /// Turns a request or a probe around: the reply that says that its target address is at `mac`.
    @inlinable
    public func answer(with mac: MACAddress) {
        ARPPacket.write(
            at: base, operation: Operation.reply, senderMAC: mac, senderRaw: targetRaw,
            targetMAC: senderMAC, targetRaw: senderRaw)
    }
}
