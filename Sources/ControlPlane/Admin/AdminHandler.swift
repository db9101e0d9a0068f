// One admin connection: a request in, an answer out, a deadline on each step.

import Foundation
import Logging
import NIOCore
import NIOHTTP1

/// What the admin server answers with.
struct AdminResponse: Sendable {
    var status: HTTPResponseStatus
    var contentType = "application/json"
    var body: [UInt8]
    var allow: String?

    static func json(_ data: Data) -> AdminResponse {
        AdminResponse(status: .ok, body: Array(data) + [0x0A])
    }
    static func failure(_ status: HTTPResponseStatus, _ message: String) -> AdminResponse {
        let body = try? JSON.encode(["error": message])
        return AdminResponse(status: status, body: Array(body ?? Data("{}".utf8)) + [0x0A])
    }
}

/// What a request asks for.
enum AdminRequest: Hashable, Sendable {
    case index
    case show(ShowTopic, ShowFilter)
    case status
    case metrics

    /// Paths that the server knows.
    static let paths =
        ["/v1/status", "/metrics"] + ShowTopic.allCases.map { "/v1/show/\($0.rawValue)" }

    /// Reads method and target; the error is the answer.
    static func parse(method: HTTPMethod, target: String) -> Result<AdminRequest, AdminRefusal> {
        guard target.hasPrefix("/") else {
            return .failure(AdminRefusal(.badRequest, "the request target is not a path"))
        }
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let path = String(parts[0])
        guard isKnown(path) else {
            return .failure(AdminRefusal(.notFound, unknown(path)))
        }
        guard method == .GET else {
            return .failure(
                AdminRefusal(.methodNotAllowed, "\(method.rawValue) is not offered; use GET")
            )
        }
        guard let query = parseQuery(parts.count > 1 ? parts[1] : "") else {
            return .failure(
                AdminRefusal(.badRequest, "the query is not name=value pairs joined by &")
            )
        }
        if path == "/" || path == "/v1" || path == "/v1/show" { return .success(.index) }
        if path == "/v1/status" { return .success(.status) }
        if path == "/metrics" { return .success(.metrics) }
        guard let topic = ShowTopic(rawValue: String(path.dropFirst("/v1/show/".count))) else {
            return .failure(AdminRefusal(.notFound, unknown(path)))
        }
        do throws(ShowFilterError) {
            return .success(.show(topic, try ShowFilter(query: query, for: topic)))
        } catch {
            return .failure(AdminRefusal(.badRequest, error.message))
        }
    }

    private static func isKnown(_ path: String) -> Bool {
        ["/", "/v1", "/v1/show"].contains(path) || paths.contains(path)
    }

    private static func unknown(_ path: String) -> String {
        "nothing at \(path.prefix(200)); see /"
    }

    /// Nil for a name twice, a pair without `=`, or a broken percent code.
    private static func parseQuery(_ text: Substring) -> [String: String]? {
        var result: [String: String] = [:]
        for pair in text.split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, let name = String(parts[0]).removingPercentEncoding,
                let value = String(parts[1]).removingPercentEncoding,
                result.updateValue(value, forKey: name) == nil
            else { return nil }
        }
        return result
    }
}

/// A request that is not served.
struct AdminRefusal: Error, Hashable, Sendable {
    var status: HTTPResponseStatus
    var message: String
    init(_ status: HTTPResponseStatus, _ message: String) {
        self.status = status
        self.message = message
    }
}

/// The last handler of a connection.
final class AdminHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart
    private let provider: any ShowProvider
    private let limits: AdminLimits
    private let first: ConnectionGuard
    private let logger: Logger
    private var head: HTTPRequestHead?
    private var deadline: Scheduled<Void>?
    /// Rises with each answer, so that a late one finds that its time is over.
    private var turn = 0

    init(
        provider: any ShowProvider,
        limits: AdminLimits,
        first: ConnectionGuard,
        logger: Logger
    ) {
        self.provider = provider
        self.limits = limits
        self.first = first
        self.logger = logger
    }

    func channelActive(context: ChannelHandlerContext) {
        context.fireChannelActive()
        closeUnless(within: limits.requestSeconds, context: context)
    }

    func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        turn += 1
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): self.head = head
        case .body: break  // Bounded by the first handler; no request here has a meaning for one.
        case .end:
            guard let head else { return }
            self.head = nil
            first.reset()
            serve(head, context: context)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        logger.debug("admin connection closed", metadata: ["error": "\(error)"])
        context.close(promise: nil)
    }

    private func serve(_ head: HTTPRequestHead, context: ChannelHandlerContext) {
        deadline?.cancel()
        turn += 1
        let turn = turn
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let eventLoop = context.eventLoop
        let keepAlive = head.isKeepAlive
        let finish: @Sendable (AdminResponse) -> Void = { response in
            let (handler, context) = bound.value
            guard handler.turn == turn, context.channel.isActive else { return }
            handler.turn += 1
            handler.send(response, keepAlive: keepAlive, context: context)
        }
        deadline = eventLoop.scheduleTask(in: .seconds(limits.answerSeconds)) {
            finish(.failure(.gatewayTimeout, "the control thread did not answer in time"))
        }
        switch AdminRequest.parse(method: head.method, target: head.uri) {
        case .failure(let refusal):
            var response = AdminResponse.failure(refusal.status, refusal.message)
            if refusal.status == .methodNotAllowed { response.allow = "GET" }
            finish(response)
        case .success(.index):
            finish(Self.encode { try JSON.encode(["paths": AdminRequest.paths]) })
        case .success(.status):
            provider.status { status in
                eventLoop.execute { finish(Self.encode { try JSON.encode(status) }) }
            }
        case .success(.show(let topic, let filter)):
            provider.show(topic, filter: filter) { answer in
                eventLoop.execute {
                    finish(Self.encode { try answer.filtered(by: filter).json() })
                }
            }
        case .success(.metrics):
            let topics: [ShowTopic] = [.counters, .ports, .lcores, .control]
            Self.collect(topics[...], from: provider, on: eventLoop, MetricsText(), finish)
        }
    }

    /// Asks for one topic after the other, then for the status, then finishes with the text.
    private static func collect(
        _ topics: ArraySlice<ShowTopic>,
        from provider: any ShowProvider,
        on eventLoop: any EventLoop,
        _ metrics: MetricsText,
        _ finish: @escaping @Sendable (AdminResponse) -> Void
    ) {
        guard let topic = topics.first else {
            provider.status { status in
                eventLoop.execute {
                    var metrics = metrics
                    metrics.add(status)
                    var response = AdminResponse(status: .ok, body: Array(metrics.text.utf8))
                    response.contentType = "text/plain; version=0.0.4; charset=utf-8"
                    finish(response)
                }
            }
            return
        }
        provider.show(topic, filter: ShowFilter()) { answer in
            eventLoop.execute {
                var metrics = metrics
                metrics.add(answer)
                collect(topics.dropFirst(), from: provider, on: eventLoop, metrics, finish)
            }
        }
    }

    private static func encode(_ body: () throws -> Data) -> AdminResponse {
        do {
            return .json(try body())
        } catch {
            return .failure(.internalServerError, "the answer cannot be written: \(error)")
        }
    }

    private func send(_ response: AdminResponse, keepAlive: Bool, context: ChannelHandlerContext) {
        var headers = HTTPHeaders()
        headers.add(name: "Content-Type", value: response.contentType)
        headers.add(name: "Content-Length", value: String(response.body.count))
        if let allow = response.allow { headers.add(name: "Allow", value: allow) }
        if !keepAlive { headers.add(name: "Connection", value: "close") }
        let head = HTTPResponseHead(version: .http1_1, status: response.status, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        let body = context.channel.allocator.buffer(bytes: response.body)
        context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        closeUnless(within: limits.responseSeconds, context: context)
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { result in
            let (handler, context) = bound.value
            if case .success = result, keepAlive {
                handler.closeUnless(within: handler.limits.requestSeconds, context: context)
            } else {
                context.close(promise: nil)
            }
        }
    }

    private func closeUnless(within seconds: Int64, context: ChannelHandlerContext) {
        deadline?.cancel()
        let bound = context.loopBound
        deadline = context.eventLoop.scheduleTask(in: .seconds(seconds)) {
            bound.value.close(promise: nil)
        }
    }
}
