#include "task/task.h"

#include "sys/sys.h"
#include "task/spawn.h"
#include "task/timeout.h"

__thread struct weft__ctx *weft__tls_ctx
    __attribute__((visibility("hidden"), used, tls_model("initial-exec")));

static __thread struct weft__ctx tls_storage __attribute__((tls_model("initial-exec")));

/* The out-of-line accessor: for sanitizer builds, which do not see the loads of an asm, and other
 * architectures. */
WEFT__NOINLINE struct weft__ctx *weft__ctx_load(void)
{
    struct weft__ctx *c = weft__tls_ctx;
    __asm__ volatile("" : "+r"(c)); /* keeps two calls two */
    return c;
}

WEFT__NOINLINE struct weft__ctx *weft__ctx_get(void)
{
    if (weft__tls_ctx == NULL)
        weft__tls_ctx = &tls_storage;
    struct weft__ctx *c = weft__tls_ctx;
    __asm__ volatile("" : "+r"(c));
    return c;
}

uint64_t weft__random_here(void)
{
    struct weft__ctx *c = weft__ctx_get();
    if (c->rng == NULL) {
        c->own_rng = weft__sys_random() | 1;
        c->rng = &c->own_rng;
    }
    return weft__random_next(c->rng);
}

uint64_t weft__thread_here(void)
{
    static weft__a64 last;
    struct weft__ctx *c = weft__ctx_get();
    if (c->thread == 0)
        c->thread = weft__a64_add_relaxed(&last, 1) + 1;
    return c->thread;
}

/* ---- guards ---- */

/* What weft_enter_guard.opaque holds. */
struct guard_state {
    struct weft__core *entered;
    struct weft__core *core_before;
    weft_enter_guard *outer;
    struct weft__core *local_before;
};
_Static_assert(sizeof(struct guard_state) <= sizeof(((weft_enter_guard *)0)->opaque),
               "weft_enter_guard.opaque is too small");

static struct guard_state *state_of(const weft_enter_guard *g)
{
    return (struct guard_state *)(uintptr_t)g->opaque;
}

/* As scopes are entered, so that no more is left of one than its duration. */
static uint64_t now_in(struct weft__ctx *c, struct weft__core *core)
{
    return core ? weft__clock_about(&core->clock, &c->ticker) : weft__sys_now_ns();
}

static bool has_systems_clock(const struct weft__core *core)
{
    return core == NULL || weft__clock_is_systems(&core->clock);
}

/* The thread's own deadlines go by the clock of what it is in: on that of another runtime what was
 * left of each is left still. Timers that are armed are so on the former one; the next wait arms
 * them anew. */
static void change_core(struct weft__ctx *c, struct weft__core *core)
{
    struct weft__core *before = c->core;
    c->core = core;
    if (WEFT__LIKELY(c->locals.timeout_top == NULL) || before == core ||
        (has_systems_clock(before) && has_systems_clock(core)))
        return;
    weft__timeouts_forget(&c->locals);
    weft__timeouts_shift(&c->locals, now_in(c, before), now_in(c, core));
}

void weft__guard_enter(struct weft__ctx *c, weft_enter_guard *g, struct weft__core *entered,
                       struct weft__core *core, struct weft__core *local)
{
    weft__core_ref(entered);
    entered->ops->count_outside(entered, 1);
    *state_of(g) = (struct guard_state){entered, c->core, c->guards, c->local};
    c->guards = g;
    change_core(c, core);
    c->local = local;
}

static void leave_innermost(struct weft__ctx *c)
{
    struct guard_state g = *state_of(c->guards);
    /* What the thread waits as outside the guard stays: it may be waiting, the guard being entered
     * by the poll of its future, or by a hook that the poll came to. */
    if (c->thread_task == NULL || c->thread_task->core != g.core_before)
        weft__thread_task_drop(c);
    change_core(c, g.core_before);
    c->guards = g.outer;
    c->local = g.local_before;
    g.entered->ops->count_outside(g.entered, -1);
    weft__core_unref(g.entered);
}

void weft__guards_leave(struct weft__ctx *c, const weft_enter_guard *until)
{
    while (c->guards != until)
        leave_innermost(c);
}

weft_enter_guard *weft__guard_outer(const weft_enter_guard *g)
{
    return state_of(g)->outer;
}

bool weft__guard_is_entered(const struct weft__ctx *c, const weft_enter_guard *g)
{
    const weft_enter_guard *at = c->guards;
    while (at && at != g)
        at = state_of(at)->outer;
    return at == g;
}
