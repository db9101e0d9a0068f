// Writes one frame of the case for each run; run with live frames, it feeds the kernel's stack like a
// driver's poll would, on this very core.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "kernel_source.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct kernel_state);
} states SEC(".maps");

static __always_inline void stamp(struct kernel_state *s) {
  __u64 now = bpf_ktime_get_ns();
  __u32 n = s->slice_count;
  if (s->slice_started && n < TRAFFIC_SLICES) {
    s->slices[n & (TRAFFIC_SLICES - 1)] = now - s->slice_started;
    s->slice_count = n + 1;
  }
  s->slice_started = now;
  s->started = s->count;
}

SEC("xdp") int source(struct xdp_md *x) {
  __u32 zero = 0;
  struct kernel_state *s = bpf_map_lookup_elem(&states, &zero);
  if (!s) return XDP_ABORTED;
  if (s->count - s->started >= s->slice_packets) stamp(s);
  __u32 slot = s->slot;
  if (slot >= TRAFFIC_PATTERN) slot = 0;
  struct traffic_template *t = &s->templates[s->pattern[slot] & 3];
  s->slot = slot + 1 >= s->pattern_count ? 0 : slot + 1;
  __u32 flow = s->next;
  s->next = flow + 1 >= s->flows ? 0 : flow + 1;
  if (t->length < s->longest && bpf_xdp_adjust_tail(x, (int)t->length - (int)s->longest)) return XDP_ABORTED;
  __u8 *p = (void *)(long)x->data, *end = (void *)(long)x->data_end, *e;
  __u32 source = SOURCE_ADDRESS + flow, destination = s->decap ? HOST_ADDRESS : REMOTE_ADDRESS;
  if (s->decap) {
    if (p + 110 > end) return XDP_ABORTED;
    __builtin_memcpy(p, t->bytes, 110);
    put16(p + 34, (__u16)(0xc000 | (flow * 2654435761u) >> 18));
    e = p + TRAFFIC_OUTER;
  } else {
    if (p + 60 > end) return XDP_ABORTED;
    __builtin_memcpy(p, t->bytes, 60);
    e = p;
  }
  if (s->vary == VARY_MAC && s->entries) {
    __u32 tail = remote_mac_tail(flow % s->entries);
    if (s->decap) { e[9] = (__u8)(tail >> 16); put16(e + 10, (__u16)tail); }
    else { e[3] = (__u8)(tail >> 16); put16(e + 4, (__u16)tail); }
  } else if (s->vary == VARY_HOST && s->entries) {
    destination = remote_address(flow % s->entries);
  } else if (s->vary == VARY_PREFIX) {
    destination = PREFIX_ADDRESS + (flow & 0xffff);
  }
  put32(e + 26, source);
  put32(e + 30, destination);
  put16(e + 24, fold(t->sum + (source >> 16) + (source & 0xffff) + (destination >> 16) + (destination & 0xffff)));
  put16(e + 34, (__u16)(1024 + (flow & 0x7fff)));
  put32(e + 46, flow);
  s->count++;
  return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
