// All ports of the process: adding, removing and reading them while the workers run.

import CDPDK
import CLinux
import Glibc
import Synchronization

/// Ports by index, and what each worker needs of them.
///
/// Any thread may call; one call at a time has effect.
public final class PortRegistry: @unchecked Sendable {
    final class Port {
        let index: UInt16
        let definition: PortDefinition
        var device: OpenedEthernetDevice?
        var kernel: OpenedKernelPort?
        /// Of the namespace that a kernel port's device lives in.
        var namespaceIdentity: UInt64?
        var kernelDrops: UInt64 = 0
        var losses: UInt64 = 0
        /// What an exception TAP shows its namespace; it follows the port's link.
        var hasCarrier = true
        /// Counters at the time the port was added: indices are used again.
        var baseline = PortCounters()
        init(index: UInt16, definition: PortDefinition) {
            self.index = index
            self.definition = definition
        }
        var isKernel: Bool {
            switch definition.source {
            case .packetSocket, .tap: true
            default: false
            }
        }
    }
    struct State {
        var ports: [UInt16: Port] = [:]
        var isStopping = false
    }

    let environment: Environment
    let hostIO: HostIO
    let observer: @Sendable (PortEvent) -> Void
    let words: UnsafeMutablePointer<UInt64>
    let slots: UnsafeMutablePointer<PollSlot>
    let state = Mutex(State())
    private var watcher: pthread_t?

    /// Starts with no port; `observer` is told of those that go, come back, or do without
    /// something.
    ///
    /// It is called from any thread while the registry is locked, so it must not call back.
    public init(
        environment: Environment,
        hostIO: HostIO,
        observer: @escaping @Sendable (PortEvent) -> Void = { _ in }
    ) {
        self.environment = environment
        self.hostIO = hostIO
        self.observer = observer
        words = .allocate(capacity: hostIO.portCapacity)
        words.initialize(repeating: 0, count: hostIO.portCapacity)
        slots = .allocate(capacity: hostIO.workerCount)
        for worker in 0..<hostIO.workerCount {
            let count = PollSlot.queueCapacity * 2
            let banks = UnsafeMutablePointer<PolledQueue>.allocate(capacity: count)
            banks.initialize(
                repeating: PolledQueue(ethdev: 0, queue: 0, port: 0, features: []),
                count: count
            )
            (slots + worker).initialize(to: PollSlot(banks: banks))
        }
        watcher = startThread("pe-ports") { self.watch() }
    }

    /// What worker `worker` reads and writes; valid for the life of the process.
    public func workerIO(_ worker: Int) -> WorkerIO {
        let rings = hostIO.rings[worker]
        return WorkerIO(
            worker: UInt16(truncatingIfNeeded: worker),
            rxRing: rings.rx,
            exceptionRing: rings.exception,
            txRing: rings.tx,
            doorbell: rings.doorbell,
            hostDoorbell: hostIO.doorbell,
            portCapacity: UInt32(hostIO.portCapacity),
            ports: words,
            polled: slots + worker,
            peers: hostIO.peers,
            peerCount: UInt16(truncatingIfNeeded: hostIO.workerCount)
        )
    }

    /// Opens a port and lets the workers use it; others are not disturbed.
    @discardableResult
    public func add(_ definition: PortDefinition, at index: UInt16) throws(PortError) -> PortStatus
    {
        try state.withLock { state throws(PortError) in
            guard Int(index) < hostIO.portCapacity else {
                throw PortError(
                    .tooMany,
                    port: definition.name,
                    "there is room for \(hostIO.portCapacity) ports",
                    remedy: "raise dataplane.limits.ports"
                )
            }
            guard state.ports[index] == nil else {
                throw PortError(
                    .inUse,
                    port: definition.name,
                    "index \(index) is another port's",
                    remedy: "remove that port first"
                )
            }
            let port = Port(index: index, definition: definition)
            port.baseline = rawCounters(port)
            if port.isKernel { try openKernel(port) } else { try openDevice(port) }
            state.ports[index] = port
            if port.device != nil { try publish(state, for: definition.name) }
            return status(of: port)
        }
    }

    /// Takes a port from the workers and closes it.
    ///
    /// Frames on their way through it are finished first.
    public func remove(_ index: UInt16) throws(PortError) {
        try state.withLock { state throws(PortError) in
            guard let port = state.ports.removeValue(forKey: index) else {
                throw PortError(
                    .badDefinition,
                    port: String(index),
                    "there is no port of this index",
                    remedy: "choose one of `pe-dp show ports`"
                )
            }
            pe_store64(words + Int(index), 0)
            try publish(state, for: port.definition.name)
            if let kernel = port.kernel {
                hostIO.perform([.detach(index: index)])
                closeKernel(kernel, port.definition)
                drainRings(worker: worker(of: port))
                try publish(state, for: port.definition.name)
            }
            if let device = port.device {
                // What was handed over for it ends as a drop, before the index is another port's.
                for worker in 0..<hostIO.workerCount { drainHandover(worker: worker) }
                EthernetDevicePort.close(device.id)
            }
        }
    }

    /// A port as it is now, or nil.
    public func status(_ index: UInt16) -> PortStatus? {
        state.withLock { state in state.ports[index].map(status(of:)) }
    }
    /// All ports by index.
    public func allStatus() -> [UInt16: PortStatus] {
        state.withLock { state in state.ports.mapValues(status(of:)) }
    }

    /// Removes all ports and ends the registry's thread; the workers must have stopped or be
    /// running still.
    public func close() {
        for index in state.withLock({ $0.ports.keys.sorted() }) { try? remove(index) }
        state.withLock { $0.isStopping = true }
        pe_event_signal(hostIO.lostEvent)
        if let watcher { pthread_join(watcher, nil) }
        watcher = nil
    }

    /// The worker that reads a port: an exception TAP has its parent's.
    func worker(of port: Port) -> Int {
        Int(port.definition.exceptionOf ?? port.index) % hostIO.workerCount
    }
}

// MARK: - Opening

extension PortRegistry {
    private func openDevice(_ port: Port) throws(PortError) {
        let device = try EthernetDevicePort.open(
            port.definition, environment: environment, workerCount: hostIO.workerCount)
        port.device = device
        for warning in device.warnings { observer(.warning(port.index, warning)) }
        let word = PortIO(
            kind: .ethdev,
            features: device.features,
            ethdev: device.id,
            txQueueCount: UInt8(clamping: device.txQueueCount),
            firstWorker: UInt8(truncatingIfNeeded: worker(of: port)),
            mtu: device.mtu
        )
        pe_store64(words + Int(port.index), word.word)
    }

    private func openKernel(_ port: Port) throws(PortError) {
        let definition = port.definition
        guard definition.mtu <= environment.options.dataRoom - EnvironmentOptions.headroom - 22
        else {
            throw PortError(
                .badDefinition,
                port: definition.name,
                "frames of MTU \(definition.mtu) do not fit the buffers",
                remedy: "restart pe-dp: buffers are sized for the ports configured at start"
            )
        }
        do throws(PortError) {
            try attachKernel(port)
        } catch {
            guard error.kind == .noSuchDevice, !definition.mustExist else { throw error }
            observer(.down(port.index, reason: error.message))
            pe_event_signal(hostIO.lostEvent)
        }
        announceKernel(port)
    }

    /// Tells the workers that a kernel port is there, and its MTU.
    func announceKernel(_ port: Port) {
        let word = PortIO(
            kind: .kernel,
            features: .multiSegment,
            ethdev: 0,
            txQueueCount: 0,
            mtu: UInt16(clamping: port.kernel?.mtu ?? port.definition.mtu)
        )
        pe_store64(words + Int(port.index), word.word)
    }

    /// Opens a kernel port's device and gives it to the host-I/O thread.
    func attachKernel(_ port: Port) throws(PortError) {
        port.namespaceIdentity = port.definition.namespace.flatMap(KernelPort.namespaceIdentity)
        let opened = try KernelPort.open(port.definition)
        port.kernel = opened
        port.hasCarrier = true
        for warning in opened.warnings { observer(.warning(port.index, warning)) }
        attach(port, opened.fd)
    }

    func attach(_ port: Port, _ fd: Int32) {
        let isTAP = if case .tap = port.definition.source { true } else { false }
        hostIO.perform([
            .attach(
                index: port.index,
                fd: fd,
                worker: UInt16(truncatingIfNeeded: worker(of: port)),
                isTAP: isTAP,
                isException: port.definition.exceptionOf != nil
            )
        ])
    }

    func closeKernel(_ kernel: OpenedKernelPort, _ definition: PortDefinition) {
        guard kernel.shieldIsFilter else { return kernel.close() }
        // A filter is removed where it is; when that namespace is gone, so is the filter.
        let isClosed: Void? = try? onThread(in: definition.namespace, port: definition.name) {
            kernel.close()
        }
        if isClosed == nil { Glibc.close(kernel.fd) }
    }
}

// MARK: - Workers

extension PortRegistry {
    /// Fills every worker's other bank with the queues of all ethdevs, makes it the valid one, and
    /// waits until every running worker has seen it: then none uses what was valid before.
    private func publish(_ state: borrowing State, for name: String) throws(PortError) {
        let ports = state.ports.values.sorted { $0.index < $1.index }
        for worker in 0..<hostIO.workerCount {
            let slot = slots + worker
            let next = slot.pointee.generation &+ 1
            let bank = slot.pointee.banks + Int(next & 1) * PollSlot.queueCapacity
            var count = 0
            for port in ports {
                guard let device = port.device else { continue }
                for queue in 0..<device.rxQueueCount
                where (Int(port.index) + Int(queue)) % hostIO.workerCount == worker
                    && count < PollSlot.queueCapacity
                {
                    bank[count] = PolledQueue(
                        ethdev: device.id,
                        queue: queue,
                        port: port.index,
                        features: device.features
                    )
                    count += 1
                }
            }
            if next & 1 == 0 {
                slot.pointee.count0 = UInt32(count)
            } else {
                slot.pointee.count1 = UInt32(count)
            }
            pe_store64(&slot.pointee.generation, next)
        }
        pe_fence()
        try waitForWorkers(name)
    }

    private func waitForWorkers(_ name: String) throws(PortError) {
        for worker in 0..<hostIO.workerCount {
            let slot = slots + worker
            var waited = 0
            while true {
                let seen = pe_load64(&slot.pointee.seen)
                if seen == .max || seen == slot.pointee.generation { break }
                guard waited < 20_000 else {
                    throw PortError(
                        .workerStuck,
                        port: name,
                        "worker \(worker) has not polled for 2 seconds",
                        remedy: "restart pe-dp and report its log"
                    )
                }
                pe_doorbell_ring(hostIO.rings[worker].doorbell)
                usleep(100)
                waited += 1
            }
        }
    }

    /// Waits until a running worker has taken what its rings hold now.
    private func drainRings(worker: Int) {
        drain([hostIO.rings[worker].exception, hostIO.rings[worker].rx], worker: worker)
    }
    private func drainHandover(worker: Int) { drain([hostIO.rings[worker].handover], worker: worker) }
    private func drain(_ held: [OpaquePointer], worker: Int) {
        let rings = hostIO.rings[worker]
        for ring in held {
            let target = pe_ring_consumed(ring) &+ pe_ring_count(ring)
            for _ in 0..<20_000 {
                let isRunning = pe_load64(&(slots + worker).pointee.seen) != .max
                let left = Int32(bitPattern: target &- pe_ring_consumed(ring))
                if !isRunning || left <= 0 { break }
                pe_doorbell_ring(rings.doorbell)
                usleep(100)
            }
        }
    }
}
