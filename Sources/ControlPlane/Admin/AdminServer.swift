// The admin server: HTTP/1.1 and JSON on a unix socket, beside the forwarding and never in its way.

public import Logging
import NIOCore
import NIOHTTP1
import NIOPosix

/// Who knows the answers.
///
/// Each call replies once, from any thread, at once or later.
public protocol ShowProvider: Sendable {
    /// Replies with the rows of `topic`. Obeying `filter` is optional: the server filters again.
    func show(
        _ topic: ShowTopic,
        filter: ShowFilter,
        reply: @escaping @Sendable (ShowAnswer) -> Void
    )
    func status(reply: @escaping @Sendable (StatusReport) -> Void)
}

/// What a client may cost.
public struct AdminLimits: Hashable, Sendable {
    /// Connections at a time; the next ones are told so and closed.
    public var connections = 32
    /// Bytes of a request, headers included; more is answered with 431.
    public var requestByteCount = 16 * 1024
    /// Seconds for a client to send a request; then it is closed.
    public var requestSeconds: Int64 = 30
    /// Seconds for a client to take an answer; then it is closed.
    public var responseSeconds: Int64 = 60
    /// Seconds for the daemon to answer; then the client gets 504.
    public var answerSeconds: Int64 = 10
    public init() {}
}

/// Serves `/v1/show/<topic>`, `/v1/status` and `/metrics` until it is stopped.
public final class AdminServer: Sendable {
    private let socket: AdminSocket
    private let group: MultiThreadedEventLoopGroup
    private let channel: any Channel

    /// Claims the socket and serves it on a thread of its own.
    ///
    /// - Throws: ``AdminSocketError`` when another daemon has it or it cannot be made.
    public init(
        path: String,
        mode: UInt32 = 0o600,
        provider: any ShowProvider,
        logger: Logger,
        limits: AdminLimits = AdminLimits()
    ) throws(AdminSocketError) {
        socket = try AdminSocket(claiming: path, mode: mode)
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let connections = ConnectionCount()
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 16)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let first = ConnectionGuard(limits: limits, connections: connections)
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(first)
                    try pipeline.configureHTTPServerPipeline(withErrorHandling: true)
                    try pipeline.addHandler(
                        AdminHandler(
                            provider: provider,
                            limits: limits,
                            first: first,
                            logger: logger
                        )
                    )
                }
            }
        do {
            channel = try bootstrap.withBoundSocket(socket.descriptor).wait()
        } catch {
            try? group.syncShutdownGracefully()
            socket.release()
            throw AdminSocketError("cannot serve \(path): \(error)")
        }
        logger.debug("admin socket ready", metadata: ["path": "\(path)"])
    }

    /// Closes all connections and removes the socket.
    ///
    /// Blocks; not to be called on its own thread.
    public func stop() {
        socket.release()
        try? channel.close().wait()
        try? group.syncShutdownGracefully()
    }
}

/// Connections that are open; used on the server's one event loop only.
final class ConnectionCount: @unchecked Sendable {
    var value = 0
}

/// The first handler of a connection: refuses one too many, and a request that grows too large.
///
/// Its refusals are plain bytes, because the HTTP handlers answer nothing but requests.
final class ConnectionGuard: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private let limits: AdminLimits
    private let connections: ConnectionCount
    private var byteCount = 0
    private var isRefused = false

    init(limits: AdminLimits, connections: ConnectionCount) {
        self.limits = limits
        self.connections = connections
    }

    /// A request has ended; the next one may use the whole limit.
    func reset() { byteCount = 0 }

    func channelActive(context: ChannelHandlerContext) {
        connections.value += 1
        context.fireChannelActive()
        guard connections.value > limits.connections else { return }
        refuse(
            "503 Service Unavailable",
            "\(limits.connections) admin connections are open; close some",
            context: context
        )
    }

    func channelInactive(context: ChannelHandlerContext) {
        connections.value -= 1
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isRefused else { return }
        let (sum, overflow) = byteCount.addingReportingOverflow(unwrapInboundIn(data).readableBytes)
        byteCount = sum
        if !overflow && byteCount <= limits.requestByteCount {
            context.fireChannelRead(data)
        } else {
            refuse(
                "431 Request Header Fields Too Large",
                "the request is larger than \(limits.requestByteCount) bytes",
                context: context
            )
        }
    }

    private func refuse(_ status: String, _ message: String, context: ChannelHandlerContext) {
        isRefused = true
        let body = "{\"error\":\"\(message)\"}\n"
        let head =
            "HTTP/1.1 \(status)\r\nContent-Type: application/json\r\n"
            + "Content-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n"
        let bound = context.loopBound
        context.writeAndFlush(
            wrapOutboundOut(context.channel.allocator.buffer(string: head + body))
        )
        .whenComplete { _ in bound.value.close(promise: nil) }
    }
}
