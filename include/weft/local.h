/*
 * Local tasks: tasks that never leave the thread they were spawned on.
 *
 * For what belongs to one thread: a library that keeps state in thread-locals, a window system, a
 * lock that must be released where it was taken. A local task needs no atomics and no locks against
 * the others of its set; otherwise it is a task like any other: it waits wherever it likes, its
 * handle may be joined and aborted and its wakers used from any thread, and it always goes on on
 * its home thread.
 *
 * A local set owns such tasks. They run while a task or a thread drives the set, and nowhere else:
 * inside weft_local_set_run_until() and weft_local_set_wait(), on the thread that created the set.
 * A set needs no runtime and outlives those that drive it. In its tasks weft_spawn(),
 * weft_spawn_blocking(), sockets and weft_handle_current() are those of the runtime that drives it,
 * and -EPERM where there is none; timers are the set's own.
 *
 * A runtime of WEFT_FLAVOR_LOCAL is a current_thread runtime bound to the thread that created it:
 * all of its tasks are local ones.
 *
 * Source: Tokio's LocalSet and LocalRuntime.
 */
#ifndef WEFT_LOCAL_H
#define WEFT_LOCAL_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/runtime.h>
#include <weft/task.h>

WEFT_BEGIN_DECLS

/* Settings; fill with weft_local_set_config_init(). */
typedef struct weft_local_set_config {
    const char *name;   /* for the log; not blank. Copied (31 bytes). NULL: "local set" */
    size_t stack_bytes; /* default stack of a task: 1 to 1 GiB; 64 KiB */
    unsigned budget;    /* ready waits until a task is made to yield: 1 to 65535; 128 */
    /* What a panic of a local task does that nobody joins; default: ignore. Shut down: every task
     * of the set is aborted, later ones are cancelled at once, and who drives it is told (see
     * weft_local_set_run_until()). When the handle is given up on another thread, after the end, it
     * is only reported. */
    enum weft_unhandled_panic unhandled_panic;
    /* How long destroy waits for tasks to clean up after -ECANCELED until it unwinds them; 1 s. */
    uint64_t shutdown_grace_ns;
    uint32_t reserved[8]; /* zero */
} weft_local_set_config;
/* Any thread; never suspends. */
WEFT_API void weft_local_set_config_init(weft_local_set_config *c);

/*
 * Creates a set. The calling thread is its home from now on.
 *
 *   config   borrowed; NULL: defaults
 *
 * Returns 0, or nothing exists and it is
 *   -EINVAL   a setting is out of range, or ret_set is NULL
 *   -EPERM    the caller is a task of a multi_thread runtime that is not pinned, and so has no
 *             thread of its own
 *   -ENOMEM
 *   -ENOTSUP  this machine runs with shadow stacks on
 *
 * Context: any thread, with or without a runtime; never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_local_set_create(const weft_local_set_config *config,
                                                   weft_local_set **ret_set);

/*
 * Aborts the tasks of a set, runs them here until all have cleaned up and ended, and gives the set
 * up. After the grace period they are unwound. Wakers, handles and abort handles of its tasks stay
 * harmless.
 *
 *   set   taken when 0 is returned; NULL does nothing
 *
 * Returns 0, or nothing has happened and it is
 *   -EPERM  the caller is not on the home thread, is a task of the set itself, or cannot wait; or
 *           the set is being driven
 *
 * Context:       home thread, in a task, a thread or the destructor of a thread-local. Suspends;
 *                other tasks of the runtime go on meanwhile.
 * Cancellation:  held back: it returns when the tasks have ended.
 */
WEFT_API int weft_local_set_destroy(weft_local_set *set);

/*
 * Runs body(arg) as a part of the calling task, and the tasks of the set whenever it waits or
 * yields. Returns when the body has; the other tasks stay, and go on when the set is driven again.
 * Inside, weft_spawn_local() spawns on this set.
 *
 * The body is the calling task: with its id, name, budget, deadlines, cleanups and aborts. A thread
 * that runs no task waits as it would in weft_block_on(), whether it is in a runtime or not. In a
 * fiber of a current_thread runtime the other tasks of that runtime go on beside it. Several tasks
 * may drive one set, and a task several sets, one inside the other.
 *
 *   ret_outcome   NULL: dropped (a panic is reported)
 *
 * Returns 0 with the outcome: the body's value or panic. When the set is shut down meanwhile by an
 * unhandled panic of one of its tasks, the waits of the body return -ECANCELED, and the outcome is
 * a panic that says so; the value is lost. Otherwise the body did not run, and it is
 *   -EPERM      not the home thread; a task of the set itself; a task of a multi_thread runtime
 *               that is not pinned; a hook, a polled future, or inside WEFT_NO_WAIT
 *   -EINVAL     set or body is NULL
 *   -ECANCELED  the calling task was aborted
 *   -ETIMEDOUT  a timeout scope around the call has expired
 *   -ESHUTDOWN  the set was shut down by an unhandled panic before
 *   -ENOMEM
 * A body of weft_block_on() on a current_thread runtime that several threads drive may resume on
 * another one, and so may a task that is unpinned inside: from then on its waits return -EPERM,
 * reported once, and the set is not driven. WEFT_FLAVOR_LOCAL does not move.
 *
 * Context: home thread. Suspends whenever the body does.
 */
WEFT_API WEFT_MUST_CHECK int weft_local_set_run_until(weft_local_set *set, weft_task_fn body,
                                                      void *arg, weft_outcome *ret_outcome);

/*
 * Drives the set until all of its tasks have ended, those spawned meanwhile included.
 *
 * Returns 0; -ESHUTDOWN when they have ended because of an unhandled panic; or, with tasks left, an
 * error of weft_local_set_run_until().
 *
 * Context:       home thread. Suspends.
 * Cancellation:  safe; the tasks stay.
 */
WEFT_API WEFT_MUST_CHECK int weft_local_set_wait(weft_local_set *set);

/*
 * Makes a set the one that weft_spawn_local() of this thread spawns on, also before there is any
 * runtime. Left by weft_leave(), in reverse order of all guards. It does not drive the set, and
 * does not change the caller's runtime.
 *
 * Returns 0, or -EINVAL for NULL and for a guard that is entered already, -EPERM inside a task or
 * away from the home thread. The set must not be destroyed before the guard is left. Never
 * suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_local_set_enter(weft_local_set *set, weft_enter_guard *g);

/* Spawned and not ended. -EINVAL, -EPERM for NULL or away from home. Never suspends. */
WEFT_API int64_t weft_local_set_alive(const weft_local_set *set);
/* As weft_dump(), for the tasks of the set, and what its home thread drives it as outside a
 * runtime. Any thread. */
WEFT_API int weft_local_set_dump(weft_local_set *set, int fd);

/*
 * Queues a new local task and returns; it never runs inside the call.
 *
 *     int weft_spawn_local(fn, arg, ret_task);
 *     int weft_spawn_local_with(options, fn, arg, ret_task);
 *     int weft_spawn_local_on(set, fn, arg, ret_task);
 *
 * It is spawned on
 *   - the set whose task or driver the caller is, else the local runtime whose task it is;
 *   - else the set or the local runtime that the calling thread has entered most recently;
 * with options.local_set or weft_spawn_local_on() on that set; with options.runtime on that local
 * runtime. Arguments as weft_spawn_with().
 *
 * Returns as weft_spawn(). -EPERM, with nothing taken, when there is neither, or it is at home on
 * another thread.
 *
 * Context: home thread. Never suspends.
 */
#define weft_spawn_local(...) weft__spawn_local_at(NULL, __VA_ARGS__, WEFT_SITE)
#define weft_spawn_local_with(...) weft__spawn_local_at(__VA_ARGS__, WEFT_SITE)
#define weft_spawn_local_on(...) weft__spawn_local_on_at(__VA_ARGS__, WEFT_SITE)

/* weft_spawn_local_future(options, f, ret_task): the same for a task whose body is a future, see
 * weft_spawn_future(). */
#define weft_spawn_local_future(...) weft__spawn_local_future_at(__VA_ARGS__, WEFT_SITE)

WEFT_API WEFT_MUST_CHECK int weft__spawn_local_at(const weft_spawn_options *options,
                                                  weft_task_fn fn, void *arg, weft_task **ret_task,
                                                  const weft_site *site);
WEFT_API WEFT_MUST_CHECK int weft__spawn_local_on_at(weft_local_set *set, weft_task_fn fn,
                                                     void *arg, weft_task **ret_task,
                                                     const weft_site *site);
WEFT_API WEFT_MUST_CHECK int weft__spawn_local_future_at(const weft_spawn_options *options,
                                                         weft_future *f, weft_task **ret_task,
                                                         const weft_site *site);

WEFT_END_DECLS

#endif
