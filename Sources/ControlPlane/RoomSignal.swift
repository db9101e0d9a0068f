// When what did not fit into a full table is worth another try.

import Tables

/// Room comes twice: when something is removed, which lowers the count, and again when every worker has
/// passed that removal, as only then its slot or index is handed out anew.
struct RoomSignal {
    private var isDue = false
    /// Tried again when workers have passed it; nil when nothing rests.
    private var epoch: UInt64?

    /// Something was removed, or more waits than one batch tries.
    mutating func note(_ tables: ForwardingTables) {
        isDue = true
        wait(tables)
    }
    /// Something was refused: perhaps for what rests.
    mutating func wait(_ tables: ForwardingTables) {
        if epoch == nil, tables.deletionEpoch > tables.passedEpoch { epoch = tables.deletionEpoch }
    }
    /// Whether to try again; true once for each reason.
    mutating func take(_ tables: ForwardingTables) -> Bool {
        if let due = epoch, tables.passedEpoch >= due {
            epoch = nil
            isDue = true
        }
        defer { isDue = false }
        return isDue
    }
}
