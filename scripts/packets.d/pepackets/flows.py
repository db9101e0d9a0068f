"""Flows: one source port each, spread over ports and paths; fragments, extension headers, options."""
import collections
import ipaddress

from scapy.layers.inet6 import (IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop,
                                IPv6ExtHdrRouting)

from .frames import IP, TCP, UDP, Ether, IPOption, Raw, ip, lower
from .irb import FAR, probe, router_mac, to_gateway
from .runner import case
from .worlds import A, B, C, H1, H6, RED, SIX, route, via, world


def _paths(configuration):
    routes = configuration["static"]["routes"]
    routes += [route("red", "10.20.0.0/16", via(A), via(B)), route("red", "2001:db8:20::/48", via(A), via(B)),
               route("six", "10.20.0.0/16", via(A, 6), via(B, 6)),
               route("six", "2001:db8:20::/48", via(A, 6), via(B, 6)),
               route("red", "10.21.0.0/16", via(A, weight=3), via(B, weight=1)),
               route("six", "2001:db8:21::/48", via(A, 6, weight=3), via(B, 6, weight=1)),
               route("red", "10.22.0.0/16", via(A), via(B), via(C))]


FLOWS = world("flows", _paths)


@case(FLOWS, each=[(4, "red"), (6, "red"), (4, "six"), (6, "six")])
def source_port(t, family, vrf):
    """A flow keeps its source port whatever its packets are like; different flows differ."""
    host, vni, vtep, outer = {"red": (H1, RED, A, 4), "six": (H6, SIX, A, 6)}[vrf]
    flows = []
    for number in range(64):
        packets = [probe(t, host.ip(family), FAR[family], 20 + 40 * n, sport=3000 + number, ttl=40 + n, tos=n << 2)
                   for n in range(4)]
        for packet, _ in packets:
            t.send(host, to_gateway(host, packet))
        flows.append(packets)
    yield
    ports, own = set(), router_mac(t, vrf)
    for packets in flows:
        mine = {t.tunnelled(tag, vtep, vni, Ether(src=own, dst=vtep.rmac) / lower(packet), outer,
                            tos=0) for packet, tag in packets}
        t.check(len(mine) == 1, f"one flow has the source ports {sorted(mine)}")
        ports |= mine
    t.check(len(ports) > 56, f"64 flows have {len(ports)} source ports")


@case(FLOWS, each=[(4,), (6,)])
def port_of_addresses_and_protocol(t, family):
    """Each part of the 5-tuple counts: addresses, ports, protocol."""
    base = H1.ip(family), FAR[family]
    kinds = {
        "base": ip(*base) / UDP(sport=1, dport=2), "sport": ip(*base) / UDP(sport=9, dport=2),
        "dport": ip(*base) / UDP(sport=1, dport=9), "tcp": ip(*base) / TCP(sport=1, dport=2),
        "dst": ip(base[0], "10.9.0.6" if family == 4 else "2001:db8:9::6") / UDP(sport=1, dport=2),
        "src": ip("192.170.1.66" if family == 4 else "2001:db8:1::66", base[1]) / UDP(sport=1, dport=2)}
    sent = {}
    for name, packet in kinds.items():
        payload, tag = t.payload(32)
        t.send(H1, to_gateway(H1, packet / Raw(payload)))
        sent[name] = tag
    yield
    ports = {name: Ether(t.one(tag, "up0"))[UDP].sport for name, tag in sent.items()}
    t.check(len(set(ports.values())) == len(ports), f"source ports {ports}")


@case(FLOWS)
def fragments(t):
    """Fragments hash on addresses only: all of a pair of hosts share one source port (RFC 791)."""
    sent = []
    for number in range(8):
        payload, tag = t.payload(64)
        datagram = bytes(UDP(sport=100 + number, dport=200, len=800) / Raw(payload))
        first = IP(src=H1.ip4, dst=FAR[4], id=number, flags="MF", proto=17) / Raw(datagram)
        later, later_tag = t.payload(72)
        rest = IP(src=H1.ip4, dst=FAR[4], id=number, frag=9, proto=17) / Raw(later)
        for packet, key in ((first, tag), (rest, later_tag)):
            t.send(H1, to_gateway(H1, packet))
            sent.append((packet, key))
    yield
    own = router_mac(t, "red")
    ports = {t.tunnelled(tag, A, RED, Ether(src=own, dst=A.rmac) / lower(packet)) for packet, tag in sent}
    t.check(len(ports) == 1, f"fragments have the source ports {sorted(ports)}")


@case(FLOWS)
def fragments6(t):
    """The same with IPv6's fragment header."""
    sent = []
    for number in range(8):
        for offset, more in ((0, 1), (9, 0)):
            payload, tag = t.payload(64)
            data = bytes(UDP(sport=100 + number, dport=200, len=136, chksum=1)) + payload if more else payload
            packet = ip(H6.ip6, FAR[6]) / IPv6ExtHdrFragment(id=number, offset=offset, m=more, nh=17) / Raw(data)
            t.send(H6, to_gateway(H6, packet))
            sent.append((packet, tag))
    yield
    ports = {t.tunnelled(tag, A, SIX, Ether(src=router_mac(t, "six"), dst=A.rmac) / lower(packet), 6)
             for packet, tag in sent}
    t.check(len(ports) == 1, f"fragments have the source ports {sorted(ports)}")


def _extended(number):
    return {
        "hop-by-hop": IPv6ExtHdrHopByHop(), "destination": IPv6ExtHdrDestOpt(),
        "routing": IPv6ExtHdrRouting(addresses=[], segleft=0),
        "three": IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting(addresses=[]) / IPv6ExtHdrDestOpt()}[number]


@case(FLOWS, each=[("hop-by-hop",), ("destination",), ("routing",), ("three",)])
def extension_headers(t, kind):
    """Extension headers are walked and stay as they are: the ports behind them tell flows apart."""
    sent = []
    for number in range(16):
        payload, tag = t.payload(32)
        packet = ip(H1.ip6, FAR[6]) / _extended(kind) / UDP(sport=500 + number, dport=7) / Raw(payload)
        t.send(H1, to_gateway(H1, packet))
        sent.append((packet, tag))
    yield
    own = router_mac(t, "red")
    ports = {t.tunnelled(tag, A, RED, Ether(src=own, dst=A.rmac) / lower(packet)) for packet, tag in sent}
    t.check(len(ports) > 10, f"16 flows have {len(ports)} source ports")


@case(FLOWS)
def extension_chain(t):
    """A chain longer than any bound is forwarded as it is; nothing walks without end."""
    payload, tag = t.payload(32)
    packet = ip(H1.ip6, FAR[6])
    for _ in range(40):
        packet = packet / IPv6ExtHdrDestOpt()
    packet = packet / UDP(sport=5, dport=7) / Raw(payload)
    t.send(H1, to_gateway(H1, packet))
    yield
    t.tunnelled(tag, A, RED, Ether(src=router_mac(t, "red"), dst=A.rmac) / lower(packet))


@case(FLOWS)
def ipv4_options(t):
    """IPv4 options stay, the checksum is right, the ports behind them tell flows apart."""
    sent = []
    for number in range(16):
        payload, tag = t.payload(32)
        options = [IPOption(b"\x94\x04\x00\x00")] * (1 + number % 10)
        packet = IP(src=H1.ip4, dst=FAR[4], options=options) / UDP(sport=700 + number, dport=8) / Raw(payload)
        t.send(H1, to_gateway(H1, packet))
        sent.append((packet, tag))
    yield
    own = router_mac(t, "red")
    ports = {t.tunnelled(tag, A, RED, Ether(src=own, dst=A.rmac) / lower(packet)) for packet, tag in sent}
    t.check(len(ports) > 10, f"16 flows have {len(ports)} source ports")


@case(FLOWS, each=[("red", 4), ("six", 6), ("red", 6)])
def ecmp(t, vrf, family):
    """Over two VTEPs 1000 flows spread evenly within 10 %, and each keeps its VTEP."""
    yield from _spread(t, vrf, f"10.20.{{}}.{{}}" if family == 4 else "2001:db8:20::{:x}:{:x}", family, {A: 1, B: 1})


@case(FLOWS, each=[("red", 4), ("six", 6)])
def ecmp_weights(t, vrf, family):
    """Weights 3 and 1 give three quarters and one, within 10 %."""
    yield from _spread(t, vrf, "10.21.{}.{}" if family == 4 else "2001:db8:21::{:x}:{:x}", family, {A: 3, B: 1})


@case(FLOWS)
def ecmp_three(t):
    """Three members share 1000 flows."""
    yield from _spread(t, "red", "10.22.{}.{}", 4, {A: 1, B: 1, C: 1}, within=0.15)


def _spread(t, vrf, pattern, family, weights, flows=1000, within=0.1):
    host, vni, outer = {"red": (H1, RED, 4), "six": (H6, SIX, 6)}[vrf]
    tags, samples = [], {}
    for number in range(flows):
        target = pattern.format(number % 7, 1 + number % 250)
        packet, tag = probe(t, host.ip(family), target, 16, sport=61000 + number, dport=9)
        frame = t.send(host, to_gateway(host, packet))
        # The same flow again with another payload: it must not move.
        again = t.tag()
        twin = bytearray(frame)
        place = bytes(twin).index(tag)
        twin[place:place + 8] = again
        start = len(frame) - len(bytes(packet.lastlayer())) - 8
        twin[start + 6:start + 8] = b"\0\0"
        if family == 6:     # a checksum of zero is not allowed there
            fixed = packet.copy()
            fixed[Raw].load = again + packet[Raw].load[8:]
            twin = bytearray(bytes(to_gateway(host, fixed)))
        if number % 4 == 0:
            t.send(host, bytes(twin))
            samples[tag] = again
        tags.append((tag, packet))
    yield
    counts, place, own = collections.Counter(), {}, router_mac(t, vrf)
    by_address = {vtep.address[outer]: vtep for vtep in weights}
    for number, (tag, packet) in enumerate(tags):
        frame = t.one(tag, "up0")
        destination = Ether(frame).payload.dst if number < 50 else _destination(frame, outer)
        vtep = by_address.get(destination)
        t.check(vtep is not None, f"a packet left for {destination}")
        if number < 20:
            t.encapsulated(frame, vtep, vni, Ether(src=own, dst=vtep.rmac) / lower(packet), outer)
        counts[vtep.number] += 1
        place[tag] = destination, frame[34:36] if outer == 4 else frame[54:56]
    for tag, again in samples.items():
        frame = t.one(again, "up0")
        seen = _destination(frame, outer), frame[34:36] if outer == 4 else frame[54:56]
        t.check(seen == place[tag], f"a flow left by {place[tag]} and then by {seen}")
    total = sum(weights.values())
    for vtep, weight in weights.items():
        share = flows * weight / total
        t.check(abs(counts[vtep.number] - share) <= within * share,
                f"VTEP {vtep.address[outer]} got {counts[vtep.number]} of {flows} flows, {share:.0f} expected")


def _destination(frame, family):
    return str(ipaddress.ip_address(frame[30:34] if family == 4 else frame[38:54]))
