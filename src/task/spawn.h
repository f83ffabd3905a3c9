/*
 * Birth of tasks, for the layers above.
 */
#ifndef WEFT_TASK_SPAWN_H
#define WEFT_TASK_SPAWN_H

#include "task/task.h"

#include <weft/panic.h>

#include <errno.h>

/* The task a plain thread waits as: no body, never enqueued. From the slab, since wakers may
 * outlive the wait. NULL when out of memory. Its caller sets locals. */
struct weft__task *weft__thread_task_create(struct weft__core *core, enum weft__task_kind kind);
/* Ends it: DONE, so late wakes do nothing, and the reference given up. */
void weft__thread_task_destroy(struct weft__task *t);
/* Destroys the one cached in a thread's context. */
void weft__thread_task_drop(struct weft__ctx *c);

/* Spawns on `core`: what the public functions do after they found it. -EOWNERDEAD: the copy
 * function of a task-local has panicked; once all is undone, weft__spawn_result(). */
int weft__task_spawn(struct weft__core *core, enum weft__task_kind kind,
                     const weft_spawn_options *o, weft_task_fn fn, void *arg, weft_task **ret_task,
                     const weft_site *site);
/* The same with an end hook, called in place of waking a joiner. The hook may be called before this
 * returns, when the runtime is shut down; not when this fails. *ret_task is set before the task can
 * run, except for a blocking job. */
int weft__task_spawn_hooked(struct weft__core *core, enum weft__task_kind kind,
                            const weft_spawn_options *o, weft_task_fn fn, void *arg,
                            weft_task **ret_task, const weft_site *site,
                            struct weft__end_hook *hook);
/* Ends a task as cancelled that was counted, and is to run nowhere, since its runtime is being shut
 * down or is down. By who spawns it: the destructor of its argument may give up the last handle,
 * and whoever waits for its end may then free the runtime. */
void weft__task_refuse(struct weft__task *t);
/* weft_spawn() or weft_spawn_blocking(), for callers with something to undo before
 * weft__spawn_result(). */
int weft__spawn_begun(enum weft__task_kind kind, const weft_spawn_options *o, weft_task_fn fn,
                      void *arg, weft_task **ret_task, const weft_site *site);
/* Checks what a public spawn function was given, reports misuse of `call`, and finds the runtime:
 * options.runtime or .local_set, or the caller's. 0, -EINVAL, -EPERM. */
int weft__spawn_core(const char *call, const weft_spawn_options *o, bool has_body, const void *arg,
                     const weft_site *site, struct weft__core **ret);
/* The same for a local task: options.local_set or .runtime, or the caller's innermost set or local
 * runtime; at home on the calling thread. */
int weft__spawn_local_core(const char *call, const weft_spawn_options *o, bool has_body,
                           const void *arg, const weft_site *site, struct weft__core **ret);
/* Of a future, in front of them: what is copied is one at least. 0; -EINVAL, reported. */
int weft__spawn_check_future(const char *call, const weft_spawn_options *o, const weft_site *site);
/* The body of a weft_block_on() that is a fiber: a task without an id. */
int weft__task_spawn_root(struct weft__core *core, weft_task_fn fn, void *arg, weft_task **ret_task,
                          const weft_site *site);

/* The end of every public function that spawns: a panic of a copy function goes on in the caller,
 * which may leave nothing half done behind. */
static inline int weft__spawn_result(int rc)
{
    if (WEFT__LIKELY(rc != -EOWNERDEAD))
        return rc;
    struct weft__ctx *c = weft__ctx_now();
    weft_panic_info *info = c ? c->spawn_panic : NULL;
    if (info == NULL)
        return rc; /* weft_run() returns it as well */
    c->spawn_panic = NULL;
    weft_panic_resume(info);
}

#endif
