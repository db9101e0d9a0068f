// Flooded packets whose copies are still to be made, and how many copies one turn of a worker may make.

import CDPDK
import Tables

/// A packet that is being flooded, and how far that is.
struct FloodJob {
    var context: PacketContext
    /// A clone whose references the copies for VTEPs share as their payload; nil before the first one.
    var shared: MBuf?
    /// The frame's one's complement sum, once a path needed it.
    var innerSum: UInt64 = 0
    /// Which list ``position`` counts in, circuits first, and the mark of the last target before it.
    var generation: UInt32
    var position: UInt32 = 0
    var last: UInt32 = 0
    /// Of the domain: its index may be another's in a later turn.
    let vniWord: UInt32
    var hasInnerSum = false
    /// Some target has been served: ``last`` says which.
    var hasStarted = false
}

/// Packets to flood in the order in which they came, in fixed memory.
///
/// A broadcast in a domain of 512 VTEPs is 512 packets to send, and a burst may bring 32 of them: made at
/// once, they would hold up everything else for about a millisecond. So a turn of the worker, which takes
/// one burst from each of its sources, makes at most ``copiesPerTurn`` copies, and the packet goes on in
/// the next turn.
struct FloodBacklog {
    static var capacity: Int { TableLimits.floodQueue }
    static var copiesPerTurn: Int { TableLimits.floodCopiesPerTurn }
    /// Copies that are made together.
    static var chunk: Int { 32 }

    private let jobs: UnsafeMutablePointer<FloodJob>
    private var head = 0
    private(set) var count = 0
    /// Copies that this turn may still make.
    var budget = copiesPerTurn
    /// Whether the turn's end has something to do: copies, or a budget to renew.
    var isActive = false

    init() { jobs = .allocate(capacity: Self.capacity) }
    func free() {
        for index in 0..<count {
            let job = jobs[(head + index) & (Self.capacity - 1)]
            if let shared = job.shared { pe_mbuf_free(shared) }
            pe_mbuf_free(job.context.packet.mbuf)
        }
        jobs.deallocate()
    }

    /// The oldest job.
    ///
    /// - Precondition: there is one.
    var first: UnsafeMutablePointer<FloodJob> { jobs + head }
    /// Puts a packet behind the others; false when there is no room.
    mutating func append(_ context: PacketContext, vniWord: UInt32, generation: UInt32) -> Bool {
        guard count < Self.capacity else { return false }
        (jobs + ((head &+ count) & (Self.capacity &- 1))).initialize(
            to: FloodJob(context: context, shared: nil, generation: generation, vniWord: vniWord))
        count = count &+ 1
        return true
    }
    mutating func removeFirst() {
        head = (head &+ 1) & (Self.capacity &- 1)
        count = count &- 1
    }
}
