"""Results of a benchmark: one JSON document of rows, and a table for people."""

import json
import os
import sys
import time
from pathlib import Path

from .machine import ROOT, describe_machine, versions

SCHEMA = 1
# A row whose repetitions are farther apart than this, (max − min) / median, supports no verdict.
SPREAD_LIMIT = 0.15


class Result:
    """Collects rows and writes `out/bench/<bench>.json` (or another place).

    A row is {"id": "l2-encap/ipv4/100000/64/32", ...what was varied..., "metrics": {name: metric}};
    `noisy` among what was varied says why the row supports no verdict;
    a metric is {"median", "min", "max", "unit"} of alternated repetitions, or {"value", "unit"} of one
    measurement. Names and units are in docs/benchmarks.md.
    """

    def __init__(self, bench, command=None):
        self.document = {
            "schema": SCHEMA, "bench": bench, "command": command or " ".join(sys.argv),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": describe_machine(), "versions": versions(), "load": None, "rows": [], "notes": [],
        }

    def row(self, identifier, metrics, **varied):
        self.document["rows"].append({"id": identifier, **varied, "metrics": metrics})

    def note(self, text):
        """A peer that is absent, a counter that the machine does not have: what a reader must know."""
        self.document["notes"].append(text)

    def write(self, load, path=None):
        """`load` is a LoadWatch's report. The file is replaced in one step."""
        self.document["load"] = load
        path = Path(path) if path else ROOT / "out" / "bench" / f"{self.document['bench']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(self.document, indent=1) + "\n")
        partial.replace(path)
        return path

    def headline(self):
        """Lines that say on what and under which load this was measured."""
        machine, load = self.document["machine"], self.document["load"] or {}
        caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
        lines = [
            f"{machine['cpu']} ({machine['class']}), {machine['cores']} cores, {caches}, "
            f"kernel {machine['kernel']}, {machine['hugepages2M']} huge pages, counter {machine['counter']}",
            ", ".join(f"{name} {value}" for name, value in self.document["versions"].items() if value),
        ]
        if load:
            verdict = "quiet" if load["quiet"] else "NOISY: " + "; ".join(load["reasons"])
            lines.append(
                f"{load['seconds']} s, load {load['loadAverage'][0]} to {load['loadAverage'][1]}, "
                f"others {load['foreignCores']} cores, stolen {load['stolenCores']}: {verdict}")
        return lines + self.document["notes"]


def spread(metric):
    """(max − min) / median of a metric; 0 for a single value."""
    median = metric.get("median")
    return (metric["max"] - metric["min"]) / median if median else 0.0


def table(headings, rows):
    """A Markdown table; cells are texts or numbers (one decimal place)."""
    def text(cell):
        return f"{cell:.1f}" if isinstance(cell, float) else "–" if cell is None else str(cell)

    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join(lines + ["| " + " | ".join(text(cell) for cell in row) + " |" for row in rows])
