// The example configurations and the systemd unit that are shipped.

import Foundation
import Testing

@testable import ControlPlane

/// The package's root.
private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

@Suite("Examples") struct ConfigurationExampleTests {
    static let names = ["af_packet", "memif", "openperouter-netns", "pci", "static-ipv6"]

    @Test("no example is untested") func listed() throws {
        let folder = root.appendingPathComponent("packaging/examples").path
        let files = try FileManager.default.contentsOfDirectory(atPath: folder)
        #expect(files.sorted() == Self.names.map { $0 + ".yaml" })
    }

    @Test("every example is valid and nothing in it is doubtful", arguments: names)
    func valid(name: String) {
        let file = root.appendingPathComponent("packaging/examples/\(name).yaml").path
        let reading = Configuration.read(file: file)
        #expect(reading.faults == [])
        #expect(reading.notes == [])
        #expect(!reading.configuration.ports.isEmpty && !reading.configuration.l2vnis.isEmpty)
    }

    @Test("the examples show one mode each") func modes() throws {
        let read = { (name: String) in
            try Configuration.load(
                file: root.appendingPathComponent("packaging/examples/\(name).yaml").path
            )
        }
        #expect(try read("pci").ports.allSatisfy { $0.driver == .pci })
        #expect(try read("memif").ports.allSatisfy { $0.driver == .memif })
        let ipv6 = try read("static-ipv6")
        #expect(ipv6.l2vnis.allSatisfy(\.underlayIsIPv6) && ipv6.control.routes == .none)
        let openPERouter = try read("openperouter-netns")
        #expect(openPERouter.control.netns == "perouter")
        #expect(openPERouter.underlays.first?.tunnelEndpoints.map(\.description) == ["100.65.0.1"])
    }

    @Test("the unit notifies, may do what pe-dp does, and hides nothing that it needs") func unit()
        throws
    {
        let file = root.appendingPathComponent("packaging/pe-dp.service").path
        let text = String(
            decoding: try #require(FileManager.default.contents(atPath: file)),
            as: UTF8.self
        )
        let lines = Set(text.split(separator: "\n").map(String.init))
        #expect(lines.contains("Type=notify"))
        let capabilities = try #require(lines.first { $0.hasPrefix("CapabilityBoundingSet=") })
        for name in ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "BPF", "IPC_LOCK"] {
            #expect(capabilities.contains("CAP_" + name))
        }
        let families = try #require(lines.first { $0.hasPrefix("RestrictAddressFamilies=") })
        for name in ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"] {
            #expect(families.contains(name))
        }
        for setting in [
            "PrivateNetwork=", "PrivateDevices=", "MemoryDenyWriteExecute=", "RestrictNamespaces=",
        ] {
            #expect(
                !lines.contains { $0.hasPrefix(setting) },
                "\(setting) keeps pe-dp from working"
            )
        }
    }
}
