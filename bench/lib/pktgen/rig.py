"""The real source of trials: generator and device under test, and what disturbed either of them."""

import time
from pathlib import Path

from .model import DECAP, DIRECTION_NAMES, ENCAP, UNCHANGED
from .trials import SearchStopped, Trial

LEARN_RATE = 100_000


class DeviceWatch:
    """How long the threads of a local device under test waited for a CPU (schedstat of the kernel)."""

    PACKET_THREADS = ("rte-worker", "lcore-worker", "lcore-slave", "pmd-c", "vpp_wk")

    def __init__(self, pid):
        self.pid = pid

    def waited(self):
        """Nanoseconds that the packet threads, or all if none is known by name, have waited so far."""
        if self.pid is None:
            return 0
        times = {}
        for task in Path(f"/proc/{self.pid}/task").glob("*"):
            try:
                name = (task / "comm").read_text().strip()
                times[task.name] = name, int((task / "schedstat").read_text().split()[1])
            except (OSError, IndexError, ValueError):
                continue
        packet = [waited for name, waited in times.values() if name.startswith(self.PACKET_THREADS)]
        return max(packet or [waited for _, waited in times.values()], default=0)


def disturbances(answer, load, slots, waited):
    """What says that a trial's loss need not be the device's: texts "kind: how much"."""
    result = []
    # Half of what the rings between generator and device hold: longer, and frames are lost to the pause.
    bearable = slots / 2 / load * 1e9 if load else float("inf")
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
        self.is_wire = any(port["physical"] for port in generator.ports)
        self.slots = min(min(port["rxSlots"], port["txSlots"]) for port in generator.ports)

    @staticmethod
    def now():
        return time.monotonic()

    def run(self, load, seconds, check=64):
        waited = self.watch.waited()
        answer = self.generator.trial(load, seconds, self.drain, self.traffic.directions, check=check, burst=self.burst)
        return self._trial(answer, load, seconds, self.watch.waited() - waited)

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
            disturbances=disturbances(answer, load, self.slots, waited), faults=faults,
            latency={lane["name"]: lane["latency"] for lane in lanes}, details=answer)

    def prepare(self):
        """Tells the generator the traffic and the device its hosts; then a few frames must come back right.

        Raises SearchStopped, in words, when they do not.
        """
        self.generator.set_traffic(self.traffic)
        if self.traffic.service != UNCHANGED:
            hosts = min(self.traffic.flows, self.traffic.macs)
            # Every local host speaks once in each of its VNIs: the device learns where it is.
            for _ in range(2):
                self.generator.trial(LEARN_RATE, 2 * hosts / LEARN_RATE + 1, 0.05, 1 << ENCAP, frames=hosts)
            time.sleep(0.5)
        last = None
        for _ in range(5):
            last = self.run(2000, 0.25, check=1)
            if last.lost == 0 and not last.faults:
                return
        raise SearchStopped(self._why_not(last))

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
            offered = max(lane["sent"] + lane["refused"] for lane in lanes)
            best = max(best, offered / answer["seconds"])
        return best
