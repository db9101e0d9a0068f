"""Running measuring programs: what they print a line of JSON for each row, and that none outlives its command."""

import json
import signal
import subprocess
import sys
from contextlib import contextmanager


def end_on_signals():
    """What ends a command leaves its blocks, so that what it started is ended and what it made is removed.

    In a script's background SIGINT is ignored unless somebody asks for it.
    """
    def leave(number, _):
        # A second signal must not stop the cleaning.
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


@contextmanager
def started(command, patience=10, **options):
    """A process that ends with the block, by SIGTERM when the block is left early, and killed `patience` s later."""
    process = subprocess.Popen(list(map(str, command)), **options)
    try:
        yield process
    except BaseException:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    finally:
        process.wait()
        for pipe in (process.stdout, process.stderr, process.stdin):
            if pipe:
                pipe.close()


def measure(command, result):
    """Runs `command` and adds its rows to `result`; what it says on stderr is passed on.

    Returns the last row as it was printed, or None, and a list of what went wrong: rows with a "fault", and an exit
    code for which no row says why.
    """
    faults, last = [], None
    with started(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            row = json.loads(line)
            if "fault" in row:
                faults.append(f"{row['id']}: {row['fault']}")
                continue
            last = dict(row)
            metrics = row.pop("metrics")
            result.row(row.pop("id"), metrics, **row)
    if process.returncode != 0 and not faults:
        faults.append(f"{command[0]} ended with exit code {process.returncode}: its last words are above")
    return last, faults
