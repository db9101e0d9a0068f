// What the BPF program that writes frames shares with the program that runs it.
#pragma once
#include "traffic.h"

struct kernel_state {
  unsigned long long count, started, slice_started;
  unsigned int flows, next, slot, pattern_count, decap, vary, entries, longest, slice_packets, slice_count;
  unsigned char pattern[16];
  struct traffic_template templates[4];
  unsigned long long slices[TRAFFIC_SLICES];  // nanoseconds for slice_packets packets each
};
