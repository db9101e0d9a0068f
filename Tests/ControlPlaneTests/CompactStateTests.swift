// The compact forms of routes and MACs against plain dictionaries, and tables that are full.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite("Compact state")
struct CompactStateTests {
    @Test("a compact map agrees with a dictionary", arguments: 0..<4 as Range<UInt64>)
    func map(seed: UInt64) {
        var random = SplitMix(state: seed)
        var map = CompactMap<UInt64>()
        var model: [UInt64: UInt32] = [:]
        let range: UInt64 = [8, 40, 3000].randomElement(using: &random) ?? 8
        for step in 0..<6000 {
            // Grows, shrinks to nothing, grows again.
            let isGrowing = step / 1500 % 2 == 0
            let key = UInt64.random(in: 0..<range, using: &random) &* 0x1_0000_0001
            if Int.random(in: 0..<10, using: &random) < (isGrowing ? 7 : 2) {
                let value = UInt32.random(in: 0..<1000, using: &random)
                #expect(map.set(key, value) == model.updateValue(value, forKey: key))
            } else {
                #expect(map.remove(key) == model.removeValue(forKey: key))
            }
            #expect(map.count == model.count)
        }
        var seen: [UInt64: UInt32] = [:]
        map.forEach { key, value in
            #expect(seen[key] == nil, "\(key) is visited twice")
            seen[key] = value
        }
        #expect(seen == model)
        for key in 0..<range { #expect(map.value(key &* 0x1_0000_0001) == model[key &* 0x1_0000_0001]) }
        for key in Array(model.keys) { map.remove(key) }
        #expect(map.isEmpty && map.slotCount <= 8)
    }

    private func entry(_ random: inout SplitMix) -> MACEntry? {
        var entry = MACEntry()
        func target() -> RemoteTarget {
            let number = UInt32.random(in: 0..<3, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0: return .group(number)
            case 1: return .vtep(5_000_000 + number)
            default: return .vtep(number)
            }
        }
        // More connections than a table has places for.
        let origin = Origin.connection(Int.random(in: 0..<200, using: &random))
        if Int.random(in: 0..<4, using: &random) != 0 {
            entry.fpm = MACEntry.FPMRow(
                target: target(), isSticky: .random(using: &random), isUnconfirmed: .random(using: &random),
                origin: origin)
        }
        switch Int.random(in: 0..<8, using: &random) {
        case 0: entry.kernel = MACEntry.KernelRow(target: target(), isSticky: false, dump: 1, since: 2)
        case 1: entry.local = MACEntry.LocalRow(circuit: 3, lastSeen: .seconds(4))
        case 2: entry.fixed = target()
        default: break
        }
        return entry.isEmpty ? nil : entry
    }
    private func isSame(_ a: MACEntry?, _ b: MACEntry?) -> Bool {
        guard let a, let b else { return a == nil && b == nil }
        return a.fpm == b.fpm && a.kernel == b.kernel && a.local == b.local && a.fixed == b.fixed
    }
    @Test("a MAC table keeps every entry as it was given", arguments: 0..<8 as Range<UInt64>)
    func macs(seed: UInt64) {
        var random = SplitMix(state: seed)
        var table = MACTable()
        var model: [UInt64: MACEntry] = [:]
        for step in 0..<4000 {
            let mac = UInt64.random(in: 0..<200, using: &random)
            let next = step > 3500 ? nil : entry(&random)
            table[mac] = next
            model[mac] = next
            if step % 3 == 0, model[mac] != nil {
                table[mac]?.local?.lastSeen = .seconds(Double(step))
                model[mac]?.local?.lastSeen = .seconds(Double(step))
            }
            #expect(table.count == model.count)
        }
        for mac in 0..<200 as Range<UInt64> { #expect(isSame(table[mac], model[mac])) }
        var seen: Set<UInt64> = []
        for (mac, entry) in table {
            #expect(seen.insert(mac).inserted)
            #expect(isSame(entry, model[mac]))
        }
        #expect(seen == Set(model.keys))
    }

    private struct Place: Hashable {
        var table: UInt32
        var prefix: IPPrefix
    }
    private func row(_ random: inout SplitMix) -> RouteIntent.Row {
        let id = UInt32.random(in: 0..<4, using: &random)
        let gateway = IPAddress("10.0.0.\(Int.random(in: 1..<4, using: &random))")
        return RouteIntent.Row(
            origin: .init(rawValue: UInt32.random(in: 0..<3, using: &random)),
            metric: UInt32.random(in: 0..<3, using: &random), routeProtocol: 186, kind: .unicast, nextHopID: id,
            nextHops: id == 0 ? [RouteNextHop(gateway: gateway, interface: 7)] : [], dump: 0)
    }
    @Test("routes and the users of their contents agree with lists of rows", arguments: 0..<8 as Range<UInt64>)
    func routes(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        var intent = RouteIntent()
        var model: [Place: [RouteIntent.Row]] = [:]
        var contents: Set<RouteIntent.Row> = []
        let prefixes = try ["10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "fd00::/64", "fd00::1/128", "0.0.0.0/0"]
            .map { try #require(IPPrefix($0)) }
        func take(_ change: RouteIntent.Change) {
            if let added = change.added { #expect(contents.insert(added).inserted) }
            for row in change.dropped { #expect(contents.remove(row) != nil) }
        }
        for step in 0..<3000 {
            let place = Place(
                table: UInt32.random(in: 0..<3, using: &random),
                prefix: try #require(prefixes.randomElement(using: &random)))
            let row = row(&random)
            let metric: UInt32? = Bool.random(using: &random) ? row.metric : nil
            func isReplaced(_ old: RouteIntent.Row) -> Bool {
                old.origin == row.origin && (metric == nil || old.metric == metric)
            }
            switch Int.random(in: 0..<40, using: &random) {
            case 0:
                let dropped = intent.removeAll(where: { $0.origin == row.origin }, { _, _ in })
                for old in dropped { #expect(contents.remove(old) != nil) }
                model = model.mapValues { $0.filter { $0.origin != row.origin } }.filter { !$0.value.isEmpty }
            case 1..<24:
                take(intent.set(row, table: place.table, prefix: place.prefix, metric: metric))
                model[place] = (model[place] ?? []).filter { !isReplaced($0) } + [row]
            default:
                let change = intent.remove(row.origin, table: place.table, prefix: place.prefix, metric: metric)
                let before = model[place] ?? []
                #expect((change == nil) == !before.contains(where: isReplaced))
                if let change { take(change) }
                let left = before.filter { !isReplaced($0) }
                model[place] = left.isEmpty ? nil : left
            }
            #expect(contents == Set(model.values.joined()), "step \(step)")
            #expect(intent.count == model.count)
        }
        for (place, rows) in model {
            #expect(intent.table(place.table)?[place.prefix]?.rows == rows)
            #expect(intent.best(place.table, place.prefix) == intent.table(place.table)?[place.prefix]?.best)
        }
        #expect(intent.tables.reduce(0) { $0 + $1.value.count } == model.count)
        let gateways = Set(contents.flatMap(\.nextHops).compactMap(\.gateway))
        #expect(Set(intent.inlineGateways.keys) == gateways)
    }

    // MARK: Full tables

    private func host(_ index: Int, isDelete: Bool = false) -> NetlinkMessage {
        RouteRuleTests.red(
            "10.9.\(index / 200).\(index % 200 + 1)/32", Message.hop("10.0.0.2", 7, isOnlink: true), isDelete: isDelete)
    }
    @Test("a full route table keeps what it has, refuses what is new, and takes it in when there is room")
    func fullRoutes() throws {
        let rig = try makeRoutedRig { $0.dataplane.limits.routes = 16 }
        rig.connectFPM()
        let room = 16 - rig.tables.hostRouteCount
        for index in 0..<room + 8 { rig.frame(host(index)) }
        #expect(rig.tables.hostRouteCount == 16 && rig.compiler.isRefusingRoutes)
        #expect(rig.compiler.alarms.routesRefused == 8)
        // One message takes a route back and another one brings one: both count.
        rig.frame(host(0, isDelete: true), host(room + 100))
        #expect(rig.tables.hostRouteCount == 16)
        for index in 1..<9 { rig.frame(host(index, isDelete: true)) }
        rig.wait(2)
        #expect(rig.tables.hostRouteCount == 16 && !rig.compiler.isRefusingRoutes)
        #expect(rig.compiler.routeFaults(rig.state) == [])
    }
    @Test("routes refused while deleted routes still rest for a worker are taken in when its grace period has passed")
    func restingRoutes() throws {
        let rig = try makeRoutedRig { $0.dataplane.limits.routes = 16 }
        rig.connectFPM()
        let room = 16 - rig.tables.hostRouteCount
        for index in 0..<room { rig.frame(host(index)) }
        #expect(rig.tables.hostRouteCount == 16 && !rig.compiler.isRefusingRoutes)
        // A worker that never ends its burst: each deleted route's slot rests, until none is left.
        let worker = rig.tables.reader(worker: 0)
        worker.quiescent()
        var next = room
        while !rig.compiler.isRefusingRoutes && next < 4000 {
            rig.frame(host(next - room, isDelete: true), host(next))
            next += 1
        }
        #expect(rig.compiler.isRefusingRoutes && rig.tables.hostRouteCount == 15)
        rig.wait(2)
        #expect(rig.compiler.isRefusingRoutes && rig.tables.hostRouteCount == 15)
        worker.quiescent()
        rig.wait(2)
        #expect(!rig.compiler.isRefusingRoutes && rig.tables.hostRouteCount == 16)
        #expect(rig.compiler.routeFaults(rig.state) == [])
        worker.offline()
    }
    @Test("a VTEP, its next hop and its route that wait for what rests are there when the grace period has passed")
    func restingTunnels() throws {
        let rig = try makeRoutedRig { $0.dataplane.limits.vteps = 1 }
        rig.connectFPM()
        func route(_ index: Int, isDelete: Bool = false) -> NetlinkMessage {
            RouteRuleTests.red(
                "10.9.\(index).1/32", Message.hop("10.0.7.\(index)", 7, isOnlink: true), isDelete: isDelete)
        }
        var count = 1
        while !rig.compiler.isRefusingRoutes && count < 200 {
            rig.frame(route(count))
            count += 1
        }
        let last = count - 1
        #expect(rig.compiler.isRefusingRoutes && rig.route("red", "10.9.\(last).1/32") == nil)
        let worker = rig.tables.reader(worker: 0)
        worker.quiescent()
        // The removed VTEP's index rests: batches in between must not use up the only try.
        rig.frame(route(1, isDelete: true))
        rig.wait(2)
        #expect(rig.compiler.isRefusingRoutes && rig.route("red", "10.9.\(last).1/32") == nil)
        worker.quiescent()
        rig.wait(2)
        #expect(!rig.compiler.isRefusingRoutes && rig.route("red", "10.9.\(last).1/32") != nil)
        #expect(rig.compiler.routeFaults(rig.state) == [])
        worker.offline()
    }
}
