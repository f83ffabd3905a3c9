/*
 * Task-locals, the part that spawning and ending need: what a child inherits.
 */
#ifndef WEFT_TASK_TASK_LOCAL_H
#define WEFT_TASK_TASK_LOCAL_H

#include "task/task.h"

#include <weft/task_local.h>

/* Bindings of a child's own, below those of its blocks; on the heap, linked from the first to
 * NULL. */
struct weft__inherited {
    unsigned count;
    weft_task_local_binding binding[];
};

/* What a task spawned by the caller inherits; *ret NULL: nothing. -ENOMEM. -EOWNERDEAD: a copy
 * function has panicked, see weft__spawn_result(). */
int weft__inherit(struct weft__inherited **ret);
/* Drops copies that nobody has taken, contained, and frees it. NULL does nothing. */
void weft__inherited_drop(struct weft__inherited *in);
/* Where the locals of a task begin. */
static inline weft_task_local_binding *weft__inherited_top(struct weft__inherited *in)
{
    return in ? &in->binding[0] : NULL;
}

#endif
