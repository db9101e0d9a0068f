// The executable's entry point and its subcommands.
import ArgumentParser

/// The root command.
@main
struct PeDP: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pe-dp", abstract: "Userspace VXLAN/EVPN dataplane for a Provider Edge node.",
        version: "0.1.0")
}
