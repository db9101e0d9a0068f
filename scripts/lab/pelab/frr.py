"""A stock FRR inside a namespace: zebra, bgpd and staticd with sockets and pid files of its own."""
import contextlib
import json
import os
import shutil
import signal

from .shell import LabError, alive, run, terminate, wait

SBIN = "/usr/lib/frr"
DAEMONS = ("zebra", "staticd", "bgpd")


class FRR:
    """The daemons of one node. `fpm` loads zebra's dplane_fpm_nl module, `bfd` runs bfdd too."""

    def __init__(self, namespace, directory, configuration, fpm=False, bfd=False):
        self.daemons = DAEMONS[:-1] + ("bfdd",) + DAEMONS[-1:] if bfd else DAEMONS
        self.namespace = namespace
        self.directory = directory
        self.configuration = configuration
        self.fpm = fpm

    def start(self):
        if not os.path.exists(f"{SBIN}/zebra"):
            raise LabError("FRR is not installed (package frr); run scripts/demo or scripts/test")
        os.makedirs(self.directory, exist_ok=True)
        with open(f"{self.directory}/vtysh.conf", "w") as file:
            file.write("no service integrated-vtysh-config\n")
        with open(f"{self.directory}/frr.conf", "w") as file:
            file.write(self.configuration)
        # The daemons drop to the user frr and write pid files and sockets here.
        shutil.chown(self.directory, "frr", "frr")
        os.chmod(self.directory, 0o755)
        for daemon in self.daemons:
            self.start_daemon(daemon)
        self.configure()

    def start_daemon(self, daemon):
        # FRR's own systemd unit has Nice=-5: timers of 50 ms must not wait for a compiler.
        command = self.namespace.prefix() + [
            "nice", "-n", "-5", f"{SBIN}/{daemon}", "--vty_socket", self.directory, "-z", f"{self.directory}/zserv.api",
            "-u", "frr", "-g", "frr", "-A", "127.0.0.1", "-P", "0",
            "-i", f"{self.directory}/{daemon}.pid", "-d"]
        if daemon == "zebra":
            command += ["-s", "90000000"]
            if self.fpm:
                command += ["-M", "dplane_fpm_nl"]
        if daemon == "bgpd":
            command += ["-p", "179"]
        if daemon == "bfdd":
            command += ["--bfdctl", f"{self.directory}/bfdd.sock"]
        # -d daemonises: give it files, not pipes that its children would hold open.
        with open(f"{self.directory}/{daemon}.out", "a") as out:
            import subprocess
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                  timeout=30).returncode
        if code != 0:
            raise LabError(f"{self.namespace.name}: {daemon} did not start (exit {code}); see "
                           f"{self.directory}/{daemon}.out")

    def configure(self):
        """Reads the configuration into all daemons, as `vtysh -b` would."""
        run(self._vtysh() + ["-f", f"{self.directory}/frr.conf"], timeout=30)

    def _vtysh(self):
        return ["/usr/bin/vtysh", "--vty_socket", self.directory, "--config_dir", self.directory]

    def pid(self, daemon):
        with contextlib.suppress(OSError, ValueError):
            with open(f"{self.directory}/{daemon}.pid") as file:
                return int(file.read())
        return None

    def running(self, daemon):
        pid = self.pid(daemon)
        return pid is not None and alive(pid)

    def stop(self):
        for daemon in reversed(self.daemons):
            self.stop_daemon(daemon, (signal.SIGTERM, signal.SIGKILL))

    def stop_daemon(self, daemon, signals=(signal.SIGTERM, signal.SIGKILL)):
        pid = self.pid(daemon)
        if pid:
            terminate(pid, signals, 3.0)
        with contextlib.suppress(OSError):
            os.unlink(f"{self.directory}/{daemon}.pid")

    def crash_zebra(self):
        """Kills zebra and restarts the daemons in watchfrr's order.

        watchfrr restarts every daemon when zebra dies, for good reason: a bgpd that lives through
        it tells the new zebra nothing again until its sessions are reset (bgp_zebra_connected,
        FRR 8.4.4).
        """
        self.stop_daemon("zebra", (signal.SIGKILL,))
        self.stop_daemon("bgpd")
        self.stop_daemon("staticd")
        for daemon in self.daemons:
            self.start_daemon(daemon)
        self.configure()

    def vty(self, *commands):
        words = self._vtysh()
        for command in commands:
            words += ["-c", command]
        return run(words, check=False, timeout=20)

    def vty_json(self, command):
        text = self.vty(command + " json")
        start = min((i for i in (text.find("{"), text.find("[")) if i >= 0), default=-1)
        if start < 0:
            raise LabError(f"{self.namespace.name}: `{command}` gave no JSON: {text.strip()[:200]}")
        return json.loads(text[start:])

    def established(self):
        """Whether every EVPN session is up."""
        summary = self.vty_json("show bgp l2vpn evpn summary")
        peers = summary.get("peers") or summary.get("default", {}).get("peers", {})
        return bool(peers) and all(peer["state"] == "Established" for peer in peers.values())

    def wait_established(self, timeout=40):
        wait(f"{self.namespace.name}: BGP sessions established", self.established, timeout, 0.1)

    def bfd_peers(self):
        """{peer: {"status": ..., "session-down": count}} of every BFD session."""
        peers = {row["peer"]: {"status": row["status"]} for row in self.vty_json("show bfd peers")}
        for row in self.vty_json("show bfd peers counters"):
            peers.setdefault(row["peer"], {})["session-down"] = row.get("session-down")
        return peers

    def macs(self, vni):
        """zebra's MAC table of a VNI: {mac: {"type": "local"|"remote", ...}}."""
        with contextlib.suppress(LabError, ValueError):
            return self.vty_json(f"show evpn mac vni {vni}").get("macs", {})
        return {}

    def neighbors(self, vni):
        """zebra's ARP and ND table of a VNI: {address: {"type": "local"|"remote", "mac": ...}}."""
        with contextlib.suppress(LabError, ValueError):
            rows = self.vty_json(f"show evpn arp-cache vni {vni}")
            return {a: row for a, row in rows.items() if isinstance(row, dict)}
        return {}

    def remote_vteps(self, vni):
        """The VTEPs of a VNI as zebra knows them: a set of address texts."""
        vni = self.vty_json(f"show evpn vni {vni}")
        vteps = vni.get("numRemoteVteps", [])
        return {str(v if isinstance(v, str) else v.get("ip")) for v in vteps} \
            if isinstance(vteps, list) else set()

    def routes(self, kind):
        """The EVPN routes of a type as text: `macip`, `multicast`."""
        return self.vty(f"show bgp l2vpn evpn route type {kind}")

    def log(self, lines=20):
        with contextlib.suppress(OSError):
            with open(f"{self.directory}/frr.log") as file:
                return file.read().splitlines()[-lines:]
        return []


def bgp(asn, router_id, neighbors, networks=(), evpn=True, fpm=None, directory="."):
    """A BGP configuration with short timers for a node of the lab.

    neighbors: [(address, remote AS)]. fpm: "address port N" for zebra's FPM client.
    """
    lines = ["hostname lab", f"log file {directory}/frr.log informational",
             "log timestamp precision 3"]
    if fpm:
        lines.append(f"fpm address {fpm}")
    lines += _router(asn, router_id, neighbors)
    lines.append(" address-family ipv4 unicast")
    lines += [f"  network {network}" for network in networks]
    lines += [f"  neighbor {address} activate" for address, _ in neighbors]
    lines += [" exit-address-family", " address-family l2vpn evpn"]
    lines += [f"  neighbor {address} activate" for address, _ in neighbors]
    if evpn:
        lines.append("  advertise-all-vni")
    lines += [" exit-address-family", "exit"]
    return "\n".join(lines) + "\n"


def _router(asn, router_id, neighbors):
    lines = [f"router bgp {asn}", f" bgp router-id {router_id}",
             " no bgp default ipv4-unicast", " no bgp ebgp-requires-policy",
             " bgp bestpath as-path multipath-relax"]
    for address, remote in neighbors:
        lines += [f" neighbor {address} remote-as {remote}",
                  f" neighbor {address} timers 3 10",
                  f" neighbor {address} timers connect 1",
                  f" neighbor {address} advertisement-interval 0"]
    return lines


# What never becomes a type 5 route: VTEPs, links of the underlay, links to routers behind a PE.
_INFRASTRUCTURE = ("ip prefix-list INFRA permit 100.65.0.0/16 le 32",
                   "ip prefix-list INFRA permit 10.0.0.0/16 le 32",
                   "ip prefix-list INFRA permit 172.31.0.0/16 le 32",
                   "ip prefix-list VTEPS permit 100.65.0.0/16 le 32",
                   "ipv6 prefix-list INFRA6 permit fd00::/8 le 128",
                   "route-map TENANT deny 10", " match ip address prefix-list INFRA", "exit",
                   "route-map TENANT permit 20", "exit",
                   "route-map TENANT6 deny 10", " match ipv6 address prefix-list INFRA6", "exit",
                   "route-map TENANT6 permit 20", "exit",
                   "route-map VTEPS permit 10", " match ip address prefix-list VTEPS", "exit")
_FAST_BFD = ("bfd", " profile fast", "  receive-interval 50", "  transmit-interval 50",
             "  detect-multiplier 3", " exit", "exit")


def routed(asn, router_id, spine, vtep, l3vni, legs=(), fpm=None, next_hop_groups=True,
           directory="."):
    """A PE whose tenant lives in the default VRF: one L3VNI, type 5 of connected and kernel routes.

    spine: (address, remote AS). legs: [(IPv4 or IPv6 address, remote AS)] of routers behind this
    PE, each with BFD of 3 x 50 ms.
    """
    lines = ["hostname lab", f"log file {directory}/frr.log informational",
             "log timestamp precision 3"]
    if fpm:
        lines += ([] if next_hop_groups else ["no fpm use-next-hop-groups"]) + [f"fpm address {fpm}"]
    lines += [f"vni {l3vni}"] + list(_INFRASTRUCTURE) + (list(_FAST_BFD) if legs else [])
    lines += _router(asn, router_id, [spine] + list(legs))
    lines += [f" neighbor {address} bfd profile fast" for address, _ in legs]
    for family, is_family in (("ipv4", lambda a: ":" not in a), ("ipv6", lambda a: ":" in a)):
        lines += [f" address-family {family} unicast", "  redistribute connected",
                  "  redistribute kernel"]
        lines += [f"  neighbor {address} activate" for address, _ in legs if is_family(address)]
        if family == "ipv4":
            lines += [f"  network {vtep}/32", f"  neighbor {spine[0]} activate",
                      f"  neighbor {spine[0]} route-map VTEPS out"]
        lines.append(" exit-address-family")
    lines += [" address-family l2vpn evpn", f"  neighbor {spine[0]} activate",
              "  advertise-all-vni", "  advertise ipv4 unicast route-map TENANT",
              "  advertise ipv6 unicast route-map TENANT6", " exit-address-family", "exit"]
    return "\n".join(lines) + "\n"


def leg(asn, router_id, neighbors, networks, directory="."):
    """A router behind a PE: BGP with BFD of 3 x 50 ms on each session, and its own networks.

    neighbors: [(address, remote AS)]; networks: prefixes of either family that it has routes for.
    """
    lines = ["hostname leg", f"log file {directory}/frr.log informational",
             "log timestamp precision 3"] + list(_FAST_BFD)
    lines += _router(asn, router_id, neighbors) + [" no bgp network import-check"]
    lines += [f" neighbor {address} bfd profile fast" for address, _ in neighbors]
    for family, is_six in (("ipv4", False), ("ipv6", True)):
        lines.append(f" address-family {family} unicast")
        lines += [f"  network {n}" for n in networks if (":" in n) == is_six]
        lines += [f"  neighbor {a} activate" for a, _ in neighbors if (":" in a) == is_six]
        lines.append(" exit-address-family")
    return "\n".join(lines + ["exit"]) + "\n"
