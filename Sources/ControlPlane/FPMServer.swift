// The TCP server to which zebra connects with its forwarding plane manager protocol (FPM).

public import NIOCore
import NIOPosix
import Glibc

/// Why the FPM server cannot listen.
public struct FPMServerError: Error, CustomStringConvertible, Sendable {
    public var description: String
}

/// Accepts any number of zebras (up to ``maximumConnections``) and turns their frames into events.
///
/// zebra connects every three seconds until somebody listens (FRR zebra/dplane_fpm_nl.c), so
/// starting and stopping need no order. The peers are trusted with routes, not with the process:
/// any bytes are survived.
public final class FPMServer: Sendable {
    /// FRR needs one, or two with both of its modules loaded.
    public static let maximumConnections = 16

    private let channel: any Channel
    private let group: MultiThreadedEventLoopGroup

    /// The address that is listened on; its port is the chosen one where 0 was asked for.
    public var localAddress: SocketAddress? { channel.localAddress }

    /// - Parameters:
    ///   - address: `host:port` with a numeric host, `[host]:port` for IPv6; port 0 takes any.
    ///   - namespace: where to listen.
    ///   - deliver: called on the server's thread; while it waits, nothing is read and zebra is held back.
    public init(
        listen address: String, in namespace: NetworkNamespace,
        deliver: @escaping @Sendable (ControlEvent) -> Void
    ) throws {
        let parsed = try Self.parse(address)
        let descriptor = try Self.bind(parsed, text: address, in: namespace)
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let connections = ConnectionCounter()
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 16)
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelOption(
                .recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 4096, initial: 65_536, maximum: 1 << 20)
            )
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        FPMSession(connections: connections, deliver: deliver))
                }
            }
        do {
            channel = try bootstrap.withBoundSocket(descriptor).wait()
        } catch {
            close(descriptor)
            try? group.syncShutdownGracefully()
            throw FPMServerError(description: "cannot listen for FPM on \(address): \(error)")
        }
    }

    /// Closes the listener and all connections; no event comes afterwards.
    public func stop() {
        try? channel.close().wait()
        try? group.syncShutdownGracefully()
    }

    static func parse(_ text: String) throws -> SocketAddress {
        let remedy = "write it as 127.0.0.1:2620 or [::1]:2620"
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
            (0...65_535).contains(port)
        else { throw FPMServerError(description: "FPM address \"\(text)\" has no port: \(remedy)") }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        do { return try SocketAddress(ipAddress: String(host), port: port) } catch {
            throw FPMServerError(
                description: "FPM address \"\(text)\" has no numeric host: \(remedy)")
        }
    }

    /// A listening socket belongs to the namespace in which it was made.
    private static func bind(
        _ address: SocketAddress, text: String, in namespace: NetworkNamespace
    ) throws -> Int32 {
        let family = address.protocol == .inet6 ? AF_INET6 : AF_INET
        return try namespace.run {
            let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            let descriptor = socket(family, type, 0)
            guard descriptor >= 0 else {
                throw FPMServerError(
                    description: "cannot open a TCP socket for FPM: \(errorText(errno))")
            }
            var one: Int32 = 1
            setsockopt(
                descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
            let result = address.withSockAddr { Glibc.bind(descriptor, $0, socklen_t($1)) }
            guard result == 0 else {
                let code = errno
                close(descriptor)
                throw FPMServerError(
                    description: "cannot listen for FPM on \(text): \(errorText(code))"
                        + (code == EADDRINUSE
                            ? "; is another pe-dp running in that network namespace?"
                            : "; is the address there and loopback up in that network namespace?"))
            }
            return descriptor
        }
    }
}

/// Numbers connections; used on the server's one event loop only.
private final class ConnectionCounter: @unchecked Sendable {
    var last = 0
    var open = 0
}

/// One connection of a zebra.
private final class FPMSession: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let connections: ConnectionCounter
    private let deliver: @Sendable (ControlEvent) -> Void
    private var deframer = FPMDeframer()
    /// Nil when the connection was one too many.
    private var number: Int?

    init(connections: ConnectionCounter, deliver: @escaping @Sendable (ControlEvent) -> Void) {
        self.connections = connections
        self.deliver = deliver
    }

    func channelActive(context: ChannelHandlerContext) {
        connections.last += 1
        guard connections.open < FPMServer.maximumConnections else {
            deliver(
                .fpmError(
                    connection: connections.last,
                    "refused: \(FPMServer.maximumConnections) FPM connections are open already"))
            context.close(promise: nil)
            return
        }
        connections.open += 1
        number = connections.last
        deliver(.fpmConnected(connection: connections.last))
    }

    func channelInactive(context: ChannelHandlerContext) {
        guard let number else { return }
        self.number = nil
        connections.open -= 1
        deliver(.fpmDisconnected(connection: number))
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let number else { return }
        let deliver = deliver
        unwrapInboundIn(data).withUnsafeReadableBytes { bytes in
            FPMReader.read(bytes, &deframer, connection: number, deliver)
        }
        if deframer.isBroken { context.close(promise: nil) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if let number { deliver(.fpmError(connection: number, "\(error)")) }
        context.close(promise: nil)
    }
}
