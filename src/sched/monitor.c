/*
 * The monitor: a thread that looks at the workers while one of them is awake, every 10 ms, and
 * every 2 ms while a task is seen to run for long.
 *
 * A worker that was in the same task at two looks sticks for now: its next-to-run slot is opened to
 * thieves, its timers are fired here, and a sleeping worker is woken to take its queue and the
 * driver. One that sticks for longer gets a substitute: an extra worker, out of service again when
 * the first comes back. What is still queued at the next look, with every other worker busy, goes
 * to the global queue. And one that sticks for very long is named in the log. When every worker
 * sleeps for a while the monitor looks for a deadlock and sleeps too.
 */
#include "base/model.h"
#include "sched/queues.h"
#include "sched/sched.h"
#include "task/ending.h"
#include "task/panic.h"

#include <errno.h>
#include <stdio.h>

#define LOOK_NS (2 * WEFT_MS)
/* Between two looks as long as all runs are short: a look costs a busy worker its place on the
 * processor, and a process with little to do more than its work. */
#define CALM_NS (10 * WEFT_MS)
#define SHORT_RUN_NS (100 * WEFT_US)
#ifdef WEFT_MODEL
#define QUIET_NS 1
#else
#define QUIET_NS (100 * WEFT_MS) /* nobody is awake: until it sleeps, too */
#endif
#define REPORT_FACTOR 10 /* named in the log after so many times stuck_after_ns */
#define TRIM_AFTER_NS (5 * WEFT_SEC)

/* ---- deadlock ---- */

struct survey {
    struct weft__sched *sched;
    size_t waiting, runnable, reachable;
    struct weft__names *print; /* for names of addresses; NULL: nothing is written */
};

static void survey_one(struct weft__task *t, void *arg)
{
    struct survey *v = arg;
    uint64_t state = weft__a64_load_relaxed(&t->state);
    if (state & WEFT__TASK_DONE)
        return;
    if (v->print) {
        weft__dump_log(WEFT_LOG_WARN, v->sched, t, v->print);
        return;
    }
    if (!(state & WEFT__TASK_PARKED))
        /* one inside weft_enter() counts as outside anyway */
        v->runnable += t->kind != WEFT__TASK_THREAD;
    else
        v->waiting++;
    if (state >> 40) /* a waker outside weft: somebody unknown may use it */
        v->reachable++;
}

void weft__sched_check_deadlock(struct weft__sched *s)
{
    if (!s->detects_deadlock || weft__a32_load_relaxed(&s->core.phase) != WEFT__PHASE_RUNNING)
        return;
    /* Threads that enter no runtime may send to channels all the same, and so may the tasks of
     * another runtime; who has may again. And its timers and driver, which are seen to there. */
    if (weft__a32_load_relaxed(&s->is_woken_outside) ||
        weft__a32_load_relaxed(&s->core.waits_elsewhere))
        return;
    /* mutation: this is looked at when all has been quiet for 100 ms, and is about what lasts */
    if (weft__a32_load_seq_cst(&s->outside) || weft__a32_load_relaxed(&s->drives) ||
        weft__a32_load_seq_cst(&s->jobs) || weft__a64_load_seq_cst(&s->core.handle_refs))
        return;
    if (s->core.driver && weft__driver_source_count(s->core.driver))
        return;
    if (weft__a64_load_relaxed(&s->outer_timers.count))
        return;
    uint32_t count = weft__sched_worker_high(s);
    uint64_t runs = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct weft__worker *w = weft__sched_worker(s, i);
        if (weft__a64_load_relaxed(&w->timers.count))
            return;
        runs += weft__a64_load_relaxed(&w->tick);
    }
    if (runs == s->deadlock_reported_at || weft__sched_is_quiescent(s))
        return;
    struct weft__names names = {NULL};
    struct survey v = {.sched = s};
    weft__slab_walk(s->core.slab, survey_one, &v);
    if (v.runnable || v.reachable || v.waiting == 0)
        return;
    s->deadlock_reported_at = runs;
    weft__log(
        WEFT_LOG_WARN,
        "deadlock: all %zu tasks of runtime \"%s\" wait, and no timer, socket, blocking job or "
        "thread inside a runtime is left that could wake one (unless a thread outside is to):",
        v.waiting, s->core.name);
    weft__callback_returned(&s->core);
    v.print = &names;
    weft__slab_walk(s->core.slab, survey_one, &v);
    weft__names_forget(&names);
}

/* ---- stuck workers ---- */

/* The task in which w has been since its tick was this; referenced. NULL: it has left it. */
static struct weft__task *stuck_task(struct weft__worker *w, uint64_t tick)
{
    /* acquire pairs with the release in begin_run(): the tick of its run, or of a later one */
    struct weft__task *t = weft__aptr_load_acquire(&w->running);
    /* Task memory is type-stable: the reference may be tried for even if the task has ended
     * meanwhile. Held, with the tick unchanged, it is the task that sticks. */
    if (t == NULL || weft__task_try_ref(t) == NULL)
        return NULL;
    if (weft__a64_load_relaxed(&w->tick) == tick)
        return t;
    weft__task_unref(t);
    return NULL;
}

static void report(struct weft__sched *s, struct weft__worker *w, uint64_t tick, uint64_t age_ns)
{
    struct weft__names names = {NULL};
    struct weft__task *t = stuck_task(w, tick);
    if (t == NULL)
        return;
    weft__log(WEFT_LOG_WARN,
              "worker %u is stuck for %llu ms: its task blocks the thread or computes without "
              "waiting; other tasks go on beside it:",
              w->index, (unsigned long long)(age_ns / WEFT_MS));
    weft__callback_returned(&s->core);
    weft__dump_log(WEFT_LOG_WARN, s, t, &names);
    weft__names_forget(&names);
    weft__a64_add_relaxed(&s->stuck_reports, 1);
    weft__task_unref(t);
}

static bool has_queued(struct weft__worker *w)
{
    return weft__runq_len(&w->runq) || weft__aptr_load_relaxed(&w->slot);
}

/* To the global queue with what a worker that sticks has, at most half a ring a look. Others steal
 * only when they have run dry; where each of them, the substitute included, has a task that is
 * always ready none ever does, while the global queue has its turn all the same. */
static void hand_over(struct weft__sched *s, struct weft__worker *w)
{
    struct weft__task *taken[WEFT__RUNQ_CAP / 2 + 1];
    unsigned n = weft__runq_steal_some(&w->runq, taken, WEFT__RUNQ_CAP / 2);
    struct weft__task *next = weft__worker_take_slot(w);
    if (next)
        taken[n++] = next;
    if (n == 0)
        return; /* others were faster, or the worker is back */
    /* coverage: an assertion around a call with an effect */
    if (!weft__inject_push_many(&s->inject, taken, n))
        WEFT_ASSERT(!"the global queue is closed while tasks live");
    weft__sched_wake_one(s);
}

/* Sits in the driver's seat for a moment, if it is free. */
static void poll_in_passing(struct weft__sched *s)
{
    /* acquire: as in weft__worker_look() */
    if (weft__a32_load_relaxed(&s->polling) != 0 || weft__a32_swap_acquire(&s->polling, 1) != 0)
        return;
    (void)weft__driver_poll(s->core.driver, 0, WEFT__RUNQ_CAP);
    /* A worker that went to sleep meanwhile found the seat taken. seq_cst: we let go and look for
     * sleepers, it announces that it sleeps and looks whether we let go. */
    weft__a32_store_seq_cst(&s->polling, 0);
    if (weft__a32_load_seq_cst(&s->idle_count))
        (void)weft__sched_claim_one(s);
}

/* Timers and driver on behalf of a worker that has not looked for two of our rounds: because it
 * sticks, or because each of its runs takes long. */
static void look_for(struct weft__sched *s, struct weft__worker *w, uint64_t now_ns)
{
    uint64_t looks = weft__a64_load_relaxed(&w->looks);
    if (looks != w->seen_looks) {
        w->seen_looks = looks;
        w->looked_ns = now_ns;
        return;
    }
    if (now_ns - w->looked_ns < 2 * LOOK_NS)
        return;
    /* What is woken here counts as woken by the runtime, which knows of its timers and sockets, and
     * not by a thread outside it: see weft__sched_check_deadlock(). */
    struct weft__ctx *c = weft__ctx_get();
    c->core = &s->core;
    (void)weft__timers_expire(&w->timers, now_ns);
    (void)weft__timers_expire(&s->outer_timers, now_ns);
    if (s->core.driver)
        poll_in_passing(s);
    c->core = NULL;
}

/* Does the task itself keep the worker, by sleeping in the kernel or by computing? Or has the
 * thread only not had a CPU, or sleeps for a lock of ours whose holder has none: then another
 * worker would make it worse, and on a busy machine each substitute would beget the next, which
 * takes the next task and sleeps for the same lock. */
static bool is_to_blame(struct weft__sched *s, struct weft__worker *w)
{
    uint64_t used_ns = weft__sys_cpu_clock_ns(w->cpu_clock) - w->seen_cpu_ns;
    if (used_ns >= s->stuck_after_ns / 2)
        return true;
    /* In this order: the flag is set before the thread falls asleep. relaxed: a system call, and
     * the kernel's word on it, lie between. */
    return weft__sys_thread_is_asleep(weft__worker_thread_id(w)) &&
           !weft__a32_load_relaxed(&w->sleeps_for_lock);
}

/* What a look at all workers has found. */
struct finding {
    bool is_awake;      /* one of them at least */
    bool has_long_runs; /* one that is in a task now, and its runs are not short */
    uint32_t stuck;
};

static void look_at(struct weft__sched *s, struct weft__worker *w, uint64_t now_ns,
                    struct finding *f)
{
    if (weft__a32_load_relaxed(&w->has_no_thread))
        return;
    /* relaxed: an old one is taken for the same run only if the task has only just changed, and
     * the task is named by stuck_task() */
    uint64_t tick = weft__a64_load_relaxed(&w->tick);
    /* acquire pairs with the release in begin_run: the thread's id and clock are written */
    bool in_task = weft__aptr_load_acquire(&w->running) != NULL;
    /* seq_cst: after monitor_word was set this must not see a worker asleep that has looked at the
     * word before. */
    uint32_t sleep = weft__a32_load_seq_cst(&w->sleep);
    bool sleeps = sleep == WEFT__SLEEPS_ON_FUTEX || sleep == WEFT__SLEEPS_IN_DRIVER ||
                  weft__a32_load_seq_cst(&w->is_dormant);
    if (!sleeps) {
        f->is_awake = true;
        look_for(s, w, now_ns);
    }
    if (weft__a32_load_relaxed(&w->in_place))
        in_task = false; /* it may stay: there is a worker in its place */
    uint64_t age_ns = now_ns - w->seen_since_ns;
    if (in_task && (tick - w->seen_tick) * SHORT_RUN_NS < age_ns)
        f->has_long_runs = true;
    if (!in_task || !w->seen_in_task || tick != w->seen_tick) {
        w->seen_in_task = in_task;
        w->seen_tick = tick;
        w->seen_since_ns = now_ns;
        w->seen_stuck = w->was_reported = false;
        if (in_task) {
            WEFT__MODEL_READ(&w->cpu_clock); /* a model includes this file, and so is not told */
            w->seen_cpu_ns = weft__sys_cpu_clock_ns(w->cpu_clock);
        }
        return;
    }
    if (age_ns < LOOK_NS / 2)
        return;
    if (!weft__a32_load_relaxed(&w->slot_is_open)) /* the first that finds it in the same task */
        weft__a32_store_seq_cst(&w->slot_is_open, 1);
    if (has_queued(w) || weft__lanes_ready(&s->lanes) || weft__a32_load_relaxed(&s->polling) == 0)
        weft__sched_wake_one(s);
    if (age_ns < s->stuck_after_ns || (!w->seen_stuck && !is_to_blame(s, w)))
        return;
    f->stuck++;
    if (!w->seen_stuck) {
        w->seen_stuck = true;
        /* before the substitute looks whether it is needed */
        weft__a32_add_seq_cst(&s->monitor_stuck, 1);
        weft__sched_add_worker(s);
    } else if (has_queued(w) && weft__a32_load_relaxed(&s->idle_count) == 0) {
        hand_over(s, w); /* the substitute has had its chance, and nobody is asleep */
    }
    if (!w->was_reported && age_ns >= REPORT_FACTOR * s->stuck_after_ns) {
        w->was_reported = true;
        report(s, w, tick, age_ns);
    }
}

static void *extra_main(void *arg);

/* Under s->lock. */
static void start_extra(struct weft__sched *s, struct weft__worker *w)
{
    weft__core_ref(&s->core);
    /* seq_cst, as that the worker is there: then its thread looks whether to stop. Who halts all
     * says so, and counts those that have a thread then. */
    weft__a32_store_seq_cst(&w->has_no_thread, 0);
    if (weft__sys_thread_start(&w->thread, s->core.name, extra_main, w) < 0) {
        /* Out of threads: the slot is tried again by the next look. */
        weft__a32_store_relaxed(&w->has_no_thread, 1);
        weft__core_unref(&s->core);
        weft__a32_add_relaxed(&s->owed_workers, 1);
    }
}

/* Under s->lock: a worker that is out of service, or has no thread. */
static struct weft__worker *find_unused(struct weft__sched *s)
{
    uint32_t high = weft__a32_load_relaxed(&s->worker_high);
    for (uint32_t i = s->worker_count; i < high; i++) {
        struct weft__worker *w = weft__sched_worker(s, i);
        /* seq_cst: the caller has counted one more; a worker on its way out of service announces
         * that and looks at the count */
        if (weft__a32_load_relaxed(&w->has_no_thread) || weft__a32_load_seq_cst(&w->is_dormant))
            return w;
    }
    if (high >= s->worker_count + s->extra_max || high >= WEFT__WORKERS_MAX)
        return NULL;
    if (weft__worker_create(s, high, true) < 0) {
        weft__a32_add_relaxed(&s->owed_workers, 1);
        return NULL;
    }
    return weft__sched_worker(s, high);
}

void weft__sched_add_worker(struct weft__sched *s)
{
    weft__lock_acquire(&s->lock);
    struct weft__worker *w = NULL;
    /* relaxed: who stops takes the lock after he has set it, and counts the workers then */
    uint32_t stop = weft__a32_load_relaxed(&s->stop);
    if (s->is_multi && stop == WEFT__STOP_NOT)
        w = find_unused(s);
    else if (stop == WEFT__STOP_HALT) /* it is needed as soon as they go on */
        weft__a32_add_relaxed(&s->owed_workers, 1);
    if (w && weft__a32_load_relaxed(&w->has_no_thread)) {
        start_extra(s, w);
    } else if (w && weft__a32_swap_relaxed(&w->is_dormant, 0)) { /* one of several wakes it */
        weft__sys_futex_wake(&w->is_dormant, 1);
    }
    weft__lock_release(&s->lock);
    weft__sched_wake_one(s);
}

/* Tries once more what failed for want of memory or of a thread, or because the workers were
 * halted, if anybody still needs it: until then the tasks of a worker that is held up may have
 * nobody to run them. */
static void add_owed(struct weft__sched *s)
{
    if (WEFT__LIKELY(weft__a32_load_relaxed(&s->owed_workers) == 0))
        return;
    weft__lock_acquire(&s->lock);
    uint32_t owed = weft__a32_load_relaxed(&s->owed_workers);
    /* relaxed: who owes has counted the need before he took the lock */
    bool is_needed = owed != 0 && (weft__a32_load_relaxed(&s->monitor_stuck) != 0 ||
                                   weft__a32_load_relaxed(&s->in_place) != 0);
    weft__a32_store_relaxed(&s->owed_workers, is_needed ? owed - 1 : 0);
    weft__lock_release(&s->lock);
    if (is_needed)
        weft__sched_add_worker(s);
}

static void *extra_main(void *arg)
{
    struct weft__worker *w = arg;
    weft__worker_thread(w);
    return NULL;
}

/* ---- the thread ---- */

static struct finding look_at_all(struct weft__sched *s)
{
    struct finding f = {false, false, 0};
    uint64_t now_ns = weft__sys_now_ns();
    uint32_t count = weft__sched_worker_high(s);
    for (uint32_t i = 0; i < count; i++)
        look_at(s, weft__sched_worker(s, i), now_ns, &f);
    /* seq_cst: see weft__worker_is_surplus() */
    if (weft__a32_swap_seq_cst(&s->monitor_stuck, f.stuck) > f.stuck)
        /* asleep they would not notice that they are not needed any more */
        weft__sched_wake_extras(s);
    add_owed(s);
    return f;
}

/* Until the next look. Who owes a worker wants to try again soon. */
static uint64_t pace_ns(struct weft__sched *s, const struct finding *f)
{
    if (f->has_long_runs || weft__a32_load_relaxed(&s->owed_workers) || s->stuck_after_ns < LOOK_NS)
        return LOOK_NS;
    return s->stuck_after_ns < CALM_NS ? s->stuck_after_ns : CALM_NS;
}

/* Nobody is awake. After a while the memory of free stacks goes back to the kernel: a burst is then
 * not paid for until the end. */
static void sleep_long(struct weft__sched *s)
{
    uint64_t until_ns = weft__sys_now_ns() + TRIM_AFTER_NS;
    if (weft__sys_futex_wait(&s->monitor_word, 1, until_ns) != -ETIMEDOUT)
        return;
    weft__stack_pool_trim();
    (void)weft__sys_futex_wait(&s->monitor_word, 1, WEFT_NEVER);
}

static void sleep_unless_awake(struct weft__sched *s)
{
    /* seq_cst, as a worker going to sleep: we announce, then look whether anybody is awake; they
     * wake up, then look at us. */
    weft__a32_store_seq_cst(&s->monitor_word, 1);
    if (!look_at_all(s).is_awake && weft__a32_load_seq_cst(&s->stop) != WEFT__STOP_FOR_GOOD)
        sleep_long(s);
    weft__a32_store_relaxed(&s->monitor_word, 0);
}

static void *monitor_main(void *arg)
{
    struct weft__sched *s = arg;
    uint64_t quiet_ns = 0;
    while (weft__a32_load_relaxed(&s->stop) !=
           WEFT__STOP_FOR_GOOD) { /* looked at again before it sleeps for long */
        struct finding f = look_at_all(s);
        uint64_t next_ns = pace_ns(s, &f);
        quiet_ns = f.is_awake ? 0 : quiet_ns + next_ns;
        if (quiet_ns < QUIET_NS) {
            (void)weft__sys_futex_wait(&s->monitor_word, 0, weft__sys_now_ns() + next_ns);
            continue;
        }
        weft__sched_check_deadlock(s);
        sleep_unless_awake(s);
        quiet_ns = 0;
    }
    weft__core_unref(&s->core);
    return NULL;
}

void weft__monitor_poke(struct weft__sched *s)
{
    /* seq_cst, after the swap of `sleep`: see sleep_unless_awake(). The swap only makes one of
     * several wake it. */
    if (weft__a32_load_seq_cst(&s->monitor_word) && weft__a32_swap_relaxed(&s->monitor_word, 0))
        weft__sys_futex_wake(&s->monitor_word, 1);
}

int weft__monitor_start(struct weft__sched *s)
{
    weft__core_ref(&s->core);
    int rc = weft__sys_thread_start(&s->monitor, "weft-monitor", monitor_main, s);
    if (rc < 0)
        weft__core_unref(&s->core);
    s->has_monitor = rc == 0;
    return rc;
}

void weft__monitor_stop(struct weft__sched *s)
{
    if (!s->has_monitor)
        return;
    s->has_monitor = false;
    /* Differs from what it waits for in either sleep. seq_cst: it may store 1 over this, and looks
     * at `stop` then. mutation: the explorer has the stores of two threads in the order in which
     * they are carried out */
    weft__a32_store_seq_cst(&s->monitor_word, 2);
    weft__sys_futex_wake(&s->monitor_word, 1);
    weft__sys_thread_join(&s->monitor);
}
