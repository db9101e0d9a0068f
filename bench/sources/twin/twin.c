// The two passes over a burst of known unicast, as a C program would do them.
#include "twin.h"
#include "packet.h"
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <stdlib.h>

enum { BURST = 32, LANE = 64, ETHDEVS = 64, FROM_TUNNEL = UINT32_MAX, BUCKET_GROUP = 8, UNPLACED = 0xFFFFFF };

struct context {
  struct rte_mbuf *mbuf;
  uint8_t *frame;
  uint64_t destination_key;
  const uint8_t *destination_bucket;
  uint64_t source_key;
  const uint8_t *source_bucket;
  uint32_t hash, ingress;
  uint16_t domain;
  uint8_t marks;
};
struct routed {
  struct rte_mbuf *mbuf;
  uint8_t *frame;
  uint64_t key;
  const uint8_t *bucket;
  uint64_t source_key;
  uint32_t ingress, route;
  uint16_t vrf;
};
struct lane {
  uint32_t count;
  uint16_t port;
  uint64_t bytes, io;
  struct rte_mbuf *packets[LANE];
} __attribute__((aligned(64)));

struct twin_worker {
  struct reader reader;
  struct counters counters;
  struct learn_ring learning;
  struct worker_io io;
  uint8_t usable;
  uint32_t bridged, routed;
  // Requests and packets that would need work between bursts; the twin has none.
  uint64_t requests_head, requests_tail;
  uint32_t waiting;
  uint64_t dirty;
  uint64_t unsupported;
  const char *why;
  struct rte_mbuf *received[BURST] __attribute__((aligned(64)));
  struct context contexts[BURST] __attribute__((aligned(64)));
  struct routed routes[BURST] __attribute__((aligned(64)));
  struct lane lanes[ETHDEVS];
};

// What the twin does not do: any packet that is no known unicast, and every fault.
static __attribute__((noinline, cold)) void unsupported(struct twin_worker *w, struct rte_mbuf *m, const char *why) {
  if (!w->unsupported++) w->why = why;
  rte_pktmbuf_free(m);
}
#define REFUSE(why)           \
  do {                        \
    unsupported(w, m, (why)); \
    return false;             \
  } while (0)

HOT void count2(uint64_t *counters, size_t index, unsigned which, uint64_t bytes) {
  uint64_t *at = counters + index * 8 + which;
  pe_count(at, 1);
  pe_count(at + 1, bytes);
}

// Tx lanes.

static __attribute__((noinline)) void flush(struct twin_worker *w, const struct state *s, unsigned ethdev) {
  struct lane *lane = &w->lanes[ethdev];
  uint32_t count = lane->count;
  if (unlikely(io_features(lane->io) & IO_SHARED_QUEUE)) {
    for (uint32_t i = 0; i < count; i++) unsupported(w, lane->packets[i], "a tx queue that workers share");
    count = 0;
  } else {
    uint32_t sent = rte_eth_tx_burst(io_ethdev(lane->io), w->io.worker, lane->packets, (uint16_t)count);
    for (uint32_t i = sent; unlikely(i < count); i++) {
      lane->bytes -= lane->packets[i]->pkt_len;
      unsupported(w, lane->packets[i], "a port that does not take packets");
    }
    count = sent;
  }
  pe_count(w->counters.totals + TOTAL_SENT, count);
  if (lane->port < s->port_count) {
    uint64_t *at = w->counters.ports + (size_t)lane->port * 8 + PORT_TX;
    pe_count(at, count);
    pe_count(at + 1, lane->bytes);
  }
  lane->count = 0;
  lane->bytes = 0;
  w->dirty &= ~(1ull << ethdev);
}

HOT bool transmit(struct twin_worker *w, const struct state *s, struct rte_mbuf *m, uint16_t port, uint64_t io) {
  uint16_t ethdev = io_ethdev(io);
  if (unlikely(io_kind(io) != IO_ETHDEV || ethdev >= ETHDEVS)) REFUSE("a port that is no ethdev");
  if (unlikely(m->nb_segs != 1 && !(io_features(io) & IO_MULTI_SEGMENT))) REFUSE("a port that takes no chains");
  struct lane *lane = &w->lanes[ethdev];
  uint32_t end = lane->count;
  lane->packets[end] = m;
  lane->count = end + 1;
  lane->bytes += m->pkt_len;
  if (end == 0) {
    lane->io = io;
    lane->port = port;
    w->dirty |= 1ull << ethdev;
  } else if (unlikely(end + 1 == LANE)) {
    flush(w, s, ethdev);
  }
  return true;
}
HOT uint64_t port_io(const struct worker_io *io, uint16_t port) {
  return port < io->port_capacity ? pe_load64(io->ports + port) : 0;
}

// Pass 1.

HOT uint8_t *add_front(struct rte_mbuf *m, uint16_t length) {
  m->data_off -= length;
  m->data_len += length;
  m->pkt_len += length;
  return rte_pktmbuf_mtod(m, uint8_t *);
}
// Leaves `length` bytes from `offset` on.
HOT void cut(struct rte_mbuf *m, uint16_t offset, uint32_t length) {
  m->data_off += offset;
  m->data_len = (uint16_t)length;
  m->pkt_len = length;
}

// Host-route buckets of packets put aside, several at once.
HOT void prefetch_buckets(const struct routed *routes, uint32_t start, uint32_t end) {
  for (uint32_t i = start; i < end; i++) pe_prefetch(routes[i].bucket);
}
// A packet for a gateway or router MAC, `length` bytes at `frame`: aside for the routing passes.
HOT bool start_routing(
    struct twin_worker *w, const struct state *s, const struct counters *c, struct rte_mbuf *m, uint8_t *frame,
    uint32_t length, uint32_t ingress, uint16_t vrf, uint64_t source_key) {
  // EtherType 0x0800, then 0x45.
  if (unlikely(length < 38 || (load32(frame + 12) & 0xFFFFFF) != 0x450008))
    REFUSE("a routed packet that is not IPv4 without options");
  uint32_t end = ETHERNET + swap16(load16(frame + 16));
  if (unlikely(end < ETHERNET + IPV4 || end > length || !is_ipv4_checksum_right(frame + ETHERNET)))
    REFUSE("a broken IPv4 header");
  if (unlikely(!pe_ipv4_are_plain(load32(frame + 26), load32(frame + 30)))) REFUSE("an address that is not routed");
  if (unlikely(load32(frame + 34) == DHCP_TO_CLIENT || vrf == 0)) REFUSE("DHCP, or a gateway that does not route");
  if (unlikely(end != length)) cut(m, 0, end);
  uint64_t key = scoped_key(vrf, __builtin_bswap32(load32(frame + 30)));
  const uint8_t *bucket = bucket_of(&s->hosts.table, key);
  struct routed *r = &w->routes[w->routed++];
  r->mbuf = m;
  r->frame = frame;
  r->key = key;
  r->bucket = bucket;
  r->source_key = source_key;
  r->ingress = ingress;
  r->vrf = vrf;
  if (ingress == FROM_TUNNEL) pe_prefetch(bucket);
  else if (w->routed % BUCKET_GROUP == 0) prefetch_buckets(w->routes, w->routed - BUCKET_GROUP, w->routed);
  count2(c->vrfs, vrf, ingress == FROM_TUNNEL ? VRF_TUNNEL_IN : VRF_LOCAL_IN, end);
  return false;
}

HOT bool is_over_ipv6(const struct rte_mbuf *m) {
  return load16(rte_pktmbuf_mtod(m, const uint8_t *) + 12) == TYPE_IPV6;
}
enum { ENDED, KEPT, OTHER_FAMILY };

// A frame on an underlay port; KEPT when `x` is filled for pass 2.
HOT int terminate(
    struct twin_worker *w, const struct state *s, const struct counters *c, const struct port_entry *entry,
    struct rte_mbuf *m, struct context *x, bool is_ipv6) {
  const uint32_t inner = ETHERNET + (is_ipv6 ? IPV6 : IPV4) + UDP + VXLAN;
  uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
  if (unlikely(m->data_len < inner + ETHERNET || m->nb_segs != 1)) REFUSE("a short frame, or a chain");
  uint64_t source = source_mac(frame);
  if (unlikely(is_group(source) || source == entry->mac)) REFUSE("a wrong source MAC");
  if (unlikely(!is_plain_outer(s, frame, is_ipv6))) {
    if (is_over_ipv6(m) != is_ipv6) return OTHER_FAMILY;
    REFUSE("no plain VXLAN packet for this node");
  }
  const uint8_t *ip = frame + ETHERNET;
  uint32_t end, tunnel;
  if (is_ipv6) {
    end = ETHERNET + IPV6 + swap16(load16(ip + 4));
    tunnel = vtep_ipv6(s, load64(ip + 8), load64(ip + 16));
  } else {
    if (unlikely(!is_ipv4_checksum_right(ip))) REFUSE("an outer checksum that is wrong");
    end = ETHERNET + swap16(load16(ip + 2));
    tunnel = vtep_ipv4(s, load32(ip + 12));
  }
  if (unlikely(end < inner + ETHERNET || end > m->data_len || swap16(load16(frame + inner - 12)) + inner - 16 != end))
    REFUSE("an outer length that is wrong");
  if (unlikely(tunnel == MISS)) REFUSE("an unknown VTEP");
  uint32_t vni_word = __builtin_bswap32(load32(frame + inner - 4)) & 0xFFFFFF00;
  uint32_t target = pe_load32_relaxed(s->vnis + (vni_word >> 8));
  uint16_t port = load16(frame + inner - 14);
  uint8_t *in = frame + inner;
  uint64_t destination = destination_mac(in);
  if (unlikely(is_group(source_mac(in)))) REFUSE("a group as inner source");
  if (unlikely(is_ipv6 ? frame[15] & 0x30 : frame[15] & 3)) REFUSE("an outer ECN mark");
  uint32_t length = end - inner;
  uint16_t domain = target >> 24 == TARGET_DOMAIN ? (uint16_t)target : 0;
  if (!domain) {
    uint16_t vrf = target >> 24 == TARGET_VRF ? (uint16_t)target : 0;
    const struct vrf *l3 = s->vrfs + vrf;
    if (unlikely(!vrf || l3->vni_word != vni_word || l3->vxlan_port != port)) REFUSE("an unknown VNI");
    if (unlikely(!is_member(s, s->vrf_member_base + vrf, tunnel))) REFUSE("a VTEP that is no member");
    if (unlikely(destination != l3->router_mac || !destination)) REFUSE("another router's MAC");
    cut(m, (uint16_t)inner, length);
    return start_routing(w, s, c, m, in, length, FROM_TUNNEL, vrf, 0);
  }
  const struct domain *record = s->domains + domain;
  if (unlikely(record->vni_word != vni_word || record->vxlan_port != port)) REFUSE("an unknown VNI");
  if (unlikely(!is_member(s, domain, tunnel))) REFUSE("a VTEP that is no member");
  if (unlikely(is_reserved(destination))) REFUSE("a reserved address");
  cut(m, (uint16_t)inner, length);
  count2(c->domains, domain, TUNNEL_IN, length);
  if (unlikely(destination == record->gateway_mac && destination))
    return start_routing(w, s, c, m, in, length, FROM_TUNNEL, record->vrf, 0);
  if (unlikely(length < 38 || load16(in + 12) != TYPE_IPV4)) REFUSE("no inner IPv4");
  if (unlikely(load32(in + 34) == DHCP_TO_CLIENT)) REFUSE("DHCP");
  uint64_t key = scoped_key(domain, destination);
  const uint8_t *bucket = bucket_of(&s->fdb, key);
  pe_prefetch(bucket);
  x->mbuf = m;
  x->frame = in;
  x->destination_key = key;
  x->destination_bucket = bucket;
  x->source_key = 0;
  x->hash = 0;
  x->ingress = FROM_TUNNEL;
  x->domain = domain;
  x->marks = 0;
  return true;
}

// A frame on a circuit port; true when `x` is filled for pass 2.
HOT bool admit(
    struct twin_worker *w, const struct state *s, const struct counters *c, const uint8_t *marks,
    const struct port_entry *entry, struct rte_mbuf *m, struct context *x) {
  uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
  uint32_t length = m->data_len;
  if (unlikely(length < ETHERNET + TAG || m->nb_segs != 1)) REFUSE("a short frame, or a chain");
  uint64_t first = load64(frame), upper = load64(frame + 4);
  uint64_t source = upper >> 16, destination = first & 0xFFFFFFFFFFFF;
  if (unlikely(is_group(source) || source == 0)) REFUSE("a wrong source MAC");
  if (unlikely(is_reserved(destination))) REFUSE("a reserved address");
  bool is_tagged = load16(frame + 12) == TYPE_VLAN;
  uint32_t circuit = entry->untagged_circuit;
  if (is_tagged) {
    if (unlikely(!entry->vlan_circuits)) REFUSE("a tag on a port without");
    circuit = entry->vlan_circuits[swap16(load16(frame + 14)) & 0xFFF];
  }
  if (unlikely(circuit == NO_CIRCUIT)) REFUSE("an unknown VLAN");
  uint16_t domain = s->circuits[circuit].domain;
  if (unlikely(domain == 0)) REFUSE("a circuit without domain");
  const struct domain *record = s->domains + domain;
  if (unlikely(record->gateway_mac == source)) REFUSE("the gateway's MAC as source");
  if (is_tagged) {
    // The addresses go over the tag.
    store64(frame + 4, first);
    store32(frame + 12, (uint32_t)(upper >> 32));
    frame += TAG;
    length -= TAG;
    cut(m, TAG, length);
  }
  count2(c->domains, domain, CIRCUIT_IN, length);
  uint64_t source_key = scoped_key(domain, source);
  const uint8_t *source_bucket = bucket_of(&s->fdb, source_key);
  pe_prefetch(source_bucket);
  pe_prefetch(marks + ((source_bucket - s->fdb.buckets) >> 6) * 5);
  if (destination == record->gateway_mac && destination)
    return start_routing(w, s, c, m, frame, length, circuit, record->vrf, source_key);
  if (unlikely(!is_plain(frame, length))) REFUSE("no plain TCP or UDP");
  if (unlikely(load32(frame + 34) == DHCP_TO_CLIENT)) REFUSE("DHCP");
  uint64_t key = scoped_key(domain, destination);
  const uint8_t *bucket = bucket_of(&s->fdb, key);
  pe_prefetch(bucket);
  x->mbuf = m;
  x->frame = frame;
  x->destination_key = key;
  x->destination_bucket = bucket;
  x->source_key = source_key;
  x->source_bucket = source_bucket;
  x->hash = plain_hash(frame);
  x->ingress = circuit;
  x->domain = domain;
  x->marks = frame[15] & 3;
  return true;
}

HOT void prefetch_frame(struct rte_mbuf *const *packets, uint32_t index, uint32_t count) {
  if (index + 3 < count) pe_prefetch(rte_pktmbuf_mtod(packets[index + 3], void *));
}
// Packets of one port and one family, from `index` on; returns the first of others.
HOT uint32_t terminate_run(
    struct twin_worker *w, const struct state *state, uint32_t index, uint32_t count, uint16_t port, bool is_ipv6) {
  const struct state s = *state;
  const struct counters c = w->counters;
  const struct port_entry *entry = s.ports + port;
  uint32_t kept = w->bridged;
  while (index < count && w->received[index]->port == port) {
    struct rte_mbuf *m = w->received[index];
    prefetch_frame(w->received, index + 1, count);
    int end = terminate(w, &s, &c, entry, m, &w->contexts[kept], is_ipv6);
    if (end == KEPT) kept++;
    else if (unlikely(end == OTHER_FAMILY)) break;
    index++;
  }
  w->bridged = kept;
  return index;
}
static __attribute__((noinline)) uint32_t terminate_run_ipv4(
    struct twin_worker *w, const struct state *s, uint32_t index, uint32_t count, uint16_t port) {
  return terminate_run(w, s, index, count, port, false);
}
static __attribute__((noinline)) uint32_t terminate_run_ipv6(
    struct twin_worker *w, const struct state *s, uint32_t index, uint32_t count, uint16_t port) {
  return terminate_run(w, s, index, count, port, true);
}
static __attribute__((noinline)) uint32_t admit_run(
    struct twin_worker *w, const struct state *state, uint32_t index, uint32_t count, uint16_t port) {
  const struct state s = *state;
  const struct counters c = w->counters;
  const struct port_entry *entry = s.ports + port;
  const uint8_t *marks = w->learning.marks;
  uint32_t kept = w->bridged;
  while (index < count && w->received[index]->port == port) {
    struct rte_mbuf *m = w->received[index++];
    prefetch_frame(w->received, index, count);
    if (admit(w, &s, &c, marks, entry, m, &w->contexts[kept])) kept++;
  }
  w->bridged = kept;
  return index;
}
static void classify(struct twin_worker *w, const struct state *s, uint32_t count) {
  w->bridged = w->routed = 0;
  for (uint32_t index = 0; index < count;) {
    uint16_t port = w->received[index]->port;
    uint8_t role = port < s->port_count ? s->ports[port].role : 0;
    if (role == ROLE_UNDERLAY)
      index = is_over_ipv6(w->received[index]) ? terminate_run_ipv6(w, s, index, count, port)
                                               : terminate_run_ipv4(w, s, index, count, port);
    else if (role == ROLE_CIRCUITS) index = admit_run(w, s, index, count, port);
    else unsupported(w, w->received[index++], "a port of another role");
  }
}

// Pass 2.

HOT bool learn(
    struct twin_worker *w, const struct state *s, uint8_t *marks, uint8_t period, uint64_t key,
    const uint8_t *bucket, uint32_t circuit, struct rte_mbuf *m) {
  uint32_t slot;
  uint32_t value = find(&s->fdb, key, bucket, &slot);
  // A circuit, and the one that it came from.
  if (unlikely((value & 0xC0FFFFFF) != circuit)) REFUSE("a source to be learned");
  if (pe_load8_relaxed(marks + slot) != period) pe_store8_relaxed(marks + slot, period);
  return true;
}

HOT bool send_encapsulated(
    struct twin_worker *w, const struct state *s, struct rte_mbuf *m, uint8_t *frame, const struct adjacency *a,
    uint32_t vni_word, uint16_t vxlan_port, uint32_t hash, uint64_t sum) {
  uint32_t length = m->pkt_len;
  add_front(m, a->header_length);
  if (!(a->flags & ADJACENCY_IPV6)) {
    encapsulate_ipv4(frame - 50, a, vni_word, vxlan_port, hash, length);
  } else {
    encapsulate_ipv6(frame - 70, a, vni_word, vxlan_port, hash, length, sum);
  }
  return transmit(w, s, m, a->port, port_io(&w->io, a->port));
}
// Whether an outer UDP checksum must cover the inner frame.
HOT bool needs_sum(const struct adjacency *a) {
  return (a->flags & (ADJACENCY_IPV6 | ADJACENCY_ZERO_CHECKSUM)) == ADJACENCY_IPV6;
}
HOT uint64_t inner_sum(const uint8_t *frame, uint32_t length) {
  return is_short(length) ? pe_checksum_short(frame, length) : twin_inner_sum(frame, length);
}
HOT bool fits(const struct rte_mbuf *m, const struct adjacency *a) {
  return m->pkt_len + a->header_length - ETHERNET <= a->mtu && m->data_off >= a->header_length && m->nb_segs == 1;
}

HOT bool send_to_circuit(
    struct twin_worker *w, const struct state *s, const struct counters *c, struct rte_mbuf *m, uint8_t *frame,
    uint16_t domain, uint32_t index) {
  const struct circuit *circuit = s->circuits + index;
  uint64_t io = port_io(&w->io, circuit->port);
  uint32_t length = m->pkt_len;
  if (unlikely(length - ETHERNET > io_mtu(io))) REFUSE("a frame that is too big");
  if (circuit->vlan) {
    if (unlikely(m->data_off < TAG)) REFUSE("no headroom");
    push_tag(frame, circuit->vlan);
    add_front(m, TAG);
  }
  count2(c->domains, domain, CIRCUIT_OUT, length);
  return transmit(w, s, m, circuit->port, io);
}

HOT bool resolve_one(
    struct twin_worker *w, const struct state *s, const struct counters *c, uint8_t *marks, uint8_t period,
    struct context *x) {
  struct rte_mbuf *m = x->mbuf;
  bool from_tunnel = x->ingress == FROM_TUNNEL;
  if (!from_tunnel && !learn(w, s, marks, period, x->source_key, x->source_bucket, x->ingress, m)) return false;
  if (unlikely(is_group(x->destination_key))) REFUSE("a group as destination");
  uint32_t value = find(&s->fdb, x->destination_key, x->destination_bucket, NULL);
  uint32_t kind = value >> 30, index = value & 0xFFFFFF;
  if (kind == 0) {
    if (unlikely(index == x->ingress)) REFUSE("back to its circuit");
    if (unlikely(s->circuits[index].domain != x->domain)) REFUSE("a circuit of another domain");
    return send_to_circuit(w, s, c, m, x->frame, x->domain, index);
  }
  if (unlikely(kind != 1 || from_tunnel)) REFUSE("an unknown destination, or behind a tunnel both ways");
  const struct tunnel *tunnel = s->tunnels + index;
  if (unlikely(tunnel->unusable != w->usable)) REFUSE("a tunnel without path");
  const struct adjacency *a = path_of(s, tunnel, x->hash);
  if (unlikely(!fits(m, a))) REFUSE("a frame that is too big");
  if (unlikely(x->marks | (a->flags & ADJACENCY_COPIES))) REFUSE("marks for the outer header");
  const struct domain *record = s->domains + x->domain;
  count2(c->domains, x->domain, TUNNEL_OUT, m->pkt_len);
  uint64_t sum = needs_sum(a) ? inner_sum(x->frame, m->pkt_len) : 0;
  return send_encapsulated(w, s, m, x->frame, a, record->vni_word, record->vxlan_port, x->hash, sum);
}
static __attribute__((noinline)) void resolve(struct twin_worker *w, const struct state *state) {
  const struct state s = *state;
  const struct counters c = w->counters;
  uint8_t *marks = w->learning.marks;
  uint8_t period = pe_load8_relaxed(w->learning.period);
  for (uint32_t i = 0; i < w->bridged; i++) resolve_one(w, &s, &c, marks, period, &w->contexts[i]);
}

// Routing: lookup, then the hop that it leads to, then what the hop leads to.

HOT const uint64_t *hop_of(const struct state *s, uint32_t route) { return s->hops + (size_t)route * HOP_WORDS; }
// The circuit of a hop that is a host, tagged with five bytes of the MAC that it is about.
HOT uint32_t circuit_of(const uint64_t *hop, uint64_t head) {
  uint64_t place = pe_load64_relaxed(hop + 3);
  return (place ^ head << 16) >> 24 ? UNPLACED : (uint32_t)place & UNPLACED;
}
HOT void prefetch_hop(const struct state *s, const struct counters *c, const struct routed *r) {
  if (unlikely(r->route == MISS)) return;
  const uint64_t *hop = hop_of(s, r->route);
  uint64_t head = pe_load64_relaxed(hop);
  pe_prefetch_write(c->vrfs + (size_t)r->vrf * 8);
  if ((head >> 48 & 15) == HOP_BRIDGE) {
    uint32_t circuit = circuit_of(hop, head);
    if (circuit != UNPLACED) pe_prefetch(s->circuits + circuit);
    pe_prefetch_write(c->domains + (size_t)(uint16_t)hop[1] * 8);
  }
}
HOT bool look(
    struct twin_worker *w, const struct state *s, uint8_t *marks, uint8_t period, struct routed *r) {
  struct rte_mbuf *m = r->mbuf;
  r->route = MISS;
  if (r->source_key &&
      !learn(w, s, marks, period, r->source_key, bucket_of(&s->fdb, r->source_key), r->ingress, m))
    return false;
  uint32_t route = find(&s->hosts.table, r->key, r->bucket, NULL);
  if (unlikely(route >> 28)) REFUSE("no host route to a hop");
  r->route = route;
  pe_prefetch(hop_of(s, route));
  return true;
}
// Counts the TTL down and writes the next Ethernet addresses to `front`.
HOT void rewrite(uint8_t *frame, uint8_t *front, uint64_t destination, uint64_t source) {
  decrement_ttl(frame + ETHERNET);
  store64(front, destination | source << 48);
  store32(front + 8, (uint32_t)(source >> 16));
}
HOT uint64_t address_sum(uint64_t mac) { return (mac & 0xFFFFFFFF) + (mac >> 32); }

HOT bool forward_to_tunnel(
    struct twin_worker *w, const struct state *s, const struct counters *c, struct routed *r, const uint64_t *hop,
    uint64_t mac) {
  struct rte_mbuf *m = r->mbuf;
  uint8_t *frame = r->frame;
  uint64_t words = pe_load64_relaxed(hop + 2), from = words & 0xFFFFFFFFFFFF;
  uint32_t length = m->pkt_len;
  const struct tunnel *tunnel = s->tunnels + (uint32_t)hop[1];
  if (unlikely(tunnel->unusable != w->usable)) REFUSE("a tunnel without path");
  if (unlikely(is_fragment(frame + ETHERNET) || (frame[23] != PROTOCOL_UDP && frame[23] != PROTOCOL_TCP)))
    REFUSE("no plain TCP or UDP");
  uint32_t hash = plain_hash(frame);
  const struct adjacency *a = path_of(s, tunnel, hash);
  if (unlikely(!fits(m, a))) REFUSE("a packet that is too big");
  if (unlikely((a->flags & ADJACENCY_COPIES) | (frame[15] & 3))) REFUSE("marks for the outer header");
  count2(c->vrfs, r->vrf, VRF_TUNNEL_OUT, length);
  uint64_t sum = 0;
  // Before the rewriting: wide loads of what has just been stored would wait. TTL and checksum change by
  // the same amount.
  if (needs_sum(a) && is_short(length))
    sum = pe_checksum_short(frame + 12, length - 12) + address_sum(mac) + address_sum(from);
  rewrite(frame, frame, mac, from);
  if (needs_sum(a) && !is_short(length)) sum = twin_inner_sum(frame, length);
  return send_encapsulated(w, s, m, frame, a, (uint32_t)(hop[1] >> 32), (uint16_t)(words >> 48), hash, sum);
}
HOT bool forward_to_host(
    struct twin_worker *w, const struct state *s, const struct counters *c, struct routed *r, const uint64_t *hop,
    uint64_t mac) {
  struct rte_mbuf *m = r->mbuf;
  uint16_t domain = (uint16_t)hop[1];
  uint32_t index = circuit_of(hop, pe_load64_relaxed(hop));
  if (unlikely(index == UNPLACED)) REFUSE("a neighbour that is behind no circuit");
  const struct circuit *circuit = s->circuits + index;
  if (unlikely(circuit->domain != domain)) REFUSE("a circuit of another domain");
  uint64_t io = port_io(&w->io, circuit->port);
  uint32_t length = m->pkt_len;
  if (unlikely(length - ETHERNET > io_mtu(io) || m->data_off < TAG)) REFUSE("a packet that is too big");
  count2(c->vrfs, r->vrf, VRF_LOCAL_OUT, length);
  count2(c->domains, domain, CIRCUIT_OUT, length);
  uint8_t *front = r->frame;
  if (circuit->vlan) {
    front = add_front(m, TAG);
    store32(front + 12, tag_word(circuit->vlan));
  }
  rewrite(r->frame, front, mac, pe_load64_relaxed(hop + 2) & 0xFFFFFFFFFFFF);
  return transmit(w, s, m, circuit->port, io);
}
HOT bool forward(struct twin_worker *w, const struct state *s, const struct counters *c, struct routed *r) {
  struct rte_mbuf *m = r->mbuf;
  const uint64_t *hop = hop_of(s, r->route);
  uint64_t head = pe_load64_relaxed(hop), mac = head & 0xFFFFFFFFFFFF;
  if (unlikely(r->frame[ETHERNET + 8] <= 1)) REFUSE("a TTL that is used up");
  // Kind, and state 0: usable.
  if ((head >> 48 & 0xFF) == HOP_TUNNEL) return forward_to_tunnel(w, s, c, r, hop, mac);
  if ((head >> 48 & 0xFF) == HOP_BRIDGE) return forward_to_host(w, s, c, r, hop, mac);
  REFUSE("a hop that is not usable, or behind a routed port");
}
static __attribute__((noinline)) void look_up(struct twin_worker *w, const struct state *state, uint32_t count) {
  const struct state s = *state;
  const struct counters c = w->counters;
  uint8_t *marks = w->learning.marks;
  uint8_t period = pe_load8_relaxed(w->learning.period);
  struct routed *routes = w->routes;
  prefetch_buckets(routes, count & ~(BUCKET_GROUP - 1u), count);
  for (uint32_t i = 0; i < count; i++) look(w, &s, marks, period, &routes[i]);
  for (uint32_t i = 0; i < count; i++) prefetch_hop(&s, &c, &routes[i]);
}
static __attribute__((noinline)) void follow(struct twin_worker *w, const struct state *state, uint32_t count) {
  const struct state s = *state;
  const struct counters c = w->counters;
  for (uint32_t i = 0; i < count; i++)
    if (likely(w->routes[i].route != MISS)) forward(w, &s, &c, &w->routes[i]);
}

// The loop.

HOT void run(struct twin_worker *w, const struct state *s, uint32_t count) {
  pe_count(w->counters.totals + TOTAL_RECEIVED, count);
  classify(w, s, count);
  if (w->bridged) resolve(w, s);
  if (w->routed) {
    look_up(w, s, w->routed);
    follow(w, s, w->routed);
  }
  while (w->dirty) flush(w, s, (unsigned)__builtin_ctzll(w->dirty));
}
static uint32_t poll_ethdev(struct twin_worker *w, const struct state *s, struct polled_queue queue) {
  uint32_t count = rte_eth_rx_burst(queue.ethdev, queue.queue, w->received, BURST);
  if (!count) return 0;
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    bytes += w->received[i]->pkt_len;
    w->received[i]->port = queue.port;
  }
  if (likely(queue.port < s->port_count)) {
    uint64_t *at = w->counters.ports + (size_t)queue.port * 8 + PORT_RX;
    pe_count(at, count);
    pe_count(at + 1, bytes);
  }
  if (unlikely(queue.features & QUEUE_SHARES_BUFFERS)) {
    for (uint32_t i = 0; i < count; i++) unsupported(w, w->received[i], "a port that shares buffers");
    return count;
  }
  run(w, s, count);
  return count;
}
static uint32_t poll_once(struct twin_worker *w) {
  struct poll_slot *slot = w->io.polled;
  uint64_t generation = pe_load64(&slot->generation);
  pe_store64(&slot->seen, generation);
  const struct polled_queue *queues = slot->banks + (generation & 1) * QUEUES_PER_BANK;
  uint32_t queue_count = generation & 1 ? slot->count1 : slot->count0;
  uint64_t epoch = pe_load64(w->reader.shared + 1);
  if (pe_load64_relaxed(w->reader.slot) != epoch) {
    pe_store64(w->reader.slot, epoch);
    pe_fence();
  }
  const struct state *s = (const struct state *)pe_load64(w->reader.shared);
  void **received = (void **)w->received;
  uint32_t total = rte_ring_dequeue_burst(w->io.exception_ring, received, BURST, NULL);
  for (uint32_t i = 0; unlikely(i < total); i++) unsupported(w, w->received[i], "a frame of the host");
  uint32_t kernel = rte_ring_dequeue_burst(w->io.rx_ring, received, BURST, NULL);
  for (uint32_t i = 0; unlikely(i < kernel); i++) unsupported(w, w->received[i], "a frame of a kernel port");
  total += kernel;
  for (uint32_t i = 0; i < queue_count; i++) total += poll_ethdev(w, s, queues[i]);
  if (unlikely(pe_load64_relaxed(&w->requests_head) != pe_load64_relaxed(&w->requests_tail) || w->waiting))
    w->unsupported++;
  return total;
}

uint64_t twin_worker_poll(twin_worker *w, uint64_t packets) {
  pe_store64(&w->io.polled->seen, 0);
  pe_fence();
  uint64_t total = 0;
  while (total < packets) total += poll_once(w);
  pe_store64(w->reader.slot, 0);
  pe_store64(&w->io.polled->seen, UINT64_MAX);
  return total;
}

twin_worker *twin_worker_create(const twin_views *views) {
  twin_worker *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
  if (!w) return NULL;
  memset(w, 0, sizeof *w);
  w->reader = *(const struct reader *)views->reader;
  w->counters = *(const struct counters *)views->counters;
  w->learning = *(const struct learn_ring *)views->learning;
  w->io = *(const struct worker_io *)views->io;
  w->usable = views->usable;
  return w;
}
void twin_worker_free(twin_worker *w) { free(w); }
uint64_t twin_worker_unsupported(const twin_worker *w, const char **why) {
  *why = w->why;
  return w->unsupported;
}
