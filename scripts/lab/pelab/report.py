"""Scenarios, their numbered criteria, what they found, and how that is told (text and JUnit)."""
import time
import traceback
import xml.sax.saxutils

from .shell import Disturbed, LabError, bold, green, red, say, yellow


class Skip(Exception):
    """A scenario or criterion cannot be shown here; the text says why."""


class Report:
    """Collects the outcome of every criterion."""

    def __init__(self):
        self.results = []   # (scenario, criterion, "pass"|"fail"|"skip", detail, seconds)
        self.began = time.monotonic()

    def add(self, scenario, criterion, outcome, detail, seconds):
        self.results.append((scenario, criterion, outcome, detail, seconds))
        sign = {"pass": green("pass"), "fail": red("FAIL"), "skip": yellow("skip")}[outcome]
        say(f"  {sign}  {criterion}" + (f"  [{detail}]" if detail else ""))

    def count(self, outcome):
        return sum(1 for result in self.results if result[2] == outcome)

    def first_failure(self):
        for scenario, criterion, outcome, detail, _ in self.results:
            if outcome == "fail":
                return scenario, criterion, detail
        return None

    def summary(self):
        """The closing lines; the last has the form `N passed, N failed, N skipped`."""
        say()
        for outcome, word in (("skip", "skipped"), ("fail", "FAILED")):
            for scenario, criterion, got, detail, _ in self.results:
                if got == outcome:
                    say(f"{word}: {scenario}: {criterion}" + (f": {detail}" if detail else ""))
        say(f"end-to-end lab: {time.monotonic() - self.began:.0f} s")
        say(f"{self.count('pass')} passed, {self.count('fail')} failed, "
            f"{self.count('skip')} skipped")

    def write_junit(self, path):
        quote = xml.sax.saxutils.quoteattr
        with open(path, "w") as file:
            file.write('<?xml version="1.0" encoding="UTF-8"?>\n'
                       f'<testsuite name="lab" tests="{len(self.results)}"'
                       f' failures="{self.count("fail")}" skipped="{self.count("skip")}">\n')
            for scenario, criterion, outcome, detail, seconds in self.results:
                file.write(f"  <testcase classname={quote(scenario)} name={quote(criterion)}"
                           f' time="{seconds:.3f}">')
                if outcome == "fail":
                    file.write(f"<failure message={quote(detail or '')}/>")
                elif outcome == "skip":
                    file.write(f"<skipped message={quote(detail or '')}/>")
                file.write("</testcase>\n")
            file.write("</testsuite>\n")


class Criteria:
    """The criteria of one running scenario."""

    def __init__(self, report, scenario):
        self.report = report
        self.scenario = scenario
        self.failed = False
        self._since = time.monotonic()

    def check(self, name, holds, detail=""):
        """Records whether a criterion holds; the scenario goes on either way."""
        now = time.monotonic()
        self.report.add(self.scenario, name, "pass" if holds else "fail", str(detail),
                        now - self._since)
        self._since = now
        self.failed |= not holds
        return bool(holds)

    def attempt(self, name, action):
        """A criterion that holds when action returns without LabError; its value is the detail."""
        try:
            value = action()
        except LabError as error:
            self.check(name, False, error)
            return None
        self.check(name, True, value if isinstance(value, (str, int, float)) else "")
        return value

    def skip(self, name, why):
        self.report.add(self.scenario, name, "skip", why, 0)


def run_scenario(report, name, summary, function, lab, diagnose, after=None):
    """Runs one scenario in one lab; any exception is one failed criterion with its reason."""
    say()
    say(bold(f"{name}: {summary}"))
    criteria = Criteria(report, name)
    try:
        try:
            function(lab, criteria)
        except Disturbed as error:
            # On a busy machine a measurement can fail by itself; what it would have shown is not known.
            criteria = Criteria(report, name)
            say(yellow(f"  once more: {error}"))
            function(lab, criteria)
        if after:
            after(lab, criteria)
    except Skip as why:
        criteria.skip("scenario", str(why))
    except LabError as error:
        criteria.check("scenario runs to its end", False, error)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        criteria.check("scenario runs to its end", False,
                       f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})")
    if criteria.failed:
        diagnose(lab)
    return not criteria.failed
