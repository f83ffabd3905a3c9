/*
 * The runtime: scheduler, driver and blocking pool under one roof.
 */
#ifndef WEFT_RUNTIME_RUNTIME_INTERNAL_H
#define WEFT_RUNTIME_RUNTIME_INTERNAL_H

#include "blocking/pool.h"
#include "sched/sched.h"

#include <weft/runtime.h>

struct weft_runtime {
    struct weft__sched sched; /* first: core, scheduler and runtime are one object */
    struct weft__pool pool;
    struct weft_runtime *next; /* of the process; see dump.c */
    uint64_t grace_ends_ns;    /* of the shutdown; 0: none has begun. By who shuts it down */
    bool is_simulated;         /* in a simulation */
};

static inline struct weft_runtime *weft__runtime_of(struct weft__core *core)
{
    return (struct weft_runtime *)core;
}

/* 0, or -EINVAL with a log line that names the setting. */
int weft__config_check(const weft_config *c, const void *caller);

uint64_t weft__runtime_id_take(void);
/* Before the first stack is made: the fault handler and the like. -ENOTSUP, reported. */
int weft__runtime_prepare(const char *call, const void *caller);
/* Makes *ret the outcome of a body that has ended, or drops it when ret is NULL. */
void weft__outcome_give(weft_outcome *ret, weft_panic_info *info, bool was_aborted, void *value);
/* core_ops.count_outside, of runtimes and of local sets. */
void weft__runtime_count_outside(struct weft__core *core, int by);

/* Refuses new tasks and aborts those that live. */
void weft__runtime_stop(struct weft_runtime *rt);

/* False on a thread that runs a task, a body of weft_block_on() or a hook. */
bool weft__may_block(void);
/* Waits until no task is alive; drives a current_thread runtime meanwhile. False at deadline_ns. */
bool weft__runtime_wait_quiescent(struct weft_runtime *rt, uint64_t deadline_ns);
/* Aborts until nothing is alive, or until deadline_ns: false then. */
bool weft__runtime_drain(struct weft_runtime *rt, uint64_t deadline_ns);
/* After everything has ended: threads end, memory goes with the last reference. */
void weft__runtime_teardown(struct weft_runtime *rt);

/* ---- dump.c ---- */

void weft__runtime_list_add(struct weft_runtime *rt);
void weft__runtime_list_remove(struct weft_runtime *rt); /* one that is not in it: nothing */
/* The one with the next higher id, with a reference; NULL: none. So the list may change during a
 * walk. None of a simulation: who wakes a task there from outside wakes nobody, who gives up the
 * last reference closes nothing, and the run would be another one. */
struct weft__core *weft__runtime_after(uint64_t id);
/* Once: from now on exit() halts the workers first. */
void weft__exit_init(void);
/* In a forked child that starts anew: none is left, and no thread that dumps. */
void weft__runtime_list_forget(void);

/* ---- drive.c: current_thread ---- */

/* Drives the runtime on the calling thread, taking turns with others that want to, until
 * is_done(arg) or deadline_ns. `waiter`: a thread task of the caller, which is woken when is_done
 * may have become true while another thread drives; NULL: it looks every now and then. 0 or
 * -ETIMEDOUT. */
int weft__runtime_drive(struct weft_runtime *rt, bool (*is_done)(void *arg), void *arg,
                        uint64_t deadline_ns, struct weft__task *waiter);
/* Waits until nobody drives, and keeps everybody from it. For a runtime in which nothing lives: the
 * last task may have ended on a thread that has not left the worker yet. */
void weft__runtime_end_driving(struct weft_runtime *rt);

#endif
