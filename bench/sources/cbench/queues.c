// What bench_queues.h declares: a source and a sink for each queue.
#include "bench_queues.h"
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <string.h>

enum { QUEUE_BUFFERS = 2048 };

static struct lane {
  struct bench_queue_source source;
  struct rte_mempool *pool;
  uint32_t next, flow, calls;
  uint16_t port;
  uint64_t last;
  struct rte_mbuf *buffers[QUEUE_BUFFERS];
  struct bench_queue_counts counts __attribute__((aligned(128)));
  uint32_t gaps[BENCH_GAPS];
} lanes[2][BENCH_QUEUES] __attribute__((aligned(128)));
static int frees;

static inline void put16(uint8_t *at, uint32_t v) { at[0] = (uint8_t)(v >> 8); at[1] = (uint8_t)v; }
static inline void put32(uint8_t *at, uint32_t v) { v = __builtin_bswap32(v); memcpy(at, &v, 4); }
static inline void put_mac(uint8_t *at, uint64_t mac) { memcpy(at, &mac, 6); }
/// Adds what was added to the header to its checksum field.
static inline void add_to_sum(uint8_t *field, uint32_t added) {
  uint32_t sum = (uint16_t)~((uint32_t)field[0] << 8 | field[1]) + added;
  sum = (sum & 0xffff) + (sum >> 16);
  put16(field, ~((sum & 0xffff) + (sum >> 16)));
}
static inline void write_frame(uint8_t *p, const struct bench_queue_source *s, uint32_t flow) {
  memcpy(p, s->header, s->outer ? 128 : 64);
  uint8_t *inner = p + s->outer;
  if (s->outer) {
    uint32_t vtep = s->vtep + (flow & (s->vteps - 1));
    put16(p + 28, vtep);
    add_to_sum(p + 24, vtep);
    put16(p + 34, 0xc000 | (flow & 0x3fff));
  }
  put_mac(inner, s->destination ? s->destination : bench_destination(flow));
  put_mac(inner + 6, bench_source(flow & (s->sources - 1)));
  put32(inner + 26, 0x0a000000u + flow);
  if (s->is_routed) {
    put32(inner + 30, 0x0a800000u + flow);
    add_to_sum(inner + 24, 2 * ((flow >> 16) + (flow & 0xffff)));
  }
  put16(inner + 34, flow);
}

static inline void note_gap(struct lane *l) {
  uint64_t now = __builtin_ia32_rdtsc(), gap = now - l->last;
  if (l->last) {
    uint64_t slot = gap >> 6;
    l->gaps[slot < BENCH_GAPS ? slot : BENCH_GAPS - 1]++;
    if (gap > l->counts.longest_gap) l->counts.longest_gap = gap;
  }
  l->last = now;
}

static uint16_t lane_rx(void *queue, struct rte_mbuf **m, uint16_t n) {
  struct lane *l = queue;
  const struct bench_queue_source *s = &l->source;
  note_gap(l);
  if (!s->period || ++l->calls < s->period) return 0;
  l->calls = 0;
  if (!s->buffers && rte_pktmbuf_alloc_bulk(l->pool, m, n)) return 0;
  for (int i = 0; i < n; i++) {
    struct rte_mbuf *b = m[i];
    if (s->buffers) {
      b = m[i] = l->buffers[l->next];
      if (++l->next == s->buffers) l->next = 0;
      __builtin_prefetch(l->buffers[l->next], 1);
      b->refcnt = 1;
    }
    b->data_off = RTE_PKTMBUF_HEADROOM;
    b->pkt_len = b->data_len = (uint16_t)s->length;
    b->nb_segs = 1;
    b->ol_flags = 0;
    b->port = l->port;
    write_frame((uint8_t *)b->buf_addr + RTE_PKTMBUF_HEADROOM, s, l->flow);
    l->flow += s->step;
    if (l->flow >= s->flows) l->flow = s->first;
  }
  l->counts.received += n;
  return n;
}

static uint16_t lane_tx(void *queue, struct rte_mbuf **m, uint16_t n) {
  struct lane *l = queue;
  for (int i = 0; i < n; i++) l->counts.paths[*rte_pktmbuf_mtod_offset(m[i], uint8_t *, 4)]++;
  l->counts.sent += n;
  if (frees) rte_pktmbuf_free_bulk(m, n);
  return n;
}

int bench_queues_attach(uint16_t port, uint16_t queues) {
  if (port >= 2 || queues > BENCH_QUEUES) return -1;
  static void *data[2][BENCH_QUEUES], *callbacks[BENCH_QUEUES];
  for (int q = 0; q < queues; q++) {
    lanes[port][q].port = port;
    data[port][q] = &lanes[port][q];
  }
  struct rte_eth_fp_ops *ops = &rte_eth_fp_ops[port];
  ops->rx_pkt_burst = lane_rx;
  ops->tx_pkt_burst = lane_tx;
  ops->rxq.data = ops->txq.data = data[port];
  ops->rxq.clbk = ops->txq.clbk = callbacks;
  return 0;
}
int bench_queue_set(uint16_t port, uint16_t queue, const bench_queue_source *source, void *pool) {
  struct lane *l = &lanes[port][queue];
  if (l->source.buffers) rte_pktmbuf_free_bulk(l->buffers, l->source.buffers);
  l->source = *source;
  l->pool = pool;
  l->flow = source->first;
  l->next = l->calls = 0;
  l->last = 0;
  if (source->buffers > QUEUE_BUFFERS ||
      (source->buffers && rte_pktmbuf_alloc_bulk(pool, l->buffers, source->buffers))) {
    l->source.buffers = l->source.period = 0;
    return -1;
  }
  return 0;
}
void bench_queues_free_sent(int on) { frees = on; }
void bench_queue_clear(uint16_t port, uint16_t queue) {
  memset(&lanes[port][queue].counts, 0, sizeof lanes[port][queue].counts);
  memset(lanes[port][queue].gaps, 0, sizeof lanes[port][queue].gaps);
  lanes[port][queue].last = 0;
}
const uint32_t *bench_queue_gaps(uint16_t port, uint16_t queue) { return lanes[port][queue].gaps; }
const bench_queue_counts *bench_queue_read(uint16_t port, uint16_t queue) { return &lanes[port][queue].counts; }
