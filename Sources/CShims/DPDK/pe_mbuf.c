// What pe_mbuf.h declares, over struct rte_mbuf.
#include "pe_mbuf.h"
#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>
#include <rte_memzone.h>
#include <stdio.h>

#define SAME(a, b) _Static_assert(offsetof(struct pe_mbuf, a) == offsetof(struct rte_mbuf, b), #a)
SAME(buf_addr, buf_addr); SAME(data_off, data_off); SAME(refcnt, refcnt); SAME(nb_segs, nb_segs);
SAME(port, port); SAME(ol_flags, ol_flags); SAME(packet_type, packet_type); SAME(pkt_len, pkt_len);
SAME(data_len, data_len); SAME(vlan_tci, vlan_tci); SAME(rss_hash, hash);
SAME(vlan_tci_outer, vlan_tci_outer); SAME(buf_len, buf_len); SAME(pool, pool); SAME(next, next);
SAME(tx_offload, tx_offload);

_Static_assert(PE_TX_UDP_IPV6 == (RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM), "flags");
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
_Static_assert(PE_TX_UDP_IPV6_LENGTHS ==
                   ((uint64_t)14 << RTE_MBUF_L2_LEN_OFS | (uint64_t)40 << RTE_MBUF_L3_LEN_OFS |
                    (uint64_t)8 << RTE_MBUF_L4_LEN_OFS), "lengths");
#else
#error "PE_TX_UDP_IPV6_LENGTHS is for little-endian machines"
#endif

#define M(m) ((struct rte_mbuf *)(m))
#define POOL(p) ((struct rte_mempool *)(p))

// The fuzz target poisons what lies behind a frame; what is allocated or grown may be written.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
void __asan_unpoison_memory_region(const volatile void *, size_t);
#define OPEN(p, n) __asan_unpoison_memory_region(p, n)
#endif
#endif
#ifndef OPEN
#define OPEN(p, n) ((void)(p), (void)(n))
#endif

pe_mbuf *pe_mbuf_alloc(pe_pool *pool) {
  struct rte_mbuf *m = rte_pktmbuf_alloc(POOL(pool));
  if (m) OPEN(m->buf_addr, m->buf_len);
  return (pe_mbuf *)m;
}
void pe_mbuf_resize(pe_mbuf *m, uint16_t length) {
  OPEN(m->buf_addr + m->data_off, length);
  m->data_len = length;
  m->pkt_len = length;
}
int pe_mbuf_alloc_bulk(pe_pool *pool, pe_mbuf **m, uint32_t n) {
  return rte_pktmbuf_alloc_bulk(POOL(pool), (struct rte_mbuf **)m, n) == 0 ? 0 : -1;
}
void pe_mbuf_free(pe_mbuf *m) { rte_pktmbuf_free(M(m)); }
void pe_mbuf_free_bulk(pe_mbuf **m, uint32_t n) { rte_pktmbuf_free_bulk((struct rte_mbuf **)m, n); }
pe_mbuf *pe_mbuf_clone(pe_mbuf *m, pe_pool *pool) { return (pe_mbuf *)rte_pktmbuf_clone(M(m), POOL(pool)); }
uint32_t pe_mbuf_fronts(pe_mbuf *shared, pe_pool *pool, pe_mbuf **m, uint32_t n) {
  uint32_t count = 0;
  struct rte_mbuf *rest = M(shared);
  if (n > 32) n = 32;
  if (rte_mempool_get_bulk(POOL(pool), (void **)m, n) == 0) count = n;
  else while (count < n && rte_mempool_get(POOL(pool), (void **)&m[count]) == 0) count++;
  if (count == 0) return 0;
  // One addition for all of them; whoever sends a copy gives its reference back.
  for (struct rte_mbuf *s = rest; s; s = s->next) rte_mbuf_refcnt_update(s, (int16_t)count);
  uint16_t segments = rest->nb_segs + 1, port = rest->port;
  for (uint32_t i = 0; i < count; i++) {
    struct rte_mbuf *f = M(m[i]);
    if (i + 4 < count) __builtin_prefetch(m[i + 4], 1);
    OPEN(f->buf_addr, f->buf_len);
    f->data_off = RTE_PKTMBUF_HEADROOM;
    f->nb_segs = segments;
    f->port = port;
    f->ol_flags = 0;
    f->packet_type = 0;
    f->vlan_tci = f->vlan_tci_outer = 0;
    f->next = rest;
    f->tx_offload = 0;
  }
  return count;
}
int pe_mbuf_chain(pe_mbuf *head, pe_mbuf *tail) { return rte_pktmbuf_chain(M(head), M(tail)) == 0 ? 0 : -1; }
pe_mbuf *pe_mbuf_linear_copy(const pe_mbuf *m, pe_pool *pool) {
  struct rte_mbuf *copy = rte_pktmbuf_copy((const struct rte_mbuf *)m, POOL(pool), 0, UINT32_MAX);
  if (copy && copy->nb_segs > 1) { rte_pktmbuf_free(copy); return NULL; }
  return (pe_mbuf *)copy;
}

static void free_zone(struct rte_mempool_memhdr *header, void *zone) {
  (void)header;
  rte_memzone_free(zone);
}
// Behind each other without regard to pages: DPDK itself would start a page with each buffer, where all headers
// fall into the same few sets of the first level cache.
static int fill_packed(struct rte_mempool *pool, const char *name, uint32_t count, int socket) {
  size_t least, align;
  ssize_t size = rte_mempool_op_calc_mem_size_default(pool, count, 0, &least, &align);
  if (size < 0) return (int)size;
  char zone_name[RTE_MEMZONE_NAMESIZE];
  if ((size_t)snprintf(zone_name, sizeof zone_name, "MZ_%s", name) >= sizeof zone_name) return -ENAMETOOLONG;
  const struct rte_memzone *zone = rte_memzone_reserve_aligned(zone_name, (size_t)size, socket, 0, (unsigned)align);
  if (!zone) return -rte_errno;
  int filled = rte_mempool_populate_iova(pool, zone->addr, zone->iova, zone->len, free_zone, (void *)(uintptr_t)zone);
  if (filled <= 0) rte_memzone_free(zone);
  if (filled < 0) return filled;
  return (uint32_t)filled == count ? 0 : -ENOMEM;
}
static struct rte_mempool *packed_pool(
    const char *name, uint32_t count, uint32_t cache, uint16_t data_room, int socket) {
  struct rte_pktmbuf_pool_private room = {.mbuf_data_room_size = data_room};
  struct rte_mempool *pool = rte_mempool_create_empty(
      name, count, (unsigned)sizeof(struct rte_mbuf) + data_room, cache, sizeof room, socket,
      RTE_MEMPOOL_F_NO_IOVA_CONTIG);
  if (!pool) return NULL;
  int rc = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
  if (rc == 0) {
    rte_pktmbuf_pool_init(pool, &room);
    rc = fill_packed(pool, name, count, socket);
  }
  if (rc < 0) {
    rte_mempool_free(pool);
    rte_errno = -rc;
    return NULL;
  }
  rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
  return pool;
}
pe_pool *pe_pool_create(const char *name, uint32_t count, uint32_t cache, uint16_t data_room, int socket) {
  // With addresses of the process a device sees a buffer in one piece in whatever pages it lies.
  if (!rte_eal_has_hugepages() && rte_eal_iova_mode() == RTE_IOVA_VA)
    return (pe_pool *)packed_pool(name, count, cache, data_room, socket);
  return (pe_pool *)rte_pktmbuf_pool_create(name, count, cache, 0, data_room, socket);
}
void pe_pool_free(pe_pool *pool) { rte_mempool_free(POOL(pool)); }
uint32_t pe_pool_available(const pe_pool *pool) { return rte_mempool_avail_count((const struct rte_mempool *)pool); }
uint32_t pe_pool_capacity(const pe_pool *pool) { return ((const struct rte_mempool *)pool)->size; }
