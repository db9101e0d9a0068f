// Slices of a measurement, taken on the thread that is measured.
#pragma once
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>
#include "traffic.h"

struct meter {
  struct traffic_page *page;
  int counters[2];  // core cycles, instructions
  long thread;
  uint64_t generated, sent, polls, idle_polls, no_buffer;  // running sums; the page gets them slice by slice
  uint64_t next;
  struct traffic_slice start;
};

static inline int open_counter(uint64_t event, int with_kernel) {
  struct perf_event_attr a;
  memset(&a, 0, sizeof a);
  a.size = sizeof a;
  a.type = PERF_TYPE_HARDWARE;
  a.config = event;
  a.exclude_hv = 1;
  a.exclude_kernel = !with_kernel;
  return (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);
}
static inline uint64_t counter(int fd) {
  uint64_t value = 0;
  return fd >= 0 && read(fd, &value, 8) == 8 ? value : 0;
}
// Opens the counters of the calling thread; the page says whether there are any.
static inline void meter_open(struct meter *m, int with_kernel) {
  long thread = syscall(SYS_gettid);
  if (m->thread == thread) return;
  for (int i = 0; m->thread && i < 2; i++) if (m->counters[i] >= 0) close(m->counters[i]);
  m->thread = thread;
  m->counters[0] = open_counter(PERF_COUNT_HW_CPU_CYCLES, with_kernel);
  m->counters[1] = open_counter(PERF_COUNT_HW_INSTRUCTIONS, with_kernel);
  m->page->has_counters = m->counters[0] >= 0 && m->counters[1] >= 0;
}
// TSC time of SPIN_CYCLES core cycles: a chain of multiplications of three cycles each.
static inline uint64_t spin(void) {
  uint64_t x = 3, before = __rdtsc();
  for (int i = 0; i < SPIN_CYCLES / 3000; i++) __asm__ volatile(".rept 1000\n imul %0, %0\n .endr" : "+r"(x));
  return __rdtsc() - before;
}
static inline void meter_begin(struct meter *m) {
  m->start = (struct traffic_slice){
      .generated = m->generated, .sent = m->sent, .polls = m->polls, .idle_polls = m->idle_polls,
      .cycles = counter(m->counters[0]), .instructions = counter(m->counters[1])};
  m->next = m->generated + m->page->slice_packets;
  m->start.tsc = __rdtsc();
}
// Ends a slice and begins the next; called between two bursts.
static __attribute__((noinline, unused)) void meter_stamp(struct meter *m) {
  uint64_t now = __rdtsc();
  struct traffic_page *p = m->page;
  const struct traffic_slice *s = &m->start;
  uint64_t cycles = counter(m->counters[0]), instructions = counter(m->counters[1]);
  if (p->slice_taken != p->slice_serial) {
    p->slice_count = 0;
    p->slice_taken = p->slice_serial;
  } else if (s->tsc && p->slice_count < TRAFFIC_SLICES) {
    p->slices[p->slice_count] = (struct traffic_slice){
        now - s->tsc, m->generated - s->generated, m->sent - s->sent, m->polls - s->polls,
        m->idle_polls - s->idle_polls, spin(), cycles - s->cycles, instructions - s->instructions};
    __atomic_store_n(&p->slice_count, p->slice_count + 1, __ATOMIC_RELEASE);
  }
  p->generated = m->generated;
  p->sent = m->sent;
  p->polls = m->polls;
  p->idle_polls = m->idle_polls;
  p->no_buffer = m->no_buffer;
  meter_begin(m);
}
// The page said that it is over: what runs is no slice any more.
static inline void meter_end(struct meter *m) {
  m->start.tsc = 0;
  m->page->generated = m->generated;
  m->page->sent = m->sent;
  m->page->busy = 0;
}
// Whether frames are to be kept.
static inline int samples_wanted(struct traffic_page *p) {
  if (p->sample_taken != p->sample_serial) {
    p->sample_count = 0;
    p->sample_taken = p->sample_serial;
  }
  return p->sample_count < TRAFFIC_SAMPLES;
}
static inline void keep_sample(
    struct traffic_page *p, const uint8_t *bytes, uint32_t held, uint32_t length, uint32_t port) {
  struct traffic_sample *s = &p->samples[p->sample_count];
  s->length = length;
  s->port = port;
  memset(s->bytes, 0, sizeof s->bytes);
  memcpy(s->bytes, bytes, held < TRAFFIC_SAMPLE_BYTES ? held : TRAFFIC_SAMPLE_BYTES);
  __atomic_store_n(&p->sample_count, p->sample_count + 1, __ATOMIC_RELEASE);
}
