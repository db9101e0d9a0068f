"""The gate on instructions a packet: what it lets pass, what it stops, and what it says then."""

import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "lib"))

from pebench import gate  # noqa: E402

OLD = {"a": {"instructions": 400.0, "cycles": 80.0}, "b": {"instructions": 700.0}}


def verdicts(measured, judge_cycles=True, old=None):
    return {(found["row"], found["metric"]): found["verdict"]
            for found in gate.compare(old or OLD, measured, judge_cycles)}


class Comparison(unittest.TestCase):
    def test_instructions_may_rise_by_five_percent_and_no_more(self):
        self.assertEqual(
            verdicts({"a": {"instructions": 420.0}, "b": {"instructions": 735.1}}),
            {("a", "instructions"): "pass", ("b", "instructions"): "fail"})

    def test_a_failure_names_row_old_and_new(self):
        text, = gate.failures(gate.compare(OLD, {"a": {"instructions": 500.0}, "b": {"instructions": 700.0}}, True))
        for word in ("a:", "400.0", "500.0", "+25.0%", "+5%"):
            self.assertIn(word, text)

    def test_a_row_that_vanished_fails(self):
        faults = gate.failures(gate.compare(OLD, {"a": {"instructions": 400.0}}, True))
        self.assertEqual(len(faults), 1)
        self.assertIn("b is no longer measured", faults[0])

    def test_a_row_without_threshold_fails(self):
        found = verdicts({**OLD, "c": {"instructions": 1.0}})
        self.assertEqual(found[("c", "instructions")], "fail")

    def test_cycles_have_a_wide_margin_and_only_a_quiet_machine_judges_them(self):
        def cycles(figure, quiet):
            measured = {"a": {"instructions": 400.0, "cycles": figure}, "b": OLD["b"]}
            return verdicts(measured, quiet)[("a", "cycles")]

        self.assertEqual(cycles(103.0, True), "pass")
        self.assertEqual(cycles(105.0, True), "fail")
        self.assertEqual(cycles(105.0, False), "too noisy")

    def test_cycles_that_were_not_measured_are_no_fault(self):
        self.assertEqual(gate.failures(gate.compare(OLD, {row: {"instructions": found["instructions"]}
                                                          for row, found in OLD.items()}, True)), [])

    def test_cycles_are_compared_with_those_of_the_same_pages(self):
        old = {"a": {"instructions": 400.0, "cycles": 80.0, "cyclesSmallPages": 120.0}}
        found = verdicts({"a": {"instructions": 400.0, "cyclesSmallPages": 125.0}}, old=old)
        self.assertEqual(found, {("a", "instructions"): "pass", ("a", "cyclesSmallPages"): "pass"})
        self.assertEqual(verdicts({"a": {"instructions": 400.0, "cyclesSmallPages": 160.0}}, old=old)[
            ("a", "cyclesSmallPages")], "fail")
        # Pages that no figures were recorded for judge nothing.
        found = verdicts({"a": {"instructions": 400.0, "cyclesTransparentPages": 160.0}}, old=old)
        self.assertEqual(found, {("a", "instructions"): "pass"})

    def test_every_kind_of_pages_has_figures_of_its_own(self):
        source = (ROOT / "Sources" / "FastPath" / "PacketMemory.swift").read_text()
        body = source.split("enum Pages", 1)[1].split("\n    }", 1)[0]
        self.assertEqual(set(gate.CYCLES), set(re.findall(r"^ *case (\w+)$", body, re.M)))
        self.assertEqual(len(set(gate.CYCLES.values())), len(gate.CYCLES))

    def test_only_rows_whose_cycles_rose_are_measured_again(self):
        old = {"a": {"cycles": 80.0}, "b": {"cycles": 100.0}}
        self.assertEqual(gate.risen(old, {"a": {"cycles": 105.0}, "b": {"cycles": 129.0}, "c": {"cycles": 9.0}}), ["a"])

    def test_a_machine_that_is_slower_in_c_too_judges_no_cycles(self):
        entry = {"reference": {"cycles": 80.0}}
        self.assertIsNone(gate.reference_fault(entry, "cycles", 87.0))
        self.assertIn("slower", gate.reference_fault(entry, "cycles", 89.0))
        self.assertIsNone(gate.reference_fault(entry, "cyclesSmallPages", 300.0))
        self.assertIsNone(gate.reference_fault({}, "cycles", 300.0))

    def test_a_gain_is_told_and_passes(self):
        measured = {"a": {"instructions": 300.0}, "b": OLD["b"]}
        self.assertEqual(verdicts(measured)[("a", "instructions")], "lower")
        self.assertEqual(gate.failures(gate.compare(OLD, measured, True)), [])

    def test_a_comparison_of_nothing_is_no_pass(self):
        with self.assertRaises(gate.GateError):
            gate.compare({}, {}, True)


class Thresholds(unittest.TestCase):
    classes = {"classes": {"default": {"method": "callgrind", "rows": {}}, "x": {"method": "perf", "rows": {}}}}

    def test_a_class_is_measured_as_it_was_recorded(self):
        self.assertEqual(gate.choose(self.classes, "x", ["perf", "callgrind"]), ("x", "perf"))
        self.assertEqual(gate.choose(self.classes, "y", ["perf", "callgrind"]), ("default", "callgrind"))
        self.assertEqual(gate.choose(self.classes, "y", ["perf"]), ("default", "perf"))

    def test_without_thresholds_the_remedy_is_named(self):
        with self.assertRaisesRegex(gate.GateError, "--update"):
            gate.choose({"classes": {}}, "x", ["perf"])

    def test_an_update_replaces_its_class_and_what_callgrind_counted_is_the_default(self):
        rows = {"a": {"instructions": 1.0, "cycles": 2.0}}
        document = gate.updated({"classes": {"z": {"method": "perf", "rows": OLD}}}, "x", "callgrind", rows, {})
        self.assertEqual(document["classes"]["x"]["rows"], rows)
        self.assertNotIn("reference", document["classes"]["x"])
        self.assertEqual(document["classes"]["default"]["rows"], {"a": {"instructions": 1.0}})
        self.assertEqual(document["classes"]["z"]["rows"], OLD)
        document = gate.updated(document, "z", "perf", rows, {})
        self.assertEqual(document["classes"]["z"]["rows"], rows)
        self.assertEqual(document["classes"]["default"]["method"], "callgrind")

    def test_the_committed_thresholds_cover_every_row_of_the_gate(self):
        document = gate.load(ROOT / "bench" / "thresholds.json")
        self.assertIn("default", document["classes"])
        for name, entry in document["classes"].items():
            self.assertEqual(sorted(entry["rows"]), sorted(gate.ROWS), f"class {name}: bench/gate --update")

    def test_broken_thresholds_are_named(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "t.json"
            figure = '{"classes": {"default": {"rows": {"a": {"instructions": "x"}}}}}'
            for text in ("{", "[]", '{"classes": []}', '{"classes": {"default": {}}}', figure):
                path.write_text(text)
                with self.assertRaisesRegex(gate.GateError, "t.json"):
                    gate.load(path)


class Command(unittest.TestCase):
    """bench/gate itself, fed with a measurement."""

    def judge(self, factor, leave_out=None):
        document = gate.load(ROOT / "bench" / "thresholds.json")
        rows = [{"id": row, "metrics": {"instructions": {"value": found["instructions"] * factor}}}
                for row, found in document["classes"]["default"]["rows"].items() if row != leave_out]
        with tempfile.TemporaryDirectory() as folder:
            measured = Path(folder) / "measured.json"
            measured.write_text(json.dumps({
                "machine": {"class": "of no machine"}, "method": "callgrind", "cyclesUnjudged": [], "load": None,
                "rows": rows}))
            return subprocess.run(
                [ROOT / "bench" / "gate", "--measured", measured, "--out", Path(folder) / "out.json"],
                capture_output=True, text=True)

    def test_it_passes_what_costs_as_much_as_before(self):
        done = self.judge(1.0)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_it_fails_when_a_packet_costs_six_percent_more(self):
        done = self.judge(1.06)
        self.assertEqual(done.returncode, 1)
        for word in (gate.ROWS[0], "+6.0%", "bench/gate --update", "same commit"):
            self.assertIn(word, done.stderr)

    def test_it_fails_when_a_row_is_gone(self):
        done = self.judge(1.0, leave_out=gate.ROWS[3])
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{gate.ROWS[3]} is no longer measured", done.stderr)


if __name__ == "__main__":
    unittest.main()
