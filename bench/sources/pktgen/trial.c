// The loops of a trial: paced sending, receiving, and the books of both.
#include "trial.h"
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_mbuf.h>
#include <stdlib.h>
#include <string.h>

// A loop that takes longer than this was not at work but kept from it: no driver needs it for two bursts.
#define PAUSE 250e-6

bool trial_prepare(struct trial *t, const struct traffic *traffic) {
  t->traffic = traffic;
  for (int d = 0; d < DIRECTIONS; d++) {
    struct lane *lane = &t->lanes[d];
    sender_init(&lane->sender, traffic, (enum direction)d);
    lane->outer = received_outer(traffic, (enum direction)d);
    lane->tag = received_tag(traffic, (enum direction)d);
    lane->window = calloc(WINDOW / 64, sizeof(uint64_t));
    lane->last = calloc(traffic->flows, sizeof(uint32_t));
    lane->latency = calloc(BUCKETS, sizeof(uint64_t));
    if (!lane->window || !lane->last || !lane->latency) return false;
  }
  return true;
}
void trial_release(struct trial *t) {
  for (int d = 0; d < DIRECTIONS; d++) {
    free(t->lanes[d].window);
    free(t->lanes[d].last);
    free(t->lanes[d].latency);
    t->lanes[d].window = NULL;
    t->lanes[d].last = NULL;
    t->lanes[d].latency = NULL;
  }
}

static inline uint32_t latency_bucket(uint64_t ticks) {
  if (ticks < SUB_BUCKETS) return (uint32_t)ticks;
  uint32_t exponent = 63 - (uint32_t)__builtin_clzll(ticks);
  uint32_t index = (exponent - 4) * SUB_BUCKETS + (uint32_t)(ticks >> (exponent - 5)) - SUB_BUCKETS;
  return index < BUCKETS ? index : BUCKETS - 1;
}
uint64_t latency_edge(uint32_t index) {
  if (index < 2 * SUB_BUCKETS) return index;
  uint32_t exponent = index / SUB_BUCKETS + 4;
  return (uint64_t)(index % SUB_BUCKETS + SUB_BUCKETS) << (exponent - 5);
}

static inline void note_gap(struct gaps *gaps, uint64_t ticks) {
  uint32_t power = latency_bucket(ticks) / SUB_BUCKETS;
  gaps->buckets[power < GAP_BUCKETS ? power : GAP_BUCKETS - 1]++;
  gaps->sum += ticks;
  if (ticks > gaps->longest) gaps->longest = ticks;
}

static void reset(struct trial *t) {
  for (int d = 0; d < DIRECTIONS; d++) {
    struct lane *lane = &t->lanes[d];
    sender_seek(&lane->sender, 0);
    lane->sent = lane->refused = lane->skipped = lane->no_buffers = lane->intended = lane->end = 0;
    lane->received = lane->duplicates = lane->reordered = lane->too_old = lane->checked = lane->faulty = 0;
    lane->latency_count = lane->latency_sum = lane->latency_max = 0;
    lane->latency_min = UINT64_MAX;
    lane->newest = 0;
    memset(lane->window, 0, WINDOW / 8);
    memset(lane->last, 0, t->traffic->flows * sizeof(uint32_t));
    memset(lane->latency, 0, BUCKETS * sizeof(uint64_t));
    memset(lane->faults, 0, sizeof lane->faults);
  }
  t->late = t->misdirected = t->foreign = t->away = 0;
  memset(&t->receive_gaps, 0, sizeof t->receive_gaps);
  memset(&t->send_gaps, 0, sizeof t->send_gaps);
  t->sending_done = false;
}

// Marks `sequence` as seen; true when it was seen before. Numbers that the window has left are forgotten.
static inline bool seen(struct lane *lane, uint32_t sequence) {
  if (sequence >= lane->newest) {
    uint32_t from = lane->newest, count = sequence + 1 - from;
    if (count == 1) {
      lane->window[from % WINDOW / 64] &= ~(1ull << from % 64);
    } else if (count >= WINDOW) {
      memset(lane->window, 0, WINDOW / 8);
    } else {
      for (uint32_t n = from; n <= sequence; n++) lane->window[n % WINDOW / 64] &= ~(1ull << n % 64);
    }
    lane->newest = sequence + 1;
  } else if (lane->newest - sequence > WINDOW) {
    lane->too_old++;
    return false;
  }
  uint64_t *word = &lane->window[sequence % WINDOW / 64], bit = 1ull << sequence % 64;
  bool before = *word & bit;
  *word |= bit;
  return before;
}

static void note_fault(struct lane *lane, const char *text) {
  lane->faulty++;
  for (int i = 0; i < FAULT_KINDS; i++) {
    if (!lane->faults[i].text) lane->faults[i].text = text;
    if (lane->faults[i].text == text) {
      lane->faults[i].count++;
      return;
    }
  }
}

static void check_frame(struct trial *t, struct lane *lane, struct rte_mbuf *m, const struct mark *mark) {
  uint8_t copy[16384];
  const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);
  if (m->data_len != m->pkt_len) {
    if (m->pkt_len > sizeof copy) return;
    frame = rte_pktmbuf_read(m, 0, m->pkt_len, copy);
  }
  lane->checked++;
  const char *fault = frame_fault(t->traffic, frame, m->pkt_len, mark);
  if (fault) note_fault(lane, fault);
}

// A frame that has no mark where it should be.
static void account_stranger(struct trial *t, const uint8_t *frame, uint32_t length) {
  struct mark mark;
  if (mark_find(frame, length, &mark) == NO_FRAME) t->foreign++;
  else if (mark.trial != t->order.number) t->late++;
  else t->misdirected++;
}

static inline void account(struct trial *t, struct lane *lane, struct rte_mbuf *m, uint64_t now) {
  const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);
  struct mark mark;
  if (!mark_read(frame, m->data_len, lane->outer, lane->tag, &mark)) {
    account_stranger(t, frame, m->data_len);
    return;
  }
  if (mark.trial != t->order.number) { t->late++; return; }
  if (mark.direction != lane->sender.direction) { t->misdirected++; return; }
  if (seen(lane, mark.sequence)) { lane->duplicates++; return; }
  lane->received++;
  if (mark.flow < t->traffic->flows) {
    if (mark.sequence < lane->last[mark.flow]) lane->reordered++;
    else lane->last[mark.flow] = mark.sequence + 1;
  }
  uint64_t ticks = (now - mark.stamp) & 0xffffffffffffull;
  lane->latency[latency_bucket(ticks)]++;
  lane->latency_count++;
  lane->latency_sum += ticks;
  if (ticks < lane->latency_min) lane->latency_min = ticks;
  if (ticks > lane->latency_max) lane->latency_max = ticks;
  if ((lane->received & (t->order.check - 1)) == 1 || t->order.check == 1) check_frame(t, lane, m, &mark);
}

// The lane whose frames `port` receives.
static inline struct lane *lane_of(struct trial *t, uint16_t port) {
  return &t->lanes[t->lanes[ENCAP].rx_port == port ? ENCAP : DECAP];
}

static inline void receive(struct trial *t) {
  struct rte_mbuf *burst[MAX_BURST];
  for (int side = 0; side < 2; side++) {
    uint16_t port = t->ports[side];
    for (uint16_t queue = 0; queue < t->queues; queue++) {
      uint16_t count = rte_eth_rx_burst(port, queue, burst, MAX_BURST);
      if (!count) continue;
      uint64_t now = rte_rdtsc();
      struct lane *lane = lane_of(t, port);
      for (uint16_t i = 0; i < count; i++) {
        if (i + 2 < count) rte_prefetch0(rte_pktmbuf_mtod(burst[i + 2], void *));
        account(t, lane, burst[i], now);
      }
      rte_pktmbuf_free_bulk(burst, count);
    }
  }
}

// Frames of `lane` that are due and may be sent now. No more than 20 microseconds' worth is caught up on:
// the rest was not offered, and is counted as skipped. Pauses are not owed: they stop the clock.
static inline uint32_t credit(struct trial *t, struct lane *lane, uint64_t now, double per_tick) {
  uint64_t done = lane->sent + lane->skipped + (t->order.retry ? 0 : lane->refused);
  if (t->order.frames && done >= t->order.frames) return 0;
  if (per_tick == 0) return t->order.burst;
  uint64_t worked = now - t->begin > t->away ? now - t->begin - t->away : 0;
  uint64_t due = (uint64_t)((double)worked * per_tick) + 1;
  if (due <= done) return 0;
  uint64_t owed = due - done, limit = (uint64_t)(per_tick * (double)rte_get_tsc_hz() * 20e-6) + 2 * t->order.burst;
  if (owed > limit) {
    lane->skipped += owed - limit;
    owed = limit;
  }
  return owed < t->order.burst ? (uint32_t)owed : t->order.burst;
}

static inline void transmit(struct trial *t, struct lane *lane, uint32_t count) {
  struct rte_mbuf *burst[MAX_BURST];
  if (rte_pktmbuf_alloc_bulk(t->pool, burst, count)) {
    lane->no_buffers++;
    return;
  }
  uint64_t stamp = rte_rdtsc();
  for (uint32_t i = 0; i < count; i++) {
    uint8_t *frame = rte_pktmbuf_mtod(burst[i], uint8_t *);
    uint32_t length = sender_write(&lane->sender, frame, t->order.number, (uint32_t)lane->sent + i, stamp);
    burst[i]->data_len = (uint16_t)length;
    burst[i]->pkt_len = length;
  }
  uint16_t taken = rte_eth_tx_burst(lane->tx_port, 0, burst, (uint16_t)count);
  lane->sent += taken;
  lane->end = rte_rdtsc();
  if (taken < count) {
    lane->refused += count - taken;
    sender_back(&lane->sender, count - taken);
    rte_pktmbuf_free_bulk(burst + taken, count - taken);
  }
}

// Whether everything that was sent has come back.
static bool is_complete(const struct trial *t) {
  for (int d = 0; d < DIRECTIONS; d++)
    if (t->lanes[d].received < t->lanes[d].sent) return false;
  return true;
}

static bool sending(struct trial *t, uint64_t now, uint64_t end, double per_tick) {
  bool more = false;
  for (int d = 0; d < DIRECTIONS; d++) {
    if (!t->order.directions[d]) continue;
    struct lane *lane = &t->lanes[d];
    uint32_t count = credit(t, lane, now < end ? now : end, per_tick);
    if (count && now < end) transmit(t, lane, count);
    if (!t->order.frames || lane->sent + lane->skipped + lane->refused < t->order.frames) more = true;
  }
  return more && now < end;
}

// What is received while nothing is sent any more; ends when all is here or the time is over.
static void drain(struct trial *t, struct gaps *gaps) {
  uint64_t end = rte_rdtsc() + (uint64_t)(t->order.drain * (double)rte_get_tsc_hz()), last = rte_rdtsc();
  while (!t->stop && last < end && !is_complete(t)) {
    receive(t);
    uint64_t now = rte_rdtsc();
    note_gap(gaps, now - last);
    last = now;
  }
  // A duplicate comes after its original.
  for (int i = 0; i < 64; i++) receive(t);
}

static int receive_loop(void *argument) {
  struct trial *t = argument;
  uint64_t last = rte_rdtsc();
  while (!t->sending_done && !t->stop) {
    receive(t);
    uint64_t now = rte_rdtsc();
    note_gap(&t->receive_gaps, now - last);
    last = now;
  }
  drain(t, &t->receive_gaps);
  return 0;
}

// Frees what earlier trials left in the receive queues.
static void discard_old(struct trial *t) {
  struct rte_mbuf *burst[MAX_BURST];
  for (int side = 0; side < 2; side++)
    for (uint16_t queue = 0; queue < t->queues; queue++)
      for (int i = 0; i < 256; i++) {
        uint16_t count = rte_eth_rx_burst(t->ports[side], queue, burst, MAX_BURST);
        if (!count) break;
        rte_pktmbuf_free_bulk(burst, count);
      }
}

void trial_run(struct trial *t) {
  reset(t);
  discard_old(t);
  double hz = (double)rte_get_tsc_hz(), per_tick = t->order.rate / hz;
  if (t->two_lcores) rte_eal_remote_launch(receive_loop, t, t->receive_lcore);
  t->begin = rte_rdtsc();
  uint64_t asked = (uint64_t)(t->order.seconds * hz), last = t->begin, pause = (uint64_t)(PAUSE * hz);
  uint64_t latest = t->begin + 3 * asked + (uint64_t)(0.05 * hz);
  while (!t->stop) {
    uint64_t now = rte_rdtsc();
    note_gap(&t->send_gaps, now - last);
    if (now - last > pause) t->away += now - last;
    last = now;
    uint64_t end = t->begin + asked + t->away;
    if (!sending(t, now, end < latest ? end : latest, per_tick)) break;
    if (!t->two_lcores) receive(t);
  }
  t->sent_seconds = (double)(rte_rdtsc() - t->begin - t->away) / hz;
  t->sending_done = true;
  if (t->two_lcores) rte_eal_wait_lcore(t->receive_lcore);
  else drain(t, &t->send_gaps);
  for (int d = 0; d < DIRECTIONS; d++) {
    struct lane *lane = &t->lanes[d];
    if (!t->order.directions[d]) continue;
    double seconds = t->sent_seconds < t->order.seconds ? t->sent_seconds : t->order.seconds;
    lane->intended = t->order.rate ? (uint64_t)(t->order.rate * seconds) : lane->sent + lane->refused;
    if (t->order.frames && lane->intended > t->order.frames) lane->intended = t->order.frames;
  }
}
