/*
 * Local sets: schedulers without a thread of their own. Tasks of other schedulers, and plain
 * threads, drive them on the thread they are bound to.
 *
 * A set is a scheduler with one worker. Its tasks run in a tick: the worker's loop, nested on the
 * stack of whoever drives, for a bounded number of runs and without sleeping. A task that drives
 * ticks whenever it would park or yield (struct weft__drive, task.h), so inside a tick it is
 * running as its own runtime sees it; with nothing ready in the set it parks as usual.
 *
 * Then it must be woken for the set as well as for what it waits for itself. It leaves a reference
 * to itself in `sleeper`, and looks once more at the queue; who queues a task from elsewhere looks
 * at `sleeper` afterwards, and takes it by an exchange: the reference, and the duty to wake. Both
 * store first and look then, all seq_cst: one sees the other. The earliest timer of the set is
 * armed for the driver on the wheel it waits by, or bounds the sleep of its thread.
 *
 * Of several drivers one is in `sleeper`. One that stops driving wakes another, which ticks, and
 * puts itself there when it parks again.
 */
#ifndef WEFT_SCHED_LOCAL_H
#define WEFT_SCHED_LOCAL_H

#include "sched/sched.h"

struct weft__local {
    struct weft__sched sched; /* first: a core is its scheduler */
    weft__aptr sleeper;       /* a parked driver, with a reference; by exchange */
    struct weft__lock lock;
    struct weft__node drivers; /* of struct weft__driving; under lock */
    /* drivers that wait for the last task; written under lock, read by ticks */
    weft__a32 end_waiters;
    uint64_t clock_of; /* id of the runtime whose time its clock says; 0: the system's. At home */
    /* The clock of the runtime that drives it; NULL: of none. Written under lock, at home or by the
     * last driver of that runtime when it goes. */
    weft__aptr follows;
};

/* In the frame of whoever drives, from begin to end. */
struct weft__driving {
    struct weft__drive drive; /* first */
    struct weft__local *set;
    struct weft__task *task;
    struct weft__node node;  /* in set->drivers */
    bool waits_for_end;      /* is woken when no task is left, and does not end with the set */
    struct weft__stack here; /* describes the stack that the loop is nested on */
};

static inline struct weft__local *weft__local_of(struct weft__core *core)
{
    return (struct weft__local *)core;
}

/* core_ops; the others are the scheduler's. */
void weft__local_enqueue(struct weft__core *core, struct weft__task *task);
struct weft__timers *weft__local_timers_here(struct weft__core *core);
void weft__local_timers_rearmed(struct weft__core *core, struct weft__timers *ts);
void weft__local_unhandled_panic(struct weft__core *core);

/* True while the calling thread, the home, is inside a tick of the set. */
bool weft__local_is_ticking(const struct weft__local *l);
/* `task`, which is current, drives the set from now on: a fiber that stays on the home thread, or a
 * thread task. */
void weft__local_begin(struct weft__driving *d, struct weft__local *set, struct weft__task *task,
                       bool waits_for_end);
/* Maybe on another thread, when the driver has moved. */
void weft__local_end(struct weft__driving *d);
/* By a driving task: runs what is ready in its sets, and parks; until woken, or deadline_ns. */
void weft__local_park_until(struct weft__task *self, uint64_t deadline_ns);
/* Aborts what lives; `bits` as weft__task_set_aborted(). */
void weft__local_abort_all(struct weft__local *l, uint64_t bits);

#endif
