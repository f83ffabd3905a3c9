/*
 * The delay queue against a sorted list: items put in, taken back, put off and taken; time that
 * passes; waits that are polled, polled for another waker, and cancelled; compact, clear and
 * reserve.
 */
#include "fuzz.h"

#include "sched/sched.h"
#include "time/delay_queue.h"

#include <errno.h>
#include <string.h>

#define ITEMS_MAX 512
#define WAITS 8

static struct weft__core *core;
static weft_delay_queue *queue;

/* ---- the model ---- */

/* In the order in which they come out. */
static struct {
    weft_delay_key key;
    uint64_t deadline_ns;
    uint16_t id;
} sorted[ITEMS_MAX];
static unsigned count;

static unsigned issued;
static uint8_t ended[ITEMS_MAX]; /* times an item was delivered or destroyed */

static struct {
    weft_delay_queue_next_future future;
    uint32_t item;
    bool is_pending, is_over; /* over: the queue was empty meanwhile */
    bool was_woken;           /* since it was polled */
    unsigned waker;
} waits[WAITS];
static unsigned turn[WAITS], turns; /* those that are pending, first come first */

static void add(weft_delay_key key, uint64_t deadline_ns, uint16_t id)
{
    unsigned at = count++;
    for (; at > 0 && sorted[at - 1].deadline_ns > deadline_ns; at--)
        sorted[at] = sorted[at - 1];
    sorted[at].key = key;
    sorted[at].deadline_ns = deadline_ns;
    sorted[at].id = id;
}

static void take_out(unsigned at)
{
    memmove(&sorted[at], &sorted[at + 1], (--count - at) * sizeof *sorted);
}

static void no_turn(unsigned wait)
{
    unsigned at = 0;
    while (turn[at] != wait)
        at++;
    memmove(&turn[at], &turn[at + 1], (--turns - at) * sizeof *turn);
    waits[wait].is_pending = false;
}

/* ---- the queue ---- */

static uint64_t now(void)
{
    return weft__clock_now(&core->clock);
}

static void drop(void *item)
{
    uint32_t id;
    memcpy(&id, item, sizeof id);
    ended[id]++;
}

static void start(void)
{
    weft_config c;
    weft_runtime *rt;
    static weft_enter_guard guard;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
    c.start_paused = true;
    FUZZ_CHECK(weft_runtime_create(&c, &rt) == 0);
    core = (struct weft__core *)weft_runtime_handle(rt);
    FUZZ_CHECK(weft_enter((weft_handle *)core, &guard) == 0);
}

/* Close together and far apart, in the past, now, never. */
static uint64_t some_deadline(struct fuzz_in *in)
{
    uint64_t n = fuzz_u8(in);
    switch (n % 8) {
    case 0:
        return now();
    case 1:
        return now() - n;
    case 2:
        return WEFT_NEVER;
    case 3:
        return now() + (n << 20);
    case 4:
        return now() + (UINT64_C(1) << n % 50);
    default:
        return now() + n / 8;
    }
}

static void insert(struct fuzz_in *in)
{
    uint32_t id = issued;
    weft_delay_key key;
    uint64_t deadline_ns = some_deadline(in);
    if (issued == ITEMS_MAX)
        return;
    issued++;
    FUZZ_CHECK(weft_delay_queue_insert_at(queue, &id, deadline_ns, &key) == 0);
    add(key, deadline_ns, (uint16_t)id);
}

static void reset(struct fuzz_in *in)
{
    if (count == 0)
        return;
    unsigned at = fuzz_u8(in) % count;
    weft_delay_key key = sorted[at].key;
    uint16_t id = sorted[at].id;
    uint64_t deadline_ns = some_deadline(in);
    FUZZ_CHECK(weft_delay_queue_reset_at(queue, key, deadline_ns) == 0);
    take_out(at);
    add(key, deadline_ns, id);
}

static weft_delay_key spent; /* of some item that is gone */

static void taken(unsigned at, uint32_t id, weft_delay_key key)
{
    FUZZ_CHECK(id == sorted[at].id);
    FUZZ_CHECK(key.id == sorted[at].key.id && key.slot == sorted[at].key.slot);
    ended[id]++;
    spent = key;
    take_out(at);
}

static void remove_one(struct fuzz_in *in)
{
    uint32_t id = 0;
    FUZZ_CHECK(weft_delay_queue_try_remove(queue, spent, &id) == -ENOENT);
    if (count == 0)
        return;
    unsigned at = fuzz_u8(in) % count;
    weft_delay_key key = sorted[at].key;
    FUZZ_CHECK(weft_delay_queue_remove(queue, key, &id) == 0);
    taken(at, id, key);
}

static void try_next(void)
{
    uint32_t id = 0;
    weft_delay_entry e;
    int rc = weft_delay_queue_try_next(queue, &id, &e);
    if (count == 0) {
        FUZZ_CHECK(rc == -ENODATA);
    } else if (sorted[0].deadline_ns > now()) {
        FUZZ_CHECK(rc == -EAGAIN);
    } else {
        FUZZ_CHECK(rc == 0 && e.deadline_ns == sorted[0].deadline_ns);
        taken(0, id, e.key);
    }
}

static void pass_time(struct fuzz_in *in)
{
    uint64_t to_ns = some_deadline(in);
    if (to_ns == WEFT_NEVER)
        to_ns = count && sorted[0].deadline_ns != WEFT_NEVER ? sorted[0].deadline_ns : now();
    if (to_ns > now() + (UINT64_C(1) << 45))
        return; /* many inputs share the clock */
    weft__clock_move(&core->clock, to_ns);
    (void)weft__timers_expire(&weft__sched_of(core)->outer_timers, now());
}

static void poll_one(struct fuzz_in *in)
{
    unsigned i = fuzz_u8(in);
    unsigned waker = i % (2 * WAITS);
    i %= WAITS;
    if (!waits[i].is_pending && !waits[i].is_over)
        weft_delay_queue_next_future_init(&waits[i].future, queue, &waits[i].item, NULL);
    bool leads = turns == 0 || turn[0] == i;
    (void)fuzz_was_woken(waker);
    int rc = waits[i].future.future.ops->poll(&waits[i].future.future, fuzz_waker(waker));
    waits[i].waker = waker;
    waits[i].was_woken = false;
    if (waits[i].is_over) {
        FUZZ_CHECK(rc == -ENODATA);
        waits[i].is_over = false;
    } else if (count == 0) {
        FUZZ_CHECK(rc == -ENODATA && !waits[i].is_pending);
    } else if (leads && sorted[0].deadline_ns <= now()) {
        FUZZ_CHECK(rc == 0);
        if (waits[i].is_pending)
            no_turn(i);
        taken(0, waits[i].item, sorted[0].key);
    } else {
        FUZZ_CHECK(rc == WEFT_PENDING);
        if (!waits[i].is_pending)
            turn[turns++] = i;
        waits[i].is_pending = true;
    }
}

static void cancel(unsigned i)
{
    if (!waits[i].is_pending && !waits[i].is_over)
        return;
    weft_future_cancel(&waits[i].future.future);
    if (waits[i].is_pending)
        no_turn(i);
    waits[i].is_over = false;
}

static void clear(void)
{
    weft_delay_queue_clear(queue);
    for (unsigned i = 0; i < count; i++)
        FUZZ_CHECK(ended[sorted[i].id] == 1);
    count = 0;
}

/* After each step. */
static void compare(void)
{
    weft__delay_heap_check(&queue->heap);
    FUZZ_CHECK(weft_delay_queue_len(queue) == count);
    weft_delay_entry e;
    FUZZ_CHECK(weft_delay_queue_peek(queue, &e) == (count ? 0 : -ENODATA));
    FUZZ_CHECK(count == 0 || e.key.id == sorted[0].key.id);
    for (unsigned i = 0; i < WAITS; i++)
        waits[i].was_woken |= fuzz_was_woken(waits[i].waker);
    if (count == 0)
        while (turns > 0) {
            unsigned i = turn[0];
            no_turn(i);
            waits[i].is_over = true;
            FUZZ_CHECK(waits[i].was_woken);
        }
    /* Whoever leads and has something to take knows it. */
    if (turns > 0 && sorted[0].deadline_ns <= now())
        FUZZ_CHECK(waits[turn[0]].was_woken);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    if (core == NULL)
        start();
    FUZZ_CHECK(weft_delay_queue_create(sizeof(uint32_t), drop, &queue) == 0);
    count = issued = turns = 0;
    memset(ended, 0, sizeof ended);
    memset(waits, 0, sizeof waits);
    spent = (weft_delay_key){0};
    for (unsigned i = 0; i < WAITS; i++)
        waits[i].waker = i;
    while (fuzz_more(&in)) {
        switch (fuzz_below(&in, 16)) {
        case 0:
        case 1:
        case 2:
        case 3:
            insert(&in);
            break;
        case 4:
        case 5:
            reset(&in);
            break;
        case 6:
            remove_one(&in);
            break;
        case 7:
            try_next();
            break;
        case 8:
        case 9:
            pass_time(&in);
            break;
        case 10:
        case 11:
        case 12:
            poll_one(&in);
            break;
        case 13:
            cancel(fuzz_below(&in, WAITS));
            break;
        case 14:
            FUZZ_CHECK(weft_delay_queue_compact(queue) == 0);
            break;
        default:
            if (fuzz_u8(&in) % 4 == 0)
                clear();
            else
                FUZZ_CHECK(weft_delay_queue_reserve(queue, fuzz_u8(&in)) == 0);
        }
        compare();
    }
    for (unsigned i = 0; i < WAITS; i++)
        cancel(i);
    weft_delay_queue_unref(queue);
    for (unsigned i = 0; i < issued; i++)
        FUZZ_CHECK(ended[i] == 1);
    FUZZ_CHECK(weft__a64_load_relaxed(&weft__sched_of(core)->outer_timers.count) == 0);
    return 0;
}
