// One's complement sums over whole frames: what only an IPv6 underlay needs.
#include "packet.h"

static uint64_t pseudo_header(const uint8_t *ip, bool is_ipv6, uint8_t protocol, uint32_t length) {
  uint64_t addresses =
      is_ipv6 ? pe_checksum_sum(ip + 8, 32) : (uint64_t)load32(ip + 12) + load32(ip + 16);
  return addresses + swap16(protocol) + swap16((uint16_t)length);
}

// Where the sum of the TCP or UDP packet in an untagged frame is known from its own checksum: its first
// byte, with the pseudo-header's sum; else 0.
static uint32_t covered(const uint8_t *frame, uint32_t length, uint64_t *pseudo, uint32_t *end) {
  if (length < 54) return 0;
  const uint8_t *ip = frame + ETHERNET;
  uint16_t type = load16(frame + 12);
  uint32_t offset;
  uint8_t protocol;
  if (type == TYPE_IPV4) {
    if (ip[0] >> 4 != 4 || (ip[0] & 15) < 5 || is_fragment(ip)) return 0;
    offset = ETHERNET + (ip[0] & 15) * 4u;
    protocol = ip[9];
    *end = ETHERNET + swap16(load16(ip + 2));
  } else if (type == TYPE_IPV6) {
    if (ip[0] >> 4 != 6) return 0;
    offset = ETHERNET + IPV6;
    protocol = ip[6];
    *end = offset + swap16(load16(ip + 4));
  } else {
    return 0;
  }
  if (*end < offset || *end > length) return 0;
  uint32_t size = *end - offset;
  *pseudo = pseudo_header(ip, type == TYPE_IPV6, protocol, size);
  if (protocol == PROTOCOL_TCP) return size >= 20 ? offset : 0;
  if (protocol != PROTOCOL_UDP || size < UDP) return 0;
  return load16(frame + offset + 6) && swap16(load16(frame + offset + 4)) == size ? offset : 0;
}

uint64_t twin_inner_sum(const uint8_t *frame, uint32_t length) {
  uint64_t pseudo;
  uint32_t end, offset = covered(frame, length, &pseudo, &end);
  if (!offset) return pe_checksum_sum(frame, length);
  uint64_t known = pe_checksum_sum(frame, offset) + (uint16_t)~fold(pseudo);
  if (end == length) return known;
  uint16_t rest = fold(pe_checksum_sum(frame + end, length - end));
  return known + (end & 1 ? swap16(rest) : rest);
}
