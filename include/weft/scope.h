/*
 * Scopes: tasks that end before the block that spawned them does.
 *
 * Leaving a scope waits for its children, however it is left. So a child may point into the frame
 * of its parent, and no child is ever left behind:
 *
 *     WEFT_SCOPE(s) {
 *         for (size_t i = 0; i < n; i++)
 *             weft_scope_spawn(s, fetch, &jobs[i]);
 *     }
 *
 * Left in the ordinary way, a scope waits until its children have ended by themselves. When the
 * parent is aborted, its deadline passes, or it panics, and when a child fails, the children that
 * are left are aborted first, and then waited for. Deadlines and cancellation tokens around a scope
 * hold for its children too, and say so if it was a child that they ended. (Not so those that are
 * inside it, around a spawn.)
 *
 * Source: the nurseries of Nathaniel J. Smith, "Notes on structured concurrency" (2018).
 */
#ifndef WEFT_SCOPE_H
#define WEFT_SCOPE_H

#include <weft/base.h>
#include <weft/panic.h>
#include <weft/task.h>

WEFT_BEGIN_DECLS

/* In the frame of its owner; stays where it is until it is left. */
typedef struct weft_scope {
    bool left;
    void *opaque[30];
} weft_scope;

typedef struct weft_scope_options {
    /* Children alive at a time; spawning one more suspends. 0: any number. */
    size_t at_most;
    /* True: a child that fails does not abort the others. */
    bool keeps_going;
} weft_scope_options;

/*
 * A block with a scope, which `name` points to. The block may be left by break, return or goto. A
 * panic of a child is raised again in the parent when the block is left; other failures are
 * dropped. Where nothing can wait this is reported, and spawning in the block fails.
 */
#define WEFT_SCOPE(name) WEFT_SCOPE_WITH(name, NULL, NULL)
/* The same; *ret_rc, an int that outlives the block, receives what weft_scope_leave() returns. A
 * panic of a child is then reported on the log, at once, and counts as the error -EOWNERDEAD. */
#define WEFT_SCOPE_INTO(name, ret_rc) WEFT_SCOPE_WITH(name, NULL, (ret_rc))
/* WEFT_SCOPE_WITH(name, options, ret_rc): both, with options (borrowed; NULL: none); ret_rc may be
 * NULL. */
#define WEFT_SCOPE_WITH(name, ...)                                                                 \
    WEFT__SCOPE(name, WEFT__CAT(weft__scope_, __COUNTER__), __VA_ARGS__)

/*
 * Opens a scope around what the caller does until weft_scope_leave().
 *
 *   s         the caller's memory, uninitialised
 *   options   borrowed; NULL: none
 *
 * Returns 0; -EPERM, reported: nothing here can wait (see weft_await()); -ENOMEM, only on a thread
 * in a runtime: for what it waits as. Then spawning in s fails, and leaving it does nothing.
 * -EINVAL, reported, for NULL, here and in what follows; what returns no error then does nothing,
 * and answers as for a scope without children.
 *
 * Context: tasks, bodies of weft_block_on(), threads in a runtime. Never suspends.
 */
WEFT_API int weft_scope_enter(weft_scope *s, const weft_scope_options *options);

/*
 * Closes a scope: waits until all its children have ended.
 *
 *   ret_panic   the first panic of a child, the caller's now, or NULL without one. NULL: a panic is
 *               reported on the log and freed
 *
 * Returns 0 when all have ended well. Otherwise they have ended as well, and it is the first of
 *   the negative value that a child of weft_scope_go() returned
 *   -EOWNERDEAD  a child panicked
 *   -ECANCELED   a child was aborted by the shutdown of its runtime or local set, or never began:
 *                for that, or without memory for its stack
 *   -ENOMEM, -EPERM, -EAGAIN (of a blocking one)...  a child could not be spawned
 *   -ECANCELED   the calling task was aborted, or a token around it cancelled, while it waited
 *   -ETIMEDOUT   a deadline around it passed
 * In a forked child it is -EPERM, and s is closed; the children are the parent's. Closing again
 * returns the same, and no panic. -EPERM (reported) and open still, when called by
 * another task than opened it.
 *
 * Context: by the task that opened it; scopes and WEFT_DEFER blocks are left in reverse order. May
 * suspend, also after an abort, as long as children take to end: for ever when a child was spawned
 * on a runtime or a local set that nobody drives, for even an abort needs somebody to run it.
 * Cancellation: safe.
 */
WEFT_API int weft_scope_leave(weft_scope *s, weft_panic_info **ret_panic);

/*
 * Spawns a task that ends before s is left.
 *
 *     int weft_scope_spawn(s, fn, arg);
 *     int weft_scope_spawn_with(s, options, fn, arg);
 *
 *   s         open. By its owner, or by any child of it
 *   fn, arg, options   as weft_spawn_with(); what fn returns goes to drop_result
 *
 * Returns 0, or nothing was taken, s has noted it, and leaving it says so (a call may thus ignore
 * it):
 *   -ECANCELED   s was cancelled (of weft_scope_cancel() leaving says nothing), or a child has
 *                failed; or the calling task was aborted while it waited for its turn
 *   -ETIMEDOUT   a deadline passed while it waited for its turn
 *   -ENOMEM, -EINVAL, -EPERM   as weft_spawn()
 *
 * Context: as weft_await(). Suspends only while options.at_most children live, of which a child
 * that spawns is one: where all of them wait to spawn, none ends. Cancellation: safe.
 */
#define weft_scope_spawn(s, ...) weft__scope_spawn_at((s), NULL, __VA_ARGS__, WEFT_SITE)
#define weft_scope_spawn_with(s, ...) weft__scope_spawn_at((s), __VA_ARGS__, WEFT_SITE)
/* weft_scope_go(s, fn, arg), weft_scope_go_with(s, options, fn, arg): the same for a body that may
 * fail, int (*fn)(void *arg): a negative value is an error, which aborts the other children (unless
 * options.keeps_going) and is what leaving the scope returns. */
#define weft_scope_go(s, ...) weft__scope_go_at((s), NULL, __VA_ARGS__, WEFT_SITE)
#define weft_scope_go_with(s, ...) weft__scope_go_at((s), __VA_ARGS__, WEFT_SITE)
/* weft_scope_spawn_blocking(s, fn, arg): the same on a thread of the blocking pool, and -EAGAIN as
 * weft_spawn_blocking(). An abort does not reach a job that has started: leaving the scope waits
 * for it. */
#define weft_scope_spawn_blocking(s, ...)                                                          \
    weft__scope_spawn_blocking_at((s), NULL, __VA_ARGS__, WEFT_SITE)

/* Waits until no child lives, and leaves the scope open. Returns the first error since it was
 * opened, again in each call, or 0; or -ECANCELED, -ETIMEDOUT, -EPERM, and then children may live.
 * Context: as weft_await(), by the task that opened it; may suspend. A child would wait for itself,
 * and a function in weft_block_in_place() is the thread's, not the task's: -EPERM, reported. */
WEFT_API WEFT_MUST_CHECK int weft_scope_wait(weft_scope *s);
/* Aborts all children, and makes spawning fail from now on. Errors of children count no more, but
 * panics do. By the owner or a child; never suspends. */
WEFT_API void weft_scope_cancel(weft_scope *s);
/* True once it was cancelled, also by a child's failure; and in a forked child, for a scope of its
 * parent's, of which it counts no child and aborts none. */
WEFT_API bool weft_scope_is_cancelled(weft_scope *s);
/* Children alive. */
WEFT_API size_t weft_scope_len(weft_scope *s);

/*
 * Calls fn(arg, i) for each i below count, in tasks, at most `at_most` at a time (0: one for each
 * i). The first that returns a negative value aborts the others, and no further one begins.
 *
 * Returns 0; the first negative value; -EOWNERDEAD when fn panicked (reported on the log); -EINVAL
 * when fn is NULL (logged); or as weft_scope_enter() and weft_scope_leave(). All calls have ended
 * by then.
 *
 * Context: as weft_await(); suspends. Cancellation: safe: aborts what runs and waits for it.
 */
WEFT_API WEFT_MUST_CHECK int weft_for_each_concurrent(size_t count, size_t at_most,
                                                      int (*fn)(void *arg, size_t index),
                                                      void *arg);

/* Behind the macros. */
WEFT_API int weft__scope_spawn_at(weft_scope *s, const weft_spawn_options *options, weft_task_fn fn,
                                  void *arg, const weft_site *site);
WEFT_API int weft__scope_go_at(weft_scope *s, const weft_spawn_options *options,
                               int (*fn)(void *arg), void *arg, const weft_site *site);
WEFT_API int weft__scope_spawn_blocking_at(weft_scope *s, const weft_spawn_options *options,
                                           weft_task_fn fn, void *arg, const weft_site *site);
WEFT_API weft_scope *weft__scope_start(weft_scope *s, const weft_scope_options *options,
                                       int *ret_rc);
WEFT_API void weft__scope_block_leave(weft_scope *s);
/* always: the place in the log is that of the block */
static inline __attribute__((always_inline)) weft_scope *weft__scope_block_start(
    weft_scope *s, const weft_scope_options *options, int *ret_rc)
{
    weft__scope_start(s, options, ret_rc);
    WEFT__BLOCK_RUNS(s);
    return s;
}
#define WEFT__SCOPE(name, store, ...)                                                              \
    for (weft_scope store __attribute__((cleanup(weft__scope_block_leave))) = WEFT__ZERO,          \
                          *name = weft__scope_block_start(&store, __VA_ARGS__);                    \
         !store.left; weft__scope_block_leave(&store))

WEFT_END_DECLS

#endif
