"""Captures: tcpdump writes them, tshark decodes them, a few lines count their records."""
import contextlib
import os
import signal
import struct
import subprocess
import time

from .shell import Disturbed, LabError, Timeout, run, wait


class Capture:
    """A running tcpdump on one device of one namespace."""

    # The ring's slots have the snap length: 64 MiB hold 32768 frames that nobody has read yet.
    def __init__(self, namespace, device, path, expression="", snaplen=2048):
        self.path = path
        self.namespace = namespace
        self.device = device
        self._log = path + ".log"
        with open(self._log, "w") as log:
            self._process = subprocess.Popen(
                namespace.prefix() + ["tcpdump", "-i", device, "-n", "-U", "--immediate-mode",
                                      "-s", str(snaplen), "-B", "65536", "-Z", "root", "-w", path]
                + expression.split(), stdout=log, stderr=log)
        wait(f"tcpdump on {namespace.name}/{device}", self._listening, 10)

    def _listening(self):
        if self._process.poll() is not None:
            with open(self._log) as log:
                raise LabError(f"tcpdump on {self.namespace.name}/{self.device} ended: {log.read()}")
        with open(self._log) as log:
            return "listening on" in log.read() and os.path.exists(self.path)

    def stop(self):
        """Ends the capture once the kernel's buffer is written out; the number of packets."""
        if self._process.poll() is None:
            # The last frames may still be on their way to the file.
            with contextlib.suppress(Timeout):
                wait(f"tcpdump on {self.device} to be idle", self._drained, 10, 0)
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with open(self._log) as log:
            text = log.read()
        dropped = _said(text, "packets dropped by kernel")
        if dropped:
            raise Disturbed(f"tcpdump on {self.device} lost {dropped} packets")
        taken = _said(text, "packets captured")
        matched = _said(text, "packets received by filter")
        if taken < matched:
            raise Disturbed(f"tcpdump on {self.device} ended with {matched - taken} packets unread")
        return count(self.path)

    def _drained(self):
        """Whether tcpdump sleeps and its file does not grow: what was sent before is written."""
        def state():
            with open(f"/proc/{self._process.pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            return fields[0], fields[11], fields[12], os.path.getsize(self.path)
        before = state()
        time.sleep(0.1)
        return before[0] == "S" and before == state()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def write(path, taken):
    """Writes frames (with .time and .raw) as a pcap file; its path."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 17, 1))
        for frame in taken:
            file.write(struct.pack("<IIII", int(frame.time), int(frame.time % 1 * 1e6),
                                   len(frame.raw), len(frame.raw)) + frame.raw)
    return path


def _said(text, what):
    """The number that stands before some words in tcpdump's last lines; 0 without them."""
    return int(text.split(" " + what)[0].split()[-1]) if " " + what in text else 0


def frames(path):
    """The frames of a pcap file as bytes."""
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < 24:
        return []
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    found, at = [], 24
    while at + 16 <= len(data):
        length = struct.unpack_from(order + "I", data, at + 8)[0]
        found.append(data[at + 16:at + 16 + length])
        at += 16 + length
    return found


def count(path):
    return len(frames(path))


def tshark_fields(path, fields, display="", options=()):
    """tshark's values of fields: one dictionary a packet, each value the list of occurrences."""
    command = ["tshark", "-n", "-r", path, "-T", "fields", "-E", "separator=/t",
               "-E", "occurrence=a", "-E", "aggregator=,"]
    for option in options:
        command += option.split()
    for field in fields:
        command += ["-e", field]
    if display:
        command += ["-Y", display]
    environment = dict(os.environ, HOME="/nonexistent", LC_ALL="C.UTF-8")
    rows = []
    for line in run(command, timeout=120, env=environment).splitlines():
        values = line.split("\t") + [""] * len(fields)
        rows.append({f: (values[i].split(",") if values[i] else []) for i, f in enumerate(fields)})
    return rows
