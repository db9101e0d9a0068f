// Tells systemd how the service is doing (sd_notify(3)), without libsystemd.

import Glibc

/// Sends state changes to the socket that the service manager named; does nothing without one.
public struct ServiceNotifier: Sendable {
    private let path: String?

    /// - Parameter path: the value of `NOTIFY_SOCKET`: an absolute path, or `@` and an abstract name.
    public init(path: String? = getenv("NOTIFY_SOCKET").map { String(cString: $0) }) {
        let isUsable = path.map {
            ($0.hasPrefix("/") || $0.hasPrefix("@"))
                && (2...AdminSocket.pathByteLimit).contains($0.utf8.count)
        }
        self.path = isUsable == true ? path : nil
    }

    /// The service forwards; `status` is what `systemctl status` shows.
    @discardableResult public func ready(_ status: String) -> Bool {
        send("READY=1\nSTATUS=\(Self.line(status))")
    }
    /// The service ends on purpose.
    @discardableResult public func stopping() -> Bool { send("STOPPING=1\nSTATUS=stopping") }
    /// The service still ends: what must be done first takes until `seconds` from now at most.
    @discardableResult public func stopping(_ status: String, within seconds: Int) -> Bool {
        send("EXTEND_TIMEOUT_USEC=\(seconds * 1_000_000)\nSTATUS=\(Self.line(status))")
    }
    /// The service goes on; `status` is what `systemctl status` shows.
    @discardableResult public func status(_ status: String) -> Bool {
        send("STATUS=\(Self.line(status))")
    }

    private static func line(_ text: String) -> String {
        String(text.map { $0.isNewline ? " " : $0 })
    }

    private func send(_ text: String) -> Bool {
        guard let path else { return false }
        let file = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard file >= 0 else { return false }
        defer { close(file) }
        let bytes = Array(text.utf8)
        let count = withUnixAddress(path) {
            sendto(file, bytes, bytes.count, Int32(MSG_NOSIGNAL), $0, $1)
        }
        return count == bytes.count
    }
}
