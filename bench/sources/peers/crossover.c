// Source and sink on a core of their own, for a program under test on another core.
//
// Ethernet devices 0 and 1 face its underlay and access port (memif). As much as the devices take is
// offered while the page says so; a slice ends with the packets that have come back.
//
// usage: crossover EAL-ARGUMENTS -- PAGE
#include <fcntl.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include "measure.h"

enum { BURST = 32 };
static volatile int stopping;
static void stop(int signal) { (void)signal; stopping = 1; }
static struct meter meter = {.counters = {-1, -1}};
static struct traffic traffic;

static int open_port(uint16_t port, struct rte_mempool *pool) {
  struct rte_eth_conf conf = {0};
  uint16_t rx = 1024, tx = 1024;
  if (rte_eth_dev_configure(port, 1, 1, &conf) || rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx, &tx)
      || rte_eth_rx_queue_setup(port, 0, rx, SOCKET_ID_ANY, NULL, pool)
      || rte_eth_tx_queue_setup(port, 0, tx, SOCKET_ID_ANY, NULL) || rte_eth_dev_start(port)) return -1;
  rte_eth_promiscuous_enable(port);
  return 0;
}
// A memif client is up once the peer has accepted it.
static int wait_for_links(void) {
  for (int tries = 0; tries < 1000 && !stopping; tries++) {
    struct rte_eth_link link[2] = {0};
    for (uint16_t port = 0; port < 2; port++) if (rte_eth_link_get_nowait(port, &link[port])) return -1;
    if (link[0].link_status && link[1].link_status) return 0;
    usleep(10000);
  }
  return -1;
}
static void offer(struct rte_mempool *pool, uint16_t port) {
  struct rte_mbuf *m[BURST];
  if (!traffic.flows || rte_pktmbuf_alloc_bulk(pool, m, BURST)) { meter.no_buffer++; return; }
  for (int i = 0; i < BURST; i++) {
    m[i]->pkt_len = traffic_write(&traffic, rte_pktmbuf_mtod(m[i], uint8_t *));
    m[i]->data_len = (uint16_t)m[i]->pkt_len;
  }
  uint16_t taken = rte_eth_tx_burst(port, 0, m, BURST);
  meter.generated += taken;
  meter.polls++;
  if (taken < BURST) rte_pktmbuf_free_bulk(m + taken, BURST - taken);
}
static void collect(void) {
  static uint32_t skip;
  struct rte_mbuf *m[64];
  for (uint16_t port = 0; port < 2; port++) {
    uint16_t n = rte_eth_rx_burst(port, 0, m, 64);
    for (uint16_t i = 0; i < n && samples_wanted(meter.page); i++) {
      if (++skip % 97) continue;
      keep_sample(meter.page, rte_pktmbuf_mtod(m[i], uint8_t *), m[i]->data_len, m[i]->pkt_len, port);
    }
    meter.sent += n;
    if (n) rte_pktmbuf_free_bulk(m, n);
  }
}
static void work(struct rte_mempool *pool) {
  struct traffic_page *page = meter.page;
  uint64_t next = 0;
  while (!stopping) {
    collect();
    if (!page->run) {
      meter_end(&meter);
      usleep(200);
      continue;
    }
    if (page->case_taken != page->case_serial || !page->busy) {
      if (traffic_init(&traffic, &page->wanted)) traffic.flows = 0;
      page->case_taken = page->case_serial;
      page->busy = 1;
      next = 0;
    }
    if (meter.sent >= next || page->slice_taken != page->slice_serial) {
      meter_stamp(&meter);
      next = meter.sent + page->slice_packets;
    }
    offer(pool, traffic.decap ? 0 : 1);
  }
}

int main(int argc, char **argv) {
  int used = rte_eal_init(argc, argv);
  if (used < 0 || argc - used < 2) { fprintf(stderr, "usage: crossover EAL-ARGUMENTS -- PAGE\n"); return 2; }
  signal(SIGINT, stop);
  signal(SIGTERM, stop);
  int file = open(argv[used + 1], O_RDWR | O_CLOEXEC);
  meter.page = mmap(NULL, sizeof *meter.page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (meter.page == MAP_FAILED || meter.page->magic != PAGE_MAGIC) {
    fprintf(stderr, "crossover: %s is no page\n", argv[used + 1]);
    return 1;
  }
  struct rte_mempool *pool = rte_pktmbuf_pool_create("packets", 16383, 256, 0, 2176, SOCKET_ID_ANY);
  if (!pool || rte_eth_dev_count_avail() != 2) {
    fprintf(stderr, "crossover: needs memory and two ports\n");
    return 1;
  }
  for (uint16_t port = 0; port < 2; port++)
    if (open_port(port, pool)) { fprintf(stderr, "crossover: port %u does not start\n", port); return 1; }
  if (wait_for_links()) { fprintf(stderr, "crossover: the peer does not bring its ports up\n"); return 1; }
  meter.page->attached = 3;
  printf("crossover ready\n");
  fflush(stdout);
  work(pool);
  return 0;
}
