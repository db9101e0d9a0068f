// How commands end: exit codes and messages, with and without a daemon.

import ArgumentParser
import ControlPlane
import Foundation
import Glibc
import Logging
import Testing

@testable import pe_dp

/// A directory of its own under /tmp, removed at the end.
final class Folder {
    let path: String
    init() {
        var template = Array("/tmp/pe-dp-command.XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// One VNI with one MAC; healthy or not.
struct OneVNI: ShowProvider {
    var state = StatusReport.State.healthy

    func show(
        _ topic: ShowTopic,
        filter: ShowFilter,
        reply: @escaping @Sendable (ShowAnswer) -> Void
    ) {
        switch topic {
        case .ports:
            reply(
                .ports([
                    PortRow(
                        name: "h1",
                        driver: "null",
                        device: "",
                        role: "circuit",
                        state: "up",
                        mtu: 1500
                    )
                ])
            )
        case .vnis:
            reply(
                .vnis([
                    VNIRow(vni: 110, type: "L2", name: "a"),
                    VNIRow(vni: 120, type: "L2", name: "b"),
                ])
            )
        case .fdb:
            reply(
                .fdb([
                    FDBRow(
                        vni: 110,
                        mac: "02:00:00:00:00:01",
                        type: .local,
                        port: "h1",
                        source: "dataplane"
                    )
                ])
            )
        case .vrfs: reply(.vrfs([]))
        case .routes: reply(.routes([]))
        case .neighbors: reply(.neighbors([]))
        case .nexthops: reply(.nexthops([]))
        case .vteps: reply(.vteps([]))
        case .flood: reply(.flood([]))
        case .counters: reply(.counters(CounterReport()))
        case .drops: reply(.drops([]))
        case .control: reply(.control(ControlRow()))
        case .lcores: reply(.lcores([]))
        }
    }
    func status(reply: @escaping @Sendable (StatusReport) -> Void) {
        reply(
            StatusReport(version: "1", state: state, uptimeSeconds: 1, pid: 1, configuration: "x")
        )
    }
}

@Suite("Commands") struct CommandTests {
    let folder = Folder()
    var socket: String { folder.path + "/admin.sock" }

    func file(_ name: String, _ text: String) -> String {
        let path = folder.path + "/" + name
        FileManager.default.createFile(atPath: path, contents: Data(text.utf8))
        return path
    }

    @Test(
        "wrong usage ends with 2 and says how",
        arguments: [
            ["bogus"], ["show", "nothing"], ["show", "fdb", "--vni", "16777216"],
            ["show", "fdb", "--vni", "x"],
            ["show", "fdb", "--mac", "zz"], ["show", "drops", "--vni", "1"], ["run"],
            ["replay", "--config", "x"],
            ["replay", "--config", "x", "--out", "y", "--in", "nofile"],
            ["run", "--config", "x", "--log-level", "loud"],
            ["check", "extra"],
        ]
    )
    func usage(arguments: [String]) {
        let (code, output, complaint) = PeDP.outcome(arguments)
        #expect(code == .usage)
        #expect(output.isEmpty && complaint.contains("Usage: pe-dp"))
    }

    @Test("version and help end with 0") func help() {
        #expect(PeDP.outcome(["--version"]) == (.success, "pe-dp \(pedpVersion)", ""))
        #expect(PeDP.outcome(["--help"]).1.contains("SUBCOMMANDS:"))
    }

    @Test("every command and topic has help that says what it is for") func teaching() {
        let commands = ["run", "check", "status", "show", "replay"].map { [$0] }
        for path in commands + ShowTopic.allCases.map({ ["show", $0.rawValue] }) {
            let (code, output, _) = PeDP.outcome(path + ["--help"])
            #expect(code == .success)
            #expect(output.hasPrefix("OVERVIEW: ") && output.contains("USAGE: pe-dp"), "\(path)")
        }
        for name in ["run", "check", "status", "show", "replay"] {
            #expect(
                PeDP.outcome([name, "--help"]).1.components(separatedBy: "\n\n").count > 3,
                "\(name)"
            )
        }
    }

    @Test("without a daemon, status and show end with 3 and say how to get one")
    func unreachable() {
        for path in [["status"]] + ShowTopic.allCases.map({ ["show", $0.rawValue] }) {
            let (code, _, complaint) = PeDP.outcome(path + ["--socket", socket, "--json"])
            #expect(code == .unreachable)
            #expect(complaint.contains("pe-dp run") && complaint.contains(socket))
        }
    }

    @Test("a socket that speaks something else is no daemon") func foreign() {
        let listener = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(socket.utf8)) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        #expect(bound == 0 && listen(listener, 1) == 0)
        Thread.detachNewThread {
            let peer = accept(listener, nil, nil)
            var request = [UInt8](repeating: 0, count: 512)
            _ = recv(peer, &request, request.count, 0)
            _ = send(peer, Array("SSH-2.0\r\n".utf8), 9, Int32(MSG_NOSIGNAL))
            close(peer)
        }
        let (code, _, complaint) = PeDP.outcome(["status", "--socket", socket])
        #expect(code == .unreachable && complaint.contains("does not speak HTTP"))
    }

    @Test("with a daemon, every topic prints and ends with 0") func topics() throws {
        let server = try AdminServer(
            path: socket,
            provider: OneVNI(),
            logger: Logger(label: "test")
        )
        defer { server.stop() }
        for topic in ShowTopic.allCases {
            #expect(PeDP.outcome(["show", topic.rawValue, "--socket", socket]).0 == .success)
            #expect(
                PeDP.outcome(["show", topic.rawValue, "--socket", socket, "--json"]).0 == .success
            )
        }
        #expect(PeDP.outcome(["status", "--socket", socket]).0 == .success)
    }

    @Test("what is not there ends with 1, an empty table of what is there with 0") func notFound()
        throws
    {
        let server = try AdminServer(
            path: socket,
            provider: OneVNI(),
            logger: Logger(label: "test")
        )
        defer { server.stop() }
        let show = { (arguments: [String]) in
            PeDP.outcome(["show"] + arguments + ["--socket", self.socket])
        }
        #expect(show(["fdb", "--vni", "110"]).0 == .success)
        #expect(show(["fdb", "--vni", "120"]).0 == .success)
        #expect(
            show(["fdb", "--vni", "130"]) == (
                .invalid, "", "there is no VNI 130; see pe-dp show vnis"
            )
        )
        #expect(
            show(["fdb", "--mac", "02:00:00:00:00:09"]) == (
                .invalid, "", "02:00:00:00:00:09 is not in fdb"
            )
        )
        #expect(show(["fdb", "--port", "h2"]).2 == "there is no port \"h2\"; see pe-dp show ports")
        #expect(
            show(["routes", "--vrf", "red"]).2 == "there is no VRF \"red\"; see pe-dp show vrfs"
        )
    }

    @Test("a degraded daemon ends status with 4") func degraded() throws {
        let server = try AdminServer(
            path: socket,
            provider: OneVNI(state: .degraded),
            logger: Logger(label: "test")
        )
        defer { server.stop() }
        #expect(
            PeDP.outcome(["status", "--socket", socket]) == (.degraded, "", "pe-dp is degraded")
        )
        #expect(PeDP.outcome(["status", "--socket", socket, "--json"]).0 == .degraded)
    }

    @Test("a faulty configuration ends run, check and replay with 1 and all its faults")
    func faults() {
        let path = file("bad.yaml", "ports:\n  - {name: a, driver: af_packet}\ncolour: red\n")
        let wanted = "\(path):2:5: ports[0]: device is missing; "
        for arguments in [
            ["run", "--config", path], ["replay", "--config", path, "--out", folder.path + "/out"],
        ] {
            let (code, _, complaint) = PeDP.outcome(arguments)
            #expect(code == .invalid)
            #expect(complaint.contains(wanted) && complaint.hasSuffix("2 faults in \(path)"))
            #expect(complaint.contains("\(path):3:1: file: unknown key \"colour\""))
        }
        #expect(PeDP.outcome(["check", "--config", path]).0 == .invalid)
        let reading = Configuration.read(file: path)
        #expect(CheckCommand.text(reading, path, []).contains("fault    " + wanted))
        #expect(
            PeDP.outcome(["run", "--config", folder.path + "/none.yaml"]).2.contains(
                "No such file or directory"
            )
        )
    }

    @Test("replay names the port and the file that are not there") func replayInputs() {
        let path = file(
            "good.yaml",
            "ports: [{name: a, driver: ring}]\ncontrol: {routes: none, fpm: none}\n"
        )
        let replay = { (arguments: [String]) in
            PeDP.outcome(
                ["replay", "--config", path, "--out", self.folder.path + "/out"] + arguments
            )
        }
        #expect(replay(["--in", "b=x.pcap"]).2.contains("has no port \"b\""))
        #expect(replay(["--in", "a=/nowhere.pcap"]).2.contains("/nowhere.pcap cannot be read"))
        #expect(replay(["--fpm", "/nowhere.bin"]).0 == .invalid)
    }

    @Test("a second daemon on the socket does not start") func second() throws {
        let server = try AdminServer(
            path: socket,
            provider: OneVNI(),
            logger: Logger(label: "test")
        )
        defer { server.stop() }
        let path = file(
            "run.yaml",
            "dataplane: {adminSocket: \(socket)}\nports: [{name: a, driver: null}]\ncontrol: {routes: none, fpm: none}\n"
        )
        let (code, _, complaint) = PeDP.outcome([
            "run", "--config", path, "--log-level", "critical",
        ])
        #expect(code == .invalid)
        #expect(complaint.contains("another pe-dp (pid \(getpid())) serves \(socket)"))
    }
}

@Suite("Systemd notification") struct ServiceNotifierTests {
    @Test("states go to the socket, a line each, and nowhere without one") func notify() {
        let folder = Folder()
        let path = folder.path + "/notify"
        let listener = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        #expect(bound == 0)
        let notifier = ServiceNotifier(path: path)
        #expect(notifier.ready("two\nports") && notifier.status("x") && notifier.stopping())
        #expect(notifier.stopping("removed 2 of 9", within: 15))
        var texts: [String] = []
        for _ in 0..<4 {
            var bytes = [UInt8](repeating: 0, count: 256)
            let count = recv(listener, &bytes, bytes.count, Int32(MSG_DONTWAIT))
            texts.append(String(decoding: bytes[..<max(0, count)], as: UTF8.self))
        }
        let left = "EXTEND_TIMEOUT_USEC=15000000\nSTATUS=removed 2 of 9"
        #expect(texts == ["READY=1\nSTATUS=two ports", "STATUS=x", "STOPPING=1\nSTATUS=stopping", left])
        #expect(!ServiceNotifier(path: nil).stopping())
        #expect(!ServiceNotifier(path: "relative").stopping())
        #expect(!ServiceNotifier(path: folder.path + "/none").stopping())
    }
}
