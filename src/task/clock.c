#include "task/clock.h"

#include "task/task.h"

#include <weft/time.h>

void weft__clock_init(struct weft__clock *c, bool is_paused)
{
    weft__lock_init(&c->lock);
    c->paused_ns = WEFT__CLOCK_START_NS;
    c->offset_ns = 0;
    weft__a32_store_relaxed(&c->state, is_paused ? WEFT__CLOCK_PAUSED : WEFT__CLOCK_SYSTEM);
}

/* Under the lock. */
static uint64_t read_clock(const struct weft__clock *c)
{
    if (weft__a32_load_relaxed(&c->state) == WEFT__CLOCK_PAUSED)
        return c->paused_ns;
    return weft__sys_now_ns() + c->offset_ns;
}

uint64_t weft__clock_adjusted(struct weft__clock *c)
{
    weft__lock_acquire(&c->lock);
    uint64_t now_ns = read_clock(c);
    weft__lock_release(&c->lock);
    return now_ns;
}

bool weft__clock_pause(struct weft__clock *c)
{
    weft__lock_acquire(&c->lock);
    bool was_running = weft__a32_load_relaxed(&c->state) != WEFT__CLOCK_PAUSED;
    if (was_running) {
        /* First the state, then the time: who still finds the clock running has read a time that is
         * no later. seq_cst: see is_paused. */
        weft__a32_store_seq_cst(&c->state, WEFT__CLOCK_PAUSED);
        c->paused_ns = weft__sys_now_ns() + c->offset_ns;
    }
    weft__lock_release(&c->lock);
    return was_running;
}

bool weft__clock_resume(struct weft__clock *c)
{
    weft__lock_acquire(&c->lock);
    bool was_paused = weft__a32_load_relaxed(&c->state) == WEFT__CLOCK_PAUSED;
    if (was_paused) {
        c->offset_ns = c->paused_ns - weft__sys_now_ns();
        weft__a32_store_relaxed(&c->state, WEFT__CLOCK_SHIFTED); /* readers take the lock */
    }
    weft__lock_release(&c->lock);
    return was_paused;
}

void weft__clock_move(struct weft__clock *c, uint64_t now_ns)
{
    weft__lock_acquire(&c->lock);
    if (weft__a32_load_relaxed(&c->state) == WEFT__CLOCK_PAUSED && now_ns > c->paused_ns)
        c->paused_ns = now_ns;
    weft__lock_release(&c->lock);
}

void weft__clock_follow(struct weft__clock *c, struct weft__clock *leader)
{
    uint32_t state = WEFT__CLOCK_SYSTEM;
    uint64_t paused_ns = 0, offset_ns = 0;
    if (leader) {
        weft__lock_acquire(&leader->lock);
        state = weft__a32_load_relaxed(&leader->state);
        paused_ns = leader->paused_ns;
        offset_ns = leader->offset_ns;
        weft__lock_release(&leader->lock);
    }
    weft__lock_acquire(&c->lock);
    c->paused_ns = paused_ns;
    c->offset_ns = offset_ns;
    weft__a32_store_relaxed(&c->state, state); /* readers of anything but SYSTEM take the lock */
    weft__lock_release(&c->lock);
}

uint64_t weft__clock_system_time(struct weft__clock *c, uint64_t deadline_ns)
{
    if (WEFT__LIKELY(weft__a32_load_relaxed(&c->state) == WEFT__CLOCK_SYSTEM) ||
        deadline_ns == WEFT_NEVER)
        return deadline_ns;
    uint64_t system_ns = WEFT_NEVER;
    weft__lock_acquire(&c->lock);
    if (weft__a32_load_relaxed(&c->state) != WEFT__CLOCK_PAUSED) {
        uint64_t shown_ns = read_clock(c);
        system_ns = shown_ns >= deadline_ns
                        ? 0
                        : weft__add_sat(shown_ns - c->offset_ns, deadline_ns - shown_ns);
    }
    weft__lock_release(&c->lock);
    return system_ns;
}

uint64_t weft_now(void)
{
    return weft__now();
}
