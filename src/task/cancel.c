/*
 * Cancellation scopes: tokens around code.
 *
 * A scope watches its token from the first wait inside that is really pending until it is left: one
 * registration a scope, not one a wait. A wait goes through the scopes around it, of which there
 * are few.
 */
#include "task/cancel.h"

#include "task/cancel_token.h"
#include "task/panic.h"

#include <errno.h>

/* What weft_cancel_scope.opaque holds. */
struct scope_state {
    weft_cancel_scope *visible_outer; /* the next one that waits inside see: not behind a shield */
    struct weft__waiter waiter;
    bool is_watching;
};
_Static_assert(sizeof(struct scope_state) <= sizeof(((weft_cancel_scope *)0)->opaque),
               "weft_cancel_scope.opaque is too small");

static struct scope_state *state_of(weft_cancel_scope *s)
{
    return (struct scope_state *)s->opaque;
}

static void unwatch(struct weft__locals *l, weft_cancel_scope *s)
{
    struct scope_state *state = state_of(s);
    if (!state->is_watching)
        return;
    weft__cancel_token_unwatch(s->token, &state->waiter);
    state->is_watching = false;
    l->armed_scopes--;
}

void weft_cancel_scope_enter(weft_cancel_scope *s, weft_cancel_token *token)
{
    struct weft__locals *l = weft__locals_now();
    struct scope_state *state = state_of(s);
    s->token = token;
    s->cancelled = false;
    s->left = false;
    s->entered = token != NULL && weft__core_waiting() != NULL;
    if (!s->entered)
        return;
    state->visible_outer = l->cancel;
    weft__waiter_init(&state->waiter);
    state->is_watching = false;
    s->outer = l->cancel_top;
    l->cancel_top = s;
    l->cancel = s;
}

void weft_cancel_scope_leave(weft_cancel_scope *s)
{
    if (s->left)
        return;
    s->left = true;
    if (!s->entered)
        return;
    struct weft__locals *l = weft__locals_now();
    if (WEFT__UNLIKELY(l->cancel_top != s)) {
        (void)weft__misuse("weft_cancel_scope_leave", -EINVAL,
                           "scopes must be left in reverse order; those inside are left too",
                           WEFT__CALLER);
        while (l->cancel_top && l->cancel_top != s) {
            l->cancel_top->left = true;
            unwatch(l, l->cancel_top);
            l->cancel_top = l->cancel_top->outer;
        }
    }
    unwatch(l, s);
    l->cancel_top = s->outer;
    l->cancel = state_of(s)->visible_outer;
}

bool weft_cancel_scope_is_cancelled(const weft_cancel_scope *s)
{
    return s->cancelled;
}

void weft__cancel_scopes_unwatch(struct weft__locals *l, const weft_cancel_scope *until)
{
    for (weft_cancel_scope *s = l->cancel_top; s != until && s != NULL; s = s->outer)
        unwatch(l, s);
}

void weft__cancel_scopes_drop(struct weft__locals *l, weft_cancel_scope *until)
{
    while (l->cancel_top != until && l->cancel_top != NULL)
        l->cancel_top = l->cancel_top->outer;
    l->cancel = NULL;
}

uint32_t weft__cancel_scopes_armed(const weft_cancel_scope *innermost)
{
    uint32_t n = 0;
    for (const weft_cancel_scope *s = innermost; s; s = s->outer)
        n += ((const struct scope_state *)s->opaque)->is_watching;
    return n;
}

weft_cancel_scope *weft__cancel_scope_outer(weft_cancel_scope *s)
{
    return state_of(s)->visible_outer;
}

void weft__cancel_scopes_forget(struct weft__locals *l)
{
    weft__cancel_scopes_unwatch(l, NULL);
}

bool weft__cancel_check_now(struct weft__task *self)
{
    bool is_cancelled = false;
    /* All of them: an inner token is often a child of an outer one, and cancelled with it. */
    for (weft_cancel_scope *s = self->locals->cancel; s; s = state_of(s)->visible_outer)
        if (weft__cancel_token_is_cancelled(s->token))
            s->cancelled = is_cancelled = true;
    return is_cancelled;
}

bool weft__cancel_check(struct weft__task *self)
{
    if (weft__cancel_check_now(self))
        return true;
    for (weft_cancel_scope *s = self->locals->cancel; s; s = state_of(s)->visible_outer) {
        struct scope_state *state = state_of(s);
        if (state->is_watching)
            continue; /* queued, or cancelled since: then the task was woken and looks again */
        if (!weft__cancel_token_watch(s->token, &state->waiter, weft__task_waker(self)))
            return weft__cancel_check_now(self); /* it is */
        state->is_watching = true;
        self->locals->armed_scopes++;
    }
    return false;
}

int weft_run_until_cancelled(weft_cancel_token *token, int (*body)(void *arg), void *arg,
                             int *ret_rc)
{
    if (token == NULL || body == NULL)
        return weft__misuse("weft_run_until_cancelled", -EINVAL, "the token or the body is NULL",
                            WEFT__CALLER);
    if (weft__cancel_token_is_cancelled(token))
        return -ECANCELED;
    int rc;
    weft_cancel_scope s;
    weft_cancel_scope_enter(&s, token);
    rc = body(arg);
    weft_cancel_scope_leave(&s);
    if (s.cancelled)
        return -ECANCELED;
    if (ret_rc)
        *ret_rc = rc;
    return 0;
}
