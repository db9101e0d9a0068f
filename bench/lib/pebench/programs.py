"""Running a measuring program that prints a line of JSON for each row."""

import json
import subprocess


def measure(command, result):
    """Runs `command` and adds its rows to `result`; what it says on stderr is passed on.

    Returns the last row as it was printed, or None, and a list of what went wrong: rows with a "fault", and an exit
    code for which no row says why.
    """
    faults, last = [], None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
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
