"""A run: devices started per table size, measured in turns case by case, and what comes out of it."""

import fnmatch
import statistics
from dataclasses import dataclass, field

from . import cases, plug
from .crossover import Crossed
from .dut import Forwarder, PeDP, TestPMD
from .host import Absent
from .kernel import Kernel
from .ovs import OVS, SETTINGS
from .page import PageTimeout

# What each subject is: a device, and the setting that it has when it is measured.
SUBJECTS = {
    "pe-dp": (PeDP, None), "c-forwarder": (Forwarder, None), "testpmd-io": (TestPMD, "io"),
    "testpmd-macswap": (TestPMD, "macswap"), **{f"ovs-{setting}": (OVS, setting) for setting in SETTINGS},
    "kernel": (Kernel, None)}
SMOKE_SUBJECTS = ["pe-dp", "c-forwarder", "testpmd-io"]
# More lost than this, and the figure is not that of forwarding. A stamp falls between two bursts, so a
# slice may miss the packets of one.
LOSS_LIMIT = 0.005


@dataclass
class Settings:
    rounds: int = 3
    seconds: float = 0.25
    subjects: list = field(default_factory=lambda: list(SUBJECTS))
    plugs: dict = field(default_factory=dict)


def choose(names, patterns):
    """Names that match one of the patterns, in their own order; a pattern that matches nothing is an error."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"nothing is called {pattern}; known are " + ", ".join(names))
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


class Runner:
    """Measures `case_list` with every subject; `rows` and `notes` tell the outcome."""

    def __init__(self, host, settings, log):
        self.host, self.settings, self.log = host, settings, log
        self.notes, self.wrong = [], []
        self.measured = {}    # case identifier → subject → list of reduced measurements, one a round
        self.details = {}     # the same → what was verified

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)
            self.log(f"note: {text}")

    def make(self, subject, entries):
        if subject in self.settings.plugs:
            wanted = self.settings.plugs[subject]
            kind = Crossed if wanted["mode"] == "memif" else plug.Plugged
            return kind(wanted, self.host, entries, self.log)
        return SUBJECTS[subject][0](self.host, entries, self.log)

    def start_devices(self, entries):
        """Device by subject; subjects of one program share it."""
        devices, by_kind = {}, {}
        for subject in self.settings.subjects:
            kind = SUBJECTS[subject][0] if subject in SUBJECTS else subject
            if kind not in by_kind:
                by_kind[kind] = self.start_device(subject, entries)
            if by_kind[kind]:
                devices[subject] = by_kind[kind]
        return devices

    def start_device(self, subject, entries):
        device = self.make(subject, entries)
        try:
            device.start()
        except Absent as error:
            self.note(f"{device.name} is absent: {error}")
        except (RuntimeError, OSError) as error:
            self.note(f"{device.name} does not start with {entries} entries: {error}")
            self.wrong.append(f"{device.name} does not start")
        else:
            self.log(f"{device.name} with {entries} entries: ready in {device.ready_in:.1f} s")
            if device.where == "veth":
                self.note("kernel: no live frames here, so veth pairs; their sender is in its figures")
            return device
        device.stop()
        return None

    def run(self, case_list):
        for entries in sorted({case.entries for case in case_list}):
            devices = self.start_devices(entries)
            try:
                for case in (case for case in case_list if case.entries == entries):
                    self.run_case(case, devices)
            finally:
                for device in dict.fromkeys(devices.values()):
                    device.stop()

    def run_case(self, case, devices):
        for device in dict.fromkeys(devices.values()):
            if hasattr(device, "begin_case"):
                device.begin_case()
        subjects, dead = list(devices), set()
        for number in range(self.settings.rounds):
            # Everybody is first once: what comes first finds another cache and clock.
            turn = number % max(1, len(subjects))
            for subject in subjects[turn:] + subjects[:turn]:
                if subject in dead:
                    continue
                try:
                    result = self.measure(case, subject, devices[subject], verify=number == 0)
                except (RuntimeError, ValueError) as error:
                    dead.add(subject)
                    self.give_up(case, subject, error)
                else:
                    self.measured.setdefault(case.identifier, {}).setdefault(subject, []).append(result)
        self.log(self.progress(case))

    def give_up(self, case, subject, error):
        self.measured.get(case.identifier, {}).pop(subject, None)
        what = "forwards wrongly" if isinstance(error, cases.Wrong) else "was not measured"
        self.wrong.append(f"{subject} {what} in {case.identifier}")
        self.note(f"{subject} {what} in {case.identifier}: {error}")

    def measure(self, case, subject, device, verify):
        device.resume()
        try:
            setting = SUBJECTS[subject][1] if subject in SUBJECTS else None
            if setting is not None:
                device.choose(setting)
            device.prime()
            device.page.start(case)
            device.warm(case)
            if verify:
                count = cases.verify(case, device.page.samples(), device.forwards)
                self.details.setdefault(case.identifier, {})[subject] = {"verified": count, "mode": device.where}
            result = device.reduce(device.page.measure(self.settings.seconds * device.measure_scale))
        finally:
            try:
                device.page.stop()
            except PageTimeout as error:
                self.note(f"{subject}: {error}")
            device.pause()
        if result["loss"] > LOSS_LIMIT and device.where == "in-core":
            raise cases.Wrong(f"{result['loss']:.1%} of the frames did not come out")
        return result

    def progress(self, case):
        found = self.measured.get(case.identifier, {})
        return f"{case.identifier}: " + ", ".join(
            f"{subject} {statistics.median(r['cycles'] for r in results):.0f}" for subject, results in found.items())

    def best_ovs(self, found):
        """The cheapest cache setting of a case, or None."""
        settings = [name for name in found if name.startswith("ovs-")]
        return min(settings, key=lambda name: statistics.median(r["cycles"] for r in found[name]), default=None)

    def rows(self):
        """(identifier, metrics, what was varied) of each case and subject."""
        for identifier, found in self.measured.items():
            best = self.best_ovs(found)
            shown = {**found, **({"ovs-best": found[best]} if best else {})}
            for subject, results in shown.items():
                details = dict(self.details.get(identifier, {}).get(best if subject == "ovs-best" else subject, {}))
                if subject == "ovs-best":
                    details["setting"] = best.removeprefix("ovs-")
                for name in ("burst", "idlePolls"):
                    if results[0].get(name) is not None:
                        details[name] = round(statistics.median(r[name] for r in results), 2)
                yield f"{identifier}/{subject}", metrics(results, found.get("pe-dp"), subject), details


def summary(values, unit, digits=2):
    return {"median": round(statistics.median(values), digits), "min": round(min(values), digits),
            "max": round(max(values), digits), "unit": unit}


def metrics(results, ours, subject):
    """Metrics of one subject's rounds; `ratio` is its cycles over pe-dp's of the same round."""
    found = {"cycles": summary([r["cycles"] for r in results], "cycles"),
             "tsc": summary([r["tsc"] for r in results], "ticks")}
    if all("instructions" in r for r in results):
        found["instructions"] = summary([r["instructions"] for r in results], "instructions")
    if ours and subject != "pe-dp":
        pairs = list(zip(results, ours))
        found["ratio"] = summary([theirs["cycles"] / our["cycles"] for theirs, our in pairs], "×", 3)
    return found
