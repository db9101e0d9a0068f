// Pass 1 for what nearly all frames of circuits are: whole in one buffer, with the tag of a circuit or without.

import CDPDK
import CLinux
import Tables
import Wire

extension Pipeline {
    /// A frame on a circuit port: into `context`, if it is one that a circuit takes. All that
    /// ``admission(of:on:_:)`` asks for is asked for here.
    @inline(__always)
    func admitPlain(
        _ packet: Packet, _ entry: UnsafePointer<PortEntry>, _ context: UnsafeMutablePointer<PacketContext>
    ) -> PlainEnd {
        let length = packet.contiguous
        guard length >= EthernetHeader.byteCount &+ VLANTag.byteCount, !packet.isSegmented else { return .other }
        let old = packet.frame
        let destination = EthernetHeader(at: old).destination.rawValue
        // Bytes 4 to 11: the upper part is the source.
        let upper = old[raw64: 4]
        let source = upper &>> 16
        // Of the reserved destinations the first four bytes: whoever has them is looked at elsewhere.
        if source & 1 != 0 || source == 0 || UInt32(truncatingIfNeeded: destination) == 0x00C2_8001 {
            return .other
        }
        let isTagged = old[raw16: 12] == EtherType.vlan.bigEndian
        var circuit = entry.pointee.untaggedCircuit
        if isTagged {
            guard let circuits = entry.pointee.vlanCircuits else { return .other }
            // VLAN 0, a priority tag, has no circuit.
            circuit = circuits[Int(VLANTag(at: old + 12).vlanID)]
        }
        if circuit == PortEntry.noCircuit { return .other }
        let domain = state.pointee.circuits[Int(circuit)].domain
        let record = state.pointee.domains + Int(domain)
        if domain == 0 || record.pointee.gatewayMAC == source { return .other }
        var frame = old
        var byteCount = length
        if isTagged {
            // The addresses go over the tag.
            old[raw64: 4] = old[raw64: 0]
            old[raw32: 12] = UInt32(truncatingIfNeeded: upper &>> 32)
            frame = old + VLANTag.byteCount
            byteCount = length &- VLANTag.byteCount
            packet.cut(to: VLANTag.byteCount, byteCount)
        }
        return bridgeFromCircuit(
            packet, frame, byteCount: byteCount, destination, source, circuit, domain, record, context)
            ? .kept : .ended
    }

    /// A frame of a circuit, without the circuit's tag: into `context`; false when it goes elsewhere.
    ///
    /// Its addresses are given: where a tag was popped, a load of what two stores have just written would
    /// wait until both are in the cache.
    @inline(__always)
    func bridgeFromCircuit(
        _ packet: Packet, _ frame: UnsafeMutableRawPointer, byteCount: Int, _ destination: UInt64,
        _ source: UInt64, _ circuit: UInt32, _ domain: UInt16, _ record: UnsafePointer<BridgeDomain>,
        _ context: UnsafeMutablePointer<PacketContext>
    ) -> Bool {
        memory.pointee.counters.add(domain: domain, .circuitInPackets, bytes: UInt64(byteCount))
        let fdb = state.pointee.fdb
        let sourceKey = FDBKey.make(domain: domain, mac: source)
        let sourceBucket = fdb.bucket(of: sourceKey)
        pe_prefetch(sourceBucket)
        memory.pointee.learning.prefetchMark(fdb.firstSlot(of: sourceBucket))
        if isForGateway(destination, record) {
            beginRouting(
                packet, frame, byteCount: byteCount,
                RouteOrigin(ingress: circuit, domain: domain, vrf: record.pointee.vrf), sourceKey: sourceKey)
            return false
        }
        // Whatever else it is starts anew in a function of its own: nothing is kept in registers for it.
        guard FlowHash.isPlain(frame, byteCount), ServiceMark.ofPlain(frame) != ServiceMark.neighbor else {
            return bridgeOther(packet, circuit, domain, context)
        }
        let key = FDBKey.make(domain: domain, mac: destination)
        let bucket = fdb.bucket(of: key)
        pe_prefetch(bucket)
        context.pointee.packet = packet
        context.pointee.frame = frame
        context.pointee.destinationKey = key
        context.pointee.destinationBucket = bucket
        context.pointee.sourceKey = sourceKey
        context.pointee.sourceBucket = sourceBucket
        context.pointee.hash = FlowHash.plain(frame)
        context.pointee.ingress = circuit
        context.pointee.domain = domain
        context.pointee.marks = ServiceMark.ofPlain(frame)
        return true
    }

    /// The same of a frame that is no plain TCP or UDP in IPv4, or for a DHCP client.
    @inline(never)
    private func bridgeOther(
        _ packet: Packet, _ circuit: UInt32, _ domain: UInt16, _ context: UnsafeMutablePointer<PacketContext>
    ) -> Bool {
        let marks = ServiceMark.of(packet.frame, packet.contiguous)
        if marks == ServiceMark.neighbor {
            handToNeighbors(packet, domain: domain, ingress: circuit)
            return false
        }
        var found = bridged(packet, domain: domain, ingress: circuit)
        pe_prefetch(found.destinationBucket)
        found.marks = marks
        context.pointee = found
        return true
    }
}
