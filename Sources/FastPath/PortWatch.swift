// Brings kernel ports back whose device went away: the registry's own thread.

import CLinux
import Glibc

extension PortRegistry {
    /// How often a missing device is looked for, and namespaces are compared, in milliseconds.
    private static let retryMilliseconds: Int32 = 100
    private static let idleMilliseconds: Int32 = 1000

    func watch() {
        var milliseconds = Self.idleMilliseconds
        while true {
            _ = pe_event_wait(hostIO.lostEvent, milliseconds)
            let lost = hostIO.takeLost()
            let isMissing = state.withLock { state -> Bool? in
                if state.isStopping { return nil }
                for index in lost { if let port = state.ports[index] { examine(port) } }
                for port in state.ports.values { checkNamespace(port) }
                for port in state.ports.values { checkDevice(port) }
                for port in state.ports.values { passOnLink(port, state) }
                var isMissing = false
                for port in state.ports.values where port.isKernel && port.kernel == nil {
                    if !retry(port) { isMissing = true }
                }
                return isMissing
            }
            guard let isMissing else { return }
            milliseconds = isMissing ? Self.retryMilliseconds : Self.idleMilliseconds
        }
    }

    /// The host-I/O thread gave the port up: its device is gone, or only went down.
    private func examine(_ port: Port) {
        guard let kernel = port.kernel else { return }
        if KernelPort.interfaceIndex(port.definition) == kernel.interfaceIndex, isPacketSocket(port)
        {
            // A packet socket starts again by itself when its device is set up.
            attach(port, kernel.fd)
            return
        }
        giveUp(port, reason: "its device is gone")
    }

    private func isPacketSocket(_ port: Port) -> Bool {
        if case .packetSocket = port.definition.source { true } else { false }
    }

    private func giveUp(_ port: Port, reason: String) {
        guard let kernel = port.kernel else { return }
        hostIO.perform([.detach(index: port.index)])
        closeKernel(kernel, port.definition)
        port.kernel = nil
        port.losses += 1
        observer(.down(port.index, reason: reason))
    }

    /// A descriptor keeps a deleted namespace alive, so nothing else tells that it was replaced.
    private func checkNamespace(_ port: Port) {
        guard let path = port.definition.namespace, port.kernel != nil else { return }
        if KernelPort.namespaceIdentity(path) != port.namespaceIdentity {
            giveUp(port, reason: "its namespace \(path) is gone")
        }
    }

    /// A socket reports an error when its device goes down, and none when that device is then
    /// deleted; but it is no longer bound to it.
    private func checkDevice(_ port: Port) {
        guard let kernel = port.kernel, isPacketSocket(port) else { return }
        if pe_packet_device(kernel.fd) != kernel.interfaceIndex {
            giveUp(port, reason: "its device is gone")
        }
    }

    /// Shows the link of a port on its exception TAP, so that routing daemons notice within a
    /// second.
    private func passOnLink(_ tap: Port, _ state: borrowing State) {
        guard let index = tap.definition.exceptionOf, let parent = state.ports[index],
            let fd = tap.kernel?.fd
        else { return }
        let isUp = isUp(parent)
        guard isUp != tap.hasCarrier, pe_tap_set_carrier(fd, isUp ? 1 : 0) == 0 else { return }
        tap.hasCarrier = isUp
    }

    /// True when the port is back.
    private func retry(_ port: Port) -> Bool {
        do throws(PortError) {
            try attachKernel(port)
        } catch {
            return false
        }
        announceKernel(port)
        observer(.up(port.index))
        return true
    }
}
