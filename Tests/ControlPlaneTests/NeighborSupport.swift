// A node with an anycast gateway, its hosts and zebra's rows, for the tests of IP neighbours.

import Tables
import Wire

@testable import ControlPlane

/// pe1 as ``makeRig(_:shadow:links:)`` has it, VNI 10100 with a gateway in VRF red: 192.0.2.1/24 and
/// 2001:db8::1/64.
func makeGatewayRig(
    shadow: Bool = true, limits: TableLimits? = nil, _ change: (inout Configuration) -> Void = { _ in }
) throws -> ControlRig {
    try makeRig({
        $0.l3vnis[0].vrf = "red"
        $0.l3vnis[0].name = "red"
        $0.l2vnis[0].vrf = "red"
        $0.l2vnis[0].gatewayIPs = ["192.0.2.1/24", "2001:db8::1/64"].compactMap { IPPrefix($0) }
        $0.dataplane.macAgeingSeconds = 300
        change(&$0)
    }, shadow: shadow)
}

extension Message {
    /// A row on an SVI or an exception TAP; zebra's when `isZebra`.
    static func binding(
        _ address: String, _ mac: String?, interface: UInt32 = 5, isZebra: Bool = false, isOwn: Bool = false,
        isDelete: Bool = false, state: NeighborMessage.State = .noARP
    ) -> NetlinkMessage {
        let ip = IPAddress(address)
        var row = NeighborMessage(
            isDelete: isDelete, family: ip?.isV4 ?? true ? .ipv4 : .ipv6, interface: interface, state: state,
            flags: isZebra ? .externallyLearned : [], destination: ip, mac: mac.flatMap { MACAddress($0) })
        row.neighborProtocol = isZebra ? 11 : isOwn ? 112 : nil
        return .neighbor(row)
    }
}

extension ControlRig {
    @discardableResult
    func see(
        _ kind: NeighborEvent.Kind, _ address: String, _ mac: String, circuit: UInt32 = 0, domain: UInt16 = 1
    ) -> [ControlEffect] {
        apply(
            .neighborSeen(
                NeighborEvent(
                    kind: kind, domain: domain, circuit: circuit, mac: MACAddress(mac) ?? .zero,
                    address: IPAddress(address) ?? .v4(IPv4Address(rawValue: 0)))))
    }
    @discardableResult
    func wants(_ address: String, domain: UInt16 = 1) -> [ControlEffect] {
        see(.unresolved, address, "00:00:00:00:00:00", circuit: NeighborEvent.fromTunnel, domain: domain)
    }
    /// What the neighbour table says, as text: MAC, state when not usable, `remote`.
    func hop(_ address: String, domain: UInt16 = 1) -> String? {
        guard let ip = IPAddress(address), let index = tables.neighbor(domain: domain, ip) else { return nil }
        guard let hop = tables.hop(index) else { return "dead" }
        return describe(hop)
    }
    func describe(_ hop: RouteHop) -> String {
        switch hop.state {
        case .usable: "\(hop.mac)" + (hop.isRemote ? " remote" : "")
        default: "\(hop.state)"
        }
    }
    /// What was asked for, dumps and log lines left out.
    var requests: [ControlEffect] { effects.filter { $0.isProbe || $0.isKernelRequest } }
    var claims: NeighborCounters { state.neighborCounters }
    func row(_ address: String) -> NeighborRow? { state.neighborRows(at: now).first { $0.ip == address } }
    /// The kernel shows what it was asked to add.
    func echo(_ effects: [ControlEffect]) {
        for case .addLocalNeighbor(let interface, let address, let mac) in effects {
            kernel(Message.binding("\(address)", "\(mac)", interface: interface, isOwn: true))
        }
    }
}

func bound(_ address: String, _ mac: String) -> ControlEffect {
    .addLocalNeighbor(
        interface: 5, address: IPAddress(address) ?? .v4(IPv4Address(rawValue: 0)), mac: MACAddress(mac) ?? .zero)
}
func unbound(_ address: String) -> ControlEffect {
    .deleteLocalNeighbor(interface: 5, address: IPAddress(address) ?? .v4(IPv4Address(rawValue: 0)))
}
func asked(_ address: String, _ mac: String? = nil) -> ControlEffect {
    .probeNeighbor(
        domain: 1, address: IPAddress(address) ?? .v4(IPv4Address(rawValue: 0)), mac: mac.flatMap { MACAddress($0) })
}
let hostA = "192.0.2.10"
let hostB = "192.0.2.20"
let hostSix = "2001:db8::10"
