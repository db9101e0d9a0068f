"""Gathers cases into few replays, keeps the books of each, and finds whose fault a wrong sum is."""
import collections
import inspect
import itertools
import os
import re
import time
import traceback

from .frames import Ether
from .replay import ReplayError, replay
from .trial import Failed, Trial
from .worlds import GATEWAYS, WORLDS

TAG = re.compile(rb"<\d{6}>")
CASES = []


class Case:
    """A named rule and the generator that sends, waits (`yield`) and checks."""

    def __init__(self, function, world, arguments=()):
        self.function, self.world, self.arguments = function, world, arguments
        words = [function.__name__] + [str(a) for a in arguments if isinstance(a, (str, int))]
        self.name = f"{world}/{'-'.join(words).replace('_', '-')}"
        self.rule = " ".join((inspect.getdoc(function) or "").split())


def case(world="main", each=None):
    """Makes a function a case of `world`; `each`: argument tuples, a case for each."""
    def register(function):
        for arguments in each or [()]:
            CASES.append(Case(function, world, arguments))
        return function
    return register


class Index:
    """The frames of a replay's output, by tag; and which of them nobody has explained yet."""

    def __init__(self, output):
        self.ports = {**output.frames, **{f"{p}.host": f for p, f in output.punted.items()}}
        self.by_tag = collections.defaultdict(list)
        self.free = {}
        self.decoded = {}
        for port, frames in self.ports.items():
            for number, frame in enumerate(frames):
                tags = set(TAG.findall(frame))
                for tag in tags:
                    self.by_tag[tag].append((port, number))
                self.free[(port, number)] = tags

    def tagged(self, tag):
        for place in self.by_tag[tag]:
            self.free.pop(place, None)
        return [(port, self.ports[port][number]) for port, number in self.by_tag[tag]]

    def untagged(self, port, wanted):
        taken = []
        for place in [p for p, tags in self.free.items() if p[0] == port and not tags]:
            frame = self.ports[port][place[1]]
            packet = self.decoded.setdefault(place, Ether(frame))
            if wanted(packet):
                del self.free[place]
                taken.append(frame)
        return taken


def greeting(t):
    """Each host is answered once by ARP and once by ND."""
    for port, frame in t.world.greetings():
        t.send(port, frame)
    yield
    for host in t.world.hosts:
        mac = GATEWAYS[host.vni].mac
        answers = t.take(host.port, lambda p, h=host, m=mac: p.dst == h.mac and p.src == m)
        t.check(len(answers) == 2 or not t.world.clean,
                f"{host.port}: {len(answers)} answers of the gateway to {host.mac}, not 2")


def _merge(trials):
    """Phases of all trials side by side: [(port, [frame])]."""
    phases = []
    for row in itertools.zip_longest(*[t.phases for t in trials], fillvalue=[]):
        ports = collections.defaultdict(list)
        for sent in row:
            for port, frame in sent:
                ports[port].append(frame)
        phases += sorted(ports.items())
    return phases


def _step(generator):
    """Runs a case to its next `yield`; the words of what went wrong, or None."""
    try:
        next(generator)
    except StopIteration:
        return None
    except Failed as failure:
        return str(failure)
    except Exception:   # a frame that scapy cannot take apart as the case does is a wrong frame
        return traceback.format_exc(limit=-4)
    return None


class Batch:
    """One replay of a world with some of its cases."""

    def __init__(self, world, cases, binary, directory):
        self.world, self.cases, self.binary, self.directory = world, cases, binary, directory
        self.failures = {}          # case: words
        self.books = []             # what is wrong with the sums
        self.output = None

    def run(self):
        numbers = itertools.count(1)
        trials, steps = [], []
        for entry in [Case(greeting, self.world.name)] + self.cases:
            trial = Trial(entry, numbers)
            trial.world = self.world
            generator = entry.function(trial, *entry.arguments)
            words = _step(generator)
            trials.append(trial)
            steps.append(generator)
            if words:
                self.failures[entry] = words
        # The greeting is over before anybody else begins.
        phases = _merge(trials[:1]) + _merge(trials[1:])
        self.output = replay(self.binary, self.directory, self.world.configuration, phases, self.world.netlink)
        if self.world.again:
            self._repeat(phases)
        index = Index(self.output)
        for trial, generator in zip(trials, steps):
            trial.output, trial.index = self.output, index
            if trial.case in self.failures:
                continue
            words = _step(generator)
            if words:
                self.failures[trial.case] = words
        expected = collections.Counter()
        for trial in trials:
            expected.update(trial.expected)
        self._balance(expected, index, sum(trial.consumed for trial in trials))
        return self

    def _repeat(self, phases):
        """The same input gives the same output, byte for byte."""
        other = replay(self.binary, self.directory + "-again", self.world.configuration, phases, self.world.netlink)
        for name in ("frames", "punted", "summary", "state"):
            if getattr(other, name) != getattr(self.output, name):
                self.books.append(f"a second replay of the same input has other {name}")

    def _balance(self, expected, index, consumed):
        summary = self.output.summary
        sent = sum(len(frames) for frames in self.output.frames.values())
        punted = sum(len(frames) for frames in self.output.punted.values())
        dropped = summary["dropped"]
        for words, got, wanted in [
                ("packets received", summary["received"], self.output.sent),
                ("packets sent", summary["sent"], sent), ("packets punted", summary["punted"], punted + consumed),
                ("received + replicated", summary["received"] + summary["replicated"],
                 summary["sent"] + summary["punted"] + sum(dropped.values()))]:
            if got != wanted:
                self.books.append(f"{words}: {got}, not {wanted}")
        for reason in sorted(set(expected) | set(dropped)):
            if expected[reason] != dropped.get(reason, 0):
                self.books.append(f"dropped as {reason}: {dropped.get(reason, 0)}, not {expected[reason]}")
        for port, number in list(index.free)[:3]:
            frame = index.ports[port][number]
            self.books.append(f"{port} sends what nobody expects: {Ether(frame).summary()} {frame[:160].hex()}")
        if len(index.free) > 3:
            self.books.append(f"and {len(index.free) - 3} more such frames")


def run_world(name, cases, binary, directory, blame=False):
    """Runs the cases of one world; [(name, rule, failure or None, seconds)], and its output.

    `blame`: when the sums are wrong, every case that passed is run alone, to say which one it is.
    """
    world, begin = WORLDS[name], time.monotonic()
    try:
        batch = Batch(world, cases, binary, os.path.join(directory, name)).run()
    except ReplayError as error:
        return [(entry.name, entry.rule, str(error), 0) for entry in cases], None
    guilty = {}
    if blame and batch.books and len(cases) > 1:
        for number, entry in enumerate(cases):
            if entry in batch.failures:
                continue
            try:
                alone = Batch(world, [entry], binary, os.path.join(directory, f"{name}-{number}")).run()
            except ReplayError as error:
                guilty[entry] = f"alone: {error}"
                continue
            words = list(alone.failures.values()) + alone.books
            if words:
                guilty[entry] = "alone: " + "; ".join(words)
    seconds = time.monotonic() - begin
    results = [(entry.name, entry.rule, batch.failures.get(entry) or guilty.get(entry), 0) for entry in cases]
    rest = [w for entry, w in batch.failures.items() if entry not in cases] + batch.books
    results.append((f"{name}/books", "received + replicated = sent + punted + dropped, reason by reason",
                    "\n      ".join(rest) or None, seconds))
    return results, batch.output
