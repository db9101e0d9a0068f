// DPDK's environment starts where there is little, refuses with a reason, and leaves the caller
// alone.

import CDPDK
import CLinux
import Glibc
import TestSupport
import Testing

@testable import FastPath

@c(pe_test_entry)
public func pe_test_entry(_ argument: UnsafeMutableRawPointer?) -> Int32 {
    // Pinned: only the CPU that was named is allowed here.
    argument?.storeBytes(of: pe_cpu_allowed(0) - pe_cpu_allowed(1), as: Int32.self)
    return 42
}

@Suite("Environment")
struct EnvironmentTests {
    @Test("EAL starts without huge pages, and its pools are full")
    func startsWithoutHugepages() {
        let environment = TestEnvironment.shared
        #expect(!environment.usesHugepages)
        #expect(pe_pool_capacity(environment.packets) >= 16383)
        #expect(pe_pool_capacity(environment.headers) >= 16383)
    }

    @Test("starting EAL does not pin the caller or its threads")
    func affinityIsKept() {
        _ = TestEnvironment.shared
        #expect(pe_cpu_allowed(0) == 1)
        let count = sysconf(Int32(_SC_NPROCESSORS_ONLN))
        if count > 1 { #expect(pe_cpu_allowed(1) == 1) }
    }

    @Test("a second environment in one process is refused")
    func startsOnce() {
        _ = TestEnvironment.shared
        var options = EnvironmentOptions()
        options.workerCPUs = [0]
        options.hugepages = .never
        #expect(throws: EnvironmentError.self) { try Environment.start(options) }
    }

    @Test("options that cannot work are named")
    func badOptions() throws {
        func error(_ change: (inout EnvironmentOptions) -> Void) throws -> EnvironmentError {
            var options = EnvironmentOptions()
            options.workerCPUs = [0]
            change(&options)
            return try #require(throws: EnvironmentError.self) { try Environment.start(options) }
        }
        #expect(try error { $0.workerCPUs = [] }.remedy.contains("dataplane.lcores.workers"))
        #expect(try error { $0.bufferCount = 10 }.message.contains("dataplane.memory.mbufs is 10"))
        #expect(try error { $0.largestMTU = 70_000 }.kind == .badOptions)
        for cpu in [4000, -1] {
            let refusal = try error { $0.mainCPU = cpu }
            #expect(refusal.kind == .noSuchCPU)
            #expect(refusal.message.contains("CPU \(cpu)"))
        }
    }

    @Test("huge pages that are not there are asked for with the command that reserves them")
    func hugepagesMissing() throws {
        var options = EnvironmentOptions()
        options.workerCPUs = [0]
        options.hugepages = .always
        options.memoryMegabytes = 1 << 24
        let error = try #require(throws: EnvironmentError.self) { try Environment.start(options) }
        #expect(error.kind == .noHugepages)
        #expect(error.remedy.contains("nr_hugepages"))
    }

    @Test("the PCI bus is scanned only for ports that are configured")
    func pciOnlyWhenConfigured() {
        var options = EnvironmentOptions()
        #expect(options.arguments(hugepages: false).contains("--no-pci"))
        options.pciAddresses = ["0000:3b:00.0"]
        let arguments = options.arguments(hugepages: true)
        #expect(!arguments.contains("--no-pci"))
        #expect(arguments.firstIndex(of: "-a").map { arguments[$0 + 1] } == "0000:3b:00.0")
        #expect(arguments.contains("--in-memory"))
    }

    @Test("buffers hold a whole frame of the largest MTU with two tags")
    func roomForJumbo() {
        var options = EnvironmentOptions()
        for mtu in [0, 1500, 2026, 2027, 9100, 16_000] {
            options.largestMTU = mtu
            #expect(options.dataRoom >= 128 + mtu + 22)
            #expect(options.dataRoom >= 128 + 2048)
        }
    }
}

@Suite("Environment in a process of its own")
struct EnvironmentProcessTests {
    @Test("an unprivileged process starts, and opens ports in memory")
    func unprivileged() async {
        await #expect(processExitsWith: .success) {
            if geteuid() == 0, setgid(65534) != 0 || setuid(65534) != 0 { exit(3) }
            var options = EnvironmentOptions()
            options.workerCPUs = [0]
            options.hugepages = .never
            options.bufferCount = 2048
            options.filePrefix = "pe-dp-nobody-\(getpid())"
            let environment = try Environment.start(options)
            let hostIO = try HostIO(environment: environment, portCapacity: 8)
            let registry = PortRegistry(environment: environment, hostIO: hostIO)
            try registry.add(PortDefinition(name: "n", source: .device("net_null0")), at: 0)
            let error = #expect(throws: PortError.self) {
                try registry.add(
                    PortDefinition(name: "lo", source: .packetSocket(device: "lo")),
                    at: 1
                )
            }
            guard error?.kind == .notPrivileged else { exit(4) }
            exit(registry.status(0)?.isUp == true ? 0 : 5)
        }
    }

    @Test("too little memory is said, with what to lower")
    func outOfMemory() async {
        await #expect(processExitsWith: .success) {
            var options = EnvironmentOptions()
            options.workerCPUs = [0]
            options.hugepages = .never
            options.bufferCount = 1 << 18
            options.memoryMegabytes = 64
            options.filePrefix = "pe-dp-small-\(getpid())"
            do throws(EnvironmentError) {
                _ = try Environment.start(options)
                exit(3)
            } catch {
                exit(error.kind == .outOfMemory && error.remedy.contains("mbufs") ? 0 : 4)
            }
        }
    }

    @Test("an argument that EAL does not know comes back in the error")
    func badArgument() async {
        await #expect(processExitsWith: .success) {
            var options = EnvironmentOptions()
            options.workerCPUs = [0]
            options.hugepages = .never
            options.extraArguments = ["-d", "/nonexistent/pmd.so"]
            do throws(EnvironmentError) {
                _ = try Environment.start(options)
                exit(3)
            } catch {
                exit(error.description.contains("/nonexistent/pmd.so") ? 0 : 4)
            }
        }
    }

    @Test("a worker's function runs on its lcore and its value comes back")
    func launches() async {
        await #expect(processExitsWith: .success) {
            var options = EnvironmentOptions()
            options.workerCPUs = [0]
            options.hugepages = .never
            options.bufferCount = 2048
            options.filePrefix = "pe-dp-launch-\(getpid())"
            let environment = try Environment.start(options)
            let pinned = UnsafeMutablePointer<Int32>.allocate(capacity: 1)
            try environment.launch(worker: 0, entry: pe_test_entry, argument: pinned)
            exit(environment.wait(worker: 0) == 42 && pinned.pointee == 1 ? 0 : 4)
        }
    }
}
