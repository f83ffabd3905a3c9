#include "time/interval.h"

#include "task/task.h"
#include "time/timers.h"

#include <errno.h>

/* What a wake-up on a busy machine costs is not lateness: else each tick would move the grid a
 * little, and the interval drift like a sleep in a loop. */
#define ON_TIME_NS (5 * WEFT_MS)

static bool is_on_time(uint64_t late_ns, uint64_t period_ns)
{
    return late_ns < ON_TIME_NS && late_ns < period_ns - period_ns / 2;
}

uint64_t weft__interval_next_tick(enum weft_missed_tick missed, uint64_t scheduled_ns,
                                  uint64_t now_ns, uint64_t period_ns)
{
    uint64_t late_ns = now_ns - scheduled_ns;
    switch (missed) {
    case WEFT_MISSED_TICK_BURST:
        break;
    case WEFT_MISSED_TICK_DELAY:
        if (!is_on_time(late_ns, period_ns))
            return weft__add_sat(now_ns, period_ns);
        break;
    case WEFT_MISSED_TICK_SKIP: {
        /* The first on the grid after now: one that is due this moment is missed too, it would be
         * the second at once. */
        uint64_t last_ns = now_ns - late_ns % period_ns;
        return weft__add_sat(last_ns, period_ns);
    }
    }
    return weft__add_sat(scheduled_ns, period_ns);
}

static int null_interval(const char *call, const void *caller)
{
    return weft__misuse(call, -EINVAL, "the interval is NULL", caller);
}

/* ---- init ---- */

static int init_at(const char *call, weft_interval *i, uint64_t start_ns, uint64_t period_ns,
                   const void *caller)
{
    if (i == NULL)
        return null_interval(call, caller);
    i->period_ns = period_ns;
    i->missed = WEFT_MISSED_TICK_BURST;
    if (period_ns != 0)
        return weft__timer_begin(call, &i->timer, start_ns, caller);
    weft__timer_clear(&i->timer);
    return weft__misuse(call, -EINVAL, "the period is 0", caller);
}

int weft_interval_init(weft_interval *i, uint64_t period_ns)
{
    return init_at("weft_interval_init", i, weft_now(), period_ns, WEFT__CALLER);
}

int weft_interval_init_at(weft_interval *i, uint64_t start_ns, uint64_t period_ns)
{
    return init_at("weft_interval_init_at", i, start_ns, period_ns, WEFT__CALLER);
}

void weft_interval_fini(weft_interval *i)
{
    if (i != NULL)
        weft_timer_fini(&i->timer);
}

void weft_interval_set_missed_tick(weft_interval *i, enum weft_missed_tick missed)
{
    if (!weft__is_null("weft_interval_set_missed_tick", i, WEFT__CALLER))
        i->missed = missed;
}

uint64_t weft_interval_period(const weft_interval *i)
{
    return weft__is_null("weft_interval_period", i, WEFT__CALLER) ? 0 : i->period_ns;
}

uint64_t weft_interval_next(const weft_interval *i)
{
    if (weft__is_null("weft_interval_next", i, WEFT__CALLER))
        return WEFT_NEVER;
    return weft__timer_has_ended(&i->timer) ? WEFT_NEVER : weft_timer_deadline(&i->timer);
}

/* ---- ticks ---- */

/* Its time has come. */
static void take(weft_interval *i, uint64_t now_ns, uint64_t *ret_scheduled_ns)
{
    uint64_t scheduled_ns = weft_timer_deadline(&i->timer);
    weft_timer_reset(&i->timer,
                     weft__interval_next_tick(i->missed, scheduled_ns, now_ns, i->period_ns));
    if (ret_scheduled_ns)
        *ret_scheduled_ns = scheduled_ns;
}

static int try_tick(weft_interval *i, uint64_t *ret_scheduled_ns)
{
    if (weft__timer_has_ended(&i->timer))
        return -EINVAL;
    uint64_t now_ns = weft__timer_now(&i->timer);
    if (weft_timer_deadline(&i->timer) > now_ns)
        return -EAGAIN;
    take(i, now_ns, ret_scheduled_ns);
    return 0;
}

int weft_interval_try_tick(weft_interval *i, uint64_t *ret_scheduled_ns)
{
    if (i == NULL)
        return null_interval("weft_interval_try_tick", WEFT__CALLER);
    int rc = try_tick(i, ret_scheduled_ns);
    return rc != -EINVAL
               ? rc
               : weft__misuse("weft_interval_try_tick", rc, "the interval was ended", WEFT__CALLER);
}

static int tick_poll(weft_future *f, weft_waker *waker)
{
    weft_interval_tick_future *t = WEFT__CONTAINER_OF(f, weft_interval_tick_future, future);
    weft_future *timer = &t->interval->timer.future;
    int rc = timer->ops->poll(timer, waker);
    t->is_pending = rc == WEFT_PENDING;
    if (rc == 0)
        take(t->interval, weft__timer_now(&t->interval->timer), t->ret_scheduled_ns);
    return rc;
}

static void tick_cancel(weft_future *f)
{
    weft_interval_tick_future *t = WEFT__CONTAINER_OF(f, weft_interval_tick_future, future);
    if (t->is_pending) /* else, if the timer is armed, another one waits */
        weft_future_cancel(&t->interval->timer.future);
    t->is_pending = false;
}

static const weft_future_ops tick_ops = {tick_poll, tick_cancel, "interval tick"};

void weft_interval_tick_future_init(weft_interval_tick_future *f, weft_interval *i,
                                    uint64_t *ret_scheduled_ns)
{
    *f = (weft_interval_tick_future){
        {i ? &tick_ops : &weft__future_invalid}, i, ret_scheduled_ns, false};
    if (i == NULL)
        (void)null_interval("weft_interval_tick_future_init", WEFT__CALLER); /* said by the poll */
}

int weft_interval_tick(weft_interval *i, uint64_t *ret_scheduled_ns)
{
    if (i == NULL)
        return null_interval("weft_interval_tick", WEFT__CALLER);
    int rc = weft__wait_begin("weft_interval_tick", WEFT__CALLER);
    if (rc < 0)
        return rc;
    rc = try_tick(i, ret_scheduled_ns);
    if (rc == -EINVAL)
        return weft__misuse("weft_interval_tick", rc, "the interval was ended", WEFT__CALLER);
    if (rc == 0)
        return 0;
    weft_interval_tick_future f;
    weft_interval_tick_future_init(&f, i, ret_scheduled_ns);
    return weft__wait_for(&f.future);
}

static int start_tick(weft_case *c)
{
    weft_interval_tick_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr);
    return 0;
}

weft_case weft_case_tick(weft_interval *i, uint64_t *ret_scheduled_ns)
{
    return weft_case_make(start_tick, i, ret_scheduled_ns);
}

/* ---- moving the grid ---- */

static void reset_after(weft_interval *i, uint64_t delay_ns)
{
    weft_timer_reset(&i->timer, weft__add_sat(weft__timer_now(&i->timer), delay_ns));
}

void weft_interval_reset(weft_interval *i)
{
    if (!weft__is_null("weft_interval_reset", i, WEFT__CALLER))
        reset_after(i, i->period_ns);
}

void weft_interval_reset_immediately(weft_interval *i)
{
    if (!weft__is_null("weft_interval_reset_immediately", i, WEFT__CALLER))
        reset_after(i, 0);
}

void weft_interval_reset_after(weft_interval *i, uint64_t delay_ns)
{
    if (!weft__is_null("weft_interval_reset_after", i, WEFT__CALLER))
        reset_after(i, delay_ns);
}

void weft_interval_reset_at(weft_interval *i, uint64_t deadline_ns)
{
    if (!weft__is_null("weft_interval_reset_at", i, WEFT__CALLER))
        weft_timer_reset(&i->timer, deadline_ns);
}
