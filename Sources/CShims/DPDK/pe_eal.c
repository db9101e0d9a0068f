// Starting DPDK's environment, its log, and its lcores.
#include "pe_eal.h"
#include <errno.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_tail[4096], log_line[512];
static uint32_t tail_count, line_count;
static pe_log_sink log_sink;

static void keep_line(void) {
  uint32_t n = line_count;
  if (tail_count + n + 1 >= sizeof log_tail) {
    uint32_t drop = tail_count + n + 1 - sizeof log_tail / 2;
    if (drop > tail_count) drop = tail_count;
    memmove(log_tail, log_tail + drop, tail_count - drop);
    tail_count -= drop;
  }
  memcpy(log_tail + tail_count, log_line, n);
  tail_count += n;
  log_tail[tail_count++] = '\n';
}
static ssize_t log_write(void *cookie, const char *text, size_t size) {
  (void)cookie;
  pthread_mutex_lock(&log_lock);
  for (size_t i = 0; i < size; i++) {
    if (text[i] != '\n' && line_count < sizeof log_line - 1) {
      log_line[line_count++] = text[i];
      continue;
    }
    log_line[line_count] = 0;
    keep_line();
    if (log_sink && line_count > 0) log_sink(log_line);
    line_count = 0;
  }
  pthread_mutex_unlock(&log_lock);
  return (ssize_t)size;
}

int pe_eal_log_to(pe_log_sink sink) {
  static FILE *stream;
  pthread_mutex_lock(&log_lock);
  log_sink = sink;
  pthread_mutex_unlock(&log_lock);
  if (stream) return 0;
  stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = log_write});
  if (!stream) return -errno;
  setvbuf(stream, NULL, _IOLBF, 0);
  return rte_openlog_stream(stream);
}
uint32_t pe_eal_log_tail(char *text, uint32_t capacity) {
  if (capacity == 0) return 0;
  pthread_mutex_lock(&log_lock);
  uint32_t n = tail_count < capacity - 1 ? tail_count : capacity - 1;
  memcpy(text, log_tail + tail_count - n, n);
  pthread_mutex_unlock(&log_lock);
  text[n] = 0;
  return n;
}

int pe_eal_init(int argc, char **argv) {
  cpu_set_t before;
  int known = pthread_getaffinity_np(pthread_self(), sizeof before, &before) == 0;
  int rc = rte_eal_init(argc, argv) < 0 ? -(rte_errno ? rte_errno : EINVAL) : 0;
  if (known) pthread_setaffinity_np(pthread_self(), sizeof before, &before);
  // Without a shared configuration EAL leaves an empty folder behind; this fails when it is not empty.
  if (rc == 0) rmdir(rte_eal_get_runtime_dir());
  return rc;
}
int pe_eal_cleanup(void) { return rte_eal_cleanup(); }
int pe_eal_has_hugepages(void) { return rte_eal_has_hugepages(); }
int pe_eal_error(void) { return rte_errno; }

int pe_lcore_launch(int (*entry)(void *), void *argument, uint32_t lcore) {
  if (lcore >= RTE_MAX_LCORE || !rte_lcore_is_enabled(lcore)) return -EINVAL;
  return rte_eal_remote_launch(entry, argument, lcore);
}
int pe_lcore_wait(uint32_t lcore) { return rte_eal_wait_lcore(lcore); }
int pe_lcore_socket(uint32_t lcore) { return (int)rte_lcore_to_socket_id(lcore); }
int pe_thread_register(void) { return rte_thread_register() < 0 ? -rte_errno : 0; }
void pe_thread_unregister(void) { rte_thread_unregister(); }
