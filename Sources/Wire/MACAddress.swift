// The 48-bit Ethernet address.

/// An Ethernet address.
public struct MACAddress: Hashable, Sendable, BitwiseCopyable {
    /// The six bytes as they lie in a frame, the first one lowest; the upper 16 bits are zero.
    public let rawValue: UInt64

    /// Takes the low 48 bits of eight bytes loaded from a frame.
    @inlinable @inline(__always)
    public init(rawValue: UInt64) { self.rawValue = rawValue & 0xFFFF_FFFF_FFFF }

    /// Six bytes in the order they are written and sent.
    public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, _ e: UInt8, _ f: UInt8) {
        self.init(bytes: [a, b, c, d, e, f])
    }

    /// - Precondition: six bytes.
    public init(bytes: some Collection<UInt8>) {
        precondition(bytes.count == 6, "an Ethernet address has six bytes")
        var value: UInt64 = 0
        for byte in bytes.reversed() { value = value << 8 | UInt64(byte) }
        rawValue = value
    }

    /// Parses `02:00:00:00:00:01` (or with `-`); nil for anything else.
    public init?(_ text: some StringProtocol) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(6)
        var value: UInt8 = 0
        var digits = 0
        var separator: UInt8?
        // A configuration has a hundred thousand of these: bytes, not characters.
        for character in text.utf8 {
            if let digit = Self.hexDigit(character) {
                guard digits < 2 else { return nil }
                value = value << 4 | digit
                digits += 1
            } else {
                guard digits > 0, bytes.count < 5, character == separator ?? character,
                    character == UInt8(ascii: ":") || character == UInt8(ascii: "-")
                else { return nil }
                separator = character
                bytes.append(value)
                value = 0
                digits = 0
            }
        }
        guard digits > 0, bytes.count == 5 else { return nil }
        bytes.append(value)
        self.init(bytes: bytes)
    }
    private static func hexDigit(_ character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    @inlinable public static var zero: MACAddress { MACAddress(rawValue: 0) }
    @inlinable public static var broadcast: MACAddress { MACAddress(rawValue: 0xFFFF_FFFF_FFFF) }

    /// Whether the group bit (I/G) is set: multicast or broadcast.
    @inlinable @inline(__always) public var isMulticast: Bool { rawValue & 1 != 0 }
    @inlinable public var isBroadcast: Bool { rawValue == 0xFFFF_FFFF_FFFF }
    @inlinable public var isZero: Bool { rawValue == 0 }

    /// The bytes in sending order.
    public var bytes: [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: rawValue >> (8 * $0)) } }
}

extension MACAddress: CustomStringConvertible, Comparable {
    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
    public static func < (a: MACAddress, b: MACAddress) -> Bool {
        a.rawValue.byteSwapped < b.rawValue.byteSwapped
    }
}
