#include "blocking/pool.h"

#include "fiber/stack.h"
#include "task/ending.h"
#include "task/panic.h"
#include "task/spawn.h"
#include "task/task_local.h"
#include "task/state.h"

#include <errno.h>

#define FAN_OUT 2 /* how many others a thread sends for when it gets to the queue */

/* Those at work keep up when the jobs that are left would take them no longer than so many times as
 * long as the last moment, if each took as long as those that have begun in it. */
#define KEEPS_UP_TIMES 4
#ifdef WEFT_MODEL
#define KEEPS_UP_MIN 1
#else
#define KEEPS_UP_MIN 4 /* jobs in a moment; fewer tell nothing */
#endif
#define STAND_BY_NS 50000 /* such a moment, but for the kernel's slack */

struct weft__pool_thread {
    struct weft__pool *pool;
    struct weft__thread thread; /* written under the lock; read by who joins it */
    struct weft__node node;     /* in pool->idle, under the lock */
    size_t begun;               /* pool->begun when it was sent for; under the lock */
    weft__a32 word;             /* futex: enum idling; written under the lock */
};

enum idling {
    ASLEEP,
    LINGERS, /* looks at the word: no system call wakes it */
    TAKEN,   /* off the list */
};

void weft__pool_init(struct weft__pool *p, struct weft__core *core, unsigned threads_max,
                     uint64_t keep_alive_ns, bool may_linger, weft__a32 *jobs)
{
    *p = (struct weft__pool){.core = core,
                             .threads_max = threads_max,
                             .keep_alive_ns = keep_alive_ns,
                             .may_linger = may_linger,
                             .jobs = jobs};
    weft__list_init(&p->idle);
    weft__lock_claim(&p->lock);
}

/* ---- running jobs ---- */

/* What a job waits for in the queue, for dumps; nobody polls it. */
static const weft_future_ops free_thread = {.name = "a thread of the blocking pool"};

struct call {
    struct weft__task *job;
    void *value;
};

static void call_body(void *arg)
{
    struct call *c = arg;
    c->value = c->job->fn(c->job->arg);
}

static void run(struct weft__pool *p, struct weft__task *job)
{
    struct weft__ctx *c = weft__ctx_get();
    struct weft__locals locals = {.bindings =
                                      weft__inherited_top(job->cold ? job->cold->inherited : NULL)};
    job->locals = &locals;
    weft__aptr_store_relaxed(&job->waiting_for, NULL);
    c->current = job;
    if (weft__a64_load_acquire(&job->state) & WEFT__TASK_ABORT) {
        weft__task_complete_unstarted(job);
    } else {
        struct call call = {.job = job};
        job->started = true;
        weft_panic_info *info = weft__call_contained(call_body, &call);
        weft__task_body_returned(job);
        weft__locals_end(&locals);
        weft__task_complete(job, info ? WEFT_OUTCOME_PANICKED : WEFT_OUTCOME_VALUE, call.value,
                            info);
    }
    c->current = NULL;
    weft__a32_sub_seq_cst(p->jobs, 1);
    p->core->ops->ended_outside(p->core);
}

/* Under the lock. */
static struct weft__task *pop(struct weft__pool *p)
{
    struct weft__qnode *n = p->first;
    if (n == NULL)
        return NULL;
    p->first = n->next;
    p->queued--;
    p->begun++;
    return WEFT__CONTAINER_OF(n, struct weft__task, qnode);
}

/* ---- threads ---- */

/* NULL: none. */
static void join(struct weft__pool_thread *t)
{
    if (t)
        weft__sys_thread_join(&t->thread);
    weft__free(t);
}

/* Under the lock. The word is to be woken, and by then perhaps not there any more: no store. NULL:
 * nobody sleeps on it. */
static weft__a32 *send_for(struct weft__pool *p, struct weft__pool_thread *t)
{
    p->coming++;
    t->begun = p->begun;
    /* relaxed, here and below: the thread looks at what is under the lock */
    bool is_asleep = weft__a32_load_relaxed(&t->word) == ASLEEP;
    weft__a32_store_relaxed(&t->word, TAKEN);
    return is_asleep ? &t->word : NULL;
}

/* Under the lock; likewise. */
static weft__a32 *take_idle(struct weft__pool *p)
{
    struct weft__pool_thread *t = p->lingers;
    if (t == NULL)
        t = WEFT__CONTAINER_OF(p->idle.next, struct weft__pool_thread, node);
    p->lingers = NULL;
    weft__list_remove(&t->node);
    p->idle_count--;
    return send_for(p, t);
}

/* Under the lock; likewise. */
static weft__a32 *take_stand_by(struct weft__pool *p)
{
    struct weft__pool_thread *t = p->stands_by;
    p->stands_by = NULL;
    return send_for(p, t);
}

static void wake(weft__a32 *word)
{
    if (word)
        weft__sys_futex_wake(word, 1);
}

static void *thread_main(void *arg);

/* Under the lock. */
static int start_thread(struct weft__pool *p)
{
    struct weft__pool_thread *t = weft__malloc(sizeof *t);
    if (t == NULL)
        return -ENOMEM;
    t->pool = p;
    t->begun = p->begun;
    int rc = weft__sys_thread_start(&t->thread, "weft-blocking", thread_main, t);
    if (rc < 0) {
        weft__free(t);
        return rc;
    }
    p->thread_count++;
    p->coming++;
    return 0;
}

/* Under the lock. *ret_word is woken without the lock, which the woken thread wants. When all that
 * there may be have work, they get to the queue; fails only where there is no thread, and none can
 * be started. */
static int send_for_thread(struct weft__pool *p, weft__a32 **ret_word)
{
    int rc = 0;
    if (p->stands_by != NULL && p->lingers == NULL)
        *ret_word = take_stand_by(p);
    else if (p->idle_count > 0)
        *ret_word = take_idle(p);
    else if (p->thread_count < p->threads_max)
        rc = start_thread(p);
    return p->thread_count > 0 ? 0 : rc;
}

static bool is_taken(void *arg)
{
    const struct weft__pool_thread *me = arg;
    return weft__a32_load_relaxed(&me->word) != LINGERS;
}

/* Under the lock, which is dropped meanwhile. True: somebody has taken it off the list. */
static bool linger(struct weft__pool *p, struct weft__pool_thread *me)
{
    p->lingers = me;
    weft__a32_store_relaxed(&me->word, LINGERS);
    weft__lock_release(&p->lock);
    (void)weft__linger(is_taken, me);
    weft__lock_acquire(&p->lock);
    bool in_vain = !weft__list_is_empty(&me->node);
    weft__linger_learn(&p->luck, in_vain);
    if (in_vain)
        p->lingers = NULL;
    return !in_vain;
}

/* Under the lock, which is dropped meanwhile. False when the thread has idled long enough. */
static bool idle(struct weft__pool *p, struct weft__pool_thread *me)
{
    weft__list_push_front(&p->idle, &me->node);
    p->idle_count++;
    if (p->may_linger && p->lingers == NULL && weft__linger_is_due(&p->luck) && linger(p, me))
        return true;
    weft__a32_store_relaxed(&me->word, ASLEEP);
    uint64_t until_ns = weft__add_sat(weft__sys_now_ns(), p->keep_alive_ns);
    int rc = 0;
    do {
        weft__lock_release(&p->lock);
        rc = weft__sys_futex_wait(&me->word, ASLEEP, until_ns);
        weft__lock_acquire(&p->lock);
        /* Under the lock the list tells: off it, we were sent for, whatever the futex said. */
        if (weft__list_is_empty(&me->node))
            return true;
    } while (rc != -ETIMEDOUT);
    weft__list_remove(&me->node);
    p->idle_count--;
    return false;
}

/* ---- standing by ---- */

/* Under the lock: whether so many jobs have begun since `begun` that those at work will soon have
 * run what is left. */
static bool keeps_up(const struct weft__pool *p, size_t begun)
{
    size_t n = p->begun - begun;
    return n >= KEEPS_UP_MIN && p->queued <= KEEPS_UP_TIMES * n;
}

/* Under the lock, which is dropped meanwhile: for as long as jobs come in bursts, and those at work
 * keep up with them. True: it is needed. */
static bool stand_by(struct weft__pool *p, struct weft__pool_thread *me)
{
    p->stands_by = me;
    do {
        p->relies = false;
        me->begun = p->begun;
        weft__a32_store_relaxed(&me->word, ASLEEP);
        uint64_t until_ns = weft__sys_now_ns() + STAND_BY_NS;
        weft__lock_release(&p->lock);
        (void)weft__sys_futex_wait(&me->word, ASLEEP, until_ns);
        weft__lock_acquire(&p->lock);
        if (p->stands_by != me) {
            p->coming--;
            return true;
        }
    } while (p->queued == 0 ? p->relies : keeps_up(p, me->begun));
    p->stands_by = NULL;
    return p->queued != 0;
}

/* ---- a thread of the pool ---- */

/* Runs a job, and sends for others before where jobs are left, unless somebody stands by. Under the
 * lock, which is dropped meanwhile. */
static void run_one(struct weft__pool *p, struct weft__task *job, unsigned others)
{
    weft__a32 *word[FAN_OUT] = {NULL};
    if (p->stands_by != NULL && p->queued > 0) {
        p->relies = true;
        others = 0;
    }
    for (unsigned i = 0; i < others && p->queued > p->coming; i++)
        (void)send_for_thread(p, &word[i]); /* else we get to it ourselves */
    weft__lock_release(&p->lock);
    for (unsigned i = 0; i < others; i++)
        wake(word[i]);
    run(p, job);
    weft__lock_acquire(&p->lock);
}

/* Under the lock, which is dropped meanwhile. */
static void work(struct weft__pool *p, struct weft__pool_thread *me)
{
    struct weft__task *job;
    do {
        p->coming--;
        if (keeps_up(p, me->begun) && (p->stands_by != NULL || !stand_by(p, me)))
            continue;
        if ((job = pop(p)) != NULL)
            run_one(p, job, FAN_OUT);
        while ((job = pop(p)) != NULL)
            run_one(p, job, p->coming == 0);
    } while (!p->is_closed && idle(p, me));
}

static void *thread_main(void *arg)
{
    struct weft__pool_thread *me = arg;
    struct weft__pool *p = me->pool;
    struct weft__ctx *c = weft__ctx_get();
    void *signal_stack = NULL;
    (void)weft__sigaltstack_init(&signal_stack); /* without it a fault is not named, no more */
    c->core = p->core;
    c->serves = p->core;
    weft__lock_acquire(&p->lock);
    work(p, me);
    struct weft__pool_thread *before = p->ended;
    p->ended = me;
    p->thread_count--;
    weft__a32_add_relaxed(&p->threads_word, 1);
    weft__lock_release(&p->lock);
    weft__sys_futex_wake(&p->threads_word, INT32_MAX);
    join(before);
    c->core = NULL;
    weft__sigaltstack_fini(signal_stack);
    return NULL;
}

/* Under the lock: whether somebody will get to a job that is queued now, even if those at work are
 * blocked. */
static bool is_attended(const struct weft__pool *p)
{
    if (p->coming > 0)
        return true;
    /* Who stands by looks after those at work, once there are some. */
    return p->stands_by != NULL && p->thread_count - p->idle_count > 1;
}

int weft__pool_submit(struct weft__pool *p, struct weft__task *job)
{
    weft__a32 *word = NULL;
    weft__lock_acquire(&p->lock);
    if (p->is_closed) {
        weft__lock_release(&p->lock);
        weft__task_refuse(job);
        return 0;
    }
    /* Who lingers is there at once, sooner than any that are coming. */
    int rc = p->lingers == NULL && is_attended(p) ? 0 : send_for_thread(p, &word);
    if (rc == 0) {
        weft__aptr_store_relaxed(&job->waiting_for, (void *)(uintptr_t)&free_thread);
        job->qnode.next = NULL;
        if (p->first)
            p->last->next = &job->qnode;
        else
            p->first = &job->qnode;
        p->last = &job->qnode;
        p->queued++;
        weft__a32_add_seq_cst(p->jobs, 1);
    }
    weft__lock_release(&p->lock);
    wake(word);
    return rc;
}

void weft__pool_close(struct weft__pool *p)
{
    weft__lock_acquire(&p->lock);
    p->is_closed = true;
    struct weft__qnode *n = p->first;
    p->first = NULL;
    p->queued = 0;
    while (!weft__list_is_empty(&p->idle))
        wake(take_idle(p));
    if (p->stands_by)
        wake(take_stand_by(p));
    weft__lock_release(&p->lock);
    /* Destructors run without the lock. */
    while (n) {
        struct weft__qnode *next = n->next;
        weft__a32_sub_seq_cst(p->jobs, 1);
        weft__task_complete_unstarted(WEFT__CONTAINER_OF(n, struct weft__task, qnode));
        p->core->ops->ended_outside(p->core);
        n = next;
    }
}

void weft__pool_join(struct weft__pool *p)
{
    for (;;) {
        uint32_t seen = weft__a32_load_acquire(&p->threads_word);
        weft__lock_acquire(&p->lock);
        unsigned left = p->thread_count;
        struct weft__pool_thread *last = p->ended;
        weft__lock_release(&p->lock);
        if (left == 0) {
            p->ended = NULL; /* nobody else is left */
            join(last);
            return;
        }
        (void)weft__sys_futex_wait(&p->threads_word, seen, WEFT_NEVER);
    }
}

void weft__pool_counts(struct weft__pool *p, unsigned *ret_threads, unsigned *ret_idle,
                       size_t *ret_queued)
{
    weft__lock_acquire(&p->lock);
    *ret_threads = p->thread_count;
    *ret_idle = p->idle_count + (p->stands_by != NULL);
    *ret_queued = p->queued;
    weft__lock_release(&p->lock);
}
