"""Unresolved neighbours: packets wait while the gateway asks, go on when it hears, fail when not."""
from scapy.layers.inet6 import ICMPv6ND_NS
from scapy.layers.l2 import ARP

from .frames import IP, Ether, advertisement, arp_reply, arp_request, lower, solicitation
from .irb import FAR, probe, to_gateway
from .runner import case
from .ttl import remote_error
from .worlds import A, B, BLUE, BLUE_RMAC, GATEWAYS, H1, H2, H2V, H3, REMOTE, world

LATE = {"mac": "02:00:00:00:02:44", "ip4": "192.170.2.44", "ip6": "2001:db8:2::44"}


def _static(configuration):
    configuration["static"]["neighbors"] += [
        {"vni": 120, "ip": "192.170.2.40", "mac": "02:00:00:00:02:40"},
        {"vni": 120, "ip": "2001:db8:2::40", "mac": "02:00:00:00:02:40"}]


NEIGHBORS = world("neighbors", _static, again=True)


def questions(t, family, address, vni, circuits, vteps):
    """Takes the gateway's questions for `address`; checks each, and returns how many times it asked."""
    gateway = GATEWAYS[vni]
    wanted = (arp_request(gateway.mac, gateway.ip4, address) if family == 4
              else solicitation(gateway.mac, gateway.ip6, address))

    def asks(packet):
        if family == 4:
            return packet.haslayer(ARP) and packet[ARP].op == 1 and packet[ARP].pdst == address and (
                packet[ARP].hwsrc == gateway.mac)
        return packet.haslayer(ICMPv6ND_NS) and packet[ICMPv6ND_NS].tgt == address
    counts = set()
    for host in circuits:
        found = t.take(host.port, asks)
        counts.add(len(found))
        for frame in found:
            t.same(frame, bytes(host.wire(wanted)), f"the question at {host.port}")
    for vtep in vteps:
        found = t.take("up0", lambda p, v=vtep: p.haslayer(IP) and p[IP].dst == v.address[4] and asks(p))
        counts.add(len(found))
        for frame in found:
            t.encapsulated(frame, vtep, vni, wanted, what="the question in the fabric",
                           tos=Ether(frame).payload.tos & 3)
    t.check(len(counts) == 1, f"the question for {address} left {sorted(counts)} times at different places")
    return counts.pop()


@case(NEIGHBORS, each=[(4,), (6,)])
def resumes(t, family):
    """A packet for an unknown neighbour waits, the gateway asks, and the packet goes on after the answer."""
    address = LATE["ip4"] if family == 4 else LATE["ip6"]
    sent = [probe(t, H1.ip(family), address, size, sport=900) for size in (8, 100, 600)]
    for packet, _ in sent:
        t.send(H1, to_gateway(H1, packet))
    t.then()
    gateway = GATEWAYS[120]
    if family == 4:
        t.send(H2V, arp_reply(LATE["mac"], address, gateway.mac, gateway.ip4))
    else:
        t.send(H2V, advertisement(LATE["mac"], address, gateway.mac, gateway.ip6))
    t.consumes()
    t.then()
    later, later_tag = probe(t, H1.ip(family), address)
    t.send(H1, to_gateway(H1, later))
    yield
    times = questions(t, family, address, 120, [H2, H2V], [A, B])
    t.check(times == 1, f"the gateway asked {times} times")
    for packet, tag in sent + [(later, later_tag)]:
        t.arrives(tag, H2V, Ether(src=gateway.mac, dst=LATE["mac"]) / lower(packet))
    order = [f for f in t.index.ports["trunk"] if any(tag in f for _, tag in sent)]
    t.check([next(tag for _, tag in sent if tag in f) for f in order] == [tag for _, tag in sent], "the order changed")


@case(NEIGHBORS, each=[(4,), (6,)])
def fails(t, family):
    """After three questions without an answer the packets end, and their sender hears host unreachable."""
    address = "192.170.2.78" if family == 4 else "2001:db8:2::78"
    sent = [probe(t, H1.ip(family), address, size) for size in (8, 300)]
    for packet, _ in sent:
        t.send(H1, to_gateway(H1, packet))
    t.drops("neighborUnreachable", 2)
    yield
    times = questions(t, family, address, 120, [H2, H2V], [A, B])
    t.check(times == 3, f"the gateway asked {times} times")
    for packet, tag in sent:
        t.error(tag, H1, packet, *((3, 1) if family == 4 else (1, 3)))


@case(NEIGHBORS, each=[(4,), (6,)])
def fails_from_fabric(t, family):
    """The same when the sender is behind the fabric."""
    address = "192.170.1.79" if family == 4 else "2001:db8:1::79"
    packet, tag = probe(t, FAR[family], address)
    t.fabric(B, BLUE, Ether(src=B.rmac, dst=BLUE_RMAC) / packet)
    t.drops("neighborUnreachable")
    yield
    times = questions(t, family, address, 210, [H3], [])
    t.check(times == 3, f"the gateway asked {times} times")
    remote_error(t, tag, "blue", packet, *((3, 1) if family == 4 else (1, 3)), [GATEWAYS[210].ip(family)])


@case(NEIGHBORS)
def static_local(t):
    """A static binding needs no question: its packets go where the MAC is."""
    mac, gateway = "02:00:00:00:02:40", GATEWAYS[120]
    # A bridged packet by which the FDB learns the MAC; it shows no binding.
    bridged, bridged_tag = probe(t, "192.170.2.40", H2.ip4)
    t.send(H2V, Ether(src=mac, dst=H2.mac) / bridged)
    t.then()
    sent = []
    for address, source in (("192.170.2.40", H1.ip4), ("2001:db8:2::40", H1.ip6)):
        packet, tag = probe(t, source, address)
        t.send(H1, to_gateway(H1, packet))
        sent.append((packet, tag))
    yield
    for packet, tag in sent:
        t.arrives(tag, H2V, Ether(src=gateway.mac, dst=mac) / lower(packet))
    t.arrives(bridged_tag, H2, Ether(src=mac, dst=H2.mac) / bridged)


@case(NEIGHBORS)
def remote_in_subnet(t):
    """A host of a connected subnet that a binding shows behind a VTEP is reached through the L2VNI."""
    sent = []
    for address, source in ((REMOTE["ip4"], H2.ip4), (REMOTE["ip6"], H2.ip6)):
        packet, tag = probe(t, source, address)
        t.send(H2, to_gateway(H2, packet))
        sent.append((packet, tag))
    yield
    for packet, tag in sent:
        t.tunnelled(tag, A, 110, Ether(src=GATEWAYS[110].mac, dst=REMOTE["mac"]) / lower(packet))


@case(NEIGHBORS)
def moves(t):
    """A host that shows itself at another circuit, by one gratuitous ARP, is reached there at once."""
    mac, address, gateway = "02:00:00:00:02:45", "192.170.2.45", GATEWAYS[120]
    t.send(H2, arp_request(mac, address, address))
    t.then()
    before, before_tag = probe(t, H1.ip4, address)
    t.send(H1, to_gateway(H1, before))
    t.then()
    t.send(H2V, arp_request(mac, address, address))
    t.then()
    after, after_tag = probe(t, H1.ip4, address)
    t.send(H1, to_gateway(H1, after))
    yield
    t.arrives(before_tag, H2, Ether(src=gateway.mac, dst=mac) / lower(before))
    t.arrives(after_tag, H2V, Ether(src=gateway.mac, dst=mac) / lower(after))
    for port, copies in (("host2", 1), ("trunk", 1), ("up0", 4)):
        found = t.take(port, lambda p: p.haslayer(ARP) and p[ARP].hwsrc == mac)
        t.check(len(found) == copies, f"{port} heard {len(found)} of the gratuitous ARPs, {copies} expected")


@case(NEIGHBORS)
def reverse_arp(t):
    """A RARP frame, as a hypervisor sends it after a migration, makes the gateway ask for the MAC's addresses."""
    mac, address, gateway = "02:00:00:00:02:46", "192.170.2.46", GATEWAYS[120]
    t.send(H2, arp_request(mac, address, address))
    t.then()
    t.send(H2V, Ether(src=mac, dst="ff:ff:ff:ff:ff:ff", type=0x8035) / ARP(
        op=3, hwsrc=mac, psrc="0.0.0.0", hwdst=mac, pdst="0.0.0.0"))
    t.then()
    after, after_tag = probe(t, H1.ip4, address)
    t.send(H1, to_gateway(H1, after))
    yield
    asked = t.take("trunk", lambda p: p.haslayer(ARP) and p[ARP].op == 1 and p[ARP].pdst == address
                   and p[ARP].hwsrc == gateway.mac)
    t.check(asked, "the gateway did not ask for the address")
    for frame in asked:
        packet = Ether(frame)
        wanted = arp_request(gateway.mac, gateway.ip4, address, packet.dst)
        wanted[ARP].hwdst = packet[ARP].hwdst       # ignored in requests (RFC 826)
        t.same(frame, bytes(H2V.wire(wanted)), "the question")
    t.arrives(after_tag, H2V, Ether(src=gateway.mac, dst=mac) / lower(after))
    for port in ("host2", "trunk", "up0"):
        t.take(port, lambda p: bytes.fromhex(mac.replace(":", "")) in bytes(p))


CROWD = world("crowd")


@case(CROWD)
def bounded(t):
    """The queue of waiting packets is bounded: what does not fit is dropped by name, all are accounted."""
    tags = []
    for number in range(600):
        packet, tag = probe(t, H1.ip4, f"192.170.2.{100 + number // 10}", 16, sport=number)
        t.send(H1, to_gateway(H1, packet))
        tags.append(tag)
    yield
    dropped = t.output.summary["dropped"]
    full, failed = dropped.get("neighborQueueFull", 0), dropped.get("neighborUnreachable", 0)
    t.check(full + failed == 600 and full >= 100 and failed >= 64,
            f"{full} did not fit, {failed} waited in vain, of 600")
    t.drops("neighborQueueFull", full)
    t.drops("neighborUnreachable", failed)
    for tag in tags:
        t.found(tag)
    for host in (H2, H2V):
        t.take(host.port, lambda p: p.haslayer(ARP))
    t.take("up0", lambda p: p.haslayer(ARP))
