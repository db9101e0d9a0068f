// The C twin of the worker's known-unicast path: what the Swift fast path is compared with.
//
// It reads the tables that the Swift worker reads, where they lie, and does the same work for a packet
// whose destination is known. Everything else it counts as unsupported: a run with such a packet is no
// comparison, and the caller must say so.
#pragma once
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

/// One field as tables.h lays it out: `name` is "Type.field"; "Type" alone is a type's size.
typedef struct twin_field {
  const char *_Nullable name;
  uint32_t offset;
} twin_field;
/// The fields that the twin reads or writes; the name of the one behind the last is NULL.
const twin_field *twin_fields(void);

typedef struct twin_worker twin_worker;

/// Copies of what a Swift worker has, as they lie in memory.
typedef struct twin_views {
  /// PublicationReader, CounterView, LearnRing and WorkerIO.
  const void *reader, *counters, *learning, *io;
  /// What Tunnel.unusable is in memory when packets can go.
  uint8_t usable;
} twin_views;

/// NULL when there is no memory. What the views point to must outlive the worker.
twin_worker *_Nullable twin_worker_create(const twin_views *views);
void twin_worker_free(twin_worker *worker);
/// Polls until at least `packets` packets came; returns how many did.
uint64_t twin_worker_poll(twin_worker *worker, uint64_t packets);
/// Packets that it could not handle since it was made, and why the first could not; NULL without any.
uint64_t twin_worker_unsupported(const twin_worker *worker, const char *_Nullable *_Nonnull why);
#pragma clang assume_nonnull end
