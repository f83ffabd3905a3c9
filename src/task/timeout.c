#include "task/timeout.h"

#include "task/panic.h"

#include <errno.h>

/* opaque[0]: the scope that expired first around this one. opaque[1]: the core whose wheel the
 * timer is armed on, or NULL. The rest is the timer. */
static weft_timeout *saved(const weft_timeout *t)
{
    return t->opaque[0];
}

static void disarm(struct weft__locals *l, weft_timeout *t)
{
    struct weft__core *core = t->opaque[1];
    if (core) {
        /* In a forked child a thread that is not there may have the lock of the wheel, which nobody
         * goes through. */
        if (WEFT__LIKELY(!weft__core_is_ancestral(core)))
            core->ops->timeout_disarm(t);
        t->opaque[1] = NULL;
        l->armed_scopes--;
    }
}

/* False: it was entered, but nothing will end it, for time is switched off. */
static inline __attribute__((always_inline)) bool enter(weft_timeout *t, uint64_t deadline_ns)
{
    struct weft__locals *l = weft__locals_now();
    const struct weft__core *core = weft__core_waiting();
    t->deadline_ns = deadline_ns;
    t->expired = false;
    t->left = false;
    /* Where nothing can wait the scope is an empty one. */
    t->entered = core != NULL;
    if (core == NULL)
        return true;
    t->opaque[0] = l->timeout;
    t->opaque[1] = NULL;
    t->outer = l->timeout_top;
    l->timeout_top = t;
    /* The earliest wins; of equals the outer one, which then ends what it encloses. */
    if (l->timeout == NULL || deadline_ns < l->timeout->deadline_ns)
        l->timeout = t;
    return core->has_time || deadline_ns == WEFT_NEVER;
}

static WEFT__COLD void report_no_time(const char *call, const void *caller)
{
    (void)weft__misuse(call, -EPERM,
                       "time is switched off, so nothing ends what waits inside: "
                       "weft_config.enable_time",
                       caller);
}

void weft__timeout_enter_until(weft_timeout *t, uint64_t deadline_ns)
{
    (void)enter(t, deadline_ns); /* said of the user's scope that it follows */
}

void weft_timeout_enter_until(weft_timeout *t, uint64_t deadline_ns)
{
    if (WEFT__UNLIKELY(!enter(t, deadline_ns)))
        report_no_time("weft_timeout_enter_until", WEFT__CALLER);
}

void weft_timeout_enter(weft_timeout *t, uint64_t duration_ns)
{
    if (WEFT__UNLIKELY(!enter(t, weft__add_sat(weft__now_for(duration_ns), duration_ns))))
        report_no_time("weft_timeout_enter", WEFT__CALLER);
}

void weft_timeout_leave(weft_timeout *t)
{
    if (t->left)
        return;
    t->left = true;
    if (!t->entered)
        return;
    struct weft__locals *l = weft__locals_now();
    disarm(l, t);
    if (WEFT__UNLIKELY(l->timeout_top != t)) {
        (void)weft__misuse("weft_timeout_leave", -EINVAL,
                           "scopes must be left in reverse order; those inside are left too",
                           WEFT__CALLER);
        while (l->timeout_top && l->timeout_top != t) {
            weft_timeout *inner = l->timeout_top;
            inner->left = true;
            disarm(l, inner);
            l->timeout_top = inner->outer;
        }
    }
    l->timeout_top = t->outer;
    l->timeout = saved(t);
}

bool weft_timeout_is_expired(const weft_timeout *t)
{
    return t->expired;
}

uint64_t weft_timeout_remaining(void)
{
    struct weft__locals *l = weft__locals_now();
    if (l->timeout == NULL || l->timeout->deadline_ns == WEFT_NEVER)
        return WEFT_NEVER;
    /* As the scope was entered: never more than its duration. */
    uint64_t now_ns = weft__now_for(WEFT_NEVER);
    return l->timeout->deadline_ns > now_ns ? l->timeout->deadline_ns - now_ns : 0;
}

void weft__timeouts_drop(struct weft__locals *l, weft_timeout *until)
{
    while (l->timeout_top != until && l->timeout_top != NULL) {
        disarm(l, l->timeout_top);
        l->timeout_top = l->timeout_top->outer;
    }
    l->timeout = NULL;
}

void weft__timeouts_shift(struct weft__locals *l, uint64_t from_ns, uint64_t to_ns)
{
    for (weft_timeout *t = l->timeout_top; t; t = t->outer) {
        uint64_t left_ns = t->deadline_ns > from_ns ? t->deadline_ns - from_ns : 0;
        if (t->deadline_ns != WEFT_NEVER)
            t->deadline_ns = weft__add_sat(to_ns, left_ns);
    }
}

uint32_t weft__timeouts_armed(const weft_timeout *innermost)
{
    uint32_t n = 0;
    for (const weft_timeout *t = innermost; t; t = t->outer)
        n += t->opaque[1] != NULL;
    return n;
}

void weft__timeouts_forget(struct weft__locals *l)
{
    for (weft_timeout *t = l->timeout_top; t; t = t->outer)
        disarm(l, t);
}

bool weft__timeout_check_now(struct weft__task *self)
{
    weft_timeout *t = self->locals->timeout;
    if (t->deadline_ns > weft__clock_now(&self->core->clock))
        return false;
    t->expired = true;
    return true;
}

int weft__timeout_check(struct weft__task *self)
{
    weft_timeout *t = self->locals->timeout;
    if (t->deadline_ns == WEFT_NEVER)
        return 0;
    if (t->opaque[1] == NULL) {
        struct weft__core *core = self->core;
        if (!core->has_time) /* nobody would look at the timer */
            return weft__timeout_check_now(self) ? -ETIMEDOUT : 0;
        if (core->ops->timeout_arm(core, t, weft__task_waker(self)) < 0) {
            t->expired = true;
            return -ETIMEDOUT;
        }
        /* no reference: the task lives in its slab, and the slab in its core */
        t->opaque[1] = core;
        self->locals->armed_scopes++;
        return 0;
    }
    int rc = self->core->ops->timeout_state(t);
    if (rc == -ETIMEDOUT)
        t->expired = true;
    return rc;
}
