/*
 * One word: the count, whether somebody waits (WAITING), and how often the count came to zero (in
 * ROUNDs). It is changed by compare-exchanges alone, but for a WAITING that is taken back. WAITING
 * is set, under the lock, by an exchange on a count that is not zero; the last done that finds it
 * makes the count zero under the lock, and ends the waits there.
 *
 * Who finds a count of zero may free the group, while the last done still holds the lock: so it
 * waits for the lock to be let go (weft__lock_settle()).
 */
#include "task/waitq.h"

#include <weft/wait_group.h>

#include <errno.h>

#define WAITING UINT64_C(1)
#define ONE UINT64_C(2)
#define COUNT_MAX (UINT64_C(1) << 32)
#define ROUND (UINT64_C(1) << 34) /* 30 bits, which wrap round */
#define LOW (ROUND - 1)           /* the count, and WAITING */

struct group {
    weft__a64 word; /* rounds times ROUND, count times ONE, WAITING */
    struct weft__lock lock;
    struct weft__waitq waiters; /* under the lock */
};
_Static_assert(sizeof(struct group) <= sizeof(weft_wait_group), "weft_wait_group is too small");

struct wait {
    weft_future future;
    struct group *group;
    struct weft__waiter waiter;
};
_Static_assert(sizeof(struct wait) <= sizeof(weft_wait_group_wait_future),
               "weft_wait_group_wait_future is too small");

static inline struct group *group_of(const weft_wait_group *wg)
{
    return (struct group *)(uintptr_t)wg;
}

/* ---- counting ---- */

void weft_wait_group_init(weft_wait_group *wg)
{
    *wg = (weft_wait_group)WEFT_WAIT_GROUP_INIT;
}

int weft_wait_group_add(weft_wait_group *wg, size_t n)
{
    struct group *g = group_of(wg);
    uint64_t word = weft__a64_load_relaxed(&g->word);
    do {
        if (n > COUNT_MAX || (word & LOW) / ONE + n > COUNT_MAX)
            return weft__misuse("weft_wait_group_add", -EINVAL, "the count would pass 2^32",
                                WEFT__CALLER);
        /* relaxed: nothing is published by it; it is part of the release sequence of the dones */
    } while (!weft__a64_cas_weak_relaxed(&g->word, &word, word + n * ONE));
    return 0;
}

/* The last one, while somebody waits. False: that has changed. */
static WEFT__NOINLINE bool finish(struct group *g, uint64_t last)
{
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&g->lock);
    /* acq_rel: the waiters see what all dones published, through us. mutation to acquire: to those
     * who wait, the claim of their tasks passes it on as well. */
    bool is_last = weft__a64_cas_acq_rel(&g->word, &last, (last & ~LOW) + ROUND);
    if (is_last)
        weft__waitq_end_all(&g->waiters, WEFT__WAITER_ENDED, &woken);
    weft__lock_release(&g->lock);
    weft__wake_list_flush(&woken);
    return is_last;
}

void weft_wait_group_done(weft_wait_group *wg)
{
    struct group *g = group_of(wg);
    uint64_t word = weft__a64_load_relaxed(&g->word);
    for (;;) {
        if ((word & LOW) == (ONE | WAITING)) {
            if (finish(g, word))
                return;
            word = weft__a64_load_relaxed(&g->word);
        } else if ((word & LOW) < ONE) {
            (void)weft__misuse("weft_wait_group_done", -EPERM, "more are done than were added",
                               WEFT__CALLER);
            return;
            /* release pairs with the acquire in look, and in finish */
        } else if (weft__a64_cas_weak_release(&g->word, &word,
                                              word - ONE + ((word & LOW) == ONE ? ROUND : 0))) {
            return;
        }
    }
}

size_t weft_wait_group_count(const weft_wait_group *wg)
{
    uint64_t word = weft__a64_load_relaxed(&group_of(wg)->word); /* nothing follows from it */
    return (size_t)((word & LOW) / ONE);
}

/* ---- waiting ---- */

static inline bool is_zero_in(uint64_t word)
{
    return (word & LOW) < ONE;
}

/* The word: whether the count is zero, and what round it is. */
static inline uint64_t look(struct group *g)
{
    /* acquire pairs with the release in weft_wait_group_done, of all of them */
    return weft__a64_load_acquire(&g->word);
}

/* The count was zero in `before`, or has been since. */
static bool was_zero(struct group *g, uint64_t before)
{
    uint64_t word = look(g);
    if (!is_zero_in(before) && !is_zero_in(word) && ((word ^ before) & ~LOW) == 0)
        return false;
    weft__lock_settle(&g->lock);
    return true;
}

/* Under the lock. False: the count is zero. */
static bool announce(struct group *g)
{
    uint64_t word = look(g);
    while (!is_zero_in(word) && !(word & WAITING)) {
        /* relaxed: who finds the bit looks at the queue under the lock; acquire for a failure that
         * finds zero */
        if (weft__a64_cas_weak_acq_rel(&g->word, &word, word | WAITING))
            return true;
    }
    return !is_zero_in(word);
}

static int wait_poll(weft_future *f, weft_waker *waker)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    struct group *g = w->group;
    if (weft__waiter_result(&w->waiter))
        return 0;
    weft__lock_acquire(&g->lock);
    bool must_wait = (!weft__waiter_is_idle(&w->waiter) || announce(g)) &&
                     weft__waiter_must_wait(&g->waiters, &w->waiter, waker);
    weft__lock_release(&g->lock);
    return must_wait ? WEFT_PENDING : 0;
}

static void wait_cancel(weft_future *f)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    struct group *g = w->group;
    weft__lock_acquire(&g->lock);
    if (weft__waitq_leave(&g->waiters, &w->waiter) && weft__waitq_is_empty(&g->waiters))
        weft__a64_and_relaxed(&g->word, ~WAITING); /* says nothing about others */
    weft__lock_release(&g->lock);
}

static const weft_future_ops wait_ops = {wait_poll, wait_cancel, "wait group"};

void weft_wait_group_wait_future_init(weft_wait_group_wait_future *f, weft_wait_group *wg)
{
    struct wait *w = (struct wait *)f;
    w->future.ops = &wait_ops;
    w->group = group_of(wg);
    weft__waiter_init(&w->waiter);
}

int weft_wait_group_wait(weft_wait_group *wg)
{
    struct group *g = group_of(wg);
    /* Before begin, where a task without budget lets others run: it waits as well. */
    uint64_t before = look(g);
    int rc = weft__wait_begin("weft_wait_group_wait", WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (was_zero(g, before))
        return 0;
    weft_wait_group_wait_future f;
    weft_wait_group_wait_future_init(&f, wg);
    return weft__wait_for(&f.future);
}

int weft_wait_group_try_wait(weft_wait_group *wg)
{
    struct group *g = group_of(wg);
    return was_zero(g, look(g)) ? 0 : -EAGAIN;
}

int weft_wait_group_blocking_wait(weft_wait_group *wg)
{
    weft_wait_group_wait_future f;
    weft_wait_group_wait_future_init(&f, wg);
    return weft__wait_blocking("weft_wait_group_blocking_wait", &f.future, WEFT__CALLER);
}

static int start_wait(weft_case *c)
{
    weft_wait_group_wait_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_wait_group_wait(weft_wait_group *wg)
{
    return weft_case_make(start_wait, wg, NULL);
}
