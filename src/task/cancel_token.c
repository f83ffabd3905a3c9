#include "task/cancel_token.h"

#include <errno.h>

/* ---- the tree ---- */

static inline bool is_inherited(const struct weft__cancel_tree *tree)
{
    return WEFT__UNLIKELY(tree->process != weft__sys_process());
}

static void tree_unref(struct weft__cancel_tree *tree)
{
    /* acq_rel: who frees comes after what all others did */
    if (weft__a32_sub_acq_rel(&tree->refs, 1) == 1)
        weft__free(tree);
}

static struct weft_cancel_token *token_alloc(struct weft__cancel_tree *tree)
{
    struct weft_cancel_token *token = weft__calloc(1, sizeof *token);
    if (token == NULL)
        return NULL;
    token->tree = tree;
    weft__a32_store_relaxed(&token->refs, 1);
    weft__list_init(&token->sibling);
    weft__list_init(&token->children);
    return token;
}

int weft_cancel_token_create(weft_cancel_token **ret_token)
{
    if (ret_token == NULL)
        return weft__misuse("weft_cancel_token_create", -EINVAL, "ret_token is NULL", WEFT__CALLER);
    struct weft__cancel_tree *tree = weft__calloc(1, sizeof *tree);
    if (tree == NULL)
        return -ENOMEM;
    weft__lock_init(&tree->lock);
    weft__a32_store_relaxed(&tree->refs, 1);
    tree->process = weft__sys_process();
    struct weft_cancel_token *token = token_alloc(tree);
    if (token == NULL) {
        weft__free(tree);
        return -ENOMEM;
    }
    *ret_token = token;
    return 0;
}

int weft_cancel_token_child(weft_cancel_token *parent, weft_cancel_token **ret_token)
{
    if (parent == NULL || ret_token == NULL)
        return weft__misuse("weft_cancel_token_child", -EINVAL,
                            "the parent is NULL, or no place for the result", WEFT__CALLER);
    struct weft__cancel_tree *tree = parent->tree;
    if (weft__is_inherited("weft_cancel_token_child", tree->process, WEFT__CALLER))
        return -EPERM;
    struct weft_cancel_token *token = token_alloc(tree);
    if (token == NULL)
        return -ENOMEM;
    weft__a32_add_relaxed(&tree->refs, 1); /* the parent's keeps it alive */
    weft__lock_acquire(&tree->lock);
    token->parent = parent;
    weft__list_push_back(&parent->children, &token->sibling);
    if (weft__a32_load_relaxed(&parent->is_cancelled)) /* written under the lock */
        weft__a32_store_relaxed(&token->is_cancelled, 1);
    weft__lock_release(&tree->lock);
    *ret_token = token;
    return 0;
}

weft_cancel_token *weft_cancel_token_ref(weft_cancel_token *token)
{
    if (token)
        weft__a32_add_relaxed(&token->refs, 1); /* the caller's own keeps it alive */
    return token;
}

/* Under the lock. A cancelled parent's children are cancelled, so nothing changes for them. */
static void hand_children_to_parent(struct weft_cancel_token *token)
{
    struct weft__node *n;
    while ((n = weft__list_pop_front(&token->children)) != NULL) {
        struct weft_cancel_token *child = WEFT__CONTAINER_OF(n, struct weft_cancel_token, sibling);
        child->parent = token->parent;
        if (token->parent)
            weft__list_push_back(&token->parent->children, &child->sibling);
    }
}

void weft_cancel_token_unref(weft_cancel_token *token)
{
    /* acq_rel: the last one sees all the others did */
    if (token == NULL || weft__a32_sub_acq_rel(&token->refs, 1) != 1)
        return;
    struct weft__cancel_tree *tree = token->tree;
    if (is_inherited(tree))
        return;
    weft__lock_acquire(&tree->lock);
    WEFT_ASSERT(weft__waitq_is_empty(&token->waiters)); /* a wait outlives its token */
    hand_children_to_parent(token);
    weft__list_remove(&token->sibling);
    weft__lock_release(&tree->lock);
    weft__free(token);
    tree_unref(tree);
}

/* ---- cancelling ---- */

/* Under the lock. */
static void cancel_one(struct weft_cancel_token *token, struct weft__wake_list *wakes)
{
    /* release pairs with the acquire in weft__cancel_token_is_cancelled */
    weft__a32_store_release(&token->is_cancelled, 1);
    weft__waitq_end_all(&token->waiters, WEFT__WAITER_ENDED, wakes);
}

/* Under the lock: the first descendant in depth-first order, or what comes after `at` has none that
 * is live; NULL at the end of top's subtree. What is cancelled already has only cancelled
 * descendants. */
static struct weft_cancel_token *next_in_subtree(struct weft_cancel_token *top,
                                                 struct weft_cancel_token *at, bool descend)
{
    if (descend && !weft__list_is_empty(&at->children))
        return WEFT__CONTAINER_OF(at->children.next, struct weft_cancel_token, sibling);
    while (at != top) {
        struct weft__node *next = at->sibling.next;
        if (next != &at->parent->children)
            return WEFT__CONTAINER_OF(next, struct weft_cancel_token, sibling);
        at = at->parent;
    }
    return NULL;
}

void weft_cancel_token_cancel(weft_cancel_token *token)
{
    if (token == NULL || weft__cancel_token_is_cancelled(token) || is_inherited(token->tree))
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    /* Who is woken may release the caller's token. */
    struct weft__cancel_tree *tree = token->tree;
    weft__lock_acquire(&tree->lock);
    struct weft_cancel_token *at = token;
    while (at) {
        bool was_live = !weft__a32_load_relaxed(&at->is_cancelled); /* written under the lock */
        if (was_live)
            cancel_one(at, &wakes);
        at = next_in_subtree(token, at, was_live);
    }
    weft__lock_release(&tree->lock);
    weft__wake_list_flush(&wakes);
}

bool weft_cancel_token_is_cancelled(const weft_cancel_token *token)
{
    return token && weft__cancel_token_is_cancelled(token);
}

/* ---- waiting ---- */

bool weft__cancel_token_watch(struct weft_cancel_token *token, struct weft__waiter *w,
                              weft_waker *waker)
{
    if (is_inherited(token->tree)) /* a scope around it, in a runtime of a child's */
        return !weft__cancel_token_is_cancelled(token);
    weft__lock_acquire(&token->tree->lock);
    bool is_live = !weft__a32_load_relaxed(&token->is_cancelled); /* written under the lock */
    if (is_live)
        is_live = weft__waiter_must_wait(&token->waiters, w, waker);
    weft__lock_release(&token->tree->lock);
    return is_live;
}

void weft__cancel_token_unwatch(struct weft_cancel_token *token, struct weft__waiter *w)
{
    if (is_inherited(token->tree))
        return;
    weft__lock_acquire(&token->tree->lock);
    (void)weft__waitq_leave(&token->waiters, w); /* false: a cancel has taken it out */
    weft__lock_release(&token->tree->lock);
}

struct token_future {
    weft_future future;
    /* NULL: misuse, reported when it was initialised; or the reference was given up */
    struct weft_cancel_token *token;
    struct weft__waiter waiter;
    bool is_owner; /* of a reference to token */
};
_Static_assert(sizeof(struct token_future) <= sizeof(weft_cancel_token_future),
               "weft_cancel_token_future.opaque is too small");

static void future_end(struct token_future *t)
{
    if (!t->is_owner)
        return;
    weft_cancel_token_unref(t->token);
    t->token = NULL;
}

static int future_poll(weft_future *f, weft_waker *waker)
{
    struct token_future *t = (struct token_future *)f;
    if (WEFT__UNLIKELY(t->token == NULL))
        return -EINVAL;
    if (!weft__cancel_token_is_cancelled(t->token) &&
        weft__is_inherited(f->ops->name, t->token->tree->process, NULL))
        return -EPERM;
    if (weft__cancel_token_watch(t->token, &t->waiter, waker))
        return WEFT_PENDING;
    future_end(t);
    return 0;
}

static void future_cancel(weft_future *f)
{
    struct token_future *t = (struct token_future *)f;
    if (WEFT__UNLIKELY(t->token == NULL))
        return; /* misuse, and not polled; or over */
    weft__cancel_token_unwatch(t->token, &t->waiter);
    future_end(t);
}

static const weft_future_ops future_ops = {future_poll, future_cancel, "cancellation token"};

static void future_init(weft_cancel_token_future *f, weft_cancel_token *token, bool is_owner,
                        const char *call, const void *caller)
{
    struct token_future *t = (struct token_future *)f;
    if (token == NULL)
        (void)weft__misuse(call, -EINVAL, "the token is NULL", caller); /* said by the poll */
    t->future.ops = &future_ops;
    t->token = is_owner ? weft_cancel_token_ref(token) : token;
    t->is_owner = is_owner;
    weft__waiter_init(&t->waiter);
}

void weft_cancel_token_future_init(weft_cancel_token_future *f, weft_cancel_token *token)
{
    future_init(f, token, false, "weft_cancel_token_future_init", WEFT__CALLER);
}

void weft_cancel_token_future_init_owned(weft_cancel_token_future *f, weft_cancel_token *token)
{
    future_init(f, token, true, "weft_cancel_token_future_init_owned", WEFT__CALLER);
}

int weft_cancel_token_wait(weft_cancel_token *token)
{
    if (token == NULL)
        return weft__misuse("weft_cancel_token_wait", -EINVAL, "the token is NULL", WEFT__CALLER);
    int rc = weft__wait_begin("weft_cancel_token_wait", WEFT__CALLER);
    if (rc < 0 || weft__cancel_token_is_cancelled(token))
        return rc;
    weft_cancel_token_future f;
    weft_cancel_token_future_init(&f, token);
    return weft__wait_for(&f.future);
}

int weft_cancel_token_blocking_wait(weft_cancel_token *token)
{
    if (token == NULL)
        return weft__misuse("weft_cancel_token_blocking_wait", -EINVAL, "the token is NULL",
                            WEFT__CALLER);
    weft_cancel_token_future f;
    weft_cancel_token_future_init(&f, token);
    return weft__wait_blocking("weft_cancel_token_blocking_wait", &f.future, WEFT__CALLER);
}

/* ---- guard ---- */

void weft_cancel_guard_release(weft_cancel_guard *g)
{
    if (g == NULL)
        return;
    weft_cancel_token_cancel(g->token);
    g->token = NULL;
}

void weft__cancel_guard_at_end(void *guard)
{
    weft_cancel_guard_release(guard);
}

weft_cancel_token *weft_cancel_guard_disarm(weft_cancel_guard *g)
{
    if (weft__is_null("weft_cancel_guard_disarm", g, WEFT__CALLER))
        return NULL;
    weft_cancel_token *token = g->token;
    g->token = NULL;
    return token;
}

/* ---- as a case ---- */

static int start_cancelled(weft_case *c)
{
    weft_cancel_token_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_cancelled(weft_cancel_token *token)
{
    _Static_assert(sizeof(weft_cancel_token_future) <= WEFT_CASE_BYTES, "it fits");
    return weft_case_make(start_cancelled, token, NULL);
}
