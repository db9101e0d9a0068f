"""How long this machine keeps ready processes waiting: what a lost packet may come from."""
import subprocess
import sys

from .shell import Disturbed


class Noise:
    """How long this machine keeps a ready process waiting; a process of its own measures it."""

    _PROGRAM = ("import signal,time\nstop=[]\nsignal.signal(signal.SIGTERM,lambda *_:stop.append(1))\n"
                "worst=0\nlast=time.monotonic()\nprint('on',flush=True)\n"
                "while not stop:\n time.sleep(.005)\n now=time.monotonic()\n"
                " worst=max(worst,now-last-.005)\n last=now\nprint(worst)\n")

    def __init__(self):
        self._process = subprocess.Popen([sys.executable, "-c", self._PROGRAM], text=True,
                                         stdout=subprocess.PIPE)
        self._process.stdout.readline()

    def stop(self):
        """The longest wait in seconds."""
        self._process.terminate()
        try:
            return float(self._process.communicate(timeout=10)[0])
        except (ValueError, subprocess.TimeoutExpired):
            self._process.kill()
            raise Disturbed("the noise of the machine was not measured") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def blame(self, bad, limit=0.08):
        """The longest wait so far ends the measurement: Disturbed when it was `bad` and so long."""
        waited = self.stop()
        if bad and waited > limit:
            raise Disturbed(f"this machine kept ready processes waiting for {waited * 1e3:.0f} ms")
        return waited
