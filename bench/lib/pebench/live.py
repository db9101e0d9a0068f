"""Live latency: from a route that zebra learns to the route that pe-dp shows, with a stock FRR."""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .build import swift_product
from .lab import FRR, Namespace

PREFIX = "pebctl"
CONFIGURATION = """\
dataplane:
  lcores: {{main: 0, workers: [{worker}]}}
  memory: {{hugepages: auto, mbufs: 4096}}
  idle: {{policy: adaptive}}
  adminSocket: {directory}/admin.sock
ports:
  - {{name: up0, driver: af_packet, device: eth-up0, mtu: 1600, exception: {{addresses: [10.0.1.1/31]}}}}
underlays:
  - {{interfaces: [up0], tunnelEndpoint: {{addresses: [100.65.0.1]}}}}
l3vnis:
  - {{vrf: default, vni: 50000}}
control:
  fpm: {{listen: "127.0.0.1:2620"}}
"""
FRR_CONFIGURATION = "hostname pe1\nfpm address 127.0.0.1 port 2620\nline vty\n"


class CannotRun(RuntimeError):
    """Something that the live measurement needs is not on this machine; the text says what."""


def _require():
    if os.geteuid() != 0:
        raise CannotRun("needs root for a network namespace")
    for path, package in (("/usr/lib/frr/zebra", "frr"), ("/usr/bin/vtysh", "frr")):
        if not Path(path).exists():
            raise CannotRun(f"needs {path} (package {package})")
    if not shutil.which("ip"):
        raise CannotRun("needs the command ip (package iproute2)")


class Admin:
    """GET on the daemon's admin socket, a connection for each question."""

    def __init__(self, path):
        self.path = path

    def get(self, target):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(self.path)
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: pe-dp\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"{target}: {head[:80]!r} {body[:200]!r}")
        return json.loads(body)

    def wait(self, what, target, accept, seconds=30.0):
        """The time at which an answer was accepted first."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if accept(self.get(target)):
                    return time.monotonic()
            except (OSError, ValueError):
                time.sleep(0.05)
            time.sleep(0.0002)
        raise RuntimeError(f"{what} did not happen within {seconds:.0f} s")


def _route(table_type, number, interface, sequence):
    """RTM_NEWROUTE or RTM_DELROUTE of 10.200.x.y/32 through 10.0.1.0."""
    def attribute(kind, value):
        return struct.pack("=HH", 4 + len(value), kind) + value

    body = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 4, 0, 1, 0)
    body += attribute(1, bytes([10, 200, number >> 8, number & 255]))
    body += attribute(5, bytes([10, 0, 1, 0])) + attribute(4, struct.pack("=I", interface))
    flags = 0x1 | 0x4 | (0x400 if table_type == 24 else 0)
    return struct.pack("=IHHII", 16 + len(body), table_type, flags, sequence, 0) + body


class Kernel:
    """Routes of a namespace by rtnetlink, without a process for each."""

    def __init__(self, namespace):
        self.socket = namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        with namespace.entered():
            self.interface = socket.if_nametoindex("up0")
        self.sequence = 0

    def change(self, kind, number):
        self.sequence += 1
        self.socket.send(_route(kind, number, self.interface, self.sequence))
        answer = self.socket.recv(4096)
        code = struct.unpack_from("=i", answer, 16)[0]
        if code:
            raise RuntimeError(f"the kernel refused a route: {os.strerror(-code)}")


def _shown(answer, prefix):
    rows = answer if isinstance(answer, list) else answer.get("routes", answer.get("rows", []))
    return any(row.get("prefix") == prefix and not row.get("reason") for row in rows)


def _measure(admin, kernel, count):
    added, removed = [], []
    for number in range(count):
        prefix = f"10.200.{number >> 8}.{number & 255}/32"
        target = f"/v1/show/routes?prefix={prefix.replace('/', '%2F')}"
        begin = time.monotonic()
        kernel.change(24, number)
        added.append(admin.wait(f"{prefix} shown", target, lambda answer: _shown(answer, prefix)) - begin)
        begin = time.monotonic()
        kernel.change(25, number)
        removed.append(admin.wait(f"{prefix} gone", target, lambda answer: not _shown(answer, prefix)) - begin)
    return sorted(added), sorted(removed)


def _burst(admin, kernel, count):
    """Seconds from the first of many routes to the last one shown."""
    begin = time.monotonic()
    for number in range(1000, 1000 + count):
        kernel.change(24, number)
    last = f"10.200.{(999 + count) >> 8}.{(999 + count) & 255}/32"
    target = f"/v1/show/routes?prefix={last.replace('/', '%2F')}"
    sent = time.monotonic()
    shown = admin.wait(f"{last} shown", target, lambda answer: _shown(answer, last))
    return shown - begin, shown - sent


def run(result, arguments):
    """Adds the rows live/route-add, live/route-remove and live/burst. Raises CannotRun with the reason."""
    _require()
    binary = swift_product("pe-dp")
    directory = tempfile.mkdtemp(prefix="pebench-live-")
    os.chmod(directory, 0o755)
    namespace = Namespace(PREFIX, str(os.getpid()))
    process = frr = None
    try:
        namespace.create()
        namespace.ip_batch("link add eth-up0 type veth peer name peer0", "link set eth-up0 up", "link set peer0 up")
        worker = 1 if 1 in os.sched_getaffinity(0) else 0
        path = f"{directory}/pe-dp.yaml"
        Path(path).write_text(CONFIGURATION.format(directory=directory, worker=worker))
        with open(f"{directory}/pe-dp.log", "w") as log:
            process = subprocess.Popen(
                namespace.prefix() + [binary, "run", "--config", path], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log)
        admin = Admin(f"{directory}/admin.sock")
        admin.wait("pe-dp's start", "/v1/status", lambda answer: True)
        frr = FRR(namespace, f"{directory}/frr", FRR_CONFIGURATION, fpm=True)
        frr.daemons = ("zebra",)
        frr.start()
        admin.wait("zebra's connection", "/v1/show/control", lambda answer: "fpm" in answer and answer["fpm"])
        time.sleep(1.0)
        namespace.ip("neigh replace 10.0.1.0 lladdr 02:00:00:00:bb:01 dev up0 nud permanent")
        kernel = Kernel(namespace)
        count = 20 if arguments.smoke else 300
        _measure(admin, kernel, 5)
        added, removed = _measure(admin, kernel, count)
        for name, times in (("add", added), ("remove", removed)):
            result.row(f"live/route-{name}", {
                f"milliseconds{label}": {"value": round(times[min(len(times) - 1, int(len(times) * part))] * 1e3, 3),
                                         "unit": "ms"}
                for label, part in (("P50", 0.5), ("P99", 0.99), ("Max", 1.0))}, samples=count, frr=_version())
        many = 200 if arguments.smoke else 5000
        total, after = _burst(admin, kernel, many)
        result.row("live/burst", {
            "perSecond": {"value": round(many / total), "unit": "routes/s"},
            "milliseconds": {"value": round(after * 1e3, 3), "unit": "ms"}}, routes=many, frr=_version())
    except Exception:
        print(Path(f"{directory}/pe-dp.log").read_text()[-2000:] if process else "", file=sys.stderr)
        raise
    finally:
        if frr:
            frr.stop()
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        namespace.delete()
        shutil.rmtree(directory, ignore_errors=True)


def _version():
    from .machine import versions
    return versions().get("frr", "")
