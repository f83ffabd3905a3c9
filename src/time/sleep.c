#include "task/task.h"
#include "time/slack.h"
#include "time/timers.h"

#include <weft/select.h>
#include <weft/time.h>

#include <errno.h>

/* ---- sleep ---- */

struct sleep {
    weft_future future;
    struct weft__core *core;
    uint64_t deadline_ns;
    struct weft__timer timer;
};

static int fired_result(enum weft__timer_fired fired)
{
    return fired == WEFT__TIMER_CLOSED ? -ESHUTDOWN : 0;
}

/* A fiber polls with one waker only, its own, so an armed timer needs no new one. */
static int sleep_poll(weft_future *f, weft_waker *waker)
{
    struct sleep *s = WEFT__CONTAINER_OF(f, struct sleep, future);
    if (s->timer.timers == NULL && weft__timer_fired(&s->timer) == WEFT__TIMER_WAITS) {
        weft__timer_arm_here(s->core, &s->timer, s->deadline_ns, waker);
        return WEFT_PENDING;
    }
    enum weft__timer_fired fired = weft__timer_fired(&s->timer);
    if (fired == WEFT__TIMER_WAITS)
        return WEFT_PENDING;
    return fired_result(fired);
}

static void sleep_cancel(weft_future *f)
{
    weft__timer_disarm(&WEFT__CONTAINER_OF(f, struct sleep, future)->timer);
}

static const weft_future_ops sleep_ops = {sleep_poll, sleep_cancel, "sleep"};

int weft__time_is_on(const char *call, const struct weft__core *core, const void *caller)
{
    if (!core->has_time)
        return weft__misuse(call, -EPERM, "time is switched off: weft_config.enable_time", caller);
    if (weft__is_inherited(call, core->process, caller))
        return -EPERM;
    if (weft__a32_load_acquire(&core->phase) == WEFT__PHASE_DOWN)
        return weft__misuse(call, -ESHUTDOWN, "the runtime is shut down", caller);
    return 0;
}

static int sleep_until(const char *call, uint64_t now_ns, uint64_t deadline_ns, uint64_t slack_ns,
                       const void *caller)
{
    int rc = weft__wait_begin(call, caller);
    if (rc < 0)
        return rc;
    struct sleep s;
    s.core = weft__core_waiting();
    rc = weft__time_is_on(call, s.core, caller);
    if (rc < 0 || deadline_ns <= now_ns)
        return rc;
    s.future.ops = &sleep_ops;
    s.deadline_ns = weft__slack_deadline(deadline_ns, slack_ns);
    weft__timer_init(&s.timer);
    return weft__wait_for(&s.future);
}

int weft_sleep(uint64_t duration_ns)
{
    uint64_t now_ns = weft__now_for(duration_ns);
    return weft__stay_for(
        sleep_until("weft_sleep", now_ns, weft__add_sat(now_ns, duration_ns), 0, WEFT__CALLER));
}

int weft_sleep_slack(uint64_t duration_ns, uint64_t slack_ns)
{
    uint64_t now_ns = weft__now_for(duration_ns);
    return weft__stay_for(sleep_until("weft_sleep_slack", now_ns,
                                      weft__add_sat(now_ns, duration_ns), slack_ns, WEFT__CALLER));
}

int weft_sleep_until(uint64_t deadline_ns)
{
    return weft__stay_for(
        sleep_until("weft_sleep_until", weft__now(), deadline_ns, 0, WEFT__CALLER));
}

/* ---- timers as futures ---- */

struct timer {
    struct weft__core *core; /* a reference, so that the wheel it is armed on stays; NULL: ended */
    uint64_t deadline_ns, slack_ns;
    struct weft__timer timer;
    uint64_t armed_ns; /* what the wheel was given; see adopt(). Before: when it was made */
    uint64_t begun_in; /* of a sleep future; see begins_anew() */
};

_Static_assert(sizeof(struct timer) <= sizeof(((weft_timer *)0)->opaque),
               "weft_timer.opaque is too small");

static struct timer *timer_of(const weft_timer *t)
{
    return (struct timer *)(uintptr_t)t->opaque;
}

static void arm(struct timer *t, weft_waker *waker)
{
    t->armed_ns = weft__slack_deadline(t->deadline_ns, t->slack_ns);
    weft__timer_arm_here(t->core, &t->timer, t->armed_ns, waker);
}

/* Once it has fired or was disarmed. While it was armed its wheel may have come to another clock
 * (weft__timers_shift()), on which what was left was left still; the deadline is on that one now,
 * for who goes on from it. */
static void adopt(struct timer *t)
{
    uint64_t shown_ns = t->timer.entry.deadline_ns;
    if (shown_ns == WEFT_NEVER) /* it was not armed, or has none */
        return;
    t->deadline_ns += shown_ns - t->armed_ns;
    t->armed_ns = shown_ns;
}

static int poll_timer(struct timer *t, weft_waker *waker)
{
    enum weft__timer_fired fired = weft__timer_fired(&t->timer);
    if (fired == WEFT__TIMER_WAITS && weft__is_inherited("timer", t->core->process, NULL))
        return -EPERM; /* nobody would ever fire it */
    if (fired == WEFT__TIMER_WAITS && t->timer.timers) {
        weft__timer_set_waker(&t->timer, waker);
        /* It may have fired for the former waker between the look and the lock. */
        fired = weft__timer_fired(&t->timer);
        if (fired == WEFT__TIMER_WAITS)
            return WEFT_PENDING;
    }
    if (fired != WEFT__TIMER_WAITS) {
        adopt(t);
        return fired_result(fired);
    }
    if (t->deadline_ns <= weft__clock_now(&t->core->clock))
        return 0;
    arm(t, waker);
    return WEFT_PENDING;
}

static int timer_poll(weft_future *f, weft_waker *waker)
{
    struct timer *t = timer_of(WEFT__CONTAINER_OF(f, weft_timer, future));
    if (t->core == NULL)
        return -EINVAL;
    int rc = poll_timer(t, waker);
    /* Its time passes all the same. (A sleep future has no reference to ask by, once its runtime is
     * down.) */
    return rc == -ESHUTDOWN && t->deadline_ns <= weft__clock_now(&t->core->clock) ? 0 : rc;
}

static void timer_cancel(weft_future *f)
{
    struct timer *t = timer_of(WEFT__CONTAINER_OF(f, weft_timer, future));
    weft__timer_disarm(&t->timer);
    adopt(t);
}

static const weft_future_ops timer_ops = {timer_poll, timer_cancel, "timer"};

void weft__timer_clear(weft_timer *timer)
{
    struct timer *t = timer_of(timer);
    timer->future.ops = &timer_ops;
    t->core = NULL;
    t->deadline_ns = WEFT_NEVER;
    t->slack_ns = 0;
    weft__timer_init(&t->timer);
}

int weft__timer_begin(const char *call, weft_timer *timer, uint64_t deadline_ns, const void *caller)
{
    weft__timer_clear(timer);
    struct weft__core *core = weft__core_waiting();
    if (core == NULL)
        return weft__misuse(call, -EPERM, "the caller is in no runtime", caller);
    int rc = weft__time_is_on(call, core, caller);
    if (rc < 0)
        return rc;
    struct timer *t = timer_of(timer);
    weft__core_ref(core);
    t->core = core;
    t->deadline_ns = deadline_ns;
    return 0;
}

int weft_timer_init(weft_timer *timer, uint64_t deadline_ns)
{
    if (timer == NULL)
        return weft__misuse("weft_timer_init", -EINVAL, "the timer is NULL", WEFT__CALLER);
    return weft__timer_begin("weft_timer_init", timer, deadline_ns, WEFT__CALLER);
}

bool weft__timer_has_ended(const weft_timer *timer)
{
    return timer_of(timer)->core == NULL;
}

uint64_t weft__timer_now(const weft_timer *timer)
{
    const struct timer *t = timer_of(timer);
    return t->core ? weft__clock_now(&t->core->clock) : weft_now();
}

void weft_timer_reset(weft_timer *timer, uint64_t deadline_ns)
{
    if (weft__is_null("weft_timer_reset", timer, WEFT__CALLER))
        return;
    struct timer *t = timer_of(timer);
    weft_waker *waker = t->timer.waker;
    bool was_armed = t->timer.timers != NULL && weft__timer_fired(&t->timer) == WEFT__TIMER_WAITS;
    weft__timer_disarm(&t->timer);
    was_armed = was_armed && weft__timer_fired(&t->timer) == WEFT__TIMER_WAITS;
    t->deadline_ns = deadline_ns;
    weft__timer_init(&t->timer);
    /* Who waits already has been promised a wake-up, but in a forked child, where it is a copy. */
    if (was_armed && !weft__core_is_ancestral(t->core))
        arm(t, waker);
}

void weft_timer_set_slack(weft_timer *timer, uint64_t slack_ns)
{
    if (!weft__is_null("weft_timer_set_slack", timer, WEFT__CALLER))
        timer_of(timer)->slack_ns = slack_ns;
}

bool weft_timer_is_elapsed(const weft_timer *timer)
{
    if (weft__is_null("weft_timer_is_elapsed", timer, WEFT__CALLER))
        return false;
    const struct timer *t = timer_of(timer);
    return weft__timer_fired(&t->timer) == WEFT__TIMER_FIRED ||
           t->deadline_ns <= weft__timer_now(timer);
}

uint64_t weft_timer_deadline(const weft_timer *timer)
{
    if (weft__is_null("weft_timer_deadline", timer, WEFT__CALLER))
        return WEFT_NEVER;
    return timer_of(timer)->deadline_ns;
}

void weft_timer_fini(weft_timer *timer)
{
    if (timer == NULL)
        return;
    struct timer *t = timer_of(timer);
    if (t->core == NULL)
        return;
    weft__timer_disarm(&t->timer);
    weft__core_unref(t->core);
    t->core = NULL;
}

/* ---- sleeps as futures ---- */

/* The same memory. But the core is that of whoever polls, and no reference: it polls on, or
 * cancels, so it is there longer than the timer is armed. */
static struct timer *sleep_of(weft_future *f)
{
    _Static_assert(sizeof(struct timer) <= sizeof(((weft_sleep_future *)0)->opaque),
                   "weft_sleep_future.opaque is too small");
    return (struct timer *)(void *)WEFT__CONTAINER_OF(f, weft_sleep_future, future)->opaque;
}

#define BEGUN_ANYWHERE UINT64_MAX

/* The runtime whose clock is asked, and whether that is the system's. */
static uint64_t place_of(const struct weft__core *core)
{
    bool is_systems = core == NULL || weft__clock_is_systems(&core->clock);
    return (core ? core->id : 0) << 1 | is_systems;
}

/* At the first poll, in `core`: the duration was added to the time of another clock. */
static bool begins_anew(const struct timer *t, const struct weft__core *core)
{
    if (t->begun_in == BEGUN_ANYWHERE || t->deadline_ns == WEFT_NEVER)
        return false;
    uint64_t here = place_of(core);
    return t->begun_in >> 1 != here >> 1 && !(t->begun_in & here & 1);
}

static int sleep_future_poll(weft_future *f, weft_waker *waker)
{
    struct timer *t = sleep_of(f);
    if (t->core == NULL) {
        struct weft__core *core = weft__core_waiting();
        if (core == NULL)
            return weft__misuse("weft_sleep_future", -EPERM, "the caller is in no runtime",
                                WEFT__CALLER);
        int rc = weft__time_is_on("weft_sleep_future", core, WEFT__CALLER);
        if (rc < 0)
            return rc;
        t->core = core;
        if (WEFT__UNLIKELY(begins_anew(t, core))) /* armed_ns: when it was made */
            t->deadline_ns =
                weft__add_sat(weft__clock_now(&core->clock), t->deadline_ns - t->armed_ns);
    }
    return poll_timer(t, waker);
}

static void sleep_future_cancel(weft_future *f)
{
    weft__timer_disarm(&sleep_of(f)->timer);
}

static const weft_future_ops sleep_future_ops = {sleep_future_poll, sleep_future_cancel, "sleep"};

static void sleep_future_init(weft_sleep_future *f, uint64_t deadline_ns, uint64_t now_ns,
                              uint64_t begun_in)
{
    f->future.ops = &sleep_future_ops;
    struct timer *t = sleep_of(&f->future);
    t->core = NULL;
    t->deadline_ns = deadline_ns;
    t->slack_ns = 0;
    t->armed_ns = now_ns;
    t->begun_in = begun_in;
    weft__timer_init(&t->timer);
}

void weft_sleep_future_init_until(weft_sleep_future *f, uint64_t deadline_ns)
{
    sleep_future_init(f, deadline_ns, 0, BEGUN_ANYWHERE);
}

void weft_sleep_future_init(weft_sleep_future *f, uint64_t duration_ns)
{
    uint64_t now_ns = weft_now();
    sleep_future_init(f, weft__add_sat(now_ns, duration_ns), now_ns,
                      place_of(weft__core_current()));
}

static int start_sleep(weft_case *c)
{
    weft_sleep_future_init(weft_case_storage(c), c->arg[0].u64);
    return 0;
}

weft_case weft_case_sleep(uint64_t duration_ns)
{
    weft_case c = weft_case_make(start_sleep, NULL, NULL);
    c.arg[0].u64 = duration_ns;
    return c;
}

static int start_sleep_until(weft_case *c)
{
    weft_sleep_future_init_until(weft_case_storage(c), c->arg[0].u64);
    return 0;
}

weft_case weft_case_sleep_until(uint64_t deadline_ns)
{
    weft_case c = weft_case_make(start_sleep_until, NULL, NULL);
    c.arg[0].u64 = deadline_ns;
    return c;
}
