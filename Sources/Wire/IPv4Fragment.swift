// Cutting an IPv4 packet into fragments (RFC 791 sections 2.3 and 3.2).

public import CLinux

/// Goes through the fragments of one packet, which may itself be a fragment.
public struct IPv4Fragment: Sendable {
    /// Offsets count in units of eight bytes.
    @inlinable public static var unit: Int { 8 }

    @usableFromInline let headerByteCount: Int
    /// Of fragments but the first: options that are not to be copied are left out.
    @usableFromInline let laterHeaderByteCount: Int
    @usableFromInline let totalByteCount: Int
    @usableFromInline let mtu: Int
    /// Flags and offset of the packet itself.
    @usableFromInline let word: UInt16
    /// Where the next fragment's payload starts, from the IPv4 header on.
    @usableFromInline var position: Int

    /// - Parameters:
    ///   - ip: the header, valid, all its bytes readable.
    ///   - byteCount: of the whole packet.
    ///   - mtu: largest fragment, at least eight bytes more than the header.
    @inlinable
    public init(of ip: UnsafeMutableRawPointer, byteCount: Int, mtu: Int) {
        let header = IPv4Header(at: ip)
        headerByteCount = header.headerByteCount
        laterHeaderByteCount = IPv4Header.byteCount
            &+ IPv4Fragment.copiedOptions(of: ip, headerByteCount: headerByteCount, to: nil)
        totalByteCount = byteCount
        self.mtu = mtu
        word = ip[be16: 6]
        position = headerByteCount
    }

    @inlinable public var isAtEnd: Bool { position >= totalByteCount }
    @inlinable var isFirst: Bool { position == headerByteCount }
    @inlinable var currentHeaderByteCount: Int { isFirst ? headerByteCount : laterHeaderByteCount }
    /// Where the next fragment's payload begins, from the packet's IPv4 header on.
    @inlinable public var payloadStart: Int { position }
    @inlinable public var payloadByteCount: Int {
        let room = mtu &- currentHeaderByteCount
        let rest = totalByteCount &- position
        // The last one need not be a multiple of eight bytes.
        return rest <= room ? rest : room & ~(IPv4Fragment.unit &- 1)
    }
    /// Bytes of the next fragment.
    @inlinable public var byteCount: Int { currentHeaderByteCount &+ payloadByteCount }

    /// Writes the next fragment's header; returns its size.
    @inlinable
    public func writeHeader(at target: UnsafeMutableRawPointer, from ip: UnsafeMutableRawPointer) -> Int {
        let size = currentHeaderByteCount
        if isFirst {
            pe_copy(target, ip, size)
        } else {
            pe_copy(target, ip, IPv4Header.byteCount)
            _ = IPv4Fragment.copiedOptions(
                of: ip, headerByteCount: headerByteCount, to: target + IPv4Header.byteCount)
            target[byte: 0] = 0x40 | UInt8(truncatingIfNeeded: size &>> 2)
        }
        let count = payloadByteCount
        let offset = UInt16(truncatingIfNeeded: (position &- headerByteCount) &>> 3)
        let more: UInt16 = position &+ count < totalByteCount ? 0x2000 : word & 0x2000
        target[be16: 2] = UInt16(truncatingIfNeeded: size &+ count)
        target[be16: 6] = word & 0xC000 | more | (word &+ offset) & 0x1FFF
        IPv4Header(at: target).setChecksum(headerByteCount: size)
        return size
    }
    @inlinable public mutating func advance() { position = position &+ payloadByteCount }

    /// Copies the options that every fragment carries (the copied flag, RFC 791 section 3.1), padded
    /// to four bytes; returns how many bytes they take.
    @inlinable
    static func copiedOptions(
        of ip: UnsafeMutableRawPointer, headerByteCount: Int, to target: UnsafeMutableRawPointer?
    ) -> Int {
        var offset = IPv4Header.byteCount
        var count = 0
        while offset < headerByteCount {
            let type = ip[byte: offset]
            if type == 0 { break }
            var size = 1
            if type != 1 {
                guard offset &+ 1 < headerByteCount else { break }
                size = Int(ip[byte: offset &+ 1])
                // What is broken from here on is left out.
                guard size >= 2, offset &+ size <= headerByteCount else { break }
            }
            if type & 0x80 != 0 {
                if let target { pe_copy(target + count, ip + offset, size) }
                count = count &+ size
            }
            offset = offset &+ size
        }
        while count & 3 != 0 {
            if let target { target[byte: count] = 0 }
            count = count &+ 1
        }
        return count
    }
}
