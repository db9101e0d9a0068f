// The generator of bench/pktgen: opens two ports, then runs one trial for each line of JSON it reads.
//
// usage: pktgen EAL-ARGUMENTS -- PORT-A PORT-B [QUEUES]
//
// Commands and answers are in docs/pktgen.md, "The generator alone". Errors are {"event":"error"}; the
// program goes on with the next line, and ends at the end of its input, on "quit", SIGINT or SIGTERM.
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "json.h"
#include "ports.h"
#include "trial.h"

enum { BUFFERS = 8192, MOST_QUEUES = 4, MOST_FLOWS = 1 << 24 };

static struct trial trial;
static struct traffic traffic;
static struct port ports[2];
static bool prepared;
static const char *const DIRECTION_NAMES[DIRECTIONS] = {"encap", "decap"};

static void on_signal(int number) {
  (void)number;
  trial.stop = true;
}

static void print_error(const char *text) {
  printf("{\"event\":\"error\",\"message\":");
  json_print(text);
  printf("}\n");
}

static double nanoseconds(uint64_t ticks) { return (double)ticks * 1e9 / (double)rte_get_tsc_hz(); }

static void print_ports(void) {
  printf("{\"event\":\"ports\",\"tscHz\":%lu,\"lcores\":%u,\"hugepages\":%s,\"ports\":[", rte_get_tsc_hz(),
         rte_lcore_count(), rte_eal_has_hugepages() ? "true" : "false");
  for (int side = 0; side < 2; side++) {
    uint32_t megabits;
    bool up = port_link(&ports[side], &megabits);
    printf("%s{\"name\":", side ? "," : "");
    json_print(ports[side].name);
    printf(",\"driver\":\"%s\",\"physical\":%s,\"up\":%s,\"megabits\":%u,\"rxSlots\":%u,\"txSlots\":%u}",
           ports[side].driver, ports[side].physical ? "true" : "false", up ? "true" : "false", megabits,
           ports[side].rx_slots, ports[side].tx_slots);
  }
  printf("]}\n");
}

// A whole number of `name` between `low` and `high`; false when it is none.
static bool count_of(const struct json *j, const char *name, double otherwise, double low, double high,
                     uint32_t *into) {
  double value = json_number(j, name, otherwise);
  if (!(value >= low && value <= high) || value != (double)(uint32_t)value) return false;
  *into = (uint32_t)value;
  return true;
}

// Sizes in memory, as "60,60,590"; false when one is out of bounds.
static bool sizes_of(const char *text, struct traffic *t) {
  for (t->size_count = 0; *text;) {
    char *end;
    unsigned long size = strtoul(text, &end, 10);
    if (end == text || size < 60 || size > 1514 || t->size_count == MAX_SIZES) return false;
    t->sizes[t->size_count++] = (uint32_t)size;
    if (*end && (*end != ',' || !end[1])) return false;
    text = *end ? end + 1 : end;
  }
  return t->size_count > 0;
}

static const char *set_traffic(const struct json *j) {
  struct traffic t = {0};
  uint32_t service;
  if (!count_of(j, "service", 0, BRIDGED, UNCHANGED, &service)) return "service: 0 bridged, 1 routed, 2 unchanged";
  t.service = (enum service)service;
  t.ipv6 = json_number(j, "ipv6", 0) != 0;
  if (!count_of(j, "flows", 1, 1, MOST_FLOWS, &t.flows)) return "flows: 1 to 16777216";
  if (!count_of(j, "macs", 1, 1, MOST_FLOWS, &t.macs)) return "macs: 1 to 16777216";
  if (!count_of(j, "locals", 1, 1, 1024, &t.locals)) return "locals: 1 to 1024";
  if (!count_of(j, "vnis", 1, 1, 4000, &t.vnis)) return "vnis: 1 to 4000";
  if (!count_of(j, "vteps", 1, 1, 1024, &t.vteps)) return "vteps: 1 to 1024";
  if (!sizes_of(json_text(j, "sizes", "60"), &t)) return "sizes: up to 12 of 60 to 1514, separated by commas";
  if (prepared) trial_release(&trial);
  prepared = false;
  traffic = t;
  if (!trial_prepare(&trial, &traffic)) {
    trial_release(&trial);
    return "no memory for so many flows";
  }
  for (int d = 0; d < DIRECTIONS; d++) {
    trial.lanes[d].tx_port = ports[d == DECAP ? 0 : 1].id;
    trial.lanes[d].rx_port = ports[d == DECAP ? 1 : 0].id;
  }
  prepared = true;
  printf("{\"event\":\"traffic\"}\n");
  return NULL;
}

// Frames of a direction, from one on, in hexadecimal: headers and mark only. What a test compares.
static const char *print_frames(const struct json *j) {
  if (!prepared) return "no traffic yet";
  uint32_t first, count, direction;
  if (!count_of(j, "first", 0, 0, 4e9, &first) || !count_of(j, "count", 1, 1, 4096, &count) ||
      !count_of(j, "direction", 0, 0, 1, &direction))
    return "first: 0 to 4e9; count: 1 to 4096; direction: 0 or 1";
  struct sender *sender = &trial.lanes[direction].sender;
  sender_seek(sender, first);
  printf("{\"event\":\"frames\",\"frames\":[");
  for (uint32_t i = 0; i < count; i++) {
    uint8_t frame[MAX_HEADER + 1536] = {0};
    uint32_t length = sender_write(sender, frame, 1, first + i, 0);
    printf("%s{\"length\":%u,\"bytes\":\"", i ? "," : "", length);
    for (uint32_t b = 0; b < length && b < MAX_HEADER; b++) printf("%02x", frame[b]);
    printf("\"}");
  }
  printf("]}\n");
  return NULL;
}

static void print_gaps(const char *name, const struct gaps *gaps) {
  printf("\"%s\":{\"longest\":%.0f,\"histogram\":[", name, nanoseconds(gaps->longest));
  const char *comma = "";
  for (uint32_t i = 0; i < GAP_BUCKETS; i++) {
    if (!gaps->buckets[i]) continue;
    printf("%s[%.0f,%lu]", comma, nanoseconds(latency_edge(i * SUB_BUCKETS)), gaps->buckets[i]);
    comma = ",";
  }
  printf("]}");
}

static void print_latency(const struct lane *lane) {
  bool any = lane->latency_count > 0;
  printf("\"latency\":{\"count\":%lu,\"min\":%.0f,\"max\":%.0f,\"mean\":%.1f,\"histogram\":[", lane->latency_count,
         any ? nanoseconds(lane->latency_min) : 0, nanoseconds(lane->latency_max),
         any ? nanoseconds(lane->latency_sum) / (double)lane->latency_count : 0);
  const char *comma = "";
  for (uint32_t i = 0; i < BUCKETS; i++) {
    if (!lane->latency[i]) continue;
    // The upper edge: a percentile read from it is never too small.
    printf("%s[%.0f,%lu]", comma, nanoseconds(latency_edge(i + 1)), lane->latency[i]);
    comma = ",";
  }
  printf("]}");
}

static void print_lane(const struct lane *lane, const char *name) {
  printf("{\"name\":\"%s\",\"intended\":%lu,\"sent\":%lu,\"refused\":%lu,\"skipped\":%lu,\"noBuffers\":%lu,", name,
         lane->intended, lane->sent, lane->refused, lane->skipped, lane->no_buffers);
  printf("\"received\":%lu,\"duplicates\":%lu,\"reordered\":%lu,\"tooOld\":%lu,\"checked\":%lu,\"faulty\":%lu,",
         lane->received, lane->duplicates, lane->reordered, lane->too_old, lane->checked, lane->faulty);
  printf("\"faults\":{");
  for (int i = 0; i < FAULT_KINDS && lane->faults[i].text; i++)
    printf("%s\"%s\":%lu", i ? "," : "", lane->faults[i].text, lane->faults[i].count);
  printf("},");
  print_latency(lane);
  printf("}");
}

static void print_trial(void) {
  printf("{\"event\":\"trial\",\"number\":%u,\"seconds\":%.6f,\"away\":%.6f,\"stopped\":%s,\"directions\":[",
         trial.order.number, trial.sent_seconds, (double)trial.away / (double)rte_get_tsc_hz(),
         trial.stop ? "true" : "false");
  const char *comma = "";
  for (int d = 0; d < DIRECTIONS; d++) {
    if (!trial.order.directions[d]) continue;
    printf("%s", comma);
    print_lane(&trial.lanes[d], DIRECTION_NAMES[d]);
    comma = ",";
  }
  printf("],\"late\":%lu,\"misdirected\":%lu,\"foreign\":%lu,\"portMissed\":[%lu,%lu],", trial.late,
         trial.misdirected, trial.foreign, port_take_missed(&ports[0]), port_take_missed(&ports[1]));
  print_gaps("sendGaps", &trial.send_gaps);
  printf(",");
  print_gaps("receiveGaps", trial.two_lcores ? &trial.receive_gaps : &trial.send_gaps);
  printf("}\n");
}

static const char *run_trial(const struct json *j) {
  if (!prepared) return "no traffic yet";
  struct order order = {0};
  uint32_t directions, check, burst;
  order.rate = json_number(j, "rate", -1);
  order.seconds = json_number(j, "seconds", -1);
  order.drain = json_number(j, "drain", 0.1);
  double frames = json_number(j, "frames", 0);
  if (!(order.rate >= 0 && order.rate <= 1e9)) return "rate: frames a second, 0 to 1e9 (0: as fast as possible)";
  if (!(order.seconds > 0 && order.seconds <= 3600)) return "seconds: above 0, at most 3600";
  if (!(order.drain >= 0 && order.drain <= 60)) return "drain: 0 to 60 seconds";
  if (!(frames >= 0 && frames <= 4e9) || order.rate * order.seconds > 4e9) return "more than 4e9 frames in a trial";
  if (!count_of(j, "directions", 3, 1, 3, &directions)) return "directions: 1 encap, 2 decap, 3 both";
  if (!count_of(j, "check", 64, 1, 1 << 20, &check) || (check & (check - 1))) return "check: a power of two";
  if (!count_of(j, "burst", 32, 1, MAX_BURST, &burst)) return "burst: 1 to 64";
  order.frames = (uint64_t)frames;
  order.check = check;
  order.burst = burst;
  order.directions[ENCAP] = directions & 1;
  order.directions[DECAP] = directions & 2;
  order.retry = json_number(j, "retry", ports[0].physical || ports[1].physical) != 0;
  order.number = (uint16_t)(trial.order.number % 0x7ffe + 1);
  trial.order = order;
  trial_run(&trial);
  print_trial();
  return NULL;
}

static bool obey(const char *line) {
  static struct json j;
  const char *fault = json_parse(line, &j);
  const char *command = fault ? "" : json_text(&j, "command", "");
  if (fault) { print_error(fault); return true; }
  if (!strcmp(command, "quit")) return false;
  if (!strcmp(command, "ports")) print_ports();
  else if (!strcmp(command, "traffic")) fault = set_traffic(&j);
  else if (!strcmp(command, "frames")) fault = print_frames(&j);
  else if (!strcmp(command, "trial")) fault = run_trial(&j);
  else fault = "command: ports, traffic, frames, trial or quit";
  if (fault) print_error(fault);
  return true;
}

static bool open_ports(char **names, uint16_t queues) {
  uint16_t room = 2176 + RTE_PKTMBUF_HEADROOM;
  trial.pool = rte_pktmbuf_pool_create("frames", BUFFERS * (1u + queues) - 1, 256, 0, room, (int)rte_socket_id());
  if (!trial.pool) { print_error("no memory for packet buffers; give EAL more with -m"); return false; }
  for (int side = 0; side < 2; side++) {
    const char *fault = port_open(&ports[side], names[side], queues, trial.pool);
    if (fault) { print_error(fault); return false; }
    trial.ports[side] = ports[side].id;
  }
  trial.queues = queues;
  trial.receive_lcore = rte_get_next_lcore((unsigned)-1, 1, 0);
  trial.two_lcores = rte_lcore_count() > 1;
  return true;
}

int main(int count, char **arguments) {
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  int used = rte_eal_init(count, arguments);
  if (used < 0) { print_error("EAL did not start; its own words are on standard error"); fflush(stdout); return 1; }
  count -= used;
  arguments += used;
  if (count < 3 || count > 4 || (count == 4 && (atoi(arguments[3]) < 1 || atoi(arguments[3]) > MOST_QUEUES))) {
    fprintf(stderr, "usage: pktgen EAL-ARGUMENTS -- PORT-A PORT-B [QUEUES, 1 to 4]\n");
    return 2;
  }
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  bool open = open_ports(arguments + 1, count == 4 ? (uint16_t)atoi(arguments[3]) : 1);
  if (open) print_ports();
  fflush(stdout);
  char *line = NULL;
  size_t room = 0;
  while (open && !trial.stop && getline(&line, &room, stdin) >= 0) {
    bool more = obey(line);
    fflush(stdout);
    if (!more) break;
  }
  free(line);
  for (int side = 0; open && side < 2; side++) port_close(&ports[side]);
  return open ? 0 : 1;
}
