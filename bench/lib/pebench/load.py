"""Whether the machine was quiet enough while something was measured."""

import os
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")

# More than this of one core for others, or stolen by the hypervisor, and a figure says nothing about a
# budget. A quiet machine with a desktop's worth of daemons stays far below.
FOREIGN_LIMIT = 0.15
STEAL_LIMIT = 0.05


def _cpu():
    fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq) / TICK, steal / TICK


def _pressure():
    try:
        text = Path("/proc/pressure/cpu").read_text().split("\n", 1)[0]
        return int(text.rsplit("total=", 1)[1]) / 1e6
    except (OSError, IndexError, ValueError):
        return None


class LoadWatch:
    """Context manager round a measurement; afterwards `report` tells the load and the verdict.

    CPU time of this process and of the children it has waited for counts as its own; `add_own(seconds)`
    adds that of processes it starts and does not wait for inside the block (kernel threads, daemons).
    """

    def __enter__(self):
        self.own_extra = 0.0
        self.before = self._sample()
        self.load_before = os.getloadavg()[0]
        return self

    def add_own(self, seconds):
        self.own_extra += seconds

    def __exit__(self, *_):
        seconds, busy, steal, own, waited = (b - a for a, b in zip(self.before, self._sample()))
        seconds = max(seconds, 1e-9)
        foreign = max(0.0, busy - own - self.own_extra) / seconds
        stolen = steal / seconds
        reasons = []
        if foreign > FOREIGN_LIMIT:
            reasons.append(f"other processes used {foreign:.2f} cores")
        if stolen > STEAL_LIMIT:
            reasons.append(f"the hypervisor took {stolen:.2f} cores")
        self.report = {
            "seconds": round(seconds, 1),
            "loadAverage": [round(self.load_before, 2), round(os.getloadavg()[0], 2)],
            "foreignCores": round(foreign, 3), "stolenCores": round(stolen, 3),
            "waitedForCPU": round(waited / seconds, 3),
            "quiet": not reasons, "reasons": reasons,
        }
        return False

    @staticmethod
    def _sample():
        busy, steal = _cpu()
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return time.monotonic(), busy, steal, own, _pressure() or 0.0
