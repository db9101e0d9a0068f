"""The search for loads: binary search as in RFC 2544 and ETSI GS NFV-TST 009, and multiple-loss-ratio search.

MLRsearch (draft-ietf-bmwg-mlrsearch): one set of trials serves all goals. A load is a lower or an upper
bound for a goal when even the worst, or the best, outcome of the trials still missing would not change that;
trials shorter than the goal's count for what they show, and only full ones settle it.
"""

import math
from dataclasses import dataclass

from .trials import REACHED, SearchStopped


@dataclass(frozen=True)
class Goal:
    """What is searched for: the highest load at which loss stays within `loss_ratio`.

    Trials of `final_seconds`, together `sum_seconds`, of which at most `exceed_ratio` may lose more; the
    result is `width` (relative) or less away from a load that is too high. `initial_seconds` is what the
    search begins with. `verify`: a binary search repeats a trial with loss so often before it believes it.
    """

    name: str
    loss_ratio: float
    final_seconds: float = 1.0
    sum_seconds: float = 1.0
    initial_seconds: float = 1.0
    exceed_ratio: float = 0.0
    width: float = 0.01
    verify: int = 0


@dataclass
class Found:
    """What the search found for one goal: loads in frames a second in each direction.

    `high` is None when no load up to the highest one was too much; then the generator, or `--max-rate`,
    was the limit. `complete`: the width was reached and both ends are settled by full-length trials.
    `doubtful`: all that was lost at `high` may be due to disturbances, so the truth may be above it.
    """

    goal: Goal
    low: float | None
    high: float | None
    complete: bool
    limited: bool
    why: str = ""
    doubtful: bool = False


# A queue may hold this part of a trial's frames: of a device that is too slow, so much does not show as loss.
BUFFERED = 0.05


def buffered(goal, load, slots):
    """What a reader must know of a result that queues of `slots` frames may have made too high; None else."""
    frames = load * goal.final_seconds
    if frames <= 0 or slots <= BUFFERED * frames:
        return None
    return (f"{goal.name.upper()}: queues of {slots} frames hold {min(1, slots / frames):.0%} of a trial, and the rate "
            f"may be so much too high; --trial-seconds {slots / BUFFERED / load:.2g} makes that 5 %")


class Loads:
    """All trials so far, by load."""

    def __init__(self):
        self.trials = {}

    def add(self, load, trial):
        self.trials.setdefault(load, []).append(trial)

    def classify(self, load, goal, final_seconds, sum_seconds):
        """"lower", "upper" or None (undecided) for `load` and `goal` with trials of that length."""
        good_long = bad_long = good_short = bad_short = 0.0
        for trial in self.trials.get(load, ()):
            is_bad, weight = trial.ratio > goal.loss_ratio, trial.seconds * trial.attempts
            if trial.seconds >= 0.999 * final_seconds:
                bad_long, good_long = bad_long + weight * is_bad, good_long + weight * (not is_bad)
            else:
                bad_short, good_short = bad_short + weight * is_bad, good_short + weight * (not is_bad)
        # Short trials that lost much count as far as good short ones do not make up for them.
        balance = good_short * goal.exceed_ratio / (1.0 - goal.exceed_ratio)
        bad = bad_long + max(0.0, bad_short - balance)
        whole = max(good_long + bad, sum_seconds)
        allowed = whole * goal.exceed_ratio * (1 + 1e-9)
        best = bad <= allowed
        worst = bad + (whole - good_long - bad) <= allowed + 1e-9 * whole
        return "lower" if worst else None if best else "upper"

    def bounds(self, goal, final_seconds, sum_seconds):
        """(highest lower bound below it, lowest upper bound), either None."""
        high = low = None
        for load in sorted(self.trials):
            kind = self.classify(load, goal, final_seconds, sum_seconds)
            if kind == "upper":
                high = load
                break
            if kind == "lower":
                low = load
        return low, high


class Search:
    """Common to both searches: the range of loads, measuring, and the generator's own limit."""

    def __init__(self, measurer, lowest, highest):
        self.measurer, self.lowest, self.highest = measurer, lowest, highest
        self.limited = False
        self.loads = Loads()

    def _measure(self, load, seconds):
        trial = self.measurer.measure(load, seconds)
        if not trial.reached and trial.lost == 0:
            # A clock that was low for a moment is no limit: what fails twice is.
            trial = max(trial, self.measurer.measure(load, seconds), key=lambda trial: trial.offered)
        if not trial.reached and trial.lost == 0:
            # It shows nothing about this load: the generator is the limit, not the device.
            reached = trial.offered_load
            if reached < self.highest:
                self.highest, self.limited = max(self.lowest, reached * REACHED), True
                self.measurer.statistics.limited += 1
            if reached > self.lowest:
                self.loads.add(reached, trial)
            return None
        self.loads.add(load, trial)
        return trial

    @staticmethod
    def _is_narrow(low, high, width):
        return high - low <= width * high * (1 + 1e-9)

    def _found(self, goal, low, high, complete, why=""):
        bad = [trial for trial in self.loads.trials.get(high, ()) if trial.ratio > goal.loss_ratio]
        doubtful = bool(bad) and all(trial.is_doubtful for trial in bad)
        return Found(goal, low, high, complete and not doubtful, self.limited and high is None, why, doubtful)


class BinarySearch(Search):
    """Each goal for itself, every trial of full length."""

    def run(self, goals):
        results, floor = [], self.lowest
        for goal in sorted(goals, key=lambda goal: goal.loss_ratio):
            found = self._search(goal, floor)
            results.append(found)
            # What a stricter goal passed, this one passes.
            floor = found.low or floor
        return results

    def _search(self, goal, floor):
        low, high, is_known, is_too_much = floor, None, floor > self.lowest, False
        try:
            passed = self._passes(self.highest, goal)
            while passed is None:
                passed = self._passes(self.highest, goal)
            if passed:
                return self._found(goal, self.highest, None, True, "nothing higher could be offered")
            high, is_too_much = self.highest, True
            if not is_known and not self._passes(low, goal):
                return self._found(goal, None, low, True, "even the lowest load was too much")
            is_known = True
            while not self._is_narrow(low, high, goal.width):
                middle = math.sqrt(low * high) if high > 4 * low else (low + high) / 2
                passed = self._passes(middle, goal)
                if passed:
                    low = middle
                else:
                    high = middle if passed is False else max(low, self.highest)
                    is_too_much = passed is False
        except SearchStopped as stop:
            return self._found(goal, low if is_known else None, high if is_too_much else None, False, str(stop))
        return self._found(goal, low, high if is_too_much else None, True)

    def _passes(self, load, goal):
        """Whether `load` meets the goal; None when the generator could not offer it."""
        for _ in range(goal.verify + 1):
            trial = self._measure(load, goal.final_seconds)
            if trial is None:
                return None
            if trial.ratio <= goal.loss_ratio:
                return True
        return False


class MultipleLossRatioSearch(Search):
    """All goals together: short trials first, full ones near the results."""

    def run(self, goals):
        goals = sorted(goals, key=lambda goal: goal.loss_ratio)
        found, stopped = {}, ""
        try:
            self._begin(goals)
            steps = max(len(self._phases(goal)) for goal in goals)
            for step in range(steps):
                for goal in goals:
                    phases = self._phases(goal)
                    found[goal.name] = self._narrow(goal, *phases[min(step, len(phases) - 1)], step >= len(phases) - 1)
        except SearchStopped as stop:
            stopped = str(stop)
        return [self._unfinished(goal, stopped) if stopped and not self._is_final(found.get(goal.name)) else
                found[goal.name] for goal in goals]

    @staticmethod
    def _phases(goal):
        """(seconds, sum of seconds, width) of each phase: from short and wide to full and narrow."""
        count = 1 if goal.initial_seconds >= goal.final_seconds else 3
        factor = (goal.final_seconds / goal.initial_seconds) ** (1 / max(1, count - 1)) if count > 1 else 1
        phases = []
        for index in range(count):
            rest = count - 1 - index
            seconds = goal.final_seconds / factor ** rest
            phases.append((seconds, goal.sum_seconds if rest == 0 else seconds, min(0.5, goal.width * 2 ** rest)))
        return phases

    def _begin(self, goals):
        """The highest load, then what came through at it: usually near the results."""
        seconds = min(goal.initial_seconds for goal in goals)
        trial = self._measure(self.highest, seconds)
        while trial is None:
            trial = self._measure(self.highest, seconds)
        for goal in goals:
            self._try(trial.load * (1 - trial.ratio) / (1 - goal.loss_ratio), seconds)

    def _try(self, load, seconds):
        if self.lowest < load < self.highest and load not in self.loads.trials:
            self._measure(load, seconds)

    def _narrow(self, goal, seconds, sum_seconds, width, is_final):
        """Narrows the goal's interval down to `width` with trials of `seconds`."""
        step = width
        while True:
            low, high = self.loads.bounds(goal, seconds, sum_seconds)
            if high is None:
                if not self._settle(self.highest, goal, seconds, sum_seconds):
                    continue
                if self.loads.classify(self.highest, goal, seconds, sum_seconds) == "lower":
                    return self._narrowed(goal, self.highest, None, is_final, "nothing higher could be offered")
                continue
            if self.limited and low is not None and low >= self.highest * (1 - width):
                if low >= self.highest or self._settle(self.highest, goal, seconds, sum_seconds):
                    low, high = self.loads.bounds(goal, seconds, sum_seconds)
                if high is None or high > self.highest:
                    return self._narrowed(goal, low, None, is_final, "nothing higher could be offered")
            if low is None:
                if high <= self.lowest:
                    return self._narrowed(goal, None, high, is_final, "even the lowest load was too much")
                below = max(self.lowest, self._below(goal, seconds, sum_seconds, high, step))
                step = min(0.9, step * 2)
                self._settle(below, goal, seconds, sum_seconds)
                continue
            if self._is_narrow(low, high, width):
                return self._narrowed(goal, low, high, is_final)
            between = self._between(goal, seconds, sum_seconds, low, high, width)
            self._settle(min(between, self.highest), goal, seconds, sum_seconds)

    def _narrowed(self, goal, low, high, is_final, why=""):
        return self._found(goal, low, high, is_final, why)

    def _below(self, goal, seconds, sum_seconds, high, step):
        """Where to look for a lower bound: the highest load below that short trials believed in, else a step."""
        hopeful = [load for load in self.loads.trials if load < high
                   and self.loads.classify(load, goal, seconds, sum_seconds) is None]
        # What came through at the load that was too much is the next guess; in a pause, little does.
        through = max(trial.load * (1 - trial.ratio) for trial in self.loads.trials[high])
        return max(hopeful) if hopeful else min(high * (1 - step), max(through, high / 8))

    def _between(self, goal, seconds, sum_seconds, low, high, width):
        """The next load: one that shorter trials left undecided, else the middle, or one width away from an end."""
        undecided = [load for load in self.loads.trials if low < load < high
                     and self.loads.classify(load, goal, seconds, sum_seconds) is None]
        if undecided:
            return min(undecided, key=lambda load: abs(load - (low + high) / 2))
        middle = math.sqrt(low * high) if high > 4 * low else (low + high) / 2
        # Within two widths, one trial must do: its distance to either end is a width at most.
        return high * (1 - width) if high * (1 - width) > low and high * (1 - 2 * width) <= low else middle

    def _settle(self, load, goal, seconds, sum_seconds):
        """Measures at `load` until it is decided; False when the generator could not offer it."""
        while self.loads.classify(load, goal, seconds, sum_seconds) is None:
            if self._measure(load, seconds) is None:
                return False
        return True

    @staticmethod
    def _is_final(found):
        return found is not None and found.complete

    def _unfinished(self, goal, why):
        """What the trials so far say, by the shortest length that says anything."""
        for seconds, sum_seconds, _ in reversed(self._phases(goal)):
            low, high = self.loads.bounds(goal, seconds, sum_seconds)
            if low is not None:
                return self._found(goal, low, high, False, why)
        return self._found(goal, None, self.loads.bounds(goal, *self._phases(goal)[0][:2])[1], False, why)
