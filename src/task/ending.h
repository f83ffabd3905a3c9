/*
 * Ends that come from outside: a thread that ends under a task, a process that was forked in the
 * middle of one.
 */
#ifndef WEFT_TASK_ENDING_H
#define WEFT_TASK_ENDING_H

#include "task/task.h"

/* For weft__sys_thread_end_init(): kills the process, saying why, when the thread ran something of
 * a runtime. What a task stood on is gone then, and with it the worker. */
void weft__thread_has_ended(void);

/* The body of t has returned, or panicked. In a forked child that is the end of the process: there
 * is no worker to return to, and the tasks in its queues are the parent's. */
WEFT__NORETURN void weft__end_child(const struct weft__task *t);
/* Cheap: a fork() leaves its task without budget. Not so a child of the bare system call, which
 * must not return. */
static inline void weft__task_body_returned(const struct weft__task *t)
{
    if (WEFT__UNLIKELY(t->budget == 0) && weft__core_is_ancestral(t->core))
        weft__end_child(t);
}

/* A destructor or a cancellation that weft called for a task of core has returned, or a function of
 * the log, with which a thread of core told of it. In a forked child that is the end as well, and
 * at once: what follows takes locks, which threads that are not here may have held. */
static inline void weft__callback_returned(const struct weft__core *core)
{
    if (WEFT__UNLIKELY(weft__core_is_ancestral(core)))
        weft__end_child(NULL);
}

/* In a forked child that starts a runtime of its own: its one thread leaves the task or the body
 * that it was forked in, and is a plain thread from now on. */
void weft__leave_ancestors(void);
/* In a forked child: of what threads outside all runtimes wait as (blocking.c). */
void weft__outside_forget(void);

#endif
