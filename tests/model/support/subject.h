/*
 * Tasks for models: a runtime for a few of them, each of which runs on a thread of the model, and
 * one to look at, the subject: it waits until flags are set. Transitions, spawn, join and
 * completion are the real ones. Tasks come from a real slab, so that a reference lost or dropped
 * twice shows as a slot that is missing or free twice.
 *
 * For one test file.
 */
#ifndef MODEL_SUBJECT_H
#define MODEL_SUBJECT_H

#include "model.h"

#include "task/panic.h"
#include "task/slab.h"
#include "task/spawn.h"
#include "task/state.h"

#include <errno.h>
#include <string.h>

#include <weft/base.h>

/* ---- a runtime for one or two tasks: each runs on a thread of the model ---- */

#define SLOTS 6

static struct weft__core core;
static struct weft__slab slab;
static struct weft__task slots[SLOTS];
static bool is_queued[SLOTS], is_running[SLOTS];
/* Stands for the context that a parked task leaves on its stack. Who queues the task must have seen
 * it: on the worker that takes the task from the queue it is read. */
static char saved_context[SLOTS];

static size_t index_of(const struct weft__task *t)
{
    return (size_t)(t - slots);
}

/* A task in two queues, or queued while it runs, would run on two workers. */
static void enqueue(struct weft__core *c, struct weft__task *t)
{
    (void)c;
    MODEL_CHECK(!is_queued[index_of(t)]);
    MODEL_CHECK(!is_running[index_of(t)]);
    WEFT__MODEL_READ(&saved_context[index_of(t)]);
    is_queued[index_of(t)] = true;
}

static bool task_is_queued(void *arg)
{
    return is_queued[index_of(arg)];
}

static void take_from_queue(struct weft__task *t)
{
    model_wait(task_is_queued, t, "to be queued");
    is_queued[index_of(t)] = false;
    is_running[index_of(t)] = true;
}

static void park(struct weft__task *self)
{
    WEFT__MODEL_WRITE(&saved_context[index_of(self)]);
    if (weft__task_confirm_parked(self)) { /* else as if queued and taken at once */
        is_running[index_of(self)] = false;
        take_from_queue(self);
    }
    WEFT__MODEL_WRITE(&saved_context[index_of(self)]); /* its stack is in use again */
}

static const struct weft__core_ops ops = {.enqueue = enqueue, .park = park, .start = enqueue};

static void core_init(void)
{
    static const char *const names[SLOTS] = {"task0", "task1", "task2", "task3", "task4", "task5"};
    memset(&core, 0, sizeof core);
    memset(&slab, 0, sizeof slab);
    memset(slots, 0, sizeof slots);
    memset(is_queued, 0, sizeof is_queued);
    memset(is_running, 0, sizeof is_running);
    core.ops = &ops;
    core.slab = &slab;
    core.budget = 128;
    core.process = weft__sys_process();
    weft__a64_store_relaxed(&core.refs, 1);
    slab.core = &core;
    slab.fresh = slots;
    slab.fresh_end = slots + SLOTS;
    slab.free_count = slab.slot_count = SLOTS;
    weft__aptr_store_relaxed(&slab.chunk[0].first, slots);
    weft__a32_store_relaxed(&slab.chunk_count, 1);
    for (int i = 0; i < SLOTS; i++)
        model_name(&slots[i], sizeof slots[i], names[i]);
}

/* Every slot was given back, and once. */
static void all_is_free(void)
{
    size_t linked = 0;
    for (struct weft__qnode *n = slab.free; n && linked <= SLOTS; n = n->next)
        linked++;
    MODEL_CHECK(linked + (size_t)(slab.fresh_end - slab.fresh) == SLOTS);
    MODEL_CHECK(slab.free_count == SLOTS);
    for (int i = 0; i < SLOTS; i++) {
        MODEL_CHECK(weft__a64_load_relaxed(&slots[i].state) == 0);
        MODEL_CHECK(!is_queued[i]);
    }
}

/* Runs task t on this thread of the model, to its end. */
static void run_task(struct weft__task *t)
{
    struct weft__locals locals = {0};
    struct weft__ctx *c = weft__ctx_get();
    take_from_queue(t);
    t->locals = &locals;
    c->current = t;
    c->core = &core;
    weft__task_clear_notified(t);
    if (weft__a64_load_relaxed(&t->state) & WEFT__TASK_ABORT) {
        weft__task_complete_unstarted(t);
    } else {
        void *value = t->fn(t->arg);
        is_running[index_of(t)] = false; /* not to be touched after the completion */
        weft__task_complete(t, locals.abort_seen ? WEFT_OUTCOME_CANCELLED : WEFT_OUTCOME_VALUE,
                            value, NULL);
    }
    c->current = NULL;
}

/* ---- the subject: a task that waits until `wanted` flags are set ---- */

static weft_task *handle;
static struct weft__task *subject;
static weft_waker *subject_waker;
static weft__a32 flags;
static uint32_t wanted;
static int args_dropped, results_dropped;
static int subject_rc;
/* of an abort: what its caller did before is seen by who finds itself aborted */
static int reason;

static void drop_arg(void *arg)
{
    (void)arg;
    args_dropped++;
}
static void drop_result(void *result)
{
    MODEL_CHECK(result == &results_dropped);
    results_dropped++;
}

static int flags_poll(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    return weft__a32_load_relaxed(&flags) >= wanted ? 0 : WEFT_PENDING;
}
static void flags_cancel(weft_future *f)
{
    (void)f;
}
static const weft_future_ops flags_ops = {flags_poll, flags_cancel, "flags"};

static void *wait_for_flags(void *arg)
{
    (void)arg;
    weft_future f = {.ops = &flags_ops};
    subject_rc = weft__wait_for(&f);
    if (subject_rc == -ECANCELED)
        WEFT__MODEL_READ(&reason);
    return &results_dropped;
}

static void *return_at_once(void *arg)
{
    (void)arg;
    return &results_dropped;
}

static void spawn_subject(weft_task_fn fn)
{
    static const weft_site site = {"model", "model", 1};
    static const weft_spawn_options o = {.drop_arg = drop_arg, .drop_result = drop_result};
    core_init();
    args_dropped = results_dropped = 0;
    subject_rc = 1;
    weft__a32_store_relaxed(&flags, 0);
    wanted = 0;
    MODEL_CHECK(weft__task_spawn(&core, WEFT__TASK_FIBER, &o, fn, &core, &handle, &site) == 0);
    subject = weft__task_address(handle);
    subject_waker = weft__task_waker(subject);
    model_name(&flags, sizeof flags, "flags");
}

static void subject_thread(void)
{
    run_task(subject);
}

static void set_flag_and_wake(void)
{
    weft__a32_add_relaxed(&flags, 1);
    weft_waker_wake(subject_waker);
}

static void set_flag_and_wake_unref(void)
{
    weft__a32_add_relaxed(&flags, 1);
    weft_waker_wake_unref(subject_waker);
}

static void abort_subject(void)
{
    MODEL_CHECK(weft_abort(handle) == 0);
}

static void abort_subject_for_a_reason(void)
{
    WEFT__MODEL_WRITE(&reason);
    abort_subject();
}

/* The handle keeps the task for those who wake by a borrowed waker. */
static void ended_well(void)
{
    weft_outcome o;
    MODEL_CHECK(weft_try_join(handle, &o) == 0);
    MODEL_CHECK(o.kind == WEFT_OUTCOME_VALUE && o.value == &results_dropped);
    MODEL_CHECK(results_dropped == 0 && args_dropped == 0);
    MODEL_CHECK(subject_rc == 0);
    all_is_free();
}

static void ended_cancelled_or_well(void)
{
    weft_outcome o;
    MODEL_CHECK(weft_try_join(handle, &o) == 0);
    if (o.kind == WEFT_OUTCOME_VALUE) {
        MODEL_CHECK(o.value == &results_dropped && results_dropped == 0 && args_dropped == 0);
    } else {
        MODEL_CHECK(o.kind == WEFT_OUTCOME_CANCELLED);
        MODEL_CHECK(args_dropped + results_dropped == 1);
    }
    all_is_free();
}

static void init_wake_once(void)
{
    spawn_subject(wait_for_flags);
    wanted = 1;
}
static void init_wake_twice(void)
{
    spawn_subject(wait_for_flags);
    wanted = 2;
}

#endif
