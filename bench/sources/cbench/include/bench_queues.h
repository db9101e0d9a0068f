// Sources and sinks for several workers: each queue of an ethdev has its own, used by one thread.
#pragma once
#include "bench.h"
#pragma clang assume_nonnull begin

enum { BENCH_QUEUES = 4, BENCH_GAPS = 65536 };

/// What one receive queue gives: frames of one size, alike but for addresses and the inner UDP source port.
typedef struct bench_queue_source {
  /// Headers right for flow 0: inner source 10.0.0.0, destination 10.128.0.0; outer source ends in 0.0.
  uint8_t header[128];
  uint32_t length;
  /// Bytes of outer headers (IPv4) before the inner frame: 0 or 50.
  uint32_t outer;
  /// Flows, hosts that send them, and VTEPs that they come from (powers of two, but for flows).
  uint32_t flows, sources, vteps;
  /// The last two address bytes of the first VTEP.
  uint32_t vtep;
  /// Flow i goes to 10.128.0.0 + i, and the inner IPv4 checksum is kept right.
  uint32_t is_routed;
  /// Instead of the flow's own destination MAC, when not 0.
  uint64_t destination;
  /// Packet buffers that are used over and over; 0: each frame gets one from `pool`, and whoever swallows
  /// it gives it back (flooding shares buffers).
  uint32_t buffers;
  /// Flows `first`, `first + step`, …
  uint32_t first, step;
  /// A burst at each `period`-th call; 0 is none.
  uint32_t period;
} bench_queue_source;

/// What one queue has seen since bench_queue_clear.
typedef struct bench_queue_counts {
  uint64_t received, sent;
  /// Frames sent by the fifth byte of their destination MAC (the path's next hop).
  uint64_t paths[256];
  /// TSC ticks between two calls of the receive function, the most.
  uint64_t longest_gap;
} bench_queue_counts;

/// Replaces the bursts of an idle ethdev by sources, silent at first, and sinks; 0 or -1.
int bench_queues_attach(uint16_t port, uint16_t queues);
/// Changes a queue's source; not while it is polled. 0, or -1 when the pool has too few buffers.
int bench_queue_set(uint16_t port, uint16_t queue, const bench_queue_source *source, void *pool);
/// Whether sinks free what they swallow.
void bench_queues_free_sent(int on);
void bench_queue_clear(uint16_t port, uint16_t queue);
const bench_queue_counts *bench_queue_read(uint16_t port, uint16_t queue);
/// Calls of the receive function by the TSC ticks since the call before, 64 in each of BENCH_GAPS slots.
const uint32_t *bench_queue_gaps(uint16_t port, uint16_t queue);
#pragma clang assume_nonnull end
