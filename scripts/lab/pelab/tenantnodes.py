"""The PEs of the multi-tenant lab: the kernel's VRFs with gateways and L3VNIs, and pe-dp's file."""
import re

from . import frr
from .l3topology import gateway_mac
from .nodes import KernelPE
from .pedp import PeDP
from .shell import wait
from .tenants import TENANTS, TRUNK, subnets_at


class TenantPE:
    """What both kinds of PE share: FRR's configuration, and how it is given to FRR."""

    def make_frr(self, fpm):
        directory = f"{self.directory}-frr"
        return TenantFRR(self.control, directory, frr.bgp(
            self.asn, f"100.65.0.{self.number}", [(self.spine_ip, 65000)],
            networks=[f"{self.vtep}/32"], directory=directory) + self._vrfs(), fpm=fpm)

    def kernel_routes(self, tenant):
        """{prefix: [(next hop, L3VNI)]} of the tenant's table; no next hops for what is connected."""
        found = {}
        for family in ("-4", "-6"):
            for row in self.control.ip_json(f"{family} route show table {tenant.table}"):
                # Local and multicast addresses of the VRF's devices are no routes of FRR's.
                if row.get("type", "unicast") != "unicast" or row["dst"].startswith("fe80:"):
                    continue
                hops = row.get("nexthops") or ([row] if "gateway" in row or "via" in row else [])
                found[with_length(row["dst"])] = [
                    (plain(hop.get("gateway") or hop["via"]["host"]), vni_of(hop["dev"]))
                    for hop in hops]
        return found

    def _vrfs(self):
        lines = []
        for tenant in TENANTS:
            lines += [f"vrf {tenant.name}", f" vni {tenant.l3vni}", "exit-vrf",
                      f"router bgp {self.asn} vrf {tenant.name}",
                      f" bgp router-id 100.65.0.{self.number}"]
            for family in ("ipv4", "ipv6"):
                lines += [f" address-family {family} unicast", "  redistribute connected",
                          " exit-address-family"]
            lines += [" address-family l2vpn evpn", "  advertise ipv4 unicast",
                      "  advertise ipv6 unicast", " exit-address-family", "exit"]
        return "\n".join(lines) + "\n"


class TenantFRR(frr.FRR):
    """zebra is connected to pe-dp before BGP begins.

    zebra 8.4.4 crashes when it connects to an FPM server while it has router MACs (frr/frr#17000).
    """

    def configure(self):
        if self.fpm:
            self.vty("configure terminal", "fpm address 127.0.0.1 port 2620")
            wait(f"{self.namespace.name}: zebra's FPM connection", self._connected, 20, 0.1)
        super().configure()

    def _connected(self):
        return bool(self.namespace.run(
            ["ss", "-Htn", "state", "established", "dport", "= :2620"]).strip())


class TenantKernelPE(TenantPE, KernelPE):
    """The kernel routes between its bridges and an L3VNI in a VRF for each tenant."""

    def start_dataplane(self):
        control = self.control
        control.sysctl(**{
            "net.ipv4.conf.default.arp_accept": 1, "net.ipv6.conf.default.accept_untracked_na": 2,
            "net.ipv4.icmp_ratemask": 0, "net.ipv6.icmp.ratelimit": 0})
        # A VRF's table comes before the local one, or every tenant reaches this node's addresses.
        # And there is no fall-through to the main table (Documentation/networking/vrf.rst).
        for family in ("-4", "-6"):
            control.ip(f"{family} rule add pref 32765 table local")
            control.ip(f"{family} rule del pref 0")
        for tenant in TENANTS:
            control.ip_batch(f"link add {tenant.name} type vrf table {tenant.table}",
                             f"link set {tenant.name} up",
                             *(f"route add table {tenant.table} unreachable {every} metric 4278198272"
                               for every in ("0.0.0.0/0", "::/0")))
        super().start_dataplane()
        lines = []
        for tenant in TENANTS:
            self._make_vni(tenant.l3vni, 4789)
            lines += into_vrf(f"br{tenant.l3vni}", tenant, tenant.router_mac(self.number), ())
        for tenant, subnet in subnets_at(self.name):
            vni = tenant.vni(subnet)
            lines.append(f"link set vx{vni} type bridge_slave neigh_suppress on")
            lines += into_vrf(f"br{vni}", tenant, gateway_mac(vni), [
                f"{address}/{bits}" for address, bits in zip(tenant.gateways(subnet), (24, 64))])
        control.ip_batch(*lines)

    def circuit_rebuilt(self, host):
        device = f"{host.circuit}.{host.vlan}" if host.trunk else host.circuit
        lines = [f"link set {host.circuit} addrgenmode none"]
        if host.trunk:
            lines.append(f"link add link {host.circuit} name {device} type vlan id {host.vlan}")
        self.control.ip_batch(*lines, f"link set {device} addrgenmode none master br{host.vni} up")

    def stop_dataplane(self, *arguments):
        super().stop_dataplane(*arguments)
        self.control.ip_batch(*(f"link del {device}" for t in TENANTS for device in (
            f"vx{t.l3vni}", f"br{t.l3vni}", t.name)), check=False)

    # Views

    def routes(self, tenant):
        return self.kernel_routes(tenant)

    def refused(self):
        """{counter: packets} of what was answered with a destination unreachable."""
        counters = self.control.snmp()
        return {name: counters[name] for name in ("IcmpOutDestUnreachs", "Icmp6OutDestUnreachs")}


def into_vrf(bridge, tenant, mac, addresses):
    """The lines that make a bridge an interface of the tenant's."""
    return [f"link set {bridge} down",
            f"link set {bridge} address {mac} addrgenmode eui64 master {tenant.name}",
            f"link set {bridge} up"] + [
        f"addr add {address} dev {bridge}{' nodad' if ':' in address else ''}"
        for address in addresses]


def with_length(prefix):
    if "/" in prefix:
        return prefix
    return prefix + ("/128" if ":" in prefix else "/32")


def vni_of(device):
    """The VNI in the name of a bridge of the lab's or of pe-dp's."""
    return int(re.sub(r"^\D+", "", device) or 0)


def plain(address):
    """An IPv4 address that came as a mapped IPv6 one, as IPv4."""
    return re.sub(r"^::ffff:(?=\d+\.)", "", address)


class TenantPeDP(TenantPE, PeDP):
    """pe-dp with the two VRFs, their gateways and a trunk with a VLAN of each."""

    def start_dataplane(self, timeout=120):
        # DPDK's start is ten seconds of system calls in a guest kernel on a busy machine.
        super().start_dataplane(timeout)

    def configuration(self):
        lines = ["dataplane:",
                 f"  lcores: {self.lcores}",
                 "  memory: {hugepages: auto, mbufs: 16384}",
                 "  idle: {policy: adaptive}",
                 f"  adminSocket: {self.socket_path}",
                 "ports:",
                 f"  - {{name: up0, driver: af_packet, device: {self.underlay_device}, mtu: 1600,"
                 f" exception: {{addresses: [\"{self.underlay_prefix}\"]}}}}"]
        devices = {self.port_name(host): host.circuit for host in self.hosts()}
        lines += [f"  - {{name: {name}, driver: af_packet, device: {device}}}"
                  for name, device in devices.items()]
        lines += ["underlays:",
                  f"  - {{interfaces: [up0], tunnelEndpoint: {{addresses: [\"{self.vtep}\"]}}}}",
                  "l3vnis:"]
        lines += [f"  - {{vrf: {t.name}, vni: {t.l3vni}, table: {t.table},"
                  f" routerMAC: \"{t.router_mac(self.number)}\"}}" for t in TENANTS]
        lines.append("l2vnis:")
        for tenant, subnet in subnets_at(self.name):
            vni = tenant.vni(subnet)
            circuits = ", ".join(
                f"{{port: {self.port_name(h)}" + (f", vlan: {h.vlan}" if h.vlan else "") + "}"
                for h in self.hosts(vni))
            gateways = ", ".join(f"\"{address}/{bits}\"" for address, bits in
                                 zip(tenant.gateways(subnet), (24, 64)))
            lines.append(
                f"  - {{name: {tenant.name}-{subnet.lower()}, vni: {vni}, vxlanPort: 4789,"
                f" routingDomain: {{type: L3VNI, l3vni: {{name: {tenant.name}}}}},"
                f" gatewayIPs: [{gateways}], gatewayMAC: \"{gateway_mac(vni)}\","
                f" neighborSuppression: true, ports: [{circuits}]}}")
        return "\n".join(lines + self._control()) + "\n"

    def port_name(self, host):
        return "trunk" if host.circuit == TRUNK else super().port_name(host)

    # Views

    def routes(self, tenant):
        """{prefix: [(VTEP, L3VNI)]}, no next hops for what is connected; of that VRF and table."""
        found = {}
        for row in self.show("routes", "--vrf", tenant.name):
            if (row["vrf"], row.get("table")) != (tenant.name, tenant.table):
                found[f"{row['prefix']} in {row['vrf']}, table {row.get('table')}"] = []
            elif row["kind"] == "unicast":
                found[with_length(row["prefix"])] = [
                    (hop["vtep"], hop.get("vni")) for hop in row["nextHops"] if hop.get("vtep")]
        return found

    def refused(self):
        """{reason: packets} of what was dropped for want of a route, a neighbour or a permission."""
        return {reason: count for reason, count in self.drops().items() if reason in (
            "noRoute", "unreachableRoute", "prohibitRoute", "blackholeRoute", "noNextHop",
            "neighborUnreachable", "martianAddress", "noRouting")}
