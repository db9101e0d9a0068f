// A thread that follows the kernel's state: notifications and dumps become events, effects become
// requests.

import CLinux
import Glibc

/// Follows one network namespace by route netlink.
///
/// Everything happens on one thread of its own, so that events come in an order in which they can
/// be applied: what was notified before a dump comes before it, what is notified during it comes
/// after it.
public final class KernelFeed: @unchecked Sendable {
    /// Receive buffer for notifications: about 60 000 FDB rows between two looks.
    public static let defaultReceiveBytes: Int32 = 64 << 20
    private static let dumpRetryMilliseconds: Int32 = 1_000
    /// Datagrams handed on together at most.
    private static let datagramsPerEvent = 64
    // RTNLGRP_*: LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE, NEXTHOP.
    private static let stateGroups: [Int32] = [1, 3, 5, 9, 32]
    private static let routeGroups: [Int32] = [7, 11]

    private let notifications: OpaquePointer
    private let requests: KernelSocket
    private let dumps: [KernelDump]
    private let deliver: @Sendable (ControlEvent) -> Void
    private let log: @Sendable (LogLevel, String) -> Void
    /// A dump failed and is to be made again.
    private var owesDump = false
    /// When a failed request was last logged, and how many were not since.
    private var lastComplaint: Instant?
    private var unsaid = 0
    private let commands: CommandQueue

    private enum Command {
        case perform([ControlEffect])
        case stop
    }

    /// Subscribes and starts. Nothing is dumped before the first ``ControlEffect/dumpKernel``.
    /// - Parameters:
    ///   - includeRoutes: for `control.routes: netlink`.
    ///   - receiveBytes: what the kernel may queue before it drops notifications.
    ///   - log: what a person should know; called on the feed's thread.
    ///   - deliver: called on the feed's thread; while it waits, nothing is read.
    public init(
        in namespace: NetworkNamespace, includeRoutes: Bool = false,
        receiveBytes: Int32 = KernelFeed.defaultReceiveBytes,
        log: @escaping @Sendable (LogLevel, String) -> Void = { _, _ in },
        deliver: @escaping @Sendable (ControlEvent) -> Void
    ) throws {
        requests = try KernelSocket(in: namespace)
        commands = try CommandQueue()
        self.deliver = deliver
        self.log = log
        dumps = KernelDump.state + (includeRoutes ? [.routes] : [])
        notifications = try openRouteSocket(in: namespace, receiveBytes: receiveBytes)
        for group in Self.stateGroups + (includeRoutes ? Self.routeGroups : []) {
            let result = pe_netlink_join(notifications, group)
            // RTNLGRP_NEXTHOP came with kernel 5.3; without it there are no next-hop objects
            // either.
            guard result == 0 || group == 32 else {
                throw KernelError(
                    what: "subscribe to route netlink group \(group)", errno: 0 &- result)
            }
        }
        try startThread()
    }

    deinit { pe_netlink_close(notifications) }

    /// Has the effects that concern the kernel done, in order; others are ignored. Returns at once;
    /// what fails comes back as ``ControlEvent/kernelRequestFailed``.
    public func perform(_ effects: [ControlEffect]) {
        let own = effects.filter { $0 == .dumpKernel || KernelRequest($0) != nil }
        if !own.isEmpty { commands.add(.perform(own)) }
    }

    /// Ends the thread after what it does now; no event comes afterwards.
    public func stop() {
        commands.add(.stop)
        commands.waitUntilStopped()
    }

    private func startThread() throws {
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(self).toOpaque()
        let result = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<KernelFeed>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, argument)
        guard result == 0 else {
            Unmanaged<KernelFeed>.fromOpaque(argument).release()
            throw KernelError(what: "start the netlink thread", errno: result)
        }
        pthread_detach(thread)
    }

    private func run() {
        defer { commands.noteStopped() }
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        while true {
            let wait: Int32 = owesDump ? Self.dumpRetryMilliseconds : -1
            let ready = pe_netlink_wait(notifications, commands.wakeDescriptor, wait)
            if ready < 0 {
                log(.error, "the netlink thread ends: cannot poll, \(errorText(0 &- ready))")
                return
            }
            if ready & 1 != 0 { drain(&buffer) }
            if ready & 2 != 0 {
                for command in commands.take() {
                    guard case .perform(let effects) = command else { return }
                    execute(effects, &buffer)
                }
            }
            if ready == 0, owesDump { dump() }
        }
    }

    /// Hands on all notifications that have come.
    private func drain(_ buffer: inout [UInt8]) {
        var messages: [NetlinkMessage] = []
        var datagrams = 0
        while true {
            let count = buffer.withUnsafeMutableBufferPointer { bytes -> Int32 in
                guard let base = bytes.baseAddress else { return 0 &- ENOMEM }
                return pe_netlink_receive(notifications, base, bytes.count)
            }
            if count > 0 {
                let decoded = NetlinkDecoder.decode(buffer[0..<Int(count)])
                messages += decoded.messages
                report(decoded.errors)
                datagrams += 1
            }
            let isEnd = count < 0
            if isEnd || datagrams >= Self.datagramsPerEvent {
                if !messages.isEmpty { deliver(.kernelNotified(messages)) }
                messages.removeAll(keepingCapacity: true)
                datagrams = 0
            }
            guard isEnd else { continue }
            // ENOBUFS: notifications were dropped; what is still queued is read with the next look.
            if count != 0 &- EAGAIN { deliver(.kernelOverrun) }
            if count != 0 &- ENOBUFS { return }
        }
    }

    private func report(_ errors: [DecodeError]) {
        for error in errors { log(.warning, "a kernel message was ignored: \(error)") }
    }

    private func execute(_ effects: [ControlEffect], _ buffer: inout [UInt8]) {
        var pending: [(effect: ControlEffect, request: KernelRequest)] = []
        var wantsDump = false
        for effect in effects {
            if effect == .dumpKernel { wantsDump = true }
            if let request = KernelRequest(effect) { pending.append((effect, request)) }
        }
        let results = requests.perform(pending.map(\.request))
        for (index, error) in results.enumerated() {
            guard let error, !isHarmless(error, pending[index].request) else { continue }
            complain(error)
            deliver(.kernelRequestFailed(pending[index].effect, errno: error.errno))
        }
        guard wantsDump else { return }
        drain(&buffer)
        dump()
    }

    /// What fails is tried again each second, thousands of rows perhaps: one line in ten seconds.
    private func complain(_ error: KernelError) {
        let now = ControlLoop.monotonic()
        unsaid += 1
        if let last = lastComplaint, now.seconds(since: last) < 10 { return }
        let more = unsaid > 1 ? " (and \(unsaid - 1) more failures before)" : ""
        lastComplaint = now
        unsaid = 0
        log(.warning, "\(error)\(more)")
    }

    /// Deleting what has gone already is what was wanted.
    private func isHarmless(_ error: KernelError, _ request: KernelRequest) -> Bool {
        switch request {
        case .deleteFDB, .deleteNeighbor: error.errno == ENOENT
        default: false
        }
    }

    /// A dump that fails is not ended: nobody may take what it did not list for gone.
    private func dump() {
        owesDump = false
        deliver(.kernelDumpBegan)
        for what in dumps {
            do {
                let result = try requests.dump(what)
                report(result.errors)
                if !result.messages.isEmpty { deliver(.kernelDumped(result.messages)) }
            } catch {
                // A kernel without next-hop objects has none to list.
                guard what != .nextHops || error.errno != EOPNOTSUPP else { continue }
                log(.error, "\(error); trying again in \(Self.dumpRetryMilliseconds) ms")
                owesDump = true
                return
            }
        }
        deliver(.kernelDumpEnded)
    }

    /// Commands for the thread, and a pipe that wakes it.
    private final class CommandQueue: @unchecked Sendable {
        let wakeDescriptor: Int32
        private let writeDescriptor: Int32
        private let monitor = Monitor()
        private var commands: [Command] = []
        private var isStopped = false

        init() throws {
            var descriptors: [Int32] = [-1, -1]
            let result = pe_wake_pipe(&descriptors)
            guard result == 0 else {
                throw KernelError(what: "make a pipe", errno: 0 &- result)
            }
            wakeDescriptor = descriptors[0]
            writeDescriptor = descriptors[1]
        }
        deinit {
            close(wakeDescriptor)
            close(writeDescriptor)
        }
        func add(_ command: Command) {
            monitor.locked { commands.append(command) }
            var byte: UInt8 = 1
            // A full pipe wakes just as well.
            _ = write(writeDescriptor, &byte, 1)
        }
        func take() -> [Command] {
            var bytes = [UInt8](repeating: 0, count: 64)
            while read(wakeDescriptor, &bytes, bytes.count) > 0 {}
            return monitor.locked {
                defer { commands.removeAll() }
                return commands
            }
        }
        func noteStopped() {
            monitor.locked {
                isStopped = true
                monitor.wake()
            }
        }
        func waitUntilStopped() { monitor.locked { while !isStopped { monitor.wait() } } }
    }
}

extension KernelRequest {
    /// The request that an effect stands for; nil when it concerns something else.
    init?(_ effect: ControlEffect) {
        switch effect {
        case .addLocalMAC(let interface, let mac): self = .addFDB(interface: interface, mac: mac)
        case .deleteLocalMAC(let interface, let mac):
            self = .deleteFDB(interface: interface, mac: mac)
        case .addLocalNeighbor(let interface, let address, let mac):
            self = .addNeighbor(interface: interface, address: address, mac: mac)
        case .deleteLocalNeighbor(let interface, let address):
            self = .deleteNeighbor(interface: interface, address: address)
        case .resolveNeighbor(let interface, let address):
            self = .resolveNeighbor(interface: interface, address: address)
        case .probeNeighbor, .dumpKernel, .log: return nil
        }
    }
}
