// Opens packet sockets and TAPs, in the network namespace they belong to.

import CLinux
import Glibc
import Wire

/// A kernel port's descriptors and what its device is like.
struct OpenedKernelPort: Sendable {
    var fd: Int32
    var interfaceIndex: Int32
    var mac: MACAddress
    var mtu: Int
    var warnings: [String] = []
    /// Holds the ingress drop while open; -1 without.
    var shield: Int32 = -1
    /// The drop is a filter that must be removed by hand (kernels before TCX).
    var shieldIsFilter = false

    /// Closes everything; in the port's namespace when `shieldIsFilter`.
    func close() {
        if shieldIsFilter { _ = pe_tc_drop_detach_clsact(interfaceIndex, 1) }
        if shield >= 0 { Glibc.close(shield) }
        Glibc.close(fd)
    }
}

enum KernelPort {
    /// Socket buffer per port; memory is used only for what waits.
    static let socketBufferByteCount: Int32 = 8 << 20

    /// Opens the port of `definition` on a thread inside its namespace.
    static func open(_ definition: PortDefinition) throws(PortError) -> OpenedKernelPort {
        try onThread(in: definition.namespace, port: definition.name) {
            switch definition.source {
            case .packetSocket(let device):
                return Result { () throws(PortError) in try openPacket(device, definition) }
            case .tap(let name):
                return Result { () throws(PortError) in try openTAP(name, definition) }
            default:
                return .failure(
                    PortError(
                        .badDefinition,
                        port: definition.name,
                        "it is not a kernel port",
                        remedy: "open it as an ethdev"
                    )
                )
            }
        }.get()
    }

    /// Index of the port's device now; nil when there is none.
    static func interfaceIndex(_ definition: PortDefinition) -> Int32? {
        let device: String
        switch definition.source {
        case .packetSocket(let name), .tap(let name): device = name
        default: return nil
        }
        let found = try? onThread(in: definition.namespace, port: definition.name) {
            pe_interface_index(device)
        }
        guard let found, found > 0 else { return nil }
        return found
    }

    /// Which namespace a path names now; it changes when one is deleted and made again.
    static func namespaceIdentity(_ path: String) -> UInt64? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return UInt64(status.st_ino)
    }
}

// MARK: - Packet sockets

extension KernelPort {
    private static func openPacket(
        _ device: String,
        _ definition: PortDefinition
    ) throws(PortError) -> OpenedKernelPort {
        let index = pe_interface_index(device)
        guard index > 0 else {
            throw PortError(
                .noSuchDevice,
                port: definition.name,
                "there is no device \(device)",
                remedy: "create it (ip link) in "
                    + "\(definition.namespace ?? "the namespace pe-dp runs in") or correct `device`"
            )
        }
        let fd = pe_packet_open()
        guard fd >= 0 else { throw failure("open a packet socket", fd, definition) }
        var opened = OpenedKernelPort(
            fd: fd,
            interfaceIndex: index,
            mac: .zero,
            mtu: definition.mtu
        )
        do throws(PortError) {
            try check(pe_packet_set_vnet_header(fd), "ask for virtio headers", definition)
            try check(pe_packet_set_auxdata(fd), "ask for VLAN tags", definition)
            try check(pe_packet_ignore_outgoing(fd), "ignore outgoing frames", definition)
            if pe_packet_set_buffers(fd, socketBufferByteCount) < 0 {
                opened.warnings.append("the socket buffer stays at the system's size")
            }
            try check(
                pe_packet_join(fd, index, definition.promiscuous ? 1 : 0),
                "receive all frames",
                definition
            )
            prepareDevice(device, definition, &opened)
            if definition.shieldsKernel { shield(&opened) }
            try check(pe_packet_bind(fd, index), "bind to \(device)", definition)
            opened.mac = try mac(of: device, definition)
        } catch {
            opened.close()
            throw error
        }
        return opened
    }

    /// Brings the device up and makes room for the port's MTU; a larger one stays.
    private static func prepareDevice(
        _ device: String,
        _ definition: PortDefinition,
        _ opened: inout OpenedKernelPort
    ) {
        let mtu = pe_interface_mtu(device)
        if mtu > 0, mtu < definition.mtu {
            let rc = pe_interface_set_mtu(device, Int32(definition.mtu))
            if rc < 0 {
                opened.warnings.append(
                    "\(device) keeps its MTU of \(mtu) instead of \(definition.mtu): \(errorText(-rc))"
                )
                opened.mtu = Int(mtu)
            }
        }
        let rc = pe_interface_set_up(device)
        if rc < 0 { opened.warnings.append("\(device) stays down: \(errorText(-rc))") }
    }

    /// Makes the kernel's own stack drop what the socket reads, so that nothing is handled twice.
    private static func shield(_ opened: inout OpenedKernelPort) {
        let link = pe_tc_drop_attach(opened.interfaceIndex, 1)
        if link >= 0 {
            opened.shield = link
            return
        }
        let rc = pe_tc_drop_attach_clsact(opened.interfaceIndex, 1)
        if rc == 0 {
            opened.shieldIsFilter = true
        } else {
            opened.warnings.append(
                "the kernel's stack still sees this port's frames: \(errorText(-link)), \(errorText(-rc))"
            )
        }
    }
}

// MARK: - TAPs

extension KernelPort {
    private static func openTAP(
        _ name: String,
        _ definition: PortDefinition
    ) throws(PortError) -> OpenedKernelPort {
        let fd = pe_tap_open(name)
        guard fd >= 0 else { throw failure("create TAP \(name)", fd, definition) }
        var opened = OpenedKernelPort(fd: fd, interfaceIndex: 0, mac: .zero, mtu: definition.mtu)
        do throws(PortError) {
            opened.interfaceIndex = pe_interface_index(name)
            try check(opened.interfaceIndex, "find TAP \(name)", definition)
            if let mac = definition.mac {
                try check(
                    pe_interface_set_mac(name, mac.bytes),
                    "set the MAC of \(name)",
                    definition
                )
            }
            try check(
                pe_interface_set_mtu(name, Int32(clamping: definition.mtu)),
                "set the MTU of \(name)",
                definition
            )
            if let master = definition.master {
                try enslave(opened.interfaceIndex, name, to: master, definition)
            }
            for prefix in definition.addresses {
                let bytes = prefix.address.bytes
                try check(
                    pe_interface_add_address(
                        opened.interfaceIndex,
                        bytes,
                        UInt32(bytes.count),
                        UInt8(clamping: prefix.length)
                    ),
                    "give \(prefix) to \(name)",
                    definition
                )
            }
            try check(pe_interface_set_up(name), "bring \(name) up", definition)
            opened.mac = try mac(of: name, definition)
        } catch {
            opened.close()
            throw error
        }
        return opened
    }

    /// While it is down: the kernel takes IPv6 addresses from a device that changes its VRF.
    private static func enslave(
        _ index: Int32,
        _ name: String,
        to master: String,
        _ definition: PortDefinition
    ) throws(PortError) {
        let masterIndex = pe_interface_index(master)
        try check(masterIndex, "find \(master), the VRF device of TAP \(name)", definition)
        try check(
            pe_interface_set_master(index, masterIndex),
            "put TAP \(name) into \(master)",
            definition
        )
    }

    private static func mac(
        of device: String,
        _ definition: PortDefinition
    ) throws(PortError) -> MACAddress {
        var bytes = [UInt8](repeating: 0, count: 6)
        try check(pe_interface_mac(device, &bytes), "read the MAC of \(device)", definition)
        return MACAddress(bytes: bytes)
    }

    private static func check(
        _ rc: Int32,
        _ step: String,
        _ definition: PortDefinition
    ) throws(PortError) {
        if rc < 0 { throw failure(step, rc, definition) }
    }

    private static func failure(
        _ step: String,
        _ rc: Int32,
        _ definition: PortDefinition
    ) -> PortError {
        let (kind, remedy): (PortError.Kind, String) =
            switch -rc {
            case EPERM, EACCES:
                (.notPrivileged, "run as root or give CAP_NET_ADMIN and CAP_NET_RAW")
            case EBUSY: (.inUse, "another process holds it: end it or choose another name")
            case EEXIST: (.inUse, "a device of that name exists: remove it or choose another name")
            case ENODEV, ENXIO: (.noSuchDevice, "create the device or correct its name")
            case ENOENT: (.noSuchDevice, "load the kernel's tun module (modprobe tun)")
            case ENAMETOOLONG, EINVAL: (.badDefinition, "device names have at most 15 characters")
            case EMFILE, ENFILE:
                (.tooMany, "raise the limit of open files (ulimit -n, LimitNOFILE=)")
            default: (.refused, "look at the kernel's log")
            }
        return PortError(
            kind,
            port: definition.name,
            "cannot \(step): \(errorText(-rc))",
            remedy: remedy
        )
    }
}

// MARK: - Threads in namespaces

/// What a thread runs, kept alive until it has.
private final class ThreadBody: @unchecked Sendable {
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
}

/// Starts a thread of the process's own, outside any Swift executor; nil when there is none to be
/// had.
func startThread(_ name: String, _ run: @escaping () -> Void) -> pthread_t? {
    let body = Unmanaged.passRetained(
        ThreadBody {
            pe_thread_name(name)
            run()
        }
    )
    var thread = pthread_t()
    let rc = pthread_create(
        &thread,
        nil,
        { argument in
            guard let argument else { return nil }
            Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
            return nil
        },
        body.toOpaque()
    )
    guard rc == 0 else {
        body.release()
        return nil
    }
    return thread
}

/// Runs `body` on a thread of its own inside the namespace at `path`, here when there is no path.
///
/// A thread never leaves a namespace: it ends with it.
func onThread<R>(
    in path: String?,
    port: String,
    _ body: @escaping () -> R
) throws(PortError) -> R {
    guard let path else { return body() }
    nonisolated(unsafe) var result: R?
    nonisolated(unsafe) var code: Int32 = 0
    let thread = startThread("pe-netns") {
        code = pe_namespace_enter(path)
        if code == 0 { result = body() }
    }
    guard let thread else {
        throw PortError(
            .refused,
            port: port,
            "no thread for \(path)",
            remedy: "raise the limit of processes"
        )
    }
    pthread_join(thread, nil)
    guard let result else {
        let isPrivilege = code == -EPERM
        throw PortError(
            isPrivilege ? .notPrivileged : .noSuchDevice,
            port: port,
            "cannot enter namespace \(path): \(errorText(-code))",
            remedy: isPrivilege ? "run as root or give CAP_SYS_ADMIN" : "create it (ip netns add)"
        )
    }
    return result
}
