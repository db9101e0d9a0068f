#include "pe_cpu.h"
#include <string.h>
#include <sys/mman.h>

// Adding 32-bit words in 64 bits cannot overflow: a frame has 64 KiB. The loop is one the compiler
// turns into vector adds.
uint64_t pe_checksum_sum(const void *p, size_t n) {
  const uint8_t *b = (const uint8_t *)p;
  uint64_t sum = 0;
  size_t words = n / 4;
  for (size_t i = 0; i < words; i++) {
    uint32_t word;
    memcpy(&word, b + i * 4, 4);
    sum += word;
  }
  b += words * 4;
  if (n & 2) {
    uint16_t half;
    memcpy(&half, b, 2);
    sum += half;
    b += 2;
  }
  if (n & 1) {
    uint8_t last[2] = {*b, 0};
    uint16_t half;
    memcpy(&half, last, 2);
    sum += half;
  }
  return sum;
}

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
