// Reads what the kernel counts about a thread and a CPU, without allocation.
#define _GNU_SOURCE
#include "gaps.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

gap_thread gap_thread_now(void) {
  struct rusage usage;
  gap_thread now = {0, 0};
  if (getrusage(RUSAGE_THREAD, &usage) == 0) {
    now.switches = (uint64_t)(usage.ru_nvcsw + usage.ru_nivcsw);
    now.faults = (uint64_t)(usage.ru_minflt + usage.ru_majflt);
  }
  return now;
}

int gap_interrupts_open(void) { return open("/proc/interrupts", O_RDONLY | O_CLOEXEC); }

int gap_interrupts_read(int fd, int cpu, gap_interrupts *into) {
  // Read whole each time: a row of the file has a column for each CPU.
  static __thread char text[1 << 18];
  size_t used = 0;
  for (;;) {
    ssize_t count = pread(fd, text + used, sizeof text - 1 - used, (off_t)used);
    if (count < 0) return -1;
    if (count == 0) break;
    used += (size_t)count;
    if (used == sizeof text - 1) break;
  }
  text[used] = 0;
  return gap_interrupts_parse(text, cpu, into);
}

/// The column of a CPU in the heading, from 0; -1 when it is not there.
static int column(const char *heading, const char *end, int cpu) {
  int index = 0;
  for (const char *at = heading; (at = strstr(at, "CPU")) && at < end; at += 3, index++)
    if (atoi(at + 3) == cpu) return index;
  return -1;
}

int gap_interrupts_parse(const char *text, int cpu, gap_interrupts *into) {
  const char *line = strchr(text, '\n');
  if (!line) return -1;
  int wanted = column(text, line, cpu);
  if (wanted < 0) return -1;
  into->all = into->sent = 0;
  for (line++; *line; line = strchr(line, '\n') + 1) {
    const char *end = strchr(line, '\n'), *name = line + strspn(line, " ");
    const char *colon = strchr(name, ':');
    if (!end || !colon || colon > end) break;
    const char *at = colon + 1;
    uint64_t count = 0;
    int index = 0;
    for (; index <= wanted; index++) {
      char *next;
      count = strtoull(at, &next, 10);
      if (next == at || next > end) break;
      at = next;
    }
    // ERR and MIS have one column for all CPUs.
    if (index <= wanted) continue;
    into->all += count;
    if (!strncmp(name, "TLB:", 4) || !strncmp(name, "CAL:", 4) || !strncmp(name, "RES:", 4)) into->sent += count;
  }
  return 0;
}

int gap_pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (cpu < 0 || cpu >= CPU_SETSIZE) {
    errno = EINVAL;
    return -1;
  }
  CPU_SET((unsigned)cpu, &set);
  return sched_setaffinity(0, sizeof set, &set);
}

int gap_shared_memory(uint64_t bytes) {
  int fd = memfd_create("bench-control", 0);
  if (fd >= 0 && ftruncate(fd, (off_t)bytes) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}
