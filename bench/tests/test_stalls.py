"""Which gaps between a worker's polls are the writer's: causes, clocks, intervals and verdicts."""

import random
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "lib"))

from pebench import budgets, document, stalls  # noqa: E402

DUMMY, BUSY = stalls.DUMMY, stalls.BUSY


def windows(seconds, length=40_000.0):
    """Windows of both sides by turns, `seconds` each, with half a millisecond between."""
    found, time = [], 0.0
    for number in range(int(seconds * 1e6 / length)):
        for phase in ((DUMMY, BUSY), (BUSY, DUMMY))[number % 2]:
            found.append([phase, time, time + length, 1000])
            time += length + 500
    return found


def phase_at(found, time):
    return next((phase for phase, begin, end, _ in found if begin <= time <= end), 0)


def turn(found, begin, length=20.0, interrupted=0, switches=0, faults=0, sent=0):
    return [phase_at(found, begin), begin, length, interrupted, switches, faults, sent]


def side(seconds):
    return {"seconds": seconds, "polls": 10**6, "p50": 1.0, "p99": 1.0, "p99.9": 1.0, "p99.99": 1.0, "p99.999": 1.0,
            "histogram": [[0.5, 10], [2, 1]], "interrupts": 0, "sent": 0}


def answer(found, turns, seconds, sees=True):
    return {"turns": sorted(turns, key=lambda entry: entry[1]), "windows": found, "seesInterrupts": sees,
            "dummy": side(seconds), "busy": side(seconds), "lost": 0, "refused": 0,
            "steps": {"turns": 1, "buckets": 2, "words": 3, "turn": 9, "lookups": 96}}


class Intervals(unittest.TestCase):
    def test_poisson_intervals_are_those_of_the_tables(self):
        # Garwood 1936; 0, 1, 10 and 100 events.
        for count, low, high in ((0, 0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39), (100, 81.36, 121.63)):
            found = stalls.poisson_interval(count)
            self.assertAlmostEqual(found[0], low, delta=0.01)
            self.assertAlmostEqual(found[1], high, delta=0.01)

    def test_many_events_have_an_interval_too(self):
        low, high = stalls.poisson_interval(20_000)
        self.assertAlmostEqual(low, 20_000 - 1.96 * 20_000**0.5, delta=5)
        self.assertAlmostEqual(high, 20_000 + 1.96 * 20_000**0.5, delta=5)

    def test_nothing_seen_still_has_an_upper_bound(self):
        found, low, high = stalls.difference(0, 20, 0, 20)
        self.assertEqual(found, 0)
        self.assertAlmostEqual(high, 3.689 / 20, places=3)
        self.assertAlmostEqual(low, -3.689 / 20, places=3)

    def test_the_interval_holds_the_truth_about_as_often_as_it_says(self):
        source = random.Random(7)

        def events(rate, seconds):
            count, time = 0, source.expovariate(rate)
            while time < seconds:
                count, time = count + 1, time + source.expovariate(rate)
            return count

        held = 0
        for _ in range(400):
            _, low, high = stalls.difference(events(3.0, 20), 20, events(2.0, 20), 20)
            held += low <= 1.0 <= high
        self.assertGreater(held, 400 * 0.92)

    def test_clustered_events_widen_it(self):
        even = [(1, 0.1, 1, 0.1)] * 40
        clustered = [(40, 0.1, 0, 0.1) if number % 20 == 0 else (0, 0.1, 2, 0.1) for number in range(40)]
        self.assertEqual(stalls.dispersion(even, 10), 1.0)
        factor = stalls.dispersion(clustered, 10)
        self.assertGreater(factor, 10)
        narrow, wide = stalls.difference(80, 4, 80, 4), stalls.difference(80, 4, 80, 4, factor)
        self.assertGreater(wide[2] - wide[1], 3 * (narrow[2] - narrow[1]))


class Causes(unittest.TestCase):
    def setUp(self):
        self.windows = windows(4)

    def cause(self, sees=True, **what):
        entry = turn(self.windows, 41_234.0, **what)
        clocks = stalls.Clocks([entry], self.windows)
        return stalls.causes([entry], clocks, sees)[0][3]

    def test_an_interrupt_of_a_device_or_the_clock_is_not_the_writer_s(self):
        self.assertEqual(self.cause(interrupted=1), "interrupt")

    def test_what_another_cpu_sent_or_a_page_fault_may_be_the_writer_s(self):
        self.assertEqual(self.cause(interrupted=1, sent=1), "unexplained")
        self.assertEqual(self.cause(interrupted=1, faults=1), "unexplained")
        # The kernel's counts could not be read.
        self.assertEqual(self.cause(interrupted=1, sent=-1), "unexplained")

    def test_a_switch_of_threads_explains(self):
        self.assertEqual(self.cause(switches=1), "switched")

    def test_nothing_known_explains_nothing(self):
        self.assertEqual(self.cause(), "unexplained")
        self.assertEqual(self.cause(interrupted=1, sees=False), "unexplained")

    def test_a_turn_below_the_limit_is_no_stall(self):
        entry = turn(self.windows, 41_234.0, length=9.9)
        self.assertEqual(stalls.causes([entry], stalls.Clocks([entry], self.windows), True), [])

    def test_a_gap_at_each_tick_is_the_clock_s_and_others_are_not(self):
        for period in (4000.0, 10000.0):
            end = self.windows[-1][2]
            ticks = [turn(self.windows, number * period + 777.0) for number in range(int(end / period))]
            odd = turn(self.windows, 41_234.0)
            clocks = stalls.Clocks(ticks + [odd], self.windows)
            self.assertTrue(all(clocks.is_tick(entry[1]) for entry in ticks))
            self.assertFalse(clocks.is_tick(odd[1]))

    def test_gaps_of_the_writer_alone_make_no_clock(self):
        end = self.windows[-1][2]
        ticks = [turn(self.windows, number * 4000.0 + 777.0) for number in range(int(end / 4000))]
        writers = [entry for entry in ticks if entry[0] == BUSY]
        clocks = stalls.Clocks(writers, self.windows)
        self.assertFalse(any(clocks.is_tick(entry[1]) for entry in writers))


class Verdicts(unittest.TestCase):
    def judged(self, rate, seconds=20, noise=0.5, sees=True):
        """The verdict about a writer that causes `rate` gaps a second on a machine with ticks and `noise`."""
        source = random.Random(3)
        found = windows(seconds)
        end = found[-1][2]
        turns = [turn(found, number * 4000.0 + 50.0, interrupted=1) for number in range(int(end / 4000))]
        turns += [turn(found, number * 10_000.0 + 3210.0) for number in range(int(end / 10_000))]
        turns += [turn(found, source.uniform(0, end)) for _ in range(int(noise * end / 1e6))]
        busy = [window for window in found if window[0] == BUSY]
        for _ in range(int(rate * seconds)):
            _, begin, over, _ = source.choice(busy)
            turns.append(turn(found, source.uniform(begin, over)))
        rows = []

        class Sink:
            def row(self, identifier, metrics, **varied):
                rows.append({"id": identifier, **varied, "metrics": metrics})

        stalls.rows(Sink(), answer(found, turns, seconds, sees), "stall")
        entry = {"title": "t", "bench": "control", "row": "stall/writer", "metric": "causedPerSecond", "max": 1}
        return budgets.judge(entry, {"rows": rows, "load": {"quiet": True, "reasons": []}}), rows

    def test_a_writer_that_causes_none_passes_in_spite_of_the_machine_s_ticks(self):
        verdict, rows = self.judged(0)
        self.assertEqual(verdict["verdict"], "pass", verdict)
        self.assertGreater(rows[0]["metrics"]["stallsPerSecond"]["value"], 300)

    def test_a_writer_that_causes_ten_a_second_fails(self):
        verdict, _ = self.judged(10)
        self.assertEqual(verdict["verdict"], "fail", verdict)
        self.assertGreater(verdict["figure"], 7)

    def test_too_short_a_run_or_too_much_noise_cannot_tell(self):
        self.assertEqual(self.judged(0, seconds=1)[0]["verdict"], "too noisy to tell")
        verdict, _ = self.judged(0, noise=200.0)
        self.assertEqual(verdict["verdict"], "too noisy to tell")
        self.assertIn("95 %", verdict["why"])

    def test_an_interval_is_judged_at_both_kinds_of_limits(self):
        unsure = "too noisy to tell"
        for low, high, least, most in ((2, 3, "pass", "fail"), (0, 1, "fail", "pass"), (1, 3, unsure, unsure)):
            rows = [{"id": "a", "metrics": {"m": {"value": (low + high) / 2, "low": low, "high": high}}}]
            given = {"rows": rows, "load": {"quiet": True, "reasons": []}}
            entry = {"title": "t", "bench": "b", "row": "a", "metric": "m"}
            self.assertEqual(budgets.judge({**entry, "min": 2}, given)["verdict"], least)
            self.assertEqual(budgets.judge({**entry, "max": 1}, given)["verdict"], most)

    def test_the_page_shows_the_interval(self):
        row = {"id": "a", "metrics": {"m": {"value": 0.5, "low": -0.25, "high": 0.75, "unit": "a second"}}}
        self.assertIn("0.50 (-0.25 to 0.75)", document.rows_table({"rows": [row]}))


if __name__ == "__main__":
    unittest.main()
