// Feeds the kernel's stack in this namespace with the case's frames, and samples what leaves.
//
// BPF_PROG_RUN with live frames hands the frames to the stack as coming from an ifb device; another ifb
// at the way out counts and drops. Steered and read through the same page as the other peers.
//
// usage: kernel_source OBJECT PAGE UNDERLAY ACCESS
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "kernel_ports.h"
#include "kernel_source.h"

static uint64_t nanoseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
struct source {
  int program, map;
  struct kernel_state *state;
  struct traffic_page *page;
  const char *ports[2];
  uint32_t repeat;
};

static int take_case(struct source *s) {
  struct traffic t;
  static struct kernel_state k;
  if (traffic_init(&t, &s->page->wanted)) return -EINVAL;
  memset(&k, 0, sizeof k);
  k.flows = t.flows; k.pattern_count = t.pattern_count; k.decap = t.decap; k.vary = t.vary; k.entries = t.entries;
  k.slice_packets = s->page->slice_packets;
  memcpy(k.pattern, t.pattern, TRAFFIC_PATTERN);
  memcpy(k.templates, t.templates, sizeof t.templates);
  for (int i = 0; i < TRAFFIC_SIZES; i++) if (k.templates[i].length > k.longest) k.longest = k.templates[i].length;
  k.count = s->state->count;
  k.started = k.count;
  uint32_t zero = 0;
  s->page->case_taken = s->page->case_serial;
  return bpf_map_update_elem(s->map, &zero, &k, 0);
}
static int feed(struct source *s) {
  static uint8_t frame[2048];
  uint32_t length = s->state->longest, from = if_nametoindex(s->ports[s->state->decap ? 0 : 1]);
  struct xdp_md context = {.data_end = length, .ingress_ifindex = from};
  DECLARE_LIBBPF_OPTS(
      bpf_test_run_opts, o, .data_in = frame, .data_size_in = length, .ctx_in = &context,
      .ctx_size_in = sizeof context, .repeat = (int)s->repeat, .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
      .batch_size = 64);
  s->state->slice_started = 0;
  return bpf_prog_test_run_opts(s->program, &o);
}
// One call takes tens of milliseconds before it begins, so a call is made to last about 0.2 s.
static void adapt(struct source *s, uint64_t took) {
  if (took < 150000000 && s->repeat < 1u << 21) s->repeat *= 2;
  if (took > 500000000 && s->repeat > 4096) s->repeat /= 2;
}
static void publish(struct source *s, struct meter *m, uint64_t cycles, uint64_t instructions, uint64_t before) {
  struct traffic_page *p = s->page;
  if (p->slice_taken != p->slice_serial) { p->slice_count = 0; p->slice_taken = p->slice_serial; }
  uint64_t packets = s->state->count - before, ticks = spin();
  for (int i = 0; i < 8; i++) { uint64_t again = spin(); if (again < ticks) ticks = again; }
  for (uint32_t i = 0; i < s->state->slice_count && p->slice_count < TRAFFIC_SLICES; i++) {
    double tsc = (double)s->state->slices[i] * (double)p->tsc_hz / 1e9;
    uint64_t n = s->state->slice_packets;
    p->slices[p->slice_count] = (struct traffic_slice){
        (uint64_t)tsc, n, n, 0, 0, ticks, packets ? cycles * n / packets : 0, packets ? instructions * n / packets : 0};
    __atomic_store_n(&p->slice_count, p->slice_count + 1, __ATOMIC_RELEASE);
  }
  s->state->slice_count = 0;
  m->generated += packets;
  p->generated = m->generated;
  p->sent = sent_through(s->ports[0], 0) + sent_through(s->ports[1], 0);
}
static uint64_t tsc_hz(void) {
  uint64_t t0 = nanoseconds(), c0 = __rdtsc();
  usleep(50000);
  uint64_t c1 = __rdtsc(), t1 = nanoseconds();
  return (uint64_t)((double)(c1 - c0) * 1e9 / (double)(t1 - t0));
}
static int run(struct source *s, struct meter *m) {
  struct traffic_page *page = s->page;
  struct taps taps = {.ports = s->ports};
  while (!stopping) {
    if (!page->run) {
      page->busy = 0;
      usleep(1000);
      continue;
    }
    page->busy = 1;
    int rc = page->case_taken != page->case_serial ? take_case(s) : 0;
    if (rc) return complain("the case is refused", rc);
    uint64_t before = s->state->count, started = nanoseconds();
    uint64_t cycles = counter(m->counters[0]), instructions = counter(m->counters[1]);
    uint32_t kept = s->repeat;
    open_taps(&taps, page);
    if (taps.are_open) s->repeat = 4096;
    if ((rc = feed(s))) return complain("BPF_PROG_RUN with live frames", rc);
    cycles = counter(m->counters[0]) - cycles;
    instructions = counter(m->counters[1]) - instructions;
    s->repeat = kept;
    if (!taps.are_open) adapt(s, nanoseconds() - started);
    take_samples(&taps, page);
    publish(s, m, cycles, instructions, before);
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 5) { fprintf(stderr, "usage: kernel_source OBJECT PAGE UNDERLAY ACCESS\n"); return 2; }
  signal(SIGTERM, stop);
  signal(SIGINT, stop);
  struct traffic_page *page = open_page(argv[2]);
  if (!page) return complain(argv[2], EINVAL);
  struct bpf_object *object = bpf_object__open_file(argv[1], NULL);
  if (!object || bpf_object__load(object)) return complain(argv[1], 0);
  struct source s = {
      .program = bpf_program__fd(bpf_object__find_program_by_name(object, "source")),
      .map = bpf_object__find_map_fd_by_name(object, "states"), .page = page, .ports = {argv[3], argv[4]},
      .repeat = 4096};
  s.state = mmap(NULL, sizeof *s.state, PROT_READ | PROT_WRITE, MAP_SHARED, s.map, 0);
  if (s.state == MAP_FAILED) return complain("the program's state", 0);
  struct meter meter = {.page = page, .counters = {-1, -1}};
  meter_open(&meter, 1);
  page->tsc_hz = tsc_hz();
  if (!if_nametoindex(argv[3]) || !if_nametoindex(argv[4])) return complain("the two ports", 0);
  page->attached = 3;
  printf("kernel_source ready\n");
  fflush(stdout);
  return run(&s, &meter);
}
