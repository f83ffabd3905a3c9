#include "watched.h"

static int watched_poll(weft_future *f, weft_waker *waker)
{
    struct watched *w = (struct watched *)f;
    int rc = w->inner->ops->poll(w->inner, waker);
    if (rc == WEFT_PENDING)
        __atomic_add_fetch(&w->pending_polls, 1, __ATOMIC_ACQ_REL);
    return rc;
}

static void watched_cancel(weft_future *f)
{
    struct watched *w = (struct watched *)f;
    w->inner->ops->cancel(w->inner);
    __atomic_add_fetch(&w->cancels, 1, __ATOMIC_ACQ_REL);
}

static const weft_future_ops watched_ops = {watched_poll, watched_cancel, "watched"};

void watched_init(struct watched *w, weft_future *inner)
{
    w->future.ops = &watched_ops;
    w->inner = inner;
    w->pending_polls = w->cancels = 0;
}

bool watched_waits(struct watched *w)
{
    return __atomic_load_n(&w->pending_polls, __ATOMIC_ACQUIRE) > 0;
}
