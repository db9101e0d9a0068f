"""The lab's nodes, addresses and how they are built, started and removed.

  h1  192.170.1.11 ──┐                                             ┌── h2 192.170.1.21
  h1b 192.170.1.12 ──┤ pe1 ─10.0.1.0/31─ rr ─10.0.2.0/31─ pe2      ├── h3 192.170.1.22
  h1v (VLAN 20)    ──┘ AS 65001        AS 65000        AS 65002    └── h4

VNI 110 (UDP 4789) joins h1, h1b, h2 and h3; VNI 120 (UDP 8472) joins h1v and h4.
The underlay's MTU is 1600, the hosts' 1500. VTEPs are 100.65.0.N or fd00:65::N.
"""
import contextlib
import dataclasses
import glob
import os
import shutil
import signal
import tempfile

from . import frr, vlan
from .net import Namespace, veth
from .shell import LabError, alive, run, say, terminate

VNIS = {110: 4789, 120: 8472}
STATE = "pe-dp-lab."


@dataclasses.dataclass
class Host:
    """A host: one interface eth0 in a namespace of its own behind a circuit of a PE."""
    name: str
    pe: str
    vni: int
    index: int
    vlan: int | None = None
    namespace: Namespace | None = None

    @property
    def pes(self):
        """The PEs that have a circuit for it."""
        return (self.pe,)

    @property
    def mac(self):
        return f"02:00:00:00:{self.pe[2:]:0>2}:{self.index:02x}"

    @property
    def ip4(self):
        return f"192.170.{self.vni // 10 - 10}.{self.index}"

    @property
    def ip6(self):
        return f"2001:db8:{self.vni // 10 - 10}::{self.index}"

    @property
    def circuit(self):
        """The device in the PE's namespace at the other end of the host's veth pair."""
        return "c-" + self.name


def all_hosts():
    return [Host("h1", "pe1", 110, 11), Host("h1b", "pe1", 110, 12),
            Host("h1v", "pe1", 120, 13, vlan=20),
            Host("h2", "pe2", 110, 21), Host("h3", "pe2", 110, 22), Host("h4", "pe2", 120, 23)]


class Lab:
    """A running topology. kinds: {"pe1": "pe-dp"|"kernel", "pe2": ...}; family: 4 or 6."""

    vnis = VNIS             # UDP port of every L2VNI
    underlay_mtu = 1600
    make_hosts = staticmethod(all_hosts)

    def __init__(self, name, kinds, make_pe, family=4, split_namespaces=False):
        self.name = name
        self.family = family
        self.kinds = kinds
        self.split = split_namespaces
        self.directory = tempfile.mkdtemp(prefix=STATE)
        os.chmod(self.directory, 0o755)
        self.prefix = f"pedp-{os.getpid()}-{name}"
        with open(f"{self.directory}/owner", "w") as file:
            file.write(f"{os.getpid()} {self.prefix}\n")
        self.namespaces = {}
        self.hosts = {host.name: host for host in self.make_hosts()}
        self.rr = None
        self.pes = {}
        self._make_pe = make_pe
        self._serial = 0

    # Building

    def namespace(self, name):
        if name not in self.namespaces:
            self.namespaces[name] = Namespace(self.prefix, name)
            self.namespaces[name].create()
        return self.namespaces[name]

    def build(self):
        """Namespaces, links, hosts and the route reflector; no PE runs yet."""
        self.bpffs = f"{self.directory}/bpf"
        os.mkdir(self.bpffs)
        run(["mount", "-t", "bpf", "bpf", self.bpffs])
        spine = self.namespace("rr")
        spine.sysctl(**{"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
        for name, kind in self.kinds.items():
            pe = self._make_pe(self, name, kind)
            self.pes[name] = pe
            veth(spine, name, pe.ports, pe.underlay_device, mtu=self.underlay_mtu,
                 left_mac=pe.spine_mac, right_mac=pe.underlay_mac)
            if self.family == 4:
                spine.ip(f"addr add {pe.spine_ip}/31 dev {name}")
            else:
                spine.ip(f"addr add {pe.spine_ip}/127 dev {name} nodad")
                spine.ip(f"route add {pe.vtep}/128 via {pe.underlay_ip}")
            if self.family == 4:
                pe.control.ip(f"addr add {pe.vtep}/32 dev lo")
            else:
                pe.control.ip(f"addr add {pe.vtep}/128 dev lo")
        for host in self.hosts.values():
            self._build_host(host)
        if self.family == 4:
            directory = f"{self.directory}/rr"
            neighbors = [(pe.underlay_ip, pe.asn) for pe in self.pes.values()]
            self.rr = frr.FRR(spine, directory, frr.bgp(
                65000, "100.65.0.100", neighbors, evpn=False, directory=directory))
            self.rr.start()

    def start(self):
        for pe in self.pes.values():
            pe.start()

    def _build_host(self, host):
        host.namespace = self.namespace(host.name)
        pe = self.pes[host.pe]
        veth(pe.ports, host.circuit, host.namespace, "eth0", right_mac=host.mac)
        host.namespace.ip(f"addr add {host.ip4}/24 dev eth0")
        host.namespace.ip(f"addr add {host.ip6}/64 dev eth0 nodad")
        if host.vlan:
            vlan.tag_interface(host.namespace, "eth0", host.vlan, self.bpffs)

    def rebuild_circuit(self, host):
        """The host's veth pair again after it was deleted."""
        pe = self.pes[host.pe]
        veth(pe.ports, host.circuit, host.namespace, "eth0", right_mac=host.mac)
        host.namespace.ip(f"addr add {host.ip4}/24 dev eth0")
        host.namespace.ip(f"addr add {host.ip6}/64 dev eth0 nodad")
        pe.circuit_rebuilt(host)

    # Views

    def hosts_of(self, vni=None, pe=None):
        return [h for h in self.hosts.values()
                if (vni is None or h.vni == vni) and (pe is None or pe in h.pes)]

    def vnis_of(self, _pe):
        """The L2VNIs that a PE has."""
        return list(self.vnis)

    def other(self, pe):
        return self.pes["pe2" if pe.name == "pe1" else "pe1"]

    def path(self, name):
        """A file name of this lab that was not used before."""
        self._serial += 1
        return f"{self.directory}/{self._serial:03d}-{name}"

    # Removing

    def remove(self, keep=False):
        for pe in self.pes.values():
            with contextlib.suppress(LabError, OSError):
                pe.stop()
        if self.rr:
            with contextlib.suppress(LabError, OSError):
                self.rr.stop()
        if keep:
            say(f"    logs and captures are kept in {self.directory}")
        remove_state(self.directory, self.prefix, keep)
        self.namespaces = {}


def remove_state(directory, prefix, keep=False):
    """Ends every process in the namespaces of a lab, deletes them and the lab's files."""
    for line in run(["ip", "netns", "list"], check=False).splitlines():
        name = line.split()[0] if line.split() else ""
        if not name.startswith(prefix + "-"):
            continue
        for pid in run(["ip", "netns", "pids", name], check=False).split():
            if int(pid) != os.getpid():
                terminate(int(pid), (signal.SIGTERM, signal.SIGKILL), 2.0)
        run(["ip", "netns", "del", name], check=False)
    run(["umount", f"{directory}/bpf"], check=False)
    if keep:
        with contextlib.suppress(OSError):
            os.unlink(f"{directory}/owner")
    else:
        shutil.rmtree(directory, ignore_errors=True)


def remove_stale():
    """Removes what a lab left behind whose process is gone (power cut, kill -9)."""
    for owner in glob.glob(f"{tempfile.gettempdir()}/{STATE}*/owner"):
        with contextlib.suppress(OSError, ValueError):
            with open(owner) as file:
                pid, prefix = file.read().split()
            if not alive(int(pid)):
                say(f"    removing what an interrupted lab left behind ({prefix})")
                remove_state(os.path.dirname(owner), prefix)
