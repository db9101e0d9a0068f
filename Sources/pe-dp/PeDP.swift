// The executable's entry point, its subcommands, and how they end.

import ArgumentParser
import Foundation

/// Why a command ends without success: what is printed, and the exit code.
struct CommandFailure: Error {
    var code: ExitStatus
    var message: String
    init(_ code: ExitStatus, _ message: String) {
        self.code = code
        self.message = message
    }
}

/// The exit codes of the contract.
enum ExitStatus: Int32 {
    case success = 0, invalid = 1, usage = 2, unreachable = 3, degraded = 4
}

/// The root command.
struct PeDP: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pe-dp",
        abstract: "Userspace VXLAN/EVPN dataplane for a Provider Edge node.",
        discussion: """
            pe-dp forwards the packets of L2VNIs between local ports and remote VTEPs. A stock FRR \
            beside it speaks BGP EVPN; pe-dp takes routes and MACs from zebra's FPM and from the \
            kernel, and gives local MACs back.

              pe-dp check --config /etc/pe-dp/pe-dp.yaml     is everything right?
              pe-dp run --config /etc/pe-dp/pe-dp.yaml       forward
              pe-dp status                                   how is it going?
              pe-dp show fdb --vni 110                       who is where?

            Exit codes: 0 ok, 1 not found or invalid, 2 usage, 3 daemon unreachable, 4 degraded.
            """,
        version: "pe-dp \(pedpVersion)",
        subcommands: [
            RunCommand.self, CheckCommand.self, StatusCommand.self, ShowCommand.self,
            ReplayCommand.self,
        ]
    )

    /// Parses, runs and ends the process with an exit code of the contract.
    static func start(_ arguments: [String]? = nil) -> Never {
        let (code, output, complaint) = outcome(arguments)
        if !output.isEmpty { print(output) }
        if !complaint.isEmpty { printError(complaint) }
        Foundation.exit(code.rawValue)
    }

    /// The exit code, and what remains to be printed on standard output and standard error.
    static func outcome(_ arguments: [String]?) -> (ExitStatus, String, String) {
        do {
            var command = try parseAsRoot(arguments)
            try command.run()
            return (.success, "", "")
        } catch let failure as CommandFailure {
            return (failure.code, "", failure.message)
        } catch {
            let message = fullMessage(for: error)
            switch exitCode(for: error) {
            case .success: return (.success, message, "")
            case .validationFailure: return (.usage, "", message)
            default: return (.invalid, "", message)
            }
        }
    }
}

@main enum Main {
    static func main() { PeDP.start() }
}

/// Writes one message to standard error.
func printError(_ text: String) {
    FileHandle.standardError.write(Data((text + "\n").utf8))
}
