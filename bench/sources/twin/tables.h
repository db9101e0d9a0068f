// The tables as they lie in memory: mirrors of Sources/Tables and of the ports of Sources/FastPath.
//
// twin_fields() hands every offset out, and the benchmark compares them with Swift's before it runs.
#pragma once
#include <stdint.h>

// Sources/Tables/BucketTable.swift: 64-byte buckets of five keys, five values and a link.
struct bucket_view {
  const uint8_t *buckets;
  uint64_t mask;
  uint32_t primary_count;
};
struct host_view {
  struct bucket_view table;
};
struct trie_view {
  const uint64_t *roots;
  const void *nodes;
};
enum { MISS = UINT32_MAX, NO_CIRCUIT = UINT32_MAX, NO_PORT = UINT16_MAX };

struct domain {
  uint32_t vni_word;
  uint16_t vxlan_port;
  uint8_t flags;
  uint64_t gateway_mac;
  const void *flood;
  uint16_t vrf;
  uint8_t is_used;
  const void *gateways;
};
struct circuit {
  uint16_t port, vlan, domain;
  uint8_t is_used;
};
enum { ROLE_UNDERLAY = 1, ROLE_CIRCUITS = 2 };
struct port_entry {
  uint8_t role, is_up;
  uint16_t mtu, partner;
  uint32_t untagged_circuit;
  const uint32_t *vlan_circuits;
  uint64_t mac;
  uint16_t vrf;
};
struct tunnel {
  uint32_t first, slot_mask;
  uint8_t unusable;
};
struct vrf {
  uint64_t router_mac;
  uint32_t vni_word;
  uint16_t vxlan_port;
  uint8_t accept_unknown, is_used;
  uint32_t icmp_source_ipv4;
  uint64_t icmp_source_ipv6[2];
};
// Raw memory in Swift: the comment at Adjacency in ForwardingState.swift is its definition.
struct adjacency {
  uint16_t port;
  uint8_t header_length, flags;
  uint16_t mtu, checksum_base;
  uint8_t header[120];
};
enum { ADJACENCY_IPV6 = 1, ADJACENCY_ZERO_CHECKSUM = 2, ADJACENCY_COPIES = 12 };
_Static_assert(sizeof(struct adjacency) == 128, "an adjacency is two cache lines");

// PlainOuter.swift: over IPv4, over IPv6; from the EtherType on.
struct plain_outer {
  uint64_t mask[8], wanted[8];
} __attribute__((aligned(64)));

struct state {
  struct bucket_view fdb;
  const uint32_t *vnis;
  const struct domain *domains;
  const struct circuit *circuits;
  const struct port_entry *ports;
  uint16_t port_count;
  const struct tunnel *tunnels;
  const uint32_t *slots;
  const struct adjacency *adjacencies;
  struct bucket_view vteps;
  const uint64_t *vtep_addresses;
  const uint64_t *members;
  int64_t vtep_words;
  // Local endpoints and ports, for packets that are not plain.
  uint32_t local_ipv4[4] __attribute__((aligned(16)));
  const uint64_t *local_ipv6;
  int64_t local_ipv6_count;
  uint16_t vxlan_ports[8] __attribute__((aligned(16)));
  const struct vrf *vrfs;
  struct host_view hosts;
  const uint64_t *host_blocks;
  struct trie_view prefixes;
  struct host_view neighbors;
  const uint64_t *hops;
  const uint64_t *groups;
  const uint32_t *group_slots;
  int64_t vrf_member_base;
  const struct plain_outer *plain_outers;
};
// Words of a hop (RouteHop.swift), and the kinds of a route (RouteValue.swift) and a VNI's target.
enum { HOP_WORDS = 4, HOP_TUNNEL = 1, HOP_BRIDGE = 2, TARGET_DOMAIN = 1, TARGET_VRF = 2 };

// Publication.swift: the snapshot's address, then the epoch; this reader's epoch.
struct reader {
  const uint64_t *shared;
  uint64_t *slot;
};
struct counters {
  uint64_t *totals, *drops, *ports, *domains, *vrfs;
};
enum { TOTAL_RECEIVED = 0, TOTAL_SENT = 2 };
enum { PORT_RX = 0, PORT_TX = 2 };
enum { CIRCUIT_IN = 0, TUNNEL_IN = 2, CIRCUIT_OUT = 4, TUNNEL_OUT = 6 };
enum { VRF_LOCAL_IN = 0, VRF_TUNNEL_IN = 2, VRF_LOCAL_OUT = 4, VRF_TUNNEL_OUT = 6 };
struct learn_ring {
  uint64_t *head, *tail, *events;
  uint64_t mask;
  uint64_t *recent;
  uint8_t *marks;
  const uint8_t *period;
};

// Sources/FastPath/Port.swift.
struct polled_queue {
  uint16_t ethdev, queue, port;
  uint8_t features;
};
struct poll_slot {
  uint64_t generation;
  uint32_t count0, count1;
  const struct polled_queue *banks;
  uint64_t padding[5];
  uint64_t seen;
};
enum { QUEUES_PER_BANK = 64, QUEUE_SHARES_BUFFERS = 32 };
struct worker_io {
  uint16_t worker;
  void *rx_ring, *exception_ring, *tx_ring, *doorbell, *host_doorbell;
  uint32_t port_capacity;
  const uint64_t *ports;
  struct poll_slot *polled;
};
// A port's word: kind, features, ethdev, tx queues, MTU.
enum { IO_ETHDEV = 1, IO_MULTI_SEGMENT = 1, IO_SHARED_QUEUE = 2 };
static inline uint8_t io_kind(uint64_t io) { return (uint8_t)io; }
static inline uint8_t io_features(uint64_t io) { return (uint8_t)(io >> 8); }
static inline uint16_t io_ethdev(uint64_t io) { return (uint16_t)(io >> 16); }
static inline uint16_t io_mtu(uint64_t io) { return (uint16_t)(io >> 48); }
