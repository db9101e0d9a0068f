// A source and a sink inside the process, and the processor's counters: what cycles are measured with.
#pragma once
#include <stdint.h>
#pragma clang assume_nonnull begin

enum { BENCH_HEADER = 128, BENCH_FRAMES = 3, BENCH_PATTERN = 12 };

/// How the source's buffers live.
enum bench_buffers {
  /// Its own, given again and again: whoever gets them lends them to the sink.
  BENCH_RECYCLED,
  /// As above, and the sink frees the headers and clones that are chained to them.
  BENCH_REPLICATED,
  /// Taken from the pool for each burst, as a driver does: the worker frees them.
  BENCH_ALLOCATED,
};

/// What differs from frame to frame.
enum bench_kind { BENCH_FLOWS, BENCH_ARP, BENCH_FIXED };

/// One size of frame, headers right for flow 0; at most BENCH_HEADER bytes are written, behind them lies 0x5A.
typedef struct bench_frame {
  uint8_t header[BENCH_HEADER];
  uint32_t length;
} bench_frame;

/// What the source writes into each frame; flow i differs in addresses and ports.
typedef struct bench_traffic {
  bench_frame frames[BENCH_FRAMES];
  /// Which frame follows which: numbers of `frames`, `pattern_length` of them, over and over.
  uint8_t pattern[BENCH_PATTERN];
  uint32_t pattern_length;
  enum bench_kind kind;
  enum bench_buffers buffers;
  /// Not 0: a worker makes so many frames of each, in its own time; the next burst waits until all have been sent.
  uint32_t copies;
  /// At most so many frames in one burst.
  uint32_t burst;
  /// Bytes of outer headers before the inner frame: 0, 50 or 70.
  uint32_t outer;
  /// Flows, and how many of the first ones have source MACs, VTEPs and VNIs of their own (powers of two).
  uint32_t flows, sources, vteps, vnis;
  /// Plain frames carry VLAN tag 1 + VNI number.
  uint32_t tagged;
  /// The inner packets have a UDP checksum, which is kept right.
  uint32_t checksum;
  /// So has the outer UDP header of IPv6.
  uint32_t outer_checksum;
  /// First VNI; first VTEP's last two address bytes.
  uint32_t vni, vtep;
  /// Not 0: flow i's destination, or what is asked for, is this + (i << destination_shift) instead of the
  /// template's. Its lower half is 0.
  uint32_t destinations, destination_shift;
  /// Instead of the flow's own destination MAC, when not 0: a gateway's, a router's, or all.
  uint64_t router;
  /// The next flow and the next place of the pattern; bench_traffic_end() brings them up to date.
  uint32_t flow_next, pattern_next;
} bench_traffic;

/// Replaces the bursts of two idle ethdevs: one gives `traffic`, both swallow what is sent.
/// `buffers` buffers of `packets` are recycled; 0, or -1 when the pool has too few.
int bench_attach(uint16_t port_a, uint16_t port_b, void *packets, void *headers, uint32_t buffers);
/// Buffers that the two pools have less than at bench_traffic_set(): lost, or, below 0, freed by more than one.
int64_t bench_missing(void);
/// Chooses which of the two ports receives, and what. `punts` is the ring (struct rte_ring) in which a worker
/// puts frames for kernel ports, or NULL: it is emptied before each burst.
void bench_traffic_set(uint16_t port, const bench_traffic *traffic, void *_Nullable punts);
/// Where the source stopped, so that a later bench_traffic_set() goes on there.
void bench_traffic_end(bench_traffic *traffic);
/// Packets that the source gave since the process began.
uint64_t bench_given(void);
/// Frames swallowed since the last call: sent on both ports, and taken from `punts`.
typedef struct bench_ends { uint64_t sent, punted; } bench_ends;
bench_ends bench_take_ends(void);
/// Copies that have not been sent yet.
uint64_t bench_owed(void);
/// Keeps copies of the next `count` frames sent or punted (at most 1024, 2048 bytes of each).
void bench_capture(uint32_t count);
/// A captured frame: its bytes, its full length and its port; NULL beyond the last.
const uint8_t *_Nullable bench_captured(uint32_t index, uint32_t *length, uint16_t *port);
/// What the sender of a captured frame asks the driver for: the bits of `ol_flags` that do, and `tx_offload`.
uint64_t bench_captured_requests(uint32_t index, uint64_t *lengths);
/// Digests all bytes, the length and the port of the next `count` frames sent, in order, from buffers that
/// all begin with the same bytes.
void bench_digest_start(uint32_t count);
/// The digest, and over how many frames it is; ends it.
uint64_t bench_digest_take(uint32_t *frames);
/// MAC addresses of flow `flow`, in the low 48 bits as they lie in memory.
uint64_t bench_destination(uint32_t flow);
uint64_t bench_source(uint32_t source);

typedef struct bench_counts { uint64_t cycles, instructions, misses, tsc; } bench_counts;
/// Opens this thread's counters (user mode only): bit 0 core cycles, bit 1 instructions, bit 2 cache misses say
/// which there are; or -errno when there are none.
int bench_counters_open(void);
void bench_counters_read(bench_counts *counts);
/// Runs for 3000 * n core cycles: a chain of dependent multiplications, three cycles each on every x86-64
/// core of the last decade. What TSC ticks it takes tells the core's clock where there is no counter.
void bench_spin(uint32_t n);
/// Pins the calling thread; 0 or -errno.
int bench_pin(int cpu);
#pragma clang assume_nonnull end
