#include "task/state.h"

#include "task/slab.h"

#include <errno.h>

bool weft__task_set_notified_release(struct weft__task *t, uint64_t unit)
{
    uint64_t s = weft__a64_load_relaxed(&t->state), next;
    do {
        if (s & WEFT__TASK_DONE) {
            weft__task_unref_unit(t, unit);
            return false;
        }
        next = s & WEFT__TASK_PARKED ? s & ~WEFT__TASK_PARKED : s | WEFT__TASK_NOTIFIED;
        /* Not done, so the runtime's reference is there and ours is not the last. */
    } while (!weft__a64_cas_weak_acq_rel(&t->state, &s, next - unit));
    return s & WEFT__TASK_PARKED;
}

bool weft__task_set_aborted(struct weft__task *t, uint64_t bits)
{
    uint64_t s = weft__a64_load_relaxed(&t->state), next;
    do {
        if ((s & WEFT__TASK_DONE) || (s & bits) == bits)
            return false;
        next = s & WEFT__TASK_PARKED ? s & ~WEFT__TASK_PARKED : s | WEFT__TASK_NOTIFIED;
    } while (!weft__a64_cas_weak_acq_rel(&t->state, &s, next | bits));
    return s & WEFT__TASK_PARKED;
}

bool weft__task_detach(struct weft__task *t)
{
    uint64_t s = weft__a64_load_acquire(&t->state);
    do {
        if (s & WEFT__TASK_DONE)
            return true; /* acquire: the outcome is readable */
        /* Not done, so the runtime's reference is there and the handle's is not the last. */
    } while (!weft__a64_cas_weak_acq_rel(&t->state, &s, (s & ~WEFT__TASK_HANDLE) - WEFT__TASK_REF));
    return false;
}

bool weft__task_set_done_rejoined(struct weft__task *t, weft_waker **ret_joiner)
{
    uint64_t s = weft__a64_load_relaxed(&t->state), next;
    do {
        if (!(s & WEFT__TASK_HANDLE) && t->outcome != WEFT__OUTCOME_TAKEN)
            return false;
        next = (s & ~(WEFT__TASK_JOINED | WEFT__TASK_NOTIFIED)) | WEFT__TASK_DONE;
        /* With a joiner our reference is kept for now: the joiner may free t once it sees DONE, and
         * join_waker is read only after JOINED was won. Read before, a joiner that took its waker
         * back and set another one meanwhile would leave the same word behind, and the exchange
         * would succeed with the former waker in hand. */
        if (!(s & WEFT__TASK_JOINED))
            next -= WEFT__TASK_REF;
        /* release publishes the result to the joiner's acquire of DONE; acquire pairs with the
         * release in set_joiner: join_waker is readable. */
    } while (!weft__a64_cas_weak_acq_rel(&t->state, &s, next));
    if (s & WEFT__TASK_JOINED) {
        *ret_joiner = weft__aptr_load_relaxed(&t->join_waker);
        weft__task_unref(t);
        return true;
    }
    *ret_joiner = NULL;
    if ((next & WEFT__TASK_REFS_MASK) == 0)
        weft__task_free(t);
    return true;
}

void weft__task_clear_joiner(struct weft__task *t)
{
    /* mutation: join_waker is the joiner's own until the completer takes it with JOINED, and after
     * that is not looked at; the orders here serve none but a caller that goes on to look at the
     * outcome, and all that do load the word again. */
    uint64_t s = weft__a64_load_acquire(&t->state);
    do {
        if (!(s & WEFT__TASK_JOINED))
            return; /* the completer has taken it, with the reference */
        /* mutation: as above */
    } while (
        !weft__a64_cas_weak_acq_rel(&t->state, &s, (s & ~WEFT__TASK_JOINED) | WEFT__TASK_REJOINED));
    weft__task_unref(weft__task_of_waker(weft__aptr_load_relaxed(&t->join_waker)));
}

void weft__task_unref_unit(struct weft__task *t, uint64_t unit)
{
    uint64_t s = weft__a64_sub_acq_rel(&t->state, unit); /* the last one sees all the others did */
    WEFT_DEBUG_ASSERT((s & WEFT__TASK_REFS_MASK) >= unit);
    if ((s & WEFT__TASK_REFS_MASK) == unit)
        weft__task_free(t);
}

static inline void free_slot(struct weft__task *t)
{
    struct weft__core *core = t->core;
    struct weft__slab *slab = core->slab;
    t->generation++;
    /* release: a walker that finds the slot taken again synchronises with that later store; this
     * one keeps ours before it. mutation: a walker that finds 0 looks at nothing else, and one that
     * finds the slot taken again has the lock of the slab between, or one thread for both. */
    weft__a64_store_release(&t->state, 0);
    struct weft__ctx *c = weft__ctx_now();
    weft__slab_free(slab, c && c->cache_core == core ? c->slab_cache : NULL, t);
}

static WEFT__NOINLINE void free_with_cold(struct weft__task *t)
{
    weft__free(t->cold->arg_block);
    weft__free(t->cold);
    t->cold = NULL;
    free_slot(t);
}

void weft__task_free(struct weft__task *t)
{
    if (WEFT__UNLIKELY(t->cold != NULL))
        free_with_cold(t);
    else
        free_slot(t);
}

void weft__task_schedule(struct weft__task *t)
{
    if (WEFT__LIKELY(t->kind <= WEFT__TASK_FUTURE)) {
        t->core->ops->enqueue(t->core, t);
        return;
    }
    /* The swap is the last touch: once the thread sees WOKEN it may go on and end. The futex call
     * names an address only, at worst it wakes a stranger for nothing. release pairs with the
     * acquire in park_thread. */
    if (weft__a32_swap_release(&t->thread_word, WEFT__THREAD_WOKEN) == WEFT__THREAD_SLEEPS)
        weft__sys_futex_wake(&t->thread_word, 1);
}

bool weft__task_hold_parked(struct weft__task *t)
{
    uint64_t s = weft__a64_load_relaxed(&t->state);
    do {
        if (!(s & WEFT__TASK_PARKED))
            return false;
        /* acquire pairs with the release of confirm_parked: the saved context is readable */
    } while (!weft__a64_cas_weak_acquire(&t->state, &s, s & ~WEFT__TASK_PARKED));
    return true;
}

void weft__task_let_go(struct weft__task *t)
{
    if (!weft__task_confirm_parked(t))
        weft__task_schedule(t);
}

static bool is_woken(void *arg)
{
    const struct weft__task *self = arg;
    return weft__a32_load_relaxed(&self->thread_word) != WEFT__THREAD_LOOKS;
}

static void linger(struct weft__task *self)
{
    struct weft__linger *luck = &weft__ctx_get()->luck;
    if (self->core->processors > 1 && weft__linger_is_due(luck))
        weft__linger_learn(luck, !weft__linger(is_woken, self));
}

void weft__task_park_thread_until(struct weft__task *self, uint64_t deadline_ns)
{
    weft__a32_store_relaxed(&self->parked_at, weft__coarse(weft__clock_now(&self->core->clock)));
    if (!weft__task_confirm_parked(self))
        return;
    linger(self);
    uint32_t word = WEFT__THREAD_LOOKS;
    (void)weft__a32_cas_relaxed(&self->thread_word, &word, WEFT__THREAD_SLEEPS);
    while (weft__a32_load_acquire(&self->thread_word) != WEFT__THREAD_WOKEN) {
        /* any other return: look again */
        if (weft__sys_futex_wait(&self->thread_word, WEFT__THREAD_SLEEPS, deadline_ns) !=
            -ETIMEDOUT)
            continue;
        if (weft__task_set_notified(self))
            break;                /* we took ourselves out of PARKED, so nobody owes us the word */
        deadline_ns = WEFT_NEVER; /* somebody was faster: it is about to be stored */
    }
    weft__a32_store_relaxed(&self->thread_word, WEFT__THREAD_LOOKS);
}

void weft__task_park_thread(struct weft__task *self)
{
    weft__task_park_thread_until(self, WEFT_NEVER);
}

/* ---- wakers ---- */

/* Half of what there is room for. One more than all of it would count from nothing again, and the
 * task be freed under those who hold it: a reference that is forgotten at each poll gets there. */
#define WAKERS_MAX (UINT64_C(1) << 63)

weft_waker *weft_waker_ref(weft_waker *w)
{
    if (w) {
        uint64_t s = weft__a64_add_relaxed(&weft__task_of_waker(w)->state, WEFT__TASK_WAKER);
        WEFT_ASSERT(s < WAKERS_MAX); /* 8 million wakers of one task */
    }
    return w;
}

void weft_waker_unref(weft_waker *w)
{
    if (w)
        weft__task_unref_unit(weft__task_of_waker(w), WEFT__TASK_WAKER);
}

void weft_waker_wake(weft_waker *w)
{
    if (w && weft__task_set_notified(weft__task_of_waker(w)))
        weft__task_schedule(weft__task_of_waker(w));
}

void weft_waker_wake_unref(weft_waker *w)
{
    if (w && weft__task_set_notified_release(weft__task_of_waker(w), WEFT__TASK_WAKER))
        weft__task_schedule(weft__task_of_waker(w));
}

void weft__waker_wake_release(weft_waker *w)
{
    if (weft__task_set_notified_release(weft__task_of_waker(w), WEFT__TASK_REF))
        weft__task_schedule(weft__task_of_waker(w));
}

bool weft_waker_is_same(const weft_waker *a, const weft_waker *b)
{
    return a == b;
}
