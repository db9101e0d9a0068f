"""The smoke test: pe-dp as the device under test on memif ports, the whole way from frames to a result."""

import subprocess
import tempfile
import time
from pathlib import Path

from . import profiles, report, simulated
from .local import counters, cpus, pe_dp, rig_on_memif, running
from .model import DECAP, ENCAP, Traffic
from .search import Goal, MultipleLossRatioSearch
from .trials import Measurer, SearchStopped

SECONDS = 6.0
# How long a low rate may take until a trial is undisturbed.
PATIENCE = 15.0


class Checks:
    """Named checks, printed as they are made."""

    def __init__(self, say):
        self.say, self.passed, self.failed = say, 0, 0

    def check(self, name, holds, seen=""):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
        self.say(f"{'ok' if holds else 'FAILED':7}{name}" + (f" ({seen})" if seen != "" else ""))
        return holds


def compare_frames(checks, generator):
    """The generator's frames and the model's are the same bytes, for every kind of traffic."""
    kinds = [dict(journey="l2"), dict(journey="l3", vnis=16, frame="imix"), dict(journey="l2", ipv6=True, vnis=3),
             dict(journey="l3", ipv6=True, frame="1500"), dict(journey="plain", frame="imix"),
             dict(journey="l2", flows=200_000, macs=100_000, vteps=1000, vnis=7)]
    for kind in kinds:
        traffic = Traffic.of_journey(kind["journey"], **{k: v for k, v in kind.items() if k != "journey"})
        generator.set_traffic(traffic)
        different = 0
        # From the start, where hosts and sizes begin again, and where 16 bits of them carry into the next.
        for direction, first in [(d, f) for d in (ENCAP, DECAP) for f in (0, traffic.macs - 20, 65_520, 1_000_003)]:
            for index, found in enumerate(generator.frames(direction, first, 40)):
                expected = traffic.frame_bytes(direction, first + index)
                different += found["length"] != len(expected) or bytes.fromhex(found["bytes"]) != expected[:128]
        name = " ".join(f"{value}" if key == "journey" else f"{key}={value}" for key, value in kind.items())
        checks.check(f"generator and model write the same frames: {name}", different == 0, f"{different} differ")


# Lines that are no commands, and commands with a field that is missing, wrong or out of bounds.
MALFORMED = [
    "", "x", "{", "[]", '{"command"}', '{"command":', '{"command":"trial"', '{"command":"trial"} more',
    '{"command":{}}', '{"command":"trial","rate":nan,"seconds":1}', '{"command":"trial","rate":1,"seconds":inf}',
    '{"command":"trial","rate":}', '{"command":"trial","rate":1e400,"seconds":1}', '{"command":"trial","rate":-1}',
    '{"command":"trial","rate":1,"seconds":0}', '{"command":"trial","rate":1,"seconds":1,"directions":4}',
    '{"command":"trial","rate":1e9,"seconds":3600}', '{"command":"trial","rate":1,"seconds":1,"check":3}',
    '{"command":"trial","rate":1,"seconds":1,"burst":65}', '{"command":"trial","rate":"1","seconds":1}',
    '{"command":"traffic","flows":0}', '{"command":"traffic","sizes":"59"}', '{"command":"traffic","sizes":"60,"}',
    '{"command":"traffic","sizes":"60;61"}', '{"command":"traffic","vnis":1.5}', '{"command":"traffic","service":3}',
    '{"command":"frames","count":0}', '{"command":"frames","first":-1}', '{"command":"launch"}', "{}",
    '{"' + "n" * 100 + '":1}', '{"command":"' + "c" * 1000 + '"}', "{" + ",".join(f'"f{i}":1' for i in range(99)) + "}",
]


def refuse_malformed(checks, generator):
    """Bad lines are refused in words, and what was set before stays."""
    generator.set_traffic(Traffic.of_journey("l2"))
    before = generator.frames(ENCAP, 0, 3)
    taken = [line[:60] for line in MALFORMED if not generator.refusal(line)]
    checks.check(f"the generator refuses {len(MALFORMED)} malformed commands", not taken, "; ".join(taken))
    checks.check("and keeps its traffic", generator.frames(ENCAP, 0, 3) == before)


def search(checks, rig, traffic, args, say):
    """A short search, and whether its result makes sense."""
    highest = rig.highest_rate()
    checks.check("the generator offers more than 10 000 frames a second", highest > 10_000, f"{highest:.0f}")
    goals = [Goal("ndr", 0.0, 0.02, 0.06, 0.02, 0.5, 0.05), Goal("pdr", 0.005, 0.02, 0.06, 0.02, 0.5, 0.05)]
    measurer = Measurer(rig, repeats=2, budget=SECONDS, most=150)
    found = MultipleLossRatioSearch(measurer, 1000.0, highest).run(goals)
    ndr, pdr = found
    say(report.text(args, traffic, found, [], measurer.statistics))
    checks.check("the search kept its time", measurer.left() > -3.0, f"{measurer.left():.1f} s left")
    checks.check("it made trials and no more than it may", 0 < measurer.statistics.trials <= 150)
    # On a machine whose CPUs others take in turns, even a slow trial may lose frames to them; what was
    # settled by trials that nothing disturbed must be in order.
    lows = f"{ndr.low} and {pdr.low}"
    checks.check("there is an NDR and a PDR, or the machine kept it from having one",
                 ndr.low and pdr.low or measurer.statistics.disturbed > measurer.statistics.trials / 2, lows)
    checks.check("NDR is at most PDR", not ndr.low or (pdr.low or 0) >= ndr.low, lows)
    for result in found:
        bounds = result.low is None or result.high is None or result.low < result.high
        checks.check(f"{result.goal.name}: the bounds are in order", bounds, f"{result.low} to {result.high}")
    return found


def low_rate(checks, rig, folder, label):
    """At a low rate everything comes back, right and once; the device's books say the same."""
    before = counters(folder)
    end = rig.now() + PATIENCE
    while True:
        trial = rig.run(5000, 0.3, check=1)
        # A machine that keeps the device off its CPU for longer than the generator waits loses frames, too.
        if trial.lost == 0 and not trial.faults or rig.now() > end:
            break
        rig.rest(0.2)
    lanes = trial.details["directions"]
    for lane in lanes:
        name = f"{label} {lane['name']}"
        checks.check(f"{name}: all frames come back at a low rate", lane["received"] == lane["sent"] > 0,
                     f"{lane['received']} of {lane['sent']}")
        checks.check(f"{name}: every one is checked and right", lane["checked"] == lane["received"] and
                     lane["faulty"] == 0, f"{lane['faulty']} of {lane['checked']}: {lane['faults']}")
        checks.check(f"{name}: none twice, none out of order", lane["duplicates"] == lane["reordered"] == 0)
        metrics = report.latency_metrics(lane["latency"])
        columns = ("min", "p50", "p90", "p99", "p99.9", "max")
        latency = [metrics[column]["value"] for column in columns if column in metrics]
        checks.check(f"{name}: latency percentiles rise",
                     len(latency) == 6 and latency == sorted(latency) and latency[0] > 0, latency)
        checks.check(f"{name}: as many latencies as frames", lane["latency"]["count"] == lane["received"])
    time.sleep(0.1)
    after = counters(folder)
    sent = sum(lane["sent"] for lane in lanes)
    checks.check(f"{label}: pe-dp counted what the generator sent", after["received"] - before["received"] >= sent,
                 f"{after['received'] - before['received']} and {sent}")


def one_journey(checks, journey, args, say, searches, **rest):
    traffic = Traffic.of_journey(journey, **rest)
    label = journey + ("/ipv6" if traffic.ipv6 else "")
    with rig_on_memif(traffic, 0.05) as (rig, folder):
        if searches:
            compare_frames(checks, rig.generator)
            refuse_malformed(checks, rig.generator)
        try:
            rig.prepare()
        except SearchStopped as stop:
            checks.check(f"{label}: the device forwards", False, str(stop))
            return []
        low_rate(checks, rig, folder, label)
        return search(checks, rig, traffic, args, say) if searches else []


PORTS = """\
dataplane: {{adminSocket: {folder}/admin.sock, lcores: {{main: {cpu}, workers: [{cpu}]}}}}
ports:
  - {{name: up0, driver: memif, device: "{device}", mtu: 1600}}
underlays: [{{interfaces: [up0], tunnelEndpoint: {{addresses: [100.65.0.1]}}}}]
control: {{routes: none, shadow: false, fpm: none}}
"""


def memif_ports(checks):
    """How pe-dp takes a memif port's `device`: a path makes a server; a client says that it misses its server."""
    with tempfile.TemporaryDirectory(prefix="pe-dp-pktgen.") as folder:
        config = Path(folder) / "pe-dp.yaml"
        config.write_text(PORTS.format(folder=folder, cpu=cpus()[1], device=f"{folder}/a.sock"))
        with running(folder, config):
            checks.check("memif: a path as device makes a server on that socket", (Path(folder) / "a.sock").is_socket())
        client = f"role=client,socket={folder}/none.sock,socket-abstract=no"
        config.write_text(PORTS.format(folder=folder, cpu=cpus()[1], device=client))
        command = [str(pe_dp()), "run", "--config", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        checks.check("memif: a client without a server is refused, with the remedy",
                     done.returncode != 0 and "start the other side first" in done.stderr, done.stderr[-200:].strip())


def self_test(checks):
    passed, failures = simulated.run()
    name = f"the search finds what simulated devices can ({passed} checks)"
    checks.check(name, not failures, "; ".join(failures[:5]))


def run(args, say):
    """All of it; (checks, what the search found). Bounded: under half a minute."""
    checks = Checks(say)
    self_test(checks)
    stale = profiles.stale()
    checks.check("the committed profiles are those of the traffic model", not stale,
                 f"run bench/pktgen profile --refresh: {', '.join(stale)}" if stale else "")
    memif_ports(checks)
    found = one_journey(checks, "l2", args, say, True, flows=1000, macs=1000)
    one_journey(checks, "l3", args, say, False, flows=512, macs=256, vnis=4, frame="imix")
    one_journey(checks, "l3", args, say, False, flows=512, macs=256, vnis=4, frame="imix", ipv6=True)
    return checks, found
