"""What a search found, as rows of a result and as text."""

from pebench import table

from .trials import merged, percentile

SHARES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))


def latency_metrics(lane):
    """Percentiles of one direction in microseconds, from a generator's latency answer or merged ones."""
    histogram = merged([lane["histogram"]])
    metrics = {}
    for name, share in SHARES:
        value = percentile(histogram, share)
        if value is not None:
            # A bucket's upper edge is no more than the largest value seen.
            metrics[name] = {"value": round(min(value, lane["max"]) / 1000, 3), "unit": "us"}
    metrics["max"] = {"value": round(lane["max"] / 1000, 3), "unit": "us"}
    metrics["min"] = {"value": round(lane["min"] / 1000, 3), "unit": "us"}
    return metrics


def row_id(args, traffic):
    family = "ipv6" if traffic.ipv6 else "ipv4"
    return f"{args.journey}/{family}/{traffic.macs}/{args.frame}"


def mpps(value):
    return None if value is None else round(value / 1e6, 6)


def add_rows(result, args, traffic, found, latencies):
    """A row for each goal, and one for each latency load and direction. Rates are of all directions together."""
    directions = len(traffic.active())
    varied = {"journey": args.journey, "family": "ipv6" if traffic.ipv6 else "ipv4", "entries": traffic.macs,
              "flows": traffic.flows, "vnis": traffic.vnis, "frame": args.frame, "directions": directions}
    for entry in found:
        metrics = {}
        if entry.low is not None:
            metrics["mpps"] = {"value": mpps(entry.low * directions), "unit": "Mpps"}
        if entry.high is not None:
            metrics["upper"] = {"value": mpps(entry.high * directions), "unit": "Mpps"}
        result.row(f"{row_id(args, traffic)}/{entry.goal.name}", metrics, **varied, lossRatio=entry.goal.loss_ratio,
                   complete=entry.complete, generatorWasTheLimit=entry.limited, doubtful=entry.doubtful, why=entry.why)
    for share, trial in latencies:
        for name, lane in trial.latency.items():
            if lane["count"]:
                result.row(f"{row_id(args, traffic)}/latency/{share}/{name}", latency_metrics(lane), **varied,
                           percentOfNDR=share, mppsOffered=mpps(trial.load), frames=lane["count"],
                           lost=trial.lost, disturbed=trial.disturbances)


def text(args, traffic, found, latencies, statistics):
    """The result for people."""
    directions = len(traffic.active())
    rows = []
    for entry in found:
        remark = "" if entry.complete else f"unfinished: {entry.why}"
        if entry.high is None and entry.low is not None:
            remark = "the generator was the limit" if entry.limited else "nothing higher was offered; see --max-rate"
        elif entry.doubtful:
            remark = "the machine was too busy to tell: disturbances may have cost all that was lost"
        elif entry.low is None and entry.complete:
            remark = entry.why
        rows.append([entry.goal.name.upper(), f"{entry.goal.loss_ratio * 100:g} %", number(entry.low, directions),
                     number(entry.high, directions), gigabits(entry.low, traffic), remark])
    lines = [table(["", "loss", "Mpps", "next is too much", "Gbit/s", ""], rows)]
    rows = [[f"{share} %", name, *latency_cells(lane), remarks(trial)]
            for share, trial in latencies for name, lane in trial.latency.items()]
    if rows:
        lines += ["", "Latency in microseconds, generator to generator:", table(
            ["of NDR", "direction", "min", "50 %", "90 %", "99 %", "99.9 %", "max", ""], rows)]
    seen = ", ".join(f"{reason} {count} times" for reason, count in sorted(statistics.reasons.items()))
    lines += ["", f"{statistics.trials} trials, {statistics.seconds:.1f} s of traffic; {statistics.disturbed} not "
              "believed" + (f" ({seen})" if seen else "")
              + f", {statistics.accepted_disturbed} times the best of such trials had to decide"]
    return "\n".join(lines)


def latency_cells(lane):
    metrics = latency_metrics(lane) if lane["count"] else {}
    return [metrics.get(column, {}).get("value") for column in ("min", "p50", "p90", "p99", "p99.9", "max")]


def remarks(trial):
    """What a reader of latencies must know: frames that have none, and what kept anybody off a CPU."""
    lost = [f"{trial.lost} of {trial.offered} frames lost"] if trial.lost else []
    return "; ".join(lost + (["disturbed: " + "; ".join(trial.disturbances)] if trial.disturbances else []))


def number(load, directions):
    return "–" if load is None else f"{load * directions / 1e6:.3f}"


def gigabits(load, traffic):
    """What the generator sends on the wire, preambles and gaps included."""
    if load is None:
        return "–"
    return f"{sum(traffic.wire_bytes(direction) for direction in traffic.active()) * 8 * load / 1e9:.2f}"
