/*
 * Cancellation tokens: telling a tree of tasks to stop, without owning their handles.
 *
 * A token is cancelled once and stays so; cancelling one cancels its descendants, never its
 * ancestors or siblings. It can be waited for like anything else, and it can be put around code:
 * inside WEFT_CANCEL_SCOPE every wait, however deep, returns -ECANCELED once the token is
 * cancelled, as after an abort, and the same cleanup code runs. Children of a weft_scope inherit
 * the tokens around it.
 *
 * A token is counted: each holder has a reference. All functions may be called from any thread, in
 * a runtime or in none, and none suspends unless it says so.
 *
 * In a forked child a token of its parent's may be given up. Making a child of it, and waiting for
 * it while it is not cancelled, return -EPERM with a line in the log; cancelling it does nothing.
 *
 * Source: the interface is that of CancellationToken in tokio-util.
 */
#ifndef WEFT_CANCEL_H
#define WEFT_CANCEL_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/panic.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

typedef struct weft_cancel_token weft_cancel_token;

/* A token of its own. 0 with a reference; -ENOMEM; -EINVAL when ret_token is NULL (logged). */
WEFT_API WEFT_MUST_CHECK int weft_cancel_token_create(weft_cancel_token **ret_token);
/* A child of parent, which is borrowed: cancelled with it, and by itself. Of a cancelled parent it
 * is born cancelled. 0 with a reference; -ENOMEM; -EINVAL when parent or ret_token is NULL
 * (logged). */
WEFT_API WEFT_MUST_CHECK int weft_cancel_token_child(weft_cancel_token *parent,
                                                     weft_cancel_token **ret_token);
/* Takes a reference; returns token. NULL is passed through. */
WEFT_API weft_cancel_token *weft_cancel_token_ref(weft_cancel_token *token);
/* Gives a reference up. The last one cancels nothing: children of the token become children of its
 * parent. NULL does nothing. */
WEFT_API void weft_cancel_token_unref(weft_cancel_token *token);

/* Cancels token and its descendants, and wakes who waits for them. Idempotent. NULL does
 * nothing. */
WEFT_API void weft_cancel_token_cancel(weft_cancel_token *token);
/* False for NULL. */
WEFT_API bool weft_cancel_token_is_cancelled(const weft_cancel_token *token);

/*
 * Waits until token is cancelled; at once when it is.
 *
 *   token     borrowed for the call
 *
 * Returns 0; -ECANCELED (the calling task was aborted, or a token around the call was cancelled),
 * -ETIMEDOUT, -EPERM as weft_await(); -EINVAL for NULL.
 *
 * Context: as weft_await(); may suspend. Cancellation: safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_cancel_token_wait(weft_cancel_token *token);
/* The same on a plain thread, which it blocks; in no runtime need it be. -EPERM inside a task;
 * -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_cancel_token_blocking_wait(weft_cancel_token *token);

/* The wait as a future, with result 0; -EINVAL, logged by the init, when token is NULL. token is
 * borrowed until the future has completed or was cancelled; with the owned form the future has a
 * reference until then, so it is to be cancelled also when weft_await() fails, which may have
 * refused to begin. Cancelling it more than once, or when it has completed, is fine. */
typedef struct weft_cancel_token_future {
    weft_future future;
    void *opaque[7];
} weft_cancel_token_future;
WEFT_API void weft_cancel_token_future_init(weft_cancel_token_future *f, weft_cancel_token *token);
WEFT_API void weft_cancel_token_future_init_owned(weft_cancel_token_future *f,
                                                  weft_cancel_token *token);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_cancelled(weft_cancel_token *token);

/*
 * Calls body(arg) inside a WEFT_CANCEL_SCOPE of token.
 *
 *   token     borrowed for the call
 *   ret_rc    what body returned; NULL: dropped
 *
 * Returns 0 when body has returned without being interrupted. Otherwise
 *   -ECANCELED  token was cancelled: before the call, and body was not called; or a wait inside
 *               body has returned -ECANCELED because of it, and body has returned. A wait that is
 *               ready in the same moment wins, and so may body
 *   -EINVAL     token or body is NULL
 *
 * Context: as weft_await(); body may suspend.
 */
WEFT_API WEFT_MUST_CHECK int weft_run_until_cancelled(weft_cancel_token *token,
                                                      int (*body)(void *arg), void *arg,
                                                      int *ret_rc);

/*
 * Cancellation scopes. Every wait inside returns -ECANCELED once the token is cancelled; so does
 * every later one, until the scope is left. A wait that is ready wins when it had begun. Scopes
 * nest: any of the tokens will do. WEFT_SHIELD holds those outside it back.
 *
 *     WEFT_CANCEL_SCOPE(token)
 *         rc = serve(conn);
 *
 * The block may be left by break, return or goto. In the functional form the scope outlives the
 * block: enter, leave, weft_cancel_scope_is_cancelled().
 */
typedef struct weft_cancel_scope {
    struct weft_cancel_scope *outer;
    weft_cancel_token *token;
    bool cancelled; /* see weft_cancel_scope_is_cancelled() */
    bool left;
    bool entered;
    void *opaque[8];
} weft_cancel_scope;

#define WEFT_CANCEL_SCOPE(token) WEFT_CANCEL_SCOPE_AS(WEFT__CAT(weft__cancel_, __COUNTER__), token)
#define WEFT_CANCEL_SCOPE_AS(name, token) WEFT__CANCEL_SCOPE_AS(name, token)
#define WEFT__CANCEL_SCOPE_AS(name, token)                                                         \
    for (weft_cancel_scope name __attribute__((cleanup(weft_cancel_scope_leave))) = WEFT__ZERO,    \
                                *weft__p_##name = weft__cancel_scope_start(&name, (token));        \
         !weft__p_##name->left; weft_cancel_scope_leave(&name))

/* Opens a scope; token is borrowed until it is left; NULL: one that is never cancelled. s stays
 * where it is until it is left, in reverse order. A panic or an unwinding abort leaves it. A body,
 * or a callback, that returns without leaving it is reported; if a wait inside has shown the scope
 * to the token, its memory being gone by then, the process ends. In a place where nothing can wait
 * it has no effect. */
WEFT_API void weft_cancel_scope_enter(weft_cancel_scope *s, weft_cancel_token *token);
/* Closes it. Idempotent. */
WEFT_API void weft_cancel_scope_leave(weft_cancel_scope *s);
/* True when a wait inside returned -ECANCELED because of a token, and this scope's was cancelled
 * then; an abort of the task comes first, and says nothing of tokens. Stays readable after it was
 * left. */
WEFT_API bool weft_cancel_scope_is_cancelled(const weft_cancel_scope *s);

/* Cancels a token when the block is left, also when the task panics or is unwound, see WEFT_DEFER,
 * unless disarmed: `WEFT_CANCEL_ON_RELEASE(g, token);` The token is borrowed. */
typedef struct weft_cancel_guard {
    weft_cancel_token *token;
} weft_cancel_guard;
#define WEFT_CANCEL_ON_RELEASE(guard, t)                                                           \
    weft_cancel_guard guard = {t};                                                                 \
    WEFT_DEFER(weft__cancel_guard_at_end, &guard)
/* Cancels what the guard still holds. NULL does nothing. */
WEFT_API void weft_cancel_guard_release(weft_cancel_guard *g);
/* Takes the token back; the guard does nothing any more. NULL for NULL (logged). */
WEFT_API weft_cancel_token *weft_cancel_guard_disarm(weft_cancel_guard *g);

/* Behind the macros. */
WEFT_API void weft__cancel_guard_at_end(void *guard);
static inline weft_cancel_scope *weft__cancel_scope_start(weft_cancel_scope *s,
                                                          weft_cancel_token *token)
{
    weft_cancel_scope_enter(s, token);
    WEFT__BLOCK_RUNS(s);
    return s;
}

WEFT_END_DECLS

#endif
