// The admin socket: who may have it, what it answers, what bad clients cannot do.

import Foundation
import Glibc
import Logging
import Synchronization
import Testing

@testable import ControlPlane

/// Answers with fixed rows; silent when told so.
struct FixedProvider: ShowProvider {
    var isSilent = false
    /// Seconds before an answer, which then comes from another thread.
    var delay: Double?
    var rows = [
        FDBRow(
            vni: 110,
            mac: "02:00:00:00:00:02",
            type: .remote,
            vtep: "100.65.0.2",
            source: "fpm"
        ),
        FDBRow(
            vni: 110,
            mac: "02:00:00:00:00:01",
            type: .local,
            port: "host1",
            source: "dataplane"
        ),
        FDBRow(
            vni: 120,
            mac: "02:00:00:00:00:01",
            type: .local,
            port: "host2",
            vlan: 20,
            source: "dataplane"
        ),
    ]

    func show(
        _ topic: ShowTopic,
        filter: ShowFilter,
        reply: @escaping @Sendable (ShowAnswer) -> Void
    ) {
        if isSilent { return }
        switch topic {
        case .fdb: reply(.fdb(rows))
        case .ports:
            reply(
                .ports([
                    PortRow(
                        name: "up0",
                        driver: "null",
                        device: "",
                        role: "underlay",
                        state: "up",
                        mtu: 1600
                    )
                ])
            )
        case .lcores: reply(.lcores([LcoreRow(lcore: 1, role: "worker", busy: 0.25)]))
        case .control: reply(.control(ControlRow()))
        default:
            var counters = CounterReport()
            counters.received = 7
            counters.sent = 4
            counters.dropped = ["unknown\"VNI": 3]
            counters.services = ["arpSuppressed": 5, "waiting": 1]
            reply(.counters(counters))
        }
    }
    func status(reply: @escaping @Sendable (StatusReport) -> Void) {
        if isSilent { return }
        let status = StatusReport(
            version: "1",
            state: .healthy,
            uptimeSeconds: 1,
            pid: 1,
            configuration: "x"
        )
        guard let delay else { return reply(status) }
        Thread.detachNewThread {
            Thread.sleep(forTimeInterval: delay)
            reply(status)
        }
    }
}

/// A directory of its own under /tmp, removed at the end.
final class Folder {
    let path: String
    init() {
        var template = Array("/tmp/pe-dp-test.XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}

@Suite("Admin socket") struct AdminServerTests {
    let folder = Folder()
    var path: String { folder.path + "/deep/er/admin.sock" }
    let logger = Logger(label: "test")

    /// Sends raw bytes and returns all that comes back until the server closes.
    func raw(_ text: String, seconds: Int = 10) -> String {
        let file = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(file) }
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        guard withUnixAddress(path, { connect(file, $0, $1) }) == 0 else { return "no connection" }
        let bytes = Array(text.utf8)
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                send(file, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { break }
            sent += count
        }
        var result: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(file, &chunk, chunk.count, 0)
            if count <= 0 { break }
            result += chunk[..<count]
        }
        return String(decoding: result, as: UTF8.self)
    }

    @Test("rows come sorted, filtered and with sorted keys") func rows() throws {
        let server = try AdminServer(path: path, provider: FixedProvider(), logger: logger)
        defer { server.stop() }
        let client = AdminClient(path: path)
        let all = String(decoding: try client.show(.fdb), as: UTF8.self)
        #expect(
            all == """
                [{"mac":"02:00:00:00:00:01","port":"host1","source":"dataplane","sticky":false,"type":"local","vni":110},\
                {"mac":"02:00:00:00:00:02","source":"fpm","sticky":false,"type":"remote","vni":110,"vtep":"100.65.0.2"},\
                {"mac":"02:00:00:00:00:01","port":"host2","source":"dataplane","sticky":false,"type":"local","vlan":20,"vni":120}]\n
                """
        )
        let filtered = try ShowAnswer(
            json: client.show(.fdb, filter: ShowFilter(vni: 120)),
            topic: .fdb
        )
        #expect(filtered == .fdb([FixedProvider().rows[2]]))
        let mac = try ShowAnswer(
            json: client.show(.fdb, filter: ShowFilter(mac: .init("2:0:0:0:0:2"))),
            topic: .fdb
        )
        #expect(mac == .fdb([FixedProvider().rows[0]]))
    }

    @Test("metrics are Prometheus text with escaped labels") func metrics() throws {
        let server = try AdminServer(path: path, provider: FixedProvider(), logger: logger)
        defer { server.stop() }
        let text = String(decoding: try AdminClient(path: path).get("/metrics"), as: UTF8.self)
        #expect(
            text.contains(
                "# TYPE pedp_packets_received_total counter\npedp_packets_received_total 7\n"
            )
        )
        #expect(text.contains("pedp_drops_total{reason=\"unknown\\\"VNI\"} 3\n"))
        #expect(text.contains("pedp_services_total{what=\"arpSuppressed\"} 5\n"))
        #expect(!text.contains("waiting"))
        #expect(text.contains("pedp_lcore_busy_ratio{lcore=\"1\",role=\"worker\"} 0.25\n"))
        #expect(text.contains("pedp_port_rx_packets_total{port=\"up0\"} 0\n"))
        #expect(text.contains("pedp_degraded 0\n"))
        let announced = text.split(separator: "\n").filter { $0.hasPrefix("# TYPE") }
        #expect(Set(announced).count == announced.count)
    }

    @Test(
        "what is not offered is refused in JSON",
        arguments: [
            ("GET /nothing HTTP/1.1", 404), ("GET /v1/show/fbd HTTP/1.1", 404),
            ("POST /v1/status HTTP/1.1", 405), ("DELETE /v1/show/fdb HTTP/1.1", 405),
            ("GET /v1/show/fdb?vni=x HTTP/1.1", 400),
            ("GET /v1/show/fdb?vni=99999999 HTTP/1.1", 400),
            ("GET /v1/show/fdb?color=red HTTP/1.1", 400),
            ("GET /v1/show/fdb?vni=1&vni=2 HTTP/1.1", 400),
            ("GET /v1/show/fdb?mac=%zz HTTP/1.1", 400), ("GET /v1/show/drops?vni=1 HTTP/1.1", 400),
        ]
    )
    func refusals(line: String, status: Int) throws {
        let server = try AdminServer(path: path, provider: FixedProvider(), logger: logger)
        defer { server.stop() }
        let answer = raw(line + "\r\nHost: x\r\nConnection: close\r\n\r\n")
        #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
        #expect(answer.contains("\r\n\r\n{\"error\":\""))
        #expect((status == 405) == answer.contains("\r\nAllow: GET\r\n"))
    }

    @Test("broken, huge and silent clients end, and others are served meanwhile") func badClients()
        throws
    {
        var limits = AdminLimits()
        limits.requestSeconds = 1
        let server = try AdminServer(
            path: path,
            provider: FixedProvider(),
            logger: logger,
            limits: limits
        )
        defer { server.stop() }
        #expect(raw("\u{0}\u{1}garbage\r\n\r\n").hasPrefix("HTTP/1.1 400 "))
        #expect(
            raw("GET / HTTP/1.1\r\nX: " + String(repeating: "a", count: 100_000)).hasPrefix(
                "HTTP/1.1 431 "
            )
        )
        let body = "GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n"
        #expect(raw(body + String(repeating: "b", count: 50_000)).hasPrefix("HTTP/1.1 431 "))
        let start = Date()
        #expect(raw("GET /v1/sta") == "")  // Half a request: closed after the deadline.
        #expect(Date().timeIntervalSince(start) < 5)
        let silent = (0..<8).map { _ in socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0) }
        for file in silent { #expect(withUnixAddress(path, { connect(file, $0, $1) }) == 0) }
        #expect(try AdminClient(path: path).get("/v1/status").isEmpty == false)
        for file in silent { close(file) }
    }

    @Test("a connection too many is told so") func tooMany() throws {
        var limits = AdminLimits()
        limits.connections = 2
        let server = try AdminServer(
            path: path,
            provider: FixedProvider(),
            logger: logger,
            limits: limits
        )
        defer { server.stop() }
        let open = (0..<2).map { _ in socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0) }
        for file in open { #expect(withUnixAddress(path, { connect(file, $0, $1) }) == 0) }
        #expect(raw("").hasPrefix("HTTP/1.1 503 "))
        for file in open { close(file) }
        var served = false
        for _ in 0..<50 where !served {
            served = (try? AdminClient(path: path).get("/v1/status")) != nil
            if !served { usleep(20_000) }
        }
        #expect(served)
    }

    @Test("a control thread that does not answer gives 504") func silentProvider() throws {
        var limits = AdminLimits()
        limits.answerSeconds = 1
        let server = try AdminServer(
            path: path,
            provider: FixedProvider(isSilent: true),
            logger: logger,
            limits: limits
        )
        defer { server.stop() }
        #expect(throws: AdminClientError.refused(504, "the control thread did not answer in time"))
        {
            try AdminClient(path: path).get("/v1/status")
        }
    }

    @Test("late answers meet clients that sent more, sent rubbish or went away") func lateAnswers()
        throws
    {
        let server = try AdminServer(
            path: path,
            provider: FixedProvider(delay: 0.2),
            logger: logger
        )
        defer { server.stop() }
        let request = "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
        let last = "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        let pipelined = raw(request + request + last)
        #expect(pipelined.components(separatedBy: "HTTP/1.1 200 OK").count == 4)
        let rubbish = raw(request + "\u{1}\u{2} rubbish\r\n\r\n")
        #expect(rubbish.hasPrefix("HTTP/1.1 "))
        for _ in 0..<4 {
            let file = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            #expect(withUnixAddress(path, { connect(file, $0, $1) }) == 0)
            #expect(send(file, Array(request.utf8), request.utf8.count, 0) == request.utf8.count)
            close(file)
        }
        usleep(400_000)
        #expect(try AdminClient(path: path).get("/v1/status").isEmpty == false)
    }

    @Test("a client that reads nothing loses its connection, not the daemon") func slowReader()
        throws
    {
        var limits = AdminLimits()
        limits.responseSeconds = 1
        var provider = FixedProvider()
        provider.rows = (0..<50_000).map {
            FDBRow(
                vni: UInt32($0),
                mac: "02:00:00:00:00:01",
                type: .local,
                port: "p",
                source: "dataplane"
            )
        }
        let server = try AdminServer(path: path, provider: provider, logger: logger, limits: limits)
        defer { server.stop() }
        let file = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(file) }
        #expect(withUnixAddress(path, { connect(file, $0, $1) }) == 0)
        let request = Array("GET /v1/show/fdb HTTP/1.1\r\nHost: x\r\n\r\n".utf8)
        #expect(send(file, request, request.count, 0) == request.count)
        #expect(try AdminClient(path: path).get("/v1/status").isEmpty == false)
        // The server gives up after a second; what is buffered can still be read, then it ends.
        sleep(3)
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var chunk = [UInt8](repeating: 0, count: 65536)
        var total = 0
        var count = recv(file, &chunk, chunk.count, 0)
        while count > 0 {
            total += count
            count = recv(file, &chunk, chunk.count, 0)
        }
        #expect(count == 0 || errno == ECONNRESET)
        #expect(total < 3_000_000)
    }

    @Test("a second daemon on the same socket is refused and harms nothing") func secondDaemon()
        throws
    {
        let server = try AdminServer(path: path, provider: FixedProvider(), logger: logger)
        defer { server.stop() }
        do {
            _ = try AdminServer(path: path, provider: FixedProvider(), logger: logger)
            Issue.record("the second server started")
        } catch {
            #expect(error.description.contains("another pe-dp (pid \(getpid())) serves \(path)"))
            #expect(error.description.contains("dataplane.adminSocket"))
        }
        #expect(try AdminClient(path: path).get("/v1/status").isEmpty == false)
    }

    @Test("a live socket without a lock is refused too") func foreignListener() throws {
        mkdir(folder.path + "/deep", 0o755)
        mkdir(folder.path + "/deep/er", 0o755)
        let other = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(other) }
        #expect(withUnixAddress(path, { bind(other, $0, $1) }) == 0)
        #expect(listen(other, 1) == 0)
        #expect(throws: AdminSocketError.self) {
            try AdminServer(path: path, provider: FixedProvider(), logger: logger)
        }
        #expect(access(path, F_OK) == 0)
    }

    @Test("a stale socket is replaced, another kind of file is not") func stale() throws {
        mkdir(folder.path + "/deep", 0o755)
        mkdir(folder.path + "/deep/er", 0o755)
        let dead = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        #expect(withUnixAddress(path, { bind(dead, $0, $1) }) == 0)
        close(dead)
        let server = try AdminServer(path: path, provider: FixedProvider(), logger: logger)
        #expect(try AdminClient(path: path).get("/v1/status").isEmpty == false)
        server.stop()
        #expect(access(path, F_OK) != 0)
        #expect(access(path + ".lock", F_OK) != 0)
        FileManager.default.createFile(atPath: path, contents: Data("precious".utf8))
        #expect(throws: AdminSocketError.self) {
            try AdminServer(path: path, provider: FixedProvider(), logger: logger)
        }
        #expect(FileManager.default.contents(atPath: path) == Data("precious".utf8))
    }

    @Test("the mode is as configured", arguments: [0o600, 0o660, 0o666] as [UInt32]) func mode(
        _ mode: UInt32
    ) throws {
        let server = try AdminServer(
            path: path,
            mode: mode,
            provider: FixedProvider(),
            logger: logger
        )
        defer { server.stop() }
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(status.st_mode & 0o777 == mode)
    }

    @Test("a path that cannot be is refused with a remedy")
    func badPath() {
        for path in [
            "relative.sock", "/" + String(repeating: "x", count: 120), "/proc/nowhere/admin.sock",
        ] {
            do {
                _ = try AdminServer(path: path, provider: FixedProvider(), logger: logger)
                Issue.record("\(path) was taken")
            } catch {
                #expect(error.description.contains("dataplane.adminSocket"))
            }
        }
    }

    @Test("without a daemon the client says how to get one") func unreachable() {
        do {
            _ = try AdminClient(path: path).get("/v1/status")
            Issue.record("an answer from nowhere")
        } catch {
            guard case .unreachable(let message) = error else {
                Issue.record("\(error)")
                return
            }
            #expect(message.contains("pe-dp run"))
        }
    }
}
