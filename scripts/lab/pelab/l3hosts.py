"""Scenarios: hosts that move with their address, hosts that are silent, ARP and ND suppression."""
import time

from . import traffic
from .l3routing import asks, needs_evpn, pairs, reach
from .net import Background
from .noise import Noise
from .probes import (Datagrams, Tap, arp_fields, arp_request, ask, nd_fields,
                     neighbor_advertisement, neighbor_solicitation)
from .shell import Disturbed, LabError, wait

# Moving

def move(lab, c):
    """hm moves from pe1 to pe2 and back, talking and silent; one GARP is all that it says."""
    needs_evpn(lab)
    hm = lab.hosts["hm"]
    number = 1
    for silent in (False, True):
        for target in ("pe2", "pe1"):
            number = _move_once(lab, c, number, hm, target, silent)
    c.attempt(f"{number}. everybody reaches hm again", lambda: reach(lab) or "")


def _move_once(lab, c, number, hm, target, silent, settle=1.2):
    known = [p for name in ("h1", "h4", "h5")
             for p in pairs(lab, [lab.hosts[name], hm]) if p[0] is not hm.namespace]
    reach(lab, wanted=known)
    settled(lab, hm)
    tcp = None if silent else _Session(lab.hosts["h4"], hm)
    # From the same subnet, from another on the same node, and across the L3VNI.
    streams = {name: Datagrams(lab.hosts[name].namespace, hm.namespace, hm.ip4, port, 0.01,
                               echo=not silent)
               for port, name in enumerate(("h1", "h5", "h4"), 6100)}
    noise = Noise()
    source, manner = hm.pe, "silent but for its GARP" if silent else "talking"
    try:
        time.sleep(0.3)
        began = time.time()
        hm.attach(target, detach=source)
        with traffic.Wire(hm.namespace, "eth0", 0x0806) as wire:
            wire.send(arp_request(hm.mac, hm.ip4, hm.ip4))
        time.sleep(settle)
        ended = time.time()
        time.sleep(0.2)
    finally:
        for stream in streams.values():
            stream.stop()
        waited = noise.stop()
    lost = {name: stream.outage(began - 0.1, ended) for name, stream in streams.items()}
    if waited > 0.08 and any(seconds >= 0.5 for _, seconds in lost.values()):
        raise Disturbed(f"this machine kept ready processes waiting for {waited * 1e3:.0f} ms")
    c.check(f"{number}. hm moves from {source} to {target}, {manner}: less than 500 ms of loss",
            all(seconds < 0.5 for _, seconds in lost.values()),
            "ms from h1 (bridged), h5 (routed), h4 (routed): "
            + ", ".join(f"{seconds * 1e3:.0f} ({n} lost)" for n, seconds in lost.values()))
    number += 1
    if tcp:
        c.attempt(f"{number}. its TCP session with h4 goes on", tcp.stop)
        number += 1
    c.attempt(f"{number}. {target}'s FRR announces its MAC and address, {source}'s no longer",
              lambda: settled(lab, hm))
    return number + 1


def settled(lab, host):
    """zebra of the host's PE has its MAC and IPv4 address as local, the other PE's as remote."""
    def agreed():
        for name in host.pes:
            kind = "local" if name == host.pe else "remote"
            for what, row in (("MAC", lab.pes[name].frr.macs(host.vni).get(host.mac, {})),
                              ("address", lab.pes[name].frr.neighbors(host.vni).get(host.ip4, {}))):
                if row.get("type") != kind:
                    raise LabError(f"{name}: {what} is {row.get('type')}, not {kind}")
        return True
    began = time.monotonic()
    wait(f"{host.name} behind {host.pe}", agreed, 8, 0.1)
    return f"{time.monotonic() - began:.1f} s"


class _Session:
    """A TCP connection that carries a request and its answer every 20 ms until stopped."""

    def __init__(self, client, server, port=6090):
        import socket
        self._stopping = False
        listener = server.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((server.ip4, port))
        listener.listen(1)
        listener.settimeout(5)
        self._client = client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._client.settimeout(5)
        self._client.connect((server.ip4, port))
        self._server, _ = listener.accept()
        self._server.settimeout(5)
        listener.close()
        self._work = [Background(self._serve), Background(self._ask)]

    def _serve(self):
        with self._server:
            while data := self._server.recv(64):
                self._server.sendall(data)

    def _ask(self):
        exchanges, slowest = 0, 0.0
        with self._client:
            while not self._stopping:
                began = time.monotonic()
                wanted = exchanges.to_bytes(8, "big")
                self._client.sendall(wanted)
                got = b""
                while len(got) < 8:
                    part = self._client.recv(8 - len(got))
                    if not part:
                        raise LabError("the connection was closed")
                    got += part
                if got != wanted:
                    raise LabError(f"exchange {exchanges} got {got.hex()}")
                slowest = max(slowest, time.monotonic() - began)
                exchanges += 1
                time.sleep(0.02)
        return f"{exchanges} exchanges, the slowest took {slowest * 1e3:.0f} ms"

    def stop(self):
        self._stopping = True
        try:
            return self._work[1].join(8, "the TCP session")
        except OSError as error:
            raise LabError(f"the TCP session broke: {error}") from None


# Silence

def silent_host(lab, c):
    """hs announces itself once and then only answers; it stays advertised. Then it goes deaf."""
    needs_evpn(lab)
    hs = lab.hosts["hs"]
    # An IPv6 stack asks back whoever asked it; without it the host says nothing by itself.
    hs.namespace.sysctl(**{"net.ipv6.conf.eth0.disable_ipv6": 1})
    hs.namespace.ip("neigh flush all")
    try:
        _silent(lab, c, hs)
    finally:
        hs.namespace.sysctl(**{"net.ipv6.conf.eth0.disable_ipv6": 0})
        hs.namespace.ip(f"addr add {hs.ip6}/64 dev eth0 nodad", check=False)
        hs.set_routes()


def _silent(lab, c, hs):
    pe2, timeout = lab.pes["pe2"], lab.neighbor_timeout
    with traffic.Wire(hs.namespace, "eth0", 0x0806) as wire:
        wire.send(arp_request(hs.mac, hs.ip4, hs.ip4))
    addresses = [hs.ip4]
    if c.attempt("1. one GARP: pe2 has its MAC and address", lambda: wait(
            "the MAC/IP routes", lambda: not _missing(pe2, hs, addresses), 5, 0.05) and "") is None:
        return
    gone = []
    with Tap(hs.namespace, "eth0", vxlan_only=False) as tap:
        end = time.monotonic() + 3 * timeout + 1
        while time.monotonic() < end:
            gone += _missing(pe2, hs, addresses)
            time.sleep(0.2)
        frames = tap.read()
    c.check(f"2. it stays advertised for 3 neighbour timeouts of {timeout} s", not gone, gone[:3])
    asked = [f for f in frames if not f.outgoing and (a := arp_fields(f.raw))
             and a[0] == 1 and a[3] == hs.ip4]
    said = [f.raw for f in frames
            if f.outgoing and not ((a := arp_fields(f.raw)) and a[0] == 2)]
    c.check("3. meanwhile it only answered", not said, f"{len(asked)} requests for it, "
            f"{len(said)} other frames of its own {[f[12:60].hex() for f in said[:2]]}")
    if lab.pes["pe1"].kind == "pe-dp":
        c.check("4. the gateway asked it before each timeout", len(asked) >= 3, f"{len(asked)} times")
    else:
        c.skip("4. the gateway asked it before each timeout", "the kernel's neighbours do not expire")
    if lab.pes["pe1"].kind != "pe-dp":
        c.skip("5. when it no longer answers, its address is withdrawn", "as above")
        return
    hs.namespace.ip("link set eth0 arp off")
    began = time.monotonic()
    try:
        c.attempt("5. when it no longer answers, its address is withdrawn within 2 timeouts and 3 s",
                  lambda: wait("the withdrawal", lambda: _missing(pe2, hs, [hs.ip4]),
                               2 * timeout + 3, 0.1) and f"{time.monotonic() - began:.1f} s")
    finally:
        hs.namespace.ip("link set eth0 arp on")


def _missing(pe, host, addresses):
    """The addresses of a host that a PE's zebra does not have behind another PE with its MAC."""
    rows = pe.frr.neighbors(host.vni)
    return [a for a in addresses if rows.get(a, {}).get("type") != "remote"
            or rows[a].get("mac") != host.mac]


# Suppression

def suppression(lab, c, count=5):
    """ARP requests and neighbour solicitations of h1: what of them crosses the underlay."""
    h1, h2, pe1, pe2 = (lab.hosts["h1"], lab.hosts["h2"], lab.pes["pe1"], lab.pes["pe2"])
    reach(lab, wanted=pairs(lab, [h1, h2]))
    if lab.family == 4:
        wait("h2's addresses at pe1", lambda: not _missing(pe1, h2, [h2.ip4, h2.ip6]), 8, 0.1)
    before = _suppressed(pe1)
    with Tap(lab.namespaces["rr"], "pe1") as tap, \
            traffic.Wire(h1.namespace, "eth0", 0x0806) as arp, \
            traffic.Wire(h1.namespace, "eth0", 0x86DD) as nd:
        kinds = (("ARP", arp, lambda ip: arp_request(h1.mac, h1.ip4, ip), h2.ip4, "192.170.1.99",
                  lambda f: (a := arp_fields(f)) and a[0] == 2 and a[1:3] == (h2.mac, h2.ip4)),
                 ("ND", nd, lambda ip: neighbor_solicitation(h1.mac, h1.ip6, ip), h2.ip6,
                  "2001:db8:1::99",
                  lambda f: (n := nd_fields(f)) and n == (0x88, h2.ip6, h2.mac)))
        number = 1
        for name, wire, question, known, unknown, right in kinds:
            tap.read()
            answers = ask(wire, [question(known)] * count, right)
            time.sleep(0.2)
            crossed = [p for p in tap.tunnelled(outgoing=False) if asks(p.inner) == known]
            c.check(f"{number}. {name} for h2, a known remote host: {count} answers with its MAC, "
                    "no VXLAN packet", len(answers) == count and not crossed,
                    f"{len(answers)} answers, {len(crossed)} in the tunnel")
            crossed = _crossing(tap, wire, [question(unknown)] * count)
            c.check(f"{number + 1}. {name} for an unknown address floods once to each VTEP",
                    crossed == {pe2.vtep: count}, f"{count} asked, {crossed}")
            number += 2
        for name, wire, frame in (
                ("GARP", arp, arp_request(h1.mac, h1.ip4, h1.ip4)),
                ("an unsolicited NA", nd, neighbor_advertisement(h1.mac, h1.ip6))):
            crossed = _crossing(tap, wire, [frame] * count)
            if pe1.kind == "pe-dp":
                c.check(f"{number}. {name} of h1 passes", crossed == {pe2.vtep: count}, crossed)
            else:
                c.skip(f"{number}. {name} of h1 passes", "the kernel keeps it to its bridge")
            number += 1
    if before is None:
        c.skip(f"{number}. show counters has the suppressed requests", "no pe-dp at pe1")
        return
    after = _suppressed(pe1)
    delta = {name: after[name] - before.get(name, 0) for name in after}
    c.check(f"{number}. show counters has the suppressed requests", all(
        n >= count for n in delta.values()) and delta, delta)


def _crossing(tap, wire, frames):
    """{VTEP: packets with one of these frames inside} that leave pe1 when they are sent."""
    tap.read()
    for frame in frames:
        wire.send(frame)
    time.sleep(0.3)
    crossed = {}
    for packet in tap.tunnelled(outgoing=False):
        if any(packet.inner[:42] == frame[:42] for frame in frames):
            crossed[packet.destination] = crossed.get(packet.destination, 0) + 1
    return crossed


def _suppressed(pe):
    """{counter: value} of pe-dp's counters of suppressed requests; None for the kernel."""
    if pe.kind != "pe-dp":
        return None
    counters = pe.show("counters")
    missing = [name for name in ("arpSuppressed", "ndSuppressed") if name not in counters.get("services", {})]
    if missing:
        raise LabError(f"`show counters` has no {' and no '.join(missing)}")
    return {name: counters["services"][name] for name in ("arpSuppressed", "ndSuppressed")}
