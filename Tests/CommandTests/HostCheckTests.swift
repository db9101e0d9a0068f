// What a host lacks is found in its files; the files here are of hosts that lack one thing each.

import ControlPlane
import FastPath
import Foundation
import Glibc
import Testing

@testable import pe_dp

/// A host made of files, whole but for what a test takes away.
final class FakeHost {
    let root: String
    init() {
        var template = Array("/tmp/pe-dp-host.XXXXXX".utf8CString)
        root = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
        write("/proc/self/status", "Name:\tpe-dp\nCapInh:\t0\nCapEff:\t000001ffffffffff\n")
        write(
            "/proc/cpuinfo",
            "model name\t: x\nflags\t\t: fpu sse4_2 popcnt avx2 bmi1 bmi2 fma f16c abm movbe\n"
        )
        write("/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable:    4000000 kB\n")
        write(
            "/proc/kallsyms",
            ["packet_create", "vxlan_newlink", "br_add_if", "tcx_prog_attach"]
                .map { "0000000000000000 t \($0)\n" }.joined()
                + "0000000000000000 t vrf_newlink\t[vrf]\n"
        )
        write("/proc/net/unix", "Num RefCount Protocol Flags Type St Inode Path\n")
        write("/proc/net/tcp", "  sl  local_address rem_address   st\n")
        write("/sys/devices/system/cpu/online", "0-3\n")
        write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "512\n")
        write("/dev/net/tun", "")
        for device in ["eth1", "veth-h1"] {
            write("/sys/class/net/\(device)/flags", "0x1003\n")
            write("/sys/class/net/\(device)/mtu", "1600\n")
        }
        write("/run/netns/perouter", "")
        write("/run/pe-dp/.keep", "")
    }
    deinit { try? FileManager.default.removeItem(atPath: root) }

    func write(_ path: String, _ text: String) {
        let folder = (root + path as NSString).deletingLastPathComponent
        try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        FileManager.default.createFile(atPath: root + path, contents: Data(text.utf8))
    }
    func remove(_ path: String) { try? FileManager.default.removeItem(atPath: root + path) }

    var lro = false
    func check(_ configuration: Configuration?) -> [HostFinding] {
        let lro = lro
        let view = HostView(root: root, release: "6.1.0-test") { _ in
            DeviceOffloads(txChecksum: true, segmentation: true, gro: true, lro: lro, rxVLAN: false)
        }
        return HostCheck.run(host: view, configuration: configuration)
    }
}

@Suite("Host check") struct HostCheckTests {
    let host = FakeHost()
    let configuration: Configuration
    init() throws {
        configuration = try Configuration(
            yaml: """
                ports:
                  - {name: up0, driver: af_packet, device: eth1, mtu: 1600, exception: {}}
                  - {name: host1, driver: af_packet, device: veth-h1}
                underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [100.65.0.1]}}]
                l2vnis: [{vni: 110, ports: [{port: host1}]}]
                control: {netns: perouter}
                """
        )
    }

    /// The one finding that is not ok.
    func problem(_ findings: [HostFinding]) throws -> HostFinding {
        let problems = findings.filter { $0.severity != .ok }
        #expect(problems.count == 1, "\(problems)")
        let problem = try #require(problems.first)
        #expect(problem.remedy?.isEmpty == false)
        return problem
    }

    /// A machine with CPUs 0 and 1 on one NUMA node, 2 and 3 on another.
    func writeTwoNodes() {
        host.write("/sys/devices/system/node/online", "0-1\n")
        for node in 0..<2 {
            let folder = "/sys/devices/system/node/node\(node)"
            host.write("\(folder)/cpulist", node == 0 ? "0-1\n" : "2-3\n")
            host.write("\(folder)/meminfo", "Node \(node) MemTotal:       32768000 kB\nNode \(node) MemFree: 1 kB\n")
            host.write("\(folder)/distance", node == 0 ? "10 21\n" : "21 10\n")
        }
        host.write("/proc/self/status", "CapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-3\n")
    }

    @Test("memory.numa says where tables go: near the workers, everywhere, near the first worker, anywhere")
    func numa() throws {
        writeTwoNodes()
        func placement(_ workers: [Int], _ memory: String) throws -> Placement {
            let dataplane = "dataplane: {lcores: {main: 0, workers: \(workers)}, memory: {\(memory)}}\n"
            return HostView(root: host.root).placement(for: try Configuration(yaml: dataplane))
        }
        for memory in ["mbufs: 2048", "numa: auto"] {
            #expect(try placement([3], memory).tables == .node(1))
            #expect(try placement([3, 1], memory).tables == .interleaved([0, 1]))
        }
        #expect(try placement([3], "numa: interleave").tables == .interleaved([0, 1]))
        #expect(try placement([3, 1], "numa: local").tables == .node(1))
        #expect(try placement([3, 1], "numa: local").poolNodes == [0, 1])
        #expect(try placement([3, 1], "numa: off").tables == .anywhere)
        #expect(try placement([3, 1], "numa: off").poolNodes == [])
        let fault = Configuration.read(yaml: "dataplane: {memory: {numa: near}}\n").faults
        #expect(fault.map(\.path) == ["dataplane.memory.numa"])
    }

    @Test("a device in another namespace is not looked for under its name in this one")
    func otherNamespace() throws {
        writeTwoNodes()
        host.write("/sys/class/net/eth1/device/numa_node", "1\n")
        func node(_ netns: String) throws -> Int {
            let yaml = "ports: [{name: up0, driver: af_packet, device: eth1\(netns)}]\n"
            return HostView(root: host.root).numaNode(of: try #require(try Configuration(yaml: yaml).ports.first))
        }
        #expect(try node("") == 1)
        #expect(try node(", netns: other") == -1)
    }

    @Test("a NIC on another NUMA node than the worker: a warning that names the CPU to use") func placement() throws {
        writeTwoNodes()
        host.write("/sys/class/net/eth1/device/numa_node", "1\n")
        let topology = HostView(root: host.root).topology
        #expect(topology.nodes.map(\.id) == [0, 1])
        #expect(topology.nodes.map(\.megabytes) == [32_000, 32_000])
        #expect(topology.nodes[1].distances == [0: 21, 1: 10])
        #expect(topology.allowed == [0, 1, 2, 3])
        let findings = host.check(configuration)
        let numa = findings.filter { $0.check == "numa" }
        #expect(numa.map(\.severity) == [.warning])
        #expect(numa.first?.message.contains("port up0 is on NUMA node 1") == true)
        #expect(numa.first?.remedy == "dataplane.lcores.workers: [2]")
    }

    @Test("a host with everything has no problem") func complete() {
        let findings = host.check(configuration)
        #expect(findings.filter { $0.severity != .ok } == [])
        #expect(
            Set(findings.map(\.check)).isSuperset(of: [
                "privileges", "processor", "lcores", "hugepages", "tun", "kernel: vxlan",
                "namespace",
                "port up0", "port host1", "admin socket",
            ])
        )
    }

    /// A tenant with a gateway and a routed port, and FRR in the own namespace.
    private func tenant() throws -> Configuration {
        try Configuration(
            yaml: """
                ports:
                  - {name: up0, driver: af_packet, device: eth1, mtu: 1600}
                  - {name: leg, driver: af_packet, device: veth-h1, vrf: green}
                underlays: [{interfaces: [up0], tunnelEndpoint: {addresses: [100.65.0.1]}}]
                l3vnis: [{vrf: red, vni: 900}, {vrf: default, vni: 901}]
                l2vnis: [{vni: 110, gatewayIPs: ["2001:db8::1/64"], routingDomain: {type: L3VNI, l3vni: {name: red}}}]
                """
        )
    }

    @Test("VRFs other than default need VRF devices, for L3VNIs and routed ports") func vrfs() throws {
        host.write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0\n")
        #expect(host.check(try tenant()).filter { $0.severity != .ok } == [])
        host.write(
            "/proc/kallsyms",
            ["packet_create", "vxlan_newlink", "br_add_if", "tcx_prog_attach"]
                .map { "0000000000000000 t \($0)\n" }.joined()
        )
        host.write("/lib/modules/6.1.0-test/modules.builtin", "kernel/net/ipv4/tcp.ko\n")
        let missing = try problem(host.check(try tenant()))
        #expect(missing.check == "kernel: vrf" && missing.severity == .warning)
        #expect(missing.message == "missing; it serves FRR in VRF red, green")
        #expect(missing.remedy?.contains("modprobe vrf") == true)
        var plain = try tenant()
        plain.l3vnis.removeFirst()
        plain.l2vnis[0].vrf = "default"
        plain.ports[1].vrf = "default"
        #expect(host.check(plain).filter { $0.severity != .ok } == [])
    }

    @Test("a device with a VRF's name must be a VRF device; without IPv6 gateways are not seen")
    func vrfDevices() throws {
        host.write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0\n")
        host.write("/sys/class/net/red/uevent", "DEVTYPE=vrf\nINTERFACE=red\n")
        #expect(host.check(try tenant()).contains { $0.check == "vrf red" && $0.severity == .ok })
        host.write("/sys/class/net/red/uevent", "INTERFACE=red\n")
        let other = try problem(host.check(try tenant()))
        #expect(other.check == "vrf red" && other.severity == .fault)
        host.write("/sys/class/net/red/uevent", "DEVTYPE=vrf\n")
        host.write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1\n")
        let off = try problem(host.check(try tenant()))
        #expect(off.check == "ipv6" && off.severity == .warning)
    }

    @Test("not privileged") func privileges() throws {
        host.write("/proc/self/status", "CapEff:\t0000000000000400\n")
        let found = try problem(host.check(configuration))
        #expect(found.severity == .fault)
        #expect(
            found.message == "not privileged: CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN missing"
        )
        #expect(found.remedy?.contains("run as root") == true)
    }

    @Test("ports without the kernel need no privileges") func memifOnly() throws {
        host.write("/proc/self/status", "CapEff:\t0000000000000000\n")
        host.remove("/dev/net/tun")
        host.remove("/proc/kallsyms")
        let configuration = try Configuration(
            yaml:
                "ports: [{name: a, driver: memif, device: /run/pe-dp/m.sock}]\ncontrol: {routes: none, fpm: none}"
        )
        #expect(host.check(configuration).filter { $0.severity != .ok } == [])
    }

    @Test("no huge pages: a warning, and a fault where they are demanded") func hugepages() throws {
        host.write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "3\n")
        let warning = try problem(host.check(configuration))
        #expect(warning.check == "hugepages" && warning.severity == .warning)
        #expect(warning.message.hasPrefix("6 MB free, "))
        var strict = configuration
        strict.dataplane.hugepages = .always
        let fault = try problem(host.check(strict))
        #expect(fault.severity == .fault && fault.message.hasPrefix("no huge pages: 6 MB free, "))
        #expect(fault.remedy?.contains("sysctl vm.nr_hugepages=") == true)
    }

    @Test("transparent huge pages serve where there are no reserved ones, unless something keeps packets from them")
    func transparent() throws {
        host.write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n")
        let folder = "/sys/kernel/mm/transparent_hugepage"
        func found(_ change: (inout Configuration) -> Void = { _ in }) throws -> HostFinding {
            var changed = configuration
            change(&changed)
            let findings = host.check(changed).filter { $0.check == "hugepages" }
            return try #require(findings.first)
        }
        host.write("\(folder)/enabled", "always [madvise] never\n")
        host.write("\(folder)/shmem_enabled", "always within_size advise [never] deny force\n")
        let plain = try found()
        #expect(plain.severity == .ok && plain.message.hasSuffix("MB needed: transparent ones serve"))
        let never = try found { $0.dataplane.hugepages = .never }
        #expect(never.message == "reserved ones are not used, as configured; transparent ones serve")
        let always = try found { $0.dataplane.hugepages = .always }
        #expect(always.severity == .fault)
        let given = try found { $0.dataplane.memoryMegabytes = 512 }
        #expect(given.severity == .warning && given.message.contains("4 KB pages serve (memory.megabytes is given)"))
        host.write("\(folder)/enabled", "always madvise [never]\n")
        let off = try found()
        #expect(off.message.contains("4 KB pages serve (transparent_hugepage/enabled says never)"))
    }

    @Test("not enough memory") func memory() throws {
        host.write("/proc/meminfo", "MemAvailable: 51200 kB\n")
        var plain = configuration
        plain.dataplane.hugepages = .never
        let found = try problem(host.check(plain))
        #expect(found.check == "memory" && found.severity == .fault)
        #expect(found.message.hasPrefix("not enough memory: 50 MB available, "))
    }

    @Test("missing device") func device() throws {
        host.remove("/sys/class/net/veth-h1")
        let found = try problem(host.check(configuration))
        #expect(found.check == "port host1" && found.severity == .fault)
        #expect(found.message == "missing device: there is no interface veth-h1")
        #expect(found.remedy == "interfaces are eth1")
    }

    @Test("missing and unbound PCI device") func pci() throws {
        var configuration = configuration
        configuration.ports[0].driver = .pci
        configuration.ports[0].device = "0000:3b:00.0"
        let missing = try problem(host.check(configuration))
        #expect(missing.message == "missing device: there is no PCI device 0000:3b:00.0")
        let folder = "/sys/bus/pci/devices/0000:3b:00.0"
        host.write(folder + "/vendor", "0x8086")
        try FileManager.default.createSymbolicLink(
            atPath: host.root + folder + "/driver",
            withDestinationPath: "../../../bus/pci/drivers/ice"
        )
        let bound = try problem(host.check(configuration))
        #expect(
            bound.message.contains("bound to ice") && bound.remedy?.contains("vfio-pci") == true
        )
        host.remove(folder + "/driver")
        try FileManager.default.createSymbolicLink(
            atPath: host.root + folder + "/driver",
            withDestinationPath: "../../../bus/pci/drivers/vfio-pci"
        )
        #expect(host.check(configuration).allSatisfy { $0.severity == .ok })
    }

    @Test("a device that is down, too small or merges packets is a warning") func deviceState()
        throws
    {
        host.write("/sys/class/net/eth1/flags", "0x1002\n")
        #expect(try problem(host.check(configuration)).remedy == "ip link set eth1 up")
        host.write("/sys/class/net/eth1/flags", "0x1003\n")
        host.write("/sys/class/net/eth1/mtu", "1500\n")
        #expect(
            try problem(host.check(configuration)).message == "eth1 has MTU 1500, the port 1600"
        )
        host.write("/sys/class/net/eth1/mtu", "1600\n")
        host.lro = true
        let findings = host.check(configuration).filter { $0.severity != .ok }
        #expect(findings.map(\.severity) == [.warning, .warning])
        #expect(findings.first?.remedy?.hasPrefix("ethtool -K eth1 lro off") == true)
    }

    @Test("namespace") func namespace() throws {
        host.remove("/run/netns/perouter")
        let found = try problem(host.check(configuration))
        #expect(found.message == "control.netns: there is no network namespace /run/netns/perouter")
        #expect(found.remedy == "ip netns add perouter")
    }

    @Test("TUN device") func tun() throws {
        host.remove("/dev/net/tun")
        let found = try problem(host.check(configuration))
        #expect(found.check == "tun" && found.severity == .fault)
        #expect(found.message == "/dev/net/tun does not open: No such file or directory")
    }

    @Test("processor without AVX2, CPUs that are not there") func processor() throws {
        host.write("/proc/cpuinfo", "flags : fpu sse4_2 popcnt bmi1 bmi2 fma f16c abm movbe\n")
        #expect(try problem(host.check(configuration)).message == "avx2 missing: not x86-64-v3")
        host.write("/proc/cpuinfo", "flags : fpu sse4_2 popcnt avx2 bmi1 bmi2 fma f16c abm movbe\n")
        host.write("/sys/devices/system/cpu/online", "0,2-3\n")
        #expect(try problem(host.check(configuration)).message == "CPU 1 is not online")
    }

    @Test("a kernel without VXLAN, with it as a module, and one that does not say") func kernel()
        throws
    {
        host.write(
            "/proc/kallsyms",
            "0 t packet_create\n0 t br_add_if\n0 t tcx_prog_attach\n0 t vxlan_newlinker\n"
        )
        let unread = try problem(host.check(configuration))
        #expect(unread.check == "kernel: vxlan" && unread.severity == .warning)
        host.write("/lib/modules/6.1.0-test/modules.builtin", "kernel/net/bridge/bridge.ko\n")
        let missing = try problem(host.check(configuration))
        #expect(missing.check == "kernel: vxlan" && missing.severity == .fault)
        host.write(
            "/lib/modules/6.1.0-test/modules.dep",
            "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/a.ko\n"
        )
        #expect(host.check(configuration).allSatisfy { $0.severity == .ok })
        host.remove("/proc/kallsyms")
        host.remove("/lib/modules")
        let unknown = host.check(configuration).filter { $0.severity != .ok }
        #expect(unknown.count == 4 && unknown.allSatisfy { $0.severity == .warning })
    }

    @Test("a daemon that serves the socket, another program on the FPM port") func sockets() throws
    {
        var configuration = configuration
        configuration.control.netns = nil
        host.write(
            "/proc/net/tcp",
            "  sl  local_address rem_address   st\n   0: 0100007F:0A3C 00000000:0000 0A 0\n"
        )
        let fpm = try problem(host.check(configuration))
        #expect(fpm.check == "fpm" && fpm.severity == .fault)
        host.write(
            "/proc/net/unix",
            "Num RefCount Protocol Flags Type St Inode Path\n0000: 00000002 00000000 00010000 0001 01 7 /run/pe-dp/admin.sock\n"
        )
        let both = host.check(configuration).filter { $0.severity != .ok }
        #expect(both.map(\.severity) == [.warning, .warning])
    }

    @Test("this very host can be looked at") func real() {
        #expect(HostCheck.run().count >= 6)
        #expect(HostView.readOffloads(of: "no-such-device") == nil)
        #expect(HostView.readOffloads(of: "lo")?.lro == false)
    }
}
