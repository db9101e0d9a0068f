"""The multi-tenant lab: two tenants with the same prefixes, hosts, addresses and MACs, two PEs.

Each tenant (red: table 1001, L3VNI 500; blue: table 1002, L3VNI 600) has, in its own VRF:

  h1 A .11 ── sw ══╗                                          ┌── h2 A .21
  h5 C .15 ────────╬═ pe1 ─10.0.1.0/31─ rr ─10.0.2.0/31─ pe2 ─┼── h3 B .23
  hd D .14 ────────╝  AS 65001                      AS 65002  ├── he E .24
                                                              └── ha A .5N

A = 192.170.1.0/24 and 2001:db8:1::/64 on both PEs, B = 192.170.2.0/24 on pe2, C = 192.170.3.0/24
on pe1: the same in both tenants. D (pe1) and E (pe2) are 192.170.11.0/24 and 12 in red, 21 and 22
in blue: only one tenant has them, as it has its ha in A. The tenants' h1 share one link to pe1, a
trunk of a VLAN-aware bridge (sw). Needs VRF devices and 802.1Q.
"""
import dataclasses
import subprocess

from .net import veth
from .report import Skip
from .topology import Host, Lab

SUBNETS = "ABCDE"
PLACES = {"A": ("pe1", "pe2"), "B": ("pe2",), "C": ("pe1",), "D": ("pe1",), "E": ("pe2",)}
SHARED = "ABC"
TRUNK = "c-trunk"


@dataclasses.dataclass(frozen=True)
class Tenant:
    """A tenant; `number` is 1 or 2 and makes its VNIs, VLAN and own subnets."""
    name: str
    number: int

    @property
    def table(self):
        return 1000 + self.number

    @property
    def l3vni(self):
        return 400 + 100 * self.number

    @property
    def vlan(self):
        """The VLAN of its h1 on the trunk."""
        return 10 * self.number

    def vni(self, subnet):
        return 100 * self.number + 10 * (SUBNETS.index(subnet) + 1)

    def octet(self, subnet):
        """What tells the subnet's prefixes apart: the same in both tenants for shared ones."""
        if subnet in SHARED:
            return SUBNETS.index(subnet) + 1
        return 10 * self.number + SUBNETS.index(subnet) - 2

    def prefixes(self, subnet):
        octet = self.octet(subnet)
        return f"192.170.{octet}.0/24", f"2001:db8:{octet}::/64"

    def gateways(self, subnet):
        """The gateway's addresses without prefix lengths, IPv4 and IPv6."""
        octet = self.octet(subnet)
        return f"192.170.{octet}.1", f"2001:db8:{octet}::1"

    def router_mac(self, pe_number):
        return f"02:00:00:50:{self.number:02x}:{pe_number:02x}"


RED, BLUE = TENANTS = Tenant("red", 1), Tenant("blue", 2)


def other_tenant(tenant):
    return BLUE if tenant is RED else RED


def subnets_at(pe_name):
    """[(tenant, subnet)] that a PE has."""
    return [(t, s) for t in TENANTS for s in SUBNETS if pe_name in PLACES[s]]


def need_devices():
    """Raises Skip where the kernel has no VRF or no VLAN device."""
    for kind, command in (("VRF", "ip link add try1 type vrf table 99"),
                          ("VLAN", "ip link add try1 type veth peer name try2 && "
                                   "ip link add link try1 name try3 type vlan id 7")):
        process = subprocess.run(["unshare", "--net", "sh", "-c", command],
                                 stderr=subprocess.PIPE, text=True)
        if process.returncode != 0:
            raise Skip(f"this kernel has no {kind} devices ({process.stderr.strip()}); "
                       "`scripts/test --only guest` runs it in a guest kernel")


@dataclasses.dataclass
class TenantHost(Host):
    """A host of a tenant, with default routes to its subnet's gateway."""
    tenant: Tenant = RED
    subnet: str = "A"
    trunk: bool = False

    @property
    def mac(self):
        """The same for both tenants' hosts of one address."""
        return f"02:00:00:00:{self.tenant.octet(self.subnet):02x}:{self.index:02x}"

    @property
    def ip4(self):
        return f"192.170.{self.tenant.octet(self.subnet)}.{self.index}"

    @property
    def ip6(self):
        return f"2001:db8:{self.tenant.octet(self.subnet)}::{self.index}"

    @property
    def addresses(self):
        return self.ip4, self.ip6

    @property
    def gateways(self):
        return self.tenant.gateways(self.subnet)

    @property
    def circuit(self):
        return TRUNK if self.trunk else "c-" + self.name


def all_hosts():
    hosts = []
    for tenant in TENANTS:
        for name, pe, subnet, index, trunk in (
                ("h1", "pe1", "A", 11, True), ("h5", "pe1", "C", 15, False),
                ("hd", "pe1", "D", 14, False), ("h2", "pe2", "A", 21, False),
                ("h3", "pe2", "B", 23, False), ("he", "pe2", "E", 24, False),
                ("ha", "pe2", "A", 50 + tenant.number, False)):
            hosts.append(TenantHost(
                f"{tenant.name}-{name}", pe, tenant.vni(subnet), index,
                tenant.vlan if trunk else None, None, tenant, subnet, trunk))
    return hosts


class TenantLab(Lab):
    """The topology; what differs from the L2 lab's."""

    vnis = {tenant.vni(subnet): 4789 for tenant in TENANTS for subnet in SUBNETS}
    make_hosts = staticmethod(all_hosts)

    def vnis_of(self, pe):
        return [tenant.vni(subnet) for tenant, subnet in subnets_at(pe)]

    def host(self, tenant, name):
        return self.hosts[f"{tenant.name}-{name}"]

    def of_tenant(self, tenant):
        return [host for host in self.hosts.values() if host.tenant is tenant]

    def build(self):
        need_devices()
        self._switch = None
        super().build()

    def _build_host(self, host):
        host.namespace = self.namespace(host.name)
        if host.trunk:
            self._connect_to_switch(host)
        else:
            veth(self.pes[host.pe].ports, host.circuit, host.namespace, "eth0", right_mac=host.mac)
        host.namespace.ip_batch(
            f"addr add {host.ip4}/24 dev eth0", f"addr add {host.ip6}/64 dev eth0 nodad",
            *(f"route replace default via {gateway} dev eth0" for gateway in host.gateways))

    def _connect_to_switch(self, host):
        """An access port of a VLAN-aware bridge, whose trunk is pe1's."""
        if not self._switch:
            self._switch = self.namespace("sw")
            self._switch.ip_batch(
                "link add sw type bridge vlan_filtering 1 vlan_default_pvid 0 stp_state 0 "
                "forward_delay 0 mcast_snooping 0",
                "link set sw addrgenmode none up")
            veth(self._switch, "trunk", self.pes[host.pe].ports, TRUNK)
            self._switch.ip("link set trunk addrgenmode none master sw")
        veth(self._switch, host.name, host.namespace, "eth0", right_mac=host.mac)
        self._switch.ip(f"link set {host.name} addrgenmode none master sw")
        self._switch.bridge(f"vlan add dev {host.name} vid {host.vlan} pvid untagged")
        self._switch.bridge(f"vlan add dev trunk vid {host.vlan}")
