// What bench.h declares: the in-memory source and sink, and the cycle counter.
#include "bench.h"
#include <errno.h>
#include <linux/perf_event.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_BUFFERS = 16384, MAX_CAPTURED = 256, CAPTURED_BYTES = 192 };

static struct rte_mbuf *buffers[MAX_BUFFERS];
static uint32_t buffer_count, buffer_next;
static struct bench_traffic traffic;
static uint32_t flow_next;
static uint64_t sent;
static uint32_t capture_wanted, captured;
static struct { uint8_t bytes[CAPTURED_BYTES]; uint32_t length; uint16_t port; } captures[MAX_CAPTURED];
static uint16_t source_port = UINT16_MAX;
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

static inline void write_frame(uint8_t *p, const struct bench_traffic *t, uint32_t flow) {
  if (t->outer) memcpy(p, t->header, 128); else memcpy(p, t->header, 64);
  uint8_t *inner = p + t->outer;
  uint32_t vni = flow & (t->vnis - 1);
  if (t->outer == 50) {
    uint32_t v = t->vtep + (flow & (t->vteps - 1));
    put16(p + 28, (uint16_t)v);
    // The template's checksum is for a source that ends in 0.0.
    uint16_t field;
    memcpy(&field, p + 24, 2);
    uint32_t sum = (uint16_t)~__builtin_bswap16(field) + v;
    put16(p + 24, (uint16_t)~((sum & 0xffff) + (sum >> 16)));
    put16(p + 34, (uint16_t)(0xc000 | (flow & 0x3fff)));
    put32(p + 46, (t->vni + vni) << 8);
  } else if (t->outer == 70) {
    put16(p + 36, (uint16_t)(t->vtep + (flow & (t->vteps - 1))));
    put16(p + 54, (uint16_t)(0xc000 | (flow & 0x3fff)));
    put32(p + 66, (t->vni + vni) << 8);
  }
  put_mac(inner, t->router ? t->router : bench_destination(flow));
  put_mac(inner + 6, bench_source(flow & (t->sources - 1)));
  uint8_t *ip = inner + 14;
  if (t->tagged) { put16(inner + 14, (uint16_t)(1 + vni)); ip += 4; }
  put32(ip + 12, 0x0a000000u + flow);
  if (t->destinations) {
    // The template's checksum is for 10.0.0.0 to 10.128.0.0.
    uint32_t sum = (flow >> 16) * 2 + (flow & 0xffff) * 2;
    uint16_t field;
    put32(ip + 16, 0x0a800000u + flow);
    memcpy(&field, ip + 10, 2);
    sum += (uint16_t)~__builtin_bswap16(field);
    sum = (sum & 0xffff) + (sum >> 16);
    put16(ip + 10, (uint16_t)~((sum & 0xffff) + (sum >> 16)));
  }
  put16(ip + 20, (uint16_t)flow);
}

static uint16_t source_rx(void *q, struct rte_mbuf **m, uint16_t n) {
  if (((struct queue *)q)->port != source_port) return 0;
  uint32_t flow = flow_next;
  for (int i = 0; i < n; i++) {
    struct rte_mbuf *b = buffers[buffer_next];
    if (++buffer_next == buffer_count) buffer_next = 0;
    __builtin_prefetch(buffers[buffer_next], 1);
    b->data_off = RTE_PKTMBUF_HEADROOM;
    b->pkt_len = b->data_len = (uint16_t)traffic.length;
    b->nb_segs = 1;
    b->refcnt = 1;
    b->ol_flags = 0;
    b->port = source_port;
    write_frame((uint8_t *)b->buf_addr + RTE_PKTMBUF_HEADROOM, &traffic, flow);
    m[i] = b;
    if (++flow >= traffic.flows) flow = 0;
  }
  flow_next = flow;
  return n;
}

static void keep(struct rte_mbuf **m, uint16_t n, uint16_t port) {
  for (int i = 0; i < n && captured < capture_wanted; i++, captured++) {
    uint32_t length = m[i]->pkt_len;
    captures[captured].length = length;
    captures[captured].port = port;
    uint32_t copied = m[i]->data_len < CAPTURED_BYTES ? m[i]->data_len : CAPTURED_BYTES;
    memcpy(captures[captured].bytes, rte_pktmbuf_mtod(m[i], void *), copied);
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
  sent += n;
  return n;
}

int bench_attach(uint16_t port_a, uint16_t port_b, void *pool, uint32_t count) {
  if (count > MAX_BUFFERS || rte_pktmbuf_alloc_bulk(pool, buffers, count)) return -1;
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
void bench_traffic_set(uint16_t port, const struct bench_traffic *t) {
  source_port = port;
  traffic = *t;
  flow_next = 0;
}
uint64_t bench_take_sent(void) { uint64_t n = sent; sent = 0; return n; }
void bench_capture(uint32_t count) { captured = 0; capture_wanted = count < MAX_CAPTURED ? count : MAX_CAPTURED; }
const uint8_t *bench_captured(uint32_t i, uint32_t *length, uint16_t *port) {
  if (i >= captured) return NULL;
  *length = captures[i].length;
  *port = captures[i].port;
  return captures[i].bytes;
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

static int fds[2] = {-1, -1};
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
  fds[0] = open_counter(PERF_COUNT_HW_CPU_CYCLES);
  fds[1] = open_counter(PERF_COUNT_HW_INSTRUCTIONS);
  return fds[0] < 0 ? fds[0] : fds[1] < 0 ? fds[1] : 0;
}
void bench_counters_read(bench_counts *c) {
  *c = (bench_counts){0, 0, 0};
  if (fds[0] >= 0 && read(fds[0], &c->cycles, 8) != 8) c->cycles = 0;
  if (fds[1] >= 0 && read(fds[1], &c->instructions, 8) != 8) c->instructions = 0;
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
