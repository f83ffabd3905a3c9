/*
 * Timers with wakers against a list: armed, disarmed, given another waker, fired by time or the
 * earliest alone, shifted to another clock, closed.
 */
#include "fuzz.h"

#include "time/timers.h"

#define TIMERS 48

static struct weft__timers timers;
static struct weft__timer timer[TIMERS];

/* ---- the model ---- */

static struct {
    uint64_t deadline_ns;
    unsigned waker;
    enum weft__timer_fired fired;
    bool is_armed;
} model[TIMERS];
static uint64_t now_ns;
static bool is_closed;

static uint64_t earliest(void)
{
    uint64_t ns = WEFT_NEVER;
    for (unsigned i = 0; i < TIMERS; i++)
        if (model[i].is_armed && model[i].deadline_ns < ns)
            ns = model[i].deadline_ns;
    return ns;
}

static uint64_t armed(void)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < TIMERS; i++)
        n += model[i].is_armed;
    return n;
}

/* What fired since the last look, in the model as well. Returns how many; each was due at until_ns,
 * and its waker was woken, and no other. */
static unsigned look(uint64_t until_ns)
{
    unsigned n = 0;
    bool woken[FUZZ_WAKERS] = {false};
    for (unsigned i = 0; i < TIMERS; i++) {
        enum weft__timer_fired fired = weft__timer_fired(&timer[i]);
        if (fired == model[i].fired)
            continue;
        FUZZ_CHECK(model[i].is_armed);
        FUZZ_CHECK(fired == (is_closed ? WEFT__TIMER_CLOSED : WEFT__TIMER_FIRED));
        FUZZ_CHECK(is_closed || model[i].deadline_ns <= until_ns);
        model[i].is_armed = false;
        model[i].fired = fired;
        woken[model[i].waker] = true;
        n++;
    }
    for (unsigned w = 0; w < FUZZ_WAKERS; w++)
        FUZZ_CHECK(fuzz_was_woken(w) == woken[w]);
    return n;
}

/* ---- the timers ---- */

static uint64_t some_time(struct fuzz_in *in)
{
    uint64_t n = fuzz_u8(in);
    switch (n % 8) {
    case 0:
        return n < now_ns ? now_ns - n : 0;
    case 1:
        return n < 128 ? WEFT_NEVER : WEFT_NEVER - n;
    case 2:
        return weft__add_sat(now_ns, UINT64_C(1) << n / 4);
    case 3:
        return weft__add_sat(now_ns | 1023, n);
    default:
        return weft__add_sat(now_ns, n / 8 * 100);
    }
}

static void arm(struct fuzz_in *in)
{
    unsigned i = fuzz_below(in, TIMERS);
    uint64_t deadline_ns = some_time(in);
    if (model[i].is_armed)
        return;
    uint64_t before_ns = earliest();
    model[i].deadline_ns = deadline_ns;
    model[i].waker = fuzz_below(in, FUZZ_WAKERS);
    model[i].fired = WEFT__TIMER_WAITS;
    model[i].is_armed = true;
    weft__timer_disarm(&timer[i]); /* its owner is done with the last time */
    weft__timer_init(&timer[i]);
    bool tell = weft__timer_arm(&timers, &timer[i], deadline_ns, fuzz_waker(model[i].waker));
    /* Whoever sleeps until before_ns, or until something earlier, hears of a time before it. */
    FUZZ_CHECK(is_closed ? !tell
                         : deadline_ns >= before_ns || tell ||
                               weft__a64_load_relaxed(&timers.next_ns) <= deadline_ns);
    FUZZ_CHECK(look(0) == is_closed);
}

static void disarm(struct fuzz_in *in)
{
    unsigned i = fuzz_below(in, TIMERS);
    weft__timer_disarm(&timer[i]);
    model[i].is_armed = false;
    FUZZ_CHECK(weft__timer_fired(&timer[i]) == model[i].fired);
}

static void set_waker(struct fuzz_in *in)
{
    unsigned i = fuzz_below(in, TIMERS);
    unsigned waker = fuzz_below(in, FUZZ_WAKERS);
    if (!model[i].is_armed)
        return;
    model[i].waker = waker;
    weft__timer_set_waker(&timer[i], fuzz_waker(waker));
}

static void expire(uint64_t until_ns)
{
    if (until_ns == WEFT_NEVER || until_ns < now_ns)
        return;
    now_ns = until_ns;
    unsigned n = weft__timers_expire(&timers, now_ns);
    FUZZ_CHECK(look(now_ns) == n && earliest() > now_ns);
}

static void fire_earliest(struct fuzz_in *in)
{
    unsigned max = fuzz_below(in, 4), same = 0;
    uint64_t first_ns = earliest();
    for (unsigned i = 0; i < TIMERS; i++)
        same += first_ns != WEFT_NEVER && model[i].is_armed && model[i].deadline_ns == first_ns;
    bool was_due = first_ns <= now_ns;
    unsigned n = weft__timers_fire_earliest(&timers, max);
    if (max > 0 && first_ns != WEFT_NEVER && first_ns > now_ns)
        now_ns = first_ns;
    FUZZ_CHECK(n <= max);
    FUZZ_CHECK(look(now_ns) == n);
    /* What is overdue is due, in the order in which it came. */
    FUZZ_CHECK(was_due ? n >= (same < max ? same : max) : n == (same < max ? same : max));
}

static void shift(struct fuzz_in *in)
{
    uint64_t to_ns = now_ns / 2 + ((uint64_t)fuzz_u8(in) << fuzz_below(in, 50));
    for (unsigned i = 0; i < TIMERS; i++) {
        uint64_t was_ns = model[i].deadline_ns;
        if (model[i].is_armed && was_ns != WEFT_NEVER)
            model[i].deadline_ns = weft__add_sat(to_ns, was_ns > now_ns ? was_ns - now_ns : 0);
    }
    weft__timers_shift(&timers, now_ns, to_ns);
    now_ns = to_ns;
    FUZZ_CHECK(look(0) == 0);
}

static void compare(void)
{
    uint64_t first_ns = earliest();
    weft__wheel_check(&timers.wheel);
    FUZZ_CHECK(weft__timers_earliest(&timers) == first_ns);
    FUZZ_CHECK(weft__a64_load_relaxed(&timers.count) == armed());
    /* May be early, for a timer that is gone; never late. */
    FUZZ_CHECK(weft__a64_load_relaxed(&timers.next_ns) <= (first_ns < now_ns ? now_ns : first_ns));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    now_ns = (uint64_t)fuzz_u8(&in) << fuzz_below(&in, 56);
    is_closed = false;
    weft__timers_init(&timers, now_ns);
    for (unsigned i = 0; i < TIMERS; i++) {
        weft__timer_init(&timer[i]);
        model[i].fired = WEFT__TIMER_WAITS;
        model[i].is_armed = false;
    }
    for (unsigned w = 0; w < FUZZ_WAKERS; w++)
        (void)fuzz_was_woken(w);
    while (fuzz_more(&in)) {
        switch (fuzz_below(&in, 16)) {
        case 0:
        case 1:
            disarm(&in);
            break;
        case 2:
            set_waker(&in);
            break;
        case 3:
        case 4:
            expire(some_time(&in));
            break;
        case 5:
            expire(earliest());
            break;
        case 6:
        case 7:
            fire_earliest(&in);
            break;
        case 8:
            shift(&in);
            break;
        case 9:
            if (fuzz_u8(&in) >= 16)
                break;
            is_closed = true;
            weft__timers_close(&timers);
            (void)look(0);
            FUZZ_CHECK(armed() == 0);
            break;
        default:
            arm(&in);
        }
        compare();
    }
    is_closed = true;
    weft__timers_close(&timers);
    (void)look(0);
    FUZZ_CHECK(armed() == 0);
    for (unsigned i = 0; i < TIMERS; i++)
        weft__timer_disarm(&timer[i]);
    return 0;
}
