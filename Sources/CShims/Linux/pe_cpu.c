// Pages for the tables, and the checksum sum.
#include "pe_cpu.h"
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <sys/mman.h>

// Adding 32-bit words in 64 bits cannot overflow: a frame has 64 KiB.
#if defined(__AVX2__)
// At least 32 bytes. Twice 32 a step; the rest is the end of the data, what was summed before put aside.
static uint64_t wide_sum(const uint8_t *b, size_t n) {
  const __m256i low = _mm256_set1_epi64x(0xFFFFFFFF);
  __m256i even = _mm256_setzero_si256(), odd = even;
  uint64_t last = 0;
  if (n & 1) last = b[--n];
  for (; n >= 64; n -= 64, b += 64) {
    __m256i x = _mm256_loadu_si256((const __m256i *)b), y = _mm256_loadu_si256((const __m256i *)(b + 32));
    even = _mm256_add_epi64(even, _mm256_add_epi64(_mm256_and_si256(x, low), _mm256_and_si256(y, low)));
    odd = _mm256_add_epi64(odd, _mm256_add_epi64(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(y, 32)));
  }
  if (n >= 32) {
    __m256i x = _mm256_loadu_si256((const __m256i *)b);
    even = _mm256_add_epi64(even, _mm256_and_si256(x, low));
    odd = _mm256_add_epi64(odd, _mm256_srli_epi64(x, 32));
    n -= 32;
    b += 32;
  }
  if (n) {
    // Even offsets all: words stay words.
    __m256i mask = _mm256_loadu_si256((const __m256i *)(pe_tail_mask + n));
    __m256i x = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(b + n - 32)), mask);
    even = _mm256_add_epi64(even, _mm256_and_si256(x, low));
    odd = _mm256_add_epi64(odd, _mm256_srli_epi64(x, 32));
  }
  even = _mm256_add_epi64(even, odd);
  __m128i half = _mm_add_epi64(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
  return last + (uint64_t)_mm_cvtsi128_si64(half) + (uint64_t)_mm_extract_epi64(half, 1);
}
#endif

uint64_t pe_checksum_sum(const void *p, size_t n) {
  const uint8_t *b = (const uint8_t *)p;
#if defined(__AVX2__)
  if (n >= 40) return wide_sum(b, n);
#endif
  uint64_t sum = 0, second = 0, word = 0;
  for (; n >= 8; n -= 8, b += 8) {
    memcpy(&word, b, 8);
    sum += (uint32_t)word;
    second += word >> 32;
  }
  // The last bytes, in their places in a word of zeros.
  word = 0;
  if (n & 4) { uint32_t part; memcpy(&part, b, 4); sum += part; b += 4; }
  if (n & 2) { uint16_t part; memcpy(&part, b, 2); sum += part; b += 2; }
  if (n & 1) memcpy(&word, b, 1);
  return sum + second + word;
}

static size_t rounded(size_t n) { return (n + (2u << 20) - 1) & ~((size_t)(2u << 20) - 1); }

static struct bitmask *interleaved;
static int single_node = -1;

int pe_pages_place(const int32_t *nodes, uint32_t count) {
  if (numa_available() < 0) return -ENOSYS;
  for (uint32_t i = 0; i < count; i++)
    if (nodes[i] < 0 || nodes[i] > numa_max_node()) return -EINVAL;
  if (interleaved) numa_bitmask_free(interleaved);
  interleaved = NULL;
  single_node = count == 1 ? nodes[0] : -1;
  if (count < 2) return 0;
  interleaved = numa_allocate_nodemask();
  for (uint32_t i = 0; i < count; i++) numa_bitmask_setbit(interleaved, (unsigned)nodes[i]);
  return 0;
}
int pe_pages_node(void *p) {
  int node = -1;
  return get_mempolicy(&node, NULL, 0, p, MPOL_F_NODE | MPOL_F_ADDR) < 0 ? -errno : node;
}

void *pe_pages(size_t n) {
  size_t size = rounded(n), padded = size + (2u << 20);
  uint8_t *p = mmap(0, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return 0;
  uint8_t *start = (uint8_t *)(((uintptr_t)p + (2u << 20) - 1) & ~((uintptr_t)(2u << 20) - 1));
  if (start > p) munmap(p, (size_t)(start - p));
  size_t tail = (size_t)(p + padded - (start + size));
  if (tail) munmap(start + size, tail);
  // What is a good part of a huge page gets one: a miss in 4 KiB pages costs half as much again.
  if (n >= (256u << 10)) madvise(start, size, MADV_HUGEPAGE);
  // Preferred, not required: a node that is full gives way to another.
  if (single_node >= 0) numa_tonode_memory(start, size, single_node);
  else if (interleaved) numa_interleave_memory(start, size, interleaved);
  return start;
}
void pe_pages_free(void *p, size_t n) { munmap(p, rounded(n)); }
