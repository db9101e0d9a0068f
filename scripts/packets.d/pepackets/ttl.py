"""TTL and hop limit: one less at each PE, time exceeded from the gateway, back to whoever sent."""
from scapy.layers.inet6 import IPv6

from .frames import ICMP, UDP, Ether, Raw, ip, lower
from .irb import FAR, FAMILIES, own_mac, probe, router_mac, to_gateway
from .runner import case
from .worlds import A, B, BLUE, BLUE_RMAC, GATEWAYS, H1, H1V, H2, H3, H6, RED, SIX

EXCEEDED = {4: (11, 0), 6: (3, 0)}


@case(each=[(f, n) for f in (4, 6) for n in (0, 1)])
def ttl_out(t, family, ttl):
    """A local packet with TTL 0 or 1 is dropped; time exceeded comes from the gateway."""
    sent = []
    for host in (H1, H1V, H3, H6):
        for size in (8, 33, 900, 1380):
            packet, tag = probe(t, host.ip(family), FAR[family], size, ttl=ttl)
            t.send(host, to_gateway(host, packet))
            sent.append((host, packet, tag))
    t.drops("ttlExpired", len(sent))
    yield
    for host, packet, tag in sent:
        t.error(tag, host, packet, *EXCEEDED[family])


@case(each=FAMILIES)
def ttl_two_out(t, family):
    """TTL 2 leaves as 1."""
    packet, tag = probe(t, H1.ip(family), FAR[family], ttl=2)
    t.send(H1, to_gateway(H1, packet))
    yield
    t.tunnelled(tag, A, RED, Ether(src=router_mac(t, "red"), dst=A.rmac) / lower(packet))


@case(each=[(f, n) for f in (4, 6) for n in (0, 1)])
def ttl_between(t, family, ttl):
    """Between subnets of the node as well."""
    packet, tag = probe(t, H1.ip(family), H2.ip(family), ttl=ttl)
    t.send(H1, to_gateway(H1, packet))
    good, good_tag = probe(t, H1.ip(family), H2.ip(family), ttl=2)
    t.send(H1, to_gateway(H1, good))
    t.drops("ttlExpired")
    yield
    t.error(tag, H1, packet, *EXCEEDED[family])
    t.arrives(good_tag, H2, Ether(src=GATEWAYS[120].mac, dst=H2.mac) / lower(good))


def remote_error(t, tag, vrf, original, kind, code, sources, mtu=None):
    """One ICMP error about a packet of the fabric goes back through the L3VNI to its sender."""
    vni, vtep, underlay = {"blue": (BLUE, B, 4), "six": (SIX, A, 6), "red": (RED, A, 4)}[vrf]
    actual = t.one(tag, "up0", "the ICMP error")
    packet = Ether(actual)
    inner = packet[UDP].payload.payload
    expected = t.error_packet(inner.payload, original, kind, code, sources, mtu, "the ICMP error")
    own = router_mac(t, vrf)
    tos = inner.payload.tc if isinstance(inner.payload, IPv6) else inner.payload.tos
    t.encapsulated(actual, vtep, vni, Ether(src=own, dst=vtep.rmac) / expected, underlay,
                   "the ICMP error", tos=tos & 3)


@case(each=[(v, f, n) for v in ("blue", "six") for f in (4, 6) for n in (0, 1)])
def ttl_in(t, vrf, family, ttl):
    """From the fabric with TTL 0 or 1: time exceeded goes back through the fabric."""
    host, vni, vtep, underlay = {"blue": (H3, BLUE, B, 4), "six": (H6, SIX, A, 6)}[vrf]
    sent = [probe(t, FAR[family], host.ip(family), size, ttl=ttl) for size in (8, 700)]
    for packet, _ in sent:
        t.fabric(vtep, vni, Ether(src=vtep.rmac, dst=own_mac(vrf)) / packet, underlay)
    t.drops("ttlExpired", len(sent))
    yield
    for packet, tag in sent:
        remote_error(t, tag, vrf, packet, *EXCEEDED[family], [GATEWAYS[host.vni].ip(family)])


@case(each=FAMILIES)
def ttl_two_in(t, family):
    """TTL 2 from the fabric reaches the host as 1."""
    packet, tag = probe(t, FAR[family], H3.ip(family), ttl=2)
    t.fabric(B, BLUE, Ether(src=B.rmac, dst=BLUE_RMAC) / packet)
    yield
    t.arrives(tag, H3, Ether(src=GATEWAYS[210].mac, dst=H3.mac) / lower(packet))


@case(each=FAMILIES)
def ttl_bridged(t, family):
    """Bridged packets keep their TTL, whatever it is."""
    sent = []
    for ttl in (0, 1, 64):
        packet, tag = probe(t, H1.ip(family), H1V.ip(family), ttl=ttl)
        t.send(H1, Ether(src=H1.mac, dst=H1V.mac) / packet)
        sent.append((packet, tag))
    yield
    for packet, tag in sent:
        t.arrives(tag, H1V, Ether(src=H1.mac, dst=H1V.mac) / packet)


@case()
def ttl_one_to_gateway(t):
    """A packet for the gateway itself needs no further hop: echo with TTL 1 is answered."""
    payload, tag = t.payload(56)
    t.send(H1, to_gateway(H1, ip(H1.ip4, GATEWAYS[110].ip4, ttl=1) / ICMP(id=1, seq=1) / Raw(payload)))
    yield
    packet = Ether(t.one(tag, "host1"))
    t.check(packet.haslayer(ICMP) and packet[ICMP].type == 0, f"got {packet.summary()}")
