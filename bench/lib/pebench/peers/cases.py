"""The cases of bench/peers, the testbed's addresses, and what each frame must look like on its way out."""

from dataclasses import dataclass

from .page import TrafficCase

MARK = b"PDVP"
DUT_MAC, PEER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
HOST_MAC = bytes.fromhex("02aa00000001")
ROUTER_MAC, PEER_ROUTER_MAC = bytes.fromhex("02cc00000001"), bytes.fromhex("02cc00000002")
L2_VNI, L3_VNI = 100, 200
DUT_ADDRESS, PEER_ADDRESS, HOST_ADDRESS = 0x0A000001, 0x0A000002, 0xC0A8010A
VARY = {"": 0, "mac": 1, "host": 2, "prefix": 3}
UNDERLAY, ACCESS = 0, 1
SIZES = {"64": ([64], [0]), "1400": ([1400], [0]),
         # 7 : 4 : 1, spread.
         "imix": ([64, 594, 1400], [0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 0, 1])}


def remote_mac(index):
    return bytes([2, 0xBB, 0, index >> 16]) + ((index & 0xFFFF) + 1).to_bytes(2, "big")


def remote_address(index):
    return 0xAC100001 + 8 * index


def dotted(address):
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


def colons(mac):
    return ":".join(f"{byte:02x}" for byte in mac)


@dataclass(frozen=True)
class Case:
    """One row for every device: which frames arrive where, out of how many flows, at which table size."""

    name: str
    decap: bool
    layer: int
    vary: str = ""
    flows: int = 1
    entries: int = 1000
    frame: str = "64"

    @property
    def identifier(self):
        return f"{self.name}/{self.flows}"

    def on_page(self):
        sizes, pattern = SIZES[self.frame]
        case = TrafficCase(decap=self.decap, layer=self.layer, flows=self.flows, entries=self.entries,
                           vary=VARY[self.vary], pattern_count=len(pattern))
        case.sizes[:len(sizes)] = sizes
        case.pattern[:len(pattern)] = pattern
        return case


# A frame of the local host, so that a device that learns knows where it is.
PRIMER = Case("primer", decap=False, layer=2)


def default_cases():
    """Every case of a full run, table sizes one after the other."""
    basic = [("l2-decap", True, 2, "mac"), ("l2-encap", False, 2, "mac"),
             ("l3-decap", True, 3, ""), ("l3-encap", False, 3, "host")]
    cases = [Case(name, decap, layer, vary, flows)
             for name, decap, layer, vary in basic for flows in (1, 1000, 100_000)]
    cases += [Case("l3-prefix", False, 3, "prefix", flows) for flows in (1, 1000, 100_000)]
    cases += [Case(f"{name}-{frame}", decap, 2, "mac", 1000, frame=frame)
              for name, decap in (("l2-decap", True), ("l2-encap", False)) for frame in ("imix", "1400")]
    cases += [Case(f"{name}-50k", decap, layer, vary, 100_000, entries=50_000) for name, decap, layer, vary in basic]
    return cases


class Wrong(ValueError):
    """A frame left that should not have left like this."""


def _require(condition, text):
    if not condition:
        raise Wrong(text)


def checksum_is_good(header):
    total = sum(int.from_bytes(header[i:i + 2], "big") for i in range(0, len(header), 2))
    return (total & 0xFFFF) + (total >> 16) in (0xFFFF, 0x1FFFE)


def _check_outer(frame, length, vni):
    _require(len(frame) >= 110, f"{length} bytes are too few for VXLAN")
    _require(frame[:6] == PEER_MAC, f"outer destination {colons(frame[:6])}, not the peer's {colons(PEER_MAC)}")
    _require(frame[6:12] == DUT_MAC, f"outer source {colons(frame[6:12])}, not the DUT's {colons(DUT_MAC)}")
    _require(frame[12:15] == b"\x08\x00\x45", "the outer header is not plain IPv4")
    total, udp = int.from_bytes(frame[16:18], "big"), int.from_bytes(frame[38:40], "big")
    _require(total == length - 14, f"outer length {total} in a frame of {length} bytes")
    _require(udp == length - 34, f"outer UDP length {udp} in a frame of {length} bytes")
    _require(frame[23] == 17 and frame[36:38] == (4789).to_bytes(2, "big"), "not UDP to port 4789")
    _require(checksum_is_good(frame[14:34]), "the outer IPv4 checksum is wrong")
    source, destination = (int.from_bytes(frame[i:i + 4], "big") for i in (26, 30))
    _require((source, destination) == (DUT_ADDRESS, PEER_ADDRESS), f"outer {dotted(source)} to {dotted(destination)}")
    _require(frame[42] & 0x08, "the I flag is not set")
    found = int.from_bytes(frame[46:49], "big")
    _require(found == vni, f"VNI {found}, not {vni}")


def _expected_inner(case, flow):
    """(destination MAC, source MAC, destination address, TTL) of a forwarded inner frame."""
    index = flow % case.entries
    if case.decap:
        if case.layer == 3:
            return HOST_MAC, ROUTER_MAC, HOST_ADDRESS, 63
        return HOST_MAC, remote_mac(index if case.vary == "mac" else 0), HOST_ADDRESS, 64
    if case.layer == 3:
        address = 0xAC1F0000 + (flow & 0xFFFF) if case.vary == "prefix" else remote_address(
            index if case.vary == "host" else 0)
        return PEER_ROUTER_MAC, ROUTER_MAC, address, 63
    return remote_mac(index if case.vary == "mac" else 0), HOST_MAC, remote_address(0), 64


def _check_inner(inner, length, case):
    _require(len(inner) >= 60 and inner[42:46] == MARK, "our mark is not where the inner payload should be")
    flow = int.from_bytes(inner[46:50], "big")
    _require(flow < case.flows, f"flow {flow} was never sent")
    _require(checksum_is_good(inner[14:34]), "the inner IPv4 checksum is wrong")
    _require(int.from_bytes(inner[16:18], "big") == length - 14, f"the inner packet does not fill {length} bytes")
    _require(int.from_bytes(inner[26:30], "big") == 0x0A800000 + flow, "the inner source is another flow's")
    destination, source, address, ttl = _expected_inner(case, flow)
    _require(inner[:6] == destination, f"inner destination {colons(inner[:6])}, not {colons(destination)}")
    _require(inner[6:12] == source, f"inner source {colons(inner[6:12])}, not {colons(source)}")
    _require(int.from_bytes(inner[30:34], "big") == address, f"inner packet to another address than {dotted(address)}")
    _require(inner[22] == ttl, f"inner TTL {inner[22]}, not {ttl}")
    _require(length + 4 in SIZES[case.frame][0], f"an inner frame of {length + 4} bytes was never sent")
    return flow


def verify(case, samples, forwards=True):
    """How many sampled frames are right; raises Wrong with the first that is not.

    `forwards` is false for a device that only moves frames (testpmd): then the frame must be the one that
    came, but for swapped MACs.
    """
    _require(len(samples) >= 8, f"only {len(samples)} frames left")
    flows, ports = set(), set()
    for length, port, frame in samples:
        if not forwards:
            offset = 50 if case.decap else 0
            _require(frame[offset + 42:offset + 46] == MARK, "the frame is not the one that came")
            continue
        _require(port == (ACCESS if case.decap else UNDERLAY), f"a frame left by port {port}")
        if case.decap:
            flows.add(_check_inner(frame, length, case))
        else:
            _check_outer(frame, length, L3_VNI if case.layer == 3 else L2_VNI)
            flows.add(_check_inner(frame[50:], length - 50, case))
            ports.add(int.from_bytes(frame[34:36], "big"))
    if forwards and case.flows >= 1000:
        _require(len(flows) > 1, "all sampled frames are of one flow")
        _require(case.decap or len(ports) > 1, "all flows have one outer source port")
    return len(samples)
