"""The real source of trials: generator and device under test, and what disturbed either of them."""

import time
from pathlib import Path

from .model import DECAP, DIRECTION_NAMES, ENCAP, UNCHANGED
from .trials import DeviceGone, SearchStopped, Trial

LEARN_RATE = 100_000
# How long the device may take until a low rate comes back whole.
PREPARE_SECONDS = 10
# How long a device that let nothing through may take until a low rate comes back in part.
REVIVE_SECONDS = 5


class DeviceWatch:
    """How long the packet threads of a local device under test were ready to run and did not (schedstat)."""

    PACKET_THREADS = ("rte-worker", "lcore-worker", "lcore-slave", "pmd-c", "vpp_wk")
    # What a running thread has used so far is brought up to date by the timer only: 4 ms, seen from both ends.
    RESOLUTION = 8_000_000

    def __init__(self, pid):
        self.pid = pid

    def is_gone(self):
        """Whether the device ran here and has ended; one that nobody has waited for yet has, too."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return self.pid is not None
        return state == "Z"

    def sample(self):
        """{thread: (name, state, nanoseconds run, nanoseconds waited)} and the time, of the packet threads."""
        threads = {}
        for task in Path(f"/proc/{self.pid}/task").glob("*") if self.pid else ():
            try:
                name = (task / "comm").read_text().strip()
                state = (task / "stat").read_text().rsplit(")", 1)[1].split()[0]
                ran, waited = map(int, (task / "schedstat").read_text().split()[:2])
            except (OSError, IndexError, ValueError):
                continue
            threads[task.name] = name, state, ran, waited
        packet = {thread: seen for thread, seen in threads.items() if seen[0].startswith(self.PACKET_THREADS)}
        return packet or threads, time.monotonic_ns()

    @classmethod
    def waited(cls, before, after):
        """Nanoseconds between two samples that some packet thread should have run and did not.

        A wait is counted by the kernel when it ends; one that goes on shows as a thread that is ready, and
        has run for less than the time that passed.
        """
        (first, begin), (second, end) = before, after
        longest = 0
        for thread, (_, state, ran, waited) in second.items():
            if thread not in first:
                continue
            _, state_before, ran_before, waited_before = first[thread]
            longest = max(longest, waited - waited_before)
            if state == state_before == "R":
                longest = max(longest, end - begin - (ran - ran_before) - cls.RESOLUTION)
        # A wait that ended in between may have begun before.
        return min(longest, end - begin)


def disturbances(answer, load, slots, waited, drain):
    """What says that a trial's loss need not be the device's: texts "kind: how much"."""
    result = []
    # Half of what the rings between generator and device hold: longer, and frames are lost to the pause. And
    # half of what the generator waits for the last frames: longer, and they come too late to count.
    bearable = min(slots / 2 / load if load else drain, drain / 2) * 1e9
    for name, what in (("sendGaps", "the generator was away from its ports"),
                       ("receiveGaps", "the generator was away from its ports")):
        longest = answer[name]["longest"]
        if longest > bearable and not any(text.startswith(what) for text in result):
            result.append(f"{what}: {longest / 1e6:.2f} ms")
    missed = sum(answer["portMissed"])
    if missed:
        result.append(f"the generator's ports had no room: {missed} frames")
    if waited > bearable:
        result.append(f"the device waited for a CPU: {waited / 1e6:.2f} ms")
    if any(lane["noBuffers"] for lane in answer["directions"]):
        result.append("the generator had no buffers: " + str(sum(lane["noBuffers"] for lane in answer["directions"])))
    return result


class Rig:
    """Generator and device, as `Measurer` and the latency part want them."""

    def __init__(self, generator, traffic, drain, watch, burst=32):
        self.generator, self.traffic, self.drain, self.watch, self.burst = generator, traffic, drain, watch, burst
        self.is_prepared = False
        self.is_wire = any(port["physical"] for port in generator.ports)
        self.slots = min(min(port["rxSlots"], port["txSlots"]) for port in generator.ports)

    @staticmethod
    def now():
        return time.monotonic()

    @staticmethod
    def rest(seconds):
        time.sleep(seconds)

    def run(self, load, seconds, check=64):
        before = self.watch.sample()
        answer = self.generator.trial(load, seconds, self.drain, self.traffic.directions, check=check, burst=self.burst)
        trial = self._trial(answer, load, seconds, self.watch.waited(before, self.watch.sample()))
        if self.is_prepared and not any(lane["received"] for lane in answer["directions"]):
            self._require_life()
        return trial

    def _require_life(self):
        """After a trial of which nothing came back: a device that is too slow still lets a low rate through."""
        end = time.monotonic() + REVIVE_SECONDS
        while True:
            answer = self.generator.trial(2000, 0.25, max(self.drain, 0.1), self.traffic.directions)
            if any(lane["received"] for lane in answer["directions"]):
                return
            if time.monotonic() > end:
                raise DeviceGone("the device under test is gone: " + self._what_is_gone())
            time.sleep(0.2)

    def _what_is_gone(self):
        down = self.generator.links_down()
        if self.watch.is_gone():
            return f"its process {self.watch.pid} has ended"
        return f"no link on {', '.join(down)} any more" if down else "nothing comes back, even at 2000 frames a second"

    def _trial(self, answer, load, seconds, waited):
        lanes = answer["directions"]
        # A ring that is full is a device that is too slow; a NIC's send queue that is full is the wire.
        offered = sum(lane["sent"] + (0 if self.is_wire else lane["refused"]) for lane in lanes)
        received = sum(lane["received"] for lane in lanes)
        faults = {}
        for lane in lanes:
            for fault, count in lane["faults"].items():
                faults[f"{fault} ({lane['name']})"] = count
        duplicates = sum(lane["duplicates"] for lane in lanes)
        if duplicates:
            faults["frames came twice"] = duplicates
        if answer["misdirected"]:
            faults["frames came on the wrong side or in the wrong shape"] = answer["misdirected"]
        return Trial(
            load=load, seconds=seconds, offered=offered, lost=max(0, offered - received),
            intended=sum(lane["intended"] for lane in lanes),
            disturbances=disturbances(answer, load, self.slots, waited, self.drain),
            excused=self._excused(answer, load, waited), faults=faults,
            latency={lane["name"]: lane["latency"] for lane in lanes}, details=answer)

    def _excused(self, answer, load, waited):
        """Frames that pauses of device and generator may have cost: all that came meanwhile, and what rings held."""
        seconds = waited / 1e9 + answer["away"] + answer["receiveGaps"]["longest"] / 1e9
        return round(len(answer["directions"]) * (load * seconds + 2 * self.slots)) + sum(answer["portMissed"])

    def prepare(self, tolerated=0.0):
        """Tells the generator the traffic and the device its hosts; then a few frames must come back right.

        Raises SearchStopped, in words, when they do not: when more than the part `tolerated` of them stays lost.
        """
        self.generator.set_traffic(self.traffic)
        end = time.monotonic() + PREPARE_SECONDS
        while True:
            self._teach()
            trial = self.run(2000, 0.25, check=1)
            if trial.lost == 0 and not trial.faults:
                break
            # A link that is up here may not have been noticed over there yet.
            if time.monotonic() > end:
                if not trial.faults and trial.ratio <= tolerated:
                    break
                raise SearchStopped(self._why_not(trial))
        self.is_prepared = True

    def _teach(self):
        """Every local host speaks once in each of its VNIs: the device learns where it is."""
        if self.traffic.service == UNCHANGED:
            return
        hosts = min(self.traffic.flows, self.traffic.macs)
        self.generator.trial(LEARN_RATE, 2 * hosts / LEARN_RATE + 1, 0.05, 1 << ENCAP, frames=hosts)
        time.sleep(0.3)

    def _why_not(self, trial):
        if trial.faults:
            worst = max(trial.faults, key=trial.faults.get)
            return f"the device forwards wrongly: {worst} ({trial.faults[worst]} frames)"
        lanes = {lane["name"]: lane for lane in trial.details["directions"]}
        silent = [name for name, lane in lanes.items() if lane["received"] == 0]
        hints = {
            DIRECTION_NAMES[ENCAP]: "does the device know the remote hosts (--dut-config) and the next hop?",
            DIRECTION_NAMES[DECAP]: "does it know the VNI, the remote VTEPs (--dut-config) and the local hosts?",
        }
        if silent:
            text = " ".join(f"nothing came back of {name}: {hints[name]}" for name in silent)
            other = trial.details["foreign"]
            return text + (f" {other} other frames came instead." if other else "")
        return f"{trial.lost} of {trial.offered} frames are lost at only 2000 a second"

    def highest_rate(self):
        """The most that can be offered in each direction: the wire's rate, or what the generator makes."""
        speeds = [port["megabits"] for port in self.generator.ports if port["megabits"]]
        if self.is_wire and speeds:
            both = (self.traffic.wire_bytes, self.traffic.wire_bytes_back)
            largest = max(count(direction) for count in both for direction in self.traffic.active())
            return min(speeds) * 1e6 / 8 / largest
        best = 0.0
        for _ in range(5):
            answer = self.generator.trial(0, 0.1, self.drain, self.traffic.directions, burst=self.burst)
            lanes = answer["directions"]
            offered = max(lane["sent"] + (0 if self.is_wire else lane["refused"]) for lane in lanes)
            best = max(best, offered / answer["seconds"])
        return best
