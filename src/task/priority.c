#include "task/task.h"

#include <errno.h>

static bool is_class(enum weft_priority p)
{
    return p == WEFT_PRIORITY_NORMAL || p == WEFT_PRIORITY_URGENT || p == WEFT_PRIORITY_BACKGROUND;
}

static void set_class(struct weft__task *t, enum weft_priority p)
{
    uint32_t route = weft__a32_load_relaxed(&t->route), next;
    do {
        next = (route & ~WEFT__ROUTE_CLASS) | ((uint32_t)p - 1);
        /* relaxed: whoever queues the task reads the old class or the new one, either is fine */
    } while (!weft__a32_cas_weak_relaxed(&t->route, &route, next));
}

static enum weft_priority priority_of(const struct weft__task *t)
{
    return (enum weft_priority)(weft__task_class(t) + 1);
}

static struct weft__task *self_task(void)
{
    struct weft__ctx *c = weft__ctx_now();
    return !c ? NULL : c->current ? c->current : c->in_place_task;
}

int weft_self_set_priority(enum weft_priority priority)
{
    struct weft__task *t = self_task();
    if (!is_class(priority))
        return weft__misuse("weft_self_set_priority", -EINVAL, "the priority is unknown",
                            WEFT__CALLER);
    if (t == NULL)
        return weft__misuse("weft_self_set_priority", -EPERM, "the caller is no task",
                            WEFT__CALLER);
    set_class(t, priority);
    return 0;
}

enum weft_priority weft_self_priority(void)
{
    struct weft__task *t = self_task();
    return t ? priority_of(t) : WEFT_PRIORITY_NORMAL;
}

int weft_task_set_priority(weft_task *task, enum weft_priority priority)
{
    struct weft__task *t = weft__task_of_handle(task);
    if (!is_class(priority))
        return weft__misuse("weft_task_set_priority", -EINVAL, "the priority is unknown",
                            WEFT__CALLER);
    if (t == NULL)
        return weft__misuse(
            "weft_task_set_priority", -EINVAL,
            task ? "the handle was joined or detached before" : "the handle is NULL", WEFT__CALLER);
    set_class(t, priority);
    return 0;
}

enum weft_priority weft_task_priority(const weft_task *task)
{
    struct weft__task *t = weft__task_of_handle(task);
    return t ? priority_of(t) : WEFT_PRIORITY_NORMAL;
}
