"""Which gaps between a worker's polls the writer caused: what explains each, and how sure the difference is."""

import bisect
import math
import random

LIMIT = 10.0            # microseconds: from here on a gap is a stall
DUMMY, BUSY = 1, 2      # phases in the program's answer
CONFIDENCE_Z = 1.959964  # of the two-sided 95 % interval
# Ticks of kernels and hypervisors, in microseconds: CONFIG_HZ of 1000, 500, 300, 250, 200 and 100.
PERIODS = [4000.0, 10000.0, 1000.0, 10000 / 3, 2000.0, 5000.0]
TOLERANCE = 40.0        # how much too early or too late a tick may come
NEIGHBOURS = 25         # ticks before and behind that are looked at
PART = 0.25             # of these must have a gap, too, and at least ENOUGH of them
ENOUGH = 3
CAUSES = ["interrupt", "switched", "clock", "unexplained"]


class Clocks:
    """Tells whether a moment is a tick of one of the machine's clocks.

    A moment is one when at the same phase of a period, before and behind it, a good part of the moments had
    long turns in the twin's windows. These say nothing of the writer, so what it causes does not excuse itself.
    """

    def __init__(self, turns, windows):
        self.marks = sorted(turn[1] for turn in turns if turn[0] == DUMMY)
        twin = sorted((begin, end) for phase, begin, end, _ in windows if phase == DUMMY)
        self.begins = [begin for begin, _ in twin]
        self.ends = [end for _, end in twin]

    def _seen(self, time):
        """None outside the twin's windows, else whether a long turn began then."""
        window = bisect.bisect_right(self.begins, time) - 1
        if window < 0 or time > self.ends[window]:
            return None
        place = bisect.bisect_left(self.marks, time - TOLERANCE)
        return place < len(self.marks) and self.marks[place] <= time + TOLERANCE

    def is_tick(self, time):
        for period in PERIODS:
            asked = found = 0
            for step in range(1, NEIGHBOURS + 1):
                for there in (time - step * period, time + step * period):
                    seen = self._seen(there)
                    if seen is not None:
                        asked += 1
                        found += seen
            if found >= ENOUGH and found >= PART * asked:
                return True
        return False


def causes(turns, clocks, sees_interrupts):
    """[(phase, begin, microseconds, cause)] of the turns that were stalls.

    `interrupt`: the kernel was entered, there was no page fault, and no other CPU has sent an interrupt since the
    stall before this: a device's or the clock's. `switched`: the kernel ran another thread. `clock`: at a tick of
    the machine's, of the hypervisor in most cases. What another CPU's interrupt or a page fault may explain
    stays unexplained: a writer can cause both.
    """
    found = []
    for phase, begin, length, interrupted, switches, faults, sent in turns:
        if length <= LIMIT:
            continue
        if switches:
            cause = "switched"
        elif sees_interrupts and interrupted and not faults and sent == 0:
            cause = "interrupt"
        elif not faults and sent == 0 and clocks.is_tick(begin):
            cause = "clock"
        else:
            cause = "unexplained"
        found.append((int(phase), begin, length, cause))
    return found


def watched_share(windows, clocks, phase, samples=2000):
    """Which part of a phase's time is not at a tick: there alone a gap counts."""
    spans = [(begin, end) for kind, begin, end, _ in windows if kind == phase]
    if not spans:
        return 1.0
    source = random.Random(1)
    chosen = source.choices(spans, weights=[max(end - begin, 1e-9) for begin, end in spans], k=samples)
    ticks = sum(clocks.is_tick(source.uniform(begin, end)) for begin, end in chosen)
    return 1 - ticks / samples


def poisson_cdf(count, mean):
    """P(X <= count) of a Poisson variable."""
    if mean <= 0:
        return 1.0
    term = total = math.exp(-mean)
    if term == 0.0:
        return 0.5 * math.erfc((mean - count - 0.5) / math.sqrt(2 * mean))
    for number in range(1, count + 1):
        term *= mean / number
        total += term
    return min(1.0, total)


def poisson_interval(count, tail=0.025):
    """The exact (Garwood) interval of a Poisson mean of which `count` were seen; each tail has `tail`."""
    def solve(is_above):
        low, high = 0.0, count + 10 * math.sqrt(count + 1) + 10
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (low, middle) if is_above(middle) else (middle, high)
        return (low + high) / 2

    low = 0.0 if count == 0 else solve(lambda mean: 1 - poisson_cdf(count - 1, mean) > tail)
    return low, solve(lambda mean: poisson_cdf(count, mean) < tail)


def dispersion(pairs, rate):
    """How much more the differences of window pairs vary than Poisson's would; at least 1.

    `pairs`: (count, seconds, twin's count, twin's seconds); `rate`: a second, of both together.
    """
    if len(pairs) < 20 or rate <= 0:
        return 1.0
    total = 0.0
    mean = sum(a - b for a, _, b, _ in pairs) / len(pairs)
    for count, seconds, other, other_seconds in pairs:
        total += (count - other - mean) ** 2 / (rate * (seconds + other_seconds))
    return max(1.0, total / (len(pairs) - 1))


def difference(count, seconds, other, other_seconds, factor=1.0):
    """(difference, low, high) of two rates a second, with its 95 % interval.

    Each rate has its exact Poisson interval, and the two are joined as Zou and Donner do (MOVER), which holds for
    few and for no events, too. `factor` is the dispersion: the interval is as much wider as its root.
    """
    rate, other_rate = count / seconds, other / other_seconds
    low, high = (bound / seconds for bound in poisson_interval(count))
    other_low, other_high = (bound / other_seconds for bound in poisson_interval(other))
    wide = math.sqrt(factor)
    found = rate - other_rate
    return (found, found - wide * math.hypot(rate - low, other_high - other_rate),
            found + wide * math.hypot(high - rate, other_rate - other_low))


def window_pairs(windows, stalls, shares):
    """(count, seconds, twin's count, twin's seconds) of each pair of windows, which follow one another."""
    ordered = sorted(windows, key=lambda window: window[1])
    begins = [window[1] for window in ordered]
    counts = [0] * len(ordered)
    for phase, begin, _ in stalls:
        place = bisect.bisect_right(begins, begin) - 1
        if place >= 0 and ordered[place][0] == phase:
            counts[place] += 1
    pairs = []
    for place in range(0, len(ordered) - 1, 2):
        sides = {}
        for window, count in zip(ordered[place:place + 2], counts[place:place + 2]):
            sides[int(window[0])] = (count, max((window[2] - window[1]) / 1e6 * shares[int(window[0])], 1e-9))
        if len(sides) == 2:
            pairs.append((*sides[BUSY], *sides[DUMMY]))
    return pairs


def analyse(answer):
    """What bench-control's answer means: rates, causes, and the writer's part with its interval."""
    turns, windows = answer["turns"], answer["windows"]
    clocks = Clocks(turns, windows)
    explained = causes(turns, clocks, answer["seesInterrupts"])
    result = {"causes": {}, "rates": {}, "longest": {}, "longestUnexplained": {}}
    shares, counts, times = {}, {}, {}
    for phase, name in ((DUMMY, "dummy"), (BUSY, "busy")):
        own = [stall for stall in explained if stall[0] == phase]
        seconds = max(answer[name]["seconds"], 1e-9)
        shares[phase] = watched_share(windows, clocks, phase)
        times[phase] = seconds * shares[phase]
        result["causes"][name] = {cause: sum(stall[3] == cause for stall in own) for cause in CAUSES}
        counts[phase] = result["causes"][name]["unexplained"]
        result["rates"][name] = len(own) / seconds
        result["longest"][name] = max((turn[2] for turn in turns if turn[0] == phase), default=0.0)
        result["longestUnexplained"][name] = max(
            (length for _, _, length, cause in own if cause == "unexplained"), default=0.0)
    left = [stall[:3] for stall in explained if stall[3] == "unexplained"]
    pairs = window_pairs(windows, left, shares)
    factor = dispersion(pairs, sum(counts.values()) / max(sum(times.values()), 1e-9))
    result["caused"] = difference(counts[BUSY], times[BUSY], counts[DUMMY], times[DUMMY], factor)
    raw = [sum(result["causes"][name].values()) for name in ("busy", "dummy")]
    whole = window_pairs(windows, [stall[:3] for stall in explained], {DUMMY: 1.0, BUSY: 1.0})
    result["raw"] = difference(
        raw[0], max(answer["busy"]["seconds"], 1e-9), raw[1], max(answer["dummy"]["seconds"], 1e-9),
        dispersion(whole, sum(raw) / max(answer["busy"]["seconds"] + answer["dummy"]["seconds"], 1e-9)))
    result.update(watched=shares, dispersion=factor, pairs=len(pairs), uninterrupted=uninterrupted(answer, clocks))
    return result


def uninterrupted(answer, clocks):
    """The longest turn of each side that nothing of the machine explains, in microseconds.

    Turns that were noted are known one by one; of the shorter ones the histogram's last bin counts.
    """
    longest = {}
    for phase, name in ((DUMMY, "dummy"), (BUSY, "busy")):
        noted = [turn for turn in answer["turns"] if turn[0] == phase]
        plain = [turn[2] for turn in noted if not turn[3] and not turn[4] and not clocks.is_tick(turn[1])]
        short = [edge for edge, count in answer[name]["histogram"] if count and edge < 4]
        longest[name] = max(plain, default=max(short, default=0.0))
    return longest


def metric(figures, unit):
    value, low, high = figures
    return {"value": round(value, 3), "low": round(low, 3), "high": round(high, 3), "unit": unit}


def rows(result, answer, prefix, unit="gaps over 10 µs/s"):
    """Adds the rows of one load to a Result."""
    found = analyse(answer)
    messages = {name: sum(w[3] for w in answer["windows"] if w[0] == phase)
                for phase, name in ((DUMMY, "dummy"), (BUSY, "busy"))}
    for name in ("dummy", "busy"):
        side = answer[name]
        seconds = max(side["seconds"], 1e-9)
        times = {f"microseconds{key.upper()}": {"value": round(side[key], 1), "unit": "µs"}
                 for key in ("p50", "p99", "p99.9", "p99.99", "p99.999")}
        result.row(f"{prefix}/{name}", {
            "perSecond": {"value": round(messages[name] / seconds), "unit": "messages/s"}, **times,
            "microsecondsMax": {"value": round(found["longest"][name], 1), "unit": "µs"},
            "stallsPerSecond": {"value": round(found["rates"][name], 2), "unit": unit},
            "unexplainedPerSecond": {
                "value": round(found["causes"][name]["unexplained"] / seconds, 3), "unit": unit},
            "sentPerSecond": {"value": round(side["sent"] / seconds, 2), "unit": "interrupts/s"},
        }, polls=side["polls"], seconds=round(seconds, 2), histogram=side["histogram"],
            causes=found["causes"][name], interrupts=side["interrupts"])
    steps = answer["steps"]
    result.row(f"{prefix}/writer", {
        "causedPerSecond": metric(found["caused"], unit), "rawPerSecond": metric(found["raw"], unit),
        "uninterruptedMax": {"value": round(found["uninterrupted"]["busy"], 1), "unit": "µs"},
        "bucketsMax": {"value": steps["buckets"], "unit": "lines a lookup"},
        "wordsMax": {"value": steps["words"], "unit": "words a lookup"},
        "readsMax": {"value": steps["turn"], "unit": "lines and words a turn"},
    }, messages=messages["busy"], pairs=found["pairs"], dispersion=round(found["dispersion"], 2),
        watched=round(found["watched"][BUSY], 3), seesInterrupts=answer["seesInterrupts"],
        refused=answer["refused"], countedTurns=steps["turns"], lookupsPerTurn=steps["lookups"],
        uninterruptedDummy=round(found["uninterrupted"]["dummy"], 1))
    return found
