/*
 * Tasks: spawn, join, abort, yield.
 *
 * A task is an independently scheduled function on a stack of its own (a fiber), which may wait
 * anywhere, however deep; or a polled future without a stack, for those who need a million idle
 * tasks in a few hundred bytes each. Handles, abort and outcome are the same for both, and for jobs
 * of the blocking pool.
 *
 * A handle is owned by one holder at a time: joining it to the end, or weft_task_detach(), gives it
 * up. Every function that takes a handle may be called from any thread.
 *
 * In a forked child a task of its parent's does not go on: waiting for its end returns -EPERM with
 * a line in the log, and aborting it does nothing. Its handle may be given up.
 */
#ifndef WEFT_TASK_H
#define WEFT_TASK_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/panic.h>

WEFT_BEGIN_DECLS

typedef struct weft_task weft_task;     /* the right to join a task */
typedef struct weft_handle weft_handle; /* a counted reference to a runtime, see runtime.h */
typedef struct weft_abort_handle weft_abort_handle;
typedef struct weft_local_set weft_local_set; /* see local.h */

/* The body of a task. What it returns is the task's value. */
typedef void *(*weft_task_fn)(void *arg);

/* What an abort does to a task that waits. */
enum weft_on_abort {
    /* The wait, and every later one, returns -ECANCELED, so ordinary cleanup code runs. */
    WEFT_ON_ABORT_RETURN,
    /* The wait does not return: cleanups of WEFT_DEFER run and the stack is dropped. For bodies
     * that register everything they own. */
    WEFT_ON_ABORT_UNWIND,
};

/*
 * How often a task has its turn while there is more to run than workers for it.
 *
 * Of every 16 tasks that a worker runs while tasks of all three classes are queued, 12 are urgent,
 * 3 normal and 1 background; turns of a class that has nothing to run go to the others, urgent ones
 * first. Never strict: whatever the others do, each class has its share of the turns (not of the
 * time: a task keeps its turn until it waits or yields). An urgent task that becomes runnable also
 * wakes a sleeping worker at once.
 */
enum weft_priority {
    WEFT_PRIORITY_INHERIT, /* of the task that spawns; normal outside tasks. For spawning only */
    WEFT_PRIORITY_NORMAL,
    WEFT_PRIORITY_URGENT,
    WEFT_PRIORITY_BACKGROUND,
};

typedef struct weft_spawn_options {
    const char *name;   /* copied (63 bytes are kept); NULL: none */
    size_t stack_bytes; /* 0: the runtime's default. Rounded up; at most 1 GiB */
    /* not 0: this many bytes at arg are copied into the task, and the body gets a pointer to the
     * copy, valid until it returns */
    size_t arg_bytes;
    /* called when the body never runs; with the copy, if copied */
    void (*drop_arg)(void *arg);
    /* called with a value that nobody joins, also NULL: where the task ends, or by who gives its
     * handle up, on that thread, also for a local task. With what the body of a task returned that
     * then counts as cancelled only when that is not NULL, where the task ends */
    void (*drop_result)(void *result);
    enum weft_on_abort on_abort;
    /* a blocking job passes its own on to what it spawns; the pool serves jobs in their order */
    enum weft_priority priority;
    /* true: once it has run, the task stays on the worker that ran it first; see weft_pin() */
    bool pinned;
    weft_handle *runtime; /* NULL: the runtime of the caller */
    /* not NULL: a local task of this set, on whose home thread the caller is; runtime is NULL
     * then */
    weft_local_set *local_set;
    const weft_site *site; /* NULL: the place of the macro */
} weft_spawn_options;

/*
 * Queues a new task and returns; the child never runs inside the call.
 *
 *     int weft_spawn(fn, arg, ret_task);
 *     int weft_spawn_with(options, fn, arg, ret_task);
 *
 *   options     borrowed; NULL: none. May be written in place:
 *               &(weft_spawn_options){.name = "fetch", .stack_bytes = 1 << 20}
 *   fn          the body
 *   arg         taken when the call succeeds
 *   ret_task    NULL: the task is detached. Else the handle, returned
 *
 * Returns 0, or nothing was taken and it is
 *   -EPERM      the caller is in no runtime (not a task, not inside weft_enter()) and none was
 *               named; or in a forked child it is the parent's
 *   -ENOMEM     out of memory. (The stack is taken when the task runs first: without memory for it
 *               the task is cancelled then, and the log says so)
 *   -EINVAL     fn is NULL, or an option is out of range
 * On a runtime that is shutting down the call succeeds, and the task is cancelled without having
 * run.
 *
 * Context:  tasks, threads inside weft_enter(), blocking jobs; any thread with options.runtime.
 *           Never suspends.
 */
#define weft_spawn(...) weft__spawn_at(NULL, __VA_ARGS__, WEFT_SITE)
#define weft_spawn_with(...) weft__spawn_at(__VA_ARGS__, WEFT_SITE)

/*
 * Spawns a task whose body is a future, polled on the worker's own stack until it is ready. Its
 * value is poll()'s result as (void *)(intptr_t)result.
 *
 *     int weft_spawn_future(options, f, ret_task);
 *
 *   options     may be NULL. arg_bytes copies the future into the task: up to 64 bytes cost no
 *               allocation. drop_arg is called with the future exactly once, when it has completed,
 *               was cancelled, or has panicked.
 *   f           taken when the call succeeds
 *
 * Returns and context as weft_spawn(). In poll() nothing may suspend.
 */
#define weft_spawn_future(...) weft__spawn_future_at(__VA_ARGS__, WEFT_SITE)

/*
 * Runs fn(arg) on a thread of the blocking pool, for calls that block and long computations.
 * Abort has no effect once it has started. It may use every call that a task may: waits park its
 * thread.
 *
 *     int weft_spawn_blocking(fn, arg, ret_task);
 *     int weft_spawn_blocking_with(options, fn, arg, ret_task);
 *
 * Arguments as weft_spawn(), of which what is about stacks, aborts and pinning counts for nothing.
 * Results as weft_spawn(), and -EAGAIN when there is no thread for it and none can be started. With
 * blocking_threads_max of them at work, or when the system has no more, jobs wait for one of them,
 * in order: for ever, if all of these wait for jobs themselves.
 */
#define weft_spawn_blocking(...) weft__spawn_blocking_at(NULL, __VA_ARGS__, WEFT_SITE)
#define weft_spawn_blocking_with(...) weft__spawn_blocking_at(__VA_ARGS__, WEFT_SITE)

WEFT_API WEFT_MUST_CHECK int weft__spawn_at(const weft_spawn_options *options, weft_task_fn fn,
                                            void *arg, weft_task **ret_task, const weft_site *site);
WEFT_API WEFT_MUST_CHECK int weft__spawn_future_at(const weft_spawn_options *options,
                                                   weft_future *f, weft_task **ret_task,
                                                   const weft_site *site);
WEFT_API WEFT_MUST_CHECK int weft__spawn_blocking_at(const weft_spawn_options *options,
                                                     weft_task_fn fn, void *arg,
                                                     weft_task **ret_task, const weft_site *site);

/* ---- ending ---- */

enum weft_outcome_kind {
    WEFT_OUTCOME_VALUE,    /* the body returned: value is what it returned, the caller's now */
    WEFT_OUTCOME_PANICKED, /* panic is set, the caller's now */
    /* aborted before it ran, while it waited, or by shutdown; or, when it was to run first, there
     * was no memory for its stack (logged) */
    WEFT_OUTCOME_CANCELLED,
};

typedef struct weft_outcome {
    enum weft_outcome_kind kind;
    uint64_t task_id;
    void *value;
    weft_panic_info *panic;
} weft_outcome;

/* Frees what an outcome owns beside its value: the panic. May be called twice. NULL does
 * nothing. */
WEFT_API void weft_outcome_fini(weft_outcome *o);
/* The outcome as an error: 0 value, -EOWNERDEAD panicked, -ECANCELED cancelled; -EINVAL for NULL
 * (logged). */
WEFT_API int weft_outcome_error(const weft_outcome *o);
/* Describes it in words, with the task's id, and the message of a panic that has one; NULL: "no
 * outcome". Returns the length that was needed, as snprintf does. */
WEFT_API int weft_outcome_describe(const weft_outcome *o, char *buf, size_t cap);

/*
 * Waits until the task has ended, cleanup included, and takes its outcome.
 *
 *   task          the handle; given up when 0 is returned, the caller's still otherwise
 *   ret_outcome   NULL: the outcome is dropped (a value through drop_result)
 *
 * Returns 0 when the task has ended, however it ended. Otherwise it goes on and the handle stays
 * valid:
 *   -ECANCELED  the calling task was aborted, or a token around the call cancelled
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -EINVAL     the handle is NULL, or was joined or detached before (found while its runtime
 *               lives, unless the slot has been used again exactly a multiple of 4 million times
 *               since)
 *   -EPERM, -ENOMEM, -ESHUTDOWN   the caller cannot wait, see weft_await(). On a thread in no
 *               runtime weft_blocking_select() waits for weft_case_join(); then weft_try_join()
 *   -EDEADLK    a task joins itself
 *
 * Context:       as weft_await(). May suspend.
 * Cancellation:  safe; joining again continues.
 */
WEFT_API WEFT_MUST_CHECK int weft_join(weft_task *task, weft_outcome *ret_outcome);
/* The same without waiting: -EAGAIN while the task has not ended. */
WEFT_API WEFT_MUST_CHECK int weft_try_join(weft_task *task, weft_outcome *ret_outcome);

/* The wait of weft_join() as a future, for composites. Its result is 0 when the task has ended;
 * then weft_try_join() succeeds. -EINVAL for a NULL or spent handle; -EDEADLK when a task waits for
 * itself (logged). One join future at a time waits for a task. */
typedef struct weft_join_future {
    weft_future future;
    weft_task *task;
    bool is_pending;
} weft_join_future;
WEFT_API void weft_join_future_init(weft_join_future *f, weft_task *task);

/* Gives the handle up. The task runs on to its end; a value it returns is dropped. NULL does
 * nothing. Never suspends. */
WEFT_API void weft_task_detach(weft_task *task);
/* Aborts the task and gives the handle up. NULL does nothing. Never suspends, does not wait for the
 * end. */
WEFT_API void weft_task_abort_detach(weft_task *task);

/* Holds a handle and aborts its task when the block is left, also when the caller panics or is
 * unwound, see WEFT_DEFER, unless disarmed: `WEFT_ABORT_ON_RELEASE(g, task);` */
typedef struct weft_task_guard {
    weft_task *task;
} weft_task_guard;
#define WEFT_ABORT_ON_RELEASE(guard, t)                                                            \
    weft_task_guard guard = {t};                                                                   \
    WEFT_DEFER(weft__task_guard_at_end, &guard)
/* Aborts and detaches what the guard still holds. NULL does nothing. */
WEFT_API void weft_task_guard_release(weft_task_guard *g);
/* Takes the handle back; the guard does nothing any more. NULL for NULL (logged). */
WEFT_API weft_task *weft_task_guard_disarm(weft_task_guard *g);
WEFT_API void weft__task_guard_at_end(void *guard); /* behind the macro */

/*
 * Asks a task to end. It does not wait for that. Before its first run: the body never runs.
 * Waiting, or at its next wait: see enum weft_on_abort. A task that ends before its next wait joins
 * with its value. A blocking job that has started is not affected. Idempotent; harmless after the
 * end.
 *
 * Returns 0, or -EINVAL for a NULL or spent handle. Any thread; never suspends.
 */
WEFT_API int weft_abort(weft_task *task);

/* An abort handle can abort a task without being able to join it. It keeps a header alive, neither
 * stack nor result. Counted; NULL does nothing in unref. */
WEFT_API weft_abort_handle *weft_task_abort_handle(weft_task *task); /* NULL for a spent handle */
WEFT_API weft_abort_handle *weft_abort_handle_ref(weft_abort_handle *h);
WEFT_API void weft_abort_handle_unref(weft_abort_handle *h);
WEFT_API void weft_abort_handle_abort(weft_abort_handle *h);
WEFT_API uint64_t weft_abort_handle_id(const weft_abort_handle *h);
WEFT_API bool weft_abort_handle_is_finished(const weft_abort_handle *h);

/* True only after the task's cleanup is over. False for a NULL or spent handle. */
WEFT_API bool weft_task_is_finished(const weft_task *task);
/* Unique in the process. 0 for a NULL or spent handle. */
WEFT_API uint64_t weft_task_id(const weft_task *task);
/* "" without a name, and for a NULL or spent handle; lives as long as the handle. */
WEFT_API const char *weft_task_name(const weft_task *task);
/* Where it was spawned. Static storage. NULL for a NULL or spent handle. */
WEFT_API const weft_site *weft_task_site(const weft_task *task);

/* ---- the running task ---- */

/* The id of the calling task. Outside a task, and in the body of weft_block_on(), 0; the first form
 * reports that as misuse. */
WEFT_API uint64_t weft_self_id(void);
WEFT_API uint64_t weft_self_try_id(void);
/* Its name; "" without one or outside a task. Lives as long as the task. */
WEFT_API const char *weft_self_name(void);
/* True once an abort of the calling task was asked for and is not held back: for computations that
 * never wait. */
WEFT_API bool weft_self_is_aborted(void);

/*
 * Changes the priority of the calling task, or of another one, from the next time it is queued on;
 * a task that is queued now keeps its place. Tasks it spawns from now on inherit the new one.
 *
 * Returns 0; -EINVAL when priority is not one of the three classes, or the handle is NULL or spent;
 * -EPERM when the caller is no task.
 *
 * Context: tasks, bodies of weft_block_on() and blocking jobs; with a handle any thread. Never
 * suspends.
 */
WEFT_API int weft_self_set_priority(enum weft_priority priority);
WEFT_API int weft_task_set_priority(weft_task *task, enum weft_priority priority);
/* Normal for a NULL or spent handle, and outside a task. Any thread. */
WEFT_API enum weft_priority weft_self_priority(void);
WEFT_API enum weft_priority weft_task_priority(const weft_task *task);

/*
 * Lets other tasks run: the caller goes to the end of its worker's queue. With nobody to yield to
 * it returns at once. Timers and sockets are looked at every weft_config.event_interval runs, not
 * at each yield.
 *
 * Returns 0, -ECANCELED or -ETIMEDOUT like any wait, -EPERM and -ENOMEM where the caller cannot
 * wait, see weft_await(). Outside a runtime: gives the thread's turn up and returns 0. Context:
 * anywhere. May suspend.
 */
WEFT_API int weft_yield(void);

/* Spends one unit of the task's cooperative budget, for loops that never wait, and yields when none
 * is left. Returns as weft_yield(). */
WEFT_API int weft_consume_budget(void);

/*
 * Keeps the calling task on the worker it runs on, and so on its thread, until weft_unpin(); for
 * code that uses what belongs to the thread across waits. Calls nest, and are counted; what a task
 * has not undone ends with it. A task that
 * was spawned with options.pinned is pinned in any case.
 *
 * The price: a pinned task waits for its worker. One that blocks there, or computes, delays it, as
 * do the tasks of that worker before it; other tasks are delayed by neither. It takes turns with
 * them in the order of its priority. weft_block_in_place() keeps the thread, and so the tasks
 * pinned to it, for as long as its function runs.
 *
 * On a current_thread runtime every task runs on the thread that drives it, and moves with the
 * driving from one thread to another if several block on it: there weft_pin() changes nothing. Nor
 * does it on plain threads, in blocking jobs, local tasks and bodies of weft_block_on() on a
 * multi_thread runtime, which never move.
 *
 * weft_pin() returns 0; -EPERM inside a polled future, which is pinned by the option;
 * -EOVERFLOW after 65,535 calls in a row. weft_unpin() returns 0, or -EINVAL without a call of
 * weft_pin() to undo.
 *
 * Context: anywhere. Never suspends.
 */
WEFT_API int weft_pin(void);
WEFT_API int weft_unpin(void);
/* True where a wait resumes on the same thread, whatever the reason; see above for current_thread
 * runtimes. Context: anywhere. */
WEFT_API bool weft_self_is_pinned(void);

/*
 * Blocks that change how the calling task waits. Each is one statement or a block, may be nested,
 * and may be left by break, return or goto.
 */

/* Holds aborts, and deadlines and tokens of scopes outside it, back: waits inside succeed. For
 * cleanup that must wait. */
#define WEFT_SHIELD WEFT__MODE_BLOCK(WEFT__MODE_SHIELD, WEFT__CAT(weft__mode_, __COUNTER__))

/* Nothing inside is made to yield for its budget. Aborts, deadlines and tokens end waits as ever,
 * and a task that goes on to wait after -ECANCELED yields all the same. */
#define WEFT_UNCONSTRAINED                                                                         \
    WEFT__MODE_BLOCK(WEFT__MODE_UNCONSTRAINED, WEFT__CAT(weft__mode_, __COUNTER__))

/* A wait inside is a bug: it is reported and returns -EPERM. */
#define WEFT_NO_WAIT WEFT__MODE_BLOCK(WEFT__MODE_NO_WAIT, WEFT__CAT(weft__mode_, __COUNTER__))

/* Waits inside resume on the thread they began on: weft_pin() and weft_unpin(). */
#define WEFT_PINNED WEFT__MODE_BLOCK(WEFT__MODE_PINNED, WEFT__CAT(weft__mode_, __COUNTER__))

enum weft__mode {
    WEFT__MODE_SHIELD,
    WEFT__MODE_UNCONSTRAINED,
    WEFT__MODE_NO_WAIT,
    WEFT__MODE_PINNED,
};
typedef struct weft__mode_scope {
    enum weft__mode mode;
    bool left;
    /* shield: the scopes outside that end waits */
    struct weft_timeout *timeout;
    struct weft_cancel_scope *cancel;
} weft__mode_scope;
WEFT_API void weft__mode_enter(weft__mode_scope *s, enum weft__mode mode);
WEFT_API void weft__mode_leave(weft__mode_scope *s);
static inline weft__mode_scope *weft__mode_start(weft__mode_scope *s, enum weft__mode mode)
{
    weft__mode_enter(s, mode);
    WEFT__BLOCK_RUNS(s);
    return s;
}
#define WEFT__MODE_BLOCK(m, name) WEFT__MODE_BLOCK2(m, name)
#define WEFT__MODE_BLOCK2(m, name)                                                                 \
    for (weft__mode_scope name __attribute__((cleanup(weft__mode_leave))) = WEFT__ZERO,            \
                               *weft__p_##name = weft__mode_start(&name, (m));                     \
         !weft__p_##name->left; weft__mode_leave(&name))

WEFT_END_DECLS

#endif
