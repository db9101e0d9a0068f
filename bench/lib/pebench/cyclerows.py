"""Which rows bench/cycles measures: ids, in the order in which they take turns."""

UNDERLAYS = ["ipv4", "ipv6"]
SIZES = [1, 1000, 100_000, 1_000_000]
FRAMES = ["64", "imix", "1500"]
BURSTS = [8, 16, 32]
TWINS = ["l2-encap", "l2-decap", "l3-encap", "l3-decap", "inter-subnet"]
FORWARDED = ["l2-encap", "l2-decap", "l3-encap", "l3-decap", "l3-prefix", "inter-subnet"]


def _domains(journey):
    return "vnis=1024" if journey.startswith("l2-") else "vrfs=1024"


def _null(frames):
    rows = [f"null/ipv4/1/{frame}/32" for frame in frames]
    return rows + ["null/ipv4/1/64/32/outer", "null/ipv6/1/64/32/outer",
                   "null/ipv6/1/64/32/outer-checksum/outer", "null/ipv4/1/64/32/pool"]


def _side(copies, neighbors):
    """The journeys beside known unicast."""
    rows = [f"flood-copy/{underlay}/{count}/64/32" for count in copies for underlay in UNDERLAYS]
    rows += [f"flood-copy/ipv4/{copies[-1]}/imix/32"]
    rows += [f"arp-reply/ipv4/{count}/64/32" for count in neighbors] + ["arp-reply/ipv4/1/64/32/gateway"]
    rows += [f"punt/{underlay}/1/64/32" for underlay in UNDERLAYS]
    return rows + [f"drop/{underlay}/1/64/32/{why}" for why in ("unknown-vni", "unknown-vtep")
                   for underlay in UNDERLAYS]


def smoke():
    """Every journey, both underlays and every kind of frame, with small tables."""
    rows = _null(["64"])
    for journey in FORWARDED:
        rows += [f"{journey}/{underlay}/1000/64/32" for underlay in UNDERLAYS]
        rows += [f"{journey}/ipv6/1000/imix/8/{_domains(journey)}/checksum"]
        if journey.endswith("decap"):
            rows += [f"{journey}/ipv6/1000/imix/8/{_domains(journey)}/checksum/outer-checksum",
                     f"{journey}/ipv6/1000/64/32/outer-checksum"]
        if journey in ("l2-encap", "l3-encap"):
            rows += [f"{journey}/ipv6/1000/imix/32/offload"]
    rows += [f"twin/{journey}/{underlay}/1000/64/32" for journey in TWINS for underlay in UNDERLAYS]
    return _together(rows + _side([8, 512], [1000]))


def default():
    """What budgets and figures need."""
    rows = _null(FRAMES)
    for journey in ["l2-encap", "l2-decap", "l3-encap", "l3-decap"]:
        # At 100 k entries everything is varied, one thing at a time; for routing in a thousand VRFs.
        usual = "" if journey.startswith("l2-") else "/vrfs=1024"
        rows += [f"{journey}/{underlay}/{size}/64/32" for size in SIZES for underlay in UNDERLAYS]
        rows += [f"{journey}/{underlay}/100000/64/32/{_domains(journey)}" for underlay in UNDERLAYS]
        rows += [f"{journey}/{underlay}/100000/{frame}/32{usual}" for frame in ("imix", "1500")
                 for underlay in UNDERLAYS]
        rows += [f"{journey}/ipv4/100000/64/{burst}{usual}" for burst in BURSTS if burst != 32]
        if journey.endswith("encap"):
            # Over IPv6 an inner checksum spares the sum over the payload; over IPv4 it is the base of the ratio.
            rows += [f"{journey}/{underlay}/100000/{frame}/32{usual}/checksum" for frame in FRAMES
                     for underlay in UNDERLAYS]
            # To a port whose NIC computes the outer UDP checksum.
            rows += [f"{journey}/ipv6/100000/{frame}/32{usual}/offload" for frame in FRAMES]
        else:
            rows += [f"{journey}/ipv6/100000/{frame}/32{usual}/outer-checksum" for frame in FRAMES]
    rows += [f"twin/{journey}/{underlay}/100000/64/32{'' if journey.startswith('l2-') else '/vrfs=1024'}"
             for journey in TWINS for underlay in UNDERLAYS]
    rows += ["l3-encap/ipv4/1000000/64/32/vrfs=1024", "l3-decap/ipv4/1000000/64/32/vrfs=1024"]
    for journey in ["l3-prefix", "inter-subnet"]:
        rows += [f"{journey}/ipv4/{size}/64/32" for size in SIZES[:3]] + [f"{journey}/ipv4/100000/64/32/vrfs=1024"]
    return _together(rows + _side([8, 64, 512], [1000, 100_000]))


def full():
    """The whole matrix."""
    rows = _null(FRAMES)
    for journey in FORWARDED:
        # Neither a prefix's length nor the other subnet of the node has to do with the underlay's family.
        underlays = ["ipv4"] if journey == "inter-subnet" else UNDERLAYS
        checksums = ("", "/checksum") if journey in ("l2-encap", "l3-encap", "l3-prefix") else ("", "/outer-checksum")
        rows += [
            f"{journey}/{underlay}/{size}/{frame}/{burst}{domains}{checksum}"
            for size in SIZES for domains in ("", f"/{_domains(journey)}") for underlay in underlays
            for frame in FRAMES for burst in BURSTS
            for checksum in (checksums if underlay == "ipv6" else ("",))]
    rows += [f"twin/{row}" for row in rows if row.split("/")[0] in TWINS and row.split("/")[3:5] == ["64", "32"]]
    return _together(rows + _side([1, 8, 64, 512], [1, 1000, 100_000]))


def _together(rows):
    """Each row once, those of a journey side by side, since they take turns."""
    def journey(row):
        return row.removeprefix("twin/").split("/")[0]

    unique = list(dict.fromkeys(rows))
    return [row for name in dict.fromkeys(map(journey, unique)) for row in unique if journey(row) == name]


SETS = {"default": default, "full": full, "smoke": smoke}
