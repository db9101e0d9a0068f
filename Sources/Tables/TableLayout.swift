// Where the fields that workers read lie in memory: for programs in C that read the same tables.

/// Offsets by the name `Type.field`; a type's name alone has its stride.
///
/// The C twin of the fast path (bench/sources/twin) compares them with its own before it runs.
public enum TableLayout {
    public static var fields: [String: Int] {
        var fields: [String: Int] = [
            "Adjacency": Adjacency.byteCount, "Adjacency.header": Adjacency.headerOffset,
        ]
        fields.merge(tables + records + state + worker) { first, _ in first }
        return fields
    }

    private static func stride<Type>(_ type: Type.Type) -> (String, Int) {
        (String(describing: type), MemoryLayout<Type>.stride)
    }
    private static func field<Type>(_ name: String, _ path: PartialKeyPath<Type>) -> (String, Int) {
        ("\(Type.self).\(name)", MemoryLayout<Type>.offset(of: path) ?? -1)
    }

    private static var tables: [(String, Int)] {
        [
            stride(BucketView.self), field("buckets", \BucketView.buckets), field("mask", \BucketView.mask),
            stride(HostView.self), field("table", \HostView.table),
        ]
    }
    private static var records: [(String, Int)] {
        [
            stride(BridgeDomain.self), field("vniWord", \BridgeDomain.vniWord),
            field("vxlanPortRaw", \BridgeDomain.vxlanPortRaw), field("gatewayMAC", \BridgeDomain.gatewayMAC),
            field("vrf", \BridgeDomain.vrf),
            stride(Circuit.self), field("port", \Circuit.port), field("vlan", \Circuit.vlan),
            field("domain", \Circuit.domain),
            stride(PortEntry.self), field("role", \PortEntry.role), field("partner", \PortEntry.partner),
            field("untaggedCircuit", \PortEntry.untaggedCircuit),
            field("vlanCircuits", \PortEntry.vlanCircuits), field("mac", \PortEntry.mac),
            stride(Tunnel.self), field("first", \Tunnel.first), field("slotMask", \Tunnel.slotMask),
            field("unusable", \Tunnel.unusable),
            stride(VRFEntry.self), field("routerMAC", \VRFEntry.routerMAC), field("vniWord", \VRFEntry.vniWord),
            field("vxlanPortRaw", \VRFEntry.vxlanPortRaw),
        ]
    }
    private static var state: [(String, Int)] {
        [
            field("fdb", \ForwardingState.fdb), field("vnis", \ForwardingState.vnis),
            field("domains", \ForwardingState.domains), field("circuits", \ForwardingState.circuits),
            field("ports", \ForwardingState.ports), field("portCount", \ForwardingState.portCount),
            field("tunnels", \ForwardingState.tunnels), field("slots", \ForwardingState.slots),
            field("adjacencies", \ForwardingState.adjacencies), field("vteps", \ForwardingState.vteps),
            field("vtepAddresses", \ForwardingState.vtepAddresses), field("members", \ForwardingState.members),
            field("vtepWords", \ForwardingState.vtepWords), field("vrfs", \ForwardingState.vrfs),
            field("hosts", \ForwardingState.hosts), field("hops", \ForwardingState.hops),
            field("vrfMemberBase", \ForwardingState.vrfMemberBase),
            field("plainOuters", \ForwardingState.plainOuters), stride(PlainOuter.self),
            field("wanted", \PlainOuter.wanted),
        ]
    }
    private static var worker: [(String, Int)] {
        [
            field("shared", \PublicationReader.shared), field("slot", \PublicationReader.slot),
            field("totals", \CounterView.totals), field("ports", \CounterView.ports),
            field("domains", \CounterView.domains), field("vrfs", \CounterView.vrfs),
            field("marks", \LearnRing.marks), field("period", \LearnRing.period),
        ]
    }
}
