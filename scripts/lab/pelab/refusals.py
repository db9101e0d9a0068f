"""Scenarios: what pe-dp refuses, in words; the packaged examples; very many ports."""
import itertools
import os
import re
import signal
import subprocess
import time

from .faults import needs_pedp
from .net import veth
from .pedp import thread_shares
from .shell import LabError, Timeout, wait


_serial = itertools.count(1)


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
    directory = f"{pe.lab.directory}/refused"
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o1777)     # whatever user it runs as, the socket is not the obstacle
    return ("dataplane:\n  lcores: {main: 0, workers: [1]}\n"
            f"  adminSocket: {directory}/{next(_serial)}.sock\n{dataplane}"
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


class Daemon:
    """A daemon beside the lab's own, in a namespace given to it; used in a `with` statement."""

    def __init__(self, lab, where, binary, yaml, name):
        self.where = where
        self.socket = f"{lab.directory}/{name}.sock"
        self._log = lab.path(f"{name}.log")
        path = lab.path(f"{name}.yaml")
        with open(path, "w") as file:
            file.write(yaml.replace("dataplane:\n", f"dataplane:\n  adminSocket: {self.socket}\n", 1))
        self._began = time.monotonic()
        with open(self._log, "w") as out:
            self.process = subprocess.Popen(
                where.prefix() + [binary, "run", "--config", path],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.code = None

    def wait_ready(self, timeout=40):
        """Seconds from its start to its ready line."""
        def ready():
            with open(self._log) as file:
                said = file.read()
            if self.process.poll() is not None:
                raise Timeout("it ended: " + " / ".join(said.strip().splitlines()[-3:]))
            return "ready" in said.lower()
        wait("the ready line", ready, timeout, 0.02)
        return time.monotonic() - self._began

    def rss_megabytes(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                # The kernel takes some 20 ms to unregister a TAP, one after the other.
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.code = self.process.returncode
        return self.code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def many_ports(lab, c, count=600):
    """Hundreds of kernel ports (host legs, exception TAPs) on one daemon."""
    needs_pedp(lab)
    where = lab.namespace("many")
    ports = "".join(f"  - {{name: t{n}, driver: tap, device: t{n}}}\n" for n in range(count))
    half = count // 2     # more than 512 circuits of one VNI are more than its default flood limit
    first, second = (", ".join(f"{{port: t{n}}}" for n in part)
                     for part in (range(half), range(half, count)))
    yaml = ("dataplane:\n  lcores: {main: 0, workers: [1]}\n"
            f"ports:\n{ports}l2vnis:\n  - {{name: many, vni: 600, ports: [{first}]}}\n"
            f"  - {{name: more, vni: 601, ports: [{second}]}}\n"
            "control: {routes: none, shadow: false}\n")

    def taps():
        return [d for d in where.devices() if re.fullmatch(r"t\d+", d)]
    with Daemon(lab, where, lab.pes["pe1"].binary, yaml, "many") as daemon:
        if c.attempt(f"1. {count} kernel ports attach",
                     lambda: f"{daemon.wait_ready():.1f} s") is None:
            return
        c.check("2. each has its device", len(taps()) == count, len(taps()))
        c.check("3. within 200 MB", daemon.rss_megabytes() < 200,
                f"{daemon.rss_megabytes():.0f} MB")
        began = time.monotonic()
        code = daemon.stop()
    c.check("4. SIGTERM ends it with code 0", code == 0,
            f"code {code}, {time.monotonic() - began:.1f} s")
    c.check("5. and its TAPs are gone", not taps(), len(taps()))
    c.check("6. its admin socket is gone", not os.path.exists(daemon.socket))


def examples(lab, c):
    """The packaged example configurations: all are valid, the first one runs as it is."""
    needs_pedp(lab)
    binary = lab.pes["pe1"].binary
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../../packaging/examples"))
    names = sorted(name for name in os.listdir(root) if name.endswith(".yaml"))
    faulty = []
    for name in names:
        text = subprocess.run([binary, "check", "--config", f"{root}/{name}"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30).stdout
        # The file comes first; what follows may be faults of this host, which has no such devices.
        if not re.search(rf"^ok +\S*{name}: \d+ ports", text, re.MULTILINE):
            faulty.append(f"{name}: {text[:200]}")
    c.check(f"1. valid: {', '.join(names)}", names and not faulty, " / ".join(faulty[:3]))
    where = lab.namespace("example")
    for left, right, size in (("eth1", "eth1-peer", 1600), ("veth-h1", "h1-peer", 1500),
                              ("veth-h2", "h2-peer", 1500)):
        veth(where, left, where, right, mtu=size)
    with open(f"{root}/af_packet.yaml") as file:
        yaml = file.read()
    with Daemon(lab, where, binary, yaml, "example") as daemon:
        seconds = daemon.wait_ready()
        c.check("2. af_packet.yaml is ready within 3 s", seconds < 3, f"{seconds:.2f} s")
        c.check("3. RSS under 200 MB", daemon.rss_megabytes() < 200,
                f"{daemon.rss_megabytes():.0f} MB")
        shares = thread_shares(daemon.process.pid)
        busiest = max(shares.items(), key=lambda item: item[1])
        c.check("4. every thread idles under 5 % of a core", busiest[1] < 0.05,
                f"busiest {busiest[0]}: {busiest[1] * 100:.1f} %")
        code = daemon.stop()
    c.check("5. SIGTERM ends it with code 0", code == 0, code)
