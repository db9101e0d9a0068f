"""Network namespaces, veth pairs and addresses; nothing here ever touches the root namespace."""
import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
import threading

from .shell import LabError, run

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914     # SIOCGIFFLAGS, SIOCSIFFLAGS


class Namespace:
    """One named network namespace of the lab."""

    def __init__(self, prefix, name):
        self.name = name
        self.full = f"{prefix}-{name}"
        self.path = f"/run/netns/{self.full}"

    def create(self):
        run(["ip", "netns", "add", self.full])
        self.up("lo")
        # A silent start: no duplicate address detection, no router solicitation.
        self.sysctl(**{
            "net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.all.accept_dad": 0,
            "net.ipv6.conf.default.router_solicitations": 0,
            "net.ipv6.conf.default.accept_ra": 0,
            "net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.default.rp_filter": 0})

    def up(self, device):
        """What `ip link set DEVICE up` does, without a process."""
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = struct.pack("16sH14x", device.encode(), 0)
            flags = struct.unpack("16sH14x", fcntl.ioctl(control, _GET_FLAGS, request))[1]
            fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH14x", device.encode(), flags | 1))

    def delete(self):
        run(["ip", "netns", "del", self.full], check=False)

    def ip(self, words, check=True):
        return run(["ip", "-n", self.full] + words.split(), check=check)

    def ip_batch(self, *lines, check=True):
        """Several `ip` commands in one process: starting one takes long in a guest kernel."""
        force = [] if check else ["-force"]
        run(["ip", "-n", self.full] + force + ["-batch", "-"], check, input="\n".join(lines) + "\n")

    def ip_json(self, words):
        text = run(["ip", "-n", self.full, "-d", "-s", "-j"] + words.split())
        return json.loads(text) if text.strip() else []

    def bridge(self, words, check=True):
        return run(["bridge", "-n", self.full] + words.split(), check=check)

    def fdb(self, device):
        """The kernel's FDB rows of a device, as `bridge -j fdb show` gives them."""
        text = run(["bridge", "-n", self.full, "-j", "fdb", "show", "dev", device], check=False)
        return json.loads(text) if text.strip() else []

    def tc(self, words):
        return run(["tc", "-n", self.full] + words.split())

    def sysctl(self, **values):
        with self.entered():
            for key, value in values.items():
                with contextlib.suppress(FileNotFoundError):
                    with open("/proc/sys/" + key.replace(".", "/"), "w") as file:
                        file.write(str(value))

    def prefix(self):
        """The words that run a program inside this namespace."""
        return ["ip", "netns", "exec", self.full]

    def run(self, command, **options):
        return run(self.prefix() + list(command), **options)

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is inside this namespace; sockets made there stay in it."""
        with entered(self.path):
            yield self

    def socket(self, *arguments):
        with self.entered():
            return socket.socket(*arguments)

    def snmp(self):
        """The kernel's IP, ICMP and UDP counters of this namespace, IPv4 and IPv6, by name."""
        counters = {}
        with self.entered():
            with open("/proc/thread-self/net/snmp") as file:
                lines = file.read().splitlines()
            with open("/proc/thread-self/net/snmp6") as file:
                for line in file:
                    name, value = line.split()
                    counters[name] = int(value)
        for names, values in zip(lines[0::2], lines[1::2]):
            protocol = names.split(":")[0]
            for name, value in zip(names.split()[1:], values.split()[1:]):
                counters[protocol + name] = int(value)
        return counters

    def devices(self):
        return [link["ifname"] for link in self.ip_json("link show")]

    def mac(self, device):
        return self.ip_json(f"link show dev {device}")[0]["address"]

    def link_counters(self, device):
        """(received packets, transmitted packets) of a device."""
        stats = self.ip_json(f"link show dev {device}")[0]["stats64"]
        return stats["rx"]["packets"], stats["tx"]["packets"]

    def offloads(self, device):
        """The features of a device as `ethtool -k` prints them, by name."""
        features = {}
        for line in self.run(["ethtool", "-k", device]).splitlines()[1:]:
            name, _, value = line.strip().partition(": ")
            features[name] = value.split()[0] if value else ""
        return features


@contextlib.contextmanager
def entered(path):
    """The calling thread is inside the namespace at `path`."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(path, os.O_RDONLY)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(descriptor):
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise LabError(f"entering a network namespace: {os.strerror(code)}")


def veth(left, left_name, right, right_name, mtu=1500, left_mac=None, right_mac=None):
    """A veth pair between two namespaces with the offloads that a new pair has by default."""
    words = ["link add", left_name, "mtu", mtu]
    if left_mac:
        words += ["address", left_mac]
    words += ["type veth peer name", right_name, "mtu", mtu]
    if right_mac:
        words += ["address", right_mac]
    left.ip_batch(" ".join(map(str, words + ["netns", right.full])), f"link set {left_name} up")
    right.up(right_name)


class Background:
    """A function on a thread of its own; join() returns its value or raises its error."""

    def __init__(self, function, *arguments):
        self._value = None
        self._error = None

        def body():
            try:
                self._value = function(*arguments)
            except BaseException as error:  # handed to whoever joins
                self._error = error
        self._thread = threading.Thread(target=body, daemon=True)
        self._thread.start()

    def running(self):
        return self._thread.is_alive()

    def join(self, timeout, what):
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise LabError(f"{what}: still running after {timeout:g} s")
        if self._error:
            raise self._error
        return self._value
