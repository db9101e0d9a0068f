"""Frames of the scale measurement: what goes in at one end, and whether the right thing came out."""

import ipaddress
import select
import socket
import struct
import time

from .lab import entered, ethernet, ipv4, mac_bytes, udp
from .scaleconfig import NEXT_HOP_MAC, OWN_VTEP, TRUNKS, vtep

VXLAN_PORT = 4789
SOL_PACKET, PACKET_AUXDATA, VLAN_VALID = 263, 8, 1 << 4


def vxlan(vni, frame, outer_target, outer_source, remote):
    """`frame` from the VTEP `remote` to this node."""
    inner = struct.pack("!BxxxI", 8, vni << 8) + frame
    return ethernet(outer_target, outer_source, ipv4(remote, OWN_VTEP, udp(50_000, VXLAN_PORT, inner)))


class Wires:
    """Raw sockets at the far ends of pe-dp's ports, in a network namespace of the measurement's own."""

    def __init__(self, namespace, names):
        self.sockets = {}
        with entered(f"/run/netns/{namespace}"):
            for name in names:
                wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
                wire.bind((f"p-{name}", 0))
                wire.setblocking(False)
                self.sockets[name] = wire

    def close(self):
        for wire in self.sockets.values():
            wire.close()

    def send(self, name, frame):
        try:
            self.sockets[name].send(frame)
        except OSError:
            pass  # The port is not there yet, or full: whoever waits for the frame sends it again.

    def receive(self, seconds):
        """Yields (name, frame) of all that has come, after at most `seconds`; a VLAN tag is put back."""
        by_descriptor = {wire.fileno(): name for name, wire in self.sockets.items()}
        ready, _, _ = select.select(list(by_descriptor), [], [], max(0, seconds))
        for descriptor in ready:
            name = by_descriptor[descriptor]
            while True:
                try:
                    data, extra, _, address = self.sockets[name].recvmsg(65_536, 256)
                except OSError:
                    break
                if address[2] == 4:  # PACKET_OUTGOING: what was sent here
                    continue
                yield name, _with_tag(data, extra)


def _with_tag(data, extra):
    for level, kind, content in extra:
        if level == SOL_PACKET and kind == PACKET_AUXDATA and len(content) >= 20:
            status, _, _, _, _, tag, _ = struct.unpack("=IIIHHHH", content[:20])
            if status & VLAN_VALID:
                return data[:12] + struct.pack("!HH", 0x8100, tag) + data[12:]
    return data


class Probe:
    """One packet through the node: what to send where, and what has to arrive where."""

    def __init__(self, name, vni, send, frame, arrive, check):
        self.name, self.vni, self.send, self.frame, self.arrive, self.check = name, vni, send, frame, arrive, check

    def __str__(self):
        return f"{self.name} of VNI {self.vni}"


def probes(plan, index, port_mac, mark):
    """The four ways through L2VNI `index`: bridged and routed, into the fabric and out of it.

    `port_mac` is that of the underlay port; `mark` makes the payload unlike any other's.
    """
    local_ip, local = plan.local_host(index)
    remote_ip, remote = plan.remote_host(index)
    vrf = plan.vrf_of(index)
    prefix, target, router = plan.route(vrf, mark % 16)
    beyond = str(ipaddress.IPv4Network(prefix)[9])
    trunk, vlan, owner = plan.trunk(index), plan.vlan(index), vtep(plan.vteps_of(index)[0])
    body = udp(1000, 2000, struct.pack("!Q", mark) + b"scale" * 6)

    def tunnelled(vni, far, inner_target, inner_source, ttl):
        def check(frame):
            inner = frame[50:]
            return (frame[0:6] == mac_bytes(NEXT_HOP_MAC) and frame[30:34] == ipaddress.IPv4Address(far).packed
                    and frame[46:49] == vni.to_bytes(3, "big") and inner[0:6] == mac_bytes(inner_target)
                    and inner[6:12] == mac_bytes(inner_source) and inner[22] == ttl and inner.endswith(body))
        return check

    def tagged(inner_target, inner_source, ttl):
        head = mac_bytes(inner_target) + mac_bytes(inner_source) + struct.pack("!HH", 0x8100, vlan)
        return lambda frame: frame.startswith(head) and frame[26] == ttl and frame.endswith(body)

    yield Probe(
        "bridged into the fabric", plan.vni(index), trunk,
        ethernet(remote, local, ipv4(local_ip, remote_ip, body), vlan=vlan),
        "up0", tunnelled(plan.vni(index), owner, remote, local, 64))
    yield Probe(
        "bridged out of the fabric", plan.vni(index), "up0",
        vxlan(plan.vni(index), ethernet(local, remote, ipv4(remote_ip, local_ip, body)), port_mac, NEXT_HOP_MAC, owner),
        trunk, tagged(local, remote, 64))
    yield Probe(
        "routed into the fabric", plan.vni(index), trunk,
        ethernet(plan.gateway_mac(index), local, ipv4(local_ip, beyond, body), vlan=vlan),
        "up0", tunnelled(plan.l3vni(vrf), vtep(target), router, plan.router_mac(vrf), 63))
    yield Probe(
        "routed out of the fabric", plan.vni(index), "up0",
        vxlan(plan.l3vni(vrf), ethernet(plan.router_mac(vrf), router, ipv4(beyond, local_ip, body)), port_mac,
              NEXT_HOP_MAC, vtep(target)),
        trunk, tagged(local, plan.gateway_mac(index), 63))


def run_probe(wires, probe, seconds, is_alive=lambda: True, interval=0.005):
    """Sends the packet again and again until it has come out right; the moment of that, or None."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and is_alive():
        wires.send(probe.send, probe.frame)
        again = time.monotonic() + interval
        while True:
            left = again - time.monotonic()
            for name, frame in wires.receive(left):
                if name == probe.arrive and probe.check(frame):
                    return time.monotonic()
            if left <= 0:
                break
    return None


def port_names(plan):
    return ["up0"] + [f"trunk{number}" for number in range(min(TRUNKS, plan.vnis))]


__all__ = ["Probe", "Wires", "port_names", "probes", "run_probe"]
