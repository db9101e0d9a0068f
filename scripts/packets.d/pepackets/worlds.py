"""The configurations that the packets meet, and who lives in them."""
import copy
from dataclasses import dataclass, field

from .frames import Dot1Q, Ether, arp_request, solicitation

UP_MAC = "02:00:00:00:aa:01"
OWN = {4: "100.65.0.1", 6: "fd00:65::1"}


@dataclass(unsafe_hash=True)
class Vtep:
    """A remote PE: its addresses, the MAC of the underlay next hop to it, its router MAC."""
    number: int

    def __post_init__(self):
        self.address = {4: f"100.65.0.{self.number}", 6: f"fd00:65::{self.number}"}
        self.hop = f"02:00:00:00:fe:{self.number:02x}"
        self.rmac = f"02:00:00:00:64:{self.number:02x}"


A, B, C, STRANGER = Vtep(2), Vtep(3), Vtep(4), Vtep(99)


@dataclass
class Host:
    """A host behind a circuit; `vlan` is its tag on the wire."""
    port: str
    vlan: int
    mac: str
    ip4: str
    ip6: str
    vni: int

    def ip(self, family):
        return self.ip4 if family == 4 else self.ip6

    def wire(self, packet):
        """The frame on this host's wire, tagged where its circuit is."""
        if not self.vlan:
            return packet
        inner = packet.payload
        return Ether(src=packet.src, dst=packet.dst, type=0x8100) / Dot1Q(
            vlan=self.vlan, type=packet.type) / inner


@dataclass
class Gateway:
    """A bridge domain's gateway."""
    vni: int
    ip4: str
    ip6: str

    def __post_init__(self):
        self.mac = "00:f3:%02x:%02x:%02x:%02x" % tuple((self.vni + 1).to_bytes(4, "big"))

    def ip(self, family):
        return self.ip4 if family == 4 else self.ip6


H1 = Host("host1", 0, "02:00:00:00:01:10", "192.170.1.10", "2001:db8:1::10", 110)
H1V = Host("trunk", 20, "02:00:00:00:01:11", "192.170.1.11", "2001:db8:1::11", 110)
H2 = Host("host2", 0, "02:00:00:00:02:10", "192.170.2.10", "2001:db8:2::10", 120)
H2V = Host("trunk", 30, "02:00:00:00:02:11", "192.170.2.11", "2001:db8:2::11", 120)
# The other tenant's host has the same addresses as H1, on purpose.
H3 = Host("host3", 0, "02:00:00:00:01:10", "192.170.1.10", "2001:db8:1::10", 210)
H6 = Host("host6", 0, "02:00:00:00:06:10", "192.170.6.10", "2001:db8:6::10", 160)

GATEWAYS = {
    110: Gateway(110, "192.170.1.1", "2001:db8:1::1"),
    120: Gateway(120, "192.170.2.1", "2001:db8:2::1"),
    210: Gateway(210, "192.170.1.1", "2001:db8:1::1"),
    160: Gateway(160, "192.170.6.1", "2001:db8:6::1"),
}
LEG = {"mac": "02:00:00:00:50:01", "ip4": "10.50.0.1", "ip6": "2001:db8:50::1"}
# Remote hosts with static bindings in VNI 110, known to suppression.
REMOTE = {"mac": "02:00:00:00:01:20", "ip4": "192.170.1.20", "ip6": "2001:db8:1::20"}
RED, BLUE, SIX = 100, 200, 600
BLUE_RMAC, SIX_RMAC = "02:bb:00:00:00:01", "02:66:00:00:00:01"


def via(vtep, family=4, weight=None):
    """A static next hop behind a VTEP."""
    hop = {"vtep": vtep.address[family], "routerMAC": vtep.rmac}
    if weight:
        hop["weight"] = weight
    return hop


def route(vrf, prefix, *hops, kind=None):
    entry = {"vrf": vrf, "prefix": prefix}
    if hops:
        entry["nexthops"] = list(hops)
    if kind:
        entry["type"] = kind
    return entry


def l2vni(vni, vrf, *circuits, family="IPv4", suppression=False):
    gateway = GATEWAYS[vni]
    entry = {
        "name": f"net{vni}", "vni": vni, "underlayAddressFamily": family,
        "gatewayIPs": [f"{gateway.ip4}/24", f"{gateway.ip6}/64"],
        "neighborSuppression": suppression,
        "ports": [{"port": port, "vlan": vlan} if vlan else {"port": port}
                  for port, vlan in circuits]}
    if vrf:
        entry["routingDomain"] = {"type": "L3VNI", "l3vni": {"name": vrf}}
    return entry


def base(underlay_mtu=1500):
    """Two tenants with IPv4 underlay, one with IPv6 underlay, a routed port in `red`."""
    def port(name, mtu, mac=None, **more):
        return {"name": name, "driver": "null", "mtu": mtu, **({"mac": mac} if mac else {}), **more}
    vteps = [A, B]
    return {
        "ports": [
            port("up0", underlay_mtu, UP_MAC), port("host1", 9000), port("host2", 1400),
            port("trunk", 1500), port("host3", 1500), port("host6", 9000),
            port("leg0", 1500, LEG["mac"], vrf="red", exception={
                "addresses": [f"{LEG['ip4']}/24", f"{LEG['ip6']}/64"]})],
        "underlays": [{"interfaces": ["up0"], "tunnelEndpoint": {"addresses": [OWN[4], OWN[6]]}}],
        "l3vnis": [
            {"vrf": "red", "vni": RED, "underlayAddressFamily": "IPv4", "routerMAC": "auto"},
            {"vrf": "blue", "vni": BLUE, "underlayAddressFamily": "IPv4", "routerMAC": BLUE_RMAC},
            {"vrf": "six", "vni": SIX, "underlayAddressFamily": "IPv6", "routerMAC": SIX_RMAC}],
        "l2vnis": [
            l2vni(110, "red", ("host1", 0), ("trunk", 20), suppression=True),
            l2vni(120, "red", ("host2", 0), ("trunk", 30)),
            l2vni(210, "blue", ("host3", 0)),
            l2vni(160, "six", ("host6", 0), family="IPv6")],
        "control": {"routes": "none", "fpm": "none", "shadow": False},
        "static": {
            "vteps": [{"vni": vni, "address": v.address[6 if vni == 160 else 4]}
                      for v in vteps for vni in (110, 120, 160)],
            "macs": [{"vni": 110, "mac": REMOTE["mac"], "vtep": A.address[4]},
                     {"vni": 160, "mac": "02:00:00:00:06:20", "vtep": A.address[6]}],
            "neighbors": [{"vni": 110, "ip": REMOTE["ip4"], "mac": REMOTE["mac"]},
                          {"vni": 110, "ip": REMOTE["ip6"], "mac": REMOTE["mac"]}],
            "routes": [
                route("red", "10.9.0.0/16", via(A)), route("red", "2001:db8:9::/48", via(A)),
                route("blue", "10.9.0.0/16", via(B)), route("blue", "2001:db8:9::/48", via(B)),
                route("six", "10.9.0.0/16", via(A, 6)), route("six", "2001:db8:9::/48", via(A, 6))],
            "underlay": [{"prefix": f"{v.address[f]}/{32 if f == 4 else 128}",
                          "nexthops": [{"port": "up0", "mac": v.hop}]}
                         for v in (A, B, C) for f in (4, 6)]}}


@dataclass
class World:
    """A configuration, its hosts, and the netlink dump that goes with it."""
    name: str
    configuration: dict
    hosts: list = field(default_factory=lambda: [H1, H1V, H2, H2V, H3, H6])
    netlink: bytes = None
    # Whether what leaves is decodable for tshark: false where broken frames are bridged.
    clean: bool = True
    # Whether the replay runs twice, and must say the same.
    again: bool = False

    def greetings(self):
        """[(port, frame)] by which each host shows where it is: it asks for its gateway."""
        sent = []
        for host in self.hosts:
            gateway = GATEWAYS[host.vni]
            for packet in (arp_request(host.mac, host.ip4, gateway.ip4),
                           solicitation(host.mac, host.ip6, gateway.ip6)):
                sent.append((host.port, bytes(host.wire(packet))))
        return sent


WORLDS = {}


def world(name, change=None, **more):
    """Makes a world of the base configuration, after `change(configuration)`."""
    configuration = copy.deepcopy(base(more.pop("underlay_mtu", 1500)))
    if change:
        change(configuration)
    WORLDS[name] = World(name, configuration, **more)
    return name
