"""From a configuration of 4096 VNIs to forwarding: how long `pe-dp run` takes, and what it needs.

Three subjects, each in a network namespace of its own:

  bare    4096 L2VNIs in 1024 VRFs, static state, no devices for FRR (`control.shadow: false`)
  shadow  the same VNIs with the kernel devices that a stock FRR has to see
  kernel  the same kernel devices by `ip -batch`, without pe-dp

Every figure comes from the real daemon with packets through it: bridged and routed, in and out.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from .build import BuildError, swift_product
from .load import LoadWatch
from .programs import end_on_signals
from .results import Result, table
from .scaleconfig import OWN_VTEP, Plan
from .scalewire import Wires, port_names, probes, run_probe

EXAMPLES = """\
  bench/vnis                    everything: five minutes
  bench/vnis --smoke            that it works: ten seconds
  bench/vnis --skip-shadow      4096 VNIs without kernel devices
"""
# A command that cannot run on a machine says why and ends with this code.
CANNOT_RUN = 77
SAMPLE = 64
FIRST_PACKET_SECONDS = 300
# Deleting thousands of bridges on a busy machine.
STOP_SECONDS = 1200
# VNIs whose kernel devices are deleted one by one, to see what that costs.
DELETED_ONE_BY_ONE = 16


def run(result, arguments):
    """Adds the rows `control/vnis/...` to `result`; `arguments` has `smoke`, and may have `binary`,
    `vnis`, `skip_shadow`, `repetitions`."""
    smoke = getattr(arguments, "smoke", False)
    vnis = getattr(arguments, "vnis", None) or (64 if smoke else 4096)
    binary = _binary(getattr(arguments, "binary", None))
    repetitions = getattr(arguments, "repetitions", None) or (1 if smoke else 3)
    if os.geteuid() != 0:
        result.note("vnis: not measured: network namespaces need root")
        return
    vrfs = max(1, vnis // 4)
    what = f"{vnis} VNIs without kernel devices"
    _row(result, f"control/vnis/{vnis}/bare", [_bare(binary, vnis, vrfs) for _ in _told(what, repetitions)],
         vnis=vnis, vrfs=vrfs, subject="pe-dp", shadow=False)
    _row(result, "control/start/small", [_small(binary) for _ in _told("one VNI", max(3, repetitions))],
         vnis=1, vrfs=1, subject="pe-dp", shadow=False)
    if getattr(arguments, "skip_shadow", False):
        return
    plan = _shadow_plan(vnis, vrfs, result)
    varied = {"vnis": plan.vnis, "vrfs": plan.vrfs, "shadow": True}
    # What is made is made in turn, and deleted afterwards: that takes minutes.
    _say(f"kernel devices of {plan.vnis} VNIs, made by ip")
    with KernelDevices(plan) as kernel:
        _say(f"{plan.vnis} VNIs with kernel devices: pe-dp makes them, is killed, starts again, deletes them")
        shadow = _shadow(binary, plan)
        _say(f"deleting the kernel devices: {plan.vnis * 0.03:.0f} seconds and more")
        kernel.delete()
    _row(result, f"control/vnis/{vnis}/shadow", [shadow], subject="pe-dp", **varied)
    _row(result, f"control/vnis/{vnis}/kernel", [kernel.metrics], subject="kernel", **varied)


def _say(text):
    print(f"vnis: {text}", file=sys.stderr, flush=True)


def _told(what, count):
    for number in range(count):
        _say(f"{what}, {number + 1} of {count}")
        yield number


# What a figure is, by its unit.
METRICS = {"s": "seconds", "ms": "milliseconds", "MiB": "MiB", "1": "count"}


def _row(result, identifier, samples, **varied):
    """A row for each figure: median, minimum and maximum over the repetitions."""
    for name, unit in {(name, unit): None for sample in samples for name, (_, unit) in sample.items()}:
        values = sorted(sample[name][0] for sample in samples if name in sample)
        middle = values[len(values) // 2] if len(values) % 2 else sum(values[len(values) // 2 - 1:][:2]) / 2
        metric = {"median": round(middle, 4), "min": round(values[0], 4), "max": round(values[-1], 4), "unit": unit}
        if unit == "1":
            del metric["unit"]
        result.row(f"{identifier}/{name.replace('.', '/')}", {METRICS[unit]: metric}, **varied)


# -- pe-dp --------------------------------------------------------------------


class Node:
    """A namespace with the ports' devices, and pe-dp in it."""

    def __init__(self, binary, plan):
        self.binary, self.plan = binary, plan
        self.namespace = f"pescale{os.getpid()}"
        self.directory = Path(tempfile.mkdtemp(prefix="pe-dp-scale-"))
        self.socket = self.directory / "admin.sock"
        self.configuration = self.directory / "pe-dp.yaml"
        self.process, self.lines, self.wires = None, [], None

    def __enter__(self):
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        try:
            commands = ["link set lo up", f"addr add {OWN_VTEP}/32 dev lo"]
            for name in port_names(self.plan):
                commands += [f"link add d-{name} mtu 1600 type veth peer name p-{name} mtu 1600",
                             f"link set d-{name} up", f"link set p-{name} up"]
            self.ip(commands)
            for name in port_names(self.plan):  # No router solicitations among the packets.
                for end in (f"d-{name}", f"p-{name}"):
                    subprocess.run(["ip", "netns", "exec", self.namespace, "sysctl", "-qw",
                                    f"net.ipv6.conf.{end}.disable_ipv6=1"], check=False)
            links = subprocess.run(["ip", "-n", self.namespace, "-j", "link", "show", "d-up0"], check=True,
                                   capture_output=True, text=True).stdout
            self.port_mac = json.loads(links)[0]["address"]
            self.configuration.write_text(self.plan.yaml(self.socket))
            self.wires = Wires(self.namespace, port_names(self.plan))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.wires:
            self.wires.close()
        subprocess.run(["ip", "netns", "del", self.namespace], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def ip(self, commands):
        subprocess.run(["ip", "-n", self.namespace, "-batch", "-"], input="\n".join(commands) + "\n", text=True,
                       check=True)

    def start(self):
        """Starts the daemon; its log lines come with the time at which they were written."""
        self.lines = []
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, self.binary, "run", "--config", str(self.configuration)],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.reader = threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True)
        self.reader.start()

    @staticmethod
    def _read(process, lines):
        for line in process.stderr:
            lines.append((time.monotonic(), line.rstrip()))

    def wait_ready(self, seconds):
        """The moment of the ready line."""
        end, seen = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            while seen < len(self.lines):
                moment, line = self.lines[seen]
                seen += 1
                if "ready:" in line:
                    return moment
            if self.process.poll() is not None:
                raise RuntimeError(f"pe-dp ended: {self.tail()}")
            time.sleep(0.005)
        raise RuntimeError(f"pe-dp is not ready after {seconds} s: {self.tail()}")

    def tail(self):
        return " | ".join(line for _, line in self.lines[-5:])

    def phases(self):
        """What the daemon itself says of its start, in seconds."""
        for _, line in self.lines:
            if "started in" in line:
                return {name: float(value) for name, value in re.findall(r"(\w+)=([0-9.]+)s", line)}
        return {}

    def stop(self):
        """SIGTERM, and how long it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=STOP_SECONDS)
        self.reader.join(timeout=10)
        if self.process.returncode != 0:
            raise RuntimeError(f"pe-dp ended with {self.process.returncode}: {self.tail()}")
        return time.monotonic() - began

    def memory(self):
        """MiB: resident pages, and huge pages from hugetlbfs, which do not count as resident."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}
        return (kib["VmRSS"] + kib.get("HugetlbPages", 0)) / 1024

    def show(self, topic):
        """How long `pe-dp show TOPIC --json` takes, and what it says."""
        began = time.monotonic()
        done = subprocess.run([self.binary, "show", topic, "--json", "--socket", str(self.socket)],
                              capture_output=True, text=True, check=True)
        return time.monotonic() - began, json.loads(done.stdout)

    def first_packets(self):
        """When the last VNI forwards: the moments of its four ways."""
        moments = {}
        for probe in probes(self.plan, self.plan.vnis - 1, self.port_mac, 1):
            moment = run_probe(self.wires, probe, FIRST_PACKET_SECONDS, lambda: self.process.poll() is None)
            if moment is None:
                raise RuntimeError(f"never came out: {probe}; {self.tail()}")
            moments[probe.name] = moment - self.started
        return moments

    def sample(self, count):
        """Packets through VNIs drawn at random, and through the first and the last one. All must come out."""
        chosen = {0, self.plan.vnis - 1} | set(random.sample(range(self.plan.vnis), min(count, self.plan.vnis)))
        failed, sent = [], 0
        for number, index in enumerate(sorted(chosen)):
            for probe in probes(self.plan, index, self.port_mac, 1000 + number):
                sent += 1
                if run_probe(self.wires, probe, 5) is None:
                    failed.append(str(probe))
        if failed:
            raise RuntimeError(f"{len(failed)} of {sent} ways do not forward: {', '.join(failed[:5])}")
        return sent


def _measure_start(node):
    """Start to forwarding of one run."""
    node.start()
    first = node.first_packets()
    ready = node.wait_ready(FIRST_PACKET_SECONDS) - node.started
    metrics = {"ready": (ready, "s"), "forwarding": (max(first.values()), "s"),
               "firstPacket": (min(first.values()), "s")}
    for name, seconds in node.phases().items():
        metrics[f"start.{name}"] = (seconds, "s")
    return metrics


def _bare(binary, vnis, vrfs):
    plan = Plan(vnis=vnis, vrfs=vrfs)
    with Node(binary, plan) as node:
        began = time.monotonic()
        subprocess.run(["ip", "netns", "exec", node.namespace, binary, "check", "--config", str(node.configuration)],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        metrics = {"check": (time.monotonic() - began, "s"),
                   "file": (node.configuration.stat().st_size / (1 << 20), "MiB"),
                   "staticRows": (plan.static_rows, "1")}
        metrics |= _measure_start(node)
        metrics["probed"] = (node.sample(SAMPLE), "1")
        metrics["memory"] = (node.memory(), "MiB")
        for topic in ("vnis", "fdb", "flood", "counters"):
            metrics[f"show.{topic}"] = (node.show(topic)[0], "s")
        metrics["stop"] = (node.stop(), "s")
        return metrics


def _small(binary):
    """One VNI: what starting costs by itself, and what an idle daemon with default limits needs."""
    with Node(binary, Plan(vnis=1, vrfs=1)) as node:
        metrics = _measure_start(node)
        dpdk = next((moment for moment, line in node.lines if "DPDK is up" in line), None)
        if dpdk:
            metrics["forwardingAfterEAL"] = (metrics["forwarding"][0] - (dpdk - node.started), "s")
        time.sleep(1)
        metrics["memory"] = (node.memory(), "MiB")
        metrics["stop"] = (node.stop(), "s")
        return metrics


# -- Devices for FRR ----------------------------------------------------------


def _has_vrf_devices():
    name = f"pescalev{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        done = subprocess.run(["ip", "-n", name, "link", "add", "v0", "type", "vrf", "table", "77"],
                              capture_output=True, check=False)
        return done.returncode == 0
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


def _shadow_plan(vnis, vrfs, result):
    if _has_vrf_devices():
        return Plan(vnis=vnis, vrfs=vrfs, routes="fpm", shadow=True)
    result.note("vnis: this kernel has no VRF devices (CONFIG_NET_VRF): with shadow devices, all gateways are in the "
                "default VRF with one L3VNI, for pe-dp and the kernel alike")
    return Plan(vnis=vnis, vrfs=1, routes="fpm", shadow=True, in_default=True)


def _shadow(binary, plan):
    """With devices: a start that makes them, a clean stop that removes them; a start that finds them."""
    with Node(binary, plan) as node:
        metrics = _measure_start(node)
        metrics["probed"] = (node.sample(SAMPLE), "1")
        metrics["memory"] = (node.memory(), "MiB")
        metrics["devices"] = (_count_devices(node.namespace), "1")
        metrics["show.vnis"] = (node.show("vnis")[0], "s")
        metrics["show.control"], control = _shown(node, "control")
        metrics["overruns"] = (_find(control, "kernelOverruns"), "1")
        # Killed: the devices stay, and the next start has to find them right.
        node.process.kill()
        node.process.wait()
        again = _measure_start(node)
        for name in ("ready", "forwarding"):
            metrics[f"again.{name}"] = again[name]
        if "start.shadow" in again:
            metrics["again.start.shadow"] = again["start.shadow"]
        node.sample(SAMPLE // 4)
        metrics["stop"] = (node.stop(), "s")
        metrics["devicesLeft"] = (_count_devices(node.namespace), "1")
        return metrics


def _shown(node, topic):
    seconds, answer = node.show(topic)
    return (seconds, "s"), answer


def _find(tree, key):
    """The first value of that key anywhere in a JSON tree; 0 without one."""
    if isinstance(tree, dict):
        if key in tree:
            return tree[key]
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            found = _find(item, key)
            if found:
                return found
    return 0


def _count_devices(namespace):
    done = subprocess.run(["ip", "-n", namespace, "-br", "link"], capture_output=True, text=True, check=True)
    return sum(line.startswith(("pebr", "pevx", "peac", "v")) and not line.startswith("veth")
               for line in done.stdout.splitlines())


class KernelDevices:
    """The same devices with the same settings, by `ip -batch`."""

    def __init__(self, plan):
        self.plan = plan
        self.namespace = f"pescalek{os.getpid()}"
        self.metrics = {}

    def __enter__(self):
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        try:
            lines = self._lines()
            self.metrics["make"] = (_batch(self.namespace, lines), "s")
            made = _count_devices(self.namespace)
            if made != len(self.devices):
                raise RuntimeError(f"{made} devices instead of {len(self.devices)}")
            self.metrics["devices"] = (made, "1")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.namespace], check=False)

    def _lines(self):
        plan = self.plan
        names = [plan.vrf_name(vrf) for vrf in range(plan.vrfs)]
        own = [name for name in names if name != "default"]
        lines = ["link set lo up", f"addr add {OWN_VTEP}/32 dev lo"]
        lines += [f"link add {name} up type vrf table {1001 + number}" for number, name in enumerate(own)]
        self.devices = list(own)
        for vrf, name in enumerate(names):
            lines += _bridge(plan.l3vni(vrf), name, plan.router_mac(vrf), None, False)
            self.devices += [f"pebr{plan.l3vni(vrf)}", f"pevx{plan.l3vni(vrf)}"]
        for index in range(plan.vnis):
            vni = plan.vni(index)
            lines += _bridge(vni, names[plan.vrf_of(index)], plan.gateway_mac(index), plan.gateway(index), True)
            self.devices += [f"pebr{vni}", f"pevx{vni}", f"peac{vni}"]
        return lines

    def delete(self):
        """One by one takes minutes: the last few say what a VNI costs. The others go in groups, ports together, of
        bridges a few at a time: each makes the kernel wait with its network lock held, and with it everybody."""
        few = self.devices[-3 * DELETED_ONE_BY_ONE:]
        seconds = _batch(self.namespace, [f"link del {name}" for name in few])
        self.metrics["deletePerVNI"] = (seconds / (len(few) / 3) * 1e3, "ms")
        rest = self.devices[:-len(few)]
        ports = [name for name in rest if not name.startswith("pebr")]
        bridges = [name for name in rest if name.startswith("pebr")]
        for names, size in ((ports, 512), (bridges, 16)):
            for start in range(0, len(names), size):
                some = names[start:start + size]
                _batch(self.namespace, [f"link set dev {name} group 99" for name in some] + ["link del group 99"])


def _bridge(vni, vrf, mac, gateway, has_port):
    master = f"master {vrf} " if vrf != "default" else ""
    lines = [
        f"link add pebr{vni} address {mac} {master}type bridge",
        f"link set pebr{vni} addrgenmode none up",
        f"link add pevx{vni} master pebr{vni} type vxlan id {vni} local {OWN_VTEP} dstport 14789 nolearning",
        f"link set pevx{vni} addrgenmode none up",
        f"link set pevx{vni} type bridge_slave learning off flood off mcast_flood off bcast_flood off",
    ]
    if has_port:
        lines += [f"tuntap add peac{vni} mode tap", f"link set peac{vni} master pebr{vni}",
                  f"link set peac{vni} addrgenmode none up",
                  f"link set peac{vni} type bridge_slave learning off flood off mcast_flood off bcast_flood off"]
    if gateway:
        lines.append(f"addr add {gateway}/24 dev pebr{vni}")
    return lines


def _batch(namespace, lines):
    began = time.monotonic()
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True,
                   stdout=subprocess.DEVNULL)
    return time.monotonic() - began


# -- By itself ----------------------------------------------------------------


def _binary(given):
    return str(Path(given).resolve()) if given else swift_product("pe-dp")


def summary(result):
    """A table of the rows for people."""
    cells = [(row["id"], name, f"{metric['median']:g}", f"{metric['min']:g}", f"{metric['max']:g}")
             for row in result.document["rows"] if row["id"].startswith(("control/vnis", "control/start"))
             for name, metric in row["metrics"].items()]
    return "\n" + table(["row", "unit", "median", "min", "max"], cells)


def main():
    parser = argparse.ArgumentParser(prog="bench/vnis", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="64 VNIs, once: a few seconds")
    parser.add_argument("--vnis", type=int, help="L2VNIs; a VRF for every four (default 4096)")
    parser.add_argument("--repetitions", type=int, help="runs without kernel devices (default 3); with them one, "
                        "since the kernel takes minutes to delete thousands")
    parser.add_argument("--skip-shadow", action="store_true", help="without kernel devices: a minute instead of five")
    parser.add_argument("--binary", help="the pe-dp to measure (default: the release build)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--out", help="where to write the JSON (default out/bench/vnis.json)")
    arguments = parser.parse_args()
    if arguments.vnis is not None and not 1 <= arguments.vnis <= 16_000:
        parser.error("--vnis: 1 to 16000, as many as there are VLANs on four trunks")
    if arguments.repetitions is not None and arguments.repetitions < 1:
        parser.error("--repetitions is at least 1")
    if os.geteuid() != 0:
        print("bench/vnis: needs root, for network namespaces", file=sys.stderr)
        sys.exit(CANNOT_RUN)
    end_on_signals()  # What was made is taken away again.
    result = Result("vnis", arguments.out, arguments.smoke)
    try:
        arguments.binary = _binary(arguments.binary)
        with LoadWatch() as load:
            run(result, arguments)
    except (BuildError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench/vnis: {error}")
    path = result.write(load.report)
    if arguments.json:
        print(json.dumps(result.document, indent=1))
        return
    print("\n".join(result.headline()))
    print(summary(result))
    print(f"\nwritten to {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
