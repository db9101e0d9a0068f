"""A PE whose data plane is pe-dp: its configuration file, its process and what it shows."""
import contextlib
import json
import os
import signal
import subprocess
import time

from .nodes import PE, ZERO
from .shell import LabError, Timeout, run, wait


class PeDP(PE):
    """FRR and pe-dp, whose ports are AF_PACKET on veth."""
    kind = "pe-dp"
    underlay_device = "eth-up0"
    binary = None
    more_views = ()      # what else a person needs after a failure

    def __init__(self, lab, name):
        super().__init__(lab, name)
        os.makedirs(self.directory, exist_ok=True)
        self.process = None
        self.log_path = f"{self.directory}/pe-dp.log"
        self.ready_seconds = None
        self.logged = 0

    def splits(self):
        return self.lab.split

    @property
    def socket_path(self):
        return f"{self.directory}/admin.sock"

    def port_name(self, host):
        return "port-" + host.name

    # Configuration

    @property
    def lcores(self):
        # The lab's machine may have two CPUs only, so that a second daemon shares its worker's, or
        # a single one, as a guest kernel has.
        return f"{{main: 0, workers: [{1 if 1 in os.sched_getaffinity(0) else 0}]}}"

    def configuration(self):
        lines = ["dataplane:",
                 f"  lcores: {self.lcores}",
                 "  memory: {hugepages: auto, mbufs: 16384}",
                 "  idle: {policy: adaptive}",
                 f"  adminSocket: {self.socket_path}",
                 "ports:",
                 f"  - {{name: up0, driver: af_packet, device: {self.underlay_device}, mtu: 1600,"
                 f" exception: {{addresses: [\"{self.underlay_prefix}\"]}}}}"]
        for host in self.hosts():
            lines.append(f"  - {{name: {self.port_name(host)}, driver: af_packet,"
                         f" device: {host.circuit}}}")
        lines += ["underlays:",
                  f"  - {{interfaces: [up0], tunnelEndpoint: {{addresses: [\"{self.vtep}\"]}}}}",
                  "l2vnis:"]
        for vni, port in self.lab.vnis.items():
            circuits = ", ".join(
                f"{{port: {self.port_name(h)}" + (f", vlan: {h.vlan}" if h.vlan else "") + "}"
                for h in self.hosts(vni))
            family = ", underlayAddressFamily: IPv6" if self.lab.family == 6 else ""
            lines.append(f"  - {{name: layer2-{vni}, vni: {vni}, vxlanPort: {port}{family},"
                         f" ports: [{circuits}]}}")
        return "\n".join(lines + self._control() + self._static()) + "\n"

    def _control(self):
        if self.lab.family == 6:
            return ["control: {routes: none, shadow: false}"]
        netns = f"  netns: {self.control.full}" if self.splits() else ""
        return ["control:"] + ([netns] if netns else []) + [
            "  fpm: {listen: \"127.0.0.1:2620\"}", "  staleHoldSeconds: 120"]

    def _static(self):
        if self.lab.family == 4:
            return []
        other = self.lab.other(self)
        vteps = ", ".join(f"{{vni: {vni}, address: \"{other.vtep}\"}}" for vni in (110, 120))
        macs = ", ".join(f"{{vni: {h.vni}, mac: \"{h.mac}\", vtep: \"{other.vtep}\"}}"
                         for h in other.hosts())
        return ["static:", f"  vteps: [{vteps}]", f"  macs: [{macs}]",
                f"  underlay: [{{prefix: \"{other.vtep}/128\","
                f" nexthops: [{{port: up0, mac: \"{self.spine_mac}\"}}]}}]"]

    # Process

    def start_dataplane(self, timeout=30):
        if not self.binary or not os.access(self.binary, os.X_OK):
            raise LabError(f"pe-dp is not built ({self.binary}); "
                           "run `swift build -c release --product pe-dp`")
        path = f"{self.directory}/pe-dp.yaml"
        with open(path, "w") as file:
            file.write(self.configuration())
        self.logged = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        began = time.monotonic()
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(
                self.ports.prefix() + [self.binary, "run", "--config", path],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait(f"{self.name}: pe-dp ready", self._is_ready, timeout)
        self.ready_seconds = time.monotonic() - began

    def _is_ready(self):
        if self.process.poll() is not None:
            last = " / ".join(self.log()[-4:])
            raise Timeout(f"{self.name}: pe-dp ended with code {self.process.returncode}: {last}")
        return any("ready" in line.lower() for line in self.log())

    def log(self):
        """What this run of the daemon has logged."""
        with contextlib.suppress(OSError):
            with open(self.log_path, errors="replace") as file:
                file.seek(self.logged)
                return file.read().splitlines()
        return []

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop_dataplane(self, number=signal.SIGTERM):
        """Ends the daemon; its exit code (negative: the signal that ended it)."""
        if not self.process:
            return None
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                self.process = None
                raise LabError(f"{self.name}: pe-dp did not end within 10 s of signal {number}") \
                    from None
        code = self.process.returncode
        self.process = None
        return code

    def circuit_rebuilt(self, _host):
        pass

    # Views

    def command(self, *words, check=True):
        return run([self.binary, *words, "--socket", self.socket_path], check=check, timeout=20)

    def show(self, what, *filters):
        text = self.command("show", what, *filters, "--json")
        try:
            return json.loads(text)
        except ValueError:
            raise LabError(f"`pe-dp show {what} --json` is no JSON: {text[:200]}") from None

    def fdb(self, vni):
        """{mac: ("local", circuit device) | ("remote", VTEP)} as `show fdb` says."""
        devices = {self.port_name(host): host.circuit for host in self.hosts()}
        rows = {}
        for row in self.show("fdb", "--vni", str(vni)):
            if row.get("vtep"):
                rows[row["mac"]] = ("remote", row["vtep"])
            else:
                rows[row["mac"]] = ("local", devices.get(row.get("port"), row.get("port")))
        return rows

    def flood(self, vni):
        rows = [row for row in self.show("flood", "--vni", str(vni)) if row["vni"] == vni]
        return set(rows[0]["vteps"]) if rows else set()

    def vteps(self, vni):
        """The usable VTEPs of a VNI."""
        return {row["address"] for row in self.show("vteps", "--vni", str(vni))
                if row.get("state") == "resolved"}

    def tunnel_counters(self, vni):
        """(encapsulated, decapsulated) packets of a VNI."""
        for row in self.show("counters", "--vni", str(vni))["domains"]:
            if row["vni"] == vni:
                return row["tunnelOutPackets"], row["tunnelInPackets"]
        raise LabError(f"`show counters --vni {vni}` has no such VNI")

    def drops(self):
        """{reason: packets}."""
        return self.show("counters")["dropped"]

    def shadow_devices(self):
        """The kernel devices that stand for pe-dp in FRR's namespace: (vxlans, bridges)."""
        links = self.control.ip_json("link show")
        kinds = {"vxlan": [], "bridge": []}
        for link in links:
            kind = link.get("linkinfo", {}).get("info_kind")
            if kind in kinds:
                kinds[kind].append(link["ifname"])
        return kinds["vxlan"], kinds["bridge"]

    def kernel_flood(self, vni):
        """The flood list as zebra wrote it to the shadow VXLAN device."""
        for link in self.control.ip_json("link show type vxlan"):
            if link["linkinfo"]["info_data"].get("id") == vni:
                return {row["dst"] for row in self.control.fdb(link["ifname"])
                        if row["mac"] == ZERO and row.get("dst")}
        return set()

    def accounting(self):
        """(received + replicated, sent + punted + dropped, free buffers, all buffers)."""
        counters = self.show("counters")
        buffers = json.loads(self.command("status", "--json", check=False)).get("buffers") or {}
        ended = counters["sent"] + counters["punted"] + sum(counters["dropped"].values())
        return (counters["received"] + counters["replicated"], ended,
                buffers.get("free"), buffers.get("total"))

    def diagnostics(self):
        lines = []
        if self.running():
            for words in (["status"], ["show", "ports"], ["show", "fdb"], ["show", "flood"],
                          ["show", "vteps"], ["show", "counters"], ["show", "drops"],
                          ["show", "control"], *self.more_views):
                with contextlib.suppress(LabError):
                    lines.append("$ pe-dp " + " ".join(words))
                    lines += self.command(*words, check=False).splitlines()
        lines.append(f"-- the daemon's last log lines ({self.log_path})")
        return lines + self.log()[-15:]

    # Measurements

    def rss_megabytes(self):
        with open(f"/proc/{self.daemon_pid()}/status") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        raise LabError("no VmRSS")

    def daemon_pid(self):
        return self.process.pid


def thread_seconds(pid):
    """User + system time of every thread of a process: {"name/thread id": seconds}."""
    ticks = os.sysconf("SC_CLK_TCK")
    threads = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/task/{task}/stat") as file:
                name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
            fields = rest.split()
            threads[f"{name}/{task}"] = (int(fields[11]) + int(fields[12])) / ticks
    return threads


def thread_shares(pid, seconds=5):
    """The share of a core that every thread of a process takes during some seconds."""
    before, began = thread_seconds(pid), time.monotonic()
    time.sleep(seconds)
    after, took = thread_seconds(pid), time.monotonic() - began
    return {thread: (spent - before.get(thread, 0)) / took for thread, spent in after.items()}
