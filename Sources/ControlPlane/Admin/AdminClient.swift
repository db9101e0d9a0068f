// A small blocking HTTP client for the admin socket.

public import Foundation
import Glibc

/// Why a question to the daemon has no answer.
public enum AdminClientError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Nobody serves the socket, or not within the time.
    case unreachable(String)
    /// The daemon refused: HTTP status and its sentence.
    case refused(Int, String)
    /// What came back is no answer of pe-dp.
    case malformed(String)

    public var description: String {
        switch self {
        case .unreachable(let message), .refused(_, let message), .malformed(let message): message
        }
    }
}

/// Asks the daemon behind one admin socket.
public struct AdminClient: Sendable {
    /// Where the daemon serves unless configured otherwise.
    public static let defaultPath = "/run/pe-dp/admin.sock"
    /// Bytes of the largest answer taken: a million routes are about 200 MB.
    private static let answerByteLimit = 1 << 30
    public var path: String
    public var timeoutSeconds: Int
    public init(path: String = defaultPath, timeoutSeconds: Int = 15) {
        self.path = path
        self.timeoutSeconds = timeoutSeconds
    }

    /// The rows of a topic, as the daemon wrote them.
    public func show(_ topic: ShowTopic, filter: ShowFilter = ShowFilter()) throws(AdminClientError)
        -> Data
    {
        var query: [String] = []
        if let vni = filter.vni { query.append("vni=\(vni)") }
        if let vrf = filter.vrf { query.append("vrf=\(Self.escape(vrf))") }
        if let mac = filter.mac { query.append("mac=\(mac)") }
        if let port = filter.port { query.append("port=\(Self.escape(port))") }
        if let prefix = filter.prefix { query.append("prefix=\(Self.escape("\(prefix)"))") }
        let suffix = query.isEmpty ? "" : "?" + query.joined(separator: "&")
        return try get("/v1/show/\(topic.rawValue)\(suffix)")
    }

    /// The body of `target`.
    public func get(_ target: String) throws(AdminClientError) -> Data {
        let answer = try exchange(
            "GET \(target) HTTP/1.1\r\nHost: pe-dp\r\nConnection: close\r\n\r\n"
        )
        let separator = Data("\r\n\r\n".utf8)
        guard let end = answer.range(of: separator) else {
            throw .malformed("\(path) does not speak HTTP; is it the admin socket of pe-dp?")
        }
        let head = String(decoding: answer[..<end.lowerBound], as: UTF8.self)
        let lines = head.split(separator: "\r\n")
        let words = (lines.first ?? "").split(separator: " ")
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            throw .malformed("\(path) does not speak HTTP; is it the admin socket of pe-dp?")
        }
        let body = Data(answer[end.upperBound...])
        let lengths = lines.dropFirst().compactMap { line -> Int? in
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == "content-length" else { return nil }
            return Int(parts[1].drop { $0 == " " })
        }
        guard lengths.first == body.count else {
            throw .unreachable("the daemon behind \(path) stopped in the middle of its answer")
        }
        guard status == 200 else {
            let message = (try? JSONDecoder().decode([String: String].self, from: body))?["error"]
            throw .refused(status, message ?? "the daemon answered with HTTP status \(status)")
        }
        return body
    }

    private func exchange(_ request: String) throws(AdminClientError) -> Data {
        guard path.utf8.count <= AdminSocket.pathByteLimit else {
            throw .unreachable("\(path) is longer than a unix socket's path can be")
        }
        let file = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard file >= 0 else { throw unreachable("no socket can be opened") }
        defer { close(file) }
        var limit = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
        setsockopt(file, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
        guard withUnixAddress(path, { connect(file, $0, $1) }) == 0 else {
            throw unreachable("no daemon answers on \(path)")
        }
        var rest = Array(request.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(file, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count < 0 && errno == EINTR { continue }
            // A server that refuses may answer before it has read everything.
            guard count > 0 else { break }
            rest = rest.dropFirst(count)
        }
        var answer = Data()
        var chunk = [UInt8](repeating: 0, count: 65536)
        while answer.count < Self.answerByteLimit {
            let count = recv(file, &chunk, chunk.count, 0)
            if count < 0 && errno == EINTR { continue }
            // A server that refuses may close before it has read everything.
            if count < 0 && errno == ECONNRESET && !answer.isEmpty { return answer }
            guard count >= 0 else { throw unreachable("the daemon behind \(path) does not answer") }
            if count == 0 { return answer }
            answer.append(contentsOf: chunk[..<count])
        }
        throw .malformed("the answer of \(path) is larger than 1 GiB; use a filter")
    }

    private func unreachable(_ what: String) -> AdminClientError {
        let why = String(cString: strerror(errno))
        let remedy =
            errno == EACCES || errno == EPERM
            ? "run as root or as the owner of the socket"
            : "is `pe-dp run` up, and is --socket its dataplane.adminSocket?"
        return .unreachable("\(what): \(why); \(remedy)")
    }

    private static func escape(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
    }
}
