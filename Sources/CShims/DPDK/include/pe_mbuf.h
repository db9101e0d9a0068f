// What the fast path does to a DPDK packet buffer. No rte_*.h here: Swift sees a mirror of the first
// fields of rte_mbuf, whose offsets pe_mbuf.c checks against the real one.
#pragma once
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

/// Marks a C function that a burst may call: it neither locks nor allocates beyond a mempool.
#define PE_BURST __attribute__((swift_attr("@_noLocks")))

/// Mirror of struct rte_mbuf (DPDK lib/mbuf/rte_mbuf_core.h).
typedef struct pe_mbuf {
  uint8_t *_Nonnull buf_addr;
  uint64_t buf_iova;
  uint16_t data_off, refcnt, nb_segs, port;
  uint64_t ol_flags;
  uint32_t packet_type, pkt_len;
  uint16_t data_len, vlan_tci;
  uint32_t rss_hash, hash_hi;
  uint16_t vlan_tci_outer, buf_len;
  void *_Nullable pool;
  struct pe_mbuf *_Nullable next;
  uint64_t tx_offload;
} pe_mbuf;

/// What asks a driver to add the outer UDP checksum over IPv6 up, whose field holds the pseudo-header's sum:
/// RTE_MBUF_F_TX_IPV6 and RTE_MBUF_F_TX_UDP_CKSUM for `ol_flags`, and for `tx_offload` the lengths of an
/// Ethernet, an IPv6 and a UDP header (pe_mbuf.c compares them with DPDK's).
#define PE_TX_UDP_IPV6 0x0130000000000000ull
#define PE_TX_UDP_IPV6_LENGTHS 0x8140Eull

/// A pool of packet buffers (struct rte_mempool).
typedef struct pe_pool pe_pool;

/// NULL when the pool is empty.
PE_BURST pe_mbuf *_Nullable pe_mbuf_alloc(pe_pool *pool);
/// Fills `m` with n buffers or with none; returns 0 or -1.
PE_BURST int pe_mbuf_alloc_bulk(pe_pool *pool, pe_mbuf *_Nonnull *_Nonnull m, uint32_t n);
/// Makes a buffer of one segment `length` bytes long, for which it has room.
PE_BURST void pe_mbuf_resize(pe_mbuf *m, uint16_t length);
PE_BURST void pe_mbuf_free(pe_mbuf *m);
PE_BURST void pe_mbuf_free_bulk(pe_mbuf *_Nonnull *_Nonnull m, uint32_t n);
/// A second reference to all segments of `m` with its own offsets; NULL when the pool is empty.
PE_BURST pe_mbuf *_Nullable pe_mbuf_clone(pe_mbuf *m, pe_pool *pool);
/// Takes up to n buffers and chains `rest`, all of its segments shared, behind each; returns how many.
/// Their own lengths are left to the caller: data_len of what it writes, pkt_len of that and `rest`.
PE_BURST uint32_t pe_mbuf_fronts(pe_mbuf *rest, pe_pool *pool, pe_mbuf *_Nonnull *_Nonnull m, uint32_t n);
/// Chains `tail` behind `head`; 0, or -1 when there would be too many segments.
PE_BURST int pe_mbuf_chain(pe_mbuf *head, pe_mbuf *tail);
/// Copies all of `m` into one new segment; NULL when it does not fit or the pool is empty.
PE_BURST pe_mbuf *_Nullable pe_mbuf_linear_copy(const pe_mbuf *m, pe_pool *pool);

/// `name` unique in the process; `data_room` bytes per buffer, headroom (128) included.
pe_pool *_Nullable pe_pool_create(const char *name, uint32_t count, uint32_t cache, uint16_t data_room, int socket);
void pe_pool_free(pe_pool *pool);
uint32_t pe_pool_available(const pe_pool *pool);
uint32_t pe_pool_capacity(const pe_pool *pool);
#pragma clang assume_nonnull end
