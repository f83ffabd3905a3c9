/*
 * Notify against a flag, a count and a list: waits that are initialised, enabled, polled by
 * changing tasks and given up; one, last, all.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define SLOTS 12

static weft_notify notify;

/* ---- the model ---- */

static bool is_remembered;
static unsigned calls; /* of weft_notify_waiters() */
static unsigned queue[SLOTS], queue_len;

enum how { BY_ONE, BY_LAST, BY_ALL };
enum state { IDLE, MADE, WAITS, IS_GIVEN };

static struct slot {
    enum state state;
    enum how how;
    unsigned calls;
    int waker; /* who was the last to poll it; -1 nobody */
    weft_notify_wait_future future;
} slots[SLOTS];

static bool is_to_wake[FUZZ_WAKERS];

static void take_out(unsigned at)
{
    queue_len--;
    memmove(&queue[at], &queue[at + 1], (queue_len - at) * sizeof *queue);
}

static void give(unsigned at, enum how how)
{
    struct slot *s = &slots[queue[at]];
    s->state = IS_GIVEN;
    s->how = how;
    if (s->waker >= 0)
        is_to_wake[s->waker] = true;
    take_out(at);
}

static void model_notify(enum how how)
{
    if (queue_len == 0)
        is_remembered = true;
    else
        give(how == BY_LAST ? queue_len - 1 : 0, how);
}

/* What polling or enabling a future that does not wait yet comes to. */
static void model_begin(unsigned i)
{
    struct slot *s = &slots[i];
    s->state = IS_GIVEN;
    if (s->calls != calls) {
        s->how = BY_ALL;
    } else if (is_remembered) {
        s->how = BY_ONE;
        is_remembered = false;
    } else {
        s->state = WAITS;
        queue[queue_len++] = i;
    }
}

/* ---- operations on both ---- */

static void make_slot(unsigned i)
{
    struct slot *s = &slots[i];
    if (s->state != IDLE)
        return;
    weft_notify_wait_future_init(&s->future, &notify);
    s->state = MADE;
    s->calls = calls;
    s->waker = -1;
}

static void poll_slot(unsigned i, unsigned waker)
{
    struct slot *s = &slots[i];
    make_slot(i);
    if (s->state == MADE)
        model_begin(i);
    bool is_ready = s->state == IS_GIVEN;
    int rc = s->future.future.ops->poll(&s->future.future, fuzz_waker(waker));
    FUZZ_CHECK(rc == (is_ready ? 0 : WEFT_PENDING));
    s->waker = (int)waker;
    if (is_ready)
        s->state = IDLE;
}

static void enable_slot(unsigned i)
{
    struct slot *s = &slots[i];
    make_slot(i);
    if (s->state == MADE)
        model_begin(i);
    FUZZ_CHECK(weft_notify_wait_future_enable(&s->future) == (s->state == IS_GIVEN));
}

static void cancel_slot(unsigned i)
{
    struct slot *s = &slots[i];
    enum state state = s->state;
    s->state = IDLE;
    if (state != WAITS && state != IS_GIVEN)
        return; /* nothing to undo */
    weft_future_cancel(&s->future.future);
    for (unsigned at = 0; at < queue_len; at++)
        if (queue[at] == i)
            take_out(at);
    if (state == IS_GIVEN && s->how != BY_ALL)
        model_notify(s->how);
}

static void step(struct fuzz_in *in)
{
    unsigned what = fuzz_below(in, 32);
    unsigned i = fuzz_below(in, SLOTS);
    if (what < 9)
        poll_slot(i, fuzz_below(in, FUZZ_WAKERS));
    else if (what < 12)
        make_slot(i);
    else if (what < 16)
        enable_slot(i);
    else if (what < 21)
        cancel_slot(i);
    else if (what < 25) {
        weft_notify_one(&notify);
        model_notify(BY_ONE);
    } else if (what < 28) {
        weft_notify_last(&notify);
        model_notify(BY_LAST);
    } else if (what < 30) {
        weft_notify_waiters(&notify);
        calls++;
        while (queue_len > 0)
            give(0, BY_ALL);
    } else {
        FUZZ_CHECK(weft_notify_try_wait(&notify) == (is_remembered ? 0 : -EAGAIN));
        is_remembered = false;
    }
}

static void check(void)
{
    for (unsigned i = 0; i < FUZZ_WAKERS; i++) {
        FUZZ_CHECK(fuzz_was_woken(i) == is_to_wake[i]);
        is_to_wake[i] = false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    memset(slots, 0, sizeof slots);
    weft_notify_init(&notify);
    is_remembered = false;
    calls = queue_len = 0;
    while (fuzz_more(&in)) {
        step(&in);
        check();
    }
    for (unsigned i = 0; i < SLOTS; i++)
        cancel_slot(i);
    check();
    FUZZ_CHECK(weft_notify_try_wait(&notify) == (is_remembered ? 0 : -EAGAIN));
    return 0;
}
