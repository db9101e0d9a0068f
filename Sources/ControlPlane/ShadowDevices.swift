// Kernel devices that make FRR see the VNIs which pe-dp forwards.

import CLinux
import Glibc
import Wire

/// The shadow devices of FRR's namespace: per VRF a VRF device, per VNI a bridge and a vxlan device,
/// and for an L2VNI an attachment port.
///
/// FRR originates routes for a VNI when a vxlan device with that VNI and a local address is in a
/// bridge, and learns local MACs from rows on the bridge's other ports. It looks neither at the UDP
/// port nor at the carrier. So the vxlan device uses another UDP port, neither learns nor floods,
/// and a BPF program drops what it would send and receive; the attachment port is a TAP without a
/// process. Of an L3VNI it takes the bridge's MAC for the own router MAC; of a gateway it learns the
/// subnet from the bridge's addresses. So the kernel has them, but nothing ever asks it: what the
/// bridge sends (IGMP, MLD) ends at its ports.
///
/// Used by one thread at a time.
public final class ShadowDevices: @unchecked Sendable {
    /// Not the assigned 4789, which stays free.
    public static let defaultPort: UInt16 = 14_789
    /// Looks at the kernel before what is still missing counts as failed: VRFs, bridges, vxlan
    /// devices, their settings, and one to see that all is well; twice, in case devices had to be
    /// made anew.
    private static let rounds = 10
    /// Tables for VRFs that have none are looked for from here on.
    static let firstTable: UInt32 = 1001

    /// What came of ``ensure(_:)``.
    public struct Outcome: Sendable {
        public var attachments: [ShadowAttachment] = []
        public var vrfs: [ShadowVRFDevice] = []
        /// One sentence for each thing that could not be had.
        public var problems: [String] = []
    }

    private let namespace: NetworkNamespace
    let socket: KernelSocket
    private let port: UInt16
    let log: @Sendable (LogLevel, String) -> Void
    private var silenced: Set<UInt32> = []
    /// Names of the devices that this process looks after.
    private var managed: Set<String> = []

    public init(
        in namespace: NetworkNamespace, port: UInt16 = ShadowDevices.defaultPort,
        log: @escaping @Sendable (LogLevel, String) -> Void = { _, _ in }
    ) throws {
        self.namespace = namespace
        self.port = port
        self.log = log
        socket = try KernelSocket(in: namespace)
    }

    /// Makes the devices of the wanted VNIs and VRFs be there and be right, and no others of pe-dp's.
    /// What is right already is not touched: the kernel sends no notification for it.
    public func ensure(_ vnis: [ShadowVNI], vrfs: [ShadowVRF] = []) throws -> Outcome {
        var wanted = ShadowWanted(vnis: vnis, vrfs: vrfs)
        managed = wanted.names
        var outcome = Outcome()
        var first = try view()
        let leaving = first.links.values.filter { $0.group == Self.leavingGroup }
        if !leaving.isEmpty {
            // An earlier life ended while it deleted them.
            outcome.problems += delete(leaving.map { ShadowLeaver($0) })
            first = try view()
        }
        try chooseTables(&wanted, first.links)
        for _ in 0..<Self.rounds {
            let plan = ShadowPlan(wanted, port: port, try view())
            var failed: Set<ShadowOwner> = []
            for conflict in plan.conflicts {
                outcome.problems.append("\(conflict.owner): \(conflict.text)")
                failed.insert(conflict.owner)
            }
            silence(plan.vxlans)
            outcome.attachments = plan.ready
            outcome.vrfs = plan.readyVRFs
            if plan.isDone { return outcome }
            outcome.problems += delete(plan.leftovers)
            execute(plan, &wanted, &failed, &outcome)
            for case .vrf(let name) in failed { give(up: name, &wanted, &outcome) }
            wanted.vnis.removeAll { failed.contains(.vni($0.vni)) }
        }
        outcome.problems.append(
            "shadow devices do not stay as pe-dp sets them: does another program change them?")
        return outcome
    }

    /// A VRF that is to be made and has no table gets one that no VRF and no route uses.
    private func chooseTables(_ wanted: inout ShadowWanted, _ links: [String: LinkMessage]) throws {
        guard wanted.vrfs.contains(where: { $0.table == nil && links[$0.name] == nil }) else { return }
        var used = Set(wanted.vrfs.compactMap(\.table))
        for link in links.values { if case .vrf(let table) = link.kind { used.insert(table) } }
        for case .route(let route) in try socket.dump(.routes).messages { used.insert(route.table) }
        var next = Self.firstTable
        for index in wanted.vrfs.indices
        where wanted.vrfs[index].table == nil && links[wanted.vrfs[index].name] == nil {
            while !used.insert(next).inserted { next += 1 }
            wanted.vrfs[index].table = next
        }
    }

    /// Says what is lost with a VRF that cannot be had.
    private func give(up vrf: String, _ wanted: inout ShadowWanted, _ outcome: inout Outcome) {
        let lost = wanted.vnis.filter { $0.vrf == vrf }
        let l3 = lost.filter(\.isL3).map { "L3VNI \($0.vni)" }
        let gateways = lost.filter { !$0.isL3 && !$0.addresses.isEmpty }.map { "VNI \($0.vni)" }
        if !l3.isEmpty { outcome.problems.append("VRF \(vrf): FRR does not see \(l3.joined(separator: ", "))") }
        if !gateways.isEmpty {
            outcome.problems.append(
                "VRF \(vrf): FRR does not see the gateways of \(gateways.joined(separator: ", "))")
        }
        wanted.drop(vrf: vrf)
    }

    func isManaged(_ name: String) -> Bool { managed.contains(name) }
    func forgetManaged() {
        managed = []
        silenced = []
    }

    func links() throws -> [LinkMessage] {
        let dumped = try socket.dump(.links)
        for error in dumped.errors { log(.warning, "a device was not understood: \(error)") }
        return dumped.messages.compactMap { if case .link(let link) = $0 { link } else { nil } }
    }

    private func view() throws -> ShadowView {
        let links = try links()
        let dumped = try socket.dump(.addresses)
        for error in dumped.errors { log(.warning, "an address was not understood: \(error)") }
        return ShadowView(
            links: links,
            addresses: dumped.messages.compactMap { if case .address(let address) = $0 { address } else { nil } })
    }

    private func execute(
        _ plan: ShadowPlan, _ wanted: inout ShadowWanted, _ failed: inout Set<ShadowOwner>, _ outcome: inout Outcome
    ) {
        let results = socket.perform(plan.requests.map(\.request))
        for (request, error) in zip(plan.requests, results) {
            guard var error else { continue }
            error.device = request.device
            let hint = Self.lacksVRFs(request.request, error) ? "; \(Self.vrfRemedy)" : ""
            outcome.problems.append("\(request.owner): \(error)\(hint)")
            if case .addAddress(_, let prefix) = request.request, case .vni(let vni) = request.owner {
                // The VNI's other services do without.
                for index in wanted.vnis.indices where wanted.vnis[index].vni == vni {
                    wanted.vnis[index].addresses.removeAll { $0 == prefix }
                }
            } else {
                failed.insert(request.owner)
            }
        }
        let taps = plan.taps.filter { !failed.contains(.vni($0.vni)) }
        let created = try? namespace.run { taps.map { pe_tap_create_persistent($0.device) } }
        for (index, tap) in taps.enumerated() {
            let result = created?[index] ?? 0 &- ESRCH
            guard result != 0 else { continue }
            let error = KernelError(what: "create TAP", device: tap.device, errno: 0 &- result)
            let hint = result == 0 &- ENOENT ? "; /dev/net/tun is missing in this mount namespace" : ""
            outcome.problems.append("VNI \(tap.vni): \(error)\(hint)")
            failed.insert(.vni(tap.vni))
        }
    }

    /// What to do on a kernel without VRF devices.
    static let vrfRemedy =
        "this kernel has no VRF devices (CONFIG_NET_VRF; modprobe vrf): only an L3VNI with vrf: default works here"
    private static func lacksVRFs(_ request: KernelRequest, _ error: KernelError) -> Bool {
        if case .createVRF = request { error.errno == EOPNOTSUPP } else { false }
    }

    /// Drops what the vxlan devices would send or receive. The drop stays when the process is
    /// killed: the devices stay too.
    private func silence(_ devices: [(index: UInt32, device: String)]) {
        let new = devices.filter { silenced.insert($0.index).inserted }
        guard !new.isEmpty else { return }
        let failures = try? namespace.run { () -> [Int32] in
            let joined = new.map { pe_tc_drop_join_blocks(Int32(truncatingIfNeeded: $0.index)) }
            let filled = joined.contains { $0 == 0 || $0 == -EEXIST } ? pe_tc_drop_fill_blocks() : -EOPNOTSUPP
            return zip(new, joined).map { device, joined in
                joined == 0 && filled == 0 ? 0 : Self.silenceAlone(device.index, sharesBlocks: filled == 0)
            }
        }
        for (index, device) in new.enumerated() {
            let failure = failures?[index] ?? ESRCH
            guard failure != 0 else { continue }
            log(
                .warning,
                "cannot silence \(device.device) by BPF: \(errorText(failure)); what this network namespace "
                    + "itself sends to hosts of the VNI leaves the node on UDP port \(port), and what "
                    + "arrives there reaches the bridge")
        }
    }

    /// For a device that has a clsact qdisc already, or a kernel without shared blocks. 0 or errno.
    /// - Parameter sharesBlocks: the filled blocks are there, and an earlier life of pe-dp made
    ///   devices
    ///   share them; such a device takes no filter of its own (EOPNOTSUPP, net/sched/cls_api.c).
    private static func silenceAlone(_ index: UInt32, sharesBlocks: Bool) -> Int32 {
        for ingress in [Int32(0), 1] {
            let interface = Int32(truncatingIfNeeded: index)
            var result = pe_tc_drop_attach_clsact(interface, ingress)
            if result == -EOPNOTSUPP, sharesBlocks { result = 0 }
            if result < 0 { result = pe_tc_drop_install(interface, ingress) }
            if result < 0 { return 0 &- result }
        }
        return 0
    }
}
