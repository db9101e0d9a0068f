// The part of the host check that concerns the kernel's networking: features, namespaces, devices.

import ControlPlane
import Foundation
import Glibc

/// A feature of the kernel: a function that it has when built in or loaded, and its module.
private struct KernelFeature {
    var name: String
    var symbols: [String]
    var modules: [String]
    var isNeeded: Bool
    /// Whether pe-dp cannot run without it.
    var isVital = true
    var purpose: String
    var remedy: String
}

extension HostCheck {
    mutating func checkKernel() {
        let features = [
            KernelFeature(
                name: "packet sockets",
                symbols: ["packet_create"],
                modules: ["af_packet"],
                isNeeded: configuration?.ports.contains { $0.driver == .afPacket } ?? true,
                purpose: "af_packet ports",
                remedy: "modprobe af_packet"
            ),
            KernelFeature(
                name: "vxlan",
                symbols: ["vxlan_newlink", "vxlan_setup"],
                modules: ["vxlan"],
                isNeeded: usesShadow,
                purpose: "shadow devices for FRR",
                remedy: "modprobe vxlan"
            ),
            KernelFeature(
                name: "bridge",
                symbols: ["br_add_if", "br_fdb_add"],
                modules: ["bridge"],
                isNeeded: usesShadow,
                purpose: "shadow devices for FRR",
                remedy: "modprobe bridge"
            ),
            KernelFeature(
                name: "traffic control with BPF",
                symbols: ["tcx_prog_attach", "cls_bpf_init", "cls_bpf_classify"],
                modules: ["cls_bpf"],
                isNeeded: needsKernelPorts,
                purpose: "keeping the kernel from forwarding what pe-dp forwards",
                remedy: "use a kernel from 6.6 on, or modprobe cls_bpf"
            ),
            KernelFeature(
                name: "vrf",
                symbols: ["vrf_newlink"],
                modules: ["vrf"],
                isNeeded: usesControl && !tenantVRFs.isEmpty,
                isVital: false,
                purpose: "FRR in VRF \(tenantVRFs.joined(separator: ", "))",
                remedy: "modprobe vrf; without it FRR can have one L3VNI, with vrf: default"
            ),
        ]
        let symbols = kernelSymbols(Set(features.flatMap(\.symbols)))
        let modules = kernelModules()
        for feature in features where feature.isNeeded {
            let name = "kernel: \(feature.name)"
            if feature.symbols.contains(where: { symbols?.contains($0) == true }) {
                add(name, .ok, "present")
            } else if feature.modules.contains(where: { modules?.contains($0) == true }) {
                add(name, .ok, "present as a module")
            } else if modules == nil {
                // The kernel may still load a module that cannot be seen from here.
                add(
                    name,
                    .warning,
                    "not loaded, and the modules cannot be read; it serves \(feature.purpose)",
                    feature.remedy
                )
            } else {
                add(
                    name,
                    feature.isVital ? .fault : .warning,
                    "missing; it serves \(feature.purpose)",
                    feature.remedy
                )
            }
        }
    }

    /// VRFs that need a kernel device.
    private var tenantVRFs: [String] {
        guard let configuration else { return [] }
        return PortNumbering.vrfNames(configuration).filter { $0 != Configuration.defaultVRF }
    }

    /// VRF devices that are there already, and IPv6 for the gateways, when FRR runs in this namespace.
    mutating func checkRouting() {
        guard let configuration, usesControl, configuration.control.netns == nil else { return }
        for vrf in tenantVRFs where host.exists("/sys/class/net/\(vrf)") {
            let event = host.text("/sys/class/net/\(vrf)/uevent") ?? ""
            if event.split(separator: "\n").contains("DEVTYPE=vrf") {
                add("vrf \(vrf)", .ok, "its device is there and is used")
            } else {
                add(
                    "vrf \(vrf)",
                    .fault,
                    "\(vrf) is an interface, but no VRF device",
                    "rename it, or call the VRF otherwise"
                )
            }
        }
        let addresses =
            configuration.l2vnis.filter { $0.vrf != nil }.flatMap(\.gatewayIPs)
            + configuration.ports.filter { $0.vrf != nil }.flatMap { $0.exception?.addresses ?? [] }
        guard addresses.contains(where: { !$0.address.isV4 }) else { return }
        if host.number("/proc/sys/net/ipv6/conf/all/disable_ipv6") == 0 {
            add("ipv6", .ok, "IPv6 is on, for the addresses of gateways and routed ports")
        } else {
            add(
                "ipv6",
                .warning,
                "IPv6 is off: FRR does not see the IPv6 addresses of gateways and routed ports",
                "sysctl net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0"
            )
        }
    }

    /// Which of `wanted` the running kernel has; nil when it does not say.
    private func kernelSymbols(_ wanted: Set<String>) -> Set<String>? {
        guard let bytes = host.bytes("/proc/kallsyms"), !bytes.isEmpty else { return nil }
        let names = Dictionary(grouping: wanted.map { Array($0.utf8) }, by: \.count)
        var found: Set<String> = []
        for line in bytes.split(separator: 0x0A) {
            // "address type name", then "\t[module]" for what a module brings.
            let parts = line.split(maxSplits: 2, whereSeparator: { $0 == 0x20 })
            guard parts.count == 3 else { continue }
            let name = parts[2].prefix { $0 != 0x09 }
            guard let candidates = names[name.count],
                candidates.contains(where: { $0.elementsEqual(name) })
            else { continue }
            found.insert(String(decoding: name, as: UTF8.self))
        }
        return found
    }

    /// Modules that are built in or can be loaded; nil when that cannot be read.
    private func kernelModules() -> Set<String>? {
        var found: Set<String>?
        for name in ["modules.builtin", "modules.dep"] {
            guard let text = host.text("/lib/modules/\(host.release)/\(name)") else { continue }
            var names = found ?? []
            for line in text.split(separator: "\n") {
                let path = line.prefix { $0 != ":" }
                guard let file = path.split(separator: "/").last,
                    let stem = file.split(separator: ".").first
                else { continue }
                names.insert(String(stem))
            }
            found = names
        }
        return found
    }

    mutating func checkNamespaces() {
        var wanted: [(String, String)] = []
        if usesControl, let name = configuration?.control.netns {
            wanted.append((name, "control.netns"))
        }
        for port in configuration?.ports ?? [] {
            if let name = port.netns { wanted.append((name, "port \(port.name)")) }
        }
        for (name, user) in wanted {
            let path = name.contains("/") ? name : "/run/netns/\(name)"
            if host.exists(path) {
                add("namespace", .ok, "\(path) is there (\(user))")
            } else {
                add(
                    "namespace",
                    .fault,
                    "\(user): there is no network namespace \(path)",
                    "ip netns add \(name)"
                )
            }
        }
    }

    mutating func checkDevices() {
        for port in configuration?.ports ?? [] {
            switch port.driver {
            case .afPacket, .afXDP:
                if port.netns == nil { checkInterface(port) }
            case .pci: checkPCI(port)
            case .memif, .vhostUser: checkSocketFolder(port)
            case .tap, .null, .pcap, .ring, .vdev: break
            }
        }
    }

    private mutating func checkInterface(_ port: Configuration.Port) {
        let check = "port \(port.name)"
        guard host.exists("/sys/class/net/\(port.device)") else {
            let known = host.list("/sys/class/net").filter { $0 != "lo" }.prefix(16)
            return add(
                check,
                .fault,
                "missing device: there is no interface \(port.device)",
                known.isEmpty
                    ? "create it, or correct its device"
                    : "interfaces are \(known.joined(separator: ", "))"
            )
        }
        let isUp = (host.text("/sys/class/net/\(port.device)/flags") ?? "").dropFirst(2)
            .filter { !$0.isNewline }
        if let flags = UInt32(isUp, radix: 16), flags & 1 == 0 {
            add(check, .warning, "\(port.device) is down", "ip link set \(port.device) up")
        }
        if let mtu = host.number("/sys/class/net/\(port.device)/mtu"), mtu < port.mtu {
            add(
                check,
                .warning,
                "\(port.device) has MTU \(mtu), the port \(port.mtu)",
                "ip link set \(port.device) mtu \(port.mtu), or lower the port's mtu"
            )
        }
        guard let offloads = host.offloads(port.device) else {
            return add(check, .ok, "\(port.device) is there")
        }
        if offloads.lro {
            return add(
                check,
                .warning,
                "\(port.device) merges received packets in hardware (LRO)",
                "ethtool -K \(port.device) lro off: what LRO merges cannot be cut again as it was"
            )
        }
        let list = [
            offloads.txChecksum ? "tx checksum" : nil, offloads.segmentation ? "segmentation" : nil,
            offloads.gro ? "GRO" : nil, offloads.rxVLAN ? "VLAN stripping" : nil,
        ].compactMap { $0 }
        add(
            check,
            .ok,
            "\(port.device) is there"
                + (list.isEmpty ? "" : "; handled offloads: \(list.joined(separator: ", "))")
        )
    }

    private mutating func checkPCI(_ port: Configuration.Port) {
        let check = "port \(port.name)"
        let folder = "/sys/bus/pci/devices/\(port.device)"
        guard host.exists(folder) else {
            return add(
                check,
                .fault,
                "missing device: there is no PCI device \(port.device)",
                "lspci -D lists the devices"
            )
        }
        let link = try? FileManager.default.destinationOfSymbolicLink(
            atPath: host.root + folder + "/driver"
        )
        let driver = link.flatMap { $0.split(separator: "/").last }.map(String.init)
        switch driver {
        case "vfio-pci", "mlx5_core", "mlx4_core", "uio_pci_generic", "igb_uio":
            add(check, .ok, "\(port.device) is bound to \(driver ?? "")")
        case let driver:
            add(
                check,
                .fault,
                "\(port.device) is bound to \(driver ?? "no driver"), which DPDK cannot use",
                "dpdk-devbind.py --bind=vfio-pci \(port.device) (its network interface goes away)"
            )
        }
    }

    /// The directory in which a memif or vhost-user socket is or will be.
    private mutating func checkSocketFolder(_ port: Configuration.Port) {
        let arguments = port.device.split(separator: ",")
        let path =
            arguments.first { $0.hasPrefix("socket=") || $0.hasPrefix("iface=") }
            .map { String($0.drop { $0 != "=" }.dropFirst()) }
            ?? arguments.first.map(String.init) ?? ""
        guard path.hasPrefix("/"), let end = path.lastIndex(of: "/") else { return }
        let folder = end == path.startIndex ? "/" : String(path[..<end])
        if host.exists(folder) {
            add("port \(port.name)", .ok, "\(folder) is there for its socket")
        } else {
            add(
                "port \(port.name)",
                .fault,
                "missing device: there is no directory \(folder)",
                "mkdir -p \(folder)"
            )
        }
    }

    mutating func checkSockets() {
        guard let configuration else { return }
        let path = configuration.dataplane.adminSocket
        // Not a fault: somebody may want to check the configuration of the daemon that runs.
        let isServed = isListening(path)
        if isServed {
            add(
                "admin socket",
                .warning,
                "a daemon serves \(path) already; a second one would be refused",
                "stop it first, or set dataplane.adminSocket to another path"
            )
        } else {
            add("admin socket", .ok, "\(path) is free")
        }
        guard configuration.control.netns == nil, configuration.control.routes == .fpm,
            let listen = configuration.control.fpmListen,
            let port = listen.split(separator: ":").last.flatMap({ UInt16($0) })
        else { return }
        let suffix =
            ":" + String(repeating: "0", count: max(0, 4 - String(port, radix: 16).count))
            + String(port, radix: 16).uppercased()
        // State 0A is LISTEN (Linux include/net/tcp_states.h).
        let isBusy = ["/proc/net/tcp", "/proc/net/tcp6"].contains { file in
            (host.text(file) ?? "").split(separator: "\n").contains { line in
                let fields = line.split(separator: " ")
                return fields.count > 3 && fields[1].hasSuffix(suffix) && fields[3] == "0A"
            }
        }
        if isBusy {
            add(
                "fpm",
                isServed ? .warning : .fault,
                "another process listens on TCP port \(port)",
                "stop it, or change control.fpm.listen and zebra's fpm address"
            )
        } else {
            add("fpm", .ok, "\(listen) is free")
        }
    }

    /// Whether the kernel lists a listening unix socket of this path (flag __SO_ACCEPTCON, 0x10000).
    private func isListening(_ path: String) -> Bool {
        (host.text("/proc/net/unix") ?? "").split(separator: "\n").contains { line in
            let fields = line.split(separator: " ")
            return fields.count == 8 && fields[3] == "00010000" && fields[7] == path
        }
    }
}
