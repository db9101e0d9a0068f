"""ECN (RFC 6040), DSCP and TTL across the tunnel, in both directions, routed and bridged."""
from .frames import Ether, Raw, lower
from .irb import FAR, probe, router_mac, to_gateway
from .runner import case
from .worlds import (A, B, BLUE, BLUE_RMAC, GATEWAYS, H1, H3, H6, RED, REMOTE, SIX, SIX_RMAC, world)

# RFC 6040 figure 4, [inner][outer]; None: drop. 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE.
DECAPSULATED = {0: {0: 0, 2: 0, 1: 0, 3: None}, 2: {0: 2, 2: 2, 1: 1, 3: 3}, 1: {0: 1, 2: 1, 1: 1, 3: 3},
                3: {0: 3, 2: 3, 1: 3, 3: 3}}
H6_REMOTE = "02:00:00:00:06:20"


def underlay(**values):
    def change(configuration):
        configuration["underlays"][0].update(values)
    return change


FIXED = world("fixed", underlay(dscp=46, ttl=17))
COPY = world("copy", underlay(dscp="copy", ttl="copy"))
MARKS = world("marks")


def retos(packet, tos):
    """The packet with another DSCP and ECN, its checksum right."""
    packet = packet.copy()
    if hasattr(packet, "tc"):
        packet.tc = tos
    else:
        packet.tos = tos
        del packet.chksum
    return packet


@case(MARKS, each=[(v, f) for v in ("red", "six") for f in (4, 6)])
def ecn_routed_out(t, vrf, family):
    """Routed out: the inner ECN goes into the outer header, the inner stays."""
    host, vni, vtep, outer = {"red": (H1, RED, A, 4), "six": (H6, SIX, A, 6)}[vrf]
    sent = []
    for tos in (0, 1, 2, 3, 0xB8, 0xB9, 0xBA, 0xBB):
        packet, tag = probe(t, host.ip(family), FAR[family], tos=tos)
        t.send(host, to_gateway(host, packet))
        sent.append((tos, packet, tag))
    yield
    for tos, packet, tag in sent:
        t.tunnelled(tag, vtep, vni, Ether(src=router_mac(t, vrf), dst=vtep.rmac) / lower(packet), outer,
                    f"TOS {tos:#x}", tos=tos & 3)


@case(MARKS, each=[(4, 4), (4, 6), (6, 4), (6, 6)])
def ecn_bridged_out(t, family, outer):
    """Bridged out: the same."""
    host, vni, mac = (H1, 110, REMOTE["mac"]) if outer == 4 else (H6, 160, H6_REMOTE)
    sent = []
    for tos in (0, 1, 2, 3, 0xB8, 0xBB):
        packet, tag = probe(t, host.ip(family), FAR[family], tos=tos)
        t.send(host, Ether(src=host.mac, dst=mac) / packet)
        sent.append((tos, packet, tag))
    yield
    for tos, packet, tag in sent:
        t.tunnelled(tag, A, vni, Ether(src=host.mac, dst=mac) / packet, outer, f"TOS {tos:#x}", tos=tos & 3)


def _inward(t, family, outer, address, destination, source, target, finish):
    """All 16 combinations towards a local host; `finish(packet)` is what becomes of each on the way."""
    host, vni, vtep = target
    sent = []
    for inner_ecn in range(4):
        for outer_ecn in range(4):
            packet, tag = probe(t, address, host.ip(family), tos=0x48 | inner_ecn)
            t.fabric(vtep, vni, Ether(src=source, dst=destination) / packet, outer, tos=0x90 | outer_ecn)
            sent.append((inner_ecn, outer_ecn, packet, tag))
    t.drops("ecnCongestion")
    yield
    for inner_ecn, outer_ecn, packet, tag in sent:
        ecn = DECAPSULATED[inner_ecn][outer_ecn]
        what = f"inner ECN {inner_ecn}, outer {outer_ecn}"
        if ecn is None:
            t.nothing(tag, what)
        else:
            t.arrives(tag, host, finish(retos(packet, 0x48 | ecn)), what)


@case(MARKS, each=[(4, 4), (6, 4), (4, 6), (6, 6)])
def ecn_routed_in(t, family, outer):
    """Routed in: all 16 combinations as RFC 6040 says; DSCP and TTL of the outer header change nothing."""
    target, own = ((H3, BLUE, B), BLUE_RMAC) if outer == 4 else ((H6, SIX, A), SIX_RMAC)
    host = target[0]
    yield from _inward(t, family, outer, FAR[family], own, target[2].rmac, target,
                       lambda p: Ether(src=GATEWAYS[host.vni].mac, dst=host.mac) / lower(p))


@case(MARKS, each=[(4, 4), (6, 4), (4, 6), (6, 6)])
def ecn_bridged_in(t, family, outer):
    """Bridged in: the same 16."""
    target, source = ((H1, 110, A), REMOTE["mac"]) if outer == 4 else ((H6, 160, A), H6_REMOTE)
    host = target[0]
    yield from _inward(t, family, outer, FAR[family], host.mac, source, target,
                       lambda p: Ether(src=source, dst=host.mac) / p)


@case(FIXED, each=[(4,), (6,)])
def dscp_fixed(t, family):
    """A fixed DSCP and TTL: the same for every packet, routed or bridged; ECN beside it as ever."""
    routed = []
    for tos, ttl in ((0, 64), (0xB9, 200), (0x03, 5)):
        packet, tag = probe(t, H1.ip(family), FAR[family], tos=tos, ttl=ttl)
        t.send(H1, to_gateway(H1, packet))
        six, six_tag = probe(t, H6.ip(family), FAR[family], tos=tos, ttl=ttl)
        t.send(H6, to_gateway(H6, six))
        bridged, bridged_tag = probe(t, H1.ip(family), FAR[family], tos=tos, ttl=ttl)
        t.send(H1, Ether(src=H1.mac, dst=REMOTE["mac"]) / bridged)
        routed.append((tos, packet, tag, six, six_tag, bridged, bridged_tag))
    yield
    for tos, packet, tag, six, six_tag, bridged, bridged_tag in routed:
        mark = {"tos": 46 << 2 | tos & 3, "ttl": 17}
        t.tunnelled(tag, A, RED, Ether(src=router_mac(t, "red"), dst=A.rmac) / lower(packet), **mark)
        t.tunnelled(six_tag, A, SIX, Ether(src=SIX_RMAC, dst=A.rmac) / lower(six), 6, **mark)
        t.tunnelled(bridged_tag, A, 110, Ether(src=H1.mac, dst=REMOTE["mac"]) / bridged, **mark)


@case(COPY, each=[(4,), (6,)])
def dscp_copied(t, family):
    """`copy`: DSCP and TTL of the packet as it is sent on, routed or bridged."""
    sent = []
    for tos, ttl in ((0, 64), (0xB9, 200), (0x2B, 2), (0xFF, 255)):
        packet, tag = probe(t, H1.ip(family), FAR[family], tos=tos, ttl=ttl)
        t.send(H1, to_gateway(H1, packet))
        six, six_tag = probe(t, H6.ip(family), FAR[family], tos=tos, ttl=ttl)
        t.send(H6, to_gateway(H6, six))
        bridged, bridged_tag = probe(t, H1.ip(family), FAR[family], tos=tos, ttl=ttl)
        t.send(H1, Ether(src=H1.mac, dst=REMOTE["mac"]) / bridged)
        sent.append((tos, ttl, packet, tag, six, six_tag, bridged, bridged_tag))
    yield
    for tos, ttl, packet, tag, six, six_tag, bridged, bridged_tag in sent:
        t.tunnelled(tag, A, RED, Ether(src=router_mac(t, "red"), dst=A.rmac) / lower(packet), tos=tos, ttl=ttl - 1)
        t.tunnelled(six_tag, A, SIX, Ether(src=SIX_RMAC, dst=A.rmac) / lower(six), 6, tos=tos, ttl=ttl - 1)
        t.tunnelled(bridged_tag, A, 110, Ether(src=H1.mac, dst=REMOTE["mac"]) / bridged, tos=tos, ttl=ttl)


@case(COPY)
def dscp_without_ip(t):
    """What is no IP has DSCP 0, ECN 0 and TTL 64 outside, also where they are copied."""
    payload, tag = t.payload(50)
    frame = Ether(src=H1.mac, dst=REMOTE["mac"], type=0x88B5) / Raw(payload)
    t.send(H1, frame)
    yield
    t.tunnelled(tag, A, 110, frame, tos=0, ttl=64)
