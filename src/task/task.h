/*
 * The task: its memory, its state word, its references.
 *
 * One word holds what several threads must agree on; everything else belongs to whoever runs the
 * task, or is fixed before the first reference is published. state.h has one function per
 * transition.
 *
 *              spawn                       park confirmed by the next context
 *     (free) --------> RUNNABLE  ---------------------------------------------> PARKED
 *        ^                |  ^                                                     |
 *        |                |  +-----------------------------------------------------+
 *        |                |         wake or abort: exactly one caller sees PARKED and enqueues
 *        |                v
 *        +------------- DONE        last reference gone
 *
 *   RUNNABLE  neither bit: queued, running, or still switching away. A wake sets NOTIFIED only. A
 *             yield does not touch the word: the task stays runnable, and the context after it
 *             pushes it.
 *   PARKED    in no queue, on no thread; its context is saved.
 *   DONE      result or panic readable, cleanup over; the runtime's reference was given up in the
 *             same operation that set the bit, or right after it when there is a joiner.
 *
 * "Woken while still switching away" is RUNNABLE|NOTIFIED: the context that the leaving task
 * switched to finds the bit when it tries to set PARKED, and enqueues the task itself. A NOTIFIED
 * found when a task starts to run is cleared before it looks at what it waited for.
 */
#ifndef WEFT_TASK_TASK_H
#define WEFT_TASK_TASK_H

#include "atomic/atomic.h"
#include "base/base.h"
#include "base/list.h"
#include "fiber/fiber.h"
#include "sys/linger.h"
#include "task/clock.h"

#include <weft/future.h>
#include <weft/runtime.h>
#include <weft/task.h>

#include <setjmp.h>

#define WEFT__TASK_PARKED UINT64_C(0x01)
#define WEFT__TASK_NOTIFIED UINT64_C(0x02)
#define WEFT__TASK_DONE UINT64_C(0x04)
#define WEFT__TASK_ABORT UINT64_C(0x08) /* abort asked for */
/* shutdown's second phase: unwind, also through shields */
#define WEFT__TASK_UNWIND UINT64_C(0x10)
#define WEFT__TASK_HANDLE UINT64_C(0x20)   /* somebody may still take the outcome */
#define WEFT__TASK_JOINED UINT64_C(0x40)   /* join_waker is set, and is the completer's to wake */
#define WEFT__TASK_REJOINED UINT64_C(0x80) /* a joiner has taken its waker back, once or more */
/* 24 bits: runtime, handle, abort handles, wakers inside weft */
#define WEFT__TASK_REF UINT64_C(0x10000)
/* 24 bits: wakers outside: something unknown may wake it */
#define WEFT__TASK_WAKER (UINT64_C(1) << 40)
#define WEFT__TASK_REFS_MASK (~(WEFT__TASK_REF - 1))

enum weft__task_kind {
    WEFT__TASK_FIBER,
    WEFT__TASK_FUTURE,
    WEFT__TASK_BLOCKING, /* a job of the blocking pool; runs as a thread task */
    WEFT__TASK_THREAD,   /* a plain thread that waits inside weft_enter() */
    WEFT__TASK_BODY,     /* a body of weft_block_on() on its caller's thread */
};

/*
 * How a task is queued (weft__task.route). Zero, the usual case, is a task of the normal class that
 * any worker may run: who queues it looks no further.
 */
enum weft__class {
    WEFT__CLASS_NORMAL, /* enum weft_priority less one */
    WEFT__CLASS_URGENT,
    WEFT__CLASS_BACKGROUND,
};
#define WEFT__ROUTE_CLASS UINT32_C(3) /* enum weft__class */
/* cold->ready_ns is set when it is queued */
#define WEFT__ROUTE_STAMPED UINT32_C(4)
/* of a seeded runtime: queued for a random choice, and traced */
#define WEFT__ROUTE_SEEDED UINT32_C(32)
/* spawned pinned: to the worker that runs it first, and for good */
#define WEFT__ROUTE_PINNED_BORN UINT32_C(8)
/* runs on its home only, the worker with the index that stands in the upper half */
#define WEFT__ROUTE_PINNED UINT32_C(16)
#define WEFT__ROUTE_HOME_SHIFT 16

#define WEFT__TASK_INLINE_ARG 64
#define WEFT__OUTCOME_TAKEN 255 /* outcome: nothing is left in it */

struct weft__core;
struct weft__task;

/*
 * Called when a task has ended, in place of waking a joiner: for sets and scopes, which must learn
 * of every end, whatever the task died of and whether it ever ran. Given at spawn. As long as the
 * handle stays with whoever gave it the outcome is there to be taken; without a handle, never made
 * or given up, the outcome is dropped before, and t may be gone. Called once, with the task DONE,
 * by the thread that ended it, maybe on the task's own stack: fn must not suspend, and may run
 * destructors of the user's contained only. From its last touch of what it shares on the task is
 * the owner's.
 */
struct weft__end_hook {
    void (*fn)(struct weft__end_hook *hook, struct weft__task *t);
};

/* Where a panic inside a callback ends, so that the runtime goes on: weft__call_contained(). A body
 * of a thread task has one as well; the body of a fiber has none, it ends by leaving its stack. */
struct weft__boundary {
    jmp_buf env;
    /* what was registered before belongs to the outside */
    weft_cleanup *cleanups;
    struct weft_timeout *timeout_top, *timeout;
    struct weft_cancel_scope *cancel_top, *cancel;
    weft_enter_guard *guards; /* of the thread; a task enters none */
    struct weft__boundary *outer;
    weft_panic_info *panic;                      /* what arrived here */
    uint32_t no_wait_depth, unconstrained_depth; /* of blocks around the call */
    bool lets_unwind; /* an unwinding abort goes through: nothing but weft is in between */
};

/* What a task does beside waiting: it drives a local set (sched/local.c), whose tasks run on its
 * thread while it waits. By that thread alone. */
struct weft__drive {
    struct weft__drive *outer; /* of the same task; all of them are driven */
    struct weft__core *core;   /* the set: where weft_spawn_local() goes */
    /* ECANCELED, EPERM: waits end with it, negative, when they would park. 0: none. Atomic because
     * a driver may have moved away from the thread that shuts the set. */
    weft__a32 error;
    /* In place of those of core_ops, and for tasks that are threads as well. */
    void (*park)(struct weft__task *self);
    void (*yield)(struct weft__task *self);
};

/* What only the running task uses: lives at the top of its stack, or in the frame of a thread
 * task. */
struct weft__locals {
    /* ---- looked at by each wait ---- */
    /* the scope that expires first, of those not behind a shield */
    struct weft_timeout *timeout;
    struct weft_cancel_scope *cancel; /* innermost cancellation scope, of the same */
    struct weft__drive *drive;        /* innermost; NULL for all but a few */
    uint32_t shield_depth, no_wait_depth, unconstrained_depth;

    /* ---- the rest ---- */
    weft_cleanup *cleanups;
    struct weft_timeout *timeout_top;     /* innermost scope, whatever stands between */
    struct weft_cancel_scope *cancel_top; /* likewise */
    /* scopes of both kinds that a timer or a token points to: others write into them */
    uint32_t armed_scopes;
    uint32_t pin_depth;                       /* calls of weft_pin() and blocks to undo */
    struct weft_task_local_binding *bindings; /* innermost task-local */
    struct weft__boundary *boundary;          /* innermost */
    struct weft__stack *stack;                /* what an executor runs on; NULL for threads */
    /* In a try, see weft__try_begin(): polls inside that may be ready yet, and one. 0: outside. */
    uint32_t looks_left;
    uint32_t looks; /* of adapters, where there is no budget that counts them; goes round */
    bool is_panicking, is_unwinding;
    /* a wait has returned -ECANCELED, or the task was unwound: the outcome is cancelled */
    bool abort_seen;
};

/* Rarely used parts; allocated when an option needs them. */
struct weft__task_cold {
    void (*drop_arg)(void *);
    void (*drop_result)(void *);
    size_t stack_bytes;
    /* on a seeded runtime: of its tasks, in the order in which they were spawned */
    uint64_t serial;
    uint64_t ready_ns;                 /* under WEFT__ROUTE_STAMPED: when it was last queued */
    void *arg_block;                   /* heap copy of an argument too large for the task */
    struct weft__inherited *inherited; /* task-locals; dropped at the end, before DONE */
    char name[64];
};

/* Of a thread that waits as a task. */
enum weft__thread_word {
    WEFT__THREAD_LOOKS, /* or has not begun to wait */
    WEFT__THREAD_SLEEPS,
    WEFT__THREAD_WOKEN,
};

struct weft__task {
    /* What a turn of a task reads and writes: one line. */
    weft__a64 state;
    struct weft__qnode qnode; /* in the injection queue, or the free list */
    struct weft__core *core;
    struct weft__stack *stack; /* bound from first run to end; fibers */
    struct weft__locals *locals;
    /* weft_future_ops of the wait it is in; written by the task, read by dumps */
    weft__aptr waiting_for;
    /* WEFT__ROUTE_*. The class is written by anyone, and counts from the next time the task is
     * queued. */
    weft__a32 route;
    weft__a32 parked_at; /* weft__coarse(), as its worker last saw the clock; for dumps */
    uint16_t budget;
    uint8_t kind;    /* enum weft__task_kind */
    uint8_t outcome; /* enum weft_outcome_kind, once DONE */
    uint8_t on_abort;
    bool started; /* the body has begun */

    /* From birth, and for its end. */
    weft_task_fn fn WEFT__ALIGNED(WEFT__CACHE_LINE); /* NULL for a polled future */
    void *arg;                                       /* or the weft_future */
    union {
        void *value;
        weft_panic_info *panic;
    } result; /* by the task before DONE, by the joiner after; links, see sched/inject.c, while it
               * is in the injection queue */
    /* a weft_waker, under JOINED; or an end hook, see weft__end_hook_of(). Atomic because it is
     * read before it is won. */
    weft__aptr join_waker;
    /* written before the reference is published; read by registry walks */
    weft__a64 id;
    const weft_site *site;
    struct weft__task_cold *cold;
    uint32_t generation;                               /* of the slot; changes when it is freed */
    weft__a32 thread_word;                             /* enum weft__thread_word: thread tasks */
    _Alignas(16) char arg_copy[WEFT__TASK_INLINE_ARG]; /* as malloc would align it */
} WEFT__ALIGNED(WEFT__CACHE_LINE);

/* What a runtime offers to the layers below it; filled by runtime/. Any function may be called from
 * any thread unless it says otherwise. */
struct weft__core_ops {
    /* Makes a task that just left PARKED, or was just born, run. Takes no reference: the runtime's
     * own keeps it. */
    void (*enqueue)(struct weft__core *core, struct weft__task *task);
    /* Running task only: switches away until woken, or until its turn comes again. */
    void (*park)(struct weft__task *self);
    void (*yield)(struct weft__task *self);
    /* After a task was completed on `stack` by a panic or an unwinding abort: leaves the stack for
     * good. */
    void (*exit)(struct weft__core *core, struct weft__stack *stack) WEFT__NORETURN;
    /* The wheel for the calling thread: its worker's, or a common one for threads that are no
     * workers. */
    struct weft__timers *(*timers_here)(struct weft__core *core);
    /* A timer was armed that is the earliest of its wheel: who sleeps past it must look again. */
    void (*timers_rearmed)(struct weft__core *core, struct weft__timers *ts);
    /* The timer of a timeout scope, for the calling task: arm it, 0, or -ETIMEDOUT when it was due
     * and is not armed; ask for its state, 0 while it waits, -ETIMEDOUT once it has fired,
     * -ESHUTDOWN when it never will; disarm it, after which nothing touches the scope. */
    int (*timeout_arm)(struct weft__core *core, struct weft_timeout *scope, weft_waker *waker);
    int (*timeout_state)(const struct weft_timeout *scope);
    void (*timeout_disarm)(struct weft_timeout *scope);
    /* A task has panicked that nobody will join, under the policy to shut down. */
    void (*unhandled_panic)(struct weft__core *core);
    /* The index of the worker the caller runs on, whose tasks may move to others; negative where no
     * task moves. NULL: likewise. */
    int (*pin_home)(struct weft__core *core);
    /* With core->watches_tasks: a task was born, it has an id and cannot run yet; a task is about
     * to be done. */
    void (*task_spawned)(struct weft__task *task);
    void (*task_ends)(struct weft__task *task);
    /* A task that was admitted ended elsewhere than on a worker: for the count of live ones. */
    void (*ended_outside)(struct weft__core *core);
    /* A task was spawned: true, or false when the runtime is shut. Counts it. */
    bool (*admit)(struct weft__core *core);
    /* The birth of a task that workers run: admitted, it is enqueued; else weft__task_refuse(). */
    void (*start)(struct weft__core *core, struct weft__task *task);
    /* A blocking job was spawned: hand it to the pool. */
    int (*submit_blocking)(struct weft__core *core, struct weft__task *task);
    /* A thread has entered (1) or left (-1) the runtime from outside. */
    void (*count_outside)(struct weft__core *core, int by);
};

struct weft__driver;
struct weft__timers;

enum weft__phase {
    WEFT__PHASE_RUNNING,
    WEFT__PHASE_STOPPING, /* no new task runs; those that live are cleaning up */
    WEFT__PHASE_DOWN,     /* nothing runs; waits end with -ESHUTDOWN */
};

/* Base of struct weft_runtime. */
struct weft__core {
    /* ---- read by whoever runs or spawns a task, hardly ever written ---- */
    const struct weft__core_ops *ops;
    uint64_t id;
    struct weft__slab *slab;
    size_t stack_bytes;
    struct weft__driver *driver; /* NULL with I/O switched off */
    /* The thread its tasks are bound to, as weft__thread_here(); 0: none. Local runtimes and
     * sets. */
    uint64_t home;
    uint32_t process;        /* that made it, as weft__sys_process() */
    uint32_t route_extra;    /* WEFT__ROUTE_*: of every task */
    uint32_t route_pinned;   /* of a task that is spawned pinned; 0 where no task moves */
    weft__a32 phase;         /* enum weft__phase; written by shutdown, read by all */
    weft__a32 is_panic_shut; /* 1: that is how it came to be shut */
    /* 1: a task of it waits for a timer or a descriptor of another runtime, or has waited; written
     * by such */
    weft__a32 waits_elsewhere;
    uint16_t budget;
    bool panics_shut_down; /* config.unhandled_panic */
    bool watches_tasks;
    bool needs_cold; /* every task has its rarely used parts */
    bool has_time;
    unsigned processors; /* its threads may run on; below 2 none lingers, see sys/linger.h */
    char name[32];
    struct weft__clock clock;

    /* ---- written by all, at each wake-up from outside: apart from what tasks need ---- */
    /* owner, threads, handles, timers; see weft__core_ref */
    weft__a64 refs WEFT__ALIGNED(WEFT__CACHE_LINE);
    weft__a64 handle_refs; /* the public ones among them, for the deadlock check */
    weft__a64 forced_yields;
};

/* True in a forked child: the threads of this runtime live in an ancestor. */
static inline bool weft__core_is_ancestral(const struct weft__core *core)
{
    return core->process != weft__sys_process();
}

static inline void weft__core_ref(struct weft__core *core)
{
    weft__a64_add_relaxed(&core->refs, 1); /* the caller's own keeps it alive */
}
/* Closes the slab with the last one; the core goes with the last task slot somebody holds. */
void weft__core_unref(struct weft__core *core);

/* ---- the calling thread (ctx.c) ---- */

struct weft__worker;

struct weft__slab_cache;

struct weft__ctx {
    struct weft__task *current; /* the task running on this thread */
    /* when the thread is a worker, or drives a current_thread runtime */
    struct weft__worker *worker;
    struct weft__core *core;             /* the runtime the thread is in; NULL outside */
    struct weft__slab_cache *slab_cache; /* the worker's, for tasks of cache_core */
    struct weft__core *cache_core;
    /* what the thread waits as when it runs no task; of core. Made on demand */
    struct weft__task *thread_task;
    /* the task that called weft_block_in_place() on this thread */
    struct weft__task *in_place_task;
    weft_enter_guard *guards; /* innermost weft_enter() */
    struct weft__core *local; /* what is entered for weft_spawn_local(); NULL: nothing */
    /* A worker's thread, or one of the blocking pool: whose, to its very end. Not followed: it may
     * be gone. */
    const struct weft__core *serves;
    uint64_t thread;            /* a number of its own, never used again; 0 until asked for */
    struct weft__locals locals; /* cleanups and boundaries outside a task */
    bool in_hook;               /* inside a hook: nothing may wait */
    struct weft__linger luck;   /* of its waits as a plain thread */
    struct weft__ticker ticker;
    /* In a hook: the innermost of those that were entered around it, which it does not leave. */
    weft_enter_guard *hook_guards;
    uint64_t *rng;    /* state of weft__random_next(): the worker's, or own_rng */
    uint64_t own_rng; /* of the thread; 0 until used */
    /* Of a copy function of a task-local, until the spawn that called it has undone what it had
     * begun: see weft__spawn_result(). */
    weft_panic_info *spawn_panic;
};

extern __thread struct weft__ctx *weft__tls_ctx
    __attribute__((visibility("hidden"), tls_model("initial-exec")));

/* The out-of-line form. */
struct weft__ctx *weft__ctx_load(void);

/* The calling thread's context; NULL when it never used weft. Ask again after anything that may
 * suspend. The empty-looking asm is what keeps two calls two: see STYLE. */
static inline struct weft__ctx *weft__ctx_now(void)
{
    struct weft__ctx *c;
#if defined(__x86_64__) && !defined(WEFT__TSAN) && !defined(WEFT__ASAN)
    __asm__ volatile("movq weft__tls_ctx@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=&r"(c));
#elif defined(__aarch64__)
    void *tp;
    __asm__ volatile("mrs %1, tpidr_el0\n\tadrp %0, :gottprel:weft__tls_ctx\n\t"
                     "ldr %0, [%0, :gottprel_lo12:weft__tls_ctx]\n\tldr %0, [%0, %1]"
                     : "=&r"(c), "=&r"(tp));
#else
    c = weft__ctx_load();
#endif
    return c;
}
/* The same, created when missing. Never NULL. */
struct weft__ctx *weft__ctx_get(void) __attribute__((returns_nonnull));

static inline struct weft__task *weft__task_current(void)
{
    struct weft__ctx *c = weft__ctx_now();
    return c ? c->current : NULL;
}
/* t called weft_block_in_place() and cannot end before the caller, which is inside, does. Not for a
 * task of another runtime, or of a set, that is driven in there: what drives them may end before it
 * does. */
static inline bool weft__task_stands_here(const struct weft__task *t)
{
    const struct weft__ctx *c = weft__ctx_now();
    return c && WEFT__UNLIKELY(c->in_place_task == t) &&
           (c->current == NULL || c->current->kind == WEFT__TASK_BODY ||
            c->current->kind == WEFT__TASK_THREAD);
}
static inline struct weft__core *weft__core_current(void)
{
    struct weft__ctx *c = weft__ctx_now();
    return c ? c->core : NULL;
}

/* weft_now(), inline. */
static inline uint64_t weft__now(void)
{
    struct weft__core *core = weft__core_current();
    return core ? weft__clock_now(&core->clock) : weft__sys_now_ns();
}

/* The same for what begins now and lasts that long: three microseconds later at most, where that
 * does not tell, and for less than half. */
static inline uint64_t weft__now_for(uint64_t duration_ns)
{
    struct weft__ctx *c = weft__ctx_now();
    if (WEFT__UNLIKELY(duration_ns < 100 * WEFT_US || c == NULL || c->core == NULL))
        return weft__now();
    return weft__clock_about(&c->core->clock, &c->ticker);
}

/* Makes `core` what the thread is in, and `local` where its local tasks go, until the guard is
 * left; `entered` is referenced as long. No task runs on the thread. */
void weft__guard_enter(struct weft__ctx *c, weft_enter_guard *g, struct weft__core *entered,
                       struct weft__core *core, struct weft__core *local);
/* Leaves the guards inside `until`, which is one of the thread's, or NULL: all of them. */
void weft__guards_leave(struct weft__ctx *c, const weft_enter_guard *until);
/* True when g is a guard of the thread; NULL is around them all. */
bool weft__guard_is_entered(const struct weft__ctx *c, const weft_enter_guard *g);
weft_enter_guard *weft__guard_outer(const weft_enter_guard *g);

/* The number of the calling thread. Ask again after anything that may suspend. */
uint64_t weft__thread_here(void);

/* The runtime, or local set, that the caller waits in: whose wheel its timers go on. That of the
 * task; inside a local set not the caller's runtime, which is weft__core_current(). */
static inline struct weft__core *weft__core_waiting(void)
{
    struct weft__ctx *c = weft__ctx_now();
    return c == NULL ? NULL : c->current ? c->current->core : c->core;
}

/* A public handle is the task's address with the slot's generation in the bits that an address does
 * not use: the low six, and the high sixteen where pointers have 64 bits. So a spent handle is
 * found out. */
static inline weft_task *weft__task_handle(const struct weft__task *t)
{
    uintptr_t bits = (uintptr_t)t | (t->generation & 63);
#if UINTPTR_MAX > UINT32_MAX
    bits |= (uintptr_t)(t->generation >> 6 & 0xffff) << 48;
#endif
    return (weft_task *)bits;
}

static inline struct weft__task *weft__task_address(const weft_task *handle)
{
    uintptr_t bits = (uintptr_t)handle & ~(uintptr_t)63;
#if UINTPTR_MAX > UINT32_MAX
    bits &= ((uintptr_t)1 << 48) - 1;
#endif
    return (struct weft__task *)bits;
}

/* The task of a handle; NULL when it is spent, which is found out as long as the runtime lives. */
struct weft__task *weft__task_of_handle(const weft_task *handle);

static inline enum weft__class weft__task_class(const struct weft__task *t)
{
    return (enum weft__class)(weft__a32_load_relaxed(&t->route) & WEFT__ROUTE_CLASS);
}

static inline bool weft__task_is_pinned(const struct weft__task *t)
{
    return weft__a32_load_relaxed(&t->route) & WEFT__ROUTE_PINNED;
}

/* To the worker with that index. By who runs t, or is about to. */
void weft__task_pin(struct weft__task *t, uint32_t home);
/* Sets how often the caller has asked to be pinned; l: of the caller. */
void weft__pin_set_depth(struct weft__locals *l, uint32_t depth);

/* ---- wakers: a weft_waker is the task ---- */

static inline struct weft__task *weft__task_of_waker(weft_waker *w)
{
    return (struct weft__task *)w;
}
static inline weft_waker *weft__task_waker(struct weft__task *t)
{
    return (weft_waker *)t;
}
/* Both fit the field of the joiner: tasks are aligned, so a low bit is free to tell them apart. */
static inline weft_waker *weft__end_hook_tagged(struct weft__end_hook *hook)
{
    return (weft_waker *)((uintptr_t)hook | 1);
}
/* NULL for the waker of a joiner. */
static inline struct weft__end_hook *weft__end_hook_of(weft_waker *joiner)
{
    return (uintptr_t)joiner & 1 ? (struct weft__end_hook *)((uintptr_t)joiner & ~(uintptr_t)1)
                                 : NULL;
}
/* References that stay inside weft and do not count as a way in from outside. Take one under the
 * lock that guards the registration, wake after unlocking: `weft__waker_hold(w); unlock;
 * weft__waker_wake_release(w);` */
static inline void weft__waker_hold(weft_waker *w)
{
    /* relaxed: the holder of the registration keeps the count above zero */
    weft__a64_add_relaxed(&weft__task_of_waker(w)->state, WEFT__TASK_REF);
}
void weft__waker_wake_release(weft_waker *w);

/* ---- waiting (await.c) ---- */

/*
 * Every function that may suspend starts with begin: who calls, aborts, WEFT_NO_WAIT, budget.
 * `call` is its public name, `caller` the return address, for the log. 0; -EPERM; -ECANCELED;
 * -ETIMEDOUT (the budget was used up, the task yielded, and a deadline had passed).
 */
int weft__wait_begin_slow(const char *call, const void *caller);
/* t: weft__task_current(). Inline: a task about which nothing is unusual. False: not begun, and
 * weft__wait_begin_slow() has to. */
static inline bool weft__wait_begins(struct weft__task *t)
{
    /* In a forked child the budget is used up. relaxed: an abort that arrives this moment is as
     * good as one that arrives after the wait. */
    if (WEFT__UNLIKELY(
            t == NULL || t->kind == WEFT__TASK_FUTURE || t->budget <= 1 ||
            (weft__a64_load_relaxed(&t->state) & (WEFT__TASK_ABORT | WEFT__TASK_UNWIND)) ||
            t->locals->no_wait_depth || t->locals->cancel != NULL))
        return false;
    t->budget--;
    return true;
}
static inline int weft__wait_begin_of(struct weft__task *t, const char *call, const void *caller)
{
    return WEFT__LIKELY(weft__wait_begins(t)) ? 0 : weft__wait_begin_slow(call, caller);
}
static inline int weft__wait_begin(const char *call, const void *caller)
{
    return weft__wait_begin_of(weft__task_current(), call, caller);
}
/* In a forked child, before fork() returns: its task has no budget left, and threads outside of
 * runtimes wait as tasks of its own. Async-signal-safe. */
void weft__wait_after_fork(void);
/* For functions that are told apart from their callers: the task the caller waits as, NULL where
 * nothing can wait. */
struct weft__task *weft__wait_task(void);
/* Why it is NULL: -ENOMEM; or -EPERM, reported. */
int weft__wait_refused(const char *call, const void *caller);
/* Then the operation is tried. If it would block, this waits for its future: as weft_await()
 * without begin. */
int weft__wait_for(weft_future *f);
/* Operations of a future that was given NULL, which its init has reported: the poll says -EINVAL.
 * */
extern const weft_future_ops weft__future_invalid;
/* The same for a future that may turn out to be done when it is cancelled: *is_done says so. Then
 * the wait has succeeded, 0, and an abort that unwinds takes effect at the next one. */
int weft__wait_for_done(weft_future *f, const bool *is_done);
/*
 * The same, whatever happens: aborts, unwinding and deadlines are held back until f is ready. For
 * what has to be restored before they may take effect, as the mutex around a condition variable's
 * wait. -EPERM where nothing can wait.
 */
int weft__wait_for_held(weft_future *f);

/*
 * For the blocking_ forms: waits for f on a plain thread, which need not be in any runtime. No
 * begin before it. f's result, or without having polled f: -EPERM, reported, inside a task, a body
 * of weft_block_on() or a hook; -ENOMEM.
 */
int weft__wait_blocking(const char *call, weft_future *f, const void *caller);
/* Its first half, for forms that try before they wait: 0, or -EPERM, reported. */
int weft__blocking_begin(const char *call, const void *caller);

/* ---- random choices (ctx.c) ---- */

/* 64 random bits for choices that need be fair only: of the worker, whose seed is the runtime's; of
 * the thread elsewhere. */
uint64_t weft__random_here(void);

/* xorshift64*; *state is not 0. Source: S. Vigna, "An experimental exploration of Marsaglia's
 * xorshift generators, scrambled" (2016). */
static inline uint64_t weft__random_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

#endif
