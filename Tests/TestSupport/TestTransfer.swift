// A TCP transfer between two network namespaces, by threads of this process that enter them.

import CLinux
import Glibc

/// What a transfer ended with.
public struct TransferResult: Equatable, Sendable {
    public var byteCount = 0
    /// Empty when all went well; a byte that is not the one sent is a failure.
    public var failure = ""
    public init(byteCount: Int = 0, failure: String = "") {
        self.byteCount = byteCount
        self.failure = failure
    }
}

/// What is sent, over and over; its odd length makes no two segments of a stream alike.
private let pattern: [UInt8] = {
    var random = SeededRandom(seed: 7)
    return random.bytes((1 << 20) + 7)
}()

/// Sends `byteCount` known bytes from one namespace to a TCP server in another.
///
/// `address` is the server's, dotted or with colons. Returns what was sent and what arrived
/// as it was sent.
public func transfer(
    _ byteCount: Int,
    from client: String,
    to server: String,
    address: String,
    port: UInt16
) -> (sent: TransferResult, received: TransferResult) {
    nonisolated(unsafe) var sent = TransferResult()
    nonisolated(unsafe) var received = TransferResult()
    nonisolated(unsafe) var isListening = false
    let serving = thread {
        received = inNamespace(server) { receive(address, port) { isListening = true } }
    }
    _ = eventually { isListening || received.failure != "" }
    let sending = thread {
        sent = inNamespace(client) { send(byteCount, address, port) }
    }
    pthread_join(sending, nil)
    pthread_join(serving, nil)
    return (sent, received)
}

private final class Body {
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
}
private func thread(_ run: @escaping () -> Void) -> pthread_t {
    var thread = pthread_t()
    pthread_create(
        &thread,
        nil,
        { argument in
            if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
            return nil
        },
        Unmanaged.passRetained(Body(run)).toOpaque()
    )
    return thread
}
private func inNamespace(_ name: String, _ body: () -> TransferResult) -> TransferResult {
    let rc = pe_namespace_enter(Namespaces.path(name))
    guard rc == 0 else { return failed("enter \(name)") }
    return body()
}
private func failed(_ step: String) -> TransferResult {
    TransferResult(failure: "\(step): \(String(cString: strerror(errno)))")
}

private func withAddress<R>(
    _ text: String,
    _ port: UInt16,
    _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
) -> R {
    if text.contains(":") {
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = port.bigEndian
        inet_pton(AF_INET6, text, &address.sin6_addr)
        return withUnsafeBytes(of: &address) {
            body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
        }
    }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    inet_pton(AF_INET, text, &address.sin_addr)
    return withUnsafeBytes(of: &address) {
        body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
    }
}
private func makeSocket(_ address: String) -> Int32 {
    let fd = socket(address.contains(":") ? AF_INET6 : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var one: Int32 = 1
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, 4)
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    return fd
}

private func receive(_ address: String, _ port: UInt16, _ listening: () -> Void) -> TransferResult {
    let server = makeSocket(address)
    defer { close(server) }
    guard withAddress(address, port, { bind(server, $0, $1) }) == 0 else { return failed("bind") }
    guard listen(server, 1) == 0 else { return failed("listen") }
    listening()
    let fd = accept(server, nil, nil)
    guard fd >= 0 else { return failed("accept") }
    defer { close(fd) }
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var result = TransferResult()
    var chunk = [UInt8](repeating: 0, count: 1 << 18)
    while true {
        let count = recv(fd, &chunk, chunk.count, 0)
        if count < 0 { result.failure = failed("receive").failure }
        if count <= 0 { return result }
        guard matches(chunk, count, from: result.byteCount) else {
            result.failure = "bytes differ after \(result.byteCount)"
            return result
        }
        result.byteCount += count
    }
}

private func matches(_ chunk: [UInt8], _ count: Int, from offset: Int) -> Bool {
    var done = 0
    while done < count {
        let place = (offset + done) % pattern.count
        let part = min(count - done, pattern.count - place)
        let isSame = chunk.withUnsafeBytes { got in
            pattern.withUnsafeBytes {
                memcmp(got.baseAddress! + done, $0.baseAddress! + place, part) == 0
            }
        }
        guard isSame else { return false }
        done += part
    }
    return true
}

private func send(_ byteCount: Int, _ address: String, _ port: UInt16) -> TransferResult {
    let fd = makeSocket(address)
    defer { close(fd) }
    guard withAddress(address, port, { connect(fd, $0, $1) }) == 0 else { return failed("connect") }
    var result = TransferResult()
    while result.byteCount < byteCount {
        let place = result.byteCount % pattern.count
        let want = min(byteCount - result.byteCount, pattern.count - place)
        let count = pattern.withUnsafeBytes {
            Glibc.send(fd, $0.baseAddress! + place, want, Int32(MSG_NOSIGNAL))
        }
        guard count > 0 else {
            result.failure = failed("send").failure
            return result
        }
        result.byteCount += count
    }
    return result
}
