"""Which route decides: longest prefix, blackholes, leaks between VRFs, and never another tenant's."""
from .frames import Ether, lower
from .irb import FAR, own_mac, probe, router_mac, to_gateway
from .runner import case
from .worlds import A, B, BLUE, C, GATEWAYS, H1, H2, H3, H6, RED, SIX, route, via, world


def _table(configuration):
    def leak(vrf, prefix, other):
        return {"vrf": vrf, "prefix": prefix, "nexthops": [{"vrf": other}]}
    configuration["static"]["routes"] += [
        # Longest prefix, with a hole in it.
        route("red", "10.30.0.0/16", via(A)), route("red", "10.30.1.0/24", via(B)),
        route("red", "10.30.1.128/25", kind="blackhole"), route("red", "10.30.1.200/32", via(C)),
        route("red", "2001:db8:30::/48", via(A)), route("red", "2001:db8:30:1::/64", via(B)),
        route("red", "2001:db8:30:1::/65", kind="blackhole"), route("red", "2001:db8:30:1::200/128", via(C)),
        # A default route over everything, and a host in a blackhole.
        route("six", "0.0.0.0/0", via(A, 6)), route("six", "10.31.0.0/16", kind="blackhole"),
        route("six", "10.31.0.9/32", via(B, 6)),
        route("six", "::/0", via(A, 6)), route("six", "2001:db8:31::/48", kind="blackhole"),
        route("six", "2001:db8:31::9/128", via(B, 6)),
        # A more specific route within a connected subnet.
        route("red", "192.170.2.128/25", via(C)),
        # Leaks: red to blue, blue's own route; round and round.
        leak("red", "10.60.0.0/16", "blue"), route("blue", "10.60.0.0/16", via(B)),
        leak("red", "2001:db8:60::/48", "blue"), route("blue", "2001:db8:60::/48", via(B)),
        leak("red", "10.61.0.0/16", "blue"),
        leak("red", "10.70.0.0/16", "blue"), leak("blue", "10.70.0.0/16", "red"),
        leak("red", "2001:db8:70::/48", "blue"), leak("blue", "2001:db8:70::/48", "red"),
        # One tenant's route.
        route("red", "10.80.0.0/16", via(A)), route("red", "2001:db8:80::/48", via(A))]


ROUTES = world("routes", _table)

# (VRF, target, VTEP or drop reason): longest prefixes and their edges.
LONGEST = [
    ("red", "10.30.0.1", A), ("red", "10.30.255.255", A), ("red", "10.30.1.0", B), ("red", "10.30.1.127", B),
    ("red", "10.30.1.128", "blackholeRoute"), ("red", "10.30.1.199", "blackholeRoute"), ("red", "10.30.1.200", C),
    ("red", "10.30.1.201", "blackholeRoute"), ("red", "10.30.1.255", "blackholeRoute"), ("red", "10.30.2.0", A),
    ("red", "2001:db8:30::1", A), ("red", "2001:db8:30:0:ffff::1", A), ("red", "2001:db8:30:1:8000::1", B),
    ("red", "2001:db8:30:1::1", "blackholeRoute"), ("red", "2001:db8:30:1::200", C),
    ("red", "2001:db8:30:1::201", "blackholeRoute"), ("red", "2001:db8:30:2::", A),
    ("red", "2001:db8:30:ffff:ffff:ffff:ffff:ffff", A),
    ("six", "8.8.8.8", A), ("six", "1.0.0.1", A), ("six", "223.255.255.254", A), ("six", "10.31.0.8", "blackholeRoute"),
    ("six", "10.31.0.9", B), ("six", "10.31.0.10", "blackholeRoute"), ("six", "10.32.0.0", A),
    ("six", "2a00::1", A), ("six", "2001:db8:31::8", "blackholeRoute"), ("six", "2001:db8:31::9", B),
    ("six", "2001:db8:32::9", A), ("red", "192.170.2.200", C)]


@case(ROUTES)
def longest_prefix(t):
    """The longest prefix decides, up to its last address; /0 takes the rest, /32 and /128 win."""
    sent = []
    for vrf, target, wanted in LONGEST:
        host = {"red": H1, "six": H6}[vrf]
        packet, tag = probe(t, host.ip(6 if ":" in target else 4), target)
        t.send(host, to_gateway(host, packet))
        sent.append((vrf, target, wanted, packet, tag))
        if isinstance(wanted, str):
            t.drops(wanted)
    yield
    for vrf, target, wanted, packet, tag in sent:
        if isinstance(wanted, str):
            t.nothing(tag, target)
            continue
        vni, outer = {"red": (RED, 4), "six": (SIX, 6)}[vrf]
        t.tunnelled(tag, wanted, vni, Ether(src=router_mac(t, vrf), dst=wanted.rmac) / lower(packet), outer, target)


@case(ROUTES, each=[(4,), (6,)])
def leak(t, family):
    """A route into another VRF is looked up again there, and leaves as that VRF's packet."""
    target = "10.60.0.9" if family == 4 else "2001:db8:60::9"
    packet, tag = probe(t, H1.ip(family), target)
    t.send(H1, to_gateway(H1, packet))
    yield
    t.tunnelled(tag, B, BLUE, Ether(src=own_mac("blue"), dst=B.rmac) / lower(packet))


@case(ROUTES)
def leak_without_route(t):
    """Where the other VRF has no route, there is none."""
    packet, tag = probe(t, H1.ip4, "10.61.0.9")
    t.send(H1, to_gateway(H1, packet))
    t.drops("noRoute")
    yield
    t.error(tag, H1, packet, 3, 0)


@case(ROUTES, each=[(4,), (6,)])
def leak_loop(t, family):
    """Routes that lead from VRF to VRF and back end as a loop, from either side."""
    target, tags = "10.70.0.9" if family == 4 else "2001:db8:70::9", []
    for host in (H1, H3):
        packet, tag = probe(t, host.ip(family), target)
        t.send(host, to_gateway(host, packet))
        tags.append((host, packet, tag))
    t.drops("routingLoop", 2)
    yield
    for host, packet, tag in tags:
        if t.found(tag):
            t.error(tag, host, packet, 3 if family == 4 else 1, 0)


@case(ROUTES, each=[(4,), (6,)])
def no_fall_through(t, family):
    """A miss never falls through to another VRF: one tenant's route is not the other's."""
    target = "10.80.0.9" if family == 4 else "2001:db8:80::9"
    own, own_tag = probe(t, H1.ip(family), target)
    t.send(H1, to_gateway(H1, own))
    other, other_tag = probe(t, H3.ip(family), target)
    t.send(H3, to_gateway(H3, other))
    # Blue has no such host nor subnet; red has.
    across, across_tag = probe(t, H3.ip(family), H2.ip(family))
    t.send(H3, to_gateway(H3, across))
    t.drops("noRoute", 2)
    yield
    t.tunnelled(own_tag, A, RED, Ether(src=router_mac(t, "red"), dst=A.rmac) / lower(own))
    for packet, tag in ((other, other_tag), (across, across_tag)):
        t.error(tag, H3, packet, 3 if family == 4 else 1, 0)


@case(ROUTES, each=[(4,), (6,)])
def same_prefixes(t, family):
    """The same prefix, host and address in two VRFs: each tenant reaches its own."""
    mine, mine_tag = probe(t, H1.ip(family), FAR[family])
    t.send(H1, to_gateway(H1, mine))
    yours, yours_tag = probe(t, H3.ip(family), FAR[family])
    t.send(H3, to_gateway(H3, yours))
    inward, inward_tag = probe(t, FAR[family], H3.ip(family))
    t.fabric(B, BLUE, Ether(src=B.rmac, dst=own_mac("blue")) / inward)
    yield
    t.tunnelled(mine_tag, A, RED, Ether(src=router_mac(t, "red"), dst=A.rmac) / lower(mine))
    t.tunnelled(yours_tag, B, BLUE, Ether(src=own_mac("blue"), dst=B.rmac) / lower(yours))
    t.arrives(inward_tag, H3, Ether(src=GATEWAYS[210].mac, dst=H3.mac) / lower(inward))
