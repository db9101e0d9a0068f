"""Ethernet frames, byte by byte: addresses, checksums, IPv4 and UDP headers."""
import ipaddress
import struct

IPV4, IPV6 = 0x0800, 0x86DD
UDP = 17


def mac_bytes(text):
    return bytes(int(part, 16) for part in text.split(":"))


def mac_text(data):
    return ":".join(f"{byte:02x}" for byte in data)


def address_bytes(text):
    return ipaddress.ip_address(text).packed


def checksum(data):
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(destination, source, payload, kind=IPV4, vlan=None):
    tag = struct.pack("!HH", 0x8100, vlan) if vlan else b""
    return mac_bytes(destination) + mac_bytes(source) + tag + struct.pack("!H", kind) + payload


def ipv4(source, destination, payload, tos=0, ttl=64, protocol=UDP):
    """A packet with a right header checksum, DF set."""
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(payload), 0, 0x4000, ttl, protocol, 0)
    head += address_bytes(source) + address_bytes(destination)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(source, destination, payload, addresses=None):
    """With a checksum when both IP addresses are given, as bytes; over IPv4 there may be none."""
    datagram = struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload
    if addresses is None:
        return datagram
    pseudo = addresses + struct.pack("!II", len(datagram), UDP)
    return datagram[:6] + struct.pack("!H", checksum(pseudo + datagram) or 0xFFFF) + payload


def udp_frame(destination, source, ip_destination, ip_source, port_destination, port_source,
              payload=b"", tos=0, ttl=64):
    """A correct Ethernet + IPv4 + UDP frame, DF set."""
    addresses = address_bytes(ip_source) + address_bytes(ip_destination)
    datagram = udp(port_source, port_destination, payload, addresses)
    return ethernet(destination, source, ipv4(ip_source, ip_destination, datagram, tos, ttl))


def udp6_frame(destination, source, ip_destination, ip_source, port_destination, port_source,
               payload=b"", traffic_class=0, hop_limit=64):
    """A correct Ethernet + IPv6 + UDP frame."""
    addresses = address_bytes(ip_source) + address_bytes(ip_destination)
    datagram = udp(port_source, port_destination, payload, addresses)
    head = struct.pack("!IHBB", 6 << 28 | traffic_class << 20, len(datagram), UDP, hop_limit)
    return ethernet(destination, source, head + addresses + datagram, IPV6)
