// What the tables need of the processor: prefetch, CRC32C, a bucket's key match, single-word atomics.
#pragma once
#include <stddef.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#pragma clang assume_nonnull begin

/// Marks a C function that a burst may call: it neither locks nor allocates.
#define PE_HOT __attribute__((swift_attr("@_noLocks"))) static inline __attribute__((always_inline))

PE_HOT void pe_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }
/// memcpy; Swift's own copy checks the count at run time.
PE_HOT void pe_copy(void *to, const void *from, size_t n) { __builtin_memcpy(to, from, n); }
PE_HOT void pe_prefetch_write(const void *p) { __builtin_prefetch(p, 1, 3); }

/// CRC32C of 8 bytes, continuing from `crc`.
#if defined(__x86_64__)
#if defined(__SSE4_2__)
PE_HOT uint32_t pe_crc32c(uint32_t crc, uint64_t value) { return (uint32_t)_mm_crc32_u64(crc, value); }
#else
PE_HOT uint32_t pe_crc32c(uint32_t crc, uint64_t value) {
  uint64_t x = crc;
  __asm__("crc32q %1,%0" : "+r"(x) : "r"(value));
  return (uint32_t)x;
}
#endif
PE_HOT uint64_t pe_tsc(void) { return __builtin_ia32_rdtsc(); }
#else
PE_HOT uint32_t pe_crc32c(uint32_t crc, uint64_t value) {
  for (int i = 0; i < 64; i++) {
    uint32_t bit = (crc ^ (uint32_t)(value >> i)) & 1;
    crc = (crc >> 1) ^ (bit ? 0x82F63B78u : 0);
  }
  return crc;
}
PE_HOT uint64_t pe_tsc(void) { uint64_t v; __asm__ volatile("mrs %0, cntvct_el0" : "=r"(v)); return v; }
#endif

PE_HOT uint64_t pe_load64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
PE_HOT uint32_t pe_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
PE_HOT uint64_t pe_load64_relaxed(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
PE_HOT uint32_t pe_load32_relaxed(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
PE_HOT void pe_store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
PE_HOT void pe_store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
PE_HOT void pe_store64_relaxed(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
PE_HOT void pe_store8_relaxed(uint8_t *p, uint8_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
PE_HOT uint8_t pe_load8_relaxed(const uint8_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
PE_HOT void pe_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
/// A counter with one writer: a plain add that other threads may read at any time.
PE_HOT void pe_count(uint64_t *p, uint64_t by) {
  __atomic_store_n(p, __atomic_load_n(p, __ATOMIC_RELAXED) + by, __ATOMIC_RELAXED);
}

/// Bit i is set when key i (of five, 8 bytes each, at a 64-byte aligned bucket) equals `key`.
///
/// x86 loads each aligned lane whole and in order, so the vector load acquires as the scalar ones
/// do. ThreadSanitizer does not see vector loads: scripts/tsan builds with PE_SCALAR_MATCH.
#if defined(__AVX2__) && !defined(PE_SCALAR_MATCH)
PE_HOT uint32_t pe_match5(const void *bucket, uint64_t key) {
  __m256i k = _mm256_set1_epi64x((long long)key);
  __m256i v = _mm256_load_si256((const __m256i *)bucket);
  uint32_t m = (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(v, k)));
  uint64_t last = __atomic_load_n((const uint64_t *)bucket + 4, __ATOMIC_ACQUIRE);
  return m | ((uint32_t)(last == key) << 4);
}
PE_HOT int pe_match_is_scalar(void) { return 0; }
#else
PE_HOT uint32_t pe_match5(const void *bucket, uint64_t key) {
  const uint64_t *k = (const uint64_t *)bucket;
  uint32_t m = 0;
  for (int i = 0; i < 5; i++) m |= (uint32_t)(__atomic_load_n(&k[i], __ATOMIC_ACQUIRE) == key) << i;
  return m;
}
PE_HOT int pe_match_is_scalar(void) { return 1; }
#endif

/// Whether one of the eight 16-bit (four 32-bit) lanes of the 16 bytes `low`, `high` equals `value`.
#if defined(__SSE2__)
PE_HOT int pe_any16(uint64_t low, uint64_t high, uint16_t value) {
  __m128i lanes = _mm_set_epi64x((long long)high, (long long)low);
  return _mm_movemask_epi8(_mm_cmpeq_epi16(lanes, _mm_set1_epi16((short)value))) != 0;
}
PE_HOT int pe_any32(uint64_t low, uint64_t high, uint32_t value) {
  __m128i lanes = _mm_set_epi64x((long long)high, (long long)low);
  return _mm_movemask_epi8(_mm_cmpeq_epi32(lanes, _mm_set1_epi32((int)value))) != 0;
}
#else
PE_HOT int pe_any16(uint64_t low, uint64_t high, uint16_t value) {
  int found = 0;
  for (int i = 0; i < 64; i += 16) found |= (uint16_t)(low >> i) == value || (uint16_t)(high >> i) == value;
  return found;
}
PE_HOT int pe_any32(uint64_t low, uint64_t high, uint32_t value) {
  return (uint32_t)low == value || (uint32_t)(low >> 32) == value || (uint32_t)high == value ||
         (uint32_t)(high >> 32) == value;
}
#endif

/// Whether the 32 bytes at `p`, ANDed with those at `mask`, are those at `wanted`.
#if defined(__AVX2__)
PE_HOT int pe_matches32(const void *p, const void *mask, const void *wanted) {
  __m256i masked = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)mask));
  __m256i equal = _mm256_cmpeq_epi8(masked, _mm256_loadu_si256((const __m256i *)wanted));
  return _mm256_movemask_epi8(equal) == -1;
}
#else
PE_HOT int pe_matches32(const void *p, const void *mask, const void *wanted) {
  uint64_t other = 0;
  for (int i = 0; i < 32; i += 8) {
    uint64_t x, m, w;
    __builtin_memcpy(&x, (const char *)p + i, 8);
    __builtin_memcpy(&m, (const char *)mask + i, 8);
    __builtin_memcpy(&w, (const char *)wanted + i, 8);
    other |= (x & m) ^ w;
  }
  return other == 0;
}
#endif

/// Whether `a` and `b`, IPv4 addresses as loaded from a packet, may both be those of hosts: their first
/// bytes are not 0, 127, 169 (link-local ones among others) or 224 and above.
static const uint8_t pe_ipv4_unusual[256] = {
  [0] = 1, [127] = 1, [169] = 1,
  [224] = 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
};
PE_HOT int pe_ipv4_are_plain(uint32_t a, uint32_t b) {
  return (pe_ipv4_unusual[a & 255] | pe_ipv4_unusual[b & 255]) == 0;
}
/// The one's complement sum of the 20 bytes of an IPv4 header without options, folded to 64 bits.
#if defined(__x86_64__)
PE_HOT uint64_t pe_ipv4_sum(const void *ip) {
  uint64_t sum, last;
  // The compiler makes three times as many instructions of it.
  __asm__("movq (%2), %0\n\tmovl 16(%2), %k1\n\taddq 8(%2), %0\n\tadcq %1, %0\n\tadcq $0, %0"
          : "=&r"(sum), "=&r"(last) : "r"(ip), "m"(*(const char (*)[20])ip) : "cc");
  return sum;
}
#else
PE_HOT uint64_t pe_ipv4_sum(const void *ip) {
  uint64_t sum = 0;
  for (int i = 0; i < 20; i += 4) { uint32_t word; __builtin_memcpy(&word, (const char *)ip + i, 4); sum += word; }
  return sum;
}
#endif
/// Copies 48 bytes.
PE_HOT void pe_copy48(void *to, const void *from) { __builtin_memcpy(to, from, 48); }

/// The one's complement sum, not folded, of n bytes as 16-bit words in memory order; an odd last byte
/// is padded with zero.
__attribute__((swift_attr("@_noLocks"))) uint64_t pe_checksum_sum(const void *p, size_t n);

/// The same inline, of at least 32 bytes and not many more.
#if defined(__AVX2__)
// 32 bytes of zeros, then of ones: a load from n bytes into it keeps the last n bytes of a vector.
static const uint8_t pe_tail_mask[64] = {[32] = 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
  255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
PE_HOT uint64_t pe_checksum_short(const void *p, size_t n) {
  const uint8_t *b = (const uint8_t *)p, *end = b + (n & ~(size_t)1);
  const __m256i low = _mm256_set1_epi64x(0xFFFFFFFF);
  uint64_t last = n & 1 ? *end : 0;
  __m256i x = _mm256_loadu_si256((const __m256i *)b);
  __m256i even = _mm256_and_si256(x, low), odd = _mm256_srli_epi64(x, 32);
  // Unrolled it would take registers from what surrounds it.
#if defined(__clang__)
#pragma clang loop unroll(disable)
#endif
  for (b += 32; end - b >= 32; b += 32) {
    x = _mm256_loadu_si256((const __m256i *)b);
    even = _mm256_add_epi64(even, _mm256_and_si256(x, low));
    odd = _mm256_add_epi64(odd, _mm256_srli_epi64(x, 32));
  }
  // The rest is the end of the data, what was summed before put aside; words stay words.
  x = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(end - 32)),
                       _mm256_loadu_si256((const __m256i *)(pe_tail_mask + (end - b))));
  even = _mm256_add_epi64(even, _mm256_and_si256(x, low));
  odd = _mm256_add_epi64(odd, _mm256_srli_epi64(x, 32));
  even = _mm256_add_epi64(even, odd);
  __m128i half = _mm_add_epi64(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
  return last + (uint64_t)_mm_cvtsi128_si64(half) + (uint64_t)_mm_extract_epi64(half, 1);
}
#else
PE_HOT uint64_t pe_checksum_short(const void *p, size_t n) { return pe_checksum_sum(p, n); }
#endif

/// Zeroed pages, huge ones where the kernel gives them; NULL when there is no memory.
void *_Nullable pe_pages(size_t byte_count);
void pe_pages_free(void *p, size_t byte_count);
/// Which NUMA nodes pe_pages takes memory from, from now on: one, several in turns, or (0) wherever the
/// kernel likes. 0, -EINVAL for a node that there is not, -ENOSYS without NUMA. One thread at a time.
int pe_pages_place(const int32_t *_Nullable nodes, uint32_t count);
/// The node on which a touched page lies, or -errno.
int pe_pages_node(void *p);
#pragma clang assume_nonnull end
