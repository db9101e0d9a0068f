// What is known of the overlay: VTEPs, MACs of each VNI, flood lists, router MACs.

import Tables
import Wire

/// VTEP addresses by small numbers, so that a MAC's row is a few words.
struct VTEPRegistry {
    private var ids: [IPAddress: UInt32] = [:]
    private(set) var addresses: [IPAddress] = []
    /// The number of a VTEP, whose address is normalised; it keeps it for ever.
    mutating func id(of address: IPAddress) -> UInt32 {
        if let known = ids[address] { return known }
        let id = UInt32(truncatingIfNeeded: addresses.count)
        ids[address] = id
        addresses.append(address)
        return id
    }
    func known(_ address: IPAddress) -> UInt32? { ids[address] }
    func address(_ id: UInt32) -> IPAddress? {
        Int(id) < addresses.count ? addresses[Int(id)] : nil
    }
}

/// Where a remote MAC is.
enum RemoteTarget: Hashable {
    /// ``VTEPRegistry`` number.
    case vtep(UInt32)
    /// An EVPN multihoming next-hop group of the kernel (NDA_NH_ID).
    case group(UInt32)
}

/// All that is known of one MAC in one VNI. A MAC is local or remote, never both.
struct MACEntry {
    /// What zebra said over FPM.
    struct FPMRow: Hashable {
        var target: RemoteTarget
        var isSticky: Bool
        /// Kept from a lost connection; the next kernel dump confirms or removes it.
        var isUnconfirmed = false
        var origin: Origin
    }
    /// What the vxlan device's FDB says.
    struct KernelRow: Hashable {
        /// Why a row that is there does not count.
        enum Doubt: Hashable {
            /// The MAC became local after it: nobody deletes the vxlan driver's row then.
            case superseded
            /// A zebra that is gone left it behind.
            case leftover
            /// FRR was away for longer than the hold time; a zebra that is still the same revives it.
            case expired
        }
        var target: RemoteTarget
        var isSticky: Bool
        /// Configured by hand (NUD_PERMANENT): no bridge row goes with it.
        var isPermanent = false
        var doubt: Doubt?
        var dump: UInt32
        /// ``ControlState/epoch`` at which this target was first seen or last notified.
        var since: UInt32
        /// When zebra last wrote the bridge's row that goes with it, changed or not; 0: not known.
        var writtenAt = Instant(nanoseconds: 0)
        /// Perhaps a leftover, nothing else says the MAC: it counts until then; 0: no such doubt.
        var heldUntil = Instant(nanoseconds: 0)
        var isHeld: Bool { heldUntil.nanoseconds != 0 }
        /// zebra said it again.
        mutating func confirm() {
            doubt = nil
            heldUntil = Instant(nanoseconds: 0)
        }
    }
    /// A MAC behind one of our circuits.
    struct LocalRow: Hashable {
        var circuit: UInt32
        var lastSeen: Instant
        /// When it was last given to the kernel; nil while it is not there.
        var exportedAt: Instant?
        /// The kernel showed it on our attachment port.
        var isConfirmed = false
    }
    var fixed: RemoteTarget?
    var fpm: FPMRow?
    var kernel: KernelRow?
    var local: LocalRow?
    var isEmpty: Bool { fixed == nil && fpm == nil && kernel == nil && local == nil }

    /// Where it is, and whether it may move.
    var placement: MACPlacement? {
        if let fixed { return .remote(fixed, isSticky: true) }
        if let local { return .circuit(local.circuit) }
        if let fpm { return .remote(fpm.target, isSticky: fpm.isSticky) }
        if let kernel, kernel.doubt == nil {
            return .remote(kernel.target, isSticky: kernel.isSticky)
        }
        return nil
    }
}

/// Where the FDB has to place a MAC.
enum MACPlacement: Hashable {
    case gateway
    case circuit(UInt32)
    case remote(RemoteTarget, isSticky: Bool)
}

/// One L2VNI of the configuration.
struct DomainState {
    /// A VTEP of the flood list (type 3), from a kernel row with MAC 00:00:00:00:00:00.
    struct FloodRow: Hashable {
        var dump: UInt32
    }
    /// The shadow devices that zebra sees.
    struct Shadow: Hashable {
        var bridge: UInt32
        var vxlan: UInt32
        var attachment: UInt32
    }
    let vni: VNI
    let gatewayMAC: MACAddress?
    var macs = MACTable()
    var flood: [UInt32: FloodRow] = [:]
    /// ``VTEPRegistry`` numbers of `static.vteps`.
    var fixedFlood: [UInt32] = []
    var shadow: Shadow?
}

/// Router MACs by L3VNI and VTEP.
struct RouterMACs {
    struct Key: Hashable {
        var vni: VNI
        var vtep: IPAddress
    }
    struct Row: Hashable {
        var mac: MACAddress
        var origin: Origin
        /// The old `fpm` module misses changes; the kernel's row counts more.
        var isWeak: Bool
        /// A DELNEIGH came; it takes effect when no route uses the VTEP any more.
        var isCondemned = false
        var dump: UInt32
    }
    private(set) var rows: [Key: [Row]] = [:]
    private(set) var condemned: Set<Key> = []
    private var changed: Set<Key> = []

    /// Keys whose rows changed since this was last called.
    mutating func takeChanged() -> Set<Key> {
        defer { changed.removeAll() }
        return changed
    }
    /// The last NEWNEIGH wins; among sources FPM (dplane_fpm_nl), kernel, old module.
    func mac(_ vni: VNI, _ vtep: IPAddress) -> Row? {
        guard let rows = rows[Key(vni: vni, vtep: vtep)] else { return nil }
        return rows.last { $0.origin != .kernel && !$0.isWeak } ?? rows.last {
            $0.origin == .kernel
        } ?? rows.last
    }
    mutating func set(_ key: Key, _ row: Row) {
        rows[key, default: []].removeAll { $0.origin == row.origin }
        rows[key]?.append(row)
        note(key)
    }
    /// A delete of `mac` by one source; of another MAC it is old news.
    mutating func condemn(_ key: Key, origin: Origin, mac: MACAddress?) {
        guard
            let index = rows[key]?.firstIndex(where: {
                $0.origin == origin && (mac == nil || $0.mac == mac)
            })
        else { return }
        rows[key]?[index].isCondemned = true
        note(key)
    }
    /// Removes what was condemned, once nothing uses it.
    mutating func bury(_ key: Key) { removeRows(key) { $0.isCondemned } }
    mutating func removeRows(_ key: Key, where drop: (Row) -> Bool) {
        rows[key]?.removeAll(where: drop)
        if rows[key]?.isEmpty ?? false { rows[key] = nil }
        note(key)
    }
    mutating func removeAll(where drop: (Key, Row) -> Bool) {
        for key in Array(rows.keys) { removeRows(key) { drop(key, $0) } }
    }
    private mutating func note(_ key: Key) {
        changed.insert(key)
        if rows[key]?.contains(where: \.isCondemned) ?? false {
            condemned.insert(key)
        } else {
            condemned.remove(key)
        }
    }
}
