/*
 * The slow half of the lock.
 */
#include "sys/lock.h"

/* Looks at a lock that is held, with so many pauses before the next one, doubled each time up to
 * the most. Two to seven microseconds in all (a pause of x86 is 20 to 45 ns): longer than a section
 * that the lock guards, shorter than to sleep and be woken. Far apart, since a look takes the line
 * away from the holder, who needs it to release: docs/performance.md has what that costs. */
#define LOOKS 7
#define PAUSES_FIRST 4
#define PAUSES_MAX 32

#ifndef NDEBUG
static __thread unsigned held_count;

/* Accessors with the barrier of STYLE.md: a thread that holds no lock may change under a fiber. */
WEFT__NOINLINE WEFT__NO_TSAN unsigned weft__lock_held_count(void)
{
    unsigned count = held_count;
    __asm__ volatile("" : "+r"(count));
    return count;
}

WEFT__NOINLINE WEFT__NO_TSAN void weft__lock_count_add(int delta)
{
    unsigned *count = &held_count;
    __asm__ volatile("" : "+r"(count));
    WEFT_ASSERT(delta > 0 || *count > 0); /* released by a thread that does not hold it */
    *count += (unsigned)delta;
}
#endif

#ifdef WEFT_MODEL
static weft__a32 *flag_of_thread(void)
{
    return NULL;
}
#else
static __thread weft__a32 *sleeps;

WEFT__NOINLINE WEFT__NO_TSAN void weft__lock_tell(weft__a32 *flag)
{
    weft__a32 **here = &sleeps;
    __asm__ volatile("" : "+r"(here));
    *here = flag;
}

static WEFT__NOINLINE WEFT__NO_TSAN weft__a32 *flag_of_thread(void)
{
    weft__a32 *flag = sleeps;
    __asm__ volatile("" : "+r"(flag));
    return flag;
}
#endif

/* True: it has the lock. */
static bool spin(struct weft__lock *l)
{
    unsigned pauses = PAUSES_FIRST;
    for (int i = 0; i < LOOKS; i++) {
        /* Look before trying: a compare-exchange takes the line, whether it fails or not. */
        uint32_t word = weft__a32_load_relaxed(&l->word);
        if (word == 0 && weft__a32_cas_weak_acquire(&l->word, &word, 1))
            return true;
        if (word == 2)
            return false; /* others sleep already: do not jump over them for long */
        for (unsigned k = 0; k < pauses; k++)
            weft__cpu_relax();
        if (pauses < PAUSES_MAX)
            pauses *= 2;
    }
    return false;
}

void weft__lock_slow(struct weft__lock *l)
{
    if (spin(l))
        return;
    weft__a32 *flag = flag_of_thread();
    if (flag)
        weft__a32_store_relaxed(flag, 1); /* the thread is seen asleep after that */
    /* From here on the word is taken as 2, since we cannot know whether others sleep too: at worst
     * the release makes one wake call for nobody. acquire as in weft__lock_acquire. */
    while (weft__a32_swap_acquire(&l->word, 2) != 0) {
        /* -EAGAIN and wake-ups for nothing: look again. */
        (void)weft__sys_futex_wait(&l->word, 2, WEFT_NEVER);
    }
    if (flag)
        weft__a32_store_relaxed(flag, 0);
}

void weft__lock_wake(struct weft__lock *l)
{
    weft__sys_futex_wake(&l->word, 1);
}
