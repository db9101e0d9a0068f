// A worker's side: looks keys up without pause and checks each answer.

import CLinux
import Glibc
import Tables
import Wire

/// Words that the writer's and the reader's thread share.
final class Shared: @unchecked Sendable {
    /// 0: stop. 1: the generation whose first byte was fed last, plus one. 2: the last one that is visible
    /// as a whole, plus one. 3: the reader runs.
    private let words: UnsafeMutablePointer<UInt64>
    init() {
        words = .allocate(capacity: 64)
        words.initialize(repeating: 0, count: 64)
    }
    deinit { words.deallocate() }
    var stops: Bool {
        get { pe_load64(words) != 0 }
        set { pe_store64(words, newValue ? 1 : 0) }
    }
    /// -1 before the first.
    var started: Int {
        get { Int(pe_load64(words + 16)) - 1 }
        set {
            pe_store64(words + 16, UInt64(newValue + 1))
            pe_fence()
        }
    }
    var finished: Int {
        get { Int(pe_load64(words + 32)) - 1 }
        set { pe_store64(words + 32, UInt64(newValue + 1)) }
    }
    var runs: Bool {
        get { pe_load64(words + 48) != 0 }
        set { pe_store64(words + 48, newValue ? 1 : 0) }
    }
}

/// One run of a reader.
final class Reader: @unchecked Sendable {
    private let fabric: Fabric
    private let shared: Shared
    private let reader: PublicationReader
    private let tableReader: ForwardingTables
    private(set) var checks: UInt64 = 0
    /// Checks during which the writer was in a generation.
    private(set) var contended: UInt64 = 0
    private(set) var wrong: [String] = []
    private(set) var wrongCount: UInt64 = 0
    private var random: UInt64 = 0x9E37_79B9_7F4A_7C15
    static let burst = 32

    init(_ fabric: Fabric, _ tables: ForwardingTables, _ shared: Shared) {
        self.fabric = fabric
        self.shared = shared
        tableReader = tables
        reader = tables.reader(worker: 0)
    }

    private func next() -> Int {
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        return Int(truncatingIfNeeded: random >> 2)
    }

    // MARK: Checking

    /// Looks random keys up and compares each answer with the truth of the generations that it may be of,
    /// until ``Shared/stops``.
    func check() {
        shared.runs = true
        while !shared.stops {
            let oldest = shared.finished
            reader.quiescent()
            let state = reader.current.assumingMemoryBound(to: ForwardingState.self)
            var answers = [(key: Int, isMAC: Bool, answer: Answer)]()
            for _ in 0..<Self.burst {
                let key = next()
                if fabric.macs > 0, fabric.routes == 0 || key & 3 == 0 {
                    let mac = (key >> 2) % fabric.macs
                    answers.append((mac, true, answer(mac: mac, state)))
                } else {
                    let route = (key >> 2) % fabric.routes
                    let hash = UInt32(truncatingIfNeeded: key >> 8)
                    answers.append((route, false, answer(route: route, state, hash: hash)))
                }
            }
            let newest = shared.started
            for entry in answers { judge(entry.key, isMAC: entry.isMAC, entry.answer, oldest, newest) }
            if newest != oldest { contended += UInt64(answers.count) }
            checks += UInt64(answers.count)
        }
        reader.offline()
    }

    enum Answer {
        case none
        /// To the VTEP, through the uplink; nil: the tunnel has no way.
        case way(vtep: Int, uplink: Int?)
        case broken(String)
    }

    private func answer(mac: Int, _ state: UnsafePointer<ForwardingState>) -> Answer {
        let key = FDBKey.make(domain: UInt16(fabric.domain(ofMAC: mac) + 1), mac: fabric.mac(mac).rawValue)
        let found = state.pointee.fdb.value(of: key, in: state.pointee.fdb.bucket(of: key))
        if found == BucketView.miss { return .none }
        let value = FDBValue(rawValue: found)
        return value.isTunnel ? outer(value.index, state, hash: UInt32(truncatingIfNeeded: mac)) : .broken("\(value)")
    }
    /// Where the outer header of a tunnel leads, as a packet would have it.
    private func outer(_ tunnel: UInt32, _ state: UnsafePointer<ForwardingState>, hash: UInt32) -> Answer {
        guard Int(tunnel) < tableReader.limits.vteps else { return .broken("tunnel \(tunnel)") }
        let record = state.pointee.tunnels + Int(tunnel)
        if record.pointee.unusable != nil { return .way(vtep: -1, uplink: nil) }
        let header = state.pointee.adjacency(of: record, hash: hash).header
        let address = UInt32(bigEndian: header.loadUnaligned(fromByteOffset: 30, as: UInt32.self))
        let uplink = Int(header.load(fromByteOffset: 5, as: UInt8.self)) - 1
        return .way(vtep: Int(address) - 0x6441_0002, uplink: uplink)
    }
    private func answer(route: Int, _ state: UnsafePointer<ForwardingState>, hash: UInt32) -> Answer {
        let vrf = UInt16(fabric.vrf(ofRoute: route) + 1)
        let found = RouteValue(rawValue: state.pointee.hosts.value(vrf, fabric.host(route)))
        if found.isMiss { return .none }
        let index = found.isGroup ? state.pointee.hop(ofGroup: found.index, hash: hash) : found.index
        guard found.isHop || found.isGroup else { return .broken("\(found.rawValue)") }
        let hop = state.pointee.hop(index)
        guard hop.head.isTunnel, hop.vniWord >> 8 == fabric.l3vni(Int(vrf) - 1) else {
            return .broken("hop \(index): \(hop.head.rawValue), VNI \(hop.vniWord >> 8)")
        }
        let way = outer(hop.target, state, hash: hash)
        if case .way(let vtep, _?) = way,
            hop.head.mac != fabric.routerMAC(Int(vrf) - 1, vtep).rawValue
        {
            return .broken("VTEP \(vtep) with router MAC \(MACAddress(rawValue: hop.head.mac))")
        }
        return way
    }

    private func judge(_ key: Int, isMAC: Bool, _ answer: Answer, _ oldest: Int, _ newest: Int) {
        for generation in oldest...max(oldest, newest)
        where allows(key, isMAC: isMAC, answer, generation, oldest, newest) { return }
        wrongCount += 1
        if wrong.count < 8 {
            wrong.append("\(isMAC ? "MAC" : "route") \(key): \(answer) in generations \(oldest) to \(newest)")
        }
    }
    private func allows(
        _ key: Int, isMAC: Bool, _ answer: Answer, _ generation: Int, _ oldest: Int, _ newest: Int
    ) -> Bool {
        var truth: Int?
        if generation >= 0 {
            let touch = fabric.touches(key, through: generation)
            truth = isMAC ? fabric.vtep(ofMAC: key, touch: touch) : fabric.vtep(ofRoute: key, touch: touch)
        }
        switch answer {
        case .none: return truth == nil
        case .broken: return false
        // Before the first generation is complete, a tunnel may come before its way.
        case .way(_, nil): return oldest < 0
        case .way(let vtep, let uplink?):
            let isRight: Bool
            if let truth, !isMAC, fabric.isGroup(key) {
                isRight = vtep == truth || vtep == fabric.second(of: truth, vrf: fabric.vrf(ofRoute: key))
            } else {
                isRight = vtep == truth
            }
            return isRight
                && (max(0, oldest)...max(0, newest)).contains { fabric.uplink(ofVTEP: vtep, generation: $0) == uplink }
        }
    }
}
