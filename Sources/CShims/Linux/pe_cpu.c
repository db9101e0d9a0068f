#include "pe_cpu.h"
#include <sys/mman.h>

static size_t rounded(size_t n) { return (n + (2u << 20) - 1) & ~((size_t)(2u << 20) - 1); }

void *pe_pages(size_t n) {
  size_t size = rounded(n), padded = size + (2u << 20);
  uint8_t *p = mmap(0, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return 0;
  uint8_t *start = (uint8_t *)(((uintptr_t)p + (2u << 20) - 1) & ~((uintptr_t)(2u << 20) - 1));
  if (start > p) munmap(p, (size_t)(start - p));
  size_t tail = (size_t)(p + padded - (start + size));
  if (tail) munmap(start + size, tail);
  if (n >= (2u << 20)) madvise(start, size, MADV_HUGEPAGE);
  return start;
}
void pe_pages_free(void *p, size_t n) { munmap(p, rounded(n)); }
