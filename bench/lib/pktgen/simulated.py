"""Devices that exist only as loss curves, and the test of the search against them."""

import random

from .search import BinarySearch, Goal, MultipleLossRatioSearch
from .trials import Measurer, Trial


class SimulatedDevice:
    """Answers trials from a loss curve, with a clock of its own.

    `capacity`: what it forwards, frames a second. `knee`: load from which it loses `early` of the frames
    although it is below its capacity. `noise`: probability that a trial loses one frame in a hundred for no
    reason of load. `stalls`: probability that the generator was away: it offers less, and loses frames
    itself. `generator`: the highest load that can be offered.
    """

    def __init__(self, capacity, knee=None, early=0.0, noise=0.0, stalls=0.0, generator=None, seed=1):
        self.capacity, self.knee, self.early = capacity, knee or capacity, early
        self.noise, self.stalls, self.generator = noise, stalls, generator
        self.random = random.Random(seed)
        self.clock = 0.0
        self.runs = 0

    def now(self):
        return self.clock

    def rest(self, seconds):
        self.clock += seconds

    def run(self, load, seconds):
        self.clock += seconds + 0.05
        self.runs += 1
        intended = round(load * seconds)
        offered = min(intended, round((self.generator or load) * seconds))
        rate = offered / seconds
        lost = 0
        if rate > self.capacity:
            lost = round(offered * (1 - self.capacity / rate))
        if rate > self.knee:
            lost = max(lost, round(offered * self.early))
        disturbances, excused = [], 0
        if self.random.random() < self.noise:
            lost = max(lost, offered // 100)
        if self.random.random() < self.stalls:
            offered = round(offered * 0.9)
            lost = max(lost, offered // 20)
            excused = offered // 20
            disturbances.append("the generator was away from its ports: 5 ms")
        return Trial(load, seconds, offered, lost, intended, disturbances, excused)


def ndr(**rest):
    return Goal("ndr", 0.0, **rest)


def pdr(**rest):
    return Goal("pdr", 0.005, **rest)


class SelfTest:
    """Checks by name; `failures` holds those that did not hold."""

    def __init__(self):
        self.passed, self.failures = 0, []

    def check(self, name, holds, seen=""):
        if holds:
            self.passed += 1
        else:
            self.failures.append(f"{name}: {seen}")

    def search(self, kind, device, goals, budget=3600.0, highest=20e6, most=2000, repeats=5):
        measurer = Measurer(device, repeats=repeats, budget=budget, most=most)
        search = kind(measurer, 1000.0, highest)
        found = {result.goal.name: result for result in search.run(goals)}
        return found, measurer

    def within(self, name, found, truth, width):
        """The interval encloses the truth, and is as narrow as the goal says."""
        if found.low is None or found.high is None:
            self.check(name, False, f"no interval: {found}")
            return
        tight = found.high - found.low <= width * found.high * 1.001
        # A load so little above the capacity loses less than one frame in a trial.
        slack = 2 / found.goal.final_seconds + 1e-6 * truth
        encloses = found.low <= truth + slack and found.high >= truth - slack
        seen = f"{found.low:.0f} to {found.high:.0f}, truth {truth:.0f}"
        self.check(name, tight and encloses and found.complete, seen)


KINDS = (("binary", BinarySearch), ("mlr", MultipleLossRatioSearch))


def exact_curves(test):
    """Without noise, both searches enclose the truth within the width, wherever it is."""
    for label, kind in KINDS:
        for capacity in (1234.0, 9_999.0, 777_777.0, 4_160_000.0, 19_999_000.0):
            goals = [ndr(width=0.005), pdr(width=0.005)]
            found, measurer = test.search(kind, SimulatedDevice(capacity), goals)
            test.within(f"{label}: NDR of a device of {capacity:.0f}", found["ndr"], capacity, 0.005)
            truth = min(capacity / 0.995, 20e6)
            if truth < 20e6:
                test.within(f"{label}: PDR of a device of {capacity:.0f}", found["pdr"], truth, 0.005)
            else:
                test.check(f"{label}: PDR at the highest load", found["pdr"].low == 20e6, found["pdr"])
            test.check(f"{label}: few trials for a device of {capacity:.0f}", measurer.statistics.trials <= 80,
                       measurer.statistics.trials)


def knees(test):
    """A device that loses one frame in a thousand long before it is full: NDR and PDR far apart."""
    for label, kind in KINDS:
        device = SimulatedDevice(8e6, knee=3e6, early=0.001)
        found, _ = test.search(kind, device, [ndr(width=0.01), pdr(width=0.01)])
        test.within(f"{label}: NDR at the knee", found["ndr"], 3e6, 0.01)
        test.within(f"{label}: PDR at the capacity", found["pdr"], 8e6 / 0.995, 0.01)


def short_first(test):
    """MLRsearch spends less than the binary search where trials are long, and finds the same."""
    costs = {}
    for label, kind in KINDS:
        goals = [ndr(final_seconds=30, sum_seconds=30, initial_seconds=1),
                 pdr(final_seconds=30, sum_seconds=30, initial_seconds=1)]
        device = SimulatedDevice(5.5e6)
        found, measurer = test.search(kind, device, goals, budget=36000)
        test.within(f"{label}: NDR with long trials", found["ndr"], 5.5e6, 0.01)
        costs[label] = measurer.statistics.seconds
    test.check("mlr: shorter than binary with long trials", costs["mlr"] < costs["binary"], costs)


def noise(test):
    """Trials that lose frames for no reason do not move the result where the goal allows for them."""
    for seed in range(20):
        goals = [Goal("ndr", 0.0, 1.0, 21.0, 1.0, 0.5, 0.01), Goal("pdr", 0.005, 1.0, 21.0, 1.0, 0.5, 0.01)]
        device = SimulatedDevice(6e6, noise=0.15, seed=seed)
        found, _ = test.search(MultipleLossRatioSearch, device, goals, budget=7200)
        test.within(f"mlr: NDR in noise, seed {seed}", found["ndr"], 6e6, 0.01)
        goals = [ndr(verify=4), pdr(verify=4)]
        found, _ = test.search(BinarySearch, SimulatedDevice(6e6, noise=0.15, seed=seed), goals)
        test.within(f"binary: NDR in noise, seed {seed}", found["ndr"], 6e6, 0.01)


def strictness(test):
    """The same noise without allowance does move it: the test above tests something."""
    lower = 0
    for seed in range(20):
        device = SimulatedDevice(6e6, noise=0.15, seed=seed)
        found, _ = test.search(BinarySearch, device, [ndr()])
        lower += found["ndr"].low is None or found["ndr"].low < 6e6 * 0.98
    test.check("a strict search is misled by noise", lower >= 5, lower)


def stalls(test):
    """What the generator lost is not the device's loss: such trials are repeated, counted, and bounded."""
    for label, kind in KINDS:
        disturbed = 0
        for seed in range(10):
            device = SimulatedDevice(2.5e6, stalls=0.5, seed=seed)
            found, measurer = test.search(kind, device, [ndr(), pdr()], repeats=20)
            test.within(f"{label}: NDR with a generator that stalls, seed {seed}", found["ndr"], 2.5e6, 0.01)
            disturbed += measurer.statistics.disturbed
        test.check(f"{label}: stalls are counted", disturbed >= 10, disturbed)
        device = SimulatedDevice(2.5e6, stalls=1.0)
        found, measurer = test.search(kind, device, [ndr()], repeats=3, most=100)
        test.check(f"{label}: bounded when every trial stalls", device.runs <= 100, device.runs)
        test.check(f"{label}: accepted stalls are counted", measurer.statistics.accepted_disturbed > 0)


def slow_generator(test):
    """A generator slower than the device is told apart from loss."""
    for label, kind in KINDS:
        device = SimulatedDevice(15e6, generator=7e6)
        found, measurer = test.search(kind, device, [ndr(), pdr()])
        for name in ("ndr", "pdr"):
            result = found[name]
            near = result.low is not None and 6.5e6 < result.low <= 7e6
            test.check(f"{label}: {name} says that the generator was the limit",
                       result.limited and result.high is None and near, result)
        device = SimulatedDevice(6e6, generator=7e6)
        found, _ = test.search(kind, device, [ndr()])
        test.within(f"{label}: NDR below the generator's limit", found["ndr"], 6e6, 0.01)


def time_bounds(test):
    """The time is kept, and what is known by then is told as unfinished."""
    for label, kind in KINDS:
        for budget in (1.0, 5.0, 20.0, 60.0):
            device = SimulatedDevice(5e6)
            goals = [ndr(final_seconds=2, sum_seconds=2, initial_seconds=0.2)]
            found, _ = test.search(kind, device, goals, budget=budget)
            # A trial that has begun is finished, with its pause.
            test.check(f"{label}: {budget:.0f} s are kept", device.clock <= budget + 0.1, device.clock)
            result = found["ndr"]
            test.check(f"{label}: unfinished or right after {budget:.0f} s", not result.complete or
                       result.low <= 5e6 <= result.high, result)
            if result.low is not None:
                test.check(f"{label}: no more than the device can after {budget:.0f} s", result.low <= 5e6, result)


def extremes(test):
    """A device that forwards nothing, and one that forwards everything."""
    for label, kind in KINDS:
        found, _ = test.search(kind, SimulatedDevice(1.0), [ndr(), pdr()])
        test.check(f"{label}: nothing gets through", found["ndr"].low is None and found["pdr"].low is None, found)
        found, measurer = test.search(kind, SimulatedDevice(1e9), [ndr(), pdr()])
        test.check(f"{label}: everything gets through", found["ndr"].low == 20e6 and found["ndr"].high is None, found)
        test.check(f"{label}: and that is seen at once", measurer.statistics.trials <= 8, measurer.statistics.trials)


def order(test):
    """NDR does not exceed PDR, with and without noise."""
    for label, kind in KINDS:
        for seed in range(10):
            device = SimulatedDevice(3e6 + seed * 1e5, knee=2e6, early=0.002, noise=0.05, seed=seed)
            found, _ = test.search(kind, device, [ndr(), pdr()])
            low = found["ndr"].low or 0.0
            test.check(f"{label}: NDR at most PDR, seed {seed}", low <= (found["pdr"].low or 0.0), found)


def run():
    """All of it; (number of checks that held, failures)."""
    test = SelfTest()
    for part in (exact_curves, knees, short_first, noise, strictness, stalls, slow_generator, time_bounds, extremes,
                 order):
        part(test)
    return test.passed, test.failures
