// Kernel ports: batched frames through packet sockets and TAPs, and the sums their headers ask for.
#include "pe_hostio.h"
#include "pe_cpu.h"
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(sizeof(pe_vnet_header) == sizeof(struct virtio_net_hdr), "virtio_net_hdr");
_Static_assert(offsetof(pe_vnet_header, csum_offset) == offsetof(struct virtio_net_hdr, csum_offset), "");

struct pe_io_batch {
  struct mmsghdr messages[PE_IO_BATCH];
  struct iovec vectors[PE_IO_BATCH][PE_IO_SEGMENTS];
  pe_vnet_header headers[PE_IO_BATCH];
  pe_vnet_header zero;
  union {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
  } control[PE_IO_BATCH];
  uint8_t overflow[PE_IO_BATCH][PE_IO_OVERFLOW];
};

pe_io_batch *pe_io_batch_create(void) { return calloc(1, sizeof(pe_io_batch)); }
void pe_io_batch_free(pe_io_batch *batch) { free(batch); }
uint8_t *pe_io_batch_overflow(pe_io_batch *batch, uint32_t i) { return batch->overflow[i]; }
struct iovec *pe_io_batch_vector(pe_io_batch *batch, uint32_t i) { return batch->vectors[i]; }
void pe_io_batch_set_count(pe_io_batch *batch, uint32_t i, uint32_t count) {
  batch->vectors[i][0] = (struct iovec){&batch->zero, sizeof batch->zero};
  batch->messages[i].msg_hdr = (struct msghdr){.msg_iov = batch->vectors[i], .msg_iovlen = count + 1};
}

static void prepare(pe_io_batch *batch, const pe_rx_frame *frame, uint32_t i) {
  struct iovec *v = batch->vectors[i];
  v[0] = (struct iovec){&batch->headers[i], sizeof(pe_vnet_header)};
  v[1] = (struct iovec){frame->head, frame->head_room};
  v[2] = (struct iovec){batch->overflow[i], PE_IO_OVERFLOW};
}

static void read_control(struct msghdr *message, pe_rx_frame *frame) {
  frame->has_vlan = 0;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
    struct tpacket_auxdata aux;
    memcpy(&aux, CMSG_DATA(c), sizeof aux);
    if (!(aux.tp_status & TP_STATUS_VLAN_VALID)) continue;
    frame->has_vlan = 1;
    frame->vlan_tci = aux.tp_vlan_tci;
    frame->vlan_tpid = (aux.tp_status & TP_STATUS_VLAN_TPID_VALID) ? aux.tp_vlan_tpid : 0x8100;
  }
}

static void finish(pe_io_batch *batch, pe_rx_frame *frame, uint32_t i, size_t count) {
  frame->vnet = batch->headers[i];
  frame->truncated |= count < sizeof(pe_vnet_header);
  frame->length = count < sizeof(pe_vnet_header) ? 0 : (uint32_t)(count - sizeof(pe_vnet_header));
}

int pe_packet_receive(int fd, pe_io_batch *batch, pe_rx_frame *frames, uint32_t n) {
  if (n > PE_IO_BATCH) n = PE_IO_BATCH;
  for (uint32_t i = 0; i < n; i++) {
    prepare(batch, &frames[i], i);
    batch->messages[i].msg_hdr = (struct msghdr){
        .msg_iov = batch->vectors[i], .msg_iovlen = 3,
        .msg_control = &batch->control[i], .msg_controllen = sizeof batch->control[i]};
  }
  int got = recvmmsg(fd, batch->messages, n, MSG_DONTWAIT, NULL);
  if (got < 0) return -errno;
  for (int i = 0; i < got; i++) {
    struct mmsghdr *m = &batch->messages[i];
    frames[i].truncated = (m->msg_hdr.msg_flags & MSG_TRUNC) != 0;
    read_control(&m->msg_hdr, &frames[i]);
    finish(batch, &frames[i], (uint32_t)i, m->msg_len);
  }
  return got;
}

int pe_tap_receive(int fd, pe_io_batch *batch, pe_rx_frame *frame, uint32_t i) {
  prepare(batch, frame, i);
  ssize_t got = readv(fd, batch->vectors[i], 3);
  if (got < 0) return -errno;
  // A TAP cuts what does not fit without saying so: a full vector counts as cut.
  frame->truncated = (size_t)got >= sizeof(pe_vnet_header) + frame->head_room + PE_IO_OVERFLOW;
  frame->has_vlan = 0;
  finish(batch, frame, i, (size_t)got);
  return 1;
}

int pe_packet_send(int fd, pe_io_batch *batch, uint32_t from, uint32_t to) {
  int sent = sendmmsg(fd, batch->messages + from, to - from, MSG_DONTWAIT);
  return sent < 0 ? -errno : sent;
}

int pe_tap_send(int fd, pe_io_batch *batch, uint32_t i) {
  ssize_t sent = writev(fd, batch->vectors[i], (int)batch->messages[i].msg_hdr.msg_iovlen);
  return sent < 0 ? -errno : 1;
}

int pe_poll_create(void) {
  int fd = epoll_create1(EPOLL_CLOEXEC);
  return fd < 0 ? -errno : fd;
}
int pe_poll_add(int poll, int fd, uint64_t mark) {
  struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = mark}};
  return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}
int pe_poll_remove(int poll, int fd) { return epoll_ctl(poll, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0; }
int pe_poll_wait(int poll, pe_poll_event *events, uint32_t n, int milliseconds) {
  struct epoll_event ready[64];
  int count = epoll_wait(poll, ready, n > 64 ? 64 : (int)n, milliseconds);
  if (count < 0) return -errno;
  for (int i = 0; i < count; i++)
    events[i] = (pe_poll_event){
        .mark = ready[i].data.u64,
        .readable = (ready[i].events & EPOLLIN) != 0,
        .failed = (ready[i].events & (EPOLLERR | EPOLLHUP)) != 0};
  return count;
}
int pe_event_create(void) {
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return fd < 0 ? -errno : fd;
}
void pe_event_signal(int fd) {
  uint64_t one = 1;
  ssize_t ignored = write(fd, &one, sizeof one);
  (void)ignored;
}
void pe_event_clear(int fd) {
  uint64_t count;
  ssize_t ignored = read(fd, &count, sizeof count);
  (void)ignored;
}
int pe_event_wait(int fd, int milliseconds) {
  struct pollfd event = {.fd = fd, .events = POLLIN};
  return poll(&event, 1, milliseconds) > 0;
}

uint64_t pe_sum16(const void *bytes, size_t count, uint64_t sum) {
  const uint8_t *p = bytes;
  while (count >= 32) {
    uint32_t w[8];
    memcpy(w, p, sizeof w);
    for (int i = 0; i < 8; i++) sum += w[i];
    p += 32;
    count -= 32;
  }
  while (count >= 4) {
    uint32_t w;
    memcpy(&w, p, sizeof w);
    sum += w;
    p += 4;
    count -= 4;
  }
  uint32_t rest = 0;
  memcpy(&rest, p, count);
  return sum + rest;
}
uint16_t pe_sum_fold(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)sum;
}

uint32_t pe_crc32c_bytes(const void *bytes, size_t count) {
  const uint8_t *p = bytes;
  uint32_t crc = 0xffffffff;
  for (; count >= 8; p += 8, count -= 8) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    crc = pe_crc32c(crc, v);
  }
  for (; count > 0; p++, count--) {
    crc ^= *p;
    for (int i = 0; i < 8; i++) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0);
  }
  return ~crc;
}
