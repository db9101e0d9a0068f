"""Routed ports: what is for the host goes to its TAP, the rest is routed in the port's VRF."""
import itertools
import socket
import struct

from scapy.layers.inet6 import ICMPv6EchoRequest

from .frames import BROADCAST, ICMP, TCP, UDP, Ether, Raw, arp_request, ip, lower, solicitation
from .irb import FAR, probe, router_mac, to_gateway
from .runner import case
from .worlds import A, GATEWAYS, H1, LEG, RED, route, world

SPEAKER = {"mac": "02:00:00:00:50:02", "ip4": "10.50.0.2", "ip6": "2001:db8:50::2"}
INDEX = 50


def _attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind, body):
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def _mac(text):
    return bytes.fromhex(text.replace(":", ""))


def kernel():
    """What the kernel dumps of the port's TAP and of the speaker behind it (linux/rtnetlink.h)."""
    link = struct.pack("=BxHiII", 0, 1, INDEX, 0x11043, 0) + _attribute(3, b"leg0\0") + _attribute(
        1, _mac(LEG["mac"])) + _attribute(4, struct.pack("=I", 1500)) + _attribute(16, b"\x06")
    messages = _message(16, link)
    for family, address in ((socket.AF_INET, SPEAKER["ip4"]), (socket.AF_INET6, SPEAKER["ip6"])):
        body = struct.pack("=BxHiHBB", family, 0, INDEX, 2, 0, 1)
        messages += _message(28, body + _attribute(1, socket.inet_pton(family, address)) + _attribute(
            2, _mac(SPEAKER["mac"])))
    return messages


def _routes(configuration):
    for prefix, address in (("10.51.0.0/16", SPEAKER["ip4"]), ("2001:db8:51::/48", SPEAKER["ip6"])):
        configuration["static"]["routes"].append(
            route("red", prefix, {"address": address, "port": "leg0"}))


LEGS = world("leg", _routes, netlink=kernel())


def from_speaker(packet, to=None):
    return Ether(src=SPEAKER["mac"], dst=to or LEG["mac"]) / packet


@case(LEGS)
def punted(t):
    """ARP, ND, link-local, multicast and packets to own addresses go to the TAP as they came, in order."""
    link = [bytes(arp_request(SPEAKER["mac"], SPEAKER["ip4"], LEG["ip4"])),
            bytes(solicitation(SPEAKER["mac"], SPEAKER["ip6"], LEG["ip6"]))]
    own = []
    for packet in (ip(SPEAKER["ip4"], LEG["ip4"]) / TCP(sport=179, dport=40000, flags="S"),
                   ip(SPEAKER["ip6"], LEG["ip6"]) / TCP(sport=179, dport=40000, flags="S"),
                   ip(SPEAKER["ip4"], LEG["ip4"], ttl=255) / UDP(sport=49152, dport=3784),
                   ip(SPEAKER["ip4"], LEG["ip4"], ttl=1) / TCP(sport=179, dport=40001, flags="S"),
                   ip(SPEAKER["ip4"], LEG["ip4"]) / ICMP(id=1, seq=1)):
        own.append(bytes(from_speaker(packet / Raw(t.payload(40)[0]))))
    for packet, mac in ((ip("fe80::5", "fe80::6") / ICMPv6EchoRequest(id=1), LEG["mac"]),
                        (ip(SPEAKER["ip4"], "224.0.0.5", ttl=1) / UDP(sport=1000, dport=2000), "01:00:5e:00:00:05"),
                        (ip("fe80::5", "ff02::5", ttl=1) / UDP(sport=1000, dport=2000), "33:33:00:00:00:05"),
                        (ip(SPEAKER["ip4"], "255.255.255.255") / UDP(sport=1000, dport=2000), BROADCAST)):
        link.append(bytes(from_speaker(packet / Raw(t.payload(40)[0]), mac)))
    sent = [frame for pair in itertools.zip_longest(own, link) for frame in pair if frame]
    for frame in sent:
        t.send("leg0", frame)
    yield
    seen = [f for f in t.index.ports["leg0.host"] if f in sent]
    t.check(seen == sent, f"{len(seen)} of {len(sent)} were punted, or in another order; missing: "
            + ", ".join(Ether(f).summary() for f in sent if f not in seen))
    for place in [p for p in t.index.free if p[0] == "leg0.host"]:
        if t.index.ports[place[0]][place[1]] in sent:
            del t.index.free[place]


@case(LEGS, each=[(4,), (6,)])
def from_leg(t, family):
    """From the port's MAC on, packets are routed in its VRF: to local hosts and into the fabric."""
    source = SPEAKER["ip4"] if family == 4 else SPEAKER["ip6"]
    local, local_tag = probe(t, source, H1.ip(family))
    far, far_tag = probe(t, source, FAR[family])
    t.send("leg0", from_speaker(local))
    t.send("leg0", from_speaker(far))
    yield
    t.arrives(local_tag, H1, Ether(src=GATEWAYS[110].mac, dst=H1.mac) / lower(local))
    t.tunnelled(far_tag, A, RED, Ether(src=router_mac(t, "red"), dst=A.rmac) / lower(far))


@case(LEGS)
def other_mac(t):
    """What is for another MAC is dropped by name."""
    packet, tag = probe(t, SPEAKER["ip4"], H1.ip4)
    t.send("leg0", from_speaker(packet, "02:00:00:00:50:77"))
    t.drops("otherDestinationMAC")
    yield
    t.nothing(tag)


@case(LEGS, each=[(4,), (6,)])
def to_leg(t, family):
    """Towards the leg: the speaker itself and what is behind it, with the port's MAC as source."""
    speaker = SPEAKER["ip4"] if family == 4 else SPEAKER["ip6"]
    behind = "10.51.0.9" if family == 4 else "2001:db8:51::9"
    sent = []
    for target in (speaker, behind):
        packet, tag = probe(t, H1.ip(family), target)
        t.send(H1, to_gateway(H1, packet))
        sent.append((target, packet, tag))
    yield
    for target, packet, tag in sent:
        actual = t.one(tag, "leg0", target)
        t.same(actual, bytes(Ether(src=LEG["mac"], dst=SPEAKER["mac"]) / lower(packet)), target)


@case(LEGS, each=[(4,), (6,)])
def leg_address_from_host(t, family):
    """A host's packet to the leg's address is for the host system: it goes to the TAP."""
    packet, tag = probe(t, H1.ip(family), LEG["ip4"] if family == 4 else LEG["ip6"])
    t.send(H1, to_gateway(H1, packet))
    yield
    t.check([port for port, _ in t.found(tag)] == ["leg0.host"], f"it went to {[p for p, _ in t.found(tag)]}")


@case(LEGS)
def from_tap(t):
    """What the host sends through the TAP leaves as it is."""
    payload, tag = t.payload(40)
    packet = (Ether(src=LEG["mac"], dst=SPEAKER["mac"]) / ip(LEG["ip4"], SPEAKER["ip4"])
              / UDP(sport=1000, dport=2000) / Raw(payload))
    t.send("leg0.host", packet)
    yield
    t.same(t.one(tag, "leg0"), bytes(packet), "the host's packet")


@case(LEGS, each=[(4,), (6,)])
def leg_ttl(t, family):
    """TTL 1 from the leg: time exceeded from the leg's address, back to the speaker."""
    packet, tag = probe(t, SPEAKER["ip4"] if family == 4 else SPEAKER["ip6"], FAR[family], ttl=1)
    t.send("leg0", from_speaker(packet))
    t.drops("ttlExpired")
    yield
    frame = Ether(t.one(tag, "leg0", "the ICMP error"))
    t.check((frame.src, frame.dst) == (LEG["mac"], SPEAKER["mac"]), frame.summary())
    sources = [LEG["ip4" if family == 4 else "ip6"]] + [GATEWAYS[v].ip(family) for v in (110, 120)]
    wanted = t.error_packet(frame.payload, packet, 11 if family == 4 else 3, 0, sources, None, "the ICMP error")
    t.same(bytes(frame), bytes(Ether(src=LEG["mac"], dst=SPEAKER["mac"]) / wanted), "the ICMP error")
