// One trial: frames sent at a rate for a time, and what came back of them.
#pragma once
#include "traffic.h"

struct rte_mempool;

enum {
  WINDOW = 1 << 20,       // sequence numbers back to which duplicates are recognised
  SUB_BUCKETS = 32,       // of each power of two of the latency histogram: a step of 3 %
  BUCKETS = 45 * SUB_BUCKETS,
  GAP_BUCKETS = 40,       // powers of two of nanoseconds
  FAULT_KINDS = 24,
  MAX_BURST = 64,
};

// What the search asks for.
struct order {
  uint16_t number;        // 1 to 32767, another one than the trial before
  double rate;            // frames a second in each direction; 0: as fast as possible
  double seconds, drain;  // sending; waiting for what is still on its way
  uint64_t frames;        // stop after so many in each direction; 0: no such limit
  bool directions[DIRECTIONS];
  bool retry;             // a frame that the port refuses is tried again (a NIC), else it is lost (a ring)
  uint32_t burst;
  uint32_t check;         // one frame of so many is checked as a whole; a power of two
};

// How long the loop was away from its ports.
struct gaps { uint64_t longest, sum, buckets[GAP_BUCKETS]; };

struct fault { const char *text; uint64_t count; };

struct lane {
  // The sender's.
  struct sender sender;
  uint16_t tx_port, rx_port;
  uint64_t sent, refused, skipped, no_buffers, intended;
  uint64_t end;           // TSC of the last burst
  // The receiver's.
  _Alignas(64) uint64_t received, duplicates, reordered, too_old, checked, faulty;
  uint64_t latency_count, latency_sum, latency_min, latency_max;
  uint32_t newest;        // highest sequence number seen + 1
  uint32_t outer, tag;
  uint64_t *window;       // a bit for each of the last WINDOW sequence numbers
  uint32_t *last;         // of each flow: last sequence number + 1
  uint64_t *latency;      // BUCKETS
  struct fault faults[FAULT_KINDS];
};

struct trial {
  struct order order;
  const struct traffic *traffic;
  struct rte_mempool *pool;
  uint16_t ports[2], queues;
  bool two_lcores;
  unsigned receive_lcore;
  struct lane lanes[DIRECTIONS];
  uint64_t begin, away;     // TSC at the start; ticks in pauses of the sending loop, which lengthen the trial
  double sent_seconds;
  // What came that is nobody's: of earlier trials, on the wrong side or in the wrong shape, not ours.
  _Alignas(64) uint64_t late, misdirected, foreign;
  struct gaps receive_gaps;
  _Alignas(64) struct gaps send_gaps;
  _Alignas(64) volatile bool sending_done, stop;
};

// Makes the tables for `traffic`; false without memory.
bool trial_prepare(struct trial *t, const struct traffic *traffic);
void trial_release(struct trial *t);
// Runs `t->order`; results are in `t`.
void trial_run(struct trial *t);
// Lower edge of histogram bucket `index`, in ticks.
uint64_t latency_edge(uint32_t index);
