"""Where a run takes place: processors, huge pages, an own network namespace, a folder, and built programs."""

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from ..machine import ROOT

SOURCES = ROOT / "bench" / "sources" / "peers"
BUILD = ROOT / ".build" / "bench"
DPDK_FLAGS = ["-std=gnu11", "-O3", "-march=x86-64-v3", "-D_GNU_SOURCE", "-DALLOW_EXPERIMENTAL_API", "-include",
              "rte_config.h", "-I/usr/include/dpdk", "-I/usr/include/x86_64-linux-gnu/dpdk"]
DPDK_LIBRARIES = [f"-lrte_{name}" for name in ("hash", "lpm", "ethdev", "mbuf", "mempool", "ring", "eal")]
PROGRAMS = {
    "generator.so": ["gcc", *DPDK_FLAGS, "-fPIC", "-shared", "-o", "{out}", "{src}/generator.c", *DPDK_LIBRARIES],
    "forwarder": ["gcc", *DPDK_FLAGS, "-o", "{out}", "{src}/forwarder.c", *DPDK_LIBRARIES],
    "crossover": ["gcc", *DPDK_FLAGS, "-o", "{out}", "{src}/crossover.c", *DPDK_LIBRARIES],
    "kernel_source": ["gcc", "-std=gnu11", "-O2", "-D_GNU_SOURCE", "-o", "{out}", "{src}/kernel_source.c", "-lbpf"],
    "veth_source": ["gcc", "-std=gnu11", "-O2", "-D_GNU_SOURCE", "-o", "{out}", "{src}/veth_source.c"],
    "kernel_source.bpf.o": ["clang", "-target", "bpf", "-O2", "-g", "-I/usr/include/x86_64-linux-gnu", "-c", "-o",
                            "{out}", "{src}/kernel_source.bpf.c"],
}


class Absent(RuntimeError):
    """A peer that cannot run here; the text says what is missing and how to get it."""


def run(*command, namespace=None, check=True, timeout=120, text=None, environment=None):
    """Output of a command; a failure names it with its last lines."""
    command = [str(word) for word in command]
    if namespace:
        command = ["ip", "netns", "exec", namespace, *command]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, input=text,
                              timeout=timeout, env=environment)
    except FileNotFoundError as error:
        raise Absent(f"{error.filename} is not installed") from error
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]} exits {done.returncode}: {done.stdout.strip()[-600:]}")
    return done.stdout


def build(name):
    """Path of a program of bench/sources/peers, compiled when its sources are newer."""
    out = BUILD / name
    newest = max(path.stat().st_mtime for path in SOURCES.glob("*.[ch]"))
    if not out.exists() or out.stat().st_mtime < newest:
        BUILD.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f".{os.getpid()}.{out.name}")
        command = [word.format(out=partial, src=SOURCES) for word in PROGRAMS[name]]
        try:
            run(*command)
        except Absent as error:
            raise Absent(f"{error} (apt-get install {command[0]})") from error
        except RuntimeError as error:
            raise Absent(f"{name} does not build; are libdpdk-dev and libbpf-dev installed? {error}") from error
        partial.replace(out)
    return out


def is_below_world_writable(path):
    """EAL loads no plug-in from a folder in which anybody may write, nor from one below such a folder."""
    return any(os.stat(folder).st_mode & stat.S_IWOTH for folder in Path(path).resolve().parents)


def choose_cores(core=None, allowed=None):
    """(main, worker): where everything else runs, and the core for the device under test."""
    allowed = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
    worker = allowed[-1] if core is None else core
    if worker not in allowed:
        raise ValueError(f"core {worker} is not one of {allowed}")
    return next((c for c in allowed if c != worker), worker), worker


def free_hugepages():
    try:
        return int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text())
    except OSError:
        return 0


class Host:
    """Context manager: an own namespace and folder, both gone afterwards."""

    def __init__(self, core=None, log=lambda text: None):
        self.main_core, self.core = choose_cores(core)
        self.namespace = f"peers-{os.getpid()}"
        self.log = log
        self._installed = None

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pe-dp-peers-"))
        # Each DPDK program takes 40 to 200 MB; OVS cannot do without huge pages.
        self.hugepages = free_hugepages() >= 128
        try:
            run("ip", "netns", "add", self.namespace)
            run("ip", "link", "set", "lo", "up", namespace=self.namespace)
        except RuntimeError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise Absent(f"network namespaces need root: {error}") from error
        return self

    def __exit__(self, *_):
        run("ip", "netns", "del", self.namespace, check=False)
        # EAL leaves an empty folder of each program behind.
        leftovers = [self.folder, *Path("/run/dpdk").glob(f"{self.namespace}-*")]
        for folder in leftovers + ([self._installed] if self._installed else []):
            shutil.rmtree(folder, ignore_errors=True)
        return False

    def generator(self):
        """Path of the generator, where EAL accepts it."""
        built = build("generator.so")
        if not is_below_world_writable(built):
            return built
        if not self._installed:
            self._installed = tempfile.mkdtemp(prefix="pe-dp-peers-", dir="/var/lib")
        return Path(shutil.copy(built, self._installed))

    def eal(self, name, vdevs=("net_null0,no-rx=1", "net_null1,no-rx=1"), plugin=True):
        """EAL arguments for a DPDK program with one worker: lcore 1 on the measured core."""
        memory = ["--in-memory"] if self.hugepages else ["--no-huge", "--no-shconf", "-m", "256"]
        arguments = ["--lcores", f"0@{self.main_core},1@{self.core}", "--main-lcore", "0", "--no-pci",
                     "--no-telemetry", "--iova-mode=va", f"--file-prefix={self.namespace}-{name}", *memory]
        if plugin:
            arguments += ["-d", str(self.generator())]
        for vdev in vdevs:
            arguments += ["--vdev", vdev]
        return arguments
