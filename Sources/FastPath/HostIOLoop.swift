// The host-I/O thread: waits for frames from devices and workers, and moves them in batches.

import CDPDK
import CLinux
import Glibc

/// State that only the host-I/O thread touches.
final class HostIOLoop: @unchecked Sendable {
    private let host: HostIO
    private let epoll: Int32
    private let events: UnsafeMutablePointer<pe_poll_event>
    var receiver: HostReceiver
    private var sender: HostSender
    private let workerCPUs: [Int32]

    private static let eventCapacity = 64
    private static let doorbellMark = UInt64.max
    /// Bursts of one worker's frames sent before devices are looked at again.
    private static let burstsPerTurn = 4

    init?(_ host: HostIO) {
        self.host = host
        epoll = pe_poll_create()
        events = .allocate(capacity: Self.eventCapacity)
        guard epoll >= 0, let batch = pe_io_batch_create() else { return nil }
        receiver = HostReceiver(pool: host.environment.packets, batch: batch)
        sender = HostSender(host: host, batch: batch)
        workerCPUs = host.environment.options.workerCPUs.map { Int32(clamping: $0) }
        let event = host.doorbell.pointee.eventfd
        guard pe_poll_add(epoll, event, Self.doorbellMark) == 0 else { return nil }
    }

    func run() {
        _ = pe_thread_avoid_cpus(workerCPUs, UInt32(workerCPUs.count))
        // Mempool caches of its own; without them (no free lcore id) it is only slower.
        let isRegistered = pe_thread_register() == 0
        var isBusy = true
        while true {
            if pe_load32(host.hasCommands) != 0, !performCommands() { break }
            let sent = drainWorkers()
            isBusy = turn(isBusy: isBusy || sent) || sent
        }
        receiver.freeBuffers()
        if isRegistered { pe_thread_unregister() }
        close(epoll)
    }

    /// Waits for devices and serves those that are ready; true when frames moved.
    private func turn(isBusy: Bool) -> Bool {
        var milliseconds: Int32 = 0
        if !isBusy {
            pe_doorbell_arm(host.doorbell)
            // The time limit only bounds what a lost wake-up could cost.
            milliseconds = hasWork() ? 0 : 1000
        }
        let count = pe_poll_wait(epoll, events, UInt32(Self.eventCapacity), milliseconds)
        if !isBusy { pe_doorbell_disarm(host.doorbell) }
        guard count > 0 else { return false }
        var moved = false
        var isBlocked = false
        for position in 0..<Int(count) {
            let mark = events[position].mark
            guard mark != Self.doorbellMark, mark < UInt64(host.portCapacity) else { continue }
            switch serve(host.ports + Int(mark), events[position]) {
            case .moved: moved = true
            case .blocked: isBlocked = true
            case .nothing: break
            }
        }
        // Only ports whose worker is behind were ready: let it work instead of asking again at
        // once.
        if isBlocked, !moved {
            usleep(50)
            return true
        }
        return moved
    }

    private func hasWork() -> Bool {
        if pe_load32(host.hasCommands) != 0 { return true }
        return host.rings.contains { pe_ring_count($0.tx) > 0 }
    }

    private enum Outcome { case moved, blocked, nothing }

    private func serve(_ port: UnsafeMutablePointer<KernelPortState>, _ event: pe_poll_event)
        -> Outcome
    {
        guard port.pointee.fd >= 0 else { return .nothing }
        if event.failed != 0 {
            let error = port.pointee.isTAP ? -EBADFD : pe_socket_error(port.pointee.fd)
            if Self.isLoss(error) {
                lose(port)
                return .nothing
            }
            // A frame that the kernel could not describe (EINVAL) is gone, the port is not.
            if error != 0 { port.count(.rxFrames); port.count(.rxDropUnsupportedOffload) }
        }
        guard event.readable != 0 else { return .nothing }
        let rings = host.rings[Int(port.pointee.worker)]
        let ring = port.pointee.isException ? rings.exception : rings.rx
        switch receiver.receive(port, into: ring) {
        case .received:
            pe_doorbell_ring(rings.doorbell)
            return .moved
        case .ringFull:
            pe_doorbell_ring(rings.doorbell)
            return .blocked
        case .empty: return .nothing
        case .failed(let error):
            if Self.isLoss(error) { lose(port) }
            return .nothing
        }
    }

    /// Errors after which a descriptor never works again, or not before its device is back.
    static func isLoss(_ error: Int32) -> Bool {
        switch -error {
        case ENETDOWN, ENODEV, ENXIO, EBADFD, EBADF, EFAULT: true
        default: false
        }
    }

    private func lose(_ port: UnsafeMutablePointer<KernelPortState>) {
        _ = pe_poll_remove(epoll, port.pointee.fd)
        port.pointee.fd = -1
        host.reportLost(port.pointee.index)
    }

    /// Sends what workers queued; true when there was any.
    private func drainWorkers() -> Bool {
        var sent = false
        for worker in 0..<host.rings.count {
            for _ in 0..<Self.burstsPerTurn {
                guard sender.drain(host.rings[worker].tx) else { break }
                sent = true
            }
        }
        return sent
    }

    /// Carries out what the control thread asked for; false when the thread shall end.
    private func performCommands() -> Bool {
        guard let commands = host.takeCommands() else { return false }
        for command in commands {
            switch command {
            case .attach(let index, let fd, let worker, let isTAP, let isException):
                guard Int(index) < host.portCapacity else { continue }
                let port = host.ports + Int(index)
                port.pointee.index = index
                port.pointee.worker = worker
                port.pointee.isTAP = isTAP
                port.pointee.isException = isException
                port.pointee.txPatience = HostSender.attempts
                port.pointee.fd = fd
                if pe_poll_add(epoll, fd, UInt64(index)) != 0 { lose(port) }
            case .detach(let index):
                guard Int(index) < host.portCapacity else { continue }
                // Every frame that a worker queued before it saw the port go is in a ring now.
                for ring in host.rings {
                    for _ in 0..<HostSender.burstsPerRing {
                        guard sender.drain(ring.tx) else { break }
                    }
                }
                let port = host.ports + Int(index)
                if port.pointee.fd >= 0 { _ = pe_poll_remove(epoll, port.pointee.fd) }
                port.pointee.fd = -1
            }
        }
        host.commandsDone(commands.count)
        return true
    }
}

extension UnsafeMutablePointer<KernelPortState> {
    /// Counts; other threads may read meanwhile.
    @inline(__always) func count(_ counter: PortCounter, _ by: UInt64 = 1) {
        pe_count(pointee.counters + counter.rawValue, by)
    }
}
