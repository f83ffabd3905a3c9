/*
 * A mutex and a condition variable against two lists: locks and waits that are given up at each
 * step or polled for another waker, signals, hand-overs.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define SLOTS 10

static weft_mutex mutex;
static weft_cond cond;

/* ---- the model ---- */

struct list {
    unsigned at[SLOTS], len;
};

static bool is_locked;
static struct list lock_queue, cond_queue;

enum state {
    IDLE,
    WANTS_LOCK, /* in lock_queue */
    IS_GIVEN,   /* the lock, and has not looked yet */
    HOLDS,
    WAITS,        /* in cond_queue */
    IS_SIGNALLED, /* and has not looked yet */
};

static struct slot {
    enum state state;
    bool is_in_cond; /* which of the futures */
    bool is_by_one;  /* signalled so: to be passed on */
    bool is_to_wake; /* since the last look */
    unsigned waker;  /* of two, that of the last poll */
    weft_mutex_lock_future lock;
    weft_cond_wait_future wait;
} slots[SLOTS];

static void list_push(struct list *l, unsigned i)
{
    l->at[l->len++] = i;
}

static void list_remove(struct list *l, unsigned i)
{
    for (unsigned at = 0; at < l->len; at++)
        if (l->at[at] == i) {
            l->len--;
            memmove(&l->at[at], &l->at[at + 1], (l->len - at) * sizeof *l->at);
        }
}

static unsigned list_pop(struct list *l)
{
    unsigned i = l->at[0];
    list_remove(l, i);
    return i;
}

static void wake(unsigned i, enum state state)
{
    slots[i].state = state;
    slots[i].is_to_wake = true;
}

static void model_unlock(void)
{
    if (lock_queue.len > 0)
        wake(list_pop(&lock_queue), IS_GIVEN);
    else
        is_locked = false;
}

static void model_signal(bool is_by_one)
{
    if (cond_queue.len == 0)
        return;
    unsigned i = list_pop(&cond_queue);
    slots[i].is_by_one = is_by_one;
    wake(i, IS_SIGNALLED);
}

/* Wants the lock: 0, or WEFT_PENDING. */
static int model_lock(unsigned i)
{
    if (is_locked) {
        slots[i].state = WANTS_LOCK;
        list_push(&lock_queue, i);
        return WEFT_PENDING;
    }
    is_locked = true;
    slots[i].state = HOLDS;
    return 0;
}

/* ---- operations on both ---- */

static weft_future *future_of(struct slot *s)
{
    return s->is_in_cond ? &s->wait.future : &s->lock.future;
}

static int poll_for(unsigned i, weft_future *f, bool other_waker)
{
    slots[i].waker = other_waker ? SLOTS + i : i;
    return f->ops->poll(f, fuzz_waker(slots[i].waker));
}

static void poll_slot(unsigned i, bool other_waker)
{
    struct slot *s = &slots[i];
    int want = WEFT_PENDING;
    switch (s->state) {
    case HOLDS:
        return;
    case IDLE:
        s->is_in_cond = false;
        weft_mutex_lock_future_init(&s->lock, &mutex);
        want = model_lock(i);
        break;
    case IS_SIGNALLED:
        want = model_lock(i);
        break;
    case IS_GIVEN:
        s->state = HOLDS;
        want = 0;
        break;
    case WANTS_LOCK:
    case WAITS:
        break;
    }
    FUZZ_CHECK(poll_for(i, future_of(s), other_waker) == want);
}

static void cancel_slot(unsigned i)
{
    struct slot *s = &slots[i];
    enum state state = s->state;
    if (state == IDLE || state == HOLDS)
        return;
    weft_future_cancel(future_of(s));
    list_remove(&lock_queue, i);
    list_remove(&cond_queue, i);
    s->state = IDLE;
    if (state == IS_GIVEN)
        model_unlock();
    if (s->is_in_cond && state != WAITS && s->is_by_one)
        model_signal(true);
}

static void unlock_slot(unsigned i)
{
    if (slots[i].state != HOLDS)
        return;
    weft_mutex_unlock(&mutex);
    slots[i].state = IDLE;
    model_unlock();
}

static void wait_slot(unsigned i)
{
    struct slot *s = &slots[i];
    if (s->state != HOLDS)
        return;
    s->is_in_cond = true;
    s->is_by_one = false;
    weft_cond_wait_future_init(&s->wait, &cond, &mutex);
    s->state = WAITS;
    list_push(&cond_queue, i);
    model_unlock();
    FUZZ_CHECK(poll_for(i, &s->wait.future, false) == WEFT_PENDING);
}

static void try_slot(unsigned i)
{
    if (slots[i].state != IDLE)
        return;
    FUZZ_CHECK(weft_mutex_try_lock(&mutex) == (is_locked ? -EAGAIN : 0));
    if (is_locked)
        return;
    is_locked = true;
    slots[i].state = HOLDS;
}

static void step(struct fuzz_in *in)
{
    unsigned what = fuzz_below(in, 32);
    unsigned i = fuzz_below(in, SLOTS);
    if (what < 12)
        poll_slot(i, what % 2);
    else if (what < 16)
        cancel_slot(i);
    else if (what < 21)
        unlock_slot(i);
    else if (what < 26)
        wait_slot(i);
    else if (what < 29) {
        weft_cond_signal(&cond);
        model_signal(true);
    } else if (what < 30) {
        weft_cond_broadcast(&cond);
        while (cond_queue.len > 0)
            model_signal(false);
    } else
        try_slot(i);
}

static void check(void)
{
    FUZZ_CHECK(weft_mutex_is_locked(&mutex) == is_locked);
    for (unsigned i = 0; i < SLOTS; i++) {
        for (unsigned w = i; w < 2 * SLOTS; w += SLOTS)
            FUZZ_CHECK(fuzz_was_woken(w) == (slots[i].is_to_wake && slots[i].waker == w));
        slots[i].is_to_wake = false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    memset(slots, 0, sizeof slots);
    lock_queue.len = cond_queue.len = 0;
    is_locked = false;
    weft_mutex_init(&mutex);
    weft_cond_init(&cond);
    while (fuzz_more(&in)) {
        step(&in);
        check();
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        cancel_slot(i);
        check();
    }
    for (unsigned i = 0; i < SLOTS; i++)
        unlock_slot(i);
    check();
    FUZZ_CHECK(!is_locked);
    return 0;
}
