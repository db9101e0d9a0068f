"""Generator and pe-dp on this machine, joined by memif: shared memory, no NIC, nothing of the network touched."""

import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from pebench.build import BuildError, daemon

from .generator import Generator, GeneratorError
from .rig import DeviceWatch, Rig
from .testbed import device_config


# The largest tables that a file holds take some seconds.
READY_SECONDS = 60


def cpus():
    """(CPU of the generator, CPU of the device): the last two that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def memif(folder, role, index):
    return f"net_memif{index},role={role},id={index},socket={folder}/memif.sock,socket-abstract=no"


@functools.cache
def pe_dp():
    """The program, up to date."""
    try:
        return daemon(lambda text: print(f"pktgen: {text}", file=sys.stderr))
    except BuildError as error:
        raise GeneratorError(f"pe-dp: {error}") from error


@contextmanager
def running(folder, config):
    """A running pe-dp, from its ready line to its end; gives its process id. The log is in `folder`."""
    log = Path(folder) / "pe-dp.log"
    with log.open("wb") as output:
        process = subprocess.Popen([pe_dp(), "run", "--config", str(config)], stdout=output, stderr=output)
    try:
        end = time.monotonic() + READY_SECONDS
        while "ready:" not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > end:
                raise GeneratorError("pe-dp did not become ready:\n" + log.read_text(errors="replace")[-1500:])
            time.sleep(0.05)
        yield process.pid
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def device(folder, traffic, cpu):
    """A running pe-dp with the testbed's configuration on two memif ports."""
    config = Path(folder) / "pe-dp.yaml"
    ports = [memif(folder, "server", 0), memif(folder, "server", 1)]
    config.write_text(device_config(traffic, ports, (cpu, cpu), socket=f"{folder}/admin.sock"))
    with running(folder, config) as process:
        yield process


def counters(folder):
    """`received`, `replicated`, `sent`, `punted` and the sum of drops, as pe-dp shows them."""
    done = subprocess.run([pe_dp(), "show", "counters", "--socket", f"{folder}/admin.sock"],
                          capture_output=True, text=True, timeout=20)
    found = re.findall(r"^(received|replicated|sent|punted)\s+(\d+)", done.stdout, re.M)
    return {name: int(count) for name, count in found}


@contextmanager
def rig_on_memif(traffic, drain):
    """(Rig, folder with pe-dp's socket and log): a device and a generator, both ended afterwards."""
    generator_cpu, device_cpu = cpus()
    with tempfile.TemporaryDirectory(prefix="pe-dp-pktgen.") as folder, device(folder, traffic, device_cpu) as pid:
        with Generator([memif(folder, "client", 0), memif(folder, "client", 1)], (generator_cpu,)) as generator:
            generator.wait_for_links(10)
            yield Rig(generator, traffic, drain, DeviceWatch(pid)), folder
