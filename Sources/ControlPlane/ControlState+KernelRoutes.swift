// Routes as the kernel tells them, for `control.routes: netlink`.

import Tables
import Wire

extension ControlState {
    /// Beyond this many prefixes with a second route, the kernel is not asked again when a first
    /// one goes; the next dump shows it.
    static let duplicateLimit = 65_536

    /// Takes in one route of the kernel.
    ///
    /// A (table, prefix, metric) names one route, with two exceptions: an IPv6 route's next hops come
    /// and go one by one (fib6_add_rt2node, fib6_del_route in net/ipv6/ip6_fib.c), and two interfaces
    /// in one subnet give two connected routes of which the first counts (fib_table_insert in
    /// net/ipv4/fib_trie.c).
    mutating func kernelRoute(
        _ message: RouteMessage,
        isDumped: Bool,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        guard configuration.control.routes == .netlink else { return }
        switch message.kind {
        // Own addresses are taken from the interfaces; 0 is a delete that does not say its kind.
        case .local: return
        case .other(let type): if type != 0 || !message.isDelete { return }
        default: break
        }
        let prefix = message.prefix.network
        let key = DumpProgress.Key.route(message.table, prefix, message.metric)
        guard admits(key, isDumped: isDumped) else { return }
        let known = routes.table(message.table)?[prefix]?.row(.kernel, metric: message.metric)
        if message.isDelete {
            guard let known else { return }
            deleteKernelRoute(message, known, key, now, &effects)
        } else if let known, isSecond(message, known, isDumped: isDumped) {
            if dump.duplicates.count < Self.duplicateLimit { dump.duplicates.insert(key) }
        } else {
            setRoute(message, origin: .kernel, metric: message.metric, dump: dump.number)
        }
    }

    /// Whether the route stands behind another of the same key, which the kernel uses.
    private func isSecond(_ message: RouteMessage, _ known: RouteIntent.Row, isDumped: Bool) -> Bool {
        let isSame =
            known.kind == message.kind && known.nextHopID == message.nextHopID ?? 0
            && (known.nextHopID != 0 || known.nextHops == message.nextHops)
        if isSame { return false }
        if isDumped { return known.dump == dump.number }
        if message.prefix.address.isV4 { return message.isAppend }
        // Next hops of IPv6 that share a route have gateways (rt6_qualify_for_ecmp).
        return !message.isReplace && message.nextHopID == nil && message.nextHops.count == 1
            && message.nextHops[0].gateway == nil && known.nextHops.count == 1
    }

    private mutating func deleteKernelRoute(
        _ message: RouteMessage,
        _ known: RouteIntent.Row,
        _ key: DumpProgress.Key,
        _ now: Instant,
        _ effects: inout [ControlEffect]
    ) {
        let prefix = message.prefix.network
        if message.kind != .other(0), message.kind != known.kind { return }
        if let id = message.nextHopID {
            if id != known.nextHopID { return }
        } else if !message.nextHops.isEmpty {
            let left = known.nextHops.filter { hop in
                !message.nextHops.contains {
                    $0.interface == hop.interface && $0.gateway?.normalized == hop.gateway?.normalized
                }
            }
            // Of a second route, which was not taken in.
            if left.count == known.nextHops.count { return }
            if !left.isEmpty {
                let rest = RouteMessage(
                    isDelete: false, prefix: prefix, table: message.table, routeProtocol: known.routeProtocol,
                    kind: known.kind, metric: known.metric, nextHops: left)
                setRoute(rest, origin: .kernel, metric: known.metric, dump: known.dump)
                return
            }
        }
        removeRoute(.kernel, table: message.table, prefix: prefix, metric: message.metric)
        // The second one counts now; which it was, only a dump tells.
        if dump.duplicates.remove(key) != nil { requestDump(now, &effects) }
    }

    /// A device went down, an address or a next-hop object went: the kernel drops the IPv4 routes over
    /// it without a notification (fib_flush; net.ipv4.nexthop_compat_mode), so they are read again.
    mutating func losesRoutes(_ now: Instant, _ effects: inout [ControlEffect]) {
        guard configuration.control.routes == .netlink else { return }
        requestDump(now, &effects)
    }

    mutating func sweepKernelRoutes(_ number: UInt32) {
        guard configuration.control.routes == .netlink else { return }
        let touched = dump.touched
        var stale: [(UInt32, IPPrefix, UInt32)] = []
        for (table, content) in routes.tables {
            content.forEach { prefix, entry in
                for row in entry.rows where row.origin == .kernel && row.dump != number {
                    if !touched.contains(.route(table, prefix, row.metric)) {
                        stale.append((table, prefix, row.metric))
                    }
                }
            }
        }
        for (table, prefix, metric) in stale {
            removeRoute(.kernel, table: table, prefix: prefix, metric: metric)
        }
    }
}
