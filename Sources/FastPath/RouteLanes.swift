// How routed packets get into side lanes, and how packets that this node makes are routed.

import CLinux
import Tables
import Wire

extension Pipeline {
    /// Ends a routed packet for a reason that its sender is told by ICMP: the lane of errors counts
    /// it and answers, or only counts it.
    ///
    /// These: noRoute, unreachableRoute, prohibitRoute, ttlExpired, neighborUnreachable, noNextHop, no way
    /// to the VTEP; fragmentationNeeded with ``RoutedContext/mtu``. The frame is as it came: TTL and
    /// Ethernet header are not changed yet.
    @inline(never)
    func routedDrop(_ context: UnsafeMutablePointer<RoutedContext>, _ reason: DropReason) {
        let end = memory.pointee.side.errors
        if context.pointee.isOwn || end == WorkerMemory.sideLane {
            drop(context.pointee.packet, reason)
            return
        }
        context.pointee.reason = reason
        memory.pointee.errors[end] = context.pointee
        memory.pointee.side.errors = end &+ 1
    }

    /// A packet to an address of a gateway; its ``RoutedContext/route`` is `local` with the gateway's
    /// domain, 0 for a VRF without one.
    @inline(never)
    func appendLocal(_ context: UnsafeMutablePointer<RoutedContext>) {
        let end = memory.pointee.side.local
        if end == WorkerMemory.sideLane {
            drop(context.pointee.packet, .noGatewayService)
            return
        }
        memory.pointee.local[end] = context.pointee
        memory.pointee.side.local = end &+ 1
    }

    /// A packet whose neighbour is not known: ``RoutedContext/route`` is `subnet` with the domain to
    /// ask in (nothing is known of the destination), or a hop that is being resolved. Later
    /// ``resume(_:)`` looks the packet up again.
    @inline(never)
    func appendWaiting(_ context: UnsafeMutablePointer<RoutedContext>) {
        let end = memory.pointee.side.waiting
        if end == WorkerMemory.sideLane {
            drop(context.pointee.packet, .neighborQueueFull)
            return
        }
        memory.pointee.waiting[end] = context.pointee
        memory.pointee.side.waiting = end &+ 1
    }

    /// Takes a packet that waited to wherever its route leads now; it may have to wait again.
    @inline(never)
    func resume(_ context: UnsafeMutablePointer<RoutedContext>) {
        find(context)
        follow(context)
    }

    /// Routes an IP packet that this node made (an ICMP error, an echo reply) in `vrf`. The frame has an
    /// Ethernet header with the right EtherType; its addresses and nothing else will be rewritten: the
    /// TTL is the sender's. The caller has counted it as replicated, or turned a received packet around.
    ///
    /// `domain`: the gateway that it is from, 0 without one.
    @inline(never)
    func originate(_ packet: Packet, vrf: UInt16, domain: UInt16) {
        let frame = packet.frame
        var flags = RoutedContext.Flags.isOwn
        if frame[raw16: 12] == EtherType.ipv6.bigEndian { flags.insert(.isIPv6) }
        var context = RoutedContext(
            packet: packet, frame: frame, key: 0, bucket: state.pointee.hosts.table.bucket(of: 0), sourceKey: 0,
            hash: 0, ingress: RoutedContext.fromPort, route: .miss, domain: domain, vrf: vrf, egressVRF: vrf,
            mtu: 0, flags: flags, reason: .noRoute)
        resume(&context)
    }

    /// The frame of pass 1 in a bridge domain goes on as if no lane had looked at it: to pass 2 as
    /// context `kept`, or to the routing passes. Returns how many contexts pass 2 has then.
    func proceed(_ context: UnsafePointer<PacketContext>, at kept: Int) -> Int {
        let domain = context.pointee.domain
        let record = state.pointee.domains + Int(domain)
        let destination = FDBKey.mac(context.pointee.destinationKey).rawValue
        if destination != 0, destination == record.pointee.gatewayMAC {
            startRouting(
                context.pointee.packet,
                RouteOrigin(ingress: context.pointee.ingress, domain: domain, vrf: record.pointee.vrf),
                sourceKey: context.pointee.sourceKey, .wasSeen)
            return kept
        }
        memory.pointee.contexts[kept] = context.pointee
        return kept &+ 1
    }
}
