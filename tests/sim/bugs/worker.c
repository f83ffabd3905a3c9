/*
 * The workers of the library, but for how a task parks: the linker finds all that its worker.c has
 * here, and so leaves that one out.
 */
#include "bugs.h"

#define weft__task_confirm_parked broken_confirm_parked
#include "../../../src/sched/worker.c"
