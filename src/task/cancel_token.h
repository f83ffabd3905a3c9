/*
 * The tree of cancellation tokens.
 *
 * One lock a tree guards its shape and its waiters, so that cancelling a subtree and releasing a
 * token in the middle of it need no order among locks. Whether a token is cancelled is read without
 * it.
 *
 * A forked child lets its parent's tokens be: the lock may have been held by a thread that is not
 * there, and the tasks that wait are copies. It may still leave the scopes and guards in which it
 * was forked.
 */
#ifndef WEFT_TASK_CANCEL_TOKEN_H
#define WEFT_TASK_CANCEL_TOKEN_H

#include "task/waitq.h"

#include <weft/cancel.h>

struct weft__cancel_tree {
    struct weft__lock lock;
    weft__a32 refs;   /* tokens of the tree */
    uint32_t process; /* of which it is, as weft__sys_process() */
};

struct weft_cancel_token {
    struct weft__cancel_tree *tree;
    struct weft_cancel_token *parent; /* under the tree's lock; NULL: a root */
    struct weft__node sibling;        /* in parent->children; under the tree's lock */
    struct weft__node children;       /* under the tree's lock */
    struct weft__waitq waiters;       /* under the tree's lock; empty once cancelled */
    weft__a32 refs;
    weft__a32 is_cancelled; /* written under the tree's lock, once; read by all */
};

static inline bool weft__cancel_token_is_cancelled(const struct weft_cancel_token *token)
{
    /* acquire pairs with the release in cancel: what the canceller did before is seen */
    return weft__a32_load_acquire(&token->is_cancelled) != 0;
}

/* Queues w to be ended by a cancel, unless it is queued. False: the token is cancelled, and w in no
 * queue. In a forked child it is in none either way, for a token of its parent's. */
WEFT_MUST_CHECK bool weft__cancel_token_watch(struct weft_cancel_token *token,
                                              struct weft__waiter *w, weft_waker *waker);
/* Takes w out of the queue; on return nothing touches it any more. */
void weft__cancel_token_unwatch(struct weft_cancel_token *token, struct weft__waiter *w);

#endif
