/*
 * Scopes of tasks.
 *
 * A child is a task with an end hook (task.h), so the scope learns of every end: of a child that
 * returned, panicked, was unwound, or never ran. The hook's record belongs to the scope and lives
 * as long as that, in a list of its own when free: steady spawning allocates nothing.
 *
 * The last child wakes the owner and then unlocks; from there on the scope may be gone. So the
 * owner looks at `live` under the lock only.
 */
#include "task/cancel.h"
#include "task/cancel_token.h"
#include "task/panic.h"
#include "task/spawn.h"
#include "task/timeout.h"
#include "task/waitq.h"

#include <weft/scope.h>

#include <errno.h>
#include <string.h>

#define CHUNK_CHILDREN 16

struct child {
    struct weft__end_hook hook;
    struct weft__node node; /* in scope->children or scope->free; under the lock */
    struct scope *scope;
    struct weft__task *task; /* NULL while it is being spawned; under the lock */
    bool is_ended;           /* under the lock: before the spawner had it in the list */
    weft_task_fn fn;
    int (*go)(void *arg); /* or this */
    void (*drop_result)(void *result);
};

struct chunk {
    struct chunk *next;
    struct child child[CHUNK_CHILDREN];
};

struct scope {
    struct weft__lock lock;
    uint32_t live;              /* under lock: children, and those being spawned */
    int error;                  /* under lock: the first */
    bool is_cancelled;          /* under lock */
    weft_panic_info *panic;     /* under lock: the first */
    struct weft__node children; /* under lock: those that can be aborted */
    struct weft__node free;     /* under lock */
    struct chunk *chunks;       /* under lock */
    struct weft__waitq idle;    /* under lock: wait for live == 0 */
    struct weft__waitq turn;    /* under lock: wait for live < at_most */
    size_t at_most;             /* SIZE_MAX: any number */
    uint64_t deadline_ns;       /* around the scope */
    weft_cancel_scope *tokens;  /* around the scope */
    struct weft__locals *owner; /* who opened it */
    weft_cleanup cleanup;       /* the owner's, when it panics or is unwound */
    int *ret_rc;                /* of the block form */
    int result;                 /* once left */
    bool keeps_going, is_open;
};
_Static_assert(sizeof(struct scope) <= sizeof(((weft_scope *)0)->opaque),
               "weft_scope.opaque is too small");

static struct scope *scope_of(weft_scope *s)
{
    return (struct scope *)s->opaque;
}

/* ---- children, under the lock ---- */

static struct child *child_take(struct scope *s)
{
    if (weft__list_is_empty(&s->free)) {
        struct chunk *chunk = weft__calloc(1, sizeof *chunk);
        if (chunk == NULL)
            return NULL;
        chunk->next = s->chunks;
        s->chunks = chunk;
        for (int i = 0; i < CHUNK_CHILDREN; i++)
            weft__list_push_back(&s->free, &chunk->child[i].node);
    }
    struct child *c = WEFT__CONTAINER_OF(weft__list_pop_front(&s->free), struct child, node);
    *c = (struct child){.scope = s};
    weft__list_init(&c->node);
    return c;
}

static void child_put(struct scope *s, struct child *c)
{
    weft__list_push_front(&s->free, &c->node);
}

/* The task is alive by the handle that its record holds. */
static void abort_child(struct child *c, struct weft__wake_list *wakes)
{
    weft__wake_list_abort(wakes, c->task);
}

static void cancel_locked(struct scope *s, struct weft__wake_list *wakes)
{
    if (s->is_cancelled)
        return;
    s->is_cancelled = true;
    for (struct weft__node *n = s->children.next; n != &s->children; n = n->next)
        abort_child(WEFT__CONTAINER_OF(n, struct child, node), wakes);
    weft__waitq_end_all(&s->turn, WEFT__WAITER_ENDED, wakes); /* they find it cancelled */
}

/* Those who were told to end may well fail. But they do not panic for that. */
static void fail_locked(struct scope *s, int error, bool is_panic, struct weft__wake_list *wakes)
{
    if (s->error == 0 && (is_panic || !s->is_cancelled))
        s->error = error;
    if (!s->keeps_going)
        cancel_locked(s, wakes);
}

/* One less lives, or is being spawned. */
static void leave_locked(struct scope *s, struct weft__wake_list *wakes)
{
    s->live--;
    if (s->live == 0)
        weft__waitq_end_all(&s->idle, WEFT__WAITER_ENDED, wakes);
    /* Who is woken takes its place itself, and may find it taken: then it queues again. */
    if (!weft__waitq_is_empty(&s->turn))
        weft__waitq_end(&s->turn, s->turn.first, WEFT__WAITER_ENDED, wakes);
}

/* ---- the end of a child ---- */

static void discard_panic(weft_panic_info *info)
{
    if (info == NULL)
        return;
    weft__panic_report(info, "in a child of a scope");
    weft_panic_free(info);
}

/* The end hook. */
static void child_ended(struct weft__end_hook *hook, struct weft__task *t)
{
    struct child *c = WEFT__CONTAINER_OF(hook, struct child, hook);
    struct scope *s = c->scope;
    weft_panic_info *info = t->outcome == WEFT_OUTCOME_PANICKED ? t->result.panic : NULL;
    int error = 0;
    if (info)
        error = -EOWNERDEAD;
    else if (t->outcome == WEFT_OUTCOME_VALUE && c->go)
        error = (int)(intptr_t)t->result.value;
    t->outcome = WEFT__OUTCOME_TAKEN; /* the body's wrapper has dropped a value */
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    if (c->task) {
        weft__list_remove(&c->node);
        child_put(s, c);
    } else {
        c->is_ended = true; /* the spawner has it in hand */
    }
    if (error < 0)
        fail_locked(s, error, info != NULL, &wakes);
    if (info && s->panic == NULL) {
        s->panic = info;
        info = NULL;
    }
    leave_locked(s, &wakes);
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&wakes);
    WEFT_NO_WAIT /* the task is done: a destructor of the payload has nothing to park */
        discard_panic(info);
    weft__task_drop_handle(t);
}

/* ---- the body of a child ---- */

struct dropped {
    void (*drop)(void *result);
    void *value;
};

static void call_drop(void *arg)
{
    struct dropped *d = arg;
    d->drop(d->value);
}

static void *call_body(struct child *c, void *arg)
{
    if (c->go)
        return (void *)(intptr_t)c->go(arg);
    void *value = c->fn(arg);
    if (c->drop_result) {
        struct dropped d = {c->drop_result, value};
        discard_panic(weft__call_contained(call_drop, &d));
    }
    return NULL;
}

/* The tokens around the scope lie in frames around it, which outlive the child; what watches them
 * is each task's own. */
static void *call_under_tokens(struct child *c, weft_cancel_scope *around, void *arg)
{
    if (around == NULL)
        return call_body(c, arg);
    weft_cancel_scope mine;
    weft_cancel_scope_enter(&mine, around->token);
    void *value = call_under_tokens(c, weft__cancel_scope_outer(around), arg);
    weft_cancel_scope_leave(&mine);
    return value;
}

static void *child_body(void *arg)
{
    struct weft__end_hook *hook = weft__end_hook_of(weft__task_current()->join_waker);
    struct child *c = WEFT__CONTAINER_OF(hook, struct child, hook);
    const struct scope *s = c->scope;
    if (s->deadline_ns == WEFT_NEVER)
        return call_under_tokens(c, s->tokens, arg);
    weft_timeout t;
    weft__timeout_enter_until(&t, s->deadline_ns);
    void *value = call_under_tokens(c, s->tokens, arg);
    weft_timeout_leave(&t);
    return value;
}

/* ---- spawning ---- */

struct turn_wait {
    weft_future future;
    struct scope *scope;
    struct weft__waiter waiter;
};

/* Ready, with 0, when a place was taken. */
static int turn_poll(weft_future *f, weft_waker *waker)
{
    struct turn_wait *w = WEFT__CONTAINER_OF(f, struct turn_wait, future);
    struct scope *s = w->scope;
    int rc = WEFT_PENDING;
    weft__lock_acquire(&s->lock);
    if (s->is_cancelled)
        rc = -ECANCELED;
    else if (s->live < s->at_most)
        rc = 0;
    if (rc == 0)
        s->live++;
    if (rc == WEFT_PENDING)
        weft__waitq_wait(&s->turn, &w->waiter, waker);
    else
        (void)weft__waitq_leave(&s->turn, &w->waiter); /* false: that woke us */
    weft__lock_release(&s->lock);
    return rc;
}

static void turn_cancel(weft_future *f)
{
    struct turn_wait *w = WEFT__CONTAINER_OF(f, struct turn_wait, future);
    struct scope *s = w->scope;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    /* Woken, and leaves: the place goes to the next one. */
    if (!weft__waitq_leave(&s->turn, &w->waiter) && !weft__waitq_is_empty(&s->turn))
        weft__waitq_end(&s->turn, s->turn.first, WEFT__WAITER_ENDED, &wakes);
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&wakes);
}

/* Takes a place among the living. */
static int take_turn(struct scope *s, const char *call, const void *caller)
{
    static const weft_future_ops ops = {turn_poll, turn_cancel, "a place in a scope"};
    weft__lock_acquire(&s->lock);
    /* Not past those who wait for their turn. */
    bool has_room = s->live < s->at_most && weft__waitq_is_empty(&s->turn);
    int rc = s->is_cancelled ? -ECANCELED : 0;
    if (rc == 0 && has_room)
        s->live++;
    weft__lock_release(&s->lock);
    if (rc < 0 || has_room)
        return rc;
    rc = weft__wait_begin(call, caller);
    if (rc < 0)
        return rc;
    struct turn_wait w = {.future = {&ops}, .scope = s};
    return weft__wait_for(&w.future);
}

/* After the spawn: the child is known by its task, NULL when it could not be spawned. It may have
 * ended since, and the scope been cancelled. */
static void child_settle(struct scope *s, struct child *c, struct weft__task *task)
{
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    if (task == NULL || c->is_ended) {
        child_put(s, c);
    } else {
        c->task = task;
        weft__list_push_back(&s->children, &c->node);
        if (s->is_cancelled)
            abort_child(c, &wakes);
    }
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&wakes);
}

static int spawn_child(struct scope *s, enum weft__task_kind kind,
                       const weft_spawn_options *options, const struct child *body, void *arg,
                       const weft_site *site)
{
    struct weft__core *core;
    int rc = weft__spawn_core("weft_scope_spawn", options, body->fn || body->go, arg, site, &core);
    if (rc < 0)
        return rc;
    weft__lock_acquire(&s->lock);
    struct child *c = child_take(s);
    weft__lock_release(&s->lock);
    if (c == NULL)
        return -ENOMEM;
    c->hook.fn = child_ended;
    c->fn = body->fn;
    c->go = body->go;
    weft_spawn_options stripped;
    if (options && options->drop_result) {
        /* Dropped by the wrapper, while it may still wait. */
        stripped = *options;
        stripped.drop_result = NULL;
        c->drop_result = options->drop_result;
        options = &stripped;
    }
    weft_task *handle;
    rc = weft__task_spawn_hooked(core, kind, options, child_body, arg, &handle, site, &c->hook);
    child_settle(s, c, rc < 0 ? NULL : weft__task_address(handle));
    return rc;
}

static int spawn(weft_scope *scope, enum weft__task_kind kind, const weft_spawn_options *options,
                 const struct child *body, void *arg, const weft_site *site, const void *caller)
{
    if (scope == NULL || scope->left || !scope_of(scope)->is_open)
        return weft__misuse_at("weft_scope_spawn", -EINVAL, "the scope is NULL or not open", site);
    struct scope *s = scope_of(scope);
    int rc = take_turn(s, "weft_scope_spawn", caller);
    bool has_turn = rc == 0;
    if (has_turn)
        rc = spawn_child(s, kind, options, body, arg, site);
    if (rc == 0)
        return 0;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    fail_locked(s, rc, false, &wakes);
    if (has_turn)
        leave_locked(s, &wakes);
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&wakes);
    return rc;
}

int weft__scope_spawn_at(weft_scope *s, const weft_spawn_options *options, weft_task_fn fn,
                         void *arg, const weft_site *site)
{
    const struct child body = {.fn = fn};
    return spawn(s, WEFT__TASK_FIBER, options, &body, arg, site, WEFT__CALLER);
}

int weft__scope_go_at(weft_scope *s, const weft_spawn_options *options, int (*fn)(void *arg),
                      void *arg, const weft_site *site)
{
    const struct child body = {.go = fn};
    return spawn(s, WEFT__TASK_FIBER, options, &body, arg, site, WEFT__CALLER);
}

int weft__scope_spawn_blocking_at(weft_scope *s, const weft_spawn_options *options, weft_task_fn fn,
                                  void *arg, const weft_site *site)
{
    const struct child body = {.fn = fn};
    return spawn(s, WEFT__TASK_BLOCKING, options, &body, arg, site, WEFT__CALLER);
}

/* ---- waiting for the children ---- */

struct idle_wait {
    weft_future future;
    struct scope *scope;
    struct weft__waiter waiter;
};

/* Under the lock in every case: the scope must not be gone while a child unlocks it. */
static int idle_poll(weft_future *f, weft_waker *waker)
{
    struct idle_wait *w = WEFT__CONTAINER_OF(f, struct idle_wait, future);
    struct scope *s = w->scope;
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

static bool is_idle_now(struct scope *s)
{
    weft__lock_acquire(&s->lock);
    bool is_idle = s->live == 0;
    weft__lock_release(&s->lock);
    return is_idle;
}

static int wait_idle(struct scope *s, const char *call, const void *caller)
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
    struct scope *s = scope_of(scope);
    weft_scope_cancel(scope);
    struct weft__locals *l = weft__locals_now();
    uint16_t no_wait = l->no_wait_depth;
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
static int note_cause(const struct scope *s, int rc)
{
    struct weft__core *core = weft__core_waiting();
    if (rc == -ETIMEDOUT && core && s->deadline_ns <= weft__clock_now(&core->clock)) {
        weft_timeout *cause = NULL;
        for (weft_timeout *t = s->owner->timeout_top; t; t = t->outer)
            if (t->deadline_ns == s->deadline_ns)
                cause = t; /* of equals the outer one, as always */
        if (cause)
            cause->expired = true;
    }
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

static void free_chunks(struct scope *s)
{
    while (s->chunks) {
        struct chunk *next = s->chunks->next;
        weft__free(s->chunks);
        s->chunks = next;
    }
}

/* A cleanup of the owner, which panics or is unwound. */
static void leave_early(void *arg)
{
    weft_scope *scope = arg;
    struct scope *s = scope_of(scope);
    cancel_and_wait(scope);
    free_chunks(s);
    discard_panic(s->panic);
    s->panic = NULL;
    scope->left = true;
}

int weft_scope_enter(weft_scope *scope, const weft_scope_options *options)
{
    struct scope *s = scope_of(scope);
    memset(scope, 0, sizeof *scope);
    struct weft__task *t = weft__wait_task();
    if (t == NULL || t->kind == WEFT__TASK_FUTURE)
        return weft__misuse("weft_scope_enter", -EPERM,
                            "nothing can wait here: no runtime, or a polled future", WEFT__CALLER);
    struct weft__locals *l = weft__locals_now();
    /* Leaving it has to wait, whatever is forbidden: children point into frames of the owner. */
    if (l->no_wait_depth > 0)
        return weft__misuse("weft_scope_enter", -EPERM, "a scope inside WEFT_NO_WAIT",
                            WEFT__CALLER);
    weft__lock_init(&s->lock);
    weft__list_init(&s->children);
    weft__list_init(&s->free);
    s->at_most = options && options->at_most ? options->at_most : SIZE_MAX;
    s->keeps_going = options && options->keeps_going;
    s->deadline_ns = l->timeout ? l->timeout->deadline_ns : WEFT_NEVER;
    s->tokens = l->cancel;
    s->owner = l;
    s->is_open = true;
    s->cleanup.fn = leave_early;
    s->cleanup.arg = scope;
    weft__cleanup_enter(&s->cleanup);
    return 0;
}

/* The children point into frames of the owner, and a child would wait for itself. */
static int check_owner(const struct scope *s, const char *call, const void *caller)
{
    if (WEFT__LIKELY(weft__locals_now() == s->owner))
        return 0;
    return weft__misuse(call, -EPERM, "by the task that opened the scope only", caller);
}

static void pop_cleanup(struct scope *s, const void *caller)
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

int weft_scope_leave(weft_scope *scope, weft_panic_info **ret_panic)
{
    struct scope *s = scope_of(scope);
    if (ret_panic)
        *ret_panic = NULL;
    if (!s->is_open)
        return scope->left ? s->result : -EPERM;
    int rc = check_owner(s, "weft_scope_leave", WEFT__CALLER);
    if (rc < 0)
        return rc;
    rc = wait_idle(s, "weft_scope_leave", WEFT__CALLER);
    if (rc < 0)
        cancel_and_wait(scope);
    /* No child lives, so nobody else looks at the scope any more. */
    s->is_open = false;
    pop_cleanup(s, WEFT__CALLER);
    free_chunks(s);
    s->result = s->error < 0 ? note_cause(s, s->error) : rc;
    scope->left = true;
    weft_panic_info *info = s->panic;
    s->panic = NULL;
    if (ret_panic)
        *ret_panic = info;
    else
        discard_panic(info);
    return s->result;
}

weft_scope *weft__scope_start(weft_scope *scope, const weft_scope_options *options, int *ret_rc)
{
    int rc = weft_scope_enter(scope, options);
    scope_of(scope)->ret_rc = ret_rc;
    if (rc < 0 && ret_rc)
        *ret_rc = rc;
    return scope;
}

void weft__scope_block_leave(weft_scope *scope)
{
    struct scope *s = scope_of(scope);
    if (scope->left)
        return;
    if (!s->is_open) {
        scope->left = true; /* it could not be entered */
        return;
    }
    if (s->ret_rc) {
        *s->ret_rc = weft_scope_leave(scope, NULL);
        return;
    }
    weft_panic_info *info;
    (void)weft_scope_leave(scope, &info); /* failures other than a panic have no place to go */
    if (info)
        weft_panic_resume(info);
}

int weft_scope_wait(weft_scope *scope)
{
    struct scope *s = scope_of(scope);
    if (scope->left || !s->is_open)
        return weft__misuse("weft_scope_wait", -EINVAL, "the scope is not open", WEFT__CALLER);
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
    struct scope *s = scope_of(scope);
    if (!s->is_open)
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    cancel_locked(s, &wakes);
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&wakes);
}

bool weft_scope_is_cancelled(weft_scope *scope)
{
    struct scope *s = scope_of(scope);
    weft__lock_acquire(&s->lock);
    bool is_cancelled = s->is_cancelled;
    weft__lock_release(&s->lock);
    return is_cancelled;
}

size_t weft_scope_len(weft_scope *scope)
{
    struct scope *s = scope_of(scope);
    weft__lock_acquire(&s->lock);
    size_t live = s->live;
    weft__lock_release(&s->lock);
    return live;
}
