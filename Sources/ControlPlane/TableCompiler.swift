// Turns what the control state wants into tables, a batch of events at a time.

public import Tables
import Wire

/// Keeps ``ForwardingTables`` equal to what a ``ControlState`` wants.
public final class TableCompiler {
    public let tables: ForwardingTables

    /// Makes domains, circuits, ports and static state, and publishes them. `tables` is fresh.
    public init(_ state: inout ControlState, tables: ForwardingTables, at now: Instant) throws(TableError) {
        self.tables = tables
    }

    /// Applies all that changed since the last call and publishes once. Call it after a batch of
    /// events, and after each tick; the effects are neighbours to resolve and alarms to log.
    public func flush(_ state: inout ControlState, at now: Instant) -> [ControlEffect] {
        []
    }

    /// Ends the ageing period of the learn rings and tells what workers saw in it: an event for
    /// ``ControlState/apply(_:at:)``. Call it every ``ageingPeriodSeconds``.
    public func endAgeingPeriod() -> ControlEvent { .seen([]) }
    /// Half of `dataplane.macAgeingSeconds`, at most 10 seconds, at least 1.
    public var ageingPeriodSeconds: Double { 1 }
}
