// What pe_pcap.h declares: capture files, read and written frame by frame.
#include "pe_pcap.h"
#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pe_pcap_reader { pcap_t *handle; };
struct pe_pcap_writer { pcap_t *handle; pcap_dumper_t *dump; };

pe_pcap_reader *pe_pcap_open(const char *path, char *error) {
  char text[PCAP_ERRBUF_SIZE] = "";
  pcap_t *handle = pcap_open_offline_with_tstamp_precision(path, PCAP_TSTAMP_PRECISION_NANO, text);
  if (!handle) { snprintf(error, 256, "%s", text); return NULL; }
  if (pcap_datalink(handle) != DLT_EN10MB) {
    snprintf(error, 256, "%s holds link type %d, not Ethernet (1)", path, pcap_datalink(handle));
    pcap_close(handle);
    return NULL;
  }
  pe_pcap_reader *reader = calloc(1, sizeof *reader);
  if (!reader) { snprintf(error, 256, "no memory"); pcap_close(handle); return NULL; }
  reader->handle = handle;
  return reader;
}

int pe_pcap_next(pe_pcap_reader *reader, const uint8_t **bytes, uint32_t *captured, uint32_t *length,
                 uint64_t *nanoseconds, char *error) {
  struct pcap_pkthdr *header;
  const u_char *data;
  int rc = pcap_next_ex(reader->handle, &header, &data);
  if (rc == PCAP_ERROR_BREAK) return 0;
  if (rc != 1) { snprintf(error, 256, "%s", pcap_geterr(reader->handle)); return -1; }
  *bytes = data;
  *captured = header->caplen;
  *length = header->len;
  *nanoseconds = (uint64_t)header->ts.tv_sec * 1000000000u + (uint64_t)header->ts.tv_usec;
  return 1;
}

void pe_pcap_close(pe_pcap_reader *reader) { pcap_close(reader->handle); free(reader); }

pe_pcap_writer *pe_pcap_create(const char *path, char *error) {
  pcap_t *handle = pcap_open_dead_with_tstamp_precision(DLT_EN10MB, 65535, PCAP_TSTAMP_PRECISION_NANO);
  if (!handle) { snprintf(error, 256, "no memory"); return NULL; }
  pcap_dumper_t *dump = pcap_dump_open(handle, path);
  pe_pcap_writer *writer = dump ? calloc(1, sizeof *writer) : NULL;
  if (!writer) {
    snprintf(error, 256, "%s", dump ? "no memory" : pcap_geterr(handle));
    if (dump) pcap_dump_close(dump);
    pcap_close(handle);
    return NULL;
  }
  writer->handle = handle;
  writer->dump = dump;
  return writer;
}

void pe_pcap_write(pe_pcap_writer *writer, const uint8_t *bytes, uint32_t length, uint64_t nanoseconds) {
  struct pcap_pkthdr header = {.caplen = length, .len = length};
  header.ts.tv_sec = (time_t)(nanoseconds / 1000000000u);
  header.ts.tv_usec = (suseconds_t)(nanoseconds % 1000000000u);
  pcap_dump((u_char *)writer->dump, &header, bytes);
}

int pe_pcap_finish(pe_pcap_writer *writer) {
  int rc = pcap_dump_flush(writer->dump);
  pcap_dump_close(writer->dump);
  pcap_close(writer->handle);
  free(writer);
  return rc == 0 ? 0 : -1;
}
