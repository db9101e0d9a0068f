// Writes the frames of the traffic model: addresses of the testbed, templates, fields that differ by flow.
#include "traffic.h"
#include <string.h>

// The same addresses are in bench/lib/pktgen/model.py, which compares frames byte by byte with these.
static const uint8_t DEVICE_MAC[6] = {2, 0, 0, 0, 0, 1}, PEER_MAC[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t GATEWAY_MAC[6] = {0, 0xf3, 0, 0, 0, 1}, ROUTER_MAC[6] = {2, 0, 0, 0, 0x64, 1};
enum {
  MAGIC = 0x7065, VXLAN_PORT = 4789, L2VNI = 0x1000, L3VNI = 0x2000,
  DEVICE_VTEP4 = 0x64410001, VTEP4 = 0x64410200, VTEP6 = 0x200,
  LOCAL_HOST = 0x0a000001, REMOTE_HOST = 0x0a800000, ETHERNET = 14, IPV4 = 20,
};
static const uint8_t VTEP6_PREFIX[8] = {0xfd, 0, 0, 0x65, 0, 0, 0, 0};

static void put16(uint8_t *at, uint32_t v) { at[0] = (uint8_t)(v >> 8); at[1] = (uint8_t)v; }
static void put32(uint8_t *at, uint32_t v) { v = __builtin_bswap32(v); memcpy(at, &v, 4); }
static uint32_t get16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }
static uint32_t get32(const uint8_t *at) { uint32_t v; memcpy(&v, at, 4); return __builtin_bswap32(v); }

// Odd factors permute 32 bits: every host has a MAC of its own, and neighbours share no bucket of a table.
static void put_host(uint8_t *at, uint8_t kind, uint32_t host) {
  uint32_t bits = host * 2654435761u;
  at[0] = 2;
  at[1] = kind;
  memcpy(at + 2, &bits, 4);
}
static void put_local(uint8_t *at, uint32_t host) { put_host(at, 0xaa, host); }
static void put_remote(uint8_t *at, uint32_t host) { put_host(at, 0xbb, host); }
static void put_remote_router(uint8_t *at, uint32_t vtep) {
  const uint8_t mac[6] = {2, 0, 0, 0x65, (uint8_t)(vtep >> 8), (uint8_t)vtep};
  memcpy(at, mac, 6);
}
static void put_vtep6(uint8_t *at, uint32_t low) {
  memcpy(at, VTEP6_PREFIX, 8);
  memset(at + 8, 0, 4);
  put32(at + 12, low);
}

static uint32_t sum16(const uint8_t *bytes, uint32_t count) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i + 1 < count; i += 2) sum += get16(bytes + i);
  if (count & 1) sum += (uint32_t)bytes[count - 1] << 8;
  return sum;
}
static uint32_t fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}
static uint32_t outer_bytes(const struct traffic *t) { return t->ipv6 ? 70 : 50; }

// Outer headers from VTEP 0 around `inner` bytes; VNI and source differ by flow.
static void write_outer(const struct traffic *t, uint8_t *p, uint32_t inner) {
  memcpy(p, DEVICE_MAC, 6);
  memcpy(p + 6, PEER_MAC, 6);
  uint8_t *udp = p + (t->ipv6 ? 54 : 34);
  if (t->ipv6) {
    put16(p + 12, 0x86dd);
    p[14] = 0x60;
    put16(p + 18, inner + 16);
    p[20] = 17;
    p[21] = 64;
    put_vtep6(p + 22, VTEP6);
    put_vtep6(p + 38, 1);
  } else {
    put16(p + 12, 0x0800);
    p[14] = 0x45;
    put16(p + 16, inner + 36);
    put16(p + 20, 0x4000);
    p[22] = 64;
    p[23] = 17;
    put32(p + 26, VTEP4);
    put32(p + 30, DEVICE_VTEP4);
    put16(p + 24, ~fold(sum16(p + 14, IPV4)));
  }
  put16(udp + 2, VXLAN_PORT);
  put16(udp + 4, inner + 16);
  udp[8] = 0x08;
}

static void write_template(struct sender *s, struct template *made, uint32_t size) {
  const struct traffic *t = s->traffic;
  uint8_t *p = made->bytes;
  memset(p, 0, MAX_HEADER);
  made->length = size + s->outer + s->tag;
  if (s->outer) write_outer(t, p, size);
  uint8_t *inner = p + s->outer, *ip = inner + ETHERNET + s->tag;
  if (t->service == ROUTED) memcpy(inner, s->direction == ENCAP ? GATEWAY_MAC : ROUTER_MAC, 6);
  if (s->tag) put16(inner + 12, 0x8100);
  put16(ip - 2, 0x0800);
  ip[0] = 0x45;
  put16(ip + 2, size - ETHERNET);
  ip[8] = 64;
  ip[9] = 17;
  put32(ip + 12, s->direction == ENCAP ? LOCAL_HOST : REMOTE_HOST);
  put32(ip + 16, s->direction == ENCAP ? REMOTE_HOST : LOCAL_HOST);
  put16(ip + 10, ~fold(sum16(ip, IPV4)));
  put16(ip + 24, size - ETHERNET - IPV4);
}

void sender_init(struct sender *s, const struct traffic *t, enum direction direction) {
  memset(s, 0, sizeof *s);
  s->traffic = t;
  s->direction = direction;
  s->outer = direction == DECAP && t->service != UNCHANGED ? outer_bytes(t) : 0;
  s->tag = direction == ENCAP && t->vnis > 1 && t->service != UNCHANGED ? 4 : 0;
  for (uint32_t i = 0; i < t->size_count; i++) write_template(s, &s->templates[i], t->sizes[i]);
}
void sender_seek(struct sender *s, uint32_t sequence) {
  s->next_flow = sequence % s->traffic->flows;
  s->next_size = sequence % s->traffic->size_count;
}
void sender_back(struct sender *s, uint32_t count) {
  uint32_t flows = s->traffic->flows, sizes = s->traffic->size_count;
  s->next_flow = (s->next_flow + flows - count % flows) % flows;
  s->next_size = (s->next_size + sizes - count % sizes) % sizes;
}
uint32_t sender_header(const struct sender *s) { return s->outer || s->tag ? MAX_HEADER : 64; }

// Adds `sum` to what the template's checksum at `field` covers.
static inline void add_to_checksum(uint8_t *field, uint32_t sum) {
  put16(field, ~fold(sum + (~get16(field) & 0xffff)));
}

// The fields of the outer headers that depend on VTEP, VNI and flow.
static inline void vary_outer(const struct traffic *t, uint8_t *p, uint32_t remote, uint32_t flow) {
  uint32_t vtep = remote % t->vteps, vni = remote % t->vnis + (t->service == ROUTED ? L3VNI : L2VNI);
  uint8_t *udp = p + (t->ipv6 ? 54 : 34);
  if (t->ipv6) {
    put32(p + 34, VTEP6 + vtep);
  } else {
    put32(p + 26, VTEP4 + vtep);
    add_to_checksum(p + 24, vtep);
  }
  uint32_t hash = flow * 2654435761u;
  put16(udp, 0xc000 | hash >> 18);
  put32(udp + 12, vni << 8);
}

uint32_t sender_write(struct sender *s, uint8_t *frame, uint16_t trial, uint32_t sequence, uint64_t stamp) {
  const struct traffic *t = s->traffic;
  const struct template *from = &s->templates[s->next_size];
  uint32_t flow = s->next_flow;
  if (++s->next_size == t->size_count) s->next_size = 0;
  if (++s->next_flow == t->flows) s->next_flow = 0;
  if (s->outer || s->tag) memcpy(frame, from->bytes, MAX_HEADER); else memcpy(frame, from->bytes, 64);
  uint32_t remote = flow % t->macs, local = remote % t->locals;
  if (s->outer) vary_outer(t, frame, remote, flow);
  uint8_t *inner = frame + s->outer, *ip = inner + ETHERNET + s->tag;
  if (s->direction == ENCAP) {
    if (t->service != ROUTED) put_remote(inner, remote);
    put_local(inner + 6, local);
    if (s->tag) put16(inner + 14, 1 + remote % t->vnis);
    put32(ip + 12, LOCAL_HOST + local);
    put32(ip + 16, REMOTE_HOST + remote);
  } else {
    if (t->service == ROUTED) {
      put_remote_router(inner + 6, remote % t->vteps);
    } else {
      put_local(inner, local);
      put_remote(inner + 6, remote);
    }
    put32(ip + 12, REMOTE_HOST + remote);
    put32(ip + 16, LOCAL_HOST + local);
  }
  // The template's checksum is that of hosts 0; LOCAL_HOST + local and REMOTE_HOST + remote carry into
  // the upper half exactly when remote or local + 1 do.
  add_to_checksum(ip + 10, (remote >> 16) + (remote & 0xffff) + ((local + 1) >> 16) + ((local + 1) & 0xffff) + 0xfffe);
  put16(ip + 20, flow & 0xffff);
  put16(ip + 22, 9 + (flow >> 16));
  uint8_t *mark = ip + 28;
  put16(mark, MAGIC);
  put16(mark + 2, (uint32_t)(trial & 0x7fff) << 1 | s->direction);
  put32(mark + 4, sequence);
  put32(mark + 8, flow);
  put16(mark + 12, (uint32_t)(stamp >> 32));
  put32(mark + 14, (uint32_t)stamp);
  return from->length;
}

uint32_t received_outer(const struct traffic *t, enum direction direction) {
  return direction == ENCAP && t->service != UNCHANGED ? outer_bytes(t) : 0;
}
uint32_t received_tag(const struct traffic *t, enum direction direction) {
  return direction == DECAP && t->vnis > 1 && t->service != UNCHANGED ? 4 : 0;
}

bool mark_read(const uint8_t *frame, uint32_t length, uint32_t offset, uint32_t tag, struct mark *mark) {
  uint32_t at = offset + tag + ETHERNET + IPV4 + 8;
  if (length < at + MARK_BYTES || get16(frame + at) != MAGIC) return false;
  const uint8_t *p = frame + at;
  uint32_t word = get16(p + 2);
  mark->trial = (uint16_t)(word >> 1);
  mark->direction = word & 1;
  mark->sequence = get32(p + 4);
  mark->flow = get32(p + 8);
  mark->stamp = (uint64_t)get16(p + 12) << 32 | get32(p + 14);
  return true;
}
int mark_find(const uint8_t *frame, uint32_t length, struct mark *mark) {
  static const uint8_t outers[] = {0, 50, 70};
  for (uint32_t i = 0; i < sizeof outers; i++)
    for (uint32_t tag = 0; tag <= 4; tag += 4)
      if (mark_read(frame, length, outers[i], tag, mark)) return outers[i] + (int)tag;
  return NO_FRAME;
}

static const char *outer_fault(const struct traffic *t, const uint8_t *p, uint32_t length, uint32_t remote) {
  const uint8_t *udp = p + (t->ipv6 ? 54 : 34);
  uint32_t low = remote % t->vteps;
  uint8_t address[16];
  if (memcmp(p, PEER_MAC, 6) || memcmp(p + 6, DEVICE_MAC, 6)) return "outer MAC addresses";
  if (get16(p + 12) != (t->ipv6 ? 0x86ddu : 0x0800u)) return "outer EtherType";
  if (t->ipv6) {
    if (get16(p + 18) != length - 54 || p[20] != 17 || p[21] == 0) return "outer IPv6 header";
    put_vtep6(address, 1);
    if (memcmp(p + 22, address, 16)) return "outer source address";
    put_vtep6(address, VTEP6 + low);
    if (memcmp(p + 38, address, 16)) return "outer destination address";
    uint32_t sum = sum16(p + 22, 32) + 17 + length - 54 + sum16(udp, length - 54);
    if (get16(udp + 6) != 0 && fold(sum) != 0xffff) return "outer UDP checksum";
  } else {
    if (p[14] != 0x45 || get16(p + 16) != length - 14 || p[23] != 17 || p[22] == 0) return "outer IPv4 header";
    if (fold(sum16(p + 14, IPV4)) != 0xffff) return "outer IPv4 checksum";
    if (get32(p + 26) != DEVICE_VTEP4) return "outer source address";
    if (get32(p + 30) != VTEP4 + low) return "outer destination address";
  }
  if (get16(udp) < 0xc000) return "outer source port";
  if (get16(udp + 2) != VXLAN_PORT || get16(udp + 4) != length - (uint32_t)(udp - p)) return "outer UDP header";
  uint32_t vni = remote % t->vnis + (t->service == ROUTED ? L3VNI : L2VNI);
  if (get32(udp + 8) != 0x08000000) return "VXLAN flags";
  return get32(udp + 12) == vni << 8 ? NULL : "VNI";
}

static void expect_addresses(const struct traffic *t, enum direction d, uint32_t remote, uint32_t local, uint8_t *mac) {
  bool routed = t->service == ROUTED;
  if (d == ENCAP) {
    if (routed) put_remote_router(mac, remote % t->vteps); else put_remote(mac, remote);
    if (routed) memcpy(mac + 6, ROUTER_MAC, 6); else put_local(mac + 6, local);
  } else {
    put_local(mac, local);
    if (routed) memcpy(mac + 6, GATEWAY_MAC, 6); else put_remote(mac + 6, remote);
  }
}

const char *frame_fault(const struct traffic *t, const uint8_t *frame, uint32_t length, const struct mark *mark) {
  enum direction d = mark->direction;
  if (mark->flow >= t->flows) return "flow";
  uint32_t outer = received_outer(t, d), tag = received_tag(t, d);
  uint32_t remote = mark->flow % t->macs, local = remote % t->locals;
  if (outer) {
    const char *fault = outer_fault(t, frame, length, remote);
    if (fault) return fault;
  }
  const uint8_t *inner = frame + outer, *ip = inner + ETHERNET + tag;
  uint8_t mac[12];
  expect_addresses(t, d, remote, local, mac);
  if (memcmp(inner, mac, 12)) return "inner MAC addresses";
  if (tag && (get16(inner + 12) != 0x8100 || get16(inner + 14) != 1 + remote % t->vnis)) return "VLAN tag";
  if (ip[0] != 0x45 || get16(ip - 2) != 0x0800) return "inner header";
  uint32_t size = t->sizes[mark->sequence % t->size_count];
  if (get16(ip + 2) != size - ETHERNET || length != outer + tag + size) return "length";
  if (ip[8] != (t->service == ROUTED ? 63 : 64)) return "inner TTL";
  if (fold(sum16(ip, IPV4)) != 0xffff) return "inner IPv4 checksum";
  uint32_t from = get32(ip + 12), to = get32(ip + 16), near = LOCAL_HOST + local, far = REMOTE_HOST + remote;
  if (from != (d == ENCAP ? near : far) || to != (d == ENCAP ? far : near)) return "inner IP addresses";
  bool ports = get16(ip + 20) == (mark->flow & 0xffff) && get16(ip + 22) == ((9 + (mark->flow >> 16)) & 0xffff);
  return ports ? NULL : "inner ports";
}
