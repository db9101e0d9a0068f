"""OVS-DPDK as Debian ships it, started by hand with a database and folders of its own."""

import os
import re
import shutil
import time
from pathlib import Path

from .cases import (DUT_ADDRESS, DUT_MAC, HOST_ADDRESS, HOST_MAC, L2_VNI, L3_VNI, PEER_ADDRESS, PEER_MAC,
                    PEER_ROUTER_MAC, ROUTER_MAC, colons, dotted, remote_address, remote_mac)
from .dut import Device
from .host import Absent, run

DAEMON = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
# Exact-match cache (EMC) and signature-match cache (SMC); the first is OVS's default.
SETTINGS = {
    "default": {"emc-insert-inv-prob": "100", "smc-enable": "false"},
    "emc-off": {"emc-insert-inv-prob": "0", "smc-enable": "false"},
    "emc-off+smc": {"emc-insert-inv-prob": "0", "smc-enable": "true"},
    "emc+smc": {"emc-insert-inv-prob": "100", "smc-enable": "true"},
}


def flows(entries):
    """OpenFlow: table 0 chooses bridging or routing, 1 has the MACs, 2 the routes."""
    host, router = colons(HOST_MAC), colons(ROUTER_MAC)
    to_peer = (f"actions=set_field:{router}->eth_src,set_field:{colons(PEER_ROUTER_MAC)}->eth_dst,dec_ttl,"
               f"set_field:{L3_VNI}->tun_id,output:vtep")
    lines = [
        f"table=0,priority=20,in_port=access,ip,dl_dst={router},actions=goto_table:2",
        f"table=0,priority=20,in_port=vtep,tun_id={L3_VNI},ip,dl_dst={router},actions=goto_table:2",
        "table=0,priority=10,in_port=access,actions=goto_table:1",
        f"table=0,priority=10,in_port=vtep,tun_id={L2_VNI},actions=goto_table:1",
        f"table=1,priority=10,dl_dst={host},actions=output:access",
        f"table=2,priority=42,ip,nw_dst={dotted(HOST_ADDRESS)},actions=set_field:{router}->eth_src,"
        f"set_field:{host}->eth_dst,dec_ttl,output:access",
        f"table=2,priority=26,ip,nw_dst=172.31.0.0/16,{to_peer}",
    ]
    lines += [f"table=1,priority=10,in_port=access,dl_dst={colons(remote_mac(i))},"
              f"actions=set_field:{L2_VNI}->tun_id,output:vtep" for i in range(entries)]
    lines += [f"table=2,priority=42,ip,nw_dst={dotted(remote_address(i))},{to_peer}" for i in range(entries)]
    return "\n".join(lines) + "\n"


def counters(text):
    """The figures of `pmd-stats-show` for PMD threads, as numbers by name."""
    start = text.find("pmd thread")
    found = {}
    for name, value in re.findall(r"^\s+([a-z][a-z ,().-]*[a-z)]): (\d+)", text[max(start, 0):], re.M):
        found.setdefault(name, int(value))
    return found


class OVS(Device):
    """One process for all cache settings; `choose` switches between them at run time."""

    name = "ovs"
    threads = r"^pmd-"
    primes = False
    setting = None

    def begin(self):
        tools = ("ovsdb-tool", "ovsdb-server", "ovs-vsctl", "ovs-ofctl", "ovs-appctl")
        if not Path(DAEMON).exists() or not all(map(shutil.which, tools)):
            raise Absent("OVS-DPDK is not installed (apt-get install openvswitch-switch-dpdk)")
        if not self.host.hugepages:
            raise Absent("OVS-DPDK needs huge pages (echo 512 > /proc/sys/vm/nr_hugepages)")
        self.environment = {f"OVS_{what}DIR": str(self.folder) for what in ("RUN", "DB", "LOG", "SYSCONF")}
        self.socket = f"unix:{self.folder}/db.sock"
        database = self.folder / "conf.db"
        run("ovsdb-tool", "create", database, SCHEMA)
        self.spawn(["ovsdb-server", database, f"--remote=punix:{self.folder}/db.sock",
                    f"--pidfile={self.folder}/db.pid", "-vconsole:info", f"--unixctl={self.folder}/db.ctl"],
                   r"ovsdb-server \(", self.environment, name="db.log")
        self.database = self.processes.pop()
        self.vsctl("--no-wait", "init")
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
                   "other_config:dpdk-socket-mem=160", "other_config:dpdk-socket-limit=160",
                   f"other_config:pmd-cpu-mask={1 << self.host.core:x}",
                   f"other_config:dpdk-lcore-mask={1 << self.host.main_core:x}",
                   f"other_config:dpdk-extra=--no-pci --no-telemetry --iova-mode=va "
                   f"--file-prefix={self.host.namespace}-ovs -d {self.host.generator()}")
        self.control = f"{self.folder}/vswitchd.ctl"
        self.spawn([DAEMON, self.socket, f"--pidfile={self.folder}/vswitchd.pid", "-vconsole:info",
                    f"--unixctl={self.control}"], r"DPDK Enabled - initialized", self.environment)
        self.bridges()

    def vsctl(self, *arguments):
        return run("ovs-vsctl", f"--db={self.socket}", "--timeout=20", *arguments, namespace=self.host.namespace,
                   environment={**os.environ, **self.environment})

    def appctl(self, *arguments):
        return run("ovs-appctl", f"--target={self.control}", *arguments, timeout=20)

    def bridges(self):
        self.vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev",
                   f"other-config:hwaddr=\"{colons(DUT_MAC)}\"", "--", "add-port", "br-phy", "underlay", "--", "set",
                   "interface", "underlay", "type=dpdk", "options:dpdk-devargs=\"net_null0,no-rx=1\"")
        self.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail-mode=secure",
                   "--", "add-port", "br-int", "access", "--", "set", "interface", "access", "type=dpdk",
                   "options:dpdk-devargs=\"net_null1,no-rx=1\"", "--", "add-port", "br-int", "vtep", "--", "set",
                   "interface", "vtep", "type=vxlan", f"options:remote_ip={dotted(PEER_ADDRESS)}", "options:key=flow")
        namespace = self.host.namespace
        run("ip", "addr", "add", f"{dotted(DUT_ADDRESS)}/24", "dev", "br-phy", namespace=namespace)
        run("ip", "link", "set", "br-phy", "up", namespace=namespace)
        for device in ("underlay", "access"):
            error = self.vsctl("get", "interface", device, "error").strip()
            if error not in ("[]", ""):
                raise RuntimeError(f"OVS does not take the port {device}: {error}")
        self.appctl("tnl/neigh/set", "br-phy", dotted(PEER_ADDRESS), colons(PEER_MAC))
        path = self.folder / "flows"
        path.write_text(flows(self.entries))
        run("ovs-ofctl", "--bundle", "add-flows", f"{self.folder}/br-int.mgmt", path, timeout=120)

    def choose(self, setting):
        if setting == self.setting:
            return
        self.vsctl("set", "Open_vSwitch", ".", *[f"other_config:{k}={v}" for k, v in SETTINGS[setting].items()])
        self.setting = setting

    def misses(self):
        """Packets for which the datapath had no flow, so far."""
        found = counters(self.appctl("dpif-netdev/pmd-stats-show"))
        return sum(value for name, value in found.items() if name.startswith("miss with"))

    def megaflows(self):
        """(flows in the datapath, misses so far)."""
        found = re.search(r"flows\s*:\s*\(current (\d+)\)", self.appctl("upcall/show"))
        return int(found[1]) if found else 0, self.misses()

    def begin_case(self):
        """Flows of the case before would slow the lookups of this one down."""
        self.resume()
        # Not dpctl/del-flows: 3.1 then believes that they are still there, and new packets of such a flow
        # take the slow path for ever.
        self.appctl("revalidator/purge")
        self.pause()

    def warm(self, case):
        """Until the datapath has its flows: their number stands still and (nearly) nothing is missing any more."""
        end = time.monotonic() + 60
        before, calm, missed = self.megaflows(), 0, 0
        while calm < 2:
            if time.monotonic() > end:
                raise RuntimeError(f"still {missed} misses in 0.25 s after a minute, with {before[0]} megaflows")
            time.sleep(0.25)
            now = self.megaflows()
            missed = now[1] - before[1]
            calm = calm + 1 if abs(now[0] - before[0]) <= 2 and missed <= 10 else 0
            before = now
        self.settled = before[1]

    def reduce(self, slices):
        """What is measured is the datapath with its flows in place: misses would be the cost of its slow path."""
        missed = self.misses() - self.settled
        if missed > 0.001 * sum(s["generated"] for s in slices) + 20:
            raise RuntimeError(f"{missed} packets found no megaflow while it was measured")
        return super().reduce(slices)

    def stop(self):
        try:
            if self.processes and self.processes[-1].poll() is None:
                self.resume()
                self.vsctl("--no-wait", "--if-exists", "del-br", "br-int", "--", "--if-exists", "del-br", "br-phy")
                time.sleep(0.3)
        finally:
            if getattr(self, "database", None):
                self.processes.insert(0, self.database)
            super().stop()
            # The tap devices of a bridge outlive a daemon that was killed.
            for device in ("br-phy", "br-int", "ovs-netdev"):
                run("ip", "link", "del", device, namespace=self.host.namespace, check=False)
