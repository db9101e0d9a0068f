// Bounds-checked reading of foreign bytes: every access either fits or throws where and why not.

/// Why bytes could not be decoded.
public struct DecodeError: Error, Hashable, Sendable {
    public enum Reason: Hashable, Sendable {
        /// `needed` bytes had to be there, `available` were.
        case short
        /// Attributes are nested in more levels (`needed`) than are allowed (`available`).
        case nestedTooDeep
        /// The field has a value (`needed`) that it must not have; `available` is the largest
        /// allowed.
        case invalidValue
        /// A field without which the message has no meaning is not there.
        case missing
    }
    public var reason: Reason
    /// The field, by its name in the kernel's headers.
    public var what: String
    /// Byte offset of the field in the buffer given to the decoder.
    public var offset: Int
    public var needed: Int
    public var available: Int
    /// nlmsg_type of the message that was given up; nil when the buffer's framing is broken.
    public var messageType: UInt16?

    public init(
        _ reason: Reason, _ what: String, offset: Int, needed: Int = 0, available: Int = 0,
        messageType: UInt16? = nil
    ) {
        self.reason = reason
        self.what = what
        self.offset = offset
        self.needed = needed
        self.available = available
        self.messageType = messageType
    }
}

extension DecodeError: CustomStringConvertible {
    public var description: String {
        let place = (messageType.map { "message type \($0): " } ?? "") + "\(what) at byte \(offset)"
        return switch reason {
        case .short: "\(place): needs \(needed) bytes, \(available) are there"
        case .nestedTooDeep: "\(place): \(needed) levels of attributes, \(available) are allowed"
        case .invalidValue: "\(place): the value \(needed) is above \(available) or not allowed"
        case .missing: "\(place): is missing"
        }
    }
}

/// A window onto a buffer. Copies and owns nothing; valid only while the buffer is.
struct ByteReader {
    private let buffer: UnsafeRawBufferPointer
    /// Offsets of the window in the buffer; 0 <= start <= end <= buffer.count always.
    let start: Int
    let end: Int

    init(_ buffer: UnsafeRawBufferPointer) {
        self.buffer = buffer
        start = 0
        end = buffer.count
    }

    private init(_ buffer: UnsafeRawBufferPointer, _ start: Int, _ end: Int) {
        self.buffer = buffer
        self.start = start
        self.end = end
    }

    var count: Int { end &- start }
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: buffer[start..<end]) }

    /// The integer at `offset` of the window, in host byte order.
    @inline(__always)
    func load<T: FixedWidthInteger & BitwiseCopyable>(
        _ offset: Int, _ what: @autoclosure () -> String, as type: T.Type = T.self
    ) throws(DecodeError) -> T {
        let size = MemoryLayout<T>.size
        guard offset >= 0, size <= count, offset <= count &- size else {
            throw DecodeError(
                .short, what(), offset: start &+ max(0, min(offset, count)), needed: size,
                available: max(0, count &- max(0, offset)))
        }
        return buffer.loadUnaligned(fromByteOffset: start &+ offset, as: T.self)
    }

    /// `length` bytes from `offset` on.
    func slice(
        _ offset: Int, _ length: Int, _ what: @autoclosure () -> String
    ) throws(DecodeError) -> ByteReader {
        guard offset >= 0, length >= 0, length <= count, offset <= count &- length else {
            throw DecodeError(
                .short, what(), offset: start &+ max(0, min(offset, count)), needed: length,
                available: max(0, count &- max(0, offset)))
        }
        return ByteReader(buffer, start &+ offset, start &+ offset &+ length)
    }

    /// What follows the first `length` bytes; empty when there are no more.
    func rest(after length: Int) -> ByteReader {
        ByteReader(buffer, start &+ max(0, min(length, count)), end)
    }
}
