// From configured ports to port definitions, and from port states to control events.

import CLinux
import ControlPlane
import FastPath
import Glibc
import Synchronization
import Wire

extension PortDefinition {
    /// What the configuration says of a port, in the fast path's terms.
    init(_ port: Configuration.Port, index: UInt16, isUnderlay: Bool) throws {
        let source: Source
        switch port.driver {
        case .afPacket: source = .packetSocket(device: port.device)
        case .tap: source = .tap(name: port.device.isEmpty ? port.name : port.device)
        case .pci: source = .pci(port.device)
        case .ring:
            source = .device(port.device.isEmpty ? "net_ring_pe\(index)" : "net_ring_pe\(index),\(port.device)")
        default:
            guard
                let text = PortDefinition.deviceString(
                    driver: port.driver.rawValue, device: port.device, index: index)
            else {
                throw DaemonError(description: "port \(port.name): driver \(port.driver.rawValue) is not known")
            }
            source = .device(text)
        }
        self.init(name: port.name, source: source)
        mtu = port.mtu
        mac = port.mac ?? port.exception?.mac
        namespace = port.netns.map { $0.contains("/") ? $0 : "/run/netns/\($0)" }
        // An address that is not the device's own is seen in promiscuous mode only.
        promiscuous = !isUnderlay || mac != nil
    }
}

extension PortStatus {
    func event(port: UInt16) -> ControlEvent {
        .portChanged(port: port, isUp: isUp, mac: mac, mtu: UInt16(clamping: mtu))
    }
    /// Of an exception TAP: which kernel device stands for `port`; nil while the device is away.
    func attachment(of port: UInt16, name: String) -> ControlEvent? {
        interfaceIndex == 0 ? nil : .exceptionAttached(port: port, interface: interfaceIndex, name: name)
    }
}

/// Looks at all ports once a second, and at once when one says that it changed.
final class PortStateWatch: @unchecked Sendable {
    private let signal = Latch()
    private let isStopping = Atomic(false)
    private var thread: pthread_t?
    private var registry: PortRegistry?
    private var last: [UInt16: Seen] = [:]
    private var post: (ControlEvent) -> Void = { _ in }

    private var parents: [UInt16: (port: UInt16, name: String)] = [:]

    /// - Parameters:
    ///   - parents: of each exception TAP its port, and its name in the kernel.
    func start(
        _ registry: PortRegistry, parents: [UInt16: (port: UInt16, name: String)],
        post: @escaping (ControlEvent) -> Void
    ) {
        self.registry = registry
        self.parents = parents
        self.post = post
        var handle = pthread_t()
        let argument = Unmanaged.passRetained(self).toOpaque()
        let result = pthread_create(&handle, nil, { raw in
            guard let raw else { return nil }
            pe_thread_name("pe-port-state")
            Unmanaged<PortStateWatch>.fromOpaque(raw).takeRetainedValue().run()
            return nil
        }, argument)
        if result == 0 { thread = handle }
    }

    private func run() {
        // The first look tells of every port: one may have come up since it was opened.
        while true {
            if isStopping.load(ordering: .acquiring) { return }
            for (index, status) in registry?.allStatus() ?? [:] where last[index] != Seen(status) {
                let isNewDevice = last[index]?.interface != status.interfaceIndex
                last[index] = Seen(status)
                post(status.event(port: index))
                // A TAP that was made again has another index, which routes now name.
                if isNewDevice, let parent = parents[index],
                    let event = status.attachment(of: parent.port, name: parent.name)
                {
                    post(event)
                }
            }
            _ = signal.wait(seconds: 1)
            signal.close()
        }
    }
    func wake() { signal.open() }
    func stop() {
        isStopping.store(true, ordering: .releasing)
        signal.open()
        if let thread { pthread_join(thread, nil) }
        thread = nil
    }

    private struct Seen: Equatable {
        var isUp: Bool
        var mac: MACAddress
        var mtu: Int
        var interface: UInt32
        init(_ status: PortStatus) {
            isUp = status.isUp
            mac = status.mac
            mtu = status.mtu
            interface = status.interfaceIndex
        }
    }
}

/// A gate that one thread opens and others wait for.
final class Latch: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var isOpen = false

    init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
    }
    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }
    func open() {
        pthread_mutex_lock(mutex)
        isOpen = true
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }
    func close() {
        pthread_mutex_lock(mutex)
        isOpen = false
        pthread_mutex_unlock(mutex)
    }
    /// False when it did not open in time.
    func wait(seconds: Int) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        deadline.tv_sec += seconds
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while !isOpen {
            if pthread_cond_timedwait(condition, mutex, &deadline) != 0 { return isOpen }
        }
        return true
    }
}

/// What does not work although it should; any thread may add.
final class AlertList: Sendable {
    private let texts = Mutex<[String]>([])
    /// More would not be read.
    private static let limit = 64
    func add(_ text: String) {
        texts.withLock { if $0.count < Self.limit && !$0.contains(text) { $0.append(text) } }
    }
    var all: [String] { texts.withLock { $0 } }
}
