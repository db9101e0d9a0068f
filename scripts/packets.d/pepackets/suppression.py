"""ARP and ND suppression (RFC 9161): known remote hosts are answered for, everybody else is asked."""
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6

from .frames import IP, UDP, Ether, Raw, advertisement, arp_reply, arp_request, solicitation
from .runner import case
from .worlds import A, B, H1, H1V, H2, H2V, H6, REMOTE, world

SUPPRESSION = world("suppression")
ASKER = "02:00:00:00:88:%02x"


def flooded(t, mac, packet, vni, circuits):
    """The frame from `mac` left once on each circuit and to each VTEP."""
    for host in circuits:
        found = t.take(host.port, lambda p: p.src == mac)
        t.check(len(found) == 1, f"{host.port} got {len(found)} copies")
        t.same(found[0], bytes(host.wire(packet)), f"the copy at {host.port}")
    for vtep in (A, B):
        found = t.take("up0", lambda p, v=vtep: p.haslayer(IP) and p[IP].dst == v.address[4]
                       and p[UDP].payload.payload.src == mac)
        t.check(len(found) == 1, f"{vtep.address[4]} got {len(found)} copies")
        t.encapsulated(found[0], vtep, vni, packet, tos=Ether(found[0]).payload.tos & 3)


@case(SUPPRESSION)
def known_arp(t):
    """A request for a known remote host is answered in its name; nothing goes into the fabric."""
    mac = ASKER % 1
    t.send(H1, arp_request(mac, "192.170.1.201", REMOTE["ip4"]))
    yield
    found = t.take("host1", lambda p: p.dst == mac)
    t.check(len(found) == 1, f"{len(found)} answers")
    frame = Ether(found[0])
    wanted = arp_reply(REMOTE["mac"], REMOTE["ip4"], mac, "192.170.1.201")
    wanted.src = frame.src      # whoever answers; the ARP fields say whose MAC it is
    t.same(found[0][:42], bytes(wanted), "the answer")


@case(SUPPRESSION)
def known_nd(t):
    """A solicitation for a known remote host is answered in its name."""
    mac, sender = ASKER % 2, "2001:db8:1::8802"
    t.send(H1V, solicitation(mac, sender, REMOTE["ip6"]))
    yield
    found = t.take("trunk", lambda p: p.dst == mac)
    t.check(len(found) == 1, f"{len(found)} answers")
    packet = Ether(found[0])
    t.check(packet.payload.vlan == 20, f"VLAN {packet.payload.vlan}")
    na = packet[ICMPv6ND_NA]
    wanted = advertisement(REMOTE["mac"], REMOTE["ip6"], mac, sender, router=0, override=na.O)
    wanted.src = packet.src
    t.same(found[0], bytes(H1V.wire(wanted)), "the answer")


@case(SUPPRESSION)
def unknown_arp(t):
    """A request for an unknown address is flooded, once to each."""
    mac = ASKER % 3
    packet = arp_request(mac, "192.170.1.203", "192.170.1.77")
    t.send(H1, packet)
    yield
    flooded(t, mac, packet, 110, [H1V])


@case(SUPPRESSION)
def unknown_nd(t):
    """A solicitation for an unknown address is flooded, once to each."""
    mac = ASKER % 4
    packet = solicitation(mac, "2001:db8:1::8804", "2001:db8:1::77")
    t.send(H1, packet)
    yield
    flooded(t, mac, packet, 110, [H1V])


@case(SUPPRESSION)
def local_target(t):
    """A request for a local host reaches it; whether the fabric hears it too is not said."""
    mac = ASKER % 5
    packet = arp_request(mac, "192.170.1.205", H1V.ip4)
    t.send(H1, packet)
    yield
    found = t.take("trunk", lambda p: p.src == mac)
    answers = t.take("host1", lambda p: p.dst == mac)
    t.check(len(found) + len(answers) == 1, f"{len(found)} copies, {len(answers)} answers")
    t.take("up0", lambda p: p.haslayer(UDP) and p[UDP].payload.payload.src == mac)


@case(SUPPRESSION)
def probe_of_known(t):
    """An ARP probe or DAD for a known remote address is answered or passed on, never lost nor both."""
    mac4, mac6 = ASKER % 6, ASKER % 7
    t.send(H1, arp_request(mac4, "0.0.0.0", REMOTE["ip4"]))
    t.send(H1, solicitation(mac6, "::", REMOTE["ip6"]))
    yield
    answers4 = t.take("host1", lambda p: p.dst == mac4)
    answers6 = t.take("host1", lambda p: p.haslayer(ICMPv6ND_NA) and p[ICMPv6ND_NA].tgt == REMOTE["ip6"]
                      and p[IPv6].dst == "ff02::1")
    for mac, answers in ((mac4, answers4), (mac6, answers6)):
        fabric = t.take("up0", lambda p, m=mac: p.haslayer(UDP) and p[UDP].payload.payload.src == m)
        t.take("trunk", lambda p, m=mac: p.src == m)
        t.check((len(answers), len(fabric)) in ((1, 0), (0, 2)), f"{len(answers)} answers, {len(fabric)} copies")
    for frame in answers6:
        packet = Ether(frame)
        wanted = advertisement(REMOTE["mac"], REMOTE["ip6"], "33:33:00:00:00:01", "ff02::1", answers=0,
                               override=packet[ICMPv6ND_NA].O)
        wanted.src = packet.src
        t.same(frame, bytes(wanted), "the advertisement")


@case(SUPPRESSION)
def not_configured(t):
    """Without neighborSuppression requests are flooded."""
    mac = ASKER % 8
    packet = arp_request(mac, "192.170.2.208", "192.170.2.99")
    t.send(H2, packet)
    mac6 = ASKER % 9
    packet6 = solicitation(mac6, "2001:db8:2::8809", "2001:db8:2::99")
    t.send(H2, packet6)
    yield
    flooded(t, mac, packet, 120, [H2V])
    flooded(t, mac6, packet6, 120, [H2V])


@case(SUPPRESSION)
def counted(t):
    """What was suppressed is counted, and shown."""
    yield
    text = str(t.output.state["counters"])
    t.check("arpSuppressed" in text and "ndSuppressed" in text, f"show counters has {text[:400]}")


@case(SUPPRESSION)
def from_fabric(t):
    """Requests of the fabric for local hosts reach them, once."""
    mac = ASKER % 10
    packet = arp_request(mac, "192.170.1.210", H1.ip4)
    t.fabric(A, 110, bytes(packet))
    yield
    found = t.take("host1", lambda p: p.src == mac)
    answers = t.take("up0", lambda p: p.haslayer(UDP) and p[UDP].payload.payload.dst == mac)
    t.take("trunk", lambda p: p.src == mac)
    t.check(len(found) + len(answers) == 1, f"{len(found)} copies, {len(answers)} answers")


@case(SUPPRESSION)
def flood_over_ipv6(t):
    """What is flooded over IPv6 has a right UDP checksum in each copy, whatever is inside."""
    packets = []
    for number, size in enumerate((8, 33, 700, 1201)):
        mac = ASKER % (32 + number)
        packets.append((mac, Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(
            src="192.170.6.99", dst="192.170.6.255") / UDP(sport=1000, dport=2000) / Raw(bytes(range(97, 120)) * 60)))
        packets[-1][1][Raw].load = packets[-1][1][Raw].load[:size]
    mac = ASKER % 40
    packets.append((mac, Ether(src=mac, dst="01:00:5e:01:01:01", type=0x88B5) / Raw(bytes(range(61)))))
    mac = ASKER % 41
    packets.append((mac, arp_request(mac, "192.170.6.98", "192.170.6.97")))
    for _, packet in packets:
        t.send(H6, packet)
    yield
    for mac, packet in packets:
        for vtep in (A, B):
            found = t.take("up0", lambda p, v=vtep, m=mac: p.haslayer(IPv6) and p[IPv6].dst == v.address[6]
                           and p.haslayer(UDP) and p[UDP].payload.payload.src == m)
            t.check(len(found) == 1, f"{vtep.address[6]} got {len(found)} copies of {packet.summary()}")
            t.encapsulated(found[0], vtep, 160, packet, 6, packet.summary(), tos=Ether(found[0]).payload.tc & 3)
