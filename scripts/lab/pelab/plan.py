"""Which scenarios run in which lab, and how one lab is run from its building to its removal."""
import collections
import time

from . import (basics, faults, l3hosts, l3leg, l3paths, l3routing, l3wire, mobility, refusals,
               tenantchecks, wirecheck)
from .l3nodes import RoutedKernelPE, RoutedPeDP
from .l3topology import L3Lab, NetlinkLab, PlainRoutesLab
from .nodes import KernelPE
from .pedp import PeDP
from .report import Skip, run_scenario
from .shell import LabError, bold, say
from .tenantnodes import TenantKernelPE, TenantPeDP
from .tenants import TenantLab
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
    ("l3-converge", "EVPN with type 5 tells the PEs about each other", l3routing.converge),
    ("l3-ping", "hosts of three subnets ping each other; gateways", l3routing.ping),
    ("l3-tcp", "TCP across and within subnets", l3routing.tcp),
    ("l3-agreement", "FRR announces what pe1 has", l3routing.agreement),
    ("local-subnets", "subnets of one node do not use the underlay", l3routing.local_subnets),
    ("type5", "a prefix comes and goes", l3routing.type5),
    ("ecmp", "a prefix behind two VTEPs: spread, loss and return of one", l3paths.ecmp),
    ("suppression", "ARP and ND for known and unknown hosts", l3hosts.suppression),
    ("l3-move", "a host moves with its address", l3hosts.move),
    ("silent-host", "a silent host stays advertised", l3hosts.silent_host),
    ("host-leg", "BGP and BFD with a router on a routed port", l3leg.host_leg),
    ("l3-wire", "routed packets in the tunnel: headers, DSCP, ECN, TTL", l3wire.wire),
    ("l3-mtu", "path MTU", l3wire.mtu),
    ("no-route", "unreachable, time exceeded", l3routing.no_route),
    ("tenant-converge", "EVPN tells the PEs about two tenants", tenantchecks.converge),
    ("tenant-reach", "each tenant reaches its own hosts", tenantchecks.reach),
    ("tenant-tcp", "TCP in both tenants at once, same addresses", tenantchecks.tcp),
    ("tenant-tables", "the tenants' routing tables are told apart", tenantchecks.tables),
    ("tenant-isolation", "20 attempts to reach the other tenant", tenantchecks.isolation),
)]
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


class Topology(collections.namedtuple("Topology", "lab kernel pedp converged")):
    """What a lab is made of: its class, its PEs, and how to wait until EVPN has converged."""

    def make_pe(self, lab, name, kind):
        return (self.pedp if kind == "pe-dp" else self.kernel)(lab, name)


TOPOLOGIES = {
    "bridged": Topology(Lab, KernelPE, PeDP, faults.converged),
    "routed": Topology(L3Lab, RoutedKernelPE, RoutedPeDP, l3routing.converged),
    "routed-netlink": Topology(NetlinkLab, RoutedKernelPE, RoutedPeDP, l3routing.converged),
    "routed-plain": Topology(PlainRoutesLab, RoutedKernelPE, RoutedPeDP, l3routing.converged),
    "tenants": Topology(TenantLab, TenantKernelPE, TenantPeDP, tenantchecks.converged),
}
Variant = collections.namedtuple("Variant", "summary kinds family split scenarios topology",
                                 defaults=("bridged",))

_TENANT = [name for name in BY_NAME if name.startswith("tenant-")]
_L3 = [name for name in BY_NAME if BY_NAME[name].function.__module__.startswith("pelab.l3")]
# What depends on where routes come from.
_L3_ROUTES = ["l3-converge", "type5", "ecmp"]
_L2 = [name for name in BY_NAME if name not in _L3 + _TENANT]
_MIXED = {"pe1": "pe-dp", "pe2": "kernel"}
_BOTH = {"pe1": "pe-dp", "pe2": "pe-dp"}
# The other labs repeat what can differ there.
_CORE = ["converge", "ping", "tcp", "mtu", "exactly-once", "vlan"]
VARIANTS = {
    "frr": Variant("pe1 pe-dp + FRR, pe2 kernel + FRR", _MIXED, 4, False, _L2),
    "both": Variant("pe-dp + FRR on both sides", _BOTH, 4, False,
                    _CORE + ["agreement", "first-frame", "move"]),
    "split": Variant("pe1's ports in one namespace, its FRR in another", _MIXED, 4,
                     True, ["converge", "ping", "exactly-once", "first-frame"]),
    "v6": Variant("IPv6 underlay, static state, pe2 the kernel's VTEP with default settings",
                  _MIXED, 6, False, _CORE + ["underlay"]),
    "v6-both": Variant("IPv6 underlay, static state, pe-dp on both sides", _BOTH, 6, False, _CORE),
    "l3": Variant("routed: pe1 pe-dp + FRR, pe2 and pe3 kernel + FRR",
                  dict(_MIXED, pe3="kernel"), 4, False, _L3, "routed"),
    "l3-both": Variant("routed: pe-dp + FRR on pe1 and pe2, pe3 kernel + FRR",
                       dict(_BOTH, pe3="kernel"), 4, False,
                       ["l3-converge", "l3-ping", "l3-tcp", "l3-agreement", "suppression",
                        "l3-move"], "routed"),
    "l3-v6": Variant("routed: IPv6 underlay, static state, pe2 the kernel", _MIXED, 6, False,
                     ["l3-ping", "l3-tcp", "local-subnets", "suppression", "l3-wire", "l3-mtu",
                      "no-route"], "routed"),
    "l3-netlink": Variant("routed: pe1's routes from the kernel instead of FPM",
                          dict(_MIXED, pe3="kernel"), 4, False, _L3_ROUTES, "routed-netlink"),
    "l3-plain": Variant("routed: pe1's FPM without next-hop groups",
                        dict(_MIXED, pe3="kernel"), 4, False, _L3_ROUTES, "routed-plain"),
    "tenants": Variant("two tenants in VRFs: pe1 pe-dp + FRR, pe2 kernel + FRR", _MIXED, 4, False,
                       _TENANT + ["exactly-once"], "tenants"),
    "tenants-both": Variant("two tenants in VRFs: pe-dp + FRR on both sides", _BOTH, 4, False,
                            _TENANT + ["exactly-once"], "tenants"),
}
# What the demonstration shows, in this order.
DEMO = ["converge", "ping", "offloads", "tcp", "mtu", "exactly-once", "agreement", "kernel-idle",
        "underlay", "first-frame", "move", "sticky"]
DEMO_L3 = ["l3-converge", "l3-ping", "type5", "ecmp"]


# Run only when they are asked for.
ON_REQUEST = ("tenants", "tenants-both")


def run_variant(report, name, wanted, kernel=False, keep=False, show=None):
    """Builds one lab, runs the wanted scenarios of its list, removes it."""
    variant = VARIANTS[name]
    chosen = [BY_NAME[s] for s in variant.scenarios if not wanted or s in wanted]
    if not chosen:
        return
    kinds = dict(variant.kinds)
    title = variant.summary
    if kernel:
        if kinds["pe2"] == "pe-dp" or variant.split:
            report.add(name, f"{len(chosen)} scenarios", "skip", "needs pe-dp (--kernel)", 0)
            return
        kinds["pe1"] = "kernel"
        title += " (the kernel in pe1's place)"
    say()
    say(bold(f"== lab {name}: {title}"))
    topology = TOPOLOGIES[variant.topology]
    lab = topology.lab(
        name, kinds, topology.make_pe, variant.family, variant.split and not kernel)
    began = time.monotonic()
    try:
        try:
            lab.build()
            lab.start()
            if not chosen[0].name.endswith("converge"):
                topology.converged(lab)
        except Skip as why:
            report.add(name, f"{len(chosen)} scenarios", "skip", str(why), 0)
            return
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
                            "show evpn vni detail", "show ip route vrf all",
                            "show ipv6 route vrf all", "show bgp l2vpn evpn",
                            "show bgp l2vpn evpn vni 110", "show bgp nexthop"):
                lines.append("vtysh> " + command)
                try:
                    lines += pe.frr.vty(command).splitlines()
                except LabError as error:
                    lines.append(str(error))
            lines += ["frr.log> " + line for line in pe.frr.log(8)]
        for line in lines:
            say("     " + line)
