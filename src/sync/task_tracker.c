/*
 * Task trackers.
 *
 * One word has the bit "closed", the count, and the references; what is counted is a reference too,
 * so a task begins and ends with one read-modify-write each. Who waits has one as well. Only the
 * change to "closed, and the count is 0" is made under the lock, together with ending the waits: so
 * exactly those are ended that waited when it happened, and later ones see what holds then.
 *
 * All tasks share the tracker's end hook (task.h). They are detached from the start, or their
 * spawner counts as well until they are, so a result is dropped before the count falls.
 */
#include <weft/task_tracker.h>

#include "sync/members.h"
#include "task/spawn.h"
#include "task/waitq.h"

#include <weft/panic.h>

#include <errno.h>

#define CLOSED UINT64_C(1)
#define ONE UINT64_C(2) /* 31 bits of count */
#define COUNT_MASK ((UINT64_C(1) << 32) - ONE)
/* Of the count, the upper half: who finds it set goes back, long before it runs over. */
#define COUNT_FULL (UINT64_C(1) << 31)
#define REF (UINT64_C(1) << 32)
#define REFS_MASK (~(REF - 1))

struct weft_task_tracker {
    struct weft__end_hook hook;
    struct weft__lock lock;
    /* written by all; CLOSED is set and cleared under the lock, and so is the count brought to 0
     * while it is set */
    weft__a64 word;
    struct weft__waitq waiters; /* under lock */
    uint32_t overs;             /* under lock: how often it came to be closed with a count of 0 */
    uint32_t process;           /* that made it, as weft__sys_process() */
};

static bool is_over(uint64_t word)
{
    return (word & (CLOSED | COUNT_MASK)) == CLOSED;
}

/* Under the lock: it is closed, and the count is 0. */
static void over_locked(weft_task_tracker *t, struct weft__wake_list *wakes)
{
    t->overs++;
    weft__waitq_end_all(&t->waiters, WEFT__WAITER_ENDED, wakes);
}

/* ---- counting ---- */

static void unref(weft_task_tracker *t)
{
    /* acq_rel: the last one sees what all the others did */
    if ((weft__a64_sub_acq_rel(&t->word, REF) & REFS_MASK) == REF)
        weft__free(t);
}

/* It may be the last one of a closed tracker. */
static void leave_slowly(weft_task_tracker *t)
{
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&t->lock);
    /* acquire: of those who left before, as in close. release pairs with the acquire in len */
    uint64_t word = weft__a64_sub_acq_rel(&t->word, ONE) - ONE;
    if (is_over(word))
        over_locked(t, &wakes);
    weft__lock_release(&t->lock);
    weft__wake_list_flush(&wakes);
    unref(t); /* only now: who waited may give its reference up */
}

static void leave(weft_task_tracker *t)
{
    uint64_t word = weft__a64_load_relaxed(&t->word), next;
    do {
        next = word - ONE - REF;
        if (is_over(next)) {
            leave_slowly(t);
            return;
        }
        /* release pairs with the acquire of the last who leaves, of close, and of len; acquire: the
         * last reference sees what the others did */
    } while (!weft__a64_cas_weak_acq_rel(&t->word, &word, next));
    if ((next & REFS_MASK) == 0)
        weft__free(t);
}

/* False when it is full, and nothing has changed. */
static bool enter(weft_task_tracker *t)
{
    /* relaxed: the caller's own reference keeps it */
    uint64_t before = weft__a64_add_relaxed(&t->word, ONE + REF);
    if (WEFT__LIKELY(!(before & COUNT_FULL)))
        return true;
    leave(t);
    return false;
}

/* The end hook. t may be gone. */
static void task_ended(struct weft__end_hook *hook, struct weft__task *t)
{
    (void)t;
    leave(WEFT__CONTAINER_OF(hook, struct weft_task_tracker, hook));
}

/* ---- the tracker ---- */

int weft_task_tracker_create(weft_task_tracker **ret_tracker)
{
    if (ret_tracker == NULL)
        return weft__misuse("weft_task_tracker_create", -EINVAL, "ret_tracker is NULL",
                            WEFT__CALLER);
    weft_task_tracker *t = weft__calloc(1, sizeof *t);
    if (t == NULL)
        return -ENOMEM;
    t->hook.fn = task_ended;
    weft__lock_init(&t->lock);
    t->process = weft__sys_process();
    weft__a64_store_relaxed(&t->word, REF); /* nobody else knows it yet */
    *ret_tracker = t;
    return 0;
}

static int null_tracker(const char *call, const void *caller)
{
    return weft__misuse(call, -EINVAL, "the tracker is NULL", caller);
}

weft_task_tracker *weft_task_tracker_ref(weft_task_tracker *t)
{
    if (weft__is_null("weft_task_tracker_ref", t, WEFT__CALLER))
        return NULL;
    weft__a64_add_relaxed(&t->word, REF); /* the caller's own keeps it */
    return t;
}

void weft_task_tracker_unref(weft_task_tracker *t)
{
    if (t)
        unref(t);
}

void weft_task_tracker_acquire(weft_task_tracker *t)
{
    if (!weft__is_null("weft_task_tracker_acquire", t, WEFT__CALLER) && !enter(t))
        (void)weft__misuse("weft_task_tracker_acquire", -EOVERFLOW,
                           "2^30 are counted; this one is not", WEFT__CALLER);
}

void weft_task_tracker_release(weft_task_tracker *t)
{
    if (weft__is_null("weft_task_tracker_release", t, WEFT__CALLER) ||
        weft__is_inherited("weft_task_tracker_release", t->process, WEFT__CALLER))
        return;
    if (weft_task_tracker_len(t) == 0)
        (void)weft__misuse("weft_task_tracker_release", -EPERM, "nothing was acquired",
                           WEFT__CALLER);
    else
        leave(t);
}

size_t weft_task_tracker_len(const weft_task_tracker *t)
{
    if (weft__is_null("weft_task_tracker_len", t, WEFT__CALLER))
        return 0;
    /* acquire pairs with the release in leave: 0 says that what they did is done */
    return (size_t)((weft__a64_load_acquire(&t->word) & COUNT_MASK) / ONE);
}

bool weft_task_tracker_close(weft_task_tracker *t)
{
    if (weft__is_null("weft_task_tracker_close", t, WEFT__CALLER) ||
        weft__is_inherited("weft_task_tracker_close", t->process, WEFT__CALLER))
        return false;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&t->lock);
    /* acquire pairs with the release of those who left before: who waits sees, through the lock,
     * what they did */
    uint64_t before = weft__a64_or_acquire(&t->word, CLOSED);
    if (is_over(before | CLOSED))
        over_locked(t, &wakes);
    weft__lock_release(&t->lock);
    weft__wake_list_flush(&wakes);
    return !(before & CLOSED);
}

bool weft_task_tracker_reopen(weft_task_tracker *t)
{
    if (weft__is_null("weft_task_tracker_reopen", t, WEFT__CALLER) ||
        weft__is_inherited("weft_task_tracker_reopen", t->process, WEFT__CALLER))
        return false;
    weft__lock_acquire(&t->lock);
    /* relaxed: it tells nobody of anything else */
    uint64_t before = weft__a64_and_relaxed(&t->word, ~CLOSED);
    weft__lock_release(&t->lock);
    return before & CLOSED;
}

bool weft_task_tracker_is_closed(const weft_task_tracker *t)
{
    if (weft__is_null("weft_task_tracker_is_closed", t, WEFT__CALLER))
        return true;
    return weft__a64_load_relaxed(&t->word) & CLOSED; /* nothing follows from it */
}

/* ---- spawning ---- */

int weft__task_tracker_spawn_at(weft_task_tracker *t, enum weft_member_kind kind,
                                const weft_spawn_options *options, weft_task_fn fn, void *arg,
                                weft_abort_handle **ret_abort, const weft_site *site)
{
    if (t == NULL)
        return weft__misuse_at("weft_task_tracker_spawn", -EINVAL, "the tracker is NULL", site);
    struct weft__core *core;
    if (weft__is_inherited("weft_task_tracker_spawn", t->process, NULL))
        return -EPERM;
    int rc = weft__member_find_core("weft_task_tracker_spawn", kind, options, fn, arg, site, &core);
    if (rc < 0)
        return rc;
    if (!enter(t))
        return weft__misuse_at("weft_task_tracker_spawn", -EOVERFLOW, "2^30 are counted", site);
    if (ret_abort == NULL) {
        rc = weft__task_spawn_hooked(core, weft__member_task_kind(kind), options, fn, arg, NULL,
                                     site, &t->hook);
    } else {
        /* There is a handle for a moment. A result that comes in it is left to us to drop, and who
         * waits has to wait for that too. */
        weft_task *task;
        weft__a64_add_relaxed(&t->word, ONE + REF); /* one above the limit at most */
        rc = weft__task_spawn_hooked(core, weft__member_task_kind(kind), options, fn, arg, &task,
                                     site, &t->hook);
        if (rc == 0) {
            *ret_abort = weft_task_abort_handle(task);
            weft_task_detach(task);
        }
        leave(t);
    }
    if (rc < 0)
        leave(t);
    return weft__spawn_result(rc);
}

/* ---- waiting ---- */

struct wait {
    weft_future future;
    weft_task_tracker *tracker;
    struct weft__waiter waiter;
    /* It began before the first poll, when the tracker had been over so often; one less when it was
     * over. */
    bool has_begun;
    uint32_t overs;
};
_Static_assert(sizeof(struct wait) <= sizeof(weft_task_tracker_wait_future),
               "weft_task_tracker_wait_future.opaque is too small");

/* Under the lock, by one who is not queued. */
static bool is_over_locked(const struct wait *w)
{
    const weft_task_tracker *t = w->tracker;
    /* relaxed: whoever closed it, or left as the last one, has had the lock */
    return is_over(weft__a64_load_relaxed(&t->word)) || (w->has_begun && t->overs != w->overs);
}

/* As long as it waits it has a reference: for the lock that it leaves, or wakes up, by. */
static int wait_poll(weft_future *f, weft_waker *waker)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    weft_task_tracker *t = w->tracker;
    if (weft__waiter_result(&w->waiter)) {
        unref(t);
        return 0;
    }
    if (weft__is_inherited("weft_task_tracker_wait", t->process, NULL))
        return -EPERM;
    weft__lock_acquire(&t->lock);
    bool is_new = weft__waiter_is_idle(&w->waiter);
    bool must_wait =
        !(is_new && is_over_locked(w)) && weft__waiter_must_wait(&t->waiters, &w->waiter, waker);
    if (must_wait && is_new)
        (void)weft_task_tracker_ref(t);
    weft__lock_release(&t->lock);
    if (!must_wait && !is_new)
        unref(t);
    return must_wait ? WEFT_PENDING : 0;
}

static void wait_cancel(weft_future *f)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    weft_task_tracker *t = w->tracker;
    if (weft__waiter_is_idle(&w->waiter))
        return; /* never polled, or cancelled before: it has no reference */
    if (weft__sys_is_ancestor(t->process))
        return; /* nobody goes through the queue */
    weft__lock_acquire(&t->lock);
    (void)weft__waitq_leave(&t->waiters, &w->waiter); /* all are ended together */
    weft__waiter_init(&w->waiter);
    weft__lock_release(&t->lock);
    unref(t);
}

static const weft_future_ops wait_ops = {wait_poll, wait_cancel, "task_tracker"};

static void wait_init(struct wait *w, weft_task_tracker *t)
{
    w->future.ops = &wait_ops;
    w->tracker = t;
    w->has_begun = false;
    weft__waiter_init(&w->waiter);
}

/* Before a task without budget lets others run: it waits as well. */
static void begin(struct wait *w, weft_task_tracker *t)
{
    wait_init(w, t);
    if (weft__sys_is_ancestor(t->process))
        return; /* said by the poll */
    weft__lock_acquire(&t->lock);
    w->overs = t->overs - is_over_locked(w);
    w->has_begun = true;
    weft__lock_release(&t->lock);
}

static void give_up(void *t)
{
    unref(t);
}

void weft_task_tracker_wait_future_init(weft_task_tracker_wait_future *f, weft_task_tracker *t)
{
    wait_init((struct wait *)(void *)f, t);
    if (t == NULL) {
        (void)null_tracker("weft_task_tracker_wait_future_init",
                           WEFT__CALLER); /* said by the poll */
        f->future.ops = &weft__future_invalid;
    }
}

int weft_task_tracker_wait(weft_task_tracker *t)
{
    if (t == NULL)
        return null_tracker("weft_task_tracker_wait", WEFT__CALLER);
    /* Whoever runs before the first poll may give up the caller's reference. */
    WEFT_DEFER(give_up, weft_task_tracker_ref(t));
    struct wait w;
    begin(&w, t);
    int rc = weft__wait_begin("weft_task_tracker_wait", WEFT__CALLER);
    return rc < 0 ? rc : weft__wait_for(&w.future);
}

int weft_task_tracker_blocking_wait(weft_task_tracker *t)
{
    if (t == NULL)
        return null_tracker("weft_task_tracker_blocking_wait", WEFT__CALLER);
    struct wait w;
    wait_init(&w, t);
    return weft__wait_blocking("weft_task_tracker_blocking_wait", &w.future, WEFT__CALLER);
}

static int start_wait(weft_case *c)
{
    weft_task_tracker_wait_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_task_tracker_wait(weft_task_tracker *t)
{
    return weft_case_make(start_wait, t, NULL);
}
