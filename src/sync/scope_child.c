/* Scopes, the side of the children: spawning them, their bodies, their ends. See scope.h. */
#include "sync/scope.h"

#include "task/cancel.h"
#include "task/panic.h"
#include "task/spawn.h"
#include "task/timeout.h"

#include <errno.h>

/* ---- children, under the lock ---- */

static struct weft__scope_child *child_take(struct weft__scope *s)
{
    if (weft__list_is_empty(&s->free)) {
        struct weft__scope_chunk *chunk = weft__calloc(1, sizeof *chunk);
        if (chunk == NULL)
            return NULL;
        chunk->next = s->chunks;
        s->chunks = chunk;
        for (int i = 0; i < WEFT__SCOPE_CHUNK_CHILDREN; i++)
            weft__list_push_back(&s->free, &chunk->child[i].node);
    }
    struct weft__scope_child *c =
        WEFT__CONTAINER_OF(weft__list_pop_front(&s->free), struct weft__scope_child, node);
    *c = (struct weft__scope_child){.scope = s};
    weft__list_init(&c->node);
    return c;
}

void weft__scope_free_children(struct weft__scope *s)
{
    while (s->chunks) {
        struct weft__scope_chunk *next = s->chunks->next;
        weft__free(s->chunks);
        s->chunks = next;
    }
}

static void child_put(struct weft__scope *s, struct weft__scope_child *c)
{
    weft__list_push_front(&s->free, &c->node);
}

/* The task is alive by the handle that its record holds. */
static void abort_child(struct weft__scope_child *c, struct weft__wake_list *wakes)
{
    weft__wake_list_abort(wakes, c->task);
}

void weft__scope_cancel_locked(struct weft__scope *s, struct weft__wake_list *wakes)
{
    if (s->is_cancelled)
        return;
    s->is_cancelled = true;
    for (struct weft__node *n = s->children.next; n != &s->children; n = n->next)
        abort_child(WEFT__CONTAINER_OF(n, struct weft__scope_child, node), wakes);
    weft__waitq_end_all(&s->turn, WEFT__WAITER_ENDED, wakes); /* they find it cancelled */
}

/* Those who were told to end may well fail. But they do not panic for that. */
static void fail_locked(struct weft__scope *s, int error, bool is_panic,
                        struct weft__wake_list *wakes)
{
    if (s->error == 0 && (is_panic || !s->is_cancelled))
        s->error = error;
    if (!s->keeps_going)
        weft__scope_cancel_locked(s, wakes);
}

/* One less lives, or is being spawned. */
static void leave_locked(struct weft__scope *s, struct weft__wake_list *wakes)
{
    s->live--;
    if (s->live == 0)
        weft__waitq_end_all(&s->idle, WEFT__WAITER_ENDED, wakes);
    /* Who is woken takes its place itself, and may find it taken: then it queues again. */
    if (!weft__waitq_is_empty(&s->turn))
        weft__waitq_end(&s->turn, s->turn.first, WEFT__WAITER_ENDED, wakes);
}

/* ---- the end of a child ---- */

void weft__scope_discard_panic(weft_panic_info *info)
{
    if (info == NULL)
        return;
    weft__panic_report(info, "in a child of a scope");
    weft_panic_free(info);
}

/* The end hook. */
static void child_ended(struct weft__end_hook *hook, struct weft__task *t)
{
    struct weft__scope_child *c = WEFT__CONTAINER_OF(hook, struct weft__scope_child, hook);
    struct weft__scope *s = c->scope;
    weft_panic_info *info = NULL;
    int error = 0;
    switch (t->outcome) {
    case WEFT_OUTCOME_PANICKED:
        info = t->result.panic;
        error = -EOWNERDEAD;
        break;
    case WEFT_OUTCOME_CANCELLED:
        /* In a scope that was cancelled it says nothing. Else it was a shutdown, or there was no
         * memory for a stack, and the child may not even have begun. */
        error = -ECANCELED;
        break;
    default:
        if (c->go)
            error = (int)(intptr_t)t->result.value;
    }
    t->outcome = WEFT__OUTCOME_TAKEN; /* the body's wrapper has dropped a value */
    bool is_panic = info != NULL;
    if (s->ret_rc != NULL && is_panic) {
        /* Nobody will be given it. Now, since the block may be left when the program ends; and
         * before the owner can know of it. */
        WEFT_NO_WAIT /* the task is done: a destructor of the payload has nothing to park */
            weft__scope_discard_panic(info);
        info = NULL;
    }
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    if (c->task) {
        weft__list_remove(&c->node);
        child_put(s, c);
    } else {
        c->is_ended = true; /* the spawner has it in hand */
    }
    if (error < 0)
        fail_locked(s, error, is_panic, &wakes);
    if (info && s->panic == NULL) {
        s->panic = info;
        info = NULL;
    }
    leave_locked(s, &wakes);
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&wakes);
    WEFT_NO_WAIT /* as above */
        weft__scope_discard_panic(info);
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

static void *call_body(struct weft__scope_child *c, void *arg)
{
    if (c->go)
        return (void *)(intptr_t)c->go(arg);
    void *value = c->fn(arg);
    if (c->drop_result) {
        struct dropped d = {c->drop_result, value};
        weft__scope_discard_panic(weft__call_contained(call_drop, &d));
    }
    return NULL;
}

/* The tokens around the scope lie in frames around it, which outlive the child; what watches them
 * is each task's own. */
static void *call_under_tokens(struct weft__scope_child *c, weft_cancel_scope *around, void *arg)
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
    struct weft__end_hook *hook =
        weft__end_hook_of(weft__aptr_load_relaxed(&weft__task_current()->join_waker));
    struct weft__scope_child *c = WEFT__CONTAINER_OF(hook, struct weft__scope_child, hook);
    const struct weft__scope *s = c->scope;
    if (c->deadline_ns == WEFT_NEVER)
        return call_under_tokens(c, s->tokens, arg);
    weft_timeout t;
    weft__timeout_enter_until(&t, c->deadline_ns);
    void *value = call_under_tokens(c, s->tokens, arg);
    weft_timeout_leave(&t);
    return value;
}

/* ---- spawning ---- */

struct turn_wait {
    weft_future future;
    struct weft__scope *scope;
    struct weft__waiter waiter;
};

/* Ready, with 0, when a place was taken. */
static int turn_poll(weft_future *f, weft_waker *waker)
{
    struct turn_wait *w = WEFT__CONTAINER_OF(f, struct turn_wait, future);
    struct weft__scope *s = w->scope;
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
    struct weft__scope *s = w->scope;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    /* Woken, and leaves: the place goes to the next one. */
    if (!weft__waitq_leave(&s->turn, &w->waiter) && !weft__waitq_is_empty(&s->turn))
        weft__waitq_end(&s->turn, s->turn.first, WEFT__WAITER_ENDED, &wakes);
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&wakes);
}

/* Takes a place among the living. */
static int take_turn(struct weft__scope *s, const char *call, const void *caller)
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

/* Under the lock, by who spawns. A local set may have come to be driven on another clock, and the
 * deadline with it: its tasks look, which run on the thread where that happens. */
static uint64_t deadline_around(struct weft__scope *s)
{
    if (s->timeout != NULL && s->core->home != 0 && weft__core_waiting() == s->core)
        s->deadline_ns = s->timeout->deadline_ns;
    return s->deadline_ns;
}

/* When a child in `core` has that deadline. The clock of another runtime may show another time: it
 * has what is left. */
static uint64_t deadline_in(struct weft__core *core, const struct weft__scope *s,
                            uint64_t deadline_ns)
{
    if (deadline_ns == WEFT_NEVER || core == s->core ||
        (weft__clock_is_systems(&core->clock) && weft__clock_is_systems(&s->core->clock)))
        return deadline_ns;
    uint64_t now_ns = weft__clock_now(&s->core->clock);
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    return weft__add_sat(weft__clock_now(&core->clock), left_ns);
}

/* After the spawn: the child is known by its task, NULL when it could not be spawned. It may have
 * ended since, and the scope been cancelled. */
static void child_settle(struct weft__scope *s, struct weft__scope_child *c,
                         struct weft__task *task)
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

static int spawn_child(struct weft__scope *s, enum weft__task_kind kind,
                       const weft_spawn_options *options, const struct weft__scope_child *body,
                       void *arg, const weft_site *site)
{
    struct weft__core *core;
    int rc = weft__spawn_core("weft_scope_spawn", options, body->fn || body->go, arg, site, &core);
    if (rc < 0)
        return rc;
    weft__lock_acquire(&s->lock);
    struct weft__scope_child *c = child_take(s);
    uint64_t deadline_ns = deadline_around(s);
    weft__lock_release(&s->lock);
    if (c == NULL)
        return -ENOMEM;
    c->deadline_ns = deadline_in(core, s, deadline_ns);
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
                 const struct weft__scope_child *body, void *arg, const weft_site *site,
                 const void *caller)
{
    if (scope == NULL || scope->left || !weft__scope_of(scope)->is_open)
        return weft__misuse_at("weft_scope_spawn", -EINVAL, "the scope is NULL or not open", site);
    struct weft__scope *s = weft__scope_of(scope);
    if (weft__scope_is_inherited(s))
        return weft__misuse_at("weft_scope_spawn", -EPERM, "this is a forked child", site);
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
    return weft__spawn_result(rc);
}

int weft__scope_spawn_at(weft_scope *s, const weft_spawn_options *options, weft_task_fn fn,
                         void *arg, const weft_site *site)
{
    const struct weft__scope_child body = {.fn = fn};
    return spawn(s, WEFT__TASK_FIBER, options, &body, arg, site, WEFT__CALLER);
}

int weft__scope_go_at(weft_scope *s, const weft_spawn_options *options, int (*fn)(void *arg),
                      void *arg, const weft_site *site)
{
    const struct weft__scope_child body = {.go = fn};
    return spawn(s, WEFT__TASK_FIBER, options, &body, arg, site, WEFT__CALLER);
}

int weft__scope_spawn_blocking_at(weft_scope *s, const weft_spawn_options *options, weft_task_fn fn,
                                  void *arg, const weft_site *site)
{
    const struct weft__scope_child body = {.fn = fn};
    return spawn(s, WEFT__TASK_BLOCKING, options, &body, arg, site, WEFT__CALLER);
}
