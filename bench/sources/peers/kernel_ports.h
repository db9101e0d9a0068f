// What the sources of the kernel's traffic share: its ports seen from outside, and the page.
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include "measure.h"

static volatile int stopping;
static void stop(int signal) { (void)signal; stopping = 1; }
// Packets that a device was given to send: an ifb counts them as received, a veth as sent.
static uint64_t sent_through(const char *device, int is_veth) {
  char line[512];
  uint64_t packets = 0, received = 0;
  FILE *f = fopen("/proc/net/dev", "r");
  while (f && fgets(line, sizeof line, f)) {
    char *colon = strchr(line, ':'), *name = line + strspn(line, " ");
    if (!colon) continue;
    *colon = 0;
    if (strcmp(name, device)) continue;
    sscanf(colon + 1, "%*u %lu %*u %*u %*u %*u %*u %*u %*u %lu", &received, &packets);
    if (!is_veth) packets = received;
  }
  if (f) fclose(f);
  return packets;
}
static int tap(const char *device) {
  int s = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
  struct sockaddr_ll a = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(device)};
  return s >= 0 && bind(s, (void *)&a, sizeof a) == 0 ? s : -1;
}
// Sockets that see what leaves, open only while samples are wanted: they cost the stack a copy of each frame.
struct taps { const char **ports; int sockets[2], are_open; };
static void open_taps(struct taps *t, struct traffic_page *page) {
  if (t->are_open || !samples_wanted(page)) return;
  for (int i = 0; i < 2; i++) t->sockets[i] = tap(t->ports[i]);
  t->are_open = 1;
}
static void take_samples(struct taps *t, struct traffic_page *page) {
  uint8_t frame[2048];
  struct sockaddr_ll from;
  for (uint32_t role = 0; t->are_open && role < 2; role++) {
    socklen_t size = sizeof from;
    ssize_t n;
    for (uint32_t seen = 0; samples_wanted(page); size = sizeof from) {
      if ((n = recvfrom(t->sockets[role], frame, sizeof frame, 0, (void *)&from, &size)) <= 0) break;
      if (from.sll_pkttype == PACKET_OUTGOING && ++seen % 2) keep_sample(page, frame, (uint32_t)n, (uint32_t)n, role);
    }
  }
  if (!t->are_open || samples_wanted(page)) return;
  for (int i = 0; i < 2; i++) close(t->sockets[i]);
  t->are_open = 0;
}
static int complain(const char *what, int code) {
  fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(code < 0 ? -code : errno));
  return 1;
}
static struct traffic_page *open_page(const char *path) {
  int file = open(path, O_RDWR | O_CLOEXEC);
  struct traffic_page *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  return page == MAP_FAILED || page->magic != PAGE_MAGIC ? NULL : page;
}
