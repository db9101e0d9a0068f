"""Scenarios: what pe-dp refuses, in words; and very many ports."""
import os
import re
import signal
import subprocess
import time

from .faults import needs_pedp
from .shell import LabError, wait


def run_daemon(pe, yaml, user=None, seconds=20):
    """Runs a daemon that is expected to give up: (exit code, what it said).

    A negative code is the signal that ended it; None means that it was still running.
    """
    path = pe.lab.path("refused.yaml")
    with open(path, "w") as file:
        file.write(yaml)
    command = pe.ports.prefix()
    if user:
        command += ["setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups",
                    "--bounding-set=-all", "--inh-caps=-all"]
    process = subprocess.Popen(command + [pe.binary, "run", "--config", path],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        text, _ = process.communicate(timeout=seconds)
        return process.returncode, text
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            text, _ = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            text, _ = process.communicate()
        return None, text


def minimal(pe, ports="", dataplane="", rest=""):
    return ("dataplane:\n  lcores: {main: 0, workers: [1]}\n"
            f"  adminSocket: {pe.lab.directory}/refused.sock\n{dataplane}"
            f"ports:\n{ports}{rest}control: {{routes: none, shadow: false}}\n")


def refusals(lab, c):
    """Each ends with exit code 1 or 2 and a sentence that names the place."""
    needs_pedp(lab)
    pe = lab.pes["pe1"]
    null = "  - {name: n0, driver: null}\n"
    cases = [
        ("a missing device", minimal(pe, "  - {name: x0, driver: af_packet, device: no-such}\n"),
         None, r"no-such"),
        ("no privileges", minimal(
            pe, f"  - {{name: x0, driver: af_packet, device: {pe.underlay_device}}}\n"),
         "nobody", r"(?i)privilege|root|CAP_|permitted|permission"),
        ("huge pages demanded where there are none", minimal(
            pe, null, "  memory: {hugepages: always, mbufs: 16384}\n"), None, r"(?i)huge ?page"),
        ("more buffers than memory", minimal(
            pe, null, "  memory: {hugepages: never, mbufs: 200000000}\n"), None,
         r"(?i)memory|mbufs|buffers"),
        ("an unknown key", minimal(pe, null, "  lcors: 1\n"), None, r"refused\.yaml:\d+:\d+.*lcors"),
        ("a duplicate port", minimal(pe, null + null), None, r"refused\.yaml:\d+:\d+"),
    ]
    for number, (name, yaml, user, pattern) in enumerate(cases, 1):
        if "huge pages demanded" in name and huge_pages():
            c.skip(f"{number}. {name}", "this machine has huge pages")
            continue
        code, text = run_daemon(pe, yaml, user)
        last = " / ".join(line for line in text.strip().splitlines()[-3:])
        c.check(f"{number}. {name}: exit 1 and a reason",
                code in (1, 2) and bool(re.search(pattern, text)), f"exit {code}: {last[-300:]}")
    try:
        pe.ports.run([pe.binary, "show", "fdb", "--socket", f"{lab.directory}/nobody.sock"])
        code = 0
    except LabError as error:
        code = re.search(r"exited (-?\d+)", str(error))
        code = int(code.group(1)) if code else str(error)
    c.check(f"{len(cases) + 1}. `show` without a daemon exits 3", code == 3, f"exit {code}")
    c.check(f"{len(cases) + 2}. the running daemon was not disturbed", pe.running()
            and bool(pe.show("ports")))


def huge_pages():
    with open("/proc/meminfo") as file:
        return any(line.startswith("HugePages_Free:") and int(line.split()[1]) for line in file)


def many_ports(lab, c, count=600):
    """Hundreds of kernel ports (host legs, exception TAPs) on one daemon."""
    needs_pedp(lab)
    pe = lab.pes["pe1"]
    where = lab.namespace("many")
    socket_path = f"{lab.directory}/many.sock"
    path = lab.path("many.yaml")
    ports = "".join(f"  - {{name: t{n}, driver: tap, device: t{n}}}\n" for n in range(count))
    half = count // 2     # more than 512 circuits of one VNI are more than its default flood limit
    first, second = (", ".join(f"{{port: t{n}}}" for n in part)
                     for part in (range(half), range(half, count)))
    with open(path, "w") as file:
        file.write("dataplane:\n  lcores: {main: 0, workers: [1]}\n"
                   f"  adminSocket: {socket_path}\nports:\n{ports}"
                   f"l2vnis:\n  - {{name: many, vni: 600, ports: [{first}]}}\n"
                   f"  - {{name: more, vni: 601, ports: [{second}]}}\n"
                   "control: {routes: none, shadow: false}\n")
    log = lab.path("many.log")
    began = time.monotonic()
    with open(log, "w") as out:
        process = subprocess.Popen(where.prefix() + [pe.binary, "run", "--config", path],
                                   stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        def ready():
            with open(log) as text:
                said = text.read()
            if process.poll() is not None:
                raise SystemError(said)
            return "ready" in said.lower()
        try:
            wait("600 ports", ready, 40, 0.05)
            c.check(f"1. {count} kernel ports attach", True, f"{time.monotonic() - began:.1f} s")
        except (LabError, SystemError) as error:
            c.check(f"1. {count} kernel ports attach", False, str(error)[-300:])
            return
        devices = [d for d in where.devices() if re.fullmatch(r"t\d+", d)]
        c.check("2. each has its device", len(devices) == count, len(devices))
        with open(f"/proc/{process.pid}/status") as file:
            rss = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024
        c.check("3. within 200 MB", rss < 200, f"{rss:.0f} MB")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    c.check("4. SIGTERM ends it with code 0", process.returncode == 0, process.returncode)
    left = [d for d in where.devices() if re.fullmatch(r"t\d+", d)]
    c.check("5. and its TAPs are gone", not left, len(left))
    c.check("6. its admin socket is gone", not os.path.exists(socket_path))
