// Messages, rigs and events that the tests of the control state are written with.

import Tables
import Wire

@testable import ControlPlane

/// Messages as zebra and the kernel send them, in the recordings' default mode: vx100 is 6 on bridge 5
/// (VNI 10100), vx500 is 8 on bridge 7 (VNI 50000), u0 is 2.
enum Message {
    static func vxlan(_ interface: UInt32, _ vni: UInt32?, master: UInt32, isUp: Bool = true)
        -> NetlinkMessage
    {
        .link(
            LinkMessage(
                isDelete: false,
                interface: interface,
                name: "vx\(interface)",
                mac: MACAddress(rawValue: 1),
                isUp: isUp,
                master: master,
                kind: .vxlan(
                    vni: vni,
                    local: IPAddress("10.0.0.1"),
                    port: 4789,
                    collectMetadata: vni == nil
                )
            )
        )
    }
    static func bridge(_ interface: UInt32) -> NetlinkMessage {
        .link(
            LinkMessage(
                isDelete: false,
                interface: interface,
                name: "br\(interface)",
                kind: .bridge(vlanFiltering: false)
            )
        )
    }
    static func link(_ interface: UInt32, _ name: String, mac: String = "02:00:00:00:aa:01")
        -> NetlinkMessage
    {
        .link(LinkMessage(isDelete: false, interface: interface, name: name, mac: MACAddress(mac)))
    }
    static let links: [NetlinkMessage] = [
        link(2, "u0"), link(3, "u1", mac: "02:00:00:00:aa:02"), bridge(5),
        vxlan(6, 10100, master: 5), bridge(7),
        vxlan(8, 50000, master: 7), link(9, "att100"),
    ]
    static func mac(
        _ mac: String,
        _ vtep: String?,
        interface: UInt32 = 6,
        isDelete: Bool = false,
        isSticky: Bool = false,
        group: UInt32? = nil,
        vlan: UInt16? = nil,
        vni: UInt32? = nil
    ) -> NetlinkMessage {
        .neighbor(
            NeighborMessage(
                isDelete: isDelete,
                family: .bridge,
                interface: interface,
                state: isSticky ? [.reachable, .noARP] : .reachable,
                flags: isSticky
                    ? [.`self`, .master, .sticky] : [.`self`, .master, .externallyLearned],
                destination: vtep.flatMap { IPAddress($0) },
                mac: MACAddress(mac),
                vlan: vlan,
                vni: vni,
                nextHopID: group
            )
        )
    }
    static func flood(_ vtep: String, interface: UInt32 = 6, isDelete: Bool = false)
        -> NetlinkMessage
    {
        .neighbor(
            NeighborMessage(
                isDelete: isDelete,
                family: .bridge,
                interface: interface,
                state: [.noARP, .permanent],
                flags: .`self`,
                destination: IPAddress(vtep),
                mac: .zero
            )
        )
    }
    /// The bridge's row: on the attachment port our own, on the vxlan port zebra's.
    static func bridged(
        _ mac: String,
        _ interface: UInt32,
        isDelete: Bool = false,
        age: UInt32? = nil
    ) -> NetlinkMessage {
        var row = NeighborMessage(
            isDelete: isDelete,
            family: .bridge,
            interface: interface,
            state: .noARP,
            mac: MACAddress(mac),
            master: 5
        )
        row.writtenAge = age
        return .neighbor(row)
    }
    static func neighbor(
        _ address: String,
        _ mac: String?,
        interface: UInt32,
        state: NeighborMessage.State = .reachable,
        isDelete: Bool = false
    ) -> NetlinkMessage {
        .neighbor(
            NeighborMessage(
                isDelete: isDelete,
                family: .ipv4,
                interface: interface,
                state: state,
                destination: IPAddress(address),
                mac: mac.flatMap { MACAddress($0) }
            )
        )
    }
    static func route(
        _ prefix: String,
        table: UInt32 = 254,
        proto: UInt8 = 186,
        id: UInt32? = nil,
        hops: [RouteNextHop] = [],
        metric: UInt32 = 20,
        isDelete: Bool = false,
        port: UInt32 = 100,
        kind: RouteMessage.Kind = .unicast
    ) -> NetlinkMessage {
        guard let prefix = IPPrefix(prefix) else { return .done }
        return .route(
            RouteMessage(
                isDelete: isDelete,
                prefix: prefix,
                table: table,
                routeProtocol: proto,
                kind: kind,
                metric: metric,
                nextHopID: id,
                nextHops: hops,
                portID: port
            )
        )
    }
    static func hop(
        _ gateway: String?,
        _ interface: UInt32,
        weight: UInt32 = 1,
        isOnlink: Bool = false
    ) -> RouteNextHop {
        RouteNextHop(
            gateway: gateway.flatMap { IPAddress($0) },
            interface: interface,
            weight: weight,
            isOnlink: isOnlink
        )
    }
    static func nextHop(
        _ id: UInt32,
        _ gateway: String?,
        _ interface: UInt32,
        isDelete: Bool = false
    ) -> NetlinkMessage {
        .nextHop(
            NextHopMessage(
                isDelete: isDelete,
                id: id,
                gateway: gateway.flatMap { IPAddress($0) },
                interface: interface
            )
        )
    }
    static func group(_ id: UInt32, _ members: [(UInt32, UInt32)], isFDB: Bool = false)
        -> NetlinkMessage
    {
        .nextHop(
            NextHopMessage(
                isDelete: false,
                id: id,
                members: members.map { .init(id: $0.0, weight: $0.1) },
                isFDB: isFDB
            )
        )
    }
}

/// pe1 with two hosts, two underlay ports, the mode's links and the shadow of VNI 10100.
func makeRig(
    _ change: (inout Configuration) -> Void = { _ in },
    shadow: Bool = true,
    links: Bool = true
) throws -> ControlRig {
    var configuration = FPMRecording.configuration(vrf: "default")
    var second = Configuration.Port(name: "u1", driver: .afPacket, device: "eth-u1")
    second.exception = Configuration.Exception()
    configuration.ports.append(second)
    configuration.ports.append(
        Configuration.Port(name: "host2", driver: .afPacket, device: "veth-h2")
    )
    configuration.underlays[0].interfaces = ["u0", "u1"]
    configuration.l2vnis[0].circuits.append(.init(port: "host2", vlan: 20))
    change(&configuration)
    let rig = try ControlRig(configuration)
    if links { rig.dump(Message.links) }
    if shadow {
        guard let vni = VNI(10100) else { return rig }
        rig.apply(.shadowAttached(vni: vni, bridge: 5, vxlan: 6, attachment: 9))
    }
    return rig
}

extension ControlRig {
    func frame(_ messages: NetlinkMessage..., connection: Int = 1) {
        apply(.fpmFrame(connection: connection, messages))
    }
    func kernel(_ messages: NetlinkMessage...) { apply(.kernelNotified(messages)) }
    @discardableResult
    func learn(_ mac: String, circuit: UInt32 = 0) -> [ControlEffect] {
        apply(.learned(LearnEvent(mac: MACAddress(mac) ?? .zero, domain: 1, circuit: circuit)))
    }
    /// Connects, and makes the connection one that decides over L2 MACs.
    func connectFPM(_ connection: Int = 1, port: UInt32 = 100) {
        apply(.fpmConnected(connection: connection))
        frame(
            Message.route("192.0.2.0/24", proto: 196, hops: [Message.hop(nil, 2)], port: port),
            connection: connection
        )
    }
}

let macA = "02:aa:00:00:00:01"
let macB = "02:aa:00:00:00:02"
func added(_ mac: String) -> ControlEffect {
    .addLocalMAC(interface: 9, mac: MACAddress(mac) ?? .zero)
}
func deleted(_ mac: String) -> ControlEffect {
    .deleteLocalMAC(interface: 9, mac: MACAddress(mac) ?? .zero)
}
