/*
 * A broadcast channel against an array of all that was ever sent: receivers come, read, fall
 * behind, wait, for one waker or another, give waits up, and go; clones fail, panic, and send in
 * the middle.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define RECEIVERS 5
#define ITEMS 4096

static weft_broadcast_sender *tx;
static unsigned senders;
static size_t capacity;

/* Item number i is sent as i. */
static unsigned item_count;
static uint8_t dropped[ITEMS];

static struct receiver {
    weft_broadcast_receiver *rx;
    unsigned next; /* the item read next */
    weft_broadcast_recv_future future;
    uint16_t value;
    uint64_t lost;
    bool is_pending, is_woken;
    unsigned waker; /* that of the last poll */
} receivers[RECEIVERS];

static weft_broadcast_closed_future closed;
static bool closed_is_pending, closed_is_woken;

static enum { CLONE_WORKS, CLONE_FAILS, CLONE_PANICS, CLONE_SENDS } clone_does;

static unsigned receiver_count(void)
{
    unsigned n = 0;
    for (int i = 0; i < RECEIVERS; i++)
        n += receivers[i].rx != NULL;
    return n;
}

static void send_one(void)
{
    uint16_t v = (uint16_t)item_count;
    int rc = weft_broadcast_send(tx, &v);
    FUZZ_CHECK(rc == (receiver_count() ? (int)receiver_count() : -EPIPE));
    if (rc > 0)
        item_count++;
}

static int clone_value(void *to, const void *from)
{
    switch (clone_does) {
    case CLONE_FAILS:
        return -EDOM;
    case CLONE_PANICS:
        weft_panic("fuzz");
    case CLONE_SENDS: /* so many that what is being cloned may be overwritten */
        for (size_t i = 0; i < capacity && senders && item_count < ITEMS - 1; i++)
            send_one();
        break;
    case CLONE_WORKS:
        break;
    }
    memcpy(to, from, sizeof(uint16_t));
    return 0;
}

static void drop_value(void *elem)
{
    uint16_t v;
    memcpy(&v, elem, sizeof v);
    FUZZ_CHECK(v < item_count + 1 && dropped[v]++ == 0);
}

static void note_wakes(void)
{
    for (unsigned i = 0; i < RECEIVERS; i++)
        receivers[i].is_woken |= fuzz_was_woken(receivers[i].waker);
    closed_is_woken |= fuzz_was_woken(RECEIVERS);
}

static unsigned oldest_kept(void)
{
    return item_count > capacity ? item_count - (unsigned)capacity : 0;
}

/* What a receive must say now. */
static int expected(const struct receiver *r)
{
    if (r->next < oldest_kept())
        return -EOVERFLOW;
    if (r->next == item_count)
        return senders ? -EAGAIN : -EPIPE;
    return clone_does == CLONE_FAILS ? -EDOM : clone_does == CLONE_PANICS ? -EOWNERDEAD : 0;
}

static void check_received(struct receiver *r, int rc, unsigned oldest)
{
    if (rc == -EOVERFLOW) {
        FUZZ_CHECK(r->lost == oldest - r->next);
        r->next = oldest;
    } else if (rc == 0 || rc == -EOWNERDEAD) {
        FUZZ_CHECK(rc < 0 || r->value == r->next);
        r->next++;
    }
}

/* ---- operations ---- */

static void try_recv(struct receiver *r)
{
    int want = expected(r);
    unsigned oldest = oldest_kept();
    int rc = weft_broadcast_try_recv(r->rx, &r->value, &r->lost);
    FUZZ_CHECK(rc == want);
    check_received(r, rc, oldest);
}

static void poll_recv(struct receiver *r, unsigned waker)
{
    if (!r->is_pending)
        weft_broadcast_recv_future_init(&r->future, r->rx, &r->value, &r->lost);
    int want = expected(r);
    unsigned oldest = oldest_kept();
    r->is_woken = false;
    r->waker = waker;
    int rc = r->future.future.ops->poll(&r->future.future, fuzz_waker(waker));
    r->is_pending = rc == WEFT_PENDING;
    FUZZ_CHECK(rc == (want == -EAGAIN ? WEFT_PENDING : want));
    check_received(r, rc, oldest);
}

static void cancel_recv(struct receiver *r)
{
    if (r->is_pending)
        weft_future_cancel(&r->future.future);
    r->is_pending = r->is_woken = false;
}

static void leave(struct receiver *r)
{
    if (r->rx == NULL)
        return;
    cancel_recv(r);
    weft_broadcast_receiver_destroy(r->rx);
    r->rx = NULL;
}

static void join(struct receiver *r)
{
    FUZZ_CHECK(weft_broadcast_subscribe(tx, &r->rx) == 0);
    r->next = item_count;
}

static void poll_closed(void)
{
    if (!closed_is_pending)
        weft_broadcast_closed_future_init(&closed, tx);
    closed_is_woken = false;
    int rc = closed.future.ops->poll(&closed.future, fuzz_waker(RECEIVERS));
    closed_is_pending = rc == WEFT_PENDING;
    FUZZ_CHECK(rc == (receiver_count() ? WEFT_PENDING : 0));
}

static void cancel_closed(void)
{
    if (closed_is_pending)
        weft_future_cancel(&closed.future);
    closed_is_pending = closed_is_woken = false;
}

static void check_lengths(void)
{
    unsigned longest = 0;
    for (int i = 0; i < RECEIVERS; i++) {
        struct receiver *r = &receivers[i];
        if (r->rx == NULL)
            continue;
        unsigned len = item_count - r->next;
        FUZZ_CHECK(weft_broadcast_receiver_len(r->rx) == len);
        longest = len > longest ? len : longest;
        /* Nobody waits for what is there. */
        if (r->is_pending && !r->is_woken)
            FUZZ_CHECK(len == 0 && senders > 0);
    }
    if (senders)
        FUZZ_CHECK(weft_broadcast_sender_len(tx) == (longest < capacity ? longest : capacity));
    if (closed_is_pending && !closed_is_woken)
        FUZZ_CHECK(receiver_count() > 0);
    /* What all have passed is destroyed, and what somebody can still read is not. */
    for (unsigned v = 0; v < item_count; v++) {
        bool is_needed = v >= oldest_kept() && v >= item_count - longest;
        FUZZ_CHECK(dropped[v] == !is_needed);
    }
}

static void step(struct fuzz_in *in)
{
    unsigned what = fuzz_below(in, 32);
    unsigned i = fuzz_below(in, RECEIVERS);
    struct receiver *r = &receivers[i];
    unsigned how = fuzz_below(in, 16);
    clone_does = how < 4 ? how : CLONE_WORKS;
    if (what < 10) {
        if (senders)
            send_one();
    } else if (what < 24) {
        if (r->rx == NULL && senders)
            join(r);
        else if (r->rx == NULL)
            return;
        else if (what % 2)
            try_recv(r);
        else
            poll_recv(r, what % 4 ? i : RECEIVERS + 1 + i);
    } else if (what < 27) {
        cancel_recv(r);
    } else if (what < 29) {
        leave(r);
    } else if (what == 29) {
        if (r->rx && !r->is_pending) {
            weft_broadcast_receiver *fresh;
            FUZZ_CHECK(weft_broadcast_resubscribe(r->rx, &fresh) == 0);
            leave(r);
            r->rx = fresh;
            r->next = item_count;
        }
    } else if (what == 30) {
        if (fuzz_below(in, 2) && senders)
            poll_closed();
        else
            cancel_closed();
    } else if (senders == 1 && fuzz_below(in, 16) == 0) {
        cancel_closed();
        senders = 0;
        weft_broadcast_sender_unref(tx); /* receivers go on with what is kept */
    }
    note_wakes();
    check_lengths();
}

static void ignore(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)line, (void)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    weft_log_set(ignore, NULL); /* panics are reported */
    size_t asked = 1 + fuzz_below(&in, 9);
    weft_broadcast_options o = {asked, sizeof(uint16_t), clone_value, drop_value};
    FUZZ_CHECK(weft_broadcast_create(&o, &tx, NULL) == 0);
    capacity = weft_broadcast_capacity(tx);
    FUZZ_CHECK(capacity >= asked && capacity < 2 * asked && (capacity & (capacity - 1)) == 0);
    senders = 1;
    item_count = 0;
    closed_is_pending = false;
    memset(dropped, 0, sizeof dropped);
    memset(receivers, 0, sizeof receivers);
    for (unsigned i = 0; i <= 2 * RECEIVERS; i++)
        (void)fuzz_was_woken(i); /* forgets the former run */
    for (unsigned i = 0; i < RECEIVERS; i++)
        receivers[i].waker = i;
    while (fuzz_more(&in) && item_count < ITEMS - 2)
        step(&in);
    clone_does = CLONE_WORKS;
    cancel_closed();
    for (unsigned i = 0; i < RECEIVERS; i++)
        leave(&receivers[i]);
    if (senders)
        weft_broadcast_sender_unref(tx);
    for (unsigned v = 0; v < item_count; v++)
        FUZZ_CHECK(dropped[v] == 1);
    return 0;
}
