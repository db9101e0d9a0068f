// Kernel links: which VNI a vxlan device carries, which bridge and SVI belong to it, VRF tables.

import Tables
import Wire

/// What is known of the links of FRR's namespace, and what follows from it.
struct LinkMap {
    /// One link, from its AF_UNSPEC and AF_BRIDGE messages.
    struct Link: Hashable {
        var name = ""
        var mac: MACAddress?
        var mtu: UInt32 = 0
        var isUp = false
        var hasCarrier = false
        var master: UInt32?
        var lower: UInt32?
        var kind: LinkMessage.Kind = .none
        var vlans: [LinkMessage.BridgeVLAN] = []
        var tunnels: [LinkMessage.BridgeTunnel] = []
        /// An AF_UNSPEC message came: kind and MAC are known.
        var isComplete = false
        /// The kernel dump that last showed it.
        var dump: UInt32 = 0
    }
    /// What a change of a link means to the rest of the state.
    struct Consequence {
        /// A vxlan device now has its VNI: rows that waited for it can be placed.
        var appeared: [UInt32] = []
        /// A vxlan device went down or away: what depends on it is void.
        var vanished: [(interface: UInt32, vni: VNI?)] = []
        /// A vxlan device came up again after it was down.
        var cameUp = false
        /// Names, MACs or masters changed: exceptions and SVIs have to be looked up again.
        var changed = false
        /// The link that changed, and what it was and is called.
        var interface: UInt32 = 0
        var names: [String] = []
    }

    private(set) var links: [UInt32: Link] = [:]
    private var byName: [String: UInt32] = [:]
    private var members: [UInt32: Set<UInt32>] = [:]
    /// VLAN devices by their bridge.
    private var vlanDevices: [UInt32: Set<UInt32>] = [:]
    private var vxlanOfVNI: [VNI: UInt32] = [:]
    /// Devices whose tunnel map has the VNI: single vxlan devices.
    private var tunnelDevices: [UInt32: Set<UInt32>] = [:]
    /// The VNI of each traditional vxlan device: every FDB row asks for it.
    private var vniOfVXLAN: [UInt32: VNI] = [:]
    private var wasDown: Set<UInt32> = []

    func link(_ interface: UInt32) -> Link? { links[interface] }
    func interface(named name: String) -> UInt32? { byName[name] }

    // MARK: Changes

    mutating func apply(_ message: LinkMessage, dump: UInt32) -> Consequence {
        if message.isDelete {
            return message.isBridgeFamily ? leaveBridge(message, dump) : remove(message.interface)
        }
        let before = links[message.interface]
        var link = before ?? Link()
        link.dump = dump
        if message.isBridgeFamily {
            link.vlans = message.bridgeVLANs
            link.tunnels = message.bridgeTunnels
            // Of a bridge itself the kernel says here that it is its own master.
            if let master = message.master, master != message.interface { link.master = master }
            if link.name.isEmpty { link.name = message.name }
            if before == nil { link.isUp = message.isUp }
        } else {
            link.isComplete = true
            link.name = message.name
            link.mac = message.mac
            link.mtu = message.mtu
            link.isUp = message.isUp
            link.hasCarrier = message.hasCarrier
            link.master = message.master
            link.lower = message.lower
            if message.kind != .none || before == nil { link.kind = message.kind }
            if message.master == nil {
                link.vlans = []
                link.tunnels = []
            }
            // Some kernels put the VLANs of a bridge port into AF_UNSPEC messages too.
            if !message.bridgeVLANs.isEmpty { link.vlans = message.bridgeVLANs }
            if !message.bridgeTunnels.isEmpty { link.tunnels = message.bridgeTunnels }
        }
        return store(message.interface, before: before, after: link)
    }

    private mutating func store(_ interface: UInt32, before: Link?, after link: Link) -> Consequence
    {
        if let before {
            var same = before
            same.dump = link.dump
            if same == link {
                links[interface]?.dump = link.dump
                return Consequence()
            }
            unindex(interface, before)
        }
        links[interface] = link
        index(interface, link)
        var consequence = Consequence()
        consequence.changed = true
        consequence.interface = interface
        consequence.names = [before?.name, link.name].compactMap { $0 }
        guard case .vxlan = link.kind else { return consequence }
        if before.map({ Self.vni(of: $0) != Self.vni(of: link) || !Self.isVXLAN($0) }) ?? true {
            consequence.appeared.append(interface)
        } else if let before, before.tunnels != link.tunnels {
            consequence.appeared.append(interface)
        }
        if let before, before.isUp && !link.isUp {
            wasDown.insert(interface)
            consequence.vanished.append((interface, Self.vni(of: link)))
        } else if link.isUp && wasDown.remove(interface) != nil {
            consequence.cameUp = true
        }
        return consequence
    }

    private mutating func leaveBridge(_ message: LinkMessage, _ dump: UInt32) -> Consequence {
        guard let before = links[message.interface] else { return Consequence() }
        var link = before
        link.master = nil
        link.vlans = []
        link.tunnels = []
        return store(message.interface, before: before, after: link)
    }

    mutating func remove(_ interface: UInt32) -> Consequence {
        wasDown.remove(interface)
        guard let link = links.removeValue(forKey: interface) else { return Consequence() }
        unindex(interface, link)
        var consequence = Consequence()
        consequence.changed = true
        consequence.interface = interface
        consequence.names = [link.name]
        if case .vxlan = link.kind { consequence.vanished.append((interface, Self.vni(of: link))) }
        return consequence
    }

    /// Links that the last dump did not show.
    func missing(from dump: UInt32) -> [UInt32] {
        links.filter { $0.value.dump != dump }.map(\.key).sorted()
    }

    private mutating func index(_ interface: UInt32, _ link: Link) {
        if !link.name.isEmpty { byName[link.name] = interface }
        if let master = link.master { members[master, default: []].insert(interface) }
        if case .vlan = link.kind, let lower = link.lower {
            vlanDevices[lower, default: []].insert(interface)
        }
        if let vni = Self.vni(of: link) {
            vxlanOfVNI[vni] = interface
            vniOfVXLAN[interface] = vni
        }
        guard Self.isVXLAN(link) else { return }
        for tunnel in link.tunnels { tunnelDevices[tunnel.vni, default: []].insert(interface) }
    }
    private mutating func unindex(_ interface: UInt32, _ link: Link) {
        if byName[link.name] == interface { byName[link.name] = nil }
        if let master = link.master { members[master]?.remove(interface) }
        if case .vlan = link.kind, let lower = link.lower { vlanDevices[lower]?.remove(interface) }
        vniOfVXLAN[interface] = nil
        if let vni = Self.vni(of: link), vxlanOfVNI[vni] == interface { vxlanOfVNI[vni] = nil }
        guard Self.isVXLAN(link) else { return }
        for tunnel in link.tunnels {
            tunnelDevices[tunnel.vni]?.remove(interface)
            if tunnelDevices[tunnel.vni]?.isEmpty ?? false { tunnelDevices[tunnel.vni] = nil }
        }
    }

    // MARK: What follows

    private static func isVXLAN(_ link: Link) -> Bool {
        if case .vxlan = link.kind { true } else { false }
    }
    /// The VNI of a traditional vxlan device; nil for a single vxlan device (collect metadata).
    private static func vni(of link: Link) -> VNI? {
        guard case .vxlan(let vni, _, _, let collectMetadata) = link.kind, !collectMetadata, let vni
        else { return nil }
        return VNI(vni)
    }
    func isVXLAN(_ interface: UInt32) -> Bool { links[interface].map(Self.isVXLAN) ?? false }
    /// Whether it is known what kind of device this is.
    func isKnown(_ interface: UInt32) -> Bool { links[interface]?.isComplete ?? false }

    /// The VNI of a FDB row on `interface`.
    ///
    /// A traditional device has one VNI. On a single vxlan device the row's own VNI tells
    /// (NDA_SRC_VNI, FRR >= 9.0), else its VLAN through the port's tunnel map.
    func vni(interface: UInt32, vlan: UInt16?, hint: UInt32?) -> VNI? {
        if let known = vniOfVXLAN[interface] { return known }
        guard let link = links[interface], Self.isVXLAN(link) else { return nil }
        if let own = Self.vni(of: link) { return own }
        if let hint { return VNI(hint) }
        guard let vlan, let tunnel = link.tunnels.first(where: { $0.vlan == vlan }) else {
            return nil
        }
        return VNI(tunnel.vni)
    }

    /// The VNI that is bridged by the SVI `interface`: a bridge, or a VLAN device on one.
    func vni(ofSVI interface: UInt32) -> VNI? {
        guard let link = links[interface] else { return nil }
        switch link.kind {
        case .bridge:
            for member in (members[interface] ?? []).sorted() {
                if let port = links[member], let vni = Self.vni(of: port) { return vni }
            }
            return nil
        case .vlan(let id):
            guard let bridge = link.lower else { return nil }
            for member in (members[bridge] ?? []).sorted() {
                guard let port = links[member], Self.isVXLAN(port) else { continue }
                if let vni = Self.vni(of: port) {
                    if port.vlans.contains(where: { $0.id == id && $0.isPVID }) { return vni }
                } else if let tunnel = port.tunnels.first(where: { $0.vlan == id }) {
                    return VNI(tunnel.vni)
                }
            }
            return nil
        default: return nil
        }
    }
    /// The SVI of a VNI: the bridge, or the VLAN device for the VNI's VLAN; nil without one.
    func svi(of vni: VNI) -> UInt32? {
        guard let (port, vlan) = attachment(of: vni), let bridge = links[port]?.master else {
            return nil
        }
        if let vlan {
            for device in (vlanDevices[bridge] ?? []).sorted() {
                if case .vlan(id: vlan)? = links[device]?.kind { return device }
            }
        }
        return bridge
    }
    /// The vxlan device of a VNI, and the VLAN that stands for it on a VLAN-aware bridge.
    func attachment(of vni: VNI) -> (interface: UInt32, vlan: UInt16?)? {
        if let interface = vxlanOfVNI[vni], let link = links[interface] {
            let isAware =
                link.master.flatMap { links[$0] }.map {
                    if case .bridge(vlanFiltering: true) = $0.kind { true } else { false }
                } ?? false
            return (interface, isAware ? link.vlans.first(where: \.isPVID)?.id : nil)
        }
        guard let interface = tunnelDevices[vni.rawValue]?.min(),
            let tunnel = links[interface]?.tunnels.first(where: { $0.vni == vni.rawValue })
        else { return nil }
        return (interface, tunnel.vlan)
    }
    /// The VRF device that a link belongs to; nil for the default VRF.
    func vrf(of interface: UInt32) -> (name: String, table: UInt32)? {
        guard let master = links[interface]?.master, let link = links[master],
            case .vrf(let table) = link.kind
        else { return nil }
        return (link.name, table)
    }
    /// The name of the VRF device with `table`.
    func nameOfVRF(table: UInt32) -> String? {
        links.values.first {
            if case .vrf(table) = $0.kind { true } else { false }
        }?.name
    }
    /// The table of the VRF device `name`.
    func table(ofVRF name: String) -> UInt32? {
        guard let interface = byName[name], case .vrf(let table)? = links[interface]?.kind else {
            return nil
        }
        return table
    }
}
