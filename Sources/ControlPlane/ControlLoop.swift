// The control thread: takes events from every source, applies them in batches, carries effects out.

import CLinux
import Glibc
public import Tables

/// Runs the control plane on one thread of its own.
///
/// Other threads post events and ask questions; only this thread touches the state and the tables.
/// A batch is: what is queued, then what workers learned, then the clock; then one publication.
public final class ControlLoop: @unchecked Sendable {
    /// A question, answered on the control thread.
    public typealias Question = (ControlState, TableCompiler) -> Void

    private enum Item {
        case event(ControlEvent)
        case question(Question)
    }

    private var state: ControlState
    private let compiler: TableCompiler
    private let tables: ForwardingTables
    private let perform: ([ControlEffect]) -> Void
    private let clock: () -> Instant

    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    /// Signalled when the queue has room again.
    private let hasRoom: UnsafeMutablePointer<pthread_cond_t>
    private var queue: [Item] = []
    /// The queue's weight: messages, and one for each item.
    private var queued = 0
    private var stopping = false
    /// Nil before ``start()``.
    private var thread: pthread_t?
    private var lastPeriod: Instant

    /// Milliseconds between looks at the learn rings when nothing else happens: bounds how long a
    /// new MAC waits; 100 wake-ups a second cost about 0.2 % of a core.
    static let tickMilliseconds = 10
    /// Events, or messages of events, applied before workers get to see their result.
    static let batchLimit = 4096
    /// Events and messages that may wait; beyond, ``post(_:)`` waits, and zebra or the kernel with it.
    static let queueLimit = 65_536

    /// - Parameters:
    ///   - state: moved in; the loop is its only owner from here on.
    ///   - perform: carries effects out; called on the control thread, must not block for long.
    public init(
        state: ControlState, compiler: TableCompiler,
        clock: @escaping () -> Instant = ControlLoop.monotonic,
        perform: @escaping ([ControlEffect]) -> Void
    ) {
        self.state = state
        self.compiler = compiler
        tables = compiler.tables
        self.perform = perform
        self.clock = clock
        lastPeriod = clock()
        mutex = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        hasRoom = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(hasRoom, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
    }

    /// CLOCK_MONOTONIC.
    public static func monotonic() -> Instant {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return Instant(nanoseconds: UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec))
    }

    /// Queues an event, from any thread but the control thread; waits while the queue is full.
    public func post(_ event: ControlEvent) {
        pthread_mutex_lock(mutex)
        while queued >= Self.queueLimit && !stopping { pthread_cond_wait(hasRoom, mutex) }
        queue.append(.event(event))
        queued += event.weight
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Has `question` answered on the control thread; false once the loop has stopped.
    @discardableResult
    public func ask(_ question: @escaping Question) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        guard !stopping else { return false }
        queue.append(.question(question))
        queued += 1
        pthread_cond_signal(condition)
        return true
    }

    /// Applies events on the caller's thread, before ``start()``: configuration, ports, first dumps.
    public func applyNow(_ events: [ControlEvent]) {
        var effects: [ControlEffect] = []
        let now = clock()
        for event in events { effects += state.apply(event, at: now) }
        finish(&effects, now)
    }

    public func start() {
        let unmanaged = Unmanaged.passRetained(self)
        var handle = pthread_t()
        let result = pthread_create(&handle, nil, { raw in
            let loop = Unmanaged<ControlLoop>.fromOpaque(raw.unsafelyUnwrapped).takeRetainedValue()
            pe_thread_name("pe-control")
            loop.run()
            return nil
        }, unmanaged.toOpaque())
        precondition(result == 0, "the control thread cannot be made: no memory or too many threads")
        thread = handle
    }

    /// Ends the thread after what is queued; safe before ``start()``.
    public func stop() {
        pthread_mutex_lock(mutex)
        stopping = true
        pthread_cond_signal(condition)
        pthread_cond_broadcast(hasRoom)
        pthread_mutex_unlock(mutex)
        if let thread { pthread_join(thread, nil) }
        thread = nil
    }

    private func run() {
        while true {
            let (items, isLast) = take()
            step(items)
            if isLast { return }
        }
    }

    private func take() -> ([Item], Bool) {
        pthread_mutex_lock(mutex)
        if queue.isEmpty && !stopping {
            var deadline = timespec()
            clock_gettime(CLOCK_MONOTONIC, &deadline)
            deadline.tv_nsec += Self.tickMilliseconds * 1_000_000
            if deadline.tv_nsec >= 1_000_000_000 {
                deadline.tv_nsec -= 1_000_000_000
                deadline.tv_sec += 1
            }
            pthread_cond_timedwait(condition, mutex, &deadline)
        }
        var taken = 0
        var weight = 0
        while taken < queue.count && weight < Self.batchLimit {
            if case .event(let event) = queue[taken] { weight += event.weight } else { weight += 1 }
            taken += 1
        }
        let items = Array(queue.prefix(taken))
        queue.removeFirst(taken)
        queued -= weight
        let isLast = stopping && queue.isEmpty
        pthread_cond_broadcast(hasRoom)
        pthread_mutex_unlock(mutex)
        return (items, isLast)
    }

    private func step(_ items: [Item]) {
        let now = clock()
        var effects: [ControlEffect] = []
        for case .event(let event) in items { effects += state.apply(event, at: now) }
        for ring in tables.learning.workers {
            var left = TableLimits.learnRing
            while left > 0, let event = ring.pop() {
                effects += state.apply(.learned(event), at: now)
                left -= 1
            }
        }
        for ring in tables.neighborRings.workers {
            var left = TableLimits.neighborRing
            while left > 0, let event = ring.pop() {
                effects += state.apply(.neighborSeen(event), at: now)
                left -= 1
            }
        }
        if now.seconds(since: lastPeriod) >= compiler.ageingPeriodSeconds {
            lastPeriod = now
            effects += state.apply(compiler.endAgeingPeriod(), at: now)
        }
        effects += state.apply(.tick, at: now)
        finish(&effects, now)
        for case .question(let question) in items { question(state, compiler) }
    }

    private func finish(_ effects: inout [ControlEffect], _ now: Instant) {
        effects += compiler.flush(&state, at: now)
        // After the tables: an answer finds the neighbour there.
        tables.push(probes: effects)
        if !effects.isEmpty { perform(effects) }
    }
}
