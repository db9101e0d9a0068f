"""Frames as hosts, VTEPs and gateways must send them, built with scapy, and how they differ."""
import ipaddress

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr,
                                ICMPv6NDOptSrcLLAddr, IPv6)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

BROADCAST = "ff:ff:ff:ff:ff:ff"
PORTS = range(49152, 65536)


def is6(address):
    return ":" in address


def ip(src, dst, **fields):
    """An IPv4 or IPv6 header with `ttl`, `tos` and the family's own fields."""
    if is6(dst):
        names = {"ttl": "hlim", "tos": "tc"}
        values = {names.get(key, key): value for key, value in fields.items()}
        return IPv6(src=src, dst=dst, **values)
    return IP(src=src, dst=dst, **fields)


def lower(packet):
    """The same packet one hop later: TTL less one, checksum right."""
    packet = packet.copy()
    if packet.haslayer(IPv6) and not isinstance(packet, IP):
        packet[IPv6].hlim -= 1
    else:
        packet[IP].ttl -= 1
        del packet[IP].chksum
    return packet


def solicited(address):
    """Solicited-node group of an IPv6 address, and its MAC (RFC 4291 2.7.1, RFC 2464 7)."""
    low = int(ipaddress.IPv6Address(address)) & 0xFFFFFF
    group = ipaddress.IPv6Address((0xFF02 << 112) | (1 << 32) | (0xFF << 24) | low)
    return str(group), "33:33:ff:%02x:%02x:%02x" % (low >> 16, low >> 8 & 255, low & 255)


def arp_request(mac, sender, target, to=BROADCAST):
    return Ether(src=mac, dst=to) / ARP(op=1, hwsrc=mac, psrc=sender, hwdst="00:00:00:00:00:00",
                                        pdst=target)


def arp_reply(mac, sender, to_mac, to, destination=None):
    return Ether(src=mac, dst=destination or to_mac) / ARP(
        op=2, hwsrc=mac, psrc=sender, hwdst=to_mac, pdst=to)


def solicitation(mac, sender, target, to=None, to_mac=None, option=True, hlim=255):
    """A neighbour solicitation; multicast unless `to` and `to_mac` say otherwise."""
    group, group_mac = solicited(target)
    packet = (Ether(src=mac, dst=to_mac or group_mac) / IPv6(src=sender, dst=to or group, hlim=hlim)
              / ICMPv6ND_NS(tgt=target))
    return packet / ICMPv6NDOptSrcLLAddr(lladdr=mac) if option and sender != "::" else packet


def advertisement(mac, address, to_mac, to, router=0, answers=1, override=1, option=True):
    """A neighbour advertisement of `address` at `mac`."""
    packet = (Ether(src=mac, dst=to_mac) / IPv6(src=address, dst=to, hlim=255)
              / ICMPv6ND_NA(R=router, S=answers, O=override, tgt=address))
    return packet / ICMPv6NDOptDstLLAddr(lladdr=mac) if option else packet


def vxlan(src, dst, vni, inner, sport=50000, src_mac="02:00:00:00:00:fe", dst_mac=None, tos=0,
          ttl=64, checksum=None, ident=0, dport=4789):
    """A VXLAN packet as a VTEP sends it; checksum None: zero on IPv4, computed on IPv6."""
    outer = ip(src, dst, ttl=ttl, tos=tos, **({} if is6(dst) else {"flags": "DF", "id": ident}))
    if checksum is None and not is6(dst):
        checksum = 0
    udp = UDP(sport=sport, dport=dport)
    if checksum is not None:
        udp.chksum = checksum
    header = VXLAN(flags=8, vni=vni)
    return Ether(src=src_mac, dst=dst_mac) / outer / udp / header / Raw(bytes(inner))


def fields(frame):
    """[(layer and field, value)] of a frame."""
    found = []
    layer, depth = Ether(frame), 0
    while layer:
        for field in layer.fields_desc:
            found.append((f"{depth} {layer.name} {field.name}", layer.getfieldval(field.name)))
        layer, depth = layer.payload, depth + 1
    return found


def difference(actual, expected):
    """What differs between two frames, field by field; empty when they are the same."""
    if actual == expected:
        return ""
    seen, wanted = fields(actual), fields(expected)
    words = [f"{name} = {value!r}, expected {other!r}"
             for (name, value), (same, other) in zip(seen, wanted) if name == same and value != other]
    shape = [name for name, _ in seen], [name for name, _ in wanted]
    if shape[0] != shape[1] or not words:
        words.append(f"\n      got      {actual.hex()}\n      expected {expected.hex()}")
    return "; ".join(words)
