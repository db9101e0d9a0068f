// Feeds the kernel's stack in this namespace through veth pairs, where BPF cannot.
//
// A packet socket on the far end of a pair sends; the stack takes the frame in the same call's softirq, on
// the same core. So the figure holds the socket's cost, too: some thousand cycles more than live frames.
//
// usage: veth_source PAGE UNDERLAY ACCESS FAR-NAMESPACE FAR-UNDERLAY FAR-ACCESS
#include <sched.h>
#include "kernel_ports.h"

enum { BATCH = 32 };

static uint8_t frames[BATCH][2048];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

// Sockets of the far ends, which are in another namespace; this one is entered again.
static int far_sockets(const char *path, char **names, int *sockets) {
  int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), far = open(path, O_RDONLY | O_CLOEXEC);
  if (own < 0 || far < 0 || setns(far, CLONE_NEWNET)) return -1;
  for (int i = 0; i < 2; i++) {
    sockets[i] = tap(names[i]);
    int one = 1;
    if (sockets[i] >= 0) setsockopt(sockets[i], SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  }
  close(far);
  return setns(own, CLONE_NEWNET) || sockets[0] < 0 || sockets[1] < 0 ? -1 : 0;
}
static void offer(struct traffic *t, struct meter *m, int out) {
  for (int i = 0; i < BATCH; i++) parts[i].iov_len = traffic_write(t, frames[i]);
  int taken = sendmmsg(out, messages, BATCH, 0);
  if (taken > 0) m->generated += (uint64_t)taken;
  m->polls++;
}
static int run(struct meter *m, int *far, const char **ports) {
  struct traffic_page *page = m->page;
  struct taps taps = {.ports = ports};
  struct traffic t;
  while (!stopping) {
    if (!page->run) {
      if (page->busy) {
        m->sent = sent_through(ports[0], 1) + sent_through(ports[1], 1);
        meter_end(m);
      }
      usleep(1000);
      continue;
    }
    if (page->case_taken != page->case_serial || !page->busy) {
      if (traffic_init(&t, &page->wanted)) return complain("the case is refused", EINVAL);
      page->case_taken = page->case_serial;
      page->busy = 1;
      m->next = 0;
    }
    if (m->generated >= m->next) {
      // What left is read between slices: it is a file of the kernel's.
      m->sent = sent_through(ports[0], 1) + sent_through(ports[1], 1);
      meter_stamp(m);
    }
    open_taps(&taps, page);
    offer(&t, m, far[page->wanted.decap ? 0 : 1]);
    take_samples(&taps, page);
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: veth_source PAGE UNDERLAY ACCESS FAR-NAMESPACE FAR-UNDERLAY FAR-ACCESS\n");
    return 2;
  }
  signal(SIGTERM, stop);
  signal(SIGINT, stop);
  static struct meter meter = {.counters = {-1, -1}};
  meter.page = open_page(argv[1]);
  if (!meter.page) return complain(argv[1], EINVAL);
  int far[2];
  if (far_sockets(argv[4], argv + 5, far)) return complain("sockets at the far ends", 0);
  for (int i = 0; i < BATCH; i++) {
    parts[i].iov_base = frames[i];
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  meter_open(&meter, 1);
  meter.page->attached = 3;
  printf("veth_source ready\n");
  fflush(stdout);
  return run(&meter, far, (const char **)argv + 2);
}
