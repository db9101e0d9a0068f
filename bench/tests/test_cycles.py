"""The rows of bench/cycles: that sets hold what they promise, and that bench-cycles refuses what makes no sense."""

import fnmatch
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "lib"))

from pebench import budgets, cyclerows  # noqa: E402

PROGRAM = ROOT / ".build" / "release" / "bench-cycles"
JOURNEYS = {"null", *cyclerows.FORWARDED, "flood-copy", "arp-reply", "punt", "drop"}


class Sets(unittest.TestCase):
    def test_every_row_is_there_once(self):
        for name, rows in cyclerows.SETS.items():
            self.assertEqual(len(rows()), len(set(rows())), name)

    def test_every_set_has_every_journey_over_both_underlays(self):
        for name, rows in cyclerows.SETS.items():
            self.assertEqual({row.removeprefix("twin/").split("/")[0] for row in rows()}, JOURNEYS, name)
            self.assertEqual({row.removeprefix("twin/").split("/")[1] for row in rows()}, {"ipv4", "ipv6"}, name)

    def test_the_default_set_has_a_row_for_every_budget(self):
        rows = cyclerows.default()
        for entry in budgets.load_budgets():
            if entry["bench"] == "cycles":
                self.assertTrue(fnmatch.filter(rows, entry["row"]), entry)

    def test_the_whole_matrix_holds_the_default_dimensions(self):
        rows = cyclerows.full()
        for size in cyclerows.SIZES:
            for frame in cyclerows.FRAMES:
                for burst in cyclerows.BURSTS:
                    self.assertIn(f"l2-encap/ipv6/{size}/{frame}/{burst}/vnis=1024/checksum", rows)
                    self.assertIn(f"l3-decap/ipv6/{size}/{frame}/{burst}/vrfs=1024/outer-checksum", rows)

    def test_rows_of_a_journey_stand_together_with_their_twins(self):
        rows = [row.removeprefix("twin/").split("/")[0] for row in cyclerows.default()]
        changes = sum(a != b for a, b in zip(rows, rows[1:]))
        self.assertEqual(changes, len(set(rows)) - 1)


@unittest.skipUnless(PROGRAM.exists(), "bench-cycles is not built")
class Ids(unittest.TestCase):
    def check(self, *rows):
        return subprocess.run([PROGRAM, "--check", *rows], capture_output=True, text=True, timeout=20)

    def test_every_row_of_every_set_is_understood(self):
        for name, rows in cyclerows.SETS.items():
            done = self.check(*rows())
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)

    def test_what_makes_no_sense_is_refused_by_name(self):
        for bad, word in [
                ("", "journey"), ("l2-encap", "journey"), ("l9-encap/ipv4/1/64/32", "journey"),
                ("l2-encap/ipv5/1/64/32", "underlay"), ("l2-encap/ipv4/0/64/32", "entries"),
                ("l2-encap/ipv4/9999999999999999999999/64/32", "entries"), ("l2-encap/ipv4/1/63/32", "frame"),
                ("l2-encap/ipv4/1/64/4096", "burst"), ("l2-encap/ipv4/01/64/32", "written"),
                ("l2-encap/ipv4/1/64/32/vnis=3", "powers"), ("l2-encap/ipv4/1/64/32/vrfs=4", "knows no"),
                ("l2-encap/ipv4/1/64/32/", "knows no"), ("drop/ipv4/1/64/32", "needs one of"),
                ("l2-encap/ipv4/1/64/32/outer-checksum", "knows no"), ("arp-reply/ipv4/1/64/32/checksum", "knows no"),
                ("null/ipv6/1/64/32/outer-checksum", "outer"), ("twin/punt/ipv4/1/64/32", "twin"), ("twin", "journey")]:
            done = self.check(bad)
            self.assertEqual(done.returncode, 2, bad)
            self.assertIn(word, done.stderr, bad)


if __name__ == "__main__":
    unittest.main()
