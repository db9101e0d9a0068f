// A reader on a thread of its own, beside the control thread that the test is.

import Glibc
import Synchronization

/// Runs `body` on a thread of its own, as a worker is one.
final class TestThread: @unchecked Sendable {
    private var handle = pthread_t()
    private let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) {
        self.body = body
        let context = Unmanaged.passRetained(self)
        let made = pthread_create(&handle, nil, { raw in
            Unmanaged<TestThread>.fromOpaque(raw!).takeRetainedValue().body()
            return nil
        }, context.toOpaque())
        precondition(made == 0)
    }
    func join() { pthread_join(handle, nil) }
}

/// Set by one thread, seen by another.
final class Flag: Sendable {
    private let value = Atomic<Bool>(false)
    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}

/// A number that one thread writes and others read.
final class Tally: Sendable {
    private let value = Atomic<Int>(0)
    var count: Int { value.load(ordering: .acquiring) }
    func add(_ by: Int = 1) { value.add(by, ordering: .acquiringAndReleasing) }
    func set(_ to: Int) { value.store(to, ordering: .releasing) }
}

