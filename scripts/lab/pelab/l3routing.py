"""Scenarios: routes across the L3VNI and on one node, gateways, type 5 prefixes, no route."""
import ipaddress
import itertools
import re
import time

from . import traffic
from .frames import address_bytes
from .basics import MEBIBYTE
from .l3topology import SINGLE, gateway_mac
from .noise import Noise
from .probes import (Datagrams, Tap, arp_fields, arp_request, ask, nd_fields,
                     neighbor_solicitation, packet)
from .report import Skip
from .shell import LabError, say, wait


def needs_evpn(lab):
    if lab.family != 4:
        raise Skip("static state: nobody announces anything")


def converged(lab, timeout=40):
    """EVPN is up, and every host of the tenant has answered every other once."""
    began = time.monotonic()
    if lab.family == 4:
        for node in [lab.rr] + [pe.frr for pe in lab.pes.values()]:
            node.wait_established(timeout)
    reach(lab, timeout)
    return f"{time.monotonic() - began:.1f} s"


def pairs(lab, hosts=None):
    hosts = hosts or list(lab.hosts.values())
    return [(a.namespace, address) for a, b in itertools.permutations(hosts, 2)
            for address in (b.ip4, b.ip6)]


def reach(lab, timeout=20, wanted=None):
    """Every host of the tenant has answered one ping of every other (neighbours resolved)."""
    missing = wanted or pairs(lab)
    end = time.monotonic() + timeout
    while missing:
        results = traffic.ping_matrix(missing, count=1, interval=0.2)
        missing = [p for p, (_, _, got, _) in zip(missing, results) if got < 1]
        if missing and time.monotonic() > end:
            raise LabError("no answer: " + ", ".join(f"{ns.name} -> {a}" for ns, a in missing[:6]))


def converge(lab, c):
    """Sessions, flood lists and routes come up; nobody has sent anything before."""
    began = time.monotonic()
    if lab.family == 4:
        c.attempt("1. BGP sessions come up", lambda: [
            node.wait_established() for node in [lab.rr] + [pe.frr for pe in lab.pes.values()]]
            and f"{time.monotonic() - began:.1f} s after the PEs started")
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    for number, (pe, other) in enumerate(((pe1, pe2), (pe2, pe1)), 2):
        c.attempt(f"{number}. {pe.name} floods subnet A to {other.name}, and to it alone", lambda: wait(
            "the flood list", lambda: pe.flood(110) == pe.vteps(110) == {other.vtep}, 25, 0.1)
            and other.vtep)
    began = time.monotonic()
    c.attempt("4. every host reaches every other of the tenant, IPv4 and IPv6",
              lambda: reach(lab) or f"{time.monotonic() - began:.1f} s")


def ping(lab, c):
    """Three subnets, bridged and routed, on one node and across the L3VNI."""
    with Noise() as noise:
        results = traffic.ping_matrix(pairs(lab), count=15, interval=0.03)
        lost = [f"{label}: {got}/{sent}" for label, sent, got, _ in results if got != sent]
        noise.blame(lost)
    c.check(f"1. ping matrix, {len(results)} directions within and between subnets, 0 loss",
            not lost, ", ".join(lost[:6]) or f"{sum(sent for _, sent, _, _ in results)} packets")
    doubled = [label for label, _, _, extra in results if extra]
    c.check("2. no answer comes twice", not doubled, ", ".join(doubled[:4]))
    _gateway(lab, c, 3)
    for number, address in enumerate(("ip4", "ip6"), 5):
        c.attempt(f"{number}. traceroute h1 -> h4, IPv{address[2]}: the gateway is the first hop, "
                  "h4 the last", lambda: _traceroute(lab, address))


def _gateway(lab, c, number):
    """Every PE that has a subnet answers for its gateway, with the same MAC."""
    for address, ask_for in (("gateway4", _arp_gateway), ("gateway6", _nd_gateway)):
        seen, gateway = {}, getattr(lab.hosts["h1"], address)
        with Tap(lab.namespaces["rr"], "pe1") as tap:
            seen["h1"] = ask_for(lab.hosts["h1"], gateway)
            # pe2's gateway would answer as well: pe1 must not have asked it.
            crossed = [p for p in tap.tunnelled() if asks(p.inner) == gateway]
        seen["h2"] = ask_for(lab.hosts["h2"], gateway)
        c.check(f"{number}. {gateway} is the gateway at pe1 (h1) and at pe2 (h2), with one MAC; "
                "the underlay sees none of it", all(
                    macs == [gateway_mac(110)] for macs in seen.values())
                and not crossed, f"{seen}, {len(crossed)} crossed")
        number += 1


def asks(frame):
    """The address that an ARP request (or GARP) or a solicitation is about, or None."""
    if arp := arp_fields(frame):
        return arp[3] if arp[0] == 1 else None
    nd = nd_fields(frame)
    return nd[1] if nd and nd[0] == 0x87 else None


def _arp_gateway(host, gateway):
    with traffic.Wire(host.namespace, "eth0", 0x0806) as wire:
        answers = ask(wire, [arp_request(host.mac, host.ip4, gateway)], lambda f: (
            (a := arp_fields(f)) and a[0] == 2 and a[2] == gateway))
    return sorted({arp_fields(f)[1] for f in answers})


def _nd_gateway(host, gateway):
    with traffic.Wire(host.namespace, "eth0", 0x86DD) as wire:
        answers = ask(wire, [neighbor_solicitation(host.mac, host.ip6, gateway)], lambda f: (
            (a := nd_fields(f)) and a[0] == 0x88 and a[1] == gateway))
    return sorted({nd_fields(f)[2] for f in answers})


def hops(namespace, address):
    """The hops that traceroute names, in order; * for one that did not answer."""
    text = namespace.run(["traceroute", "-n", "-q", "1", "-w", "1", "-m", "5",
                          "-6" if ":" in address else "-4", address], timeout=30)
    return [line.split()[1] for line in text.splitlines() if re.match(r" *\d+ ", line)]


def _traceroute(lab, address):
    h1, h4 = lab.hosts["h1"], lab.hosts["h4"]
    target = getattr(h4, address)
    gateway = h1.gateway4 if address == "ip4" else h1.gateway6

    def right():
        seen = hops(h1.namespace, target)
        if seen[:1] != [gateway] or seen[-1:] != [target] or len(seen) != 3:
            raise LabError(f"hops {seen}")
        return " ".join(seen)
    return wait("the hops", right, 8, 0.5)     # errors are rate-limited


def tcp(lab, c, size=16 * MEBIBYTE):
    """TCP between 1500-byte hosts whose packets do not fit into the tunnel."""
    hosts = lab.hosts
    cases = [("h1", "h4", "ip4"), ("h4", "h1", "ip4"), ("h1", "h4", "ip6"), ("h4", "h1", "ip6"),
             ("h5", "h1", "ip4"), ("h5", "h4", "ip6")]
    for number, (a, b, family) in enumerate(cases, 1):
        address = getattr(hosts[b], family)
        name = f"{number}. {size // MEBIBYTE} MiB over TCP {a} -> {b}, IPv{family[2]}, same SHA-256"
        try:
            sent, got, seconds = traffic.tcp_transfer(
                hosts[a].namespace, hosts[b].namespace, address, 5200 + number, size, timeout=60)
            c.check(name, sent == got, f"{sent[:12]}…, {size / MEBIBYTE / seconds:.0f} MiB/s")
        except LabError as error:
            c.check(name, False, error)


def local_subnets(lab, c):
    """Two subnets of one node: the underlay sees none of it."""
    h1, h5 = lab.hosts["h1"], lab.hosts["h5"]
    reach(lab, wanted=pairs(lab, [h1, h5]))
    with Tap(lab.namespaces["rr"], "pe1", vxlan_only=False) as tap, Noise() as noise:
        results = traffic.ping_matrix(pairs(lab, [h1, h5]), count=50, interval=0.01)
        sent, got, _ = traffic.tcp_transfer(h1.namespace, h5.namespace, h5.ip4, 5300, 8 * MEBIBYTE)
        time.sleep(0.1)
        frames = tap.read()
        lost = [f"{label}: {n}/{of}" for label, of, n, _ in results if n != of]
        noise.blame(lost)
    c.check("1. h1 (subnet A) and h5 (subnet C) talk: 200 pings, 8 MiB over TCP, 0 loss",
            not lost and sent == got, ", ".join(lost))
    addresses = [address_bytes(a) for h in (h1, h5) for a in (h.ip4, h.ip6)]
    seen = [f for f in frames if any(a in f.raw for a in addresses[:2])
            and any(a in f.raw for a in addresses[2:])]
    c.check("2. no packet between them passed pe1's underlay", not seen,
            f"{len(seen)} of {len(frames)} frames there")


def no_route(lab, c):
    """What has no route is refused by the gateway, and goes nowhere else."""
    h1 = lab.hosts["h1"]
    cases = (("203.0.113.9", h1.gateway4, r"Destination Net Unreachable"),
             ("2001:db8:f::9", h1.gateway6, r"Destination unreachable: No route"))
    with Tap(lab.namespaces["rr"], "pe1", vxlan_only=False) as tap:
        for number, (address, gateway, said) in enumerate(cases, 1):
            text = wait_ping(h1, address, said)
            c.check(f"{number}. {address}: the gateway {gateway} says that there is no route",
                    f"From {gateway} " in text, said_line(text))
        leaked = [f for f in tap.read() if any(address_bytes(a) in f.raw for a, _, _ in cases)]
        c.check("3. nothing of it went to the underlay", not leaked, f"{len(leaked)} frames")
    cases = (("ip4", h1.gateway4, "Time to live exceeded", 1),
             ("ip6", h1.gateway6, "Time exceeded: Hop limit", 1))
    for number, (family, gateway, said, ttl) in enumerate(cases, 4):
        text = wait_ping(h1, getattr(lab.hosts["h4"], family), said, ["-t", str(ttl)])
        c.check(f"{number}. TTL {ttl} to h4, IPv{family[2]}: time exceeded from {gateway}",
                f"From {gateway} " in text, said_line(text))
    unknown = (("192.170.3.99", h1.gateway4, "Destination Host Unreachable"),
               ("2001:db8:3::99", h1.gateway6, "Address unreachable"))
    for number, (address, gateway, said) in enumerate(unknown, 6):
        text = wait_ping(h1, address, said, ["-W", "4"])
        c.check(f"{number}. {address} in subnet C, which nobody has: unreachable from {gateway}",
                f"From {gateway} " in text and said in text, said_line(text))


def wait_ping(host, address, said, options=()):
    """ping's output once it has a sentence, or at last; errors are rate-limited."""
    text = ""
    for _ in range(5):
        text = host.namespace.run(["ping", "-n", "-c", "1", "-W", "1", *options, address],
                                  check=False)
        if said in text:
            break
        time.sleep(0.3)
    return text


def said_line(text):
    return next((line for line in text.splitlines() if line.startswith("From ")), text[:80])


# Type 5

def inner_to(packets, prefixes):
    """The packets whose inner destination is in one of the prefixes."""
    networks = [ipaddress.ip_network(p) for p in prefixes]

    def inside(frame):
        inner = packet(frame)
        return inner and any(ipaddress.ip_address(inner.destination) in n for n in networks)
    return [p for p in packets if inside(p.inner)]


def type5(lab, c, rounds=3):
    """A prefix appears behind pe2 and goes again; h1's probes show when pe1 has heard of it."""
    needs_evpn(lab)
    h1, x2 = lab.hosts["h1"], lab.routers["x2"]
    addresses = (("10.8.1.1", SINGLE[0]), ("2001:db8:8::1:1", SINGLE[1]))
    used, unused = {a: [] for a, _ in addresses}, {a: [] for a, _ in addresses}
    repeated = _retransmissions(lab)
    with Tap(lab.namespaces["rr"], "pe1") as tap, Noise() as noise:
        streams = {a: Datagrams(h1.namespace, x2.namespace, a, 6000) for a, _ in addresses}
        try:
            for _ in range(rounds):
                began = time.time()
                lab.announce(x2, SINGLE)
                for address, stream in streams.items():
                    used[address].append(_first_arrival(stream, began))
                time.sleep(0.3)
                tap.read()
                began = time.time()
                lab.announce(x2, SINGLE, False)
                time.sleep(1.5)
                packets = tap.tunnelled()
                for address, prefix in addresses:
                    late = [p.time for p in inner_to(packets, [prefix])]
                    unused[address].append(max(late, default=began) - began)
        finally:
            for stream in streams.values():
                stream.stop()
        noise.blame(any(t >= 1 for found in (used, unused) for v in found.values() for t in v))
    repeated = {name: n - repeated[name] for name, n in _retransmissions(lab).items()}
    say(f"  segments that BGP sent again meanwhile: {repeated}")
    texts = (("1. from the announcement by pe2 to the first probe at x2", used),
             ("2. from the withdrawal to the last probe in the tunnel", unused))
    for address, times in used.items():
        if float("inf") in times:   # what was never used cannot be withdrawn
            unused[address] = [float("inf")]
    for text, values in texts:
        c.check(f"{text}: under 1 s, IPv4 and IPv6", all(
            t < 1 for times in values.values() for t in times), "; ".join(
            f"{a} ms: " + ", ".join(f"{t * 1e3:.0f}" for t in v) for a, v in values.items()))


def _retransmissions(lab):
    """TCP segments sent again by each router: what a slow announcement may come from."""
    return {name: lab.namespaces[name].snmp()["TcpRetransSegs"] for name in ("rr", *lab.pes)}


def _first_arrival(stream, since, timeout=3.0):
    end = time.time() + timeout
    while time.time() < end:
        arrived = [t for s, t in list(stream.arrived.items()) if stream.sent.get(s, 0) >= since]
        if arrived:
            return min(arrived) - since
        time.sleep(0.005)
    return float("inf")


def agreement(lab, c):
    """FRR on the other PEs has what pe1 must announce: subnets, hosts, its router MAC."""
    needs_evpn(lab)
    pe1, pe2, h1, h5 = lab.pes["pe1"], lab.pes["pe2"], lab.hosts["h1"], lab.hosts["h5"]
    reach(lab, wanted=pairs(lab, [h1, h5, lab.hosts["h4"]]))

    def announced():
        macip, prefixes = pe2.frr.routes("macip"), pe2.frr.routes("prefix")
        missing = [ip for h in (h1, h5) for ip in (h.ip4, h.ip6)
                   if not re.search(rf"\[{re.escape(h.mac)}\]:\[\d+\]:\[{re.escape(ip)}\]", macip)]
        missing += [p for p in ("[192.170.1.0]", "[192.170.3.0]", "[2001:db8:1::]",
                                "[2001:db8:3::]") if p not in prefixes]
        if missing:
            raise LabError(f"pe2's FRR lacks {missing}")
        return f"{h1.ip4}, {h1.ip6}, subnets A and C"
    c.attempt("1. pe2's vtysh shows pe1's hosts as MAC/IP and its subnets as type 5",
              lambda: wait("the routes", announced, 8, 0.2))
    c.attempt("2. and pe1's router MAC", lambda: wait("the RMAC", lambda: (
        pe1.router_mac in pe2.frr.vty("show evpn rmac vni all")) and pe1.router_mac, 5, 0.2))
    rmacs = pe1.frr.vty("show evpn rmac vni all")
    c.check("3. pe1's FRR has the router MACs of the others", all(
        pe.router_mac in rmacs for pe in lab.pes.values() if pe is not pe1))
