// Keeps the kernel's own network stack away from a device, or a device silent.

import CLinux
import Glibc

/// Drops everything that a device receives before the kernel's stack sees it, or everything it
/// would send.
///
/// AF_PACKET sockets still get what is received: the hook comes after them (net/core/dev.c). So a
/// port that pe-dp serves by AF_PACKET belongs to pe-dp alone. The drop ends when ``remove()`` is
/// called or the value is released.
public final class IngressShield: @unchecked Sendable {
    public enum Direction: Hashable, Sendable { case ingress, egress }
    /// How the program is attached.
    public enum Method: Hashable, Sendable {
        /// By a descriptor: ends with the process too (kernel >= 6.6).
        case tcx
        /// By a clsact filter, which stays when the process is killed.
        case clsact
    }
    public let interface: UInt32
    public let direction: Direction
    public let method: Method
    private let namespace: NetworkNamespace
    private let descriptor: Int32
    private let lock = Monitor()
    private var isAttached = true

    private init(
        _ interface: UInt32, _ direction: Direction, _ method: Method, _ namespace: NetworkNamespace,
        _ descriptor: Int32
    ) {
        self.interface = interface
        self.direction = direction
        self.method = method
        self.namespace = namespace
        self.descriptor = descriptor
    }

    deinit { remove() }

    /// - Parameter interface: the device's index in `namespace`.
    /// - Throws: ``KernelError`` when neither TCX nor clsact with cls_bpf is possible.
    public static func attach(
        interface: UInt32, _ direction: Direction = .ingress, in namespace: NetworkNamespace
    ) throws -> IngressShield {
        let ingress: Int32 = direction == .ingress ? 1 : 0
        let index = Int32(truncatingIfNeeded: interface)
        let descriptor = try namespace.run { pe_tc_drop_attach(index, ingress) }
        if descriptor >= 0 { return IngressShield(interface, direction, .tcx, namespace, descriptor) }
        let result = try namespace.run { pe_tc_drop_attach_clsact(index, ingress) }
        guard result == 0 else {
            throw KernelError(
                what: "drop what the device \(direction == .ingress ? "receives" : "sends") by BPF",
                interface: interface, errno: 0 &- result)
        }
        return IngressShield(interface, direction, .clsact, namespace, -1)
    }

    /// The same for a device by its name.
    public static func attach(
        interfaceName: String, _ direction: Direction = .ingress, in namespace: NetworkNamespace
    ) throws -> IngressShield {
        let index = try namespace.run { pe_interface_index(interfaceName) }
        guard index > 0 else {
            throw KernelError(
                what: "find the device", device: interfaceName, errno: index == 0 ? ENODEV : 0 &- index)
        }
        return try attach(
            interface: UInt32(truncatingIfNeeded: index), direction, in: namespace)
    }

    /// Ends the drop; does nothing the second time.
    public func remove() {
        let wasAttached = lock.locked {
            defer { isAttached = false }
            return isAttached
        }
        guard wasAttached else { return }
        switch method {
        case .tcx: close(descriptor)
        case .clsact:
            let index = Int32(truncatingIfNeeded: interface)
            let ingress: Int32 = direction == .ingress ? 1 : 0
            _ = try? namespace.run { pe_tc_drop_detach_clsact(index, ingress) }
        }
    }
}
