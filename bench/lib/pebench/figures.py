"""Figures of benchmark results as SVG and PNG."""

import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  the backend comes first

from .budgets import value_of  # noqa: E402

# The same input gives the same file, so that a figure changes only with its data.
matplotlib.rcParams.update({
    "svg.hashsalt": "pe-dp", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True, "figure.constrained_layout.use": True,
})
OURS, OTHERS = "#1b6ca8", ["#c0c5cc", "#8f99a6", "#e0a458", "#b5838d", "#6b9080", "#a5a58d"]


def save(figure, folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return name


def _size(entries):
    for power, letter in ((1_000_000, "M"), (1000, "k")):
        if entries >= power and entries % power == 0:
            return f"{entries // power} {letter}"
    return str(entries)


# Journeys whose cost is a matter of the table's size.
BY_SIZE = ["l2-encap", "l2-decap", "l3-encap", "l3-decap", "l3-prefix", "inter-subnet"]


def cycles_by_size(document, folder):
    """Core cycles a packet of each journey at each table size; 64-byte frames, bursts of 32."""
    series = {}
    for row in document["rows"]:
        parts = row["id"].split("/")
        if (len(parts) == 5 and parts[0] in BY_SIZE and parts[2].isdecimal() and parts[3:] == ["64", "32"]
                and "cycles" in row["metrics"]):
            series.setdefault((parts[0], parts[1]), {})[int(parts[2])] = row["metrics"]["cycles"]
    if not series:
        return None
    sizes = sorted({size for points in series.values() for size in points})
    figure, axes = plt.subplots(figsize=(7.2, 3.8))
    for (journey, family), points in sorted(series.items()):
        at = [sizes.index(size) for size in sorted(points)]
        figures = [value_of(points[size]) for size in sorted(points)]
        axes.plot(at, figures, marker="o", markersize=4, color=f"C{BY_SIZE.index(journey)}",
                  linestyle="-" if family == "ipv4" else "--", label=f"{journey} {family}")
    axes.set_xticks(range(len(sizes)), [_size(size) for size in sizes])
    axes.set(xlabel="entries", ylabel="core cycles a packet", ylim=(0, None),
             title="Cost of a packet by table size (64-byte frames, bursts of 32)")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return save(figure, folder, "cycles")


def peers(document, folder):
    """Core cycles a packet of every device under test, case by case; logarithmic."""
    cases = {}
    for row in document["rows"]:
        case, _, name = row["id"].rpartition("/")
        # Of OVS's settings its default and its best of each case.
        if "cycles" in row["metrics"] and name != "testpmd-macswap" and (
                not name.startswith("ovs-") or name in ("ovs-default", "ovs-best")):
            cases.setdefault(case, {})[name] = value_of(row["metrics"]["cycles"])
    if not cases:
        return None
    names = list(dict.fromkeys(name for row in cases.values() for name in row))
    names.sort(key=lambda name: name != "pe-dp")
    figure, axes = plt.subplots(figsize=(7.2, 1 + 0.075 * len(names) * len(cases)))
    axes.margins(y=0.01)
    height = 0.85 / len(names)
    for index, name in enumerate(names):
        at = [number + index * height for number, row in enumerate(cases.values()) if name in row]
        values = [row[name] for row in cases.values() if name in row]
        color = OURS if name == "pe-dp" else OTHERS[(index - 1) % len(OTHERS)]
        axes.barh(at, values, height=height, label=name, color=color)
    axes.set_yticks([number + 0.4 for number in range(len(cases))], list(cases), fontsize=7)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="core cycles a packet (logarithmic)",
             title="The same traffic through pe-dp and its peers")
    axes.legend(fontsize=7)
    return save(figure, folder, "peers")


def histogram(document, folder, name="stalls"):
    """Poll gaps of a worker, with and without a busy writer: how many gaps are longer than so much."""
    series = {row["id"]: row["histogram"] for row in document["rows"] if row.get("histogram")}
    if not series:
        return None
    figure, axes = plt.subplots(figsize=(7.2, 3.2))
    for index, (label, bins) in enumerate(sorted(series.items())):
        bins = sorted((float(edge), count) for edge, count in bins)
        left = sum(count for _, count in bins)
        edges, more = [], []
        for edge, count in bins:
            if left > 0:
                edges.append(edge)
                more.append(left)
            left -= count
        axes.step(edges, more, where="post", label=label, color=f"C{index}")
    axes.set(xscale="log", yscale="log", xlabel="gap between two polls, µs", ylabel="gaps at least as long",
             title="What a writer at full speed costs the readers")
    axes.axvline(10, color="#c1121f", linewidth=0.8, linestyle=":")
    axes.legend(fontsize=7)
    return save(figure, folder, name)


def rates(document, folder, name="rates"):
    """Rates a second of every row that has one."""
    rows = [(row["id"], value_of(row["metrics"]["perSecond"])) for row in document["rows"]
            if "perSecond" in row["metrics"]]
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(7.2, 0.9 + 0.24 * len(rows)))
    axes.barh(range(len(rows)), [value for _, value in rows], color=OURS)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="a second (logarithmic)", title="Control plane: messages and changes")
    return save(figure, folder, name)


def scaling(document, folder):
    """Packets a second with one worker and with two."""
    series = {}
    for row in document["rows"]:
        parts = row["id"].split("/")
        if parts[0] == "scaling" and "mpps" in row["metrics"] and re.fullmatch(r"workers=\d+", parts[-1]):
            journey = "/".join(parts[1:-1])
            series.setdefault(journey, {})[int(parts[-1].split("=")[1])] = value_of(row["metrics"]["mpps"])
    if not series:
        return None
    figure, axes = plt.subplots(figsize=(5, 3))
    for journey, points in sorted(series.items()):
        axes.plot(sorted(points), [points[count] for count in sorted(points)], marker="o", label=journey)
    axes.set(xlabel="workers", ylabel="million packets a second", ylim=(0, None), title="Several workers")
    axes.set_xticks(sorted({count for points in series.values() for count in points}))
    axes.legend(fontsize=7)
    return save(figure, folder, "scaling")
