"""The Linux kernel's VXLAN: bridge, vxlan devices and routing between them, in a namespace of its own."""

import statistics
import time

from .cases import (DUT_ADDRESS, DUT_MAC, HOST_ADDRESS, HOST_MAC, L2_VNI, L3_VNI, PEER_ADDRESS, PEER_MAC,
                    PEER_ROUTER_MAC, PRIMER, ROUTER_MAC, Wrong, colons, dotted, remote_address, remote_mac)
from .dut import Device
from .host import Absent, build, run
from .page import PageTimeout, reduce_slices

SYSCTLS = ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
           "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1",
           "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0",
           "net.bridge.bridge-nf-call-arptables=0"]


def ports(far=None):
    """`ip -batch`: underlay u0 and access a0: ifb devices, or near ends of veth pairs into namespace `far`."""
    lines = []
    for name, mac, mtu in (("u0", colons(DUT_MAC), 1600), ("a0", "02:00:00:00:01:01", 1500)):
        kind = f"type veth peer name g{name} mtu {mtu} netns {far}" if far else "type ifb"
        lines += [f"link add {name} address {mac} mtu {mtu} {kind}", f"link set {name} up"]
    return "\n".join(lines) + "\n"


def links(entries):
    """`ip -batch`: a bridge for each VNI; routes behind the L3 VNI's bridge."""
    peer, router = dotted(PEER_ADDRESS), colons(ROUTER_MAC)
    lines = [
        f"addr add {dotted(DUT_ADDRESS)}/24 dev u0",
        f"neigh add {peer} lladdr {colons(PEER_MAC)} dev u0 nud permanent",
    ]
    for bridge, vni in (("br0", L2_VNI), ("br1", L3_VNI)):
        device = f"vx{vni}"
        lines += [
            f"link add {bridge} address {router} type bridge mcast_snooping 0",
            f"link add {device} type vxlan id {vni} local {dotted(DUT_ADDRESS)} dstport 4789 nolearning",
            f"link set {device} master {bridge}", f"link set {device} type bridge_slave learning off",
            f"link set {device} up", f"link set {bridge} up",
        ]
    lines += [
        "link set a0 master br0", "link set a0 type bridge_slave learning off",
        "addr add 192.168.1.1/24 dev br0",
        f"neigh add {dotted(HOST_ADDRESS)} lladdr {colons(HOST_MAC)} dev br0 nud permanent",
        f"neigh add {peer} lladdr {colons(PEER_ROUTER_MAC)} dev br1 nud permanent",
        f"route add 172.31.0.0/16 via {peer} dev br1 onlink",
    ]
    lines += [f"route add {dotted(remote_address(i))}/32 via {peer} dev br1 onlink" for i in range(entries)]
    return "\n".join(lines) + "\n"


def macs(entries):
    """`bridge -batch`: where each MAC is."""
    peer = dotted(PEER_ADDRESS)
    lines = [f"fdb add {colons(HOST_MAC)} dev a0 master static",
             f"fdb add {colons(PEER_ROUTER_MAC)} dev vx{L3_VNI} dst {peer} self permanent",
             f"fdb add {colons(PEER_ROUTER_MAC)} dev vx{L3_VNI} master static"]
    for index in range(entries):
        mac = colons(remote_mac(index))
        lines += [f"fdb add {mac} dev vx{L2_VNI} dst {peer} self permanent",
                  f"fdb add {mac} dev vx{L2_VNI} master static"]
    return "\n".join(lines) + "\n"


class Kernel(Device):
    """Frames come from BPF_PROG_RUN on the measured core, as a driver's poll would deliver them."""

    name = "kernel"
    threads = r"^kernel_source$"
    primes = False
    measure_scale = 3
    warm_seconds = 0.3

    def __init__(self, host, entries, log):
        super().__init__(host, entries, log)
        # A packet takes so long that 20,000 of them would never be left alone by others.
        self.page.at.slice_packets = 1024
        self.namespaces = []
        self.counted = (0, 0)

    def begin(self):
        try:
            self.begin_live()
        except Absent as error:
            self.log(f"kernel: {error}; through veth pairs instead")
            self.end_namespaces()
            self.where = "veth"
            self.measure_scale = 1
            self.page.at.slice_packets = 256
            self.begin_veth()

    def end_namespaces(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []
        for namespace in self.namespaces:
            run("ip", "netns", "del", namespace, check=False)
        self.namespaces = []

    def namespace(self, suffix):
        name = self.host.namespace + suffix
        run("ip", "netns", "add", name)
        self.namespaces.append(name)
        return name

    def configure(self, namespace, far=None):
        for setting in SYSCTLS:
            run("sysctl", "-qw", setting, namespace=namespace, check=False)
        try:
            run("ip", "-batch", "-", text=ports(far) + links(self.entries), namespace=namespace)
            run("bridge", "-batch", "-", text=macs(self.entries), namespace=namespace)
        except RuntimeError as error:
            kind = "veth" if far else "ifb"
            raise Absent(f"the kernel lacks {kind}, bridge or vxlan: {str(error)[-300:]}") from error
        for device in ("u0", "a0", f"vx{L2_VNI}", f"vx{L3_VNI}", "br0", "br1"):
            run("tc", "qdisc", "replace", "dev", device, "root", "noqueue", namespace=namespace, check=False)

    def begin_live(self):
        source, program = build("kernel_source"), build("kernel_source.bpf.o")
        namespace = self.namespace("k")
        self.configure(namespace)
        try:
            self.spawn(["ip", "netns", "exec", namespace, "taskset", "-c", self.host.core, source, program,
                        self.page.path, "u0", "a0"], r"^kernel_source ready")
            self.page.wait_attached()
            self.page.start(PRIMER)
            time.sleep(0.1)
            self.page.stop()
            if self.processes[-1].poll() is not None:
                raise RuntimeError((self.folder / "log").read_text()[-300:])
        except (RuntimeError, PageTimeout) as error:
            raise Absent(f"no live frames through BPF_PROG_RUN: {error}") from error

    def begin_veth(self):
        self.threads = r"^veth_source$"
        source, namespace, far = build("veth_source"), self.namespace("v"), self.namespace("g")
        self.configure(namespace, far)
        for device in ("gu0", "ga0"):
            run("ip", "link", "set", device, "up", namespace=far)
        self.spawn(["ip", "netns", "exec", namespace, "taskset", "-c", self.host.core, source, self.page.path,
                    "u0", "a0", f"/run/netns/{far}", "gu0", "ga0"], r"^veth_source ready")

    def warm(self, case):
        # The first calls are short; they grow until one lasts some 0.2 s.
        end = time.monotonic() + 4
        time.sleep(self.warm_seconds)
        while self.page.at.slice_count == 0 and time.monotonic() < end:
            time.sleep(0.05)

    def reduce(self, slices):
        """Cycles of the core, not of the thread: part of the work may be ksoftirqd's, on the same core."""
        # What leaves is counted at the devices, which lag behind a slice: loss is that of the whole turn.
        slices = [{**s, "sent": s["generated"]} for s in slices]
        result = reduce_slices(slices, False)
        if self.page.at.has_counters:
            result["instructions"] = statistics.median(s["instructions"] / s["generated"] for s in slices)
        return result

    def pause(self):
        """It sleeps when it has nothing to do, and a stopped process could not finish its call."""
        generated, sent = self.page.at.generated, self.page.at.sent
        given, came = generated - self.counted[0], sent - self.counted[1]
        self.counted = (generated, sent)
        if given and came < 0.99 * given:
            raise Wrong(f"{1 - came / given:.1%} of the frames did not come out")

    def stop(self):
        super().stop()
        self.end_namespaces()
