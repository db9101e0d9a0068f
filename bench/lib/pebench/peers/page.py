"""The page of memory through which a generator is steered and read (bench/sources/peers/traffic.h)."""

import ctypes
import mmap
import os
import statistics
import time

MAGIC, VERSION = 0x31545650, 1
SPIN_CYCLES = 24000
SLICES, SAMPLES, SAMPLE_BYTES = 4096, 64, 192
u32, u64 = ctypes.c_uint32, ctypes.c_uint64


class TrafficCase(ctypes.Structure):
    _fields_ = [("decap", u32), ("layer", u32), ("flows", u32), ("entries", u32), ("vary", u32),
                ("pattern_count", u32), ("sizes", u32 * 3), ("pattern", ctypes.c_uint8 * 12)]


class Slice(ctypes.Structure):
    _fields_ = [(name, u64) for name in
                ("tsc", "generated", "sent", "polls", "idle_polls", "spin", "cycles", "instructions")]


class Sample(ctypes.Structure):
    _fields_ = [("length", u32), ("port", u32), ("bytes", ctypes.c_uint8 * SAMPLE_BYTES)]


class Layout(ctypes.Structure):
    _fields_ = [
        ("magic", u32), ("version", u32), ("wanted", TrafficCase),
        *[(name, u32) for name in ("case_serial", "run", "slice_packets", "slice_serial", "sample_serial", "reserved")],
        *[(name, u32) for name in ("attached", "has_counters", "busy", "slice_count", "sample_count", "slice_taken",
                                   "sample_taken", "case_taken")],
        *[(name, u64) for name in ("generated", "sent", "polls", "idle_polls", "no_buffer", "tsc_hz")],
        ("slices", Slice * SLICES), ("samples", Sample * SAMPLES),
    ]


class PageTimeout(RuntimeError):
    """The generator did not answer: the device under test does not poll, or never took its ports up."""


class Page:
    """One device's page: `start(case)`, `measure(seconds)`, `stop()`; all of it takes effect on the DUT's thread."""

    def __init__(self, path, slice_packets=20_000):
        self.path = str(path)
        with open(path, "wb") as file:
            file.truncate((ctypes.sizeof(Layout) + 4095) // 4096 * 4096)
        self._file = open(path, "r+b")
        self._map = mmap.mmap(self._file.fileno(), 0)
        self.at = Layout.from_buffer(self._map)
        self.at.slice_packets = slice_packets
        self.at.sample_count = SAMPLES
        self.at.version = VERSION
        self.at.magic = MAGIC

    def close(self):
        del self.at
        self._map.close()
        self._file.close()
        os.unlink(self.path)

    def _wait(self, condition, seconds, what):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise PageTimeout(f"the generator did not {what} within {seconds:g} s")
            time.sleep(0.001)

    def wait_attached(self, seconds=10):
        self._wait(lambda: self.at.attached == 3, seconds, "take over both ports")

    def start(self, case):
        self.at.wanted = case.on_page()
        self.at.case_serial += 1
        self.at.run = 1 if case.decap else 2
        # A DUT that sleeps while nothing comes has to wake up first.
        self._wait(lambda: self.at.case_taken == self.at.case_serial, 5, "begin")

    def stop(self):
        self.at.run = 0
        self._wait(lambda: not self.at.busy, 10, "stop")

    def samples(self, seconds=3):
        """Frames that leave now: [(length, port, first bytes)]; at most 64."""
        self.at.sample_serial += 1
        end = time.monotonic() + seconds
        while (self.at.sample_taken != self.at.sample_serial or self.at.sample_count < SAMPLES) \
                and time.monotonic() < end:
            time.sleep(0.005)
        if self.at.sample_taken != self.at.sample_serial:
            return []
        kept = [self.at.samples[i] for i in range(min(self.at.sample_count, SAMPLES))]
        frames = [(s.length, s.port, bytes(s.bytes)[:min(s.length, SAMPLE_BYTES)]) for s in kept]
        del kept
        return frames

    def measure(self, seconds):
        """The slices of `seconds` from now."""
        self.at.slice_serial += 1
        self._wait(lambda: self.at.slice_taken == self.at.slice_serial, 10, "finish a slice")
        time.sleep(seconds)
        # A slow device, or one that shares its core for the moment, is given more time.
        end = time.monotonic() + 2
        while self.at.slice_count < 60 and time.monotonic() < end:
            time.sleep(0.02)
        count = min(self.at.slice_count, SLICES)
        names = [name for name, _ in Slice._fields_]
        return [{name: getattr(self.at.slices[i], name) for name in names} for i in range(count)]


def first_decile(values):
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 10]


def reduce_slices(slices, has_counters):
    """What one measurement says: cycles and TSC ticks a packet, and, with counters, instructions.

    Counters count the thread's own cycles, so their median is taken. Without them whatever else ran on the
    core is inside the TSC, so the undisturbed slices count: the first decile, times the clock that the core
    had (the TSC time of a known number of cycles right behind each slice).
    """
    slices = [s for s in slices if s["generated"] and s["tsc"] and s["spin"]]
    if len(slices) < 3:
        raise ValueError(f"only {len(slices)} slices were measured")
    tsc = first_decile([s["tsc"] / s["generated"] for s in slices])
    clock = SPIN_CYCLES / min(s["spin"] for s in slices)
    generated, sent = (sum(s[name] for s in slices) for name in ("generated", "sent"))
    polls, idle = (sum(s[name] for s in slices) for name in ("polls", "idle_polls"))
    result = {"tsc": tsc, "clock": clock, "cycles": tsc * clock, "loss": max(0.0, 1 - sent / generated),
              "burst": generated / polls if polls else None, "idlePolls": idle / polls if polls else None,
              "slices": len(slices)}
    if has_counters and all(s["cycles"] for s in slices):
        result["cycles"] = statistics.median(s["cycles"] / s["generated"] for s in slices)
        result["instructions"] = statistics.median(s["instructions"] / s["generated"] for s in slices)
    return result
