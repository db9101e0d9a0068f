"""Budgets of bench/budgets.json against measured rows: pass, fail, not measured, or too noisy to tell."""

import fnmatch
import json

from .machine import ROOT
from .results import SPREAD_LIMIT, spread

PASS, FAIL, NOISY, MISSING = "pass", "fail", "too noisy to tell", "not measured"


class BudgetError(ValueError):
    """A budget that makes no sense; the text names its place and what is expected."""


def load_budgets(path=None):
    """The list of bench/budgets.json, each entry checked."""
    path = path or ROOT / "bench" / "budgets.json"
    entries = json.loads(path.read_text())["budgets"]
    for number, entry in enumerate(entries):
        place = f"{path.name}: budgets[{number}]"
        for key in ("title", "bench", "row", "metric"):
            if not isinstance(entry.get(key), str):
                raise BudgetError(f"{place}: \"{key}\" must be a text")
        if ("max" in entry) == ("min" in entry):
            raise BudgetError(f"{place}: needs either \"max\" or \"min\"")
        unknown = set(entry) - {"title", "bench", "row", "metric", "max", "min", "over", "unit", "note"}
        if unknown:
            raise BudgetError(f"{place}: unknown key \"{sorted(unknown)[0]}\"")
    return entries


def value_of(metric):
    """A metric's figure: the median of repetitions, or the only value."""
    return metric["median"] if "median" in metric else metric["value"]


def interval(metric):
    """The (low, high) that a metric lies in with 95 %, for one that says so; else None."""
    return (metric["low"], metric["high"]) if "low" in metric and "high" in metric else None


def _judge_interval(limit, isUpper, low, high):
    """The verdict when the whole interval is on one side of the limit; NOISY with the reason when it is not."""
    if high <= limit if isUpper else low >= limit:
        return PASS, ""
    if low > limit if isUpper else high < limit:
        return FAIL, ""
    return NOISY, f"it lies between {low:.3g} and {high:.3g} (95 %)"


def _rows(document, pattern, metric):
    return [row for row in document["rows"]
            if fnmatch.fnmatchcase(row["id"], pattern) and metric in row["metrics"]]


def _pairs(entry, document):
    """(row, figure, spread) of each row that the budget speaks of; of a ratio when it has `over`."""
    for row in _rows(document, entry["row"], entry["metric"]):
        metric = row["metrics"][entry["metric"]]
        figure, wide = value_of(metric), spread(metric)
        if "over" in entry:
            # {"over": ["ipv6", "ipv4"]}: the same row with one word of its id replaced is the base; with two
            # words more both are.
            base_id = row["id"]
            for old, new in zip(entry["over"][::2], entry["over"][1::2]):
                base_id = base_id.replace(old, new)
            bases = _rows(document, base_id, entry["metric"])
            if base_id == row["id"] or not bases:
                continue
            base = bases[0]["metrics"][entry["metric"]]
            figure, wide = figure / max(value_of(base), 1e-9), max(wide, spread(base))
        yield row, figure, wide


def judge(entry, document):
    """One budget: {"title", "limit", "figure", "row", "verdict", "why"}; of several rows the worst counts.

    A metric with a 95 % interval meets its limit when the whole interval does.
    """
    limit, isUpper = (entry["max"], True) if "max" in entry else (entry["min"], False)
    verdict = {"title": entry["title"], "limit": limit, "isUpper": isUpper, "unit": entry.get("unit", ""),
               "figure": None, "row": entry["row"], "verdict": MISSING, "why": "", "note": entry.get("note", "")}
    if document is None:
        return {**verdict, "why": f"no result of bench/{entry['bench']}"}
    pairs = list(_pairs(entry, document))
    if not pairs:
        return {**verdict, "why": "no such row"}
    row, figure, wide = (max if isUpper else min)(pairs, key=lambda pair: pair[1])
    load = document.get("load") or {"quiet": False, "reasons": ["its load was not recorded"]}
    verdict.update(figure=figure, row=row["id"])
    if not load["quiet"]:
        return {**verdict, "verdict": NOISY, "why": "; ".join(load["reasons"])}
    if row.get("noisy"):
        return {**verdict, "verdict": NOISY, "why": row["noisy"]}
    if wide > SPREAD_LIMIT:
        return {**verdict, "verdict": NOISY, "why": f"repetitions are {wide:.0%} apart"}
    bounds = interval(row["metrics"][entry["metric"]])
    if bounds and "over" not in entry:
        word, why = _judge_interval(limit, isUpper, *bounds)
        return {**verdict, "verdict": word, "why": why}
    met = figure <= limit if isUpper else figure >= limit
    return {**verdict, "verdict": PASS if met else FAIL}
