/*
 * Workers: made, bound to the thread that runs them, and taken off it. What they do in between is
 * in worker.c.
 */
#include "fiber/trace.h"
#include "sched/halt.h"
#include "sched/sched.h"

#include <errno.h>
#include <string.h>

/* ---- making them ---- */

int weft__worker_create(struct weft__sched *s, uint32_t index, bool is_extra)
{
    struct weft__worker *w = weft__aligned_alloc(WEFT__CACHE_LINE, sizeof *w);
    if (w == NULL)
        return -ENOMEM;
    memset(w, 0, sizeof *w); /* too large for a compound literal, which may lie on the stack */
    w->sched = s;
    w->index = index;
    w->is_extra = is_extra;
    w->wake_at_ns = WEFT_NEVER;
    w->until_events = s->event_interval;
    w->until_global = s->global_interval;
    weft__a32_store_relaxed(&w->has_no_thread, 1);
    w->rng = (s->seed + index + 1) * UINT64_C(0x9E3779B97F4A7C15) | 1;
    weft__stack_cache_init(&w->stacks);
    weft__lanes_init(&w->pinned, false);
    weft__runq_init(&w->runq);
    uint64_t now_ns = weft__clock_now(&s->core.clock);
    w->looked_at = weft__coarse(now_ns);
    weft__timers_init(&w->timers, now_ns);
    /* mutation: see weft__sched_worker() */
    weft__aptr_store_release(&s->worker[index], w);
    if (weft__a32_load_relaxed(&s->worker_high) <= index)
        /* seq_cst for who halts all: see start_extra() in monitor.c */
        weft__a32_store_seq_cst(&s->worker_high, index + 1);
    return 0;
}

void weft__worker_destroy(struct weft__worker *w)
{
    if (w == NULL)
        return;
    weft__stack_cache_fini(&w->stacks);
    weft__slab_flush(w->sched->core.slab, &w->tasks);
    weft__free(w);
}

/* ---- the thread they are bound to ---- */

void weft__worker_attach(struct weft__worker *w)
{
    struct weft__ctx *c = weft__ctx_get();
    weft__a32_store_relaxed(&w->thread_id, (uint32_t)weft__sys_thread_id());
    w->ctx = c;
    c->worker = w;
    c->core = &w->sched->core;
    c->rng = &w->rng;
    c->slab_cache = &w->tasks;
    c->cache_core = c->core;
    weft__fiber_adopt_thread(&w->loop);
}

void weft__worker_detach(struct weft__worker *w)
{
    struct weft__ctx *c = weft__ctx_get();
    weft__fiber_unadopt_thread(&w->loop);
    c->worker = NULL;
    c->rng = NULL;
    c->slab_cache = NULL;
    c->cache_core = NULL;
    w->ctx = NULL;
}

void weft__worker_enter(struct weft__worker *w, struct weft__nest *n,
                        const struct weft__stack *here)
{
    struct weft__ctx *c = weft__ctx_get();
    *n = (struct weft__nest){c->current, c->worker, c->slab_cache, c->cache_core, c->rng};
    w->ctx = c;
    w->is_nested = true;
    w->outer = c->worker;
    w->loop = *here;
    c->current = NULL;
    c->worker = w;
    c->rng = &w->rng;
    c->slab_cache = &w->tasks;
    c->cache_core = &w->sched->core;
}

void weft__worker_leave(struct weft__worker *w, const struct weft__nest *n)
{
    struct weft__ctx *c = weft__ctx_get();
    weft__fiber_unadopt_thread(&w->loop);
    w->ctx = NULL;
    c->current = n->current;
    c->worker = n->worker;
    c->rng = n->rng;
    c->slab_cache = n->slab_cache;
    c->cache_core = n->cache_core;
}

static bool is_stopped(void *arg)
{
    struct weft__worker *w = arg;
    uint32_t stop;
    while (WEFT__UNLIKELY((stop = weft__a32_load_seq_cst(&w->sched->stop)) == WEFT__STOP_HALT))
        weft__worker_halt(w);
    return stop != WEFT__STOP_NOT;
}

void weft__worker_thread(struct weft__worker *w)
{
    struct weft__sched *s = w->sched;
    void *signal_stack = NULL;
    if (weft__sigaltstack_init(&signal_stack) < 0)
        weft__log(WEFT_LOG_WARN, "worker %u has no signal stack: an overflow there is not named",
                  w->index);
    w->cpu_clock = weft__sys_thread_cpu_clock();
    if (s->timer_slack_ns)
        (void)weft__sys_timer_slack_set(s->timer_slack_ns); /* refused: as late as it was before */
    weft__thread_trace_allow();
    weft__lock_tell(&w->sleeps_for_lock);
    weft__worker_attach(w);
    w->ctx->serves = &s->core;
    weft__worker_hook(w, s->hooks.thread_start);
    weft__worker_loop(w, is_stopped, w);
    weft__worker_hook(w, s->hooks.thread_stop);
    weft__worker_detach(w);
    weft__ctx_get()->core = NULL;
    weft__lock_tell(NULL);
    weft__sigaltstack_fini(signal_stack);
    weft__core_unref(&s->core);
}

struct weft__timers *weft__sched_timers_here(struct weft__core *core)
{
    struct weft__sched *s = weft__sched_of(core);
    struct weft__ctx *c = weft__ctx_now();
    struct weft__worker *w = c ? c->worker : NULL;
    if (w == NULL || w->sched != s)
        return &s->outer_timers;
    /* An extra worker may be out of service by the time: it would wake up for each timer that tasks
     * have left on its wheel, only to wake another one, which runs the task. */
    return w->is_extra ? &s->outer_timers : &w->timers;
}
