// `pe-dp replay` over every recording shows what the control state itself comes to.

import Foundation
import Testing
import Wire

@testable import ControlPlane

@Suite(.serialized) struct ReplayRecordingTests {
    /// The executable that the same build made.
    static let program = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent(".build/debug/pe-dp")

    /// ``FPMRecording/configuration(vrf:)`` as a file.
    static func yaml(vrf: String) -> String {
        """
        ports:
          - {name: u0, driver: af_packet, device: eth-u0, exception: {}}
          - {name: host, driver: af_packet, device: veth-h}
        underlays:
          - {interfaces: [u0], tunnelEndpoint: {addresses: [10.0.0.1]}}
        l3vnis:
          - {vrf: \(vrf), vni: 50000}
        l2vnis:
          - {name: l2, vni: 10100, ports: [{port: host}]}
        control: {routes: fpm}

        """
    }
    static func mode(_ name: String) -> (links: String, vrf: String) {
        switch name.first {
        case "G": ("vrf", "red")
        case "R": ("svd", "red")
        case "Y": ("vlan", "red")
        default: ("default", "default")
        }
    }

    /// The tables that `state.json` has besides others.
    struct Shown: Codable, Equatable {
        var fdb: [FDBRow]
        var routes: [RouteRow]
        var nexthops: [NextHopRow]
    }

    /// One connection after the other, each lost when the next one comes, then quiet.
    static func expected(_ name: String) throws -> Shown {
        let (links, vrf) = mode(name)
        let rig = try ControlRig(FPMRecording.configuration(vrf: vrf))
        rig.dump(try FPMRecording.links(links))
        let connections = try Recording.connections(name)
        for (number, bytes) in connections {
            rig.apply(.fpmConnected(connection: number))
            FPMRecording.feed(bytes, cut: .whole, connection: number, into: rig)
            if number < connections.count { rig.apply(.fpmDisconnected(connection: number)) }
        }
        rig.wait(20)
        return Shown(
            fdb: rig.state.fdbRows(at: rig.now), routes: rig.state.routeRows(rig.compiler),
            nexthops: rig.state.nextHopRows(rig.compiler))
    }
    static func replay(_ name: String, into out: URL) throws {
        let (links, vrf) = mode(name)
        try FileManager.default.createDirectory(at: out, withIntermediateDirectories: true)
        let config = out.appendingPathComponent("pe.yaml")
        try yaml(vrf: vrf).write(to: config, atomically: true, encoding: .utf8)
        let process = Process()
        process.executableURL = program
        process.arguments = [
            "replay", "--config", config.path, "--out", out.path,
            "--netlink", Recording.folder.appendingPathComponent("links-\(links).bin").path,
        ]
        for (number, _) in try Recording.connections(name) {
            process.arguments? += ["--fpm", Recording.folder.appendingPathComponent("\(name)/conn-\(number).bin").path]
        }
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(text)")
    }

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: program.path)), arguments: Recording.names)
    func stateFileEqualsTheControlState(name: String) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("pe-dp-replay-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let first = folder.appendingPathComponent("first")
        try Self.replay(name, into: first)
        let state = try Data(contentsOf: first.appendingPathComponent("state.json"))
        let shown = try JSONDecoder().decode(Shown.self, from: state)
        #expect(shown == (try Self.expected(name)))
        #expect(!shown.routes.isEmpty)
        for port in ["u0", "u0.host", "host"] {
            #expect(FileManager.default.fileExists(atPath: first.appendingPathComponent("\(port).pcap").path))
        }
        guard name == Recording.names.first else { return }
        // The same input gives the same bytes.
        let second = folder.appendingPathComponent("second")
        try Self.replay(name, into: second)
        for file in ["state.json", "summary.json"] {
            let again = try Data(contentsOf: second.appendingPathComponent(file))
            #expect(again == (try Data(contentsOf: first.appendingPathComponent(file))), "\(file)")
        }
    }
}
