"""The PEs of the routed lab: the kernel's bridges with gateways and an L3VNI, and pe-dp's file."""
from . import frr
from .l3topology import L3VNI, Leg, gateway_mac, gateways
from .nodes import ZERO, KernelPE
from .pedp import PeDP

# A next hop for the kernel's static routes: its neighbour row holds the other PE's router MAC.
STATIC_HOP = "169.254.5.1"
STATIC_HOP6 = "fe80::5:1"


class RoutedPE:
    """What both kinds of PE share: the router MAC and FRR's configuration."""

    @property
    def router_mac(self):
        return f"02:00:00:50:00:{self.number:02x}"

    def has_leg(self):
        return self.lab.family == 4 and self.name == "pe1"

    def make_frr(self, fpm):
        directory = f"{self.directory}-frr"
        fpm = fpm and self.lab.routes == "fpm"
        legs = [(address, Leg.asn) for address in Leg.addresses] if self.has_leg() else []
        return frr.FRR(self.control, directory, frr.routed(
            self.asn, f"100.65.0.{self.number}", (self.spine_ip, 65000), self.vtep, L3VNI, legs,
            fpm="127.0.0.1 port 2620" if fpm else None,
            next_hop_groups=self.lab.next_hop_groups, directory=directory), fpm=fpm, bfd=bool(legs))


class RoutedKernelPE(RoutedPE, KernelPE):
    """The kernel routes between its bridges and an L3VNI in its main table."""

    def start_dataplane(self):
        self.control.sysctl(**{
            "net.ipv4.fib_multipath_hash_policy": 1, "net.ipv6.fib_multipath_hash_policy": 1,
            "net.ipv4.conf.all.arp_accept": 1, "net.ipv4.conf.default.arp_accept": 1,
            "net.ipv6.conf.all.accept_untracked_na": 2,
            "net.ipv6.conf.default.accept_untracked_na": 2,
            "net.ipv4.icmp_ratelimit": 0, "net.ipv6.icmp.ratelimit": 0})
        super().start_dataplane()
        bridge, vxlan = f"br{L3VNI}", f"vx{L3VNI}"
        self._make_vni(L3VNI, 4789)
        self.control.ip(f"link set {bridge} address {self.router_mac}")
        for vni in self.vnis():
            self._make_gateway(vni)
        if self.has_leg():
            for address, bits in zip(Leg.pe_addresses, (31, 127)):
                flags = " nodad" if ":" in address else ""
                self.control.ip(f"addr add {address}/{bits} dev {Leg.device}{flags}")
        if self.lab.family == 6:
            self._static_routes(bridge, vxlan)

    def _make_gateway(self, vni):
        bridge = f"br{vni}"
        self.control.ip(f"link set {bridge} address {gateway_mac(vni)} addrgenmode eui64")
        self.control.bridge(f"link set dev vx{vni} neigh_suppress on")
        self.control.ip(f"link set {bridge} down")
        self.control.ip(f"link set {bridge} up")
        for address in gateways(vni):
            self.control.ip(f"addr add {address} dev {bridge}" + (" nodad" if ":" in address else ""))

    def _make_vni(self, vni, port):
        super()._make_vni(vni, port)
        self.control.ip(f"link set vx{vni} mtu {self.lab.underlay_mtu - self.lab.overhead}")
        self.control.ip(f"link set br{vni} mtu {self.lab.underlay_mtu - self.lab.overhead}")

    def vxlan_options(self):
        # What is asked of pe-dp in its configuration.
        if self.lab.family == 4:
            return "tos inherit ttl 64"
        return f"tos {self.lab.dscp << 2:#x} ttl 64"

    def _static_rows(self):
        """The L2VNIs: flood rows and the other side's MACs."""
        other = self.lab.other(self)
        for vni in self.vnis():
            if vni not in other.vnis():
                continue
            self.control.bridge(f"fdb append {ZERO} dev vx{vni} dst {other.vtep} self permanent")
            for host in self.lab.hosts_at(other, vni):
                self.control.bridge(f"fdb add {host.mac} dev vx{vni} dst {other.vtep} self static")
                self.control.bridge(f"fdb add {host.mac} dev vx{vni} master static")

    def _static_routes(self, bridge, vxlan):
        other = self.lab.other(self)
        for vni in set(self.vnis()) & set(other.vnis()):
            for host in self.lab.hosts_at(other, vni):
                for address in (host.ip4, host.ip6):
                    self.control.ip(f"neigh add {address} lladdr {host.mac} dev br{vni} nud noarp")
        self.control.bridge(f"fdb add {other.router_mac} dev {vxlan} dst {other.vtep} self static")
        self.control.bridge(f"fdb add {other.router_mac} dev {vxlan} master static")
        self.control.ip(f"link set {bridge} addrgenmode eui64")
        self.control.ip(f"link set {bridge} down")
        self.control.ip(f"link set {bridge} up")
        for hop in (STATIC_HOP, STATIC_HOP6):
            self.control.ip(f"neigh add {hop} lladdr {other.router_mac} dev {bridge} nud permanent")
        for prefix in self.lab.static_prefixes(other):
            hop = f"-6 route add {prefix} via {STATIC_HOP6}" if ":" in prefix else \
                f"route add {prefix} via {STATIC_HOP}"
            self.control.ip(f"{hop} dev {bridge} onlink")

    def stop_dataplane(self, *arguments):
        self.control.ip(f"link del vx{L3VNI}", check=False)
        self.control.ip(f"link del br{L3VNI}", check=False)
        return super().stop_dataplane(*arguments)


class RoutedPeDP(RoutedPE, PeDP):
    """pe-dp with gateways, an L3VNI and, on pe1, a routed port."""
    more_views = tuple(["show", what] for what in ("vrfs", "routes", "nexthops", "neighbors"))

    def configuration(self):
        lines = ["dataplane:",
                 f"  lcores: {self.lcores}",
                 "  memory: {hugepages: auto, mbufs: 16384}",
                 "  idle: {policy: adaptive}",
                 f"  neighborTimeoutSeconds: {self.lab.neighbor_timeout}",
                 f"  adminSocket: {self.socket_path}",
                 "ports:",
                 f"  - {{name: up0, driver: af_packet, device: {self.underlay_device},"
                 f" mtu: {self.lab.underlay_mtu},"
                 f" exception: {{addresses: [\"{self.underlay_prefix}\"]}}}}"]
        lines += [f"  - {{name: {self.port_name(host)}, driver: af_packet, device: {host.circuit}}}"
                  for host in self.hosts()]
        if self.has_leg():
            addresses = ", ".join(f'"{a}/{bits}"' for a, bits in zip(Leg.pe_addresses, (31, 127)))
            lines.append(f"  - {{name: leg1, driver: af_packet, device: {Leg.device},"
                         f" vrf: {self.lab.vrf}, exception: {{addresses: [{addresses}]}}}}")
        policy = "dscp: copy" if self.lab.family == 4 else f"dscp: {self.lab.dscp}"
        lines += ["underlays:",
                  f"  - {{interfaces: [up0], tunnelEndpoint: {{addresses: [\"{self.vtep}\"]}},"
                  f" {policy}, ttl: 64}}",
                  "l3vnis:",
                  f"  - {{vrf: {self.lab.vrf}, vni: {L3VNI}, routerMAC: \"{self.router_mac}\""
                  f"{self._family()}}}",
                  "l2vnis:"]
        for vni in self.vnis():
            circuits = ", ".join(f"{{port: {self.port_name(h)}}}" for h in self.hosts(vni))
            gateway = ", ".join(f'"{address}"' for address in gateways(vni))
            lines.append(
                f"  - {{name: layer2-{vni}, vni: {vni}{self._family()}, neighborSuppression: true,"
                f" routingDomain: {{type: L3VNI, l3vni: {{name: {self.lab.vrf}}}}},"
                f" gatewayIPs: [{gateway}], gatewayMAC: \"{gateway_mac(vni)}\","
                f" ports: [{circuits}]}}")
        return "\n".join(lines + self._control() + self._static()) + "\n"

    def _control(self):
        if self.lab.routes == "netlink":
            return ["control: {fpm: none, routes: netlink}"]
        return super()._control()

    def _family(self):
        return ", underlayAddressFamily: IPv6" if self.lab.family == 6 else ""

    def _static(self):
        if self.lab.family == 4:
            return []
        other = self.lab.other(self)
        shared = [vni for vni in self.vnis() if vni in other.vnis()]
        remote = [h for vni in shared for h in self.lab.hosts_at(other, vni)]
        vteps = ", ".join(f"{{vni: {vni}, address: \"{other.vtep}\"}}" for vni in shared)
        macs = ", ".join(f"{{vni: {h.vni}, mac: \"{h.mac}\", vtep: \"{other.vtep}\"}}"
                         for h in remote)
        neighbors = ", ".join(f"{{vni: {h.vni}, ip: \"{ip}\", mac: \"{h.mac}\"}}"
                              for h in remote for ip in (h.ip4, h.ip6))
        hop = f"{{vtep: \"{other.vtep}\", routerMAC: \"{other.router_mac}\"}}"
        routes = ", ".join(f"{{vrf: {self.lab.vrf}, prefix: \"{prefix}\", nexthops: [{hop}]}}"
                           for prefix in self.lab.static_prefixes(other))
        return ["static:", f"  vteps: [{vteps}]", f"  macs: [{macs}]",
                f"  neighbors: [{neighbors}]", f"  routes: [{routes}]",
                f"  underlay: [{{prefix: \"{other.vtep}/128\","
                f" nexthops: [{{port: up0, mac: \"{self.spine_mac}\"}}]}}]"]
