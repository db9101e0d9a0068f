// A source and a sink inside the process, and the processor's counters: what cycles are measured with.
#pragma once
#include <stdint.h>
#pragma clang assume_nonnull begin

/// What the source writes into each frame; flow i differs in addresses and ports.
typedef struct bench_traffic {
  /// Ethernet frame, headers right for flow 0; `length` bytes are sent, at most 128 of them written.
  uint8_t header[128];
  uint32_t length;
  /// Bytes of outer headers before the inner frame: 0, 50 or 70.
  uint32_t outer;
  /// Flows, and how many of the first ones have source MACs, VTEPs and VNIs of their own (powers of two).
  uint32_t flows, sources, vteps, vnis;
  /// Plain frames carry VLAN tag 1 + VNI number.
  uint32_t tagged;
  /// First VNI; first VTEP's last two address bytes.
  uint32_t vni, vtep;
  /// Flow i's destination is 10.128.0.0 + i instead of the template's, in all inner frames.
  uint32_t destinations;
  /// Instead of the flow's own destination MAC, when not 0: a gateway's or a router's.
  uint64_t router;
} bench_traffic;

/// Replaces the bursts of two idle ethdevs: `source` gives `traffic`, both swallow what is sent.
/// `buffers` packet buffers are recycled; 0, or -1 when the pool has too few.
int bench_attach(uint16_t port_a, uint16_t port_b, void *pool, uint32_t buffers);
/// Chooses which of the two ports receives, and what.
void bench_traffic_set(uint16_t port, const bench_traffic *traffic);
/// Frames swallowed since the last call, on both ports.
uint64_t bench_take_sent(void);
/// Keeps copies of the next `count` frames sent (at most 256, 192 bytes of each).
void bench_capture(uint32_t count);
/// A captured frame: its bytes, its full length and its port; NULL beyond the last.
const uint8_t *_Nullable bench_captured(uint32_t index, uint32_t *length, uint16_t *port);
/// Digests all bytes, the length and the port of the next `count` frames sent, in order, from buffers that
/// all begin with the same bytes.
void bench_digest_start(uint32_t count);
/// The digest, and over how many frames it is; ends it.
uint64_t bench_digest_take(uint32_t *frames);
/// MAC addresses of flow `flow`, in the low 48 bits as they lie in memory.
uint64_t bench_destination(uint32_t flow);
uint64_t bench_source(uint32_t source);

typedef struct bench_counts { uint64_t cycles, instructions, tsc; } bench_counts;
/// Opens this thread's counters (user mode only); 0 or -errno.
int bench_counters_open(void);
void bench_counters_read(bench_counts *counts);
/// Runs for 3000 * n core cycles: a chain of dependent multiplications, three cycles each on every x86-64
/// core of the last decade. What TSC ticks it takes tells the core's clock where there is no counter.
void bench_spin(uint32_t n);
/// Pins the calling thread; 0 or -errno.
int bench_pin(int cpu);
#pragma clang assume_nonnull end
