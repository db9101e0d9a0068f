// Kernel interfaces that Swift cannot reach by itself; each function is one step and holds no policy.
#pragma once
#include <stdint.h>

