#!/usr/bin/python3
"""Writes Tests/FastPathTests/SegmentationVectors.swift: large frames and, made by scapy alone, their segments.

Run from the root of the repository: scripts/vectors/segmentation.py > Tests/FastPathTests/SegmentationVectors.swift
"""
from scapy.all import Ether, Dot1Q, Dot1AD, IP, IPv6, IPv6ExtHdrDestOpt, PadN, TCP, UDP, Raw, raw, GRE
from scapy.layers.vxlan import VXLAN

TCP4, TCP6, UDP_L4 = 1, 4, 5
ETHER = dict(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
PAYLOAD = bytes((i * 7 + 3) & 0xFF for i in range(256))


def cut(make, payload, size):
    """Segments of `payload`, each built from scratch by make(index, count, bytes)."""
    pieces = [payload[i:i + size] for i in range(0, len(payload), size)] or [b""]
    return [raw(make(i, len(pieces), piece)) for i, piece in enumerate(pieces)]


def tcp(index, count, size, flags):
    kept = "".join(f for f in flags if (f not in "FP" or index == count - 1) and (f != "C" or index == 0))
    return TCP(sport=40000, dport=443, seq=(0xFFFFFFF0 + index * size) & 0xFFFFFFFF, ack=77, window=512,
               flags=kept, options=[("NOP", None), ("NOP", None), ("Timestamp", (1, 2))])


def case(name, kind, size, count, stack, transport, start):
    payload = PAYLOAD[:count]
    segments = cut(lambda i, n, p: stack(i) / transport(i, n) / Raw(p), payload, size)
    # The whole: as the kernel has it, lengths of the whole and flags of first and last together.
    whole = raw(stack(0) / transport(0, 1) / Raw(payload))
    offset = 6 if kind == UDP_L4 else 16
    whole = whole[:start + offset] + b"\x12\x34" + whole[start + offset + 2:]
    return name, kind, size, start, offset, whole, segments


V4 = lambda i: Ether(**ETHER) / IP(src="10.0.0.1", dst="10.0.0.2", id=(0xFFFF + i) & 0xFFFF, flags="DF")
V6 = lambda i: Ether(**ETHER) / IPv6(src="fd00::1", dst="fd00::2", fl=0x12345)
VLAN = lambda i: Ether(**ETHER) / Dot1Q(vlan=20, prio=3) / IP(src="10.0.0.1", dst="10.0.0.2", id=9 + i)
QINQ = lambda i: Ether(**ETHER) / Dot1AD(vlan=100) / Dot1Q(vlan=20) / IPv6(src="fd00::1", dst="fd00::2")
EXT = lambda i: Ether(**ETHER) / IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
OPT = lambda i: Ether(**ETHER) / IP(src="10.0.0.1", dst="10.0.0.2", id=5 + i, options=[b"\x94\x04\x00\x00"])
INNER = lambda i: Ether(src="02:aa:00:00:00:01", dst="02:aa:00:00:00:02") / IP(src="192.168.0.1", dst="192.168.0.2", id=300 + i)
VXLAN4 = lambda i: (Ether(**ETHER) / IP(src="100.65.0.2", dst="100.65.0.1", id=7 + i)
                    / UDP(sport=50000, dport=4789, chksum=0) / VXLAN(vni=110, flags=8) / INNER(i))
VXLAN6 = lambda i: (Ether(**ETHER) / IPv6(src="fd65::2", dst="fd65::1")
                    / UDP(sport=50000, dport=4789) / VXLAN(vni=110, flags=8) / INNER(i))
GRE4 = lambda i: (Ether(**ETHER) / IP(src="100.65.0.2", dst="100.65.0.1", id=7 + i)
                  / GRE(key_present=1, key=5) / IP(src="192.168.0.1", dst="192.168.0.2", id=300 + i))
IPIP = lambda i: (Ether(**ETHER) / IP(src="100.65.0.2", dst="100.65.0.1", id=7 + i)
                  / IPv6(src="fd00::1", dst="fd00::2"))


def flags(size, names):
    return lambda i, n: tcp(i, n, size, names)


UDPH = lambda i, n: UDP(sport=40000, dport=53)
CASES = [
    case("TCP over IPv4, one byte left over, FIN PSH CWR", TCP4, 7, 22, V4, flags(7, "FPAC"), 34),
    case("TCP over IPv4, an exact multiple", TCP4, 8, 24, V4, flags(8, "PA"), 34),
    case("TCP over IPv4 with options", TCP4, 10, 25, OPT, flags(10, "A"), 38),
    case("TCP over IPv6", TCP6, 9, 31, V6, flags(9, "PA"), 54),
    case("TCP over IPv6 with an extension header", TCP6, 9, 20, EXT, flags(9, "PA"), 62),
    case("TCP in a VLAN", TCP4, 11, 34, VLAN, flags(11, "FA"), 38),
    case("TCP in two VLANs", TCP6, 13, 27, QINQ, flags(13, "PA"), 62),
    case("UDP over IPv4, odd sizes", UDP_L4, 5, 17, V4, UDPH, 34),
    case("UDP over IPv6", UDP_L4, 6, 13, V6, UDPH, 54),
    case("TCP in VXLAN over IPv4 without a checksum", TCP4, 9, 30, VXLAN4, flags(9, "PA"), 84),
    case("TCP in VXLAN over IPv6 with a checksum", TCP4, 9, 30, VXLAN6, flags(9, "PA"), 104),
    case("UDP in VXLAN over IPv6", UDP_L4, 9, 30, VXLAN6, UDPH, 104),
    case("TCP in GRE with a key", TCP4, 9, 30, GRE4, flags(9, "PA"), 62),
    case("TCP over IPv6 in IPv4", TCP6, 9, 30, IPIP, flags(9, "PA"), 74),
]

print("// Large frames and the segments that scapy makes of them; written by scripts/vectors/segmentation.py.\n")
print("import Testing\n")
print("struct SegmentationVector: Sendable, CustomTestStringConvertible {")
print("    var name: String\n    var gsoType: UInt8\n    var gsoSize: UInt16")
print("    var checksumStart: UInt16\n    var checksumOffset: UInt16\n    var frame: String\n    var segments: [String]")
print("    var testDescription: String { name }\n")
print("    static let all: [SegmentationVector] = [")


def literal(data, indent):
    text = data.hex()
    lines = [text[i:i + 80] for i in range(0, len(text), 80)]
    return ("\n" + " " * indent + "+ ").join(f'"{line}"' for line in lines)


for name, kind, size, start, offset, whole, segments in CASES:
    print(f'        SegmentationVector(\n            name: "{name}", gsoType: {kind}, gsoSize: {size},')
    print(f"            checksumStart: {start}, checksumOffset: {offset},")
    print(f"            frame: {literal(whole, 16)},\n            segments: [")
    for segment in segments:
        print(f"                {literal(segment, 20)},")
    print("            ]),")
print("    ]\n}")
