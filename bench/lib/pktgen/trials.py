"""Trials: what one showed, whether it may be believed, and repeating those that may not.

A trial says something about the device under test only if the generator offered what it should have, lost
nothing itself, and device and generator were not kept off their CPUs. What fails that is disturbed: it is
run again, a bounded number of times, and counted.
"""

from dataclasses import dataclass, field

# Below this part of the intended load, a trial without loss shows nothing about that load.
REACHED = 0.985


@dataclass
class Trial:
    """What one trial at `load` (frames a second, each direction) showed."""

    load: float
    seconds: float
    offered: int
    lost: int
    intended: int
    disturbances: list = field(default_factory=list)
    excused: int = 0  # frames that the disturbances may have cost, at most
    attempts: int = 1  # trials that this one, the best of them, stands for
    faults: dict = field(default_factory=dict)
    latency: dict = field(default_factory=dict)  # direction: list of [nanoseconds, count]
    details: dict = field(default_factory=dict)

    @property
    def ratio(self):
        return self.lost / self.offered if self.offered else 1.0

    @property
    def is_doubtful(self):
        """Disturbances explain all that was lost: the device may be able to do this load."""
        return bool(self.disturbances) and 0 < self.lost <= self.excused

    @property
    def reached(self):
        return self.offered >= REACHED * self.intended

    @property
    def offered_load(self):
        """The load that was really offered."""
        return self.load * self.offered / self.intended if self.intended else 0.0


class SearchStopped(RuntimeError):
    """The search makes no sense any more: the device forwards wrongly, or time is over."""


class DeviceGone(RuntimeError):
    """The device under test forwards nothing any more, at no load: what was found so far means nothing."""


@dataclass
class Statistics:
    """What the measuring itself cost, and how trustworthy it was."""

    trials: int = 0
    disturbed: int = 0
    accepted_disturbed: int = 0
    limited: int = 0
    seconds: float = 0.0
    reasons: dict = field(default_factory=dict)

    def count(self, trial):
        self.trials += 1
        self.seconds += trial.seconds

    def count_disturbed(self, trial):
        self.disturbed += 1
        for reason in trial.disturbances:
            kind = reason.split(":", 1)[0]
            self.reasons[kind] = self.reasons.get(kind, 0) + 1


class Measurer:
    """Runs trials of `source` and repeats disturbed ones.

    `source.run(load, seconds)` returns a Trial, `source.now()` a clock in seconds, `source.rest(seconds)`
    waits. `repeats`: how often a trial may be repeated; `budget`: seconds for the whole search; `most`: trials
    for the whole search; `hopeless`: a loss ratio above that of any goal.
    """

    def __init__(self, source, repeats=3, budget=600.0, most=1000, progress=None, hopeless=0.02):
        self.source, self.repeats, self.most, self.hopeless = source, repeats, most, hopeless
        self.begin = source.now()
        self.end = self.begin + budget
        self.progress = progress or (lambda trial, note: None)
        self.statistics = Statistics()
        self.limit = None  # highest load that the generator reaches, once it failed to reach one

    def left(self):
        return self.end - self.source.now()

    def measure(self, load, seconds):
        """One believable trial at `load`, or the one with the least loss of several that were not.

        Raises SearchStopped when time or trials are used up, or frames come back wrong.
        """
        best = None
        for attempt in range(self.repeats + 1):
            # Whoever takes the CPUs may be done after a while.
            if attempt:
                self.source.rest(0.1 * attempt)
            if self.left() < seconds:
                raise SearchStopped("the time is over")
            if self.statistics.trials >= self.most:
                raise SearchStopped(f"{self.most} trials are done")
            trial = self.source.run(load, seconds)
            self.statistics.count(trial)
            if trial.faults:
                worst = max(trial.faults, key=trial.faults.get)
                raise SearchStopped(f"the device forwards wrongly: {worst} ({trial.faults[worst]} frames)")
            if self._is_believable(trial):
                self.progress(trial, "")
                return trial
            self.statistics.count_disturbed(trial)
            self.progress(trial, "again" if attempt < self.repeats else "the best of these counts")
            # A disturbance adds loss and takes none away.
            if best is None or trial.ratio < best.ratio:
                best = trial
        self.statistics.accepted_disturbed += 1
        best.attempts = self.repeats + 1
        return best

    def _is_believable(self, trial):
        # Nothing was lost although something disturbed it: the device can do it all the more without.
        # And what it lost beyond what the disturbance can explain, it would lose without, too.
        clean = not trial.disturbances or trial.lost == 0 and trial.reached
        return clean or trial.lost - trial.excused > self.hopeless * trial.offered


def merged(histograms):
    """Histograms of one kind, [[value, count], …], added up."""
    total = {}
    for histogram in histograms:
        for value, count in histogram:
            total[value] = total.get(value, 0) + count
    return sorted(total.items())


def percentile(histogram, share):
    """The smallest value that `share` of the counts do not exceed; None without counts."""
    total = sum(count for _, count in histogram)
    passed = 0
    for value, count in histogram:
        passed += count
        if passed >= share * total:
            return value
    return None
