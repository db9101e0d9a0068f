"""Thresholds on what a packet costs: which apply to a machine, and what a measurement means beside them."""

import json

# Rows that stand for every path of a burst. Small tables: instructions do not depend on their size, and
# valgrind fills them slowly.
ROWS = [
    *[f"{journey}/{underlay}/1000/64/32"
      for journey in ("l2-encap", "l2-decap", "l3-encap", "l3-decap") for underlay in ("ipv4", "ipv6")],
    "l2-encap/ipv4/1000/64/32/vnis=64",
    "l2-encap/ipv4/1000/64/8",
    "l3-encap/ipv4/1000/64/32/vrfs=64",
    "l3-prefix/ipv4/1000/64/32",
    "inter-subnet/ipv4/1000/64/32",
    "flood-copy/ipv4/8/64/32",
    "arp-reply/ipv4/1000/64/32",
    "punt/ipv4/1/64/32",
    "drop/ipv4/1/64/32/unknown-vni",
]
# A path in C over the same tables: what the machine itself makes of the same work now.
REFERENCE = "twin/l2-encap/ipv4/1000/64/32"
# By the pages that packets lie in (bench-cycles' "pages"): each kind has figures of its own.
CYCLES = {"reserved": "cycles", "transparent": "cyclesTransparentPages", "small": "cyclesSmallPages"}
# A figure may rise to this much of its threshold. Instructions repeat to a few in a thousand; cycles depend
# on the machine's mood even when nobody else is there.
LIMITS = {"instructions": 1.05, **{metric: 1.30 for metric in CYCLES.values()}}
# The reference may rise as far; beyond it the machine is slower now, not pe-dp.
REFERENCE_LIMIT = 1.10
DEFAULT = "default"


class GateError(RuntimeError):
    """Thresholds that cannot be used; the text says why and what to do."""


def load(path):
    """The thresholds file; `{"classes": {}}` where there is none yet."""
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {"classes": {}}
    except ValueError as error:
        raise GateError(f"{path} is no JSON ({error}): restore it from version control") from error
    classes = document.get("classes") if isinstance(document, dict) else None
    if not isinstance(classes, dict) or not all(
            isinstance(entry, dict) and isinstance(entry.get("rows"), dict) for entry in classes.values()):
        raise GateError(f"{path} has no classes with rows: restore it, or write it anew with bench/gate --update")
    for name, entry in classes.items():
        for row, metrics in entry["rows"].items():
            if not isinstance(metrics, dict) or not all(
                    type(found) in (int, float) and found > 0 for found in metrics.values()):
                raise GateError(f"{path}: class {name}: {row} must map metrics to figures above 0: restore it")
    return document


def choose(document, machine_class, methods):
    """Which class's thresholds apply, and by which of the possible `methods` to measure: (class, method).

    A class is measured as it was recorded where that is possible. Without thresholds for the machine's own
    class those of the default class apply, whose instructions are counted by callgrind and so the same on
    every machine of the architecture.
    """
    classes = document["classes"]
    name = machine_class if machine_class in classes else DEFAULT
    if name not in classes:
        raise GateError("there are no thresholds: run bench/gate --update and commit bench/thresholds.json")
    recorded = classes[name].get("method")
    return name, recorded if recorded in methods else methods[0]


def compare(thresholds, measured, judge_cycles):
    """What a measurement means: a list of {"row", "metric", "old", "new", "verdict", "text"}.

    Both arguments are {row: {metric: figure}}. Verdicts: pass; fail (it rose above its limit, vanished, or
    has no threshold); lower (fell as far: a chance to lower the threshold); too noisy (cycles that rose
    while `judge_cycles` is false).
    """
    findings = []

    def add(row, metric, old, new, verdict, text=""):
        findings.append({"row": row, "metric": metric, "old": old, "new": new, "verdict": verdict, "text": text})

    for row in list(dict.fromkeys([*thresholds, *measured])):
        old_metrics, new_metrics = thresholds.get(row, {}), measured.get(row, {})
        for metric, limit in LIMITS.items():
            old, new = old_metrics.get(metric), new_metrics.get(metric)
            if old is None and new is None:
                continue
            if new is None:
                # Cycles are measured only where they are of use, and with the pages there are.
                if metric == "instructions":
                    add(row, metric, old, None, "fail", f"{row} is no longer measured (threshold {old} {metric})")
            elif old is None:
                if metric == "instructions":
                    add(row, metric, None, new, "fail", f"{row} has no threshold ({new} {metric} measured)")
            elif new > old * limit:
                rise = (f"{row}: {old} {metric} a packet became {new}, {new / old - 1:+.1%}; "
                        f"the limit is {limit - 1:+.0%}")
                if metric != "instructions" and not judge_cycles:
                    add(row, metric, old, new, "too noisy", rise)
                else:
                    add(row, metric, old, new, "fail", rise)
            elif new < old / limit:
                add(row, metric, old, new, "lower",
                    f"{row}: {old} {metric} a packet became {new}, {new / old - 1:+.1%}")
            else:
                add(row, metric, old, new, "pass")
    if not findings:
        raise GateError("nothing was compared: there are neither thresholds nor measured rows")
    return findings


def risen(thresholds, measured):
    """Rows whose cycles are above their limits: those to be measured again before they are called dearer."""
    return [row for row, metrics in measured.items() if any(
        metrics.get(metric, 0) > thresholds.get(row, {}).get(metric, float("inf")) * LIMITS[metric]
        for metric in CYCLES.values())]


def reference_fault(entry, metric, figure):
    """Why the cycles of a measurement say nothing: the path in C, which nobody changed, is dearer, too. Or None."""
    old = entry.get("reference", {}).get(metric)
    if old and figure and figure > old * REFERENCE_LIMIT:
        return f"{REFERENCE}, the same path in C, took {figure} {metric} instead of {old}: the machine is slower now"
    return None


def failures(findings):
    return [finding["text"] for finding in findings if finding["verdict"] == "fail"]


def updated(document, machine_class, method, rows, versions, reference=None):
    """The thresholds with those of this machine's class replaced; callgrind's become the default ones, too."""
    about = {key: versions[key] for key in ("swift", "dpdk") if versions.get(key)}

    def entry(metrics):
        return {"method": method, "versions": about, "rows": {
            row: {metric: found[metric] for metric in metrics if metric in found} for row, found in rows.items()}}

    classes = dict(document["classes"])
    classes[machine_class] = entry(LIMITS)
    if reference:
        classes[machine_class]["reference"] = reference
    if method == "callgrind" or DEFAULT not in classes:
        classes[DEFAULT] = entry(["instructions"])
    return {"about": "Written by bench/gate --update; docs/benchmarks.md explains it.",
            "classes": {name: classes[name] for name in sorted(classes)}}
