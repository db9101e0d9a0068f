// Opening, configuring and reading DPDK's Ethernet devices.
#include "pe_ethdev.h"
#include <errno.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <string.h>

int pe_eth_probe(const char *device) { return rte_dev_probe(device); }
int pe_eth_find(const char *name) {
  uint16_t port;
  int rc = rte_eth_dev_get_port_by_name(name, &port);
  return rc < 0 ? rc : port;
}
int pe_eth_from_rings(const char *name, pe_ring *rx, pe_ring *tx) {
  struct rte_ring *in = (struct rte_ring *)rx, *out = (struct rte_ring *)tx;
  int port = rte_eth_from_rings(name, &in, 1, &out, 1, 0);
  return port < 0 ? -(rte_errno ? rte_errno : EINVAL) : port;
}
int pe_eth_count(void) { return rte_eth_dev_count_avail(); }
int pe_eth_max(void) { return RTE_MAX_ETHPORTS; }

int pe_eth_get_info(uint16_t port, pe_eth_info *info) {
  struct rte_eth_dev_info dev;
  int rc = rte_eth_dev_info_get(port, &dev);
  if (rc < 0) return rc;
  const uint64_t rx_sums = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
  *info = (pe_eth_info){
      .max_rx_queues = dev.max_rx_queues, .max_tx_queues = dev.max_tx_queues,
      .min_mtu = dev.min_mtu, .max_mtu = dev.max_mtu,
      .socket = rte_eth_dev_socket_id(port),
      .multi_segment = (dev.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0,
      .rx_checksum = (dev.rx_offload_capa & rx_sums) == rx_sums,
      .tx_ipv4_checksum = (dev.tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0,
      .tx_udp_checksum = (dev.tx_offload_capa & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0,
      .has_rss = (dev.flow_type_rss_offloads & RTE_ETH_RSS_IP) != 0,
  };
  if (dev.driver_name) strncpy(info->driver, dev.driver_name, sizeof info->driver - 1);
  return 0;
}
int pe_eth_configure(uint16_t port, const pe_eth_config *c) {
  struct rte_eth_dev_info dev;
  int rc = rte_eth_dev_info_get(port, &dev);
  if (rc < 0) return rc;
  struct rte_eth_conf conf = {.rxmode = {.mtu = c->mtu}};
  if (c->rx_checksum) conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
  if (c->multi_segment) conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
  if (c->tx_ipv4_checksum) conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
  if (c->tx_udp_checksum) conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
  if (c->rss) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf =
        dev.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP);
    // Of a tunnel's packets the inner headers, where the device can; else the outer UDP source port, into
    // which every VXLAN sender hashes them.
    if ((dev.flow_type_rss_offloads & RTE_ETH_RSS_LEVEL_INNERMOST) == RTE_ETH_RSS_LEVEL_INNERMOST)
      conf.rx_adv_conf.rss_conf.rss_hf |= RTE_ETH_RSS_LEVEL_INNERMOST;
  }
  return rte_eth_dev_configure(port, c->rx_queues, c->tx_queues, &conf);
}
int pe_eth_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, pe_pool *pool) {
  return rte_eth_rx_queue_setup(port, queue, descriptors, (unsigned)rte_eth_dev_socket_id(port), NULL,
                                (struct rte_mempool *)pool);
}
int pe_eth_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors) {
  return rte_eth_tx_queue_setup(port, queue, descriptors, (unsigned)rte_eth_dev_socket_id(port), NULL);
}
int pe_eth_adjust_descriptors(uint16_t port, uint16_t *rx, uint16_t *tx) {
  return rte_eth_dev_adjust_nb_rx_tx_desc(port, rx, tx);
}
int pe_eth_start(uint16_t port) { return rte_eth_dev_start(port); }
int pe_eth_stop(uint16_t port) { return rte_eth_dev_stop(port); }
int pe_eth_remove(uint16_t port) {
  struct rte_eth_dev_info dev;
  int rc = rte_eth_dev_info_get(port, &dev);
  if (rc < 0) return rc;
  rc = rte_eth_dev_close(port);
  if (rc < 0) return rc;
  return dev.device ? rte_dev_remove(dev.device) : 0;
}

int pe_eth_set_mtu(uint16_t port, uint16_t mtu) { return rte_eth_dev_set_mtu(port, mtu); }
int pe_eth_set_promiscuous(uint16_t port) { return rte_eth_promiscuous_enable(port); }
int pe_eth_set_allmulticast(uint16_t port) { return rte_eth_allmulticast_enable(port); }
int pe_eth_mac(uint16_t port, uint8_t mac[6]) {
  struct rte_ether_addr address;
  int rc = rte_eth_macaddr_get(port, &address);
  if (rc == 0) memcpy(mac, address.addr_bytes, 6);
  return rc;
}
int pe_eth_set_mac(uint16_t port, const uint8_t mac[6]) {
  struct rte_ether_addr address;
  memcpy(address.addr_bytes, mac, 6);
  return rte_eth_dev_default_mac_addr_set(port, &address);
}
int pe_eth_link_up(uint16_t port) {
  struct rte_eth_link link;
  int rc = rte_eth_link_get_nowait(port, &link);
  return rc < 0 ? rc : link.link_status == RTE_ETH_LINK_UP;
}
int pe_eth_get_counters(uint16_t port, pe_eth_counters *counters) {
  struct rte_eth_stats s;
  int rc = rte_eth_stats_get(port, &s);
  if (rc == 0)
    *counters = (pe_eth_counters){s.ipackets, s.ibytes, s.opackets, s.obytes,
                                  s.imissed, s.ierrors, s.oerrors, s.rx_nombuf};
  return rc;
}
