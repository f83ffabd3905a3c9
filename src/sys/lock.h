/*
 * A lock for threads: one word, futex behind it. For short critical sections that never suspend;
 * the debug build counts the locks a thread holds so that the fiber switch can assert zero.
 *
 * A forked child has copies of its parent's locks, which threads may have held that it lacks: who
 * takes one there waits for ever, once in some thousand runs. Debug builds know whose a lock is,
 * and such a child aborts each time, with a message. The process that initialised the lock, or
 * claimed it, stands in the upper bits of the word. They are zero, and say nothing, in a lock that
 * is static, or lies in an object in the user's memory, which a child may use when it was free.
 *
 * Source: the three-state lock of Ulrich Drepper, "Futexes are tricky" (2011), section 5.
 */
#ifndef WEFT_SYS_LOCK_H
#define WEFT_SYS_LOCK_H

#include "base/base.h"
#include "sys/sys.h"

struct weft__lock {
    /* 0 free, 1 held, 2 held and maybe waited for; debug builds: above these bits an owner's mark;
     * written by lockers */
    weft__a32 word;
};

#ifndef NDEBUG
unsigned weft__lock_held_count(void); /* locks this thread holds */
void weft__lock_count_add(int delta);
#else
static inline unsigned weft__lock_held_count(void)
{
    return 0;
}
static inline void weft__lock_count_add(int delta)
{
    (void)delta;
}
#endif

/* Tells the explorer that the word is a lock's; test_lock.c explores the lock itself. */
#ifdef WEFT_MODEL
void weft__model_lock_word(struct weft__lock *l);
#else
static inline void weft__model_lock_word(struct weft__lock *l)
{
    (void)l;
}
#endif

/* From now on *flag is 1 while the calling thread sleeps for a lock; NULL: nobody is told. */
#ifdef WEFT_MODEL
static inline void weft__lock_tell(weft__a32 *flag)
{
    (void)flag;
}
#else
void weft__lock_tell(weft__a32 *flag);
#endif

/* ---- whose it is ---- */

#if defined(NDEBUG) || defined(WEFT_MODEL)
#define WEFT__LOCK_STATE UINT32_MAX
static inline uint32_t weft__lock_mark(const struct weft__lock *l)
{
    (void)l;
    return 0;
}
static inline void weft__lock_check_owner(const struct weft__lock *l)
{
    (void)l;
}
static inline void weft__lock_claim(struct weft__lock *l)
{
    (void)l;
}
#else
#define WEFT__LOCK_STATE UINT32_C(3) /* the bits of the word that are not the mark */

WEFT__NORETURN WEFT__COLD void weft__lock_is_ancestral(const struct weft__lock *l);

/* What stands beside the state: the number of the process, and one. */
static inline uint32_t weft__lock_mark(const struct weft__lock *l)
{
    return weft__a32_load_relaxed(&l->word) & ~WEFT__LOCK_STATE; /* it does not change meanwhile */
}

static inline uint32_t weft__lock_mark_here(void)
{
    return (weft__sys_process() + 1) * (WEFT__LOCK_STATE + 1);
}

static inline void weft__lock_check_owner(const struct weft__lock *l)
{
    uint32_t mark = weft__lock_mark(l);
    if (WEFT__UNLIKELY(mark != 0 && mark != weft__lock_mark_here()))
        weft__lock_is_ancestral(l);
}

/* For locks of weft's own in memory that was made zero: no forked child of this process takes it.
 * Before anybody else knows it. */
static inline void weft__lock_claim(struct weft__lock *l)
{
    weft__a32_store_relaxed(&l->word, weft__lock_mark_here());
}
#endif

/* For functions on objects of weft's that have a lock: true, with a report, in a forked child, when
 * `process` is that of an ancestor, which has made the object. The lock may be held for ever, and
 * who waits in there is a copy. */
static inline bool weft__is_inherited(const char *call, uint32_t process, const void *caller)
{
    if (WEFT__LIKELY(!weft__sys_is_ancestor(process)))
        return false;
    weft__misuse_report(call, "this is a forked child, and the object its parent's", caller);
    return true;
}

/* ---- taking it ---- */

WEFT__COLD void weft__lock_slow(struct weft__lock *l);
WEFT__COLD void weft__lock_wake(struct weft__lock *l);

static inline void weft__lock_init(struct weft__lock *l)
{
    weft__a32_store_relaxed(&l->word, 0);
    weft__lock_claim(l);
}

static inline void weft__lock_acquire(struct weft__lock *l)
{
    weft__lock_check_owner(l);
    uint32_t mark = weft__lock_mark(l), free = mark;
    weft__model_lock_word(l);
    /* acquire pairs with the release in weft__lock_release: what the last holder wrote is seen. */
    if (WEFT__UNLIKELY(!weft__a32_cas_acquire(&l->word, &free, mark | 1)))
        weft__lock_slow(l);
    weft__lock_count_add(1);
}

static inline bool weft__lock_try_acquire(struct weft__lock *l)
{
    weft__lock_check_owner(l);
    uint32_t mark = weft__lock_mark(l), free = mark;
    weft__model_lock_word(l);
    if (!weft__a32_cas_acquire(&l->word, &free, mark | 1))
        return false;
    weft__lock_count_add(1);
    return true;
}

/* After try_acquire has failed: what acquire does then. */
static inline void weft__lock_acquire_late(struct weft__lock *l)
{
    weft__lock_slow(l);
    weft__lock_count_add(1);
}

static inline void weft__lock_release(struct weft__lock *l)
{
    uint32_t mark = weft__lock_mark(l);
    weft__lock_count_add(-1);
    /* release publishes the section; a 2 says that somebody may sleep on the word. */
    if (WEFT__UNLIKELY(weft__a32_swap_release(&l->word, mark) == (mark | 2)))
        weft__lock_wake(l);
}

/*
 * For who learnt without the lock, from something a holder stored, that the object around it may be
 * freed: once this returns, that holder has touched the lock for the last time. (What may be left
 * is a futex wake, which names an address and reads nothing.)
 */
static inline void weft__lock_settle(struct weft__lock *l)
{
    /* acquire pairs with the release in weft__lock_release. Having seen the holder's store we see
     * its acquisition of the word, or what came after it. */
    if (WEFT__LIKELY((weft__a32_load_acquire(&l->word) & WEFT__LOCK_STATE) == 0))
        return;
    weft__lock_acquire(l);
    weft__lock_release(l);
}

#endif
