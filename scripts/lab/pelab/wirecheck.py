"""Scenarios that look at the packets themselves: the underlay in tshark, and pe1's kernel."""
import contextlib
import socket
import time

from . import capture, traffic
from .basics import MEBIBYTE, close, reach, wires_of
from .frames import mac_bytes, mac_text, udp_frame
from .report import Skip
from .shell import LabError

FIELDS = ["frame.len", "ip.src", "ip.len", "ip.flags.df", "ip.ttl", "ip.checksum.status",
          "ipv6.src", "ipv6.plen", "udp.srcport", "udp.dstport", "udp.length", "udp.checksum",
          "udp.checksum.status", "vxlan.flags", "vxlan.flag_i", "vxlan.vni", "_ws.malformed"]
OPTIONS = ["-o ip.check_checksum:TRUE", "-o udp.check_checksum:TRUE", "-d udp.port==8472,vxlan"]


def underlay(lab, c, flows=1000, per_flow=3):
    """1000 flows of h1 -> h2 and one of h1v -> h4, captured where pe1's packets arrive."""
    pe1 = lab.pes["pe1"]
    reach(lab)
    path = lab.path("underlay.pcap")
    hosts = [lab.hosts[name] for name in ("h1", "h2", "h1v", "h4")]
    wires = wires_of(lab, hosts)
    ipv6 = lab.family == 6
    try:
        ports = "(udp port 4789 or udp port 8472)"
        with capture.Capture(lab.namespaces["rr"], "pe1", path,
                             f"src host {pe1.vtep} and {ports}") as trace:
            sizes = _send_flows(wires, lab.hosts, flows, per_flow)
            trace.stop()
    finally:
        close(wires)
    rows = capture.tshark_fields(path, FIELDS, options=OPTIONS)
    # The probes are UDP to port 9 and 7 inside VXLAN: the second UDP header of a row.
    wide = [r for r in rows if len(r["udp.dstport"]) == 2 and r["udp.dstport"][1] == "9"]
    other = [r for r in rows if len(r["udp.dstport"]) == 2 and r["udp.dstport"][1] == "7"]
    c.check("1. every frame is in the capture and decodes as VXLAN, nothing malformed",
            len(wide) == flows * per_flow and len(other) == 20
            and not any(r["_ws.malformed"] for r in rows),
            f"{len(wide)} + {len(other)} of {flows * per_flow} + 20, {len(rows)} VXLAN packets")
    both = wide + other
    _headers(c, wide, other, both, sizes, ipv6)
    _entropy(c, wide, flows)


def _send_flows(wires, hosts, flows, per_flow):
    """Sends the probes; {inner frame length} per inner destination port."""
    h1, h2, h1v, h4 = (hosts[name] for name in ("h1", "h2", "h1v", "h4"))
    payload = b"x" * 100
    sent = {}
    for _ in range(per_flow):
        for flow in range(flows):
            frame = udp_frame(h2.mac, h1.mac, h2.ip4, h1.ip4, 9, 20000 + flow, payload)
            wires["h1"].send(frame)
            sent["9"] = len(frame)
            if flow % 100 == 99:
                time.sleep(0.002)   # the slowest consumer here is the capture
    for _ in range(20):
        frame = udp_frame(h4.mac, h1v.mac, h4.ip4, h1v.ip4, 7, 20000, b"y" * 51)
        wires["h1v"].send(frame)
        sent["7"] = len(frame)
    time.sleep(0.3)
    return sent


def _headers(c, wide, other, both, sizes, ipv6):
    def all_of(rows, test):
        bad = [r for r in rows if not test(r)]
        return bool(rows) and not bad, f"{len(bad)} wrong, such as {bad[0]}" if bad else ""
    c.check("2. flags 0x08 with I set, reserved bits zero", *all_of(
        both, lambda r: r["vxlan.flags"] == ["0x0800"] and r["vxlan.flag_i"] in (["1"], ["True"])))
    c.check("3. VNI 110 on UDP 4789", *all_of(
        wide, lambda r: r["vxlan.vni"] == ["110"] and r["udp.dstport"][0] == "4789"))
    c.check("4. VNI 120 on the configured UDP 8472", *all_of(
        other, lambda r: r["vxlan.vni"] == ["120"] and r["udp.dstport"][0] == "8472"))
    overhead = 70 if ipv6 else 50

    def lengths(row):
        frame, udp = int(row["frame.len"][0]), int(row["udp.length"][0])
        inner = sizes[row["udp.dstport"][1]]
        outer = int(row["ipv6.plen"][0]) if ipv6 else int(row["ip.len"][0]) - 20
        return frame == inner + overhead and udp == outer == inner + 16
    c.check(f"5. outer lengths: frame = inner + {overhead}, UDP = inner + 16", *all_of(
        both, lengths))
    if ipv6:
        c.check("6. the UDP checksum is right", *all_of(
            both, lambda r: r["udp.checksum"][0] != "0x0000" and r["udp.checksum.status"][0] == "1"))
        return
    c.check("6. the UDP checksum is zero", *all_of(
        both, lambda r: r["udp.checksum"][0] == "0x0000"))
    c.check("7. the IPv4 header checksum is right, DF set, TTL 64 on the first link", *all_of(
        both, lambda r: r["ip.checksum.status"][0] == "1" and r["ip.flags.df"][0] in ("1", "True")
        and r["ip.ttl"][0] == "64"))


def _entropy(c, rows, flows):
    ports = {}
    for row in rows:
        ports.setdefault(row["udp.srcport"][1], set()).add(int(row["udp.srcport"][0]))
    outer = [next(iter(values)) for values in ports.values()]
    c.check("8. the source port is constant within a flow",
            len(ports) == flows and all(len(values) == 1 for values in ports.values()),
            f"{len(ports)} flows, {sum(len(v) > 1 for v in ports.values())} with several")
    c.check("9. source ports are spread over >= 90 % of the flows, 49152 to 65535",
            len(set(outer)) >= 0.9 * flows and all(49152 <= port for port in outer),
            f"{len(set(outer))} ports for {flows} flows, {min(outer, default=0)} to "
            f"{max(outer, default=0)}")


def no_kernel_forwarding(lab, c):
    """Everything of pe1's namespace but pe-dp's own ports is watched while hosts talk."""
    pe1 = lab.pes["pe1"]
    if pe1.kind != "pe-dp":
        raise Skip("pe1's data plane is the kernel in this run")
    own = {pe1.underlay_device, "lo"} | {host.circuit for host in pe1.hosts()}
    watched = [d for d in pe1.control.devices() if d not in own]
    overlay = ("udp port 4789 or udp port 8472 or ether proto 0x88b5 or net 192.170.0.0/16"
               " or net 2001:db8::/32")
    reach(lab)
    vxlans, bridges = pe1.shadow_devices()
    before = pe1.control.snmp(), {d: pe1.control.link_counters(d) for d in vxlans + bridges}
    under = lab.path("icmp.pcap")
    with contextlib.ExitStack() as stack:
        traces = {d: stack.enter_context(capture.Capture(
            pe1.control, d, lab.path(f"pe1-{d}.pcap"), overlay)) for d in watched}
        icmp = stack.enter_context(capture.Capture(
            lab.namespaces["rr"], "pe1", under, f"icmp and (src host {pe1.underlay_ip} or src host {pe1.vtep})"))
        _talk(lab)
        seen = {device: trace.stop() for device, trace in traces.items()}
        icmp.stop()
    after = pe1.control.snmp(), {d: pe1.control.link_counters(d) for d in vxlans + bridges}
    c.check(f"1. no overlay packet on any of {', '.join(watched)}", watched and not any(
        seen.values()), seen)
    moved = {d: tuple(b - a for a, b in zip(before[1][d], after[1][d])) for d in vxlans + bridges}
    c.check("2. the shadow devices moved no packet (received, sent)",
            not any(any(delta) for delta in moved.values()), moved)
    names = ("IpForwDatagrams", "Ip6OutForwDatagrams", "UdpNoPorts", "Udp6NoPorts",
             "IcmpOutDestUnreachs", "Icmp6OutDestUnreachs")
    delta = {name: after[0].get(name, 0) - before[0].get(name, 0) for name in names}
    c.check("3. the kernel forwarded, refused and answered none of it (nstat)",
            not any(delta.values()), delta)
    rows = capture.tshark_fields(under, ["icmp.type", "icmpv6.type"], "icmp.type == 3")
    c.check("4. no ICMP unreachable left pe1", not rows, f"{len(rows)} packets")
    answers = _arp_answers(lab, pe1)
    c.check("5. one answer to an ARP request for pe1's underlay address", len(answers) == 1,
            answers)


def _talk(lab):
    h1, h2 = lab.hosts["h1"], lab.hosts["h2"]
    for result in traffic.ping_matrix(
            [(h1.namespace, h2.ip4), (h2.namespace, h1.ip6)], count=50, interval=0.01):
        if result[1] != result[2]:
            raise LabError(f"ping {result[0]}: {result[2]}/{result[1]}")
    traffic.tcp_transfer(h1.namespace, h2.namespace, h2.ip4, 5100, 4 * MEBIBYTE)
    traffic.tcp_transfer(h2.namespace, h1.namespace, h1.ip6, 5101, 4 * MEBIBYTE)


def _arp_answers(lab, pe):
    """Who answers, in half a second, to one ARP request of the spine for pe's address."""
    wire = traffic.Wire(lab.namespaces["rr"], pe.name, 0x0806)
    mine, theirs = socket.inet_aton(pe.spine_ip), socket.inet_aton(pe.underlay_ip)
    source = mac_bytes(pe.spine_mac)
    try:
        wire.send(b"\xff" * 6 + source + b"\x08\x06" + b"\0\1\x08\0\6\4\0\1" + source + mine
                  + bytes(6) + theirs)
        answers = []
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                data = wire.socket.recv(2048)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            if data[20:22] == b"\0\2" and data[28:32] == theirs:
                answers.append(mac_text(data[22:28]))
        return answers
    finally:
        wire.close()
