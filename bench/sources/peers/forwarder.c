// A minimal VXLAN forwarder in C: what the packet work costs without a product around it.
//
// Two ports (0 underlay, 1 access), one worker, one packet after the other, DPDK's own tables (rte_hash
// for MACs, rte_lpm for routes); no learning, no counters, no flood, no errors to the sender.
//
// usage: forwarder EAL-ARGUMENTS -- ENTRIES
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_lpm.h>
#include <rte_mbuf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "traffic.h"

enum { UNDERLAY, ACCESS, BURST = 32 };
struct key { uint32_t domain; uint8_t mac[6]; uint16_t zero; };
struct adjacency {
  uint8_t port, rewrite, mac[12], header[TRAFFIC_OUTER];
  uint32_t sum;
} __rte_cache_aligned;
static struct rte_hash *macs;
static struct rte_lpm *routes;
enum { TO_HOST, TO_PEER, ROUTED_TO_HOST, ROUTED_TO_PEER, ADJACENCIES };
static struct adjacency adjacencies[ADJACENCIES];
static volatile int stopping;
static void stop(int signal) { (void)signal; stopping = 1; }

static struct adjacency *route(uint8_t *e) {
  uint32_t destination, next;
  memcpy(&destination, e + 30, 4);
  if (e[22] < 2 || rte_lpm_lookup(routes, rte_be_to_cpu_32(destination), &next)) return NULL;
  struct adjacency *a = &adjacencies[next];
  memcpy(e, a->mac, 12);
  e[22]--;
  uint16_t sum;  // RFC 1624: TTL is the high byte of its word
  memcpy(&sum, e + 24, 2);
  uint32_t s = sum + 1u;
  sum = (uint16_t)(s + (s >> 16));
  memcpy(e + 24, &sum, 2);
  return a;
}
static struct adjacency *forward(uint8_t *e, uint32_t domain) {
  if (!memcmp(e, ROUTER_MAC, 6)) return route(e);
  struct key key = {.domain = domain};
  memcpy(key.mac, e, 6);
  void *value;
  if (rte_hash_lookup_data(macs, &key, &value) < 0) return NULL;
  return &adjacencies[(uintptr_t)value];
}
// Whether this is VXLAN for us; the outer header is checked as a VTEP has to.
static int is_tunnelled(const uint8_t *p, uint32_t length) {
  static const uint8_t own[4] = {10, 0, 0, 1};
  return length >= TRAFFIC_OUTER + 14 && p[12] == 8 && p[13] == 0 && p[14] == 0x45 && p[23] == 17
      && p[36] == 0x12 && p[37] == 0xb5 && (p[42] & 8) && !memcmp(p + 30, own, 4) && fold(words(p + 14, 20)) == 0;
}
static void encapsulate(struct rte_mbuf *m, const uint8_t *e, const struct adjacency *a) {
  uint32_t hash = rte_hash_crc(e + 26, 12, e[23]);
  uint16_t length = m->data_len;
  uint8_t *p = (uint8_t *)rte_pktmbuf_prepend(m, TRAFFIC_OUTER);
  memcpy(p, a->header, TRAFFIC_OUTER);
  put16(p + 16, (uint16_t)(length + 36));
  put16(p + 24, fold(a->sum + length + 36u));
  put16(p + 34, (uint16_t)(0xc000 | (hash & 0x3fff)));
  put16(p + 38, (uint16_t)(length + 16));
}

static int work(void *argument) {
  (void)argument;
  struct rte_mbuf *received[BURST], *out[2][BURST];
  while (!stopping) {
    for (uint16_t port = 0; port < 2; port++) {
      uint16_t n = rte_eth_rx_burst(port, 0, received, BURST), count[2] = {0, 0};
      for (uint16_t i = 0; i < n; i++) rte_prefetch0(rte_pktmbuf_mtod(received[i], void *));
      for (uint16_t i = 0; i < n; i++) {
        struct rte_mbuf *m = received[i];
        uint8_t *e = rte_pktmbuf_mtod(m, uint8_t *);
        struct adjacency *a = NULL;
        if (port == ACCESS) {
          a = forward(e, L2_VNI);
        } else if (is_tunnelled(e, m->data_len)) {
          uint32_t vni = (uint32_t)e[46] << 16 | e[47] << 8 | e[48];
          e = (uint8_t *)rte_pktmbuf_adj(m, TRAFFIC_OUTER);
          a = forward(e, vni);
        }
        if (!a) { rte_pktmbuf_free(m); continue; }
        if (a->port == UNDERLAY) encapsulate(m, e, a);
        out[a->port][count[a->port]++] = m;
      }
      for (uint16_t to = 0; to < 2; to++) {
        uint16_t sent = count[to] ? rte_eth_tx_burst(to, 0, out[to], count[to]) : 0;
        while (sent < count[to]) rte_pktmbuf_free(out[to][sent++]);
      }
    }
  }
  return 0;
}

static void adjacency(int index, int port, const uint8_t *destination, uint32_t vni) {
  struct adjacency *a = &adjacencies[index];
  a->port = (uint8_t)port;
  if (destination) {
    memcpy(a->mac, destination, 6);
    memcpy(a->mac + 6, ROUTER_MAC, 6);
  }
  if (port != UNDERLAY) return;
  outer_header(a->header, 1, vni, 0);
  put16(a->header + 16, 0);
  put16(a->header + 24, 0);
  a->sum = words(a->header + 14, 20);
}
static int fill(uint32_t entries) {
  struct rte_hash_parameters hash = {
      .name = "macs", .entries = 2 * entries + 1024, .key_len = sizeof(struct key), .hash_func = rte_hash_crc};
  struct rte_lpm_config lpm = {.max_rules = entries + 64, .number_tbl8s = entries / 8 + 256};
  macs = rte_hash_create(&hash);
  routes = rte_lpm_create("routes", SOCKET_ID_ANY, &lpm);
  if (!macs || !routes) return -1;
  adjacency(TO_HOST, ACCESS, NULL, 0);
  adjacency(TO_PEER, UNDERLAY, NULL, L2_VNI);
  adjacency(ROUTED_TO_HOST, ACCESS, HOST_MAC, 0);
  adjacency(ROUTED_TO_PEER, UNDERLAY, PEER_ROUTER_MAC, L3_VNI);
  struct key key = {.domain = L2_VNI};
  memcpy(key.mac, HOST_MAC, 6);
  int bad = rte_hash_add_key_data(macs, &key, (void *)(uintptr_t)TO_HOST) < 0;
  memcpy(key.mac, REMOTE_MAC, 6);
  for (uint32_t i = 0; i < entries && !bad; i++) {
    uint32_t tail = remote_mac_tail(i);
    key.mac[3] = (uint8_t)(tail >> 16);
    put16(key.mac + 4, (uint16_t)tail);
    bad |= rte_hash_add_key_data(macs, &key, (void *)(uintptr_t)TO_PEER) < 0;
    bad |= rte_lpm_add(routes, remote_address(i), 32, ROUTED_TO_PEER) < 0;
  }
  bad |= rte_lpm_add(routes, HOST_ADDRESS, 32, ROUTED_TO_HOST) < 0;
  bad |= rte_lpm_add(routes, PREFIX_ADDRESS, 16, ROUTED_TO_PEER) < 0;
  return bad ? -1 : 0;
}
static int open_port(uint16_t port, struct rte_mempool *pool) {
  struct rte_eth_conf conf = {0};
  uint16_t rx = 1024, tx = 1024;
  return rte_eth_dev_configure(port, 1, 1, &conf) || rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx, &tx)
      || rte_eth_rx_queue_setup(port, 0, rx, SOCKET_ID_ANY, NULL, pool)
      || rte_eth_tx_queue_setup(port, 0, tx, SOCKET_ID_ANY, NULL) || rte_eth_dev_start(port);
}

int main(int argc, char **argv) {
  int used = rte_eal_init(argc, argv);
  if (used < 0 || argc - used < 2) { fprintf(stderr, "usage: forwarder EAL-ARGUMENTS -- ENTRIES\n"); return 2; }
  long entries = atol(argv[used + 1]);
  if (entries < 1 || entries > 1 << 20) { fprintf(stderr, "forwarder: 1 to 1048576 entries\n"); return 2; }
  signal(SIGINT, stop);
  signal(SIGTERM, stop);
  struct rte_mempool *pool = rte_pktmbuf_pool_create("packets", 16383, 256, 0, 2176, SOCKET_ID_ANY);
  if (!pool || fill((uint32_t)entries)) { fprintf(stderr, "forwarder: no memory for the tables\n"); return 1; }
  for (uint16_t port = 0; port < 2; port++)
    if (open_port(port, pool)) { fprintf(stderr, "forwarder: port %u does not start\n", port); return 1; }
  if (rte_eal_mp_remote_launch(work, NULL, SKIP_MAIN)) return 1;
  printf("forwarder ready, %ld entries\n", entries);
  fflush(stdout);
  // rte_eal_mp_wait_lcore spins; this sleeps.
  while (!stopping) usleep(50000);
  rte_eal_mp_wait_lcore();
  return 0;
}
