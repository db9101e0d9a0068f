"""Peers on another core, over memif: for programs into which the generator cannot be loaded."""

from .host import build
from .page import first_decile
from .plug import Plugged


class Crossed(Plugged):
    """A user's peer that opens two memif servers; generator and sink are on the main core.

    The peer is offered more than it can take, so what arrives is what its core can do: the time of a slice
    at the sink is the peer's, as long as the generator is the faster of the two.
    """

    where = "memif"
    warm_seconds = 0.3
    ready_seconds = 60

    def begin(self):
        self.prepare()
        self.launch(self.host.eal(self.name, self.memif("server", self.values), plugin=False))
        vdevs = self.memif("client", self.values)
        # The generator is on the other core than the peer.
        arguments = [word.replace(f"0@{self.host.main_core},1@{self.host.core}", f"0@{self.host.main_core}")
                     for word in self.host.eal(f"{self.name}-source", vdevs, plugin=False)]
        self.peer = self.processes[-1]
        self.spawn([build("crossover"), *arguments, "--", self.page.path], r"^crossover ready", name="source.log")
        self.processes[-1], self.processes[-2] = self.processes[-2], self.processes[-1]

    @staticmethod
    def memif(role, values):
        return [f"net_memif{i},role={role},id={i},socket={values[f'memif{i}']},socket-abstract=no,rsize=10"
                for i in (0, 1)]

    def reduce(self, slices):
        """As in-core, but by what arrived: the rest was refused by a peer that could take no more."""
        slices = [s for s in slices if s["sent"] and s["spin"]]
        if len(slices) < 3:
            raise ValueError(f"only {len(slices)} slices came out of {self.name}")
        tsc = first_decile([s["tsc"] / s["sent"] for s in slices])
        clock = 24000 / min(s["spin"] for s in slices)
        lost = 1 - sum(s["sent"] for s in slices) / sum(s["generated"] for s in slices)
        return {"tsc": tsc, "clock": clock, "cycles": tsc * clock, "loss": max(0.0, lost), "slices": len(slices)}
