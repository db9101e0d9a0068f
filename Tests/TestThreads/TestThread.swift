// What tests with readers on threads of their own share; without DPDK, so that the control plane's can use it.

import Glibc
import Synchronization

/// Runs `body` on a thread of its own, as a worker is one.
public final class TestThread: @unchecked Sendable {
    private var handle = pthread_t()
    private let body: @Sendable () -> Void
    public init(_ body: @escaping @Sendable () -> Void) {
        self.body = body
        let context = Unmanaged.passRetained(self)
        let made = pthread_create(&handle, nil, { raw in
            Unmanaged<TestThread>.fromOpaque(raw!).takeRetainedValue().body()
            return nil
        }, context.toOpaque())
        precondition(made == 0)
    }
    public func join() { pthread_join(handle, nil) }
}

/// Set by one thread, seen by another.
public final class Flag: Sendable {
    public init() {}
    private let value = Atomic<Bool>(false)
    public var isSet: Bool { value.load(ordering: .acquiring) }
    public func set() { value.store(true, ordering: .releasing) }
}

/// A number that one thread writes and others read.
public final class Tally: Sendable {
    public init() {}
    private let value = Atomic<Int>(0)
    public var count: Int { value.load(ordering: .acquiring) }
    public func add(_ by: Int = 1) { value.add(by, ordering: .acquiringAndReleasing) }
    public func set(_ to: Int) { value.store(to, ordering: .releasing) }
}

