// Configuration files of any bytes: every fault is an error that names its place.

import ControlPlane
import Tables

public enum ConfigurationFuzz {
    public static func run(_ bytes: UnsafeRawBufferPointer) {
        let text = String(decoding: bytes, as: UTF8.self)
        do throws(ConfigurationFaults) {
            let configuration = try Configuration(yaml: text, file: "f.yaml")
            // What the parser accepts, the control plane can start with.
            guard configuration.ports.count < 64, configuration.l2vnis.count < 64 else { return }
            var state = ControlState(configuration: configuration)
            var limits = TableLimits(configuration)
            limits.macs = min(limits.macs, 1024)
            limits.vteps = min(limits.vteps, 64)
            limits.circuits = min(limits.circuits, 1024)
            limits.workers = 1
            guard let tables = try? ForwardingTables(limits: limits) else { return }
            guard let compiler = try? TableCompiler(&state, tables: tables, at: Instant.seconds(1)) else { return }
            _ = compiler.flush(&state, at: Instant.seconds(2))
        } catch {
            fuzzRequire(!error.faults.isEmpty, "refused without a fault")
            for fault in error.faults {
                fuzzRequire("\(fault)".hasPrefix("f.yaml:"), "a fault without its place: \(fault)")
            }
        }
    }
}
