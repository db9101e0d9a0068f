// Pass 2 of routing: the route of each packet, and what becomes of it where that is no next hop.

import CLinux
import Tables
import Wire

extension Pipeline {
    /// Routes the packets of this burst that pass 1 put aside: each ends in a tx lane or a side lane.
    ///
    /// Short loops, so that what a lookup leads to is in the cache when it is needed: host route, prefix,
    /// next hop, FDB bucket of a next hop that is a host.
    @inline(never)
    func route() {
        let count = memory.pointee.side.routed
        memory.pointee.side.routed = 0
        lookUp(count)
        send(count)
    }

    @inline(never)
    private func lookUp(_ count: Int) {
        let contexts = memory.pointee.routed
        let period = memory.pointee.learning.currentPeriod
        // Those of full groups are under way.
        prefetchBuckets(from: count & ~(Pipeline.bucketGroup &- 1), to: count)
        let prefixes = state.pointee.prefixes
        var expectsPrefixes = false
        var hostless = 0
        var index = 0
        while index < count {
            let context = contexts + index
            index = index &+ 1
            let sourceKey = context.pointee.sourceKey
            if sourceKey != 0 {
                learn(
                    sourceKey, state.pointee.fdb.bucket(of: sourceKey), circuit: context.pointee.ingress, period)
            }
            let flags = context.pointee.flags
            if !flags.contains(.isDecidedOrHostless), lookHost(context) { continue }
            if flags.contains(.isDecided) { continue }
            expectsPrefixes = true
            let address = context.pointee.ip[be32: 16]
            let word: UInt64
            if flags.contains(.isHostless) {
                word = prefixes.step(context.pointee.key, ipv4: address)
            } else if flags.contains(.isIPv6) {
                word = prefixes.startIPv6(vrf: context.pointee.vrf)
            } else {
                word = prefixes.start(vrf: context.pointee.vrf, ipv4: address)
            }
            if TrieView.isAnswer(word) {
                settlePrefix(context, word)
            } else {
                if flags.contains(.isIPv6) { prefixes.prefetch(word) } else { prefixes.prefetch(word, ipv4: address) }
                memory.pointee.hostless[hostless] = HostlessContext(context: context, word: word)
                hostless = hostless &+ 1
            }
        }
        memory.pointee.expectsPrefixes = expectsPrefixes
        if hostless != 0 { lookUpPrefixes(hostless) }
        index = 0
        while index < count {
            prefetchNextHop(contexts + index)
            index = index &+ 1
        }
    }

    /// Finds the routes of packets without a host route: the next nodes have arrived by now, and those after
    /// them are on their way before the first of them is needed.
    @inline(never)
    private func lookUpPrefixes(_ count: Int) {
        let prefixes = state.pointee.prefixes
        let hostless = memory.pointee.hostless
        var left = 0
        var index = 0
        while index < count {
            let entry = hostless[index]
            index = index &+ 1
            let ip = entry.context.pointee.ip
            let word: UInt64
            if entry.context.pointee.isIPv6 {
                word = prefixes.step(
                    entry.word, ipv6: UInt64(bigEndian: ip[raw64: 24]), UInt64(bigEndian: ip[raw64: 32]))
                if !TrieView.isAnswer(word) { prefixes.prefetch(word) }
            } else {
                let address = ip[be32: 16]
                word = prefixes.step(entry.word, ipv4: address)
                if !TrieView.isAnswer(word) { prefixes.prefetch(word, ipv4: address) }
            }
            if TrieView.isAnswer(word) {
                settlePrefix(entry.context, word)
            } else {
                hostless[left] = HostlessContext(context: entry.context, word: word)
                left = left &+ 1
            }
        }
        index = 0
        while index < left {
            let entry = hostless[index]
            index = index &+ 1
            let ip = entry.context.pointee.ip
            let word = entry.context.pointee.isIPv6
                ? prefixes.finish(
                    entry.word, ipv6: UInt64(bigEndian: ip[raw64: 24]), UInt64(bigEndian: ip[raw64: 32]))
                : prefixes.finish(entry.word, ipv4: ip[be32: 16])
            settlePrefix(entry.context, word)
        }
    }
    /// Follows the last word of a prefix lookup.
    @inline(__always)
    private func settlePrefix(_ context: UnsafeMutablePointer<RoutedContext>, _ word: UInt64) {
        let route = RouteValue(rawValue: TrieView.answer(word))
        // A host route may have taken a prefix's place since it was missed.
        if route.isMiss { find(context) } else { settle(context, route) }
    }

    @inline(never)
    private func send(_ count: Int) {
        let contexts = memory.pointee.routed
        var index = 0
        while index < count {
            let context = contexts + index
            index = index &+ 1
            if !sendPlain(context) { follow(context) }
        }
    }

    /// Finds the route of a packet, through VRFs and groups; starts to load its next hop.
    private func look(_ context: UnsafeMutablePointer<RoutedContext>) {
        settle(context, lookup(context, vrf: context.pointee.vrf))
    }
    /// Finds the host route of a packet; false when it has none.
    @inline(__always)
    private func lookHost(_ context: UnsafeMutablePointer<RoutedContext>) -> Bool {
        let ip = context.pointee.ip
        let isIPv6 = context.pointee.isIPv6
        let hosts = state.pointee.hosts
        let found = isIPv6
            ? hosts.value(
                ipv6: context.pointee.key, UInt64(bigEndian: ip[raw64: 24]), UInt64(bigEndian: ip[raw64: 32]),
                in: context.pointee.bucket)
            : hosts.value(ipv4: context.pointee.key, in: context.pointee.bucket)
        if found == BucketView.miss {
            context.pointee.route = .miss
            return false
        }
        settle(context, RouteValue(rawValue: found))
        return true
    }
    /// Follows a route to a hop, if it leads to one.
    @inline(__always)
    private func settle(_ context: UnsafeMutablePointer<RoutedContext>, _ first: RouteValue) {
        let route = first.isHop ? first : further(context, first)
        context.pointee.route = route
        if route.isHop { pe_prefetch(state.pointee.hops + Int(route.index) &* HopView.wordCount) }
    }

    @inline(__always)
    private func lookup(_ context: UnsafePointer<RoutedContext>, vrf: UInt16) -> RouteValue {
        let ip = context.pointee.ip
        if context.pointee.isIPv6 {
            return state.pointee.route(
                vrf: vrf, ipv6: UInt64(bigEndian: ip[raw64: 24]), UInt64(bigEndian: ip[raw64: 32]),
                key: context.pointee.key, in: context.pointee.bucket)
        }
        return state.pointee.route(
            vrf: vrf, ipv4: ip[be32: 16], key: context.pointee.key, in: context.pointee.bucket)
    }

    /// From another VRF's table to what it says, and from a group to the hop of this flow. What leads
    /// from VRF to VRF without end stays a `vrf` route, a group without members a `group`.
    @inline(never)
    private func further(
        _ context: UnsafeMutablePointer<RoutedContext>, _ first: RouteValue
    ) -> RouteValue {
        var route = first
        var depth = 1
        while route.kind == .vrf, depth < TableLimits.routeDepth {
            let vrf = UInt16(truncatingIfNeeded: route.index)
            rekey(context, vrf: vrf)
            context.pointee.egressVRF = vrf
            route = lookup(context, vrf: vrf)
            depth = depth &+ 1
        }
        if route.isGroup {
            let hop = state.pointee.hop(
                ofGroup: route.index, hash: FlowHash.groupSelector(flowHash(context)))
            if hop != BucketView.miss { return RouteValue(rawValue: hop) }
        }
        return route
    }

    /// Looks a packet up from the start, in the VRF that it entered.
    func find(_ context: UnsafeMutablePointer<RoutedContext>) {
        let vrf = context.pointee.vrf
        rekey(context, vrf: vrf)
        context.pointee.egressVRF = vrf
        look(context)
    }

    /// Makes the context's key one of `vrf`.
    private func rekey(_ context: UnsafeMutablePointer<RoutedContext>, vrf: UInt16) {
        let ip = context.pointee.ip
        let key = context.pointee.isIPv6
            ? HostKey.make(vrf, ipv6: UInt64(bigEndian: ip[raw64: 24]), UInt64(bigEndian: ip[raw64: 32]))
            : HostKey.make(vrf, ipv4: ip[be32: 16])
        context.pointee.key = key
        context.pointee.bucket = state.pointee.hosts.table.bucket(of: key)
    }

    @inline(__always)
    func flowHash(_ context: UnsafeMutablePointer<RoutedContext>) -> UInt32 {
        if context.pointee.flags.contains(.hasHash) { return context.pointee.hash }
        let hash = FlowHash.of(
            frame: context.pointee.frame, available: context.pointee.packet.contiguous)
        context.pointee.hash = hash
        context.pointee.flags.insert(.hasHash)
        return hash
    }

    /// Starts to load what the next hop leads to.
    @inline(__always)
    private func prefetchNextHop(_ context: UnsafePointer<RoutedContext>) {
        if !context.pointee.route.isHop { return }
        let hop = state.pointee.hop(context.pointee.route.index)
        let head = hop.head
        memory.pointee.counters.prefetch(vrf: context.pointee.egressVRF)
        if head.isBridge {
            let domain = UInt16(truncatingIfNeeded: hop.target)
            let circuit = hop.circuit(head)
            if circuit != HopView.noCircuit {
                pe_prefetch(state.pointee.circuits + Int(circuit))
            } else {
                pe_prefetch(state.pointee.fdb.bucket(of: FDBKey.make(domain: domain, mac: head.mac)))
            }
            memory.pointee.counters.prefetch(domain: domain)
        }
    }

    /// Carries out a packet's route.
    @inline(never)
    func follow(_ context: UnsafeMutablePointer<RoutedContext>) {
        let route = context.pointee.route
        if route.isHop { forward(context, hop: route.index) } else { arrive(context, route) }
    }

    /// A route that is no hop.
    @inline(never)
    private func arrive(_ context: UnsafeMutablePointer<RoutedContext>, _ route: RouteValue) {
        switch route.kind {
        case .none: unroutable(context)
        case .hop: forward(context, hop: route.index)
        case .group: routedDrop(context, .noNextHop)
        case .subnet: glean(context, domain: UInt16(truncatingIfNeeded: route.index))
        case .port: toHost(context, UInt16(truncatingIfNeeded: route.index), isTransit: true)
        case .local: appendLocal(context)
        case .host: toHost(context, UInt16(truncatingIfNeeded: route.index), isTransit: false)
        case .vrf: drop(context.pointee.packet, .routingLoop)
        case .blackhole: drop(context.pointee.packet, .blackholeRoute)
        case .unreachable: routedDrop(context, .unreachableRoute)
        case .prohibit: routedDrop(context, .prohibitRoute)
        }
    }

    private func unroutable(_ context: UnsafeMutablePointer<RoutedContext>) {
        if context.pointee.flags.contains(.puntsMiss) {
            punt(context.pointee.packet)
        } else {
            routedDrop(context, .noRoute)
        }
    }

    /// The destination is in a connected subnet, and no host route leads to it: it may be a known
    /// neighbour all the same, else it is asked for.
    private func glean(_ context: UnsafeMutablePointer<RoutedContext>, domain: UInt16) {
        let ip = context.pointee.ip
        let hop: UInt32
        if context.pointee.isIPv6 {
            hop = state.pointee.neighbor(
                domain: domain, ipv6: UInt64(bigEndian: ip[raw64: 24]), UInt64(bigEndian: ip[raw64: 32]))
        } else {
            if isBroadcast(ip[raw32: 16], domain) {
                drop(context.pointee.packet, .martianAddress)
                return
            }
            hop = state.pointee.neighbor(domain: domain, ipv4: ip[be32: 16])
        }
        if hop != BucketView.miss {
            context.pointee.route = RouteValue(.hop, hop)
            forward(context, hop: hop)
        } else if isExpiring(context) {
            routedDrop(context, .ttlExpired)
        } else {
            appendWaiting(context)
        }
    }
    /// Whether an address is the broadcast or the network address of a gateway's subnet, to which
    /// nothing is routed (RFC 2644; RFC 1812 section 5.3.5.2).
    private func isBroadcast(_ raw: UInt32, _ domain: UInt16) -> Bool {
        guard let gateways = state.pointee.domains[Int(domain)].gateways else { return false }
        var index = 0
        while index < gateways.ipv4Count {
            let length = gateways.ipv4PrefixLength(index)
            if length < 31 {
                let mask = length == 0 ? 0 : UInt32.max &<< UInt32(32 &- length)
                let address = UInt32(bigEndian: raw)
                if (address ^ UInt32(bigEndian: gateways.ipv4(index))) & mask == 0,
                    address & ~mask == ~mask || address & ~mask == 0
                {
                    return true
                }
            }
            index = index &+ 1
        }
        return false
    }

    /// Gives a packet to the host behind a port's exception TAP: addressed to it, or (`isTransit`) to
    /// be resolved and sent on by it.
    private func toHost(
        _ context: UnsafeMutablePointer<RoutedContext>, _ port: UInt16, isTransit: Bool
    ) {
        let packet = context.pointee.packet
        guard port < state.pointee.portCount else {
            drop(packet, .noExceptionPort)
            return
        }
        if isTransit, isExpiring(context) {
            routedDrop(context, .ttlExpired)
            return
        }
        if packet.port != port {
            // The TAP has the port's MAC: another destination would be another's to the host.
            setDestination(context.pointee.frame, state.pointee.ports[Int(port)].mac)
            packet.mbuf.pointee.port = port
        }
        punt(packet)
    }
    private func setDestination(_ frame: UnsafeMutableRawPointer, _ mac: UInt64) {
        frame[raw32: 0] = UInt32(truncatingIfNeeded: mac)
        frame[raw16: 4] = UInt16(truncatingIfNeeded: mac &>> 32)
    }
}
