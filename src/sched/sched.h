/*
 * The scheduler of one runtime: workers, their queues, who sleeps and who wakes whom.
 *
 * multi_thread: each worker is a thread with a run queue, a next-to-run slot and a timer wheel, all
 * of which others can reach: a worker that is stuck in a task delays nobody else. current_thread:
 * one worker, and the thread that drives it is whoever blocks on the runtime.
 *
 * A task leaves its thread in one of three ways (worker.c): it parks, yields or ends; an executor
 * without a task leaves to stand by. The context
 * that runs next, a fiber or the worker's own loop, completes that: confirms the park, queues the
 * yielder, takes the stack back.
 */
#ifndef WEFT_SCHED_SCHED_H
#define WEFT_SCHED_SCHED_H

#include "fiber/fiber.h"
#include "io/driver.h"
#include "sched/inject.h"
#include "sched/lanes.h"
#include "sched/runq.h"
#include "sys/linger.h"
#include "sys/lock.h"
#include "sys/names.h"
#include "task/slab.h"
#include "task/state.h"
#include "task/task.h"
#include "time/timers.h"

#ifdef WEFT_MODEL
#define WEFT__WORKERS_MAX 8 /* memory that is freed is looked at byte by byte */
#else
#define WEFT__WORKERS_MAX 2048
#endif

/* Another worker is woken for queued work only from this length on: it costs 9 us to get a core out
 * of its sleep, and one task is usually reached sooner by the worker that has it. The monitor sees
 * to one that is not. */
#define WEFT__WAKE_LEN 2

struct weft__sched;

enum weft__leaving {
    WEFT__LEAVING_NOTHING,
    WEFT__LEAVING_PARK,
    WEFT__LEAVING_YIELD,
    WEFT__LEAVING_IDLE,
    WEFT__LEAVING_EXIT
};

enum weft__sleep {
    WEFT__AWAKE,
    WEFT__SLEEPS_ON_FUTEX,
    WEFT__SLEEPS_IN_DRIVER,
    WEFT__CLAIMED,           /* somebody woke it, and it has not noticed yet */
    WEFT__CLAIMED_TO_SEARCH, /* the same, and counted it among the searchers */
};

struct weft__worker {
    struct weft__sched *sched;
    uint32_t index;
    bool is_extra;
    struct weft__thread thread; /* multi_thread */
    weft__a32 thread_id;        /* of the thread; written before it runs tasks, read by all */
    int cpu_clock;              /* likewise; by the monitor, which a worker that drives has not */
    /* not started, or it could not be; written by who starts it, at first or under lock */
    weft__a32 has_no_thread;

    /* ---- the worker's own thread only ---- */
    struct weft__ctx *ctx; /* NULL while no thread is bound to it */
    /* Local sets, while the loop runs: it is nested, in that of this worker, or on a thread that is
     * none (NULL). */
    bool is_nested;
    struct weft__worker *outer;
    struct weft__stack loop;    /* context of the worker's loop, on the thread's own stack */
    struct weft__task *leaving; /* left, to be completed by the context after it */
    struct weft__stack *leaving_stack;
    enum weft__leaving leaving_how;
    /* an executor without a task, suspended in its loop: starts the next new task without setting a
     * stack up */
    struct weft__stack *spare;
    struct weft__task *handoff; /* chosen by a fiber that could not run it itself; runs next */
    struct weft__slab_cache tasks;
    struct weft__stack_cache stacks;
    size_t wait_depth; /* of the task that parked last, below the header of its stack; a guess */
    uint32_t until_events; /* runs left until timers and driver are looked at */
    uint32_t until_global; /* runs left until the global queue comes first */
    uint32_t slot_streak;  /* runs in a row out of the slot */
    uint32_t turn;         /* counts picks while classes are in use */
    /* by class: picks until the tasks pinned to this worker have their turn */
    uint32_t until_pinned[WEFT__LANES];
    uint32_t looked_at;  /* weft__coarse() of the clock, when it looked at timers last */
    uint64_t rng;        /* of weft__random_next() */
    uint64_t quiet_tick; /* tick at the last sleep without an end, current_thread */
    /* on a paused clock: timers that are due fire then at the latest; 0: none is held up */
    uint64_t held_until_tick;
    /* with watches_runs: the task whose run has begun, referenced; and what its hooks are told */
    struct weft__task *watched;
    weft_task_meta watched_meta;
    uint64_t serial; /* on a seeded runtime: of the task that runs, or ran last */
    /* sleeps no longer than this; WEFT_NEVER but in a shutdown that drives */
    uint64_t wake_at_ns;
    struct weft__linger gathering; /* whether tasks from outside come several at once */
    bool is_searching;
    bool is_forked; /* in a forked child: where the parent's tasks end */

    /* ---- written by the worker, read by others ---- */
    /* runs begun; a task that stays is one whose tick stays */
    weft__a64 tick WEFT__ALIGNED(WEFT__CACHE_LINE);
    weft__aptr running; /* task it is in; NULL in the loop */
    weft__a64 looks;    /* times it looked at timers and driver */
    weft__a64 spawned, ended, steals, overflows, parks;
    weft__a64 urgent_runs, background_runs; /* runs begun of these classes */

    /* ---- shared ---- */
    weft__aptr slot WEFT__ALIGNED(WEFT__CACHE_LINE); /* next to run; taken by swap */
    /* set by the monitor when the worker sticks: thieves may take the slot */
    weft__a32 slot_is_open;
    /* enum weft__sleep; a claimer exchanges it and owes one wake-up */
    weft__a32 sleep;
    weft__a32 permit;     /* futex word: a claimer stores 1 */
    weft__a32 is_dormant; /* extra workers: out of service */
    /* inside weft_block_in_place(); written by the worker, read by the monitor */
    weft__a32 in_place;
    weft__a32 sleeps_for_lock; /* of ours, weft__lock_tell(); likewise */
    struct weft__lanes pinned; /* tasks that run here only */
    struct weft__runq runq WEFT__ALIGNED(WEFT__CACHE_LINE);
    struct weft__timers timers WEFT__ALIGNED(WEFT__CACHE_LINE);

    /* ---- the monitor's notes ---- */
    uint64_t seen_tick, seen_since_ns;
    uint64_t seen_looks, looked_ns;
    uint64_t seen_cpu_ns; /* CPU time of the thread when it was first seen in this task */
    bool seen_in_task, seen_stuck, was_reported;
};

struct weft__sched_hooks {
    void (*thread_start)(void *arg);
    void (*thread_stop)(void *arg);
    void (*thread_park)(void *arg);
    void (*thread_unpark)(void *arg);
    void (*task_spawn)(const weft_task_meta *task, void *arg);
    void (*task_terminate)(const weft_task_meta *task, void *arg);
    void (*task_run_begin)(const weft_task_meta *task, void *arg);
    void (*task_run_end)(const weft_task_meta *task, void *arg);
    void *arg;
};

enum weft__stop {
    WEFT__STOP_NOT,
    WEFT__STOP_FOR_GOOD, /* they end */
    WEFT__STOP_HALT,     /* workers stand still for a while: halt.h */
};

struct weft__sched {
    struct weft__core core; /* first: a core is its scheduler */
    bool is_multi;
    uint32_t worker_count; /* configured */
    uint32_t extra_max;
    uint32_t event_interval, global_interval;
    bool has_slot;
    /* Each run begins and ends in the worker's loop, which has something to do before and after. */
    bool watches_runs;
    /* Which task comes next is chosen at random, and the trace says which one did: seeded.c. Not
     * with is_multi. */
    bool is_seeded;
    weft__a64 trace;  /* written by the worker, read by all */
    weft__a64 serial; /* of the task spawned last */
    bool detects_deadlock;
    uint64_t stuck_after_ns;
    uint64_t timer_slack_ns; /* of the threads that run tasks; 0: left alone */
    uint64_t shutdown_grace_ns;
    uint64_t seed;
    struct weft__sched_hooks hooks;

    /* ---- written by all; in groups of what the same ones write ---- */
    struct weft__inject inject WEFT__ALIGNED(WEFT__CACHE_LINE);
    /* Urgent and background tasks, and normal ones that have not run yet and will be pinned. */
    struct weft__lanes lanes WEFT__ALIGNED(WEFT__CACHE_LINE);
    /* workers asleep or about to be; written by them and by claimers */
    weft__a32 idle_count WEFT__ALIGNED(WEFT__CACHE_LINE);
    weft__a32 searchers;      /* workers looking for work */
    weft__a32 is_lingering;   /* 1: one of these, which would sleep else */
    struct weft__linger luck; /* the lingerer's */
    weft__a64 seen_remote;    /* remote_schedules at its last turn; written by it, read by all */
    weft__a32 polling;        /* 1: somebody polls the driver */
    weft__a32 stop;           /* enum weft__stop; workers and the monitor look */
    weft__a32 halted;         /* workers that stand still for WEFT__STOP_HALT */
    weft__a32 monitor_stuck;  /* workers stuck now, by the monitor's count */
    weft__a32 in_place;       /* workers inside weft_block_in_place() */
    /* substitutes that are owed for want of memory or of a thread, or until workers that are halted
     * go on; written under lock */
    weft__a32 owed_workers;
    weft__a32 outside; /* threads inside weft_enter(): they may wake tasks */
    weft__a32 drives;  /* tasks that drive a local set, whose tasks may be woken from anywhere */
    weft__a32 jobs;    /* blocking jobs that have not ended: likewise, and a paused clock waits */
    /* 1: a thread outside this runtime has woken a task, and may do so again; written by such */
    weft__a32 is_woken_outside WEFT__ALIGNED(WEFT__CACHE_LINE);
    /* from threads that are no workers */
    weft__a64 outer_spawned, outer_ended, remote_schedules, stuck_reports;
    /* of threads that are no workers, and of extra workers */
    struct weft__timers outer_timers WEFT__ALIGNED(WEFT__CACHE_LINE);
    weft__a32 quiesce; /* futex word: changes when the last live task may have ended */
    weft__a32 quiesce_waiters;

    weft__a32 worker_high; /* workers ever made; written under lock, read by all */
    weft__aptr worker[WEFT__WORKERS_MAX];
    struct weft__lock lock; /* making workers */

    weft__a64 stackless_tasks;     /* cancelled because there was no memory for a stack */
    uint64_t deadlock_reported_at; /* runs made until then; by whoever checks, one at a time */
    struct weft__thread monitor;
    bool has_monitor;
    weft__a32 monitor_word; /* futex: 1 asleep for long */

    /* current_thread: who drives */
    struct weft__lock drive_lock;
    bool is_driven;                  /* under drive_lock */
    struct weft__node drive_waiters; /* under drive_lock */
};

static inline struct weft__sched *weft__sched_of(struct weft__core *core)
{
    return (struct weft__sched *)core;
}
/* How many workers there are, those out of service included. */
static inline uint32_t weft__sched_worker_high(const struct weft__sched *s)
{
    /* acquire pairs with the release in weft__worker_create(): all below it can be reached. */
    return weft__a32_load_acquire(&s->worker_high);
}
static inline struct weft__worker *weft__sched_worker(struct weft__sched *s, uint32_t i)
{
    /* acquire pairs with the release in weft__worker_create(), for who knows i from elsewhere, the
     * home of a pinned task. mutation: who has counted to worker_high has all this by then; and who
     * may wake a pinned task has, by the task's state, all that its worker did before. */
    return weft__aptr_load_acquire(&s->worker[i]);
}

/* An extra worker whose colleague does not stick any more, or has come back from blocking in place:
 * it leaves service. By its thread. */
static inline bool weft__worker_is_surplus(const struct weft__worker *w)
{
    if (!w->is_extra)
        return false;
    const struct weft__sched *s = w->sched;
    /* seq_cst: w announces that it sleeps, or that it is out of service, and then looks here; who
     * has counted down looks for those that sleep, and who has counted up for one that is out of
     * service */
    uint32_t needed =
        weft__a32_load_seq_cst(&s->monitor_stuck) + weft__a32_load_seq_cst(&s->in_place);
    return w->index - s->worker_count >= needed;
}

/* Of its thread, or of the one that drove it last. relaxed: it is worth what is known besides. */
static inline int weft__worker_thread_id(const struct weft__worker *w)
{
    return (int)weft__a32_load_relaxed(&w->thread_id);
}

/* ---- workers.c: workers and their threads ---- */

/* Makes worker `index`; under s->lock or before anybody else knows s. -ENOMEM. */
int weft__worker_create(struct weft__sched *s, uint32_t index, bool is_extra);
void weft__worker_destroy(struct weft__worker *w);
/* A worker's thread: binds, runs until s->stop, gives its reference to the core up. */
void weft__worker_thread(struct weft__worker *w);
/* Binds the calling thread to w and back. */
void weft__worker_attach(struct weft__worker *w);
void weft__worker_detach(struct weft__worker *w);

/* A worker's loop inside a task of another scheduler, or on a thread with a task of its own: the
 * local sets. What the thread was is kept in *n; the runtime it is in stays what it is. `here`
 * describes the stack that the caller stands on. No suspending in between. */
struct weft__nest {
    struct weft__task *current;
    struct weft__worker *worker;
    struct weft__slab_cache *slab_cache;
    struct weft__core *cache_core;
    uint64_t *rng;
};
void weft__worker_enter(struct weft__worker *w, struct weft__nest *n,
                        const struct weft__stack *here);
void weft__worker_leave(struct weft__worker *w, const struct weft__nest *n);

/* core_ops */
struct weft__timers *weft__sched_timers_here(struct weft__core *core);

/* ---- worker.c: running tasks ---- */

/* Runs tasks until should_stop(arg) is true; looks at it between tasks and after sleeping. */
void weft__worker_loop(struct weft__worker *w, bool (*should_stop)(void *arg), void *arg);
/* A task from the queue of another worker, and more to the ring of w; or NULL. By its thread. */
struct weft__task *weft__worker_steal(struct weft__worker *w);

/* Runs what is queued, at most so many runs, without looking at timers and driver and without
 * sleeping. True when there may be more. */
bool weft__worker_run(struct weft__worker *w, uint32_t runs);
/* In a forked child, by its thread: what it runs of a runtime ends when it is back in weft.
 * Async-signal-safe. */
void weft__sched_after_fork(void);
/* Ends the executor that stands by, so that the tools that watch stacks see it end. */
void weft__worker_dismiss_spare(struct weft__worker *w);

/* core_ops */
void weft__sched_park(struct weft__task *self);
void weft__sched_yield(struct weft__task *self);
WEFT__NORETURN void weft__sched_exit(struct weft__core *core, struct weft__stack *stack);
bool weft__sched_admit(struct weft__core *core);
void weft__sched_ended_outside(struct weft__core *core);
void weft__sched_timers_rearmed(struct weft__core *core, struct weft__timers *ts);

/* ---- queues.c: which task comes next; the rest is in queues.h ---- */

/* core_ops */
void weft__sched_enqueue(struct weft__core *core, struct weft__task *task);
void weft__sched_start(struct weft__core *core, struct weft__task *task);
int weft__sched_pin_home(struct weft__core *core);
/* Moves everything queued on w to the global queue, except what is pinned to it. By its thread. */
void weft__worker_spill_all(struct weft__worker *w);

/* ---- hooks.c ---- */

/* Calls a hook of the configuration, in which nothing may wait; a panic ends there. NULL: none. By
 * w's thread. */
void weft__worker_hook(struct weft__worker *w, void (*hook)(void *arg));
/* With watches_runs: a run of t is about to begin, by the loop; the run is over, and nobody else
 * has heard of it yet (by the loop too, or sooner by who lets others hear). Again: does nothing. */
void weft__worker_run_begins(struct weft__worker *w, struct weft__task *t);
void weft__worker_run_ended(struct weft__worker *w);
/* core_ops */
void weft__sched_task_spawned(struct weft__task *t);
void weft__sched_task_ends(struct weft__task *t);

/* ---- seeded.c ---- */

enum weft__trace_event {
    WEFT__TRACE_SPAWNED,
    WEFT__TRACE_QUEUED,
    WEFT__TRACE_RUNS,
    WEFT__TRACE_LEAVES, /* and how: with enum weft__leaving added */
};
/* Mixes what happened to a task into the trace. By the worker's thread. */
void weft__seeded_trace(struct weft__sched *s, uint64_t serial, unsigned event);
/* One of the tasks that are ready, at random; NULL without one. By the worker's thread. */
struct weft__task *weft__seeded_pick(struct weft__worker *w);

/* ---- idle.c: sleeping and waking ---- */

/* Wakes one sleeping worker unless one is searching already. After work was made visible with a
 * seq_cst store. */
void weft__sched_wake_one(struct weft__sched *s);
/* True when a worker that looks for work should find some. seq_cst loads. */
bool weft__sched_has_work(struct weft__sched *s);
/* Wakes w if it sleeps, dormant or not. After work for it was made visible with a seq_cst store. */
void weft__sched_wake_worker(struct weft__worker *w);
/* Wakes a sleeping worker in any case. False when none sleeps. */
bool weft__sched_claim_one(struct weft__sched *s);
void weft__sched_wake_all(struct weft__sched *s);
/* Those that sleep, so that they look whether they are needed. After the count of those that need
 * one was lowered with seq_cst. */
void weft__sched_wake_extras(struct weft__sched *s);
/* By the worker without work: sleeps until woken, a timer, or an event. */
void weft__worker_sleep(struct weft__worker *w, bool (*should_stop)(void *arg), void *arg);
/* By the worker without work, which searches no more: looks out for some for a moment, if that is
 * likely to come, as a searcher, which it stays. True: there is some, or it is to stop. */
bool weft__worker_linger(struct weft__worker *w, bool (*should_stop)(void *arg), void *arg);
/* Timers and driver, without waiting. True when something was woken. */
bool weft__worker_look(struct weft__worker *w);
/* True when no task may be alive: exact when nobody spawns meanwhile. */
bool weft__sched_is_quiescent(struct weft__sched *s);
uint64_t weft__sched_alive(struct weft__sched *s);
/* Waits until no task is alive, or until deadline_ns: false then. Not on a worker. */
bool weft__sched_wait_quiescent(struct weft__sched *s, uint64_t deadline_ns);
/* Tells waiters of wait_quiescent to look. */
void weft__sched_check_quiescent(struct weft__sched *s);

/* ---- paused.c: the clock stands still; by the worker of a current_thread runtime ---- */

/* Fires what is due at now_ns, in order; not all of it when it is much. */
unsigned weft__sched_expire_paused(struct weft__worker *w, uint64_t now_ns);
/* After announcing that it sleeps: the time to which the clock jumps, since nothing can run.
 * WEFT_NEVER: it waits, for a blocking job, or because there is no timer. */
uint64_t weft__sched_next_jump(struct weft__worker *w);

/* ---- monitor.c ---- */

int weft__monitor_start(struct weft__sched *s);
void weft__monitor_stop(struct weft__sched *s);
/* By a worker that wakes up: the monitor may be asleep. */
void weft__monitor_poke(struct weft__sched *s);
/* Adds a worker, or puts a dormant one back into service, or wakes a sleeping one. */
void weft__sched_add_worker(struct weft__sched *s);
/* Reports tasks that all wait with nothing outside to wake them. */
void weft__sched_check_deadlock(struct weft__sched *s);

/* ---- dump.c ---- */

/* What weft_dump_with() writes; returns how many tasks. */
int64_t weft__sched_dump(struct weft__sched *s, int fd, const weft_dump_options *options);
/* The same for one task, on which the caller holds a reference, to the log. */
void weft__dump_log(enum weft_log_level level, struct weft__sched *s, struct weft__task *t,
                    struct weft__names *names);

#endif
