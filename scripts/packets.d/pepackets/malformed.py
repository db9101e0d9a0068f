"""Broken packets of every kind: each ends once, by name, and the next good packet is forwarded."""
import random
import struct

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet6 import (ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, IPv6,
                                IPv6ExtHdrDestOpt, IPv6ExtHdrFragment)
from scapy.layers.l2 import ARP

from .frames import (BROADCAST, ICMP, IP, TCP, UDP, Ether, Raw, advertisement, arp_reply, arp_request, ip, lower,
                     solicitation, vxlan)
from .irb import FAR, probe, router_mac, to_gateway
from .runner import case
from .worlds import (A, B, BLUE, BLUE_RMAC, GATEWAYS, H1, H1V, H3, H6, LEG, OWN, RED, REMOTE, SIX, SIX_RMAC,
                     UP_MAC, world)

BROKEN = world("broken", clean=False)
ASKER = "02:00:00:00:99:%02x"


def put(packet, at, values):
    """The frame with other bytes at `at` of its IP header or ARP packet (after Ethernet)."""
    frame = bytearray(bytes(packet))
    frame[14 + at:14 + at + len(values)] = values
    return bytes(frame)


def resum(frame):
    """The same with a right IPv4 header checksum."""
    packet = bytearray(frame)
    size = (packet[14] & 15) * 4
    packet[24:26] = b"\0\0"
    words = bytes(packet[14:14 + size])
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    packet[24:26] = struct.pack("!H", ~total & 0xFFFF)
    return bytes(packet)


@case(BROKEN)
def ipv4_headers(t):
    """Version, header length, total length, checksum: each broken header is dropped, without ICMP."""
    tags = []

    def send(change):
        packet, tag = probe(t, H1.ip4, FAR[4])
        t.send(H1, change(bytes(to_gateway(H1, packet))))
        tags.append(tag)
    send(lambda f: resum(put(f, 0, b"\x55")))                   # version 5
    send(lambda f: resum(put(f, 0, b"\x65")))                   # version 6 in an IPv4 frame
    send(lambda f: put(f, 0, b"\x44"))                          # header of 16 bytes
    send(lambda f: put(f, 0, b"\x40"))
    send(lambda f: resum(put(f, 2, b"\x00\x13")))               # total length less than the header
    send(lambda f: resum(put(f, 2, b"\x00\x00")))
    send(lambda f: resum(put(f, 2, b"\xff\xff")))               # more than there is
    send(lambda f: resum(put(f, 2, struct.pack("!H", len(f) - 14 + 1))))
    send(lambda f: put(f, 10, b"\x12\x34"))                     # checksum
    send(lambda f: put(f, 8, b"\x21"))                          # TTL changed, checksum not
    t.drops("innerIPv4Header", len(tags))
    yield
    for tag in tags:
        t.nothing(tag)


@case(BROKEN)
def ipv6_headers(t):
    """Version and payload length."""
    tags = []
    for at, values in ((0, b"\x40"), (0, b"\x50"), (4, b"\xff\xff"), (4, struct.pack("!H", 41))):
        packet, tag = probe(t, H1.ip6, FAR[6], 32)
        t.send(H1, put(to_gateway(H1, packet), at, values))
        tags.append(tag)
    t.drops("innerIPv6Header", len(tags))
    yield
    for tag in tags:
        t.nothing(tag)


@case(BROKEN)
def headers_from_fabric(t):
    """The same inside VXLAN, for the own router MAC."""
    tags = []
    for change in (lambda f: put(f, 0, b"\x55"), lambda f: put(f, 10, b"\x12\x34"),
                   lambda f: resum(put(f, 2, b"\xff\xff")), lambda f: resum(put(f, 2, b"\x00\x05"))):
        packet, tag = probe(t, FAR[4], H3.ip4)
        t.fabric(B, BLUE, change(bytes(Ether(src=B.rmac, dst=BLUE_RMAC) / packet)))
        tags.append(tag)
    t.drops("innerIPv4Header", 4)
    for at, values in ((0, b"\x40"), (4, b"\xff\xff")):
        packet, tag = probe(t, FAR[6], H3.ip6)
        t.fabric(B, BLUE, put(Ether(src=B.rmac, dst=BLUE_RMAC) / packet, at, values))
        tags.append(tag)
    t.drops("innerIPv6Header", 2)
    yield
    for tag in tags:
        t.nothing(tag)


@case(BROKEN)
def arp_kinds(t):
    """ARP with wrong types, lengths, operations or addresses is dropped, and binds nothing."""
    mac, gateway, frames = ASKER % 1, GATEWAYS[110], []
    for good in (arp_request(mac, "192.170.1.151", gateway.ip4), arp_reply(mac, "192.170.1.151", H1V.mac, H1V.ip4)):
        frames += [put(good, 0, b"\x00\x06"), put(good, 2, b"\x86\xdd"), put(good, 4, b"\x08"), put(good, 4, b"\x00"),
                   put(good, 5, b"\x10"), put(good, 5, b"\x00"),
                   put(good, 8, bytes.fromhex("ffffffffffff")),     # sender hardware address: broadcast
                   put(good, 8, bytes.fromhex("01005e000001")),
                   put(good, 14, bytes([224, 0, 0, 1])), put(good, 14, bytes([255, 255, 255, 255])),
                   put(good, 14, bytes([127, 0, 0, 1])),
                   bytes(good)[:41], bytes(good)[:20], bytes(good)[:14]]
    for frame in frames:
        t.send(H1, frame)
    t.drops("malformedARP", len(frames))
    yield
    passed = t.take("trunk", lambda p: p.src == mac) + t.take("host1", lambda p: p.dst == mac)
    t.check(not passed, f"{len(passed)} were passed on or answered, such as {passed and passed[0].hex()}")
    rows = [r for r in t.output.state["neighbors"] if r.get("mac") in (mac, BROADCAST) or "151" in str(r)]
    t.check(not rows, f"bindings: {rows}")


@case(BROKEN)
def nd_kinds(t):
    """ND with hop limit below 255, wrong checksum, code, length, option or target is dropped."""
    mac, gateway, frames = ASKER % 2, GATEWAYS[110], []
    sender = "2001:db8:1::9902"
    for good in (solicitation(mac, sender, gateway.ip6), advertisement(mac, sender, H1V.mac, H1V.ip6)):
        def fixed(change, good=good):
            packet = good.copy()
            change(packet)
            return bytes(packet)
        kind = ICMPv6ND_NS if good.haslayer(ICMPv6ND_NS) else ICMPv6ND_NA
        for hops in (0, 1, 64, 254):
            frames.append(fixed(lambda p, h=hops: setattr(p[IPv6], "hlim", h)))
        frames.append(fixed(lambda p: setattr(p[kind], "cksum", 0x4242)))
        frames.append(fixed(lambda p: setattr(p[kind], "code", 1)))
        frames.append(fixed(lambda p: setattr(p[kind], "tgt", "ff02::1")))
        raw = bytes(good)
        option = len(raw) - 8
        for size in (0, 2, 255):       # option length in units of 8 bytes
            frames.append(_icmp6(raw[:option] + raw[option:option + 1] + bytes([size]) + raw[option + 2:]))
        frames.append(_icmp6(_shorter(raw, 4)))
        frames.append(_icmp6(_shorter(raw, 7)))
        frames.append(_icmp6(_shorter(raw, 16)))
    # Solicitations from :: to a unicast address, or with an option (RFC 4861 7.1.1).
    probe_frame = solicitation(mac, "::", gateway.ip6, gateway.ip6, gateway.mac)
    frames.append(bytes(probe_frame))
    # An advertisement to a group that claims to be solicited (7.1.2).
    frames.append(bytes(advertisement(mac, sender, "33:33:00:00:00:01", "ff02::1", answers=1)))
    for frame in frames:
        t.send(H1, frame)
    t.drops("malformedND", len(frames))
    yield
    passed = t.take("trunk", lambda p: p.src == mac) + t.take("host1", lambda p: p.dst == mac)
    t.check(not passed, f"{len(passed)} were passed on or answered, such as {passed and passed[0].hex()}")
    rows = [r for r in t.output.state["neighbors"] if r.get("mac") == mac]
    t.check(not rows, f"bindings: {rows}")


def _shorter(frame, count):
    """The IPv6 packet without its last bytes, its length right."""
    frame = bytearray(frame[:len(frame) - count])
    frame[18:20] = struct.pack("!H", len(frame) - 54)
    return bytes(frame)


def _icmp6(frame):
    """The frame with a right ICMPv6 checksum."""
    frame = bytearray(frame)
    frame[56:58] = b"\0\0"
    body = bytes(frame[54:])
    data = bytes(frame[22:54]) + struct.pack("!II", len(body), 58) + body + b"\0" * (len(body) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    frame[56:58] = struct.pack("!H", ~total & 0xFFFF)
    return bytes(frame)


@case(BROKEN)
def dhcp_kinds(t):
    """A DHCP acknowledgement binds its address; broken ones are passed on and bind nothing."""
    server, good_mac, bad = "02:00:00:00:99:67", ASKER % 3, []
    tags = []

    def acknowledge(mac, address, options, sport=67):
        payload, tag = t.payload(8)
        packet = Ether(src=server, dst=mac) / IP(src="192.170.1.3", dst=address) / UDP(sport=sport, dport=68) / BOOTP(
            op=2, yiaddr=address, chaddr=bytes.fromhex(mac.replace(":", "")) + bytes(10),
            sname=payload[:8]) / DHCP(options=options)
        tags.append(tag)
        return bytes(packet)
    full = [("message-type", "ack"), ("server_id", "192.170.1.3"), ("lease_time", 600), "end"]
    good = acknowledge(good_mac, "192.170.1.160", full)
    for number in range(5):
        mac, address = ASKER % (16 + number), f"192.170.1.{161 + number}"
        frame = acknowledge(mac, address, full if number else [("message-type", "nak"), "end"])
        cookie = frame.index(b"\x63\x82\x53\x63")
        bad.append({0: frame, 1: frame[:cookie] + b"\0\0\0\0" + frame[cookie + 4:],
                    2: frame[:cookie + 5] + b"\xff" + frame[cookie + 6:], 3: frame[:cookie - 100],
                    4: frame[:cookie + 4]}[number])
    t.send(H1, Ether(src=server, dst=BROADCAST) / ARP(op=1, hwsrc=server, psrc="192.170.1.3", pdst="192.170.1.3"))
    for mac in (good_mac, *(ASKER % (16 + n) for n in range(5))):
        payload, tag = t.payload(50)
        tags.append(tag)
        t.send(H1V, Ether(src=mac, dst=H1.mac, type=0x88B5) / Raw(payload))
    t.then()
    for frame in [good] + bad:
        t.send(H1, frame)
    yield
    for tag in tags:
        t.found(tag)
    for port in ("trunk", "up0", "host1"):
        t.take(port, lambda p: server in bytes(p).hex(":"))
    rows = {r.get("ip") or r.get("address"): r for r in t.output.state["neighbors"]}
    t.check("192.170.1.160" in rows and rows["192.170.1.160"]["mac"] == good_mac, f"no binding: {sorted(rows)}")
    wrong = [a for a in rows if a in [f"192.170.1.{161 + n}" for n in range(5)]]
    t.check(not wrong, f"bindings from broken acknowledgements: {wrong}")


@case(BROKEN)
def martian_macs(t):
    """Group and zero source addresses."""
    tags = []
    for source, reason in (("01:00:5e:00:00:01", "multicastSource"), ("00:00:00:00:00:00", "zeroSource")):
        packet, tag = probe(t, H1.ip4, FAR[4])
        t.send(H1, Ether(src=source, dst=GATEWAYS[110].mac) / packet)
        tags.append(tag)
        t.drops(reason)
    yield
    for tag in tags:
        t.nothing(tag)


CUT = world("cut", clean=False)


def _samples(t):
    """[(where, frame)]: one good frame of each kind that pe-dp looks into."""
    gateway = GATEWAYS[110]
    inner4 = Ether(src=B.rmac, dst=BLUE_RMAC) / probe(t, FAR[4], H3.ip4)[0]
    inner6 = Ether(src=A.rmac, dst=SIX_RMAC) / probe(t, FAR[6], H6.ip6)[0]
    dhcp = Ether(src=ASKER % 9, dst=BROADCAST) / IP(src="192.170.1.3", dst="255.255.255.255") / UDP(
        sport=67, dport=68) / BOOTP(op=2, yiaddr="192.170.1.190") / DHCP(options=[("message-type", "ack"), "end"])
    return [
        ("host1", to_gateway(H1, probe(t, H1.ip4, FAR[4])[0])), ("host1", to_gateway(H1, probe(t, H1.ip6, FAR[6])[0])),
        ("host1", to_gateway(H1, ip(H1.ip4, gateway.ip4) / ICMP() / Raw(bytes(30)))),
        ("host1", to_gateway(H1, ip(H1.ip6, gateway.ip6) / ICMPv6EchoRequest(data=bytes(30)))),
        ("host1", to_gateway(H1, ip(H1.ip6, FAR[6]) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment() / TCP())),
        ("host1", arp_request(H1.mac, H1.ip4, gateway.ip4)), ("host1", arp_request(H1.mac, H1.ip4, REMOTE["ip4"])),
        ("host1", solicitation(H1.mac, H1.ip6, gateway.ip6)), ("host1", solicitation(H1.mac, H1.ip6, REMOTE["ip6"])),
        ("trunk", H1V.wire(arp_request(H1V.mac, H1V.ip4, gateway.ip4))),
        ("trunk", H1V.wire(to_gateway(H1V, probe(t, H1V.ip4, FAR[4], ttl=1)[0]))), ("host1", dhcp),
        ("up0", vxlan(B.address[4], OWN[4], BLUE, inner4, src_mac=B.hop, dst_mac=UP_MAC)),
        ("up0", vxlan(A.address[6], OWN[6], SIX, inner6, src_mac=A.hop, dst_mac=UP_MAC)),
        ("leg0", Ether(src="02:00:00:00:50:02", dst=LEG["mac"]) / probe(t, "10.50.0.2", H1.ip4)[0])]


def _survivor(t, phase=True):
    """A good packet behind all that is broken."""
    if phase:
        t.then()
    packet, tag = probe(t, H1.ip4, FAR[4])
    t.send(H1, to_gateway(H1, packet))
    return packet, tag


def _settle(t, packet, tag):
    """Whatever came of the broken ones, the books must agree, and the good packet is through."""
    t.tunnelled(tag, A, RED, Ether(src=router_mac(t, "red"), dst=A.rmac) / lower(packet))
    for reason, count in t.output.summary["dropped"].items():
        t.drops(reason, count)
    t.index.free.clear()


@case(CUT)
def truncated(t):
    """Frames cut at each length: none ends the process, each is accounted, and forwarding goes on."""
    for port, packet in _samples(t):
        frame = bytes(packet)
        for size in range(1, len(frame)):
            t.send(port, frame[:size])
    good = _survivor(t)
    yield
    _settle(t, *good)


FUZZED = world("mutated", clean=False)


@case(FUZZED)
def mutated(t):
    """2000 frames with random bytes changed (fixed seed): the same."""
    rng = random.Random(20260101)
    samples = [(port, bytes(packet)) for port, packet in _samples(t)]
    for _ in range(2000):
        port, frame = rng.choice(samples)
        frame = bytearray(frame)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(frame))
            frame[place] = rng.choice((0, 1, 0x7F, 0xFF, frame[place] ^ 1 << rng.randrange(8), rng.randrange(256)))
        t.send(port, bytes(frame))
    good = _survivor(t)
    yield
    _settle(t, *good)
