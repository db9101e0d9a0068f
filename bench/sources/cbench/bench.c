// What bench.h declares: the in-memory source and sink, and the cycle counter.
#include "bench.h"
#include <errno.h>
#include <linux/perf_event.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_BUFFERS = 16384, MAX_CAPTURED = 1024, CAPTURED_BYTES = 2048, MAX_BURST = 64, PAYLOAD = 0x5A };

static struct rte_mempool *packet_pool, *header_pool;
static int64_t available_at_start;
static struct rte_mbuf *buffers[MAX_BUFFERS];
static uint32_t buffer_count, buffer_next;
static struct bench_traffic traffic;
static struct rte_ring *punts;
static struct bench_ends ends;
static uint64_t owed;
static uint32_t capture_wanted, captured;
static struct {
  uint8_t bytes[CAPTURED_BYTES];
  uint32_t length;
  uint16_t port;
  uint64_t requests, lengths;
} captures[MAX_CAPTURED];
static uint16_t source_port = UINT16_MAX;
static int64_t available(void) {
  return (int64_t)rte_mempool_avail_count(packet_pool) + rte_mempool_avail_count(header_pool);
}
struct queue { uint16_t port; };
static struct queue queues[2];

// Odd factors permute 32 bits: every flow has a MAC of its own, and neighbours share no bucket.
static inline uint64_t mac(uint32_t vendor, uint32_t n) { return (uint64_t)(n * 2654435761u) << 16 | vendor; }
uint64_t bench_destination(uint32_t flow) { return mac(0xbb02, flow); }
uint64_t bench_source(uint32_t source) { return mac(0xaa02, source); }

static inline void put_mac(uint8_t *at, uint64_t m) {
  uint32_t low = (uint32_t)m;
  uint16_t high = (uint16_t)(m >> 32);
  memcpy(at, &low, 4);
  memcpy(at + 4, &high, 2);
}
static inline void put16(uint8_t *at, uint16_t v) { v = __builtin_bswap16(v); memcpy(at, &v, 2); }
static inline void put32(uint8_t *at, uint32_t v) { v = __builtin_bswap32(v); memcpy(at, &v, 4); }

/// Adds what flow 0 had not to the Internet checksum at `field` (RFC 1624); the words of the sum, host order.
static inline void add_to_checksum(uint8_t *field, uint32_t words) {
  uint16_t raw;
  memcpy(&raw, field, 2);
  uint32_t sum = (uint16_t)~__builtin_bswap16(raw) + words;
  sum = (sum & 0xffff) + (sum >> 16);
  put16(field, (uint16_t)~((sum & 0xffff) + (sum >> 16)));
}

/// The same of a UDP checksum: zero would say that there is none (RFC 768).
static inline void add_to_udp_checksum(uint8_t *field, uint32_t words) {
  add_to_checksum(field, words);
  if ((field[0] | field[1]) == 0) put16(field, 0xffff);
}

static inline void write_outer(uint8_t *p, const struct bench_traffic *t, uint32_t flow) {
  uint32_t vtep = t->vtep + (flow & (t->vteps - 1)), vni = t->vni + (flow & (t->vnis - 1));
  uint16_t entropy = (uint16_t)(0xc000 | (flow & 0x3fff));
  // The template's addresses end in 0.0.
  if (t->outer == 50) {
    put16(p + 28, (uint16_t)vtep);
    add_to_checksum(p + 24, vtep);
    put16(p + 34, entropy);
    put32(p + 46, vni << 8);
  } else {
    put16(p + 36, (uint16_t)vtep);
    put16(p + 54, entropy);
    put32(p + 66, vni << 8);
  }
}

static inline void write_flow(uint8_t *p, const struct bench_traffic *t, const bench_frame *f, uint32_t flow) {
  if (t->outer || f->length > 64) memcpy(p, f->header, 128); else memcpy(p, f->header, 64);
  if (t->outer) write_outer(p, t, flow);
  uint8_t *inner = p + t->outer;
  put_mac(inner, t->router ? t->router : bench_destination(flow));
  put_mac(inner + 6, bench_source(flow & (t->sources - 1)));
  uint8_t *ip = inner + 14;
  if (t->tagged) { put16(inner + 14, (uint16_t)(1 + (flow & (t->vnis - 1)))); ip += 4; }
  // The template's source is 10.0.0.0, its destination's lower half and its source port are 0.
  uint32_t words = (flow >> 16) + (flow & 0xffff);
  put32(ip + 12, 0x0a000000u + flow);
  if (t->destinations) {
    uint32_t offset = flow << t->destination_shift;
    put32(ip + 16, t->destinations + offset);
    words += (offset >> 16) + (offset & 0xffff);
    add_to_checksum(ip + 10, words);
  }
  put16(ip + 20, (uint16_t)flow);
  if (t->checksum) add_to_udp_checksum(ip + 26, words + (flow & 0xffff));
}

/// The three words of a MAC address, added up.
static inline uint32_t mac_words(uint64_t m) {
  uint32_t sum = (uint32_t)(m & 0xffff) + (uint32_t)(m >> 16 & 0xffff) + (uint32_t)(m >> 32 & 0xffff);
  sum = (sum & 0xffff) + (sum >> 16);
  return __builtin_bswap16((uint16_t)((sum & 0xffff) + (sum >> 16)));
}
/// Makes the outer checksum right again. A valid inner IP header adds nothing to a sum, and a valid inner UDP packet
/// takes away what its pseudo-header has more.
static inline void write_outer_checksum(uint8_t *p, const struct bench_traffic *t, uint32_t flow) {
  uint32_t vni = (t->vni + (flow & (t->vnis - 1))) << 8, offset = flow << t->destination_shift;
  uint32_t addresses = (flow >> 16) + (flow & 0xffff);
  uint32_t sum = t->vtep + (flow & (t->vteps - 1)) + (flow & 0x3fff) + (vni >> 16) + (vni & 0xffff);
  sum += mac_words(t->router ? t->router : bench_destination(flow)) + mac_words(bench_source(flow & (t->sources - 1)));
  if (t->destinations) addresses += (offset >> 16) + (offset & 0xffff); else sum += addresses;
  while (addresses >> 16) addresses = (addresses & 0xffff) + (addresses >> 16);
  sum += t->checksum ? (uint16_t)~addresses : flow & 0xffff;
  add_to_udp_checksum(p + 60, (sum & 0xffff) + (sum >> 16));
}

/// A request of host `flow & (sources - 1)` for address `destinations + flow`.
static inline void write_arp(uint8_t *p, const struct bench_traffic *t, const bench_frame *f, uint32_t flow) {
  uint32_t host = flow & (t->sources - 1);
  memcpy(p, f->header, 64);
  put_mac(p + 6, bench_source(host));
  put_mac(p + 22, bench_source(host));
  put32(p + 28, 0x0a000000u + host);
  if (t->destinations) put32(p + 38, t->destinations + flow);
}

static void keep(struct rte_mbuf **m, uint16_t n, uint16_t port);

/// What only some traffic needs is behind calls of its own: the common frame shall not pay for it.
static __attribute__((noinline)) void sum_outer(struct rte_mbuf **m, uint16_t n, uint32_t flow) {
  for (int i = 0; i < n; i++) {
    write_outer_checksum((uint8_t *)m[i]->buf_addr + RTE_PKTMBUF_HEADROOM, &traffic, flow);
    if (++flow >= traffic.flows) flow = 0;
  }
}

static inline void give(struct rte_mbuf **m, uint16_t n, enum bench_kind kind) {
  uint32_t flow = traffic.flow_next, place = traffic.pattern_next;
  for (int i = 0; i < n; i++) {
    struct rte_mbuf *b = m[i];
    const bench_frame *f = &traffic.frames[traffic.pattern[place]];
    if (++place == traffic.pattern_length) place = 0;
    b->data_off = RTE_PKTMBUF_HEADROOM;
    b->pkt_len = b->data_len = (uint16_t)f->length;
    b->nb_segs = 1;
    b->refcnt = 1;
    b->ol_flags = 0;
    b->port = source_port;
    uint8_t *p = (uint8_t *)b->buf_addr + RTE_PKTMBUF_HEADROOM;
    if (kind == BENCH_FLOWS) write_flow(p, &traffic, f, flow);
    else if (kind == BENCH_ARP) write_arp(p, &traffic, f, flow);
    else memcpy(p, f->header, 128);
    if (++flow >= traffic.flows) flow = 0;
  }
  if (traffic.outer_checksum) sum_outer(m, n, traffic.flow_next);
  traffic.flow_next = flow;
  traffic.pattern_next = place;
}

static void empty_punts(void) {
  struct rte_mbuf *taken[MAX_BURST];
  unsigned n;
  while ((n = rte_ring_sc_dequeue_burst(punts, (void **)taken, MAX_BURST, NULL)) != 0) {
    if (captured < capture_wanted)
      for (unsigned i = 0; i < n; i++) keep(&taken[i], 1, taken[i]->port);
    ends.punted += n;
  }
}

static uint64_t given;
static uint16_t source_rx(void *q, struct rte_mbuf **m, uint16_t n) {
  if (((struct queue *)q)->port != source_port) return 0;
  if (punts) empty_punts();
  if (owed) return 0;
  if (n > traffic.burst) n = (uint16_t)traffic.burst;
  owed = (uint64_t)n * traffic.copies;
  if (traffic.buffers == BENCH_ALLOCATED) {
    if (rte_pktmbuf_alloc_bulk(packet_pool, m, n)) return 0;
  } else {
    for (int i = 0; i < n; i++) {
      m[i] = buffers[buffer_next];
      if (++buffer_next == buffer_count) buffer_next = 0;
      __builtin_prefetch(buffers[buffer_next], 1);
    }
  }
  if (traffic.kind == BENCH_FLOWS) give(m, n, BENCH_FLOWS);
  else if (traffic.kind == BENCH_ARP) give(m, n, BENCH_ARP);
  else give(m, n, BENCH_FIXED);
  given += n;
  return n;
}
uint64_t bench_given(void) { return given; }

static void keep(struct rte_mbuf **m, uint16_t n, uint16_t port) {
  for (int i = 0; i < n && captured < capture_wanted; i++, captured++) {
    uint32_t length = m[i]->pkt_len;
    captures[captured].length = length;
    captures[captured].port = port;
    captures[captured].requests = m[i]->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK;
    captures[captured].lengths = m[i]->tx_offload;
    if (length > CAPTURED_BYTES) length = CAPTURED_BYTES;
    const void *bytes = rte_pktmbuf_read(m[i], 0, length, captures[captured].bytes);
    if (bytes && bytes != captures[captured].bytes) memcpy(captures[captured].bytes, bytes, length);
  }
}
/// Frees what a flood chained to the source's buffers, as a driver frees what it has sent.
static void release(struct rte_mbuf **m, uint16_t n) {
  for (int i = 0; i < n; i++) {
    struct rte_mbuf *segment = m[i], *next;
    for (; segment; segment = next) {
      next = segment->next;
      if (segment->pool == packet_pool && !RTE_MBUF_CLONED(segment)) {
        segment->next = NULL;
        segment->nb_segs = 1;
      } else {
        rte_pktmbuf_free_seg(segment);
      }
    }
  }
}
static uint64_t digest;
static uint32_t digest_wanted, digested;
static uint64_t mix(uint64_t sum, uint64_t word) { return (sum ^ word) * 0x9E3779B97F4A7C15u ^ sum >> 29; }
static void digest_frames(struct rte_mbuf **m, uint16_t n, uint16_t port) {
  for (int i = 0; i < n && digested < digest_wanted; i++, digested++) {
    digest = mix(digest, (uint64_t)port << 32 | m[i]->pkt_len);
    for (struct rte_mbuf *s = m[i]; s; s = s->next) {
      const uint8_t *bytes = rte_pktmbuf_mtod(s, const uint8_t *);
      for (uint32_t at = 0; at < s->data_len; at += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + at, s->data_len - at < 8 ? s->data_len - at : 8);
        digest = mix(digest, word);
      }
    }
  }
}
static uint16_t sink_tx(void *q, struct rte_mbuf **m, uint16_t n) {
  if (__builtin_expect(captured < capture_wanted, 0)) keep(m, n, ((struct queue *)q)->port);
  if (__builtin_expect(digested < digest_wanted, 0)) digest_frames(m, n, ((struct queue *)q)->port);
  if (traffic.buffers == BENCH_REPLICATED) {
    owed -= n < owed ? n : owed;
    release(m, n);
  }
  if (traffic.buffers == BENCH_ALLOCATED) rte_pktmbuf_free_bulk(m, n);
  ends.sent += n;
  return n;
}

int64_t bench_missing(void) { return available_at_start - available(); }
int bench_attach(uint16_t port_a, uint16_t port_b, void *packets, void *headers, uint32_t count) {
  if (count > MAX_BUFFERS || rte_pktmbuf_alloc_bulk(packets, buffers, count)) return -1;
  packet_pool = packets;
  header_pool = headers;
  buffer_count = count;
  static void *data[2][1], *callbacks[1];
  uint16_t ports[2] = {port_a, port_b};
  for (int i = 0; i < 2; i++) {
    struct rte_eth_fp_ops *ops = &rte_eth_fp_ops[ports[i]];
    queues[i].port = ports[i];
    data[i][0] = &queues[i];
    ops->rx_pkt_burst = source_rx;
    ops->tx_pkt_burst = sink_tx;
    ops->rxq.data = ops->txq.data = data[i];
    ops->rxq.clbk = ops->txq.clbk = callbacks;
  }
  return 0;
}
void bench_traffic_set(uint16_t port, const struct bench_traffic *t, void *ring) {
  source_port = port;
  traffic = *t;
  punts = ring;
  owed = 0;
  available_at_start = available();
  // What earlier traffic has left behind the headers would spoil checksums.
  for (uint32_t i = 0; i < buffer_count; i++)
    memset((uint8_t *)buffers[i]->buf_addr + RTE_PKTMBUF_HEADROOM, PAYLOAD,
           buffers[i]->buf_len - RTE_PKTMBUF_HEADROOM);
}
void bench_traffic_end(struct bench_traffic *t) {
  if (punts) empty_punts();
  t->flow_next = traffic.flow_next;
  t->pattern_next = traffic.pattern_next;
}
uint64_t bench_owed(void) { return owed; }
struct bench_ends bench_take_ends(void) {
  if (punts) empty_punts();
  struct bench_ends taken = ends;
  ends = (struct bench_ends){0, 0};
  return taken;
}
void bench_capture(uint32_t count) { captured = 0; capture_wanted = count < MAX_CAPTURED ? count : MAX_CAPTURED; }
const uint8_t *bench_captured(uint32_t i, uint32_t *length, uint16_t *port) {
  if (i >= captured) return NULL;
  *length = captures[i].length;
  *port = captures[i].port;
  return captures[i].bytes;
}

uint64_t bench_captured_requests(uint32_t i, uint64_t *lengths) {
  if (i >= captured) return 0;
  *lengths = captures[i].lengths;
  return captures[i].requests;
}

void bench_digest_start(uint32_t count) {
  // What a frame has behind its headers is what its buffer held before.
  for (uint32_t i = 0; i < buffer_count; i++) memset(buffers[i]->buf_addr, 0x5A, buffers[i]->buf_len);
  digest = digested = 0;
  digest_wanted = count;
}
uint64_t bench_digest_take(uint32_t *frames) {
  *frames = digested;
  digest_wanted = 0;
  return digest;
}

enum { EVENTS = 3 };
static int fds[EVENTS] = {-1, -1, -1};
static int open_counter(uint64_t config) {
  struct perf_event_attr a;
  memset(&a, 0, sizeof a);
  a.size = sizeof a;
  a.type = PERF_TYPE_HARDWARE;
  a.config = config;
  a.exclude_kernel = a.exclude_hv = 1;
  long fd = syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);
  return fd < 0 ? -errno : (int)fd;
}
int bench_counters_open(void) {
  static const uint64_t events[EVENTS] = {
    PERF_COUNT_HW_CPU_CYCLES, PERF_COUNT_HW_INSTRUCTIONS, PERF_COUNT_HW_CACHE_MISSES};
  int available = 0, fault = 0;
  for (int i = 0; i < EVENTS; i++) {
    fds[i] = open_counter(events[i]);
    if (fds[i] >= 0) available |= 1 << i;
    else if (!fault) fault = fds[i];
  }
  return available ? available : fault;
}
static inline uint64_t read_counter(int fd) {
  uint64_t value;
  return fd >= 0 && read(fd, &value, 8) == 8 ? value : 0;
}
void bench_counters_read(bench_counts *c) {
  c->cycles = read_counter(fds[0]);
  c->instructions = read_counter(fds[1]);
  c->misses = read_counter(fds[2]);
  c->tsc = __builtin_ia32_rdtsc();
}
void bench_spin(uint32_t n) {
  uint64_t x = 3;
  for (uint32_t i = 0; i < n; i++)
    __asm__ volatile(".rept 1000\n imul %0, %0\n .endr" : "+r"(x));
}
int bench_pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) ? -errno : 0;
}
