// Brings the hops of IP neighbours and the neighbour table in line with what is known of them.

public import Tables
import Wire

/// Keeps one hop for each neighbour that the neighbour table or a route refers to.
///
/// MAC and state of a hop change in place, so that routes need no change when a host answers, moves or
/// goes. Routes hold theirs with ``require(_:_:)`` and give it back with ``release(_:_:)`` after the
/// last packet can find it, both before ``finish(_:at:)``.
public final class NeighborHops {
    /// A neighbour's hop and who refers to it.
    private struct Record {
        var hop: UInt32
        /// Routes.
        var references = 0
        var isInTable = false
    }
    private let tables: ForwardingTables
    private var records: [NeighborID: Record] = [:]
    /// Those that did not fit; tried again when something was removed.
    private var refused: Set<NeighborID> = []
    private var touched: Set<NeighborID> = []
    private var hasRoom = false
    /// Entries that the tables refused.
    public private(set) var refusals: UInt64 = 0
    private var lastError: String?

    init(_ tables: ForwardingTables) { self.tables = tables }

    // MARK: For routes

    /// The hop of a neighbour, kept until ``release(_:_:)`` is called as often. Until then it is asked
    /// for whenever nobody knows it.
    public func require(_ id: NeighborID, _ state: inout ControlState) throws(TableError) -> UInt32 {
        let hop = try hop(id, state)
        records[id]?.references += 1
        if records[id]?.references == 1 { state.requireNeighbor(id) }
        return hop
    }
    public func release(_ id: NeighborID, _ state: inout ControlState) {
        guard let record = records[id], record.references > 0 else { return }
        records[id]?.references -= 1
        touched.insert(id)
        if record.references == 1 { state.releaseNeighbor(id) }
    }
    /// The hop of a neighbour, when it has one.
    public func hop(of id: NeighborID) -> UInt32? { records[id]?.hop }

    private func hop(_ id: NeighborID, _ state: ControlState) throws(TableError) -> UInt32 {
        if let known = records[id] { return known.hop }
        let answer = state.answer(id) ?? .resolving
        let index = try tables.addHop(
            RouteHop(
                way: way(id), mac: answer.mac, sourceMAC: state.gatewayMAC(id), state: answer.state,
                isRemote: answer.isRemote))
        records[id] = Record(hop: index)
        touched.insert(id)
        return index
    }
    private func way(_ id: NeighborID) -> RouteHop.Way {
        switch id.scope {
        case .domain(let domain): .bridge(domain: domain)
        case .port(let port): .port(port)
        }
    }

    // MARK: A batch

    /// Takes over what is known of these neighbours now; hops that nobody needs stay until
    /// ``finish(_:at:)``.
    func compile(_ changed: Set<NeighborID>, _ state: inout ControlState) {
        for id in changed.sorted() { compile(id, state) }
        guard hasRoom, !refused.isEmpty else { return }
        hasRoom = false
        for id in refused.sorted().prefix(TableCompiler.retriesPerFlush) { compile(id, state) }
    }
    private func compile(_ id: NeighborID, _ state: ControlState) {
        touched.insert(id)
        guard let answer = state.answer(id) else {
            refused.remove(id)
            // Routes are about to let go of it; until then its packets wait.
            if let record = records[id] { update(record.hop, .resolving) }
            return
        }
        if let record = records[id] { update(record.hop, answer) }
        guard case .domain(let domain) = id.scope else { return }
        if records[id]?.isInTable == true { return }
        do {
            let hop = try hop(id, state)
            try tables.setNeighbor(domain: domain, id.address, hop: hop)
            records[id]?.isInTable = true
            refused.remove(id)
        } catch {
            if refused.count < TableCompiler.refusedLimit, refused.insert(id).inserted {
                refusals += 1
                lastError = "\(error)"
            }
        }
    }
    private func update(_ hop: UInt32, _ answer: NeighborAnswer) {
        guard let known = tables.hop(hop) else { return }
        if known.mac == answer.mac && known.state == answer.state && known.isRemote == answer.isRemote { return }
        tables.updateHop(hop, mac: answer.mac, state: answer.state, isRemote: answer.isRemote)
    }

    /// After routes were compiled: asks for what they newly need, removes what nobody refers to.
    func finish(_ state: inout ControlState, at now: Instant) -> [ControlEffect] {
        let effects = state.settleNeighbors(touched.union(state.changes.neighbors), now)
        compile(state.takeNeighborChanges(), &state)
        for id in touched.sorted() {
            guard let record = records[id] else { continue }
            if state.answer(id) == nil, record.isInTable, case .domain(let domain) = id.scope {
                tables.removeNeighbor(domain: domain, id.address)
                records[id]?.isInTable = false
                hasRoom = true
            }
            if records[id]?.isInTable == false && record.references == 0 {
                tables.removeHop(record.hop)
                records[id] = nil
                hasRoom = true
            }
        }
        touched.removeAll(keepingCapacity: true)
        return effects
    }
    /// The last refusal's text, once.
    func takeError() -> String? {
        defer { lastError = nil }
        return lastError
    }
}

extension ControlState {
    /// Source of packets to a neighbour; of a port, its own MAC is taken.
    func gatewayMAC(_ id: NeighborID) -> MACAddress {
        guard case .domain(let domain) = id.scope, domain > 0, Int(domain) <= domains.count else { return .zero }
        return domains[Int(domain) - 1].gatewayMAC ?? .zero
    }
    mutating func takeNeighborChanges() -> Set<NeighborID> {
        let taken = changes.neighbors
        changes.neighbors = []
        return taken
    }
}

extension ForwardingTables {
    /// Hands probes to the worker that sends them. One that finds the ring full is lost; whoever asked
    /// for it asks again. Whoever carries effects out wakes the worker.
    public func push(probes effects: [ControlEffect]) {
        for case .probeNeighbor(let domain, let address, let mac) in effects {
            probes.push(ProbeRequest(domain: domain, address: address, mac: mac))
        }
    }
}
