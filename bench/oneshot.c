#include "bench.h"

#include <stdatomic.h>

#define EMPTY 0
#define SENT 1 /* anything else: the receiver's waker, with a reference */

static int poll(weft_future *f, weft_waker *waker)
{
    struct bench_oneshot *o = (struct bench_oneshot *)f;
    /* acquire pairs with the release of send, here and below */
    uintptr_t word = atomic_load_explicit(&o->word, memory_order_acquire);
    if (word == SENT)
        return 0;
    if (word != EMPTY && weft_waker_is_same((weft_waker *)word, waker))
        return WEFT_PENDING;
    weft_waker_ref(waker);
    /* Only the receiver stores a waker, so a failed exchange found SENT. */
    if (!atomic_compare_exchange_strong_explicit(&o->word, &word, (uintptr_t)waker,
                                                 memory_order_acq_rel, memory_order_acquire)) {
        weft_waker_unref(waker);
        return 0;
    }
    weft_waker_unref((weft_waker *)word);
    return WEFT_PENDING;
}

static void cancel(weft_future *f)
{
    struct bench_oneshot *o = (struct bench_oneshot *)f;
    uintptr_t word = atomic_load_explicit(&o->word, memory_order_relaxed);
    if (word != SENT && atomic_compare_exchange_strong_explicit(
                            &o->word, &word, EMPTY, memory_order_acq_rel, memory_order_relaxed))
        weft_waker_unref((weft_waker *)word);
}

static const weft_future_ops ops = {poll, cancel, "oneshot"};

void bench_oneshot_init(struct bench_oneshot *o)
{
    o->future.ops = &ops;
    atomic_init(&o->word, EMPTY);
}

void bench_oneshot_send(struct bench_oneshot *o)
{
    uintptr_t word = atomic_exchange_explicit(&o->word, SENT, memory_order_acq_rel);
    if (word != EMPTY)
        weft_waker_wake_unref((weft_waker *)word);
}
