#!/usr/bin/python3
"""Writes Tests/WireTests/NeighborVectors.swift: ARP, ND, DHCP and ICMP packets, made by scapy alone.

Run from the root of the repository: scripts/vectors/neighbors.py > Tests/WireTests/NeighborVectors.swift
"""
from scapy.all import (ARP, BOOTP, DHCP, ICMP, ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6NDOptDstLLAddr,
                       ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr, ICMPv6NDOptUnknown, ICMPv6ND_NA, ICMPv6ND_NS,
                       ICMPv6ND_RA, ICMPv6ND_Redirect, ICMPv6ND_RS, ICMPv6PacketTooBig, ICMPv6ParamProblem,
                       ICMPv6TimeExceeded, IP, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, PadN, Raw, UDP,
                       raw)

A, B, G = "02:aa:00:00:00:01", "02:aa:00:00:00:02", "00:f3:00:00:00:6f"
A4, B4, G4 = "192.170.1.10", "192.170.1.20", "192.170.1.1"
A6, B6, G6, L6 = "2001:db8:1::10", "2001:db8:1::20", "2001:db8:1::1", "fe80::aa:ff:fe00:1"
SOLICITED = "ff02::1:ff00:20"

# IPv4 and IPv6 packets from their IP header on, ARP from its first byte on; a list keeps the order.
CASES = [
    ("arpRequest", ARP(op=1, hwsrc=A, psrc=A4, hwdst="00:00:00:00:00:00", pdst=B4)),
    ("arpReply", ARP(op=2, hwsrc=B, psrc=B4, hwdst=A, pdst=A4)),
    ("arpProbe", ARP(op=1, hwsrc=A, psrc="0.0.0.0", hwdst="00:00:00:00:00:00", pdst=A4)),
    ("arpAnnouncement", ARP(op=1, hwsrc=A, psrc=A4, hwdst="00:00:00:00:00:00", pdst=A4)),
    ("arpGratuitousReply", ARP(op=2, hwsrc=A, psrc=A4, hwdst="ff:ff:ff:ff:ff:ff", pdst=A4)),
    ("rarpRequest", ARP(op=3, hwsrc=A, psrc="0.0.0.0", hwdst=A, pdst="0.0.0.0")),
    ("solicitation", IPv6(src=A6, dst=SOLICITED, hlim=255) / ICMPv6ND_NS(tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("solicitationUnicast", IPv6(src=A6, dst=B6, hlim=255) / ICMPv6ND_NS(tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("solicitationNonce", IPv6(src=A6, dst=SOLICITED, hlim=255) / ICMPv6ND_NS(tgt=B6)
     / ICMPv6NDOptUnknown(type=14, len=1, data=b"\1\2\3\4\5\6") / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("duplicateDetection", IPv6(src="::", dst=SOLICITED, hlim=255) / ICMPv6ND_NS(tgt=B6)),
    ("advertisement", IPv6(src=B6, dst=A6, hlim=255) / ICMPv6ND_NA(R=0, S=1, O=1, tgt=B6) / ICMPv6NDOptDstLLAddr(lladdr=B)),
    ("advertisementRouter", IPv6(src=G6, dst=A6, hlim=255) / ICMPv6ND_NA(R=1, S=1, O=0, tgt=G6)
     / ICMPv6NDOptDstLLAddr(lladdr=G)),
    ("advertisementUnsolicited", IPv6(src=B6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(R=0, S=0, O=1, tgt=B6)
     / ICMPv6NDOptDstLLAddr(lladdr=B)),
    ("routerSolicitation", IPv6(src=L6, dst="ff02::2", hlim=255) / ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("routerAdvertisement", IPv6(src=L6, dst="ff02::1", hlim=255) / ICMPv6ND_RA(routerlifetime=1800)
     / ICMPv6NDOptPrefixInfo(prefix="2001:db8:1::", prefixlen=64) / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("redirect", IPv6(src=L6, dst=A6, hlim=255) / ICMPv6ND_Redirect(tgt=L6, dst=B6)),
    # Behind an extension header: unusual, and valid.
    ("solicitationExtension", IPv6(src=A6, dst=SOLICITED, hlim=255) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
     / ICMPv6ND_NS(tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("solicitationFragment", IPv6(src=A6, dst=SOLICITED, hlim=255) / IPv6ExtHdrFragment(m=1, id=7)
     / ICMPv6ND_NS(tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    # What a receiver must refuse, with right checksums.
    ("badHopLimit", IPv6(src=A6, dst=SOLICITED, hlim=254) / ICMPv6ND_NS(tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("badChecksum", IPv6(src=A6, dst=SOLICITED, hlim=255) / ICMPv6ND_NS(tgt=B6, cksum=0x1234)
     / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("badCode", IPv6(src=A6, dst=SOLICITED, hlim=255) / ICMPv6ND_NS(code=1, tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("badTargetMulticast", IPv6(src=A6, dst=SOLICITED, hlim=255) / ICMPv6ND_NS(tgt="ff02::20")
     / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("badOptionZero", IPv6(src=A6, dst=SOLICITED, hlim=255) / ICMPv6ND_NS(tgt=B6) / Raw(b"\1\0\2\3\4\5\6\7")),
    ("badOptionLong", IPv6(src=A6, dst=SOLICITED, hlim=255) / ICMPv6ND_NS(tgt=B6) / Raw(b"\1\2\2\3\4\5\6\7")),
    ("badOptionCut", IPv6(src=A6, dst=SOLICITED, hlim=255) / ICMPv6ND_NS(tgt=B6) / Raw(b"\1\1\2\3")),
    ("badSourceUnspecifiedUnicast", IPv6(src="::", dst=B6, hlim=255) / ICMPv6ND_NS(tgt=B6)),
    ("badSourceUnspecifiedOption", IPv6(src="::", dst=SOLICITED, hlim=255) / ICMPv6ND_NS(tgt=B6)
     / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    ("badSolicitedMulticast", IPv6(src=B6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(R=0, S=1, O=1, tgt=B6)
     / ICMPv6NDOptDstLLAddr(lladdr=B)),
    ("badLinkLayerMulticast", IPv6(src=B6, dst=A6, hlim=255) / ICMPv6ND_NA(R=0, S=1, O=1, tgt=B6)
     / ICMPv6NDOptDstLLAddr(lladdr="33:33:00:00:00:01")),
    ("echo", IP(src=A4, dst=G4, ttl=1, id=77) / ICMP(id=7, seq=9) / Raw(b"0123456789abcde")),
    ("echoReply", IP(src=G4, dst=A4, ttl=64, id=77) / ICMP(type=0, id=7, seq=9) / Raw(b"0123456789abcde")),
    ("echo6", IPv6(src=A6, dst=G6, hlim=1) / ICMPv6EchoRequest(id=7, seq=9, data=b"0123456789abcde")),
    ("echoReply6", IPv6(src=G6, dst=A6, hlim=64) / ICMPv6EchoReply(id=7, seq=9, data=b"0123456789abcde")),
]

UDP4 = IP(src=A4, dst="10.9.0.1", ttl=1, flags="DF", id=5) / UDP(sport=40000, dport=33434) / Raw(bytes(range(64)))
UDP6 = IPv6(src=A6, dst="2001:db8:9::1", hlim=1) / UDP(sport=40000, dport=33434) / Raw(bytes(range(64)))
BIG4 = IP(src=A4, dst="10.9.0.1", flags="DF", id=6) / UDP(sport=1, dport=2) / Raw(bytes(1400))
BIG6 = IPv6(src=A6, dst="2001:db8:9::1") / UDP(sport=1, dport=2) / Raw(bytes(1400))


def error4(packet, icmp):
    quote = raw(packet)[:576 - 28]
    return IP(src=G4, dst=A4, ttl=64, tos=0xC0, id=0x1234) / icmp / Raw(quote)


def error6(packet, icmp):
    return IPv6(src=G6, dst=A6, hlim=64, tc=0xC0) / icmp / Raw(raw(packet)[:1280 - 48])


ERRORS = [
    ("udp4", UDP4), ("udp6", UDP6), ("big4", BIG4), ("big6", BIG6),
    ("timeExceeded4", error4(UDP4, ICMP(type=11, code=0))),
    ("network4", error4(UDP4, ICMP(type=3, code=0))),
    ("host4", error4(UDP4, ICMP(type=3, code=1))),
    ("protocol4", error4(UDP4, ICMP(type=3, code=2))),
    ("port4", error4(UDP4, ICMP(type=3, code=3))),
    ("prohibited4", error4(UDP4, ICMP(type=3, code=13))),
    ("tooBig4", error4(BIG4, ICMP(type=3, code=4, nexthopmtu=1350))),
    ("timeExceeded6", error6(UDP6, ICMPv6TimeExceeded(code=0))),
    ("noRoute6", error6(UDP6, ICMPv6DestUnreach(code=0))),
    ("prohibited6", error6(UDP6, ICMPv6DestUnreach(code=1))),
    ("address6", error6(UDP6, ICMPv6DestUnreach(code=3))),
    ("port6", error6(UDP6, ICMPv6DestUnreach(code=4))),
    ("nextHeader6", error6(UDP6, ICMPv6ParamProblem(code=1, ptr=6))),
    ("tooBig6", error6(BIG6, ICMPv6PacketTooBig(mtu=1430))),
]


def lease(options, op=2, yiaddr=A4, **fields):
    return raw(BOOTP(op=op, yiaddr=yiaddr, chaddr=bytes.fromhex(A.replace(":", "")), xid=7, **fields) / DHCP(options=options))


DHCPS = [
    ("ack", lease([("message-type", "ack"), ("server_id", G4), ("lease_time", 3600), "end"])),
    ("ackLater", lease([("server_id", G4), "pad", "pad", ("router", G4), ("message-type", "ack"), "end"])),
    ("offer", lease([("message-type", "offer"), "end"])),
    ("nak", lease([("message-type", "nak"), "end"], yiaddr="0.0.0.0")),
    ("inform", lease([("message-type", "ack"), "end"], yiaddr="0.0.0.0", ciaddr=A4)),
    ("request", lease([("message-type", "request"), "end"], op=1)),
    ("afterEnd", lease(["end", ("message-type", "ack")])),
    ("hardware", lease([("message-type", "ack"), "end"], htype=6)),
]


def literal(data, indent):
    text = data.hex()
    lines = [text[i:i + 88] for i in range(0, len(text), 88)]
    return ("\n" + " " * indent + "+ ").join(f'"{line}"' for line in lines)


print("// Neighbour, DHCP and ICMP packets made by scapy; written by scripts/vectors/neighbors.py.\n")
for title, doc, cases in [
        ("NeighborVector", "ARP from its first byte, ND and echo from their IP header on.", CASES),
        ("ICMPErrorVector", "Packets, and the ICMP errors that quote them, from their IP header on.", ERRORS),
        ("DHCPVector", "DHCP messages: what a UDP packet carries.", DHCPS)]:
    print(f"/// {doc}\nenum {title} {{")
    for name, packet in cases:
        print(f"    static let {name} =\n        {literal(raw(packet), 8)}")
    print("}")
