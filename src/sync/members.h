/*
 * Members: tasks that somebody means to join in the order in which they end. What join sets and
 * join maps have in common.
 *
 * A member is a task with an end hook (task.h), so every end is heard of, whatever the task died of
 * and whether it ever ran. The group holds the handle, hence the outcome, until somebody takes it.
 *
 *     (spawn) --> RUNNING --end--> DONE --taken--> (free)
 *                    |               |
 *                    +---given up----+--> AWAITED, DETACHED --end--> (free)
 *
 *   RUNNING   counted; in `running`
 *   DONE      counted; in `done`, in the order of their ends
 *   AWAITED   aborted and given up: not counted, nobody learns its outcome, but whoever destroys
 *             the group waits for its end
 *   DETACHED  given up altogether; it only has its memory here
 *
 * The memory of the group is that of its owner and of every member that has not ended: the last one
 * frees it. Records of members are kept and reused, so a group allocates only when it is larger
 * than ever before.
 *
 * A forked child leaves a group of its parent's alone: the tasks are not there, and the lock may be
 * held for ever. Functions that say how it went return -EPERM, the others do nothing.
 */
#ifndef WEFT_SYNC_MEMBERS_H
#define WEFT_SYNC_MEMBERS_H

#include "base/list.h"
#include "task/task.h"
#include "task/waitq.h"

#include <weft/join_set.h>

enum weft__member_state {
    WEFT__MEMBER_SPAWNING, /* in no list yet */
    WEFT__MEMBER_RUNNING,
    WEFT__MEMBER_DONE,
    WEFT__MEMBER_AWAITED,
    WEFT__MEMBER_DETACHED,
};

struct weft__member {
    struct weft__end_hook hook;
    struct weft__node node; /* under the lock: in the list of its state, or in `free` */
    struct weft__members *group;
    weft_task *task; /* the handle; under the lock while RUNNING, then of who has taken it */
    struct weft__core *core; /* of the task; to be read until that has ended */
    uint8_t state;           /* under the lock */
    bool has_ended;          /* under the lock: while SPAWNING */
    bool has_failed;         /* under the lock: DONE, and not with a value */
};

struct weft__members {
    struct weft__lock lock;
    size_t refs;       /* under lock: the owner, and members that have not ended */
    size_t len;        /* under lock: RUNNING and DONE */
    size_t failed;     /* under lock: members that has_failed */
    size_t enders;     /* under lock: callers that end all members, those spawned meanwhile too */
    size_t born;       /* under lock: local tasks among those spawned meanwhile, ever */
    bool is_ownerless; /* under lock: whoever is spawned is aborted, and detached at once */
    /* under lock, by state */
    struct weft__node running, done, awaited, free;
    struct weft__waitq next;  /* under lock: wait for one that is DONE, or for none to be left */
    struct weft__waitq ended; /* under lock: wait for all to have ended, see weft__members_wait() */
    size_t member_bytes;      /* of a record, which begins with struct weft__member */
    uint32_t process;         /* that made it, as weft__sys_process() */
};

/* member_bytes: of the caller's record. */
void weft__members_init(struct weft__members *g, size_t member_bytes);

/* True in a forked child, for a group of its parent's; the first without a report. */
static inline bool weft__members_are_ancestors(const struct weft__members *g)
{
    return weft__sys_is_ancestor(g->process);
}
static inline bool weft__members_are_inherited(const struct weft__members *g, const char *call,
                                               const void *caller)
{
    return weft__is_inherited(call, g->process, caller);
}

/* ---- spawning ---- */

/* A record of member_bytes, in which all beyond struct weft__member is the caller's. NULL: no
 * memory. */
struct weft__member *weft__member_create(struct weft__members *g);
/* Takes back a record, by who has created it or has taken it. */
void weft__member_put(struct weft__member *m);

/* Finds where a member is to run, before anything is made: 0; -EINVAL, -EPERM, reported. */
int weft__member_find_core(const char *call, enum weft_member_kind kind,
                           const weft_spawn_options *o, weft_task_fn fn, const void *arg,
                           const weft_site *site, struct weft__core **ret);
enum weft__task_kind weft__member_task_kind(enum weft_member_kind kind);
/* Spawns it. After 0 it may be gone already, taken by somebody else; otherwise the record is the
 * caller's. ret_abort may be NULL. */
int weft__member_spawn(struct weft__member *m, struct weft__core *core, enum weft_member_kind kind,
                       const weft_spawn_options *o, weft_task_fn fn, void *arg,
                       weft_abort_handle **ret_abort, const weft_site *site);

/* ---- taking ---- */

/* The first that is DONE: its outcome and its record are the caller's. NULL, and *ret_rc: -EAGAIN
 * none is; -ENOENT there is no member; -EPERM. */
struct weft__member *weft__members_try_take(struct weft__members *g, int *ret_rc);
/* The same for a poll: registers w and says WEFT_PENDING in place of -EAGAIN. */
struct weft__member *weft__members_poll_take(struct weft__members *g, struct weft__waiter *w,
                                             weft_waker *waker, int *ret_rc);
/* The cancel of such a poll. */
void weft__members_leave(struct weft__members *g, struct weft__waiter *w);

/* All of them, when all are DONE: moves them to the list `ret_all`. Returns how many; -ENOSPC more
 * than max; -ECHILD one has failed; -EAGAIN one runs. */
long weft__members_take_all(struct weft__members *g, size_t max, struct weft__node *ret_all);
/* The first that has failed; NULL: there is none. */
struct weft__member *weft__members_take_failed(struct weft__members *g);

/* ---- giving up ---- */

/* Aborts all that run. */
void weft__members_abort_all(struct weft__members *g);
/* Gives one up, which by is_awaited becomes AWAITED, after an abort, or DETACHED; unless
 * weft__members_abort_and_wait() has done so. No one else may take it, and no record may have been
 * created since it was given up. m may be gone afterwards. */
void weft__member_give_up(struct weft__member *m, bool is_awaited);
/* Gives all up. */
void weft__members_detach_all(struct weft__members *g);

/* Waits until none is RUNNING, and, unless or_failed, none AWAITED; with or_failed also until one
 * has failed. After weft__wait_begin(). */
int weft__members_wait(struct weft__members *g, bool or_failed);
/* Where the end of aborted tasks may be waited for: tasks, bodies, blocking jobs. Not a plain
 * thread that is merely inside a runtime, since maybe nobody drives that. */
bool weft__can_wait_for_ends(void);
/* Whether the caller may wait for the end of this one: neither itself, nor a local task of a set
 * that the caller does not drive, since maybe nobody does; nor, in a forked child, one of its
 * parent's. */
bool weft__can_wait_for_end_of(const weft_task *task, const struct weft__core *core);
/* Aborts all, and waits for them if the caller can, whatever else is asked of it. False: members
 * may be left. */
bool weft__members_abort_and_wait(struct weft__members *g);
/* Aborts all, waits for them, and drops their outcomes: 0, and there is none left; or what a wait
 * ends with. */
int weft__members_shutdown(struct weft__members *g, const char *call, const void *caller);
/* True when the calling task is a member, which it may be in weft_block_in_place(). */
bool weft__members_has_caller(struct weft__members *g);
/* For a shutdown: waits until none is RUNNING or AWAITED. -EDEADLK when the caller is one. */
int weft__members_wait_for_ends(struct weft__members *g, const char *call, const void *caller);
/* Destroys a group: aborts, waits, and calls finish(g), which is to do so again, give up what is
 * left, and release g. As a cleanup, if the caller is unwound while it waits. */
void weft__members_destroy(struct weft__members *g, void (*finish)(void *group));
/* The owner is done with it; `g` begins what was allocated. Members that have not ended may go on
 * using it: whom they spawn is aborted, and detached. */
void weft__members_release(struct weft__members *g);

/* Panics with what o is, on behalf of `call`; takes the panic. */
WEFT__NORETURN void weft__member_raise(const char *call, weft_outcome *o);

static inline size_t weft__members_len(struct weft__members *g)
{
    if (weft__members_are_ancestors(g))
        return 0;
    weft__lock_acquire(&g->lock);
    size_t len = g->len;
    weft__lock_release(&g->lock);
    return len;
}

#endif
