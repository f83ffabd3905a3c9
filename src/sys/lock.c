/*
 * The slow half of the lock, and what debug builds say of a child that takes its parent's.
 */
#include "sys/lock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Looks at a lock that is held, with so many pauses before the next one, doubled each time up to
 * the most. Three to seven microseconds in all (a pause of x86 is 20 to 45 ns): longer than a
 * section that the lock guards, shorter than to sleep and be woken. Far apart, since a look takes
 * the line away from the holder, who needs it to release: docs/performance.md has what that costs.
 */
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

#if !defined(NDEBUG) && !defined(WEFT_MODEL)
#define FRAMES_MAX 32

/* To stderr: a function of the user's that the log has may take locks itself. */
static void say(const char *line, int len, size_t cap)
{
    (void)weft__sys_write_all(STDERR_FILENO, line, weft__printed(len, cap)); /* nobody to tell */
}

void weft__lock_is_ancestral(const struct weft__lock *l)
{
    char line[512], symbol[384];
    void *frames[FRAMES_MAX];
    int len = snprintf(line, sizeof line,
                       "weft: a forked child takes a lock of its parent's, which may be held for "
                       "ever: %p of process %u, in process %u\n",
                       (const void *)l, weft__lock_mark(l) / (WEFT__LOCK_STATE + 1) - 1,
                       weft__sys_process());
    say(line, len, sizeof line);
    size_t count = weft__sys_backtrace(frames, FRAMES_MAX);
    for (size_t i = 1; i < count; i++) {
        (void)weft__sys_symbol(frames[i], symbol, sizeof symbol);
        len = snprintf(line, sizeof line, "weft:   %s\n", symbol);
        say(line, len, sizeof line);
    }
    abort();
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
    uint32_t mark = weft__lock_mark(l);
    for (int i = 0; i < LOOKS; i++) {
        /* Look before trying: a compare-exchange takes the line, whether it fails or not. */
        uint32_t word = weft__a32_load_relaxed(&l->word);
        if (word == mark && weft__a32_cas_weak_acquire(&l->word, &word, mark | 1))
            return true;
        if (word == (mark | 2))
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
    uint32_t mark = weft__lock_mark(l);
    while (weft__a32_swap_acquire(&l->word, mark | 2) != mark) {
        /* -EAGAIN and wake-ups for nothing: look again. */
        (void)weft__sys_futex_wait(&l->word, mark | 2, WEFT_NEVER);
    }
    if (flag)
        weft__a32_store_relaxed(flag, 0);
}

void weft__lock_wake(struct weft__lock *l)
{
    weft__sys_futex_wake(&l->word, 1);
}
