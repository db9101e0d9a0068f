"""The device under test's side of the testbed: pe-dp's configuration for the traffic's addresses."""

import ipaddress

from pebench.lab import mac_text

from . import model
from .model import ROUTED, UNCHANGED

# A YAML file of pe-dp has at most 32 MB; larger tables come from FRR, not from a file.
MOST_ENTRIES = 200_000
MARKER = "# Made by bench/pktgen"


class TestbedError(ValueError):
    """A testbed that cannot be described, in words for the user."""


def device_port(text):
    """`driver` and `device` of pe-dp from a port of the command line: a PCI address or an EAL device."""
    name = text.split(",", 1)[0]
    if all(part in "0123456789abcdefABCDEF:." for part in name) and name.count(":") >= 1:
        return "pci", name if name.count(":") == 2 else "0000:" + name
    if name.startswith("net_memif"):
        return "memif", text.split(",", 1)[1] if "," in text else ""
    return "vdev", text


def device_config(traffic, ports, cpus=(0, 1), hugepages="auto", socket="/run/pe-dp/admin.sock", idle="poll"):
    """The YAML that makes pe-dp the device under test; `ports` are its underlay and its access port."""
    if traffic.service == UNCHANGED:
        raise TestbedError("plain traffic needs no pe-dp: it is for a cable or dpdk-testpmd in io mode")
    if traffic.macs > MOST_ENTRIES:
        raise TestbedError(f"a file holds at most {MOST_ENTRIES} remote hosts; lower --macs or feed them through FRR")
    routed = traffic.service == ROUTED
    limits = {"macs": max(262144, 2 * traffic.macs + 2 * model.MOST_LOCALS * (traffic.vnis if routed else 1))}
    if routed and traffic.vnis > 1024:
        limits["vrfs"] = traffic.vnis
    if traffic.vnis > 2048:
        limits["l2vnis"] = traffic.vnis * 2
    lines = [
        f"{MARKER}: underlay port {ports[0].split(',')[0]}, access port {ports[1].split(',')[0]}.", "dataplane:",
        f"  lcores: {{main: {cpus[0]}, workers: [{', '.join(map(str, cpus[1:]))}]}}",
        f"  memory: {{hugepages: {hugepages}, mbufs: 32768}}",
        f"  idle: {{policy: {idle}}}",
        f"  adminSocket: {socket}",
        # Hosts of a searched table are quiet for longer than a host is.
        "  macAgeingSeconds: 0", "  neighborTimeoutSeconds: 1000000",
        "  limits: {" + ", ".join(f"{name}: {value}" for name, value in limits.items()) + "}", "",
    ]
    lines += _ports(ports) + _underlay(traffic)
    lines += _routed(traffic) if routed else _bridged(traffic)
    return "\n".join(lines) + "\n"


def _ports(ports):
    lines = ["ports:"]
    for name, text, mac, mtu in (("up0", ports[0], model.DEVICE_MAC, 1600), ("access", ports[1], None, 1500)):
        driver, device = device_port(text)
        lines.append(f'  - name: {name}\n    driver: {driver}\n    device: "{device}"\n    mtu: {mtu}')
        if mac:
            lines.append(f'    mac: "{mac_text(mac)}"')
    return lines + [""]


def _underlay(traffic):
    own = model.DEVICE_VTEP6 if traffic.ipv6 else model.DEVICE_VTEP4
    prefix = "fd00:65::/64" if traffic.ipv6 else "100.65.0.0/16"
    assert traffic.vtep(traffic.vteps - 1) in ipaddress.ip_network(prefix)
    hop = f'[{{port: up0, mac: "{mac_text(model.PEER_MAC)}"}}]'
    lines = ["underlays:", f'  - {{interfaces: [up0], tunnelEndpoint: {{addresses: ["{own}"]}}}}', ""]
    lines += ["control: {routes: none, shadow: false, fpm: none}", "", "static:"]
    return lines + ["  underlay:", f'    - {{prefix: "{prefix}", nexthops: {hop}}}']


def _circuits(traffic, number):
    return "{port: access}" if traffic.vnis == 1 else f"{{port: access, vlan: {1 + number}}}"


def _vteps_of(traffic, number):
    """The VTEPs with a remote host in VNI `number`."""
    step = range(number, min(traffic.macs, traffic.vnis * traffic.vteps), traffic.vnis)
    return sorted({remote % traffic.vteps for remote in step})


def _family(traffic):
    return "IPv6" if traffic.ipv6 else "IPv4"


def _bridged(traffic):
    lines = ["  vteps:"]
    for number in range(traffic.vnis):
        lines += [f'    - {{vni: {model.L2VNI + number}, address: "{traffic.vtep(index)}"}}'
                  for index in _vteps_of(traffic, number)]
    lines.append("  macs:")
    for remote in range(traffic.macs):
        lines.append(
            f'    - {{vni: {model.L2VNI + remote % traffic.vnis}, mac: "{mac_text(model.remote_mac(remote))}", '
            f'vtep: "{traffic.vtep(remote % traffic.vteps)}"}}')
    lines += ["", "l2vnis:"]
    for number in range(traffic.vnis):
        lines.append(f"  - {{vni: {model.L2VNI + number}, underlayAddressFamily: {_family(traffic)}, "
                     f"ports: [{_circuits(traffic, number)}]}}")
    return lines


def _routed(traffic):
    lines = ["  routes:"]
    for remote in range(traffic.macs):
        vtep = remote % traffic.vteps
        hop = f'{{vtep: "{traffic.vtep(vtep)}", routerMAC: "{mac_text(model.remote_router(vtep))}"}}'
        lines.append(f"    - {{vrf: tenant{remote % traffic.vnis}, prefix: {model.REMOTE_HOST + remote}/32, "
                     f"nexthops: [{hop}]}}")
    lines.append("  neighbors:")
    pairs = sorted({(remote % traffic.vnis, remote % traffic.locals) for remote in range(traffic.macs)})
    for number, local in pairs:
        lines.append(f'    - {{vni: {model.L2VNI + number}, ip: {model.LOCAL_HOST + local}, '
                     f'mac: "{mac_text(model.local_mac(local))}"}}')
    lines += ["", "l3vnis:"]
    for number in range(traffic.vnis):
        lines.append(f'  - {{vrf: tenant{number}, vni: {model.L3VNI + number}, '
                     f'underlayAddressFamily: {_family(traffic)}, routerMAC: "{mac_text(model.ROUTER_MAC)}"}}')
    lines += ["", "l2vnis:"]
    for number in range(traffic.vnis):
        lines.append(
            f"  - {{vni: {model.L2VNI + number}, underlayAddressFamily: {_family(traffic)}, "
            f"ports: [{_circuits(traffic, number)}], gatewayIPs: [{model.GATEWAY_IP}], "
            f'gatewayMAC: "{mac_text(model.GATEWAY_MAC)}", '
            f"routingDomain: {{type: L3VNI, l3vni: {{name: tenant{number}}}}}}}")
    return lines
