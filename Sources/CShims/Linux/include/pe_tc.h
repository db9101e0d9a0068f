// Drops everything that enters or leaves a network device, by a two-instruction BPF program.
#pragma once
#include <stdint.h>
#pragma clang assume_nonnull begin

/// Drops all packets that device `ifindex` of the calling thread's namespace receives (`ingress`
/// not 0) or sends (`ingress` 0), through TCX (kernel >= 6.6). AF_PACKET sockets still see what is
/// received: the hook runs after the taps (net/core/dev.c, __netif_receive_skb_core). Returns a
/// descriptor that holds the attachment (close it to end the drop), or -errno: -EINVAL or
/// -EOPNOTSUPP where the kernel has no TCX, -EPERM without CAP_BPF and CAP_NET_ADMIN, -ENODEV when
/// there is no such device.
int pe_tc_drop_attach(int ifindex, int ingress);

/// The same without a descriptor, until the device goes or pe_tc_drop_remove: for devices that must
/// stay silent when the process has died. Does nothing when it is there already. TCX alone; 0 or
/// -errno as above.
int pe_tc_drop_install(int ifindex, int ingress);
/// Takes away what pe_tc_drop_install put there; -ENOENT when there was nothing.
int pe_tc_drop_remove(int ifindex, int ingress);

/// The same through a clsact qdisc and a cls_bpf filter (kernel >= 4.5). Replaces an earlier one;
/// it outlives the process. Returns 0 or -errno.
int pe_tc_drop_attach_clsact(int ifindex, int ingress);
/// Removes the filter of pe_tc_drop_attach_clsact and nothing else; the clsact qdisc stays, others
/// may use it. 0, or -errno (-ENOENT or -EINVAL when there was none).
int pe_tc_drop_detach_clsact(int ifindex, int ingress);

/// Makes the device share the filter blocks that pe_tc_drop_fill_blocks fills, both ways; until
/// then nothing is dropped. A grace period of the kernel for each device, which TCX needs, is
/// saved; so this is the way for thousands of devices. Outlives the process. 0, -EEXIST when the
/// device has a clsact qdisc already, or -errno.
int pe_tc_drop_join_blocks(int ifindex);
/// Drops everything in the shared blocks of the namespace; to be called after the first device has
/// joined. Replaces an earlier filter. 0 or -errno.
int pe_tc_drop_fill_blocks(void);
#pragma clang assume_nonnull end
