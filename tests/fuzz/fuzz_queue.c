/*
 * A queue against a list: sends and receives, at once and by futures that are polled, for one waker
 * or another, and given up, and a close. The list knows which values went in, in which order; the
 * flags of the wakers say what has been promised to whom.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define FUTURES 6 /* of each kind */
#define VALUES 4096

static weft_queue *q;
static size_t capacity;
static bool is_closed;

/* The list: what is in the queue. */
static uint16_t list[VALUES];
static unsigned list_first, list_last;
static uint16_t value_next;
static uint8_t ended[VALUES]; /* received, destroyed, or kept by its sender */

static struct sending {
    weft_queue_send_future future;
    uint16_t value;
    bool is_pending, is_woken;
    unsigned waker; /* that of the last poll */
    unsigned turn;  /* when it began to wait */
} sending[FUTURES];

static struct receiving {
    weft_queue_recv_future future;
    uint16_t value;
    bool is_pending, is_woken;
    unsigned waker;
} receiving[FUTURES];

static unsigned turn;

static void end_value(uint16_t v)
{
    FUZZ_CHECK(ended[v] == 0);
    ended[v] = 1;
}

static void drop_value(void *elem)
{
    uint16_t v;
    memcpy(&v, elem, sizeof v);
    end_value(v);
}

static unsigned list_len(void)
{
    return list_last - list_first;
}

static unsigned offers(void)
{
    unsigned n = 0;
    for (int i = 0; i < FUTURES; i++)
        n += capacity == 0 && sending[i].is_pending && !sending[i].is_woken;
    return n;
}

static unsigned promised_values(void)
{
    unsigned n = 0;
    for (int i = 0; i < FUTURES; i++)
        n += receiving[i].is_pending && receiving[i].is_woken;
    return n;
}

static unsigned promised_slots(void)
{
    unsigned n = 0;
    for (int i = 0; i < FUTURES; i++)
        n += capacity != 0 && sending[i].is_pending && sending[i].is_woken;
    return n;
}

static unsigned waiting_receivers(void)
{
    unsigned n = 0;
    for (int i = 0; i < FUTURES; i++)
        n += receiving[i].is_pending && !receiving[i].is_woken;
    return n;
}

static void note_wakes(void)
{
    for (unsigned i = 0; i < FUTURES; i++) {
        sending[i].is_woken |= fuzz_was_woken(sending[i].waker);
        receiving[i].is_woken |= fuzz_was_woken(receiving[i].waker);
    }
}

/* A value came out: the oldest of the list, or else the offer that has waited longest. */
static void received(uint16_t v)
{
    if (list_len() > 0) {
        FUZZ_CHECK(v == list[list_first++]);
        end_value(v);
        return;
    }
    struct sending *s = NULL;
    for (int i = 0; i < FUTURES; i++)
        if (sending[i].is_pending && !sending[i].is_woken && (!s || sending[i].turn < s->turn))
            s = &sending[i];
    FUZZ_CHECK(capacity == 0 && s != NULL && s->value == v);
    note_wakes();
    FUZZ_CHECK(s->is_woken);
    end_value(v);
}

static void sent(uint16_t v)
{
    list[list_last++] = v;
}

/* ---- operations ---- */

static void try_send(void)
{
    uint16_t v = value_next++;
    bool room = list_len() + promised_slots() < capacity;
    if (capacity == 0)
        room = waiting_receivers() > 0 || promised_values() > list_len() + offers();
    int rc = weft_queue_try_send(q, &v);
    FUZZ_CHECK(rc == (is_closed ? -EPIPE : room ? 0 : -EAGAIN));
    if (rc == 0)
        sent(v);
    else
        end_value(v);
}

static void try_recv(void)
{
    uint16_t v;
    unsigned values = list_len() + offers();
    bool is_there = is_closed ? values > 0 : values > promised_values();
    int rc = weft_queue_try_recv(q, &v);
    FUZZ_CHECK(rc == (is_there ? 0 : is_closed ? -EPIPE : -EAGAIN));
    if (rc == 0)
        received(v);
}

static void poll_send(unsigned i, bool other_waker)
{
    struct sending *s = &sending[i];
    if (!s->is_pending) {
        s->value = value_next++;
        s->turn = turn++;
        weft_queue_send_future_init(&s->future, q, &s->value);
    }
    bool was_woken = s->is_woken, was_offer = capacity == 0 && s->is_pending;
    s->is_woken = false;
    s->waker = other_waker ? 2 * FUTURES + i : i;
    int rc = s->future.future.ops->poll(&s->future.future, fuzz_waker(s->waker));
    s->is_pending = rc == WEFT_PENDING;
    FUZZ_CHECK(s->future.is_sent == (rc == 0));
    if (rc == WEFT_PENDING) {
        FUZZ_CHECK(!is_closed);
        FUZZ_CHECK(!was_woken); /* a promise of a slot is kept */
    } else if (rc == 0) {
        if (!was_offer)
            sent(s->value); /* an offer went straight to its receiver */
    } else {
        FUZZ_CHECK(rc == -EPIPE && is_closed);
        end_value(s->value);
    }
}

static void poll_recv(unsigned i, bool other_waker)
{
    struct receiving *r = &receiving[i];
    if (!r->is_pending)
        weft_queue_recv_future_init(&r->future, q, &r->value);
    bool was_woken = r->is_woken;
    r->is_woken = false;
    unsigned values = list_len() + offers();
    bool is_there = was_woken || is_closed ? values > 0 : values > promised_values();
    r->waker = FUTURES + (other_waker ? 2 * FUTURES + i : i);
    int rc = r->future.future.ops->poll(&r->future.future, fuzz_waker(r->waker));
    r->is_pending = rc == WEFT_PENDING;
    FUZZ_CHECK(rc == (is_there ? 0 : is_closed ? -EPIPE : WEFT_PENDING));
    if (rc == 0)
        received(r->value);
}

static void cancel_send(unsigned i)
{
    struct sending *s = &sending[i];
    if (!s->is_pending)
        return;
    bool was_taken = capacity == 0 && s->is_woken && !is_closed;
    weft_future_cancel(&s->future.future);
    s->is_pending = s->is_woken = false;
    if (is_closed)
        was_taken = s->future.is_sent; /* before the close, or not */
    FUZZ_CHECK(s->future.is_sent == was_taken);
    if (!was_taken)
        end_value(s->value);
}

static void cancel_recv(unsigned i)
{
    struct receiving *r = &receiving[i];
    if (!r->is_pending)
        return;
    weft_future_cancel(&r->future.future);
    r->is_pending = r->is_woken = false;
}

/* Nobody waits for what is there. */
static void nobody_is_forgotten(void)
{
    unsigned values = list_len() + offers(), promised = promised_values();
    FUZZ_CHECK(weft_queue_len(q) == list_len());
    FUZZ_CHECK(capacity == 0 || is_closed || list_len() + promised_slots() <= capacity);
    if (waiting_receivers() > 0)
        FUZZ_CHECK(!is_closed && values <= promised);
    for (int i = 0; i < FUTURES; i++)
        if (capacity != 0 && sending[i].is_pending && !sending[i].is_woken)
            FUZZ_CHECK(!is_closed && list_len() + promised_slots() == capacity);
}

static void step(struct fuzz_in *in)
{
    unsigned what = fuzz_below(in, 32);
    unsigned i = fuzz_below(in, FUTURES);
    if (what < 5)
        try_send();
    else if (what < 10)
        try_recv();
    else if (what < 16)
        poll_send(i, what % 2);
    else if (what < 22)
        poll_recv(i, what % 2);
    else if (what < 26)
        cancel_send(i);
    else if (what < 31)
        cancel_recv(i);
    else if (fuzz_below(in, 8) == 0) {
        weft_queue_close(q);
        is_closed = true;
    }
    note_wakes();
    nobody_is_forgotten();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t capacities[] = {0, 1, 2, 3, 20, WEFT_QUEUE_UNBOUNDED};
    struct fuzz_in in = fuzz_in(data, size);
    capacity = capacities[fuzz_below(&in, 6)];
    weft_queue_options o = {capacity, sizeof(uint16_t), drop_value};
    FUZZ_CHECK(weft_queue_create(&o, &q) == 0);
    is_closed = false;
    list_first = list_last = turn = 0;
    value_next = 0;
    memset(ended, 0, sizeof ended);
    memset(sending, 0, sizeof sending);
    memset(receiving, 0, sizeof receiving);
    for (unsigned i = 0; i < 4 * FUTURES; i++)
        (void)fuzz_was_woken(i); /* forgets the former run */
    for (unsigned i = 0; i < FUTURES; i++) {
        sending[i].waker = i;
        receiving[i].waker = FUTURES + i;
    }
    while (fuzz_more(&in) && value_next < VALUES - 1)
        step(&in);
    for (unsigned i = 0; i < FUTURES; i++) {
        cancel_send(i);
        cancel_recv(i);
        note_wakes();
    }
    while (list_len() > 0 && fuzz_below(&in, 2))
        try_recv();
    weft_queue_unref(q);
    for (uint16_t v = 0; v < value_next; v++)
        FUZZ_CHECK(ended[v] == 1);
    return 0;
}
