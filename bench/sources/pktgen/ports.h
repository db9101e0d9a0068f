// The two Ethernet devices that the generator sends and receives on.
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct rte_mempool;

struct port {
  uint16_t id;
  char name[64], driver[32];
  bool physical;       // a NIC: a full send queue is the wire's limit, not the device under test's
  uint16_t rx_slots, tx_slots;
  uint64_t missed;     // frames that arrived and found no room here, so far
};

// Finds, configures and starts device `name`; NULL, or what went wrong (static buffer).
const char *port_open(struct port *port, const char *name, uint16_t queues, struct rte_mempool *pool);
void port_close(struct port *port);
// Reads what the port has missed since the last call.
uint64_t port_take_missed(struct port *port);
// Whether the link is up; its speed in Mbit/s or 0 when unknown.
bool port_link(const struct port *port, uint32_t *megabits);
