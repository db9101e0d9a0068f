// What pe-dp needs of a host, compared with what is there; nothing is changed.

import ControlPlane
import FastPath
import Glibc

/// One thing that was looked at.
struct HostFinding: Codable, Hashable {
    enum Severity: String, Codable { case ok, warning, fault }
    var check: String
    var severity: Severity
    var message: String
    /// What to do; nil when all is well.
    var remedy: String?
}

/// Looks at a host for a configuration, or in general without one.
struct HostCheck {
    let host: HostView
    let configuration: Configuration?
    private(set) var findings: [HostFinding] = []

    init(host: HostView = HostView(), configuration: Configuration? = nil) {
        self.host = host
        self.configuration = configuration
    }

    static func run(host: HostView = HostView(), configuration: Configuration? = nil)
        -> [HostFinding]
    {
        var check = HostCheck(host: host, configuration: configuration)
        check.checkPrivileges()
        check.checkProcessor()
        check.checkMemory()
        check.checkPlacement()
        check.checkTUN()
        check.checkKernel()
        check.checkNamespaces()
        check.checkRouting()
        check.checkDevices()
        check.checkSockets()
        return check.findings
    }

    mutating func add(
        _ check: String,
        _ severity: HostFinding.Severity,
        _ message: String,
        _ remedy: String? = nil
    ) {
        findings.append(
            HostFinding(check: check, severity: severity, message: message, remedy: remedy)
        )
    }

    var needsKernelPorts: Bool {
        guard let configuration else { return true }
        return usesControl
            || configuration.ports.contains {
                $0.exception != nil || [.afPacket, .afXDP, .tap].contains($0.driver)
            }
    }
    var usesControl: Bool { configuration.map { $0.control.routes != .none } ?? true }
    var usesShadow: Bool { usesControl && configuration?.control.shadow ?? true }

    /// Capability bits of linux/capability.h and what needs them.
    private mutating func checkPrivileges() {
        guard let text = host.field("CapEff", in: "/proc/self/status"),
            let held = UInt64(text, radix: 16)
        else {
            return add("privileges", .warning, "/proc/self/status cannot be read", "mount /proc")
        }
        var wanted: [(Int, String)] = []
        if needsKernelPorts { wanted += [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")] }
        let entersNamespaces =
            configuration.map { $0.control.netns != nil || $0.ports.contains { $0.netns != nil } }
            ?? false
        if entersNamespaces { wanted.append((21, "CAP_SYS_ADMIN")) }
        if configuration?.dataplane.hugepages == .always { wanted.append((14, "CAP_IPC_LOCK")) }
        let missing = wanted.filter { held & (1 << UInt64($0.0)) == 0 }.map(\.1)
        if missing.isEmpty {
            add(
                "privileges",
                .ok,
                wanted.isEmpty ? "none needed" : wanted.map(\.1).joined(separator: " ")
            )
        } else {
            add(
                "privileges",
                .fault,
                "not privileged: \(missing.joined(separator: ", ")) missing",
                "run as root, or with packaging/pe-dp.service, which gives these capabilities"
            )
        }
    }

    /// The flags of /proc/cpuinfo that make up x86-64-v3 (x86-64 psABI, micro-architecture levels).
    private mutating func checkProcessor() {
        #if arch(x86_64)
        let flags = Set(
            (host.field("flags", in: "/proc/cpuinfo") ?? "").split(separator: " ").map(String.init)
        )
        let needed = ["avx2", "bmi1", "bmi2", "fma", "f16c", "abm", "movbe", "sse4_2", "popcnt"]
        let missing = needed.filter { !flags.contains($0) }
        if flags.isEmpty {
            add("processor", .warning, "/proc/cpuinfo does not name its features", "mount /proc")
        } else if missing.isEmpty {
            add("processor", .ok, "x86-64-v3 with AVX2")
        } else {
            add(
                "processor",
                .fault,
                "\(missing.joined(separator: ", ")) missing: not x86-64-v3",
                "use a processor from Haswell or Zen on; a virtual machine needs CPU type host"
            )
        }
        #endif
        guard let configuration, let online = host.text("/sys/devices/system/cpu/online") else {
            return
        }
        let cpus = Self.cpus(online)
        let wanted = [configuration.dataplane.mainLcore] + configuration.dataplane.workerLcores
        let absent = Set(wanted).filter { !cpus.contains($0) }.sorted()
        if absent.isEmpty {
            add(
                "lcores",
                .ok,
                "CPUs \(Set(wanted).sorted().map(String.init).joined(separator: ", ")) are online"
            )
        } else {
            add(
                "lcores",
                .fault,
                "CPU \(absent.map(String.init).joined(separator: ", ")) is not online",
                "online are \(online.filter { !$0.isNewline }); change dataplane.lcores"
            )
        }
    }

    /// `0-3,8` as a set; what is no number is left out.
    static func cpus(_ text: String) -> Set<Int> {
        var result: Set<Int> = []
        for part in text.split(whereSeparator: { $0 == "," || $0.isNewline }) {
            let ends = part.split(separator: "-").compactMap { Int($0) }
            guard let first = ends.first, let last = ends.last, (0...4096).contains(first),
                (first...4096).contains(last)
            else { continue }
            result.formUnion(first...last)
        }
        return result
    }

    /// Why packets that do not lie in reserved huge pages lie in small ones; nil: transparent ones.
    private var transparentObstacle: String? {
        let folder = "/sys/kernel/mm/transparent_hugepage"
        if let obstacle = PacketMemory.obstacle(
            enabled: host.text("\(folder)/enabled"), shared: host.text("\(folder)/shmem_enabled"),
            hasNICs: configuration?.ports.contains { $0.driver == .pci } ?? false)
        {
            return obstacle
        }
        if configuration?.dataplane.memoryMegabytes != nil { return "memory.megabytes is given" }
        let version = host.release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        return version.lexicographicallyPrecedes([6, 1]) ? "Linux 6.1 has the call for it" : nil
    }

    private mutating func checkMemory() {
        let dataplane = configuration?.dataplane ?? Configuration.Dataplane()
        var options = EnvironmentOptions()
        options.bufferCount = dataplane.mbufs
        options.largestMTU = configuration?.ports.map(\.mtu).max() ?? 1500
        let needed = dataplane.memoryMegabytes ?? options.neededMegabytes
        let folder = "/sys/kernel/mm/hugepages"
        var freeMegabytes = 0
        for name in host.list(folder) where name.hasPrefix("hugepages-") && name.hasSuffix("kB") {
            let size = Int(name.dropFirst("hugepages-".count).dropLast(2)) ?? 0
            let free = host.number("\(folder)/\(name)/free_hugepages") ?? 0
            let (product, overflow) = size.multipliedReportingOverflow(by: free)
            freeMegabytes += overflow ? 0 : product / 1024
        }
        let isEnough = freeMegabytes >= needed
        let obstacle = transparentObstacle
        switch dataplane.hugepages {
        case .never:
            let instead = obstacle.map { "packets lie in 4 KB pages: \($0)" } ?? "transparent ones serve"
            add("hugepages", .ok, "reserved ones are not used, as configured; \(instead)")
        case .auto where isEnough, .always where isEnough:
            add("hugepages", .ok, "\(freeMegabytes) MB free, \(needed) MB needed")
        case .auto where obstacle == nil:
            add("hugepages", .ok, "\(freeMegabytes) MB free, \(needed) MB needed: transparent ones serve")
        case .auto:
            add(
                "hugepages",
                .warning,
                "\(freeMegabytes) MB free, \(needed) MB needed: 4 KB pages serve (\(obstacle ?? ""))",
                "for full speed reserve some, see hugepages.md: sysctl vm.nr_hugepages=\((needed + 1) / 2)"
            )
        case .always:
            add(
                "hugepages",
                .fault,
                "no huge pages: \(freeMegabytes) MB free, \(needed) MB needed",
                "sysctl vm.nr_hugepages=\((needed + 1) / 2) (hugepages.md), or memory: {hugepages: auto}"
            )
        }
        guard !isEnough || dataplane.hugepages == .never,
            let text = host.field("MemAvailable", in: "/proc/meminfo"),
            let kilobytes = Int(text.prefix { $0.isNumber })
        else { return }
        let available = kilobytes / 1024
        if available < needed {
            add(
                "memory",
                .fault,
                "not enough memory: \(available) MB available, \(needed) MB needed",
                "lower dataplane.memory.mbufs or dataplane.limits, or free memory"
            )
        } else {
            add("memory", .ok, "\(available) MB available, \(needed) MB needed")
        }
    }

    private mutating func checkTUN() {
        guard needsKernelPorts else { return }
        guard let code = host.openError("/dev/net/tun") else {
            return add("tun", .ok, "/dev/net/tun opens")
        }
        let why = String(cString: strerror(code))
        let remedy =
            code == ENOENT || code == ENODEV
            ? "modprobe tun; in a container, add the device /dev/net/tun"
            : "run as root, or allow the device /dev/net/tun"
        let isNeeded =
            usesControl
            || configuration?.ports.contains { $0.exception != nil || $0.driver == .tap } ?? true
        add("tun", isNeeded ? .fault : .warning, "/dev/net/tun does not open: \(why)", remedy)
    }
}
