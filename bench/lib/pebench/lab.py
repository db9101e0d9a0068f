"""What benchmarks share with the lab (scripts/lab): frames, and network namespaces with a stock FRR in them."""

import sys

from .machine import ROOT

sys.path.insert(0, str(ROOT / "scripts" / "lab"))

from pelab.frames import checksum, ethernet, ipv4, mac_bytes, mac_text, udp  # noqa: E402
from pelab.frr import FRR  # noqa: E402
from pelab.net import Namespace, entered  # noqa: E402

__all__ = ["FRR", "Namespace", "checksum", "entered", "ethernet", "ipv4", "mac_bytes", "mac_text", "udp"]
