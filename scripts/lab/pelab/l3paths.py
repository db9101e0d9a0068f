"""Scenarios: a prefix behind two VTEPs: how flows spread, and which of them move when one leaves."""
import struct
import time

from . import traffic
from .frames import udp6_frame, udp_frame
from .l3routing import needs_evpn
from .l3topology import SHARED, gateway_mac
from .probes import Tap, packet
from .shell import LabError, say, wait

FLOWS = 1000


def ecmp(lab, c):
    """1000 IPv4 and 1000 IPv6 flows of h1; pe3 leaves, returns, and loses its link."""
    needs_evpn(lab)
    _wait_members(lab, {"pe2", "pe3"})
    before = paths(lab)
    for number, (family, flows) in enumerate(sorted(before.items()), 1):
        shares = {name: sum(1 for pe in flows.values() if pe == name) for name in ("pe2", "pe3")}
        c.check(f"{number}. {FLOWS} IPv{family} flows: each VTEP has half of them within 10 %",
                all(abs(n - FLOWS / 2) <= FLOWS / 20 for n in shares.values())
                and sum(shares.values()) == FLOWS, shares)
    again = paths(lab)
    c.check("3. each flow keeps its path", again == before, _moved(before, again))
    leave = (("its prefixes are withdrawn", lambda: lab.announce(lab.routers["x3"], SHARED, False),
              lambda: lab.announce(lab.routers["x3"], SHARED)),
             ("its underlay link goes", lambda: _link(lab, "down"), lambda: _link(lab, "up")))
    number = 4
    for why, go, come in leave:
        began = time.monotonic()
        go()
        took = c.attempt(f"{number}. pe3 leaves, {why}: all flows go to pe2", lambda: _wait_members(
            lab, {"pe2"}) and f"{time.monotonic() - began:.1f} s")
        without = paths(lab) if took else {}
        stray = [f for family in before for f, pe in before[family].items()
                 if pe == "pe2" and without.get(family, {}).get(f) != "pe2"]
        c.check(f"{number + 1}. only the lost member's flows moved", took and not stray,
                f"{_moved(before, without)} moved, {len(stray)} that need not")
        began = time.monotonic()
        come()
        c.attempt(f"{number + 2}. pe3 returns", lambda: _wait_members(lab, {"pe2", "pe3"})
                  and f"{time.monotonic() - began:.1f} s")
        back = paths(lab)
        c.check(f"{number + 3}. every flow is on the path that it had before", back == before,
                f"{_moved(before, back)} elsewhere")
        number += 4


def _link(lab, state):
    lab.namespaces["rr"].ip(f"link set pe3 {state}")


def _moved(a, b):
    return sum(1 for family in a for flow, pe in a[family].items()
               if b.get(family, {}).get(flow) != pe)


def paths(lab):
    """{4 or 6: {flow number: PE that its packet was sent to}} of one packet of each flow."""
    h1 = lab.hosts["h1"]
    names = {pe.vtep: name for name, pe in lab.pes.items()}
    with Tap(lab.namespaces["rr"], "pe1") as tap, traffic.Wire(h1.namespace, "eth0") as wire:
        for flow in range(FLOWS):
            wire.send(probe(h1, flow, 4))
            wire.send(probe(h1, flow, 6))
            if flow % 100 == 99:
                time.sleep(0.005)
        seen = {4: {}, 6: {}}

        def all_seen():
            for p in tap.tunnelled(outgoing=False):
                inner = packet(p.inner)
                if inner and inner.protocol == 17 and inner.payload[2:4] == b"\0\x09":
                    flow = struct.unpack("!I", inner.payload[8:12])[0]
                    seen[6 if ":" in inner.source else 4][flow] = names.get(p.destination)
            return all(len(flows) == FLOWS for flows in seen.values())
        try:
            wait("every flow in the tunnel", all_seen, 2, 0.02)
        except LabError:
            say(f"    only {[len(f) for f in seen.values()]} flows left pe1")
    return seen


def probe(host, flow, family):
    """One UDP packet of a flow: 250 sources of 4 addresses, in no order that a hash could like."""
    port, number = 20000 + 7 * flow % 9973, flow % 4 + 1
    if family == 4:
        return udp_frame(gateway_mac(host.vni), host.mac, f"10.9.{flow % 250}.{number}",
                         host.ip4, 9, port, struct.pack("!I", flow) + bytes(20))
    target = f"2001:db8:9:{flow % 250:x}::{number}"
    return udp6_frame(gateway_mac(host.vni), host.mac, target, host.ip6, 9, port,
                      struct.pack("!I", flow) + bytes(20))


def _wait_members(lab, members, timeout=20):
    """Until one packet each of some flows goes exactly to these PEs, in both families."""
    def members_seen():
        seen = _sample(lab)
        if seen != {4: members, 6: members}:
            raise LabError(f"{seen}")
        return True
    return wait(f"flows towards {' and '.join(sorted(members))}", members_seen, timeout, 0.1)


def _sample(lab, flows=64):
    h1 = lab.hosts["h1"]
    names = {pe.vtep: name for name, pe in lab.pes.items()}
    found = {4: set(), 6: set()}
    with Tap(lab.namespaces["rr"], "pe1") as tap, traffic.Wire(h1.namespace, "eth0") as wire:
        for flow in range(flows):
            wire.send(probe(h1, flow, 4))
            wire.send(probe(h1, flow, 6))
        time.sleep(0.1)
        for p in tap.tunnelled(outgoing=False):
            inner = packet(p.inner)
            if inner and inner.protocol == 17 and inner.payload[2:4] == b"\0\x09":
                found[6 if ":" in inner.source else 4].add(names.get(p.destination))
    return found
