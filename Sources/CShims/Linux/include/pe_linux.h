// Kernel interfaces that Swift cannot reach by itself; each function is one step and holds no policy.
#pragma once
#include <stdint.h>

/// Names the calling thread, as `ps -T` shows it; at most 15 bytes.
void pe_thread_name(const char *_Nonnull name);
