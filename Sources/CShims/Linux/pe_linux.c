// What pe_linux.h declares.
#include "pe_linux.h"
#include <pthread.h>

void pe_thread_name(const char *name) { pthread_setname_np(pthread_self(), name); }
