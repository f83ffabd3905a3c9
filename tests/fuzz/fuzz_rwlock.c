/*
 * A read-write lock against two counts and a list: readers, writers, those who give up or are
 * polled for another waker, downgrades, upgrades.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define SLOTS 12

static weft_rwlock lock;

/* ---- the model ---- */

static unsigned readers, readers_max;
static bool is_written;
static unsigned queue[SLOTS], queue_len;

enum state { IDLE, WAITS, IS_GIVEN, READS, WRITES };

static struct slot {
    enum state state;
    bool wants_to_write;
    bool is_to_wake; /* since the last look */
    unsigned waker;  /* of two, that of the last poll */
    weft_rwlock_future future;
} slots[SLOTS];

static bool is_free_for(bool writer)
{
    return !is_written && (writer ? readers == 0 : readers < readers_max);
}

static void model_take(bool writer)
{
    if (writer)
        is_written = true;
    else
        readers++;
}

static void take_out(unsigned at)
{
    queue_len--;
    memmove(&queue[at], &queue[at + 1], (queue_len - at) * sizeof *queue);
}

static void serve(void)
{
    while (queue_len > 0 && is_free_for(slots[queue[0]].wants_to_write)) {
        struct slot *s = &slots[queue[0]];
        model_take(s->wants_to_write);
        s->state = IS_GIVEN;
        s->is_to_wake = true;
        take_out(0);
    }
}

static void give_back(bool writer)
{
    if (writer)
        is_written = false;
    else
        readers--;
    serve();
}

static bool model_try(bool writer)
{
    if (queue_len > 0 || !is_free_for(writer))
        return false;
    model_take(writer);
    return true;
}

/* ---- operations on both ---- */

static void poll_slot(unsigned i, bool writer, bool other_waker)
{
    struct slot *s = &slots[i];
    if (s->state >= READS)
        return;
    bool is_ready = s->state == IS_GIVEN;
    if (s->state == IDLE) {
        s->wants_to_write = writer;
        if (writer)
            weft_rwlock_write_future_init(&s->future, &lock);
        else
            weft_rwlock_read_future_init(&s->future, &lock);
        is_ready = model_try(writer);
        if (!is_ready) {
            s->state = WAITS;
            queue[queue_len++] = i;
        }
    }
    s->waker = other_waker ? SLOTS + i : i;
    int rc = s->future.future.ops->poll(&s->future.future, fuzz_waker(s->waker));
    FUZZ_CHECK(rc == (is_ready ? 0 : WEFT_PENDING));
    if (is_ready)
        s->state = s->wants_to_write ? WRITES : READS;
}

static void cancel_slot(unsigned i)
{
    struct slot *s = &slots[i];
    if (s->state != WAITS && s->state != IS_GIVEN)
        return;
    weft_future_cancel(&s->future.future);
    if (s->state == IS_GIVEN)
        give_back(s->wants_to_write);
    for (unsigned at = 0; at < queue_len; at++)
        if (queue[at] == i)
            take_out(at);
    s->state = IDLE;
    serve();
}

static void try_slot(unsigned i, bool writer)
{
    struct slot *s = &slots[i];
    if (s->state != IDLE)
        return;
    bool is_ready = model_try(writer);
    int rc = writer ? weft_rwlock_try_write(&lock) : weft_rwlock_try_read(&lock);
    FUZZ_CHECK(rc == (is_ready ? 0 : -EAGAIN));
    if (is_ready)
        s->state = writer ? WRITES : READS;
}

static void unlock_slot(unsigned i)
{
    struct slot *s = &slots[i];
    if (s->state < READS)
        return;
    if (s->state == WRITES)
        weft_rwlock_write_unlock(&lock);
    else
        weft_rwlock_read_unlock(&lock);
    bool writer = s->state == WRITES;
    s->state = IDLE;
    give_back(writer);
}

static bool answer(void *arg)
{
    FUZZ_CHECK(weft_rwlock_try_read(&lock) == -EAGAIN);
    return *(bool *)arg;
}

enum { UNASKED, MAY_NOT, MAY };

static void downgrade_slot(unsigned i, unsigned how)
{
    struct slot *s = &slots[i];
    bool may = how == MAY;
    if (s->state != WRITES)
        return;
    if (how == UNASKED)
        weft_rwlock_downgrade(&lock);
    else
        FUZZ_CHECK(weft_rwlock_try_downgrade(&lock, answer, &may) == (may ? 0 : -EAGAIN));
    if (how == MAY_NOT)
        return;
    s->state = READS;
    is_written = false;
    readers = 1;
    serve();
}

static void upgrade_slot(unsigned i)
{
    struct slot *s = &slots[i];
    if (s->state != READS)
        return;
    bool is_alone = readers == 1 && queue_len == 0;
    FUZZ_CHECK(weft_rwlock_try_upgrade(&lock) == (is_alone ? 0 : -EAGAIN));
    if (!is_alone)
        return;
    s->state = WRITES;
    readers = 0;
    is_written = true;
}

static void step(struct fuzz_in *in)
{
    unsigned what = fuzz_below(in, 32);
    unsigned i = fuzz_below(in, SLOTS);
    bool writer = fuzz_below(in, 3) == 0;
    if (what < 12)
        poll_slot(i, writer, what % 2);
    else if (what < 16)
        cancel_slot(i);
    else if (what < 18)
        try_slot(i, writer);
    else if (what < 26)
        unlock_slot(i);
    else if (what < 29)
        downgrade_slot(i, fuzz_below(in, 3));
    else
        upgrade_slot(i);
}

static void check(void)
{
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
    readers = queue_len = 0;
    is_written = false;
    readers_max = fuzz_below(&in, 6);
    if (readers_max > 0) {
        FUZZ_CHECK(weft_rwlock_init_with(&lock, readers_max) == 0);
    } else {
        weft_rwlock_init(&lock);
        readers_max = WEFT_RWLOCK_READERS_MAX;
    }
    while (fuzz_more(&in)) {
        step(&in);
        check();
    }
    for (unsigned i = 0; i < SLOTS; i++)
        cancel_slot(i);
    for (unsigned i = 0; i < SLOTS; i++)
        unlock_slot(i);
    check();
    FUZZ_CHECK(weft_rwlock_try_write(&lock) == 0);
    return 0;
}
