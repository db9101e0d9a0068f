// Header fields, checksums and the flow hash of the C twin, each as the Swift fast path computes it.
#pragma once
#include "tables.h"
#include <immintrin.h>
#include <pe_cpu.h>
#include <stdbool.h>
#include <string.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define HOT static inline __attribute__((always_inline))

enum { ETHERNET = 14, IPV4 = 20, IPV6 = 40, UDP = 8, VXLAN = 8, TAG = 4 };
enum { TYPE_IPV4 = 0x0008, TYPE_IPV6 = 0xDD86, TYPE_VLAN = 0x0081 };  // as loaded
enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PROTOCOL_ICMPV6 = 58 };
// From port 67 to 68, as loaded: a DHCP server's answer.
#define DHCP_TO_CLIENT __builtin_bswap32(67u << 16 | 68u)

HOT uint16_t load16(const void *p) { uint16_t v; memcpy(&v, p, 2); return v; }
HOT uint32_t load32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
HOT uint64_t load64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
HOT void store16(void *p, uint16_t v) { memcpy(p, &v, 2); }
HOT void store32(void *p, uint32_t v) { memcpy(p, &v, 4); }
HOT void store64(void *p, uint64_t v) { memcpy(p, &v, 8); }
HOT uint16_t swap16(uint16_t v) { return __builtin_bswap16(v); }

HOT uint64_t destination_mac(const uint8_t *frame) { return load64(frame) & 0xFFFFFFFFFFFF; }
HOT uint64_t source_mac(const uint8_t *frame) { return load64(frame + 4) >> 16; }
HOT bool is_group(uint64_t mac) { return mac & 1; }
// 01:80:C2:00:00:00 to 0F.
HOT bool is_reserved(uint64_t mac) { return (mac & 0xF0FFFFFFFFFF) == 0xC28001; }

HOT uint16_t fold(uint64_t sum) {
  uint32_t word = (uint32_t)((sum + (sum << 32 | sum >> 32)) >> 32);
  return (uint16_t)((word + (word << 16 | word >> 16)) >> 16);
}
HOT bool is_ipv4_checksum_right(const uint8_t *ip) { return fold(pe_ipv4_sum(ip)) == 0xFFFF; }
HOT bool is_fragment(const uint8_t *ip) { return load16(ip + 6) & 0xFF3F; }

// Ethernet, IPv4 without options and fragmentation, TCP or UDP.
HOT bool is_plain(const uint8_t *frame, uint32_t available) {
  return available >= 38 && load16(frame + 12) == TYPE_IPV4 && frame[14] == 0x45 && !is_fragment(frame + 14) &&
         (frame[23] == PROTOCOL_TCP || frame[23] == PROTOCOL_UDP);
}
HOT uint32_t plain_hash(const uint8_t *frame) {
  return pe_crc32c(pe_crc32c(frame[23], load64(frame + 26)), load32(frame + 34));
}
// Dynamic ports in network order; the path is chosen by bits that they do not show.
HOT uint16_t entropy_port(uint32_t hash) { return swap16((uint16_t)(0xC000 | (hash & 0x3FFF))); }
HOT uint32_t path_selector(uint32_t hash) { return hash >> 14; }

HOT uint32_t tag_word(uint16_t vlan) { return __builtin_bswap32(0x81000000u | vlan); }
HOT void push_tag(uint8_t *frame, uint16_t vlan) {
  uint64_t first = load64(frame);
  uint32_t last = load32(frame + 8);
  store64(frame - 4, first);
  store32(frame + 4, last);
  store32(frame + 8, tag_word(vlan));
}
HOT void decrement_ttl(uint8_t *ip) {
  ip[8]--;
  uint32_t sum = load16(ip + 10) + 1u;
  store16(ip + 10, (uint16_t)(sum + (sum >= 0xFFFF)));
}

HOT uint64_t udp_word(uint32_t hash, uint16_t port, uint16_t length) {
  return entropy_port(hash) | (uint64_t)port << 16 | (uint64_t)swap16(length) << 32;
}
HOT uint64_t vxlan_word(uint32_t vni_word) { return 0x08 | (uint64_t)__builtin_bswap32(vni_word) << 32; }
HOT uint64_t halves(uint64_t word) { return (word & 0xFFFFFFFF) + (word >> 32); }

// Whether the bytes of a frame are summed sooner than looked through.
HOT bool is_short(uint32_t length) { return length - 48 <= 192 - 48; }
// Sum of the inner frame for an outer UDP checksum; headers alone when the inner one covers the rest.
uint64_t twin_inner_sum(const uint8_t *frame, uint32_t length);

HOT void encapsulate_ipv4(
    uint8_t *header, const struct adjacency *a, uint32_t vni_word, uint16_t port, uint32_t hash, uint32_t inner) {
  memcpy(header, a->header, 48);
  uint16_t udp_length = (uint16_t)(inner + UDP + VXLAN);
  uint16_t total = swap16(udp_length + IPV4);
  store16(header + 16, total);
  uint32_t sum = (uint32_t)a->checksum_base + total;
  store16(header + 24, (uint16_t)~((sum & 0xFFFF) + (sum >> 16)));
  store64(header + 34, udp_word(hash, port, udp_length));
  store64(header + 42, vxlan_word(vni_word));
}
HOT void encapsulate_ipv6(
    uint8_t *header, const struct adjacency *a, uint32_t vni_word, uint16_t port, uint32_t hash, uint32_t inner,
    uint64_t inner_sum) {
  memcpy(header, a->header, 48);
  memcpy(header + 46, a->header + 46, 16);
  uint16_t udp_length = (uint16_t)(inner + UDP + VXLAN);
  store16(header + 18, swap16(udp_length));
  uint64_t udp = udp_word(hash, port, udp_length), vxlan = vxlan_word(vni_word);
  if (!(a->flags & ADJACENCY_ZERO_CHECKSUM)) {
    uint16_t field =
        (uint16_t)~fold(a->checksum_base + (uint64_t)swap16(udp_length) + halves(udp) + halves(vxlan) + inner_sum);
    udp |= (uint64_t)(field ? field : 0xFFFF) << 48;
  }
  store64(header + 54, udp);
  store64(header + 62, vxlan);
}

// The value of `key`, or MISS; `slot` becomes its slot.
HOT uint32_t find(const struct bucket_view *table, uint64_t key, const uint8_t *bucket, uint32_t *slot) {
  for (;;) {
    uint32_t found = pe_match5(bucket, key);
    if (likely(found)) {
      uint32_t index = (uint32_t)__builtin_ctz(found);
      if (slot) *slot = (uint32_t)((bucket - table->buckets) >> 6) * 5 + index;
      return pe_load32((const uint32_t *)(bucket + 40) + index);
    }
    uint32_t next = pe_load32((const uint32_t *)(bucket + 60));
    if (!next) return MISS;
    bucket = table->buckets + ((size_t)next << 6);
  }
}
HOT const uint8_t *bucket_of(const struct bucket_view *table, uint64_t key) {
  return table->buckets + ((pe_crc32c(0xDEADBEEF, key * 0x9E3779B97F4A7C15u) & table->mask) << 6);
}
HOT uint64_t scoped_key(uint16_t scope, uint64_t low) { return (uint64_t)scope << 48 | low; }

// Whether the headers of a frame, of which 32 bytes (IPv6: 64) behind the addresses can be read, are what
// nearly all from VTEPs are: to the first local endpoint and VXLAN port, no options, no fragment, no UDP
// checksum, the I flag.
HOT bool is_plain_outer(const struct state *s, const uint8_t *frame, bool is_ipv6) {
  const struct plain_outer *plain = s->plain_outers + is_ipv6;
  if (!pe_matches32(frame + 12, plain->mask, plain->wanted)) return false;
  return !is_ipv6 || pe_matches32(frame + 44, plain->mask + 4, plain->wanted + 4);
}
HOT uint32_t vtep_ipv4(const struct state *s, uint32_t raw) {
  uint64_t key = raw | 1ull << 62;
  return find(&s->vteps, key, bucket_of(&s->vteps, key), NULL);
}
HOT uint32_t vtep_ipv6(const struct state *s, uint64_t first, uint64_t second) {
  uint64_t low = pe_crc32c(pe_crc32c(1, first), second);
  uint64_t high = pe_crc32c(pe_crc32c(0x80000001, second), first);
  uint64_t key = ((high << 32 | low) & 0x3FFFFFFFFFFFFFFF) | 1;
  uint32_t found = find(&s->vteps, key, bucket_of(&s->vteps, key), NULL);
  if (found == MISS) return MISS;
  const uint64_t *address = s->vtep_addresses + (size_t)found * 2;
  return address[0] == first && address[1] == second ? found : MISS;
}
HOT bool is_member(const struct state *s, int64_t row, uint32_t tunnel) {
  return pe_load64_relaxed(s->members + row * s->vtep_words + (tunnel >> 6)) >> (tunnel & 63) & 1;
}
HOT const struct adjacency *path_of(const struct state *s, const struct tunnel *t, uint32_t hash) {
  uint32_t index = t->first;
  if (t->slot_mask) index = s->slots[index + (path_selector(hash) & t->slot_mask)];
  return s->adjacencies + index;
}
