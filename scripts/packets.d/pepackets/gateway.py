"""The gateway answers ARP, neighbour solicitations and echo, and lets nobody take its addresses."""
from scapy.layers.inet6 import (ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6NDOptDstLLAddr,
                                IPv6)

from .frames import (BROADCAST, ICMP, IP, UDP, Ether, Raw, advertisement, arp_reply, arp_request, ip, solicitation)
from .irb import FAR, own_mac, to_gateway
from .runner import case
from .worlds import A, B, BLUE, BLUE_RMAC, GATEWAYS, H1, H1V, H2, H3, H6, world

GATEWAY = world("gateway")
HOSTS = [H1, H1V, H2, H6]
# Nobody else in these tests has these: what answers them belongs to one case.
ASKER = "02:00:00:00:77:%02x"


def untag(host, frame):
    """The frame as a host sees it, without its circuit's tag."""
    packet = Ether(frame)
    return Ether(src=packet.src, dst=packet.dst) / packet.payload.payload if host.vlan else packet


@case(GATEWAY)
def arp(t):
    """Requests for the gateway are answered: broadcast, unicast, and probes without a sender address."""
    asked = []
    for number, host in enumerate(HOSTS):
        gateway = GATEWAYS[host.vni]
        for kind, (sender, to) in enumerate(((host.ip4, BROADCAST), (host.ip4, gateway.mac), ("0.0.0.0", BROADCAST))):
            mac = ASKER % (number * 8 + kind)
            # The address of the host itself, so that no binding of a second one arises.
            sender = sender if kind == 2 else sender.rsplit(".", 1)[0] + f".{100 + number * 8 + kind}"
            t.send(host, arp_request(mac, sender, gateway.ip4, to))
            asked.append((host, mac, sender))
    yield
    for host, mac, sender in asked:
        gateway = GATEWAYS[host.vni]
        found = t.take(host.port, lambda p, m=mac: p.dst == m)
        t.check(len(found) == 1, f"{host.port}: {len(found)} answers to {mac}")
        wanted = arp_reply(gateway.mac, gateway.ip4, mac, sender)
        t.same(bytes(untag(host, found[0]))[:42], bytes(wanted), f"the answer to {sender}")


@case(GATEWAY)
def nd(t):
    """Solicitations for the gateway are answered: multicast, unicast probes with and without option."""
    asked = []
    for number, host in enumerate(HOSTS):
        gateway = GATEWAYS[host.vni]
        prefix = host.ip6.rsplit("::", 1)[0]
        for kind in range(3):
            mac, sender = ASKER % (64 + number * 8 + kind), f"{prefix}::{0x7000 + number * 8 + kind:x}"
            if kind == 0:
                t.send(host, solicitation(mac, sender, gateway.ip6))
            else:
                t.send(host, solicitation(mac, sender, gateway.ip6, gateway.ip6, gateway.mac, option=kind == 1))
            asked.append((host, mac, sender))
    yield
    for host, mac, sender in asked:
        gateway = GATEWAYS[host.vni]
        found = t.take(host.port, lambda p, m=mac: p.dst == m)
        t.check(len(found) == 1, f"{host.port}: {len(found)} answers to {sender}")
        packet = untag(host, found[0])
        na = packet[ICMPv6ND_NA] if packet.haslayer(ICMPv6ND_NA) else None
        t.check(na is not None, f"the answer to {sender} is {packet.summary()}")
        # Override may be 0 for an anycast address (RFC 4861 7.2.4).
        wanted = advertisement(gateway.mac, gateway.ip6, mac, sender, router=1, override=na.O)
        t.same(bytes(packet), bytes(wanted), f"the answer to {sender}")


@case(GATEWAY)
def nd_duplicate_detection(t):
    """Who tries the gateway's address for itself hears, on all nodes' address, that it is taken."""
    mac = ASKER % 200
    t.send(H2, solicitation(mac, "::", GATEWAYS[120].ip6))
    yield
    found = t.take("host2", lambda p: p.haslayer(ICMPv6ND_NA) and p[IPv6].dst == "ff02::1")
    t.check(len(found) == 1, f"{len(found)} advertisements to all nodes")
    packet = Ether(found[0])
    wanted = advertisement(GATEWAYS[120].mac, GATEWAYS[120].ip6, "33:33:00:00:00:01", "ff02::1", router=1, answers=0,
                           override=packet[ICMPv6ND_NA].O)
    t.same(bytes(packet), bytes(wanted), "the advertisement")
    t.check(packet[ICMPv6NDOptDstLLAddr].lladdr == GATEWAYS[120].mac, "the option has another MAC")


def _echo_reply(request, gateway, host, seen):
    """What must answer an echo request: the same data, addresses turned."""
    if isinstance(request, IPv6):
        head = IPv6(src=request.dst, dst=request.src, hlim=seen.hlim, tc=seen.tc, fl=seen.fl)
        message = ICMPv6EchoReply(id=request[ICMPv6EchoRequest].id, seq=request[ICMPv6EchoRequest].seq,
                                  data=request[ICMPv6EchoRequest].data)
    else:
        head = IP(src=request.dst, dst=request.src, ttl=seen.ttl, id=seen.id, flags=seen.flags, tos=seen.tos)
        message = ICMP(type=0, id=request[ICMP].id, seq=request[ICMP].seq) / Raw(request[Raw].load)
    return Ether(src=gateway.mac, dst=host.mac) / head / message


def _request(source, target, payload, number=1):
    if ":" in target:
        return ip(source, target) / ICMPv6EchoRequest(id=77, seq=number, data=payload)
    return ip(source, target) / ICMP(id=77, seq=number) / Raw(payload)


@case(GATEWAY, each=[(4,), (6,)])
def echo(t, family):
    """Echo of any size is answered with the same data, also to the VRF's other gateways."""
    sent = []
    for host in HOSTS:
        targets = [GATEWAYS[host.vni]] + ([GATEWAYS[120]] if host is H1 else [])
        for gateway in targets:
            for size in (8, 9, 56, 57, 511, 1200, 1372 if family == 4 else 1352):
                payload, tag = t.payload(size)
                request = _request(host.ip(family), gateway.ip(family), payload, size)
                t.send(host, to_gateway(host, request))
                sent.append((host, request, tag))
    yield
    for host, request, tag in sent:
        seen = untag(host, t.one(tag, host.port)).payload
        hops = seen.hlim if family == 6 else seen.ttl
        t.check(hops >= 64, f"the reply has TTL {hops}")
        wanted = _echo_reply(request, GATEWAYS[host.vni], host, seen)
        t.same(bytes(untag(host, t.one(tag, host.port))), bytes(wanted), f"the echo of {len(request)} bytes")


@case(GATEWAY, each=[(4,), (6,)])
def echo_from_fabric(t, family):
    """A remote host's echo is answered through the L3VNI."""
    payload, tag = t.payload(56)
    request = _request(FAR[family], GATEWAYS[210].ip(family), payload)
    t.fabric(B, BLUE, Ether(src=B.rmac, dst=BLUE_RMAC) / request)
    yield
    actual = t.one(tag, "up0")
    inner = Ether(actual)[UDP].payload.payload
    wanted = _echo_reply(request, GATEWAYS[210], H3, inner.payload)
    t.encapsulated(actual, B, BLUE, Ether(src=own_mac("blue"), dst=B.rmac) / wanted.payload)


@case(GATEWAY)
def echo_broken(t):
    """Echo with a wrong ICMP checksum, or in fragments, is not answered."""
    tags = []
    payload, tag = t.payload(56)
    request = ip(H1.ip4, GATEWAYS[110].ip4) / ICMP(id=1, seq=1, chksum=0x1111) / Raw(payload)
    t.send(H1, to_gateway(H1, request))
    tags.append(tag)
    payload, tag = t.payload(56)
    request = ip(H1.ip6, GATEWAYS[110].ip6) / ICMPv6EchoRequest(id=1, seq=1, cksum=0x1111, data=payload)
    t.send(H1, to_gateway(H1, request))
    tags.append(tag)
    payload, tag = t.payload(56)
    request = IP(src=H1.ip4, dst=GATEWAYS[110].ip4, flags="MF") / ICMP(id=1, seq=1) / Raw(payload)
    t.send(H1, to_gateway(H1, request))
    tags.append(tag)
    t.drops("noGatewayService", 3)
    yield
    for tag in tags:
        t.nothing(tag)


@case(GATEWAY)
def claims(t):
    """Who claims a gateway's address, by ARP or ND, from a circuit or the fabric, is refused and counted."""
    gateway, mac = GATEWAYS[120], ASKER % 220
    for packet in (arp_request(mac, gateway.ip4, gateway.ip4), arp_reply(mac, gateway.ip4, BROADCAST, gateway.ip4),
                   arp_request(mac, gateway.ip4, H2.ip4), arp_reply(mac, gateway.ip4, H2.mac, H2.ip4),
                   advertisement(mac, gateway.ip6, "33:33:00:00:00:01", "ff02::1", answers=0),
                   advertisement(mac, gateway.ip6, H2.mac, H2.ip6)):
        t.send(H2, packet)
        t.fabric(A, 120, bytes(packet))
    t.drops("gatewayAddressClaimed", 12)
    yield
    claimed = t.take("host2", lambda p: p.src == mac) + t.take("trunk", lambda p: p.src == mac)
    t.check(not claimed, f"{len(claimed)} claims were passed on")
    rows = [row for row in t.output.state["neighbors"] if row.get("mac") == mac]
    t.check(not rows, f"a claim became a binding: {rows}")


@case(GATEWAY)
def gratuitous(t):
    """Gratuitous ARP and unsolicited advertisements of hosts pass, to circuits and the fabric."""
    mac, ip4, ip6 = ASKER % 230, "192.170.1.130", "2001:db8:1::130"
    packets = [arp_request(mac, ip4, ip4), arp_reply(mac, ip4, BROADCAST, ip4),
               advertisement(mac, ip6, "33:33:00:00:00:01", "ff02::1", answers=0)]
    for packet in packets:
        t.send(H1, packet)
    yield
    found = t.take("trunk", lambda p: p.src == mac)
    t.check(sorted(bytes(untag(H1V, f)) for f in found) == sorted(map(bytes, packets)),
            f"{len(found)} of 3 reached the other circuit")
    for vtep in (A, B):
        copies = t.take("up0", lambda p, v=vtep: p.haslayer(IP) and p[IP].dst == v.address[4]
                        and p.haslayer(UDP) and p[UDP].payload.payload.src == mac)
        t.check(len(copies) == 3, f"{len(copies)} of 3 went to {vtep.address[4]}")
        for packet, frame in zip(packets, copies):
            t.encapsulated(frame, vtep, 110, packet, tos=Ether(frame).payload.tos & 3)
    rows = {(row.get("ip") or row.get("address")): row for row in t.output.state["neighbors"]}
    t.check(ip4 in rows and rows[ip4]["mac"] == mac, f"{ip4} is no binding: {sorted(rows)}")
    t.check(ip6 in rows and rows[ip6]["mac"] == mac, f"{ip6} is no binding: {sorted(rows)}")
