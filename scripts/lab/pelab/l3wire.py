"""Scenarios: what routed packets look like in the tunnel and after it; path MTU."""
import re
import struct
import time

from . import capture, traffic
from .basics import MEBIBYTE
from .frames import udp6_frame, udp_frame
from .l3routing import pairs, reach, said_line
from .l3topology import L3VNI, gateway_mac
from .probes import VXLAN_PORT, Tap, packet
from .shell import LabError, wait

FIELDS = ["eth.src", "eth.dst", "ip.src", "ip.dst", "ip.ttl", "ip.dsfield.dscp", "ip.dsfield.ecn",
          "ip.flags.df", "ip.checksum.status", "ipv6.src", "ipv6.dst", "ipv6.hlim",
          "ipv6.tclass.dscp", "ipv6.tclass.ecn", "udp.srcport", "udp.dstport", "udp.checksum",
          "udp.checksum.status", "vxlan.flags", "vxlan.vni", "_ws.malformed"]
OPTIONS = ["-o ip.check_checksum:TRUE", "-o udp.check_checksum:TRUE"]
DSCPS = (0, 10, 46)
NOT_ECT, ECT1, ECT0, CE = range(4)
FIRST_PORT = 40000


class Layer:
    """The fields of one of a row's IP headers: the outer (0) or the inner one (1)."""

    def __init__(self, row, outer_family, inner_family, which):
        family = (outer_family, inner_family)[which]
        index = 1 if which and outer_family == inner_family else 0
        names = (("ip.src", "ip.dst", "ip.ttl", "ip.dsfield.dscp", "ip.dsfield.ecn") if family == 4
                 else ("ipv6.src", "ipv6.dst", "ipv6.hlim", "ipv6.tclass.dscp", "ipv6.tclass.ecn"))
        values = [row[name][index] for name in names]
        self.source, self.destination = values[:2]
        self.ttl, self.dscp, self.ecn = (int(v, 0) for v in values[2:])


def probes(lab):
    """{inner source port: (family, DSCP, ECN, frame of h1 for h4)} of every combination."""
    h1, h4 = lab.hosts["h1"], lab.hosts["h4"]
    found, port = {}, FIRST_PORT
    for family in (4, 6):
        for dscp in DSCPS:
            for ecn in range(4):
                found[port] = (family, dscp, ecn, udp_probe(
                    gateway_mac(h1.vni), h1.mac, h1, h4, family, port, dscp << 2 | ecn))
                port += 1
    return found


def udp_probe(destination_mac, mac, source, target, family, port, tos, ttl=64):
    """A UDP packet from one host to another, with a payload of odd length."""
    payload = b"seven bytes and more."
    if family == 6:
        return udp6_frame(destination_mac, mac, target.ip6, source.ip6, 9, port, payload, tos, ttl)
    return udp_frame(destination_mac, mac, target.ip4, source.ip4, 9, port, payload, tos, ttl)


def wire(lab, c):
    """h1 -> h4 through the L3VNI in tshark; and packets for h1 with all ECN combinations."""
    h1, h4 = lab.hosts["h1"], lab.hosts["h4"]
    reach(lab, wanted=pairs(lab, [h1, h4]))
    sent = probes(lab)
    with Tap(lab.namespaces["rr"], "pe1") as underlay, Tap(h4.namespace, "eth0", False) as end, \
            traffic.Wire(h1.namespace, "eth0") as wire_h1:
        for _, _, _, frame in sent.values():
            wire_h1.send(frame)
        arrived = {}

        def all_arrived():
            for frame in end.read():
                inner = packet(frame.raw)
                if inner and inner.protocol == 17 and inner.payload[2:4] == b"\0\x09":
                    arrived[struct.unpack("!H", inner.payload[:2])[0]] = inner
            return set(arrived) == set(sent)
        try:
            wait("every probe at h4", all_arrived, 3, 0.02)
        except LabError:
            pass
        frames = [f for f in underlay.read() if not f.outgoing]
    path = capture.write(lab.path("routed.pcap"), frames)
    rows = {}
    for row in capture.tshark_fields(path, FIELDS, options=OPTIONS):
        if len(row["udp.dstport"]) == 2 and row["udp.dstport"][1] == "9":
            rows[int(row["udp.srcport"][1])] = row
    c.check("1. every probe of h1 for h4 is in the tunnel once, nothing malformed",
            set(rows) == set(sent) and not any(r["_ws.malformed"] for r in rows.values()),
            f"{len(rows)} of {len(sent)}")
    _outgoing(lab, c, {p: row for p, row in rows.items() if p in sent}, sent)
    tos = {p: (i.ttl, i.tos) for p, i in arrived.items()}
    want = {p: (62, dscp << 2 | ecn) for p, (_, dscp, ecn, _) in sent.items()}
    wrong = [p for p in want if tos.get(p) != want[p]]
    c.check("9. at h4: TTL and hop limit 62, DSCP and ECN as sent", not wrong,
            f"{len(wrong)} of {len(want)} wrong" + (f": {tos.get(wrong[0])}" if wrong else ""))
    _incoming(lab, c, 10)


def _outgoing(lab, c, rows, sent):
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    layers = {p: (Layer(row, lab.family, sent[p][0], 0), Layer(row, lab.family, sent[p][0], 1))
              for p, row in rows.items()}

    def each(name, test):
        wrong = [p for p in rows if not test(rows[p], *layers[p], *sent[p][:3])]
        c.check(name, rows and not wrong,
                f"{len(wrong)} wrong: {rows[wrong[0]]}" if wrong else "")
    each(f"2. UDP {VXLAN_PORT}, VNI {L3VNI}, flags 0x08 with reserved bits zero, {pe1.vtep} to "
         f"{pe2.vtep}", lambda row, out, _, *__: row["vxlan.vni"] == [str(L3VNI)]
         and row["vxlan.flags"] == ["0x0800"] and row["udp.dstport"][0] == str(VXLAN_PORT)
         and (out.source, out.destination) == (pe1.vtep, pe2.vtep))
    each("3. inner MACs: pe2's router MAC from pe1's own", lambda row, *_:
         (row["eth.dst"][1], row["eth.src"][1]) == (pe2.router_mac, pe1.router_mac))
    each("4. inner TTL and hop limit 63, outer 64", lambda _, out, inner, *__:
         (out.ttl, inner.ttl) == (64, 63))
    fixed = None if lab.family == 4 else lab.dscp
    each(f"5. DSCP: {'copied' if fixed is None else f'{fixed} outside'}, unchanged inside",
         lambda _, out, inner, __, dscp, ___: inner.dscp == dscp
         and out.dscp == (dscp if fixed is None else fixed))
    # RFC 6040, 4.1. The kernel sends ECT(0) for CE (RFC 3168).
    kernel = pe1.kind == "kernel"
    each("6. ECN: the outer field is the inner one (RFC 6040)",
         lambda _, out, inner, __, ___, ecn: inner.ecn == ecn
         and out.ecn == (ECT0 if kernel and ecn == CE else ecn))
    each("7. IP and UDP checksums are right, inside and outside", lambda row, *_:
         all(s == "1" for s in row["ip.checksum.status"]) and row["udp.checksum.status"][1] == "1"
         and (row["udp.checksum"][0] == "0x0000" if lab.family == 4
              else row["udp.checksum.status"][0] == "1"))
    if lab.family == 4:
        each("8. DF is set outside", lambda row, *_: row["ip.flags.df"][0] in ("1", "True"))
    else:
        c.skip("8. DF is set outside", "IPv6")


def decapsulated(outer, inner):
    """The ECN field after the tunnel (RFC 6040, figure 4); None: the packet is dropped."""
    if outer == CE:
        return None if inner == NOT_ECT else CE
    return ECT1 if (outer, inner) == (ECT1, ECT0) else inner


def _incoming(lab, c, number):
    """Packets for h1 in VXLAN, as pe2 would send them, put on the wire at the spine."""
    pe1, pe2, h1, h4 = (lab.pes["pe1"], lab.pes["pe2"], lab.hosts["h1"], lab.hosts["h4"])
    want, frames, port = {}, [], FIRST_PORT
    for family in (4, 6):
        for outer in range(4):
            for inner in range(4):
                frames.append(encapsulated(lab, pe2, pe1, outer, udp_probe(
                    pe1.router_mac, pe2.router_mac, h4, h1, family, port, 10 << 2 | inner)))
                ecn = decapsulated(outer, inner)
                if ecn is not None:
                    want[port] = (63, 10 << 2 | ecn)
                port += 1
    foreign = range(port, port + 4)     # another node's router MAC inside
    for port in foreign:
        frames.append(encapsulated(lab, pe2, pe1, 0, udp_probe(
            "02:00:00:50:00:63", pe2.router_mac, h4, h1, 4, port, 0)))
    with Tap(h1.namespace, "eth0", False) as tap, \
            traffic.Wire(lab.namespaces["rr"], "pe1") as spine:
        for frame in frames:
            spine.send(frame)
        time.sleep(0.4)
        got = {}
        for frame in tap.read():
            inner = packet(frame.raw)
            if inner and inner.protocol == 17 and inner.payload[2:4] == b"\0\x09":
                got[struct.unpack("!H", inner.payload[:2])[0]] = (inner.ttl, inner.tos)
    strangers = [p for p in got if p in foreign]
    wrong = {p: (got.get(p), want.get(p)) for p in set(got) | set(want)
             if p not in foreign and got.get(p) != want.get(p)}
    c.check(f"{number}. IRB in, all 16 ECN combinations, IPv4 and IPv6: marked, dropped or left as "
            "RFC 6040 says, TTL less one", not wrong, f"{len(want)} delivered, 2 dropped"
            if not wrong else f"(got, wanted) {list(wrong.items())[:3]}")
    c.check(f"{number + 1}. packets for another router MAC are not accepted", not strangers,
            f"{len(strangers)} of 4 arrived")


def encapsulated(lab, source, target, ecn, frame, vni=L3VNI):
    """A frame in VXLAN from one PE to another, as the spine would send it on to the target."""
    vxlan = struct.pack("!II", 0x08000000, vni << 8) + frame
    macs = (target.underlay_mac, target.spine_mac)
    if lab.family == 6:
        return udp6_frame(*macs, target.vtep, source.vtep, VXLAN_PORT, 50000, vxlan, ecn)
    packet4 = bytearray(udp_frame(*macs, target.vtep, source.vtep, VXLAN_PORT, 50000, vxlan, ecn))
    packet4[40:42] = b"\0\0"
    return bytes(packet4)


# MTU

def mtu(lab, c):
    """Packets as large as the tunnel takes, one byte more, and TCP that has to find out."""
    h1, h4, h5 = (lab.hosts[name] for name in ("h1", "h4", "h5"))
    reach(lab, wanted=pairs(lab, [h1, h4, h5]))
    fits = lab.underlay_mtu - lab.overhead
    for number, family in enumerate((4, 6), 1):
        header, address = (28, h4.ip4) if family == 4 else (48, h4.ip6)
        gateway = h1.gateway4 if family == 4 else h1.gateway6
        _forget_mtu(h1)
        sent, got = traffic.Ping(h1.namespace, address, 3, 0.05, fits - header, False).result()
        c.check(f"{2 * number - 1}. IPv{family}: {fits} bytes with DF reach h4", got == sent,
                f"{got}/{sent}")
        said = r"Frag needed and DF set \(mtu = (\d+)\)" if family == 4 else \
            r"Packet too big: mtu=(\d+)"
        with Tap(h1.namespace, "eth0", False) as tap:
            text = _too_big(h1, address, fits + 1 - header, said)
            frames = tap.read()
        errors = capture.tshark_fields(
            capture.write(lab.path("icmp.pcap"), frames),
            ["icmp.mtu", "icmp.checksum.status", "icmpv6.mtu", "icmpv6.checksum.status"],
            "(icmp.type==3 && icmp.code==4) || icmpv6.type==2")
        prefix = "icmp" if family == 4 else "icmpv6"
        right = errors and all(e[f"{prefix}.mtu"] == [str(fits)]
                               and e[f"{prefix}.checksum.status"][0] == "1" for e in errors)
        found = re.search(said, text)
        c.check(f"{2 * number}. one byte more: {gateway} says that {fits} is the MTU "
                f"({lab.overhead} less than the underlay's)", right and found
                and f"From {gateway} " in text and found.group(1) == str(fits),
                f"{said_line(text)} {errors[:1]}")
    for number, (family, address) in enumerate(((4, h4.ip4), (6, h4.ip6)), 5):
        _forget_mtu(h1)
        name = f"{number}. IPv{family}: TCP finds the path MTU {fits} by itself"
        try:
            sent, got, _ = traffic.tcp_transfer(h1.namespace, h4.namespace, address, 5500 + number,
                                                4 * MEBIBYTE, timeout=30)
            route = h1.namespace.ip(f"route get {address}")
            c.check(name, sent == got and f"mtu {fits}" in route, " ".join(route.split()))
        except LabError as error:
            c.check(name, False, error)
    if lab.pes["pe1"].kind == "kernel":
        c.skip("7. between subnets of one node 1500 bytes pass", "a bridge has one MTU for all ports")
        return
    results = [traffic.Ping(h1.namespace, address, 3, 0.05, 1500 - header, False).result()
               for address, header in ((h5.ip4, 28), (h5.ip6, 48))]
    c.check("7. between subnets of one node 1500 bytes pass", all(s == g for s, g in results),
            results)


def _forget_mtu(host):
    host.namespace.ip("route flush cache")
    host.namespace.ip("-6 route flush cache")


def _too_big(host, address, size, said):
    """ping's output once it has the sentence; errors are rate-limited."""
    text = ""
    for _ in range(5):
        _forget_mtu(host)
        text = host.namespace.run(["ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", str(size),
                                   address], check=False)
        if re.search(said, text):
            break
        time.sleep(0.3)
    return text
