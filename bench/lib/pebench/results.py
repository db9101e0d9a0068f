"""Results of a benchmark: one JSON document of rows, and a table for people."""

import json
import math
import os
import shlex
import sys
import time
from pathlib import Path

from .machine import ROOT, describe_machine, versions

SCHEMA = 1
# A row whose repetitions are farther apart than this, (max − min) / median, supports no verdict.
SPREAD_LIMIT = 0.15


def partial_of(path):
    return path.with_name(f".{path.name}.{os.getpid()}")


def destination(bench, out, smoke):
    """Where a result will be written; ends the program now when that is impossible, not after minutes of work."""
    path = Path(out) if out else ROOT / "out" / "bench" / ("smoke" if smoke else ".") / f"{bench}.json"
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_of(path).touch()
        partial_of(path).unlink()
    except OSError as error:
        sys.exit(f"{bench}: {path} cannot be written: {error.strerror or error}; name another file with --out")
    return path


def command_line(arguments):
    """The command that repeats a run, from the repository's folder: without where its result goes."""
    words, rest = [f"bench/{Path(arguments[0]).name}"], iter(arguments[1:])
    for word in rest:
        if word == "--out":
            next(rest, None)
        elif word != "--json" and not word.startswith("--out="):
            words.append(word)
    return shlex.join(words)


class Result:
    """Collects rows and writes `out/bench/<bench>.json` (or another place).

    A row is {"id": "l2-encap/ipv4/100000/64/32", ...what was varied..., "metrics": {name: metric}};
    `noisy` among what was varied says why the row supports no verdict;
    a metric is {"median", "min", "max", "unit"} of alternated repetitions, or {"value", "unit"} of one
    measurement, with "low" and "high" when it has a 95 % interval. Names and units are in docs/benchmarks.md.
    """

    def __init__(self, bench, out=None, smoke=False):
        """Results go to `out`, or below out/bench, those of a smoke run apart. Ends the program when they cannot."""
        self.path = destination(bench, out, smoke)
        self.document = {
            "schema": SCHEMA, "bench": bench, "command": command_line(sys.argv),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": describe_machine(), "versions": versions(), "load": None, "rows": [], "notes": [],
        }

    def row(self, identifier, metrics, **varied):
        self.document["rows"].append({"id": identifier, **varied, "metrics": metrics})

    def note(self, text):
        """A peer that is absent, a counter that the machine does not have: what a reader must know."""
        self.document["notes"].append(text)

    def write(self, load):
        """`load` is a LoadWatch's report. The file is replaced in one step."""
        self.document["load"] = load
        partial = partial_of(self.path)
        try:
            partial.write_text(json.dumps(self.document, indent=1) + "\n")
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            sys.exit(f"{self.document['bench']}: {self.path} is not written: {error}")
        return self.path

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


class ResultError(ValueError):
    """A document that is no result; the text names the place and what is expected there."""


def _need(fields, kinds, place):
    if not isinstance(fields, dict):
        raise ResultError(f"{place} must be an object")
    for name, kind in kinds.items():
        found = fields.get(name)
        if not isinstance(found, kind) or isinstance(found, bool) != (kind is bool):
            raise ResultError(f"{place}: \"{name}\" is missing, or not what bench commands write")


FIGURE = (int, float)


def _check_metric(metric, place):
    if not isinstance(metric, dict):
        raise ResultError(f"{place} must be an object")
    names = ["median", "min", "max"] if "median" in metric else ["value"]
    _need(metric, dict.fromkeys(names, FIGURE), place)
    if not all(math.isfinite(metric[name]) for name in names):
        raise ResultError(f"{place} is no finite number")


def checked(document, bench):
    """`document`, a result read from a file, when all that readers of it use is there; else ResultError."""
    _need(document, {"schema": int, "bench": str, "command": str, "started": str, "machine": dict, "versions": dict,
                     "rows": list, "notes": list}, "the result")
    if document["schema"] != SCHEMA or document["bench"] != bench:
        raise ResultError(f"it is of bench/{document['bench']}, schema {document['schema']}; "
                          f"expected bench/{bench}, schema {SCHEMA}")
    _need(document["machine"], {"class": str, "cpu": str, "cores": int, "caches": dict, "kernel": str,
                                "hugepages2M": int, "counter": str}, "machine")
    _check_load(document.get("load"))
    if not all(isinstance(note, str) for note in document["notes"]):
        raise ResultError("notes must be texts")
    seen = set()
    for number, row in enumerate(document["rows"]):
        _need(row, {"id": str, "metrics": dict}, f"rows[{number}]")
        if row["id"] in seen:
            raise ResultError(f"rows[{number}]: {row['id']} is there twice")
        seen.add(row["id"])
        for name, metric in row["metrics"].items():
            _check_metric(metric, f"rows[{number}] ({row['id']}): {name}")
    return document


def _check_load(load):
    """None (not recorded: then nothing gets a verdict) or a LoadWatch's report."""
    if load is None:
        return
    _need(load, {"seconds": FIGURE, "loadAverage": list, "foreignCores": FIGURE, "stolenCores": FIGURE,
                 "quiet": bool, "reasons": list}, "load")
    if len(load["loadAverage"]) != 2 or not all(isinstance(reason, str) for reason in load["reasons"]):
        raise ResultError("load: \"loadAverage\" must be two numbers, \"reasons\" texts")


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
