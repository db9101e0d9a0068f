"""The demonstration: the labs with pe-dp on pe1, told for a person."""
from . import plan
from .report import Report
from .shell import bold, say

ACTS = (("frr", "First act: one layer 2 network across two PEs", plan.DEMO),
        ("l3", "Second act: subnets, gateways and routes across three PEs", plan.DEMO_L3))


def main(_options):
    report = Report()
    say(__doc__)
    for variant, title, scenarios in ACTS:
        say()
        say(bold(f"#### {title}"))
        plan.run_variant(report, variant, set(scenarios),
                         show=show_tables if variant == "frr" else show_routes)
    failure = report.first_failure()
    report.summary()
    if failure:
        say(f"demo: FAIL ({failure[0]}: {failure[1]}: {failure[2]})")
        return 1
    say("demo: PASS")
    return 0


def show_tables(lab):
    """What pe-dp and the two FRRs say about the overlay."""
    pe1, pe2 = lab.pes["pe1"], lab.pes["pe2"]
    _pedp(pe1, ["status"], ["show", "fdb"], ["show", "flood"], ["show", "vteps"],
          ["show", "counters"], ["show", "drops"])
    _vtysh((pe1, "show evpn mac vni 110"), (pe2, "show evpn mac vni 110"),
           (pe2, "show bgp l2vpn evpn route type multicast"))


def show_routes(lab):
    """What pe-dp and FRR say about the tenant's routes, and the way from h1 to h4."""
    pe1, pe2, h1, h4 = lab.pes["pe1"], lab.pes["pe2"], lab.hosts["h1"], lab.hosts["h4"]
    for address in (h4.ip4, h4.ip6):
        command = ["traceroute", "-n", "-q", "1", "-w", "1", "-m", "4", address]
        say(bold("h1$ " + " ".join(command)))
        say(h1.namespace.run(command, check=False))
    _pedp(pe1, ["status"], ["show", "vrfs"], ["show", "routes"], ["show", "nexthops"],
          ["show", "neighbors"], ["show", "counters"], ["show", "drops"])
    _vtysh((pe1, "show ip route"), (pe1, "show evpn rmac vni all"),
           (pe2, "show bgp l2vpn evpn route type prefix"))


def _pedp(pe, *commands):
    say()
    for words in commands:
        say(bold(f"{pe.name}$ pe-dp " + " ".join(words)))
        say(pe.command(*words, check=False))


def _vtysh(*commands):
    for pe, command in commands:
        say(bold(f"{pe.name}$ vtysh -c '{command}'"))
        say(pe.frr.vty(command))
