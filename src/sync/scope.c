/* Scopes, the side of the owner: opening, waiting, leaving. See scope.h. */
#include "sync/scope.h"

#include "task/cancel.h"
#include "task/cancel_token.h"
#include "task/panic.h"
#include "task/timeout.h"

#include <errno.h>
#include <string.h>

/* ---- waiting for the children ---- */

struct idle_wait {
    weft_future future;
    struct weft__scope *scope;
    struct weft__waiter waiter;
};

/* Under the lock in every case: the scope must not be gone while a child unlocks it. */
static int idle_poll(weft_future *f, weft_waker *waker)
{
    struct idle_wait *w = WEFT__CONTAINER_OF(f, struct idle_wait, future);
    struct weft__scope *s = w->scope;
    weft__lock_acquire(&s->lock);
    bool is_idle = s->live == 0;
    if (is_idle)
        (void)weft__waitq_leave(&s->idle, &w->waiter); /* false: that woke us */
    else
        weft__waitq_wait(&s->idle, &w->waiter, waker);
    weft__lock_release(&s->lock);
    return is_idle ? 0 : WEFT_PENDING;
}

static void idle_cancel(weft_future *f)
{
    struct idle_wait *w = WEFT__CONTAINER_OF(f, struct idle_wait, future);
    weft__lock_acquire(&w->scope->lock);
    (void)weft__waitq_leave(&w->scope->idle, &w->waiter);
    weft__lock_release(&w->scope->lock);
}

static const weft_future_ops idle_ops = {idle_poll, idle_cancel, "children of a scope"};

static bool is_idle_now(struct weft__scope *s)
{
    weft__lock_acquire(&s->lock);
    bool is_idle = s->live == 0;
    weft__lock_release(&s->lock);
    return is_idle;
}

static int wait_idle(struct weft__scope *s, const char *call, const void *caller)
{
    if (is_idle_now(s))
        return 0;
    int rc = weft__wait_begin(call, caller);
    if (rc < 0)
        return rc;
    struct idle_wait w = {.future = {&idle_ops}, .scope = s};
    return weft__wait_for(&w.future);
}

/* Aborts the children and waits for them, whatever else is asked of the caller: they point into its
 * frames. */
static void cancel_and_wait(weft_scope *scope)
{
    struct weft__scope *s = weft__scope_of(scope);
    weft_scope_cancel(scope);
    struct weft__locals *l = weft__locals_now();
    uint32_t no_wait = l->no_wait_depth;
    l->no_wait_depth = 0;
    WEFT_SHIELD
        while (!is_idle_now(s)) {
            struct idle_wait w = {.future = {&idle_ops}, .scope = s};
            (void)weft__wait_for(&w.future); /* unwound in a boundary of ours: look again */
        }
    weft__locals_now()->no_wait_depth = no_wait; /* the thread may be another one */
}

/* What ended a child may have been the deadline or a token around the scope. It noticed first, but
 * it is the owner's scope of that kind that is asked afterwards. */
static int note_cause(const struct weft__scope *s, int rc)
{
    struct weft__core *core = weft__core_waiting();
    if (rc == -ETIMEDOUT && core)
        for (weft_timeout *t = s->owner->timeout_top; t; t = t->outer)
            if (t == s->timeout && t->deadline_ns <= weft__clock_now(&core->clock))
                t->expired = true;
    if (rc != -ECANCELED)
        return rc;
    weft_cancel_scope *c = s->tokens;
    while (c && !weft__cancel_token_is_cancelled(c->token))
        c = weft__cancel_scope_outer(c);
    if (c)
        c->cancelled = true;
    return rc;
}

/* ---- opening and closing ---- */

static int result_set(weft_scope *scope, int rc)
{
    struct weft__scope *s = weft__scope_of(scope);
    scope->left = true;
    s->result = rc;
    if (s->ret_rc)
        *s->ret_rc = rc;
    return rc;
}

/* By a forked child, on its way out of the body it was forked in. The children are not there, and
 * who had the lock need not be. */
static int leave_to_parent(weft_scope *scope)
{
    struct weft__scope *s = weft__scope_of(scope);
    /* Not the owner's: in a runtime of the child's the thread has left that task. */
    weft_cleanup **top = &weft__locals_now()->cleanups;
    if (*top == &s->cleanup)
        *top = s->cleanup.below;
    s->is_open = false;
    return result_set(scope, -EPERM);
}

/* A cleanup of the owner, which panics or is unwound. */
static void leave_early(void *arg)
{
    weft_scope *scope = arg;
    struct weft__scope *s = weft__scope_of(scope);
    if (weft__scope_is_inherited(s)) {
        (void)leave_to_parent(scope);
        return;
    }
    cancel_and_wait(scope);
    weft__scope_free_children(s);
    weft__scope_discard_panic(s->panic);
    s->panic = NULL;
    scope->left = true;
}

int weft__scope_enter(const char *call, weft_scope *scope, const weft_scope_options *options,
                      const void *caller)
{
    if (scope == NULL)
        return weft__misuse(call, -EINVAL, "the scope is NULL", caller);
    struct weft__scope *s = weft__scope_of(scope);
    memset(scope, 0, sizeof *scope);
    s->process = weft__sys_process();
    struct weft__task *t = weft__wait_task();
    if (t == NULL)
        return weft__wait_refused(call, caller);
    if (t->kind == WEFT__TASK_FUTURE)
        return weft__misuse(call, -EPERM, "nothing can wait in a polled future", caller);
    struct weft__locals *l = weft__locals_now();
    /* Leaving it has to wait, whatever is forbidden: children point into frames of the owner. */
    if (l->no_wait_depth > 0)
        return weft__misuse(call, -EPERM, "a scope inside WEFT_NO_WAIT", caller);
    weft__lock_init(&s->lock);
    weft__list_init(&s->children);
    weft__list_init(&s->free);
    s->at_most = options && options->at_most ? options->at_most : SIZE_MAX;
    s->keeps_going = options && options->keeps_going;
    s->timeout = l->timeout;
    s->core = t->core;
    s->deadline_ns = l->timeout ? l->timeout->deadline_ns : WEFT_NEVER;
    s->tokens = l->cancel;
    s->owner = l;
    s->is_open = true;
    s->cleanup.fn = leave_early;
    s->cleanup.arg = scope;
    weft__cleanup_enter(&s->cleanup);
    return 0;
}

int weft_scope_enter(weft_scope *scope, const weft_scope_options *options)
{
    return weft__scope_enter("weft_scope_enter", scope, options, WEFT__CALLER);
}

/* The children point into frames of the owner, and a child would wait for itself. */
static int check_owner(const struct weft__scope *s, const char *call, const void *caller)
{
    if (WEFT__LIKELY(weft__locals_now() == s->owner))
        return 0;
    return weft__misuse(call, -EPERM, "by the task that opened the scope only", caller);
}

static void pop_cleanup(struct weft__scope *s, const void *caller)
{
    weft_cleanup **top = &s->owner->cleanups, *c = *top;
    if (WEFT__LIKELY(c == &s->cleanup)) {
        *top = s->cleanup.below;
        return;
    }
    (void)weft__misuse("weft_scope_leave", -EINVAL,
                       "scopes and WEFT_DEFER blocks must be left in reverse order; those inside "
                       "have lost their cleanups",
                       caller);
    /* Of those inside this one stands there no more: what is below it may be gone. */
    while (c != NULL && c != &s->cleanup)
        c = c->below;
    if (c != NULL)
        *top = s->cleanup.below;
}

static int leave(weft_scope *scope, weft_panic_info **ret_panic, const void *caller)
{
    if (ret_panic)
        *ret_panic = NULL;
    if (scope == NULL)
        return weft__misuse("weft_scope_leave", -EINVAL, "the scope is NULL", caller);
    struct weft__scope *s = weft__scope_of(scope);
    if (!s->is_open)
        return scope->left ? s->result : -EPERM;
    if (weft__scope_is_inherited(s))
        return leave_to_parent(scope);
    int rc = check_owner(s, "weft_scope_leave", caller);
    if (rc < 0)
        return rc;
    rc = wait_idle(s, "weft_scope_leave", caller);
    if (rc < 0)
        cancel_and_wait(scope);
    /* No child lives, so nobody else looks at the scope any more. */
    s->is_open = false;
    pop_cleanup(s, caller);
    weft__scope_free_children(s);
    rc = result_set(scope, s->error < 0 ? note_cause(s, s->error) : rc);
    weft_panic_info *info = s->panic;
    s->panic = NULL;
    if (ret_panic)
        *ret_panic = info;
    else
        weft__scope_discard_panic(info);
    return rc;
}

int weft_scope_leave(weft_scope *scope, weft_panic_info **ret_panic)
{
    return weft__stay_for(leave(scope, ret_panic, WEFT__CALLER));
}

weft_scope *weft__scope_start(weft_scope *scope, const weft_scope_options *options, int *ret_rc)
{
    int rc = weft__scope_enter("weft_scope_enter", scope, options, WEFT__CALLER);
    weft__scope_of(scope)->ret_rc = ret_rc;
    if (rc < 0 && ret_rc)
        *ret_rc = rc;
    return scope;
}

void weft__scope_block_leave(weft_scope *scope)
{
    struct weft__scope *s = weft__scope_of(scope);
    if (scope->left)
        return;
    if (!s->is_open) {
        scope->left = true; /* it could not be entered */
        return;
    }
    weft_panic_info *info; /* there is none with ret_rc: it counts as an error, and was reported */
    (void)leave(scope, &info, WEFT__CALLER); /* failures other than a panic have no place to go */
    if (info)
        weft_panic_resume(info);
}

int weft_scope_wait(weft_scope *scope)
{
    if (scope == NULL || scope->left || !weft__scope_of(scope)->is_open)
        return weft__misuse("weft_scope_wait", -EINVAL, "the scope is NULL or not open",
                            WEFT__CALLER);
    struct weft__scope *s = weft__scope_of(scope);
    if (weft__scope_is_inherited(s))
        return weft__misuse("weft_scope_wait", -EPERM, "this is a forked child", WEFT__CALLER);
    int rc = check_owner(s, "weft_scope_wait", WEFT__CALLER);
    if (rc == 0)
        rc = wait_idle(s, "weft_scope_wait", WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft__lock_acquire(&s->lock);
    rc = s->error;
    weft__lock_release(&s->lock);
    return note_cause(s, rc);
}

void weft_scope_cancel(weft_scope *scope)
{
    if (weft__is_null("weft_scope_cancel", scope, WEFT__CALLER))
        return;
    struct weft__scope *s = weft__scope_of(scope);
    if (!s->is_open || weft__scope_is_inherited(s))
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    weft__scope_cancel_locked(s, &wakes);
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&wakes);
}

bool weft_scope_is_cancelled(weft_scope *scope)
{
    if (weft__is_null("weft_scope_is_cancelled", scope, WEFT__CALLER))
        return false;
    struct weft__scope *s = weft__scope_of(scope);
    if (weft__scope_is_inherited(s))
        return true;
    weft__lock_acquire(&s->lock);
    bool is_cancelled = s->is_cancelled;
    weft__lock_release(&s->lock);
    return is_cancelled;
}

size_t weft_scope_len(weft_scope *scope)
{
    if (weft__is_null("weft_scope_len", scope, WEFT__CALLER))
        return 0;
    struct weft__scope *s = weft__scope_of(scope);
    if (weft__scope_is_inherited(s))
        return 0;
    weft__lock_acquire(&s->lock);
    size_t live = s->live;
    weft__lock_release(&s->lock);
    return live;
}
