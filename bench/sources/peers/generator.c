// Source and sink inside any DPDK program: EAL loads this with -d, and it takes over null devices.
//
// Once net_null0 (underlay) and net_null1 (access) have started, their burst functions are replaced:
// reception hands out frames of the case that the page asks for, transmission counts and frees. So the
// program under test runs on its own core with nobody else, and its own thread takes the time.
#include <fcntl.h>
#include <pthread.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include "measure.h"

static struct meter meter = {.counters = {-1, -1}};
static struct traffic traffic;
static struct rte_mempool *pools[TRAFFIC_PORTS];
static void *queues[TRAFFIC_PORTS];
static uint16_t port_of[TRAFFIC_PORTS];
static uint32_t skip;

static void take_case(struct traffic_page *page) {
  uint32_t serial = __atomic_load_n(&page->case_serial, __ATOMIC_ACQUIRE);
  if (traffic_init(&traffic, &page->wanted)) traffic.flows = 0;
  page->case_taken = serial;
}

static uint16_t receive(unsigned role, void *queue, struct rte_mbuf **m, uint16_t n) {
  struct traffic_page *page = meter.page;
  if (!(page->run >> role & 1) || queue != queues[role]) {
    meter.idle_polls++;
    // Whoever waits for the generator to stop sees it here.
    if (__builtin_expect(!page->run && page->busy, 0)) meter_end(&meter);
    return 0;
  }
  if (__builtin_expect(page->case_taken != page->case_serial || !page->busy, 0)) {
    meter_open(&meter, 0);
    take_case(page);
    page->busy = 1;
    meter.next = 0;
  }
  if (__builtin_expect(meter.generated >= meter.next, 0)) meter_stamp(&meter);
  if (__builtin_expect(!traffic.flows || rte_mempool_get_bulk(pools[role], (void **)m, n), 0)) {
    meter.no_buffer++;
    return 0;
  }
  uint16_t port = port_of[role];
  for (unsigned i = 0; i < n; i++) {
    struct rte_mbuf *b = m[i];
    b->data_off = RTE_PKTMBUF_HEADROOM;
    b->refcnt = 1;
    b->nb_segs = 1;
    b->port = port;
    b->ol_flags = 0;
    b->packet_type = 0;
    b->vlan_tci = 0;
    uint32_t length = traffic_write(&traffic, (uint8_t *)b->buf_addr + RTE_PKTMBUF_HEADROOM);
    b->pkt_len = length;
    b->data_len = (uint16_t)length;
  }
  meter.polls++;
  meter.generated += n;
  return n;
}

static __attribute__((noinline)) void sample(struct rte_mbuf **m, uint16_t n, unsigned role) {
  for (unsigned i = 0; i < n && samples_wanted(meter.page); i++) {
    if (++skip % 97) continue;
    keep_sample(meter.page, rte_pktmbuf_mtod(m[i], uint8_t *), m[i]->data_len, m[i]->pkt_len, role);
  }
}
static uint16_t transmit(unsigned role, struct rte_mbuf **m, uint16_t n) {
  if (__builtin_expect(samples_wanted(meter.page), 0)) sample(m, n, role);
  meter.sent += n;
  void *single[64];
  unsigned count = 0;
  for (unsigned i = 0; i < n; i++) {
    struct rte_mbuf *b = m[i];
    if (__builtin_expect(b->nb_segs != 1 || b->pool != m[0]->pool, 0)) { rte_pktmbuf_free(b); continue; }
    b = rte_pktmbuf_prefree_seg(b);
    if (__builtin_expect(!b, 0)) continue;
    if (b->pool != m[0]->pool) { rte_mempool_put(b->pool, b); continue; }
    single[count++] = b;
    if (count == 64) { rte_mempool_put_bulk(b->pool, single, count); count = 0; }
  }
  if (count) rte_mempool_put_bulk(((struct rte_mbuf *)single[0])->pool, single, count);
  return n;
}

static uint16_t receive0(void *q, struct rte_mbuf **m, uint16_t n) { return receive(0, q, m, n); }
static uint16_t receive1(void *q, struct rte_mbuf **m, uint16_t n) { return receive(1, q, m, n); }
static uint16_t transmit0(void *q, struct rte_mbuf **m, uint16_t n) { (void)q; return transmit(0, m, n); }
static uint16_t transmit1(void *q, struct rte_mbuf **m, uint16_t n) { (void)q; return transmit(1, m, n); }
static const eth_rx_burst_t receivers[TRAFFIC_PORTS] = {receive0, receive1};
static const eth_tx_burst_t transmitters[TRAFFIC_PORTS] = {transmit0, transmit1};

// The pool that a queue was set up with: the first word of the driver's queue that is a pool's address.
struct search { void **words; struct rte_mempool *found, *largest; };
static void look(struct rte_mempool *pool, void *argument) {
  struct search *s = argument;
  for (int i = 0; i < 16; i++) if (s->words[i] == pool) s->found = pool;
  if (pool->elt_size >= 2048 && (!s->largest || pool->size > s->largest->size)) s->largest = pool;
}
static struct rte_mempool *pool_of(void *queue) {
  struct search s = {queue, NULL, NULL};
  rte_mempool_walk(look, &s);
  return s.found ? s.found : s.largest;
}

static void attach(uint16_t port, unsigned role) {
  struct rte_eth_fp_ops *ops = &rte_eth_fp_ops[port];
  if (!ops->rxq.data || !ops->rxq.data[0]) return;
  struct rte_mempool *pool = pool_of(ops->rxq.data[0]);
  if (!pool) return;
  queues[role] = ops->rxq.data[0];
  pools[role] = pool;
  port_of[role] = port;
  __atomic_store_n(&ops->tx_pkt_burst, transmitters[role], __ATOMIC_RELEASE);
  __atomic_store_n(&ops->rx_pkt_burst, receivers[role], __ATOMIC_RELEASE);
  meter.page->attached |= 1u << role;
}
// A port's burst functions are set when it starts and reset when it stops, so this looks again and again.
static void *watch(void *argument) {
  eth_rx_burst_t stopped = (eth_rx_burst_t)argument;
  for (;;) {
    for (uint16_t port = 0; port < RTE_MAX_ETHPORTS; port++) {
      char name[RTE_ETH_NAME_MAX_LEN] = "";
      eth_rx_burst_t now = __atomic_load_n(&rte_eth_fp_ops[port].rx_pkt_burst, __ATOMIC_ACQUIRE);
      if (now == stopped || now == receive0 || now == receive1) continue;
      if (!rte_eth_dev_is_valid_port(port) || rte_eth_dev_get_name_by_port(port, name)) continue;
      if (!strcmp(name, "net_null0")) attach(port, 0);
      if (!strcmp(name, "net_null1")) attach(port, 1);
    }
    usleep(meter.page->attached == (1u << TRAFFIC_PORTS) - 1 ? 20000 : 500);
  }
  return NULL;
}

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("PEERS_PAGE");
  if (!path) return;
  int file = open(path, O_RDWR | O_CLOEXEC);
  void *at = file < 0 ? MAP_FAILED
                      : mmap(NULL, sizeof(struct traffic_page), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (file >= 0) close(file);
  if (at == MAP_FAILED) { fprintf(stderr, "generator: cannot map %s\n", path); return; }
  meter.page = at;
  if (meter.page->magic != PAGE_MAGIC || meter.page->version != PAGE_VERSION) {
    fprintf(stderr, "generator: %s is another program's\n", path);
    return;
  }
  // All ports are stopped now, so this is the burst function of a stopped port.
  void *stopped = (void *)rte_eth_fp_ops[RTE_MAX_ETHPORTS - 1].rx_pkt_burst;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  if (pthread_create(&thread, NULL, watch, stopped) == 0) {
    pthread_setname_np(thread, "traffic-watch");
    pthread_detach(thread);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}
