// What is still missing between the shadow devices that should be there and the devices that are.

import CLinux
public import Wire

/// A VNI that FRR is to see, with what its devices look like.
public struct ShadowVNI: Hashable, Sendable {
    public var vni: VNI
    /// The tunnel endpoint that FRR advertises for the VNI.
    public var local: IPAddress
    /// The bridge's MAC, which FRR takes for the SVI's; nil keeps or makes a random one.
    public var mac: MACAddress?
    public init(vni: VNI, local: IPAddress, mac: MACAddress? = nil) {
        self.vni = vni
        self.local = local
        self.mac = mac
    }
    public var bridgeName: String { "pebr\(vni)" }
    public var vxlanName: String { "pevx\(vni)" }
    public var attachmentName: String { "peac\(vni)" }
    var names: [String] { [bridgeName, vxlanName, attachmentName] }
}

/// The finished shadow devices of a VNI, by their indices.
public struct ShadowAttachment: Hashable, Sendable {
    public var vni: VNI
    public var bridge: UInt32
    public var vxlan: UInt32
    /// The bridge port that local MACs are put on.
    public var attachment: UInt32
}

/// One look at the kernel's devices: what can be done now. Steps that need an index which only an
/// earlier step brings are planned after the next look.
struct ShadowPlan {
    /// Marks devices that pe-dp made (IFLA_GROUP): "pedp".
    static let group: UInt32 = 0x7065_6470

    var requests: [(vni: VNI, device: String, request: KernelRequest)] = []
    var taps: [(vni: VNI, device: String)] = []
    /// vxlan devices to silence before any request is made.
    var vxlans: [(index: UInt32, device: String)] = []
    var ready: [ShadowAttachment] = []
    /// VNIs that cannot be had, and why.
    var conflicts: [(vni: VNI, text: String)] = []
    /// Devices that pe-dp made for VNIs that are no longer wanted.
    var leftovers: [(device: String, index: UInt32)] = []

    var isDone: Bool { requests.isEmpty && taps.isEmpty && leftovers.isEmpty }

    /// - Parameter links: ordinary (not AF_BRIDGE) links of FRR's namespace.
    init(wanted: [ShadowVNI], port: UInt16, links: [LinkMessage]) {
        var byName: [String: LinkMessage] = [:]
        for link in links where !link.isBridgeFamily && !link.isDelete { byName[link.name] = link }
        for vni in wanted { plan(vni, port, byName) }
        let names = Set(wanted.flatMap(\.names))
        leftovers = byName.values.filter { $0.group == Self.group && !names.contains($0.name) }
            .map { ($0.name, $0.interface) }
            .sorted { $0.device < $1.device }
    }

    private mutating func plan(_ wanted: ShadowVNI, _ port: UInt16, _ links: [String: LinkMessage]) {
        let before = requests.count + taps.count + conflicts.count
        let bridge = planBridge(wanted, links)
        let vxlan = planVXLAN(wanted, port, links, bridge: bridge)
        let attachment = planAttachment(wanted, links, bridge: bridge)
        guard let bridge, let vxlan, let attachment,
            requests.count + taps.count + conflicts.count == before
        else { return }
        ready.append(
            ShadowAttachment(vni: wanted.vni, bridge: bridge, vxlan: vxlan, attachment: attachment))
    }

    /// The bridge's index when there is one.
    private mutating func planBridge(
        _ wanted: ShadowVNI, _ links: [String: LinkMessage]
    ) -> UInt32? {
        let name = wanted.bridgeName
        guard let link = links[name] else {
            let mac = wanted.mac ?? Self.randomMAC()
            add(wanted, name, .createBridge(name: name, mac: mac, group: Self.group))
            return nil
        }
        guard case .bridge = link.kind else {
            conflict(wanted, name, "is not a bridge")
            return nil
        }
        if let mac = wanted.mac, mac != link.mac {
            add(wanted, name, .setMAC(interface: link.interface, mac: mac))
        }
        planCommon(wanted, link)
        return link.interface
    }

    private mutating func planVXLAN(
        _ wanted: ShadowVNI, _ port: UInt16, _ links: [String: LinkMessage], bridge: UInt32?
    ) -> UInt32? {
        let name = wanted.vxlanName
        guard let link = links[name] else {
            if let bridge {
                add(
                    wanted, name,
                    .createVXLAN(
                        name: name, vni: wanted.vni, local: wanted.local, port: port, bridge: bridge,
                        group: Self.group))
            }
            return nil
        }
        let expected = LinkMessage.Kind.vxlan(
            vni: wanted.vni.rawValue, local: wanted.local, port: port, collectMetadata: false)
        guard link.kind == expected, link.vxlanLearning == false else {
            // None of these can be changed on a living device.
            if link.group == Self.group {
                add(wanted, name, .deleteLink(interface: link.interface))
            } else {
                conflict(
                    wanted, name,
                    "is not a vxlan device with VNI \(wanted.vni), local address \(wanted.local), "
                        + "UDP port \(port) and learning off")
            }
            return nil
        }
        vxlans.append((link.interface, name))
        planPort(wanted, link, bridge: bridge)
        planCommon(wanted, link)
        return link.interface
    }

    private mutating func planAttachment(
        _ wanted: ShadowVNI, _ links: [String: LinkMessage], bridge: UInt32?
    ) -> UInt32? {
        let name = wanted.attachmentName
        guard let link = links[name] else {
            taps.append((wanted.vni, name))
            return nil
        }
        guard link.kind == .other("tun"), link.mac != nil else {
            conflict(wanted, name, "is not a TAP")
            return nil
        }
        if link.group != Self.group {
            add(wanted, name, .setGroup(interface: link.interface, group: Self.group))
        }
        planPort(wanted, link, bridge: bridge)
        planCommon(wanted, link)
        return link.interface
    }

    /// A port that learns nothing and to which nothing is flooded.
    private mutating func planPort(_ wanted: ShadowVNI, _ link: LinkMessage, bridge: UInt32?) {
        guard let bridge else { return }
        if link.master != bridge {
            add(wanted, link.name, .setMaster(interface: link.interface, bridge: bridge))
            add(wanted, link.name, .setBridgePort(interface: link.interface, []))
        } else if link.bridgePort != [] {
            add(wanted, link.name, .setBridgePort(interface: link.interface, []))
        }
    }

    /// Up, without an address. Without IPv6 in the kernel there is nothing to switch off.
    private mutating func planCommon(_ wanted: ShadowVNI, _ link: LinkMessage) {
        if let mode = link.addressGenerationMode, mode != 1 {
            add(wanted, link.name, .disableAddressGeneration(interface: link.interface))
        }
        if !link.isUp { add(wanted, link.name, .setUp(interface: link.interface, isUp: true)) }
    }

    private mutating func add(_ wanted: ShadowVNI, _ device: String, _ request: KernelRequest) {
        requests.append((wanted.vni, device, request))
    }

    private mutating func conflict(_ wanted: ShadowVNI, _ name: String, _ text: String) {
        conflicts.append(
            (
                wanted.vni,
                "device \(name) is there already and \(text): remove it (ip link del \(name)) or "
                    + "take VNI \(wanted.vni) out of the configuration"
            ))
    }

    /// Locally administered and not a group address.
    private static func randomMAC() -> MACAddress {
        MACAddress(rawValue: UInt64.random(in: 0..<(1 << 48)) & ~0x03 | 0x02)
    }
}
