"""The generated parts of docs/performance.md: blocks between markers, so that prose stays as it is written."""

import re

from .budgets import PASS, interval, value_of
from .results import table

BEGIN, END = "<!-- begin generated: {} -->", "<!-- end generated: {} -->"


class MarkerError(ValueError):
    """A marker that is missing or stands twice."""


def replace_block(text, name, body):
    """`text` with what stands between the markers of `name` replaced by `body`."""
    begin, end = BEGIN.format(name), END.format(name)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise MarkerError(f"docs/performance.md must have `{begin}` and `{end}` exactly once")
    pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.S)
    return pattern.sub(lambda _: f"{begin}\n{body.strip()}\n{end}", text)


def number(value, unit=""):
    """A figure for people: three significant digits or so, its unit behind it."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1e6:
        text = f"{value / 1e6:.2f} M"
    elif size >= 10_000:
        text = f"{value / 1e3:.0f} k"
    elif size >= 100:
        text = f"{value:.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    else:
        text = f"{value:.2f}"
    return f"{text} {unit}".strip()


def budget_table(verdicts):
    rows = []
    for verdict in verdicts:
        sign = "≤" if verdict["isUpper"] else "≥"
        word = verdict["verdict"] if verdict["verdict"] == PASS else f"**{verdict['verdict']}**"
        why = "; ".join(text for text in (verdict["why"], verdict["note"]) if text)
        rows.append([
            verdict["title"], f"{sign} {number(verdict['limit'], verdict['unit'])}",
            number(verdict["figure"], verdict["unit"]), word + (f": {why}" if why else ""), f"`{verdict['row']}`",
        ])
    return table(["what", "budget", "measured", "verdict", "row"], rows)


def conditions(result_lines, command):
    lines = [f"`{command}`", ""] + [f"* {line}" for line in result_lines]
    return "\n".join(lines)


# Metrics in the order of a reader's interest.
ORDER = ["cycles", "tsc", "instructions", "cacheMisses", "mpps", "ratio", "perSecond", "microseconds",
         "bytesPerEntry", "seconds"]


def rows_table(document, rows=None):
    """All rows of a result: one column for each metric that occurs; median, with the range where it is wide."""
    rows = document["rows"] if rows is None else rows
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    names.sort(key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    names = [name for name in names if any(name in row["metrics"] for row in rows)]

    def cell(metric):
        if metric is None:
            return None
        text = number(value_of(metric))
        if interval(metric):
            return f"{text} ({number(metric['low'])} to {number(metric['high'])})"
        if "median" in metric and metric["median"] and (metric["max"] - metric["min"]) / metric["median"] > 0.05:
            text += f" ({number(metric['min'])} to {number(metric['max'])})"
        return text

    units = {name: next(row["metrics"][name].get("unit", "") for row in rows if name in row["metrics"])
             for name in names}
    headings = ["row"] + [f"{name} ({units[name]})" if units[name] else name for name in names]
    return table(headings, [[f"`{row['id']}`"] + [cell(row["metrics"].get(name)) for name in names] for row in rows])
