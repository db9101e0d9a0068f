// A stock FRR in a throw-away network namespace, for tests of what it makes of pe-dp's devices.

import Foundation

/// zebra, bgpd and staticd with sockets of their own; they end with the value.
final class TestFRR {
    static let isInstalled = FileManager.default.isExecutableFile(atPath: "/usr/lib/frr/zebra")
    private static let daemons = ["zebra", "staticd", "bgpd"]
    private let namespace: TestNamespace
    private let directory: String

    /// - Parameter configuration: of all daemons, as in frr.conf.
    init(in namespace: TestNamespace, configuration: String) throws {
        self.namespace = namespace
        directory = "/tmp/\(namespace.name)-frr"
        try? FileManager.default.removeItem(atPath: directory)
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let write = { (name: String, text: String) in
            FileManager.default.createFile(atPath: self.directory + "/" + name, contents: Data(text.utf8))
        }
        _ = write("vtysh.conf", "no service integrated-vtysh-config\n")
        _ = write("frr.conf", "log file \(directory)/frr.log informational\n" + configuration)
        // The daemons drop to the user frr and write pid files and sockets here.
        namespace.shell("chown frr:frr \(directory); chmod 755 \(directory)")
        for daemon in Self.daemons {
            let port = daemon == "bgpd" ? "-p 179" : ""
            let extra = daemon == "zebra" ? "-s 90000000" : ""
            namespace.launch(
                "/usr/lib/frr/\(daemon) --vty_socket \(directory) -z \(directory)/zserv.api -u frr -g frr "
                    + "-A 127.0.0.1 -P 0 -i \(directory)/\(daemon).pid -d \(port) \(extra)")
        }
        namespace.shell("\(vtysh) -f \(directory)/frr.conf >\(directory)/vtysh.out 2>&1")
    }

    deinit {
        for daemon in Self.daemons.reversed() {
            namespace.shell("kill $(cat \(directory)/\(daemon).pid) 2>/dev/null")
        }
        try? FileManager.default.removeItem(atPath: directory)
    }

    private var vtysh: String { "/usr/bin/vtysh --vty_socket \(directory) --config_dir \(directory)" }

    /// What a show command prints.
    func show(_ command: String) -> String { namespace.shell("\(vtysh) -c \"\(command)\" 2>&1") }

    /// Waits for a route of a next hop, which stands on the line below it; the line behind that, which
    /// has `community` in it. What was shown when there is none.
    func communities(
        _ command: String, _ route: String, from nextHop: String, with community: String, seconds: Double = 60
    ) -> String {
        let deadline = Date(timeIntervalSinceNow: seconds)
        while true {
            let text = show(command)
            let lines = text.components(separatedBy: "\n")
            for index in lines.indices.dropLast(2)
            where lines[index].contains(route) && lines[index + 1].contains(nextHop)
                && lines[index + 2].contains(community)
            {
                return lines[index + 2]
            }
            if Date() > deadline { return text }
            Thread.sleep(forTimeInterval: 0.2)
        }
    }

    /// Waits until a show command prints all of `words`; what it printed last.
    func wait(_ command: String, _ words: [String], seconds: Double = 60) -> (isThere: Bool, text: String) {
        let deadline = Date(timeIntervalSinceNow: seconds)
        while true {
            let text = show(command)
            if words.allSatisfy({ text.contains($0) }) { return (true, text) }
            if Date() > deadline { return (false, text) }
            Thread.sleep(forTimeInterval: 0.2)
        }
    }
}
