// The records of ports and VRFs, and what all outer headers say.

import Tables
import Wire

extension TableCompiler {
    func setOuterHeader(_ configuration: Configuration) {
        var options = OuterHeaderOptions()
        options.zeroChecksumIPv6 = configuration.underlays.contains(where: \.udp6ZeroChecksumTx)
        switch configuration.underlays.first?.dscp {
        case .fixed(let dscp): options.trafficClass = dscp << 2
        case .copy: options.copiesDSCP = true
        case nil: break
        }
        switch configuration.underlays.first?.ttl {
        case .fixed(let ttl): options.ttl = ttl
        case .copy: options.copiesTTL = true
        case nil: break
        }
        tables.outerHeader = options
    }

    // MARK: Ports

    func setPort(_ port: UInt16, _ state: ControlState) throws(TableError) {
        guard Int(port) < state.ports.count else { return }
        let known = state.ports[Int(port)]
        let numbering = state.numbering
        let hasException = numbering.hasException[Int(port)]
        let role: PortRole =
            numbering.isUnderlay[Int(port)]
            ? .underlay
            : numbering.isRouted[Int(port)]
                ? .routed : numbering.hasCircuits[Int(port)] ? .circuits : .unused
        var entry = PortEntry(
            role: role,
            mtu: known.mtu,
            mac: known.sourceMAC,
            partner: hasException ? numbering.exception(of: port) : PortEntry.none
        )
        entry.isUp = known.isUp
        entry.vrf = role == .underlay ? transitVRF(numbering) : numbering.vrf(ofPort: port)
        try tables.setPort(port, entry)
        guard hasException else { return }
        try tables.setPort(
            numbering.exception(of: port),
            PortEntry(role: .exception, mtu: known.mtu, mac: known.sourceMAC, partner: port)
        )
    }
    /// The default VRF where a routed port is in it (passthrough): packets of the underlay that are
    /// not for this node are routed then.
    private func transitVRF(_ numbering: PortNumbering) -> UInt16 {
        guard let vrf = numbering.vrf(named: Configuration.defaultVRF) else { return 0 }
        return numbering.ports(ofVRF: vrf).isEmpty ? 0 : vrf
    }

    // MARK: VRFs

    /// Makes the VRFs in the order of their numbers; `tables` is fresh.
    func addVRFs(_ state: ControlState) throws(TableError) {
        for (position, _) in state.numbering.vrfNames.enumerated() {
            let index = try tables.addVRF(entry(UInt16(truncatingIfNeeded: position + 1), state))
            precondition(Int(index) == position + 1, "tables must be fresh")
        }
    }
    /// Takes over router MACs and own addresses, which follow the kernel's interfaces.
    func updateVRFs(_ vrfs: Set<UInt16>, _ state: ControlState) {
        for vrf in vrfs.sorted() {
            let wanted = entry(vrf, state)
            guard let known = tables.vrf(vrf),
                known.routerMAC != wanted.routerMAC || known.icmpSourceIPv4 != wanted.icmpSourceIPv4
                    || known.icmpSourceIPv6 != wanted.icmpSourceIPv6
            else { continue }
            tables.updateVRF(vrf) {
                $0.routerMAC = wanted.routerMAC
                $0.icmpSourceIPv4 = wanted.icmpSourceIPv4
                $0.icmpSourceIPv6 = wanted.icmpSourceIPv6
            }
        }
    }
    private func entry(_ vrf: UInt16, _ state: ControlState) -> VRFEntry {
        let l3vni = state.numbering.l3vni(ofVRF: vrf).map { state.configuration.l3vnis[$0] }
        let sources = state.icmpSources(vrf: vrf)
        return VRFEntry(
            vni: l3vni?.vni, vxlanPort: l3vni?.vxlanPort ?? 4789,
            routerMAC: l3vni.flatMap { state.routing.l3vnis[$0.vni]?.routerMAC } ?? .zero,
            icmpSourceIPv4: sources.v4, icmpSourceIPv6: sources.v6)
    }
}

extension ControlState {
    /// Where a VRF's ICMP errors come from: a gateway's address, else another of its own.
    func icmpSources(vrf: UInt16) -> (v4: IPv4Address?, v6: IPv6Address?) {
        var v4: IPv4Address?
        var v6: IPv6Address?
        func offer(_ address: IPAddress) {
            switch address {
            case .v4(let address): v4 = v4 ?? address
            case .v6(let address): if !address.isLinkLocal { v6 = v6 ?? address }
            }
        }
        for domain in numbering.domains(ofVRF: vrf) {
            for gateway in configuration.l2vnis[Int(domain) - 1].gatewayIPs { offer(gateway.address) }
        }
        let own = (routing.own[vrf]?.entries ?? [:]).filter { $0.key.isHost && [.local, .host].contains($0.value.kind) }
        for prefix in own.keys.sorted() { offer(prefix.address) }
        return (v4, v6)
    }
}
