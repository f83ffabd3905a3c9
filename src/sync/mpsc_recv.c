/*
 * The receiving side.
 *
 * Elements are taken from the receiver's batch without the lock. The lock is taken to wait, so that
 * a sender either finds the receiver in the queue or the receiver finds its element; and to hand
 * slots on, when somebody wants one.
 */
#include "sync/mpsc.h"
#include "task/await.h"
#include "task/case.h"

#include <errno.h>
#include <limits.h>

/* ---- one step ---- */

/* 0, for last calls. */
static WEFT__NOINLINE int hand_slots_on(struct weft__mpsc *ch)
{
    if (weft__mpsc_is_ancestors(ch))
        return 0;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&ch->q.lock);
    weft__mpsc_assign(ch, &wakes);
    weft__lock_release(&ch->q.lock);
    weft__wake_list_flush(&wakes);
    return 0;
}

/* Slots have become free. 0. */
static inline int tell_of_slots(struct weft__mpsc *ch)
{
    /* seq_cst, after the store in done(): see the top of mpsc.h */
    return WEFT__UNLIKELY(weft__a32_load_seq_cst(&ch->slots_wanted)) ? hand_slots_on(ch) : 0;
}

static WEFT__NOINLINE int take_any(struct weft__mpsc *ch, void *ret_elem)
{
    weft__mpsc_copy(&ch->q, ret_elem, weft__mpsc_queue_first(&ch->q), 1);
    weft__mpsc_queue_done(&ch->q, 1);
    return tell_of_slots(ch);
}

/* Takes one element, that look() has seen. 0. All calls are last ones, so that it costs no frame
 * where it is a last one itself; those of a word from a ring are none. */
static inline int take_one(struct weft__mpsc *ch, void *ret_elem)
{
    struct weft__mpsc_queue *q = &ch->q;
    if (WEFT__UNLIKELY(q->ring == NULL || q->elem_bytes != sizeof(uint64_t)))
        return take_any(ch, ret_elem);
    memcpy(ret_elem, weft__mpsc_queue_slot(q), sizeof(uint64_t));
    weft__mpsc_queue_done(q, 1);
    return tell_of_slots(ch);
}

/* Takes up to limit elements, at least one, that look() has seen. */
static inline size_t take(struct weft__mpsc *ch, char *ret_elems, size_t limit)
{
    struct weft__mpsc_queue *q = &ch->q;
    size_t taken = 0;
    do {
        size_t count;
        const char *from = weft__mpsc_queue_peek(q, limit - taken, &count);
        if (WEFT__LIKELY(q->elem_bytes)) /* else there may be no memory to point to */
            weft__mpsc_copy(q, ret_elems + taken * q->elem_bytes, from, count);
        weft__mpsc_queue_done(q, count);
        taken += count;
    } while (taken < limit && weft__mpsc_queue_look(q));
    (void)tell_of_slots(ch); /* it is always 0 */
    return taken;
}

/* After the queue was found empty: nothing more can come, for certain. */
static bool is_over(struct weft__mpsc *ch)
{
    /* A hint first: the flags are set once, under the lock. */
    if (weft__a32_load_relaxed(&ch->flags) == 0 || weft__mpsc_is_ancestors(ch))
        return false;
    weft__lock_acquire(&ch->q.lock);
    bool is_last = weft__mpsc_is_over(ch) && !weft__mpsc_queue_look(&ch->q);
    weft__lock_release(&ch->q.lock);
    return is_last;
}

/* A count; -EAGAIN; -EPIPE. */
static inline int recv_now(struct weft__mpsc *ch, void *ret_elems, size_t limit)
{
    while (WEFT__UNLIKELY(!weft__mpsc_queue_look(&ch->q))) {
        if (is_over(ch))
            return -EPIPE;
        if (ch->q.next == ch->q.batch_end)
            return -EAGAIN;
    }
    return (int)take(ch, ret_elems, limit);
}

/* ---- the wait ---- */

struct recv_wait {
    weft_future future;
    struct weft__waiter waiter;
    struct weft__mpsc *ch; /* NULL: misuse, reported when it was initialised */
    void *ret_elems;
    size_t limit;
};

_Static_assert(sizeof(struct recv_wait) <= sizeof(weft_mpsc_recv_future),
               "weft_mpsc_recv_future is too small");

static struct recv_wait *wait_of(weft_future *f)
{
    return WEFT__CONTAINER_OF(f, struct recv_wait, future);
}

/* Under the lock: true when there is something to take, or nothing can come; else w is queued. */
static bool is_ready(struct recv_wait *w, weft_waker *waker)
{
    struct weft__mpsc *ch = w->ch;
    if (weft__mpsc_queue_look(&ch->q) || weft__mpsc_is_over(ch)) {
        (void)weft__waitq_leave(&ch->receiving, &w->waiter); /* or it has been ended */
        return true;
    }
    /* Woken for an element that was taken by another call meanwhile: it waits anew. */
    if (!weft__waiter_is_queued(&w->waiter))
        weft__waiter_init(&w->waiter);
    return !weft__waiter_must_wait(&ch->receiving, &w->waiter, waker);
}

/* Usually w has not been queued yet, as in a select over channels that are ready, or a sender has
 * ended the wait: nobody else touches w then. And there is an element, unless another call has
 * taken it. */
static inline bool is_at_hand(struct recv_wait *w)
{
    return (weft__waiter_is_idle(&w->waiter) || weft__waiter_result(&w->waiter)) &&
           weft__mpsc_queue_look(&w->ch->q);
}

static int recv_poll(weft_future *f, weft_waker *waker)
{
    struct recv_wait *w = wait_of(f);
    struct weft__mpsc *ch = w->ch;
    if (WEFT__UNLIKELY(ch == NULL))
        return -EINVAL;
    if (w->limit == 0)
        return 0;
    if (!is_at_hand(w)) {
        if (weft__mpsc_is_inherited(ch, f->ops->name, NULL))
            return -EPERM;
        weft__lock_acquire(&ch->q.lock);
        bool ready = is_ready(w, waker);
        weft__lock_release(&ch->q.lock);
        if (!ready)
            return WEFT_PENDING;
    }
    /* What look() saw stays; only this receiver takes it. */
    return ch->q.next != ch->q.batch_end ? (int)take(ch, w->ret_elems, w->limit) : -EPIPE;
}

static WEFT__NOINLINE int recv_one_slowly(weft_future *f, weft_waker *waker)
{
    int rc = recv_poll(f, waker);
    return rc == 1 ? 0 : rc;
}

static int recv_one_poll(weft_future *f, weft_waker *waker)
{
    struct recv_wait *w = wait_of(f);
    if (WEFT__LIKELY(w->ch != NULL) && is_at_hand(w))
        return take_one(w->ch, w->ret_elems);
    return recv_one_slowly(f, waker);
}

static void recv_cancel(weft_future *f)
{
    struct recv_wait *w = wait_of(f);
    if (WEFT__UNLIKELY(w->ch == NULL) || weft__mpsc_is_ancestors(w->ch))
        return; /* misuse, and not polled; or nobody goes through the queue */
    weft__lock_acquire(&w->ch->q.lock);
    (void)weft__waitq_leave(&w->ch->receiving, &w->waiter); /* an element stays where it is */
    weft__lock_release(&w->ch->q.lock);
}

static const weft_future_ops recv_ops = {recv_one_poll, recv_cancel, "mpsc recv"};
static const weft_future_ops recv_many_ops = {recv_poll, recv_cancel, "mpsc recv"};

static inline int check(const char *call, const weft_mpsc_receiver *rx, const void *ret_elems,
                        size_t limit, const void *caller)
{
    if (WEFT__UNLIKELY(rx == NULL || (limit && weft__mpsc_lacks(weft__mpsc_of_rx(rx), ret_elems))))
        return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
    return 0;
}

static void wait_set(struct recv_wait *w, const weft_future_ops *ops, struct weft__mpsc *ch,
                     void *ret_elems, size_t limit)
{
    w->future.ops = ops;
    w->ch = ch;
    w->ret_elems = ret_elems;
    w->limit = limit < INT_MAX ? limit : INT_MAX;
}

static void wait_init(struct recv_wait *w, const weft_future_ops *ops, struct weft__mpsc *ch,
                      void *ret_elems, size_t limit)
{
    weft__waiter_init(&w->waiter);
    wait_set(w, ops, ch, ret_elems, limit);
}

void weft_mpsc_recv_future_init(weft_mpsc_recv_future *f, weft_mpsc_receiver *rx, void *ret_elem)
{
    int rc = check("weft_mpsc_recv_future_init", rx, ret_elem, 1, WEFT__CALLER);
    wait_init((struct recv_wait *)f, &recv_ops, rc < 0 ? NULL : weft__mpsc_of_rx(rx), ret_elem, 1);
}

void weft_mpsc_recv_many_future_init(weft_mpsc_recv_future *f, weft_mpsc_receiver *rx,
                                     void *ret_elems, size_t limit)
{
    int rc = check("weft_mpsc_recv_many_future_init", rx, ret_elems, limit, WEFT__CALLER);
    wait_init((struct recv_wait *)f, &recv_many_ops, rc < 0 ? NULL : weft__mpsc_of_rx(rx),
              ret_elems, limit);
}

/* ---- receive ---- */

/* The wait goes on as a future: a thread waits, a child is refused, or it was woken for nothing. */
static WEFT__COLD int wait_as_future(struct recv_wait *w, struct weft__mpsc *ch, void *ret_elem)
{
    wait_set(w, &recv_ops, ch, ret_elem, 1);
    return weft__wait_for(&w->future);
}

static WEFT__COLD int wait_stopped(struct recv_wait *w, struct weft__mpsc *ch,
                                   struct weft__task *self, int why)
{
    w->ch = ch;
    recv_cancel(&w->future);
    return weft__wait_stopped(self, why);
}

/* As weft__wait_for() a receive future, but what happens nearly always, it does by itself: there is
 * nothing, a sender ends the wait, and the element is there. */
static WEFT__NOINLINE int recv_later(struct weft__mpsc *ch, void *ret_elem, struct weft__task *self)
{
    struct recv_wait w;
    if (WEFT__UNLIKELY(!weft__waits_by_itself(self) || weft__mpsc_is_ancestors(ch))) {
        weft__waiter_init(&w.waiter);
        return wait_as_future(&w, ch, ret_elem);
    }
    weft__lock_acquire(&ch->q.lock);
    bool must_wait = !weft__mpsc_queue_look(&ch->q) && !weft__mpsc_is_over(ch);
    if (WEFT__LIKELY(must_wait))
        weft__waitq_push_back(&ch->receiving, &w.waiter, weft__task_waker(self));
    weft__lock_release(&ch->q.lock);
    if (WEFT__LIKELY(must_wait)) {
        int why = weft__wait_pending(self, &recv_ops);
        if (WEFT__UNLIKELY(why != 0))
            return wait_stopped(&w, ch, self, why);
        if (WEFT__UNLIKELY(!weft__waiter_result(&w.waiter) || !weft__mpsc_queue_look(&ch->q)))
            return wait_as_future(&w, ch, ret_elem);
    } else if (ch->q.next == ch->q.batch_end) {
        return -EPIPE;
    }
    return take_one(ch, ret_elem);
}

static inline int recv_one(struct weft__mpsc *ch, void *ret_elem, struct weft__task *self)
{
    if (WEFT__LIKELY(weft__mpsc_queue_look(&ch->q)))
        return take_one(ch, ret_elem);
    return weft__stay_for(recv_later(ch, ret_elem, self));
}

static WEFT__NOINLINE int recv_slowly(weft_mpsc_receiver *rx, void *ret_elem, const void *caller)
{
    int rc = check("weft_mpsc_recv", rx, ret_elem, 1, caller);
    if (rc == 0)
        rc = weft__wait_begin_slow("weft_mpsc_recv", caller);
    return rc < 0 ? rc : recv_one(weft__mpsc_of_rx(rx), ret_elem, weft__task_current());
}

int weft_mpsc_recv(weft_mpsc_receiver *rx, void *ret_elem)
{
    struct weft__task *self = weft__task_current();
    if (WEFT__UNLIKELY(rx == NULL || ret_elem == NULL || !weft__wait_begins(self)))
        return weft__stay_for(recv_slowly(rx, ret_elem, WEFT__CALLER));
    return recv_one(weft__mpsc_of_rx(rx), ret_elem, self);
}

int weft_mpsc_try_recv(weft_mpsc_receiver *rx, void *ret_elem)
{
    int rc = check("weft_mpsc_try_recv", rx, ret_elem, 1, WEFT__CALLER);
    if (rc == 0)
        rc = recv_now(weft__mpsc_of_rx(rx), ret_elem, 1);
    return rc == 1 ? 0 : rc;
}

int weft_mpsc_blocking_recv(weft_mpsc_receiver *rx, void *ret_elem)
{
    int rc = check("weft_mpsc_blocking_recv", rx, ret_elem, 1, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_mpsc_recv_future f;
    weft_mpsc_recv_future_init(&f, rx, ret_elem);
    return weft__wait_blocking("weft_mpsc_blocking_recv", &f.future, WEFT__CALLER);
}

int weft_mpsc_recv_many(weft_mpsc_receiver *rx, void *ret_elems, size_t limit)
{
    int rc = check("weft_mpsc_recv_many", rx, ret_elems, limit, WEFT__CALLER);
    if (rc == 0 && limit > 0)
        rc = weft__wait_begin("weft_mpsc_recv_many", WEFT__CALLER);
    if (rc < 0 || limit == 0)
        return rc;
    weft_mpsc_recv_future f;
    weft_mpsc_recv_many_future_init(&f, rx, ret_elems, limit);
    return weft__wait_for(&f.future);
}

int weft_mpsc_try_recv_many(weft_mpsc_receiver *rx, void *ret_elems, size_t limit)
{
    int rc = check("weft_mpsc_try_recv_many", rx, ret_elems, limit, WEFT__CALLER);
    if (rc < 0)
        return rc;
    return limit ? recv_now(weft__mpsc_of_rx(rx), ret_elems, limit < INT_MAX ? limit : INT_MAX) : 0;
}

int weft_mpsc_blocking_recv_many(weft_mpsc_receiver *rx, void *ret_elems, size_t limit)
{
    int rc = check("weft_mpsc_blocking_recv_many", rx, ret_elems, limit, WEFT__CALLER);
    if (rc == 0 && limit == 0) /* in a task it is misuse all the same */
        rc = weft__blocking_begin("weft_mpsc_blocking_recv_many", WEFT__CALLER);
    if (rc < 0 || limit == 0)
        return rc;
    weft_mpsc_recv_future f;
    weft_mpsc_recv_many_future_init(&f, rx, ret_elems, limit);
    return weft__wait_blocking("weft_mpsc_blocking_recv_many", &f.future, WEFT__CALLER);
}

/* What is there needs no future. */
static int start_recv(weft_case *c)
{
    weft_mpsc_receiver *rx = c->arg[0].ptr;
    void *ret_elem = c->arg[1].ptr;
    if (WEFT__LIKELY(rx != NULL && ret_elem != NULL) &&
        weft__mpsc_queue_look(&weft__mpsc_of_rx(rx)->q)) {
        (void)take_one(weft__mpsc_of_rx(rx), ret_elem); /* it is always 0 */
        return WEFT__CASE_READY;
    }
    weft_mpsc_recv_future_init(weft_case_storage(c), rx, ret_elem);
    return 0;
}

weft_case weft_case_mpsc_recv(weft_mpsc_receiver *rx, void *ret_elem)
{
    return weft_case_make(start_recv, rx, ret_elem);
}

static int start_recv_many(weft_case *c)
{
    weft_mpsc_recv_many_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr,
                                    c->arg[2].size);
    return 0;
}

weft_case weft_case_mpsc_recv_many(weft_mpsc_receiver *rx, void *ret_elems, size_t limit)
{
    weft_case c = weft_case_make(start_recv_many, rx, ret_elems);
    c.arg[2].size = limit;
    return c;
}
