"""Traffic of the lab: raw marked frames and their receivers, pings, and checked TCP transfers."""
import collections
import hashlib
import os
import re
import select
import socket
import struct
import subprocess
import threading
import time

from .frames import mac_bytes, mac_text
from .net import Background
from .shell import LabError

# IEEE 802 "local experimental" EtherType: no stack answers it.
MARK = 0x88B5
BROADCAST = "ff:ff:ff:ff:ff:ff"
_MAGIC = b"pedp"
Arrival = collections.namedtuple("Arrival", "run sequence source destination time length raw")


def marked_frame(destination, source, run_number, sequence, size=60, tags=()):
    """An Ethernet frame that carries its run and sequence number, after optional VLAN tags."""
    frame = mac_bytes(destination) + mac_bytes(source)
    for tag in tags:
        frame += struct.pack("!HH", 0x8100, tag)
    frame += struct.pack("!H", MARK) + _MAGIC + struct.pack("!II", run_number, sequence)
    return frame + bytes(max(0, size - len(frame)))


class Wire:
    """A packet socket on one interface of one namespace: sends frames, records marked ones."""

    def __init__(self, namespace, device, protocol=MARK):
        self.socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        self.socket.bind((device, protocol))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.setblocking(False)
        self.name = f"{namespace.name}/{device}"

    def send(self, frame):
        """Sends one frame; a full queue is waited for."""
        while True:
            try:
                self.socket.send(frame)
                return
            except (BlockingIOError, InterruptedError):
                select.select([], [self.socket], [], 0.1)
            except OSError as error:
                if error.errno == 105:  # ENOBUFS
                    time.sleep(0.001)
                    continue
                raise LabError(f"sending on {self.name}: {error}") from None

    def receive(self):
        """All marked frames that have arrived since the last call, with their arrival time."""
        arrivals = []
        while True:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                return arrivals
            except OSError as error:
                raise LabError(f"receiving on {self.name}: {error}") from None
            arrival = parse_marked(data)
            if arrival:
                arrivals.append(arrival)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def parse_marked(data):
    """The mark of a frame, whatever tags stand before it; nil for any other frame."""
    at = 12
    while data[at:at + 2] in (b"\x81\0", b"\x88\xa8"):
        at += 4
    if data[at:at + 2] != struct.pack("!H", MARK) or data[at + 2:at + 6] != _MAGIC:
        return None
    run_number, sequence = struct.unpack_from("!II", data, at + 6)
    return Arrival(run_number, sequence, mac_text(data[6:12]), mac_text(data[:6]),
                   time.monotonic(), len(data), data)


_runs = iter(range(1, 1 << 31))


def next_run():
    """A number that no other burst of frames of this process carries."""
    return next(_runs)


def collect(wires, expected, timeout=3.0, settle=0.25):
    """What arrives: {(wire name, run): Counter(sequence)}.

    Returns `settle` seconds after everything expected has come (so that a duplicate would show),
    or after the timeout. expected: {(wire name, run): count}.
    """
    seen = collections.defaultdict(collections.Counter)
    end = time.monotonic() + timeout
    complete = False
    while time.monotonic() < end:
        select.select([wire.socket for wire in wires], [], [], 0.02)
        for wire in wires:
            for arrival in wire.receive():
                seen[wire.name, arrival.run][arrival.sequence] += 1
        if not complete and all(len(seen[key]) >= count for key, count in expected.items()):
            complete = True
            end = time.monotonic() + settle
    return seen


class Recorder:
    """Records the arrivals of some runs on several wires, on a thread, until stopped."""

    def __init__(self, wires, runs):
        self.wires = wires
        self.runs = runs
        self.arrivals = {wire.name: [] for wire in wires}
        self._stop = threading.Event()
        self._work = Background(self._body)

    def _body(self):
        while not self._stop.is_set():
            select.select([wire.socket for wire in self.wires], [], [], 0.05)
            self._drain()
        self._drain()

    def _drain(self):
        for wire in self.wires:
            self.arrivals[wire.name] += [a for a in wire.receive() if a.run in self.runs]

    def stop(self):
        self._stop.set()
        self._work.join(5, "recording frames")
        return self.arrivals


class Stream:
    """Sends one frame every `interval` seconds on a thread; remembers when each was sent."""

    def __init__(self, wire, destination, source, run_number, interval=0.01, first=0):
        self.sent = {}
        self._stop = threading.Event()
        self._wire = wire
        self._arguments = (destination, source, run_number, interval, first)
        self._work = Background(self._body)

    def _body(self):
        destination, source, run_number, interval, sequence = self._arguments
        due = time.monotonic()
        while not self._stop.is_set():
            self.sent[sequence] = time.monotonic()
            self._wire.send(marked_frame(destination, source, run_number, sequence))
            sequence += 1
            due += interval
            time.sleep(max(0, due - time.monotonic()))

    def stop(self):
        self._stop.set()
        self._work.join(5, "sending frames")
        return self.sent


class Ping:
    """A running `ping`; result() gives (sent, received)."""

    def __init__(self, namespace, address, count=10, interval=0.02, size=56, fragment=True,
                 wait=1):
        command = namespace.prefix() + ["ping", "-n", "-q", "-c", str(count), "-i", str(interval),
                                        "-W", str(wait), "-s", str(size)]
        if not fragment:
            command += ["-M", "do"]
        self.label = f"{namespace.name} -> {address}"
        self._process = subprocess.Popen(command + [address], stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True)
        self._limit = count * interval + wait + 20

    def result(self):
        try:
            text, _ = self._process.communicate(timeout=self._limit)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise LabError(f"ping {self.label} did not end") from None
        match = re.search(r"(\d+) packets transmitted, (\d+) received(.*?duplicates)?", text)
        if not match:
            raise LabError(f"ping {self.label}: {text.strip().splitlines()[-1:]}")
        self.text = text
        duplicates = re.search(r"\+(\d+) duplicates", text)
        self.duplicates = int(duplicates.group(1)) if duplicates else 0
        return int(match.group(1)), int(match.group(2))

    def interrupt(self):
        self._process.send_signal(2)


def ping_matrix(pairs, **options):
    """Pings every (namespace, address) pair at once; the list of (label, sent, received)."""
    running = [Ping(namespace, address, **options) for namespace, address in pairs]
    results = []
    for ping in running:
        sent, received = ping.result()
        results.append((ping.label, sent, received - ping.duplicates, ping.duplicates))
    return results


def freebind(one, address):
    """Lets a socket bind to an address that is local by a route and on no interface."""
    one.setsockopt(*((socket.IPPROTO_IPV6, 78) if ":" in address else (socket.IPPROTO_IP, 15)), 1)


def tcp_transfer(source, destination, address, port, size, timeout=120):
    """Sends `size` random-looking bytes over TCP; (sent digest, received digest, seconds).

    The receiver hashes what arrives, the sender what it wrote.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = destination.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    freebind(listener, address)
    listener.bind((address, port))
    listener.listen(1)
    listener.settimeout(timeout)

    def receive():
        connection, _ = listener.accept()
        connection.settimeout(timeout)
        digest, total = hashlib.sha256(), 0
        with connection:
            while data := connection.recv(1 << 20):
                digest.update(data)
                total += len(data)
        return digest.hexdigest(), total

    receiver = Background(receive)
    began = time.monotonic()
    digest = hashlib.sha256()
    sender = source.socket(family, socket.SOCK_STREAM)
    try:
        sender.settimeout(timeout)
        sender.connect((address, port))
        block = os.urandom(1 << 20)
        left = size
        while left:
            # Every block differs from the one before: a repeated or lost segment shows.
            part = (struct.pack("!Q", left) + block[8:])[:min(left, len(block))]
            sender.sendall(part)
            digest.update(part)
            left -= len(part)
        sender.shutdown(socket.SHUT_WR)
        got, total = receiver.join(timeout, f"TCP {source.name} -> {address}")
    except (OSError, LabError) as error:
        raise LabError(f"TCP {source.name} -> {address}: {error}") from None
    finally:
        sender.close()
        listener.close()
    if total != size:
        raise LabError(f"TCP {source.name} -> {address}: {total} of {size} bytes arrived")
    return digest.hexdigest(), got, time.monotonic() - began
