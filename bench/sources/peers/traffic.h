// The traffic that every peer gets, and the page of memory through which a run is steered and read.
//
//   underlay   DUT VTEP 10.0.0.1 (02:00:00:00:00:01)      peer VTEP 10.0.0.2 (02:00:00:00:00:02)
//   L2         VNI 100: host 02:aa:00:00:00:01, 192.168.1.10, on the access port; remote hosts
//              02:bb:00:xx:xx:xx behind the peer VTEP
//   L3         VNI 200: router MACs 02:cc:00:00:00:01 (DUT) and 02:cc:00:00:00:02 (peer); remote hosts
//              172.16.0.1 + 8 i; the prefix 172.31.0.0/16; both behind the peer VTEP
//
// A flow is an inner 5-tuple: source address 10.128.0.0 + flow, source port 1024 + flow % 32768. Its
// number follows the inner UDP header, behind a mark. Sizes count the inner Ethernet frame with FCS.
#pragma once
#ifdef __bpf__
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#define memcpy __builtin_memcpy
#define memset __builtin_memset
#else
#include <stdint.h>
#include <string.h>
#endif

enum {
  PAGE_MAGIC = 0x31545650, PAGE_VERSION = 1,
  TRAFFIC_HEADER = 128, TRAFFIC_SIZES = 3, TRAFFIC_PATTERN = 12, TRAFFIC_OUTER = 50,
  TRAFFIC_PORTS = 2, TRAFFIC_SLICES = 4096, TRAFFIC_SAMPLES = 64, TRAFFIC_SAMPLE_BYTES = 192,
};
#define TRAFFIC_MARK 0x50445650u
enum { VARY_NOTHING, VARY_MAC, VARY_HOST, VARY_PREFIX };

// What is sent; the controller writes it and raises `case_serial`.
struct traffic_case {
  uint32_t decap, layer;      // from the underlay port or from the access port; 2 or 3
  uint32_t flows, entries, vary;
  uint32_t pattern_count;
  uint32_t sizes[TRAFFIC_SIZES];
  uint8_t pattern[TRAFFIC_PATTERN];  // indices into sizes
};
// What happened between two stamps on the DUT's own thread. `spin` is the TSC time of SPIN_CYCLES core
// cycles measured right behind the slice; cycles and instructions are 0 without hardware counters.
enum { SPIN_CYCLES = 24000 };
struct traffic_slice { uint64_t tsc, generated, sent, polls, idle_polls, spin, cycles, instructions; };
struct traffic_sample { uint32_t length, port; uint8_t bytes[TRAFFIC_SAMPLE_BYTES]; };

struct traffic_page {
  uint32_t magic, version;
  // Written by the controller.
  struct traffic_case wanted;
  uint32_t case_serial, run, slice_packets, slice_serial, sample_serial, reserved;
  // Written by the generator.
  uint32_t attached, has_counters, busy, slice_count, sample_count, slice_taken, sample_taken, case_taken;
  uint64_t generated, sent, polls, idle_polls, no_buffer, tsc_hz;
  struct traffic_slice slices[TRAFFIC_SLICES];
  struct traffic_sample samples[TRAFFIC_SAMPLES];
};

struct traffic_template { uint8_t bytes[TRAFFIC_HEADER]; uint32_t length, sum; };
struct traffic {
  struct traffic_template templates[TRAFFIC_SIZES];
  uint8_t pattern[TRAFFIC_PATTERN];
  uint32_t pattern_count, slot, flows, next, entries, vary, offset, decap;
};

static inline void put16(uint8_t *at, uint16_t v) { v = __builtin_bswap16(v); memcpy(at, &v, 2); }
static inline void put32(uint8_t *at, uint32_t v) { v = __builtin_bswap32(v); memcpy(at, &v, 4); }
// Sum of `count` bytes as big-endian 16-bit words.
static inline uint32_t words(const uint8_t *p, int count) {
  uint32_t sum = 0;
  for (int i = 0; i < count; i += 2) sum += (uint32_t)p[i] << 8 | p[i + 1];
  return sum;
}
static inline uint16_t fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~((sum & 0xffff) + (sum >> 16));
}

#ifndef __bpf__
static const uint8_t DUT_MAC[6] = {2, 0, 0, 0, 0, 1}, PEER_MAC[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t HOST_MAC[6] = {2, 0xaa, 0, 0, 0, 1}, REMOTE_MAC[6] = {2, 0xbb, 0, 0, 0, 1};
static const uint8_t ROUTER_MAC[6] = {2, 0xcc, 0, 0, 0, 1}, PEER_ROUTER_MAC[6] = {2, 0xcc, 0, 0, 0, 2};
#endif
enum { L2_VNI = 100, L3_VNI = 200 };
#define DUT_ADDRESS 0x0a000001u
#define PEER_ADDRESS 0x0a000002u
#define HOST_ADDRESS 0xc0a8010au
#define REMOTE_ADDRESS 0xac100001u
#define PREFIX_ADDRESS 0xac1f0000u
#define SOURCE_ADDRESS 0x0a800000u

// Last three bytes of remote MAC `i`.
static inline uint32_t remote_mac_tail(uint32_t i) { return (i >> 16) << 16 | ((i & 0xffff) + 1); }
static inline uint32_t remote_address(uint32_t i) { return REMOTE_ADDRESS + (i << 3); }

#ifndef __bpf__
// Outer header of 50 bytes from `source` to `destination`, for an inner frame of `inner` bytes.
static inline void outer_header(uint8_t *p, int from_dut, uint32_t vni, int inner) {
  memset(p, 0, TRAFFIC_OUTER);
  memcpy(p, from_dut ? PEER_MAC : DUT_MAC, 6);
  memcpy(p + 6, from_dut ? DUT_MAC : PEER_MAC, 6);
  put16(p + 12, 0x0800);
  uint8_t *ip = p + 14;
  ip[0] = 0x45;
  put16(ip + 2, (uint16_t)(inner + 36));
  put16(ip + 6, 0x4000);
  ip[8] = 64;
  ip[9] = 17;
  put32(ip + 12, from_dut ? DUT_ADDRESS : PEER_ADDRESS);
  put32(ip + 16, from_dut ? PEER_ADDRESS : DUT_ADDRESS);
  put16(ip + 10, fold(words(ip, 20)));
  put16(p + 34, 49152);
  put16(p + 36, 4789);
  put16(p + 38, (uint16_t)(inner + 16));
  p[42] = 0x08;
  put32(p + 46, vni << 8);
}
static inline void traffic_template(struct traffic_template *t, const struct traffic_case *c, uint32_t size) {
  int inner = (int)size - 4, offset = c->decap ? TRAFFIC_OUTER : 0;
  memset(t, 0, sizeof *t);
  t->length = (uint32_t)(inner + offset);
  if (c->decap) outer_header(t->bytes, 0, c->layer == 3 ? L3_VNI : L2_VNI, inner);
  uint8_t *e = t->bytes + offset;
  memcpy(e, c->layer == 3 ? ROUTER_MAC : c->decap ? HOST_MAC : REMOTE_MAC, 6);
  memcpy(e + 6, !c->decap ? HOST_MAC : c->layer == 3 ? PEER_ROUTER_MAC : REMOTE_MAC, 6);
  put16(e + 12, 0x0800);
  uint8_t *ip = e + 14;
  ip[0] = 0x45;
  put16(ip + 2, (uint16_t)(inner - 14));
  ip[8] = 64;
  ip[9] = 17;
  put32(ip + 16, c->decap ? HOST_ADDRESS : REMOTE_ADDRESS);
  t->sum = words(ip, 16);  // without the destination
  put16(e + 36, 9);
  put16(e + 38, (uint16_t)(inner - 34));
  put32(e + 42, TRAFFIC_MARK);
}
// 0, or -1 for a case that no frame can be made of.
static inline int traffic_init(struct traffic *t, const struct traffic_case *c) {
  if (c->pattern_count < 1 || c->pattern_count > TRAFFIC_PATTERN || c->flows < 1 || c->entries < 1) return -1;
  memset(t, 0, sizeof *t);
  for (uint32_t i = 0; i < c->pattern_count; i++) {
    if (c->pattern[i] >= TRAFFIC_SIZES) return -1;
    uint32_t size = c->sizes[c->pattern[i]];
    if (size < 64 || size > 1514) return -1;
    traffic_template(&t->templates[c->pattern[i]], c, size);
  }
  memcpy(t->pattern, c->pattern, sizeof t->pattern);
  t->pattern_count = c->pattern_count;
  t->flows = c->flows;
  t->entries = c->entries;
  t->vary = c->vary;
  t->decap = c->decap;
  t->offset = c->decap ? TRAFFIC_OUTER : 0;
  return 0;
}
// Writes the next frame's headers at `p`, 128 bytes at most, as DMA would have left them; its length.
// The rest of the payload stays as it lies.
static inline uint32_t traffic_write(struct traffic *t, uint8_t *p) {
  const struct traffic_template *m = &t->templates[t->pattern[t->slot]];
  if (++t->slot >= t->pattern_count) t->slot = 0;
  uint32_t flow = t->next;
  if (++t->next >= t->flows) t->next = 0;
  if (t->offset) memcpy(p, m->bytes, 128); else memcpy(p, m->bytes, 64);
  uint8_t *e = p + t->offset;
  uint32_t source = SOURCE_ADDRESS + flow, destination = t->decap ? HOST_ADDRESS : REMOTE_ADDRESS;
  if (t->vary == VARY_MAC) {
    uint32_t tail = remote_mac_tail(flow % t->entries);
    uint8_t *mac = e + (t->decap ? 6 : 0);
    mac[3] = (uint8_t)(tail >> 16);
    put16(mac + 4, (uint16_t)tail);
  } else if (t->vary == VARY_HOST) {
    destination = remote_address(flow % t->entries);
  } else if (t->vary == VARY_PREFIX) {
    destination = PREFIX_ADDRESS + (flow & 0xffff);
  }
  put32(e + 26, source);
  put32(e + 30, destination);
  put16(e + 24, fold(m->sum + (source >> 16) + (source & 0xffff) + (destination >> 16) + (destination & 0xffff)));
  put16(e + 34, (uint16_t)(1024 + (flow & 0x7fff)));
  put32(e + 46, flow);
  if (t->offset) put16(p + 34, (uint16_t)(0xc000 | (flow * 2654435761u) >> 18));
  return m->length;
}
#endif
