/*
 * The inside of a scope, shared by its owner's side (scope.c) and its children's (scope_child.c).
 *
 * A child is a task with an end hook (task.h), so the scope learns of every end: of a child that
 * returned, panicked, was unwound, or never ran. The hook's record belongs to the scope and lives
 * as long as that, in a list of its own when free: steady spawning allocates nothing.
 *
 * The last child wakes the owner and then unlocks; from there on the scope may be gone. So the
 * owner looks at `live` under the lock only.
 */
#ifndef WEFT_SYNC_SCOPE_H
#define WEFT_SYNC_SCOPE_H

#include "task/waitq.h"

#include <weft/cancel.h>
#include <weft/scope.h>
#include <weft/time.h>

#define WEFT__SCOPE_CHUNK_CHILDREN 16

/* One record of a child. */
struct weft__scope_child {
    struct weft__end_hook hook;
    struct weft__node node; /* in scope->children or scope->free; under the lock */
    struct weft__scope *scope;
    struct weft__task *task; /* NULL while it is being spawned; under the lock */
    bool is_ended;           /* under the lock: before the spawner had it in the list */
    uint64_t deadline_ns;    /* that it inherits, on its own clock */
    weft_task_fn fn;
    int (*go)(void *arg); /* or this */
    void (*drop_result)(void *result);
};

/* So many are allocated at once. */
struct weft__scope_chunk {
    struct weft__scope_chunk *next;
    struct weft__scope_child child[WEFT__SCOPE_CHUNK_CHILDREN];
};

struct weft__scope {
    struct weft__lock lock;
    uint32_t live;                    /* under lock: children, and those being spawned */
    int error;                        /* under lock: the first */
    bool is_cancelled;                /* under lock */
    weft_panic_info *panic;           /* under lock: the first */
    struct weft__node children;       /* under lock: those that can be aborted */
    struct weft__node free;           /* under lock */
    struct weft__scope_chunk *chunks; /* under lock */
    struct weft__waitq idle;          /* under lock: wait for live == 0 */
    struct weft__waitq turn;          /* under lock: wait for live < at_most */
    size_t at_most;                   /* SIZE_MAX: any number */
    weft_timeout *timeout;            /* around the scope: that ends first; NULL: none */
    struct weft__core *core;          /* in which the owner waits */
    uint64_t deadline_ns;             /* under lock: of timeout, as last looked at */
    weft_cancel_scope *tokens;        /* around the scope */
    struct weft__locals *owner;       /* who opened it */
    weft_cleanup cleanup;             /* the owner's, when it panics or is unwound */
    int *ret_rc;                      /* of the block form; fixed before the first child */
    int result;                       /* once left */
    uint32_t process;                 /* that opened it, as weft__sys_process() */
    bool keeps_going, is_open;
};
_Static_assert(sizeof(struct weft__scope) <= sizeof(((weft_scope *)0)->opaque),
               "weft_scope.opaque is too small");

static inline struct weft__scope *weft__scope_of(weft_scope *s)
{
    return (struct weft__scope *)s->opaque;
}

/* In a forked child: its parent has opened it. */
static inline bool weft__scope_is_inherited(const struct weft__scope *s)
{
    return WEFT__UNLIKELY(s->process != weft__sys_process());
}

/* weft_scope_enter(), by the public function `call`. */
WEFT_MUST_CHECK int weft__scope_enter(const char *call, weft_scope *scope,
                                      const weft_scope_options *options, const void *caller);
/* Under the lock: aborts the children, and lets none begin any more. */
void weft__scope_cancel_locked(struct weft__scope *s, struct weft__wake_list *wakes);
/* Reports a panic that nobody else gets, and frees it. NULL: nothing. */
void weft__scope_discard_panic(weft_panic_info *info);
/* No child lives. */
void weft__scope_free_children(struct weft__scope *s);

#endif
