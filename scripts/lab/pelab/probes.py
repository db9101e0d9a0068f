"""Probes of the routed lab: a tap that misses nothing, numbered datagrams, ARP and ND by hand."""
import collections
import contextlib
import ctypes
import select
import socket
import struct
import threading
import time

from .net import Background
from .shell import Disturbed
from .frames import checksum, mac_bytes, mac_text
from .traffic import BROADCAST, freebind

VXLAN_PORT = 4789
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_OUTGOING = 263, 6, 4

Frame = collections.namedtuple("Frame", "time outgoing raw")
# A VXLAN packet: outer addresses, UDP source port, TOS and TTL; VNI; the inner frame.
Tunnelled = collections.namedtuple("Tunnelled", "time source destination port tos ttl vni inner")
# A packet: addresses as text, what its header says, what is behind it.
Packet = collections.namedtuple("Packet", "source destination tos ttl protocol payload")


def _vxlan_filter():
    """Classic BPF: UDP to port 4789 over IPv4 without options, or over IPv6."""
    code = [(0x28, 0, 0, 12), (0x15, 0, 4, 0x0800), (0x30, 0, 0, 23), (0x15, 0, 7, 17),
            (0x28, 0, 0, 36), (0x15, 4, 5, VXLAN_PORT), (0x15, 0, 4, 0x86DD), (0x30, 0, 0, 20),
            (0x15, 0, 2, 17), (0x28, 0, 0, 56), (0x15, 0, 0, VXLAN_PORT), (0x06, 0, 0, 0x40000),
            (0x06, 0, 0, 0)]
    # The jumps of the last comparison and of the two protocol checks: accept is 11, refuse 12.
    code[3] = (0x15, 0, 12 - 4, 17)
    code[5] = (0x15, 11 - 6, 12 - 6, VXLAN_PORT)
    code[6] = (0x15, 0, 12 - 7, 0x86DD)
    code[8] = (0x15, 0, 12 - 9, 17)
    code[10] = (0x15, 0, 1, VXLAN_PORT)
    return b"".join(struct.pack("HBBI", *row) for row in code)


class Tap:
    """What passes a device, both ways; the kernel keeps it with its time until it is read."""

    def __init__(self, namespace, device, vxlan_only=True):
        self.name = f"{namespace.name}/{device}"
        self.socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        if vxlan_only:
            program = _vxlan_filter()
            buffer = ctypes.create_string_buffer(program, len(program))
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                                   struct.pack("HxxxxxxP", len(program) // 8,
                                               ctypes.addressof(buffer)))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 128 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)
        self.socket.bind((device, 0x0003))

    def read(self):
        """The frames since the last call; times are those of time.time()."""
        frames = []
        while True:
            try:
                data, ancillary, _, address = self.socket.recvmsg(1 << 17, 256)
            except BlockingIOError:
                break
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
            frames.append(Frame(seconds + nanoseconds / 1e9, address[2] == _PACKET_OUTGOING, data))
        _, lost = struct.unpack(
            "II", self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if lost:
            raise Disturbed(f"the tap on {self.name} lost {lost} frames")
        return frames

    def tunnelled(self, outgoing=None):
        """The VXLAN packets since the last call, of both directions or one."""
        decoded = [tunnelled(f.time, f.raw) for f in self.read()
                   if outgoing is None or f.outgoing == outgoing]
        return [packet for packet in decoded if packet]

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def packet(frame):
    """The IP packet of an untagged Ethernet frame; None for anything else."""
    kind = frame[12:14]
    if kind == b"\x08\0" and len(frame) >= 34:
        head = (frame[14] & 15) * 4
        return Packet(socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34]), frame[15],
                      frame[22], frame[23], frame[14 + head:14 + struct.unpack("!H", frame[16:18])[0]])
    if kind == b"\x86\xdd" and len(frame) >= 54:
        return Packet(socket.inet_ntop(socket.AF_INET6, frame[22:38]),
                      socket.inet_ntop(socket.AF_INET6, frame[38:54]),
                      (frame[14] & 15) << 4 | frame[15] >> 4, frame[21], frame[20],
                      frame[54:54 + struct.unpack("!H", frame[18:20])[0]])
    return None


def tunnelled(when, frame):
    outer = packet(frame)
    if not outer or outer.protocol != 17 or len(outer.payload) < 30:
        return None
    sport, dport = struct.unpack_from("!HH", outer.payload)
    if dport != VXLAN_PORT:
        return None
    return Tunnelled(when, outer.source, outer.destination, sport, outer.tos, outer.ttl,
                     int.from_bytes(outer.payload[12:15], "big"), outer.payload[16:])


class Datagrams:
    """Numbered UDP datagrams every `interval` seconds from one host to another, perhaps echoed."""

    def __init__(self, source, target, address, port, interval=0.02, echo=False):
        self.label = f"{source.name} -> {address}"
        self.interval = interval
        self.sent, self.arrived, self.echoed, self.refused = {}, {}, {}, []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._echo = echo
        self._receiver = target.socket(family, socket.SOCK_DGRAM)
        freebind(self._receiver, address)
        self._receiver.bind((address, port))
        self._sender = source.socket(family, socket.SOCK_DGRAM)
        self._sender.connect((address, port))
        for one in (self._receiver, self._sender):
            one.setblocking(False)
        self._stop = threading.Event()
        self._work = [Background(self._send), Background(self._receive)]

    def _send(self):
        sequence, due = 0, time.time()
        while not self._stop.is_set():
            self.sent[sequence] = time.time()
            try:
                self._sender.send(struct.pack("!I", sequence) + b"pe-dp probe")
            except OSError as error:   # an ICMP error that came for an earlier one
                self.refused.append((time.time(), error.errno))
                with contextlib.suppress(OSError):
                    self._sender.send(struct.pack("!I", sequence) + b"pe-dp probe")
            sequence += 1
            due = max(due + self.interval, time.time() - self.interval)
            time.sleep(max(0, due - time.time()))

    def _receive(self):
        while not self._stop.is_set():
            ready, _, _ = select.select([self._receiver, self._sender], [], [], 0.05)
            for one in ready:
                with contextlib.suppress(OSError):
                    data, peer = one.recvfrom(64)
                    sequence = struct.unpack_from("!I", data)[0]
                    where = self.arrived if one is self._receiver else self.echoed
                    where.setdefault(sequence, time.time())
                    if one is self._receiver and self._echo:
                        one.sendto(data, peer)

    def stop(self):
        self._stop.set()
        for work in self._work:
            work.join(5, f"datagrams {self.label}")
        self._sender.close()
        self._receiver.close()
        return self

    def outage(self, begin, end):
        """(lost, seconds from the first lost probe to the last) of those sent in that time.

        Raises Disturbed when the sender itself paused: what happened then is not known.
        """
        got = self.echoed if self._echo else self.arrived
        times = [(t, s) for s, t in sorted(self.sent.items()) if begin <= t <= end]
        pause = max((b[0] - a[0] for a, b in zip(times, times[1:])), default=float("inf"))
        if pause > 0.15:
            raise Disturbed(f"{self.label}: the probes themselves paused for {pause * 1e3:.0f} ms")
        lost = [t for t, s in times if s not in got]
        return len(lost), (lost[-1] - lost[0] + self.interval if lost else 0.0)


# ARP and ND by hand

def arp_request(mac, ip, target, destination=BROADCAST):
    """An Ethernet + ARP request of `mac` with `ip` for `target` (gratuitous when that is its own)."""
    return (mac_bytes(destination) + mac_bytes(mac) + b"\x08\x06\0\1\x08\0\6\4\0\1" + mac_bytes(mac)
            + socket.inet_aton(ip) + bytes(6) + socket.inet_aton(target) + bytes(18))


def arp_fields(frame):
    """(operation, sender MAC, sender IP, target IP) of an ARP frame, or None."""
    if frame[12:14] != b"\x08\x06" or len(frame) < 42:
        return None
    return (frame[21], mac_text(frame[22:28]), socket.inet_ntoa(frame[28:32]),
            socket.inet_ntoa(frame[38:42]))


def _icmp6(destination_mac, mac, source, destination, body):
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(
        socket.AF_INET6, destination)
    total = checksum(addresses + struct.pack("!II", len(body), 58) + body)
    body = body[:2] + struct.pack("!H", total) + body[4:]
    return (mac_bytes(destination_mac) + mac_bytes(mac) + b"\x86\xdd"
            + struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + addresses + body)


def neighbor_solicitation(mac, ip, target):
    """A multicast NS of `mac` with `ip` for `target` (RFC 4861, 4.3)."""
    last = socket.inet_pton(socket.AF_INET6, target)
    group = socket.inet_ntop(socket.AF_INET6, bytes.fromhex("ff0200000000000000000001ff") + last[13:])
    return _icmp6("33:33:ff:" + mac_text(last[13:]), mac, ip, group,
                  b"\x87\0\0\0" + bytes(4) + last + b"\1\1" + mac_bytes(mac))


def neighbor_advertisement(mac, ip):
    """An unsolicited NA of `mac` for its own `ip`, override set, to all nodes."""
    return _icmp6("33:33:00:00:00:01", mac, ip, "ff02::1",
                  b"\x88\0\0\0\x20\0\0\0" + socket.inet_pton(socket.AF_INET6, ip)
                  + b"\2\1" + mac_bytes(mac))


def nd_fields(frame):
    """(type, target, link-layer address option or None) of an NS or NA, or None."""
    inner = packet(frame)
    if not inner or inner.protocol != 58 or inner.payload[:1] not in (b"\x87", b"\x88"):
        return None
    body = inner.payload
    option = mac_text(body[26:32]) if len(body) >= 32 else None
    return body[0], socket.inet_ntop(socket.AF_INET6, body[8:24]), option


def ask(wire, frames, matches, timeout=1.0):
    """Sends frames on an ARP or IPv6 wire and returns what matches within the timeout, or sooner
    when as many have come."""
    for frame in frames:
        wire.send(frame)
    answers, end = [], time.time() + timeout
    while len(answers) < len(frames) and time.time() < end:
        select.select([wire.socket], [], [], 0.05)
        with contextlib.suppress(BlockingIOError):
            while True:
                data = wire.socket.recv(2048)
                if matches(data):
                    answers.append(data)
    return answers
