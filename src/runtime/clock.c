/*
 * Stopping and moving the clock of a runtime: what a task may ask for. The rest is in task/clock.c
 * and sched/paused.c.
 */
#include "sched/sched.h"
#include "sys/lock.h"

#include <weft/clock.h>
#include <weft/time.h>

#include <errno.h>

/* The clock that the caller may stop: the thread that drives the runtime is the only one that moves
 * it, so that no task sees time pass under it. */
static int own_clock(const char *call, struct weft__core **ret_core, const void *caller)
{
    struct weft__ctx *c = weft__ctx_now();
    if (c == NULL || c->core == NULL)
        return weft__misuse(call, -EPERM, "the caller is in no runtime", caller);
    struct weft__core *core = c->core;
    if (weft__is_inherited(call, core->process, caller))
        return -EPERM;
    if (weft__sched_of(core)->is_multi)
        return weft__misuse(call, -EPERM,
                            "the clock of a multi_thread runtime cannot be stopped: tasks of its "
                            "other workers would run on",
                            caller);
    if (c->current == NULL || c->worker == NULL || c->worker->sched != weft__sched_of(core))
        return weft__misuse(call, -EPERM,
                            "the caller is neither a task of the runtime nor the body that drives "
                            "it",
                            caller);
    if (!core->has_time)
        return weft__misuse(call, -EPERM, "time is switched off: weft_config.enable_time", caller);
    *ret_core = core;
    return 0;
}

int weft_clock_pause(void)
{
    struct weft__core *core;
    int rc = own_clock("weft_clock_pause", &core, WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (!weft__clock_pause(&core->clock))
        return weft__misuse("weft_clock_pause", -EINVAL, "the clock is paused already",
                            WEFT__CALLER);
    return 0;
}

int weft_clock_resume(void)
{
    struct weft__core *core;
    int rc = own_clock("weft_clock_resume", &core, WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (!weft__clock_resume(&core->clock))
        return weft__misuse("weft_clock_resume", -EINVAL, "the clock is not paused", WEFT__CALLER);
    return 0;
}

bool weft_clock_is_paused(void)
{
    struct weft__core *core = weft__core_current();
    return core != NULL && weft__clock_is_paused(&core->clock);
}

/* ---- advance ---- */

/* Waits behind all that is due at the new time: for a timer of its own, armed last, on the wheel
 * that comes last. */
struct advance {
    weft_future future;
    struct weft__core *core;
    uint64_t to_ns;
    struct weft__timer timer;
};

static int advance_poll(weft_future *f, weft_waker *waker)
{
    struct advance *a = WEFT__CONTAINER_OF(f, struct advance, future);
    enum weft__timer_fired fired = weft__timer_fired(&a->timer);
    if (fired != WEFT__TIMER_WAITS)
        return fired == WEFT__TIMER_CLOSED ? -ESHUTDOWN : 0;
    if (a->timer.timers == NULL) {
        weft__clock_move(&a->core->clock, a->to_ns);
        /* Nobody need be told: the worker that looks at it is this one. */
        (void)weft__timer_arm(&weft__sched_of(a->core)->outer_timers, &a->timer, a->to_ns, waker);
    }
    return WEFT_PENDING;
}

static void advance_cancel(weft_future *f)
{
    weft__timer_disarm(&WEFT__CONTAINER_OF(f, struct advance, future)->timer);
}

static const weft_future_ops advance_ops = {advance_poll, advance_cancel, "clock advance"};

static int advance(struct weft__core *core, uint64_t duration_ns, const void *caller)
{
    int rc = weft__wait_begin("weft_clock_advance", caller);
    if (rc < 0)
        return rc;
    if (!weft__clock_is_paused(&core->clock))
        return weft__misuse("weft_clock_advance", -EINVAL, "the clock is not paused", caller);
    struct advance a = {
        .future = {&advance_ops},
        .core = core,
        .to_ns = weft__add_sat(weft__clock_now(&core->clock), duration_ns),
    };
    if (a.to_ns == WEFT_NEVER)
        return weft__misuse("weft_clock_advance", -EINVAL, "that is beyond the end of time",
                            caller);
    weft__timer_init(&a.timer);
    return weft__wait_for(&a.future);
}

int weft_clock_advance(uint64_t duration_ns)
{
    struct weft__core *core;
    int rc = own_clock("weft_clock_advance", &core, WEFT__CALLER);
    if (rc < 0)
        return rc;
    /* It takes no time, so no deadline can pass while it waits; those that it makes pass are for
     * the waits after it. */
    struct weft__locals *l = weft__task_current()->locals;
    weft_timeout *hidden = l->timeout;
    l->timeout = NULL;
    rc = advance(core, duration_ns, WEFT__CALLER);
    l->timeout = hidden;
    return rc;
}
