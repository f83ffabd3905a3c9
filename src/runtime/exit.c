/*
 * exit() while workers run: the static objects that tasks use are destroyed one after another. The
 * workers are halted before that, as far as they let themselves be.
 */
#include "runtime/runtime_internal.h"

#include "sched/halt.h"
#include "sys/virtual.h"

#include <stdlib.h>

/* A task that blocks for longer is not waited for; one that computes, or a thread that gets no CPU,
 * for as long as this. */
#define BLOCKED_NS (50 * WEFT_MS)
#define PATIENCE_NS WEFT_SEC

static void halt_all(void)
{
    struct weft__core *core;
    for (uint64_t id = 0; (core = weft__runtime_after(id)) != NULL; weft__core_unref(core)) {
        id = core->id;
        weft__sched_halt(weft__sched_of(core));
    }
    uint64_t waited_ns = 0;
    for (uint64_t id = 0; (core = weft__runtime_after(id)) != NULL; weft__core_unref(core)) {
        id = core->id;
        waited_ns = weft__sched_halt_wait(weft__sched_of(core), waited_ns, BLOCKED_NS, PATIENCE_NS);
    }
}

static void at_exit(void)
{
    if (weft__sys_is_forked_child())
        return; /* the threads are the parent's */
    /* exit() may be called in a simulation, whose threads do nothing meanwhile. */
    const struct weft__virtual *left = weft__virtual_leave();
    halt_all();
    weft__virtual_return(left);
}

/* Handlers run in the reverse order of their registration, as destructors do: this one before those
 * of all objects that were there when the first runtime was made. */
void weft__exit_init(void)
{
    (void)atexit(at_exit); /* without memory for it the workers go on, as they did before */
}
