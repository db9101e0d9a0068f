// Route netlink sockets and messages, over libnl-3.
#include "pe_netlink.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NEST_LIMIT = 8 };

struct pe_netlink {
  struct nl_sock *socket;
};

struct pe_netlink_message {
  struct nl_msg *message;
  struct nlattr *nests[NEST_LIMIT];
  int depth;
};

/// libnl reports failures of its own by numbers of its own.
static int failed(int nl_error) { return nl_error < 0 ? (errno ? -errno : -EIO) : nl_error; }

int pe_netlink_open(int receive_bytes, pe_netlink **out) {
  pe_netlink *self = calloc(1, sizeof *self);
  if (!self) return -ENOMEM;
  self->socket = nl_socket_alloc();
  if (!self->socket) {
    free(self);
    return -ENOMEM;
  }
  errno = 0;
  int result = failed(nl_connect(self->socket, NETLINK_ROUTE));
  if (result < 0) {
    pe_netlink_close(self);
    return result;
  }
  int fd = nl_socket_get_fd(self->socket), one = 1;
  nl_socket_set_nonblocking(self->socket);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  // Refused without CAP_NET_ADMIN; then the system's limit holds.
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_bytes, sizeof receive_bytes) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
  // Reasons in words, without the request repeated. Older kernels lack one or both: errno is left.
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
  *out = self;
  return 0;
}

void pe_netlink_close(pe_netlink *self) {
  nl_socket_free(self->socket);
  free(self);
}

int pe_netlink_descriptor(const pe_netlink *self) { return nl_socket_get_fd(self->socket); }

int pe_netlink_join(pe_netlink *self, int group) {
  errno = 0;
  return failed(nl_socket_add_membership(self->socket, group));
}

int pe_netlink_receive(pe_netlink *self, uint8_t *bytes, size_t capacity) {
  struct sockaddr_nl from;
  struct iovec vector = {.iov_base = bytes, .iov_len = capacity};
  struct msghdr header = {
      .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &vector, .msg_iovlen = 1};
  ssize_t n;
  do n = recvmsg(nl_socket_get_fd(self->socket), &header, MSG_DONTWAIT | MSG_TRUNC);
  while (n < 0 && errno == EINTR);
  if (n < 0) return -errno;
  if ((size_t)n > capacity) return -EMSGSIZE;
  if (header.msg_namelen < sizeof from || from.nl_pid != 0) return 0;
  return (int)n;
}

int pe_netlink_send(pe_netlink *self, const uint8_t *bytes, size_t count) {
  errno = 0;
  int n = nl_sendto(self->socket, (void *)(uintptr_t)bytes, count);
  return n == (int)count ? 0 : (n >= 0 ? -EIO : failed(n));
}

int pe_netlink_wait(const pe_netlink *self, int wake, int milliseconds) {
  struct pollfd fds[2] = {{.fd = nl_socket_get_fd(self->socket), .events = POLLIN},
                          {.fd = wake, .events = POLLIN}};
  int n;
  do n = poll(fds, 2, milliseconds);
  while (n < 0 && errno == EINTR);
  if (n < 0) return -errno;
  return (fds[0].revents ? 1 : 0) | (fds[1].revents ? 2 : 0);
}

pe_netlink_message *pe_netlink_message_new(uint16_t type, uint16_t flags, uint32_t sequence,
                                           const void *header, size_t header_size) {
  pe_netlink_message *self = calloc(1, sizeof *self);
  if (!self) return NULL;
  self->message = nlmsg_alloc();
  if (!self->message || !nlmsg_put(self->message, 0, sequence, type, 0, flags) ||
      nlmsg_append(self->message, (void *)(uintptr_t)header, header_size, NLMSG_ALIGNTO) < 0) {
    pe_netlink_message_free(self);
    return NULL;
  }
  return self;
}

void pe_netlink_message_free(pe_netlink_message *self) {
  nlmsg_free(self->message);
  free(self);
}

int pe_netlink_put(pe_netlink_message *self, uint16_t type, const void *bytes, size_t count) {
  return nla_put(self->message, type, (int)count, bytes) < 0 ? -EMSGSIZE : 0;
}

int pe_netlink_nest_begin(pe_netlink_message *self, uint16_t type) {
  if (self->depth == NEST_LIMIT) return -EMSGSIZE;
  struct nlattr *nest = nla_nest_start(self->message, type);
  if (!nest) return -EMSGSIZE;
  self->nests[self->depth++] = nest;
  return 0;
}

int pe_netlink_nest_end(pe_netlink_message *self) {
  if (self->depth == 0) return -EINVAL;
  return nla_nest_end(self->message, self->nests[--self->depth]) < 0 ? -EMSGSIZE : 0;
}

const uint8_t *pe_netlink_message_bytes(const pe_netlink_message *self, size_t *count) {
  struct nlmsghdr *header = nlmsg_hdr(self->message);
  *count = NLMSG_ALIGN(header->nlmsg_len);
  return (const uint8_t *)header;
}

int pe_tap_create_persistent(const char *name) {
  if (strlen(name) >= IFNAMSIZ) return -ENAMETOOLONG;
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -errno;
  struct ifreq request;
  memset(&request, 0, sizeof request);
  memcpy(request.ifr_name, name, strlen(name));
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  int result = 0;
  if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0) result = -errno;
  close(fd);
  return result;
}

int pe_wake_pipe(int fds[2]) { return pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0; }
