"""The demonstration: the lab with pe-dp on pe1, told for a person."""
from . import plan
from .report import Report
from .shell import bold, say


def main(_options):
    report = Report()
    say(__doc__)
    plan.run_variant(report, "frr", set(plan.DEMO), show=show_tables)
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
    say()
    for words in (["status"], ["show", "fdb"], ["show", "flood"], ["show", "vteps"],
                  ["show", "counters"], ["show", "drops"]):
        say(bold("pe1$ pe-dp " + " ".join(words)))
        say(pe1.command(*words, check=False))
    for pe, command in ((pe1, "show evpn mac vni 110"), (pe2, "show evpn mac vni 110"),
                        (pe2, "show bgp l2vpn evpn route type multicast")):
        say(bold(f"{pe.name}$ vtysh -c '{command}'"))
        say(pe.frr.vty(command))
