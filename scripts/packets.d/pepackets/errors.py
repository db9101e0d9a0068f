"""ICMP unreachable: for which routes, with which code, and for which packets never."""
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6TimeExceeded

from .frames import ICMP, IP, TCP, UDP, Ether, Raw, ip
from .irb import FAR, probe, to_gateway
from .runner import case
from .ttl import remote_error
from .worlds import B, BLUE, BLUE_RMAC, GATEWAYS, H1, H1V, route, world


def _refusing(configuration):
    configuration["static"]["routes"] += [
        route("red", "10.41.0.0/16", kind="unreachable"), route("red", "2001:db8:41::/48", kind="unreachable"),
        route("red", "10.42.0.0/16", kind="prohibit"), route("red", "2001:db8:42::/48", kind="prohibit"),
        route("red", "10.43.0.0/16", kind="blackhole"), route("red", "2001:db8:43::/48", kind="blackhole"),
        route("blue", "10.41.0.0/16", kind="unreachable"), route("blue", "2001:db8:41::/48", kind="unreachable"),
        # A next hop whose router MAC nobody has announced.
        {"vrf": "red", "prefix": "10.44.0.0/16", "nexthops": [{"vtep": B.address[4]}]},
        {"vrf": "red", "prefix": "2001:db8:44::/48", "nexthops": [{"vtep": B.address[4]}]}]


ERRORS = world("errors", _refusing)

# What the route is: its prefix number, the drop reason, type and code by family; None: silent.
# RFC 1812 5.2.7.1 and 4443 3.1; unreachable routes as the Linux kernel answers them.
KINDS = {
    "none": (45, "noRoute", {4: [(3, 0)], 6: [(1, 0)]}),
    "unreachable": (41, "unreachableRoute", {4: [(3, 1), (3, 0)], 6: [(1, 0), (1, 3)]}),
    "prohibit": (42, "prohibitRoute", {4: [(3, 13)], 6: [(1, 1)]}),
    "blackhole": (43, "blackholeRoute", None),
    "no-router-mac": (44, "noRouterMAC", None)}


def _target(number, family):
    return f"10.{number}.0.9" if family == 4 else f"2001:db8:{number}::9"


@case(ERRORS, each=[(k, f) for k in KINDS for f in (4, 6)])
def unreachable(t, kind, family):
    """No route, unreachable and prohibit answer with their code; a blackhole says nothing."""
    number, reason, answers = KINDS[kind]
    sent = []
    for host in (H1, H1V):
        for size in (8, 600, 1400):
            packet, tag = probe(t, host.ip(family), _target(number, family), size)
            t.send(host, to_gateway(host, packet))
            sent.append((host, packet, tag))
        echo_payload, tag = t.payload(56)
        packet = ip(host.ip(family), _target(number, family)) / (
            ICMP(id=1, seq=2) if family == 4 else ICMPv6EchoRequest(id=1, seq=2)) / Raw(echo_payload)
        t.send(host, to_gateway(host, packet))
        sent.append((host, packet, tag))
    t.drops(reason, len(sent))
    yield
    for host, packet, tag in sent:
        if answers is None:
            t.nothing(tag)
            continue
        allowed = answers[family]
        message = Ether(t.one(tag, host.port, "the ICMP error")).getlayer(ICMP if family == 4 else ICMPv6DestUnreach)
        code = message.code if message and (message.type, message.code) in allowed else allowed[0][1]
        t.error(tag, host, packet, allowed[0][0], code)


@case(ERRORS, each=[(k, f) for k in ("none", "unreachable") for f in (4, 6)])
def unreachable_remote(t, kind, family):
    """The same for packets that came from the fabric: the error goes back there."""
    number, reason, answers = KINDS[kind]
    packet, tag = probe(t, FAR[family], _target(number, family), 100)
    t.fabric(B, BLUE, Ether(src=B.rmac, dst=BLUE_RMAC) / packet)
    t.drops(reason)
    yield
    frame = Ether(t.one(tag, "up0", "the ICMP error"))
    inner = frame[UDP].payload.payload.payload
    code = inner[ICMP].code if family == 4 and inner.haslayer(ICMP) else getattr(inner.payload, "code", None)
    allowed = [c for _, c in answers[family]]
    remote_error(t, tag, "blue", packet, answers[family][0][0], code if code in allowed else allowed[0],
                 [GATEWAYS[210].ip(family)])


@case(ERRORS)
def no_error_for_errors(t):
    """ICMP errors, fragments behind the first, multicast and broadcast cause no error (RFC 1122 3.2.2)."""
    tags, reasons = [], []
    inner = ip(H1.ip4, "10.45.0.1") / UDP()
    for kind in (3, 11, 12, 4, 5):
        payload, tag = t.payload(20)
        message = ICMP(type=kind, code=0) / Raw(bytes(inner)) / Raw(payload)
        t.send(H1, to_gateway(H1, ip(H1.ip4, _target(45, 4)) / message))
        tags.append(tag)
        reasons.append("noRoute")
    payload, tag = t.payload(40)
    t.send(H1, to_gateway(H1, IP(src=H1.ip4, dst=_target(45, 4), frag=10, proto=17) / Raw(payload)))
    tags.append(tag)
    reasons.append("noRoute")
    packet, tag = probe(t, H1.ip4, _target(45, 4))
    for destination in ("224.0.1.5", "239.1.1.1"):
        packet, tag = probe(t, H1.ip4, destination)
        t.send(H1, to_gateway(H1, packet))
        tags.append(tag)
        reasons.append("martianAddress")
    for source in ("0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255"):
        packet, tag = probe(t, source, _target(45, 4))
        t.send(H1, to_gateway(H1, packet))
        tags.append(tag)
        reasons.append("martianAddress")
    for reason in reasons:
        t.drops(reason)
    yield
    for tag in tags:
        t.nothing(tag)


@case(ERRORS)
def no_error_for_errors6(t):
    """The same in IPv6 (RFC 4443 2.4 (e))."""
    tags, target = [], _target(45, 6)
    inner = ip(H1.ip6, target) / UDP()
    for message in (ICMPv6DestUnreach(), ICMPv6TimeExceeded(), ICMPv6PacketTooBig(mtu=1280)):
        payload, tag = t.payload(20)
        t.send(H1, to_gateway(H1, ip(H1.ip6, target) / message / Raw(bytes(inner)) / Raw(payload)))
        tags.append(tag)
    t.drops("noRoute", 3)
    for source, destination in (("::", target), ("::1", target), ("ff02::5", target), (H1.ip6, "ff05::5"),
                                (H1.ip6, "::1"), (H1.ip6, "::")):
        packet, tag = probe(t, source, destination)
        t.send(H1, to_gateway(H1, packet))
        tags.append(tag)
        t.drops("martianAddress")
    yield
    for tag in tags:
        t.nothing(tag)


@case(ERRORS)
def link_local_not_routed(t):
    """Link-local sources and destinations stay on their link (RFC 4291 2.5.6, RFC 3927 7)."""
    tags = []
    for source, destination in (("fe80::10", _target(41, 6)), (H1.ip6, "fe80::99"), ("169.254.1.1", _target(41, 4))):
        packet, tag = probe(t, source, destination)
        t.send(H1, to_gateway(H1, packet))
        tags.append(tag)
        t.drops("martianAddress")
    yield
    for tag in tags:
        t.nothing(tag)


@case(ERRORS, each=[(4,), (6,)])
def gateway_services(t, family):
    """At the gateway only echo is served: UDP and TCP get port unreachable, the rest protocol unreachable."""
    gateway, sent = GATEWAYS[110].ip(family), []
    for kind in ("udp", "tcp", "other"):
        payload, tag = t.payload(40)
        if kind == "udp":
            packet = ip(H1.ip(family), gateway) / UDP(sport=5, dport=5000) / Raw(payload)
        elif kind == "tcp":
            packet = ip(H1.ip(family), gateway) / TCP(sport=5, dport=179, flags="S") / Raw(payload)
        elif family == 4:
            packet = IP(src=H1.ip4, dst=gateway, proto=132) / Raw(payload)
        else:
            packet = ip(H1.ip6, gateway)
            packet.nh = 132
            packet = packet / Raw(payload)
        t.send(H1, to_gateway(H1, packet))
        sent.append((kind, packet, tag))
    t.drops("noGatewayService", len(sent))
    yield
    for kind, packet, tag in sent:
        if kind != "other":
            t.error(tag, H1, packet, *((3, 3) if family == 4 else (1, 4)), what=kind)
        elif family == 4:
            t.error(tag, H1, packet, 3, 2, what=kind)
        else:
            # Parameter problem, unrecognized next header; the pointer is at it (RFC 4443 3.4).
            t.error(tag, H1, packet, 4, 1, mtu=6, what=kind)


LIMIT = world("limit")


@case(LIMIT)
def error_limit(t):
    """Errors are limited: after a burst of 256 most packets get none; all of them are still counted."""
    tags = []
    for number in range(700):
        packet, tag = probe(t, H1.ip4, FAR[4], ttl=1, sport=number)
        t.send(H1, to_gateway(H1, packet))
        tags.append(tag)
    t.drops("ttlExpired", len(tags))
    yield
    answered = sum(1 for tag in tags if t.found(tag))
    t.check(256 <= answered <= 256 + 60, f"{answered} of {len(tags)} packets in 22 ms were answered")
    t.check(all(t.found(tag) for tag in tags[:256]), "the first 256 were not all answered")


@case(ERRORS)
def directed_broadcast(t):
    """Broadcast addresses of connected subnets are nobody's: no packet to them is routed (RFC 2644)."""
    tags = []
    for target in ("192.170.2.255", "192.170.2.0", "192.170.1.255", "255.255.255.255"):
        packet, tag = probe(t, H1.ip4, target)
        t.send(H1, to_gateway(H1, packet))
        tags.append(tag)
    t.drops("martianAddress", len(tags))
    yield
    for tag in tags:
        t.nothing(tag)
