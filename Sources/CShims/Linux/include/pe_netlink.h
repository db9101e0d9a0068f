// Route netlink sockets and messages, over libnl-3; each function is one step and holds no policy.
//
// Functions return 0 or a value >= 0 when they succeed, else -errno.
#pragma once
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

/// A NETLINK_ROUTE socket of the namespace in which it was opened; usable from any thread, by one
/// at a time.
typedef struct pe_netlink pe_netlink;

/// Opens a socket with `receive_bytes` of receive buffer, beyond the system's limit where the
/// process may.
int pe_netlink_open(int receive_bytes, pe_netlink *_Nullable *_Nonnull out);
void pe_netlink_close(pe_netlink *socket);
/// For poll; the socket never blocks.
int pe_netlink_descriptor(const pe_netlink *socket);
/// Subscribes to a group (RTNLGRP_*).
int pe_netlink_join(pe_netlink *socket, int group);
/// Receives one datagram of whole messages from the kernel. 0 when it was from somebody else;
/// -EAGAIN when there is none, -ENOBUFS when the kernel had to drop some, -EMSGSIZE when `capacity`
/// was too small.
int pe_netlink_receive(pe_netlink *socket, uint8_t *bytes, size_t capacity);
/// Sends whole messages as one datagram.
int pe_netlink_send(pe_netlink *socket, const uint8_t *bytes, size_t count);
/// Waits until the socket or `wake` (a descriptor, or -1) is readable, at most `milliseconds` (-1:
/// for ever). Bit 0: the socket, bit 1: `wake`.
int pe_netlink_wait(const pe_netlink *socket, int wake, int milliseconds);

/// A message that is being written.
typedef struct pe_netlink_message pe_netlink_message;
/// Begins a message with its family's header; NULL when there is no memory.
pe_netlink_message *_Nullable pe_netlink_message_new(uint16_t type, uint16_t flags, uint32_t sequence,
                                                     const void *header, size_t header_size);
void pe_netlink_message_free(pe_netlink_message *message);
int pe_netlink_put(pe_netlink_message *message, uint16_t type, const void *_Nullable bytes, size_t count);
/// Opens a nest, closed by pe_netlink_nest_end in reverse order; at most 8.
int pe_netlink_nest_begin(pe_netlink_message *message, uint16_t type);
int pe_netlink_nest_end(pe_netlink_message *message);
/// The message's bytes; valid until it changes or is freed.
const uint8_t *pe_netlink_message_bytes(const pe_netlink_message *message, size_t *count);

/// Creates a TAP that stays without a process, or does nothing when there is one, in the calling
/// thread's namespace. Without a process it has no carrier.
int pe_tap_create_persistent(const char *name);
/// A pipe that neither blocks nor survives exec: fds[0] to read, fds[1] to write.
int pe_wake_pipe(int fds[_Nonnull 2]);
#pragma clang assume_nonnull end
