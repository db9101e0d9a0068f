"""Results on disk: where they go, what is refused when they are read, and that no measuring program is left behind."""

import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "lib"))

from pebench.programs import measure, started  # noqa: E402
from pebench.results import ResultError, checked, command_line, destination  # noqa: E402

RECORDED = ROOT / "bench" / "recorded"


class DestinationTests(unittest.TestCase):
    def test_a_place_that_cannot_be_written_ends_the_command_before_it_measures(self):
        with tempfile.TemporaryDirectory() as folder:
            for place in (folder, "/proc/nowhere/x.json", "/dev/null/x.json"):
                with self.subTest(place), self.assertRaisesRegex(SystemExit, "cannot be written.*--out"):
                    destination("cycles", place, False)
            self.assertEqual(os.listdir(folder), [])

    def test_smoke_runs_go_to_a_folder_of_their_own(self):
        self.assertEqual(destination("cycles", None, True), ROOT / "out" / "bench" / "smoke" / "cycles.json")
        self.assertEqual(destination("cycles", None, False), ROOT / "out" / "bench" / "cycles.json")

    def test_the_recorded_command_is_what_one_types(self):
        words = ["/somewhere/bench/peers", "--rounds", "1", "--out", "/tmp/x", "--json", "--cases", "l2-*"]
        self.assertEqual(command_line(words), "bench/peers --rounds 1 --cases 'l2-*'")
        self.assertEqual(command_line(["bench/cycles", "--out=/tmp/x"]), "bench/cycles")

    def test_a_mistyped_row_leaves_an_earlier_result_alone(self):
        program = ROOT / ".build" / "release" / "bench-cycles"
        if not program.exists():
            self.skipTest("bench-cycles is not built")
        for row in ("l2-encap", "l2-encap/ipv4/0/64/32", "l2-encap/ipv4/1000/64/33", "l2-encap/ipv4/1e3/64/32"):
            done = subprocess.run([program, "--check", row], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn(row, done.stderr)


class CheckedTests(unittest.TestCase):
    def setUp(self):
        self.document = json.loads((RECORDED / "cycles.json").read_text())

    def test_recorded_results_are_results(self):
        for path in sorted(RECORDED.glob("*.json")):
            with self.subTest(path.name):
                document = json.loads(path.read_text())
                self.assertIs(checked(document, path.stem), document)

    def test_what_is_no_result_is_refused_with_its_place(self):
        def changed(change):
            document = copy.deepcopy(self.document)
            change(document)
            return document

        cycles = self.document["rows"][9]["metrics"]["cycles"]
        self.assertIn("median", cycles)
        for document, place in (
                ([], "the result"), ({}, "the result"),
                (changed(lambda d: d.update(bench="peers")), "bench/peers"),
                (changed(lambda d: d.update(schema=2)), "schema 2"),
                (changed(lambda d: d.pop("started")), "started"),
                (changed(lambda d: d["machine"].pop("caches")), "caches"),
                (changed(lambda d: d.update(notes=None)), "notes"),
                (changed(lambda d: d.update(load={"quiet": True})), "load"),
                (changed(lambda d: d["rows"].append(1)), r"rows\[\d+\]"),
                (changed(lambda d: d["rows"].append(d["rows"][0])), "twice"),
                (changed(lambda d: d["rows"][9].pop("id")), r"rows\[9\]"),
                (changed(lambda d: d["rows"][9]["metrics"].update(cycles={})), "value"),
                (changed(lambda d: d["rows"][9]["metrics"]["cycles"].update(median=float("nan"))), "finite"),
                (changed(lambda d: d["rows"][9]["metrics"]["cycles"].update(min="1")), "min")):
            with self.subTest(place), self.assertRaisesRegex(ResultError, place):
                checked(document, "cycles")


class Collector:
    """What `measure` wants of a result."""

    def __init__(self):
        self.rows = []

    def row(self, identifier, metrics, **varied):
        self.rows.append(identifier)


class ProgramTests(unittest.TestCase):
    def test_a_program_ends_with_the_block_that_is_left_early(self):
        with self.assertRaises(SystemExit), started(["sleep", 60]) as process:
            sys.exit(1)
        self.assertEqual(process.returncode, -signal.SIGTERM)

    def test_a_program_that_ignores_the_end_is_killed(self):
        command = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]
        with self.assertRaises(SystemExit), started(command, patience=0.2, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            sys.exit(1)
        self.assertEqual(process.returncode, -signal.SIGKILL)

    def test_faults_and_a_silent_failure_are_told(self):
        found = Collector()
        script = 'echo \'{"id": "a", "metrics": {}}\'; echo \'{"id": "b", "fault": "late"}\'; exit 1'
        self.assertEqual(measure(["sh", "-c", script], found)[1], ["b: late"])
        self.assertEqual(found.rows, ["a"])
        self.assertIn("exit code 3", measure(["sh", "-c", "exit 3"], found)[1][0])

    def test_a_signal_to_a_command_ends_what_it_runs(self):
        script = ("import sys; sys.path.insert(0, sys.argv[1]); from pebench.programs import *\n"
                  "end_on_signals()\n"
                  "with started(['sleep', '60']) as child: print(child.pid, flush=True); child.wait()")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number):
                command = [sys.executable, "-c", script, str(ROOT / "bench" / "lib")]
                with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                    child = int(process.stdout.readline())
                    time.sleep(0.05)
                    process.send_signal(number)
                    self.assertEqual(process.wait(20), 128 + number)
                self.assertFalse(Path(f"/proc/{child}").exists())


if __name__ == "__main__":
    unittest.main()
