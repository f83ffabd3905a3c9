/*
 * One word: whether a notification is remembered, whether somebody waits, and how often all were
 * notified.
 *
 *   EMPTY      nothing
 *   NOTIFIED   one is remembered; the queue is empty
 *   WAITING    the queue is not empty, whoever holds the lock apart
 *
 * EMPTY and NOTIFIED are exchanged by anybody. WAITING is set from EMPTY by an exchange, under the
 * lock, so a notification in between has made that fail; with WAITING the state belongs to the
 * holder of the lock. The count of calls is raised under the lock, always by a read-modify-write.
 *
 * Source: the states and the counter are those of Tokio's sync::Notify.
 */
#include "task/waitq.h"

#include <weft/notify.h>

#include <errno.h>

#define EMPTY UINT64_C(0)
#define WAITING UINT64_C(1)
#define NOTIFIED UINT64_C(2)
#define STATE UINT64_C(3)
#define CALL UINT64_C(4)

/* Results of a waiter: what is to be passed on if it is abandoned. */
enum { BY_ONE = WEFT__WAITER_ENDED, BY_LAST, BY_ALL };

struct notify {
    weft__a64 word; /* calls of weft_notify_waiters() times CALL, and the state */
    struct weft__lock lock;
    struct weft__waitq waiters; /* under the lock */
};
_Static_assert(sizeof(struct notify) <= sizeof(weft_notify), "weft_notify is too small");

struct wait {
    weft_future future;
    struct notify *notify;
    uint64_t calls; /* when it was initialised */
    struct weft__waiter waiter;
};
_Static_assert(sizeof(struct wait) <= sizeof(weft_notify_wait_future),
               "weft_notify_wait_future is too small");

static inline struct notify *notify_of(const weft_notify *n)
{
    return (struct notify *)(uintptr_t)n;
}

/* ---- notifying ---- */

void weft_notify_init(weft_notify *n)
{
    *n = (weft_notify)WEFT_NOTIFY_INIT;
}

/* False: somebody waits, and is to be found under the lock. */
static bool remember(struct notify *n)
{
    uint64_t word = weft__a64_load_relaxed(&n->word);
    do {
        if ((word & STATE) == WAITING)
            return false;
        /* release pairs with the acquire of who takes it. Also when one is remembered already: who
         * takes that must see what we did before. */
    } while (!weft__a64_cas_weak_release(&n->word, &word, (word & ~STATE) | NOTIFIED));
    return true;
}

/* Under the lock, with a queue that may have become empty. */
static void leave_waiting_if_empty(struct notify *n)
{
    if (weft__waitq_is_empty(&n->waiters))
        /* relaxed: a state of EMPTY says nothing about others */
        weft__a64_and_relaxed(&n->word, ~STATE);
}

/* False: who waited has left, and the notification is to be remembered instead. That is done
 * without the lock, since who takes it may free n. */
static WEFT__NOINLINE bool notify_waiter(struct notify *n, uint32_t how)
{
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&n->lock);
    struct weft__waiter *w = how == BY_LAST ? n->waiters.last : n->waiters.first;
    if (w) {
        weft__waitq_end(&n->waiters, w, how, &woken);
        leave_waiting_if_empty(n);
    }
    weft__lock_release(&n->lock);
    weft__wake_list_flush(&woken);
    return w != NULL;
}

static inline void notify(struct notify *n, uint32_t how)
{
    while (!remember(n) && !notify_waiter(n, how)) {
        /* it changes between the two only while waiters come and go */
    }
}

void weft_notify_one(weft_notify *n)
{
    notify(notify_of(n), BY_ONE);
}

void weft_notify_last(weft_notify *n)
{
    notify(notify_of(n), BY_LAST);
}

void weft_notify_waiters(weft_notify *notify)
{
    struct notify *n = notify_of(notify);
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&n->lock);
    /* release pairs with the acquire in was_called: futures that are not in the queue yet. acquire
     * for the queue of those who announced themselves. mutation to release: the lock, which both
     * sides pass through, orders the same in a model, where its word is never read late. */
    uint64_t word = weft__a64_add_acq_rel(&n->word, CALL);
    if ((word & STATE) == WAITING) {
        weft__waitq_end_all(&n->waiters, BY_ALL, &woken);
        leave_waiting_if_empty(n);
    }
    weft__lock_release(&n->lock);
    weft__wake_list_flush(&woken);
}

/* ---- waiting ---- */

static bool take_remembered(struct notify *n)
{
    uint64_t word = weft__a64_load_relaxed(&n->word);
    do {
        if ((word & STATE) != NOTIFIED)
            return false;
        /* acquire pairs with the release in remember */
    } while (!weft__a64_cas_weak_acquire(&n->word, &word, word & ~STATE));
    return true;
}

static inline uint64_t calls_now(const struct notify *n)
{
    /* acquire: what is done after this is not done before it, so that a call which does not count
     * for us has been made before we look at anything else */
    return weft__a64_load_acquire(&n->word) & ~STATE;
}

/* By one who is not in the queue: all were notified since the calls were so many. */
static bool was_called(struct notify *n, uint64_t calls)
{
    /* acquire pairs with the release in weft_notify_waiters. mutation: a lock's word, which is
     * looked at next, is never read late in a model. */
    uint64_t word = weft__a64_load_acquire(&n->word);
    if (WEFT__LIKELY((word & ~STATE) == calls))
        return false;
    weft__lock_settle(&n->lock); /* the caller of it may still hold the lock */
    return true;
}

/* Under the lock, by one who is not in the queue: takes a notification, or says that there is a
 * queue. Returns the result, 0 without one. */
static uint32_t take_or_announce(struct wait *w)
{
    struct notify *n = w->notify;
    uint64_t word = weft__a64_load_relaxed(&n->word);
    for (;;) {
        if ((word & ~STATE) != w->calls)
            return BY_ALL; /* seen under the lock: complete */
        if ((word & STATE) == WAITING)
            return 0;
        if ((word & STATE) == NOTIFIED) {
            /* acquire as in take_remembered */
            if (weft__a64_cas_weak_acquire(&n->word, &word, word & ~STATE))
                return BY_ONE;
        } else if (weft__a64_cas_weak_relaxed(&n->word, &word, word | WAITING)) {
            /* relaxed: who finds the bit looks at the queue under the lock */
            return 0;
        }
    }
}

/* As weft__waiter_result(), after having done what can be done; with 0 w is in the queue. waker may
 * be NULL. */
static uint32_t try_or_queue(struct wait *w, weft_waker *waker)
{
    struct notify *n = w->notify;
    uint32_t result = weft__waiter_result(&w->waiter);
    if (result)
        return result;
    weft__lock_acquire(&n->lock);
    if (weft__waiter_is_idle(&w->waiter))
        result = take_or_announce(w);
    if (waker == NULL)
        waker = w->waiter.waker; /* enabled after it was polled: who waits for it stays the same */
    bool must_wait = result == 0 && weft__waiter_must_wait(&n->waiters, &w->waiter, waker);
    weft__lock_release(&n->lock);
    return result || must_wait ? result : weft__waiter_result(&w->waiter);
}

static int wait_poll(weft_future *f, weft_waker *waker)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    if (weft__waiter_is_idle(&w->waiter) &&
        (was_called(w->notify, w->calls) || take_remembered(w->notify)))
        return 0;
    return try_or_queue(w, waker) ? 0 : WEFT_PENDING;
}

static void wait_cancel(weft_future *f)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    struct notify *n = w->notify;
    weft__lock_acquire(&n->lock);
    if (weft__waitq_leave(&n->waiters, &w->waiter))
        leave_waiting_if_empty(n);
    weft__lock_release(&n->lock);
    uint32_t result = weft__waiter_result(&w->waiter);
    /* In no queue, so it is ours. A second cancel finds nothing to pass on: see the header. */
    weft__waiter_init(&w->waiter);
    if (result == BY_ONE || result == BY_LAST)
        notify(n, result);
}

static const weft_future_ops wait_ops = {wait_poll, wait_cancel, "notify"};

static void wait_init(struct wait *w, struct notify *n, uint64_t calls)
{
    w->future.ops = &wait_ops;
    w->notify = n;
    w->calls = calls;
    weft__waiter_init(&w->waiter);
}

void weft_notify_wait_future_init(weft_notify_wait_future *f, weft_notify *n)
{
    wait_init((struct wait *)f, notify_of(n), calls_now(notify_of(n)));
}

bool weft_notify_wait_future_enable(weft_notify_wait_future *f)
{
    struct wait *w = (struct wait *)f;
    uint32_t result = try_or_queue(w, NULL);
    if (result == 0)
        return false;
    /* For the poll to come, or the cancel. relaxed: the waiter is in no queue, so it is ours. */
    weft__a32_store_relaxed(&w->waiter.state, result);
    return true;
}

static WEFT__NOINLINE int wait_slow(struct notify *n, uint64_t calls)
{
    struct wait w;
    wait_init(&w, n, calls);
    return weft__wait_for(&w.future);
}

int weft_notify_wait(weft_notify *notify)
{
    struct notify *n = notify_of(notify);
    /* Before begin, where a task without budget lets others run: it waits as well. */
    uint64_t calls = calls_now(n);
    int rc = weft__wait_begin("weft_notify_wait", WEFT__CALLER);
    if (rc < 0)
        return rc;
    return was_called(n, calls) || take_remembered(n) ? 0 : weft__stay_for(wait_slow(n, calls));
}

int weft_notify_try_wait(weft_notify *n)
{
    return take_remembered(notify_of(n)) ? 0 : -EAGAIN;
}

int weft_notify_blocking_wait(weft_notify *n)
{
    int rc = weft__blocking_begin("weft_notify_blocking_wait", WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (take_remembered(notify_of(n)))
        return 0;
    weft_notify_wait_future f;
    weft_notify_wait_future_init(&f, n);
    return weft__wait_blocking("weft_notify_blocking_wait", &f.future, WEFT__CALLER);
}

static int start_wait(weft_case *c)
{
    weft_notify_wait_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_notify_wait(weft_notify *n)
{
    return weft_case_make(start_wait, n, NULL);
}
