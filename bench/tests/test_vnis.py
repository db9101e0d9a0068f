"""Tests of the configuration of thousands of VNIs and of the packets that go through it."""

import struct
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from pebench.lab import ethernet, ipv4, udp  # noqa: E402  needs the path above
from pebench.scaleconfig import NEXT_HOP_MAC, Plan, vtep  # noqa: E402
from pebench.scalewire import probes  # noqa: E402


class PlanTests(unittest.TestCase):
    plan = Plan(vnis=4096, vrfs=1024)

    def test_everything_is_there_once(self):
        everything = range(self.plan.vnis)
        for values in (
            {(self.plan.trunk(index), self.plan.vlan(index)) for index in everything},
            {self.plan.subnet(index) for index in everything},
            {self.plan.gateway_mac(index) for index in everything},
            {self.plan.local_host(index)[1] for index in everything},
            {self.plan.vni(index) for index in everything},
        ):
            self.assertEqual(len(values), self.plan.vnis)
        vlans = [self.plan.vlan(index) for index in everything]
        self.assertTrue(1 <= min(vlans) and max(vlans) <= 4094)
        l3vnis = {self.plan.l3vni(vrf) for vrf in range(self.plan.vrfs)}
        self.assertEqual(len(l3vnis | {self.plan.vni(index) for index in everything}), 5120)

    def test_the_file_has_a_line_for_each(self):
        text = self.plan.yaml("/run/x.sock")
        for word, count in (("- {name: net", 4096), ("- {vrf: v", 1024 + 1024 * 16), ("address: 100.65.1", 2 * 4096)):
            self.assertEqual(text.count(word), count, word)
        static = text[text.index("static:"):]
        self.assertEqual(static.count("    - {"), self.plan.static_rows)


class ProbeTests(unittest.TestCase):
    plan = Plan(vnis=8, vrfs=2)
    port = "02:00:00:00:00:01"

    def arrivals(self):
        """What pe-dp has to make of the four packets, built here by hand."""
        ways = list(probes(self.plan, 5, self.port, 3))
        body = udp(1000, 2000, struct.pack("!Q", 3) + b"scale" * 6)
        local, remote = self.plan.local_host(5), self.plan.remote_host(5)
        beyond, target, router = "172.16.3.9", (1 + 3) % 16, self.plan.route(1, 3)[2]

        def outer(vni, far, inner):
            header = struct.pack("!BxxxI", 8, vni << 8)
            return ethernet(NEXT_HOP_MAC, self.port, ipv4("100.65.0.1", far, udp(50000, 4789, header + inner)))

        return ways, [
            outer(6, vtep(5), ethernet(remote[1], local[1], ipv4(local[0], remote[0], body))),
            ethernet(local[1], remote[1], ipv4(remote[0], local[0], body), vlan=3),
            outer(1_000_001, vtep(target),
                  ethernet(router, self.plan.router_mac(1), ipv4(local[0], beyond, body, ttl=63))),
            ethernet(local[1], self.plan.gateway_mac(5), ipv4(beyond, local[0], body, ttl=63), vlan=3),
        ]

    def test_what_is_right_is_taken(self):
        for probe, frame in zip(*self.arrivals()):
            self.assertTrue(probe.check(frame), probe)

    def test_what_is_wrong_is_not(self):
        for probe, frame in zip(*self.arrivals()):
            inner = 50 if probe.arrive == "up0" else 0
            tag = 0 if inner else 4
            # Destination and source MAC, TTL, and the last byte of the payload; for a tunnel VTEP and VNI, else VLAN.
            places = [inner, inner + 6, inner + 22 + tag, len(frame) - 1] + ([33, 48] if inner else [15])
            for place in places:
                broken = bytearray(frame)
                broken[place] ^= 1
                self.assertFalse(probe.check(bytes(broken)), f"{probe}, byte {place}")

    def test_no_probe_takes_anothers_packet(self):
        ways, frames = self.arrivals()
        for number, probe in enumerate(ways):
            for other, frame in enumerate(frames):
                self.assertEqual(probe.check(frame), number == other)


if __name__ == "__main__":
    unittest.main()
