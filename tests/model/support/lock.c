/*
 * The lock of models, in place of src/sys/lock.c: a blocked locker is not runnable, and does not
 * spin, which would cost the search a hundred steps. The uncontended half is the real one.
 * tests/model/test_lock.c runs the real lock: this file stands alone so that it is not linked
 * there.
 */
#include "sys/lock.h"

#include "model.h"
#include "model_internal.h"

static bool lock_is_free(void *arg)
{
    struct weft__lock *l = arg;
    return atomic_load_explicit(&l->word.v, memory_order_relaxed) == 0;
}

void weft__lock_slow(struct weft__lock *l)
{
    model_wait(lock_is_free, l, "lock");
    atomic_store_explicit(&l->word.v, 1, memory_order_relaxed);
}

void weft__lock_wake(struct weft__lock *l)
{
    (void)l; /* the word is never 2: the blocked look at it */
}

unsigned weft__lock_held_count(void)
{
    return *model__locks_held();
}

void weft__lock_count_add(int delta)
{
    unsigned *count = model__locks_held();
    WEFT_ASSERT(delta > 0 || *count > 0);
    *count += (unsigned)delta;
}
