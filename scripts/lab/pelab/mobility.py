"""Scenarios: how soon a MAC is known everywhere, MACs that move, MACs that must not."""
import itertools
import time

from . import traffic
from .basics import close, reach, wires_of
from .report import Skip
from .shell import LabError, wait

_macs = itertools.count(1)


def fresh_mac():
    """A host address that no other scenario of this process uses."""
    number = next(_macs)
    return f"02:00:00:77:{number >> 8:02x}:{number & 0xFF:02x}"


def needs_evpn(lab):
    if lab.family != 4:
        raise Skip("static state: nobody tells the other side about MACs")


def first_frame(lab, c, rounds=5):
    """The time from a new host's first frame to its entry at the other PE."""
    needs_evpn(lab)
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    h1, h2 = lab.hosts["h1"], lab.hosts["h2"]
    wires = wires_of(lab, (h1, h2))
    try:
        cases = ((h1, pe2, pe1, "pe2's kernel FDB" if pe2.kind == "kernel" else "pe2's FDB"),
                 (h2, pe1, pe2, "pe1's FDB"))
        for number, (host, observer, owner, where) in enumerate(cases, 1):
            times = []
            for _ in range(rounds):
                mac = fresh_mac()
                began = time.monotonic()
                wires[host.name].send(traffic.marked_frame(traffic.BROADCAST, mac,
                                                           traffic.next_run(), 0))
                try:
                    wait(f"{mac} in {where}",
                         lambda: observer.fdb(110).get(mac) == ("remote", owner.vtep), 3, 0.005)
                    times.append(time.monotonic() - began)
                except LabError:
                    times.append(float("inf"))
            c.check(f"{number}. a new host's first frame at {host.name} to its entry in {where}: "
                    "under 1 s", max(times) < 1,
                    "ms: " + ", ".join(f"{t * 1e3:.0f}" for t in times))
    finally:
        close(wires)


def mac_move(lab, c, rounds=2):
    """A MAC announces itself at h1, then at h2, then at h1 again: one frame each time."""
    needs_evpn(lab)
    reach(lab, [lab.hosts[name] for name in ("h1b", "h3")])
    outcomes = {}
    for _ in range(rounds):
        for key, value in _move_once(lab).items():
            outcomes.setdefault(key, []).append(value)
    texts = {("h2", "h1b"): "1. to h2, seen from h1b (behind pe1)",
             ("h2", "h3"): "2. to h2, seen from h3 (behind pe2)",
             ("h1", "h1b"): "3. back to h1, seen from h1b",
             ("h1", "h3"): "4. back to h1, seen from h3"}
    for key, text in texts.items():
        took = [seconds for seconds, _, _ in outcomes[key]]
        c.check(f"{text}: under 1 s", max(took) < 1,
                "ms: " + ", ".join(f"{t * 1e3:.0f}" for t in took))
    late = {f"{prober} to {target}": (lost, twice)
            for (target, prober), values in outcomes.items()
            for _, lost, twice in values if lost or twice}
    c.check("5. after convergence no probe is lost (black hole) or doubled", not late, late)


def _move_once(lab, phase_seconds=1.6, interval=0.005):
    """{(new home, prober): (seconds until every probe arrives there, lost and doubled later)}."""
    mac = fresh_mac()
    wires = wires_of(lab, [lab.hosts[name] for name in ("h1", "h2", "h1b", "h3")])
    runs = {name: traffic.next_run() for name in ("h1b", "h3")}
    announce = traffic.next_run()
    try:
        wires["h1"].send(traffic.marked_frame(traffic.BROADCAST, mac, announce, 0))
        wait("the MAC is known on both sides", lambda: mac in lab.pes["pe1"].fdb(110)
             and mac in lab.pes["pe2"].fdb(110), 5)
        recorder = traffic.Recorder([wires["h1"], wires["h2"]], set(runs.values()))
        streams = {name: traffic.Stream(wires[name], mac, lab.hosts[name].mac, run, interval)
                   for name, run in runs.items()}
        moves = []
        try:
            time.sleep(0.3)
            for sequence, target in enumerate(("h2", "h1"), 1):
                moves.append((target, time.monotonic()))
                wires[target].send(
                    traffic.marked_frame(traffic.BROADCAST, mac, announce, sequence))
                time.sleep(phase_seconds)
        finally:
            ended = time.monotonic()
            sent = {name: stream.stop() for name, stream in streams.items()}
            time.sleep(0.2)
            arrivals = recorder.stop()
    finally:
        close(wires)
    return _evaluate_moves(moves, ended, sent, arrivals, runs, {w: wires[w].name for w in wires})


def _evaluate_moves(moves, ended, sent, arrivals, runs, names):
    outcome = {}
    for index, (target, began) in enumerate(moves):
        until = moves[index + 1][1] if index + 1 < len(moves) else ended
        for prober, run in runs.items():
            got = [a.sequence for a in arrivals[names[target]] if a.run == run]
            window = {s: t for s, t in sent[prober].items() if began < t < until - 0.02}
            missing = [t for s, t in window.items() if s not in got]
            took = (max(missing) - began) if missing else 0.0
            # Converged is when the MAC's new home is known: one second at most. A probe that is
            # lost later than that fell into a black hole.
            lost = sum(1 for t in missing if t - began >= 1.0)
            twice = sum(1 for s, t in window.items() if t - began > took and got.count(s) > 1)
            outcome[target, prober] = (took, lost, twice)
    return outcome


def sticky(lab, c):
    """A MAC that pe2's operator pinned stays there, whoever claims it behind pe1."""
    needs_evpn(lab)
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    if pe2.kind != "kernel":
        raise Skip("a MAC is pinned on the kernel's bridge; here pe2 is pe-dp")
    h1, h1b, h2 = (lab.hosts[name] for name in ("h1", "h1b", "h2"))
    mac = fresh_mac()
    wires = wires_of(lab, (h1, h1b, h2))
    pe2.make_sticky(mac, h2)
    try:
        where = ("remote", pe2.vtep)
        wait("pe1 knows the sticky MAC behind pe2", lambda: pe1.fdb(110).get(mac) == where, 5)
        before = pe2.frr.macs(110).get(mac, {})
        claim = traffic.next_run()
        probe = traffic.next_run()
        for sequence in range(40):
            wires["h1"].send(traffic.marked_frame(traffic.BROADCAST, mac, claim, sequence))
            wires["h1b"].send(traffic.marked_frame(mac, h1b.mac, probe, sequence))
            time.sleep(0.025)
        seen = traffic.collect([wires["h1"], wires["h2"]], {(wires["h2"].name, probe): 40})
        c.check("1. pe1 still forwards it to pe2", pe1.fdb(110).get(mac) == where,
                pe1.fdb(110).get(mac))
        after = pe2.frr.macs(110).get(mac, {})
        c.check("2. pe2's FRR still owns it, with the same mobility sequence",
                after.get("type") == "local" and after.get("localSequence")
                == before.get("localSequence"), after)
        to_h2, to_h1 = seen[wires["h2"].name, probe], seen[wires["h1"].name, probe]
        c.check("3. frames for it reach h2 and not the claimant", len(to_h2) == 40 and not to_h1,
                f"{len(to_h2)} of 40 at h2, {len(to_h1)} at h1")
    finally:
        close(wires)
        pe2.remove_sticky(mac, h2)
