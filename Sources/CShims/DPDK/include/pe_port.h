// How packets reach a worker and leave it: rings, ethdev bursts, and the doorbells that wake a sleeper.
#pragma once
#include "pe_mbuf.h"
#pragma clang assume_nonnull begin

/// A lock-free queue of packet buffers (struct rte_ring).
typedef struct pe_ring pe_ring;

/// Takes up to n buffers; one consumer. Returns how many.
PE_BURST uint32_t pe_ring_dequeue_burst(pe_ring *ring, pe_mbuf *_Nonnull *_Nonnull m, uint32_t n);
/// Puts up to n buffers, in order; returns how many fitted (the rest stays the caller's).
PE_BURST uint32_t pe_ring_enqueue_burst(pe_ring *ring, pe_mbuf *_Nonnull *_Nonnull m, uint32_t n);
PE_BURST uint32_t pe_ring_free_count(const pe_ring *ring);
PE_BURST uint32_t pe_ring_count(const pe_ring *ring);
/// Buffers that it can hold.
PE_BURST uint32_t pe_ring_capacity(const pe_ring *ring);

/// Reads up to n frames from an ethdev's queue; returns how many.
PE_BURST uint16_t pe_eth_rx_burst(uint16_t port, uint16_t queue, pe_mbuf *_Nonnull *_Nonnull m, uint16_t n);
/// Lets the driver of an ethdev look at frames that ask it for offloads; returns how many it will take. The
/// others are behind those then.
PE_BURST uint16_t pe_eth_tx_prepare(uint16_t port, uint16_t queue, pe_mbuf *_Nonnull *_Nonnull m, uint16_t n);
/// Sends up to n frames; returns how many the driver took (the rest stays the caller's).
PE_BURST uint16_t pe_eth_tx_burst(uint16_t port, uint16_t queue, pe_mbuf *_Nonnull *_Nonnull m, uint16_t n);

/// Nanoseconds since some start, by the time stamp counter.
PE_BURST uint64_t pe_clock_nanoseconds(void);

/// Where a thread says that it sleeps, and the event that wakes it. One cache line.
typedef struct pe_doorbell {
  uint32_t sleeping;
  int32_t eventfd;
  uint64_t reserved[7];
} pe_doorbell;

/// Opens the event; 0 or -errno.
int pe_doorbell_open(pe_doorbell *bell);
void pe_doorbell_close(pe_doorbell *bell);
/// Wakes the owner if it said that it sleeps; call after enqueueing for it. A fence and a load when awake.
PE_BURST void pe_doorbell_ring(pe_doorbell *bell);
/// Says "I sleep": after this, the owner must look at its queues once more before it waits.
PE_BURST void pe_doorbell_arm(pe_doorbell *bell);
/// Says "I am awake" and forgets pending wake-ups.
PE_BURST void pe_doorbell_disarm(pe_doorbell *bell);
/// Sleeps up to `microseconds` unless one of the three rings has frames; returns at once when rung.
PE_BURST void pe_worker_wait(pe_doorbell *own, const pe_ring *a, const pe_ring *b, const pe_ring *c,
                             uint32_t microseconds);

/// Position of the consumer: how many buffers were taken ever, modulo 2^32.
uint32_t pe_ring_consumed(const pe_ring *ring);
/// `count` a power of two; name unique in the process; NULL when there is no memory. `multi_producer` 0: one.
pe_ring *_Nullable pe_ring_create(const char *name, uint32_t count, int multi_producer, int socket);
/// Frees the ring, not what is in it.
void pe_ring_free(pe_ring *ring);
#pragma clang assume_nonnull end
