// Routed packets whose neighbour has to be resolved: kept for a while, sent on or refused when it is decided.

import CLinux
import Tables
import Wire

extension Pipeline {
    /// Keeps the packets of this burst that need a neighbour, and asks for the neighbour.
    @inline(never)
    func drainWaiting() {
        let now = self.now
        var index = 0
        while index < memory.pointee.side.waiting {
            keep(memory.pointee.waiting + index, now)
            index = index &+ 1
        }
        memory.pointee.side.waiting = 0
    }

    private func keep(_ context: UnsafeMutablePointer<RoutedContext>, _ now: UInt64) {
        let kept = memory.pointee.kept
        // It waited, its target was decided, and still it has no neighbour: not a second time.
        if context.pointee.flags.contains(.hasWaited) {
            drop(context.pointee.packet, .neighborUnreachable)
            return
        }
        let route = context.pointee.route
        let isSubnet = route.kind == .subnet
        let domain = isSubnet ? UInt16(truncatingIfNeeded: route.index) : 0
        let hop = isSubnet ? BucketView.miss : route.index
        let address = HostAddress(
            destinationOf: context.pointee.ip, isIPv6: context.pointee.isIPv6)
        var target = kept.pointee.waiting.find(domain: domain, hop: hop, address)
        if target < 0 {
            target = kept.pointee.waiting.addTarget(domain: domain, hop: hop, address, now: now)
        }
        guard target >= 0 else {
            drop(context.pointee.packet, .neighborQueueFull)
            return
        }
        askFor(target, context, now)
        guard kept.pointee.waiting.add(context.pointee, to: target) else {
            drop(context.pointee.packet, .neighborQueueFull)
            return
        }
        memory.pointee.counters.add(.waited, 1)
        noteWaiting()
    }

    /// Tells the control plane that packets wait for an address that it does not know; of a hop that
    /// is being resolved it knows.
    private func askFor(_ index: Int, _ context: UnsafePointer<RoutedContext>, _ now: UInt64) {
        let target = memory.pointee.kept.pointee.waiting.targets + index
        guard target.pointee.domain != 0, now >= target.pointee.nextReport else { return }
        target.pointee.nextReport = now &+ WaitingStore.reportInterval
        let address = target.pointee.address
        reportUnresolved(domain: target.pointee.domain, circuit: context.pointee.ingress, address)
    }
    /// A packet needs the MAC of `address`, and there is none.
    func reportUnresolved(domain: UInt16, circuit: UInt32, _ address: HostAddress) {
        report(.unresolved, domain: domain, circuit: circuit, mac: MACAddress(rawValue: 0), address)
    }

    /// How many packets wait now, for a neighbour or for their copies, for whoever reads the counters.
    func noteWaiting() {
        let kept = memory.pointee.kept
        let count = kept.pointee.waiting.packetCount &+ kept.pointee.flood.count
        memory.pointee.counters.set(.waiting, UInt64(truncatingIfNeeded: count))
    }

    /// Looks at what packets wait for: sends on what can be sent, refuses what waited too long or for
    /// a neighbour that does not answer. `isEnd`: nothing more can happen, so all is decided now.
    @inline(never)
    func serveWaiting(isEnd: Bool) {
        let kept = memory.pointee.kept
        let now = self.now
        var index = 0
        while index < kept.pointee.waiting.targetCount {
            let target = kept.pointee.waiting.targets + index
            let isDecided = !isPending(target)
            if !isDecided, !isEnd, now < target.pointee.deadline {
                index = index &+ 1
                continue
            }
            release(index, isDecided: isDecided)
            kept.pointee.waiting.removeTarget(index)
            // Side lanes have room for a target's packets, and not for those of many.
            drainSideLanes()
        }
        noteWaiting()
    }

    private func release(_ index: Int, isDecided: Bool) {
        while var context = memory.pointee.kept.pointee.waiting.takeFirst(of: index) {
            context.flags.insert(.hasWaited)
            if isDecided, isStillThere(context) {
                resume(&context)
            } else {
                routedDrop(&context, .neighborUnreachable)
            }
        }
    }

    /// Whether a target's neighbour is neither usable nor given up.
    private func isPending(_ target: UnsafePointer<WaitingTarget>) -> Bool {
        var hop = target.pointee.hop
        if target.pointee.domain != 0 {
            let address = target.pointee.address
            hop = address.isIPv6
                ? state.pointee.neighbor(domain: target.pointee.domain, ipv6: address.high, address.low)
                : state.pointee.neighbor(
                    domain: target.pointee.domain, ipv4: UInt32(truncatingIfNeeded: address.low))
            if hop == BucketView.miss { return true }
        }
        return state.pointee.hop(hop).head.isResolving
    }
    /// Indexes may have been given to others while the packet waited.
    private func isStillThere(_ context: RoutedContext) -> Bool {
        state.pointee.vrfs[Int(context.vrf)].isUsed
            && (context.domain == 0 || state.pointee.domains[Int(context.domain)].vrf == context.vrf)
    }

    /// What a worker does at the end of each turn beside packets that come: probes to send, packets that
    /// wait, flood copies that are still to be made.
    @inline(__always)
    func background() {
        let kept = memory.pointee.kept
        let hasProbes = kept.pointee.servesProbes && !kept.pointee.probes.isEmpty
        if hasProbes || kept.pointee.waiting.targetCount != 0 || kept.pointee.flood.isActive {
            workBetweenBursts()
        }
    }
    @inline(never)
    private func workBetweenBursts() {
        if memory.pointee.kept.pointee.servesProbes { sendProbes() }
        if memory.pointee.kept.pointee.waiting.targetCount != 0 { serveWaiting(isEnd: false) }
        drainSideLanes()
        if memory.pointee.kept.pointee.flood.isActive { endFloodTurn() }
        transmit()
    }
    /// Decides about every waiting packet: nothing more will happen.
    func finish() {
        serveWaiting(isEnd: true)
        drainSideLanes()
        finishFlood()
        transmit()
    }
}
