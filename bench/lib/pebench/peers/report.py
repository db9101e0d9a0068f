"""The peers' table for people: one line a case, cycles a packet, and how often pe-dp's they are."""

from ..budgets import value_of
from ..results import table

# Columns in this order; others behind them.
ORDER = ["pe-dp", "c-forwarder", "ovs-default", "ovs-best", "kernel", "testpmd-io", "testpmd-macswap"]


def peer_table(document):
    """Markdown: cells are core cycles a packet, behind them the peer's cycles over pe-dp's."""
    cases = {}
    for row in document["rows"]:
        case, _, subject = row["id"].rpartition("/")
        if "cycles" in row["metrics"]:
            cases.setdefault(case, {})[subject] = row
    present = {subject for rows in cases.values() for subject in rows}
    # The settings of OVS are in the JSON; its default and its best of each case are what one compares with.
    others = sorted(subject for subject in present if subject not in ORDER and not subject.startswith("ovs-"))
    columns = [subject for subject in ORDER if subject in present] + others

    def cell(rows, subject):
        row = rows.get(subject)
        if row is None:
            return None
        text = f"{value_of(row['metrics']['cycles']):.0f}"
        if "ratio" in row["metrics"]:
            text += f" ({value_of(row['metrics']['ratio']):.2f}×)"
        return text + (f" {row['setting']}" if "setting" in row else "")

    lines = [[case, *[cell(rows, subject) for subject in columns]] for case, rows in cases.items()]
    return table(["case/flows", *columns], lines)
