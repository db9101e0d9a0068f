"""Scenario: a router on a routed port: BGP and BFD through the exception path, under load."""
import time

from . import traffic
from .basics import MEBIBYTE
from .frames import udp_frame
from .l3routing import hops, needs_evpn
from .l3topology import LEG, Leg, gateway_mac
from .net import Background
from .noise import Noise
from .shell import LabError, wait

IN_LEG = ("10.77.1.9", "2001:db8:77::9")


def host_leg(lab, c):
    """FRR in pe1 and FRR on n1 hold BGP with BFD over the port that carries n1's traffic."""
    needs_evpn(lab)
    pe1, n1 = lab.pes["pe1"], lab.leg
    c.attempt("1. BGP establishes over IPv4 and IPv6", lambda: wait(
        "the sessions with n1", lambda: _sessions(n1.frr) or _fail(n1.frr), 20, 0.2))
    c.attempt("2. BFD with 3 x 50 ms is up on both ends", lambda: wait(
        "BFD", lambda: _bfd_up(pe1, n1), 10, 0.2))
    h1, h4 = lab.hosts["h1"], lab.hosts["h4"]
    c.attempt("3. h1 and h4 (behind pe2) reach n1's prefixes, which pe1 heard of by BGP",
              lambda: wait("answers", lambda: _pinged(
                  [(h.namespace, a) for h in (h1, h4) for a in IN_LEG]), 10, 0.2))
    for number, (address, first) in enumerate(zip(IN_LEG, (h1.gateway4, h1.gateway6)), 4):
        c.attempt(f"{number}. traceroute from h1, IPv{6 if ':' in address else 4}: the gateway, then "
                  "n1", lambda: wait("the hops", lambda: _hops(h1, address, first), 8, 0.5))
    _under_load(lab, c, 6)
    own = [(n1.namespace, a) for a in (*Leg.pe_addresses, h1.gateway4, h1.gateway6)]
    c.attempt("11. n1 pings the port's own addresses (FRR's namespace answers) and h1's gateways",
              lambda: wait("answers", lambda: _pinged(own), 5, 0.2))


def _fail(router):
    raise LabError(router.vty("show bgp summary").strip()[-300:])


def _sessions(router):
    """Which sessions of a router are established, once all are."""
    summary = router.vty_json("show bgp summary")
    states = {}
    for family in ("ipv4Unicast", "ipv6Unicast"):
        for address, peer in summary.get(family, {}).get("peers", {}).items():
            states[address] = peer["state"]
    up = all(state == "Established" for state in states.values())
    return ", ".join(states) if up and len(states) == 2 else None


def _bfd_up(pe1, n1):
    peers = {**{f"pe1 {a}": p for a, p in pe1.frr.bfd_peers().items()},
             **{f"n1 {a}": p for a, p in n1.frr.bfd_peers().items()}}
    if len(peers) != 4 or any(p["status"] != "up" for p in peers.values()):
        raise LabError({name: p.get("status") for name, p in peers.items()})
    return "4 sessions"


def _downs(pe1, n1):
    """How often each BFD session went down so far."""
    return {f"{name} {a}": p.get("session-down") for name, node in (("pe1", pe1), ("n1", n1))
            for a, p in node.frr.bfd_peers().items()}


def _pinged(pairs):
    results = traffic.ping_matrix(pairs, count=3, interval=0.05)
    lost = [f"{label}: {got}/{sent}" for label, sent, got, _ in results if got != sent]
    if lost:
        raise LabError(", ".join(lost))
    return f"{len(results)} directions"


def _hops(host, address, first):
    seen = hops(host.namespace, address)
    # The kernel answers from the link's address where it has the target by a local route only.
    if seen not in ([first, address], [first, Leg.addresses[":" in address]]):
        raise LabError(f"hops {seen}")
    return " ".join(seen)


def _under_load(lab, c, number, seconds=5.0, rate=8000):
    """Small packets at a fixed rate and a TCP transfer pass the port while BGP and BFD go on."""
    pe1, n1, h1, h4 = lab.pes["pe1"], lab.leg, lab.hosts["h1"], lab.hosts["h4"]
    received = n1.namespace.link_counters("eth0")[0]
    before, uptime = _downs(pe1, n1), _bgp_drops(n1.frr)
    transfers = []
    with Noise() as noise:
        flood = Background(_flood, h1, seconds, rate)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            transfers.append(traffic.tcp_transfer(
                h4.namespace, n1.namespace, IN_LEG[0], 5400 + len(transfers), 8 * MEBIBYTE,
                timeout=60))
            time.sleep(0.15)
        sent = flood.join(60, "the load")
        received = n1.namespace.link_counters("eth0")[0] - received
        after = _downs(pe1, n1)
        waited = noise.blame(after != before or received < 0.99 * sent, 0.05)
    megabytes = len(transfers) * 8
    c.check(f"{number}. the port carries load: {sent} small packets and {megabytes} MiB over TCP",
            transfers and all(a == b for a, b, _ in transfers) and received >= 0.99 * sent,
            f"{received} packets received by n1 in {seconds:g} s")
    c.check(f"{number + 1}. no BFD session went down meanwhile", after == before and len(after) == 4
            and all(n is not None for n in after.values()),
            f"{after}; a ready process waited {waited * 1e3:.0f} ms at most")
    c.check(f"{number + 2}. BFD is up", all(
        p["status"] == "up" for node in (pe1, n1) for p in node.frr.bfd_peers().values()))
    c.check(f"{number + 3}. no BGP session was lost", _bgp_drops(n1.frr) == uptime
            and _sessions(n1.frr), _bgp_drops(n1.frr))
    c.check(f"{number + 4}. pe1's FRR has n1's prefixes from it", all(
        p in pe1.frr.vty(f"show {'ipv6' if ':' in p else 'ip'} route {p}") for p in LEG))


def _bgp_drops(router):
    """How many connections each neighbour of a router has lost."""
    neighbors = router.vty_json("show bgp neighbors")
    return {a: n.get("connectionsDropped") for a, n in neighbors.items() if isinstance(n, dict)}


def _flood(host, seconds, rate):
    """Sends UDP packets of 60 bytes to n1's prefix, `rate` in a second; how many it were."""
    frames = [udp_frame(gateway_mac(host.vni), host.mac, f"10.77.1.{1 + n % 200}",
                        host.ip4, 9, 30000 + n, bytes(18)) for n in range(200)]
    sent, began = 0, time.monotonic()
    with traffic.Wire(host.namespace, "eth0") as wire:
        while (now := time.monotonic() - began) < seconds:
            for _ in range(min(200, int(now * rate) - sent)):
                wire.send(frames[sent % 200])
                sent += 1
            time.sleep(0.002)
    return sent
