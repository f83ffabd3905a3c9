/*
 * A watch channel against a plain variable with a version: receivers come, look, mark, wait for
 * changes and for values, and go, for which the sender waits; borrows outlive what they were taken
 * from.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define RECEIVERS 4
#define BORROWS 4
#define VALUES 4096

static weft_watch_sender *tx;
static unsigned senders;

static uint16_t value; /* what the channel holds */
static unsigned version;
static uint16_t value_next; /* each value is made once, so that its end can be counted */
static uint8_t dropped[VALUES];

static struct receiver {
    weft_watch_receiver *rx;
    unsigned seen;
    weft_watch_changed_future changed;
    weft_watch_wait_for_future wait_for;
    enum { WAITS_FOR_NOTHING, WAITS_FOR_CHANGE, WAITS_FOR_VALUE } waits;
    uint16_t wanted;
    bool is_woken;
    unsigned waker; /* that of the last poll */
} receivers[RECEIVERS];

static weft_watch_closed_future closed;
static bool closed_is_pending, closed_is_woken;

static struct borrow {
    weft_watch_ref ref;
    uint16_t value;
    bool is_held;
} borrows[BORROWS];

static void drop_value(void *elem)
{
    uint16_t v;
    memcpy(&v, elem, sizeof v);
    FUZZ_CHECK(v < value_next && dropped[v]++ == 0);
}

/* A copy is a value of its own: so that copies are counted as well. What is copied is what the
 * channel holds. */
static int clone_value(void *to, const void *from)
{
    uint16_t v;
    memcpy(&v, from, sizeof v);
    FUZZ_CHECK(v == value);
    v = value_next++;
    memcpy(to, &v, sizeof v);
    return 0;
}

static unsigned receiver_count(void)
{
    unsigned n = 0;
    for (int i = 0; i < RECEIVERS; i++)
        n += receivers[i].rx != NULL;
    return n;
}

static void note_wakes(void)
{
    for (unsigned i = 0; i < RECEIVERS; i++)
        receivers[i].is_woken |= fuzz_was_woken(receivers[i].waker);
    closed_is_woken |= fuzz_was_woken(RECEIVERS);
}

/* ---- senders ---- */

static void send_one(void)
{
    uint16_t v = value_next++;
    int rc = weft_watch_send(tx, &v);
    FUZZ_CHECK(rc == (receiver_count() ? 0 : -EPIPE));
    if (rc == 0) {
        value = v;
        version++;
    } else {
        drop_value(&v);
    }
}

static void replace(void)
{
    uint16_t v = value_next++, old;
    FUZZ_CHECK(weft_watch_send_replace(tx, &v, &old) == 0);
    drop_value(&old);
    value = v;
    version++;
}

static void modify(void *elem, void *arg)
{
    (void)arg;
    memcpy(&value, elem, sizeof value);
}

static bool modify_if(void *elem, void *arg)
{
    memcpy(&value, elem, sizeof value);
    return arg != NULL;
}

static void poll_closed(void)
{
    if (!closed_is_pending)
        weft_watch_closed_future_init(&closed, tx);
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

/* ---- receivers ---- */

static bool is_wanted(const void *elem, void *arg)
{
    uint16_t v;
    memcpy(&v, elem, sizeof v);
    return v % 4 == *(const uint16_t *)arg % 4;
}

static void end_wait(struct receiver *r)
{
    if (r->waits == WAITS_FOR_CHANGE)
        weft_future_cancel(&r->changed.future);
    else if (r->waits == WAITS_FOR_VALUE)
        weft_future_cancel(&r->wait_for.future);
    r->waits = WAITS_FOR_NOTHING;
    r->is_woken = false;
}

static void leave(struct receiver *r)
{
    if (r->rx == NULL)
        return;
    end_wait(r);
    weft_watch_receiver_destroy(r->rx);
    r->rx = NULL;
}

static void poll_changed(struct receiver *r, unsigned waker)
{
    if (r->waits != WAITS_FOR_CHANGE) {
        end_wait(r);
        weft_watch_changed_future_init(&r->changed, r->rx);
    }
    r->is_woken = false;
    r->waker = waker;
    int rc = r->changed.future.ops->poll(&r->changed.future, fuzz_waker(waker));
    FUZZ_CHECK(rc == (r->seen != version ? 0 : senders ? WEFT_PENDING : -EPIPE));
    r->waits = rc == WEFT_PENDING ? WAITS_FOR_CHANGE : WAITS_FOR_NOTHING;
    if (rc == 0)
        r->seen = version;
}

static void poll_wait_for(struct receiver *r, unsigned waker, uint16_t wanted)
{
    if (r->waits != WAITS_FOR_VALUE) {
        end_wait(r);
        r->wanted = wanted;
        weft_watch_wait_for_future_init(&r->wait_for, r->rx, is_wanted, &r->wanted, NULL);
    }
    r->is_woken = false;
    r->waker = waker;
    int rc = r->wait_for.future.ops->poll(&r->wait_for.future, fuzz_waker(waker));
    bool fits = value % 4 == r->wanted % 4;
    FUZZ_CHECK(rc == (fits ? 0 : senders ? WEFT_PENDING : -EPIPE));
    r->waits = rc == WEFT_PENDING ? WAITS_FOR_VALUE : WAITS_FOR_NOTHING;
    r->seen = version;
}

static void get(struct receiver *r, bool update)
{
    uint16_t v;
    FUZZ_CHECK((update ? weft_watch_get_and_update(r->rx, &v) : weft_watch_get(r->rx, &v)) == 0);
    drop_value(&v);
    if (update)
        r->seen = version;
}

static void borrow(struct borrow *b, struct receiver *r, bool update)
{
    if (b->is_held) {
        uint16_t v;
        memcpy(&v, b->ref.value, sizeof v);
        FUZZ_CHECK(v == b->value && !dropped[v]);
        weft_watch_ref_release(&b->ref);
        b->is_held = false;
        return;
    }
    if (r->rx == NULL)
        (void)weft_watch_sender_borrow(tx, &b->ref);
    else if (update)
        (void)weft_watch_borrow_and_update(r->rx, &b->ref);
    else
        (void)weft_watch_borrow(r->rx, &b->ref);
    if (r->rx && update)
        r->seen = version;
    b->value = value;
    b->is_held = true;
}

static void mark(struct receiver *r, bool changed)
{
    if (changed)
        weft_watch_mark_changed(r->rx);
    else
        weft_watch_mark_unchanged(r->rx);
    r->seen = version - changed;
}

/* Subscribes, or is a clone of the neighbour, and has seen what that has. */
static void begin(struct receiver *r, unsigned i, uint8_t how)
{
    const struct receiver *other = &receivers[(i + 1) % RECEIVERS];
    if (how % 2 && other->rx) {
        FUZZ_CHECK(weft_watch_receiver_clone(other->rx, &r->rx) == 0);
        r->seen = other->seen;
    } else {
        FUZZ_CHECK(weft_watch_subscribe(tx, &r->rx) == 0);
        r->seen = version;
    }
}

static void act_on(struct receiver *r, unsigned i, unsigned what, uint8_t how)
{
    if (r->rx == NULL) {
        begin(r, i, how);
        return;
    }
    unsigned waker = how / 4 % 2 ? RECEIVERS + 1 + i : i;
    switch (what) {
    case 0:
        poll_changed(r, waker);
        break;
    case 1:
        poll_wait_for(r, waker, how);
        break;
    case 2:
        get(r, how % 2);
        break;
    case 3:
        if (r->waits == WAITS_FOR_NOTHING)
            mark(r, how % 2);
        break;
    case 4:
        end_wait(r);
        break;
    default:
        leave(r);
        break;
    }
}

static void nobody_is_forgotten(void)
{
    for (int i = 0; i < RECEIVERS; i++) {
        struct receiver *r = &receivers[i];
        if (r->rx == NULL)
            continue;
        FUZZ_CHECK(weft_watch_has_changed(r->rx) == (r->seen != version));
        /* The sender that is told nothing leaves a value that may fit, but no version. */
        if (r->waits != WAITS_FOR_NOTHING && !r->is_woken)
            FUZZ_CHECK(r->seen == version && senders > 0);
    }
    if (closed_is_pending && !closed_is_woken)
        FUZZ_CHECK(receiver_count() > 0);
    FUZZ_CHECK(!dropped[value]);
}

static void step(struct fuzz_in *in)
{
    unsigned what = fuzz_below(in, 32);
    unsigned i = fuzz_below(in, RECEIVERS);
    uint8_t how = fuzz_u8(in);
    struct receiver *r = &receivers[i];
    int rc;
    switch (what) {
    case 0:
    case 1:
    case 2:
    case 3:
        send_one();
        break;
    case 4:
        replace();
        break;
    case 5:
        FUZZ_CHECK(weft_watch_send_modify(tx, modify, NULL) == 0);
        version++;
        break;
    case 6:
        rc = weft_watch_send_if_modified(tx, modify_if, how % 2 ? &value : NULL);
        FUZZ_CHECK(rc == how % 2);
        version += how % 2;
        break;
    case 7:
    case 8:
    case 9:
        /* A borrow's receiver may be waiting: only who waits for nothing updates. */
        borrow(&borrows[how % BORROWS], r, how / BORROWS % 2 && r->waits == WAITS_FOR_NOTHING);
        break;
    case 31:
        if (how % 4)
            poll_closed();
        else
            cancel_closed();
        break;
    default:
        act_on(r, i, what % 6, how);
        break;
    }
    note_wakes();
    nobody_is_forgotten();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    weft_watch_options o = {sizeof(uint16_t), clone_value, drop_value};
    value_next = 1;
    value = 0;
    version = 1;
    senders = 1;
    memset(dropped, 0, sizeof dropped);
    memset(receivers, 0, sizeof receivers);
    memset(borrows, 0, sizeof borrows);
    closed_is_pending = closed_is_woken = false;
    for (unsigned i = 0; i <= 2 * RECEIVERS; i++)
        (void)fuzz_was_woken(i); /* forgets the former run */
    for (unsigned i = 0; i < RECEIVERS; i++)
        receivers[i].waker = i;
    FUZZ_CHECK(weft_watch_create(&o, &value, &tx, NULL) == 0);
    while (fuzz_more(&in) && value_next < VALUES - 4)
        step(&in);
    cancel_closed();
    bool sender_first = value_next % 2;
    if (sender_first) {
        weft_watch_sender_unref(tx);
        senders = 0;
        note_wakes();
        for (unsigned i = 0; i < RECEIVERS; i++)
            if (receivers[i].waits != WAITS_FOR_NOTHING)
                FUZZ_CHECK(receivers[i].is_woken);
    }
    for (unsigned i = 0; i < RECEIVERS; i++) {
        if (receivers[i].rx && sender_first)
            poll_changed(&receivers[i], i);
        leave(&receivers[i]);
    }
    if (!sender_first)
        weft_watch_sender_unref(tx);
    for (unsigned i = 0; i < BORROWS; i++)
        if (borrows[i].is_held)
            borrow(&borrows[i], NULL, false);
    for (uint16_t v = 0; v < value_next; v++)
        FUZZ_CHECK(dropped[v] == 1);
    return 0;
}
