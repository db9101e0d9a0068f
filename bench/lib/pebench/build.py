"""Building the measuring programs: release binaries of the package's products."""

import shutil
import subprocess
import sys

from .machine import ROOT
from .programs import started


class BuildError(RuntimeError):
    """A product did not build; the text says why and what to do."""


def swift_product(name):
    """The path of a release binary, built when it is not up to date; SwiftPM's words go to stderr meanwhile."""
    command = ["swift", "build", "-c", "release", "--product", name]
    print(f"building {name}: minutes the first time", file=sys.stderr, flush=True)
    try:
        with started(command, cwd=ROOT, stdout=sys.stderr) as build:
            build.wait()
        folder = subprocess.run(command[:4] + ["--show-bin-path"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BuildError("swift is not installed: see README.md for the toolchain") from error
    if build.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed: see above")
    return folder.stdout.strip() + f"/{name}"


def daemon(note):
    """The path of pe-dp, up to date; without swift (sudo has another PATH) the one built last, which `note` is told."""
    last = ROOT / ".build" / "release" / "pe-dp"
    if shutil.which("swift") or not last.exists():
        return swift_product("pe-dp")
    note("swift is not in PATH: pe-dp is the one that was built last")
    return str(last)
