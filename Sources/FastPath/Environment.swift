// Starts DPDK's environment once per process: memory, buffer pools and lcores.

public import CDPDK
import CLinux
import Glibc
import Synchronization

/// Why the environment did not start, and what to do about it.
public struct EnvironmentError: Error, Equatable, CustomStringConvertible {
    public enum Kind: Sendable {
        case badOptions, noSuchCPU, noHugepages, outOfMemory, notPrivileged, alreadyStarted, refused
    }
    public var kind: Kind
    /// What failed, with DPDK's own words where it said any.
    public var message: String
    public var remedy: String
    public var description: String { "\(message); \(remedy)" }
}

/// DPDK's environment and the buffers every packet lives in.
///
/// One per process, never stopped.
///
/// The main lcore is not used: the thread that calls ``start(_:log:)`` keeps its CPU affinity and
/// goes on with its own work.
public final class Environment: @unchecked Sendable {
    public let options: EnvironmentOptions
    /// Buffers for received packets: ``EnvironmentOptions/bufferCount`` of them, on each node that has any.
    public let packets: OpaquePointer
    /// Small buffers for flood headers and clones.
    public let headers: OpaquePointer
    /// By NUMA node; empty when there is one pool for all.
    private let pools: [Int: Pools]
    /// Nodes whose pools had to be elsewhere.
    public let misplacedNodes: [Int]
    /// The pages that packet buffers lie in.
    public let memory: PacketMemory
    /// Whether packet memory is in reserved huge pages.
    public var usesHugepages: Bool { memory.pages == .reserved }
    public var workerCount: Int { options.workerCPUs.count }

    private static let started = Mutex(false)

    private struct Pools {
        let packets: OpaquePointer
        let headers: OpaquePointer
        let isMisplaced: Bool
    }

    private init(options: EnvironmentOptions, first: Pools, pools: [Int: Pools], memory: PacketMemory) {
        self.options = options
        packets = first.packets
        headers = first.headers
        self.pools = pools
        misplacedNodes = pools.filter(\.value.isMisplaced).keys.sorted()
        self.memory = memory
    }

    /// Buffers for a device on a node; those of another where that one has none.
    public func packets(node: Int) -> OpaquePointer { pools[node]?.packets ?? packets }
    /// Buffers for a worker's own packets, on its node.
    public func packets(worker: Int) -> OpaquePointer { pools[memoryNode(worker: worker)]?.packets ?? packets }
    public func headers(worker: Int) -> OpaquePointer { pools[memoryNode(worker: worker)]?.headers ?? headers }
    /// The node that a worker's memory is to come from; -1 is anywhere.
    public func memoryNode(worker: Int) -> Int {
        options.workerMemory.indices.contains(worker) ? options.workerMemory[worker] : -1
    }

    /// Starts EAL and creates the pools; the caller's CPU affinity stays what it was.
    ///
    /// - Parameters:
    ///   - options: checked before anything starts.
    ///   - log: receives each line that DPDK logs, from the thread that logs it.
    /// - Returns: the process's environment.
    /// - Throws: ``EnvironmentError`` naming what is missing and how to provide it.
    public static func start(
        _ options: EnvironmentOptions,
        log: pe_log_sink? = nil
    ) throws(EnvironmentError) -> Environment {
        try check(options)
        let hugepages = try useHugepages(options)
        let isFirst = started.withLock { started in
            defer { started = true }
            return !started
        }
        guard isFirst else {
            throw EnvironmentError(
                kind: .alreadyStarted,
                message: "DPDK's environment was started before in this process",
                remedy: "start the process again"
            )
        }
        _ = pe_eal_log_to(log)
        let plan = hugepages ? nil : memoryPlan(options)
        let arguments = options.arguments(hugepages: hugepages, plannedMegabytes: plan?.megabytes)
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        // EAL keeps pointers into argv, so it is not freed.
        let rc = occupying(plan?.occupied ?? 0..<0) { pe_eal_init(Int32(arguments.count), &argv) }
        guard rc == 0 else { throw refusal(errno: -rc, arguments: arguments) }
        var transparent = pe_eal_has_hugepages() != 0 ? nil : TransparentMemory(options)
        var pools: [Int: Pools] = [:]
        for node in options.poolNodes { pools[node] = try makePools(options, node: node) }
        let first: Pools
        if let node = options.poolNodes.first, let own = pools[node] {
            first = own
        } else {
            first = try makePools(options, node: -1)
        }
        return Environment(
            options: options, first: first, pools: pools, memory: transparent?.finish() ?? .reserved)
    }

    /// Runs `entry(argument)` on worker `worker`'s lcore.
    ///
    /// `entry` must be a `@c` function: a closure would carry this thread's isolation with it.
    public func launch(
        worker: Int,
        entry: @convention(c) (UnsafeMutableRawPointer?) -> Int32,
        argument: UnsafeMutableRawPointer?
    ) throws(EnvironmentError) {
        let rc = pe_lcore_launch(entry, argument, UInt32(worker + 1))
        guard rc == 0 else {
            throw EnvironmentError(
                kind: .refused,
                message: "worker \(worker) did not start: \(errorText(-rc))",
                remedy: "wait for the function that it still runs"
            )
        }
    }

    /// Waits until worker `worker`'s function has returned; what it returned.
    public func wait(worker: Int) -> Int32 { pe_lcore_wait(UInt32(worker + 1)) }

    /// NUMA node of worker `worker`.
    public func numaNode(worker: Int) -> Int32 { pe_lcore_socket(UInt32(worker + 1)) }

    /// The last lines that DPDK logged.
    public static func logTail() -> String {
        let text = [CChar](unsafeUninitializedCapacity: 4096) { buffer, count in
            count = 0
            guard let base = buffer.baseAddress else { return }
            count = Int(pe_eal_log_tail(base, 4096))
        }
        return String(decoding: text.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

extension Environment {
    private static func check(_ options: EnvironmentOptions) throws(EnvironmentError) {
        guard !options.workerCPUs.isEmpty, options.workerCPUs.count <= 64 else {
            throw EnvironmentError(
                kind: .badOptions,
                message: "there are \(options.workerCPUs.count) workers",
                remedy: "name 1 to 64 CPUs in dataplane.lcores.workers"
            )
        }
        guard options.bufferCount >= 1024, options.bufferCount <= 1 << 24 else {
            throw EnvironmentError(
                kind: .badOptions,
                message: "dataplane.memory.mbufs is \(options.bufferCount)",
                remedy: "set it to 1024 ... 16777216"
            )
        }
        guard options.largestMTU >= 0, options.largestMTU <= 16_000 else {
            throw EnvironmentError(
                kind: .badOptions,
                message: "an MTU of \(options.largestMTU) bytes does not fit a buffer",
                remedy: "set every port's mtu to at most 16000"
            )
        }
        for cpu in [options.mainCPU] + options.workerCPUs
        where cpu < 0 || cpu > Int(Int32.max) || pe_cpu_allowed(Int32(cpu)) == 0 {
            throw EnvironmentError(
                kind: .noSuchCPU,
                message: "CPU \(cpu) does not exist or this process may not use it",
                remedy: "name other CPUs in dataplane.lcores, or widen the process's CPU set"
            )
        }
    }

    /// nil leaves EAL's memory where it falls: its size is given, or huge pages are not to be had.
    private static func memoryPlan(_ options: EnvironmentOptions) -> MemoryPlan? {
        guard options.memoryMegabytes == nil, TransparentMemory.obstacle(options) == nil else { return nil }
        return MemoryPlan(wanted: options.neededMegabytes, base: pe_memory_base(), tables: pe_memory_tables)
    }

    /// Runs `body` while nothing else can be mapped at these addresses.
    private static func occupying(_ addresses: Range<UInt64>, _ body: () -> Int32) -> Int32 {
        let size = addresses.upperBound - addresses.lowerBound
        guard size > 0, pe_memory_occupy(addresses.lowerBound, size) == 0 else { return body() }
        defer { pe_memory_vacate(addresses.lowerBound, size) }
        return body()
    }

    private static func useHugepages(_ options: EnvironmentOptions) throws(EnvironmentError) -> Bool
    {
        if options.hugepages == .never { return false }
        let needed = options.memoryMegabytes ?? options.neededMegabytes
        let free = freeHugepageMegabytes()
        if free >= needed { return true }
        if options.hugepages == .auto { return false }
        throw EnvironmentError(
            kind: .noHugepages,
            message: "\(needed) MB of huge pages are needed, \(free) MB are free",
            remedy: "reserve them (echo \((needed + 1) / 2) > /proc/sys/vm/nr_hugepages; see "
                + "hugepages.md) or set dataplane.memory.hugepages to auto"
        )
    }

    /// Both pools of a node; of any where it has no room.
    private static func makePools(
        _ options: EnvironmentOptions, node: Int
    ) throws(EnvironmentError) -> Pools {
        let suffix = node < 0 ? "" : "_\(node)"
        let headerRoom = EnvironmentOptions.headroom + EnvironmentOptions.headerRoom
        let headerCount = options.headerCount ?? options.bufferCount
        do throws(EnvironmentError) {
            return Pools(
                packets: try makePool(
                    "pe_packets\(suffix)", options.bufferCount, dataRoom: options.dataRoom, node: node),
                headers: try makePool("pe_headers\(suffix)", headerCount, dataRoom: headerRoom, node: node),
                isMisplaced: false)
        } catch {
            guard node >= 0 else { throw error }
            return Pools(
                packets: try makePool(
                    "pe_packets\(suffix)_any", options.bufferCount, dataRoom: options.dataRoom, node: -1),
                headers: try makePool("pe_headers\(suffix)_any", headerCount, dataRoom: headerRoom, node: -1),
                isMisplaced: true)
        }
    }

    private static func makePool(
        _ name: String,
        _ wanted: Int,
        dataRoom: Int,
        node: Int
    ) throws(EnvironmentError) -> OpaquePointer {
        // A mempool's ring has a power of two minus one places: one buffer less saves half the
        // ring.
        let count = wanted & (wanted - 1) == 0 ? wanted - 1 : wanted
        let cache = min(256, count / 8)
        let pool = pe_pool_create(name, UInt32(count), UInt32(cache), UInt16(dataRoom), Int32(node))
        guard let pool else {
            throw EnvironmentError(
                kind: .outOfMemory,
                message:
                    "no memory for \(count) buffers of \(dataRoom) bytes (\(errorText(pe_eal_error())))",
                remedy: "lower dataplane.memory.mbufs or reserve more memory"
            )
        }
        return pool
    }

    private static func refusal(errno code: Int32, arguments: [String]) -> EnvironmentError {
        let said = logTail().split(separator: "\n")
            .filter { !$0.isEmpty && !$0.contains("Detected ") && !$0.contains("Selected IOVA") }
            .suffix(3).joined(separator: " | ")
        let message = "EAL did not start: \(errorText(code))" + (said.isEmpty ? "" : ": \(said)")
        let lowered = said.lowercased()
        let (kind, remedy): (EnvironmentError.Kind, String) =
            if code == EACCES || code == EPERM || lowered.contains("permission") {
                (
                    .notPrivileged,
                    "run as root, or give CAP_IPC_LOCK, CAP_SYS_ADMIN and access to the devices"
                )
            } else if code == ENOMEM || lowered.contains("memory") || lowered.contains("hugepage") {
                (
                    .outOfMemory,
                    "free memory, lower dataplane.memory.mbufs, or set hugepages to never"
                )
            } else {
                (
                    .refused,
                    "look at dataplane.eal and the ports; EAL was given: "
                        + arguments.dropFirst().joined(separator: " ")
                )
            }
        return EnvironmentError(kind: kind, message: message, remedy: remedy)
    }

    /// Megabytes of free huge pages of all sizes (/sys/kernel/mm/hugepages).
    static func freeHugepageMegabytes() -> Int {
        var total = 0
        for kilobytes in [2048, 1_048_576] {
            let path = "/sys/kernel/mm/hugepages/hugepages-\(kilobytes)kB/free_hugepages"
            guard let text = readSmallFile(path), let pages = Int(text) else { continue }
            total += pages * (kilobytes / 1024)
        }
        return total
    }
}

/// The first line of a file in /proc or /sys.
func readSmallFile(_ path: String) -> String? {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return nil }
    defer { close(fd) }
    var bytes = [UInt8](repeating: 0, count: 256)
    let count = read(fd, &bytes, bytes.count)
    guard count >= 0 else { return nil }
    return String(decoding: bytes[..<count].prefix { $0 != 10 }, as: UTF8.self)
}

/// What errno value `code` means.
func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }
