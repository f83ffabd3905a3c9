/*
 * Cancellation scopes, the part that waits need. Tokens are in cancel_token.h.
 */
#ifndef WEFT_TASK_CANCEL_H
#define WEFT_TASK_CANCEL_H

#include "task/task.h"

#include <weft/cancel.h>

/* In a wait that is pending, and in one that begins: true when a token around it is cancelled; then
 * each scope whose token is gets marked. Otherwise the next cancel will wake the task. With
 * locals->cancel set. */
bool weft__cancel_check(struct weft__task *self);
/* The same without the promise of a wake. */
bool weft__cancel_check_now(struct weft__task *self);

/* The frames of the scopes inside `until` (NULL: all) are about to be given up: no token wakes the
 * task for them any more, nor need it exist any longer. Before the cleanups, which may give up what
 * the tokens are held by. */
void weft__cancel_scopes_unwatch(struct weft__locals *l, const weft_cancel_scope *until);
/* Closes them. */
void weft__cancel_scopes_drop(struct weft__locals *l, weft_cancel_scope *until);

/* The task that the scopes wake goes: from now on they wake the one that waits next. */
void weft__cancel_scopes_forget(struct weft__locals *l);

/* How many of these scopes, and of those around them, watch their tokens. */
uint32_t weft__cancel_scopes_armed(const weft_cancel_scope *innermost);

/* The next scope around s that waits inside s see; NULL: none. */
weft_cancel_scope *weft__cancel_scope_outer(weft_cancel_scope *s);

#endif
