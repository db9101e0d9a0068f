// DHCP for IPv4: what a server's acknowledgement says about one host (RFC 2131, RFC 2132).

/// Reads DHCP messages. Fields as in BOOTP (RFC 951):
///
///     0 op  1 htype  2 hlen  16 yiaddr  28 chaddr (16 bytes)  236 magic cookie  240 options
public enum DHCPMessage {
    /// A lease that a server has acknowledged.
    @frozen public struct Acknowledgement: Equatable, Sendable {
        /// As loaded from memory.
        public var addressRaw: UInt32
        public var mac: MACAddress
        @inlinable init(addressRaw: UInt32, mac: MACAddress) {
            self.addressRaw = addressRaw
            self.mac = mac
        }
    }

    @inlinable public static var serverPort: UInt16 { 67 }
    @inlinable public static var clientPort: UInt16 { 68 }
    /// Up to and including the magic cookie.
    @inlinable public static var headerByteCount: Int { 240 }
    /// Most options that are looked at; real messages have about ten.
    @inlinable static var maximumOptionCount: Int { 64 }

    /// Whether a UDP header is that of a server's message to a client.
    @inlinable @inline(__always)
    public static func isToClient(udp base: UnsafeMutableRawPointer) -> Bool {
        base[raw32: 0] == (UInt32(67) &<< 16 | 68).bigEndian
    }

    /// The lease in the message of `available` bytes at `base`, what follows the UDP header; nil when
    /// it is no acknowledgement of an address for an Ethernet host.
    ///
    /// The message type is looked for in the options field alone, where servers put it even when
    /// other options overflow into `file` and `sname` (RFC 2131 section 4.1).
    @inlinable
    public static func acknowledgement(
        at base: UnsafeMutableRawPointer, available: Int
    ) -> Acknowledgement? {
        // BOOTREPLY, Ethernet, six bytes; and the cookie of RFC 1497.
        guard available > headerByteCount, base[be32: 0] & 0xFFFF_FF00 == 0x0201_0600,
            base[be32: 236] == 0x6382_5363, messageType(base, available) == 5
        else { return nil }
        let address = base[raw32: 16]
        let mac = MACAddress(rawValue: base[raw64: 28])
        // An answer to DHCPINFORM acknowledges no address.
        guard IPv4Scope.isHost(raw: address), !mac.isMulticast, !mac.isZero else { return nil }
        return Acknowledgement(addressRaw: address, mac: mac)
    }

    /// The value of option 53; 0 without one.
    @inlinable
    static func messageType(_ base: UnsafeMutableRawPointer, _ available: Int) -> UInt8 {
        var offset = headerByteCount
        var count = 0
        while offset < available, count < maximumOptionCount {
            let code = base[byte: offset]
            if code == 255 { return 0 }
            if code == 0 {
                offset = offset &+ 1
                continue
            }
            guard offset &+ 2 <= available else { return 0 }
            let length = Int(base[byte: offset &+ 1])
            guard offset &+ 2 &+ length <= available else { return 0 }
            if code == 53 { return length == 1 ? base[byte: offset &+ 2] : 0 }
            offset = offset &+ 2 &+ length
            count = count &+ 1
        }
        return 0
    }
}
