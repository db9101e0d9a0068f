"""Devices under test that are DPDK programs with the generator inside: pe-dp, testpmd, the C forwarder."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from ..machine import ROOT
from .cases import (DUT_ADDRESS, DUT_MAC, HOST_ADDRESS, HOST_MAC, L2_VNI, L3_VNI, PEER_ADDRESS, PEER_MAC,
                    PEER_ROUTER_MAC, PRIMER, ROUTER_MAC, colons, dotted, remote_address, remote_mac)
from .host import Absent, build
from .page import Page, PageTimeout, reduce_slices


PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def die_with_parent():
    """In a new process: killed when this program is, since a stopped one would stay for ever."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def thread_ids(process, pattern):
    """Threads of a process whose name matches."""
    found = []
    try:
        for entry in os.listdir(f"/proc/{process}/task"):
            if re.search(pattern, Path(f"/proc/{process}/task/{entry}/comm").read_text().strip()):
                found.append(int(entry))
    except OSError:
        pass
    return found


class Device:
    """One device: started once for a table size, stopped (SIGSTOP) while it is another one's turn."""

    name = "device"
    forwards = True     # rewrites frames, as opposed to passing them on
    where = "in-core"
    threads = r"."      # names of the threads that do the packet work
    primes = True
    warm_seconds = 0.1
    measure_scale = 1
    ready_seconds = 60

    def __init__(self, host, entries, log):
        self.host, self.entries, self.log = host, entries, log
        self.folder = host.folder / f"{self.name}-{entries}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.page = Page(self.folder / "page")
        self.processes = []
        self.ready_in = None

    # What a device has to say: how it starts, and what its log says when it is ready.
    def begin(self):
        raise NotImplementedError

    def start(self):
        began = time.monotonic()
        self.begin()
        try:
            self.page.wait_attached()
        except PageTimeout as error:
            ended = [process.returncode for process in self.processes if process.poll() is not None]
            why = f"ended with {ended[0]}: {self.last_words()}" if ended else (
                f"{error}: it has to open net_null0 and net_null1, with the generator that EAL loads")
            raise RuntimeError(f"{self.name}: {why}") from error
        self.ready_in = time.monotonic() - began
        if not thread_ids(self.processes[-1].pid, self.threads):
            raise RuntimeError(f"{self.name} has no thread named {self.threads}")
        self.pause()

    def spawn(self, command, ready, environment=None, stdin=subprocess.DEVNULL, name="log"):
        """Starts a process in the namespace and waits until its log matches `ready`."""
        path = self.folder / name
        command = ["ip", "netns", "exec", self.host.namespace, *[str(word) for word in command]]
        variables = {**os.environ, "PEERS_PAGE": self.page.path, **(environment or {})}
        with open(path, "w") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=stdin, env=variables, cwd=ROOT,
                preexec_fn=die_with_parent)
        self.processes.append(process)
        end = time.monotonic() + self.ready_seconds
        while not re.search(ready, path.read_text(errors="replace"), re.M):
            tail = self.last_words(name)
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {process.returncode}: {tail}")
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name} is not ready after {self.ready_seconds} s: {tail}")
            time.sleep(0.02)
        return process

    def last_words(self, name="log"):
        return " | ".join((self.folder / name).read_text(errors="replace").strip().splitlines()[-4:])

    def pause(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGSTOP)

    def resume(self):
        for process in self.processes:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {process.returncode}")
            process.send_signal(signal.SIGCONT)

    def warm(self, case):
        time.sleep(self.warm_seconds)

    def select(self):
        """Chooses this device's setting, where several share a process."""

    def reduce(self, slices):
        """What the slices of a turn say; called before the traffic stops."""
        return reduce_slices(slices, self.page.at.has_counters)

    def prime(self):
        """Lets a device that learns see the local host."""
        if self.primes:
            self.page.start(PRIMER)
            time.sleep(0.01)
            self.page.stop()

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGCONT)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.processes = []
        self.page.close()


class Forwarder(Device):
    """The minimal C forwarder of bench/sources/peers."""

    name = "c-forwarder"
    threads = r"^rte-worker-1$"
    primes = False

    def begin(self):
        self.spawn([build("forwarder"), *self.host.eal(self.name), "--", self.entries], r"^forwarder ready")


class TestPMD(Device):
    """dpdk-testpmd; `io` passes frames on untouched, `macswap` swaps their MACs. One process for both."""

    name = "testpmd"
    threads = r"^rte-worker-1$"
    forwards = False
    primes = False

    def begin(self):
        if not shutil.which("dpdk-testpmd"):
            raise Absent("dpdk-testpmd is not installed (apt-get install dpdk)")
        process = self.spawn(
            ["stdbuf", "-oL", "dpdk-testpmd", *self.host.eal(self.name), "--", "-i", "--total-num-mbufs=16384",
             "--no-flush-rx", "--nb-cores=1"], r"testpmd>|Done|Configuring Port 1", stdin=subprocess.PIPE)
        self.process = process
        self.mode = None
        self.tell("start")

    def tell(self, *commands):
        self.process.stdin.write("".join(f"{command}\n" for command in commands).encode())
        self.process.stdin.flush()

    def choose(self, mode):
        if mode != self.mode:
            self.tell("stop", f"set fwd {mode}", "start")
            time.sleep(0.2)
            self.mode = mode


def pe_dp_configuration(entries, host, plugin, folder):
    """The daemon's YAML: both VNIs, `entries` remote MACs and as many host routes."""
    lines = [
        "dataplane:",
        f"  lcores: {{main: {host.main_core}, workers: [{host.core}]}}",
        f"  eal: [\"-d\", \"{plugin}\"]",
        f"  adminSocket: {folder}/admin.sock",
        "ports:",
        "  - {name: up0, driver: vdev, device: \"net_null0,no-rx=1\", mtu: 1600, "
        f"mac: \"{colons(DUT_MAC)}\"}}",
        "  - {name: acc0, driver: vdev, device: \"net_null1,no-rx=1\"}",
        "underlays:",
        f"  - {{interfaces: [up0], tunnelEndpoint: {{addresses: [{dotted(DUT_ADDRESS)}]}}}}",
        "l3vnis:",
        f"  - {{vrf: red, vni: {L3_VNI}, routerMAC: \"{colons(ROUTER_MAC)}\"}}",
        "l2vnis:",
        f"  - {{name: lan, vni: {L2_VNI}, routingDomain: {{type: L3VNI, l3vni: {{name: red}}}}, "
        f"gatewayIPs: [192.168.1.1/24], gatewayMAC: \"{colons(ROUTER_MAC)}\", ports: [{{port: acc0}}]}}",
        "control: {routes: none, shadow: false, fpm: none}",
        "static:",
        f"  vteps: [{{vni: {L2_VNI}, address: {dotted(PEER_ADDRESS)}}}]",
        f"  neighbors: [{{vni: {L2_VNI}, ip: {dotted(HOST_ADDRESS)}, mac: \"{colons(HOST_MAC)}\"}}]",
        f"  underlay: [{{prefix: {dotted(PEER_ADDRESS)}/32, nexthops: [{{port: up0, mac: \"{colons(PEER_MAC)}\"}}]}}]",
        "  macs:",
    ]
    lines += [f"    - {{vni: {L2_VNI}, mac: \"{colons(remote_mac(i))}\", vtep: {dotted(PEER_ADDRESS)}}}"
              for i in range(entries)]
    hop = f"nexthops: [{{vtep: {dotted(PEER_ADDRESS)}, routerMAC: \"{colons(PEER_ROUTER_MAC)}\"}}]"
    lines += ["  routes:", f"    - {{vrf: red, prefix: 172.31.0.0/16, {hop}}}"]
    lines += [f"    - {{vrf: red, prefix: {dotted(remote_address(i))}/32, {hop}}}" for i in range(entries)]
    return "\n".join(lines) + "\n"


class PeDP(Device):
    """The daemon itself, `pe-dp run`, with its defaults."""

    name = "pe-dp"
    threads = r"^rte-worker-1$"
    binary = ROOT / ".build" / "release" / "pe-dp"

    def begin(self):
        if not self.binary.exists():
            raise Absent(f"{self.binary} does not exist (swift build -c release --product pe-dp)")
        path = self.folder / "pe-dp.yaml"
        path.write_text(pe_dp_configuration(self.entries, self.host, self.host.generator(), self.folder))
        self.spawn([self.binary, "run", "--config", path], r"\bready\b")
