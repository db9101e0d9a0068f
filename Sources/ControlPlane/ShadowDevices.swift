// Kernel devices that make FRR see the VNIs which pe-dp forwards.

import CLinux
import Glibc
import Wire

/// The shadow devices of FRR's namespace: per VNI a bridge, a vxlan device and an attachment port.
///
/// FRR originates routes for a VNI when a vxlan device with that VNI and a local address is in a
/// bridge, and learns local MACs from rows on the bridge's other ports. It looks neither at the UDP
/// port nor at the carrier. So the vxlan device uses another UDP port, neither learns nor floods,
/// and a BPF program drops what it would send and receive; the attachment port is a TAP without a
/// process.
///
/// Used by one thread at a time.
public final class ShadowDevices: @unchecked Sendable {
    /// Not the assigned 4789, which stays free.
    public static let defaultPort: UInt16 = 14_789
    /// Looks at the kernel before what is still missing counts as failed: bridges, vxlan devices,
    /// their settings, and one to see that all is well; twice, in case devices had to be made anew.
    private static let rounds = 8

    /// What came of ``ensure(_:)``.
    public struct Outcome: Sendable {
        public var attachments: [ShadowAttachment] = []
        /// One sentence for each thing that could not be had.
        public var problems: [String] = []
    }

    private let namespace: NetworkNamespace
    private let socket: KernelSocket
    private let port: UInt16
    private let log: @Sendable (LogLevel, String) -> Void
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

    /// Makes the devices of the wanted VNIs be there and be right, and no others of pe-dp's. What
    /// is right already is not touched: the kernel sends no notification for it.
    public func ensure(_ wanted: [ShadowVNI]) throws -> Outcome {
        managed = Set(wanted.flatMap(\.names))
        var wanted = wanted
        var outcome = Outcome()
        for _ in 0..<Self.rounds {
            let plan = ShadowPlan(wanted: wanted, port: port, links: try links())
            var failed: Set<VNI> = []
            for conflict in plan.conflicts {
                outcome.problems.append(conflict.text)
                failed.insert(conflict.vni)
            }
            silence(plan.vxlans)
            outcome.attachments = plan.ready
            if plan.isDone { return outcome }
            outcome.problems += remove(plan.leftovers)
            execute(plan, &failed, &outcome)
            wanted.removeAll { failed.contains($0.vni) }
        }
        outcome.problems.append(
            "shadow devices do not stay as pe-dp sets them: does another program change them?")
        return outcome
    }

    /// Deletes the devices that pe-dp made here; others that it used stay.
    /// - Returns: what could not be deleted, and why.
    public func remove() throws -> [String] {
        let own = try links().filter { $0.group == ShadowPlan.group }
        defer { managed = [] }
        silenced = []
        let devices = own.filter { managed.contains($0.name) }
        guard !devices.isEmpty else { return [] }
        if devices.count == own.count {
            do {
                try socket.perform(.deleteLinks(group: ShadowPlan.group))
                return []
            } catch {
                log(.debug, "\(error); deleting the devices one by one")
            }
        }
        return remove(devices.map { ($0.name, $0.interface) })
    }

    private func links() throws -> [LinkMessage] {
        let dumped = try socket.dump(.links)
        for error in dumped.errors { log(.warning, "a device was not understood: \(error)") }
        return dumped.messages.compactMap { if case .link(let link) = $0 { link } else { nil } }
    }

    private func remove(_ devices: [(device: String, index: UInt32)]) -> [String] {
        let results = socket.perform(devices.map { .deleteLink(interface: $0.index) })
        return zip(devices, results).compactMap { device, error in
            // A device that has gone meanwhile is what was wanted.
            guard var error, error.errno != ENODEV else { return nil }
            error.device = device.device
            return "\(error)"
        }
    }

    private func execute(_ plan: ShadowPlan, _ failed: inout Set<VNI>, _ outcome: inout Outcome) {
        let results = socket.perform(plan.requests.map(\.request))
        for (request, error) in zip(plan.requests, results) {
            guard var error else { continue }
            error.device = request.device
            outcome.problems.append("VNI \(request.vni): \(error)")
            failed.insert(request.vni)
        }
        let taps = plan.taps.filter { !failed.contains($0.vni) }
        let created = try? namespace.run { taps.map { pe_tap_create_persistent($0.device) } }
        for (index, tap) in taps.enumerated() {
            let result = created?[index] ?? 0 &- ESRCH
            guard result != 0 else { continue }
            let error = KernelError(what: "create TAP", device: tap.device, errno: 0 &- result)
            let hint = result == 0 &- ENOENT ? "; /dev/net/tun is missing in this mount namespace" : ""
            outcome.problems.append("VNI \(tap.vni): \(error)\(hint)")
            failed.insert(tap.vni)
        }
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
