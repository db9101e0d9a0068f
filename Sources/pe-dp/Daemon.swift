// The running daemon: starts both planes in order, joins them, and takes them down again.

import CLinux
import ControlPlane
import FastPath
import Glibc
import Logging
import Tables
import Wire

/// How many VNIs, VRFs and attachment TAPs FRR is shown.
struct ShadowCounts {
    var vnis = 0
    var vrfs = 0
    var taps = 0
}

/// Why the daemon cannot start; says what to do.
struct DaemonError: Error, CustomStringConvertible {
    var description: String
}

/// Everything that runs, from the admin socket to the workers.
///
/// Start order: admin socket (so that a second daemon stops before it touches anything), DPDK, tables,
/// ports with their exception TAPs, shadow devices, kernel feed, FPM, workers. Stop order is the reverse.
final class Daemon: @unchecked Sendable {
    let configuration: Configuration
    let path: String
    let logger: Logger
    let started = ControlLoop.monotonic()
    let numbering: PortNumbering

    private(set) var environment: Environment?
    private(set) var tables: ForwardingTables?
    private(set) var loop: ControlLoop?
    private(set) var registry: PortRegistry?
    private var hostIO: HostIO?
    private var namespace: NetworkNamespace?
    private var shadow: ShadowDevices?
    private var feed: KernelFeed?
    private var fpm: FPMServer?
    private var admin: AdminServer?
    private(set) var workers: [Worker] = []
    private(set) var placement: Placement?
    private(set) var shadowCounts = ShadowCounts()
    /// VRFs whose kernel device is there, of pe-dp's own making or found.
    private(set) var vrfDevices: Set<String> = []
    private var watch: PortStateWatch?
    /// Of each exception TAP its port, and its name in the kernel.
    private var exceptions: [UInt16: (port: UInt16, name: String)] = [:]
    /// What does not work although the configuration asks for it; shown by `status`.
    let alerts = AlertList()

    private var times: StartTimes

    /// - Parameter times: what was done before.
    init(configuration: Configuration, path: String, logger: Logger, times: StartTimes = StartTimes()) {
        self.times = times
        self.configuration = Self.withExceptions(configuration)
        self.path = path
        self.logger = logger
        numbering = PortNumbering(self.configuration)
    }

    /// Every underlay port has an exception TAP as soon as a control plane is to use it, every routed
    /// port always.
    static func withExceptions(_ configuration: Configuration) -> Configuration {
        var result = configuration
        let hasControl = configuration.control.routes != .none
        let underlay = Set(configuration.underlays.flatMap(\.interfaces))
        for index in result.ports.indices where result.ports[index].exception == nil {
            let port = result.ports[index]
            if port.vrf != nil || hasControl && underlay.contains(port.name) {
                result.ports[index].exception = Configuration.Exception()
            }
        }
        return result
    }

    /// Starts everything; on an error what was started is stopped again.
    func start() throws {
        do {
            try startAll()
        } catch {
            stop()
            throw error
        }
    }

    private func startAll() throws {
        admin = try AdminServer(
            path: configuration.dataplane.adminSocket, mode: configuration.dataplane.adminSocketMode,
            provider: DaemonShow(daemon: self), logger: logger)
        let environment = try startEnvironment()
        times.end("dpdk")
        let limits = TableLimits(configuration)
        let tables = try ForwardingTables(limits: limits)
        self.tables = tables
        var state = ControlState(configuration: configuration)
        let compiler = try TableCompiler(&state, tables: tables, at: ControlLoop.monotonic())

        times.end("tables")
        let hostIO = try HostIO(environment: environment, portCapacity: limits.ports)
        self.hostIO = hostIO
        let watch = PortStateWatch()
        self.watch = watch
        let registry = PortRegistry(environment: environment, hostIO: hostIO) { [logger] event in
            Self.log(event, logger)
            watch.wake()
        }
        self.registry = registry
        if needsControlNamespace { namespace = try NetworkNamespace(configuration.control.netns) }
        // The VRF devices must be there before the TAPs of routed ports, which are put into them.
        let shadowEvents = try makeShadow()
        times.end("shadow")
        let events = try openPorts(registry) + shadowEvents
        times.end("ports")

        let loop = ControlLoop(state: state, compiler: compiler) { [weak self] in self?.perform($0) }
        self.loop = loop
        // Before the control thread runs: from then on it is what reads `feed`.
        let firstDump = Latch()
        feed = try makeFeed(loop, firstDump)
        loop.applyNow(events)
        try startWorkers(environment, registry, tables)
        loop.start()
        times.end("workers")
        readKernel(firstDump)
        times.end("kernel")
        logger.info("\(times.text)", metadata: times.metadata)
        watch.start(registry, parents: exceptions) { loop.post($0) }
        if let listen = configuration.control.fpmListen, configuration.control.routes == .fpm,
            let namespace
        {
            fpm = try FPMServer(listen: listen, in: namespace) { loop.post($0) }
        }
    }

    private var needsControlNamespace: Bool {
        configuration.control.routes != .none || wantsShadow
            || configuration.ports.contains { $0.exception != nil }
    }
    private var wantsShadow: Bool {
        configuration.control.shadow && configuration.control.routes != .none
    }

    private func startEnvironment() throws -> Environment {
        let dataplane = configuration.dataplane
        var options = EnvironmentOptions()
        options.mainCPU = dataplane.mainLcore
        options.workerCPUs = dataplane.workerLcores
        options.hugepages =
            switch dataplane.hugepages {
            case .auto: .auto
            case .always: .always
            case .never: .never
            }
        options.bufferCount = dataplane.mbufs
        options.largestMTU = configuration.ports.map(\.mtu).max() ?? 1500
        options.pciAddresses = configuration.ports.filter { $0.driver == .pci }.map(\.device)
        options.memoryMegabytes = dataplane.memoryMegabytes
        options.extraArguments = dataplane.eal
        options.filePrefix = "pe-dp-\(getpid())"
        let placement = HostView().placement(for: configuration)
        self.placement = placement
        options.poolNodes = placement.poolNodes
        options.workerMemory = placement.workerMemory
        for warning in placement.warnings { logger.warning("\(warning.message); \(warning.remedy)") }
        placeTables(placement.tables)
        let environment = try Environment.start(options)
        self.environment = environment
        logger.info(
            "DPDK is up",
            metadata: [
                "workers": "\(dataplane.workerLcores)", "buffers": "\(dataplane.mbufs)",
                "hugepages": "\(environment.usesHugepages)", "memory": "\(environment.memory.text)",
            ])
        return environment
    }

    /// From here on tables take their pages from these nodes.
    private func placeTables(_ tables: Placement.Tables) {
        let nodes: [Int32] =
            switch tables {
            case .anywhere: []
            case .node(let node): [Int32(clamping: node)]
            case .interleaved(let nodes): nodes.map { Int32(clamping: $0) }
            }
        let result = pe_pages_place(nodes, UInt32(nodes.count))
        if result < 0, !nodes.isEmpty {
            let reason = String(cString: strerror(-result))
            logger.warning("tables are not placed on NUMA nodes \(nodes): \(reason)")
        }
    }

    /// Opens all ports, then their exception TAPs.
    private func openPorts(_ registry: PortRegistry) throws -> [ControlEvent] {
        var events: [ControlEvent] = []
        for (index, port) in configuration.ports.enumerated() {
            let number = UInt16(truncatingIfNeeded: index)
            let isUnderlay = numbering.isUnderlay[index]
            let definition = try PortDefinition(port, index: number, isUnderlay: isUnderlay)
            let status = try registry.add(definition, at: number)
            events.append(status.event(port: number))
            guard let exception = port.exception else { continue }
            let tap = exceptionDefinition(exception, port, number, status)
            let number2 = numbering.exception(of: number)
            let host = try registry.add(tap, at: number2)
            events.append(host.event(port: number2))
            let name = exception.name ?? port.name
            exceptions[number2] = (number, name)
            if let event = host.attachment(of: number, name: name) { events.append(event) }
        }
        return events
    }

    private func exceptionDefinition(
        _ exception: Configuration.Exception, _ port: Configuration.Port, _ index: UInt16, _ status: PortStatus
    ) -> PortDefinition {
        var tap = PortDefinition(
            name: numbering.name(of: numbering.exception(of: index)),
            source: .tap(name: exception.name ?? port.name))
        tap.mtu = exception.mtu ?? port.mtu
        tap.mac = exception.mac ?? (status.mac.isZero ? nil : status.mac)
        tap.addresses = exception.addresses
        tap.exceptionOf = index
        tap.namespace = namespace?.path
        if let vrf = port.vrf, vrf != Configuration.defaultVRF {
            tap.master = vrf
            if !hasVRFDevice(vrf) {
                // In the namespace's own table its subnets would be those of another VRF.
                tap.master = nil
                tap.addresses = []
                let text =
                    "port \(port.name): VRF \(vrf) has no kernel device: its exception TAP has no addresses, "
                    + "and FRR cannot speak there; modprobe vrf, or ip link add \(vrf) type vrf table …"
                logger.warning("\(text)")
                if configuration.control.routes != .none { alerts.add(text) }
            }
        }
        return tap
    }

    /// Whether the control namespace has the VRF device, pe-dp's own or another's.
    private func hasVRFDevice(_ name: String) -> Bool {
        if vrfDevices.contains(name) { return true }
        guard let namespace else { return false }
        return (try? namespace.run { pe_interface_index(name) }).map { $0 > 0 } ?? false
    }

    /// What a person reads of thousands of devices that cannot be made for the same reason.
    private static let problemLimit = 20

    /// The kernel devices that let a stock FRR see the VNIs.
    private func makeShadow() throws -> [ControlEvent] {
        guard wantsShadow, let namespace else { return [] }
        let shadow = try ShadowDevices(in: namespace) { [logger] in logger.log($0, $1) }
        self.shadow = shadow
        let wanted = configuration.shadowDevices
        let outcome = try shadow.ensure(wanted.vnis, vrfs: wanted.vrfs)
        for problem in outcome.problems.prefix(Self.problemLimit) {
            logger.error("\(problem)")
            alerts.add(problem)
        }
        if outcome.problems.count > Self.problemLimit {
            let text = "shadow devices: \(outcome.problems.count - Self.problemLimit) more problems like these"
            logger.error("\(text)")
            alerts.add(text)
        }
        shadowCounts = ShadowCounts(
            vnis: outcome.attachments.count, vrfs: outcome.vrfs.count,
            taps: outcome.attachments.count { $0.attachment != 0 })
        vrfDevices = Set(outcome.vrfs.map(\.name))
        return outcome.events
    }

    private func makeFeed(_ loop: ControlLoop, _ firstDump: Latch) throws -> KernelFeed? {
        guard let namespace else { return nil }
        return try KernelFeed(
            in: namespace, includeRoutes: configuration.control.routes == .netlink,
            log: { [logger] in logger.log($0, $1) }
        ) { event in
            loop.post(event)
            if case .kernelDumpEnded = event { loop.ask { _, _ in firstDump.open() } }
        }
    }

    /// Tables that are ready hold what the kernel knew.
    private func readKernel(_ firstDump: Latch) {
        guard let feed else { return }
        feed.perform([.dumpKernel])
        if !firstDump.wait(seconds: 5) {
            logger.warning("the kernel's state has not been read after 5 seconds; going on without it")
        }
    }

    private func startWorkers(
        _ environment: Environment, _ registry: PortRegistry, _ tables: ForwardingTables
    ) throws {
        let idle: IdlePolicy = configuration.dataplane.idle == .poll ? .poll : .adaptive
        for index in 0..<environment.workerCount {
            let worker = Worker(
                index: index, io: registry.workerIO(index), tables: tables,
                packets: environment.packets(worker: index), headers: environment.headers(worker: index),
                idle: idle)
            try environment.launch(worker: index, entry: Worker.entry, argument: worker.argument)
            workers.append(worker)
        }
    }

    /// Carries effects out; on the control thread.
    private func perform(_ effects: [ControlEffect]) {
        for case .log(let level, let text) in effects { logger.log(level, text) }
        feed?.perform(effects)
        // The control loop has put them into the ring of worker 0.
        if effects.contains(where: \.isProbe) { workers.first?.wake() }
    }

    /// Stops what runs, in the reverse order of starting; safe after a partial start.
    /// - Parameter progress: called while shadow devices are removed, with how many of how many.
    func stop(progress: (Int, Int) -> Void = { _, _ in }) {
        fpm?.stop()
        feed?.stop()
        watch?.stop()
        loop?.stop()
        for worker in workers { worker.stop() }
        for index in workers.indices { _ = environment?.wait(worker: index) }
        registry?.close()
        hostIO?.stop()
        if let shadow, !configuration.control.keepShadow {
            do {
                for problem in try shadow.remove(progress: progress) { logger.warning("\(problem)") }
            } catch {
                logger.warning("shadow devices stay: \(error)")
            }
        }
        admin?.stop()
        fpm = nil
        feed = nil
        admin = nil
    }

    private static func log(_ event: PortEvent, _ logger: Logger) {
        switch event {
        case .up(let port): logger.notice("port is up", metadata: ["port": "\(port)"])
        case .down(let port, let reason):
            logger.warning("port is down: \(reason)", metadata: ["port": "\(port)"])
        case .warning(let port, let text): logger.warning("\(text)", metadata: ["port": "\(port)"])
        }
    }
}

extension Logger {
    func log(_ level: ControlPlane.LogLevel, _ text: String) {
        switch level {
        case .debug: debug("\(text)")
        case .info: info("\(text)")
        case .notice: notice("\(text)")
        case .warning: warning("\(text)")
        case .error: error("\(text)")
        }
    }
}
