// DPDK's environment for tests: started once per process, without huge pages and without the
// machine's devices.

import CLinux
import FastPath
import Glibc

public enum TestEnvironment {
    /// The one environment of this process; EAL cannot be started twice.
    public static let shared: Environment = {
        var options = EnvironmentOptions()
        options.hugepages = .never
        options.mainCPU = 0
        options.workerCPUs = pe_cpu_allowed(1) == 1 ? [1] : [0]
        options.bufferCount = 16384
        options.largestMTU = 9000
        options.filePrefix = "pe-dp-test-\(getpid())"
        do {
            return try Environment.start(options)
        } catch {
            fatalError("tests need EAL: \(error)")
        }
    }()
}
