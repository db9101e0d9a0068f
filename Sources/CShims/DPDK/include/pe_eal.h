// Starting DPDK's environment, its log, and its lcores; each function is one step and holds no policy.
#pragma once
#include <stdint.h>
#pragma clang assume_nonnull begin

/// Receives each whole line that DPDK logs; called from the thread that logs.
typedef void (*pe_log_sink)(const char *line);
/// Sends DPDK's log to `sink`; NULL discards it. The last lines are kept for pe_eal_log_tail either way.
int pe_eal_log_to(pe_log_sink _Nullable sink);
/// Copies the last lines logged, as one string; returns its length.
uint32_t pe_eal_log_tail(char *text, uint32_t capacity);

/// rte_eal_init, after which the caller's CPU affinity is what it was. 0, or -rte_errno.
int pe_eal_init(int argc, char *_Nullable *_Nonnull argv);
int pe_eal_cleanup(void);
/// 1 when packet memory is in huge pages.
int pe_eal_has_hugepages(void);
/// DPDK's last error in this thread, as a positive errno.
int pe_eal_error(void);

/// Runs `entry(argument)` on a waiting lcore; 0 or -errno (-EBUSY: it runs already).
int pe_lcore_launch(int (*entry)(void *_Nullable), void *_Nullable argument, uint32_t lcore);
/// Waits until the lcore's function has returned; its value.
int pe_lcore_wait(uint32_t lcore);
/// NUMA node of an lcore.
int pe_lcore_socket(uint32_t lcore);
/// Gives the calling thread, not an lcore, mempool caches of its own; 0 or -errno.
int pe_thread_register(void);
void pe_thread_unregister(void);
#pragma clang assume_nonnull end
