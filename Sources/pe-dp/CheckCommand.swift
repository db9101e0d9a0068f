// `pe-dp check`: is the configuration valid, and can this host run it?

import ArgumentParser
import ControlPlane
import Foundation

/// Validates without changing anything.
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Validate the configuration and this host; change nothing.",
        discussion: """
            Prints every fault of the configuration as file:line:column, and what the host lacks: \
            privileges, processor features, memory and huge pages, /dev/net/tun, kernel features, \
            namespaces, devices and their offloads. Each fault says what to do about it. Warnings \
            are no faults. Exits with 0 when pe-dp can run, with 1 when it cannot.

              pe-dp check                                       this host in general
              pe-dp check --config /etc/pe-dp/pe-dp.yaml        this configuration on this host
            """
    )

    @Option(help: "The configuration file (YAML); without it, only the host is checked.")
    var config: String?
    @Flag(help: "Print JSON: one line, sorted keys.") var json = false

    /// What `--json` prints.
    struct Report: Codable {
        var configuration: ConfigurationReport?
        var host: [HostFinding]
        var ok: Bool
    }

    func run() throws {
        let reading = config.map { Configuration.read(file: $0) }
        let configuration = reading.flatMap { $0.faults.isEmpty ? $0.configuration : nil }
        let findings = HostCheck.run(configuration: configuration)
        let faults = findings.filter { $0.severity == .fault }.count + (reading?.faults.count ?? 0)
        let report = Report(
            configuration: config.flatMap { file in
                reading.map { ConfigurationReport($0, file: file) }
            },
            host: findings,
            ok: faults == 0
        )
        if json {
            printBody(try JSON.encode(report))
        } else {
            print(Self.text(reading, config, findings), terminator: "")
        }
        guard faults > 0 else { return }
        throw CommandFailure(
            .invalid,
            "\(faults) \(faults == 1 ? "fault" : "faults"): pe-dp cannot run"
        )
    }

    /// The report for people.
    static func text(_ reading: ConfigurationReading?, _ file: String?, _ findings: [HostFinding])
        -> String
    {
        var text = ""
        if let reading, let file {
            for fault in reading.faults { text += "fault    \(fault)\n" }
            for note in reading.notes { text += "warning  \(note)\n" }
            if reading.faults.isEmpty {
                let configuration = reading.configuration
                text +=
                    "ok       \(file): \(configuration.ports.count) ports, "
                    + "\(configuration.l2vnis.count) L2VNIs, \(configuration.l3vnis.count) L3VNIs\n"
            }
        }
        for finding in findings {
            let word = finding.severity.rawValue.padding(toLength: 7, withPad: " ", startingAt: 0)
            text += "\(word)  \(finding.check): \(finding.message)"
            text += finding.remedy.map { "; \($0)\n" } ?? "\n"
        }
        return text
    }
}
