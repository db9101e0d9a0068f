// How long each step of the start took, for the log.

import ControlPlane
import Logging
import Tables

/// Steps of the start, in their order.
struct StartTimes {
    private let began: Instant
    private var last: Instant
    private(set) var steps: [(name: String, seconds: Double)] = []

    init() {
        began = ControlLoop.monotonic()
        last = began
    }

    /// Ends a step.
    mutating func end(_ name: String) {
        let now = ControlLoop.monotonic()
        steps.append((name, now.seconds(since: last)))
        last = now
    }

    /// `started in 3.21s`.
    var text: String { "started in \(Self.text(last.seconds(since: began)))" }
    var metadata: Logger.Metadata {
        Logger.Metadata(uniqueKeysWithValues: steps.map { ($0.name, "\(Self.text($0.seconds))") })
    }

    /// Milliseconds are as exact as anybody reads it.
    static func text(_ seconds: Double) -> String { "\((seconds * 1000).rounded() / 1000)s" }
}
