// What a FDB key and a FDB value mean.

public import Wire

/// FDB keys: bridge domain (16 bits) above the MAC (48 bits).
public enum FDBKey {
    @inlinable @inline(__always)
    public static func make(domain: UInt16, mac: UInt64) -> UInt64 { UInt64(domain) &<< 48 | mac }
    public static func domain(_ key: UInt64) -> UInt16 { UInt16(truncatingIfNeeded: key >> 48) }
    public static func mac(_ key: UInt64) -> MACAddress { MACAddress(rawValue: key) }
}

/// FDB values: where a MAC is, in one word.
///
///     31 30 | 29     | 28      | 27..24   | 23..0
///     kind  | sticky | gateway | reserved | circuit or tunnel index
public struct FDBValue: Hashable, Sendable, BitwiseCopyable {
    public let rawValue: UInt32
    @inlinable @inline(__always) public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static func circuit(_ index: UInt32, sticky: Bool = false) -> FDBValue {
        FDBValue(rawValue: index & 0xFF_FFFF | (sticky ? 1 << 29 : 0))
    }
    public static func tunnel(_ index: UInt32, sticky: Bool = false) -> FDBValue {
        FDBValue(rawValue: 1 << 30 | index & 0xFF_FFFF | (sticky ? 1 << 29 : 0))
    }
    /// The domain's own gateway: routed, and never learned.
    public static let gateway = FDBValue(rawValue: 2 << 30 | 1 << 29 | 1 << 28)

    @inlinable @inline(__always) public var isCircuit: Bool { rawValue &>> 30 == 0 }
    /// Whether the MAC is on this circuit; `circuit` is below 2^24, or no circuit.
    @inlinable @inline(__always)
    public func isCircuit(_ circuit: UInt32) -> Bool { rawValue & 0xC0FF_FFFF == circuit }
    @inlinable @inline(__always) public var isTunnel: Bool { rawValue &>> 30 == 1 }
    @inlinable @inline(__always) public var isGateway: Bool { rawValue &>> 30 == 2 }
    @inlinable @inline(__always) public var isSticky: Bool { rawValue & (1 << 29) != 0 }
    @inlinable @inline(__always) public var index: UInt32 { rawValue & 0xFF_FFFF }
}
