// `pe-dp replay`: the dataplane offline, fed with recorded streams and captures.

import ArgumentParser
import ControlPlane
import Foundation

/// `PORT=IN.pcap`.
struct ReplayCapture: ExpressibleByArgument, Hashable {
    var port: String
    var path: String
    init?(argument: String) {
        let parts = argument.split(separator: "=", maxSplits: 1)
        guard parts.count == 2 else { return nil }
        port = String(parts[0])
        path = String(parts[1])
    }
}

/// Runs streams and captures through the real code.
struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Run recorded streams and captures through the dataplane, offline.",
        discussion: """
            The same code as `run`, without ports, privileges, huge pages or a clock: the same input \
            always gives the same output. First the control streams are read, then the captures are \
            sent, one burst at a time. Written are OUT/<port>.pcap for every port, OUT/summary.json, \
            and OUT/state.json (what every `show … --json` would print, by its name).

              pe-dp replay --config pe.yaml --fpm zebra.bin --netlink kernel.bin \\
                  --in host1=host1.pcap --in up0=fabric.pcap --out result

            An FPM stream is what zebra sent over TCP, byte by byte; a netlink stream is messages one \
            after the other, each aligned to 4 bytes, as a dump returns them.
            """
    )

    @Option(help: "The configuration file (YAML).") var config: String
    @Option(help: "A recorded FPM stream; may be given again.") var fpm: [String] = []
    @Option(help: "A recorded stream of netlink messages; may be given again.")
    var netlink: [String] = []
    @Option(
        name: .customLong("in"),
        help: ArgumentHelp(
            "Packets that arrive at a port; may be given again.",
            valueName: "port=file"
        )
    )
    var captures: [ReplayCapture] = []
    @Option(help: "The directory to write to; made when it is not there.") var out: String
    @Flag(help: "Print the summary as JSON.") var json = false

    /// A port, or the exception TAP of one, whose captures are named `<port>.host`.
    private static func exists(_ name: String, _ configuration: Configuration) -> Bool {
        configuration.ports.contains {
            $0.name == name || $0.exception != nil && $0.name + ".host" == name
        }
    }

    func run() throws {
        let configuration = try ConfigurationReading.forCommand(config).configuration
        for capture in captures
        where !Self.exists(capture.port, configuration) {
            throw CommandFailure(
                .invalid,
                "--in \(capture.port)=…: \(config) has no port \"\(capture.port)\""
            )
        }
        for path in fpm + netlink + captures.map(\.path)
        where !FileManager.default.isReadableFile(atPath: path) {
            throw CommandFailure(.invalid, "\(path) cannot be read: give the path of a file")
        }
        var input = ReplayInput(
            configuration: configuration,
            configurationPath: config,
            output: out
        )
        input.fpm = fpm
        input.netlink = netlink
        input.captures = captures.map { ($0.port, $0.path) }
        let summary: ReplaySummary
        do {
            summary = try Replay(input).run()
        } catch {
            throw CommandFailure(.invalid, "the replay failed: \(error)")
        }
        if json {
            printBody(try JSON.encode(summary))
        } else {
            let dropped = summary.dropped.values.reduce(0, &+)
            print(
                """
                received \(summary.received), replicated \(summary.replicated), sent \(summary.sent), \
                punted \(summary.punted), dropped \(dropped)
                results are in \(out)
                """
            )
        }
    }
}
