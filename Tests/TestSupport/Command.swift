// Runs a program for a test and returns what it said.

import CLinux
import Glibc

public struct CommandError: Error, CustomStringConvertible {
    public var description: String
}

/// Runs `arguments[0]` found on the PATH; its output, standard error included.
///
/// - Throws: ``CommandError`` with command, exit status and output when it fails.
@discardableResult
public func run(_ arguments: String..., input: String = "") throws -> String {
    try run(arguments, input: input)
}

@discardableResult
public func run(_ arguments: [String], input: String = "") throws -> String {
    var output: [Int32] = [0, 0]
    var feed: [Int32] = [0, 0]
    guard pipe(&output) == 0, pipe(&feed) == 0 else {
        throw CommandError(description: "no pipe: \(String(cString: strerror(errno)))")
    }
    for end in output + feed { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, feed[0], 0)
    posix_spawn_file_actions_adddup2(&actions, output[1], 1)
    posix_spawn_file_actions_adddup2(&actions, output[1], 2)
    var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for pointer in argv { free(pointer) } }
    var pid: pid_t = 0
    let rc = posix_spawnp(&pid, arguments[0], &actions, nil, &argv, environ)
    close(output[1])
    close(feed[0])
    defer { close(output[0]) }
    guard rc == 0 else {
        close(feed[1])
        throw CommandError(description: "\(arguments[0]): \(String(cString: strerror(rc)))")
    }
    let bytes = Array(input.utf8)
    var written = 0
    while written < bytes.count {
        let count = bytes[written...].withUnsafeBytes { write(feed[1], $0.baseAddress, $0.count) }
        if count <= 0 { break }
        written += count
    }
    close(feed[1])
    var text: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
        let count = read(output[0], &chunk, chunk.count)
        if count <= 0 { break }
        text += chunk[..<count]
    }
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    let said = String(decoding: text, as: UTF8.self)
    guard status == 0 else {
        throw CommandError(
            description: "\(arguments.joined(separator: " ")): status \(status): \(said)"
        )
    }
    return said
}

/// Network namespaces that exist as long as this object; names carry the process id.
public final class Namespaces {
    private let prefix: String
    private var made: [String] = []

    public init(_ prefix: String) { self.prefix = "\(prefix)\(getpid())" }
    deinit { for name in made { _ = try? run("ip", "netns", "del", name) } }

    /// Makes a namespace with loopback up; its full name.
    @discardableResult
    public func make(_ name: String) throws -> String {
        let full = "\(prefix)-\(name)"
        try run("ip", "netns", "add", full)
        if !made.contains(full) { made.append(full) }
        try run("ip", "-n", full, "link", "set", "lo", "up")
        return full
    }
    public func delete(_ full: String) throws { try run("ip", "netns", "del", full) }
    public static func path(_ full: String) -> String { "/var/run/netns/\(full)" }

    /// Carries out `ip` commands inside a namespace, one a line.
    public static func ip(_ full: String, _ lines: [String]) throws {
        try run(["ip", "-n", full, "-batch", "-"], input: lines.joined(separator: "\n") + "\n")
    }
}

/// True once `condition` holds; false when it did not within `seconds`.
public func eventually(_ seconds: Double = 5, _ condition: () -> Bool) -> Bool {
    let start = ContinuousClock.now
    while ContinuousClock.now - start < .seconds(seconds) {
        if condition() { return true }
        usleep(5000)
    }
    return condition()
}
