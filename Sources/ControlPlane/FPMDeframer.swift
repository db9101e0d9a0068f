// Cuts zebra's FPM byte stream into frames (FRR fpm/fpm.h, doc/developer/fpm.rst).

/// Deframes one FPM connection.
///
///     0        1        2                 4
///     | version | type  | length (be16)   | netlink messages ...
///
/// The length counts the header. Chunks may be cut anywhere. At most one incomplete frame, below 64
/// KiB, is kept.
public struct FPMDeframer: Sendable {
    /// Why a frame was not delivered.
    public enum Fault: Hashable, Sendable {
        /// The frame was skipped: another version or type, but a length that can be trusted.
        case version(UInt8)
        case type(UInt8)
        /// The length is below the header's: nothing tells where the next frame begins, so the
        /// connection has to be closed.
        case length(UInt16)
    }
    public enum Event {
        /// The netlink bytes of one frame; valid only during the call.
        case frame(UnsafeRawBufferPointer)
        /// `offset` counts bytes from the connection's begin.
        case fault(Fault, offset: UInt64)
    }

    private static let headerSize = 4
    private static let version: UInt8 = 1
    /// FPM_MSG_TYPE_NETLINK; 2 is protobuf, which Debian's FRR cannot send.
    private static let netlink: UInt8 = 1

    /// The begin of a frame whose end has not come yet.
    private var pending: [UInt8] = []
    /// Where the frame that is read now began, in bytes of the connection.
    private var offset: UInt64 = 0
    /// Nothing more is read: a length could not be used.
    public private(set) var isBroken = false
    /// Bytes kept for the next chunk.
    public var pendingCount: Int { pending.count }

    public init() {}

    /// Takes the next bytes of the connection and hands out what they complete, in order.
    public mutating func feed(_ chunk: UnsafeRawBufferPointer, _ deliver: (Event) -> Void) {
        var rest = chunk
        while !isBroken, !pending.isEmpty, !rest.isEmpty {
            let needed = pending.count < Self.headerSize ? Self.headerSize : frameLength(pending)
            let taken = min(needed - pending.count, rest.count)
            pending.append(contentsOf: rest.prefix(taken))
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(taken))
            guard pending.count >= Self.headerSize, pending.count >= frameLength(pending) else { continue }
            pending.withUnsafeBytes { frame in
                isBroken = !Self.deliver(frame, frameLength(frame), at: &offset, deliver)
            }
            pending.removeAll(keepingCapacity: true)
        }
        while !isBroken, rest.count >= Self.headerSize {
            let length = frameLength(rest)
            guard length <= rest.count else { break }
            isBroken = !Self.deliver(rest, length, at: &offset, deliver)
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(length))
        }
        if !isBroken, !rest.isEmpty { pending.append(contentsOf: rest) }
    }

    /// Hands out one complete frame; false when its length cannot be used.
    private static func deliver(
        _ frame: UnsafeRawBufferPointer, _ length: Int, at offset: inout UInt64,
        _ deliver: (Event) -> Void
    ) -> Bool {
        guard length >= headerSize else {
            deliver(.fault(.length(UInt16(truncatingIfNeeded: length)), offset: offset))
            return false
        }
        if frame[0] != version {
            deliver(.fault(.version(frame[0]), offset: offset))
        } else if frame[1] != netlink {
            deliver(.fault(.type(frame[1]), offset: offset))
        } else {
            deliver(.frame(UnsafeRawBufferPointer(rebasing: frame[headerSize..<length])))
        }
        offset += UInt64(length)
        return true
    }
}

/// The length in a frame's header, of which all four bytes are there.
private func frameLength(_ header: UnsafeRawBufferPointer) -> Int {
    Int(header[2]) << 8 | Int(header[3])
}
private func frameLength(_ header: [UInt8]) -> Int { Int(header[2]) << 8 | Int(header[3]) }

extension FPMDeframer.Fault: CustomStringConvertible {
    public var description: String {
        switch self {
        case .version(let version):
            "FPM version \(version) instead of 1: frame skipped; is the peer FRR's zebra?"
        case .type(let type):
            "FPM type \(type) instead of 1 (netlink): frame skipped; start zebra with "
                + "-M dplane_fpm_nl or -M fpm:netlink"
        case .length(let length):
            "FPM length \(length) is below the header's 4: connection closed, zebra connects again"
        }
    }
}
