// Capture files, read (pcap and pcapng) and written (pcap, nanoseconds) through libpcap.
#pragma once
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

typedef struct pe_pcap_reader pe_pcap_reader;
typedef struct pe_pcap_writer pe_pcap_writer;

/// Opens a capture of Ethernet frames. NULL with a sentence in `error` (256 bytes) on failure.
pe_pcap_reader *_Nullable pe_pcap_open(const char *path, char *error);
/// The next frame: 1 and its bytes, valid until the next call; 0 at the end; -1 with `error` filled.
int pe_pcap_next(pe_pcap_reader *reader, const uint8_t *_Nullable *_Nonnull bytes, uint32_t *captured,
                 uint32_t *length, uint64_t *nanoseconds, char *error);
void pe_pcap_close(pe_pcap_reader *reader);

/// Creates or replaces a capture file of Ethernet frames.
pe_pcap_writer *_Nullable pe_pcap_create(const char *path, char *error);
void pe_pcap_write(pe_pcap_writer *writer, const uint8_t *bytes, uint32_t length, uint64_t nanoseconds);
/// Flushes and closes; 0, or -1 when something could not be written.
int pe_pcap_finish(pe_pcap_writer *writer);
#pragma clang assume_nonnull end
