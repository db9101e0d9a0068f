// The event's whole way: what the control plane knows, and what each event does to it.

public import Tables
import Wire

/// All that the control plane knows. Pure: no clock, socket, randomness or global.
public struct ControlState {
    public let configuration: Configuration
    public let numbering: PortNumbering

    /// Takes everything from the configuration: domains, circuits, static state.
    public init(configuration: Configuration) {
        self.configuration = configuration
        numbering = PortNumbering(configuration)
    }

    /// Takes in one event and returns what it asks of the world, in order.
    public mutating func apply(_ event: ControlEvent, at now: Instant) -> [ControlEffect] {
        []
    }
}
