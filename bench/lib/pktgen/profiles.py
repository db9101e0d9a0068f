"""The same traffic for other generators: captures and commands for Pktgen-DPDK and dpdk-testpmd."""

import struct
import tempfile
from pathlib import Path

from pebench.lab import mac_text
from pebench.machine import ROOT

from . import model
from .generator import is_pci
from .testbed import device_config

FOLDER = ROOT / "bench" / "profiles"
# Pktgen and net_pcap keep every frame of a capture in buffers of their own.
MOST_FRAMES = 12_000


def capture_frames(traffic):
    """How many frames make a capture in which each flow has each size, up to a limit."""
    sizes = len(traffic.sizes())
    frames = traffic.flows if traffic.flows % sizes == 0 or sizes == 1 else traffic.flows * sizes
    return min(frames, MOST_FRAMES)


def write_capture(path, traffic, direction):
    """A pcap file of the frames of `direction`, without marks (trial, sequence and time are the generator's)."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for sequence in range(capture_frames(traffic)):
            frame = traffic.frame_bytes(direction, sequence, marked=False)
            file.write(struct.pack("<IIII", 0, sequence, len(frame), len(frame)) + frame)


def probe_arguments(ports):
    """EAL arguments that probe the two ports and nothing else."""
    words = [f"-a {port}" if is_pci(port) else f"--vdev '{port}'" for port in ports]
    return " ".join(words if any(is_pci(port) for port in ports) else ["--no-pci"] + words)


def pktgen_files(traffic, ports, journey):
    """Files for Pktgen-DPDK: a command line, a script of commands and one that searches, in Lua.

    Port 0 is side A (underlay), port 1 side B (access); captures hold the frames.
    """
    names = {model.DECAP: "underlay.pcap", model.ENCAP: "access.pcap"}
    numbers = {model.DECAP: 0, model.ENCAP: 1}
    captures = " ".join(f"-s {numbers[d]}:{names[d]}" for d in sorted(traffic.active(), reverse=True))
    senders = ",".join(sorted(str(numbers[d]) for d in traffic.active()))
    made = "Made by bench/pktgen profile --for pktgen-dpdk."
    script = [
        f"# {journey}, {traffic.frame} bytes, {traffic.flows} flows, at 10 % of the link for ten seconds. {made}",
        "stop all", "clr", "set all count 0", "set all burst 32", f"enable {senders} pcap",
        f"set {senders} rate 10", "page main", f"start {senders}", "delay 10000", "stop all", "",
    ]
    pairs = ", ".join(f"{{{numbers[d]}, {1 - numbers[d]}}}" for d in traffic.active())
    search = [
        f"-- {journey}, {traffic.frame} bytes, {traffic.flows} flows: binary search for the highest rate (percent of",
        f"-- the link) without loss, in trials of ten seconds. {made}",
        'package.path = package.path .. ";?.lua"', 'require "Pktgen"', "",
        f'local senders, pairs_of_ports = "{senders}", {{{pairs}}}', "local low, high = 0, 100", "",
        "local function lost(rate)", '  pktgen.clr()', '  pktgen.set(senders, "rate", rate)', "  pktgen.start(senders)",
        "  pktgen.delay(10000)", "  pktgen.stop(senders)", "  pktgen.delay(2000)",
        '  local stats, missing = pktgen.portStats("all", "port"), 0', "  for _, pair in ipairs(pairs_of_ports) do",
        "    missing = missing + stats[pair[1]].opackets - stats[pair[2]].ipackets", "  end", "  return missing",
        "end", "",
        'pktgen.set("all", "count", 0)', 'pktgen.pcap(senders, "on")', "while high - low > 0.5 do",
        "  local rate = (low + high) / 2", "  local missing = lost(rate)",
        '  printf("%6.2f %%: %d packets lost\\n", rate, missing)',
        "  if missing > 0 then high = rate else low = rate end", "end",
        'printf("NDR: %.2f %% of the link\\n", low)', "",
    ]
    shell = [
        "#!/bin/sh", f"# Pktgen-DPDK with the traffic of bench/pktgen; three lcores; run in this folder. {made}",
        "# The argument is what it runs: pktgen.pkt (a fixed rate) or ndr.lua (a search; Pktgen built with Lua).",
        f"exec pktgen -l 0-2 -n 4 {probe_arguments(ports)} \\",
        f"  -- -P -m '1.0,2.1' {captures} -f ${{1:-pktgen.pkt}}", "",
    ]
    return {"pktgen.pkt": "\n".join(script), "ndr.lua": "\n".join(search), "run.sh": "\n".join(shell)}, names


def testpmd_files(traffic, ports, journey):
    """Command lines for dpdk-testpmd: exact traffic by net_pcap, and its own txonly for one direction."""
    names = {model.DECAP: "underlay.pcap", model.ENCAP: "access.pcap"}
    # Ports are numbered in probing order: PCI devices first, then virtual ones in the order given.
    probes = probe_arguments(ports)
    pcaps = " ".join(f"--vdev 'net_pcap{index},rx_pcap={names[d]},infinite_rx=1'"
                     for index, d in enumerate(sorted(traffic.active(), reverse=True)))
    order = [number for index, d in enumerate(sorted(traffic.active(), reverse=True))
             for number in (2 + index, 0 if d == model.DECAP else 1)]
    order += [number for number in (0, 1) if number not in order]
    mask = sum(1 << number for number in order)
    # In a chain each port sends to the next: capture, sender, receiver, and back into the capture's void.
    topology = "paired" if len(order) == 4 else "chained"
    exact = [
        "#!/bin/sh", "# dpdk-testpmd as a generator with the traffic of bench/pktgen, as fast as it can.",
        "# Made by bench/pktgen profile --for testpmd. Run it in this folder; RX-pps of the two ports is what",
        "# came through the device, TX-pps what was offered. testpmd does not pace: for an NDR use bench/pktgen.",
        f"exec dpdk-testpmd -l 0-1 {probes} {pcaps} \\",
        f"  -- --forward-mode=io --portmask={mask:#x} --portlist={','.join(map(str, order))} "
        f"--port-topology={topology} \\",
        "  --no-flush-rx --total-num-mbufs=65536 --stats-period=1 --auto-start", "",
    ]
    files = {"exact.sh": "\n".join(exact)}
    if model.ENCAP in traffic.active():
        files["txonly.sh"] = "\n".join(_txonly(traffic, ports, probes))
    return files, names


def _txonly(traffic, ports, probes):
    """testpmd's own frames to the first remote host, from the access side; the source varies by flow."""
    routed = traffic.service == model.ROUTED
    destination = mac_text(model.GATEWAY_MAC if routed else model.remote_mac(0))
    sizes = sorted(set(traffic.sizes()))
    return [
        "#!/bin/sh", "# dpdk-testpmd's txonly mode on the access side: one remote host, no captures needed.",
        "# Made by bench/pktgen profile --for testpmd. txonly does not receive: what came through is in",
        "# pe-dp show counters, sent and transmitFailed of the underlay port.",
        f"exec dpdk-testpmd -l 0-1 {probes} \\",
        f"  -- --forward-mode=txonly --portlist=1 --port-topology=loop --eth-peer=1,{destination} \\",
        f"  --tx-ip={model.LOCAL_HOST},{model.REMOTE_HOST} --tx-udp=1024,9 --txonly-multi-flow \\",
        f"  --txpkts={sizes[0]} --stats-period=1 --auto-start", "",
    ]


KINDS = {"pktgen-dpdk": pktgen_files, "testpmd": testpmd_files}


def make(kind, traffic, ports, device_ports, journey, folder):
    """Writes the files of profile `kind` into `folder`; their paths."""
    files, names = KINDS[kind](traffic, ports, journey)
    files["pe-dp.yaml"] = device_config(traffic, device_ports)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in files.items():
        path = folder / name
        path.write_text(text)
        if name.endswith(".sh"):
            path.chmod(0o755)
        written.append(path)
    for direction in traffic.active():
        write_capture(folder / names[direction], traffic, direction)
        written.append(folder / names[direction])
    return written


# What is committed below bench/profiles, as an example and as what --smoke compares.
EXAMPLE = dict(journey="l2", ports=("0000:3b:00.0", "0000:3b:00.1"), device_ports=("0000:5e:00.0", "0000:5e:00.1"))


def example_traffic():
    return model.Traffic.of_journey("l2", flows=64, macs=64, vteps=4)


def stale():
    """Names of committed profiles that the traffic model would write differently."""
    result = []
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            for path in make_example(kind, folder):
                committed = FOLDER / kind / path.name
                if not committed.exists() or committed.read_bytes() != path.read_bytes():
                    result.append(str(committed.relative_to(ROOT)))
    return result


def make_example(kind, folder):
    return make(kind, example_traffic(), EXAMPLE["ports"], EXAMPLE["device_ports"], EXAMPLE["journey"], folder)
