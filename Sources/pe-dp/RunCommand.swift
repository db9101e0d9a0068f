// `pe-dp run`: the daemon in the foreground, from configuration to a clean stop.

import ArgumentParser
import ControlPlane
import Glibc
import Logging

extension Logger.Level: @retroactive ExpressibleByArgument {}

/// Runs the dataplane until a signal ends it.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run the dataplane in the foreground.",
        discussion: """
            Reads the configuration, takes the ports, and forwards until SIGTERM or SIGINT. One line \
            with the word "ready" is logged when packets flow. Under systemd (Type=notify) readiness \
            is reported, too. The configuration is checked first; run `pe-dp check` to see all that \
            could be wrong with it and with this host.

            A first configuration, two ports and one VNI:

              ports:
                - {name: up0, driver: af_packet, device: eth1, mtu: 1600}
                - {name: host1, driver: af_packet, device: veth-h1}
              underlays:
                - {interfaces: [up0], tunnelEndpoint: {addresses: [100.65.0.1]}}
              l2vnis:
                - {name: layer2, vni: 110, ports: [{port: host1}]}
            """
    )

    @Option(help: "The configuration file (YAML).") var config: String
    @Option(help: "Least severe messages to log: trace, debug, info, notice, warning, error.")
    var logLevel: Logger.Level = .info

    /// Seconds that removing a part of the shadow devices may take: the service manager waits so long for
    /// each part instead of ending the whole by force.
    private static let stopStep = 15

    func run() throws {
        var times = StartTimes()
        let reading = try ConfigurationReading.forCommand(config)
        let configuration = reading.configuration
        var logger = Logger(label: "pe-dp") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = logLevel
        for note in reading.notes { logger.warning("\(note)") }

        // Before any thread exists, so that all inherit it and the signals wait for sigwait.
        let signals = TerminationSignals()
        let notifier = ServiceNotifier()
        times.end("configuration")
        let daemon = Daemon(configuration: configuration, path: config, logger: logger, times: times)
        do {
            try daemon.start()
        } catch {
            throw CommandFailure(.invalid, "pe-dp cannot start: \(error)")
        }
        let summary = "\(configuration.ports.count) ports, \(configuration.l2vnis.count) L2VNIs"
        logger.notice(
            "ready: \(summary)",
            metadata: ["socket": "\(configuration.dataplane.adminSocket)"]
        )
        notifier.ready("forwarding, \(summary)")
        let name = signals.wait()
        logger.notice("stopping on \(name)")
        notifier.stopping()
        daemon.stop { done, total in
            notifier.stopping("removed \(done) of \(total) shadow devices", within: Self.stopStep)
        }
        logger.notice("stopped")
    }
}

/// SIGTERM and SIGINT, taken by waiting for them.
struct TerminationSignals {
    private var set = sigset_t()

    /// Blocks the signals in this thread and in all that it will make.
    init() {
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        pthread_sigmask(SIG_BLOCK, &set, nil)
        signal(SIGPIPE, SIG_IGN)
    }

    /// Waits for one of them; a second one ends the process at once.
    func wait() -> String {
        var set = set
        var number: Int32 = 0
        while sigwait(&set, &number) != 0 {}
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
        return number == SIGINT ? "SIGINT" : "SIGTERM"
    }
}
