#include "sync/members.h"

#include "task/panic.h"
#include "task/spawn.h"

#include <errno.h>
#include <string.h>

static struct weft__member *member_of(struct weft__node *node)
{
    return WEFT__CONTAINER_OF(node, struct weft__member, node);
}

void weft__members_init(struct weft__members *g, size_t member_bytes)
{
    memset(g, 0, sizeof *g);
    weft__lock_init(&g->lock);
    g->refs = 1;
    g->member_bytes = member_bytes;
    g->process = weft__sys_process();
    weft__list_init(&g->running);
    weft__list_init(&g->done);
    weft__list_init(&g->awaited);
    weft__list_init(&g->free);
}

static void group_free(struct weft__members *g)
{
    for (struct weft__node *n; (n = weft__list_pop_front(&g->free)) != NULL;)
        weft__free(member_of(n));
    weft__free(g);
}

/* ---- under the lock ---- */

/* One less is counted. Who waits for the next one learns that there is none. */
static void uncount_locked(struct weft__members *g, const struct weft__member *m,
                           struct weft__wake_list *wakes)
{
    g->len--;
    if (m->has_failed)
        g->failed--;
    if (g->len == 0)
        weft__waitq_end_all(&g->next, WEFT__WAITER_ENDED, wakes);
}

struct end_wait {
    weft_future future;
    struct weft__members *group;
    struct weft__waiter waiter;
    bool or_failed;
    bool or_born; /* also until group->born is another than here */
    size_t born;
};

static bool is_over_locked(const struct weft__members *g, bool or_failed)
{
    if (or_failed)
        return g->failed > 0 || weft__list_is_empty(&g->running);
    return weft__list_is_empty(&g->running) && weft__list_is_empty(&g->awaited);
}

static bool is_wait_over_locked(const struct end_wait *w)
{
    return is_over_locked(w->group, w->or_failed) || (w->or_born && w->group->born != w->born);
}

/* Those whose wait is over look again, which is what their result means: one wake for the end of
 * all, not one for each end. */
static void tell_locked(struct weft__members *g, struct weft__wake_list *wakes)
{
    for (struct weft__waiter *w = g->ended.first, *next; w; w = next) {
        next = w->next;
        if (is_wait_over_locked(WEFT__CONTAINER_OF(w, struct end_wait, waiter)))
            weft__waitq_end(&g->ended, w, WEFT__WAITER_ENDED, wakes);
    }
}

static void next_locked(struct weft__members *g, struct weft__wake_list *wakes)
{
    if (!weft__list_is_empty(&g->done) && !weft__waitq_is_empty(&g->next))
        weft__waitq_end(&g->next, g->next.first, WEFT__WAITER_ENDED, wakes);
}

static void done_locked(struct weft__members *g, struct weft__member *m,
                        struct weft__wake_list *wakes)
{
    m->state = WEFT__MEMBER_DONE;
    m->has_failed = weft__task_address(m->task)->outcome != WEFT_OUTCOME_VALUE;
    g->failed += m->has_failed;
    weft__list_push_back(&g->done, &m->node);
    next_locked(g, wakes);
    tell_locked(g, wakes);
}

static struct weft__member *take_locked(struct weft__members *g, struct weft__wake_list *wakes)
{
    struct weft__node *n = weft__list_pop_front(&g->done);
    if (n == NULL)
        return NULL;
    uncount_locked(g, member_of(n), wakes);
    return member_of(n);
}

/* The handle is given up after unlocking, since it may drop an outcome. A member that runs is then
 * no more than a detached task, which drops its outcome by itself before the hook is called. */
static weft_task *give_up_locked(struct weft__members *g, struct weft__member *m, bool is_awaited,
                                 struct weft__wake_list *wakes)
{
    weft_task *task = m->task;
    weft__list_remove(&m->node);
    uncount_locked(g, m, wakes);
    if (m->state == WEFT__MEMBER_DONE) {
        weft__list_push_front(&g->free, &m->node);
        return task;
    }
    if (is_awaited) {
        m->state = WEFT__MEMBER_AWAITED;
        weft__list_push_back(&g->awaited, &m->node);
        weft__wake_list_abort(wakes, weft__task_address(task));
    } else {
        m->state = WEFT__MEMBER_DETACHED;
    }
    tell_locked(g, wakes);
    return task;
}

/* ---- the end of a member ---- */

/* The end hook. After unlocking the group may be gone: destroyed by who joined this member. */
static void member_ended(struct weft__end_hook *hook, struct weft__task *t)
{
    struct weft__member *m = WEFT__CONTAINER_OF(hook, struct weft__member, hook);
    struct weft__members *g = m->group;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    bool is_last = false;
    (void)t;
    weft__lock_acquire(&g->lock);
    if (m->state == WEFT__MEMBER_SPAWNING) {
        m->has_ended = true; /* its spawner goes on from here */
    } else {
        weft__list_remove(&m->node);
        if (m->state == WEFT__MEMBER_RUNNING) {
            done_locked(g, m, &wakes);
        } else {
            weft__list_push_front(&g->free, &m->node);
            tell_locked(g, &wakes);
        }
        is_last = --g->refs == 0;
    }
    weft__lock_release(&g->lock);
    weft__wake_list_flush(&wakes);
    if (is_last)
        group_free(g);
}

/* ---- spawning ---- */

struct weft__member *weft__member_create(struct weft__members *g)
{
    weft__lock_acquire(&g->lock);
    struct weft__node *n = weft__list_pop_front(&g->free);
    weft__lock_release(&g->lock);
    struct weft__member *m = n ? member_of(n) : weft__malloc(g->member_bytes);
    if (m == NULL)
        return NULL;
    m->hook.fn = member_ended;
    weft__list_init(&m->node);
    m->group = g;
    m->task = NULL;
    m->core = NULL;
    m->state = WEFT__MEMBER_SPAWNING;
    m->has_ended = m->has_failed = false;
    return m;
}

void weft__member_put(struct weft__member *m)
{
    struct weft__members *g = m->group;
    weft__lock_acquire(&g->lock);
    weft__list_push_front(&g->free, &m->node);
    weft__lock_release(&g->lock);
}

int weft__member_find_core(const char *call, enum weft_member_kind kind,
                           const weft_spawn_options *o, weft_task_fn fn, const void *arg,
                           const weft_site *site, struct weft__core **ret)
{
    bool has_body = fn != NULL;
    if (kind == WEFT_MEMBER_FUTURE) {
        if (weft__spawn_check_future(call, o, site) < 0)
            return -EINVAL;
        const weft_future *f = arg;
        has_body = f && f->ops && f->ops->poll && f->ops->cancel;
    }
    return kind == WEFT_MEMBER_LOCAL ? weft__spawn_local_core(call, o, has_body, arg, site, ret)
                                     : weft__spawn_core(call, o, has_body, arg, site, ret);
}

enum weft__task_kind weft__member_task_kind(enum weft_member_kind kind)
{
    switch (kind) {
    case WEFT_MEMBER_BLOCKING:
        return WEFT__TASK_BLOCKING;
    case WEFT_MEMBER_FUTURE:
        return WEFT__TASK_FUTURE;
    case WEFT_MEMBER_TASK:
    case WEFT_MEMBER_LOCAL:
        break;
    }
    return WEFT__TASK_FIBER;
}

/* After the spawn: the member is known by its task, which may have ended since. Whoever spawns it
 * is a member, or the owner, so the group is there. */
static void settle(struct weft__member *m, weft_task *task, struct weft__core *core)
{
    struct weft__members *g = m->group;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&g->lock);
    m->task = task;
    m->core = core;
    g->len++;
    if (m->has_ended) {
        done_locked(g, m, &wakes);
    } else {
        g->refs++;
        m->state = WEFT__MEMBER_RUNNING;
        weft__list_push_back(&g->running, &m->node);
        if (g->enders > 0 || g->is_ownerless)
            weft__wake_list_abort(&wakes, weft__task_address(task));
        if (g->enders > 0 && core->home != 0) {
            g->born++; /* maybe nobody drives it: who waits for all looks */
            tell_locked(g, &wakes);
        }
    }
    bool must_detach = g->is_ownerless;
    if (must_detach)
        (void)give_up_locked(g, m, false, &wakes);
    weft__lock_release(&g->lock);
    weft__wake_list_flush(&wakes);
    if (must_detach)
        weft_task_detach(task);
}

int weft__member_spawn(struct weft__member *m, struct weft__core *core, enum weft_member_kind kind,
                       const weft_spawn_options *o, weft_task_fn fn, void *arg,
                       weft_abort_handle **ret_abort, const weft_site *site)
{
    weft_task *task;
    int rc = weft__task_spawn_hooked(core, weft__member_task_kind(kind), o, fn, arg, &task, site,
                                     &m->hook);
    if (rc < 0)
        return rc;
    if (ret_abort)
        *ret_abort = weft_task_abort_handle(task);
    settle(m, task, core);
    return 0;
}

/* ---- taking ---- */

/* NULL, and *ret_rc: -EPERM. */
static bool refuses_take(const struct weft__members *g, int *ret_rc)
{
    if (!weft__members_are_inherited(g, "join_next", NULL))
        return false;
    *ret_rc = -EPERM;
    return true;
}

struct weft__member *weft__members_try_take(struct weft__members *g, int *ret_rc)
{
    if (refuses_take(g, ret_rc))
        return NULL;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&g->lock);
    struct weft__member *m = take_locked(g, &wakes);
    if (m == NULL)
        *ret_rc = g->len == 0 ? -ENOENT : -EAGAIN;
    weft__lock_release(&g->lock);
    weft__wake_list_flush(&wakes);
    return m;
}

struct weft__member *weft__members_poll_take(struct weft__members *g, struct weft__waiter *w,
                                             weft_waker *waker, int *ret_rc)
{
    if (refuses_take(g, ret_rc))
        return NULL;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&g->lock);
    struct weft__member *m = take_locked(g, &wakes);
    if (m == NULL && g->len > 0) {
        weft__waitq_wait(&g->next, w, waker);
        *ret_rc = WEFT_PENDING;
    } else {
        (void)weft__waitq_leave(&g->next, w); /* false: that woke us */
        *ret_rc = -ENOENT;
    }
    weft__lock_release(&g->lock);
    weft__wake_list_flush(&wakes);
    return m;
}

void weft__members_leave(struct weft__members *g, struct weft__waiter *w)
{
    if (weft__members_are_ancestors(g))
        return; /* nobody goes through the queue */
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&g->lock);
    /* Woken, and leaves: another one is to look in its place. */
    if (!weft__waitq_leave(&g->next, w))
        next_locked(g, &wakes);
    weft__lock_release(&g->lock);
    weft__wake_list_flush(&wakes);
}

long weft__members_take_all(struct weft__members *g, size_t max, struct weft__node *ret_all)
{
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__list_init(ret_all);
    weft__lock_acquire(&g->lock);
    long rc = (long)g->len;
    if (g->failed > 0)
        rc = -ECHILD;
    else if (!weft__list_is_empty(&g->running))
        rc = -EAGAIN;
    else if (g->len > max)
        rc = -ENOSPC;
    if (rc > 0) {
        weft__list_splice_back(ret_all, &g->done);
        g->len = 0;
        weft__waitq_end_all(&g->next, WEFT__WAITER_ENDED, &wakes);
    }
    weft__lock_release(&g->lock);
    weft__wake_list_flush(&wakes);
    return rc;
}

struct weft__member *weft__members_take_failed(struct weft__members *g)
{
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    struct weft__member *failed = NULL;
    weft__lock_acquire(&g->lock);
    for (struct weft__node *n = g->done.next; failed == NULL && n != &g->done; n = n->next)
        if (member_of(n)->has_failed)
            failed = member_of(n);
    if (failed) {
        weft__list_remove(&failed->node);
        uncount_locked(g, failed, &wakes);
    }
    weft__lock_release(&g->lock);
    weft__wake_list_flush(&wakes);
    return failed;
}

/* ---- giving up ---- */

void weft__members_abort_all(struct weft__members *g)
{
    if (weft__members_are_ancestors(g))
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&g->lock);
    for (struct weft__node *n = g->running.next; n != &g->running; n = n->next)
        weft__wake_list_abort(&wakes, weft__task_address(member_of(n)->task));
    weft__lock_release(&g->lock);
    weft__wake_list_flush(&wakes);
}

void weft__member_give_up(struct weft__member *m, bool is_awaited)
{
    struct weft__members *g = m->group;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft_task *task = NULL;
    weft__lock_acquire(&g->lock);
    /* Destroying has let go of those whose end the caller cannot wait for. */
    if (m->state == WEFT__MEMBER_RUNNING || m->state == WEFT__MEMBER_DONE)
        task = give_up_locked(g, m, is_awaited, &wakes);
    weft__lock_release(&g->lock);
    weft__wake_list_flush(&wakes);
    weft_task_detach(task);
}

static void detach(struct weft__members *g, bool only_done)
{
    for (;;) {
        struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
        weft_task *task = NULL;
        weft__lock_acquire(&g->lock);
        struct weft__node *list =
            only_done || weft__list_is_empty(&g->running) ? &g->done : &g->running;
        if (!weft__list_is_empty(list))
            task = give_up_locked(g, member_of(list->next), false, &wakes);
        weft__lock_release(&g->lock);
        weft__wake_list_flush(&wakes);
        if (task == NULL)
            return;
        weft_task_detach(task);
    }
}

void weft__members_detach_all(struct weft__members *g)
{
    if (weft__members_are_ancestors(g))
        return;
    detach(g, false);
}

/* ---- waiting for the end ---- */

static int end_poll(weft_future *f, weft_waker *waker)
{
    struct end_wait *w = WEFT__CONTAINER_OF(f, struct end_wait, future);
    struct weft__members *g = w->group;
    weft__lock_acquire(&g->lock);
    bool is_over = is_wait_over_locked(w);
    if (is_over)
        (void)weft__waitq_leave(&g->ended, &w->waiter); /* false: that woke us */
    else
        weft__waitq_wait(&g->ended, &w->waiter, waker);
    weft__lock_release(&g->lock);
    return is_over ? 0 : WEFT_PENDING;
}

static void end_cancel(weft_future *f)
{
    struct end_wait *w = WEFT__CONTAINER_OF(f, struct end_wait, future);
    weft__lock_acquire(&w->group->lock);
    (void)weft__waitq_leave(&w->group->ended, &w->waiter); /* all who wait are woken anyway */
    weft__lock_release(&w->group->lock);
}

static const weft_future_ops end_ops = {end_poll, end_cancel, "members of a set"};

int weft__members_wait(struct weft__members *g, bool or_failed)
{
    struct end_wait w = {.future = {&end_ops}, .group = g, .or_failed = or_failed};
    return weft__wait_for(&w.future);
}

static bool is_over(struct weft__members *g)
{
    weft__lock_acquire(&g->lock);
    bool is_over = is_over_locked(g, false);
    weft__lock_release(&g->lock);
    return is_over;
}

bool weft__can_wait_for_ends(void)
{
    const struct weft__task *t = weft__wait_task();
    return t && t->kind != WEFT__TASK_FUTURE &&
           (t->kind != WEFT__TASK_THREAD || t->locals->drive) && t->locals->no_wait_depth == 0 &&
           !weft__core_is_ancestral(t->core);
}

bool weft__can_wait_for_end_of(const weft_task *task, const struct weft__core *core)
{
    const struct weft__task *self = weft__wait_task();
    const struct weft__task *t = weft__task_address(task);
    if (self == NULL || t == self || weft__task_stands_here(t) || weft__core_is_ancestral(core))
        return false;
    if (core->home == 0 || self->core == core)
        return true;
    for (const struct weft__drive *d = self->locals->drive; d; d = d->outer)
        if (d->core == core)
            return true;
    return false;
}

/* Gives those up whose end is not to be waited for. There may be many of either kind, so each of
 * those that run is looked at once: one that stays goes behind the others. Returns g->born before
 * the first look. */
static size_t let_go(struct weft__members *g)
{
    weft__lock_acquire(&g->lock);
    size_t born = g->born;
    for (size_t looks = g->len; looks > 0 && !weft__list_is_empty(&g->running); looks--) {
        struct weft__member *m = member_of(g->running.next);
        if (weft__can_wait_for_end_of(m->task, m->core)) {
            weft__list_remove(&m->node);
            weft__list_push_back(&g->running, &m->node);
            continue;
        }
        struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
        weft_task *task = give_up_locked(g, m, false, &wakes);
        weft__lock_release(&g->lock);
        weft__wake_list_flush(&wakes);
        weft_task_detach(task);
        weft__lock_acquire(&g->lock);
    }
    for (struct weft__node *n = g->awaited.next, *next; n != &g->awaited; n = next) {
        next = n->next;
        /* The handle was given up, but still tells which task it was. */
        if (weft__can_wait_for_end_of(member_of(n)->task, member_of(n)->core))
            continue;
        weft__list_remove(n);
        member_of(n)->state = WEFT__MEMBER_DETACHED;
    }
    weft__lock_release(&g->lock);
    return born;
}

/* From here to there all members are being ended: who spawns one aborts it. */
static void begin_to_end(struct weft__members *g)
{
    weft__lock_acquire(&g->lock);
    g->enders++;
    weft__lock_release(&g->lock);
    weft__members_abort_all(g);
}

static void stop_ending(void *group)
{
    struct weft__members *g = group;
    weft__lock_acquire(&g->lock);
    g->enders--;
    weft__lock_release(&g->lock);
}

bool weft__members_abort_and_wait(struct weft__members *g)
{
    begin_to_end(g);
    WEFT_DEFER(stop_ending, g);
    if (is_over(g))
        return true;
    if (!weft__can_wait_for_ends())
        return false;
    WEFT_SHIELD
        do {
            struct end_wait w = {.future = {&end_ops}, .group = g, .or_born = true};
            w.born = let_go(g);
            (void)weft__wait_for(&w.future); /* unwound in a boundary of ours: look again */
        } while (!is_over(g));
    return true;
}

static bool list_has_caller(const struct weft__node *list)
{
    const struct weft__task *self = weft__task_current();
    for (const struct weft__node *n = list->next; n != list; n = n->next) {
        const struct weft__task *t =
            weft__task_address(WEFT__CONTAINER_OF(n, const struct weft__member, node)->task);
        if (t == self || weft__task_stands_here(t))
            return true;
    }
    return false;
}

bool weft__members_has_caller(struct weft__members *g)
{
    weft__lock_acquire(&g->lock);
    /* Those whose key was used again as well: their end is waited for. */
    bool has_caller = list_has_caller(&g->running) || list_has_caller(&g->awaited);
    weft__lock_release(&g->lock);
    return has_caller;
}

int weft__members_wait_for_ends(struct weft__members *g, const char *call, const void *caller)
{
    int rc = weft__wait_begin(call, caller);
    if (rc == 0 && weft__members_has_caller(g))
        rc = weft__misuse(call, -EDEADLK,
                          "the caller, which the abort does not end, is one of them", caller);
    return rc < 0 ? rc : weft__members_wait(g, false);
}

int weft__members_shutdown(struct weft__members *g, const char *call, const void *caller)
{
    if (weft__members_are_inherited(g, call, caller))
        return -EPERM;
    begin_to_end(g);
    WEFT_DEFER(stop_ending, g);
    int rc = weft__members_wait_for_ends(g, call, caller);
    while (rc == 0) {
        detach(g, true);
        if (weft__members_len(g) == 0)
            break;
        rc = weft__members_wait(g, false);
    }
    return rc;
}

void weft__members_release(struct weft__members *g)
{
    weft__lock_acquire(&g->lock);
    g->is_ownerless = true;
    weft__lock_release(&g->lock);
    /* Those that members have spawned since the owner looked. */
    weft__members_abort_all(g);
    weft__members_detach_all(g);
    weft__lock_acquire(&g->lock);
    bool is_last = --g->refs == 0;
    weft__lock_release(&g->lock);
    if (is_last)
        group_free(g);
}

void weft__members_destroy(struct weft__members *g, void (*finish)(void *group))
{
    if (weft__members_are_ancestors(g))
        return; /* the copy stays as it is */
    /* When shutdown unwinds the caller while it waits, the rest is done by its cleanups, which may
     * wait. */
    weft_cleanup rest = {NULL, finish, g};
    weft__cleanup_enter(&rest);
    (void)weft__members_abort_and_wait(g); /* finish() looks again */
    weft__locals_now()->cleanups = rest.below;
    finish(g);
}

void weft__member_raise(const char *call, weft_outcome *o)
{
    weft_panic_info *info = o->panic;
    o->panic = NULL;
    if (info)
        weft_panic_resume(info);
    weft_panic("%s: task %llu was cancelled", call, (unsigned long long)o->task_id);
}
