"""Runs `pe-dp replay` on frames in memory, and reads what it wrote."""
import json
import os
import shutil
import struct
import subprocess


class ReplayError(Exception):
    """The replay did not end as it must: its exit code and last words."""


def write_pcap(path, frames):
    """A capture of Ethernet frames, one microsecond apart."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for index, frame in enumerate(frames):
        parts.append(struct.pack("<IIII", 1, index % 1000000, len(frame), len(frame)))
        parts.append(frame)
    with open(path, "wb") as file:
        file.write(b"".join(parts))


def read_pcap(path):
    """[frame] of a capture, of either byte order and resolution."""
    with open(path, "rb") as file:
        data = file.read()
    magic = data[:4]
    if magic in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
        order = "<"
    elif magic in (b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d"):
        order = ">"
    else:
        raise ReplayError(f"{path} is no capture: it starts with {magic.hex()}")
    frames, offset = [], 24
    while offset < len(data):
        _, _, captured, length = struct.unpack_from(order + "IIII", data, offset)
        if captured != length:
            raise ReplayError(f"{path} has a cut frame: {captured} of {length} bytes")
        offset += 16
        frames.append(data[offset:offset + captured])
        offset += captured
    return frames


class Output:
    """What one replay wrote: frames by port, summary.json, state.json."""

    def __init__(self, directory):
        self.directory = directory
        self.frames, self.punted = {}, {}
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            if name.endswith(".host.pcap"):
                self.punted[name[:-len(".host.pcap")]] = read_pcap(path)
            elif name.endswith(".pcap"):
                self.frames[name[:-len(".pcap")]] = read_pcap(path)
        with open(os.path.join(directory, "summary.json"), encoding="utf-8") as file:
            self.summary = json.load(file)
        with open(os.path.join(directory, "state.json"), encoding="utf-8") as file:
            self.state = json.load(file)


def replay(binary, directory, configuration, phases, netlink=None, timeout=120):
    """Sends `phases` ([(port, [frame])], each list in bursts of its own) through `binary`.

    Throws ReplayError when it fails, and names the directory that holds its input.
    """
    shutil.rmtree(directory, ignore_errors=True)      # of an earlier run, where it was kept
    os.makedirs(directory)
    path = os.path.join(directory, "config.yaml")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(configuration, file, indent=1)    # YAML has JSON's syntax too
    command = [binary, "replay", "--config", path]
    if netlink is not None:
        with open(os.path.join(directory, "netlink.bin"), "wb") as file:
            file.write(netlink)
        command += ["--netlink", os.path.join(directory, "netlink.bin")]
    sent = 0
    for number, (port, frames) in enumerate(phases):
        capture = os.path.join(directory, f"in{number:03d}.pcap")
        write_pcap(capture, frames)
        command += ["--in", f"{port}={capture}"]
        sent += len(frames)
    out = os.path.join(directory, "out")
    command += ["--out", out]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise ReplayError(f"the replay took more than {timeout} s; its input is in {directory}") from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()[-1500:]
        raise ReplayError(f"the replay ends with {done.returncode}; input in {directory}\n{words}")
    output = Output(out)
    output.sent = sent
    return output
