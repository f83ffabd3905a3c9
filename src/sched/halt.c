#include "sched/halt.h"

#include <errno.h>

/* Who waits in an exit handler for something that a task should do waits for this long. */
#define HALT_MAX_NS (3 * WEFT_SEC)
/* Between two looks at who stands still. One that takes longer than the most has not been one. */
#define PAUSE_NS (100 * WEFT_US)
#define PAUSE_NS_MOST (10 * WEFT_MS)

void weft__sched_halt(struct weft__sched *s)
{
    uint32_t run = WEFT__STOP_NOT;
    /* seq_cst: who goes to sleep announces it, then looks here; we store, then look for sleepers */
    if (s->is_multi && weft__a32_cas_seq_cst(&s->stop, &run, WEFT__STOP_HALT))
        weft__sched_wake_all(s); /* or they would not be counted */
}

void weft__sched_resume(struct weft__sched *s)
{
    uint32_t halt = WEFT__STOP_HALT;
    /* release pairs with is_stopped() of worker.c: what was done while all stood still, by a
     * destructor that uses the runtime after all, is seen by the next task */
    if (weft__a32_load_relaxed(&s->stop) == WEFT__STOP_HALT &&
        weft__a32_cas_release(&s->stop, &halt, WEFT__STOP_NOT))
        weft__sys_futex_wake(&s->stop, INT32_MAX);
}

void weft__sched_stop(struct weft__sched *s)
{
    /* seq_cst: as in weft__sched_halt(), for who goes to sleep. One that stands still sleeps
     * elsewhere: the process may be exiting on another thread. */
    if (weft__a32_swap_seq_cst(&s->stop, WEFT__STOP_FOR_GOOD) == WEFT__STOP_HALT)
        weft__sys_futex_wake(&s->stop, INT32_MAX);
}

void weft__worker_halt(struct weft__worker *w)
{
    struct weft__sched *s = w->sched;
    uint64_t until_ns = weft__sys_now_ns() + HALT_MAX_NS;
    /* One that halts while it goes out of service is counted as halted: so it is in service, or it
     * would stand for another one. relaxed: before the count, and who sees that sees this. */
    weft__a32_store_relaxed(&w->is_dormant, 0);
    /* release: with what its last task has done */
    weft__a32_add_release(&s->halted, 1);
    while (weft__a32_load_relaxed(&s->stop) == WEFT__STOP_HALT)
        if (weft__sys_futex_wait(&s->stop, WEFT__STOP_HALT, until_ns) == -ETIMEDOUT)
            weft__sched_resume(s);
    weft__a32_sub_relaxed(&s->halted, 1);
}

/* Of those in service; a dormant one runs nothing. One that sleeps in the kernel may do so for
 * long, unlike one that waits for a CPU. The caller's own is told by its thread: blocking in place,
 * or in a local set, the thread is no worker, or another one. */
static uint32_t count_running(struct weft__sched *s, bool counts_sleepers)
{
    int here = weft__sys_thread_id();
    /* seq_cst, and has_no_thread: see start_extra() in monitor.c */
    uint32_t count = weft__a32_load_seq_cst(&s->worker_high), running = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct weft__worker *w = weft__sched_worker(s, i);
        /* acquire pairs with the store of who goes out of service: with what its last task has
         * done. Who came back before it was asked to halt was seen doing so by wake_all(). */
        if (weft__a32_load_seq_cst(&w->has_no_thread) || weft__a32_load_acquire(&w->is_dormant) ||
            weft__worker_thread_id(w) == here)
            continue;
        running += counts_sleepers || !weft__sys_thread_is_asleep(weft__worker_thread_id(w));
    }
    return running;
}

static uint64_t pause_ns(void)
{
    weft__a32 never = {0};
    uint64_t began_ns = weft__sys_now_ns();
    (void)weft__sys_futex_wait(&never, 0, began_ns + PAUSE_NS);
    uint64_t took_ns = weft__sys_now_ns() - began_ns;
    return took_ns < PAUSE_NS_MOST ? took_ns : PAUSE_NS_MOST;
}

uint64_t weft__sched_halt_wait(struct weft__sched *s, uint64_t waited_ns, uint64_t blocked_ns,
                               uint64_t patience_ns)
{
    for (;; waited_ns += pause_ns()) {
        bool is_early = waited_ns < blocked_ns;
        /* acquire pairs with the release of who halts. Those who halt sleep as well. */
        uint32_t halted = is_early ? weft__a32_load_acquire(&s->halted) : 0;
        if (weft__a32_load_relaxed(&s->stop) != WEFT__STOP_HALT || waited_ns >= patience_ns ||
            halted >= count_running(s, is_early))
            return waited_ns;
    }
}
