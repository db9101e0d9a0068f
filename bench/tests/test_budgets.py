"""Verdicts about budgets, and the generated parts of the performance page."""

import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "lib"))

from pebench import budgets, document  # noqa: E402

QUIET = {"quiet": True, "reasons": []}


def row(identifier, median, low=None, high=None):
    metric = {"median": median, "min": low or median, "max": high or median, "unit": "cycles"}
    return {"id": identifier, "metrics": {"cycles": metric}}


def result(rows, load=QUIET):
    return {"rows": rows, "load": load}


def entry(**more):
    return {"title": "t", "bench": "cycles", "row": "a/ipv4", "metric": "cycles", **more}


class Verdicts(unittest.TestCase):
    def test_a_figure_at_its_limit_passes_and_above_it_fails(self):
        self.assertEqual(budgets.judge(entry(max=100), result([row("a/ipv4", 100)]))["verdict"], "pass")
        self.assertEqual(budgets.judge(entry(max=100), result([row("a/ipv4", 100.1)]))["verdict"], "fail")
        self.assertEqual(budgets.judge(entry(min=100), result([row("a/ipv4", 99)]))["verdict"], "fail")

    def test_of_several_rows_the_worst_counts(self):
        verdict = budgets.judge(entry(row="a/*", max=100), result([row("a/1", 90), row("a/2", 110), row("a/3", 95)]))
        self.assertEqual((verdict["verdict"], verdict["row"]), ("fail", "a/2"))
        verdict = budgets.judge(entry(row="a/*", min=100), result([row("a/1", 90), row("a/2", 110)]))
        self.assertEqual((verdict["verdict"], verdict["row"]), ("fail", "a/1"))

    def test_a_noisy_machine_gets_no_verdict(self):
        load = {"quiet": False, "reasons": ["other processes used 1.00 cores"]}
        for figure in (1, 1000):
            verdict = budgets.judge(entry(max=100), result([row("a/ipv4", figure)], load))
            self.assertEqual(verdict["verdict"], "too noisy to tell")
            self.assertIn("1.00 cores", verdict["why"])
        self.assertEqual(budgets.judge(entry(max=100), result([row("a/ipv4", 1)], None))["verdict"], "too noisy to tell")

    def test_repetitions_far_apart_get_no_verdict(self):
        self.assertEqual(
            budgets.judge(entry(max=100), result([row("a/ipv4", 80, 70, 95)]))["verdict"], "too noisy to tell")

    def test_a_row_that_says_it_cannot_tell_gets_no_verdict(self):
        verdict = budgets.judge(entry(max=100), result([{**row("a/ipv4", 1), "noisy": "356 gaps a second"}]))
        self.assertEqual((verdict["verdict"], verdict["why"]), ("too noisy to tell", "356 gaps a second"))

    def test_what_was_not_measured_is_not_a_pass(self):
        self.assertEqual(budgets.judge(entry(max=100), None)["verdict"], "not measured")
        self.assertEqual(budgets.judge(entry(max=100), result([row("b", 1)]))["verdict"], "not measured")
        self.assertEqual(
            budgets.judge(entry(max=100, metric="tsc"), result([row("a/ipv4", 1)]))["verdict"], "not measured")

    def test_a_ratio_is_taken_over_the_row_of_the_other_name(self):
        rows = [row("x/ipv4", 100), row("x/ipv6", 108), row("y/ipv4", 50), row("y/ipv6", 57)]
        verdict = budgets.judge(entry(row="*/ipv6", over=["ipv6", "ipv4"], max=1.1), result(rows))
        self.assertEqual((verdict["verdict"], verdict["row"]), ("fail", "y/ipv6"))
        self.assertAlmostEqual(verdict["figure"], 1.14)
        self.assertEqual(
            budgets.judge(entry(row="z/ipv6", over=["ipv6", "ipv4"], max=1), result(rows))["verdict"], "not measured")
        # A variant that the base has not: two words are replaced.
        rows.append(row("x/ipv6/offload", 104))
        verdict = budgets.judge(entry(row="*/offload", over=["ipv6", "ipv4", "/offload", ""], max=1.1), result(rows))
        self.assertEqual((verdict["verdict"], verdict["row"]), ("pass", "x/ipv6/offload"))
        self.assertAlmostEqual(verdict["figure"], 1.04)

    def test_a_budget_without_a_limit_is_refused_with_its_place(self):
        import json
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "budgets.json"
            path.write_text(json.dumps({"budgets": [entry(max=1), entry()]}))
            with self.assertRaisesRegex(budgets.BudgetError, r"budgets\[1\].*max"):
                budgets.load_budgets(path)

    def test_the_project_s_own_budgets_are_well_formed(self):
        self.assertTrue(budgets.load_budgets())


class Page(unittest.TestCase):
    def test_only_the_named_block_is_replaced(self):
        begin, end = document.BEGIN, document.END
        page = f"before\n{begin.format('a')}\nold\n{end.format('a')}\nbetween\n{begin.format('b')}\nkeep\n{end.format('b')}\n"
        changed = document.replace_block(page, "a", "new \\1")
        self.assertIn("new \\1", changed)
        self.assertNotIn("old", changed)
        self.assertIn("keep", changed)

    def test_a_missing_marker_is_an_error_that_shows_it(self):
        with self.assertRaisesRegex(document.MarkerError, "begin generated: a"):
            document.replace_block("nothing", "a", "x")


if __name__ == "__main__":
    unittest.main()
