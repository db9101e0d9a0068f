// Drops everything that enters or leaves a network device, by a two-instruction BPF program.
#include "pe_tc.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

// enum bpf_attach_type of include/uapi/linux/bpf.h since 6.6; Debian 12's headers are older.
enum { ATTACH_TCX_INGRESS = 46, ATTACH_TCX_EGRESS = 47 };
// Our filter among others on the same hook: its priority and handle.
enum { FILTER_PRIORITY = 0x7065, FILTER_HANDLE = 1 };
// The shared blocks, numbered per namespace.
enum { INGRESS_BLOCK = 0x70656401, EGRESS_BLOCK = 0x70656402 };

/// The BPF_LINK_CREATE member of union bpf_attr, with the tcx fields of 6.6.
struct link_create {
  uint32_t prog_fd, target_ifindex, attach_type, flags, relative_fd, pad;
  uint64_t expected_revision;
};

static long bpf(int command, void *attr, unsigned size) { return syscall(SYS_bpf, command, attr, size); }

/// Loads `return TC_ACT_SHOT`; the descriptor or -errno.
static int load_drop(void) {
  const struct bpf_insn program[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = TC_ACT_SHOT},
      {.code = BPF_JMP | BPF_EXIT},
  };
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.prog_type = BPF_PROG_TYPE_SCHED_CLS;
  attr.insns = (uint64_t)(uintptr_t)program;
  attr.insn_cnt = sizeof program / sizeof program[0];
  attr.license = (uint64_t)(uintptr_t) "Apache-2.0";
  memcpy(attr.prog_name, "pe_drop", sizeof "pe_drop");
  long fd = bpf(BPF_PROG_LOAD, &attr, sizeof attr);
  return fd >= 0 ? (int)fd : -errno;
}

int pe_tc_drop_attach(int ifindex, int ingress) {
  if (ifindex <= 0) return -ENODEV;
  int program = load_drop();
  if (program < 0) return program;
  struct link_create attr = {
      .prog_fd = (uint32_t)program,
      .target_ifindex = (uint32_t)ifindex,
      .attach_type = ingress ? ATTACH_TCX_INGRESS : ATTACH_TCX_EGRESS,
  };
  long link = bpf(BPF_LINK_CREATE, &attr, sizeof attr);
  int result = link >= 0 ? (int)link : -errno;
  close(program); // the link holds it
  return result;
}

/// The BPF_PROG_ATTACH and BPF_PROG_QUERY members of union bpf_attr as of 6.6.
struct prog_attach {
  uint32_t target_ifindex, attach_bpf_fd, attach_type, attach_flags, replace_bpf_fd, relative_fd;
  uint64_t expected_revision;
};
struct prog_query {
  uint32_t target_ifindex, attach_type, query_flags, attach_flags;
  uint64_t prog_ids;
  uint32_t count, pad;
  uint64_t prog_attach_flags, link_ids, link_attach_flags, revision;
};

/// A descriptor of our program on the hook; -ENOENT when it is not there, or why that is not known.
static int find_drop(int ifindex, uint32_t attach_type) {
  uint32_t ids[64] = {0};
  struct prog_query query = {
      .target_ifindex = (uint32_t)ifindex,
      .attach_type = attach_type,
      .prog_ids = (uint64_t)(uintptr_t)ids,
      .count = sizeof ids / sizeof ids[0],
  };
  if (bpf(BPF_PROG_QUERY, &query, sizeof query) < 0) return -errno;
  for (uint32_t i = 0; i < query.count && i < sizeof ids / sizeof ids[0]; i++) {
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.prog_id = ids[i];
    long fd = bpf(BPF_PROG_GET_FD_BY_ID, &attr, sizeof attr);
    if (fd < 0) continue;
    struct bpf_prog_info info;
    memset(&info, 0, sizeof info);
    memset(&attr, 0, sizeof attr);
    attr.info.bpf_fd = (uint32_t)fd;
    attr.info.info_len = sizeof info;
    attr.info.info = (uint64_t)(uintptr_t)&info;
    if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr) == 0 && strcmp(info.name, "pe_drop") == 0)
      return (int)fd;
    close((int)fd);
  }
  return -ENOENT;
}

int pe_tc_drop_install(int ifindex, int ingress) {
  if (ifindex <= 0) return -ENODEV;
  uint32_t type = ingress ? ATTACH_TCX_INGRESS : ATTACH_TCX_EGRESS;
  int found = find_drop(ifindex, type);
  if (found >= 0) {
    close(found);
    return 0;
  }
  if (found != -ENOENT) return found;
  int program = load_drop();
  if (program < 0) return program;
  struct prog_attach attr = {
      .target_ifindex = (uint32_t)ifindex, .attach_bpf_fd = (uint32_t)program, .attach_type = type};
  int result = bpf(BPF_PROG_ATTACH, &attr, sizeof attr) < 0 ? -errno : 0;
  close(program); // the hook holds it
  return result;
}

int pe_tc_drop_remove(int ifindex, int ingress) {
  if (ifindex <= 0) return -ENODEV;
  uint32_t type = ingress ? ATTACH_TCX_INGRESS : ATTACH_TCX_EGRESS;
  int program = find_drop(ifindex, type);
  if (program < 0) return program;
  struct prog_attach attr = {
      .target_ifindex = (uint32_t)ifindex, .attach_bpf_fd = (uint32_t)program, .attach_type = type};
  int result = bpf(BPF_PROG_DETACH, &attr, sizeof attr) < 0 ? -errno : 0;
  close(program);
  return result;
}

/// Sends `msg`, waits for its ACK and frees it; 0 or -errno.
static int talk(struct nl_sock *socket, struct nl_msg *msg) {
  int sent = nl_send_auto(socket, msg);
  nlmsg_free(msg);
  if (sent < 0) return -EIO;
  unsigned char *reply = NULL;
  struct sockaddr_nl from;
  int n = nl_recv(socket, &from, &reply, NULL);
  int result = -EIO;
  if (n >= (int)NLMSG_LENGTH(sizeof(struct nlmsgerr))) {
    const struct nlmsghdr *h = (const struct nlmsghdr *)reply;
    if (h->nlmsg_type == NLMSG_ERROR) result = ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
  }
  if (n > 0) free(reply);
  return result;
}

static uint32_t hook(int ingress) {
  return TC_H_MAKE(TC_H_CLSACT, ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
}

static struct nl_msg *tc_message(int type, int flags, int ifindex, uint32_t handle, uint32_t parent,
                                 uint32_t info, const char *kind) {
  struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_ACK | flags);
  if (!msg) return NULL;
  struct tcmsg tc = {
      .tcm_ifindex = ifindex, .tcm_handle = handle, .tcm_parent = parent, .tcm_info = info};
  if (nlmsg_append(msg, &tc, sizeof tc, NLMSG_ALIGNTO) < 0 || nla_put_string(msg, TCA_KIND, kind) < 0) {
    nlmsg_free(msg);
    return NULL;
  }
  return msg;
}

static uint32_t filter_info(void) { return TC_H_MAKE((uint32_t)FILTER_PRIORITY << 16, htons(ETH_P_ALL)); }

/// `parent` is a hook of the device, or the number of a block when `ifindex` is
/// TCM_IFINDEX_MAGIC_BLOCK.
static int add_filter(struct nl_sock *socket, int ifindex, uint32_t parent, int program) {
  struct nl_msg *msg = tc_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, ifindex, FILTER_HANDLE,
                                  parent, filter_info(), "bpf");
  if (!msg) return -ENOMEM;
  struct nlattr *options = nla_nest_start(msg, TCA_OPTIONS);
  if (!options || nla_put_u32(msg, TCA_BPF_FD, (uint32_t)program) < 0 ||
      nla_put_string(msg, TCA_BPF_NAME, "pe_drop") < 0 ||
      nla_put_u32(msg, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT) < 0) {
    nlmsg_free(msg);
    return -ENOMEM;
  }
  nla_nest_end(msg, options);
  return talk(socket, msg);
}

static struct nl_sock *open_route(void) {
  struct nl_sock *socket = nl_socket_alloc();
  if (!socket) return NULL;
  nl_socket_disable_auto_ack(socket);
  if (nl_connect(socket, NETLINK_ROUTE) < 0) {
    nl_socket_free(socket);
    return NULL;
  }
  return socket;
}

int pe_tc_drop_attach_clsact(int ifindex, int ingress) {
  if (ifindex <= 0) return -ENODEV;
  int program = load_drop();
  if (program < 0) return program;
  int result = -ENOMEM;
  struct nl_sock *socket = open_route();
  if (socket) {
    struct nl_msg *qdisc = tc_message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, ifindex,
                                      TC_H_MAKE(TC_H_CLSACT, 0), TC_H_CLSACT, 0, "clsact");
    if (qdisc) {
      result = talk(socket, qdisc);
      if (result == 0 || result == -EEXIST)
        result = add_filter(socket, ifindex, hook(ingress), program);
    }
    nl_socket_free(socket);
  }
  close(program); // the filter holds it
  return result;
}

int pe_tc_drop_detach_clsact(int ifindex, int ingress) {
  if (ifindex <= 0) return -ENODEV;
  struct nl_sock *socket = open_route();
  if (!socket) return -ENOMEM;
  int result = -ENOMEM;
  struct nl_msg *msg =
      tc_message(RTM_DELTFILTER, 0, ifindex, FILTER_HANDLE, hook(ingress), filter_info(), "bpf");
  if (msg) result = talk(socket, msg);
  nl_socket_free(socket);
  return result;
}

int pe_tc_drop_join_blocks(int ifindex) {
  if (ifindex <= 0) return -ENODEV;
  struct nl_sock *socket = open_route();
  if (!socket) return -ENOMEM;
  int result = -ENOMEM;
  struct nl_msg *qdisc = tc_message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, ifindex,
                                    TC_H_MAKE(TC_H_CLSACT, 0), TC_H_CLSACT, 0, "clsact");
  if (qdisc) {
    if (nla_put_u32(qdisc, TCA_INGRESS_BLOCK, INGRESS_BLOCK) < 0 ||
        nla_put_u32(qdisc, TCA_EGRESS_BLOCK, EGRESS_BLOCK) < 0)
      nlmsg_free(qdisc);
    else
      result = talk(socket, qdisc);
  }
  nl_socket_free(socket);
  return result;
}

int pe_tc_drop_fill_blocks(void) {
  int program = load_drop();
  if (program < 0) return program;
  struct nl_sock *socket = open_route();
  int result = -ENOMEM;
  if (socket) {
    result = add_filter(socket, (int)TCM_IFINDEX_MAGIC_BLOCK, INGRESS_BLOCK, program);
    if (result == 0) result = add_filter(socket, (int)TCM_IFINDEX_MAGIC_BLOCK, EGRESS_BLOCK, program);
    nl_socket_free(socket);
  }
  close(program); // the filters hold it
  return result;
}
