// Times at which something has to be looked at, earliest first.

/// A binary heap of times. Entries are never removed from its middle: whoever takes one out looks
/// whether it is still due.
struct TimerQueue<Key> {
    private var heap: [(at: Instant, key: Key)] = []

    var count: Int { heap.count }
    var next: Instant? { heap.first?.at }

    mutating func add(_ key: Key, at time: Instant) {
        heap.append((time, key))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            if heap[parent].at <= heap[child].at { return }
            heap.swapAt(parent, child)
            child = parent
        }
    }
    /// The earliest entry, when its time has come.
    mutating func take(by now: Instant) -> (at: Instant, key: Key)? {
        guard let first = heap.first, first.at <= now else { return nil }
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child].at < heap[least].at { least = child }
            if least == parent { return first }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}

/// A rate with a burst: so many tokens a second, so many at most.
struct TokenBucket {
    let rate: Double
    let burst: Double
    private var tokens: Double
    private var filledAt: Instant?
    init(rate: Double, burst: Double) {
        self.rate = rate
        self.burst = burst
        tokens = burst
    }
    /// Whether there was a token.
    mutating func take(_ now: Instant) -> Bool {
        if let filledAt { tokens = min(burst, tokens + now.seconds(since: filledAt) * rate) }
        filledAt = max(filledAt ?? now, now)
        if tokens < 1 { return false }
        tokens -= 1
        return true
    }
}
