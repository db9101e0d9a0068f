"""A configuration of thousands of VNIs, and where each of its packets has to come out."""

import ipaddress
import os
from dataclasses import dataclass

OWN_VTEP = "100.65.0.1"
ROUTES_PER_VRF = 16
MACS_PER_VNI = 4
VTEPS_PER_VNI = 2
VTEPS = 16
TRUNKS = 4
# VLANs of one trunk: the VNIs are dealt to the trunks in turn.
FIRST_VLAN = 2
UNDERLAY_MTU = 1600
NEXT_HOP_MAC = "02:fe:00:00:00:fe"
# L3VNIs are numbered from here, so that no L2VNI has the same number.
FIRST_L3VNI = 1_000_000


def mac(kind, number):
    """A locally administered MAC: `kind` tells what it is of, `number` which one."""
    return f"02:{kind:02x}:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(4, "big"))


def vtep(number):
    """The address of remote VTEP 0, 1, …"""
    return str(ipaddress.IPv4Address("100.65.1.1") + number)


@dataclass
class Plan:
    """`vnis` L2VNIs in `vrfs` VRFs, numbered from 0; VRF 0 is the default one when `in_default`."""

    vnis: int
    vrfs: int
    routes: str = "none"
    shadow: bool = False
    in_default: bool = False
    is_static: bool = True

    def vni(self, index):
        return index + 1

    def trunk(self, index):
        return f"trunk{index % TRUNKS}"

    def vlan(self, index):
        return FIRST_VLAN + index // TRUNKS

    def vrf_of(self, index):
        return index % self.vrfs

    def vrf_name(self, vrf):
        return "default" if self.in_default and vrf == 0 else f"v{vrf}"

    def l3vni(self, vrf):
        return FIRST_L3VNI + vrf

    def router_mac(self, vrf):
        return mac(0x0A, vrf)

    def subnet(self, index):
        """10.0.0.0/8 holds 65 536 of these."""
        return ipaddress.IPv4Network((0x0A000000 + (index << 8), 24))

    def gateway(self, index):
        return str(self.subnet(index)[1])

    def gateway_mac(self, index):
        return mac(0x0C, index)

    def local_host(self, index):
        return str(self.subnet(index)[10]), mac(0x10, index)

    def remote_host(self, index, number=0):
        return str(self.subnet(index)[100 + number]), mac(0x20 + number, index)

    def vteps_of(self, index):
        return [(index + number) % VTEPS for number in range(VTEPS_PER_VNI)]

    def route(self, vrf, number):
        """A prefix behind the fabric, its VTEP and router MAC there; the same prefixes in all VRFs."""
        target = (vrf + number) % VTEPS
        return f"172.16.{number}.0/24", target, mac(0x30, target)

    # -- The file ------------------------------------------------------------

    def yaml(self, socket):
        """The text of the configuration file; a machine with one CPU shares it."""
        worker = min(1, (os.cpu_count() or 1) - 1)
        control = f"{{routes: {self.routes}, shadow: {str(self.shadow).lower()}"
        control += ", fpm: {listen: \"127.0.0.1:2620\"}}" if self.routes == "fpm" else ", fpm: none}"
        lines = [
            f"dataplane: {{lcores: {{main: 0, workers: [{worker}]}}, adminSocket: {socket}}}",
            f"control: {control}",
            "ports:",
            f"  - {{name: up0, driver: af_packet, device: d-up0, mtu: {UNDERLAY_MTU}}}",
        ]
        trunks = range(min(TRUNKS, self.vnis))
        lines += [f"  - {{name: trunk{n}, driver: af_packet, device: d-trunk{n}}}" for n in trunks]
        lines += ["underlays:",
                  f"  - {{interfaces: [up0], tunnelEndpoint: {{addresses: [{OWN_VTEP}]}}}}"]
        lines.append("l3vnis:")
        for vrf in range(self.vrfs):
            lines.append(f"  - {{vrf: {self.vrf_name(vrf)}, vni: {self.l3vni(vrf)}, "
                         f"routerMAC: \"{self.router_mac(vrf)}\"}}")
        lines.append("l2vnis:")
        for index in range(self.vnis):
            name = self.vrf_name(self.vrf_of(index))
            lines.append(
                f"  - {{name: net{index}, vni: {self.vni(index)}, gatewayIPs: [{self.gateway(index)}/24], "
                f"gatewayMAC: \"{self.gateway_mac(index)}\", "
                f"routingDomain: {{type: L3VNI, l3vni: {{name: {name}}}}}, "
                f"ports: [{{port: {self.trunk(index)}, vlan: {self.vlan(index)}}}]}}")
        return "\n".join(lines + self._static()) + "\n"

    def _static(self):
        if not self.is_static:
            return []
        lines = ["static:", "  underlay:"]
        for number in range(VTEPS):
            lines.append(f"    - {{prefix: {vtep(number)}/32, "
                         f"nexthops: [{{port: up0, mac: \"{NEXT_HOP_MAC}\"}}]}}")
        lines.append("  vteps:")
        for index in range(self.vnis):
            lines += [f"    - {{vni: {self.vni(index)}, address: {vtep(number)}}}" for number in self.vteps_of(index)]
        lines.append("  macs:")
        for index in range(self.vnis):
            for number in range(MACS_PER_VNI):
                owner = self.vteps_of(index)[number % VTEPS_PER_VNI]
                lines.append(f"    - {{vni: {self.vni(index)}, mac: \"{self.remote_host(index, number)[1]}\", "
                             f"vtep: {vtep(owner)}}}")
        lines.append("  neighbors:")
        for index in range(self.vnis):
            for address, owner in (self.local_host(index), self.remote_host(index)):
                lines.append(f"    - {{vni: {self.vni(index)}, ip: {address}, mac: \"{owner}\"}}")
        lines.append("  routes:")
        for vrf in range(self.vrfs):
            for number in range(ROUTES_PER_VRF):
                prefix, target, router = self.route(vrf, number)
                lines.append(f"    - {{vrf: {self.vrf_name(vrf)}, prefix: {prefix}, "
                             f"nexthops: [{{vtep: {vtep(target)}, routerMAC: \"{router}\"}}]}}")
        return lines

    @property
    def static_rows(self):
        """How many rows `static` has."""
        if not self.is_static:
            return 0
        return self.vnis * (VTEPS_PER_VNI + MACS_PER_VNI + 2) + self.vrfs * ROUTES_PER_VRF + VTEPS
