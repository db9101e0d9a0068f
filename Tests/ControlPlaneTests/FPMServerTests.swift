// The FPM server with real TCP connections on loopback.

import CLinux
import Foundation
import Glibc
import Testing

@testable import ControlPlane

/// A TCP client as zebra is one.
private final class Client {
    private let descriptor: Int32
    /// Connects to loopback in the namespace.
    init(port: Int, in namespace: NetworkNamespace) throws {
        descriptor = try namespace.run {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(port).bigEndian
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            let result = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            guard result == 0 else { throw KernelError(what: "connect", errno: errno) }
            return descriptor
        }
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
    }
    deinit { close(descriptor) }
    func send(_ bytes: some Collection<UInt8>) {
        let bytes = Array(bytes)
        var start = 0
        while start < bytes.count {
            let n = bytes[start...].withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard n > 0 else { return }
            start += n
        }
    }
    /// Whether the server has closed the connection, waiting at most five seconds.
    var isClosedByPeer: Bool {
        var timeout = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        var byte: UInt8 = 0
        return recv(descriptor, &byte, 1, 0) == 0
    }
}

@Suite struct FPMServerTests {
    private let log = EventLog()
    private func serve(in namespace: NetworkNamespace) throws -> (FPMServer, Int) {
        let log = log
        let server = try FPMServer(listen: "127.0.0.1:0", in: namespace) { log.add($0) }
        return (server, try #require(server.localAddress?.port))
    }
    private func isDisconnect(_ event: ControlEvent) -> Bool {
        if case .fpmDisconnected = event { true } else { false }
    }
    private func messages(of connection: Int) -> [NetlinkMessage] {
        log.events.flatMap { event -> [NetlinkMessage] in
            if case .fpmFrames(connection, let messages, _) = event { messages } else { [] }
        }
    }
    private func expected(_ stream: [UInt8]) -> [NetlinkMessage] {
        NetlinkDecoder.decode(Recording.payloads(stream).flatMap { $0 }).messages
    }

    @Test func severalConnectionsAtOnceKeepTheirFramesApart() throws {
        let namespace = try NetworkNamespace(nil)
        let (server, port) = try serve(in: namespace)
        defer { server.stop() }
        let streams = try Recording.allStreams().prefix(3).map { $0 }
        do {
            let clients = try streams.map { _ in try Client(port: port, in: namespace) }
            #expect(log.wait { $0.count == 3 })
            // The server numbers connections in the order it accepts them, which is the order they came.
            for start in stride(from: 0, to: 6000, by: 97) {
                for (client, stream) in zip(clients, streams) where start < stream.count {
                    client.send(stream[start..<min(start + 97, stream.count)])
                }
            }
        }
        #expect(log.wait { $0.filter(isDisconnect).count == 3 })
        for (index, stream) in streams.enumerated() {
            #expect(messages(of: index + 1) == expected(stream))
        }
    }

    @Test func wrongTypesAreReportedAndAnUnusableLengthClosesOnlyThatConnection() throws {
        let namespace = try NetworkNamespace(nil)
        let (server, port) = try serve(in: namespace)
        defer { server.stop() }
        let stream = try #require(try Recording.allStreams().first)
        let bystander = try Client(port: port, in: namespace)
        #expect(log.wait { $0.count == 1 })
        let broken = try Client(port: port, in: namespace)
        broken.send([1, 2, 0, 6, 0, 0] + [9, 1, 0, 4] + stream + [1, 1, 0, 3] + stream)
        #expect(broken.isClosedByPeer)
        #expect(log.wait { $0.contains(where: isDisconnect) })
        let errors = log.events.compactMap { event -> String? in
            if case .fpmError(2, let text) = event { text } else { nil }
        }
        #expect(errors.count == 3)
        #expect(errors.first?.contains("type 2") == true && errors.last?.contains("length 3") == true)
        #expect(messages(of: 2) == expected(stream))
        bystander.send(stream)
        #expect(log.wait { _ in messages(of: 1) == expected(stream) })
    }

    @Test func zebraMayComeBackAndOneConnectionTooManyIsRefused() throws {
        let namespace = try NetworkNamespace(nil)
        let (server, port) = try serve(in: namespace)
        defer { server.stop() }
        for number in 1...3 {
            do { _ = try Client(port: port, in: namespace) }
            #expect(log.wait { $0.filter(isDisconnect).count == number })
        }
        let clients = try (0..<FPMServer.maximumConnections).map { _ in try Client(port: port, in: namespace) }
        let refused = try Client(port: port, in: namespace)
        #expect(refused.isClosedByPeer)
        #expect(log.events.filter(isDisconnect).count == 3)
        _ = clients
    }

    @Test func listensInAnotherNamespaceAndOnlyThere() throws {
        guard let test = TestNamespace("fpm") else { return }
        let inside = try NetworkNamespace(test.name)
        let (server, port) = try serve(in: inside)
        defer { server.stop() }
        let outside = try NetworkNamespace(nil)
        #expect(throws: KernelError.self) { try Client(port: port, in: outside) }
        let client = try Client(port: port, in: inside)
        #expect(log.wait { $0.count == 1 })
        _ = client
    }

    @Test func anAddressThatCannotBeUsedIsExplained() throws {
        let namespace = try NetworkNamespace(nil)
        let (server, port) = try serve(in: namespace)
        defer { server.stop() }
        for (address, word) in [
            ("127.0.0.1:\(port)", "another pe-dp"), ("localhost:2620", "numeric"), ("127.0.0.1", "no port"),
            ("127.0.0.1:70000", "no port"), ("[::1:5", "numeric"), ("192.0.2.77:2620", "is the address there"),
        ] {
            do {
                let second = try FPMServer(listen: address, in: namespace) { _ in }
                second.stop()
                Issue.record("\(address) was accepted")
            } catch {
                #expect("\(error)".contains(word), "\(address): \(error)")
            }
        }
        let six = try FPMServer(listen: "[::1]:0", in: namespace) { _ in }
        #expect(six.localAddress?.protocol == .inet6)
        six.stop()
    }
}

@Suite struct NetworkNamespaceTests {
    @Test func anAbsentNamespaceIsExplained() {
        do {
            _ = try NetworkNamespace("pe-test-there-is-none")
            Issue.record("entered a namespace that does not exist")
        } catch {
            #expect("\(error)".contains("ip netns add pe-test-there-is-none"))
        }
    }

    @Test func onlyItsOwnThreadEntersTheNamespace() throws {
        guard let test = TestNamespace("thread") else { return }
        func current() -> String {
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self/ns/net")) ?? ""
        }
        let before = current()
        let namespace = try NetworkNamespace(test.name)
        let byPath = try NetworkNamespace("/run/netns/\(test.name)")
        let inside = try namespace.run { current() }
        #expect(inside != before && !inside.isEmpty)
        #expect(try byPath.run { current() } == inside)
        #expect(try namespace.run { try namespace.run { current() } } == inside)
        #expect(current() == before)
    }

    @Test func errorsAndValuesComeBackFromTheThread() throws {
        let namespace = try NetworkNamespace(nil)
        #expect(try (0..<100).map { value in try namespace.run { value * 2 } } == (0..<100).map { $0 * 2 })
        #expect(throws: NamespaceError.self) { try namespace.run { throw NamespaceError(path: "x", errno: 1) } }
    }
}
