"""The machine a benchmark ran on, and the versions of what ran."""

import ctypes
import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def _read(path, default=""):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return default


def _run(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def has_cycle_counter():
    """Whether perf_event_open gives core cycles of an own thread here (many virtual machines have none)."""
    attribute = bytearray(128)
    attribute[4:8] = (128).to_bytes(4, "little")  # size; type 0 = hardware, config 0 = core cycles
    attribute[40:48] = (0x60).to_bytes(8, "little")  # exclude_kernel | exclude_hv
    buffer = (ctypes.c_char * 128).from_buffer(attribute)
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(298, buffer, 0, -1, -1, 0)  # perf_event_open on x86-64
    if descriptor < 0:
        return False
    os.close(descriptor)
    return True


def describe_machine():
    """A dictionary of what a reader needs to compare figures; `class` names machines that compare."""
    info = _read("/proc/cpuinfo")

    def field(name):
        found = re.search(rf"^{name}\s*:\s*(.+)$", info, re.M)
        return found.group(1).strip() if found else ""

    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if _read(index / "type") != "Instruction":
            caches[f"L{_read(index / 'level')}"] = _read(index / "size")
    family, model = field("cpu family"), field("model")
    vendor = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}.get(field("vendor_id"), field("vendor_id") or "unknown")
    virtual = "hypervisor" in field("flags").split()
    return {
        "class": f"{vendor}-{family}-{model}" + ("-vm" if virtual else ""),
        "cpu": field("model name"), "family": family, "model": model, "virtual": virtual,
        "cores": os.cpu_count(), "caches": caches,
        "clockMHz": float(field("cpu MHz") or 0),
        "memoryMiB": int(re.search(r"MemTotal:\s+(\d+)", _read("/proc/meminfo")).group(1)) // 1024,
        "hugepages2M": int(_read("/proc/sys/vm/nr_hugepages", "0") or 0),
        "transparentHugepages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "numaNodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or 1,
        "kernel": platform.release(),
        "counter": "perf" if has_cycle_counter() else "tsc",
    }


def versions():
    """What ran: the project's commit (with + when the tree has changes) and what it stands on."""
    commit = _run("git", "rev-parse", "--short=12", "HEAD")
    if commit and _run("git", "status", "--porcelain", "--untracked-files=no"):
        commit += "+"
    swift = re.search(r"Swift version (\S+)", _run("swift", "--version"))
    return {
        "pe-dp": commit,
        "swift": swift.group(1) if swift else "",
        "dpdk": _run("pkg-config", "--modversion", "libdpdk"),
        "gcc": _run("gcc", "-dumpfullversion"),
        "frr": _run("dpkg-query", "-W", "-f", "${Version}", "frr"),
        "ovs": _run("dpkg-query", "-W", "-f", "${Version}", "openvswitch-switch-dpdk"),
    }
