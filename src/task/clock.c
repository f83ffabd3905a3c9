#include "task/clock.h"

#include "task/task.h"

#include <weft/time.h>

void weft__clock_init(struct weft__clock *c, bool is_paused)
{
    weft__lock_init(&c->lock);
    c->paused_ns = WEFT__CLOCK_START_NS;
    c->resumed_ns = 0;
    c->followers = c->next = NULL;
    c->process = weft__sys_process();
    c->may_count = weft__ticker_is_possible();
    weft__a32_store_relaxed(&c->state, is_paused ? WEFT__CLOCK_PAUSED : WEFT__CLOCK_SYSTEM);
}

static void tell_followers(const struct weft__clock *c);

/* Under the lock of `from`, or nobody else knows it. Locks are taken from who leads to who follows,
 * never in a ring: a set that begins a tick follows the one whose tick it lies in. */
static void copy_to(struct weft__clock *c, const struct weft__clock *from)
{
    weft__lock_acquire(&c->lock);
    c->paused_ns = from->paused_ns;
    c->resumed_ns = from->resumed_ns;
    /* relaxed: readers of anything but SYSTEM take the lock */
    weft__a32_store_relaxed(&c->state, weft__a32_load_relaxed(&from->state));
    tell_followers(c);
    weft__lock_release(&c->lock);
}

/* Under the lock, after a change. By recursion: as deep as sets drive each other. */
static void tell_followers(const struct weft__clock *c)
{
    for (struct weft__clock *f = c->followers; f; f = f->next)
        copy_to(f, c);
}

/* Under the lock: what it shows in that state when the system's shows now_ns. It stands still at
 * the end of time. */
static uint64_t shown_at(const struct weft__clock *c, uint32_t state, uint64_t now_ns)
{
    if (state == WEFT__CLOCK_SYSTEM)
        return now_ns;
    if (state == WEFT__CLOCK_PAUSED)
        return c->paused_ns;
    uint64_t shown_ns = weft__add_sat(c->paused_ns, now_ns - c->resumed_ns);
    return shown_ns == WEFT_NEVER ? WEFT_NEVER - 1 : shown_ns;
}

/* Under the lock. */
static uint64_t read_clock(const struct weft__clock *c)
{
    return shown_at(c, weft__a32_load_relaxed(&c->state), weft__sys_now_ns());
}

uint64_t weft__clock_adjusted(struct weft__clock *c)
{
    if (weft__sys_is_ancestor(c->process))
        return read_clock(c);
    weft__lock_acquire(&c->lock);
    uint64_t now_ns = read_clock(c);
    weft__lock_release(&c->lock);
    return now_ns;
}

bool weft__clock_pause(struct weft__clock *c)
{
    weft__lock_acquire(&c->lock);
    uint32_t before = weft__a32_load_relaxed(&c->state);
    bool was_running = before != WEFT__CLOCK_PAUSED;
    if (was_running) {
        /* First the state, then the time: who still finds the clock running has read a time that is
         * no later. seq_cst: see is_paused. */
        weft__a32_store_seq_cst(&c->state, WEFT__CLOCK_PAUSED);
        c->paused_ns = shown_at(c, before, weft__sys_now_ns());
        tell_followers(c);
    }
    weft__lock_release(&c->lock);
    return was_running;
}

bool weft__clock_resume(struct weft__clock *c)
{
    weft__lock_acquire(&c->lock);
    bool was_paused = weft__a32_load_relaxed(&c->state) == WEFT__CLOCK_PAUSED;
    if (was_paused) {
        c->resumed_ns = weft__sys_now_ns();
        weft__a32_store_relaxed(&c->state, WEFT__CLOCK_SHIFTED); /* readers take the lock */
        tell_followers(c);
    }
    weft__lock_release(&c->lock);
    return was_paused;
}

void weft__clock_move(struct weft__clock *c, uint64_t now_ns)
{
    weft__lock_acquire(&c->lock);
    if (weft__a32_load_relaxed(&c->state) == WEFT__CLOCK_PAUSED && now_ns > c->paused_ns) {
        c->paused_ns = now_ns;
        tell_followers(c);
    }
    weft__lock_release(&c->lock);
}

void weft__clock_follow(struct weft__clock *c, struct weft__clock *leader)
{
    if (leader == NULL) {
        struct weft__clock system;
        weft__clock_init(&system, false);
        copy_to(c, &system);
        return;
    }
    weft__lock_acquire(&leader->lock);
    c->next = leader->followers;
    leader->followers = c;
    copy_to(c, leader);
    weft__lock_release(&leader->lock);
}

void weft__clock_leave(struct weft__clock *c, struct weft__clock *leader)
{
    weft__lock_acquire(&leader->lock);
    struct weft__clock **at = &leader->followers;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    weft__lock_release(&leader->lock);
}

uint64_t weft__clock_system_time(struct weft__clock *c, uint64_t deadline_ns)
{
    if (weft__clock_is_systems(c) || deadline_ns == WEFT_NEVER)
        return deadline_ns;
    uint64_t system_ns = WEFT_NEVER;
    weft__lock_acquire(&c->lock);
    uint32_t state = weft__a32_load_relaxed(&c->state);
    if (state != WEFT__CLOCK_PAUSED) {
        uint64_t now_ns = weft__sys_now_ns(), shown_ns = shown_at(c, state, now_ns);
        system_ns = shown_ns >= deadline_ns ? 0 : weft__add_sat(now_ns, deadline_ns - shown_ns);
    }
    weft__lock_release(&c->lock);
    return system_ns;
}

uint64_t weft_now(void)
{
    return weft__now();
}
