"""The generator's process: builds it, starts it on two ports, runs trials in it, reads their results."""

import json
import os
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from pebench.machine import ROOT

SOURCES = ROOT / "bench" / "sources" / "pktgen"
PROGRAM = ROOT / ".build" / "bench" / "pktgen"
# Buffers, queues and drivers, in MB; twice that is needed to be sure of a block of it.
MEMORY = 256


class GeneratorError(RuntimeError):
    """The generator did not build, start or answer; in words for the user."""


class CannotRun(GeneratorError):
    """Something is missing on this machine that the benchmark needs."""


def build():
    """Compiles the generator when a source is newer than it; needs gcc and libdpdk-dev."""
    sources = sorted(SOURCES.glob("*.[ch]"))
    newest = max(source.stat().st_mtime for source in sources)
    if PROGRAM.exists() and PROGRAM.stat().st_mtime > newest:
        return PROGRAM
    for tool in ("gcc", "pkg-config"):
        if not shutil.which(tool):
            raise CannotRun(f"{tool} is missing; install it: the generator is built on first use")
    flags = {}
    for kind in ("--cflags", "--libs"):
        done = subprocess.run(["pkg-config", kind, "libdpdk"], capture_output=True, text=True)
        if done.returncode != 0:
            raise CannotRun("pkg-config does not know libdpdk; install libdpdk-dev")
        flags[kind] = shlex.split(done.stdout)
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    partial = PROGRAM.with_name(f"pktgen.{os.getpid()}")
    command = ["gcc", "-O3", "-march=x86-64-v3", "-std=gnu11", "-Wall", "-Wextra", "-Wno-missing-field-initializers"]
    command += flags["--cflags"] + [str(source) for source in sources if source.suffix == ".c"]
    done = subprocess.run(command + ["-o", str(partial)] + flags["--libs"], capture_output=True, text=True)
    if done.returncode != 0:
        raise GeneratorError("the generator does not build:\n" + done.stderr)
    partial.replace(PROGRAM)
    return PROGRAM


def port_name(text):
    """DPDK's name of a port of the command line: the device string up to its first comma."""
    return text.split(",", 1)[0]


def is_pci(text):
    name = port_name(text)
    return ":" in name and all(character in "0123456789abcdefABCDEF:." for character in name)


def free_hugepage_megabytes():
    total = 0
    for size in (2048, 1048576):
        try:
            path = f"/sys/kernel/mm/hugepages/hugepages-{size}kB/free_hugepages"
            total += int(Path(path).read_text()) * size // 1024
        except (OSError, ValueError):
            pass
    return total


def eal_arguments(ports, cpus, hugepages, extra=()):
    """EAL's arguments for the two ports; `cpus`: one for everything, or one to send and one to receive."""
    huge = hugepages == "always" or hugepages == "auto" and free_hugepage_megabytes() >= 2 * MEMORY
    arguments = ["--lcores", ",".join(f"{index}@{cpu}" for index, cpu in enumerate(cpus)), "--main-lcore", "0"]
    arguments += ["--no-telemetry", "--file-prefix", f"pktgen{os.getpid()}", "--log-level", "warning"]
    # memif without copies and virtio-user share memory by file descriptor: one file for all pages.
    ordinary = ["--no-huge", "--no-shconf", "-m", str(MEMORY)]
    arguments += ["--in-memory", "--single-file-segments"] if huge else ordinary
    pci = [port for port in ports if is_pci(port)]
    arguments += [argument for port in pci for argument in ("-a", port)] if pci else ["--no-pci", "--iova-mode=va"]
    arguments += [argument for port in ports if not is_pci(port) for argument in ("--vdev", port)]
    return arguments + list(extra)


class Generator:
    """A running generator. Use it as a context manager: leaving ends the process."""

    def __init__(self, ports, cpus=(0,), queues=1, hugepages="auto", extra=()):
        names = [port_name(port) for port in ports]
        if len(set(names)) != 2:
            raise GeneratorError(f"two different ports are needed, not {names[0]} twice")
        # Somebody else may take the free huge pages before EAL does: then ordinary ones.
        kinds = ("auto", "never") if hugepages == "auto" else (hugepages,)
        self.commands = [[str(build())] + eal_arguments(ports, cpus, kind, extra) + ["--"] + names + [str(queues)]
                         for kind in kinds]
        self.process = None
        self.ports = []
        self._read = b""

    def __enter__(self):
        for index, command in enumerate(self.commands):
            try:
                return self._start(command)
            except GeneratorError as error:
                if index + 1 == len(self.commands) or "memory" not in str(error):
                    raise

    def _start(self, command):
        self._read = b""
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        os.set_blocking(self.process.stderr.fileno(), False)
        try:
            self.ports = self._answer("ports", 60)["ports"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()
        return False

    def ask(self, command, event, timeout):
        """Sends a command and waits for its answer."""
        self._write(json.dumps(command))
        return self._answer(event, timeout)

    def refusal(self, line):
        """What the generator says against a line that is no proper command; None when it takes it."""
        self._write(line)
        answer = self._read_line(10)
        return answer.get("message") if answer.get("event") == "error" else None

    def _write(self, line):
        try:
            self.process.stdin.write((line + "\n").encode())
        except BrokenPipeError:
            raise GeneratorError("the generator ended: " + self._said()) from None

    def wait_for_links(self, seconds):
        """Waits until both links are up; a generator without a link measures nothing."""
        end = time.monotonic() + seconds
        while True:
            down = self.links_down()
            if not down:
                return
            if time.monotonic() > end:
                raise GeneratorError(
                    f"no link on {', '.join(down)} after {seconds:g} s: is the device under test running, are the cables (or the "
                    "socket's path, id and role: one side is the server) right?")
            time.sleep(0.1)

    def links_down(self):
        """Names of ports without a link."""
        self.ports = self.ask({"command": "ports"}, "ports", 30)["ports"]
        return [port["name"] for port in self.ports if not port["up"]]

    def set_traffic(self, traffic):
        self.ask(traffic.command(), "traffic", 60)

    def frames(self, direction, first, count):
        order = {"command": "frames", "direction": direction, "first": first, "count": count}
        return self.ask(order, "frames", 60)["frames"]

    def trial(self, rate, seconds, drain, directions, frames=0, check=64, burst=32):
        """One trial at `rate` frames a second in each direction; the generator's answer."""
        order = {"command": "trial", "rate": rate, "seconds": seconds, "drain": drain, "directions": directions,
                 "frames": frames, "check": check, "burst": burst}
        return self.ask(order, "trial", seconds + drain + 60)

    def _said(self):
        try:
            text = (self.process.stderr.read() or b"").decode(errors="replace")
        except OSError:
            text = ""
        lines = [line for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-4:]) or "it said nothing"

    def _answer(self, event, timeout):
        answer = self._read_line(timeout)
        if answer.get("event") == "error":
            raise GeneratorError("the generator says: " + answer["message"] + self._reason(answer))
        if answer.get("event") != event:
            raise GeneratorError(f"the generator answered {answer.get('event')} instead of {event}")
        return answer

    def _read_line(self, timeout):
        end = time.monotonic() + timeout
        while b"\n" not in self._read:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise GeneratorError(f"the generator did not answer within {timeout:g} s: " + self._said())
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                raise GeneratorError("the generator ended: " + self._said())
            self._read += piece
        line, self._read = self._read.split(b"\n", 1)
        return json.loads(line)

    def _reason(self, answer):
        if "port" not in answer["message"] and "EAL" not in answer["message"]:
            return ""
        said = self._said()
        hint = "; a memif client needs its server: start that side first" if "memif_connect_client" in said else ""
        return f" ({said}){hint}"
