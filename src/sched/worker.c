/*
 * Running tasks: what a worker does between two tasks, and how a task leaves.
 *
 * Pooled stacks run an executor (fiber_main): it runs one task after another on its stack for as
 * long as the next one needs no stack of its own that is parked elsewhere. So a burst of short
 * tasks costs no switch at all, and a polled future costs none ever. A task that parks keeps the
 * stack it stands on, and the worker goes on elsewhere: straight to the next parked task, or
 * through the worker's loop.
 */
#include "sched/ahead.h"
#include "sched/queues.h"
#include "task/ending.h"
#include "task/panic.h"
#include "task/task_local.h"

#include <string.h>

static void fiber_main(void *arg);

/* After a task was completed. Its destructors may have moved us, so the worker is asked for, and
 * returned. */
static inline struct weft__worker *count_ended(void)
{
    struct weft__worker *w = weft__ctx_now()->worker;
    /* release: who sees a task ended sees what it spawned before, so that no sum of the two misses
     * a live one */
    weft__a64_store_release(&w->ended, weft__a64_load_relaxed(&w->ended) + 1);
    return w;
}

/* ---- switching ---- */

/* By the context that runs after a task left: completes its leaving. */
static inline __attribute__((always_inline)) void after_switch(struct weft__worker *w)
{
    struct weft__task *t = w->leaving;
    enum weft__leaving how = w->leaving_how;
    w->leaving_how = WEFT__LEAVING_NOTHING;
    switch (how) {
    case WEFT__LEAVING_NOTHING:
        break;
    case WEFT__LEAVING_PARK:
        weft__a32_store_relaxed(&t->parked_at, w->looked_at);
        if (!weft__task_confirm_parked(t))
            weft__worker_queue(w, t); /* woken while it was leaving */
        break;
    case WEFT__LEAVING_YIELD:
        weft__worker_queue(w, t);
        break;
    case WEFT__LEAVING_IDLE:
        w->spare = w->leaving_stack;
        break;
    case WEFT__LEAVING_EXIT:
        weft__stack_put(&w->stacks, w->leaving_stack);
        break;
    }
}

static inline void begin_run(struct weft__worker *w, struct weft__task *t)
{
    w->ctx->current = t;
    t->budget = w->sched->core.budget;
    weft__a64_store_relaxed(&w->tick, weft__a64_load_relaxed(&w->tick) + 1);
    /* release: the monitor that sees a task running sees of which thread, and the tick of its run,
     * or a later one. The other way round it would name this task for the one before. */
    weft__aptr_store_release(&w->running, t);
    if (WEFT__UNLIKELY(weft__a32_load_relaxed(&w->slot_is_open)))
        weft__a32_store_relaxed(&w->slot_is_open, 0);
}

static inline void end_run(struct weft__worker *w)
{
    w->ctx->current = NULL;
    weft__aptr_store_relaxed(&w->running, NULL);
}

/* No stack yet, and happy with one of the default size. */
static inline bool fits_default(const struct weft__task *t)
{
    return t->stack == NULL && (t->cold == NULL || t->cold->stack_bytes == 0);
}

/* The stack to go on with for t: its own, the spare executor's, or a fresh one. NULL when memory
 * ran out. */
static inline struct weft__stack *stack_for(struct weft__worker *w, struct weft__task *t)
{
    struct weft__stack *stack = t->stack;
    if (stack != NULL)
        return stack;
    size_t bytes = w->sched->core.stack_bytes;
    if (fits_default(t)) {
        stack = w->spare;
        if (stack != NULL) {
            w->spare = NULL;
            return stack;
        }
    } else {
        bytes = t->cold->stack_bytes;
    }
    /* Getting a stack may wait for the pool's lock or the kernel: not the doing of the task that
     * leaves, which the monitor would blame. */
    weft__aptr_store_relaxed(&w->running, NULL);
    if (weft__stack_get(&w->stacks, bytes, &stack) < 0)
        return NULL;
    weft__fiber_init(stack, fiber_main, stack);
    return stack;
}

/* Where a fiber that leaves goes on: the next task's stack, with the task begun, or the loop. */
static inline struct weft__stack *next_stack(struct weft__worker *w, struct weft__task *next)
{
    struct weft__stack *to = next ? stack_for(w, next) : NULL;
    if (WEFT__LIKELY(to != NULL)) {
        begin_run(w, next);
        return to;
    }
    w->handoff = next; /* without memory for a stack: the loop's to deal with */
    end_run(w);
    return &w->loop;
}

static inline void switch_from(struct weft__worker *w, struct weft__stack *from,
                               struct weft__task *next)
{
    struct weft__stack *to = next_stack(w, next);
    weft__fiber_switch(from, to);
    after_switch(weft__ctx_now()->worker);
}

/* How far below the header of its stack the caller's frame lies. */
static inline __attribute__((always_inline)) size_t depth_here(const struct weft__stack *stack)
{
    return (uintptr_t)stack - (uintptr_t)__builtin_frame_address(0);
}

void weft__sched_park(struct weft__task *self)
{
    struct weft__worker *w = weft__ctx_now()->worker;
    w->leaving = self;
    w->leaving_how = WEFT__LEAVING_PARK;
    struct weft__task *next = weft__worker_pick(w);
    w->wait_depth = depth_here(self->stack);
    weft__fetch_next(w);
    switch_from(w, self->stack, next);
}

void weft__sched_yield(struct weft__task *self)
{
    struct weft__worker *w = weft__ctx_now()->worker;
    bool must_look = w->until_events == 0;
    struct weft__task *next = weft__worker_pick_or(w, self);
    bool has_turn = next ? next == self : !must_look && !w->sched->watches_runs;
    if (has_turn) {
        /* Nobody to yield to, and nothing due to look at: the turn comes round at once. */
        begin_run(w, self);
        return;
    }
    w->leaving = self;
    w->leaving_how = WEFT__LEAVING_YIELD;
    switch_from(w, self->stack, next);
}

/* ---- the executor ---- */

/* In two parts, each a few vector stores: all at once gcc takes an instruction that is slow to
 * start. */
static inline void clear(struct weft__locals *l)
{
    memset(l, 0, WEFT__CACHE_LINE);
    memset((char *)l + WEFT__CACHE_LINE, 0, sizeof *l - WEFT__CACHE_LINE);
}

/* Runs a task that has no stack of its own: a new fiber task, to its end; or a future, once.
 * Returns the worker that we are on then: the task may have moved us. */
static inline struct weft__worker *run_here(struct weft__worker *w, struct weft__task *t,
                                            struct weft__stack *stack, struct weft__locals *l)
{
    clear(l);
    l->stack = stack;
    if (WEFT__UNLIKELY(t->cold != NULL))
        l->bindings = weft__inherited_top(t->cold->inherited);
    t->locals = l;
    stack->owner = t;
    weft__task_clear_notified(t);
    bool is_aborted = weft__a64_load_relaxed(&t->state) & (WEFT__TASK_ABORT | WEFT__TASK_UNWIND);
    if (t->kind == WEFT__TASK_FUTURE) {
        weft_future *f = t->arg;
        if (WEFT__UNLIKELY(is_aborted)) {
            if (t->started)
                f->ops->cancel(f);
            weft__task_complete_unstarted(t);
            return count_ended();
        }
        t->started = true;
        int rc = f->ops->poll(f, weft__task_waker(t));
        weft__task_body_returned(t);
        /* A poll does not suspend, so w is the same. */
        if (rc == WEFT_PENDING) {
            t->locals = NULL;
            if (WEFT__UNLIKELY(w->sched->watches_runs))
                weft__worker_run_ended(w); /* the next run may begin at once, elsewhere */
            weft__a32_store_relaxed(&t->parked_at, w->looked_at);
            if (!weft__task_confirm_parked(t))
                weft__worker_queue(w, t);
            return w;
        }
        weft__task_complete(t, WEFT_OUTCOME_VALUE, (void *)(intptr_t)rc, NULL);
        return count_ended();
    }
    t->stack = stack;
    if (WEFT__UNLIKELY(is_aborted)) {
        weft__task_complete_unstarted(t);
    } else {
        t->started = true;
        void *value = t->fn(t->arg);
        weft__task_body_returned(t);
        if (WEFT__UNLIKELY(l->timeout_top != NULL || l->cancel_top != NULL))
            weft__locals_end(l);
        weft__task_complete(t, l->abort_seen ? WEFT_OUTCOME_CANCELLED : WEFT_OUTCOME_VALUE, value,
                            NULL);
    }
    return count_ended();
}

static WEFT__NORETURN void leave_stack(struct weft__worker *w, struct weft__stack *stack,
                                       struct weft__stack *to)
{
    stack->owner = NULL;
    w->leaving_stack = stack;
    w->leaving_how = WEFT__LEAVING_EXIT;
    weft__fiber_switch_final(stack, to);
}

/* Entry of every pooled stack. arg is the stack; the task is the current one. */
static void fiber_main(void *arg)
{
    struct weft__stack *stack = arg;
    struct weft__locals locals;
    weft__fiber_entered(stack);
    struct weft__worker *w = weft__ctx_now()->worker;
    after_switch(w);
    bool is_default = fits_default(w->ctx->current);
    for (;;) {
        w = run_here(w, w->ctx->current, stack, &locals);
        struct weft__task *next = weft__worker_pick(w);
        if (next != NULL && is_default && fits_default(next)) {
            begin_run(w, next);
            continue;
        }
        struct weft__stack *to = next_stack(w, next);
        if (!is_default || w->spare != NULL)
            leave_stack(w, stack, to);
        stack->owner = NULL;
        w->leaving_stack = stack;
        w->leaving_how = WEFT__LEAVING_IDLE;
        weft__fiber_switch(stack, to);
        w = weft__ctx_now()->worker;
        after_switch(w);
        if (w->ctx->current == NULL) /* resumed to end: by weft__worker_dismiss_spare */
            leave_stack(w, stack, &w->loop);
    }
}

/* By the loop: the spare executor ends by itself, so that the tools that watch stacks see it
 * end. */
void weft__worker_dismiss_spare(struct weft__worker *w)
{
    struct weft__stack *stack = w->spare;
    if (stack == NULL)
        return;
    w->spare = NULL;
    weft__fiber_switch(&w->loop, stack);
    after_switch(w);
}

void weft__sched_exit(struct weft__core *core, struct weft__stack *stack)
{
    (void)core;
    struct weft__worker *w = count_ended();
    end_run(w);
    leave_stack(w, stack, &w->loop);
}

/* ---- the loop ---- */

static void cancel_future(void *arg)
{
    weft_future *f = arg;
    f->ops->cancel(f);
}

/* There is no memory for a stack. The task ends, rather than wait for something that may never
 * come. */
static WEFT__COLD void fail_without_stack(struct weft__worker *w, struct weft__task *t)
{
    /* What it has registered to be dropped stands on the loop's stack, and cannot wait. */
    struct weft__locals l = {.no_wait_depth = 1};
    char label[96];
    /* In a shortage there are many: the first, the second, the fourth... are named. */
    uint64_t count = weft__a64_add_relaxed(&w->sched->stackless_tasks, 1) + 1;
    if ((count & (count - 1)) == 0)
        weft__log(WEFT_LOG_ERROR, "%s is cancelled: no memory for its stack (%llu so far)",
                  weft__task_label(t, label, sizeof label), (unsigned long long)count);
    w->ctx->current = t;
    t->locals = &l;
    /* A panic would give up the stack that it is on, and this one is the loop's. */
    weft_panic_info *info = NULL;
    if (t->kind == WEFT__TASK_FUTURE && t->started)
        info = weft__call_contained(cancel_future, t->arg);
    weft__callback_returned(t->core);
    if (info)
        weft__task_complete(t, WEFT_OUTCOME_PANICKED, NULL, info);
    else
        weft__task_complete_unstarted(t);
    w->ctx->current = NULL;
    (void)count_ended(); /* the loop's context never moves */
}

/* Inline, since a return after a switch is predicted wrongly, and so is the next one of the fiber:
 * 12 ns of the 93 of a timed wait. */
static inline __attribute__((always_inline)) void run(struct weft__worker *w, struct weft__task *t)
{
    struct weft__stack *stack = stack_for(w, t);
    if (stack == NULL) {
        fail_without_stack(w, t);
        return;
    }
    if (WEFT__UNLIKELY(w->sched->watches_runs))
        weft__worker_run_begins(w, t);
    begin_run(w, t);
    weft__fiber_switch(&w->loop, stack);
    if (WEFT__UNLIKELY(w->sched->watches_runs)) {
        if (w->sched->is_seeded)
            weft__seeded_trace(w->sched, w->serial, WEFT__TRACE_LEAVES + w->leaving_how);
        weft__worker_run_ended(w);
    }
    after_switch(w); /* the loop's context never moves */
}

static struct weft__task *steal_from(struct weft__worker *w, struct weft__worker *victim)
{
    struct weft__task *t = NULL;
    unsigned n = weft__runq_steal_half(&victim->runq, &w->runq, &t);
    if (n == 0 && weft__a32_load_relaxed(&victim->slot_is_open)) {
        t = weft__worker_take_slot(victim);
        n = t != NULL;
    }
    if (n == 0)
        return NULL;
    weft__a64_store_relaxed(&w->steals, weft__a64_load_relaxed(&w->steals) + n);
    return t;
}

struct weft__task *weft__worker_steal(struct weft__worker *w)
{
    struct weft__sched *s = w->sched;
    uint32_t count = weft__sched_worker_high(s);
    if (count < 2)
        return NULL;
    uint32_t start = (uint32_t)(weft__random_next(&w->rng) % count);
    for (uint32_t i = 0; i < count; i++) {
        struct weft__worker *victim = weft__sched_worker(s, (start + i) % count);
        if (victim == w)
            continue;
        struct weft__task *t = steal_from(w, victim);
        if (t)
            return t;
    }
    return NULL;
}

/* Half of the workers may search at a time; more would only contend. */
static bool start_searching(struct weft__worker *w)
{
    struct weft__sched *s = w->sched;
    if (!w->is_searching) {
        if (2 * weft__a32_load_relaxed(&s->searchers) >= weft__a32_load_relaxed(&s->worker_high))
            return false;
        weft__a32_add_relaxed(&s->searchers, 1); /* see idle.c */
        w->is_searching = true;
    }
    return true;
}

static void stop_searching(struct weft__worker *w, bool found)
{
    if (!w->is_searching)
        return;
    w->is_searching = false;
    /* The last searcher that found work wakes the next one if there is more: who pushed meanwhile
     * relied on us: seq_cst, either he sees us gone or we see what he pushed. */
    if (weft__a32_sub_seq_cst(&w->sched->searchers, 1) == 1 && found &&
        weft__sched_has_work(w->sched))
        weft__sched_wake_one(w->sched);
}

#ifdef WEFT_MODEL
#define SEARCH_PAUSES 1
#else
#define SEARCH_PAUSES 32
#endif

static struct weft__task *search(struct weft__worker *w)
{
    if (weft__a32_load_relaxed(&w->sched->worker_high) < 2 || !start_searching(w))
        return NULL;
    for (int round = 0; round < 4; round++) {
        struct weft__task *t = weft__worker_steal(w);
        if (t == NULL)
            t = weft__worker_take_global(w);
        if (t == NULL)
            t = weft__worker_take_classed(w);
        if (t)
            return t;
        /* Leaves the lines of the others alone for a while, unless something comes from outside:
         * that is for whoever searches, and mostly waited for. */
        for (int i = 0; i < SEARCH_PAUSES && weft__inject_len(&w->sched->inject) == 0; i++)
            weft__cpu_relax();
    }
    return NULL;
}

/*
 * What a thread outside sends task by task is waited for, as long as more keeps coming, and taken
 * together: singly, each would cost the queue's lock and its line, and hold up who sends the next.
 * Looks lie twice as far apart each time: 248 pauses in all, 6 us where one takes 25 ns. Where
 * nothing more came it is left out more and more often, as lingering is: most tasks from outside
 * come alone.
 */
#ifdef WEFT_MODEL
static void gather(struct weft__worker *w)
{
    (void)w; /* changes nothing but how much the next step finds */
}
#else
#define GATHER_LEN 64
#define GATHER_PAUSES 8
#define GATHER_PAUSES_MAX 128

static void gather(struct weft__worker *w)
{
    const struct weft__inject *q = &w->sched->inject;
    size_t len = weft__inject_len(q);
    if (len == 0 || len >= GATHER_LEN || !weft__linger_is_due(&w->gathering))
        return;
    size_t first = len;
    for (int pauses = GATHER_PAUSES; pauses <= GATHER_PAUSES_MAX; pauses *= 2) {
        for (int i = 0; i < pauses; i++)
            weft__cpu_relax();
        size_t before = len;
        len = weft__inject_len(q);
        if (len <= before || len >= GATHER_LEN)
            break;
    }
    weft__linger_learn(&w->gathering, len <= first);
}
#endif

/* Where events are due, as they are after a fork. The ends of bodies, hooks and destructors look
 * for themselves; here comes one that was forked beside those, in the log's function for one. */
static void end_if_child(const struct weft__worker *w)
{
    if (WEFT__UNLIKELY(w->is_forked))
        weft__end_child(NULL);
}

void weft__sched_after_fork(void)
{
    weft__wait_after_fork();
    const struct weft__ctx *c = weft__ctx_now();
    struct weft__worker *w = c ? c->worker : NULL;
    if (w == NULL)
        return;
    w->is_forked = true;
    w->until_events = 0; /* no task is picked before it was looked at */
}

static struct weft__task *find(struct weft__worker *w)
{
    struct weft__task *t = w->handoff;
    if (t) {
        w->handoff = NULL;
        stop_searching(w, true);
        return t;
    }
    if (w->until_events == 0) {
        end_if_child(w);
        (void)weft__worker_look(w);
        w->until_events = w->sched->event_interval;
    }
    t = weft__worker_pick(w);
    if (t == NULL) {
        gather(w);
        t = weft__worker_take_global(w);
    }
    if (t == NULL && w->until_events != w->sched->event_interval) {
        /* Run dry: look before searching, since what an event wakes here is warm here. */
        w->until_events = w->sched->event_interval;
        if (weft__worker_look(w))
            t = weft__worker_pick(w);
    }
    if (t == NULL)
        t = search(w);
    stop_searching(w, t != NULL);
    return t;
}

/* An extra worker that is not needed any more leaves service, and hands on what it has. */
static void be_dormant(struct weft__worker *w, bool (*should_stop)(void *), void *arg)
{
    struct weft__sched *s = w->sched;
    weft__worker_spill_all(w);
    weft__a32_store_seq_cst(&w->is_dormant, 1);
    /* as a worker that goes to sleep: the last task of all may have ended here */
    weft__sched_check_quiescent(s);
    /* for what was spilled, and for the seat in the driver, in which we may have been */
    weft__sched_wake_one(s);
    /* Out of service for all but the tasks that are pinned to it: who queues one wakes it up. Who
     * needs one more worker counts first and looks for a dormant one then; we have announced that
     * we are one, and look whether we are needed after all. relaxed: the futex compares again. */
    while (!should_stop(arg) && weft__a32_load_relaxed(&w->is_dormant) &&
           weft__worker_is_surplus(w) && weft__lanes_are_empty_seq_cst(&w->pinned)) {
        (void)weft__sys_futex_wait(&w->is_dormant, 1, WEFT_NEVER);
    }
    /* seq_cst: in service first, then the look at the monitor, as in weft__worker_sleep() */
    weft__a32_store_seq_cst(&w->is_dormant, 0);
    weft__monitor_poke(s);
    w->looked_at = weft__coarse(weft__clock_now(&s->core.clock));
}

/* With work all the time it would never run dry and find itself superfluous: it looks when events
 * are due. What is pinned to it, or handed on, it runs before it goes. */
static inline bool is_superseded(struct weft__worker *w)
{
    return w->is_extra && w->until_events == 0 && w->handoff == NULL && !w->is_forked &&
           weft__worker_is_surplus(w) && weft__lanes_are_empty_seq_cst(&w->pinned);
}

void weft__worker_loop(struct weft__worker *w, bool (*should_stop)(void *arg), void *arg)
{
    /* Where the loop was left the counting goes on: who drives a runtime for one short body after
     * another looks at timers and sockets as often as who drives it for long. */
    while (!should_stop(arg)) {
        if (WEFT__UNLIKELY(is_superseded(w))) {
            stop_searching(w, false); /* who relied on it is relieved by the wake in there */
            be_dormant(w, should_stop, arg);
            continue;
        }
        struct weft__task *t = find(w);
        if (t)
            run(w, t);
        else if (weft__worker_is_surplus(w))
            be_dormant(w, should_stop, arg);
        else if (!weft__worker_linger(w, should_stop, arg)) {
            stop_searching(w, false);
            weft__worker_sleep(w, should_stop, arg);
        }
    }
    end_if_child(w); /* whoever drives goes on to what lies outside */
    stop_searching(w, false);
    weft__worker_dismiss_spare(w);
    if (w->handoff) {
        struct weft__task *t = w->handoff;
        w->handoff = NULL;
        weft__worker_queue(w, t);
    }
}

bool weft__worker_run(struct weft__worker *w, uint32_t runs)
{
    w->until_events = runs;
    w->until_global = w->sched->global_interval;
    for (;;) {
        struct weft__task *t = w->handoff;
        w->handoff = NULL;
        if (t == NULL)
            t = weft__worker_pick(w);
        if (t == NULL && w->until_events > 0)
            t = weft__worker_take_global(w);
        if (t == NULL) {
            if (w->until_events > 0)
                return false;
            end_if_child(w);
            return true;
        }
        run(w, t);
    }
}

/* ---- counting ---- */

bool weft__sched_admit(struct weft__core *core)
{
    struct weft__sched *s = weft__sched_of(core);
    struct weft__ctx *c = weft__ctx_now();
    if (WEFT__LIKELY(c && c->worker && c->worker->sched == s))
        weft__count_up(&c->worker->spawned);
    else
        /* seq_cst, and then the phase: who ends the runtime changes that first and looks at the
         * counts then */
        weft__a64_add_seq_cst(&s->outer_spawned, 1);
    /* A task that slips through while shutdown begins is found by a later round of its walk: it is
     * counted as alive, by its own worker before the spawning task ends. */
    if (WEFT__LIKELY(weft__a32_load_seq_cst(&core->phase) == WEFT__PHASE_RUNNING))
        return true;
    return false;
}

void weft__sched_ended_outside(struct weft__core *core)
{
    struct weft__sched *s = weft__sched_of(core);
    /* seq_cst: see weft__sched_alive(). mutation: as there */
    weft__a64_add_seq_cst(&s->outer_ended, 1);
    weft__sched_check_quiescent(s);
    /* Who drives may wait for just that; or for the end of a job, to let time pass. */
    if (!s->is_multi && (weft__sched_is_quiescent(s) || weft__clock_is_paused(&core->clock)))
        weft__sched_wake_all(s);
}
