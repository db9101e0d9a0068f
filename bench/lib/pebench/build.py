"""Building the measuring programs: release binaries of the package's products."""

import subprocess
import sys

from .machine import ROOT


class BuildError(RuntimeError):
    """A product did not build; the text says why and what to do."""


def swift_product(name):
    """The path of a release binary, built when it is not up to date; SwiftPM's words go to stderr."""
    command = ["swift", "build", "-c", "release", "--product", name]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        folder = subprocess.run(command[:4] + ["--show-bin-path"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BuildError("swift is not installed: see README.md for the toolchain") from error
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        raise BuildError(f"{' '.join(command)} failed: see above")
    return folder.stdout.strip() + f"/{name}"
