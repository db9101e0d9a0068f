// Kernel ports: packet sockets, TAPs, interface settings and batched frames; one step per function.
//
// Functions return 0 or a value >= 0 when they succeed, else -errno.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#pragma clang assume_nonnull begin

/// struct virtio_net_hdr (linux/virtio_net.h), native byte order as the kernel's legacy form.
typedef struct pe_vnet_header {
  uint8_t flags, gso_type;
  uint16_t hdr_len, gso_size, csum_start, csum_offset;
} pe_vnet_header;

enum {
  PE_VNET_NEEDS_CSUM = 1,
  PE_VNET_GSO_NONE = 0,
  PE_VNET_GSO_TCPV4 = 1,
  PE_VNET_GSO_UDP = 3,
  PE_VNET_GSO_TCPV6 = 4,
  PE_VNET_GSO_UDP_L4 = 5,
  PE_VNET_GSO_ECN = 0x80,
};

/// One frame to receive: where it goes, and what was said about it.
typedef struct pe_rx_frame {
  uint8_t *head;
  uint32_t head_room;
  /// Length of the whole frame, virtio header not included.
  uint32_t length;
  pe_vnet_header vnet;
  /// The tag that the kernel took off: valid when `has_vlan`.
  uint16_t vlan_tci, vlan_tpid;
  uint8_t has_vlan, truncated;
} pe_rx_frame;

enum { PE_IO_BATCH = 32, PE_IO_SEGMENTS = 16, PE_IO_OVERFLOW = 72 * 1024 };

/// Scratch memory of one host-I/O thread: message vectors and, per frame, what `head` cannot hold.
typedef struct pe_io_batch pe_io_batch;
pe_io_batch *_Nullable pe_io_batch_create(void);
void pe_io_batch_free(pe_io_batch *batch);
/// The bytes of received frame `i` beyond `head_room`.
uint8_t *pe_io_batch_overflow(pe_io_batch *batch, uint32_t i);
/// The vector of frame `i` to send: slot 0 is the virtio header, 1 ..< PE_IO_SEGMENTS the caller's.
struct iovec *pe_io_batch_vector(pe_io_batch *batch, uint32_t i);
/// `count` is the number of the caller's vectors used.
void pe_io_batch_set_count(pe_io_batch *batch, uint32_t i, uint32_t count);

/// Receives up to n <= PE_IO_BATCH frames; returns how many. -EAGAIN when there are none.
int pe_packet_receive(int fd, pe_io_batch *batch, pe_rx_frame *frames, uint32_t n);
/// Reads one frame of a TAP into slot `i` of the batch. -EAGAIN when there is none.
int pe_tap_receive(int fd, pe_io_batch *batch, pe_rx_frame *frame, uint32_t i);
/// Sends frames [from, to) of the batch; returns how many, at least one, or why the first failed.
int pe_packet_send(int fd, pe_io_batch *batch, uint32_t from, uint32_t to);
/// Writes frame `i` to a TAP.
int pe_tap_send(int fd, pe_io_batch *batch, uint32_t i);

/// What a descriptor is ready for.
typedef struct pe_poll_event {
  uint64_t mark;
  uint8_t readable, failed;
} pe_poll_event;
/// An epoll set; its descriptors are level-triggered and told apart by their mark.
int pe_poll_create(void);
int pe_poll_add(int poll, int fd, uint64_t mark);
int pe_poll_remove(int poll, int fd);
/// Waits up to `milliseconds`; returns how many of n <= 64 events there are.
int pe_poll_wait(int poll, pe_poll_event *events, uint32_t n, int milliseconds);
/// A non-blocking eventfd, and what is done with it.
int pe_event_create(void);
void pe_event_signal(int fd);
void pe_event_clear(int fd);
/// Waits up to `milliseconds` for one descriptor; 1 when it is readable.
int pe_event_wait(int fd, int milliseconds);

/// A raw packet socket that receives nothing yet, in the calling thread's namespace.
int pe_packet_open(void);
int pe_packet_set_vnet_header(int fd);
int pe_packet_set_auxdata(int fd);
int pe_packet_ignore_outgoing(int fd);
/// Socket buffers in bytes, beyond the system's limit where the process may.
int pe_packet_set_buffers(int fd, int byte_count);
/// All frames (`promiscuous`) or all multicast ones besides the device's own address.
int pe_packet_join(int fd, int ifindex, int promiscuous);
/// Starts receiving every protocol from the device.
int pe_packet_bind(int fd, int ifindex);
/// Index of the device that the socket is bound to; -1 when that is gone.
int pe_packet_device(int fd);
/// Frames the kernel dropped for want of socket buffer since the last call.
int pe_packet_dropped(int fd, uint32_t *count);
/// The error that the kernel left for this socket, or 0.
int pe_socket_error(int fd);

/// A TAP without packet information and with virtio headers; frames arrive complete and segmented.
int pe_tap_open(const char *name);
int pe_tap_set_carrier(int fd, int on);

/// Index of a device in the calling thread's namespace.
int pe_interface_index(const char *name);
int pe_interface_mtu(const char *name);
int pe_interface_set_mtu(const char *name, int mtu);
int pe_interface_mac(const char *name, uint8_t mac[_Nonnull 6]);
int pe_interface_set_mac(const char *name, const uint8_t mac[_Nonnull 6]);
/// IFF_UP and IFF_RUNNING as bits 0 and 1, in the namespace of socket `fd`.
int pe_interface_state(int fd, const char *name);
int pe_interface_set_up(const char *name);
/// Puts a device into a bridge or VRF.
int pe_interface_set_master(int ifindex, int master);
/// Adds an address of `byte_count` 4 or 16; one that is already there is no error.
int pe_interface_add_address(int ifindex, const uint8_t *address, uint32_t byte_count, uint8_t prefix_length);

/// Moves the calling thread into the network namespace that `path` names; for threads made for that.
int pe_namespace_enter(const char *path);
/// Restricts the calling thread to the CPUs it may use now without those listed, when any remain.
int pe_thread_avoid_cpus(const int32_t *cpus, uint32_t count);
/// 1 when the process may run on the CPU.
int pe_cpu_allowed(int cpu);

/// Adds the 16-bit words (native order, the last byte padded) of the bytes; fold with pe_sum_fold.
uint64_t pe_sum16(const void *bytes, size_t count, uint64_t sum);
/// Folds a sum to 16 bits; not complemented.
uint16_t pe_sum_fold(uint64_t sum);
/// CRC32C of the bytes, as SCTP carries it (RFC 9260 appendix A), native byte order.
uint32_t pe_crc32c_bytes(const void *bytes, size_t count);
#pragma clang assume_nonnull end
