"""Rules of bench/pktgen that need no device: search, believing trials, percentiles, model, profiles, errors."""

import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "lib"))

from pebench.lab import mac_text  # noqa: E402
from pktgen import model, profiles, report, rig, simulated, testbed  # noqa: E402
from pktgen.rig import DeviceWatch, Rig, disturbances  # noqa: E402
from pktgen.search import Goal, Loads, buffered  # noqa: E402
from pktgen.trials import DeviceGone, Measurer, SearchStopped, Trial, merged, percentile  # noqa: E402


def answer(longest=0, missed=0, buffers=0):
    gaps = {"longest": longest, "histogram": []}
    return {"sendGaps": gaps, "receiveGaps": gaps, "portMissed": [0, missed], "directions": [{"noBuffers": buffers}]}


class Scripted:
    """A source of trials that were decided beforehand."""

    def __init__(self, trials):
        self.trials, self.asked = list(trials), 0

    def now(self):
        return 0.0

    def rest(self, seconds):
        pass

    def run(self, load, seconds):
        self.asked += 1
        return self.trials.pop(0)


def trial(lost=0, offered=1000, intended=1000, disturbed=False, seconds=1.0, faults=None):
    return Trial(1000.0, seconds, offered, lost, intended, ["away: 5 ms"] if disturbed else [], faults=faults or {})


class DeadGenerator:
    """A generator to which nothing comes back from a given trial on."""

    ports = [{"name": "a", "physical": False, "rxSlots": 1024, "txSlots": 1024, "up": True}] * 2

    def __init__(self, alive):
        self.alive, self.trials = alive, 0

    def set_traffic(self, traffic):
        pass

    def links_down(self):
        return ["a"]

    def trial(self, rate, seconds, drain, directions, **_):
        self.trials += 1
        sent = int(rate * seconds)
        lane = {"name": "encap", "intended": sent, "sent": sent, "refused": 0, "duplicates": 0, "faults": {},
                "received": sent if self.trials <= self.alive else 0, "noBuffers": 0, "latency": {}}
        gaps = {"longest": 0, "histogram": []}
        return {"directions": [lane], "misdirected": 0, "sendGaps": gaps, "receiveGaps": gaps, "portMissed": [0],
                "away": 0}


class DeviceTests(unittest.TestCase):
    def setUp(self):
        self.patience, rig.REVIVE_SECONDS = rig.REVIVE_SECONDS, 0.1

    def tearDown(self):
        rig.REVIVE_SECONDS = self.patience

    def rig_of(self, generator, pid=None):
        found = Rig(generator, model.Traffic.of_journey("plain"), 0.05, DeviceWatch(pid))
        found.prepare()
        return found

    def test_a_device_that_dies_has_no_result(self):
        found = self.rig_of(DeadGenerator(alive=2))
        self.assertEqual(found.run(1e6, 0.1).lost, 0)
        with self.assertRaisesRegex(DeviceGone, "no link on a any more"):
            found.run(1e6, 0.1)

    def test_a_device_whose_process_ended_is_told_by_it(self):
        with subprocess.Popen(["true"]) as process:
            process.wait()
            found = self.rig_of(DeadGenerator(alive=1), process.pid)
            with self.assertRaisesRegex(DeviceGone, f"process {process.pid} has ended"):
                found.run(1e6, 0.1)

    def test_a_device_that_lets_only_low_rates_through_is_not_gone(self):
        class Livelocked(DeadGenerator):
            def trial(self, rate, *arguments, **options):
                self.trials = 0 if rate <= 2000 else 99
                return super().trial(rate, *arguments, **options)

        self.assertEqual(self.rig_of(Livelocked(alive=1)).run(1e6, 0.1).ratio, 1.0)

    def test_loss_within_a_goal_does_not_keep_the_search_from_beginning(self):
        class Lossy(DeadGenerator):
            def trial(self, *arguments, **options):
                answer = super().trial(*arguments, **options)
                answer["directions"][0]["received"] = answer["directions"][0]["sent"] * 99 // 100
                return answer

        patience, rig.PREPARE_SECONDS = rig.PREPARE_SECONDS, 0.1
        try:
            found = Rig(Lossy(0), model.Traffic.of_journey("plain"), 0.05, DeviceWatch(None))
            with self.assertRaisesRegex(SearchStopped, "lost at only 2000"):
                found.prepare()
            found.prepare(tolerated=0.02)
        finally:
            rig.PREPARE_SECONDS = patience


class SearchTests(unittest.TestCase):
    def test_the_search_finds_what_simulated_devices_can(self):
        passed, failures = simulated.run()
        self.assertEqual(failures, [])
        self.assertGreater(passed, 100)

    def test_a_wrong_device_is_noticed_by_the_self_test(self):
        test = simulated.SelfTest()
        found, _ = test.search(simulated.BinarySearch, simulated.SimulatedDevice(5e6), [simulated.ndr()])
        test.within("another capacity", found["ndr"], 6e6, 0.01)
        self.assertEqual(len(test.failures), 1)

    def test_a_rate_that_queues_may_have_made_is_told(self):
        goal = Goal("ndr", 0.0, 0.05, 0.35)
        self.assertIsNone(buffered(goal, 1e6, 1024))
        self.assertIn("hold 82% of a trial", buffered(goal, 25_000, 1024))
        self.assertIn("--trial-seconds 0.82", buffered(goal, 25_000, 1024))
        self.assertIsNone(buffered(Goal("ndr", 0.0, 0.9, 0.9), 25_000, 1024))
        self.assertIn("hold 100% of a trial", buffered(goal, 1, 1024))
        self.assertIsNone(buffered(goal, 0, 1024))

    def test_a_load_is_settled_by_full_trials_only(self):
        goal, loads = Goal("ndr", 0.0, 10.0, 10.0, 1.0), Loads()
        loads.add(5.0, trial(seconds=1.0))
        self.assertIsNone(loads.classify(5.0, goal, 10.0, 10.0))
        loads.add(5.0, trial(seconds=10.0))
        self.assertEqual(loads.classify(5.0, goal, 10.0, 10.0), "lower")
        loads.add(5.0, trial(lost=1, seconds=10.0))
        self.assertEqual(loads.classify(5.0, goal, 10.0, 10.0), "upper")

    def test_half_of_the_time_may_exceed(self):
        goal, loads = Goal("ndr", 0.0, 1.0, 4.0, 1.0, exceed_ratio=0.5), Loads()
        for lost in (1, 1):
            loads.add(5.0, trial(lost=lost))
        self.assertIsNone(loads.classify(5.0, goal, 1.0, 4.0))
        loads.add(5.0, trial(lost=0))
        loads.add(5.0, trial(lost=0))
        self.assertEqual(loads.classify(5.0, goal, 1.0, 4.0), "lower")
        for _ in range(4):
            loads.add(5.0, trial(lost=1))
        self.assertEqual(loads.classify(5.0, goal, 1.0, 4.0), "upper")


    def test_a_bound_that_disturbances_explain_is_doubtful_and_no_result(self):
        for excused, doubtful in ((500, True), (5, False)):
            device = simulated.SimulatedDevice(5e6)
            search = simulated.BinarySearch(Measurer(device), 1000.0, 20e6)
            lossy = trial(lost=100, disturbed=True)
            lossy.excused = excused
            search.loads.add(6e6, lossy)
            found = search._found(Goal("ndr", 0.0), 5e6, 6e6, True)
            self.assertEqual((found.doubtful, found.complete), (doubtful, not doubtful))


class TrialTests(unittest.TestCase):
    def test_a_disturbed_trial_with_loss_is_repeated_and_counted(self):
        source = Scripted([trial(lost=5, disturbed=True), trial(lost=3, disturbed=True), trial()])
        measurer = Measurer(source)
        self.assertEqual(measurer.measure(1000.0, 1.0).lost, 0)
        self.assertEqual((source.asked, measurer.statistics.disturbed), (3, 2))

    def test_of_disturbed_trials_only_the_best_counts(self):
        source = Scripted([trial(lost=lost, disturbed=True) for lost in (5, 2, 9)])
        measurer = Measurer(source, repeats=2)
        self.assertEqual(measurer.measure(1000.0, 1.0).lost, 2)
        self.assertEqual(measurer.statistics.accepted_disturbed, 1)

    def test_the_best_of_disturbed_trials_weighs_as_much_as_all_of_them(self):
        goal, loads = Goal("ndr", 0.0, 1.0, 4.0, 1.0, exceed_ratio=0.5), Loads()
        source = Scripted([trial(lost=lost, disturbed=True) for lost in (5, 2, 9)])
        loads.add(5.0, Measurer(source, repeats=2).measure(1000.0, 1.0))
        self.assertEqual(loads.classify(5.0, goal, 1.0, 4.0), "upper")

    def test_loss_beyond_what_a_disturbance_explains_counts_at_once(self):
        much = trial(lost=500, disturbed=True)
        much.excused = 100
        self.assertEqual(Measurer(Scripted([much])).measure(1000.0, 1.0).lost, 500)
        little = trial(lost=110, disturbed=True)
        little.excused = 100
        source = Scripted([little, trial()])
        self.assertEqual(Measurer(source).measure(1000.0, 1.0).lost, 0)

    def test_loss_without_a_disturbance_counts_at_once(self):
        source = Scripted([trial(lost=5)])
        self.assertEqual(Measurer(source).measure(1000.0, 1.0).lost, 5)

    def test_a_disturbed_trial_without_loss_counts(self):
        source = Scripted([trial(disturbed=True)])
        self.assertEqual(Measurer(source).measure(1000.0, 1.0).lost, 0)

    def test_frames_that_come_back_wrong_stop_the_search(self):
        source = Scripted([trial(faults={"VNI (encap)": 3})])
        with self.assertRaisesRegex(SearchStopped, "forwards wrongly: VNI"):
            Measurer(source).measure(1000.0, 1.0)

    def test_what_disturbs_depends_on_the_load(self):
        self.assertEqual(disturbances(answer(longest=1e6), 100_000, 1024, 0, 1.0), [])
        self.assertIn("generator was away", disturbances(answer(longest=1e6), 1_000_000, 1024, 0, 1.0)[0])
        self.assertIn("device waited", disturbances(answer(), 1_000_000, 1024, 1e6, 1.0)[0])
        self.assertIn("no room: 7", disturbances(answer(missed=7), 1000, 1024, 0, 1.0)[0])
        self.assertIn("no buffers", disturbances(answer(buffers=1), 1000, 1024, 0, 1.0)[0])

    def test_a_pause_longer_than_the_wait_for_the_last_frames_disturbs_at_any_load(self):
        self.assertEqual(disturbances(answer(), 10, 1024, 20e6, 0.05), [])
        self.assertIn("device waited", disturbances(answer(), 10, 1024, 30e6, 0.05)[0])


    def test_a_device_that_is_kept_off_its_cpu_is_noticed_while_it_waits(self):
        def waited(*threads):
            (state, ran, wait), (state_after, ran_after, wait_after) = threads
            return DeviceWatch.waited(({"7": ("rte-worker-1", state, ran, wait)}, 0),
                                      ({"7": ("rte-worker-1", state_after, ran_after, wait_after)}, 100_000_000))
        self.assertEqual(waited(("R", 0, 0), ("R", 100_000_000, 0)), 0)
        self.assertEqual(waited(("R", 0, 0), ("R", 95_000_000, 3_000_000)), 3_000_000)
        self.assertEqual(waited(("R", 0, 0), ("R", 0, 0)), 92_000_000)
        self.assertEqual(waited(("S", 0, 0), ("S", 0, 0)), 0)
        self.assertEqual(DeviceWatch.waited(DeviceWatch(None).sample(), DeviceWatch(None).sample()), 0)


class LatencyTests(unittest.TestCase):
    def test_percentiles_are_those_of_the_counts(self):
        histogram = merged([[[10, 50]], [[20, 40], [30, 9]], [[40, 1]]])
        shares = [percentile(histogram, share) for share in (0.5, 0.9, 0.99, 1.0)]
        self.assertEqual(shares, [10, 20, 30, 40])
        self.assertIsNone(percentile([], 0.5))

    def test_no_percentile_exceeds_the_largest_value(self):
        lane = {"histogram": [[1000, 10], [2000, 1]], "min": 900, "max": 1950}
        metrics = report.latency_metrics(lane)
        values = [metrics[name]["value"] for name in ("min", "p50", "p90", "p99", "p99.9", "max")]
        self.assertEqual(values, [0.9, 1.0, 1.0, 1.95, 1.95, 1.95])


class ModelTests(unittest.TestCase):
    def test_every_flow_has_the_headers_of_its_journey(self):
        from scapy.all import Ether, IP, UDP
        from scapy.layers.vxlan import VXLAN
        traffic = model.Traffic.of_journey("l3", vnis=4, macs=100, flows=100)
        for sequence in (0, 1, 99):
            packet = Ether(traffic.frame_bytes(model.DECAP, sequence))
            self.assertEqual(packet[UDP].dport, 4789)
            self.assertEqual(packet[VXLAN].vni, model.L3VNI + sequence % 4)
            inner = packet[VXLAN].payload
            self.assertEqual(inner[IP].src, f"10.128.0.{sequence}")
            for layer in (packet, inner):
                rebuilt = layer[IP].copy()
                del rebuilt.chksum
                self.assertEqual(IP(bytes(rebuilt)).chksum, layer[IP].chksum)

    def test_nonsense_is_refused_in_words(self):
        for arguments in (dict(flows=0), dict(vnis=5000), dict(frame="9000"), dict(frame="big"), dict(vteps=0)):
            with self.assertRaises(model.ModelError):
                model.Traffic.of_journey("l2", **arguments)
        for journey in ("l4", "l2-sideways", ""):
            with self.assertRaises(model.ModelError):
                model.Traffic.of_journey(journey)

    def test_the_configuration_names_every_remote_host_once(self):
        traffic = model.Traffic.of_journey("l2", macs=50, vnis=3, vteps=7)
        text = testbed.device_config(traffic, ("0000:01:00.0", "0000:01:00.1"))
        for remote in range(50):
            self.assertEqual(text.count(mac_text(model.remote_mac(remote))), 1)
        self.assertIn("driver: pci", text)

    def test_the_committed_profiles_are_those_of_the_model(self):
        self.assertEqual(profiles.stale(), [])


class CommandTests(unittest.TestCase):
    def run_command(self, *arguments):
        return subprocess.run([sys.executable, str(ROOT / "bench" / "pktgen"), *arguments], capture_output=True,
                              text=True, timeout=60)

    def test_help_teaches(self):
        text = self.run_command("--help").stdout
        for word in ("--dut-config", "rfc2544", "tst009", "--smoke", "plain", "profile"):
            self.assertIn(word, text)

    def test_errors_name_the_option(self):
        for arguments, word in ((("--ports", "x"), "--ports"), (("--dut-config",), "--dut-ports"),
                                (("--frame", "x", "--ports", "a", "b"), "--frame"),
                                (("--trial-seconds", "0", "--ports", "a", "b"), "--trial-seconds"),
                                (("profile",), "--for"), (("--cpus", "a", "--ports", "a", "b"), "--cpus")):
            done = self.run_command(*arguments)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(word, done.stderr)
            self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
