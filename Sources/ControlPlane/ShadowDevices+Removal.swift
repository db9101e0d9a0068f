// Deletes shadow devices, thousands if need be, without keeping the kernel's network lock for long.

import CLinux
import Glibc

/// A device that is to go.
struct ShadowLeaver: Hashable {
    /// The order in which devices go: zebra withdraws a VNI when its vxlan device has gone, and nothing
    /// is ever in a bridge or a VRF that has.
    enum Rank: Int, CaseIterable { case port, bridge, vrf }
    var device: String
    var index: UInt32
    var rank: Rank

    init(_ link: LinkMessage) {
        device = link.name
        index = link.interface
        rank =
            switch link.kind {
            case .bridge: .bridge
            case .vrf: .vrf
            default: .port
            }
    }
}

extension ShadowDevices {
    /// Marks devices that one request is about to delete (IFLA_GROUP): "pedq".
    static let leavingGroup: UInt32 = 0x7065_6471

    /// Devices deleted by one request. For each request the kernel waits for its readers once (10 to
    /// 20 ms), and for each bridge once more (rcu_barrier in br_multicast_dev_del, net/bridge); it
    /// holds its network lock (RTNL) meanwhile, for which FRR and everybody else wait.
    private static func perRequest(_ rank: ShadowLeaver.Rank) -> Int { rank == .port ? 512 : 16 }

    /// Deletes the devices that pe-dp made here; others that it used stay.
    /// - Parameter progress: called between requests with how many devices are done, and of how many.
    /// - Returns: what could not be deleted, and why.
    public func remove(progress: (Int, Int) -> Void = { _, _ in }) throws -> [String] {
        defer { forgetManaged() }
        let devices = try links().filter { $0.group == ShadowPlan.group && isManaged($0.name) }
        return delete(devices.map { ShadowLeaver($0) }, progress: progress)
    }

    /// - Returns: what could not be deleted, and why.
    func delete(_ devices: [ShadowLeaver], progress: (Int, Int) -> Void = { _, _ in }) -> [String] {
        var problems: [String] = []
        var done = 0
        for rank in ShadowLeaver.Rank.allCases {
            let ranked = devices.filter { $0.rank == rank }
            let size = Self.perRequest(rank)
            for start in stride(from: 0, to: ranked.count, by: size) {
                let some = Array(ranked[start..<min(start + size, ranked.count)])
                problems += deleteTogether(some)
                done += some.count
                progress(done, devices.count)
            }
        }
        return problems
    }

    private func deleteTogether(_ devices: [ShadowLeaver]) -> [String] {
        guard devices.count > 1 else { return deleteOneByOne(devices) }
        let marked = socket.perform(devices.map { .setGroup(interface: $0.index, group: Self.leavingGroup) })
        do {
            try socket.perform(.deleteLinks(group: Self.leavingGroup))
        } catch {
            log(.debug, "\(error); deleting the devices one by one")
            return deleteOneByOne(devices)
        }
        return deleteOneByOne(zip(devices, marked).filter { $0.1 != nil }.map(\.0))
    }

    private func deleteOneByOne(_ devices: [ShadowLeaver]) -> [String] {
        let results = socket.perform(devices.map { .deleteLink(interface: $0.index) })
        return zip(devices, results).compactMap { device, error in
            // A device that has gone meanwhile is what was wanted.
            guard var error, error.errno != ENODEV else { return nil }
            error.device = device.device
            return "\(error)"
        }
    }
}
