// Throw-away network namespaces for tests against the real kernel.

import Foundation

@testable import ControlPlane

/// A network namespace that exists while the value does; no link leads out of it.
final class TestNamespace: Sendable {
    let name: String

    /// Nil, with the reason printed, when this process may not make one.
    init?(_ purpose: String) {
        name = "pe-test-\(purpose)-\(ProcessInfo.processInfo.processIdentifier)"
        let result = Self.run("ip netns add \(name) && ip -n \(name) link set lo up")
        guard result.status == 0 else {
            print("SKIPPED: kernel tests need root and iproute2: \(result.output)")
            return nil
        }
    }
    deinit { _ = Self.run("ip netns del \(name)") }

    /// The standard output of a shell command inside the namespace.
    @discardableResult
    func shell(_ command: String) -> String {
        Self.run("ip netns exec \(name) sh -c '\(command)'").output
    }

    /// Runs what leaves a daemon behind. It inherits nothing: Foundation takes a process for running
    /// while any descendant has the descriptor by which it watches it.
    func launch(_ command: String) {
        let launcher = "import os,sys; os.closerange(3,4096); os.execvp(sys.argv[1],sys.argv[1:])"
        shell("python3 -c \"\(launcher)\" \(command) >/dev/null 2>&1 </dev/null")
    }

    private static func run(_ command: String) -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", command]
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        do { try process.run() } catch { return (-1, "\(error)") }
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }
}

/// Events from another thread.
final class EventLog: @unchecked Sendable {
    private let condition = NSCondition()
    private var stored: [ControlEvent] = []

    func add(_ event: ControlEvent) {
        condition.lock()
        stored.append(event)
        condition.broadcast()
        condition.unlock()
    }
    var events: [ControlEvent] {
        condition.lock()
        defer { condition.unlock() }
        return stored
    }
    /// Waits until the events so far satisfy `isEnough`; false after `seconds`.
    func wait(_ seconds: Double = 5, _ isEnough: ([ControlEvent]) -> Bool) -> Bool {
        let deadline = Date(timeIntervalSinceNow: seconds)
        while true {
            let seen = events
            if isEnough(seen) { return true }
            condition.lock()
            while stored.count == seen.count, Date() < deadline { _ = condition.wait(until: deadline) }
            condition.unlock()
            if Date() >= deadline { return isEnough(events) }
        }
    }
    func clear() {
        condition.lock()
        stored = []
        condition.unlock()
    }
    /// All messages that notifications and dumps brought.
    var messages: [NetlinkMessage] {
        events.flatMap { event -> [NetlinkMessage] in
            switch event {
            case .kernelNotified(let messages), .kernelDumped(let messages), .fpmFrame(_, let messages),
                .fpmFrames(_, let messages, _): messages
            default: []
            }
        }
    }
}
