"""Symmetric IRB: out with the L3VNI, in for the own router MAC, between subnets of one node."""
from .frames import ICMP, TCP, UDP, Ether, Raw, ip, lower, vxlan
from .runner import case
from .worlds import (A, B, BLUE, BLUE_RMAC, GATEWAYS, H1, H1V, H2, H2V, H3, H6, OWN, RED, SIX, SIX_RMAC,
                     STRANGER, UP_MAC, l2vni, world)

MAIN = world("main")
FAMILIES = [(4,), (6,)]
FAR = {4: "10.9.0.5", 6: "2001:db8:9::5"}


def router_mac(t, vrf):
    """The own router MAC as `pe-dp show vrfs --json` says it."""
    rows = [row for row in t.output.state["vrfs"] if row["vrf"] == vrf]
    t.check(len(rows) == 1 and rows[0].get("routerMAC"), f"show vrfs has no router MAC for {vrf}: {rows}")
    return rows[0]["routerMAC"]


def to_gateway(host, packet):
    return Ether(src=host.mac, dst=GATEWAYS[host.vni].mac) / packet


def probe(t, src, dst, size=32, sport=1000, dport=2000, **fields):
    """(UDP packet with a tag, tag)."""
    payload, tag = t.payload(size)
    return ip(src, dst, **fields) / UDP(sport=sport, dport=dport) / Raw(payload), tag


# (host, VRF, L3VNI, VTEP, underlay family)
TENANTS = {"red": (H1, RED, A, 4), "blue": (H3, BLUE, B, 4), "six": (H6, SIX, A, 6)}


@case(each=[(v, f) for v in TENANTS for f in (4, 6)])
def irb_out(t, vrf, family):
    """Out: L3VNI, inner MACs = remote and own router MAC, TTL less one, every outer field right."""
    host, vni, vtep, underlay = TENANTS[vrf]
    packets = [probe(t, host.ip(family), FAR[family], size, ttl=64) for size in (8, 32, 33, 700, 1300)]
    payload, tag = t.payload(40)
    packets.append((ip(host.ip(family), FAR[family]) / TCP(sport=7, dport=9, flags="S", seq=5) / Raw(payload), tag))
    for packet, tag in packets:
        t.send(host, to_gateway(host, packet))
    yield
    own = router_mac(t, vrf)
    for packet, tag in packets:
        t.tunnelled(tag, vtep, vni, Ether(src=own, dst=vtep.rmac) / lower(packet), underlay)


@case(each=FAMILIES)
def irb_out_trunk(t, family):
    """A VLAN circuit's tag is gone inside the tunnel."""
    packet, tag = probe(t, H1V.ip(family), FAR[family])
    t.send(H1V, to_gateway(H1V, packet))
    yield
    t.tunnelled(tag, A, RED, Ether(src=router_mac(t, "red"), dst=A.rmac) / lower(packet))


@case()
def router_macs(t):
    """The configured router MAC is the own one; `auto` is unicast and locally administered."""
    yield
    t.check(router_mac(t, "blue") == BLUE_RMAC, "blue's router MAC is not the configured one")
    t.check(router_mac(t, "six") == SIX_RMAC, "six's router MAC is not the configured one")
    first = int(router_mac(t, "red")[:2], 16)
    t.check(first & 3 == 2, f"red's router MAC begins with {first:02x}")


def own_mac(vrf):
    return {"blue": BLUE_RMAC, "six": SIX_RMAC}[vrf]


INWARD = {"blue": (H3, BLUE, B, 4), "six": (H6, SIX, B, 6)}


@case(each=[(v, f) for v in ("blue",) for f in (4, 6)])
def irb_in(t, vrf, family):
    """In: for the own router MAC, to the host with the gateway's MAC, TTL less one."""
    host, vni, vtep, underlay = INWARD[vrf]
    sent = [probe(t, FAR[family], host.ip(family), size) for size in (8, 33, 1200)]
    for packet, _ in sent:
        t.fabric(vtep, vni, Ether(src=vtep.rmac, dst=own_mac(vrf)) / packet, underlay)
    yield
    for packet, tag in sent:
        t.arrives(tag, host, Ether(src=GATEWAYS[host.vni].mac, dst=host.mac) / lower(packet))


@case(each=[(f, c) for f in (4, 6) for c in ("computed", "zero")])
def irb_in_over_ipv6(t, family, checksum):
    """Over IPv6 a right UDP checksum and none at all are accepted."""
    packet, tag = probe(t, FAR[family], H6.ip(family), 33)
    more = {"checksum": 0} if checksum == "zero" else {}
    t.fabric(A, SIX, Ether(src=A.rmac, dst=SIX_RMAC) / packet, 6, **more)
    yield
    t.arrives(tag, H6, Ether(src=GATEWAYS[160].mac, dst=H6.mac) / lower(packet))


@case(each=[(4,), (6,)])
def irb_in_wrong_checksum(t, underlay):
    """A wrong outer UDP checksum is dropped, on both underlays; a right one over IPv4 is accepted."""
    vrf, host, vni, vtep = ("blue", H3, BLUE, B) if underlay == 4 else ("six", H6, SIX, A)
    inner, tag = probe(t, FAR[4], host.ip4)
    frame = Ether(src=vtep.rmac, dst=own_mac(vrf)) / inner
    t.fabric(vtep, vni, frame, underlay, checksum=0x1234)
    t.drops("outerUDPChecksum")
    good, good_tag = probe(t, FAR[4], host.ip4)
    packet = vxlan(vtep.address[underlay], OWN[underlay], vni, Ether(src=vtep.rmac, dst=own_mac(vrf)) / good,
                   src_mac=vtep.hop, dst_mac=UP_MAC)
    del packet[UDP].chksum
    t.send("up0", packet)
    yield
    t.nothing(tag)
    t.arrives(good_tag, host, Ether(src=GATEWAYS[host.vni].mac, dst=host.mac) / lower(good))


@case()
def irb_in_wrong_router_mac(t):
    """Anything but the own router MAC is refused: another's, a gateway's, broadcast, the VTEP's own."""
    tags = []
    for mac in ("02:bb:00:00:00:02", GATEWAYS[210].mac, "ff:ff:ff:ff:ff:ff", B.rmac, "01:00:5e:00:00:05", SIX_RMAC):
        packet, tag = probe(t, FAR[4], H3.ip4)
        t.fabric(B, BLUE, Ether(src=B.rmac, dst=mac) / packet)
        tags.append(tag)
    t.drops("wrongRouterMAC", len(tags))
    yield
    for tag in tags:
        t.nothing(tag)


@case()
def irb_in_unknown_vtep(t):
    """A sender that is no VTEP of this VRF is refused, also when it is one of another VRF."""
    tags = []
    for vtep in (STRANGER, A):      # blue routes to B alone
        packet, tag = probe(t, FAR[4], H3.ip4)
        t.fabric(vtep, BLUE, Ether(src=vtep.rmac, dst=BLUE_RMAC) / packet)
        tags.append(tag)
    t.drops("unknownVTEP", 2)
    yield
    for tag in tags:
        t.nothing(tag)


@case()
def irb_in_own_source(t):
    """A packet that claims to come from the own tunnel endpoint is refused."""
    packet, tag = probe(t, FAR[4], H3.ip4)
    t.send("up0", vxlan(OWN[4], OWN[4], BLUE, Ether(src=B.rmac, dst=BLUE_RMAC) / packet, dst_mac=UP_MAC))
    t.drops("ownVTEPSource")
    yield
    t.nothing(tag)


@case()
def irb_in_flags(t):
    """The I flag is required; other flags and the reserved bits are ignored."""
    packet, tag = probe(t, FAR[4], H3.ip4)
    frame = bytearray(bytes(vxlan(B.address[4], OWN[4], BLUE, Ether(src=B.rmac, dst=BLUE_RMAC) / packet,
                                  src_mac=B.hop, dst_mac=UP_MAC)))
    frame[42] = 0x00
    t.send("up0", bytes(frame))
    t.drops("vxlanFlags")
    other, other_tag = probe(t, FAR[4], H3.ip4)
    frame = bytearray(bytes(vxlan(B.address[4], OWN[4], BLUE, Ether(src=B.rmac, dst=BLUE_RMAC) / other,
                                  src_mac=B.hop, dst_mac=UP_MAC)))
    frame[42:46], frame[49] = b"\xff\xff\xff\xff", 0xFF
    t.send("up0", bytes(frame))
    yield
    t.nothing(tag)
    t.arrives(other_tag, H3, Ether(src=GATEWAYS[210].mac, dst=H3.mac) / lower(other))


@case(each=FAMILIES)
def asymmetric_in(t, family):
    """In an L2VNI, a packet for the gateway's MAC is routed to the other subnet."""
    packet, tag = probe(t, "192.170.1.20" if family == 4 else "2001:db8:1::20", H2.ip(family))
    t.fabric(A, 110, Ether(src="02:00:00:00:01:20", dst=GATEWAYS[110].mac) / packet)
    yield
    t.arrives(tag, H2, Ether(src=GATEWAYS[120].mac, dst=H2.mac) / lower(packet))


PAIRS = {"h1-h2": (H1, H2), "h2-h1": (H2, H1), "h1v-h2": (H1V, H2), "h1-h2v": (H1, H2V), "h1v-h2v": (H1V, H2V),
         "h1-h1v": (H1, H1V)}


@case(each=[(p, f) for p in PAIRS for f in (4, 6)])
def inter_subnet(t, pair, family):
    """Between hosts of one node: gateway's MAC, TTL less one, the tags of each circuit, no fabric."""
    source, target = PAIRS[pair]
    packet, tag = probe(t, source.ip(family), target.ip(family), 200)
    t.send(source, to_gateway(source, packet))
    payload, echo_tag = t.payload(56)
    if family == 4:
        echo = ip(source.ip4, target.ip4) / ICMP(id=3, seq=4) / Raw(payload)
        t.send(source, to_gateway(source, echo))
    yield
    mac = GATEWAYS[target.vni].mac
    t.arrives(tag, target, Ether(src=mac, dst=target.mac) / lower(packet))
    if family == 4:
        t.arrives(echo_tag, target, Ether(src=mac, dst=target.mac) / lower(echo))


@case()
def not_ip(t):
    """What is neither IPv4 nor IPv6 for a gateway's or router's MAC is dropped by name."""
    payload, tag = t.payload(50)
    t.send(H1, Ether(src=H1.mac, dst=GATEWAYS[110].mac, type=0x88B5) / Raw(payload))
    inner, inner_tag = t.payload(50)
    t.fabric(B, BLUE, Ether(src=B.rmac, dst=BLUE_RMAC, type=0x88B5) / Raw(inner))
    t.drops("notRoutable", 2)
    yield
    t.nothing(tag)
    t.nothing(inner_tag)


@case(each=FAMILIES)
def padding(t, family):
    """What Ethernet padded is trimmed to the IP length before it is sent into the fabric or on."""
    packet, tag = probe(t, H1.ip(family), FAR[family], 8)
    t.send(H1, bytes(to_gateway(H1, packet)) + bytes(24))
    local, local_tag = probe(t, H1.ip(family), H2.ip(family), 8)
    t.send(H1, bytes(to_gateway(H1, local)) + b"\xee" * 24)
    inward, inward_tag = probe(t, FAR[family], H3.ip(family), 8)
    t.fabric(B, BLUE, bytes(Ether(src=B.rmac, dst=BLUE_RMAC) / inward) + b"\xdd" * 20)
    yield
    t.tunnelled(tag, A, RED, Ether(src=router_mac(t, "red"), dst=A.rmac) / lower(packet))
    t.arrives(local_tag, H2, Ether(src=GATEWAYS[120].mac, dst=H2.mac) / lower(local))
    t.arrives(inward_tag, H3, Ether(src=GATEWAYS[210].mac, dst=H3.mac) / lower(inward))


@case()
def gateway_source(t):
    """A host's frame from the gateway's MAC is refused; a peer that routes asymmetrically sends such ones."""
    packet, tag = probe(t, H1.ip4, FAR[4])
    t.send(H1, Ether(src=GATEWAYS[110].mac, dst="ff:ff:ff:ff:ff:ff") / packet)
    other, other_tag = probe(t, H2.ip4, H1.ip4)
    frame = Ether(src=GATEWAYS[110].mac, dst=H1.mac) / other
    t.fabric(A, 110, frame)
    t.drops("gatewaySourceMAC")
    yield
    t.nothing(tag)
    t.arrives(other_tag, H1, frame)
    t.check(not [r for r in t.output.state["fdb"] if r["mac"] == GATEWAYS[110].mac and r.get("type") == "local"],
            "the gateway's MAC was learned")


def _other(configuration):
    configuration["underlays"][0]["udp6ZeroChecksumTx"] = True
    next(l3vni for l3vni in configuration["l3vnis"] if l3vni["vrf"] == "six")["vxlanPort"] = 8472


OTHER = world("other", _other)


@case(OTHER, each=FAMILIES)
def zero_checksum(t, family):
    """`udp6ZeroChecksumTx` and `vxlanPort`: no UDP checksum over IPv6, the configured port both ways."""
    packet, tag = probe(t, H6.ip(family), FAR[family])
    t.send(H6, to_gateway(H6, packet))
    inward, inward_tag = probe(t, FAR[family], H6.ip(family))
    t.fabric(A, SIX, Ether(src=A.rmac, dst=SIX_RMAC) / inward, 6, dport=8472)
    wrong, wrong_tag = probe(t, FAR[family], H6.ip(family))
    t.fabric(A, SIX, Ether(src=A.rmac, dst=SIX_RMAC) / wrong, 6)
    t.drops("wrongVXLANPort")
    yield
    t.tunnelled(tag, A, SIX, Ether(src=SIX_RMAC, dst=A.rmac) / lower(packet), 6, checksum=0, dport=8472)
    t.arrives(inward_tag, H6, Ether(src=GATEWAYS[160].mac, dst=H6.mac) / lower(inward))
    t.nothing(wrong_tag)


def _no_routing(configuration):
    configuration["l2vnis"] = [l2 for l2 in configuration["l2vnis"] if l2["vni"] != 210]
    configuration["l2vnis"].append(l2vni(210, None, ("host3", 0)))


BRIDGE = world("bridge", _no_routing)


@case(BRIDGE)
def without_routing_domain(t):
    """To the gateway of an L2 VNI without a routing domain: dropped by name."""
    packet, tag = probe(t, H3.ip4, FAR[4])
    t.send(H3, to_gateway(H3, packet))
    t.drops("noRouting")
    yield
    t.nothing(tag)
