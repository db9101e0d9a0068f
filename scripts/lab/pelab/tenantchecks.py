"""Scenarios: two tenants with the same prefixes and hosts reach their own and never each other."""
import contextlib
import re
import select
import socket
import threading
import time

from . import traffic
from .net import Background
from .shell import LabError, run, wait
from .tenants import TENANTS, other_tenant, subnets_at

NAME_PORT = 7070
MEBIBYTE = 1 << 20


def converge(lab, c):
    """EVPN has told each PE of the other's VTEP, and of the prefixes that it has in each VRF."""
    began = time.monotonic()
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    c.attempt("1. BGP sessions come up", lambda: [
        node.wait_established() for node in (lab.rr, pe1.frr, pe2.frr)] and
        f"{time.monotonic() - began:.1f} s after both PEs started")
    for number, (pe, other) in enumerate(((pe1, pe2), (pe2, pe1)), 2):
        c.attempt(f"{number}. {pe.name} floods the tenants' A to {other.name} and nothing else", lambda:
                  wait(f"{pe.name}'s flood lists", lambda: _floods(pe, other), 60, 0.2))
    for number, (pe, other) in enumerate(((pe1, pe2), (pe2, pe1)), 4):
        c.attempt(f"{number}. {pe.name} has {other.name}'s prefixes in each VRF (type 5)", lambda:
                  wait(f"{pe.name}'s prefixes", lambda: _prefixes(pe, other), 60, 0.2))


def converged(lab):
    for node in [lab.rr] + [pe.frr for pe in lab.pes.values()]:
        node.wait_established()
    for pe in lab.pes.values():
        wait(f"{pe.name}'s flood lists", lambda: _floods(pe, lab.other(pe)), 60, 0.2)
        wait(f"{pe.name}'s prefixes", lambda: _prefixes(pe, lab.other(pe)), 60, 0.2)


def _floods(pe, other):
    lists = {vni: pe.flood(vni) for vni in pe.vnis()}
    want = {vni: {other.vtep} if vni in other.vnis() else set() for vni in pe.vnis()}
    if lists != want:
        raise LabError(f"{lists}, not {want}")
    return f"{pe.kind}: {other.vtep}"


def _prefixes(pe, other):
    found = []
    for tenant in TENANTS:
        have = pe.routes(tenant)
        for prefix in remote_prefixes(tenant, pe, other):
            if have.get(prefix) != [(other.vtep, tenant.l3vni)]:
                raise LabError(f"{tenant.name}: {prefix} {have.get(prefix)}")
            found.append(prefix)
    return f"{len(found)} prefixes"


def remote_prefixes(tenant, pe, other):
    """What a PE does not have itself and the other has."""
    return [prefix for t, subnet in subnets_at(other.name)
            if t is tenant and (t, subnet) not in subnets_at(pe.name)
            for prefix in t.prefixes(subnet)]


class NameServer:
    """Every host says its name over UDP to whoever asks, at both of its addresses."""

    def __init__(self, hosts):
        self._sockets = {}
        for host in hosts:
            for address in host.addresses:
                one = udp(host, address)
                one.bind((address, NAME_PORT))
                self._sockets[one] = host.name.encode()
        self._stop = threading.Event()
        self._work = Background(self._serve)

    def _serve(self):
        while not self._stop.is_set():
            for one in select.select(list(self._sockets), [], [], 0.1)[0]:
                data, peer = one.recvfrom(64)
                one.sendto(data + self._sockets[one], peer)

    def close(self):
        self._stop.set()
        self._work.join(5, "the name server")
        for one in self._sockets:
            one.close()


def udp(host, address):
    return host.namespace.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                                 socket.SOCK_DGRAM)


def ask_name(source, address, timeout=2.0, tries=3):
    """The name that an address answers with, or the reason for which none came."""
    with udp(source, address) as one:
        one.settimeout(timeout)
        for number in range(tries):
            question = b"%d?" % number
            try:
                one.sendto(question, (address, NAME_PORT))
                answer = one.recv(64)
                if answer.startswith(question):
                    return answer[len(question):].decode()
            except OSError as error:
                reason = str(error)
    return f"no answer ({reason})"


def reach(lab, c):
    """Same subnet, other subnet, on the same PE and across: every host of the own tenant answers."""
    names = NameServer(lab.hosts.values())
    try:
        for number, tenant in enumerate(TENANTS):
            hosts = lab.of_tenant(tenant)
            for offset, family in enumerate(("IPv4", "IPv6")):
                pairs = [(a, b) for a in hosts for b in hosts if a is not b]
                asked = [Background(ask_name, a, b.addresses[offset]) for a, b in pairs]
                wrong = []
                for (a, b), answer in zip(pairs, asked):
                    name = answer.join(30, f"{a.name} -> {b.name}")
                    if name != b.name:
                        wrong.append(f"{a.name} -> {b.name} {b.addresses[offset]}: {name}")
                c.check(f"{2 * number + offset + 1}. {tenant.name}, {family}: each of {len(hosts)} hosts "
                        "reaches every other, and it is the tenant's own", not wrong,
                        "; ".join(wrong[:6]) or f"{len(pairs)} pairs")
    finally:
        names.close()
    pairs = [(host.namespace, gateway) for host in lab.hosts.values() for gateway in host.gateways]
    lost = [f"{label}: {got}/{sent}" for label, sent, got, _ in
            traffic.ping_matrix(pairs, count=3, interval=0.2) if got != sent]
    c.check("5. every host's gateway answers, IPv4 and IPv6", not lost,
            ", ".join(lost[:6]) or f"{len(pairs)} gateways")


def tcp(lab, c, size=2 * MEBIBYTE):
    """Both tenants at once between the same two addresses."""
    cases = [("h1", "h2", 0), ("h2", "h1", 1), ("h1", "h3", 1), ("h3", "h1", 0), ("h5", "h1", 0)]
    for number, (source, target, family) in enumerate(cases, 1):
        running = [Background(traffic.tcp_transfer, lab.host(tenant, source).namespace,
                              lab.host(tenant, target).namespace,
                              lab.host(tenant, target).addresses[family], 5000 + number, size, 60)
                   for tenant in TENANTS]
        name = (f"{number}. {size // MEBIBYTE} MiB over TCP {source} -> {target} in both tenants at "
                f"once, IPv{6 if family else 4}, same SHA-256")
        try:
            results = [work.join(90, name) for work in running]
            c.check(name, all(sent == got for sent, got, _ in results),
                    ", ".join(f"{sent[:8]}… = {got[:8]}…" for sent, got, _ in results))
        except (LabError, OSError) as error:
            c.check(name, False, error)


def attempts(lab):
    """The 20 attempts: [(source, address of the other tenant alone, what it is)]."""
    rows = []
    for tenant in TENANTS:
        other = other_tenant(tenant)
        h1, h5 = lab.host(tenant, "h1"), lab.host(tenant, "h5")
        for family in (0, 1):
            rows += [(h1, lab.host(other, "hd").addresses[family], "host on pe1"),
                     (h1, other.gateways("D")[family], "gateway on pe1"),
                     (h1, lab.host(other, "he").addresses[family], "host behind pe2"),
                     (h1, other.gateways("E")[family], "gateway on pe2"),
                     (h5, lab.host(other, "ha").addresses[family], "host in a subnet of both")]
    return rows


def isolation(lab, c):
    """Each attempt ends as one counted drop at pe1 and one ICMP unreachable from the gateway."""
    pe1 = lab.pes["pe1"]
    before = echoes(lab)
    for number, (source, address, what) in enumerate(attempts(lab), 1):
        other = other_tenant(source.tenant).name
        c.attempt(f"{number}. {source.name} -> {address} ({other}'s {what}): unreachable, one drop",
                  lambda: attempt(pe1, source, address))
    after = echoes(lab)
    c.check("21. no host has seen an echo request", before == after,
            ", ".join(f"{name} +{after[name] - before[name]}" for name in after
                      if after[name] != before[name]) or f"{len(after)} hosts")


def attempt(pe, source, address):
    """One ping that must fail; what it said and what was counted."""
    was = pe.refused()
    text = run(source.namespace.prefix() + ["ping", "-n", "-c", "1", "-W", "8", address],
               check=False, timeout=30)
    match = re.search(r"From (\S+):? icmp_seq=1 (Destination .*)", text)
    if not match:
        raise LabError("no ICMP error: " + " / ".join(text.strip().splitlines()[1:]))
    gateway, error = match.group(1).rstrip(":"), match.group(2)
    if gateway not in source.gateways or "nreachable" not in error:
        raise LabError(f"{error} from {gateway}, not unreachable from {source.gateways}")

    def counted():
        now = pe.refused()
        return {reason: count - was.get(reason, 0) for reason, count in now.items()
                if count != was.get(reason, 0)}
    drops = wait(f"a drop counted at {pe.name}", counted, 3, 0.1)
    if sum(drops.values()) != 1:
        raise LabError(f"counted at {pe.name}: {drops}")
    return f"{error} from {gateway}; " + ", ".join(drops)


def echoes(lab):
    counters = {name: host.namespace.snmp() for name, host in lab.hosts.items()}
    return {name: row["IcmpInEchos"] + row["Icmp6InEchos"] for name, row in counters.items()}


def tables(lab, c):
    """Each VRF's routes are its own: prefixes, next hops, L3VNI and table."""
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    # A PE announces a host once that has spoken to its gateway.
    traffic.ping_matrix([(host.namespace, gateway) for host in pe2.hosts()
                         for gateway in host.gateways], count=1)
    for number, tenant in enumerate(TENANTS):
        other = other_tenant(tenant)
        remote = remote_prefixes(tenant, pe1, pe2)
        hosts = [f"{address}/{128 if ':' in address else 32}" for name in ("h2", "ha")
                 for address in lab.host(tenant, name).addresses]
        with contextlib.suppress(LabError):
            wait("pe2's hosts", lambda: set(hosts) <= set(pe1.routes(tenant)), 10, 0.2)
        routes = pe1.routes(tenant)
        base, title = 5 * number, f"{tenant.name} (table {tenant.table})"
        wrong = {p: routes.get(p) for p in remote + hosts
                 if routes.get(p) != [(pe2.vtep, tenant.l3vni)]}
        c.check(f"{base + 1}. {title}: pe2's prefixes and hosts through L3VNI {tenant.l3vni}",
                not wrong, wrong or f"{len(remote)} prefixes, {len(hosts)} hosts via {pe2.vtep}")
        local = [prefix for t, subnet in subnets_at("pe1") if t is tenant
                 for prefix in t.prefixes(subnet)]
        wrong = {p: routes.get(p) for p in local if routes.get(p) != []}
        c.check(f"{base + 2}. {title}: pe1's subnets are connected", not wrong,
                wrong or f"{len(local)} prefixes")
        foreign = [prefix for subnet in "DE" for prefix in other.prefixes(subnet)]
        foreign += [f"{address}/{128 if ':' in address else 32}"
                    for name in ("hd", "he", "ha") for address in lab.host(other, name).addresses]
        there = [p for p in foreign if p in routes]
        there += [p for p, hops in routes.items()
                  if any(vni not in (tenant.l3vni, None) for _, vni in hops)]
        c.check(f"{base + 3}. {title}: nothing of {other.name}'s", not there,
                there or f"{len(routes)} routes")
        kernel = pe1.kernel_routes(tenant)
        differ = {p: (routes.get(p), kernel.get(p)) for p in set(routes) ^ set(kernel)
                  if p in kernel or routes[p]}
        differ |= {p: (routes[p], kernel[p]) for p in set(routes) & set(kernel)
                   if routes[p] != kernel[p]}
        c.check(f"{base + 4}. {title}: pe1 = the kernel's table in FRR's namespace", not differ,
                differ or f"{len(kernel)} routes")
        zebra = pe1.frr.vty_json(f"show ip route vrf {tenant.name}") | \
            pe1.frr.vty_json(f"show ipv6 route vrf {tenant.name}")
        found = {p for p, rows in zebra.items() if any(r["table"] == tenant.table for r in rows)}
        missing = [p for p in remote + hosts + local if p not in found]
        c.check(f"{base + 5}. {title}: FRR has them in this table", not missing,
                missing or f"{len(found)} routes")
