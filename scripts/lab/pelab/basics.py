"""Scenarios: convergence, connectivity, TCP, MTU, flooding, agreement of views, captures."""
import itertools
import time

from . import capture, traffic
from .net import veth
from .noise import Noise
from .report import Skip
from .shell import LabError, say, wait

MEBIBYTE = 1 << 20


def wires_of(lab, hosts):
    return {host.name: traffic.Wire(host.namespace, "eth0") for host in hosts}


def close(wires):
    for wire in wires.values():
        wire.close()


def converge(lab, c):
    """Waits until EVPN has told each PE about the other; nothing is sent by hosts."""
    began = time.monotonic()
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    if lab.family == 4:
        c.attempt("1. BGP sessions (through pe1's exception path) come up", lambda: [
            node.wait_established() for node in (lab.rr, pe1.frr, pe2.frr)] and
            f"{time.monotonic() - began:.1f} s after both PEs started")
    for number, (pe, other) in enumerate(((pe1, pe2), (pe2, pe1)), 2):
        def flooded(pe=pe, other=other):
            def agree():
                return all(pe.flood(vni) == pe.vteps(vni) == {other.vtep} for vni in (110, 120))
            note = ""
            try:
                wait(f"{pe.name} floods both VNIs to {other.vtep}", agree, 12, 0.1)
            except LabError:
                # FRR 8.4.4's bgpd now and then leaves type 3 routes that it has received out of a
                # VNI; zebra then knows no VTEP, and nobody behind it can. Only that is mended here.
                if lab.family == 4 and not zebra_knows(pe.frr, other.vtep):
                    note = ", after `clear bgp * soft in`: zebra itself knew no VTEP"
                    pe.frr.vty("clear bgp * soft in")
                wait(f"{pe.name} floods both VNIs to {other.vtep}", agree, 15, 0.1)
            return f"{pe.kind}: {other.vtep}{note}"
        c.attempt(f"{number}. {pe.name}'s flood lists hold exactly {other.name}, which it can reach",
                  flooded)


def zebra_knows(frr, vtep):
    """Whether zebra itself has the VTEP in both VNIs."""
    return all(vtep in frr.vty(f"show evpn vni {vni}") for vni in (110, 120))


def reach(lab, hosts=None, timeout=12):
    """Every pair of hosts of a VNI has answered at least one ping (neighbours resolved)."""
    pairs = host_pairs(lab, hosts)
    missing = pairs
    end = time.monotonic() + timeout
    while missing and time.monotonic() < end:
        results = traffic.ping_matrix(missing, count=1, interval=0.2)
        missing = [p for p, (_, sent, got, _) in zip(missing, results) if got < 1]
    if missing:
        raise LabError("no answer: " + ", ".join(f"{ns.name} -> {a}" for ns, a in missing[:6]))


def host_pairs(lab, hosts=None):
    hosts = hosts or list(lab.hosts.values())
    return [(a.namespace, address) for a, b in itertools.permutations(hosts, 2) if a.vni == b.vni
            for address in (b.ip4, b.ip6)]


def ping(lab, c):
    began = time.monotonic()
    c.attempt("1. every host reaches every other of its VNI, IPv4 and IPv6",
              lambda: reach(lab) or f"{time.monotonic() - began:.1f} s")
    with Noise() as noise:
        results = traffic.ping_matrix(host_pairs(lab), count=25, interval=0.02)
        lost = [f"{label}: {got}/{sent}" for label, sent, got, _ in results if got != sent]
        noise.blame(lost)
    total = sum(sent for _, sent, _, _ in results)
    c.check(f"2. ping matrix, {len(results)} directions, 0 loss", not lost,
            ", ".join(lost[:6]) or f"{total} of {total}")
    duplicates = [label for label, _, _, extra in results if extra]
    c.check("3. no answer comes twice", not duplicates, ", ".join(duplicates[:4]))


def offloads(lab, c):
    reference = lab.namespace("ref")
    if "ref0" not in reference.devices():
        veth(reference, "ref0", reference, "ref1")
    want = reference.offloads("ref0")
    shown = ("tx-checksumming", "generic-segmentation-offload", "tcp-segmentation-offload",
             "generic-receive-offload")
    say("  a new pair: " + ", ".join(f"{name} {want.get(name)}" for name in shown))
    changed = []
    ends = veth_ends(lab)
    for namespace, device in ends:
        have = namespace.offloads(device)
        changed += [f"{namespace.name}/{device} {name}: {have.get(name)}"
                    for name, value in want.items() if have.get(name) != value]
    c.check(f"1. all {len(ends)} veth ends have the offloads of a new pair", not changed,
            ", ".join(changed[:5]))
    c.check("2. and those include tx checksum, GSO and TSO",
            all(want.get(name) == "on" for name in shown[:3]))


def veth_ends(lab):
    """Both ends of every veth pair: [(namespace, device)]."""
    ends = [(host.namespace, "eth0") for host in lab.hosts.values()]
    ends += [(lab.pes[host.pe].ports, host.circuit) for host in lab.hosts.values()]
    ends += [(pe.ports, pe.underlay_device) for pe in lab.pes.values()]
    return ends + [(lab.namespaces["rr"], name) for name in lab.pes]


def tcp_gro(lab, c):
    """Receive offload merges segments before pe-dp sees them; not every kernel starts with it."""
    ends = veth_ends(lab)
    was = {end: end[0].offloads(end[1])["generic-receive-offload"] for end in ends}
    for namespace, device in ends:
        namespace.run(["ethtool", "-K", device, "gro", "on"])
    try:
        tcp(lab, c, 16 * MEBIBYTE)
    finally:
        for (namespace, device), value in was.items():
            namespace.run(["ethtool", "-K", device, "gro", value])


def tcp(lab, c, size=64 * MEBIBYTE):
    h1, h2, h1b, h1v, h4 = (lab.hosts[name] for name in ("h1", "h2", "h1b", "h1v", "h4"))
    reach(lab)
    cases = [(h1, h2, h2.ip4, size), (h2, h1, h1.ip4, size),
             (h1, h2, h2.ip6, size), (h2, h1, h1.ip6, size),
             (h1, h1b, h1b.ip4, size // 4), (h1v, h4, h4.ip4, size // 4),
             (h4, h1v, h1v.ip6, size // 4)]
    for number, (source, target, address, length) in enumerate(cases, 1):
        name = (f"{number}. {length // MEBIBYTE} MiB over TCP {source.name} -> {target.name}, "
                f"IPv{6 if ':' in address else 4}, same SHA-256")
        try:
            sent, got, seconds = traffic.tcp_transfer(
                source.namespace, target.namespace, address, 5000 + number, length, timeout=90)
            c.check(name, sent == got,
                    f"{sent[:16]}…, {length / MEBIBYTE / seconds:.0f} MiB/s" if sent == got
                    else f"sent {sent[:16]}…, got {got[:16]}…")
        except LabError as error:
            c.check(name, False, error)


def mtu(lab, c):
    hosts = lab.hosts
    reach(lab)
    cases = [("h1", "h2"), ("h2", "h1"), ("h1b", "h3"), ("h1", "h1b"), ("h1v", "h4"),
             ("h4", "h1v")]
    for number, length in enumerate((1450, 1500), 1):
        runs = [traffic.Ping(hosts[a].namespace, address, count=5, size=length - header,
                             fragment=False)
                for a, b in cases
                for address, header in ((hosts[b].ip4, 28), (hosts[b].ip6, 48))]
        lost = []
        for run in runs:
            sent, got = run.result()
            if sent != got:
                lost.append(f"{run.label} {got}/{sent}")
        c.check(f"{number}. {length}-byte packets with DF pass both ways, IPv4 and IPv6", not lost,
                ", ".join(lost[:6]))


def exactly_once(lab, c, count=20):
    """Broadcast, multicast and unknown unicast: each copy once to everybody else in the VNI."""
    wires = wires_of(lab, lab.hosts.values())
    kinds = [("broadcast", traffic.BROADCAST), ("multicast", "01:00:5e:5e:00:01"),
             ("unknown unicast", "02:00:00:dd:dd:01")]
    runs, expected = {}, {}
    try:
        for host in lab.hosts.values():
            for kind, destination in kinds:
                number = traffic.next_run()
                runs[number] = (host, kind)
                for other in lab.hosts_of(host.vni):
                    if other is not host:
                        expected[wires[other.name].name, number] = count
                for sequence in range(count):
                    wires[host.name].send(
                        traffic.marked_frame(destination, host.mac, number, sequence))
        seen = traffic.collect(list(wires.values()), expected)
        for index, (kind, _) in enumerate(kinds, 1):
            wrong = []
            for number, (host, of) in runs.items():
                if of != kind:
                    continue
                for other in lab.hosts.values():
                    got = seen[wires[other.name].name, number]
                    want = count if other.vni == host.vni and other is not host else 0
                    once = len(got) == want and all(times == 1 for times in got.values())
                    if not once:
                        wrong.append(f"{host.name} -> {other.name}: {sum(got.values())} frames of "
                                     f"{len(got)} numbers, expected {want}")
            c.check(f"{index}. {kind} from each host reaches every other host of the VNI exactly "
                    "once, itself and the other VNI never", not wrong,
                    "; ".join(wrong[:4]) or f"{count} frames from each of {len(wires)} hosts")
    finally:
        close(wires)


def vlan_tags(lab, c, count=20):
    """One tag is popped on the way in and pushed on the way out; further tags stay."""
    h1v, h4 = lab.hosts["h1v"], lab.hosts["h4"]
    wires = wires_of(lab, (h1v, h4))
    # What a capture on the receiver's interface must show; h1v's own tag is 20.
    cases = [("1. untagged for h4: VLAN 20 is popped", h1v, h4, (), []),
             ("2. VLAN 20 is pushed towards h1v", h4, h1v, (), [20]),
             ("3. an inner tag 30 stays, h1v -> h4", h1v, h4, (30,), [30]),
             ("4. an inner tag 30 stays under VLAN 20, h4 -> h1v", h4, h1v, (30,), [20, 30])]
    try:
        for name, source, target, tags, want in cases:
            run = traffic.next_run()
            path = lab.path("vlan.pcap")
            with capture.Capture(target.namespace, "eth0", path) as trace:
                for sequence in range(count):
                    wires[source.name].send(traffic.marked_frame(
                        target.mac, source.mac, run, sequence, tags=tags))
                traffic.collect([wires[target.name]], {(wires[target.name].name, run): count})
                trace.stop()
            stacks = [_tags(frame) for frame in capture.frames(path)
                      if (mark := traffic.parse_marked(frame)) and mark.run == run]
            c.check(name, stacks == [want] * count, f"{len(stacks)} frames, {stacks[:1]}")
    finally:
        close(wires)


def _tags(frame):
    """The VLAN identifiers of a frame, outermost first."""
    stack, at = [], 12
    while frame[at:at + 2] in (b"\x81\0", b"\x88\xa8"):
        stack.append(int.from_bytes(frame[at + 2:at + 4], "big") & 0xFFF)
        at += 4
    return stack


def agreement(lab, c):
    """What pe-dp shows, what FRR shows and what the kernel of the other PE does are the same."""
    if lab.family != 4:
        raise Skip("no FRR on an IPv6 underlay (8.4.4 has no IPv6 VTEPs)")
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    h1, h1b = lab.hosts["h1"], lab.hosts["h1b"]
    reach(lab)

    def type2():
        routes = pe2.frr.routes("macip")
        missing = [h.name for h in (h1, h1b) if f"[{h.mac}]" not in routes]
        remote = pe2.frr.macs(110)
        for host in (h1, h1b):
            row = remote.get(host.mac, {})
            if row.get("type") != "remote" or row.get("remoteVtep") != pe1.vtep:
                missing.append(f"{host.name}: {row}")
        if missing:
            raise LabError(f"pe2's FRR: {missing}")
        return f"[2]:[0]:[48]:[{h1.mac}] via {pe1.vtep}"
    c.attempt("1. pe2's vtysh shows h1's and h1b's MAC as type 2",
              lambda: wait("type 2", type2, 5, 0.1))
    c.check("2. pe2's vtysh shows pe1's VTEP as type 3",
            f"[3]:[0]:[32]:[{pe1.vtep}]" in pe2.frr.routes("multicast"), pe1.vtep)
    for number, vni in enumerate((110, 120), 3):
        c.attempt(f"{number}. VNI {vni}: pe1's MACs are zebra's, and pe2's kernel's",
                  lambda: _same_macs(lab, vni))
    flood = {vni: (pe1.flood(vni), pe1.kernel_flood(vni), pe1.frr.remote_vteps(vni))
             for vni in (110, 120)}
    c.check("5. flood lists: pe1 = zebra's rows in the kernel = `show evpn vni`",
            all(a == b == z == {pe2.vtep} for a, b, z in flood.values()), flood)
    c.check("6. pe1's VTEPs are pe2", all(pe1.vteps(vni) == {pe2.vtep} for vni in (110, 120)),
            {vni: pe1.vteps(vni) for vni in (110, 120)})
    c.attempt("7. pe1 encapsulated and decapsulated as many packets as pe2's counters say",
              lambda: _same_counters(lab))


def _same_macs(lab, vni):
    """pe1's FDB equals zebra's table on pe1 and mirrors pe2's."""
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]

    def same():
        mine = pe1.fdb(vni)
        zebra = pe1.frr.macs(vni)
        local = {m for m, (kind, _) in mine.items() if kind == "local"}
        remote = {(m, where) for m, (kind, where) in mine.items() if kind == "remote"}
        zebra_local = {m for m, row in zebra.items() if row["type"] == "local"}
        zebra_remote = {(m, row.get("remoteVtep")) for m, row in zebra.items()
                        if row["type"] == "remote"}
        theirs = {m for m, row in pe2.fdb(vni).items() if row == ("remote", pe1.vtep)}
        want = {host.mac for host in pe1.hosts(vni)}
        if local == zebra_local and remote == zebra_remote and local == theirs and want <= local:
            return f"{len(local)} local, {len(remote)} remote"
        raise LabError(f"pe1 {sorted(local)} {sorted(remote)}; zebra {sorted(zebra_local)} "
                       f"{sorted(zebra_remote)}; pe2 {sorted(theirs)}")
    return wait("the same MACs everywhere", same, 5, 0.2)


def _same_counters(lab, count=500):
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    h1, h2 = lab.hosts["h1"], lab.hosts["h2"]
    wires = wires_of(lab, (h1, h2))
    try:
        for _ in range(4):   # a neighbour probe of a host in between spoils one attempt
            before = pe1.tunnel_counters(110), pe2.tunnel_counters(110)
            run = traffic.next_run(), traffic.next_run()
            for sequence in range(count):
                wires["h1"].send(traffic.marked_frame(h2.mac, h1.mac, run[0], sequence))
                wires["h2"].send(traffic.marked_frame(h1.mac, h2.mac, run[1], sequence))
            traffic.collect(list(wires.values()), {
                (wires["h2"].name, run[0]): count, (wires["h1"].name, run[1]): count})
            after = pe1.tunnel_counters(110), pe2.tunnel_counters(110)
            delta = [tuple(b - a for a, b in zip(x, y)) for x, y in zip(before, after)]
            if delta[0] == tuple(reversed(delta[1])) and min(delta[0]) >= count:
                return f"{delta[0][0]} out, {delta[0][1]} in"
        raise LabError(f"pe1 (out, in) {delta[0]}, pe2 (out, in) {delta[1]}, sent {count} each way")
    finally:
        close(wires)
