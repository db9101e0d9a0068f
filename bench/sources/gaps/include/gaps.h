// What a polling thread can know about an interruption: kernel entries, thread switches, interrupts of its CPU.
#pragma once
#include <stdint.h>
#pragma clang assume_nonnull begin

/// Arms the detector of kernel entries. A return from an interrupt or a fault to user mode clears a segment
/// register with a null selector; neither programs nor the kernel use ES in 64-bit mode.
static inline __attribute__((always_inline)) void gap_arm(void) {
#if defined(__x86_64__)
  __asm__ volatile("movw %w0, %%es" : : "r"(3));
#endif
}
/// Whether the kernel was entered by an interrupt or a fault since ``gap_arm``.
static inline __attribute__((always_inline)) int gap_interrupted(void) {
#if defined(__x86_64__)
  uint32_t selector;
  __asm__ volatile("movl %%es, %0" : "=r"(selector));
  return (selector & 0xFFFF) != 3;
#else
  return 0;
#endif
}
/// What happened to the calling thread so far.
typedef struct {
  /// Voluntary and involuntary context switches.
  uint64_t switches;
  /// Page faults, with and without I/O.
  uint64_t faults;
} gap_thread;
gap_thread gap_thread_now(void);

/// Interrupts of one CPU so far.
typedef struct {
  uint64_t all;
  /// Those that another CPU sends: TLB shootdowns, function calls, rescheduling.
  uint64_t sent;
} gap_interrupts;
/// Opens /proc/interrupts; -1 when it cannot be read.
int gap_interrupts_open(void);
/// Reads it; 0, or -1 when `cpu` is not there. One thread at a time for each `fd`.
int gap_interrupts_read(int fd, int cpu, gap_interrupts *into);
/// The same from a text, for tests.
int gap_interrupts_parse(const char *text, int cpu, gap_interrupts *into);
/// Has the calling thread run on one CPU alone; 0, or -1 with errno when the process may not run there.
int gap_pin(int cpu);
/// Anonymous memory that a child process can map, as a file descriptor without close-on-exec; -1 with errno.
int gap_shared_memory(uint64_t bytes);
#pragma clang assume_nonnull end
