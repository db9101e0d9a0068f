// Opens Ethernet devices of any driver for the generator.
#include "ports.h"
#include <errno.h>
#include <rte_ethdev.h>
#include <rte_mempool.h>
#include <stdio.h>
#include <string.h>

enum { SLOTS = 1024, MTU = 1600 };
static char message[256];

static const char *failure(const char *name, const char *step, int code) {
  snprintf(message, sizeof message, "port %s: cannot %s: %s", name, step, strerror(code < 0 ? -code : code));
  return message;
}

static const char *start(struct port *port, uint16_t queues, struct rte_mempool *pool,
                         const struct rte_eth_dev_info *info) {
  struct rte_eth_conf config = {0};
  int rc;
  if (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE)
    config.txmode.offloads = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
  // Drivers that know no MTU (memif) refuse any but their own, and take large frames all the same.
  bool sized = info->max_mtu >= MTU && info->max_rx_pktlen >= MTU + 18;
  config.rxmode.mtu = sized ? MTU : 0;
  if ((rc = rte_eth_dev_configure(port->id, queues, queues, &config))) {
    config.rxmode.mtu = 0;
    if ((rc = rte_eth_dev_configure(port->id, queues, queues, &config))) return failure(port->name, "configure it", rc);
  }
  port->rx_slots = port->tx_slots = SLOTS;
  if ((rc = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &port->rx_slots, &port->tx_slots)))
    return failure(port->name, "size its queues", rc);
  int socket = rte_eth_dev_socket_id(port->id);
  for (uint16_t queue = 0; queue < queues; queue++) {
    if ((rc = rte_eth_rx_queue_setup(port->id, queue, port->rx_slots, (unsigned)socket, NULL, pool)))
      return failure(port->name, "set up a receive queue", rc);
    struct rte_eth_txconf tx = info->default_txconf;
    tx.offloads = config.txmode.offloads;
    if ((rc = rte_eth_tx_queue_setup(port->id, queue, port->tx_slots, (unsigned)socket, &tx)))
      return failure(port->name, "set up a send queue", rc);
  }
  if ((rc = rte_eth_dev_start(port->id))) return failure(port->name, "start it", rc);
  // Frames for addresses of hosts and VTEPs that the generator plays; virtual devices take everything.
  (void)rte_eth_promiscuous_enable(port->id);
  if (sized) (void)rte_eth_dev_set_mtu(port->id, MTU);
  return NULL;
}

const char *port_open(struct port *port, const char *name, uint16_t queues, struct rte_mempool *pool) {
  struct rte_eth_dev_info info;
  snprintf(port->name, sizeof port->name, "%s", name);
  int rc = rte_eth_dev_get_port_by_name(name, &port->id);
  if (rc) {
    // PCI devices also go by their address without the domain.
    char full[80];
    snprintf(full, sizeof full, "0000:%s", name);
    if (rte_eth_dev_get_port_by_name(full, &port->id)) return failure(name, "find it among the probed devices", rc);
  }
  if ((rc = rte_eth_dev_info_get(port->id, &info))) return failure(name, "read its capabilities", rc);
  snprintf(port->driver, sizeof port->driver, "%s", info.driver_name);
  unsigned int domain, bus, slot, function;
  char rest;
  port->physical = sscanf(name, "%x:%x:%x.%x%c", &domain, &bus, &slot, &function, &rest) == 4 ||
                   sscanf(name, "%x:%x.%x%c", &bus, &slot, &function, &rest) == 3;
  const char *fault = start(port, queues, pool, &info);
  if (!fault) (void)port_take_missed(port);
  return fault;
}

void port_close(struct port *port) {
  (void)rte_eth_dev_stop(port->id);
  (void)rte_eth_dev_close(port->id);
}

uint64_t port_take_missed(struct port *port) {
  struct rte_eth_stats stats;
  if (rte_eth_stats_get(port->id, &stats)) return 0;
  uint64_t now = stats.imissed + stats.rx_nombuf, before = port->missed;
  port->missed = now;
  return now > before ? now - before : 0;
}

bool port_link(const struct port *port, uint32_t *megabits) {
  struct rte_eth_link link = {0};
  *megabits = 0;
  if (rte_eth_link_get_nowait(port->id, &link)) return false;
  if (link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN && port->physical) *megabits = link.link_speed;
  return link.link_status == RTE_ETH_LINK_UP;
}
