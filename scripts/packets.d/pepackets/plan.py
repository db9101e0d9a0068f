"""Which cases there are, and how they are run together; what tshark thinks of what left."""
import os
import shutil
import subprocess
import sys

from . import (errors, flows, gateway, irb, leg, malformed, marks, mtu, neighbors, routes,  # noqa: F401
               suppression, ttl)
from .replay import write_pcap
from .runner import CASES, run_world
from .worlds import WORLDS

# Fragments are looked at one by one: not all of a packet's are there.
OPTIONS = ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE", "tcp.check_checksum:TRUE",
           "ip.defragment:FALSE", "ipv6.defragment:FALSE"]
STATUS = ["ip.checksum.status", "udp.checksum.status", "tcp.checksum.status", "icmp.checksum.status",
          "icmpv6.checksum.status"]


def choose(filters):
    """The cases whose name contains one of the filters; all without."""
    return [entry for entry in CASES if not filters or any(word in entry.name for word in filters)]


def run(cases, binary, directory, blame=False, quiet=False):
    """Runs the cases world by world and prints each, or with `quiet` those that fail.

    Returns the results and how many checks were skipped.
    """
    results, frames, owners, skipped = [], [], [], 0
    for name in WORLDS:
        mine = [entry for entry in cases if entry.world == name]
        if not mine:
            continue
        outcome, output = run_world(name, mine, binary, directory, blame)
        for row in outcome:
            _say(row, quiet)
        results += outcome
        if output and WORLDS[name].clean:
            for port, sent in output.frames.items():
                frames += sent
                owners += [f"{name}: {port}"] * len(sent)
    if frames and shutil.which("tshark"):
        row = ("tshark", "nothing that leaves is malformed or has a wrong checksum",
               _dissect(frames, owners, directory), 0)
        _say(row, quiet)
        results.append(row)
    else:
        print("skip tshark: " + ("it is not installed" if frames else "nothing left"))
        skipped += 1
    return results, skipped


def _say(row, quiet):
    name, rule, failure, _ = row
    if quiet and not failure:
        return
    print(f"{'FAIL' if failure else 'ok  '} {name}: {rule}")
    if failure:
        print(f"      {failure}")
    sys.stdout.flush()


def _dissect(frames, owners, directory):
    """What tshark finds wrong in the frames; None when nothing is."""
    path = os.path.join(directory, "left.pcap")
    write_pcap(path, frames)
    command = ["tshark", "-r", path, "-n", "-T", "fields", "-E", "occurrence=a", "-d",
               "udp.port==8472,vxlan", "-e", "frame.number", "-e", "_ws.malformed"]
    for field in STATUS:
        command += ["-e", field]
    for option in OPTIONS:
        command += ["-o", option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    if done.returncode != 0 or len(rows) != len(frames):
        return f"tshark ends with {done.returncode} after {len(rows)} of {len(frames)}: {done.stderr.strip()[-300:]}"
    wrong = []
    for number, row in enumerate(rows):
        # 0: bad; 1: good; 2: not verified; 3: not present.
        bad = [name for name, value in zip(STATUS, row[2:]) if "0" in value.split(",")]
        if row[1]:
            bad.append("malformed")
        if bad:
            wrong.append(f"{owners[number]}: {', '.join(bad)}: {frames[number].hex()}")
    return "\n      ".join([f"{len(wrong)} of {len(frames)} frames"] + wrong[:5]) if wrong else None
