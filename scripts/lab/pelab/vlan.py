"""VLAN tagging of a host's interface by two small eBPF programs.

The kernel's 8021q device is not everywhere (containers, small VM kernels); pushing and popping a
tag with a tc program gives the same packets: the tag travels in the skb, beside the data, as a
VLAN device on a veth pair leaves it, and segmentation and checksum offloads stay on.
"""
import ctypes
import os
import platform
import struct

from .shell import LabError

_NR_BPF = {"x86_64": 321, "aarch64": 280}
_libc = ctypes.CDLL(None, use_errno=True)


def _instruction(opcode, destination=0, source=0, offset=0, immediate=0):
    return struct.pack("<BBhi", opcode, destination | source << 4, offset, immediate)


def _push(vlan):
    """skb_vlan_push(skb, htons(0x8100), vlan); return TC_ACT_OK."""
    return b"".join([
        _instruction(0xB7, 2, immediate=0x0081),    # r2 = htons(0x8100)
        _instruction(0xB7, 3, immediate=vlan),      # r3 = vlan
        _instruction(0x85, immediate=18),           # call skb_vlan_push
        _instruction(0xB7, 0, immediate=0),         # r0 = TC_ACT_OK
        _instruction(0x95)])


def _pop(vlan):
    """Frames with this tag lose it and pass; everything else is dropped (TC_ACT_SHOT)."""
    return b"".join([
        _instruction(0xBF, 6, 1),                   # r6 = skb
        _instruction(0x61, 2, 6, 20),               # r2 = skb->vlan_present
        _instruction(0x15, 2, offset=6, immediate=0),        # absent: drop
        _instruction(0x61, 2, 6, 24),               # r2 = skb->vlan_tci
        _instruction(0x57, 2, immediate=0xFFF),
        _instruction(0x55, 2, offset=3, immediate=vlan),     # other: drop
        _instruction(0xBF, 1, 6),
        _instruction(0x85, immediate=19),           # call skb_vlan_pop
        _instruction(0x05, offset=2),               # goto pass
        _instruction(0xB7, 0, immediate=2),         # r0 = TC_ACT_SHOT
        _instruction(0x95),
        _instruction(0xB7, 0, immediate=0),         # pass: r0 = TC_ACT_OK
        _instruction(0x95)])


def _bpf(command, attributes):
    number = _NR_BPF.get(platform.machine())
    if number is None:
        raise LabError(f"VLAN tagging: no bpf() number for {platform.machine()}")
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    result = _libc.syscall(number, command, buffer, len(buffer))
    if result < 0:
        raise LabError(f"bpf({command}): {os.strerror(ctypes.get_errno())}")
    return result


def _load(code):
    program = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(1 << 16)
    attributes = struct.pack(
        "<IIQQIIQ", 3, len(code) // 8, ctypes.addressof(program), ctypes.addressof(license_text),
        1, len(log), ctypes.addressof(log))       # 3 = BPF_PROG_TYPE_SCHED_CLS
    try:
        return _bpf(5, attributes)                # BPF_PROG_LOAD
    except LabError as error:
        raise LabError(f"{error}: {log.value.decode(errors='replace')[-400:]}") from None


def _pin(descriptor, path):
    name = ctypes.create_string_buffer(path.encode())
    _bpf(6, struct.pack("<QI", ctypes.addressof(name), descriptor))    # BPF_OBJ_PIN


def tag_interface(namespace, device, vlan, bpffs):
    """Everything that leaves `device` gets the tag; only frames with the tag come in, without it.

    bpffs: a mounted bpf file system in which the programs are pinned.
    """
    namespace.tc(f"qdisc add dev {device} clsact")
    for direction, code in (("egress", _push(vlan)), ("ingress", _pop(vlan))):
        path = f"{bpffs}/{namespace.name}-{device}-{direction}"
        descriptor = _load(code)
        try:
            _pin(descriptor, path)
        finally:
            os.close(descriptor)
        namespace.tc(f"filter add dev {device} {direction} bpf direct-action object-pinned {path}")


def untag_interface(namespace, device, vlan, bpffs):
    """The other side, for a kernel bridge port: incoming frames lose the tag, outgoing get it."""
    tag_interface(namespace, device, vlan, bpffs)
