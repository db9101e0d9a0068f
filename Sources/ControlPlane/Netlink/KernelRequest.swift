// What pe-dp asks of the kernel by route netlink, as values and as messages.

import CLinux
import Wire

/// One request. Devices are named by their index in the socket's namespace.
public enum KernelRequest: Hashable, Sendable {
    /// `bridge fdb replace MAC dev INTERFACE master static`.
    case addFDB(interface: UInt32, mac: MACAddress)
    /// `bridge fdb del MAC dev INTERFACE master`.
    case deleteFDB(interface: UInt32, mac: MACAddress)
    /// `ip neigh replace ADDRESS lladdr MAC dev INTERFACE nud permanent`.
    ///
    /// Permanent, since the kernel collects rows in state NOARP that nobody uses for a minute when it
    /// has more than 128 neighbours, and takes at most 1024 of them (net/core/neighbour.c).
    case addNeighbor(interface: UInt32, address: IPAddress, mac: MACAddress)
    case deleteNeighbor(interface: UInt32, address: IPAddress)
    /// Has the kernel send ARP or ND for the address when it does not know it (NTF_USE).
    case resolveNeighbor(interface: UInt32, address: IPAddress)
    /// - Parameter master: the VRF device that it is born in; 0 for none.
    case createBridge(name: String, mac: MACAddress, group: UInt32, master: UInt32 = 0)
    case createVRF(name: String, table: UInt32, group: UInt32)
    /// A vxlan device in `bridge` that neither learns nor sends to the assigned UDP port.
    case createVXLAN(
        name: String, vni: VNI, local: IPAddress, port: UInt16, bridge: UInt32, group: UInt32)
    case deleteLink(interface: UInt32)
    /// Every device of the group at once: the kernel waits for its readers once instead of once for
    /// each.
    case deleteLinks(group: UInt32)
    /// Into a bridge or a VRF; 0 out of it.
    case setMaster(interface: UInt32, bridge: UInt32)
    case setGroup(interface: UInt32, group: UInt32)
    case setMTU(interface: UInt32, mtu: UInt32)
    case setMAC(interface: UInt32, mac: MACAddress)
    case setUp(interface: UInt32, isUp: Bool)
    /// `ip link set DEV addrgenmode none`.
    case disableAddressGeneration(interface: UInt32)
    /// Sets exactly these of learning, flood, mcast_flood and bcast_flood on a bridge's port.
    case setBridgePort(interface: UInt32, LinkMessage.BridgePort)
    case addAddress(interface: UInt32, IPPrefix)
    case deleteAddress(interface: UInt32, IPPrefix)

    /// What is asked, for an error: `add 02:… to the FDB`.
    var purpose: String {
        switch self {
        case .addFDB(_, let mac): "add \(mac) to the FDB"
        case .deleteFDB(_, let mac): "delete \(mac) from the FDB"
        case .addNeighbor(_, let address, let mac): "add neighbor \(address) (\(mac))"
        case .deleteNeighbor(_, let address): "delete neighbor \(address)"
        case .resolveNeighbor(_, let address): "resolve neighbor \(address)"
        case .createBridge(let name, _, _, _): "create bridge \(name)"
        case .createVRF(let name, let table, _): "create VRF device \(name) (table \(table))"
        case .createVXLAN(let name, let vni, let local, let port, _, _):
            "create vxlan device \(name) (VNI \(vni), local \(local), UDP port \(port))"
        case .deleteLink: "delete the device"
        case .deleteLinks(let group): "delete the devices of group \(group)"
        case .setMaster(_, let bridge): bridge == 0
            ? "take the device out of its master" : "put the device into the bridge or VRF with ifindex \(bridge)"
        case .setGroup(_, let group): "set device group \(group)"
        case .setMTU(_, let mtu): "set MTU \(mtu)"
        case .setMAC(_, let mac): "set MAC \(mac)"
        case .setUp(_, let isUp): "set the device \(isUp ? "up" : "down")"
        case .disableAddressGeneration: "switch off IPv6 address generation"
        case .setBridgePort: "set the bridge port's flags"
        case .addAddress(_, let prefix): "add address \(prefix)"
        case .deleteAddress(_, let prefix): "delete address \(prefix)"
        }
    }

    /// The device it is about; 0 when it does not exist yet.
    public var interface: UInt32 {
        switch self {
        case .addFDB(let index, _), .deleteFDB(let index, _), .addNeighbor(let index, _, _),
            .deleteNeighbor(let index, _), .resolveNeighbor(let index, _), .deleteLink(let index),
            .setMaster(let index, _), .setGroup(let index, _), .setMTU(let index, _),
            .setMAC(let index, _), .setUp(let index, _), .disableAddressGeneration(let index),
            .setBridgePort(let index, _), .addAddress(let index, _), .deleteAddress(let index, _):
            index
        case .createBridge, .createVXLAN, .createVRF, .deleteLinks: 0
        }
    }
}

/// A netlink message being written, over libnl.
private struct MessageWriter: ~Copyable {
    private let message: OpaquePointer
    private(set) var status: Int32 = 0

    init?(_ type: UInt16, _ flags: UInt16, _ sequence: UInt32, header: [UInt8]) {
        guard let message = pe_netlink_message_new(type, flags, sequence, header, header.count) else {
            return nil
        }
        self.message = message
    }
    deinit { pe_netlink_message_free(message) }

    mutating func put(_ type: UInt16, _ bytes: [UInt8]) {
        note(pe_netlink_put(message, type, bytes, bytes.count))
    }
    mutating func put(_ type: UInt16, u8 value: UInt8) { put(type, [value]) }
    mutating func put(_ type: UInt16, u32 value: UInt32) { put(type, hostBytes(value)) }
    mutating func put(_ type: UInt16, string: String) { put(type, Array(string.utf8) + [0]) }
    mutating func nest(_ type: UInt16, _ body: (inout MessageWriter) -> Void) {
        note(pe_netlink_nest_begin(message, type))
        body(&self)
        note(pe_netlink_nest_end(message))
    }
    private mutating func note(_ result: Int32) { if result < 0, status == 0 { status = result } }

    /// The finished message; nil when something did not fit.
    var bytes: [UInt8]? {
        guard status == 0 else { return nil }
        var count = 0
        let start = pe_netlink_message_bytes(message, &count)
        return Array(UnsafeBufferPointer(start: start, count: count))
    }
}

private func hostBytes<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value) { Array($0) }
}

private enum RequestFlag {
    static let request: UInt16 = 1, ack: UInt16 = 4
    static let replace: UInt16 = 0x100, exclusive: UInt16 = 0x200, create: UInt16 = 0x400
}

private enum MessageType {
    static let newLink: UInt16 = 16, deleteLink: UInt16 = 17, setLink: UInt16 = 19
    static let newAddress: UInt16 = 20, deleteAddress: UInt16 = 21
    static let newNeighbor: UInt16 = 28, deleteNeighbor: UInt16 = 29
}

extension KernelRequest {
    /// The message with its acknowledgement requested; nil when it cannot be written (a name too
    /// long).
    func message(sequence: UInt32) -> [UInt8]? {
        switch self {
        case .addFDB(let index, let mac):
            return neighbor(
                .newNeighbor, sequence, AddressFamily.bridge, index, state: .noARP, flags: .master,
                create: true, mac: mac)
        case .deleteFDB(let index, let mac):
            return neighbor(
                .deleteNeighbor, sequence, AddressFamily.bridge, index, flags: .master, mac: mac)
        case .addNeighbor(let index, let address, let mac):
            return neighbor(
                .newNeighbor, sequence, family(address), index, state: .permanent, create: true,
                destination: address, mac: mac, isOwn: true)
        case .deleteNeighbor(let index, let address):
            return neighbor(.deleteNeighbor, sequence, family(address), index, destination: address)
        case .resolveNeighbor(let index, let address):
            return neighbor(
                .newNeighbor, sequence, family(address), index, flags: .use, create: true,
                destination: address)
        case .addAddress(let index, let prefix):
            return address(MessageType.newAddress, sequence, index, prefix)
        case .deleteAddress(let index, let prefix):
            return address(MessageType.deleteAddress, sequence, index, prefix)
        default: return link(sequence)
        }
    }

    /// Marks our rows among the kernel's neighbours (NDA_PROTOCOL): a number that no routing daemon has
    /// (include/uapi/linux/rtnetlink.h, RTPROT_*).
    static var ownProtocol: UInt8 { 112 }

    private enum Change { case newNeighbor, deleteNeighbor }

    private func family(_ address: IPAddress) -> UInt8 {
        address.isV4 ? AddressFamily.ipv4 : AddressFamily.ipv6
    }

    private func neighbor(
        _ change: Change, _ sequence: UInt32, _ family: UInt8, _ interface: UInt32,
        state: NeighborMessage.State = [], flags: NeighborMessage.Flags = [], create: Bool = false,
        destination: IPAddress? = nil, mac: MACAddress? = nil, isOwn: Bool = false
    ) -> [UInt8]? {
        let header: [UInt8] =
            [family, 0, 0, 0] + hostBytes(interface) + hostBytes(state.rawValue) + [flags.rawValue, 0]
        let type =
            change == .newNeighbor ? MessageType.newNeighbor : MessageType.deleteNeighbor
        let creation = create ? RequestFlag.create | RequestFlag.replace : 0
        guard
            var writer = MessageWriter(
                type, RequestFlag.request | RequestFlag.ack | creation, sequence, header: header)
        else { return nil }
        if let destination { writer.put(1, destination.bytes) }  // NDA_DST
        if let mac { writer.put(2, mac.bytes) }  // NDA_LLADDR
        // Replacing zebra's row would keep zebra's mark on it.
        if isOwn { writer.put(12, u8: Self.ownProtocol) }  // NDA_PROTOCOL
        return writer.bytes
    }

    private func address(
        _ type: UInt16, _ sequence: UInt32, _ interface: UInt32, _ prefix: IPPrefix
    ) -> [UInt8]? {
        let isNew = type == MessageType.newAddress
        let header: [UInt8] =
            [family(prefix.address), UInt8(truncatingIfNeeded: prefix.length), 0, 0]
            + hostBytes(interface)
        let creation = isNew ? RequestFlag.create | RequestFlag.replace : 0
        guard
            var writer = MessageWriter(
                type, RequestFlag.request | RequestFlag.ack | creation, sequence, header: header)
        else { return nil }
        writer.put(2, prefix.address.bytes)  // IFA_LOCAL
        writer.put(1, prefix.address.bytes)  // IFA_ADDRESS
        // A TAP or shadow device has one owner: duplicate address detection would only delay it.
        let noDAD: UInt32 = 0x02
        if isNew, !prefix.address.isV4 { writer.put(8, u32: noDAD) }  // IFA_FLAGS
        return writer.bytes
    }

    /// struct ifinfomsg with nothing but an index and, when given, IFF_UP to set or clear.
    private func linkHeader(
        _ interface: UInt32, up: Bool? = nil, family: UInt8 = AddressFamily.unspecified
    ) -> [UInt8] {
        let flag: UInt32 = 1  // IFF_UP
        return [family, 0, 0, 0] + hostBytes(interface) + hostBytes(up == true ? flag : 0)
            + hostBytes(up == nil ? UInt32(0) : flag)
    }

    private func link(_ sequence: UInt32) -> [UInt8]? {
        let creation = RequestFlag.create | RequestFlag.exclusive
        let type: UInt16
        var flags = RequestFlag.request | RequestFlag.ack
        var header = linkHeader(interface)
        switch self {
        case .createBridge, .createVXLAN, .createVRF:
            type = MessageType.newLink
            flags |= creation
        case .deleteLink, .deleteLinks: type = MessageType.deleteLink
        case .setUp(_, let isUp):
            type = MessageType.setLink
            header = linkHeader(interface, up: isUp)
        case .setBridgePort:
            type = MessageType.setLink
            header = linkHeader(interface, family: AddressFamily.bridge)
        default: type = MessageType.setLink
        }
        guard var writer = MessageWriter(type, flags, sequence, header: header) else { return nil }
        writeLink(&writer)
        return writer.bytes
    }

    // IFLA_* types.
    private static let address: UInt16 = 1, name: UInt16 = 3, mtu: UInt16 = 4, master: UInt16 = 10
    private static let protocolInfo: UInt16 = 12, linkInfo: UInt16 = 18, familySpecific: UInt16 = 26
    private static let group: UInt16 = 27, infoKind: UInt16 = 1, infoData: UInt16 = 2

    private func writeLink(_ writer: inout MessageWriter) {
        switch self {
        case .createVRF(let name, let table, let group):
            writer.put(Self.name, string: name)
            writer.put(Self.group, u32: group)
            writer.nest(Self.linkInfo) { info in
                info.put(Self.infoKind, string: "vrf")
                info.nest(Self.infoData) { $0.put(1, u32: table) }  // IFLA_VRF_TABLE
            }
        case .createBridge(let name, let mac, let group, let master):
            writer.put(Self.name, string: name)
            writer.put(Self.address, mac.bytes)
            writer.put(Self.group, u32: group)
            if master != 0 { writer.put(Self.master, u32: master) }
            writer.nest(Self.linkInfo) { $0.put(Self.infoKind, string: "bridge") }
        case .createVXLAN(let name, let vni, let local, let port, let bridge, let group):
            writer.put(Self.name, string: name)
            writer.put(Self.group, u32: group)
            writer.put(Self.master, u32: bridge)
            writer.nest(Self.linkInfo) { info in
                info.put(Self.infoKind, string: "vxlan")
                info.nest(Self.infoData) { data in
                    data.put(1, u32: vni.rawValue)  // IFLA_VXLAN_ID
                    data.put(local.isV4 ? 4 : 17, local.bytes)  // IFLA_VXLAN_LOCAL, LOCAL6
                    data.put(7, u8: 0)  // IFLA_VXLAN_LEARNING
                    data.put(15, hostBytes(port.bigEndian))  // IFLA_VXLAN_PORT
                }
            }
        case .deleteLinks(let group), .setGroup(_, let group): writer.put(Self.group, u32: group)
        case .setMaster(_, let bridge): writer.put(Self.master, u32: bridge)
        case .setMTU(_, let mtu): writer.put(Self.mtu, u32: mtu)
        case .setMAC(_, let mac): writer.put(Self.address, mac.bytes)
        case .disableAddressGeneration:
            writer.nest(Self.familySpecific) { families in
                families.nest(UInt16(AddressFamily.ipv6)) { $0.put(8, u8: 1) }  // IN6_ADDR_GEN_MODE_NONE
            }
        case .setBridgePort(_, let port):
            writer.nest(Self.protocolInfo) { info in
                info.put(8, u8: port.contains(.learning) ? 1 : 0)  // IFLA_BRPORT_LEARNING
                info.put(9, u8: port.contains(.flood) ? 1 : 0)  // IFLA_BRPORT_UNICAST_FLOOD
                info.put(27, u8: port.contains(.multicastFlood) ? 1 : 0)  // IFLA_BRPORT_MCAST_FLOOD
                info.put(30, u8: port.contains(.broadcastFlood) ? 1 : 0)  // IFLA_BRPORT_BCAST_FLOOD
            }
        default: break
        }
    }
}
