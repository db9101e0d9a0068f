// Kernel ports: opening packet sockets and TAPs, and setting up their devices; one call each.
#include "pe_hostio.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

int pe_packet_open(void) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd < 0 ? -errno : fd;
}
int pe_packet_set_vnet_header(int fd) { return option(fd, SOL_PACKET, PACKET_VNET_HDR, 1); }
int pe_packet_set_auxdata(int fd) { return option(fd, SOL_PACKET, PACKET_AUXDATA, 1); }
int pe_packet_ignore_outgoing(int fd) { return option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1); }
int pe_packet_set_buffers(int fd, int byte_count) {
  int rc = 0;
  if (option(fd, SOL_SOCKET, SO_RCVBUFFORCE, byte_count) < 0) rc = option(fd, SOL_SOCKET, SO_RCVBUF, byte_count);
  if (option(fd, SOL_SOCKET, SO_SNDBUFFORCE, byte_count) < 0) rc |= option(fd, SOL_SOCKET, SO_SNDBUF, byte_count);
  return rc;
}
int pe_packet_join(int fd, int ifindex, int promiscuous) {
  struct packet_mreq request = {
      .mr_ifindex = ifindex, .mr_type = promiscuous ? PACKET_MR_PROMISC : PACKET_MR_ALLMULTI};
  return setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request) < 0 ? -errno : 0;
}
int pe_packet_bind(int fd, int ifindex) {
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = ifindex};
  return bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
}
int pe_packet_device(int fd) {
  struct sockaddr_ll address;
  socklen_t size = sizeof address;
  return getsockname(fd, (struct sockaddr *)&address, &size) < 0 ? -errno : address.sll_ifindex;
}
int pe_packet_dropped(int fd, uint32_t *count) {
  struct tpacket_stats stats;
  socklen_t size = sizeof stats;
  if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) < 0) return -errno;
  *count = stats.tp_drops;
  return 0;
}
int pe_socket_error(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) return -errno;
  return -error;
}

static int named(struct ifreq *request, const char *name) {
  memset(request, 0, sizeof *request);
  if (strlen(name) >= IFNAMSIZ) return -ENAMETOOLONG;
  strcpy(request->ifr_name, name);
  return 0;
}
/// One ioctl on a device of the calling thread's namespace.
static int device_ioctl(unsigned long command, struct ifreq *request) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int rc = ioctl(fd, command, request) < 0 ? -errno : 0;
  close(fd);
  return rc;
}

int pe_tap_open(const char *name) {
  struct ifreq request;
  int rc = named(&request, name);
  if (rc < 0) return rc;
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -errno;
  int header = sizeof(pe_vnet_header);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  // Offload flags 0: the kernel completes checksums and segments before it hands a frame over.
  if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 ||
      ioctl(fd, TUNSETOFFLOAD, 0) < 0) {
    rc = -errno;
    close(fd);
    return rc;
  }
  return fd;
}
int pe_tap_set_carrier(int fd, int on) { return ioctl(fd, TUNSETCARRIER, &on) < 0 ? -errno : 0; }

int pe_interface_index(const char *name) {
  struct ifreq request;
  int rc = named(&request, name);
  if (rc == 0) rc = device_ioctl(SIOCGIFINDEX, &request);
  return rc < 0 ? rc : request.ifr_ifindex;
}
int pe_interface_mtu(const char *name) {
  struct ifreq request;
  int rc = named(&request, name);
  if (rc == 0) rc = device_ioctl(SIOCGIFMTU, &request);
  return rc < 0 ? rc : request.ifr_mtu;
}
int pe_interface_set_mtu(const char *name, int mtu) {
  struct ifreq request;
  int rc = named(&request, name);
  request.ifr_mtu = mtu;
  return rc < 0 ? rc : device_ioctl(SIOCSIFMTU, &request);
}
int pe_interface_mac(const char *name, uint8_t mac[6]) {
  struct ifreq request;
  int rc = named(&request, name);
  if (rc == 0) rc = device_ioctl(SIOCGIFHWADDR, &request);
  if (rc == 0) memcpy(mac, request.ifr_hwaddr.sa_data, 6);
  return rc;
}
int pe_interface_set_mac(const char *name, const uint8_t mac[6]) {
  struct ifreq request;
  int rc = named(&request, name);
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  memcpy(request.ifr_hwaddr.sa_data, mac, 6);
  return rc < 0 ? rc : device_ioctl(SIOCSIFHWADDR, &request);
}
static int interface_flags(const char *name) {
  struct ifreq request;
  int rc = named(&request, name);
  if (rc == 0) rc = device_ioctl(SIOCGIFFLAGS, &request);
  return rc < 0 ? rc : (unsigned short)request.ifr_flags;
}
int pe_interface_state(int fd, const char *name) {
  struct ifreq request;
  int rc = named(&request, name);
  if (rc < 0) return rc;
  if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) return -errno;
  return ((request.ifr_flags & IFF_UP) ? 1 : 0) | ((request.ifr_flags & IFF_RUNNING) ? 2 : 0);
}
int pe_interface_set_up(const char *name) {
  int flags = interface_flags(name);
  if (flags < 0 || (flags & IFF_UP)) return flags < 0 ? flags : 0;
  struct ifreq request;
  int rc = named(&request, name);
  request.ifr_flags = (short)(flags | IFF_UP);
  return rc < 0 ? rc : device_ioctl(SIOCSIFFLAGS, &request);
}

/// Sends one route netlink request and waits for its acknowledgement.
static int route_request(struct nlmsghdr *request) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  struct {
    struct nlmsghdr header;
    struct nlmsgerr body;
    uint8_t rest[256];
  } reply;
  int rc = 0;
  if (send(fd, request, request->nlmsg_len, 0) < 0 || recv(fd, &reply, sizeof reply, 0) < 0) rc = -errno;
  else if (reply.header.nlmsg_type == NLMSG_ERROR) rc = reply.body.error;
  close(fd);
  return rc;
}

int pe_interface_set_master(int ifindex, int master) {
  struct {
    struct nlmsghdr header;
    struct ifinfomsg body;
    struct rtattr attribute;
    int32_t master;
  } request = {
      .header = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_SETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
      .body = {.ifi_family = AF_UNSPEC, .ifi_index = ifindex},
      .attribute = {.rta_len = RTA_LENGTH(sizeof(int32_t)), .rta_type = IFLA_MASTER},
      .master = master,
  };
  return route_request(&request.header);
}

int pe_interface_add_address(int ifindex, const uint8_t *address, uint32_t byte_count, uint8_t prefix_length) {
  struct {
    struct nlmsghdr header;
    struct ifaddrmsg body;
    uint8_t attributes[64];
  } request = {
      .header = {.nlmsg_type = RTM_NEWADDR, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL},
      .body = {.ifa_family = byte_count == 4 ? AF_INET : AF_INET6, .ifa_prefixlen = prefix_length,
               .ifa_index = (uint32_t)ifindex},
  };
  if (byte_count != 4 && byte_count != 16) return -EINVAL;
  if (byte_count == 16) request.body.ifa_flags = IFA_F_NODAD;
  uint32_t used = 0;
  for (int type = IFA_ADDRESS; type <= IFA_LOCAL; type++) {
    struct rtattr attribute = {.rta_len = (unsigned short)RTA_LENGTH(byte_count), .rta_type = (unsigned short)type};
    memcpy(request.attributes + used, &attribute, sizeof attribute);
    memcpy(request.attributes + used + sizeof attribute, address, byte_count);
    used += RTA_SPACE(byte_count);
  }
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.body) + used;
  int rc = route_request(&request.header);
  return rc == -EEXIST ? 0 : rc;
}

int pe_namespace_enter(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int rc = setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
  close(fd);
  return rc;
}
int pe_thread_avoid_cpus(const int32_t *cpus, uint32_t count) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) return -errno;
  for (uint32_t i = 0; i < count; i++)
    if (cpus[i] >= 0 && cpus[i] < CPU_SETSIZE) CPU_CLR((unsigned)cpus[i], &set);
  if (CPU_COUNT(&set) == 0) return 0;
  return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}
int pe_cpu_allowed(int cpu) {
  cpu_set_t set;
  if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof set, &set) < 0) return 0;
  return CPU_ISSET((unsigned)cpu, &set) ? 1 : 0;
}
