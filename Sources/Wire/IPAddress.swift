// IPv4 and IPv6 addresses and prefixes as values, with their text forms (RFC 4291, RFC 5952).

/// An IPv4 address.
public struct IPv4Address: Hashable, Sendable, BitwiseCopyable, Comparable {
    /// The address as a host integer: 10.0.0.1 is 0x0A00_0001.
    public let rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Parses dotted decimal, four parts without leading zeros; nil for anything else.
    public init?(_ text: some StringProtocol) {
        var value: UInt32 = 0
        var part: UInt32 = 0
        var digits = 0
        var dots = 0
        for character in text.utf8 {
            if character == UInt8(ascii: ".") {
                guard digits > 0, dots < 3 else { return nil }
                value = value << 8 | part
                part = 0
                digits = 0
                dots += 1
            } else {
                // No zero leads: octal to some, decimal to others.
                guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(character), digits == 0 || part != 0
                else { return nil }
                part = part * 10 + UInt32(character - UInt8(ascii: "0"))
                digits += 1
                guard part <= 255 else { return nil }
            }
        }
        guard digits > 0, dots == 3 else { return nil }
        rawValue = value << 8 | part
    }

    /// The address as four bytes loaded from a packet.
    @inlinable public var networkOrder: UInt32 { rawValue.bigEndian }
    public var bytes: [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: rawValue >> (24 - 8 * $0)) } }
    public var isMulticast: Bool { rawValue >> 28 == 0xE }
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

extension IPv4Address: CustomStringConvertible {
    public var description: String { bytes.map(String.init).joined(separator: ".") }
}

/// An IPv6 address.
public struct IPv6Address: Hashable, Sendable, BitwiseCopyable, Comparable {
    /// The first and last eight bytes as host integers.
    public let high: UInt64, low: UInt64
    @inlinable public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// - Precondition: sixteen bytes.
    public init(bytes: some Collection<UInt8>) {
        precondition(bytes.count == 16, "an IPv6 address has sixteen bytes")
        var words: (UInt64, UInt64) = (0, 0)
        for (index, byte) in bytes.enumerated() {
            if index < 8 { words.0 = words.0 << 8 | UInt64(byte) } else { words.1 = words.1 << 8 | UInt64(byte) }
        }
        (high, low) = words
    }

    /// Parses the forms of RFC 4291 section 2.2, without a zone; nil for anything else.
    public init?(_ text: some StringProtocol) {
        var groups: [UInt16] = []
        var gap: Int?
        var rest = Substring(text)
        guard rest.utf8.count >= 2, rest.utf8.count <= 45 else { return nil }
        if rest.hasPrefix("::") {
            gap = 0
            rest = rest.dropFirst(2)
        } else if rest.hasPrefix(":") {
            return nil
        }
        while !rest.isEmpty {
            let part = rest.prefix { $0 != ":" }
            if part.contains(".") {
                guard part.endIndex == rest.endIndex, let v4 = IPv4Address(part) else { return nil }
                groups.append(UInt16(v4.rawValue >> 16))
                groups.append(UInt16(v4.rawValue & 0xFFFF))
                break
            }
            guard (1...4).contains(part.utf8.count), part.allSatisfy(\.isHexDigit),
                let group = UInt16(part, radix: 16)
            else { return nil }
            groups.append(group)
            rest = rest[part.endIndex...]
            if rest.isEmpty { break }
            rest = rest.dropFirst()
            if rest.hasPrefix(":") {
                guard gap == nil else { return nil }
                gap = groups.count
                rest = rest.dropFirst()
            } else if rest.isEmpty {
                return nil
            }
        }
        if let gap {
            guard groups.count < 8 else { return nil }
            groups.insert(contentsOf: [UInt16](repeating: 0, count: 8 - groups.count), at: gap)
        }
        guard groups.count == 8 else { return nil }
        high = groups[0..<4].reduce(0) { $0 << 16 | UInt64($1) }
        low = groups[4..<8].reduce(0) { $0 << 16 | UInt64($1) }
    }

    public var bytes: [UInt8] {
        (0..<16).map { UInt8(truncatingIfNeeded: ($0 < 8 ? high : low) >> (56 - 8 * ($0 & 7))) }
    }
    public var isLinkLocal: Bool { high >> 54 == 0x3FA }
    public var isMulticast: Bool { high >> 56 == 0xFF }
    /// The IPv4 address inside `::ffff:a.b.c.d`; nil for any other.
    public var v4Mapped: IPv4Address? {
        high == 0 && low >> 32 == 0xFFFF ? IPv4Address(rawValue: UInt32(truncatingIfNeeded: low)) : nil
    }
    public static func < (a: Self, b: Self) -> Bool { (a.high, a.low) < (b.high, b.low) }
}

extension IPv6Address: CustomStringConvertible {
    /// The canonical form of RFC 5952.
    public var description: String {
        if let v4 = v4Mapped { return "::ffff:\(v4)" }
        let groups = (0..<8).map { UInt16(truncatingIfNeeded: ($0 < 4 ? high : low) >> (48 - 16 * ($0 & 3))) }
        var best = (start: 0, count: 0)
        var index = 0
        while index < 8 {
            var count = 0
            while index + count < 8, groups[index + count] == 0 { count += 1 }
            if count > best.count { best = (index, count) }
            index += max(count, 1)
        }
        let text = { (range: Range<Int>) in range.map { String(groups[$0], radix: 16) }.joined(separator: ":") }
        guard best.count > 1 else { return text(0..<8) }
        return text(0..<best.start) + "::" + text((best.start + best.count)..<8)
    }
}

/// An address of either family.
public enum IPAddress: Hashable, Sendable, BitwiseCopyable {
    case v4(IPv4Address)
    case v6(IPv6Address)

    public init?(_ text: some StringProtocol) {
        if let v4 = IPv4Address(text) {
            self = .v4(v4)
        } else if let v6 = IPv6Address(text) {
            self = .v6(v6)
        } else {
            return nil
        }
    }
    /// Four or sixteen bytes in network order; nil for any other count.
    public init?(bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4: self = .v4(IPv4Address(rawValue: bytes.reduce(0) { $0 << 8 | UInt32($1) }))
        case 16: self = .v6(IPv6Address(bytes: bytes))
        default: return nil
        }
    }
    public var isV4: Bool { if case .v4 = self { true } else { false } }
    public var bytes: [UInt8] {
        switch self {
        case .v4(let address): address.bytes
        case .v6(let address): address.bytes
        }
    }
    /// 32 or 128.
    public var bitCount: Int { isV4 ? 32 : 128 }
    public var isMulticast: Bool {
        switch self {
        case .v4(let address): address.isMulticast
        case .v6(let address): address.isMulticast
        }
    }
    public var isUnspecified: Bool {
        switch self {
        case .v4(let address): address.rawValue == 0
        case .v6(let address): address.high == 0 && address.low == 0
        }
    }
    /// `::ffff:a.b.c.d` as the IPv4 address it stands for; any other address unchanged.
    public var normalized: IPAddress {
        if case .v6(let address) = self, let v4 = address.v4Mapped { return .v4(v4) }
        return self
    }
}

extension IPAddress: CustomStringConvertible, Comparable {
    public var description: String {
        switch self {
        case .v4(let address): address.description
        case .v6(let address): address.description
        }
    }
    public static func < (a: Self, b: Self) -> Bool {
        switch (a, b) {
        case (.v4(let x), .v4(let y)): x < y
        case (.v6(let x), .v6(let y)): x < y
        case (.v4, .v6): true
        case (.v6, .v4): false
        }
    }
}

/// An address with a prefix length. Host bits are kept; ``network`` clears them.
public struct IPPrefix: Hashable, Sendable, Comparable {
    public let address: IPAddress
    public let length: Int

    /// Nil when `length` is not within the family's bits.
    public init?(_ address: IPAddress, length: Int) {
        guard (0...address.bitCount).contains(length) else { return nil }
        self.address = address
        self.length = length
    }
    /// The address alone.
    public init(host address: IPAddress) {
        self.address = address
        length = address.bitCount
    }
    /// Parses `10.0.0.0/8`; an address alone is a host prefix. Nil for anything else.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = parts.first, let address = IPAddress(first) else { return nil }
        if parts.count == 1 {
            self.init(address, length: address.bitCount)
        } else {
            guard (1...3).contains(parts[1].utf8.count), parts[1].allSatisfy({ $0.isASCII && $0.isNumber }),
                parts[1].utf8.count == 1 || parts[1].first != "0", let length = Int(parts[1])
            else { return nil }
            self.init(address, length: length)
        }
    }
    /// The prefix with its host bits cleared.
    public var network: IPPrefix {
        switch address {
        case .v4(let v4):
            let mask: UInt32 = length == 0 ? 0 : ~0 << (32 - UInt32(length))
            return IPPrefix(unchecked: .v4(IPv4Address(rawValue: v4.rawValue & mask)), length)
        case .v6(let v6):
            let highMask: UInt64 = length == 0 ? 0 : length >= 64 ? ~0 : ~0 << (64 - UInt64(length))
            let lowMask: UInt64 = length <= 64 ? 0 : ~0 << (128 - UInt64(length))
            return IPPrefix(unchecked: .v6(IPv6Address(high: v6.high & highMask, low: v6.low & lowMask)), length)
        }
    }
    private init(unchecked address: IPAddress, _ length: Int) {
        self.address = address
        self.length = length
    }
    public func contains(_ other: IPAddress) -> Bool {
        guard other.isV4 == address.isV4, let prefix = IPPrefix(other, length: length) else { return false }
        return prefix.network.address == network.address
    }
    public var isHost: Bool { length == address.bitCount }
    public static func < (a: Self, b: Self) -> Bool {
        a.address == b.address ? a.length < b.length : a.address < b.address
    }
}

extension IPPrefix: CustomStringConvertible {
    public var description: String { "\(address)/\(length)" }
}
