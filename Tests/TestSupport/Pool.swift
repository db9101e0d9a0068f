// A buffer pool of a test's own, so that it can say that every buffer came back.

import CDPDK
import FastPath
import Synchronization

public final class Pool: Sendable {
    nonisolated(unsafe) public let pointer: OpaquePointer
    private static let made = Atomic<Int>(0)

    /// `dataRoom` bytes a buffer, 128 of them headroom.
    public init(count: Int, dataRoom: Int = 2176) {
        _ = TestEnvironment.shared
        let number = Self.made.wrappingAdd(1, ordering: .relaxed).newValue
        guard let pool = pe_pool_create("test\(number)", UInt32(count), 0, UInt16(dataRoom), -1)
        else { fatalError("no memory for a pool of \(count) buffers") }
        pointer = pool
    }
    deinit { pe_pool_free(pointer) }
    public var available: Int { Int(pe_pool_available(pointer)) }
    public var capacity: Int { Int(pe_pool_capacity(pointer)) }
    public var isFull: Bool { available == capacity }
}
