// Opening, configuring and reading DPDK's Ethernet devices; each function is one step.
//
// Functions return 0 or a value >= 0 when they succeed, else -errno.
#pragma once
#include "pe_port.h"
#pragma clang assume_nonnull begin

/// What a driver can do (struct rte_eth_dev_info).
typedef struct pe_eth_info {
  char driver[32];
  uint16_t max_rx_queues, max_tx_queues, min_mtu, max_mtu;
  int32_t socket;
  uint8_t multi_segment, rx_checksum, tx_ipv4_checksum, tx_udp_checksum, has_rss;
} pe_eth_info;

/// How to configure it; offloads only where pe_eth_info has them.
typedef struct pe_eth_config {
  uint16_t rx_queues, tx_queues;
  uint32_t mtu;
  uint8_t multi_segment, rx_checksum, tx_ipv4_checksum, tx_udp_checksum, rss;
} pe_eth_config;

typedef struct pe_eth_counters {
  uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, rx_missed, rx_errors, tx_errors, rx_no_buffer;
} pe_eth_counters;

/// Probes one EAL device string, such as "net_null0,size=64" or "pci:0000:3b:00.0".
int pe_eth_probe(const char *device);
/// DPDK's id of the device with this name.
int pe_eth_find(const char *name);
/// A device over rings, for tests.
int pe_eth_from_rings(const char *name, pe_ring *rx, pe_ring *tx);
/// Ports in use, of the PE_ETH_MAX that DPDK was built for.
int pe_eth_count(void);
int pe_eth_max(void);

int pe_eth_get_info(uint16_t port, pe_eth_info *info);
int pe_eth_configure(uint16_t port, const pe_eth_config *config);
int pe_eth_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, pe_pool *pool);
int pe_eth_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors);
int pe_eth_adjust_descriptors(uint16_t port, uint16_t *rx, uint16_t *tx);
int pe_eth_start(uint16_t port);
int pe_eth_stop(uint16_t port);
/// Closes the device and gives its id back.
int pe_eth_remove(uint16_t port);

int pe_eth_set_mtu(uint16_t port, uint16_t mtu);
int pe_eth_set_promiscuous(uint16_t port);
int pe_eth_set_allmulticast(uint16_t port);
int pe_eth_mac(uint16_t port, uint8_t mac[_Nonnull 6]);
int pe_eth_set_mac(uint16_t port, const uint8_t mac[_Nonnull 6]);
/// 1 when the link is up, 0 when it is down.
int pe_eth_link_up(uint16_t port);
int pe_eth_get_counters(uint16_t port, pe_eth_counters *counters);
#pragma clang assume_nonnull end
