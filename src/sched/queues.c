#include "sched/queues.h"

#include "sched/ahead.h"
#include "task/spawn.h"

/* The global queue is taken in batches of this, and less than a bunch more, so that what overflowed
 * is served at the pace of the local queue. */
#define GLOBAL_BATCH 64

void weft__worker_overflow(struct weft__worker *w, struct weft__task *task)
{
    if (WEFT__UNLIKELY(w->is_forked))
        return; /* nobody runs it, and the lock may be held for ever */
    struct weft__task *half[WEFT__RUNQ_CAP / 2 + 1];
    unsigned n = weft__runq_take_half(&w->runq, half, WEFT__RUNQ_CAP / 2);
    half[n++] = task;
    weft__count_up(&w->overflows);
    /* coverage: an assertion around a call with an effect */
    if (!weft__inject_push_many(&w->sched->inject, half, n))
        WEFT_ASSERT(!"the global queue is closed while tasks live");
    weft__sched_wake_one(w->sched);
}

/* ---- putting tasks in ---- */

/* To the worker that it runs on, which is told if it is another one than `by`: the worker on whose
 * thread we are, or NULL. */
static void push_pinned(struct weft__sched *s, struct weft__task *task, uint32_t route,
                        const struct weft__worker *by)
{
    struct weft__worker *home = weft__sched_worker(s, route >> WEFT__ROUTE_HOME_SHIFT);
    (void)weft__lanes_push(&home->pinned, route & WEFT__ROUTE_CLASS, &task->qnode);
    if (home != by)
        weft__sched_wake_worker(home);
}

/* To the lane of its class, and tells a worker that sleeps. */
static void push_classed(struct weft__sched *s, struct weft__task *task, uint32_t route,
                         const struct weft__worker *by)
{
    enum weft__class class = (enum weft__class)(route & WEFT__ROUTE_CLASS);
    size_t len = weft__lanes_push(&s->lanes, class, &task->qnode);
    /* One task in the background is usually reached sooner by the worker that is awake. One that is
     * urgent does not wait for the task that runs there. */
    if (by == NULL || class == WEFT__CLASS_URGENT || len >= WEFT__WAKE_LEN)
        weft__sched_wake_one(s);
}

/* The task is ready from now on. By who queues it, which nobody else does. */
static void stamp(struct weft__task *task, uint32_t route)
{
    if (route & WEFT__ROUTE_STAMPED)
        task->cold->ready_ns = weft__sys_now_ns();
}

/* False: it belongs where a plain task does. */
static bool queue_routed(struct weft__sched *s, struct weft__task *task, uint32_t route,
                         const struct weft__worker *by)
{
    stamp(task, route);
    if (route & WEFT__ROUTE_PINNED)
        push_pinned(s, task, route, by);
    else if ((route & (WEFT__ROUTE_CLASS | WEFT__ROUTE_PINNED_BORN)) &&
             !(route & WEFT__ROUTE_SEEDED)) /* which has no classes: each task is as likely */
        push_classed(s, task, route, by);
    else
        return false;
    return true;
}

bool weft__worker_queue_routed(struct weft__worker *w, struct weft__task *task, uint32_t route)
{
    if (WEFT__UNLIKELY(w->is_forked))
        return true; /* likewise */
    if (queue_routed(w->sched, task, route, w))
        return true;
    if (!(route & WEFT__ROUTE_SEEDED))
        return false;
    /* To the ring, never to the slot. */
    weft__seeded_trace(w->sched, task->cold->serial, WEFT__TRACE_QUEUED);
    weft__worker_push(w, task);
    return true;
}

/* By a thread that is no worker of s. */
static WEFT__NOINLINE void enqueue_outside(struct weft__sched *s, struct weft__task *task,
                                           uint32_t route)
{
    struct weft__ctx *c = weft__ctx_now();
    if (WEFT__UNLIKELY(weft__core_is_ancestral(&s->core)))
        return; /* likewise */
    /* The caller may hold nothing but the task, which may run to its end, and its runtime be gone,
     * as soon as it is queued. */
    weft__core_ref(&s->core);
    weft__a64_add_relaxed(&s->remote_schedules, 1);
    /* Not the birth of a task: who spawns from outside has a handle, or blocks on the runtime. */
    if (task->started && (c == NULL || c->core != &s->core))
        weft__a32_store_relaxed(&s->is_woken_outside, 1);
    if (route == 0 || !queue_routed(s, task, route, NULL)) {
        /* coverage: an assertion around a call with an effect */
        if (!weft__inject_push(&s->inject, task))
            WEFT_ASSERT(!"the global queue is closed while tasks live");
        weft__sched_wake_one(s);
    }
    weft__core_unref(&s->core);
}

/* Out of line, so that it costs those nothing whose task goes to the slot. */
static WEFT__NOINLINE void push(struct weft__worker *w, struct weft__task *task)
{
    weft__worker_push(w, task);
}

/* By w's thread, whose context is c. From within a task to the slot: it runs next, while what it
 * needs is in the cache. One woken by an event waits its turn. */
static inline void queue_plain(struct weft__worker *w, const struct weft__ctx *c,
                               struct weft__task *task)
{
    if (WEFT__LIKELY(w->sched->has_slot && c->current != NULL)) {
        (void)weft__fetch_stack(task, w->wait_depth, WEFT__AHEAD_LINES_MIN);
        /* release pairs with the acquire in take_slot, of a thief; what lies there is our own */
        task = weft__aptr_swap_release(&w->slot, task);
        if (task == NULL)
            return;
    }
    push(w, task);
}

static WEFT__NOINLINE void queue_special(struct weft__worker *w, const struct weft__ctx *c,
                                         struct weft__task *task, uint32_t route)
{
    if (!weft__worker_queue_routed(w, task, route))
        queue_plain(w, c, task);
}

static inline void queue_here(struct weft__worker *w, const struct weft__ctx *c,
                              struct weft__task *task)
{
    uint32_t route = weft__a32_load_relaxed(&task->route);
    if (WEFT__UNLIKELY(route != 0))
        queue_special(w, c, task, route);
    else
        queue_plain(w, c, task);
}

void weft__sched_enqueue(struct weft__core *core, struct weft__task *task)
{
    struct weft__sched *s = weft__sched_of(core);
    struct weft__ctx *c = weft__ctx_now();
    struct weft__worker *w = c ? c->worker : NULL;
    if (WEFT__LIKELY(w != NULL && w->sched == s))
        queue_here(w, c, task);
    else
        enqueue_outside(s, task, weft__a32_load_relaxed(&task->route));
}

static WEFT__NOINLINE void start_outside(struct weft__core *core, struct weft__task *task)
{
    if (core->ops->admit(core))
        core->ops->enqueue(core, task);
    else
        weft__task_refuse(task);
}

void weft__sched_start(struct weft__core *core, struct weft__task *task)
{
    struct weft__ctx *c = weft__ctx_now();
    struct weft__worker *w = c ? c->worker : NULL;
    if (WEFT__UNLIKELY(w == NULL || w->sched != weft__sched_of(core))) {
        start_outside(core, task);
        return;
    }
    weft__count_up(&w->spawned);
    /* relaxed: one that slips through while shutdown begins is found by a later round of its walk,
     * as it is counted before the spawning task ends */
    if (WEFT__LIKELY(weft__a32_load_relaxed(&core->phase) == WEFT__PHASE_RUNNING))
        queue_here(w, c, task);
    else
        weft__task_refuse(task);
}

/* ---- taking tasks out ---- */

struct weft__task *weft__worker_take_global(struct weft__worker *w)
{
    struct weft__sched *s = w->sched;
    size_t len = weft__inject_len(&s->inject);
    if (len == 0)
        return NULL;
    size_t max = (WEFT__RUNQ_CAP - weft__runq_len(&w->runq)) / 2 + 1;
    size_t share = len / s->worker_count + 1;
    size_t want = share < GLOBAL_BATCH ? share : GLOBAL_BATCH;
    struct weft__task *first, *next;
    size_t n = weft__inject_pop_many(&s->inject, want < max ? want : max, max, &first);
    if (n == 0)
        return NULL;
    next = n > 1 ? weft__inject_next(first) : NULL;
    while (--n > 0) {
        struct weft__task *t = next;
        if (n > 1)
            next = weft__inject_next(t); /* before another worker takes it, and queues it anew */
        weft__worker_push(w, t);
    }
    return first;
}

void weft__worker_spill_all(struct weft__worker *w)
{
    struct weft__task *t = weft__worker_take_slot(w);
    do {
        /* coverage: an assertion around a call with an effect */
        if (t && !weft__inject_push(&w->sched->inject, t))
            WEFT_ASSERT(!"the global queue is closed while tasks live");
    } while ((t = weft__runq_pop(&w->runq)) != NULL);
}

/* ---- classes ---- */

#define TURNS 16
#define FIRST_NORMAL 2

/* Whose turn it is. Evenly spread: 12 urgent, 3 normal, 1 background. */
static const uint8_t turn_of[TURNS] = {
    WEFT__CLASS_URGENT,    WEFT__CLASS_URGENT, [FIRST_NORMAL] = WEFT__CLASS_NORMAL,
    WEFT__CLASS_URGENT,    WEFT__CLASS_URGENT, WEFT__CLASS_URGENT,
    WEFT__CLASS_URGENT,    WEFT__CLASS_NORMAL, WEFT__CLASS_URGENT,
    WEFT__CLASS_URGENT,    WEFT__CLASS_URGENT, WEFT__CLASS_URGENT,
    WEFT__CLASS_NORMAL,    WEFT__CLASS_URGENT, WEFT__CLASS_URGENT,
    WEFT__CLASS_BACKGROUND};

/* Who gets it when that class has nothing to run. */
static const uint8_t order_of[WEFT__LANES][WEFT__LANES] = {
    [WEFT__CLASS_NORMAL] = {WEFT__CLASS_NORMAL, WEFT__CLASS_URGENT, WEFT__CLASS_BACKGROUND},
    [WEFT__CLASS_URGENT] = {WEFT__CLASS_URGENT, WEFT__CLASS_NORMAL, WEFT__CLASS_BACKGROUND},
    [WEFT__CLASS_BACKGROUND] = {WEFT__CLASS_BACKGROUND, WEFT__CLASS_URGENT, WEFT__CLASS_NORMAL}};

static struct weft__task *take_normal(struct weft__worker *w)
{
    struct weft__task *t = weft__worker_pick_normal(w);
    if (t == NULL)
        t = weft__worker_take_global(w);
    /* The others' rings count as well, or a worker whose own is empty would give the turns of the
     * class away while another one's is full. Only at the first of the three: mostly there is
     * nothing. */
    if (t == NULL && w->turn % TURNS == FIRST_NORMAL + 1) {
        t = weft__worker_steal(w);
        /* This worker was not counted among the searchers, and while it had the tasks in its hands
         * another one may have found none and gone to sleep. */
        if (weft__runq_len(&w->runq) >= WEFT__WAKE_LEN)
            weft__sched_wake_one(w->sched);
    }
    return t;
}

static struct weft__task *pop(struct weft__lanes *lanes, enum weft__class class)
{
    struct weft__qnode *node = weft__lanes_pop(lanes, class);
    return node ? WEFT__CONTAINER_OF(node, struct weft__task, qnode) : NULL;
}

/* Of the runtime's lanes: where tasks wait for their first run that will be pinned. */
static struct weft__task *pop_shared(struct weft__worker *w, enum weft__class class)
{
    struct weft__task *t = pop(&w->sched->lanes, class);
    if (t && (weft__a32_load_relaxed(&t->route) & WEFT__ROUTE_PINNED_BORN))
        weft__task_pin(t, w->index);
    return t;
}

/* Of those that are not pinned to this worker. */
static struct weft__task *take_shared(struct weft__worker *w, enum weft__class class)
{
    if (class != WEFT__CLASS_NORMAL)
        return pop_shared(w, class);
    /* The lane and the ring come first in turn, so that neither starves the other. */
    struct weft__task *t = w->turn & 1 ? pop_shared(w, class) : NULL;
    if (t == NULL)
        t = take_normal(w);
    return t ? t : pop_shared(w, class);
}

/* How many tasks of the class that are not pinned come after one that is: as many as there are for
 * each that is pinned, as if all stood in one queue. */
static uint32_t others_for_one(const struct weft__worker *w, enum weft__class class)
{
    size_t others = class == WEFT__CLASS_NORMAL
                        ? weft__runq_len(&w->runq)
                        : weft__lanes_len(&w->sched->lanes, class) / w->sched->worker_count;
    size_t share = others / (weft__lanes_len(&w->pinned, class) + 1);
    return share < WEFT__RUNQ_CAP ? (uint32_t)share : WEFT__RUNQ_CAP;
}

static struct weft__task *take_class(struct weft__worker *w, enum weft__class class)
{
    struct weft__task *t = NULL;
    if (w->until_pinned[class] > 0)
        w->until_pinned[class]--;
    else if ((t = pop(&w->pinned, class)) != NULL)
        w->until_pinned[class] = others_for_one(w, class);
    if (t == NULL)
        t = take_shared(w, class);
    return t ? t : pop(&w->pinned, class);
}

static void count_class(struct weft__worker *w, enum weft__class class)
{
    if (class == WEFT__CLASS_URGENT)
        weft__count_up(&w->urgent_runs);
    else if (class == WEFT__CLASS_BACKGROUND)
        weft__count_up(&w->background_runs);
}

struct weft__task *weft__worker_pick_class(struct weft__worker *w, struct weft__task *self)
{
    if (w->sched->watches_runs && w->ctx->current != NULL) {
        /* A fiber that leaves: the loop picks, and calls what is to be called in between. */
        w->until_events++;
        return NULL;
    }
    if (w->sched->is_seeded)
        return weft__seeded_pick(w);
    const uint8_t *order = order_of[turn_of[w->turn++ % TURNS]];
    for (unsigned i = 0; i < WEFT__LANES; i++) {
        enum weft__class class = (enum weft__class)order[i];
        struct weft__task *t = take_class(w, class);
        if (t == NULL && self != NULL && weft__task_class(self) == class)
            t = self;
        if (t != NULL) {
            count_class(w, class);
            return t;
        }
    }
    return NULL;
}

struct weft__task *weft__worker_take_classed(struct weft__worker *w)
{
    return weft__lanes_ready(&w->sched->lanes) ? weft__worker_pick_class(w, NULL) : NULL;
}

int weft__sched_pin_home(struct weft__core *core)
{
    const struct weft__sched *s = weft__sched_of(core);
    const struct weft__ctx *c = weft__ctx_now();
    return s->is_multi && c && c->worker && c->worker->sched == s ? (int)c->worker->index : -1;
}
