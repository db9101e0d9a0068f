"""The traffic model: what the frames are, and the testbed's addresses.

The generator (bench/sources/pktgen/traffic.c) writes the same frames; bench/pktgen --smoke compares the
two byte by byte. Configuration and profiles are made from here, so that they cannot drift from them.
"""

import ipaddress
import struct
from dataclasses import dataclass

from pebench.lab import checksum

BRIDGED, ROUTED, UNCHANGED = 0, 1, 2
ENCAP, DECAP = 0, 1
DIRECTION_NAMES = ("encap", "decap")

DEVICE_MAC, PEER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
GATEWAY_MAC, ROUTER_MAC = bytes.fromhex("00f300000001"), bytes.fromhex("020000006401")
DEVICE_VTEP4, DEVICE_VTEP6 = ipaddress.ip_address("100.65.0.1"), ipaddress.ip_address("fd00:65::1")
FIRST_VTEP4, FIRST_VTEP6 = ipaddress.ip_address("100.65.2.0"), ipaddress.ip_address("fd00:65::200")
LOCAL_HOST, REMOTE_HOST = ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("10.128.0.0")
GATEWAY_IP = "10.0.255.254/16"
L2VNI, L3VNI, VXLAN_PORT, MAGIC = 0x1000, 0x2000, 4789, 0x7065
MOST_LOCALS = 1024

# Inner frame sizes with FCS, as RFC 2544 counts; 7:4:1 of the IMIX spread over twelve frames.
SIZES = {"64": [64], "imix": [64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 64, 570], "1500": [1500]}


class ModelError(ValueError):
    """A traffic description that makes no sense, in words for the user."""


def host_mac(kind, host):
    """Odd factors permute 32 bits: every host has a MAC of its own, and neighbours share no bucket."""
    return bytes([2, kind]) + ((host * 2654435761) & 0xFFFFFFFF).to_bytes(4, "little")


def local_mac(host):
    return host_mac(0xAA, host)


def remote_mac(host):
    return host_mac(0xBB, host)


def remote_router(vtep):
    return bytes([2, 0, 0, 0x65, vtep >> 8, vtep & 255])


def ipv4(source, destination, count, identifier_flags=0):
    addresses = source.packed + destination.packed
    head = struct.pack(">BBHHHBBH", 0x45, 0, count, 0, identifier_flags, 64, 17, 0) + addresses
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:]


@dataclass(frozen=True)
class Traffic:
    """One traffic of the testbed; see `docs/pktgen.md`, "The traffic"."""

    service: int = BRIDGED
    directions: int = 3  # bit 0: encap, bit 1: decap
    ipv6: bool = False
    flows: int = 1000
    macs: int = 1000
    vnis: int = 1
    vteps: int = 64
    frame: str = "64"

    def __post_init__(self):
        for name, most in (("flows", 1 << 24), ("macs", 1 << 24), ("vnis", 4000), ("vteps", 1024)):
            if not 1 <= getattr(self, name) <= most:
                raise ModelError(f"--{name} must be 1 to {most}")
        self.sizes()

    @classmethod
    def of_journey(cls, journey, **rest):
        """`l2`, `l3` or `plain`, with `-encap` or `-decap` for one direction only."""
        kind, _, way = journey.partition("-")
        services = {"l2": BRIDGED, "l3": ROUTED, "plain": UNCHANGED}
        directions = {"": 3, "encap": 1, "decap": 2}
        if kind not in services or way not in directions:
            raise ModelError(f'"{journey}" is no journey: l2, l3 or plain, alone or with -encap or -decap')
        return cls(service=services[kind], directions=directions[way], **rest)

    @property
    def locals(self):
        return min(self.macs, MOST_LOCALS)

    def sizes(self):
        """Inner frames in memory, one after the other: without FCS."""
        if self.frame in SIZES:
            return [size - 4 for size in SIZES[self.frame]]
        if not self.frame.isdigit() or not 64 <= int(self.frame) <= 1518:
            raise ModelError('--frame must be "imix" or 64 to 1518 bytes, FCS included')
        return [int(self.frame) - 4]

    def outer_bytes(self):
        return 0 if self.service == UNCHANGED else 70 if self.ipv6 else 50

    def has_tags(self):
        return self.vnis > 1 and self.service != UNCHANGED

    def active(self):
        return [direction for direction in (ENCAP, DECAP) if self.directions >> direction & 1]

    def wire_bytes(self, direction):
        """Mean size of a frame on the wire that the generator sends: with FCS, preamble and gap."""
        sizes = self.sizes()
        extra = self.outer_bytes() if direction == DECAP else 4 if self.has_tags() else 0
        return sum(sizes) / len(sizes) + extra + 4 + 20

    def wire_bytes_back(self, direction):
        """The same of the frame that comes back."""
        sizes = self.sizes()
        extra = self.outer_bytes() if direction == ENCAP else 4 if self.has_tags() else 0
        return sum(sizes) / len(sizes) + extra + 4 + 20

    def command(self):
        """What the generator is told."""
        return {
            "command": "traffic", "service": self.service, "ipv6": self.ipv6, "flows": self.flows,
            "macs": self.macs, "locals": self.locals, "vnis": self.vnis, "vteps": self.vteps,
            "sizes": ",".join(map(str, self.sizes())),
        }

    def vtep(self, index):
        return (FIRST_VTEP6 if self.ipv6 else FIRST_VTEP4) + index

    def frame_bytes(self, direction, sequence, trial=1, stamp=0, marked=True):
        """A whole frame as the generator sends it; payload behind the mark is zero."""
        sizes = self.sizes()
        size = sizes[sequence % len(sizes)]
        flow = sequence % self.flows
        remote = flow % self.macs
        local, routed = remote % self.locals, self.service == ROUTED
        near, far = (LOCAL_HOST + local), (REMOTE_HOST + remote)
        source, destination = (near, far) if direction == ENCAP else (far, near)
        mark = struct.pack(">HHIIHI", MAGIC, trial << 1 | direction, sequence, flow, stamp >> 32, stamp & 0xFFFFFFFF)
        udp = struct.pack(">HHHH", flow & 0xFFFF, 9 + (flow >> 16), size - 34, 0)
        payload = (mark if marked else b"").ljust(size - 42, b"\0")
        packet = ipv4(source, destination, size - 14) + udp + payload
        if direction == ENCAP:
            addresses = (GATEWAY_MAC if routed else remote_mac(remote)) + local_mac(local)
        elif routed:
            addresses = ROUTER_MAC + remote_router(remote % self.vteps)
        else:
            addresses = local_mac(local) + remote_mac(remote)
        if direction == ENCAP and self.has_tags():
            addresses += struct.pack(">HH", 0x8100, 1 + remote % self.vnis)
        inner = addresses + b"\x08\x00" + packet
        return self._outer(len(inner), flow, remote) + inner if direction == DECAP else inner

    def _outer(self, count, flow, remote):
        if self.service == UNCHANGED:
            return b""
        vni = (L3VNI if self.service == ROUTED else L2VNI) + remote % self.vnis
        port = 0xC000 | ((flow * 2654435761) & 0xFFFFFFFF) >> 18
        udp = struct.pack(">HHHH", port, VXLAN_PORT, count + 16, 0) + struct.pack(">II", 0x08000000, vni << 8)
        vtep = self.vtep(remote % self.vteps)
        if self.ipv6:
            head = struct.pack(">IHBB", 0x60000000, count + 16, 17, 64) + vtep.packed + DEVICE_VTEP6.packed
            return DEVICE_MAC + PEER_MAC + b"\x86\xdd" + head + udp
        return DEVICE_MAC + PEER_MAC + b"\x08\x00" + ipv4(vtep, DEVICE_VTEP4, count + 36, 0x4000) + udp
