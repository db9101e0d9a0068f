// What the tables route, as lines of text, and the fixtures of the routing tests.

import Tables
import Wire

@testable import ControlPlane

extension ControlRig {
    func vrf(_ name: String) -> UInt16 { state.numbering.vrf(named: name) ?? 0 }
    /// The table's answer for exactly this prefix, as text; nil without one.
    func route(_ vrf: String, _ prefix: String) -> String? {
        guard let prefix = IPPrefix(prefix), let value = tables.route(vrf: self.vrf(vrf), prefix) else { return nil }
        return text(value)
    }
    func value(_ vrf: String, _ prefix: String) -> RouteValue? {
        IPPrefix(prefix).flatMap { tables.route(vrf: self.vrf(vrf), $0) }
    }
    /// What a packet to `address` meets, as text.
    func lookUp(_ vrf: String, _ address: String) -> String? {
        let view = tables.reader(worker: 0).current.assumingMemoryBound(to: ForwardingState.self).pointee
        guard let address = IPAddress(address) else { return nil }
        let key = HostKey.make(self.vrf(vrf), address)
        let bucket = view.hosts.table.bucket(of: key)
        let value =
            switch address {
            case .v4(let v4): view.route(vrf: self.vrf(vrf), ipv4: v4.rawValue, key: key, in: bucket)
            case .v6(let v6): view.route(vrf: self.vrf(vrf), ipv6: v6.high, v6.low, key: key, in: bucket)
            }
        return value.isMiss ? nil : text(value)
    }
    func text(_ value: RouteValue) -> String {
        switch value.kind {
        case .hop?: return hopText(value.index)
        case .group?:
            let slots = tables.slots(ofGroup: value.index)
            let counts = Dictionary(grouping: slots, by: { $0 }).mapValues(\.count)
            let members = counts.map { "\(hopText($0.key)) x\($0.value)" }.sorted()
            return "group of \(slots.count): " + (members.isEmpty ? "none" : members.joined(separator: " + "))
        case .subnet?: return "subnet \(value.index)"
        case .port?: return "port \(state.numbering.name(of: UInt16(value.index)))"
        case .local?: return "local \(value.index)"
        case .host?: return "host \(state.numbering.name(of: UInt16(value.index)))"
        case .vrf?: return "vrf \(state.numbering.name(ofVRF: UInt16(value.index)) ?? "?")"
        case .blackhole?: return "blackhole"
        case .unreachable?: return "unreachable"
        case .prohibit?: return "prohibit"
        case nil: return "?"
        }
    }
    func hopText(_ index: UInt32) -> String {
        guard let hop = tables.hop(index) else { return "no hop \(index)" }
        switch hop.way {
        case .tunnel(let tunnel, let vni, _):
            let vtep = tables.remote(of: tunnel)?.description ?? "no tunnel"
            return "\(vtep) \(vni) \(hop.state == .usable ? hop.mac.description : "\(hop.state)")"
        case .bridge(let domain):
            return "neighbor of \(domain)" + (neighborAddress(index).map { " \($0)" } ?? "")
        case .port(let port):
            return "neighbor on \(state.numbering.name(of: port))" + (neighborAddress(index).map { " \($0)" } ?? "")
        }
    }
    private func neighborAddress(_ index: UInt32) -> String? {
        switch compiler.routes.hops.key(index) {
        case .neighbor(_, let address)?, .port(_, let address)?: address.description
        default: nil
        }
    }
    /// All routes of all VRFs in the tables.
    var tableLines: [String] {
        var lines: [String] = []
        for (position, name) in state.numbering.vrfNames.enumerated() {
            let vrf = UInt16(position + 1)
            var prefixes: Set<IPPrefix> = Set((state.routing.own[vrf]?.entries ?? [:]).keys)
            prefixes.formUnion((state.routing.fixed[vrf]?.entries ?? [:]).keys)
            for (_, content) in state.routes.tables { prefixes.formUnion(content.prefixes) }
            for prefix in prefixes.sorted() {
                if let value = tables.route(vrf: vrf, prefix) { lines.append("\(name) \(prefix) \(text(value))") }
            }
        }
        return lines
    }
    /// The VTEPs that packets of a VRF are accepted from.
    func members(ofVRF name: String) -> [String] {
        let view = tables.reader(worker: 0).current.assumingMemoryBound(to: ForwardingState.self).pointee
        return (0..<UInt32(tables.limits.vteps)).filter { view.isMember(vrf: vrf(name), tunnel: $0) }
            .compactMap { tables.remote(of: $0)?.description }.sorted()
    }
    /// The hop indexes of a route's slots, one without a group.
    func slots(_ vrf: String, _ prefix: String) -> [UInt32] {
        guard let value = value(vrf, prefix) else { return [] }
        if value.isGroup { return tables.slots(ofGroup: value.index) }
        return value.isHop ? [value.index] : []
    }
    /// The VTEP of each of 1024 flows.
    func flows(_ vrf: String, _ prefix: String) -> [String] {
        let slots = slots(vrf, prefix)
        if slots.isEmpty { return [] }
        return (0..<1024).map { hopText(slots[$0 % slots.count]) }
    }
    /// What the tables hold of routing, all together.
    var routingCounts: [Int] { [tables.routeCount, tables.hopCount, tables.groupCount] }
}

/// pe1 with VRF red (table 1001, L3VNI 50000) and L2VNI 10100 in it, gateway 192.168.100.1; the
/// VRF device is interface 20.
func makeRoutedRig(
    links: Bool = true, _ change: (inout Configuration) -> Void = { _ in }
) throws -> ControlRig {
    let rig = try makeRig(
        {
            $0.l3vnis[0].vrf = "red"
            $0.l3vnis[0].name = "red"
            $0.l3vnis[0].routerMAC = MACAddress("02:00:00:50:00:01")
            $0.l2vnis[0].vrf = "red"
            $0.l2vnis[0].gatewayIPs = [IPPrefix("192.168.100.1/24"), IPPrefix("fd00:100::1/64")].compactMap { $0 }
            change(&$0)
        }, shadow: false, links: false)
    if links { rig.dump(RoutedMessage.links) }
    return rig
}

enum RoutedMessage {
    static func vrf(_ interface: UInt32, _ name: String, table: UInt32, isDelete: Bool = false) -> NetlinkMessage {
        .link(LinkMessage(isDelete: isDelete, interface: interface, name: name, kind: .vrf(table: table)))
    }
    static func bridge(_ interface: UInt32, master: UInt32?, mac: String = "02:00:00:50:00:01") -> NetlinkMessage {
        .link(
            LinkMessage(
                isDelete: false, interface: interface, name: "br\(interface)", mac: MACAddress(mac), master: master,
                kind: .bridge(vlanFiltering: false)))
    }
    static let links: [NetlinkMessage] = [
        Message.link(1, "lo", mac: "00:00:00:00:00:00"), Message.link(2, "u0"),
        Message.link(3, "u1", mac: "02:00:00:00:aa:02"), vrf(20, "red", table: 1001), bridge(5, master: 20),
        Message.vxlan(6, 10100, master: 5), bridge(7, master: 20), Message.vxlan(8, 50000, master: 7),
        Message.link(9, "att100"),
    ]
    static func rmac(_ vtep: String, _ mac: String, isDelete: Bool = false) -> NetlinkMessage {
        Message.mac(mac, vtep, interface: 8, isDelete: isDelete)
    }
    static func address(_ prefix: String, _ interface: UInt32, isDelete: Bool = false) -> NetlinkMessage {
        guard let prefix = IPPrefix(prefix) else { return .done }
        return .address(AddressMessage(isDelete: isDelete, interface: interface, prefix: prefix))
    }
}
let rmac2 = "02:00:00:50:00:02"
let rmac3 = "02:00:00:50:00:03"
