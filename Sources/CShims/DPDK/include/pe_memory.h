// DPDK's memory without reserved huge pages, and the pages it lies in; each function is one step and holds no policy.
#pragma once
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

/// The memory that EAL has with --no-huge.
typedef struct {
  uint64_t start, size;  ///< Address; bytes.
  uint64_t offset;       ///< Where `start` is in the file behind it, in bytes.
  int32_t is_file;       ///< 0: anonymous, and `offset` means nothing.
} pe_memory_range;
/// 0, or -ENOENT when there is no such memory.
int pe_memory_range_get(pe_memory_range *range);
/// Where EAL's address space begins when nobody says otherwise.
uint64_t pe_memory_base(void);
/// How many bytes of EAL's own tables lie between there and `size` bytes of --no-huge memory (DPDK 22.11; whoever
/// relies on it looks afterwards).
uint64_t pe_memory_tables(uint64_t size);

/// Makes whole, aligned 2 MiB lie in huge pages now, whatever they lie in (MADV_COLLAPSE, Linux 6.1).
/// 0; or -errno, and a part may have become so.
int pe_memory_collapse(uint64_t start, uint64_t size);
/// One byte for each 4 KiB page, bit 0 set where it is in memory; 0 or -errno.
int pe_memory_resident(uint64_t start, uint64_t size, uint8_t *pages);
/// Writes to a page what is in it already, so that there is one; nobody else may write to it meanwhile.
void pe_memory_touch(uint64_t address);
/// Takes addresses without memory, so that nothing is mapped there until pe_memory_vacate; 0 or -errno.
int pe_memory_occupy(uint64_t start, uint64_t size);
void pe_memory_vacate(uint64_t start, uint64_t size);
#pragma clang assume_nonnull end
