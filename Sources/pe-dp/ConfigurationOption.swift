// Reading the configuration for a command, and how its faults are printed.

import ArgumentParser
import ControlPlane

/// A fault or note as JSON.
struct ConfigurationReport: Codable {
    struct Entry: Codable {
        var file: String
        var line: Int
        var column: Int
        var path: String
        var message: String
        var remedy: String
        init(_ error: ConfigurationError) {
            file = error.file
            line = error.location.line
            column = error.location.column
            path = error.path
            message = error.message
            remedy = error.remedy
        }
    }
    var file: String
    var faults: [Entry]
    var notes: [Entry]

    init(_ reading: ConfigurationReading, file: String) {
        self.file = file
        faults = reading.faults.map(Entry.init)
        notes = reading.notes.map(Entry.init)
    }
}

extension ConfigurationReading {
    /// Reads a file for a command that needs a valid one.
    static func forCommand(_ file: String) throws -> ConfigurationReading {
        let reading = Configuration.read(file: file)
        let count = reading.faults.count
        guard count > 0 else { return reading }
        throw CommandFailure(
            .invalid,
            ConfigurationFaults(faults: reading.faults).description
                + "\n\(count) \(count == 1 ? "fault" : "faults") in \(file)"
        )
    }
}
