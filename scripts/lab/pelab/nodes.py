"""The PEs of the lab: what pe-dp and the kernel's own VXLAN have in common, and the kernel's."""
import contextlib
import signal

from . import frr, vlan
from .shell import LabError

ZERO = "00:00:00:00:00:00"


class PE:
    """A PE: FRR in `control`, ports in `ports` (the same namespace unless they are split)."""

    def __init__(self, lab, name):
        self.lab = lab
        self.name = name
        self.number = int(name[2:])
        self.asn = 65000 + self.number
        self.control = lab.namespace(name)
        self.ports = lab.namespace(name + "-ports") if self.splits() else self.control
        self.directory = f"{lab.directory}/{name}"
        self.frr = None

    def splits(self):
        return False

    # Addresses

    @property
    def vtep(self):
        return f"100.65.0.{self.number}" if self.lab.family == 4 else f"fd00:65::{self.number}"

    @property
    def underlay_ip(self):
        return f"10.0.{self.number}.1" if self.lab.family == 4 else f"fd00:10:{self.number}::1"

    @property
    def spine_ip(self):
        return f"10.0.{self.number}.0" if self.lab.family == 4 else f"fd00:10:{self.number}::"

    @property
    def spine_mac(self):
        return f"02:00:00:ff:00:{self.number:02x}"

    @property
    def underlay_mac(self):
        return f"02:00:00:fe:00:{self.number:02x}"

    @property
    def underlay_prefix(self):
        return f"{self.underlay_ip}/{31 if self.lab.family == 4 else 127}"

    def hosts(self, vni=None):
        return self.lab.hosts_of(vni, self.name)

    def vnis(self):
        return self.lab.vnis_of(self.name)

    # FRR

    def make_frr(self, fpm):
        directory = f"{self.directory}-frr"
        return frr.FRR(self.control, directory, frr.bgp(
            self.asn, f"100.65.0.{self.number}", [(self.spine_ip, 65000)],
            networks=[f"{self.vtep}/32"], fpm="127.0.0.1 port 2620" if fpm else None,
            directory=directory), fpm=fpm)

    def start_frr(self):
        if self.lab.family == 4:
            self.frr = self.make_frr(self.kind == "pe-dp")
            self.frr.start()

    def stop_frr(self):
        if self.frr:
            self.frr.stop()

    def start(self):
        self.start_dataplane()
        self.start_frr()

    def stop(self):
        self.stop_frr()
        self.stop_dataplane()


class KernelPE(PE):
    """FRR and the kernel's own bridge and VXLAN device."""
    kind = "kernel"
    underlay_device = "up0"

    def start_dataplane(self):
        bits = "31" if self.lab.family == 4 else "127 nodad"
        self.control.ip(f"addr add {self.underlay_ip}/{bits} dev up0")
        self.control.sysctl(**{"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
        if self.number == 1 and self.lab.family == 6:
            # The kernel would leave the outer UDP checksum to the veth's offload, unseen.
            self.control.run(["ethtool", "-K", "up0", "tx", "off"])
        if self.lab.family == 6:
            self.control.ip(f"-6 route add fd00:65::/64 via {self.spine_ip}")
        for vni in self.vnis():
            self._make_vni(vni, self.lab.vnis[vni])
        for host in self.hosts():
            self.circuit_rebuilt(host)
        if self.lab.family == 6:
            self._static_rows()

    def _make_vni(self, vni, port):
        bridge, vxlan = f"br{vni}", f"vx{vni}"
        # pe2 shows that a VTEP with default settings is understood. In pe1's place the kernel
        # sends what is asked of pe-dp.
        like_pedp = self.number == 1 and self.lab.family == 4
        options = self.vxlan_options() + (" noudpcsum df set" if like_pedp else "")
        sources = "srcport 49152 65535" if self.number == 1 else ""
        self.control.ip_batch(
            f"link add {bridge} address 02:00:00:10:{self.number:02x}:{vni % 256:02x} "
            "type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link add {vxlan} type vxlan id {vni} local {self.vtep} dstport {port} "
            f"nolearning {sources} {options}",
            f"link set {vxlan} addrgenmode none",
            f"link set {bridge} addrgenmode none",
            f"link set {vxlan} mtu 1500 master {bridge}",
            f"link set {vxlan} type bridge_slave learning off",
            f"link set {vxlan} up",
            f"link set {bridge} up")

    def vxlan_options(self):
        return ""

    def _static_rows(self):
        """The forwarding state that EVPN would bring: flood rows and the other side's MACs."""
        other = self.lab.other(self)
        for vni in self.vnis():
            self.control.bridge(f"fdb append {ZERO} dev vx{vni} dst {other.vtep} self permanent")
            for host in other.hosts(vni):
                self.control.bridge(f"fdb add {host.mac} dev vx{vni} dst {other.vtep} self static")
                self.control.bridge(f"fdb add {host.mac} dev vx{vni} master static")

    def circuit_rebuilt(self, host):
        if host.vlan:
            vlan.untag_interface(self.control, host.circuit, host.vlan, self.lab.bpffs)
        self.control.ip(f"link set {host.circuit} addrgenmode none")
        self.control.ip(f"link set {host.circuit} master br{host.vni}")

    def stop_dataplane(self, _signal=signal.SIGTERM):
        self.control.ip_batch(*(f"link del {kind}{vni}" for vni in self.vnis() for kind in ("vx", "br")),
                              "addr flush dev up0", check=False)

    def running(self):
        return "br110" in self.control.devices()

    # Views that pe-dp's node offers too

    def fdb(self, vni):
        """{mac: ("local", circuit device) | ("remote", VTEP)} from the kernel's rows."""
        rows = {}
        for row in self.control.fdb(f"vx{vni}"):
            if row.get("dst") and row["mac"] != ZERO and "self" in row.get("flags", []):
                rows[row["mac"]] = ("remote", row["dst"])
        for host in self.hosts(vni):
            for row in self.control.fdb(host.circuit):
                if row.get("master") and row.get("state") != "permanent":
                    rows[row["mac"]] = ("local", host.circuit)
        return rows

    def flood(self, vni):
        return {row["dst"] for row in self.control.fdb(f"vx{vni}")
                if row["mac"] == ZERO and row.get("dst")}

    def vteps(self, vni):
        return self.flood(vni)

    def tunnel_counters(self, vni):
        """(encapsulated, decapsulated) packets of a VNI."""
        received, sent = self.control.link_counters(f"vx{vni}")
        return sent, received

    def kernel_flood(self, vni):
        return self.flood(vni)

    def accounting(self):
        return None

    def make_sticky(self, mac, host):
        """A static, sticky local MAC, as an operator would pin it."""
        self.control.bridge(f"fdb replace {mac} dev {host.circuit} master static sticky")

    def remove_sticky(self, mac, host):
        self.control.bridge(f"fdb del {mac} dev {host.circuit} master", check=False)

    def diagnostics(self):
        lines = []
        with contextlib.suppress(LabError):
            for vni in self.vnis():
                lines += self.control.bridge(f"fdb show br br{vni}", check=False).splitlines()
        return lines
