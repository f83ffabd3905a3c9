/*
 * Workers for models: the real search, the real sleep and the real queues. Only the switch to a
 * task's stack is left out: a task is a function that the worker's loop calls. A task that nobody
 * reaches, or a worker that nobody stops, shows as a deadlock.
 *
 * For one test file: it includes the source under test.
 */
#ifndef MODEL_WORKERS_H
#define MODEL_WORKERS_H

#include "../../../src/sched/worker.c"
#include "../../../src/sched/workers.c"

#include "model.h"

#include <string.h>

#define TASKS 5
#define WORKERS 2

static struct weft__sched sched;
static struct weft__task tasks[TASKS];
static int ran[TASKS];
static int expected;

static void run_body(struct weft__worker *w, struct weft__task *t)
{
    struct weft__ctx *c = w->ctx;
    c->current = t;
    begin_run(w, t);
    MODEL_CHECK(ran[t - tasks] == 0);
    ran[t - tasks] = 1;
    if (t->fn)
        (void)t->fn(t->arg);
    c->current = NULL;
    end_run(w);
    count_ended();
}

static void work(struct weft__worker *w)
{
    struct weft__ctx *c = weft__ctx_get();
    w->ctx = c;
    c->worker = w;
    c->core = &sched.core;
    w->until_events = sched.event_interval;
    w->until_global = sched.global_interval;
    int idle_rounds = 0;
    while (!is_stopped(w)) {
        struct weft__task *t = find(w);
        idle_rounds = t ? 0 : idle_rounds + 1;
        if (t)
            run_body(w, t);
        else if (weft__worker_is_surplus(w))
            be_dormant(w, is_stopped, w);
        else if (!weft__worker_linger(w, is_stopped, w)) {
            stop_searching(w, false);
            weft__worker_sleep(w, is_stopped, w);
        }
        /* There is work that another worker is about to fetch: this one goes round meanwhile. */
        if (idle_rounds > 1)
            model_give_way();
    }
    stop_searching(w, false);
}
static inline void worker_0(void)
{
    work(weft__sched_worker(&sched, 0));
}
static inline void worker_1(void)
{
    work(weft__sched_worker(&sched, 1));
}

static void init_with(uint32_t workers)
{
    memset(&sched, 0, sizeof sched);
    memset(tasks, 0, sizeof tasks);
    memset(ran, 0, sizeof ran);
    expected = 0;
    weft__a64_store_relaxed(&sched.core.refs, 1);
    sched.is_multi = true;
    sched.worker_count = workers;
    sched.event_interval = 61;
    sched.global_interval = 31;
    sched.has_slot = true;
    sched.seed = 1;
    weft__inject_init(&sched.inject);
    weft__timers_init(&sched.outer_timers, weft__sys_now_ns());
    for (int i = 0; i < TASKS; i++)
        tasks[i].core = &sched.core;
    for (uint32_t i = 0; i < workers; i++)
        MODEL_CHECK(weft__worker_create(&sched, i, false) == 0);
    model_name(&sched, sizeof sched, "sched");
    model_name(weft__sched_worker(&sched, 0), sizeof(struct weft__worker), "worker0");
    if (workers > 1)
        model_name(weft__sched_worker(&sched, 1), sizeof(struct weft__worker), "worker1");
}
static inline void init_two_workers(void)
{
    init_with(2);
}
static inline void init_one_worker(void)
{
    init_with(1);
}

/* Worker 1 stands in for worker 0. */
static struct weft__worker *substitute;

static inline void init_substitute(void)
{
    init_with(WORKERS);
    substitute = weft__sched_worker(&sched, 1);
    substitute->is_extra = true;
    weft__a32_store_relaxed(&substitute->has_no_thread, 0);
    sched.worker_count = 1;
    sched.extra_max = 1;
}
static inline bool is_out_of_service(void *arg)
{
    (void)arg;
    return atomic_load_explicit(&substitute->is_dormant.v, memory_order_relaxed) == 1;
}

static void all_ran(void)
{
    for (int i = 0; i < TASKS; i++)
        MODEL_CHECK(ran[i] == (i < expected));
    MODEL_CHECK(weft__sched_is_quiescent(&sched));
    MODEL_CHECK(weft__a32_load_relaxed(&sched.idle_count) == 0);
    MODEL_CHECK(weft__a32_load_relaxed(&sched.searchers) == 0);
    for (uint32_t i = 0; i < weft__sched_worker_high(&sched); i++) {
        struct weft__worker *w = weft__sched_worker(&sched, i);
        MODEL_CHECK(weft__a32_load_relaxed(&w->sleep) == WEFT__AWAKE);
        MODEL_CHECK(weft__a32_load_relaxed(&w->permit) == 0);
        weft__free(w);
    }
}

static void spawn(int i)
{
    MODEL_CHECK(weft__sched_admit(&sched.core));
    expected++;
    weft__sched_enqueue(&sched.core, &tasks[i]);
}

static inline void stop_all(void)
{
    weft__a32_store_seq_cst(&sched.stop, 1);
    weft__sched_wake_all(&sched);
}
static inline void wait_and_stop(void)
{
    MODEL_CHECK(weft__sched_wait_quiescent(&sched, WEFT_NEVER));
    stop_all();
}

#endif
