"""Too big: ICMP with the MTU that fits, fragments where they are allowed, nothing for bridged packets."""
from scapy.layers.vxlan import VXLAN

from .frames import ICMP, IP, UDP, Ether, Raw, ip, lower
from .irb import FAR, probe, router_mac, to_gateway
from .runner import case
from .ttl import remote_error
from .worlds import A, B, BLUE, BLUE_RMAC, GATEWAYS, H1, H2, H3, H6, RED, REMOTE, SIX, world

# Everything here has an underlay MTU of 1500: 1450 fit over IPv4, 1430 over IPv6.
MTU = world("mtu")
TENANTS = {"red": (H1, RED, A, 4, 1450), "six": (H6, SIX, A, 6, 1430)}


def sized(t, source, target, total, **fields):
    """A UDP packet whose IP packet has `total` bytes, and its tag."""
    header = 28 if ":" not in target else 48
    return probe(t, source, target, total - header, **fields)


@case(MTU, each=[(v, f) for v in TENANTS for f in (4, 6)])
def too_big(t, vrf, family):
    """What fits leaves whole; one byte more is refused with the MTU: 50 less over IPv4, 70 over IPv6."""
    host, vni, vtep, underlay, limit = TENANTS[vrf]
    more = {"flags": "DF"} if family == 4 else {}
    good, good_tag = sized(t, host.ip(family), FAR[family], limit, **more)
    t.send(host, to_gateway(host, good))
    refused = []
    for size in (limit + 1, limit + 51, 8000):
        packet, tag = sized(t, host.ip(family), FAR[family], size, **more)
        t.send(host, to_gateway(host, packet))
        refused.append((packet, tag))
    t.drops("fragmentationNeeded", len(refused))
    yield
    t.tunnelled(good_tag, vtep, vni, Ether(src=router_mac(t, vrf), dst=vtep.rmac) / lower(good), underlay)
    for packet, tag in refused:
        t.error(tag, host, packet, *((3, 4) if family == 4 else (2, 0)), mtu=limit)


@case(MTU, each=[(4,), (6,)])
def too_big_local(t, family):
    """Towards a local circuit its port's MTU counts."""
    more = {"flags": "DF"} if family == 4 else {}
    good, good_tag = sized(t, H1.ip(family), H2.ip(family), 1400, **more)
    packet, tag = sized(t, H1.ip(family), H2.ip(family), 1401, **more)
    t.send(H1, to_gateway(H1, good))
    t.send(H1, to_gateway(H1, packet))
    t.drops("fragmentationNeeded")
    yield
    t.arrives(good_tag, H2, Ether(src=GATEWAYS[120].mac, dst=H2.mac) / lower(good))
    t.error(tag, H1, packet, *((3, 4) if family == 4 else (2, 0)), mtu=1400)


@case(MTU, each=[(4,), (6,)])
def too_big_from_fabric(t, family):
    """A packet of the fabric that does not fit the host's port: the error goes back to the fabric."""
    more = {"flags": "DF"} if family == 4 else {}
    packet, tag = sized(t, FAR[family], H3.ip(family), 1501, **more)
    t.fabric(B, BLUE, Ether(src=B.rmac, dst=BLUE_RMAC) / packet)
    t.drops("fragmentationNeeded")
    yield
    remote_error(t, tag, "blue", packet, *((3, 4) if family == 4 else (2, 0)), [GATEWAYS[210].ip(family)], mtu=1500)


@case(MTU)
def too_big_bridged(t):
    """A bridged packet that does not fit is dropped and counted, without ICMP."""
    packet, tag = sized(t, H1.ip4, REMOTE["ip4"], 1451, flags="DF")
    t.send(H1, Ether(src=H1.mac, dst=REMOTE["mac"]) / packet)
    good, good_tag = sized(t, H1.ip4, REMOTE["ip4"], 1450, flags="DF")
    t.send(H1, Ether(src=H1.mac, dst=REMOTE["mac"]) / good)
    t.drops("oversized")
    yield
    t.nothing(tag)
    t.tunnelled(good_tag, A, 110, Ether(src=H1.mac, dst=REMOTE["mac"]) / good)


def _fragments(t, frames, original, limit, what):
    """`frames` (IP packets) are `original` in pieces of at most `limit` bytes."""
    whole = lower(original)
    header = bytes(whole)[:whole.ihl * 4] if whole.ihl else bytes(whole)[:20]
    data = bytes(whole)[len(header):]
    base = original.frag * 8
    pieces, seen = {}, set()
    for packet in frames:
        t.check(packet.chksum == IP(bytes(IP(bytes(packet)[:packet.ihl * 4])))[IP].chksum, f"{what}: checksum")
        t.check(packet.len <= limit, f"{what}: a fragment of {packet.len} bytes, {limit} fit")
        t.check((packet.id, packet.src, packet.dst, packet.proto, packet.tos, packet.ttl) ==
                (whole.id, whole.src, whole.dst, whole.proto, whole.tos, whole.ttl), f"{what}: {packet.summary()}")
        t.check(not packet.flags.DF, f"{what}: a fragment has DF")
        body = bytes(packet)[packet.ihl * 4:packet.len]
        last = packet.frag * 8 - base + len(body) == len(data)
        t.check(bool(packet.flags.MF) == (not last or bool(original.flags.MF)), f"{what}: MF of offset {packet.frag}")
        t.check(last or len(body) % 8 == 0, f"{what}: {len(body)} bytes are no multiple of 8")
        t.check(packet.frag not in seen, f"{what}: offset {packet.frag} twice")
        seen.add(packet.frag)
        pieces[packet.frag * 8 - base] = body
    joined = b"".join(pieces[key] for key in sorted(pieces))
    starts, position = sorted(pieces), 0
    for start in starts:
        t.check(start == position, f"{what}: a gap at {position}")
        position += len(pieces[start])
    t.check(joined == data, f"{what}: reassembled it differs ({len(joined)} bytes of {len(data)})")


def _large(t, source, target, total, ident, **fields):
    """A UDP packet without DF of `total` bytes, a tag in every 64 bytes of it."""
    tag = t.tag()
    filler = b"".join(tag + b"%056d" % n for n in range(total // 64 + 1))
    packet = IP(src=source, dst=target, id=ident, **fields)
    size = total - (len(bytes(IP(options=fields.get("options", [])))) + 8)
    return packet / UDP(sport=11, dport=12) / Raw(filler[:size]), tag


@case(MTU, each=[(1451,), (2950,), (4000,), (8999,)])
def fragmented(t, total):
    """An IPv4 packet without DF leaves in fragments that reassemble to it, on one path."""
    host, vni, vtep, underlay, limit = TENANTS["six"]
    sent = []
    for host, vrf in ((H1, "red"), (H6, "six")):
        packet, tag = _large(t, host.ip4, FAR[4], total, total, tos=0x28)
        t.send(host, to_gateway(host, packet))
        sent.append((vrf, packet, tag))
    yield
    for vrf, packet, tag in sent:
        host, vni, vtep, underlay, limit = TENANTS[vrf]
        # The last piece may be too short for a tag; the identification tells it.
        found = t.found(tag) + [("up0", f) for f in t.take("up0", lambda p, k=packet, h=TENANTS[vrf][0]: (
            p.haslayer(VXLAN) and p[VXLAN].haslayer(IP) and p[VXLAN][IP].src == h.ip4 and p[VXLAN][IP].id == k.id))]
        ports = set()
        t.check({port for port, _ in found} == {"up0"}, f"left at {[port for port, _ in found]}")
        pieces = []
        for _, frame in found:
            inner = Ether(bytes(Ether(frame)[UDP].payload.payload))
            ports.add(t.encapsulated(frame, vtep, vni, inner, underlay, "a fragment"))
            t.check((inner.src, inner.dst) == (router_mac(t, vrf), vtep.rmac), f"inner MACs: {inner.summary()}")
            pieces.append(inner[IP])
        t.check(len(ports) == 1, f"fragments leave with the source ports {sorted(ports)}")
        t.check(len(pieces) == -(-(total - 20) // ((limit - 20) // 8 * 8)), f"{len(pieces)} fragments")
        _fragments(t, pieces, packet, limit, vrf)


@case(MTU)
def fragmented_again(t):
    """Fragments that are too big are cut again; MF and offsets stay right."""
    first, tag = _large(t, H1.ip4, H2.ip4, 2000, 77, flags="MF")
    last, last_tag = _large(t, H1.ip4, H2.ip4, 1999, 78, frag=185)
    for packet in (first, last):
        t.send(H1, to_gateway(H1, packet))
    yield
    for packet, key in ((first, tag), (last, last_tag)):
        found = t.found(key)
        t.check({port for port, _ in found} == {"host2"}, f"left at {[port for port, _ in found]}")
        _fragments(t, [Ether(frame)[IP] for _, frame in found], packet, 1400, "to a host")


@case(MTU)
def fragmented_on_the_node(t):
    """Between subnets of the node as well, down to the circuit's MTU."""
    packet, tag = _large(t, H1.ip4, H2.ip4, 3333, 99)
    t.send(H1, to_gateway(H1, packet))
    yield
    found = t.found(tag)
    for port, frame in found:
        ether = Ether(frame)
        t.check((port, ether.src, ether.dst) == ("host2", GATEWAYS[120].mac, H2.mac), ether.summary())
    _fragments(t, [Ether(frame)[IP] for _, frame in found], packet, 1400, "to a host")


@case(MTU)
def no_error_for_later_fragments(t):
    """A fragment behind the first with DF is dropped without an error (RFC 1122 3.2.2)."""
    payload, tag = t.payload(1600)
    t.send(H1, to_gateway(H1, IP(src=H1.ip4, dst=FAR[4], frag=100, flags="DF", proto=17) / Raw(payload)))
    other, other_tag = t.payload(1600)
    inner = bytes(ip(FAR[4], H1.ip4) / UDP())
    t.send(H1, to_gateway(H1, IP(src=H1.ip4, dst=FAR[4], flags="DF") / ICMP(type=3, code=1) / Raw(inner + other)))
    t.drops("fragmentationNeeded", 2)
    yield
    t.nothing(tag)
    t.nothing(other_tag)
