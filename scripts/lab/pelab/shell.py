"""Running commands, waiting for events and printing: what every part of the lab shares."""
import contextlib
import os
import subprocess
import sys
import time

TTY = sys.stdout.isatty() and "NO_COLOR" not in os.environ
VERBOSE = bool(os.environ.get("LAB_VERBOSE"))


class LabError(Exception):
    """A step of the lab did not do what it must; the text names the step and the reason."""


class Disturbed(LabError):
    """The measurement itself failed, such as a capture that lost frames: nothing is known of pe-dp."""


class Timeout(LabError):
    """An awaited event did not come."""


def colour(code, text):
    """Text in an ANSI colour, or as it is when the output is no terminal."""
    return f"\033[{code}m{text}\033[0m" if TTY else text


def green(text):
    return colour("32", text)


def red(text):
    return colour("31", text)


def yellow(text):
    return colour("33", text)


def bold(text):
    return colour("1", text)


def say(text=""):
    """Prints a line; a reader that went away must not stop the clean-up."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def run(command, check=True, timeout=60, input=None, env=None):
    """Runs a command (list of words) and returns its standard output.

    Raises LabError with the command, its exit code and what it printed, unless check is false.
    """
    if VERBOSE:
        say("    $ " + " ".join(map(str, command)))
    try:
        result = subprocess.run(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, timeout=timeout, input=input, env=env)
    except FileNotFoundError:
        raise LabError(f"`{command[0]}` is not installed; run scripts/test or scripts/demo") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(map(str, command))}` did not end within {timeout} s") from None
    if check and result.returncode != 0:
        said = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise LabError(f"`{' '.join(map(str, command))}` exited {result.returncode}: "
                       + " / ".join(said[-4:]))
    return result.stdout


def wait(what, predicate, timeout=20.0, interval=0.02):
    """Polls predicate until it returns something true and returns that.

    Raises Timeout naming what was awaited, and the last error or value seen.
    """
    began = time.monotonic()
    announced = began
    last = None
    while True:
        try:
            last = predicate()
            if last:
                return last
        except Timeout:
            raise
        except (LabError, KeyError, ValueError, OSError, TypeError, IndexError) as error:
            last = error
        now = time.monotonic()
        if now - began > timeout:
            raise Timeout(f"{what}: not within {timeout:g} s (last: {last})")
        if now - announced > 5:
            announced = now
            say(f"    ... waiting for {what} ({now - began:.0f} s)")
        time.sleep(interval)


def alive(pid):
    """Whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def terminate(pid, signals, patience):
    """Sends each signal in turn until the process is gone; true when it is."""
    for number in signals:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return True
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if not alive(pid):
                return True
            time.sleep(0.02)
    return not alive(pid)
