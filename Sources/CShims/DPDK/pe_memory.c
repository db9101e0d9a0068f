// DPDK's memory without reserved huge pages, and the pages it lies in.
#include "pe_memory.h"
#include <errno.h>
#include <rte_eal.h>
#include <rte_memory.h>
#include <rte_memzone.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static void *at(uint64_t address) { return (void *)(uintptr_t)address; }

static int first_list(const struct rte_memseg_list *list, void *argument) {
  pe_memory_range *range = argument;
  if (list->external || list->len == 0) return 0;
  range->start = (uint64_t)(uintptr_t)list->base_va;
  range->size = list->len;
  return 1;
}
int pe_memory_range_get(pe_memory_range *range) {
  memset(range, 0, sizeof *range);
  if (rte_eal_has_hugepages() || rte_memseg_list_walk(first_list, range) != 1) return -ENOENT;
  struct rte_memseg *first = rte_mem_virt2memseg(at(range->start), NULL);
  size_t offset = 0;
  range->is_file = first && rte_memseg_get_fd(first) >= 0;
  if (range->is_file && rte_memseg_get_fd_offset(first, &offset) < 0) return -ENOENT;
  range->offset = offset;
  return 0;
}
// An rte_fbarray: its elements, a bit for each, and how many words of bits there are, in whole pages.
static uint64_t array_size(uint64_t count, uint64_t element) {
  uint64_t bits = sizeof(uint64_t) + (count + 63) / 64 * sizeof(uint64_t);
  return (count * element + bits + 4095) & ~(uint64_t)4095;
}
uint64_t pe_memory_base(void) { return 0x100000000; }
uint64_t pe_memory_tables(uint64_t size) {
  return array_size(RTE_MAX_MEMZONE, sizeof(struct rte_memzone)) + array_size(size / 4096, sizeof(struct rte_memseg));
}

int pe_memory_collapse(uint64_t start, uint64_t size) {
  return madvise(at(start), size, MADV_COLLAPSE) < 0 ? -errno : 0;
}
int pe_memory_resident(uint64_t start, uint64_t size, uint8_t *pages) {
  return mincore(at(start), size, pages) < 0 ? -errno : 0;
}
void pe_memory_touch(uint64_t address) {
  volatile uint8_t *byte = at(address);
  *byte = *byte;
}
int pe_memory_occupy(uint64_t start, uint64_t size) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
  void *p = mmap(at(start), size, PROT_NONE, flags, -1, 0);
  if (p == MAP_FAILED) return -errno;
  // Kernels before 4.17 take the address for a wish.
  if (p == at(start)) return 0;
  munmap(p, size);
  return -EEXIST;
}
void pe_memory_vacate(uint64_t start, uint64_t size) { munmap(at(start), size); }
