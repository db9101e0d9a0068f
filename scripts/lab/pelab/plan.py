"""Which scenarios run in which lab, and how one lab is run from its building to its removal."""
import collections
import time

from . import basics, faults, mobility, refusals, wirecheck
from .nodes import KernelPE
from .pedp import PeDP
from .report import run_scenario
from .shell import LabError, bold, say
from .topology import Lab

Scenario = collections.namedtuple("Scenario", "name summary function")

SCENARIOS = [Scenario(*row) for row in (
    ("converge", "EVPN tells both PEs about each other", basics.converge),
    ("ping", "hosts ping each other", basics.ping),
    ("offloads", "every veth has the offloads of a new pair", basics.offloads),
    ("tcp", "TCP over default offloads arrives unchanged", basics.tcp),
    ("tcp-gro", "TCP with GRO on at every veth end too", basics.tcp_gro),
    ("mtu", "large packets with DF on the 1600-byte underlay", basics.mtu),
    ("exactly-once", "broadcast, multicast and unknown unicast", basics.exactly_once),
    ("vlan", "VLAN circuits", basics.vlan_tags),
    ("agreement", "pe-dp, FRR and the kernel agree", basics.agreement),
    ("kernel-idle", "the kernel on pe1 forwards none of it", wirecheck.no_kernel_forwarding),
    ("underlay", "captured frames decode in tshark", wirecheck.underlay),
    ("first-frame", "a new host is known everywhere", mobility.first_frame),
    ("move", "a MAC moves away and back", mobility.mac_move),
    ("sticky", "a sticky MAC does not move", mobility.sticky),
    ("port-gone", "a port's peer goes and comes back", faults.port_gone),
    ("zebra-restart", "zebra is killed and restarted", faults.zebra_restart),
    ("fpm-reconnect", "the FPM connection is lost", faults.fpm_reconnect),
    ("second-daemon", "a second daemon on the same socket", faults.second_daemon),
    ("dataplane-restart", "pe-dp stops, starts, is killed, starts", faults.dataplane_restart),
    ("frr-first", "FRR starts before pe-dp", faults.frr_first),
    ("refusals", "what pe-dp refuses, and how", refusals.refusals),
    ("examples", "the packaged example configurations", refusals.examples),
    ("many-ports", "600 kernel ports", refusals.many_ports),
    ("resources", "memory, idle CPU, time to ready", faults.resources),
)]
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

Variant = collections.namedtuple("Variant", "summary pe1 pe2 family split scenarios")

# The other labs repeat what can differ there.
_CORE = ["converge", "ping", "tcp", "mtu", "exactly-once", "vlan"]
VARIANTS = {
    "frr": Variant("pe1 pe-dp + FRR, pe2 kernel + FRR", "pe-dp", "kernel", 4, False,
                   [scenario.name for scenario in SCENARIOS]),
    "both": Variant("pe-dp + FRR on both sides", "pe-dp", "pe-dp", 4, False,
                    _CORE + ["agreement", "first-frame", "move"]),
    "split": Variant("pe1's ports in one namespace, its FRR in another", "pe-dp", "kernel", 4,
                     True, ["converge", "ping", "exactly-once", "first-frame"]),
    "v6": Variant("IPv6 underlay, static state, pe2 the kernel's VTEP with default settings",
                  "pe-dp", "kernel", 6, False, _CORE + ["underlay"]),
    "v6-both": Variant("IPv6 underlay, static state, pe-dp on both sides", "pe-dp", "pe-dp", 6,
                       False, _CORE),
}
# What the demonstration shows, in this order.
DEMO = ["converge", "ping", "offloads", "tcp", "mtu", "exactly-once", "agreement", "kernel-idle",
        "underlay", "first-frame", "move", "sticky"]


def make_pe(lab, name, kind):
    return (PeDP if kind == "pe-dp" else KernelPE)(lab, name)


def run_variant(report, name, wanted, kernel=False, keep=False, show=None):
    """Builds one lab, runs the wanted scenarios of its list, removes it."""
    variant = VARIANTS[name]
    chosen = [BY_NAME[s] for s in variant.scenarios if not wanted or s in wanted]
    if not chosen:
        return
    kinds = {"pe1": variant.pe1, "pe2": variant.pe2}
    title = variant.summary
    if kernel:
        if variant.pe2 == "pe-dp" or variant.split:
            report.add(name, f"{len(chosen)} scenarios", "skip", "needs pe-dp (--kernel)", 0)
            return
        kinds["pe1"] = "kernel"
        title += " (the kernel in pe1's place)"
    say()
    say(bold(f"== lab {name}: {title}"))
    lab = Lab(name, kinds, make_pe, variant.family, variant.split and not kernel)
    began = time.monotonic()
    try:
        try:
            lab.build()
            for pe in lab.pes.values():
                pe.start()
            if chosen[0].name != "converge":
                faults.converged(lab)
        except LabError as error:
            report.add(name, "the lab starts", "fail", str(error), time.monotonic() - began)
            diagnose(lab)
            return
        say(f"  built and started in {time.monotonic() - began:.1f} s")
        for scenario in chosen:
            run_scenario(report, f"{name}/{scenario.name}", scenario.summary, scenario.function,
                         lab, diagnose, faults.accounting)
        if show:
            show(lab)
    finally:
        lab.remove(keep)


def diagnose(lab):
    """What a person needs after a failure: each PE's tables, logs and FRR's view."""
    say("  -- diagnostics")
    for pe in lab.pes.values():
        lines = [f"{pe.name} ({pe.kind})"] + pe.diagnostics()
        if pe.frr:
            for command in ("show bgp l2vpn evpn summary", "show evpn mac vni all",
                            "show evpn vni detail", "show ip route", "show bgp l2vpn evpn", "show bgp l2vpn evpn vni 110", "show bgp nexthop"):
                lines.append("vtysh> " + command)
                try:
                    lines += pe.frr.vty(command).splitlines()
                except LabError as error:
                    lines.append(str(error))
            lines += ["frr.log> " + line for line in pe.frr.log(8)]
        for line in lines:
            say("     " + line)
