// The traffic: which frame each sequence number stands for on each side of the device, and how one is checked.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// Side A faces the device's underlay port, side B its access port. A direction is named after what the
// device does with its frames.
enum direction { ENCAP, DECAP, DIRECTIONS };

// bridged: L2 VNI; routed: through a VRF's L3 VNI; unchanged: nothing is done to the frame (a cable, testpmd io).
enum service { BRIDGED, ROUTED, UNCHANGED };

enum { MAX_SIZES = 12, MAX_HEADER = 128, MARK_BYTES = 18, NO_FRAME = -1 };

// What the frames are; counts are at least 1.
struct traffic {
  enum service service;
  bool ipv6;               // the underlay
  uint32_t flows;          // 5-tuples
  uint32_t macs;           // remote hosts
  uint32_t locals;         // local hosts
  uint32_t vnis;           // VNIs; with more than one, access frames carry VLAN tag 1 + number
  uint32_t vteps;          // remote VTEPs
  uint32_t sizes[MAX_SIZES];  // inner frames in turn, bytes in memory (without FCS and tag)
  uint32_t size_count;
};

// What makes a frame: the sequence number chooses the flow and the size, the rest is in its mark.
struct mark {
  uint16_t trial;  // 15 bits
  enum direction direction;
  uint32_t sequence;
  uint32_t flow;
  uint64_t stamp;  // low 48 bits of the TSC
};

struct template {
  uint8_t bytes[MAX_HEADER];
  uint32_t length;
};
// Frames of one direction: a template for each size, in which a few fields differ by flow.
struct sender {
  const struct traffic *traffic;
  enum direction direction;
  uint32_t outer, tag;  // bytes before the inner frame, bytes of the VLAN tag
  struct template templates[MAX_SIZES];
  uint32_t next_size, next_flow;
};

// Prepares `s` for `direction`; `t` must outlive it.
void sender_init(struct sender *s, const struct traffic *t, enum direction direction);
// Goes to frame `sequence`; the first is 0.
void sender_seek(struct sender *s, uint32_t sequence);
// Writes the headers and the mark of the next frame; its length. Payload behind the mark stays as it is.
uint32_t sender_write(struct sender *s, uint8_t *frame, uint16_t trial, uint32_t sequence, uint64_t stamp);
// Takes the last `count` frames back: they were not sent.
void sender_back(struct sender *s, uint32_t count);
// Bytes that `sender_write` touches: how much room a frame needs at least.
uint32_t sender_header(const struct sender *s);

// Offset of the inner frame (and of its VLAN tag) in what the device sends for `direction`.
uint32_t received_outer(const struct traffic *t, enum direction direction);
uint32_t received_tag(const struct traffic *t, enum direction direction);
// Reads the mark of a frame whose inner frame (tag included) begins at `offset`; false when there is none.
bool mark_read(const uint8_t *frame, uint32_t length, uint32_t offset, uint32_t tag, struct mark *mark);
// Looks for a mark at every place where one of our frames can have it; its offset or NO_FRAME.
int mark_find(const uint8_t *frame, uint32_t length, struct mark *mark);

// What is wrong with a whole frame that the device sent; NULL when nothing is. Static text.
const char *frame_fault(const struct traffic *t, const uint8_t *frame, uint32_t length, const struct mark *mark);
