"""The routed lab: one tenant in the default VRF, its subnets, prefixes and routers behind PEs.

  h1  A .11 ──┐                                                     ┌── h2 A .21
  h1b A .12 ──┤                                                     ├── h4 B .23
  h5  C .15 ──┤ pe1 ─10.0.1.0/31─ rr ─10.0.2.0/31─ pe2 ─────────────┼── hm A .31 (moves)
  hs  A .13 ──┤ AS 65001           └──10.0.3.0/31─ pe3 AS 65003     └── x2 10.8.0.0/16, 10.9.0.0/16
  hm  A .31 ──┤ (moves)                             └── x3 10.9.0.0/16
  n1 10.77.1.0/24 (BGP, AS 65101)

A = 192.170.1.0/24 and 2001:db8:1::/64, VNI 110 on pe1 and pe2; B = 192.170.2.0/24, VNI 120 on pe2;
C = 192.170.3.0/24, VNI 130 on pe1. L3VNI 500 joins the PEs. The gateways are .1 and ::1 with the
same MAC wherever the subnet is. The underlay's MTU is the hosts': routed packets must be told.
With an IPv6 underlay there is no FRR, pe3 or router: the same subnets with static state.
"""
import dataclasses

from . import frr
from .net import veth
from .shell import run
from .topology import Host, Lab

L3VNI = 500
SUBNETS = {110: 1, 120: 2, 130: 3}
MAC_OF_LEG = "02:00:00:1e:00:01"


def gateway_mac(vni):
    """The anycast gateway's MAC, as OpenPERouter makes it: 00:f3 and VNI + 1."""
    return "00:f3:" + ":".join(f"{byte:02x}" for byte in (vni + 1).to_bytes(4, "big"))


def gateways(vni):
    """The gateway's addresses with prefix lengths, IPv4 and IPv6."""
    return f"192.170.{SUBNETS[vni]}.1/24", f"2001:db8:{SUBNETS[vni]}::1/64"


@dataclasses.dataclass
class RoutedHost(Host):
    """A host with a default route to its subnet's gateway."""
    mtu: int = 1500

    @property
    def gateway4(self):
        return gateways(self.vni)[0].split("/")[0]

    @property
    def gateway6(self):
        return gateways(self.vni)[1].split("/")[0]

    def set_routes(self):
        self.namespace.ip(f"route replace default via {self.gateway4} dev eth0")
        self.namespace.ip(f"-6 route replace default via {self.gateway6} dev eth0")


@dataclasses.dataclass
class MobileHost(RoutedHost):
    """A host with a port at two PEs, of which one is its own: eth0 is a bridge of one port.

    A third port that leads nowhere keeps the carrier: the host does not notice that it moves.
    """
    homes: tuple = ("pe1", "pe2")

    @property
    def pes(self):
        return self.homes

    @property
    def mac(self):
        return f"02:00:00:00:aa:{self.index:02x}"

    def port(self, pe):
        return "to-" + pe

    def attach(self, pe, detach=None):
        """Its frames leave through the port of `pe` from now on; it says nothing by itself."""
        batch = f"link set {self.port(detach)} nomaster\n" if detach else ""
        batch += f"link set {self.port(pe)} master eth0\n"
        run(["ip", "-n", self.namespace.full, "-batch", "-"], input=batch)
        self.pe = pe


def all_hosts():
    return [RoutedHost("h1", "pe1", 110, 11), RoutedHost("h1b", "pe1", 110, 12, mtu=1400),
            RoutedHost("hs", "pe1", 110, 13), RoutedHost("h5", "pe1", 130, 15),
            RoutedHost("h2", "pe2", 110, 21, mtu=1400), RoutedHost("h4", "pe2", 120, 23),
            MobileHost("hm", "pe1", 110, 31, mtu=1400)]


@dataclasses.dataclass
class PrefixRouter:
    """A router behind a PE's plain link that has every address of some prefixes."""
    name: str
    pe: str
    prefixes: tuple
    namespace: object = None

    @property
    def link(self):
        """(PE's, router's) addresses of the link, IPv4 and IPv6."""
        n = self.pe[2:]
        return (f"172.31.{n}.0", f"172.31.{n}.1"), (f"fd00:31:{n}::", f"fd00:31:{n}::1")

    def device(self):
        return "p-" + self.name


SHARED = ("10.9.0.0/16", "2001:db8:9::/48")      # behind pe2 and pe3
SINGLE = ("10.8.0.0/16", "2001:db8:8::/48")      # behind pe2 when announced
LEG = ("10.77.1.0/24", "2001:db8:77::/48")       # behind n1, which says so by BGP


class L3Lab(Lab):
    """The routed topology; what differs from the L2 lab's."""

    vnis = {vni: 4789 for vni in SUBNETS}
    underlay_mtu = 1500
    make_hosts = staticmethod(all_hosts)
    neighbor_timeout = 3     # seconds
    dscp = 10                # of every outer header when it is not copied
    routes = "fpm"           # where pe-dp has its routes from
    next_hop_groups = True   # whether FPM has objects for next hops, or puts them into each route
    placement = {110: ("pe1", "pe2"), 120: ("pe2",), 130: ("pe1",)}

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.routers = {}
        self.leg = None

    @property
    def vrf(self):
        """With FRR the tenant is in the default VRF, as this needs no VRF device."""
        return "default" if self.family == 4 else "red"

    @property
    def overhead(self):
        """The bytes that a tunnel takes from the underlay's MTU."""
        return 50 if self.family == 4 else 70

    def hosts_at(self, pe, vni=None):
        """The hosts that are behind a PE now."""
        return [h for h in self.hosts_of(vni) if h.pe == pe.name]

    def static_prefixes(self, pe):
        """What is routed to a PE with static state: its own subnets, and its hosts in shared ones."""
        prefixes = []
        for vni in pe.vnis():
            if len(self.placement[vni]) == 1:
                prefixes += [f"192.170.{SUBNETS[vni]}.0/24", f"2001:db8:{SUBNETS[vni]}::/64"]
            else:
                prefixes += [prefix for h in self.hosts_at(pe, vni)
                             for prefix in (h.ip4 + "/32", h.ip6 + "/128")]
        return prefixes

    def start(self):
        super().start()
        if self.leg:
            self.leg.start()
        for router in self.routers.values():
            self.announce(router, SHARED)

    def vnis_of(self, pe):
        return [vni for vni, pes in self.placement.items() if pe in pes]

    def build(self):
        super().build()
        if self.family == 6:
            return
        for name, pe, prefixes in (("x2", "pe2", SHARED + SINGLE), ("x3", "pe3", SHARED)):
            if pe in self.pes and self.pes[pe].kind == "kernel":
                self.routers[name] = self._build_router(PrefixRouter(name, pe, prefixes))
        self.leg = Leg(self)

    def _build_host(self, host):
        host.namespace = self.namespace(host.name)
        if isinstance(host, MobileHost):
            self._build_mobile(host)
        else:
            veth(self.pes[host.pe].ports, host.circuit, host.namespace, "eth0", right_mac=host.mac)
        host.namespace.ip(f"link set eth0 mtu {host.mtu}")
        host.namespace.ip(f"addr add {host.ip4}/24 dev eth0")
        host.namespace.ip(f"addr add {host.ip6}/64 dev eth0 nodad")
        host.set_routes()

    def _build_mobile(self, host):
        ns = host.namespace
        # Only eth0 may answer: the kernel would answer ARP for its address on every device.
        ns.sysctl(**{"net.ipv4.conf.all.arp_ignore": 1, "net.ipv6.conf.default.disable_ipv6": 1})
        ns.ip(f"link add eth0 address {host.mac} type bridge stp_state 0 forward_delay 0 "
              "mcast_snooping 0")
        ns.ip("link set eth0 addrgenmode none")
        ns.sysctl(**{"net.ipv6.conf.eth0.disable_ipv6": 0})
        veth(ns, "carrier0", ns, "carrier1")
        for pe in host.homes:
            veth(self.pes[pe].ports, host.circuit, ns, host.port(pe))
        ns.ip("link set carrier0 master eth0")
        ns.ip("link set eth0 up")
        host.attach(host.pe)

    def _build_router(self, router):
        pe = self.pes[router.pe]
        router.namespace = ns = self.namespace(router.name)
        veth(pe.control, router.device(), ns, "eth0")
        for bits, flags, (theirs, mine) in ((31, "", router.link[0]), (127, " nodad", router.link[1])):
            pe.control.ip(f"addr add {theirs}/{bits} dev {router.device()}{flags}")
            ns.ip(f"addr add {mine}/{bits} dev eth0{flags}")
            ns.ip(f"{'-6 ' if ':' in mine else ''}route add default via {theirs}")
        for prefix in router.prefixes:
            ns.ip(f"{'-6 ' if ':' in prefix else ''}route add local {prefix} dev lo")
        return router

    def announce(self, router, prefixes, present=True):
        """The PE of a router has routes for its prefixes, or no longer; FRR makes type 5 of them."""
        batch = ""
        for prefix in prefixes:
            via = router.link[1 if ":" in prefix else 0][1]
            batch += (f"route {'replace' if present else 'del'} {prefix} via {via} "
                      f"dev {router.device()}\n")
        run(["ip", "-n", self.pes[router.pe].control.full, "-batch", "-"], input=batch)

    def remove(self, keep=False):
        if self.leg:
            self.leg.stop()
        super().remove(keep)


class NetlinkLab(L3Lab):
    """pe-dp has its routes from the kernel; zebra has no FPM."""
    routes = "netlink"


class PlainRoutesLab(L3Lab):
    """FPM without next-hop groups: each route has its next hops in it."""
    next_hop_groups = False


class Leg:
    """n1: a router with FRR behind pe1's routed port."""
    asn = 65101
    pe_addresses = ("172.31.1.0", "fd00:31:1::")
    addresses = ("172.31.1.1", "fd00:31:1::1")
    device = "c-n1"

    def __init__(self, lab):
        self.lab = lab
        self.namespace = ns = lab.namespace("n1")
        pe = lab.pes["pe1"]
        veth(pe.ports, self.device, ns, "eth0", left_mac=MAC_OF_LEG)
        for address, bits, flags in zip(self.addresses, (31, 127), ("", " nodad")):
            ns.ip(f"addr add {address}/{bits} dev eth0{flags}")
        for via in self.pe_addresses:
            ns.ip(f"{'-6 ' if ':' in via else ''}route add default via {via}")
        for prefix in LEG:
            ns.ip(f"{'-6 ' if ':' in prefix else ''}route add local {prefix} dev lo")
        directory = f"{lab.directory}/n1-frr"
        self.frr = frr.FRR(ns, directory, frr.leg(
            self.asn, "172.31.1.1", [(a, pe.asn) for a in self.pe_addresses], LEG,
            directory=directory), bfd=True)

    def start(self):
        self.frr.start()

    def stop(self):
        self.frr.stop()
