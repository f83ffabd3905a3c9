/*
 * An mpsc channel against a plain array: order, slots, permits, counts, wakes of the last waker
 * that a wait was polled for; every element is received, destroyed, or still its sender's.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ELEMS_MAX 8192
#define WANTS 8
#define PERMITS 4
#define WEAKS 4
#define RECEIVER_WAKER WANTS /* wants have those below */
#define CLOSED_WAKER (WANTS + 1)
#define WAKERS (WANTS + 2) /* of one kind; there are two */

enum fate { UNSENT, SENT, RECEIVED, DROPPED };

/* A wait for slots. */
struct want {
    enum { IDLE, QUEUED, ASSIGNED, REFUSED } state;
    bool is_reserve;
    size_t count;
    uint64_t order; /* among those queued */
    char elem[64];
    unsigned id;
    weft_mpsc_permit permit;
    union {
        weft_mpsc_send_future send;
        weft_mpsc_reserve_future reserve;
    } f;
};

struct ref {
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    weft_mpsc_weak_sender *weak;
    size_t elem_bytes, capacity, senders, weaks, reserved;
    bool is_closed, has_rx;
    unsigned queue[ELEMS_MAX]; /* ids */
    size_t head, tail;
    uint64_t order;
    struct want want[WANTS];
    weft_mpsc_permit permit[PERMITS];
    bool is_receiving, is_closing, receiver_woken, closing_woken;
    weft_mpsc_recv_future recv;
    weft_mpsc_closed_future closed;
    char out[64];
    bool woken[WANTS];
    unsigned waker[WAKERS]; /* that of the last poll */
};

static unsigned char fate[ELEMS_MAX];
static unsigned next_id;

static unsigned id_in(const char *elem)
{
    unsigned id;
    memcpy(&id, elem, sizeof id);
    FUZZ_CHECK(id < next_id);
    return id;
}

static void on_drop(void *elem)
{
    unsigned id = id_in(elem);
    FUZZ_CHECK(fate[id] == SENT);
    fate[id] = DROPPED;
}

static unsigned make_elem(const struct ref *r, char *elem)
{
    unsigned id = next_id++;
    memset(elem, (int)(id & 0xff), r->elem_bytes);
    memcpy(elem, &id, sizeof id);
    fate[id] = UNSENT;
    return id;
}

/* ---- what the channel should do ---- */

static size_t used(const struct ref *r)
{
    return r->tail - r->head + r->reserved;
}

static size_t strong(const struct ref *r)
{
    size_t permits = 0;
    for (int i = 0; i < PERMITS; i++)
        permits += r->permit[i].count > 0;
    return r->senders + permits;
}

static bool is_over(const struct ref *r)
{
    return r->head == r->tail && (strong(r) == 0 || (r->is_closed && r->reserved == 0));
}

static struct want *first_queued(struct ref *r)
{
    struct want *first = NULL;
    for (int i = 0; i < WANTS; i++)
        if (r->want[i].state == QUEUED && (first == NULL || r->want[i].order < first->order))
            first = &r->want[i];
    return first;
}

static bool has_room(struct ref *r, size_t count)
{
    return r->capacity == 0 || (first_queued(r) == NULL && used(r) + count <= r->capacity);
}

/* After every step: slots go to who waits, in order; waits end. */
static void settle(struct ref *r)
{
    for (struct want *w; (w = first_queued(r)) != NULL;) {
        if (r->is_closed) {
            w->state = REFUSED;
        } else if (used(r) + w->count <= r->capacity) {
            w->state = ASSIGNED;
            r->reserved += w->count;
        } else {
            break;
        }
        r->woken[w - r->want] = true;
    }
    if (r->is_receiving && (r->head != r->tail || is_over(r)))
        r->receiver_woken = true;
    if (r->is_closing && r->is_closed)
        r->closing_woken = true;
}

/* Woken if it should be; for nothing only while it is in no wait any more. */
static void check_woken(const struct ref *r, unsigned i, bool waits, bool must_be_woken)
{
    for (unsigned w = i; w < 2 * WAKERS; w += WAKERS) {
        bool must = must_be_woken && r->waker[i] == w;
        if (fuzz_was_woken(w))
            FUZZ_CHECK(!waits || must);
        else
            FUZZ_CHECK(!must);
    }
}

static void check(struct ref *r)
{
    settle(r);
    for (unsigned i = 0; i < WANTS; i++) {
        for (unsigned w = i; w < 2 * WAKERS; w += WAKERS)
            FUZZ_CHECK(fuzz_was_woken(w) == (r->woken[i] && r->waker[i] == w));
        r->woken[i] = false;
    }
    check_woken(r, RECEIVER_WAKER, r->is_receiving, r->receiver_woken);
    check_woken(r, CLOSED_WAKER, r->is_closing, r->closing_woken);
    /* Said once; the wait goes on until it is polled. */
    if (r->receiver_woken)
        r->is_receiving = false;
    if (r->closing_woken)
        r->is_closing = false;
    r->receiver_woken = r->closing_woken = false;

    if (r->senders > 0) {
        size_t free = r->capacity ? r->capacity - used(r) : SIZE_MAX;
        FUZZ_CHECK(weft_mpsc_sender_capacity(r->tx) == free);
        FUZZ_CHECK(weft_mpsc_sender_is_closed(r->tx) == r->is_closed);
        FUZZ_CHECK(weft_mpsc_sender_strong_count(r->tx) == strong(r));
        FUZZ_CHECK(weft_mpsc_sender_weak_count(r->tx) == r->weaks);
    }
    if (r->has_rx) {
        FUZZ_CHECK(weft_mpsc_receiver_len(r->rx) == r->tail - r->head);
        FUZZ_CHECK(weft_mpsc_receiver_is_closed(r->rx) == (r->is_closed || strong(r) == 0));
        FUZZ_CHECK(weft_mpsc_receiver_strong_count(r->rx) == strong(r));
    }
}

/* ---- sending ---- */

static void note_sent(struct ref *r, unsigned id)
{
    if (!r->has_rx)
        return;
    fate[id] = SENT;
    r->queue[r->tail++] = id;
}

static void try_send(struct ref *r)
{
    char elem[64];
    unsigned id = make_elem(r, elem);
    int expected = r->is_closed ? -EPIPE : has_room(r, 1) ? 0 : -EAGAIN;
    FUZZ_CHECK(weft_mpsc_try_send(r->tx, elem) == expected);
    if (expected == 0)
        note_sent(r, id);
}

static struct weft_future *future_of(struct want *w)
{
    return w->is_reserve ? &w->f.reserve.future : &w->f.send.future;
}

static weft_mpsc_permit *free_permit(struct ref *r)
{
    for (int i = 0; i < PERMITS; i++)
        if (r->permit[i].count == 0)
            return &r->permit[i];
    return NULL;
}

static void start_want(struct ref *r, struct want *w, struct fuzz_in *in)
{
    w->is_reserve = r->capacity && fuzz_u8(in) % 2;
    w->count = w->is_reserve ? fuzz_below(in, (unsigned)r->capacity + 1) : 1;
    if (w->is_reserve) {
        weft_mpsc_reserve_future_init(&w->f.reserve, r->tx, w->count, &w->permit);
    } else {
        w->id = make_elem(r, w->elem);
        weft_mpsc_send_future_init(&w->f.send, r->tx, w->elem);
    }
}

/* What a poll of w should return. */
static int want_result(struct ref *r, struct want *w)
{
    switch (w->state) {
    case QUEUED:
        return WEFT_PENDING;
    case ASSIGNED:
        if (r->has_rx)
            return 0;
        r->reserved -= w->count;
        return -EPIPE;
    case REFUSED:
        return -EPIPE;
    case IDLE:
        break;
    }
    if (r->is_closed)
        return -EPIPE;
    if (w->count > 0 && !has_room(r, w->count))
        return WEFT_PENDING;
    r->reserved += r->capacity ? w->count : 0;
    return 0;
}

/* For the waker at i, or the other one there. */
static int poll_for(struct ref *r, weft_future *f, unsigned i, bool other)
{
    r->waker[i] = other ? WAKERS + i : i;
    return f->ops->poll(f, fuzz_waker(r->waker[i]));
}

static void poll_want(struct ref *r, struct fuzz_in *in, bool other)
{
    unsigned i = fuzz_below(in, WANTS);
    struct want *w = &r->want[i];
    weft_mpsc_permit *permit = free_permit(r);
    if (w->state == IDLE && r->senders == 0)
        return;
    if (permit == NULL && (w->state != IDLE ? w->is_reserve : true))
        return; /* nowhere to put another one */
    if (w->state == IDLE)
        start_want(r, w, in);
    int expected = want_result(r, w);
    int rc = poll_for(r, future_of(w), i, other);
    FUZZ_CHECK(rc == expected);
    if (rc == WEFT_PENDING) {
        if (w->state == IDLE) {
            w->state = QUEUED;
            w->order = r->order++;
        }
        return;
    }
    w->state = IDLE;
    if (rc == 0 && w->is_reserve) {
        FUZZ_CHECK(w->permit.count == w->count);
        *permit = w->permit;
    } else if (rc == 0) {
        r->reserved -= r->capacity ? 1 : 0;
        note_sent(r, w->id);
    }
}

static void cancel_want(struct ref *r, struct want *w)
{
    if (w->state == IDLE)
        return;
    future_of(w)->ops->cancel(future_of(w));
    if (w->state == ASSIGNED)
        r->reserved -= w->count;
    w->state = IDLE;
    settle(r); /* the next may have its turn */
}

static void try_reserve(struct ref *r, struct fuzz_in *in)
{
    weft_mpsc_permit *p = free_permit(r);
    size_t count = r->capacity ? fuzz_below(in, (unsigned)r->capacity + 1) : 0;
    if (p == NULL || r->capacity == 0)
        return;
    int expected = r->is_closed ? -EPIPE : count == 0 || has_room(r, count) ? 0 : -EAGAIN;
    FUZZ_CHECK(weft_mpsc_try_reserve_many(r->tx, count, p) == expected);
    if (expected == 0)
        r->reserved += count;
}

static void use_permit(struct ref *r, struct fuzz_in *in)
{
    weft_mpsc_permit *p = &r->permit[fuzz_below(in, PERMITS)];
    if (p->count == 0)
        return;
    if (fuzz_u8(in) % 4 == 0) {
        r->reserved -= p->count;
        weft_mpsc_permit_release(p);
        return;
    }
    char elem[64];
    unsigned id = make_elem(r, elem);
    r->reserved--;
    fate[id] = SENT; /* to nobody: dropped within the call */
    if (r->has_rx)
        r->queue[r->tail++] = id;
    FUZZ_CHECK(weft_mpsc_permit_send(p, elem) == 0);
    FUZZ_CHECK(r->has_rx || fate[id] == DROPPED);
}

/* ---- receiving ---- */

static void note_received(struct ref *r, const char *elem)
{
    unsigned id = id_in(elem);
    FUZZ_CHECK(r->head != r->tail && r->queue[r->head] == id);
    FUZZ_CHECK(fate[id] == SENT);
    for (size_t i = sizeof id; i < r->elem_bytes; i++)
        FUZZ_CHECK((unsigned char)elem[i] == (id & 0xff));
    fate[id] = RECEIVED;
    r->head++;
}

static void try_recv(struct ref *r)
{
    int rc = weft_mpsc_try_recv(r->rx, r->out);
    FUZZ_CHECK(rc == (r->head != r->tail ? 0 : is_over(r) ? -EPIPE : -EAGAIN));
    if (rc == 0)
        note_received(r, r->out);
}

static void try_recv_many(struct ref *r, struct fuzz_in *in)
{
    static char out[256 * 64];
    size_t limit = fuzz_below(in, 100), there = r->tail - r->head;
    int rc = weft_mpsc_try_recv_many(r->rx, out, limit);
    if (limit == 0)
        FUZZ_CHECK(rc == 0);
    else if (there == 0)
        FUZZ_CHECK(rc == (is_over(r) ? -EPIPE : -EAGAIN));
    else
        FUZZ_CHECK(rc == (int)(there < limit ? there : limit));
    for (int i = 0; i < rc; i++)
        note_received(r, out + (size_t)i * r->elem_bytes);
}

/* The future lives on between polls, as in a select by reference. */
static bool recv_is_started;

static void poll_recv(struct ref *r, bool other)
{
    if (!recv_is_started)
        weft_mpsc_recv_future_init(&r->recv, r->rx, r->out);
    int rc = poll_for(r, &r->recv.future, RECEIVER_WAKER, other);
    FUZZ_CHECK(rc == (r->head != r->tail ? 0 : is_over(r) ? -EPIPE : WEFT_PENDING));
    if (rc == 0)
        note_received(r, r->out);
    recv_is_started = r->is_receiving = rc == WEFT_PENDING;
}

static void cancel_recv(struct ref *r)
{
    if (recv_is_started)
        r->recv.future.ops->cancel(&r->recv.future);
    recv_is_started = r->is_receiving = false;
}

static void receiver_goes(struct ref *r)
{
    cancel_recv(r);
    weft_mpsc_receiver_unref(r->rx);
    for (; r->head != r->tail; r->head++)
        FUZZ_CHECK(fate[r->queue[r->head]] == DROPPED);
    r->has_rx = false;
    r->is_closed = true;
}

/* ---- senders, weak ones, waiting for the close ---- */

static bool closed_is_started;

static void poll_closed(struct ref *r, bool other)
{
    if (!closed_is_started)
        weft_mpsc_closed_future_init(&r->closed, r->tx);
    int rc = poll_for(r, &r->closed.future, CLOSED_WAKER, other);
    FUZZ_CHECK(rc == (r->is_closed ? 0 : WEFT_PENDING));
    closed_is_started = r->is_closing = rc == WEFT_PENDING;
}

static void cancel_closed(struct ref *r)
{
    if (closed_is_started)
        r->closed.future.ops->cancel(&r->closed.future);
    closed_is_started = r->is_closing = false;
}

static void sender_goes(struct ref *r)
{
    if (r->senders == 1) { /* what waits borrows it */
        for (int i = 0; i < WANTS; i++)
            cancel_want(r, &r->want[i]);
        cancel_closed(r);
    }
    weft_mpsc_sender_unref(r->tx);
    r->senders--;
}

static void change_senders(struct ref *r, struct fuzz_in *in)
{
    switch (fuzz_below(in, 6)) {
    case 0:
        if (r->senders > 0)
            sender_goes(r);
        break;
    case 1:
        if (r->senders > 0 && r->senders < 4) {
            FUZZ_CHECK(weft_mpsc_sender_ref(r->tx) == r->tx);
            r->senders++;
        }
        break;
    case 2:
        if (r->senders > 0 && r->weaks < WEAKS) {
            r->weak = weft_mpsc_sender_downgrade(r->tx);
            r->weaks++;
        }
        break;
    case 3:
        if (r->weaks > 0) {
            weft_mpsc_weak_unref(r->weak);
            r->weaks--;
        }
        break;
    default:
        if (r->weaks > 0 && r->senders < 4) {
            weft_mpsc_sender *up = weft_mpsc_weak_upgrade(r->weak);
            FUZZ_CHECK((up != NULL) == (strong(r) > 0));
            r->senders += up != NULL;
        }
        break;
    }
}

/* ---- one input ---- */

static void step(struct ref *r, struct fuzz_in *in)
{
    unsigned what = fuzz_below(in, 16), how;
    switch (what) {
    case 0:
    case 1:
    case 2:
        if (r->senders > 0)
            try_send(r);
        break;
    case 3:
    case 4:
    case 5:
        poll_want(r, in, what == 4);
        break;
    case 6:
        cancel_want(r, &r->want[fuzz_below(in, WANTS)]);
        break;
    case 7:
        if (r->senders > 0)
            try_reserve(r, in);
        break;
    case 8:
        use_permit(r, in);
        break;
    case 9:
        if (r->has_rx)
            try_recv(r);
        break;
    case 10:
    case 11:
        if (r->has_rx)
            poll_recv(r, what == 11);
        break;
    case 12:
        if (r->has_rx)
            try_recv_many(r, in);
        break;
    case 13:
        change_senders(r, in);
        break;
    case 14:
        how = r->senders > 0 ? fuzz_u8(in) : 0;
        if (how % 2)
            poll_closed(r, how % 4 == 3);
        else if (fuzz_u8(in) % 2)
            cancel_closed(r);
        else
            cancel_recv(r);
        break;
    default:
        if (r->has_rx && fuzz_u8(in) % 8 == 0) {
            weft_mpsc_receiver_close(r->rx);
            r->is_closed = true;
        } else if (r->has_rx && fuzz_u8(in) % 16 == 0) {
            receiver_goes(r);
        }
        break;
    }
}

static void finish(struct ref *r, struct fuzz_in *in)
{
    bool receiver_first = fuzz_u8(in) % 2;
    if (r->has_rx && receiver_first)
        receiver_goes(r);
    check(r);
    for (int i = 0; i < WANTS; i++)
        cancel_want(r, &r->want[i]);
    cancel_closed(r);
    for (int i = 0; i < PERMITS; i++) {
        r->reserved -= r->permit[i].count;
        weft_mpsc_permit_release(&r->permit[i]);
        check(r);
    }
    while (r->senders > 0) {
        sender_goes(r);
        check(r);
    }
    if (r->has_rx)
        receiver_goes(r);
    for (; r->weaks > 0; r->weaks--)
        weft_mpsc_weak_unref(r->weak);
    for (unsigned id = 0; id < next_id; id++)
        FUZZ_CHECK(fate[id] != SENT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t sizes[] = {4, 8, 40, 64};
    static struct ref r;
    struct fuzz_in in = fuzz_in(data, size);
    memset(&r, 0, sizeof r);
    next_id = 0;
    recv_is_started = closed_is_started = false;
    r.senders = 1;
    r.has_rx = true;
    r.elem_bytes = sizes[fuzz_below(&in, 4)];
    r.capacity = fuzz_below(&in, 7);
    int rc = r.capacity ? weft_mpsc_create(r.elem_bytes, r.capacity, on_drop, &r.tx, &r.rx)
                        : weft_mpsc_create_unbounded(r.elem_bytes, on_drop, &r.tx, &r.rx);
    FUZZ_CHECK(rc == 0);
    for (unsigned i = 0; i < 2 * WAKERS; i++)
        (void)fuzz_was_woken(i);
    while (fuzz_more(&in) && next_id + 1 < ELEMS_MAX) {
        step(&r, &in);
        check(&r);
    }
    finish(&r, &in);
    return 0;
}
