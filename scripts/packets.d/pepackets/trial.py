"""What one case sends, and how it says what must come of it."""
import struct

from pelab.frames import checksum
from scapy.layers.inet6 import IPv6
from scapy.layers.vxlan import VXLAN

from .frames import ICMP, IP, PORTS, UDP, Ether, Raw, difference, is6, vxlan
from .worlds import GATEWAYS, OWN, UP_MAC, Host


class Failed(Exception):
    """A case's rule does not hold."""


class Trial:
    """One case in one replay: frames by phase before the replay, frames by tag after it."""

    def __init__(self, case, numbers):
        self.case = case
        self.numbers = numbers          # shared by the cases of a replay: tags are unique
        self.phases = [[]]              # each [(port, frame)]
        self.expected = {}              # drop reason: count
        self.consumed = 0               # frames for the control plane: punted, and in no capture
        self.output = None
        self.index = None

    # Before the replay.

    def tag(self):
        """Eight bytes that no other packet of the replay has."""
        return b"<%06d>" % next(self.numbers)

    def payload(self, size=32):
        """(payload, tag) of `size` bytes."""
        tag = self.tag()
        return (tag + bytes(97 + i % 26 for i in range(size)))[:max(size, len(tag))], tag

    def send(self, where, packet):
        """Sends at a host's circuit, tagged as it must be, or at a port; returns the bytes."""
        if isinstance(where, Host):
            frame = bytes(where.wire(packet) if not isinstance(packet, bytes) else packet)
            where = where.port
        else:
            frame = bytes(packet)
        self.phases[-1].append((where, frame))
        return frame

    def fabric(self, vtep, vni, inner, family=4, **fields):
        """Sends `inner` as VXLAN from a VTEP to this node."""
        packet = vxlan(vtep.address[family], fields.pop("to", OWN[family]), vni, inner,
                       src_mac=vtep.hop, dst_mac=UP_MAC, **fields)
        return self.send("up0", packet)

    def then(self):
        """What is sent from here on arrives in a later burst."""
        self.phases.append([])

    def drops(self, reason, count=1):
        """`count` more packets must end as `reason`."""
        self.expected[reason] = self.expected.get(reason, 0) + count

    def consumes(self, count=1):
        """`count` more frames are for the control plane alone: answers to the gateway's questions."""
        self.consumed += count

    # After the replay.

    def check(self, condition, words):
        if not condition:
            raise Failed(words)

    def same(self, actual, expected, what):
        words = difference(bytes(actual), bytes(expected))
        self.check(not words, f"{what}: {words}")

    def found(self, tag):
        """[(port, frame)] that hold the tag, `PORT.host` for what was punted; they count as explained."""
        return self.index.tagged(tag)

    def nothing(self, tag, what="the packet"):
        found = self.found(tag)
        self.check(not found, f"{what} must not leave, and does at "
                   f"{', '.join(port for port, _ in found)}: {found and found[0][1].hex()}")

    def one(self, tag, port, what="the packet"):
        """The only frame with the tag, which must be at `port`."""
        found = self.found(tag)
        ports = [name for name, _ in found]
        self.check(ports == [port], f"{what} must leave once at {port}; it left at {ports or 'no port'}")
        return found[0][1]

    def take(self, port, wanted):
        """Frames without a tag at `port` for which `wanted(packet)` is true; explained from here on."""
        return self.index.untagged(port, wanted)

    def arrives(self, tag, host, expected, what="the packet"):
        """The tagged packet reached `host` as `expected`, and nobody else."""
        actual = self.one(tag, host.port, what)
        self.same(actual, bytes(host.wire(expected)), what)

    def tunnelled(self, tag, vtep, vni, inner, family=4, what="the packet", **outer):
        """The tagged packet left once, in VXLAN to `vtep`, as `inner`; returns its source port."""
        return self.encapsulated(self.one(tag, "up0", what), vtep, vni, inner, family, what, **outer)

    def encapsulated(self, actual, vtep, vni, inner, family=4, what="the packet", **outer):
        """`actual` is `inner` in VXLAN to `vtep`, every byte of it; returns its source port."""
        packet = Ether(actual)
        layer = IP if family == 4 else IPv6
        self.check(packet.haslayer(VXLAN) and isinstance(packet.payload, layer),
                   f"{what} must be VXLAN over IPv{family}, and is {packet.summary()}")
        sport = packet[UDP].sport
        self.check(sport in PORTS, f"{what}: source port {sport} is outside 49152–65535")
        more = {"ident": packet[IP].id} if family == 4 else {}
        wanted = vxlan(OWN[family], vtep.address[family], vni, inner, sport=sport, src_mac=UP_MAC,
                       dst_mac=vtep.hop, **more, **outer)
        if family == 6:
            wanted[IPv6].fl = packet[IPv6].fl
        self.same(actual, wanted, what)
        return sport

    def error(self, tag, host, original, kind, code, source=None, mtu=None, what="the ICMP error"):
        """One ICMP error about the tagged packet reached the local `host`, and nothing else left.

        `original`: the IP packet as it came. `kind`, `code`: by the family of `original`.
        """
        actual = self.one(tag, host.port, what)
        gateway = GATEWAYS[host.vni]
        family = 6 if is6(original.dst) else 4
        packet = Ether(actual)
        if host.vlan:
            self.check(packet.payload.vlan == host.vlan, f"{what} has VLAN {packet.payload.vlan}")
            packet = packet.payload
        expected = self.error_packet(packet.payload, original, kind, code, source or gateway.ip(family),
                                     mtu, what)
        ether = Ether(src=gateway.mac, dst=host.mac) / expected
        self.same(actual, host.wire(ether), what)

    def error_packet(self, actual, original, kind, code, source, mtu, what):
        """The ICMP error that RFC 792, 1812 and 4443 demand for `original`; free fields as in `actual`.

        `source`: an address, or several, one of which it must be.
        """
        six = is6(original.dst)
        layer = IPv6 if six else IP
        self.check(isinstance(actual, layer), f"{what} is {actual.summary()}")
        allowed = [source] if isinstance(source, str) else list(source)
        self.check(actual.src in allowed, f"{what} comes from {actual.src}, not from {allowed}")
        # As much as fits: RFC 1812 4.3.2.3 (576 bytes in all), RFC 4443 2.4 (c) (1280).
        quoted = bytes(original)[:1280 - 48 if six else 576 - 28]
        word = struct.pack("!I", mtu or 0)
        if six:
            body = struct.pack("!BBH", kind, code, 0) + word + quoted
            head = IPv6(src=actual.src, dst=original.src, nh=58, hlim=actual.hlim, tc=actual.tc, fl=actual.fl)
            pseudo = head.copy() / Raw(body)
            body = body[:2] + struct.pack("!H", _checksum6(pseudo, body)) + body[4:]
            self.check(actual.hlim >= 64, f"{what} has hop limit {actual.hlim}")
            return head / Raw(body)
        self.check(actual.ttl >= 64, f"{what} has TTL {actual.ttl}")
        head = IP(src=actual.src, dst=original.src, ttl=actual.ttl, id=actual.id, tos=actual.tos,
                  flags=actual.flags)
        message = ICMP(type=kind, code=code) / Raw(quoted)
        raw = bytearray(bytes(message))
        raw[4:8] = word
        raw[2:4] = b"\0\0"
        raw[2:4] = struct.pack("!H", checksum(bytes(raw)))
        return head / Raw(bytes(raw)) if head.proto == 1 else IP(
            src=head.src, dst=head.dst, ttl=head.ttl, id=head.id, tos=head.tos, flags=head.flags,
            proto=1) / Raw(bytes(raw))


def _checksum6(packet, body):
    """ICMPv6 checksum with its pseudo-header (RFC 8200 8.1)."""
    raw = bytes(packet)
    return checksum(raw[8:40] + struct.pack("!II", len(body), 58) + body)
