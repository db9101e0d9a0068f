// What the commands that ask a running daemon have in common.

import ArgumentParser
import ControlPlane
import Foundation
import Wire

extension VNI: ExpressibleByArgument {
    public init?(argument: String) {
        guard let number = UInt32(argument) else { return nil }
        self.init(number)
    }
}

extension IPPrefix: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

extension MACAddress: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

/// Where the daemon is, and how to print.
struct ClientOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The daemon's admin socket (dataplane.adminSocket).",
            discussion: "PE_DP_SOCKET sets another default."
        )
    )
    var socket: String =
        ProcessInfo.processInfo.environment["PE_DP_SOCKET"] ?? AdminClient.defaultPath
    @Flag(help: "Print JSON: one line, sorted keys, stable order.") var json = false

    var client: AdminClient { AdminClient(path: socket) }

    /// Asks, and turns a refusal into the exit code that it stands for.
    func ask(_ question: (AdminClient) throws(AdminClientError) -> Data) throws -> Data {
        do throws(AdminClientError) {
            return try question(client)
        } catch {
            switch error {
            case .unreachable, .malformed, .refused(503, _), .refused(504, _):
                throw CommandFailure(.unreachable, error.description)
            case .refused:
                throw CommandFailure(.invalid, error.description)
            }
        }
    }

    /// Reads an answer; one of another version of pe-dp is malformed.
    func decode<Value>(_ body: () throws -> Value) throws -> Value {
        do {
            return try body()
        } catch {
            throw CommandFailure(
                .unreachable,
                "the daemon's answer is not understood: is it of another version? (\(error))"
            )
        }
    }
}

/// Writes an answer as it came.
func printBody(_ data: Data) {
    print(String(decoding: data, as: UTF8.self), terminator: data.last == 0x0A ? "" : "\n")
}
