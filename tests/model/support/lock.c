/*
 * The lock of models, in place of src/sys/lock.c: a blocked locker is not runnable, and does not
 * spin, which would cost the search a hundred steps. The uncontended half is the real one.
 * tests/model/test_lock.c runs the real lock: this file stands alone so that it is not linked
 * there.
 */
#include "sys/lock.h"

#include "model_internal.h"

/* That a locker sees the word as it was earlier, fails, and comes here, changes nothing. */
void weft__model_lock_word(struct weft__lock *l)
{
    model__lock_mark(&l->word);
}

static bool lock_is_free(void *arg)
{
    struct weft__lock *l = arg;
    return atomic_load_explicit(&l->word.v, memory_order_relaxed) == 0;
}

void weft__lock_slow(struct weft__lock *l)
{
    (void)model__block(lock_is_free, l, WEFT_NEVER, &l->word, "lock"); /* there is no deadline */
    model__lock_take(&l->word);
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
