/*
 * Tasks that stay on one worker, and with it on one thread, for a while or for good.
 *
 * Pinned is a bit of the task's route and the index of the worker: who wakes the task finds it
 * there and queues it with that worker alone (sched/queues.c). Only the task itself sets and clears
 * the bit while it runs, so nobody who wakes it sees it change.
 */
#include "task/panic.h"
#include "task/task.h"

#include <errno.h>

void weft__task_pin(struct weft__task *t, uint32_t home)
{
    /* An or, since others may set the class meanwhile. relaxed: who queues the task took it out of
     * PARKED, after which it sees all that the task wrote. */
    weft__a32_or_relaxed(&t->route, WEFT__ROUTE_PINNED | home << WEFT__ROUTE_HOME_SHIFT);
}

static void unpin(struct weft__task *t)
{
    weft__a32_and_relaxed(&t->route, ~(WEFT__ROUTE_PINNED | UINT32_MAX << WEFT__ROUTE_HOME_SHIFT));
}

void weft__pin_set_depth(struct weft__locals *l, uint32_t depth)
{
    bool was_pinned = l->pin_depth > 0;
    l->pin_depth = depth;
    struct weft__task *t = weft__task_current();
    if (t == NULL || t->kind != WEFT__TASK_FIBER || was_pinned == (depth > 0) ||
        (weft__a32_load_relaxed(&t->route) & WEFT__ROUTE_PINNED_BORN))
        return; /* a thread; a future, which does not wait inside; pinned in any case */
    if (depth == 0) {
        unpin(t);
        return;
    }
    int home = t->core->ops->pin_home ? t->core->ops->pin_home(t->core) : -1;
    if (home >= 0)
        weft__task_pin(t, (uint32_t)home);
}

int weft_pin(void)
{
    struct weft__locals *l = weft__locals_now();
    struct weft__task *t = weft__task_current();
    if (t && t->kind == WEFT__TASK_FUTURE)
        return weft__misuse("weft_pin", -EPERM,
                            "a polled future is pinned when it is spawned: options.pinned",
                            WEFT__CALLER);
    if (l->pin_depth >= UINT16_MAX)
        return weft__misuse("weft_pin", -EOVERFLOW,
                            "it was called 65,535 times without "
                            "weft_unpin()",
                            WEFT__CALLER);
    weft__pin_set_depth(l, l->pin_depth + 1);
    return 0;
}

int weft_unpin(void)
{
    struct weft__locals *l = weft__locals_now();
    if (l->pin_depth == 0)
        return weft__misuse("weft_unpin", -EINVAL, "it was called more often than weft_pin()",
                            WEFT__CALLER);
    weft__pin_set_depth(l, l->pin_depth - 1);
    return 0;
}

bool weft_self_is_pinned(void)
{
    struct weft__task *t = weft__task_current();
    return t == NULL || t->kind >= WEFT__TASK_BLOCKING || t->core->route_pinned == 0 ||
           weft__task_is_pinned(t);
}
