// `pe-dp status`: the running daemon on one screen.

import ArgumentParser
import ControlPlane
import Foundation

/// Prints the daemon's health and tells it by the exit code.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the health of the running daemon on one screen.",
        discussion: """
            Ports, tables, buffers, control plane, and every alert with what to do about it.
            Exits with 0 when healthy or starting, 3 when no daemon answers, 4 when degraded, \
            so that it serves as a probe:

              pe-dp status >/dev/null || echo "look at pe-dp"
            """
    )

    @OptionGroup var options: ClientOptions

    func run() throws {
        let body = try options.ask { client throws(AdminClientError) in try client.get("/v1/status")
        }
        let report = try options.decode { try JSONDecoder().decode(StatusReport.self, from: body) }
        if options.json {
            printBody(body)
        } else {
            print(report.screen, terminator: "")
        }
        if report.state == .degraded { throw CommandFailure(.degraded, "pe-dp is degraded") }
    }
}
