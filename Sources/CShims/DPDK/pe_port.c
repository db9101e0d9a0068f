// Rings, ethdev bursts and doorbells: one DPDK or kernel call each.
#include "pe_port.h"
#include <errno.h>
#include <poll.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define RING(r) ((struct rte_ring *)(r))
#define MBUFS(m) ((struct rte_mbuf **)(m))

uint32_t pe_ring_dequeue_burst(pe_ring *ring, pe_mbuf **m, uint32_t n) {
  return rte_ring_dequeue_burst(RING(ring), (void **)m, n, NULL);
}
uint32_t pe_ring_enqueue_burst(pe_ring *ring, pe_mbuf **m, uint32_t n) {
  return rte_ring_enqueue_burst(RING(ring), (void *const *)m, n, NULL);
}
uint32_t pe_ring_free_count(const pe_ring *ring) { return rte_ring_free_count((const struct rte_ring *)ring); }
uint32_t pe_ring_count(const pe_ring *ring) { return rte_ring_count((const struct rte_ring *)ring); }
uint32_t pe_ring_capacity(const pe_ring *ring) { return rte_ring_get_capacity((const struct rte_ring *)ring); }

uint16_t pe_eth_rx_burst(uint16_t port, uint16_t queue, pe_mbuf **m, uint16_t n) {
  return rte_eth_rx_burst(port, queue, MBUFS(m), n);
}
uint16_t pe_eth_tx_prepare(uint16_t port, uint16_t queue, pe_mbuf **m, uint16_t n) {
  uint16_t ready = rte_eth_tx_prepare(port, queue, MBUFS(m), n);
  while (ready < n) {
    // It stopped at a frame that it refuses: those behind come before it.
    pe_mbuf *refused = m[ready];
    memmove(m + ready, m + ready + 1, (n - ready - 1u) * sizeof *m);
    m[--n] = refused;
    if (ready < n) ready += rte_eth_tx_prepare(port, queue, MBUFS(m + ready), n - ready);
  }
  return ready;
}
uint16_t pe_eth_tx_burst(uint16_t port, uint16_t queue, pe_mbuf **m, uint16_t n) {
  return rte_eth_tx_burst(port, queue, MBUFS(m), n);
}
int pe_doorbell_open(pe_doorbell *bell) {
  *bell = (pe_doorbell){.eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  return bell->eventfd < 0 ? -errno : 0;
}
void pe_doorbell_close(pe_doorbell *bell) {
  if (bell->eventfd >= 0) close(bell->eventfd);
  bell->eventfd = -1;
}
// The fences pair: either the ringer sees `sleeping`, or the sleeper sees what was enqueued.
void pe_doorbell_ring(pe_doorbell *bell) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (!__atomic_load_n(&bell->sleeping, __ATOMIC_RELAXED)) return;
  if (!__atomic_exchange_n(&bell->sleeping, 0, __ATOMIC_ACQ_REL)) return;
  uint64_t one = 1;
  ssize_t ignored = write(bell->eventfd, &one, sizeof one);
  (void)ignored;
}
void pe_doorbell_arm(pe_doorbell *bell) {
  __atomic_store_n(&bell->sleeping, 1, __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
void pe_doorbell_disarm(pe_doorbell *bell) {
  // A ringer that took the flag has written or will write; its event is then read here or next time.
  __atomic_store_n(&bell->sleeping, 0, __ATOMIC_RELAXED);
  uint64_t count;
  ssize_t ignored = read(bell->eventfd, &count, sizeof count);
  (void)ignored;
}
void pe_worker_wait(pe_doorbell *own, const pe_ring *a, const pe_ring *b, const pe_ring *c, uint32_t microseconds) {
  pe_doorbell_arm(own);
  if (pe_ring_count(a) == 0 && pe_ring_count(b) == 0 && pe_ring_count(c) == 0) {
    struct pollfd event = {.fd = own->eventfd, .events = POLLIN};
    struct timespec limit = {.tv_sec = microseconds / 1000000, .tv_nsec = (microseconds % 1000000) * 1000L};
    ppoll(&event, 1, &limit, NULL);
  }
  pe_doorbell_disarm(own);
}

pe_ring *pe_ring_create(const char *name, uint32_t count, int multi_producer, int socket) {
  unsigned flags = RING_F_SC_DEQ | (multi_producer ? 0 : RING_F_SP_ENQ);
  return (pe_ring *)rte_ring_create(name, count, socket, flags);
}
uint32_t pe_ring_consumed(const pe_ring *ring) {
  return __atomic_load_n(&((const struct rte_ring *)ring)->cons.tail, __ATOMIC_ACQUIRE);
}
void pe_ring_free(pe_ring *ring) { rte_ring_free(RING(ring)); }

uint64_t pe_clock_nanoseconds(void) {
  uint64_t hz = rte_get_tsc_hz(), ticks = rte_rdtsc();
  return hz == 0 ? 0 : ticks / hz * 1000000000u + ticks % hz * 1000000000u / hz;
}
