// What DPDK's environment is started with, and the EAL arguments that follow from it.

/// How the process uses processors and memory; see docs/configuration.md, `dataplane`.
public struct EnvironmentOptions: Sendable {
    public enum Hugepages: String, Sendable {
        /// Huge pages when enough are free, else ordinary ones.
        case auto
        case always, never
    }
    /// CPU of the main lcore, which only sleeps.
    public var mainCPU = 0
    /// One worker per entry; an entry may repeat or be ``mainCPU``, which only costs speed.
    public var workerCPUs = [1]
    public var hugepages = Hugepages.auto
    /// Packet buffers.
    public var bufferCount = 16384
    /// Small buffers for flood headers and clones; nil is as many as ``bufferCount``.
    public var headerCount: Int?
    /// The largest layer 3 packet of any port, in bytes; buffers hold a whole frame.
    public var largestMTU = 1500
    /// Memory in MB that EAL reserves; nil computes it from the buffers.
    public var memoryMegabytes: Int?
    /// NUMA nodes with pools of buffers of their own (``Placement/poolNodes``); none: one pool anywhere.
    public var poolNodes: [Int] = []
    /// The node of each worker's own memory (``Placement/workerMemory``); -1 or missing: anywhere.
    public var workerMemory: [Int] = []
    /// PCI addresses EAL may probe; none: no PCI bus at all.
    public var pciAddresses: [String] = []
    /// EAL arguments given verbatim, behind all others.
    public var extraArguments: [String] = []
    /// Names this process's files under `/run/dpdk`.
    public var filePrefix = "pe-dp"

    public init() {}

    /// Bytes in one buffer: headroom and the largest frame with two VLAN tags, at least 2048.
    public var dataRoom: Int { Self.headroom + max(2048, (max(0, largestMTU) + 22 + 63) & ~63) }
    /// RTE_PKTMBUF_HEADROOM: what encapsulation may prepend.
    public static let headroom = 128
    /// Room in a header buffer behind its headroom.
    public static let headerRoom = 128

    /// Megabytes that the pools and the drivers need.
    public var neededMegabytes: Int { Self.driverMegabytes + poolMegabytes }
    /// Megabytes that the two pools of each node need.
    var poolMegabytes: Int {
        // Behind each buffer: rte_mbuf (128), the pool's object header and alignment (128).
        let packet = dataRoom + 256
        let header = Self.headroom + Self.headerRoom + 256
        let bytes = bufferCount * packet + (headerCount ?? bufferCount) * header
        return max(1, poolNodes.count) * (bytes >> 20 + 1)
    }
    /// Rings, tables and queues of the drivers, generously: untouched pages cost nothing.
    static let driverMegabytes = 96

    /// EAL's arguments, `argv[0]` included.
    ///
    /// - Parameter plannedMegabytes: of memory without reserved pages; nil is what is needed.
    public func arguments(hugepages: Bool, plannedMegabytes: Int? = nil) -> [String] {
        var result = ["pe-dp", "--lcores", lcores, "--main-lcore", "0", "--no-telemetry"]
        if hugepages {
            // Nothing in /dev/hugepages survives the process.
            result += ["--in-memory"]
            if let memoryMegabytes { result += ["-m", String(memoryMegabytes)] }
        } else {
            // DPDK 22.11 refuses --in-memory together with --no-huge.
            result += [
                "--no-huge", "--no-shconf", "-m",
                String(plannedMegabytes ?? memoryMegabytes ?? neededMegabytes),
            ]
        }
        result += ["--file-prefix", filePrefix]
        if pciAddresses.isEmpty {
            result += ["--no-pci", "--iova-mode=va"]
        } else {
            for address in pciAddresses { result += ["-a", address] }
        }
        return result + extraArguments
    }

    /// Lcore 0 is the main one, lcore n worker n - 1.
    private var lcores: String {
        ([mainCPU] + workerCPUs).enumerated().map { "\($0.offset)@\($0.element)" }.joined(
            separator: ","
        )
    }
}
