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
    /// An L3VNI has no attachment port: no local MAC is ever put on its bridge.
    public var isL3 = false
    /// The VRF that the bridge, its SVI, belongs to; nil for pure L2 and for the default VRF.
    public var vrf: String?
    /// Of the SVI: the anycast gateway's. FRR learns the subnets from them.
    public var addresses: [IPPrefix] = []
    public init(
        vni: VNI, local: IPAddress, mac: MACAddress? = nil, isL3: Bool = false, vrf: String? = nil,
        addresses: [IPPrefix] = []
    ) {
        self.vni = vni
        self.local = local
        self.mac = mac
        self.isL3 = isL3
        self.vrf = vrf
        self.addresses = addresses
    }
    public var bridgeName: String { "pebr\(vni)" }
    public var vxlanName: String { "pevx\(vni)" }
    public var attachmentName: String { "peac\(vni)" }
    var names: [String] { [bridgeName, vxlanName] + (isL3 ? [] : [attachmentName]) }
}

/// The finished shadow devices of a VNI, by their indices.
public struct ShadowAttachment: Hashable, Sendable {
    public var vni: VNI
    public var bridge: UInt32
    public var vxlan: UInt32
    /// The bridge port that local MACs are put on; 0 for an L3VNI.
    public var attachment: UInt32
}

/// A VRF that FRR is to see.
public struct ShadowVRF: Hashable, Sendable {
    public var name: String
    /// Nil takes that of the device which is there, or a free one.
    public var table: UInt32?
    public init(name: String, table: UInt32? = nil) {
        self.name = name
        self.table = table
    }
}

/// The kernel's VRF device of a VRF.
public struct ShadowVRFDevice: Hashable, Sendable {
    public var name: String
    public var interface: UInt32
    public var table: UInt32
}

extension Configuration {
    /// What a stock FRR has to see for this configuration: VRFs other than the default one, L3VNIs
    /// with the own router MAC, L2VNIs with their gateways. None without a tunnel endpoint.
    public var shadowDevices: (vnis: [ShadowVNI], vrfs: [ShadowVRF]) {
        let device = { (vrf: String?) in vrf == Self.defaultVRF ? nil : vrf }
        let l3 = l3vnis.compactMap { l3vni in
            tunnelEndpoint(isIPv6: l3vni.underlayIsIPv6).map {
                ShadowVNI(
                    vni: l3vni.vni, local: $0, mac: routerMAC(of: l3vni), isL3: true, vrf: device(l3vni.vrf))
            }
        }
        let l2 = l2vnis.compactMap { l2vni in
            tunnelEndpoint(isIPv6: l2vni.underlayIsIPv6).map {
                // Without a VRF the gateway is none of FRR's business.
                ShadowVNI(
                    vni: l2vni.vni, local: $0, mac: l2vni.effectiveGatewayMAC, vrf: device(l2vni.vrf),
                    addresses: l2vni.vrf == nil ? [] : l2vni.gatewayIPs)
            }
        }
        let tables = Dictionary(l3vnis.map { ($0.vrf, $0.table) }, uniquingKeysWith: { first, _ in first })
        let vrfs = PortNumbering.vrfNames(self).filter { $0 != Self.defaultVRF }.map { name in
            ShadowVRF(name: name, table: tables[name] ?? nil)
        }
        return (l3 + l2, vrfs)
    }
}

extension ShadowDevices.Outcome {
    /// What the control plane is told of it.
    public var events: [ControlEvent] {
        vrfs.map { .vrfAttached(name: $0.name, interface: $0.interface, table: $0.table) }
            + attachments.map {
                $0.attachment == 0
                    ? .shadowL3Attached(vni: $0.vni, bridge: $0.bridge, vxlan: $0.vxlan)
                    : .shadowAttached(
                        vni: $0.vni, bridge: $0.bridge, vxlan: $0.vxlan, attachment: $0.attachment)
            }
    }
}

/// What a step is for; when it fails, that cannot be had.
enum ShadowOwner: Hashable, CustomStringConvertible {
    case vni(VNI)
    case vrf(String)
    var description: String {
        switch self {
        case .vni(let vni): "VNI \(vni)"
        case .vrf(let name): "VRF \(name)"
        }
    }
}

/// All that FRR is to see.
struct ShadowWanted {
    var vnis: [ShadowVNI]
    var vrfs: [ShadowVRF] = []
    var names: Set<String> { Set(vnis.flatMap(\.names) + vrfs.map(\.name)) }

    /// Without a VRF: an L3VNI has no use then; an L2VNI stays a bridge, but its gateway's subnet
    /// would be in the wrong table.
    mutating func drop(vrf name: String) {
        vrfs.removeAll { $0.name == name }
        vnis.removeAll { $0.isL3 && $0.vrf == name }
        for index in vnis.indices where vnis[index].vrf == name {
            vnis[index].vrf = nil
            vnis[index].addresses = []
        }
    }
}

/// The devices of FRR's namespace, and the addresses of each.
struct ShadowView {
    let links: [String: LinkMessage]
    let addresses: [UInt32: Set<IPPrefix>]

    init(links: [LinkMessage], addresses: [AddressMessage] = []) {
        var byName: [String: LinkMessage] = [:]
        for link in links where !link.isBridgeFamily && !link.isDelete { byName[link.name] = link }
        var byInterface: [UInt32: Set<IPPrefix>] = [:]
        for address in addresses where !address.isDelete {
            byInterface[address.interface, default: []].insert(address.prefix)
        }
        self.links = byName
        self.addresses = byInterface
    }
}

/// One look at the kernel's devices: what can be done now. Steps that need an index which only an
/// earlier step brings are planned after the next look.
struct ShadowPlan {
    /// Marks devices that pe-dp made (IFLA_GROUP): "pedp".
    static let group: UInt32 = 0x7065_6470

    var requests: [(owner: ShadowOwner, device: String, request: KernelRequest)] = []
    var taps: [(vni: VNI, device: String)] = []
    /// vxlan devices to silence before any request is made.
    var vxlans: [(index: UInt32, device: String)] = []
    var ready: [ShadowAttachment] = []
    var readyVRFs: [ShadowVRFDevice] = []
    /// The same by name: thousands of VNIs look theirs up.
    private var interfaceOfVRF: [String: UInt32] = [:]
    /// What cannot be had, and why.
    var conflicts: [(owner: ShadowOwner, text: String)] = []
    /// Devices that pe-dp made for what is no longer wanted.
    var leftovers: [ShadowLeaver] = []

    var isDone: Bool { requests.isEmpty && taps.isEmpty && leftovers.isEmpty && conflicts.isEmpty }

    /// - Parameter view: ordinary (not AF_BRIDGE) links of FRR's namespace, and addresses.
    init(_ wanted: ShadowWanted, port: UInt16, _ view: ShadowView) {
        for vrf in wanted.vrfs { plan(vrf, view.links) }
        for vni in wanted.vnis { plan(vni, port, view) }
        let names = wanted.names
        leftovers = view.links.values.filter { $0.group == Self.group && !names.contains($0.name) }
            .map { ShadowLeaver($0) }
            .sorted { $0.device < $1.device }
    }

    private mutating func plan(_ wanted: ShadowVNI, _ port: UInt16, _ view: ShadowView) {
        var master: UInt32 = 0
        if let vrf = wanted.vrf {
            // Born in its VRF, a bridge never shows zebra the subnet of another.
            guard let device = interfaceOfVRF[vrf] else { return }
            master = device
        }
        let before = requests.count + taps.count + conflicts.count
        let bridge = planBridge(wanted, view, master: master)
        let vxlan = planVXLAN(wanted, port, view.links, bridge: bridge)
        let attachment = wanted.isL3 ? 0 : planAttachment(wanted, view.links, bridge: bridge)
        guard let bridge, let vxlan, let attachment,
            requests.count + taps.count + conflicts.count == before
        else { return }
        ready.append(
            ShadowAttachment(vni: wanted.vni, bridge: bridge, vxlan: vxlan, attachment: attachment))
    }

    private mutating func plan(_ wanted: ShadowVRF, _ links: [String: LinkMessage]) {
        let owner = ShadowOwner.vrf(wanted.name)
        guard let link = links[wanted.name] else {
            // Without a table none is free.
            guard let table = wanted.table else { return }
            requests.append(
                (owner, wanted.name, .createVRF(name: wanted.name, table: table, group: Self.group)))
            return
        }
        let isOwn = link.group == Self.group
        guard case .vrf(let table) = link.kind, wanted.table == nil || wanted.table == table else {
            if isOwn, case .vrf = link.kind {
                // The table of a living device cannot be changed.
                requests.append((owner, wanted.name, .deleteLink(interface: link.interface)))
                return
            }
            let kind = wanted.table.map { "a VRF device with table \($0)" } ?? "a VRF device"
            conflicts.append(
                (
                    owner,
                    "device \(wanted.name) is there already and is not \(kind): remove it (ip link del "
                        + "\(wanted.name)) or name another VRF or table in the configuration"
                ))
            return
        }
        if isOwn { planCommon(owner, link) }
        guard link.isUp || isOwn else {
            conflicts.append((owner, "its device is down: ip link set \(wanted.name) up"))
            return
        }
        readyVRFs.append(ShadowVRFDevice(name: wanted.name, interface: link.interface, table: table))
        interfaceOfVRF[wanted.name] = link.interface
    }

    /// The bridge's index when there is one.
    private mutating func planBridge(
        _ wanted: ShadowVNI, _ view: ShadowView, master: UInt32
    ) -> UInt32? {
        let name = wanted.bridgeName
        guard let link = view.links[name] else {
            let mac = wanted.mac ?? Self.randomMAC()
            add(wanted, name, .createBridge(name: name, mac: mac, group: Self.group, master: master))
            return nil
        }
        guard case .bridge = link.kind else {
            conflict(wanted, name, "is not a bridge")
            return nil
        }
        if (link.master ?? 0) != master {
            guard link.group == Self.group else {
                conflict(wanted, name, "is not in \(wanted.vrf.map { "VRF \($0)" } ?? "the default VRF")")
                return nil
            }
            add(wanted, name, .setMaster(interface: link.interface, bridge: master))
            // The kernel takes it down for that, and IPv6 addresses with it.
            return link.interface
        }
        if let mac = wanted.mac, mac != link.mac {
            add(wanted, name, .setMAC(interface: link.interface, mac: mac))
        }
        planCommon(.vni(wanted.vni), link)
        planAddresses(wanted, link, view.addresses[link.interface] ?? [])
        return link.interface
    }

    /// Nothing that the stack answers from is ever asked: the vxlan device is silent, the attachment
    /// port has no other end. On a bridge of another's, addresses that are there stay.
    private mutating func planAddresses(
        _ wanted: ShadowVNI, _ link: LinkMessage, _ present: Set<IPPrefix>
    ) {
        for prefix in wanted.addresses where !present.contains(prefix) {
            add(wanted, link.name, .addAddress(interface: link.interface, prefix))
        }
        guard link.group == Self.group else { return }
        for prefix in present.sorted() where !wanted.addresses.contains(prefix) {
            if case .v6(let address) = prefix.address, address.isLinkLocal { continue }
            add(wanted, link.name, .deleteAddress(interface: link.interface, prefix))
        }
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
        planCommon(.vni(wanted.vni), link)
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
        planCommon(.vni(wanted.vni), link)
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

    /// Up, without a link-local address. Without IPv6 in the kernel there is nothing to switch off.
    private mutating func planCommon(_ owner: ShadowOwner, _ link: LinkMessage) {
        if let mode = link.addressGenerationMode, mode != 1 {
            requests.append((owner, link.name, .disableAddressGeneration(interface: link.interface)))
        }
        if !link.isUp {
            requests.append((owner, link.name, .setUp(interface: link.interface, isUp: true)))
        }
    }

    private mutating func add(_ wanted: ShadowVNI, _ device: String, _ request: KernelRequest) {
        requests.append((.vni(wanted.vni), device, request))
    }

    private mutating func conflict(_ wanted: ShadowVNI, _ name: String, _ text: String) {
        conflicts.append(
            (
                .vni(wanted.vni),
                "device \(name) is there already and \(text): remove it (ip link del \(name)) or "
                    + "take VNI \(wanted.vni) out of the configuration"
            ))
    }

    /// Locally administered and not a group address.
    private static func randomMAC() -> MACAddress {
        MACAddress(rawValue: UInt64.random(in: 0..<(1 << 48)) & ~0x03 | 0x02)
    }
}
