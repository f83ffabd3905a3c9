/*
 * A semaphore against a number and a list of those who wait: acquires that wait, are polled for
 * another waker and given up, permits as values that are split, merged, forgotten and released,
 * close.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define SLOTS 12

static weft_semaphore semaphore;

/* ---- the model ---- */

static size_t available;
static bool is_closed;
static unsigned queue[SLOTS], queue_len;

enum state { IDLE, WAITS, IS_GIVEN, IS_CLOSED };

static struct slot {
    enum state state;
    size_t wanted;
    bool is_to_wake; /* since the last look */
    unsigned waker;  /* of two, that of the last poll */
    weft_semaphore_acquire_future future;
    weft_permit permit; /* what it holds */
} slots[SLOTS];

static void wake(unsigned i, enum state state)
{
    slots[i].state = state;
    slots[i].is_to_wake = true;
}

static void take_out(unsigned at)
{
    queue_len--;
    memmove(&queue[at], &queue[at + 1], (queue_len - at) * sizeof *queue);
}

static void serve(void)
{
    while (queue_len > 0 && slots[queue[0]].wanted <= available) {
        available -= slots[queue[0]].wanted;
        wake(queue[0], IS_GIVEN);
        take_out(0);
    }
}

static void give_back(size_t n)
{
    available += n;
    serve();
}

static int model_try(size_t n)
{
    if (is_closed)
        return -EPIPE;
    if (n > 0 && (queue_len > 0 || available < n))
        return -EAGAIN;
    available -= n;
    return 0;
}

/* ---- operations on both ---- */

static void hold(struct slot *s)
{
    weft_permit more = {&semaphore, s->wanted};
    FUZZ_CHECK(weft_permit_merge(&s->permit, &more) == 0);
    FUZZ_CHECK(more.count == 0);
    s->state = IDLE;
}

static void poll_slot(unsigned i, size_t n, bool other_waker)
{
    struct slot *s = &slots[i];
    int want = WEFT_PENDING;
    bool is_new = s->state == IDLE;
    if (is_new) {
        s->wanted = n;
        weft_semaphore_acquire_future_init(&s->future, &semaphore, n);
        want = model_try(n);
        if (want == -EAGAIN) {
            want = WEFT_PENDING;
            s->state = WAITS;
            queue[queue_len++] = i;
        }
    } else if (s->state != WAITS) {
        want = s->state == IS_GIVEN ? 0 : -EPIPE;
    }
    s->waker = other_waker ? SLOTS + i : i;
    FUZZ_CHECK(s->future.future.ops->poll(&s->future.future, fuzz_waker(s->waker)) == want);
    if (want == 0)
        hold(s);
    else if (want == -EPIPE)
        s->state = IDLE;
}

static void cancel_slot(unsigned i)
{
    struct slot *s = &slots[i];
    if (s->state == IDLE)
        return;
    weft_future_cancel(&s->future.future);
    if (s->state == IS_GIVEN)
        give_back(s->wanted);
    for (unsigned at = 0; at < queue_len; at++)
        if (queue[at] == i)
            take_out(at);
    s->state = IDLE;
    serve();
}

static void try_slot(unsigned i, size_t n)
{
    weft_permit p;
    int want = model_try(n);
    FUZZ_CHECK(weft_permit_try_acquire(&semaphore, n, &p) == want);
    if (want == 0)
        FUZZ_CHECK(weft_permit_merge(&slots[i].permit, &p) == 0);
}

static void release_slot(unsigned i, size_t n)
{
    weft_permit part, *p = &slots[i].permit;
    size_t before = p->count;
    int rc = weft_permit_split(p, n, &part);
    FUZZ_CHECK(rc == (n <= before ? 0 : -EINVAL));
    if (rc == 0) {
        weft_permit_release(&part);
        give_back(n);
    } else {
        weft_permit_release(p);
        give_back(before);
    }
}

static void move_permits(unsigned from, unsigned to)
{
    size_t total = slots[from].permit.count;
    if (from != to)
        total += slots[to].permit.count;
    FUZZ_CHECK(weft_permit_merge(&slots[to].permit, &slots[from].permit) == 0);
    FUZZ_CHECK(slots[to].permit.count == total);
}

static void close_both(void)
{
    weft_semaphore_close(&semaphore);
    is_closed = true;
    while (queue_len > 0) {
        wake(queue[0], IS_CLOSED);
        take_out(0);
    }
}

static void fill_up(void)
{
    if (queue_len > 0)
        return; /* what the first takes makes room */
    FUZZ_CHECK(weft_semaphore_add_permits(&semaphore, WEFT_SEMAPHORE_MAX - available) == 0);
    FUZZ_CHECK(weft_semaphore_add_permits(&semaphore, 1) == -EINVAL);
    FUZZ_CHECK(weft_semaphore_forget_permits(&semaphore, WEFT_SEMAPHORE_MAX - available) ==
               WEFT_SEMAPHORE_MAX - available);
}

static void step(struct fuzz_in *in)
{
    unsigned what = fuzz_below(in, 64);
    unsigned i = fuzz_below(in, SLOTS);
    size_t n = fuzz_below(in, 6);
    if (what < 20)
        poll_slot(i, n, what % 2);
    else if (what < 28)
        cancel_slot(i);
    else if (what < 36)
        try_slot(i, n);
    else if (what < 48)
        release_slot(i, n);
    else if (what < 52) {
        weft_semaphore_release(&semaphore, n);
        give_back(n);
    } else if (what < 55) {
        size_t taken = n < available ? n : available;
        FUZZ_CHECK(weft_semaphore_forget_permits(&semaphore, n) == taken);
        available -= taken;
    } else if (what < 58)
        move_permits(i, fuzz_below(in, SLOTS));
    else if (what < 60)
        weft_permit_forget(&slots[i].permit);
    else if (what < 61)
        close_both();
    else
        fill_up();
}

static void check(void)
{
    FUZZ_CHECK(weft_semaphore_available(&semaphore) == available);
    FUZZ_CHECK(weft_semaphore_is_closed(&semaphore) == is_closed);
    for (unsigned i = 0; i < SLOTS; i++) {
        for (unsigned w = i; w < 2 * SLOTS; w += SLOTS)
            FUZZ_CHECK(fuzz_was_woken(w) == (slots[i].is_to_wake && slots[i].waker == w));
        slots[i].is_to_wake = false;
    }
}

static void ignore(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)line, (void)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    weft_log_set(ignore, NULL);
    memset(slots, 0, sizeof slots);
    available = fuzz_below(&in, 8);
    is_closed = false;
    queue_len = 0;
    FUZZ_CHECK(weft_semaphore_init(&semaphore, available) == 0);
    while (fuzz_more(&in)) {
        step(&in);
        check();
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        cancel_slot(i);
        give_back(slots[i].permit.count);
        weft_permit_release(&slots[i].permit);
    }
    check();
    return 0;
}
