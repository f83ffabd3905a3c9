/*
 * A oneshot against what it should be: a few booleans.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VALUE 42

struct ref {
    weft_oneshot_sender *tx;
    weft_oneshot_receiver *rx;
    bool has_tx, has_rx, is_sent, is_taken, is_closed, is_terminated;
    int drops;
    long out;
    /* the waker that a pending wait was last polled with; -1: not pending */
    int receiving, closing;
    weft_oneshot_recv_future recv;
    weft_oneshot_closed_future closed;
    weft_oneshot memory;
    long value;
};

static int drops;

static void count_drop(void *value)
{
    FUZZ_CHECK(*(long *)value == VALUE);
    drops++;
}

static bool recv_is_ready(const struct ref *r)
{
    return !r->has_tx || r->is_closed;
}

static int recv_result(struct ref *r)
{
    r->is_terminated = true;
    if (!r->is_sent || r->is_taken)
        return -EPIPE;
    r->is_taken = true;
    return 0;
}

/* Every waker that should have been woken was, and no other. */
static void check_wakes(struct ref *r, bool recv_was_ready, bool closed_was_ready)
{
    bool recv_woken = r->receiving >= 0 && recv_is_ready(r) && !recv_was_ready;
    bool closed_woken = r->closing >= 0 && r->is_closed && !closed_was_ready;
    for (int i = 0; i < 8; i++) {
        bool should = (recv_woken && r->receiving == i) || (closed_woken && r->closing == i);
        FUZZ_CHECK(fuzz_was_woken((unsigned)i) == should);
    }
}

static void check_looks(const struct ref *r)
{
    if (r->has_tx)
        FUZZ_CHECK(weft_oneshot_sender_is_closed(r->tx) == r->is_closed);
    if (r->has_rx) {
        FUZZ_CHECK(weft_oneshot_receiver_is_empty(r->rx) == (!r->is_sent || r->is_taken));
        FUZZ_CHECK(weft_oneshot_receiver_is_terminated(r->rx) == r->is_terminated);
    }
    FUZZ_CHECK(drops == (!r->has_rx && r->is_sent && !r->is_taken));
}

/* ---- the sender ---- */

static void sender_ends(struct ref *r, bool by_send)
{
    if (r->closing >= 0 && r->closing % 2) { /* else left pending */
        r->closed.future.ops->cancel(&r->closed.future);
    }
    r->closing = -1;
    long v = VALUE;
    if (by_send) {
        int rc = weft_oneshot_send(r->tx, &v);
        FUZZ_CHECK(rc == (r->is_closed ? -EPIPE : 0));
        r->is_sent = rc == 0;
    } else {
        weft_oneshot_sender_destroy(r->tx);
    }
    r->has_tx = false;
}

static void poll_closed(struct ref *r, int waker)
{
    if (r->closing < 0)
        weft_oneshot_closed_future_init(&r->closed, r->tx);
    int rc = r->closed.future.ops->poll(&r->closed.future, fuzz_waker((unsigned)waker));
    FUZZ_CHECK(rc == (r->is_closed ? 0 : WEFT_PENDING));
    r->closing = rc == WEFT_PENDING ? waker : -1;
}

static void sender_acts(struct ref *r, struct fuzz_in *in)
{
    switch (fuzz_below(in, 8)) {
    case 0:
        sender_ends(r, true);
        break;
    case 1:
        sender_ends(r, false);
        break;
    case 2:
        if (r->closing >= 0)
            r->closed.future.ops->cancel(&r->closed.future);
        r->closing = -1;
        break;
    default:
        poll_closed(r, (int)fuzz_below(in, 4));
        break;
    }
}

/* ---- the receiver ---- */

static void poll_recv(struct ref *r, int waker)
{
    r->out = 0;
    if (r->receiving < 0)
        weft_oneshot_recv_future_init(&r->recv, r->rx, &r->out);
    int rc = r->recv.future.ops->poll(&r->recv.future, fuzz_waker((unsigned)waker));
    if (recv_is_ready(r)) {
        FUZZ_CHECK(rc == recv_result(r));
        FUZZ_CHECK(r->out == (rc == 0 ? VALUE : 0));
        r->receiving = -1;
    } else {
        FUZZ_CHECK(rc == WEFT_PENDING);
        r->receiving = waker;
    }
}

static void try_recv(struct ref *r)
{
    r->out = 0;
    int rc = weft_oneshot_try_recv(r->rx, &r->out);
    FUZZ_CHECK(rc == (recv_is_ready(r) ? recv_result(r) : -EAGAIN));
    FUZZ_CHECK(r->out == (rc == 0 ? VALUE : 0));
}

static void receiver_ends(struct ref *r)
{
    if (r->receiving >= 0 && r->receiving % 2)
        r->recv.future.ops->cancel(&r->recv.future);
    r->receiving = -1;
    weft_oneshot_receiver_destroy(r->rx);
    r->has_rx = false;
    r->is_closed = true;
}

static void receiver_acts(struct ref *r, struct fuzz_in *in)
{
    switch (fuzz_below(in, 10)) {
    case 0:
        receiver_ends(r);
        break;
    case 1:
        weft_oneshot_receiver_close(r->rx);
        r->is_closed = true;
        break;
    case 2:
        if (r->receiving >= 0)
            r->recv.future.ops->cancel(&r->recv.future);
        r->receiving = -1;
        break;
    case 3:
    case 4:
        try_recv(r);
        break;
    default:
        poll_recv(r, 4 + (int)fuzz_below(in, 4));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    struct ref r = {.has_tx = true, .has_rx = true, .receiving = -1, .closing = -1};
    drops = 0;
    if (fuzz_u8(&in) % 2)
        FUZZ_CHECK(weft_oneshot_create(sizeof(long), count_drop, &r.tx, &r.rx) == 0);
    else
        weft_oneshot_init(&r.memory, &r.value, sizeof(long), count_drop, &r.tx, &r.rx);
    while (r.has_tx || r.has_rx) {
        bool recv_was_ready = recv_is_ready(&r), closed_was_ready = r.is_closed;
        bool is_over = !fuzz_more(&in);
        if (r.has_tx && (!r.has_rx || is_over || fuzz_u8(&in) % 2)) {
            if (is_over)
                sender_ends(&r, fuzz_u8(&in) % 2);
            else
                sender_acts(&r, &in);
        } else if (is_over) {
            receiver_ends(&r);
        } else {
            receiver_acts(&r, &in);
        }
        check_wakes(&r, recv_was_ready, closed_was_ready);
        check_looks(&r);
    }
    return 0;
}
