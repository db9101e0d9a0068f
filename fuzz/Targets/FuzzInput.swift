// Reads fuzzer inputs: what is missing reads as zero or as nothing, so that every input means something.

/// A cursor over an input.
public struct FuzzInput {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0
    public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    public var isAtEnd: Bool { position >= bytes.count }
    public mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        defer { position += 1 }
        return bytes[position]
    }
    public mutating func be16() -> Int { Int(byte()) << 8 | Int(byte()) }
    /// Up to `count` bytes, in memory of their own: reading past them is seen by AddressSanitizer.
    public mutating func take(_ count: Int) -> [UInt8] {
        let end = min(bytes.count, position + count)
        defer { position = end }
        return [UInt8](bytes[position..<end])
    }
    public mutating func rest() -> [UInt8] { take(bytes.count) }
}

/// Ends the process when an invariant does not hold, so that the fuzzer keeps the input.
public func fuzzRequire(_ holds: Bool, _ text: @autoclosure () -> String) {
    if !holds { fatalError(text()) }
}
